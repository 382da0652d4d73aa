"""What expressions mean while they are lowered: a node, its sort, and what a product must remember of its factors.

A product keeps two things that its node alone does not show. Its conditions: ``(y > q)*s`` is ``s`` where ``y > q`` and 0
elsewhere, whatever ``s`` is there. And its logarithm: ``q*log(q/p)`` is 0 where ``q`` is 0. Both belong to the whole chain
of factors, through names and signs, and end at anything that is no ``*``, ``/`` or unary ``-``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lossdsl.errors import Span
from lossdsl.ir.expr import MINUS_ONE, ONE, ZERO, Axis, Expr, Index, and_, call, div, iverson, ix, mul, neg, num, pw, substitute
from lossdsl.kinds import KINDS, REAL, Interval, Kind


@dataclass(frozen=True, slots=True)
class Sort:
    """What an expression may be used for.

    ``role`` is number, condition, class, label or index; ``kind`` and ``interval`` say more of a number, ``of`` is the axis
    that a class or an index belongs to (of a simplex, the axis it sums along). ``places`` marks the integers that may stand
    in brackets: literals, indices, sizes, classes and what is computed from them, but not data.
    """

    role: str = "number"
    kind: str = "real"
    interval: Interval = REAL
    of: Axis | None = None
    integer: bool = False
    places: bool = False


NUMBER = Sort()
CONDITION = Sort("condition", "bool", integer=True)
INTEGER = Sort(integer=True, places=True)


def sort_of(kind: Kind, *, data: bool) -> Sort:
    """The sort of a declared name; ``data`` tells an input from a hyper-parameter."""
    return Sort(kind.role, kind.name, kind.domain, kind.root, kind.integer, kind.role == "class" or (kind.integer and not data))


def sort_of_range(interval: Interval) -> Sort:
    """The sort of a function's value, by the range that its row states."""
    if interval == REAL:
        return NUMBER
    named = next((n for n in ("prob", "unit", "positive", "nonnegative") if KINDS[n].domain == interval), "real")
    return Sort(kind=named, interval=interval)


class IndexName:
    """An index in sight. The axis of a head's index is found where the body first places it."""

    __slots__ = ("axis", "expr", "name", "range", "span", "used")

    def __init__(self, name: str, expr: Expr, axis: str | None, span: Span, *, ranges: bool = False) -> None:
        self.name, self.expr, self.axis, self.span, self.range, self.used = name, expr, axis, span, ranges, False


@dataclass(frozen=True, slots=True)
class Log:
    """A product that holds a logarithm: ``weight*log(args[0]/args[1])``, divided by ``over``, negated if ``negative``."""

    weight: Expr
    args: tuple[Expr, ...]
    over: tuple[Expr, ...] = ()
    negative: bool = False

    def build(self) -> Expr:
        out = call("xlogy" if len(self.args) == 1 else "xlogdiv", self.weight, *self.args)
        for divisor in self.over:
            out = div(out, divisor)
        return neg(out) if self.negative else out


@dataclass(frozen=True, slots=True)
class Term:
    """An expression. ``rest`` is the product of its factors but for the conditions ``conds``; both make up ``expr``."""

    expr: Expr
    sort: Sort = NUMBER
    conds: tuple[Expr, ...] = ()
    rest: Expr = ZERO
    log: Log | None = None
    index: IndexName | None = None

    @property
    def number(self) -> Expr:
        """The value as a number: a condition counts 1 or 0."""
        return iverson(self.expr) if self.sort.role == "condition" else self.expr

    @property
    def literal(self) -> Fraction | None:
        return self.expr.data if self.expr.op == "num" else None

    def at(self, mapping: Mapping[Index, Expr]) -> Term:
        """The term with free indices replaced."""
        if not mapping or mapping.keys().isdisjoint(self.expr.free):
            return self
        mapping = {i: e for i, e in mapping.items() if e.data != i}
        log = self.log
        parts = (self.expr, self.rest, *self.conds, *((log.weight, *log.args, *log.over) if log else ()))
        expr, rest, *more = substitute(parts, mapping)
        conds, more = more[: len(self.conds)], more[len(self.conds) :]
        if log:
            n = 1 + len(log.args)
            log = replace(log, weight=more[0], args=tuple(more[1:n]), over=tuple(more[n:]))
        return Term(expr, self.sort, tuple(conds), rest, log)

    def map(self, change: Mapping[Expr, Expr]) -> Term:
        """The term with each of its expressions looked up in ``change``."""
        log = self.log
        if log:
            log = Log(change[log.weight], tuple(change[a] for a in log.args), tuple(change[a] for a in log.over), log.negative)
        return Term(change[self.expr], self.sort, tuple(change[c] for c in self.conds), change[self.rest], log)

    def parts(self) -> tuple[Expr, ...]:
        """All expressions of the term."""
        log = self.log
        return (self.expr, self.rest, *self.conds, *((log.weight, *log.args, *log.over) if log else ()))


