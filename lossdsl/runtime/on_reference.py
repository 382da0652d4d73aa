"""The oracle as a callable: slow, simple, right to the last digit, with the same calling convention as the fast backends."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossdsl.errors import LossError
from lossdsl.ir.program import Program
from lossdsl.passes.batch import batched as over_rows
from lossdsl.passes.gradient import gradient, jacobian
from lossdsl.passes.measure import WEIGHT, weighted
from lossdsl.passes.staged import Points, Pull, staged
from lossdsl.runtime import on_numpy, reference
from lossdsl.runtime.arrays import as_array, as_mask, as_weights, check_condition, check_dtype, measure, outside, present
from lossdsl.runtime.compiled import CompiledLoss, Recipe
from lossdsl.runtime.convention import Convention
from lossdsl.runtime.given import Functions, OnArrays
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
        return type(self)(weighted(self.program), self.wrt, *self._settings)

    def evaluate(self, program: Program, arrays: Mapping[str, Array], batched: Sequence[str], params: Mapping[str, Any],
                 sizes: Mapping[str, int]) -> Array:  # fmt: skip
        """The one output of a program for each row; the inputs in ``batched`` have one, the others are shared."""
        n = len(arrays[batched[0]]) if batched else 1
        rows = ({name: x[k] if name in batched else x for name, x in arrays.items()} for k in range(n))
        return np.array([np.asarray(next(iter(reference.evaluate(program, row, params).values()))) for row in rows])

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
            diagonal = full.reshape(len(slope), size, size)[:, np.arange(size), np.arange(size)].reshape(slope.shape)
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
            return _Call(self.measured(), (*given, measure(weight, mask, np.dtype(float))), changed, reduction, None, None)
        return _Call(self, given, changed, reduction, weight, mask)


    def measured(self) -> Compiled:
        return self._measured


class WithFunctions(Compiled):
    """A loss that is given functions, which compute in float64; between their applications all is evaluated by the reference."""

    functions: Functions = MappingProxyType({})
    check = False

    def applying(self, functions: Functions, check: bool) -> WithFunctions:
        """The loss with the functions of a call."""
        out = object.__new__(type(self))
        out.__dict__ |= self.__dict__
        out.functions, out.check = functions, check
        return out

    def measured(self) -> Compiled:
        inner: Any = self._measured
        return inner.applying(self.functions, self.check)  # type: ignore[no-any-return]

    @functools.cached_property
    def _checking(self) -> Any:
        return on_numpy.WithFunctions(self.program, self.wrt, *self._settings).applying(self.functions, True)

    def evaluate(self, program: Program, arrays: Mapping[str, Array], batched: Sequence[str], params: Mapping[str, Any],
                 sizes: Mapping[str, int]) -> Array:  # fmt: skip
        p = over_rows(program, set(batched))
        plan = staged(p)
        known = dict(arrays)
        lengths, slopes = dict(sizes), plan.slopes
        given = {f.name: OnArrays(self.name, f, self.functions[f.name], lengths, f.name in slopes, self.check) for f in program.functions}
        tapes: dict[str, list[Array]] = {}
        lead: dict[str, int] = {}
        for step in plan.steps:
            if isinstance(step, Pull):
                weight = None if step.cotangent is None else _value(step.cotangent, known, params)
                known[step.value.name] = _pulled(tapes[step.evaluation][step.argument], weight, lead[step.evaluation], step.more)
                continue
            if isinstance(step, Points):
                known[step.value.name] = _value(step.part, known, params)
                continue
            if step.by:
                raise LossError(f"{self.name} needs second derivatives of {step.function!r}, which gives its value and its gradient",
                                hint='the torch backend differentiates through it: compile("torch")')  # fmt: skip
            where = None if step.needed is None else _value(step.needed, known, params) != 0
            rows = [_value(part, known, params) for part in step.arguments]
            lead[step.value.name] = step.rows
            known[step.value.name], *tapes[step.value.name] = _called(given[step.function], rows, step.rows, where)
        out = _value(plan.last, known, params)
        return out if batched else out[None]


def _value(program: Program, arrays: Mapping[str, Array], params: Mapping[str, Any]) -> Array:
    """The one output of a part."""
    given = {i.name: arrays[i.name] for i in program.inputs}
    (out,) = reference.evaluate(program, given, {p.name: params[p.name] for p in program.params}).values()
    return np.asarray(out)


def _called(f: OnArrays, args: Sequence[Array], rows: int, where: Array | None) -> list[Array]:
    """What a function gives at rows, and its derivatives, if it has them; 0 at rows that nothing asks for."""
    shape = args[0].shape[:rows]
    points = [p for p in np.ndindex(*shape) if where is None or where[p]]
    flat = [np.array([x[p] for p in points]).reshape(len(points), *x.shape[rows:]) for x in args]
    found = []
    for part in f(*flat):
        whole = np.zeros((*shape, *part.shape[1:]))
        for k, p in enumerate(points):
            whole[p] = part[k]
        found.append(whole)
    return found


def _pulled(slope: Array, weight: Array | None, rows: int, more: int) -> Array:
    """``sum(weight*slope)`` over what the function gives; the weight is over the rows, more axes and these."""
    if weight is None:
        return slope
    result = weight.ndim - rows - more
    letters = iter(range(52))
    at, further, given, own = ([next(letters) for _ in range(n)] for n in (rows, more, result, slope.ndim - rows - result))
    return np.asarray(np.einsum(weight, [*at, *further, *given], slope, [*at, *given, *own], [*at, *further, *own]))


class _Call:
    """One call: the rows that count and their weights."""

    def __init__(self, compiled: Compiled, given: Sequence[Any], changed: Mapping[str, Any], reduction: str, weight: Any,
                 mask: Any) -> None:
        self.compiled = compiled
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
        batched = [name for name, b in zip(names, self.batched, strict=True) if b]
        kept = np.flatnonzero(self.weights)
        if len(kept) == 0:
            return out
        arrays = {name: x[kept] if name in batched else x for name, x in zip(names, self.arrays, strict=True)}
        out[kept] = self.compiled.evaluate(program, arrays, batched, self.params, self.layout.sizes)
        for k, n in enumerate(kept):
            if self._outside({name: x[k] if name in batched else x for name, x in arrays.items()}):
                out[n] = np.nan
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
