"""The kinds of inputs and hyper-parameters: a domain, and whether the values are numbers, labels or conditions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf

Bound = Fraction | float  # a float only for -inf and inf


@dataclass(frozen=True, slots=True)
class Interval:
    """A real interval; ``low_open`` and ``high_open`` leave the end out."""

    low: Bound = -inf
    high: Bound = inf
    low_open: bool = True
    high_open: bool = True

    def __contains__(self, x: Fraction | float) -> bool:
        above = x > self.low if self.low_open else x >= self.low
        return above and (x < self.high if self.high_open else x <= self.high)

    def within(self, other: Interval) -> bool:
        """Whether every point of this interval lies in the other."""
        low = self.low > other.low or (self.low == other.low and (self.low_open or not other.low_open))
        high = self.high < other.high or (self.high == other.high and (self.high_open or not other.high_open))
        return low and high

    def __str__(self) -> str:
        return f"{'(' if self.low_open else '['}{self.low}, {self.high}{')' if self.high_open else ']'}"


REAL = Interval()
POSITIVE = Interval(Fraction(0), inf, True, True)
NONNEGATIVE = Interval(Fraction(0), inf, False, True)
UNIT = Interval(Fraction(0), Fraction(1), False, False)


@dataclass(frozen=True, slots=True)
class Row:
    """One named kind: its domain, whether its values are integers, and how it may be used.

    ``role`` is ``number`` (arithmetic), ``class`` (an integer that indexes an axis), ``label`` (an integer that is only
    compared) or ``condition``.
    """

    domain: Interval
    integer: bool = False
    role: str = "number"
    doc: str = ""


KINDS: dict[str, Row] = {
    "real": Row(REAL, doc="any number"),
    "positive": Row(POSITIVE, doc="above 0"),
    "nonnegative": Row(NONNEGATIVE, doc="0 or above"),
    "unit": Row(UNIT, doc="in [0, 1]"),
    "prob": Row(Interval(Fraction(0), Fraction(1), True, True), doc="in (0, 1)"),
    "logit": Row(Interval(-inf, inf, False, True), doc="any number, or -inf"),
    "logprob": Row(Interval(-inf, Fraction(0), False, False), doc="0 or below, or -inf"),
    "sign": Row(Interval(Fraction(-1), Fraction(1), False, False), True, doc="-1 or 1"),
    "binary": Row(UNIT, True, doc="0 or 1, a number"),
    "bool": Row(UNIT, True, "condition", doc="a condition"),
    "integer": Row(REAL, True, doc="a whole number"),
    "simplex": Row(UNIT, doc="nonnegative numbers that sum to 1 along an axis"),
    "class": Row(NONNEGATIVE, True, "class", doc="an integer that indexes an axis"),
    "label": Row(REAL, True, "label", doc="an integer that is only compared"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of one input: its name, axes and domain.

    ``axes`` lists (axis, index name) pairs in declared order: ``real[n, d]`` has ``(("n", "n"), ("d", "d"))`` and
    ``R: binary[i, j in i]`` has ``(("i", "i"), ("i", "j"))``. ``of`` is the axis of ``class(k)``, and the index name along
    which a ``simplex(k)`` sums; ``interval`` the domain where one is written (``real in (0, 1]``); ``ignore`` the class that
    is left out. ``dims`` says how many axes each dimension of the array holds, where a dimension is a product of axes:
    ``real[d, (k, s)]`` has ``(1, 2)``.
    """

    name: str = "real"
    axes: tuple[tuple[str, str], ...] = ()
    of: str | None = None
    interval: Interval | None = None
    ignore: int | None = None
    dims: tuple[int, ...] = ()

    @property
    def row(self) -> Row:
        return KINDS[self.name]

    @property
    def domain(self) -> Interval:
        return self.interval or self.row.domain

    @property
    def integer(self) -> bool:
        return self.row.integer

    @property
    def root(self) -> str | None:
        """The axis that ``of`` names."""
        return next((axis for axis, name in self.axes if name == self.of), self.of) if self.name == "simplex" else self.of

    @property
    def along(self) -> int:
        """The place among the axes of the one along which a simplex sums."""
        return [name for _, name in self.axes].index(str(self.of))

    @property
    def dimensions(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The axes that each dimension of the array holds, the first of them slowest."""
        if not self.dims:
            return tuple((pair,) for pair in self.axes)
        left = iter(self.axes)
        return tuple(tuple(next(left) for _ in range(n)) for n in self.dims)

    @property
    def role(self) -> str:
        return self.row.role


@dataclass(frozen=True, slots=True)
class FunctionKind:
    """The kind of a function: of its arguments and of what it gives, ``(real[d]) -> real``; axes are those of the definition."""

    arguments: tuple[Kind, ...]
    result: Kind

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """All axes, those of the arguments first, each once."""
        return tuple(dict.fromkeys(pair for k in (*self.arguments, self.result) for pair in k.axes))
