"""Where the batch and the axes lie in arrays: positions of named axes, products of axes, lengths that must agree.

Nothing here looks at values but at those of hyper-parameters that give lengths; arrays are known by their shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.expr import references
from lossdsl.ir.lengths import Code, code, run
from lossdsl.ir.program import Input, Program
from lossdsl.ir.text import expression

Shape = tuple[int, ...]
Dim = tuple[tuple[str, str], ...]  # the axes of one dimension, with the names of their indices


@dataclass(frozen=True, slots=True)
class Place:
    """How one input lies: the order of its dimensions that puts the batch first, None if it does already, and its batch shape.

    ``dims`` are the lengths of its other dimensions, ``event`` those of its axes: more where a dimension is a product of axes.
    """

    order: tuple[int, ...] | None
    lead: Shape
    dims: Shape
    event: Shape

    def back(self, rank: int) -> tuple[int, ...] | None:
        """The order that puts an array of batch dimensions and this input's ``dims`` as the input was given, None if it is so."""
        if self.order is None:
            return None
        more = rank - len(self.order)  # dimensions of a batch that the input does not have
        return (*range(more), *(more + self.order.index(d) for d in range(len(self.order))))


@dataclass(frozen=True, slots=True)
class Layout:
    """The batch shape of a call, the length of each axis, and the place of each input."""

    batch: Shape
    sizes: Mapping[str, int]
    places: tuple[Place, ...]

    @property
    def batched(self) -> tuple[bool, ...]:
        return tuple(bool(p.lead) for p in self.places)


# -- positions --------------------------------------------------------------------------------------------------------


def positions(program: Program, axes: Mapping[str, int] | None) -> dict[str, int]:
    """At which position of arrays named axes lie, checked; batch dimensions count."""
    if axes is not None and not isinstance(axes, Mapping):
        raise LossError(f"axes is {axes!r}", hint='it names axes with their positions: axes={"k": 1}')
    known = dict.fromkeys(name for i in program.inputs for _, name in i.kind.axes)
    for axis, k in (axes or {}).items():
        if axis not in known:
            listed = f"its axes are {', '.join(known)}" if known else "its inputs have no axes"
            raise LossError(f"{program.name} has no axis {axis!r}", hint=did_you_mean(str(axis), known) or listed)
        if not isinstance(k, int) or isinstance(k, bool):
            raise LossError(f"the position of axis {axis!r} is {k!r}, which is no integer")
    out = dict(axes or {})
    for i in program.inputs:
        for dim in i.kind.dimensions:
            given = {name: out[name] for _, name in dim if name in out}
            if len(set(given.values())) > 1:
                hint = "give the position of one of them"
                raise LossError(f"{_names(dim)} is one dimension of input {i.name!r}, and is to lie at positions {given}", hint=hint)
    return out


def codes(program: Program) -> dict[str, Code]:
    """How the lengths that are declared are computed."""
    return {axis: code(length) for axis, length in program.lengths}


def layout(
    program: Program, declared: Mapping[str, Code], shapes: Sequence[Shape], at: Mapping[str, int], params: Mapping[str, int]
) -> Layout:
    """Where the batch and the axes lie in arrays of these shapes. Raises ``LossError`` where they do not fit together."""
    found = [_place(program, i, s, at) for i, s in zip(program.inputs, shapes, strict=True)]
    sizes = lengths(program, declared, [(i, p.dims) for i, p in zip(program.inputs, found, strict=True)], params)
    places = tuple(
        Place(p.order, p.lead, p.dims, tuple(sizes[axis] for axis in i.axes)) for i, p in zip(program.inputs, found, strict=True)
    )
    return Layout(_batch(program, shapes, places), sizes, places)


def _place(program: Program, i: Input, shape: Shape, positions: Mapping[str, int]) -> Place:
    """The order of an array's dimensions; where a product's factors end is not known yet."""
    rank, dims = len(shape), i.kind.dimensions
    if rank < len(dims):
        need = f"{len(dims)} dimension{'s' * (len(dims) != 1)} or more"
        shown = ", ".join(_names(d) for d in dims)
        raise LossError(f"input {i.name!r} of {program.name} has shape {shape}, and its axes [{shown}] need {need}")
    fixed = {d: (name, positions[name]) for d, dim in enumerate(dims) for _, name in dim if name in positions}
    split = rank - len(dims)
    if not fixed or rank == len(dims) == 1:  # an array of one dimension has its axis there, wherever others have it
        return Place(None, shape[:split], shape[split:], ())
    for name, k in fixed.values():
        if not -rank <= k < rank:
            raise LossError(f"axis {name!r} is to lie at position {k}, and input {i.name!r} has shape {shape}")
    at = {d: k % rank for d, (_, k) in fixed.items()}
    if len(set(at.values())) < len(at):
        raise LossError(f"two axes of input {i.name!r} are to lie at the same position")
    rest = [k for k in range(rank) if k not in at.values()]
    trailing = [d for d in range(len(dims)) if d not in at]
    at |= dict(zip(trailing, rest[split:], strict=True))
    order = (*rest[:split], *(at[d] for d in range(len(dims))))
    moved = tuple(shape[k] for k in order)
    return Place(None if order == tuple(range(rank)) else order, moved[:split], moved[split:], ())


def _names(dim: Dim) -> str:
    names = ", ".join(name for _, name in dim)
    return f"({names})" if len(dim) > 1 else names


# -- batches ----------------------------------------------------------------------------------------------------------


