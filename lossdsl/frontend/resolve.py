"""What a definition declares: inputs and hyper-parameters, kinds, axes, the names it takes from losses that it mentions.

Everything is decided on the syntax tree, where the places are; ``lower`` then gives the equation its meaning.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any, NoReturn, Protocol

from lossdsl.errors import LossError, NotYet, Source, Span, did_you_mean, listed
from lossdsl.frontend import syntax, words
from lossdsl.frontend.axes import Ends, declared_axes, flat, kinds_of, ranged
from lossdsl.frontend.comments import without_comments
from lossdsl.frontend.steps import Steps
from lossdsl.ir.program import Input, Note, Param
from lossdsl.kinds import KINDS, FunctionKind, Interval, Kind

STANDING = ("f", "y", "r", "z")
CONSTANTS = ("pi", "inf")
RESERVED = ("reduction", "sample_weight", "sample_mask", "check")
MAX_DIGITS = 2000
_MANY = 600


class Blame:
    """Makes errors of one definition: spans count from its start."""

    def __init__(self, source: Source, base: int) -> None:
        self.source, self.base = source, base

    def error(self, message: str, span: Span, hint: str, kind: type[LossError] = LossError) -> LossError:
        return kind(message, span=Span(self.base + span.start, self.base + span.end), source=self.source, hint=hint)

    def fail(self, message: str, span: Span, hint: str) -> NoReturn:
        raise self.error(message, span, hint)

    def not_yet(self, what: str, span: Span, hint: str) -> NoReturn:
        raise self.error(f"{what} is not compiled by this version", span, hint, NotYet)


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """A hint at the nearest known name, or another hint; a crowd of names is not searched."""
    names = list(dict.fromkeys(known))
    return (did_you_mean(name, names) if len(names) <= _MANY else None) or otherwise


@dataclass(frozen=True, slots=True)
class FunctionParam:
    """A function that a definition is given: its kind (None: as its default's), which function it is unless said, and its place
    among the inputs, None for a hyper-parameter."""

    name: str
    kind: FunctionKind | None
    default: str | None
    span: Span
    place: int | None = None


@dataclass(frozen=True, slots=True)
class OutputIndex:
    """An index of an array definition: an axis' own, one that runs over a range, or (``new``) a further one over an axis."""

    name: str
    axis: str
    new: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """What a definition is to whoever calls it.

    ``axes`` maps the declared names of axes to the axis that each equals, ``lengths`` lists what is declared of their lengths,
    ``ranges`` the indices of heads that run over a range and are axes of the definition by their names.
    """

    name: str
    inputs: tuple[Input, ...]
    params: tuple[Param, ...]
    functions: tuple[FunctionParam, ...]
    axes: Mapping[str, str]
    outputs: tuple[OutputIndex, ...]
    standing: frozenset[str]
    shared: Mapping[str, Loss]
    declares: bool
    wrt: tuple[str, ...]
    batch: str | None
    notes: tuple[Note, ...]
    lengths: tuple[tuple[str, syntax.Node], ...]
    ranges: tuple[tuple[syntax.Head, Ends], ...]

    @property
    def arguments(self) -> list[str]:
        """The names of what a call takes by position, in declared order."""
        out = [i.name for i in self.inputs]
        for f in self.functions:
            if f.place is not None:
                out.insert(f.place, f.name)
        return out


class Loss(Protocol):
    """A definition that others may mention; ``library.Entry`` is one."""

    @property
    def name(self) -> str: ...

    def signature(self) -> Steps[Signature]: ...

    def lowered(self, functions: Mapping[str, Any]) -> Steps[Any]: ...


class Losses(Protocol):
    """Where a definition looks up the losses that it mentions; ``library.File`` is one."""

    def find(self, name: str) -> Loss | None: ...

    def names(self) -> list[str]: ...

    def is_public(self, loss: Loss) -> bool: ...


def resolve(definition: syntax.Definition, source: Source, losses: Losses) -> Steps[Signature]:
    """The signature of a definition."""
    return (yield _Resolver(definition, source, losses).signature())


class _Resolver:
    def __init__(self, definition: syntax.Definition, source: Source, losses: Losses) -> None:
        self.definition, self.source, self.find = definition, source, losses.find
        self.blame = Blame(source, definition.base)
        self.fail = self.blame.fail

    def signature(self) -> Steps[Signature]:
        d = self.definition
        declared = (*d.inputs, *(d.hypers or ()))
        self.check_parameters(declared)
        found = declared_axes(self.blame, declared)
        self.axes = found.axes
        self.ranges = tuple((head, ends) for heads in self.heads() for head, ends in ranged(heads, self.axes))
        mentioned = yield self.mentioned(declared)
        shared: dict[str, Loss] = {}
        signatures: dict[str, Signature] = {}
        for name in mentioned:
            loss = None if name in STANDING or name in CONSTANTS else self.find(name)
            if loss is not None:
                shared[name] = loss
                signatures[name] = yield loss.signature()
        standing = frozenset(n for n in mentioned if n in STANDING)
        inputs, hypers = self.split(declared, mentioned, standing, signatures)
        functions, numbers = self.functions(hypers)
        functions = (*(self.function(p, place) for place, p in enumerate(inputs) if isinstance(p.kind, syntax.FunctionKind)), *functions)
        own_inputs = tuple(Input(p.name, self.kind(p.kind)) for p in inputs if not isinstance(p.kind, syntax.FunctionKind))
        own_params = tuple(self.param(p) for p in numbers)
        all_inputs, all_params = self.share(own_inputs, own_params, standing if not inputs else frozenset(), signatures, mentioned)
        outputs = self.outputs(d.heads)
        self.check_namespace(declared, all_inputs, all_params)
        wrt, batch, notes = self.annotations(all_inputs, all_params, {f.name for f in functions})
        return Signature(
            d.name, all_inputs, all_params, functions, self.axes, outputs, standing if not inputs else frozenset(), shared, bool(inputs),
            wrt, batch, notes, found.lengths, self.ranges,
        )  # fmt: skip

    # -- names

    def check_parameters(self, declared: Sequence[syntax.Parameter]) -> None:
        seen: dict[str, syntax.Parameter] = {}
        for p in declared:
            if p.name in seen:
                self.fail(f"'{p.name}' is declared twice", p.span, "give one of them another name")
            if p.name in RESERVED:
                self.fail(
                    f"'{p.name}' belongs to the calling convention",
                    p.span,
                    f"every loss takes {listed(RESERVED)} when it is called; choose another name",
                )
            seen[p.name] = p

    def heads(self) -> list[Sequence[syntax.Head]]:
        """The heads of the definition and of its locals."""
        out: list[Sequence[syntax.Head]] = [self.definition.heads or (), *(x.heads or () for x in self.definition.locals)]
        for head in (h for heads in out for h in heads):
            if head.axis is not None and head.high is None and not isinstance(head.axis, syntax.Name):
                hint = f"write {head.name} in n, or {head.name} in 0..3"
                self.fail("an index runs over an axis or a range", head.axis.span, hint)
        return out

    def mentioned(self, declared: Sequence[syntax.Parameter]) -> Steps[list[str]]:
        """Names that the equation uses as values and the definition does not declare, in order."""
        d = self.definition
        own = {p.name for p in declared} | set(self.axes) | {x.name for x in d.locals if x.params is None}
        used: dict[str, None] = {}
        given: list[tuple[str, syntax.Keyword]] = []
        bound: set[str] = {h.name for h in d.heads or ()}
        for x in d.locals:
            bound |= {h.name for h in x.heads or ()} | {n.id for n in x.params or ()}
        trees = (d.body, *(x.body for x in d.locals))
        passed = yield self.passed(trees, own)
        for tree in trees:
            _names(tree, used, bound, given, passed)
        for function, keyword in given:
            loss = self.find(function)
            takes = (yield loss.signature()).functions if loss is not None else ()
            if keyword.name not in {f.name for f in takes}:
                _names(keyword.value, used, bound, given, passed)
        return [n for n in used if n not in own and n not in bound]

    def passed(self, trees: Sequence[syntax.Node], own: set[str]) -> Steps[set[syntax.Node]]:
        """The names that stand where a loss takes a function as an input: they are no values."""
        out: set[syntax.Node] = set()
        stack = list(trees)
        while stack:
            node = stack.pop()
            stack += syntax.children(node)
            if not isinstance(node, syntax.Call):
                continue
            called = node.function.base if isinstance(node.function, syntax.Bracket) else node.function
            names = [(k, x) for k, x in enumerate(node.args) if isinstance(x, syntax.Name) and x.id not in own and x.id not in STANDING]
            loss = self.find(called.id) if isinstance(called, syntax.Name) and names and called.id != self.definition.name else None
            if loss is not None:
                places = {f.place for f in (yield loss.signature()).functions}
                out |= {x for k, x in names if k in places}
        return out

    def split(
        self, declared: Sequence[syntax.Parameter], mentioned: Sequence[str], standing: frozenset[str], signatures: Mapping[str, Signature]
    ) -> tuple[Sequence[syntax.Parameter], Sequence[syntax.Parameter]]:
        """Which of the declared are inputs, and which hyper-parameters."""
        d = self.definition
        if d.hypers is not None:
            for p in d.inputs:
                if p.default is not None:
                    self.fail(f"the input '{p.name}' has a default", p.default.span, "hyper-parameters stand after ';'")
            return d.inputs, d.hypers
        free = [n for n in mentioned if n in standing or (n in signatures and signatures[n].standing)]
        if not free:
            return [p for p in declared if p.default is None], [p for p in declared if p.default is not None]
        for p in declared:
            if p.name in STANDING:
                what = f"'{free[0]}', which brings f and y with it" if free[0] in signatures else f"the standing name '{free[0]}'"
                hint = (
                    f"write ';' between inputs and hyper-parameters, and {_spelled(free[0])}"
                    if free[0] in standing
                    else "write ';' between inputs and hyper-parameters"
                )
                self.fail(f"'{p.name}' is declared beside {what}", p.span, hint)
        return (), declared

    def functions(self, hypers: Sequence[syntax.Parameter]) -> tuple[tuple[FunctionParam, ...], list[syntax.Parameter]]:
        """The hyper-parameters that are functions, and the others."""
        functions: list[FunctionParam] = []
        numbers: list[syntax.Parameter] = []
        for p in hypers:
            if isinstance(p.kind, syntax.FunctionKind):
                functions.append(self.function(p, None))
            elif p.kind is None and isinstance(p.default, syntax.Name) and p.default.id not in CONSTANTS:
                functions.append(FunctionParam(p.name, None, p.default.id, p.default.span))
            else:
                numbers.append(p)
        return tuple(functions), numbers

    def function(self, p: syntax.Parameter, place: int | None) -> FunctionParam:
        """A function, which stands at a place among the inputs or is a hyper-parameter."""
        assert isinstance(p.kind, syntax.FunctionKind)
        if p.default is not None and not isinstance(p.default, syntax.Name):
            self.fail(
                f"the default of the function '{p.name}' is no function",
                p.default.span,
                "write the name of a function: dist = euclidean",
            )
        return FunctionParam(p.name, self.function_kind(p), p.default.id if p.default else None, p.span, place)

    def function_kind(self, p: syntax.Parameter) -> FunctionKind:
        k = p.kind
        assert isinstance(k, syntax.FunctionKind)
        for part in (*k.args, k.result):
            if isinstance(part, syntax.FunctionKind):
                self.fail(f"the function '{p.name}' takes or gives a function", part.span, "a function takes and gives numbers and arrays")
            product = next((a for a in part.axes if a.parts), None)
            if product is not None:
                hint = "name its factors as axes of their own: real[k, s]"
                self.fail(f"the function '{p.name}' has a product of axes", product.span, hint)
        if not k.args:
            self.fail(f"the function '{p.name}' takes no argument", k.span, "its kind says what it takes: (real[d]) -> real")
        arguments, result = (self.kind(x) for x in k.args if isinstance(x, syntax.Kind)), k.result
        assert isinstance(result, syntax.Kind)
        gives = self.kind(result)
        if gives.role != "number":
            self.fail(f"the function '{p.name}' gives a {gives.name}", result.span, "a function gives numbers: (real[d]) -> real[k]")
        return FunctionKind(tuple(arguments), gives)

    def check_kind_name(self, k: syntax.Kind) -> None:
        name = k.name.id
        if name not in KINDS:
            hint = words.KINDS.get(name.lower()) or near(name, KINDS, f"kinds are {listed(KINDS, 20)}")
            self.fail(f"there is no kind '{name}'", k.name.span, hint)

    def check_namespace(self, declared: Sequence[syntax.Parameter], inputs: Sequence[Input], params: Sequence[Param]) -> None:
        """Axes, indices, inputs, hyper-parameters and locals share one namespace."""
        d = self.definition
        names = {p.name: "an input" if p in d.inputs else "a hyper-parameter" for p in declared}
        for p in declared:
            for axis in flat(a for part in kinds_of([p]) for a in part.axes):
                if axis.name in names:
                    self.clash(axis.name, names[axis.name], "an axis", axis.span)
        names |= dict.fromkeys(self.axes, "an axis")
        for head, _ in self.ranges:
            if names.get(head.name, "the index of a range") != "the index of a range":
                self.clash(head.name, names[head.name], "the index of a range", head.span)
            names[head.name] = "the index of a range"
        names = {i.name: "an input" for i in inputs} | {p.name: "a hyper-parameter" for p in params} | names
        functions: set[str] = set()
        for x in d.locals:
            if x.params is not None:
                if x.name in functions:
                    self.fail(f"the local function '{x.name}' is defined twice", x.span, "give one of them another name")
                functions.add(x.name)
                continue
            if x.name in names:
                self.clash(x.name, names[x.name], "a local", x.span)
            names[x.name] = "a local"
        for x in d.locals:
            self.check_local_parameters(x, names)

    def check_local_parameters(self, x: syntax.Local, names: Mapping[str, str]) -> None:
        seen: set[str] = set()
        for p in x.params or ():
            if p.id in names:
                self.clash(p.id, names[p.id], f"a parameter of '{x.name}'", p.span)
            if p.id in seen:
                self.fail(f"'{p.id}' is twice a parameter of '{x.name}'", p.span, "give one of them another name")
            seen.add(p.id)

    def clash(self, name: str, one: str, other: str, span: Span) -> NoReturn:
        again = "is defined twice" if one == other else f"is {one} and {other}"
        self.fail(
            f"'{name}' {again}",
            span,
            "give one of them another name; axes, indices, inputs, hyper-parameters and locals share one namespace",
        )

    # -- kinds

    def param(self, p: syntax.Parameter) -> Param:
        assert not isinstance(p.kind, syntax.FunctionKind)
        kind = self.kind(p.kind) if p.kind else self.unsaid_kind(p)
        if kind.name in ("class", "label", "simplex"):
            self.fail(
                f"the hyper-parameter '{p.name}' is a {kind.name}",
                p.kind.span if p.kind else p.span,
                f"make it an input: {p.name} stands before ';'",
            )
        default = None
        if p.default is not None:
            if kind.axes:
                self.fail(
                    f"the array '{p.name}' has a default",
                    p.default.span,
                    "only a number has a default; give the array when the loss is called",
                )
            default = self.default(p, kind)
        return Param(p.name, kind, default)

    def unsaid_kind(self, p: syntax.Parameter) -> Kind:
        """A hyper-parameter without a kind is a scale, a weight or a threshold: nonnegative, unless its default says otherwise."""
        value = constant(p.default) if p.default is not None else None
        return Kind("real" if value is not None and value < 0 else "nonnegative")

    def default(self, p: syntax.Parameter, kind: Kind) -> Fraction | float:
        assert p.default is not None
        value = constant(p.default)
        if value is None:
            self.fail(f"the default of '{p.name}' is no number", p.default.span, "write a number: 0.5, 1/2, inf")
        if kind.integer and (isinstance(value, float) or value.denominator != 1):
            self.fail(f"the default of '{p.name}' is no whole number", p.default.span, f"'{p.name}' is {kind.name}: {KINDS[kind.name].doc}")
        if not inside(value, kind):
            self.fail(f"the default of '{p.name}' lies outside its domain", p.default.span, f"'{p.name}' is {described(kind)}")
        return value

    def kind(self, k: syntax.Kind | None) -> Kind:
        if k is None:
            return Kind()
        name = k.name.id
        self.check_kind_name(k)
        axes = self.kind_axes(k)
        of, ignore = self.kind_options(k, axes)
        interval = self.interval(k) if k.interval else None
        dims = tuple(len(list(flat((a,)))) for a in k.axes)
        return Kind(name, axes, of, interval, ignore, dims if any(n > 1 for n in dims) else ())

    def kind_axes(self, k: syntax.Kind) -> tuple[tuple[str, str], ...]:
        seen: set[str] = set()
        for axis in flat(k.axes):
            if axis.name in seen:
                self.fail(
                    f"the axis '{axis.name}' stands twice in one kind",
                    axis.span,
                    f"a second index over it has its own name: [{axis.name}, j in {axis.name}]",
                )
            seen.add(axis.name)
        return tuple((self.axes[a.name], a.name) for a in flat(k.axes))

    def kind_options(self, k: syntax.Kind, axes: tuple[tuple[str, str], ...]) -> tuple[str | None, int | None]:
        """The axis in parentheses, and the class that is ignored."""
        name, of, ignore = k.name.id, None, None
        for option in k.options:
            if isinstance(option, syntax.Keyword):
                ignore = self.ignored(name, option)
            elif name not in ("class", "simplex"):
                self.fail(f"the kind {name} takes nothing in parentheses", option.span, f"axes stand in brackets: {name}[{option.id}]")
            elif of is not None:
                self.fail(f"{name} takes one axis", option.span, f"axes of the array stand in brackets: {name}({of})[n]")
            elif option.id not in self.axes:
                self.fail(
                    f"there is no axis '{option.id}'",
                    option.span,
                    near(option.id, self.axes, "name an axis of another input, as in s: logit[k], y: class(k)"),
                )
            else:
                of = self.axes[option.id] if name == "class" else option.id
        if name == "class" and of is None:
            self.fail("a class of which axis?", k.span, "name the axis that it indexes: class(k)")
        if name == "simplex":
            of = self.simplex_axis(k, of, axes)
        return of, ignore

    def ignored(self, name: str, option: syntax.Keyword) -> int:
        if option.name != "ignore" or name != "class":
            hint = "only a class leaves out a value: class(k, ignore = -100)"
            self.fail(f"the kind {name} has no option '{option.name}'", option.span, hint)
        value = constant(option.value)
        if value is None or isinstance(value, float) or value.denominator != 1:
            self.fail("the class to ignore is no whole number", option.value.span, "write class(k, ignore = -100)")
        return int(value)

    def simplex_axis(self, k: syntax.Kind, of: str | None, axes: tuple[tuple[str, str], ...]) -> str:
        if of is None and len(axes) == 1:
            return axes[0][1]
        if of is None:
            hint = "name its axis: simplex[k], or simplex(k)[n, k] where there are more"
            self.fail("a simplex sums to 1 along which axis?", k.span, hint)
        names = [n for _, n in axes]
        alike = [n for a, n in axes if a == self.axes[of]]
        if of in names or len(alike) == 1:
            return of if of in names else alike[0]
        shown = ", ".join([*names, of])
        self.fail(f"the simplex has no axis '{of}'", k.span, f"its axes hold the one that it sums along: simplex({of})[{shown}]")

    def interval(self, k: syntax.Kind) -> Interval:
        i = k.interval
        assert i is not None
        if k.name.id not in ("real", "integer"):
            self.fail(f"{k.name.id} has its own domain", i.span, f"write real in {self.text(i.span)}")
        ends = []
        for end in (i.low, i.high):
            value = constant(end)
            if value is None:
                self.fail("the end of an interval is no number", end.span, "write numbers or inf: (0, 1], (-inf, 0]")
            ends.append(value)
        low, high = ends
        if low > high or (low == high and (i.low_open or i.high_open)):
            self.fail("the interval is empty", i.span, "the smaller end comes first: [0, 1]")
        return Interval(low, high, i.low_open, i.high_open)

    def text(self, span: Span) -> str:
        return self.source.text[self.blame.base + span.start : self.blame.base + span.end]

    def outputs(self, heads: Sequence[syntax.Head] | None) -> tuple[OutputIndex, ...]:
        """The indices of an array definition."""
        out: list[OutputIndex] = []
        for head, axis in grouped(heads or (), self.axes):
            if any(o.name == head.name for o in out):
                self.fail(
                    f"the index '{head.name}' stands twice in the head",
                    head.span,
                    "a second index over an axis has its own name: [i, j in i]",
                )
            if axis is None and any(h is head for h, _ in self.ranges):
                out.append(OutputIndex(head.name, head.name, False))
                continue
            if axis is None and head.name not in self.axes:
                self.fail(f"there is no axis '{head.name}'", head.span, near(head.name, self.axes, "the head lists axes of the inputs"))
            if axis is not None and axis.id not in self.axes:
                self.fail(f"there is no axis '{axis.id}'", axis.span, near(axis.id, self.axes, "the head lists axes of the inputs"))
            if axis is not None and head.name in self.axes:
                self.clash(head.name, "an axis", "an index", head.span)
            out.append(OutputIndex(head.name, self.axes[axis.id if axis else head.name], axis is not None))
        return tuple(out)

    # -- what comes from losses that are mentioned

    def share(
        self,
        inputs: tuple[Input, ...],
        params: tuple[Param, ...],
        standing: frozenset[str],
        signatures: Mapping[str, Signature],
        mentioned: Sequence[str],
    ) -> tuple[tuple[Input, ...], tuple[Param, ...]]:
        """The inputs and hyper-parameters, with those that come by name with standing names and bare losses."""
        own_inputs = {i.name: i for i in inputs} or _standing_inputs(standing)
        own_params = {p.name: p for p in params}
        closed = bool(inputs)
        plain = set() if closed or standing & {"r", "z"} else {"f", "y"}  # a bare f or y is what a loss beside it says it is
        origin: dict[str, str] = {}
        for name in mentioned:
            if name not in signatures:
                continue
            theirs = signatures[name]
            self.check_bare(name, theirs)
            for i in theirs.inputs:
                if i.name not in own_inputs and closed:
                    hint = f"call it with its inputs: {name}({', '.join(x.name for x in theirs.inputs)})"
                    message = f"'{name}' needs the input '{i.name}', which '{self.definition.name}' does not declare"
                    self.fail(message, first_use(self.definition, name), hint)
                if i.name in plain:
                    own_inputs[i.name] = i
                    plain.discard(i.name)
                mine = own_inputs.setdefault(i.name, i)
                self.check_shared(
                    name, i.name, mine.kind == i.kind, described(mine.kind, doc=False), described(i.kind, doc=False), origin, theirs
                )
            for p in theirs.params:
                ours = own_params.setdefault(p.name, p)
                same = ours == p
                self.check_shared(name, p.name, same, _param_text(ours), _param_text(p), origin, theirs)
            self.add_axes(theirs)
            origin |= dict.fromkeys([*(i.name for i in theirs.inputs), *(p.name for p in theirs.params)], name)
        for n in own_inputs:
            if n in own_params:
                self.fail(f"'{n}' is an input and a hyper-parameter", self.definition.span, "give one of them another name")
        return tuple(own_inputs.values()), tuple(own_params.values())

    def add_axes(self, theirs: Signature) -> None:
        for axis, root in theirs.axes.items():
            self.axes.setdefault(axis, root)

    def check_bare(self, name: str, theirs: Signature) -> None:
        if theirs.functions:
            hint = f"call it: {name}({', '.join(theirs.arguments)})"
            self.fail(f"'{name}' takes a function and is not shared by name", first_use(self.definition, name), hint)

    def check_shared(self, loss: str, name: str, same: bool, mine: str, its: str, origin: Mapping[str, str], theirs: Signature) -> None:
        if not same:
            other = f"in '{origin[name]}'" if name in origin else "here"
            hint = f"call it with arguments: {loss}({', '.join(i.name for i in theirs.inputs)})"
            if name not in origin:
                hint = f"declare it here as it is there, {name}: {its.removesuffix(' without default')}, or {hint}"
            self.fail(f"'{loss}' shares '{name}' by name, but it is {its} there and {mine} {other}", first_use(self.definition, loss), hint)

    # -- annotations

    def annotations(
        self, inputs: Sequence[Input], params: Sequence[Param], functions: Set[str]
    ) -> tuple[tuple[str, ...], str | None, tuple[Note, ...]]:
        wrt: tuple[str, ...] = ()
        batch: str | None = None
        notes: list[Note] = []
        seen: set[str] = set()
        for a in self.definition.annotations:
            if a.tag in ("wrt", "batch") and a.tag in seen:
                self.fail(
                    f"'{a.tag}' is said twice", a.span, "write one line: wrt f, y" if a.tag == "wrt" else "one axis holds the samples"
                )
            seen.add(a.tag)
            if a.tag == "wrt":
                wrt = self.wrt(a, inputs, params, functions)
            elif a.tag == "batch":
                (name,) = a.names
                if name.id not in self.axes:
                    self.fail(f"there is no axis '{name.id}'", name.span, near(name.id, self.axes, "batch names an axis of an input"))
                batch = self.axes[name.id]
            elif a.tag != "require":
                notes.append(Note(a.tag, (self.said(a), *a.parts)))
        return wrt, batch, tuple(notes)

    def said(self, a: syntax.Annotation) -> str:
        """The text of an annotation in one line, without its quotes."""
        text = self.text(a.text)
        return text[1:-1] if a.tag in ("source", "note") else " ".join(without_comments(text).split())

    def wrt(self, a: syntax.Annotation, inputs: Sequence[Input], params: Sequence[Param], functions: Set[str]) -> tuple[str, ...]:
        kinds = {i.name: i.kind for i in inputs}
        out: list[str] = []
        for name in a.names:
            if name.id not in kinds:
                what = "a hyper-parameter" if any(p.name == name.id for p in params) else "no input"
                what = "a function" if name.id in functions else what
                self.fail(f"'{name.id}' is {what}", name.span, near(name.id, kinds, f"wrt names inputs: {listed(kinds)}"))
            if kinds[name.id].role != "number":
                self.fail(f"'{name.id}' is a {kinds[name.id].name}, which has no gradient", name.span, "wrt names inputs that are numbers")
            if name.id in out:
                self.fail(f"'{name.id}' stands twice in wrt", name.span, "name each input once")
            out.append(name.id)
        return tuple(out)


def first_use(d: syntax.Definition, name: str) -> Span:
    """Where a definition first uses a name."""
    for tree in (d.body, *(x.body for x in d.locals)):
        stack = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, syntax.Name) and node.id == name:
                return node.span
            stack += reversed(syntax.children(node))
    return d.span


