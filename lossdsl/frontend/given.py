"""Functions that a definition is given: calls of functions that are not known, and functions passed on to losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from lossdsl.errors import Span, listed
from lossdsl.frontend import syntax
from lossdsl.frontend.bind import Scope
from lossdsl.frontend.fit import misfit
from lossdsl.frontend.resolve import FunctionParam, Signature, described, near
from lossdsl.frontend.steps import Steps
from lossdsl.frontend.values import Array, Slot, own, sort_of, value
from lossdsl.frontend.vectors import VECTORS, Vector
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.applied import Applied, Hidden, apply, lifted
from lossdsl.ir.expr import STATE, Expr, Index, fresh, ix, rewrite, substitute
from lossdsl.ir.program import Input
from lossdsl.kinds import FunctionKind, Kind
from lossdsl.reductions import REDUCTIONS

if TYPE_CHECKING:
    from lossdsl.frontend.lower import LocalName, Lowering

_numbers = count()


@dataclass(frozen=True, slots=True)
class Open:
    """A function that is not known: what a definition applies is an ``Applied`` node of this name.

    The axes of its kind are the definition's, or its own if it is ``loose``: it then runs along whatever its arguments do.
    """

    name: str
    kind: FunctionKind
    loose: bool = False


# -- calls ------------------------------------------------------------------------------------------------------------


def open_call(lowering: Lowering, target: Open, name: str, node: syntax.Call, bracket: syntax.Bracket | None, scope: Scope) -> Steps[Array]:
    """An unknown function at arguments: its axes bind to theirs, as those of a loss do."""
    kind = target.kind
    if node.keywords:
        lowering.fail(f"the function '{name}' has no named parameters", node.keywords[0].span, f"write {example(name, kind)}")
    declared = [Input(f"argument {k}", a) for k, a in enumerate(kind.arguments, 1)]
    if len(node.args) != len(declared):
        lowering.fail(f"'{name}' is declared as {shown(kind)}, and is given {len(node.args)}", node.span, f"write {example(name, kind)}")
    axes = {n: root for root, n in kind.axes}
    if bracket:
        args, bound, marks = yield lowering.bracketed_arguments(name, axes, declared, node.args, bracket, scope)
    else:
        args, bound, marks = yield lowering.plain_arguments(name, declared, node.args, node, scope)
    roots = lowering.bound_roots(name, axes, bound, node)
    for what, (_, term), arg in zip(declared, args, node.args, strict=True):
        lowering.check_fit(term, what, roots, arg, name)
    if not target.loose:
        check_axes(lowering, name, axes, bound, node)
    binders = {n: fresh(bound[n].axis if n in bound else root) for n, root in axes.items()}
    arguments: list[Expr] = []
    for what, (formals, term) in zip(declared, args, strict=True):
        mapping = {i: ix(binders[n]) for i, (_, n) in zip(formals, what.kind.axes, strict=True)}
        arguments += substitute((term.number,), mapping)
    if any(i.axis == STATE for a in arguments for i in a.free):
        hint = "functions are applied to all rows at once; a recursion may use what they give at its other inputs"
        lowering.blame.not_yet(f"'{name}' at what a recursion gives before", node.span, hint)
    slots = result_slots(lowering, kind, bound)
    expr = apply(operation(target.name, kind), list(binders.values()), arguments, [ix(s.index) for s in slots])
    lowering.check_work(node.span)
    of = roots.get(kind.result.of, kind.result.of) if kind.result.of else None
    term = value(expr, sort_of(replace(kind.result, of=of), data=True)).at(marks)
    return Array(term, slots) if slots else lowering.computed(term)


def operation(name: str, kind: FunctionKind) -> Applied:
    """A function of a kind, as the operation of a node whose binders are the kind's axes in order."""
    place = {n: k for k, (_, n) in enumerate(kind.axes)}
    arguments = tuple(tuple(place[n] for _, n in a.axes) for a in kind.arguments)
    gives = kind.result
    element = Kind("unit") if gives.name == "simplex" else Kind(gives.name, interval=gives.interval)
    return Applied(name, arguments, tuple(place[n] for _, n in gives.axes), element)