def value(expr: Expr, sort: Sort = NUMBER) -> Term:
    """A term that is no product."""
    return Term(expr, sort, rest=expr)


def condition(expr: Expr) -> Term:
    return Term(expr, CONDITION, (expr,), ONE)


def literal(text: str) -> Term:
    e = num(text)
    return Term(e, INTEGER if e.data.denominator == 1 else NUMBER, rest=e)


def logarithm(name: str, x: Expr) -> Term:
    """``log(x)`` and its kin, which a factor that is exactly 0 makes 0."""
    quotient = x.op == "div" and x.args[1].op != "num"
    over = () if name == "log" else (call("log", num({"log2": 2, "log10": 10}[name])),)
    e = call(name, x)
    return Term(e, NUMBER, (), e, Log(ONE, x.args if quotient else (x,), over))


LOGARITHMS = ("log", "log2", "log10")


def _chain(conds: tuple[Expr, ...], rest: Expr, log: Log | None, sort: Sort) -> Term:
    """A product of conditions and the rest, which counts only where they all hold."""
    if not conds:
        return Term(rest, sort, (), rest, log)
    both = and_(*conds)
    if rest is ONE:
        expr = iverson(both)
    elif rest is MINUS_ONE:
        expr = neg(iverson(both))
    else:
        expr = pw([(rest, both)], ZERO)
    return Term(expr, sort, conds, rest, log)


def times(a: Term, b: Term) -> Term:
    rest, log = _times(a, b)
    return _chain(a.conds + b.conds, rest, log, _whole(a, b))


def _times(a: Term, b: Term) -> tuple[Expr, Log | None]:
    """The product of the factors that are no conditions; a logarithm among them takes the others as its weight."""
    if b.log:
        log = replace(b.log, weight=mul(a.rest, b.log.weight))
        other = a.rest
    elif a.log:
        log = replace(a.log, weight=mul(a.log.weight, b.rest))
        other = b.rest
    elif a.conds and a.rest is MINUS_ONE:
        return neg(b.rest), None
    else:
        return mul(a.rest, b.rest), None
    plain = other.op == "num" and other.data != 0
    return (mul(a.rest, b.rest) if plain else log.build()), log


def over(a: Term, b: Term) -> Term:
    divisor = b.number
    log = replace(a.log, over=(*a.log.over, divisor)) if a.log else None
    return _chain(a.conds, div(a.rest, divisor), log, NUMBER)


def minus(a: Term) -> Term:
    log = replace(a.log, negative=not a.log.negative) if a.log else None
    return _chain(a.conds, neg(a.rest), log, _whole(a, a))


def _whole(a: Term, b: Term) -> Sort:
    """The sort of a sum, difference or product: whole numbers stay whole."""
    if not (a.sort.integer and b.sort.integer):
        return NUMBER
    places = (a.sort.places or a.sort.role == "condition") and (b.sort.places or b.sort.role == "condition")
    return INTEGER if places else Sort(integer=True)


def whole(a: Term, b: Term) -> Sort:
    """The sort of ``a + b``: an index shifted by a whole number, the same everywhere, stays on its axis."""
    sort = _whole(a, b)
    if sort.places:
        for x, y in ((a, b), (b, a)):
            if x.sort.role == "index" and y.sort.role == "number" and not y.expr.free:
                return x.sort
    return sort


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for an index: its name, the declared name of its axis (None while unknown), and the index that stands for it.

    What is read outside of the axis of a ``strict`` one is NaN.
    """

    name: str
    axis: str | None
    index: Index
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Array:
    """A name or an argument before it is indexed. ``slots`` are None where no positional order exists.

    ``open``: which axes it has is not known yet, as its own body is being read; an index then goes to its own axis.
    """

    term: Term
    slots: tuple[Slot, ...] | None = ()
    open: bool = False
    hint: str = field(default="", compare=False)


def own(axis: Axis, name: str) -> Expr:
    """The index of an axis that nothing binds; ``name`` is the axis' declared name, ``axis`` the one it equals."""
    return ix(Index(axis, name))


__all__ = [
    "CONDITION", "INTEGER", "LOGARITHMS", "NUMBER", "Array", "IndexName", "Log", "Slot", "Sort", "Term", "condition", "literal",
    "logarithm", "minus", "over", "own", "sort_of", "sort_of_range", "times", "value", "whole",
]  # fmt: skip
