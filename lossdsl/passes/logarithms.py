"""The logarithm of an expression by the logarithms of its parts, through sums, products, powers, branches and reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf

from lossdsl.ir.expr import HALF, INF, NAN, ONE, TWO, ZERO, Expr, Index, add, branches, call, mul, neg, num, open_red, pw, red, sub
from lossdsl.ir.ranges import Ranges

# Functions whose logarithm is a function without overflow or underflow.
_KNOWN: dict[str, Callable[[Expr], Expr]] = {
    "exp": lambda a: a,
    "sigmoid": lambda a: neg(call("softplus", neg(a))),
    "cosh": lambda a: call("log_cosh", a),
    "normal_cdf": lambda a: call("log_normal_cdf", a),
    "erfc": lambda a: add(call("log_normal_cdf", neg(mul(call("sqrt", TWO), a))), call("log", TWO)),
}


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithm: ``gain`` if it is safer than taking the log of the value, ``sure`` if the value is never negative."""

    expr: Expr
    gain: bool = False
    sure: bool = True


class Logs:
    """The logarithms of the expressions of one program, each found once."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.memo: dict[Expr, Log | None] = {}
        self.opened: dict[Expr, tuple[tuple[Index, ...], Expr, Expr]] = {}

    def of(self, e: Expr) -> Log | None:
        """None where the value may be negative and nothing is known of its logarithm."""
        memo = self.memo
        stack = [e]
        while stack:
            x = stack[-1]
            if x in memo:
                stack.pop()
                continue
            todo = [a for a in self._parts(x) if a not in memo]
            if todo:
                stack += todo
            else:
                memo[stack.pop()] = self._log(x)
        return memo[e]

    def gained(self, e: Expr) -> Log | None:
        """The logarithm if there is one of something never negative that is safer than the log of the value."""
        found = self.of(e)
        return found if found is not None and found.gain and found.sure else None

    def risky(self, e: Expr) -> bool:
        """Whether a value may overflow or underflow."""
        return self.large(e) or self.small(e)

    def large(self, e: Expr) -> bool:
        return self.ranges.of(e).high == inf

    def small(self, e: Expr) -> bool:
        return self.ranges.of(e).low <= 0

    def _parts(self, e: Expr) -> Sequence[Expr]:
        match e.op:
            case "mul" | "div" | "add" | "sub":
                return e.args
            case "pow":
                return e.args[:1]
            case "call" if e.data in ("sqrt", "stop", "max", "min"):
                return e.args
            case "pw":
                return [v for v in (*e.args[:-1:2], e.args[-1]) if v is not NAN]
            case "red" if e.data[0] in ("sum", "prod", "max", "min"):
                if e not in self.opened:
                    self.opened[e] = open_red(e)
                return self.opened[e][1:2]
        return ()

    def _log(self, e: Expr) -> Log | None:
        if e.op == "call" and e.data == "exp":
            return Log(e.args[0], self.risky(e))
        found = self._by_parts(e)
        if found is not None and found.gain and self.risky(e):
            return found
        return Log(_logarithm(e)) if self.ranges.nonnegative(e) else None

    def _by_parts(self, e: Expr) -> Log | None:
        if e.op == "call" and e.data in _KNOWN:
            return Log(_KNOWN[e.data](e.args[0]), True)
        if not (parts := self._parts(e)):
            return None
        known = [self.memo[a] for a in parts]
        logs = [x for x in known if x is not None and x.sure]
        many = e.op == "red" and e.data[0] == "prod"  # a product of many factors soon leaves the range of numbers
        if len(logs) < len(known) or not (many or any(x.gain for x in logs)):
            return None
        exprs = [x.expr for x in logs]
        match e.op:
            case "mul":
                return Log(add(*exprs), True)
            case "div":
                return Log(sub(*exprs), True)
            case "add":
                return Log(_log_sum(*exprs), True)
            case "sub":
                return Log(_log_difference(*exprs), True, self.ranges.nonnegative(e))
            case "pow":
                return self._power(e.args[1], exprs[0])
            case "call":
                return self._call(e, logs)
            case "pw":
                values = iter(exprs)
                pairs = [(next(values) if v is not NAN else NAN, c) for v, c in branches(e)[0]]
                return Log(pw(pairs, NAN if e.args[-1] is NAN else exprs[-1]), True)
        binders, _, guard = self.opened[e]
        op = {"sum": "logsumexp", "prod": "sum"}.get(e.data[0], e.data[0])
        return Log(red(op, binders, exprs[0], guard), True)

    def _power(self, exponent: Expr, log: Expr) -> Log | None:
        if not self.ranges.finite(exponent):
            return None
        # 0^0 and inf^0 are 1
        return Log(mul(exponent, log) if self.ranges.nonzero(exponent) else call("mul0", exponent, log), True)

    def _call(self, e: Expr, logs: Sequence[Log]) -> Log | None:
        match e.data:
            case "sqrt":
                return Log(mul(HALF, logs[0].expr), True)
            case "stop":
                return Log(call("stop", logs[0].expr), True)
        return Log(call(e.data, *(x.expr for x in logs)), True) if all(x.gain for x in logs) else None


def _logarithm(e: Expr) -> Expr:
    if e is ONE:
        return ZERO
    return neg(INF) if e is ZERO else INF if e is INF else call("log", e)


def _log_sum(a: Expr, b: Expr) -> Expr:
    if a is ZERO or b is ZERO:
        return call("softplus", b if a is ZERO else a)
    return call("logaddexp", a, b)


def _log_difference(a: Expr, b: Expr) -> Expr:
    return call("log1mexp", b) if a is ZERO else call("logsubexp", a, b)


def log_of_number(x: Fraction) -> Expr:
    return _logarithm(num(x))


