"""The calling convention: names, hyper-parameters, batches, axes, dtypes, weights, masks, checks, and what each mistake says."""

from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from lossdsl.errors import LossError
from lossdsl.ir.expr import ONE, TWO, ZERO, Expr, Index, call, cmp, div, ix, mul, neg, num, pow_, pw, red, ref, sub
from lossdsl.ir.program import Input, Output, Param, Program
from lossdsl.kinds import Interval, Kind
from lossdsl.runtime.on_numpy import Compiled

f, y, delta = ref("f"), ref("y"), ref("delta")
K, N, D = Index("k", "k"), Index("n", "n"), Index("d", "d")


def scalar(name: str, e: Expr, inputs: tuple[Input, ...], params: tuple[Param, ...] = (), **more: Any) -> Program:
    return Program(name, inputs, params, (Output(name, (), e),), **more)


def real(name: str, axes: str = "", kind: str = "real", **more: Any) -> Input:
    return Input(name, Kind(kind, tuple((a, a) for a in axes), **more))


r = sub(f, y)
HUBER = scalar(
    "huber",
    pw([(div(pow_(r, TWO), TWO), cmp("<=", call("abs", r), delta))], mul(delta, sub(call("abs", r), div(delta, TWO)))),
    (real("f"), real("y")), (Param("delta", Kind("positive"), Fraction(1)),), wrt=("f",),
)  # fmt: skip
NEEDY = scalar("needy", mul(delta, pow_(r, TWO)), (real("f"), real("y")), (Param("delta", Kind("positive")),))
BOUNDED = scalar(
    "bounded", call("min", call("max", f, ref("lo")), ref("hi")), (real("f"),),
    (Param("lo", Kind("real"), Fraction(0)), Param("hi", Kind("real"), Fraction(1))), requires=(cmp(">", ref("hi"), ref("lo")),),
)  # fmt: skip
S = ref("s", [ix(K)])
XENT = scalar("xent", sub(red("logsumexp", [K], S), ref("s", [y])), (real("s", "k", "logit"), real("y", "", "class", of="k")), wrt=("s",))
IGNORING = scalar("xent", XENT.value, (real("s", "k", "logit"), real("y", "", "class", of="k", ignore=-100)), wrt=("s",))
RIDGE = scalar(
    "ridge", pow_(sub(red("sum", [D], mul(ref("x", [ix(D)]), ref("theta", [ix(D)]))), y), TWO), (real("theta", "d"), real("x", "d"), real("y")),
    wrt=("theta",),
)  # fmt: skip
rows = red("sum", [N], pow_(sub(ref("f", [ix(N)]), ref("y", [ix(N)])), TWO))
RMSE = scalar("rmse", call("sqrt", div(rows, red("sum", [N], ONE))), (real("f", "n"), real("y", "n")), wrt=("f",), batch="n")
TWO_AXES = scalar("two", red("sum", [K, D], mul(ref("a", [ix(K), ix(D)]), ref("b", [ix(D)]))), (real("a", "kd"), real("b", "d")), wrt=("a",))
LOGP = scalar("logp", neg(call("log", ref("p"))), (real("p", "", "prob"),), wrt=("p",))

rng = np.random.default_rng(0)
F, Y = rng.normal(size=(2, 50))


def huber_of(a: Any, b: Any, d: float = 1.0) -> Any:
    e = np.abs(np.asarray(a, float) - b)
    return np.where(e <= d, e * e / 2, d * (e - d / 2))


def xent_of(s: Any, k: Any) -> Any:
    return np.log(np.exp(s).sum(-1)) - np.take_along_axis(s, np.asarray(k)[..., None], -1)[..., 0]


