"""Keep a cosine within [-1, 1] where rounding past an end would leave the domain of a function.

The cosine of two equal vectors is 1, and comes out as 1 + 2^-52 as often as not: ``acos`` of that would be NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import MINUS_ONE, ONE, Expr, call, open_red, postorder, red, rewrite

_ARITHMETIC = ("add", "sub", "mul", "div", "neg", "pow", "pw")


def bounded(roots: Sequence[Expr]) -> tuple[Expr, ...]:
    """The expressions with the cosines clipped that functions of bounded domain are taken of; no other is."""
    if not any(is_cosine(e) for e in postorder(roots)):
        return tuple(roots)
    return rewrite(roots, lambda e: _inside(e) if e.op == "call" and _has_ends(e.data) else e)


def is_cosine(e: Expr) -> bool:
    """``sum(a*b)/(norm(a)*norm(b))``, a power of it, the sum of ``a/norm(a)*(b/norm(b))``, or the greatest or least of such."""
    while e.op == "red" and e.data[0] in ("max", "min"):
        e = open_red(e)[1]
    dot, power = _power(e.args[0]) if e.op == "div" else (e, ONE)
    if dot.op != "red" or dot.data[0] != "sum":
        return False
    binders, body, guard = open_red(dot)
    if body.op != "mul":
        return False
    a, b = body.args
    norms = {x: red("norm", binders, x.args[0] if x.op == "div" and e.op != "div" else x, guard) for x in (a, b)}
    if e.op != "div":
        return all(x.op == "div" and x.args[1] is norms[x] for x in (a, b))
    lengths, expected = e.args[1], [(norms[x], power) for x in (a, b)]
    return lengths.op == "mul" and [_power(x) for x in lengths.args] in (expected, expected[::-1])


def _power(e: Expr) -> tuple[Expr, Expr]:
    """The base and the exponent, where that is a whole number above 0."""
    if e.op == "pow" and e.args[1].op == "num" and e.args[1].data > 0 and e.args[1].data.denominator == 1:
        return e.args[0], e.args[1]
    return e, ONE


def _has_ends(function: str) -> bool:
    return any(isfinite(i.low) or isfinite(i.high) for i in FUNCTIONS[function].domain)


def _inside(e: Expr) -> Expr:
    """The call with the cosines clipped that arithmetic makes its arguments of."""
    found: dict[Expr, Expr] = {}
    stack = list(e.args)
    while stack:
        x = stack.pop()
        if is_cosine(x):
            found[x] = call("clip", x, MINUS_ONE, ONE)
        elif x.op in _ARITHMETIC:
            stack += x.args
    return call(e.data, *rewrite(e.args, lambda x: found.get(x, x), under=False)) if found else e
