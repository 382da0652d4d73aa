"""Two kinds of numbers for the oracle: bare mpf with IEEE's rules, and mpf that carry the measure of ``reference``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul
from typing import Any, NamedTuple

from mpmath.libmp import mpf_add, mpf_sub

from lossdsl.functions import FUNCTIONS
from lossdsl.runtime.primitives import HUGE, Functions, Mpf, Run, ends, meaning_of, row_of


class Bare:
    """mpf with the rules of IEEE at infinities and NaN."""

    def __init__(self, ctx: Any, run: Run) -> None:
        self.ctx = ctx
        self.functions = Functions(ctx, run)
        self.zero, self.one, self.nan, self.inf = ctx.zero, ctx.one, ctx.nan, ctx.inf
        self.ops: dict[str, Callable[..., Mpf]] = {
            "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
            "neg": lambda a: -a, "div": self.div, "pow": self.pow,
        }  # fmt: skip
        self.reductions: dict[str, Callable[[list[Mpf]], Mpf]] = {
            "sum": lambda xs: sum(xs, self.zero), "max": lambda xs: self.extreme(xs, 1), "min": lambda xs: self.extreme(xs, -1),
            "logsumexp": self.logsumexp, "norm": self.norm, "prod": lambda xs: reduce(mul, xs, self.one),
        }  # fmt: skip

    def leaf(self, x: Mpf) -> Mpf:
        return x

    def constant(self, x: Mpf, exact: bool) -> Mpf:
        return x

    def plain(self, x: Mpf) -> Mpf:
        return x

    def decide(self, a: Mpf, b: Mpf) -> None:
        """Nothing: bare numbers do not know how they were rounded."""

    def apply(self, op: str, args: list[Mpf]) -> Mpf:
        return self.ops[op](*args)

    def call(self, name: str, args: list[Mpf]) -> Mpf:
        return self.pow(*args) if name == "pow" else self.functions(name, args)

    def reduce(self, op: str, terms: list[Mpf]) -> Mpf:
        return self.reductions[op](terms)

    def div(self, a: Mpf, b: Mpf) -> Mpf:
        if b:
            return a / b
        return self.nan if not a or a != a else self.inf if a > 0 else -self.inf

    def pow(self, a: Mpf, b: Mpf) -> Mpf:
        """``a^b``: 1 for b = 0, also of 0; of a negative base only to a whole exponent."""
        if a != a or b != b:
            return self.nan
        if not b:
            return self.one
        if not a:
            return self.zero if b > 0 else self.inf
        if a > 0:
            return self.positive_pow(a, b)
        if not self.ctx.isint(b):
            return self.nan
        size = self.positive_pow(-a, b)
        return -size if int(b) % 2 else size

    def positive_pow(self, a: Mpf, b: Mpf) -> Mpf:
        ctx = self.ctx
        if a == 1:
            return self.one
        if ctx.isinf(a) or ctx.isinf(b) or ctx.mag(b) + ctx.mag(ctx.mag(a)) > HUGE:
            return self.inf if (a > 1) == (b > 0) else self.zero
        return ctx.power(a, b)

    def extreme(self, xs: list[Mpf], sign: int) -> Mpf:
        i = first_extreme(xs, sign)
        return self.nan if i is None else xs[i]

    def logsumexp(self, xs: list[Mpf]) -> Mpf:
        if not xs:
            return -self.inf
        top = self.extreme(xs, 1)
        if top != top or self.ctx.isinf(top):
            return top
        return top + self.ctx.log(sum((self.ctx.exp(x - top) for x in xs), self.zero))

    def norm(self, xs: list[Mpf]) -> Mpf:
        return self.ctx.sqrt(sum((x * x for x in xs), self.zero))


def first_extreme(xs: Sequence[Mpf], sign: int) -> int | None:
    """Where the largest (sign 1) or smallest (-1) entry stands first; None if there is none or one is NaN."""
    best: int | None = None
    for i, x in enumerate(xs):
        if x != x:
            return None
        if best is None or (x > xs[best] if sign > 0 else x < xs[best]):
            best = i
    return best


class Measured(NamedTuple):
    """A number with log2 of its size and whether it is known exactly, and three units as log2.

    ``s`` is that of its largest summand, ``n`` that of its largest intermediate value, ``e`` that of the largest one which floating
    point of the given precision has to round.
    """

    v: Mpf
    lg: float
    exact: bool
    s: float
    n: float
    e: float


_NEVER = -math.inf
_SLACK = 20  # bits that many roundings together may cost
# functions that may jump: those with kinks and no bound on their slope
_KEEP_WHOLE, _MAKE_WHOLE = ("mod", "abs", "sign", "max", "min", "clip", "relu"), ("floor", "ceil")
JUMPING = frozenset(name for name, row in FUNCTIONS.items() if row.kinks and None in row.lipschitz)


class Measuring:
    """``Bare`` arithmetic on ``Measured`` numbers.

    The same operation on the same numbers gives the same object, so that what is computed alike from equal inputs is known to be
    equal. ``closest`` is log2 of the smallest distance between numbers of which one was chosen, relative to their rounding ``e``;
    ``undecided`` tells of two that the precision cannot tell apart.
    """

    def __init__(self, ctx: Any, bare: Bare, run: Callable[[str, Sequence[Measured]], Measured], bits: int) -> None:
        self.ctx, self.bare, self.run, self.bits = ctx, bare, run, bits
        self.closest = math.inf
        self.undecided = False
        self.leaves: dict[Any, Measured] = {}
        self.seen: dict[Any, tuple[Measured, list[Measured]]] = {}  # with the arguments, whose addresses are the key

    def leaf(self, x: Mpf) -> Measured:
        return self.constant(x, True)

    def constant(self, x: Mpf, exact: bool) -> Measured:
        key = x._mpf_, exact
        if key not in self.leaves:
            lg = log2(x)
            own = _NEVER if exact else lg
            self.leaves[key] = Measured(x, lg, exact, _NEVER, own, own)
        return self.leaves[key]

    def plain(self, x: Measured) -> Mpf:
        return x.v

    def once(self, name: str, args: list[Measured], f: Callable[[str, list[Measured]], Measured]) -> Measured:
        key = name, *map(id, args)
        if key not in self.seen:
            self.seen[key] = f(name, args), args
        return self.seen[key][0]

    def apply(self, op: str, args: list[Measured]) -> Measured:
        return self.once(op, args, self.applied)

    def call(self, name: str, args: list[Measured]) -> Measured:
        return self.once(name, args, self.called)

    def reduce(self, op: str, terms: list[Measured]) -> Measured:
        return self.once(op, terms, self.reduced)

    def made(self, v: Mpf, args: Sequence[Measured], exact: bool, slopes: Sequence[float], summand: float = _NEVER) -> Measured:
        """A result from its slopes in the arguments.

        An infinity or NaN is known if it does not hang on a number that is not.
        """
        lg = log2(v)
        if lg == math.inf:
            known = exact or all(a.exact for a in args) or any(a.exact and a.lg == math.inf for a in args)
            return Measured(v, lg, known, _NEVER, _NEVER, _NEVER)
        s, n, e = summand, max(summand, lg), _NEVER if exact and v.bc <= self.bits else lg
        for a, slope in zip(args, slopes, strict=True):
            if a.n > _NEVER and slope > _NEVER:
                s, n, e = max(s, a.s + slope), max(n, a.n + slope), max(e, a.e + slope)
        return Measured(v, lg, exact, s, n, e)

    def applied(self, op: str, args: list[Measured]) -> Measured:
        if op == "neg":
            return args[0]._replace(v=-args[0].v)
        a, b = args
        v, exact = self.bare.ops[op](a.v, b.v), a.exact and b.exact
        match op:
            case "add" | "sub":
                exact = self.added_exactly(op, a.v, b.v, v) if exact else a is b and not v
                return self.made(v, args, exact, (0.0, 0.0), max(a.lg, b.lg))
            case "mul":
                exact = (exact and a.v.bc + b.v.bc <= self.ctx.prec) or (not v and any(x.exact and not x.v for x in args))
                return self.made(v, args, exact, (b.lg, a.lg))
            case "div":
                exact = (exact and v.bc + b.v.bc <= self.ctx.prec and bool(v * b.v == a.v)) or (not v and a.exact and not a.v)
                return self.made(v, args, exact, (-b.lg, log2(v) - b.lg))
        return self.powered(op, args)

    def added_exactly(self, op: str, a: Mpf, b: Mpf, v: Mpf) -> bool:
        if a and b and abs(log2(a) - log2(b)) > self.ctx.prec + 2:
            return False
        whole = (mpf_add if op == "add" else mpf_sub)(a._mpf_, b._mpf_)
        return bool(whole == v._mpf_)

    def powered(self, _: str, args: list[Measured]) -> Measured:
        a, b = args
        v = self.bare.pow(a.v, b.v)
        small = bool(self.ctx.isint(b.v)) and 0 <= b.v <= 1024 and a.v.bc * int(b.v) <= self.ctx.prec
        exact = a.exact and b.exact and (small or not v or v == 1)
        if v != v and a.v < 0:  # a negative base to an exponent that is surely not whole
            exact = self.sure(a, a.v) and self.sure(b, b.v - self.ctx.nint(b.v))
        return self.through(lambda xs: self.bare.pow(*xs), args, v, exact)

    def called(self, name: str, args: list[Measured]) -> Measured:
        if name == "pow":
            return self.powered(name, args)
        values, functions = [a.v for a in args], self.bare.functions
        if ends(row_of(name)):
            for a, end in zip(args, functions.ends(name, values), strict=True):
                self.note(a, a.v - end)
            if not functions.inside(name, values) and not self.surely_outside(name, args):
                return self.through(lambda xs: functions(name, xs), args, functions(name, functions.held(name, values)), False)
        if meaning_of(name) is not None and functions.inside(name, values):
            closest = self.closest
            meant = self.run(name, args)
            v, exact, self.closest = meant.v, meant.exact, closest
        else:
            v = functions(name, values)
            exact = all(a.exact for a in args) and (not v or not any(values) or any(v == x or v == -x for x in values))
            exact = exact or (v != v and not any(x != x for x in values))
        if name in _KEEP_WHOLE and all(a.exact and self.ctx.isint(a.v) for a in args) or name in _MAKE_WHOLE and args[0].exact:
            exact = True
        out = self.through(lambda xs: functions(name, xs), args, v, exact)
        if name in JUMPING:
            self.watch_jumps(name, args, out)
        return out

    def surely_outside(self, name: str, args: list[Measured]) -> bool:
        """Whether an argument lies outside the function's domain by more than is unknown of it; a NaN does."""
        values = [a.v for a in args]
        held = self.bare.functions.held(name, values)
        return any(a.v != a.v or self.sure(a, a.v - end) for a, end in zip(args, held, strict=True))

    def sure(self, a: Measured, distance: Mpf) -> bool:
        """Whether the distance of a number from something is more than what is unknown of it."""
        return bool(distance) and (a.exact or a.n == _NEVER or log2(distance) - a.n > _SLACK - self.ctx.prec)

    def through(self, f: Callable[[list[Mpf]], Mpf], args: list[Measured], v: Mpf, exact: bool) -> Measured:
        """The result ``v`` of f, with what it inherits from its arguments."""
        values = [a.v for a in args]
        return self.made(v, args, exact, [self.sensitivity(f, values, i, v) if a.n > _NEVER else _NEVER for i, a in enumerate(args)])

    def sensitivity(self, f: Callable[[list[Mpf]], Mpf], xs: list[Mpf], i: int, v: Mpf) -> float:
        """log2 of the slope of f in argument i: the steeper side, unless f jumps there."""
        ctx = self.bare.ctx
        x = xs[i]
        if not ctx.isfinite(x) or not ctx.isfinite(v):
            return _NEVER
        step = ctx.ldexp(abs(x) or ctx.one, -(ctx.prec // 3))
        sides = []
        for moved in (x + step, x - step):
            y = f([*xs[:i], moved, *xs[i + 1 :]])
            if ctx.isfinite(y):
                sides.append(abs(y - v))
        if not sides:
            return _NEVER
        jumps = max(sides) > ctx.ldexp(max(ctx.one, abs(v)), -(ctx.prec // 6))
        return log2(min(sides) if jumps else max(sides)) - log2(step)

    def reduced(self, op: str, terms: list[Measured]) -> Measured:
        bare = self.bare
        if op == "sum":
            total = self.leaf(bare.zero)
            for t in terms:
                total = self.applied("add", [total, t])
            return total
        if op == "prod":
            out = self.leaf(bare.one)
            for t in terms:
                out = self.applied("mul", [out, t])
            return out
        values = [t.v for t in terms]
        if op in ("max", "min"):
            best = first_extreme(values, 1 if op == "max" else -1)
            return self.made(bare.nan, terms, False, [_NEVER] * len(terms)) if best is None else terms[best]
        v = bare.reduce(op, values)
        lg = log2(v)
        exact = all(t.exact for t in terms) and (not v or (len(terms) == 1 and v == abs(values[0])))
        if not terms or lg == math.inf:
            return self.made(v, terms, exact, [_NEVER] * len(terms))
        if op == "norm":
            return self.made(v, terms, exact, [t.lg - lg if v else 0.0 for t in terms])
        return self.made(v, terms, exact, [log2(self.ctx.exp(t.v - v)) for t in terms], log2(max(values)))

    def decide(self, a: Measured, b: Measured) -> None:
        """Takes note of how close two numbers are of which one is to be chosen, or which are compared."""
        if max(a.lg, b.lg) == math.inf or max(a.n, b.n) == _NEVER:
            return
        distance = log2(a.v - b.v)
        if max(a.e, b.e) > _NEVER:
            self.closest = min(self.closest, distance - max(a.e, b.e))
        if a is not b and not (a.exact and b.exact):
            self.undecided |= distance - max(a.n, b.n) < _SLACK - self.ctx.prec

    def note(self, a: Measured, distance: Mpf) -> None:
        """Takes note of how close a number is to the end of a function's domain."""
        if a.e > _NEVER and self.ctx.isfinite(distance):
            self.closest = min(self.closest, log2(distance) - a.e)

    def watch_jumps(self, name: str, args: list[Measured], out: Measured) -> None:
        """Takes note of a function that jumps within a few roundings of its arguments."""
        values = [a.v for a in args]
        for i, a in enumerate(args):
            if a.e > _NEVER and math.isfinite(a.e) and a.lg < math.inf and out.lg < math.inf:
                step = self.ctx.ldexp(1, math.ceil(a.e) - self.bits + 2)
                slope = self.sensitivity(lambda xs: self.bare.functions(name, xs), values, i, out.v)
                bound = 8 * step * (self.ctx.mpf(2) ** slope if slope > _NEVER else 0)
                for moved in (a.v + step, a.v - step):
                    if not abs(self.bare.call(name, [*values[:i], moved, *values[i + 1 :]]) - out.v) <= bound:
                        self.closest = min(self.closest, -float(self.bits))


def log2(x: Mpf) -> float:
    """log2 of the size of a number; inf for NaN."""
    _, man, exp, _ = x._mpf_
    if man:
        try:
            return float(math.log2(man) + exp)
        except OverflowError:
            return math.inf if exp > 0 else -1e308
    return _NEVER if not exp else math.inf
