"""What losses of other libraries need from a language, feature by feature: a definition that uses it beside a loop in plain Python.

``FEATURES`` names the needs, most frequent first. Each is met by definitions here, or answered by a section of the docs.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formulas import Case, collector, named
from scipy import special

FEATURES = (
    "masked", "lse", "minmax", "pairwise", "nested", "gather", "count", "softplus", "stopgrad", "norm", "multi", "wmean",
    "compose", "neq", "piecewise", "sort", "powhyper", "idxval", "onehot", "guard", "max", "order", "matmul", "rank",
    "label", "axsize", "cumsum", "ignore", "random", "idxarith", "concat", "diag", "iverson", "param", "iterate", "scan",
    "segment", "idxorder", "variance", "dmask", "window", "state", "triple", "const_index", "slice", "table", "trig",
    "powdata", "xlogy", "reshape", "quantile", "axisalias", "argmax", "topk", "padconst", "anyall", "customgrad", "floor",
    "gamma", "unique", "solve", "linalg", "const", "histogram", "network", "dist", "quad", "modelgrad", "indexpairs", "fft",
    "erf", "setmember", "permutations", "scatter", "resample", "firstof",
)
IN_THE_DOCS = ("customgrad", "solve", "linalg", "network", "dist", "fft", "resample")
DOCS = Path(__file__).parents[1]/"docs"/"outside.md"

CASES: list[Case] = []
feature = collector(CASES)
inf = math.inf


# -- masks, reductions, branches ----------------------------------------------------------------------------------------


@feature("""
masked_mse(f: real[n], y: real[n], m: bool[n]) = mean[n | m]((f - y)^2, default = 0)
""", of="masked")
def masked_mse(f: Any, y: Any, m: Any) -> Any:
    kept = [(a - b)**2 for a, b, c in zip(f, y, m, strict=True) if c]
    return sum(kept)/len(kept) if kept else 0


@feature("""
rowwise_cross_entropy(s: logit[n, k], y: class(k)[n]) = mean[n](log(sum[k](exp(s))) - s[n, y])
""", of="lse")
def rowwise_cross_entropy(s: Any, y: Any) -> Any:
    rows = [math.log(sum(math.exp(v - max(row)) for v in row)) + max(row) - row[c] for row, c in zip(s, y, strict=True)]
    return sum(rows)/len(rows)


@feature("""
clamped(f: real[n], y: real[n]; lo: real = -1, hi: real = 0.5) = mean[n](max(0, min(clip(f, lo, hi), 0.4) - y))
  require lo < hi
""", of="minmax")
def clamped(f: Any, y: Any, lo: Any, hi: Any) -> Any:
    return sum(max(0, min(min(max(a, lo), hi), 0.4) - b) for a, b in zip(f, y, strict=True))/len(f)


@feature("""
repulsion(x: real[n, d]; tau: positive = 0.7) = log(mean[i in n, j in n | i != j](exp(-sqdist(x[i], x[j])/tau), default = 1))
""", of="pairwise")
def repulsion(x: Any, tau: Any) -> Any:
    pairs = [math.exp(-sum((a - b)**2 for a, b in zip(x[i], x[j], strict=True))/tau) for i in range(len(x)) for j in range(len(x)) if i != j]
    return math.log(sum(pairs)/len(pairs)) if pairs else 0


@feature("""
dice_per_class(p: unit[n, c], y: binary[n, c]; eps: positive = 0.1) =
    1 - mean[c]((2*sum[n](p*y) + eps)/(sum[n](p^2) + sum[n](y) + eps))
""", of="nested")
def dice_per_class(p: Any, y: Any, eps: Any) -> Any:
    out = 0
    for c in range(p.shape[1]):
        hit = sum(p[n, c]*y[n, c] for n in range(len(p)))
        out += (2*hit + eps)/(sum(p[n, c]**2 for n in range(len(p))) + sum(y[n, c] for n in range(len(p))) + eps)
    return 1 - out/p.shape[1]


@feature("""
gathered_margin(s: real[n, k], y: class(k)[n]) = sum[n, k | k != y](relu(1 + s - s[n, y]))
""", of="gather")
def gathered_margin(s: Any, y: Any) -> Any:
    return sum(max(0, 1 + s[i, k] - s[i, y[i]]) for i in range(len(s)) for k in range(s.shape[1]) if k != y[i])


@feature("""
mean_of_active(f: real[n], y: real[n]; m: positive = 0.3) = sum[n](over)/max(count[n](over > 0), 1)
    where over = relu(abs(f - y) - m)
""", of="count")
def mean_of_active(f: Any, y: Any, m: Any) -> Any:
    over = [max(0, abs(a - b) - m) for a, b in zip(f, y, strict=True)]
    return sum(over)/max(sum(v > 0 for v in over), 1)


@feature("""
weighted_bce(s: logit[n], t: unit[n], w: positive[n]) = mean[n](w*(-t*log(sigmoid(s)) - (1 - t)*log(1 - sigmoid(s))))
""", of="softplus")
def weighted_bce(s: Any, t: Any, w: Any) -> Any:
    return sum(c*(b*math.log1p(math.exp(-a)) + (1 - b)*math.log1p(math.exp(a))) for a, b, c in zip(s, t, w, strict=True))/len(s)


@feature("""
simsiam(p: real[d], z: real[d]) = -cosine(p, stop(z))
  wrt p
