"""Laws of samples, for every backend: splitting, permuting, padding under a mask, weights as counts, and agreement on every call.

A sample lies on the batch, or on the axis that ``batch`` names.
"""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import LossError

BACKENDS = ("reference", "numpy", "torch")
FAST = ("numpy", "torch")  # what holds for these holds for the reference, which gives the same
SLOW = ("supervised_contrastive",)  # its second derivative takes seconds to derive
APART = ("supervised_contrastive",)  # an equation that tells samples apart (k != i) knows no copy of one
OWN = lossdsl.parse("""
ignoring(s: logit[k], y: class(k, ignore = -100)) = logsumexp[k](s) - s[y]

rows(s: logit[n, k], y: class(k)[n]) = mean[n](logsumexp[k](s) - s[n, y])
  wrt   s
  batch n

spread(x: real[n, d]; eps: positive = 0.1) = log(eps + mean[n](sum[d]((x - mean[n](x))^2)))
  wrt   x
  batch n

constant(f: real) = 3 + 0*f

itself(f: real) = f
""")
NAMES = ("huber", "focal", "label_smoothing", "kl_divergence", "dice", "triplet", "total_variation", "binary_cross_entropy_with_logits",
         "zero_one", "rmse", "nt_xent", "supervised_contrastive", "lasso", *OWN)  # fmt: skip
SIZES = {"k": 3, "d": 2, "h": 3, "w": 2, "n": 3}
COUNT = 5


@dataclass(frozen=True)
class Case:
    """A loss with samples; inputs without a sample axis are the same for all samples."""

    loss: lossdsl.Loss
    arrays: dict[str, Any]

    @property
    def axis(self) -> str | None:
        return self.loss.program.batch

    def at(self, name: str) -> int | None:
        """The position of the samples in an input, None if it has none."""
        axes = self.loss.program.input(name).axes
        return 0 if self.axis is None else axes.index(self.axis) if self.axis in axes else None

    def take(self, index: Any, arrays: dict[str, Any] | None = None) -> dict[str, Any]:
        """Samples by their indices, with repetition."""
        return {k: x if self.at(k) is None else np.take(x, index, axis=self.at(k)) for k, x in (arrays or self.arrays).items()}

    def spoil(self, samples: Any) -> dict[str, Any]:
        """The arrays with nonsense in some samples."""
        out = {k: x.copy() for k, x in self.arrays.items()}
        for name, x in out.items():
            if self.at(name) is not None:
                np.moveaxis(x, self.at(name), 0)[samples] = np.nan if x.dtype.kind == "f" else 77
        return out


@cache
def case(name: str) -> Case:
    loss = OWN[name] if name in OWN else lossdsl.load(name)
    axis = loss.program.batch
    arrays = loss.sample(seed=3, batch=() if axis else COUNT, sizes=SIZES | ({axis: COUNT} if axis else {}))
    if name == "ignoring":
        arrays["y"][2] = -100
    if name == "supervised_contrastive":
        arrays["c"] = np.array([0, 1, 0, 1, 0])
    return Case(loss, arrays)


@cache
def compiled(name: str, backend: str) -> Any:
    if backend == "torch":
        pytest.importorskip("torch")
    return case(name).loss.compile(backend)


def call(name: str, backend: str, method: str, arrays: dict[str, Any], **options: Any) -> list[Any]:
    """What a call gives, as a flat list of arrays: the value, then the derivatives."""
    if backend == "torch":
        import torch

        arrays = {k: torch.as_tensor(np.array(x)) for k, x in arrays.items()}
    fn = compiled(name, backend)
    out = fn(**arrays, **options) if method == "value" else getattr(fn, method)(**arrays, **options)
    parts = [out] if method == "value" else [x for p in out for x in (p if isinstance(p, tuple) else (p,))]
    return [np.asarray(x) for x in parts]


def gradients(name: str, parts: list[Any]) -> dict[str, Any]:
    return dict(zip(compiled(name, "numpy").wrt, parts[1:], strict=True))


