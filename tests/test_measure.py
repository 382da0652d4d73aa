"""Weights on the sample axis are a measure: a weight of 2 is the sample twice, a weight of 0 is no sample, whatever its values are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl.errors import LossError
from lossdsl.frontend import load_text
from lossdsl.passes.measure import weighted
from lossdsl.runtime.on_numpy import Compiled

# each over x: real[n], u: real[n, d], c: label[n]
LOSSES = {
    "sum": "sum[n](x^2)",
    "mean": "mean[n](x)",
    "root of a mean": "sqrt(mean[n](x^2))",
    "guarded mean": "mean[n | x > 0](x)",
    "count": "count[n | x > 0]",
    "length": "sum[n](x)/size(n)",
    "max": "max[n](x) + min[n](x^2)",
    "argmax": "x[argmax[n](x)]",
    "any": "sum[n](x)*any[n](x > 1)",
    "all": "sum[n](x)*all[n](x > -1)",
    "logsumexp": "logsumexp[n](x)",
    "norm": "norm[n](x)",
    "product": "prod[n](2 + x) + prod[n, d | u > 0](u)",
    "ranks": "sum[n](x*rank[n](x))",
    "var and std": "var[n](x) + std[n | x > 0](x, default = 1)",
    "sort of another axis": "sum[n](x*sort[d](u)[1])",
    "variance": "mean[n]((x - mean[n](x))^2)",
    "other axes": "sum[n, d](u^2) + mean[d](max[n](u))",
    "softmax": "sum[n](softmax[n](x)*x)",
    "pairs": "mean[i, j in n | x[i] > x[j]](softplus(x[j] - x[i]))",
    "pairs by label": "mean[i in n](logsumexp[j in n | c[j] == c[i]](sum[d](u[i]*u[j])))",
    "ratio": "sum[n](x*u[n, 0])/sum[n](abs(x))",
}


def program(name: str) -> Any:
    text = f"loss(x: real[n], u: real[n, d], c: label[n]) = {LOSSES[name]}\n  wrt x, u\n  batch n\n"
    return load_text(text)["loss"]


def arrays(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=7), "u": rng.normal(size=(7, 3)), "c": rng.integers(0, 2, 7)}


def bad(given: dict[str, Any], w: Any) -> dict[str, Any]:
    """The same arrays with NaN in samples of weight 0."""
    out = {k: v.copy() for k, v in given.items()}
    out["x"][w == 0] = np.nan
    out["u"][w == 0] = np.inf
    return out


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_repeats_its_sample(name: str) -> None:
    fn = Compiled(program(name), ("x", "u"))
    for seed in range(4):
        given = arrays(seed)
        w = np.random.default_rng(seed + 100).integers(0, 3, 7)
        w[0] = 2
        repeated = {k: np.repeat(v, w, axis=0) for k, v in given.items()}
        value, grads = fn.value_and_grad(**repeated)
        got, found = fn.value_and_grad(**bad(given, w), sample_weight=w)
        np.testing.assert_allclose(got, value, rtol=1e-11)
        where = np.repeat(np.arange(7), w)
        for g, want in zip(found, grads, strict=True):
            total = np.zeros_like(g)
            np.add.at(total, where, want)
            np.testing.assert_allclose(g, total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mask_leaves_out(name: str) -> None:
    fn = Compiled(program(name), ("x", "u"))
    given, keep = arrays(5), np.array([1, 0, 1, 1, 0, 1, 1], bool)
    value, grads = fn.value_and_grad(**{k: v[keep] for k, v in given.items()})
    got, found = fn.value_and_grad(**bad(given, keep), sample_mask=keep)
    np.testing.assert_allclose(got, value, rtol=1e-11)
    for g, want in zip(found, grads, strict=True):
        np.testing.assert_allclose(g[keep], want, rtol=1e-9, atol=1e-12)
        assert (g[~keep] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_a_batch_of_losses(name: str) -> None:
    fn = Compiled(program(name), ("x", "u"))
    rows = [arrays(k) for k in range(3)]
    w = np.random.default_rng(0).integers(1, 4, (3, 7)).astype(float)
    stacked = {k: np.stack([r[k] for r in rows]) for k in rows[0]}
    got = fn(**stacked, sample_weight=w, reduction="none")
    np.testing.assert_allclose(got, [fn(**r, sample_weight=v) for r, v in zip(rows, w, strict=True)])
    shared = fn(**stacked, sample_weight=w[0], reduction="none")
    np.testing.assert_allclose(shared, [fn(**r, sample_weight=w[0]) for r in rows])


def test_a_loss_without_a_sample_axis() -> None:
    p = load_text("loss(x: real[n]) = sum[n](x)\n")["loss"]
    with pytest.raises(LossError, match="no sample axis"):
        weighted(p)


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
def test_samples_that_are_sorted_take_no_weights(backend: str) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    loss = lossdsl.parse("loss(x: real[n]) = sum[n | n < 2](sort[n](x))\n  batch n\n")["loss"]
    fn, x = loss.compile(backend), np.array([3.0, 1.0, 2.0])
    assert fn(x) == 3.0
    for options in ({"sample_weight": np.ones(3)}, {"sample_mask": np.ones(3, bool)}):
        with pytest.raises(LossError, match="sorts its samples"):
            fn(x, **options)
