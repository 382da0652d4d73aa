"""Locals that refer to themselves: what goes round a cycle becomes one recursion along an axis.

The locals of a cycle are read over placeholders for each other. Of every reading the *step* is known then: how far it is from
the entry that it is for, along each index of the head. A recursion needs one direction in which every reading steps back,
or none at all and no cycle is left: an axis, forwards or backwards, or a sum of multiples of indices, as on the diagonals of
a table that is filled from its corner. What does not step is written out in its place. If several locals are read at a step,
one array holds them all, with an index that says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NoReturn

from lossdsl.errors import Span, listed
from lossdsl.frontend import syntax
from lossdsl.frontend.bounds import constant, neat, provably, surely_on
from lossdsl.frontend.resolve import grouped
from lossdsl.frontend.steps import Steps
from lossdsl.frontend.values import Array, Slot, Term, condition, own, value
from lossdsl.ir.expr import (
    NAN,
    ONE,
    STATE,
    TRUE,
    ZERO,
    Axis,
    Expr,
    Index,
    Range,
    cmp,
    fresh,
    ix,
    mul,
    num,
    on_axis,
    postorder,
    pw,
    rec,
    replace_recs,
    scan,
    size,
    sub,
    substitute,
    total,
)  # fmt: skip

if TYPE_CHECKING:
    from lossdsl.frontend.lower import LocalName, Lowering

Key = tuple[Axis, int]  # an axis, and which of the indices over it
Weights = Mapping[Key, int]
_STEEPEST = 4  # multiples of an index that are tried


class Recursions:
    """The cycles among the locals of one definition."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering
        self._rings: dict[str, tuple[LocalName, ...]] | None = None
        self.names: dict[tuple[Any, Expr], str] = {}  # the local that a scan is, for messages
        self.spans: dict[Index, list[tuple[Sequence[Expr], Span]]] = {}  # for each state, at what places it is read, and where
        self.placed: dict[str, Span] = {}  # where a name without a head is read by position

    def holds(self, name: LocalName) -> bool:
        return name.local.name in self.rings

    @property
    def rings(self) -> dict[str, tuple[LocalName, ...]]:
        """For each local in a cycle the locals of the cycle."""
        if self._rings is None:
            self._rings = {}
            for ring in _rings(self.lowering):
                self._rings |= dict.fromkeys((x.local.name for x in ring), ring)
        return self._rings

    def noted(self, term: Term, span: Span) -> None:
        """Remembers where a placeholder is read."""
        for e in (term.expr, *term.expr.args[:1]):
            if e.op == "rec":
                self.spans.setdefault(e.data[0], []).append((_alike(e.args), span))

    def solved(self, name: LocalName) -> Steps[None]:
        """Gives every local of a cycle its value."""
        low = self.lowering
        members = [_Member(low, x) for x in self.rings[name.local.name]]
        busy = [f for f in low.functions.values() if f.busy]
        try:
            for f in busy:
                f.busy = False
            for m in members:
                m.name.array, m.name.used = m.placeholder, True
            for m in members:
                m.found = yield low.template(m.name.local, low.top)
        finally:
            for m in members:
                m.name.array = None
            for f in busy:
                f.busy = True
        states = frozenset(m.state for m in members)
        low.applied = {k: a for k, a in low.applied.items() if states.isdisjoint(a.term.expr.free)}
        _System(self, members).finish()
        low.check_work(name.local.span)


