"""Losses as other libraries compute them, written as a reader of the language would, beside plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from formulas import Case, collector, named
from scipy import special

LOSSES: list[Case] = []
loss = collector(LOSSES)


# -- what the formulas share --------------------------------------------------------------------------------------------


def logsumexp(x: Any, axis: int = -1) -> Any:
    return special.logsumexp(x, axis=axis) if np.size(x) else -np.inf


def log_softmax(x: Any, axis: int = -1) -> Any:
    return special.log_softmax(x, axis=axis)


def softmax(x: Any, axis: int = -1) -> Any:
    return special.softmax(x, axis=axis)


def sigmoid(x: Any) -> Any:
    return special.expit(x)


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def huber(u: Any) -> Any:
    return np.where(abs(u) <= 1, u*u/2, abs(u) - 0.5)


def unit(x: Any) -> Any:
    return x/np.linalg.norm(x, axis=-1, keepdims=True)


def cosines(a: Any, b: Any) -> Any:
    return unit(a)@unit(b).T


def distances(a: Any, b: Any) -> Any:
    return np.sqrt(((a[:, None] - b[None])**2).sum(-1))


def mean_or_zero(values: Sequence[Any]) -> Any:
    return np.mean(values) if len(values) else 0.0


def box(rng: np.random.Generator) -> Any:
    corner = rng.random(2)
    return np.concatenate([corner, corner + 0.2 + rng.random(2)])


def area(b: Any) -> Any:
    return (b[2] - b[0])*(b[3] - b[1])


def overlap(a: Any, b: Any) -> Any:
    return relu(min(a[2], b[2]) - max(a[0], b[0]))*relu(min(a[3], b[3]) - max(a[1], b[1]))


# -- the losses -------------------------------------------------------------------------------------------------------------


@loss("""
smooth_l1(beta: positive = 1) = piecewise(r^2/(2*beta) if abs(r) < beta, abs(r) - beta/2 otherwise)
""", of="torch")
def smooth_l1(f: Any, y: Any, beta: Any) -> Any:
    return (f - y) ** 2 / (2 * beta) if abs(f - y) < beta else abs(f - y) - beta / 2


@loss("""
bce_logits_pos_weight(s: logit, y: unit; pos_weight: positive = 2) =
        (1 - y)*s + (1 + (pos_weight - 1)*y)*(log(1 + exp(-abs(s))) + max(-s, 0))
""", of="torch")
def bce_logits_pos_weight(s: Any, y: Any, pos_weight: Any) -> Any:
    return (1 - y) * s + (1 + (pos_weight - 1) * y) * softplus(-s)


@loss("""
nll_ignore(lp: logprob[n, c], y: class(c, ignore = -100)[n]) = mean[n](-lp[n, y])
""", of="torch")
def nll_ignore(lp: Any, y: Any) -> Any:
    return (-lp[np.arange(len(y)), y])[y != -100].mean()


@loss("""
ce_weight_smooth(s: logit[c], y: class(c), w: nonnegative[c]; eps: unit = 0.1) =
        -(1 - eps)*w[y]*log_softmax[c](s)[y] - eps/size(c)*sum[c](w*log_softmax[c](s))
""", of="torch")
def ce_weight_smooth(s: Any, y: Any, w: Any, eps: Any) -> Any:
    return -(1 - eps) * w[y] * log_softmax(s)[y] - eps / len(s) * (w * log_softmax(s)).sum()


@loss("""
poisson_nll(f, y: nonnegative) =
        exp(f) - y*f + piecewise(y*log(y) - y + 0.5*log(2*pi*y) if y > 1, 0 otherwise)
""", of="torch")
def poisson_nll(f: Any, y: Any) -> Any:
    return np.exp(f) - y * f + (y * np.log(y) - y + 0.5 * np.log(2 * np.pi * y) if y > 1 else 0)


@loss("""
cosine_embedding(a: real[d], b: real[d], y: sign; margin: real = 0) =
        piecewise(1 - cosine(a, b) if y == 1, max(0, cosine(a, b) - margin) otherwise)
""", of="torch")
def cosine_embedding(a: Any, b: Any, y: Any, margin: Any) -> Any:
    return 1 - unit(a) @ unit(b) if y == 1 else max(0, unit(a) @ unit(b) - margin)


@loss("""
multi_margin(s: real[k], y: class(k); p: positive = 1, margin: real = 1) =
        sum[k | k != y](max(0, margin - s[y] + s)^p)/size(k)
""", of="torch")
def multi_margin(s: Any, y: Any, p: Any, margin: Any) -> Any:
    return sum(max(0, margin - s[y] + s[i]) ** p for i in range(len(s)) if i != y) / len(s)


@loss("""
multilabel_margin(x: real[c], t: binary[c]) =
        sum[i in c, j in c | t[i] == 1 and t[j] == 0](max(0, 1 - (x[i] - x[j])))/size(c)
""", of="torch")
def multilabel_margin(x: Any, t: Any) -> Any:
    return sum(max(0, 1 - (x[i] - x[j])) for i in range(len(x)) for j in range(len(x)) if t[i] == 1 and t[j] == 0) / len(x)


@loss("""
triplet_margin(a: real[d], p: real[d], n: real[d]; margin: nonnegative = 1, P: positive = 2, eps: positive = 1e-6) =
        max(dst(a, p) - dst(a, n) + margin, 0)
        where dst(u, v) = sum[d](abs(u - v + eps)^P)^(1/P)
""", of="torch")
def triplet_margin(a: Any, p: Any, n: Any, margin: Any, P: Any, eps: Any) -> Any:
    return max((abs(a - p + eps) ** P).sum() ** (1 / P) - (abs(a - n + eps) ** P).sum() ** (1 / P) + margin, 0)


@loss("""
triplet_swap(a: real[d], p: real[d], n: real[d]; margin: positive = 1) =
        relu(euclidean(a, p) - min(euclidean(a, n), euclidean(p, n)) + margin)
  wrt a, p, n
""", of="torch")
def triplet_swap(a: Any, p: Any, n: Any, margin: Any) -> Any:
    return relu(np.linalg.norm(a - p) - min(np.linalg.norm(a - n), np.linalg.norm(p - n)) + margin)


@loss("""
msle(f: nonnegative[n], y: nonnegative[n]) =
        mean[n]((log(max(y, 1e-7) + 1) - log(max(f, 1e-7) + 1))^2)
""", of="keras")
def msle(f: Any, y: Any) -> Any:
    return np.mean((np.log1p(np.maximum(y, 1e-07)) - np.log1p(np.maximum(f, 1e-07))) ** 2)


@loss("""
categorical_hinge(f: real[k], y: simplex[k]) = max(0, neg - pos + 1)
        where pos = sum[k](y*f)
              neg = max[k]((1 - y)*f)
""", of="keras")
def categorical_hinge(f: Any, y: Any) -> Any:
    return max(0, max((1 - y) * f) - (y * f).sum() + 1)


@loss("""
cce(p: nonnegative[k], y: simplex[k]) = -sum[k](y*log(clip(q, 1e-7, 1 - 1e-7)))
        where q = p/sum[k](p)
""", of="keras")
def cce(p: Any, y: Any) -> Any:
    return -(y * np.log(np.clip(p / p.sum(), 1e-07, 1 - 1e-07))).sum()


@loss("""
sigmoid_focal(s: logit, y: binary; alpha: unit = 0.25, gamma: nonnegative = 2) =
        a*(1 - pt)^gamma*ce
        where p = sigmoid(s)
              ce = softplus(s) - s*y
              pt = p*y + (1 - p)*(1 - y)
              a = alpha*y + (1 - alpha)*(1 - y)
