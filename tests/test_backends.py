"""Every library loss on every backend agrees with the reference, in value, gradient, Hessian and Hessian-vector product."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl.ir.program import Program
from lossdsl.kinds import Kind
from lossdsl.passes.gradient import gradient, tangent
from lossdsl.runtime import reference
from lossdsl.runtime.sample import axis_sizes

NAMES = lossdsl.library()
BATCH = 4
ULPS = 8
SIZES = {"n": 4, "k": 3, "d": 3, "h": 3, "w": 4, "m": 3}

# Numbers on which floating point and kinks are hard, by kind; clipped to the domain where one is written.
HARD = {
    "real": [0.0, 1.0, -1.0, 1e-30, -1e-8, 2.0, 1e4, -1e4, 0.5],
    "logit": [0.0, 1e4, -1e4, 30.0, -30.0, 1.0, 88.0, -104.0],
    "positive": [1.0, 1e-6, 2.0, 1e4, 0.5],
    "nonnegative": [0.0, 1.0, 1e-6, 2.0, 1e4],
    "unit": [0.0, 1.0, 0.5, 1e-6, 1 - 2.0**-20],
    "prob": [0.5, 1e-6, 1 - 2.0**-20, 0.25],
    "logprob": [0.0, -1.0, -1e4, -1e-6],
}  # fmt: skip


def hard(rng: np.random.Generator, kind: Kind, lengths: dict[str, int]) -> Any:
    shape = (BATCH, *(lengths[a] for a, _ in kind.axes))
    if kind.name == "simplex":
        axis = 1 + [a for a, _ in kind.axes].index(str(kind.of))
        weights = rng.integers(0, 3, shape) * 1.0
        first = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))]) == 0
        weights = np.where(weights.sum(axis, keepdims=True) == 0, first, weights)
        return weights / weights.sum(axis, keepdims=True)
    pool = [x for x in HARD[kind.name] if x in kind.domain]
    return rng.choice(pool, shape)


def kinky(rng: np.random.Generator, kind: Kind, lengths: dict[str, int]) -> Any:
    """Small whole numbers and halves: residuals at 0 and at thresholds, margins at 1, ties."""
    shape = (BATCH, *(lengths[a] for a, _ in kind.axes))
    if kind.name == "simplex":
        return hard(rng, kind, lengths)
    return rng.choice([x for x in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 0.25) if x in kind.domain], shape)


def cases(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    loss = lossdsl.load(name)
    lengths = axis_sizes(loss.program, SIZES)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    yield "random", loss.sample(seed=1, batch=BATCH, sizes=SIZES)
    for label, make in (("hard", hard), ("kinks", kinky)):
        arrays = loss.sample(seed=2, batch=BATCH, sizes=SIZES)
        for i in loss.inputs:
            if i.kind.role == "number" and not i.kind.integer:
                arrays[i.name] = make(rng, i.kind, lengths)
        yield label, arrays


def typed(arrays: dict[str, Any], dtype: Any) -> dict[str, Any]:
    return {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in arrays.items()}


def params(program: Program) -> dict[str, float]:
    return {p.name: float(p.default) if p.default is not None else 1.0 for p in program.params}


def agree(got: Any, want: reference.Result, dtype: Any, what: str) -> None:
    """Compares the rows in which rounding cannot turn a condition: within it of a jump or a kink either side is right."""
    sure = want.margin > 4 * ULPS * np.finfo(dtype).eps
    kept = reference.Result(want.value[sure], want.scale[sure], want.noise[sure])
    worst = reference.ulps(np.asarray(got)[sure], kept, dtype)
    assert worst <= ULPS, f"{what}: {worst} ulp\n{np.asarray(got)}\n{np.asarray(want)}"


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_value_and_gradient_agree_with_the_reference(backend: str, name: str, dtype: Any) -> None:
    if backend == "torch":
        torch = pytest.importorskip("torch")
    loss = lossdsl.load(name)
    settings = params(loss.program)
    fn = loss.compile(backend, **{k: v for k, v in settings.items() if next(p for p in loss.params if p.name == k).default is None})
    for label, arrays in cases(name):
        arrays = typed(arrays, dtype)
        given = {k: torch.from_numpy(v) for k, v in arrays.items()} if backend == "torch" else arrays
        rows = fn(**given, reduction="none")
        agree(np.asarray(rows), reference.evaluate_rows(loss.program, arrays, settings, dtype=dtype)[name], dtype, f"{name} value, {label}")
        _, grads = fn.value_and_grad(**given, reduction="sum")
        for wrt, g in zip(fn.wrt, grads if isinstance(grads, tuple) else (grads,), strict=True):
            slopes = gradient(loss.program, [wrt])
            want = reference.evaluate_rows(slopes, arrays, settings, dtype=dtype)[slopes.name]
            agree(np.asarray(g), want, dtype, f"{name} gradient by {wrt}, {label}")


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_limit_of_differences(name: str) -> None:
    loss = lossdsl.load(name)
    settings = params(loss.program)
    arrays = loss.sample(seed=5, sizes=SIZES)
    for wrt in loss.compile(**settings).wrt:
        closed = loss.grad(wrt)
        got = np.asarray(reference.evaluate(closed.program, arrays, settings)[closed.name])
        want = np.asarray(reference.differences(loss.program, arrays, settings, wrt), float)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_are_the_limit_of_differences(name: str) -> None:
    loss = lossdsl.load(name)
    settings = params(loss.program)
    arrays = loss.sample(seed=5, sizes=SIZES)
    wrt = loss.compile(**settings).wrt[0]
    v = np.random.default_rng(3).normal(size=np.shape(arrays[wrt]))
    slopes = gradient(loss.program, [wrt])
    want = np.asarray(reference.directional(slopes, arrays, settings, {wrt: v})[slopes.name], float)
    product = loss.hvp(wrt)
    got = np.asarray(reference.evaluate(product.program, {**arrays, f"v_{wrt}": v}, settings)[product.program.outputs[0].name])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    forward = tangent(slopes, {wrt: "v_"})
    got = np.asarray(reference.evaluate(forward, {**arrays, "v_": v}, settings)[slopes.name])
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    full = loss.hess(wrt)
    matrix = np.asarray(reference.evaluate(full.program, arrays, settings)[full.program.outputs[0].name])
    got = np.tensordot(matrix, v, axes=v.ndim)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_diagonal_hessian_agrees_between_backends(name: str) -> None:
    loss = lossdsl.load(name)
    settings = params(loss.program)
    arrays = loss.sample(seed=6, batch=3, sizes=SIZES)
    wrt = loss.compile(**settings).wrt[0]
    value, g, h = loss.compile("numpy", wrt=wrt, **settings).value_grad_hess(**arrays)
    want = loss.compile("reference", wrt=wrt, **settings).value_grad_hess(**arrays)
    for got, expected in zip((value, g, h), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_torch_gradient_is_autograd_of_the_printed_value(name: str) -> None:
    """The closed form against torch's own differentiation of the printed value, at points where both are smooth."""
    torch = pytest.importorskip("torch")
    from lossdsl.runtime import on_torch

    loss = lossdsl.load(name)
    settings = params(loss.program)
    arrays = loss.sample(seed=7, batch=3, sizes=SIZES)
    fn = loss.compile("torch", **settings)
    printed = on_torch.load(fn.source, name)
    inputs = [torch.as_tensor(arrays[i.name], dtype=torch.float64 if i.kind.role == "number" else None) for i in loss.inputs]
    numbers = [torch.tensor(settings[p.name], dtype=torch.float64) for p in loss.params]
    at = [k for k, i in enumerate(loss.inputs) if i.name in fn.wrt]
    for k in at:
        inputs[k] = inputs[k].clone().requires_grad_()
    leaves = [inputs[k] for k in at]
    value = printed["value"](*inputs, *numbers).sum()
    if not value.requires_grad:  # steps alone: torch sees nothing to differentiate
        value = value + 0 * sum(x.sum() for x in leaves)
    plain = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    closed = torch.autograd.grad(printed["apply"](*inputs, *numbers).sum(), leaves, allow_unused=True, materialize_grads=True)
    for a, b in zip(plain, closed, strict=True):
        assert torch.isfinite(b).all()
        seen = torch.isfinite(a)  # torch turns what a guard leaves out into NaN
        torch.testing.assert_close(a[seen], b[seen], rtol=1e-9, atol=1e-9)
