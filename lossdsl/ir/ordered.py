"""The shape of a reduction over elements in the order of a key, which sorting and a running reduction compute.

In ``sum[j | t[j] >= t[i]](x[j])`` the *key* ``t[j]`` of an element stands in a relation to the *query* ``t[i]``: the elements of one
result are the first so many in the order of their keys, so that there is no need to look at all pairs. What is reduced must not
depend on the query's own index; in a sum there may be one factor ``exp(a[j] + b[i])``, which is taken out of the running sum at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lossdsl.ir.expr import ONE, TRUE, Expr, Index, add, conjuncts, div, mul, neg, sub

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
RUNNING = ("sum", "max", "min", "norm", "any")  # what has a running form


@dataclass(frozen=True, slots=True)
class Ordered:
    """Elements, those whose ``key`` stands in a ``relation`` to the ``query`` where all ``masks`` hold, reduced to a result.

    ``queries`` are the indices that occur in the query alone. A sum is over ``weight*exp(rise + fall)``, of which only ``fall`` depends on
    ``queries``; without an exponential both are None. ``parts`` are the nodes that all this is made of.
    """

    key: Expr
    relation: str
    query: Expr
    masks: tuple[Expr, ...]
    queries: frozenset[Index]
    weight: Expr
    rise: Expr | None
    fall: Expr | None
    parts: tuple[Expr, ...]


def ordered(op: str, over: Sequence[Index], body: Expr, guard: Sequence[Expr]) -> Ordered | None:
    """The shape of a reduction with these conditions, if it has it."""
    if op not in RUNNING:
        return None
    if op == "any":
        body, guard = TRUE, (*guard, *conjuncts(body))
    for k, c in enumerate(guard):
        for key, relation, query in sides(c):
            masks = (*guard[:k], *guard[k + 1 :])
            queries = own_indices(over, key, query, masks, body)
            summand = _summand(op, over, body, queries) if queries else None
            if summand:
                parts = (key, query, *masks, *summand.parts)
                return Ordered(key, relation, query, masks, queries, summand.weight, summand.rise, summand.fall, parts)
    return None


def sides(condition: Expr) -> Iterator[tuple[Expr, str, Expr]]:
    """Both readings of a comparison by order."""
    if condition.op == "cmp" and condition.data in FLIPPED:
        a, b = condition.args
        yield a, condition.data, b
        yield b, FLIPPED[condition.data], a


def own_indices(over: Sequence[Index], key: Expr, query: Expr, masks: Sequence[Expr], body: Expr) -> frozenset[Index]:
    """The indices of a query that neither its key nor another condition nor an element has; none if these are no key and query."""
    if key.free.isdisjoint(over) or not query.free.isdisjoint(over):
        return frozenset()
    own = query.free.difference(key.free, *(m.free for m in masks))
    stack, seen = [body], set()
    while stack and own:
        e = stack.pop()
        if e in seen or e.free.isdisjoint(own) or e.free.isdisjoint(over):
            continue
        seen.add(e)
        if e.op in ("ref", "red"):
            own -= e.free
        else:
            stack += e.args
    return own


@dataclass(frozen=True, slots=True)
class _Summand:
    weight: Expr
    rise: Expr | None
    fall: Expr | None
    parts: tuple[Expr, ...]


def _summand(op: str, over: Sequence[Index], body: Expr, queries: frozenset[Index]) -> _Summand | None:
    """What is reduced as a weight times an exponential, if the weight is free of the queries."""
    if body.free.isdisjoint(queries):
        return _Summand(body, None, None, (body,))
    if op != "sum":
        return None
    weight, exponent = ONE, None
    parts: list[Expr] = []
    stack = [(body, False)]
    while stack:
        e, under = stack.pop()
        if e.free.isdisjoint(queries):
            weight = div(weight, e) if under else mul(weight, e)
            parts.append(e)
        elif e.op == "neg":
            weight = neg(weight)
            stack.append((e.args[0], under))
        elif e.op in ("mul", "div"):
            a, b = e.args
            stack += [(b, under != (e.op == "div")), (a, under)]
        elif e.op == "call" and e.data == "exp" and exponent is None and not under:
            exponent = e.args[0]
        else:
            return None
    halves = _halves(exponent, over, queries) if exponent else None
    return _Summand(weight, *halves[:2], (*parts, *halves[2])) if halves else None


def _halves(e: Expr, over: Sequence[Index], queries: frozenset[Index]) -> tuple[Expr, Expr, list[Expr]] | None:
    """A sum as one of terms free of the queries, one of terms free of the elements, and those terms."""
    halves: list[Expr | None] = [None, None]
    parts = []
    stack = [(e, False)]
    while stack:
        x, minus = stack.pop()
        side = 0 if x.free.isdisjoint(queries) else 1 if x.free.isdisjoint(over) else None
        if side is not None:
            before = halves[side]
            halves[side] = (neg(x) if minus else x) if before is None else (sub if minus else add)(before, x)
            parts.append(x)
        elif x.op in ("add", "sub"):
            a, b = x.args
            stack += [(b, minus != (x.op == "sub")), (a, minus)]
        elif x.op == "neg":
            stack.append((x.args[0], not minus))
        else:
            return None
    rise, fall = halves
    return (rise, fall, parts) if rise and fall else None
