"""Programs in which functions are applied, cut into programs between the applications.

Each application is evaluated once, at all rows together, when its arguments are known; what it gives, and what its derivatives
give, are arrays like inputs to the programs after it. A row that no taken branch and no guard asks for is not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lossdsl.ir.applied import Hidden, hidden_input
from lossdsl.ir.expr import (
    ONE,
    TRUE,
    Expr,
    Index,
    Range,
    and_,
    branches,
    canonical,
    conjuncts,
    iverson,
    ix,
    listing,
    not_,
    or_,
    postorder,
    red,
    ref,
    references,
    rewrite,
    sub,
    substitute,
)  # fmt: skip
from lossdsl.ir.program import Input, Output, Program
from lossdsl.kinds import Kind
from lossdsl.passes.slopes import without_functions

_MOST = 8  # ways to need a row that are told apart


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A function at arguments, which are the outputs of programs: the rows first, then the argument's own axes.

    ``value`` is the array of what it gives, over the rows and ``result``; ``needed`` a program whose output is not 0 where the
    row counts, None if all do. ``pulled`` says whether derivatives are asked for.
    """

    value: Input
    function: str
    by: tuple[int, ...]
    rows: int
    arguments: tuple[Program, ...]
    needed: Program | None
    pulled: bool


@dataclass(frozen=True, slots=True)
class Pull:
    """The derivative of an evaluation by an argument, times a cotangent: an array over the rows, ``more`` axes and the argument's.

    The cotangent is over the rows, ``more`` axes and those of what the function gives; None is 1.
    """

    value: Input
    evaluation: str
    argument: int
    more: int
    cotangent: Program | None


@dataclass(frozen=True, slots=True)
class Points:
    """The numbers of an integer range as an array, over an axis that stands for it."""

    value: Input
    part: Program


Step = Evaluation | Pull | Points


@dataclass(frozen=True, slots=True)
class Staged:
    """The steps in order, and the program of the results."""

    steps: tuple[Step, ...]
    last: Program

    @property
    def slopes(self) -> list[str]:
        """The functions whose derivatives are asked for."""
        return sorted({s.function for s in self.steps if isinstance(s, Evaluation) and (s.pulled or s.by)})


def staged(program: Program) -> Staged:
    """The steps of a program without gradients inside it that are still to be worked out."""
    plain, hidden = without_functions(program)
    roots, hidden, ranges = without_ranges(plain.roots[: len(program.outputs)], hidden)
    outputs = tuple(replace(o, expr=e) for o, e in zip(program.outputs, roots, strict=True))
    return _Stager(program, hidden, ranges).staged(replace(plain, outputs=outputs))


def without_ranges(roots: Sequence[Expr], hidden: Sequence[Hidden]) -> tuple[tuple[Expr, ...], list[Hidden], dict[Range, Input]]:
    """The same with a named axis for each integer range that an application depends on: ``points`` are the numbers along it."""
    ranges: dict[Range, Input] = {}
    for axis in (i.axis for h in hidden for i in h.slots):
        name = f"~points{len(ranges)}"
        if isinstance(axis, Range):
            ranges.setdefault(axis, Input(name, Kind("integer", ((name, name),))))
    if not ranges:
        return tuple(roots), list(hidden), {}
    slots = {h.name: h.slots for h in hidden}

    def renamed(i: Index) -> Index:
        return Index(ranges[i.axis].name, i.tag) if isinstance(i.axis, Range) else i

    def visit(e: Expr, own: Sequence[Index]) -> Expr:
        if e.op != "ref" or e.data not in slots:
            return e
        places = list(e.args)
        for k, slot in enumerate(slots[e.data]):
            if isinstance(slot.axis, Range):
                place = places[k]
                same = place.op == "ix" and place.data in own and place.data.axis == slot.axis
                places[k] = ix(renamed(place.data)) if same else sub(place, slot.axis.lo)
        return ref(e.data, places)

    done = []
    for h in hidden:
        arguments = rewrite(h.arguments, partial(visit, own=h.slots))
        numbers = {i: ref(ranges[i.axis].name, [ix(renamed(i))]) for i in h.slots if isinstance(i.axis, Range)}
        done.append(replace(h, slots=tuple(map(renamed, h.slots)), arguments=substitute(arguments, numbers)))
    return rewrite(roots, partial(visit, own=())), done, ranges


