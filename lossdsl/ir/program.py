"""A program: named inputs and hyper-parameters, and outputs that are expressions over them.

A value, a gradient and a Hessian are programs; a pass takes one and gives one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from lossdsl.ir.expr import Axis, Expr, Index, ix, ref, size
from lossdsl.kinds import Interval, Kind

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
    conditions on the hyper-parameters, ``functions`` which function stands for each function-valued hyper-parameter,
    ``lengths`` the declared lengths of axes, as whole numbers of hyper-parameters and sizes of other axes.
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
    functions: tuple[tuple[str, str], ...] = ()
    lengths: tuple[tuple[str, Expr], ...] = ()

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

    def input(self, name: str) -> Input:
        return next(i for i in self.inputs if i.name == name)

    def with_roots(self, roots: tuple[Expr, ...]) -> Program:
        """The same program with other output expressions, in order."""
        return replace(self, outputs=tuple(replace(o, expr=e) for o, e in zip(self.outputs, roots, strict=True)))

    def map(self, change: Callable[[tuple[Expr, ...]], tuple[Expr, ...]]) -> Program:
        """The program with all output expressions changed together, so that what they share stays shared."""
        return self.with_roots(change(self.roots))
