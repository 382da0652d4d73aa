"""Stable forms: every rule is an identity and fires, naive losses become the forms people write by hand, and code computes them well."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from math import inf
from random import Random
from typing import Any

import evaluators
import expressions
import numpy as np
import pytest
from tools import program

import lossdsl
from lossdsl.ir.expr import ONE, Expr, add, call, mul, num, postorder, ref, sub
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.ir.rows import fill
from lossdsl.passes import rules, settle
from lossdsl.passes.algebra import Names
from lossdsl.passes.refine import refine
from lossdsl.passes.simplify import simplify
from lossdsl.passes.stabilise import stabilise
from lossdsl.runtime import reference

mp = evaluators.mp
TABLES = {"STABLE": rules.STABLE, "FINE": rules.FINE, "NEAT": rules.NEAT, "KINKED": rules.KINKED}
RULES = [pytest.param(rule, id=rule.text) for texts in TABLES.values() for rule in rules.rules(texts)]
PASSES: dict[str, Callable[[Program], Program]] = {"stabilise": stabilise, "refine": refine, "simplify": simplify}

# -- the rules ------------------------------------------------------------------------------------------------------------

# an input for each condition that a letter may have to satisfy
KIND_OF = {"positive": "positive", "nonnegative": "nonnegative", "nonzero": "sign", "finite": "real", "unit": "unit"}
HARD = [mp.inf, -mp.inf, *map(mp.mpf, ("0", "1", "-1", "0.5", "-0.25", "2.75", "-3.5", "1e-12", "-1e-12", "30", "-30"))]


def kinds(rule: rules.Rule) -> dict[str, str]:
    """A kind for each letter of a rule under which its conditions hold; any other may be infinite."""
    return dict.fromkeys(expressions.letters(rule.left), "real") | {letter: KIND_OF[name] for name, letter in rule.conditions}


def values(rule: rules.Rule, letter: str, rng: Random) -> list[Any]:
    conditions = [name for name, x in rule.conditions if x == letter]
    kept = [*HARD, *(mp.mpf(rng.uniform(-4, 4)) for _ in range(6))]
    tests = {"positive": lambda x: x > 0, "nonnegative": lambda x: x >= 0, "nonzero": lambda x: x != 0, "finite": mp.isfinite, "unit": lambda x: 0 <= x <= 1}
    return [x for x in kept if all(tests[name](x) for name in conditions)]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_an_identity(rule: rules.Rule) -> None:
    rng = Random(rule.text)
    letters = sorted(expressions.letters(rule.left))
    defined = 0
    for point in itertools.product(*(values(rule, x, rng) for x in letters)):
        env = dict(zip(letters, point, strict=True))
        left = expressions.value(rule.left, env)
        if left is None or mp.isnan(left):
            continue
        right = expressions.value(rule.right, env)
        assert right is not None and expressions.same(left, right), (rule.text, env, left, right)
        defined += 1
    assert defined >= 5


@pytest.mark.parametrize("rule", RULES)
def test_nan_comes_out_of_both_sides(rule: rules.Rule) -> None:
    letters = sorted(expressions.letters(rule.left))
    for lost in letters:
        env = {x: mp.nan if x == lost else mp.mpf("0.375") for x in letters}
        assert mp.isnan(expressions.value(rule.left, env)) and mp.isnan(expressions.value(rule.right, env)), (rule.text, lost)


def table_of(rule: rules.Rule) -> str:
    return next(texts for texts in TABLES.values() if rule.text in texts.splitlines())


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_fires(rule: rules.Rule) -> None:
    """Alone, on other letters; with a common factor and further terms; and not where its condition fails."""
    inside = {x: sub(ref(f"{x}1"), mul(ref(f"{x}2"), num(3))) for x in expressions.letters(rule.left)}
    inside |= {letter: ref(f"{letter}1") for _, letter in rule.conditions}
    known = {f"{x}{k}": kind for x, kind in kinds(rule).items() for k in (1, 2)} | {"m": "real", "w": "real"}
    names = Names()
    one_rule = rules.Rules(rule.text, Ranges(expressions.program(ONE, known)), names)
    left, right = fill(rule.left, inside), fill(rule.right, inside)
    found = one_rule(left)
    assert found is not None and names.same(found, right), found
    if left.op in ("add", "sub"):
        many = add(sub(ref("w"), mul(ref("m"), left.args[0])), mul(ref("m"), mul(num(-1 if left.op == "add" else 1), left.args[1])))
        found = one_rule(many)
        assert found is not None and same_at_random(found, many, known)
    if left.op in ("mul", "div"):
        found = one_rule(mul(ref("m"), left))
        assert found is not None and same_at_random(found, mul(ref("m"), left), known)
    if rule.conditions:
        unknown = dict.fromkeys(known, "logit")
        free = {x: ref(f"{x}1") for x in inside}
        assert rules.Rules(rule.text, Ranges(expressions.program(ONE, unknown)), names)(fill(rule.left, free)) is None


def same_at_random(a: Expr, b: Expr, known: Mapping[str, str]) -> bool:
    rng = Random(5)
    for _ in range(8):
        env = {x: mp.mpf(rng.choice([-1, 1]) if kind == "sign" else rng.uniform(0.1, 0.9)) for x, kind in known.items()}
        left, right = expressions.value(a, env), expressions.value(b, env)
        if left is not None and not mp.isnan(left) and not expressions.same(left, right):
            return False
    return True


# -- whole expressions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PASSES)
def test_random_expressions_keep_their_values(name: str) -> None:
    """At infinities, for NaN, at kinks; a stable form may be defined where the written one was not."""
    rng = Random(name)
    changed = 0
    for _ in range(500):
        e = expressions.write(rng, rng.randint(3, 16))
        made = expressions.program(e)
        after = PASSES[name](made)
        if after.value is e:
            continue
        changed += 1
        assert PASSES[name](after).value is after.value, f"{e} has not settled at {after.value}"
        choices = {x: expressions.points(x, rng) for x in expressions.KINDS}
        for _ in range(12):
            env = {x: rng.choice(choices[x]) for x in sorted(expressions.letters(e))}
            left = expressions.value(e, env)
            right = None if left is None else expressions.value(after.value, env | {x: mp.zero for x in expressions.KINDS if x not in env})
            if left is None or right is None or (mp.isnan(left) and name != "simplify"):
                continue
            assert expressions.same(left, right), f"{e} became {after.value}: {left} and {right} at {env}"
    assert changed > 100


# what is written, and what it becomes
FORMS = {
    "a(s: real) = log(1 + exp(s))": "softplus(s)",
    "a(s: real) = -log(sigmoid(s))": "softplus(-s)",
    "a(s: real) = -log(1/(1 + exp(-s)))": "softplus(-s)",
    "a(s: real) = log(1 - sigmoid(s))": "-softplus(s)",
    "a(s: real) = 1/(1 + exp(-s))": "sigmoid(s)",
    "a(s: real) = exp(s)/(1 + exp(s))": "sigmoid(s)",
    "a(s: real) = exp(-s)/(1 + exp(-s))^2": "sigmoid(-s)*sigmoid(s)",
    "a(s: real, c: real) = exp(s)/(exp(s) + exp(c))": "sigmoid(s - c)",
    "a(s: real, c: real) = exp(2*s)/(exp(s)*exp(s) + exp(c))": "sigmoid(2*s - c)",
    "a(s: real, x: positive, w: positive) = x*exp(s)/(x*exp(s) + w)": "sigmoid(log(x) + s - log(w))",
    "a(s: real) = exp(s)^2/(1 + exp(s))^2": "sigmoid(s)*sigmoid(s)",
    "a(s: real, c: real) = exp(2*s)/(1 + exp(s) + exp(c))^2": "exp(2*s - 2*logaddexp(softplus(s), c))",
    "a(s: real, c: real) = exp(s)/cosh(c)": "exp(s - log_cosh(c))",
    "a(s: real, c: real, x: real, w: real) = (x*exp(s) - w*exp(c))/(exp(s) + exp(c))": "x*exp(s - logaddexp(s, c)) - w*exp(c - logaddexp(s, c))",
    "a(s: real[k], y: class(k)) = 1/(1 + sum[k | k != y](exp(s - s[y])))": "sigmoid(-logsumexp[k | k != y](s - s[y]))",
    "a(s: real, x: real) = x/exp(s)": "x*exp(-s)",
    "a(s: real, g: positive) = log(sigmoid(s)^g)": "g*(-softplus(-s))",
    "a(s: real, g: nonnegative) = log(sigmoid(s)^g)": "mul0(g, -softplus(-s))",
    "a(s: real) = log(piecewise(exp(s) if s > 0, sigmoid(s) otherwise))": "piecewise(s if s > 0, -softplus(-s) otherwise)",
    "a(s: real) = log(normal_cdf(s))": "log_normal_cdf(s)",
    "a(s: real) = log(exp(s)^3*sqrt(1 + exp(-s)))": "3*s + 0.5*softplus(-s)",
    "a(p: prob, s: real) = log(p*exp(s) + (1 - p)*exp(-s))": "logaddexp(log(p) + s, log(1 - p) + (-s))",
    "a = log(cosh(r))": "log_cosh(f - y)",
    "a = log((exp(r) + exp(-r))/2)": "log_cosh(f - y)",
    "a = (exp(r) - exp(-r))/(exp(r) + exp(-r))": "tanh(f - y)",
    "a = 2/(1 + exp(-2*r)) - 1": "tanh(f - y)",
    "a = (1 - exp(-2*r))/(1 + exp(-2*r))": "tanh(f - y)",
    "a(s: real[k]) = log(sum[k](exp(s)))": "logsumexp[k](s)",
    "a(s: real[k]) = log(mean[k](exp(s)))": "logsumexp[k](s) - log(sum[k](1))",
    "a(s: real[k]; T: positive) = T*log(sum[k](exp(s/T)))": "T*logsumexp[k](s/T)",
    "a(s: real[k], b: binary[k]) = log(sum[k | b == 1](exp(s)))": "logsumexp[k | b == 1](s)",
    "a(s: real[k], w: positive[k]) = log(sum[k](w*exp(s)))": "logsumexp[k](log(w) + s)",
    "a(s: real[k]) = log(max[k](exp(s)))": "max[k](s)",
    "a(s: real[k], y: class(k)) = -log(exp(s[y])/sum[k](exp(s)))": "logsumexp[k](s) - s[y]",
    "a(s: real[k], y: class(k)) = log(softmax[k](s)[y])": "log_softmax[k](s)[y]",
    "a(s: real[k], y: class(k)) = log(1 - softmax[k](s)[y])": "log1mexp(log_softmax[k](s)[y])",
    "a(s: real[k], y: class(k)) = exp(s[y])/(exp(s[y]) + sum[k | k != y](exp(s)))": "sigmoid(s[y] - logsumexp[k | k != y](s))",
    "a(s: real[k], x: real[k]) = sum[k](x*exp(s))/sum[k](exp(s))": "sum[k](x*softmax[k](s))",
    "a(s: real, t: unit) = -(t*log(sigmoid(s)) + (1 - t)*log(1 - sigmoid(s)))": "bce_with_logits(s, t)",
    "a(s: real, t: unit) = -t*log(1/(1 + exp(-s))) - (1 - t)*log(1 - 1/(1 + exp(-s)))": "bce_with_logits(s, t)",
    "a(s: real, w: real) = w - 3*s - w*sigmoid(s)": "w*sigmoid(-s) - 3*s",
    "a(s: real) = log(1 - exp(-s^2))": "log1mexp(-s^2)",
    "a(s: real, c: real) = log(exp(s) + exp(c))": "logaddexp(s, c)",
    "a(s: real) = log2(1 + exp(s))": "softplus(s)/log(2)",
    "a(s: real) = log1p(exp(s))": "softplus(s)",
    "a(s: real[k], q: simplex[k]) = sum[k](q*log(q/softmax[k](s)))": "sum[k](q*log(q) - q*log_softmax[k](s))",
    "a(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))": "norm[n](f - y)/sqrt(sum[n](1))",
    "a(x: real[n]) = sum[n](x*x)^(1/2)": "norm[n](x)",
    "a(x: real[n], w: positive[n]) = sqrt(sum[n](2*w*x^2))": "sqrt(2)*norm[n](sqrt(w)*x)",
    "a(x: real) = sqrt(x^2)": "abs(x)",
    "a(x: real, w: real) = sqrt(x^2 + w^2)": "hypot(x, w)",
    "a(s: real, p: unit) = log(exp(p)) + log(exp(p)*exp(s))": "p + (p + s)",
    # nothing to gain, nothing changed
    "a(p: prob) = log(p) + log(1 - p)": "log(p) + log(1 - p)",
    "a(s: real) = log(sigmoid(s) + 1)": "log(sigmoid(s) + 1)",
    "a(x: real[n], w: nonnegative[n]) = sqrt(sum[n](w*x^2))": "sqrt(sum[n](w*x^2))",
    "a(x: real[n]) = sqrt(1 + sum[n](x^2))": "sqrt(1 + sum[n](x^2))",
}  # fmt: skip


def body(p: Program) -> str:
    return str(lossdsl.Loss(p)).partition("\n  wrt")[0].partition(") =")[2].strip()


@pytest.mark.parametrize("text", FORMS)
def test_naive_forms(text: str) -> None:
    after = stabilise(program(text))
    assert body(after) == FORMS[text]
    assert stabilise(after) == after


FINE = {
    "a(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]": "softplus(logsumexp[k | k != y](s) - s[y])",
    "a(s: logit[k], y: class(k)) = 1 - softmax[k](s)[y]": "sigmoid(logsumexp[k | k != y](s) - s[y])",
    "a(s: logit[k], y: class(k)) = log(1 - softmax[k](s)[y])": "-softplus(s[y] - logsumexp[k | k != y](s))",
    "a(s: real[k, n]) = sum[n](logsumexp[k](s) - s[0])": "sum[n](softplus(logsumexp[k | k != 0](s) - s[0]))",
    "a(s: real[n, k], y: class(k)[n]) = mean[n](logsumexp[k](s) - s[n, y])": "mean[n](softplus(logsumexp[k | k != y](s) - s[y]))",
    "a(p: unit) = log(1 - p)": "log1p(-p)",
    "a(x: positive, w: positive) = log(x/w)": "logdiv(x, w)",
    "a = sqrt(1 + r^2) - 1": "hypot1m1(f - y)",
    "a(d: positive) = sqrt(r^2 + d^2) - d": "d*hypot1m1((f - y)/d)",
    "a = exp(r) - 1": "expm1(f - y)",
    "a = 1 - exp(-r^2)": "-expm1(-(f - y)^2)",
    "a(s: real) = exp(s)/(exp(s) - 1)": "-1/expm1(-s)",
    "a(p: prob, t: unit) = (1 - t)*log(1 - p)": "mul0(1 - t, log1p(-p))",
    "a = 1 - cos(r)": "2*sin((f - y)/2)^2",
}


@pytest.mark.parametrize("text", FINE)
def test_refined_forms(text: str) -> None:
    after = refine(stabilise(program(text)))
    assert body(after) == FINE[text]
    assert refine(after) == after


def test_the_gradient_of_a_confident_class_is_what_is_left() -> None:
    slope = lossdsl.parse("a(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]")["a"].grad("s").program
    assert body(refine(slope)).replace("\n", "") == "piecewise(-sigmoid(logsumexp[k | k != y](s) - s[y]) if k == y, softmax[k](s) otherwise)"


def test_an_entry_for_every_class_is_left_alone() -> None:
    """The others of every class would cost the square of their number."""
    made = program("a(s: real[k], q: simplex[k]) = sum[k](q*(logsumexp[k](s) - s))")
    assert refine(made) == made


def test_a_guarded_logsumexp_is_left_alone() -> None:
    made = program("a(s: real[k], b: binary[k], y: class(k)) = logsumexp[k | b == 1](s) - s[y]")
    assert refine(made) == made


# -- values ---------------------------------------------------------------------------------------------------------------

LOGITS = [[1e4, -1e4, 3.0], [-1e4, 0.5, 1e4], [0.1, 0.2, -0.3], [700.0, -800.0, 0.0], [5.0, 5.0, 5.0], [-inf, 0.0, 40.0]]


@pytest.mark.parametrize("text", [*FORMS, *FINE])
def test_forms_keep_their_values(text: str) -> None:
    """In the reference, at 30 digits: stable and refined programs beside the written one, at masked classes too."""
    made = program(text)
    for seed in range(6):
        loss = lossdsl.Loss(made)
        arrays = loss.sample(seed, sizes=dict.fromkeys({a for i in made.inputs for a in i.axes}, 3))
        if seed < 3 and (i := made.inputs[0]).kind.name in ("real", "logit"):
            scale = (1e-30, 30.0, 1.0)[seed]
            arrays[i.name] = arrays[i.name] * scale
            if seed == 2 and i.kind.name == "logit" and i.axes:
                arrays[i.name][..., int(arrays["y"]) - 1] = -inf
        params = {p.name: 1.5 for p in made.params}
        want = reference.evaluate(made, arrays, params)[made.name]
        for after in (stabilise(made), refine(made), refine(stabilise(made)), simplify(made)):
            got = reference.evaluate(after, arrays, params)[made.name]
            assert close(got.value, want.value, max(want.scale, 1)), (str(lossdsl.Loss(after)), got.value, want.value)


def close(a: Any, b: Any, scale: Any) -> bool:
    if mp.isnan(a) or mp.isnan(b) or mp.isinf(a) or mp.isinf(b):
        return bool(a == b or (mp.isnan(a) and mp.isnan(b)))
    return bool(abs(a - b) <= 1e-28 * scale)


NAIVE = {
    "bce": ("a(s: real, y: binary) = -(y*log(p) + (1 - y)*log(1 - p)) where p = 1/(1 + exp(-s))", {}),
    "softplus": ("a(s: real) = log(1 + exp(s))", {}),
    "cross_entropy": ("a(s: real[k], y: class(k)) = -log(exp(s[y])/sum[k](exp(s)))", {}),
    "soft_labels": ("a(s: real[k], q: simplex[k]) = -sum[k](q*log(exp(s)/sum[k](exp(s))))", {}),
    "focal_half": ("a(s: real[k], y: class(k); g: nonnegative) = -(1 - p[y])^g*log(p[y]) where p = softmax[k](s)", {"g": 0.5}),
    "focal_one": ("a(s: real[k], y: class(k); g: nonnegative) = -(1 - p[y])^g*log(p[y]) where p = softmax[k](s)", {"g": 1}),
    "focal_two": ("a(s: real[k], y: class(k); g: nonnegative) = -(1 - p[y])^g*log(p[y]) where p[k] = exp(s)/sum[k](exp(s))", {"g": 2}),
    "focal_five": ("a(s: real[k], y: class(k); g: nonnegative) = -(1 - p[y])^g*log(p[y]) where p = softmax[k](s)", {"g": 5}),
    "binary_focal": ("a(s: real, y: binary; g: nonnegative) = -(1 - p)^g*log(p) where p = sigmoid((2*y - 1)*s)", {"g": 0.5}),
    "log_cosh": ("a(s: real) = log((exp(s) + exp(-s))/2)", {}),
    "tanh": ("a(s: real) = (exp(s) - exp(-s))/(exp(s) + exp(-s))", {}),
    "kl": ("a(s: real[k], q: simplex[k]) = sum[k](q*log(q/p)) where p[k] = exp(s)/sum[k](exp(s))", {}),
    "rmse": ("a(s: real[k], y: real[k]) = sqrt(mean[k]((s - y)^2))", {}),
    "pseudo_huber": ("a(s: real) = sqrt(1 + s^2) - 1", {}),
    "scaled_pseudo_huber": ("a(s: real; d: positive) = 2*d^2*(sqrt(1 + (s/d)^2) - 1)", {"d": 0.5}),
    "charbonnier": ("a(s: real; d: positive) = sqrt(s^2 + d^2) - d", {"d": 0.5}),
    "attention": ("a(s: real[k], x: real[k]) = sum[k](exp(s)*x)/sum[k](exp(s))", {}),
}  # fmt: skip
SCALARS = [1e4, -1e4, 745.0, -745.0, 40.0, -40.0, 1.0, -0.5, 1e-3, 1e-30, -1e-30, 0.0]
RESIDUALS = ("pseudo_huber", "scaled_pseudo_huber", "charbonnier")  # of exponentials of 1e30 not even the reference knows the rest


def arrays_for(name: str, loss: lossdsl.Loss) -> list[dict[str, Any]]:
    inputs = {i.name: i for i in loss.inputs}
    out = []
    for s in LOGITS[:5] if inputs["s"].axes else [*SCALARS, 1e30, -1e30] if name in RESIDUALS else SCALARS:
        rest: list[dict[str, Any]] = [{}]
        for name, i in inputs.items():
            if name == "s":
                continue
            choices = {"binary": [0.0, 1.0], "class": [0, 2], "simplex": [[0.0, 0.25, 0.75]], "real": [[0.0, 1.0, -2.0], s]}[i.kind.name]
            rest = [{**r, name: np.asarray(c)} for r in rest for c in choices]
        out += [{"s": np.asarray(s), **r} for r in rest]
    return out


@pytest.mark.parametrize("name", NAIVE)
def test_naive_losses_compute_well(name: str) -> None:
    """Value and gradient, for logits up to 1e4 and residuals from 1e-30 to 1e30, within the measure of the reference."""
    text, params = NAIVE[name]
    loss = lossdsl.parse(text)["a"]
    fn = loss.compile("numpy", wrt=["s"], **params)
    for arrays in arrays_for(name, loss):
        value, slope = fn.value_and_grad(**arrays)
        want = reference.evaluate(loss.program, arrays, params)["a"]
        assert np.isfinite(value) and np.isfinite(slope).all(), (arrays, value, slope)
        assert reference.ulps(value, want) <= 8, (arrays, value, want.value)
        if name in ("rmse",) and not np.any(arrays["s"] - arrays["y"]):
            assert not np.any(slope)
            continue
        # the written program would need thousands of digits; that both are equal is tested above
        exact = np.asarray(reference.differences(stabilise(loss.program), arrays, params, wrt="s"), dtype=float)
        np.testing.assert_allclose(slope, exact, rtol=1e-12, atol=1e-15, err_msg=str(arrays))


SMALL = {
    "cross_entropy": ("a(s: real[k], y: class(k)) = -log(exp(s[y])/sum[k](exp(s)))", {"s": [60.0, 10.0, -5.0], "y": 0}),
    "bce": ("a(s: real, y: binary) = -(y*log(p) + (1 - y)*log(1 - p)) where p = sigmoid(s)", {"s": 60.0, "y": 1.0}),
    "softplus": ("a(s: real) = log(1 + exp(s))", {"s": -60.0}),
    "log_cosh": ("a(s: real) = log(cosh(s))", {"s": 1e-30}),
    "one_minus": ("a(s: real[k], y: class(k)) = 1 - softmax[k](s)[y]", {"s": [60.0, 10.0, -5.0], "y": 0}),
    "pseudo_huber": ("a(s: real) = sqrt(1 + s^2) - 1", {"s": 1e-30}),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_small_losses_keep_their_digits(name: str) -> None:
    """Accurate to the result itself, where subtracting would leave nothing."""
    text, given = SMALL[name]
    loss = lossdsl.parse(text)["a"]
    arrays = {k: np.asarray(v) for k, v in given.items()}
    value, slope = loss.compile("numpy", wrt=["s"]).value_and_grad(**arrays)
    want = float(reference.evaluate(loss.program, arrays)["a"].value)
    exact = np.asarray(reference.differences(loss.program, arrays, wrt="s", h=1e-60), dtype=float)
    assert 0 < want < 1e-12
    np.testing.assert_allclose(value, want, rtol=1e-14)
    np.testing.assert_allclose(slope, exact, rtol=1e-13)


# -- size -----------------------------------------------------------------------------------------------------------------


def test_deep_and_wide_expressions_come_back() -> None:
    deep: Expr = ref("x")
    for k in range(300):
        deep = call("log", add(ONE, call("exp", mul(deep, num(k % 3 + 1)))))
    wide = ref("x")
    for k in range(300):
        wide = add(wide, call("exp", mul(num(k), ref("y"))))
    for e in (deep, call("log", wide), wide):
        made = expressions.program(e)
        for run in PASSES.values():
            after = run(made)
            assert run(after) == after
    assert all(e.data != "exp" for e in postorder(stabilise(expressions.program(deep)).roots) if e.op == "call")


def test_rewriting_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text above needs more than a quarter of the work that is allowed."""
    monkeypatch.setattr(settle, "WORK", settle.WORK // 4)
    for text in [*FORMS, *FINE, *(text for text, _ in NAIVE.values())]:
        p = program(text)
        for run in PASSES.values():
            after = run(p)
            assert run(after) == after, text


def test_rules_that_never_end_are_stopped() -> None:
    x = ref("x")
    (grown,) = settle.settled([call("exp", x)], lambda e: add(e, ONE) if e.op == "call" else None)
    assert grown is add(call("exp", x), ONE)
    (turned,) = settle.settled([sub(x, ONE)], lambda e: sub(e.args[1], e.args[0]) if e.op == "sub" else None)
    assert turned in (sub(x, ONE), sub(ONE, x))
    counted = itertools.count(2)
    (last,) = settle.settled([call("exp", x)], lambda e: call("exp", mul(num(next(counted)), x)) if e.op == "call" else None)
    assert last.op == "call"


@pytest.mark.parametrize(("dtype", "size"), [(np.float64, 1e120), (np.float64, 1e-120), (np.float32, 1e15), (np.float32, 1e-15)])
def test_quotients_neither_overflow_nor_underflow(dtype: Any, size: float) -> None:
    """What is merged for reading is parted again for code."""
    loss = lossdsl.parse("a(x: real[d], y: real[d]) = 1 - sum[d](x*y)/(norm[d](x)*norm[d](y))")["a"]
    x, y = np.array([1, 2, 3], dtype) * dtype(size), np.array([1, -1, 2], dtype)
    _, slope = loss.compile("numpy", wrt=["x"]).value_and_grad(x, y)
    _, plain = loss.compile("numpy", wrt=["x"]).value_and_grad(x / dtype(size), y)
    np.testing.assert_allclose(slope * dtype(size), plain, rtol=1e-5 if dtype is np.float32 else 1e-13)
