"""Warnings: each has a definition that it is given for and one near it that it is not; none is a false alarm; all can be turned off."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Case, cases
from test_hostile import LEGAL
from test_other_losses import LOSSES
from tools import value

import lossdsl
from lossdsl import cli
from lossdsl.errors import LossError
from lossdsl.frontend import load_text
from lossdsl.frontend.format import formatted
from lossdsl.frontend.remarks import Remark
from lossdsl.quality.lint import LINTS, lint

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "library").glob("*/*.loss"))


def names(text: str, **options: Any) -> list[str]:
    return [r.name for r in lint(text, **options)[1]]


# -- the table --------------------------------------------------------------------------------------------------------


def test_there_are_many() -> None:
    assert len(LINTS) >= 30


@pytest.mark.parametrize("name", LINTS)
def test_a_warning_fires_and_what_is_near_it_does_not(name: str) -> None:
    row = LINTS[name]
    only = {"select": [name]} if row.strict else {}
    assert names(row.fires, **only) == [name]
    assert names(row.silent, **only) == []


@pytest.mark.parametrize("name", LINTS)
def test_a_warning_has_a_name_a_place_a_reason_and_a_way_to_mend_it(name: str) -> None:
    row = LINTS[name]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name) and row.reason and row.fix and not row.reason.endswith(".")
    (remark,) = lint(row.fires, "test.loss", select=[name])[1]
    head, line, caret, hint = str(remark).split("\n")
    m = re.fullmatch(r"test\.loss:(\d+):(\d+): warning: (.+)", head)
    assert m and remark.message == m[3]
    assert line == "    " + row.fires.split("\n")[int(m[1]) - 1]
    assert caret[4:].index("^") == int(m[2]) - 1 and not caret.strip("^ ")
    assert hint == f"    hint: {remark.hint} [{name}]" and remark.hint


@pytest.mark.parametrize("name", LINTS)
def test_the_examples_are_laid_out(name: str) -> None:
    row = LINTS[name]
    for text in (row.fires, row.silent):
        assert names(formatted(text), select=[name]) == names(text, select=[name])


def test_every_remark_of_the_front_end_is_in_the_table() -> None:
    found = set()
    for path in (ROOT / "lossdsl" / "frontend").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "remark" and len(node.args) == 4:
                assert isinstance(node.args[0], ast.Constant), "a remark is named where it is made"
                found.add(node.args[0].value)
    assert found and found <= set(LINTS)


# -- more that is suspicious, and more that is not ----------------------------------------------------------------------

FIRES = [
    ("unused-axis", "a(x: real[n], w) = sum[n](x^2) + max[n](w^2)"),
    ("unused-axis", "a(x: real[n]) = sum[n](mean[n](x)^2)"),
    ("unused-definition", '_b(x) = x^2\n\n"""About _b."""\na(x: real) = x^2  # not _b'),
    ("index-leaves-axis", "a(x: real[n]) = x[0]^2 + x[1]^2"),
    ("class-outside-axis", "a(s: logit[k], y: class(k)) = piecewise(s[y]^2 if y != 1/2, 0 otherwise)"),
    ("class-outside-axis", "a(s: logit[n, k], y: class(k, ignore = -100)[n]) = mean[n | y != -1](s[n, y]^2)"),
    ("wrt-without-effect", "a(f, y) = (stop(f^2) - y)^2\n  wrt f, y"),
    ("zero-gradient", "a(s: logit[k], y: class(k)) = 1*(argmax[k](s) != y)"),
    ("zero-gradient", "a(f: real[n], y: binary[n]) = mean[n](abs((f > 0) - y))"),
    ("zero-gradient", "a(f, y) = floor(f)^2 + y^2"),
    ("unbounded-below", "a(f: real, y: sign) = 1 - y*f"),
    ("unbounded-below", "a(f, y) = f^3 - y^2"),
    ("unbounded-below", "a(w: real[d]) = sum[d](w)"),
    ("jump", "a(f: real, y: sign; s: nonnegative = 1) = piecewise(0 if y*f > s, 1 - y*f otherwise)"),
    ("jump", "a(; d: positive = 1) = piecewise(r^2/2 if abs(r) <= d, d*abs(r) - d/2 otherwise)"),
    ("jump", "a(f, y) = 3*piecewise(r^2 if r > 1, r^2 + 1 if r > 0, r^2 + 1 otherwise) where r = f - y"),
    ("never-holds", "a(x; c: positive = 1) = piecewise(x^2 if abs(x) < 0, c*x^2 otherwise)"),
    ("never-holds", "a(p: unit[k]) = sum[k | p > 1](p^2)"),
    ("never-holds", "a(x, y: integer) = piecewise(x^2 if y == 1/2, 2*x^2 otherwise)"),
    ("never-holds", "a(x) = piecewise(x if 2 < 1, x^2 otherwise)"),
    ("always-holds", "a(x: real[n]) = sum[n | n >= 0](x^2)"),
    ("always-holds", "a(x, y: sign) = piecewise(x^2 if y != 0, 2*x^2 otherwise)"),
    ("always-holds", "a(x) = piecewise(x^2 if 0 <= exp(x) < 2, 2*x^2 otherwise)"),
    ("real-equality", "a(x: real[n], y: real[n]) = count[n | x == y] + sum[n](x^2)"),
    ("branch-never-taken", "a(x) = piecewise(x^2 if x > 0, x^2 if x > 0 and x < 1, 0 otherwise)"),
    ("branch-never-taken", "a(x, c) = piecewise(x^2 if x <= c, x^2 + c - x if c > x, c^2 + x - c otherwise)"),
    ("branch-never-taken", "a(x) = piecewise(x^2 if x < 1, 1 if x < 2, 0 if x == 1, 2*x - 3 otherwise)"),
    ("branch-without-effect", "a(x) = piecewise(x^2 if x > 0, x^2 otherwise)"),
    ("piecewise-gap", "a(f, y) = piecewise((f - y)^2 if abs(f) < y, y^2 if abs(f) > y)"),
    ("piecewise-gap", "a(x) = piecewise(x^2 if x <= 1, 2*x^2 if x > 2)"),
    ("piecewise-gap", "a(x, y: integer) = piecewise(x^2 if y < 0, 2*x^2 if y > 0)"),
    ("same-operands", "a(f, y) = abs(f - y)/abs(f - y) + f^2"),
    ("same-operands", "a(x: real[n]) = sum[i, j in n]((x[j] - x[j])^2 + x[i]^2)"),
    ("same-operands", "a(f, y) = max(f^2, f^2) + y^2"),
    ("no-effect", "a(f, y) = abs((f - y)^2)"),
    ("no-effect", "a(f, y: nonnegative) = (f - relu(y))^2"),
    ("no-effect", "a(p: prob) = -log(clip(p, 0, 1))"),
    ("squashed-twice", "a(p: unit, y: binary) = (sigmoid(p) - y)^2"),
    ("squashed-twice", "a(s, y: unit) = bce_with_logits(sigmoid(s), y)"),
    ("log-of-unit", "a(p: unit, y: unit) = -(y*log(p) + (1 - y)*log(clip(1 - p, 1e-7, 1)))"),
    ("unexpanded-log", "a(s: logit[k], q: simplex[k]) = sum[k](q*(log(q) - log_softmax[k](s)))"),
    ("unexpanded-log", "a(f: positive, y: nonnegative) = f - y + y*(log(y/f) + 0*f)"),
    ("zero-over-zero", "a(f, y) = (f - y)^2/abs(f - y)"),
    ("outside-domain", "a(f, y) = sqrt(f - y)"),
    ("outside-domain", "a(f, y; p: positive = 2) = (f - y)^p"),
    ("outside-domain", "a(f, y) = u^2 where u = acos(f) - y"),
    ("binary-as-mask", "a(f: real[n], y: real[n], m: binary[n]) = sum[n](abs((f - y)/y)*m)"),
    ("eps-only-below", "a(p: unit[n], y: binary[n]; s: nonnegative = 1) = 1 - sum[n](p*y)/(s + sum[n](p) + sum[n]((1 - p)*y))"),
    ("summed-samples", "a(f: real[n], y: real[n]; c = 1) = c*sum[n]((f - y)^2) + 1\n  batch n"),
    ("term-without-samples", "a(f, y, w: real[d]; lam: nonnegative = 1) = mse(f, y) + lam*l2(w)"),
    ("pairs-with-themselves", "a(x: real[n]) = mean[i, j in n](abs(x[i] - x[j]))"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), FIRES)
def test_suspicious(name: str, text: str) -> None:
    assert name in names(text)


# Losses as they are published or written by hand; what is suspicious in some is not in these forms.
CLEAN = r"""
poisson_nll(f: real, y: nonnegative) = exp(f) - y*f
gaussian_nll(f, y; var: positive) = (log(var) + (f - y)^2/var)/2
learned_variance(f, v: positive, y) = (log(v) + (f - y)^2/v)/2
tweedie(f: positive, y: nonnegative; p: real in (1, 2) = 1.5) = -y*f^(1 - p)/(1 - p) + f^(2 - p)/(2 - p)
gamma_deviance(f: positive, y: positive) = 2*(log(f/y) + y/f - 1)
expectile(tau: prob = 0.5) = piecewise(tau*r^2 if r < 0, (1 - tau)*r^2 otherwise)
eps_insensitive(e: nonnegative = 0.1) = max(0, abs(r) - e)
cauchy(c: positive = 1) = c^2/2*log(1 + (r/c)^2)
geman(c: positive = 1) = r^2/(r^2 + c^2)
tukey(c: positive = 4.685) = piecewise(c^2/6*(1 - (1 - (r/c)^2)^3) if abs(r) <= c, c^2/6 otherwise)
charbonnier(eps: positive = 1e-3) = sqrt(r^2 + eps^2)
wing(w: positive = 10, e: positive = 2) = piecewise(w*log(1 + abs(r)/e) if abs(r) < w, abs(r) - (w - w*log(1 + w/e)) otherwise)
smape(f, y) = 2*abs(f - y)/(abs(f) + abs(y))
poly1(s: logit[k], y: class(k); eps: real = 1) = -log(p[y]) + eps*(1 - p[y]) where p = softmax[k](s)
focal_tversky(p: unit[n], y: unit[n]; a: positive = 0.7, b: positive = 0.3, g: positive = 0.75, e: positive = 1) = (1 - (t + e)/(t + a*sum[n]((1 - p)*y) + b*sum[n](p*(1 - y)) + e))^g where t = sum[n](p*y)
multi_margin(s: real[k], y: class(k); m: positive = 1) = sum[k | k != y](max(0, m - s[y] + s))/size(k)
contrastive(a: real[d], b: real[d], y: binary; m: positive = 1) = y*D^2 + (1 - y)*max(0, m - D)^2 where D = euclidean(a, b)
n_pair(a: real[n, d], p: real[n, d]) = mean[i in n](logsumexp[j in n](dot(a[i], p[j])) - dot(a[i], p[i]))
circle(s: real[n], y: binary[n]; g: positive = 64, m: unit = 0.25) = softplus(logsumexp[n | y == 0](g*relu(s + m)*(s - m)) + logsumexp[n | y == 1](-g*relu(1 + m - s)*(s - 1 + m)))
arcface(c: real[k] in [-1, 1], y: class(k); t: positive = 64, m: positive = 0.5) = logsumexp[k](u) - u[y] where u[k] = t*cos(acos(c) + m*(k == y))
center(x: real[d], c: real[k, d], y: class(k)) = sum[d]((x - c[y])^2)/2
mmd(x: real[n, d], y: real[m, d]; s: positive = 1) = mean[i, j in n](exp(-sqdist(x[i], x[j])/s)) + mean[i, j in m](exp(-sqdist(y[i], y[j])/s)) - 2*mean[n, m](exp(-sqdist[d](x, y)/s))
energy(x: real[m, d], y: real[d]) = mean[m](euclidean[d](x, y)) - mean[i, j in m](euclidean(x[i], x[j]))/2
hinge_gan(f: real[n], g: real[m]) = mean[n](max(0, 1 - f)) + mean[m](max(0, 1 + g))
vae(xh: logit[m], x: unit[m], mu: real[d], lv: real[d]; beta: nonnegative = 1) = sum[m](bce_with_logits(xh, x)) - beta*sum[d](1 + lv - mu^2 - exp(lv))/2
ppo(lp: real, old: real, A: real; e: unit = 0.2) = -min(q*A, clip(q, 1 - e, 1 + e)*A) where q = exp(lp - old)
policy(lp: real, A: real, v: real, R: real, p: simplex[k]; c: positive = 0.5) = -lp*stop(A) + c*(v - R)^2 + sum[k](p*log(p))
bpr(p: real, n: real) = -logsigmoid(p - n)
listnet(s: real[n], y: real[n]) = -sum[n](softmax[n](y)*log_softmax[n](s))
distillation(s: logit[k], t: logit[k], y: class(k); T: positive = 2, a: unit = 0.5) = a*T^2*sum[k](softmax[k](t/T)*(log_softmax[k](t/T) - log_softmax[k](s/T))) + (1 - a)*(logsumexp[k](s) - s[y])
variance_hinge(x: real[n, d]; eps: positive = 1e-4) = mean[d](max(0, 1 - sqrt(var[n](x) + eps)))
cox(h: real[n], t: real[n], e: binary[n]) = -mean[i in n | e[i] == 1](h[i] - logsumexp[j in n | t[j] >= t[i]](h[j]))
brier(p: simplex[k], y: class(k)) = sum[k]((p - (k == y))^2)
crps(mu: real, s: positive, y: real) = s*(u*(2*normal_cdf(u) - 1) + 2*exp(-u^2/2)/sqrt(2*pi) - 1/sqrt(pi)) where u = (y - mu)/s
jaccard(p: unit[n], y: unit[n]) = 1 - t/(sum[n](p) + sum[n](y) - t) where t = sum[n](p*y)
clamped(p: unit, y: binary) = -(y*log(max(p, 1e-7)) + (1 - y)*log(max(1 - p, 1e-7)))
concordance(f: real[n], y: real[n]) = 1 - 2*mean[n]((f - mean[n](f))*(y - mean[n](y)))/(var[n](f) + var[n](y) + (mean[n](f) - mean[n](y))^2)
pinball(q: real[k], y: real, tau: unit[k]) = mean[k](max(tau*(y - q), (tau - 1)*(y - q)))
savage(f: real, y: sign) = 1/(1 + exp(y*f))^2
masked(f: real[n], y: real[n], m: binary[n]) = sum[n](m*(f - y)^2)/sum[n](m)
weighted(f, y, w: nonnegative) = w*(f - y)^2
relative(f, y: positive) = ((f - y)/y)^2
relative_safe(f, y) = abs(f - y)/max(abs(y), 1e-8)
jensen_shannon(p: simplex[k], q: simplex[k]) = (sum[k](p*log(p/m)) + sum[k](q*log(q/m)))/2 where m = (p + q)/2
hellinger(p: simplex[k], q: simplex[k]) = norm[k](sqrt(p) - sqrt(q))/sqrt(2)
angular(a: real[d], b: real[d]) = acos(cosine(a, b))/pi
snr(f: real[t], y: real[t]) = -10*log10(sum[t](y^2)/sum[t]((f - y)^2))
distance_ratio(a: real[d], p: real[d], n: real[d]) = sqdist(a, p)/sqdist(a, n)
quantile_huber(tau: prob = 0.5, k: positive = 1) = abs(tau - (r > 0))*piecewise(r^2/2 if abs(r) <= k, k*(abs(r) - k/2) otherwise)/k
general(f, y; alpha: real = 1, c: positive = 1) = piecewise(u/2 if alpha == 2, log(u/2 + 1) if alpha == 0, 1 - exp(-u/2) if alpha == -inf, abs(alpha - 2)/alpha*((u/abs(alpha - 2) + 1)^(alpha/2) - 1) otherwise) where u = ((f - y)/c)^2
guarded_log(f: real, y: positive) = piecewise((log(f) - log(y))^2 if f > 0, 10 otherwise)
strong_zero(f: real, y: positive) = (f > 0)*log(f)^2 + y
asymmetric(f, y; a: positive = 2) = piecewise(a*r^2 if r > 0, r^2 if r <= 0) where r = f - y
signed(y: sign) = piecewise(r^2 if y == 1, 2*r^2 if y == -1) where r = y - 1
step(f: real, y: sign) = abs(f)*piecewise(1 if f > 0, -1 otherwise) + f^2 - y*f
straight_through(x: real, y: real) = (x + stop(floor(x) - x) - y)^2
hardest(x: real[n], s: real[n]) = sum[n | x == max[n](x)](s^2) + sum[n](x^2)
limits(f, y; lo: real = 0, hi: real = 1) = piecewise((f - lo)^2 if f < lo, (f - hi)^2 if f > hi, 0 otherwise) + 0*y
""".strip().split("\n")  # fmt: skip


@pytest.mark.parametrize("text", CLEAN, ids=lambda t: t.partition("(")[0])
def test_no_false_alarm(text: str) -> None:
    assert [str(r) for r in lint(text)[1]] == []


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_the_library_has_no_warning(path: Path) -> None:
    programs, remarks = lint(path.read_text(encoding="utf-8"), str(path), strict=True)
    assert [str(r) for r in remarks] == []
    assert programs == load_text(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("case", LOSSES[::3], ids=lambda case: case.formula.__name__)
def test_no_false_alarm_elsewhere(case: Any) -> None:
    """Boxes are indexed by numbers, of which nobody says that the axis has them."""
    programs, remarks = lint(case.text)
    assert {r.name for r in remarks} <= {"index-leaves-axis"}
    assert programs == load_text(case.text)


# -- what a warning says is true --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arrays"), [
    ("outside-domain", {"f": -1.0, "y": 2.0}), ("piecewise-gap", {"x": 0.0}), ("zero-over-zero", {"f": np.ones(3), "y": np.ones(3)}),
    ("unexpanded-log", {"p": np.array([0.0, 1.0]), "q": np.ones(2)}), ("binary-as-mask", {"f": 1.0, "y": 0.0, "m": 0.0}),
    ("index-leaves-axis", {"x": np.ones(3)}),
])  # fmt: skip
def test_what_is_said_to_be_nan(name: str, arrays: dict[str, Any]) -> None:
    assert math.isnan(value(LINTS[name].fires, arrays))
    silent = LINTS[name].silent.replace("f: positive", "f: real")
    assert name == "outside-domain" or not math.isnan(value(silent, arrays))


def test_a_jump_is_where_it_is_said() -> None:
    for text in (LINTS["jump"].fires, *(t for n, t in FIRES if n == "jump")):
        (remark,) = lint(text, select=["jump"])[1]
        said = dict(re.findall(r"(\w+) is (-?[\d/]+)", remark.message))
        sides = [float(eval_fraction(x)) for x in re.findall(r"(-?[\d/]+) on", remark.message)]
        loss = next(iter(lossdsl.parse(text).values()))
        at = {k: float(eval_fraction(v)) for k, v in said.items()}
        params = {p.name: at.pop(p.name) for p in loss.params if p.name in at}
        near = [value(text, {**at, "f": at["f"] + step}, params) for step in (-1e-9, 1e-9)]
        assert sorted(near) == pytest.approx(sorted(sides), abs=1e-6) and abs(near[0] - near[1]) > 0.1


def eval_fraction(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


@pytest.mark.parametrize("text", [LINTS["unbounded-below"].fires, *(t for n, t in FIRES if n == "unbounded-below")])
def test_what_is_said_to_fall_below_every_bound(text: str) -> None:
    (remark,) = lint(text, select=["unbounded-below"])[1]
    name, way = re.findall(r"as '(\w+)' (grows|falls)", remark.message)[0]
    loss = lossdsl.parse(text)["a"]
    arrays = {i.name: np.ones([3] * len(i.axes)) for i in loss.inputs}
    arrays |= {k: np.asarray(float(v)) for k, v in re.findall(r"(\w+) is (-?\d+)", remark.message)}
    low = [value(text, arrays | {name: arrays[name] * 0 + (1 if way == "grows" else -1) * 10.0**k}) for k in (3, 6, 9)]
    assert low[0] > low[1] > low[2] and low[2] < -1e8


@pytest.mark.parametrize("text", [LINTS["zero-gradient"].fires, *(t for n, t in FIRES if n == "zero-gradient")])
def test_what_is_said_to_have_no_slope(text: str) -> None:
    loss = lossdsl.parse(text)["a"]
    for seed in range(3):
        _, slope = loss.compile("reference").value_and_grad(*loss.sample(seed).values())
        assert not np.any(slope)


def edited(text: str, remark: Remark) -> str | None:
    """The text as it may stand if a warning is right: what always holds holds, what changes nothing is left out."""
    start, end = remark.span.start, remark.span.end
    before, what, after = text[:start], text[start:end], text[end:]
    match remark.name:
        case "always-holds" | "never-holds":
            in_a_chain = re.match(r"\s*[<>=!]", after) or re.search(r"[<>=!]\s*\Z", before)
            return None if in_a_chain else f"{before}({1 if remark.name == 'always-holds' else 3} < 2){after}"
        case "no-effect":
            only = remark.message.partition(": '")[2].removesuffix("' is always what it gives")
            return f"{before}({only}){after}" if only in what else None
        case "branch-never-taken" | "branch-without-effect":
            return before + re.sub(r"\A,\s*", "", after) if after.startswith(",") else None
    return None


def is_true(case: Case) -> None:
    for remark in lint(case.text)[1]:
        text = edited(case.text, remark)
        if text is not None:
            want = value(case.text, case.arrays, name="loss")
            assert value(text, case.arrays, name="loss") == pytest.approx(want, rel=1e-9, abs=1e-12, nan_ok=True), (remark, case.text)
        if remark.name == "zero-gradient" and remark.span.start > case.text.index("loss("):
            (name,) = re.findall(r"gradient by '(\w+)'", remark.message)
            _, slope = lossdsl.parse(case.text)["loss"].compile("reference", wrt=[name]).value_and_grad(**case.arrays)
            assert not np.any(slope), (remark, case.text)


@settings(max_examples=60)
@given(cases())
def test_what_is_said_of_random_programs_is_true(case: Case) -> None:
    is_true(case)


@pytest.mark.slow
@settings(max_examples=1000)
@given(cases())
def test_what_is_said_of_many_random_programs_is_true(case: Case) -> None:
    is_true(case)


# -- warnings are about the text, and change nothing --------------------------------------------------------------------


@settings(max_examples=30)
@given(cases(), st.randoms(use_true_random=False))
def test_warnings_never_change_the_program(case: Case, rng: Any) -> None:
    programs, remarks = lint(case.text)
    assert programs == load_text(case.text)
    off = ", ".join(rng.sample(sorted(LINTS), 5))
    quiet, fewer = lint(f"# lossdsl: ignore {off}\n{case.text}", ignore=["needless-ignore"])
    assert quiet == programs and len(fewer) <= len(remarks)


@pytest.mark.parametrize("name", LEGAL)
def test_large_definitions(name: str) -> None:
    lint(LEGAL[name])


# -- turning them off ---------------------------------------------------------------------------------------------------

TWO = "a(f, y) = f - y\n\nb(f, y) = f - y\n"
OFF = {
    "above": ("# lossdsl: ignore unbounded-below\na(f, y) = f - y\n\nb(f, y) = f - y\n", ["b"]),
    "above, with an empty line between": ("# lossdsl: ignore unbounded-below\n\na(f, y) = f - y\n\nb(f, y) = f - y\n", ["b"]),
    "above a docstring": ('# lossdsl: ignore unbounded-below\n"""A."""\na(f, y) = f - y\n\nb(f, y) = f - y\n', ["b"]),
    "below a docstring": ('"""A # lossdsl."""\n# lossdsl: ignore unbounded-below\na(f, y) = f - y\n\nb(f, y) = f - y\n', ["b"]),
    "on its line": ("a(f, y) = f - y  # lossdsl: ignore unbounded-below\n\nb(f, y) = f - y\n", ["b"]),
    "inside": ("a(f, y) =  # lossdsl: ignore unbounded-below\n    f - y\n\nb(f, y) = f - y\n", ["b"]),
    "beside a text with the sign of a comment": ('a(f, y) = f - y\n  source "#1"  # lossdsl: ignore unbounded-below\n\nb(f, y) = f - y\n', ["b"]),
    "indented below": ("a(f, y) = f - y\n    # lossdsl: ignore unbounded-below\n\nb(f, y) = f - y\n", ["b"]),
    "in column 0 below": ("a(f, y) = f - y\n# lossdsl: ignore unbounded-below\n\nb(f, y) = f - y\n", ["a"]),
    "with a reason": ("#lossdsl:ignore unbounded-below:a score: higher is better, jump\na(f, y) = f - y\n\nb(f, y) = f - y\n", ["b"]),
    "with others": ("# lossdsl: ignore unused-local,unbounded-below\na(f, y) = f - y where u = f\n\nb(f, y) = f - y\n", ["b"]),
    "another": ("# lossdsl: ignore needless-ignore, jump\na(f, y) = f - y\n\nb(f, y) = f - y\n", ["a", "b"]),
    "no comment for us": ("# ignore unbounded-below\na(f, y) = f - y\n\nb(f, y) = f - y\n", ["a", "b"]),
}  # fmt: skip


