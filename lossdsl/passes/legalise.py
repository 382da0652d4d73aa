"""Rewrite a program into what a backend can spell and computes well: the last pass on expressions before they are staged.

Reductions that a backend has no good form of are written by others, functions without a spelling by their safe forms, and
sums over an index that an equation fixes are not taken at all.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

from lossdsl.errors import NotYet
from lossdsl.functions import FUNCTIONS
from lossdsl.ir import rows
from lossdsl.ir.expr import (
    INF,
    NAN,
    ONE,
    TRUE,
    ZERO,
    Expr,
    Index,
    Range,
    add,
    and_,
    boolean,
    branches,
    call,
    cmp,
    conjuncts,
    div,
    iverson,
    ix,
    mul,
    neg,
    num,
    open_red,
    pow_,
    pw,
    red,
    replace_indices,
    rewrite,
    size,
    sub,
)  # fmt: skip
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import Factor, Product, Term, bound_of_index, build_product, build_sum, offset, product, terms
from lossdsl.passes.bounded import bounded
from lossdsl.passes.separate import separated

Binders = tuple[Index, ...]

# What a reduction gives where nothing is left to reduce.
_EMPTY = {"sum": ZERO, "prod": ONE, "max": NAN, "min": NAN, "logsumexp": neg(INF), "norm": ZERO, "argmax": NAN, "argmin": NAN}
# Backends whose sources carry a helper for the Euclidean norm.
_HAVE_NORM = ("numpy", "torch")


def legalise(program: Program, backend: str) -> Program:
    """The program in the operations that the backend has, with equal values."""
    whole = frozenset(i.name for i in program.inputs if i.kind.role in ("class", "label"))
    exponentials: dict[Expr, tuple[Expr, Expr]] = {}
    ranges = Ranges(program)

    def simplify(e: Expr) -> Expr:
        if e.op == "call" and e.data in ("softplus", "sigmoid"):
            return _confident(e)
        return _position(_fixed(e, whole) if e.op == "red" and e.data[0] != "argsort" else e)

    def separate(e: Expr) -> Expr:
        return separated(e, ranges) if e.op == "red" else e

    def spell(e: Expr) -> Expr:
        if e.op == "red" and e.data[0] == "logsumexp":
            return _logsumexp(e, exponentials)
        if e.op == "red" and e.data[0] == "norm" and backend not in _HAVE_NORM:
            return _scaled_norm(e)
        if e.op == "call" and e.data == "exp":
            return _exp(e, exponentials)
        if e.op == "pw":
            return _step(e, ranges) or _nested(e)
        if e.op == "sub":
            return _against_target(e)
        if e.op == "mul":
            return _scaled(e, frozenset(total for _, total in exponentials.values()))
        return e

    def rows_of(e: Expr) -> Expr:
        if e.op == "sub":
            return _by_the_peak(*e.args) or e
        while e.op == "call" and not _spelled(e, backend):
            safe = rows.safe(e.data, e.args)
            if safe is None:
                raise NotYet(f"the {backend} backend has no {e.data}")
            (e,) = rewrite((safe,), rows_of) if safe.op != "call" else (safe,)
        return e

    roots = bounded(program.roots)
    roots = rewrite(rewrite(roots, simplify), _position)
    roots = rewrite(roots, separate)
    roots = rewrite(rewrite(roots, spell), separate)
    return program.with_roots(rewrite(roots, rows_of))


def _spelled(e: Expr, backend: str) -> bool:
    row = FUNCTIONS[e.data]
    return e.data == "stop" or (backend in row.spell and len(e.args) == row.arity)


# -- indices that an equation fixes -----------------------------------------------------------------------------------


def _fixed(e: Expr, whole: frozenset[str]) -> Expr:
    """A reduction without binders that an equation fixes, without conditions that no binder occurs in, without idle binders."""
    op = e.data[0]
    binders, body, guard = open_red(e)
    if op == "any":
        body, guard = TRUE, body
    if op not in ("argmax", "argmin"):
        while found := _one_point(binders, guard, whole):
            b, value, bounds = found
            binders = tuple(i for i in binders if i != b)
            body, guard = (replace_indices(x, {b: value}) for x in (body, guard))
            guard = and_(bounds, guard)
    if op == "sum" and binders and _places_the_same(binders, body, guard, whole):
        count = _fixed(red("sum", binders, ONE, guard), whole)
        return pw([(mul(count, body), cmp(">", count, ZERO))], ZERO)
    if op == "sum":
        body, guard = _placed(binders, body, guard, whole)
        binders, body, guard = _nested_sum(binders, body, guard, whole)
    outer = [c for c in conjuncts(guard) if c.free.isdisjoint(binders)]
    inner = and_(*(c for c in conjuncts(guard) if not c.free.isdisjoint(binders)))
    if op == "any":
        return and_(*outer, *_some(binders, inner))
    value, nonempty = _trimmed(op, binders, body, inner)
    return pw([(value, and_(*outer, *nonempty))], _EMPTY[op])


def _some(binders: Binders, condition: Expr) -> list[Expr]:
    """That the condition holds somewhere."""
    used = tuple(b for b in binders if b in condition.free)
    idle = [cmp(">", size(b.axis), ZERO) for b in binders if b not in condition.free]
    return [*idle, red("any", used, condition)] if used else [*idle, condition]


def _trimmed(op: str, binders: Binders, body: Expr, guard: Expr) -> tuple[Expr, list[Expr]]:
    """The reduction over the binders that occur, and conditions under which the others' axes are not empty."""
    if op in ("argmax", "argmin"):
        return red(op, binders, body, guard), []
    used = tuple(b for b in binders if b in body.free or b in guard.free)
    idle = [size(b.axis) for b in binders if b not in used]
    if used:
        value = red(op, used, body, guard)
    else:
        value = call("abs", body) if op == "norm" else body
    for n in idle:
        match op:
            case "sum":
                value = mul(n, value) if value is not ONE else n
            case "prod":
                value = pow_(value, n)
            case "norm":
                value = mul(call("sqrt", n), value)
            case "logsumexp":
                value = add(value, call("log", n))
    plain = op == "prod" or (op == "sum" and body.op == "num")
    return value, [] if plain else [cmp(">", n, ZERO) for n in idle]


