"""Interned expressions: about twenty node kinds, binders with canonical indices, and an iterative fold.

An expression is a node ``Expr(op, args, data)``. Nodes are hash-consed, so equality is identity, and equal means equal up to
the names of bound indices. Constructors fold numbers and nothing else: no rewriting happens behind the writer's back.

==========  ===========================  ==============================================================================
op          args                         data
==========  ===========================  ==============================================================================
num         -                            a Fraction
const       -                            ``"pi"``, ``"inf"``, ``"nan"``
ref         one index value per axis     name of an input or hyper-parameter (a hyper-parameter without axes has no args)
ix          -                            an Index; its value is the position along its axis, counted from 0
size        -                            name of an axis
add sub     a, b
mul div
pow         base, exponent               0^0 = 1; a negative base takes integer exponents only
neg         a
call        arguments                    name of a row of ``functions``
cmp         a, b                         ``< <= > >= == !=``; false on NaN (``!=`` true)
and or      conditions, two              the right one is looked at only where the left one does not decide
not         a condition
bool        -                            True or False
iverson     a condition                  1 where it holds, else 0 (the strong zero is already lowered to ``pw``)
pw          v1, c1, v2, c2, ..., other   first branch whose condition holds
red         body, guard                  (operation, binders): sum prod max min logsumexp norm any argmax argmin
red         body, guard, place           ("argsort", (binder,)): the index of the element that stands at that place
list        anything                     the body of an operation of several parts; see ``applied``
scan        body, one place per binder   (step, (state, binders)): an array given by itself, at a place
rec         one index value per binder   (state, axes): in the body of a scan, the array that it gives
==========  ===========================  ==============================================================================

In a reduction the binders stand in the body and in the guard as ordinary ``ix`` nodes whose tag is ``(height, position)``,
where the height counts the reductions nested inside; ``open_red`` gives fresh ones before anything inside is rewritten. The
place of an argsort counts from 0 in the stable ascending order of the elements that the guard leaves, NaN last; it stands
outside of the binder. Beyond the last element there is no index, as there is no argmax of nothing.

A scan is the array ``G[t, s, ..] = body`` at the index values that follow the body. The body reads ``G`` itself, as ``rec``,
at smaller positions along the first axis (step 1) or at larger ones (step -1), and nowhere else; outside of its axes ``G`` is
NaN. The name of ``G`` is an index too, the *state*, so that it is bound, renamed and opened as the others are. The binders of
a scan are all indices that its body depends on, each of them once: what is free in a body becomes one (see ``scan``).
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """The axis of an integer range ``lo..hi``, both ends included; the ends hold no index."""

    lo: Expr
    hi: Expr

    def __str__(self) -> str:
        return f"{self.lo!r}..{self.hi!r}"


Axis = str | Range
Tag = str | int | tuple[int, int]
STATE = "~state"  # the axis of the index that names a recursion in its own body
BINDING = ("red", "scan")


@dataclass(frozen=True, slots=True)
class Index:
    """A position along an axis. The tag is a written name (str), a fresh number (int) or a binder's place (tuple)."""

    axis: Axis
    tag: Tag

    @property
    def bound(self) -> bool:
        return isinstance(self.tag, tuple)


class Expr:
    """One interned node; see the module's table. Never built directly: use the constructors below."""

    __slots__ = ("op", "args", "data", "free", "height", "__weakref__")

    op: str
    args: tuple[Expr, ...]
    data: Any
    free: frozenset[Index]
    height: int

    def __repr__(self) -> str:
        from lossdsl.ir.text import expression

        return expression(self)

    def __reduce__(self) -> Any:
        raise TypeError("expressions are interned and do not pickle; pickle the loss, which travels as text")


_table: weakref.WeakValueDictionary[tuple[str, tuple[Expr, ...], Any], Expr] = weakref.WeakValueDictionary()
_lock = threading.RLock()
_fresh = itertools.count()
_NONE: frozenset[Index] = frozenset()


