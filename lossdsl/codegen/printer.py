"""Print a scheduled program as a function over arrays: every node is an array over its own free indices, aligned by broadcasting.

The printer knows the algebra of named axes; how an operation is spelled is the backend's. Each name is assigned once, so equal
right-hand sides are one variable. What a guard leaves out is selected away, never multiplied by 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from lossdsl.codegen.names import Names
from lossdsl.codegen.recursion import Open, decided, first_of, without
from lossdsl.errors import LossError, NotYet
from lossdsl.ir.expr import ONE, ZERO, Axis, Expr, Index, Range, branches, disjuncts, ix, postorder
from lossdsl.ir.ordered import Ordered, Sets
from lossdsl.ir.program import BATCH, Program
from lossdsl.schedule import Factor, Loop, Schedule, Stage, factors, hint, in_loop, in_order, targets

ATOM, POWER, UNARY, TIMES, PLUS, AND, OR, COMPARE, LOOSE = 10, 9, 8, 7, 6, 5, 4, 3, 0
_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Val:
    """Printed text with its precedence, the indices it is an array over, and its type.

    ``type`` is real, int, bool, place for a position or NaN, or number for a Python number, which takes the type of what it meets.
    """

    text: str
    prec: int
    dims: tuple[Index, ...]
    type: str
    base: Val | None = None  # the array of which this is a transposition

    def atom(self, prec: int = ATOM) -> str:
        return self.text if self.prec >= prec else f"({self.text})"


@dataclass(frozen=True)
class Backend:
    """How a library spells what the printer needs; see ``numpy.py`` for what each entry gives.

    In a template of ``calls``, ``{0}``, ``{1}``, .. are the arguments; ``helpers`` are functions that the source defines if it
    uses them. ``numbers`` names the functions that take Python numbers beside arrays (None: all do). ``bounds`` spells ``max``
    and ``min`` of an array and a number where that is another form. ``place``, where there is one, adds to (``add``) or sets
    (``put``) one entry of each row of a new array, in place. With ``by_rows`` there is a helper of that name. For recursions,
    ``full`` is a new array of one number, ``apart`` a list of an array's entries along an axis, and there are the helpers
    ``stacked`` and ``written``.
    """

    name: str
    imports: str
    reserved: frozenset[str]
    constants: dict[str, str]
    helpers: dict[str, str]
    call: Callable[[str, int], str]
    dtype: Callable[[str | None, bool], tuple[str, ...]]
    cast: Callable[[Val], str]
    lift: Callable[[str], str]
    where: Callable[[Val, str, str, str], str]
    arange: Callable[[str, str | None], str]
    reduce: Callable[[str, str, Sequence[int], str | None], str]
    invert: Callable[[Val], str]
    transpose: Callable[[str, Sequence[int]], str]
    expand: Callable[[str, Sequence[str]], str]
    full: Callable[[Sequence[str], str], str]
    apart: Callable[[str, int], str]
    contraction: Callable[[str, Sequence[str]], str]
    finite: Callable[[str], str] | None
    int_: Callable[[str], str]
    numbers: frozenset[str] | None = None
    bounds: Mapping[str, str] = field(default_factory=dict)
    pick: Callable[[str, Sequence[str], Sequence[int]], str] = field(default=lambda x, at, computed: f"pick({', '.join((x, *at))})")
    place: Callable[[str, str, Sequence[str], int, str], str] | None = None
    zeros: Callable[[Sequence[str]], str] = field(default=lambda shape: "")
    by_rows: bool = False
    shift: Callable[[str, int, int], str] = field(default=lambda x, axis, step: f"shift({x}, {axis}, {step})")


def literal(x: Fraction) -> Val:
    """A number as it was written, where the language can."""
    whole = x.denominator == 1 and abs(x) < 2**53
    text = str(x.numerator) if whole else repr(float(x))
    return Val(text, UNARY if x < 0 else ATOM, (), "number")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a function for people: a docstring, defaults (arguments with one come last), and first lines.

    ``first`` maps an argument to a template of a line that readies it, of its own name ``{x}`` and the first number's ``{like}``.
    """

    doc: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)


def print_function(program: Program, scheduled: Schedule, backend: Backend, name: str, frame: Frame | None = None) -> str:
    """The source of one function of the inputs and hyper-parameters, in declared order, that returns the outputs."""
    return _Printer(program, scheduled, backend).function(name, frame or Frame())


def with_helpers(source: str, backend: Backend) -> str:
    """A module: imports, the helpers that the source uses (and those that they use), the source."""
    used: dict[str, None] = {}
    todo = [source]
    while todo:
        text = todo.pop()
        for name, body in backend.helpers.items():
            if name not in used and re.search(rf"\b{name}\(", text):
                used[name] = None
                todo.append(body)
    parts = [body for name, body in backend.helpers.items() if name in used]
    whole = "\n".join((*parts, source))
    imports = [line for line in backend.imports.splitlines() if _imported(line) in whole]
    return "\n\n\n".join(("\n".join(imports), *(p.strip("\n") for p in (*parts, source)))) + "\n"


def _imported(line: str) -> str:
    """What a text that needs the import contains."""
    words = line.split()
    return f"{words[-1]}." if words[0] == "import" else words[-1]


@dataclass(slots=True)
class Block:
    """A function over blocks of rows that is being printed: the index of the rows, its arguments, and the state around it."""

    index: Index
    outer: tuple[list[str], dict[str, str], set[str]]
    arguments: dict[str, str] = field(default_factory=dict)