@dataclass(eq=False)
class _Member:
    """A local of a cycle: the placeholder that stands for it, and its body over the indices that all members share."""

    lowering: Lowering
    name: LocalName
    found: Array = field(init=False)
    body: Expr = field(init=False)
    keys: list[Key] = field(init=False)

    def __post_init__(self) -> None:
        low, local = self.lowering, self.name.local
        self.state = fresh(STATE)
        self.logical = _is_condition(local.body, low)
        slots: list[Slot] = []
        for head, axis in grouped(local.heads or (), low.axes):
            if axis is None and head.name in low.axes:
                slots.append(Slot(head.name, head.name, Index(low.axes[head.name], head.name)))
            else:
                slots.append(Slot(head.name, axis.id if axis else None, fresh(low.axes.get(axis.id, "?") if axis else "?")))
        heads = {s.name for s in slots}
        self.others = [a for a in low.axes if a not in heads]
        self.heads = len(slots)
        self.kept = list(range(self.heads))
        places = [*(ix(s.index) for s in slots), *(own(low.axes[a], a) for a in self.others)]
        reading = rec(self.state, ["?"] * len(places), places)
        term = condition(cmp("!=", reading, ZERO)) if self.logical else value(reading)
        if local.heads is None and len(self.others) > 1:
            self.placeholder = Array(term, None, open=True)
        else:
            self.placeholder = Array(term, tuple(slots) if slots else tuple(Slot(a, a, Index(low.axes[a], a)) for a in self.others))

    def over(self, axes: Sequence[str]) -> None:
        """Leaves only these of the axes that the head does not name."""
        self.kept = [*range(self.heads), *(self.heads + self.others.index(a) for a in axes)]

    @property
    def indices(self) -> list[Index]:
        """The index that stands at each place in the body as it was read."""
        slots = self.found.slots or ()
        own = [Index(self.lowering.axes[a], a) for a in self.others]
        return [i for k, i in enumerate((*(s.index for s in slots[: self.heads]), *own)) if k in self.kept]

    def axes(self) -> list[Axis]:
        """The axis of each place, as the body has told."""
        out: list[Axis] = []
        for head, slot in zip(self.name.local.heads or (), self.found.slots or (), strict=False):
            if slot.axis is None and not isinstance(slot.index.axis, Range):
                hint = f"say it in the head: [{slot.name} in {next(iter(self.lowering.axes))}]"
                self.lowering.fail(f"the axis of the index '{slot.name}' of '{self.name.local.name}' is not known", head.span, hint)
            out.append(self.lowering.axes[slot.axis] if slot.axis else slot.index.axis)
        out += [self.lowering.axes[a] for a in self.others]
        return [out[k] for k in self.kept]