def result_slots(lowering: Lowering, kind: FunctionKind, bound: Mapping[str, Index]) -> tuple[Slot, ...]:
    """The places of what a function gives: along the axes of its arguments, or along axes of the definition."""
    out: list[Slot] = []
    for root, n in kind.result.axes:
        mine = bound.get(n, Index(root, n))
        named = isinstance(mine.tag, str) and all(s.index != mine for s in out)
        axis = str(mine.tag) if named else next((a for a, r in lowering.axes.items() if r == mine.axis), None)
        out.append(Slot(str(mine.tag) if named else n, axis, mine if named else fresh(mine.axis)))
    return tuple(out)


def check_axes(lowering: Lowering, name: str, axes: Mapping[str, str], bound: Mapping[str, Index], node: syntax.Call) -> None:
    """An argument runs along the axis that the kind names, where that is one of the inputs'."""
    declared = {axis for i in lowering.signature.inputs for axis, _ in i.kind.axes}
    for n, index in bound.items():
        if axes[n] in declared and index.axis != axes[n]:
            hint = f"declare the axes equal, [{index.axis} in {axes[n]}], or give '{name}' an axis of its own"
            lowering.fail(f"'{name}' runs along '{n}', and its argument along '{index.axis}'", node.span, hint)


def shown(kind: FunctionKind) -> str:
    """A function's kind as it is declared."""
    return f"({', '.join(described(a, doc=False) for a in kind.arguments)}) -> {described(kind.result, doc=False)}"


def example(name: str, kind: FunctionKind) -> str:
    letters = "xyz" if len(kind.arguments) <= 3 else [f"x{k}" for k in range(len(kind.arguments))]
    return f"{name}({', '.join(letters[: len(kind.arguments)])})"


# -- what stands for a function ---------------------------------------------------------------------------------------


def kind_of(target: Any) -> Steps[FunctionKind | None]:
    """The kind of a function that is known; None for a loss that takes functions itself."""
    if isinstance(target, Open):
        return target.kind
    if isinstance(target, Vector):
        axes = tuple(("d", "d") for s in target.array.slots or () if s.axis)
        return FunctionKind(tuple(i.kind for i in target.inputs), Kind(axes=axes))
    if isinstance(target, str):
        return FunctionKind((Kind(),) * FUNCTIONS[target].arity, Kind())
    signature: Signature = yield target.signature()
    if signature.functions or not signature.inputs:
        return None
    return FunctionKind(tuple(i.kind for i in signature.inputs), Kind(axes=tuple((o.axis, o.name) for o in signature.outputs)))


@dataclass(slots=True)
class Passed:
    """What a call gives to a loss: the arguments that are no functions, and its functions, with the local ones among them."""

    nodes: list[syntax.Node]
    functions: dict[str, Any]
    local: dict[str, LocalName]


def passed(lowering: Lowering, signature: Signature, name: str, node: syntax.Call) -> Steps[Passed]:
    """Tells the functions from the other arguments of a call."""
    out = Passed([], {}, {})
    at = {f.place: f for f in signature.functions if f.place is not None}
    given = [(f, node.args[k]) for k, f in sorted(at.items())]
    out.nodes = [x for k, x in enumerate(node.args) if k not in at]
    by_name = {f.name: f for f in signature.functions}
    given += [(by_name[k.name], k.value) for k in node.keywords if k.name in by_name]
    for f, what in given:
        if not isinstance(what, syntax.Name):
            lowering.fail(f"'{f.name}' of '{name}' stands for a function", what.span, f"write the name of a function: {_hint(f)}")
        kind = f.kind
        if kind is None and f.default is not None:
            kind = yield kind_of(lowering.global_function(f.default))
        if what.id in lowering.functions:
            if kind is None:
                lowering.fail(f"'{what.id}' is a local function, and '{f.name}' of '{name}' takes a loss", what.span, "name a loss")
            local = lowering.functions[what.id]
            check_arity(lowering, f, name, what, len(local.local.params or ()), kind)
            stand_in = f"~{what.id}~{next(_numbers)}"
            out.local[stand_in] = local
            out.functions[f.name] = Open(stand_in, kind, loose=f.kind is None)
            continue
        target = function_named(lowering, what)
        if isinstance(target, Open):
            target = adapted(lowering, target, f, kind, name, what)
        elif f.kind is not None:
            yield check_target(lowering, target, f, f.kind, what.span, what.id, name)
        out.functions[f.name] = target
    return out


