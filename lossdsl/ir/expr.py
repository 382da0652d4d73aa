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
==========  ===========================  ==============================================================================

In a reduction the binders stand in the body and in the guard as ordinary ``ix`` nodes whose tag is ``(height, position)``,
where the height counts the reductions nested inside; ``open_red`` gives fresh ones before anything inside is rewritten. The
place of an argsort counts from 0 in the stable ascending order of the elements that the guard leaves, NaN last; it stands
outside of the binder. Beyond the last element there is no index, as there is no argmax of nothing.
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
            for a in args[1:]:
                if a.free is not free and a.free:
                    free = free | a.free if free else a.free
            e.height = max(a.height for a in args)
            if op == "red":
                free = free - frozenset(data[1])
                e.height += 1
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


def outside(e: Expr) -> tuple[Expr, ...]:
    """The arguments of a reduction in which its binders do not stand."""
    return e.args[2:]


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
        case "red":
            return red(e.data[0], e.data[1], *args)
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
        elif e.op == "red" and (not flat or any(b.tag[0] in tags for b in e.data[1])):
            binders, body, guard = open_red(e)
            body, guard, *rest = substitute((body, guard, *outside(e)), mapping)
            memo[e] = red(e.data[0], binders, body, guard, *rest)
        else:
            todo = [a for a in e.args if a not in memo]
            if todo:
                stack += todo
                continue
            memo[e] = rebuild(e, [memo[a] for a in e.args])
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
    """The expression over slots that stand for its free indices in order of first occurrence."""
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
            if e.op == "red":
                ends = [x for b in e.data[1] if isinstance(b.axis, Range) for x in (b.axis.lo, b.axis.hi)]
                stack += [(x, False) for x in ends if x not in seen]


def fold(roots: Iterable[Expr], visit: Callable[[Expr, list[T]], T]) -> dict[Expr, T]:
    """``visit(node, results of its arguments)`` for every node, arguments first, without Python recursion."""
    out: dict[Expr, T] = {}
    for e in postorder(roots):
        out[e] = visit(e, [out[a] for a in e.args])
    return out


def rewrite(roots: Sequence[Expr], visit: Callable[[Expr], Expr], *, under: bool = True) -> tuple[Expr, ...]:
    """Rebuild bottom-up, each rebuilt node passed through ``visit``; reductions are opened before their inside is rewritten.

    With ``under=False`` the insides of reductions are left alone.
    """
    memo: dict[Expr, Expr] = {}
    opened: dict[Expr, tuple[tuple[Index, ...], Expr, Expr]] = {}
    names: dict[Index, Index] = {}
    memos: Memos = {}
    stack: list[Expr] = list(roots)
    while stack:
        e = stack[-1]
        if e in memo:
            stack.pop()
            continue
        if e.op == "red" and under:
            if e not in opened:
                opened[e] = open_alike(e, names, memos)
            binders, *args = *opened[e], *outside(e)
        else:
            binders, args = (), list(e.args) if e.op != "red" else []
        todo = [a for a in args if a not in memo]
        if todo:
            stack += todo
            continue
        stack.pop()
        if e.op == "red":
            memo[e] = visit(red(e.data[0], binders, *(memo[a] for a in args), memos=memos) if under else e)
        else:
            memo[e] = visit(rebuild(e, [memo[a] for a in args]))
    return tuple(memo[e] for e in roots)


def open_alike(e: Expr, names: dict[Index, Index], memos: Memos) -> tuple[tuple[Index, ...], Expr, Expr]:
    """``open_red`` where one place always gets one name, so that what two reductions share stays shared.

    The names are good for one walk over an expression. They do not clash, as the heights of nested reductions differ; where a
    rewrite made a reduction as high as one around it, it gets new names.
    """
    binders = e.data[1]
    if any(names.get(b) in e.free for b in binders):
        return open_red(e)
    new = tuple(names.setdefault(b, fresh(b.axis)) for b in binders)
    body, guard = substitute(e.args[:2], {b: ix(n) for b, n in zip(binders, new, strict=True)}, memos.setdefault(binders, {}))
    return new, body, guard


def assign(roots: Sequence[Expr], values: Mapping[str, Expr]) -> tuple[Expr, ...]:
    """The expressions with hyper-parameters replaced, in the ends of integer ranges too."""
    return replace_leaves(roots, {ref(name): value for name, value in values.items()})


def replace_leaves(roots: Sequence[Expr], values: Mapping[Expr, Expr]) -> tuple[Expr, ...]:
    """The expressions with hyper-parameters or lengths replaced by others, in the ends of integer ranges too."""

    def visit(e: Expr) -> Expr:
        if not e.args:
            return values.get(e, e)
        return _reranged(e, visit) if e.op == "red" else e

    return rewrite(roots, visit)


def _reranged(e: Expr, visit: Callable[[Expr], Expr]) -> Expr:
    """A reduction with the ends of its ranges rewritten."""
    axes = [Range(*rewrite((b.axis.lo, b.axis.hi), visit)) if isinstance(b.axis, Range) else b.axis for b in e.data[1]]
    if all(axis == b.axis for axis, b in zip(axes, e.data[1], strict=True)):
        return e
    binders, body, guard = open_red(e)
    new = tuple(fresh(axis) for axis in axes)
    body, guard = substitute((body, guard), {b: ix(n) for b, n in zip(binders, new, strict=True)})
    return red(e.data[0], new, body, guard, *outside(e))


def references(roots: Iterable[Expr]) -> set[str]:
    """Names of the inputs and hyper-parameters that occur."""
    return {e.data for e in postorder(roots) if e.op == "ref"}


def count_nodes(roots: Iterable[Expr]) -> int:
    return sum(1 for _ in postorder(roots))
