"""The reader of table texts: precedence, conditions, piecewise, and its complaints."""

from __future__ import annotations

from typing import Any

import pytest

from lossdsl.errors import LossError
from lossdsl.ir.expr import (
    FALSE,
    INF,
    NAN,
    ONE,
    PI,
    TWO,
    ZERO,
    Expr,
    add,
    and_,
    call,
    cmp,
    div,
    iverson,
    mul,
    neg,
    not_,
    num,
    or_,
    pow_,
    pw,
    ref,
    stop,
    sub,
)
from lossdsl.ir.read import read

a, b, c = (ref(name) for name in "abc")
NAMES = {"a": a, "b": b, "c": c}

READS: dict[str, Expr] = {
    # precedence: comparison < + - < * / < unary - < ^
    "a + b*c": add(a, mul(b, c)),
    "(a + b)*c": mul(add(a, b), c),
    "a - b - c": sub(sub(a, b), c),
    "a - (b - c)": sub(a, sub(b, c)),
    "a/b/c": div(div(a, b), c),
    "a/b*c": mul(div(a, b), c),
    "a^b^c": pow_(a, pow_(b, c)),
    "(a^b)^c": pow_(pow_(a, b), c),
    "-a^2": neg(pow_(a, TWO)),
    "(-a)^2": pow_(neg(a), TWO),
    "2^-a": pow_(TWO, neg(a)),
    "2^-a^b": pow_(TWO, neg(pow_(a, b))),
    "-a*b": mul(neg(a), b),
    "a*-b": mul(a, neg(b)),
    "-a + b": add(neg(a), b),
    "--a": a,
    "a - -b": sub(a, neg(b)),
    # numbers are exact, constants are names
    "0.1*a": mul(num("1/10"), a),
    "1e-3": num("1/1000"),
    "2.5e2": num(250),
    "1/2": num("1/2"),
    "pi*a": mul(PI, a),
    "-inf": neg(INF),
    "nan": NAN,
    # conditions
    "a < b": cmp("<", a, b),
    "a + 1 <= 2*b": cmp("<=", add(a, ONE), mul(TWO, b)),
    "0 < a <= 1": and_(cmp("<", ZERO, a), cmp("<=", a, ONE)),
    "a < b < c < 1": and_(cmp("<", a, b), cmp("<", b, c), cmp("<", c, ONE)),
    "a < 0 or b > 0 and c == 0": or_(cmp("<", a, ZERO), and_(cmp(">", b, ZERO), cmp("==", c, ZERO))),
    "(a < 0 or b > 0) and c != 0": and_(or_(cmp("<", a, ZERO), cmp(">", b, ZERO)), cmp("!=", c, ZERO)),
    "not a < b and c > 0": and_(not_(cmp("<", a, b)), cmp(">", c, ZERO)),
    "not not a < b": cmp("<", a, b),
    "1 < 0": FALSE,
    # a condition counts as 0 or 1 in arithmetic
    "(a > 0) + (a == 0)/2": add(iverson(cmp(">", a, ZERO)), div(iverson(cmp("==", a, ZERO)), TWO)),
    "exp(a > 0)": call("exp", iverson(cmp(">", a, ZERO))),
    "b == (a > 0)": cmp("==", b, iverson(cmp(">", a, ZERO))),
    "-(a > 0)": neg(iverson(cmp(">", a, ZERO))),
    # calls and piecewise
    "max(a, b)": call("max", a, b),
    "max(a, b, c)": call("max", a, b, c),
    "logcosh(a)": call("log_cosh", a),
    "pow(a, b)": pow_(a, b),
    "stop(a)": stop(a),
    "stop(2)": TWO,
    "piecewise(a if a > 0, -a otherwise)": pw([(a, cmp(">", a, ZERO))], neg(a)),
    "piecewise(1 if a > 0, 1/2 if a == 0, 0 if a < 0)": pw([(ONE, cmp(">", a, ZERO)), (num("1/2"), cmp("==", a, ZERO)), (ZERO, cmp("<", a, ZERO))]),
    "piecewise(a > 0 if b > 0 or c > 0, 0 otherwise)": pw([(iverson(cmp(">", a, ZERO)), or_(cmp(">", b, ZERO), cmp(">", c, ZERO)))], ZERO),
    "log1p(exp(-abs(a - b)))": call("log1p", call("exp", neg(call("abs", sub(a, b))))),
    "  a\n + b ": add(a, b),
}


@pytest.mark.parametrize("text", READS)
def test_reads(text: str) -> None:
    assert read(text, NAMES) is READS[text]


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("a +", "expected a value, found 'the end'", 4),
        ("", "expected a value", 1),
        ("(a", "expected ')'", 3),
        ("a b", "expected 'end', found 'b'", 3),
        ("a ? b", "unexpected character", 2),
        ("a + d", "unknown name 'd'", 5),
        ("nothing(a)", "unknown function 'nothing'", 1),
        ("exp(a, b)", "exp takes 1 argument, not 2", 1),
        ("max(a)", "max takes 2 arguments, not 1", 1),
        ("a and b", "a number is no condition", 3),
        ("not a", "a number is no condition", 1),
        ("piecewise(a if b, 0 otherwise)", "a number is no condition", 13),
        ("piecewise(a)", "expected 'if' or 'otherwise'", 12),
        ("piecewise(a otherwise, b)", "expected ')'", 22),
        ("a otherwise", "expected 'end'", 3),
        ("if", "expected a value", 1),
        ("*a", "expected a value", 1),
    ],
)
def test_complains(text: str, message: str, column: int) -> None:
    with pytest.raises(LossError) as error:
        read(text, NAMES)
    assert message in error.value.message
    assert f":{column}: error" in str(error.value)


def test_depth_is_bounded() -> None:
    with pytest.raises(LossError, match="nested too deep"):
        read("(" * 5000 + "a" + ")" * 5000, NAMES)
    assert read("+".join("a" * 5000), NAMES).op == "add"


def test_names_come_before_constants() -> None:
    mine: dict[str, Any] = {"pi": a}
    assert read("pi", mine) is a
