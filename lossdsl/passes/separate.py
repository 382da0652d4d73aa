"""Write reductions whose guard orders elements by a key so that what is reduced depends on the elements alone (see ``ir.ordered``).

What depends on the query moves out: factors of a sum, terms of a max or logsumexp; a sum of such products is split. A reduction over
both sides of the comparison is one of such reductions. Each is then computed without looking at all pairs. What moves out of a sum
stands under the condition that the sum has an element, so that what a guard leaves out never matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial, reduce

from lossdsl.ir.expr import (
    INF,
    NAN,
    ONE,
    TRUE,
    ZERO,
    Expr,
    Index,
    add,
    and_,
    call,
    cmp,
    conjuncts,
    div,
    mul,
    neg,
    open_red,
    postorder,
    pow_,
    pw,
    red,
    size,
    sub,
)  # fmt: skip
from lossdsl.ir.ordered import FLIPPED, Comparison, readings, sides
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import Term, build_sum, terms

Binders = tuple[Index, ...]
Indices = Set[Index]

_LINEAR = ("sum", "prod", "logsumexp", "norm", "any")  # a reduction over no elements leaves a further one over it as it is
_NOTHING = {"sum": ZERO, "logsumexp": neg(INF)}  # what does not change a reduction
_MOST = 8  # products that a summand is split into
_LARGEST = 200  # nodes of an expression that is looked into


def separated(e: Expr, ranges: Ranges) -> Expr:
    """The reduction over elements in order, or as it was where it has no such form."""
    op, binders = e.data
    if op not in (*_LINEAR, "max", "min") or not any(c.op in ("cmp", "not", "pw", "iverson") for x in e.args for c in conjuncts(x)):
        return e
    binders, body, guard = open_red(e)
    body, conditions = _conditions(op, body, guard)
    own, others = _touching(binders, conditions)
    for k, c in enumerate(own):
        rest = (*own[:k], *own[k + 1 :])
        for by in _readings(c, binders, ranges):
            found = _reduced(op, binders, body, by, rest, ranges)
            if found is not None:
                return pw([(found, and_(*others))], _NOTHING.get(op, NAN)) if others else found
    found = None if others else _apart(op, binders, body, own)
    return e if found is None else found


def _conditions(op: str, body: Expr, guard: Expr) -> tuple[Expr, tuple[Expr, ...]]:
    """What is reduced, and all conditions; those inside that leave nothing count too."""
    if op == "any":
        return TRUE, tuple(conjuncts(and_(guard, body)))
    while body.op == "pw" and len(body.args) == 3 and body.args[2] is _NOTHING.get(op):
        body, guard = body.args[0], and_(guard, body.args[1])
    if body.op == "iverson" and op == "sum":
        body, guard = ONE, and_(guard, body.args[0])
    return body, tuple(conjuncts(guard))


# -- comparisons ------------------------------------------------------------------------------------------------------


_NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _readings(c: Expr, binders: Binders, ranges: Ranges) -> Iterator[Comparison]:
    """A condition as comparisons of a key with a query; a bound index stands alone where that is possible."""
    if c.op == "not" and c.args[0].op == "cmp" and c.args[0].data in _NEGATED and all(_placed(a) for a in c.args[0].args):
        c = cmp(_NEGATED[c.args[0].data], *c.args[0].args)
    if c.op != "cmp" or c.data not in _NEGATED:
        yield from sides(c)
        return
    parts = terms(sub(*c.args))
    if all(map(_placed, c.args)):
        for k, t in enumerate(parts):
            others = [u for j, u in enumerate(parts) if j != k]
            alone = t.rest.op == "ix" and t.rest.data in binders and all(t.rest.data not in u.rest.free for u in others)
            if alone and abs(t.coefficient) == 1:
                query = build_sum([Term(-u.coefficient / t.coefficient, u.rest) for u in others])
                yield Comparison(t.rest, c.data if t.coefficient > 0 else FLIPPED[c.data], query)
    elif {t.coefficient for t in parts} == {1, -1} and len(parts) == 2 and all(ranges.finite(t.rest) for t in parts):
        a, b = sorted(parts, key=lambda t: -t.coefficient)  # the sign of a difference is exact
        c = cmp(c.data, a.rest, b.rest)
    yield from sides(c)


def _placed(e: Expr) -> bool:
    """Whether an expression is a whole number made of indices and lengths, which is never NaN."""
    return all(x.op in ("ix", "size", "add", "sub", "neg", "mul") or (x.op == "num" and x.data.denominator == 1) for x in postorder([e]))


# -- reductions -------------------------------------------------------------------------------------------------------


def _reduced(op: str, binders: Binders, body: Expr, by: Comparison, rest: Sequence[Expr], ranges: Ranges) -> Expr | None:
    """The reduction as reductions over the key's indices."""
    keyed = tuple(b for b in binders if b in by.key.free)
    outer = tuple(b for b in binders if b in by.query.free)
    if not keyed or not set(keyed).isdisjoint(outer):
        return None
    inner = tuple(b for b in binders if b not in outer)
    own, others = _touching(inner, rest)
    conditions = (by.condition, *(_oriented(c, inner, ranges) for c in own))
    found = _of_elements(op, inner, body, conditions)
    if not outer or found is None:
        return found
    return _over(op, outer, found, others, red("any", inner, and_(*conditions)))


