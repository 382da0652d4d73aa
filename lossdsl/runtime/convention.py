"""The calling convention, once for all backends: inputs by position or name, hyper-parameters, event axes behind batch axes.

Nothing here looks at values but at those of hyper-parameters; arrays are known by their shapes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.expr import INF, Expr, Range, assign, fold, ix, neg, num, references, replace_indices
from lossdsl.ir.lengths import fixed
from lossdsl.ir.program import Output, Param, Program
from lossdsl.runtime.shapes import Layout, Shape, codes, layout, positions

REDUCTIONS = ("mean", "sum", "none")
OPTIONS = ("reduction", "sample_weight", "sample_mask", "check")

Number = int | float | Fraction


class Convention:
    """What a program's callable accepts. ``axes`` says at which position of its arrays a named axis lies."""

    def __init__(self, program: Program, axes: Mapping[str, int] | None = None, params: Mapping[str, Any] | None = None) -> None:
        self.program = program
        self.axes = positions(program, axes)
        self.names = tuple(i.name for i in program.inputs)
        self.known = {p.name: p for p in program.params}
        self.lengths = codes(program)
        self.measures = tuple(sorted(references(e for _, e in program.lengths)))  # hyper-parameters that lengths of axes hold
        self.defaults: dict[str, Number] = {p.name: p.default for p in program.params if p.default is not None}
        self.defaults |= {name: check_number(program, name, value) for name, value in (params or {}).items()}
        self.whole = {name: int(self.defaults[name]) for name in self.measures if name in self.defaults}
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
                raise self._missing(name)
        if given and not elsewhere:
            self._require(values)
        return values

    def _require(self, values: Mapping[str, Number]) -> None:
        for condition in self.program.requires:
            require(self.program, condition, values)

    # -- shapes ---------------------------------------------------------------------------------------------------------

    def layout(self, shapes: Sequence[Shape], given: Mapping[str, Any] | None = None) -> Layout:
        """Where the batch and the axes lie in arrays of these shapes. Raises ``LossError`` where they do not fit together.

        ``given`` are the hyper-parameters that the call sets.
        """
        return layout(self.program, self.lengths, shapes, self.axes, self.measured(given or {}))

    def measured(self, given: Mapping[str, Any]) -> dict[str, int]:
        """The values of the hyper-parameters that lengths of axes hold."""
        values: dict[str, int] = {}
        for name in self.measures:
            if name in given:
                values[name] = int(check_number(self.program, name, given[name]))
            elif name in self.whole:
                values[name] = self.whole[name]
            else:
                raise self._missing(name)
        return values

    def _missing(self, name: str) -> LossError:
        return LossError(f"hyper-parameter {name!r} of {self.program.name} has no value", hint=f"it has no default: say {name}=..")

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
    values = {name: number(v) for name, v in numbers.items()}
    requires = assign(program.requires, values)
    left = tuple(p for p in program.params if p.name not in numbers)
    lengths = tuple(zip((axis for axis, _ in program.lengths), assign([e for _, e in program.lengths], values), strict=True))
    outputs = tuple(_assigned(o, values) for o in program.outputs)
    whole = replace(program, outputs=outputs, params=left, requires=tuple(r for r in requires if references([r])), lengths=lengths)
    return fixed(whole)


def _assigned(o: Output, values: Mapping[str, Expr]) -> Output:
    """An output with hyper-parameters replaced, in the ends of the ranges that it runs over too."""
    indices = []
    for i in o.indices:
        ends = assign((i.axis.lo, i.axis.hi), values) if isinstance(i.axis, Range) else ()
        indices.append(replace(i, axis=Range(*ends)) if ends else i)
    expr = replace_indices(o.expr, {i: ix(n) for i, n in zip(o.indices, indices, strict=True) if i != n})
    return replace(o, indices=tuple(indices), expr=assign([expr], values)[0])


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


def _number(value: Any) -> Number | None:
    if isinstance(value, (int, float, Fraction)):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
        return value if isinstance(value, (int, float)) else None
    return None


def _check_domain(program: Program, p: Param, value: Number) -> None:
    if value not in p.domain:
        raise LossError(f"{_said(program, p, value)}, outside {p.domain}", hint=f"{p.name} is {p.kind.name}")
    broken = p.kind.integer and not isinstance(value, int) and math.isfinite(value) and value != int(value)
    if broken or (p.kind.name == "sign" and value == 0):
        raise LossError(_said(program, p, value), hint=f"{p.name} is {p.kind.name}: {p.kind.row.doc}")


def _said(program: Program, p: Param, value: Number) -> str:
    return f"hyper-parameter {p.name!r} of {program.name} is {_plain(value)}"


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
