"""Which indices may leave their axes: linear reasoning over what brackets, guards and branches say of whole numbers.

An index that is provably inside is silent; for the others there is a warning (at run time they give NaN, never a wrap).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any

from lossdsl.ir.expr import (
    ONE,
    TRUE,
    ZERO,
    Axis,
    Expr,
    Range,
    add,
    and_,
    branches,
    call,
    cmp,
    conjuncts,
    mul,
    neg,
    not_,
    num,
    on_axis,
    outside,
    postorder,
    size,
    sub,
    total,
)  # fmt: skip
from lossdsl.ir.lengths import known
from lossdsl.ir.program import Input, Param, Program
from lossdsl.kinds import UNIT

_MOST_VISITS = 20_000
_DEPTH = 4
_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}

_NO_NAMES: Mapping[Any, str] = MappingProxyType({})
Facts = tuple[Expr, ...]  # conditions that hold where a node is evaluated


@dataclass(frozen=True, slots=True)
class World:
    """What is declared: inputs and hyper-parameters by name, and lengths of axes."""

    declared: Mapping[str, Input | Param]
    lengths: Mapping[str, Expr]

    def classes_of(self, name: str) -> str | None:
        """The axis of which an input holds classes."""
        kind = self.declared[name].kind if name in self.declared else None
        return kind.of if kind is not None and kind.role == "class" else None


@dataclass(frozen=True, slots=True)
class Escape:
    """A reading that may leave the axis: which array, the index, and the axis; ``recursion`` if the array is one."""

    name: str
    index: Expr
    axis: Axis
    recursion: bool = False


def escapes(program: Program, names: Mapping[tuple[Any, Expr], str] = _NO_NAMES) -> list[Escape]:
    """The readings whose index is not provably inside its axis. ``names`` are those of scans, by their data and bodies."""
    roots = program.roots
    world = World({i.name: i for i in program.declared}, dict(program.lengths))
    nodes = list(postorder(roots))
    doubtful = {e for e in nodes if any(not _plain(a, axis, world) for a, axis in _places(e, world))}
    if not doubtful:
        return []
    called = _called(nodes, names)
    found: dict[Escape, None] = {}
    for e, facts in _visits(roots, doubtful)[0]:
        inside = _inside if e.op == "ref" else _lies_on
        for index, axis in _places(e, world):
            if not _plain(index, axis, world) and not inside(index, axis, facts, world):
                name = e.data if e.op == "ref" else called.get(e, "a recursion")
                found[Escape(name, index, axis, e.op != "ref")] = None
    return list(found)


def _called(nodes: Sequence[Expr], names: Mapping[tuple[Any, Expr], str]) -> dict[Expr, str]:
    """The names of scans, and of their readings of themselves."""
    out: dict[Expr, str] = {}
    for e in nodes:
        name = names.get((e.data, e.args[0])) if e.op == "scan" else None
        if name is not None:
            own = [x for x in postorder(e.args[:1]) if x.op == "rec" and x.data[0] == e.data[1][0]]
            out |= dict.fromkeys((e, *own), name)
    return out


def _places(e: Expr, world: World) -> list[tuple[Expr, Axis]]:
    """The indices of a reading, each with the axis on which it should lie."""
    match e.op:
        case "ref" if (read := world.declared.get(e.data)) is not None:
            return [(a, axis) for a, (axis, _) in zip(e.args, read.kind.axes, strict=True)]
        case "rec":
            return list(zip(e.args, e.data[1], strict=True))
        case "scan":
            return [(a, b.axis) for a, b in zip(e.args[1:], e.data[1][1:], strict=True)]
    return []


def _plain(index: Expr, axis: Axis, world: World) -> bool:
    """Whether an index is inside by what it is: an index over the axis, a class of it, its argmax, an argsort at such a place."""
    if index.op == "ix":
        return bool(index.data.axis == axis)
    if index.op == "ref":
        return world.classes_of(index.data) == axis
    if index.op != "red" or index.data[0] not in _POSITIONS or index.data[1][0].axis != axis:
        return False
    return all(_plain(place, axis, world) for place in outside(index))


def surely_on(axis: Axis, index: Expr, root: Expr, e: Expr, world: World) -> bool:
    """Whether an index lies on an axis wherever ``e`` is evaluated in an expression; all as they stand there."""
    visits, complete = _visits([root], {e})
    return complete and bool(visits) and all(_lies_on(index, axis, facts, world) for _, facts in visits)


def provably(root: Expr, e: Expr, goal: Expr, world: World) -> bool:
    """Whether ``goal >= 0`` follows wherever ``e`` is evaluated in an expression; both as they stand there."""
    visits, complete = _visits([root], {e})
    return complete and bool(visits) and all(_nonnegative(goal, facts, world) for _, facts in visits)


# -- what is known at a place -----------------------------------------------------------------------------------------


def _visits(roots: Sequence[Expr], doubtful: set[Expr]) -> tuple[list[tuple[Expr, Facts]], bool]:
    """The doubtful readings, each with the conditions under which it is reached, and whether these are all."""
    above, matters = _holding(roots, doubtful), _mattering(roots, doubtful)
    found: list[tuple[Expr, Facts]] = []
    seen: set[tuple[Expr, Facts]] = set()
    stack: list[tuple[Expr, Facts]] = [(r, ()) for r in roots]
    while stack and len(seen) < _MOST_VISITS:
        e, facts = stack.pop()
        if e not in above or (e, facts) in seen:
            continue
        seen.add((e, facts))
        if e in doubtful:
            found.append((e, facts))
        stack += ((a, tuple(c for c in more if c in facts or matters(c))) for a, more in _inside_of(e, facts))
    return found, not stack


def _mattering(roots: Sequence[Expr], doubtful: set[Expr]) -> Callable[[Expr], bool]:
    """Whether a condition may tell something of an index: it is about the same numbers, or about some that others relate to them."""
    about = {c: {v for a in c.args for v, _ in _linear(a)[0]} for c in postorder(roots) if c.op == "cmp" and all(map(_whole, c.args))}
    variables = {v for e in doubtful for a in e.args for x in postorder([a]) for v in (x, *(w for w, _ in _linear(x)[0])) if _is_whole(v)}
    while more := {v for found in about.values() if not found.isdisjoint(variables) for v in found if v.op != "size"} - variables:
        variables |= more
    kept = {c for c, found in about.items() if not found.isdisjoint(variables) or all(v.op == "size" for v in found)}

    def matters(c: Expr) -> bool:
        parts = [x for a in (c.args if c.op == "not" else (c,)) for x in conjuncts(a)]
        return all(x in kept or (x.op == "cmp" and _negation(x) in kept) for x in parts)

    return matters


def _negation(c: Expr) -> Expr:
    return cmp(_NEGATED[c.data], *c.args)


def _holding(roots: Sequence[Expr], doubtful: set[Expr]) -> set[Expr]:
    out: set[Expr] = set()
    for e in postorder(roots):
        if e in doubtful or any(a in out for a in e.args):
            out.add(e)
    return out


def _inside_of(e: Expr, facts: Facts) -> list[tuple[Expr, Facts]]:
    """The arguments of a node, with what holds where each is evaluated."""
    match e.op:
        case "red":
            body, guard = e.args[:2]
            return [(guard, facts), (body, _and(facts, guard)), *((place, facts) for place in outside(e))]
        case "and":
            return [(e.args[0], facts), (e.args[1], _and(facts, e.args[0]))]
        case "or":
            return [(e.args[0], facts), (e.args[1], _and(facts, not_(e.args[0])))]
        case "pw":
            out: list[tuple[Expr, Facts]] = []
            pairs, other = branches(e)
            for value, condition in pairs:
                out += [(condition, facts), (value, _and(facts, condition))]
                facts = _and(facts, not_(condition))
            return [*out, (other, facts)]
    return [(a, facts) for a in e.args]


def _and(facts: Facts, condition: Expr) -> Facts:
    if condition is TRUE:
        return facts
    out = dict.fromkeys((*facts, *(p for c in conjuncts(condition) for p in _upright(c))))
    for c in list(out):  # where all of them but one hold, that one does not
        if c.op == "not" and c.args[0].op == "and":
            left = [x for x in conjuncts(c.args[0]) if x not in out]
            if len(left) == 1:
                out |= dict.fromkeys(_upright(not_(left[0])))
    return tuple(out)


def _upright(condition: Expr) -> list[Expr]:
    """``not a < b`` as ``a >= b``, which is the same for whole numbers; what is not one nor the other is neither."""
    if condition.op != "not":
        return [condition]
    inner = condition.args[0]
    if inner.op == "cmp":
        return [_negation(inner)]
    if inner.op == "or":
        return [p for a in inner.args for p in _upright(not_(a))]
    return [condition]


# -- proving ----------------------------------------------------------------------------------------------------------

Linear = tuple[tuple[tuple[Expr, Fraction], ...], Fraction]  # coefficients of opaque whole numbers, and a constant
Key = tuple[frozenset[tuple[Expr, Fraction]], Fraction]


def _key(f: Linear) -> Key:
    """What equal forms have in common, in whatever order."""
    return frozenset(f[0]), f[1]


def _inside(index: Expr, axis: Axis, facts: Facts, world: World) -> bool:
    """Whether ``0 <= index <= last place of the axis`` follows."""
    some = () if isinstance(axis, Range) else (cmp(">=", size(axis), ONE),)  # an axis that is read is not empty
    for case, more in _cases(index):
        known = (*some, *facts, *more)
        if isinstance(axis, str) and _plain(case, axis, world):
            continue
        if not all(_nonnegative(goal, known, world) for goal in (case, sub(_last(axis), case))):
            return False
        # there is an argsort only at the places that the order has
        if case.op == "red" and case.data[0] == "argsort" and not _inside(case.args[2], case.data[1][0].axis, known, world):
            return False
    return True


def _lies_on(index: Expr, axis: Axis, facts: Sequence[Expr], world: World) -> bool:
    """Whether an index lies between the first and the last position of an axis."""
    first, last = _ends(axis)
    return _nonnegative(sub(index, first), facts, world) and _nonnegative(sub(last, index), facts, world)


_POSITIONS = ("argmax", "argmin", "argsort")


def _last(axis: str | Range) -> Expr:
    """The last place of an axis, counted from 0."""
    return sub(axis.hi, axis.lo) if isinstance(axis, Range) else sub(size(axis), ONE)


def _cases(index: Expr) -> list[tuple[Expr, Facts]]:
    """The values of an index that is chosen, by piecewise, max, min or clip."""
    match index.op:
        case "pw":
            out: list[tuple[Expr, Facts]] = []
            pairs, other = branches(index)
            facts: Facts = ()
            for value, condition in pairs:
                out.append((value, _and(facts, condition)))
                facts = _and(facts, not_(condition))
            return [*out, (other, facts)] if other.op != "const" else out
        case "call" if index.data in ("max", "min"):
            a, b = index.args
            up = index.data == "max"
            return [(a, (cmp(">=" if up else "<=", a, b),)), (b, (cmp(">=" if up else "<=", b, a),))]
        case "call" if index.data == "clip":
            x, low, high = index.args
            return [(x, (cmp("<=", low, x), cmp("<=", x, high))), (low, (cmp("<", x, low),)), (high, (cmp("<", high, x),))]
    return [(index, ())]


def _nonnegative(goal: Expr, facts: Sequence[Expr], world: World) -> bool:
    """Whether ``goal >= 0`` is a sum of known nonnegative numbers."""
    targets = (_linear(goal), _unrounded(_linear(goal)))
    known = [f for c in facts for f in _facts(c)]
    unequal = [_linear(sub(*c.args)) for c in facts if c.op == "cmp" and c.data == "!="]
    variables = {v for f in (*targets, *known) for v, _ in f[0]}
    known += [f for v in variables for f in _of_variable(v, world)]
    found = {_key(f): f for f in known}
    for f in unequal:  # an index that is not 0 is 1 or more
        for g in (f, _scaled(f, Fraction(-1))):
            if _key(g) in found:
                more = _plus(g, ((), Fraction(-1)))
                found[_key(more)] = more
    known = list(found.values())
    tried: dict[Key, int] = {}
    return any(_search(target, known, _DEPTH, tried) for target in dict.fromkeys(targets))


def _unrounded(target: Linear) -> Linear:
    """A target in which no rounded number is left: for whole m, ``floor(u) + m`` is not negative if ``u + m`` is not."""
    coefficients, constant = target
    for v, c in coefficients:
        rest = tuple((w, d) for w, d in coefficients if w is not v)
        whole = constant.denominator == 1 and all(_is_whole(w) and d.denominator == 1 for w, d in rest)
        if v.op == "call" and v.data in ("floor", "ceil") and abs(c) == 1 and whole:
            return _unrounded(_plus((rest, constant), _scaled(_linear(v.args[0]), c)))
    return target


def _search(target: Linear, known: Sequence[Linear], depth: int, tried: dict[Key, int]) -> bool:
    """Whether the target is a nonnegative constant plus multiples of known ones, at most ``depth`` of them."""
    coefficients, constant = target
    if not coefficients:
        return constant >= 0
    if tried.get(_key(target), 0) >= depth:
        return False
    tried[_key(target)] = depth
    variable, c = coefficients[0]
    for f in known:
        theirs = next((d for v, d in f[0] if v is variable), None)
        if theirs is not None and (theirs > 0) == (c > 0) and _search(_plus(target, _scaled(f, -c / theirs)), known, depth - 1, tried):
            return True
    return False


@lru_cache(maxsize=1 << 12)
def _facts(condition: Expr) -> Sequence[Linear]:
    """A comparison of whole numbers as numbers that are not negative."""
    if condition.op != "cmp" or not all(_whole(a) for a in condition.args):
        return []
    a, b = (_linear(x) for x in condition.args)
    low, high = _plus(b, _scaled(a, Fraction(-1))), _plus(a, _scaled(b, Fraction(-1)))
    one: Linear = ((), Fraction(-1))
    return {"<": [_plus(low, one)], "<=": [low], ">": [_plus(high, one)], ">=": [high], "==": [low, high], "!=": []}[condition.data]


def _whole(e: Expr) -> bool:
    """Whether an expression is linear in indices, sizes, hyper-parameters, .., so a whole number where it stands on an axis."""
    return all(_is_whole(v) for v, _ in _linear(e)[0])


def _is_whole(v: Expr) -> bool:
    return v.op in ("ix", "size", "ref") or (v.op == "call" and v.data in ("floor", "ceil")) or (v.op == "red" and v.data[0] in _POSITIONS)


def _of_variable(v: Expr, world: World) -> list[Linear]:
    """What is known of an opaque whole number: an index is on its axis, an axis that is read is not empty."""
    one = Fraction(1)
    if v.op == "size":
        length = [world.lengths[v.data]] if v.data in world.lengths else []
        return [(((v, one),), -one), *(_linear(f) for n in length for f in (sub(v, n), sub(n, v)))]
    if v.op == "ix":
        return _on(v, v.data.axis)
    if v.op == "ref" and (of := world.classes_of(v.data)) is not None:
        return _on(v, of)
    if v.op == "ref" and v.data in world.declared:
        domain = world.declared[v.data].domain
        low = [(((v, one),), -Fraction(domain.low))] if isfinite(domain.low) else []
        return [*low, (((v, -one),), Fraction(domain.high))] if isfinite(domain.high) else [*low]
    if v.op == "mul":
        return _of_share(v, world)
    if v.op == "red" and v.data[0] in _POSITIONS:
        return _on(v, v.data[1][0].axis)
    return []


def _of_share(v: Expr, world: World) -> list[Linear]:
    """A number between 0 and 1 times one that is not negative lies between 0 and that."""
    for share, whole in (v.args, v.args[::-1]):
        known = world.declared.get(share.data) if share.op == "ref" else None
        if known is not None and known.domain.within(UNIT) and _nonnegative(whole, (), world):
            return [(((v, Fraction(1)),), Fraction(0)), _linear(sub(whole, v))]
    return []


def _on(v: Expr, axis: Axis) -> list[Linear]:
    """That a position lies on its axis."""
    low, high = _ends(axis)
    return [_linear(sub(v, low)), _linear(sub(high, v))]


def _ends(axis: Axis) -> tuple[Expr, Expr]:
    """The first and the last position."""
    return (axis.lo, axis.hi) if isinstance(axis, Range) else (ZERO, sub(size(axis), ONE))


# -- extremes ---------------------------------------------------------------------------------------------------------


def extreme(e: Expr, world: World, *, up: bool) -> Expr | None:
    """The largest (``up``) or smallest value that a whole number may have, whatever its indices and classes are.

    It is linear in them, under ``max`` and ``min`` too; None where it is not, or where other data moves it.
    """
    linear = _extreme(e, world, up)
    return None if linear is None else _built(linear)


def still_open(at: Expr, axis: Axis) -> Expr:
    """What has to hold for a place to be on an axis, but for what holds whatever the lengths are."""
    return and_(*(c for c in conjuncts(on_axis(at, axis)) if not _certain(c)))


def _certain(c: Expr) -> bool:
    a, b = c.args
    gap = constant(sub(b, a) if c.data in ("<", "<=") else sub(a, b))
    return gap is not None and (gap > 0 or (gap == 0 and c.data in ("<=", ">=")))


def neat(e: Expr) -> Expr:
    """A whole number with its terms put together, so that equal ones are written alike: ``2*size(n) - 1``."""
    return _built(_linear(e))


def constant(e: Expr) -> Fraction | None:
    """The value of a number that nothing moves, however it is written."""
    coefficients, value = _linear(e)
    return None if coefficients else value


def _extreme(e: Expr, world: World, up: bool) -> Linear | None:
    coefficients, constant = _linear(e)
    out: Linear = ((), constant)
    for v, c in coefficients:
        part = _extreme_of(v, world, up == (c > 0))
        if part is None:
            return None
        out = _plus(out, _scaled(part, c))
    return out


def _extreme_of(v: Expr, world: World, up: bool) -> Linear | None:
    """The extreme of what is not further taken apart."""
    if v.op == "ix":
        return _linear(_ends(v.data.axis)[up])
    if v.op == "ref" and (of := world.classes_of(v.data)) is not None:
        return _linear(_ends(of)[up])
    if v.op == "call" and v.data in ("max", "min") and not known(v, _params(world)):
        parts = [_extreme(a, world, up) for a in v.args]
        built = [_built(p) for p in parts if p is not None]
        return _linear(call(v.data, *built)) if len(built) == len(parts) else None
    return (((v, Fraction(1)),), Fraction(0)) if known(v, _params(world)) else None


def _params(world: World) -> frozenset[str]:
    return frozenset(name for name, x in world.declared.items() if isinstance(x, Param))


def _built(linear: Linear) -> Expr:
    """A linear form as an expression, the constant last."""
    coefficients, constant = linear
    ordered = sorted(coefficients, key=lambda term: term[1] < 0)
    out = total(v if c == 1 else mul(num(c), v) if c > 0 else neg(mul(num(-c), v)) for v, c in ordered)
    return add(out, num(constant)) if constant >= 0 else sub(out, num(-constant))


@lru_cache(maxsize=1 << 12)
def _linear(e: Expr) -> Linear:
    """Coefficients of what is not further taken apart, in a fixed order."""
    out: dict[Expr, Fraction] = {}
    constant = Fraction(0)
    stack: list[tuple[Expr, Fraction]] = [(e, Fraction(1))]
    while stack:
        x, c = stack.pop()
        match x.op:
            case "num":
                constant += c * x.data
            case "add":
                stack += [(x.args[1], c), (x.args[0], c)]
            case "sub":
                stack += [(x.args[1], -c), (x.args[0], c)]
            case "neg":
                stack.append((x.args[0], -c))
            case "mul" if x.args[0].op == "num":
                stack.append((x.args[1], c * x.args[0].data))
            case "mul" if x.args[1].op == "num":
                stack.append((x.args[0], c * x.args[1].data))
            case "div" if x.args[1].op == "num" and x.args[1].data:
                stack.append((x.args[0], c / x.args[1].data))
            case _:
                out[x] = out.get(x, Fraction(0)) + c
    return _tidy(out), constant


def _tidy(coefficients: Mapping[Expr, Fraction]) -> tuple[tuple[Expr, Fraction], ...]:
    return tuple((v, c) for v, c in coefficients.items() if c)


def _plus(a: Linear, b: Linear) -> Linear:
    out = dict(a[0])
    for v, c in b[0]:
        out[v] = out.get(v, Fraction(0)) + c
    return _tidy(out), a[1] + b[1]


def _scaled(a: Linear, factor: Fraction) -> Linear:
    return tuple((v, c * factor) for v, c in a[0]), a[1] * factor
