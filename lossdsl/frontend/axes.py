"""What declarations and heads say of axes: which are equal, whose length is declared, which are products, which are ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossdsl.errors import did_you_mean, listed
from lossdsl.frontend import syntax

if TYPE_CHECKING:
    from lossdsl.frontend.resolve import Blame

Ends = tuple[syntax.Node, syntax.Node]


@dataclass(frozen=True, slots=True)
class Declared:
    """Axes by name, each with the axis that it equals, and what is said of their lengths."""

    axes: dict[str, str]
    lengths: tuple[tuple[str, syntax.Node], ...]


def flat(axes: Iterable[syntax.Axis]) -> Iterator[syntax.Axis]:
    """Axes with the factors of products in their places."""
    for axis in axes:
        if axis.parts:
            yield from flat(axis.parts)
        else:
            yield axis


def kinds_of(declared: Sequence[syntax.Parameter]) -> list[syntax.Kind]:
    """The kinds of arrays that are declared, those of what functions take and give among them."""
    out: list[syntax.Kind] = []
    stack: list[syntax.Kind | syntax.FunctionKind | None] = [p.kind for p in reversed(declared)]
    while stack:
        k = stack.pop()
        if isinstance(k, syntax.FunctionKind):
            stack += [k.result, *reversed(k.args)]
        elif k is not None:
            out.append(k)
    return out


def declared_axes(blame: Blame, declared: Sequence[syntax.Parameter]) -> Declared:
    """What inputs and hyper-parameters say of axes."""
    kinds = kinds_of(declared)
    axes: dict[str, str] = {}
    aliases: list[syntax.Axis] = []
    lengths: list[tuple[str, syntax.Node]] = []
    written = list(flat(a for k in kinds for a in k.axes))
    further = {a.name for a in written if a.of is not None and a.high is None}
    for axis in written:
        if axis.of is not None and axis.high is None:
            aliases.append(axis)
            continue
        length = _length(blame, axis)
        if axis.name not in further:
            axes.setdefault(axis.name, axis.name)
        if length is not None:
            lengths.append((axis.name, length))
    for axis in aliases:
        _alias(blame, axis, axes)
    _check_products(blame, kinds, axes, {axes[name] for name, _ in lengths})
    return Declared(axes, tuple((axes[name], length) for name, length in lengths))


def _length(blame: Blame, axis: syntax.Axis) -> syntax.Node | None:
    """The declared length of an axis: ``q = 4``, or that of a range from 0."""
    if axis.high is None:
        return axis.size
    low = axis.of
    if not isinstance(low, syntax.Number) or float(low.text) != 0:
        assert low is not None
        hint = f"indices count from 0: declare [{axis.name} in 0..m], and add the offset where the index is used as a number"
        blame.fail("the axis of an array starts at 0", low.span, hint)
    return syntax.Binary("+", axis.high, syntax.Number("1", axis.high.span), axis.high.span)


def _alias(blame: Blame, axis: syntax.Axis, axes: dict[str, str]) -> None:
    if not isinstance(axis.of, syntax.Name):
        assert axis.of is not None
        blame.fail("an index runs over an axis or a range", axis.of.span, f"write {axis.name} in n, or {axis.name} in 0..3")
    of = axis.of.id
    if of not in axes:
        hint = did_you_mean(of, axes) or f"an index '{axis.name} in n' is over an axis n of an input"
        blame.fail(f"there is no axis '{of}'", axis.of.span, hint)
    if axes.get(axis.name, axes[of]) != axes[of]:
        blame.fail(f"'{axis.name}' is an axis and a further index over '{of}'", axis.span, "give the index another name")
    axes[axis.name] = axes[of]


def _check_products(blame: Blame, kinds: Sequence[syntax.Kind], axes: Mapping[str, str], lengths: Iterable[str]) -> None:
    """The length of a product tells one factor's; the others are declared, or those of another input."""
    known = {*lengths, *(axes[a.name] for k in kinds for a in k.axes if not a.parts)}
    left = [a for k in kinds for a in k.axes if a.parts]
    while left:
        told = [a for a in left if len(_unknown(a, axes, known)) < 2]
        if not told:
            names = listed(f"'{name}'" for name in dict.fromkeys(a.name for a in flat(left[0].parts) if axes[a.name] not in known))
            hint = "say all but one, (k, s = 4), or declare another input over the axis"
            blame.fail(f"the length of a product does not tell those of {names}", left[0].span, hint)
        known.update(root for a in told for root in _unknown(a, axes, known))
        left = [a for a in left if a not in told]


def _unknown(product: syntax.Axis, axes: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """The factors whose length is not known, each as often as it occurs."""
    return list(Counter(root for a in flat(product.parts) if (root := axes[a.name]) not in known).elements())


def ranged(heads: Sequence[syntax.Head], axes: Mapping[str, str]) -> Iterator[tuple[syntax.Head, Ends]]:
    """The indices of a head that run over a range: ``w in 0..m``, and new names that stand directly before it."""
    ends: Ends | None = None
    for head in reversed(heads):
        if head.axis is not None:
            ends = (head.axis, head.high) if head.high is not None else None
        elif head.name in axes:
            ends = None
        if ends is not None:
            yield head, ends
