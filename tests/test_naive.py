"""Equations written without a thought for floating point come out finite and right, in value, gradient and curvature.

The points reach to logits of 1e4 and residuals from 1e-30 to 1e30. Right means: within a few units in the last place of the
larger of the result and the largest summand that the equation itself adds, as the reference tells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl.passes.gradient import gradient, jacobian
from lossdsl.runtime import reference

LOGITS = [0.0, 1e-9, -1e-9, 0.3, -0.3, 5.0, -5.0, 20.0, -20.0, 40.0, -40.0, 90.0, -90.0, 104.0, -104.0, 750.0, -750.0, 1e4, -1e4]
RESIDUALS = [s * x for x in (1e-30, 1e-20, 1e-12, 1e-8, 1e-5, 1e-3, 0.1, 0.5, 1.0, 3.0, 30.0, 500.0, 1e4, 1e8, 1e15, 1e30) for s in (1, -1)]
ROWS = [[0.0, 0.0, 0.0], [1.0, 2.0, -3.0], [1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -9990.0], [40.0, 0.0, -1.0], [700.0, -50.0, 699.0],
        [-104.0, 104.0, 0.5], [1e-9, 0.0, -1e-9], [88.0, 89.0, 90.0], [1e4, 9999.0, -1e4]]  # fmt: skip

SCALAR = {
    "bce": ("a(s: real, y: unit) = -y*log(sigmoid(s)) - (1 - y)*log(1 - sigmoid(s))", "s", LOGITS),
    "bce by exponentials": ("a(s: real, y: unit) = -(y*log(1/(1 + exp(-s))) + (1 - y)*log(1 - 1/(1 + exp(-s))))", "s", LOGITS),
    "softplus": ("a(s: real) = log(1 + exp(s))", "s", LOGITS),
    "log sigmoid": ("a(s: real) = -log(1/(1 + exp(-s)))", "s", LOGITS),
    "logistic of the margin": ("a(s: real, y: sign) = log(1 + exp(-y*s))", "s", LOGITS),
    "log-cosh": ("a(r: real) = log((exp(r) + exp(-r))/2)", "r", RESIDUALS),
    "log-cosh by cosh": ("a(r: real) = log(cosh(r))", "r", RESIDUALS),
    "tanh": ("a(s: real) = (exp(s) - exp(-s))/(exp(s) + exp(-s))", "s", LOGITS),
    "tanh of twice": ("a(s: real) = (exp(2*s) - 1)/(exp(2*s) + 1)", "s", LOGITS),
    "pseudo-huber": ("a(r: real) = sqrt(1 + r^2) - 1", "r", RESIDUALS),
    "pseudo-huber with a scale": ("a(r: real; d: positive = 2) = d^2*(sqrt(1 + (r/d)^2) - 1)", "r", RESIDUALS[:-4]),
    "sigmoid": ("a(s: real) = exp(s)/(1 + exp(s))", "s", LOGITS),
    "binary focal": ("a(s: real; g: nonnegative = 2) = -(1 - sigmoid(s))^g*log(sigmoid(s))", "s", LOGITS),
    "root of a square": ("a(r: real) = sqrt(r^2)", "r", RESIDUALS),
    "cauchy": ("a(r: real) = log(1 + r^2/2)", "r", RESIDUALS[:-4]),
    "expm1": ("a(r: real) = exp(r) - 1 - r*0", "r", [x for x in RESIDUALS if abs(x) < 80]),
    "two-class cross-entropy": ("a(s: real, u: real) = -log(exp(s)/(exp(s) + exp(u)))", "s", LOGITS),
}  # fmt: skip

VECTOR = {
    "cross-entropy": "a(s: real[k], y: class(k)) = -log(exp(s[y])/sum[k](exp(s)))",
    "cross-entropy in two parts": "a(s: real[k], y: class(k)) = log(sum[k](exp(s))) - s[y]",
    "log of softmax": "a(s: real[k], y: class(k)) = -log(p[y]) where p = softmax[k](s)",
    "soft cross-entropy": "a(s: real[k], y: class(k)) = -sum[k](t*log(exp(s)/sum[k](exp(s)))) where t[k] = 0.9*(k == y) + 0.1/size(k)",
    "entropy": "a(s: real[k], y: class(k)) = -sum[k](p*log(p)) where p = exp(s)/sum[k](exp(s))",
    "log of a mean": "a(s: real[k], y: class(k)) = log(mean[k](exp(s)))",
    "log of a multiple": "a(s: real[k], y: class(k)) = log(2*sum[k](exp(s))) - s[y]",
}

# The second derivative of these cancels far out: 1/sqrt(1 + r^2) - r^2/(1 + r^2)^1.5.
CANCELS = ("pseudo-huber", "pseudo-huber with a scale")

GAMMA = {f"focal, gamma = {g}": f"a(s: real[k], y: class(k)) = -(1 - p[y])^{g}*log(p[y]) where p = exp(s)/sum[k](exp(s))" for g in ("0.5", "1", "2", "5")}


def check(text: str, wrt: str, arrays: dict[str, Any], backend: str, dtype: Any, curvature: bool) -> None:
    loss = lossdsl.parse(text)["a"]
    arrays = {k: np.asarray(v, dtype) if np.asarray(v).dtype.kind == "f" else np.asarray(v) for k, v in arrays.items()}
    given = arrays
    if backend == "torch":
        torch = pytest.importorskip("torch")
        given = {k: torch.from_numpy(v) for k, v in arrays.items()}
    fn = loss.compile(backend, wrt=wrt)
    params = {p.name: float(p.default) for p in loss.params}
    slopes = gradient(loss.program, [wrt])
    programs = [loss.program, slopes]
    value, g = fn.value_and_grad(**given, reduction="none")
    results = [value, g]
    if curvature:
        programs.append(jacobian(slopes, wrt))
        results.append(fn.value_grad_hess(**given)[2])
    for label, program, got in zip(("value", "gradient", "curvature"), programs, results, strict=False):
        want = reference.evaluate_rows(program, arrays, params, dtype=dtype)[program.outputs[0].name]
        worst = reference.ulps(np.asarray(got), want, dtype)
        assert worst <= 8, f"{label} is off by {worst} ulp\n{np.asarray(got)}\n{np.asarray(want)}"


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("name", SCALAR)
def test_scalar_equations(name: str, backend: str, dtype: Any) -> None:
    text, wrt, points = SCALAR[name]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {wrt: np.array(points)}
    for i in lossdsl.parse(text)["a"].inputs:
        if i.name != wrt:
            pool = {"unit": [0.0, 1.0, 0.25], "sign": [-1.0, 1.0]}.get(i.kind.name, LOGITS)
            arrays[i.name] = rng.choice(pool, len(points))
    check(text, wrt, arrays, backend, dtype, curvature=name not in CANCELS)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("name", [*VECTOR, *GAMMA])
def test_equations_over_classes(name: str, backend: str, dtype: Any) -> None:
    arrays = {"s": np.repeat(ROWS, 3, axis=0), "y": np.tile([0, 1, 2], len(ROWS))}
    check({**VECTOR, **GAMMA}[name], "s", arrays, backend, dtype, curvature=False)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_divergence_with_zeros(backend: str, dtype: Any) -> None:
    p = [[0.5, 0.25, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1e-30, 0.5, 0.5]]
    q = [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.25, 0.75]]
    check("a(p: simplex[k], q: simplex[k]) = sum[k](q*log(q/p))", "p", {"p": p, "q": q}, backend, dtype, curvature=False)


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_root_of_a_mean_square(backend: str, dtype: Any) -> None:
    f = np.outer([0.0, 1e-30, 1e-12, 1.0, 1e12, 1e30], [1.0, -2.0, 0.5, 0.0])
    check("a(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))", "f", {"f": f, "y": np.zeros_like(f)}, backend, dtype, curvature=False)
