"""The oracle: evaluates a program as it is written, in mpmath, at a precision that doubles until the result stands still.

A branch not taken, what a guard leaves out and the side of ``and`` or ``or`` that no longer decides are never evaluated. Nothing
is shared with the printers but the tables.

*Arithmetic* is IEEE's without a signed zero: ``inf - inf``, ``0*inf`` and ``0/0`` are NaN, ``x/0`` is an infinity of the sign
of x. NaN comes out of arithmetic that NaN goes into, powers included; ``x^0`` is 1 for every number x. An index outside its
axis, or one that is no whole number, gives NaN. The value of an index over an integer range is the integer itself.

*The measure.* Every entry of a result comes with two units, and "n ulp" means an error of at most n times the ulp at that unit
(``ulps``):

``scale``  max(|result|, the largest summand that the equation adds). A summand of ``add``, ``sub`` or a sum counts with the
           sensitivity of the result to it: through f it is multiplied by |f'|, through a product by the other factor, and of
           several ways the largest counts. A branch counts if it is taken, the entry of a max that is chosen; the terms of a
           norm and of a logsumexp enter through their derivatives, and a logsumexp has its largest term as a summand. Inputs
           are exact and count only where they are summands.
``noise``  the same with every intermediate value in place of the summands (and with numbers that binary fractions cannot
           hold): the effect of rounding each value once. No evaluation in floating point that follows the written equation
           does better, and a stable one often does. It is never below ``scale``.

Sensitivities are of first order, found by differences of the function itself and never from the table's derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mpmath
import numpy as np

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.expr import Range, postorder
from lossdsl.ir.lengths import evaluate as evaluate_whole
from lossdsl.ir.program import Output, Program
from lossdsl.passes.slopes import worked_out
from lossdsl.runtime.arithmetic import Measured, log2
from lossdsl.runtime.evaluator import Evaluator, Meanings
from lossdsl.runtime.exact import Arrays, Bound, Params, bind, entries, nearest_mpf
from lossdsl.runtime.primitives import Mpf, slow

_AGREE = 30  # digits that two precisions must have in common
_NEAR, _FAR = 400, 6000  # digits at which to stop
_QUOTIENT = 90  # digits of the first difference quotient

Place = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Result:
    """One output: an mpf, or an object array of them, with the units of the measure; see the module's text.

    ``converged`` is False if some entry still moved when the precision reached the cap. ``margin`` tells how safely the conditions
    on the way were decided: the smallest distance of two numbers that were compared, relative to the largest value on which they
    depend and which floating point of the dtype (double if none was given) must round. Where it is not a few times larger than the
    dtype's eps, code may rightly decide otherwise: take the other branch at a jump, or the other side of a kink.
    """

    value: Any
    scale: Any
    noise: Any
    converged: bool = True
    margin: Any = math.inf

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The values as floats, or as another dtype."""
        return np.asarray(self.value, dtype=object).astype(float if dtype is None else dtype)

    def __float__(self) -> float:
        return float(self.value)


# -- values -----------------------------------------------------------------------------------------------------------


def evaluate(program: Program, arrays: Arrays, params: Params | None = None, *, digits: int = _AGREE, cap: int | None = None,
             dtype: Any = None, sizes: Mapping[str, int] | None = None) -> dict[str, Result]:
    """The outputs of a program for arrays of the declared axes, by name.

    The precision doubles until two values of each entry agree to ``digits`` digits. A zero, an infinity or a NaN is believed if it
    comes from exact numbers. Else the precision rises to 400 digits, where agreement relative to the noise is enough, or to ``cap``
    digits where a result is infinite or NaN or where two numbers that are compared cannot be told apart. By default the cap is 6000
    digits, enough for the exponential of ten thousand, and 400 for programs with functions of the gamma family.

    ``dtype`` rounds the numbers written in the program, and defaults, as code for this dtype does; without it they are exact.
    ``sizes`` gives lengths of axes that no input carries.
    """
    program = written_out(program)
    bound = bind(program, arrays, params or {}, dtype, sizes)
    cap = cap or (_NEAR if any(e.op == "call" and slow(e.data) for e in postorder(program.roots)) else _FAR)
    ctx = context()
    precision = min(digits + 10, cap)
    before: dict[Place, Measured] = {}
    done: dict[Place, Measured] = {}
    left, closest, far = places(bound), math.inf, False
    while True:
        ctx.dps = precision
        arithmetic = Meanings(ctx, bound.bits).measuring
        evaluator = bound.evaluator(arithmetic)
        now = {place: number_at(bound, evaluator, program.outputs[place[0]], place[1]) for place in left}
        closest = min(closest, arithmetic.closest)
        if not arithmetic.undecided:
            done |= {place: value for place, value in now.items() if place in before and settled(before[place], value, digits)}
        left = [place for place in left if place not in done]
        far |= arithmetic.undecided or any(now[place].lg == math.inf for place in left)
        limit = cap if far else min(max(_NEAR, 2 * digits), cap)
        if not left or precision >= limit:
            break
        before, precision = now, min(2 * precision, limit)
    moved = {place for place in left if not level(before.get(place), now[place], digits)}
    return collect(bound, done | {place: now[place] for place in left}, moved, closest)


