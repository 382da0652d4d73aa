"""Prepares expressions for printing: recovers sugar, finds shared parts, names indices; ``text`` and ``latex`` print the result.

Sugar is written with nodes that no pass sees: reductions ``mean count all softmax log_softmax sort cosine``, an argsort without its
place, and calls whose names are no names of the language:

================  ==============================  ====================================
call              arguments                       what it prints as
================  ==============================  ====================================
``[]``            reduction, index values         ``softmax[k](s)[j]``
``default``       reduction, value if empty       ``max[k | g](s, default = d)``
``weight``        body, weight (inside a mean)    ``mean[n](x, weight = w)``
``pair``          two vectors (inside a cosine)   ``cosine[d](a, b)``
``descending``    body (inside a sort)            ``sort[n](x, order = descending)``
``chain < <=``    three numbers or more           ``a < b <= c``
================  ==============================  ====================================

Sugar is recovered only where the front end gives the same node back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from lossdsl.ir.expr import (
    BINDING,
    INF,
    ONE,
    TRUE,
    ZERO,
    Expr,
    Index,
    Range,
    and_,
    branches,
    call,
    cmp,
    conjuncts,
    instance,
    is_condition,
    ix,
    neg,
    open_red,
    outside,
    postorder,
    pw,
    red,
    replace_indices,
    rewrite,
    size,
    substitute,
)  # fmt: skip
from lossdsl.ir.program import Input, Param, Program
from lossdsl.ir.recursions import named
from lossdsl.ir.strict import strict
from lossdsl.kinds import Kind

DEFAULTED = ("sum", "prod", "max", "min", "mean", "logsumexp", "norm", "argmax", "argmin")
RISING, FALLING = ("<", "<="), (">", ">=")

Step = Generator[Any, str, str]


def run(first: Step, visit: Callable[..., Step]) -> str:
    """Runs generators that ask for the text of parts by yielding arguments of ``visit``; a recursion without Python's stack."""
    stack, text = [first], ""
    begun = False
    while stack:
        try:
            request = stack[-1].send(text) if begun else next(stack[-1])
        except StopIteration as done:
            stack.pop()
            text, begun = done.value, True
        else:
            stack.append(visit(*request))
            begun = False
    return text


# -- sugar ------------------------------------------------------------------------------------------------------------


def sugar(roots: Sequence[Expr]) -> tuple[Expr, ...]:
    """The expressions with sugar put back."""
    if any(e.op == "red" and e.data[0] == "argsort" for e in postorder(roots)):
        roots = rewrite(roots, _Sorts().recovered)
    return rewrite(roots, _sugared)


class _Sorts:
    """Finds what is sorted: a body at the index that its own argsort has at a place."""

    def __init__(self) -> None:
        self.orders: dict[Expr, tuple[Expr, ...]] = {}  # the argsorts in a node, as far as they are few
        self.sorts: dict[Expr, dict[Expr, Expr]] = {}

    def recovered(self, e: Expr) -> Expr:
        orders = tuple(dict.fromkeys(o for a in e.args for o in self.orders.get(a, ())))
        for order in orders:
            if order not in self.sorts:
                self.sorts[order] = dict(_sorted(order))
            if e in self.sorts[order]:
                return self.sorts[order][e]
        if e.op == "red" and e.data[0] == "argsort":
            orders = (e, *orders)
        if orders:
            self.orders[e] = orders[:_MOST_ORDERS]
        return e


def _sorted(order: Expr) -> Iterator[tuple[Expr, Expr]]:
    """What an argsort sorts, up or down, as the front end writes it, and the sort that this is."""
    (index,), body, guard = open_red(order)
    for x, key in ((neg(body), call("descending", neg(body))), (body, body)):
        found = replace_indices(x, {index: order})
        whole = found if strict(x, index) else pw([(found, cmp(">=", order, ZERO))])
        yield whole, call("[]", red("sort", [index], key, guard), *outside(order))


_MOST_ORDERS = 8


def _sugared(e: Expr) -> Expr:
    match e.op:
        case "sub":
            return _log_softmax(e) or e
        case "call" if e.data == "exp":
            return _softmax(e) or e
        case "call" if e.data in ("max", "min") and e.args[0].op == "call" and e.args[0].data == e.data:
            return call(e.data, *e.args[0].args, *e.args[1:])
        case "div":
            return _mean(e) or _cosine(e) or e
        case "red" if e.data[0] == "sum" and e.args[0] is ONE and e.args[1] is not TRUE:
            return red("count", e.data[1], ONE, e.args[1])
        case "red" if e.data[0] == "argsort":
            return call("[]", red("argsort", *open_red(e)), *outside(e))
        case "not":
            return _all(e) or e
        case "and":
            return _chained(e)
        case "pw":
            return _guarded(e) or _default(e) or e
    return e


