"""Interval analysis: every value lies in its interval, NaN only where it is announced, and the claims that the passes live on."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import inf
from random import Random
from typing import Any

import evaluators
import expressions
import numpy as np
import pytest
from tools import program

from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import ONE, Expr, add, call, mul, num, postorder, ref
from lossdsl.ir.program import Input, Output, Program
from lossdsl.ir.ranges import POINTS, Ranges, Reach
from lossdsl.ir.read import read
from lossdsl.kinds import Interval, Kind
from lossdsl.runtime import reference

mp = evaluators.mp


def fits(reach: Reach, found: Any) -> bool:
    if mp.isnan(found):
        return reach.nan
    with mp.workdps(expressions.DIGITS):
        slack = abs(found) * mp.mpf(10) ** -100 if mp.isfinite(found) else 0
        inside = any(evaluators.contains(reach.interval, x) for x in (found, found - slack, found + slack))
    return inside and (found != 0 or reach.zero) and (not mp.isinf(found) or reach.infinite) and (not reach.whole or found == mp.floor(found))


def check(e: Expr, reach: Reach, found: Any) -> None:
    assert fits(reach, found), f"{e} is {found}, outside {reach}"


def test_random_expressions_stay_in_their_intervals() -> None:
    rng = Random(1)
    seen = 0
    for _ in range(700):
        e = expressions.write(rng, rng.randint(2, 16))
        ranges = Ranges(expressions.program(e))
        choices = {name: [x for x in expressions.points(name, rng) if mp.isinf(x) or abs(x) < 3] for name in expressions.letters(e)}
        for _ in range(12):
            env = {name: rng.choice(xs) for name, xs in choices.items()}
            found = expressions.value(e, env)
            if found is None:
                continue
            check(e, ranges.reach(e), found)
            seen += 1
    assert seen > 4000


@pytest.mark.parametrize("name", [n for n, row in FUNCTIONS.items() if not row.integer and n not in ("stop", "pow")])
def test_functions_stay_in_their_intervals(name: str) -> None:
    row = FUNCTIONS[name]
    ends = [-inf, Fraction(-1), Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3), inf]
    intervals = [Interval(a, b, False, False) for a, b in itertools.combinations_with_replacement(ends, 2)]
    rng = Random(name)
    for boxes in [tuple(rng.choice(intervals) for _ in row.args) for _ in range(40)]:
        made = Program("made", tuple(Input(f"a{k}", Kind("real", interval=i)) for k, i in enumerate(boxes)), (), ())
        ranges = Ranges(made)
        e = call(name, *(ref(f"a{k}") for k in range(row.arity)))
        for _ in range(12):
            args = [inside(i, rng) for i in boxes]
            check(e, ranges.reach(e), evaluators.function(name, args))


def inside(i: Interval, rng: Random) -> Any:
    low, high = max(i.low, Fraction(-4)), min(i.high, Fraction(4))
    drawn = [i.low, i.high, Fraction(rng.randint(0, 64), 64) * (high - low) + low]
    x = rng.choice([x for x in drawn if x in i])
    return mp.mpf(x) if isinstance(x, float) else mp.mpf(x.numerator) / x.denominator


@pytest.mark.parametrize("name", POINTS)
def test_known_points(name: str) -> None:
    row = FUNCTIONS[name]
    points = sorted(POINTS[name].items())
    for x, y in points:
        assert x in row.domain[0], x
        found = evaluators.function(name, [mp.mpf(float(x))])
        assert found == y or abs(found - float(y)) < 1e-12, x
    values = [y for _, y in points]
    assert values == sorted(values, reverse=row.monotone[0] == "decreasing")
    assert row.monotone[0] in ("increasing", "decreasing")


NAMES = {name: ref(name) for name in expressions.KINDS}
ALWAYS = Ranges(expressions.program(ONE))


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("1 + exp(x)", "(1, inf)"), ("1 + exp(s)", "[1, inf)"), ("1 - p", "[0, 1]"), ("sigmoid(x)", "(0, 1)"), ("sigmoid(s)", "[0, 1)"),
        ("1 - sigmoid(x)", "(0, 1)"), ("x^2", "[0, inf)"), ("x*x", "[0, inf)"), ("x^3", "(-inf, inf)"), ("1/d", "(0, inf)"),
        ("sqrt(1 + x^2)", "[1, inf)"), ("sqrt(1 + x^2) - 1", "[0, inf)"), ("-d", "(-inf, 0)"), ("d*g", "[0, inf)"), ("abs(x)/d", "[0, inf)"),
        ("log(p)", "[-inf, 0]"), ("log(1 + g)", "[0, inf)"), ("-log(sigmoid(s))", "(0, inf]"), ("max(0, 1 - x)", "[0, inf)"),
        ("clip(x, -1, 2)", "[-1, 2]"), ("cosh(x)", "[1, inf)"), ("exp(-x^2)", "(0, 1]"), ("tanh(x)", "(-1, 1)"), ("softplus(x)", "(0, inf)"),
        ("bce_with_logits(x, p)", "(0, inf)"), ("xlogy(p, p)", "(-37/100, 0]"), ("piecewise(x^2 if x < 0, d otherwise)", "[0, inf)"),
        ("exp(l)", "[0, 1]"), ("1 - exp(l)", "[0, 1]"), ("d^p", "(0, inf)"), ("p^g", "[0, 1]"), ("(1 + d)^g", "[1, inf)"), ("s - 1", "[-inf, inf)"),
        ("inf", "[inf, inf]"), ("2*p - 1", "[-1, 1]"), ("t^2", "[1, 1]"), ("2*t - 1", "[-3, 1]"), ("floor(p)", "[0, 1]"), ("(x == y) + 1", "[1, 2]"),
    ],
)  # fmt: skip
def test_intervals(text: str, interval: str) -> None:
    assert str(ALWAYS.of(read(text, NAMES))) == interval


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("exp(x)", "positive nonnegative nonzero finite"), ("exp(s)", "nonnegative finite"), ("t", "nonzero finite"), ("1/t", "nonzero"),
        ("t*d", "nonzero finite"), ("x/d", "finite"), ("d/x", "nonzero"), ("log(d)", "finite"), ("log(g)", ""), ("sqrt(d)", "positive nonnegative nonzero finite"),
        ("sqrt(x)", "nonnegative"), ("x - x", "finite"), ("s - s", ""), ("0*s", "nonnegative nonpositive"), ("-exp(x)", "negative nonpositive nonzero finite"),
        ("x^2 + d", "positive nonnegative nonzero finite"), ("b", "nonnegative finite"), ("l", "nonpositive"), ("acos(x)", "nonnegative"),
        ("piecewise(1 if x > 0)", "positive nonnegative nonzero"), ("1 - exp(l)", "nonnegative finite"), ("log1mexp(l)", "nonpositive"),
    ],
)  # fmt: skip
def test_claims(text: str, claims: str) -> None:
    e = read(text, NAMES)
    names = ("positive", "nonnegative", "negative", "nonpositive", "nonzero", "finite")
    assert {n for n in names if getattr(ALWAYS, n)(e)} == set(claims.split())


REDUCTIONS = {
    "sum[k](exp(s))": "[0, inf)", "sum[k](p)": "[0, inf)", "sum[k](1)": "[1, inf)", "sum[k | p > 0](1)": "[0, inf)",
    "sum[k](1 + p)": "[1, inf)", "max[k](p)": "[0, 1]", "logsumexp[k](p)": "[0, inf)", "norm[k](p - 2)": "[1, inf)", "size(k)": "[1, inf)",
    "logsumexp[k | p > 0](p)": "[-inf, inf)", "argmax[k](p)": "[0, inf)", "sum[i in 0..3](1 + i)": "[1, inf)", "mean[k](p)": "[0, inf)",
    "prod[k](p)": "[0, 1]", "prod[k](1 + p)": "[1, inf)", "prod[k](2 + p)": "[2, inf)", "prod[k | p > 0](2 + p)": "[1, inf)",
    "prod[k | p > 0](p)": "[0, 1]", "prod[k](p/2)": "[0, 1/2]", "prod[k](exp(s))": "[0, inf)", "prod[k](2*p - 1)": "[-1, 1]",
    "prod[k](3*p - 1)": "(-inf, inf)", "prod[k](s)": "[-inf, inf]", "1 - prod[k](1 - p)": "[0, 1]", "prod[k](2)": "[2, inf)",
    "sort[k](p)[0]": "[0, 1]", "sort[k](s)[y]": "[-inf, inf)", "argsort[k](p)[0]": "[0, inf)", "prod[k](1 + sort[k](p))": "[1, inf)",
    "softmax[k](s)[y]": "[0, 1]", "log(softmax[k](s)[y])": "[-inf, 0]", "1 - softmax[k](s)[y]": "[0, 1]", "-sum[k](exp(p))": "(-inf, -1]",
}  # fmt: skip


@pytest.mark.parametrize("text", REDUCTIONS)
def test_reductions(text: str) -> None:
    made = program(f"a(s: logit[k], p: unit[k], y: class(k)) = {text}")
    assert str(Ranges(made).of(made.value)) == REDUCTIONS[text]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(1, 4))
        s = np.where(rng.random(k) < 0.3, -inf, rng.normal(size=k) * 5)
        arrays = {"s": s, "p": rng.choice([0.0, 1.0, 0.25, 0.7], k), "y": np.int64(rng.integers(k))}
        (found,) = reference.evaluate(made, arrays).values()
        check(made.value, Ranges(made).reach(made.value), found.value)


def test_axes_may_be_empty() -> None:
    made = program("a(x: real[n], d: positive[n]) = sum[n](d) + sum[n](1)/size(n) + max[n](x)")
    some, none = Ranges(made), Ranges(made, empty_axes=True)
    total = next(e for e in postorder(made.roots) if e.op == "red" and e.data[0] == "sum")
    length = next(e for e in postorder(made.roots) if e.op == "size")
    top = next(e for e in postorder(made.roots) if e.op == "red" and e.data[0] == "max")
    assert some.positive(total) and some.nonzero(length) and not some.nan(top)
    assert none.nonnegative(total) and not none.positive(total) and not none.nonzero(length) and none.nan(top)


def test_a_class_is_of_something() -> None:
    made = program("a(s: real[k], y: class(k)) = s[y]*size(k)")
    length = next(e for e in postorder(made.roots) if e.op == "size")
    assert Ranges(made, empty_axes=True).nonzero(length)


def test_a_guarded_reduction_may_be_empty() -> None:
    made = program("a(d: positive[n]) = sum[n | d > 1](d)")
    assert not Ranges(made).positive(made.value)


def test_a_computed_index_may_leave_its_axis() -> None:
    made = program("a(d: real[n]) = sum[n | n + 1 < size(n)](d[n + 1] - d)")
    assert any(Ranges(made).nan(e) for e in postorder(made.roots) if e.op == "ref")


def test_deep_and_long_expressions() -> None:
    e: Expr = ref("x")
    for _ in range(5000):
        e = add(mul(e, e), ONE)
    ranges = Ranges(expressions.program(e))
    assert ranges.positive(e)
    d = num(3)
    for _ in range(3000):
        d = call("softplus", mul(d, num(Fraction(7, 3))))
    assert Ranges(Program("made", (), (), (Output("made", (), d),))).positive(d)