def written_out(program: Program) -> Program:
    """The program with the gradients inside it worked out and nothing else done to it."""
    return worked_out(program, lambda p: p, lambda p: p)


def context() -> Any:
    """A context whose precision is nobody else's."""
    return mpmath.mp.clone()


def places(bound: Bound) -> list[Place]:
    """Every entry of every output: the output's number and a position."""
    return [(k, point) for k, o in enumerate(bound.program.outputs) for point in np.ndindex(*shape_of(bound, o))]


def shape_of(bound: Bound, output: Output) -> tuple[int, ...]:
    return tuple(len(span) for span in spans_of(bound, output))


def spans_of(bound: Bound, output: Output) -> list[range]:
    """The values that the indices of an output take."""
    spans = []
    for index in output.indices:
        axis = index.axis
        if isinstance(axis, Range):
            low, high = (evaluate_whole(e, bound.whole, bound.sizes) for e in (axis.lo, axis.hi))
            if low is None or high is None:
                raise LossError(f"an end of the range {axis} of output {output.name!r} is no whole number")
            spans.append(range(low, high + 1))
        elif axis not in bound.sizes:
            raise LossError(f"the length of axis {axis!r} of output {output.name!r} is unknown")
        else:
            spans.append(range(bound.sizes[axis]))
    return spans


def number_at(bound: Bound, evaluator: Evaluator, output: Output, point: tuple[int, ...]) -> Any:
    """One entry of an output; a condition counts as 0 or 1."""
    at: Sequence[int] = point
    if any(isinstance(i.axis, Range) for i in output.indices):
        at = [span[k] for span, k in zip(spans_of(bound, output), point, strict=True)]
    value = evaluator.at(output.expr, output.indices, at)
    return evaluator.arithmetic.leaf(evaluator.ctx.mpf(int(value))) if isinstance(value, bool) else value


def settled(a: Measured, b: Measured, digits: int) -> bool:
    """Whether two values of one number, found at rising precision, are the number."""
    if not b.v or b.lg == math.inf:
        return b.exact and alike(a, b)
    return a.lg < math.inf and log2(a.v - b.v) <= b.lg - digits * math.log2(10)


def alike(a: Measured, b: Measured) -> bool:
    """Whether both are the same number, infinity or NaN."""
    return bool(a.v == b.v or (a.v != a.v and b.v != b.v))


def level(a: Measured | None, b: Measured, digits: int) -> bool:
    """Whether two values agree relative to the noise."""
    if a is None or a.lg == math.inf or b.lg == math.inf:
        return a is not None and alike(a, b)
    return log2(a.v - b.v) <= max(b.lg, b.n) - digits * math.log2(10)


def collect(bound: Bound, found: Mapping[Place, Measured], moved: set[Place], closest: float) -> dict[str, Result]:
    out = {}
    for k, o in enumerate(bound.program.outputs):
        shape = shape_of(bound, o)
        of = [found[k, point] for point in np.ndindex(*shape)]
        value = arranged([public(x.v) for x in of], shape)
        scale = arranged([power_of_two(max(x.lg, x.s)) for x in of], shape)
        noise = arranged([power_of_two(max(x.lg, x.s, x.n)) for x in of], shape)
        converged = not any(place[0] == k for place in moved)
        out[o.name] = Result(value, scale, noise, converged, 2.0 ** min(closest, 1000.0))
    return out


def public(x: Mpf) -> Any:
    """The same number as an ordinary mpf."""
    return mpmath.mp.make_mpf(x._mpf_)


