"""Recursion along an axis against plain loops: value, gradient, Hessian-vector product, text, code for arrays and tensors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import pipeline
from lossdsl.codegen import numpy as numpy_printer
from lossdsl.codegen import recursion as printed
from lossdsl.frontend import load_text_with_warnings
from lossdsl.ir import text as ir_text
from lossdsl.ir.expr import Index, fresh, ix, num, postorder, rec, ref, replace_recs, scan, substitute
from lossdsl.ir.expr import add as plus
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.loss import Loss
from lossdsl.passes import gradient as passes
from lossdsl.passes.gradient import gradient, jacobian, tangent
from lossdsl.runtime import reference
from tests.brute import Brute
from tests.tools import compile_anew, program

torch = pytest.importorskip("torch")

Arrays = dict[str, Any]
Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """A loss with a recursion: its text, the shapes of its inputs for T steps, and its value by a loop.

    ``wrt`` are the inputs to differentiate by (all that hold real numbers), ``classes`` the number of classes of a class input, of
    which the first may be left out, ``warns`` whether an index may leave its axis, ``derived`` at which T derivatives are tested.
    """

    text: str
    shapes: Callable[[int], Mapping[str, Shape]]
    loop: Callable[..., Any]
    classes: Mapping[str, int] = field(default_factory=dict)
    least: int = 0
    flags: tuple[str, ...] = ()
    warns: bool = False
    lengths: tuple[int, ...] = (0, 1, 2, 7)
    derived: int = 4

    def given(self, t: int, seed: int = 0, batch: tuple[int, ...] = ()) -> Arrays:
        rng = np.random.default_rng(seed)
        out: Arrays = {}
        for name, shape in self.shapes(t).items():
            if name in self.classes:
                out[name] = rng.integers(self.least, self.classes[name], (*batch, *shape))
            elif name in self.flags:
                out[name] = rng.random((*batch, *shape)) < 0.4
            else:
                out[name] = rng.standard_normal((*batch, *shape))
        return out

    @property
    def wrt(self) -> list[str]:
        return [name for name in self.shapes(1) if name not in self.classes and name not in self.flags]


# -- loops ------------------------------------------------------------------------------------------------------------


def returns(r: Any, v: Any, c: float = 0.9) -> float:
    out, total = float(v), 0.0
    for x in r[::-1]:
        out = x + c * out
        total += out**2
    return total


def td_lambda(r: Any, v: Any, g: float = 0.9, lam: float = 0.8) -> float:
    t = len(r)
    out, after = 0.0, 0.0
    for k in reversed(range(t)):
        after = r[k] + (g * ((1 - lam) * v[k + 1] + lam * after) if k + 1 < t else 0.0)
        out += (after - v[k]) ** 2
    return out


def gae(r: Any, v: Any, g: float = 0.9, lam: float = 0.8) -> float:
    t = len(r)
    out, after = 0.0, 0.0
    for k in reversed(range(t)):
        after = r[k] + g * (v[k + 1] if k + 1 < t else 0.0) - v[k] + g * lam * after
        out += np.tanh(after)
    return out


def v_trace(r: Any, v: Any, rho: Any, g: float = 0.9) -> float:
    t = len(r)
    vs = np.zeros(t)
    for k in reversed(range(t)):
        w = min(1.0, math.exp(rho[k]))
        after = vs[k + 1] - v[k + 1] if k + 1 < t else 0.0
        vs[k] = v[k] + w * (r[k] + g * (v[k + 1] if k + 1 < t else 0.0) - v[k]) + g * w * after
    return float(((vs - v) ** 2).sum())


def ema(x: Any, y: Any, a: float = 0.3) -> float:
    out, m = 0.0, 0.0
    for k in range(len(x)):
        m = x[0] if k == 0 else a * x[k] + (1 - a) * m
        out += (m - y[k]) ** 2
    return out


def viterbi(e: Any, A: Any) -> float:
    d = e[0]
    for row in e[1:]:
        d = row + (d[:, None] + A).max(axis=0)
    return d.max()


def forward(e: Any, A: Any) -> float:
    a = e[0]
    for row in e[1:]:
        a = row + np.log(np.exp(a[:, None] + A).sum(axis=0))
    return np.log(np.exp(a).sum())


def two_steps(r: Any, c: float = 0.5) -> float:
    g = np.zeros(len(r))
    for k in range(len(r)):
        g[k] = r[k] + c * (g[k - 2] if k > 1 else 0.0)
    return (g**2).sum()


def both_steps(r: Any) -> float:
    g = np.zeros(len(r))
    for k in range(len(r)):
        g[k] = r[k] * (1 + (g[k - 1] if k > 0 else 0.0) - (g[k - 3] if k > 2 else 0.0) / 2)
    return g.sum()


def smoothed_both_ways(r: Any) -> float:
    g, h = np.zeros(len(r) + 1), np.zeros(len(r) + 1)
    for k in range(len(r)):
        g[k] = r[k] + (g[k - 1] if k else 0.0) / 2
    for k in reversed(range(len(r))):
        h[k] = g[k] + h[k + 1] / 3
    return (h[:-1] ** 2).sum()


def holt(y: Any, p: float = 0.5, q: float = 0.25) -> float:
    out, level, trend = 0.0, 0.0, 0.0
    for k in range(len(y)):
        if k:
            before = level
            level = p * y[k] + (1 - p) * (level + trend)
            trend = q * (level - before) + (1 - q) * trend
        else:
            level = y[0]
        out += (y[k] - level) ** 2
    return out


def pair_of_states(x: Any, w: Any) -> float:
    h, c = np.zeros(len(w)), np.zeros(len(w))
    for row in x:
        c = np.tanh(row + w @ h) / 2 + c / 2
        h = np.tanh(c) + h / 4
    return (h**2).sum()


def garch(e: Any, w: float = 0.5, a: float = 0.3, b: float = 0.6) -> float:
    out, h = 0.0, 0.0
    for k in range(len(e)):
        h = w + (a * e[k - 1] ** 2 + b * h if k else 0.0)
        out += math.log(h) + e[k] ** 2 / h
    return out


def dtw(c: Any, soft: bool = False) -> float:
    n, m = c.shape
    if n == 0 or m == 0:
        return math.nan
    d = np.full((n + 1, m + 1), np.inf)
    d[0, 0] = 0.0
    for i, j in itertools.product(range(n), range(m)):
        ways = np.array([d[i, j], d[i, j + 1], d[i + 1, j]])
        d[i + 1, j + 1] = c[i, j] + (-np.logaddexp.reduce(-ways) if soft else ways.min())
    return d[n, m] ** 2


def levenshtein(x: Any, s: Any, k: Any) -> float:
    n, m = len(s), len(k)
    d = np.zeros((n + 1, m + 1))
    for i, j in itertools.product(range(n), range(m)):
        above = d[i, j + 1] if i else j + 1.0
        left = d[i + 1, j] if j else i + 1.0
        corner = d[i, j] if i and j else float(max(i, j))
        d[i + 1, j + 1] = min(above + 1, left + 1, corner + (0.0 if s[i] == k[j] else x))
    return x * d[n, m] if n and m else math.nan


def autoregressive(e: Any, w: Any) -> float:
    x = np.zeros(len(e))
    for k in range(len(e)):
        x[k] = e[k] + sum(w[p] * x[k - 1 - p] for p in range(len(w)) if p + 1 <= k)
    return (x**2).sum()


def all_before(e: Any, w: Any) -> float:
    x = np.zeros(len(e))
    for k in range(len(e)):
        x[k] = e[k] + sum(w[k, u] * np.tanh(x[u]) for u in range(k))
    return (x**2).sum()


def since_a_flag(c: Any, x: Any) -> float:
    seen, out = False, 0.0
    for flag, v in zip(c, x, strict=True):
        seen = seen or bool(flag)
        out += v**2 if seen else 0.0
    return out


def averaged(r: Any) -> float:
    g, out = np.zeros(len(r)), 0.0
    for k in range(r.shape[1]):
        g = r[:, k] + (g.mean() / 2 if k else 0.0)
        out += (g**2).sum()
    return out


def sinkhorn(c: Any, rounds: int = 3) -> float:
    f, g = np.zeros(len(c)), np.zeros(c.shape[1])
    for _ in range(rounds):
        f = -np.logaddexp.reduce(g[None, :] - c, axis=1)
        g = -np.logaddexp.reduce(f[:, None] - c, axis=0)
    return float((np.exp(f[:, None] + g[None, :] - c) * c).sum())


def alternating(c: Any, rounds: int = 3) -> float:
    f, g = np.zeros(len(c)), np.zeros(c.shape[1])
    for _ in range(rounds):
        f, g = -np.logaddexp.reduce(g[None, :] - c, axis=1), -np.logaddexp.reduce(f[:, None] - c, axis=0)
    return float((np.exp(f[:, None] + g[None, :] - c) * c).sum())


def ctc(logp: Any, y: Any) -> float:
    """By its meaning: all ways to write the labels along the time."""
    t, c = logp.shape
    total = -math.inf
    for path in itertools.product(range(c), repeat=t):
        merged = [k for k, _ in itertools.groupby(path)]
        if [k for k in merged if k] == list(y):
            total = np.logaddexp(total, sum(logp[i, k] for i, k in enumerate(path)))
    return -total


CTC = """
ctc(logp: real[t, c], y: class(c)[u]) = -logsumexp[s in 0..2*size(u) | s >= 2*size(u) - 1](alpha[size(t) - 1, s])
  where label[w in 0..2*size(u)] = piecewise(y[min(floor(w/2), size(u) - 1)] if mod(w, 2) == 1, 0 otherwise)
        alpha[t, w in 0..2*size(u)] = logp[t, label[w]] + piecewise(piecewise(0 if w <= 1, -inf otherwise) if t == 0,
            logaddexp(logaddexp(alpha[t - 1, w], one[t, w]), two[t, w]) otherwise)
        one[t, w in 0..2*size(u)] = piecewise(alpha[t - 1, w - 1] if w > 0, -inf otherwise)
        two[t, w in 0..2*size(u)] = piecewise(alpha[t - 1, w - 2] if w > 1 and label[w] != 0 and label[w] != label[w - 2], -inf otherwise)
