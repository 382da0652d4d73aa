"""Losses on NumPy arrays: calls are prepared by the convention, evaluated by printed kernels, and put back into the caller's shapes."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossdsl.errors import LossError
from lossdsl.ir.expr import assign
from lossdsl.ir.program import Input, Param, Program
from lossdsl.passes.measure import WEIGHT, weighted
from lossdsl.runtime.arrays import (
    as_array,
    as_mask,
    as_weights,
    check_condition,
    check_dtype,
    computing_dtype,
    domain_text,
    measure,
    outside,
    present,
    ready,
    wanted_dtype,
)  # fmt: skip
from lossdsl.runtime.compiled import CompiledLoss, Recipe
from lossdsl.runtime.convention import Convention, Number, number
from lossdsl.runtime.given import Functions, OnArrays
from lossdsl.runtime.kernels import Kernel, block_rows, load, run_in_blocks
from lossdsl.runtime.printed import Printed
from lossdsl.runtime.shapes import Layout, Place

Array = NDArray[Any]

_PLANS = 256  # remembered shapes of calls


@dataclass(frozen=True)
class Plan:
    """What the shapes and dtypes of a call decide: everything but the values."""

    layout: Layout
    dtype: Any
    rows: int  # of the flattened batch
    direct: bool  # the arrays are what the kernels take
    classes: tuple[tuple[int, int], ...]  # positions of class inputs, with the number of classes
    ignored: tuple[tuple[int, int], ...]  # positions of class inputs, with the class that is left out


@dataclass
class Call:
    """One call: prepared arrays with one batch axis, the rows that count, and their weights."""

    plan: Plan
    arrays: list[Array]
    given: list[Array]
    params: dict[str, Number]
    changed: bool  # the call sets hyper-parameters
    reduction: str
    weight: Array | None = None
    keep: Array | None = None  # rows that are evaluated, None for all
    outside: Array | None = None  # rows with a class outside its axis, None for none
    check: bool = False

    @property
    def rows(self) -> int:
        return self.plan.rows if self.keep is None else int(np.count_nonzero(self.keep))


Quick = Callable[[list[Array]], Sequence[Any] | None]


class Compiled(CompiledLoss):
    """A loss on NumPy arrays: call it for the value; ``value_and_grad`` and ``value_grad_hess`` give derivatives too.

    ``wrt`` names what is differentiated, ``axes`` positions of named axes, ``params`` hyper-parameters that are fixed unless a
    call says otherwise.
    """

    backend = "numpy"

    def __init__(self, program: Program, wrt: Sequence[str] = (), axes: Mapping[str, int] | None = None,
                 params: Mapping[str, Any] | None = None, recipe: Recipe | None = None) -> None:
        super().__init__(program, wrt, recipe)
        self.convention = Convention(program, axes, params)
        self._settings = (tuple(wrt), dict(axes or {}), dict(params or {}))
        self._kernels: dict[tuple[str, frozenset[str], bool], Kernel] = {}
        self._plans: dict[Any, Plan] = {}
        self._quicks: dict[Any, Quick | None] = {}
        self._lock = threading.RLock()
        self._weighted: Compiled | None = None
        self._positions = {i.name: k for k, i in enumerate(program.inputs)}
        self._bound = Bound(program, self.convention.defaults, self.wrt)
        self._printed = Printed(program, "numpy", np.__version__, json.dumps(self.wrt))

    @property
    def source(self) -> str:
        """A module that computes the value and the gradient, and imports nothing of lossdsl."""
        return source(self.program, self.wrt)

    # -- what a user calls ----------------------------------------------------------------------------------------------

    def __call__(self, /, *inputs: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None,
                 check: bool = False, **named: Any) -> Any:
        """The value: a number, or with ``reduction="none"`` one for each sample."""
        if sample_weight is None and sample_mask is None and not check and not named:
            quick, arrays = self._quick(inputs, "value", reduction)
            if quick is not None and (result := quick(arrays)) is not None:
                return result[0]
        if self._over_samples(sample_weight, sample_mask):
            inputs = self._with_weight(inputs, named, sample_weight, sample_mask)
            return self._measured()(*inputs, reduction=reduction, check=check, **named)
        call = self._prepare(inputs, named, reduction, sample_weight, sample_mask, check)
        (value,) = self._evaluate(call, "value")
        return value

    def value_and_grad(self, /, *inputs: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None,
                       check: bool = False, **named: Any) -> tuple[Any, Any]:
        """The value and its gradient: one array for one name in ``wrt``, else a tuple; of the sum for ``reduction="none"``."""
        if sample_weight is None and sample_mask is None and not check and not named:
            quick, arrays = self._quick(inputs, "gradient", reduction)
            if quick is not None and (result := quick(arrays)) is not None:
                return result[0], _one(result[1:])
        if self._over_samples(sample_weight, sample_mask):
            inputs = self._with_weight(inputs, named, sample_weight, sample_mask)
            return self._measured().value_and_grad(*inputs, reduction=reduction, check=check, **named)
        call = self._prepare(inputs, named, reduction, sample_weight, sample_mask, check)
        value, *grads = self._evaluate(call, "gradient")
        return value, _one(grads)

    def value_grad_hess(self, /, *inputs: Any, sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                        **named: Any) -> tuple[Any, Any, Any]:
        """For each sample the value, the gradient and the diagonal of the Hessian."""
        if self._over_samples(sample_weight, sample_mask):
            inputs = self._with_weight(inputs, named, sample_weight, sample_mask)
            return self._measured().value_grad_hess(*inputs, check=check, **named)
        call = self._prepare(inputs, named, "none", sample_weight, sample_mask, check)
        value, *rest = self._evaluate(call, "hessian")
        return value, _one(rest[: len(self.wrt)]), _one(rest[len(self.wrt) :])

    # -- weights on a declared sample axis ----------------------------------------------------------------------------------

    def _over_samples(self, weight: Any, mask: Any) -> bool:
        return self.program.batch is not None and (weight is not None or mask is not None)

    def _measured(self) -> Compiled:
        """The same loss with the weights as a further input."""
        if self._weighted is None:
            wrt, axes, params = self._settings
            self._weighted = type(self)(weighted(self.program), wrt, axes, params)
        return self._weighted

    def _with_weight(self, inputs: Sequence[Any], named: dict[str, Any], weight: Any, mask: Any) -> tuple[Any, ...]:
        """The inputs, the hyper-parameters taken out of ``named``, and the weights with the mask in them."""
        given, changed = self.convention.bind(inputs, named)
        named.clear()
        named.update(changed)
        arrays = [as_array(i, x) for i, x in zip(self.program.inputs, given, strict=True)]
        dtype = computing_dtype([x for i, x in zip(self.program.inputs, arrays, strict=True) if i.kind.role == "number"])
        if weight is not None and mask is not None:
            self.convention.together(np.shape(weight), np.shape(mask))
        return (*given, measure(weight, mask, dtype))

    # -- the short way of small plain calls -------------------------------------------------------------------------------

    def _quick(self, inputs: Sequence[Any], what: str, reduction: str) -> tuple[Quick | None, list[Array]]:
        """For a call of arrays as kernels take them, without options, whose shapes were seen before: what runs it at once."""
        if len(inputs) != len(self._positions):
            return None, []
        arrays = [x if ready(x) else as_array(i, x) for i, x in zip(self.program.inputs, inputs, strict=True)]
        key = what, reduction, *[(x.shape, x.dtype, type(y) in (int, float)) for x, y in zip(arrays, inputs, strict=True)]
        try:
            return self._quicks[key], arrays
        except KeyError:
            pass
        call = self._prepare(inputs, {}, reduction, None, None, False)
        if len(self._quicks) >= _PLANS:
            self._quicks.clear()
        self._quicks[key] = quick = self._shortcut(call, what)
        return quick, arrays

    def _shortcut(self, call: Call, what: str) -> Quick | None:
        plan, layout = call.plan, call.plan.layout
        places = self._wrt_places(call)
        plain = plan.direct and not plan.ignored and plan.rows and all(p and p.lead == layout.batch for p in places)
        if not plain or (what == "gradient" and not self.wrt):
            return None
        names = frozenset(i.name for i, b in zip(self.program.inputs, layout.batched, strict=True) if b)
        kernel = self._kernel(what, names, False)
        if names and plan.rows > 2 * block_rows(kernel, layout.sizes, plan.dtype.itemsize):
            return None
        extra = [plan.dtype.type(call.params[p.name]) for p in self._bound.params]
        if what == "gradient":
            extra.insert(0, self._seed(call, plan.rows, None, float(plan.rows), bool(names)))
        run, real, classes, mean = kernel.run, plan.dtype.type, plan.classes, float(plan.rows) if call.reduction == "mean" else 1.0
        summed = bool(names) and call.reduction != "none"
        scalar = not names

        def quick(arrays: list[Array]) -> Sequence[Any] | None:
            for k, n in classes:
                y = arrays[k]
                if y.size and (y.min() < 0 or y.max() >= n):
                    return None
            with np.errstate(all="ignore"):
                out = run(*arrays, *extra)
                outputs = list(out) if isinstance(out, tuple) else [out]
                if summed:
                    outputs[0] = real(np.add.reduce(outputs[0]) / mean)
            first = int(summed)
            for j in range(first, len(outputs)):
                x = outputs[j]
                if scalar and not x.ndim:
                    outputs[j] = real(x)
                elif x.base is not None or any(x is y for y in (*arrays, *extra)):
                    outputs[j] = x.copy()
            return outputs

        return quick

    # -- preparing a call -----------------------------------------------------------------------------------------------

    def _prepare(self, inputs: Sequence[Any], named: Mapping[str, Any], reduction: str, weight: Any, mask: Any, check: bool) -> Call:
        if reduction not in ("mean", "sum", "none"):
            self.convention.reduction(reduction)
        changed: dict[str, Any] = {}
        if named or len(inputs) != len(self._positions):
            inputs, changed = self.convention.bind(inputs, named)
        params = self.convention.parameters(changed) if changed or not self._bound.complete else self.convention.defaults
        given = [x if ready(x) else as_array(i, x) for i, x in zip(self.program.inputs, inputs, strict=True)]
        weak = tuple(type(x) in (int, float) for x in inputs)
        key = (weak, *[(x.shape, x.dtype) for x in given], *[params[name] for name in self.convention.measures])
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(given, weak, changed)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[key] = plan
        arrays = given if plan.direct else self._arranged(plan, given)
        call = Call(plan, arrays, given, params, bool(changed), reduction, check=check)
        if weight is not None or mask is not None or plan.ignored:
            self._weigh(call, weight, mask)
        if check:
            self._check(call)
        if plan.classes:
            self._classes(call)
        return call

    def _plan(self, given: Sequence[Array], weak: Sequence[bool], changed: Mapping[str, Any]) -> Plan:
        for i, x in zip(self.program.inputs, given, strict=True):
            check_dtype(i, x.dtype, x.dtype.kind)
        layout = self.convention.layout([x.shape for x in given], changed)
        dtype = computing_dtype([x for i, x, w in zip(self.program.inputs, given, weak, strict=True) if i.kind.role == "number" and not w])
        direct = all(
            x.dtype == wanted_dtype(i, dtype) and p.order is None and p.dims == p.event and len(p.lead) < 2 and p.lead in ((), layout.batch)
            for i, x, p in zip(self.program.inputs, given, layout.places, strict=True)
        )
        classes, ignored = [], []
        for k, i in enumerate(self.program.inputs):
            if i.kind.role == "class":
                if i.kind.of is not None and i.kind.of in layout.sizes:
                    classes.append((k, layout.sizes[i.kind.of]))
                if i.kind.ignore is not None and not i.axes:
                    ignored.append((k, i.kind.ignore))
        return Plan(layout, dtype, math.prod(layout.batch), direct, tuple(classes), tuple(ignored))

    def _arranged(self, plan: Plan, given: Sequence[Array]) -> list[Array]:
        """The arrays as kernels take them: one batch axis, then the declared axes, in the dtype of the computation."""
        out = []
        for i, x, p in zip(self.program.inputs, given, plan.layout.places, strict=True):
            if p.order is not None:
                x = x.transpose(p.order)
            if p.lead and p.lead != plan.layout.batch:
                x = np.broadcast_to(x, plan.layout.batch + p.dims)
            if p.lead or p.dims != p.event:
                x = x.reshape((plan.rows, *p.event) if p.lead else p.event)
            check_condition(i, x)
            out.append(x.astype(wanted_dtype(i, plan.dtype), copy=False))
        return out

    def _weigh(self, call: Call, weight: Any, mask: Any) -> None:
        """Flatten the weight and the mask; rows of weight 0, masked and ignored rows are not evaluated."""
        plan = call.plan
        keep: Array = np.ones(plan.layout.batch, bool)
        if mask is not None:
            m = as_mask(mask)
            self.convention.sample("sample_mask", m.shape, plan.layout.batch)
            keep = keep & m
        if weight is not None:
            w = as_weights(weight, plan.dtype)
            self.convention.sample("sample_weight", w.shape, plan.layout.batch)
            call.weight = np.broadcast_to(w, plan.layout.batch).reshape(-1)
            keep = keep & (w != 0)
        for k, label in plan.ignored:
            keep = keep & (call.arrays[k].reshape(keep.shape if plan.layout.places[k].lead else ()) != label)
        if not keep.all():
            call.keep = keep.reshape(-1)

    def _classes(self, call: Call) -> None:
        """Find rows with a class outside its axis: their values are NaN."""
        for k, n in call.plan.classes:
            y = call.arrays[k]
            if y.size == 0 or (y.min() >= 0 and y.max() < n):
                continue
            bad: Any = (y < 0) | (y >= n)
            i, place = self.program.inputs[k], call.plan.layout.places[k]
            if i.kind.ignore is not None:
                bad &= y != i.kind.ignore
            if WEIGHT in self._positions:
                bad = bad & self._present(call, i, place)
            lead = int(bool(place.lead) or bad.ndim > y.ndim)
            bad = bad.any(axis=tuple(range(lead, bad.ndim)))
            bad = np.broadcast_to(bad, (call.plan.rows,))
            call.outside = bad if call.outside is None else call.outside | bad

    # -- evaluating -----------------------------------------------------------------------------------------------------

    def _kernel(self, what: str, batched: frozenset[str], changed: bool) -> Kernel:
        key = what, batched, changed
        kernel = self._kernels.get(key)
        if kernel is None:
            with self._lock:
                numbers = [] if changed else self._bound.numbers
                printed = self._printed.get(lambda: self._print(*key), what, json.dumps(sorted(batched)), json.dumps(numbers))
                kernel = self._kernels[key] = load(printed, self.name)
        return kernel

    def _print(self, what: str, batched: frozenset[str], changed: bool) -> dict[str, Any]:
        from lossdsl.runtime import numpy_source

        return numpy_source.kernel(self.program if changed else self._bound.program, what, self.wrt, batched)

    def _evaluate(self, call: Call, what: str) -> list[Any]:
        """The value, reduced, and the derivatives, in the shapes and dtypes of their inputs."""
        plan, layout = call.plan, call.plan.layout
        if what != "value":
            self.differentiable()
        flags = layout.batched
        if what == "hessian" and any(flags):  # a derivative for each sample, also by what all samples share
            flags = tuple(True if i.name in self.wrt else b for i, b in zip(self.program.inputs, flags, strict=True))
            call.arrays = [np.broadcast_to(x, (plan.rows, *x.shape)) if f and not p.lead else x
                           for x, f, p in zip(call.arrays, flags, layout.places, strict=True)]  # fmt: skip
        kernel = self._kernel(what, frozenset(i.name for i, b in zip(self.program.inputs, flags, strict=True) if b), call.changed)
        arrays, n = call.arrays, call.rows
        if call.keep is not None and not any(flags):
            return self._finish(call, what, self._nothing(call, what))
        if call.keep is not None:
            arrays = [x[call.keep] if b else x for x, b in zip(arrays, flags, strict=True)]
        weight = call.weight if call.weight is None or call.keep is None else call.weight[call.keep]
        total = n if weight is None else float(weight.sum(dtype=np.float64))
        seed = None
        if what == "gradient":
            seed = self._seed(call, n, weight, total, bool(any(flags)))
            arrays, flags = [*arrays, seed], (*flags, seed.ndim > 0)
        params = [plan.dtype.type(call.params[p.name]) for p in (self.program.params if call.changed else self._bound.params)]
        summed = call.reduction != "none" and any(flags) and not (call.keep is not None and what == "hessian")
        with np.errstate(all="ignore"):
            outputs = run_in_blocks(kernel, arrays, flags, params, n, layout.sizes, weight, summed)
            if summed and call.reduction == "mean":
                outputs[0] = outputs[0] / total if total else math.nan
        return self._finish(call, what, outputs)

    def _seed(self, call: Call, n: int, weight: Array | None, total: float, batched: bool) -> Array:
        """What each row's value contributes to the result."""
        dtype = call.plan.dtype
        with np.errstate(all="ignore"):
            scale = 1.0 / np.float64(total) if call.reduction == "mean" and batched else 1.0
            if not batched:
                return np.asarray(scale, dtype) if weight is None else np.asarray(weight, dtype).reshape(())
            return np.full(n, scale, dtype) if weight is None else (weight * scale).astype(dtype)

    def _nothing(self, call: Call, what: str) -> list[Any]:
        """The outputs of a loss without a batch whose one sample is left out."""
        zeros = [np.zeros(p.event if p else (), call.plan.dtype) for p in self._wrt_places(call)]
        value = np.asarray(np.nan if call.reduction == "mean" else 0, call.plan.dtype)
        return [value, *(zeros * (1 if what == "gradient" else 2) if what != "value" else [])]

    def _wrt_places(self, call: Call) -> list[Place | None]:
        return [call.plan.layout.places[self._positions[n]] if n in self._positions else None for n in self.wrt]

    def _finish(self, call: Call, what: str, outputs: list[Any]) -> list[Any]:
        plan = call.plan
        value = outputs[0]
        rowwise = call.reduction == "none" and bool(plan.layout.batch)
        if rowwise:
            value = self._scatter(call, value)
            if call.weight is not None:
                value = np.where(call.weight != 0, value * call.weight, 0).astype(plan.dtype)
        if call.outside is not None:
            kept = call.outside if call.keep is None else call.outside & call.keep
            if rowwise:
                value[kept] = np.nan
            elif kept.any():
                value = math.nan
        if call.check:
            self._check_value(call, value)
        done = [value.reshape(plan.layout.batch) if rowwise else plan.dtype.type(value)]
        places = self._wrt_places(call) * (2 if what == "hessian" else 1)
        for name, p, g in zip(self.wrt * 2, places, outputs[1:], strict=False):
            done.append(self._gradient(call, name, p, g, what == "hessian"))
        return done

    def _scatter(self, call: Call, rows: Array) -> Array:
        """Rows at their places in the whole batch; 0 where nothing was evaluated."""
        if call.keep is None:
            return rows
        out = np.zeros((len(call.keep), *rows.shape[1:]), rows.dtype)
        out[call.keep] = rows
        return out

    def _gradient(self, call: Call, name: str, place: Place | None, g: Any, per_row: bool) -> Any:
        plan, batch = call.plan, call.plan.layout.batch
        outside = call.outside
        rows = bool(batch) and (per_row or (place is not None and bool(place.lead)))
        if rows:
            g = self._scatter(call, g)
            if per_row and call.weight is not None:
                g = g * call.weight.reshape(-1, *[1] * (g.ndim - 1))
        if outside is not None:
            bad = outside if call.keep is None else outside & call.keep
            if rows:
                g[bad] = np.nan
            elif bad.any():
                g = np.full_like(g, np.nan)
        if place is None:
            return g if rows else plan.dtype.type(g)
        x = call.given[self._positions[name]]
        g = g.reshape((*(batch if rows else ()), *place.dims))
        if rows and not per_row and place.lead != batch:
            g = g.sum(axis=tuple(k for k, n in enumerate(place.lead) if n != batch[k]), keepdims=True)
        back = place.back(g.ndim)
        if back is not None:
            g = g.transpose(back)
        real = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        return g.astype(real, copy=False) if g.ndim else real.type(g)

    # -- checks ---------------------------------------------------------------------------------------------------------

    def _check(self, call: Call) -> None:
        """Refuse values outside an input's domain; what is not evaluated is not looked at."""
        keep = call.keep
        for k, (i, p) in enumerate(zip(self.program.inputs, call.plan.layout.places, strict=True)):
            x = call.arrays[k]
            bad = outside(i, x, call.plan.layout.sizes)
            if keep is not None:
                bad = bad & (keep.reshape(-1, *[1] * (x.ndim - 1)) if p.lead else keep.any())
            if WEIGHT in self._positions:
                seen = self._present(call, i, p)
                bad = bad & (seen if seen.ndim <= x.ndim else seen.any(axis=0))
            if bad.any():
                ends = (x == 0) | (x == 1) if i.kind.name == "prob" and i.kind.interval is None else False
                hard = bad & ~np.asarray(ends)
                at = tuple(int(j) for j in np.argwhere(hard if hard.any() else bad)[0])
                message = self._misfit(i, call, p, at, x[at])
                if hard.any():
                    raise LossError(message)
                warnings.warn(message, stacklevel=4)  # a sigmoid rounds to 0 and 1
        if call.reduction == "mean" and call.plan.layout.batch and call.rows == 0:
            raise LossError(f"the mean of {self.program.name} over no samples has no value")

    def _present(self, call: Call, i: Input, p: Place) -> Array:
        """Where an input is looked at: at samples of weight above 0, along each of its sample axes."""
        w = call.arrays[self._positions[WEIGHT]] > 0
        out = present(i, self.program.batch, w)
        return out if w.ndim > 1 or not p.lead else out[None]

    def _misfit(self, i: Input, call: Call, p: Place, at: tuple[int, ...], value: Any) -> str:
        """A message that names the entry as the caller sees it: in the shape that was given."""
        lead = int(bool(p.lead))
        where = at if p.dims == p.event else (*at[:lead], *map(int, np.unravel_index(np.ravel_multi_index(at[lead:], p.event), p.dims)))
        if p.lead:
            row = np.unravel_index(at[0], call.plan.layout.batch)
            where = (*(int(a) if n != 1 else 0 for a, n in zip(row, p.lead, strict=True)), *where[1:])
        if p.order is not None:
            where = tuple(where[p.order.index(d)] for d in range(len(where)))
        place = f" at {where}" if where else ""
        return f"input {i.name!r} of {self.program.name} is {value}{place}, {domain_text(i, call.plan.layout.sizes)}"

    def _check_value(self, call: Call, value: Any) -> None:
        if np.isnan(value).any():
            bad = np.argwhere(np.isnan(np.reshape(value, call.plan.layout.batch if np.ndim(value) else ())))
            at = f" at {tuple(int(j) for j in bad[0])}" if np.ndim(value) else ""
            hint = "a mean, maximum or minimum over nothing, or a function outside its domain"
            raise LossError(f"the value of {self.program.name} is NaN{at}", hint=hint)


