"""Losses that sort, rank, run and multiply: beside their formulas in NumPy, and with ties, NaN, empty axes, zeros and long axes."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from formulas import Case, collector, named
from scipy import stats

import lossdsl
from lossdsl.passes.gradient import tangent
from lossdsl.runtime import reference

LOSSES: list[Case] = []
loss = collector(LOSSES)


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def lse(x: Any) -> Any:
    return np.logaddexp.reduce(x)


# -- losses and their formulas ------------------------------------------------------------------------------------------------


@loss("""
smallest_margins(f: real[n], y: sign[n]; k: integer = 2) = sum[i in n | i < k](sort[n](softplus(-y*f))[i])
""", bind=({}, {"k": 0}, {"k": 9}))
def smallest_margins(f: Any, y: Any, k: Any) -> Any:
    return np.sort(softplus(-y * f))[:k].sum()


@loss("""
hard_examples(s: logit[n, c], y: class(c)[n]; share: unit = 0.5) = mean[n | n < keep](sort[n](l, order = descending))
  where l[n]   = logsumexp[c](s) - s[n, y]
        keep   = ceil(share*size(n))
""", bind=({}, {"share": 1.0}))
def hard_examples(s: Any, y: Any, share: Any) -> Any:
    rows = np.array([lse(r) - r[c] for r, c in zip(s, y, strict=True)])
    return np.sort(rows)[::-1][: math.ceil(share * len(y))].mean()


@loss("""
median_error(f: real[n], y: real[n]) = (e[floor(m)] + e[ceil(m)])/2
  where e[n] = sort[n](abs(f - y))
        m    = (size(n) - 1)/2
""")
def median_error(f: Any, y: Any) -> Any:
    return np.median(abs(f - y))


@loss("""
quantile_error(f: real[n], y: real[n]; q: unit = 0.8) = (1 - t)*e[floor(p)] + t*e[ceil(p)]
  where e[n] = sort[n]((f - y)^2)
        p    = q*(size(n) - 1)
        t    = p - floor(p)
""", bind=({}, {"q": 0.0}, {"q": 1.0}, {"q": 0.5}))
def quantile_error(f: Any, y: Any, q: Any) -> Any:
    return np.quantile((f - y) ** 2, q)


@loss("""
median_of_rows(x: real[n, d], y: real[n]) = mean[n](abs(y - sort[d](x)[floor((size(d) - 1)/2)]))
""", sizes={"d": (3, 1, 5)})
def median_of_rows(x: Any, y: Any) -> Any:
    return np.mean(abs(y - np.median(x, axis=1)))


@loss("""
trimmed_mean(x: real[n], m: bool[n]; cut: integer = 1) = mean[i in n | cut <= i and i < c - cut](sort[n | m](x^2)[i], default = 0)
  where c = count[n | m]
""", sizes={"n": (6, 1, 9)}, bind=({}, {"cut": 0}))
def trimmed_mean(x: Any, m: Any, cut: Any) -> Any:
    kept = np.sort(x[m] ** 2)[cut : max(m.sum() - cut, cut)]
    return kept.mean() if len(kept) else 0.0


@loss("""
lovasz_hinge(s: real[n], y: binary[n]) = sum[n](relu(e)*(jaccard - piecewise(jaccard[n - 1] if n > 0, 0 otherwise)))
  where t          = 2*y - 1
        o[n]       = argsort[n](1 - s*t, order = descending)
        e[n]       = 1 - s[o]*t[o]
        p          = sum[n](y)
        jaccard[n] = 1 - (p - cumsum[n](y[o]))/(p + cumsum[n](1 - y[o]))
""", make=lambda rng, n: {"s": rng.normal(size=n["n"]), "y": (np.arange(n["n"]) % 3 == 0) * 1})
def lovasz_hinge(s: Any, y: Any) -> Any:
    errors = 1 - s * (2 * y - 1)
    order = np.argsort(-errors, kind="stable")
    errors, truth = errors[order], y[order]
    jaccard = 1 - (y.sum() - truth.cumsum()) / (y.sum() + (1 - truth).cumsum())
    return (np.maximum(errors, 0) * np.diff(jaccard, prepend=0)).sum()


@loss("""
lambda_loss(s: real[n], y: nonnegative[n]) = sum[i, j in n | y[i] > y[j]](stop(abs(dndcg[i, j]))*softplus(s[j] - s[i]))
  where rank[i]     = 1 + count[j in n | s[j] > s[i]]
        gain        = 2^y - 1
        dndcg[i, j] = (gain[i] - gain[j])*(1/log2(1 + rank[i]) - 1/log2(1 + rank[j]))/ideal
        ideal       = sum[i in n](sort[n](gain, order = descending)[i]/log2(2 + i))
