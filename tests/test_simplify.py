"""Closed forms: what a person would write, never another value."""

from __future__ import annotations

from random import Random

import expressions
import pytest
from test_stabilise import body
from tools import program

import lossdsl
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import ONE, Expr, call, num, ref, sub
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.ir.read import read
from lossdsl.passes import rules
from lossdsl.passes.algebra import Names, build_product, build_sum, product, terms
from lossdsl.passes.simplify import simplify

mp = expressions.mp
LETTERS = {name: ref(name) for name in expressions.KINDS}

# over the inputs of ``expressions``: x y real, p unit, s logit, t sign, d positive, g nonnegative (hyper-parameters)
NEAT = {
    "2*d/2": "d", "d*x/d": "x", "x*d/d^2": "x/d", "2*(3*x)": "6*x", "x*(1/d)": "x/d", "-1*x": "-x", "x + -y": "x - y", "-(x - y)": "y - x",
    "-x*-y": "x*y", "x*x": "x^2", "x^2*x": "x^3", "d^2*d^(-1)": "d", "0.5*(2*(x - y))": "x - y", "x + x": "2*x", "3*x - x": "2*x", "x + 2 - 5": "x - 3",
    "x/2/3": "x/6", "(-x)^2": "x^2", "(-x)^3": "-x^3", "1/(1/d)": "d", "sqrt(d)*sqrt(d)": "d", "d/sqrt(d)": "sqrt(d)", "d^g*d": "d^(g + 1)",
    "d^(g - 1)*d": "d^g", "x - y - (x - y) + x": "x + 0*y", "abs(-x)": "abs(x)", "abs(2*x)": "2*abs(x)", "cosh(-x)": "cosh(x)",
    "sign(-x)": "-sign(x)", "sign(x)*abs(x)": "x", "abs(x)^2": "x^2", "abs(d)": "d", "relu(d*x^2)": "d*x^2", "mul0(d, x)": "d*x",
    "mul0(-x, log(p))": "-mul0(x, log(p))", "xlogy(-2*x, p)": "-(2*xlogy(x, p))", "logaddexp(0, x)": "softplus(x)", "(1 - p)*sigmoid(x) - p*sigmoid(-x)": "sigmoid(x) - p",
    "1/(1 + x^2) - x^2/(1 + x^2)^2": "1/(1 + x^2)^2", "1 - d/(d + x^2)": "x^2/(d + x^2)", "y - y*x^2/(d + x^2)": "d*y/(d + x^2)",
    "1/sqrt(1 + x^2) - x^2/(1 + x^2)^1.5": "1/(1 + x^2)^1.5", "1/(1 + x^2/2) - x^2/(1 + x^2/2)^2": "(1 - x^2/2)/(1 + x^2/2)^2",
    "p + 1/(1 + x^2/d^2) - x^2/(d^2*(1 + x^2/d^2)^2)": "p + 1/(1 + x^2/d^2)^2", "x*(2*y)": "2*x*y",
    "piecewise(x if abs(x) <= d, d*sign(x) otherwise)": "clip(x, -d, d)", "piecewise(x - y if abs(x - y) < d, d*sign(x - y) otherwise)": "clip(x - y, -d, d)",
    "piecewise(x/d if abs(x) < d, sign(x) otherwise)": "clip(x/d, -1, 1)", "piecewise(x if x > 0, -x otherwise)": "abs(x)", "piecewise(-x if x < 0, x otherwise)": "abs(x)",
    "piecewise(-1 if x < -1, d if x > d, x otherwise)": "clip(x, -1, d)", "piecewise(0 if x < 0, x otherwise)": "max(0, x)", "piecewise(d if x > d, x otherwise)": "min(d, x)",
    "piecewise(x if x > y, x otherwise)": "x", "piecewise(x if p > 0, x if y > 0, y otherwise)": "piecewise(x if p > 0 or y > 0, y otherwise)",
    "piecewise(piecewise(x if p > 0, y otherwise) if p > 0, 1 otherwise)": "piecewise(x if p > 0, 1 otherwise)",
    "piecewise(x if p > 0, piecewise(y if p > 0, 2 otherwise) otherwise)": "piecewise(x if p > 0, 2 otherwise)",
    "piecewise(1 if x > 0, 0 otherwise)": "(x > 0)", "piecewise(-1 if x > 0, 0 otherwise)": "-(x > 0)", "piecewise(0 if x == 0, y otherwise)": "(x != 0)*y",
    "piecewise(-x if p > 0, -y otherwise)": "-piecewise(x if p > 0, y otherwise)",
}  # fmt: skip