""", of="stopgrad")
def simsiam(p: Any, z: Any) -> Any:
    dot = sum(a*b for a, b in zip(p, z, strict=True))
    return -dot/math.sqrt(sum(a*a for a in p)*sum(b*b for b in z))


@feature("""
norm_with_floor(a: real[d], b: real[d]; p: positive = 3, eps: positive = 1e-3) =
    sum[d](abs(a - b)^p)^(1/p) + sum[d](a*b)/max(norm(a)*norm(b), eps) + sqrt(sum[d]((a - b)^2) + eps)
""", of="norm")
def norm_with_floor(a: Any, b: Any, p: Any, eps: Any) -> Any:
    power = sum(abs(u - v)**p for u, v in zip(a, b, strict=True))**(1/p)
    dot = sum(u*v for u, v in zip(a, b, strict=True))
    return power + dot/max(math.hypot(*a)*math.hypot(*b), eps) + math.sqrt(sum((u - v)**2 for u, v in zip(a, b, strict=True)) + eps)


@feature("""
image_l1(u: real[c, h, w], v: real[c, h, w]) = mean[c, h, w](abs(u - v)) + max[h, w](mean[c](u))
""", of="multi")
def image_l1(u: Any, v: Any) -> Any:
    c, h, w = u.shape
    every = [abs(u[i, j, k] - v[i, j, k]) for i in range(c) for j in range(h) for k in range(w)]
    return sum(every)/len(every) + max(sum(u[i, j, k] for i in range(c))/c for j in range(h) for k in range(w))


@feature("""
weighted_mean(f: real[n], y: real[n], w: nonnegative[n]) = mean[n]((f - y)^2, weight = w)
""", of="wmean")
def weighted_mean(f: Any, y: Any, w: Any) -> Any:
    return sum(c*(a - b)**2 for a, b, c in zip(f, y, w, strict=True))/sum(w)


@feature("""
_sq(f: real, y: real) = (f - y)^2
composed(f: real[n], y: real[n]; a: unit = 0.3) = a*mean[n](_sq(f, y)) + (1 - a)*mean[n](huber(f, y; delta = 2)) + min(1, _sq(mean[n](f), 0))
""", of="compose")
def composed(f: Any, y: Any, a: Any) -> Any:
    r = [u - v for u, v in zip(f, y, strict=True)]
    hub = [x*x/2 if abs(x) <= 2 else 2*(abs(x) - 1) for x in r]
    return a*sum(x*x for x in r)/len(r) + (1 - a)*sum(hub)/len(r) + min(1, (sum(f)/len(f))**2)


@feature("""
off_diagonal(z: real[n, d]; lam: positive = 0.05) =
    sum[i in d](c[i, i]^2) + lam*sum[i in d, j in d | i != j](c[i, j]^2)
    where c[i, j] = mean[n](z[n, i]*z[n, j])
""", of="neq")
def off_diagonal(z: Any, lam: Any) -> Any:
    n, d = z.shape
    out = 0
    for i in range(d):
        for j in range(d):
            c = sum(z[k, i]*z[k, j] for k in range(n))/n
            out += c*c if i == j else lam*c*c
    return out


@feature("""
three_regions(f: real[n], y: real[n]) =
    sum[n](piecewise(r^2 if abs(r) < 0.5, abs(r) if abs(r) < 2 and y > 0, 2*r if y > 0, sin(r) otherwise))
    where r = f - y
""", of="piecewise")
def three_regions(f: Any, y: Any) -> Any:
    out = 0
    for a, b in zip(f, y, strict=True):
        r = a - b
        out += r*r if abs(r) < 0.5 else math.sin(r) if b <= 0 else abs(r) if abs(r) < 2 else 2*r
    return out


@feature("""
wasserstein(x: real[n], y: real[n]) = mean[n](abs(sort[n](x) - sort[n](y)))
""", of="sort")
def wasserstein(x: Any, y: Any) -> Any:
    return sum(abs(a - b) for a, b in zip(sorted(x), sorted(y), strict=True))/len(x)


@feature("""
lovasz_hinge(s: real[n], y: binary[n]) = sum[p in n](relu(sort[n](e, order = descending)[p])*step[p])
    where e       = 1 - (2*y - 1)*s
          t[p]    = y[argsort[n](e, order = descending)[p]]
          inter[p] = sum[n](y) - cumsum[n](t[n])[p]
          union[p] = sum[n](y) + cumsum[n](1 - t[n])[p]
          jac[p]  = 1 - inter[p]/union[p]
          step[p] = stop(jac[p] - piecewise(jac[p - 1] if p > 0, 0 otherwise))
  wrt s
