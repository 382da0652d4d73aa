"""The gradient, the Hessian and the Hessian-vector product agree with differences of the reference, for a table of hard shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lossdsl
from lossdsl import pipeline
from lossdsl.passes.gradient import gradient, tangent, vjp
from lossdsl.runtime import reference
from lossdsl.runtime.sample import sample

CASES = {
    "pointwise": "a(f: real, y: real; d: positive = 1) = piecewise(u^2/2 if abs(u) <= d, d*(abs(u) - d/2) otherwise) where u = f - y",
    "shared_by_branches": "a(x: real, y: real) = piecewise(exp(u) if y > 0, log(1 + u^2) otherwise)*u where u = x*y + x",
    "chain_of_branches": "a(x: real) = c where b = piecewise(x^2 if x > 0, 3*x otherwise)\n  c = piecewise(b*x if b > 1, sin(b) otherwise)",
    "quotient": "a(x: real[n], w: positive[n]) = sum[n](w*x)/sum[n](w*x^2 + 1)",
    "softmax_cross_entropy": "a(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]",
    "naive_cross_entropy": "a(s: logit[k], y: class(k)) = -log(exp(s[y])/sum[k](exp(s)))",
    "focal": "a(s: logit[k], y: class(k); g: nonnegative = 2) = -(1 - p[y])^g*log(p[y]) where p = softmax[k](s)",
    "label_smoothing": "a(s: logit[k], y: class(k); eps: unit = 0.1) = -sum[k](t*log_softmax[k](s)) where t[k] = (1 - eps)*(k == y) + eps/size(k)",
    "total_variation": "a(u: real[h, w]) = sum[h, w | h + 1 < size(h)]((u[h + 1, w] - u)^2) + sum[h, w | w + 1 < size(w)]((u[h, w + 1] - u)^2)",
    "stencil_back": "a(u: real[h]) = sum[h | h >= 2](sin(u*u[h - 2])*u[size(h) - 1 - h])",
    "max": "a(x: real[n]) = max[n](x^2) - 2*min[n](sin(x))",
    "norm": "a(x: real[d], y: real[d]) = norm[d](x - y) + cosine(x, y)",
    "pairs": "a(x: real[n, d]) = sum[i, j in n | i < j](exp(-sqdist(x[i], x[j])))",
    "nt_xent": "a(u: real[n, d], v: real[n, d]; tau: positive = 0.5) = mean[i in n](logsumexp[j in n](s[i, j]/tau) - s[i, i]/tau)\n"
               "  where s[i, j] = cosine(u[i], v[j])",
    "supcon": "a(x: real[n, d], c: label[n]; tau: positive = 0.5) =\n"
              "  mean[i in n | any[j in n](pos[i, j])](-mean[j in n | pos[i, j]](s[i, j]/tau - logsumexp[k in n | k != i](s[i, k]/tau)))\n"
              "  where s[i, j] = cosine(x[i], x[j])\n  pos[i, j] = i != j and c[i] == c[j]",
    "hard_triplet": "a(x: real[n, d], c: label[n]; m: positive = 0.2) =\n"
                    "  mean[i in n](relu(m + max[j in n | c[j] == c[i]](D(i, j), default = 0) - min[j in n | c[j] != c[i]](D(i, j), default = 1)))\n"
                    "  where D(i, j) = sqdist(x[i], x[j])",
    "lambda_like": "a(s: real[n], y: nonnegative[n]) = sum[i, j in n | y[i] > y[j]](stop(abs(s[i]*y[j]))*softplus(s[j] - s[i]))",
    "vq": "a(ze: real[d], e: real[k, d]; beta: positive = 0.25) = sqdist(stop(ze), q) + beta*sqdist(ze, stop(q))\n"
          "  where q = e[k = argmin[k](sqdist(ze, e[k]))]",
    "gather_rows": "a(w: real[v, d], t: class(v)[n], x: real[n, d]) = sum[n](dot[d](w[t], x)^2)",
    "centroids": "a(x: real[n, d], c: label[n]) = mean[i in n](sqdist(x[i], m[i])) where m[i, d] = mean[j in n | c[j] == c[i]](x[j, d])",
    "guard_one_level_up": "a(x: real[n], y: real[n]) = sum[i in n | y[i] > 0](sum[j in n | x[j] > x[i]](log(x[j] - x[i]))*x[i])",
    "guard_two_levels_up": "a(x: real[n], y: real[n]) = sum[i in n | y[i] > 0](x[i]*sum[j in n](sqrt(abs(x[j]))*sum[k in n | x[k] > x[j]](log(x[k] - x[j]))))",
    "poison": "a(x: real[n]) = sum[n | x > 0](sqrt(x)*log(x)) + sum[n](piecewise(sqrt(x) if x > 1, x^2 otherwise))",
    "strong_zero": "a(x: real[n]) = sum[n]((x > 0)*log(x)*sqrt(x))",
    "powers": "a(x: positive[n]; p: real = 1.5) = sum[n](x^p)^(1/p) + sum[n](2^x) + sum[n](x^x)",
    "logsumexp_guarded": "a(x: real[n], m: bool[n]) = logsumexp[n | m](x*x) + log_softmax[n](x)[0]",
    "softmax_pairs": "a(q: real[n, d], k: real[n, d]) = sum[i in n](sum[n](softmax[n](dot[d](q[i], k))*k[n, 0])^2)",
    "kl": "a(p: simplex[k], q: simplex[k]) = sum[k](q*log(q/p))",
    "dice": "a(p: unit[n], y: unit[n]; eps: nonnegative = 1) = 1 - (2*sum[n](p*y) + eps)/(sum[n](p) + sum[n](y) + eps)",
    "composed": "h(f: real, y: real) = log(cosh(f - y))\na(x: real[n], y: real[n]) = sum[n](h(x, y)*h(2*x, y))",
    "weighted_mean": "a(x: real[n], w: nonnegative[n]) = mean[n](x^3, weight = w)",
    "ranges": "a(x: real) = sum[b in 0..4](exp(-(x - b)^2/2)*b)",
    "smooth_rank": "a(s: real[n], y: real[n]) = mean[i in n]((1 + sum[j in n | j != i](sigmoid(s[j] - s[i])) - y[i])^2)",
    "sorted": "a(x: real[n]) = sum[n]((n + 1)*sort[n](sin(3*x))^2)",
    "sorted downwards where": "a(x: real[n], y: real[n]) = sum[i in n | i < 2](sort[n | y > -1](exp(x)*x, order = descending)[i]^2)",
    "largest errors": "a(x: real[n], y: real[n]; k: integer = 3) = mean[i in n | i < k](sort[n]((x - y)^2, order = descending)[i])",
    "quantile": "a(x: real[n], y: real[n]; q: unit = 0.7) = (1 - t)*e[lo]^2 + t*e[ceil(at)]^2\n"
                "  where e[n] = sort[n](x*y)\n  at = q*(size(n) - 1)\n  lo = floor(at)\n  t = at - lo",
    "sorted by another": "a(x: real[n], w: real[n]) = sum[n](x[argsort[n](w)]^2*cumsum[n](w))",
    "sorted rows": "a(x: real[n, d]) = sum[n, d](sort[d](x^3)*(d + 1)*sum[d](x))",
    "sorted columns of rows": "a(x: real[n, d]) = sum[n](sort[n](norm[d](x))^2*(n + 1)) + norm[d](sort[n](x)[1])",
    "a class as a place": "a(s: real[n, k], y: class(k)[n]) = sum[n](sort[k](s)[y]^3)",
    "neighbours": "a(x: real[n, d]) = mean[i in n](log(1 + sort[j in n | j != i](sqdist(x[i], x[j]))[1]))",
    "sort of a sort": "a(x: real[n]) = sum[n](sort[n](sort[n](x)*sin(n + 1))^2*(n + 1))",
    "lovasz": "a(s: real[n], y: binary[n]) = sum[n](relu(e)*(jaccard - piecewise(jaccard[n - 1] if n > 0, 0 otherwise)))\n"
              "  where t = 2*y - 1\n  o[n] = argsort[n](1 - s*t, order = descending)\n  e[n] = 1 - s[o]*t[o]\n  p = sum[n](y)\n"
              "  jaccard[n] = 1 - (p - cumsum[n](y[o]))/(p + cumsum[n](1 - y[o]))",
    "ideal": "a(s: real[n], y: nonnegative[n]) = sum[i, j in n | y[i] > y[j]](stop(abs(d[i, j]))*softplus(s[j] - s[i])*ideal/(1 + ideal))\n"
             "  where rank[i] = 1 + count[j in n | s[j] > s[i]]\n  gain = 2^y - 1\n"
             "  d[i, j] = (gain[i] - gain[j])*(1/log2(1 + rank[i]) - 1/log2(1 + rank[j]))/ideal\n"
             "  ideal = sum[i in n](sort[n](gain*s, order = descending)[i]/log2(2 + i))",
    "running sum": "a(x: real[n]) = sum[n](cumsum[n](x)^2) + sum[n](n*cumsum[n | x > 0](exp(x)))",
    "running product": "a(x: real[n]) = sum[n](prod[j in n | j <= n](x[j])^2)",
    "product": "a(x: real[n], y: real[n]) = prod[n](1 + x*y)*sum[n](x)",
    "product where": "a(x: real[n], y: real[n]) = sin(prod[n | y > -1](x))",
    "product of rows": "a(x: real[n, d]) = sum[n](prod[d](x)^2) + prod[n](sum[d](x^2))",
    "product over two": "a(x: real[n, d]) = prod[n, d | d != n](x)^2",
    "product of pairs": "a(x: real[n]) = prod[i, j in n | i < j](x[i] - x[j])",
    "product of the others": "a(x: real[n]) = sum[i in n](i*prod[j in n | j != i](x[j] + 2)^2)",
    "log of a product": "a(p: prob[n]) = -log(prod[n](p)) - log(1 - prod[n | n > 0](1 - p))",
    "variance": "a(x: real[n, d]) = mean[n](var[d](x)) + var[n](sum[d](x), ddof = 1)*std[n, d](x)",
    "standardised": "a(x: real[n], y: real[n]) = mean[n](((x - mean[n](x))/std[n](x) - (y - mean[n](y))/std[n | x > -2](y))^3)",
    "ranked": "a(x: real[n], y: real[n]) = sum[n](x^2*rank[n](x)) + sum[n | y > -1](x*rank[n | y > -1](y, order = descending))",
    "sizes": "a(x: real[n], y: real[m]) = sum[n](x)*sum[m](y)/size(n) + sum[n](size(m)*x^2)",
    "giou": "a(p: real[c], t: real[c]) = 1 - i/u + (h - u)/h where\n"
            "  w = relu(min(p[2], t[2]) - max(p[0], t[0]))\n  v = relu(min(p[3], t[3]) - max(p[1], t[1]))\n  i = w*v\n"
            "  u = (p[2] - p[0])*(p[3] - p[1]) + (t[2] - t[0])*(t[3] - t[1]) - i\n"
            "  h = (max(p[2], t[2]) - min(p[0], t[0]))*(max(p[3], t[3]) - min(p[1], t[1]))",
}  # fmt: skip

SIZES = {"n": 4, "k": 4, "d": 3, "h": 4, "w": 3, "v": 5, "m": 3, "c": 4}


def _case(name: str, seed: int = 1):
    program = lossdsl.parse(CASES[name])["a"].program
    arrays = sample(program, seed, sizes=SIZES)
    params = {p.name: float(p.default) for p in program.params}
    return program, arrays, params


def _real_inputs(program) -> list[str]:
    return [i.name for i in program.inputs if i.kind.role == "number" and not i.kind.integer]


def _close(got, want, scale=1.0) -> None:
    got, want = np.asarray(got, object), np.asarray(want, object)
    assert got.shape == want.shape
    for a, b in zip(got.ravel(), want.ravel(), strict=True):
        a, b = float(a), float(b)
        assert math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9 * scale), (a, b)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_the_limit_of_differences(name: str) -> None:
    program, arrays, params = _case(name)
    for wrt in _real_inputs(program):
        want = reference.differences(program, arrays, params, wrt)
        for form in (gradient(program, [wrt]), pipeline.derived(program, [wrt])):
            got = reference.evaluate(form, arrays, params)[form.outputs[0].name].value
            _close(got, want)


@pytest.mark.parametrize("name", CASES)
def test_hessian_vector_product_is_the_derivative_of_the_gradient(name: str) -> None:
    program, arrays, params = _case(name)
    wrt = _real_inputs(program)[0]
    rng = np.random.default_rng(3)
    v = rng.normal(size=np.shape(arrays[wrt]))
    derived = gradient(program, [wrt])
    want = _directional(derived, arrays, params, wrt, v)
    forward = tangent(derived, {wrt: "v_"})
    got = reference.evaluate(forward, {**arrays, "v_": v}, params)[derived.outputs[0].name].value
    _close(got, want)
    reverse = vjp(derived, [wrt], "v_")
    got = reference.evaluate(reverse, {**arrays, "v_": v}, params)[wrt].value
    _close(got, want)
    closed = pipeline.hessian_vector(program, wrt, "v_")
    got = reference.evaluate(closed, {**arrays, "v_": v}, params)[closed.outputs[0].name].value
    _close(got, want)


@pytest.mark.parametrize("name", CASES)
def test_hessian_times_a_vector_is_the_hessian_vector_product(name: str) -> None:
    program, arrays, params = _case(name)
    wrt = _real_inputs(program)[0]
    v = np.random.default_rng(3).normal(size=np.shape(arrays[wrt]))
    full = pipeline.second(program, wrt)
    matrix = np.asarray(reference.evaluate(full, arrays, params)[full.outputs[0].name].value, object)
    got = np.tensordot(matrix, np.asarray(v, object), axes=np.ndim(v)) if np.ndim(v) else matrix * v
    product = tangent(gradient(program, [wrt]), {wrt: "v_"})
    want = reference.evaluate(product, {**arrays, "v_": v}, params)[product.outputs[0].name].value
    _close(got, want)


def _directional(program, arrays, params, wrt, v):
    """Central difference of an array program along v, with stop's arguments at the base point."""
    out = program.outputs[0].name
    return reference.directional(program, arrays, params, {wrt: v})[out]