def _standing_inputs(standing: frozenset[str]) -> dict[str, Input]:
    """The inputs that free standing names bring with them."""
    out: dict[str, Input] = {}
    if standing & {"f", "r", "z"}:
        out["f"] = Input("f", Kind("real"))
    if standing & {"y", "r", "z"}:
        out["y"] = Input("y", Kind("sign" if "z" in standing else "real"))
    return out


def _spelled(name: str) -> str:
    return {"r": "f - y for r", "z": "y*f for z"}.get(name, f"declare {name}")


def _param_text(p: Param) -> str:
    default = "without default" if p.default is None else f"= {p.default}"
    return f"{described(p.kind, doc=False)} {default}"


def described(kind: Kind, *, doc: bool = True) -> str:
    """A kind as it is declared, for messages."""
    option = f"({kind.of})" if kind.of and kind.name == "class" else ""
    dims = [", ".join(n for _, n in dim) for dim in kind.dimensions]
    axes = f"[{', '.join(f'({d})' if ', ' in d else d for d in dims)}]" if kind.axes else ""
    interval = f" in {kind.interval}" if kind.interval else ""
    more = f", {KINDS[kind.name].doc}" if doc and not kind.interval and kind.name not in ("real", "class", "simplex") else ""
    return f"{kind.name}{option}{axes}{interval}{more}"