def _hint(f: FunctionParam) -> str:
    return f"{f.name} = euclidean" if f.place is None else "one that is given to this loss too, a local one, or a loss"


def function_named(lowering: Lowering, what: syntax.Name) -> Any:
    """The function that a name means where one is passed on."""
    target = lowering.targets.get(what.id) or lowering.global_function(what.id)
    if target is not None:
        return target
    if what.id in lowering.names:
        lowering.fail(f"'{what.id}' is no function", what.span, f"declare it as one: {what.id}: (real) -> real")
    if what.id in REDUCTIONS:
        lowering.fail(f"'{what.id}' is a reduction, which needs a bracket", what.span, f"make it a local function: D(u) = {what.id}[n](u)")
    known = [*lowering.targets, *lowering.functions, *VECTORS, *FUNCTIONS]
    lowering.fail(f"there is no function '{what.id}'", what.span, near(what.id, known, "name a function or a loss"))


def check_target(
    lowering: Lowering, target: Any, f: FunctionParam, kind: FunctionKind, span: Span, shown_as: str, name: str = ""
) -> Steps[None]:
    """Refuse a function that takes another number of arguments, or arrays where numbers are due."""
    own = yield kind_of(target)
    if own is None or isinstance(target, Open):
        return
    variadic = isinstance(target, str) and FUNCTIONS[target].variadic and len(kind.arguments) >= 2
    mine, theirs = ([len(a.axes) for a in k.arguments] for k in (own, kind))
    if mine != theirs and not (variadic and not any(theirs)):
        of = f" of '{name}'" if name else ""
        lowering.fail(f"'{f.name}'{of} is {shown(kind)}, and '{shown_as}' is {shown(own)}", span, "give a function of as many arguments")


def check_arity(lowering: Lowering, f: FunctionParam, name: str, what: syntax.Name, takes: int, kind: FunctionKind) -> None:
    if takes != len(kind.arguments):
        n = len(kind.arguments)
        message = f"'{f.name}' of '{name}' takes {n} argument{'s' * (n != 1)}, and '{what.id}' takes {takes}"
        lowering.fail(message, what.span, f"it is {shown(kind)}")


def adapted(lowering: Lowering, target: Open, f: FunctionParam, kind: FunctionKind | None, name: str, what: syntax.Name) -> Open:
    """A function of the caller's as the loss knows it: the caller's name, the loss' axes."""
    if kind is None:
        return replace(target, loose=True)
    check_arity(lowering, f, name, what, len(target.kind.arguments), kind)
    pairs = [*zip(target.kind.arguments, kind.arguments, strict=True), (target.kind.result, kind.result)]
    for mine, theirs in pairs:
        given, due = (mine, theirs) if theirs is kind.result else (theirs, mine)
        if len(mine.axes) != len(theirs.axes) or misfit(sort_of(given, data=True), due, given.of):
            message = f"'{f.name}' of '{name}' is {shown(kind)}, and '{what.id}' is {shown(target.kind)}"
            lowering.fail(message, what.span, "declare both of one kind")
    return Open(target.name, kind, loose=f.kind is None)