"""

DTW = "piecewise(0 if i == 0 and j == 0, D[i, j - 1] if i == 0, D[i - 1, j] if j == 0, {low} otherwise)"
BEST = "min(D[i - 1, j], D[i, j - 1], D[i - 1, j - 1])"
SOFT = "-logaddexp(-D[i - 1, j], logaddexp(-D[i, j - 1], -D[i - 1, j - 1]))"
STATES = "al[size(t) - 1, k]) where al[t, j in k] = e[t, j] + piecewise({op}[i in k](al[t - 1, i] + A[i, j]) if t > 0, 0 otherwise)"

ROWS: dict[str, Row] = {
    "returns": Row(
        "a(r: real[t], v: real; c = 0.9) = sum[t](G^2) where G[t] = r[t] + c*piecewise(G[t + 1] if t < size(t) - 1, v otherwise)",
        lambda t: {"r": (t,), "v": ()}, returns),
    "td(lambda)": Row(
        "a(r: real[t], v: real[t]; g = 0.9, lam = 0.8) = sum[t]((G - v)^2)"
        " where G = r + g*piecewise((1 - lam)*v[t + 1] + lam*G[t + 1] if t + 1 < size(t), 0 otherwise)",
        lambda t: {"r": (t,), "v": (t,)}, td_lambda),
    "gae": Row(
        "a(r: real[t], v: real[t]; g = 0.9, lam = 0.8) = sum[t](tanh(A))"
        " where A = delta + g*lam*piecewise(A[t + 1] if t + 1 < size(t), 0 otherwise),"
        " delta = r + g*piecewise(v[t + 1] if t + 1 < size(t), 0 otherwise) - v",
        lambda t: {"r": (t,), "v": (t,)}, gae),
    "v-trace": Row(
        "a(r: real[t], v: real[t], rho: real[t]; g = 0.9) = sum[t]((s - v)^2) where last[t] = t + 1 == size(t), w = min(1, exp(rho)),"
        " s[t] = v[t] + w[t]*(r[t] + g*piecewise(0 if last[t], v[t + 1] otherwise) - v[t])"
        " + g*w[t]*piecewise(0 if last[t], s[t + 1] - v[t + 1] otherwise)",
        lambda t: {"r": (t,), "v": (t,), "rho": (t,)}, v_trace),
    "moving average": Row(
        "a(x: real[t], y: real[t]; a = 0.3) = sum[t]((m - y)^2) where m[t] = piecewise(x[0] if t == 0, a*x[t] + (1 - a)*m[t - 1] otherwise)",
        lambda t: {"x": (t,), "y": (t,)}, ema),
    "viterbi": Row(f"a(e: real[t, k], A: real[k, l in k]) = max[k]({STATES.format(op='max')}",
        lambda t: {"e": (t, 3), "A": (3, 3)}, viterbi, lengths=(1, 2, 7)),
    "forward": Row(f"a(e: real[t, k], A: real[k, l in k]) = logsumexp[k]({STATES.format(op='logsumexp')}",
        lambda t: {"e": (t, 3), "A": (3, 3)}, forward, lengths=(1, 2, 7)),
    "ctc": Row(CTC, lambda t: {"logp": (t, 3), "y": (2,)}, ctc, {"y": 3}, least=1, lengths=(1, 2, 4, 6)),
    "two steps": Row("a(r: real[t]; c = 0.5) = sum[t](G^2) where G = r + c*piecewise(G[t - 2] if t > 1, 0 otherwise)",
        lambda t: {"r": (t,)}, two_steps),
    "steps of two lengths": Row(
        "a(r: real[t]) = sum[t](G) where"
        " G = r*(1 + piecewise(G[t - 1] if t > 0, 0 otherwise) - piecewise(G[t - 3] if t > 2, 0 otherwise)/2)",
        lambda t: {"r": (t,)}, both_steps),
    "in a local function": Row(
        "a(r: real[t], v: real; c = 0.9) = sum[t](G^2) where f(x, u) = x + c*u, G = f(r, piecewise(G[t + 1] if t + 1 < size(t), v otherwise))",
        lambda t: {"r": (t,), "v": ()}, returns),
    "by way of a local function that reads it": Row(
        "a(r: real[t], v: real; c = 0.9) = sum[t](G^2) where next(u) = piecewise(G[t + 1] if t + 1 < size(t), u otherwise), G[t] = r[t] + c*next(v)",
        lambda t: {"r": (t,), "v": ()}, returns),
    "one reads the other": Row(
        "a(r: real[t]) = sum[t](H^2) where G[t] = r[t] + piecewise(G[t - 1]/2 if t > 0, 0 otherwise),"
        " H[t] = G[t] + piecewise(H[t + 1]/3 if t + 1 < size(t), 0 otherwise)",
        lambda t: {"r": (t,)}, smoothed_both_ways),
    "by way of another local": Row(
        "a(r: real[t], v: real; c = 0.9) = sum[t](G^2) where G = r + c*after, after[t] = piecewise(v if t == size(t) - 1, G[t + 1] otherwise)",
        lambda t: {"r": (t,), "v": ()}, returns),
    "two that read each other": Row(
        "a(y: real[t]; p = 1/2, q = 1/4) = sum[t]((y - l)^2) where l[t] = piecewise(p*y[t] + (1 - p)*(l[t - 1] + b[t - 1]) if t > 0, y[0] otherwise),"
        " b[t] = piecewise(q*(l[t] - l[t - 1]) + (1 - q)*b[t - 1] if t > 0, 0 otherwise)",
        lambda t: {"y": (t,)}, holt),
    "two states of many units": Row(
        "a(x: real[t, k], w: real[k, l in k]) = sum[k](piecewise(h[size(t) - 1, k] if size(t) > 0, 0 otherwise)^2)"
        " where c[t, k] = tanh(x[t, k] + piecewise(sum[j in k](w[k, j]*h[t - 1, j]) if t > 0, 0 otherwise))/2 + piecewise(c[t - 1, k] if t > 0, 0 otherwise)/2,"
        " h[t, k] = tanh(c[t, k]) + piecewise(h[t - 1, k] if t > 0, 0 otherwise)/4",
        lambda t: {"x": (t, 3), "w": (3, 3)}, pair_of_states),
    "a variance": Row(
        "a(e: real[t]; w: positive = 0.5, a: nonnegative = 0.3, b: nonnegative = 0.6) = sum[t](log(h) + e^2/h)"
        " where h[t] = w + piecewise(a*e[t - 1]^2 + b*h[t - 1] if t > 0, 0 otherwise)",
        lambda t: {"e": (t,)}, garch),
    "warping": Row(f"a(c: real[i, j]) = D[size(i) - 1, size(j) - 1]^2 where D[i, j] = c[i, j] + {DTW.format(low=BEST)}",
        lambda t: {"c": (t, 4)}, dtw, warns=False),
    "soft warping": Row(f"a(c: real[i, j]) = D[size(i) - 1, size(j) - 1]^2 where D[i, j] = c[i, j] + {DTW.format(low=SOFT)}",
        lambda t: {"c": (4, t)}, functools.partial(dtw, soft=True)),
    "edit distance": Row(
        "a(x: real, s: label[i], k: label[j]) = x*D[size(i) - 1, size(j) - 1] where"
        " D[i, j] = min(1 + piecewise(D[i - 1, j] if i > 0, j + 1 otherwise), 1 + piecewise(D[i, j - 1] if j > 0, i + 1 otherwise),"
        " (s[i] != k[j])*x + piecewise(D[i - 1, j - 1] if i > 0 and j > 0, max(i, j) otherwise))",
        lambda t: {"x": (), "s": (t,), "k": (4,)}, levenshtein, {"s": 3, "k": 3}),
    "autoregressive": Row("a(e: real[t], w: real[p]) = sum[t](x^2) where x[t] = e[t] + sum[p | p + 1 <= t](w[p]*x[t - 1 - p])",
        lambda t: {"e": (t,), "w": (2,)}, autoregressive),
    "all that is before": Row(
        "a(e: real[t], w: real[t, s in t]) = sum[t](x^2) where x[t] = e[t] + sum[u in t | u < t](w[t, u]*tanh(x[u]))",
        lambda t: {"e": (t,), "w": (t, t)}, all_before),
    "a condition": Row("a(c: bool[t], x: real[t]) = sum[t | seen](x^2) where seen[t] = c[t] or (t > 0 and seen[t - 1])",
        lambda t: {"c": (t,), "x": (t,)}, since_a_flag, flags=("c",)),
    "a reduction over another axis": Row(
        "a(r: real[n, t]) = sum[n, t](G^2) where G = r + piecewise(mean[n](G[t = t - 1])/2 if t > 0, 0 otherwise)",
        lambda t: {"r": (3, t)}, averaged),
    "rounds over a range": Row(
        "a(c: real[i, j]; rounds: integer in [1, inf) = 3) = sum[i, j](exp(f[rounds - 1, i] + g[rounds - 1, j] - c)*c)"
        " where f[l in 0..rounds - 1, i] = -logsumexp[j](piecewise(g[l - 1, j] if l > 0, 0 otherwise) - c[i, j]),"
        " g[l in 0..rounds - 1, j] = -logsumexp[i](f[l, i] - c[i, j])",
        lambda t: {"c": (t, 2)}, sinkhorn, lengths=(1, 2, 3), derived=3),
    "two that read each other over different axes": Row(
        "a(c: real[i, j]; rounds: integer in [1, inf) = 3) = sum[i, j](exp(f[rounds, i] + g[rounds, j] - c)*c)"
        " where f[l in 0..rounds, i] = piecewise(-logsumexp[j](g[l - 1, j] - c[i, j]) if l > 0, 0 otherwise),"
        " g[l in 0..rounds, j] = piecewise(-logsumexp[i](f[l - 1, i] - c[i, j]) if l > 0, 0 otherwise)",
        lambda t: {"c": (t, 2)}, alternating, lengths=(1, 2, 3), derived=3),
}  # fmt: skip

TABLE = pytest.mark.parametrize("name", ROWS)


@functools.cache
def loss(name: str) -> Loss:
    return next(iter(lossdsl.parse(ROWS[name].text).values()))


def params(p: Program) -> dict[str, Any]:
    return {x.name: x.default for x in p.params}


def value_of(p: Program, given: Arrays) -> Any:
    (out,) = reference.evaluate(p, given, params(p)).values()
    return np.asarray(out.value, float)


def tensors(given: Arrays, dtype: Any = None) -> Arrays:
    return {k: torch.as_tensor(v).to(dtype) if dtype and np.asarray(v).dtype.kind == "f" else torch.as_tensor(v) for k, v in given.items()}


def narrow(given: Arrays) -> Arrays:
    return {k: v.astype(np.float32) if np.asarray(v).dtype.kind == "f" else v for k, v in given.items()}


# -- value ------------------------------------------------------------------------------------------------------------


@TABLE
def test_the_reference_is_the_loop(name: str) -> None:
    row = ROWS[name]
    for t in row.lengths:
        given = row.given(t)
        assert np.allclose(value_of(loss(name).program, given), row.loop(**given), rtol=1e-12, atol=1e-13, equal_nan=True), t


@TABLE
def test_printed_code_is_the_loop_for_every_row_of_a_batch(name: str) -> None:
    row = ROWS[name]
    on_arrays, on_tensors = loss(name).compile("numpy"), loss(name).compile("torch")
    for t in row.lengths:
        given = row.given(t, 1, (3,))
        with np.errstate(all="ignore"):
            want = [row.loop(**{k: v[n] for k, v in given.items()}) for n in range(3)]
        assert np.allclose(on_arrays(**given, reduction="none"), want, rtol=1e-10, atol=1e-12, equal_nan=True), t
        assert np.allclose(on_tensors(**tensors(given), reduction="none"), want, rtol=1e-10, atol=1e-12, equal_nan=True), t
        single = on_arrays(**narrow(given), reduction="none"), on_tensors(**tensors(given, torch.float32), reduction="none")
        assert str(single[0].dtype) == "float32" and single[1].dtype == torch.float32
        for out in single:
            assert np.allclose(out, want, rtol=2e-4, atol=1e-4, equal_nan=True), t


@TABLE
def test_one_sample_alone(name: str) -> None:
    row = ROWS[name]
    given = row.given(row.derived, 2)
    want = row.loop(**given)
    assert np.allclose(loss(name).compile("numpy")(**given), want, rtol=1e-10)
    assert np.allclose(loss(name).compile("torch")(**tensors(given)), want, rtol=1e-10)


@pytest.mark.parametrize("name", ["forward", "a variance", "two that read each other", "warping", "autoregressive"])
def test_a_plain_evaluator_agrees(name: str) -> None:
    given = ROWS[name].given(3, 5)
    (out,) = Brute(loss(name).program, {**given, **{k: float(v) for k, v in params(loss(name).program).items()}}).outputs()
    assert np.allclose(out, ROWS[name].loop(**given), rtol=1e-10)


# -- derivatives ------------------------------------------------------------------------------------------------------


@TABLE
def test_the_gradient_is_that_of_differences(name: str) -> None:
    row = ROWS[name]
    for t in {min(row.lengths) or 1, row.derived}:
        given = row.given(t, 3)
        p = loss(name).program
        if not np.isfinite(value_of(p, given)):
            continue
        for wrt in row.wrt:
            want = np.asarray(reference.differences(p, given, params(p), wrt), float)
            assert np.allclose(value_of(gradient(p, [wrt]), given), want, rtol=1e-12, atol=1e-13), (t, wrt)
            closed = loss(name).grad(wrt)
            assert np.allclose(value_of(closed.program, given), want, rtol=1e-12, atol=1e-13), (t, wrt)


@TABLE
def test_printed_gradients_are_those_of_the_reference(name: str) -> None:
    row = ROWS[name]
    p = loss(name).program
    on_arrays, on_tensors = loss(name).compile("numpy", wrt=row.wrt), loss(name).compile("torch", wrt=row.wrt)
    for t in row.lengths:
        given = row.given(t, 4, (2,))
        rows = [{k: v[n] for k, v in given.items()} for n in range(2)]
        if any(not np.isfinite(value_of(p, g)) for g in rows):
            continue
        want = [np.stack([value_of(gradient(p, [wrt]), g) for g in rows]) for wrt in row.wrt]
        doubles = on_arrays.value_and_grad(**given, reduction="none")[1], on_tensors.value_and_grad(**tensors(given), reduction="none")[1]
        singles = (
            on_arrays.value_and_grad(**narrow(given), reduction="none")[1],
            on_tensors.value_and_grad(**tensors(given, torch.float32), reduction="none")[1],
        )
        for found, close in [(x, 1e-9) for x in doubles] + [(x, 1e-3) for x in singles]:
            found = found if isinstance(found, tuple) else (found,)
            for g, w in zip(found, want, strict=True):
                assert np.allclose(np.asarray(g), w, rtol=close, atol=close), (t, close)


@TABLE
def test_second_derivatives(name: str) -> None:
    """The Hessian-vector product in closed form, in code, and as the tangent of the gradient, against differences of the gradient."""
    row = ROWS[name]
    given = row.given(min(row.derived, 3), 5)
    p = loss(name).program
    for wrt in row.wrt[:2]:
        direction = np.random.default_rng(6).standard_normal(np.shape(given[wrt]))
        first = gradient(p, [wrt])
        (want,) = reference.directional(first, given, params(p), {wrt: direction}).values()
        want = np.asarray(want, float)
        product = loss(name).hvp(wrt)
        assert np.allclose(value_of(product.program, {**given, f"v_{wrt}": direction}), want, rtol=1e-11, atol=1e-12)
        full = value_of(jacobian(first, wrt), given).reshape(want.size, want.size)
        assert np.allclose(full @ direction.ravel(), want.ravel(), rtol=1e-11, atol=1e-12)
        diagonal = loss(name).compile("numpy", wrt=[wrt]).value_grad_hess(**{k: np.asarray(v)[None] for k, v in given.items()})[2]
        assert np.allclose(np.asarray(diagonal).ravel(), np.diag(full), rtol=1e-8, atol=1e-9)


@TABLE
def test_forward_mode(name: str) -> None:
    row = ROWS[name]
    given = row.given(row.derived, 7)
    p = loss(name).program
    along = {wrt: np.random.default_rng(8).standard_normal(np.shape(given[wrt])) for wrt in row.wrt}
    moved = tangent(p, {wrt: f"d_{wrt}" for wrt in along})
    (want,) = reference.directional(p, given, params(p), along).values()
    assert np.allclose(value_of(moved, given | {f"d_{k}": v for k, v in along.items()}), np.asarray(want, float), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["returns", "forward", "autoregressive", "two states of many units"])
def test_torch_differentiates_twice_and_maps(name: str) -> None:
    row = ROWS[name]
    fn = loss(name).compile("torch", wrt=row.wrt)
    given = tensors(row.given(3, 9, (2,)))
    names = list(given)
    leaves = tuple(x.clone().requires_grad_() for x in given.values())
    assert torch.autograd.gradcheck(lambda *x: fn(*x, reduction="none"), leaves)
    assert torch.autograd.gradgradcheck(lambda *x: fn(*x, reduction="none"), leaves)
    each = torch.func.vmap(lambda *x: fn(*x))(*given.values())
    assert torch.allclose(each, fn(*given.values(), reduction="none"))
    assert names == [i.name for i in loss(name).inputs]


# -- text -------------------------------------------------------------------------------------------------------------


@TABLE
def test_text_reads_back(name: str) -> None:
    row, first = ROWS[name], loss(name)
    for p in (first.program, *(q for w in row.wrt for q in (gradient(first.program, [w]), first.grad(w).program, first.hvp(w).program))):
        text = ir_text.program(p)
        assert lossdsl.parse(text)[p.name].program.roots == p.roots, text
        assert Loss(p).latex()


@TABLE
def test_a_reading_that_keeps_inside_is_silent(name: str) -> None:
    _, remarks = load_text_with_warnings(ROWS[name].text, "test.loss")
    assert [r.name for r in remarks] == ["index-leaves-axis"] * ROWS[name].warns


LEAVES = {
    "the end is not said": "a(r: real[t]) = sum[t](G) where G = r + G[t + 1]/2",
    "the end is said at the wrong side": "a(r: real[t]) = sum[t](G) where G = r + piecewise(G[t - 1]/2 if t < size(t) - 1, 0 otherwise)",
    "two steps where one is safe": "a(r: real[t]) = sum[t](G) where G = r + piecewise(G[t - 2]/2 if t > 0, 0 otherwise)",
    "read at a place that may not be there": "a(r: real[t]) = G[3] where G = r + piecewise(G[t - 1]/2 if t > 0, 0 otherwise)",
}


@pytest.mark.parametrize("what", LEAVES)
def test_a_reading_that_may_leave_its_axis_warns_and_is_nan(what: str) -> None:
    programs, remarks = load_text_with_warnings(LEAVES[what], "test.loss")
    assert [r.name for r in remarks] == ["index-leaves-axis"] and "G" in remarks[0].message and remarks[0].hint
    (p,) = programs.values()
    r = np.array([1.0, 2.0, 3.0])
    assert math.isnan(value_of(p, {"r": r}))
    assert math.isnan(Loss(p).compile("numpy")(r)) and math.isnan(Loss(p).compile("torch")(torch.as_tensor(r)))


# -- the ends and minus infinity --------------------------------------------------------------------------------------


def torch_ctc(x: Any, y: Any) -> tuple[Any, Any]:
    """Values and gradients by the logits, of a sample each."""
    x = x.clone().requires_grad_()
    n, t, _ = x.shape
    value = torch.nn.functional.ctc_loss(
        x.log_softmax(-1).transpose(0, 1), y, torch.full((n,), t), torch.full((n,), y.shape[1]), blank=0, reduction="none"
    )
    (g,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), g


@pytest.mark.parametrize(("t", "u", "c"), [(1, 1, 3), (2, 1, 2), (5, 2, 4), (6, 3, 2), (12, 4, 3), (4, 0, 3), (30, 7, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ctc_is_that_of_torch(t: int, u: int, c: int, dtype: str) -> None:
    """The blank is 0; labels repeat; what cannot be aligned costs an infinity."""
    rng = torch.Generator().manual_seed(t)
    x = torch.randn(4, t, c, generator=rng, dtype=torch.float64)
    y = torch.randint(1, c, (4, u), generator=rng)
    real = getattr(torch, dtype)
    logp = x.log_softmax(-1).to(real)
    want, slope = torch_ctc(x, y)
    fits = want.isfinite()
    close = 1e-9 if dtype == "float64" else 2e-4
    for backend, args in (("numpy", (logp.numpy(), y.numpy())), ("torch", (logp, y))):
        value, g = (torch.as_tensor(v) for v in loss("ctc").compile(backend).value_and_grad(*args, reduction="none"))
        assert value.dtype == real and torch.equal(value.isfinite(), fits) and bool((value[~fits] > 0).all())
        assert torch.allclose(value[fits].double(), want[fits], rtol=close, atol=close)
        through = g.double() - x.softmax(-1) * g.double().sum(-1, keepdim=True)
        assert bool(g.isfinite().all()) and torch.allclose(through[fits], slope[fits], rtol=close, atol=close)


def test_ctc_with_impossible_classes() -> None:
    """A class of probability 0 is as far as minus infinity, and moves nothing."""
    with np.errstate(divide="ignore"):
        logp = np.log(np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.5, 0.0, 0.5]]))
    y = np.array([1, 2])
    for backend in ("numpy", "torch", "reference"):
        args = (torch.as_tensor(logp), torch.as_tensor(y)) if backend == "torch" else (logp, y)
        value, g = loss("ctc").compile(backend).value_and_grad(*args)
        assert np.allclose(value, ctc(logp, y), rtol=1e-12)
        p = np.exp(logp)
        h = 1e-6
        for i, k in zip(*np.nonzero(p), strict=True):
            step = np.zeros_like(logp)
            step[i, k] = h
            assert np.isclose(np.asarray(g)[i, k], (ctc(logp + step, y) - ctc(logp - step, y)) / (2 * h), rtol=1e-5, atol=1e-8)
        assert np.array_equal(np.asarray(g)[p == 0], np.zeros((p == 0).sum()))


def test_an_unreached_state_has_no_slope() -> None:
    text = "a(e: logit[t, k], A: logit[k, l in k]) = logsumexp[k](al[size(t) - 1, k]) where al[t, j in k] = e[t, j] + "
    text += "piecewise(logsumexp[i in k](al[t - 1, i] + A[i, j]) if t > 0, 0 otherwise)"
    start = np.array([[0.0, -np.inf, -np.inf], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    ladder = np.where(np.tri(3, 3, -1).T + np.eye(3) > 0, 0.5, -np.inf)
    ladder[0, 1:] = -np.inf  # nothing leads away from the first state
    for wrt in ("e", "A"):
        for backend in ("numpy", "torch"):
            args = tuple(map(torch.as_tensor, (start, ladder))) if backend == "torch" else (start, ladder)
            value, g = lossdsl.parse(text)["a"].compile(backend, wrt=wrt).value_and_grad(*args)
            assert np.isclose(value, 0.5 + 0.5 + 0.1 + 0.4) and np.isfinite(np.asarray(g)).all()
            assert np.isclose(np.asarray(g).sum(), 3 if wrt == "e" else 2)


def test_a_branch_that_is_not_taken_poisons_nothing() -> None:
    """Steps behind the length of a sequence may hold anything."""
    text = "a(x: real[t], n: integer) = sum[t | t < n](G^2) where G[t] = piecewise(x[t] + piecewise(G[t - 1]/2 if t > 0, 0 otherwise) if t < n)"
    x = np.array([1.0, -2.0, np.nan, np.inf])
    for backend in ("numpy", "torch", "reference"):
        args = (torch.as_tensor(x), torch.tensor(2)) if backend == "torch" else (x, np.int64(2))
        value, g = lossdsl.parse(text)["a"].compile(backend).value_and_grad(*args)
        assert np.isclose(value, 1 + 1.5**2) and np.allclose(g, [2 - 1.5, -3.0, 0.0, 0.0])


def test_stable_where_probabilities_underflow() -> None:
    """The forward recursion in logarithms over two thousand steps, whose probabilities are far below the smallest number."""
    rng = np.random.default_rng(0)
    e, A = rng.standard_normal((2000, 3)) - 40, rng.standard_normal((3, 3))
    a = e[0]
    for row in e[1:]:
        a = row + np.logaddexp.reduce(a[:, None] + A, axis=0)
    want = np.logaddexp.reduce(a)
    value, g = loss("forward").compile("numpy", wrt="e").value_and_grad(e, A)
    assert want < -70_000 and np.isclose(value, want, rtol=1e-12) and np.allclose(g.sum(axis=1), 1)


# -- length -----------------------------------------------------------------------------------------------------------


def test_two_thousand_steps() -> None:
    """Nothing of it takes Python's own stack, and it is linear: a quadratic one would take minutes."""
    rng = np.random.default_rng(0)
    r, v = rng.standard_normal(2000), np.float64(0.5)
    want = returns(r, v)
    assert np.isclose(value_of(loss("returns").program, {"r": r, "v": v}), want, rtol=1e-10)
    for backend in ("numpy", "torch"):
        args = (torch.as_tensor(r), torch.as_tensor(v)) if backend == "torch" else (r, v)
        value, g = loss("returns").compile(backend, wrt="r").value_and_grad(*args)
        assert np.isclose(value, want, rtol=1e-10)
        out, after = np.zeros(2000), 0.0
        G = np.zeros(2001)
        G[2000] = v
        for k in reversed(range(2000)):
            G[k] = r[k] + 0.9 * G[k + 1]
        for k in range(2000):
            out[k] = after = 2 * G[k] + 0.9 * after
        assert np.allclose(g, out, rtol=1e-9)


