"""Compiled losses on tensors: the calling convention over the printed module, and the loss as a ``torch.nn.Module``."""

from __future__ import annotations

import functools
import hashlib
import linecache
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossdsl import pipeline
from lossdsl.codegen.torch_module import Tower, standalone
from lossdsl.errors import LossError
from lossdsl.ir.expr import ZERO, Index, ix, pw, ref
from lossdsl.ir.program import BATCH, Input, Program
from lossdsl.kinds import Kind
from lossdsl.passes.batch import batched
from lossdsl.runtime.backends import compile as compile_for
from lossdsl.runtime.convention import Convention, Layout

KEEP = "~keep"
_LOW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Rows:
    """The loss of every row, still flat, with what a reduction needs."""

    value: Tensor
    batch: tuple[int, ...]
    weight: Tensor | None


def source(program: Program, wrt: Sequence[str]) -> str:
    """A standalone module: ``apply(*inputs, *hyper-parameters)`` gives the loss of every row; every input has a leading batch axis."""
    return _tower(program, wrt, frozenset(i.name for i in program.inputs), keep=False).module()


def _tower(program: Program, wrt: Sequence[str], names: frozenset[str], keep: bool) -> Tower:
    rows = batched(pipeline.stable(program), set(names))
    return Tower(_kept(rows) if keep else rows, wrt, pipeline.closed_form, pipeline.numeric)


def _kept(program: Program) -> Program:
    """The program with a further condition over the batch; where it fails nothing is computed and the loss is 0."""
    (output,) = program.outputs
    row = Index(BATCH, BATCH)
    given = Input(KEEP, Kind("bool", ((BATCH, BATCH),)))
    value = replace(output, expr=pw([(output.expr, ref(KEEP, [ix(row)]))], ZERO))
    return replace(program, inputs=(*program.inputs, given), outputs=(value,))


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


def _loaded(tower: Tower, name: str) -> Callable[..., Tensor]:
    """A tower's ``apply``; second derivatives are printed when they are first asked for."""

    @functools.cache
    def printed(function: str) -> Callable[..., Any]:
        found: Callable[..., Any] = load(standalone(tower.function(tower.same(function))), name)[tower.same(function)]
        return found

    names = load(tower.module(lazy=True), name)
    names.setdefault("printed", printed)
    apply: Callable[..., Tensor] = names["apply"]
    return apply