class _Printer:
    def __init__(self, program: Program, scheduled: Schedule, backend: Backend) -> None:
        self.program, self.scheduled, self.backend = program, scheduled, backend
        self.names = Names(backend.reserved)
        self.arguments = {x: self.names.take(x) for x in [*(i.name for i in program.inputs), *(p.name for p in program.params)]}
        self.inputs = {i.name: i for i in program.inputs}
        self.slots: dict[str, Val] = {}
        self.sizes: dict[str, str] = {}
        self.named: dict[str, str] = {}
        self.lines: list[str] = []
        self.pairs: set[str] = set()  # variables with two indices over one axis, which are large
        self.block: Block | None = None
        self.loop: Open | None = None
        self.order: dict[Index, int] = {}
        self.vals: dict[Expr, Val] = {}

    # -- the function -------------------------------------------------------------------------------------------------

    def function(self, name: str, frame: Frame) -> str:
        for stage in self.scheduled.stages:
            self.slots[stage.name] = self._loop(stage) if isinstance(stage, Loop) else self._stage(stage)
        results = [self._output(o.expr, o.indices) for o in self.scheduled.outputs]
        sizes = [f"{var} = {self._extent(axis)}" for axis, var in self.sizes.items()]
        doc = [f'"""{frame.doc}"""'] if frame.doc else []
        like = next((self.arguments[i.name] for i in self.program.inputs if i.kind.role == "number"), None)
        first = [line.format(x=self.arguments[x], like=like) for x, line in frame.first.items()]
        body = [*doc, *first, *self._dtype(results), *sizes, *self._freed(results), f"return {', '.join(results)}"]
        required = [x for name, x in self.arguments.items() if name not in frame.defaults]
        optional = [f"{self.arguments[name]}={value}" for name, value in frame.defaults.items()]
        head = f"def {name}({', '.join(required + optional)}):"
        return "\n    ".join([head, *body]) + "\n"

    def _freed(self, results: Sequence[str]) -> list[str]:
        """The statements, with large arrays given up after their last use."""
        statements: list[list[str]] = []
        for line in self.lines:
            open_function = bool(statements) and statements[-1][0].startswith("def ") and statements[-1][-1].startswith(" ")
            if line.startswith((" ", "else")) or open_function:
                statements[-1].append(line)  # a function stays with its call: what it sees lives as long
            else:
                statements.append([line])
        last: dict[str, int] = {}
        for k, lines in enumerate([*statements, list(results)]):
            last |= dict.fromkeys(sorted(self.pairs.intersection(re.findall(r"\w+", " ".join(lines)))), k)
        out = []
        for k, lines in enumerate(statements):
            dead = [name for name in last if last[name] == k]
            out += [*lines, *([f"del {', '.join(dead)}"] if dead and k + 1 < len(statements) else [])]
        return out

    def _dtype(self, results: Sequence[str]) -> tuple[str, ...]:
        """The type of real numbers, and hyper-parameters as numbers of it."""
        used = re.compile(r"\b(real|device)\b")
        names = [self.arguments[p.name] for p in self.program.params]
        params = [f"{x} = {self.backend.lift(x)}" for x in names if re.search(rf"\b{x}\b", "\n".join((*self.lines, *results)))]
        text = "\n".join((*params, *self.lines, *results))
        numbers = [i for i in self.program.inputs if i.kind.role == "number"]
        given = numbers or [i for i in self.program.inputs if i.kind.role != "number"]
        lines = self.backend.dtype(self.arguments[given[0].name] if given else None, bool(numbers))
        return (*(x for x in lines if x.split(" = ")[0] in set(used.findall(text))), *params)

    def _output(self, e: Expr, indices: tuple[Index, ...]) -> str:
        self.order = {i: k for k, i in enumerate(indices)}
        self.vals = {}
        val = self._real(self._value(e))
        if val.type == "number":
            val = Val(self.backend.lift(val.text), ATOM, (), "real")
        if val.dims == indices:
            return val.text
        shape = [self._size(i.axis) for i in indices]
        return self.backend.expand(self._at(val, indices), shape)

    def _extent(self, axis: str) -> str:
        for i in self.program.inputs:
            if axis in i.axes:
                return f"{self.arguments[i.name]}.shape[{i.axes.index(axis)}]"
        raise LossError(f"no input of {self.program.name} has the axis {axis!r}, so its length is unknown")

    # -- statements ---------------------------------------------------------------------------------------------------

    def _assign(self, text: str, name: str) -> str:
        """A variable that holds a text's value; the same text is the same variable."""
        if text.isidentifier() and text not in ("True", "False"):
            return text
        if text not in self.named:
            self.named[text] = self.names.take(name)
            self.lines.append(f"{self.named[text]} = {text}")
        return self.named[text]

    def _bind(self, val: Val, name: str) -> Val:
        out = replace(val, text=self._assign(val.text, name), prec=ATOM, base=None)
        if len({i.axis for i in val.dims}) < len(val.dims) and out.text not in self.arguments.values():
            self.pairs.add(out.text)
        return out

    def _simple(self, val: Val) -> bool:
        return val.type == "number" or (val.base or val).text.isidentifier()

    def _size(self, axis: Axis) -> str:
        if isinstance(axis, Range):
            return f"{self._range(axis)}.shape[0]"
        if axis not in self.sizes:
            self.sizes[axis] = self.names.take("batch" if axis.startswith("~") else axis)
        return self.sizes[axis]

    def _first(self, axis: Range) -> str:
        """The first number of a range, as an atom."""
        text = self.backend.int_(self._value(axis.lo).text)
        return text if text.isdigit() or text.endswith(")") else f"({text})"

    def _range(self, axis: Range) -> str:
        lo, hi = (self.backend.int_(self._value(e).text) for e in (axis.lo, axis.hi))
        stop = str(int(hi) + 1) if hi.lstrip("-").isdigit() else f"{hi} + 1"
        if not (lo.lstrip("-").isdigit() and stop.lstrip("-").isdigit() and int(lo) <= int(stop)):
            stop = f"max({lo}, {stop})"
        return self._outside(self.backend.arange(lo, stop), "at")

    def _outside(self, text: str, name: str) -> str:
        """A variable that is assigned before the loop, if there is one."""
        if self.loop is None:
            return self._assign(text, name)
        inner, (self.lines, self.named) = (self.lines, self.named), self.loop.outer
        variable = self._assign(text, name)
        self.lines, self.named = inner
        return variable

    def _arange(self, i: Index) -> Val:
        if self.loop and i == self.loop.loop.at:
            return Val(self.loop.at, ATOM, (), "int")
        if isinstance(i.axis, Range):
            return Val(self._range(i.axis), ATOM, (i,), "int")
        if self.block and i == self.block.index:
            inner, (self.lines, self.named, _) = (self.lines, self.named), self.block.outer
            at = Val(self._assign(self.backend.arange(self._size(i.axis), None), f"at_{i.axis}"), ATOM, (i,), "int")
            self.lines, self.named = inner
            return self._blocked(at)
        name = self._outside(self.backend.arange(self._size(i.axis), None), f"at_{i.axis}".replace("~b", "batch"))
        return Val(name, ATOM, (i,), "int")

    # -- alignment ----------------------------------------------------------------------------------------------------

    def _dims(self, *parts: Iterable[Index]) -> tuple[Index, ...]:
        return tuple(sorted({i for p in parts for i in p}, key=self.order.__getitem__))

    def _at(self, val: Val, dims: tuple[Index, ...], prec: int = LOOSE) -> str:
        """The text as an array that broadcasts over ``dims``, of which its own are a part in order."""
        if not val.dims or val.dims == dims[len(dims) - len(val.dims) :]:
            return val.atom(prec)
        marks = [":" if d in val.dims else "None" for d in dims]
        return f"{val.atom()}[{', '.join(marks[marks.index(':'):])}]"

    def _sorted(self, val: Val) -> Val:
        """The array with its axes in the stage's order."""
        dims = self._dims(val.dims)
        return val if dims == val.dims else self._moved(val, dims)

    def _moved(self, val: Val, dims: tuple[Index, ...]) -> Val:
        """The array with its axes in another order."""
        base = val.base or val
        if dims == base.dims:
            return base
        return Val(self.backend.transpose(base.atom(), [base.dims.index(d) for d in dims]), ATOM, dims, val.type, base)

    # -- types --------------------------------------------------------------------------------------------------------

    def _real(self, val: Val) -> Val:
        if val.type in ("real", "number"):
            return val
        return Val(self.backend.cast(val), ATOM, val.dims, "real")

    def _lifted(self, vals: Sequence[Val]) -> list[Val]:
        """Operands of which at least one is an array, so that no Python number is computed with."""
        if any(v.type != "number" for v in vals):
            return list(vals)
        return [Val(self.backend.lift(vals[0].text), ATOM, (), "real"), *vals[1:]]

    def _condition(self, val: Val) -> Val:
        if val.type == "bool":
            return val
        return Val(f"{val.atom(OR)} != 0", COMPARE, val.dims, "bool")

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _stage(self, stage: Stage) -> Val:
        self.order = {i: k for k, i in enumerate((*stage.indices, *stage.over))}
        self.vals = {}
        name = stage.name.strip("~").replace("~", "")
        if name in self.arguments:
            name = f"grad_{name}"
        val = self._by_rows(stage) or (self._reduction(stage) if stage.op else self._pointwise(stage))
        return self._bind(val, name)

    def _loop(self, loop: Loop) -> Val:
        """An array that is given by itself, entry by entry."""
        lines, named, pairs = self.lines, self.named, self.pairs
        axis = loop.indices[0].axis
        count = self._size(axis)
        rows, step = self.names.take("rows"), self.names.take("step")
        self.order, self.vals = {i: k for k, i in enumerate((loop.at, *loop.indices[1:]))}, {}
        first = self._value(first_of(axis)).text
        at = step if first == "0" else f"({step} + {first})"
        self.loop = here = Open(loop, rows, step, at, (lines, named))
        self.lines, self.named, self.pairs = [], dict(named), set()
        for stage in loop.stages:
            self.slots[stage.name] = self._stage(stage)
            here.inner.add(stage.name)
        shape = [self._size(i.axis) for i in loop.indices[1:]]
        self.order, self.vals = {i: k for k, i in enumerate((loop.at, *loop.indices[1:]))}, {}
        entry = self._whole_entry(self._lifted([self._real(self._value(loop.expr))])[0], loop.indices[1:])
        body = [*self.lines, f"{rows}.append({entry})"]
        (self.lines, self.named, self.pairs), self.loop, self.vals = (lines, named, pairs), None, {}
        unknown = self.backend.constants["nan"]
        self.lines.append(f"{rows} = [{self.backend.full(shape, unknown)}]*{here.back}")
        if here.past:
            self.lines.append(f"{here.past} = {self.backend.full([count, *shape], unknown)}")
            body.append(f"{here.past} = written({here.past}, {step}, {rows}[-1])")
        over = f"range({count})" if loop.step > 0 else f"reversed(range({count}))"
        self.lines += [f"for {step} in {over}:", *(f"    {line}" for line in body)]
        out = Val(f"stacked({rows}, {here.back}, {loop.step})", ATOM, loop.indices, "real")
        return self._bind(out, f"along_{axis}" if isinstance(axis, str) else "along")

    def _whole_entry(self, val: Val, dims: tuple[Index, ...]) -> str:
        """A value as an array of all of the indices."""
        if val.dims == dims:
            return val.text
        return self.backend.expand(self._at(val, dims), [self._size(i.axis) for i in dims])

    def _by_rows(self, stage: Stage) -> Val | None:
        """A reduction over pairs and a further axis as a function over blocks of rows: the array before it is never whole."""
        free = frozenset().union(*(e.free for e in stage.roots))
        axes = [i.axis for i in free]
        plain = stage.op and stage.indices and len(axes) > 2 and len(set(axes)) < len(axes) and BATCH not in axes
        if not self.backend.by_rows or self.loop or not plain or stage.shape in ("ordered", "scatter", "contraction"):
            return None
        first = stage.indices[0]
        if first not in free:
            return None
        if not set(stage.over) <= free or isinstance(first.axis, Range) or first in stage.over or first in _all_but_one(stage)[0].values():
            return None
        if self._slices_rows(stage):
            return None
        self.block = block = Block(stage.indices[0], (self.lines, self.named, self.pairs))
        self.lines, self.named, self.pairs = [], dict(self.named), set()
        val = self._reduction(stage)
        inner, arguments = self.lines, block.arguments
        (self.lines, self.named, self.pairs), self.block = block.outer, None
        self.vals = {}
        name = self.names.take("block")
        width = "*".join(self._size(i.axis) for i in sorted(free, key=self.order.__getitem__) if i != stage.indices[0])
        self.lines += [f"def {name}({', '.join(arguments.values())}):", *(f"    {line}" for line in inner), f"    return {val.text}"]
        return Val(f"by_rows({name}, {width}, {', '.join(arguments)})", ATOM, val.dims, val.type)

    def _slices_rows(self, stage: Stage) -> bool:
        """Whether a gather leaves the rows of a stage as they are, so that it would have to be taken apart with them."""
        row = ix(stage.indices[0])
        return any(row in e.args and any(self._parts(e)) for e in postorder(stage.roots) if e.op == "ref")

    def _pointwise(self, stage: Stage) -> Val:
        """The value of a stage; one that is 0 but at one entry of each row starts from zeros."""
        found = _one_entry(stage.expr) if self.backend.place and not self.loop else None
        if found is None or stage.expr.free != frozenset(stage.indices) or not self._whole(found.place):
            return self._value(stage.expr)
        value, place = self._real(self._value(found.value)), self._value(found.place)
        zeros = self.backend.zeros([self._size(i.axis) for i in stage.indices])
        return self._placed("add", zeros, stage.indices, found.index, place, value)

    def _value(self, root: Expr) -> Val:
        """A node's value, its arguments first; long texts and those used twice become variables."""
        uses: dict[Expr, int] = {}
        nodes = self._nodes(root)
        for e in nodes:
            for a in self._parts(e):
                uses[a] = uses.get(a, 0) + 1
        entries = self._entries(nodes, uses) if self.backend.place and not self.loop else {}
        folded = {x for entry in entries.values() for x in entry.folded if uses[x] == 1}
        for e in nodes:
            if e in self.vals or e.op == "ix" or e in folded:
                continue
            val = self._entry(entries[e]) if e in entries else self._node(e)
            if e is not root and not self._simple(val) and (uses[e] > 1 or len(val.text) > _WIDTH):
                val = self._bind(val, hint(e))
            self.vals[e] = val
        return self._of(root)

    def _nodes(self, root: Expr) -> list[Expr]:
        """What is computed for a node, arguments first."""
        out: list[Expr] = []
        seen: set[Expr] = set()
        stack = [(root, False)]
        while stack:
            e, ready = stack.pop()
            if ready:
                out.append(e)
            elif e not in seen:
                seen.add(e)
                stack.append((e, True))
                stack += [(a, False) for a in reversed(self._parts(e)) if a not in seen]
        return out

    def _parts(self, e: Expr) -> Sequence[Expr]:
        """The arguments of a node that are computed: an array that is shifted or read along its axes needs no positions."""
        if e.op != "ref":
            return e.args
        args, axes = self._places(e)
        shifts = [_shift(a, axis) for a, axis in zip(args, axes, strict=True)]
        if all(shifts) and len({s[0] for s in shifts if s}) == len(shifts):
            return ()
        return [a for a, axis in zip(args, axes, strict=True) if not _along(a, axis)]

    def _entries(self, nodes: Sequence[Expr], uses: Mapping[Expr, int]) -> dict[Expr, Entry]:
        """Nodes that differ from an array only at one place of an axis: there is no need to look at every entry."""
        out = {}
        for e in nodes:
            found = next((x for x in _changed_entries(e) if all(uses[y] == 1 for y in x.folded[:1]) and self._whole(x.place)), None)
            if found:
                out[e] = found
        return out

    def _whole(self, e: Expr) -> bool:
        """Whether an expression is an array of integers."""
        return all(
            x.op in ("ix", "size", "add", "sub", "neg", "mul")
            or (x.op == "num" and x.data.denominator == 1)
            or (x.op == "ref" and self._array(x).type == "int")
            for x in postorder([e])
        )

    def _entry(self, entry: Entry) -> Val:
        """An array with one entry of each row added to or set, in place if the array is new."""
        x = self._lifted([self._real(self._of(entry.whole))])[0]
        value = self._real(self._of(entry.value) if entry.value.op != "num" else literal(entry.value.data))
        if entry.how == "sub":
            negative = value.text[1:] if value.prec == UNARY and value.text.startswith("-") else f"-{value.atom(UNARY)}"
            value = replace(value, text=negative, prec=UNARY)
        how = "put" if entry.how == "put" else "add"
        return self._placed(how, self._own_copy(x, entry.whole), x.dims, entry.index, self._of(entry.place), value)

    def _own_copy(self, x: Val, e: Expr) -> str:
        """The text of an array that may be written to."""
        new = e.op in ("add", "sub", "mul", "div", "pow", "neg") or (e.op == "call" and e.data != "stop")
        return x.text if new and not self._simple(x) else f"{x.atom()}.copy()"

    def _placed(self, how: str, array: str, dims: tuple[Index, ...], i: Index, place: Val, value: Val) -> Val:
        """An array whose index i is changed where it has a value."""
        assert self.backend.place is not None
        rows = tuple(d for d in dims if d != i)
        index = [self._at(self._from_start(place, i.axis) if d == i else self._entries_along(d), rows) for d in dims]
        return Val(self.backend.place(how, array, index, dims.index(i), self._at(value, rows)), ATOM, dims, "real")

    def _entries_along(self, i: Index) -> Val:
        """The positions along an axis in an array, which count from 0 in a range too."""
        at = self._arange(i)
        return self._from_start(at, i.axis) if isinstance(i.axis, Range) else at

    def _from_start(self, place: Val, axis: Axis) -> Val:
        """The position in an array of what has an index on an axis."""
        if not isinstance(axis, Range) or axis.lo is ZERO:
            return place
        return Val(f"{place.atom(PLUS)} - {self._first(axis)}", PLUS, place.dims, place.type)

    def _of(self, e: Expr) -> Val:
        return self._arange(e.data) if e.op == "ix" else self.vals[e]

    def _node(self, e: Expr) -> Val:
        match e.op:
            case "num":
                return literal(e.data)
            case "const":
                return Val(self.backend.constants[e.data], ATOM, (), "number")
            case "bool":
                return Val(str(e.data), ATOM, (), "bool")
            case "size":
                return Val(self._size(e.data), ATOM, (), "int")
            case "ref":
                return self._reference(e)
            case "add" | "sub" | "mul" | "div":
                return self._arithmetic(e)
            case "neg":
                (a,) = self._operands(e, number=True)
                return Val(f"-{a.atom(UNARY)}", UNARY, a.dims, a.type)
            case "pow":
                return self._power(*e.args)
            case "call":
                return self._call(e)
            case "cmp":
                a, b = self._lifted([self._of(x) for x in e.args])
                dims = self._dims(a.dims, b.dims)
                return Val(f"{self._at(a, dims, OR)} {e.data} {self._at(b, dims, OR)}", COMPARE, dims, "bool")
            case "and" | "or":
                a, b = (self._condition(self._of(x)) for x in e.args)
                dims, sign, prec = self._dims(a.dims, b.dims), *(("&", AND) if e.op == "and" else ("|", OR))
                return Val(f"{self._at(a, dims, prec)} {sign} {self._at(b, dims, prec + 1)}", prec, dims, "bool")
            case "not":
                a = self._condition(self._of(e.args[0]))
                return Val(self.backend.invert(a), UNARY if a.dims else ATOM, a.dims, "bool")
            case "iverson":
                return self._real(self._condition(self._of(e.args[0])))
            case "pw":
                return self._piecewise(e)
        raise NotYet(f"{e.op} inside an integer range's end")

    def _operands(self, e: Expr, *, number: bool = False) -> list[Val]:
        """The arguments as real numbers, or as integers if all are (and the operation keeps them so)."""
        vals = [self._of(a) for a in e.args]
        whole = all(v.type == "int" or (v.type == "number" and v.text.lstrip("-").isdigit()) for v in vals)
        if number and whole and any(v.type == "int" for v in vals):
            return vals
        return self._lifted([self._real(v) for v in vals])

    def _arithmetic(self, e: Expr) -> Val:
        sign, prec = {"add": ("+", PLUS), "sub": ("-", PLUS), "mul": ("*", TIMES), "div": ("/", TIMES)}[e.op]
        a, b = self._operands(e, number=e.op != "div")
        dims = self._dims(a.dims, b.dims)
        left, right = self._at(a, dims, prec), self._at(b, dims, prec + 1 if e.op in ("sub", "div") else prec)
        if b.prec == prec and e.op in ("add", "mul"):  # sums and products are evaluated as they were nested
            right = self._at(b, dims, prec + 1)
        spaced = f"{left} {sign} {right}" if prec == PLUS else f"{left}{sign}{right}"
        return Val(spaced, prec, dims, "int" if "int" in (a.type, b.type) and "real" not in (a.type, b.type) else "real")

    def _power(self, base: Expr, exponent: Expr) -> Val:
        a, b = self._real(self._of(base)), self._real(self._of(exponent))
        if exponent.op == "num" and a.type != "number" and (text := self._small_power(a, exponent.data)):
            return Val(text, TIMES if "*" in text or "/" in text else ATOM, a.dims, "real")
        a, b = self._lifted([a, b])
        dims = self._dims(a.dims, b.dims)
        return Val(self.backend.call("pow", 2).format(self._at(a, dims), self._at(b, dims)), ATOM, dims, "real")

    def _small_power(self, a: Val, n: Fraction) -> str | None:
        """Powers by products and square roots where they are exact enough and much faster."""
        root = self.backend.call("sqrt", 1)
        if n in (Fraction(1, 2), Fraction(-1, 2)):
            text = root.format(a.text)
            return text if n > 0 else f"1/{text}"
        if n == 2 and not self._simple(a):
            return self.backend.call("square", 1).format(a.text)
        if n == -1:
            return f"1/{a.atom(UNARY)}"
        if n not in (2, 3, 4, -2, Fraction(3, 2)):
            return None
        x = a.text if self._simple(a) else self._bind(a, "base").text
        if n == Fraction(3, 2):
            return f"{x}*{root.format(x)}"
        if n == 4:
            x = self._assign(f"{x}*{x}", "square")
            return f"{x}*{x}"
        return f"1/({x}*{x})" if n == -2 else "*".join([x] * int(n))

    def _call(self, e: Expr) -> Val:
        if e.data == "stop" and self.backend.call("stop", 1) == "{0}":
            return self._of(e.args[0])
        args = self._lifted([self._real(self._of(a)) for a in e.args])
        if self.backend.numbers is not None and e.data not in self.backend.numbers:
            args = [self._lifted([a])[0] for a in args]
        dims = self._dims(*(a.dims for a in args))
        template = self.backend.call(e.data, len(args))
        if e.data in self.backend.bounds and dims and not (args[0].dims and args[1].dims):
            template = self.backend.bounds[e.data]
            args.sort(key=lambda a: not a.dims)
        texts = [self._at(a, dims, _needed(template, k)) for k, a in enumerate(args)]
        return Val(template.format(*texts), ATOM if _closed(template) else LOOSE, dims, "real")

    def _piecewise(self, e: Expr) -> Val:
        pairs, otherwise = branches(e)
        out = self._real(self._of(otherwise))
        for value, condition in reversed(pairs):
            v, c = self._real(self._of(value)), self._condition(self._of(condition))
            if len(out.text) > _WIDTH // 2:
                out = self._bind(out, "rest")
            out = self._decided(c, v, out) if self.loop and decided(condition) else self._where(c, v, out)
        return out

    def _decided(self, c: Val, a: Val, b: Val) -> Val:
        """One of two values by a condition that Python decides."""
        dims = self._dims(a.dims, b.dims)
        shape = [self._size(i.axis) for i in dims]
        either = [
            self._outside(self.backend.full(shape, v.text), "full") if v.type == "number" else self._whole_entry(v, dims) for v in (a, b)
        ]
        return Val(f"({either[0]} if {c.text} else {either[1]})", ATOM, dims, "real")

    def _where(self, c: Val, a: Val, b: Val) -> Val:
        a, b = self._lifted([a, b])
        dims = self._dims(c.dims, a.dims, b.dims)
        kind = a.type if a.type != "number" else b.type
        condition = replace(c, text=self._at(c, dims), prec=LOOSE)
        return Val(self.backend.where(condition, self._at(a, dims), self._at(b, dims), kind), ATOM, dims, kind)

    # -- references and gathers ---------------------------------------------------------------------------------------

    def _reference(self, e: Expr) -> Val:
        """An array at its indices: transposed, shifted or gathered as they say."""
        base = self._array(e)
        if self.loop:
            base = self._at_position(self.loop, e, base)
        args, axes = self._places(e)
        base, args, axes = self._at_numbers(base, args, axes)
        plain = [a.data if _along(a, axis) else None for a, axis in zip(args, axes, strict=True)]
        if all(plain) and len(set(plain)) == len(plain):
            return self._blocked(self._sorted(replace(base, dims=tuple(i for i in plain if i))))
        shifts = [_shift(a, axis) for a, axis in zip(args, axes, strict=True)]
        if all(shifts) and len({s[0] for s in shifts if s}) == len(shifts):
            text = base.text
            for k, s in enumerate(shifts):
                if s and s[1]:
                    text = self.backend.shift(text, k, s[1])
            return self._blocked(self._sorted(replace(base, text=text, dims=tuple(s[0] for s in shifts if s))))
        return self._gather(base, args, axes)

    def _places(self, e: Expr) -> tuple[Sequence[Expr], Sequence[Axis]]:
        """The indices of a reference and their axes, but for those that the position of a loop says."""
        args, axes = e.args, self._axes(e)
        if self.loop is None:
            return args, axes
        if e.data == self.loop.loop.name:
            return (args, axes) if self.loop.steps(args[0]) is None else (args[1:], axes[1:])
        kept = [k for k, a in enumerate(args) if not (a.op == "ix" and in_loop(a.data))]
        inner = e.data in self.loop.inner  # its axes are those that are left
        return [args[k] for k in kept], axes if inner else [axes[k] for k in kept]

    def _at_position(self, here: Open, e: Expr, base: Val) -> Val:
        """What a reference in a loop reads at the position there."""
        if e.data == here.loop.name:
            back = here.steps(e.args[0])
            if back is not None:
                here.back = max(here.back, back)
                return Val(f"{here.rows}[-{back}]", ATOM, here.loop.indices[1:], "real")
            here.past = here.past or self.names.take("past")
            return Val(here.past, ATOM, here.loop.indices, "real")
        k = next((k for k, a in enumerate(e.args) if a.op == "ix" and in_loop(a.data)), None)
        if k is None or e.data in here.inner:
            return base
        entries = self._outside(self.backend.apart(base.text, k), f"{base.text}_rows" if base.text.isidentifier() else "entries")
        return Val(f"{entries}[{here.step}]", ATOM, without(base.dims, k), base.type)

    def _at_numbers(self, base: Val, args: Sequence[Expr], axes: Sequence[Axis]) -> tuple[Val, Sequence[Expr], Sequence[Axis]]:
        """An array at the indices that are numbers and surely inside of their axes, and what is left of indices and axes."""
        at = [_number_inside(a, axis) for a, axis in zip(args, axes, strict=True)]
        if all(x is None for x in at):
            return base, args, axes
        marks = [":" if x is None else str(x) for x in at]
        while marks[-1] == ":":
            marks.pop()
        left = [k for k, x in enumerate(at) if x is None]
        dims = tuple(base.dims[k] for k in left) if base.dims else ()
        return Val(f"{base.atom()}[{', '.join(marks)}]", ATOM, dims, base.type), [args[k] for k in left], [axes[k] for k in left]

    def _blocked(self, val: Val) -> Val:
        """Inside a function over blocks of rows, an array that has these rows is an argument."""
        if self.block is None or self.block.index not in val.dims:
            return val
        if val.text not in self.block.arguments:
            self.block.arguments[val.text] = self.names.take(f"{(val.base or val).text}_rows" if self._simple(val) else "rows")
        return replace(val, text=self.block.arguments[val.text], prec=ATOM, base=None)

    def _array(self, e: Expr) -> Val:
        """What a reference names, its axes not yet said."""
        if self.loop and e.data == self.loop.loop.name:
            return Val(self.loop.rows, ATOM, (), "real")
        if e.data in self.slots:
            return self.slots[e.data]
        text = self.arguments[e.data]
        if e.data not in self.inputs:
            return Val(text, ATOM, (), "real")
        role = self.inputs[e.data].kind.role
        return Val(text, ATOM, (), {"number": "real", "condition": "bool"}.get(role, "int"))

    def _axes(self, e: Expr) -> Sequence[Axis]:
        if self.loop and e.data == self.loop.loop.name:
            return [i.axis for i in self.loop.loop.indices]
        if e.data in self.inputs:
            return self.inputs[e.data].axes
        return [i.axis for i in self.slots[e.data].dims] if e.data in self.slots else ()

    def _sliced(self, base: Val, args: Sequence[Expr], axes: Sequence[Axis]) -> Val | None:
        """An array at fixed entries of axes that surely have them, such as the corners of a box."""
        plain = [a.data for a, axis in zip(args, axes, strict=True) if _along(a, axis) and not in_loop(a.data)]
        fixed = [a for a, axis in zip(args, axes, strict=True) if a.op == "num" and self._has(axis, a.data)]
        if len(plain) + len(fixed) < len(args) or len(set(plain)) < len(plain):
            return None
        text = f"{base.atom()}[{', '.join(':' if a.op == 'ix' else str(a.data) for a in args)}]"
        return self._blocked(self._sorted(Val(text, ATOM, tuple(plain), base.type)))

    def _has(self, axis: Axis, place: Fraction) -> bool:
        length = self.program.length(axis)
        return isinstance(axis, str) and length.op == "num" and place.denominator == 1 and 0 <= place < length.data

    def _gather(self, base: Val, args: Sequence[Expr], axes: Sequence[Axis]) -> Val:
        """Computed places first, with the plain indices they depend on; the other axes are slices after them."""
        if (sliced := self._sliced(base, args, axes)) is not None:
            return sliced
        loose = [k for k, (a, axis) in enumerate(zip(args, axes, strict=True)) if not _along(a, axis)]
        moving = frozenset(i for k in loose for i in args[k].free)
        computed = [k for k, a in enumerate(args) if k in loose or a.data in moving or args.count(a) > 1]
        rest = [k for k in range(len(args)) if k not in computed]
        rows = next((k for k in rest if self.block and args[k].data == self.block.index), None)
        first = [] if rows is None else [rows]  # inside a function over blocks of rows, the array's rows are an argument
        places = [*first, *(k for k in range(len(args)) if k not in first)]
        array = base.text if places == sorted(places) else self.backend.transpose(base.text, places)
        if rows is not None:
            array = self._blocked(Val(array, ATOM, (args[rows].data,), base.type, base)).text
        order = [places.index(k) for k in computed + rest]
        array = array if order == sorted(order) else self.backend.transpose(array, order)
        dims = self._dims(i for k in computed for i in args[k].free if not in_loop(i))
        at = [self._position(self._from_start(self._of(args[k]), axes[k]), dims) for k in computed]
        kept = tuple(args[k].data for k in rest)
        text = self.backend.pick(array, at, [k for k, c in enumerate(computed) if c in loose])
        return self._sorted(Val(text, ATOM, (*dims, *kept), base.type))

    def _position(self, val: Val, dims: tuple[Index, ...]) -> str:
        text = self._at(val, dims)
        if val.type == "number" and text.lstrip("-").isdigit():
            return text
        return text if val.type == "int" or "as_index" not in self.backend.helpers else f"as_index({text})"

    # -- reductions ---------------------------------------------------------------------------------------------------

    def _reduction(self, stage: Stage) -> Val:
        if found := in_order(stage):
            return self._running(stage, found)
        if stage.op == "sum":
            places, rest = targets(stage)
            if places:
                return self._scatter(stage, places, rest)
            if split := factors(stage):
                return self._contraction(stage, *split)
        if stage.op == "prod":
            return self._product_of(stage)
        guard = None if self._holed(stage) else self._all(stage.guard)
        if stage.op == "sum" and stage.expr is ONE and guard:
            return self._reduced("count", self._condition(guard), stage)
        body = self._value(stage.expr)
        if stage.op == "any":
            return self._reduced("any", self._condition(body), stage)
        if stage.op == "argsort":
            return self._order_of(stage, body if body.type == "int" else self._real(body), guard)
        body = self._real(body)
        if hole := self._hole(stage, body):
            return self._reduced("sum", hole, stage)
        if guard and stage.op in ("sum", "norm"):
            return self._reduced(stage.op, self._where(guard, body, literal(Fraction(0))), stage)
        return self._reduced(stage.op or "", self._lifted([body])[0], stage, guard)

    def _order_of(self, stage: Stage, body: Val, guard: Val | None) -> Val:
        """The indices of an axis in the order of what is sorted; its places lie along that axis."""
        (index,), place = stage.over, stage.indices[-1]
        dims = self._dims(body.dims, guard.dims if guard else (), stage.over)
        whole = self._over_all(self._lifted([body])[0], dims, stage.over)
        axis, where = dims.index(index), None
        if guard:  # of more axes than the array, perhaps; both end alike
            axis, where = axis - len(dims), self._at(guard, dims)
        text = self.backend.reduce("argsort", self._at(whole, dims), [axis], where)
        return self._shifted(Val(text, ATOM, tuple(place if i == index else i for i in dims), "place" if guard else "int"), index.axis)

    def _shifted(self, place: Val, axis: Axis) -> Val:
        """A place along an axis as the value of the index there."""
        if not isinstance(axis, Range):
            return place
        return Val(f"{place.text} + {self._first(axis)}", PLUS, place.dims, place.type)

    def _product_of(self, stage: Stage) -> Val:
        """A product, or for each entry that of all the others."""
        left_out, rest = _all_but_one(stage)
        body, guard = self._lifted([self._real(self._value(stage.expr))])[0], self._all(rest)
        body = self._where(guard, body, literal(Fraction(1))) if guard else body
        if not left_out:
            return self._reduced("prod", body, stage)
        dims = self._dims(body.dims, stage.over)
        whole = self._over_all(body, dims, stage.over)
        text = self.backend.reduce("others", self._at(whole, dims), [dims.index(i) for i in left_out], None)
        return self._sorted(Val(text, ATOM, tuple(left_out.get(i, i) for i in dims), "real"))

    def _holed(self, stage: Stage) -> Entry | None:
        """For a sum over all but one place of an axis: that place, to be set to 0."""
        if self.backend.place is None or stage.op != "sum" or len(stage.guard) != 1 or stage.expr.op == "num":
            return None
        at = _at_index(stage.guard[0], "!=")
        if at is None or at[0] not in stage.over or at[0] not in stage.expr.free or not self._whole(at[1]):
            return None
        return Entry("put", stage.expr, ZERO, *at) if at[1].free <= stage.expr.free else None

    def _hole(self, stage: Stage, body: Val) -> Val | None:
        entry = self._holed(stage)
        if entry is None:
            return None
        array = self._own_copy(body, stage.expr)
        return self._placed("put", array, body.dims, entry.index, self._value(entry.place), literal(Fraction(0)))

    def _all(self, conditions: Sequence[Expr]) -> Val | None:
        """All conditions together, or None if there are none."""
        vals = [self._condition(self._value(c)) for c in conditions]
        return self._together(vals) if vals else None

    def _together(self, vals: Sequence[Val]) -> Val:
        if len(vals) == 1:
            return vals[0]
        dims = self._dims(*(v.dims for v in vals))
        return Val(" & ".join(self._at(v, dims, AND + 1) for v in vals), AND, dims, "bool")

    def _reduced(self, op: str, body: Val, stage: Stage, guard: Val | None = None) -> Val:
        """A reduction of a whole array; binders that it lacks are broadcast first."""
        dims = self._dims(body.dims, guard.dims if guard else (), stage.over)
        if guard is None:
            body = self._over_all(body, dims, stage.over)
        axes = [dims.index(i) for i in stage.over]
        where = self._at(guard, dims) if guard else None
        text = self.backend.reduce(op, self._at(body, dims, ATOM), axes, where)
        first = "place" if guard else "int"
        kind = {"any": "bool", "count": "int", "argmax": first, "argmin": first}.get(op, "real")
        out = Val(text, ATOM, tuple(i for i in dims if i not in stage.over), kind)
        return self._shifted(out, stage.over[0].axis) if op in ("argmax", "argmin") else out

    def _over_all(self, body: Val, dims: tuple[Index, ...], over: Sequence[Index]) -> Val:
        """An array over all of the indices that are run over, repeated along those that it lacks."""
        if set(over) <= set(body.dims):
            return body
        shape = [self._size(i.axis) if i in body.dims or i in over else "1" for i in dims]
        return Val(self.backend.expand(self._at(body, dims), shape), ATOM, dims, body.type)

    def _scatter(self, stage: Stage, places: dict[Index, Expr], rest: Sequence[Expr]) -> Val:
        """A sum into computed places: rows of the summand are added up where their index says."""
        body = self._lifted([self._real(self._value(stage.expr))])[0]
        at = {i: self._value(e) for i, e in places.items()}
        guard = self._all(rest)
        fixed = {i for v in (*at.values(), *([guard] if guard else [])) for i in v.dims}
        kept = tuple(i for i in stage.indices if i in body.dims and i not in fixed)
        rows = self._dims(body.dims, fixed, stage.over)
        rows = tuple(i for i in rows if i not in kept)
        lead = tuple(i for i in stage.indices if i in rows or i in places)
        index = [self._at(self._from_start(at[i], i.axis) if i in at else self._entries_along(i), rows) for i in lead]
        shape = [self._size(i.axis) for i in (*lead, *kept)]
        order = (*rows, *kept)
        if order != self._dims(order):
            body = self._moved(body, tuple(i for i in order if i in body.dims))
        values = self._at(body, order)
        where = f", {self._at(guard, rows)}" if guard else ""
        text = f"scatter(({', '.join(shape)},), ({', '.join(index)},), {values}{where})"
        return self._sorted(Val(text, ATOM, (*lead, *kept), "real"))

    # -- reductions in the order of a key ----------------------------------------------------------------------------------

    def _running(self, stage: Stage, found: Ordered) -> Val:
        """A running reduction in the order of the keys, read where the queries end; equal keys and queries are one variable.

        Rows of what is reduced alone stand first, so that they do not show in that variable.
        """
        wanted = found.sets
        ordering = frozenset().union(*(c.condition.free for c in wanted.by), *(m.free for m in wanted.masks))
        rows = tuple(sorted((i for i in stage.indices if i not in wanted.queries), key=lambda i: i in ordering))
        queries = tuple(i for i in stage.indices if i in wanted.queries)
        sets = self._assign(self._sets(stage, wanted, rows, queries), "sets")
        if stage.op == "any":
            text, prec, kind = f"{sets}[0] > 0", COMPARE, "bool"
        elif stage.op == "sum" and found.weight is ONE and found.rise is None:
            text, prec, kind = f"{sets}[0]", ATOM, "int"
        else:
            weight = self._lifted([self._real(self._value(found.weight))])[0]
            arrays = [self._laid(weight, rows, stage.over)]
            if found.rise is not None and found.fall is not None:
                arrays.append(self._laid(self._real(self._value(found.rise)), rows, stage.over))
                arrays.append(self._laid(self._real(self._value(found.fall)), rows, queries))
            name = stage.op if found.rise is None else "exp"
            text, prec, kind = f"running_{name}({', '.join((sets, *arrays))})", ATOM, "real"
        if len(queries) > 1:
            text = f"{text if prec == ATOM else f'({text})'}.reshape({', '.join(self._size(i.axis) for i in (*rows, *queries))})"
            prec = ATOM
        return self._sorted(Val(text, prec, (*rows, *queries), kind))

    def _sets(self, stage: Stage, wanted: Sets, rows: tuple[Index, ...], queries: tuple[Index, ...]) -> str:
        """For each query the number of elements that belong to it, and where in which order they are."""
        first = wanted.by[0]
        if first.key.op == "ix" and len(wanted.by) == 1 and not wanted.masks:
            axis = first.key.data.axis
            low = self.backend.int_(self._value(axis.lo).text) if isinstance(axis, Range) else "0"
            return f'steps({self._laid(self._value(first.query), rows, queries)}, "{first.relation}", {low}, {self._size(axis)})'
        masks = self._all(wanted.masks)
        where = f", {self._laid(masks, rows, stage.over)}" if masks else ""
        ends = [(self._laid(self._value(c.key), rows, stage.over), self._laid(self._value(c.query), rows, queries)) for c in wanted.by]
        if wanted.by[-1].relation == "==":
            ordered, equal = [c for c in wanted.by if c.relation != "=="], [f"({a}, {b})" for a, b in ends]
            order = f'({ends[0][0]}, {ends[0][1]}, "{ordered[0].relation}")' if ordered else "None"
            return f"grouped([{', '.join(equal[len(ordered) :])}], {order}{where})"
        compared = ", ".join(f'{a}, {b}, "{c.relation}"' for (a, b), c in zip(ends, wanted.by, strict=True))
        return f"{'prefixes' if len(ends) == 1 else 'dominated'}({compared}{where})"

    def _laid(self, val: Val, rows: tuple[Index, ...], last: Sequence[Index]) -> str:
        """An array that broadcasts over rows and has the last indices, all of them, as one axis behind them."""
        order = (*rows, *last)
        val = self._in_order(val, order)
        if not set(last) <= set(val.dims):
            dims = tuple(i for i in order if i in val.dims or i in last)
            val = Val(self.backend.expand(self._at(val, dims), [self._size(i.axis) for i in dims]), ATOM, dims, val.type)
        if len(last) == 1:
            return self._at(val, order)
        shape = [self._size(i.axis) if i in val.dims else "1" for i in rows]
        return f"{val.atom()}.reshape({', '.join((*shape, '*'.join(self._size(i.axis) for i in last)))})"

    def _in_order(self, val: Val, order: Sequence[Index]) -> Val:
        dims = tuple(i for i in order if i in val.dims)
        return val if dims == val.dims else self._moved(val, dims)

    # -- contractions -------------------------------------------------------------------------------------------------

    def _contraction(self, stage: Stage, negative: bool, groups: list[Factor]) -> Val:
        """A sum of a product without the product as an array. A guard sits on one factor; if the others are not finite, it selects."""
        arrays = [self._factor(g) for g in groups]
        guards = [self._condition(self._value(c)) for c in stage.guard]
        masked: list[list[Val]] = [[] for _ in arrays]
        loose: list[Val] = []
        for g in guards:
            homes = [k for k, a in enumerate(arrays) if set(g.dims) <= set(a.dims)]
            (masked[min(homes, key=lambda k: len(arrays[k].dims))] if homes else loose).append(g)
        if loose or (guards and self.backend.finite is None):
            return self._dense(stage, negative, arrays, guards)
        ready = [self._bind(self._masked(a, m), "factor") if m or not self._simple(a) else a for a, m in zip(arrays, masked, strict=True)]
        out = self._product(stage, ready)
        if negative:
            out = Val(f"-{out.atom(UNARY)}", UNARY, out.dims, out.type)
        bare = [a for a, m in zip(ready, masked, strict=True) if len(m) < len(guards)]
        if not guards or not bare or self.backend.finite is None:
            return out
        return self._checked(out, bare, lambda: self._dense(stage, negative, [self._simple_value(a) for a in arrays], guards))

    def _simple_value(self, val: Val) -> Val:
        return val if self._simple(val) else replace(val, text=val.atom(), prec=ATOM)

    def _checked(self, out: Val, bare: Sequence[Val], dense: Callable[[], Val]) -> Val:
        """The fast form where the factors are finite, the selecting one elsewhere."""
        assert self.backend.finite is not None
        name = self.names.take("sum")
        kept, self.lines = self.lines, []
        slow = dense()
        inner, self.lines = self.lines, kept
        for text in [t for t, v in self.named.items() if any(line.startswith(f"{v} = ") for line in inner)]:
            del self.named[text]  # assigned in one branch only
        test = " and ".join(self.backend.finite((a.base or a).text) for a in bare)
        self.lines += [f"if {test}:", f"    {name} = {out.text}", "else:", *(f"    {line}" for line in inner), f"    {name} = {slow.text}"]
        return Val(name, ATOM, out.dims, out.type)

    def _factor(self, g: Factor) -> Val:
        """One factor as an array over its own indices."""
        over = [self._real(self._value(e)) for e in g.over] or [Val("1", ATOM, (), "number")]
        under = [self._real(self._value(e)) for e in g.under]
        out = over[0]
        for sign, vals in (("*", over[1:]), ("/", under)):
            for v in vals:
                a, b = self._lifted([out, v])
                dims = self._dims(a.dims, b.dims)
                out = Val(f"{self._at(a, dims, TIMES)}{sign}{self._at(b, dims, UNARY)}", TIMES, dims, "real")
        return out

    def _masked(self, a: Val, conditions: Sequence[Val]) -> Val:
        return self._where(self._together(conditions), a, literal(Fraction(0))) if conditions else a

    def _dense(self, stage: Stage, negative: bool, arrays: Sequence[Val], guards: Sequence[Val]) -> Val:
        dims = self._dims(*(a.dims for a in arrays))
        body = Val("*".join(self._at(a, dims, UNARY) for a in arrays), TIMES, dims, "real")
        out = self._reduced("sum", self._masked(body, guards), stage)
        return Val(f"-{out.atom(UNARY)}", UNARY, out.dims, out.type) if negative else out

    def _product(self, stage: Stage, arrays: Sequence[Val]) -> Val:
        """A matrix product where it is one, else an einsum; factors without a bound index come after it."""
        over = set(stage.over)
        inner = [a for a in arrays if over & set(a.dims)]
        after = [a for a in arrays if not over & set(a.dims)]
        dims = tuple(i for i in self._dims(*(a.dims for a in inner)) if i not in over)
        out = (self._matmul(stage, dims, *inner) if len(inner) == 2 else None) or self._einsum(dims, inner)
        for a in after:
            whole = self._dims(out.dims, a.dims)
            out = Val(f"{self._at(out, whole, TIMES)}*{self._at(a, whole, UNARY)}", TIMES, whole, "real")
        return out

    def _matmul(self, stage: Stage, dims: tuple[Index, ...], a: Val, b: Val) -> Val | None:
        """``a @ b`` if each has one index of its own, one is summed, and the shared ones come first."""
        over = set(stage.over)
        shared = tuple(i for i in dims if i in a.dims and i in b.dims)
        summed = [i for i in a.dims if i in over and i in b.dims]
        if len(summed) != 1 or any(i in over and i not in summed for i in (*a.dims, *b.dims)):
            return None
        own = [[i for i in x.dims if i not in shared and i not in over] for x in (a, b)]
        if any(len(x) > 1 for x in own) or (shared and not all(own)):
            return None
        if own[0] and own[1] and dims.index(own[0][0]) > dims.index(own[1][0]):
            a, b, own = b, a, own[::-1]
        out = (*shared, *own[0], *own[1])
        left, right = (*shared, *own[0], *summed), (*shared, *summed, *own[1])
        text = f"{self._arranged(a, left)} @ {self._arranged(b, right)}"
        return self._sorted(Val(text, TIMES, out, "real"))

    def _arranged(self, val: Val, dims: tuple[Index, ...]) -> str:
        return val.atom() if dims == val.dims else self._moved(val, dims).text

    def _einsum(self, dims: tuple[Index, ...], arrays: Sequence[Val]) -> Val:
        letters = {i: "abcdefghijklmnopqrstuvwxyz"[k] for k, i in enumerate(self._dims(*(a.dims for a in arrays)))}
        spec = ",".join("".join(letters[i] for i in a.dims) for a in arrays) + "->" + "".join(letters[i] for i in dims)
        return Val(self.backend.contraction(spec, [a.text for a in arrays]), ATOM, dims, "real")


