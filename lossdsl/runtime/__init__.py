"""Running compiled programs: the calling convention, the oracle, and one module a backend."""
