"""The language reference as tests: for each rule of the language its meaning, beside a plain Python loop, and its error.

``MEANS`` holds rows (rule, text, arrays, hyper-parameters, what a reader would compute); ``BREAKS`` holds rows (rule, text, where, words)
for what breaks a rule. The mistakes a user makes are in ``bad/``; here each rule is broken once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools import evaluate, normal, program, value

from lossdsl.errors import LossError, NotYet
from lossdsl.frontend import load_text, load_text_with_warnings
from lossdsl.kinds import Interval

nan, inf = math.nan, math.inf
Array = np.ndarray


@dataclass(frozen=True)
class Means:
    rule: str
    text: str
    given: dict[str, Any]
    want: Callable[..., Any]
    params: dict[str, Any] = field(default_factory=dict)


X = normal(4)
W = normal(4, seed=1)
A = normal(4, 3, seed=2)
B = normal(4, 3, seed=3)
V = normal(3, seed=4)
P = np.array([0.1, 0.2, 0.0, 0.3, 0.4])
Q = np.array([0.3, 0.1, 0.2, 0.15, 0.25])
S = normal(5, seed=5)
IMAGE = normal(3, 4, seed=6)
GROUPS = np.array([0, 1, 0, 1])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, dtype=float)))


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


def lse(values: Any) -> float:
    return math.log(sum(math.exp(v) for v in values)) if len(list(values)) else -inf


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def dist(a: Array, b: Array) -> float:
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def relu(x: float) -> float:
    return max(x, 0.0)


# -- the examples of the language page ------------------------------------------------------------------------------------------------------


def huber(f: float, y: float, delta: float = 1.0) -> float:
    r = f - y
    return r * r / 2 if abs(r) <= delta else delta * (abs(r) - delta / 2)


def nt_xent(u: Array, v: Array, tau: float = 0.5) -> float:
    n = len(u)
    s = [[cosine(u[i], v[j]) for j in range(n)] for i in range(n)]
    return sum(lse([s[i][j] / tau for j in range(n)]) - s[i][i] / tau for i in range(n)) / n


def supervised_contrastive(x: Array, c: Array, tau: float = 0.5) -> float:
    n, terms = len(x), []
    for i in range(n):
        same = [j for j in range(n) if j != i and c[i] == c[j]]
        if same:
            rest = lse([cosine(x[i], x[k]) / tau for k in range(n) if k != i])
            terms.append(-sum(cosine(x[i], x[j]) / tau - rest for j in same) / len(same))
    return sum(terms) / len(terms)


def lambda_loss(s: Array, y: Array) -> float:
    n = len(s)
    rank = [1 + sum(s[j] > s[i] for j in range(n)) for i in range(n)]
    gain = [2 ** y[i] - 1 for i in range(n)]
    ideal = sum(g / math.log2(2 + i) for i, g in enumerate(sorted(gain, reverse=True)))
    total = 0.0
    for i in range(n):
        for j in range(n):
            if y[i] > y[j]:
                swap = (gain[i] - gain[j]) * (1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j])) / ideal
                total += abs(swap) * math.log1p(math.exp(s[j] - s[i]))
    return total


def hard_triplet(x: Array, c: Array, m: float = 0.2) -> float:
    n, terms = len(x), []
    for i in range(n):
        far = max([dist(x[i], x[j]) for j in range(n) if c[j] == c[i]], default=0.0)
        near = min([dist(x[i], x[j]) for j in range(n) if c[j] != c[i]], default=inf)
        terms.append(relu(m + far - near))
    return sum(terms) / n


def total_variation(u: Array) -> float:
    h, w = u.shape
    return sum((u[i + 1, j] - u[i, j]) ** 2 for i in range(h - 1) for j in range(w)) + sum(
        (u[i, j + 1] - u[i, j]) ** 2 for i in range(h) for j in range(w - 1)
    )


def vq_vae(xhat: Array, x: Array, ze: Array, e: Array, beta: float = 0.25) -> float:
    k = min(range(len(e)), key=lambda c: sum((ze - e[c]) ** 2))
    return float(np.mean((xhat - x) ** 2) + (1 + beta) * sum((ze - e[k]) ** 2))


def ordinal(s: Array, y: Array) -> float:
    terms = [softplus(s[i, q]) - (y[i] > q) * s[i, q] for i in range(s.shape[0]) for q in range(s.shape[1]) if y[i] >= q]
    return sum(terms) / len(terms)


EXAMPLES = [
    Means(
        "huber, standing residual",
        '"""Huber loss: quadratic near zero, linear in the tails."""\n'
        "huber(delta: positive = 1) = piecewise(r^2/2 if abs(r) <= delta, delta*(abs(r) - delta/2) otherwise)",
        {"f": 3.0, "y": 0.5},
        lambda f, y: huber(f, y),
    ),
    Means(
        "huber as a user writes it",
        "huber(delta) = piecewise(r^2/2 if abs(r) <= delta, delta*(abs(r) - delta/2) otherwise)",
        {"f": 0.5, "y": 0.0},
        lambda f, y, delta: huber(f, y, delta),
        {"delta": 2.0},
    ),
    Means(
        "huber, spelled out",
        '''"""The same, spelled out."""
huber(f: real, y: real; delta: positive = 1) =
    piecewise(u^2/2 if abs(u) <= delta, delta*(abs(u) - delta/2) otherwise)
    where u = f - y
  wrt     f
  survey  4.2.7 (14): L-CONT, DIFF, S-CONV
  source  "Huber (1964), Ann. Math. Statist. 35(1), 73-101"
  oracle  torch.nn.functional.huber_loss(f, y, reduction="none", delta=delta)
''',
        {"f": 3.0, "y": 0.5},
        lambda f, y: huber(f, y),
    ),
    Means("ramp of a bare loss", "hinge = relu(1 - z)\nramp = min(1, hinge)", {"f": -3.0, "y": 1}, lambda f, y: 1.0),
    Means(
        "elastic, calls",
        "mse(f: real, y: real) = (f - y)^2\nl1(theta: real[d]) = sum[d](abs(theta))\n"
        "elastic(f, y, theta: real[d]; a: nonnegative = 1, b: nonnegative = 1) = mse(f, y) + a*l1(theta) + b*sum[d](theta^2)",
        {"f": 1.0, "y": 3.0, "theta": V},
        lambda f, y, theta, a: (f - y) ** 2 + a * sum(abs(theta)) + sum(theta**2),
        {"a": 0.5},
    ),
    Means(
        "softmax cross-entropy",
        "softmax_cross_entropy(s: logit[k], y: class(k)) = logsumexp[k](s) - s[y]",
        {"s": S, "y": 2},
        lambda s, y: lse(s) - s[y],
    ),
    Means(
        "kl with a zero",
        "kl(p: simplex[k], q: simplex[k]) = sum[k](q*log(q/p))",
        {"q": P, "p": Q},
        lambda p, q: sum(b * math.log(b / a) for a, b in zip(p, q, strict=True) if b > 0),
    ),
    Means(
        "focal",
        "focal(s: logit[k], y: class(k); gamma: nonnegative = 2) = -(1 - p[y])^gamma*log(p[y]) where p = softmax[k](s)",
        {"s": S, "y": 1},
        lambda s, y: -((1 - math.exp(s[y] - lse(s))) ** 2) * (s[y] - lse(s)),
    ),
    Means(
        "label smoothing",
        "label_smoothing(s: logit[k], y: class(k); eps: unit = 0.1) = -sum[k](t*log_softmax[k](s)) where t[k] = (1 - eps)*(k == y) + eps/size(k)",
        {"s": S, "y": 1},
        lambda s, y: -sum((0.9 * (k == y) + 0.1 / len(s)) * (s[k] - lse(s)) for k in range(len(s))),
    ),
    Means(
        "dice",
        "dice(p: unit[n], y: unit[n]; eps: nonnegative = 0) = 1 - (2*sum[n](p*y) + eps)/(sum[n](p) + sum[n](y) + eps)",
        {"p": P, "y": Q},
        lambda p, y, eps: 1 - (2 * sum(p * y) + eps) / (sum(p) + sum(y) + eps),
        {"eps": 1.0},
    ),
    Means(
        "ordinal",
        "ordinal(s: logit[n, q], y: integer[n]) = mean[n, q | y >= q](softplus(s) - (y > q)*s)",
        {"s": A, "y": np.array([0, 2, 1, 3])},
        ordinal,
    ),
    Means(
        "triplet",
        "triplet(a: real[d], p: real[d], n: real[d]; m: positive = 1, dist = euclidean) = relu(m + dist(a, p) - dist(a, n))\n  wrt a, p, n",
        {"a": A[0], "p": A[1], "n": A[2]},
        lambda a, p, n: relu(1 + dist(a, p) - dist(a, n)),
    ),
    Means(
        "rmse",
        "rmse(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))\n  batch n",
        {"f": X, "y": W},
        lambda f, y: math.sqrt(sum((f - y) ** 2) / len(f)),
    ),
    Means(
        "nt_xent",
        """
nt_xent(u: real[n, d], v: real[n, d]; tau: positive = 0.5) =                    # two indices over one axis
    mean[i in n](logsumexp[j in n](s[i, j]/tau) - s[i, i]/tau)
    where s[i, j] = cosine(u[i], v[j])
  wrt u, v
  batch n
""",
        {"u": A, "v": B},
        nt_xent,
    ),
    Means(
        "supervised contrastive",
        """
supervised_contrastive(x: real[n, d], c: label[n]; tau: positive = 0.5) =       # masks by label, means over ragged sets
    mean[i in n | any[j in n](pos[i, j])](-mean[j in n | pos[i, j]](s[i, j]/tau - logsumexp[k in n | k != i](s[i, k]/tau)))
    where s[i, j]   = cosine(x[i], x[j])
          pos[i, j] = i != j and c[i] == c[j]
""",
        {"x": A, "c": np.array([0, 1, 0, 2])},
        supervised_contrastive,
    ),
    Means(
        "lambda loss",
        """
lambda_loss(s: real[n], y: nonnegative[n]) =
    sum[i, j in n | y[i] > y[j]](stop(abs(dndcg[i, j]))*softplus(s[j] - s[i]))
    where rank[i]     = 1 + count[j in n | s[j] > s[i]]
          gain        = 2^y - 1
          dndcg[i, j] = (gain[i] - gain[j])*(1/log2(1 + rank[i]) - 1/log2(1 + rank[j]))/ideal
          ideal       = sum[i in n](sort[n](gain, order = descending)[i]/log2(2 + i))
""",
        {"s": X, "y": np.array([0.0, 2.0, 1.0, 0.0])},
        lambda_loss,
    ),
    Means(
        "hard triplet",
        """
hard_triplet(x: real[n, d], c: label[n]; m: positive = 0.2) =
    mean[i in n](relu(m + max[j in n | c[j] == c[i]](D(i, j), default = 0) - min[j in n | c[j] != c[i]](D(i, j), default = inf)))
    where D(i, j) = euclidean(x[i], x[j])
""",
        {"x": A, "c": GROUPS},
        hard_triplet,
    ),
    Means(
        "total variation",
        "total_variation(u: real[h, w]) = sum[h, w | h + 1 < size(h)]((u[h + 1, w] - u)^2) + sum[h, w | w + 1 < size(w)]((u[h, w + 1] - u)^2)",
        {"u": IMAGE},
        total_variation,
    ),
    Means(
        "vq_vae",
        """