def _make(op: str, args: tuple[Expr, ...] = (), data: Any = None) -> Expr:
    key = (op, args, data)
    with _lock:
        found = _table.get(key)
        if found is not None:
            return found
        e = object.__new__(Expr)
        e.op, e.args, e.data = op, args, data
        if op == "ix":
            e.free, e.height = frozenset((data,)), 0
        elif not args:
            e.free, e.height = _NONE, 0
        else:
            free = args[0].free
            if op == "scan":
                free = free - frozenset(data[1])
            for a in args[1:]:
                if a.free is not free and a.free:
                    free = free | a.free if free else a.free
            e.height = max(a.height for a in args)
            if op == "red":
                free = free - frozenset(data[1])
                e.height += 1
            elif op == "scan":
                e.height = max(e.height, args[0].height + 1)
            elif op == "rec":
                free = free | {data[0]}
            e.free = free or _NONE
        _table[key] = e
        return e


def restored(op: str, args: tuple[Expr, ...], data: Any = None) -> Expr:
    """The node that was made of these parts before and written down: nothing is folded anew."""
    return _make(op, args, data)


def live() -> int:
    """How many nodes there are: what bounds the work of writing names out."""
    return len(_table)


# -- leaves -----------------------------------------------------------------------------------------------------------


def num(value: int | Fraction | str) -> Expr:
    """An exact number; a string is read as written, ``"0.1"`` is 1/10."""
    return _make("num", (), Fraction(value))


ZERO, ONE, TWO = num(0), num(1), num(2)
HALF, MINUS_ONE = num(Fraction(1, 2)), num(-1)
TRUE, FALSE = _make("bool", (), True), _make("bool", (), False)
PI, INF, NAN = (_make("const", (), name) for name in ("pi", "inf", "nan"))


def boolean(value: bool) -> Expr:
    return TRUE if value else FALSE


def ref(name: str, indices: Sequence[Expr] = ()) -> Expr:
    """An input at the given index values (in the declared order of its axes), or a hyper-parameter."""
    return _make("ref", tuple(indices), name)


def ix(index: Index) -> Expr:
    return _make("ix", (), index)


def size(axis: Axis) -> Expr:
    """The length of an axis; of a range, ``max(hi - lo + 1, 0)``."""
    if isinstance(axis, Range):
        length = _shifted(axis.hi, 1 - axis.lo.data) if axis.lo.op == "num" else add(sub(axis.hi, axis.lo), ONE)
        return num(max(length.data, 0)) if length.op == "num" else call("max", length, ZERO)
    return _make("size", (), axis)


def _shifted(e: Expr, by: Fraction) -> Expr:
    """A number above or below an expression, together with one that it ends in."""
    if e.op in ("add", "sub") and e.args[1].op == "num":
        by, e = by + (e.args[1].data if e.op == "add" else -e.args[1].data), e.args[0]
    return add(e, num(by)) if by >= 0 else sub(e, num(-by))


def fresh(axis: Axis) -> Index:
    """A new index that occurs nowhere else."""
    return Index(axis, next(_fresh))


# -- arithmetic: numbers are folded, neutral elements dropped, nothing else -------------------------------------------


_MOST_BITS = 20_000  # numbers that would grow beyond are left as they are written


def _bits(a: Expr) -> int:
    return int(a.data.numerator.bit_length() + a.data.denominator.bit_length())


def add(a: Expr, b: Expr) -> Expr:
    if a.op == "num" and b.op == "num" and _bits(a) + _bits(b) <= _MOST_BITS:
        return num(a.data + b.data)
    if a is ZERO:
        return b
    if b is ZERO:
        return a
    return _make("add", (a, b))


def sub(a: Expr, b: Expr) -> Expr:
    if a.op == "num" and b.op == "num" and _bits(a) + _bits(b) <= _MOST_BITS:
        return num(a.data - b.data)
    if b is ZERO:
        return a
    if a is ZERO:
        return neg(b)
    return _make("sub", (a, b))


def mul(a: Expr, b: Expr) -> Expr:
    if a.op == "num" and b.op == "num" and _bits(a) + _bits(b) <= _MOST_BITS:
        return num(a.data * b.data)
    if a is ONE:
        return b
    if b is ONE:
        return a
    return _make("mul", (a, b))


def div(a: Expr, b: Expr) -> Expr:
    if a.op == "num" and b.op == "num" and b.data != 0 and _bits(a) + _bits(b) <= _MOST_BITS:
        return num(a.data / b.data)
    if b is ONE:
        return a
    return _make("div", (a, b))


