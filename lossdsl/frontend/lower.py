"""Syntax tree -> expressions: names, axes and kinds are resolved where they stand, locals and calls are inlined.

Every method that may meet another expression is a step (see ``steps``). An axis that nothing binds is its own free index; a
bracket puts a fresh one in its place in the scope, so that what was written elsewhere is never captured. A local and a called
loss are lowered once, over such free indices, and used by substitution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NoReturn

from lossdsl.errors import Source, Span, listed
from lossdsl.frontend import recursion, syntax, words
from lossdsl.frontend.bind import Bound, Scope, bracket_scope
from lossdsl.frontend.bounds import World, escapes, still_open
from lossdsl.frontend.fit import misfit
from lossdsl.frontend.given import Open, Passed, axes_of_functions, check_target, kind_of, local_functions, open_call, passed
from lossdsl.frontend.instantiate import Values, instantiate, replace_all
from lossdsl.frontend.lengths import declare
from lossdsl.frontend.remarks import Remark
from lossdsl.frontend.resolve import (
    CONSTANTS,
    STANDING,
    Blame,
    FunctionParam,
    Loss,
    Losses,
    Signature,
    grouped,
    in_reach,
    inside,
    near,
)
from lossdsl.frontend.slope import gradient_call
from lossdsl.frontend.steps import Steps
from lossdsl.frontend.values import (
    INTEGER,
    LOGARITHMS,
    NUMBER,
    Array,
    IndexName,
    Slot,
    Sort,
    Term,
    condition,
    literal,
    logarithm,
    minus,
    over,
    own,
    sort_of,
    sort_of_range,
    times,
    value,
    whole,
)
from lossdsl.frontend.vectors import VECTORS, Vector
from lossdsl.frontend.words import OPEN
from lossdsl.functions import FUNCTIONS
from lossdsl.functions import find as find_row
from lossdsl.ir.applied import applications
from lossdsl.ir.expr import (
    FALSE,
    INF,
    ONE,
    PI,
    TRUE,
    ZERO,
    Axis,
    Expr,
    Index,
    Range,
    add,
    and_,
    call,
    cmp,
    div,
    fresh,
    ix,
    live,
    mul,
    neg,
    not_,
    num,
    or_,
    postorder,
    pow_,
    pw,
    red,
    ref,
    references,
    replace_indices,
    replace_leaves,
    size,
    stop,
    sub,
)
from lossdsl.ir.lengths import fixed
from lossdsl.ir.program import Function, Input, Output, Param, Program, Written
from lossdsl.ir.strict import strict
from lossdsl.reductions import REDUCTIONS
from lossdsl.reductions import Row as Reduction

MAX_NODES = 100_000  # of one definition, with its names written out
SPECIAL = ("piecewise", "size", "stop", "grad")
Target = Any  # what the name of a function stands for: a local function, a loss, a Vector, or the name of a built-in


@dataclass(frozen=True, slots=True)
class Compiled:
    """A definition with its meaning: as a value for those who mention it, and as a program."""

    signature: Signature
    array: Array
    program: Program
    remarks: tuple[Remark, ...] = ()


class LocalName:
    """A local and, once it has been looked at, its value."""

    __slots__ = ("array", "busy", "local", "read", "used")

    def __init__(self, local: syntax.Local) -> None:
        self.local = local
        self.array: Array | None = None
        self.busy = self.used = self.read = False

    def again(self) -> LocalName:
        """The same local, not yet looked at."""
        out = LocalName(self.local)
        out.busy = self.busy
        return out


def lower(
    definition: syntax.Definition, source: Source, signature: Signature, losses: Losses, functions: Mapping[str, Target]
) -> Steps[Compiled]:
    """The meaning of a definition; ``functions`` says which function a function-valued hyper-parameter stands for."""
    return (yield Lowering(definition, source, signature, losses, functions).compiled())


class Lowering:
    def __init__(
        self, definition: syntax.Definition, source: Source, signature: Signature, losses: Losses, functions: Mapping[str, Target]
    ) -> None:
        self.definition, self.signature, self.losses, self.find = definition, signature, losses, losses.find
        self.blame = Blame(source, definition.base)
        self.fail = self.blame.fail
        self.axes: dict[str, Axis] = dict(signature.axes)
        self.lengths: dict[str, Expr] = {}
        declared: list[Input | Param] = [*signature.inputs, *signature.params]
        self.world = World({p.name: p for p in declared}, self.lengths)
        self.param_names = frozenset(p.name for p in signature.params)
        self.names: dict[str, Array | LocalName] = {i.name: _declared(i) for i in signature.inputs}
        self.names |= {p.name: _parameter(p) for p in signature.params}
        self.names |= {x.name: LocalName(x) for x in definition.locals if x.params is None}
        self.functions = {x.name: LocalName(x) for x in definition.locals if x.params is not None}
        self.applied: dict[Any, Array] = {}
        self.given = functions
        self.targets: dict[str, Target] = {}
        self.top = Scope({}, {a: own(root, a) for a, root in self.axes.items()}, {a: own(root, a) for a, root in self.axes.items()}, {})
        self.most = live() + MAX_NODES
        self.binders: dict[tuple[Axis, int, int], Index] = {}
        self.replaced: dict[frozenset[tuple[Index, Expr]], dict[Expr, Expr]] = {}
        self.formals: dict[tuple[str, Axis], Index] = {}
        self.remarks: dict[tuple[str, Span], Remark] = {}
        self.indices: list[tuple[IndexName, str]] = []
        self.readings: dict[str, Span] = {}
        self.ignoring = [i for i in signature.inputs if i.kind.ignore is not None]
        self.recursions = recursion.Recursions(self)

    # -- the definition

    def compiled(self) -> Steps[Compiled]:
        d, s = self.definition, self.signature
        yield declare(self)
        self.targets = yield self.function_targets(self.given)
        scope, slots = self.head(d.name, [h for h in d.heads or () if h.name not in self.axes], self.top)
        slots = self.output_slots(slots)
        term: Term = yield self.term(d.body, scope)
        term = self.released(term, slots)
        self.check_result(term, slots)
        for name in (*self.names.values(), *self.functions.values()):
            if isinstance(name, LocalName) and name.array is None and not name.used:
                yield self.unused(name)
        term = self.without_ignored(term)
        requires = []
        for a in d.annotations:
            if a.value is not None:
                requires.append((yield self.require(a.value)))
        outputs = tuple(slot.index for slot in self.final(slots))
        program = Program(
            d.name, s.inputs, s.params, (Output(d.name, outputs, term.number),), s.wrt, s.batch, tuple(requires), d.doc, s.notes,
            tuple(Function(p.name, self.targets[p.name].kind, p.place) for p in s.functions if isinstance(self.targets[p.name], Open)),
            tuple(self.lengths.items()),
        )  # fmt: skip
        program = fixed(program)
        self.look_back(program)
        program = replace(program, written=(yield self.written(program)))
        return Compiled(s, Array(term, self.final(slots)), program, tuple(self.remarks.values()))

    def output_slots(self, new: Sequence[Slot]) -> list[Slot]:
        """The slots of an array definition in the order of its head; an axis in the head stays free, so that arrays compose whole."""
        by_name = {s.name: s for s in new}
        return [by_name.get(o.name) or Slot(o.name, o.name, Index(self.axes[o.name], o.name)) for o in self.signature.outputs]

    def final(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """The slots of an array definition, whose indices bear their names."""
        return tuple(Slot(s.name, s.axis, Index(self.axes[s.axis or ""], s.name)) for s in slots)

    def released(self, term: Term, slots: Sequence[Slot]) -> Term:
        return term.at({s.index: ix(Index(self.axes[s.axis or ""], s.name)) for s in slots})

    def check_result(self, term: Term, slots: Sequence[Slot]) -> None:
        d = self.definition
        known = {s.name for s in slots}
        left = [i.tag for i in _ordered(term.expr.free, self.axes) if i.tag not in known]
        if left:
            axes = ", ".join(map(str, left))
            what = "the axis" if len(left) == 1 else "the axes"
            hint = f"write mean[{axes}](..), or drop {'the axis' if len(left) == 1 else 'them'} and leave it to the batch"
            if slots:
                hint = f"write {d.name}[{', '.join([*(s.name for s in slots), *map(str, left)])}](..), or reduce it: mean[{axes}](..)"
            self.fail(f"the value still depends on {what} {listed(map(str, left))}", d.body.span, hint)
        if term.sort.role == "label":
            self.fail("the value is a label", d.body.span, "labels are only compared: c == 1")

    def without_ignored(self, term: Term) -> Term:
        """A sample whose class is left out counts 0."""
        keep = [cmp("!=", ref(i.name), num(i.kind.ignore or 0)) for i in self.ignoring if not i.axes]
        return value(pw([(term.number, and_(*keep))], ZERO)) if keep else term

    def require(self, node: syntax.Node) -> Steps[Expr]:
        term = yield self.condition(node, self.top, "a require")
        params = {p.name for p in self.signature.params}
        wrong = sorted(references([term.expr]) - params)
        if wrong:
            self.fail(f"'{wrong[0]}' is an input", node.span, "require states conditions on hyper-parameters: require lo < hi")
        defaults = {p.name: ((), _default(p)) for p in self.signature.params if p.default is not None}
        if defaults and instantiate([term.expr], defaults, {}, {})[term.expr] is FALSE:
            self.fail("the defaults do not meet the condition", node.span, "choose defaults that do, or leave one out")
        return term.expr

    def unused(self, name: LocalName) -> Steps[None]:
        """What nothing uses is looked at all the same; of a function only the names can be."""
        local = name.local
        if local.params is None:
            yield self.local(name)
            return
        inside = {p.id for p in local.params} | {h.name for h in local.heads or ()}
        stack: list[syntax.Node] = [local.body]
        while stack:
            node = stack.pop()
            if isinstance(node, syntax.Call):
                stack += [*node.args, *node.keywords]
                continue
            if isinstance(node, syntax.Binder):
                inside.add(node.name.id)
            if (
                isinstance(node, syntax.Name)
                and node.id not in inside
                and not self.is_name(node.id)
                and not self.is_bound_in(local.body, node.id)
            ):
                self.unknown(node, self.top)
            stack += syntax.children(node)

    def is_name(self, name: str) -> bool:
        return name in self.names or name in self.axes or name in CONSTANTS or name in self.signature.shared

    def is_bound_in(self, tree: syntax.Node, name: str) -> bool:
        """Whether a bracket inside makes an index of this name."""
        stack = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, syntax.Binder) and node.name.id == name:
                return True
            items = node.items if isinstance(node, syntax.Bracket) else ()
            if any(isinstance(i, syntax.Binder) for i in items) and any(isinstance(i, syntax.Name) and i.id == name for i in items):
                return True
            stack += syntax.children(node)
        return False

    def check_work(self, span: Span) -> None:
        """Names stand for expressions, and what they stand for may double with each of them."""
        if live() > self.most or len(self.applied) > MAX_NODES // 10:
            self.fail(
                f"the definition grows beyond {MAX_NODES:,} nodes when its names are written out",
                span,
                "let each local use the ones before it fewer times",
            )

    # -- warnings

    def remark(self, name: str, message: str, span: Span, hint: str) -> None:
        place = Span(self.blame.base + span.start, self.blame.base + span.end)
        self.remarks.setdefault((name, place), Remark(name, message, hint, place, self.blame.source))

    def look_back(self, program: Program) -> None:
        """What the whole of a definition shows: names that nothing uses, indices that may leave their axes."""
        for index, where in self.indices:
            if not index.used:
                self.remark("unused-index", f"nothing uses the index '{index.name}' of {where}", index.span, "leave it out, or use it")
        for name in (*self.names.values(), *self.functions.values()):
            if isinstance(name, LocalName) and not name.read:
                self.remark("unused-local", f"nothing uses the local '{name.local.name}'", name.local.span, "leave it out, or use it")
        ends = [e for o in program.outputs for i in o.indices if isinstance(i.axis, Range) for e in (i.axis.lo, i.axis.hi)]
        lengths = [e for _, e in program.lengths]
        used = references((*program.roots, *program.requires, *lengths, *ends)) | {i.name for i in self.ignoring}
        used |= applications(program.roots)
        d = self.definition
        for p in (*d.inputs, *(d.hypers or ())):
            if p.name not in used and p.name not in self.targets and not self.names_axis(p):
                self.remark("unused-parameter", f"the equation does not use '{p.name}'", p.span, "leave it out, or use it")
        for escape in escapes(program, self.recursions.names) if self.readings else ():
            span = self.readings.get(escape.name, d.body.span)
            if escape.recursion:
                hint = "let a branch say what stands at the end: piecewise(G[t - 1] if t > 0, 0 otherwise); outside it is NaN"
                self.remark("index-leaves-axis", f"an index of '{escape.name}' may leave its axis", span, hint)
                continue
            hint = f"guard it: sum[{escape.axis} | {escape.axis} + 1 < size({escape.axis})](..); outside it is NaN"
            if escape.index.op == "num" and escape.index.data < 0:
                hint = f"indices count from 0 and never wrap; the last is size({escape.axis}) - 1"
            self.remark("index-leaves-axis", f"an index of '{escape.name}' may leave the axis '{escape.axis}'", span, hint)

    def names_axis(self, p: syntax.Parameter) -> bool:
        """Whether a parameter is of use by the axes that it declares alone, as in a loss whose value is a size."""
        return isinstance(p.kind, syntax.Kind) and bool(p.kind.axes)

    # -- functions as hyper-parameters

    def function_targets(self, given: Mapping[str, Target]) -> Steps[dict[str, Target]]:
        """What stands for each function: one that is known, or the function itself, to be given when the loss is called."""
        out: dict[str, Target] = {}
        known = {p.name for p in self.signature.functions}
        for name in given:
            if name not in known:
                self.fail(f"'{self.signature.name}' has no function '{name}' as a hyper-parameter", self.definition.span,
                          near(name, known, f"it has {listed(known)}" if known else "it has no function"))  # fmt: skip
        for p in self.signature.functions:
            what = given.get(p.name, p.default)
            if what is None or what is OPEN:
                out[p.name] = yield self.open_function(p)
                continue
            target = self.global_function(what) if isinstance(what, str) else what
            if target is None:
                hint = near(
                    str(what), [*VECTORS, *FUNCTIONS], f"write a number, {p.name} = 0.5, or the name of a function, {p.name} = euclidean"
                )
                if p.name in given:
                    hint = near(str(what), [*VECTORS, *FUNCTIONS], "name a function or a loss")
                    self.fail(f"'{_short(str(what))}', which is given for '{p.name}', is no function", p.span, hint)
                self.fail(f"'{_short(str(what))}', the default of '{p.name}', is neither a number nor a function", p.span, hint)
            if p.kind is not None:
                yield check_target(self, target, p, p.kind, p.span, str(getattr(target, "name", target)))
            out[p.name] = target
        return out

    def open_function(self, p: FunctionParam) -> Steps[Open]:
        kind = p.kind
        if kind is None:
            kind = yield kind_of(self.global_function(p.default or ""))
        if kind is None:
            self.fail(f"the function '{p.name}' has no kind", p.span, f"say what it takes and gives: {p.name}: (real[d]) -> real")
        return Open(p.name, kind, loose=p.kind is None)

    def written(self, program: Program) -> Steps[Written | None]:
        """The equation before functions are put in for hyper-parameters, if those have names that are known everywhere."""
        known = {p.name: t for p in self.signature.functions if not isinstance(t := self.targets[p.name], Open)}
        if not known or any(p.place is not None and p.name in known for p in self.signature.functions):
            return None
        if not all(isinstance(t, str | Vector) or self.losses.is_public(t) for t in known.values()):
            return None
        for target in known.values():
            if (yield kind_of(target)) is None:
                return None
        names = {n: t if isinstance(t, str) else str(t.name) for n, t in known.items()}
        functions = dict.fromkeys((p.name for p in self.signature.functions), OPEN)
        plain: Compiled = yield lower(self.definition, self.blame.source, self.signature, self.losses, functions)
        said = tuple(Function(p.name, p.kind, p.place, names.get(p.name)) for p in self.signature.functions)
        return Written(program.known, replace(plain.program, functions=said))

    def global_function(self, name: str) -> Target | None:
        """What a name means in call position outside of the definition."""
        loss = self.find(name)
        if loss is not None:
            return loss
        return VECTORS.get(name) or (name if find_row(name) else None)

    # -- expressions

    def term(self, node: syntax.Node, scope: Scope) -> Any:
        """The value of an expression at the indices of the scope: a step, or the term itself."""
        match node:
            case syntax.Number():
                return self.number_literal(node)
            case syntax.Name():
                return self.name(node, scope)
            case syntax.Binary(op="and" | "or"):
                return self.logical(node, scope)
            case syntax.Binary():
                return self.binary(node, scope)
            case syntax.Unary():
                return self.unary(node, scope)
            case syntax.Compare():
                return self.compare(node, scope)
            case syntax.Call() | syntax.Bracket():
                return self.applied_array(node, scope)
            case syntax.Branch():
                self.fail("a branch stands outside of piecewise", node.span, "write piecewise(a if condition, b otherwise)")
            case syntax.Keyword():
                self.fail(f"'{node.name} =' stands where no named value is taken", node.span, "write == to compare")
            case syntax.Binder():
                self.fail(f"'{node.name.id} in' stands outside of the bracket of a reduction", node.span, "write sum[i in n](..)")
        raise AssertionError(node)

    def number(self, node: syntax.Node, scope: Scope) -> Steps[Term]:
        """A term that arithmetic can use."""
        term: Term = yield self.term(node, scope)
        if term.sort.role == "label":
            self.fail("a label is only compared, by == and !=", node.span, "declare it as an integer if it counts something")
        return term

    def condition(self, node: syntax.Node, scope: Scope, where: str) -> Steps[Term]:
        term: Term = yield self.term(node, scope)
        if term.sort.role != "condition":
            text = self.text(node)
            self.fail(f"{where} is a number, not a condition", node.span, f"write a comparison: {_grouped(text)} == 1")
        return term

    def text(self, node: syntax.Node, most: int = 40) -> str:
        span = node.span
        text = " ".join(self.blame.source.text[self.blame.base + span.start : self.blame.base + span.end].split())
        return text if len(text) <= most else text[: most - 2] + ".."

    def number_literal(self, node: syntax.Number) -> Term:
        if not in_reach(node.text):
            self.fail("the number is too long or out of range", node.span, "numbers have up to 2000 digits; write inf for infinity")
        return literal(node.text)

    def binary(self, node: syntax.Binary, scope: Scope) -> Steps[Term]:
        a: Term = yield self.number(node.left, scope)
        b: Term = yield self.number(node.right, scope)
        match node.op:
            case "*":
                return times(a, b)
            case "/":
                return over(a, b)
            case "^":
                return value(pow_(a.number, b.number), INTEGER if a.sort.integer and b.sort.integer and _natural(b) else NUMBER)
        sort = whole(a, b)
        if node.op == "-" and b.sort.role == "condition" and a.literal == 1:
            self.remark(
                "one-minus-condition",
                "1 - a condition counts where it does not hold",
                node.span,
                f"write not {_grouped(self.text(node.right))} where a condition is meant",
            )
        out = value((add if node.op == "+" else sub)(a.number, b.number), sort)
        index = a.index or b.index
        return replace(out, index=index) if index and sort.role == "index" else out

    def logical(self, node: syntax.Binary, scope: Scope) -> Steps[Term]:
        """A chain of the same word, flat, however long it is."""
        parts: list[syntax.Node] = [node.right]
        left = node.left
        while isinstance(left, syntax.Binary) and left.op == node.op:
            parts.append(left.right)
            left = left.left
        conditions = []
        for part in (left, *reversed(parts)):
            conditions.append((yield self.condition(part, scope, f"one side of '{node.op}'")).expr)
        return condition(and_(*conditions) if node.op == "and" else or_(*conditions))

    def unary(self, node: syntax.Unary, scope: Scope) -> Steps[Term]:
        if node.op == "not":
            term = yield self.condition(node.value, scope, "what 'not' negates")
            return condition(not_(term.expr))
        return minus((yield self.number(node.value, scope)))

    def compare(self, node: syntax.Compare, scope: Scope) -> Steps[Term]:
        left: Term = yield self.term(node.first, scope)
        place, out = node.first, []
        for op, part in node.links:
            right: Term = yield self.term(part, scope)
            self.check_comparison(op, left, right, Span(place.span.start, part.span.end))
            out.append(_comparison(op, left, right))
            left, place = right, part
        return condition(and_(*out))

    def check_comparison(self, op: str, a: Term, b: Term, span: Span) -> None:
        for x, y in ((a, b), (b, a)):
            if x.sort.role == "label" and (op not in ("==", "!=") or not (y.sort.role == "label" or y.sort.integer)):
                hint = "labels are compared by == and !=" if op not in ("==", "!=") else "compare it with another label or a whole number"
                self.fail("a label has no order" if op not in ("==", "!=") else "a label is compared with a real number", span, hint)

    # -- names

    def name(self, node: syntax.Name, scope: Scope) -> Any:
        found = self.lookup(node, scope)
        if isinstance(found, Term):
            return found
        return self.named(node, found, scope)

    def named(self, node: syntax.Name, found: Array | LocalName | Loss, scope: Scope) -> Steps[Term]:
        array: Array = yield self.array_of(found)
        return self.at(array, scope, node.id, node.span)

    def array_of(self, found: Array | LocalName | Loss) -> Steps[Array]:
        if isinstance(found, LocalName):
            found.read = True
            return (yield self.local(found))
        if isinstance(found, Array):
            return found
        compiled: Compiled = yield found.lowered({})
        return compiled.array

    def own_axes(self, free: frozenset[Index]) -> list[Index]:
        """The axes' own indices among free ones, in the order of declaration."""
        return _ordered(free, self.axes)

    def lookup(self, node: syntax.Name, scope: Scope) -> Term | Array | LocalName | Loss:
        """What a name stands for as a value."""
        name = node.id
        found = scope.names.get(name)
        if isinstance(found, IndexName):
            found.used = True
            return Term(found.expr, _index_sort(found.axis and self.axes.get(found.axis, found.axis)), rest=found.expr, index=found)
        if found is not None:
            return found if found.term.index is None or found.slots else found.term
        if name in self.names:
            return self.names[name]
        if name in self.axes:
            e = scope.written[name]
            return Term(e, _index_sort(self.axes[name]), rest=e)
        if name in self.signature.standing and name in "rz":
            f, y = (self.names[n] for n in "fy")
            assert isinstance(f, Array) and isinstance(y, Array)
            return value(sub(f.term.expr, y.term.expr)) if name == "r" else times(y.term, f.term)
        if name in CONSTANTS:
            return value(PI if name == "pi" else INF)
        if name in self.signature.shared:
            return self.signature.shared[name]
        self.unknown(node, scope)

    def unknown(self, node: syntax.Name, scope: Scope) -> NoReturn:
        name = node.id
        known = [*scope.names, *self.names, *self.axes]
        called = name in self.functions or name in self.targets
        if called or (name not in STANDING and (name in SPECIAL or name in REDUCTIONS or name in VECTORS or find_row(name))):
            self.fail(f"'{name}' is a function and stands where a value is due", node.span, f"call it: {_example(name)}")
        if name in STANDING and self.signature.declares:
            spelled = {"r": "f - y", "z": "y*f"}.get(name)
            hint = f"write it out: {spelled}" if spelled else f"declare '{name}' as an input"
            self.fail(f"'{name}' is no standing name here, for '{self.signature.name}' declares its inputs", node.span, hint)
        if name in ("if", "otherwise", "in", "and", "or", "where"):
            self.fail(f"'{name}' is a word of the language and stands where a value is due", node.span, "something is missing before it")
        bound = self.is_bound_in(self.definition.body, name) or any(self.is_bound_in(x.body, name) for x in self.definition.locals)
        if bound:
            hint = f"'{name}' is bound by a bracket elsewhere; a local that uses it lists it in its head: t[{name}] = .."
            self.fail(f"the index '{name}' is not bound here", node.span, hint)
        otherwise = "declare it as an input or a hyper-parameter, or define it in `where`"
        if len(name) == 1 and self.axes:
            otherwise = f"bind it in a bracket, sum[{name} in {next(iter(self.axes))}](..), or declare it as an input"
        self.fail(f"there is no name '{_short(name)}'", node.span, words.NAMES.get(name) or near(name, known, otherwise))

    def at(self, array: Array, scope: Scope, name: str, span: Span) -> Term:
        """An array at the scope's own indices."""
        slots = array.slots
        if not slots or all(s.axis is not None and _is_own(s.index, s.axis) for s in slots):
            return self.within(array.term, scope)
        mapping = dict(scope.bound)
        seen: set[Axis] = set()
        for slot in slots:
            if slot.axis is None:
                self.fail(
                    f"the axis of the index '{slot.name}' of '{name}' is not known here",
                    span,
                    f"index it: {name}[{', '.join(s.name for s in slots)}]",
                )
            if slot.axis in scope.own:
                if _is_own(slot.index, slot.axis):
                    continue
                root = self.axes[slot.axis]
                if root in seen:
                    self.fail(
                        f"'{name}' has two indices over the axis '{root}'", span, f"index it: {name}[{', '.join(s.name for s in slots)}]"
                    )
                seen.add(root)
                mapping[slot.index] = scope.own[slot.axis]
            else:
                self.fail(f"'{name}' runs over a range and has no value of its own", span, f"index it: {name}[{slot.name}]")
        return array.term.at(mapping)

    def within(self, term: Term, scope: Scope) -> Term:
        """A term with the axes that the scope binds put in place; what several brackets share is worked out once."""
        return self.replaced_in(term, scope.bound)

    def replaced_in(self, term: Term, mapping: Mapping[Index, Expr]) -> Term:
        """A term with indices replaced by others that nothing binds, with what the same replacement found before."""
        if not mapping or mapping.keys().isdisjoint(term.expr.free):
            return term
        memo = self.replaced.setdefault(frozenset(mapping.items()), {})
        return term.map(replace_all(term.parts(), mapping, memo))

    def local(self, name: LocalName) -> Steps[Array]:
        """The value of a local, worked out once, where it is defined."""
        if name.array is not None:
            return name.array
        local = name.local
        if self.recursions.holds(name):
            yield self.recursions.solved(name)
            assert name.array is not None
            return name.array
        name.busy = name.used = True
        try:
            name.array = yield self.template(local, self.top)
        finally:
            name.busy = False
        return name.array

    def apart(self, known: Mapping[str, Array], node: syntax.Node, scope: Scope) -> Steps[Term]:
        """A number where some locals are arrays that are given, and the other locals are made of these."""
        before = self.names, self.functions
        names = {n: x.again() if isinstance(x, LocalName) else x for n, x in self.names.items()}
        self.names, self.functions = {**names, **known}, {n: x.again() for n, x in self.functions.items()}
        try:
            return (yield self.number(node, scope))
        finally:
            again = [*names.values(), *self.functions.values()]
            self.names, self.functions = before
            for x, y in zip(again, (*self.names.values(), *self.functions.values()), strict=True):
                if isinstance(x, LocalName) and isinstance(y, LocalName):
                    y.used |= x.used
                    y.read |= x.read

    def template(self, local: syntax.Local, scope: Scope) -> Steps[Array]:
        """The value of a local over the indices of its head."""
        inner, slots = self.head(local.name, local.heads, scope)
        if local.heads is None:
            return (yield self.whole_body(local.body, inner, keep=local.params is not None))
        term: Term = yield self.term(local.body, inner)
        released = {s.index: own(self.axes[s.axis], s.axis) for s in slots if s.axis == s.name}
        found = tuple(self.settled(s, inner) for s in slots)
        return Array(self.replaced_in(term, released), found)

    def settled(self, slot: Slot, scope: Scope) -> Slot:
        """A slot whose axis the body has told."""
        index = scope.names.get(slot.name)
        if slot.axis == slot.name:
            return Slot(slot.name, slot.axis, Index(self.axes[slot.axis], slot.axis))
        return Slot(slot.name, index.axis if isinstance(index, IndexName) else slot.axis, slot.index)

    def whole_body(self, body: syntax.Node, scope: Scope, *, keep: bool) -> Steps[Array]:
        """A body without a head; a call that gives an array as a whole keeps its order in a function (``keep``) and for pairs."""
        if isinstance(body, syntax.Call):
            array: Array = yield self.array(body, scope)
            roots = [self.axes.get(s.axis or "") for s in array.slots or ()]
            if len(set(roots)) < len(roots) or None in roots or (keep and len(roots) > 1):
                return array
            return self.computed(self.at(array, scope, self.text(body), body.span))
        term: Term = yield self.term(body, scope)
        return self.computed(term)

    def computed(self, term: Term) -> Array:
        """An array that is no name: by position it is indexed only if it has one axis."""
        axes = _ordered(term.expr.free, self.axes)
        slots = tuple(Slot(str(i.tag), str(i.tag), i) for i in axes)
        return Array(term, slots if len(slots) < 2 else None)

    def head(self, name: str, heads: Sequence[syntax.Head] | None, scope: Scope) -> tuple[Scope, list[Slot]]:
        """A scope in which the indices of a head are bound, and their slots."""
        if not heads:
            return scope, []
        inner, slots = scope.child(), list[Slot]()
        for head, axis in grouped(heads, self.axes):
            if any(s.name == head.name for s in slots):
                self.fail(
                    f"the index '{head.name}' stands twice in the head of '{name}'",
                    head.span,
                    f"a second index over an axis has its own name: {name}[i, j]",
                )
            if axis is not None and axis.id not in self.axes:
                self.fail(
                    f"there is no axis '{axis.id}'",
                    axis.span,
                    near(axis.id, self.axes, f"axes are {listed(self.axes)}" if self.axes else "inputs declare axes: x: real[n]"),
                )
            if axis is None and head.name in self.axes:
                root = self.axes[head.name]
                index = self.formal(head.name, root) if scope is self.top else fresh(root)
                inner.bind_axis(head.name, self.axes[head.name], ix(index))
                slots.append(Slot(head.name, head.name, index))
                continue
            self.check_new(head.name, head.span, inner)
            index = self.formal(head.name, self.axes[axis.id] if axis else "?") if scope is self.top else fresh("?")
            inner.names[head.name] = made = IndexName(head.name, ix(index), axis.id if axis else None, head.span)
            self.indices.append((made, f"the head of '{name}'"))
            slots.append(Slot(head.name, axis.id if axis else None, index))
        return inner, slots

    def binder(self, axis: Axis, level: int, place: int) -> Index:
        """The index that a bracket binds: the same for all brackets as deep, so that what stands in several is replaced once."""
        return self.binders.setdefault((axis, level, place), fresh(axis))

    def formal(self, name: str, axis: Axis) -> Index:
        """The index that stands for one of a local's head: the same for all locals, so that one used as it stands is shared."""
        return self.formals.setdefault((name, axis), fresh(axis))

    def check_new(self, name: str, span: Span, scope: Scope) -> None:
        """A new index repeats no name in sight."""
        what = None
        if name in scope.names:
            what = "an index" if isinstance(scope.names[name], IndexName) else "a parameter of the local function"
        elif name in self.names:
            known = self.names[name]
            what = (
                "a local"
                if isinstance(known, LocalName)
                else "an input"
                if any(i.name == name for i in self.signature.inputs)
                else "a hyper-parameter"
            )
        elif name in self.axes:
            axis = self.axes[name]
            what = f"an index over {axis}" if isinstance(axis, Range) else "an axis"
        if what:
            self.fail(f"the new index '{name}' is already {what}", span, "give the index a name that nothing in sight has")

    # -- subscripts

    def applied_array(self, node: syntax.Call | syntax.Bracket, scope: Scope) -> Steps[Term]:
        array: Array = yield self.array(node, scope)
        return self.at(array, scope, self.text(node), node.span)

    def array(self, node: syntax.Node, scope: Scope) -> Steps[Array]:
        """An expression before its remaining axes are applied, as an argument is: what the scope has bound stays bound."""
        match node:
            case syntax.Name():
                found = self.lookup(node, scope)
                if isinstance(found, Term):
                    return Array(found)
                return self.closed((yield self.array_of(found)), scope)
            case syntax.Bracket(base=syntax.Name(id="count")) if "count" not in self.names and "count" not in scope.names:
                return Array((yield self.reduction("count", node, (), (), scope, node.span)))
            case syntax.Bracket():
                return (yield self.subscript(node, scope))
            case syntax.Call():
                return (yield self.call(node, scope))
        return self.computed((yield self.term(node, scope)))

    def closed(self, array: Array, scope: Scope) -> Array:
        """The array with the axes that the scope binds applied, where each is meant once."""
        if not array.slots:
            return Array(array.term.at(scope.bound), array.slots)
        mapping = dict(scope.bound)
        counts = [self.axes.get(s.axis) if s.axis else None for s in array.slots]
        for slot, root in zip(array.slots, counts, strict=True):
            if slot.axis and not _is_own(slot.index, slot.axis) and counts.count(root) == 1 and scope.binds(slot.axis):
                mapping[slot.index] = scope.own[slot.axis]
        return Array(array.term.at(mapping), tuple(s for s in array.slots if s.index not in mapping))

    def subscript(self, node: syntax.Bracket, scope: Scope) -> Steps[Array]:
        base = node.base
        if node.guard is not None:
            self.fail(
                "a guard stands in a subscript", node.guard.span, "conditions stand in the bracket of a reduction: sum[n | condition](x)"
            )
        if isinstance(base, syntax.Name):
            if (
                base.id not in self.names
                and base.id not in scope.names
                and (base.id in REDUCTIONS or base.id in VECTORS or base.id in self.functions)
            ):
                self.fail(f"'{base.id}[..]' is applied to nothing", node.span, f"write {base.id}[..](x)")
            found = self.lookup(base, scope)
            if isinstance(found, Term):
                what = "an index" if found.sort.role == "index" else "a number"
                self.fail(f"'{base.id}' is {what} and takes no subscript", base.span, "arrays take subscripts: x[i]")
            array: Array = yield self.array_of(found)
            name = base.id
        elif isinstance(base, syntax.Call):
            array = yield self.call(base, scope, whole=True)
            name = self.text(base)
            if array.slots is not None and not array.slots:
                self.no_axes(name, base, array)
        else:
            self.fail("an expression takes no subscript", base.span, "give it a name with a head in `where`: u[i, j] = .., then u[i, j]")
        return (yield self.place(array, node, scope, name))

    def no_axes(self, name: str, base: syntax.Node, array: Array) -> NoReturn:
        if isinstance(base, syntax.Name) and array.term.expr.free:
            hint = "an argument is one element where brackets bind its axes: call the function outside of them, in a local"
            self.fail(f"'{name}' is one element here and takes no subscript", base.span, hint)
        self.fail(f"'{name}' is a number and takes no subscript", base.span, "arrays take subscripts: declare x: real[n] for x[i]")

    def place(self, array: Array, node: syntax.Bracket, scope: Scope, name: str) -> Steps[Array]:
        """An array with indices in some of its places; the others stay."""
        by_name: list[tuple[syntax.Keyword, Term]] = []
        by_place: list[tuple[syntax.Node, Term]] = []
        for item in node.items:
            if isinstance(item, syntax.Binder):
                self.fail(
                    f"'{item.name.id} in' stands in a subscript",
                    item.span,
                    "an index is bound in the bracket of a reduction: sum[i in n](x[i])",
                )
            if isinstance(item, syntax.Keyword):
                by_name.append((item, (yield self.index(item.value, scope))))
            else:
                by_place.append((item, (yield self.index(item, scope))))
        mapping: dict[Index, Expr] = {}
        for keyword, term in by_name:
            slot = self.slot_named(array, keyword, name)
            if slot.index in mapping:
                self.fail(f"the axis '{keyword.name}' of '{name}' is indexed twice", keyword.span, "give each axis one index")
            mapping[slot.index] = self.placed(term, slot, keyword.value, name)
        self.by_place(array, by_place, mapping, node, name)
        if any(e.op != "ix" for e in mapping.values()):
            self.readings.setdefault(name, node.span)
        rest = self.closed(Array(array.term, tuple(s for s in array.slots or () if s.index not in mapping)), scope.without(mapping))
        ranges = {s.index: mapping[s.index] for s in array.slots or () if s.strict and s.index in mapping}
        out = _within(rest.term.at(mapping), ranges)
        self.recursions.noted(out, node.span)
        self.check_work(node.span)
        return Array(out, rest.slots) if array.slots is not None else self.computed(out)

    def slot_named(self, array: Array, keyword: syntax.Keyword, name: str) -> Slot:
        known = [*(array.slots or ()), *(Slot(str(i.tag), str(i.tag), i) for i in _ordered(array.term.expr.free, self.axes))]
        found = [s for s in known if s.name == keyword.name] or list({s.index: s for s in known if s.axis == keyword.name}.values())
        if len(found) == 1 or found and found[0].name == keyword.name:
            return found[0]
        if found:
            hint = f"name the index: {name}[{found[0].name} = ..]"
            self.fail(f"'{name}' has {_count(len(found), 'index', 'indices')} over the axis '{keyword.name}'", keyword.span, hint)
        axes = list(dict.fromkeys(s.name for s in known))
        hint = near(keyword.name, axes, f"its axes are {listed(axes)}" if axes else "it has no axes")
        self.fail(f"'{name}' has no axis '{keyword.name}'", keyword.span, hint)

    def by_place(
        self, array: Array, items: Sequence[tuple[syntax.Node, Term]], mapping: dict[Index, Expr], node: syntax.Bracket, name: str
    ) -> None:
        slots = array.slots
        if slots is None:
            if not all(term.sort.role == "class" or (array.open and term.sort.role == "index") for _, term in items):
                axes = ", ".join(str(i.tag) for i in _ordered(array.term.expr.free, self.axes))
                hint = f"give it a head, {name}[{axes}] = .., or index by name"
                self.fail(f"'{name}' has several axes and no head that orders them", node.span, hint)
            slots = tuple(Slot(str(i.tag), str(i.tag), i) for i in _ordered(array.term.expr.free, self.axes))
        left = [s for s in slots if s.index not in mapping]
        if items and not slots:
            self.no_axes(name, node.base, array)
        taken = self.claims(items, left, name, ("class", "index") if array.open else ("class",))
        free = [s for s in left if s not in taken.values()]
        for k, (item, term) in enumerate(items):
            if array.open and term.sort.role == "index":
                self.recursions.placed.setdefault(name, item.span)
            slot = taken.get(k)
            if slot is None:
                if not free:
                    axes = listed([s.name for s in slots])
                    self.fail(
                        f"'{name}' has {_count(len(slots), 'axis', 'axes')}, {axes}, and is given more indices",
                        item.span,
                        "give one index for each axis",
                    )
                slot = free.pop(0)
            mapping[slot.index] = self.placed(term, slot, item, name)

    def claims(self, items: Sequence[tuple[syntax.Node, Term]], left: Sequence[Slot], name: str, roles: Sequence[str]) -> dict[int, Slot]:
        """A class stays where it stands if that is its axis, else it goes to its own."""
        taken: dict[int, Slot] = {}
        for k, (item, term) in enumerate(items):
            if term.sort.role not in roles:
                continue
            here = left[k] if k < len(left) else None
            if here is not None and (here.axis is None or self.axes.get(here.axis) == term.sort.of):
                taken[k] = here
                continue
            mine = next((s for s in left if s.axis and self.axes.get(s.axis) == term.sort.of and s not in taken.values()), None)
            if mine is None and here is not None and isinstance(here.index.axis, Range):
                mine = here
            if mine is None:
                self.fail(f"'{self.text(item)}' is a class of the axis '{term.sort.of}', which '{name}' does not have", item.span,
                          f"axes of '{name}' are {listed([s.name for s in left])}" if left else f"'{name}' has no axes left")  # fmt: skip
            taken[k] = mine
        return taken

    def index(self, node: syntax.Node, scope: Scope) -> Steps[Term]:
        """What may stand in a subscript."""
        term: Term = yield self.term(node, scope)
        role, text = term.sort.role, self.text(node)
        if role in ("index", "class") or term.sort.places and role == "number":
            return term
        if role == "condition":
            self.fail("a condition is no index", node.span, "write piecewise(x[1] if condition, x[0] otherwise)")
        if role == "label":
            self.fail(f"'{text}' is a label and indexes no axis", node.span, f"declare it as a class of the axis: {text}: class(k)")
        if term.literal is not None:
            self.fail("an index is a whole number", node.span, "indices count from 0")
        axis = next(iter(self.axes), "k")
        if term.sort.integer:
            self.fail(f"'{text}' is an integer that indexes no axis", node.span, f"declare it as a class of the axis: class({axis})")
        hint = f"an index is a class, class({axis}), or a whole number, floor(x)"
        self.fail(f"'{text}' is a real number and indexes no axis", node.span, hint)

    def placed(self, term: Term, slot: Slot, node: syntax.Node, name: str) -> Expr:
        """The value of an index in its place, checked against the axis there; ranges are of whole numbers that index any axis."""
        index = term.index
        if index is not None and not index.range and index.axis is None and slot.axis is not None:
            index.axis = slot.axis
        of = term.sort.of if index is None or index.range else (self.axes.get(index.axis) if index.axis else None)
        root = self.axes.get(slot.axis) if slot.axis else None
        if term.literal is not None:
            self.check_place(term.literal, root or slot.index.axis, node, name)
        if isinstance(of, str) and isinstance(root, str) and of != root and not self.related(of, root):
            what = "a class of" if term.sort.role == "class" else "an index over"
            hint = f"if the axes are equal, declare it: [{of}, {slot.name} in {of}]"
            self.fail(f"'{self.text(node)}' is {what} '{of}' and stands on the axis '{slot.axis}' of '{name}'", node.span, hint)
        return term.number

    def related(self, a: str, b: str) -> bool:
        """Whether the length of one axis is declared by that of the other, so that indices over both are told apart by bounds."""
        return any(size(x) in postorder([self.lengths[y]]) for x, y in ((a, b), (b, a)) if y in self.lengths)

    def spans(self, name: str, range: Range) -> bool:
        """Whether a name is that of an axis that has just the indices of a range."""
        axis = self.axes.get(name)
        if not isinstance(axis, str):
            return axis == range
        return range.lo is ZERO and range.hi is self.folded(sub(size(axis), ONE))

    def check_place(self, place: Fraction, axis: Axis, node: syntax.Node, name: str) -> None:
        """Refuse a number that lies outside of an axis whose length is a number."""
        low, high = (axis.lo, axis.hi) if isinstance(axis, Range) else (ZERO, self.folded(sub(size(axis), ONE)))
        if low.op == high.op == "num" and not low.data <= place <= high.data:
            where = f"runs over {axis}" if isinstance(axis, Range) else f"has {high.data + 1} entries along '{axis}'"
            hint = f"indices are {low.data} to {high.data}" if low.data <= high.data else "the axis is empty"
            self.fail(f"'{name}' {where}, and none at {place}", node.span, hint)

    # -- calls

    def call(self, node: syntax.Call, scope: Scope, *, whole: bool = False) -> Steps[Array]:
        """A call; ``whole`` leaves the axes of what an unknown function or a gradient gives to a subscript that follows."""
        function = node.function
        bracket = function if isinstance(function, syntax.Bracket) else None
        called = bracket.base if bracket else function
        if not isinstance(called, syntax.Name):
            left = self.text(function)
            self.fail("what is called is no function", function.span, f"write * for a product: {left}*(..)")
        name = called.id
        if name in self.functions:
            if bracket:
                self.fail(f"the local function '{name}' takes no bracket", bracket.span, f"call it plainly: {name}(..)")
            return (yield self.local_call(self.functions[name], node, scope))
        target = self.targets.get(name)
        if isinstance(target, Open):
            found: Array = yield open_call(self, target, name, node, bracket, scope)
            return found if whole else self.closed(found, scope)
        if target is not None:
            self.check_arity(name, node)
        if target is None:
            target = self.find(name)
            if target is not None and self.built_in(name, node, bracket):
                itself = name == self.definition.name
                if itself or not (yield self.takes(target, node)):
                    target = None
        if target is None and name == "grad":
            found = yield gradient_call(self, node, bracket, scope)
            return found if whole else self.closed(found, scope)
        if target is None:
            target = name
        return (yield self.call_target(target, name, node, bracket, scope))

    def check_arity(self, name: str, node: syntax.Call) -> None:
        kind = next(p.kind for p in self.signature.functions if p.name == name)
        arity = None if kind is None else len(kind.arguments)
        if arity is not None and len(node.args) != arity:
            self.fail(
                f"'{name}' is declared with {_count(arity, 'argument')}, not {len(node.args)}",
                node.span,
                "its kind says what it takes: (real, real) -> real",
            )

    def takes(self, loss: Loss, node: syntax.Call) -> Steps[bool]:
        """Whether a loss has as many inputs as a call has arguments; a function of the same name is told apart by that."""
        signature: Signature = yield loss.signature()
        return len(signature.arguments) == len(node.args)

    def built_in(self, name: str, node: syntax.Call, bracket: syntax.Bracket | None) -> bool:
        row = find_row(name)
        if bracket or name in VECTORS:
            return name in REDUCTIONS or name in VECTORS
        return name in SPECIAL or bool(row and (row.arity == len(node.args) or row.variadic and len(node.args) >= 2))

    def call_target(self, target: Target, name: str, node: syntax.Call, bracket: syntax.Bracket | None, scope: Scope) -> Steps[Array]:
        if not isinstance(target, str | Vector):
            return (yield self.loss_call(target, name, node, bracket, scope))
        builtin = target if isinstance(target, str) else target.name
        if bracket and builtin in REDUCTIONS:
            return (yield self.bracketed(builtin, bracket, node, scope))
        if builtin in VECTORS:
            return (yield self.vector_call(VECTORS[builtin], name, node, bracket, scope))
        if builtin in REDUCTIONS and REDUCTIONS[builtin].bracketless != "numbers":
            axis = next(iter(self.axes), None)
            hint = f"name the axes: {builtin}[{axis}](..)" if axis else "no input has an axis; a call reduces the batch by itself"
            self.fail(f"'{builtin}' stands without a bracket", node.function.span, hint)
        if bracket and (builtin in SPECIAL or find_row(builtin)):
            self.fail(f"the function '{builtin}' takes no bracket", bracket.span, f"it acts on numbers, one by one: {builtin}(x)")
        return self.computed((yield self.function_call(builtin, node, bracket, scope)))

    def function_call(self, name: str, node: syntax.Call, bracket: syntax.Bracket | None, scope: Scope) -> Steps[Term]:
        match name:
            case "piecewise":
                return (yield self.piecewise(node, scope))
            case "size":
                return self.size(node, scope)
        row = find_row(name)
        if row is None:
            self.unknown_function(node, name, scope)
        if node.keywords:
            self.fail(
                f"the function '{name}' has no parameter '{node.keywords[0].name}'",
                node.keywords[0].span,
                f"its arguments stand in order: {_example(name)}",
            )
        args: list[Term] = []
        for x in node.args:
            args.append((yield self.number(x, scope)))
        many = row.variadic and len(args) >= 2
        if len(args) != row.arity and not many:
            hint = f"write {_example(name)}"
            if row.variadic:
                hint = f"write {name}(a, b), or {name}[{next(iter(self.axes), 'n')}](x) along an axis"
            takes = f"{row.arity} or more" if row.variadic else str(row.arity)
            self.fail(f"'{name}' takes {takes} argument{'s' if takes != '1' else ''}, not {len(args)}", node.span, hint)
        for text, term, arg in zip(row.args, args, node.args, strict=False):
            if text in row.integer and not term.sort.integer:
                self.fail(
                    f"the argument '{text}' of '{name}' is no whole number", arg.span, "give a whole number or an integer hyper-parameter"
                )
        if row.name in LOGARITHMS and args[0].sort.kind == "unit" and args[0].sort.role == "number":
            hint = "declare it as prob if it is never 0, or clip it: log(clip(p, 1e-12, 1))"
            self.remark("log-of-unit", f"'{self.text(node.args[0])}' may be 0, where the logarithm is -inf", node.args[0].span, hint)
        return _elementary(row.name, args, sort_of_range(row.range))

    def unknown_function(self, node: syntax.Call, name: str, scope: Scope) -> NoReturn:
        span = node.function.span
        if name in scope.names or name in self.names or name in self.axes:
            self.fail(f"'{name}' is no function", span, f"write {name}*(..) for a product, {name}[..] for a subscript")
        known = [*self.functions, *self.targets, *SPECIAL, *REDUCTIONS, *VECTORS, *FUNCTIONS, *self.losses.names()]
        hint = words.FUNCTIONS.get(name) or near(
            name, known, "functions are defined in `where`, D(u, v) = .., in this file, or in the library"
        )
        self.fail(f"there is no function '{_short(name)}'", span, hint)

    def piecewise(self, node: syntax.Call, scope: Scope) -> Steps[Term]:
        if node.keywords:
            self.fail("a named value in piecewise", node.keywords[0].span, "write piecewise(a if condition, b otherwise); == compares")
        if not node.args:
            self.fail("piecewise has no branches", node.span, "write piecewise(a if condition, b otherwise)")
        branches: list[tuple[Expr, Expr]] = []
        sorts: list[Sort] = []
        for k, branch in enumerate(node.args):
            if not isinstance(branch, syntax.Branch):
                hint = _branch_hint(branch, self.text(branch), last=k == len(node.args) - 1 and k > 0)
                self.fail("a branch without a condition", branch.span, hint)
            if branch.condition is None and k < len(node.args) - 1:
                self.fail(
                    "'otherwise' is not the last branch", branch.span, "branches are tried in order; nothing is left after 'otherwise'"
                )
            holds = TRUE if branch.condition is None else (yield self.condition(branch.condition, scope, "what follows 'if'")).expr
            term: Term = yield self.number(branch.value, scope)
            branches.append((term.number, holds))
            sorts.append(term.sort)
        integer = all(s.integer for s in sorts)
        return value(pw(branches), Sort(integer=integer, places=integer and all(s.places or s.role == "condition" for s in sorts)))

    def size(self, node: syntax.Call, scope: Scope) -> Term:
        if len(node.args) != 1 or node.keywords or not isinstance(node.args[0], syntax.Name):
            self.fail("size takes the name of one axis", node.span, "write size(n); of two axes, size(n)*size(d)")
        name = node.args[0].id
        if name not in self.axes:
            if name in self.names or name in scope.names:
                what = "an index" if isinstance(scope.names.get(name), IndexName) else "no axis"
                hint = f"name an axis: {listed(self.axes)}" if self.axes else "size takes the name of an axis, and there is none here"
                self.fail(f"'{name}' is {what}", node.args[0].span, hint)
            self.fail(
                f"there is no axis '{name}'",
                node.args[0].span,
                near(name, self.axes, f"axes are {listed(self.axes)}" if self.axes else "inputs declare axes: x: real[n]"),
            )
        return value(self.folded(size(self.axes[name])), INTEGER)

    def folded(self, e: Expr) -> Expr:
        """An expression with the lengths that are declared with numbers; the samples of a batch may be weighted."""
        numbers = {size(a): n for a, n in self.lengths.items() if n.op == "num" and a != self.signature.batch}
        return replace_leaves([e], numbers)[0] if numbers else e

    # -- local functions

    def local_call(self, name: LocalName, node: syntax.Call, scope: Scope) -> Steps[Array]:
        local = name.local
        params = local.params or ()
        if node.keywords:
            self.fail(
                f"the local function '{local.name}' has no named parameters",
                node.keywords[0].span,
                f"write {local.name}({', '.join(p.id for p in params)})",
            )
        if len(node.args) != len(params):
            hint = f"write {local.name}({', '.join(p.id for p in params)})"
            self.fail(f"'{local.name}' takes {_count(len(params), 'argument')}, not {len(node.args)}", node.span, hint)
        marked, marks = scope.marked()
        args = []
        for x in node.args:
            args.append((yield self.array(x, marked)))
        name.used = name.read = True
        array: Array = yield self.apply(name, tuple(args), scope.level, node)
        array = self.closed(array, scope)
        return Array(array.term.at(marks), array.slots) if marks else array

    def apply(self, name: LocalName, args: tuple[Array, ...], level: int, node: syntax.Call) -> Steps[Array]:
        """The body of a local function with its parameters standing for the arguments."""
        self.check_work(node.span)
        key = (name, tuple((a.term.expr, a.term.sort, a.slots, a.term.conds, a.term.rest, a.term.index) for a in args))
        if key in self.applied:
            return self.applied[key]
        local = name.local
        if name.busy:
            self.fail(
                f"the local function '{local.name}' calls itself",
                node.span,
                "a function is made of others; a sum over a range is sum[b in 0..m](..)",
            )
        scope = self.top.child(deeper=level)
        scope.names |= {p.id: _argument(a) for p, a in zip(local.params or (), args, strict=True)}
        name.busy = True
        try:
            out: Array = yield self.template(local, scope)
        finally:
            name.busy = False
        self.applied[key] = out
        return out

    # -- losses

    def loss_call(self, loss: Loss, name: str, node: syntax.Call, bracket: syntax.Bracket | None, scope: Scope) -> Steps[Array]:
        signature: Signature = yield loss.signature()
        self.check_arguments(signature, name, node)
        passes: Passed = yield passed(self, signature, name, node)
        compiled: Compiled = yield loss.lowered(passes.functions)
        given = {k.name: k for k in node.keywords if k.name not in passes.functions}
        declared: list[Input | Param] = [*signature.inputs, *(p for p in signature.params if p.name in given)]
        nodes = [*passes.nodes, *(given[p.name].value for p in signature.params if p.name in given)]
        lengths = compiled.program.lengths
        further = axes_of_functions(self, signature, passes)
        array: Array = yield self.applied_loss(
            name, compiled.array, signature.axes, declared, nodes, signature.params, node, bracket, scope, lengths, further
        )
        return (yield local_functions(self, array, passes.local, node))

    def vector_call(self, vector: Vector, name: str, node: syntax.Call, bracket: syntax.Bracket | None, scope: Scope) -> Steps[Array]:
        if len(node.args) != len(vector.inputs) or node.keywords:
            example = f"{name}({', '.join(i.name for i in vector.inputs)})"
            self.fail(
                f"'{name}' takes {_count(len(vector.inputs), 'argument')}, not {len(node.args) + len(node.keywords)}",
                node.span,
                f"write {example}",
            )
        return (yield self.applied_loss(name, vector.array, {"d": "d"}, list(vector.inputs), list(node.args), (), node, bracket, scope))

    def check_arguments(self, signature: Signature, name: str, node: syntax.Call) -> None:
        inputs = signature.arguments
        params = [p.name for p in signature.params] + [f.name for f in signature.functions if f.place is None]
        example = f"{name}({', '.join(inputs)}{'; ' + ', '.join(p + ' = ..' for p in params) if params else ''})"
        if len(node.args) != len(inputs):
            self.fail(
                f"'{name}' takes {_count(len(inputs), 'input')}, {listed(inputs)}, not {len(node.args)}"
                if inputs
                else f"'{name}' takes no inputs",
                node.span,
                f"write {example}",
            )
        seen: set[str] = set()
        for k in node.keywords:
            if k.name in seen:
                self.fail(f"'{k.name}' is given twice", k.span, "give each hyper-parameter one value")
            seen.add(k.name)
            if k.name in inputs:
                self.fail(f"'{k.name}' is an input of '{name}' and given by name", k.span, f"inputs stand in order, before ';': {example}")
            if k.name not in params:
                self.fail(
                    f"'{name}' has no hyper-parameter '{k.name}'",
                    k.span,
                    near(k.name, params, f"it has {listed(params)}" if params else "it has none"),
                )
        needed: list[Param | FunctionParam] = [*signature.params, *(f for f in signature.functions if f.place is None)]
        for p in needed:
            if p.default is None and p.name not in seen:
                self.fail(f"'{name}' needs its hyper-parameter '{p.name}'", node.span, f"write {example}")

    def applied_loss(
        self,
        name: str,
        body: Array,
        axes: Mapping[str, str],
        declared: Sequence[Input | Param],
        nodes: Sequence[syntax.Node],
        params: Sequence[Param],
        node: syntax.Call,
        bracket: syntax.Bracket | None,
        scope: Scope,
        lengths: Sequence[tuple[str, Expr]] = (),
        further: Mapping[str, Index] = MappingProxyType({}),
    ) -> Steps[Array]:
        """A loss at arguments: its axes bind to theirs, its names to their values; ``further`` axes are bound by other means."""
        if bracket:
            args, bound, marks = yield self.bracketed_arguments(name, axes, declared, nodes, bracket, scope)
        else:
            args, bound, marks = yield self.plain_arguments(name, declared, nodes, node, scope)
        bound = {**further, **bound}
        roots = self.bound_roots(name, axes, bound, node)
        values: dict[str, tuple[tuple[Index, ...], Expr]] = {}
        for what, (formals, term), arg in zip(declared, args, nodes, strict=True):
            self.check_fit(term, what, roots, arg, name)
            values[what.name] = (formals, term.number)
        for p in params:
            if p.name not in values:
                assert p.default is not None
                values[p.name] = ((), _default(p))
        self.check_lengths(name, lengths, values, roots, node)
        order = [n for n in axes if n in bound]
        out, slots = self.opened(body, axes, {n: bound[n] for n in order}, values, roots)
        changed = instantiate(body.term.parts(), values, roots, out)
        term = body.term.map(changed).at(marks)
        self.check_work(node.span)
        if slots:
            return self.closed(Array(term, slots), scope)
        return self.closed(self.computed(term), scope)

    def check_lengths(
        self, name: str, lengths: Sequence[tuple[str, Expr]], values: Values, roots: Mapping[str, Axis], node: syntax.Node
    ) -> None:
        """An axis of a declared length is given one of the same length."""
        for axis, length in lengths:
            if axis not in roots:
                continue
            given = roots[axis]
            due = self.folded(instantiate([length], values, roots, {})[length])
            has = self.folded(self.lengths.get(given, size(given)) if isinstance(given, str) else size(given))
            if due is not has:
                any_length = f"; declare it as [{given} = {due}]" if isinstance(given, str) and given not in self.lengths else ""
                said = "any length" if any_length else f"the length {has}"
                self.fail(f"the axis '{axis}' of '{name}' has the length {due}, and that of its argument, '{given}', {said}", node.span,
                          f"'{name}' takes arrays of this length alone{any_length}")  # fmt: skip

    def bound_roots(self, name: str, axes: Mapping[str, str], bound: Mapping[str, Index], node: syntax.Call) -> dict[str, Any]:
        """Which axis of the arguments each axis of a loss is; axes that it declares equal must be one."""
        roots: dict[str, Any] = {}
        first: dict[str, str] = {}
        for a, root in axes.items():
            if a not in bound:
                continue
            mine = roots.setdefault(root, bound[a].axis)
            if mine != bound[a].axis:
                hint = f"declare the axes of the argument equal: [{mine}, {bound[a].axis} in {mine}]"
                self.fail(
                    f"the axes '{first[root]}' and '{a}' of '{name}' are equal, those of its argument are '{mine}' and '{bound[a].axis}'",
                    node.span,
                    hint,
                )
            first.setdefault(root, a)
        return roots

    def opened(
        self, body: Array, axes: Mapping[str, str], bound: Mapping[str, Index], values: Values, roots: Mapping[str, Axis]
    ) -> tuple[dict[Index, Expr], tuple[Slot, ...]]:
        """What the indices of a loss that gives an array become, and its slots as the caller sees them."""
        out: dict[Index, Expr] = {}
        slots: list[Slot] = []
        for slot in body.slots or ():
            if isinstance(slot.index.axis, Range):
                ends = (slot.index.axis.lo, slot.index.axis.hi)
                changed = instantiate(ends, values, roots, {})
                index = fresh(Range(*(self.folded(changed[e]) for e in ends)))
                out[slot.index] = ix(index)
                slots.append(Slot(slot.name, None, index, strict=True))
                continue
            root = axes.get(slot.axis or "", slot.axis or "")
            mine = bound.get(slot.name) or next((i for a, i in bound.items() if axes[a] == root), None)
            assert mine is not None
            axis = str(mine.tag) if isinstance(mine.tag, str) else next((a for a, r in self.axes.items() if r == mine.axis), None)
            if slot.name in bound and isinstance(mine.tag, str):
                index = mine
            else:
                index = fresh(mine.axis)
            out[slot.index] = ix(index)
            slots.append(Slot(axis if axis and index is mine else slot.name, axis, index))
        return out, tuple(slots)

    def plain_arguments(
        self, name: str, declared: Sequence[Input | Param], nodes: Sequence[syntax.Node], node: syntax.Call, scope: Scope
    ) -> Steps[tuple[list[tuple[tuple[Index, ...], Term]], dict[str, Index], dict[Index, Expr]]]:
        """Arguments whose un-indexed axes are the loss's own."""
        marked, marks = scope.marked()
        args: list[tuple[tuple[Index, ...], Term]] = []
        bound: dict[str, Index] = {}
        for what, x in zip(declared, nodes, strict=True):
            wanted = [n for _, n in what.kind.axes]
            if not wanted:
                args.append(((), (yield self.term(x, marked))))
                continue
            array: Array = yield self.array(x, marked)
            formals = self.event_axes(name, what, wanted, array, x, scope)
            for n, index in zip(wanted, formals, strict=True):
                mine = self.settled_index(index, array)
                seen = bound.setdefault(n, mine)
                if seen.axis != mine.axis:
                    hint = f"both arguments run along one axis: declare both over '{seen.axis}', or one as real[{mine.axis} in {seen.axis}]"
                    self.fail(f"the axis '{n}' of '{name}' is '{seen.axis}' in one argument and '{mine.axis}' in another", x.span, hint)
            args.append((formals, array.term))
        return args, bound, marks

    def settled_index(self, index: Index, array: Array) -> Index:
        """An index with the axis that its slot has; a formal of a head does not know its own."""
        if isinstance(index.tag, str):
            return index
        slot = next(s for s in array.slots or () if s.index == index)
        return Index(self.axes[slot.axis or ""], index.tag)

    def event_axes(
        self, name: str, what: Input | Param, wanted: Sequence[str], array: Array, node: syntax.Node, scope: Scope
    ) -> tuple[Index, ...]:
        found = [s.index for s in array.slots or ()]
        found += [i for i in _ordered(array.term.expr.free, self.axes) if i not in found]
        unknown = next((s for s in array.slots or () if s.axis is None), None)
        if unknown:
            self.fail(
                f"the axis of the index '{unknown.name}' of '{self.text(node)}' is not known here",
                node.span,
                f"say it in the head: [{unknown.name} in n]",
            )
        shown = [next((s.name for s in array.slots or () if s.index == i), str(i.tag)) for i in found]
        if len(found) != len(wanted):
            self.wrong_axes(name, what, wanted, shown, node, scope)
        if array.slots is None and len(wanted) > 1:
            if set(shown) != set(wanted):
                hint = f"name the axes in their order: {name}[{', '.join(shown)}](..)"
                self.fail(f"which of the axes {listed(shown)} is which of {listed(wanted)}?", node.span, hint)
            by_name = dict(zip(shown, found, strict=True))
            return tuple(by_name[n] for n in wanted)
        return tuple(found)

    def wrong_axes(
        self, name: str, what: Input | Param, wanted: Sequence[str], shown: Sequence[str], node: syntax.Node, scope: Scope
    ) -> NoReturn:
        """An argument has more or fewer axes than are due, once those that brackets bind are gone."""
        has = f"the un-indexed {'axis' if len(shown) == 1 else 'axes'} {listed(shown)}" if shown else "no un-indexed axis"
        taken = [a for a in self.axes if scope.binds(a)]
        if len(shown) > len(wanted):
            hint = f"name what is meant: {name}[{', '.join(shown[len(shown) - len(wanted) :])}](..)"
        elif taken:
            meant = wanted if set(wanted) <= set(self.axes) else [*taken, *shown][: len(wanted)]
            hint = f"a bracket around it binds {listed(taken)}; name what is meant: {name}[{', '.join(meant)}](..)"
        else:
            hint = f"give it an array: declare an input as real[{', '.join(wanted)}]"
        runs = "one axis" if len(wanted) == 1 else _count(len(wanted), "axis", "axes")
        self.fail(f"'{name}' runs along {runs}, and its argument has {has}", node.span, hint)

    def bracketed_arguments(
        self,
        name: str,
        axes: Mapping[str, str],
        declared: Sequence[Input | Param],
        nodes: Sequence[syntax.Node],
        bracket: syntax.Bracket,
        scope: Scope,
    ) -> Steps[tuple[list[tuple[tuple[Index, ...], Term]], dict[str, Index], dict[Index, Expr]]]:
        """Arguments whose axes the bracket names, in the order in which the loss declares its own."""
        if bracket.guard is not None:
            self.fail(f"'{name}' takes no guard", bracket.guard.span, "reductions take guards: sum[n | condition](x)")
        inner, bounds = yield bracket_scope(self, bracket, scope)
        if any(b.guard is not TRUE for b in bounds):
            self.fail(
                f"'{name}' runs over a range whose end depends on an index", bracket.span, "write it out as a sum, which takes such a range"
            )
        order = list(dict.fromkeys(n for what in declared for _, n in what.kind.axes))
        if len(bounds) != len(order):
            takes = f"{len(order)} axes, {listed(order)}" if len(order) > 1 else "one axis" if order else "no axis"
            self.fail(
                f"'{name}' runs along {takes}, and its bracket names {len(bounds)}",
                bracket.span,
                f"write {name}[{', '.join(order)}](..)" if order else f"write {name}(..)",
            )
        by_name = dict(zip(order, bounds, strict=True))
        args: list[tuple[tuple[Index, ...], Term]] = []
        for what, x in zip(declared, nodes, strict=True):
            term: Term = yield self.term(x, inner)
            formals = tuple(by_name[n].index for _, n in what.kind.axes)
            for b in bounds:
                if b.index in term.expr.free and b.index not in formals:
                    hint = f"'{what.name}' of '{name}' is no array over '{b.name}'; index the argument, or reduce it"
                    self.fail(f"the argument '{what.name}' depends on the axis '{b.name}' of the bracket", x.span, hint)
            args.append((formals, term))
        return args, {n: b.index for n, b in by_name.items()}, {b.index: scope.own[b.axis] for b in bounds if b.axis in scope.own}

    def check_fit(self, term: Term, what: Input | Param, roots: Mapping[str, Any], node: syntax.Node, name: str) -> None:
        """A kind is given where another is due and neither contains the other."""
        kind = what.kind
        sort = term.sort
        of = roots.get(kind.root) if kind.root else None
        found = misfit(sort, kind, of)
        if found is None and term.literal is not None and not inside(term.literal, kind):
            found = (
                f"{self.text(node)}, outside of its domain",
                f"give a number that is {kind.row.doc}" if kind.interval is None else f"give a number in {kind.interval}",
            )
        if found is not None:
            message, hint = found
            self.fail(f"'{what.name}' of '{name}' is {_article(kind.name)} and is given {message}", node.span, hint)

    # -- reductions

    def bracketed(self, name: str, bracket: syntax.Bracket, node: syntax.Call, scope: Scope) -> Steps[Array]:
        row = REDUCTIONS[name]
        if row.keeps_axis:
            return (yield self.mapping(row, bracket, node, scope))
        return self.computed((yield self.reduction(name, bracket, node.args, node.keywords, scope, node.span)))

    def options(self, row: Reduction, keywords: Sequence[syntax.Keyword]) -> dict[str, syntax.Keyword]:
        out: dict[str, syntax.Keyword] = {}
        for k in keywords:
            if k.name in out:
                self.fail(f"the option '{k.name}' is given twice", k.span, "give it once")
            if k.name not in row.options:
                hint = near(k.name, row.options, f"its options are {listed(row.options)}" if row.options else "it has no options")
                self.fail(f"'{row.name}' has no option '{k.name}'", k.span, hint)
            out[k.name] = k
        return out

    def reduction(
        self, name: str, bracket: syntax.Bracket, args: Sequence[syntax.Node], keywords: Sequence[syntax.Keyword], scope: Scope, span: Span
    ) -> Steps[Term]:
        row = REDUCTIONS[name]
        options = self.options(row, keywords)
        bare_count = name == "count" and not args
        if len(args) != 1 and not bare_count:
            self.fail(f"'{name}' takes one argument, not {len(args)}", span, self.one_argument(row, bracket))
        inner, bounds = yield self.bounds(row, bracket, scope)
        guard = yield self.guard(bracket, inner, bounds)
        binders = [b.index for b in bounds]
        if bare_count:
            return value(red("sum", binders, ONE, guard), INTEGER)
        default = (yield self.number(options["default"].value, scope)).number if "default" in options else None
        if row.body == "condition":
            what = yield self.condition(args[0], inner, f"what '{name}' looks at")
            out = _conditional(name, binders, what.expr, guard)
            return out if default is None else value(_defaulted(out.number, bounds, guard, default))
        body: Term = yield self.number(args[0], inner)
        if name == "mean" and "weight" in options:
            weight: Term = yield self.number(options["weight"].value, inner)
            return value(_weighted(binders, body.number, weight.number, guard, default))
        if name in ("var", "std"):
            ddof = (yield self.number(options["ddof"].value, scope)).number if "ddof" in options else ZERO
            spread = _deviation if name == "std" else _variance
            out = value(spread(binders, body.number, guard, ddof), sort_of_range(FUNCTIONS["sqrt"].range))
        else:
            out = _numeric(name, binders, body, guard, bounds)
        return (
            out
            if default is None
            else replace(value(_defaulted(out.number, bounds, guard, default)), sort=out.sort if row.gives == "class" else NUMBER)
        )

    def bounds(self, row: Reduction, bracket: syntax.Bracket, scope: Scope) -> Steps[tuple[Scope, list[Bound]]]:
        """The inside of a reduction's bracket, and what it binds."""
        inner, bounds = yield bracket_scope(self, bracket, scope)
        if row.one_axis and len(bounds) != 1:
            self.fail(f"'{row.name}' runs along one axis, not {len(bounds)}", bracket.span, f"write {row.name}[{bounds[0].name}](x)")
        return inner, bounds

    def one_argument(self, row: Reduction, bracket: syntax.Bracket) -> str:
        shown = f"{row.name}[{', '.join(self.text(i) for i in bracket.items)}]"
        if row.bracketless == "numbers":
            return f"write {row.name}({shown}(x), y) for the {row.name} of an array and a number"
        if row.name in ("sort", "argsort"):
            return f"write {shown}(x); in the order of x, y is y[arg{shown.removeprefix('arg')}(x)]"
        return f"write {shown}({'condition' if row.body == 'condition' else 'x'}); options are named"

    def guard(self, bracket: syntax.Bracket, inner: Scope, bounds: Sequence[Bound]) -> Steps[Expr]:
        """The condition of a bracket, with those that ignored classes bring."""
        guard = TRUE
        if bracket.guard is not None:
            guard = (yield self.condition(bracket.guard, inner, "the guard")).expr
        kept = []
        for i in self.ignoring:
            for b in bounds:
                for root, n in i.kind.axes:
                    if b.axis is not None and self.axes[b.axis] == root:
                        at = [ix(b.index) if m == n else inner.own[m] for _, m in i.kind.axes]
                        kept.append(cmp("!=", ref(i.name, at), num(i.kind.ignore or 0)))
        return and_(*kept, *(b.guard for b in bounds), guard)

    def mapping(self, row: Reduction, bracket: syntax.Bracket, node: syntax.Call, scope: Scope) -> Steps[Array]:
        """softmax, sort, cumsum, ..: the axis stays, and an index after the call goes to it."""
        options = self.options(row, node.keywords)
        if len(node.args) != 1:
            self.fail(f"'{row.name}' takes one argument, not {len(node.args)}", node.span, self.one_argument(row, bracket))
        inner, bounds = yield self.bounds(row, bracket, scope)
        guard = yield self.guard(bracket, inner, bounds)
        body: Term = yield self.number(node.args[0], inner)
        falling = self.order(options.get("order"))
        if not row.one_axis:
            out = _normalised(row.name, body.number, guard, bounds)
        elif row.name in ("sort", "argsort"):
            out = _sorted(row.name, body, guard, bounds[0], falling)
            for name in references([out.expr]):
                self.readings.setdefault(name, node.span)
        else:
            out = _counted(row.name, body, guard, bounds[0].index, falling)
        strict = row.name not in ("sort", "argsort")  # beyond the last place of an order there is nothing anyway
        return Array(out, tuple(Slot(b.name, b.axis, b.index, strict and isinstance(b.index.axis, Range)) for b in bounds))

    def order(self, option: syntax.Keyword | None) -> bool:
        """Whether the order is descending."""
        if option is None:
            return False
        if not isinstance(option.value, syntax.Name) or option.value.id not in ("ascending", "descending"):
            self.fail("the order is a word", option.value.span, "write order = ascending or order = descending")
        return option.value.id == "descending"


