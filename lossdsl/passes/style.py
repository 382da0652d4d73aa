"""How equal forms are written: means and cosines as such, short factors first, signs where they are read.

Each function takes a node whose parts are written already. No other rule looks at what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.expr import ONE, TRUE, ZERO, Axis, Expr, add, and_, call, cmp, div, instance, mul, neg, num, pw, red, sub
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import Factor, Product, Term, alone, build_product, is_guard, multiplied, product, scale, terms, weight
from lossdsl.passes.conditions import FLIPPED


def ordered(e: Expr) -> Expr:
    """The shorter factors first."""
    if e.op not in ("mul", "div"):
        return e
    p = product(e)
    return build_product(replace(p, factors=tuple(sorted(p.factors, key=lambda f: weight(alone(f)) if f.power > 0 else 0))))


def shared_out(e: Expr) -> Expr:
    """A logarithm of a softmax as one term of a sum."""
    if e.op not in ("add", "sub"):
        return e
    parts = terms(e)
    for whole in parts:
        if whole.rest.op != "red" or whole.rest.data[0] != "logsumexp":
            continue
        for t in parts if len(parts) > 2 else ():
            if t.coefficient == -whole.coefficient and instance(whole.rest.args[0], whole.rest.data[1], t.rest) is not None:
                one = Term(t.coefficient, sub(t.rest, whole.rest))
                return _summed([one if u is t else u for u in parts if u is not whole])
    return e


def _summed(parts: Sequence[Term]) -> Expr:
    """The terms in order, a positive one first if there is any."""
    first = next((k for k, t in enumerate(parts) if t.coefficient > 0), 0)
    out: Expr | None = None
    for t in (parts[first], *parts[:first], *parts[first + 1 :]):
        term = t.rest if abs(t.coefficient) == 1 else scale(abs(t.coefficient), t.rest)
        if out is None:
            out = term if t.coefficient > 0 else neg(term)
        else:
            out = add(out, term) if t.coefficient > 0 else sub(out, term)
    return out or ZERO


def weighed(e: Expr, ranges: Ranges) -> Expr:
    """What stands in front of a logarithm as its weight, where an exact 0 in one meets no infinity in the other."""
    if e.op not in ("mul", "div"):
        return e
    p = product(e)
    for f in p.factors:
        if f.power != 1 or f.base.op != "call" or f.base.data not in ("log", "xlogy", "xlogdiv") or len(p.factors) < 2:
            continue
        rest = Product(p.coefficient, tuple(g for g in p.factors if g is not f and g.power > 0))
        if not rest.factors or (ranges.reach(f.base).infinite and not ranges.nonzero(build_product(rest))):
            continue
        own, *inside = f.base.args if f.base.data != "log" else (ONE, *f.base.args)
        made = call("xlogy" if f.base.data == "log" else f.base.data, multiplied(build_product(rest), own), *inside)
        return build_product(Product(Fraction(1), (Factor(made, 1), *(g for g in p.factors if g.power < 0))))
    return e


def grouped(e: Expr) -> Expr:
    """Sums above lengths of axes as means, scalar products above two lengths as cosines."""
    if e.op != "div":
        return e
    p = product(e)
    factors = _with_cosines(_with_means(p.factors))
    return e if factors == p.factors else build_product(replace(p, factors=factors))


def _with_means(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    out = list(factors)
    for f in factors:
        axis = _length_of(f.base) if f.power == -1 else None
        total = next((g for g in out if g.power == 1 and axis is not None and _sums_along(g.base, axis)), None)
        if total is not None:
            out[out.index(total)] = Factor(div(total.base, red("sum", total.base.data[1], ONE)), 1)
            out.remove(f)
    return tuple(out)


def _length_of(e: Expr) -> Axis | None:
    if e.op == "size":
        return str(e.data)
    return e.data[1][0].axis if e.op == "red" and e.args == (ONE, TRUE) and len(e.data[1]) == 1 else None


def _sums_along(e: Expr, axis: Axis) -> bool:
    return e.op == "red" and e.data[0] == "sum" and e.args[0] is not ONE and e.args[1] is TRUE and [b.axis for b in e.data[1]] == [axis]


def _with_cosines(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    for k, f in enumerate(factors):
        if f.power != 1 or f.base.op != "red" or f.base.data[0] != "sum" or f.base.args[0].op != "mul" or f.base.args[1] is not TRUE:
            continue
        lengths = [red("norm", f.base.data[1], x) for x in f.base.args[0].args]
        if len(set(lengths)) < 2 or len(f.base.data[1]) > 1 or not all(any(g.base is x and g.power < 0 for g in factors) for x in lengths):
            continue
        left = [replace(g, power=g.power + 1) if g.base in lengths and g.power < 0 else g for g in factors]
        left[k] = Factor(div(f.base, mul(*lengths)), 1)
        return _with_cosines(tuple(g for g in left if g.power))
    return factors


def chained(e: Expr) -> Expr:
    """``x > a and x < b`` as ``a < x and x < b``, which is written ``a < x < b``."""
    if e.op != "and" or any(c.op != "cmp" for c in e.args) or e.args[0].args[0] is not e.args[1].args[0]:
        return e
    low, high = sorted(e.args, key=lambda c: c.data[0] == "<")
    if low.data not in (">", ">=") or high.data not in ("<", "<="):
        return e
    return and_(cmp(FLIPPED[low.data], *low.args[::-1]), high)


def signed(e: Expr) -> Expr:
    """A minus in front of a product at its first factor, as it is read: ``-x*y`` is ``(-x)*y``."""
    if e.op != "neg":
        return e
    inside = e.args[0]
    if inside.op in ("mul", "div"):
        chain = list(_left_spine(inside))
        first = chain[-1].args[0]
        out = num(-first.data) if first.op == "num" else signed(neg(first))
        for x in reversed(chain):
            out = mul(out, x.args[1]) if x.op == "mul" else div(out, x.args[1])
        return out
    if is_guard(inside):
        return pw([(signed(neg(inside.args[0])), inside.args[1])], ZERO)
    if inside.op == "call" and inside.data in ("xlogy", "xlogdiv"):
        return call(inside.data, signed(scale(Fraction(-1), inside.args[0])), *inside.args[1:])
    return e


def _left_spine(e: Expr) -> Iterator[Expr]:
    while e.op in ("mul", "div"):
        yield e
        e = e.args[0]