class _System:
    """The equations of a cycle."""

    def __init__(self, recursions: Recursions, members: Sequence[_Member]) -> None:
        self.recursions, self.lowering, self.members = recursions, recursions.lowering, members
        self.by_state = {m.state: m for m in members}
        self.binders: dict[Key, Index] = {}
        self.find_axes()
        for m in members:
            m.keys = list(_numbered(m.axes()))
            mapping = {i: ix(self.binder(k)) for i, k in zip(m.indices, m.keys, strict=True)}
            (m.body,) = substitute((m.found.term.number,), mapping)
        self.readings = [(m, e) for m in members for e in postorder((m.body,)) if e.op == "rec" and e.data[0] in self.by_state]
        self.expanded: dict[_Member, Expr] = {}

    def find_axes(self) -> None:
        """Which axes each member has: those of its body, and of the members that it reads."""
        found = [m.found for m in self.members]
        while True:
            reads = {m.state: _restricted(m) for m in self.members}
            changed = False
            for m, array in zip(self.members, found, strict=True):
                old = array.term.parts()
                m.found = Array(array.term.map(dict(zip(old, replace_recs(old, reads), strict=True))), array.slots)
                axes = [a for a in m.others if Index(self.lowering.axes[a], a) in m.found.term.expr.free]
                before = m.kept
                m.over(axes)
                changed |= m.kept != before
            if not changed:
                return

    def binder(self, key: Key) -> Index:
        return self.binders.setdefault(key, fresh(key[0]))

    # -- the direction

    def step(self, m: _Member, e: Expr, key: Key) -> int | None:
        """How far a reading in the body of ``m`` is along an index, if that is a constant."""
        of = self.by_state[e.data[0]]
        if key not in of.keys or key not in m.keys:
            return None
        gap = constant(sub(e.args[of.keys.index(key)], ix(self.binder(key))))
        return int(gap) if gap is not None and gap.denominator == 1 else None

    def sign(self, m: _Member, e: Expr, key: Key) -> int | None:
        """Whether a reading surely is before (-1), after (1) or at the entry that it is for."""
        step = self.step(m, e, key)
        if step is not None:
            return (step > 0) - (step < 0)
        of = self.by_state[e.data[0]]
        if key not in of.keys or key not in m.keys:
            return None
        here, place = ix(self.binder(key)), e.args[of.keys.index(key)]
        for sign, gap in ((-1, sub(here, place)), (1, sub(place, here))):
            if provably(m.body, e, sub(gap, ONE), self.lowering.world):
                return sign
        return None

    def weights(self) -> Weights | None:
        """The direction in which every reading steps back, if there is one: how much of each index."""
        keys = [k for k in self.members[0].keys if all(k in m.keys for m in self.members)]
        for key in keys:
            signs = [self.sign(m, e, key) for m, e in self.readings]
            for way in (1, -1):
                if all(s is not None and s * way <= 0 for s in signs) and self.ends([s == 0 for s in signs]):
                    return {key: way}
        steps = {k: [self.step(m, e, k) for m, e in self.readings] for k in keys}
        whole = [k for k in keys if None not in steps[k] and any(steps[k])]
        for many in (2, 3):
            for chosen in combinations(whole, many):
                if found := self.slope(chosen, steps):
                    return found
        return None

    def slope(self, keys: Sequence[Key], steps: Mapping[Key, Sequence[int | None]]) -> Weights | None:
        """Small multiples of the indices whose sum steps back at every reading that steps at all."""
        vectors = list(zip(*(steps[k] for k in keys), strict=True))
        if not self.ends([not any(v) for v in vectors]):
            return None
        tries = sorted(product(range(-_STEEPEST, _STEEPEST + 1), repeat=len(keys)), key=lambda w: (sum(map(abs, w)), [-x for x in w]))
        for w in tries:
            backward = all(not any(v) or sum(a * (b or 0) for a, b in zip(w, v, strict=True)) < 0 for v in vectors)
            if all(w) and 1 in map(abs, w) and backward:
                return dict(zip(keys, w, strict=True))
        return None

    def ends(self, stays: Sequence[bool]) -> bool:
        """Whether what is read without a step leads to no cycle."""
        below: dict[_Member, set[_Member]] = {m: set() for m in self.members}
        for (m, e), stay in zip(self.readings, stays, strict=True):
            if stay:
                below[m].add(self.by_state[e.data[0]])
        while below:
            last = [m for m, of in below.items() if not of & below.keys()]
            if not last:
                return False
            for m in last:
                del below[m]
        return True

    # -- the recursion

    def finish(self) -> None:
        """Gives the members their values."""
        weights = self.weights()
        if weights is None:
            _Complaint(self).fail()
        solution = _Solution(self, weights)
        for m in self.members:
            m.name.array = self.value_of(m, solution)

    def value_of(self, m: _Member, solution: _Solution) -> Array:
        low, name = self.lowering, m.name.local.name
        slots = (m.found.slots or ())[: m.heads]
        if m in solution.states:
            indices = [Index(axis, i.tag) for i, axis in zip(m.indices, m.axes(), strict=True)]
            slots = tuple(replace(s, index=i, strict=k == solution.gone) for s, i, k in zip(slots, indices, m.keys, strict=False))
            e = solution.entry(m, [ix(i) for i in indices])
            self.recursions.names[e.data, e.args[0]] = name
            term = condition(cmp("!=", e, ZERO)) if m.logical else value(e)
        else:
            old = m.found.term.parts()
            term = m.found.term.map(dict(zip(old, replace_recs(old, solution.finals), strict=True)))
        if slots:
            return Array(term, slots)
        array = low.computed(term)
        if array.slots is None and (name in self.recursions.placed or solution.skewed):
            axes = ", ".join(str(i.tag) for i in sorted(term.expr.free, key=lambda i: list(low.axes).index(str(i.tag))))
            hint = f"give it a head: {name}[{axes}] = .."
            low.fail(f"'{name}' has several axes and no head that orders them", self.recursions.placed.get(name, m.name.local.span), hint)
        return array

    def expand(self, m: _Member, stays: Callable[[_Member, Sequence[Expr]], bool]) -> Expr:
        """The body with all that is read without a step written out."""
        if m not in self.expanded:
            reads = {of.state: self.written_out(of, stays) for of in self.members}
            (self.expanded[m],) = replace_recs((m.body,), reads)
        return self.expanded[m]

    def written_out(self, of: _Member, stays: Callable[[_Member, Sequence[Expr]], bool]) -> Callable[[Sequence[Expr]], Expr]:
        def read(places: Sequence[Expr]) -> Expr:
            if not stays(of, places):
                return rec(of.state, ["?"] * len(places), places)
            mapping = {self.binder(k): p for k, p in zip(of.keys, places, strict=True)}
            return substitute((self.expand(of, stays),), mapping)[0]

        return read


