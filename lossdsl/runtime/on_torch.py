"""Compiled losses on tensors: the calling convention over the printed module, and the loss as a ``torch.nn.Module``."""

from __future__ import annotations

import functools
import hashlib
import json
import linecache
import math
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossdsl.errors import LossError
from lossdsl.ir.expr import ZERO
from lossdsl.ir.program import Input, Program
from lossdsl.ir.wrt import differentiable
from lossdsl.passes.measure import WEIGHT, refusal, weighted
from lossdsl.runtime.arrays import as_array, as_mask, as_weights, check_condition, check_dtype
from lossdsl.runtime.backends import compile as compile_for
from lossdsl.runtime.compiled import CompiledLoss, Recipe
from lossdsl.runtime.convention import OPTIONS, Convention, check_number
from lossdsl.runtime.given import Functions, Given
from lossdsl.runtime.printed import Printed
from lossdsl.runtime.shapes import Layout, Place

_LOW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Samples:
    """Which samples count, and their weights, 0 for the others; NaN stands for what is no weight."""

    keep: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """The loss of every row, still flat, with what a reduction needs."""

    value: Tensor
    batch: tuple[int, ...]
    weight: Tensor | None


def source(program: Program, wrt: Sequence[str]) -> str:
    """A standalone module: ``apply(*inputs, *hyper-parameters)`` gives the loss of every row; every input has a leading batch axis."""
    return _Sources(program, wrt, frozenset(i.name for i in program.inputs), keep=False).module


class _Sources:
    """The texts that are printed for a loss whose inputs in ``names`` have a batch; see ``torch_source``."""

    def __init__(self, program: Program, wrt: Sequence[str], names: frozenset[str], keep: bool) -> None:
        self._given = program, tuple(wrt), names, keep
        self._printed = Printed(program, "torch", torch.__version__, json.dumps([list(wrt), sorted(names), keep]))

    @functools.cached_property
    def _tower(self) -> Any:
        from lossdsl.runtime import torch_source

        return torch_source.tower(*self._given)

    @property
    def module(self) -> str:
        return str(self._printed.get(self._module, "module"))

    def _module(self) -> str:
        from lossdsl.runtime import torch_source

        program, _, names, _ = self._given
        if program.functions:
            return str(torch_source.applying(program, names, lazy=False)["source"])
        return str(self._tower.module())

    @property
    def lazy(self) -> str:
        """The module that asks for second derivatives when it needs them."""
        return str(self._printed.get(lambda: self._tower.module(lazy=True), "lazy"))

    def function(self, name: str) -> tuple[str, str]:
        """One of the functions that the lazy module asks for: the name under which it is printed, and its text."""
        printed, text = self._printed.get(lambda: self._function(name), "function", name)
        return printed, text

    def _function(self, name: str) -> list[str]:
        from lossdsl.runtime import torch_source

        return torch_source.function(self._tower, name)

    @property
    def applying(self) -> dict[str, Any]:
        """The module of a loss that is given functions; see ``torch_source.applying``."""

        def made() -> Any:
            from lossdsl.runtime import torch_source

            return torch_source.applying(self._given[0], self._given[2], lazy=True)

        found: dict[str, Any] = self._printed.get(made, "applying")
        return found

    def part_function(self, name: str) -> tuple[str, str]:
        """One of the functions that ``applying`` asks for: the name under which it is printed, and its text."""

        def made() -> Any:
            from lossdsl.runtime import torch_source

            return torch_source.part_function(self._given[0], self._given[2], name)

        printed, text = self._printed.get(made, "part", name)
        return printed, text

    @property
    def applying_rows(self) -> dict[str, Any]:
        def made() -> Any:
            from lossdsl.runtime import torch_source

            return torch_source.applying_rows(*self._given[:3])

        found: dict[str, Any] = self._printed.get(made, "applying rows")
        return found

    @property
    def rows(self) -> str:
        def made() -> str:
            from lossdsl.runtime import torch_source

            return torch_source.rows(*self._given)

        return str(self._printed.get(made, "rows"))


