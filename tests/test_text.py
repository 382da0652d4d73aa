"""What expressions and programs print as, and that the text parses back to the same nodes."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lossdsl import pipeline
from lossdsl.frontend import library_names, load_library, load_text
from lossdsl.ir import text
from lossdsl.ir.expr import (
    INF,
    NAN,
    ONE,
    PI,
    TRUE,
    TWO,
    ZERO,
    Expr,
    Index,
    Range,
    add,
    and_,
    call,
    cmp,
    div,
    iverson,
    ix,
    mul,
    neg,
    not_,
    num,
    or_,
    pow_,
    pw,
    red,
    ref,
    size,
    sub,
)
from lossdsl.ir.latex import latex
from lossdsl.ir.program import Input, Output, Param, Program
from lossdsl.kinds import Interval, Kind
from lossdsl.passes.gradient import gradient, jacobian, tangent

A, B, C = ref("a"), ref("b"), ref("c")
K, J, N = Index("k", "k"), Index("k", "j"), Index("n", "n")
I1, I2, I3 = (Index("n", tag) for tag in (1000, 1001, 1002))
K1, K2 = Index("k", 1003), Index("k", 1004)
R1 = Index(Range(ZERO, ref("bins")), 1005)


def over(name: str, *indices: Index) -> Expr:
    return ref(name, [ix(i) for i in indices])


def lse(index: Index, body: Expr, guard: Expr = TRUE) -> Expr:
    return red("logsumexp", [index], body, guard)


def softmax_at(value: Expr) -> Expr:
    return call("exp", sub(ref("s", [value]), lse(K1, over("s", K1))))


def x(i: Index) -> Expr:
    return over("x", i)


def order(body: Expr, place: Expr, guard: Expr = TRUE) -> Expr:
    return red("argsort", [I1], body, guard, place)


POSITIVE_X = cmp(">", x(I1), ZERO)
SOME_X = red("any", [I1], POSITIVE_X)

SPELLINGS = [
    # numbers
    (num(3), "3"),
    (num(-3), "-3"),
    (num("0.1"), "0.1"),
    (num(Fraction(1, 2)), "0.5"),
    (num(Fraction(1, 3)), "1/3"),
    (num(Fraction(-1, 3)), "-1/3"),
    (num("1e-12"), "1e-12"),
    (num("1.5e-7"), "1.5e-7"),
    (num(10**9), "1e9"),
    (PI, "pi"),
    (neg(INF), "-inf"),
    # precedence: no parenthesis too many, none too few
    (sub(A, sub(B, C)), "a - (b - c)"),
    (sub(sub(A, B), C), "a - b - c"),
    (add(A, add(B, C)), "a + (b + c)"),
    (mul(A, div(B, C)), "a*(b/c)"),
    (div(mul(A, B), C), "a*b/c"),
    (mul(add(A, B), C), "(a + b)*c"),
    (neg(mul(A, B)), "-(a*b)"),
    (mul(neg(A), B), "-a*b"),
    (mul(A, neg(B)), "a*(-b)"),
    (sub(A, neg(B)), "a - (-b)"),
    (add(A, num(-2)), "a + (-2)"),
    (neg(pow_(A, TWO)), "-a^2"),
    (pow_(neg(A), TWO), "(-a)^2"),
    (pow_(num(-2), A), "(-2)^a"),
    (pow_(A, num(-2)), "a^(-2)"),
    (pow_(A, pow_(B, C)), "a^b^c"),
    (pow_(pow_(A, B), C), "(a^b)^c"),
    (mul(num(Fraction(1, 3)), A), "1/3*a"),
    (mul(A, num(Fraction(1, 3))), "a*(1/3)"),
    (pow_(A, num(Fraction(1, 3))), "a^(1/3)"),
    (div(pow_(A, TWO), TWO), "a^2/2"),
    # conditions
    (not_(cmp("<", A, B)), "not (a < b)"),
    (and_(cmp("<", A, B), or_(cmp("==", A, C), cmp("!=", B, C))), "a < b and (a == c or b != c)"),
    (and_(cmp("<", ZERO, A), cmp("<=", A, ONE)), "0 < a <= 1"),
    (and_(cmp("<", ZERO, A), cmp(">=", A, ONE)), "0 < a and a >= 1"),
    (cmp("<=", add(A, B), C), "a + b <= c"),
    (sub(A, iverson(cmp("==", A, B))), "a - (a == b)"),
    # piecewise
    (pw([(A, cmp("<", A, B)), (B, cmp("<", B, C))], C), "piecewise(a if a < b, b if b < c, c otherwise)"),
    (pw([(A, cmp("<", A, B))], NAN), "piecewise(a if a < b)"),
    # products with conditions and logarithms, which the language reads together with the other factors
    (pw([(mul(A, B), cmp("<", A, B))], ZERO), "(a < b)*a*b"),
    (pw([(A, cmp("<", A, B))], ZERO), "(a < b)*a"),
    (pw([(div(ONE, A), cmp("<", A, B))], ZERO), "(a < b)/a"),
    (pw([(ONE, cmp("<", A, B))], ZERO), "piecewise(1 if a < b, 0 otherwise)"),
    (mul(C, pw([(A, cmp("<", A, B))], ZERO)), "c*piecewise(a if a < b, 0 otherwise)"),
    (neg(pw([(A, cmp("<", A, B))], ZERO)), "-piecewise(a if a < b, 0 otherwise)"),
    (neg(iverson(cmp("<", A, B))), "-(a < b)"),
    (mul(C, iverson(cmp("<", A, B))), "c*((a < b) + 0)"),
    (call("xlogy", A, B), "a*log(b)"),
    (call("xlogy", TWO, B), "xlogy(2, b)"),
    (call("xlogdiv", A, B, C), "a*log(b/c)"),
    (call("xlogy", A, div(B, C)), "xlogy(a, b/c)"),
    (call("xlogy", A, div(B, TWO)), "a*log(b/2)"),
    (div(call("xlogy", A, B), C), "a*log(b)/c"),
    (mul(call("xlogy", A, B), C), "xlogy(a, b)*c"),
    (mul(A, call("log", B)), "a*(log(b) + 0)"),
    (mul(TWO, call("log", B)), "2*log(b)"),
    (mul(mul(TWO, call("log", B)), A), "(2*log(b) + 0)*a"),
    (div(call("log", B), A), "log(b)/a"),
    (mul(div(call("log", B), A), C), "(log(b)/a + 0)*c"),
    (mul(add(ONE, call("log", B)), C), "(1 + log(b))*c"),
    # reductions and the names of their indices
    (red("sum", [I1], x(I1)), "sum[n](x)"),
    (red("max", [I1], x(I1), POSITIVE_X), "max[n | x > 0](x)"),
    (red("sum", [I1, I2], mul(x(I1), x(I2))), "sum[i, j in n](x[i]*x[j])"),
    (red("sum", [I1], red("max", [I2], sub(x(I1), x(I2)), cmp("!=", ix(I1), ix(I2)))), "sum[i in n](max[j in n | i != j](x[i] - x[j]))"),
    (red("sum", [I1], sub(x(I1), red("max", [I2], x(I2)))), "sum[n](x - max[n](x))"),
    (red("sum", [K1], pw([(over("s", K1), cmp("==", ix(K1), ix(K)))], ZERO)), "sum[i in k]((i == k)*s[i])"),
    (red("sum", [I1, K1], over("m", I1, K1)), "sum[n, k](m)"),
    (red("sum", [I1], ref("x", [add(ix(I1), ONE)]), cmp("<", add(ix(I1), ONE), size("n"))), "sum[n | n + 1 < size(n)](x[n + 1])"),
    (red("sum", [R1], pow_(ix(R1), TWO)), "sum[i in 0..bins](i^2)"),
    (red("norm", [I1], over("m", I1, K)), "norm[n](m)"),
    # sugar
    (softmax_at(ix(K)), "softmax[k](s)"),
    (softmax_at(ix(J)), "softmax[k](s)[j]"),
    (softmax_at(ref("y")), "softmax[k](s)[y]"),
    (sub(over("s", K), lse(K1, over("s", K1))), "log_softmax[k](s)"),
    (sub(lse(K1, over("s", K1)), over("s", K)), "logsumexp[k](s) - s"),
    (sub(over("s", K), lse(K1, over("t", K1))), "s - logsumexp[k](t)"),
    (red("sum", [I1], ONE, POSITIVE_X), "count[n | x > 0]"),
    (div(red("sum", [I1], x(I1), POSITIVE_X), red("sum", [I2], ONE, cmp(">", x(I2), ZERO))), "mean[n | x > 0](x)"),
    (div(red("sum", [I1], x(I1), POSITIVE_X), red("sum", [I2], ONE, cmp(">", x(I2), ONE))), "sum[n | x > 0](x)/count[n | x > 1]"),
    (not_(red("any", [I1], not_(POSITIVE_X))), "all[n](x > 0)"),
    (not_(SOME_X), "not any[n](x > 0)"),
    (not_(red("any", [I1], and_(POSITIVE_X, not_(cmp("<", x(I1), A))))), "all[n | x > 0](x < a)"),
    (not_(red("any", [I1], TRUE)), "not any[n](1 == 1)"),
    (pw([(red("max", [I1], x(I1), POSITIVE_X), SOME_X)], ZERO), "max[n | x > 0](x, default = 0)"),
    (red("prod", [I1], x(I1), POSITIVE_X), "prod[n | x > 0](x)"),
    (pw([(red("prod", [I1], x(I1), POSITIVE_X), SOME_X)], TWO), "prod[n | x > 0](x, default = 2)"),
    (order(x(I1), ix(N)), "argsort[n](x)"),
    (order(x(I1), ONE, POSITIVE_X), "argsort[n | x > 0](x)[1]"),
    (ref("x", [order(x(I1), ix(N))]), "sort[n](x)"),
    (ref("x", [order(x(I1), ix(I2), POSITIVE_X)]), "sort[n | x > 0](x)[n_1001]"),
    (ref("x", [order(neg(x(I1)), ONE)]), "sort[n](x, order = descending)[1]"),
    (neg(ref("x", [order(neg(x(I1)), ONE)])), "-sort[n](x, order = descending)[1]"),
    (neg(ref("x", [order(x(I1), ONE)])), "-sort[n](x)[1]"),
    (ref("x", [order(mul(x(I1), A), ONE)]), "x[argsort[n](x*a)[1]]"),
    (sub(mul(ref("x", [order(sub(mul(x(I1), A), B), ONE)]), A), B), "sort[n](x*a - b)[1]"),
    (red("sum", [I2], ref("x", [order(x(I1), ix(I2))])), "sum[n](sort[n](x))"),
    (red("sum", [I2], mul(ref("x", [order(x(I1), ix(I2))]), x(I2))), "sum[n](sort[n](x)*x)"),
    (red("sum", [I1], x(I1), cmp("<=", ix(I1), ix(N))), "sum[i in n | i <= n](x[i])"),
    (pw([(red("max", [I1], x(I1)), cmp(">", size("n"), ZERO))], INF), "max[n](x, default = inf)"),
]  # fmt: skip


@pytest.mark.parametrize(("e", "expected"), SPELLINGS, ids=[s for _, s in SPELLINGS])
def test_spelling(e: Expr, expected: str) -> None:
    assert text.expression(e) == expected
    assert repr(e) == expected


KINDS = [
    (Kind("real"), "real"),
    (Kind("logit", (("n", "n"), ("k", "k"))), "logit[n, k]"),
    (Kind("class", (("n", "n"),), of="k", ignore=-100), "class(k, ignore = -100)[n]"),
    (Kind("class", of="k"), "class(k)"),
    (Kind("simplex", (("k", "k"),), of="k"), "simplex[k]"),
    (Kind("simplex", (("k", "k"), ("n", "n")), of="k"), "simplex(k)[k, n]"),
    (Kind("simplex", (("n", "n"), ("k", "k")), of="k"), "simplex(k)[n, k]"),
    (Kind("binary", (("i", "i"), ("i", "j"))), "binary[i, j in i]"),
    (Kind("real", interval=Interval(Fraction(0), Fraction(1), True, False)), "real in (0, 1]"),
    (Kind("real", (("n", "n"),), interval=Interval(Fraction(1, 2))), "real[n] in (0.5, inf)"),
]


@pytest.mark.parametrize(("kind", "expected"), KINDS, ids=[s for _, s in KINDS])
def test_kind(kind: Kind, expected: str) -> None:
    assert text.kind(kind) == expected


REAL = Kind()
F, Y, S = Input("f", REAL), Input("y", REAL), Input("s", Kind("logit", (("k", "k"),)))
LABEL = Input("y", Kind("class", of="k"))
PAIRS = Input("m", Kind("real", (("i", "i"), ("i", "j"))))


def huber() -> Program:
    residual, delta = sub(F.element, Y.element), ref("delta")
    size_of = call("abs", residual)
    value = pw([(div(pow_(residual, TWO), TWO), cmp("<=", size_of, delta))], mul(delta, sub(size_of, div(delta, TWO))))
    delta_is = Param("delta", Kind("positive"), Fraction(1))
    return Program("huber", (F, Y), (delta_is,), (Output("huber", (), value),), ("f",), doc="Huber loss.")


def array(name: str, inputs: tuple[Input, ...], indices: tuple[Index, ...], value: Expr) -> Program:
    return Program(name, inputs, (), (Output(name, indices, value),))


def test_program() -> None:
    assert text.program(huber()) == (
        '"""Huber loss."""\n'
        "huber(f: real, y: real; delta: positive = 1) =\n"
        "    piecewise((f - y)^2/2 if abs(f - y) <= delta, delta*(abs(f - y) - delta/2) otherwise)\n"
        "  wrt     f"
    )


def test_array_program() -> None:
    gradient = sub(softmax_at(ix(K)), iverson(cmp("==", ix(K), LABEL.element)))
    assert text.program(array("g", (S, LABEL), (K,), gradient)) == "g[k](s: logit[k], y: class(k)) = softmax[k](s) - (k == y)"
    hessian = sub(pw([(softmax_at(ix(J)), cmp("==", ix(J), ix(K)))], ZERO), mul(softmax_at(ix(J)), softmax_at(ix(K))))
    expected = "h[j in k, k](s: logit[k]) = (j == k)*softmax[k](s)[j] - softmax[k](s)[j]*softmax[k](s)"
    assert text.program(array("h", (S,), (J, K), hessian)) == expected


def test_axis_with_two_names() -> None:
    first, second = Index("i", 1), Index("i", 2)
    total = red("sum", [first, second], over("m", first, second))
    assert text.program(array("t", (PAIRS,), (), total)) == "t(m: binary[i, j in i]) = sum[i, j](m)".replace("binary", "real")
    swapped = red("sum", [first, second], sub(over("m", first, second), over("m", second, first)))
    assert text.program(array("t", (PAIRS,), (), swapped)) == "t(m: real[i, j in i]) = sum[i, j](m - m[j, i])"


def test_new_indices_take_no_name_in_sight() -> None:
    e = red("sum", [I1, I2], mul(mul(over("j", I1), over("i", I2)), ref("l")))
    assert text.expression(e) == "sum[n2, n3 in n](j[n2]*i[n3]*l)"


def test_shared_parts_become_locals() -> None:
    distance = call("exp", neg(red("sum", [K1], pow_(sub(over("u", I1, K1), over("v", I2, K1)), TWO))))
    other = call("exp", neg(red("sum", [K1], pow_(sub(over("u", I2, K1), over("v", I1, K1)), TWO))))
    e = red("sum", [I1, I2], div(distance, add(distance, other)))
    inputs = tuple(Input(name, Kind("real", (("n", "n"), ("k", "k")))) for name in "uv")
    assert text.program(array("loss", inputs, (), e)) == (
        "loss(u: real[n, k], v: real[n, k]) = sum[i, j in n](t1[i, j]/(t1[i, j] + t1[j, i]))\n"
        "    where t1[i in n, j in n] = exp(-sum[k]((u[i] - v[j])^2))"
    )


def test_each_definition_of_several() -> None:
    outputs = (Output("dg_df", (), sub(F.element, Y.element)), Output("dg_dy", (), sub(Y.element, F.element)))
    assert text.program(Program("dg_df", (F, Y), (), outputs)) == "dg_df(f: real, y: real) = f - y\n\ndg_dy(f: real, y: real) = y - f"


def deep(depth: int) -> Expr:
    e = F.element
    for _ in range(depth):
        e = add(call("exp", mul(e, e)), e)
    return e


def test_depth_costs_no_stack_and_sharing_no_time() -> None:
    p = array("deep", (F,), (), deep(300))
    assert len(text.program(p)) < 20_000
    assert latex(p).count(r"\\") >= 200
    nested = F.element
    for _ in range(5000):
        nested = call("tanh", nested)
    assert repr(nested).count("tanh") == 5000


def test_lines_are_wrapped_and_no_line_reads_as_a_local() -> None:
    terms = F.element
    for n in range(60):
        terms = add(terms, pow_(sub(F.element, num(n)), TWO))
    lines = text.program(array("long", (F,), (), terms), width=80).splitlines()
    assert len(lines) > 5
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


# -- what is printed parses back ----------------------------------------------------------------------------------------

FURTHER = [
    "ce(s: logit[k], y: class(k, ignore = -100)) = logsumexp[k](s) - s[y]",
    "ce(s: logit[n, k], y: class(k, ignore = -100)[n]) = mean[n](logsumexp[k](s) - s[y])",
    "ce(s: logit[n, k], y: class(k, ignore = -1)[n]) = max[n | s[y] > 0](s[n, 0], default = 0)",
    "flags(f: real[n], b: bool[n], g: bool) = sum[n | b](f) + g*sum[n](b*f) + count[n](not b)",
    "weighted(f: real[n], w: nonnegative[n]) = mean[n](f^2, weight = w) + mean[n | f > 0](f, weight = w, default = 1)",
    "every(f: real[n]; m: positive = 1) = piecewise(1 if all[n | f > 0](f < m), 0 if any[n](f == m), f[0] otherwise)",
    "spread(f: real[n]) = var[n](f, ddof = 1) + std[n | f > 0](f) + sum[n](rank[n](f)*f)",
    "chained(f: real, y: real; lo: real = 0, hi: real = 1) = (lo < f <= hi)*log(y)*f + max(f, y, lo) - (f < y)\n  require lo < hi",
    "tables(s: real[i, k], R: binary[i, j in i]; w: real[k]) = sum[i, j | i != j](R*(s[i, 0] - s[j, 0])) + sum[i, k](w*softmax[k](s))",
    "histogram(x: real[n]; bins: integer = 3) = sum[b in 0..bins](abs(sum[n](exp(-(x - b)^2)) - 1))",
    "binned(x: real[n]; bins: integer = 3) = sum[b in 0..bins](exp(q[b])*q[b] + sin(q[b])) where q[b] = sum[n](exp(-(x - b)^2/2))",
    "moved(x: real[n], z: real[n, m in n]) = sum[m](z[0, m]) + sum[i in n | i > 0](x[i - 1]*x[i]) + argmax[n](x)*x[argmin[n](x)]",
    'said(f: real) = f^2\n  source "A, B (1900)"\n  note "x > 0, say"\n  survey 4.2.7 (14): L-CONT, DIFF\n  claim CONVEX(f) if 1 > 0\n  oracle torch.nn.functional.mse_loss(f, 0*f, reduction="none")',
    '"""A doc of\n  two lines, with "quotes" ."""\ndocumented(f: real; d: real in [0, inf) = 1/3, e: real in (-inf, 1/7]) = d*f + e',
    "distance(u: real[d], v: real[d]; D = cosine) = D(u, v) + sqdist(u, v) + dot(u, v) + sum[d](normalize[d](u)*v)",
    "table[i, k](s: real[i, k]) = softmax[k](s) - mean[i](s)",
    "greek(f; δ: positive = 1, ε: real = 1e-12) = δ*f + ε",
]  # fmt: skip


def texts() -> list[str]:
    from test_language import ALL

    return [*(case.text for case in ALL), *FURTHER]


def parses_back(p: Program) -> None:
    """Each output, read again from the text, is the same node over the same inputs, and everything else that was said is said again."""
    printed = text.program(p)
    again = load_text(printed)
    for output in p.outputs:
        q = again[output.name]
        assert q.value is output.expr, f"{printed}\n{q.value}\n{output.expr}"
        assert q.outputs[0].indices == output.indices
        assert (q.inputs, q.params, q.functions) == (p.inputs, p.params, p.functions)
        assert (q.doc, q.notes, q.batch, q.requires) == (p.doc, p.notes, p.batch, p.requires)
        assert q.wrt == tuple(name for name in p.wrt if name in {i.name for i in p.inputs})


def numbers(p: Program) -> list[str]:
    return [i.name for i in p.inputs if i.kind.role == "number"]


def derivatives(p: Program) -> list[Program]:
    """Gradient, Hessian and a derivative along a vector, as the rules give them."""
    wrt = numbers(p)
    if not wrt or p.outputs[0].indices:
        return []
    first = gradient(p, wrt[:1])
    return [gradient(p, wrt), jacobian(first, wrt[0]), tangent(first, {wrt[0]: f"v_{wrt[0]}"})]


@pytest.mark.parametrize("source", texts())
def test_round_trip(source: str) -> None:
    for p in load_text(source).values():
        for q in (p, *derivatives(p)):
            parses_back(q)
            assert latex(q)


@pytest.mark.parametrize("name", library_names())
def test_round_trip_of_the_library(name: str) -> None:
    p = load_library(name)
    for q in (p, *derivatives(p), gradient(p, [x.name for x in p.params if x.kind.role == "number"] or numbers(p)), pipeline.derived(p, p.wrt)):
        parses_back(q)


@pytest.mark.parametrize("name", library_names())
def test_printing_again_changes_nothing(name: str) -> None:
    printed = text.program(load_library(name))
    assert text.program(load_text(printed)[name]) == printed