class _Solution:
    """The one recursion of a cycle: along which direction, over which further indices, and of which members."""

    def __init__(self, system: _System, weights: Weights) -> None:
        self.system, self.weights = system, weights
        read = [(system.by_state[e.data[0]], e) for _, e in system.readings]
        stepped = {of for of, e in read if not self.stays(of, e.args)}
        self.states = [m for m in system.members if m in stepped]
        # along several indices, one of them follows from their sum, and has gone
        self.skewed = len(weights) > 1
        first = next(iter(weights))
        self.gone = next(k for k, w in reversed(list(weights.items())) if abs(w) == 1) if self.skewed else None
        self.way = 1 if self.skewed else weights[first]
        self.along = fresh(Range(self.end(-1), self.end(1))) if self.skewed else system.binder(first)
        self.which = fresh(Range(ZERO, num(len(self.states) - 1)))
        self.rest = list(dict.fromkeys(k for m in self.states for k in m.keys if k != (self.gone or first)))
        self.state = fresh(STATE)
        self.body = self.written()
        self.finals = {m.state: self.final(m) for m in system.members}

    def stays(self, of: _Member, places: Sequence[Expr]) -> bool:
        """Whether a reading makes no step."""
        by_key = dict(zip(of.keys, places, strict=True))
        return all(constant(sub(by_key[k], ix(self.system.binder(k)))) == 0 for k in self.weights)

    def end(self, sign: int) -> Expr:
        """The least or the largest sum of the multiples of the indices."""
        parts = []
        for (axis, _), w in self.weights.items():
            first, last = (axis.lo, axis.hi) if isinstance(axis, Range) else (ZERO, sub(size(axis), ONE))
            parts.append(_times(w, last if w * sign > 0 else first))
        return neat(self.system.lowering.folded(total(parts)))

    def position(self, by_key: Mapping[Key, Expr]) -> Expr:
        """Where a place is along the direction."""
        if len(self.weights) == 1:
            return by_key[next(iter(self.weights))]
        return neat(total(_times(w, by_key[k]) for k, w in self.weights.items()))

    def places(self, of: _Member, places: Sequence[Expr], *, inside: bool) -> list[Expr]:
        """A place of a member as a place of the recursion."""
        by_key = dict(zip(of.keys, places, strict=True))
        missing = {k: ix(self.system.binder(k)) if inside else k[0].lo if isinstance(k[0], Range) else ZERO for k in self.rest}
        which = [num(self.states.index(of))] if len(self.states) > 1 else []
        return [self.position(by_key), *which, *(by_key.get(k, missing[k]) for k in self.rest)]

    @property
    def own(self) -> list[Index]:
        which = [self.which] if len(self.states) > 1 else []
        return [self.along, *which, *(self.system.binder(k) for k in self.rest)]

    def written(self) -> Expr:
        """The body of the recursion."""
        whole = [self.system.expand(m, self.stays) for m in self.states]
        careful = self.skewed and not all(self.inside(body) for body in whole)
        bodies = [self.along_the_sum(body) for body in whole]
        out = pw([(b, cmp("==", ix(self.which), num(k))) for k, b in enumerate(bodies[:-1])], bodies[-1])
        axes = [i.axis for i in self.own]

        def reading(m: _Member) -> Callable[[Sequence[Expr]], Expr]:
            def read(places: Sequence[Expr]) -> Expr:
                e = rec(self.state, axes, self.places(m, places, inside=True))
                return pw([(e, self.on_axis(m, places))], NAN) if careful else e

            return read

        (out,) = replace_recs((out,), {m.state: reading(m) for m in self.states})
        return out

    def on_axis(self, m: _Member, places: Sequence[Expr]) -> Expr:
        """The condition that a place is on the axis that has gone."""
        assert self.gone is not None
        return on_axis(places[m.keys.index(self.gone)], self.gone[0])

    def inside(self, body: Expr) -> bool:
        """Whether all readings in a body surely are on the axis that has gone."""
        assert self.gone is not None
        found = [(e, self.system.by_state[e.data[0]]) for e in postorder((body,)) if e.op == "rec" and e.data[0] in self.system.by_state]
        at = [(e, e.args[m.keys.index(self.gone)]) for e, m in found]
        return all(surely_on(self.gone[0], place, body, e, self.system.lowering.world) for e, place in at)

    def along_the_sum(self, body: Expr) -> Expr:
        """A body by the sum of multiples of its indices in place of one of them."""
        if self.gone is None:
            return body
        others = total(_times(w, ix(self.system.binder(k))) for k, w in self.weights.items() if k != self.gone)
        place = neat(_times(self.weights[self.gone], sub(ix(self.along), others)))
        (moved,) = substitute((body,), {self.system.binder(self.gone): place})
        return pw([(moved, on_axis(place, self.gone[0]))], ZERO)  # what is not on the axis is never read

    def entry(self, m: _Member, places: Sequence[Expr]) -> Expr:
        """A member of the recursion at a place on its axes, from outside."""
        return scan(self.way, [self.state, *self.own], self.body, self.places(m, places, inside=False))

    def final(self, m: _Member) -> Callable[[Sequence[Expr]], Expr]:
        """What a reading of a member means once all is known."""
        if m in self.states:
            return lambda places: pw([(self.entry(m, places), self.on_axis(m, places) if self.skewed else TRUE)], NAN)

        def written(places: Sequence[Expr]) -> Expr:
            mapping = {self.system.binder(k): p for k, p in zip(m.keys, places, strict=True)}
            (e,) = replace_recs((self.system.expand(m, self.stays),), {x.state: self.final(x) for x in self.states})
            return substitute((e,), mapping)[0]

        return written


