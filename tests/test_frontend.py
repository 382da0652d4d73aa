"""The front end from the inside: laws that equal texts give equal expressions, the parser's tables, scopes, kinds, warnings."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from lossdsl import cache
from lossdsl.errors import LossError
from lossdsl.frontend import library_names, load_library, load_path, load_text
from lossdsl.frontend.bounds import escapes
from lossdsl.frontend.fit import misfit
from lossdsl.frontend.parse import Build, parse
from lossdsl.frontend.steps import Steps, run
from lossdsl.frontend.tables import OPTIONS, load
from lossdsl.frontend.values import sort_of
from lossdsl.ir import text
from lossdsl.ir.expr import Expr
from lossdsl.kinds import KINDS, Kind


def value(source: str) -> Expr:
    """The expression of the last definition."""
    return list(load_text(source).values())[-1].value


# -- equal meaning, equal expression ------------------------------------------------------------------------------------

SAME = {
    "names of locals": ("a(f, y) = u*u where u = f - y", "a(f, y) = v*v where v = f - y"),
    "names of indices": ("a(x: real[n]) = sum[i, j in n | i < j](x[i]*x[j])", "a(x: real[n]) = sum[p, q in n | p < q](x[p]*x[q])"),
    "an axis' own index and another": ("a(x: real[n]) = sum[n](x*n)", "a(x: real[n]) = sum[i in n](x[i]*i)"),
    "a name of an index that is bound outside": (
        "a(x: real[n]) = sum[i in n](x[i]*sum[j in n](x[j]))",
        "a(x: real[n]) = sum[i in n](x[i]*sum[n](x))",
    ),
    "a group": ("a(x: real[n]) = sum[i, j in n](x[i]*x[j])", "a(x: real[n]) = sum[i in n, j in n](x[i]*x[j])"),
    "a local written out": ("a(f, y) = u^2 + u where u = f - y", "a(f, y) = (f - y)^2 + (f - y)"),
    "locals in another order": ("a(f, y) = v where u = f - y, v = u^2", "a(f, y) = v where v = u^2, u = f - y"),
    "a condition through a local": ("a(x, y) = c*x*y where c = x > 0", "a(x, y) = (x > 0)*x*y"),
    "a condition through two products": ("a(x, y) = m*y where m = (x > 0)*x", "a(x, y) = (x > 0)*x*y"),
    "a condition at any place": ("a(x, y) = x*(x > 0)*y", "a(x, y) = piecewise(x*y if x > 0, 0 otherwise)"),
    "a condition guards divisors": ("a(x, y) = (x > 0)*y/x", "a(x, y) = piecewise(y/x if x > 0, 0 otherwise)"),
    "a condition under a minus": ("a(x, y) = -(x > 0)*y", "a(x, y) = piecewise(-y if x > 0, 0 otherwise)"),
    "two conditions": ("a(x, y) = (x > 0)*y*(y > 0)", "a(x, y) = piecewise(y if x > 0 and y > 0, 0 otherwise)"),
    "a logarithm through a local": ("a(p, q) = q*l where l = log(q/p)", "a(p, q) = q*log(q/p)"),
    "a logarithm under a minus": ("a(p, q) = q*(-log(p))", "a(p, q) = -xlogy(q, p)"),
    "a logarithm of a quotient": ("a(p, q) = q*log(q/p)", "a(p, q) = xlogdiv(q, q, p)"),
    "a logarithm divided": ("a(p, q) = log(p)/3*q", "a(p, q) = xlogy(q, p)/3"),
    "a logarithm times a number": ("a(p, q) = 2*log(p)*q", "a(p, q) = xlogy(2*q, p)"),
    "a logarithm to another base": ("a(p, q) = q*log2(p)", "a(p, q) = xlogy(q, p)/log(2)"),
    "a local function": ("a(x: real[d], y: real[d]) = D(x, y) where D(u, v) = sum[d]((u - v)^2)", "a(x: real[d], y: real[d]) = sqdist(x, y)"),
    "a local function of indices": (
        "a(x: real[n]) = sum[i, j in n](D(i, j)) where D(p, q) = x[p]*x[q]",
        "a(x: real[n]) = sum[i, j in n](x[i]*x[j])",
    ),
    "a head and none": ("a(x: real[n]) = sum[i in n](u[i]) where u[n] = x^2", "a(x: real[n]) = sum[i in n](u[i]) where u = x^2"),
    "a transposed head": (
        "a(x: real[n, d]) = sum[n, d](u[d, n]) where u[p, q] = x[q, p]",
        "a(x: real[n, d]) = sum[n, d](x)",
    ),
    "a bare loss": ("h = max(0, 1 - z)\na = min(1, h)", "a = min(1, max(0, 1 - z))"),
    "a bare loss of the library": ("a = min(1, hinge)", "a = min(1, max(0, 1 - z))"),
    "standing names": ("a = r^2", "a(f, y) = (f - y)^2"),
    "a loss at its own names": ("h(f, y) = abs(f - y)\na(f, y) = 2*h(f, y)", "a(f, y) = 2*abs(f - y)"),
    "a loss at other names": ("h(f, y) = abs(f - y)\na(f, y) = h(y, f)", "a(f, y) = abs(y - f)"),
    "a loss at axes": ("h(f: real[k], y) = sum[k](f*y)\na(x: real[n, d], y: real[n]) = sum[n](h(x, y))", "a(x: real[n, d], y: real[n]) = sum[n](sum[d](x*y))"),
    "a loss in brackets": ("h(f: real[k]) = max[k](f)\na(x: real[n, d]) = sum[n](h[d](x))", "a(x: real[n, d]) = sum[n](max[d](x))"),
    "a loss with two axes": (
        "h(f: real[i, j]) = sum[i](max[j](f))\na(x: real[n, d]) = h(x)",
        "a(x: real[n, d]) = sum[n](max[d](x))",
    ),
    "a loss with two axes, in brackets": (
        "h(f: real[i, j]) = sum[i](max[j](f))\na(x: real[n, d]) = h[d, n](x)",
        "a(x: real[n, d]) = sum[d](max[n](x))",
    ),
    "a loss of pairs": (
        "h(f: real[i, j in i]) = sum[i, j](f)\na(x: real[n]) = h(s) where s[p, q] = x[p]*x[q]",
        "a(x: real[n]) = sum[p, q in n](x[p]*x[q])",
    ),
    "a class in its axis": ("a(s: real[n, k], y: class(k)) = sum[n](s[y])", "a(s: real[n, k], y: class(k)) = sum[n](s[n, y])"),
    "by name": ("a(s: real[n, k]) = sum[n](s[k = 2])", "a(s: real[n, k]) = sum[n](s[n, 2])"),
    "euclidean": ("a(x: real[d], y: real[d]) = euclidean(x, y)", "a(x: real[d], y: real[d]) = norm[d](x - y)"),
    "cosine": ("a(x: real[d], y: real[d]) = cosine(x, y)", "a(x: real[d], y: real[d]) = sum[d](x*y)/(norm[d](x)*norm[d](y))"),
    "normalize": ("a(x: real[d]) = sum[d](normalize[d](x)*d)", "a(x: real[d]) = sum[d](x/norm[d](x)*d)"),
    "a mean": ("a(x: real[n]) = mean[n | x > 0](x)", "a(x: real[n]) = sum[n | x > 0](x)/count[n | x > 0]"),
    "all": ("a(x: real[n]) = 1*all[n](x > 0)", "a(x: real[n]) = 1*(not any[n](not x > 0))"),
    "a softmax at a class": ("a(s: real[k], y: class(k)) = softmax[k](s)[y]", "a(s: real[k], y: class(k)) = exp(s[y] - logsumexp[k](s))"),
    "a rank": ("a(x: real[n]) = sum[n](rank[n](x)*x)", "a(x: real[n]) = sum[i in n]((1 + count[j in n | x[j] < x[i]])*x[i])"),
    "a chain of comparisons": ("a(x) = 1*(0 < x <= 1)", "a(x) = 1*(0 < x and x <= 1)"),
    "an ignored class": (
        "a(s: real[n, k], y: class(k, ignore = -1)[n]) = mean[n](s[y])",
        "a(s: real[n, k], y: class(k)[n]) = mean[n | y != -1](s[y])",
    ),
    "a number and its fraction": ("a(x) = 0.1*x", "a(x) = 1/10*x"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_equal_texts_give_one_expression(name: str) -> None:
    one, other = SAME[name]
    assert value(one) is value(other)


DIFFERENT = {
    "powers are right": ("a(x) = x^x^2", "a(x) = (x^x)^2"),
    "a minus is weaker than a power": ("a(x) = -x^2", "a(x) = (-x)^2"),
    "a condition in a sum guards nothing": ("a(x, y) = ((x > 0) + 0)*y", "a(x, y) = (x > 0)*y"),
    "a condition in a divisor guards nothing": ("a(x, y) = y/(x > 0)", "a(x, y) = y*(x > 0)"),
    "a piecewise is no condition": ("a(x, y) = piecewise(x if x > 0, 0 otherwise)*y", "a(x, y) = (x > 0)*x*y"),
    "a logarithm in a sum is no factor": ("a(p, q) = q*(log(p) + 0)", "a(p, q) = q*log(p)"),
    "means of means": ("a(x: real[n]) = mean[i, j in n | i < j](x[i]*x[j])", "a(x: real[n]) = mean[i in n](mean[j in n | i < j](x[i]*x[j]))"),
    "the innermost bracket": ("a(x: real[n]) = sum[n](x*max[n](x))", "a(x: real[n]) = sum[i in n](x[i]*max[n](x[i]))"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_texts(name: str) -> None:
    one, other = DIFFERENT[name]
    assert value(one) is not value(other)


@pytest.mark.parametrize("name", library_names())
def test_a_loss_prints_as_text_that_gives_the_same_expressions(name: str) -> None:
    program = load_library(name)
    assert load_text(text.program(program))[name] == program


# -- the parser ---------------------------------------------------------------------------------------------------------


def test_the_grammar_has_no_conflicts() -> None:
    from lark import Lark
    from lark.parsers.lalr_analysis import LALR_Analyzer

    from lossdsl.package import data_path

    parser = Lark((data_path("grammar") / "loss.lark").read_text(encoding="utf-8"), **OPTIONS)
    LALR_Analyzer(parser.parser.parser_conf, strict=True).compute_lalr()  # raises at a shift that is a reduction too


def test_tables_are_kept_and_made_anew_where_they_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSDSL_CACHE", str(tmp_path))
    source = "a(x: real[n]; c = 1) = sum[n | x > 0](c*x) where u[i] = x[i]\n  wrt x\n"
    first = load(Build()).parse(source)
    (kept,) = tmp_path.iterdir()
    for content in (cache.find(kept.name), "", "{", "[1, 2]", '[{}, {"0": 1}]', 7):
        assert content is not None
        cache.keep(kept.name, content)
        again = load(Build()).parse(source)
        assert (again.name, len(again.locals), len(again.annotations)) == (first.name, 1, 1)


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSDSL_CACHE", "/dev/null/nowhere")
    assert load(Build()).parse("a = r").name == "a"


def test_the_front_end_is_imported_without_its_parser() -> None:
    code = "import sys, lossdsl.frontend; print([m for m in ('lark', 'numpy', 'sympy', 'mpmath') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_definition_has_its_own_error() -> None:
    source = "a = r +\n\nb = r\n\nc = q\n# a remark\nd(x) = x)\n"
    with pytest.raises(LossError) as caught:
        load_text(source, "f.loss")
    assert [line for line in str(caught.value).split("\n") if line.startswith("f.loss")] == [
        "f.loss:1:8: error: expected an expression, found the end of the definition",
        "f.loss:5:5: error: there is no name 'q'",
        "f.loss:7:9: error: this ')' closes nothing",
    ]


def test_who_mentions_a_broken_loss_does_not_repeat_its_error() -> None:
    with pytest.raises(LossError) as caught:
        load_text("a(x) = x +\nb(x) = a(x)\nc(x) = d(x)\nd(x) = c(x)\n")
    assert len(caught.value.others) == 1


def test_a_definition_remembers_where_it_stands() -> None:
    definitions, errors = parse('# first\n"""What."""\n# between\na = r\nb = z\n')
    assert not errors
    assert [(d.name, d.doc) for d in definitions] == [("a", "What."), ("b", "")]


def test_steps_go_as_deep_as_they_like() -> None:
    def down(n: int) -> Steps[int]:
        return 0 if n == 0 else 1 + (yield down(n - 1))

    assert run(down(100_000)) == 100_000


def test_an_error_passes_through_the_steps_that_wait() -> None:
    left: list[int] = []

    def down(n: int) -> Steps[int]:
        try:
            if n == 0:
                raise LossError("no")
            return (yield down(n - 1))
        finally:
            left.append(n)

    with pytest.raises(LossError, match="no"):
        run(down(1000))
    assert left == list(range(1001))


# -- kinds --------------------------------------------------------------------------------------------------------------

NUMBERS = [n for n, row in KINDS.items() if row.role == "number"]


def fits(given: str, due: str) -> bool:
    kinds = [Kind(n, (("k", "k"),) if n == "simplex" else (), "k" if n in ("simplex", "class") else None) for n in (given, due)]
    return misfit(sort_of(kinds[0], data=True), kinds[1], "k") is None


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_fits_itself(name: str) -> None:
    assert fits(name, name)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_real_and_real_is_every_number_but_a_simplex(name: str) -> None:
    assert fits(name, "real")
    assert fits("real", name) == (name != "simplex")


@pytest.mark.parametrize(("given", "due"), list(itertools.product(NUMBERS, ["class", "bool"])))
def test_a_number_is_neither_a_class_nor_a_condition(given: str, due: str) -> None:
    assert not fits(given, due)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations([n for n in NUMBERS if n != "simplex"], 2)))
def test_that_a_kind_contains_another_has_no_direction(one: str, other: str) -> None:
    assert fits(one, other) == fits(other, one)


@pytest.mark.parametrize(("given", "due"), list(itertools.product(["prob", "unit", "binary"], ["logit", "logprob"])))
def test_probabilities_are_no_logits(given: str, due: str) -> None:
    assert not fits(given, due) and not fits(due, given)


@pytest.mark.parametrize(("given", "due"), list(itertools.product(KINDS, KINDS)))
def test_every_misfit_says_how_to_mend_it(given: str, due: str) -> None:
    kinds = [Kind(n, (("k", "k"),) if n == "simplex" else (), "k" if n in ("simplex", "class") else None) for n in (given, due)]
    found = misfit(sort_of(kinds[0], data=True), kinds[1], "k")
    assert found is None or all(found)


# -- indices and their axes -----------------------------------------------------------------------------------------------

INSIDE = [
    "sum[n](x)", "x[0]", "sum[n | n > 0](x[n - 1])", "sum[n | n != 0](x[n - 1])", "sum[n | n + 1 < size(n)](x[n + 1])",
    "sum[n](piecewise(x[n + 1] if n + 1 < size(n), 0 otherwise))", "sum[n](piecewise(0 if n == size(n) - 1, x[n + 1] otherwise))",
    "count[n | n == 0 or x[n - 1] < x]", "count[n | n > 0 and x[n - 1] < x]", "sum[n]((n > 0)*x[n - 1])", "sum[i in n](x[size(n) - 1 - i])",
    "sum[b in 1..size(n)](x[b - 1])", "sum[n](x[min(n + 1, size(n) - 1)])", "sum[n](x[max(n - 1, 0)])", "sum[n](x[clip(n - 3, 0, size(n) - 1)])",
    "sum[i, j in n | i < j](x[j - i])", "sum[i, j in n | i < j](x[j - i - 1])", "sum[i, j in n | i + j < size(n)](x[i + j])", "x[argmax[n](x)]",
    "piecewise(x[y + 1] if y + 1 < size(n), 0 otherwise)", "x[y]",
]  # fmt: skip
OUTSIDE = [
    "sum[n](x[n + 1])", "x[0 - 1]", "x[2]", "sum[n | n >= 0](x[n - 1])", "sum[n | n + 1 <= size(n)](x[n + 1])", "x[y + 1]",
    "sum[b in 0..3](x[b])", "sum[i, j in n](x[j - i])", "sum[i, j in n | i <= j](x[j - i - 1])", "count[n | n > 0 or x[n - 1] < x]",
    "sum[n](piecewise(0 if n == 0, x[n + 1] otherwise))", "sum[n | n + k < size(n)](x[n + k])",
]  # fmt: skip


@pytest.mark.parametrize("body", INSIDE + OUTSIDE)
def test_an_index_is_inside_where_that_follows(body: str) -> None:
    p = load_text(f"a(x: real[n], y: class(n); k: integer = 1) = {body}")["a"]
    assert bool(escapes(p)) == (body in OUTSIDE)


# -- files and what names mean in them ------------------------------------------------------------------------------------


def test_a_folder_is_searched_before_the_library(tmp_path: Path) -> None:
    (tmp_path / "hinge.loss").write_text("hinge = 7*z\n")
    (tmp_path / "mine.loss").write_text("mine = hinge + mse(f, y)\n")
    assert load_path(tmp_path / "mine.loss")["mine"].value is value("a(f, y: sign) = 7*(y*f) + mse(f, y)")


def test_a_name_that_no_file_can_bear(tmp_path: Path) -> None:
    (tmp_path / "mine.loss").write_text(f"mine(x) = {'b' * 300}(x)\n")
    with pytest.raises(LossError, match="there is no function 'bbb"):
        load_path(tmp_path / "mine.loss")


def test_a_private_name_stays_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "other.loss").write_text("_half(x) = x/2\nother(x) = _half(x)\n")
    (tmp_path / "mine.loss").write_text("mine(x) = other(x)\n")
    assert load_path(tmp_path / "mine.loss")["mine"].value is value("a(x) = x/2")
    (tmp_path / "mine.loss").write_text("mine(x) = _half(x)\n")
    with pytest.raises(LossError, match="no function '_half'"):
        load_path(tmp_path / "mine.loss")


def test_a_loss_and_a_function_of_one_name_are_told_apart_by_their_arguments() -> None:
    assert value("log_cosh(f, y) = log_cosh(f - y)") is value("a(f, y) = log_cosh(f - y)")
    assert value("softplus(x) = softplus(x)") is value("a(x) = softplus(x)")  # for a loss never calls itself


def test_names_that_a_bare_loss_brings_are_names_like_others() -> None:
    for source in ("a = huber + u where delta = 3, u = f", "a = huber + f where y = 3"):
        with pytest.raises(LossError, match="and a local"):
            load_text(source)


def test_a_function_as_a_hyper_parameter_may_be_chosen() -> None:
    source = "a(x: real[d], y: real[d]; dist = euclidean) = dist(x, y)"
    assert [(f.name, f.default) for f in load_text(source)["a"].source.functions] == [("dist", "euclidean")]
    chosen = load_text(source, functions={"dist": "cosine"})["a"]
    assert [(f.name, f.default) for f in chosen.source.functions] == [("dist", "cosine")] and not chosen.functions
    assert chosen.value is value("a(x: real[d], y: real[d]) = cosine(x, y)")
    called = source + "\nb(x: real[d], y: real[d]) = a(x, y; dist = sqdist)"
    assert value(called) is value("a(x: real[d], y: real[d]) = sqdist(x, y)")
    free = "a(p, q; g: (real, real) -> real) = g(p, q)"
    assert [(f.name, f.place, f.default) for f in load_text(free)["a"].functions] == [("g", None, None)]
    assert load_text(free, functions={"g": "mse"})["a"].value is value("a(p, q) = (p - q)^2")


def test_a_private_loss_may_wait_for_its_function() -> None:
    source = "_margin(p, q; g: (real) -> real) = g(p - q)\na(p, q) = _margin(p, q; g = softplus)"
    assert value(source) is value("a(p, q) = softplus(p - q)")


def test_a_circle_through_several_files(tmp_path: Path) -> None:
    (tmp_path / "p.loss").write_text("p(x) = q(x)\n")
    (tmp_path / "q.loss").write_text("q(x) = p(x)\n")
    with pytest.raises(LossError, match="'q' is defined by way of p"):
        load_path(tmp_path / "p.loss")


def test_a_name_that_the_library_lacks() -> None:
    with pytest.raises(LossError, match="no loss 'hubr'") as caught:
        load_library("hubr")
    assert caught.value.hint == "did you mean huber?"
    with pytest.raises(LossError, match="no family 'regresion'"):
        library_names("regresion")
