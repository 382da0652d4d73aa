"""How a recursion is printed: a loop over the positions of an axis, whose body computes with what the other axes hold at once.

The entries go into a list, the last one last, so that what lies c steps back is the c-th from its end, in either direction. The
list begins with as many NaN as the longest step, for what lies outside of the axis. What the body reads of other arrays at the
position of the loop is taken apart before it; readings at computed positions are of an array of all entries that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lossdsl.ir.expr import ZERO, Axis, Expr, Index, Range, postorder
from lossdsl.schedule import Loop, in_loop


@dataclass(slots=True)
class Open:
    """The loop that is being printed: its variables, and what stands around it.

    ``rows`` is the list of entries, ``step`` the position, counted from 0, ``at`` the value of the index there; ``past`` is the
    array of all entries, if something reads it.
    """

    loop: Loop
    rows: str
    step: str
    at: str
    outer: tuple[list[str], dict[str, str]]
    back: int = 1
    past: str | None = None
    inner: set[str] = field(default_factory=set)  # names of the stages in the loop

    @property
    def along(self) -> Axis:
        return self.loop.indices[0].axis

    def steps(self, place: Expr) -> int | None:
        """How many steps back a place along the loop is, if that is a number."""
        if place.op in ("add", "sub"):
            a, b = place.args
            if place.op == "add" and a.op == "num":
                a, b = b, a
            if a.op == "ix" and a.data == self.loop.at and b.op == "num" and b.data.denominator == 1:
                back = (int(b.data) if place.op == "sub" else -int(b.data)) * self.loop.step
                return back if back > 0 else None
        return None


def decided(e: Expr) -> bool:
    """Whether a condition is one of numbers that Python knows when the loop is there: positions along it and lengths."""
    allowed = ("ix", "num", "size", "bool", "add", "sub", "mul", "neg", "cmp", "and", "or", "not")
    return all(x.op in allowed and (x.op != "ix" or in_loop(x.data)) for x in postorder((e,)))


def first_of(axis: Axis) -> Expr:
    """The first position of an axis."""
    return axis.lo if isinstance(axis, Range) else ZERO


def without(indices: Sequence[Index], k: int) -> tuple[Index, ...]:
    return (*indices[:k], *indices[k + 1 :])