def neg(a: Expr) -> Expr:
    if a.op == "num":
        return num(-a.data)
    if a.op == "neg":
        return a.args[0]
    return _make("neg", (a,))


def pow_(a: Expr, b: Expr) -> Expr:
    if b is ONE:
        return a
    exact = a.op == "num" and b.op == "num" and b.data.denominator == 1 and abs(b.data) <= 64 and (a.data != 0 or b.data >= 0)
    if exact and _bits(a) * abs(b.data) <= _MOST_BITS:
        return num(a.data ** int(b.data))
    return _make("pow", (a, b))


def call(name: str, *args: Expr) -> Expr:
    return _make("call", args, name)


def listing(parts: Iterable[Expr]) -> Expr:
    """Several expressions as the body of one operation."""
    return _make("list", tuple(parts))


def stop(a: Expr) -> Expr:
    """The value of ``a``, through which no derivative flows."""
    return a if a.op in ("num", "const", "ix", "size") else _make("call", (a,), "stop")


def total(terms: Iterable[Expr]) -> Expr:
    """A sum of terms, left to right; 0 if there are none."""
    out = ZERO
    for t in terms:
        out = sub(out, t.args[0]) if t.op == "neg" and out is not ZERO else add(out, t)
    return out


def product(factors: Iterable[Expr]) -> Expr:
    out = ONE
    for f in factors:
        out = mul(out, f)
    return out


# -- conditions -------------------------------------------------------------------------------------------------------

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


def cmp(op: str, a: Expr, b: Expr) -> Expr:
    if a.op == "num" and b.op == "num":
        return boolean(_COMPARE[op](a.data, b.data))
    if a is b and a.op in ("ix", "size"):
        return boolean(op in ("<=", ">=", "=="))
    return _make("cmp", (a, b), op)


def and_(*conditions: Expr) -> Expr:
    """The conjunction, left to right; true if there are none."""
    flat = list(dict.fromkeys(c for x in conditions for c in conjuncts(x)))
    if FALSE in flat:
        return FALSE
    out = TRUE
    for c in flat:
        out = c if out is TRUE else _make("and", (out, c))
    return out


def or_(*conditions: Expr) -> Expr:
    out = FALSE
    for c in conditions:
        if c is TRUE or out is TRUE:
            return TRUE
        out = c if out is FALSE else out if c is FALSE or c is out else _make("or", (out, c))
    return out


def not_(a: Expr) -> Expr:
    if a.op == "bool":
        return boolean(not a.data)
    return a.args[0] if a.op == "not" else _make("not", (a,))


def conjuncts(a: Expr) -> list[Expr]:
    """The conditions that ``a`` joins by ``and``, in order; none if it is true."""
    out: list[Expr] = []
    stack = [a]
    while stack:
        c = stack.pop()
        if c.op == "and":
            stack += (c.args[1], c.args[0])
        elif c is not TRUE:
            out.append(c)
    return out


def disjuncts(a: Expr) -> list[Expr]:
    """The conditions that ``a`` joins by ``or``, in order."""
    out: list[Expr] = []
    stack = [a]
    while stack:
        c = stack.pop()
        if c.op == "or":
            stack += (c.args[1], c.args[0])
        else:
            out.append(c)
    return out


def iverson(condition: Expr) -> Expr:
    if condition.op == "bool":
        return ONE if condition.data else ZERO
    return _make("iverson", (condition,))


def pw(branches: Iterable[tuple[Expr, Expr]], otherwise: Expr = NAN) -> Expr:
    """First value whose condition holds, tried in order, else ``otherwise``."""
    kept: list[Expr] = []
    for value, condition in branches:
        if condition is FALSE:
            continue
        if condition is TRUE:
            otherwise = value
            break
        kept += (value, condition)
    return _make("pw", (*kept, otherwise)) if kept else otherwise


def branches(e: Expr) -> tuple[list[tuple[Expr, Expr]], Expr]:
    """The (value, condition) pairs of a ``pw`` and its last value."""
    return list(zip(e.args[:-1:2], e.args[1::2], strict=True)), e.args[-1]