def _one_point(binders: Sequence[Index], guard: Expr, whole: frozenset[str]) -> tuple[Index, Expr, Expr] | None:
    """A binder that a conjunct of the guard fixes, its value, and the condition that the value lies on the axis."""
    for c in conjuncts(guard):
        if c.op != "cmp" or c.data != "==":
            continue
        for a, b in (c.args, c.args[::-1]):
            for i, value in _solved(a, b):
                if i in binders and i not in value.free and _integral(value, whole):
                    return i, value, _inside(i, value)
    return None


def _solved(a: Expr, b: Expr) -> Iterator[tuple[Index, Expr]]:
    """``i = value`` from ``a == b``, where ``a`` is an index plus or minus something."""
    if a.op == "ix":
        yield a.data, b
    elif a.op in ("add", "sub"):
        x, y = a.args
        if x.op == "ix":
            yield x.data, sub(b, y) if a.op == "add" else add(b, y)
        if y.op == "ix":
            yield y.data, sub(b, x) if a.op == "add" else sub(x, b)


def _integral(e: Expr, whole: frozenset[str]) -> bool:
    """Whether an expression is made of indices, also those that sort, lengths, whole numbers and labels only."""
    stack = [e]
    while stack:
        x = stack.pop()
        match x.op:
            case "add" | "sub" | "neg" | "mul":
                stack += x.args
            case "ix" | "size":
                continue
            case "num" if x.data.denominator == 1:
                continue
            case "ref" if x.data in whole:
                continue
            case "red" if x.data[0] == "argsort":
                continue
            case _:
                return False
    return True


def _position(e: Expr) -> Expr:
    """Positions as one index plus a number, and the bounds that every index keeps."""
    if e.op in ("add", "sub") and (found := offset(e)):
        i, c = found
        return add(i, num(c)) if c >= 0 else sub(i, num(-c))
    known = bound_of_index(e) if e.op == "cmp" else None
    return e if known is None else boolean(known)


