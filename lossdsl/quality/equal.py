"""Whether two forms are equal: exactly where only arithmetic is done, else to 40 digits, at remarkable and at random points.

Where the first is undefined the second may be undefined or infinite.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import inf, isfinite, isinf, isnan, nan, prod
from random import Random
from typing import Any

from lossdsl.errors import LossError
from lossdsl.ir.expr import Expr, Range, fold, neg, postorder, rebuild, ref, sub
from lossdsl.ir.program import Input, Output, Program
from lossdsl.ir.ranges import Ranges, Reach
from lossdsl.kinds import Interval, Kind

_EXACT, _SLOW, _WHOLE = 60, 8, 3  # points
_WORK, _MUCH = 1_000_000, 20_000  # nodes that are evaluated at one point at most, and where one point must do
_DIGITS, _AGREE, _CAP = 50, 40, 120
_REMARKABLE = [Fraction(x) for x in ("0", "1", "-1", "1/2", "2", "-3", "1/3", "7", "-1/1000000", "40")]

Number = Any  # a Fraction, an infinity or NaN, or an mpf


# -- expressions of single numbers ------------------------------------------------------------------------------------


def same(a: Expr, b: Expr, ranges: Ranges) -> bool:
    """Whether two expressions are equal for all values of the inputs and reductions in them, each on its own."""
    atoms = _Atoms(ranges)
    first, second = atoms.replaced(a), atoms.replaced(b)
    exact = all(x.op in _EXACTLY or (x.op == "call" and x.data in _EXACT_CALLS) for x in postorder((first, second)))
    rng = Random(1)
    for trial in range(_EXACT if exact else _SLOW):
        values = atoms.drawn(rng)
        if trial % 3 == 2:
            _tie(rng, (first, second), values, atoms.reaches)
        pair = _exactly((first, second), values) if exact else _numerically((first, second), values)
        if pair is None or not alike(*pair):
            return False
    return True


class _Atoms:
    """Names for what is no elementary function of single numbers: entries of inputs, reductions, indices."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.names: dict[Expr, str] = {}
        self.reaches: dict[str, Reach] = {}

    def replaced(self, e: Expr) -> Expr:
        memo: dict[Expr, Expr] = {}
        stack = [e]
        while stack:
            x = stack[-1]
            if x in memo:
                stack.pop()
                continue
            made = self._atom(x)
            todo = [a for a in x.args if a not in memo] if made is None else []
            if todo:
                stack += todo
                continue
            stack.pop()
            memo[x] = rebuild(x, [memo[a] for a in x.args]) if made is None else made
        return memo[e]

    def _atom(self, x: Expr) -> Expr | None:
        """A logarithm of a softmax is one number that is at most 0."""
        if x.op in ("ref", "red", "ix", "size"):
            return self._named(x)
        if x.op == "sub" and x.args[1].op == "red" and x.args[1].data[0] == "logsumexp" and self.ranges.of(x).high <= 0:
            return self._named(x)
        if x.op == "sub" and x.args[0].op == "red" and x.args[0].data[0] == "logsumexp" and self.ranges.of(x).low >= 0:
            opposite = rebuild(x, x.args[::-1])
            return neg(self._named(opposite)) if self.ranges.of(opposite).high <= 0 else None
        return None

    def drawn(self, rng: Random) -> dict[str, Number]:
        """Values for all of them, equal ones now and then."""
        values: dict[str, Number] = {}
        for name, reach in self.reaches.items():
            again = [x for v in values.values() for x in (v, -v) if _within(x, reach)]
            values[name] = rng.choice(again) if again and rng.random() < 0.25 else _draw(rng, reach)
        return values

    def _named(self, x: Expr) -> Expr:
        if x not in self.names:
            self.names[x] = f"a{len(self.names)}"
            self.reaches[self.names[x]] = self.ranges.reach(x)
        return ref(self.names[x])


def _draw(rng: Random, reach: Reach) -> Number:
    """A value in reach, an end or another remarkable one more often than not."""
    i = reach.interval
    ends = [x for x in (i.low, i.high) if x in i]
    known = [x for x in [*ends, *_REMARKABLE] if x in i and (not reach.nonzero or x != 0)]
    if known and rng.random() < 0.6:
        found = rng.choice(known)
    else:
        found = _between(rng, i)
    if reach.whole and isfinite(found):
        whole = Fraction(round(found))
        others = [x for x in known if _within(x, reach)]
        return whole if _within(whole, reach) or not others else rng.choice(others)
    return found


def _within(x: Number, reach: Reach) -> bool:
    return bool(x in reach.interval and (x or not reach.nonzero) and (not reach.whole or isinf(x) or x == int(x)))