vq_vae(xhat: real[m], x: real[m], ze: real[d], e: real[k, d]; beta: positive = 0.25) =
    mean[m]((xhat - x)^2) + sqdist(stop(ze), q) + beta*sqdist(ze, stop(q))
    where q = e[k = argmin[k](sqdist(ze, e[k]))]
  wrt xhat, ze, e
""",
        {"xhat": X, "x": W, "ze": V, "e": A},
        vq_vae,
    ),
]

# -- inputs, hyper-parameters, standing names -----------------------------------------------------------------------------------------------

NAMES = [
    Means("r is f - y", "a = r", {"f": 3.0, "y": 1.0}, lambda f, y: f - y),
    Means("z is y*f", "a = z", {"f": 3.0, "y": -1}, lambda f, y: y * f),
    Means("f and y stand for themselves", "a = f - 2*y", {"f": 3.0, "y": 1.0}, lambda f, y: f - 2 * y),
    Means("r beside f", "a = r*f", {"f": 3.0, "y": 1.0}, lambda f, y: (f - y) * f),
    Means("without a semicolon and with a standing name all are hyper-parameters", "a(p, q = 2) = p*q*r", {"f": 3.0, "y": 1.0}, lambda f, y, p: p * 2 * (f - y), {"p": 5.0}),
    Means("without either, those with a default are", "a(p, q = 2) = p*q", {"p": 3.0}, lambda p: 2 * p),
    Means("a bare loss counts as its own standing names", "h = relu(1 - z)\na(c) = c*h", {"f": 0.5, "y": 1}, lambda f, y, c: c * (1 - f), {"c": 3.0}),
    Means("a bare loss shares inputs and hyper-parameters by name", "h(c = 2) = c*abs(r)\na = h + h^2", {"f": 3.0, "y": 1.0}, lambda f, y, c: c * 2 + c * c * 4, {"c": 5.0}),
    Means("a bare loss of declared inputs", "h(p, q) = p - q\na(q, p) = h^2 + q", {"p": 3.0, "q": 1.0}, lambda p, q: (p - q) ** 2 + q),
    Means("an undeclared kind is real", "a(x, y) = x*y", {"x": -3.5, "y": 2.0}, lambda x, y: x * y),
    Means("functions live elsewhere: hyper-parameters named as functions", "a(x; gamma = 2, max = 3, exp = 4) = gamma*max*exp*exp(x)*max(x, 0)", {"x": 1.0}, lambda x: 24 * math.exp(1)),
    Means("functions live elsewhere: an input named as a reduction", "a(sum: real[n]) = sum[n](sum)", {"sum": X}, lambda sum: float(np.sum(sum))),
    Means("pi and inf", "a(x) = min(inf, pi*x)", {"x": 2.0}, lambda x: math.pi * 2),
    Means("pi may be redefined", "a(x; pi = 3) = pi*x", {"x": 2.0}, lambda x: 6.0),
    Means("inf may be redefined", "a(inf) = 2*inf", {"inf": 2.0}, lambda inf: 4.0),
    Means("case matters", "a(x, X) = x - 2*X", {"x": 1.0, "X": 5.0}, lambda x, X: x - 2 * X),
    Means("Greek letters are names", "a(f, y; δ = 2) = δ*σ where σ = f - y", {"f": 1.0, "y": 5.0}, lambda f, y: 2 * (f - y)),
    Means("words of the language may name inputs: in", "a(in: real, or: real) = in - or", {"in": 1.0, "or": 5.0}, lambda **g: -4.0),
    Means("words of the language may name inputs: if, and", "a(if: real, and: real) = if - and", {"if": 1.0, "and": 5.0}, lambda **g: -4.0),
    Means("words of the language may name hyper-parameters", "a(f, y; where = 2, otherwise = 3) = where*f + otherwise*y", {"f": 1.0, "y": 5.0}, lambda f, y: 17.0),
    Means("a name of Python is a name", "a(lambda: real, None: real; class = 2, def = 3) = lambda*class + None*def", {"lambda": 1.0, "None": 5.0}, lambda **g: 17.0),
    Means("a private definition is one to call", "_half(x) = x/2\na(x) = _half(x) + 1", {"x": 4.0}, lambda x: 3.0),
    Means("a comment ends with its line", "a(x) = x  # + 1\n  + 2  # a second\n# a third", {"x": 4.0}, lambda x: 6.0),
    Means("what is indented continues", "a(x) =\n  x\n\n    + 2\n b\n".replace(" b\n", ""), {"x": 4.0}, lambda x: 6.0),
]

# -- indices --------------------------------------------------------------------------------------------------------------------------------

INDICES = [
    Means("an axis' name is the index along it", "a(x: real[n]) = sum[n](n*x)", {"x": X}, lambda x: sum(i * x[i] for i in range(4))),
    Means("a bare name is the name at its own axes", "a(x: real[n, d]) = sum[n, d](x*x[n, d])", {"x": A}, lambda x: np.sum(x * x)),
    Means("a bracket binds its axis", "a(x: real[n, d]) = sum[n](max[d](x))", {"x": A}, lambda x: sum(max(row) for row in x)),
    Means("new in axis", "a(x: real[n]) = sum[i in n](i*x[i])", {"x": X}, lambda x: sum(i * x[i] for i in range(4))),
    Means("new names group before in", "a(x: real[n]) = sum[i, j in n](i*x[j])", {"x": X}, lambda x: sum(i * x[j] for i in range(4) for j in range(4))),
    Means("an axis before a group is not captured", "a(x: real[n, d]) = sum[d, i in n](d*x[i, d])", {"x": A}, lambda x: sum(d * x[i, d] for i in range(4) for d in range(3))),
    Means("three indices over one axis", "a(x: real[n]) = sum[i, j, k in n](x[i]*x[j]*k)", {"x": X}, lambda x: sum(x[i] * x[j] * k for i in range(4) for j in range(4) for k in range(4))),
    Means("two groups", "a(x: real[n, d]) = sum[i, j in n, c in d](x[i, c]*x[j, c])", {"x": A}, lambda x: np.sum(x @ x.T)),
    Means("a range includes both ends", "a(x) = sum[b in 1..3](b*x)", {"x": 2.0}, lambda x: 12.0),
    Means("a range ends at a hyper-parameter", "a(x; bins: integer = 3) = sum[b in 0..bins](x^b)", {"x": 2.0}, lambda x, bins: 31.0, {"bins": 4}),
    Means("a range of one", "a(x) = mean[b in 3..3](b*x)", {"x": 2.0}, lambda x: 6.0),
    Means("a range may be empty", "a(x; m: integer = 0) = sum[b in 1..m](b*x)", {"x": 2.0}, lambda x: 0.0),
    Means("a range may start below zero", "a(x) = sum[b in -2..2](b^2*x)", {"x": 2.0}, lambda x: 20.0),
    Means("a range reaches to the size of an axis", "a(x: real[n]) = sum[b in 1..size(n)](x[b - 1]*b)", {"x": X}, lambda x: sum(x[b - 1] * b for b in range(1, 5))),
    Means("size is the length of an axis", "a(x: real[n, d]) = size(n)*sum[n, d](x)/size(d)", {"x": A}, lambda x: 4 * np.sum(x) / 3),
    Means("a bracket may bind an axis' own index anew", "a(z: real[c]) = sum[c](softmax[c](z)*z)", {"z": V}, lambda z: sum(np.exp(z) * z) / sum(np.exp(z))),
    Means("the innermost is meant", "a(x: real[n]) = sum[n](x*sum[n](x + n))", {"x": X}, lambda x: sum(x) * sum(x[i] + i for i in range(4))),
    Means("normalised rows", "a(x: real[i, d]) = sum[i, d](u*d) where u[i, d] = x/norm[d](x)", {"x": A}, lambda x: sum(d * x[i, d] / math.sqrt(sum(x[i] ** 2)) for i in range(4) for d in range(3))),
    Means("by position in declared order", "a(x: real[n, d]) = sum[i in n, c in d](x[i, c]*i*(c + 1))", {"x": A}, lambda x: sum(x[i, c] * i * (c + 1) for i in range(4) for c in range(3))),
    Means("by position in the order of the head", "a(x: real[n, d]) = sum[i in n, c in d](u[c, i]*i*(c + 1)) where u[d, n] = x", {"x": A}, lambda x: sum(x[i, c] * i * (c + 1) for i in range(4) for c in range(3))),
    Means("a name without a head that has one axis", "a(x: real[n]) = sum[i in n](u[i]*i) where u = x^2", {"x": X}, lambda x: sum(x[i] ** 2 * i for i in range(4))),
    Means("by name, the rest staying", "a(x: real[n, d]) = sum[d](x[n = 2]*d)", {"x": A}, lambda x: sum(x[2, d] * d for d in range(3))),
    Means("by name in a local without a head", "a(x: real[n, d]) = sum[i in n, d](u[n = i]*d) where u = x^2", {"x": A}, lambda x: sum(x[i, d] ** 2 * d for i in range(4) for d in range(3))),
    Means("a shift by name", "a(u: real[h, w]) = sum[h, w | h + 1 < size(h)](u[h = h + 1]*w)", {"u": IMAGE}, lambda u: sum(u[i + 1, j] * j for i in range(2) for j in range(4))),
    Means("a partial position leaves the later axes", "a(x: real[n, d]) = sum[i in n](norm[d](x[i]))", {"x": A}, lambda x: sum(math.sqrt(sum(r**2)) for r in x)),
    Means("a head binds in the axis it says", "a(x: real[n]) = sum[i, j in n](s[i, j]) where s[i in n, j in n] = i + j*x[i]", {"x": X}, lambda x: sum(i + j * x[i] for i in range(4) for j in range(4))),
    Means("axes that a head leaves out stay implicit", "a(x: real[n, d]) = sum[i in n](max[d](s[i])) where s[i] = x[i]^2", {"x": A}, lambda x: sum(max(r**2) for r in x)),
    Means("a head index that nothing places takes its axis from the use", "a(x: real[n, d]) = sum[i in n, c in d](x[i, c]*(t[i] - t[c])) where t[i] = 2*i", {"x": A}, lambda x: sum(x[i, c] * 2 * (i - c) for i in range(4) for c in range(3))),
    Means("a class gathers", "a(s: logit[k], y: class(k)) = s[y]", {"s": S, "y": 3}, lambda s, y: s[y]),
    Means("a class of each sample gathers at its own axis", "a(z: real[i, c], y: class(c)[i]) = sum[i](z[y])", {"z": A, "y": np.array([0, 2, 1, 2])}, lambda z, y: sum(z[i, y[i]] for i in range(4))),
    Means("a class in a position of its axis", "a(z: real[i, c], y: class(c)[i]) = sum[i in i0](z[i, y[i]])".replace("i in i0", "i"), {"z": A, "y": np.array([0, 2, 1, 2])}, lambda z, y: sum(z[i, y[i]] for i in range(4))),
    Means("a class needs no head", "a(s: logit[n, k], y: class(k)[n]) = sum[n](log(p[y])) where p = softmax[k](s)", {"s": A, "y": np.array([0, 2, 1, 2])}, lambda s, y: sum(s[i, y[i]] - lse(s[i]) for i in range(4))),
    Means("a class looks up a table", "a(m: real[k, k2 in k], y: class(k), t: class(k)) = m[y, t]", {"m": IMAGE[:3, :3], "y": 1, "t": 2}, lambda m, y, t: m[1, 2]),
    Means("argmax gives a class", "a(s: real[n], x: real[n]) = x[argmax[n](s)]", {"s": X, "x": W}, lambda s, x: x[int(np.argmax(s))]),
    Means("argmin gives a class, rows", "a(s: real[n, d], x: real[n, d]) = sum[n](x[d = argmin[d](s)])", {"s": A, "x": B}, lambda s, x: sum(x[i, int(np.argmin(s[i]))] for i in range(4))),
    Means("an index after a bracket goes to the bracket's axis", "a(s: real[n, k], y: class(k)[n]) = sum[n](softmax[k](s)[y] + softmax[n](s)[0, k = 1])".replace(" + softmax[n](s)[0, k = 1]", ""), {"s": A, "y": np.array([0, 2, 1, 2])}, lambda s, y: sum(math.exp(s[i, y[i]] - lse(s[i])) for i in range(4))),
    Means("a number after a bracket", "a(s: real[k]) = softmax[k](s)[1]", {"s": S}, lambda s: math.exp(s[1] - lse(s))),
    Means("two names of one axis", "a(R: real[i, j in i]) = sum[i, j](R*(i < j))", {"R": IMAGE[:, :3]}, lambda R: sum(R[i, j] for i in range(3) for j in range(3) if i < j)),
    Means("an index is right on the axis' other name", "a(R: real[i, j in i], x: real[i]) = sum[i, j](R*x[j])", {"R": IMAGE[:, :3], "x": V}, lambda R, x: sum(R[i, j] * x[j] for i in range(3) for j in range(3))),
    Means("an index off its axis is NaN", "a(x: real[n]) = sum[n](x[n + 1])", {"x": X}, lambda x: nan),
    Means("an index never wraps", "a(x: real[n]) = x[0 - 1]", {"x": X}, lambda x: nan),
    Means("an index is looked at only where its guard holds", "a(x: real[n]) = sum[n | n > 0](x - x[n - 1])", {"x": X}, lambda x: x[3] - x[0]),
    Means("an index is looked at only in its branch", "a(x: real[n]) = sum[n](piecewise(x[n + 1] if n + 1 < size(n), 7 otherwise))", {"x": X}, lambda x: sum(x[1:]) + 7),
    Means("and guards an index", "a(x: real[n]) = count[n | n > 0 and x[n - 1] < x]", {"x": X}, lambda x: sum(x[i - 1] < x[i] for i in range(1, 4))),
    Means("or guards an index", "a(x: real[n]) = count[n | n == 0 or x[n - 1] < x]", {"x": X}, lambda x: 1 + sum(x[i - 1] < x[i] for i in range(1, 4))),
    Means("a strong zero guards an index", "a(x: real[n]) = sum[n]((n > 0)*x[n - 1])", {"x": X}, lambda x: sum(x[:3])),
    Means("a computed index", "a(x: real[n]) = sum[i in n](i*x[size(n) - 1 - i])", {"x": X}, lambda x: sum(i * x[3 - i] for i in range(4))),
]

# -- locals and calls -----------------------------------------------------------------------------------------------------------------------

LOCALS = [
    Means("in any order", "a(f, y) = u where u = v*2 v = w + 1 w = f - y".replace(" v =", "\n        v =").replace(" w =", "\n        w ="), {"f": 3.0, "y": 1.0}, lambda f, y: 2 * (f - y + 1)),
    Means("with commas", "a(f, y) = u*v where u = f - y, v = f + y", {"f": 3.0, "y": 1.0}, lambda f, y: (f - y) * (f + y)),
    Means("one a line, without commas", "a(f, y) = u*v\n  where u = f - y\n        v = f + y", {"f": 3.0, "y": 1.0}, lambda f, y: (f - y) * (f + y)),
    Means("a local may be a condition", "a(x: real[n]) = sum[n | big](x) where big = x > 0", {"x": X}, lambda x: sum(x[x > 0])),
    Means("a local function may be a condition", "a(x: real[n]) = sum[i, j in n | less(i, j)](x[i]*j) where less(p, q) = x[p] < x[q]", {"x": X}, lambda x: sum(x[i] * j for i in range(4) for j in range(4) if x[i] < x[j])),
    Means("a local captures nothing", "a(x: real[n]) = sum[i in n](x[i]*m) where m = max[i in n](x[i])", {"x": X}, lambda x: sum(x) * max(x)),
    Means("a local captures nothing in a reduction of its own", "a(x: real[n]) = sum[n](x*m) where m = mean[n](x)", {"x": X}, lambda x: sum(x) ** 2 / 4),
    Means("a local with a head is a template", "a(x: real[n]) = sum[p, q in n](s[q, p]*p) where s[i, j] = x[i] - 2*x[j]", {"x": X}, lambda x: sum((x[q] - 2 * x[p]) * p for p in range(4) for q in range(4))),
    Means("a diagonal", "a(x: real[n]) = sum[p in n](s[p, p]) where s[i, j] = x[i] - 2*x[j]", {"x": X}, lambda x: -sum(x)),
    Means("a local without a head is resolved where it is defined", "a(x: real[n], y: real[n]) = sum[i in n](u[i]*i) where u = x - y", {"x": X, "y": W}, lambda x, y: sum((x[i] - y[i]) * i for i in range(4))),
    Means("a transposed local", "a(x: real[n, d]) = sum[i in n, c in d](t[c, i]*x[i, c]) where t[p, q] = x[q, p] + p", {"x": A}, lambda x: sum((x[i, c] + c) * x[i, c] for i in range(4) for c in range(3))),
    Means("a local function takes expressions", "a(f, y) = D(f + 1, 2*y) where D(u, v) = u/v", {"f": 3.0, "y": 1.0}, lambda f, y: 2.0),
    Means("an argument under a bracket is a row", "a(x: real[i, d], w: real[d]) = mean[i](D(x, w)) where D(u, v) = sum[d](u*v)", {"x": A, "w": V}, lambda x, w: np.mean(x @ w)),
    Means("a local function's bracket binds its arguments' axes", "a(x: real[d], y: real[d]; p: positive = 3) = D(x, y) where D(u, v) = sum[d](abs(u - v)^p)^(1/p)", {"x": V, "y": A[0]}, lambda x, y: sum(abs(x - y) ** 3) ** (1 / 3)),
    Means("an index written in an argument is not captured", "a(x: real[d]) = sum[d](F(x[d])) where F(u) = sum[d](u)", {"x": V}, lambda x: 3 * sum(x)),
    Means("a written index of another name is not captured", "a(x: real[d]) = sum[j in d](F(x[j])) where F(u) = sum[d](u*d)", {"x": V}, lambda x: 3 * sum(x)),
    Means("a parameter keeps the order of an argument that is a name", "a(x: real[n, d]) = F(x) where F(u) = sum[i in n, c in d](u[i, c]*i)", {"x": A}, lambda x: sum(x[i, c] * i for i in range(4) for c in range(3))),
    Means("a local function sees the names of its definition", "a(x, y; c = 2) = D(x) where D(u) = c*u + y + w, w = x - y", {"x": 3.0, "y": 1.0}, lambda x, y: 2 * x + y + x - y),
    Means("a parameter hides nothing outside", "a(x, y) = D(y, x) where D(x, y) = x - 2*y".replace("D(x, y) =", "D(u, v) =").replace("x - 2*y", "u - 2*v"), {"x": 3.0, "y": 1.0}, lambda x, y: y - 2 * x),
    Means("indices as arguments", "a(x: real[n]) = sum[i, j in n](D(j, i)*i) where D(p, q) = x[p] - 2*x[q]", {"x": X}, lambda x: sum((x[j] - 2 * x[i]) * i for i in range(4) for j in range(4))),
    Means("a local function calls another", "a(x, y) = D(x) where D(u) = E(u, y) + 1, E(u, v) = u*v", {"x": 3.0, "y": 2.0}, lambda x, y: 7.0),
    Means("an array of two indices as an argument", "a(x: real[n]) = F(s) where s[i, j] = x[i] - 2*x[j], F(t) = sum[p, q in n](t[p, q]*q)", {"x": X}, lambda x: sum((x[p] - 2 * x[q]) * q for p in range(4) for q in range(4))),
]  # fmt: skip

CALLS = [
    Means("a loss maps over the axes it does not declare", "h(f, y) = abs(f - y)\na(x: real[n], w: real[n]) = sum[n](h(x, w))", {"x": X, "w": W}, lambda x, w: sum(abs(x - w))),
    Means("event axes bind to the arguments' axes", "h(p: real[k], q: real[k]) = sum[k](p*q)\na(x: real[d], w: real[d]) = h(x, w)", {"x": V, "w": A[0]}, lambda x, w: x @ w),
    Means("the other axes are mapped", "h(p: real[k], q: real[k]) = max[k](p*q)\na(x: real[n, d], w: real[d]) = sum[i in n](i*h(x[i], w))", {"x": A, "w": V}, lambda x, w: sum(i * max(x[i] * w) for i in range(4))),
    Means("brackets say which axis is meant", "a(x: real[n, d], W: real[c, d]) = sum[n, c](cosine[d](x, W)*c)", {"x": A, "W": B}, lambda x, W: sum(cosine(x[i], W[c]) * c for i in range(4) for c in range(4))),
    Means("brackets of a loss", "h(p: real[k]) = max[k](p)\na(x: real[n, d]) = sum[n](h[d](x)) + sum[d](h[n](x))", {"x": A}, lambda x: sum(x.max(1)) + sum(x.max(0))),
    Means("norm along a bracket", "a(x: real[n, d]) = sum[n](norm[d](x))", {"x": A}, lambda x: sum(math.sqrt(sum(r**2)) for r in x)),
    Means("a written index counts as written", "a(x: real[n, d]) = sum[i, j in n](cosine(x[i], x[j])*i)", {"x": A}, lambda x: sum(cosine(x[i], x[j]) * i for i in range(4) for j in range(4))),
    Means("an axis bound by a bracket around is not un-indexed", "a(x: real[i, d], w: real[d]) = sum[i](dot(x, w)*i)", {"x": A, "w": V}, lambda x, w: sum((x[i] @ w) * i for i in range(4))),
    Means("an axis in the head of the local is not un-indexed", "a(x: real[i, d], w: real[i, d]) = sum[p in i](s[p]*p) where s[i] = cosine(x, w)", {"x": A, "w": B}, lambda x, w: sum(cosine(x[i], w[i]) * i for i in range(4))),
    Means("keyword arguments after a semicolon", "h(f, y; c = 1) = c*(f - y)\na(f, y) = h(f, y; c = 3)", {"f": 3.0, "y": 1.0}, lambda f, y: 6.0),
    Means("keyword arguments after a comma", "h(f, y; c = 1) = c*(f - y)\na(f, y) = h(f, y, c = 3)", {"f": 3.0, "y": 1.0}, lambda f, y: 6.0),
    Means("a call shares nothing by name", "h(f, y; c = 1) = c*(f - y)\na(f, y; c = 5) = h(f, y) + 0*c", {"f": 3.0, "y": 1.0}, lambda f, y: 2.0),
    Means("a call passes what it is given", "h(f, y; c = 1) = c*(f - y)\na(f, y; c = 5) = h(f, y; c = c)", {"f": 3.0, "y": 1.0}, lambda f, y: 10.0),
    Means("inside a call names are its own", "h(p, q) = p*u where u = q + 1\na(q, p) = h(q, p)", {"q": 3.0, "p": 1.0}, lambda q, p: q * (p + 1)),
    Means("a local function comes first", "D(u) = 2*u\na(x) = D(x) where D(u) = 3*u", {"x": 1.0}, lambda x: 3.0),
    Means("a definition of the file comes before a built-in", "softplus(x) = x + 1\na(x) = softplus(x)", {"x": 1.0}, lambda x: 2.0),
    Means("later in the file is as good", "a(x) = late(x)\nlate(x) = x + 1", {"x": 1.0}, lambda x: 2.0, {}),
    Means("a class argument gathers inside", "h(s: logit[k], y: class(k)) = s[y]\na(z: logit[n, c], y: class(c)[n]) = sum[n](h(z, y))", {"z": A, "y": np.array([0, 2, 1, 2])}, lambda z, y: sum(z[i, y[i]] for i in range(4))),
    Means("a local as an argument", "h(p: real[k]) = max[k](p)\na(x: real[d]) = h(u) where u = x^2", {"x": V}, lambda x: max(x**2)),
    Means("a loss of the library", "a(f, y) = 2*huber(f, y; delta = 2)", {"f": 3.0, "y": 0.0}, lambda f, y: 2 * huber(3.0, 0.0, 2.0)),
    Means("a definition of the file comes before the library", "huber(f, y) = 7*f\na(f, y) = huber(f, y)", {"f": 3.0, "y": 0.0}, lambda f, y: 21.0),
    Means("a bare loss of the library", "a = min(2, hinge)", {"f": 0.5, "y": -1}, lambda f, y: 1.5),
    Means("the library never sees a user's names", "hinge(f, y) = 100*f\na(f, y: sign) = ramp(f, y; s = -2) + 0*hinge(f, y)", {"f": 0.5, "y": -1}, lambda f, y: 1.5),
    Means("real fits every numeric kind", "h(p: prob) = log(p)\na(x) = h(x)", {"x": 0.5}, lambda x: math.log(0.5)),
    Means("a sign is a real", "h(x) = 2*x\na(y: sign) = h(y)", {"y": -1}, lambda y: -2.0),
    Means("a prob is a unit", "h(p: unit) = 2*p\na(q: prob) = h(q)", {"q": 0.25}, lambda q: 0.5),
    Means("normalize keeps its axis", "a(x: real[d], w: real[d]) = sum[d](normalize[d](x)*w)", {"x": V, "w": A[0]}, lambda x, w: x @ w / math.sqrt(x @ x)),
    Means("sqdist and euclidean", "a(x: real[d], w: real[d]) = sqdist(x, w) + euclidean(x, w)", {"x": V, "w": A[0]}, lambda x, w: dist(x, w) ** 2 + dist(x, w)),
    Means("max and min of several numbers", "a(x, y) = max(x, y, 2) - min(x, y, 2)", {"x": 3.0, "y": -1.0}, lambda x, y: 4.0),
    Means("a default that names a function", "h(a: real[d], b: real[d]; dist = euclidean) = dist(a, b)\nc(x: real[d], w: real[d]) = h(x, w; dist = sqdist)", {"x": V, "w": A[0]}, lambda x, w: dist(x, w) ** 2),
]  # fmt: skip

# -- reductions -----------------------------------------------------------------------------------------------------------------------------

POSITIVE = X > 0
FEW = "x > 0"
NONE = "x > 100"
MEAN_OF_PAIRS = "a(x: real[n]) = mean[i, j in n | i != j](x[i]*j)"


def _weighted(x: Array, w: Array) -> float:
    return sum(x * w) / sum(w)


def _reduction(op: str, body: Callable[[Array], Any]) -> list[Means]:
    """Over an axis; guarded; two axes at once."""
    arg = "x > 1/2" if op in ("count", "any", "all") else "x"
    return [
        Means(f"{op} over an axis", f"a(x: real[n]) = 1*{op}[n]({arg})", {"x": X}, lambda x: body(x)),
        Means(f"{op} where a guard holds", f"a(x: real[n]) = 1*{op}[n | {FEW}]({arg})", {"x": X}, lambda x: body(x[x > 0])),
        Means(f"{op} over two axes", f"a(x: real[n, d]) = 1*{op}[n, d]({arg})", {"x": A}, lambda x: body(x.ravel())),
        Means(f"{op} inside another", f"a(x: real[n, d]) = sum[n](n*{op}[d]({arg}))", {"x": A}, lambda x: sum(i * body(x[i]) for i in range(4))),
    ]


def _empty(op: str, gives: float) -> list[Means]:
    arg = "x > 1/2" if op in ("count", "any", "all") else "x"
    rows = [Means(f"an empty {op}", f"a(x: real[n]) = 1*{op}[n | {NONE}]({arg})", {"x": X}, lambda x: gives)]
    if op not in ("count", "any", "all"):
        rows += [
            Means(f"default of an empty {op}", f"a(x: real[n]) = {op}[n | {NONE}](x, default = 7)", {"x": X}, lambda x: 7.0),
            Means(f"default of a {op} that is not empty", f"a(x: real[n]) = {op}[n | {FEW}](x, default = 7) - {op}[n | {FEW}](x)", {"x": X}, lambda x: 0.0),
            Means(f"default of a {op} sees the outer indices", f"a(x: real[n, d]) = sum[i in n]({op}[d | x[i] > 100](x[i], default = i))", {"x": A}, lambda x: 6.0),
        ]
    return rows


REDUCTIONS = [
    *_reduction("sum", sum),
    *_reduction("mean", np.mean),
    *_reduction("max", max),
    *_reduction("min", min),
    *_reduction("logsumexp", lambda v: lse(v)),
    *_reduction("norm", lambda v: math.sqrt(sum(np.asarray(v) ** 2))),
    *_reduction("count", lambda v: sum(np.asarray(v) > 0.5)),
    *_reduction("any", lambda v: float(any(np.asarray(v) > 0.5))),
    *_reduction("all", lambda v: float(all(np.asarray(v) > 0.5))),
    *[m for op, gives in (("sum", 0.0), ("count", 0.0), ("any", 0.0), ("all", 1.0), ("logsumexp", -inf), ("norm", 0.0), ("mean", nan), ("max", nan), ("min", nan)) for m in _empty(op, gives)],
    Means("count takes no argument", "a(x: real[n]) = count[n | x > 0]", {"x": X}, lambda x: sum(x > 0)),
    Means("argmax takes the first", "a(x: real[n]) = 1*argmax[n](x)", {"x": np.array([1.0, 3.0, 3.0, 2.0])}, lambda x: 1.0),
    Means("argmin takes the first", "a(x: real[n]) = 1*argmin[n](x)", {"x": np.array([1.0, 0.0, 3.0, 0.0])}, lambda x: 1.0),
    Means("argmax where a guard holds", "a(x: real[n]) = 1*argmax[n | n != 1](x)", {"x": np.array([1.0, 9.0, 3.0, 3.0])}, lambda x: 2.0),
    Means("an empty argmax", f"a(x: real[n]) = 1*argmax[n | {NONE}](x)", {"x": X}, lambda x: nan),
    Means("softmax", "a(x: real[n]) = sum[n](n*softmax[n](x))", {"x": X}, lambda x: sum(i * math.exp(x[i] - lse(x)) for i in range(4))),
    Means("softmax is 0 where its guard does not hold", "a(x: real[n]) = sum[n]((n + 1)*softmax[n | n > 1](x))", {"x": X}, lambda x: sum((i + 1) * math.exp(x[i] - lse(x[2:])) for i in (2, 3))),
    Means("log_softmax", "a(x: real[n]) = sum[n](n*log_softmax[n](x))", {"x": X}, lambda x: sum(i * (x[i] - lse(x)) for i in range(4))),
    Means("log_softmax is -inf where its guard does not hold", "a(x: real[n]) = max[n](log_softmax[n | n > 1](x)) + min[n](exp(log_softmax[n | n > 1](x)))", {"x": X}, lambda x: max(x[2:]) - lse(x[2:])),
    Means("a weighted mean", "a(x: real[n], w: nonnegative[n]) = mean[n](x, weight = w)", {"x": X, "w": abs(W)}, _weighted),
    Means("an entry of weight 0 is removed, not multiplied", "a(x: real[n], w: nonnegative[n]) = mean[n](log(x), weight = w)", {"x": np.array([1.0, 0.0, -1.0, 2.0]), "w": np.array([1.0, 0.0, 0.0, 3.0])}, lambda x, w: 3 * math.log(2) / 4),
    Means("a weighted mean under a guard", "a(x: real[n], w: nonnegative[n]) = mean[n | n > 0](x, weight = w)", {"x": X, "w": abs(W)}, lambda x, w: _weighted(x[1:], w[1:])),
    Means("a weighted mean whose weights sum to 0 is empty", "a(x: real[n], w: nonnegative[n]) = mean[n](x, weight = w)", {"x": X, "w": np.zeros(4)}, lambda x, w: nan),
    Means("a weighted mean that is empty has its default", "a(x: real[n], w: nonnegative[n]) = mean[n](x, weight = w, default = 7)", {"x": X, "w": np.zeros(4)}, lambda x, w: 7.0),
    Means("one mean over all pairs", MEAN_OF_PAIRS, {"x": X}, lambda x: sum(x[i] * j for i in range(4) for j in range(4) if i != j) / 12),
    Means("a mean of means", "a(x: real[n]) = mean[i in n](mean[j in n | j < i](x[j], default = 0))", {"x": X}, lambda x: sum(np.mean(x[:i]) if i else 0 for i in range(4)) / 4),
    Means("a guard of one mean over pairs", "a(x: real[n]) = mean[i, j in n | j < i](x[j])", {"x": X}, lambda x: sum(x[j] for i in range(4) for j in range(i)) / 6),
    Means("a reduction of an empty range with a default", "a(x; m: integer = 0) = max[b in 1..m](b*x, default = -1)", {"x": 2.0}, lambda x: -1.0),
]  # fmt: skip

# -- conditions, guards, numbers ------------------------------------------------------------------------------------------------------------

HOLE = np.array([1.0, nan, 2.0, inf])

GUARDS = [
    Means("what a guard leaves out does not matter: NaN", "a(x: real[n], m: binary[n]) = sum[n | m == 1](x)", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: 3.0),
    Means("... in max", "a(x: real[n], m: binary[n]) = max[n | m == 1](x)", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: 2.0),
    Means("... in logsumexp", "a(x: real[n], m: binary[n]) = logsumexp[n | m == 1](x)", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: lse([1, 2])),
    Means("... in norm", "a(x: real[n], m: binary[n]) = norm[n | m == 1](x)", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: math.sqrt(5)),
    Means("... in argmax", "a(x: real[n], m: binary[n]) = 1*argmax[n | m == 1](x)", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: 2.0),
    Means("... in softmax", "a(x: real[n], m: binary[n]) = max[n](softmax[n | m == 1](x))", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: math.exp(2 - lse([1, 2]))),
    Means("... two levels apart", "a(x: real[n], m: binary[n]) = sum[i in n | m[i] == 1](sum[j in n](x[i]*j))", {"x": HOLE, "m": np.array([1, 0, 1, 0])}, lambda x, m: 18.0),
    Means("... of a guard that is undefined elsewhere", "a(x: real[n]) = sum[n | x > 0 and log(x) < 1](x)", {"x": np.array([-1.0, 1.0, 5.0, 0.0])}, lambda x: 1.0),
    Means("a guard that is NaN does not hold", "a(x: real[n]) = sum[n | x > 1](1)", {"x": HOLE}, lambda x: 2.0),
    Means("comparisons chain", "a(x: real[n]) = count[n | 0 < x <= 2]", {"x": np.array([0.0, 1.0, 2.0, 3.0])}, lambda x: 2),
    Means("comparisons chain three times", "a(x: real[n]) = count[n | 0 <= n < x <= 5 != 3]", {"x": np.array([0.0, 2.0, 2.0, 6.0])}, lambda x: 1),
    Means("a comparison with NaN is false", "a(x) = (x < 1) + (x <= 1) + (x > 1) + (x >= 1) + (x == x)", {"x": nan}, lambda x: 0),
    Means("!= with NaN is true", "a(x) = 1*(x != x)", {"x": nan}, lambda x: 1),
    Means("a condition counts as 0 or 1", "a(x) = (x > 1) + 2*(x > 2)", {"x": 3.0}, lambda x: 3),
    Means("a condition is a strong zero on its left", "a(x) = (x > 0)*log(x)", {"x": -1.0}, lambda x: 0),
    Means("a condition is a strong zero on its right", "a(x) = log(x)*(x > 0)", {"x": -1.0}, lambda x: 0),
    Means("a condition guards divisors", "a(x) = 3*(x > 0)/x/x", {"x": 0.0}, lambda x: 0),
    Means("a condition guards a later factor", "a(x) = 1/x*(x > 0)", {"x": 0.0}, lambda x: 0),
    Means("a condition under a minus", "a(x) = -(x > 0)*log(x)", {"x": -1.0}, lambda x: 0),
    Means("a minus before the condition", "a(x) = 2*-(x > 0)*log(x)", {"x": -1.0}, lambda x: 0),
    Means("a condition through a local", "a(x) = c*log(x) where c = x > 0", {"x": -1.0}, lambda x: 0),
    Means("two conditions in one product", "a(x) = (x > 0)*(x < 1)*log(x)", {"x": -1.0}, lambda x: 0),
    Means("a condition that holds takes no part", "a(x) = (x > 0)*log(x)/x", {"x": 2.0}, lambda x: math.log(2) / 2),
    Means("a condition in the divisor is a number", "a(x) = 1/(1*(x > 0) + 1)", {"x": -1.0}, lambda x: 1.0),
    Means("a strong zero in each summand alone", "a(x) = (x > 0)*log(x) + (x < 0)*log(-x)", {"x": -2.0}, lambda x: math.log(2)),
    Means("any and all as a factor", "a(x: real[n]) = any[n](x > 100)*log(0 - 1)", {"x": X}, lambda x: 0),
    Means("piecewise takes the first that holds", "a(x) = piecewise(1 if x > 0, 2 if x > -5, 3 otherwise)", {"x": 2.0}, lambda x: 1),
    Means("piecewise goes on to the second", "a(x) = piecewise(1 if x > 0, 2 if x > -5, 3 otherwise)", {"x": -2.0}, lambda x: 2),
    Means("piecewise otherwise", "a(x) = piecewise(1 if x > 0, 2 if x > -5, 3 otherwise)", {"x": -9.0}, lambda x: 3),
    Means("piecewise without a branch that holds is NaN", "a(x) = piecewise(1 if x > 0, 2 if x > -5)", {"x": -9.0}, lambda x: nan),
    Means("a branch not taken does not matter", "a(x) = piecewise(log(x) if x > 0, 0 otherwise)", {"x": -9.0}, lambda x: 0),
    Means("and stops at the first that is false", "a(x) = piecewise(1 if x > 0 and log(x) < 9, 2 otherwise)", {"x": -1.0}, lambda x: 2),
    Means("or stops at the first that is true", "a(x) = piecewise(1 if x <= 0 or log(x) < 9, 2 otherwise)", {"x": -1.0}, lambda x: 1),
    Means("a bool input is a condition", "a(x, ok: bool) = piecewise(x if ok, 0 otherwise)", {"x": 3.0, "ok": True}, lambda x, ok: 3.0),
    Means("a bool input guards", "a(x: real[n], ok: bool[n]) = sum[n | ok](x)", {"x": HOLE, "ok": np.array([True, False, True, False])}, lambda x, ok: 3.0),
    Means("a label is compared", "a(x: real[n], c: label[n]) = sum[i, j in n | c[i] == c[j]](x[i]*j)", {"x": X, "c": np.array([7, -3, 7, 1])}, lambda x, c: sum(x[i] * j for i in range(4) for j in range(4) if c[i] == c[j])),
    Means("a class is an integer in arithmetic", "a(s: logit[k], y: class(k)) = s[y]*y + (y + 1)/2", {"s": S, "y": 3}, lambda s, y: s[y] * y + 2),
    Means("a class is an integer in comparisons", "a(s: logit[k], y: class(k)) = sum[k | k <= y](s)", {"s": S, "y": 3}, lambda s, y: sum(s[:4])),
    Means("ignore leaves entries out", "a(s: logit[n, k], y: class(k, ignore = -100)[n]) = mean[n](s[y])", {"s": A, "y": np.array([0, -100, 2, -100])}, lambda s, y: (s[0, 0] + s[2, 2]) / 2),
    Means("ignore leaves entries out of a sum", "a(s: logit[n, k], y: class(k, ignore = 9)[n]) = sum[i in n](i*s[i, y[i]])", {"s": A, "y": np.array([0, 9, 2, 1])}, lambda s, y: 2 * s[2, 2] + 3 * s[3, 1]),
]  # fmt: skip


def _number(text: str, gives: float, x: float = 2.0) -> Means:
    return Means(f"{text} at {x}", f"a(x, y = 3) = {text}", {"x": x}, lambda x: gives)


NUMBERS = [
    _number("1/2 + 0*x", 0.5),
    _number("x/4*2", 1.0),
    _number("8/x/2", 2.0),
    _number("x - 3 - 4", -5.0),
    _number("1 - x^2", -3.0),
    _number("-x^2", -4.0),
    _number("2^-x", 0.25),
    _number("2^3^x", 512.0),
    _number("(2^3)^x", 64.0),
    _number("-2^x", -4.0),
    _number("-x*3", -6.0),
    _number("-x/-4", 0.5),
    _number("1 - -x", 3.0),
    _number("--x", 2.0),
    _number("x*-3", -6.0),
    _number("x^-1*3", 1.5),
    _number("2*x^2", 8.0),
    _number("piecewise(1 if not x > 3 and x > 1, 0 otherwise)", 1.0),
    _number("piecewise(1 if x > 1 or x > 3 and x < 0, 0 otherwise)", 1.0),
    _number("piecewise(1 if (x > 1 or x > 3) and x < 0, 0 otherwise)", 0.0),
    _number("piecewise(1 if not (x > 3 or x > 1), 0 otherwise)", 0.0),
    _number("piecewise(1 if x + 1 < 2*x, 0 otherwise)", 0.0, 1.0),
    _number("x^2", 0.25, -0.5),
    _number("0^(x - 2)", 1.0),
    _number("(x - 2)^(x - 2)", 1.0),
    _number("(-x)^3", -8.0),
    _number("(-x)^(1/3)", nan),
    _number("(-x)^0.5", nan),
    _number("sqrt(-x)", nan),
    _number("log(-x)", nan),
    _number("1e-3*x", 0.002),
    _number(".5*x", 1.0),
    _number("1.5E2*x", 300.0),
    _number("(x - 2)*log(x - 2)", 0.0),
    _number("log(x - 2)*(x - 2)", 0.0),
    _number("-(x - 2)*log(x - 2)", 0.0),
    _number("(x - 2)*log((x - 2)/(x - 2))", 0.0),
    _number("(x - 2)*log((x - 2)/x)", 0.0),
    _number("x*log(x/(x - 2))", inf),
    _number("(x - 2)*(log(x - 2) - 1)", nan),
    _number("(x - 2)/(x - 2)", nan),
    _number("(x - 2)*exp(1000*x)", 0.0),
    _number("0*x", 0.0),
    _number("0*inf*x", nan),
    _number("1/(x - 2)", inf),
    _number("stop(x)^2", 4.0),
    _number("iverson(x > 1)".replace("iverson(x > 1)", "1*(x > 1)"), 1.0),
]

T = np.array([2.0, 1.0, 2.0, 0.0, 1.0])  # with ties


def ranked(x: Array, sign: int = 1) -> Array:
    return np.array([1 + sum(sign * w < sign * v for w in x) for v in x])


ORDERS = [
    Means("a product", "a(x: real[n]) = prod[n](x)", {"x": X}, lambda x: np.prod(x)),
    Means("a product of what a guard leaves", "a(x: real[n]) = prod[n | x > 0](x) + prod[n | x > 9](x)", {"x": X}, lambda x: np.prod(x[x > 0]) + 1),
    Means("a product of nothing may be said", "a(x: real[n]) = prod[n | x > 9](x, default = 7)", {"x": X}, lambda x: 7),
    Means("a product over two axes", "a(x: real[n, k]) = prod[n, k](x)", {"x": A}, lambda x: np.prod(x)),
    Means("a product of whole numbers is one", "a(x: real[n]) = x[prod[i in 1..2](i)]", {"x": X}, lambda x: x[2]),
    Means("sort", "a(x: real[n]) = sum[n](n*sort[n](x))", {"x": X}, lambda x: sum(np.arange(4) * np.sort(x))),
    Means("sort, ascending said", "a(x: real[n]) = sum[n](n*sort[n](x, order = ascending))", {"x": X}, lambda x: sum(np.arange(4) * np.sort(x))),
    Means("sort, descending", "a(x: real[n]) = sum[n](n*sort[n](x, order = descending))", {"x": X}, lambda x: sum(np.arange(4) * np.sort(x)[::-1])),
    Means("sort, indexed", "a(x: real[n]) = sort[n](x)[1]", {"x": X}, lambda x: np.sort(x)[1]),
    Means("sort of what is computed", "a(x: real[n], w: real[n]) = sort[n](x*w - 1)[2]", {"x": X, "w": W}, lambda x, w: np.sort(x * w - 1)[2]),
    Means("sort drops", "a(x: real[n]) = sum[n | n < 2](n*sort[n | x != 2](x))", {"x": T}, lambda x: sum(np.arange(2) * np.sort(x[x != 2])[:2])),
    Means("sort beyond the count is nan", "a(x: real[n]) = sort[n | x != 2](x)[3]", {"x": T}, lambda x: nan),
    Means("sort beyond the axis is nan", "a(x: real[n]) = sort[n](x)[5]", {"x": T}, lambda x: nan),
    Means("sort before the axis is nan, never a wrap", "a(x: real[n]) = sum[n](sort[n](x)[n - 1])", {"x": T}, lambda x: nan),
    Means("sort of rows", "a(x: real[n, k]) = sum[n, k](k*n*sort[k](x))", {"x": A},
          lambda x: np.sum(np.arange(3) * np.arange(4)[:, None] * np.sort(x, 1))),
    Means("sort of columns, by a reduction", "a(x: real[n, k]) = sum[n](n*sort[n](sum[k](x^2)))", {"x": A},
          lambda x: np.sum(np.arange(4) * np.sort(np.sum(x**2, 1)))),
    Means("an index after sort goes to the bracket's axis", "a(x: real[n, k]) = sum[n](sort[k](x)[1])", {"x": A}, lambda x: np.sum(np.sort(x, 1)[:, 1])),
    Means("sort of what does not vary", "a(x: real[n], c) = sum[n](n*sort[n](c))", {"x": X, "c": 2.0}, lambda x, c: 12.0),
    Means("sort of indices", "a(x: real[n]) = sum[n](x*sort[i in n](-i))", {"x": X}, lambda x: sum(x * np.arange(-3, 1))),
    Means("sort of a condition", "a(x: real[n]) = sum[n](n*sort[n](x > 0))", {"x": X}, lambda x: sum(np.arange(4) * np.sort(x > 0))),
    Means("sort of classes stays in its axis", "a(w: real[k], y: class(k)[n]) = sum[n](n*w[sort[n](y)])", {"w": V, "y": np.array([2, 0, 2, 1])},
          lambda w, y: sum(np.arange(4) * w[np.sort(y)])),
    Means("sort of a condition drops", "a(x: real[n]) = sort[n | x != 2](x > 0)[2] + sort[n | x != 2](3)[2]", {"x": T}, lambda x: 4.0),
    Means("sort of a condition beyond the count is nan", "a(x: real[n]) = sort[n | x != 2](x > 0)[3]", {"x": T}, lambda x: nan),
    Means("sort of a number beyond the count is nan", "a(x: real[n]) = sort[n | x != 2](3)[3]", {"x": T}, lambda x: nan),
    Means("sort of pieces beyond the count is nan", "a(x: real[n]) = sort[n | x != 2](piecewise(1 if x > 0, x otherwise))[3]", {"x": T}, lambda x: nan),
    Means("sort of powers beyond the count is nan", "a(x: real[n]) = sort[n | x != 2](x^0)[3]", {"x": T}, lambda x: nan),
    Means("sort of guarded sums beyond the count is nan", "a(x: real[n, k]) = sort[n | x[n, 0] > 9](sum[k | x > 0](x))[0]", {"x": A}, lambda x: nan),
    Means("sort over a range", "a(x: real[n]) = sort[b in 1..3](x[b])[1] + sum[b in 0..2](b*sort[c in 1..3](x[c])[b])", {"x": X},
          lambda x: np.sort(x[1:])[1] + sum(np.arange(3) * np.sort(x[1:]))),
    Means("sort, nan last", "a(x: real[n]) = sort[n](x)[2] + 10*sort[n](x, order = descending)[1]", {"x": np.array([1.0, nan, 3.0, -inf])},
          lambda x: 3.0 + 10 * 1.0),
    Means("sort, nan is there", "a(x: real[n]) = sort[n](x)[3]", {"x": np.array([1.0, nan, 3.0, -inf])}, lambda x: nan),
    Means("sort under a local's head", "a(x: real[n, k]) = sum[n](e[n, 0] - e[n, 2]) where e[i in n, j in k] = sort[k](x[i, k])[j]", {"x": A},
          lambda x: np.sum(np.sort(x, 1)[:, 0] - np.sort(x, 1)[:, 2])),
    Means("sort of a sort", "a(x: real[n]) = sum[n](n*sort[n](n*sort[n](x)))", {"x": X}, lambda x: sum(np.arange(4) * np.sort(np.arange(4) * np.sort(x)))),
    Means("a quantile", "a(x: real[n]; q: unit = 0.3) = (1 - t)*e[lo] + t*e[lo + 1] where e[n] = sort[n](x)\n  p = q*(size(n) - 1)\n  lo = floor(p)\n  t = p - lo",
          {"x": X}, lambda x: np.quantile(x, 0.3)),
    Means("the largest k", "a(x: real[n]; k: integer = 2) = sum[i in n | i < k](sort[n](x, order = descending)[i])", {"x": X}, lambda x: sum(np.sort(x)[-2:])),
    Means("the ideal gain", "a(s: real[n]) = sum[i in n](sort[n](s, order = descending)[i]/log2(2 + i))", {"s": X},
          lambda s: sum(np.sort(s)[::-1] / np.log2(2 + np.arange(4)))),
    Means("argsort", "a(x: real[n]) = sum[n](n*argsort[n](x))", {"x": X}, lambda x: sum(np.arange(4) * np.argsort(x))),
    Means("argsort is stable", "a(x: real[n]) = sum[n]((n + 1)^2*argsort[n](x))", {"x": T}, lambda x: sum((np.arange(5) + 1) ** 2 * [3, 1, 4, 0, 2])),
    Means("argsort is stable downwards", "a(x: real[n]) = sum[n]((n + 1)^2*argsort[n](x, order = descending))", {"x": T},
          lambda x: sum((np.arange(5) + 1) ** 2 * [0, 2, 1, 4, 3])),
    Means("argsort gives a class of its axis", "a(x: real[n], u: real[n, k]) = sum[n, k](n*k*u[argsort[n](x)])", {"x": X, "u": A},
          lambda x, u: np.sum(np.arange(4)[:, None] * np.arange(3) * u[np.argsort(x)])),
    Means("argsort twice ranks", "a(x: real[n], w: real[n]) = sum[n](w*argsort[n](argsort[n](x)))", {"x": X, "w": W}, lambda x, w: sum(w * (ranked(x) - 1))),
    Means("argsort drops", "a(x: real[n]) = argsort[n | x < 2](x)[0] + 10*argsort[n | x < 2](x)[2]", {"x": T}, lambda x: 3 + 40),
    Means("argsort beyond the count is nan", "a(x: real[n]) = argsort[n | x < 2](x)[3]", {"x": T}, lambda x: nan),
    Means("argsort beyond the count gathers nan", "a(x: real[n], w: real[n]) = w[argsort[n | x < 2](x)[4]]", {"x": T, "w": S}, lambda x, w: nan),
    Means("a place may be a class", "a(s: real[n, k], y: class(k)[n]) = sum[n](sort[k](s)[y])", {"s": A, "y": np.array([2, 0, 1, 1])},
          lambda s, y: sum(np.sort(s, 1)[np.arange(4), y])),
    Means("a place may be counted", "a(x: real[n]) = sort[n](x)[count[n | x < 0]]", {"x": X}, lambda x: min(x[x >= 0])),
    Means("cumsum", "a(x: real[n]) = sum[n](n*cumsum[n](x))", {"x": X}, lambda x: sum(np.arange(4) * np.cumsum(x))),
    Means("cumsum skips", "a(x: real[n]) = sum[n](n*cumsum[n | x < 2](x))", {"x": T}, lambda x: sum(np.arange(5) * np.cumsum(np.where(x < 2, x, 0)))),
    Means("cumsum, indexed", "a(x: real[n]) = cumsum[n](x)[2]", {"x": X}, lambda x: sum(x[:3])),
    Means("cumsum of rows", "a(x: real[n, k]) = sum[n](cumsum[k](x)[1])", {"x": A}, lambda x: np.sum(x[:, :2])),
    Means("cumsum of a sort", "a(x: real[n]) = sum[n](n*cumsum[n](sort[n](x)))", {"x": X}, lambda x: sum(np.arange(4) * np.cumsum(np.sort(x)))),
    Means("cumsum of counts is whole", "a(x: real[n]) = x[cumsum[n](1)[1]]", {"x": X}, lambda x: x[2]),
    Means("cumsum over a range", "a(x: real[n]) = sum[b in 1..3](b*cumsum[c in 1..3](x[c])[b])", {"x": X}, lambda x: sum(np.arange(1, 4) * np.cumsum(x[1:]))),
    Means("rank", "a(x: real[n]) = sum[n](x*rank[n](x))", {"x": X}, lambda x: sum(x * ranked(x))),
    Means("rank, ties share the smallest", "a(x: real[n]) = sum[n]((n + 1)^2*rank[n](x))", {"x": T}, lambda x: sum((np.arange(5) + 1) ** 2 * ranked(x))),
    Means("rank, where a guard holds", "a(x: real[n]) = sum[n | x > 0](x*rank[n | x > 0](x))", {"x": X}, lambda x: sum(x[x > 0] * ranked(x[x > 0]))),
    Means("rank, where no guard holds", "a(x: real[n]) = max[n | x < 0](rank[n | x > 0](x))", {"x": X}, lambda x: nan),
    Means("rank, descending", "a(x: real[n]) = sum[n](x*rank[n](x, order = descending))", {"x": X}, lambda x: sum(x * ranked(x, -1))),
    Means("var", "a(x: real[n]) = var[n](x)", {"x": X}, lambda x: np.var(x)),
    Means("var, ddof", "a(x: real[n]) = var[n](x, ddof = 1)", {"x": X}, lambda x: np.var(x, ddof=1)),
    Means("var, of what a guard leaves", "a(x: real[n]) = var[n | x < 2](x, ddof = 1)", {"x": T}, lambda x: np.var(x[x < 2], ddof=1)),
    Means("var of nothing", "a(x: real[n]) = var[n | x > 9](x)", {"x": X}, lambda x: nan),
    Means("var of nothing may be said", "a(x: real[n]) = var[n | x > 9](x, default = 5) + std[n](x, default = 5)", {"x": X}, lambda x: 5 + np.std(x)),
    Means("var of one is 0", "a(x: real[n]) = var[n](x) + std[n](x)", {"x": X[:1]}, lambda x: 0.0),
    Means("var of one, ddof", "a(x: real[n]) = var[n](x, ddof = 1)", {"x": X[:1]}, lambda x: nan),
    Means("var inside a mean", "a(x: real[n, k]) = mean[n](var[k](x)) + var[n](mean[k](x))", {"x": A}, lambda x: np.var(x, 1).mean() + np.var(x.mean(1))),
    Means("var over two", "a(x: real[n, k]) = var[n, k](x, ddof = 1)", {"x": A}, lambda x: np.var(x, ddof=1)),
    Means("std", "a(x: real[n]) = std[n](x)", {"x": X}, lambda x: np.std(x)),
    Means("std centres", "a(x: real[n, k]) = sum[n, k]((x - mean[k](x))/std[k](x)*k)", {"x": A},
          lambda x: np.sum((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) * np.arange(3))),
]  # fmt: skip

ALL = [*EXAMPLES, *NAMES, *INDICES, *LOCALS, *CALLS, *REDUCTIONS, *GUARDS, *NUMBERS, *ORDERS]


def test_rules_have_names_of_their_own() -> None:
    assert len({m.rule for m in ALL}) == len(ALL)


@pytest.mark.parametrize("m", ALL, ids=lambda m: m.rule)
def test_meaning(m: Means) -> None:
    got = value(m.text, m.given, m.params)
    want = m.want(**m.given, **m.params)
    assert np.allclose(got, want, rtol=1e-12, atol=1e-13, equal_nan=True), (got, want)


# -- what a definition declares -------------------------------------------------------------------------------------------------------------


def declared(text: str, name: str | None = None) -> tuple[list[str], list[str]]:
    p = program(text, name)
    return [i.name for i in p.inputs], [h.name for h in p.params]


@pytest.mark.parametrize(
    ("text", "inputs", "params"),
    [
        ("a(delta) = abs(r)*delta", ["f", "y"], ["delta"]),
        ("a = z", ["f", "y"], []),
        ("a = y - f", ["f", "y"], []),
        ("a(p, q; c) = p*q*c", ["p", "q"], ["c"]),
        ("a(p, q = 1) = p*q", ["p"], ["q"]),
        ("h(c = 1) = c*r\na = h", ["f", "y"], ["c"]),
        ("h(u, v; c = 1) = c*u*v\na(v, u) = h", ["v", "u"], ["c"]),
        ("a(p; ) = p", ["p"], []),
    ],
)
def test_what_is_an_input(text: str, inputs: list[str], params: list[str]) -> None:
    assert declared(text) == (inputs, params)


def test_the_sign_of_a_margin() -> None:
    kinds = {i.name: i.kind.name for i in program("a = relu(1 - z)").inputs}
    assert kinds == {"f": "real", "y": "sign"}


@pytest.mark.parametrize(
    ("kind", "low", "high", "low_open", "high_open", "integer"),
    [
        ("real", -inf, inf, True, True, False),
        ("positive", 0, inf, True, True, False),
        ("nonnegative", 0, inf, False, True, False),
        ("unit", 0, 1, False, False, False),
        ("prob", 0, 1, True, True, False),
        ("logit", -inf, inf, False, True, False),
        ("logprob", -inf, 0, False, False, False),
        ("sign", -1, 1, False, False, True),
        ("binary", 0, 1, False, False, True),
        ("integer", -inf, inf, True, True, True),
        ("real in (0, 3/2]", 0, 1.5, True, False, False),
        ("real in [-1, inf)", -1, inf, False, True, False),
        ("real in (-inf, 0]", -inf, 0, True, False, False),
        ("integer in [1, 9]", 1, 9, False, False, True),
    ],
)
def test_domains(kind: str, low: float, high: float, low_open: bool, high_open: bool, integer: bool) -> None:
    (x,) = program(f"a(x: {kind}) = x").inputs
    assert (x.domain.low, x.domain.high, x.domain.low_open, x.domain.high_open) == (low, high, low_open, high_open)
    assert x.kind.integer == integer
    assert isinstance(x.domain, Interval)


@pytest.mark.parametrize(
    ("kind", "axes", "of"),
    [
        ("real[n, d]", ("n", "d"), None),
        ("simplex[n]", ("n",), "n"),
        ("simplex(d)[n, d]", ("n", "d"), "d"),
        ("class(n)", (), "n"),
        ("class(n)[d]", ("d",), "n"),
        ("real[n] in [0, 1]", ("n",), None),
    ],
)
def test_axes_of_a_kind(kind: str, axes: tuple[str, ...], of: str | None) -> None:
    x = program(f"a(w: real[n, d], x: {kind}) = sum[n, d](w)").input("x")
    assert (x.axes, x.kind.of) == (axes, of)


def test_an_alias_is_a_further_index_of_its_axis() -> None:
    assert program("a(R: real[i, j in i]) = sum[i, j](R)").input("R").kind.axes == (("i", "i"), ("i", "j"))


def test_annotations_are_kept() -> None:
    text = """
