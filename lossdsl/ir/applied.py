"""Functions that a loss is given, and gradients inside a loss: two operations of the binder node ``red`` beside the reductions.

=========  =====================  =========================  ===========================================================
operation  body                   rest                       value
=========  =====================  =========================  ===========================================================
Applied    a list of arguments    places of the result..     an unknown function at arguments, each over some of the
                                                             binders
Slope      the variable's value   g, places of the result..  the gradient of ``g`` by the array that it calls
                                                             ``variable``, whose value is an array over the binders
=========  =====================  =========================  ===========================================================

A result that is a number has no places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from lossdsl.ir.expr import (
    TRUE,
    Expr,
    Index,
    canonical,
    free_in_order,
    fresh,
    ix,
    listing,
    mul,
    open_red,
    outside,
    postorder,
    red,
    ref,
    rewrite,
    substitute,
)  # fmt: skip
from lossdsl.ir.program import Input
from lossdsl.kinds import Kind

_fresh = count()


@dataclass(frozen=True, slots=True)
class Applied:
    """A function of the caller's. ``arguments`` and ``result`` say which of the binders are whose axes, by position.

    ``by`` differentiates: the function's derivative by argument ``by[0]`` is a function of the same arguments and of one more,
    an array with the axes of the result, and gives the sum over these of array times derivative, with the axes of the argument;
    it may be differentiated again. ``kind`` is what the function itself gives, its axes aside.
    """

    function: str
    arguments: tuple[tuple[int, ...], ...]
    result: tuple[int, ...]
    kind: Kind
    by: tuple[int, ...] = ()

    def derivative(self, argument: int) -> Applied:
        """The derivative by an argument, as a function."""
        return replace(self, arguments=(*self.arguments, self.result), result=self.arguments[argument], by=(*self.by, argument))

    @property
    def primitive(self) -> Applied:
        """The function of which this one is the derivative."""
        return replace(self, arguments=self.arguments[:-1], result=self.arguments[-1], by=self.by[:-1])


@dataclass(frozen=True, slots=True)
class Slope:
    """A gradient by an array that is known as ``variable`` inside of what is differentiated."""

    variable: str


def is_applied(e: Expr) -> bool:
    return e.op == "red" and isinstance(e.data[0], Applied)


def is_slope(e: Expr) -> bool:
    return e.op == "red" and isinstance(e.data[0], Slope)


def has_slopes(roots: Iterable[Expr]) -> bool:
    """Whether there is a gradient that is not worked out."""
    return any(is_slope(e) for e in postorder(roots))


def applications(roots: Iterable[Expr]) -> set[str]:
    """Names of the functions that are applied."""
    return {e.data[0].function for e in postorder(roots) if is_applied(e)}


def apply(op: Applied, binders: Sequence[Index], arguments: Sequence[Expr], places: Sequence[Expr] = ()) -> Expr:
    """A function at arguments over the binders, at places of its result, which see no binder."""
    return red(op, binders, listing(arguments), TRUE, *places)


@dataclass(frozen=True, slots=True)
class Gradient:
    """A ``Slope`` node opened: ``g`` in terms of ``variable``, its value over fresh binders, and the places of the result."""

    variable: str
    binders: tuple[Index, ...]
    g: Expr
    value: Expr
    places: tuple[Expr, ...]


def variable() -> str:
    """A name for what a gradient is taken by, until the gradient is built."""
    return f"~v{next(_fresh)}"


def slope(name: str, binders: Sequence[Index], g: Expr, value: Expr, places: Sequence[Expr]) -> Expr:
    """The gradient of g by the array ``name``, at the value that it has over the binders; the name becomes one that g alone decides.

    An array of which each row is meant, as where the value depends on further indices, is taken as a whole: at these, the slope is
    that of the row.
    """
    outer = [i for i in free_in_order(value) if i not in binders and isinstance(i.axis, str)]
    inner = [int(e.data[0].variable[2:]) for e in postorder([g]) if is_slope(e)]
    new = f"~g{1 + max(inner, default=0)}"
    rows = [ix(i) for i in outer]
    g = replaced(g, name, lambda at: ref(new, [*rows, *at]))
    whole = (*outer, *binders)
    own = tuple(fresh(b.axis) for b in whole)
    (value,) = substitute((value,), {b: ix(o) for b, o in zip(whole, own, strict=True)})
    return red(Slope(new), own, value, TRUE, g, *rows, *places)


def whole(e: Expr) -> Expr:
    """A gradient whose variable's value has come to depend on further indices, by the array as a whole; see ``slope``."""
    if e.args[0].free <= frozenset(e.data[1]):
        return e
    s = open_slope(e)
    return slope(s.variable, s.binders, s.g, s.value, s.places)