@pytest.mark.parametrize("place", OFF)
def test_a_comment_turns_a_warning_off(place: str) -> None:
    text, left = OFF[place]

    def warned(text: str) -> list[str]:
        return [re.findall(r"\b([ab])\(f, y\)", text[: r.span.start])[-1] for r in lint(text)[1] if r.name == "unbounded-below"]

    assert warned(TWO) == ["a", "b"]
    assert warned(text) == left and names(text) == ["unbounded-below"] * len(left)
    assert warned(formatted(text)) == left, "laid out, it belongs to the same definition"


@pytest.mark.parametrize(("comment", "said"), [
    ("# lossdsl: ignore unbounded", "there is no warning 'unbounded'"), ("# lossdsl: ignore jump, unbonded-below", "there is no warning 'unbonded-below'"),
    ("# lossdsl: ignore", "this comment turns nothing off"), ("# lossdsl: ignor jump", "this comment turns nothing off"),
    ("# lossdsl: ignore jump unbounded-below", "this comment turns nothing off"), ("# lossdsl:", "this comment turns nothing off"),
])  # fmt: skip
def test_a_comment_with_a_mistake_is_refused(comment: str, said: str) -> None:
    with pytest.raises(LossError) as caught:
        lint(f"b = r^2\n\n{comment}\na = r^2\n", "test.loss")
    error = caught.value
    assert error.message == said and error.hint and str(error).startswith("test.loss:3:")
    if "bonded" in said:
        assert error.hint.startswith("did you mean unbounded-below") and "^" * 14 in str(error)