# -- building -----------------------------------------------------------------------------------------------------------


def _within(term: Term, places: Mapping[Index, Expr]) -> Term:
    """A value at places of axes, NaN outside of them."""
    inside = and_(*(still_open(at, index.axis) for index, at in places.items()))
    return term if inside is TRUE else value(pw([(term.number, inside)]), replace(term.sort, role="number"))


def _conditional(name: str, binders: Sequence[Index], body: Expr, guard: Expr) -> Term:
    if name == "count":
        return value(red("sum", binders, ONE, and_(guard, body)), INTEGER)
    if name == "all":
        return condition(not_(red("any", binders, not_(body), guard)))
    return condition(red("any", binders, body, guard))


def _numeric(name: str, binders: Sequence[Index], body: Term, guard: Expr, bounds: Sequence[Bound]) -> Term:
    x = body.number
    if name == "mean":
        return value(div(red("sum", binders, x, guard), red("sum", binders, ONE, guard)))
    sort = NUMBER
    if name in ("argmax", "argmin"):
        sort = _class_of(bounds[0])
    elif name in ("sum", "prod", "max", "min") and body.sort.integer:
        sort = _sort_of_sum(body.sort)
    elif name == "norm":
        sort = sort_of_range(FUNCTIONS["sqrt"].range)
    return value(red(name, binders, x, guard), sort)


