"""The oracle as a callable: slow, simple, right to the last digit, with the same calling convention as the fast backends."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossdsl.ir.program import Program
from lossdsl.passes.gradient import gradient, jacobian
from lossdsl.passes.measure import WEIGHT, weighted
from lossdsl.runtime import on_numpy, reference
from lossdsl.runtime.arrays import as_array, as_mask, as_weights, check_condition, check_dtype, measure, outside, present
from lossdsl.runtime.compiled import CompiledLoss, Recipe
from lossdsl.runtime.convention import Convention
from lossdsl.runtime.shapes import Layout

Array = NDArray[Any]


class Compiled(CompiledLoss):
    """A loss evaluated by the reference, each row for itself; results are rounded to float64."""

    backend = "reference"

    def __init__(self, program: Program, wrt: Sequence[str] = (), axes: Mapping[str, int] | None = None,
                 params: Mapping[str, Any] | None = None, recipe: Recipe | None = None) -> None:
        super().__init__(program, wrt, recipe)
        self.convention = Convention(program, axes, params)
        self._settings = axes, params

    @functools.cached_property
    def _checking(self) -> on_numpy.Compiled:
        return on_numpy.Compiled(self.program, self.wrt, *self._settings)

    @functools.cached_property
    def _measured(self) -> Compiled:
        """The same loss with weights on its sample axis as a further input."""
        return Compiled(weighted(self.program), self.wrt, *self._settings)

    def __call__(self, /, *inputs: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                 **named: Any) -> Any:
        """The value: a number, or with ``reduction="none"`` one for each sample."""
        call = self._prepare(inputs, named, reduction, sample_weight, sample_mask, check)
        return call.reduced(call.rows(call.program))

    def value_and_grad(self, /, *inputs: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None,
                       check: bool = False, **named: Any) -> tuple[Any, Any]:
        """The value and its gradient: one array for one name in ``wrt``, else a tuple; of the sum for ``reduction="none"``."""
        self.differentiable()
        call = self._prepare(inputs, named, reduction, sample_weight, sample_mask, check)
        gradients = [call.gathered(name, call.rows(gradient(call.program, [name]))) for name in self.wrt]
        return call.reduced(call.rows(call.program)), _one(gradients)

    def value_grad_hess(self, /, *inputs: Any, sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                        **named: Any) -> tuple[Any, Any, Any]:
        """For each sample the value, the gradient and the diagonal of the Hessian."""
        self.differentiable()
        call = self._prepare(inputs, named, "none", sample_weight, sample_mask, check)
        slopes, diagonals = [], []
        for name in self.wrt:
            first = gradient(call.program, [name])
            slope, full = call.rows(first), call.rows(jacobian(first, name))
            size = int(np.prod(slope.shape[1:], dtype=int))
            diagonal = full.reshape(-1, size, size)[:, np.arange(size), np.arange(size)].reshape(slope.shape)
            slopes.append(call.each(name, slope))
            diagonals.append(call.each(name, diagonal))
        return call.reduced(call.rows(call.program)), _one(slopes), _one(diagonals)

    def _prepare(self, inputs: Sequence[Any], named: Mapping[str, Any], reduction: str, weight: Any, mask: Any, check: bool) -> _Call:
        if check:
            self._checking(*inputs, reduction=reduction, sample_weight=weight, sample_mask=mask, check=True, **named)
        given, changed = self.convention.bind(inputs, named)
        if self.program.batch is not None and (weight is not None or mask is not None):
            if weight is not None and mask is not None:
                self.convention.together(np.shape(weight), np.shape(mask))
            return _Call(self._measured, (*given, measure(weight, mask, np.dtype(float))), changed, reduction, None, None)
        return _Call(self, given, changed, reduction, weight, mask)


class _Call:
    """One call: the rows that count and their weights."""

    def __init__(self, compiled: Compiled, given: Sequence[Any], changed: Mapping[str, Any], reduction: str, weight: Any,
                 mask: Any) -> None:
        convention, self.program = compiled.convention, compiled.program
        self.reduction = convention.reduction(reduction)
        self.params = convention.parameters(changed)
        arrays = [as_array(i, x) for i, x in zip(self.program.inputs, given, strict=True)]
        for i, x in zip(self.program.inputs, arrays, strict=True):
            check_dtype(i, x.dtype, x.dtype.kind)
            check_condition(i, x)
        self.layout: Layout = convention.layout([x.shape for x in arrays], changed)
        self.batched = self.layout.batched
        self.count = int(np.prod(self.layout.batch, dtype=int))
        self.arrays = [self._flat(x, k) for k, x in enumerate(arrays)]
        self.weights = self._weights(convention, weight, mask)

    def _flat(self, x: Array, k: int) -> Array:
        place = self.layout.places[k]
        x = x if place.order is None else x.transpose(place.order)
        if place.lead:
            return np.broadcast_to(x, self.layout.batch + place.dims).reshape(self.count, *place.event)
        return x.reshape(place.event)

    def _weights(self, convention: Convention, weight: Any, mask: Any) -> Array:
        batch = self.layout.batch
        out = np.ones(batch)
        given = {"sample_weight": None if weight is None else as_weights(weight, np.dtype(float)),
                 "sample_mask": None if mask is None else as_mask(mask)}  # fmt: skip
        for name, w in given.items():
            if w is not None:
                convention.sample(name, w.shape, batch)
                out = out * w
        out = out.reshape(-1)
        for i, x in zip(self.program.inputs, self.arrays, strict=True):
            if i.kind.ignore is not None and not i.axes:
                out = np.where(x == i.kind.ignore, 0.0, out)
        return out

    def rows(self, program: Program) -> Array:
        """The one output for every row; 0 where the row does not count."""
        (output,) = program.outputs
        out = np.zeros((self.count, *(self.layout.sizes[str(i.axis)] for i in output.indices)))
        names = [i.name for i in program.inputs]
        for n in range(self.count):
            if self.weights[n] != 0:
                arrays = {name: x[n] if b else x for name, x, b in zip(names, self.arrays, self.batched, strict=True)}
                (result,) = reference.evaluate(program, arrays, self.params).values()
                out[n] = np.nan if self._outside(arrays) else np.asarray(result)
        return out

    def _outside(self, arrays: Mapping[str, Array]) -> bool:
        """Whether a row has a class outside its axis."""
        classes = [i for i in self.program.inputs if i.kind.role == "class"]
        bad = {i.name: outside(i, arrays[i.name], self.layout.sizes) for i in classes}
        if WEIGHT in arrays:
            bad = {i.name: bad[i.name] & present(i, self.program.batch, arrays[WEIGHT] > 0) for i in classes}
        return any(x.any() for x in bad.values())

    def weighted(self, rows: Array) -> Array:
        w = self.weights.reshape(-1, *[1] * (rows.ndim - 1))
        if self.reduction == "mean":
            w = w / (self.weights.sum() or 1)
        with np.errstate(invalid="ignore"):
            return np.where(w != 0, rows * w, 0.0)

    def reduced(self, rows: Array) -> Any:
        values = self.weighted(rows)
        if self.reduction == "none":
            return values.reshape(self.layout.batch)
        return values.sum() if self.reduction == "sum" or self.weights.sum() else np.float64(np.nan)

    def gathered(self, name: str, rows: Array) -> Array:
        """A gradient in the shape of its input: summed over the rows where all share it."""
        values = self.weighted(rows)
        names = [i.name for i in self.program.inputs]
        if name not in names:
            return np.asarray(values.sum(axis=0))
        place = self.layout.places[names.index(name)]
        if not place.lead:
            out = values.sum(axis=0).reshape(place.dims)
        else:
            out = values.reshape(self.layout.batch + place.dims)
            shared = tuple(k for k, n in enumerate(place.lead) if n != self.layout.batch[k])
            out = out.sum(axis=shared, keepdims=True) if shared else out
        return self._as_given(name, out)

    def each(self, name: str, rows: Array) -> Array:
        """A derivative for each sample, in the shape of the batch and the input's axes as they were given."""
        names = [i.name for i in self.program.inputs]
        dims = self.layout.places[names.index(name)].dims if name in names else rows.shape[1:]
        return self._as_given(name, self.weighted(rows).reshape(self.layout.batch + dims))

    def _as_given(self, name: str, x: Array) -> Array:
        names = [i.name for i in self.program.inputs]
        back = self.layout.places[names.index(name)].back(x.ndim) if name in names else None
        return np.asarray(x if back is None else x.transpose(back))


def _one(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)
