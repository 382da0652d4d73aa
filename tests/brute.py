"""A slow, plain evaluator of programs in Python floats, to compare printed code with: one recursion, no arrays of results."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossdsl.ir import rows
from lossdsl.ir.expr import Axis, Expr, Index, Range
from lossdsl.ir.program import Program

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
FUNCTIONS: dict[str, Any] = {
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "sqrt": np.sqrt, "abs": abs, "max": np.maximum, "min": np.minimum,
    "tanh": np.tanh, "floor": np.floor, "sign": np.sign, "stop": lambda x: x, "cbrt": np.cbrt, "cosh": np.cosh, "sin": np.sin,
}  # fmt: skip


class Brute:
    def __init__(self, program: Program, values: Mapping[str, Any]) -> None:
        self.program, self.values = program, values
        self.sizes: dict[str, int] = {}
        for i in program.inputs:
            for axis, n in zip(i.axes, np.shape(values[i.name]), strict=True):
                self.sizes[axis] = n

    def outputs(self) -> list[Any]:
        out = []
        for o in self.program.outputs:
            shape = [self.sizes[i.axis] for i in o.indices]
            a = np.empty(shape)
            for at in itertools.product(*map(range, shape)):
                a[at] = self.of(o.expr, dict(zip(o.indices, at, strict=True)))
            out.append(a)
        return out

    def along(self, axis: Axis, at: Mapping[Index, int]) -> range:
        if isinstance(axis, Range):
            return range(int(self.of(axis.lo, at)), int(self.of(axis.hi, at)) + 1)
        return range(self.sizes[axis])

    def of(self, e: Expr, at: Mapping[Index, int]) -> Any:
        with np.errstate(all="ignore"):
            return self._of(e, at)

    def _of(self, e: Expr, at: Mapping[Index, int]) -> Any:  # noqa: C901, one case a node
        match e.op:
            case "num":
                return np.float64(e.data)
            case "const":
                return np.float64({"pi": math.pi, "inf": math.inf, "nan": math.nan}[e.data])
            case "bool":
                return e.data
            case "ix":
                return at[e.data]
            case "size":
                return np.float64(self.sizes[e.data])
            case "and":
                return self._of(e.args[0], at) and self._of(e.args[1], at)
            case "or":
                return self._of(e.args[0], at) or self._of(e.args[1], at)
            case "pw":
                for value, condition in zip(e.args[:-1:2], e.args[1::2], strict=True):
                    if self._of(condition, at):
                        return self._of(value, at)
                return self._of(e.args[-1], at)
            case "red":
                return self.reduction(e, at)
            case "ref":
                return self.reference(e, at)
            case "scan" | "rec":
                return self.recursion(e, at)
        args = [self._of(a, at) for a in e.args]
        match e.op:
            case "add":
                return args[0] + args[1]
            case "sub":
                return args[0] - args[1]
            case "mul":
                return args[0] * args[1]
            case "div":
                return np.float64(args[0]) / args[1]
            case "neg":
                return -args[0]
            case "pow":
                return np.power(np.float64(args[0]), args[1])
            case "cmp":
                return bool(COMPARE[e.data](*args))
            case "not":
                return not args[0]
            case "iverson":
                return np.float64(args[0])
        if e.data in FUNCTIONS:
            return FUNCTIONS[e.data](*(np.float64(a) for a in args)) if len(args) < 3 else FUNCTIONS[e.data](args[0], FUNCTIONS[e.data](*args[1:]))
        meaning = rows.meaning(e.data, e.args)
        assert meaning is not None, e.data
        return self._of(meaning, at)

    def reference(self, e: Expr, at: Mapping[Index, int]) -> Any:
        value = np.asarray(self.values[e.data])
        place = [self._of(a, at) for a in e.args]
        if any(not 0 <= p < n or p != int(p) for p, n in zip(place, value.shape, strict=True)):
            return math.nan
        out = value[tuple(int(p) for p in place)]
        return out if value.dtype == bool else int(out) if value.dtype.kind == "i" else np.float64(out)

    def recursion(self, e: Expr, at: Mapping[Index, Any]) -> Any:
        """An entry by entries before it; the state of a scan stands for the scan, and for where it stands itself."""
        if e.op == "scan":
            scan, around, places = e, at, e.args[1:]
        else:
            (scan, around), places = at[e.data[0]], e.args
        state, *binders = scan.data[1]
        place = [self._of(a, at) for a in places]
        if any(p not in self.along(b.axis, at) for p, b in zip(place, binders, strict=True)):
            return math.nan
        return self._of(scan.args[0], {**around, state: (scan, around), **dict(zip(binders, map(int, place), strict=True))})

    def reduction(self, e: Expr, at: Mapping[Index, int]) -> Any:
        op, binders = e.data
        found, places = [], []
        for where in itertools.product(*(self.along(b.axis, at) for b in binders)):
            inner = {**at, **dict(zip(binders, where, strict=True))}
            if self._of(e.args[1], inner):
                found.append(self._of(e.args[0], inner))
                places.append(where[0])
        x = np.array(found, float)
        match op:
            case "sum":
                return np.float64(math.fsum(x)) if np.isfinite(x).all() else x.sum()
            case "any":
                return bool(x.any())
            case "norm":
                return np.float64(math.hypot(*x))
            case "logsumexp":
                return np.logaddexp.reduce(x) if len(x) else np.float64(-math.inf)
            case "prod":
                return np.float64(math.prod(x))
            case "argsort":
                order = sorted(range(len(x)), key=lambda k: (math.isnan(x[k]), 0 if math.isnan(x[k]) else x[k]))
                place = self._of(e.args[2], at)
                return places[order[int(place)]] if 0 <= place < len(x) and place == int(place) else math.nan
        if not len(x):
            return math.nan
        return {"max": x.max, "min": x.min}[op]() if op in ("max", "min") else places[int({"argmax": x.argmax, "argmin": x.argmin}[op]())]
