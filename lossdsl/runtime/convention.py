"""The calling convention, once for all backends: inputs by position or name, hyper-parameters, event axes behind batch axes.

Nothing here looks at values but at those of hyper-parameters; arrays are known by their shapes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.expr import INF, Expr, assign, fold, neg, num, references
from lossdsl.ir.program import Input, Param, Program

REDUCTIONS = ("mean", "sum", "none")
OPTIONS = ("reduction", "sample_weight", "sample_mask", "check")

Shape = tuple[int, ...]
Number = int | float | Fraction


@dataclass(frozen=True, slots=True)
class Place:
    """How one input lies: the order of its dimensions that puts the batch first, None if it does already, and its batch shape."""

    order: tuple[int, ...] | None
    lead: Shape
    event: Shape


@dataclass(frozen=True, slots=True)
class Layout:
    """The batch shape of a call, the length of each axis, and the place of each input."""

    batch: Shape
    sizes: Mapping[str, int]
    places: tuple[Place, ...]

    @property
    def batched(self) -> tuple[bool, ...]:
        return tuple(bool(p.lead) for p in self.places)


class Convention:
    """What a program's callable accepts. ``axes`` says at which position of its arrays a named axis lies."""

    def __init__(self, program: Program, axes: Mapping[str, int] | None = None, params: Mapping[str, Any] | None = None) -> None:
        self.program = program
        self.axes = _positions(axes)
        self.names = tuple(i.name for i in program.inputs)
        self.known = {p.name: p for p in program.params}
        declared = dict.fromkeys(a for i in program.inputs for a in i.axes)
        for axis in self.axes:
            if axis not in declared:
                hint = did_you_mean(str(axis), declared) or (_listed("its axes are", declared) if declared else "its inputs have no axes")
                raise LossError(f"{program.name} has no axis {axis!r}", hint=hint)
        self.defaults: dict[str, Number] = {p.name: p.default for p in program.params if p.default is not None}
        self.defaults |= {name: check_number(program, name, value) for name, value in (params or {}).items()}
        if len(self.defaults) == len(self.known):
            self._require(self.defaults)

    # -- names ----------------------------------------------------------------------------------------------------------

    def bind(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The inputs in declared order, and the hyper-parameters that the call sets."""
        if len(args) > len(self.names):
            inputs = f"{len(self.names)} input{'s' * (len(self.names) != 1)} ({', '.join(self.names)})"
            hint = f"hyper-parameters go by name: {', '.join(self.known)}" if self.known else None
            raise LossError(f"{self.program.name} takes {inputs}, and {len(args)} were given", hint=hint)
        given = dict(zip(self.names, args, strict=False))
        params = {}
        for name, value in named.items():
            if name in self.known:
                params[name] = value
            elif name in OPTIONS:
                raise LossError(f"this call takes no {name}: it gives each sample's own")
            elif name not in self.names:
                known = (*self.names, *self.known, *OPTIONS)
                hint = did_you_mean(name, known) or _listed("it takes", known)
                raise LossError(f"{self.program.name} has no input or hyper-parameter {name!r}", hint=hint)
            elif name in given:
                raise LossError(f"input {name!r} of {self.program.name} is given twice, by position and by name")
            else:
                given[name] = value
        for name in self.names:
            if name not in given:
                raise LossError(f"{self.program.name} needs the input {name!r}", hint=_listed("its inputs are", self.names))
        return [given[name] for name in self.names], params

    def reduction(self, name: Any) -> str:
        if name not in REDUCTIONS:
            hint = did_you_mean(str(name), REDUCTIONS) or "a reduction is mean, sum or none"
            raise LossError(f"there is no reduction {name!r}", hint=hint)
        return str(name)

    # -- hyper-parameters -----------------------------------------------------------------------------------------------

    def parameters(self, given: Mapping[str, Any], elsewhere: Container[str] = ()) -> dict[str, Number]:
        """The value of every hyper-parameter but those whose value is known elsewhere: what the call says, else the default; checked."""
        values = self.defaults | {name: check_number(self.program, name, value) for name, value in given.items()}
        for name in self.known:
            if name not in values and name not in elsewhere:
                raise LossError(f"hyper-parameter {name!r} of {self.program.name} has no value", hint=f"it has no default: say {name}=..")
        if given and not elsewhere:
            self._require(values)
        return values

    def _require(self, values: Mapping[str, Number]) -> None:
        for condition in self.program.requires:
            require(self.program, condition, values)

    # -- shapes ---------------------------------------------------------------------------------------------------------

    def layout(self, shapes: Sequence[Shape]) -> Layout:
        """Where the batch and the axes lie in arrays of these shapes. Raises ``LossError`` where they do not fit together."""
        places = tuple(self._place(i, s) for i, s in zip(self.program.inputs, shapes, strict=True))
        sizes: dict[str, tuple[int, str]] = {}
        for i, p in zip(self.program.inputs, places, strict=True):
            for axis, n in zip(i.axes, p.event, strict=True):
                if sizes.setdefault(axis, (n, i.name))[0] != n:
                    m, other = sizes[axis]
                    where = f"in {i.name!r}" if other == i.name else f"in {other!r} and {n} in {i.name!r}"
                    message = f"axis {axis!r} of {self.program.name} has length {m} {where}"
                    raise LossError(message if other != i.name else f"axis {axis!r} of {self.program.name} has lengths {m} and {n} {where}")
        return Layout(self._batch(shapes, places), {axis: n for axis, (n, _) in sizes.items()}, places)

    def _place(self, i: Input, shape: Shape) -> Place:
        rank, events = len(shape), i.axes
        if rank < len(events):
            need = f"{len(events)} dimension{'s' * (len(events) != 1)} or more"
            raise LossError(f"input {i.name!r} of {self.program.name} has shape {shape}, and its axes [{', '.join(events)}] need {need}")
        fixed = {axis: self.axes[axis] for axis in events if axis in self.axes}
        if not fixed:
            return Place(None, shape[: rank - len(events)], shape[rank - len(events) :])
        for axis, k in fixed.items():
            if not -rank <= k < rank:
                raise LossError(f"axis {axis!r} is to lie at position {k}, and input {i.name!r} has shape {shape}")
        at = {axis: k % rank for axis, k in fixed.items()}
        if len(set(at.values())) < len(at):
            raise LossError(f"two axes of input {i.name!r} are to lie at the same position")
        rest = [k for k in range(rank) if k not in at.values()]
        trailing = [axis for axis in events if axis not in at]
        split = len(rest) - len(trailing)
        at |= dict(zip(trailing, rest[split:], strict=True))
        order = (*rest[:split], *(at[axis] for axis in events))
        moved = tuple(shape[k] for k in order)
        return Place(None if order == tuple(range(rank)) else order, moved[:split], moved[split:])

    def _batch(self, shapes: Sequence[Shape], places: Sequence[Place]) -> Shape:
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
                raise self._clash((self.names[first], shapes[first], batch), (self.names[k], shapes[k], p.lead))
            batch = tuple(b if a == 1 else a for a, b in zip(p.lead, batch, strict=True))
        return batch

    def _clash(self, a: tuple[str, Shape, Shape], b: tuple[str, Shape, Shape]) -> LossError:
        def said(name: str, shape: Shape, lead: Shape) -> str:
            return f"{name!r} has shape {shape}" if shape == lead else f"{name!r} has shape {shape} (batch {lead})"

        hint = "batch shapes are equal, or of the same rank with sizes equal or 1; reshape one of them"
        return LossError(f"the batches of {self.program.name} do not match: {said(*a)}, {said(*b)}", hint=hint)

    def together(self, weight: Shape, mask: Shape) -> None:
        """Refuse a weight and a mask over a declared sample axis whose shapes would stretch each other."""
        short, long = sorted((weight, mask), key=len)
        repeats = len(short) == 1 and short == long[-1:] and self.program.batch not in self.axes
        if weight != mask and not repeats:
            raise LossError(f"sample_weight has shape {weight}, and sample_mask {mask}", hint="one weight for each sample")

    def sample(self, name: str, shape: Shape, batch: Shape) -> None:
        """Refuse a weight or mask whose shape is not that of the samples."""
        if shape != batch and (len(shape) != len(batch) or any(a not in (b, 1) for a, b in zip(shape, batch, strict=True))):
            what = f"the batch has shape {batch}" if batch else "there is no batch"
            raise LossError(f"{name} has shape {shape}, and {what}", hint="one weight for each sample")


def check_number(program: Program, name: str, value: Any) -> Number:
    """The value of a hyper-parameter as a plain number. Refuses an unknown name, what is no number, and a value outside the domain."""
    known = {p.name: p for p in program.params}
    if name not in known:
        hint = did_you_mean(name, known) or (_listed("it has", known) if known else None)
        raise LossError(f"{program.name} has no hyper-parameter {name!r}", hint=hint)
    number = _number(value)
    if number is None:
        raise LossError(f"hyper-parameter {name!r} of {program.name} is {value!r}, which is no number")
    _check_domain(program, known[name], number)
    return number


def bound(program: Program, values: Mapping[str, Any]) -> Program:
    """The program with hyper-parameters fixed to numbers, which are checked."""
    numbers = {name: check_number(program, name, value) for name, value in values.items()}
    for condition in program.requires:
        if references([condition]) <= numbers.keys():
            require(program, condition, numbers)
    roots = assign((*program.roots, *program.requires), {name: number(v) for name, v in numbers.items()})
    k = len(program.outputs)
    left = tuple(p for p in program.params if p.name not in numbers)
    return replace(program.with_roots(roots[:k]), params=left, requires=tuple(r for r in roots[k:] if references([r])))


def number(value: Number) -> Expr:
    """A hyper-parameter's value in an equation: a float is read as it prints, 0.1 is 1/10."""
    if isinstance(value, float) and math.isinf(value):
        return INF if value > 0 else neg(INF)
    return num(str(float(value)) if isinstance(value, float) else Fraction(value))


def require(program: Program, condition: Expr, values: Mapping[str, Number]) -> None:
    """Refuse values of hyper-parameters that break a condition of the definition."""
    if not holds(condition, values):
        from lossdsl.ir.text import expression

        found = ", ".join(f"{n} is {_plain(values[n])}" for n in sorted(references([condition])))
        raise LossError(f"{program.name} requires {expression(condition)}, but {found}")


def _positions(axes: Mapping[str, int] | None) -> dict[str, int]:
    if axes is not None and not isinstance(axes, Mapping):
        raise LossError(f"axes is {axes!r}", hint='it names axes with their positions: axes={"k": 1}')
    for axis, k in (axes or {}).items():
        if not isinstance(k, int) or isinstance(k, bool):
            raise LossError(f"the position of axis {axis!r} is {k!r}, which is no integer")
    return dict(axes or {})


def _number(value: Any) -> Number | None:
    if isinstance(value, (int, float, Fraction)):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
        return value if isinstance(value, (int, float)) else None
    return None


def _check_domain(program: Program, p: Param, value: Number) -> None:
    said = f"hyper-parameter {p.name!r} of {program.name} is {_plain(value)}"
    if value not in p.domain:
        raise LossError(f"{said}, outside {p.domain}", hint=f"{p.name} is {p.kind.name}")
    broken = p.kind.integer and math.isfinite(value) and value != int(value)
    if broken or (p.kind.name == "sign" and value == 0):
        raise LossError(said, hint=f"{p.name} is {p.kind.name}: {p.kind.row.doc}")


def _plain(value: Number) -> str:
    return str(float(value)) if isinstance(value, Fraction) and value.denominator != 1 else str(value)


def _listed(start: str, names: Iterable[str]) -> str:
    return f"{start} {', '.join(names)}"


# -- conditions on hyper-parameters -----------------------------------------------------------------------------------

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg, "pow": operator.pow,
    "and": lambda a, b: a and b, "or": lambda a, b: a or b, "not": operator.not_, "iverson": int,
}  # fmt: skip
_CALLS: dict[str, Callable[..., Any]] = {
    "abs": abs, "max": max, "min": min, "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "floor": math.floor,
    "relu": lambda x: max(x, 0),
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "inf": math.inf, "nan": math.nan}


def holds(condition: Expr, values: Mapping[str, Number]) -> bool:
    """Whether a condition on hyper-parameters holds; one that cannot be computed (a division by 0) does not."""

    def visit(e: Expr, args: list[Any]) -> Any:
        match e.op:
            case "num" | "bool":
                return e.data
            case "const":
                return _CONSTANTS[e.data]
            case "ref":
                return values[e.data]
            case "cmp":
                return _COMPARE[e.data](*args)
            case "call" if e.data in _CALLS:
                return _CALLS[e.data](*args)
        if e.op not in _OPERATIONS:
            raise LossError(f"a requirement on hyper-parameters cannot use {e.data if e.op == 'call' else e.op}")
        return _OPERATIONS[e.op](*args)

    try:
        return bool(fold([condition], visit)[condition])
    except (ZeroDivisionError, OverflowError, ArithmeticError):
        return False
