"""Passes: each takes a program and gives a program."""