class _Stager:
    def __init__(self, program: Program, hidden: Sequence[Hidden], ranges: Mapping[Range, Input]) -> None:
        self.program, self.hidden = program, hidden
        self.arrays: dict[str, Input] = {i.name: i for i in program.inputs}
        self.needs: dict[str, Need] = {}
        self.named = {_core(h): h for h in hidden if not h.op.by}
        self.found: dict[Expr, Evaluation] = {}
        self.steps: list[Step] = []
        for r, points in ranges.items():
            index = Index(r, points.name)
            self.steps.append(Points(points, self.part([Output("points", (index,), ix(index))])))
            self.arrays[points.name] = points

    def staged(self, last: Program) -> Staged:
        self.needs = needs(last, self.hidden)
        pulled = {_core(_primitive(h)) for h in self.hidden if h.op.by}
        for h in self.hidden:
            if not h.op.by:
                self.evaluation(h, pulled)
            else:
                self.pull(h, pulled)
        return Staged(tuple(self.steps), self.part(last.outputs))

    def evaluation(self, h: Hidden, pulled: set[Expr]) -> Evaluation:
        """The evaluation of a function at arguments; the same for its value and for its derivatives."""
        key = _core(h)
        h = self.named.get(key, h)
        if key not in self.found:
            rows = h.slots
            outputs = [Output("argument", (*rows, *h.axes(p)), a) for p, a in zip(h.op.arguments, h.arguments, strict=True)]
            parts = tuple(self.part([o]) for o in outputs)
            need = self.needed(h)
            value = hidden_input(h)
            step = Evaluation(value, h.op.function, h.op.by, len(rows), parts, need, key in pulled)
            self.found[key] = step
            self.steps.append(step)
            self.arrays[value.name] = value
        return self.found[key]

    def pull(self, h: Hidden, pulled: set[Expr]) -> None:
        first = _primitive(h)
        inner = self.evaluation(first, pulled)
        result = h.axes(h.op.arguments[-1])
        weight = h.arguments[-1]
        more = len(h.slots) - inner.rows
        cotangent = None
        if weight is not ONE or result or more:
            cotangent = self.part([Output("cotangent", (*h.slots, *result), weight)])
        value = hidden_input(h)
        self.steps.append(Pull(value, inner.value.name, h.op.by[-1], more, cotangent))
        self.arrays[value.name] = value

    def needed(self, h: Hidden) -> Program | None:
        """Where an evaluation is asked for, by its value or by a derivative."""
        key, ways = _core(h), list[Way]()
        for other in self.hidden:
            if _core(other) == key or (other.op.by and _core(_primitive(other)) == key):
                ways += self.needs.get(other.name, ())
        known = {*self.arrays, *(p.name for p in self.program.params)}
        kept = [frozenset(c for c in way if c.free <= set(h.slots) and references([c]) <= known) for way in ways]
        condition = or_(*(and_(*sorted(way, key=_text)) for way in _fewer(kept)))
        if condition is TRUE or not ways:
            return None
        return self.part([Output("needed", h.slots, iverson(condition))])

    def part(self, outputs: Sequence[Output]) -> Program:
        """A program of some outputs, with the inputs that they use and those that tell the lengths of axes."""
        ends = [e for o in outputs for i in o.indices if isinstance(i.axis, Range) for e in (i.axis.lo, i.axis.hi)]
        roots = [*(o.expr for o in outputs), *ends]
        used = references(roots)
        axes = {i.axis for o in outputs for i in o.indices if isinstance(i.axis, str)} | set(_axes(roots))
        kept = [i for i in self.arrays.values() if i.name in used]
        for axis in sorted(axes - {a for i in kept for a in i.axes}):
            kept += [i for i in self.arrays.values() if axis in i.axes and i not in kept][:1]
        order = {name: k for k, name in enumerate(self.arrays)}
        inputs = tuple(sorted(kept, key=lambda i: order[i.name]))
        params = tuple(p for p in self.program.params if p.name in used)
        return replace(self.program, inputs=inputs, params=params, outputs=tuple(outputs), requires=(), functions=(), wrt=())


