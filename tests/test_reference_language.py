"""The examples of the language, read by the front end and evaluated by the oracle, beside plain loops that share nothing with either."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossdsl.frontend import load_text
from lossdsl.runtime import reference

nan, inf = math.nan, math.inf
r = np.random.default_rng(11)

# small fixed data: vectors f, y over n; u, v over (n, d); labels with a group of three, a pair and a single one
F = [0.5, -1.25, 3.0, 0.0]
Y = [0.25, 1.0, -2.0, 0.0]
S = [1.5, -0.75, 0.25]
P, Q = [0.2, 0.5, 0.3], [0.6, 0.4, 0.0]
U = r.normal(size=(6, 3)).tolist()
V = r.normal(size=(6, 3)).tolist()
C = [2, 0, 2, 1, 0, 2]
IMAGE = r.normal(size=(3, 4)).tolist()
GRADES = [0.0, 2.0, 1.0, 2.0]
SCORES = [0.4, -0.1, 1.2, 0.3]


def dot(a: Any, b: Any) -> float:
    return math.fsum(p * q for p, q in zip(a, b, strict=True))


def norm(a: Any) -> float:
    return math.sqrt(dot(a, a))


def away(a: Any, b: Any) -> list[float]:
    return [p - q for p, q in zip(a, b, strict=True)]


def cos(a: Any, b: Any) -> float:
    return dot(a, b) / (norm(a) * norm(b))


def lse(a: Any) -> float:
    a = list(a)
    return math.log(math.fsum(math.exp(p) for p in a)) if a else -inf


def mean(a: Any) -> float:
    a = list(a)
    return math.fsum(a) / len(a) if a else nan


def softplus(a: float) -> float:
    return math.log1p(math.exp(a))


def huber(f: float, y: float, delta: float) -> float:
    d = abs(f - y)
    return d * d / 2 if d <= delta else delta * (d - delta / 2)


def smoothed(s: list[float], y: int, eps: float) -> float:
    total = 0.0
    for k in range(len(s)):
        t = (1 - eps) * (1 if k == y else 0) + eps / len(s)
        total -= t * (s[k] - lse(s))
    return total


def nt_xent(u: Any, v: Any, tau: float) -> float:
    return mean(lse(cos(u[i], v[j]) / tau for j in range(len(v))) - cos(u[i], v[i]) / tau for i in range(len(u)))


def supcon(x: Any, c: Any, tau: float) -> float:
    n = range(len(x))
    rows = []
    for i in n:
        friends = [j for j in n if j != i and c[i] == c[j]]
        if friends:
            others = lse(cos(x[i], x[k]) / tau for k in n if k != i)
            rows.append(-mean(cos(x[i], x[j]) / tau - others for j in friends))
    return mean(rows)


def lambda_like(s: Any, y: Any) -> float:
    n = range(len(s))
    rank = [1 + sum(s[j] > s[i] for j in n) for i in n]
    gain = [2 ** y[i] - 1 for i in n]
    discount = [1 / math.log2(1 + rank[i]) for i in n]
    ideal = math.fsum(g / math.log2(2 + i) for i, g in enumerate(sorted(gain, reverse=True)))
    return math.fsum(abs((gain[i] - gain[j]) * (discount[i] - discount[j])) / ideal * softplus(s[j] - s[i]) for i in n for j in n if y[i] > y[j])


def hard_triplet(x: Any, c: Any, m: float) -> float:
    rows = []
    for i in range(len(x)):
        far = max((norm(away(x[i], x[j])) for j in range(len(x)) if c[j] == c[i]), default=0)
        near = min((norm(away(x[i], x[j])) for j in range(len(x)) if c[j] != c[i]), default=inf)
        rows.append(max(0.0, m + far - near))
    return mean(rows)


def total_variation(u: Any) -> float:
    h, w = len(u), len(u[0])
    down = [(u[a + 1][b] - u[a][b]) ** 2 for a in range(h - 1) for b in range(w)]
    right = [(u[a][b + 1] - u[a][b]) ** 2 for a in range(h) for b in range(w - 1)]
    return math.fsum(down + right)


def vq_vae(xhat: Any, x: Any, ze: Any, e: Any, beta: float) -> float:
    q = min(e, key=lambda row: norm(away(ze, row)))
    return mean(d * d for d in away(xhat, x)) + (1 + beta) * norm(away(ze, q)) ** 2


Case = tuple[str, dict[str, Any], dict[str, Any], Callable[[], Any]]

EXAMPLES: dict[str, Case] = {
    "huber of a free residual": (
        "huber(delta: positive = 1) = piecewise(r^2/2 if abs(r) <= delta, delta*(abs(r) - delta/2) otherwise)",
        {"f": 3.0, "y": 0.5}, {}, lambda: huber(3.0, 0.5, 1)),
    "huber with a user's own delta": (
        "huber(delta) = piecewise(r^2/2 if abs(r) <= delta, delta*(abs(r) - delta/2) otherwise)",
        {"f": 3.0, "y": 0.5}, {"delta": 2.75}, lambda: huber(3.0, 0.5, 2.75)),
    "huber spelled out": (
        "huber(f: real, y: real; delta: positive = 1) =\n"
        "    piecewise(u^2/2 if abs(u) <= delta, delta*(abs(u) - delta/2) otherwise)\n    where u = f - y\n  wrt     f\n"
        '  survey  4.2.7 (14): L-CONT, DIFF, S-CONV\n  source  "Huber (1964), Ann. Math. Statist. 35(1), 73-101"\n',
        {"f": -3.0, "y": 0.5}, {"delta": 0.5}, lambda: huber(-3.0, 0.5, 0.5)),
    "ramp by composition of a bare loss": (
        "hinge = max(0, 1 - z)\nramp = min(1, hinge)", {"f": 0.25, "y": -1.0}, {}, lambda: min(1, max(0, 1 + 0.25))),
    "elastic net by calls": (
        "mse = r^2\nl1(theta: real[d]) = sum[d](abs(theta))\nl2(theta: real[d]) = sum[d](theta^2)\n"
        "elastic(f, y, theta: real[d]; a: nonnegative = 1, b: nonnegative = 1) = mse(f, y) + a*l1(theta) + b*l2(theta)",
        {"f": 2.0, "y": 0.5, "theta": S}, {"b": 0.5}, lambda: 1.5**2 + sum(map(abs, S)) + 0.5 * dot(S, S)),
    "softmax cross-entropy": (
        "softmax_cross_entropy(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]", {"s": S, "y": 2}, {}, lambda: lse(S) - S[2]),
    "kl with a zero in q": (
        "kl(p: simplex[k], q: simplex[k]) = sum[k](q*log(q/p))", {"p": P, "q": Q}, {},
        lambda: math.fsum(b * math.log(b / a) for a, b in zip(P, Q, strict=True) if b)),
    "focal": (
        "focal(s: logit[k], y: class(k); gamma: nonnegative = 2) = -(1 - p[y])^gamma*log(p[y]) where p = softmax[k](s)",
        {"s": S, "y": 1}, {"gamma": 1.5}, lambda: (1 - math.exp(S[1] - lse(S))) ** 1.5 * (lse(S) - S[1])),
    "label smoothing": (
        "label_smoothing(s: logit[k], y: class(k); eps: unit = 0.1) = -sum[k](t*log_softmax[k](s)) where t[k] = (1 - eps)*(k == y) + eps/size(k)",
        {"s": S, "y": 0}, {}, lambda: smoothed(S, 0, 0.1)),
    "dice": (
        "dice(p: unit[n], y: unit[n]; eps: nonnegative = 0) = 1 - (2*sum[n](p*y) + eps)/(sum[n](p) + sum[n](y) + eps)",
        {"p": P, "y": [1.0, 0.0, 1.0]}, {"eps": 0.5}, lambda: 1 - (2 * 0.5 + 0.5) / (1 + 2 + 0.5)),
    "triplet with the distance by name": (
        "triplet(a: real[d], p: real[d], n: real[d]; m: positive = 1, dist = euclidean) = relu(m + dist(a, p) - dist(a, n))\n  wrt a, p, n",
        {"a": U[0], "p": U[1], "n": U[2]}, {"m": 2.0},
        lambda: max(0.0, 2 + norm(away(U[0], U[1])) - norm(away(U[0], U[2])))),
    "rmse": (
        "rmse(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))\n  batch n", {"f": F, "y": Y}, {},
        lambda: math.sqrt(mean(d * d for d in away(F, Y)))),
    "ordinal": (
        "ordinal(s: logit[n, q], y: integer[n]) = mean[n, q | y >= q](softplus(s) - (y > q)*s)",
        {"s": U, "y": [0, 2, 1, 0, 5, -1]}, {},
        lambda: mean(softplus(U[i][q]) - (U[i][q] if y > q else 0) for i, y in enumerate([0, 2, 1, 0, 5, -1]) for q in range(3) if y >= q)),
    "nt-xent": (
        "nt_xent(u: real[n, d], v: real[n, d]; tau: positive = 0.5) =\n    mean[i in n](logsumexp[j in n](s[i, j]/tau) - s[i, i]/tau)\n"
        "    where s[i, j] = cosine(u[i], v[j])\n  wrt u, v\n  batch n\n", {"u": U, "v": V}, {}, lambda: nt_xent(U, V, 0.5)),
    "supervised contrastive": (
        "supervised_contrastive(x: real[n, d], c: label[n]; tau: positive = 0.1) =\n"
        "    mean[i in n | any[j in n](pos[i, j])](-mean[j in n | pos[i, j]](s[i, j]/tau - logsumexp[k in n | k != i](s[i, k]/tau)))\n"
        "    where s[i, j]   = cosine(x[i], x[j])\n          pos[i, j] = i != j and c[i] == c[j]\n", {"x": U, "c": C}, {}, lambda: supcon(U, C, 0.1)),
    "lambda loss": (
        "lambda_loss(s: real[n], y: nonnegative[n]) =\n    sum[i, j in n | y[i] > y[j]](stop(abs(dndcg[i, j]))*softplus(s[j] - s[i]))\n"
        "    where rank[i]     = 1 + count[j in n | s[j] > s[i]]\n          gain        = 2^y - 1\n"
        "          dndcg[i, j] = (gain[i] - gain[j])*(1/log2(1 + rank[i]) - 1/log2(1 + rank[j]))/ideal\n"
        "          ideal       = sum[i in n](sort[n](gain, order = descending)[i]/log2(2 + i))\n",
        {"s": SCORES, "y": GRADES}, {}, lambda: lambda_like(SCORES, GRADES)),
    "hard triplet": (
        "hard_triplet(x: real[n, d], c: label[n]; m: positive = 0.2) =\n"
        "    mean[i in n](relu(m + max[j in n | c[j] == c[i]](D(i, j), default = 0) - min[j in n | c[j] != c[i]](D(i, j), default = inf)))\n"
        "    where D(i, j) = euclidean(x[i], x[j])\n", {"x": U, "c": C}, {}, lambda: hard_triplet(U, C, 0.2)),
    "hard triplet of one class only": (
        "hard_triplet(x: real[n, d], c: label[n]; m: positive = 0.2) =\n"
        "    mean[i in n](relu(m + max[j in n | c[j] == c[i]](D(i, j), default = 0) - min[j in n | c[j] != c[i]](D(i, j), default = inf)))\n"
        "    where D(i, j) = euclidean(x[i], x[j])\n", {"x": U, "c": [1] * 6}, {}, lambda: 0.0),
    "total variation": (
        "total_variation(u: real[h, w]) = sum[h, w | h + 1 < size(h)]((u[h + 1, w] - u)^2) + sum[h, w | w + 1 < size(w)]((u[h, w + 1] - u)^2)",
        {"u": IMAGE}, {}, lambda: total_variation(IMAGE)),
    "vq-vae": (
        "vq_vae(xhat: real[m], x: real[m], ze: real[d], e: real[k, d]; beta: positive = 0.25) =\n"
        "    mean[m]((xhat - x)^2) + sqdist(stop(ze), q) + beta*sqdist(ze, stop(q))\n    where q = e[k = argmin[k](sqdist(ze, e[k]))]\n  wrt xhat, ze, e\n",
        {"xhat": F, "x": Y, "ze": S, "e": U}, {}, lambda: vq_vae(F, Y, S, U, 0.25)),
}  # fmt: skip

RULES: dict[str, Case] = {
    "a shadowing bracket means its own index": (
        "a(u: real[i, d]) = sum[i](sum[d](u*x)) where x[i, d] = u/norm[d](u)", {"u": U}, {}, lambda: math.fsum(norm(row) for row in U)),
    "an axis' name is its index": ("a(x: real[n]) = sum[n](n*x) + sum[i in n](i*x[i])", {"x": F}, {}, lambda: 2 * sum(i * v for i, v in enumerate(F))),
    "a bare local in another index' bracket": (
        "a(x: real[n]) = sum[i in n](x[i]*m) where m = mean[n](x)", {"x": F}, {}, lambda: sum(F) * mean(F)),
    "one mean over pairs is no mean of means": (
        "a(x: real[n]) = mean[i, j in n | i <= j](x[i]) - mean[i in n](mean[j in n | i <= j](x[i]))", {"x": F}, {},
        lambda: mean(F[i] for i in range(4) for j in range(4) if i <= j) - mean(F)),
    "a weighted mean drops entries of weight zero": (
        "a(x: real[n], w: nonnegative[n]) = mean[n](log(x), weight = w)", {"x": [2.0, -1.0, 3.0], "w": [1.0, 0.0, 2.0]}, {},
        lambda: (math.log(2) + 2 * math.log(3)) / 3),
    "a weighted mean of nothing has its default": (
        "a(x: real[n], w: nonnegative[n]) = mean[n](x, weight = w, default = 7)", {"x": [2.0, 1.0], "w": [0.0, 0.0]}, {}, lambda: 7),
    "a range has both ends": ("a(x: real; bins: integer = 3) = sum[b in 0..bins](x^b)", {"x": 2.0}, {}, lambda: 15),
    "precedence": ("a(x: real) = -x^2 + 2^3^2/2*x - -x", {"x": 3.0}, {}, lambda: -9 + 512 / 2 * 3 + 3),
    "comparisons chain": ("a(x: real[n]) = sum[n]((0 < x <= 1)*x)", {"x": [-1.0, 0.0, 0.5, 1.0, 2.0]}, {}, lambda: 1.5),
    "a condition is a strong zero for divisors too": (
        "a(x: real[n]) = sum[n](-(x > 0)*log(x)/x)", {"x": [2.0, 0.0, -1.0]}, {}, lambda: -math.log(2) / 2),
    "a condition through a local guards as well": (
        "a(x: real[n]) = sum[n](m*sqrt(x)) where m = x > 0", {"x": [4.0, -1.0]}, {}, lambda: 2),
    "a condition in a sum is a number": ("a(x: real[n]) = sum[n](1 + (x > 0))", {"x": [4.0, -1.0]}, {}, lambda: 3),
    "zero times a log of zero": (
        "a(p: unit[n]) = -sum[n](p*log(p) + (1 - p)*log(1 - p))", {"p": [0.0, 1.0, 0.5]}, {}, lambda: math.log(2)),
    "zero times a log of a quotient with zeros": ("a(q: unit[n], p: unit[n]) = sum[n](q*log(q/p))", {"q": [0.0, 0.0], "p": [0.0, 0.5]}, {}, lambda: 0),
    "no other singularity is filled": ("a(x: real) = x*(1/x)", {"x": 0.0}, {}, lambda: nan),
    "no branch": ("a(x: real) = piecewise(1 if x > 0)", {"x": -1.0}, {}, lambda: nan),
    "branches in order": ("a(x: real) = piecewise(1 if x > 0, 2 if x > 1, 3 otherwise)", {"x": 5.0}, {}, lambda: 1),
    "nan fails every comparison but one": ("a(x: real) = piecewise(1 if x > 0, 2 if x <= 0, 3 if x == x, 4 if x != x)", {"x": nan}, {}, lambda: 4),
    "what a guard leaves out may be anything": (
        "a(x: real[n]) = sum[n | x > 0](log(x)) + max[n | x > 0](1/x)", {"x": [2.0, 0.0, -1.0, nan]}, {}, lambda: math.log(2) + 0.5),
    "guards that the index needs": ("a(x: real[n]) = sum[n | n >= 2](x[n - 2]*x)", {"x": F}, {}, lambda: F[0] * F[2] + F[1] * F[3]),
    "or stops at the side that decides": (
        "a(x: real[n]) = sum[n | n == 0 or x[n - 1] > 0](x)", {"x": F}, {}, lambda: F[0] + F[1] + F[3]),
    "a head orders a local's indices": (
        "a(u: real[n, d]) = sum[n, d](t[d, n]*n) where t[d, n] = u", {"u": U}, {}, lambda: math.fsum(i * sum(row) for i, row in enumerate(U))),
    "an index by name leaves the rest": (
        "a(u: real[h, w]) = sum[h, w | w + 1 < size(w)](u[w = w + 1] - u)", {"u": IMAGE}, {}, lambda: math.fsum(row[-1] - row[0] for row in IMAGE)),
    "a class in arithmetic": ("a(s: real[k], y: class(k)) = y*s[y] + (y == 1)", {"s": S, "y": 1}, {}, lambda: S[1] + 1),
    "a class of every row": ("a(s: logit[n, k], y: class(k)[n]) = mean[n](logsumexp[k](s) - s[n, y])", {"s": U, "y": [c % 3 for c in C]}, {},
                             lambda: mean(lse(row) - row[c % 3] for row, c in zip(U, C, strict=True))),
    "a loss of numbers maps over axes": (
        "sq(f: real, y: real) = (f - y)^2\na(x: real[n], y: real[n]) = mean[n](sq(x, y))", {"x": F, "y": Y}, {}, lambda: mean(d * d for d in away(F, Y))),
    "a call inside two indices": (
        "a(x: real[n, d]) = max[i, j in n | i < j](cosine(x[i], x[j]))", {"x": U}, {}, lambda: max(cos(a, b) for a, b in itertools.combinations(U, 2))),
    "brackets of a call say its axis": (
        "a(x: real[n, d], w: real[d]) = sum[n](cosine[d](x, w))", {"x": U, "w": S}, {}, lambda: math.fsum(cos(row, S) for row in U)),
    "a local function": (
        "a(x: real[n, d]; p: positive = 3) = sum[i, j in n](D(x[i], x[j])) where D(u, v) = sum[d](abs(u - v)^p)^(1/p)", {"x": U}, {},
        lambda: math.fsum(math.fsum(abs(p - q) ** 3 for p, q in zip(a, b, strict=True)) ** (1 / 3) for a in U for b in U)),
    "norms of rows": ("a(x: real[n, d]) = max[n](norm[d](x))", {"x": U}, {}, lambda: max(map(norm, U))),
    "softmax under a guard": (
        "a(x: real[n]) = sum[n](softmax[n | x > 0](x)*(n + 1))", {"x": F}, {},
        lambda: (math.exp(F[0]) * 1 + math.exp(F[2]) * 3) / (math.exp(F[0]) + math.exp(F[2]))),
    "log_softmax under a guard": ("a(x: real[n]) = max[n | x <= 0](log_softmax[n | x > 0](x))", {"x": F}, {}, lambda: -inf),
    "counts and quantifiers": (
        "a(x: real[n]) = count[n | x > 0] + 10*any[n](x > 2) + 100*all[n](x > -2) + 1000*all[n | x > 2](x > 2.5)", {"x": F}, {}, lambda: 1112),
    "variance": ("a(x: real[n]) = var[n](x) + std[n](x, ddof = 1)", {"x": F}, {}, lambda: float(np.var(F) + np.std(F, ddof=1))),
    "ranks share the smallest": ("a(x: real[n]) = sum[n](n*rank[n](x))", {"x": [3.0, 1.0, 3.0, 0.0]}, {}, lambda: 0 * 3 + 1 * 2 + 2 * 3 + 3 * 1),
    "the first of equals": ("a(x: real[n]) = argmax[n](x) + 10*argmin[n](x)", {"x": [1.0, 3.0, 3.0, 1.0]}, {}, lambda: 1),
    "empty reductions": (
        "a(x: real[n]) = sum[n | x > 9](x) + count[n | x > 9] + norm[n | x > 9](x) + any[n](x > 9) + all[n | x > 9](x > 10)", {"x": F}, {}, lambda: 1),
    "an empty mean": ("a(x: real[n]) = mean[n | x > 9](x)", {"x": F}, {}, lambda: nan),
    "an empty logsumexp": ("a(x: real[n]) = logsumexp[n | x > 9](x)", {"x": F}, {}, lambda: -inf),
    "powers": ("a(x: real) = 0^0 + x^3 + (x^2)^0.5", {"x": -2.0}, {}, lambda: 1 - 8 + 2),
    "a negative base": ("a(x: real) = x^0.5", {"x": -2.0}, {}, lambda: nan),
    "an ignored class is left out": (
        "a(s: logit[n, k], y: class(k, ignore = -100)[n]) = mean[n](logsumexp[k](s) - s[n, y])", {"s": U, "y": [0, -100, 2, 1, -100, 1]}, {},
        lambda: mean(lse(U[i]) - U[i][y] for i, y in enumerate([0, -100, 2, 1, -100, 1]) if y != -100)),
    "pi and inf": ("a(x: real) = pi*x + min(x, inf)", {"x": 2.0}, {}, lambda: 2 * math.pi + 2),
    "two axes may be declared equal": (
        "a(R: real[i, j in i]) = sum[i, j | i < j](R[i, j] - R[j, i])", {"R": [row[:3] for row in U[:3]]}, {},
        lambda: math.fsum(U[i][j] - U[j][i] for i in range(3) for j in range(3) if i < j)),
    "an index that leaves its axis is nan": ("a(x: real[n]) = sum[n](x[n + 1])", {"x": F}, {}, lambda: nan),
}  # fmt: skip


def evaluated(text: str, arrays: dict[str, Any], params: dict[str, Any]) -> reference.Result:
    program = list(load_text(text, "example.loss").values())[-1]
    (result,) = reference.evaluate(program, arrays, params).values()
    return result


def _agrees(case: Case) -> None:
    text, arrays, params, formula = case
    got, want = evaluated(text, arrays, params), float(formula())
    assert got.converged
    if math.isfinite(want):
        assert abs(float(got.value) - want) <= 1e-13 * max(abs(want), float(got.scale)) * 10, (float(got.value), want)
    else:
        assert float(got.value) == want or (math.isnan(want) and math.isnan(float(got.value))), (float(got.value), want)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_mean_what_a_reader_computes(name: str) -> None:
    _agrees(EXAMPLES[name])


@pytest.mark.parametrize("name", RULES)
def test_rules_mean_what_a_reader_computes(name: str) -> None:
    _agrees(RULES[name])