""", of="torchvision")
def sigmoid_focal(s: Any, y: Any, alpha: Any, gamma: Any) -> Any:
    return (alpha if y == 1 else 1 - alpha) * sigmoid(-s if y == 1 else s) ** gamma * (softplus(s) - s * y)


@loss("""
poly1(s: logit[k], y: simplex[k]; eps: real = 2) =
        sum[k](-y*log_softmax[k](s)) + eps*(1 - sum[k](y*softmax[k](s)))
""", of="optax")
def poly1(s: Any, y: Any, eps: Any) -> Any:
    return -(y * log_softmax(s)).sum() + eps * (1 - (y * softmax(s)).sum())


@loss("""
sparsemax_hinge(s: real, y: binary) = piecewise(0 if t >= 1, 1/4*(1 - t)^2 if t > -1, -t otherwise)
        where t = (2*y - 1)*s
""", of="optax")
def sparsemax_hinge(s: Any, y: Any) -> Any:
    return 0 if (2 * y - 1) * s >= 1 else (1 - (2 * y - 1) * s) ** 2 / 4 if (2 * y - 1) * s > -1 else -(2 * y - 1) * s


@loss("""
dice_multiclass(s: logit[c, h, w], y: class(c)[h, w]; smooth: nonnegative = 0, eps: positive = 1e-7) =
        mean[c](1 - (2*sum[h, w](p*t) + smooth)/max(sum[h, w](p + t) + smooth, eps))
        where p = softmax[c](s)
              t[c, h, w] = (c == y)
""", of="monai")
def dice_multiclass(s: Any, y: Any, smooth: Any, eps: Any) -> Any:
    p = softmax(s, 0)
    t = np.arange(len(s))[:, None, None] == y
    return np.mean(1 - (2 * (p * t).sum((1, 2)) + smooth) / np.maximum((p + t).sum((1, 2)) + smooth, eps))


@loss("""
focal_tversky(p: unit[n], y: unit[n]; alpha: unit = 0.7, gamma: positive = 0.75) = (1 - tv)^gamma
        where tv = tp/(tp + alpha*sum[n]((1 - p)*y) + (1 - alpha)*sum[n](p*(1 - y)))
              tp = sum[n](p*y)
""", of="monai")
def focal_tversky(p: Any, y: Any, alpha: Any, gamma: Any) -> Any:
    return (1 - (p * y).sum() / ((p * y).sum() + alpha * ((1 - p) * y).sum() + (1 - alpha) * (p * (1 - y)).sum())) ** gamma


@loss("""
generalized_dice(p: simplex(c)[c, n], y: binary[c, n]; eps: positive = 1e-6) =
        1 - 2*sum[c](w*sum[n](p*y))/max(sum[c](w*sum[n](p + y)), eps)
        where w[c] = 1/max(sum[n](y)^2, eps)
""", of="monai")
def generalized_dice(p: Any, y: Any, eps: Any) -> Any:
    return 1 - 2 * ((p * y).sum(1) / np.maximum(y.sum(1) ** 2, eps)).sum() / max(((p + y).sum(1) / np.maximum(y.sum(1) ** 2, eps)).sum(), eps)


@loss("""
mcc(p: unit[n], y: binary[n]; eps: nonnegative = 1e-5) = 1 - num/den
        where num = tp*tn - fp*fn
              den = sqrt((tp + fp + eps)*(tp + fn + eps)*(tn + fp + eps)*(tn + fn + eps))
              tp = sum[n](p*y) + eps
              tn = sum[n]((1 - p)*(1 - y)) + eps
              fp = sum[n](p*(1 - y)) + eps
              fn = sum[n]((1 - p)*y) + eps
""", of="smp")
def mcc(p: Any, y: Any, eps: Any) -> Any:
    tp = (p * y).sum() + eps
    tn = ((1 - p) * (1 - y)).sum() + eps
    fp = (p * (1 - y)).sum() + eps
    fn = ((1 - p) * y).sum() + eps
    return 1 - (tp * tn - fp * fn) / np.sqrt((tp + fp + eps) * (tp + fn + eps) * (tn + fp + eps) * (tn + fn + eps))


@loss("""
boundary_loss(s: logit[c, n], phi: real[c, n]) = mean[c, n | c >= 1](softmax[c](s)*phi)
""", of="monai", sizes={"c": (2, 3, 4)})
def boundary_loss(s: Any, phi: Any) -> Any:
    return (softmax(s, 0) * phi)[1:].mean()


@loss("""
iou(b: real[q], g: real[q]) = 1 - inter/(area(b) + area(g) - inter)
        where area(u) = (u[2] - u[0])*(u[3] - u[1])
              inter = relu(min(b[2], g[2]) - max(b[0], g[0]))*relu(min(b[3], g[3]) - max(b[1], g[1]))
""", of="mmdet", sizes={"q": (4,)}, make=lambda rng, sizes: {"b": box(rng), "g": box(rng)})
def iou(b: Any, g: Any) -> Any:
    i = overlap(b, g)
    return 1 - i / (area(b) + area(g) - i)


@loss("""
giou(x1, y1, x2, y2, a1, b1, a2, b2) = 1 - i/u + (c - u)/c
        where i = relu(min(x2, a2) - max(x1, a1))*relu(min(y2, b2) - max(y1, b1))
              u = (x2 - x1)*(y2 - y1) + (a2 - a1)*(b2 - b1) - i
              c = (max(x2, a2) - min(x1, a1))*(max(y2, b2) - min(y1, b1))
  wrt x1, y1, x2, y2
""", of="mmdet", make=lambda rng, sizes: dict(zip(['x1', 'y1', 'x2', 'y2', 'a1', 'b1', 'a2', 'b2'], [*box(rng), *box(rng)], strict=False)))
def giou(x1: Any, y1: Any, x2: Any, y2: Any, a1: Any, b1: Any, a2: Any, b2: Any) -> Any:
    b, g = ((x1, y1, x2, y2), (a1, b1, a2, b2))
    i = overlap(b, g)
    u = area(b) + area(g) - i
    c = (max(b[2], g[2]) - min(b[0], g[0])) * (max(b[3], g[3]) - min(b[1], g[1]))
    return 1 - i / u + (c - u) / c


@loss("""
ciou(b: real[q], g: real[q]; eps: positive = 1e-7) = 1 - iou + rho2/c2 + stop(alpha)*v where
        w1 = b[2] - b[0]
        h1 = b[3] - b[1]
        w2 = g[2] - g[0]
        h2 = g[3] - g[1]
        inter = relu(min(b[2], g[2]) - max(b[0], g[0]))*relu(min(b[3], g[3]) - max(b[1], g[1]))
        union = w1*h1 + w2*h2 - inter + eps
        iou = inter/union
        c2 = (max(b[2], g[2]) - min(b[0], g[0]))^2 + (max(b[3], g[3]) - min(b[1], g[1]))^2 + eps
        rho2 = ((g[0] + g[2] - b[0] - b[2])^2 + (g[1] + g[3] - b[1] - b[3])^2)/4
        v = 4/pi^2*(atan(w2/h2) - atan(w1/h1))^2
        alpha = v/(1 - iou + v + eps)
