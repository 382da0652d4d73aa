"""A tour on real data: a line fitted under three losses, one of them written on the spot."""
