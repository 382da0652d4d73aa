"""A loss as its user meets it: what it declares, its derivatives as formulas, and its compiled forms."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossdsl import frontend
from lossdsl.errors import LossError, NotYet, did_you_mean
from lossdsl.ir.applied import has_slopes
from lossdsl.ir.program import Function, Input, Note, Param, Program
from lossdsl.ir.wrt import differentiable, differentiated

if TYPE_CHECKING:
    from lossdsl.runtime.on_numpy import Compiled


def parse(source: str, origin: str = "<text>") -> dict[str, Loss]:
    """All losses defined in a text, by name. Raises ``LossError`` with every mistake found."""
    if not isinstance(source, str):
        raise LossError(f"a loss is parsed from text, not from {source!r:.60}", hint="read(path) reads a file")
    return {name: Loss(p) for name, p in frontend.load_text(source, origin).items()}


def read(path: str | os.PathLike[str]) -> dict[str, Loss]:
    """All losses defined in a ``.loss`` file, by name."""
    return {name: Loss(p) for name, p in frontend.load_path(path).items()}


def load(name: str) -> Loss:
    """A loss of the standard library."""
    if not isinstance(name, str):
        raise LossError(f"a loss is loaded by its name, not by {name!r:.60}", hint="library() lists the names")
    return Loss(frontend.load_library(name))


def library(family: str | None = None) -> list[str]:
    """Names of the standard library's losses, of one family or all."""
    return list(frontend.library_names(family))


def search(query: str) -> list[str]:
    """Names of the losses with given properties."""
    raise NotYet("the library cannot be searched by properties yet", hint="library(family=..) lists names; loss.claims is what is said")


