"""Whether values may be 0, infinite or NaN in floating point, where exact arithmetic says less."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from lossdsl.ir.expr import TRUE, Expr, Index, Range, is_condition, ix, rebuild
from lossdsl.ir.ranges import Ranges
from lossdsl.kinds import Interval

# Functions that grow no faster than their arguments.
_TAME = (
    "softplus", "logsigmoid", "log_cosh", "abs", "relu", "max", "min", "clip", "asinh", "hypot", "sqrt", "cbrt", "stop", "logaddexp",
    "floor", "ceil", "bce_with_logits",
)  # fmt: skip


def meet_safely(ranges: Ranges, a: Expr, b: Expr) -> bool:
    """Whether 0 in one surely never meets an infinity in the other, rounded or not."""
    return not ((vanishes(ranges, a) and explodes(ranges, b)) or (vanishes(ranges, b) and explodes(ranges, a)))


def vanishes(ranges: Ranges, e: Expr) -> bool:
    """Whether a value may be 0 or underflow."""
    r = ranges.reach(e)
    exact = r.whole or e.op in ("ref", "num", "size")
    return r.interval.low <= 0 <= r.interval.high and not (exact and not r.zero)


def explodes(ranges: Ranges, e: Expr) -> bool:
    """Whether a value may be infinite, or overflow although the inputs are of ordinary size."""
    r = ranges.reach(e)
    return r.infinite or not (_bounded(r.interval) or _tame(ranges, e))


def _bounded(i: Interval) -> bool:
    return i.low > -inf and i.high < inf


def _tame(ranges: Ranges, e: Expr) -> bool:
    """Whether a value grows no faster than a polynomial in the inputs."""
    stack = [e]
    while stack:
        x = stack.pop()
        if _bounded(ranges.of(x)):
            continue
        match x.op:
            case "ref" | "size" | "ix" | "num" | "iverson":
                continue
            case "add" | "sub" | "mul" | "neg":
                stack += x.args
            case "pw":
                stack += (*x.args[:-1:2], x.args[-1])
            case "div" if x.args[1].op in ("num", "ref", "size") and ranges.nonzero(x.args[1]):
                stack.append(x.args[0])
            case "pow" if x.args[1].op == "num" and 0 < x.args[1].data < 16:
                stack.append(x.args[0])
            case "red" if x.data[0] in ("sum", "max", "min", "logsumexp", "norm"):
                stack.append(x.args[0])
            case "call" if x.data in _TAME:
                stack += x.args
            case _:
                return False
    return True


Refs = frozenset[Expr]
_NONE: Refs = frozenset()
_EVERY = "*"  # the tag of an index that stands for every position


class Spread:
    """How NaN spreads from the inputs: which entries make an expression NaN surely, and which may.

    Hyper-parameters are never NaN: they are checked when they are bound.
    """

    def __init__(self, inputs: Iterable[str]) -> None:
        self.inputs = frozenset(inputs)
        self.memo: dict[Expr, tuple[Refs, Refs]] = {}

    def covers(self, by: Sequence[Expr], e: Expr) -> bool:
        """Whether one of ``by`` is NaN wherever an input makes ``e`` NaN."""
        sure = _NONE.union(*(self.of(x)[0] for x in by))
        return all(r in sure or any(_stands_for(s, r) for s in sure) for r in self.of(e)[1])

    def of(self, e: Expr) -> tuple[Refs, Refs]:
        """The entries that surely, and that may, make the value NaN."""
        memo = self.memo
        stack = [e]
        while stack:
            x = stack[-1]
            if x in memo:
                stack.pop()
                continue
            todo = [a for a in x.args if a not in memo]
            if todo:
                stack += todo
            else:
                memo[stack.pop()] = self._step(x)
        return memo[e]

    def _step(self, e: Expr) -> tuple[Refs, Refs]:
        parts = [self.memo[a] for a in e.args]
        may = _NONE.union(*(p[1] for p in parts))
        sure = _NONE.union(*(p[0] for p in parts))
        if e.op == "ref":
            own = frozenset((e,)) if e.data in self.inputs else _NONE
            return own, may | own
        if is_condition(e) or e.op == "iverson":
            return _NONE, may
        if e.op == "pw":
            return frozenset.intersection(*(p[0] for p in (*parts[:-1:2], parts[-1]))), may
        if e.op == "red" and e.data[0] == "argsort":  # an index, whatever it sorts
            return _NONE, _generalised(may, frozenset(e.data[1]))
        if e.op == "rec":  # what it reads is in the body that it stands in
            return frozenset((e,)), may | {e}
        if e.op == "scan":
            return _NONE, _generalised(frozenset(r for r in may if r.op == "ref"), frozenset(e.data[1]))
        if e.op == "red":
            sure = parts[0][0] if e.args[1] is TRUE and not any(isinstance(b.axis, Range) for b in e.data[1]) else _NONE
            bound = frozenset(e.data[1])
            return _generalised(sure, bound), _generalised(may, bound)
        return sure, may


def _generalised(refs: Refs, bound: frozenset[Index]) -> Refs:
    return frozenset(r if r.free.isdisjoint(bound) else rebuild(r, [_every(a, bound) for a in r.args]) for r in refs)


def _every(e: Expr, bound: frozenset[Index]) -> Expr:
    return ix(Index(e.data.axis, _EVERY)) if e.op == "ix" and e.data in bound else e


def _stands_for(general: Expr, r: Expr) -> bool:
    """Whether an entry is among those that an entry at every position stands for."""
    if general.op != r.op or general.data != r.data or len(general.args) != len(r.args):
        return False
    return all(a is b or (a.op == "ix" and a.data.tag == _EVERY) for a, b in zip(general.args, r.args, strict=True))