# -- values and reductions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 50, 40_000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_reductions(n: int, dtype: Any) -> None:
    a, b = np.random.default_rng(n).normal(size=(2, n)).astype(dtype)
    fn, want = Compiled(HUBER, ("f",)), huber_of(a, b)
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    np.testing.assert_allclose(fn(a, b), want.mean(), rtol=tolerance)
    np.testing.assert_allclose(fn(a, b, reduction="sum"), want.sum(), rtol=tolerance)
    np.testing.assert_allclose(fn(a, b, reduction="none"), want, rtol=tolerance, atol=tolerance)
    for reduction, scale in (("mean", 1 / n), ("sum", 1), ("none", 1)):
        value, g = fn.value_and_grad(a, b, reduction=reduction)
        np.testing.assert_allclose(value, fn(a, b, reduction=reduction), rtol=tolerance)
        np.testing.assert_allclose(g, np.clip(a - b, -1, 1) * scale, rtol=tolerance)
        assert g.dtype == dtype
        assert np.asarray(value).dtype == dtype


def test_a_call_without_a_batch_is_a_number() -> None:
    fn = Compiled(HUBER, ("f",))
    for reduction in ("mean", "sum", "none"):
        assert fn(1.0, 3.0, reduction=reduction) == 1.5
    assert fn.value_and_grad(1.0, 3.0) == (1.5, -1.0)


def test_an_empty_batch() -> None:
    fn, none = Compiled(HUBER, ("f",)), np.zeros(0)
    assert np.isnan(fn(none, none))
    assert fn(none, none, reduction="sum") == 0
    assert fn(none, none, reduction="none").shape == (0,)
    assert fn.value_and_grad(none, none)[1].shape == (0,)
    with pytest.raises(LossError, match="over no samples"):
        fn(none, none, check=True)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 1, 5), (0, 3)])
def test_batches_of_any_rank(shape: tuple[int, ...]) -> None:
    a, b = np.random.default_rng(1).normal(size=(2, *shape))
    fn = Compiled(HUBER, ("f", "y"))
    assert fn(a, b, reduction="none").shape == shape
    np.testing.assert_allclose(fn(a, b, reduction="none"), huber_of(a, b))
    _, (g, h) = fn.value_and_grad(a, b, reduction="sum")
    np.testing.assert_allclose(g, -h)
    assert g.shape == shape


def test_sizes_of_one_are_repeated() -> None:
    a, b = np.random.default_rng(2).normal(size=(3, 1)), np.random.default_rng(3).normal(size=(3, 4))
    fn = Compiled(HUBER, ("f", "y"))
    np.testing.assert_allclose(fn(a, b, reduction="none"), huber_of(a, b))
    _, (g, h) = fn.value_and_grad(a, b)
    np.testing.assert_allclose(g, np.clip(a - b, -1, 1).sum(1, keepdims=True) / 12)
    assert h.shape == b.shape


def test_an_input_without_a_batch_is_shared() -> None:
    theta, x, b = rng.normal(size=3), rng.normal(size=(40, 3)), rng.normal(size=40)
    fn = Compiled(RIDGE, ("theta", "x"))
    value, (g, h) = fn.value_and_grad(theta, x, b)
    e = x @ theta - b
    np.testing.assert_allclose(value, (e**2).mean())
    np.testing.assert_allclose(g, 2 * x.T @ e / 40)
    np.testing.assert_allclose(h, 2 * e[:, None] * theta / 40)
    big = np.tile(x, (2000, 1)), np.tile(b, 2000)
    np.testing.assert_allclose(fn.value_and_grad(theta, *big)[1][0], g)


# -- names ------------------------------------------------------------------------------------------------------------


def test_inputs_by_name_and_in_any_form() -> None:
    fn = Compiled(HUBER, ("f",))
    want = fn(F, Y)
    assert fn(y=Y, f=F) == fn(F, y=Y) == fn(F.tolist(), tuple(Y)) == want