def test_a_chain_of_many_recursions() -> None:
    """Each reads the one before it."""
    names = [f"g{k} = g{k - 1} + piecewise(g{k}[t - 1]/2 if t > 0, 0 otherwise)" for k in range(1, 60)]
    text = f"a(r: real[t]) = sum[t](g59) where g0 = r, {', '.join(names)}"
    L = lossdsl.parse(text)["a"]
    r = np.array([1.0, -1.0, 0.5])
    g = r
    for _ in range(59):
        g = np.array([g[0], g[1] + g[0] / 2, g[2] + g[1] / 2 + g[0] / 4])
    assert np.isclose(L.compile("numpy")(r), g.sum(), rtol=1e-9)
    assert np.allclose(value_of(gradient(L.program, ["r"]), {"r": r})[2], 1)
    assert np.isclose(value_of(tangent(L.program, {"r": "d"}), {"r": r, "d": r}), g.sum(), rtol=1e-9)


# -- calls, weights, axes ---------------------------------------------------------------------------------------------


def test_a_loss_with_a_recursion_is_called() -> None:
    text = """
_returns(r: real[t]; c = 1/2) = sum[t](G^2) where G = r + c*piecewise(G[t + 1] if t + 1 < size(t), 0 otherwise)
rows(x: real[n, s], w: real[n]) = mean[n](w*_returns[s](2*x + w[n]; c = 1/4))
"""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 5)), rng.standard_normal(3)

    def one(r: Any) -> float:
        out, total = 0.0, 0.0
        for v in r[::-1]:
            out = v + out / 4
            total += out**2
        return total

    want = np.mean([w[n] * one(2 * x[n] + w[n]) for n in range(3)])
    L = lossdsl.parse(text)["rows"]
    assert np.isclose(value_of(L.program, {"x": x, "w": w}), want, rtol=1e-12)
    assert np.isclose(L.compile("numpy")(x, w), want) and lossdsl.parse(str(L))["rows"].program.roots == L.program.roots
    for wrt in ("x", "w"):
        want_slope = np.asarray(reference.differences(L.program, {"x": x, "w": w}, {}, wrt), float)
        assert np.allclose(L.compile("torch", wrt=wrt).value_and_grad(torch.as_tensor(x), torch.as_tensor(w))[1], want_slope)