def _primitive(h: Hidden) -> Hidden:
    """The function whose derivative an array is of, at its arguments."""
    op, arguments = h.op.primitive, h.arguments[:-1]
    own = frozenset().union(*(a.free for a in arguments))
    slots = tuple(i for i in h.slots if i in own)
    return Hidden(f"{h.name}'s", op, slots, h.binders, arguments)


def _core(h: Hidden) -> Expr:
    """What two applications of one function to the same arguments have in common."""
    return canonical(red(h.op, h.binders, listing(h.arguments)))[0]


def _axes(roots: Iterable[Expr]) -> Iterator[str]:
    """The axes whose lengths an expression needs."""
    for e in postorder(roots):
        if e.op == "size":
            yield e.data
        elif e.op == "ix" and isinstance(e.data.axis, str):
            yield e.data.axis
        elif e.op == "red":
            yield from (b.axis for b in e.data[1] if isinstance(b.axis, str))


# -- which rows are asked for -----------------------------------------------------------------------------------------

Way = frozenset[Expr]  # conditions that all hold
Need = tuple[Way, ...]  # of which one does


def needs(last: Program, hidden: Sequence[Hidden]) -> dict[str, Need]:
    """For each array the conditions, over its slots, under which an entry is looked at; what is not understood always holds."""
    found: dict[str, Need] = {}
    slots = {h.name: h.slots for h in hidden}
    _spread([(o.expr, (frozenset(),)) for o in last.outputs], slots, found)
    for h in reversed(hidden):
        if h.name in found:
            _spread([(a, found[h.name]) for a in h.arguments], slots, found)
    return found


def _spread(roots: Sequence[tuple[Expr, Need]], slots: Mapping[str, tuple[Index, ...]], found: dict[str, Need]) -> None:
    """From expressions that are looked at to the arrays in them."""
    here: dict[Expr, Need] = {}
    for e, need in roots:
        here[e] = _fewer((*here.get(e, ()), *need))
    for e in reversed(list(postorder([e for e, _ in roots]))):
        if e not in here:
            continue
        if e.op == "ref" and e.data in slots:
            found[e.data] = _fewer((*found.get(e.data, ()), *_at(e, slots[e.data], here[e])))
        for a, more in _inside(e):
            ways = (frozenset(c for c in way.union(*more) if c.free <= a.free) for way in here[e])
            here[a] = _fewer((*here.get(a, ()), *ways))


def _inside(e: Expr) -> list[tuple[Expr, list[Way]]]:
    """The parts of a node, with what holds where each is looked at."""
    if e.op == "red":
        body, guard, *rest = e.args
        return [(guard, []), (body, [frozenset(conjuncts(guard))]), *((x, []) for x in rest)]
    if e.op in ("and", "or"):
        first, second = e.args
        return [(first, []), (second, [frozenset(conjuncts(first if e.op == "and" else not_(first)))])]
    if e.op == "pw":
        out: list[tuple[Expr, list[Way]]] = []
        before: list[Expr] = []
        pairs, other = branches(e)
        for value, condition in pairs:
            out += [(condition, [frozenset(before)]), (value, [frozenset((*before, *conjuncts(condition)))])]
            before.append(not_(condition))
        return [*out, (other, [frozenset(before)])]
    return [(a, []) for a in e.args]


def _at(e: Expr, slots: Sequence[Index], need: Need) -> Need:
    """What a reading needs, in terms of the array's own slots."""
    mapping: dict[Index, Expr] = {}
    for place, slot in zip(e.args, slots, strict=False):
        if place.op == "ix" and place.data not in mapping:
            mapping[place.data] = ix(slot)
    ways = []
    for way in need:
        kept = [c for c in way if c.free <= mapping.keys()]
        ways.append(frozenset(substitute(kept, mapping)))
    return tuple(ways)


def _fewer(ways: Iterable[Way]) -> Need:
    """Ways without those that others cover; too many are not told apart."""
    kept: list[Way] = []
    for way in sorted(set(ways), key=len):
        if not any(other <= way for other in kept):
            kept.append(way)
    return (frozenset(),) if len(kept) > _MOST else tuple(kept)


def _text(e: Expr) -> str:
    return repr(e)