""", of="torchvision", sizes={"q": (4,)}, make=lambda rng, sizes: {"b": box(rng), "g": box(rng)}, stops=True)
def ciou(b: Any, g: Any, eps: Any) -> Any:
    w1, h1, w2, h2 = (b[2] - b[0], b[3] - b[1], g[2] - g[0], g[3] - g[1])
    it = overlap(b, g)
    un = w1 * h1 + w2 * h2 - it + eps
    io = it / un
    c2 = (max(b[2], g[2]) - min(b[0], g[0])) ** 2 + (max(b[3], g[3]) - min(b[1], g[1])) ** 2 + eps
    rho = ((g[0] + g[2] - b[0] - b[2]) ** 2 + (g[1] + g[3] - b[1] - b[3]) ** 2) / 4
    v = 4 / np.pi ** 2 * (np.arctan(w2 / h2) - np.arctan(w1 / h1)) ** 2
    return 1 - io + rho / c2 + v / (1 - io + v + eps) * v


@loss("""
varifocal(s: logit, q: unit; alpha: nonnegative = 0.75, gamma: nonnegative = 2) =
        bce_with_logits(s, q)*piecewise(q if q > 0, alpha*sigmoid(s)^gamma otherwise)
""", of="mmdet")
def varifocal(s: Any, q: Any, alpha: Any, gamma: Any) -> Any:
    return (softplus(s) - s * q) * (q if q > 0 else alpha * sigmoid(s) ** gamma)


@loss("""
distribution_focal(s: logit[k], y: real) = -((l + 1 - y)*lp(l) + (y - l)*lp(l + 1))
        where l = floor(y)
              lp(i) = sum[k](log_softmax[k](s)*(k == i))
""", of="mmdet", sizes={"k": (5, 8)}, make=lambda rng, sizes: {"s": rng.normal(size=sizes['k']), "y": 3 * rng.random()})
def distribution_focal(s: Any, y: Any) -> Any:
    return -((np.floor(y) + 1 - y) * log_softmax(s)[int(np.floor(y))] + (y - np.floor(y)) * log_softmax(s)[int(np.floor(y)) + 1])


@loss("""
balanced_l1(alpha: positive = 0.5, gamma: positive = 1.5, beta: positive = 1) =
        piecewise(alpha/b*(b*d + 1)*log(b*d/beta + 1) - alpha*d if d < beta, gamma*d + gamma/b - alpha*beta otherwise)
        where d = abs(f - y)
              b = exp(gamma/alpha) - 1
""", of="mmdet")
def balanced_l1(f: Any, y: Any, alpha: Any, gamma: Any, beta: Any) -> Any:
    d = abs(f - y)
    b = np.exp(gamma / alpha) - 1
    return alpha / b * (b * d + 1) * np.log(b * d / beta + 1) - alpha * d if d < beta else gamma * d + gamma / b - alpha * beta


@loss("""
adaptive_wing(f, y: unit; alpha = 2.1, omega = 14, eps = 1, theta = 0.5) =
        piecewise(omega*log(1 + (d/eps)^(alpha - y)) if d < theta, A*d - C otherwise)
        where d = abs(y - f)
              A = omega*(1/(1 + (theta/eps)^(alpha - y)))*(alpha - y)*(theta/eps)^(alpha - y - 1)/eps
              C = theta*A - omega*log(1 + (theta/eps)^(alpha - y))
""", of="Wang, Bo and Fuxin (2019)")
def adaptive_wing(f: Any, y: Any, alpha: Any, omega: Any, eps: Any, theta: Any) -> Any:
    d = abs(y - f)
    A = omega / (1 + (theta / eps) ** (alpha - y)) * (alpha - y) * (theta / eps) ** (alpha - y - 1) / eps
    return omega * np.log1p((d / eps) ** (alpha - y)) if d < theta else A * d - (theta * A - omega * np.log1p((theta / eps) ** (alpha - y)))


@loss("""
centernet_focal(p: prob[h, w], y: unit[h, w]; alpha: positive = 2, beta: positive = 4) =
        -sum[h, w](piecewise((1 - p)^alpha*log(p) if y == 1, (1 - y)^beta*p^alpha*log(1 - p) otherwise))/max(1, count[h, w](y == 1))
""", of="mmdet")
def centernet_focal(p: Any, y: Any, alpha: Any, beta: Any) -> Any:
    return -np.where(y == 1, (1 - p) ** alpha * np.log(p), (1 - y) ** beta * p ** alpha * np.log1p(-p)).sum() / max(1, (y == 1).sum())


@loss("""
seesaw(s: logit[c], y: class(c), N: positive[c]; p: nonnegative = 0.8) =
        -log(exp(s[y])/sum[c](S*exp(s)))
        where S[c] = piecewise((N[c]/N[y])^p if N[y] > N[c], 1 otherwise)
""", of="mmdet")
def seesaw(s: Any, y: Any, N: Any, p: Any) -> Any:
    return -s[y] + logsumexp(s + np.log(np.where(N[y] > N, (N / N[y]) ** p, 1)))


@loss("""
contrastive(x: real[n, d], c: label[n]; pm: nonnegative = 0, nm: positive = 1) = P + N
        where D(i, j) = euclidean(x[i], x[j])
              P = mean[i, j in n | i != j and c[i] == c[j] and D(i, j) > pm](D(i, j) - pm, default = 0)
              N = mean[i, j in n | c[i] != c[j] and D(i, j) < nm](nm - D(i, j), default = 0)
""", of="pytorch-metric-learning")
def contrastive(x: Any, c: Any, pm: Any, nm: Any) -> Any:
    return mean_or_zero([distances(x, x)[i, j] - pm for i in range(len(c)) for j in range(len(c)) if i != j and c[i] == c[j] and (distances(x, x)[i, j] > pm)]) + mean_or_zero([nm - distances(x, x)[i, j] for i in range(len(c)) for j in range(len(c)) if c[i] != c[j] and distances(x, x)[i, j] < nm])


@loss("""
n_pairs(a: real[n, d], p: real[n, d]) =
        mean[i in n](log(1 + sum[j in n | j != i](exp(dot(a[i], p[j]) - dot(a[i], p[i])))))
  wrt a, p
""", of="pytorch-metric-learning")
def n_pairs(a: Any, p: Any) -> Any:
    return np.mean([np.log1p(sum(np.exp(a[i] @ p[j] - a[i] @ p[i]) for j in range(len(a)) if j != i)) for i in range(len(a))])


@loss("""
multi_similarity(x: real[n, d], c: label[n]; alpha: positive = 2, beta: positive = 50, base: real = 0.5) =
        mean[i in n](1/alpha*log(1 + sum[j in n | j != i and c[j] == c[i]](exp(-alpha*(S[i, j] - base)))) + 1/beta*log(1 + sum[k in n | c[k] != c[i]](exp(beta*(S[i, k] - base)))))
        where S[i, j] = cosine(x[i], x[j])
""", of="pytorch-metric-learning")
def multi_similarity(x: Any, c: Any, alpha: Any, beta: Any, base: Any) -> Any:
    return np.mean([1 / alpha * np.log1p(sum(np.exp(-alpha * (cosines(x, x)[i, j] - base)) for j in range(len(c)) if j != i and c[j] == c[i])) + 1 / beta * np.log1p(sum(np.exp(beta * (cosines(x, x)[i, j] - base)) for j in range(len(c)) if c[j] != c[i])) for i in range(len(c))])


@loss("""
arcface(x: real[d], w: real[k, d], y: class(k); s: positive = 64, m: real = 0.5) =
        -log_softmax[k](s*t)[y]
        where cs[k] = cosine(x, w[k])
              t[k] = piecewise(cos(acos(cs) + m) if k == y, cs otherwise)
  wrt x, w