""", stops=True, make=lambda rng, n: {"s": rng.normal(size=n["n"]), "y": rng.integers(0, 3, n["n"]) + 0.0})
def lambda_loss(s: Any, y: Any) -> Any:
    gain, rank = 2.0**y - 1, 1 + (s[:, None] < s).sum(axis=1)
    ideal = (np.sort(gain)[::-1] / np.log2(2 + np.arange(len(s)))).sum()
    weight = abs((gain[:, None] - gain) * (1 / np.log2(1 + rank[:, None]) - 1 / np.log2(1 + rank)) / ideal)
    return (weight * softplus(s - s[:, None]))[y[:, None] > y].sum()


@loss("""
list_mle(s: real[n], y: real[n]) = sum[i in n](logsumexp[j in n | j >= i](t[j]) - t[i])
  where t[n] = s[argsort[n](y, order = descending)]
""")
def list_mle(s: Any, y: Any) -> Any:
    t = s[np.argsort(-y)]
    return sum(lse(t[i:]) - t[i] for i in range(len(t)))


@loss("""
average_precision(s: real[n], y: binary[n]) = 1 - sum[n](hit*cumsum[n](hit)/(n + 1))/sum[n](y)
  where hit[n] = y[argsort[n](s, order = descending)]
""", make=lambda rng, n: {"s": rng.normal(size=n["n"]), "y": (np.arange(n["n"]) % 2 == 0) * 1})
def average_precision(s: Any, y: Any) -> Any:
    hit = y[np.argsort(-s)]
    return 1 - (hit * hit.cumsum() / np.arange(1, len(s) + 1)).sum() / y.sum()


@loss("""
wasserstein(x: real[n], y: real[n]; p: positive = 2) = mean[n](abs(sort[n](x) - sort[n](y))^p)
  wrt x, y
""", bind=({}, {"p": 1}))
def wasserstein(x: Any, y: Any, p: Any) -> Any:
    return (abs(np.sort(x) - np.sort(y)) ** p).mean()


@loss("""
sliced_wasserstein(x: real[n, d], y: real[n, d], w: real[m, d]) = mean[m](mean[n]((sort[n](dot[d](x, w)) - sort[n](dot[d](y, w)))^2))
""")
def sliced_wasserstein(x: Any, y: Any, w: Any) -> Any:
    return ((np.sort(x @ w.T, axis=0) - np.sort(y @ w.T, axis=0)) ** 2).mean()


@loss("""
gini(x: positive[n]) = sum[n]((2*n + 1 - size(n))*sort[n](x))/(size(n)*sum[n](x))
""")
def gini(x: Any) -> Any:
    return abs(x[:, None] - x).sum() / (2 * len(x) * x.sum())


@loss("""
tail_risk(x: real[n]; alpha: unit = 0.6) = mean[n | n >= floor(alpha*size(n))](sort[n](x))
""", bind=({}, {"alpha": 0}))
def tail_risk(x: Any, alpha: Any) -> Any:
    return np.sort(x)[math.floor(alpha * len(x)) :].mean()


@loss("""
neighbours(x: real[n, d]; k: integer = 2) = mean[i in n](sum[j in n | j < min(k, size(n) - 1)](sort[m in n | m != i](sqdist(x[i], x[m]))[j]))
""")
def neighbours(x: Any, k: Any) -> Any:
    distances = ((x[:, None] - x) ** 2).sum(axis=-1)
    return np.mean([np.sort(np.delete(row, i))[:k].sum() for i, row in enumerate(distances)])


@loss("""
crps_of_ensemble(x: real[m], y: real) = mean[m](abs(x - y)) - sum[m]((2*m + 1 - size(m))*sort[m](x))/size(m)^2
""")
def crps_of_ensemble(x: Any, y: Any) -> Any:
    return abs(x - y).mean() - abs(x[:, None] - x).mean() / 2


@loss("""
spearman(x: real[n], y: real[n]; temperature: positive = 1) = mean[n]((rank[n](y) - soft)^2)
  where soft[i] = 1 + sum[j in n | j != i](sigmoid((x[i] - x[j])/temperature))
  wrt x