def _class_of(bound: Bound) -> Sort:
    """An index that is computed along an axis."""
    return Sort("class", "class", of=bound.root, integer=True, places=True) if bound.root else INTEGER


def _normalised(name: str, x: Expr, guard: Expr, bounds: Sequence[Bound]) -> Term:
    """softmax and log_softmax, at the bound indices themselves."""
    out, outside, sort = sub(x, red("logsumexp", [b.index for b in bounds], x, guard)), neg(INF), Sort(kind="logprob")
    if name == "softmax":
        out, outside, sort = call("exp", out), ZERO, NUMBER
        if len(bounds) == 1 and bounds[0].root:
            sort = Sort(kind="simplex", interval=sort_of_range(FUNCTIONS["sigmoid"].range).interval, of=bounds[0].root)
    return value(out if guard is TRUE else pw([(out, guard)], outside), sort)


def _counted(name: str, body: Term, guard: Expr, here: Index, falling: bool) -> Term:
    """rank and cumsum at an index: what comes before it is counted, or summed with it."""
    other = fresh(here.axis)
    x = body.number
    theirs, allowed = (replace_indices(e, {here: ix(other)}) for e in (x, guard))
    if name == "cumsum":
        return value(red("sum", [other], theirs, and_(allowed, cmp("<=", ix(other), ix(here)))), _sort_of_sum(body.sort))
    out = add(ONE, red("sum", [other], ONE, and_(allowed, cmp(">" if falling else "<", theirs, x))))
    return value(out, INTEGER) if guard is TRUE else value(pw([(out, guard)]), INTEGER)