""", of="pytorch-metric-learning", sizes={"d": (3, 2), "k": (4, 2)})
def arcface(x: Any, w: Any, y: Any, s: Any, m: Any) -> Any:
    return -log_softmax(s * np.where(np.arange(len(w)) == y, np.cos(np.arccos(unit(w) @ unit(x)) + m), unit(w) @ unit(x)))[y]


@loss("""
cosface(x: real[d], w: real[k, d], y: class(k); s: positive = 30, m: nonnegative = 0.35) =
        logsumexp[k](l) - l[y]
        where l[k] = s*(cosine(w[k], x) - m*(k == y))
""", of="pytorch-metric-learning")
def cosface(x: Any, w: Any, y: Any, s: Any, m: Any) -> Any:
    return -log_softmax(s * (unit(w) @ unit(x) - m * (np.arange(len(w)) == y)))[y]


@loss("""
proxy_nca(x: real[d], p: real[k, d], y: class(k)) =
        -log(exp(-sqdist(x, p[y]))/sum[k | k != y](exp(-sqdist(x, p))))
  wrt x, p
""", of="pytorch-metric-learning", sizes={"k": (2, 5)})
def proxy_nca(x: Any, p: Any, y: Any) -> Any:
    return ((x - p[y]) ** 2).sum() + logsumexp(-((x - p) ** 2).sum(1)[np.arange(len(p)) != y])


@loss("""
proxy_anchor(x: real[n, d], y: class(k)[n], p: real[k, d]; a: positive = 32, m: real = 0.1) =
        sum[k | any[n](y == k)](log(1 + sum[n | y == k](exp(-a*(S - m)))))/count[k](any[n](y == k)) + mean[k](log(1 + sum[n | y != k](exp(a*(S + m)))))
        where S[n, k] = cosine(x[n], p[k])
  wrt x, p
""", of="pytorch-metric-learning")
def proxy_anchor(x: Any, y: Any, p: Any, a: Any, m: Any) -> Any:
    s = cosines(x, p)
    K = len(p)
    pos = [np.logaddexp(0, logsumexp(-a * (s[y == k, k] - m))) for k in range(K) if (y == k).any()]
    neg = [np.logaddexp(0, logsumexp(a * (s[y != k, k] + m))) if (y != k).any() else 0 for k in range(K)]
    return np.mean(pos) + np.mean(neg)


@loss("""
supcon_out(z: real[n, d], c: label[n]; tau: positive = 0.1) =
        sum[i in n | any[j in n](j != i and c[j] == c[i])](-1/count[p in n](p != i and c[p] == c[i])*sum[p in n | p != i and c[p] == c[i]](log(exp(S(i, p))/sum[a in n | a != i](exp(S(i, a))))))
        where S(i, j) = dot(z[i], z[j])/tau
""", of="pytorch-metric-learning")
def supcon_out(z: Any, c: Any, tau: Any) -> Any:
    s = z @ z.T / tau
    n = len(c)
    t = 0.0
    for i in range(n):
        P = [j for j in range(n) if j != i and c[j] == c[i]]
        if P:
            t += -np.mean([s[i, j] - logsumexp(np.delete(s[i], i)) for j in P])
    return t


@loss("""
margin_loss(x: real[n, d], c: label[n]; beta: real = 1.2, alpha: real = 0.2) = total/max(1, pairs)
        where pairs = count[i, j in n | i != j](relu(alpha + sgn(i, j)*(D(i, j) - beta)) > 0)
              total = sum[i, j in n | i != j](relu(alpha + sgn(i, j)*(D(i, j) - beta)))
              D(i, j) = euclidean(x[i], x[j])
              sgn(i, j) = piecewise(1 if c[i] == c[j], -1 otherwise)
""", of="pytorch-metric-learning")
def margin_loss(x: Any, c: Any, beta: Any, alpha: Any) -> Any:
    D = distances(x, x)
    s = np.where(c[:, None] == c[None], 1, -1)
    l = relu(alpha + s * (D - beta))
    np.fill_diagonal(l, 0)
    return l.sum() / max(1, (l > 0).sum())


@loss("""
snr(a: real[d], p: real[d], n: real[d]; m: positive = 0.2) =
        relu(var[d](a - p)/var[d](a) - var[d](a - n)/var[d](a) + m)
  wrt a, p, n
""", of="pytorch-metric-learning", sizes={"d": (2, 5)})
def snr(a: Any, p: Any, n: Any, m: Any) -> Any:
    return relu(np.var(a - p) / np.var(a) - np.var(a - n) / np.var(a) + m)


@loss("""
clip(x: real[n, d], t: real[n, d], lt: real) =
        (mean[i in n](logsumexp[j in n](L[i, j]) - L[i, i]) + mean[j in n](logsumexp[i in n](L[i, j]) - L[j, j]))/2
        where L[i, j] = exp(lt)*cosine(x[i], t[j])
  wrt x, t, lt
""", of="open_clip")
def clip(x: Any, t: Any, lt: Any) -> Any:
    L = np.exp(lt) * cosines(x, t)
    return -(np.diag(log_softmax(L, 1)).mean() + np.diag(log_softmax(L, 0)).mean()) / 2


@loss("""
siglip(x: real[n, d], t: real[n, d], lt: real, b: real) =
        -sum[i, j in n](log(sigmoid(z(i, j)*(exp(lt)*cosine(x[i], t[j]) + b))))/size(n)
        where z(i, j) = 2*(i == j) - 1
  wrt x, t, lt, b
""", of="open_clip")
def siglip(x: Any, t: Any, lt: Any, b: Any) -> Any:
    return softplus(-(2 * np.eye(len(x)) - 1) * (np.exp(lt) * cosines(x, t) + b)).sum() / len(x)


@loss("""
barron(alpha: real = 1, c: positive = 1) =
        piecewise((r/c)^2/2 if alpha == 2, log((r/c)^2/2 + 1) if alpha == 0, abs(alpha - 2)/alpha*(((r/c)^2/abs(alpha - 2) + 1)^(alpha/2) - 1) otherwise)
""", of="robust_loss_pytorch", bind=[{"alpha": 2}, {"alpha": 0}, {"alpha": 1}, {"alpha": -2}, {"alpha": 0.5}])
def barron(f: Any, y: Any, alpha: Any, c: Any) -> Any:
    u = (f - y) / c
    a = alpha
    return u ** 2 / 2 if a == 2 else np.log(u ** 2 / 2 + 1) if a == 0 else abs(a - 2) / a * ((u ** 2 / abs(a - 2) + 1) ** (a / 2) - 1)


@loss("""
tukey(c: positive = 4.685) = piecewise(c^2/6*(1 - (1 - (r/c)^2)^3) if abs(r) <= c, c^2/6 otherwise)
""", of="statsmodels")
def tukey(f: Any, y: Any, c: Any) -> Any:
    return c ** 2 / 6 * (1 - (1 - ((f - y) / c) ** 2) ** 3) if abs(f - y) <= c else c ** 2 / 6


@loss("""
fair(c: positive = 1.3) = c^2*(abs(r)/c - log(1 + abs(r)/c))
""", of="lightgbm")
def fair(f: Any, y: Any, c: Any) -> Any:
    return c * c * (abs(f - y) / c - np.log1p(abs(f - y) / c))


@loss("""
mase(f: real[n], y: real[n]) = mean[n](abs(f - y))/mean[n | n >= 1](abs(y - y[n - 1]))
""", of="gluonts", sizes={"n": (2, 5)})
def mase(f: Any, y: Any) -> Any:
    return np.mean(abs(f - y)) / np.mean(abs(np.diff(y)))


@loss("""
tweedie_dev(mu: positive, y: nonnegative; p: real in (1, 2) = 1.5) =
        2*(y^(2 - p)/((1 - p)*(2 - p)) - y*mu^(1 - p)/(1 - p) + mu^(2 - p)/(2 - p))
