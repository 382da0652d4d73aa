"""The oracle's inputs: exact values of what a caller gives, with names, ranks and lengths checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from mpmath.libmp import from_float, from_int, from_rational, round_nearest

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.expr import postorder
from lossdsl.ir.program import Input, Program
from lossdsl.runtime.arithmetic import Bare, Measuring
from lossdsl.runtime.evaluator import Evaluator, Table, number
from lossdsl.runtime.primitives import Mpf
from lossdsl.runtime.shapes import Shape, codes, lengths

Arrays = Mapping[str, Any]
Params = Mapping[str, Any]


def raw(x: Any) -> Any:
    """The exact value of a number: an mpf's raw form, or a Fraction that no binary fraction holds."""
    if hasattr(x, "_mpf_"):
        return x._mpf_
    if isinstance(x, Fraction):
        return from_rational(x.numerator, x.denominator, x.numerator.bit_length() + 1, round_nearest) if dyadic(x) else x
    if isinstance(x, (bool, int, np.bool_, np.integer)):
        return from_int(int(x))
    if isinstance(x, (float, np.floating)):
        if not math.isfinite(x):
            return from_float(float(x))
        top, bottom = x.as_integer_ratio()
        return raw(Fraction(top, bottom))
    raise LossError(f"{x!r} is no number", hint="give floats, integers, fractions or mpmath numbers")


def dyadic(x: Fraction) -> bool:
    return x.denominator & (x.denominator - 1) == 0


def entries(name: str, values: Any) -> tuple[list[Any], tuple[int, ...]]:
    """The exact entries of an array or of nested lists in row-major order, and the shape."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().tolist()
    elif hasattr(values, "__array__"):
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        return [raw(x) for x in values.reshape(-1)], values.shape
    shape: list[int] = []
    level = [values]
    while level and isinstance(level[0], (list, tuple)):
        shape.append(len(level[0]))
        if any(not isinstance(x, (list, tuple)) or len(x) != shape[-1] for x in level):
            raise LossError(f"input {name!r} is ragged", hint="rows of one axis have the same length")
        level = [y for x in level for y in x]
    return [raw(x) for x in level], tuple(shape)


@dataclass(frozen=True, slots=True)
class Bound:
    """A program with values for its inputs and hyper-parameters, kept exactly."""

    program: Program
    values: dict[str, tuple[list[Any], tuple[int, ...]]]
    sizes: dict[str, int]
    dtype: Any = None
    whole: Mapping[str, int] = field(default_factory=dict)  # the hyper-parameters that are whole numbers

    def shapes(self, name: str) -> tuple[Shape, ...]:
        """The shapes that an array beside an input or hyper-parameter may have: a dimension for each axis, or its own."""
        shape = self.values[name][1]
        dims = next((i.dims for i in self.program.inputs if i.name == name), ())
        return shape, tuple(math.prod(self.sizes[axis] for axis in dim) for dim in dims)

    @property
    def bits(self) -> int:
        """How many bits a number of the dtype has."""
        return 53 if self.dtype is None else int(np.finfo(self.dtype).nmant) + 1

    def evaluator(self, arithmetic: Bare | Measuring, frozen: Evaluator | None = None) -> Evaluator:
        """An evaluator at the context's present precision."""
        tables = {name: Table([self.entry(x, arithmetic) for x in flat], shape) for name, (flat, shape) in self.values.items()}
        return Evaluator(self.program.roots, arithmetic, tables, self.sizes, lambda x: self.number(x, arithmetic.ctx), frozen)

    def entry(self, x: Any, arithmetic: Bare | Measuring) -> Any:
        if isinstance(x, Fraction):
            return arithmetic.constant(*self.number(x, arithmetic.ctx))
        return arithmetic.leaf(arithmetic.ctx.make_mpf(x))

    def number(self, x: Fraction, ctx: Any) -> tuple[Mpf, bool]:
        """An exact number, rounded to the dtype if there is one, and whether the context holds it exactly."""
        if self.dtype is not None:
            return ctx.make_mpf(raw(self.dtype.type(_nearest(x, self.dtype)))), True
        return number(ctx, x)


def nearest_mpf(ctx: Any, x: Any) -> Mpf:
    """The mpf of a value in raw form or of a fraction; only a fraction is rounded."""
    return ctx.mpf(x.numerator) / x.denominator if isinstance(x, (Fraction, int)) else ctx.make_mpf(x)


def _nearest(x: Fraction, dtype: np.dtype[Any]) -> float:
    """The number of a dtype nearest to a fraction; a double where that rounds to the same."""
    try:
        near = float(x)
    except OverflowError:
        return math.inf if x > 0 else -math.inf
    if dtype.itemsize >= 8 or Fraction(near) == x:
        return near
    with np.errstate(over="ignore"):
        candidate = dtype.type(near)
        if not np.isfinite(candidate):
            return float(candidate)
        around = (np.nextafter(candidate, dtype.type(-math.inf)), candidate, np.nextafter(candidate, dtype.type(math.inf)))
    return float(min((a for a in around if np.isfinite(a)), key=lambda a: abs(Fraction(float(a)) - x)))


def bind(program: Program, arrays: Arrays, params: Params, dtype: Any = None, sizes: Mapping[str, int] | None = None) -> Bound:
    """Checks names, ranks and lengths; a hyper-parameter that is not given has its default."""
    _known(program, "input", arrays, [x.name for x in program.inputs])
    _known(program, "hyper-parameter", params, [x.name for x in program.params])
    used = {e.data for e in postorder(program.roots) if e.op == "ref"}
    values: dict[str, tuple[list[Any], tuple[int, ...]]] = {}
    for x in program.inputs:
        if x.name in arrays:
            values[x.name] = entries(x.name, arrays[x.name])
        elif x.name in used:
            raise LossError(f"input {x.name!r} of {program.name} is missing")
    for p in program.params:
        value = params.get(p.name, p.default)
        if value is not None:
            values[p.name] = entries(p.name, value)
        elif p.name in used:
            raise LossError(f"hyper-parameter {p.name!r} of {program.name} has no value", hint=f"give {p.name}=..")
    numbers = {p.name: params.get(p.name, p.default) for p in program.params if p.kind.integer}
    whole = {name: int(x) for name, x in numbers.items() if x is not None}
    found = _split(program, values, whole, sizes or {})
    return Bound(program, values, found, None if dtype is None else np.dtype(dtype), whole)


def _known(program: Program, kind: str, given: Mapping[str, Any], names: list[str]) -> None:
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names) or f"it has {', '.join(names) or 'none'}"
            raise LossError(f"{program.name} has no {kind} {name!r}", hint=hint)


def _split(program: Program, values: dict[str, tuple[list[Any], Shape]], whole: dict[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """The lengths of axes; an array gets a dimension for each axis, if its products have not had theirs from the start."""
    given = [i for i in program.inputs if i.name in values]
    dims: list[tuple[Input, Shape]] = []
    for i in given:
        shape = values[i.name][1]
        if len(shape) not in (len(i.dims), len(i.axes)):
            message = f"input {i.name!r} has shape {shape}, and its axes are [{', '.join(i.axes)}]"
            raise LossError(message, hint="the reference takes one event: map over a batch")
        dims.append((i if len(shape) == len(i.dims) else replace(i, kind=replace(i.kind, dims=())), shape))
    found = lengths(program, codes(program), dims, whole, sizes)
    for i in given:
        values[i.name] = values[i.name][0], tuple(found[axis] for axis in i.axes)
    return found
