"""Reductions over elements in the order of a key: computed without pairs, and equal to the reference and to plain loops."""

from __future__ import annotations

import functools
import itertools
import math
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import pipeline
from lossdsl.loss import Loss
from lossdsl.passes.gradient import gradient
from lossdsl.runtime import reference
from lossdsl.schedule import schedule

torch = pytest.importorskip("torch")

HEAD = "loss(x: logit[n], w: real[n], t: real[n], u: real[n], y: real[a], v: real[a], c: integer[n], k: class(n)[n], m: bool[n], p: real[n, d])"
RELATIONS: dict[str, Callable[[Any, Any], Any]] = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Reduced:
    """What is reduced: a text with a place for the guard, and its value for one i, given which of the j are left."""

    text: str
    value: Callable[[Arrays, int, Any], Any]


def largest(x: Any) -> Any:
    return x.max() if x.size else np.nan


def logsumexp(x: Any) -> Any:
    return np.logaddexp.reduce(x) if x.size else -np.inf


REDUCED = {
    "sum": Reduced("sum[j in n | {g}](x[j])", lambda a, i, s: a["x"][s].sum()),
    "count": Reduced("count[j in n | {g}]", lambda a, i, s: s.sum()),
    "max": Reduced("max[j in n | {g}](x[j])", lambda a, i, s: largest(a["x"][s])),
    "min": Reduced("min[j in n | {g}](x[j])", lambda a, i, s: -largest(-a["x"][s])),
    "logsumexp": Reduced("logsumexp[j in n | {g}](x[j])", lambda a, i, s: logsumexp(a["x"][s])),
    "norm": Reduced("norm[j in n | {g}](x[j])", lambda a, i, s: np.sqrt((a["x"][s] ** 2).sum())),
    "any": Reduced("piecewise(u[i] if any[j in n]({g}), 2 otherwise)", lambda a, i, s: a["u"][i] if s.any() else 2),
    "mean": Reduced("mean[j in n | {g}](x[j]*u[j])", lambda a, i, s: (a["x"] * a["u"])[s].sum() / s.sum()),
    "exponential": Reduced("sum[j in n | {g}](u[j]*exp(x[j] - u[i]/2))", lambda a, i, s: (a["u"] * np.exp(a["x"] - a["u"][i] / 2))[s].sum()),
    "split": Reduced("sum[j in n | {g}](x[j]*u[i] - 2*u[j] + x[i])", lambda a, i, s: (a["x"] * a["u"][i] - 2 * a["u"] + a["x"][i])[s].sum()),
    "shifted": Reduced("logsumexp[j in n | {g}](x[j]/2 - u[i])", lambda a, i, s: logsumexp(a["x"][s] / 2) - a["u"][i]),
    "rows": Reduced("sum[d, j in n | {g}](p[j, d]*p[i, d])", lambda a, i, s: (a["p"][s] * a["p"][i]).sum()),
    "largest row": Reduced("max[d, j in n | {g}](u[i] + p[j, d])", lambda a, i, s: largest((a["u"][i] + a["p"])[s])),
    "product": Reduced("prod[j in n | {g}](x[j] + 1/2)", lambda a, i, s: (a["x"][s] + 0.5).prod()),
    "a condition": Reduced("sum[j in n](({g})*x[j])", lambda a, i, s: a["x"][s].sum()),
}  # fmt: skip


@dataclass(frozen=True)
class Guard:
    """A guard with a place for the relation, and for one i which of the j it leaves."""

    text: str
    holds: Callable[[Arrays, int, Any, Callable[[Any, Any], Any]], Any]


