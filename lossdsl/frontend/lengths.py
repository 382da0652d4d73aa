"""Lengths of axes and ends of ranges, lowered: whole numbers that are known before any data is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from lossdsl.errors import listed
from lossdsl.frontend import syntax
from lossdsl.frontend.axes import Ends
from lossdsl.frontend.bounds import extreme, neat
from lossdsl.frontend.resolve import first_use
from lossdsl.frontend.steps import Steps
from lossdsl.frontend.values import Term, own
from lossdsl.ir.expr import TRUE, Expr, Index, Range, and_, cmp, ix, postorder, references, replace_leaves, size
from lossdsl.ir.lengths import known

if TYPE_CHECKING:
    from lossdsl.frontend.bind import Scope
    from lossdsl.frontend.lower import Lowering

ANY = ix(Index("~any", "~any"))  # stands for the index of a range in what is said of it


def declare(lowering: Lowering) -> Steps[None]:
    """Give a definition the lengths that it and the losses it shares names with declare, and its ranges as axes."""
    places: dict[str, syntax.Node] = {}
    for axis, node in lowering.signature.lengths:
        length = yield _length(lowering, axis, node)
        _agree(lowering, axis, length, node)
        places.setdefault(axis, node)
    yield _shared(lowering)
    _settle(lowering, places)
    pending: dict[str, list[Ends]] = {}
    for head, ends in lowering.signature.ranges:
        pending.setdefault(head.name, []).append(ends)
    for name in list(pending):
        yield _range(lowering, name, pending, ())


# -- lengths ----------------------------------------------------------------------------------------------------------


def _length(lowering: Lowering, axis: str, node: syntax.Node) -> Steps[Expr]:
    what = f"the length of the axis '{axis}'"
    e: Expr = yield _whole(lowering, node, lowering.top, what, f"a length is a whole number: [{axis} = 4], or [{axis} = S] with S: integer")
    if e.free or not known(e, lowering.param_names):
        _not_known(lowering, e, node, what)
    if e.op == "num" and e.data < 0:
        lowering.fail(f"{what} is {e.data}", node.span, "a length is a whole number, 0 or above")
    return e


def _agree(lowering: Lowering, axis: str, length: Expr, node: syntax.Node) -> None:
    """An axis that is declared in several places has one length."""
    before = lowering.lengths.setdefault(axis, length)
    if before is not length:
        hint = "the inputs share the axis; give one of the axes another name"
        lowering.fail(f"the axis '{axis}' has the length {before} and the length {length}", node.span, hint)


def _shared(lowering: Lowering) -> Steps[None]:
    """The lengths of axes that come with the inputs of losses that are mentioned by name."""
    for name, loss in lowering.signature.shared.items():
        compiled = yield loss.lowered({})
        for axis, length in compiled.program.lengths:
            if lowering.axes.get(axis) != axis:
                continue
            if lowering.signature.declares and axis not in lowering.lengths:
                lowering.fail(
                    f"the axis '{axis}' has the length {length} in '{name}' and any length here",
                    first_use(lowering.definition, name),
                    f"declare it here as it is there: [{axis} = {length}]",
                )
            if lowering.lengths.setdefault(axis, length) is not length:
                lowering.fail(
                    f"the axis '{axis}' has the length {length} in '{name}' and {lowering.lengths[axis]} here",
                    first_use(lowering.definition, name),
                    f"call it with arguments: {name}(..)",
                )


def _settle(lowering: Lowering, places: dict[str, syntax.Node]) -> None:
    """Lengths that hold lengths of other axes, with those that are numbers put in; none may come round to itself."""
    lengths = lowering.lengths
    for _ in lengths:
        numbers = {size(axis): n for axis, n in lengths.items() if n.op == "num"}
        lengths.update(zip(lengths, replace_leaves(list(lengths.values()), numbers), strict=True))
    for axis in lengths:
        seen, stack = set[str](), [axis]
        while stack:
            for used in _sizes(lengths.get(stack.pop())):
                if used == axis:
                    span = places[axis].span if axis in places else lowering.definition.span
                    lowering.fail(f"the length of the axis '{axis}' is that of itself", span, "say one of the lengths with a number")
                if used not in seen:
                    seen.add(used)
                    stack.append(used)


def _sizes(e: Expr | None) -> list[str]:
    """The axes whose lengths an expression holds."""
    return [str(x.data) for x in postorder([e]) if x.op == "size"] if e is not None else []


# -- ranges -----------------------------------------------------------------------------------------------------------


def _range(lowering: Lowering, name: str, pending: dict[str, list[Ends]], chain: Sequence[str]) -> Steps[None]:
    """Make the index of a head that runs over a range an axis, after those whose size its ends hold."""
    found = pending.get(name)
    if found is None or name in lowering.axes:
        return
    if name in chain:
        others = [f"'{other}'" for other in chain[chain.index(name) + 1 :]]
        by = f"by way of {listed(others)}" if others else "by itself"
        lowering.fail(f"the range of '{name}' is given {by}", found[0][0].span, "a range ends at sizes of other axes")
    for low, high in found:
        _check_still(lowering, name, low, high)
        for other in (*_measured(low), *_measured(high)):
            yield _range(lowering, other, pending, (*chain, name))
        axis = yield ends(lowering, low, high, lowering.top)
        if axis[1] is not TRUE:
            hint = "make it of numbers, integer hyper-parameters and sizes"
            lowering.fail(f"the range of '{name}', an index of a head, depends on an index", low.span, hint)
        before = lowering.axes.setdefault(name, axis[0])
        if before != axis[0]:
            lowering.fail(f"'{name}' runs over {before} and over {axis[0]}", low.span, "give one of them another name")
        lowering.top.own[name] = lowering.top.written[name] = own(axis[0], name)


def _check_still(lowering: Lowering, name: str, low: syntax.Node, high: syntax.Node) -> None:
    """Refuse a range of a head whose ends depend on the other indices of the head or on a function's parameters."""
    local = next((x for x in lowering.definition.locals for h in x.heads or () if h.high is high), None)
    moving = {h.name: "index" for h in (local.heads or () if local else ())} | {p.id: "parameter" for p in (local and local.params) or ()}
    stack = [low, high]
    while stack:
        node = stack.pop()
        if isinstance(node, syntax.Name) and node.id in moving:
            hint = f"run to a fixed end, and say the rest in the body: piecewise(.. if {name} <= {node.id}, 0 otherwise)"
            lowering.fail(f"the range of '{name}', an index of a head, depends on the {moving[node.id]} '{node.id}'", node.span, hint)
        stack += (
            []
            if isinstance(node, syntax.Call) and isinstance(node.function, syntax.Name) and node.function.id == "size"
            else syntax.children(node)
        )