def axes_of_functions(lowering: Lowering, signature: Signature, given: Passed) -> dict[str, Index]:
    """Which of the caller's axes are those that only a function's result has, by the loss' name of them."""
    out: dict[str, Index] = {}
    for f in signature.functions:
        target = given.functions.get(f.name)
        mine = lowering.targets.get(target.name) if isinstance(target, Open) else None
        if isinstance(mine, Open) and f.kind is not None:
            ours = [p for k in (*mine.kind.arguments, mine.kind.result) for p in k.axes]
            theirs = [p for k in (*f.kind.arguments, f.kind.result) for p in k.axes]
            for (_, n), (root, own_name) in zip(theirs, ours, strict=True):
                out.setdefault(n, Index(root, own_name))
    return out


# -- local functions --------------------------------------------------------------------------------------------------


def local_functions(lowering: Lowering, array: Array, local: Mapping[str, LocalName], node: syntax.Call) -> Steps[Array]:
    """The value of a loss with local functions of the caller in place of what stood for them."""
    if not local:
        return array
    parts = array.term.parts()
    roots, hidden = lifted(parts, lambda op: op.function in local)
    values: dict[str, tuple[Hidden, Expr]] = {}

    def visit(e: Expr) -> Expr:
        if e.op != "ref" or e.data not in values:
            return e
        h, out = values[e.data]
        (at,) = substitute((out,), dict(zip((*h.slots, *h.result), e.args, strict=True)))
        return at

    for h in hidden:
        h = replace(h, arguments=rewrite(h.arguments, visit))
        values[h.name] = yield applied_local(lowering, local[h.op.function], h, node)
    return replace(array, term=array.term.map(dict(zip(parts, rewrite(roots, visit), strict=True))))


def applied_local(lowering: Lowering, name: LocalName, h: Hidden, node: syntax.Call) -> Steps[tuple[Hidden, Expr]]:
    """A local function at the arguments of an application, whose own indices become those of the caller's axes."""
    names: dict[Index, Expr] = {}
    for positions in h.op.arguments:
        taken: list[str] = []
        for b in h.axes(positions):
            axis = next((a for a, root in lowering.axes.items() if root == b.axis and a not in taken), None)
            if axis is None:
                lowering.fail(
                    f"the local function '{name.local.name}' is to run along an axis that is not known here", node.span, "make it a loss"
                )
            taken.append(axis)
            names[b] = own(lowering.axes[axis], axis)
    slots = tuple(fresh(i.axis) for i in h.slots)
    mapping = names | {i: ix(s) for i, s in zip(h.slots, slots, strict=True)}
    arrays = []
    for x, positions in zip(substitute(h.arguments, mapping), h.op.arguments, strict=True):
        indices = [names[b].data for b in h.axes(positions)]
        arrays.append(Array(value(x), tuple(Slot(str(i.tag), str(i.tag), i) for i in indices)))
    name.used = name.read = True
    out: Array = yield lowering.apply(name, tuple(arrays), 0, node)
    indices = [s.index for s in out.slots or ()]
    indices += [i for i in lowering.own_axes(out.term.expr.free) if i not in indices]
    if len(indices) != len(h.result):
        gives_wrong(lowering, name, [str(i.tag) for i in indices], h, node)
    back = {i: ix(r) for i, r in zip(indices, h.result, strict=True)} | {s: ix(i) for s, i in zip(slots, h.slots, strict=True)}
    return h, substitute((out.term.number,), back)[0]


def gives_wrong(lowering: Lowering, name: LocalName, indices: Sequence[str], h: Hidden, node: syntax.Call) -> NoReturn:
    gives = f"an array over {listed(indices)}" if indices else "a number"
    due = f"an array over {listed([str(i.axis) for i in h.result])}" if h.result else "a number"
    hint = f"reduce it: sum[{indices[0]}](..)" if indices and not h.result else "let it give what is due"
    lowering.fail(f"the local function '{name.local.name}' gives {gives} where {due} is due", node.span, hint)
