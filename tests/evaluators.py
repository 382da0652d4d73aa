"""Plain evaluators of axis-free expressions for the tests of the tables: mpmath numbers, NumPy arrays, Torch tensors, SymPy.

They share no code with the compiler's back ends, so that a row is tested by itself.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import mpmath
import sympy

from lossdsl.functions import FUNCTIONS
from lossdsl.ir import rows
from lossdsl.ir.expr import Expr, ref
from lossdsl.kinds import Interval

mp = mpmath.mp

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def contains(interval: Interval, x: Any) -> bool:
    """Whether an mpmath number lies in an interval."""
    low, high = (mp.mpf(b) if isinstance(b, float) else mp.mpf(b.numerator) / b.denominator for b in (interval.low, interval.high))
    return (x > low if interval.low_open else x >= low) and (x < high if interval.high_open else x <= high)


# -- mpmath ---------------------------------------------------------------------------------------------------------------


@cache
def _spelled(name: str) -> Callable[..., Any]:
    row = FUNCTIONS[name]
    return eval(f"lambda mp, {', '.join(row.args)}: {row.spell['mpmath'].format(**{a: a for a in row.args})}", {})


def _own(row_text: str, name: str) -> Expr:
    return rows.template(name, row_text)


def function(name: str, args: list[Any], *, by_meaning: bool = False) -> Any:
    """A row's value: NaN outside its domain, else as mpmath spells it, else (or if asked) as it means."""
    row = FUNCTIONS[name]
    if any(not contains(d, a) for d, a in zip(row.domain, args, strict=True)):
        return mp.nan
    if "mpmath" in row.spell and not (by_meaning and row.meaning):
        return mp.mpf(_spelled(name)(mp, *args))
    assert row.meaning is not None, name
    return exact(_own(row.meaning, name), dict(zip(row.args, args, strict=True)))


def _power(a: Any, b: Any) -> Any:
    if a == 0 and b < 0:
        return mp.inf
    if a < 0 and not (mp.isfinite(b) and b == mp.floor(b)):
        return mp.nan
    return mp.power(a, b)


def _divide(a: Any, b: Any) -> Any:
    return a / b if b != 0 else mp.nan if a == 0 or mp.isnan(a) else mp.inf * mp.sign(a)


def _piecewise(e: Expr, env: Mapping[str, Any]) -> Any:
    for value, condition in zip(e.args[:-1:2], e.args[1::2], strict=True):
        if exact(condition, env):
            return exact(value, env)
    return exact(e.args[-1], env)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": _divide, "pow": _power, "neg": operator.neg, "not": operator.not_,
    "iverson": lambda c: mp.mpf(c),
}  # fmt: skip


def _leaf(e: Expr, env: Mapping[str, Any]) -> Any:
    match e.op:
        case "num":
            return mp.mpf(e.data.numerator) / e.data.denominator
        case "const":
            return +getattr(mp, e.data)
        case "ref":
            return env[e.data]
    return e.data


def exact(e: Expr, env: Mapping[str, Any]) -> Any:
    """The value in the current precision of ``mp``."""
    match e.op:
        case "num" | "const" | "ref" | "bool":
            return _leaf(e, env)
        case "pw":
            return _piecewise(e, env)
        case "and":
            return exact(e.args[0], env) and exact(e.args[1], env)
        case "or":
            return exact(e.args[0], env) or exact(e.args[1], env)
    args = [exact(a, env) for a in e.args]
    match e.op:
        case "cmp":
            return _COMPARE[e.data](*args)
        case "call":
            return function(e.data, args)
    return _OPERATORS[e.op](*args)


# -- floating point -------------------------------------------------------------------------------------------------------


def floats(e: Expr, env: Mapping[str, Any], backend: str) -> Any:
    """The value in a back end's arrays; numbers take their dtype."""
    like = next(iter(env.values()))
    space, where = _space(backend, like)
    memo: dict[Expr, Any] = {}

    def visit(e: Expr) -> Any:
        if e not in memo:
            memo[e] = step(e)
        return memo[e]

    def step(e: Expr) -> Any:
        match e.op:
            case "num":
                return space["number"](float(e.data))
            case "const":
                return space["number"](getattr(math, e.data))
            case "ref":
                return env[e.data]
            case "pw":
                out = visit(e.args[-1])
                for value, condition in reversed(list(zip(e.args[:-1:2], e.args[1::2], strict=True))):
                    out = where(visit(condition), visit(value), out)
                return out
            case "call":
                return _call(e, [visit(a) for a in e.args], backend, space)
        args = [visit(a) for a in e.args]
        match e.op:
            case "cmp":
                return _COMPARE[e.data](*args)
            case "iverson":
                return where(args[0], space["number"](1.0), space["number"](0.0))
            case "neg":
                return -args[0]
            case "not":
                return ~args[0]
        binary = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "pow": "pow", "and": "and_", "or": "or_"}[e.op]
        return getattr(operator, binary)(*args)

    return visit(e)


def _call(e: Expr, args: list[Any], backend: str, space: dict[str, Any]) -> Any:
    row = FUNCTIONS[e.data]
    if backend in row.spell and len(args) == row.arity:
        return eval(row.spell[backend].format(**{a: a for a in row.args}), space | dict(zip(row.args, args, strict=True)))
    form = rows.safe(e.data, [ref(a) for a in row.args])
    assert form is not None, f"{backend} has no form of {e.data}"
    return floats(form, dict(zip(row.args, args, strict=True)), backend)


def _space(backend: str, like: Any) -> tuple[dict[str, Any], Callable[..., Any]]:
    if backend == "numpy":
        import numpy as np
        from scipy import special

        return {"np": np, "special": special, "number": like.dtype.type}, np.where
    import torch

    return {"torch": torch, "number": lambda x: torch.tensor(x, dtype=like.dtype)}, torch.where


# -- SymPy ----------------------------------------------------------------------------------------------------------------

_HEADS: dict[str, Callable[..., Any]] = {
    "exp": sympy.exp, "log": sympy.log, "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "asin": sympy.asin, "acos": sympy.acos,
    "atan": sympy.atan, "atan2": sympy.atan2, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "asinh": sympy.asinh,
    "acosh": sympy.acosh, "atanh": sympy.atanh, "erf": sympy.erf, "lgamma": sympy.loggamma, "digamma": sympy.digamma,
    "zeta": sympy.zeta, "polygamma": sympy.polygamma,
}  # fmt: skip
_SYMPY: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": sympy.Pow, "neg": operator.neg,
}  # fmt: skip


def symbolic(e: Expr, env: Mapping[str, Any]) -> Any:
    """The smooth expression in SymPy, functions by their meaning down to SymPy's own; None where a condition occurs."""
    if e.op == "num":
        return sympy.Rational(e.data.numerator, e.data.denominator)
    if e.op == "const":
        return {"pi": sympy.pi, "inf": sympy.oo, "nan": sympy.nan}[e.data]
    if e.op == "ref":
        return env[e.data]
    args = [symbolic(a, env) for a in e.args]
    if any(a is None for a in args):
        return None
    if e.op in _SYMPY:
        return _SYMPY[e.op](*args)
    if e.op != "call":
        return None
    if e.data in _HEADS:
        return _HEADS[e.data](*args)
    row = FUNCTIONS[e.data]
    return None if row.meaning is None else symbolic(_own(row.meaning, e.data), dict(zip(row.args, args, strict=True)))