@pytest.mark.parametrize("args, named, message", [
    ((F,), {}, "needs the input 'y'"),
    ((F, Y, Y), {}, r"takes 2 inputs \(f, y\), and 3 were given"),
    ((F, Y), {"f": F}, "'f' of huber is given twice"),
    ((F, Y), {"delt": 1.0}, "did you mean delta"),
    ((F, Y), {"sample_weigth": F}, "did you mean sample_weight"),
    ((F, Y), {"reduction": "avg"}, "mean, sum or none"),
    ((F, Y), {"reduction": "sums"}, "did you mean sum"),
    ((F, Y), {"delta": -1}, r"'delta' of huber is -1, outside \(0, inf\)"),
    ((F, Y), {"delta": float("nan")}, "'delta' of huber is nan"),
    ((F, Y), {"delta": "1"}, "which is no number"),
    ((F[:, None], Y), {}, r"'f' has shape \(50, 1\), 'y' has shape \(50,\)"),
    ((F[:3], Y), {}, r"'f' has shape \(3,\), 'y' has shape \(50,\)"),
    ((["a"], [1]), {}, "'f' .*numbers"),
    (([1j], [1]), {}, "'f' .*numbers"),
    (([[1], [1, 2]], [1]), {}, "'f' cannot be read"),
    ((np.ma.masked_array([1.0]), [1]), {}, "masked array"),
])  # fmt: skip
def test_mistakes_in_a_call(args: Any, named: Any, message: str) -> None:
    with pytest.raises(LossError, match=message):
        Compiled(HUBER, ("f",))(*args, **named)


# -- hyper-parameters -------------------------------------------------------------------------------------------------


def test_hyper_parameters() -> None:
    fn = Compiled(HUBER, ("f",), params={"delta": 2})
    np.testing.assert_allclose(fn(F, Y), huber_of(F, Y, 2).mean())
    np.testing.assert_allclose(fn(F, Y, delta=0.5), huber_of(F, Y, 0.5).mean())
    np.testing.assert_allclose(fn(F, Y, delta=np.float32(0.5)), huber_of(F, Y, 0.5).mean())
    assert fn(F, Y, delta=2) == fn(F, Y)


def test_a_hyper_parameter_without_a_value() -> None:
    fn = Compiled(NEEDY, ("f",))
    with pytest.raises(LossError, match="'delta' of needy has no value"):
        fn(F, Y)
    np.testing.assert_allclose(fn(F, Y, delta=3), 3 * ((F - Y) ** 2).mean())
    np.testing.assert_allclose(Compiled(NEEDY, ("f",), params={"delta": 3})(F, Y), fn(F, Y, delta=3))


def test_mistakes_at_compile_time() -> None:
    with pytest.raises(LossError, match="outside"):
        Compiled(HUBER, params={"delta": 0})
    with pytest.raises(LossError, match="did you mean delta"):
        Compiled(HUBER, params={"dleta": 1})
    with pytest.raises(LossError, match="no axis 'q'"):
        Compiled(XENT, axes={"q": 1})


def test_requirements() -> None:
    fn = Compiled(BOUNDED, ("f",))
    assert fn(0.5) == 0.5
    with pytest.raises(LossError, match="requires hi > lo, but hi is 1, lo is 2"):
        fn(0.5, lo=2)
    with pytest.raises(LossError, match="requires"):
        Compiled(BOUNDED, params={"lo": 1})


def test_single_precision_is_never_promoted() -> None:
    a, b = F.astype(np.float32), Y.astype(np.float32)
    for d in (2, 0.1, np.float64(0.3)):
        value, g = Compiled(HUBER, ("f",)).value_and_grad(a, b, delta=d, sample_weight=np.ones(50))
        assert value.dtype == g.dtype == np.float32


def test_a_derivative_by_a_hyper_parameter() -> None:
    value, g = Compiled(NEEDY, ("delta",)).value_and_grad(F, Y, delta=2.0)
    np.testing.assert_allclose(g, value / 2)


# -- dtypes -----------------------------------------------------------------------------------------------------------


