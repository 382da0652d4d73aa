"""A lowered loss at arguments: inputs become expressions, axes the caller's axes, and nothing is captured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossdsl.ir.applied import is_slope, whole
from lossdsl.ir.expr import BINDING, ZERO, Axis, Expr, Index, Range, close_any, fresh, inside, ix, outside, rebuild, ref, size, substitute

Values = Mapping[str, tuple[tuple[Index, ...], Expr]]


def instantiate(roots: Sequence[Expr], values: Values, axes: Mapping[str, Axis], indices: Mapping[Index, Expr]) -> dict[Expr, Expr]:
    """What each root becomes.

    ``values`` gives for each input the indices that stand for its axes and the expression over them, ``axes`` the new name of
    each axis or the range that it becomes, ``indices`` what the free indices become.
    """
    memo: dict[Expr, Expr] = {}
    if _nothing_changes(values, axes, indices):
        return {e: e for e in roots}
    opened: dict[Expr, tuple[tuple[Index, ...], tuple[Expr, ...]]] = {}
    stack = list(roots)
    while stack:
        e = stack[-1]
        if e in memo:
            stack.pop()
            continue
        if e.op in BINDING:
            ends = [x for b in e.data[1] if isinstance(b.axis, Range) for x in (b.axis.lo, b.axis.hi)]
            todo = [x for x in ends if x not in memo]
            if not todo:
                if e not in opened:
                    opened[e] = _open(e, axes, memo)
                todo = [x for x in opened[e][1] if x not in memo]
        else:
            todo = [a for a in e.args if a not in memo]
        if todo:
            stack += todo
            continue
        stack.pop()
        memo[e] = _changed(e, memo, opened, values, axes, indices)
    return {e: memo[e] for e in roots}


def _nothing_changes(values: Values, axes: Mapping[str, Axis], indices: Mapping[Index, Expr]) -> bool:
    """Whether every name stands for itself, as where a loss is called with the names of its own inputs."""
    if any(a != b for a, b in axes.items()) or any(e is not ix(i) for i, e in indices.items()):
        return False
    return all(e is ref(name, [ix(i) for i in formals]) for name, (formals, e) in values.items())


def _open(e: Expr, axes: Mapping[str, Axis], memo: Mapping[Expr, Expr]) -> tuple[tuple[Index, ...], tuple[Expr, ...]]:
    """Fresh binders over the caller's axes, with the arguments over them."""
    new: list[Index] = []
    for b in e.data[1]:
        axis = Range(memo[b.axis.lo], memo[b.axis.hi]) if isinstance(b.axis, Range) else axes.get(b.axis, b.axis)
        new.append(fresh(axis))
    within = substitute(inside(e), {b: ix(n) for b, n in zip(e.data[1], new, strict=True)})
    return tuple(new), (*within, *outside(e))


def _changed(
    e: Expr,
    memo: Mapping[Expr, Expr],
    opened: Mapping[Expr, tuple[tuple[Index, ...], tuple[Expr, ...]]],
    values: Values,
    axes: Mapping[str, Axis],
    indices: Mapping[Index, Expr],
) -> Expr:
    match e.op:
        case "ref" if e.data in values:
            formals, expr = values[e.data]
            (out,) = substitute((expr,), {i: memo[a] for i, a in zip(formals, e.args, strict=True)}) if formals else (expr,)
            return out
        case "ix":
            return indices.get(e.data, e)
        case "size":
            return size(axes.get(e.data, e.data))
        case "red" | "scan":
            binders, args = opened[e]
            out = close_any(e, binders, [memo[x] for x in args])
            return whole(out) if is_slope(out) else out
        case "cmp" if e.data == "!=" and memo[e.args[0]].op == "iverson" and memo[e.args[1]] is ZERO:
            return memo[e.args[0]].args[0]
    return rebuild(e, [memo[a] for a in e.args])


def replace_all(roots: Sequence[Expr], mapping: Mapping[Index, Expr], memo: dict[Expr, Expr]) -> dict[Expr, Expr]:
    """What roots become when free indices are replaced by others that nothing binds; ``memo`` keeps it for the next time."""
    keys = frozenset(mapping)
    stack = list(roots)
    while stack:
        e = stack[-1]
        if e in memo:
            stack.pop()
            continue
        if e.op == "ix":
            memo[e] = mapping.get(e.data, e)
        elif keys.isdisjoint(e.free):
            memo[e] = e
        else:
            todo = [a for a in e.args if a not in memo]
            if todo:
                stack += todo
                continue
            memo[e] = rebuild(e, [memo[a] for a in e.args])
        stack.pop()
    return memo