class WithFunctions(Compiled):
    """A loss that is given functions; ``applying`` makes one with the functions of a call, and shares what is printed."""

    functions: Functions = MappingProxyType({})
    check = False
    known: dict[str, int]

    def applying(self, functions: Functions, check: bool) -> WithFunctions:
        out = object.__new__(type(self))
        out.__dict__ |= self.__dict__
        out.functions, out.check = functions, check
        return out

    def _quick(self, inputs: Sequence[Any], what: str, reduction: str) -> tuple[Quick | None, list[Array]]:
        return None, []

    def _measured(self) -> WithFunctions:
        inner: Any = super()._measured()
        return inner.applying(self.functions, self.check)  # type: ignore[no-any-return]

    def _evaluate(self, call: Call, what: str) -> list[Any]:
        self.known = dict(call.plan.layout.sizes)
        return super()._evaluate(call, what)

    def _kernel(self, what: str, batched: frozenset[str], changed: bool) -> Kernel:
        kernel = super()._kernel(what, batched, changed)
        known, slopes = self.known, kernel.slopes
        given = [OnArrays(self.name, f, self.functions[f.name], known, f.name in slopes, self.check) for f in self.program.functions]
        return replace(kernel, run=lambda *args: kernel.run(*args, *given))


def _one(grads: Sequence[Any]) -> Any:
    return grads[0] if len(grads) == 1 else tuple(grads)