# what looks simpler and is not the same, for some value or for NaN
KEPT = (
    "x/x", "x*y/x", "y/y*x", "x - x", "s - s + x", "0*s", "0*x", "x^0*y", "sqrt(x)^2", "x*log(x)/log(x)", "exp(s)/exp(s)", "x^g*x", "piecewise(x if x > 0, 0 otherwise)",
    "piecewise(x if x < y, y otherwise)", "piecewise(0 if x <= 0, 1 otherwise)", "piecewise(x if abs(x) <= y, y*sign(x) otherwise)", "mul0(s, log(p))", "mul0(x, 1/x)",
    "piecewise(1 if x > 0, -1 if x < 0, 0 otherwise)", "p/p", "max(x, x)", "piecewise(x if x > 0)", "(x + y)^2", "x*y + x*d", "x*(y + d)",
)  # fmt: skip


def simplified(text: str) -> Expr:
    return simplify(expressions.program(read(text, LETTERS))).value


@pytest.mark.parametrize("text", NEAT)
def test_closed_forms(text: str) -> None:
    after = simplified(text)
    assert flat(lossdsl.Loss(expressions.program(after))) == NEAT[text]


@pytest.mark.parametrize("text", [*NEAT, *KEPT])
def test_values_stay(text: str) -> None:
    """For NaN, infinities and at kinks too."""
    e, after, rng = read(text, LETTERS), simplified(text), Random(3)
    names = sorted(expressions.letters(e))
    seen = 0
    for _ in range(400):
        env = {x: rng.choice(expressions.points(x, rng)) for x in names}
        left, right = expressions.value(e, env), expressions.value(after, env)
        if left is not None:
            assert right is not None and expressions.same(left, right), (str(after), env, left, right)
            seen += 1
    assert seen > 40


@pytest.mark.parametrize("text", KEPT)
def test_nothing_is_lost(text: str) -> None:
    """Every input that could be seen still can: the form keeps all letters."""
    assert expressions.letters(simplified(text)) == expressions.letters(read(text, LETTERS))


def test_pieces_stay_where_their_kinks_matter() -> None:
    e = read("piecewise(x if abs(x) <= d, d*sign(x) otherwise) + abs(d)", LETTERS)
    assert simplify(expressions.program(e), pieces=True).value is e


SUMS = {
    "a(x: real[n]) = sum[n](3*x)": "3*sum[n](x)",
    "a(x: real[n], c: real) = sum[n](-c*x)": "-(c*sum[n](x))",
    "a(x: real[n]; c: real) = sum[n | x > 0](c*x)": "c*sum[n | x > 0](x)",
    "a(x: real[n], c: real) = sum[n | x > 0](c*x)": "sum[n | x > 0](c*x)",
    "a(x: real[n], s: logit) = sum[n](s*x)": "sum[n](s*x)",
    "a(x: real[n], c: real) = sum[n](x/c)": "sum[n](x/c)",
    "a(x: real[n]) = sum[n](x)/size(n)": "mean[n](x)",
    "a(x: real[n]) = sum[n](1) + x[0]": "size(n) + x[0]",
    "a(s: real[k], y: class(k)) = sum[k]((k == y)*s)": "s[y]",
    "a(s: real[k], y: class(k)) = sum[k | k == y](s)": "s[y]",
    "a(s: real[k], y: integer) = sum[k | k == y](s)": "sum[k | k == y](s)",
    "a(s: real[k], y: class(k, ignore = -1)) = sum[k | k == y](s)": "sum[k | k == y](s)",
    "a(s: real[k], y: class(k); e: unit) = sum[k]((1 - e)*(k == y) + e/size(k))": "1",
    "a(s: real[k, n], y: class(k)[n]) = sum[k, n | k == y](s)": "sum[n](s[y])",
    "a(s: real[k], u: real[k]) = sum[k](s + u)": "sum[k](s + u)",
}  # fmt: skip


@pytest.mark.parametrize("text", SUMS)
def test_sums(text: str) -> None:
    assert body(simplify(program(text))) == SUMS[text]