def test_what_is_turned_off_for_nothing_is_said() -> None:
    assert names("# lossdsl: ignore jump, unused-local\na = r^2 where u = r") == ["needless-ignore"]
    assert names("a = r^2\n\n# lossdsl: ignore jump\n") == ["needless-ignore"]
    assert names("# lossdsl: ignore jump\na = r^2", select=["jump"]) == []
    assert names("# lossdsl: ignore missing-doc\na = r^2") == [], "it is missing"
    assert names("# lossdsl: ignore needless-ignore, jump\na = r^2") == []


def test_select_and_ignore() -> None:
    text = "a(f, y; c = 1) = f - y where u = f"
    assert names(text) == ["unused-parameter", "unbounded-below", "unused-local"]
    assert names(text, select=["unused-local", "jump"]) == ["unused-local"]
    assert names(text, ignore=["unused-local"]) == ["unused-parameter", "unbounded-below"]
    assert names(text, select=["missing-doc"]) == ["missing-doc"]
    assert names(text, strict=True)[:3] == ["missing-doc", "missing-source", "missing-wrt"]
    for wrong in ({"select": ["unused-locals"]}, {"ignore": ["unused-locals"]}):
        with pytest.raises(LossError, match="there is no warning 'unused-locals'") as caught:
            lint(text, **wrong)
        assert (caught.value.hint or "").startswith("did you mean unused-local")