""", of="lightgbm")
def tweedie_dev(mu: Any, y: Any, p: Any) -> Any:
    return 2 * (y ** (2 - p) / ((1 - p) * (2 - p)) - y * mu ** (1 - p) / (1 - p) + mu ** (2 - p) / (2 - p))


@loss("""
nb_nll(mu: positive, theta: positive, y: nonnegative) =
        -(lgamma(y + theta) - lgamma(theta) - lgamma(y + 1) + theta*log(theta/(theta + mu)) + y*log(mu/(theta + mu)))
  wrt mu, theta
""", of="gluonts")
def nb_nll(mu: Any, theta: Any, y: Any) -> Any:
    return -(special.gammaln(y + theta) - special.gammaln(theta) - special.gammaln(y + 1) + theta * np.log(theta / (theta + mu)) + y * np.log(mu / (theta + mu)))


@loss("""
zinb(mu: positive, theta: positive, s: logit, y: nonnegative; eps: positive = 1e-8) =
        piecewise(-log(pz + (1 - pz)*(theta/(theta + mu))^theta) if y < eps, -(log(1 - pz) + lgamma(y + theta) - lgamma(theta) - lgamma(y + 1) + theta*log(theta/(theta + mu)) + y*log(mu/(theta + mu))) otherwise)
        where pz = sigmoid(s)
  wrt mu, theta, s
""", of="statsmodels")
def zinb(mu: Any, theta: Any, s: Any, y: Any, eps: Any) -> Any:
    return -np.log(sigmoid(s) + sigmoid(-s) * (theta / (theta + mu)) ** theta) if y < eps else -(-softplus(s) + special.gammaln(y + theta) - special.gammaln(theta) - special.gammaln(y + 1) + theta * np.log(theta / (theta + mu)) + y * np.log(mu / (theta + mu)))


@loss("""
mdn(a: logit[k], mu: real[k], ls: real[k], y: real) =
        -log(sum[k](softmax[k](a)*exp(-(y - mu)^2/(2*exp(ls)^2))/(exp(ls)*sqrt(2*pi))))
  wrt a, mu, ls
""", of="distrax")
def mdn(a: Any, mu: Any, ls: Any, y: Any) -> Any:
    return -logsumexp(log_softmax(a) - (y - mu) ** 2 / (2 * np.exp(2 * ls)) - ls - 0.5 * np.log(2 * np.pi))


@loss("""
evidential(g, v: positive, a: real in (1, inf), b: positive, y; lam: nonnegative = 0.1) =
        0.5*log(pi/v) - a*log(om) + (a + 0.5)*log((y - g)^2*v + om) + lgamma(a) - lgamma(a + 0.5) + lam*abs(y - g)*(2*v + a)
        where om = 2*b*(1 + v)
  wrt g, v, a, b
""", of="Amini et al. (2020)")
def evidential(g: Any, v: Any, a: Any, b: Any, y: Any, lam: Any) -> Any:
    om = 2 * b * (1 + v)
    return 0.5 * np.log(np.pi / v) - a * np.log(om) + (a + 0.5) * np.log((y - g) ** 2 * v + om) + special.gammaln(a) - special.gammaln(a + 0.5) + lam * abs(y - g) * (2 * v + a)


@loss("""
edl_kl(al: positive[k]) =
        lgamma(sum[k](al)) - lgamma(size(k)) - sum[k](lgamma(al)) + sum[k]((al - 1)*(digamma(al) - digamma(sum[k](al))))
""", of="Sensoy, Kaplan and Kandemir (2018)")
def edl_kl(al: Any) -> Any:
    return special.gammaln(al.sum()) - special.gammaln(len(al)) - special.gammaln(al).sum() + ((al - 1) * (special.digamma(al) - special.digamma(al.sum()))).sum()


@loss("""
student_t(f, y; nu: positive = 3, sigma: positive = 1) =
        (nu + 1)/2*log(1 + ((y - f)/sigma)^2/nu) + log(sigma) + log(nu*pi)/2 + lgamma(nu/2) - lgamma((nu + 1)/2)
""", of="gluonts")
def student_t(f: Any, y: Any, nu: Any, sigma: Any) -> Any:
    return (nu + 1) / 2 * np.log1p(((y - f) / sigma) ** 2 / nu) + np.log(sigma) + np.log(nu * np.pi) / 2 + special.gammaln(nu / 2) - special.gammaln((nu + 1) / 2)


@loss("""
crps_gauss(mu, sigma: positive, y) =
        sigma*(w*(2*normal_cdf(w) - 1) + 2*exp(-w^2/2)/sqrt(2*pi) - 1/sqrt(pi))
        where w = (y - mu)/sigma
  wrt mu, sigma
""", of="properscoring")
def crps_gauss(mu: Any, sigma: Any, y: Any) -> Any:
    w = (y - mu) / sigma
    return sigma * (w * (2 * special.ndtr(w) - 1) + 2 * np.exp(-w * w / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))


@loss("""
tobit(f, ls, y) =
        piecewise(-log(normal_cdf(-f/exp(ls))) if y <= 0, ls + ((y - f)/exp(ls))^2/2 + log(2*pi)/2 otherwise)
  wrt f, ls
""", of="xgboost")
def tobit(f: Any, ls: Any, y: Any) -> Any:
    return -special.log_ndtr(-f / np.exp(ls)) if y <= 0 else ls + ((y - f) / np.exp(ls)) ** 2 / 2 + np.log(2 * np.pi) / 2


@loss("""
ccc(f: real[n], y: real[n]) = 1 - 2*cov/(var[n](f) + var[n](y) + (mean[n](f) - mean[n](y))^2)
        where cov = mean[n]((f - mean[n](f))*(y - mean[n](y)))
""", of="Lin (1989)", sizes={"n": (2, 6)})
def ccc(f: Any, y: Any) -> Any:
    return 1 - 2 * ((f - f.mean()) * (y - y.mean())).mean() / (f.var() + y.var() + (f.mean() - y.mean()) ** 2)


@loss("""
ranknet(s: real[n], y: real[n]; sigma: positive = 1) =
        sum[i, j in n | y[i] > y[j]](log(1 + exp(-sigma*(s[i] - s[j]))))
""", of="allrank")
def ranknet(s: Any, y: Any, sigma: Any) -> Any:
    return sum(softplus(-sigma * (s[i] - s[j])) for i in range(len(s)) for j in range(len(s)) if y[i] > y[j])


@loss("""
approx_ndcg(s: real[n], y: nonnegative[n], ideal: positive; alpha: positive = 10) =
        -sum[i in n]((2^y[i] - 1)/log2(1 + r[i]))/ideal
        where r[i] = 1 + sum[j in n | j != i](sigmoid(alpha*(s[j] - s[i])))
