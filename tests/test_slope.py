"""``grad[x](g)`` inside a loss: against the derivative written out, against differences, in text, on all backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lossdsl import Loss, parse
from lossdsl.frontend import load_text, load_text_with_warnings
from lossdsl.ir import text
from lossdsl.ir.applied import has_slopes
from lossdsl.runtime import reference

# A gradient inside a loss, and the same with the derivative written out.
PAIRS: dict[str, tuple[str, str]] = {
    "of a number": ("a(x) = grad[x](x^3)", "a(x) = 3*x^2"),
    "twice": ("a(x) = grad[x](grad[x](x^4))", "a(x) = 12*x^2"),
    "three times, beside others": ("a(x, w) = w*grad[x](x*grad[x](grad[x](w*x^4)))", "a(x, w) = w*36*w*x^2"),
    "of an array": ("a(x: real[d]) = norm(grad[x](sum[d](exp(2*x))))", "a(x: real[d]) = norm(2*exp(2*x))"),
    "at an index": ("a(x: real[d]) = sum[i in d](grad[x](x[i]^2*x[0])[i])", "a(x: real[d]) = sum[i in d](2*x[i]*x[0] + (i == 0)*x[i]^2)"),
    "at a fixed place": ("a(x: real[d]) = grad[x](sum[d](x^3))[1]", "a(x: real[d]) = 3*x[1]^2"),
    "at a place that is computed": ("a(x: real[d], y: class(d)) = grad[x](logsumexp[d](x))[y]", "a(x: real[d], y: class(d)) = softmax[d](x)[y]"),
    "by a hyper-parameter": ("a(f, y; c: positive = 2) = grad[c](log(1 + (f/c)^2)) + y", "a(f, y; c: positive = 2) = -2*f^2/(c^3*(1 + (f/c)^2)) + y"),
    "of a loss": ("a(f, y) = grad[f](log_cosh(f - y))^2", "a(f, y) = tanh(f - y)^2"),
    "of a bare loss": ("a = grad[f](mse)", "a(f, y) = 2*(f - y)"),
    "by a standing name": ("a = grad[f](r^2)*y", "a(f, y) = 2*(f - y)*y"),
    "by a local": ("a(x: real[n]) = sum[n](grad[u](sum[n](u^3))*x) where u = x^2", "a(x: real[n]) = sum[n](3*(x^2)^2*x)"),
    "by a local, whose own inputs stay": ("a(x) = grad[u](u^2*x) where u = 3*x", "a(x) = 2*(3*x)*x"),
    "by an input, through locals": ("a(x) = grad[x](v*x) where u = 3*x, v = u^2", "a(x) = 27*x^2"),
    "by a local, through a local made of it": ("a(x) = grad[u](v + x*u) where u = 3*x, v = u^2", "a(x) = 2*(3*x) + x"),
    "by a local with a head": (
        "a(x: real[n]) = sum[i, j in n](grad[s](sum[k in n](s[k, 0]^2*s[0, k]))[i, j]) where s[i, j] = x[i]*x[j]^2",
        "a(x: real[n]) = sum[k in n](2*s[k, 0]*s[0, k] + s[k, 0]^2) where s[i, j] = x[i]*x[j]^2"),
    "in a local with a head": (
        "a(x: real[n, d]) = mean[i, j in n | i != j](G[i, j]) where G[i, j] = norm(grad[x](sqdist(x[i], x[j]))[i])",
        "a(x: real[n, d]) = mean[i, j in n | i != j](2*euclidean(x[i], x[j]))"),
    "by a parameter of a local function": (
        "a(x: real[n, d], w: real[d]) = mean[n](P(x*w)) where P(u) = norm(grad[u](sum[d](u^3)))",
        "a(x: real[n, d], w: real[d]) = mean[n](norm[d](3*(x*w)^2))"),
    "by a row": ("a(x: real[n, d]) = mean[n](norm(grad[x](sum[d](x^3))))", "a(x: real[n, d]) = mean[n](norm[d](3*x^2))"),
    "of a sum over rows, by weights": (
        "a(x: real[n, d], w: real[d]) = norm(grad[w](mean[n](softplus(dot(x, w)))))\n  wrt w",
        "a(x: real[n, d], w: real[d]) = norm[d](mean[n](x*sigmoid(sum[d](x*w))))\n  wrt w"),
    "in an argument": ("a(x: real[d], w: real[d]) = cosine(w, grad[x](sum[d](x^3)))", "a(x: real[d], w: real[d]) = cosine(w, 3*x^2)"),
    "through stop": ("a(x) = grad[x](stop(x)*x^2)", "a(x) = 2*stop(x)*x"),
    "stopped": ("a(x) = stop(grad[x](x^2))*x", "a(x) = stop(2*x)*x"),
    "of a gather": ("a(s: logit[k], y: class(k)) = norm(grad[s](logsumexp[k](s) - s[y]))", "a(s: logit[k], y: class(k)) = norm[k](softmax[k](s) - (k == y))"),
    "of branches": ("a(x; c: positive = 1) = grad[x](piecewise(x^2 if x < c, 2*c*x otherwise))", "a(x; c: positive = 1) = piecewise(2*x if x < c, 2*c otherwise)"),
    "under a guard": (
        "a(x: real[n]) = sum[n | x > 0](grad[x](log(x)))", "a(x: real[n]) = sum[n | x > 0](1/x)"),
    "of a call, by its argument's local": (
        "_p(v: real[e]; m: positive) = m*norm(grad[v](sum[e](v^2)))\na(x: real[d]; q: positive = 3) = _p(x^2; m = q)",
        "a(x: real[d]; q: positive = 3) = q*norm(2*x^2)"),
    "inside a loss that is called": (
        "_p(v: real[e]) = sum[e](grad[v](sum[e](v^3)))\na(x: real[n, d]) = max[i in n](_p(x[i]))",
        "a(x: real[n, d]) = max[i in n](sum[d](3*x[i]^2))"),
    "of an order": ("a(x: real[n]) = sum[n](n*grad[x](max[n](x*n)))", "a(x: real[n]) = sum[n](n^2*(x*n == max[n](x*n)))"),
    "over a range": ("a(x; m: integer = 3) = sum[b in 1..m](grad[x](x^b)/b)", "a(x; m: integer = 3) = sum[b in 1..m](x^(b - 1))"),
    "with an implicit axis": ("a(x: real[n], w: real[n]) = sum[n](G*w) where G[n] = grad[x](x^2)", "a(x: real[n], w: real[n]) = sum[n](2*x*w)"),
    "a Hessian-vector product": (
        "a(x: real[d], v: real[d]) = dot(v, H) where H = grad[x](dot(v, grad[x](logsumexp[d](x))))",
        "a(x: real[d], v: real[d]) = sum[d](p*v^2) - sum[d](p*v)^2 where p = softmax[d](x)"),
    "influence, in a residual": ("a(f, y; c: positive = 2) = c/2*grad[f](c*log(1 + ((f - y)/c)^2))", "a(f, y; c: positive = 2) = (f - y)/(1 + ((f - y)/c)^2)"),
}  # fmt: skip


def last(source: str) -> Loss:
    return list(parse(source).values())[-1]


def given(loss: Loss) -> dict[str, Any]:
    return loss.sample(seed=2, batch=4)


@pytest.mark.parametrize("name", PAIRS)
def test_the_derivative_written_out_is_the_same(name: str) -> None:
    """Values and gradients, on every backend."""
    mine, written = map(last, PAIRS[name])
    assert has_slopes(mine.program.roots) and not has_slopes(mine.after("stabilise").program.roots)
    inputs = given(mine)
    for backend in ("reference", "numpy", "torch"):
        value, slopes = mine.compile(backend).value_and_grad(**inputs)
        want, wanted = written.compile(backend).value_and_grad(**inputs)
        assert np.allclose(value, want, rtol=1e-9, atol=1e-12)
        assert np.allclose(slopes, wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", PAIRS)
def test_the_hessian_is_that_of_the_derivative_written_out(name: str) -> None:
    mine, written = map(last, PAIRS[name])
    inputs = given(mine)
    for backend in ("numpy", "torch"):
        for a, b in zip(*(loss.compile(backend).value_grad_hess(**inputs) for loss in (mine, written)), strict=True):
            assert np.allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_it_prints_and_reads_back(name: str) -> None:
    program = last(PAIRS[name][0]).program
    printed = text.program(program)
    assert "grad[" in printed and load_text(printed)[program.name] == program, printed
    assert "\\nabla" in last(PAIRS[name][0]).latex()


FREE = {
    "smooth": "a(x: real[d], w: real[d]) = logsumexp[d](x*w) + sin(sum[d](x^3))",
    "of pairs": "a(x: real[n, d]) = mean[i, j in n](exp(-sqdist(x[i], x[j])))",
    "a gather": "a(x: real[k, d], y: class(k)) = log(1 + norm(x[y])^2) - x[y, 0]",
    "an extreme": "a(x: real[n]) = max[n](x^2) - min[n](sin(x))",
    "shifted": "a(x: real[t]) = sum[t | t + 1 < size(t)]((x[t + 1] - x)^4)",
    "weights": "a(x: real[n], p: simplex[n]) = sum[n](p*log(p/softmax[n](x)))",
}


@pytest.mark.parametrize("name", FREE)
def test_the_gradient_inside_is_the_slope_of_the_loss(name: str) -> None:
    """``grad[x](..)`` of a whole loss, entry by entry, against differences of the loss."""
    (loss,) = parse(FREE[name]).values()
    x = loss.inputs[0]
    axes = ", ".join(n for _, n in x.kind.axes)
    head, body = str(loss).split(" = ", 1)
    inside = load_text(f"{head.replace('a(', f'a[{axes}](', 1)} = grad[{x.name}]({body})")["a"]
    arrays = loss.sample(seed=0, sizes={"d": 3, "n": 4, "k": 4, "t": 4})
    (found,) = reference.evaluate(inside, arrays).values()
    want = reference.differences(loss.program, arrays, wrt=x.name)
    assert np.allclose(np.asarray(found.value, float), np.asarray(want, float), rtol=1e-12, atol=1e-14)
    shape = np.shape(arrays[x.name])
    assert np.shape(found.value) == shape


def test_it_is_stable() -> None:
    """What is differentiated is stable, and so is the slope: exp of a thousand, a softplus, a norm of 0."""
    x = np.array([1000.0, -1000.0, 0.0])
    value = last("a(x) = grad[x](log(1 + exp(x)))").compile("numpy")(x, reduction="none")
    assert np.allclose(value, [1, 0, 0.5])
    value = last("a(x: real[d]) = sum[d](grad[x](norm[d](x)))").compile("numpy")(np.zeros((2, 3)), reduction="none")
    assert (value == 0).all()
    value, slope = last("a(x) = grad[x](abs(x))").compile("numpy").value_and_grad(np.zeros(2), reduction="none")
    assert (value == 0).all() and (slope == 0).all()


def test_weights_weigh_what_is_differentiated() -> None:
    """A sample that counts twice is there twice, in the gradient too."""
    loss = last("a(x: real[n], w: real[d]) = grad[w](mean[n](softplus(x*sum[d](w))))[0]^2 + norm(grad[x](sum[n](x^3)))\n  batch n\n  wrt w")
    x, w = np.array([1.0, -2, 0.5, 3]), np.array([0.3, -0.1])
    weight = np.array([2, 0, 1, 3])
    for backend in ("reference", "numpy", "torch"):
        fn = loss.compile(backend)
        assert np.isclose(float(fn(x, w, sample_weight=weight)), float(fn(np.repeat(x, weight), w)))


def test_sympy_has_the_derivative() -> None:
    import sympy

    x = sympy.Symbol("x", real=True)
    assert sympy.simplify(last("a(x) = grad[x](x^3*exp(x))").sympy() - sympy.diff(x**3 * sympy.exp(x), x)) == 0


def test_an_array_may_be_a_gradient() -> None:
    program = load_text("a[d](x: real[d]) = grad[x](logsumexp[d](x))")["a"]
    (found,) = reference.evaluate(program, {"x": [1.0, 2.0, 3.0]}).values()
    e = np.exp([1.0, 2, 3])
    assert np.allclose(np.asarray(found.value, float), e / e.sum())
    row = load_text("a[n](x: real[n, d]) = norm[d](grad[x](sum[d](x^3)))")["a"]
    (found,) = reference.evaluate(row, {"x": [[1.0, 2.0], [3.0, 4.0]]}).values()
    assert np.allclose(np.asarray(found.value, float), 3 * np.hypot([1, 9], [4, 16]))


def test_many_and_deep() -> None:
    """A chain of locals with a gradient at its end, and gradients one in another."""
    chain = "".join(f",\n  u{k} = sin(u{k - 1})*x" for k in range(1, 40))
    loss = last(f"a(x) = grad[x](u39) where u0 = x{chain}")
    assert np.isfinite(loss.compile("numpy")(np.array([0.3])))
    nested = "x^12"
    for _ in range(6):
        nested = f"grad[x]({nested})"
    assert np.isclose(last(f"a(x) = {nested}").compile("numpy")(np.array([1.0])), 12 * 11 * 10 * 9 * 8 * 7)


def test_names_of_indices_do_not_matter() -> None:
    one = load_text("a(x: real[n]) = sum[i in n](grad[x](sum[j in n](x[j]*x[i]))[i])")["a"]
    other = load_text("a(x: real[n]) = sum[j in n](grad[x](sum[i in n](x[i]*x[j]))[j])")["a"]
    assert one.value is other.value


def test_a_slope_of_what_changes_nowhere_is_said() -> None:
    _, remarks = load_text_with_warnings("a(x) = grad[x](floor(x)) + x")
    assert [r.name for r in remarks] == ["zero-gradient"]
    _, remarks = load_text_with_warnings("a(x) = grad[x](floor(x)*x) + x")
    assert not remarks