GIVEN = [
    "a(x: real[d], critic: (real[d]) -> real; lam: positive = 10) = lam*(norm(grad[x](critic(x))) - 1)^2",
    "a(x: real, y: real, h: (real) -> real) = piecewise((h(x) - y)^2 if h(x) > 0, y^2 otherwise)",
    "a(x: real, y: positive; h: (real) -> real) = (log(h(x)) - log(y))^2 + max(0, h(x))/abs(h(x))",
    "a(x: real[n, d], h: (real[d]) -> real[d]) = mean[n](sqdist[d](h[d](x), x))",
    "_t(x; g: (real) -> real) = g(x)^2\n\na(x) = _t(x; g = abs)",
    "a(x: real[n], p: real[d, (k, s = S)]; S: integer = 2) = mean[n](x^2) + sum[d, k, s](p^2)",
]  # fmt: skip


@pytest.mark.parametrize("text", GIVEN)
def test_nothing_is_said_of_what_a_given_function_may_be(text: str) -> None:
    programs, remarks = lint(text)
    assert [str(r) for r in remarks] == [] and programs == load_text(text)


def test_a_text_with_a_mistake_is_refused_as_ever() -> None:
    with pytest.raises(LossError, match="there is no name 'q'"):
        lint("a = q")


# -- the command line ---------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", *arguments])
    out, err = capsys.readouterr()
    return stopped.value.code if isinstance(stopped.value.code, int) else 0, out, err


