"""Two kinds of numbers for the oracle: bare mpf with IEEE's rules, and mpf that carry the measure of ``reference``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mpmath.libmp import mpf_add, mpf_sub

from lossdsl.runtime.primitives import HUGE, Functions, Mpf, Run, meaning_of


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
            "logsumexp": self.logsumexp, "norm": self.norm,
        }  # fmt: skip

    def leaf(self, x: Mpf) -> Mpf:
        return x

    def constant(self, x: Mpf, exact: bool) -> Mpf:
        return x

    def plain(self, x: Mpf) -> Mpf:
        return x

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
    """A number with log2 of its size, whether it is known exactly, and log2 of its largest summand and intermediate value."""

    v: Mpf
    lg: float
    exact: bool
    s: float
    n: float


_NEVER = -math.inf


class Measuring:
    """``Bare`` arithmetic on ``Measured`` numbers."""

    def __init__(self, ctx: Any, bare: Bare, run: Callable[[str, Sequence[Measured]], Measured]) -> None:
        self.ctx, self.bare, self.run = ctx, bare, run

    def leaf(self, x: Mpf) -> Measured:
        return Measured(x, log2(x), True, _NEVER, _NEVER)

    def constant(self, x: Mpf, exact: bool) -> Measured:
        lg = log2(x)
        return Measured(x, lg, exact, _NEVER, _NEVER if exact else lg)

    def plain(self, x: Measured) -> Mpf:
        return x.v

    def made(self, v: Mpf, args: Sequence[Measured], held: bool, s: float, n: float) -> Measured:
        """A result; ``held`` says whether it is exact if the arguments are.

        An infinity or NaN is known if it does not hang on a number that is not.
        """
        lg = log2(v)
        known = all(a.exact for a in args)
        if lg == math.inf:
            return Measured(v, lg, known or any(a.exact and a.lg == math.inf for a in args), _NEVER, _NEVER)
        return Measured(v, lg, known and held, s, max(s, n, lg))

    def apply(self, op: str, args: list[Measured]) -> Measured:
        a, b = args if len(args) == 2 else (args[0], args[0])
        if op == "neg":
            return Measured(-a.v, a.lg, a.exact, a.s, a.n)
        v = self.bare.ops[op](a.v, b.v)
        match op:
            case "add" | "sub":
                held = a.exact and b.exact and self.added_exactly(op, a.v, b.v, v)
                return self.made(v, args, held, max(a.s, b.s, a.lg, b.lg), max(a.n, b.n))
            case "mul":
                if any(x.exact and not x.v for x in args) and not v:
                    return self.leaf(v)
                held = a.v.bc + b.v.bc <= self.ctx.prec
                return self.made(v, args, held, max(scaled(a.s, b.lg), scaled(b.s, a.lg)), max(scaled(a.n, b.lg), scaled(b.n, a.lg)))
            case "div":
                if a.exact and not a.v and not v:
                    return self.leaf(v)
                lg = log2(v) - b.lg
                held = v.bc + b.v.bc <= self.ctx.prec and bool(v * b.v == a.v)
                return self.made(v, args, held, max(scaled(a.s, -b.lg), scaled(b.s, lg)), max(scaled(a.n, -b.lg), scaled(b.n, lg)))
        held = bool(self.ctx.isint(b.v)) and 0 <= b.v <= 1024 and a.v.bc * int(b.v) <= self.ctx.prec
        return self.through(lambda xs: self.bare.pow(*xs), args, v, held or not v or v == 1)

    def added_exactly(self, op: str, a: Mpf, b: Mpf, v: Mpf) -> bool:
        if a and b and abs(log2(a) - log2(b)) > self.ctx.prec + 2:
            return False
        whole = (mpf_add if op == "add" else mpf_sub)(a._mpf_, b._mpf_)
        return bool(whole == v._mpf_)

    def call(self, name: str, args: list[Measured]) -> Measured:
        values = [a.v for a in args]
        v = self.bare.call(name, values)
        held = any(v == x or v == -x for x in values) or not any(values) or (not v and self.vanishes(name, args))
        return self.through(lambda xs: self.bare.call(name, xs), args, v, held)

    def vanishes(self, name: str, args: list[Measured]) -> bool:
        """Whether a 0 that a function gives is one: what mpmath has a function for is, else its meaning tells."""
        return name == "pow" or meaning_of(name) is None or self.run(name, args).exact

    def through(self, f: Callable[[list[Mpf]], Mpf], args: list[Measured], v: Mpf, held: bool) -> Measured:
        """The result ``v`` of f, with what it inherits from its arguments."""
        s = n = _NEVER
        values = [a.v for a in args]
        for i, a in enumerate(args):
            if a.n > _NEVER:
                slope = self.sensitivity(f, values, i, v)
                s, n = max(s, scaled(a.s, slope)), max(n, scaled(a.n, slope))
        return self.made(v, args, held, s, n)

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

    def reduce(self, op: str, terms: list[Measured]) -> Measured:
        bare = self.bare
        if op == "sum":
            total = self.constant(bare.zero, True)
            for t in terms:
                total = self.apply("add", [total, t])
            return total
        if op in ("max", "min"):
            best = first_extreme([t.v for t in terms], 1 if op == "max" else -1)
            return self.made(bare.nan, terms, True, _NEVER, _NEVER) if best is None else terms[best]
        values = [t.v for t in terms]
        v = bare.reduce(op, values)
        lg = log2(v)
        if not terms or lg == math.inf:
            return self.made(v, terms, True, _NEVER, _NEVER)
        if op == "norm":
            slopes = [t.lg - lg if v else 0.0 for t in terms]
            own = _NEVER
        else:
            slopes = [log2(self.ctx.exp(t.v - v)) for t in terms]
            own = log2(max(values))
        s = max(own, *(scaled(t.s, d) for t, d in zip(terms, slopes, strict=True)))
        n = max(own, *(scaled(t.n, d) for t, d in zip(terms, slopes, strict=True)))
        return self.made(v, terms, not v or (len(terms) == 1 and v == abs(values[0])), s, n)


def log2(x: Mpf) -> float:
    """log2 of the size of a number; inf for NaN."""
    _, man, exp, _ = x._mpf_
    if man:
        try:
            return float(math.log2(man) + exp)
        except OverflowError:
            return math.inf if exp > 0 else -1e308
    return _NEVER if not exp else math.inf


def scaled(unit: float, by: float) -> float:
    return _NEVER if unit == _NEVER or by == _NEVER else unit + by