def _tie(rng: Random, roots: Sequence[Expr], values: dict[str, Number], reaches: Mapping[str, Reach]) -> None:
    """Move one value to where two sides of a comparison are equal, if they differ by a linear function of it."""
    comparisons = [x for x in postorder(roots) if x.op == "cmp"]
    if not comparisons:
        return
    difference = sub(*rng.choice(comparisons).args)
    names = sorted(x.data for x in postorder((difference,)) if x.op == "ref")
    if not names:
        return
    name = rng.choice(names)
    found = [_exactly((difference,), {**values, name: Fraction(v)}) for v in (0, 1)]
    if any(v is None or not isinstance(v[0], Fraction) for v in found):
        return
    (low,), (high,) = (v or (nan,) for v in found)
    at = -low / (high - low) if high != low else nan
    if _within(at, reaches[name]):
        values[name] = at


def _between(rng: Random, i: Interval) -> Fraction:
    step = Fraction(rng.randint(1, 10**6), 10**6)
    if isfinite(i.low) and isfinite(i.high):
        return Fraction(i.low) + (Fraction(i.high) - Fraction(i.low)) * step
    if isfinite(i.low):
        return Fraction(i.low) + 4 * step
    return Fraction(i.high) - 4 * step if isfinite(i.high) else 8 * step - 4