@dataclass(frozen=True, slots=True)
class Entry:
    """An array changed at one place of an axis: ``how`` is add, sub or put; ``folded`` are the nodes that say so."""

    how: str
    whole: Expr
    value: Expr
    index: Index
    place: Expr
    folded: tuple[Expr, ...] = ()


def _all_but_one(stage: Stage) -> tuple[dict[Index, Index], tuple[Expr, ...]]:
    """The indices of a result that a product over all other entries leaves out, by those that it runs over; and what else guards it."""
    for c in stage.guard if stage.op == "prod" else ():
        rest = tuple(x for x in stage.guard if x is not c)
        pairs = [_pair(x, stage) for x in disjuncts(c)]
        found = dict(p for p in pairs if p)
        used = stage.expr.free.union(*(x.free for x in rest))
        if None not in pairs and len(found) == len(set(found.values())) == len(stage.over) and used.isdisjoint(found.values()):
            return found, rest
    return {}, stage.guard


def _pair(c: Expr, stage: Stage) -> tuple[Index, Index] | None:
    """A bound index and one of the result, if the condition is that they differ."""
    if c.op == "cmp" and c.data == "!=" and all(x.op == "ix" for x in c.args):
        for a, b in ((x.data for x in c.args), (x.data for x in c.args[::-1])):
            if a in stage.over and b in stage.indices and a.axis == b.axis:
                return a, b
    return None


