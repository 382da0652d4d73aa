"""The language at run time: batches, weights and checks of a call, and what a gradient is at kinks, poles and behind guards."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tools import normal

import lossdsl
from lossdsl.errors import LossError
from lossdsl.runtime import reference

nan, inf = math.nan, math.inf
X, Y = normal(5), normal(5, seed=1)
A = normal(5, 3, seed=2)


def loss(text: str) -> lossdsl.Loss:
    return list(lossdsl.parse(text).values())[-1]


def fn(text: str, **options: Any) -> Callable[..., Any]:
    return loss(text).compile("numpy", **options)


SQUARED = "squared(f, y; c = 1) = c*(f - y)^2"
ENTROPY = "entropy(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]"
IGNORING = "entropy(s: logit[k], y: class(k, ignore = -100)) = logsumexp[k](s) - s[y]"
SCALED = "scaled(f, y; delta: positive) = abs(f - y)*delta"


def entropy(s: np.ndarray, y: int) -> float:
    return float(np.log(np.sum(np.exp(s))) - s[y])


# -- the batch ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reduction", "want"), [("mean", np.mean), ("sum", np.sum), ("none", lambda v: v)])
def test_reduction_over_the_batch(reduction: str, want: Callable[[np.ndarray], Any]) -> None:
    assert np.allclose(fn(SQUARED)(X, Y, reduction=reduction), want((X - Y) ** 2))


def test_the_mean_is_the_default() -> None:
    assert np.isclose(fn(SQUARED)(X, Y), np.mean((X - Y) ** 2))


def test_leading_dimensions_are_batch() -> None:
    y = np.array([0, 2, 1, 1, 0])
    each = [entropy(s, c) for s, c in zip(A, y, strict=True)]
    assert np.allclose(fn(ENTROPY)(A, y, reduction="none"), each)
    assert np.allclose(fn(ENTROPY)(A.reshape(5, 1, 3), y.reshape(5, 1), reduction="none"), np.reshape(each, (5, 1)))


def test_a_batch_may_be_of_any_rank_or_none() -> None:
    f, y = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    assert np.allclose(fn(SQUARED)(f, y, reduction="none"), (f - y) ** 2)
    assert np.isclose(fn(SQUARED)(2.0, 5.0), 9.0)


def test_batches_of_size_one_stretch_and_scalars_fit() -> None:
    f = normal(4, 3)
    assert np.allclose(fn(SQUARED)(f, f[:, :1] + 1, reduction="none"), (f - f[:, :1] - 1) ** 2)
    assert np.allclose(fn(SQUARED)(f, 2.0, reduction="none"), (f - 2) ** 2)


@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4,), (3,)), ((2, 4), (4,)), ((4, 3), (3, 4))])
def test_batches_that_differ_name_both_inputs(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(LossError) as caught:
        fn(SQUARED)(np.zeros(shapes[0]), np.zeros(shapes[1]))
    said = str(caught.value)
    assert "'f'" in said and "'y'" in said and str(shapes[0]) in said and str(shapes[1]) in said


def test_axes_of_one_name_have_one_length() -> None:
    with pytest.raises(LossError, match="n") as caught:
        fn("a(x: real[n], w: real[n]) = sum[n](x*w)")(np.zeros(3), np.zeros(4))
    assert "'x'" in str(caught.value) and "'w'" in str(caught.value)


def test_too_few_dimensions() -> None:
    with pytest.raises(LossError, match="x"):
        fn("a(x: real[n, d]) = sum[n, d](x)")(np.zeros(3))


def test_an_axis_may_lie_elsewhere() -> None:
    s, y = normal(2, 3, 4), np.array([[0, 1, 2, 2], [2, 1, 0, 0]])
    want = [[entropy(s[b, :, p], y[b, p]) for p in range(4)] for b in range(2)]
    assert np.allclose(fn(ENTROPY, axes={"k": 1})(s, y, reduction="none"), want)


def test_an_unknown_axis_is_refused() -> None:
    with pytest.raises(LossError, match="q"):
        fn(ENTROPY, axes={"q": 1})


# -- arguments ------------------------------------------------------------------------------------------------------------------------------


def test_inputs_by_name_and_as_lists() -> None:
    assert np.isclose(fn(SQUARED)(y=[1.0, 2.0], f=[3.0, 5.0]), 6.5)


@pytest.mark.parametrize(
    ("args", "kwargs", "word"),
    [
        ((X,), {}, "y"),
        ((X, Y, X), {}, "squared"),
        ((X,), {"f": X}, "f"),
        ((X, Y), {"z": X}, "z"),
        ((X, Y), {"reduction": "median"}, "reduction"),
        ((X, "abc"), {}, "y"),
    ],
)
def test_wrong_arguments_are_named(args: tuple[Any, ...], kwargs: dict[str, Any], word: str) -> None:
    with pytest.raises((LossError, TypeError)) as caught:
        fn(SQUARED)(*args, **kwargs)
    assert word in str(caught.value)


def test_a_hyper_parameter_at_compile_time_and_at_the_call() -> None:
    assert np.isclose(fn(SQUARED)(X, Y), np.mean((X - Y) ** 2))
    assert np.isclose(fn(SQUARED, c=3)(X, Y), 3 * np.mean((X - Y) ** 2))
    assert np.isclose(fn(SQUARED, c=3)(X, Y, c=5), 5 * np.mean((X - Y) ** 2))


def test_a_missing_hyper_parameter_is_named() -> None:
    with pytest.raises(LossError, match="delta"):
        fn(SCALED)(X, Y)
    assert np.isclose(fn(SCALED)(X, Y, delta=2), 2 * np.mean(abs(X - Y)))


@pytest.mark.parametrize("delta", [-1.0, 0.0, nan])
def test_a_hyper_parameter_outside_its_domain_is_refused_by_name(delta: float) -> None:
    with pytest.raises(LossError, match="delta"):
        fn(SCALED)(X, Y, delta=delta)
    with pytest.raises(LossError, match="delta"):
        fn(SCALED, delta=delta)
    with pytest.raises(LossError, match="delta"):
        loss(SCALED).bind(delta=delta)


def test_an_unknown_hyper_parameter_is_refused() -> None:
    with pytest.raises(LossError, match=r"delt\b"):
        fn(SCALED, delt=1)


def test_requirements_on_hyper_parameters() -> None:
    text = "a(f, y; lo = 0, hi = 1) = clip(f - y, lo, hi)\n  require lo < hi"
    assert np.isclose(fn(text)(3.0, 0.0), 1.0)
    with pytest.raises(LossError, match="lo < hi"):
        fn(text)(3.0, 0.0, lo=2)
    with pytest.raises(LossError, match="lo < hi"):
        fn(text, lo=2)(3.0, 0.0)


def test_kinds_are_checked_on_request() -> None:
    f = fn("surprise(p: prob[n], y: binary[n]) = -mean[n](log(p))")
    bad = np.array([0.5, 0.25, 1.5, 2.0])
    f(bad, np.zeros(4))
    with pytest.raises(LossError) as caught:
        f(bad, np.zeros(4), check=True)
    assert all(word in str(caught.value) for word in ("'p'", "2", "1.5", "(0, 1)"))
    with pytest.raises(LossError, match="'y'"):
        f(np.full(4, 0.5), np.array([0.0, 1.0, 0.5, 0.0]), check=True)
    f(np.full(4, 0.5), np.array([0.0, 1.0, 1.0, 0.0]), check=True)


@pytest.mark.parametrize(
    ("kind", "bad"), [("sign", 0.0), ("positive", 0.0), ("nonnegative", -1e-9), ("unit", 1.5), ("real", nan), ("real in (0, 2]", 0.0), ("integer", 0.5), ("logprob", 0.5)]
)
def test_each_kind_is_checked(kind: str, bad: float) -> None:
    with pytest.raises(LossError, match="'x'"):
        fn(f"a(x: {kind}) = x^2")(np.array([1.0 if kind != "logprob" else -1.0, bad]), check=True)


def test_a_simplex_is_checked() -> None:
    f = fn("a(p: simplex[k]) = sum[k](p^2)")
    f(np.array([0.25, 0.75]), check=True)
    with pytest.raises(LossError, match="'p'"):
        f(np.array([0.25, 0.7]), check=True)


@pytest.mark.parametrize("y", [-1, 3, 7])
def test_a_class_outside_its_axis_never_wraps(y: int) -> None:
    """NaN, or an error that names it; never the value of another class."""
    try:
        got = fn(ENTROPY)(A, np.array([0, 1, y, 2, 0]), reduction="none")
    except LossError as error:
        assert "'y'" in str(error)
        return
    assert np.array_equal(np.isnan(got), [False, False, True, False, False])


def test_ignored_classes_leave_the_batch() -> None:
    y = np.array([0, -100, 1, -100, 0])
    kept = [0, 2, 4]
    each = [entropy(A[i], y[i]) for i in kept]
    f = fn(IGNORING)
    assert np.isclose(f(A, y), np.mean(each)) and np.isclose(f(A, y, reduction="sum"), np.sum(each))
    assert np.allclose(f(A, y, reduction="none"), [each[0], 0, each[1], 0, each[2]])
    _, g = f.value_and_grad(A, y)
    assert np.array_equal(g[[1, 3]], np.zeros((2, 3))) and np.all(g[kept] != 0)


def test_a_value_without_samples() -> None:
    assert fn(SQUARED)(np.zeros(0), np.zeros(0), reduction="sum") == 0
    assert fn(SQUARED)(np.zeros(0), np.zeros(0), reduction="none").shape == (0,)
    assert np.isnan(fn(SQUARED)(np.zeros(0), np.zeros(0)))


# -- weights and masks ----------------------------------------------------------------------------------------------------------------------

W = np.array([1.0, 0.0, 2.0, 0.5, 3.0])


def test_a_weight_is_a_measure_on_the_batch() -> None:
    f, each = fn(SQUARED), (X - Y) ** 2
    assert np.isclose(f(X, Y, sample_weight=W), sum(W * each) / sum(W))
    assert np.isclose(f(X, Y, sample_weight=W, reduction="sum"), sum(W * each))
    assert np.allclose(f(X, Y, sample_weight=W, reduction="none"), W * each)


def test_a_mask_removes() -> None:
    mask = np.array([True, False, True, True, False])
    x = np.where(mask, X, nan)
    f = fn(SQUARED)
    assert np.isclose(f(x, Y, sample_mask=mask), np.mean((X - Y)[mask] ** 2))
    _, g = f.value_and_grad(x, Y, sample_mask=mask)
    assert np.allclose(g, np.where(mask, 2 * (X - Y) / 3, 0))


RMSE = "rmse(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))\n  batch n"
PAIRS = "pairs(x: real[n]) = mean[i, j in n | i != j]((x[i] - x[j])^2) + max[n](x)\n  batch n"


def test_a_weight_reaches_the_sample_axis() -> None:
    assert np.isclose(fn(RMSE)(X, Y, sample_weight=W), math.sqrt(sum(W * (X - Y) ** 2) / sum(W)))


@pytest.mark.parametrize("text", [SQUARED, RMSE])
def test_weight_two_is_a_duplicate(text: str) -> None:
    w = np.array([1.0, 2.0, 1.0, 0.0, 1.0])
    again = [0, 1, 1, 2, 4]
    assert np.isclose(fn(text)(X, Y, sample_weight=w), fn(text)(X[again], Y[again]))


def test_weight_zero_is_removed_from_extremes_and_pairs() -> None:
    x = X.copy()
    x[2] = 100.0
    w = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    assert np.isclose(fn(PAIRS)(x, sample_weight=w), fn(PAIRS)(np.delete(x, 2)))


# -- what a gradient is ---------------------------------------------------------------------------------------------------------------------


def gradient(text: str, arrays: dict[str, Any], wrt: str) -> np.ndarray:
    """By NumPy and by the reference, which must agree; arrays hold one event."""
    program = loss(text)
    arrays = {k: np.asarray(v) for k, v in arrays.items()}
    _, got = program.compile("numpy", wrt=[wrt]).value_and_grad(*[arrays[i.name] for i in program.inputs])
    (result,) = reference.evaluate(program.grad(wrt).program, arrays).values()
    want = np.asarray(result.value, dtype=float)
    assert np.allclose(got, want, rtol=1e-13, atol=1e-300, equal_nan=True), (got, want)
    return want


KINKS = [
    ("abs at 0", "a(x) = abs(x)", 0.0, 0.0),
    ("relu at 0", "a(x) = relu(x)", 0.0, 0.5),
    ("sign at 0", "a(x) = sign(x)", 0.0, 0.0),
    ("max of two at a tie", "a(x) = max(x, 2)", 2.0, 0.5),
    ("min of two at a tie", "a(x) = min(x, 2)", 2.0, 0.5),
    ("max of itself", "a(x) = max(x, x)", 2.0, 1.0),
    ("clip at its lower end", "a(x) = clip(x, 0, 1)", 0.0, 0.5),
    ("relu both ways", "a(x) = relu(x) - relu(-x)", 0.0, 1.0),
    ("abs by relus", "a(x) = relu(x) + relu(-x)", 0.0, 0.0),
    ("the branch that holds", "a(x) = piecewise(x if x >= 0, -x otherwise)", 0.0, 1.0),
    ("the branch that holds, strictly", "a(x) = piecewise(x if x > 0, -x otherwise)", 0.0, -1.0),
    ("a branch not taken", "a(x) = piecewise(log(x) if x > 0, x otherwise)", -1.0, 1.0),
    ("a branch not taken, at its pole", "a(x) = piecewise(sqrt(x) if x > 0, 2*x otherwise)", 0.0, 2.0),
    ("a comparison has no slope", "a(x) = (x > 1)*x", 3.0, 1.0),
    ("a comparison alone", "a(x) = x + (x > 1)", 1.0, 1.0),
    ("a strong zero", "a(x) = (x > 0)*log(x)", -1.0, 0.0),
    ("stop", "a(x) = stop(x)*x", 3.0, 3.0),
    ("stop of all", "a(x) = stop(x^2) + 0*x", 3.0, 0.0),
    ("an infinite derivative times 0", "a(x) = sqrt(x^2)", 0.0, 0.0),
    ("the derivative of a root alone is infinite", "a(x) = sqrt(x)", 0.0, inf),
    ("x log x at 0", "a(x) = x*log(x)", 0.0, -inf),
    ("a power at 0", "a(x) = x^2", 0.0, 0.0),
    ("a power 1 at 0", "a(x; p = 1) = x^p", 0.0, 1.0),
    ("outside the domain", "a(x) = sqrt(x)", -1.0, nan),
    ("NaN comes out", "a(x) = x^2", nan, nan),
]


@pytest.mark.parametrize(("text", "x", "want"), [k[1:] for k in KINKS], ids=[k[0] for k in KINKS])
def test_kinks_and_poles(text: str, x: float, want: float) -> None:
    assert np.array_equal(gradient(text, {"x": x}, "x"), want, equal_nan=True)


ARRAYS = [
    ("max shares a tie", "a(x: real[n]) = max[n](x)", {"x": [1.0, 3.0, 3.0, 2.0]}, [0, 1 / 2, 1 / 2, 0]),
    ("three way tie", "a(x: real[n]) = min[n](x)", {"x": [1.0, 1.0, 1.0]}, [1 / 3, 1 / 3, 1 / 3]),
    ("norm at 0", "a(x: real[n]) = norm[n](x)", {"x": [0.0, 0.0]}, [0, 0]),
    ("norm by a root", "a(x: real[n]) = sqrt(sum[n](x^2))", {"x": [0.0, 0.0]}, [0, 0]),
    ("euclidean of equal points", "a(x: real[n], w: real[n]) = euclidean(x, w)", {"x": [1.0, 2.0], "w": [1.0, 2.0]}, [0, 0]),
    ("rmse at its minimum", "a(x: real[n], w: real[n]) = sqrt(mean[n]((x - w)^2))", {"x": [1.0, 2.0], "w": [1.0, 2.0]}, [0, 0]),
    ("argmax has no slope", "a(x: real[n], w: real[n]) = w[argmax[n](x)] + 0*sum[n](x)", {"x": [1.0, 2.0], "w": [1.0, 2.0]}, [0, 0]),
    ("a gather scatters", "a(x: real[n], y: class(n)[m]) = sum[m](x[y]^2)", {"x": [1.0, 2.0, 3.0], "y": [0, 2, 2]}, [2, 0, 12]),
    ("a guard carries NaN nowhere", "a(x: real[n]) = sum[n | x > 0](log(x))", {"x": [1.0, -1.0, nan, 2.0]}, [1, 0, 0, 1 / 2]),
    ("a guard one level up", "a(x: real[n]) = sum[i in n | x[i] > 0](sum[j in n](log(x[i])*1))", {"x": [1.0, -1.0, 2.0]}, [3, 0, 3 / 2]),
    ("a mean of a guard", "a(x: real[n]) = mean[n | x > 0](x)", {"x": [1.0, -1.0, nan, 2.0]}, [1 / 2, 0, 0, 1 / 2]),
    ("a weight 0 is removed", "a(x: real[n], w: nonnegative[n]) = mean[n](log(x), weight = w)", {"x": [1.0, -1.0, 2.0], "w": [1.0, 0.0, 1.0]}, [1 / 2, 0, 1 / 4]),
    ("logsumexp of -inf", "a(x: logit[n]) = logsumexp[n](x)", {"x": [0.0, -inf]}, [1, 0]),
    ("a shift", "a(x: real[n]) = sum[n | n > 0](x*x[n - 1])", {"x": [1.0, 2.0, 3.0]}, [2, 4, 2]),
    ("a diagonal", "a(x: real[n, n2 in n]) = sum[i in n](x[i, i])", {"x": [[1.0, 2.0], [3.0, 4.0]]}, [[1, 0], [0, 1]]),
    ("two indices over one axis", "a(x: real[n]) = sum[i, j in n](i*x[i]*x[j])", {"x": [1.0, 2.0, 3.0]}, [8, 14, 20]),
]


@pytest.mark.parametrize(("text", "arrays", "want"), [a[1:] for a in ARRAYS], ids=[a[0] for a in ARRAYS])
def test_gradients_of_arrays(text: str, arrays: dict[str, Any], want: Any) -> None:
    arrays = {k: np.asarray(v) for k, v in arrays.items()}
    assert np.allclose(gradient(text, arrays, "x"), want, rtol=1e-13, atol=1e-15, equal_nan=True)


def test_what_a_guard_leaves_out_never_reaches_a_hessian() -> None:
    program = loss("a(x: real[n]) = sum[i in n | x[i] > 0](sum[j in n | x[j] > 0](log(x[i])*sqrt(x[j])))")
    x = np.array([1.0, -1.0, nan, 2.0])
    (h,) = reference.evaluate(program.hess("x").program, {"x": x}).values()
    values = np.asarray(h.value, dtype=float)
    assert np.all(np.isfinite(values)) and not values[1].any() and not values[:, 2].any()


def test_the_default_is_the_first_input_or_what_wrt_says() -> None:
    _, g = fn("a(f, y) = f*y^2").value_and_grad(3.0, 2.0)
    assert np.isclose(g, 4.0)
    _, g = fn("a(f, y) = f*y^2\n  wrt y").value_and_grad(3.0, 2.0)
    assert np.isclose(g, 12.0)
    _, g = fn("a(f, y) = f*y^2\n  wrt y, f").value_and_grad(3.0, 2.0)
    assert np.allclose(g, (12.0, 4.0))


@pytest.mark.parametrize("name", ["y", "nothing"])
def test_what_cannot_be_differentiated_is_said(name: str) -> None:
    with pytest.raises(LossError, match=name):
        loss(ENTROPY).grad(name)