def _inside(i: Index, value: Expr) -> Expr:
    if value.op == "ix" and value.data.axis == i.axis:
        return TRUE
    if isinstance(i.axis, Range):
        return and_(cmp(">=", value, i.axis.lo), cmp("<=", value, i.axis.hi))
    return and_(cmp(">=", value, ZERO), cmp("<", value, size(i.axis)))


def _nested_sum(binders: Binders, body: Expr, guard: Expr, whole: frozenset[str]) -> tuple[Binders, Expr, Expr]:
    """A sum into places over more indices than these depend on: what the others add up to is found first."""
    placing = {a.data: b for a, b in _equal_sides(guard) if _is_place(a, b, binders, whole)}
    moving = tuple(b for b in binders if any(b in place.free for place in placing.values()))
    rest = tuple(b for b in binders if b not in moving)
    inside = and_(*(c for c in conjuncts(guard) if not c.free.isdisjoint(rest)))
    if not moving or not rest or not (body.free | inside.free).isdisjoint(placing):
        return binders, body, guard
    inner = _fixed(red("sum", rest, body, inside), whole)
    return moving, inner, and_(*(c for c in conjuncts(guard) if c.free.isdisjoint(rest)))


def _equal_sides(guard: Expr) -> Iterator[tuple[Expr, Expr]]:
    """What the conjuncts of a guard equate, both ways."""
    for c in conjuncts(guard):
        if c.op == "cmp" and c.data == "==":
            a, b = c.args
            yield a, b
            yield b, a


def _is_place(a: Expr, b: Expr, binders: Binders, whole: frozenset[str]) -> bool:
    """Whether an index of a result is equated to a position over the bound ones."""
    return a.op == "ix" and a.data not in binders and a.data not in b.free and not b.free.isdisjoint(binders) and _integral(b, whole)


def _places_the_same(binders: Binders, body: Expr, guard: Expr, whole: frozenset[str]) -> bool:
    """Whether a sum into places adds up the same at each: it is counted how often."""
    if body.op == "num" or not body.free.isdisjoint(binders) or any(b not in guard.free for b in binders):
        return False
    return any(a.data in body.free for a, b in _equal_sides(guard) if _is_place(a, b, binders, whole))


def _placed(binders: Binders, body: Expr, guard: Expr, whole: frozenset[str]) -> tuple[Expr, Expr]:
    """``sum[i | y[i] == k](x[i, k])`` reads ``x[i, y[i]]``: the sum becomes a scatter of a gather."""
    for a, b in _equal_sides(guard):
        if _is_place(a, b, binders, whole):
            here = next(c for c in conjuncts(guard) if c.op == "cmp" and c.data == "==" and set(c.args) == {a, b})
            rest = and_(*(x for x in conjuncts(guard) if x is not here))
            body, rest = (replace_indices(x, {a.data: b}) for x in (body, rest))
            return body, and_(here, rest)
    return body, guard


# -- reductions written by others -------------------------------------------------------------------------------------


def _against_target(e: Expr) -> Expr:
    """``c*(1 - t)*sigmoid(a) - c*t*sigmoid(-a)``, which is ``c*(sigmoid(a) - t)``, with one exponential.

    It is the error ``(a > 0) - t`` of the decision and the small rest of the sigmoid, so it is exact for a right answer too.
    """
    left, right = (product(x) for x in e.args)
    if left.coefficient != right.coefficient:
        return e
    for f, g in itertools.product(left.factors, right.factors):
        if f.power != 1 or g.power != 1 or not _opposite(f.base, g.base):
            continue
        ours, theirs = ([x for x in p.factors if x is not y] for p, y in ((left, f), (right, g)))
        for t in theirs:
            rest = [x for x in theirs if x is not t]
            if t.power == 1 and Counter(ours) == Counter([*rest, Factor(sub(ONE, t.base), 1)]):
                return mul(build_product(Product(left.coefficient, tuple(rest))), _error(f.base.args[0], t.base))
    return e