def same(got: list[Any], want: list[Any]) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def folded(c: Case, name: str, g: Any, index: Any, count: int) -> Any:
    """The gradient by samples that were repeated, added up at the samples they came from."""
    if c.at(name) is None:
        return g
    g = np.moveaxis(g, c.at(name), 0)
    out = np.zeros((count, *g.shape[1:]))
    np.add.at(out, index, g)
    return np.moveaxis(out, 0, c.at(name))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", FAST)
def test_a_weight_counts_its_sample_and_none_removes_it(backend: str, name: str, reduction: str) -> None:
    c, w = case(name), np.array([1.0, 1.0, 1.0, 0.0, 1.0] if name in APART else [2.0, 1.0, 1.0, 0.0, 3.0])
    index = np.repeat(np.arange(COUNT), w.astype(int))
    want = call(name, backend, "value_and_grad", c.take(index), reduction=reduction)
    got = call(name, backend, "value_and_grad", c.spoil(w == 0), reduction=reduction, sample_weight=w)
    same(got[:1], want[:1])
    for key, g in gradients(name, got).items():
        same([g], [folded(c, key, gradients(name, want)[key], index, COUNT)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", FAST)
def test_padding_under_a_mask_changes_nothing(backend: str, name: str) -> None:
    c, kept = case(name), np.array([0, 2, 4])
    mask = np.isin(np.arange(COUNT), kept)
    want = call(name, backend, "value_and_grad", c.take(kept))
    for options in ({"sample_mask": mask}, {"sample_mask": mask.astype(int)}, {"sample_mask": mask, "sample_weight": np.ones(COUNT)}):
        got = call(name, backend, "value_and_grad", c.spoil(~mask), **options)
        same(got[:1], want[:1])
        for key, g in gradients(name, got).items():
            same([g], [folded(c, key, gradients(name, want)[key], kept, COUNT)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", FAST)
def test_the_order_of_samples_is_free(backend: str, name: str) -> None:
    c, order = case(name), np.array([3, 0, 4, 1, 2])
    w = np.array([1.0, 2.0, 0.5, 1.5, 3.0])
    want = call(name, backend, "value_and_grad", c.arrays, sample_weight=w)
    got = call(name, backend, "value_and_grad", c.take(order), sample_weight=w[order])
    same(got[:1], want[:1])
    for key, g in gradients(name, got).items():
        same([folded(c, key, g, order, COUNT)], [gradients(name, want)[key]])


@pytest.mark.parametrize("name", [n for n in NAMES if case(n).axis is None])
@pytest.mark.parametrize("backend", FAST)
def test_parts_of_a_batch_add_up(backend: str, name: str) -> None:
    c, w = case(name), np.array([1.0, 2.0, 0.5, 0.0, 3.0])
    parts = (np.array([0, 1]), np.array([2]), np.array([], int), np.array([3, 4]))
    for method, options in (("value", {"reduction": "none"}), ("value_and_grad", {"reduction": "none"}), ("value_grad_hess", {})):
        whole = call(name, backend, method, c.arrays, sample_weight=w, **options)
        split = [call(name, backend, method, c.take(p), sample_weight=w[p], **options) for p in parts]
        same([np.concatenate(x) for x in zip(*split, strict=True)], whole)
    whole = call(name, backend, "value", c.arrays, sample_weight=w, reduction="sum")
    same([sum(call(name, backend, "value", c.take(p), sample_weight=w[p], reduction="sum")[0] for p in parts)], whole)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"sample_weight": np.array([1.0, 0.0, 0.5, 2.0, 1.0])},
    {"sample_mask": np.array([True, True, False, True, False])},
    {"sample_weight": np.array([1, 0, 5, 2, 1]), "sample_mask": np.array([1, 1, 0, 1, 0])},
    {"sample_weight": np.zeros(COUNT)},
    {"sample_mask": np.zeros(COUNT, bool)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_all_backends_give_the_same(backend: str, name: str, options: dict[str, Any]) -> None:
    arrays = case(name).arrays
    calls = [("value_and_grad", {"reduction": r}) for r in ("mean", "sum", "none")] + [("value_grad_hess", {})] * (name not in SLOW)
    for method, more in calls:
        same(call(name, backend, method, arrays, **options, **more), call(name, "numpy", method, arrays, **options, **more))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SLOW])
@pytest.mark.parametrize("backend", FAST)
def test_a_batch_of_several_dimensions_and_shared_inputs(backend: str, name: str) -> None:
    """The last input the same for a whole dimension, or for all."""
    loss = case(name).loss
    arrays = loss.sample(seed=4, batch=(2, 3), sizes=SIZES)
    last = loss.inputs[-1].name
    if len(arrays) > 1:
        arrays[last] = arrays[last][:, :1]
    every = {k: np.broadcast_to(x, (2, 3, *x.shape[2:])) for k, x in arrays.items()}
    flat = {k: x.reshape(6, *x.shape[2:]) for k, x in every.items()}
    value, *rest = call(name, backend, "value_grad_hess", flat)
    same(call(name, backend, "value_grad_hess", arrays), [value.reshape(2, 3), *(x.reshape(2, 3, *x.shape[1:]) for x in rest)])
    total, *slopes = call(name, backend, "value_and_grad", arrays)
    same([total], [value.mean()])
    for key, g in gradients(name, [total, *slopes]).items():
        want = gradients(name, [value, *rest[: len(slopes)]])[key].reshape(2, 3, *g.shape[2:]) / 6
        same([g], [want.sum(1, keepdims=True) if key == last and len(arrays) > 1 else want])
    if len(arrays) > 1:
        shared = {**flat, last: flat[last][0]}
        expected = call(name, backend, "value_grad_hess", {**flat, last: np.broadcast_to(flat[last][0], flat[last].shape)})
        same(call(name, backend, "value_grad_hess", shared), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name, axis, at", [("focal", "k", 0), ("focal", "k", -2), ("triplet", "d", 0), ("rmse", "n", 0), ("dice", "n", 0)])
def test_an_axis_lies_where_axes_says(backend: str, name: str, axis: str, at: int) -> None:
    loss = case(name).loss
    arrays = loss.sample(seed=5, batch=(4, 2), sizes=SIZES)
    moved = {}
    for i in loss.inputs:
        x = arrays[i.name]
        moved[i.name] = np.moveaxis(x, 2 + i.axes.index(axis), at) if axis in i.axes else x
    fn, plain = loss.compile(backend, axes={axis: at}), loss.compile(backend)
    if backend == "torch":
        import torch

        arrays, moved = ({k: torch.as_tensor(x) for k, x in a.items()} for a in (arrays, moved))
    for method in ("value_and_grad", "value_grad_hess"):
        value, *slopes = getattr(fn, method)(**moved)
        want, *expected = getattr(plain, method)(**arrays)
        np.testing.assert_allclose(np.asarray(value), np.asarray(want))
        wrt = [loss.program.input(n) for n in fn.wrt]
        for parts, others in zip(slopes, expected, strict=True):
            many = isinstance(parts, tuple)
            for i, g, h in zip(wrt, parts if many else [parts], others if many else [others], strict=True):
                assert tuple(g.shape) == tuple(moved[i.name].shape)
                np.testing.assert_allclose(np.moveaxis(np.asarray(g), at, 2 + i.axes.index(axis)), np.asarray(h))


@pytest.mark.parametrize("name", [n for n in NAMES if any(i.kind.role == "class" for i in case(n).loss.inputs)])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [-1, 3, -100, 2**40])
def test_a_class_outside_its_axis_makes_its_row_nan(backend: str, name: str, wrong: int) -> None:
    c = case(name)
    if wrong == -100 and name == "ignoring":
        return
    arrays = {k: x.copy() for k, x in c.arrays.items()}
    (label,) = (i.name for i in c.loss.inputs if i.kind.role == "class")
    arrays[label][1] = wrong
    for method in ("value_and_grad", "value_grad_hess"):
        value, *slopes = call(name, backend, method, arrays, **({"reduction": "none"} if method == "value_and_grad" else {}))
        if c.axis is None:
            assert (np.isnan(value) == (np.arange(COUNT) == 1)).all()
            for g in slopes:
                assert np.isnan(g[1]).all() and np.isfinite(np.delete(g, 1, 0)).all()
        else:
            assert np.isnan(value) and all(np.isnan(g).any() for g in slopes[:1])
    with pytest.raises(LossError, match=f"'{label}' of {name} is {wrong}"):
        call(name, backend, "value", arrays, check=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weight, mask", [((5,), (5, 1)), ((5, 1), (5,)), ((4,), (4,)), ((2, 5), (3, 5)), ((5,), ())])
def test_weights_and_masks_never_stretch_each_other(backend: str, weight: Any, mask: Any) -> None:
    for name in ("huber", "rmse"):
        with pytest.raises(LossError, match=r"shape|length"):
            call(name, backend, "value", case(name).arrays, sample_weight=np.ones(weight), sample_mask=np.ones(mask, bool))


ODD = lossdsl.parse("""
plain(; a: real = 2) = a^2 + pi

number = pi

classes_first(y: class(k), s: logit[k]) = logsumexp[k](s) - s[y]

labels(c: label[n]) = mean[i, j in n](c[i] == c[j])

where(f: real, m: bool) = piecewise(f^2 if m, 0 otherwise)
""")


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_without_numbers_to_differentiate_by(backend: str) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    arrays: dict[str, Any] = {"plain": (), "number": (), "classes_first": ([0], np.zeros((1, 2))), "labels": ([0, 0, 1],)}
    want = {"plain": 4 + np.pi, "number": np.pi, "classes_first": np.log(2), "labels": 5 / 9}
    for name, given in arrays.items():
        np.testing.assert_allclose(np.asarray(ODD[name].compile(backend)(*given)), want[name], rtol=1e-6)
        with pytest.raises(LossError, match="no input to differentiate by"):
            ODD[name].compile(backend).value_and_grad(*given)
        if backend != "reference":
            assert ODD[name].source(backend)
    assert ODD["plain"].compile(backend, wrt="a").value_and_grad(a=3.0)[1] == 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_conditions(backend: str) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    fn = ODD["where"].compile(backend)
    for mask in ([True, False], [1, 0], np.array([1, 0], np.uint8)):
        value, slope = fn.value_and_grad([2.0, np.nan], mask, reduction="none")
        assert list(np.asarray(value)) == [4, 0] and list(np.asarray(slope)) == [4, 0]
    for mask, message in (([1, 2], "other than 0 and 1"), ([1.0, 0.0], "takes booleans")):
        with pytest.raises(LossError, match=message):
            fn([2.0, 3.0], mask)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_the_callers_own(backend: str) -> None:
    x = np.ones(3)
    out = compiled("itself", backend)(x, reduction="none")
    out += 1
    assert (x == 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_frames(backend: str, library: str) -> None:
    module = pytest.importorskip(library)
    columns = {"f": [1.0, 2.0, -3.0], "y": [1.5, 2.0, 3.0], "k": [0, 2, 1], "w": [1, 0, 2], "m": [True, False, True], "gap": [1.0, None, 2.0]}
    frame = module.DataFrame(columns)
    fn = compiled("huber", backend)
    plain = {k: frame[k].to_numpy() for k in "fywm"}
    assert fn(frame["f"], frame["y"]) == fn(plain["f"], plain["y"])
    got = fn(frame["f"], frame["y"], sample_weight=frame["w"], sample_mask=frame["m"])
    assert got == fn(plain["f"], plain["y"], sample_weight=plain["w"], sample_mask=plain["m"])
    assert np.isfinite(np.asarray(compiled("focal", backend)(np.eye(3), frame["k"])))
    assert list(np.isnan(np.asarray(fn(frame["gap"], frame["y"], reduction="none")))) == [False, True, False]
    with pytest.raises(LossError, match="'f' of huber is nan"):
        fn(frame["gap"], frame["y"], check=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["huber", "rmse", "focal"])
def test_copies_and_threads_compute_the_same(backend: str, name: str) -> None:
    """Eight threads meet the first call of a fresh object, and of one that came out of a pickle."""
    if backend == "torch":
        pytest.importorskip("torch")
    c, w = case(name), np.arange(1.0, COUNT + 1)
    want = np.asarray(compiled(name, backend)(**c.arrays, sample_weight=w))
    fresh = c.loss.compile(backend)
    for fn in (fresh, copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))):
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _, fn=fn: fn.value_and_grad(**c.arrays, sample_weight=w)[0], range(16)))
        assert all(np.asarray(x) == want for x in results)