""")
def spearman(x: Any, y: Any, temperature: Any) -> Any:
    soft = 0.5 + (1 / (1 + np.exp(-(x[:, None] - x) / temperature))).sum(axis=1)
    return ((stats.rankdata(y, method="min") - soft) ** 2).mean()


@loss("""
noisy_or(p: prob[n, k], y: binary[n]) = mean[n](-xlogy(y, q) - xlogy(1 - y, 1 - q))
  where q[n] = 1 - prod[k](1 - p)
""")
def noisy_or(p: Any, y: Any) -> Any:
    none = (1 - p).prod(axis=1)
    return np.mean(np.where(y == 1, -np.log(1 - none), -np.log(none)))


@loss("""
geometric_mean(x: positive[n]) = prod[n](x)^(1/size(n))
""")
def geometric_mean(x: Any) -> Any:
    return stats.gmean(x)


@loss("""
vandermonde(x: real[n]) = -log(abs(prod[i, j in n | i < j](x[j] - x[i])))
""")
def vandermonde(x: Any) -> Any:
    return -sum(np.log(abs(x[j] - x[i])) for i in range(len(x)) for j in range(i + 1, len(x)))


@loss("""
survival(h: prob[n, t], at: class(t)[n], dead: binary[n]) = -mean[n](log(prod[j in t | j < at](1 - h[n, j])) + xlogy(dead, h[n, at]))
""")
def survival(h: Any, at: Any, dead: Any) -> Any:
    return -np.mean([np.log(1 - r[:a]).sum() + d * np.log(r[a]) for r, a, d in zip(h, at, dead, strict=True)])


@loss("""
earth_mover(p: simplex[k], q: simplex[k]; r: positive = 2) = mean[k](abs(cumsum[k](p) - cumsum[k](q))^r)^(1/r)
""", sizes={"k": (4, 2, 5)})
def earth_mover(p: Any, q: Any, r: Any) -> Any:
    return (abs(np.cumsum(p) - np.cumsum(q)) ** r).mean() ** (1 / r)


@loss("""
ordinal_probabilities(s: real[q], y: class(q)) = -log(prod[j in q | j < y](sigmoid(s[j])))*1 + softplus(s[y])
""")
def ordinal_probabilities(s: Any, y: Any) -> Any:
    return softplus(-s[:y]).sum() + softplus(s[y])


@loss("""
batch_norm_spread(x: real[n, d]) = mean[d](std[n](x)) + std[n, d](x, ddof = 1) + mean[n](var[d](x))^2
""", sizes={"n": (4, 2, 3), "d": (3, 2, 4)})
def batch_norm_spread(x: Any) -> Any:
    return x.std(axis=0).mean() + x.std(ddof=1) + x.var(axis=1).mean() ** 2


@loss("""
variance_covariance(x: real[n, d]; gamma: positive = 1) = mean[d](relu(gamma - sqrt(var[n](x, ddof = 1) + 0.0001)))
""", sizes={"n": (4, 2, 3)})
def variance_covariance(x: Any, gamma: Any) -> Any:
    return np.maximum(gamma - np.sqrt(x.var(axis=0, ddof=1) + 1e-4), 0).mean()


@pytest.mark.parametrize("case", named(LOSSES))
def test_value_and_gradient(case: Case) -> None:
    case.check_numpy()


@pytest.mark.parametrize("case", named(LOSSES))
def test_torch_agrees(case: Case) -> None:
    case.check_torch()


@pytest.mark.parametrize("case", named(LOSSES))
def test_it_reads_back(case: Case) -> None:
    case.check_text()


# -- within the measure, in both precisions, on every backend -------------------------------------------------------------------


def run(loss: lossdsl.Loss, backend: str, arrays: dict[str, Any], method: str = "value_and_grad") -> list[Any]:
    """What a call gives, flat, as arrays."""
    if backend == "torch":
        torch = pytest.importorskip("torch")
        arrays = {k: torch.as_tensor(x) for k, x in arrays.items()}
    with np.errstate(all="ignore"):
        value, *rest = getattr(loss.compile(backend), method)(**arrays)
    return [np.asarray(x) for x in (value, *(y for r in rest for y in (r if isinstance(r, tuple) else (r,))))]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("case", named(LOSSES))
def test_values_and_gradients_are_within_the_measure(case: Case, backend: str) -> None:
    for dtype, arrays in itertools.product((np.float64, np.float32), case.inputs()[::2]):
        arrays = {k: x.astype(dtype) if x.dtype.kind == "f" else x for k, x in arrays.items()}
        value, *slopes = run(case.loss, backend, arrays)
        params = {p.name: p.default for p in case.loss.params}
        eps = np.finfo(dtype).eps
        want = reference.evaluate(case.loss.program, arrays, params, dtype=dtype)[case.loss.name]
        if want.margin < 64 * eps:
            continue
        assert value.dtype == dtype
        assert reference.ulps(value, want, dtype, "noise") <= 16
        for name, got in zip(case.wrt, slopes, strict=True):
            (slope,) = reference.evaluate(case.loss.grad([name]).program, arrays, params, dtype=dtype).values()
            unit = np.maximum(np.asarray(slope.noise, float), np.max(np.asarray(slope.noise, float)))
            assert got.dtype == dtype and (abs(got - np.asarray(slope)) <= 32 * eps * unit + np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("case", named([c for c in LOSSES if not c.loss.program.batch]))
def test_a_batch_is_row_by_row(case: Case, backend: str) -> None:
    rows = [case.loss.sample(seed=k, sizes={a: 3 for i in case.loss.inputs for a in i.axes}) for k in range(3)]
    together = {name: np.stack([r[name] for r in rows]) for name in rows[0]}
    fn = lossdsl.parse(case.text)[case.loss.name]
    got = run(fn, backend, together, "value_grad_hess")
    for k, row in enumerate(rows):
        for a, b in zip(got, run(fn, backend, row, "value_grad_hess"), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-9, atol=1e-11)


# -- ties, NaN, lengths ----------------------------------------------------------------------------------------------------------

ALL = """
places(x: real[n], w: real[n]) = sum[n](w*argsort[n](x)) + sum[n](w*sort[n](x)^3)
  wrt x, w