def test_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "odd.loss"
    path.write_bytes(b"a(f, y; c = 1) =\r\n  f - y\r\n")
    code, out, _ = run(capsys, str(tmp_path))
    assert code == 0
    assert f"{path}:1:9: warning: " in out and f"{path}:2:3: warning: " in out and out.endswith(f"{path}: a: ok, 2 warnings\n")
    assert run(capsys, str(path), "--ignore", "unused-parameter,unbounded-below")[1] == f"{path}: a: ok\n"
    assert run(capsys, str(path), "--ignore", "unused-parameter", "--ignore", "unbounded-below")[1] == f"{path}: a: ok\n"
    assert run(capsys, str(path), "--select", "unbounded-below")[1].count("warning: ") == 1


def test_check_strictly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.loss"
    path.write_text('"""A."""\na = r^2\n  source "B"\n', encoding="utf-8")
    code, out, _ = run(capsys, "--strict", str(path))
    assert code == 1 and "[missing-wrt]" in out
    assert run(capsys, "--strict", "--ignore", "missing-wrt", str(path)) == (0, f"{path}: a: ok\n", "")


def test_check_lists_the_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list-warnings")
    assert code == 0
    for row in LINTS.values():
        assert row.name in out and row.reason in out and row.fix in out


@pytest.mark.parametrize("option", ["--select", "--ignore"])
def test_check_refuses_unknown_names(capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str) -> None:
    code, out, err = run(capsys, option, "unused-lokal", str(tmp_path))
    assert code == 1 and not out and "there is no warning 'unused-lokal'" in err and "did you mean unused-local" in err


def test_check_refuses_a_comment_with_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.loss"
    path.write_text("a = r^2  # lossdsl: ignore jmp\n", encoding="utf-8")
    code, out, _ = run(capsys, str(path))
    assert code == 1 and f"{path}:1:28: error: there is no warning 'jmp'" in out


def test_check_wants_a_file() -> None:
    done = subprocess.run([sys.executable, "-m", "lossdsl.cli", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "name files or folders" in done.stderr