""", of="sort", make=lambda rng, sizes: {"s": rng.normal(size=sizes["n"]), "y": (rng.random(sizes["n"]) < 0.5)*1.0})
def lovasz_hinge(s: Any, y: Any) -> Any:
    errors = 1 - (2*y - 1)*s
    order = sorted(range(len(s)), key=lambda i: -errors[i])
    out, before, total = 0.0, 0.0, sum(y)
    for p in range(len(s)):
        seen = [y[i] for i in order[: p + 1]]
        jac = 1 - (total - sum(seen))/(total + sum(1 - v for v in seen))
        out += max(0, errors[order[p]])*(jac - before)
        before = jac
    return out


@feature("""
poly_focal(s: logit[k], y: class(k); gamma: nonnegative = 2.5, q: unit = 0.7) = (1 - p)^gamma*(1 - p^q)/q
    where p = softmax[k](s)[y]
""", of="powhyper", bind=({}, {"gamma": 0}, {"gamma": 0.5}, {"gamma": 3}))
def poly_focal(s: Any, y: Any, gamma: Any, q: Any) -> Any:
    p = math.exp(s[y])/sum(math.exp(v) for v in s)
    return (1 - p)**gamma*(1 - p**q)/q


@feature("""
expected_class(s: logit[k], y: class(k)) = (sum[k](k*softmax[k](s)) - y)^2 + sum[k](s/(1 + k))
""", of="idxval")
def expected_class(s: Any, y: Any) -> Any:
    total = sum(math.exp(v) for v in s)
    return (sum(k*math.exp(v)/total for k, v in enumerate(s)) - y)**2 + sum(v/(1 + k) for k, v in enumerate(s))


@feature("""
brier(p: unit[n, c], y: class(c)[n]) = mean[n](sum[c]((p - (c == y))^2))
""", of="onehot")
def brier(p: Any, y: Any) -> Any:
    return sum((p[i, c] - (c == y[i]))**2 for i in range(len(p)) for c in range(p.shape[1]))/len(p)


@feature("""
present_classes(p: unit[n, c], y: class(c)[n]) =
    mean[c | any[n](y == c)](1 - sum[n | y == c](p)/sum[n](p))
""", of="guard")
def present_classes(p: Any, y: Any) -> Any:
    out = [1 - sum(p[i, c] for i in range(len(p)) if y[i] == c)/sum(p[:, c]) for c in range(p.shape[1]) if c in y]
    return sum(out)/len(out)


@feature("""
worst_case(f: real[g, n], y: real[g, n]) = max[g](mean[n]((f - y)^2)) - min[g](max[n](abs(f)))
""", of="max")
def worst_case(f: Any, y: Any) -> Any:
    return max(np.mean((a - b)**2) for a, b in zip(f, y, strict=True)) - min(max(abs(v) for v in row) for row in f)


@feature("""
cox(s: real[n], t: positive[n], e: binary[n]) =
    -sum[i in n | e[i] == 1](s[i] - logsumexp[j in n | t[j] >= t[i]](s[j]))/max(count[n](e == 1), 1)
""", of="order")
def cox(s: Any, t: Any, e: Any) -> Any:
    out = 0.0
    for i in range(len(s)):
        if e[i] == 1:
            out -= s[i] - math.log(sum(math.exp(s[j]) for j in range(len(s)) if t[j] >= t[i]))
    return out/max(sum(e == 1), 1)


@feature("""
gram_match(x: real[n, d], z: real[n, d]) = sum[i in d, j in d]((mean[n](x[n, i]*x[n, j]) - mean[n](z[n, i]*z[n, j]))^2)
""", of="matmul")
def gram_match(x: Any, z: Any) -> Any:
    n, d = x.shape
    gram = [[sum(u[k, i]*u[k, j] for k in range(n))/n for i in range(d) for j in range(d)] for u in (x, z)]
    return sum((a - b)**2 for a, b in zip(*gram, strict=True))


@feature("""
spearman(x: real[n], y: real[n]) = sum[n](x*(rank[n](y) - rank[n](x, order = descending)))/size(n)
""", of="rank")
def spearman(x: Any, y: Any) -> Any:
    n = len(x)
    return sum(x[i]*(sum(y[j] < y[i] for j in range(n)) - sum(x[j] > x[i] for j in range(n))) for i in range(n))/n


@feature("""
pull_push(x: real[n, d], c: label[n]; m: positive = 1) =
    mean[i in n, j in n](piecewise(sqdist(x[i], x[j]) if c[i] == c[j], relu(m - euclidean(x[i], x[j]))^2 otherwise))
""", of="label")
def pull_push(x: Any, c: Any, m: Any) -> Any:
    out = []
    for i, j in itertools.product(range(len(x)), repeat=2):
        far = math.dist(x[i], x[j])
        out.append(far**2 if c[i] == c[j] else max(0, m - far)**2)
    return sum(out)/len(out)


@feature("""
normalised(s: logit[n, k], y: class(k)[n]) = sum[n](logsumexp[k](s) - s[n, y])/(size(n)*log(1 + size(k)))
""", of="axsize")
def normalised(s: Any, y: Any) -> Any:
    n, k = s.shape
    return sum(math.log(sum(math.exp(v) for v in s[i])) - s[i, y[i]] for i in range(n))/(n*math.log(1 + k))


@feature("""
emd(p: unit[k], q: unit[k]; r: positive = 2) = mean[k](abs(cumsum[k](p) - cumsum[k](q))^r)^(1/r)
""", of="cumsum")
def emd(p: Any, q: Any, r: Any) -> Any:
    return (sum(abs(sum(p[: k + 1]) - sum(q[: k + 1]))**r for k in range(len(p)))/len(p))**(1/r)


@feature("""
listmle(s: real[n], y: nonnegative[n]) =
    sum[p in n](logsumexp[k in n | k >= p](t[k]) - t[p])
    where t[p] = s[argsort[n](y, order = descending)[p]]
  wrt s