def _normalised(e: Expr) -> tuple[Expr, tuple[Expr, ...]] | None:
    """The logsumexp and the index values of ``x - logsumexp[..](x)``."""
    if e.op != "sub" or e.args[1].op != "red" or e.args[1].data[0] != "logsumexp":
        return None
    whole = e.args[1]
    binders = whole.data[1]
    if any(isinstance(b.axis, Range) for b in binders):
        return None
    values = instance(whole.args[0], binders, e.args[0])
    return None if values is None else (whole, values)


def _log_softmax(e: Expr) -> Expr | None:
    found = _normalised(e)
    if found is None or found[0].args[1] is not TRUE:
        return None
    return _reading("log_softmax", *found)


def _reading(op: str, whole: Expr, values: Sequence[Expr]) -> Expr:
    return call("[]", red(op, whole.data[1], *whole.args), *values)


def _softmax(e: Expr) -> Expr | None:
    inner = e.args[0]
    if inner.op == "call" and inner.data == "[]" and inner.args[0].data[0] == "log_softmax" and inner.args[0].args[1] is TRUE:
        return _reading("softmax", inner.args[0], inner.args[1:])
    return None


def _guarded(e: Expr) -> Expr | None:
    """``piecewise(exp(x - logsumexp[k | g](x)) if g, 0 otherwise)`` is a guarded softmax; likewise for its logarithm."""
    [(value, condition), *more], other = branches(e)
    if more:
        return None
    op, empty = ("softmax", ZERO) if value.op == "call" and value.data == "exp" else ("log_softmax", neg(INF))
    found = _normalised(value.args[0] if op == "softmax" else value)
    if found is None or other is not empty:
        return None
    whole, values = found
    guard = replace_indices(whole.args[1], dict(zip(whole.data[1], values, strict=True)))
    return _reading(op, whole, values) if guard is condition and guard is not TRUE else None


def _alike(a: Expr, b: Expr) -> tuple[tuple[Index, ...], tuple[Expr, ...]] | None:
    """Two reductions over the same axes, opened over the same indices: these and both bodies and guards."""
    if a.op != "red" or b.op != "red" or [i.axis for i in a.data[1]] != [i.axis for i in b.data[1]]:
        return None
    new, body, guard = open_red(a)
    return new, (body, guard, *substitute(b.args[:2], {i: ix(n) for i, n in zip(b.data[1], new, strict=True)}))


def _mean(e: Expr) -> Expr | None:
    """``sum[..| g](x)/sum[..| g](1)``, or the same with a weight w whose zeros are left out."""
    pair = _alike(*e.args)
    if pair is None or e.args[0].data[0] != "sum" or e.args[1].data[0] not in ("sum", "count"):
        return None
    binders, (body, guard, weight, weight_guard) = pair
    if guard is not weight_guard:
        return None
    if weight is ONE:
        return red("mean", binders, body, guard)
    literals = conjuncts(guard)
    if body.op == "mul" and body.args[0] is weight and literals and literals[-1] is cmp("!=", weight, ZERO):
        return red("mean", binders, call("weight", body.args[1], weight), and_(*literals[:-1]))
    return None


def _cosine(e: Expr) -> Expr | None:
    """``sum[d](a*b)/(norm[d](a)*norm[d](b))`` along one named axis."""
    dot, lengths = e.args
    if dot.op != "red" or dot.data[0] != "sum" or len(dot.data[1]) != 1 or dot.args[0].op != "mul" or dot.args[1] is not TRUE:
        return None
    binders, a, b = dot.data[1], *dot.args[0].args
    if isinstance(binders[0].axis, Range) or lengths.op != "mul" or lengths.args != (red("norm", binders, a), red("norm", binders, b)):
        return None
    return red("cosine", binders, call("pair", a, b))


def _all(e: Expr) -> Expr | None:
    """``not any[.. | g](not c)`` is ``all[.. | g](c)``."""
    inside = e.args[0]
    if inside.op != "red" or inside.data[0] != "any" or inside.args[0] is TRUE:
        return None
    *guard, last = conjuncts(inside.args[0])
    return red("all", inside.data[1], last.args[0], and_(*guard)) if last.op == "not" else None