""", of="allrank")
def approx_ndcg(s: Any, y: Any, ideal: Any, alpha: Any) -> Any:
    return -sum((2 ** y[i] - 1) / np.log2(2 + sum(sigmoid(alpha * (s[j] - s[i])) for j in range(len(s)) if j != i)) for i in range(len(s))) / ideal


@loss("""
sampled_softmax(u: real[n, d], v: real[n, d], lq: real[n], id: label[n]) =
        -mean[i in n](log(exp(L[i, i])/sum[j in n | j == i or id[j] != id[i]](exp(L[i, j]))))
        where L[i, j] = dot(u[i], v[j]) - lq[j]
  wrt u, v
""", of="tensorflow")
def sampled_softmax(u: Any, v: Any, lq: Any, id: Any) -> Any:
    L = u @ v.T - lq
    return -np.mean([L[i, i] - logsumexp([L[i, j] for j in range(len(u)) if j == i or id[j] != id[i]]) for i in range(len(u))])


@loss("""
auc_squared(s: real[n], y: binary[n]; m: positive = 1) =
        mean[i, j in n | y[i] == 1 and y[j] == 0]((m - (s[i] - s[j]))^2, default = 0)
""", of="catboost")
def auc_squared(s: Any, y: Any, m: Any) -> Any:
    return mean_or_zero([(m - s[i] + s[j]) ** 2 for i in range(len(s)) for j in range(len(s)) if y[i] == 1 and y[j] == 0])


@loss("""
fbeta_soft(p: unit[n], y: binary[n]; beta: positive = 1, eps: positive = 1e-7) =
        1 - (1 + beta^2)*P*R/(beta^2*P + R + eps)
        where P = sum[n](p*y)/(sum[n](p) + eps)
              R = sum[n](p*y)/(sum[n](y) + eps)
""", of="smp")
def fbeta_soft(p: Any, y: Any, beta: Any, eps: Any) -> Any:
    P = (p * y).sum() / (p.sum() + eps)
    R = (p * y).sum() / (y.sum() + eps)
    return 1 - (1 + beta ** 2) * P * R / (beta ** 2 * P + R + eps)


@loss("""
kappa(p: simplex(k)[n, k], y: class(k)[n]) = log(num/den + 1e-10)
        where w(i, j) = (i - j)^2/(size(k) - 1)^2
              num = sum[n, k](w(k, y)*p)
              den = sum[i in k, j in k](count[n](y == i)*sum[n](p[n, j])*w(i, j))/size(n)
""", of="catboost", sizes={"k": (3, 4), "n": (3, 6)})
def kappa(p: Any, y: Any) -> Any:
    K = p.shape[1]
    w = (np.arange(K)[:, None] - np.arange(K)) ** 2 / (K - 1) ** 2
    num = (w[y] * p).sum()
    den = (np.bincount(y, minlength=K)[:, None] * p.sum(0)[None] * w).sum() / len(y)
    return np.log(num / den + 1e-10)


@loss("""
cox(h: real[n], t: positive[n], e: binary[n]) =
        -sum[i in n | e[i] == 1](h[i] - log(sum[j in n | t[j] >= t[i]](exp(h[j]))))/sum[n](e)
""", of="pycox")
def cox(h: Any, t: Any, e: Any) -> Any:
    return -sum(h[i] - logsumexp(h[t >= t[i]]) for i in range(len(h)) if e[i]) / e.sum() if e.sum() else np.nan


@loss("""
deephit_nll(s: logit[n, k], b: class(k)[n], e: binary[n]) =
        -mean[n](e*log(p[n, b]) + (1 - e)*log(sum[k | k > b](p)))
        where p[n, k] = softmax[k](s)
""", of="pycox", sizes={"k": (3, 5)}, make=lambda rng, sizes: {"s": rng.normal(size=(sizes['n'], sizes['k'])), "b": rng.integers(0, sizes['k'] - 1, sizes['n']), "e": rng.integers(0, 2, sizes['n'])})
def deephit_nll(s: Any, b: Any, e: Any) -> Any:
    return -np.mean([np.log(softmax(s[i])[b[i]]) if e[i] else np.log(softmax(s[i])[b[i] + 1:].sum()) for i in range(len(b))])


@loss("""
deephit_rank(f: unit[n, k], b: class(k)[n], e: binary[n]; sigma: positive = 0.1) =
        mean[i, j in n | e[i] == 1 and b[i] < b[j]](exp((f[j, b[i]] - f[i, b[i]])/sigma), default = 0)
""", of="pycox")
def deephit_rank(f: Any, b: Any, e: Any, sigma: Any) -> Any:
    return mean_or_zero([np.exp((f[j, b[i]] - f[i, b[i]]) / sigma) for i in range(len(b)) for j in range(len(b)) if e[i] == 1 and b[i] < b[j]])


@loss("""
vae(x: binary[p], s: logit[p], mu: real[d], lv: real[d]; beta: nonnegative = 1) =
        -sum[p](x*log(sigmoid(s)) + (1 - x)*log(1 - sigmoid(s))) - beta/2*sum[d](1 + lv - mu^2 - exp(lv))
  wrt s, mu, lv
""", of="distrax")
def vae(x: Any, s: Any, mu: Any, lv: Any, beta: Any) -> Any:
    return (softplus(s) - s * x).sum() - beta / 2 * (1 + lv - mu ** 2 - np.exp(lv)).sum()


@loss("""
infonce(q: real[n, d], k: real[n, d]; tau: positive = 0.07) =
        -mean[i in n](log(exp(dot(q[i], k[i])/tau)/sum[j in n](exp(dot(q[i], k[j])/tau))))
  wrt q, k
""", of="lightly")
def infonce(q: Any, k: Any, tau: Any) -> Any:
    return -np.mean(np.diag(log_softmax(q @ k.T / tau)))


@loss("""
mmd_rbf(x: real[n, d], y: real[m, d]; s: positive = 1) =
        mean[i, j in n](k(x[i], x[j])) + mean[i, j in m](k(y[i], y[j])) - 2*mean[n, m](k(x[n], y[m]))
        where k(u, v) = exp(-sqdist(u, v)/(2*s^2))
  wrt x
""", of="Gretton et al. (2012)")
def mmd_rbf(x: Any, y: Any, s: Any) -> Any:

    def K(a: Any, b: Any) -> Any:
        return np.exp(-distances(a, b) ** 2 / (2 * s * s))

    return K(x, x).mean() + K(y, y).mean() - 2 * K(x, y).mean()


@loss("""
coral(a: real[n, d], b: real[m, d]) = sum[i, j in d]((Ca(i, j) - Cb(i, j))^2)/(4*size(d)^2)
        where Ca(i, j) = sum[n]((a[n, i] - mean[n](a[n, i]))*(a[n, j] - mean[n](a[n, j])))/(size(n) - 1)
              Cb(i, j) = sum[m]((b[m, i] - mean[m](b[m, i]))*(b[m, j] - mean[m](b[m, j])))/(size(m) - 1)
""", of="Cao, Mirjalili and Raschka (2020)", sizes={"n": (2, 5), "m": (2, 4)})
def coral(a: Any, b: Any) -> Any:
    return ((np.cov(a.T) - np.cov(b.T)) ** 2).sum() / 4 / a.shape[1] ** 2


@loss("""
energy_distance(x: real[n, d], y: real[m, d]) =
        2*mean[n, m](euclidean(x, y)) - mean[i, j in n](euclidean(x[i], x[j])) - mean[i, j in m](euclidean(y[i], y[j]))
  wrt x