def _batch(program: Program, shapes: Sequence[Shape], places: Sequence[Place]) -> Shape:
    """Batch shapes are equal, or of one rank with sizes equal or 1, or empty."""
    batch: Shape = ()
    first = 0
    for k, p in enumerate(places):
        if not p.lead:
            continue
        if not batch:
            batch, first = p.lead, k
            continue
        if len(p.lead) != len(batch) or any(a != b and 1 not in (a, b) for a, b in zip(p.lead, batch, strict=True)):
            names = [i.name for i in program.inputs]
            raise _clash(program, (names[first], shapes[first], batch), (names[k], shapes[k], p.lead))
        batch = tuple(b if a == 1 else a for a, b in zip(p.lead, batch, strict=True))
    return batch


def _clash(program: Program, a: tuple[str, Shape, Shape], b: tuple[str, Shape, Shape]) -> LossError:
    def said(name: str, shape: Shape, lead: Shape) -> str:
        return f"{name!r} has shape {shape}" if shape == lead else f"{name!r} has shape {shape} (batch {lead})"

    hint = "batch shapes are equal, or of the same rank with sizes equal or 1; reshape one of them"
    return LossError(f"the batches of {program.name} do not match: {said(*a)}, {said(*b)}", hint=hint)


# -- lengths ----------------------------------------------------------------------------------------------------------


def lengths(
    program: Program,
    declared: Mapping[str, Code],
    dims: Iterable[tuple[Input, Shape]],
    params: Mapping[str, int],
    given: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """The length of each axis, from the lengths of the dimensions of inputs, from declarations, and from ``given`` ones."""
    found = _Lengths(program, params)
    for axis, n in (given or {}).items():
        found.say(axis, axis, n, "")
    products = []
    for i, shape in dims:
        for dim, n in zip(i.kind.dimensions, shape, strict=True):
            if len(dim) > 1:
                products.append((i, dim, n))
            else:
                found.say(*dim[0], n, i.name)
    found.solve(dict(declared), products)
    return found.sizes


class _Lengths:
    """The lengths of axes found so far, and where."""

    def __init__(self, program: Program, params: Mapping[str, int]) -> None:
        self.program, self.params = program, params
        self.sizes: dict[str, int] = {}
        self.origin: dict[str, tuple[str, str]] = {}  # the name of an axis, and the input it has its length from

    def say(self, axis: str, name: str, n: int, where: str) -> None:
        """An axis has a length, in an input, under a name."""
        if self.sizes.setdefault(axis, n) != n:
            self.clash(axis, name, n, where)
        self.origin.setdefault(axis, (name, where))

    def clash(self, axis: str, name: str, n: int, where: str) -> None:
        first, at = self.origin[axis]
        hint = None if name == first else f"{first!r} and {name!r} are declared as one axis"
        also = f"{n} in {where!r}" + ("" if name == first else f" (as {name!r})")
        raise LossError(f"axis {first!r} of {self.program.name} has length {self.sizes[axis]}{_in(at)} and {also}", hint=hint)

    def solve(self, declared: dict[str, Code], products: list[tuple[Input, Dim, int]]) -> None:
        """Lengths that are declared, and what they and others leave of products."""
        while declared or products:
            waiting: dict[str, Code] = {}
            for axis, steps in declared.items():
                n = run(steps, self.params, self.sizes)
                if n is None:
                    waiting[axis] = steps
                else:
                    self.declare(axis, n)
            left = [(i, dim, n) for i, dim, n in products if not self.divide(i, dim, n)]
            if len(waiting) == len(declared) and len(left) == len(products):
                self.stuck(declared, products)
            declared, products = waiting, left

    def declare(self, axis: str, n: int) -> None:
        if n < 0:
            raise LossError(f"axis {axis!r} of {self.program.name} {self.said(axis)}: its length would be {n}")
        if self.sizes.setdefault(axis, n) != n:
            name, where = self.origin[axis]
            hint = f"arrays have {n} entries along {name!r}"
            found = f"has length {self.sizes[axis]}{_in(where)}"
            raise LossError(f"axis {name!r} of {self.program.name} {found}, and {self.said(axis)}", hint=hint)
        self.origin.setdefault(axis, (axis, ""))

    def said(self, axis: str) -> str:
        """How the length of an axis is declared, and with which numbers."""
        length = dict(self.program.lengths)[axis]
        used = ", ".join(f"{p} is {self.params[p]}" for p in sorted(references([length])))
        return f"is declared with {expression(length)}" + (f", where {used}" if used else "")

    def divide(self, i: Input, dim: Dim, n: int) -> bool:
        """Whether all but one factor of a product is known, which gives that one."""
        unknown = [(axis, name) for axis, name in dim if axis not in self.sizes]
        if len(unknown) > 1:
            return False
        others = prod([self.sizes[axis] for axis, _ in dim if axis in self.sizes])
        if unknown and others and n % others == 0:
            self.say(*unknown[0], n // others, i.name)
        elif unknown and n == others == 0:
            self.say(*unknown[0], 0, i.name)
        elif unknown or n != others:
            known = " and ".join(f"{name} = {self.sizes[axis]}" for axis, name in dim if axis in self.sizes)
            wrong = f"is no multiple of {others}" if unknown else f"is not {others}"
            raise LossError(f"{self.dimension(i, dim)} has length {n}, which {wrong}", hint=known)
        return True

    def stuck(self, declared: Iterable[str], products: Sequence[tuple[Input, Dim, int]]) -> None:
        for axis in declared:
            raise LossError(f"axis {axis!r} of {self.program.name} {self.said(axis)}, which is no known whole number")
        i, dim, n = products[0]
        raise LossError(f"{self.dimension(i, dim)} has length {n}, which does not tell its factors")

    def dimension(self, i: Input, dim: Dim) -> str:
        return f"dimension {_names(dim)} of input {i.name!r} of {self.program.name}"


def _in(where: str) -> str:
    return f" in {where!r}" if where else ""