""", of="cumsum")
def listmle(s: Any, y: Any) -> Any:
    t = [s[i] for i in sorted(range(len(s)), key=lambda i: -y[i])]
    return sum(math.log(sum(math.exp(v) for v in t[p:])) - t[p] for p in range(len(t)))


@feature("""
ignoring(s: logit[n, k], y: class(k, ignore = -100)[n]) = mean[n](logsumexp[k](s) - s[n, y])
""", of="ignore", make=lambda rng, sizes: {"s": rng.normal(size=(sizes["n"], sizes["k"])), "y": np.array([0, -100, sizes["k"] - 1, -100, 0])[: sizes["n"]]})
def ignoring(s: Any, y: Any) -> Any:
    rows = [math.log(sum(math.exp(v) for v in s[i])) - s[i, y[i]] for i in range(len(s)) if y[i] != -100]
    return sum(rows)/len(rows)


@feature("""
vae(xhat: real[m], x: real[m], mu: real[d], logvar: real[d], noise: real[d], w: real[m, d]) =
    sum[m]((x - xhat - sum[d](w*z))^2) + sum[d](exp(logvar) + mu^2 - 1 - logvar)/2
    where z = mu + exp(logvar/2)*noise
  wrt xhat, mu, logvar
""", of="random")
def vae(xhat: Any, x: Any, mu: Any, logvar: Any, noise: Any, w: Any) -> Any:
    z = [a + math.exp(b/2)*e for a, b, e in zip(mu, logvar, noise, strict=True)]
    rec = sum((x[i] - xhat[i] - sum(w[i, k]*z[k] for k in range(len(z))))**2 for i in range(len(x)))
    return rec + sum(math.exp(b) + a*a - 1 - b for a, b in zip(mu, logvar, strict=True))/2


# -- indices ------------------------------------------------------------------------------------------------------------


@feature("""
smoothness(u: real[n]) = sum[n | n + 2 < size(n)]((u[n + 2] - 2*u[n + 1] + u)^2) + abs(u[0] - u[n = size(n) - 1])
""", of="idxarith")
def smoothness(u: Any) -> Any:
    return sum((u[i + 2] - 2*u[i + 1] + u[i])**2 for i in range(len(u) - 2)) + abs(u[0] - u[-1])


@feature("""
ntxent_stacked(u: real[n, d], v: real[n, d]; tau: positive = 0.5) =
    mean[a in 0..2*size(n) - 1](logsumexp[b in 0..2*size(n) - 1 | b != a](s(a, b)) - s(a, piecewise(a + size(n) if a < size(n), a - size(n) otherwise)))
    where z(a)    = piecewise(u[n = a] if a < size(n), v[n = a - size(n)] otherwise)
          s(a, b) = sum[d](z(a)*z(b))/tau
  wrt u, v
""", of="concat")
def ntxent_stacked(u: Any, v: Any, tau: Any) -> Any:
    z = [*u, *v]
    n = len(u)
    s = [[sum(p*q for p, q in zip(a, b, strict=True))/tau for b in z] for a in z]
    return sum(math.log(sum(math.exp(s[a][b]) for b in range(2*n) if b != a)) - s[a][(a + n) % (2*n)] for a in range(2*n))/(2*n)


@feature("""
barlow(c: real[i, j in i]; lam: positive = 0.1) = sum[i]((1 - c[i, i])^2) + lam*sum[i, j | i != j](c^2)
""", of="diag")
def barlow(c: Any, lam: Any) -> Any:
    n = len(c)
    return sum((1 - c[i, i])**2 for i in range(n)) + lam*sum(c[i, j]**2 for i in range(n) for j in range(n) if i != j)


@feature("""
quantile_loss(f: real[n], y: real[n]; q: unit = 0.3) = mean[n]((q - (y < f))*(y - f) + (y > 0)*f^2)
""", of="iverson")
def quantile_loss(f: Any, y: Any, q: Any) -> Any:
    return sum((q - (b < a))*(b - a) + (b > 0)*a*a for a, b in zip(f, y, strict=True))/len(f)


@feature("""
proxy_softmax(x: real[d], y: class(k), proxy: real[k, d], logscale: real) = logsumexp[k](s) - s[y]
    where s[k] = exp(logscale)*cosine(x, proxy[k])
  wrt x, proxy, logscale
""", of="param")
def proxy_softmax(x: Any, y: Any, proxy: Any, logscale: Any) -> Any:
    s = [math.exp(logscale)*sum(a*b for a, b in zip(x, p, strict=True))/(math.hypot(*x)*math.hypot(*p)) for p in proxy]
    return math.log(sum(math.exp(v) for v in s)) - s[y]


@feature("""
sinkhorn(s: real[i, j]) = -sum[i, j](exp(x)*s)
    where x       = step(step(step(s)))
          rows(m) = m - logsumexp[j](m)
          cols(m) = m - logsumexp[i](m)
          step(m) = cols(rows(m))
