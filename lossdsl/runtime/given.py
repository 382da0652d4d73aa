"""Calls of losses that are given functions: which argument is which function, and whether it gives what its kind says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.program import Function, Input, Program
from lossdsl.kinds import FunctionKind, Kind
from lossdsl.runtime.arrays import outside
from lossdsl.runtime.compiled import CompiledLoss, Recipe
from lossdsl.runtime.convention import Convention

Functions = Mapping[str, Callable[..., Any]]


class Applying(CompiledLoss):
    """A compiled loss that is given functions, at their places among the inputs or by name; hyper-parameters by name.

    A function is called with arrays whose first axis counts the rows, all rows together, then the axes that its kind declares; it
    gives one value for each row, with the axes of its result after the first.
    """

    def __init__(self, program: Program, inner: Any, functions: Mapping[str, Any], recipe: Recipe | None) -> None:
        super().__init__(program, inner.wrt, recipe)
        self.backend, self.inner = inner.backend, inner
        self.functions = {name: _callable(program, name, f) for name, f in functions.items()}

    @property
    def convention(self) -> Convention:
        """How the arguments that are no functions are given."""
        found: Convention = self.inner.convention
        return found

    @property
    def source(self) -> str:
        return str(self.inner.source)

    def __call__(self, /, *args: Any, **named: Any) -> Any:
        loss, inputs, others = self._given(args, named)
        return loss(*inputs, **others)

    def value_and_grad(self, /, *args: Any, **named: Any) -> Any:
        loss, inputs, others = self._given(args, named)
        return loss.value_and_grad(*inputs, **others)

    def value_grad_hess(self, /, *args: Any, **named: Any) -> Any:
        loss, inputs, others = self._given(args, named)
        return loss.value_grad_hess(*inputs, **others)

    def _given(self, args: Sequence[Any], named: dict[str, Any]) -> tuple[Any, list[Any], dict[str, Any]]:
        """The loss with the functions of a call, and the other arguments."""
        p = self.program
        places = [x.name for x in p.arguments]
        own = {f.name for f in p.functions}
        if len(args) > len(places):
            hint = f"hyper-parameters go by name: {', '.join(x.name for x in p.params)}" if p.params else None
            raise LossError(f"{p.name} takes {', '.join(places)}, and {len(args)} were given", hint=hint)
        found = dict(self.functions)
        rest = []
        given = set()
        for name, x in zip(places, args, strict=False):
            if name in own:
                found[name] = _callable(p, name, x)
                given.add(name)
            else:
                rest.append(x)
        for name in own & named.keys():
            if name in given:
                raise LossError(f"the function {name!r} of {p.name} is given twice, by position and by name")
            found[name] = _callable(p, name, named[name])
        others = {k: x for k, x in named.items() if k not in own}
        unknown = next((k for k, x in others.items() if callable(x) and k not in places and k not in self.convention.known), None)
        if unknown is not None:
            raise LossError(f"{p.name} takes no function {unknown!r}", hint=did_you_mean(unknown, own) or f"it takes {', '.join(own)}")
        for f in p.functions:
            if f.name not in found:
                raise LossError(f"{p.name} needs the function {f.name!r}", hint=f"give one: {f.name} = net, at its place or by name")
        return self.inner.applying(found, bool(named.get("check"))), rest, others


def _callable(program: Program, name: str, f: Any) -> Callable[..., Any]:
    if not callable(f):
        raise LossError(f"the function {name!r} of {program.name} is {f!r:.60}, which is no function", hint="give a module or a callable")
    found: Callable[..., Any] = f
    return found


@dataclass
class Given:
    """A function of a caller's with what its kind promises; ``slopes`` says whether its derivatives are needed.

    ``known`` are the lengths of axes in this call, which all functions share: what one of them gives tells those of axes that no
    array has. ``sizes`` are those of the kind's own names in the present evaluation.
    """

    loss: str
    function: Function
    call: Callable[..., Any]
    known: dict[str, int]
    slopes: bool = False
    check: bool = False
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def kind(self) -> FunctionKind:
        assert self.function.kind is not None
        return self.function.kind

    @property
    def said(self) -> str:
        return f"the function {self.function.name!r} of {self.loss}"

    def __post_init__(self) -> None:
        """Refuse a function that does not take as many arguments, as far as that can be told."""
        n = len(self.kind.arguments)
        try:
            signature = inspect.signature(getattr(self.call, "forward", self.call))
        except (ValueError, TypeError):
            return
        try:
            signature.bind(*[None] * n)
        except TypeError:
            hint = "it is called with one array for each argument that its kind declares"
            raise LossError(f"{self.said} takes {signature}, and is given {n} argument{'s' * (n != 1)}", hint=hint) from None

    def lengths(self, shapes: Sequence[tuple[int, ...]]) -> int:
        """The number of rows, and the lengths of the axes that the arguments tell."""
        self.sizes = {}
        for a, shape in zip(self.kind.arguments, shapes, strict=True):
            self.sizes |= {n: k for (_, n), k in zip(a.axes, shape[1:], strict=True)}
        return shapes[0][0]

    def check_shape(self, shape: tuple[int, ...], rows: int) -> None:
        """Refuse values of another shape than the kind says; a number for each row may have a last axis of length 1."""
        axes = [n for _, n in self.kind.result.axes]
        if not axes and shape == (rows, 1):
            return
        own = {n: self.sizes.get(n, self.known.get(root)) for root, n in self.kind.result.axes}
        due = [rows, *("any" if own[n] is None else own[n] for n in axes)]
        if len(shape) != len(due) or any(k not in (d, "any") and d != "any" for k, d in zip(shape, due, strict=True)):
            text = f"({', '.join(n if d == 'any' else str(d) for n, d in zip(['rows', *axes], due, strict=True))}{',' * (len(due) == 1)})"
            gives = "one number for each row" if not axes else f"an array over [{', '.join(axes)}] for each row"
            hint = f"it is called with all rows together and gives {gives}"
            raise LossError(f"{self.said} gave shape {shape}, and {text} is due", hint=hint)
        for (root, n), k in zip(self.kind.result.axes, shape[1:], strict=True):
            if n not in self.sizes:
                self.known.setdefault(root, k)
                self.sizes[n] = k

    def check_values(self, value: Any) -> None:
        """Refuse values outside of the kind's domain."""
        k = self.kind.result
        shown = Input(self.function.name, Kind(k.name, k.axes, k.of, k.interval))
        bad = outside(shown, value, self.sizes)
        if bad.any():
            at = tuple(int(j) for j in np.argwhere(bad)[0])
            domain = k.row.doc if k.interval is None else k.interval
            raise LossError(f"{self.said} gave {value[at]} at {at}, and its values are {k.name}: {domain}")