# -- hyper-parameters as numbers --------------------------------------------------------------------------------------


class Bound:
    """A program with its known hyper-parameters as numbers, those aside that it is differentiated by."""

    def __init__(self, program: Program, values: Mapping[str, Number], wrt: Sequence[str]) -> None:
        self._whole, self._fixed = program, {name: v for name, v in values.items() if name not in wrt}
        self.params: tuple[Param, ...] = tuple(p for p in program.params if p.name not in self._fixed)
        self.complete = len(values) == len(program.params)

    @property
    def numbers(self) -> list[tuple[str, str]]:
        """The numbers, exactly."""
        return sorted((name, float(v).hex() if isinstance(v, float) else _exact(Fraction(v))) for name, v in self._fixed.items())

    @cached_property
    def program(self) -> Program:
        roots = assign(self._whole.roots, {name: number(v) for name, v in self._fixed.items()})
        return replace(self._whole.with_roots(roots), params=self.params, requires=())


def _exact(value: Fraction) -> str:
    return f"{value.numerator:x}/{value.denominator:x}"


def source(program: Program, wrt: Sequence[str]) -> str:
    """A module of the functions ``value`` and ``value_and_grad`` that needs nothing of this package."""

    def standalone() -> str:
        from lossdsl.runtime import numpy_source

        return numpy_source.standalone(program, wrt)

    return str(Printed(program, "numpy", np.__version__, json.dumps(wrt)).get(standalone, "module"))