def _sorted(name: str, body: Term, guard: Expr, bound: Bound, falling: bool) -> Term:
    """sort and argsort at a place of the order: the body at the index that stands there, or that index."""
    here, other = bound.index, fresh(bound.index.axis)
    theirs, allowed = (replace_indices(e, {here: ix(other)}) for e in (body.number, guard))
    first = here.axis.lo if isinstance(here.axis, Range) and bound.axis else ZERO  # places count from 0, an axis from where it starts
    at = red("argsort", [other], neg(theirs) if falling else theirs, allowed, sub(ix(here), first))
    if name == "argsort":
        return value(at, _class_of(bound))
    whole = body.sort.kind != "simplex" or (body.sort.of == bound.root and guard is TRUE)
    sort = body.sort if body.sort.role in ("number", "class") and whole else INTEGER if body.sort.integer else NUMBER
    out = replace_indices(theirs, {other: at})
    return value(out if strict(theirs, other) else pw([(out, cmp(">=", at, ZERO))]), sort)


def _sort_of_sum(sort: Sort) -> Sort:
    """The sort of a sum of numbers: whole numbers stay whole."""
    if not sort.integer:
        return NUMBER
    return INTEGER if sort.places or sort.role == "condition" else Sort(integer=True)


def _weighted(binders: Sequence[Index], body: Expr, weight: Expr, guard: Expr, default: Expr | None) -> Expr:
    """The weighted mean: an entry of weight 0 is removed, and weights that sum to 0 leave nothing."""
    kept = and_(guard, cmp("!=", weight, ZERO))
    total = red("sum", binders, weight, kept)
    mean = div(red("sum", binders, mul(weight, body), kept), total)
    return mean if default is None else pw([(mean, cmp("!=", total, ZERO))], default)