def test_weights_on_a_declared_sample_axis() -> None:
    text = "a(x: real[n, t]) = mean[n](sum[t](G^2)) where G[n, t] = x[n, t] + piecewise(G[n, t - 1]/2 if t > 0, 0 otherwise)\n  batch n"
    L = lossdsl.parse(text)["a"]
    x, w = np.random.default_rng(0).standard_normal((3, 4)), np.array([2.0, 0.0, 1.0])
    each = [L.compile("numpy")(x[n : n + 1]) for n in range(3)]
    for fn, given in ((L.compile("numpy"), (x, w)), (L.compile("torch"), (torch.as_tensor(x), torch.as_tensor(w)))):
        assert np.isclose(fn(given[0], sample_weight=given[1]), (2 * each[0] + each[2]) / 3)


def test_no_weights_along_the_axis_of_a_recursion() -> None:
    text = "a(x: real[n]) = mean[n](G^2) where G[n] = x[n] + piecewise(G[n - 1]/2 if n > 0, 0 otherwise)\n  batch n"
    for backend, x in (("numpy", np.ones(3)), ("torch", torch.ones(3))):
        fn = lossdsl.parse(text)["a"].compile(backend)
        assert np.isclose(float(fn(x)), (1 + 1.5**2 + 1.75**2) / 3)
        with pytest.raises(lossdsl.LossError, match="samples"):
            fn(x, sample_weight=x)