def _oriented(c: Expr, elements: Binders, ranges: Ranges) -> Expr:
    """A condition as a comparison of the elements with something else, if it is one."""
    found = (x for x in _readings(c, elements, ranges) if not x.key.free.isdisjoint(elements) and x.query.free.isdisjoint(elements))
    by = next(found, None)
    return by.condition if by else c


def _touching(indices: Sequence[Index], conditions: Sequence[Expr]) -> tuple[list[Expr], list[Expr]]:
    """The conditions that look at the indices, and the others."""
    return [c for c in conditions if not c.free.isdisjoint(indices)], [c for c in conditions if c.free.isdisjoint(indices)]


def _over(op: str, binders: Binders, body: Expr, guard: Sequence[Expr], some: Expr) -> Expr:
    """A reduction of reductions; ``some`` tells whether one has an element."""
    if op == "any":
        return red("any", binders, and_(*guard, body))
    return red(op, binders, body, and_(*guard, *([] if op in _LINEAR else [some])))


def _apart(op: str, binders: Binders, body: Expr, conditions: Sequence[Expr]) -> Expr | None:
    """A sum over pairs of what no condition and no factor ties together, as a product of sums."""
    if op not in ("sum", "any") or len(binders) < 2 or not conditions:
        return None
    group = {binders[0]}
    while more := {b for c in conditions if not c.free.isdisjoint(group) for b in c.free.intersection(binders)} - group:
        group |= more
    parts = tuple(b for b in binders if b in group), tuple(b for b in binders if b not in group)
    guards = [and_(*found) for found in _touching(parts[0], conditions)]
    if not parts[1]:
        return None
    if op == "any":
        return None if TRUE in guards else and_(*(red("any", p, g) for p, g in zip(parts, guards, strict=True)))
    split = _split(body, parts[0], frozenset(parts[1])) if _simple(body, parts[1]) else None
    if not split or len(split) > 1 or split[0].rise:
        return None
    bodies = split[0].inner, split[0].outer
    out = mul(*(_count(p, b, g) for p, b, g in zip(parts, bodies, guards, strict=True)))
    some = [red("any", p, g) for p, g in zip(parts, guards, strict=True) if g is not TRUE]
    return out if bodies == (ONE, ONE) else pw([(out, and_(*some))], ZERO)


def _count(binders: Binders, body: Expr, guard: Expr) -> Expr:
    """A sum; over nothing but lengths where there is nothing to sum."""
    return reduce(mul, (size(b.axis) for b in binders)) if body is ONE and guard is TRUE else red("sum", binders, body, guard)