def open_slope(e: Expr) -> Gradient:
    """The parts of a ``Slope`` node; the variable has a name that nothing else has."""
    binders, value, _ = open_red(e)
    g, *places = outside(e)
    name = variable()
    return Gradient(name, binders, renamed(g, e.data[0].variable, name), value, tuple(places))


def renamed(e: Expr, old: str, new: str) -> Expr:
    """An expression with an input under another name."""
    return replaced(e, old, lambda places: ref(new, places))


def replaced(e: Expr, name: str, by: Callable[[tuple[Expr, ...]], Expr]) -> Expr:
    """An expression with something else for every reading of an input."""
    (out,) = rewrite((e,), lambda x: by(x.args) if x.op == "ref" and x.data == name else x)
    return out


def as_slopes(roots: Sequence[Expr]) -> tuple[Expr, ...]:
    """The expressions with derivatives of functions as the gradients that they are."""

    def visit(e: Expr) -> Expr:
        while is_applied(e) and e.data[0].by:
            e = _as_slope(e)
        return e

    return rewrite(roots, visit)


def _as_slope(e: Expr) -> Expr:
    """``D(a, c)`` at places, where D differentiates f, is the gradient of ``sum[r](c[r]*f(u)[r])`` by u, at ``u = a``."""
    op = e.data[0]
    binders, body, _ = open_red(e)
    *arguments, weight = body.args
    axes = tuple(binders[k] for k in op.result)
    name, j = variable(), op.by[-1]
    value, arguments[j] = arguments[j], ref(name, [ix(b) for b in axes])
    inner = op.primitive
    places = [fresh(binders[k].axis) for k in inner.result]
    (weight,) = substitute((weight,), {binders[k]: ix(p) for k, p in zip(inner.result, places, strict=True)})
    g = apply(inner, binders, arguments, [ix(p) for p in places])
    g = mul(weight, as_slopes((g,))[0])
    return slope(name, axes, red("sum", places, g) if places else g, value, outside(e))


# -- applications as arrays -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hidden:
    """An application as an array of its own: over the indices that its arguments depend on, then the axes of the result.

    Equal applications, up to the names of indices, are one array. The arguments are expressions over the slots and over those of
    the binders that are theirs; applications before this one stand in them as references.
    """

    name: str
    op: Applied
    slots: tuple[Index, ...]
    binders: tuple[Index, ...]
    arguments: tuple[Expr, ...]

    def axes(self, positions: Sequence[int]) -> tuple[Index, ...]:
        return tuple(self.binders[k] for k in positions)

    @property
    def result(self) -> tuple[Index, ...]:
        return self.axes(self.op.result)

    def at(self, places: Sequence[Expr]) -> Expr:
        """The application itself, with the slots and the result at places."""
        n = len(self.slots)
        arguments = substitute(self.arguments, dict(zip(self.slots, places[:n], strict=True)))
        return apply(self.op, self.binders, arguments, places[n:])


def lifted(
    roots: Sequence[Expr], wanted: Callable[[Applied], bool] = lambda op: True, known: Sequence[Hidden] = ()
) -> tuple[tuple[Expr, ...], list[Hidden]]:
    """The expressions with references to arrays in place of applications, and these arrays, each after those that it uses.

    ``known`` are arrays that are there already; they come first.
    """
    order = list(known)
    table = {red(h.op, h.binders, listing(h.arguments)): h for h in known}

    def visit(e: Expr) -> Expr:
        if not is_applied(e) or not wanted(e.data[0]):
            return e
        op, binders = e.data
        core = red(op, binders, e.args[0])
        key, slots = canonical(core)
        if key not in table:
            own, body, _ = open_red(key)
            mark = "'" * len(op.by)
            table[key] = Hidden(f"~{op.function}{mark}~{len(order)}", op, slots, own, body.args)
            order.append(table[key])
        return ref(table[key].name, [*(ix(i) for i in free_in_order(core)), *outside(e)])

    return rewrite(roots, visit), order


def hidden_input(h: Hidden) -> Input:
    """The array of an application as an input."""
    axes: list[tuple[Any, str]] = [(i.axis, str(i.tag)) for i in h.slots]  # a range while nothing is printed
    axes += [(i.axis, f"~r{k}") for k, i in enumerate(h.result)]
    return Input(h.name, replace(Kind() if h.op.by else h.op.kind, axes=tuple(axes)))


def put_back(roots: Sequence[Expr], hidden: Sequence[Hidden]) -> tuple[Expr, ...]:
    """The expressions with applications again where ``lifted`` has put references."""
    whole: dict[str, Hidden] = {}

    def visit(e: Expr) -> Expr:
        return whole[e.data].at(e.args) if e.op == "ref" and e.data in whole else e

    for h in hidden:
        whole[h.name] = replace(h, arguments=rewrite(h.arguments, visit))
    return rewrite(roots, visit)