""", of="iterate")
def sinkhorn(s: Any) -> Any:
    x = s
    for _ in range(3):
        x = x - special.logsumexp(x, axis=1, keepdims=True)
        x = x - special.logsumexp(x, axis=0, keepdims=True)
    return -(np.exp(x)*s).sum()


@feature("""
td_lambda(v: real[t], r: real[t], last: real; gamma: unit = 0.9, lam: unit = 0.8) = mean[t]((v - stop(G))^2)
    where G[t] = r[t] + gamma*piecewise((1 - lam)*v[t + 1] + lam*G[t + 1] if t + 1 < size(t), last otherwise)
  wrt v
""", of="scan", stops=True)
def td_lambda(v: Any, r: Any, last: Any, gamma: Any, lam: Any) -> Any:
    g, ahead = [0.0]*len(v), last
    for t in reversed(range(len(v))):
        g[t] = r[t] + gamma*ahead
        ahead = (1 - lam)*v[t] + lam*g[t]
    return sum((a - b)**2 for a, b in zip(v, g, strict=True))/len(v)


@feature("""
hmm_forward(e: logprob[t, k], a: logprob[k, j in k]) = -logsumexp[k](alpha[t = size(t) - 1])
    where alpha[t, k] = e[t, k] + piecewise(logsumexp[j](alpha[t - 1, j] + a[j, k]) if t > 0, 0 otherwise)
  wrt e, a
""", of="scan")
def hmm_forward(e: Any, a: Any) -> Any:
    alpha = list(e[0])
    for t in range(1, len(e)):
        alpha = [e[t, k] + math.log(sum(math.exp(alpha[j] + a[j, k]) for j in range(len(alpha)))) for k in range(len(alpha))]
    return -math.log(sum(math.exp(v) for v in alpha))


@feature("""
grouped_softmax(s: real[n], y: binary[n], g: label[n]) =
    sum[i in n | y[i] == 1](logsumexp[j in n | g[j] == g[i]](s[j]) - s[i])
""", of="segment")
def grouped_softmax(s: Any, y: Any, g: Any) -> Any:
    n = len(s)
    return sum(math.log(sum(math.exp(s[j]) for j in range(n) if g[j] == g[i])) - s[i] for i in range(n) if y[i] == 1)


@feature("""
ordinal(s: logit[k], y: class(k)) = mean[k](softplus(s) - (k < y)*s) + sum[i in k, j in k | i < j](relu(s[j] - s[i]))
""", of="idxorder")
def ordinal(s: Any, y: Any) -> Any:
    k = len(s)
    first = sum(math.log1p(math.exp(s[i])) - (i < y)*s[i] for i in range(k))/k
    return first + sum(max(0, s[j] - s[i]) for i in range(k) for j in range(i + 1, k))


@feature("""
vicreg_terms(z: real[n, d]; eps: positive = 1e-4) = mean[d](relu(1 - std[n](z, ddof = 0) - eps)) + sum[d](var[n](z)) + mean[n](var[d](z, ddof = 0.5))
""", of="variance", sizes={"n": (4, 2, 3)})
def vicreg_terms(z: Any, eps: Any) -> Any:
    n, d = z.shape
    columns = [sum((v - sum(c)/n)**2 for v in c)/n for c in z.T]
    rows = [sum((v - sum(r)/d)**2 for v in r)/(d - 0.5) for r in z]
    return sum(max(0, 1 - math.sqrt(v) - eps) for v in columns)/d + sum(columns) + sum(rows)/n


@feature("""
hard_negatives(s: real[n], t: real[m]; margin: positive = 0.5) = mean[n, m | t > s - margin](t - s + margin, default = 0)
  wrt s, t
""", of="dmask")
def hard_negatives(s: Any, t: Any, margin: Any) -> Any:
    over = [b - a + margin for a in s for b in t if b > a - margin]
    return sum(over)/len(over) if over else 0


@feature("""
ssim(u: real[h, w], v: real[h, w]; r: nonnegative = 1, c: positive = 0.1) =
    1 - mean[i in h, j in w | i >= r and i + r < size(h) and j >= r and j + r < size(w)](
        (2*mu(u, i, j)*mu(v, i, j) + c)*(2*cov(u, v, i, j) + c)
        /((mu(u, i, j)^2 + mu(v, i, j)^2 + c)*(cov(u, u, i, j) + cov(v, v, i, j) + c)), default = 0)
    where mu(x, i, j)     = mean[h, w | abs(h - i) <= r and abs(w - j) <= r](x)
          cov(x, y, i, j) = mu(x*y, i, j) - mu(x, i, j)*mu(y, i, j)
""", of="window", sizes={"h": (4, 1, 3), "w": (3, 1, 4)})
def ssim(u: Any, v: Any, r: Any, c: Any) -> Any:
    out = []
    for i in range(r, len(u) - r):
        for j in range(r, u.shape[1] - r):
            a, b = (x[i - r:i + r + 1, j - r:j + r + 1].ravel() for x in (u, v))
            ma, mb = a.mean(), b.mean()
            cov = [((x - x.mean())*(y - y.mean())).mean() for x, y in ((a, b), (a, a), (b, b))]
            out.append((2*ma*mb + c)*(2*cov[0] + c)/((ma**2 + mb**2 + c)*(cov[1] + cov[2] + c)))
    return 1 - sum(out)/len(out) if out else 1


@feature("""
ema_teacher(s: logit[k], teacher: logit[k], centre: real[k]; t: positive = 0.1) =
    -sum[k](softmax[k]((stop(teacher) - stop(centre))/t)*log_softmax[k](s))
  wrt s