def test_half_precision_is_computed_in_single() -> None:
    a, b = (300 * F).astype(np.float16), Y.astype(np.float16)
    value, g = Compiled(XENT, ("s",)).value_and_grad(np.stack([a, a], 1), np.zeros(50, int))
    assert value.dtype == np.float32
    assert g.dtype == np.float16
    value, g = Compiled(HUBER, ("f",), params={"delta": 1000}).value_and_grad(a, b, reduction="sum")
    np.testing.assert_allclose(value, huber_of(a, b.astype(float), 1000).sum(), rtol=1e-5)


def test_integers_are_differentiated_in_double() -> None:
    value, g = Compiled(HUBER, ("f",)).value_and_grad(np.array([1, 5]), np.array([1, 2]))
    assert g.dtype == np.float64
    assert value == 1.25


def test_python_numbers_take_the_dtype_of_the_arrays() -> None:
    assert Compiled(HUBER)(F.astype(np.float32), 0.0).dtype == np.float32


def test_results_are_the_callers_own() -> None:
    identity = Compiled(scalar("identity", f, (real("f"),)), ("f",))
    a = F.copy()
    out = identity(a, reduction="none")
    out[:] = 7
    np.testing.assert_array_equal(a, F)
    for _ in range(2):
        _, g = identity.value_and_grad(a)
        np.testing.assert_allclose(g, 1 / 50)
        g[:] = 3


# -- axes and classes -------------------------------------------------------------------------------------------------


def test_an_axis_at_another_place() -> None:
    s, k = rng.normal(size=(2, 4, 3, 5)), rng.integers(0, 4, (2, 3, 5))
    moved = np.moveaxis(s, 1, -1)
    for at in (1, -3):
        fn = Compiled(XENT, ("s",), axes={"k": at})
        np.testing.assert_allclose(fn(s, k, reduction="none"), xent_of(moved, k))
        g = fn.value_and_grad(s, k)[1]
        assert g.shape == s.shape
        np.testing.assert_allclose(np.moveaxis(g, 1, -1), Compiled(XENT, ("s",)).value_and_grad(moved, k)[1])


def test_two_axes_at_other_places() -> None:
    a, b = rng.normal(size=(4, 6, 5)), rng.normal(size=(5, 6))
    fn = Compiled(TWO_AXES, ("a", "b"), axes={"k": 0})
    value, (g, h) = fn.value_and_grad(np.moveaxis(a, 0, 1).transpose(1, 0, 2), rng.normal(size=(6, 5)), reduction="none")
    assert value.shape == (6,)
    assert g.shape == (4, 6, 5)
    assert h.shape == (6, 5)
    del b


@pytest.mark.parametrize("arrays, message", [
    ((np.zeros((4, 3)), np.zeros(2)), "axis 'd' of two has length 3 in 'a' and 2 in 'b'"),
    ((np.zeros(3), np.zeros(3)), r"'a' of two has shape \(3,\), and its axes \[k, d\] need 2 dimensions"),
    ((np.zeros((7, 4, 3)), np.zeros((5, 3))), r"'a' has shape \(7, 4, 3\) \(batch \(7,\)\), 'b' has shape \(5, 3\)"),
])  # fmt: skip
def test_shapes_that_do_not_fit(arrays: Any, message: str) -> None:
    with pytest.raises(LossError, match=message):
        Compiled(TWO_AXES)(*arrays)


def test_a_class_outside_its_axis_is_nan() -> None:
    s, k = rng.normal(size=(6, 4)), np.array([0, -1, 3, 4, 99, 2])
    bad = np.array([0, 1, 0, 1, 1, 0], bool)
    fn = Compiled(XENT, ("s",))
    value, g = fn.value_and_grad(s, k, reduction="none")
    assert (np.isnan(value) == bad).all()
    assert (np.isnan(g).all(1) == bad).all()
    assert np.isnan(fn(s, k))
    with pytest.raises(LossError, match=r"'y' of xent is -1 at \(1,\), and its classes are 0 to 3"):
        fn(s, k, check=True)
    np.testing.assert_allclose(fn(s, k, sample_mask=~bad), xent_of(s, np.where(bad, 0, k))[~bad].mean())