def test_hyper_parameters_move_it_too() -> None:
    L = loss("td(lambda)")
    given = ROWS["td(lambda)"].given(5)
    for wrt in ("g", "lam"):
        want = reference.differences(L.program, given, params(L.program), wrt)
        assert np.isclose(L.compile("numpy", wrt=wrt).value_and_grad(**given)[1], float(want), rtol=1e-9)
    assert np.isclose(L.bind(lam=0.25).compile("numpy")(**given), td_lambda(**given, lam=0.25))


def test_the_module_stands_alone() -> None:
    given = ROWS["forward"].given(4, 1, (2,))
    for backend, function in (("numpy", "value"), ("torch", "apply")):
        space: dict[str, Any] = {}
        exec(loss("forward").source(backend), space)
        args = given.values() if backend == "numpy" else tensors(given).values()
        out = space[function](*args)
        assert np.allclose(np.asarray(out), [forward(given["e"][n], given["A"][n]) for n in range(2)])


# -- the node ---------------------------------------------------------------------------------------------------------

SAME = {
    "names do not matter": (
        "a(r: real[t]) = sum[t](G) where G = r + piecewise(G[t + 1] if t + 1 < size(t), 0 otherwise)",
        "a(r: real[t]) = sum[i in t](H[i]) where H[t] = r[t] + piecewise(H[t + 1] if t + 1 < size(t), 0 otherwise)",
    ),
    "an axis in the head that nothing moves is as good as one beside it": (
        "a(r: real[n, t]) = sum[n, t](G) where G = r + piecewise(G[t = t - 1] if t > 0, 0 otherwise)",
        "a(r: real[n, t]) = sum[n, t](G[n, t]) where G[n, t] = r[n, t] + piecewise(G[n, t - 1] if t > 0, 0 otherwise)",
    ),
    "an index that nothing uses is none": (
        "a(r: real[t], x: real[n]) = sum[t](G[t])*sum[n](x) where G[t] = r[t] + piecewise(G[t - 1] if t > 0, 0 otherwise)",
        "a(r: real[t], x: real[n]) = sum[t](G[t, 0])*sum[n](x) where G[t, n] = r[t] + piecewise(G[t - 1, n] if t > 0, 0 otherwise)",
    ),
    "what is written out": (
        "a(r: real[t]) = sum[t](A) where A = r + B/2, B[t] = piecewise(A[t - 1] if t > 0, 0 otherwise)",
        "a(r: real[t]) = sum[t](A) where A = r + piecewise(A[t - 1] if t > 0, 0 otherwise)/2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SAME)
def test_equal_recursions_are_equal_nodes(what: str) -> None:
    one, other = (program(text) for text in SAME[what])
    assert one.roots == other.roots


def test_what_is_free_in_a_body_becomes_an_index() -> None:
    state, t, n = fresh("~state"), fresh("t"), Index("n", "n")
    body = plus(ref("x", [ix(n), ix(t)]), rec(state, ["t"], [plus(ix(t), num(1))]))
    e = scan(-1, [state, t], body, [num(0)])
    assert e.free == {n} and len(e.args) == 3 and [b.axis for b in e.data[1]] == ["~state", "t", "n"]
    (moved,) = substitute((e,), {n: num(2)})
    assert not moved.free and moved.args[0] is e.args[0]
    assert scan(-1, [state, t], ref("x", [ix(t)]), [ix(Index("t", "t"))]) is ref("x", [ix(Index("t", "t"))])


@TABLE
def test_values_are_where_interval_analysis_says(name: str) -> None:
    p = pipeline.stable(loss(name).program)
    ranges = Ranges(p)
    given = ROWS[name].given(ROWS[name].derived, 11)
    value = value_of(p, given)
    assert ranges.nan(p.value) if math.isnan(value) else float(value) in ranges.of(p.value)


BOUNDED = {
    "positive": ("w + b*piecewise(x[t - 1]^2 + h[t - 1] if t > 0, 0 otherwise)", (0, math.inf)),
    "a share": ("sigmoid(x[t])*piecewise(h[t - 1] if t > 0, 1 otherwise)", (0, 1)),
    "finite": ("x[t] + piecewise(h[t - 1]/2 if t > 0, 0 otherwise)", (-math.inf, math.inf)),
    "no bound is kept": ("piecewise(-h[t - 1] if t > 0, 1 otherwise)", (-math.inf, math.inf)),
}


@pytest.mark.parametrize("what", BOUNDED)
def test_bounds_that_every_step_keeps(what: str) -> None:
    body, (low, high) = BOUNDED[what]
    p = program(f"a(x: real[t]; w: positive = 1, b: nonnegative = 1/2) = sum[t](h) where h[t] = {body}")
    e = next(x for x in postorder(p.roots) if x.op == "scan")
    found = Ranges(p).of(e)
    assert (found.low, found.high) == (low, high)
    if what in ("positive", "a share"):
        assert Ranges(p).positive(e)


def test_code_computes_before_the_loop_what_does_not_depend_on_it() -> None:
    source = lossdsl.parse("a(x: real[t]; c = 1/2) = sum[t](G^2) where G = exp(sin(x)) + c*piecewise(G[t - 1] if t > 0, 0 otherwise)")["a"].source("numpy")
    value = source[source.index("def value(") :]
    before, after = value.split("for ", 1)
    assert "np.exp(np.sin(" in before and "np.exp(" not in after.split("stacked", 1)[0]


# -- planted bugs -----------------------------------------------------------------------------------------------------


def forget_who_reads(patch: pytest.MonkeyPatch) -> None:
    known = passes.make_scan
    alone: Callable[..., Any] = lambda step, binders, body, at: known(step, binders, replace_recs((body,), {binders[0]: lambda _: num(0)})[0], at)  # noqa: E731
    patch.setattr(passes, "make_scan", alone)


def turn_round(patch: pytest.MonkeyPatch) -> None:
    known = passes.make_scan
    patch.setattr(passes, "make_scan", lambda step, *rest: known(-step, *rest))


def one_step_always(patch: pytest.MonkeyPatch) -> None:
    known = printed.Open.steps
    patch.setattr(printed.Open, "steps", lambda self, place: known(self, place) and 1)


def helper(name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        assert old in numpy_printer.HELPERS[name]
        patch.setitem(numpy_printer.HELPERS, name, numpy_printer.HELPERS[name].replace(old, new))

    return plant


PLANTED = {
    "the adjoint forgets who reads an entry": forget_who_reads,
    "the adjoint runs the same way": turn_round,
    "a step is one step always": one_step_always,
    "entries stay in the order of the steps": helper("stacked", "[::step]", ""),
    "entries are one step late": helper("stacked", "rows[pads:]", "rows[pads - 1:-1]"),
    "a row is written beside its place": helper("written", "x[at] = row", "x[at - 1] = row"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_bug_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def agrees(name: str) -> bool:
        p, given = loss(name).program, ROWS[name].given(4, 1)
        (wrt, *_) = ROWS[name].wrt
        value, g = Loss(p).compile("numpy", wrt=wrt).value_and_grad(**given)
        same = np.allclose(value, ROWS[name].loop(**given), rtol=1e-9)
        return bool(same and np.allclose(g, np.asarray(reference.differences(p, given, params(p), wrt), float), rtol=1e-8, atol=1e-9))

    names = ["returns", "two steps", "autoregressive"]
    compile_anew()
    assert all(map(agrees, names))
    PLANTED[what](monkeypatch)
    assert not all(map(agrees, names))