""", of="state")
def ema_teacher(s: Any, teacher: Any, centre: Any, t: Any) -> Any:
    z = (teacher - centre)/t
    weights = [math.exp(v - max(z)) for v in z]
    log_z = math.log(sum(math.exp(v) for v in s))
    return -sum(w*(v - log_z) for w, v in zip(weights, s, strict=True))/sum(weights)


@feature("""
all_triplets(x: real[n, d], c: label[n]; m: positive = 0.5) =
    mean[i, j, k in n | i != j and c[i] == c[j] and c[i] != c[k]](relu(sqdist(x[i], x[j]) - sqdist(x[i], x[k]) + m), default = 0)
""", of="triple")
def all_triplets(x: Any, c: Any, m: Any) -> Any:
    out = []
    for i, j, k in itertools.product(range(len(x)), repeat=3):
        if i != j and c[i] == c[j] and c[i] != c[k]:
            out.append(max(0, math.dist(x[i], x[j])**2 - math.dist(x[i], x[k])**2 + m))
    return sum(out)/len(out) if out else 0


@feature("""
box_area(b: real[n, q = 4], g: real[n, q = 4]) = mean[n](abs((b[n, 2] - b[n, 0])*(b[n, 3] - b[n, 1]) - (g[n, 2] - g[n, 0])*(g[n, 3] - g[n, 1])))
""", of="const_index", sizes={"q": (4,)})
def box_area(b: Any, g: Any) -> Any:
    return sum(abs((p[2] - p[0])*(p[3] - p[1]) - (o[2] - o[0])*(o[3] - o[1])) for p, o in zip(b, g, strict=True))/len(b)


@feature("""
foreground_only(p: unit[n, c], y: class(c)[n]) = mean[n](sum[c | c > 0]((p - (c == y))^2)) + sum[n, c | c < 2](p)
""", of="slice")
def foreground_only(p: Any, y: Any) -> Any:
    n, k = p.shape
    return sum((p[i, c] - (c == y[i]))**2 for i in range(n) for c in range(1, k))/n + sum(sum(row[:2]) for row in p)


@feature("""
cost_sensitive(s: logit[n, k], y: class(k)[n], cost: real[k, j in k], w: positive[k]) =
    mean[n](w[y]*(logsumexp[k](s) - s[n, y]) + sum[i in k](cost[y, i]*softmax[k](s)[i]))
""", of="table")
def cost_sensitive(s: Any, y: Any, cost: Any, w: Any) -> Any:
    out = 0.0
    for row, c in zip(s, y, strict=True):
        z = sum(math.exp(v) for v in row)
        out += w[c]*(math.log(z) - row[c]) + sum(cost[c, k]*math.exp(v)/z for k, v in enumerate(row))
    return out/len(s)


@feature("""
angular(a: real[d], b: real[d], t: real; m: real = 0.2) = cos(acos(0.9*cosine(a, b)) + m) + sin(t)^2 + atan(t)*tan(t/4)
  wrt a, b, t
""", of="trig")
def angular(a: Any, b: Any, t: Any, m: Any) -> Any:
    c = sum(p*q for p, q in zip(a, b, strict=True))/(math.hypot(*a)*math.hypot(*b))
    return math.cos(math.acos(0.9*c) + m) + math.sin(t)**2 + math.atan(t)*math.tan(t/4)


@feature("""
gain(s: positive[n], y: nonnegative[n]) = sum[n]((2^y - 1)*s^(1 + y)/log2(2 + rank[n](y)))
  wrt s, y
""", of="powdata")
def gain(s: Any, y: Any) -> Any:
    return sum((2**b - 1)*a**(1 + b)/math.log2(3 + sum(c < b for c in y)) for a, b in zip(s, y, strict=True))


@feature("""
kl_with_zeros(p: unit[k], q: unit[k]) = sum[k](q*log(q/p))
""", of="xlogy", make=lambda rng, sizes: {"p": 0.1 + 0.8*rng.random(sizes["k"]), "q": rng.random(sizes["k"])*(rng.random(sizes["k"]) < 0.5)})
def kl_with_zeros(p: Any, q: Any) -> Any:
    return sum(b*math.log(b/a) for a, b in zip(p, q, strict=True) if b > 0)


@feature("""
subcentres(x: real[(k, s = 3)], y: class(k)) = logsumexp[k](best) - best[y]
    where best[k] = max[s](x[k, s])
""", of="reshape", make=lambda rng, sizes: {"x": rng.normal(size=3*sizes["k"]), "y": np.array(0)}, sizes={"s": (3,)})
def subcentres(x: Any, y: Any) -> Any:
    best = [max(x[3*k:3*k + 3]) for k in range(len(x)//3)]
    return math.log(sum(math.exp(v) for v in best)) - best[y]


@feature("""
median_error(f: real[n], y: real[n]; q: unit = 0.5) = (1 - w)*e[lo] + w*e[min(lo + 1, size(n) - 1)]
    where e[p] = sort[n](abs(f - y))[p]
          at = q*(size(n) - 1)
          lo = floor(at)
          w  = at - lo
