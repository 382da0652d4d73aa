"""Recursions as named arrays: for whatever writes them out one after the other, as text or as code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lossdsl.ir.expr import (
    BINDING,
    Axis,
    Expr,
    Index,
    close_any,
    free_in_order,
    ix,
    open_any,
    postorder,
    rebuild,
    ref,
    replace_recs,
    rewrite,
    substitute,
)


@dataclass(frozen=True, slots=True)
class Recursion:
    """``name[indices] = body``, where the body reads the array itself as a reference.

    It does so at smaller positions along the first index (step 1), or at larger ones (step -1).
    """

    name: str
    indices: tuple[Index, ...]
    body: Expr
    step: int


def named(
    roots: Sequence[Expr], name: Callable[[int], str], rank: Callable[[Axis], int] | None = None
) -> tuple[tuple[Expr, ...], list[Recursion]]:
    """The expressions with references in place of scans, and what they refer to, each after those that it reads.

    The indices that follow the first are in the order of ``rank``, or as they come.
    """
    found: dict[tuple[Any, Expr], tuple[str, list[int]]] = {}
    out: list[Recursion] = []

    def visit(e: Expr) -> Expr:
        if e.op != "scan":
            return e
        array = e.data, e.args[0]
        if array not in found:
            out.append(_recursion(e, name(len(found)), order := _order(e, rank)))
            found[array] = out[-1].name, order
        own, order = found[array]
        return ref(own, [e.args[1 + k] for k in order])

    return rewrite(roots, visit), out


def _order(e: Expr, rank: Callable[[Axis], int] | None) -> list[int]:
    axes = [b.axis for b in e.data[1][1:]]
    rest = list(range(1, len(axes)))
    return [0, *(rest if rank is None else sorted(rest, key=lambda k: rank(axes[k])))]


def _recursion(e: Expr, name: str, order: Sequence[int]) -> Recursion:
    (state, *indices), (body, *_) = open_any(e)
    (body,) = replace_recs((body,), {state: lambda places: ref(name, [places[k] for k in order])})
    return Recursion(name, tuple(indices[k] for k in order), body, e.data[0])


@dataclass(frozen=True, slots=True)
class Invariant:
    """What a recursion reads of itself nowhere, as an array of its own."""

    name: str
    indices: tuple[Index, ...]
    expr: Expr


def invariants(r: Recursion, axes: Mapping[str, Sequence[Axis]], name: str) -> tuple[Recursion, list[Invariant]]:
    """The recursion with all that can be computed before it as references to arrays, and these arrays.

    What would be larger than the recursion itself, for the position along it, is computed at each position from what it reads.
    ``axes`` gives those of a name; the arrays are named by ``name`` and a number.
    """
    run = _Invariants(r, axes, name)
    return replace(r, body=run.of(r.body)), run.found


class _Invariants:
    def __init__(self, r: Recursion, axes: Mapping[str, Sequence[Axis]], name: str) -> None:
        self.recursion, self.axes, self.name = r, axes, name
        self.along, self.size = r.indices[0], Counter(i.axis for i in r.indices)
        self.found: list[Invariant] = []
        self.known: dict[Expr, Invariant] = {}
        self.depends: dict[Expr, bool] = {}

    def of(self, root: Expr) -> Expr:
        """The expression with what does not read the recursion taken out; what is inside of binders too."""
        memo: dict[Expr, Expr] = {}
        opened: dict[Expr, tuple[tuple[Index, ...], tuple[Expr, ...]]] = {}
        stack = [root]
        while stack:
            e = stack[-1]
            if e in memo:
                stack.pop()
                continue
            if not self._split(e):
                memo[e] = self._plain(e)
                continue
            if e.op in BINDING and e not in opened:
                opened[e] = open_any(e)
            args = opened[e][1] if e.op in BINDING else e.args
            if e.op == "ref":
                memo |= {a: a for a in args if _place(a)}
            todo = [a for a in args if a not in memo]
            if todo:
                stack += todo
                continue
            new = [memo[a] for a in args]
            memo[e] = close_any(e, opened[e][0], new) if e.op in BINDING else rebuild(e, new)
        return memo[root]

    def _split(self, e: Expr) -> bool:
        """Whether the parts of a node are looked at one by one."""
        if self._reads(e):
            return True
        large = self.along in e.free and not Counter(i.axis for i in e.free) <= self.size
        return large and e.op not in ("ref", "ix", *BINDING)

    def _reads(self, e: Expr) -> bool:
        if e not in self.depends:
            for x in postorder((e,)):
                mine = x.op == "ref" and x.data == self.recursion.name
                self.depends[x] = mine or any(self.depends[a] for a in x.args)
        return self.depends[e]

    def _plain(self, e: Expr) -> Expr:
        """A reference to an array that is computed before; what needs none stays."""
        if not e.args or self._position(e) or self._entry(e):
            return e
        free = free_in_order(e)
        slots = [Index(i.axis, f"~{k}") for k, i in enumerate(free)]
        (whole,) = substitute((e,), {i: ix(s) for i, s in zip(free, slots, strict=True)})
        if whole not in self.known:
            self.known[whole] = Invariant(f"{self.name}{len(self.found)}", tuple(slots), whole)
            self.found.append(self.known[whole])
        return ref(self.known[whole].name, [ix(i) for i in free])

    def _position(self, e: Expr) -> bool:
        """Whether an expression is a number or condition that the position along the recursion decides."""
        if not e.free <= {self.along}:
            return False
        return all(x.op in ("ix", "num", "size", "bool", "add", "sub", "mul", "neg", "cmp", "and", "or", "not") for x in postorder((e,)))

    def _entry(self, e: Expr) -> bool:
        """Whether an array is read at indices as they are."""
        if e.op != "ref":
            return False
        plain = [a.data for a, axis in zip(e.args, self.axes.get(e.data, ()), strict=True) if a.op == "ix" and a.data.axis == axis]
        return len(plain) == len(e.args) == len(set(plain))


def _place(e: Expr) -> bool:
    """Whether an expression is made of positions and numbers alone."""
    return all(x.op in ("ix", "num", "size", "add", "sub", "mul", "neg") for x in postorder((e,)))