\"\"\"What it is.\"\"\"
a(f, y; lo = 0, hi = 1) = clip(f - y, lo, hi)
  require lo < hi
  wrt     y, f
  survey  4.2.7 (14): L-CONT, DIFF, S-CONV
  claim   CONVEX
  source  "Someone (1964)"
  note    "A slip."
  oracle  torch.nn.functional.huber_loss(f, y, reduction="none")
"""
    p = program(text)
    assert p.doc == "What it is." and p.wrt == ("y", "f") and len(p.requires) == 1
    assert {n.tag for n in p.notes} == {"survey", "claim", "source", "note", "oracle"}


def test_the_sample_axis_is_named_never_guessed() -> None:
    assert program("a(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))").batch is None
    assert program("a(f: real[n], y: real[n]) = sqrt(mean[n]((f - y)^2))\n  batch n").batch == "n"


def test_private_definitions_are_not_listed() -> None:
    assert list(load_text("_half(x) = x/2\na(x) = _half(x)", "test.loss")) == ["a"]


def test_an_array_definition() -> None:
    p = program("rows[i, k](x: real[i, k], w: real[k]) = x*w + i")
    (o,) = p.outputs
    assert [i.axis for i in o.indices] == ["i", "k"]
    assert np.allclose(evaluate(p, {"x": A, "w": V}), A * V + np.arange(4)[:, None])


def test_an_array_definition_may_be_transposed() -> None:
    p = program("columns[k, i](x: real[i, k]) = x")
    assert np.allclose(evaluate(p, {"x": A}), A.T)


def test_arrays_of_two_indices_compose_whole() -> None:
    text = """
