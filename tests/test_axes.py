"""Forms of axes: two names for one axis, declared lengths, products, ranges, slices and concatenations, positions in arrays.

Each definition stands beside its meaning in plain loops. Values are compared with it on every backend, with and without a batch;
gradients and Hessians with differences of the reference; texts of the definition and its derivatives are read back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from formulas import Case, collector, each, named

import lossdsl
from lossdsl.runtime import reference

CASES: list[Case] = []
axes = collector(CASES)


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def logsumexp(values: Any) -> float:
    values = list(values)
    top = max(values, default=-math.inf)
    return top + math.log(sum(math.exp(v - top) for v in values)) if math.isfinite(top) else top


def softmax(values: Any) -> np.ndarray:
    e = np.exp(np.asarray(values) - np.max(values))
    return e / e.sum()


# -- two names for one axis ---------------------------------------------------------------------------------------------------------------


@axes("a(R: real[i, j in i]) = sum[i, j](R[i, j]*R[j, i]) + 3*sum[i](R[i, i]^2)", sizes={"i": (4, 1, 0)})
def transposed(R):
    n = len(R)
    return sum(R[i, j] * R[j, i] for i in range(n) for j in range(n)) + 3 * sum(R[i, i] ** 2 for i in range(n))


@axes("a(x: real[i], z: real[j in i]) = sum[i]((i + 1)*(x - z[i])^2)\n  wrt x, z")
def one_length_under_two_names(x, z):
    return sum((i + 1) * (x[i] - z[i]) ** 2 for i in range(len(x)))


@axes("a(x: real[i], z: real[j in i]) = sum[i, j | i < j](exp(x - z)*(j - i))\n  wrt x, z")
def names_as_numbers(x, z):
    n = len(x)
    return sum(math.exp(x[i] - z[j]) * (j - i) for i in range(n) for j in range(i + 1, n))


@axes("a(x: real[i, d], R: binary[i, j in i]) = sum[i, j | i != j](R*sqdist(x[i], x[j])) + mean[j](sum[i](R))*norm[i, d](x)")
def graph(x, R):
    n = len(x)
    edges = sum(R[i, j] * sum((x[i] - x[j]) ** 2) for i in range(n) for j in range(n) if i != j)
    return edges + mean(R[:, j].sum() for j in range(n)) * math.sqrt((x**2).sum())


@axes("a(P: real[i, j in i, l in j], y: class(j)[l]) = sum[i, l](P[i, y, l]*(l + 1)) + max[l](P[l, l, l])")
def three_names_and_classes(P, y):
    n = len(y)
    return sum(P[i, y[m], m] * (m + 1) for i in range(n) for m in range(n)) + max(P[m, m, m] for m in range(n))


@axes("a(R: real[i, j in i]) = sum[i](R[i, argmax[j](R)]*i) + logsumexp[j](R[j, 0])", sizes={"i": (4, 1, 3)})
def argmax_along_the_second(R):
    return sum(R[i].max() * i for i in range(len(R))) + logsumexp(R[:, 0])


@axes("a(P: simplex(j)[i, j in i], Q: simplex(i)[i, j in i]) = sum[i, j](P*log(Q[j, i]))\n  wrt P, Q")
def rows_and_columns_that_sum_to_one(P, Q):
    n = len(P)
    assert np.allclose(P.sum(1), 1) and np.allclose(Q.sum(0), 1)
    return sum(P[i, j] * math.log(Q[j, i]) for i in range(n) for j in range(n))


# -- declared lengths -----------------------------------------------------------------------------------------------------------------------

BOXES = """
_area(b: real[q = 4]) = (b[2] - b[0])*(b[3] - b[1])
_overlap(a: real[q = 4], b: real[q = 4]) = relu(min(a[2], b[2]) - max(a[0], b[0]))*relu(min(a[q = 3], b[q = 3]) - max(a[q = 1], b[q = 1]))
iou(p: real[n, q = 4], t: real[n, q = 4]) = mean[n](1 - i/(_area(p[n]) + _area(t[n]) - i)) where i = _overlap(p[n], t[n])
  wrt p, t
