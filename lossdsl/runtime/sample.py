"""Random inputs that satisfy a program's declarations."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isinf, prod
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lossdsl.errors import LossError
from lossdsl.ir.lengths import evaluate
from lossdsl.ir.program import Program
from lossdsl.ir.text import expression
from lossdsl.kinds import Interval, Kind
from lossdsl.runtime.smooth import Smooth

_SIZES = (5, 4, 3, 6, 7)


def sample(program: Program, seed: int = 0, batch: int | tuple[int, ...] = (),
           sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """A dict of arrays, one for each input: batch dimensions first, then the declared axes; of smooth functions where they are due.

    ``sizes`` gives the length of axes by name; others have the length that is declared, or get small different ones. The same
    seed gives the same arrays.
    """
    lengths = axis_sizes(program, sizes)
    lead = (batch,) if isinstance(batch, int) else tuple(batch)
    for what, n in (*(("the batch", n) for n in lead), *((f"axis {a!r}", n) for a, n in lengths.items())):
        if n < 0:
            raise LossError(f"{what} of a sample of {program.name} has length {n}")
    rng = np.random.default_rng(seed)
    arrays = {i.name: draw(rng, i.kind, lead, lengths) for i in program.inputs}
    functions = {f.name: Smooth(rng, f.kind, lengths) for f in program.functions if f.kind is not None}
    return {x.name: functions[x.name] if x.name in functions else arrays[x.name] for x in program.arguments} | functions


def axis_sizes(program: Program, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """The length of each axis: what ``sizes`` says, else what is declared, with the defaults of hyper-parameters, else a small one."""
    names = dict.fromkeys(a for i in program.inputs for a in (*i.axes, *((i.kind.root,) if i.kind.root else ())))
    names |= dict.fromkeys(a for f in program.functions if f.kind is not None for a, _ in f.kind.axes)
    declared = dict(program.lengths)
    out = {a: (sizes or {}).get(a, _SIZES[k % len(_SIZES)]) for k, a in enumerate(names) if a not in declared or a in (sizes or {})}
    for axis, length in declared.items():
        if axis in out and length.op == "num" and out[axis] != length.data:
            message = f"axis {axis!r} of {program.name} has length {length.data}, not {out[axis]}"
            raise LossError(message, hint=f"leave {axis!r} out of sizes")
    params = {p.name: int(p.default) for p in program.params if p.default is not None and p.kind.integer}
    while left := [a for a in declared if a in names and a not in out]:
        found = {a: n for a in left if (n := evaluate(declared[a], params, out)) is not None}
        if not found:
            message = f"axis {left[0]!r} of {program.name} has the length {expression(declared[left[0]])}, which is not known"
            raise LossError(message, hint=f"say it, sizes={{{left[0]!r}: 4}}, or bind the hyper-parameters")
        out |= found
    return out


def draw(rng: Generator, kind: Kind, lead: tuple[int, ...], lengths: Mapping[str, int]) -> NDArray[Any]:
    """One array of a kind."""
    x = _drawn(rng, kind, lead, lengths)
    return x.reshape(lead + tuple(prod(lengths[a] for a, _ in dim) for dim in kind.dimensions))


def _drawn(rng: Generator, kind: Kind, lead: tuple[int, ...], lengths: Mapping[str, int]) -> NDArray[Any]:
    """An array with a dimension for each axis."""
    shape = lead + tuple(lengths[a] for a, _ in kind.axes)
    match kind.name:
        case "sign":
            return rng.choice(np.array([-1.0, 1.0]), shape)
        case "binary":
            return rng.integers(0, 2, shape).astype(float)
        case "bool":
            return rng.integers(0, 2, shape).astype(bool)
        case "class":
            return rng.integers(0, max(lengths[str(kind.of)], 1), shape)
        case "label":
            return rng.integers(0, 3, shape)
        case "integer":
            low, high = _whole(kind.domain)
            return rng.integers(low, high + 1, shape)
        case "simplex":
            weights = rng.exponential(size=shape) + 1e-3
            axis = len(lead) + kind.along
            out: NDArray[Any] = weights / weights.sum(axis=axis, keepdims=True)
            return out
    return _within(rng, kind.domain, shape)


def _whole(domain: Interval) -> tuple[int, int]:
    low = 0 if isinf(domain.low) else int(domain.low)
    high = low + 4 if isinf(domain.high) else int(domain.high)
    return low, high


def _within(rng: Generator, domain: Interval, shape: tuple[int, ...]) -> NDArray[Any]:
    """Real numbers inside an interval, away from its ends."""
    low, high = float(domain.low), float(domain.high)
    if low == -inf and high == inf:
        return rng.normal(0, 2, shape)
    if high == inf:
        return low + rng.exponential(1.5, shape) + 1e-3
    if low == -inf:
        return high - rng.exponential(1.5, shape) - 1e-3
    return low + (high - low) * rng.uniform(0.02, 0.98, shape)
