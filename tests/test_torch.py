"""The torch contract: printed losses behave under everything torch does to a function."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import lossdsl

torch = pytest.importorskip("torch")

NAMES = ["huber", "focal", "kl_divergence", "triplet", "dice", "label_smoothing", "log_cosh"]
SIZES = {"n": 4, "k": 3, "d": 3}


def case(name: str, batch: int = 3, seed: int = 1):
    loss = lossdsl.load(name)
    arrays = loss.sample(seed=seed, batch=batch, sizes=SIZES)
    tensors = [torch.as_tensor(arrays[i.name]) for i in loss.inputs]
    at = [i.name for i in loss.inputs].index(loss.compile("torch").wrt[0])
    return loss, tensors, at


def along(fn, tensors, at, **options):
    """The loss as a function of one of its inputs."""
    return lambda x: fn(*(x if k == at else t for k, t in enumerate(tensors)), **options)


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives_pass_gradcheck(name: str) -> None:
    loss, tensors, at = case(name)
    one = along(loss.compile("torch"), tensors, at, reduction="none")
    x = tensors[at].clone().requires_grad_()
    assert torch.autograd.gradcheck(one, (x,))
    assert torch.autograd.gradgradcheck(one, (x,))


@pytest.mark.parametrize("name", NAMES)
def test_functional_transforms_agree_with_autograd(name: str) -> None:
    loss, tensors, at = case(name)
    one = along(loss.compile("torch"), tensors, at)
    x = tensors[at]
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(one(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(one)(x), slope)
    v = torch.randn_like(x)
    torch.testing.assert_close(torch.func.jvp(one, (x,), (v,))[1], (slope * v).sum())
    forward, reverse = torch.func.hessian(one)(x), torch.func.jacrev(torch.func.jacrev(one))(x)
    torch.testing.assert_close(forward, reverse)
    product = torch.func.jvp(torch.func.grad(one), (x,), (v,))[1]
    torch.testing.assert_close(product, torch.tensordot(forward, v, v.ndim))


@pytest.mark.parametrize("name", NAMES)
def test_vmap_over_rows_is_the_batch(name: str) -> None:
    loss, tensors, at = case(name)
    fn = loss.compile("torch")
    rows = fn(*tensors, reduction="none")
    torch.testing.assert_close(torch.func.vmap(lambda *row: fn(*row))(*tensors), rows)
    grads = torch.func.vmap(torch.func.grad(lambda *row: fn(*row), argnums=at))(*tensors)
    leaf = tensors[at].clone().requires_grad_()
    (want,) = torch.autograd.grad(along(fn, tensors, at, reduction="sum")(leaf), leaf)
    torch.testing.assert_close(grads, want)


@pytest.mark.parametrize("name", NAMES)
def test_compiles_as_one_graph(name: str) -> None:
    loss, tensors, at = case(name)
    module = loss.module()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = tensors[at].clone().requires_grad_()
    got = along(compiled, tensors, at)(x)
    torch.testing.assert_close(got, along(module, tensors, at)(tensors[at]))
    (slope,) = torch.autograd.grad(got, x)
    (want,) = torch.autograd.grad(along(module, tensors, at)(x), x)
    torch.testing.assert_close(slope, want)


def test_a_new_batch_size_or_hyper_parameter_does_not_recompile() -> None:
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    module = lossdsl.load("huber").module()
    compiled = torch.compile(module, fullgraph=True, backend=backend, dynamic=True)
    for n, delta in ((5, 1.0), (7, 2.0), (9, 0.5), (12, 3.0)):
        module.param_delta.fill_(delta)
        f, y = torch.randn(n), torch.randn(n)
        torch.testing.assert_close(compiled(f, y), torch.nn.functional.huber_loss(f, y, delta=delta))
    assert len(graphs) == 1


def test_every_input_weight_and_hyper_parameter_gets_a_gradient() -> None:
    fn = lossdsl.load("huber").compile("torch", wrt="f")
    f, y, w = (torch.randn(6, dtype=torch.double).abs().requires_grad_() for _ in range(3))
    delta = torch.tensor(0.7, dtype=torch.double, requires_grad=True)

    def value(f, y, w, delta):
        return fn(f, y, sample_weight=w, delta=delta)

    assert torch.autograd.gradcheck(value, (f, y, w, delta))
    assert torch.autograd.gradgradcheck(value, (f, y, w, delta))


def test_learned_hyper_parameters_train() -> None:
    module = lossdsl.load("huber").module(learn=["delta"])
    assert [n for n, _ in module.named_parameters()] == ["param_delta"]
    module(torch.tensor([5.0, 0.1]), torch.zeros(2)).backward()
    assert module.param_delta.grad is not None and module.param_delta.grad > 0
    with pytest.raises(lossdsl.LossError, match="delt"):
        lossdsl.load("huber").module(learn=["delt"])


def test_masked_rows_never_matter() -> None:
    loss = lossdsl.parse("a(x: real, t: real) = sqrt(x)*log(t)")["a"]
    fn = loss.compile("torch", wrt=["x", "t"])
    x = torch.tensor([4.0, -1.0, 0.0], requires_grad=True)
    t = torch.tensor([2.0, torch.nan, -3.0], requires_grad=True)
    value = fn(x, t, sample_mask=[True, False, False])
    grads = torch.autograd.grad(value, (x, t), create_graph=True)
    for g in (*grads, *torch.autograd.grad(grads[0].sum(), (x, t))):
        assert torch.isfinite(g).all() and (g[1:] == 0).all()


def test_low_precision_is_computed_in_single() -> None:
    fn = lossdsl.load("huber").compile("torch")
    for low in (torch.float16, torch.bfloat16):
        f, y = torch.randn(8).to(low).requires_grad_(), torch.randn(8).to(low)
        value = fn(f, y)
        assert value.dtype == torch.float32
        assert torch.autograd.grad(value, f)[0].dtype == low
        torch.testing.assert_close(value, fn(f.float(), y.float()))


def test_empty_batches() -> None:
    fn = lossdsl.load("huber").compile("torch")
    empty = torch.zeros(0)
    assert torch.isnan(fn(empty, empty)) and fn(empty, empty, reduction="sum") == 0
    assert fn(empty, empty, reduction="none").shape == (0,)


def test_batches_that_do_not_match_are_refused() -> None:
    fn = lossdsl.load("huber").compile("torch")
    with pytest.raises(lossdsl.LossError, match=r"\(4, 1\).*\(4,\)"):
        fn(torch.zeros(4, 1), torch.zeros(4))


def test_pickles_and_copies() -> None:
    loss, tensors, _ = case("focal")
    fn = loss.compile("torch", gamma=1.5)
    for other in (pickle.loads(pickle.dumps(fn)), copy.deepcopy(fn)):
        torch.testing.assert_close(other(*tensors), fn(*tensors))
    module = loss.module(gamma=1.5)
    torch.testing.assert_close(copy.deepcopy(module)(*tensors), fn(*tensors), check_dtype=False)


@pytest.mark.parametrize("name", lossdsl.library())
def test_checked_arguments_change_nothing_and_wrong_ones_are_named(name: str) -> None:
    loss = lossdsl.load(name)
    arrays = loss.sample(seed=1, batch=3, sizes=SIZES)
    fn = loss.compile("torch")
    tensors = [torch.as_tensor(x) for x in arrays.values()]
    torch.testing.assert_close(fn(*tensors, check=True), fn(*tensors))
    first = loss.inputs[0].name
    wrong = [torch.full_like(tensors[0], torch.nan), *tensors[1:]]
    with pytest.raises(lossdsl.LossError, match=f"'{first}'.* nan"):
        fn(*wrong, check=True)


def test_the_source_stands_alone_and_does_not_change() -> None:
    loss, tensors, _ = case("focal")
    source = loss.source("torch")
    assert source == lossdsl.load("focal").source("torch") and "lossdsl" not in source
    namespace: dict = {}
    exec(compile(source, "focal.py", "exec"), namespace)
    rows = namespace["apply"](*tensors, torch.tensor(2.0, dtype=torch.double))
    torch.testing.assert_close(rows, loss.compile("torch")(*tensors, reduction="none"))
    script = f"import sys\n{source}\nassert not [m for m in sys.modules if m.startswith('lossdsl')]\n"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_numpy_and_torch_agree_on_weights_masks_and_reductions() -> None:
    loss, tensors, _ = case("focal", batch=5)
    arrays = [np.asarray(t) for t in tensors]
    weight, mask = np.array([0.5, 0.0, 2.0, 1.0, 3.0]), np.array([True, True, False, True, True])
    a, b = loss.compile("numpy"), loss.compile("torch")
    for reduction in ("mean", "sum", "none"):
        for options in ({}, {"sample_weight": weight}, {"sample_mask": mask}, {"sample_weight": weight, "sample_mask": mask}):
            va, ga = a.value_and_grad(*arrays, reduction=reduction, **options)
            vb, gb = b.value_and_grad(*tensors, reduction=reduction, **options)
            np.testing.assert_allclose(np.asarray(vb), va, rtol=1e-12)
            np.testing.assert_allclose(np.asarray(gb), ga, rtol=1e-12, atol=1e-15)