def _opposite(a: Expr, b: Expr) -> bool:
    """Whether two nodes are a sigmoid and the sigmoid of the negative."""
    if not (a.op == b.op == "call" and a.data == b.data == "sigmoid"):
        return False
    return build_sum(terms(neg(a.args[0]))) is build_sum(terms(b.args[0]))


def _error(a: Expr, t: Expr) -> Expr:
    small = call("exp", neg(call("abs", a)))
    rest = div(small, add(ONE, small))
    decided = cmp(">", a, ZERO)
    return add(sub(iverson(decided), t), pw([(neg(rest), decided)], rest))


def _step(e: Expr, ranges: Ranges) -> Expr | None:
    """Three numbers above, at and below a threshold, the middle one their mean, by the sign of the distance."""
    pairs, otherwise = branches(e)
    if len(pairs) != 3 or otherwise is not NAN or any(v.op != "num" or c.op != "cmp" for v, c in pairs):
        return None
    a, b = pairs[0][1].args
    values: dict[str, Fraction] = {}
    for v, c in pairs:
        if c.args not in ((a, b), (b, a)):
            return None
        values.setdefault(c.data if c.args == (a, b) else _FLIPPED.get(c.data, c.data), v.data)
    if set(values) != {">", "==", "<"} or 2 * values["=="] != values[">"] + values["<"]:
        return None
    if not (ranges.finite(a) or ranges.finite(b)):  # equal infinities have no distance
        return None
    half = (values[">"] - values["<"]) / 2
    if a is ZERO:
        a, b, half = b, a, -half
    step = mul(num(abs(half)), call("sign", sub(a, b)))
    return add(num(values["=="]), step) if half > 0 else sub(num(values["=="]), step)


_FLIPPED = {"<": ">", ">": "<"}


def _nested(e: Expr) -> Expr:
    """``piecewise(piecewise(x if b, z) if a, z)`` as one branch, and a factor of both branches in front: selections cost most."""
    if len(e.args) == 3:
        inner, condition, otherwise = e.args
        if inner.op == "pw" and len(inner.args) == 3 and inner.args[2] is otherwise:
            return pw([(inner.args[0], and_(condition, inner.args[1]))], otherwise)
        if inner.op == otherwise.op == "mul":
            for a, b in itertools.product((inner.args, inner.args[::-1]), (otherwise.args, otherwise.args[::-1])):
                if a[0] is b[0]:
                    return mul(a[0], pw([(a[1], condition)], b[1]))
    return e


def _logsumexp(e: Expr, exponentials: dict[Expr, tuple[Expr, Expr]]) -> Expr:
    """``m + log(sum(exp(x - m)))`` with the maximum m, which is left out where it is infinite."""
    binders, x, guard = open_red(e)
    x = _plain(x)
    m = _peak(binders, x, guard)
    total = red("sum", binders, call("exp", sub(x, m)), guard)
    out = add(m, call("log", total))
    exponentials[out] = m, total
    return out


def _plain(x: Expr) -> Expr:
    """A sum with one number in front of each term, so that equal terms of value and gradient look alike."""
    return build_sum(terms(x))


def _peak(binders: Binders, x: Expr, guard: Expr) -> Expr:
    peak = red("max", binders, x, guard)
    return pw([(peak, cmp("<", call("abs", peak), INF))], ZERO)


def _by_the_peak(a: Expr, b: Expr) -> Expr | None:
    """A difference from ``m + log(sum(..))``, by way of the difference from m, which is exact where it matters."""
    if (whole := _peak_and_log(b)) is not None:
        return sub(sub(a, whole[0]), whole[1])
    if (whole := _peak_and_log(a)) is not None:
        return sub(whole[1], sub(b, whole[0]))
    return None


def _peak_and_log(e: Expr) -> tuple[Expr, Expr] | None:
    if e.op != "add" or e.args[1].op != "call" or e.args[1].data != "log":
        return None
    inside = e.args[1].args[0]
    return (e.args[0], e.args[1]) if inside.op == "red" and inside.data[0] == "sum" else None