def test_classes_are_integers() -> None:
    with pytest.raises(LossError, match=r"'y' .*integers"):
        Compiled(XENT)(np.zeros((2, 3)), np.array([0.0, 1.0]))


def test_an_ignored_class() -> None:
    s, k = rng.normal(size=(6, 4)), np.array([0, -100, 3, 1, -100, 2])
    kept = k >= 0
    fn = Compiled(IGNORING, ("s",))
    want = xent_of(s, np.where(kept, k, 0))
    s[1] = np.nan
    value, g = fn.value_and_grad(s, k)
    np.testing.assert_allclose(value, want[kept].mean())
    assert (g[~kept] == 0).all()
    rows, g = fn.value_and_grad(s, k, reduction="none")
    np.testing.assert_allclose(rows, np.where(kept, want, 0))
    assert np.isnan(fn(s, np.full(6, -100)))
    assert fn(s[0], -100, reduction="sum") == 0
    fn(s, k, check=True)


# -- weights and masks ------------------------------------------------------------------------------------------------


def test_weights() -> None:
    w, fn = rng.integers(0, 3, 50), Compiled(HUBER, ("f",))
    a = np.where(w == 0, np.nan, F)
    v = huber_of(F, Y)
    np.testing.assert_allclose(fn(a, Y, sample_weight=w), (w * v).sum() / w.sum())
    np.testing.assert_allclose(fn(a, Y, sample_weight=w, reduction="sum"), (w * v).sum())
    np.testing.assert_allclose(fn(a, Y, sample_weight=w, reduction="none"), w * v)
    _, g = fn.value_and_grad(a, Y, sample_weight=w)
    np.testing.assert_allclose(g, w * np.clip(F - Y, -1, 1) / w.sum())
    assert (g[w == 0] == 0).all()
    again = np.repeat(F, w), np.repeat(Y, w)
    np.testing.assert_allclose(fn(*again), fn(F, Y, sample_weight=w))


def test_masks() -> None:
    m, fn = rng.integers(0, 2, 50).astype(bool), Compiled(HUBER, ("f",))
    a = np.where(m, F, np.nan)
    np.testing.assert_allclose(fn(a, Y, sample_mask=m), fn(F[m], Y[m]))
    np.testing.assert_allclose(fn(a, Y, sample_mask=m.astype(int), check=True), fn(F[m], Y[m]))
    _, g = fn.value_and_grad(a, Y, sample_mask=m)
    np.testing.assert_allclose(g[m], fn.value_and_grad(F[m], Y[m])[1])
    assert (g[~m] == 0).all()
    assert np.isnan(fn(F, Y, sample_mask=np.zeros(50, bool)))
    assert fn(F, Y, sample_mask=np.zeros(50, bool), reduction="sum") == 0


@pytest.mark.parametrize("options, message", [
    ({"sample_weight": np.ones(49)}, r"sample_weight has shape \(49,\), and the batch has shape \(50,\)"),
    ({"sample_weight": np.ones((50, 1))}, r"sample_weight has shape \(50, 1\)"),
    ({"sample_weight": -np.ones(50)}, r"sample_weight is -1.0 at \(0,\)"),
    ({"sample_weight": np.full(50, np.nan)}, "sample_weight is nan"),
    ({"sample_mask": np.full(50, 2)}, "neither 0 nor 1"),
    ({"sample_mask": np.ones(3, bool)}, "sample_mask has shape"),
])  # fmt: skip
def test_mistakes_in_weights(options: Any, message: str) -> None:
    with pytest.raises(LossError, match=message):
        Compiled(HUBER)(F, Y, **options)