def _variance(binders: Sequence[Index], body: Expr, guard: Expr, ddof: Expr) -> Expr:
    centred, count = _centred(binders, body, guard)
    return div(red("sum", binders, pow_(centred, num(2)), guard), sub(count, ddof))


def _deviation(binders: Sequence[Index], body: Expr, guard: Expr, ddof: Expr) -> Expr:
    """The root of the variance as a norm, which neither overflows nor has a pole where all are equal."""
    centred, count = _centred(binders, body, guard)
    return div(red("norm", binders, centred, guard), call("sqrt", sub(count, ddof)))


def _centred(binders: Sequence[Index], body: Expr, guard: Expr) -> tuple[Expr, Expr]:
    """What is summed minus its mean, and how many there are."""
    count = red("sum", binders, ONE, guard)
    return sub(body, div(red("sum", binders, body, guard), count)), count


def _defaulted(out: Expr, bounds: Sequence[Bound], guard: Expr, default: Expr) -> Expr:
    """A reduction, or the default where the guard leaves nothing."""
    if guard is TRUE:
        some = and_(*(cmp(">", size(b.index.axis), ZERO) for b in bounds))
    else:
        some = red("any", [b.index for b in bounds], TRUE, guard)
    return pw([(out, some)], default)


def _elementary(name: str, args: Sequence[Term], sort: Sort) -> Term:
    """A row of the table of functions at its arguments."""
    first = args[0].number
    if name in LOGARITHMS:
        return logarithm(name, first)
    if name == "pow":
        return value(pow_(first, args[1].number))
    if name == "stop":
        return value(stop(first), args[0].sort if args[0].sort.role == "number" else NUMBER)
    if all(a.sort.integer for a in args) and name in _KEEPS_WHOLE or name in _MAKES_WHOLE:
        places = all(a.sort.places or not a.sort.integer for a in args)
        sort = INTEGER if places else Sort(integer=True)
    out = first
    if name in ("max", "min"):
        for a in args[1:]:
            out = call(name, out, a.number)
        return value(out, sort)
    return value(call(name, *(a.number for a in args)), sort)