""", of="Szekely and Rizzo (2013)")
def energy_distance(x: Any, y: Any) -> Any:
    return 2 * distances(x, y).mean() - distances(x, x).mean() - distances(y, y).mean()


@loss("""
chamfer(x: real[n, d], y: real[m, d]) = mean[n](min[m](sqdist(x, y))) + mean[m](min[n](sqdist(x, y)))
  wrt x, y
""", of="pytorch3d")
def chamfer(x: Any, y: Any) -> Any:
    return (distances(x, y) ** 2).min(1).mean() + (distances(x, y) ** 2).min(0).mean()


@loss("""
kd(s: logit[k], t: logit[k], y: class(k); T: positive = 4, alpha: unit = 0.9) =
        alpha*T^2*sum[k](softmax[k](t/T)*(log_softmax[k](t/T) - log_softmax[k](s/T))) - (1 - alpha)*log(softmax[k](s)[y])
""", of="sentence-transformers")
def kd(s: Any, t: Any, y: Any, T: Any, alpha: Any) -> Any:
    return alpha * T * T * (softmax(t / T) * (log_softmax(t / T) - log_softmax(s / T))).sum() - (1 - alpha) * log_softmax(s)[y]


@loss("""
rkd_distance(s: real[n, d], t: real[n, e]) = mean[i, j in n | i != j](huber(ds[i, j]/ms, dt[i, j]/mt))
        where ds[i, j] = euclidean(s[i], s[j])
              dt[i, j] = euclidean(t[i], t[j])
              ms = mean[i, j in n | i != j](ds[i, j])
              mt = mean[i, j in n | i != j](dt[i, j])
""", of="sentence-transformers", sizes={"n": (2, 4)})
def rkd_distance(s: Any, t: Any) -> Any:
    M = ~np.eye(len(s), dtype=bool)
    a = distances(s, s)[M]
    b = distances(t, t)[M]
    return huber(a / a.mean() - b / b.mean()).mean()


@loss("""
crf_pair(u: real[n, k], A: real[k, l in k], y: class(k)[n]) =
        -sum[n](u[n, y]) - sum[n | n + 1 < size(n)](A[y, y[n + 1]]) + sum[n](logsumexp[k](u))
  wrt u, A
""", of="Krahenbuhl and Koltun (2011)")
def crf_pair(u: Any, A: Any, y: Any) -> Any:
    return -u[np.arange(len(y)), y].sum() - A[y[:-1], y[1:]].sum() + logsumexp(u).sum()


@loss("""
ising_pl(J: real[i, j in i], x: sign[i]) = sum[i](log(1 + exp(-2*x[i]*sum[j | j != i](J[i, j]*x[j]))))
""", of="Besag (1975)")
def ising_pl(J: Any, x: Any) -> Any:
    return softplus(-2 * x * (J @ x - np.diag(J) * x)).sum()


@loss("""
structured_svm(s: real[k], y: class(k), D: nonnegative[k, l in k]) = max[k](s + D[y, k]) - s[y]
""", of="Tsochantaridis et al. (2005)")
def structured_svm(s: Any, y: Any, D: Any) -> Any:
    return (s + D[y]).max() - s[y]


@loss("""
group_lasso(w: real[g, d]) = sqrt(size(d))*sum[g](norm[d](w))
""", of="Yuan and Lin (2006)")
def group_lasso(w: Any) -> Any:
    return np.sqrt(w.shape[1]) * np.sqrt((w ** 2).sum(1)).sum()


@loss("""
orth(W: real[m, k]) = sum[i, j in k]((sum[m](W[m, i]*W[m, j]) - (i == j))^2)
""", of="Brock et al. (2016)")
def orth(W: Any) -> Any:
    return ((W.T @ W - np.eye(W.shape[1])) ** 2).sum()


@loss("""
edge_aware_smoothness(d: real[h, w], I: real[h, w]) =
        mean[h, w | w + 1 < size(w)](abs(d[h, w] - d[h, w + 1])*exp(-abs(I[h, w] - I[h, w + 1])))
""", of="Godard, Mac Aodha and Brostow (2017)", sizes={"w": (2, 4)})
def edge_aware_smoothness(d: Any, I: Any) -> Any:
    return (abs(np.diff(d, axis=1)) * np.exp(-abs(np.diff(I, axis=1)))).mean()


@loss("""
fair_dp(p: unit[n], a: binary[n]) =
        abs(mean[n | a == 1](p, default = 0) - mean[n | a == 0](p, default = 0))
""", of="Dwork et al. (2012)")
def fair_dp(p: Any, a: Any) -> Any:
    return abs((p[a == 1].mean() if (a == 1).any() else 0) - (p[a == 0].mean() if (a == 0).any() else 0))


@loss("""
gce(s: logit[k], y: class(k); q: real in (0, 1] = 0.7) = (1 - softmax[k](s)[y]^q)/q
""", of="Zhang and Sabuncu (2018)")
def gce(s: Any, y: Any, q: Any) -> Any:
    return (1 - softmax(s)[y] ** q) / q


@loss("""
asymmetric(s: logit[c], y: binary[c]; gp: nonnegative = 1, gn: nonnegative = 4, m: unit = 0.05, eps: positive = 1e-8) =
        -sum[c](y*(1 - p)^gp*log(max(p, eps)) + (1 - y)*pm^gn*log(max(1 - pm, eps)))
        where p = sigmoid(s)
              pm = max(p - m, 0)
""", of="timm")
def asymmetric(s: Any, y: Any, gp: Any, gn: Any, m: Any, eps: Any) -> Any:
    return -(y * (1 - sigmoid(s)) ** gp * np.log(np.maximum(sigmoid(s), eps)) + (1 - y) * relu(sigmoid(s) - m) ** gn * np.log(np.maximum(1 - relu(sigmoid(s) - m), eps))).sum()


@loss("""
class_balanced(s: logit[k], y: class(k), n: positive[k]; beta: unit = 0.99) =
        -w[y]/sum[k](w)*size(k)*log_softmax[k](s)[y]
        where w[k] = (1 - beta)/(1 - beta^n)
""", of="Cui et al. (2019)")
def class_balanced(s: Any, y: Any, n: Any, beta: Any) -> Any:
    w = (1 - beta) / (1 - beta ** n)
    return -w[y] / w.sum() * len(s) * log_softmax(s)[y]


@loss("""
ldam(s: logit[k], y: class(k), n: positive[k]; C: positive = 0.5, sc: positive = 30) =
        -log_softmax[k](sc*(s - (k == y)*C/n^(1/4)))[y]
""", of="Cao et al. (2019)")
def ldam(s: Any, y: Any, n: Any, C: Any, sc: Any) -> Any:
    return -log_softmax(sc * (s - (np.arange(len(s)) == y) * C / n ** 0.25))[y]


@loss("""
two_way_multilabel(s: logit[n, c], y: binary[n, c]; T: positive = 4) =
        mean[n | any[c](y == 1)](softplus(T*logsumexp[c | y == 1](-s/T) + logsumexp[c | y == 0](s)), default = 0)