"""


def boxes(rng, sizes):
    low = rng.uniform(0, 1, (2, sizes["n"], 2))
    p, t = np.concatenate([low, low + rng.uniform(0.5, 1, low.shape)], 2)
    return {"p": p, "t": t}


@axes(BOXES, make=boxes)
def iou(p, t):
    def one(a, b):
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        i = max(w, 0) * max(h, 0)
        return 1 - i / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - i)

    return mean(one(a, b) for a, b in zip(p, t, strict=True))


@axes("a(x: real[n, q = 3], y: class(q)[n]) = sum[n, q](x*(q + 1)^2)/size(q) + sum[n](x[n, y]^2) + max[q](x[0])", sizes={"q": (3,)})
def a_length_is_a_number(x, y):
    return sum(x[n, q] * (q + 1) ** 2 / 3 + (x[n, y[n]] ** 2) / 3 for n in range(len(x)) for q in range(3)) + max(x[0])


@axes("a(x: real[n, q = S]; S: integer = 3) = mean[n](x[n, S - 1]*x[n, 0]) + mean[n, q](x^2)*size(q) + S", bind=({"S": 3}, {"S": 2}),
      make=lambda rng, sizes: {"x": rng.normal(size=(sizes["n"], 3))})
def a_length_is_a_hyper_parameter(x, S):
    if S != 3:
        raise AssertionError  # checked below: the array does not fit
    return mean(row[S - 1] * row[0] for row in x) + (x**2).mean() * S + S


CASES[-1] = Case(CASES[-1].text, CASES[-1].formula, make=CASES[-1].make)


@axes("a(x: real[n], t: real[m = size(n) + 1]) = sum[n](x*(t[n + 1] - t[n])) + t[size(n)]\n  wrt x, t",
      make=lambda rng, sizes: {"x": rng.normal(size=sizes["n"]), "t": rng.normal(size=sizes["n"] + 1)})
def a_length_of_another(x, t):
    return sum(x[i] * (t[i + 1] - t[i]) for i in range(len(x))) + t[-1]


@axes("a(x: real[q = 1], z: real[p = 0, d]) = x[0]^2 + sum[p, d](z) + max[p, d](z, default = x[0])", sizes={"q": (1,), "p": (0,)})
def lengths_of_one_and_none(x, z):
    return x[0] ** 2 + x[0]


@axes("a(h: real[b in 0..bins]; bins: integer = 3) = sum[b](h*b^2) + h[bins]*h[0] - size(b)", sizes={"b": (4,)})
def a_range_is_declared(h):
    return sum(h[b] * b**2 for b in range(4)) + h[3] * h[0] - 4


@axes("a(x: real[n, q = 2]) = mean[n](max[q](x, default = 7))*mean[q](1) + count[q]", sizes={"q": (2,)})
def a_default_that_is_never_due(x):
    return mean(max(r) for r in x) + 2


# -- products ---------------------------------------------------------------------------------------------------------------------------------


@axes("a(x: real[d, (k, s = S)]; S: integer = 2) = mean[d](max[k](sum[s](x*(s + 1))) + x[d, 0, 1]^2)", sizes={"s": (2,)})
def maxout(x):
    s = 2
    return mean(max(sum(row[k * s + j] * (j + 1) for j in range(s)) for k in range(len(row) // s)) + row[1] ** 2 for row in x)


@axes("a(x: real[(k, s), m], y: real[s], z: real[k, s]) = sum[k, s, m](x^2*y*(k - 2*m)) + sum[k, s](z*x[k, s, 0])\n  wrt x, y, z")
def a_factor_is_known_from_another(x, y, z):
    K, S = z.shape
    total = sum(x[k * S + s, m] ** 2 * y[s] * (k - 2 * m) for k in range(K) for s in range(S) for m in range(x.shape[1]))
    return total + sum(z[k, s] * x[k * S + s, 0] for k in range(K) for s in range(S))


@axes("a(x: real[(i, j in i)], z: real[i]) = sum[i, j](x[i, j]*x[j, i]*z[i]) + sum[i](x[i, i])\n  wrt x, z")
def a_flat_square(x, z):
    n = len(z)
    return sum(x[i * n + j] * x[j * n + i] * z[i] for i in range(n) for j in range(n)) + sum(x[i * n + i] for i in range(n))


@axes("a(x: real[(a, (b = 2, c = 3)), (d, e = 2)]) = sum[a, b, c, d, e](x^2*(a + 10*b + 100*c + 1000*d + 10000*e))",
      sizes={"b": (2,), "c": (3,), "e": (2,)})  # fmt: skip
def products_of_three_and_two(x):
    total = 0.0
    for r, row in enumerate(x):
        for c, v in enumerate(row):
            total += v**2 * (r // 6 + 10 * (r // 3 % 2) + 100 * (r % 3) + 1000 * (c // 2) + 10000 * (c % 2))
    return total


@axes("a(x: real[(k, s = 2)], y: class(k)) = logsumexp[k](x[k, 0]) - x[y, 1]", sizes={"s": (2,), "k": (4, 1, 3)})
def classes_of_a_factor(x, y):
    return logsumexp(x[::2]) - x[2 * y + 1]


@axes("_rows(u: real[k, s]) = sum[k](max[s](u))\na(x: real[d, (k, s = 2)]) = sum[d](d*_rows(x[d]))", sizes={"s": (2,)})
def a_loss_of_the_factors(x):
    return sum(d * sum(max(row[k : k + 2]) for k in range(0, len(row), 2)) for d, row in enumerate(x))


@axes("a(x: simplex(s)[d, (k, s = 3)]) = -sum[d, k, s](x*log(x))", sizes={"s": (3,)})
def a_simplex_along_a_factor(x):
    assert np.allclose(x.reshape(len(x), -1, 3).sum(-1), 1)
    return -sum(v * math.log(v) for v in x.flat)


# -- ranges as axes ---------------------------------------------------------------------------------------------------------------------------


def windows(x, width=3):
    return [sum(x[w : w + width]) for w in range(len(x) - width + 1)]


WINDOW = "where t[w in 0..size(n) - 3] = x[w] + x[w + 1] + x[w + 2]"


@axes(f"a(x: real[n]) = mean[w](t^2) + size(w) {WINDOW}", sizes={"n": (5, 3, 4)})
def windows_are_reduced_by_name(x):
    t = windows(x)
    return mean(v**2 for v in t) + len(t)


@axes(f"a(x: real[n]) = sum[w](t^2) - size(w) + count[w](t > 0) {WINDOW}", sizes={"n": (2, 1, 0)})
def windows_of_a_short_axis(x):
    return 0.0


@axes(f"a(x: real[n]) = sum[w](softmax[w](t)*t) + t[argmax[w](t)] + sum[v in w, w](abs(t[v] - t)*v) {WINDOW}", sizes={"n": (5, 3, 4)})
def softmax_argmax_and_pairs_of_windows(x):
    t = np.array(windows(x))
    return softmax(t) @ t + t.max() + sum(abs(t[v] - t[w]) * v for v in range(len(t)) for w in range(len(t)))


@axes(f"a(x: real[n]) = norm[w](t) + cosine(t, s) + sum[w](u*w) {WINDOW}\n        s[w] = x[w] + 2\n        u = normalize(s)", sizes={"n": (5, 4, 6)})
def vectors_over_a_range(x):
    t = np.array(windows(x))
    s = x[: len(t)] + 2
    return np.linalg.norm(t) + t @ s / np.linalg.norm(t) / np.linalg.norm(s) + (s / np.linalg.norm(s)) @ np.arange(len(t))


@axes(f"a(x: real[n]) = sum[w]((w + 1)*rank[w](t)*t) + sum[w]((w + 1)*sort[w](t)) + sum[w](cumsum[w](t)^2) {WINDOW}", sizes={"n": (6, 3, 5)})
def orders_over_a_range(x):
    t = np.array(windows(x))
    ranks = [1 + sum(u < v for u in t) for v in t]
    w = np.arange(len(t)) + 1
    return (w * ranks * t).sum() + (w * np.sort(t)).sum() + (np.cumsum(t) ** 2).sum()


@axes("a(x: real[n]) = sum[w]((w + 10)*sort[w](t)) + sort[w](t)[2]*argsort[w](t)[2] where t[w in 2..size(n) - 1] = x[w]*(-1)^w", sizes={"n": (5, 3, 4)})
def orders_over_a_range_that_starts_later(x):
    t = np.array([x[w] * (-1) ** w for w in range(2, len(x))])
    return sum((w + 12) * v for w, v in enumerate(np.sort(t))) + np.sort(t)[0] * (2 + np.argsort(t)[0])


@axes("a(x: real[n]) = sum[n](sum[j in 0..n](x[j])^2)", sizes={"n": (4, 1, 0)})
def a_range_up_to_an_index(x):
    return sum(sum(x[: n + 1]) ** 2 for n in range(len(x)))


@axes("a(x: real[n]) = sum[i in n](sum[j in i + 1..size(n) - 1](sum[l in i..j](x[l]*l)^2))", sizes={"n": (4, 1, 0)})
def ranges_between_indices(x):
    n = len(x)
    return sum(sum(x[m] * m for m in range(i, j + 1)) ** 2 for i in range(n) for j in range(i + 1, n))


@axes("a(x: real[n]; r: integer = 1) = mean[i in n](max[j in max(0, i - r)..min(size(n) - 1, i + r)](x[j])*i)", bind=({}, {"r": 0}, {"r": 7}))
def pooling(x, r):
    n = len(x)
    return mean(max(x[max(0, i - r) : min(n - 1, i + r) + 1]) * i for i in range(n))


@axes("a(s: real[k], y: class(k)) = sum[b in 0..y](softplus(s[b])) - logsumexp[b in y..size(k) - 1](s[b])", sizes={"k": (4, 1, 3)})
def a_range_up_to_a_class(s, y):
    return sum(math.log1p(math.exp(v)) for v in s[: y + 1]) - logsumexp(s[y:])


HISTOGRAM = "hist[b in 0..bins](x: real[n]; bins: integer = 4) = sum[n](exp(-(x - b)^2))\n"


@axes(HISTOGRAM + "a(x: real[n], y: real[m]; c: integer = 3) = sum[i in 0..c]((hist(x; bins = c)[i] - hist(y; bins = c)[i])^2)\n  wrt x, y", bind=({}, {"c": 1}))
def soft_histograms(x, y, c):
    return sum((sum(np.exp(-((x - i) ** 2))) - sum(np.exp(-((y - i) ** 2)))) ** 2 for i in range(c + 1))


@axes(HISTOGRAM + "a(x: real[n]) = max[b](h) + sum[b](h*b) + h[4] where h[b in 0..4] = hist(x)[b]", sizes={"n": (4, 1, 2)})
def an_array_over_a_range(x):
    h = [sum(np.exp(-((x - i) ** 2))) for i in range(5)]
    return max(h) + sum(v * b for b, v in enumerate(h)) + h[4]


@axes("a(x: real[n]; lo: integer = -1, hi: integer = 2) = sum[b in lo..hi](exp(-(x[0] - b)^2)*b) + mean[b in lo..hi](b*x[0])", bind=({}, {"lo": 3}, {"hi": -1}))
def ends_that_are_hyper_parameters(x, lo, hi):
    b = range(lo, hi + 1)
    return sum(math.exp(-((x[0] - i) ** 2)) * i for i in b) + mean(i * x[0] for i in b)


@axes("a(x: real[n]) = sum[i in 0..2](softmax[j in 0..2](x[j])[i]*i) + log_softmax[j in 1..2](x[j])[2]", sizes={"n": (4, 3, 5)})
def softmax_of_a_part(x):
    return softmax(x[:3]) @ np.arange(3) + x[2] - logsumexp(x[1:3])


@axes("a(x: real[n]) = sum[i in 0..3](piecewise(1 if softmax[j in 0..2](x[j])[i] < 2, 10 otherwise))*x[0]", sizes={"n": (4, 5, 6)})
def outside_of_its_range_a_softmax_is_nan(x):
    return 13 * x[0]


# -- slices and concatenations --------------------------------------------------------------------------------------------------------------------


@axes("a(s: real[n, k], y: class(k)[n]) = mean[n | y > 0](logsumexp[k | k > 0](s) - s[n, y])", sizes={"k": (4, 2, 3)},
      make=lambda rng, z: {"s": rng.normal(size=(z["n"], z["k"])), "y": rng.integers(0, z["k"], z["n"])})  # fmt: skip
def class_zero_is_dropped(s, y):
    return mean(logsumexp(s[n, 1:]) - s[n, y[n]] for n in range(len(y)) if y[n] > 0)


@axes("a(s: real[n, k]) = sum[n](log_softmax[j in 1..size(k) - 1](s[n, j])[1] + min[j in 1..size(k) - 1](s[n, j]))", sizes={"k": (4, 2, 3)})
def class_zero_is_sliced_off(s):
    return sum(row[1] - logsumexp(row[1:]) + min(row[1:]) for row in s)


@axes("""nt_xent(u: real[n, d], v: real[n, d]; tau: positive = 0.5) =
    mean[i](logsumexp[j in i | j != i](s[i, j]/tau) - s[i, piecewise(i + size(n) if i < size(n), i - size(n) otherwise)]/tau)
    where z[i in 0..2*size(n) - 1] = piecewise(u[i] if i < size(n), v[i - size(n)] otherwise)
          s[a, b] = dot(z[a], z[b])
  wrt u, v