_KEEPS_WHOLE = ("abs", "max", "min", "clip", "relu", "mod", "sign")
_MAKES_WHOLE = ("floor", "ceil")
_NEVER = {"==": ("==", "!="), "!=": ("!=", "==")}


def _comparison(op: str, a: Term, b: Term) -> Expr:
    """``a op b``; a condition compared with 0 or 1 is itself or its contrary."""
    for x, y in ((a, b), (b, a)):
        if x.sort.role == "condition" and y.literal in (0, 1) and op in ("==", "!="):
            return x.expr if (y.literal == 1) == (op == "==") else not_(x.expr)
    return cmp(op, a.number, b.number)


def _declared(i: Input) -> Array:
    e = i.element
    slots = tuple(Slot(n, n, Index(axis, n)) for axis, n in i.kind.axes)
    if i.kind.role == "condition":
        return Array(condition(cmp("!=", e, ZERO)), slots)
    return Array(value(e, sort_of(i.kind, data=True)), slots)


def _parameter(p: Param) -> Array:
    array = _declared(Input(p.name, p.kind))
    return array if p.kind.role == "condition" else Array(value(array.term.expr, sort_of(p.kind, data=False)), array.slots)


def _argument(array: Array) -> Array:
    return array


def _default(p: Param) -> Expr:
    x = p.default
    assert x is not None
    if isinstance(x, float):
        return INF if x > 0 else neg(INF)
    return num(x)