def is_condition(e: Expr) -> bool:
    return e.op in ("cmp", "and", "or", "not", "bool") or (e.op == "red" and e.data[0] == "any")


# -- binders ----------------------------------------------------------------------------------------------------------


Memos = dict[tuple[Index, ...], dict[Expr, Expr]]  # what substitutions of the same indices by the same have found


def red(op: Any, binders: Sequence[Index], body: Expr, guard: Expr = TRUE, *rest: Expr, memos: Memos | None = None) -> Expr:
    """A reduction of ``body`` over the binders where ``guard`` holds; the binders get their canonical places.

    ``rest`` are the arguments in which the binders do not stand. An ``any`` takes its guard into the body.
    """
    if op == "any":
        body, guard = and_(guard, body), TRUE
    height = max(body.height, guard.height) + 1
    places = tuple(Index(b.axis, (height, k)) for k, b in enumerate(binders))
    if places != tuple(binders):
        mapping = {b: ix(p) for b, p in zip(binders, places, strict=True)}
        memo = None if memos is None else memos.setdefault((*binders, *places), {})
        body, guard = substitute((body, guard), mapping, memo)
    return _make("red", (body, guard, *rest), (op, places))


def open_red(e: Expr) -> tuple[tuple[Index, ...], Expr, Expr]:
    """Fresh binders of a reduction, with its body and guard over them."""
    binders = e.data[1]
    new = tuple(fresh(b.axis) for b in binders)
    body, guard = substitute(e.args[:2], {b: ix(n) for b, n in zip(binders, new, strict=True)})
    return new, body, guard


def inside(e: Expr) -> tuple[Expr, ...]:
    """The arguments of a reduction or scan in which its binders stand."""
    return e.args[: 2 if e.op == "red" else 1]


def outside(e: Expr) -> tuple[Expr, ...]:
    """The arguments of a reduction or scan in which its binders do not stand: they come last."""
    return e.args[2 if e.op == "red" else 1 :]


def rec(state: Index, axes: Sequence[Axis], places: Sequence[Expr]) -> Expr:
    """The array that the scan of this state gives, in its own body, at a place."""
    return _make("rec", tuple(places), (state, tuple(axes)))


def scan(step: int, binders: Sequence[Index], body: Expr, at: Sequence[Expr], *, memos: Memos | None = None) -> Expr:
    """The array ``G[binders[1:]] = body`` at a place, where ``binders[0]`` is the state by which the body reads ``G``.

    What else is free in the body becomes a binder, and one that the body neither uses nor moves is none, so that equal arrays
    are equal nodes. A body that does not read the array is no recursion: it stands for itself, inside of the axes.
    """
    state, *own = binders
    found = _Recursion(state, own, body)
    if not found.uses:
        (value,) = substitute((body,), dict(zip(own, at, strict=True)))
        return pw([(value, and_(*(on_axis(a, b.axis) for a, b in zip(at, own, strict=True))))], NAN)
    body, own, at = found.closed(at)
    height = body.height + 1
    places = (Index(STATE, (height, 0)), *(Index(b.axis, (height, k + 1)) for k, b in enumerate(own)))
    if places != (state, *own):
        mapping = {b: ix(p) for b, p in zip((state, *own), places, strict=True)}
        memo = None if memos is None else memos.setdefault((state, *own, *places), {})
        (body,) = substitute((body,), mapping, memo)
    return _make("scan", (body, *at), (step, places))