class Compiled:
    """A loss on tensors; see ``convention`` for how it is called."""

    def __init__(self, program: Program, wrt: Sequence[str], axes: Mapping[str, int] | None = None, params: Mapping[str, Any] | None = None,
                 recipe: tuple[Any, ...] | None = None) -> None:
        self.program, self.wrt, self._recipe = program, tuple(wrt), recipe
        self.axes, self.params = dict(axes or {}), dict(params or {})
        tensors = {k: v for k, v in self.params.items() if isinstance(v, Tensor)}
        numbers = {k: v for k, v in self.params.items() if k not in tensors}
        self.convention = Convention(program, self.axes, numbers)
        self.tensors = tensors
        self._variants: dict[tuple[frozenset[str], bool], Callable[..., Tensor]] = {}
        self._lock = threading.Lock()

    @property
    def source(self) -> str:
        return source(self.program, self.wrt)

    def __reduce__(self) -> Any:
        if self._recipe is None:
            raise TypeError(f"{self.program.name} was compiled from a bare program, which does not pickle; compile it from a loss")
        return self._recipe

    def __deepcopy__(self, memo: object) -> Compiled:
        return self

    def __call__(self, *args: Any, reduction: str = "mean", sample_weight: Any = None, sample_mask: Any = None, check: bool = False,
                 **named: Any) -> Tensor:
        inputs, given = self.convention.bind(args, named)
        reduction = self.convention.reduction(reduction)
        tensors = self._tensors(inputs)
        if check:
            self._check(tensors, given, {"reduction": reduction, "sample_weight": sample_weight, "sample_mask": sample_mask})
        return self._reduced(self._rows(tensors, given, sample_weight, sample_mask), reduction)

    def value_and_grad(self, *args: Any, **named: Any) -> tuple[Tensor, Any]:
        """The value, and the gradient of the reduced value: one tensor for one name in ``wrt``, else a tuple in its order.

        With ``reduction="none"`` the gradient is that of the sum, so that each row has its own.
        """
        inputs, given = self._apart(args, named)
        leaves = [self._leaf(inputs, given, name) for name in self.wrt]
        value = self(*inputs, **given)
        gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)
        return value.detach(), gradients[0] if len(gradients) == 1 else gradients

    def value_grad_hess(self, *args: Any, **named: Any) -> tuple[Tensor, Tensor, Tensor]:
        """For each sample the value, the gradient and the diagonal of the Hessian, by the first name of ``wrt``."""
        inputs, given = self._apart(args, {**named, "reduction": "none"})
        leaf = self._leaf(inputs, given, self.wrt[0])
        value = self(*inputs, **given)
        (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        events = len(self.program.input(self.wrt[0]).axes)
        inner = gradient.reshape(*gradient.shape[: gradient.ndim - events], -1)
        diagonal = [torch.autograd.grad(inner[..., k].sum(), leaf, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
                    .reshape(inner.shape)[..., k] for k in range(inner.shape[-1])]  # fmt: skip
        hessian = torch.stack(diagonal, -1).reshape(gradient.shape) if diagonal else torch.zeros_like(gradient)
        return value.detach(), gradient.detach(), hessian

    # -- arguments ------------------------------------------------------------------------------------------------------

    def _apart(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        options = {k: v for k, v in named.items() if k in ("reduction", "sample_weight", "sample_mask", "check")}
        inputs, given = self.convention.bind(args, {k: v for k, v in named.items() if k not in options})
        return list(inputs), {**given, **options}

    def _leaf(self, inputs: list[Any], given: dict[str, Any], name: str) -> Tensor:
        """A fresh leaf in place of an argument."""
        names = self.convention.names
        numbers = self.convention.defaults | self.params | given
        old: Any = inputs[names.index(name)] if name in names else numbers.get(name)
        old = float(old) if not isinstance(old, Tensor) and name not in names else old
        x = torch.as_tensor(old).detach()
        leaf = (x if x.is_floating_point() else x.to(torch.get_default_dtype())).clone().requires_grad_()
        if name in names:
            inputs[names.index(name)] = leaf
        else:
            given[name] = leaf
        return leaf

    def _tensors(self, inputs: Sequence[Any]) -> list[Tensor]:
        """The inputs as tensors on one device: numbers real and at least float32, conditions bool, classes and labels as they are."""
        device = next((x.device for x in inputs if isinstance(x, Tensor)), None)
        tensors = [x if isinstance(x, Tensor) else torch.as_tensor(x, device=device) for x in inputs]
        roles = [i.kind.role for i in self.program.inputs]
        real = [x.dtype for x, role in zip(tensors, roles, strict=True) if role == "number" and x.is_floating_point()]
        dtype = torch.get_default_dtype() if not real else real[0]
        for other in real[1:]:
            dtype = torch.promote_types(dtype, other)
        dtype = torch.float32 if dtype in _LOW else dtype
        wanted = {"number": dtype, "condition": torch.bool}
        return [x.to(wanted.get(role, x.dtype)) for x, role in zip(tensors, roles, strict=True)]

    def _check(self, tensors: Sequence[Tensor], given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Let the NumPy backend look at the arguments: it names the input, the entry and the domain."""

        def plain(x: Any) -> Any:
            return x.detach().cpu().numpy() if isinstance(x, Tensor) else x

        numbers = {k: float(plain(v)) for k, v in {**self.params, **given}.items()}
        fn = compile_for(self.program, "numpy", self.wrt, self.axes, numbers)
        fn(*map(plain, tensors), **{k: plain(v) for k, v in options.items()}, check=True)

    def _parameters(self, given: Mapping[str, Any], like: Tensor | None) -> list[Tensor]:
        """Hyper-parameters as tensors without axes: numbers are checked, tensors are taken as they are."""
        tensors = self.tensors | {k: v for k, v in given.items() if isinstance(v, Tensor)}
        numbers = {k: v for k, v in given.items() if k not in tensors}
        missing = {k: 0 if k in tensors else None for k in self.convention.known}
        values = self._numbers(numbers, missing)
        kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device} if like is not None else {}
        return [torch.as_tensor(tensors[p.name] if p.name in tensors else float(values[p.name]), **kind) for p in self.program.params]

    def _numbers(self, numbers: Mapping[str, Any], missing: Mapping[str, Any]) -> dict[str, Any]:
        absent = [k for k, v in missing.items() if v is None and k not in numbers and k not in self.convention.defaults]
        if absent:
            hint = f"it has no default: say {absent[0]}=.."
            raise LossError(f"hyper-parameter {absent[0]!r} of {self.program.name} has no value", hint=hint)
        if all(v is None for v in missing.values()):
            return dict(self.convention.parameters(numbers))
        from lossdsl.runtime.convention import check_number

        return self.convention.defaults | {k: check_number(self.program, k, v) for k, v in numbers.items()}

    # -- rows and their reduction ---------------------------------------------------------------------------------------

    def _rows(self, tensors: Sequence[Tensor], given: Mapping[str, Any], weight: Any, mask: Any) -> Rows:
        layout = self.convention.layout([tuple(x.shape) for x in tensors])
        real = next((x for x, i in zip(tensors, self.program.inputs, strict=True) if i.kind.role == "number"), None)
        keep, weight = self._sample(tensors, layout, weight, mask, real)
        if keep is not None and not layout.batch:
            raise LossError(f"{self.program.name} was given no batch, so there are no samples to weigh or mask")
        flat = [_flat(x, p, layout) for x, p in zip(tensors, layout.places, strict=True)]
        names = frozenset(i.name for i, b in zip(self.program.inputs, layout.batched, strict=True) if b)
        params = self._parameters(given, real)
        extra = [keep.reshape(-1)] if keep is not None else []
        value = self._variant(names, keep is not None)(*flat, *extra, *params)
        return Rows(value, layout.batch, weight)

    def _sample(self, tensors: Sequence[Tensor], layout: Layout, weight: Any, mask: Any,
                real: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The rows that count, and their weights, both of the batch's shape; None where all count alike."""
        keep = None
        device = tensors[0].device if tensors else None
        if weight is not None:
            weight = torch.as_tensor(weight, device=device)
            weight = weight.to(real.dtype) if real is not None else weight
            self.convention.sample("sample_weight", tuple(weight.shape), layout.batch)
            weight = weight.expand(layout.batch)
            keep = weight.detach() != 0
        if mask is not None:
            mask = torch.as_tensor(mask, device=device).to(torch.bool)
            self.convention.sample("sample_mask", tuple(mask.shape), layout.batch)
            mask = mask.expand(layout.batch)
            keep = mask if keep is None else keep & mask
        for i, x in zip(self.program.inputs, tensors, strict=True):
            if i.kind.ignore is not None and not i.axes and layout.batch:
                counted = (x != i.kind.ignore).expand(layout.batch)
                keep = counted if keep is None else keep & counted
        if keep is not None:
            counts = keep.to(real.dtype if real is not None else torch.get_default_dtype())
            weight = counts if weight is None else torch.where(keep, weight, torch.zeros((), dtype=weight.dtype, device=weight.device))
        return keep, weight

    def _reduced(self, rows: Rows, reduction: str) -> Tensor:
        value = rows.value.reshape(rows.batch)
        if rows.weight is None:
            return value.mean() if reduction == "mean" else value.sum() if reduction == "sum" else value
        value = value * rows.weight
        if reduction == "none":
            return value
        return value.sum() / rows.weight.sum() if reduction == "mean" else value.sum()

    def _variant(self, names: frozenset[str], keep: bool) -> Callable[..., Tensor]:
        """The printed module for the inputs that have a batch; made once."""
        self._make(names, keep)
        return self._variants[names, keep]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch.compile runs it while it traces, and looks the module up afterwards
    def _make(self, names: frozenset[str], keep: bool) -> bool:
        with self._lock:
            if (names, keep) not in self._variants:
                self._variants[names, keep] = _loaded(_tower(self.program, self.wrt, names, keep), self.program.name)
        return True


def _flat(x: Tensor, place: Any, layout: Layout) -> Tensor:
    """One input with its batch dimensions flattened into one."""
    x = x if place.order is None else x.permute(place.order)
    if not place.lead:
        return x
    if place.lead != layout.batch:
        x = x.expand(*layout.batch, *place.event)
    return x if len(layout.batch) == 1 else x.reshape(-1, *place.event)


class LossModule(torch.nn.Module):
    """A loss as a module: ``crit(*inputs)``. Hyper-parameters are buffers, those in ``learn`` parameters."""

    def __init__(self, program: Program, learn: Sequence[str], params: Mapping[str, Any], reduction: str = "mean") -> None:
        super().__init__()
        convention = Convention(program, None, params)
        values = convention.parameters({})
        for name in learn:
            if name not in values:
                convention.parameters({name: 0})  # raises the error that names it
        for name, value in values.items():
            tensor = torch.tensor(float(value))
            if name in learn:
                self.register_parameter(f"param_{name}", torch.nn.Parameter(tensor))
            else:
                self.register_buffer(f"param_{name}", tensor)
        self.compiled = compile_for(program, "torch", pipeline.differentiated(program), {}, {})
        self.reduction = convention.reduction(reduction)

    def forward(self, *args: Any, **named: Any) -> Tensor:
        params = {p.name: getattr(self, f"param_{p.name}") for p in self.compiled.program.params}
        value: Tensor = self.compiled(*args, **{"reduction": self.reduction, **params, **named})
        return value

    def extra_repr(self) -> str:
        return str(self.compiled.program.name)


def module(program: Program, learn: Sequence[str], params: Mapping[str, Any]) -> LossModule:
    return LossModule(program, learn, params)