""", of="Kobayashi (2023)")
def two_way_multilabel(s: Any, y: Any, T: Any) -> Any:
    return mean_or_zero([softplus(T * logsumexp(-s[i][y[i] == 1] / T) + (logsumexp(s[i][y[i] == 0]) if (y[i] == 0).any() else -np.inf)) for i in range(len(s)) if (y[i] == 1).any()])


@loss("""
glove(w: real[d], c: real[d], b, e, X: positive; xmax: positive = 100, a: positive = 0.75) =
        min(1, (X/xmax)^a)*(dot(w, c) + b + e - log(X))^2
  wrt w, c, b, e
""", of="Pennington, Socher and Manning (2014)")
def glove(w: Any, c: Any, b: Any, e: Any, X: Any, xmax: Any, a: Any) -> Any:
    return min(1, (X / xmax) ** a) * (w @ c + b + e - np.log(X)) ** 2


@loss("""
ppo(lp: logprob[n], old: logprob[n], A: real[n]; eps: positive = 0.2) =
        -mean[n](min(ratio*A, clip(ratio, 1 - eps, 1 + eps)*A))
        where ratio = exp(lp - old)
""", of="stable-baselines3")
def ppo(lp: Any, old: Any, A: Any, eps: Any) -> Any:
    return -np.mean(np.minimum(np.exp(lp - old) * A, np.clip(np.exp(lp - old), 1 - eps, 1 + eps) * A))


@loss("""
sac_actor(s: logit[a], q1: real[a], q2: real[a]; alpha: nonnegative = 0.2) =
        sum[a](p*(alpha*log(p) - stop(min(q1, q2))))
        where p = softmax[a](s)
""", of="stable-baselines3")
def sac_actor(s: Any, q1: Any, q2: Any, alpha: Any) -> Any:
    return (softmax(s) * (alpha * log_softmax(s) - np.minimum(q1, q2))).sum()


@loss("""
grpo(lp: logprob[g, t], old: logprob[g, t], ref: logprob[g, t], R: real[g], M: binary[g, t]; eps: positive = 0.2, beta: nonnegative = 0.04) =
        -mean[g](mean[t | M == 1](min(rho*A, clip(rho, 1 - eps, 1 + eps)*A) - beta*(exp(ref - lp) - (ref - lp) - 1), default = 0))
        where rho = exp(lp - old)
              A[g] = (R - mean[g](R))/(std[g](R) + 1e-4)
""", of="trl")
def grpo(lp: Any, old: Any, ref: Any, R: Any, M: Any, eps: Any, beta: Any) -> Any:
    A = ((R - R.mean()) / (R.std() + 0.0001))[:, None]
    rho = np.exp(lp - old)
    x = np.minimum(rho * A, np.clip(rho, 1 - eps, 1 + eps) * A) - beta * (np.exp(ref - lp) - (ref - lp) - 1)
    return -np.mean([x[i][M[i] == 1].mean() if (M[i] == 1).any() else 0 for i in range(len(R))])


@loss("""
qr_dqn(th: real[i], t: real[j]; kappa: positive = 1) =
        sum[i](mean[j](abs((i + 0.5)/size(i) - (t - th < 0))*piecewise((t - th)^2/2 if abs(t - th) <= kappa, kappa*(abs(t - th) - kappa/2) otherwise)/kappa))
""", of="dopamine")
def qr_dqn(th: Any, t: Any, kappa: Any) -> Any:
    u = t[None] - th[:, None]
    q = ((np.arange(len(th)) + 0.5) / len(th))[:, None]
    return (abs(q - (u < 0)) * np.where(abs(u) <= kappa, u * u / 2, kappa * (abs(u) - kappa / 2)) / kappa).mean(1).sum()


@loss("""
orpo(c: logprob, r: logprob; lam: nonnegative = 0.1) =
        -c - lam*log(sigmoid(log(exp(c)/(1 - exp(c))) - log(exp(r)/(1 - exp(r)))))
  wrt c, r
""", of="trl")
def orpo(c: Any, r: Any, lam: Any) -> Any:
    return -c + lam * softplus(-(c - np.log1p(-np.exp(c)) - r + np.log1p(-np.exp(r))))


@loss("""
kto(p: real[n], r: real[n], d: binary[n]; beta: positive = 0.1, ld: positive = 1, lu: positive = 1) =
        mean[n](piecewise(ld*(1 - sigmoid(beta*(p - r - z0))) if d == 1, lu*(1 - sigmoid(beta*(z0 - (p - r)))) otherwise))
        where z0 = stop(max(0, mean[n](p - r)))
""", of="trl", stops=True)
def kto(p: Any, r: Any, d: Any, beta: Any, ld: Any, lu: Any) -> Any:
    z = max(0, np.mean(p - r))
    return np.mean(np.where(d == 1, ld * sigmoid(-beta * (p - r - z)), lu * sigmoid(-beta * (z - p + r))))


@loss("""
si_sdr(x: real[t], s: real[t]) = -10*log10(sum[t]((a*s)^2)/sum[t]((a*s - x)^2))
        where a = dot(x, s)/dot(s, s)
""", of="asteroid", sizes={"t": (2, 5)})
def si_sdr(x: Any, s: Any) -> Any:
    a = x @ s / (s @ s)
    return -10 * np.log10(((a * s) ** 2).sum() / ((a * s - x) ** 2).sum())


@loss("""
pit2(a: real[s, t], y: real[s, t]) =
        min(mean[t]((a[0, t] - y[0, t])^2) + mean[t]((a[1, t] - y[1, t])^2), mean[t]((a[0, t] - y[1, t])^2) + mean[t]((a[1, t] - y[0, t])^2))
""", of="asteroid", sizes={"s": (2,)})
def pit2(a: Any, y: Any) -> Any:
    return min(((a - y) ** 2).mean(1).sum(), ((a - y[::-1]) ** 2).mean(1).sum())


@loss("""
ohem(s: logit[n, c], y: class(c)[n]; t: positive = 0.5) = sum[n | L > t](L)/max(count[n](L > t), 1)
        where L[n] = logsumexp[c](s) - s[n, y]
""", of="mmdet")
def ohem(s: Any, y: Any, t: Any) -> Any:
    L = logsumexp(s) - s[np.arange(len(y)), y]
    return L[t < L].sum() / max((t < L).sum(), 1)


@loss("""
cw(s: logit[k], y: class(k); kappa: nonnegative = 0) = max(s[y] - max[k | k != y](s), -kappa)
""", of="foolbox", sizes={"k": (2, 5)})
def cw(s: Any, y: Any, kappa: Any) -> Any:
    return max(s[y] - np.delete(s, y).max(), -kappa)



# -- the laws ---------------------------------------------------------------------------------------------------------------


def test_there_are_enough() -> None:
    assert len(LOSSES) >= 60
    assert len({case.formula.__name__ for case in LOSSES}) == len(LOSSES)
    assert all(case.loss.name == case.formula.__name__ for case in LOSSES)
    assert len({case.of for case in LOSSES if " " not in case.of}) >= 12  # libraries; what has blanks is a paper


@pytest.mark.parametrize("case", named(LOSSES))
def test_value_and_gradient(case: Case) -> None:
    case.check_numpy()


@pytest.mark.parametrize("case", named(LOSSES[::2]))  # printing for torch takes the longest
def test_torch_agrees(case: Case) -> None:
    case.check_torch()


@pytest.mark.parametrize("case", named(LOSSES))
def test_it_reads_back(case: Case) -> None:
    case.check_text()