def load(text: str, name: str) -> dict[str, Any]:
    """The names that a printed module defines.

    The module can be imported under its own name, which holds its text's digest: ``torch.compile`` looks functions up there.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    module = types.ModuleType(f"lossdsl_printed_{digest}")
    file = f"<lossdsl {name} {digest}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), module.__dict__)  # our own printed text, never a user's
    return sys.modules.setdefault(module.__name__, module).__dict__


def _loaded(sources: _Sources, name: str) -> Callable[..., Tensor]:
    """A loss' ``apply``; second derivatives are printed when they are first asked for."""

    @functools.cache
    def printed(function: str) -> Callable[..., Any]:
        same, text = sources.function(function)
        found: Callable[..., Any] = load(text, name)[same]
        return found

    names = load(sources.lazy, name)
    names.setdefault("printed", printed)
    apply: Callable[..., Tensor] = names["apply"]
    return apply


class Compiled(CompiledLoss):
    """A loss on tensors; see ``convention`` for how it is called.

    What torch compiles must not branch on values. So a tensor's values are looked at only by ``check=True``; a weight that is
    negative or infinite, a mask that is neither 0 nor 1 and a class outside its axis make the result NaN.
    """

    backend = "torch"

    def __init__(self, program: Program, wrt: Sequence[str], axes: Mapping[str, int] | None = None, params: Mapping[str, Any] | None = None,
                 recipe: Recipe | None = None) -> None:
        super().__init__(program, wrt, recipe)
        self.params = dict(params or {})
        self.tensors = {k: v for k, v in self.params.items() if isinstance(v, Tensor)}
        self.convention = Convention(program, axes, {k: v for k, v in self.params.items() if k not in self.tensors})
        for name, value in self.tensors.items():
            _check_parameter(program, name, value)
        self._variants: dict[tuple[frozenset[str], bool], Callable[..., Tensor]] = {}
        self._lock = threading.Lock()
        # the same loss with weights on its sample axis as a further input
        why = refusal(program)
        self._measured = None if why else type(self)(replace(weighted(program), batch=None), wrt, axes, params)
        self._unweighed = why if program.batch is not None else None

    @property
    def source(self) -> str:
        return source(self.program, self.wrt)

    def __call__(self, /, *args: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                 **named: Any) -> Tensor:
        """The value: a tensor without axes, or with ``reduction="none"`` one entry for each sample."""
        inputs, given = self.convention.bind(args, named)
        reduction = self.convention.reduction(reduction)
        if check:
            self._check(inputs, given, {"reduction": reduction, "sample_weight": sample_weight, "sample_mask": sample_mask})
        tensors = self._tensors(inputs)
        samples = self._samples(tensors, given, sample_weight, sample_mask)
        if self._measured is None or samples is None:
            return self._reduced(self._rows(tensors, given, samples), reduction)
        value = self._measured._reduced(self._measured._rows([*tensors, samples.weight], given, None), reduction)
        return _poison(samples) * value

    def value_and_grad(self, /, *args: Any, **named: Any) -> tuple[Tensor, Any]:
        """The value, and the gradient of the reduced value: one tensor for one name in ``wrt``, else a tuple in its order.

        With ``reduction="none"`` the gradient is that of the sum, so that each row has its own.
        """
        self.differentiable()
        options = {k: named.pop(k) for k in OPTIONS if k in named}
        inputs, given = self.convention.bind(args, named)
        with torch.inference_mode(False), torch.enable_grad():
            inputs = [x.clone() if isinstance(x, Tensor) and x.is_inference() else x for x in inputs]
            leaves = [self._leaf(inputs, given, name) for name in self.wrt]
            value = self(*inputs, **given, **options)
            gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)
        return value.detach(), _one(gradients)

    def value_grad_hess(self, /, *args: Any, sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                        **named: Any) -> tuple[Tensor, Any, Any]:
        """For each sample the value, the gradient and the diagonal of the Hessian."""
        self.differentiable()
        inputs, given = self.convention.bind(args, named)
        if check:
            self._check(inputs, given, {"reduction": "none", "sample_weight": sample_weight, "sample_mask": sample_mask})
        with torch.no_grad():
            tensors = self._tensors(inputs)
            samples = self._samples(tensors, given, sample_weight, sample_mask)
            if self._measured is None or samples is None:
                return self._second(tensors, given, samples)
            value, *parts = self._measured._second([*tensors, samples.weight], given, None)
            poison = _poison(samples)
            slopes, diagonals = (tuple(poison * x for x in p) if isinstance(p, tuple) else poison * p for p in parts)
            return poison * value, slopes, diagonals

    # -- arguments ------------------------------------------------------------------------------------------------------

    def _leaf(self, inputs: list[Any], given: dict[str, Any], name: str) -> Tensor:
        """A fresh leaf in place of an argument."""
        names = self.convention.names
        if name in names:
            k = names.index(name)
            x = _tensor(self.program.inputs[k], inputs[k], None)
        else:
            values = self.convention.defaults | self.tensors | given
            if name not in values:
                self.convention.parameters({})  # raises the error that names it
            x = values[name] if isinstance(values[name], Tensor) else torch.tensor(float(values[name]))
        x = x.detach()
        leaf = (x if x.is_floating_point() else x.to(torch.get_default_dtype())).clone().requires_grad_()
        if name in names:
            inputs[k] = leaf
        else:
            given[name] = leaf
        return leaf

    def _tensors(self, inputs: Sequence[Any]) -> list[Tensor]:
        """The inputs as tensors on one device: numbers real and at least float32, conditions bool, classes and labels long.

        A Python number takes the type of the tensors.
        """
        device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
        tensors = [_tensor(i, x, device) for i, x in zip(self.program.inputs, inputs, strict=True)]
        roles = [i.kind.role for i in self.program.inputs]
        real = [x.dtype for x, role, given in zip(tensors, roles, inputs, strict=True)
                if role == "number" and x.is_floating_point() and not isinstance(given, float)]  # fmt: skip
        dtype = torch.get_default_dtype() if not real else real[0]
        for other in real[1:]:
            dtype = torch.promote_types(dtype, other)
        dtype = torch.float32 if dtype in _LOW else dtype
        wanted = {"number": dtype, "condition": torch.bool}
        return [x.to(wanted.get(role, torch.long)) for x, role in zip(tensors, roles, strict=True)]

    def _check(self, inputs: Sequence[Any], given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Let the NumPy backend look at the arguments: it names the input, the entry and the domain."""
        fn = compile_for(self.program, "numpy", self.wrt, self.convention.axes, {k: _plain(v) for k, v in {**self.params, **given}.items()})
        fn(*map(_plain, inputs), **{k: _plain(v) for k, v in options.items()}, check=True)

    def _parameters(self, given: Mapping[str, Any], like: Tensor | None) -> list[Tensor]:
        """Hyper-parameters as tensors without axes: numbers are checked, tensors are taken as they are."""
        tensors = {k: v for k, v in self.tensors.items() if k not in given} | {k: v for k, v in given.items() if isinstance(v, Tensor)}
        for name, value in tensors.items():
            _check_parameter(self.program, name, value)
        values = self.convention.parameters({k: v for k, v in given.items() if k not in tensors}, elsewhere=tensors.keys())
        kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device} if like is not None else {}
        return [torch.as_tensor(tensors[p.name] if p.name in tensors else float(values[p.name]), **kind) for p in self.program.params]

    # -- rows and their reduction ---------------------------------------------------------------------------------------

    def _rows(self, tensors: Sequence[Tensor], given: Mapping[str, Any], samples: Samples | None) -> Rows:
        layout = self._layout(tensors, given)
        samples = self._counted(tensors, layout, samples)
        flat = [_flat(x, p, layout) for x, p in zip(tensors, layout.places, strict=True)]
        names = frozenset(i.name for i, b in zip(self.program.inputs, layout.batched, strict=True) if b)
        params = self._parameters(given, self._real(tensors))
        extra = [samples.keep.reshape(-1)] if samples is not None and layout.batch else []
        apply = self._variant(names, bool(extra))
        value = apply(*flat, *extra, *params)
        outside = self._outside(flat, names, layout)
        if outside is not None:
            value = value * torch.where(outside if not extra else outside & extra[0], torch.nan, 1.0).to(value.dtype)
        return Rows(value, layout.batch, None if samples is None else samples.weight)

    def _second(self, tensors: Sequence[Tensor], given: Mapping[str, Any], samples: Samples | None) -> tuple[Tensor, Any, Any]:
        layout = self._layout(tensors, given)
        samples = self._counted(tensors, layout, samples)
        inputs = list(zip(self.program.inputs, tensors, layout.places, strict=True))
        apart = self.wrt if layout.batch else ()  # a derivative for each sample, also by what all samples share
        flat = [_flat(x, p, layout, each=i.name in apart) for i, x, p in inputs]
        names = frozenset(i.name for i, _, p in inputs if p.lead or i.name in apart)
        extra = [samples.keep.reshape(-1)] if samples is not None and layout.batch else []
        params = self._parameters(given, self._real(tensors))
        value, *parts = self._derivatives(names, bool(extra))(*flat, *extra, *params)
        outside = self._outside(flat, names, layout)
        rows = [value, *parts]
        for k, x in enumerate(rows):
            one = (-1, *[1] * (x.ndim - 1)) if layout.batch else ()
            if outside is not None:
                x = torch.where((outside if not extra else outside & extra[0]).reshape(one), torch.nan, x)
            x = x if samples is None else x * samples.weight.reshape(one)
            rows[k] = self._as_given(x.reshape(layout.batch + x.shape[bool(layout.batch) :]), k, tensors, layout)
        n = len(self.wrt)
        return rows[0], _one(rows[1 : n + 1]), _one(rows[n + 1 :])

    def _as_given(self, x: Tensor, k: int, tensors: Sequence[Tensor], layout: Layout) -> Tensor:
        """A derivative for each sample, the axes in the order of its input."""
        names = self.convention.names
        name = self.wrt[(k - 1) % len(self.wrt)]
        if k == 0 or name not in names:
            return x
        place = layout.places[names.index(name)]
        x = x.reshape(layout.batch + place.dims)
        back = place.back(x.ndim)
        return x if back is None else x.permute(back)

    def _real(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """The first tensor of numbers, whose type and device all others take."""
        return next((x for x, i in zip(tensors, self.program.inputs, strict=True) if i.kind.role == "number"), None)

    def _layout(self, tensors: Sequence[Tensor], given: Mapping[str, Any]) -> Layout:
        return self.convention.layout([tuple(x.shape) for x in tensors], {**self.tensors, **given})

    def _samples(self, tensors: Sequence[Tensor], named: Mapping[str, Any], weight: Any, mask: Any) -> Samples | None:
        """A caller's weights and mask; None where all samples count alike."""
        if weight is None and mask is None:
            return None
        if self._unweighed is not None:
            raise self._unweighed
        real = self._real(tensors)
        dtype = torch.get_default_dtype() if real is None else real.dtype
        device = tensors[0].device if tensors else None
        given = [f(x, dtype, device) for f, x in ((_weights, weight), (_masks, mask)) if x is not None]
        shapes = [tuple(x.shape) for x in given]
        if self._measured is None:
            batch = self._layout(tensors, named).batch
            for name, shape in zip(("sample_weight",) * (weight is not None) + ("sample_mask",), shapes, strict=False):
                self.convention.sample(name, shape, batch)
            if not batch:
                raise LossError(f"{self.name} was given no batch, so there are no samples to weigh or mask")
            given = [x.expand(batch) for x in given]
        elif len(given) == 2:
            self.convention.together(*shapes)
        return _both(given)

    def _counted(self, tensors: Sequence[Tensor], layout: Layout, samples: Samples | None) -> Samples | None:
        """The samples that count, those of an ignored class left out."""
        real = self._real(tensors)
        for i, x in zip(self.program.inputs, tensors, strict=True):
            if i.kind.ignore is not None and not i.axes:
                counted = (x != i.kind.ignore).expand(layout.batch)
                weight = counted.to(torch.get_default_dtype() if real is None else real.dtype)
                samples = Samples(counted, weight) if samples is None else _both([samples.weight, weight])
        return samples

    def _outside(self, flat: Sequence[Tensor], names: frozenset[str], layout: Layout) -> Tensor | None:
        """Rows with a class outside its axis."""
        out = None
        weights = dict(zip(self.convention.names, flat, strict=True)).get(WEIGHT)
        for i, y in zip(self.program.inputs, flat, strict=True):
            if i.kind.role != "class" or i.kind.of is None or i.kind.of not in layout.sizes:
                continue
            bad = (y < 0) | (y >= layout.sizes[i.kind.of])
            if i.kind.ignore is not None:
                bad = bad & (y != i.kind.ignore)
            if weights is not None:
                bad = bad & _present(i, self.program.inputs[self.convention.names.index(WEIGHT)].axes[0], weights > 0)
            lead = max(bad.ndim - len(i.axes), 0)
            bad = bad.flatten(lead).any(-1) if bad.ndim > lead else bad
            out = bad if out is None else out | bad
        return out

    def _reduced(self, rows: Rows, reduction: str) -> Tensor:
        value = rows.value.reshape(rows.batch)
        if rows.weight is None:
            return value.mean() if reduction == "mean" else value.sum() if reduction == "sum" else value
        value = value * rows.weight
        if reduction == "none":
            return value
        if reduction == "sum":
            return value.sum()
        total = rows.weight.sum()
        some = total != 0  # no samples: the mean is NaN, and nothing has a gradient
        return torch.where(some, value.sum() / torch.where(some, total, 1.0), torch.nan)

    def _derivatives(self, names: frozenset[str], keep: bool) -> Callable[..., Sequence[Tensor]]:
        """A function of the value, the gradients and the diagonals of the Hessians of every row."""
        return _hessian(self.program, self.wrt, names, keep)

    def _variant(self, names: frozenset[str], keep: bool) -> Callable[..., Tensor]:
        """The printed module for the inputs that have a batch; made once."""
        self._make(names, keep)
        return self._variants[names, keep]

    def _make(self, names: frozenset[str], keep: bool) -> bool:
        with self._lock:
            if (names, keep) not in self._variants:
                self._variants[names, keep] = _loaded(_Sources(self.program, self.wrt, names, keep), self.program.name)
        return True

    # torch.compile runs it while it traces, and looks the module up afterwards. This is all that
    # torch.compiler.assume_constant_result does, but for loading torch.compile, which takes two seconds.
    _make._dynamo_marked_constant = True  # type: ignore[attr-defined]


class WithFunctions(Compiled):
    """A loss that is given functions; ``applying`` makes one with the functions of a call, and shares what is printed.

    The functions are applied in plain torch, so that autograd finds its way into them. Rows that do not count are left out before.
    """

    functions: Functions = MappingProxyType({})
    check = False
    known: dict[str, int]

    def _layout(self, tensors: Sequence[Tensor], given: Mapping[str, Any]) -> Layout:
        layout = super()._layout(tensors, given)
        self.known = dict(layout.sizes)
        return layout

    def applying(self, functions: Functions, check: bool) -> WithFunctions:
        out = object.__new__(type(self))
        out.__dict__ |= self.__dict__
        out.functions, out.check = functions, check
        if isinstance(self._measured, WithFunctions):
            out._measured = self._measured.applying(functions, check)
        return out

    @property
    def source(self) -> str:
        return source(self.program, self.wrt)

    def _check(self, inputs: Sequence[Any], given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """The arrays are looked at as those of any loss; what functions give is looked at when they have given it."""
        (output,) = self.program.outputs
        arrays = replace(self.program, outputs=(replace(output, expr=ZERO),), functions=(), requires=())
        fn = compile_for(arrays, "numpy", (), self.convention.axes, {k: _plain(v) for k, v in {**self.params, **given}.items()})
        fn(*map(_plain, inputs), **{k: _plain(v) for k, v in options.items()}, check=True)

    def _variant(self, names: frozenset[str], keep: bool) -> Callable[..., Tensor]:
        with self._lock:
            if (names, False) not in self._variants:
                self._variants[names, False] = _loaded_applying(_Sources(self.program, self.wrt, names, False), self.program.name)
        return self._rows_that_count(self._variants[names, False], names, keep, one=True)

    def _derivatives(self, names: frozenset[str], keep: bool) -> Callable[..., Sequence[Tensor]]:
        return self._rows_that_count(_applying_rows(self.program, self.wrt, names), names, keep)

    def _rows_that_count(self, printed: Any, names: frozenset[str], keep: bool, one: bool = False) -> Callable[..., Any]:
        """The printed function of the rows that count, with the functions of this call; 0 for the other rows."""
        run, slopes = printed
        known = self.known
        given = [OnTensors(self.name, f, self.functions[f.name], known, f.name in slopes, self.check) for f in self.program.functions]
        n = len(self.program.inputs)

        def whole(*args: Tensor) -> Any:
            if not keep:
                return run(*args, *given)
            mask, flat, params = args[n], args[:n], args[n + 1 :]
            at = mask.nonzero()[:, 0]
            if len(at) == 0 and one:
                return torch.zeros(mask.shape, dtype=self._float(args), device=mask.device)
            if len(at) == len(mask):
                return run(*flat, *params, *given)
            kept = [x[at] if i.name in names else x for i, x in zip(self.program.inputs, flat, strict=True)]
            out = run(*kept, *params, *given)
            parts = out if isinstance(out, tuple) else (out,)
            done = tuple(x.new_zeros((len(mask), *x.shape[1:])).index_copy(0, at, x) for x in parts)
            return done if isinstance(out, tuple) else done[0]

        return whole

    def _float(self, args: Sequence[Tensor]) -> torch.dtype:
        real = self._real(args[: len(self.program.inputs)])
        return torch.get_default_dtype() if real is None else real.dtype


class OnTensors(Given):
    """A function on tensors, a module for one; autograd differentiates it."""

    def __call__(self, *args: Tensor) -> Tensor:
        rows = self.lengths([tuple(x.shape) for x in args])
        out = self.call(*args)
        if not isinstance(out, Tensor) or out.is_complex():
            hint = "under torch a function takes and gives tensors; functions on arrays belong to the numpy backend"
            raise LossError(f"{self.said} gave {type(out).__name__} where a tensor of real numbers is due", hint=hint)
        self.check_shape(tuple(out.shape), rows)
        if self.slopes and not out.requires_grad and any(x.requires_grad for x in args):
            hint = "compute it from its argument by operations that autograd records: no detach(), no no_grad()"
            raise LossError(f"{self.loss} needs derivatives of {self.function.name!r}, and what it gave has none", hint=hint)
        if self.check:
            self.check_values(_plain(out))
        real = next((x.dtype for x in args if x.is_floating_point()), torch.get_default_dtype())
        return out.reshape(out.shape[: 1 + len(self.kind.result.axes)]).to(real)


def _loaded_applying(sources: _Sources, name: str) -> Any:
    """A loss' ``apply``, which takes functions last, and the names of those that it differentiates."""

    @functools.cache
    def printed(function: str) -> Callable[..., Any]:
        same, text = sources.part_function(function)
        found: Callable[..., Any] = load(text, name)[same]
        return found

    made = sources.applying
    names = load(made["source"], name)
    names.setdefault("printed", printed)
    return names["apply"], frozenset(made["slopes"])


@functools.cache
def _applying_rows(program: Program, wrt: tuple[str, ...], names: frozenset[str]) -> Any:
    made = _Sources(program, wrt, names, False).applying_rows
    return load(made["source"], program.name)["rows"], frozenset(made["slopes"])


def _tensor(i: Input, x: Any, device: torch.device | None) -> Tensor:
    """An argument as a tensor of a dtype that fits its input."""
    if not isinstance(x, Tensor):
        return _from_numpy(i, x, device)
    kind = "c" if x.is_complex() else "f" if x.is_floating_point() else "i"
    check_dtype(i, x.dtype, kind, "long()")
    return x


def _from_numpy(i: Input, x: Any, device: torch.device | None) -> Tensor:
    a = as_array(i, x)
    check_dtype(i, a.dtype, a.dtype.kind)
    check_condition(i, a)
    plain = np.dtype(np.float64) if a.dtype.kind == "f" and a.dtype.itemsize > 8 else a.dtype.newbyteorder("=")
    a = np.asarray(a, plain, order="C")
    tensor = torch.as_tensor(a if a.flags.writeable else a.copy(), device=device)
    python = isinstance(x, (float, list, tuple)) and a.dtype.kind == "f"  # numbers of Python have torch's own type
    return tensor.to(torch.get_default_dtype()) if python else tensor


def _weights(weight: Any, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    if not isinstance(weight, Tensor):
        return torch.as_tensor(as_weights(weight, np.dtype(float)), dtype=dtype, device=device)
    if weight.is_complex():
        raise LossError(f"sample_weight holds {weight.dtype}, and takes numbers")
    w = weight.to(dtype)
    return torch.where((w >= 0) & (w < torch.inf), w, torch.nan)


def _masks(mask: Any, dtype: torch.dtype, device: torch.device | None) -> Tensor:
    if not isinstance(mask, Tensor):
        return torch.as_tensor(as_mask(mask), dtype=dtype, device=device)
    if mask.dtype == torch.bool:
        return mask.to(dtype)
    return torch.where((mask == 0) | (mask == 1), mask.to(dtype), torch.nan)


def _both(weights: Sequence[Tensor]) -> Samples:
    """Weights that all count: what has weight 0 in one has weight 0."""
    keep = functools.reduce(torch.logical_and, [w.detach() != 0 for w in weights])
    weight = functools.reduce(torch.mul, weights)
    return Samples(keep, torch.where(keep, weight, 0.0))


def _poison(samples: Samples) -> Tensor:
    """NaN if some weight is none, else 1."""
    return torch.where(samples.weight.isnan().any(), torch.nan, 1.0).to(samples.weight.dtype)


def _present(i: Input, axis: str | None, counted: Tensor) -> Tensor:
    """Where an input is looked at: at samples that count, [.., sample], along each of its sample axes."""
    lead = counted.shape[:-1]
    out = counted.new_ones((1,) * (len(lead) + len(i.axes)))
    for d, a in enumerate(i.axes):
        if a == axis:
            out = out & counted.reshape(*lead, *(1,) * d, -1, *(1,) * (len(i.axes) - d - 1))
    return out


def _check_parameter(program: Program, name: str, value: Tensor) -> None:
    """Refuse a tensor that is no number; its value is not looked at."""
    known = {p.name: p for p in program.params}
    if name not in known:
        check_number(program, name, 0)  # raises the error that names it
    if value.ndim or value.is_complex():
        raise LossError(f"hyper-parameter {name!r} of {program.name} is a tensor of shape {tuple(value.shape)}, {value.dtype}",
                        hint="a hyper-parameter is one number, a tensor without axes")  # fmt: skip


def _plain(x: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    if not isinstance(x, Tensor):
        return x
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


@functools.cache
def _hessian(program: Program, wrt: tuple[str, ...], names: frozenset[str], keep: bool) -> Callable[..., list[Tensor]]:
    """A function of the value, the gradients and the diagonals of the Hessians of every row."""
    printed = load(_Sources(program, wrt, names, keep).rows, program.name)
    return functools.partial(printed["exact"], printed["rows"])


def _one(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)


def _flat(x: Tensor, place: Place, layout: Layout, each: bool = False) -> Tensor:
    """One input with its batch dimensions flattened into one; with ``each``, given one if it has none."""
    x = x if place.order is None else x.permute(place.order)
    if not place.lead:
        x = x if place.dims == place.event else x.reshape(place.event)
        return x.expand(math.prod(layout.batch), *place.event) if each else x
    if place.lead != layout.batch:
        x = x.expand(*layout.batch, *place.dims)
    return x if len(layout.batch) == 1 and place.dims == place.event else x.reshape(math.prod(layout.batch), *place.event)


class LossModule(torch.nn.Module):
    """A loss as a module: ``crit(*inputs)``. Hyper-parameters are buffers, those in ``learn`` parameters; functions that are modules
    are its submodules.
    """

    def __init__(
        self, program: Program, learn: Sequence[str], params: Mapping[str, Any], reduction: str, axes: Mapping[str, int] | None
    ) -> None:
        super().__init__()
        functions = {f.name: params[f.name] for f in program.functions if f.name in params}
        for name, f in functions.items():
            if isinstance(f, torch.nn.Module):
                self.add_module(f"function_{name}", f)
        params = {k: v for k, v in params.items() if k not in functions}
        convention = Convention(program, axes, params)
        values = convention.parameters({})
        for name in learn:
            if name not in values:
                convention.parameters({name: 0})  # raises the error that names it
            if name in convention.measures:
                raise LossError(f"hyper-parameter {name!r} of {program.name} is the length of an axis, and is not learned")
        for name, value in values.items():
            if name in convention.measures:
                continue
            tensor = torch.tensor(float(value))
            if name in learn:
                self.register_parameter(f"param_{name}", torch.nn.Parameter(tensor))
            else:
                self.register_buffer(f"param_{name}", tensor)
        lengths = {name: values[name] for name in convention.measures}
        self.passed = [name for name in values if name not in lengths]
        self.compiled = compile_for(program, "torch", differentiable(program), axes, {**functions, **lengths})
        self.reduction = convention.reduction(reduction)

    def forward(self, *args: Any, **named: Any) -> Tensor:
        params = {name: getattr(self, f"param_{name}") for name in self.passed}
        value: Tensor = self.compiled(*args, **{"reduction": self.reduction, **params, **named})
        return value

    def extra_repr(self) -> str:
        return str(self.compiled.program.name)


def module(
    program: Program, learn: Sequence[str], params: Mapping[str, Any], reduction: str, axes: Mapping[str, int] | None = None
) -> LossModule:
    return LossModule(program, learn, params, reduction, axes)