def from_sympy(expression: Any, name: str = "loss", *, inputs: Any = None, params: Any = None,
               wrt: Sequence[str] | str | None = None) -> Loss:
    """A loss from a SymPy expression: symbols become inputs or hyper-parameters, each ``IndexedBase`` an array.

    ``inputs`` and ``params`` list names in order: strings, symbols, or what another loss declares (``loss.inputs``). A mapping says
    more of a name: its kind and default as in the language (``{"y": "sign"}``, ``{"delta": "positive = 1"}``), a default
    (``{"delta": 1}``), or None. Symbols that stand in neither are inputs in alphabetical order, or hyper-parameters if ``inputs``
    is given. A kind that is not said is that of the symbol's assumptions; a subscript is a class.

    A sum from 0 to ``n - 1`` (or from 1 to n) whose index is a subscript runs along an axis: the one that the array's declared kind
    names, else ``k`` for a length ``n_k``, else the length's own name. A product with ``log(0)`` or a condition that is 0 is 0, as
    in the language.

    Raises ``LossError`` for what the language cannot say, by name. Nothing is evaluated: neither text as Python nor the expression
    by SymPy.
    """
    from lossdsl.symbolic.from_sympy import source

    (loss,) = parse(source(expression, name, inputs, params, wrt), "<SymPy>").values()
    return loss


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
    def inputs(self) -> tuple[Input | Function, ...]:
        """What a call takes by position, functions among the arrays."""
        return self.program.arguments

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions that it takes, inputs and hyper-parameters: each with its kind, and its default if it has one."""
        return self.program.source.functions

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
        from lossdsl.ir.text import program

        return program(self.program)

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

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def sympy(self) -> Any:
        """The equation as a SymPy expression.

        Inputs and hyper-parameters are symbols with the assumptions of their kinds, arrays are ``IndexedBase``, axis ``k`` runs from 0 to
        ``n_k - 1``, guards are conditions. What SymPy would simplify wrongly stays as it is written. Raises ``LossError`` for a
        construct that SymPy does not have, by name.
        """
        from lossdsl.symbolic.to_sympy import to_sympy

        if not has_slopes(self.program.roots):
            return to_sympy(self.program)
        from lossdsl import pipeline

        return to_sympy(pipeline.explicit(self.program))

    def properties(self, wrt: str | Sequence[str] | None = None) -> Any:
        """What is proved of the loss, by tag."""
        raise NotYet(f"properties of {self.name} are not proved yet", hint="loss.claims lists what its definition says of it")

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a page on the loss."""
        raise NotYet(f"a report on {self.name} cannot be written yet", hint="loss.latex() and loss.grad() print its equations")

    def after(self, step: str) -> Loss:
        """The program after a step of the compiler (``pipeline.STEPS``)."""
        from lossdsl import pipeline

        if step not in pipeline.STEPS:
            hint = did_you_mean(step, pipeline.STEPS) or f"steps are {', '.join(pipeline.STEPS)}"
            raise LossError(f"there is no step {step!r}", hint=hint)
        return Loss(pipeline.STEPS[step](self.program))

    def grad(self, wrt: str | Sequence[str] | None = None) -> Loss:
        """The gradient as a closed form, with the axes of the input; several names give several outputs.

        The form is the one that reads best among those that are equal for inputs in their kinds (see ``quality.closed``).
        """
        from lossdsl import pipeline
        from lossdsl.quality.closed import closed

        return Loss(closed(pipeline.derived(self._scalar("a gradient"), differentiated(self.program, wrt))))

    def hess(self, wrt: str | None = None) -> Loss:
        """The Hessian as a closed form, with the input's axes twice."""
        from lossdsl import pipeline
        from lossdsl.quality.closed import closed

        name = self._one(wrt, "a Hessian")
        return Loss(closed(pipeline.second(self._scalar("a Hessian"), name)))

    def hvp(self, wrt: str | None = None) -> Loss:
        """The Hessian times a vector, which is the further input ``v_<name>``."""
        from lossdsl import pipeline

        name = self._one(wrt, "a Hessian-vector product")
        return Loss(pipeline.hessian_vector(self._scalar("a Hessian-vector product"), name, f"v_{name}"))

    def bind(self, **values: Any) -> Loss:
        """The loss with hyper-parameters fixed to numbers, and functions to others: the name of one, or a loss."""
        from lossdsl.runtime.convention import bound

        program, numbers = self._chosen(values)
        own = [name for name in numbers if any(f.name == name for f in self.functions)]
        if own:
            hint = "bind it to the name of a function or to a loss; a callable is given to compile or to a call"
            raise LossError(f"the function {own[0]!r} of {self.name} is {values[own[0]]!r:.60}", hint=hint)
        return Loss(bound(program, numbers) if numbers else program)

    def _chosen(self, values: Mapping[str, Any]) -> tuple[Program, dict[str, Any]]:
        """The program with the functions that are named put in, and the other values; a callable leaves its function open."""
        known = {f.name: f for f in self.functions}
        open_ = {f.name for f in self.program.functions}
        named = {k: v.program if isinstance(v, Loss) else v for k, v in values.items() if k in known and isinstance(v, (str, Loss))}
        called = {k: None for k, v in values.items() if k in known and k not in named and k not in open_ and callable(v)}
        program = frontend.chosen(self.program, {**named, **called}) if named or called else self.program
        return program, {k: v for k, v in values.items() if k not in named}

    def sample(self, seed: int = 0, batch: int | tuple[int, ...] = (), sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Random valid inputs: a dict of arrays, batch dimensions first; the same seed gives the same arrays."""
        from lossdsl.runtime.sample import sample

        return sample(self.program, seed, batch, sizes)

    def compile(self, backend: str = "numpy", wrt: str | Sequence[str] | None = None, axes: Mapping[str, int] | None = None,
                **params: Any) -> Compiled:
        """A callable for a backend: ``reference``, ``numpy`` or ``torch``.

        ``wrt`` names what ``value_and_grad`` differentiates by; ``axes={"k": 1}`` says at which position of its arrays a named
        axis lies; further keywords set hyper-parameters, which a call may override. A function is set by the name of one, by a
        loss, or by a callable.
        """
        from lossdsl.runtime import backends

        self._scalar("compile")
        program, rest = self._chosen(params)
        compiled: Compiled = backends.compile(program, backend, differentiable(program, wrt), axes, rest)
        return compiled

    def source(self, backend: str = "numpy", wrt: str | Sequence[str] | None = None) -> str:
        """A standalone module for a backend, which imports nothing of lossdsl."""
        from lossdsl.runtime import backends

        return backends.source(self.program, backend, differentiable(self.program, wrt))

    def module(
        self, learn: str | Sequence[str] = (), reduction: str = "mean", axes: Mapping[str, int] | None = None, **params: Any
    ) -> Any:
        """A ``torch.nn.Module``: ``crit(pred, target)``; hyper-parameters named in ``learn`` are its parameters.

        It takes what a compiled loss takes: a call may give weights, a mask, hyper-parameters, another reduction; ``axes`` says
        where named axes lie.
        """
        from lossdsl.runtime.backends import torch_backend

        program, rest = self._chosen(params)
        return torch_backend().module(program, (learn,) if isinstance(learn, str) else tuple(learn), rest, reduction, axes)

    def _one(self, wrt: str | None, what: str) -> str:
        names = differentiated(self.program, wrt)
        if wrt is not None and len(names) > 1:
            raise LossError(f"{what} of {self.name} is by one input, and {', '.join(names)} were named", hint="take one for each")
        return names[0]

    def _scalar(self, what: str) -> Program:
        if len(self.program.outputs) != 1 or self.program.outputs[0].indices:
            axes = ", ".join(str(i.axis) for i in self.program.outputs[0].indices)
            hint = "reduce it first, or differentiate the loss it comes from"
            raise LossError(f"{what} needs a scalar loss, and {self.name} is an array over [{axes}]", hint=hint)
        return self.program


def _revive(source: str, name: str) -> Loss:
    return parse(source)[name]