class OnArrays(Given):
    """A function on NumPy arrays: it gives its values, or ``(values, gradient)``, with a gradient for each argument if there are several.

    A gradient has the axes of the result, then those of the argument, after the axis of the rows.
    """

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        rows = self.lengths([x.shape for x in args])
        out = self.call(*args)
        value, *slopes = out if isinstance(out, (tuple, list)) and not (len(out) == rows and _numbers(out)) else (out,)
        slopes = list(slopes[0]) if len(args) > 1 and len(slopes) == 1 and isinstance(slopes[0], (tuple, list)) else slopes
        value = self._array(value, "values")
        self.check_shape(value.shape, rows)
        value = value.reshape(value.shape[: 1 + len(self.kind.result.axes)])
        if self.check:
            self.check_values(value)
        if not self.slopes:
            return (value,)
        if len(slopes) != len(args):
            many = "a gradient for each argument" if len(args) > 1 else "its gradient"
            hint = "give (values, gradient)" if len(args) == 1 else "give (values, (gradient, gradient, ..)), in the order of the arguments"
            raise LossError(f"{self.loss} needs derivatives of {self.function.name!r}, which gave its values without {many}", hint=hint)
        return (value, *(self._slope(k, g, value.shape, x.shape) for k, (g, x) in enumerate(zip(slopes, args, strict=True))))

    def _array(self, x: Any, what: str) -> Any:
        try:
            a = np.asarray(x)
        except (ValueError, TypeError, RuntimeError):
            a = np.asarray(None)
        if a.dtype.kind not in "fiub":
            hint = "on arrays a function takes and gives NumPy arrays; the torch backend takes modules"
            raise LossError(f"{self.said} gave {what} that are no array of numbers: {type(x).__name__}", hint=hint)
        return a

    def _slope(self, k: int, g: Any, value: tuple[int, ...], x: tuple[int, ...]) -> Any:
        due = value + x[1:]
        if g is None:
            return np.zeros(due)
        a = self._array(g, "gradients")
        if a.shape != due:
            which = f" by argument {k + 1}" if len(self.kind.arguments) > 1 else ""
            hint = "a gradient has the rows, the axes of the result, then those of the argument"
            raise LossError(f"{self.said} gave a gradient{which} of shape {a.shape}, and {due} is due", hint=hint)
        return a


def _numbers(out: Sequence[Any]) -> bool:
    return all(isinstance(x, (int, float, np.number)) for x in out)