def inside(value: Fraction | float, kind: Kind) -> bool:
    """Whether a number may be of a kind."""
    if kind.name == "sign":
        return value in (-1, 1)
    if kind.integer and not isinstance(value, float) and value.denominator != 1:
        return False
    d = kind.domain
    if value == inf:
        return d.high == inf
    if value == -inf:
        return d.low == -inf
    return value in d


def grouped(heads: Sequence[syntax.Head], axes: Container[str]) -> list[tuple[syntax.Head, syntax.Name | None]]:
    """Heads with the axes that are written for them: in ``a, b in n`` both are over n; a name that is an axis is never captured.

    Those that run over a range have none (see ``axes.ranged``).
    """
    out: list[tuple[syntax.Head, syntax.Name | None]] = []
    axis: syntax.Name | None = None
    for head in reversed(heads):
        if head.axis is not None:
            axis = head.axis if isinstance(head.axis, syntax.Name) and head.high is None else None
        elif head.name in axes:
            axis = None
        out.append((head, axis))
    return out[::-1]


def _names(
    tree: syntax.Node, used: dict[str, None], bound: set[str], given: list[tuple[str, syntax.Keyword]], passed: set[syntax.Node]
) -> None:
    """Names that stand for values, in order, names that brackets bind, and what calls are given that may be a function's name.

    Names that are ``passed`` as functions are left out.
    """
    stack: list[syntax.Node] = [tree]
    while stack:
        node = stack.pop()
        match node:
            case syntax.Name(id=name):
                used.setdefault(name)
            case syntax.Call(function=function, args=args, keywords=keywords):
                called = function.base if isinstance(function, syntax.Bracket) else function
                named = [k for k in keywords if isinstance(k.value, syntax.Name) and isinstance(called, syntax.Name)]
                given += [(called.id, k) for k in named if isinstance(called, syntax.Name) and k.name != "order"]
                values: tuple[syntax.Node, ...] = (*(x for x in args if x not in passed), *(k.value for k in keywords if k not in named))
                if isinstance(function, syntax.Name) and function.id == "size":
                    values = ()
                stack += reversed(values)
                if isinstance(function, syntax.Bracket) and isinstance(called, syntax.Name) and called.id == "grad":
                    stack += reversed(function.items)
                elif isinstance(function, syntax.Bracket):
                    stack += reversed(_bracket(function, bound))
                elif not isinstance(function, syntax.Name):
                    stack.append(function)
            case syntax.Bracket(base=base, items=items, guard=guard):
                if isinstance(base, syntax.Name) and any(isinstance(i, syntax.Binder) for i in items) or guard is not None:
                    stack += reversed(_bracket(node, bound))
                else:
                    stack += reversed([base, *(i.value if isinstance(i, syntax.Keyword) else i for i in items)])
            case syntax.Keyword(value=value):
                stack.append(value)
            case _:
                stack += reversed(syntax.children(node))


