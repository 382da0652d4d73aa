"""Functions that a loss is given: critics, models, distances; against losses written by hand with autograd, on all backends."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import grad as slope
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softplus

import lossdsl
from lossdsl import Loss, LossError, parse
from lossdsl.frontend import load_text
from lossdsl.ir import text

Array = NDArray[Any]


class Net(torch.nn.Module):
    """A small smooth network of any number of arrays; ``numpy`` is the same as a function on arrays with its gradients."""

    def __init__(self, width: int, out: tuple[int, ...] = (), seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.out = out
        self.layers = torch.nn.Sequential(torch.nn.Linear(width, 6), torch.nn.Tanh(), torch.nn.Linear(6, math.prod(out))).double()
        self.rows: list[int] = []

    def forward(self, *args: Tensor) -> Tensor:
        n = len(args[0])
        self.rows.append(n)
        flat = torch.cat([(x.flatten(1) if x.ndim > 1 else x[:, None]).double() for x in args], 1)
        return self.layers(flat).reshape(n, *self.out) if self.out else self.layers(flat)[:, 0]

    def numpy(self, *args: Array) -> Any:
        given = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in args]
        value = self(*given)
        flat = value.reshape(len(value), -1)
        real = [x for x in given if x.requires_grad]
        columns = [slope(flat[:, k].sum(), real, retain_graph=True) for k in range(flat.shape[1])]
        found = iter([torch.stack(c, 1).reshape(*value.shape, *c[0].shape[1:]).numpy() for c in zip(*columns, strict=True)])
        slopes = tuple(next(found) if x.requires_grad else None for x in given)
        return value.detach().numpy(), slopes[0] if len(slopes) == 1 else slopes


def by(y: Tensor, x: Tensor) -> Tensor:
    """The gradient of each row of y by that row of x, which may be differentiated again."""
    return slope(y.sum(), x, create_graph=True)[0]


def jacobian(y: Tensor, x: Tensor) -> Tensor:
    """dy[n, k]/dx[n, d]."""
    return torch.stack([by(y[:, k], x) for k in range(y.shape[1])], 1)


@dataclass
class Case:
    """A loss, the functions that it is given, and the loss of each row by hand."""

    source: str
    net: Callable[[], Net]
    hand: Callable[..., Tensor]
    sizes: dict[str, int] = field(default_factory=dict)
    first: bool = False  # whether first derivatives of the function are enough for the gradient
    second: bool = False  # whether the value needs second derivatives


def interpolated(x: Tensor, xf: Tensor, a: Tensor, f: Net) -> Tensor:
    u = a[:, None] * x + (1 - a[:, None]) * xf
    return f(xf) - f(x) + 10 * (by(f(u), u).norm(dim=1) - 1) ** 2


def laplacian(x: Tensor, f: Net) -> Tensor:
    g = by(f(x), x)
    return sum((by(g[:, k], x)[:, k] for k in range(x.shape[1])), torch.zeros(len(x), dtype=x.dtype))


def pairs(x: Tensor, f: Net) -> Tensor:
    """The mean squared distance of all different rows of a set, for each set of a batch."""
    e = torch.stack([f(row) for row in x])
    n = x.shape[1]
    return ((e[:, :, None] - e[:, None]) ** 2).sum((1, 2, 3)) / (n * (n - 1))


CASES = {
    "Lipschitz penalty": Case(
        "a(x: real[d], f: (real[d]) -> real; lam: positive = 10) = lam*(norm(grad[x](f(x))) - 1)^2",
        lambda: Net(4), lambda x, f: 10 * (by(f(x), x).norm(dim=1) - 1) ** 2),
    "one-sided penalty": Case(
        "a(x: real[d], f: (real[d]) -> real; lam: positive = 10) = lam*relu(norm(grad[x](f(x))) - 1/3)^2",
        lambda: Net(4), lambda x, f: 10 * (by(f(x), x).norm(dim=1) - 1 / 3).relu() ** 2),
    "WGAN-GP": Case(
        "a(x: real[d], xf: real[d], a: unit, f: (real[d]) -> real; lam: positive = 10) = f(xf) - f(x) + lam*(norm(grad[u](f(u))) - 1)^2\n"
        "  where u = a*x + (1 - a)*xf\n  wrt x, xf",
        lambda: Net(4), interpolated),
    "a penalty by a call": Case(
        "p(x: real[e], c: (real[e]) -> real; lam: positive) = lam*(norm(grad[x](c(x))) - 1)^2\n"
        "a(x: real[d], xf: real[d], a: unit, f: (real[d]) -> real) = f(xf) - f(x) + p(a*x + (1 - a)*xf, f; lam = 10)\n  wrt x, xf",
        lambda: Net(4), interpolated),
    "R1": Case(
        "a(x: real[d], f: (real[d]) -> real; gamma: positive = 3) = softplus(-f(x)) + gamma/2*norm(grad[x](f(x)))^2",
        lambda: Net(4), lambda x, f: softplus(-f(x)) + 1.5 * (by(f(x), x) ** 2).sum(1)),
    "DRAGAN": Case(
        "a(x: real[d], e: real[d], f: (real[d]) -> real) = (norm(grad[u](f(u))) - 1)^2 where u = x + e/2\n  wrt x",
        lambda: Net(4), lambda x, e, f: (by(f(u := x + e / 2), u).norm(dim=1) - 1) ** 2),
    "the maximum of slopes": Case(
        "a(x: real[n, d], f: (real[d]) -> real) = max[n](norm(grad[x](f(x))))",
        lambda: Net(3), lambda x, f: torch.stack([torch.stack([by(f(r[None]), r) for r in row.unbind()]).norm(dim=1).amax() for row in x.unbind()]), {"n": 4, "d": 3}),
    "implicit score matching": Case(
        "a(x: real[d], f: (real[d]) -> real[d]) = sum[i in d](grad[x](f(x)[i])[i]) + norm(f(x))^2/2",
        lambda: Net(3, (3,)), lambda x, f: torch.diagonal(jacobian(f(x), x), 0, 1, 2).sum(1) + (f(x) ** 2).sum(1) / 2, {"d": 3}),
    "sliced score matching": Case(
        "a(x: real[d], v: real[d], f: (real[d]) -> real[d]) = dot(v, grad[x](dot(v, f(x)))) + dot(v, f(x))^2/2",
        lambda: Net(3, (3,)), lambda x, v, f: (v * by((v * f(x)).sum(1), x)).sum(1) + (v * f(x)).sum(1) ** 2 / 2, {"d": 3}),
    "denoising score matching": Case(
        "a(x: real[d], e: real[d], f: (real[d]) -> real[d]; s: positive = 1/2) = sqdist(s*f(x + s*e), -e)\n  wrt x",
        lambda: Net(3, (3,)), lambda x, e, f: ((f(x + e / 2) / 2 + e) ** 2).sum(1), {"d": 3}, first=True),
    "contractive": Case(
        "a(x: real[d], f: (real[d]) -> real[k]) = sum[k](norm[d](grad[x](f[d](x)[k]))^2)",
        lambda: Net(4, (3,)), lambda x, f: (jacobian(f(x), x) ** 2).sum((1, 2)), {"d": 4, "k": 3}),
    "a slope of a class": Case(
        "a(x: real[d], y: class(k), f: (real[d]) -> logit[k]) = -log_softmax[k](f(x))[y] + norm(grad[x](f(x)[y]))",
        lambda: Net(4, (5,)),
        lambda x, y, f: cross_entropy(f(x), y, reduction="none") + by(f(x).gather(1, y[:, None]).sum(1), x).norm(dim=1), {"d": 4, "k": 5}),
    "double backpropagation": Case(
        "a(x: real[d], y: class(k), f: (real[d]) -> logit[k]) = c + norm(grad[x](c))^2 where c = logsumexp[k](f(x)) - f(x)[y]",
        lambda: Net(4, (5,)),
        lambda x, y, f: (c := cross_entropy(f(x), y, reduction="none")) + (by(c, x) ** 2).sum(1), {"d": 4, "k": 5}),
    "consistency": Case(
        "a(x: real[d], e: real[d], f: (real[d]) -> logit[k]) = kl(stop(softmax[k](f(x))), softmax[k](f(x + e)))\n"
        "  where kl(p, q) = sum[k](p*log(p/q))\n  wrt x",
        lambda: Net(4, (3,)),
        lambda x, e, f: kl_div(log_softmax(f(x + e), 1), log_softmax(f(x), 1).detach(), reduction="none", log_target=True).sum(1),
        {"d": 4, "k": 3}, first=True),
    "virtual adversarial": Case(
        "a(x: real[d], r: real[d], f: (real[d]) -> logit[k]; eps: positive = 2) = D(eps*g/norm(g))\n"
        "  where D(v) = sum[k](stop(softmax[k](f(x)))*(stop(log_softmax[k](f(x))) - log_softmax[k](f(x + v))))\n"
        "        u = r/10\n        g = stop(grad[u](D(u)))\n  wrt x",
        lambda: Net(4, (3,)), lambda x, r, f: adversarial(x, r, f), {"d": 4, "k": 3}, first=True),
    "a set": Case(
        "a(x: real[n, d], f: (real[n, d]) -> real) = f(x)^2 + sum[n, d](grad[x](f[n, d](x))^2)",
        lambda: Net(12), lambda x, f: f(x) ** 2 + (by(f(x), x) ** 2).sum((1, 2)), {"n": 4, "d": 3}),
    "pairs of a set": Case(
        "a(x: real[i, d], f: (real[d]) -> real[k]) = mean[i, j in i | i != j](sqdist(f(x[i]), f(x[j])))",
        lambda: Net(3, (2,)), pairs, {"i": 4, "d": 3, "k": 2}, first=True),
    "two arguments": Case(
        "a(x: real[d], c: real[k], f: (real[d], real[k]) -> real) = log(1 + f(x, c)^2) + norm(grad[c](f(x, c)))\n  wrt x, c",
        lambda: Net(7), lambda x, c, f: (1 + f(x, c) ** 2).log() + by(f(x, c), c).norm(dim=1), {"d": 4, "k": 3}),
    "a critic of labels": Case(
        "a(x: real[d], y: integer, f: (real[d], integer) -> real) = softplus(-f(x, y)) + norm(grad[x](f(x, y)))^2",
        lambda: Net(5), lambda x, y, f: softplus(-f(x, y)) + (by(f(x, y), x) ** 2).sum(1)),
    "an autoencoder": Case(
        "a(x: real[d], enc: (real[d]) -> real[h], dec: (real[h]) -> real[d]) = sqdist(x, dec(enc(x)))",
        lambda: Net(4, (3,)), lambda x, enc, dec: ((x - dec(enc(x))) ** 2).sum(1), {"d": 4, "h": 3}, first=True),
    "a path": Case(
        "a(x: real[d], xf: real[d], f: (real[d]) -> real; m: integer = 4) = sum[b in 1..m](f(x + b/m*(xf - x))*b/m)",
        lambda: Net(4), lambda x, xf, f: sum((f(x + b / 4 * (xf - x)) * b / 4 for b in range(1, 5)), torch.zeros(1).double()), first=True),
    "slopes on a path": Case(
        "a(x: real[d], xf: real[d], f: (real[d]) -> real; m: integer = 3) = sum[d]((x - xf)*mean[b in 0..m - 1](grad[u](f[d](u + b/m*(xf - u)))))\n"
        "  where u = x",
        lambda: Net(4),
        lambda x, xf, f: ((x - xf) * sum(by(f((1 - b / 3) * x + b / 3 * xf), x) for b in range(3)) / 3).sum(1)),
    "the second derivative": Case(
        "a(x: real[d], f: (real[d]) -> real) = sum[i in d](grad[x](grad[x](f(x))[i])[i])",
        lambda: Net(3), laplacian, {"d": 3}, second=True),
    "a power of the slope": Case(
        "a(x: real, f: (real) -> real) = f(x)*grad[x](f(x)^2)^2",
        lambda: Net(1), lambda x, f: f(x) * by(f(x) ** 2, x) ** 2),
}  # fmt: skip


def adversarial(x: Tensor, r: Tensor, f: Net) -> Tensor:
    def divergence(v: Tensor) -> Tensor:
        p = log_softmax(f(x), 1).detach()
        return (p.exp() * (p - log_softmax(f(x + v), 1))).sum(1)

    u = (r / 10).detach().requires_grad_()
    g = slope(divergence(u).sum(), u)[0]
    return divergence(2 * g / g.norm(dim=1, keepdim=True))


def loss_of(case: Case) -> Loss:
    return list(parse(case.source).values())[-1]


def nets(case: Case, loss: Loss) -> dict[str, Net]:
    made = {}
    for k, f in enumerate(loss.functions):
        net = case.net()
        if k == 1:
            net = Net(3, (4,), seed=1)
        made[f.name] = net
    return made


def arrays(case: Case, loss: Loss, seed: int = 1, batch: int = 5) -> dict[str, Any]:
    given = loss.sample(seed=seed, batch=batch, sizes={"d": 4, **case.sizes})
    return {k: v for k, v in given.items() if isinstance(v, np.ndarray)}


def tensors(given: dict[str, Any]) -> dict[str, Tensor]:
    return {k: torch.tensor(x, requires_grad=x.dtype.kind == "f") for k, x in given.items()}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_the_loss_by_hand(name: str) -> None:
    """The value of each row, its gradient by the inputs, and by the weights of the functions."""
    case = CASES[name]
    loss = loss_of(case)
    functions = nets(case, loss)
    weights = [w for f in functions.values() for w in f.parameters()]
    given = tensors(arrays(case, loss))
    fn = loss.compile("torch")
    mine = fn(**given, **functions, reduction="none")
    want = case.hand(*given.values(), *functions.values())
    assert torch.allclose(mine, want, rtol=1e-9, atol=1e-12)
    real = [x for x in given.values() if x.requires_grad]
    pick = torch.linspace(0.5, 2, len(mine), dtype=mine.dtype)
    own, other = (slope((pick * v).sum(), [*real, *weights], allow_unused=True, materialize_grads=True) for v in (mine, want))
    for a, b in zip(own, other, strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-10)
    assert sum(float(w.abs().sum()) for w in own[len(real) :]) > 0, "a gradient that is 0 shows nothing"


@pytest.mark.parametrize("name", CASES)
def test_value_and_grad_differentiates_the_mean(name: str) -> None:
    case = CASES[name]
    loss = loss_of(case)
    functions = nets(case, loss)
    given = arrays(case, loss)
    value, mine = loss.compile("torch").value_and_grad(**given, **functions)
    leaves = tensors(given)
    want = case.hand(*leaves.values(), *functions.values()).mean()
    names = loss.compile("torch").wrt
    wanted = slope(want, [leaves[n] for n in names])
    assert torch.isclose(value, want.detach(), rtol=1e-9, atol=1e-12)
    for a, b in zip(mine if len(names) > 1 else (mine,), wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in CASES if not CASES[n].second])
@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_arrays_and_tensors_agree(name: str, backend: str) -> None:
    """A function on arrays that gives its gradient is as good as a module, up to first derivatives of it."""
    case = CASES[name]
    loss = loss_of(case)
    functions = nets(case, loss)
    given = arrays(case, loss, batch=2)
    fn = loss.compile(backend)
    mine = fn(**given, **{k: f.numpy for k, f in functions.items()}, reduction="none")
    want = loss.compile("torch")(**given, **functions, reduction="none")
    assert np.allclose(mine, want.detach(), rtol=1e-9, atol=1e-12)
    if case.first:
        _, slopes = fn.value_and_grad(**given, **{k: f.numpy for k, f in functions.items()})
        _, wanted = loss.compile("torch").value_and_grad(**given, **functions)
        for a, b in zip(*((s if isinstance(s, tuple) else (s,)) for s in (slopes, wanted)), strict=True):
            assert np.allclose(a, b, rtol=1e-8, atol=1e-11)
    else:
        with pytest.raises(LossError, match="second derivatives of '"):
            fn.value_and_grad(**given, **{k: f.numpy for k, f in functions.items()})


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_reads_back(name: str) -> None:
    (program,) = [loss_of(CASES[name]).program]
    again = load_text(text.program(program))[program.name]
    assert again == program, text.program(program)
    assert "\\" in loss_of(CASES[name]).latex()


@pytest.mark.parametrize("name", ["contractive", "double backpropagation", "WGAN-GP", "an autoencoder", "consistency"])
def test_derivatives_print_and_read_back(name: str) -> None:
    """The gradient of a loss is a loss, given the same functions; read from its text it is the same."""
    gradient = loss_of(CASES[name]).grad()
    for k, output in enumerate(gradient.program.outputs):
        again = load_text(str(gradient))[output.name]
        assert again.outputs[0].expr is gradient.program.outputs[k].expr


def test_a_gradient_that_is_printed_is_the_gradient() -> None:
    loss = parse("a(x: real[d], w: real[d], f: (real[d]) -> real[k]) = logsumexp[k](f(w*x))\n  wrt w")["a"]
    entry = parse(str(loss.grad("w")).replace("da_dw[d](", "da_dw(").replace("=", "= sum[d](", 1).replace("\n    where", ")\n    where"))["da_dw"]
    net = Net(4, (3,))
    given = loss.sample(seed=0, batch=3, sizes={"d": 4, "k": 3})
    given["f"] = net.numpy
    _, slopes = loss.compile("numpy").value_and_grad(**given, reduction="none")
    assert np.allclose(entry.compile("numpy")(**given, reduction="none"), slopes.sum(axis=1))


# -- what is evaluated ------------------------------------------------------------------------------------------------


def test_a_function_is_evaluated_once_for_equal_arguments() -> None:
    """All rows at once: the batch, and every index that the argument depends on."""
    source = "a(x: real[n, d], f: (real[d]) -> real[k]) = sum[i, j in n](dot(f(x[i]), f(x[j]))) + sum[k](norm[d](grad[x](f[d](x[0])[k])[0]))"
    net = Net(3, (2,))
    parse(source)["a"].compile("torch")(torch.randn(5, 4, 3).double(), net)
    assert sorted(net.rows) == [5, 20]


def test_what_a_guard_leaves_out_is_not_evaluated() -> None:
    """The root of a distance of 0 has no slope: it must not reach the weights through rows that do not count."""
    source = "a(x: real[n, d], f: (real[d]) -> real) = sum[i, j in n | i != j](f(x[i] - x[j]))"
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    seen: list[Tensor] = []

    def root(u: Tensor) -> Tensor:
        seen.append(u)
        return scale * (u**2).sum(1).sqrt()

    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    value = parse(source)["a"].compile("torch")(x, root)
    value.backward()
    assert [len(u) for u in seen] == [3 * 12]
    d = torch.cdist(x.detach(), x.detach()).sum((1, 2)).mean()
    assert torch.isfinite(x.grad).all() and math.isclose(float(scale.grad), float(d), rel_tol=1e-12)


def test_what_a_guard_leaves_out_has_no_slope() -> None:
    """The same for a function that gives an array, whose gradient on arrays is a closed form."""
    source = "a(x: real[n, d], f: (real[d]) -> real[d]) = sum[i, j in n | i != j](sum[d](f[d](x[i] - x[j])[d]*x[i]))"
    seen = []

    def root(u: Array) -> Any:
        seen.append(len(u))
        assert (u != 0).all()
        return np.cbrt(u), np.einsum("nd,de->nde", 1 / (3 * np.cbrt(u) ** 2), np.eye(u.shape[1]))

    loss = parse(source)["a"]
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    value, slopes = loss.compile("numpy").value_and_grad(x, root)
    signed = lambda u: torch.sign(u) * torch.abs(u) ** (1 / 3)  # noqa: E731
    want, wanted = loss.compile("torch").value_and_grad(x, signed)
    assert np.isclose(value, want) and np.allclose(slopes, wanted) and set(seen) == {3 * 12}


def test_a_branch_that_is_not_taken_is_not_evaluated() -> None:
    source = "a(x, f: (real) -> real) = piecewise(f(x) if x > 0, x*grad[x](f(-x)) if x < -1, 0 otherwise)"
    seen: list[Array] = []

    def log(u: Array) -> Any:
        seen.append(u)
        assert (u > 0).all()
        return np.log(u), 1 / u

    x = np.array([-3.0, -2.0, -0.5, 0.0, 0.5, 2.0])
    value = parse(source)["a"].compile("numpy")(x, log, reduction="none")
    assert np.allclose(value, [1, 1, 0, 0, np.log(0.5), np.log(2)])
    assert sorted(len(u) for u in seen) == [2, 2]


def test_rows_that_do_not_count_are_not_evaluated() -> None:
    loss = loss_of(CASES["Lipschitz penalty"])
    net = Net(4)
    x = torch.randn(6, 4, dtype=torch.float64)
    keep = torch.tensor([True, False, True, True, False, True])
    broken = torch.where(keep[:, None], x, torch.nan)
    fn = loss.compile("torch")
    want = fn(x[keep], net)
    net.rows.clear()
    assert torch.isclose(fn(broken, net, sample_mask=keep), want) and set(net.rows) == {4}
    none = fn(broken, net, sample_mask=keep, reduction="none")
    assert torch.equal(none != 0, keep) and math.isclose(float(none.detach().sum() / 4), float(want.detach()))
    weight = torch.tensor([1.0, 0, 2, 1, 0, 3], dtype=torch.float64)
    twice = x[[0, 2, 2, 3, 5, 5, 5]]
    assert torch.isclose(fn(broken, net, sample_weight=weight), fn(twice, net))
    for backend in ("numpy", "reference"):
        mine = loss.compile(backend)(broken.numpy(), net.numpy, sample_weight=weight.numpy())
        assert math.isclose(mine, float(fn(twice, net).detach()), rel_tol=1e-12)
    gone = fn(broken, net, sample_mask=torch.zeros(6, dtype=torch.bool), reduction="sum")
    assert float(gone.detach()) == 0


def test_weights_on_a_sample_axis() -> None:
    source = "a(x: real[n, d], f: (real[d]) -> real) = sqrt(mean[n](f(x)^2)) + mean[n](norm(grad[x](f(x))))\n  batch n"
    loss, net = parse(source)["a"], Net(3)
    x = np.random.default_rng(0).normal(size=(5, 3))
    weight = np.array([1.0, 2, 0, 1, 3])
    many = np.repeat(x, weight.astype(int), axis=0)
    for backend in ("numpy", "reference", "torch"):
        f = net if backend == "torch" else net.numpy
        fn = loss.compile(backend)
        assert math.isclose(float(fn(np.where(weight[:, None] > 0, x, np.nan), f, sample_weight=weight)), float(fn(many, f)), rel_tol=1e-9)


def test_where_the_slope_is_zero_the_penalty_has_a_gradient() -> None:
    """The norm of a slope of 0: autograd alone would give NaN."""
    loss = loss_of(CASES["Lipschitz penalty"])
    net = Net(4)
    torch.nn.init.zeros_(net.layers[2].weight)
    value = loss.compile("torch")(torch.randn(3, 4).double(), net)
    value.backward()
    assert float(value.detach()) == 10.0
    assert all(torch.isfinite(w.grad).all() for w in net.parameters() if w.grad is not None)


def test_without_a_batch_a_function_still_sees_rows() -> None:
    loss, net = loss_of(CASES["Lipschitz penalty"]), Net(4)
    x = np.random.default_rng(0).normal(size=4)
    values = [float(loss.compile(b)(x, net if b == "torch" else net.numpy)) for b in ("torch", "numpy", "reference")]
    assert np.allclose(values, float(loss.compile("torch")(x[None], net))) and set(net.rows) == {1}


def test_sizes_that_are_odd() -> None:
    loss = loss_of(CASES["pairs of a set"])
    for shape in ((0, 3, 2), (4, 1, 2), (4, 2, 1), (1, 1, 1)):
        net = Net(shape[2], (2,))
        x = np.random.default_rng(0).normal(size=shape)
        a = loss.compile("torch")(x, net, reduction="none").detach().numpy()
        b = loss.compile("numpy")(x, net.numpy, reduction="none") if shape[0] else a
        assert a.shape == shape[:1] and np.allclose(a, b, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_precisions(dtype: torch.dtype) -> None:
    """A loss is computed in float32 or better; the function has the type that it has."""
    loss = loss_of(CASES["R1"])
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).float()
    x = torch.randn(5, 4).to(dtype).requires_grad_()
    value = loss.compile("torch")(x, net)
    value.backward()
    u = x.detach().float().requires_grad_()
    want = (softplus(-net(u)[:, 0]) + 1.5 * (by(net(u), u) ** 2).sum(1)).mean()
    assert value.dtype == torch.float32 and x.grad is not None and x.grad.dtype == dtype
    assert math.isclose(float(value.detach()), float(want.detach()), rel_tol=1e-5)


def test_modes_of_torch() -> None:
    loss, net = loss_of(CASES["R1"]), Net(4)
    x = torch.randn(5, 4).double()
    fn = loss.compile("torch")
    want = float(fn(x, net).detach())
    with torch.no_grad():
        plain = fn(x, net)
    assert not plain.requires_grad and math.isclose(float(plain), want)
    with torch.inference_mode():
        value, _ = fn.value_and_grad(x.clone(), net)
    assert math.isclose(float(value), want)
    crit = loss.module(gamma=3.0)
    assert math.isclose(float(crit(x, net).detach()), want) and not list(crit.parameters())


def test_second_derivatives_for_each_sample() -> None:
    loss = loss_of(CASES["consistency"])
    net = Net(4, (3,))
    given = arrays(CASES["consistency"], loss, batch=3)
    value, g, h = loss.compile("torch").value_grad_hess(**given, f=net)
    x, e = (torch.tensor(given[k]) for k in "xe")

    def row(x: Tensor, e: Tensor) -> Tensor:
        p = log_softmax(net(x[None]), 1).detach()
        return (p.exp() * (p - log_softmax(net((x + e)[None]), 1))).sum()

    for n in range(3):
        full = torch.autograd.functional.hessian(lambda u, n=n: row_at(net, u, x[n], e[n]), x[n])
        assert torch.allclose(h[n], full.diagonal(), atol=1e-10), "the derivative of what is not stopped"
        assert torch.isclose(value[n], row(x[n], e[n]).detach())
    assert g.shape == h.shape == x.shape


def test_second_derivatives_of_a_penalty() -> None:
    """Third derivatives of the function, which gives a column as linear layers do."""
    loss, net = loss_of(CASES["Lipschitz penalty"]), Net(4)
    fn = loss.compile("torch")
    x = torch.randn(2, 4, dtype=torch.float64)
    _, g, h = fn.value_grad_hess(x, net.layers)
    for n in range(2):
        full = torch.autograd.functional.hessian(lambda u, n=n: 10 * (by(net(v := u[None] * 1), v).norm() - 1) ** 2, x[n])
        assert torch.allclose(h[n], full.diagonal(), atol=1e-9)
    assert torch.allclose(g, fn.value_and_grad(x, net, reduction="none")[1])


def test_transformations_of_torch() -> None:
    """``torch.func`` and ``torch.compile`` go through the loss, into the weights too."""
    loss, net = loss_of(CASES["Lipschitz penalty"]), Net(4).layers
    fn = loss.compile("torch")
    x = torch.randn(3, 4, dtype=torch.float64)
    weights = {k: w.detach() for k, w in net.named_parameters()}
    mine = torch.func.grad(lambda w: fn(x, lambda u: torch.func.functional_call(net, w, (u,))))(weights)
    fn(x, net).backward()
    for k, w in net.named_parameters():
        assert torch.allclose(mine[k], torch.zeros_like(w) if w.grad is None else w.grad)
    rows = torch.func.vmap(lambda r: fn(r, net))(x)
    assert torch.allclose(rows, fn(x, net, reduction="none"))
    compiled = torch.compile(lambda u: fn(u, net), backend="eager")
    assert torch.isclose(compiled(x), fn(x, net))


def row_at(net: Net, u: Tensor, x: Tensor, e: Tensor) -> Tensor:
    """One row of the consistency loss, what is stopped held at x."""
    p = log_softmax(net(x[None]), 1).detach()
    return (p.exp() * (p - log_softmax(net((u + e)[None]), 1))).sum()


# -- how functions are given ------------------------------------------------------------------------------------------

GAP = parse("a(x: real[d], f: (real[d]) -> real; g: (real, real) -> real, m: nonnegative = 0) = g(f(x), m)")["a"]


def test_places_and_names() -> None:
    net, x = Net(4), torch.randn(3, 4).double()
    want = torch.maximum(net(x), torch.zeros(3)).mean()
    for fn, args, named in (
        (GAP.compile("torch"), (x, net), {"g": torch.maximum}),
        (GAP.compile("torch", g=torch.maximum), (x, net), {}),
        (GAP.compile("torch", g="max"), (x,), {"f": net}),
        (GAP.compile("torch", f=net, g="max"), (), {"x": x}),
        (GAP.bind(g="max").compile("torch"), (x, net), {}),
        (GAP.module(g=torch.maximum), (x, net), {}),
    ):
        assert torch.isclose(fn(*args, **named), want)
    assert [i.name for i in GAP.inputs] == ["x", "f"] and [f.name for f in GAP.functions] == ["f", "g"]
    assert [str(i.kind.result.name) for i in GAP.inputs if i.name == "f"] == ["real"]


def test_a_module_is_a_part_of_the_module_that_it_is_given_to() -> None:
    net = Net(4)
    crit = loss_of(CASES["R1"]).module(f=net)
    assert {id(p) for p in crit.parameters()} == {id(p) for p in net.parameters()}
    assert torch.isfinite(crit(torch.randn(3, 4).double()))


def smooth(u: Any, v: Any) -> Any:
    return (u * v, (v, u)) if isinstance(u, np.ndarray) else u * v


def test_compiled_losses_travel() -> None:
    x, net = torch.randn(3, 4).double(), Net(4)
    for backend in ("torch", "numpy", "reference"):
        fn = GAP.compile(backend, g=smooth, m=2.0)
        again = pickle.loads(pickle.dumps(fn))
        given = (x, net) if backend == "torch" else (x.numpy(), net.numpy)
        assert np.isclose(float(again(*given)), float(fn(*given))) and repr(again) == repr(fn)
    assert pickle.loads(pickle.dumps(GAP)) == GAP


@pytest.mark.parametrize("q", ["mse", "hinge", "log_cosh", "max"])
def test_a_function_is_chosen_by_its_name(q: str) -> None:
    """In a call, when it is bound, and when it is compiled: the same loss as with the function written out."""
    source = "m(a, b; q: (real, real) -> real) = q(a, b)^2"
    called = f"{source}\nb(a, b) = m(a, b; q = {q})" if q != "hinge" else f"{source.replace('b; q: (real, real)', 'b: sign; q: (real, sign)')}\nb(a, b: sign) = m(a, b; q = {q})"
    losses = parse(called)
    written = parse(f"b(a, b{': sign' if q == 'hinge' else ''}) = {q}(a, b)^2")["b"]
    assert losses["b"].program.value is written.program.value
    assert losses["m"].bind(q=q).program.value is written.program.value
    given = written.sample(seed=0, batch=4)
    assert np.allclose(losses["m"].compile("numpy", q=q)(**given), written.compile("numpy")(**given))


def test_a_loss_stands_for_a_function() -> None:
    own = parse("_part(u: real) = u^2\nown(u: real[e], v: real[e]; c: positive = 3) = sum[e](_part(u - v))*c")["own"]
    triplet = lossdsl.load("triplet")
    a, p, n = np.random.default_rng(0).normal(size=(3, 5, 4))
    want = np.maximum(1 + 3 * ((a - p) ** 2).sum(1) - 3 * ((a - n) ** 2).sum(1), 0)
    bound = triplet.bind(dist=own)
    assert np.allclose(bound.compile("numpy")(a, p, n, reduction="none"), want)
    assert np.allclose(triplet.compile("numpy", dist=own)(a, p, n, reduction="none"), want)
    assert pickle.loads(pickle.dumps(bound)) == bound


def test_a_default_is_said_and_may_be_another() -> None:
    triplet = lossdsl.load("triplet")
    assert "dist = euclidean" in str(triplet) and "dist[d](a, p)" in str(triplet)
    cosine = triplet.bind(dist="cosine")
    assert "dist = cosine" in str(cosine) and pickle.loads(pickle.dumps(cosine)) == cosine
    assert "dist[d]" not in str(triplet.bind(m=2)), "an equation that has changed is printed as it is"
    again = parse(str(triplet))["triplet"]
    assert again == triplet and again.bind(dist="cosine") == cosine
    a, p, n = np.random.default_rng(0).normal(size=(3, 5, 4))
    by_hand = triplet.compile("numpy", dist=lambda u, v: (((u - v) ** 2).sum(1), (2 * (u - v), 2 * (v - u))))
    value, slopes = by_hand.value_and_grad(a, p, n)
    want, wanted = triplet.bind(dist="sqdist").compile("numpy").value_and_grad(a, p, n)
    assert np.isclose(value, want) and all(np.allclose(s, w) for s, w in zip(slopes, wanted, strict=True))


LOCAL = {
    "a distance": (
        "t(a: real[e], p: real[e]; dist = euclidean) = dist(a, p) + dist(p, 2*a)\n"
        "b(a: real[d], p: real[d]; c: positive) = t(a, p; dist = D) where D(u, v) = sum[d](abs(u - v)^c)",
        "b(a: real[d], p: real[d]; c: positive) = sum[d](abs(a - p)^c) + sum[d](abs(p - 2*a)^c)"),
    "a margin": (
        "m(a, b; q: (real, real) -> real) = q(a, b) + q(b, 1)\nb(a, b, w) = m(a, b; q = D) where D(u, v) = w*relu(u - v)",
        "b(a, b, w) = w*relu(a - b) + w*relu(b - 1)"),
    "an input of it": (
        "p(x: real[e], c: (real[e]) -> real) = c(x)^2 + c(2*x)\nb(y: real[d], w: real[d]) = p(y, C) where C(u) = sum[d](w*u)",
        "b(y: real[d], w: real[d]) = sum[d](w*y)^2 + sum[d](w*(2*y))"),
    "one in another": (
        "p(x: real[e], c: (real[e]) -> real) = c(x)^2\no(x: real[g], k: (real[g]) -> real) = p(x, k) + 1\n"
        "b(y: real[d], w: real[d]) = o(y, C) where C(u) = sum[d](w*u)",
        "b(y: real[d], w: real[d]) = sum[d](w*y)^2 + 1"),
    "under an index": (
        "p(x: real[e], c: (real[e]) -> real) = c(x)^2\nb(y: real[n, d], w: real[n]) = sum[i in n](p(y[i], C)*w[i]) where C(u) = sum[d](u*y[0])",
        "b(y: real[n, d], w: real[n]) = sum[i in n](sum[d](y[i]*y[0])^2*w[i])"),
    "its slope": (
        "p(x: real[e], c: (real[e]) -> real) = norm(grad[x](c(x)))\nb(y: real[d], w: real[d]) = p(y, C) where C(u) = sum[d](w*u^2)",
        "b(y: real[d], w: real[d]) = norm(grad[y](sum[d](w*y^2)))"),
    "of a function that is given": (
        "p(x: real[e], c: (real[e]) -> real) = c(x)^2\nb(y: real[d], f: (real[d]) -> real) = p(y, C) where C(u) = f(2*u) + 1",
        "b(y: real[d], f: (real[d]) -> real) = (f(2*y) + 1)^2"),
    "an array": (
        "p(x: real[e], c: (real[e]) -> real[e]) = norm(c(x))\nb(y: real[d], w: real[d]) = p(y, C) where C(u) = w*u",
        "b(y: real[d], w: real[d]) = norm(w*y)"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
def test_a_local_function_is_passed_on(name: str) -> None:
    passed, written = (list(parse(t).values())[-1] for t in LOCAL[name])
    assert passed.program.value is written.program.value, f"{passed}\n{written}"


# -- checks -----------------------------------------------------------------------------------------------------------

ONE = parse("a(x: real[d], f: (real[d]) -> real) = f(x)^2")["a"]
MANY = parse("a(x: real[d], f: (real[d]) -> prob[k]) = -sum[k](log(f(x)))")["a"]
TWO = parse("a(x, y, f: (real, real) -> real) = grad[x](f(x, y))")["a"]
X = np.ones((3, 4))

WRONG: dict[str, tuple[str, Callable[[], Any]]] = {
    "no function": ("needs the function 'f'", lambda: ONE.compile("numpy")(X)),
    "an array": ("is no function", lambda: ONE.compile("numpy")(X, X)),
    "twice": ("given twice", lambda: ONE.compile("numpy")(X, np.sum, f=np.sum)),
    "too many": ("takes x, f, and 3 were given", lambda: ONE.compile("numpy")(X, np.sum, X)),
    "another name": ("takes no function 'g'", lambda: ONE.compile("numpy")(X, g=np.sum)),
    "no rows": ("gave shape \\(\\), and \\(3,\\) is due", lambda: ONE.compile("numpy")(X, lambda u: u.sum())),
    "too few rows": ("gave shape \\(2,\\), and \\(3,\\) is due", lambda: ONE.compile("numpy")(X, lambda u: u[:2].sum(1))),
    "an array for a number": ("gave shape \\(3, 4\\)", lambda: ONE.compile("numpy")(X, lambda u: u)),
    "a number for an array": ("\\(3, k\\) is due", lambda: MANY.compile("numpy")(X, lambda u: u.sum(1))),
    "an axis of another length": ("gave shape \\(3, 1\\), and \\(3, 2\\) is due", lambda: parse("a(x: real[d], t: real[k], f: (real[d]) -> real[k]) = dot(t, f(x))")["a"].compile("numpy")(X, X[:, :2], lambda u: u[:, :1])),
    "an axis of another length, of tensors": ("\\(3, 2\\) is due", lambda: parse("a(x: real[d], t: real[k], f: (real[d]) -> real[k]) = dot(t, f(x))")["a"].compile("torch")(X, X[:, :2], lambda u: u[:, :1])),
    "an axis of another length, by the reference": ("\\(3, 2\\) is due", lambda: parse("a(x: real[d], t: real[k], f: (real[d]) -> real[k]) = dot(t, f(x))")["a"].compile("reference")(X, X[:, :2], lambda u: u[:, :1])),
    "two functions of different lengths": ("gave shape \\(3, [12]\\), and \\(3, [21]\\) is due", lambda: parse("a(x: real[d], f: (real[d]) -> real[k], g: (real[d]) -> real[k]) = dot(f(x), g(x))")["a"].compile("numpy")(X, lambda u: u[:, :2], lambda u: u[:, :1])),
    "another length than is declared": ("\\(3, 4\\) is due", lambda: parse("a(x: real[d], f: (real[d]) -> real[k = 4]) = mean[k](f(x))")["a"].compile("numpy")(X, lambda u: u[:, :3])),
    "another length than a hyper-parameter says": ("\\(3, 2\\) is due", lambda: parse("a(x: real[d], f: (real[d]) -> real[k = m]; m: integer = 4) = mean[k](f(x))")["a"].compile("torch")(X, lambda u: u[:, :3], m=2)),
    "text": ("no array of numbers: str", lambda: ONE.compile("numpy")(X, lambda u: "no")),
    "tensors on arrays": ("no array of numbers: Tensor", lambda: ONE.compile("numpy")(X, lambda u: torch.tensor(u, requires_grad=True).sum(1))),
    "arrays on tensors": ("gave ndarray where a tensor", lambda: ONE.compile("torch")(X, lambda u: u.numpy().sum(1))),
    "no gradient": ("needs derivatives of 'f'", lambda: ONE.compile("numpy").value_and_grad(X, lambda u: u.sum(1))),
    "one gradient of two": ("without a gradient for each argument", lambda: TWO.compile("numpy")(X[0], X[0], lambda u, v: (u * v, v))),
    "a gradient of another shape": ("gave a gradient of shape \\(3,\\), and \\(3, 4\\) is due", lambda: ONE.compile("numpy").value_and_grad(X, lambda u: (u.sum(1), u.sum(1)))),
    "a second gradient of another shape": ("gradient by argument 2 of shape", lambda: TWO.compile("numpy")(X[0], X[0], lambda u, v: (u * v, (v, X)))),
    "cut off": ("what it gave has none", lambda: TWO.compile("torch")(X[0], X[0], lambda u, v: (u * v).detach())),
    "fewer arguments": ("takes \\(u\\), and is given 2 arguments", lambda: TWO.compile("torch")(X[0], X[0], lambda u: u)),
    "outside its kind": ("gave 2.0 at \\(0, 0\\), and its values are prob", lambda: MANY.compile("numpy")(X, lambda u: np.full((3, 2), 2.0), check=True)),
    "outside its kind, on tensors": ("gave 2.0 at \\(0, 0\\)", lambda: MANY.compile("torch")(X, lambda u: torch.full((3, 2), 2.0), check=True)),
    "by a function": ("by 'f', a function", lambda: ONE.compile("numpy", wrt="f")),
    "bound to a number": ("the function 'f' of a is 3", lambda: ONE.bind(f=3)),
    "bound to nothing known": ("'hing', which is given for 'q', is no function", lambda: parse("a(u; q: (real) -> real) = q(u)")["a"].bind(q="hing")),
    "sympy": ("a function that is given", lambda: ONE.sympy()),
    "an input that is checked": ("input 'x'", lambda: parse("a(x: positive[d], f: (real[d]) -> real) = f(x)")["a"].compile("torch")(-X, lambda u: u.sum(1), check=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named(name: str) -> None:
    message, call = WRONG[name]
    with pytest.raises(LossError, match=message):
        call()


def test_a_last_axis_of_one_is_no_axis() -> None:
    """What a linear layer with one output gives."""
    x = torch.randn(3, 4)
    assert torch.isclose(ONE.compile("torch")(x, lambda u: u.sum(1, keepdim=True)), (x.sum(1) ** 2).mean())
    assert np.isclose(ONE.compile("numpy")(X, lambda u: u.sum(1, keepdims=True)), 16)


@pytest.mark.parametrize("name", CASES)
def test_sampled_functions_fit(name: str) -> None:
    """``sample`` gives functions that work on arrays and on tensors alike, and differentiate themselves rightly."""
    case = CASES[name]
    loss = loss_of(case)
    given = loss.sample(seed=3, batch=2)
    a = loss.compile("torch")(**given, reduction="none", check=True).detach().numpy()
    assert np.isfinite(a).all() and a.shape == (2,)
    if not case.second:
        assert np.allclose(loss.compile("numpy")(**given, reduction="none"), a, rtol=1e-9)


@pytest.mark.parametrize("kind", ["real", "positive", "unit", "logprob", "real[k]", "simplex[k]", "prob[k]", "real in (-1, 3]"])
def test_sampled_functions_stay_in_their_kind(kind: str) -> None:
    loss = parse(f"a(x: real[d], w: real[e], f: (real[d], real[e]) -> {kind}) = {'sum[k](f(x, w)^2)' if '[k]' in kind else 'f(x, w)^2'}\n  wrt x, w")["a"]
    given = loss.sample(seed=0, batch=6)
    value, slopes = loss.compile("numpy").value_and_grad(**given, check=True)
    want, wanted = loss.compile("torch").value_and_grad(**given)
    assert np.isclose(value, float(want)) and all(np.allclose(s, w) for s, w in zip(slopes, wanted, strict=True))


def test_sources_stand_alone() -> None:
    """The module that is printed gives what the compiled loss gives, and imports nothing of this package."""
    loss, net = loss_of(CASES["consistency"]), Net(4, (3,))
    given = arrays(CASES["consistency"], loss)
    x, e = given["x"], given["e"]
    want, wanted = loss.compile("torch").value_and_grad(x, e, net, reduction="none")
    source = loss.source("torch")
    space: dict[str, Any] = {}
    assert "lossdsl" not in source
    exec(source, space)
    u = torch.tensor(x, requires_grad=True)
    rows = space["apply"](u, torch.tensor(e), net)
    assert torch.allclose(rows, want) and torch.allclose(slope(rows.sum(), u)[0], wanted)
    source = loss.source("numpy")
    space = {}
    assert "lossdsl" not in source
    exec(source, space)
    assert np.allclose(space["value"](x, e, net.numpy), want)
    value, g = space["value_and_grad"](x, e, np.ones(len(x)), net.numpy)
    assert np.allclose(value, want) and np.allclose(g, wanted)