def _of_elements(op: str, binders: Binders, body: Expr, conditions: Sequence[Expr]) -> Expr | None:
    """A reduction over one side of comparisons; indices that no key has are reduced before or, if need be, after."""
    keys = [c.key for s in readings(binders, ONE, conditions) for c in s.by]
    idle = tuple(b for b in binders if all(b not in k.free for k in keys))
    keyed = tuple(b for b in binders if b not in idle)
    sets = next(readings(keyed, body, conditions), None)
    if sets is None:
        return None
    if not idle:
        return _separated(op, keyed, body, sets.queries, conditions)
    if body.free.isdisjoint(sets.queries):
        own, others = _touching(idle, conditions)
        if own and op not in ("sum", "prod", "logsumexp", "norm"):
            others.append(red("any", idle, and_(*own)))
        if op != "any":
            body = red(op, idle, body, and_(*own))
        return _separated(op, keyed, body, sets.queries, others)
    own, others = _touching(keyed, conditions)
    found = _separated(op, keyed, body, sets.queries, own)
    return found and _over(op, idle, found, others, red("any", keyed, and_(*own)))


def _separated(op: str, binders: Binders, body: Expr, queries: Indices, conditions: Sequence[Expr]) -> Expr | None:
    """The reduction with all moved out that depends on the queries."""
    guard = and_(*conditions)
    if op == "any":
        return red("any", binders, guard)
    constant = op == "sum" and body is not ONE and body.free.isdisjoint(binders)
    if body.free.isdisjoint(queries) and not constant:
        return red(op, binders, body, guard)
    if op == "prod" or not _simple(body, queries):
        return None
    if op == "sum":
        return _sum(binders, _split(body, binders, queries), guard)
    if op == "norm":
        split = _split(body, binders, queries)
        if not split or len(split) > 1 or split[0].rise:
            return None
        out = mul(call("abs", split[0].outer), red("norm", binders, split[0].inner, guard))
        return _where_some(out, [split[0].outer], binders, guard, ZERO)
    halves = _halves(body, binders, queries)
    if halves is None:
        return None
    out = add(red(op, binders, halves[0] or ZERO, guard), halves[1] or ZERO)
    return _where_some(out, [halves[1] or ZERO], binders, guard, neg(INF)) if op == "logsumexp" else out


def _simple(e: Expr, indices: Iterable[Index]) -> bool:
    """Whether little enough depends on some indices to be looked into."""
    own = frozenset(indices)
    return sum(not x.free.isdisjoint(own) for x in postorder([e])) <= _LARGEST


def _where_some(e: Expr, moved: Sequence[Expr], binders: Binders, guard: Expr, otherwise: Expr) -> Expr:
    """What something moved out of gives, chosen where there is an element: elsewhere it may be infinite or NaN."""
    return e if all(map(_harmless, moved)) else pw([(e, red("any", binders, guard))], otherwise)


def _harmless(e: Expr) -> bool:
    """Whether an expression is surely finite, whatever the inputs are."""
    return all(x.op in ("num", "ix", "size", "add", "sub", "neg", "mul") for x in postorder([e]))


# -- what is reduced --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Product:
    """``outer*inner*exp(rise + fall)``: inner and rise are free of the queries, outer and fall of the elements; 0 is no exponential."""

    outer: Expr
    inner: Expr = ONE
    rise: Expr | None = None
    fall: Expr | None = None


def _sum(binders: Binders, split: list[Product] | None, guard: Expr) -> Expr | None:
    if split is None:
        return None
    grouped: dict[tuple[Expr, Expr | None, Expr | None], Expr] = {}
    for p in split:
        key = p.outer, p.rise, p.fall
        grouped[key] = add(grouped[key], p.inner) if key in grouped else p.inner
    out = ZERO
    for (outer, rise, fall), inner in grouped.items():
        body = mul(inner, call("exp", _joined(fall, rise))) if rise and fall else inner
        total = red("sum", binders, body, guard)
        out = sub(out, mul(outer.args[0], total)) if outer.op == "neg" and out is not ZERO else add(out, mul(outer, total))
    return _where_some(out, [outer for outer, _, _ in grouped], binders, guard, ZERO)