def _at_index(condition: Expr, relation: str) -> tuple[Index, Expr] | None:
    """The index and what it is compared with, for a condition ``index == place``."""
    if condition.op == "cmp" and condition.data == relation:
        for a, b in (condition.args, condition.args[::-1]):
            if a.op == "ix" and a.data not in b.free:
                return a.data, b
    return None


def _one_entry(e: Expr) -> Entry | None:
    """A term that is 0 but at one place of an axis."""
    if e.op == "pw" and len(e.args) == 3 and e.args[2] is ZERO:
        value, condition = e.args[:2]
    elif e.op == "iverson":
        value, condition = ONE, e.args[0]
    else:
        return None
    at = _at_index(condition, "==")
    return Entry("add", ZERO, value, *at, (e, condition)) if at and at[0] not in value.free else None


def _changed_entries(e: Expr) -> Iterator[Entry]:
    """The ways to see a node as an array that is changed at one place of an axis."""
    if e.op in ("add", "sub"):
        a, b = e.args
        for whole, term in ((a, b), (b, a)) if e.op == "add" else ((a, b),):
            found = _one_entry(term)
            if found and term is not whole and term.free <= whole.free:
                yield replace(found, how=e.op, whole=whole)
    elif e.op == "pw" and len(e.args) == 3:
        first, condition, other = e.args
        for relation, value, whole in (("==", first, other), ("!=", other, first)):
            at = _at_index(condition, relation)
            if at and at[0] in whole.free and at[0] not in value.free and value.free | at[1].free <= whole.free:
                yield Entry("put", whole, value, *at, (condition,))