a(x: real[n, n2 in n]) = sum[i, j in n](step(x)[i, j]*j)
  where rows(X)[i, j] = X[i, j]/sum[k in n](X[i, k])
        cols(X)[i, j] = X[i, j]/sum[k in n](X[k, j])
        step(X)       = rows(cols(X))
"""
    x = abs(normal(3, 3))
    c = x / x.sum(0)
    assert np.isclose(value(text, {"x": x}), np.sum(c / c.sum(1)[:, None] * np.arange(3)))


# -- broken rules ---------------------------------------------------------------------------------------------------------------------------

BREAKS = [
    ("standing names exist only where no input is declared", "a(p; c = 1) = c*r", "r"),
    ("declaring a standing name beside a free one", "a(y) = f*y", "y"),
    ("a bare loss needs its inputs", "h = abs(r)\na(p;) = h + p", "f"),
    ("sharing with another kind", "h(p: prob) = log(p)\na(p: real) = h", "p"),
    ("functions live in another namespace", "a(x) = x + exp", "exp"),
    ("case matters", "a(x) = X", "X"),
    ("what is not indented ends", "a(x) =\nx", "x"),
    ("in groups new names only", "a(x: real[n, d]) = sum[n, i](x)", "i"),
    ("an axis is never captured", "a(x: real[n, d]) = sum[n, d in n](x[n, 0])", "d"),
    ("a range ends at integers", "a(x) = sum[b in 0..x](b)", "integer"),
    ("a range is no value", "a(x) = x + 0..3", ".."),
    ("size takes an axis", "a(x: real[n]) = sum[n](x)/size(x)", "axis"),
    ("a subscript has an axis to go to", "a(x: real[n]) = sum[n](x[n, n])", "x"),
    ("by name only along its own axes", "a(x: real[n, d], w: real[k]) = sum[n, d, k](x[k = k])", "k"),
    ("a name without a head by position", "a(x: real[n, d]) = sum[i in n, c in d](u[i, c]) where u = 2*x", "u"),
    ("a head index that nothing places has no bare use", "a(x: real[n]) = sum[n](x*t) where t[i] = 2*i", "t"),
    ("an index belongs to its axis", "a(x: real[n], w: real[m]) = sum[i in n](x[i] + w[i])", "m"),
    ("a class belongs to its axis", "a(x: real[n], y: class(m), w: real[m]) = x[y] + w[y]", "m"),
    ("argmax is a class of its axis", "a(x: real[n], w: real[m]) = w[argmax[n](x)]", "n"),
    ("a local has no cycle", "a(x) = u where u = v, v = u + x", "u"),
    ("a local function has its number of arguments", "a(x) = D(x, x) where D(u) = u", "D"),
    ("an argument has lost a bound axis", "a(x: real[n, d]) = mean[n](F(x)) where F(u) = u[0, 0]", "u"),
    ("two indices over one axis have no bare value", "a(x: real[n]) = sum[n](s) where s[i, j] = x[i]*x[j]", "s"),
    ("event axes need brackets", "a(x: real[n, d], W: real[c, d]) = sum[n, c](cosine(x, W))".replace("sum[n, c](cosine(x, W))", "cosine(x, W)"), "cosine["),
    ("arguments must agree in their event axes", "a(x: real[n], w: real[d]) = dot(x, w)", "dot"),
    ("a call shares nothing by name", "h(f, y; c) = c*(f - y)\na(f, y; c) = h(f, y)", "c"),
    ("no other hyper-parameters than its own", "h(f, y; c = 1) = c*(f - y)\na(f, y) = h(f, y; k = 2)", "k"),
    ("no more inputs than its own", "h(f, y) = f - y\na(f, y) = h(f, y, f)", "h"),
    ("local definitions have no cycle", "a(x) = h(x)\nh(x) = a(x)", "a"),
    ("a bracket for a reduction", "a(x: real[n]) = logsumexp(x)", "logsumexp["),
    ("weight belongs to mean", "a(x: real[n]) = max[n](x, weight = x)", "weight"),
    ("default belongs to what may be empty: softmax has none", "a(x: real[n]) = sum[n](softmax[n](x, deflt = 1))", "deflt"),
    ("count takes a condition", "a(x: real[n]) = count[n](x + 1)", "condition"),
    ("a guard is a condition", "a(x: real[n]) = sum[n | x + 1](x)", "condition"),
    ("a number is no condition", "a(x) = piecewise(1 if x, 0 otherwise)", "condition"),
    ("and joins conditions", "a(x) = piecewise(1 if x > 0 and x, 0 otherwise)", "condition"),
    ("a value depends on no axis", "a(x: real[n, d]) = sum[n](x)", "d"),
    ("a logit is no probability", "h(p: prob) = log(p)\na(s: logit) = h(s)", "sigmoid"),
    ("a real is no class", "a(s: logit[k], y: integer) = s[y]".replace("integer", "real"), "class"),
    ("a label is no number", "a(c: label) = c + 1", "label"),
    ("a bool is no number to index with", "a(x: real[n], ok: bool) = x[ok]", "ok"),
    ("a real is no label", "h(c: label) = 1*(c == 1)\na(x) = h(x)", "label"),
    ("a simplex is no real", "h(p: simplex[k]) = sum[k](p*p)\na(x: real[d]) = h(x)", "simplex"),
    ("a default is in its domain", "a(x; c: unit = 2) = c*x", "unit"),
    ("precedence: not takes a condition", "a(x) = piecewise(1 if not x + 1, 0 otherwise)", "condition"),
    ("no juxtaposition", "a(x) = 2x", "*"),
    ("names that are reserved", "a(x; check = 1) = x*check", "check"),
    ("words of the language name no locals", "a(x) = or where or = x", "or"),
    ("an annotation names what there is", "a(x) = x\n  wrt z", "z"),
    ("private is private to its file", "a(x) = _unit(x)", "_unit"),
]


@pytest.mark.parametrize(("text", "word"), [b[1:] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_broken(text: str, word: str) -> None:
    with pytest.raises(LossError) as caught:
        load_text(text, "test.loss")
    assert not isinstance(caught.value, NotYet)
    assert word in str(caught.value) and caught.value.span is not None and caught.value.hint


# -- what a later version brings ------------------------------------------------------------------------------------------------------------

LATER = [
    ("recursion", "a(r: real[t]; c = 1/2) = sum[t](G) where G = r + c*piecewise(G[t + 1] if t + 1 < size(t), 0 otherwise)", {"r": X}, lambda r: sum(r[t] * sum(0.5**k for k in range(t + 1)) for t in range(4))),
]  # fmt: skip


@pytest.mark.parametrize(("what", "text", "given", "want"), LATER, ids=[row[0] for row in LATER])
def test_works_or_says_not_yet(what: str, text: str, given: dict[str, Any] | None, want: Callable[..., Any] | None) -> None:
    """What this version does not compile it names in the message; what it does is right."""
    try:
        p = program(text)
    except NotYet as error:
        assert what.split(",")[0].split()[0] in str(error) and error.span is not None and error.hint
        return
    assert given is not None and want is not None, "a construct without a test of its meaning"
    assert np.allclose(evaluate(p, given), want(**given), rtol=1e-12, equal_nan=True)


# -- what is legal and suspicious -----------------------------------------------------------------------------------------------------------

WARNS = [
    ("a new index that the body never uses", "a(x: real[n]) = sum[i in n](x[0])", "unused-index"),
    ("a head index likewise", "a(x: real[n]) = sum[i, j in n](s[i, j]) where s[i, j] = x[i]", "unused-index"),
    ("1 - t for a condition t", "a(x) = x*(1 - (x > 0))", "one-minus-condition"),
    ("log of an unclamped unit", "a(p: unit) = log(p)", "log-of-unit"),
    ("an unused hyper-parameter", "a(x; c = 1) = x", "unused-parameter"),
    ("an unused input", "a(x, y) = x", "unused-parameter"),
    ("an index that may leave its axis", "a(x: real[n]) = sum[n](x[n + 1])", "index-leaves-axis"),
    ("a fixed index, as an axis may be short", "a(x: real[n]) = x[3]", "index-leaves-axis"),
    ("a guard at the wrong end", "a(x: real[n]) = sum[n | n > 0](x[n + 1])", "index-leaves-axis"),
    ("a place that may leave an order", "a(x: real[n]) = sum[n](sort[n](x)[n + 1])", "index-leaves-axis"),
    ("a fixed place, as an axis may be short", "a(x: real[n]) = sort[n](x)[1]", "index-leaves-axis"),
    ("the place after a quantile", "a(x: real[n]; q: unit = 0.5) = sort[n](x)[floor(q*(size(n) - 1)) + 1]", "index-leaves-axis"),
    ("a quantile counted from 1", "a(x: real[n]; q: unit = 0.5) = sort[n](x)[floor(q*size(n))]", "index-leaves-axis"),
    ("a quantile of no share", "a(x: real[n]; q: nonnegative = 0.5) = sort[n](x)[floor(q*(size(n) - 1))]", "index-leaves-axis"),
    ("a place beyond a range", "a(x: real[n]) = sum[b in 0..2 | size(n) > 5](sort[c in 0..1](x[c])[b])", "index-leaves-axis"),
]
SILENT = [
    ("a guard", "a(x: real[n]) = sum[n | n + 1 < size(n)](x[n + 1])"),
    ("a branch", "a(x: real[n]) = sum[n](piecewise(x[n - 1] if n > 0, 0 otherwise))"),
    ("the other branch", "a(x: real[n]) = sum[n](piecewise(0 if n == 0, x[n - 1] otherwise))"),
    ("a strong zero", "a(x: real[n]) = sum[n]((n > 0)*x[n - 1])"),
    ("an and", "a(x: real[n]) = count[n | n > 0 and x[n - 1] > 0]"),
    ("a range", "a(x: real[n]) = sum[b in 1..size(n)](x[b - 1])"),
    ("a mirrored index", "a(x: real[n]) = sum[n](x[size(n) - 1 - n]*n)"),
    ("a class", "a(x: real[n], y: class(n)) = x[y]"),
    ("argmax", "a(x: real[n]) = x[argmax[n](x)]"),
    ("sort", "a(x: real[n]) = sum[n](n*sort[n](x, order = descending))"),
    ("sort where a guard holds", "a(x: real[n]) = sum[n](n*sort[n | x > 0](x))"),
    ("the smallest", "a(x: real[n]) = sort[n](x)[0]"),
    ("the largest k", "a(x: real[n]; k: integer = 3) = sum[i in n | i < k](sort[n](x)[i])"),
    ("argsort", "a(x: real[n], w: real[n]) = sum[n](w[argsort[n](x)]*n)"),
    ("a class as a place", "a(x: real[n, k], y: class(k)[n]) = sum[n](sort[k](x)[y])"),
    ("a median", "a(x: real[n]) = (e[floor(p)] + e[ceil(p)])/2 where e[n] = sort[n](x)\n  p = (size(n) - 1)/2"),
    ("a quantile", "a(x: real[n]; q: unit = 0.5) = (1 - p + floor(p))*e[floor(p)] + (p - floor(p))*e[ceil(p)] where e[n] = sort[n](x)\n  p = q*(size(n) - 1)"),
    ("the next place, if there is one", "a(x: real[n]; q: unit = 0.5) = sort[n](x)[min(floor(q*(size(n) - 1)) + 1, size(n) - 1)]"),
    ("cumsum", "a(x: real[n]) = sum[n | n > 0](cumsum[n](x)[n - 1])"),
    ("a place of a range", "a(x: real[n]) = sum[b in 0..2 | size(n) > 5](sort[c in 1..3](x[c])[b])"),
    ("a range that is sorted", "a(x: real[n]) = sum[b in 0..2](sort[c in 1..3](c^2)[b]) + sum[n](x)"),
    ("a guard through a local", "a(x: real[n]) = sum[n | ok](x[n + 1]) where ok = n + 1 < size(n)"),
]


@pytest.mark.parametrize(("text", "name"), [w[1:] for w in WARNS], ids=[w[0] for w in WARNS])
def test_warns(text: str, name: str) -> None:
    programs, remarks = load_text_with_warnings(text, "test.loss")
    assert list(programs) == ["a"] and name in {r.name for r in remarks}
    assert all(r.hint and r.message for r in remarks)


@pytest.mark.parametrize("text", [w[1] for w in SILENT], ids=[w[0] for w in SILENT])
def test_an_index_that_is_provably_inside_is_silent(text: str) -> None:
    _, remarks = load_text_with_warnings(text, "test.loss")
    assert not remarks


# -- every sentence of the rules, and where it is broken ------------------------------------------------------------------------------------

RULES = {
    "kinds, not just shapes": ["unknown_kind", "kind_missing", "interval_reversed", "class_without_axis", "simplex_of_which_axis", "ignore_of_a_number"],
    "a mismatch is an error with a hint": ["logit_for_a_probability", "label_for_a_class", "real_for_a_condition", "number_outside_kind"],
    "a number bound to a hyper-parameter is checked": ["default_outside_its_domain", "default_outside_its_interval", "argument_outside_its_domain"],
    "require states the rest": ["require_a_number", "require_of_an_input"],
    "inputs before, hyper-parameters after": ["default_of_an_input", "two_semicolons", "standing_name_declared", "standing_name_beside_inputs"],
    "wrt and batch name what there is": ["unknown_wrt", "wrt_twice", "wrt_a_class", "unknown_batch"],
    "one world of indices": ["unknown_axis", "in_missing", "index_twice_in_bracket", "axis_bound_twice", "unbound_index"],
    "ranges": ["range_end_is_no_integer", "range_end_is_real", "three_points"],
    "one namespace": ["local_is_input", "local_is_parameter", "axis_is_input", "index_is_input", "index_is_axis", "index_in_sight", "parameter_twice"],
    "reserved names": ["reserved_input", "reserved_parameter", "reserved_not", "keyword_as_local"],
    "indexing by position": ["too_many_indices", "too_few_indices", "computed_name_by_position", "subscript_of_a_scalar", "subscript_of_expression"],
    "indexing by name": ["unknown_axis_in_subscript", "named_and_by_position"],
    "heads": ["head_index_twice", "pair_without_indices"],
    "an index belongs to its axis": ["index_of_another_axis", "axis_index_on_another_axis", "unknown_alias"],
    "gathers": ["gather_with_a_real", "gather_with_a_label", "gather_with_another_class", "gather_with_a_condition", "fractional_index"],
    "locals": ["local_twice", "where_empty", "where_without_equation", "local_is_itself", "locals_in_a_circle", "recursion_without_shift"],
    "a recursion steps one way": [
        "recursion_both_ways", "recursion_by_a_multiple", "recursion_by_an_unguarded_index", "recursion_without_a_direction",
        "recursion_of_an_unknown_axis", "recursion_by_position_of_two_axes", "recursion_of_a_function", "recursion_that_reads_itself_too",
    ],
    "local functions": ["too_few_arguments_to_a_local", "local_function_calls_itself", "local_function_as_value", "argument_without_its_axis"],
    "calls": ["too_few_arguments_to_a_loss", "too_many_arguments_to_a_loss", "missing_hyper_parameter", "unknown_keyword_argument", "keyword_twice"],
    "event axes": ["axes_do_not_meet", "two_axes_for_a_vector_function", "no_axis_for_a_vector_function"],
    "sharing by a bare name": ["shared_with_other_default", "shared_with_other_kind", "loss_needs_inputs"],
    "composition has no circle": ["calls_itself", "is_itself", "calls_in_a_circle"],
    "reductions take one argument and options": ["two_arguments_to_a_reduction", "no_argument_to_a_reduction", "unknown_option", "option_of_another_reduction"],
    "a reduction has a bracket": ["sum_without_bracket", "softmax_without_bracket", "max_of_one_number", "mean_without_bracket", "reduction_not_called"],
    "options": ["option_twice", "order_unknown"],
    "a value depends on no axis": ["axis_left_over", "axis_left_over_after_sum", "array_body_leaves_an_axis"],
    "a number is never a condition": ["guard_is_a_number", "branch_on_a_number", "and_of_numbers", "not_of_a_number", "any_of_a_number", "count_of_a_number"],
    "labels are only compared": ["label_in_arithmetic", "label_compared_by_order"],
    "piecewise": ["branch_without_condition", "otherwise_not_last", "branch_outside_piecewise", "else", "conditional_expression"],
    "no juxtaposition": ["number_beside_name", "names_side_by_side", "number_beside_parenthesis", "parentheses_side_by_side"],
    "layout": ["definition_indented", "continuation_not_indented"],
    "annotations": ["annotation_unknown", "annotation_with_colon", "survey_without_number", "string_never_closed"],
    "one file reports every definition's error": ["two_mistakes"],
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_broken_somewhere(rule: str) -> None:
    """The mistakes are in ``bad/``, each beside its message, which ``test_bad.py`` compares."""
    folder = Path(__file__).parent / "bad"
    assert all((folder / f"{stem}.txt").exists() for stem in RULES[rule])
