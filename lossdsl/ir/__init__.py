"""The representation: interned expressions, programs, and their text."""