def _default(e: Expr) -> Expr | None:
    """A reduction where something is left to reduce, another value where nothing is."""
    [(value, condition), *more], other = branches(e)
    if more or value.op != "red" or value.data[0] not in DEFAULTED:
        return None
    return call("default", value, other) if _something(value, condition) else None


def _something(value: Expr, condition: Expr) -> bool:
    """Whether the condition says that the reduction is not empty."""
    if value.args[0].op == "call" and value.args[0].data == "weight":
        total = condition.args[0] if condition.op == "cmp" and condition.data == "!=" and condition.args[1] is ZERO else condition
        pair = _alike(value, total)
        if pair is None or total is condition or total.data[0] != "sum":
            return False
        _, (body, guard, weight, kept) = pair
        return body.args[1] is weight and kept is and_(guard, cmp("!=", weight, ZERO))
    if value.args[1] is TRUE:
        return condition is and_(*(cmp(">", size(b.axis), ZERO) for b in value.data[1]))
    pair = _alike(value, condition) if condition.op == "red" and condition.data[0] == "any" else None
    return pair is not None and pair[1][1] is pair[1][2]


def _chained(e: Expr) -> Expr:
    out: list[Expr] = []
    for c in conjuncts(e):
        joined = _joined(out[-1], c) if out else None
        if joined is not None:
            out[-1] = joined
        else:
            out.append(c)
    return and_(*out)


def _joined(a: Expr, b: Expr) -> Expr | None:
    """``a < b and b <= c`` as a chain, if both point the same way."""
    left, right = comparisons(a), comparisons(b)
    if not left or not right or a.args[-1] is not b.args[0]:
        return None
    if any(set(left + right) <= set(way) for way in (RISING, FALLING)):
        return call("chain " + " ".join(left + right), *a.args, *b.args[1:])
    return None


def comparisons(e: Expr) -> list[str]:
    """The operators of a comparison or of a chain of them."""
    if e.op == "cmp":
        return [str(e.data)]
    return str(e.data).split()[1:] if e.op == "call" and e.data.startswith("chain ") else []


# -- shared parts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Local:
    """A part that is printed once, under a name, over the indices that are free in it."""

    name: str
    indices: tuple[Index, ...]
    body: Expr


@dataclass(frozen=True, slots=True)
class Shared:
    """Locals, each after those it uses, and for every node that is printed as one: which, and at which indices."""

    locals: tuple[Local, ...]
    places: Mapping[Expr, tuple[Local, tuple[Index, ...]]]


@dataclass(frozen=True, slots=True)
class _Classes:
    """Nodes that are equal up to the names of free indices: the first of each class, and each node's free indices in a common order."""

    first: Mapping[Expr, Expr]
    order: Mapping[Expr, tuple[Index, ...]]


def _classes(nodes: Sequence[Expr]) -> _Classes:
    """Classes by what a node is, the classes of its parts, and which of its indices stand where in each of them."""
    numbers: dict[Any, int] = {}
    number: dict[Expr, int] = {}
    order: dict[Expr, tuple[Index, ...]] = {}
    first: dict[Expr, Expr] = {}
    leaders: dict[int, Expr] = {}
    for e in nodes:
        if e.op == "ix":
            key: Any = ("ix", e.data.axis)
            order[e] = (e.data,)
        else:
            binders = e.data[1] if e.op == "red" else ()
            place = {index: n for n, index in enumerate(dict.fromkeys((*binders, *(i for a in e.args for i in order[a]))))}
            what = (e.data[0], *(b.axis for b in binders)) if e.op == "red" else e.data
            key = (e.op, what, tuple((number[a], tuple(place[i] for i in order[a])) for a in e.args))
            order[e] = tuple(place)[len(binders) :]
        number[e] = numbers.setdefault(key, len(numbers))
        first[e] = leaders.setdefault(number[e], e)
    return _Classes(first, order)


def _worth(uses: int, weight: int) -> bool:
    """Whether a name saves more than it costs."""
    return uses > 1 and (uses - 1)*(weight - 2) >= 8


def states(e: Expr) -> bool:
    """Whether an expression is a condition, in sugar too."""
    return is_condition(e) or bool(comparisons(e)) or (e.op == "red" and e.data[0] == "all")


def _local_names(nodes: Iterable[Expr], taken: frozenset[str]) -> Iterator[str]:
    """c1, c2, .. for conditions and t1, t2, .. for other terms, as far as they are not taken."""
    supply = {word: map(f"{word}{{}}".format, count(1)) for word in "ct"}
    for e in nodes:
        yield next(name for name in supply["c" if states(e) else "t"] if name not in taken)


