"""The oracle as a callable: slow, simple, right to the last digit, with the same calling convention as the fast backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossdsl.ir.program import Program
from lossdsl.passes.gradient import gradient, jacobian
from lossdsl.runtime import reference
from lossdsl.runtime.convention import Convention, Layout

Array = NDArray[Any]


class Compiled:
    """A loss evaluated by the reference, each row for itself; results are rounded to float64."""

    def __init__(self, program: Program, wrt: Sequence[str] = (), axes: Mapping[str, int] | None = None,
                 params: Mapping[str, Any] | None = None, recipe: tuple[Any, ...] | None = None) -> None:
        self.program, self.wrt, self._recipe = program, tuple(wrt), recipe
        self.convention = Convention(program, axes, params)

    def __reduce__(self) -> Any:
        if self._recipe is None:
            raise TypeError(f"{self.program.name} was compiled from a bare program, which does not pickle; compile it from a loss")
        return self._recipe

    def __call__(self, /, *inputs: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                 **named: Any) -> Any:
        """The value: a number, or with ``reduction="none"`` one for each sample."""
        call = _Call(self, inputs, named, reduction, sample_weight, sample_mask)
        return call.reduced(call.rows(self.program))

    def value_and_grad(self, /, *inputs: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None,
                       check: bool = False, **named: Any) -> tuple[Any, Any]:
        """The value and its gradient: one array for one name in ``wrt``, else a tuple; of the sum for ``reduction="none"``."""
        call = _Call(self, inputs, named, reduction, sample_weight, sample_mask)
        gradients = [call.gathered(name, call.rows(gradient(self.program, [name]))) for name in self.wrt]
        return call.reduced(call.rows(self.program)), gradients[0] if len(gradients) == 1 else tuple(gradients)

    def value_grad_hess(self, /, *inputs: Any, sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                        **named: Any) -> tuple[Any, Any, Any]:
        """For each sample the value, the gradient and the diagonal of the Hessian, by the first name of ``wrt``."""
        call = _Call(self, inputs, named, "none", sample_weight, sample_mask)
        name = self.wrt[0]
        first = gradient(self.program, [name])
        slope, full = call.rows(first), call.rows(jacobian(first, name))
        size = int(np.prod(slope.shape[1:], dtype=int))
        diagonal = full.reshape(-1, size, size)[:, np.arange(size), np.arange(size)].reshape(slope.shape)
        batch = call.layout.batch
        weighted = [call.weighted(x).reshape(batch + x.shape[1:]) for x in (slope, diagonal)]
        return call.reduced(call.rows(self.program)), weighted[0], weighted[1]


class _Call:
    """One call: the rows that count and their weights."""

    def __init__(self, compiled: Compiled, inputs: Sequence[Any], named: Mapping[str, Any], reduction: str, weight: Any, mask: Any) -> None:
        convention, self.program = compiled.convention, compiled.program
        given, changed = convention.bind(inputs, named)
        self.reduction = convention.reduction(reduction)
        self.params = convention.parameters(changed)
        arrays = [np.asarray(x) for x in given]
        self.layout: Layout = convention.layout([x.shape for x in arrays])
        self.batched = self.layout.batched
        self.count = int(np.prod(self.layout.batch, dtype=int))
        self.arrays = [self._flat(x, k) for k, x in enumerate(arrays)]
        self.weights = self._weights(convention, weight, mask)

    def _flat(self, x: Array, k: int) -> Array:
        place = self.layout.places[k]
        x = x if place.order is None else x.transpose(place.order)
        return np.broadcast_to(x, self.layout.batch + place.event).reshape(self.count, *place.event) if place.lead else x

    def _weights(self, convention: Convention, weight: Any, mask: Any) -> Array:
        batch = self.layout.batch
        out = np.ones(batch)
        for name, what in (("sample_weight", weight), ("sample_mask", mask)):
            if what is not None:
                w = np.asarray(what, float)
                convention.sample(name, w.shape, batch)
                out = out * w
        out = out.reshape(-1)
        for i, x in zip(self.program.inputs, self.arrays, strict=True):
            if i.kind.ignore is not None and not i.axes:
                out = np.where(x == i.kind.ignore, 0.0, out)
        return out

    def rows(self, program: Program) -> Array:
        """The one output for every row; 0 where the row does not count."""
        out: list[Any] = [None] * self.count
        names = [i.name for i in self.program.inputs]
        for n in range(self.count):
            if self.weights[n] != 0:
                arrays = {name: x[n] if b else x for name, x, b in zip(names, self.arrays, self.batched, strict=True)}
                (result,) = reference.evaluate(program, arrays, self.params).values()
                out[n] = np.asarray(result)
        shape = next((x.shape for x in out if x is not None), ())
        return np.array([np.zeros(shape) if x is None else x for x in out]).reshape(self.count, *shape)

    def weighted(self, rows: Array) -> Array:
        w = self.weights.reshape(-1, *[1] * (rows.ndim - 1))
        return np.where(w != 0, rows * w, 0.0)

    def reduced(self, rows: Array) -> Any:
        values = self.weighted(rows)
        if self.reduction == "none":
            return values.reshape(self.layout.batch)
        with np.errstate(all="ignore"):
            return values.sum() / self.weights.sum() if self.reduction == "mean" else values.sum()

    def gathered(self, name: str, rows: Array) -> Array:
        """A gradient in the shape of its input: summed over the rows where all share it."""
        values = self.weighted(rows)
        if self.reduction == "mean":
            with np.errstate(all="ignore"):
                values = values / self.weights.sum()
        names = [i.name for i in self.program.inputs]
        if name not in names:
            return np.asarray(values.sum(axis=0))
        place = self.layout.places[names.index(name)]
        if not place.lead:
            out = values.sum(axis=0)
        else:
            out = values.reshape(self.layout.batch + place.event)
            shared = tuple(k for k, n in enumerate(place.lead) if n != self.layout.batch[k])
            out = out.sum(axis=shared, keepdims=True) if shared else out
        return np.asarray(out if place.order is None else out.transpose(np.argsort(place.order)))


