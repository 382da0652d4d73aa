"""Lengths of axes and ends of integer ranges: whole numbers that are known before any data is."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from lossdsl.ir.expr import Expr, postorder, replace_leaves, size
from lossdsl.ir.program import Program

Ratio = tuple[int, int]  # a fraction with a positive denominator
Step = tuple[str, Any, tuple[int, ...]]  # an operation, its data, and which steps before it are its arguments
Code = tuple[Step, ...]


def _add(a: Ratio, b: Ratio) -> Ratio:
    return a[0] * b[1] + b[0] * a[1], a[1] * b[1]


def _sub(a: Ratio, b: Ratio) -> Ratio:
    return a[0] * b[1] - b[0] * a[1], a[1] * b[1]


def _mul(a: Ratio, b: Ratio) -> Ratio:
    return a[0] * b[0], a[1] * b[1]


def _div(a: Ratio, b: Ratio) -> Ratio | None:
    if b[0] == 0:
        return None
    return (a[0] * b[1], a[1] * b[0]) if b[0] > 0 else (-a[0] * b[1], -a[1] * b[0])


def _max(*args: Ratio) -> Ratio:
    out = args[0]
    for x in args[1:]:
        out = x if x[0] * out[1] > out[0] * x[1] else out
    return out


def _min(*args: Ratio) -> Ratio:
    out = args[0]
    for x in args[1:]:
        out = x if x[0] * out[1] < out[0] * x[1] else out
    return out


def _floor(a: Ratio) -> Ratio:
    return a[0] // a[1], 1


def _mod(a: Ratio, b: Ratio) -> Ratio | None:
    whole = _div(a, b)
    return None if whole is None else _sub(a, _mul(b, _floor(whole)))


_ARITHMETIC: dict[str, Callable[..., Ratio | None]] = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "neg": lambda a: (-a[0], a[1]),
}  # fmt: skip
_CALLS: dict[str, Callable[..., Ratio | None]] = {
    "max": _max, "min": _min, "floor": _floor, "ceil": lambda a: (-(-a[0] // a[1]), 1), "abs": lambda a: (abs(a[0]), a[1]),
    "relu": lambda a: _max(a, (0, 1)), "sign": lambda a: ((a[0] > 0) - (a[0] < 0), 1), "mod": _mod,
    "clip": lambda x, low, high: _min(_max(x, low), high),
}  # fmt: skip


def known(e: Expr, params: Container[str]) -> bool:
    """Whether an expression is made of hyper-parameters, lengths of axes and numbers, so that ``evaluate`` can tell its value."""
    return all(
        x.op in ("num", "size") or x.op in _ARITHMETIC or (x.op == "call" and x.data in _CALLS) or (x.op == "ref" and x.data in params)
        for x in postorder([e])
    )


def code(e: Expr) -> Code:
    """A known expression as the steps that compute it."""
    places: dict[Expr, int] = {}
    steps: list[Step] = []
    for x in postorder([e]):
        op, data = ("call", x.data) if x.op == "call" else (x.op, x.data)
        if op == "num":
            data = (x.data.numerator, x.data.denominator)
        places[x] = len(steps)
        steps.append((op, data, tuple(places[a] for a in x.args)))
    return tuple(steps)


def run(steps: Code, params: Mapping[str, int | None], sizes: Mapping[str, int]) -> int | None:
    """The whole number that steps compute; None where it is none, or depends on a number that is not given.

    Plain arithmetic of integers, which torch can trace.
    """
    values: list[Ratio | None] = []
    for op, data, args in steps:
        found: Ratio | None
        if op == "num":
            found = data
        elif op in ("size", "ref"):
            n = sizes.get(data) if op == "size" else params.get(data)
            found = None if n is None else (n, 1)
        else:
            given = [values[k] for k in args]
            function = _CALLS[data] if op == "call" else _ARITHMETIC[op]
            found = None if None in given else function(*given)
        values.append(found)
    last = values[-1]
    return last[0] // last[1] if last is not None and last[0] % last[1] == 0 else None


def evaluate(e: Expr, params: Mapping[str, int | None], sizes: Mapping[str, int]) -> int | None:
    """The whole number that a known expression is; see ``run``."""
    return run(code(e), params, sizes)


def fixed(program: Program) -> Program:
    """The program with the length of each axis that is declared with a number as that number; see ``Program.length``."""
    lengths = {size(axis): program.length(axis) for axis, _ in program.lengths}
    numbers = {length: n for length, n in lengths.items() if n is not length}
    return program.map(lambda roots: replace_leaves(roots, numbers)) if numbers else program