_DEEPEST = 100  # the reader takes a few hundred brackets one in another, and a person far fewer


def share(roots: Sequence[Expr], scope: Scope, named: Container[Expr] = ()) -> Shared:
    """What is used more than once and is large enough for a name of its own, and what would nest brackets too deep.

    Whatever is ``named`` gets a name too.
    """
    nodes = list(postorder(roots))
    classes = _classes(nodes)
    first, order = classes.first, classes.order
    leaders = [e for e in nodes if first[e] is e]
    uses = Counter(first[r] for r in roots)
    for e in leaders:
        uses.update(first[a] for a in e.args)
    weight: dict[Expr, int] = {}
    depth: dict[Expr, int] = {}
    chosen: dict[Expr, None] = {}
    for e in leaders:
        depth[e] = _depth(e, [depth[first[a]] if first[a] not in chosen else 0 for a in e.args])
        weight[e] = _weight(e, [weight[first[a]] if first[a] not in chosen else 1 + len(a.free) for a in e.args])
        if (_worth(uses[e], weight[e]) or ((depth[e] > _DEEPEST or e in named) and e not in roots)) and _nameable(e):
            chosen[e] = None
    names = _local_names(chosen, scope.taken)
    made = {e: Local(name, order[e], e) for e, name in zip(chosen, names, strict=True)}
    places = {e: (made[first[e]], order[e]) for e in nodes if first[e] in made}
    return Shared(tuple(made.values()), places)


def recursions(roots: Sequence[Expr], scope: Scope) -> tuple[tuple[Expr, ...], tuple[Local, ...], Scope]:
    """The expressions with references to locals in place of recursions, these locals, and the scope in which they have names."""
    supply = (name for name in map("u{}".format, count(1)) if name not in scope.taken)
    roots, found = named(roots, lambda _: next(supply))
    return roots, tuple(Local(r.name, r.indices, r.body) for r in found), scope.reserving(r.name for r in found)


def _depth(e: Expr, parts: Sequence[int]) -> int:
    """About how many brackets stand one in another; the left operand of a chain stands in none."""
    chain = e.op in ("add", "sub", "mul", "div", "and", "or")
    return max((d + (not chain or k > 0) for k, d in enumerate(parts)), default=0)


def _weight(e: Expr, parts: Sequence[int]) -> int:
    """About how many symbols the node prints."""
    if e.op == "ref":
        return 1 + sum(w for a, w in zip(e.args, parts, strict=True) if a.op != "ix")
    if e.op == "bool":
        return 0
    if e.op == "call" and e.data == "[]":
        return parts[0] + sum(w for a, w in zip(e.args[1:], parts[1:], strict=True) if a.op != "ix")
    return 1 + sum(parts)


def _nameable(e: Expr) -> bool:
    """What a mean weighs or a cosine compares is no expression by itself, and a number read from a condition stays visible as one."""
    if e.op == "list" or e.op == "call" and e.data in ("weight", "pair", "descending"):
        return False
    return e.op != "iverson" and not (e.op == "red" and e.data[0] in ("softmax", "log_softmax", "sort", "argsort"))


# -- names of indices -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """How the indices in sight are printed, and the names that no new index may take."""

    names: dict[Index, str]
    taken: frozenset[str]

    def bind(self, pairs: Iterable[tuple[Index, str]]) -> Scope:
        new = dict(pairs)
        return Scope({**self.names, **new}, self.taken | frozenset(new.values()))

    def reserving(self, names: Iterable[str]) -> Scope:
        return Scope(self.names, self.taken.union(names))

    def index(self, name: str) -> Index | None:
        """The index that a name stands for, the innermost one."""
        return next((i for i in reversed(self.names) if self.names[i] == name), None)

    def name(self, index: Index) -> str:
        if index in self.names:
            return self.names[index]
        match index.tag:
            case str():
                return index.tag
            case int():
                return f"{_axis_word(index)}_{index.tag}"
            case (height, place):
                return f"{_axis_word(index)}_{height}_{place}"


def _axis_word(index: Index) -> str:
    return index.axis if isinstance(index.axis, str) else "range"