falling(x: real[n], w: real[n]) = sum[n](w*argsort[n](x, order = descending)) + sum[n](w*sort[n](x, order = descending)^3)
  wrt x, w

kept(x: real[n], w: real[n]) = sum[n | n < c](w*sort[n | w > 0](exp(x))*(1 + argsort[n | w > 0](x))) where c = count[n | w > 0]
  wrt x, w

ranked(x: real[n], w: real[n]) = sum[n](w^2*rank[n](x)) + sum[n | w > 0](w*x*rank[n | w > 0](x, order = descending))
  wrt x, w

running(x: real[n], w: real[n]) = sum[n](w*cumsum[n](x)^2) + sum[n](w*cumsum[n | w > 0](x))
  wrt x, w

multiplied(x: real[n], w: real[n]) = prod[n](x)*sum[n](w^2) + prod[n | w > 0](x + w) + sum[n](w*prod[j in n | j <= n](x[j]))
  wrt x, w

spread(x: real[n], w: real[n]) = var[n](x*w) + std[n](x, default = 0) + std[n | w > 0](x, ddof = 1, default = 0)*sum[n](w)
  wrt x, w
"""
EACH = lossdsl.parse(ALL)
ROWS = {
    "ties": ([2.0, 1.0, 2.0, 0.0, 1.0, 2.0], [1.0, -1.0, 2.0, 3.0, 0.5, 1.5]),
    "all equal": ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
    "signed zeros": ([0.0, -0.0, 0.0, -1.0], [1.0, 2.0, 4.0, 8.0]),
    "zeros": ([0.0, 3.0, 0.0, 2.0], [1.0, 2.0, -4.0, 8.0]),
    "one zero": ([3.0, 0.0, 5.0], [1.0, 2.0, 4.0]),
    "infinities": ([np.inf, 1.0, -np.inf, 2.0], [1.0, 2.0, 3.0, 4.0]),
    "nothing kept": ([3.0, 1.0, 2.0], [-1.0, -2.0, -3.0]),
    "one": ([3.0], [2.0]),
    "one, left out": ([3.0], [-2.0]),
    "none": ([], []),
    "tiny and large": ([1e-300, 1e4, -1e4, 1e-300, 2.0], [1.0, 2.0, -3.0, 4.0, 5.0]),
}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("row", ROWS)
def test_values_that_are_apart_from_others_or_not(name: str, row: str, backend: str) -> None:
    """Value, gradient and the diagonal of the Hessian are those of the reference, whatever the numbers."""
    arrays = dict(zip("xw", (np.array(v) for v in ROWS[row]), strict=True))
    want = run(EACH[name], "reference", arrays, "value_grad_hess")
    for got, w in zip(run(EACH[name], backend, arrays, "value_grad_hess"), want, strict=True):
        np.testing.assert_allclose(got, w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "numpy", "torch"])
def test_nan_stands_last_and_what_does_not_look_at_it_is_well(backend: str) -> None:
    x = np.array([2.0, np.nan, 1.0, -np.inf, np.nan, 3.0])
    least = lossdsl.parse("a(x: real[n]; k: integer = 4) = sum[i in n | i < k](relu(sort[n](x)[i]))")["a"]
    most = lossdsl.parse("a(x: real[n]; k: integer = 4) = sum[i in n | i < k](relu(sort[n](x, order = descending)[i]))")["a"]
    for fn in (least, most):
        value, slope = run(fn, backend, {"x": x})
        assert value == 6 and list(slope) == [1, 0, 1, 0, 0, 1]
        value, slope = run(fn.bind(k=5), backend, {"x": x})
        assert np.isnan(value)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_gradient_follows_its_entry_through_any_permutation(backend: str) -> None:
    rng = np.random.default_rng(0)
    text = "a(x: real[n, d]; k: integer = 3) = sum[n](sum[j in d | j < k](sort[d](x^2)[j]*j) + prod[d](x) + sort[d](x, order = descending)[0]^2)"
    fn = lossdsl.parse(text)["a"]
    x, p = rng.normal(size=(4, 6)), rng.permutation(6)
    (value, slope), (again, moved) = run(fn, backend, {"x": x}), run(fn, backend, {"x": x[:, p]})
    np.testing.assert_allclose(value, again)
    np.testing.assert_allclose(slope[:, p], moved)


@pytest.mark.parametrize("name", ["trimmed_mean", "lovasz_hinge", "noisy_or"])
def test_torch_does_to_it_what_it_does_to_functions(name: str) -> None:
    """First and second derivatives, maps over rows and one graph."""
    torch = pytest.importorskip("torch")
    case = next(c for c in LOSSES if c.formula.__name__ == name)
    rows = [case.inputs()[0] for _ in range(2)]
    tensors = [torch.as_tensor(np.stack([r[i.name] for r in rows])) for i in case.loss.inputs]
    tensors[0] = tensors[0] + torch.linspace(0, 0.01, tensors[0].numel()).reshape(tensors[0].shape)  # rows that differ
    fn = case.loss.compile("torch")

    def of_first(x: Any) -> Any:
        return fn(x, *tensors[1:], reduction="none")

    x = tensors[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(of_first, (x,)) and torch.autograd.gradgradcheck(of_first, (x,))
    torch.testing.assert_close(torch.func.vmap(lambda *row: fn(*row))(*tensors), of_first(tensors[0]))
    torch._dynamo.reset()
    compiled = torch.compile(case.loss.module(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*tensors), of_first(tensors[0]).mean())


# -- products ---------------------------------------------------------------------------------------------------------------------


def leave_out(x: np.ndarray, *out: int) -> float:
    return math.prod(v for k, v in enumerate(x) if k not in out)


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_a_product_is_right_at_its_zeros(zeros: int, backend: str) -> None:
    """The derivatives are products of the others: by a zero they may be anything, by quotients they would be NaN."""
    loss = lossdsl.parse("a(x: real[n]) = prod[n](x)")["a"]
    x = np.array([1.5, -2.0, 0.5, 3.0, 1.25])
    x[:zeros] = 0
    value, slope, _ = run(loss, backend, {"x": x}, "value_grad_hess")
    n = len(x)
    assert value == leave_out(x) and list(slope) == [leave_out(x, i) for i in range(n)]
    hessian = np.asarray(next(iter(reference.evaluate(loss.hess("x").program, {"x": x}).values())))
    assert np.array_equal(hessian, [[leave_out(x, i, j) if i != j else 0 for j in range(n)] for i in range(n)])
    v = np.arange(1.0, n + 1)
    slope = lossdsl.Loss(tangent(loss.program, {"x": "v_x"}))  # its gradient is the Hessian times v_x
    _, got = run(slope, backend, {"x": x, "v_x": v})
    np.testing.assert_allclose(got, hessian @ v)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("length", [2, 63, 64, 65, 200, 4097])
def test_nothing_overflows_or_vanishes_on_the_way(length: int, dtype: Any, backend: str) -> None:
    """Factors whose partial products leave the range of numbers, although the product and the products of the others do not."""
    rng = np.random.default_rng(length)
    big = float(np.finfo(dtype).max) ** 0.9
    x = (rng.uniform(0.9, 1.1, 2 * length) * np.repeat([big, 1 / big], length)).astype(dtype)
    loss = lossdsl.parse("a(x: real[n]) = prod[n](x)")["a"]
    value, slope = run(loss, backend, {"x": x})
    logs = np.log(np.abs(x.astype(np.longdouble)))
    exact = np.exp(logs.sum())
    np.testing.assert_allclose(value, float(exact), rtol=8 * length * np.finfo(dtype).eps)
    inside = np.abs(logs.sum() - logs) < np.log(float(np.finfo(dtype).max))
    assert inside.any() and value.dtype == slope.dtype == dtype
    np.testing.assert_allclose(slope[inside], np.exp(logs.sum() - logs)[inside].astype(float), rtol=8 * length * np.finfo(dtype).eps)


def test_logarithms_of_products_are_sums() -> None:
    """A product of thousands of probabilities is 0 in floating point, its logarithm is not."""
    p = np.full(5000, 0.5)
    for text in ("a(p: prob[n]) = -log(prod[n](p))", "a(p: prob[n]) = -log(prod[n](1 - p))", "a(p: prob[n]) = -log(prod[n](p^2))/2"):
        value, slope = lossdsl.parse(text)["a"].compile("numpy").value_and_grad(p)
        assert math.isclose(value, 5000 * math.log(2), rel_tol=1e-12) and np.allclose(abs(slope), 2)
    value = lossdsl.parse("a(p: prob[n]) = -log(1 - prod[n](p))")["a"].compile("numpy")(p[:60])
    assert math.isclose(value, 2.0**-60, rel_tol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_deviation_of_what_does_not_vary_has_no_slope(backend: str) -> None:
    loss = lossdsl.parse("a(x: real[n]) = std[n](x) + std[n](x, ddof = 1)")["a"]
    value, slope = run(loss, backend, {"x": np.full(4, 0.1)})
    assert abs(value) < 1e-15 and np.isfinite(slope).all()
    value, slope = run(lossdsl.parse("a(x: real[n]) = std[n](x) + var[n](x)")["a"], backend, {"x": np.array([7.0])})
    assert value == 0 and list(slope) == [0]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_variances_far_from_zero_are_accurate(backend: str) -> None:
    """By two passes: the square of the mean, which is large, is never taken."""
    x = 1e8 + np.random.default_rng(0).normal(size=1000)
    value, slope = run(lossdsl.parse("a(x: real[n]) = var[n](x)")["a"], backend, {"x": x})
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(value, float(((exact - exact.mean()) ** 2).mean()), rtol=1e-12)
    np.testing.assert_allclose(slope, (2 * (exact - exact.mean()) / 1000).astype(float), atol=1e-10)


# -- long axes -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("name", ["smallest_margins", "hard_examples", "median_error", "quantile_error", "trimmed_mean", "lovasz_hinge",
                                  "list_mle", "average_precision", "wasserstein", "gini", "tail_risk"])  # fmt: skip
def test_a_hundred_thousand_entries(name: str, backend: str, record_property: Any) -> None:
    """Sorting is printed as sorting: with all pairs this would take ten billion steps."""
    case = next(c for c in LOSSES if c.formula.__name__ == name)
    sizes = {"n": 100_000, "c": 3}
    arrays = case.make(np.random.default_rng(0), sizes) if case.make else case.loss.sample(seed=0, sizes=sizes)
    start = time.perf_counter()
    value, *slopes = run(case.loss, backend, arrays)
    record_property("seconds", time.perf_counter() - start)
    if name not in ("gini", "list_mle"):  # whose formulas look at all pairs
        np.testing.assert_allclose(value, case.expected(arrays, {}), rtol=1e-9)
    assert all(np.isfinite(g).all() for g in slopes)