def _restricted(m: _Member) -> Callable[[Sequence[Expr]], Expr]:
    """Readings of a member at the places that it has."""
    kept = list(m.kept)
    return lambda places: rec(m.state, ["?"] * len(kept), [places[k] for k in kept])


def _times(w: int, e: Expr) -> Expr:
    return e if w == 1 else mul(num(w), e)


def _numbered(axes: Iterable[Axis]) -> Iterator[Key]:
    seen: dict[Axis, int] = {}
    for axis in axes:
        yield axis, seen.get(axis, 0)
        seen[axis] = seen.get(axis, 0) + 1


# -- messages -----------------------------------------------------------------------------------------------------------


class _Complaint:
    """Says which rule a cycle breaks, and where."""

    def __init__(self, system: _System) -> None:
        self.system, self.lowering = system, system.lowering
        self.name = system.members[0].name.local
        self.steps = [(m, e, {k: system.sign(m, e, k) for k in m.keys}) for m, e in system.readings]

    def fail(self) -> NoReturn:
        low, name = self.lowering, self.name.name
        if not self.system.ends([set(signs.values()) <= {0} for _, _, signs in self.steps]):
            others = [m.name.local.name for m in self.system.members[1:]]
            by = f"by way of {listed(others)}" if others else "by itself"
            hint = "a local has no cycle, except one that shifts an axis: piecewise(G[t + 1] if t + 1 < size(t), 0 otherwise)"
            low.fail(f"'{name}' is defined {by}", self.name.span, hint)
        for m, e, signs in self.steps:
            if not any(signs.values()) and None in signs.values():
                hint = f"shift one axis by a whole number, one way: {name}[t - 1]; the other indices are free"
                low.fail(f"'{name}' is read at a place that is not surely before or after", self.span(m, e), hint)
        keys = self.system.members[0].keys
        moving = [k for k in keys if any(s.get(k) for _, _, s in self.steps)]
        after = [(m, e) for m, e, s in self.steps if len(moving) == 1 and s.get(moving[0]) == 1]
        if after:
            m, e = after[0]
            hint = f"an entry is given by those before it, {name}[t - 1], or by those after it, {name}[t + 1], not by both"
            low.fail(f"'{name}' is read both before and after the entry that it gives", self.span(m, e), hint)
        m, e, _ = self.steps[-1]
        hint = "let every reading step back along one and the same axis, by a whole number; a table fills by its diagonals"
        low.fail(f"the readings of '{name}' step back along no common axis", self.span(m, e), hint)

    def span(self, m: _Member, e: Expr) -> Span:
        """Where a reading is written."""
        of = self.system.by_state[e.data[0]]
        for places, span in self.system.recursions.spans.get(of.state, ()):
            if _alike(e.args) == tuple(places[k] for k in of.kept):
                return span
        return m.name.local.span