def _bracket(bracket: syntax.Bracket, bound: set[str]) -> list[syntax.Node]:
    """What is left to look at in the bracket of a call, where names are axes or new indices."""
    left: list[syntax.Node] = []
    for item in bracket.items:
        if isinstance(item, syntax.Binder):
            bound.add(item.name.id)
            if item.high is not None:
                left += [item.axis, item.high]
        elif isinstance(item, syntax.Name):
            bound.add(item.id)
        else:
            left.append(item)
    return [*left, bracket.guard] if bracket.guard is not None else left


# -- numbers ----------------------------------------------------------------------------------------------------------


def in_reach(text: str) -> bool:
    """Whether a literal is of a size that arithmetic can handle."""
    mantissa, _, exponent = text.lower().partition("e")
    return len(mantissa) <= MAX_DIGITS and len(exponent) <= 6 and (not exponent or abs(int(exponent)) <= MAX_DIGITS)


def constant(node: syntax.Node) -> Fraction | float | None:
    """The number that a default or an end of an interval denotes, or None."""
    order: list[syntax.Node] = [node]
    for n in order:
        order += syntax.children(n)
    values: dict[syntax.Node, Fraction | float | None] = {}
    for n in reversed(order):
        values[n] = _constant(n, [values[c] for c in syntax.children(n)])
    return values[node]


def _constant(node: syntax.Node, args: Sequence[Fraction | float | None]) -> Fraction | float | None:
    match node, args:
        case syntax.Number(text=text), _:
            return Fraction(text) if in_reach(text) else None
        case syntax.Name(id="inf"), _:
            return inf
        case syntax.Unary(op="-"), [x] if x is not None:
            return -x
        case syntax.Binary(op=op), [Fraction() as a, Fraction() as b] if max(map(_digits, (a, b))) < MAX_DIGITS:
            return _arithmetic(op, a, b)
    return None


def _digits(x: Fraction) -> int:
    return max(x.numerator.bit_length(), x.denominator.bit_length())


def _arithmetic(op: str, a: Fraction, b: Fraction) -> Fraction | None:
    match op:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/" if b != 0:
            return a / b
        case "^" if b.denominator == 1 and abs(b) <= 64 and (a != 0 or b >= 0):
            return Fraction(a ** int(b))
    return None
