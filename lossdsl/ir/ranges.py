"""Interval analysis: what values an expression can take, given the kinds of the inputs.

A claim speaks of exact arithmetic on inputs that keep the promises of their kinds: finite numbers, but for the kinds whose
domain holds an infinity. An interval encloses every value that is not NaN; an infinite end is closed where the infinity itself
may occur. Axes are taken to be non-empty, unless ``empty_axes`` is set; a reduction with a guard may always be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, inf

from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import NAN, TRUE, Expr, Range, instance, is_condition, postorder
from lossdsl.ir.program import BATCH, Program
from lossdsl.kinds import REAL, Bound, Interval, Kind

_PLAIN = 1 << 64  # numbers of ordinary length
_ZERO, _ONE = Fraction(0), Fraction(1)
NOTHING = Interval(inf, -inf)  # no value but NaN
EVERYTHING = Interval(-inf, inf, False, False)
TRUTH = Interval(_ZERO, _ONE, False, False)
_KEPT = (
    Interval(-inf, inf), Interval(_ZERO, inf, False, False), Interval(-inf, _ZERO, False, False), Interval(_ZERO, inf, True, False), TRUTH,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reach:
    """The values of an expression: an interval, whether NaN may occur, whether 0 cannot, whether all are whole numbers."""

    interval: Interval
    nan: bool = False
    nonzero: bool = False
    whole: bool = False

    @property
    def zero(self) -> bool:
        """Whether 0 may occur."""
        return 0 in self.interval and not self.nonzero

    @property
    def infinite(self) -> bool:
        return inf in self.interval or -inf in self.interval

    @property
    def empty(self) -> bool:
        i = self.interval
        return i.low > i.high or (i.low == i.high and (i.low_open or i.high_open))


@dataclass(frozen=True, slots=True)
class _Pair:
    """The values of an expression at the two values of an input, or twice the value of a number."""

    of: Expr | None
    values: tuple[Fraction, Fraction]


class Ranges:
    """Answers about the expressions of one program, each found once.

    With ``empty_axes``, an axis is taken to be non-empty only where an input says so: there is no class and no simplex of none.
    """

    def __init__(self, program: Program, *, empty_axes: bool = False) -> None:
        self.kinds: dict[str, Kind] = {i.name: i.kind for i in program.inputs} | {p.name: p.kind for p in program.params}
        self.empty_axes = empty_axes
        self.occupied = {i.kind.root for i in program.inputs if i.kind.root and all(a in (i.kind.root, BATCH) for a, _ in i.kind.axes)}
        self.lengths = {axis: n.data for axis, n in program.lengths if n.op == "num"}
        self.memo: dict[Expr, Reach] = {}
        self.pairs: dict[Expr, _Pair] = {}

    def assume(self, e: Expr, interval: Interval) -> None:
        """Take the values of ``e`` to lie in an interval; before anything that holds ``e`` is asked about."""
        self.memo[e] = Reach(interval)

    def of(self, e: Expr) -> Interval:
        """An interval that holds every value of ``e`` but NaN."""
        return self.reach(e).interval

    def nan(self, e: Expr) -> bool:
        """Whether ``e`` may be NaN although no input is."""
        return self.reach(e).nan

    def whole(self, e: Expr) -> bool:
        """Whether every value is a whole number."""
        return self.reach(e).whole

    def positive(self, e: Expr) -> bool:
        return positive(self.of(e))

    def nonnegative(self, e: Expr) -> bool:
        return self.of(e).low >= 0

    def negative(self, e: Expr) -> bool:
        return positive(_negated(self.of(e)))

    def nonpositive(self, e: Expr) -> bool:
        return self.of(e).high <= 0

    def nonzero(self, e: Expr) -> bool:
        return not self.reach(e).zero

    def finite(self, e: Expr) -> bool:
        """Whether ``e`` is always a number, neither infinite nor NaN."""
        r = self.reach(e)
        return not r.nan and not r.infinite

    def reach(self, e: Expr) -> Reach:
        memo = self.memo
        found = memo.get(e)
        if found is not None:
            return found
        stack = [e]
        while stack:
            x = stack[-1]
            if x in memo:
                stack.pop()
                continue
            todo = [a for a in _needs(x) if a not in memo]
            if todo:
                stack += todo
            else:
                memo[stack.pop()] = self._step(x)
        return memo[e]

    def _step(self, e: Expr) -> Reach:
        pair = self._pair(e)
        if pair is not None and pair.of is not None:
            self.pairs[e] = pair
            a, b = pair.values
            return Reach(_closed(min(a, b), max(a, b)), nonzero=bool(a and b), whole=a.denominator == b.denominator == 1)
        return self._plain_step(e)

    def _pair(self, e: Expr) -> _Pair | None:
        """The two values of arithmetic on one sign or one number that is 0 or 1."""
        if e.op == "num" and max(abs(e.data.numerator), e.data.denominator) < _PLAIN:
            return _Pair(None, (e.data, e.data))
        if e.op == "ref" and e.data in self.kinds and all(a.op == "ix" for a in e.args):
            values = {"sign": (-_ONE, _ONE), "binary": (_ZERO, _ONE)}.get(self.kinds[e.data].name)
            return None if values is None else _Pair(e, values)
        if e.op not in ("add", "sub", "mul", "neg", "pow") or (e.op == "pow" and not _is_square(e.args[1])):
            return None
        parts = [self.pairs.get(a) or (self._pair(a) if a.op == "num" else None) for a in e.args]
        known = [p for p in parts if p is not None]
        of = {p.of for p in known if p.of is not None}
        if len(known) < len(parts) or len(of) != 1:
            return None
        (x, y), (u, v) = known[0].values, known[-1].values
        match e.op:
            case "add":
                values = x + u, y + v
            case "sub":
                values = x - u, y - v
            case "mul":
                values = x * u, y * v
            case "pow":
                values = x ** int(u), y ** int(v)
            case _:
                values = -x, -y
        return _Pair(of.pop(), values) if all(max(abs(z.numerator), z.denominator) < _PLAIN for z in values) else None

    def _plain_step(self, e: Expr) -> Reach:
        if is_condition(e):
            return Reach(TRUTH, whole=True)
        match e.op:
            case "num":
                return _point(e.data)
            case "const":
                return {"pi": Reach(_closed(Fraction(3), Fraction(22, 7))), "inf": _point(inf)}.get(e.data, Reach(NOTHING, nan=True))
            case "iverson":
                return Reach(TRUTH, whole=True)
            case "size" if e.data in self.lengths:
                return _point(self.lengths[e.data])
            case "size":
                return Reach(Interval(_ONE if self._occupied(e.data) else _ZERO, inf, False, True), whole=True)
            case "ix":
                return self._index(e)
            case "ref":
                return self._input(e)
            case "pw":
                return self._pieces(e)
            case "red":
                return self._reduction(e)
            case "rec":
                return Reach(EVERYTHING, nan=True)
            case "scan":
                return self._recursion(e)
        args = [self.memo[a] for a in e.args]
        if any(a.empty for a in args):
            return Reach(NOTHING, nan=True)
        if e.op == "mul" and e.args[0] is e.args[1]:
            return _power(args[0], _point(Fraction(2)))
        if e.op == "sub" and (_is_share(*e.args) or _is_share(*e.args[::-1])):
            out = _sub(*args)
            return Reach(meet(out.interval, Interval(-inf, _ZERO, False, False) if _is_share(*e.args) else _closed(_ZERO, inf)), out.nan)
        if e.op == "call" and e.data == "xlogy" and e.args[0] is e.args[1]:
            return _entropy(args[0])
        return _call(e.data, args) if e.op == "call" else _ARITHMETIC[e.op](*args)

    def _index(self, e: Expr) -> Reach:
        axis = e.data.axis
        if isinstance(axis, Range):
            low, high = self.memo[axis.lo].interval, self.memo[axis.hi].interval
            return Reach(Interval(low.low, high.high, low.low_open, high.high_open), whole=True)
        return Reach(Interval(_ZERO, inf, False, True), whole=True)

    def _input(self, e: Expr) -> Reach:
        kind = self.kinds.get(e.data)
        if kind is None:
            return Reach(EVERYTHING, nan=True)
        domain = kind.domain
        if kind.ignore is not None:
            domain = hull([domain, _closed(Fraction(kind.ignore), Fraction(kind.ignore))])
        axes = [axis for axis, _ in kind.axes] if len(kind.axes) == len(e.args) else [None for _ in e.args]
        away = any(not self._stays(a, axis) for a, axis in zip(e.args, axes, strict=True))
        return Reach(domain, nan=away, nonzero=kind.name == "sign", whole=kind.integer)

    def _stays(self, e: Expr, axis: str | None) -> bool:
        """Whether an index surely lies on the axis: a computed one may leave it, but for a class and an order of the axis."""
        kind = self.kinds.get(e.data) if e.op == "ref" else None
        own = kind is not None and kind.role == "class" and kind.ignore is None and kind.of == axis
        return e.op == "ix" or own or ordered_on(e) is not None

    def _pieces(self, e: Expr) -> Reach:
        values = (*e.args[:-1:2], e.args[-1])
        parts = [self.memo[v] for v in values if v is not NAN]
        out = _union(parts) if parts else Reach(NOTHING, nan=True)
        return replace(out, nan=out.nan or e.args[-1] is NAN)

    def _reduction(self, e: Expr) -> Reach:
        body, guard = e.args[:2]
        if e.data[0] == "argsort":
            return _red_position(Reach(REAL), ordered_on(e) is not None)
        if e.data[0] not in _REDUCTIONS:  # a function that the caller gives, or a gradient of what holds one
            return Reach(EVERYTHING, nan=True)
        some = guard is TRUE and all(self._occupied(b.axis) for b in e.data[1])
        return _REDUCTIONS[e.data[0]](self.memo[body], some)

    def _recursion(self, e: Expr) -> Reach:
        """What holds of every entry if it holds of those before: it is tried whether a few sets are left by no step."""
        body, state = e.args[0], e.data[1][0]
        out = self.memo[body]
        if any(a.op != "ix" or a.data.axis != b.axis for a, b in zip(e.args[1:], e.data[1][1:], strict=True)):
            out = replace(out, nan=True)  # what is read may lie outside
        reads = [x for x in postorder((body,)) if x.op == "rec" and x.data[0] == state]
        for kept in _KEPT:
            if out.interval.within(kept):
                continue
            inside = copy(self)
            inside.memo = {x: r for x, r in self.memo.items() if state not in x.free} | dict.fromkeys(reads, Reach(kept, nan=True))
            found = inside.reach(body)
            if found.interval.within(kept):
                out = replace(out, interval=meet(out.interval, found.interval), nonzero=out.nonzero or found.nonzero)
        return out

    def _occupied(self, axis: str | Range) -> bool:
        """Whether an axis surely has a position."""
        if isinstance(axis, str):
            return self.lengths[axis] > 0 if axis in self.lengths else not self.empty_axes or axis in self.occupied
        return self.memo[axis.lo].interval.high <= self.memo[axis.hi].interval.low and not self.memo[axis.hi].nan


def _is_share(a: Expr, b: Expr) -> bool:
    """Whether ``a`` is one of the terms of a logsumexp ``b``, so that ``exp(a - b)`` is at most 1."""
    return b.op == "red" and b.data[0] == "logsumexp" and b.args[1] is TRUE and instance(b.args[0], b.data[1], a) is not None


def ordered_on(e: Expr) -> str | None:
    """The axis of an argsort that is surely an index of it: over all of the axis, at a place that the axis surely has."""
    if e.op != "red" or e.data[0] != "argsort" or e.args[1] is not TRUE:
        return None
    axis, place = e.data[1][0].axis, e.args[2]
    return axis if isinstance(axis, str) and place.op == "ix" and place.data.axis == axis else None


def _is_square(e: Expr) -> bool:
    """Whether an exponent is that of a small whole power."""
    return e.op == "num" and e.data in (2, 3, 4)


def _needs(e: Expr) -> tuple[Expr, ...]:
    if is_condition(e) or e.op in ("iverson", "ref", "rec"):
        return ()
    if e.op == "scan":
        return e.args[:1]
    axes = [b.axis for b in e.data[1]] if e.op == "red" else [e.data.axis] if e.op == "ix" else []
    ends = tuple(x for a in axes if isinstance(a, Range) for x in (a.lo, a.hi))
    if e.op == "pw":
        return (*e.args[:-1:2], e.args[-1])
    if e.op == "red" and e.data[0] not in _REDUCTIONS:
        return ()
    return (e.args[0], *ends) if e.op == "red" else (*e.args, *ends)


# -- intervals --------------------------------------------------------------------------------------------------------


def positive(i: Interval) -> bool:
    return i.low > 0 or (i.low == 0 and i.low_open)


def hull(parts: Iterable[Interval]) -> Interval:
    """The least interval that holds all of them."""
    parts = list(parts)
    low, low_open = min((p.low, p.low_open) for p in parts)
    high, high_closed = max((p.high, not p.high_open) for p in parts)
    return Interval(low, high, low_open, not high_closed)


def meet(a: Interval, b: Interval) -> Interval:
    low, low_open = max((a.low, a.low_open), (b.low, b.low_open))
    high, high_closed = min((a.high, not a.high_open), (b.high, not b.high_open))
    return Interval(low, high, low_open, not high_closed)


def _closed(low: Bound, high: Bound) -> Interval:
    return Interval(low, high, False, False)


def _point(x: Bound) -> Reach:
    return Reach(_closed(x, x), nonzero=x != 0, whole=isinstance(x, Fraction) and x.denominator == 1)


def _negated(i: Interval) -> Interval:
    return Interval(-i.high, -i.low, i.high_open, i.low_open)


def _union(parts: list[Reach]) -> Reach:
    return Reach(hull(p.interval for p in parts), any(p.nan for p in parts), not any(p.zero for p in parts), all(p.whole for p in parts))


def _short(i: Interval) -> Interval:
    """The interval with ends of bounded length, moved outward; signs stay."""
    low = -_below(-i.low) if i.low < 0 else _above(i.low)
    high = _below(i.high) if i.high > 0 else -_above(-i.high)
    return Interval(low, high, i.low_open, i.high_open)


def _above(x: Bound) -> Bound:
    """A bound at most ``x >= 0``, of at most 64 digits either side of the bar; 0 only for 0."""
    if x in (0, inf) or (isinstance(x, Fraction) and max(x.numerator.bit_length(), x.denominator.bit_length()) <= 256):
        return x
    shift = Fraction(x).numerator.bit_length() - Fraction(x).denominator.bit_length() - 2
    return Fraction(2) ** shift if abs(shift) < 4096 else _ZERO if shift < 0 else Fraction(2) ** 4096


def _below(x: Bound) -> Bound:
    """A bound at least ``x >= 0``, short likewise."""
    if x in (0, inf) or (isinstance(x, Fraction) and max(x.numerator.bit_length(), x.denominator.bit_length()) <= 256):
        return x
    shift = Fraction(x).numerator.bit_length() - Fraction(x).denominator.bit_length() + 2
    return Fraction(2) ** shift if abs(shift) < 4096 else inf if shift > 0 else Fraction(1, 2**4096)


# -- arithmetic -------------------------------------------------------------------------------------------------------


def _add(a: Reach, b: Reach) -> Reach:
    x, y = a.interval, b.interval
    low, low_open = _sum(x.low, x.low_open, y.low, y.low_open, inf)
    high, high_open = _sum(x.high, x.high_open, y.high, y.high_open, -inf)
    clash = (inf in x and -inf in y) or (-inf in x and inf in y)
    out = _short(Interval(low, high, low_open, high_open))
    return Reach(out, a.nan or b.nan or clash, 0 not in out, a.whole and b.whole)


def _sum(x: Bound, x_open: bool, y: Bound, y_open: bool, wins: float) -> tuple[Bound, bool]:
    """One end of a sum, and whether it is open; an end at ``wins`` is a lone infinity, which absorbs the other."""
    if wins in (x, y):
        return wins, False
    if -wins in (x, y):
        return -wins, not ((x == -wins and not x_open) or (y == -wins and not y_open))
    return x + y, x_open or y_open


def _neg(a: Reach) -> Reach:
    return replace(a, interval=_negated(a.interval))


def _sub(a: Reach, b: Reach) -> Reach:
    return _add(a, _neg(b))


def _mul(a: Reach, b: Reach) -> Reach:
    x, y = a.interval, b.interval
    corners = []
    for p, p_open in ((x.low, x.low_open), (x.high, x.high_open)):
        for q, q_open in ((y.low, y.low_open), (y.high, y.high_open)):
            if p == 0 or q == 0:
                closed = (p == 0 and not p_open) or (q == 0 and not q_open)
                corners.append(Interval(_ZERO, _ZERO, not closed, not closed))
            elif abs(p) == inf or abs(q) == inf:
                closed = (abs(p) == inf and not p_open) or (abs(q) == inf and not q_open)
                end = inf if (p > 0) == (q > 0) else -inf
                corners.append(Interval(end, end, not closed, not closed))
            else:
                open_end = p_open or q_open
                corners.append(Interval(p * q, p * q, open_end, open_end))
    out = _short(hull(corners))
    lost = (a.zero and b.infinite) or (b.zero and a.infinite)
    return Reach(out, a.nan or b.nan or lost, not (a.zero or b.zero), a.whole and b.whole)


def _reciprocal(b: Reach) -> Reach:
    """``1/b``, where 1/0 is inf."""
    i = b.interval
    if b.zero and i.low < 0:
        return Reach(EVERYTHING, b.nan, not b.infinite)
    if i.low < 0 < i.high or (i.low == 0 and i.high == 0):
        return Reach(EVERYTHING, b.nan, not b.infinite)
    if i.high <= 0 and i.low < 0:
        return _neg(_reciprocal(_neg(b)))
    low: Bound = _ZERO if i.high == inf else 1 / Fraction(i.high)
    high: Bound = inf if i.low == 0 else _ZERO if i.low == inf else 1 / Fraction(i.low)
    return Reach(_short(Interval(low, high, i.high_open, i.low_open)), b.nan, not b.infinite)


def _div(a: Reach, b: Reach) -> Reach:
    return replace(_mul(a, _reciprocal(b)), whole=False)


def _power(a: Reach, b: Reach) -> Reach:
    x, y = a.interval, b.interval
    if y.low == y.high and isinstance(y.low, Fraction) and y.low.denominator == 1 and abs(y.low) <= 64:
        return _whole_power(a, int(y.low))
    nan = a.nan or b.nan or b.infinite or (x.low < 0 and not b.whole)
    fixed = y.low == y.high
    if x.low < 0 and not (fixed and isinstance(y.low, Fraction) and y.low.denominator > 1):
        return Reach(EVERYTHING, nan, False)
    a = replace(a, interval=meet(x, _closed(_ZERO, inf)))  # of a negative base, only whole powers are numbers
    x = a.interval
    if a.empty:
        return Reach(NOTHING, True)
    if fixed and 0 < y.low < inf:
        return replace(_root_like(a), nan=nan)
    nonzero = not a.zero and not a.infinite and not b.infinite
    low_end, high_end = Interval(_ZERO, inf, nonzero, False), EVERYTHING
    if y.low >= 0 and x.high <= 1:
        high_end = _closed(_ZERO, _ONE)
    if y.low >= 0 and x.low >= 1:
        low_end = Interval(_ONE, inf, False, False)
    finite = not a.infinite and not b.infinite and (not a.zero or y.low >= 0)
    out = meet(low_end, high_end)
    return Reach(replace(out, high_open=True) if finite and out.high == inf else out, nan, nonzero)


def _root_like(a: Reach) -> Reach:
    """A positive, fixed power of what is at least 0: the ends 0, 1 and inf stay."""
    i = a.interval
    low = _closed(_ZERO, inf) if i.low < 1 else _closed(_ONE, inf)
    low = replace(low, low_open=i.low not in (0, 1) or i.low_open)
    high = inf if i.high > 1 else _ONE
    return Reach(Interval(low.low, high, low.low_open, i.high_open if i.high in (1, inf) else True), nonzero=not a.zero)


def _whole_power(a: Reach, n: int) -> Reach:
    if n == 0:
        return _point(_ONE) if not a.nan else replace(_point(_ONE), nan=True)
    if n < 0:
        if n % 2 == 0 and a.interval.low < 0:
            return _reciprocal(_whole_power(a, -n))
        if a.zero and a.interval.low < 0:
            return Reach(EVERYTHING, a.nan, not a.infinite)
        return _reciprocal(_whole_power(a, -n))
    i = a.interval
    if n % 2 == 0 and i.low < 0:
        i = _magnitude(i)
    low, high = (x if abs(x) == inf else x**n for x in (i.low, i.high))
    return Reach(_short(Interval(low, high, i.low_open, i.high_open)), a.nan, not a.zero, a.whole)


def _magnitude(i: Interval) -> Interval:
    """The interval of absolute values."""
    if i.low >= 0:
        return i
    if i.high <= 0:
        return _negated(i)
    other = _negated(i)
    high, closed = max((i.high, not i.high_open), (other.high, not other.high_open))
    return Interval(_ZERO, high, False, not closed)


_ARITHMETIC: dict[str, Callable[..., Reach]] = {"add": _add, "sub": _sub, "mul": _mul, "div": _div, "pow": _power, "neg": _neg}


# -- functions --------------------------------------------------------------------------------------------------------

# Where strictly monotone functions take known values, besides the ends at infinity; from a point up to the next they lie between.
POINTS: dict[str, dict[Bound, Bound]] = {
    "exp": {-inf: 0, 0: 1, inf: inf}, "log": {0: -inf, 1: 0, inf: inf}, "log2": {0: -inf, 1: 0, 2: 1, inf: inf},
    "log10": {0: -inf, 1: 0, 10: 1, inf: inf}, "log1p": {-1: -inf, 0: 0, inf: inf}, "expm1": {-inf: -1, 0: 0, inf: inf},
    "log1mexp": {-inf: 0, 0: -inf}, "sqrt": {0: 0, 1: 1, inf: inf}, "cbrt": {-inf: -inf, -1: -1, 0: 0, 1: 1, inf: inf},
    "sqrt1pm1": {-1: -1, 0: 0, inf: inf}, "sinh": {-inf: -inf, 0: 0, inf: inf}, "tanh": {-inf: -1, 0: 0, inf: 1},
    "asin": {0: 0}, "atan": {0: 0}, "acos": {1: 0}, "asinh": {-inf: -inf, 0: 0, inf: inf}, "acosh": {1: 0, inf: inf},
    "atanh": {-1: -inf, 0: 0, 1: inf}, "sigmoid": {-inf: 0, 0: Fraction(1, 2), inf: 1}, "logit": {0: -inf, Fraction(1, 2): 0, 1: inf},
    "softplus": {-inf: 0, inf: inf}, "logsigmoid": {-inf: -inf, inf: 0}, "softsign": {0: 0}, "erf": {-inf: -1, 0: 0, inf: 1},
    "erfc": {-inf: 2, 0: 1, inf: 0}, "normal_cdf": {-inf: 0, 0: Fraction(1, 2), inf: 1}, "log_normal_cdf": {-inf: -inf, inf: 0},
    "elu": {-inf: -1, 0: 0, inf: inf}, "erfcx": {0: 1, inf: 0},
}  # fmt: skip


def _call(name: str, args: list[Reach]) -> Reach:
    row = FUNCTIONS[name]
    domains = row.domain if len(args) == len(row.domain) else (row.domain[0],) * len(args)
    nan = any(a.nan or not a.interval.within(d) for a, d in zip(args, domains, strict=True))
    inside = [replace(a, interval=meet(a.interval, d)) for a, d in zip(args, domains, strict=True)]
    if any(a.empty for a in inside):
        return Reach(NOTHING, nan=True)
    special = _SPECIAL.get(name)
    if special is not None:
        out = special(*inside)
        return replace(out, nan=out.nan or nan)
    limits = row.range
    if any(a.infinite for a in inside):
        limits = replace(limits, low_open=False, high_open=False)
    elif row.poles is not None:  # the value itself may be infinite there
        limits = replace(limits, low_open=limits.low_open and limits.low > -inf, high_open=limits.high_open and limits.high < inf)
    if name in POINTS:
        limits = meet(limits, _between_points(inside[0].interval, POINTS[name], row.monotone[0] == "decreasing"))
    return Reach(limits, nan, 0 not in limits)


def _between_points(i: Interval, points: dict[Bound, Bound], falls: bool) -> Interval:
    """The image of an interval under a strictly monotone function of which some points are known."""
    below = max(((x, points[x]) for x in points if x <= i.low), default=None)
    above = min(((x, points[x]) for x in points if x >= i.high), default=None)
    start = (-inf if not falls else inf, False) if below is None else (below[1], below[0] < i.low or i.low_open)
    end = (inf if not falls else -inf, False) if above is None else (above[1], above[0] > i.high or i.high_open)
    (low, low_open), (high, high_open) = (end, start) if falls else (start, end)
    return Interval(_exact(low), _exact(high), low_open, high_open)


def _exp(a: Reach) -> Reach:
    """Between powers of 2 and 3 where the argument is of ordinary size."""
    i = a.interval
    out = _between_points(i, POINTS["exp"], False)
    if i.low >= -_ORDINARY:
        out = meet(out, Interval(Fraction(2 if i.low > 0 else 3) ** floor(min(i.low, _ORDINARY)), inf, False, False))
    if i.high <= _ORDINARY:
        out = meet(out, Interval(-inf, Fraction(3 if i.high > 0 else 2) ** ceil(max(i.high, -_ORDINARY)), False, False))
    return Reach(out, a.nan, 0 not in out)


_ORDINARY = 32


def _exact(x: Bound) -> Bound:
    return x if abs(x) == inf else Fraction(x)


def _abs(a: Reach) -> Reach:
    return replace(a, interval=_magnitude(a.interval))


def _sign(a: Reach) -> Reach:
    i = a.interval
    low = 1 if i.low > 0 or (i.low == 0 and not a.zero) else 0 if i.low >= 0 else -1
    high = -1 if i.high < 0 or (i.high == 0 and not a.zero) else 0 if i.high <= 0 else 1
    return Reach(_closed(Fraction(low), Fraction(high)), a.nan, not a.zero, True)


def _max(*args: Reach) -> Reach:
    low, low_open = max((a.interval.low, a.interval.low_open) for a in args)
    high, high_closed = max((a.interval.high, not a.interval.high_open) for a in args)
    out = Interval(low, high, low_open, not high_closed)
    return Reach(out, any(a.nan for a in args), 0 not in out or all(not a.zero for a in args), all(a.whole for a in args))


def _min(*args: Reach) -> Reach:
    return _neg(_max(*(_neg(a) for a in args)))


def _clip(x: Reach, lo: Reach, hi: Reach) -> Reach:
    return _min(_max(x, lo), hi)


def _floor(a: Reach) -> Reach:
    low, high = (x if abs(x) == inf else Fraction(floor(x)) for x in (a.interval.low, a.interval.high))
    out = Interval(low, high, a.interval.low_open and low == -inf, a.interval.high_open and high == inf)
    return Reach(out, a.nan, 0 not in out, True)


def _ceil(a: Reach) -> Reach:
    low, high = (x if abs(x) == inf else Fraction(ceil(x)) for x in (a.interval.low, a.interval.high))
    out = Interval(low, high, a.interval.low_open and low == -inf, a.interval.high_open and high == inf)
    return Reach(out, a.nan, 0 not in out, True)


def _mod(a: Reach, b: Reach) -> Reach:
    nan = a.nan or b.nan or a.infinite or b.infinite or b.zero
    if b.interval.low >= 0:
        return Reach(Interval(_ZERO, b.interval.high, False, True), nan, False, a.whole and b.whole)
    return Reach(Interval(-inf, inf), nan, False, a.whole and b.whole)


def _cosh(a: Reach) -> Reach:
    limits = Interval(_ONE, inf, a.nonzero or 0 not in a.interval, not a.infinite)
    return Reach(limits, a.nan, True)


def _log_cosh(a: Reach) -> Reach:
    return Reach(Interval(_ZERO, inf, not a.zero, not a.infinite), a.nan, not a.zero)


def _mul0(a: Reach, b: Reach) -> Reach:
    return replace(_mul(a, b), nan=a.nan or b.nan)


def _xlogy(x: Reach, y: Reach) -> Reach:
    log = _call("log", [y])
    return _weighed(x, log)


def _entropy(x: Reach) -> Reach:
    """``x*log(x)``, which is least at 1/e."""
    x = replace(x, interval=meet(x.interval, _closed(_ZERO, inf)), nan=x.nan or x.interval.low < 0)
    if x.empty:
        return Reach(NOTHING, True)
    high: Bound = _ZERO if x.interval.high <= 1 else inf
    return Reach(Interval(Fraction(-37, 100), high, True, high == inf and inf not in x.interval), x.nan)


def _weighed(x: Reach, log: Reach) -> Reach:
    """``x*log``, where an exact 0 of x wins, and only that."""
    out = _mul0(x, log)
    return replace(out, nan=out.nan or (x.infinite and log.zero))


def _logdiv(a: Reach, b: Reach) -> Reach:
    return _call("log", [_div(a, b)])


def _xlogdiv(x: Reach, a: Reach, b: Reach) -> Reach:
    ratio = _logdiv(a, b)
    if ratio.empty:
        return Reach(_closed(_ZERO, _ZERO), nan=True)
    out = _weighed(x, ratio)
    lost = x.zero and ratio.infinite and min(a.interval.low, b.interval.low) < 0
    return replace(out, interval=hull([out.interval, _closed(_ZERO, _ZERO)]), nonzero=False, nan=out.nan or ratio.nan or lost)


def _logaddexp(a: Reach, b: Reach) -> Reach:
    top = _max(a, b).interval
    high = inf if top.high > -inf else -inf
    # the sum of two exponentials is above either; nothing is added where one is -inf
    lone = (-inf in a.interval, -inf in b.interval)
    out = Interval(top.low, high, top.low < inf and (top.low_open or not any(lone)), inf not in top and high == inf)
    return Reach(out, a.nan or b.nan, 0 not in out)


def _logsubexp(a: Reach, b: Reach) -> Reach:
    return Reach(Interval(-inf, a.interval.high, False, a.interval.high_open), True)


def _bce(s: Reach, t: Reach) -> Reach:
    """Positive for a target in [0, 1]; infinite logits may meet the target exactly."""
    nan = s.nan or t.nan or t.infinite
    if t.interval.within(TRUTH):
        return Reach(Interval(_ZERO, inf, not s.infinite, not s.infinite), nan, not s.infinite)
    return Reach(EVERYTHING if s.infinite else Interval(-inf, inf), nan)


def _identity(a: Reach) -> Reach:
    return a


_SPECIAL: dict[str, Callable[..., Reach]] = {
    "abs": _abs, "sign": _sign, "max": _max, "min": _min, "clip": _clip, "relu": lambda a: _max(a, _point(_ZERO)), "floor": _floor,
    "ceil": _ceil, "mod": _mod, "cosh": _cosh, "log_cosh": _log_cosh, "exp": _exp, "mul0": _mul0, "xlogy": _xlogy, "logdiv": _logdiv,
    "xlogdiv": _xlogdiv, "logaddexp": _logaddexp, "logsubexp": _logsubexp, "bce_with_logits": _bce, "stop": _identity,
    "pow": _power,
}  # fmt: skip


# -- reductions -------------------------------------------------------------------------------------------------------


def _red_sum(a: Reach, some: bool) -> Reach:
    """``some``: there surely is a summand."""
    if a.empty:
        return Reach(_closed(_ZERO, _ZERO), True)
    i = a.interval
    low: tuple[Bound, bool] = (_ZERO, False) if i.low >= 0 else (-inf, -inf not in i)
    high: tuple[Bound, bool] = (_ZERO, False) if i.high <= 0 else (inf, inf not in i)
    if some and i.low >= 0:
        low = (i.low, i.low_open)
    if some and i.high <= 0:
        high = (i.high, i.high_open)
    out = Interval(low[0], high[0], low[1], high[1])
    return Reach(out, a.nan or (inf in i and -inf in i), 0 not in out, a.whole)


def _red_prod(a: Reach, some: bool) -> Reach:
    if a.empty:
        return Reach(_closed(_ONE, _ONE), True)
    i = a.interval
    nan = a.nan or (a.zero and a.infinite)
    if i.low < 0:
        signed = EVERYTHING if a.infinite else Interval(-inf, inf)
        return Reach(_closed(-_ONE, _ONE) if i.within(_closed(-_ONE, _ONE)) else signed, nan, not a.zero, a.whole)
    # products of numbers below 1 sink towards 0, of those above it grow
    low: tuple[Bound, bool] = (_ONE, False) if i.low >= 1 else (_ZERO, not a.zero)
    high: tuple[Bound, bool] = (_ONE, False) if i.high <= 1 else (inf, not a.infinite)
    if some and i.low >= 1:
        low = (i.low, i.low_open)
    if some and i.high <= 1:
        high = (i.high, i.high_open)
    return Reach(Interval(low[0], high[0], low[1], high[1]), nan, not a.zero, a.whole)


def _red_max(a: Reach, some: bool) -> Reach:
    return replace(a, nan=a.nan or not some)


def _red_logsumexp(a: Reach, some: bool) -> Reach:
    if a.empty:
        return Reach(_closed(-inf, -inf), True)
    i = a.interval
    low, low_open = (i.low, i.low_open) if some else (-inf, False)
    high: Bound = inf if i.high > -inf else -inf
    return Reach(Interval(low, high, low_open, high == inf and inf not in i), a.nan)


def _red_norm(a: Reach, some: bool) -> Reach:
    if a.empty:
        return Reach(_closed(_ZERO, _ZERO), True)
    i = _magnitude(a.interval)
    low, low_open = (i.low, i.low_open or (i.low == 0 and not a.zero)) if some else (_ZERO, False)
    high: Bound = inf if i.high > 0 else _ZERO
    return Reach(Interval(low, high, low_open, high == inf and inf not in i), a.nan, some and not a.zero)


def _red_position(a: Reach, some: bool) -> Reach:
    return Reach(Interval(_ZERO, inf, False, True), a.nan or not some, False, True)


_REDUCTIONS: dict[str, Callable[[Reach, bool], Reach]] = {
    "sum": _red_sum, "prod": _red_prod, "max": _red_max, "min": _red_max, "logsumexp": _red_logsumexp, "norm": _red_norm,
    "argmax": _red_position, "argmin": _red_position,
}  # fmt: skip