def test_weights_need_samples() -> None:
    with pytest.raises(LossError, match="there is no batch"):
        Compiled(HUBER)(1.0, 2.0, sample_weight=[1.0])


def test_weights_in_blocks() -> None:
    n = 60_000
    a, b = np.random.default_rng(4).normal(size=(2, n))
    w = np.random.default_rng(5).integers(0, 3, n)
    value, g = Compiled(HUBER, ("f",)).value_and_grad(a, b, sample_weight=w)
    np.testing.assert_allclose(value, (w * huber_of(a, b)).sum() / w.sum())
    np.testing.assert_allclose(g, w * np.clip(a - b, -1, 1) / w.sum())


def test_weights_on_a_declared_sample_axis() -> None:
    w, fn = rng.integers(0, 3, 50), Compiled(RMSE, ("f",))
    a = np.where(w == 0, np.nan, F)
    want = fn(np.repeat(F, w), np.repeat(Y, w))
    np.testing.assert_allclose(fn(a, Y, sample_weight=w), want)
    np.testing.assert_allclose(fn(a, Y, sample_weight=w, check=True), want)
    value, g = fn.value_and_grad(a, Y, sample_weight=w)
    np.testing.assert_allclose(g, np.where(w > 0, w * (F - Y) / w.sum() / want, 0))
    np.testing.assert_allclose(fn(a, Y, sample_mask=w > 0), fn(F[w > 0], Y[w > 0]))
    np.testing.assert_allclose(value, want)
    with pytest.raises(LossError, match="axis 'n' of rmse has length 50"):
        fn(F, Y, sample_weight=np.ones(49))
    stacked = fn(np.stack([F, Y]), np.stack([Y, Y]), sample_weight=w, reduction="none")
    np.testing.assert_allclose(stacked, [want, 0], atol=1e-12)


# -- derivatives for each sample --------------------------------------------------------------------------------------


def test_value_gradient_and_hessian() -> None:
    fn = Compiled(HUBER, ("f",))
    value, g, h = fn.value_grad_hess(F, Y)
    np.testing.assert_allclose(value, huber_of(F, Y))
    np.testing.assert_allclose(g, np.clip(F - Y, -1, 1))
    np.testing.assert_allclose(h, (np.abs(F - Y) < 1).astype(float))
    w = rng.integers(0, 3, 50)
    for a, b in zip(fn.value_grad_hess(F, Y, sample_weight=w), (value, g, h), strict=True):
        np.testing.assert_allclose(a, w * b)


def test_diagonal_hessian_of_a_vector() -> None:
    s, k = rng.normal(size=(5, 4)), rng.integers(0, 4, 5)
    _, g, h = Compiled(XENT, ("s",)).value_grad_hess(s, k)
    p = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    np.testing.assert_allclose(g, p - np.eye(4)[k])
    np.testing.assert_allclose(h, p * (1 - p))


def test_nothing_to_differentiate_by() -> None:
    with pytest.raises(LossError, match="no input to differentiate by"):
        Compiled(HUBER).value_and_grad(F, Y)


# -- checks -----------------------------------------------------------------------------------------------------------

KINDS: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("real", {}, [0, -1e300], [np.inf, np.nan]),
    ("positive", {}, [1e-300], [0, -1]),
    ("nonnegative", {}, [0, 5], [-1e-9, np.inf]),
    ("unit", {}, [0, 1], [1.5, -0.5]),
    ("logit", {}, [-np.inf, 3], [np.inf, np.nan]),
    ("logprob", {}, [-np.inf, 0], [0.1]),
    ("sign", {}, [-1, 1], [0, 0.5]),
    ("binary", {}, [0, 1], [0.5, 2]),
    ("integer", {}, [-3, 4], [0.5]),
    ("real", {"interval": Interval(Fraction(0), Fraction(2), True, False)}, [1, 2], [0, 2.5]),
]


