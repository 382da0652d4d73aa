"""Source text for each backend, printed from scheduled programs."""