CHAINS = {
    "scalars": ("x: real[n]", "t0 = sum[n](x)", "t{1} = sum[n](x*tanh(t{0}))", "t299"),
    "rows": ("x: real[n, d]", "t0[n] = sum[d](x)", "t{1}[n] = max[d](x - t{0}/2)", "sum[n](t299)"),
    "matrix": ("x: real[n]", "t0[n] = x", "t{1}[n] = sum[i in n](tanh(t{0}[i])*x)/2", "sum[n](t299)"),
    "branches": ("x: real[n]", "t0[n] = x", "t{1}[n] = piecewise(t{0}*x if t{0} > 1/10, t{0} + x^2 otherwise)", "sum[n](t299)"),
}


@pytest.mark.parametrize("name", CHAINS)
def test_three_hundred_stages_come_back(name: str) -> None:
    """Neither the depth nor the number of stages is in the way, and the gradient is that of the value."""
    inputs, first, step, last = CHAINS[name]
    lines = [first, *(step.format(k - 1, k) for k in range(1, 300))]
    loss = lossdsl.parse(f"a({inputs}) = {last} where\n  " + "\n  ".join(lines))["a"]
    x = np.array([0.9, 0.4, 0.7]) if inputs.endswith("[n]") else np.array([[0.9, 0.4], [0.7, -0.3], [0.2, 1.1]])
    fn = loss.compile("numpy")
    value, slope = fn.value_and_grad(x)
    assert np.isfinite(value) and np.isfinite(slope).all()
    for at in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[at] = 1e-6
        difference = (fn(x + h) - fn(x - h)) / 2e-6
        assert math.isclose(slope[at], difference, rel_tol=1e-4, abs_tol=1e-6), (name, slope, difference)