""", of="quantile", bind=({}, {"q": 0.9}, {"q": 0}, {"q": 1}))
def median_error(f: Any, y: Any, q: Any) -> Any:
    return np.quantile(abs(f - y), q)


@feature("""
siamese_matrix(u: real[i, d], v: real[j in i, d], t: binary[i, j in i]) = mean[i, j](softplus(s) - t*s)
    where s[i, j] = dot(u[i], v[j])
  wrt u, v
""", of="axisalias", sizes={"i": (4, 1, 3), "j": (4, 1, 3)}, make=lambda rng, sizes: {
    "u": rng.normal(size=(sizes["i"], sizes["d"])), "v": rng.normal(size=(sizes["i"], sizes["d"])),
    "t": (rng.random((sizes["i"], sizes["i"])) < 0.5)*1.0})
def siamese_matrix(u: Any, v: Any, t: Any) -> Any:
    n = len(u)
    s = [[sum(a*b for a, b in zip(u[i], v[j], strict=True)) for j in range(n)] for i in range(n)]
    return sum(math.log1p(math.exp(s[i][j])) - t[i, j]*s[i][j] for i in range(n) for j in range(n))/n**2


@feature("""
nearest_code(x: real[d], e: real[k, d]) = sqdist(x, q) + norm(e[argmax[k](sqdist(x, e[k]))])
    where q = e[k = argmin[k](sqdist(x, e[k]))]
  wrt x, e
""", of="argmax")
def nearest_code(x: Any, e: Any) -> Any:
    far = [math.dist(x, row)**2 for row in e]
    return min(far) + math.hypot(*e[far.index(max(far))])


@feature("""
top_k(s: logit[n, c]; k: nonnegative = 2) = mean[n](sum[p in c | p < k](sort[c](s, order = descending)[p]))
""", of="topk", bind=({}, {"k": 1}, {"k": 0}, {"k": 9}))
def top_k(s: Any, k: Any) -> Any:
    return sum(sum(sorted(row, reverse=True)[:k]) for row in s)/len(s)


@feature("""
with_null_class(s: logit[k], y: binary[k]; bias: real = 0.5) = softplus_all - sum[k](y*s)
    where padded(j)    = piecewise(bias if j == 0, s[k = j - 1] otherwise)
          softplus_all = logsumexp[j in 0..size(k)](padded(j))
""", of="padconst")
def with_null_class(s: Any, y: Any, bias: Any) -> Any:
    return math.log(math.exp(bias) + sum(math.exp(v) for v in s)) - sum(a*b for a, b in zip(s, y, strict=True))


@feature("""
rows_with_a_hit(s: real[n, k], t: binary[n, k]) =
    sum[n | any[k](t == 1) and not all[k](t == 1)](max[k | t == 1](s) - min[k | t == 0](s))
""", of="anyall")
def rows_with_a_hit(s: Any, t: Any) -> Any:
    out = 0.0
    for row, hit in zip(s, t, strict=True):
        if 0 < sum(hit) < len(hit):
            out += max(v for v, h in zip(row, hit, strict=True) if h) - min(v for v, h in zip(row, hit, strict=True) if not h)
    return out


@feature("""
dfl(s: logit[k], y: nonnegative) = -(lo + 1 - t)*lp[lo] - (t - lo)*lp[min(lo + 1, size(k) - 1)]
    where t     = min(y, size(k) - 1)
          lo    = floor(t)
          lp[k] = log_softmax[k](s)
""", of="floor")
def dfl(s: Any, y: Any) -> Any:
    z = math.log(sum(math.exp(v) for v in s))
    t = min(y, len(s) - 1)
    lo = math.floor(t)
    return -(lo + 1 - t)*(s[lo] - z) - (t - lo)*(s[min(lo + 1, len(s) - 1)] - z)


@feature("""
dirichlet_kl(a: positive[k]) = lgamma(sum[k](a)) - lgamma(size(k)) - sum[k](lgamma(a)) + sum[k]((a - 1)*(digamma(a) - digamma(sum[k](a))))
""", of="gamma")
def dirichlet_kl(a: Any) -> Any:
    total = sum(a)
    out = math.lgamma(total) - math.lgamma(len(a)) - sum(math.lgamma(v) for v in a)
    return out + sum((v - 1)*(special.digamma(v) - special.digamma(total)) for v in a)


@feature("""
mean_of_class_means(x: real[n], c: label[n]) = mean[i in n | first[i]](mean[j in n | c[j] == c[i]](x[j])^2)
    where first[i] = not any[j in n | j < i](c[j] == c[i])