def power_of_two(lg: float) -> Any:
    if math.isinf(lg):
        return mpmath.mp.zero if lg < 0 else mpmath.mp.inf
    whole = math.floor(lg)
    return mpmath.ldexp(mpmath.mpf(2.0 ** (lg - whole)), whole)


def arranged(values: list[Any], shape: tuple[int, ...]) -> Any:
    """An object array of the shape, or the one value itself."""
    if not shape:
        return values[0]
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out.reshape(shape)


def evaluate_rows(program: Program, arrays: Arrays, params: Params | None = None, batched: set[str] | None = None,
                  **options: Any) -> dict[str, Result]:
    """``evaluate`` for each entry of the leading axis of the inputs named in ``batched`` (all, if not said), stacked."""
    names = set(arrays) if batched is None else batched
    lengths = {name: len(arrays[name]) for name in names}
    if len(set(lengths.values())) != 1:
        raise LossError(f"the batched inputs differ in length: {lengths}")
    (count,) = set(lengths.values())
    rows = [evaluate(program, {k: v[i] if k in names else v for k, v in arrays.items()}, params, **options) for i in range(count)]
    return {o.name: stacked([row[o.name] for row in rows]) for o in program.outputs}


def stacked(rows: list[Result]) -> Result:
    def stack(values: list[Any]) -> Any:
        arrays = [np.asarray(v, dtype=object) for v in values]
        return np.stack(arrays) if arrays else np.empty(0, dtype=object)

    value, scale, noise = (stack([getattr(r, name) for r in rows]) for name in ("value", "scale", "noise"))
    return Result(value, scale, noise, all(r.converged for r in rows), np.array([r.margin for r in rows]))


# -- differences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A direction, as the entries of each name that move and how fast, and a step along it."""

    moves: Mapping[str, Mapping[int, Any]]
    step: float


def differences(program: Program, arrays: Arrays, params: Params | None = None, wrt: str = "", h: float = 1e-20, *, cap: int = 800,
                dtype: Any = None) -> Any:
    """Central differences by every entry of an input or hyper-parameter: an array of the output's axes, then the input's.

    The step is ``h``, and ``h*|x|`` at an entry x between -1 and 1 other than 0. Every ``stop`` has the value that it has at the
    point itself. A program with several outputs gives a dict by their names. The precision rises to at most ``cap`` digits.
    """
    bound = bind(written_out(program), arrays, params or {}, dtype)
    if wrt not in bound.values:
        raise LossError(f"{program.name} has no input {wrt!r} to differentiate by", hint=did_you_mean(wrt, bound.values))
    flat, shape = bound.values[wrt]
    lines = [Line({wrt: {i: 1}}, _step(x, h)) for i, x in enumerate(flat)]
    out = _by_output(bound, _slopes(bound, lines, cap), shape)
    return out if len(out) > 1 else next(iter(out.values()))


def directional(program: Program, arrays: Arrays, params: Params | None = None, direction: Mapping[str, Any] | None = None,
                h: float = 1e-20, *, cap: int = 800, dtype: Any = None) -> dict[str, Any]:
    """The derivative of each output along a direction, an array for each name that moves, by central differences."""
    bound = bind(written_out(program), arrays, params or {}, dtype)
    moves: dict[str, dict[int, Any]] = {}
    for name, along in (direction or {}).items():
        flat, shape = entries(name, along)
        if name not in bound.values or shape not in bound.shapes(name):
            raise LossError(f"the direction {name!r} has shape {shape} and fits no input of {program.name}")
        moves[name] = dict(enumerate(flat))
    return _by_output(bound, _slopes(bound, [Line(moves, h)], cap), ())


def _step(x: Any, h: float) -> float:
    size = float(abs(nearest_mpf(mpmath.mp, x)))
    return h * size if 0 < size < 1 and h * size > 0 else h


def _by_output(bound: Bound, columns: list[dict[Place, Any]], shape: tuple[int, ...]) -> dict[str, Any]:
    out = {}
    for k, o in enumerate(bound.program.outputs):
        lengths = shape_of(bound, o)
        out[o.name] = arranged([column[k, point] for point in np.ndindex(*lengths) for column in columns], (*lengths, *shape))
    return out