def _joined(a: Expr | None, b: Expr | None) -> Expr:
    """The sum of two terms of which one may be missing."""
    if a is None or b is None:
        return a or b or ZERO
    return sub(a, b.args[0]) if b.op == "neg" else add(a, b)


def _split(e: Expr, elements: Binders, queries: Indices) -> list[Product] | None:
    """A summand as a sum of products of what depends on either side; None if it is none, or one of too many."""
    if e.free.isdisjoint(elements):
        return [Product(e)]
    if e.free.isdisjoint(queries):
        return [Product(ONE, e)]
    match e.op:
        case "neg" | "add" | "sub" | "mul" | "div":
            parts = [_split(a, elements, queries) for a in e.args]
            known = [p for p in parts if p is not None]
            return _combined(e.op, known) if len(known) == len(parts) else None
        case "pow" if e.args[1].op == "num" and e.args[1].data.denominator == 1:
            base = _split(e.args[0], elements, queries)
            if base is None or len(base) > 1 or base[0].rise:
                return None
            return [Product(pow_(base[0].outer, e.args[1]), pow_(base[0].inner, e.args[1]))]
        case "call" if e.data == "exp":
            halves = _halves(e.args[0], elements, queries)
            return halves and [Product(ONE, ONE, *halves)]
        case "call" if e.data == "stop":
            return _split(e.args[0], elements, queries)
    return None


def _combined(op: str, parts: Sequence[list[Product]]) -> list[Product] | None:
    """Sums of products, added or multiplied; not two sums, as of their product the terms may be much larger than the whole."""
    if op == "neg":
        return [Product(neg(p.outer), p.inner, p.rise, p.fall) for p in parts[0]]
    a, b = parts
    if op in ("add", "sub"):
        out = [*a, *(b if op == "add" else _combined("neg", [b]) or [])]
        return out if len(out) <= _MOST else None
    if len(b) > 1 and (op == "div" or len(a) > 1):
        return None
    if op == "div":
        (q,) = b
        ends = q.rise and neg(q.rise), q.fall and neg(q.fall)
        return [Product(div(p.outer, q.outer), div(p.inner, q.inner), _both(p.rise, ends[0]), _both(p.fall, ends[1])) for p in a]
    return [Product(mul(p.outer, q.outer), mul(p.inner, q.inner), _both(p.rise, q.rise), _both(p.fall, q.fall)) for p in a for q in b]


def _both(a: Expr | None, b: Expr | None) -> Expr | None:
    return _joined(a, b) if a or b else None


Halves = tuple[Expr | None, Expr | None]


def _halves(e: Expr, elements: Binders, queries: Indices) -> Halves | None:
    """A sum as one of terms free of the queries and one of terms free of the elements; None if there are others."""
    if e.free.isdisjoint(queries):
        return e, None
    if e.free.isdisjoint(elements):
        return None, e
    if e.op == "neg":
        return _each(neg, _halves(e.args[0], elements, queries))
    if e.op in ("add", "sub"):
        first, second = (_halves(x, elements, queries) for x in e.args)
        second = _each(neg, second) if e.op == "sub" else second
        return first and second and (_both(first[0], second[0]), _both(first[1], second[1]))
    if e.op in ("mul", "div"):
        a, b = e.args
        for whole, factor in ((a, b), (b, a)) if e.op == "mul" else ((a, b),):
            if factor.free.isdisjoint(queries) and factor.free.isdisjoint(elements):
                scaled = partial(mul, factor) if e.op == "mul" else partial(_divided, factor)
                return _each(scaled, _halves(whole, elements, queries))
    return None


def _each(change: Callable[[Expr], Expr], halves: Halves | None) -> Halves | None:
    return halves and (halves[0] and change(halves[0]), halves[1] and change(halves[1]))


def _divided(by: Expr, e: Expr) -> Expr:
    return div(e, by)