GUARDS = {
    "ties": Guard("t[j] {r} t[i]", lambda a, i, j, r: r(a["t"], a["t"][i])),
    "index": Guard("j {r} i", lambda a, i, j, r: r(j, i)),
    "shifted index": Guard("j + 1 {r} i", lambda a, i, j, r: r(j + 1, i)),
    "reversed index": Guard("size(n) - 1 - j {r} i", lambda a, i, j, r: r(len(j) - 1 - j, i)),
    "index beside data": Guard("j {r} 3*u[i]", lambda a, i, j, r: r(j, 3 * a["u"][i])),
    "index and mask": Guard("j {r} i and m[j]", lambda a, i, j, r: r(j, i) & a["m"]),
    "whole numbers": Guard("c[j] {r} c[i]", lambda a, i, j, r: r(a["c"], a["c"][i])),
    "classes": Guard("k[j] {r} k[i]", lambda a, i, j, r: r(a["k"], a["k"][i])),
    "masks": Guard("m[i] and t[j] {r} t[i] and u[j] > 0", lambda a, i, j, r: r(a["t"], a["t"][i]) & a["m"][i] & (a["u"] > 0)),
    "expressions": Guard("t[i]/4 - 1 {r} 2*t[j]", lambda a, i, j, r: r(a["t"][i] / 4 - 1, 2 * a["t"])),
    "difference": Guard("t[j] - t[i] {r} 0", lambda a, i, j, r: r(a["t"], a["t"][i])),
    "groups": Guard("c[j] == c[i]", lambda a, i, j, r: a["c"] == a["c"][i]),
    "in groups": Guard("c[j] == c[i] and t[j] {r} t[i]", lambda a, i, j, r: (a["c"] == a["c"][i]) & r(a["t"], a["t"][i])),
    "in masked groups": Guard(
        "t[j] == t[i] and k[i] - 1 {r} k[j] and c[i] == c[j] and m[j]",
        lambda a, i, j, r: (a["t"] == a["t"][i]) & r(a["k"][i] - 1, a["k"]) & (a["c"] == a["c"][i]) & a["m"],
    ),
    "two keys": Guard("t[j] {r} t[i] and u[j] > u[i]", lambda a, i, j, r: r(a["t"], a["t"][i]) & (a["u"] > a["u"][i])),
    "a window": Guard("i - j {r} 1 and t[j] <= t[i] and m[j]", lambda a, i, j, r: r(i - j, 1) & (a["t"] <= a["t"][i]) & a["m"]),
    "not": Guard("not (j {r} i)", lambda a, i, j, r: ~r(j, i)),
}  # fmt: skip
Case = tuple[str, str, str]


def cases(reduced: Iterable[str] = REDUCED, guards: Iterable[str] = GUARDS, every: bool = False) -> list[Case]:
    """All pairs of what is reduced and a guard, with one of the relations, or every one."""
    pairs = [(what, guard, k + l) for (k, what), (l, guard) in itertools.product(enumerate(reduced), enumerate(guards))]
    return [(what, guard, list(RELATIONS)[(k + shift) % 4]) for what, guard, k in pairs for shift in range(4 if every else 1)]


@functools.cache
def loss_of(what: str, guard: str, relation: str) -> Loss:
    """The reductions for all i, each times its own number: these are the gradient by them."""
    body = REDUCED[what].text.format(g=GUARDS[guard].text.format(r=relation))
    return lossdsl.parse(f"{HEAD} = sum[i in n](w[i]*{body})")["loss"]


def drawn(n: int, seed: str) -> Arrays:
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    real = {name: rng.normal(size=n) for name in "xwu"} | {name: rng.normal(size=3) for name in "yv"} | {"p": rng.normal(size=(n, 2))}
    return real | {
        "t": rng.integers(-3, 4, n) / 2,
        "c": rng.integers(-2, 3, n) * 1.0,
        "k": rng.integers(0, max(n, 1), n),
        "m": rng.random(n) < 0.6,
    }


def typed(arrays: Arrays, dtype: Any) -> Arrays:
    return {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in arrays.items()}


def looped(what: str, guard: str, relation: str, arrays: Arrays) -> Any:
    j = np.arange(len(arrays["x"]))
    with np.errstate(all="ignore"):
        return np.array([REDUCED[what].value(arrays, i, GUARDS[guard].holds(arrays, i, j, RELATIONS[relation])) for i in j], float)