def _index_sort(axis: Axis | None) -> Sort:
    return Sort("index", "integer", of=axis, integer=True, places=True)


def _is_own(index: Index, axis: str) -> bool:
    return index.tag == axis


def _ordered(free: frozenset[Index], axes: Mapping[str, Axis]) -> list[Index]:
    """The axes' own indices among free ones, in the order of declaration."""
    found = {i.tag: i for i in free if isinstance(i.tag, str)}
    return [found[a] for a in axes if a in found] if len(found) > 1 else list(found.values())


def _branch_hint(branch: syntax.Node, text: str, *, last: bool) -> str:
    if isinstance(branch, syntax.Compare):
        return f"the value stands first: value if {text}"
    return f"write '{text} otherwise'" if last else f"write '{text} if condition'"


def _natural(x: Term) -> bool:
    return x.literal is not None and x.literal >= 0


def _count(n: int, one: str, many: str = "") -> str:
    words = {0: "no", 1: "one", 2: "two", 3: "three"}
    return f"{words.get(n, n)} {one if n == 1 else many or one + 's'}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" and kind != "unit" else f"a {kind}"


def _grouped(text: str) -> str:
    return text if text.replace("_", "").isalnum() or (text.startswith("(") and text.endswith(")")) else f"({text})"


def _short(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."


def _example(name: str) -> str:
    row = find_row(name)
    if name in REDUCTIONS and REDUCTIONS[name].bracketless is None:
        return f"{name}[n](x)"
    if name in VECTORS:
        return f"{name}({', '.join(i.name for i in VECTORS[name].inputs)})"
    return f"{name}({', '.join(row.args)})" if row else f"{name}(..)"