def alike(a: Number, b: Number) -> bool:
    """Whether the second is the first, or undefined where the first is."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    import mpmath

    with mpmath.workdps(_DIGITS + 10):
        x, y = (mpmath.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else mpmath.mpf(v) for v in (a, b))
        if mpmath.isnan(x):
            return not mpmath.isfinite(y)
        if mpmath.isinf(x):
            return bool(x == y)
        return bool(abs(x - y) <= mpmath.mpf(10) ** -_AGREE * max(abs(x), 1))


# -- exact numbers ----------------------------------------------------------------------------------------------------

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_EXACTLY = ("num", "ref", "const", "bool", "add", "sub", "mul", "div", "neg", "pow", "cmp", "and", "or", "not", "iverson", "pw")
_EXACT_CALLS: dict[str, Callable[..., Number]] = {
    "abs": abs, "relu": lambda x: max(x, Fraction(0)), "max": max, "min": min, "clip": lambda x, lo, hi: min(max(x, lo), hi),
    "sign": lambda x: Fraction((x > 0) - (x < 0)), "stop": lambda x: x,
    "mul0": lambda a, b: Fraction(0) if (a == 0 and isinf(b)) or (b == 0 and isinf(a)) else a * b,
}  # fmt: skip


def _exactly(roots: Sequence[Expr], values: Mapping[str, Number]) -> tuple[Number, ...] | None:
    """The values in fractions, infinities and NaN; None where a power has none."""
    try:
        found = fold(roots, lambda e, args: _step(e, args, values))
    except (OverflowError, _Inexact):
        return _numerically(roots, values)
    return tuple(found[e] for e in roots)


class _Inexact(Exception):
    """A power that is no fraction."""


def _step(e: Expr, args: list[Number], values: Mapping[str, Number]) -> Number:
    match e.op:
        case "num" | "bool":
            return e.data
        case "const":
            if e.data == "pi":
                raise _Inexact
            return {"inf": inf, "nan": nan}[e.data]
        case "ref":
            return values[e.data]
        case "add":
            return args[0] + args[1]
        case "sub":
            return args[0] - args[1]
        case "mul":
            return _times(*args)
        case "div":
            return _over(*args)
        case "neg":
            return -args[0]
        case "pow":
            return _power(*args)
        case "cmp":
            return _COMPARE[e.data](*args)
        case "and" | "or":
            return (args[0] and args[1]) if e.op == "and" else (args[0] or args[1])
        case "not":
            return not args[0]
        case "iverson":
            return Fraction(int(args[0]))
        case "pw":
            return next((v for v, c in zip(args[:-1:2], args[1::2], strict=True) if c), args[-1])
    if e.data not in _EXACT_CALLS:
        raise _Inexact
    return nan if any(isnan(a) for a in args) else _EXACT_CALLS[e.data](*args)


def _times(a: Number, b: Number) -> Number:
    return a * b if isinstance(a, float) or isinstance(b, float) else Fraction(a) * b


def _over(a: Number, b: Number) -> Number:
    if b == 0:
        return nan if a == 0 or isnan(a) else inf if a > 0 else -inf
    return nan if isinf(a) and isinf(b) else Fraction(0) if isinf(b) and not isnan(a) else a / b


def _power(a: Number, b: Number) -> Number:
    if not isinstance(b, Fraction) or b.denominator != 1 or abs(b) > 1000:
        raise _Inexact
    if b == 0:
        return nan if isnan(a) else Fraction(1)
    return a ** int(b) if b > 0 else _over(Fraction(1), a ** -int(b))


# -- 50 digits --------------------------------------------------------------------------------------------------------


def _numerically(roots: Sequence[Expr], values: Mapping[str, Number]) -> tuple[Number, ...] | None:
    """The values by the reference, None where it finds none."""
    inputs = tuple(Input(name, Kind("real")) for name in values)
    outputs = tuple(Output(f"o{k}", (), e) for k, e in enumerate(roots))
    found = _evaluated(Program("forms", inputs, (), outputs), values, {}, {})
    return None if found is None else tuple(found[o.name].value for o in outputs)


def _evaluated(program: Program, arrays: Mapping[str, Any], params: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any] | None:
    from lossdsl.runtime import reference

    try:
        return reference.evaluate(program, arrays, params, digits=_DIGITS, cap=_CAP, sizes=sizes)
    except LossError:
        return None


# -- programs ---------------------------------------------------------------------------------------------------------


def agree(a: Program, b: Program) -> bool:
    """Whether two programs of the same inputs and outputs have the same values at points of a few sizes."""
    work = _work(a)
    if work > _WORK:
        return False
    rng = Random(2)
    for trial in range(_WHOLE if 10 * work < _MUCH else 2 if work < _MUCH else 1):
        point = _point(a, rng, trial, trial % 2 if work < _MUCH else 0)
        found = [None if point is None else _evaluated(p, *point) for p in (a, b)]
        if found[0] is None or found[1] is None:
            return False
        if not all(_all_alike(found[0][name].value, found[1][name].value) for name in found[0]):
            return False
    return True


Point = tuple[dict[str, Any], dict[str, Any], dict[str, int]]


def _point(program: Program, rng: Random, trial: int, longer: int) -> Point | None:
    """Values for the inputs and hyper-parameters, at axes of length 2 and 3; None where lengths are declared and not known."""
    from lossdsl.runtime.sample import axis_sizes

    declared = dict(program.lengths)
    free = [x for x in _axes(program) if x not in declared]
    try:
        sizes = axis_sizes(program, {axis: 2 + (k % 2 == longer) * (longer + trial > 0) for k, axis in enumerate(free)})
    except LossError:
        return None
    arrays = {i.name: _array(rng, i.kind, sizes) for i in program.inputs}
    said = [p.default if trial == 0 or declared else None for p in program.params]
    params = {p.name: _number(rng, p.kind, sizes) if x is None else x for p, x in zip(program.params, said, strict=True)}
    return arrays, params, sizes


def _all_alike(a: Any, b: Any) -> bool:
    import numpy as np

    pairs = zip(np.asarray(a, dtype=object).flat, np.asarray(b, dtype=object).flat, strict=True)
    return all(alike(x, y) for x, y in pairs)


def _axes(program: Program) -> list[str]:
    found = dict.fromkeys(a for i in program.inputs for a in (*i.axes, *((i.kind.root,) if i.kind.root else ())))
    found |= dict.fromkeys(str(i.axis) for o in program.outputs for i in o.indices)
    return list(found)


def _work(program: Program) -> int:
    """About how many nodes are evaluated at a point where axes have two positions."""

    def count(e: Expr, args: list[int]) -> int:
        lengths = [_span(b.axis) for b in e.data[1]] if e.op == "red" else []
        return min(1 + sum(args) * prod(lengths), _WORK + 1)

    found = fold(program.roots, count)
    return sum(found[o.expr] * 2 ** len(o.indices) for o in program.outputs)


def _span(axis: str | Range) -> int:
    if isinstance(axis, str):
        return 2
    return int(axis.hi.data - axis.lo.data) + 1 if axis.hi.op == axis.lo.op == "num" else 16


def _array(rng: Random, kind: Kind, sizes: Mapping[str, int]) -> Any:
    import numpy as np

    shape = [sizes[a] for a, _ in kind.axes]
    out = np.empty(shape, dtype=object)
    for at in np.ndindex(*shape):
        out[at] = Fraction(rng.choice((0, 1, 1, 2, 5))) if kind.name == "simplex" else _number(rng, kind, sizes)
    if kind.name == "simplex":  # exact shares; some are 0
        along = np.moveaxis(out, kind.along, -1)
        along[..., 0] += Fraction(1)
        along /= along.sum(axis=-1, keepdims=True)
    return out.reshape([prod(sizes[a] for a, _ in dimension) for dimension in kind.dimensions]) if shape else out[()]


def _number(rng: Random, kind: Kind, sizes: Mapping[str, int]) -> Any:
    match kind.name:
        case "class":
            return rng.randrange(sizes[str(kind.of)])
        case "sign":
            return rng.choice((-1, 1))
    return _draw(rng, Reach(kind.domain, whole=kind.integer))
