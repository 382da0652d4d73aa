"""Random axis-free expressions over inputs of every kind, points of those kinds, and values at high precision, for the tests of passes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from fractions import Fraction
from random import Random
from typing import Any

import evaluators
import mpmath

from lossdsl.ir.expr import (
    NAN,
    ONE,
    ZERO,
    Expr,
    add,
    and_,
    call,
    cmp,
    div,
    mul,
    neg,
    num,
    or_,
    postorder,
    pow_,
    pw,
    ref,
    sub,
)  # fmt: skip
from lossdsl.ir.program import Input, Output, Param, Program
from lossdsl.kinds import Kind

mp = mpmath.mp
DIGITS = 150
KINDS = {"x": "real", "y": "real", "p": "unit", "s": "logit", "l": "logprob", "t": "sign", "b": "binary", "d": "positive", "g": "nonnegative"}
PARAMS = ("d", "g")
POINTS = [mpmath.nan, mpmath.inf, -mpmath.inf, *map(mpmath.mpf, ("0", "1", "-1", "2.5", "-0.3", "1e-9", "17", "-7"))]
FUNCTIONS = (
    "exp", "log", "log1p", "expm1", "sigmoid", "softplus", "logsigmoid", "tanh", "cosh", "sinh", "abs", "sign", "relu", "sqrt", "log_cosh",
    "softsign", "floor",
)  # fmt: skip
TWO_ARGUMENTS = ("max", "min", "mul0", "xlogy", "logaddexp", "hypot", "logdiv")


class Undefined(Exception):
    """A division by zero, whose sign is the sign of a zero, which exact numbers do not have; or a number of too many digits."""


def program(e: Expr, kinds: Mapping[str, str] = KINDS) -> Program:
    """A program whose one output is the expression."""
    inputs = tuple(Input(name, Kind(kind)) for name, kind in kinds.items() if name not in PARAMS)
    params = tuple(Param(name, Kind(kind)) for name, kind in kinds.items() if name in PARAMS)
    return Program("made", inputs, params, (Output("made", (), e),))


def letters(e: Expr) -> set[str]:
    return {x.data for x in postorder([e]) if x.op == "ref"}


def points(name: str, rng: Random, kinds: Mapping[str, str] = KINDS) -> list[Any]:
    """Values that a kind allows, the remarkable ones and a few others; an input may be NaN, a hyper-parameter may not."""
    kind = Kind(kinds[name])
    drawn = POINTS + [mp.mpf(rng.uniform(-3, 3)) for _ in range(4)]
    kept = [x for x in drawn if (mp.isnan(x) and name not in PARAMS) or (not mp.isnan(x) and allowed(x, kind))]
    return [x for x in kept if mp.isnan(x) or not kind.integer or x == mp.floor(x)]


def allowed(x: Any, kind: Kind) -> bool:
    return evaluators.contains(kind.domain, x) and not (kind.name == "sign" and x == 0)


def write(rng: Random, size: int) -> Expr:
    """An expression of about so many nodes, rich in what simplifies."""
    if size <= 1:
        return ref(rng.choice(list(KINDS))) if rng.random() < 0.75 else num(rng.choice([0, 1, 2, -1, 3, Fraction(1, 2)]))

    def part(n: int = size // 2) -> Expr:
        return write(rng, n)

    u = part()
    match rng.choice(("add", "sub", "mul", "mul", "div", "neg", "pow", "call", "call", "naive", "naive", "two", "two", "pw", "pw", "clip")):
        case "add":
            return add(u, part())
        case "sub":
            return sub(u, u if rng.random() < 0.1 else part())
        case "mul":
            return mul(u, u if rng.random() < 0.2 else part())
        case "div":
            return div(u, part()) if rng.random() < 0.5 else div(mul(u, part()), u)
        case "neg":
            return neg(u)
        case "pow":
            return pow_(u, rng.choice([num(2), num(3), num(-1), num(Fraction(1, 2)), num(-2), ref("g"), sub(ref("g"), ONE)]))
        case "call":
            return call(rng.choice(FUNCTIONS), u)
        case "two":
            return call(rng.choice(TWO_ARGUMENTS), u, part())
        case "naive":
            return naive(rng, u, part())
        case "clip":
            return call("clip", u, num(-1), num(1))
    return pieces(rng, size, u)


def naive(rng: Random, u: Expr, v: Expr) -> Expr:
    """What people write where a stable form exists."""
    e, f = call("exp", u), call("exp", v)
    return rng.choice([
        sub(ONE, call("sigmoid", u)), call("log", add(ONE, e)), div(e, add(e, f)), div(v, add(ONE, e)), call("log", mul(e, v)),
        call("log", div(e, add(f, num(3)))), call("log", call("sigmoid", u)), call("xlogy", v, call("sigmoid", u)), div(e, f),
        div(sub(e, f), add(e, f)), sub(call("sqrt", add(ONE, mul(u, u))), ONE), call("log", sub(ONE, e)), sub(call("softplus", u), u),
        sub(mul(v, call("sigmoid", u)), v), call("logdiv", e, call("cosh", v)), call("log", pow_(e, ref("g"))), add(e, call("exp", neg(u))),
    ])  # fmt: skip


def pieces(rng: Random, size: int, u: Expr) -> Expr:
    less = rng.choice(["<", "<="])
    match rng.randrange(6):
        case 0:
            return pw([(u, cmp(less, call("abs", u), ref("d")))], mul(ref("d"), call("sign", u)))
        case 1:
            v = write(rng, size // 2)
            return pw([(u, cmp(less, u, v))], v)
        case 2:
            return pw([(u, cmp(">", u, ZERO))], neg(u))
        case 3:
            return pw([(num(-1), cmp(less, u, num(-1))), (ref("d"), cmp(">", u, ref("d")))], u)
    return pw([(u, condition(rng, size // 2))], rng.choice([ZERO, NAN, write(rng, size // 2), u]))


def condition(rng: Random, size: int) -> Expr:
    if size > 2 and rng.random() < 0.2:
        return rng.choice([and_, or_])(condition(rng, size // 2), condition(rng, size // 2))
    return cmp(rng.choice(["<", "<=", ">", ">=", "==", "!="]), write(rng, size // 2), write(rng, size // 2))


def value(e: Expr, env: Mapping[str, Any], digits: int = DIGITS) -> Any:
    """The value at a precision, or None where it is undefined or too large to compute."""
    kept = dict(evaluators._OPERATORS), evaluators.function
    evaluators._OPERATORS |= {"div": _divide, "pow": _power}
    evaluators.function = _function
    try:
        with mp.workdps(digits):
            return evaluators.exact(e, env)
    except (Undefined, OverflowError, ValueError, ZeroDivisionError, MemoryError):
        return None
    finally:
        evaluators._OPERATORS, evaluators.function = kept


def _divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise Undefined
    return operator.truediv(a, b)


_plain_power, _plain_function = evaluators._power, evaluators.function


def _power(a: Any, b: Any) -> Any:
    if (a == 0 and b < 0) or _huge(b) or (_huge(a) and abs(b) > 8):
        raise Undefined
    return _plain_power(a, b)


_STEEP = ("exp", "expm1", "sinh", "cosh", "tanh", "sigmoid", "softplus", "logsigmoid", "log_cosh", "logaddexp", "bce_with_logits")


def _function(name: str, args: list[Any], **options: Any) -> Any:
    if name in _STEEP and any(map(_huge, args)):
        raise Undefined
    return _plain_function(name, args, **options)


def _huge(x: Any) -> bool:
    """Whether an exponential of the number would have more digits than are good for a test."""
    return bool(mp.isfinite(x) and abs(x) > 10_000)


def same(a: Any, b: Any) -> bool:
    """Whether two numbers agree to 40 digits of the larger of them and 1, infinities and NaN included."""
    if mp.isnan(a) or mp.isnan(b):
        return bool(mp.isnan(a) and mp.isnan(b))
    if mp.isinf(a) or mp.isinf(b):
        return bool(a == b)
    with mp.workdps(DIGITS):
        return bool(abs(a - b) <= mp.mpf(10) ** -40 * max(abs(a), abs(b), 1))
