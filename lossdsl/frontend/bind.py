"""Scopes: which index stands for each axis at a place, which names are in sight, and what brackets bind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossdsl.errors import listed
from lossdsl.frontend import syntax
from lossdsl.frontend.lengths import ANY, ends
from lossdsl.frontend.resolve import near
from lossdsl.frontend.steps import Steps
from lossdsl.frontend.values import Array, IndexName
from lossdsl.ir.expr import TRUE, Axis, Expr, Index, Range, fresh, ix, replace_indices

if TYPE_CHECKING:
    from lossdsl.frontend.lower import Lowering


class Scope:
    """A place in an equation.

    ``own`` is the index that a bare name has along each axis, ``written`` what the axis' name denotes when it is written;
    they differ only in arguments, where a written index is out of the function's reach. ``bound`` replaces the axes' free
    indices by those that brackets have put in their place; ``level`` counts the brackets around.
    """

    __slots__ = ("bound", "level", "names", "own", "written")

    def __init__(
        self, names: dict[str, Array | IndexName], own: dict[str, Expr], written: dict[str, Expr], bound: dict[Index, Expr], level: int = 0
    ) -> None:
        self.names, self.own, self.written, self.bound, self.level = names, own, written, bound, level

    def child(self, deeper: int = 0) -> Scope:
        return Scope(dict(self.names), dict(self.own), dict(self.written), dict(self.bound), self.level + deeper)

    def bind_axis(self, name: str, axis: Axis, index: Expr) -> None:
        self.own[name] = self.written[name] = index
        self.bound[Index(axis, name)] = index

    def binds(self, name: str) -> bool:
        return bool(self.own[name].data.tag != name)

    def marked(self) -> tuple[Scope, dict[Index, Expr]]:
        """The scope of an argument: written indices of unbound axes are marked, so that nothing captures them."""
        marks: dict[Index, Expr] = {}
        written = dict(self.written)
        for name, index in self.written.items():
            if index.data.tag == name:
                mark = fresh(index.data.axis)
                marks[mark], written[name] = index, ix(mark)
        return Scope(self.names, self.own, written, self.bound, self.level), marks

    def without(self, indices: Mapping[Index, Any]) -> Scope:
        """The scope that leaves some indices free."""
        if self.bound.keys().isdisjoint(indices):
            return self
        return Scope(self.names, self.own, self.written, {i: e for i, e in self.bound.items() if i not in indices}, self.level)


@dataclass(frozen=True, slots=True)
class Bound:
    """One binder of a bracket.

    ``axis`` is the name of its axis, None for a range that has none, ``root`` the axis it equals; ``guard`` keeps the index of
    a range to ends that depend on other indices.
    """

    name: str
    axis: str | None
    root: Axis | None
    index: Index
    guard: Expr = TRUE


def bracket_scope(lowering: Lowering, bracket: syntax.Bracket, scope: Scope) -> Steps[tuple[Scope, list[Bound]]]:
    """The inside of a bracket: axes are bound anew, further indices are over the axis or range that follows them."""
    inner, bounds = scope.child(deeper=1), list[Bound]()
    waiting: list[syntax.Name] = []
    for item in bracket.items:
        match item:
            case syntax.Name(id=name) if name in lowering.axes:
                if waiting:
                    _no_axis(lowering, waiting[0])
                bounds.append(bound_axis(lowering, item, inner, bounds))
            case syntax.Name():
                waiting.append(item)
            case syntax.Binder():
                yield _binder(lowering, item, waiting, scope, inner, bounds)
                waiting = []
            case _:
                _no_binder(lowering, bracket, item)
    if waiting:
        _no_axis(lowering, waiting[0])
    return inner, bounds


def bound_axis(lowering: Lowering, item: syntax.Name, inner: Scope, bounds: list[Bound]) -> Bound:
    """An axis bound anew by its name."""
    name = item.id
    if any(b.name == name for b in bounds):
        lowering.fail(f"the axis '{name}' stands twice in one bracket", item.span, f"a second index over it is new: [i, j in {name}]")
    root = lowering.axes[name]
    index = lowering.binder(root, inner.level, len(bounds))
    inner.bind_axis(name, root, ix(index))
    return Bound(name, name, root, index)


def _binder(
    lowering: Lowering, item: syntax.Binder, waiting: list[syntax.Name], scope: Scope, inner: Scope, bounds: list[Bound]
) -> Steps[None]:
    domain: Axis
    keeps = TRUE
    if item.high is None:
        if not isinstance(item.axis, syntax.Name):
            lowering.fail("an index runs over an axis or a range", item.axis.span, "write i in n, or b in 0..3")
        if item.axis.id not in lowering.axes:
            hint = near(
                item.axis.id, lowering.axes, f"axes are {listed(lowering.axes)}" if lowering.axes else "inputs declare axes: x: real[n]"
            )
            lowering.fail(f"there is no axis '{item.axis.id}'", item.axis.span, hint)
        domain = lowering.axes[item.axis.id]
    else:
        domain, keeps = yield ends(lowering, item.axis, item.high, scope)
    for name in (*waiting, item.name):
        if isinstance(domain, Range) and keeps is TRUE and lowering.spans(name.id, domain):  # an axis bound anew
            bounds.append(bound_axis(lowering, name, inner, bounds))
            continue
        lowering.check_new(name.id, name.span, inner)
        index = lowering.binder(domain, inner.level, len(bounds))
        axis = item.axis.id if item.high is None and isinstance(item.axis, syntax.Name) else None
        inner.names[name.id] = made = IndexName(name.id, ix(index), axis, name.span, ranges=axis is None)
        lowering.indices.append((made, "a bracket"))
        bounds.append(Bound(name.id, axis, domain if axis else None, index, replace_indices(keeps, {ANY.data: ix(index)})))


def _no_axis(lowering: Lowering, name: syntax.Name) -> None:
    axes = lowering.axes
    if name.id in lowering.names:
        hint = f"a bracket names axes: {listed(axes)}" if axes else "inputs declare axes: x: real[n]"
        lowering.fail(f"'{name.id}' is no axis", name.span, hint)
    otherwise = (
        f"axes are {listed(axes)}; a further index is written {name.id} in {next(iter(axes))}"
        if axes
        else "inputs declare axes: x: real[n]"
    )
    lowering.fail(f"there is no axis '{name.id}'", name.span, near(name.id, axes, otherwise))


def _no_binder(lowering: Lowering, bracket: syntax.Bracket, item: syntax.Node) -> None:
    if isinstance(item, syntax.Keyword):
        lowering.fail(
            "an option stands in a bracket",
            item.span,
            f"options follow the argument: {lowering.text(bracket.base)}[n](x, {item.name} = ..)",
        )
    hint = "write axes, indices `i in n`, and a guard after '|': sum[i in n | condition](x[i])"
    lowering.fail("a bracket of a reduction names axes and indices", item.span, hint)