class _Recursion:
    """What the body of a scan depends on: its readings of itself, and how each binder occurs."""

    def __init__(self, state: Index, own: Sequence[Index], body: Expr) -> None:
        self.state, self.own, self.body = state, list(own), body
        self.axes = tuple(b.axis for b in own)
        self.uses: list[Expr] = []
        self.used = {body.data} if body.op == "ix" else set[Index]()
        moved: set[int] = {0}
        for x in postorder((body,)):
            if x.op == "rec" and x.data[0] == state:
                self.uses.append(x)
                here = {k for k, (a, b) in enumerate(zip(x.args, own, strict=True)) if a.op == "ix" and a.data == b}
                moved.update(k for k in range(len(own)) if k not in here)
                self.used.update(a.data for k, a in enumerate(x.args) if a.op == "ix" and k not in here)
            else:
                self.used.update(a.data for a in x.args if a.op == "ix")
        self.kept = [k for k, b in enumerate(own) if k in moved or b in self.used]

    def closed(self, at: Sequence[Expr]) -> tuple[Expr, list[Index], list[Expr]]:
        """The body without idle binders and with all that is free as one, the binders, and the place that a place becomes."""
        more = [i for i in free_in_order(self.body) if i not in self.own and i.axis != STATE]
        if not more and len(self.kept) == len(self.own) and all(x.data[1] == self.axes for x in self.uses):
            return self.body, self.own, list(at)
        new = [fresh(i.axis) for i in more]
        own = [*(self.own[k] for k in self.kept), *new]
        axes = [b.axis for b in own]

        def read(places: Sequence[Expr]) -> Expr:
            return rec(self.state, axes, [*(places[k] for k in self.kept), *(ix(i) for i in new)])

        (body,) = replace_indices_and_recs((self.body,), dict(zip(more, map(ix, new), strict=True)), {self.state: read})
        return body, own, [*(at[k] for k in self.kept), *(ix(i) for i in more)]


def replace_indices_and_recs(roots: Sequence[Expr], mapping: Mapping[Index, Expr], reads: Reads) -> tuple[Expr, ...]:
    """The expressions with free indices replaced, then the readings of some recursions."""
    return replace_recs(substitute(roots, mapping) if mapping else tuple(roots), reads)


Reads = Mapping[Index, Callable[[Sequence[Expr]], Expr]]


def replace_recs(roots: Sequence[Expr], reads: Reads) -> tuple[Expr, ...]:
    """The expressions with every reading of a recursion replaced by what ``reads[state]`` gives for its place."""

    def visit(e: Expr) -> Expr:
        return reads[e.data[0]](e.args) if e.op == "rec" and e.data[0] in reads else e

    return rewrite(roots, visit, only=frozenset(reads))


def on_axis(value: Expr, axis: Axis) -> Expr:
    """The condition that an index value lies on an axis; true for an index along it."""
    if value.op == "ix" and value.data.axis == axis:
        return TRUE
    if isinstance(axis, Range):
        return and_(cmp("<=", axis.lo, value), cmp("<=", value, axis.hi))
    return and_(cmp(">=", value, ZERO), cmp("<", value, size(axis)))


def open_any(e: Expr) -> tuple[tuple[Index, ...], tuple[Expr, ...]]:
    """Fresh binders of a reduction or scan, with its arguments: those that they reach are over them."""
    new = tuple(fresh(b.axis) for b in e.data[1])
    return new, (*substitute(inside(e), {b: ix(i) for b, i in zip(e.data[1], new, strict=True)}), *outside(e))


def close_any(e: Expr, binders: Sequence[Index], args: Sequence[Expr], memos: Memos | None = None) -> Expr:
    """A reduction or scan like ``e`` of other arguments, over other binders."""
    if e.op == "red":
        return red(e.data[0], binders, *args, memos=memos)
    if args[0] is e.args[0] and tuple(binders) == e.data[1]:
        return _make("scan", tuple(args), e.data)
    return scan(e.data[0], binders, args[0], args[1:], memos=memos)


def instance(pattern: Expr, binders: Sequence[Index], e: Expr) -> tuple[Expr, ...] | None:
    """The values of the binders at which the pattern is ``e``, if there are any and they are determined."""
    found: dict[Index, Expr] = {}
    stack, seen = [(pattern, e)], set()
    while stack:
        p, q = stack.pop()
        if (p, q) in seen or p.free.isdisjoint(binders):
            continue
        seen.add((p, q))
        if p.op == "ix":
            found.setdefault(p.data, q)
        elif p.op == q.op and p.data == q.data and len(p.args) == len(q.args):
            stack += zip(p.args, q.args, strict=True)
        else:
            return None
    if len(found) < len(binders) or replace_indices(pattern, found) is not e:
        return None
    return tuple(found[b] for b in binders)