def _along(e: Expr, axis: Axis) -> bool:
    """Whether a place is an index that runs along the axis; one that runs along a range may leave it."""
    return e.op == "ix" and e.data.axis == axis


def _number_inside(e: Expr, axis: Axis) -> int | None:
    """A place that is a number on a range of numbers, counted from its first."""
    if e.op != "num" or not isinstance(axis, Range) or axis.lo.op != "num" or axis.hi.op != "num":
        return None
    return int(e.data - axis.lo.data) if axis.lo.data <= e.data <= axis.hi.data else None


def _shift(e: Expr, axis: Axis) -> tuple[Index, int] | None:
    """The index and the constant of ``i + c`` along an axis, if the place is one."""
    if e.op == "ix" and e.data.axis == axis:
        return e.data, 0
    if e.op in ("add", "sub"):
        a, b = e.args
        if e.op == "add" and a.op == "num":
            a, b = b, a
        if a.op == "ix" and a.data.axis == axis and b.op == "num" and b.data.denominator == 1:
            return a.data, int(b.data if e.op == "add" else -b.data)
    return None


def _needed(template: str, k: int) -> int:
    """The precedence that an argument needs in a template: none between parentheses and commas."""
    places = [m.span() for m in re.finditer(rf"\{{{k}\}}", template)]
    enclosed = all(template[:a].rstrip().endswith(("(", ",")) and template[b:].lstrip().startswith((")", ",")) for a, b in places)
    return LOOSE if enclosed else ATOM


def _closed(template: str) -> bool:
    """Whether a template is one call or stands in parentheses, so that it needs none around it."""
    if not (m := re.match(r"[\w.{}]*\(", template)) or not template.endswith(")"):
        return False
    depth = 0
    for k, c in enumerate(template[m.end() - 1 :]):
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return k == len(template) - m.end()
    return False

