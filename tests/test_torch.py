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


def test_calling_does_not_load_torch_compile() -> None:
    """That takes longer than anything else. What marks a function for it is written down here as it does it itself."""
    from lossdsl.runtime.on_torch import Compiled

    assert vars(Compiled._make) == vars(torch.compiler.assume_constant_result(lambda: None))
    script = """
import sys, torch, lossdsl
x = torch.ones(3, requires_grad=True)
lossdsl.parse("a(x) = x^2")["a"].compile("torch").value_and_grad(x)
assert "torch._dynamo" not in sys.modules
"""
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


def samples(name: str):
    """A loss that names its sample axis, its inputs in double precision, and weights of which one is 0."""
    loss = lossdsl.load(name)
    tensors = [torch.as_tensor(x) for x in loss.sample(seed=2, sizes={"n": 5, "d": 3}).values()]
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0], dtype=torch.double)
    return loss.compile("torch"), loss.module(), tensors, weight


@pytest.mark.parametrize("name", ["rmse", "nt_xent", "lasso"])
def test_weights_on_the_sample_axis_are_an_input_like_others(name: str) -> None:
    fn, module, tensors, weight = samples(name)
    leaves = [t.clone().requires_grad_() for t in (*tensors, weight + 0.1)]
    assert torch.autograd.gradcheck(lambda *x: fn(*x[:-1], sample_weight=x[-1]), leaves)
    assert torch.autograd.gradgradcheck(lambda *x: fn(*x[:-1], sample_weight=x[-1]), leaves)
    rows = torch.func.vmap(lambda w: fn(*tensors, sample_weight=w))(torch.stack([weight, weight + 1]))
    torch.testing.assert_close(rows, torch.stack([fn(*tensors, sample_weight=w) for w in (weight, weight + 1)]))
    torch.testing.assert_close(module(*tensors, sample_weight=weight), rows[0])


@pytest.mark.parametrize("name", ["rmse", "nt_xent", "lasso"])
def test_weights_and_masks_on_the_sample_axis_compile_as_one_graph(name: str) -> None:
    fn, _, tensors, weight = samples(name)
    for option, x in (("sample_weight", weight), ("sample_mask", weight > 0)):
        torch._dynamo.reset()
        compiled = torch.compile(lambda *args, option=option: fn(*args[:-1], **{option: args[-1]}), fullgraph=True, backend="aot_eager")
        leaf = tensors[0].clone().requires_grad_()
        (got,) = torch.autograd.grad(compiled(leaf, *tensors[1:], x), leaf)
        (want,) = torch.autograd.grad(fn(leaf, *tensors[1:], **{option: x}), leaf)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["huber", "rmse"])
@pytest.mark.parametrize("options", [{"sample_weight": [1.0, -1.0, 1.0]}, {"sample_weight": [1.0, torch.nan, 1.0]}, {"sample_weight": [1.0, torch.inf, 1.0]},
                                     {"sample_mask": [1, 0, 2]}, {"sample_mask": [0.5, 1.0, 1.0]}])  # fmt: skip
def test_tensors_that_are_no_weights_give_nan_and_are_named_by_a_check(name: str, options: dict) -> None:
    fn, x = lossdsl.load(name).compile("torch"), torch.tensor([1.0, 2.0, 3.0])
    tensors = {k: torch.tensor(v) for k, v in options.items()}
    assert torch.isnan(fn(x, x + 1, **tensors))
    assert torch.isnan(fn.value_and_grad(x, x + 1, **tensors)[1]).any()
    for call in (lambda: fn(x, x + 1, **tensors, check=True), lambda: fn(x, x + 1, **options)):
        with pytest.raises(lossdsl.LossError, match="sample_"):
            call()


def test_nothing_that_counts_has_no_gradient() -> None:
    fn, x = lossdsl.load("huber").compile("torch"), torch.tensor([1.0, torch.nan, 3.0])
    for options in ({"sample_mask": torch.zeros(3, dtype=torch.bool)}, {"sample_weight": torch.zeros(3)}):
        value, slope = fn.value_and_grad(x, torch.zeros(3), **options)
        assert torch.isnan(value) and (slope == 0).all()


@pytest.mark.parametrize("name", ["lasso", "nt_xent"])
def test_autocast_leaves_a_loss_alone(name: str) -> None:
    fn, _, tensors, _ = samples(name)
    tensors = [t.float() for t in tensors]
    tensors[0].requires_grad_()
    want = fn(*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fn(*tensors)
        (slope,) = torch.autograd.grad(got, tensors[0])
    assert torch.equal(got, want)
    assert torch.equal(slope, torch.autograd.grad(want, tensors[0])[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_derivatives_where_autograd_is_off(mode) -> None:
    fn = lossdsl.load("huber").compile("torch")
    x = torch.tensor([1.0, 5.0])
    with mode():
        for f in (x, x + 0):
            torch.testing.assert_close(fn.value_and_grad(f, torch.zeros(2))[1], torch.tensor([0.5, 0.5]))
            torch.testing.assert_close(fn.value_grad_hess(f, torch.zeros(2))[2], torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("message, call", [
    ("holds torch.complex64", lambda fn: fn(torch.zeros(2, dtype=torch.complex64), torch.zeros(2))),
    ("tensor of shape", lambda fn: fn(torch.zeros(2), torch.zeros(2), delta=torch.ones(2))),
    ("did you mean delta", lambda fn: lossdsl.load("huber").compile("torch", detla=torch.tensor(1.0))),
    ("no numbers", lambda fn: fn(None, torch.zeros(2))),
    ("cannot be read", lambda fn: fn([[1.0], [1.0, 2.0]], torch.zeros(2))),
    ("masked array", lambda fn: fn(np.ma.masked_array([1.0, 2.0]), torch.zeros(2))),
    ("takes integers, not torch.float32\n.*y.long", lambda fn: lossdsl.load("focal").compile("torch")(torch.zeros(2, 3), torch.zeros(2))),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_named(message: str, call) -> None:
    with pytest.raises(lossdsl.LossError, match=message):
        call(lossdsl.load("huber").compile("torch"))


def test_arrays_of_any_layout_and_type() -> None:
    fn, y = lossdsl.load("huber").compile("torch"), np.zeros(3)
    x = np.array([1.0, 2.0, 3.0])
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (x[::-1][::-1], x.astype(">f8"), x.astype(np.longdouble), frozen, np.repeat(x, 2)[::2]):
        assert fn(other, y) == fn(x, y) and fn(other, y).dtype == torch.double
    torch.set_default_dtype(torch.double)
    try:
        assert fn(torch.zeros(3, dtype=torch.float32), 1.0).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_module_has_its_own_reduction() -> None:
    f, y = torch.tensor([1.0, 5.0]), torch.zeros(2)
    module = lossdsl.load("huber").module(reduction="sum", learn="delta")
    assert module(f, y) == 5 and module(f, y, reduction="mean") == 2.5
    with pytest.raises(lossdsl.LossError, match="reduction"):
        lossdsl.load("huber").module(reduction="total")