@functools.cache
def compiled(loss: Loss, backend: str) -> Any:
    return loss.compile(backend, wrt=["w", "x"])


def slopes(loss: Loss, backend: str, arrays: Arrays) -> tuple[Any, ...]:
    """The value and the gradients by w and x."""
    given = {k: torch.as_tensor(v) for k, v in arrays.items()} if backend == "torch" else arrays
    value, gradients = compiled(loss, backend).value_and_grad(**{i.name: given[i.name] for i in loss.inputs})
    return tuple(np.asarray(x) for x in (value, *gradients))


def over_pairs(loss: Loss, what: str, wrt: Sequence[str] = ()) -> list[str]:
    """The stages that are computed with an array over pairs of one axis."""
    names = frozenset() if loss.program.batch else frozenset(i.name for i in loss.inputs)
    stages = schedule(pipeline.kernel(loss.program, "numpy", what, wrt, names)).stages
    return [s.name for s in stages if any(len(set(axes)) < len(axes) for axes in s.arrays)]


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "guard", "relation"), cases()[::2])
def test_ordered_reductions_agree_with_the_reference(what: str, guard: str, relation: str) -> None:
    loss = loss_of(what, guard, relation)
    assert not over_pairs(loss, "value")
    programs = [loss.program, *(gradient(loss.program, [name]) for name in "wx")]
    for n, dtype in ((6, np.float64), (6, np.float32), (len(what) % 3, np.float64)):
        arrays = typed(drawn(n, what + guard), dtype)
        want = [reference.evaluate(p, arrays, dtype=dtype)[p.name] for p in programs]
        for backend in ("numpy", "torch"):
            for name, got, exact in zip(("value", "by w", "by x"), slopes(loss, backend, arrays), want, strict=True):
                assert reference.ulps(got, exact, dtype) <= 8, f"{backend} {dtype.__name__} n = {n} {name}: {got}\n{np.asarray(exact)}"


@pytest.mark.parametrize(
    ("what", "guard", "relation"), [*cases()[1::2], *cases(["max", "exponential"], ["ties", "index", "in groups", "two keys"], every=True)]
)
def test_ordered_reductions_agree_with_loops(what: str, guard: str, relation: str) -> None:
    for n in (0, 1, 2, 50):
        arrays = drawn(n, what + guard)
        want = looped(what, guard, relation, arrays)
        for backend in ("numpy", "torch"):
            got = slopes(loss_of(what, guard, relation), backend, arrays)[1]
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13, err_msg=backend)


# -- keys and elements that are no numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "guard", "relation"),
    [*cases(guards=["ties", "masks", "in groups", "two keys"]), *cases(["max", "exponential"], ["ties"], every=True)],
)
def test_keys_may_be_infinite_or_nan(what: str, guard: str, relation: str) -> None:
    """A key that is NaN is in no set, a query that is NaN has none, and 0 is -0."""
    for seed in range(3):
        arrays = drawn(12, what + guard)
        special = np.random.default_rng(seed).choice([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan], 12)
        arrays["t"] = special
        if guard == "in groups":
            arrays["c"] = np.random.default_rng(seed + 9).choice([0.0, -0.0, np.inf, np.nan], 12)
        want = looped(what, guard, relation, arrays)
        for backend in ("numpy", "torch"):
            got = slopes(loss_of(what, guard, relation), backend, arrays)[1]
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13, err_msg=backend)


ELEMENTS = ["sum", "product", "max", "min", "norm", "logsumexp", "mean", "split", "largest row", "rows", "exponential"]


