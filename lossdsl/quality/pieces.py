"""Conditions of a ``piecewise`` on the number line: which branches are reached, where none holds, where the value jumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from math import ceil, floor, inf

from lossdsl.ir.expr import NAN, Expr, branches, postorder, references, sub
from lossdsl.ir.ranges import Reach, meet
from lossdsl.kinds import Bound, Interval
from lossdsl.quality.subject import Point, Subject, holds

Key = tuple[Expr, Expr | None]  # what is compared with numbers, or the two that are compared with each other

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_STEP = Fraction(1, 10**6)
_MOST = 8  # numbers that conditions look at, and points at which they change


@dataclass(frozen=True, slots=True)
class Cell:
    """A stretch of the number line on which no condition changes, and a number on it."""

    interval: Interval
    sample: Fraction


def unreached(s: Subject, conditions: Sequence[Expr]) -> set[int]:
    """The branches whose conditions hold only where an earlier one does."""
    out = {k for k, c in enumerate(conditions) if c in conditions[:k]}
    for key in _keys(conditions)[:_MOST]:
        reached: set[int] = set()
        possible: set[int] = set()
        for cell in _cells(s, key, conditions):
            for k, condition in enumerate(conditions):
                truth = _truth(condition, key, cell)
                if truth is not False:
                    possible.add(k)
                    reached.add(k)
                if truth:
                    possible |= {j for j in range(k + 1, len(conditions)) if _truth(conditions[j], key, cell) is not False}
                    break
        out |= possible - reached
    return out


def gap(s: Subject, conditions: Sequence[Expr]) -> tuple[Key, Cell] | None:
    """Where surely none of the conditions holds, if they all look at one number."""
    keys = _keys(conditions)
    if len(keys) != 1:
        return None
    (key,) = keys
    for cell in _cells(s, key, conditions):
        if all(_truth(c, key, cell) is False for c in conditions):
            return key, cell
    return None


# -- the number line --------------------------------------------------------------------------------------------------


def _atoms(conditions: Sequence[Expr]) -> Iterator[Expr]:
    stack = [*conditions][::-1]
    while stack:
        c = stack.pop()
        if c.op in ("and", "or", "not"):
            stack += reversed(c.args)
        elif c.op == "cmp":
            yield c


def _read(atom: Expr) -> tuple[Key, str, Fraction]:
    """What a comparison looks at, how, and the number that it compares with."""
    a, b = atom.args
    if b.op == "num":
        return (a, None), atom.data, b.data
    if a.op == "num":
        return (b, None), _FLIPPED[atom.data], a.data
    return (a, b), atom.data, Fraction(0)


def _turned(key: Key) -> Key:
    return (key[1], key[0]) if key[1] is not None else key


def _keys(conditions: Sequence[Expr]) -> list[Key]:
    out: list[Key] = []
    for atom in _atoms(conditions):
        key = _read(atom)[0]
        if key not in out and _turned(key) not in out:
            out.append(key)
    return out


def _cells(s: Subject, key: Key, conditions: Sequence[Expr]) -> list[Cell]:
    """The stretches between the numbers that are compared with, where there are values."""
    read = [_read(a) for a in _atoms(conditions)]
    ends = sorted({-t if k != key else t for k, _, t in read if key in (k, _turned(k))})
    reach = s.ranges.reach(key[0] if key[1] is None else sub(key[0], key[1]))
    out: list[Cell] = []
    bounds: list[Bound] = [-inf, *ends, inf]
    for k, (low, high) in enumerate(pairwise(bounds)):
        if k:
            out.append(Cell(Interval(low, low, False, False), Fraction(low)))
        out.append(Cell(Interval(low, high), _between(low, high)))
    return [c for c in out if _has_values(c.interval, reach)]


def _between(low: Bound, high: Bound) -> Fraction:
    if isinstance(low, Fraction) and isinstance(high, Fraction):
        return (low + high) / 2
    return low + 1 if isinstance(low, Fraction) else high - 1 if isinstance(high, Fraction) else Fraction(0)


def _has_values(i: Interval, reach: Reach) -> bool:
    both = meet(i, reach.interval)
    if both.low > both.high or (both.low == both.high and (both.low_open or both.high_open)):
        return False
    if both.low == both.high == 0:
        return reach.zero
    if not reach.whole or inf in (-both.low, both.high):
        return True
    low, high = ceil(both.low), floor(both.high)
    low += both.low_open and low == both.low
    high -= both.high_open and high == both.high
    return low < high or (low == high and (low != 0 or reach.zero))


def _truth(condition: Expr, key: Key, cell: Cell) -> bool | None:
    """Whether a condition holds on a stretch; None if that depends on other numbers."""
    match condition.op:
        case "bool":
            return bool(condition.data)
        case "cmp":
            found, op, t = _read(condition)
            if found not in (key, _turned(key)):
                return None
            if found != key:
                op = _FLIPPED[op]
            x = cell.sample
            return {"<": x < t, "<=": x <= t, ">": x > t, ">=": x >= t, "==": x == t, "!=": x != t}[op]
        case "not":
            inner = _truth(condition.args[0], key, cell)
            return None if inner is None else not inner
        case "and" | "or":
            parts = [_truth(c, key, cell) for c in condition.args]
            decisive = condition.op == "or"
            return decisive if decisive in parts else None if None in parts else not decisive
    return None


# -- jumps ------------------------------------------------------------------------------------------------------------


def jump(s: Subject, pieces: Expr) -> tuple[int, Point, Interval, Interval] | None:
    """A branch at whose end the whole value surely jumps, a point where it does, and the values on both sides.

    It jumps at most of the hyper-parameters that were tried: some may not go together, and nobody has said so.
    """
    pairs, other = branches(pieces)
    values = [*(v for v, _ in pairs), *([] if other is NAN else [other])]
    for k, (_, condition) in enumerate(pairs):
        if condition.op == "cmp" and condition.data not in ("==", "!="):
            for name in s.wrt:
                met: dict[tuple[Fraction, ...], tuple[Point, Interval, Interval] | None] = {}
                for point in _ends(s, condition, name):
                    sides = _sides(s, pieces, pairs, values, name, point)
                    if sides is not None:
                        key = tuple(point[p.name] for p in s.program.params if p.name in point)
                        apart = sides[0].high < sides[1].low or sides[1].high < sides[0].low
                        met[key] = met.get(key) or ((point, *sides) if apart else None)
                apart_at = [x for x in met.values() if x is not None]
                if 3 * len(apart_at) > 2 * len(met):
                    return k, *apart_at[0]
    return None


def _sides(
    s: Subject, pieces: Expr, pairs: Sequence[tuple[Expr, Expr]], values: Sequence[Expr], name: str, point: Point
) -> tuple[Interval, Interval] | None:
    """The whole value at a point, by the branch that is taken on either side of it; None if that is one, or not known."""
    taken = [_taken(s, pairs, {**point, name: point[name] + step}) for step in (-_STEP, _STEP)]
    found = [_value(s, pieces, values[j], point) for j in taken if j is not None and j < len(values)]
    if taken[0] == taken[1] or len(found) < 2 or not all(map(_known, found)):
        return None
    return found[0].interval, found[1].interval


def _known(r: Reach) -> bool:
    return not (r.nan or r.empty or r.infinite)


def _ends(s: Subject, condition: Expr, name: str) -> Iterator[Point]:
    """Points at which the two sides of a comparison are equal, and are not beside it, as one input moves."""
    a, b = condition.args
    difference = sub(a, b)
    domain = s.declared[name].domain
    if name not in references([difference]) or s.declared[name].kind.integer:
        return
    for rest in islice(s.points([s.program.value], but=name), 2 * _MOST):
        for start in (0, 1, -1, 10, -10):
            g = [_exactly(s, difference, {**rest, name: Fraction(start + t)}) for t in (0, 1)]
            if g[0] is None or g[1] is None or g[0] == g[1]:
                continue
            at = start - g[0] / (g[1] - g[0])
            before, here, after = (_exactly(s, difference, {**rest, name: at + step}) for step in (-_STEP, 0, _STEP))
            crosses = here == 0 and before is not None and after is not None and before * after < 0
            if crosses and at - _STEP in domain and at + _STEP in domain:
                yield {**rest, name: at}


def _exactly(s: Subject, e: Expr, point: Point) -> Fraction | None:
    """The value at a point, if it is a known fraction."""
    r = s.at(point, [e]).reach(e)
    i = r.interval
    return i.low if i.low == i.high and isinstance(i.low, Fraction) and not r.nan else None


def _taken(s: Subject, pairs: Sequence[tuple[Expr, Expr]], point: Point) -> int | None:
    """The branch that is surely taken at a point; the number of branches if none is, None if that is not known."""
    conditions = [c for _, c in pairs]
    ranges = s.at(point, conditions)
    for k, c in enumerate(conditions):
        held = holds(c, ranges)
        if held is None:
            return None
        if held:
            return k
    return len(pairs)


def _value(s: Subject, pieces: Expr, value: Expr, point: Point) -> Reach:
    """The whole value at a point if one branch is taken."""
    root = s.program.value
    inner = s.at(point, [value]).reach(value)
    ranges = s.at(point, [root])
    ranges.assume(pieces, inner.interval)
    return ranges.reach(root) if _known(inner) else inner


def within(pieces: Expr, root: Expr) -> bool:
    """Whether a node stands in an expression as it is."""
    return any(e is pieces for e in postorder([root]))