def _alike(places: Sequence[Expr]) -> tuple[Expr, ...]:
    """Places but for the names of their indices, which change on the way from where they are written."""
    free = frozenset[Index]().union(*(p.free for p in places))
    return substitute(places, dict.fromkeys(free, ix(Index("~", "~"))))


# -- which locals go in circles -----------------------------------------------------------------------------------------


def _is_condition(node: syntax.Node, lowering: Lowering) -> bool:
    """Whether a body is a condition, as its form alone tells."""
    match node:
        case syntax.Compare() | syntax.Binary(op="and" | "or") | syntax.Unary(op="not"):
            return True
        case syntax.Call(function=syntax.Bracket(base=syntax.Name(id="any" | "all"))):
            return True
        case syntax.Name(id=name) | syntax.Bracket(base=syntax.Name(id=name)):
            found = lowering.names.get(name)
            return isinstance(found, Array) and found.term.sort.role == "condition"
    return False


def _rings(lowering: Lowering) -> Iterator[tuple[LocalName, ...]]:
    """The cycles among locals, by way of local functions too; those of functions alone are no recursion."""
    values = {("", n): x for n, x in lowering.names.items() if not isinstance(x, Array)}
    functions = {("()", n): x for n, x in lowering.functions.items()}
    nodes = values | functions
    below = {key: [k for k in _mentions(x.local.body, {p.id for p in x.local.params or ()}) if k in nodes] for key, x in nodes.items()}
    for ring in _components(below):
        if len(ring) > 1 or ring[0] in below[ring[0]]:
            members = tuple(values[k] for k in values if k in ring)
            if members:
                yield members


def _mentions(body: syntax.Node, hidden: set[str]) -> Iterator[tuple[str, str]]:
    """The names in a body: values, and functions that are called."""
    stack: list[syntax.Node] = [body]
    while stack:
        node = stack.pop()
        match node:
            case syntax.Name(id=name):
                if name not in hidden:
                    yield "", name
            case syntax.Call(function=function):
                if isinstance(function, syntax.Name):
                    yield "()", function.id
                elif isinstance(function, syntax.Bracket):
                    stack += function.items if function.guard is None else (*function.items, function.guard)
                stack += (*node.args, *node.keywords)
            case _:
                stack += syntax.children(node)


def _components(below: Mapping[Any, Sequence[Any]]) -> Iterator[list[Any]]:
    """The strongly connected components of a graph (Tarjan), without recursion."""
    order: dict[Any, int] = {}
    low: dict[Any, int] = {}
    open_: dict[Any, None] = {}
    for root in below:
        stack = [(root, iter(below[root]))] if root not in order else []
        while stack:
            node, children = stack[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                open_[node] = None
            for child in children:
                if child not in order:
                    stack.append((child, iter(below[child])))
                    break
                if child in open_:
                    low[node] = min(low[node], low[child])
            else:
                stack.pop()
                if stack:
                    parent = stack[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == order[node]:
                    members = list(open_)[list(open_).index(node) :]
                    for m in members:
                        del open_[m]
                    yield members