def _exp(e: Expr, exponentials: dict[Expr, tuple[Expr, Expr]]) -> Expr:
    """``exp(a - logsumexp(x))`` as ``exp(a - m)/sum(exp(x - m))``, which shares its exponentials with the sum."""
    found = _subtracted(e.args[0], exponentials) if exponentials else None
    if found is None:
        return e
    whole, way = found
    m, total = exponentials[whole]
    rest = ZERO
    for node, k in reversed(way):
        args = [rest if j == k else a for j, a in enumerate(node.args)]
        rest = add(*args) if node.op == "add" else sub(*args) if node.op == "sub" else neg(*args)
    return div(call("exp", sub(_plain(rest), m)), total)


Way = tuple[tuple[Expr, int], ...]


def _subtracted(arg: Expr, known: dict[Expr, tuple[Expr, Expr]]) -> tuple[Expr, Way] | None:
    """The one known term that a sum subtracts, and the nodes and arguments on the way to it."""
    stack: list[tuple[Expr, bool, Way]] = [(arg, False, ())]
    hits = []
    while stack:
        e, minus, way = stack.pop()
        if e in known:
            hits.append((e, minus, way))
        elif e.op in ("add", "sub", "neg"):
            for k, a in enumerate(e.args):
                stack.append((a, minus != (e.op == "neg" or (e.op == "sub" and k == 1)), (*way, (e, k))))
    return (hits[0][0], hits[0][2]) if len(hits) == 1 and hits[0][1] else None


def _confident(e: Expr) -> Expr:
    """A softplus or sigmoid of the others' logsumexp minus the one that is left out, over the maximum of them all.

    What then underflows is smaller than the smallest result, and the exponentials are those of the softmax.
    """
    parts = terms(e.args[0])
    for k, t in enumerate(parts):
        if t.rest.op != "red" or t.rest.data[0] != "logsumexp" or abs(t.coefficient) != 1 or len(t.rest.data[1]) != 1:
            continue
        (b,), x, guard = open_red(t.rest)
        sides = guard.args if guard.op == "cmp" and guard.data == "!=" else ()
        place = next((v for u, v in (sides, sides[::-1]) if u is ix(b) and b not in v.free), None) if sides else None
        if place is None:
            continue
        x = _plain(x)
        one = _plain(replace_indices(x, {b: place}))
        if _plain(build_sum([Term(-t.coefficient * u.coefficient, u.rest) for j, u in enumerate(parts) if j != k])) is not one:
            continue
        m = _peak((b,), x, TRUE)
        others, own = red("sum", (b,), call("exp", sub(x, m)), guard), call("exp", sub(one, m))
        if e.data == "sigmoid":
            part, rest = (others, own) if t.coefficient > 0 else (own, others)
            return pw([(div(part, add(part, rest)), cmp("<", part, rest))], div(ONE, add(ONE, div(rest, part))))  # no quotient above 1
        gap = add(call("log", others), sub(m, one))
        return call("softplus", gap if t.coefficient > 0 else neg(gap))
    return e


def _scaled(e: Expr, totals: frozenset[Expr]) -> Expr:
    """``a*(x/total)`` as ``x*(a/total)`` if a has fewer axes than x; a total is 1 or more, so nothing overflows."""
    for a, b in (e.args, e.args[::-1]):
        if b.op == "div" and b.args[1] in totals and a.free < b.free and b.args[1].free < b.free:
            return mul(b.args[0], div(a, b.args[1]))
    return e


def _scaled_norm(e: Expr) -> Expr:
    """The norm scaled by the largest magnitude, so that no square overflows or vanishes."""
    binders, x, guard = open_red(e)
    peak = red("max", binders, call("abs", x), guard)
    scale = pw([(peak, and_(cmp(">", peak, ZERO), cmp("<", peak, INF)))], ONE)
    scaled = div(x, scale)
    return mul(scale, call("sqrt", red("sum", binders, mul(scaled, scaled), guard)))



