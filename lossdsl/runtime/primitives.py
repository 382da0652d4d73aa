"""The rows of ``functions`` as mpmath functions: domains, NaN and values too large to hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

from lossdsl.errors import LossError, did_you_mean
from lossdsl.functions import FUNCTIONS, Row
from lossdsl.ir import rows
from lossdsl.ir.expr import Expr, ref
from lossdsl.kinds import Interval

Mpf = Any  # an mpf of the evaluation's own context
Run = Callable[[str, Sequence[Mpf]], Mpf]  # the meaning of the row of a name at given arguments

# The exponent of a result grows with the argument itself: beyond this many bits of it the argument counts as infinite.
HUGE = 20_000
LARGEST_COUNT = 10_000
# Functions of mpmath that take minutes at thousands of digits.
_SLOW = ("mp.loggamma", "mp.digamma", "mp.psi", "mp.zeta")
_GROWING = ("exp", "expm1", "sinh", "cosh", "tanh", "erf", "erfc", "sin", "cos", "tan")


class Bounded:
    """A context whose growing functions take an argument of astronomic size as infinite; else the context itself."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        for name in _GROWING:
            setattr(self, name, self._bounded(getattr(ctx, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def _bounded(self, f: Callable[[Mpf], Mpf]) -> Callable[[Mpf], Mpf]:
        ctx = self._ctx

        def g(x: Mpf) -> Mpf:
            if ctx.isfinite(x) and x and ctx.mag(x) > HUGE:
                x = ctx.inf if x > 0 else -ctx.inf
            return ctx.nan if ctx.isinf(x) and f in (ctx.sin, ctx.cos, ctx.tan) else f(x)

        return g


@cache
def spelled(name: str) -> Callable[..., Mpf]:
    """The function that a row's own mpmath text spells, of the context and the arguments."""
    row = FUNCTIONS[name]
    text = row.spell["mpmath"].format(**{a: a for a in row.args})
    function: Callable[..., Mpf] = eval(f"lambda mp, {', '.join(row.args)}: {text}", {})  # the table's text, never a user's
    return function


def row_of(name: str) -> Row:
    row = FUNCTIONS.get(name)
    if row is None:
        raise LossError(f"there is no function {name!r}", hint=did_you_mean(name, FUNCTIONS))
    return row


@cache
def meaning_of(name: str) -> Expr | None:
    """A row's meaning over references to its arguments, None if the row spells an mpmath function."""
    row = row_of(name)
    if "mpmath" in row.spell:
        return None
    meaning = rows.meaning(name, [ref(a) for a in row.args])
    assert meaning is not None, f"{name} has neither an mpmath text nor a meaning"
    return meaning


def ends(row: Row) -> bool:
    """Whether the domain ends at a finite number."""
    return any(not isinstance(x, float) for d in row.domain for x in (d.low, d.high))


def slow(name: str) -> bool:
    """Whether thousands of digits of a function are out of reach."""
    return name in FUNCTIONS and any(f in FUNCTIONS[name].spell.get("mpmath", "") for f in _SLOW)


class Functions:
    """Calls of rows by name, in one context."""

    def __init__(self, ctx: Any, run: Run) -> None:
        self.ctx, self.bounded, self.run = ctx, Bounded(ctx), run

    def __call__(self, name: str, args: Sequence[Mpf]) -> Mpf:
        row = row_of(name)
        if row.variadic and len(args) > 2:
            return reduce(lambda a, b: self(name, [a, b]), args)
        if len(args) != row.arity:
            raise LossError(f"{name} takes {row.arity} arguments, and is called with {len(args)}")
        return self.value(row, args) if self.inside(name, args) else self.ctx.nan

    def inside(self, name: str, args: Sequence[Mpf]) -> bool:
        """Whether all arguments are numbers of the function's domain."""
        return all(x == x and contains(d, x) for x, d in self.domains(name, args)) and self.whole(FUNCTIONS[name], args)

    def ends(self, name: str, args: Sequence[Mpf]) -> list[Mpf]:
        """The end of its domain that each argument is nearest to."""
        return [min((end(d.low, x), end(d.high, x)), key=lambda e: abs(x - e)) for x, d in self.domains(name, args)]

    def held(self, name: str, args: Sequence[Mpf]) -> list[Mpf]:
        """The arguments, those outside their domain moved to its nearest end."""
        nearest = zip(self.domains(name, args), self.ends(name, args), strict=True)
        return [x if x != x or contains(d, x) else near for (x, d), near in nearest]

    def domains(self, name: str, args: Sequence[Mpf]) -> list[tuple[Mpf, Interval]]:
        domain = FUNCTIONS[name].domain
        return [(x, domain[min(i, len(domain) - 1)]) for i, x in enumerate(args)]

    def whole(self, row: Row, args: Sequence[Mpf]) -> bool:
        """Whether the arguments that must be whole are; their size is bounded, as the work grows with it."""
        counts = [x for x, name in zip(args, row.args, strict=True) if name in row.integer]
        if any(abs(x) > LARGEST_COUNT for x in counts if self.ctx.isint(x)):
            raise LossError(f"{row.name} of an order above {LARGEST_COUNT} is beyond the reference")
        return all(self.ctx.isint(x) for x in counts)

    def value(self, row: Row, args: Sequence[Mpf]) -> Mpf:
        if meaning_of(row.name) is not None:
            return self.run(row.name, args)
        try:
            out = spelled(row.name)(self.bounded, *args)
        except (ArithmeticError, ValueError, self.ctx.NoConvergence) as error:
            raise LossError(f"mpmath cannot evaluate {row.name}({', '.join(self.ctx.nstr(x, 20) for x in args)}): {error}") from error
        if hasattr(out, "_mpc_"):
            raise LossError(f"the mpmath text of {row.name} gives a complex number at {', '.join(self.ctx.nstr(x, 20) for x in args)}")
        return out if hasattr(out, "_mpf_") else self.ctx.mpf(out)


def contains(interval: Interval, x: Mpf) -> bool:
    """Whether a number of any precision lies in an interval, by exact comparison."""
    low, high = interval.low, interval.high
    above = x > end(low, x) if interval.low_open else x >= end(low, x)
    return bool(above and (x < end(high, x) if interval.high_open else x <= end(high, x)))


def end(bound: Any, x: Mpf) -> Any:
    ctx = x.context
    return ctx.mpf(bound) if isinstance(bound, float) else ctx.mpf(bound.numerator) / bound.denominator
