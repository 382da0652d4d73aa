"""A program: named inputs and hyper-parameters, and outputs that are expressions over them.

A value, a gradient and a Hessian are programs; a pass takes one and gives one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from lossdsl.ir.expr import Axis, Expr, Index, ix, ref, size
from lossdsl.kinds import FunctionKind, Interval, Kind

BATCH = "~b"  # the axis of the batch, which nobody can write


@dataclass(frozen=True, slots=True)
class Input:
    """A declared array: its name, kind and axes (see ``kinds.Kind``)."""

    name: str
    kind: Kind

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(axis for axis, _ in self.kind.axes)

    @property
    def dims(self) -> tuple[tuple[str, ...], ...]:
        """The axes of each dimension of the array; a dimension that is a product of axes holds several, the first slowest."""
        return tuple(tuple(axis for axis, _ in dim) for dim in self.kind.dimensions)

    @property
    def indices(self) -> tuple[Index, ...]:
        return tuple(Index(axis, name) for axis, name in self.kind.axes)

    @property
    def element(self) -> Expr:
        """The input at its own indices."""
        return ref(self.name, [ix(i) for i in self.indices])

    @property
    def domain(self) -> Interval:
        return self.kind.domain

    @property
    def default(self) -> None:
        """Inputs have none; hyper-parameters may."""
        return None


@dataclass(frozen=True, slots=True)
class Param:
    """A hyper-parameter: a number of a kind, with a default or none."""

    name: str
    kind: Kind
    default: Fraction | float | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """A hyper-parameter is a single number."""
        return ()

    @property
    def domain(self) -> Interval:
        return self.kind.domain


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a loss is given: an input at a ``place`` among the inputs, or a hyper-parameter, which has none.

    A hyper-parameter's ``default`` names the function that stands for it unless another is said; its kind is then None if the
    definition leaves it to the default.
    """

    name: str
    kind: FunctionKind | None
    place: int | None = None
    default: str | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """A function is one thing."""
        return ()


@dataclass(frozen=True, slots=True)
class Written:
    """How a program was written, before functions were put in for its hyper-parameters: good as long as it is this one."""

    known: tuple[Any, ...]
    program: Program


@dataclass(frozen=True, slots=True)
class Output:
    """A named result: an expression whose free indices are among ``indices``."""

    name: str
    indices: tuple[Index, ...]
    expr: Expr


@dataclass(frozen=True, slots=True)
class Note:
    """An annotation of a definition: ``tag`` is survey, claim, source, note or oracle; ``data`` what it says, as text."""

    tag: str
    data: tuple[Any, ...]


@dataclass(frozen=True)
class Program:
    """What every pass takes and gives.

    ``wrt`` names the inputs that are differentiated by default, ``batch`` the sample axis if one is declared, ``requires``
    conditions on the hyper-parameters, ``functions`` what the equation applies without knowing it, ``lengths`` the declared lengths
    of axes, as whole numbers of hyper-parameters and sizes of other axes. ``written`` keeps the equation as it was before functions
    were put in for hyper-parameters.
    """

    name: str
    inputs: tuple[Input, ...]
    params: tuple[Param, ...]
    outputs: tuple[Output, ...]
    wrt: tuple[str, ...] = ()
    batch: str | None = None
    requires: tuple[Expr, ...] = ()
    doc: str = ""
    notes: tuple[Note, ...] = ()
    functions: tuple[Function, ...] = ()
    lengths: tuple[tuple[str, Expr], ...] = ()
    written: Written | None = field(default=None, compare=False, repr=False)

    def length(self, axis: Axis) -> Expr:
        """The length of an axis: a number where one is declared, unless its samples may be weighted."""
        declared = dict(self.lengths).get(axis) if isinstance(axis, str) and axis != self.batch else None
        return declared if declared is not None and declared.op == "num" else size(axis)

    @property
    def roots(self) -> tuple[Expr, ...]:
        return tuple(o.expr for o in self.outputs)

    @property
    def value(self) -> Expr:
        """The expression of a program with one output."""
        (only,) = self.outputs
        return only.expr

    @property
    def declared(self) -> tuple[Input | Param, ...]:
        """Inputs and hyper-parameters, in order."""
        return (*self.inputs, *self.params)

    @property
    def source(self) -> Program:
        """The program as it was written, if that is known."""
        return self.written.program if self.written is not None and self.written.known == self.known else self

    @property
    def known(self) -> tuple[Any, ...]:
        """What a change of the program changes."""
        return self.name, self.inputs, self.params, self.outputs, self.wrt, self.batch, self.requires, self.functions

    @property
    def arguments(self) -> tuple[Input | Function, ...]:
        """What a call takes by position: the inputs and the functions among them, in declared order."""
        out: list[Input | Function] = list(self.inputs)
        for f in self.functions:
            if f.place is not None:
                out.insert(f.place, f)
        return tuple(out)

    def input(self, name: str) -> Input:
        return next(i for i in self.inputs if i.name == name)

    def with_roots(self, roots: tuple[Expr, ...]) -> Program:
        """The same program with other output expressions, in order."""
        return replace(self, outputs=tuple(replace(o, expr=e) for o, e in zip(self.outputs, roots, strict=True)))

    def map(self, change: Callable[[tuple[Expr, ...]], tuple[Expr, ...]]) -> Program:
        """The program with all output expressions changed together, so that what they share stays shared."""
        return self.with_roots(change(self.roots))