def _slopes(bound: Bound, lines: list[Line], cap: int) -> list[dict[Place, Any]]:
    """``(f(x + h*d) - f(x - h*d))/(2h)`` at every place, for each line through x, at a precision that doubles as needed."""
    ctx = context()
    ctx.dps = _QUOTIENT
    found: list[dict[Place, Any]] = [{} for _ in lines]
    before: list[dict[Place, Quotient]] = [{} for _ in lines]
    while True:
        base = bound.evaluator(Meanings(ctx).bare)
        moving = bound.evaluator(base.arithmetic, frozen=base)
        for line, done, last in zip(lines, found, before, strict=True):
            left = [place for place in places(bound) if place not in done]
            now = _quotients(moving, base, bound, line, left) if left else {}
            done |= {p: public(q.value) for p, q in now.items() if ctx.dps >= cap or (p in last and _agree(ctx, last[p], q))}
            last |= now
        if all(len(done) == len(places(bound)) for done in found):
            return found
        ctx.dps = min(2 * ctx.dps, cap)


class Quotient(NamedTuple):
    """A difference quotient, and the size of the values whose difference it is."""

    value: Mpf
    of: Mpf


def _quotients(moving: Evaluator, base: Evaluator, bound: Bound, line: Line, wanted: list[Place]) -> dict[Place, Quotient]:
    ctx = base.ctx
    h = ctx.mpf(line.step)
    ends = []
    for step in (h, -h, ctx.zero):  # the last sets the point itself again
        moving.forget(line.moves)
        for name, along in line.moves.items():
            for i, d in along.items():
                moving.tables[name].flat[i] = base.tables[name].flat[i] + step * nearest_mpf(ctx, d)
        if step:
            ends.append([number_at(bound, moving, bound.program.outputs[k], point) for k, point in wanted])
    return {place: Quotient((up - down) / (2 * h), abs(up) + abs(down)) for place, up, down in zip(wanted, *ends, strict=True)}


def _agree(ctx: Any, first: Quotient, second: Quotient) -> bool:
    """Whether two quotients agree to 30 digits, or to 50 digits of what they are the difference of; an infinity or NaN never does."""
    a, b = first.value, second.value
    if not (ctx.isfinite(a) and ctx.isfinite(b)):
        return False
    return bool(abs(a - b) <= max(abs(b) * ctx.mpf(10) ** -_AGREE, second.of * ctx.mpf(10) ** -50))


# -- the measure ------------------------------------------------------------------------------------------------------


def ulps(got: Any, result: Result, dtype: Any = np.float64, unit: str = "scale") -> float:
    """The largest error of ``got`` over all entries, in ulp of the dtype at max(|value|, ``unit``): "scale", "noise" or "value".

    It is inf where a NaN or an infinity stands on one side only. A value beyond the dtype's range counts as the infinity it
    rounds to. Results below the normal range may be flushed to 0, so no ulp is less than the smallest normal number.
    """
    values = np.asarray(result.value, dtype=object).reshape(-1)
    units = np.asarray(getattr(result, unit), dtype=object).reshape(-1)
    flat, shape = entries("got", got)
    if shape != np.shape(result.value):
        raise LossError(f"a result of shape {shape} is measured against one of shape {np.shape(result.value)}")
    return max((_ulps_of(mpmath.mp.make_mpf(x), v, u, np.finfo(dtype)) for x, v, u in zip(flat, values, units, strict=True)), default=0.0)


def _ulps_of(got: Any, value: Any, unit: Any, info: Any) -> float:
    if mpmath.isnan(got) or mpmath.isnan(value):
        return 0.0 if mpmath.isnan(got) and mpmath.isnan(value) else math.inf
    with mpmath.workprec(200):
        largest = mpmath.mpf(float(info.max)) * (1 + mpmath.mpf(float(info.eps)) / 4)
        if mpmath.isinf(got) or abs(value) >= largest:
            beyond = abs(value) >= largest and (abs(got) == mpmath.inf or abs(got) >= float(info.max)) and (got > 0) == (value > 0)
            return 0.0 if beyond else math.inf
        top = max(abs(value), unit, mpmath.mpf(float(info.tiny)))
        if mpmath.isinf(top):
            return 0.0
        ulp = mpmath.ldexp(float(info.eps), int(mpmath.mag(top)) - 1)
        return float(abs(got - value) / max(ulp, mpmath.mpf(float(info.tiny))))