def rebuild(e: Expr, args: Sequence[Expr]) -> Expr:
    """The node with other arguments, through its constructor. Not for reductions whose inside was rewritten unopened."""
    match e.op:
        case "add":
            return add(*args)
        case "sub":
            return sub(*args)
        case "mul":
            return mul(*args)
        case "div":
            return div(*args)
        case "pow":
            return pow_(*args)
        case "neg":
            return neg(*args)
        case "call":
            return stop(args[0]) if e.data == "stop" else call(e.data, *args)
        case "cmp":
            return cmp(e.data, *args)
        case "and":
            return and_(*args)
        case "or":
            return or_(*args)
        case "not":
            return not_(*args)
        case "iverson":
            return iverson(*args)
        case "pw":
            return pw(zip(args[:-1:2], args[1::2], strict=True), args[-1])
        case "ref":
            return ref(e.data, args)
        case "list":
            return listing(args)
        case "red" | "scan":
            return close_any(e, e.data[1], args)
        case "rec":
            return rec(e.data[0], e.data[1], args)
    return e


def substitute(roots: Sequence[Expr], mapping: Mapping[Index, Expr], memo: dict[Expr, Expr] | None = None) -> tuple[Expr, ...]:
    """The expressions with free indices replaced; never captures. A ``memo`` carries results on to a call with the same mapping."""
    keys = frozenset(mapping)
    memo = {} if memo is None else memo
    tags = {i.tag[0] for value in mapping.values() for i in value.free if isinstance(i.tag, tuple)}
    flat = all(value.height == 0 for value in mapping.values())
    stack: list[Expr] = list(roots)
    while stack:
        e = stack[-1]
        if e in memo:
            stack.pop()
            continue
        if e.op == "ix":
            memo[e] = mapping.get(e.data, e)
        elif keys.isdisjoint(e.free):
            memo[e] = e
        elif e.op in BINDING and (not flat or any(b.tag[0] in tags for b in e.data[1])):
            binders, parts = open_any(e)
            memo[e] = close_any(e, binders, substitute(parts, mapping))
        else:
            todo = [a for a in e.args if a not in memo]
            if todo:
                stack += todo
                continue
            args = tuple(memo[a] for a in e.args)
            if e.op == "rec" and e.data[0] in mapping:
                memo[e] = rec(mapping[e.data[0]].data, e.data[1], args)
            else:
                memo[e] = rebuild(e, args)
        stack.pop()
    return tuple(memo[e] for e in roots)


def replace_indices(e: Expr, mapping: Mapping[Index, Expr]) -> Expr:
    return substitute((e,), mapping)[0]


def free_in_order(e: Expr) -> list[Index]:
    """Free indices by first occurrence, so that the order does not depend on their names."""
    found: dict[Index, None] = {}
    seen: set[Expr] = set()
    stack = [e]
    while stack and len(found) < len(e.free):
        x = stack.pop()
        if x.op == "ix":
            if x.data in e.free:
                found[x.data] = None
        elif x not in seen and not e.free.isdisjoint(x.free):
            seen.add(x)
            stack += reversed(x.args)
    return list(found)


def canonical(e: Expr) -> tuple[Expr, tuple[Index, ...]]:
    """The expression over slots that stand for its free indices in order of first occurrence; a scan at slots for its place."""
    if e.op == "scan":
        slots = tuple(Index(b.axis, f"~{k}") for k, b in enumerate(e.data[1][1:]))
        return rebuild(e, (e.args[0], *map(ix, slots))), slots
    free = free_in_order(e) if e.free else []
    slots = tuple(Index(i.axis, f"~{k}") for k, i in enumerate(free))
    changed = {i: ix(s) for i, s in zip(free, slots, strict=True) if i != s}
    return (replace_indices(e, changed) if changed else e), slots


# -- walking ----------------------------------------------------------------------------------------------------------