""", of="unique")
def mean_of_class_means(x: Any, c: Any) -> Any:
    means = [np.mean([v for v, b in zip(x, c, strict=True) if b == a])**2 for a in dict.fromkeys(c.tolist())]
    return sum(means)/len(means)


@feature("""
gaussian_entropy(logvar: real[d]) = sum[d](log(2*pi) + 1 + logvar)/2
""", of="const")
def gaussian_entropy(logvar: Any) -> Any:
    return sum(math.log(2*math.pi) + 1 + v for v in logvar)/2


@feature("""
calibration(p: unit[n], y: binary[n]; bins: integer = 5) =
    sum[b in 0..bins - 1](abs(sum[n | floor(p*bins) == b](p - y)))/size(n)
""", of="histogram")
def calibration(p: Any, y: Any, bins: Any) -> Any:
    return sum(abs(sum(v - t for v, t in zip(p, y, strict=True) if math.floor(v*bins) == b)) for b in range(bins))/len(p)


@feature("""
crps_on_a_grid(mu: real, sigma: positive, y: real; m: integer = 40) =
    sum[q in 0..m]((ncdf((x(q) - mu)/sigma) - (x(q) >= y))^2)*8/m
    where x(q)    = 8*q/m - 4
          ncdf(u) = (1 + erf(u/sqrt(2)))/2
  wrt mu, sigma
""", of="quad")
def crps_on_a_grid(mu: Any, sigma: Any, y: Any, m: Any) -> Any:
    grid = [8*q/m - 4 for q in range(m + 1)]
    return sum(((1 + math.erf((x - mu)/sigma/math.sqrt(2)))/2 - (x >= y))**2 for x in grid)*8/m


@feature("""
input_gradient(x: real[d], w: real[k, d], v: real[k]) = (norm(grad[x](sum[k](v*tanh(sum[d](w*x))))) - 1)^2
  wrt x, w, v
""", of="modelgrad")
def input_gradient(x: Any, w: Any, v: Any) -> Any:
    slope = [v[k]*(1 - math.tanh(sum(w[k, j]*x[j] for j in range(len(x))))**2) for k in range(len(v))]
    return (math.hypot(*(sum(slope[k]*w[k, d] for k in range(len(v))) for d in range(len(x)))) - 1)**2


@feature("""
listed_pairs(s: real[n], a: class(n)[m], b: class(n)[m]) = mean[m](softplus(s[b] - s[a]))
""", of="indexpairs")
def listed_pairs(s: Any, a: Any, b: Any) -> Any:
    return sum(math.log1p(math.exp(s[j] - s[i])) for i, j in zip(a, b, strict=True))/len(a)


@feature("""
probit(s: real[n], y: sign[n]) = -mean[n](log((1 + erf(y*s/sqrt(2)))/2)) + mean[n](erfc(s))
""", of="erf")
def probit(s: Any, y: Any) -> Any:
    return sum(-special.log_ndtr(a*b) + math.erfc(a) for a, b in zip(s, y, strict=True))/len(s)


@feature("""
banned_words(s: logit[k], banned: class(k)[m], y: class(k)) =
    -sum[k | any[m](banned == k) and k != y](log(1 - softmax[k](s)))
""", of="setmember", sizes={"m": (3, 1, 2)})
def banned_words(s: Any, banned: Any, y: Any) -> Any:
    z = sum(math.exp(v) for v in s)
    return -sum(math.log(1 - math.exp(s[k])/z) for k in range(len(s)) if k in banned and k != y)


@feature("""
pit_three(x: real[n = 3, t], y: real[n = 3, t]) = min[a in n, b in n, c in n | a != b and b != c and a != c](d(0, a) + d(1, b) + d(2, c))/3
    where d(i, j) = mean[t]((x[i, t] - y[j, t])^2)
""", of="permutations", sizes={"n": (3,)})
def pit_three(x: Any, y: Any) -> Any:
    return min(sum(np.mean((x[i] - y[p[i]])**2) for i in range(3)) for p in itertools.permutations(range(3)))/3


@feature("""
bag_counts(w: real[n], word: class(k)[n], target: real[k]) = sum[k]((sum[n | word == k](w) - target)^2)
""", of="scatter")
def bag_counts(w: Any, word: Any, target: Any) -> Any:
    return sum((sum(v for v, c in zip(w, word, strict=True) if c == k) - target[k])**2 for k in range(len(target)))


@feature("""
leaders(x: real[n, d], c: label[n]) = mean[i in n](sqdist(x[i], x[n = leader[i]]))
    where leader[i] = argmax[j in n | c[j] == c[i]](0)
""", of="firstof")
def leaders(x: Any, c: Any) -> Any:
    return sum(math.dist(x[i], x[c.tolist().index(c[i])])**2 for i in range(len(x)))/len(x)


# -- the laws -----------------------------------------------------------------------------------------------------------


def test_every_feature_is_answered() -> None:
    met = {case.of for case in CASES}
    assert met <= set(FEATURES)
    assert set(FEATURES) - met == set(IN_THE_DOCS)
    text = DOCS.read_text(encoding="utf-8")
    assert all(f'<a id="{name}">' in text for name in IN_THE_DOCS)


@pytest.mark.parametrize("case", named(CASES))
def test_value_and_gradient(case: Case) -> None:
    case.check_numpy()


@pytest.mark.parametrize("case", named(CASES))
def test_torch_agrees(case: Case) -> None:
    case.check_torch()


@pytest.mark.parametrize("case", named(CASES))
def test_it_reads_back(case: Case) -> None:
    case.check_text()
