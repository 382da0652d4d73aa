"""The shape of a reduction over elements in the order of a key, which sorting and a running reduction compute.

In ``sum[j | t[j] >= t[i]](x[j])`` the *key* ``t[j]`` of an element stands in a relation to the *query* ``t[i]``: the elements of one
result are the first so many in the order of their keys, so that there is no need to look at all pairs. Beside it there may be a second
such comparison, or keys that equal their queries. What is reduced must not depend on the queries' own indices; in a sum there may be
one factor ``exp(a[j] + b[i])``, which is taken out of the running sum at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lossdsl.ir.expr import ONE, TRUE, Expr, Index, add, cmp, conjuncts, div, mul, neg, sub

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
RUNNING = ("sum", "prod", "max", "min", "norm", "any")  # what has a running form


@dataclass(frozen=True, slots=True)
class Comparison:
    """A key, of the elements, in a relation to a query."""

    key: Expr
    relation: str
    query: Expr

    @property
    def condition(self) -> Expr:
        return cmp(self.relation, self.key, self.query)


@dataclass(frozen=True, slots=True)
class Sets:
    """For each query the elements whose keys stand in the relations ``by`` where all ``masks`` hold.

    There are one or two comparisons by order, or one or none and then equations. ``queries`` are the indices that occur in queries alone.
    """

    by: tuple[Comparison, ...]
    masks: tuple[Expr, ...]
    queries: frozenset[Index]


@dataclass(frozen=True, slots=True)
class Ordered:
    """The elements of sets reduced to a result each.

    A sum is over ``weight*exp(rise + fall)``, of which only ``fall`` depends on the queries' indices; without an exponential both are None.
    ``parts`` are the nodes that all this is made of.
    """

    sets: Sets
    weight: Expr
    rise: Expr | None
    fall: Expr | None
    parts: tuple[Expr, ...]


def ordered(op: str, over: Sequence[Index], body: Expr, guard: Sequence[Expr]) -> Ordered | None:
    """The shape of a reduction with these conditions, if it has it."""
    if op not in RUNNING or (op == "prod" and any(map(_leaves_out, guard))):
        return None
    if op == "any":
        body, guard = TRUE, (*guard, *conjuncts(body))
    for sets in readings(over, body, guard):
        if summand := _summand(op, over, body, sets.queries):
            ends = [x for c in sets.by for x in (c.key, c.query)]
            return Ordered(sets, summand.weight, summand.rise, summand.fall, (*ends, *sets.masks, *summand.parts))
    return None


def _leaves_out(c: Expr) -> bool:
    """Whether a condition leaves out one element: the product of all others has a form of its own."""
    return c.op == "cmp" and c.data == "!=" and all(x.op == "ix" for x in c.args)


def sides(condition: Expr) -> Iterator[Comparison]:
    """Both readings of a comparison, but of an equation that an index solves."""
    if condition.op == "cmp" and condition.data in FLIPPED:
        a, b = condition.args
        if condition.data != "==" or "ix" not in (a.op, b.op):
            yield Comparison(a, condition.data, b)
            yield Comparison(b, FLIPPED[condition.data], a)


def readings(over: Sequence[Index], body: Expr, guard: Sequence[Expr]) -> Iterator[Sets]:
    """The ways to see conditions as a few comparisons of elements with queries."""
    known = {c: next((x for x in sides(c) if _compares(x, over)), None) for c in guard}
    for first in known.values():
        if first is None:
            continue
        queries = _own(first, known, over, body)
        by = sorted((x for c, x in known.items() if x and not c.free.isdisjoint(queries)), key=lambda x: x.relation == "==")
        orders = sum(x.relation != "==" for x in by)
        if queries and (orders < 2 or (orders == 2 and len(by) == 2)):
            yield Sets(tuple(by), tuple(c for c in guard if c.free.isdisjoint(queries)), queries)


def _compares(x: Comparison, over: Sequence[Index]) -> bool:
    return not x.key.free.isdisjoint(over) and x.query.free.isdisjoint(over) and not x.query.free <= x.key.free


def _own(first: Comparison, known: Mapping[Expr, Comparison | None], over: Sequence[Index], body: Expr) -> frozenset[Index]:
    """The indices of a query that no key, no condition but comparisons and no element has."""
    own = first.query.free.difference(*(c.free if x is None else x.key.free for c, x in known.items()))
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