def postorder(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every node once, arguments first; reductions are walked into as they stand (bound indices and all)."""
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        e, done = stack.pop()
        if done:
            yield e
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack += [(a, False) for a in reversed(e.args) if a not in seen]
            if e.op in BINDING:
                ends = [x for b in e.data[1] if isinstance(b.axis, Range) for x in (b.axis.lo, b.axis.hi)]
                stack += [(x, False) for x in ends if x not in seen]


def fold(roots: Iterable[Expr], visit: Callable[[Expr, list[T]], T]) -> dict[Expr, T]:
    """``visit(node, results of its arguments)`` for every node, arguments first, without Python recursion."""
    out: dict[Expr, T] = {}
    for e in postorder(roots):
        out[e] = visit(e, [out[a] for a in e.args])
    return out


def rewrite(
    roots: Sequence[Expr], visit: Callable[[Expr], Expr], *, under: bool = True, only: frozenset[Index] | None = None
) -> tuple[Expr, ...]:
    """Rebuild bottom-up, each rebuilt node passed through ``visit``; binders are opened before their inside is rewritten.

    With ``under=False`` the insides of reductions and scans are left alone; ``only`` names free indices without which a node is.
    """
    memo: dict[Expr, Expr] = {}
    opened: dict[Expr, tuple[tuple[Index, ...], tuple[Expr, ...]]] = {}
    names: dict[Index, Index] = {}
    memos: Memos = {}
    stack: list[Expr] = list(roots)
    while stack:
        e = stack[-1]
        if e in memo:
            stack.pop()
            continue
        if only is not None and only.isdisjoint(e.free):
            memo[e] = e
            continue
        binders: tuple[Index, ...] = ()
        args: Sequence[Expr] = e.args
        if e.op in BINDING and under:
            if e not in opened:
                opened[e] = open_alike(e, names, memos)
            binders, args = opened[e]
        elif e.op in BINDING:
            args = outside(e)
        todo = [a for a in args if a not in memo]
        if todo:
            stack += todo
            continue
        stack.pop()
        new = [memo[a] for a in args]
        if e.op in BINDING:
            memo[e] = visit(close_any(e, binders, new, memos) if under else rebuild(e, (*inside(e), *new)))
        else:
            memo[e] = visit(rebuild(e, new))
    return tuple(memo[e] for e in roots)


def open_alike(e: Expr, names: dict[Index, Index], memos: Memos) -> tuple[tuple[Index, ...], tuple[Expr, ...]]:
    """``open_any`` where one place always gets one name, so that what two reductions share stays shared.

    The names are good for one walk over an expression. They do not clash, as the heights of nested reductions differ; where a
    rewrite made a reduction as high as one around it, it gets new names.
    """
    binders = e.data[1]
    if any(names.get(b) in e.free for b in binders):
        return open_any(e)
    new = tuple(names.setdefault(b, fresh(b.axis)) for b in binders)
    mapping = {b: ix(i) for b, i in zip(binders, new, strict=True)}
    return new, (*substitute(inside(e), mapping, memos.setdefault(binders, {})), *outside(e))


def assign(roots: Sequence[Expr], values: Mapping[str, Expr]) -> tuple[Expr, ...]:
    """The expressions with hyper-parameters replaced, in the ends of integer ranges too."""
    return replace_leaves(roots, {ref(name): value for name, value in values.items()})


def replace_leaves(roots: Sequence[Expr], values: Mapping[Expr, Expr]) -> tuple[Expr, ...]:
    """The expressions with hyper-parameters or lengths replaced by others, in the ends of integer ranges too."""

    def visit(e: Expr) -> Expr:
        if not e.args:
            return values.get(e, e)
        return _reranged(e, visit) if e.op in BINDING else e

    return rewrite(roots, visit)


def _reranged(e: Expr, visit: Callable[[Expr], Expr]) -> Expr:
    """A reduction or scan with the ends of its ranges rewritten."""
    axes = [Range(*rewrite((b.axis.lo, b.axis.hi), visit)) if isinstance(b.axis, Range) else b.axis for b in e.data[1]]
    if all(axis == b.axis for axis, b in zip(axes, e.data[1], strict=True)):
        return e
    binders, args = open_any(e)
    new = tuple(fresh(axis) for axis in axes)
    mapping = {b: ix(i) for b, i in zip(binders, new, strict=True)}
    return close_any(e, new, substitute(args, mapping))


def references(roots: Iterable[Expr]) -> set[str]:
    """Names of the inputs and hyper-parameters that occur."""
    return {e.data for e in postorder(roots) if e.op == "ref"}


def count_nodes(roots: Iterable[Expr]) -> int:
    return sum(1 for _ in postorder(roots))