def _measured(node: syntax.Node) -> Iterator[str]:
    """The names that ``size(..)`` is asked about."""
    stack = [node]
    while stack:
        x = stack.pop()
        if isinstance(x, syntax.Call) and isinstance(x.function, syntax.Name) and x.function.id == "size":
            yield from (a.id for a in x.args if isinstance(a, syntax.Name))
        stack += syntax.children(x)


def ends(lowering: Lowering, low: syntax.Node, high: syntax.Node, scope: Scope) -> Steps[tuple[Range, Expr]]:
    """An integer range, and the condition that its index keeps to ends that depend on other indices.

    Such a range runs over all that the other indices allow: ``j in 0..i`` with i over n is ``j in 0..size(n) - 1`` where ``j <= i``.
    The condition is over ``ANY``, which stands for the index of the range.
    """
    lo, low_moves = yield _end(lowering, low, scope, up=False)
    hi, high_moves = yield _end(lowering, high, scope, up=True)
    return Range(lo, hi), and_(*(cmp("<=", e, ANY) for e in low_moves), *(cmp("<=", ANY, e) for e in high_moves))


def _end(lowering: Lowering, node: syntax.Node, scope: Scope, *, up: bool) -> Steps[tuple[Expr, list[Expr]]]:
    """An end of a range; one that depends on indices is the furthest that they allow, and the condition holds what it is."""
    what = "the end of a range"
    if isinstance(node, syntax.Name) and node.id in lowering.axes and node.id not in scope.names and not scope.binds(node.id):
        lowering.fail(f"'{node.id}' is an axis, no number", node.span, f"write i in {node.id}, or b in 0..size({node.id}) - 1")
    e: Expr = yield _whole(lowering, node, scope, what, "ends are whole numbers, integer hyper-parameters and sizes: b in 0..bins")
    if not e.free and known(e, lowering.param_names):
        return neat(e), []
    furthest = extreme(e, lowering.world, up=up)
    if furthest is None:
        _not_known(lowering, e, node, what)
    return lowering.folded(furthest), [e]


def _whole(lowering: Lowering, node: syntax.Node, scope: Scope, what: str, hint: str) -> Steps[Expr]:
    """A whole number, no data but classes."""
    term: Term = yield lowering.number(node, scope)
    if not term.sort.integer:
        kind = "a fraction" if term.literal is not None else "a real number"
        lowering.fail(f"{what} is {kind}", node.span, hint)
    return lowering.folded(term.number)


def _not_known(lowering: Lowering, e: Expr, node: syntax.Node, what: str) -> NoReturn:
    data = sorted(references([e]) - lowering.param_names)
    if data:
        hint = "hyper-parameters stand after ';'" if "length" in what else "run to a fixed end, with a guard: sum[b in 0..m | b < y](..)"
        lowering.fail(f"{what} depends on data, '{data[0]}'", node.span, hint)
    hint = "make it of numbers, integer hyper-parameters and sizes"
    if e.free:
        lowering.fail(f"{what} depends on an index", node.span, hint)
    lowering.fail(f"{what} is no sum, product or extreme of whole numbers", node.span, hint)
