"""A loss as its user meets it: what it declares, its derivatives as formulas, and its compiled forms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lossdsl import frontend, pipeline
from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir import text
from lossdsl.ir.expr import Expr, assign, num
from lossdsl.ir.program import Input, Note, Param, Program

if TYPE_CHECKING:
    from lossdsl.runtime.on_numpy import Compiled


def parse(source: str, origin: str = "<text>") -> dict[str, Loss]:
    """All losses defined in a text, by name. Raises ``LossError`` with every mistake found."""
    return {name: Loss(p) for name, p in frontend.load_text(source, origin).items()}


def read(path: str | os.PathLike[str]) -> dict[str, Loss]:
    """All losses defined in a ``.loss`` file, by name."""
    return {name: Loss(p) for name, p in frontend.load_path(path).items()}


def load(name: str) -> Loss:
    """A loss of the standard library."""
    return Loss(frontend.load_library(name))


def library(family: str | None = None) -> list[str]:
    """Names of the standard library's losses, of one family or all."""
    return list(frontend.library_names(family))


class Loss:
    """A definition, or a program derived from one (a gradient, a Hessian).

    Prints as the DSL text it can be read from again.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.program.inputs

    @property
    def params(self) -> tuple[Param, ...]:
        return self.program.params

    @property
    def doc(self) -> str:
        return self.program.doc

    @property
    def notes(self) -> tuple[Note, ...]:
        return self.program.notes

    @property
    def claims(self) -> tuple[Note, ...]:
        """What the definition says of itself: the survey's tags and its own claims."""
        return tuple(n for n in self.notes if n.tag in ("survey", "claim"))

    def __str__(self) -> str:
        return text.program(self.program)

    def __repr__(self) -> str:
        return f"<Loss {self.name}({', '.join(i.name for i in self.inputs)})>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self.program == other.program

    def __hash__(self) -> int:
        return hash((self.name, self.program.roots))

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (str(self), self.name)

    def __deepcopy__(self, memo: object) -> Loss:
        return self

    def latex(self) -> str:
        """The equation in LaTeX."""
        from lossdsl.ir.latex import latex

        return latex(self.program)

    def after(self, step: str) -> Loss:
        """The program after a step of the compiler (``pipeline.STEPS``)."""
        if step not in pipeline.STEPS:
            hint = did_you_mean(step, pipeline.STEPS) or f"steps are {', '.join(pipeline.STEPS)}"
            raise LossError(f"there is no step {step!r}", hint=hint)
        return Loss(pipeline.STEPS[step](self.program))

    def grad(self, wrt: str | Sequence[str] | None = None) -> Loss:
        """The gradient as a closed form, with the axes of the input; several names give several outputs."""
        return Loss(pipeline.derived(self._scalar("a gradient"), pipeline.differentiated(self.program, wrt)))

    def hess(self, wrt: str | None = None) -> Loss:
        """The Hessian as a closed form, with the input's axes twice."""
        (name,) = pipeline.differentiated(self.program, wrt)[:1]
        return Loss(pipeline.second(self._scalar("a Hessian"), name))

    def hvp(self, wrt: str | None = None) -> Loss:
        """The Hessian times a vector, which is the further input ``v_<name>``."""
        (name,) = pipeline.differentiated(self.program, wrt)[:1]
        return Loss(pipeline.hessian_vector(self._scalar("a Hessian-vector product"), name, f"v_{name}"))

    def bind(self, **values: float) -> Loss:
        """The loss with hyper-parameters fixed to numbers."""
        known = {p.name: p for p in self.params}
        fixed: dict[str, Expr] = {}
        for name, value in values.items():
            check_param(self.program, name, value)
            fixed[name] = num(exact(value))

        p = self.program
        roots = assign((*p.roots, *p.requires), fixed)
        k = len(p.outputs)
        left = tuple(q for q in known.values() if q.name not in fixed)
        return Loss(replace(p.with_roots(roots[:k]), params=left, requires=roots[k:]))

    def sample(self, seed: int = 0, batch: int | tuple[int, ...] = (), sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Random valid inputs: a dict of arrays, batch dimensions first; the same seed gives the same arrays."""
        from lossdsl.runtime.sample import sample

        return sample(self.program, seed, batch, sizes)

    def compile(self, backend: str = "numpy", wrt: str | Sequence[str] | None = None, axes: Mapping[str, int] | None = None,
                **params: float) -> Compiled:
        """A callable for a backend: ``reference``, ``numpy`` or ``torch``.

        ``wrt`` names what ``value_and_grad`` differentiates by; ``axes={"k": 1}`` says at which position of its arrays a named
        axis lies; further keywords set hyper-parameters, which a call may override.
        """
        from lossdsl.runtime import backends

        names = pipeline.differentiated(self.program, wrt) if wrt is not None or self.inputs else ()
        compiled: Compiled = backends.compile(self._scalar("compile"), backend, names, dict(axes or {}), dict(params))
        return compiled

    def source(self, backend: str = "numpy", wrt: str | Sequence[str] | None = None) -> str:
        """A standalone module for a backend, which imports nothing of lossdsl."""
        from lossdsl.runtime import backends

        return backends.source(self.program, backend, pipeline.differentiated(self.program, wrt))

    def module(self, learn: Sequence[str] = (), **params: float) -> Any:
        """A ``torch.nn.Module``: ``crit(pred, target)``; hyper-parameters named in ``learn`` are its parameters."""
        from lossdsl.runtime.backends import torch_backend

        return torch_backend().module(self.program, tuple(learn), dict(params))

    def _scalar(self, what: str) -> Program:
        if len(self.program.outputs) != 1 or self.program.outputs[0].indices:
            axes = ", ".join(str(i.axis) for i in self.program.outputs[0].indices)
            hint = "reduce it first, or differentiate the loss it comes from"
            raise LossError(f"{what} needs a scalar loss, and {self.name} is an array over [{axes}]", hint=hint)
        return self.program


def exact(value: float | Fraction) -> Fraction:
    """The number that a hyper-parameter's value stands for: a float is read as it prints, 0.1 is 1/10."""
    return value if isinstance(value, Fraction) else Fraction(str(float(value))) if isinstance(value, float) else Fraction(value)


def check_param(program: Program, name: str, value: float) -> None:
    """Refuse an unknown hyper-parameter or a value outside its domain, by name."""
    known = {p.name: p for p in program.params}
    if name not in known:
        hint = did_you_mean(name, known) or (f"it has {', '.join(known)}" if known else None)
        raise LossError(f"{program.name} has no hyper-parameter {name!r}", hint=hint)
    domain = known[name].domain
    if value not in domain:
        hint = f"{name} is {known[name].kind.name}"
        raise LossError(f"hyper-parameter {name!r} of {program.name} is {value}, outside {domain}", hint=hint)


def _revive(source: str, name: str) -> Loss:
    return parse(source)[name]
