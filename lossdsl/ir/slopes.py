"""Gradients inside an equation, made ready for printing: each is taken by an input or by a local that has a name.

A gradient prints as ``grad[u](g)``. It becomes the call ``grad`` of the name (a reference without places), of ``g`` in terms of that
name, and of the places of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import count

from lossdsl.ir.applied import Slope, as_slopes, is_slope, renamed, replaced, variable
from lossdsl.ir.expr import Expr, Index, call, free_in_order, ix, open_red, outside, postorder, red, ref, references, rewrite, substitute


@dataclass(frozen=True, slots=True)
class Variable:
    """A local that gradients are taken by: its name, its indices, and its value over them."""

    name: str
    indices: tuple[Index, ...]
    value: Expr


def named(roots: Sequence[Expr], taken: Set[str]) -> tuple[tuple[Expr, ...], list[Variable]]:
    """The expressions with gradients by names, and the locals that are needed for them, with names that are not taken."""
    exprs = list(roots)
    if all(isinstance(e.data[0], str) for e in postorder(exprs) if e.op == "red"):
        return tuple(exprs), []
    exprs = list(rewrite(as_slopes(exprs), _unique))
    names = (f"u{n}" for n in count(1) if f"u{n}" not in taken)
    made: list[Variable] = []
    while outer := _outermost([*exprs, *(v.value for v in made)]):
        known = len(made)

        def visit(e: Expr, outer: Set[str] = outer, known: int = known) -> Expr:
            return _named(e, names, made, known) if is_slope(e) and e.data[0].variable in outer else e

        whole = rewrite([*exprs, *(v.value for v in made)], visit)
        exprs, values = list(whole[: len(exprs)]), whole[len(exprs) :]
        made[:known] = [replace(v, value=x) for v, x in zip(made, values, strict=False)]
    return tuple(exprs), made


def _unique(e: Expr) -> Expr:
    """Every gradient by a variable of its own name."""
    if not is_slope(e):
        return e
    name = variable()
    value, guard, g, *places = e.args
    return red(Slope(name), e.data[1], value, guard, renamed(g, e.data[0].variable, name), *places)


def _outermost(exprs: Sequence[Expr]) -> set[str]:
    """The variables of the gradients that stand in no other."""
    slopes = [e for e in postorder(exprs) if is_slope(e)]
    inner = {x.data[0].variable for x in postorder([a for e in slopes for a in e.args]) if is_slope(x)}
    return {e.data[0].variable for e in slopes} - inner


def _named(e: Expr, names: Iterator[str], made: list[Variable], known: int) -> Expr:
    """A gradient by a name. Only those made after the first ``known`` ones stand in no other, and may share a local."""
    binders, value, _ = open_red(e)
    g, *places = outside(e)
    old = e.data[0].variable
    whole = value.op == "ref" and value.args == tuple(ix(b) for b in binders)
    if whole and value.data not in references([g]):
        return call("grad", ref(value.data), renamed(g, old, value.data), *places)
    outer = tuple(i for i in free_in_order(value) if i not in binders)
    indices = (*outer, *binders)
    alike = (v for v in made[known:] if substitute((v.value,), dict(zip(v.indices, map(ix, indices), strict=False)))[0] is value)
    own = next((v for v in alike if [i.axis for i in v.indices] == [i.axis for i in indices]), None)
    if own is None:
        own = Variable(next(names), indices, value)
        made.append(own)
    before = [ix(i) for i in outer]
    g = replaced(g, old, lambda at: ref(own.name, [*before, *at]))
    return call("grad", ref(own.name), g, *before, *places)