""", sizes={"n": (3, 1, 2)})  # fmt: skip
def two_views_are_stacked(u, v, tau):
    z = np.concatenate([u, v])
    s = z @ z.T / tau
    n = len(z)
    return mean(logsumexp(s[i, j] for j in range(n) if j != i) - s[i, (i + n // 2) % n] for i in range(n))


@axes("a(x: real[n], y: real[m]) = logsumexp[c](z) - z[size(n)] where z[c in 0..size(n) + size(m)] = "
      "piecewise(x[c] if c < size(n), 0 if c == size(n), y[c - size(n) - 1] otherwise)\n  wrt x, y")  # fmt: skip
def a_constant_between_two_arrays(x, y):
    return logsumexp([*x, 0, *y])


@axes("a(x: real[n]) = mean[w](p[w - 1] - 2*p + p[w + 1]) + max[w](p) where p[w in -1..size(n)] = piecewise(x[w] if 0 <= w < size(n), 0 otherwise)", sizes={"n": (4, 1, 2)})
def a_padded_axis(x):
    p = {w: x[w] if 0 <= w < len(x) else 0.0 for w in range(-2, len(x) + 2)}
    w = range(-1, len(x) + 1)
    return mean(p[i - 1] - 2 * p[i] + p[i + 1] for i in w) + max(p[i] for i in w)


@axes("a(x: real[h, w], f: real[a = 2, b = 2]) = sum[i, j](c^2) where c[i in 0..size(h) - 2, j in 0..size(w) - 2] = sum[a, b](f*x[i + a, j + b])\n  wrt x, f",
      sizes={"a": (2,), "b": (2,), "h": (3, 2, 1)})  # fmt: skip
def a_convolution(x, f):
    H, W = x.shape
    return sum(sum(f[a, b] * x[i + a, j + b] for a in range(2) for b in range(2)) ** 2 for i in range(H - 1) for j in range(W - 1))


# -- the laws -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", named(CASES))
def test_values_and_gradients_are_those_of_the_formula(case: Case) -> None:
    case.check_numpy()


@pytest.mark.parametrize("case", named(CASES))
def test_torch_agrees(case: Case) -> None:
    case.check_torch()


@pytest.mark.parametrize("case", named(CASES))
def test_texts_are_read_back(case: Case) -> None:
    case.check_text()
    for name in case.wrt:
        hessian = case.loss.hess(name)
        assert lossdsl.parse(str(hessian))[hessian.name] == hessian
    assert case.loss.latex() and case.loss.grad(case.wrt[0]).latex()


def settings(loss: lossdsl.Loss) -> dict[str, Any]:
    return {p.name: float(p.default) for p in loss.params if p.default is not None}


@pytest.mark.parametrize("case", named(CASES))
def test_derivatives_are_the_limit_of_differences(case: Case) -> None:
    params = settings(case.loss)
    arrays = case.inputs()[0]
    for name in case.wrt:
        gradient, hessian = case.loss.grad(name), case.loss.hess(name)
        for derived, of in ((gradient, case.loss), (hessian, gradient)):
            got = np.asarray(reference.evaluate(derived.program, arrays, params)[derived.name])
            want = np.asarray(reference.differences(of.program, arrays, params, name), float)
            np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-9, atol=1e-9)


def stacked(case: Case, rng: Any, batch: tuple[int, ...]) -> dict[str, Any]:
    """Events side by side, so that each of them keeps to what the inputs promise."""
    one = case.inputs()[0]
    if case.make is None:
        return case.loss.sample(seed=3, batch=batch, sizes=shape_of(case))
    rows = [case.make(rng, shape_of(case)) for _ in range(math.prod(batch))]
    return {k: np.stack([r[k] for r in rows]).reshape(batch + x.shape) for k, x in one.items()}


def shape_of(case: Case) -> dict[str, int]:
    return {a: case._length(a, 0) for i in case.loss.inputs for a in i.axes}


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
@pytest.mark.parametrize("case", named(CASES))
def test_batches_are_events_side_by_side(case: Case, backend: str) -> None:
    """Values, gradients and diagonal Hessians of a batch of shape (2, 3), in the layout of the inputs."""
    convert = (lambda x: x) if backend != "torch" else pytest.importorskip("torch").as_tensor
    batch = (2, 3)
    arrays = stacked(case, np.random.default_rng(8), batch)
    fn = case.loss.compile(backend)
    given = {k: convert(x) for k, x in arrays.items()}
    rows = np.asarray(fn(**given, reduction="none"))
    total, slopes = fn.value_and_grad(**given, reduction="sum")
    values, gradients, curvatures = fn.value_grad_hess(**given)
    single = case.loss.compile("numpy")
    for at in np.ndindex(*batch):
        event = {k: x[at] for k, x in arrays.items()}
        value, g, h = single.value_grad_hess(**event)
        np.testing.assert_allclose(rows[at], case.expected(event, {}), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.asarray(values)[at], value, rtol=1e-9, atol=1e-12)
        for found in (slopes, gradients):
            for name, x in each(case.wrt, found).items():
                assert x.shape == arrays[name].shape
                np.testing.assert_allclose(x[at], each(case.wrt, g)[name], rtol=1e-8, atol=1e-10)
        for name, x in each(case.wrt, curvatures).items():
            assert x.shape == arrays[name].shape
            np.testing.assert_allclose(x[at], each(case.wrt, h)[name], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(float(total), rows.sum(), rtol=1e-9, atol=1e-12)


# -- arrays that do not fit ------------------------------------------------------------------------------------------------------------------------

FIXED = "a(b: real[n, q = 4], c: real[q]) = sum[n, q](b*c)"
NAMED = "a(b: real[n, q = 2*S]; S: integer = 2) = sum[n, q](b)"
PRODUCT = "a(x: real[d, (k, s = 3)]) = sum[d, k, s](x)"
KNOWN = "a(x: real[(k, s)], y: real[k], z: real[s]) = sum[k, s](x*y*z)"
ALIAS = "a(R: real[i, j in i], z: real[j]) = sum[i, j](R*z[j])"

MISFITS: list[tuple[str, Mapping[str, Any], Mapping[str, Any], str]] = [
    (FIXED, {"b": (2, 5), "c": (5,)}, {}, "axis 'q' of a has length 5 in 'b', and is declared with 4"),
    (FIXED, {"b": (2, 4), "c": (5,)}, {}, "axis 'q' of a has length 4 in 'b' and 5 in 'c'"),
    (NAMED, {"b": (2, 5)}, {}, r"axis 'q' of a has length 5 in 'b', and is declared with 2\*S, where S is 2"),
    (NAMED, {"b": (2, 4)}, {"S": 3}, r"axis 'q' of a has length 4 in 'b', and is declared with 2\*S, where S is 3"),
    (NAMED, {"b": (2, 4)}, {"S": -1}, "where S is -1: its length would be -2"),
    (PRODUCT, {"x": (2, 7)}, {}, r"dimension \(k, s\) of input 'x' of a has length 7, which is no multiple of 3"),
    (PRODUCT, {"x": (6,)}, {}, r"input 'x' of a has shape \(6,\), and its axes \[d, \(k, s\)\] need 2 dimensions"),
    (KNOWN, {"x": (5,), "y": (2,), "z": (3,)}, {}, r"dimension \(k, s\) of input 'x' of a has length 5, which is not 6"),
    (ALIAS, {"R": (3, 4), "z": (3,)}, {}, "axis 'i' of a has length 3 in 'R' and 4 in 'R' \\(as 'j'\\)"),
    (ALIAS, {"R": (3, 3), "z": (2,)}, {}, "axis 'i' of a has length 3 in 'R' and 2 in 'z' \\(as 'j'\\)"),
]  # fmt: skip


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
@pytest.mark.parametrize(("text", "shapes", "params", "message"), MISFITS, ids=lambda x: x if isinstance(x, str) and "axis" in x else "")
def test_arrays_that_do_not_fit_are_named(text: str, shapes: Any, params: Any, message: str, backend: str) -> None:
    fn = list(lossdsl.parse(text).values())[-1].compile(backend)
    with pytest.raises(lossdsl.LossError, match=message):
        fn(**{k: np.zeros(s) for k, s in shapes.items()}, **params)


def test_a_hyper_parameter_that_a_length_needs_must_be_said() -> None:
    loss = lossdsl.parse("a(b: real[q = S]; S: integer) = sum[q](b)")["a"]
    for backend in ("numpy", "torch", "reference"):
        with pytest.raises(lossdsl.LossError, match="'S' of a has no value"):
            loss.compile(backend)(np.zeros(3))
        assert float(loss.compile(backend, S=3)(np.ones(3))) == 3
        assert float(loss.compile(backend)(np.ones((2, 3)), S=3)) == 3
        with pytest.raises(lossdsl.LossError, match="axis 'q' of a has length 4 in 'b', and is declared with S, where S is 3"):
            loss.compile(backend, S=3)(np.ones(4))


def test_a_bound_length_is_a_number() -> None:
    loss = lossdsl.parse("a(b: real[n, q = S + 1]; S: integer) = mean[n](b[n, 2])/size(q)")["a"]
    bound = loss.bind(S=3)
    assert str(bound) == "a(b: real[n, q = 4]) = mean[n](b[n, 2])/4"
    assert lossdsl.parse(str(bound))["a"] == bound
    assert bound.sample(sizes={"n": 2})["b"].shape == (2, 4)


def test_samples_have_the_declared_lengths() -> None:
    loss = lossdsl.parse("a(x: real[d, (k, s = S)], t: real[m = size(k) + 1], q: real[s]; S: integer = 3) = sum[d, k, s](x) + sum[m](t) + sum[s](q)")["a"]
    shapes = {name: x.shape for name, x in loss.sample(sizes={"d": 2, "k": 4}, batch=5).items()}
    assert shapes == {"x": (5, 2, 12), "t": (5, 5), "q": (5, 3)}
    assert loss.sample(sizes={"s": 2, "k": 4, "d": 1})["x"].shape == (1, 8)  # what a call may say of S, a sample may too
    fixed = lossdsl.parse(FIXED)["a"]
    with pytest.raises(lossdsl.LossError, match="axis 'q' of a has length 4, not 5"):
        fixed.sample(sizes={"q": 5})
    open_ = lossdsl.parse("a(b: real[q = S]; S: integer) = sum[q](b)")["a"]
    with pytest.raises(lossdsl.LossError, match="axis 'q' of a has the length S, which is not known"):
        open_.sample()
    assert open_.sample(sizes={"q": 3})["b"].shape == (3,)


def test_what_a_product_holds_is_declared() -> None:
    (x,) = lossdsl.parse("a(x: real[d, (k, s = 2)]) = sum[d, k, s](x)")["a"].inputs
    assert x.axes == ("d", "k", "s") and x.dims == (("d",), ("k", "s"))


def test_entries_are_named_where_the_caller_has_them() -> None:
    """``check=True`` names the entry in the shape that was given, not in that of the factors."""
    loss = lossdsl.parse("a(x: positive[d, (k, s = 3)]) = sum[d, k, s](x)")["a"]
    x = np.ones((2, 4, 6))
    x[1, 2, 4] = -1
    for backend in ("numpy", "torch", "reference"):
        with pytest.raises(lossdsl.LossError, match=r"is -1.0 at \(1, 2, 4\)"):
            loss.compile(backend)(x, check=True)
        with pytest.raises(lossdsl.LossError, match=r"is -1.0 at \(1, 4, 2\)"):
            loss.compile(backend, axes={"d": -1})(x.swapaxes(1, 2), check=True)


# -- positions -----------------------------------------------------------------------------------------------------------------------------------

XENT = "a(s: logit[k], y: class(k); g: nonnegative = 1) = g*logsumexp[k](s) - s[y]"
WEIGHED = "a(s: logit[k], w: positive[k], y: class(k)) = w[y]*(logsumexp[k](s) - s[y])\n  wrt s, w"
MATRIX = "a(u: real[h, w], v: real[w]) = sum[h, w](u^2*v*(h + 1)) + max[h](u[h, 0])\n  wrt u, v"
SQUARE = "a(R: real[i, j in i], z: real[j in i]) = sum[i, j](R^2*z*(i + 10*j))\n  wrt R, z"
FLAT = "a(x: real[d, (k, s = 2)], q: real[d]) = sum[d, k, s](x^2*q*(d + 10*k + 100*s))\n  wrt x, q"
SAMPLED = "a(x: real[n, d], y: real[n]) = sqrt(mean[n]((sum[d](x^2) - y)^2))\n  wrt x, y\n  batch n"

PLACES: list[tuple[str, Mapping[str, int], Mapping[str, tuple[int, ...]], tuple[int, ...]]] = [
    # a definition, positions, where each input's declared dimensions lie among its own, the batch
    (XENT, {"k": 1}, {"s": (1,)}, (2, 3, 4)),
    (XENT, {"k": 0}, {"s": (0,)}, (2, 3)),
    (XENT, {"k": -3}, {"s": (-3,)}, (2, 3, 4)),
    (XENT, {"k": -1}, {"s": (-1,)}, (2,)),
    (XENT, {"k": 1}, {"s": (1,)}, (2,)),
    (WEIGHED, {"k": 1}, {"s": (1,), "w": (1,)}, (2, 3, 4)),
    (MATRIX, {"w": 0}, {"u": (-1, 0), "v": (0,)}, (2,)),
    (MATRIX, {"h": -1}, {"u": (-1, -2), "v": (-1,)}, (2, 3)),
    (MATRIX, {"h": 1, "w": 0}, {"u": (1, 0), "v": (0,)}, (2, 3)),
    (SQUARE, {"i": 0}, {"R": (0, -1), "z": (-1,)}, (2, 3)),
    (SQUARE, {"i": -1, "j": 0}, {"R": (-1, 0), "z": (0,)}, (2, 3)),
    (FLAT, {"k": 0}, {"x": (-1, 0), "q": (-1,)}, (2, 3)),
    (FLAT, {"s": 1, "k": 1}, {"x": (-1, 1), "q": (-1,)}, (2, 3)),
    (FLAT, {"d": 0}, {"x": (0, -1), "q": (0,)}, (2,)),
    (SAMPLED, {"n": -1}, {"x": (-1, -2), "y": (-1,)}, (2,)),
    (SAMPLED, {"d": 0}, {"x": (-1, 0), "y": (-1,)}, (2,)),
]  # fmt: skip


def moved(x: Any, at: tuple[int, ...]) -> Any:
    """An array whose last dimensions go to the given positions."""
    rank = np.ndim(x)
    return np.moveaxis(x, range(rank - len(at), rank), [k % rank for k in at]) if at else x


def back(x: Any, at: tuple[int, ...]) -> Any:
    rank = np.ndim(x)
    return np.moveaxis(x, [k % rank for k in at], range(rank - len(at), rank)) if at else x


@pytest.mark.parametrize("shared", [False, True], ids=["batched", "shared"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
@pytest.mark.parametrize(("text", "axes_at", "at", "batch"), PLACES, ids=lambda x: str(x) if isinstance(x, dict) and "" not in x else "")
def test_axes_lie_where_it_is_said(text: str, axes_at: Any, at: Any, batch: Any, backend: str, shared: bool) -> None:
    """What comes of moved arrays is what comes of others, and derivatives lie as their inputs do."""
    loss = lossdsl.parse(text)["a"]
    convert = (lambda x: x) if backend != "torch" else pytest.importorskip("torch").as_tensor
    arrays = loss.sample(seed=1, batch=batch)
    if shared:  # the last number of the batch has no batch of its own
        name = next((i.name for i in reversed(loss.inputs) if i.axes), None)
        if name is None or name == loss.inputs[0].name:
            pytest.skip("one input with axes")
        arrays[name] = loss.sample(seed=2)[name]
    places = {name: p if np.ndim(arrays[name]) > len(p) or len(p) > 1 else () for name, p in at.items()}
    if any(k >= np.ndim(arrays[name]) or k < -np.ndim(arrays[name]) for name, p in places.items() for k in p):
        pytest.skip("a position that an input without a batch does not have")
    given = {name: convert(moved(x, places.get(name, ()))) for name, x in arrays.items()}
    straight, fn = loss.compile("numpy"), loss.compile(backend, axes=axes_at)
    for reduction in ("mean", "sum", "none"):
        want, slopes = straight.value_and_grad(**arrays, reduction=reduction)
        got, found = fn.value_and_grad(**given, reduction=reduction)
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-9)
        for name, g in each(fn.wrt, found).items():
            assert g.shape == given[name].shape
            np.testing.assert_allclose(back(g, places.get(name, ())), each(fn.wrt, slopes)[name], rtol=1e-8, atol=1e-12)
    for want, got in zip(straight.value_grad_hess(**arrays), fn.value_grad_hess(**given), strict=True):
        parts = [(None, want, got)] if not isinstance(want, tuple) else [(n, w, g) for n, w, g in zip(fn.wrt, want, got, strict=True)]
        for name, w, g in parts:
            axes_of = () if np.ndim(w) == len(batch) else places.get(name or fn.wrt[0], ())
            moved_back = np.asarray(g) if not axes_of else _each_back(np.asarray(g), axes_of, np.ndim(arrays[name or fn.wrt[0]]))
            np.testing.assert_allclose(moved_back, w, rtol=1e-7, atol=1e-9)


def _each_back(g: np.ndarray, at: tuple[int, ...], rank: int) -> np.ndarray:
    """A derivative for each sample: batch dimensions that the input does not have stand in front."""
    more = g.ndim - rank
    return back(g, tuple(more + k % rank for k in at))


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
def test_weights_and_masks_of_moved_axes(backend: str) -> None:
    loss = lossdsl.parse(XENT)["a"]
    arrays = loss.sample(seed=4, batch=(2, 3, 4))
    w = np.random.default_rng(0).uniform(0, 2, (2, 3, 4))
    given = {"s": np.moveaxis(arrays["s"], -1, 1), "y": arrays["y"]}
    want = loss.compile("numpy")(**arrays, sample_weight=w, sample_mask=w > 0.3)
    got = loss.compile(backend, axes={"k": 1})(**given, sample_weight=w, sample_mask=w > 0.3)
    np.testing.assert_allclose(float(got), want, rtol=1e-9)
    sampled = lossdsl.parse(SAMPLED)["a"]
    arrays = sampled.sample(seed=4, sizes={"n": 6})
    w = np.arange(6.0)
    want = sampled.compile("numpy")(**arrays, sample_weight=w)
    got = sampled.compile(backend, axes={"n": -1})(x=arrays["x"].T, y=arrays["y"], sample_weight=w)
    np.testing.assert_allclose(float(got), want, rtol=1e-9)


def test_torch_differentiates_moved_axes() -> None:
    torch = pytest.importorskip("torch")
    loss = lossdsl.parse(XENT)["a"]
    arrays = loss.sample(seed=4, batch=(2, 3, 4))
    s = torch.as_tensor(np.moveaxis(arrays["s"], -1, 1).copy(), dtype=torch.float64).requires_grad_()
    y = torch.as_tensor(arrays["y"])
    fn = loss.compile("torch", axes={"k": 1})
    fn(s, y).backward()
    want = torch.autograd.grad(torch.nn.functional.cross_entropy(s, y), s)[0]
    torch.testing.assert_close(s.grad, want)
    crit = loss.module(axes={"k": 1}, learn="g")
    torch.testing.assert_close(crit(s, y).double(), torch.nn.functional.cross_entropy(s, y))
    value = torch.compile(fn, backend="eager", fullgraph=True)(s, y)
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(s, y))
    assert torch.autograd.gradcheck(lambda x: fn(x, y), s) and torch.autograd.gradgradcheck(lambda x: fn(x, y), s)


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
@pytest.mark.parametrize(("text", "axes_at", "message"), [
    (XENT, {"c": 1}, "a has no axis 'c'"),
    (XENT, {"k": 1.5}, "the position of axis 'k' is 1.5, which is no integer"),
    (XENT, {"k": True}, "the position of axis 'k' is True, which is no integer"),
    (XENT, [1], r"axes is \[1\]"),
    (FLAT, {"k": 0, "s": 1}, r"\(k, s\) is one dimension of input 'x', and is to lie at positions {'k': 0, 's': 1}"),
    ("a(f, y) = (f - y)^2", {"f": 0}, "a has no axis 'f'"),
])  # fmt: skip
def test_positions_that_do_not_fit_are_refused(text: str, axes_at: Any, message: str, backend: str) -> None:
    with pytest.raises(lossdsl.LossError, match=message):
        lossdsl.parse(text)["a"].compile(backend, axes=axes_at)


@pytest.mark.parametrize("backend", ["numpy", "torch", "reference"])
def test_positions_that_arrays_do_not_have_are_refused(backend: str) -> None:
    fn = lossdsl.parse(XENT)["a"].compile(backend, axes={"k": 3})
    with pytest.raises(lossdsl.LossError, match=r"axis 'k' is to lie at position 3, and input 's' has shape \(2, 3\)"):
        fn(np.zeros((2, 3)), np.zeros(2, int))
    both = lossdsl.parse(MATRIX)["a"].compile(backend, axes={"h": 0, "w": -2})
    with pytest.raises(lossdsl.LossError, match="two axes of input 'u' are to lie at the same position"):
        both(np.zeros((2, 3)), np.zeros(2))