class Names:
    """Gives indices readable names: an axis' own where no other index over it is about, else i, j, ..."""

    def __init__(self, inputs: Sequence[Input | Param]) -> None:
        self.inputs = {i.name: i for i in inputs}
        self.ignoring = [i for i in inputs if i.kind.ignore is not None]
        self.standing: dict[str, list[str]] = {}
        for i in inputs:
            for axis, own in i.kind.axes:
                known = self.standing.setdefault(axis, [axis])
                if own not in known:
                    known.append(own)

    def own(self, axis: str | Range) -> list[str]:
        """The names that stand for an index along the axis without being introduced."""
        return [] if isinstance(axis, Range) else self.standing.get(axis, [axis])

    def axes(self, e: Expr) -> list[tuple[str | Range, str]]:
        """The (axis, own name) pairs of a reference; of an unknown name as its indices tell."""
        if e.data in self.inputs:
            return list(self.inputs[e.data].kind.axes)
        return [(a.data.axis, _axis_word(a.data)) if a.op == "ix" else ("", "") for a in e.args]

    def choose(self, binders: Sequence[Index], parts: Sequence[Expr], scope: Scope) -> list[tuple[Index, str]]:
        free = frozenset[Index]().union(*(p.free for p in parts)) - frozenset(binders)
        visible = {scope.name(i) for i in free}
        chosen: list[tuple[Index, str]] = []
        for b in binders:
            used = visible.union(name for _, name in chosen)
            chosen.append((b, self._own_name(b, parts, used) or self._new_name(b, scope, {n for _, n in chosen})))
        return chosen

    def declare(self, local: Local, scope: Scope) -> list[tuple[Index, str]]:
        """Names for the indices of a local that is read like an input: an axis' own, further ones over it after it."""
        out: list[tuple[Index, str]] = []
        for b in local.indices:
            axis = _axis_word(b)
            new = isinstance(b.axis, Range) or any(n == axis for _, n in out)
            out.append((b, self._new_name(b, scope, {n for _, n in out}) if new else axis))
        pairs: list[tuple[Any, str]] = [(i.axis, n) for i, n in out]
        self.inputs[local.name] = Input(local.name, Kind(axes=tuple(pairs)))
        return out

    def _own_name(self, b: Index, parts: Sequence[Expr], used: set[str]) -> str | None:
        votes: Counter[str] = Counter()
        alone = True
        stack, seen = [p for p in parts if b in p.free], set()
        while stack:
            e = stack.pop()
            if e in seen:
                continue
            seen.add(e)
            alone = alone and not any(i.axis == b.axis and i != b for i in e.free)
            if e.op == "ref" and e.data in self.inputs:
                votes.update(own for a, (_, own) in zip(e.args, self.axes(e), strict=True) if a.op == "ix" and a.data == b)
            stack += [a for a in e.args if b in a.free]
        names = [n for n in self.own(b.axis) if n not in used and (alone or votes[n])]
        if not alone and len(self.own(b.axis)) == 1:
            return None
        return max(names, key=lambda n: votes[n], default=None)

    def _new_name(self, b: Index, scope: Scope, used: set[str]) -> str:
        pool = chain("ijl", (f"{_axis_word(b)}{n}" for n in count(2)))
        return next(n for n in pool if n not in scope.taken and n not in used)


def axes(roots: Iterable[Expr]) -> set[str]:
    """The named axes that are bound or measured."""
    found = set()
    for e in postorder(roots):
        found |= {e.data} if e.op == "size" else {b.axis for b in e.data[1]} if e.op in BINDING else set()
    return {a for a in found if isinstance(a, str)}


def reserved(program: Program) -> frozenset[str]:
    """Every name that an index or a local of the program must not take."""
    inputs, params = program.inputs, program.params
    names = {i.name for i in inputs} | {p.name for p in params} | {f.name for f in program.functions}
    kinds = [k for f in program.functions if f.kind is not None for k in (*f.kind.arguments, f.kind.result)]
    for kind in (*(i.kind for i in inputs), *(p.kind for p in params), *kinds):
        names |= {n for pair in kind.axes for n in pair} | ({kind.of} if kind.of else set())
    names |= {str(i.tag) for o in program.outputs for i in o.indices}
    return WORDS | names | axes((*program.roots, *program.requires))


# Reserved words, annotations, constants, the calling convention's names, and the names that stand for inputs where none are declared.
WORDS = frozenset(
    {
        "where", "if", "otherwise", "in", "and", "or", "not", "pi", "inf", "f", "y", "r", "z", "reduction", "sample_weight",
        "sample_mask", "check", "survey", "claim", "source", "note", "wrt", "batch", "require", "oracle",
    }
)  # fmt: skip
