"""Cut a program's expressions into stages: reductions, and pointwise arrays that several stages read.

Nodes are numbered into *cells*, one for all nodes that are equal up to the names of their indices, so that ``s[i, j]`` and
``s[j, k]`` are one array. The number of a node follows from the numbers of its arguments: the work is linear. A cell becomes a
stage if it is a reduction or a result, or if more than one place reads it; everything else stands inside the stage that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lossdsl.ir.expr import ZERO, Axis, Expr, Index, Range, conjuncts, ix, postorder, rebuild, ref, rewrite, sub, substitute
from lossdsl.ir.ordered import Ordered, ordered
from lossdsl.ir.program import BATCH, Output, Program
from lossdsl.ir.recursions import Recursion, invariants, named
from lossdsl.ir.strict import strict_parts

Place = tuple[int, tuple[int, ...]]  # a cell, and where its indices stand among those of the reader
Spot = tuple[int, tuple[Index, ...]]  # a cell, and the indices it stands at


@dataclass(frozen=True, slots=True)
class Stage:
    """``name[indices] = expr``, or ``name[indices] = op[over | guard](expr)``; earlier stages stand in it as references.

    The guard is a tuple of conditions that must all hold. An argsort keeps the axis that it runs over: its last index is the place.
    """

    name: str
    indices: tuple[Index, ...]
    expr: Expr
    op: str | None = None
    over: tuple[Index, ...] = ()
    guard: tuple[Expr, ...] = ()

    @property
    def roots(self) -> tuple[Expr, ...]:
        return (self.expr, *self.guard)

    @property
    def shape(self) -> str:
        """The kernel shape: pointwise, row, pair, ordered, scatter or contraction."""
        if in_order(self):
            return "ordered"
        if self.op == "sum" and targets(self)[0]:
            return "scatter"
        if self.op == "sum" and factors(self):
            return "contraction"
        axes = [i.axis for i in (*self.indices, *self.over)]
        if len(set(axes)) < len(axes):
            return "pair"
        return "row" if self.op else "pointwise"

    @property
    def arrays(self) -> tuple[tuple[Axis, ...], ...]:
        """The axes of the largest arrays that the stage computes with."""
        found = in_order(self)
        kept = [i for i in self.indices if found and i not in found.sets.queries]
        whole = (self.indices, (*kept, *self.over)) if found else ((*self.indices, *self.over),)
        return tuple(tuple(i.axis for i in indices) for indices in whole)


@dataclass(frozen=True, slots=True)
class Loop:
    """``name[indices] = expr``, one position after the other along the first index: upwards (step 1) or downwards (-1).

    The stages are computed at each position, before ``expr``. In both, ``at`` stands for the first index, and the array itself as
    far as it is known for a reference.
    """

    name: str
    indices: tuple[Index, ...]
    at: Index
    step: int
    stages: tuple[Stage, ...]
    expr: Expr

    @property
    def arrays(self) -> tuple[tuple[Axis, ...], ...]:
        """The axes of the largest arrays that the loop computes with."""
        inner = (tuple(a for a in axes if a != self.at.axis) for s in self.stages for axes in s.arrays)
        return (tuple(i.axis for i in self.indices), *inner)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The stages in order of evaluation, and the outputs as expressions over them."""

    stages: tuple[Stage | Loop, ...]
    outputs: tuple[Output, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A node up to the names of its indices: its own axes first, then those it binds."""

    op: str
    data: Any
    args: tuple[Place, ...]
    axes: tuple[Axis, ...]
    bound: int = 0

    @property
    def free(self) -> int:
        return len(self.axes) - self.bound


@dataclass(slots=True)
class Cells:
    """The cells of a program. ``at`` gives for each node its cell and the indices it stands at."""

    rank: Mapping[Axis, int]
    cells: list[Cell] = field(default_factory=list)
    samples: list[Expr] = field(default_factory=list)  # a node of each cell
    numbers: dict[Cell, int] = field(default_factory=dict)
    at: dict[Expr, Spot] = field(default_factory=dict)
    known: dict[Expr, tuple[Expr, Expr]] = field(default_factory=dict)  # what an argsort has as an array: where, and that argsort

    def add(self, roots: Iterable[Expr]) -> None:
        for e in postorder(roots):
            self.at[e] = self._number(e)

    def _number(self, e: Expr) -> Spot:
        if e.op == "ix":
            return self._intern(Cell("ix", None, (), (e.data.axis,)), e), (e.data,)
        if e in self.known:
            part, order = self.known[e]
            return self._looked_up(self.at[part], order.data[1][0], self.at[order], e)
        op, bound = e.data if e.op == "red" else (e.data, ())
        parts = [self.at[a] for a in e.args]
        if op == "argsort":  # the order is an array along the axis, in which the place is looked up
            self._remember(e)
            *inside, place = parts
            number, free = self._made("order", None, inside, bound, e)
            return self._looked_up((number, (*free, *bound)), e.data[1][0], place, e)
        return self._made(e.op, op, parts, bound, e)

    def _looked_up(self, array: Spot, index: Index, place: Spot, e: Expr) -> Spot:
        """An array at a computed place of one of its indices."""
        number, inner = array
        k = inner.index(index)
        return self._made("read", k, [(number, inner[:k] + inner[k + 1 :]), place], (), e)

    def _remember(self, order: Expr) -> None:
        """What is sorted is there as an array: at an index of its order it is looked up, not computed again."""
        (index,), body = order.data[1], order.args[0]
        there: dict[Expr, Expr] = {}
        substitute((body,), {index: order}, there)
        sound = strict_parts(body, index)
        self.known |= {e: (part, order) for part, e in there.items() if index in part.free and part.op in _COMPUTED and sound[part]}

    def _made(self, op: str, data: Any, parts: Sequence[Spot], bound: Sequence[Index], e: Expr) -> Spot:
        """A cell of parts at indices, and its own indices without those that it binds."""
        seen = dict.fromkeys(i for _, at in parts for i in at if i not in bound)
        free = sorted(seen, key=lambda i: self.rank.get(i.axis, len(self.rank)))
        place = {i: k for k, i in enumerate((*free, *bound))}
        args = tuple((c, tuple(place[i] for i in at)) for c, at in parts)
        return self._intern(Cell(op, data, args, tuple(i.axis for i in place), len(bound)), e), tuple(free)

    def _intern(self, cell: Cell, e: Expr) -> int:
        number = self.numbers.setdefault(cell, len(self.cells))
        if number == len(self.cells):
            self.cells.append(cell)
            self.samples.append(e)
        return number


_COMPUTED = ("add", "sub", "mul", "div", "pow", "call", "pw", "red")


def schedule(program: Program, worth: Callable[[Cell], bool] | None = None) -> Schedule:
    """The stages of a program, in order. ``worth`` says of a pointwise cell that several stages read whether it is kept as an array."""
    rank = _ranks(program)
    roots, recursions = named(program.roots, lambda k: f"{_LOOP}{k}", lambda axis: rank.get(axis, len(rank)))
    axes: dict[str, Sequence[Axis]] = {i.name: i.axes for i in program.inputs} | {r.name: [i.axis for i in r.indices] for r in recursions}
    cells, count, before = Cells(rank), dict[str, int](), dict[str, Expr]()
    bodies: list[tuple[int, Recursion]] = []  # each loop, and how many cells are known by then
    for r in recursions:
        body, found = invariants(r, axes, f"{_KEPT}{len(bodies)}~")
        cells.add(i.expr for i in found)
        before |= {i.name: i.expr for i in found}
        bodies.append((len(cells.cells), body))
    cells.add(roots)
    results = {cells.at[e][0]: o.name for e, o in reversed(list(zip(roots, program.outputs, strict=True)))}
    kept = {cells.at[e][0] for e in before.values()}
    staged = _staged(cells, results.keys() | kept, worth or arithmetic)
    names = _names(cells, staged, results, count)
    stages: list[Stage | Loop] = []
    for c in staged:
        while bodies and bodies[0][0] <= c:
            stages.append(_loop(bodies.pop(0)[1], before, cells, names, worth or arithmetic, count))
        stages.append(_stage(cells, c, names))
    stages += [_loop(r, before, cells, names, worth or arithmetic, count) for _, r in bodies]
    outputs = tuple(replace(o, expr=_express(cells, names, *cells.at[e])) for e, o in zip(roots, program.outputs, strict=True))
    return Schedule(tuple(stages), outputs)


_LOOP, _KEPT = "~scan", "~kept"


def in_loop(index: Index) -> bool:
    """Whether an index is the position of a loop."""
    return isinstance(index.axis, str) and index.axis.startswith(_LOOP)


def _loop(
    r: Recursion, before: Mapping[str, Expr], outer: Cells, outside: Mapping[int, str], worth: Callable[[Cell], bool], count: dict[str, int]
) -> Loop:
    """A recursion over arrays that are there, cut into the stages of one position."""
    at = Index(r.name, r.name)

    def visit(e: Expr) -> Expr:
        if e.op != "ref" or e.data not in before:
            return e
        number, places = outer.at[before[e.data]]
        return ref(outside[number], [e.args[int(str(i.tag)[1:])] for i in places])

    own = _own([i.axis for i in r.indices])
    (body,) = rewrite((r.body,), visit)
    (body,) = substitute((body,), {i: ix(o) for i, o in zip(r.indices, (at, *own[1:]), strict=True)})
    cells = Cells(outer.rank)
    cells.add([body])
    root = cells.at[body][0]
    staged = [c for c in _staged(cells, {root}, worth) if c != root or cells.cells[c].op in ("red", "order")]
    names = _names(cells, staged, {}, count)
    stages = tuple(_stage(cells, c, names, at) for c in staged)
    return Loop(r.name, own, at, r.step, stages, _express(cells, names, *cells.at[body]))


def arithmetic(cell: Cell) -> bool:
    """Whether a cell computes something, and is neither an outer product, which a contraction may never have to store, nor over
    pairs and a further axis, which is cheaper computed again than stored.
    """
    if cell.op in ("num", "const", "ix", "size", "bool", "neg", "not"):
        return False
    if len(cell.axes) > 2 + (BATCH in cell.axes) and len(set(cell.axes)) < len(cell.axes):
        return False
    if cell.op in ("ref", "read"):
        return any(len(at) != 1 for _, at in cell.args[cell.op == "read" :])
    return cell.op != "mul" or any(len(at) == len(cell.axes) for _, at in cell.args)


def expensive(cell: Cell) -> bool:
    """Whether computing a cell again costs more than reading it from memory."""
    return cell.op in ("call", "pow", "div") and cell.data not in ("abs", "max", "min", "clip", "relu", "sign", "stop")


def _ranks(program: Program) -> dict[Axis, int]:
    """The order of axes in arrays: the batch, then one that agrees with the declarations as far as they agree."""
    declared = [i.axes for i in program.inputs]
    left = dict.fromkeys([BATCH, *(a for axes in declared for a in axes)])
    out: dict[Axis, int] = {}
    while left:
        behind = {b for axes in declared for k, b in enumerate(axes) for a in axes[:k] if a in left and a != b}
        first = next((a for a in left if a not in behind), next(iter(left)))
        out[first] = len(out)
        del left[first]
    return out


def _staged(cells: Cells, results: Collection[int], worth: Callable[[Cell], bool]) -> list[int]:
    """The cells that become stages. Readers come after what they read, so going backwards meets every reader first."""
    readers: list[dict[Place, None]] = [{} for _ in cells.cells]
    positions = _positions(cells)
    staged = []
    arrays: set[int] = set()  # in which places are looked up
    for number in reversed(range(len(cells.cells))):
        cell, sites = cells.cells[number], readers[number]
        if not sites and number not in results:
            continue
        if cell.op == "read":
            arrays.add(cell.args[0][0])
        if number in arrays or cell.op in ("red", "order") or (cell.op not in ("num", "const", "ix", "size") and number in results) or (
            len(sites) > 1 and worth(cell) and number not in positions
        ):
            staged.append(number)
            sites = {(number, tuple(range(len(cell.axes)))): None}
        for arg, at in _read(cells, number):
            for stage, place in sites:
                readers[arg][stage, tuple(place[k] for k in at)] = None
    return staged[::-1]


def _read(cells: Cells, number: int) -> Sequence[Place]:
    """What a cell is computed from: its arguments, or the parts of an ordered reduction, none of which is over pairs."""
    cell, e = cells.cells[number], cells.samples[number]
    found = ordered(cell.data, e.data[1], e.args[0], conjuncts(e.args[1])) if cell.op == "red" else None
    if found is None:
        return cell.args
    place = {i: k for k, i in enumerate((*cells.at[e][1], *e.data[1]))}
    parts = [cells.at[part] for part in found.parts]
    return [(c, tuple(place[i] for i in at)) for c, at in parts]


def _positions(cells: Cells) -> set[int]:
    """The cells that compute a position along an axis, or compare an index with one: no array is needed for what an index says.

    Nor for what holds only where an index has one position, which a sum into places must see.
    """
    out: set[int] = set()
    for number, cell in enumerate(cells.cells):
        if cell.op in ("ix", "size", "num", "add", "sub", "neg", "mul") and all(c in out for c, _ in cell.args):
            out.add(number)
    equal = [(n, c) for n, c in enumerate(cells.cells) if c.op == "cmp" and c.data in ("==", "!=")]
    picks = {n for n, c in equal if "ix" in (cells.cells[a].op for a, _ in c.args)}
    for number, cell in enumerate(cells.cells):
        if cell.op == "and" and any(a in picks for a, _ in cell.args):
            picks.add(number)
    return out | picks


_HINTS = {
    "sub": "diff", "mul": "prod", "div": "ratio", "pow": "power", "add": "total", "pw": "case", "cmp": "test", "and": "both",
    "or": "either", "not": "other", "neg": "minus", "ref": "at", "iverson": "one",
}  # fmt: skip


def hint(e: Expr | Cell) -> str:
    """A short word for what a node computes."""
    return str(e.data) if e.op == "call" else _HINTS.get(e.op, e.op)


def _names(cells: Cells, staged: Sequence[int], results: Mapping[int, str], count: dict[str, int]) -> dict[int, str]:
    """A reserved name for every stage: no user can write the leading ``~``. ``count`` says how often a word is taken."""
    out = {}
    for number in staged:
        cell = cells.cells[number]
        word = cell.data if cell.op == "red" else hint(cell)
        if word == "sum" and cells.cells[cell.args[0][0]].op == "num":
            word = "count"
        if number in results:
            word = results[number]
        count[word] = count.get(word, 0) + 1
        out[number] = f"~{word}" if count[word] == 1 else f"~{word}~{count[word]}"
    return out


def _own(axes: Sequence[Axis]) -> tuple[Index, ...]:
    """Indices of a stage: an axis' own name, numbered from its second index on."""
    seen: dict[Axis, int] = {}
    out = []
    for axis in axes:
        seen[axis] = seen.get(axis, 0) + 1
        stem = "~r" if isinstance(axis, Range) else axis
        out.append(Index(axis, stem if seen[axis] == 1 else f"{stem}~{seen[axis]}"))
    return tuple(out)


def _stage(cells: Cells, number: int, names: Mapping[int, str], loop: Index | None = None) -> Stage:
    """A cell over its own indices; ``loop`` is the position of the loop that it stands in."""
    cell = cells.cells[number]
    indices = tuple(loop if loop and i.axis == loop.axis else i for i in _own(cell.axes))
    own, over = indices[: cell.free], indices[cell.free :]
    parts = [_express(cells, names, c, tuple(indices[k] for k in at)) for c, at in cell.args]
    if cell.op == "order":
        return Stage(names[number], (*own, *map(_place_of, over)), parts[0], "argsort", over, tuple(conjuncts(parts[1])))
    if cell.op == "red":
        body, guard = parts
        return Stage(names[number], own, body, cell.data, over, tuple(conjuncts(guard)))
    return Stage(names[number], own, _node(cells, number, parts))


def _place_of(index: Index) -> Index:
    """The index along the places of an order, which count from 0 in a range too."""
    return Index(Range(ZERO, sub(index.axis.hi, index.axis.lo)), f"{index.tag}~place") if isinstance(index.axis, Range) else index


def _node(cells: Cells, number: int, parts: Sequence[Expr]) -> Expr:
    """The node of a cell with its parts expressed."""
    cell = cells.cells[number]
    if cell.op == "read":
        array, place = parts
        return ref(array.data, (*array.args[: cell.data], place, *array.args[cell.data :]))
    return rebuild(cells.samples[number], parts)


def _express(cells: Cells, names: Mapping[int, str], root: int, indices: tuple[Index, ...]) -> Expr:
    """A cell at given indices, with stages as references."""
    memo: dict[tuple[int, tuple[Index, ...]], Expr] = {}
    stack = [(root, indices)]
    while stack:
        key = number, at = stack[-1]
        cell = cells.cells[number]
        if key in memo:
            stack.pop()
        elif number in names:
            memo[key] = ref(names[number], [ix(i) for i in at])
        elif cell.op == "ix":
            memo[key] = ix(at[0])
        else:
            args = [(c, tuple(at[k] for k in places)) for c, places in cell.args]
            todo = [a for a in args if a not in memo]
            if todo:
                stack += todo
            else:
                memo[key] = _node(cells, number, [memo[a] for a in args])
    return memo[root, indices]


# -- shapes of reductions ---------------------------------------------------------------------------------------------


def in_order(stage: Stage) -> Ordered | None:
    """For a reduction over elements in the order of a key: what it is made of."""
    single = any(in_loop(i) for i in stage.indices)  # of one position at a time there is no order to make use of
    return ordered(stage.op, stage.over, stage.expr, stage.guard) if stage.op and not single else None


def targets(stage: Stage) -> tuple[dict[Index, Expr], tuple[Expr, ...]]:
    """For a sum into computed places (a scatter): the place of each such index, and the conditions that are left."""
    out: dict[Index, Expr] = {}
    rest = []
    for c in stage.guard:
        found = _place(stage, c, out)
        if found and not any(found[0] in e.free for e in out.values()):
            out[found[0]] = found[1]
        else:
            rest.append(c)
    body = stage.expr.free.union(*(c.free for c in rest)) if rest else stage.expr.free
    if any(i in body for i in out):  # the summand itself depends on the place: an ordinary sum
        return {}, stage.guard
    return out, tuple(rest)


def _place(stage: Stage, c: Expr, known: Mapping[Index, Expr]) -> tuple[Index, Expr] | None:
    """The index of the result that a condition equates to something over the bound indices."""
    if c.op != "cmp" or c.data != "==":
        return None
    for a, b in (c.args, c.args[::-1]):
        fresh = a.op == "ix" and a.data in stage.indices and a.data not in known and not in_loop(a.data)
        if fresh and not b.free.isdisjoint(stage.over) and b.free.isdisjoint([*known, a.data]):
            return a.data, b
    return None


@dataclass(frozen=True, slots=True)
class Factor:
    """A part of a product: numerators over denominators, with the indices of all."""

    over: tuple[Expr, ...]
    under: tuple[Expr, ...]
    free: frozenset[Index]


def factors(stage: Stage) -> tuple[bool, list[Factor]] | None:
    """Whether the summand of a sum changes its sign, and its factors, if each depends on fewer indices than the whole; else None.

    Such a sum is a contraction, which never needs the product as an array. A factor whose indices all occur in another one
    is part of that one.
    """
    body = stage.expr
    negative, parts = _split(body)
    if len(parts) < 2 or any(p.free == body.free for p, _ in parts) or not body.free & frozenset(stage.over):
        return None
    groups = [Factor((), (), free) for free in _maximal([p.free for p, _ in parts])]
    for part, inverse in parts:
        k = min((k for k, g in enumerate(groups) if part.free <= g.free), key=lambda k: len(groups[k].free))
        g = groups[k]
        groups[k] = replace(g, under=(*g.under, part)) if inverse else replace(g, over=(*g.over, part))
    return (negative, groups) if len(groups) > 1 else None


def _maximal(sets: Sequence[frozenset[Index]]) -> list[frozenset[Index]]:
    return [s for s in dict.fromkeys(sets) if not any(s < t for t in sets)]


def _split(body: Expr) -> tuple[bool, list[tuple[Expr, bool]]]:
    """The factors of a product, each with whether it divides, and the sign.

    A part that depends on fewer indices than the whole is left as it was written.
    """
    out: list[tuple[Expr, bool]] = []
    negative = False
    stack = [(body, False)]
    while stack:
        e, inverse = stack.pop()
        if e.op == "neg" and (e is body or e.free == body.free):
            negative = not negative
            stack.append((e.args[0], inverse))
        elif e.op in ("mul", "div") and e.free == body.free:
            a, b = e.args
            stack += [(b, inverse != (e.op == "div")), (a, inverse)]
        else:
            out.append((e, inverse))
    return negative, out