@pytest.mark.parametrize(
    ("what", "guard", "relation"), cases(ELEMENTS, ["ties", "not", "index", "masks", "index and mask", "in groups", "two keys"])[::2]
)
def test_an_element_matters_where_it_belongs(what: str, guard: str, relation: str) -> None:
    """NaN and infinities reach the sets that they are in, and no other; what has no set at all reaches nothing."""
    rng = np.random.default_rng(3)
    for special in (np.nan, np.inf, -np.inf):
        arrays = drawn(12, what)
        for name in ("x", "p") if what in ("rows", "largest row") else ("x",):
            arrays[name][rng.integers(0, 12, 2)] = special
        want = looped(what, guard, relation, arrays)
        if what in ("rows", "split"):  # 0*inf is there an infinity or NaN
            arrays["w"][~np.isfinite(want)] = 0
        for backend in ("numpy", "torch"):
            got = slopes(loss_of(what, guard, relation), backend, arrays)[1]
            keep = np.isfinite(want) if what in ("rows", "split") else ...
            np.testing.assert_allclose(got[keep], want[keep], rtol=1e-12, atol=1e-12, err_msg=backend)


def test_large_and_small_weights_of_exponentials() -> None:
    """Nothing overflows, and a weight of 0 hides nothing, however large its exponent."""
    loss = lossdsl.parse("loss(x: real[n], u: real[n], w: real[n]) = sum[i in n](w[i]*sum[j in n | j <= i](u[j]*exp(x[j] - x[i])))")["loss"]
    rows = {
        "rising": (np.linspace(-2000, 2000, 9), np.ones(9)), "falling": (np.linspace(600, -80, 9), np.ones(9)),
        "zeros": (np.array([0.0, 5000, 1, 9000, 0, -3000, -1, 700, 2]), np.array([1.0, 0, -2, 0, 3, 0, 1, 0, 2])),
        "signs": (np.array([0.0, 1, 0, 1, 2, 2, 1, 0, 1]), np.array([1.0, -1, 1, -1, 1e-200, 1e200, -1e200, 1, -1])),
    }  # fmt: skip
    for name, (x, u) in rows.items():
        arrays = {"x": x, "u": u, "w": np.ones(9)}
        want = reference.evaluate(gradient(loss.program, ["w"]), arrays)["dloss_dw"]
        for backend in ("numpy", "torch"):
            got = slopes(loss, backend, arrays)[1]
            assert reference.ulps(got, want) <= 8, (name, backend, got, np.asarray(want))


# -- axes -------------------------------------------------------------------------------------------------------------


def test_long_sums_keep_their_digits() -> None:
    """Errors grow like the logarithm of the number of elements, and float32 is summed in float64."""
    x = np.random.default_rng(0).random(100_000)
    loss = lossdsl.parse("loss(x: real[n], w: real[n]) = sum[i in n](w[i]*sum[j in n | j <= i](x[j]))\n wrt w")["loss"]
    whole = [math.fsum(x[: k + 1]) for k in range(0, len(x), 997)]
    for backend in ("numpy", "torch"):
        for dtype, ulp in ((np.float64, 3), (np.float32, 1)):
            given = {"x": x.astype(dtype), "w": np.ones(len(x), dtype)}
            got = slopes(loss, backend, given)[1][::997]
            exact = whole if dtype is np.float64 else [math.fsum(given["x"][: k + 1].astype(float)) for k in range(0, len(x), 997)]
            np.testing.assert_allclose(got, exact, rtol=ulp * np.finfo(dtype).eps)