@pytest.mark.parametrize("kind, more, good, bad", KINDS)
def test_domains(kind: str, more: Any, good: list[Any], bad: list[Any]) -> None:
    fn = Compiled(scalar("square", pow_(call("max", f, num(-9)), TWO), (real("f", "", kind, **more),)))
    fn(np.array(good, float), check=True)
    for value in bad:
        a = np.array([[good[0], good[-1]], [good[0], value]], float)
        with pytest.raises(LossError, match=r"input 'f' of square is .* at \(1, 1\)"):
            fn(a, check=True)
        fn(a)


def test_ends_of_a_probability_warn() -> None:
    fn = Compiled(LOGP)
    with pytest.warns(UserWarning, match=r"'p' of logp is 1.0 at \(1,\)"):
        fn(np.array([0.5, 1.0]), check=True)
    with pytest.raises(LossError, match=r"1\.5"):
        fn(np.array([0.5, 1.0, 1.5]), check=True)


def test_simplex() -> None:
    fn = Compiled(scalar("sum", red("sum", [K], ref("p", [ix(K)])), (real("p", "k", "simplex", of="k"),)))
    fn(np.full((3, 4), 0.25), check=True)
    with pytest.raises(LossError, match="sum to 1"):
        fn(np.full((3, 4), 0.3), check=True)


def test_a_nan_that_comes_of_nothing() -> None:
    fn = Compiled(scalar("root", call("sqrt", f), (real("f"),)))
    assert np.isnan(fn(-1.0))
    with pytest.raises(LossError, match="value of root is NaN"):
        fn(-1.0, check=True)
    with pytest.raises(LossError, match=r"NaN at \(1,\)"):
        fn(np.array([1.0, -1.0]), check=True, reduction="none")


def test_moved_axes_are_named_as_given() -> None:
    s = np.zeros((2, 4, 3))
    s[1, 2, 0] = np.inf
    with pytest.raises(LossError, match=r"at \(1, 2, 0\)"):
        Compiled(XENT, axes={"k": 1})(s, np.zeros((2, 3), int), check=True)


# -- the object -------------------------------------------------------------------------------------------------------


def _remade(name: str) -> Compiled:
    return Compiled({"huber": HUBER}[name], ("f",), recipe=lambda: (_remade, (name,)))


def test_pickle_and_copy() -> None:
    fn = _remade("huber")
    again = pickle.loads(pickle.dumps(fn))
    assert again(F, Y) == copy.deepcopy(fn)(F, Y) == fn(F, Y)
    with pytest.raises(TypeError, match="compile it from a loss"):
        pickle.dumps(Compiled(HUBER))


def test_threads() -> None:
    fn = Compiled(HUBER, ("f",))
    found: list[Any] = []

    def work() -> None:
        found.extend(fn.value_and_grad(F * k, Y)[0] for k in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(found) == sorted([fn(F * k, Y) for k in range(20)] * 8)


@pytest.mark.parametrize("doc", ["A loss.", 'ends in "', '"""\nraise SystemExit\n"""', "a \\", "two\nlines"])
def test_source_stands_alone(doc: str) -> None:
    source = Compiled(replace(HUBER, doc=doc), ("f",)).source
    assert "lossdsl" not in source
    space: dict[str, Any] = {}
    exec(compile(source, "<source>", "exec"), space)
    assert space["__doc__"] == doc
    np.testing.assert_allclose(space["value"](F, Y), huber_of(F, Y))
    value, g = space["value_and_grad"](F, Y, delta=2.0, seed=3.0)
    np.testing.assert_allclose(value, huber_of(F, Y, 2))
    np.testing.assert_allclose(g, 3 * np.clip(F - Y, -2, 2))


def test_source_is_the_same_each_time() -> None:
    assert Compiled(HUBER, ("f",)).source == Compiled(HUBER, ("f",)).source
    assert ZERO is num(0)
