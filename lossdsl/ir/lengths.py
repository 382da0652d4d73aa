"""Lengths of axes and ends of integer ranges: whole numbers that are known before any data is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Mapping
from fractions import Fraction
from math import ceil, floor, isfinite
from typing import Any

from lossdsl.ir.expr import Expr, fold, postorder, replace_leaves, size
from lossdsl.ir.program import Program

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg,
}  # fmt: skip
_CALLS: dict[str, Callable[..., Any]] = {
    "max": max, "min": min, "abs": abs, "floor": floor, "ceil": ceil, "relu": lambda x: max(x, 0), "sign": lambda x: (x > 0) - (x < 0),
    "mod": lambda a, b: a - b*floor(a/b), "clip": lambda x, low, high: min(max(x, low), high),
}  # fmt: skip


def known(e: Expr, params: Container[str]) -> bool:
    """Whether an expression is made of hyper-parameters, lengths of axes and numbers, so that ``evaluate`` can tell its value."""
    return all(
        x.op in ("num", "size") or x.op in _ARITHMETIC or (x.op == "call" and x.data in _CALLS) or (x.op == "ref" and x.data in params)
        for x in postorder([e])
    )


def evaluate(e: Expr, params: Mapping[str, Any], sizes: Mapping[str, int]) -> int | None:
    """The whole number that an expression is; None where it is none, or depends on a length that is not given."""

    def visit(x: Expr, args: list[Any]) -> Any:
        match x.op:
            case "num":
                return x.data
            case "size":
                return sizes.get(x.data)
            case "ref":
                value = params[x.data]
                return Fraction(value) if isfinite(value) else None
        if any(a is None for a in args):
            return None
        try:
            return Fraction((_CALLS[x.data] if x.op == "call" else _ARITHMETIC[x.op])(*args))
        except ZeroDivisionError:
            return None

    value = fold([e], visit)[e]
    return int(value) if value is not None and value.denominator == 1 else None


def fixed(program: Program) -> Program:
    """The program with the length of each axis that is declared with a number as that number; see ``Program.length``."""
    known = {size(axis): program.length(axis) for axis, _ in program.lengths}
    numbers = {length: n for length, n in known.items() if n is not length}
    return program.map(lambda roots: replace_leaves(roots, numbers)) if numbers else program