AXES = {
    "another axis": ("sum[b in a](v[b]*sum[j in n | t[j] <= y[b]](x[j]))", lambda a, r: (a["v"] * (r(a["t"][None], a["y"][:, None]) * a["x"]).sum(1)).sum()),
    "two indices of the query": (
        "sum[i in n, b in a](v[b]*w[i]*max[j in n | t[j] <= y[b] + u[i]](x[j], default = 3))",
        lambda a, r: sum(
            a["v"][b] * a["w"][i] * max(a["x"][r(a["t"], a["y"][b] + a["u"][i])], default=3) for b in range(3) for i in range(len(a["x"]))
        ),
    ),
    "two indices of the key": (
        "sum[i in n](w[i]*logsumexp[j in n, b in a | t[j] + y[b] <= u[i]](x[j]*v[b], default = 1))",
        lambda a, r: sum(
            a["w"][i] * (logsumexp(z) if (z := np.outer(a["x"], a["v"])[r(a["t"][:, None] + a["y"], a["u"][i])]).size else 1) for i in range(len(a["x"]))
        ),
    ),
    "keys of each row": (
        "sum[i in n, d](w[i]*count[j in n | p[j, d] <= p[i, d] and m[j]])",
        lambda a, r: sum(a["w"][i] * (r(a["p"], a["p"][i]) & a["m"][:, None]).sum() for i in range(len(a["x"]))),
    ),
    "a range": (
        "sum[b in 0..4](b*sum[j in n | c[j] <= b](x[j]))",
        lambda a, r: sum(b * a["x"][r(a["c"], b)].sum() for b in range(5)),
    ),
    "over a range": (
        "sum[i in n](w[i]*sum[b in -1..2 | b <= c[i]](b^2))",
        lambda a, r: sum(a["w"][i] * sum(b * b for b in range(-1, 3) if r(b, a["c"][i])) for i in range(len(a["x"]))),
    ),
    "both sides bound": (
        "count[i, j in n | x[i] <= x[j] and m[i] and c[j] > 0]",
        lambda a, r: (r(a["x"][:, None], a["x"]) & a["m"][:, None] & (a["c"] > 0)).sum(),
    ),
    "the largest of pairs": (
        "max[i, j in n | t[i] <= t[j] and m[j]](x[i] + u[j], default = 5)",
        lambda a, r: max((a["x"][:, None] + a["u"])[r(a["t"][:, None], a["t"]) & a["m"]], default=5),
    ),
    "all pairs of rows": (
        "sum[i, j in n, d | t[i] <= t[j]](p[i, d]*p[j, d])",
        lambda a, r: (r(a["t"][:, None], a["t"]) * (a["p"] @ a["p"].T)).sum(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("name", AXES)
def test_axes(name: str, relation: str) -> None:
    """Several indices on either side, rows of their own, ranges, pairs: without an array over pairs, batched too."""
    text, direct = AXES[name]
    loss = lossdsl.parse(f"{HEAD} = {text.replace('<=', relation)}")["loss"]
    if name not in ("two indices of the query", "two indices of the key"):
        assert all(s != "pair" for s in shapes(loss))
    for n in (0, 1, 6):
        rows = [drawn(n, f"{name} {k}") for k in range(3)]
        want = [direct(a, RELATIONS[relation]) for a in rows]
        batch = {k: np.stack([a[k] for a in rows]) for k in rows[0]}
        for backend in ("numpy", "torch"):
            fn = loss.compile(backend)
            given = {i.name: torch.as_tensor(batch[i.name]) if backend == "torch" else batch[i.name] for i in loss.inputs}
            np.testing.assert_allclose(np.asarray(fn(**given, reduction="none")), want, rtol=1e-12, atol=1e-12)
            shared = {k: v[0] if k in "ty" else v for k, v in given.items()}  # keys that all rows share
            own = [direct(a | {k: rows[0][k] for k in "ty"}, RELATIONS[relation]) for a in rows]
            np.testing.assert_allclose(np.asarray(fn(**shared, reduction="none")), own, rtol=1e-12, atol=1e-12)


def shapes(loss: Loss) -> list[str]:
    names = frozenset(i.name for i in loss.inputs)
    return [s.shape for s in schedule(pipeline.kernel(loss.program, "numpy", "value", [], names)).stages]


# -- losses -----------------------------------------------------------------------------------------------------------

COX = "cox(s: real[n], t: real[n], d: binary[n]) = -sum[i in n](d[i]*(s[i] - log(sum[j in n | t[j] >= t[i]](exp(s[j])))))"
LOSSES = {
    "rank": "rank(s: real[n], w: real[n]) = sum[i in n](w[i]*rank[n](s)[i])\n wrt w",
    "descending": "descending(s: real[n], w: real[n]) = sum[i in n](w[i]*rank[n](s, order = descending)[i])\n wrt w",
    "running": "running(x: real[n], w: real[n]) = sum[i in n](w[i]*sum[j in n | j <= i](x[j])^2)",
    "cox": COX,
    "cox of events": COX.replace("(d[i]*(s", " | d[i] == 1](1*(s").replace("sum[i in n]", "sum[i in n", 1),
    "efron free": "cox(s: real[n], t: real[n]) = mean[i in n](logsumexp[j in n | t[j] >= t[i]](s[j]) - s[i])\n batch n",
    "auc": "auc(s: real[n], y: binary[n]) = mean[i, j in n | y[i] == 1 and y[j] == 0](s[i] > s[j])",
    "comparable": "comparable(t: real[n], d: binary[n]) = sum[i, j in n | t[i] < t[j]](d[i])",
    "gain": "gain(s: real[n], y: real[n]) = sum[i in n](2^y[i]/log2(2 + count[j in n | s[j] > s[i]]))\n wrt y",
    "concordance": "concordance(s: real[n], t: real[n], d: binary[n]) = mean[i, j in n | t[i] < t[j] and d[i] == 1](s[i] > s[j])",
    "strata": COX.replace("t[j] >= t[i]", "g[j] == g[i] and t[j] >= t[i]").replace("d: binary[n]", "d: binary[n], g: label[n]"),
    "peak": "peak(s: real[n], w: real[n]) = sum[i in n](w[i]*max[j in n | j <= i](s[j]))",
    "frequency": "frequency(x: real[n], c: label[n]) = sum[i in n](x[i]^2/count[j in n | c[j] == c[i]])",
    "linear": "linear(s: real[n], y: real[n]) = sum[i, j in n | y[i] > y[j]](s[j] - s[i])",
    "crps": "crps(e: real[m], y: real[n]) = sum[i in n](count[k in m | e[k] <= y[i]]^2)",
    "exponential": "exponential(s: real[n], y: real[n]) = sum[i, j in n | y[i] > y[j]](exp(s[j] - s[i]))",
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_without_pairs(name: str) -> None:
    """Value and gradient are computed without an array over pairs, and agree with the reference."""
    (loss,) = lossdsl.parse(LOSSES[name]).values()
    wrt = loss.compile("numpy").wrt
    assert not over_pairs(loss, "value") and not over_pairs(loss, "gradient", wrt)
    slope = gradient(loss.program, wrt)
    for dtype in (np.float64, np.float32):
        arrays = typed(loss.sample(seed=1, sizes={"n": 9, "m": 6}), dtype)
        arrays["t"] = np.round(arrays["t"]) if "t" in arrays else None
        arrays = {k: v for k, v in arrays.items() if v is not None}
        want = [reference.evaluate(p, arrays, dtype=dtype)[p.name] for p in (loss.program, slope)]
        for backend in ("numpy", "torch"):
            given = {k: torch.as_tensor(v) for k, v in arrays.items()} if backend == "torch" else arrays
            for got, exact in zip(loss.compile(backend).value_and_grad(**given), want, strict=True):
                assert reference.ulps(np.asarray(got), exact, dtype) <= 8, (backend, dtype, got, np.asarray(exact))


def test_memory_is_linear() -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    given = rng.normal(size=n), rng.integers(0, 99, n) * 1.0, rng.integers(0, 2, n) * 1.0
    fn = lossdsl.parse(COX)["cox"].compile("numpy")
    fn.value_and_grad(*(x[:9] for x in given))
    tracemalloc.start()
    fn.value_and_grad(*given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 8 * n


@pytest.mark.parametrize("guard", ["t[i] < t[j] and c[i] != c[j]", "not (t[i] < t[j])", "t[i] < t[j] or m[j]", "t[j] < t[i] + t[j]"])
@pytest.mark.parametrize("body", ["softplus(x[j] - x[i])", "(x[j] - x[i])^2", "x[j]"])
def test_what_is_no_order_stays_over_pairs(guard: str, body: str) -> None:
    loss = lossdsl.parse(f"{HEAD} = sum[i in n](w[i]*sum[j in n | {guard}]({body}))")["loss"]
    assert over_pairs(loss, "value")
    arrays = drawn(7, guard)
    want = reference.evaluate(loss.program, arrays)["loss"]
    assert reference.ulps(np.asarray(slopes(loss, "numpy", arrays)[0]), want) <= 8


# -- torch ------------------------------------------------------------------------------------------------------------


def torch_cases() -> Iterator[tuple[Any, Any]]:
    for name in ("cox", "running", "exponential"):
        (loss,) = lossdsl.parse(LOSSES[name]).values()
        arrays = loss.sample(seed=2, sizes={"n": 7})
        x, *rest = (torch.as_tensor(arrays[i.name]).double() for i in loss.inputs)
        fn = loss.compile("torch")
        yield lambda x, fn=fn, rest=rest: fn(x, *rest), x


def test_torch_differentiates_ordered_reductions() -> None:
    for f, x in torch_cases():
        leaf = x.clone().requires_grad_()
        assert torch.autograd.gradcheck(f, (leaf,)) and torch.autograd.gradgradcheck(f, (leaf,))
        want = torch.autograd.functional.hessian(f, x)
        torch.testing.assert_close(torch.func.hessian(f)(x), want)
        along = torch.func.jvp(torch.func.grad(f), (x,), (torch.ones_like(x),))[1]
        torch.testing.assert_close(along, want.sum(1), atol=1e-9, rtol=1e-9)
        several = torch.stack([x, 2 * x, x - 1])
        torch.testing.assert_close(torch.vmap(torch.func.grad(f))(several), torch.stack([torch.func.grad(f)(row) for row in several]))


def test_torch_compiles_ordered_reductions_for_every_length() -> None:
    """Other lengths need no other graph, and what is computed otherwise under torch.compile is what is computed by pairs."""
    text = """loss(x: real[n], t: real[n], u: real[n]) = sum[i in n | any[j in n](t[j] < t[i])](max[j in n | t[j] < t[i]](x[j])
        + logsumexp[j in n | t[j] >= t[i]](x[j]) + norm[j in n | t[j] <= t[i]](x[j]) + sum[j in n | j < i](u[j]*exp(x[j] - x[i])))"""
    fn = lossdsl.parse(text)["loss"].compile("torch")
    torch._dynamo.reset()
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda *args: fn(*args), backend=backend, fullgraph=True, dynamic=True)
    rng = np.random.default_rng(0)
    for n in (33, 50, 64):  # graphs with groups are good up to the next power of two
        x, t, u = (torch.as_tensor(rng.normal(size=n).round(1)).requires_grad_() for _ in range(3))
        value, want = compiled(x, t, u), fn(x, t, u)
        torch.testing.assert_close(value, want)
        torch.testing.assert_close(torch.autograd.grad(value, x)[0], torch.autograd.grad(want, x)[0])
    assert len(graphs) == 1


def test_time(record_property: Callable[[str, object], None]) -> None:
    """Shown, never asserted: milliseconds of value and gradient at a hundred thousand elements."""
    rng = np.random.default_rng(0)
    n, lines = 100_000, []
    for name in ("cox", "rank", "running"):
        (loss,) = lossdsl.parse(LOSSES[name]).values()
        arrays = {
            "s": rng.normal(size=n),
            "x": rng.normal(size=n),
            "w": rng.normal(size=n),
            "t": rng.exponential(size=n),
            "d": rng.integers(0, 2, n) * 1.0,
        }
        for backend in ("numpy", "torch"):
            fn = loss.compile(backend)
            given = [torch.as_tensor(arrays[i.name]) if backend == "torch" else arrays[i.name] for i in loss.inputs]
            fn.value_and_grad(*given)
            start = time.perf_counter()
            value, slope = fn.value_and_grad(*given)
            lines.append(f"{name} {backend} {1e3 * (time.perf_counter() - start):.0f} ms")
            assert np.isfinite(value) and np.isfinite(slope).all()
    record_property("counts", ", ".join(lines))
