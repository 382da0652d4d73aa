"""The backends by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossdsl.errors import LossError, NotYet, did_you_mean
from lossdsl.ir.applied import has_slopes
from lossdsl.ir.program import Program
from lossdsl.runtime.compiled import Recipe

NAMES = ("reference", "numpy", "torch")
PLANNED = ("c", "triton")


def compile(program: Program, backend: str, wrt: Sequence[str], axes: Mapping[str, int] | None, params: Mapping[str, Any]) -> Any:
    """A callable for a program; it pickles as the program's text."""
    params, axes = dict(params), dict(axes) if isinstance(axes, Mapping) else axes  # what a caller does to his own later is no matter

    def recipe() -> tuple[Any, ...]:
        from lossdsl.ir import text

        return revive, (text.program(program), program.name, backend, tuple(wrt), axes, params)

    if program.functions:
        return _applying(program, _known(backend), wrt, axes, params, recipe)
    match _known(backend):
        case "reference":
            from lossdsl.runtime import on_reference, reference

            return on_reference.Compiled(reference.written_out(program), wrt, axes, params, recipe)
        case "torch":
            return torch_backend().Compiled(_explicit(program), wrt, axes, params, recipe)
    from lossdsl.runtime import on_numpy

    return on_numpy.Compiled(_explicit(program), wrt, axes, params, recipe)


def _applying(program: Program, backend: str, wrt: Sequence[str], axes: Mapping[str, int] | None, params: Mapping[str, Any],
              recipe: Recipe) -> Any:  # fmt: skip
    """A callable for a program that is given functions."""
    from lossdsl.runtime.given import Applying

    names = {f.name for f in program.functions}
    functions = {k: v for k, v in params.items() if k in names}
    numbers = {k: v for k, v in params.items() if k not in names}
    inner: Any
    if backend == "reference":
        from lossdsl.runtime import on_reference, reference

        inner = on_reference.WithFunctions(reference.written_out(program), wrt, axes, numbers)
    elif backend == "torch":
        inner = torch_backend().WithFunctions(_explicit(program), wrt, axes, numbers)
    else:
        from lossdsl.runtime import on_numpy

        inner = on_numpy.WithFunctions(_explicit(program), wrt, axes, numbers)
    return Applying(program, inner, functions, recipe)


def _explicit(program: Program) -> Program:
    """The program with the gradients inside it worked out; most programs have none, and need nothing of what works them out."""
    if not has_slopes(program.roots):
        return program
    from lossdsl import pipeline

    return pipeline.explicit(program)


def source(program: Program, backend: str, wrt: Sequence[str]) -> str:
    """A standalone module of value and gradient, which imports nothing of lossdsl."""
    match _known(backend):
        case "torch":
            return str(torch_backend().source(program, wrt))
        case "numpy":
            from lossdsl.runtime import on_numpy

            return on_numpy.source(program, wrt)
    raise LossError("the reference evaluates a program as it stands and prints no source", hint="backends with a source: numpy, torch")


def torch_backend() -> Any:
    """The module of the torch backend, which alone needs PyTorch."""
    try:
        from lossdsl.runtime import on_torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise LossError("the torch backend needs PyTorch, which is not installed", hint='pip install "lossdsl[torch]"') from None
    return on_torch


def revive(source: str, name: str, backend: str, wrt: Sequence[str], axes: Mapping[str, int] | None, params: Mapping[str, Any]) -> Any:
    from lossdsl.frontend import load_text

    return compile(load_text(source)[name], backend, wrt, axes, params)


def _known(backend: str) -> str:
    if backend in PLANNED:
        raise NotYet(f"the {backend} backend is not there yet", hint=f"backends are {', '.join(NAMES)}")
    if backend not in NAMES:
        raise LossError(f"there is no backend {backend!r}", hint=did_you_mean(backend, NAMES) or f"backends are {', '.join(NAMES)}")
    return backend