DERIVED = {
    "a(delta: positive) = piecewise(r^2/2 if abs(r) <= delta, delta*(abs(r) - delta/2) otherwise)": ("clip(f - y, -delta, delta)", "abs(f - y) <= delta"),
    "a(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]": (
        "softmax[k](s) - (k == y)",
        "softmax[k](s)[k1]*((k1 == k) - softmax[k](s))",
    ),
    "a(s: logit[k], y: class(k)) = -log(exp(s[y])/sum[k](exp(s)))": (
        "softmax[k](s) - (k == y)",
        "softmax[k](s)[k1]*((k1 == k) - softmax[k](s))",
    ),
    "a(s: real, t: unit) = -(t*log(sigmoid(s)) + (1 - t)*log(1 - sigmoid(s)))": ("sigmoid(s) - t", "sigmoid(s)*sigmoid(-s)"),
    "a = log(cosh(r))": ("tanh(f - y)", "1/cosh(f - y)^2"),
    "a = r^2": ("2*(f - y)", "2"),
    "a = log(1 + r^2)": ("2*(f - y)/(1 + (f - y)^2)", "2*(1 - (f - y)^2)/(1 + (f - y)^2)^2"),
    "a = sqrt(1 + r^2) - 1": ("(f - y)/sqrt(1 + (f - y)^2)", "1/(1 + (f - y)^2)^1.5"),
    "a(c: positive) = r^2/(r^2 + c^2)": ("2*c^2*(f - y)/((f - y)^2 + c^2)^2", None),
    "a(f: real[n], y: real[n]) = mean[n]((f - y)^2)": ("2*(f - y)/size(n)", None),
    "a = log(1 + exp(-z))": ("-y*sigmoid(-y*f)", None),
    "a(beta: positive) = piecewise(r^2/(2*beta) if abs(r) < beta, abs(r) - beta/2 otherwise)": ("clip((f - y)/beta, -1, 1)", None),
    "a(s: logit[k], y: class(k); eps: unit) = -sum[k](t*log_softmax[k](s)) where t[k] = (1 - eps)*(k == y) + eps/size(k)": (
        "softmax[k](s) - (k == y)*(1 - eps) - eps/size(k)", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", DERIVED)
def test_derivatives_read_well(text: str) -> None:
    loss = lossdsl.parse(text)["a"]
    slope, curvature = DERIVED[text]
    assert flat(loss.grad()) == slope
    if curvature is not None:
        assert flat(loss.hess()).strip("()") == curvature.strip("()")


def flat(loss: lossdsl.Loss) -> str:
    return " ".join(body(loss.program).split())


# -- tables and sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [rule for row in FUNCTIONS.values() for rule in row.rules])
def test_rules_of_functions_apply(text: str) -> None:
    left, right = (read(side, {"x": ref("x")}) for side in text.split(" -> "))
    assert simplify(expressions.program(left)).value is right


def test_an_even_function_of_an_even_argument_stays() -> None:
    e = call("cosh", sub(ref("x"), ref("y")))
    assert simplify(expressions.program(e)).value is e


def test_views_build_what_they_were_taken_from() -> None:
    rng = Random(4)
    for _ in range(400):
        e = expressions.write(rng, rng.randint(2, 14))
        for made in (build_product(product(e)), build_sum(terms(e))):
            for _ in range(5):
                env = {x: rng.choice(expressions.points(x, rng)) for x in expressions.KINDS}
                left, right = expressions.value(e, env), expressions.value(made, env)
                assert left is None or right is None or expressions.same(left, right), (e, made, env)


def test_equal_names_mean_equal_values() -> None:
    rng = Random(9)
    names = Names()
    groups: dict[object, list[Expr]] = {}
    for _ in range(6000):
        e = expressions.write(rng, rng.randint(2, 6))
        groups.setdefault(names.of(e), []).append(e)
    several = [list(dict.fromkeys(g)) for g in groups.values() if len(set(g)) > 1]
    assert len(several) > 50
    for first, *others in several:
        for other in others[:3]:
            for _ in range(6):
                env = {x: rng.choice(expressions.points(x, rng)) for x in expressions.KINDS}
                left, right = expressions.value(first, env), expressions.value(other, env)
                assert left is None or right is None or expressions.same(left, right), (first, other, env)


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("x - y", "-(y - x)", True), ("exp(x - y)*d", "d*exp(-(y - x))", True), ("x/d/y", "x/(y*d)", True), ("(x - y)^2", "(y - x)^2", True), ("x*y/y", "x", False),
        ("x - x + y", "y", False), ("sqrt(x)^2", "x", False), ("2*(x - y)", "2*x - 2*y", True), ("max(x, y)", "max(y, x)", True), ("x < y", "y > x", True), ("x^(-1)", "1/x", True),
    ],
)  # fmt: skip
def test_names(a: str, b: str, equal: bool) -> None:
    assert Names().same(read(a, LETTERS), read(b, LETTERS)) is equal


def test_matching_takes_no_second_guess() -> None:
    """A pattern against a wide sum or product looks at each part once."""
    ranges = Ranges(Program("made", (), (), ()))
    table = rules.Rules(rules.STABLE + rules.FINE, ranges, Names())
    wide: Expr = ONE
    for k in range(400):
        wide = sub(wide, call("sigmoid", call("exp", ref(f"v{k}"))) if k % 2 else call("sqrt", num(k)))
    assert table(wide) is None or table(wide) is not wide
