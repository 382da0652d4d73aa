"""Rewrites expressions, from the leaves to the roots, until no rule fits anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lossdsl.ir.expr import BINDING, Expr, Index, Memos, close_any, count_nodes, open_alike, rebuild

Step = Callable[[Expr], Expr | None]

WORK = 40  # rules for each node on average; no program has come near


def settled(roots: Sequence[Expr], step: Step) -> tuple[Expr, ...]:
    """The expressions in which ``step`` changes no node. It is given nodes whose parts are settled, and says None for no change."""
    run = Settling(step, roots)
    return tuple(run.of(e) for e in roots)


class Settling:
    """One run. Every node is settled once; a reduction is opened once, so that what is inside is known again.

    A step may itself ask for what it has made to be settled.
    """

    def __init__(self, step: Step, roots: Sequence[Expr]) -> None:
        self.step, self.work = step, WORK * (count_nodes(roots) + 10)
        self.done: dict[Expr, Expr] = {}
        self.next: dict[Expr, Expr] = {}  # what a node became, which is to be settled itself
        self.waiting: set[Expr] = set()
        self.opened: dict[Expr, tuple[tuple[Index, ...], tuple[Expr, ...]]] = {}
        self.names: dict[Index, Index] = {}
        self.memos: Memos = {}

    def of(self, root: Expr) -> Expr:
        stack = [root]
        while stack:
            e = stack[-1]
            if e in self.done:
                stack.pop()
                continue
            new = self.next.get(e)
            if new is not None:
                # what leads back to itself stays as it is
                self.done[e] = self.done.get(new, new)
                continue
            self.waiting.add(e)
            parts = self._parts(e)
            todo = [a for a in parts if a not in self.done and a not in self.waiting]
            if todo:
                stack += todo
                continue
            new = self._rebuilt(e, [self.done.get(a, a) for a in parts])
            if new is e and self.work > 0:
                new = self.step(e) or e
                self.work -= new is not e
            if new is e:
                self.done[e] = e
            else:
                self.next[e] = new
                if new not in self.done and new not in self.waiting:
                    stack.append(new)
        return self.done[root]

    def _parts(self, e: Expr) -> Sequence[Expr]:
        if e.op not in BINDING:
            return e.args
        if e not in self.opened:
            self.opened[e] = open_alike(e, self.names, self.memos)
        return self.opened[e][1]

    def _rebuilt(self, e: Expr, parts: Sequence[Expr]) -> Expr:
        if e.op not in BINDING:
            return rebuild(e, parts)
        binders, inside = self.opened[e]
        return e if all(a is b for a, b in zip(parts, inside, strict=True)) else close_any(e, binders, parts, self.memos)
