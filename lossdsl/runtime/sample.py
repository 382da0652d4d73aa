"""Random inputs that satisfy a program's declarations."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isinf
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lossdsl.errors import LossError
from lossdsl.ir.program import Program
from lossdsl.kinds import Interval, Kind

_SIZES = (5, 4, 3, 6, 7)


def sample(program: Program, seed: int = 0, batch: int | tuple[int, ...] = (),
           sizes: Mapping[str, int] | None = None) -> dict[str, NDArray[Any]]:
    """A dict of arrays, one for each input: batch dimensions first, then the declared axes.

    ``sizes`` gives the length of axes by name; others get small different lengths. The same seed gives the same arrays.
    """
    lengths = axis_sizes(program, sizes)
    lead = (batch,) if isinstance(batch, int) else tuple(batch)
    for what, n in (*(("the batch", n) for n in lead), *((f"axis {a!r}", n) for a, n in lengths.items())):
        if n < 0:
            raise LossError(f"{what} of a sample of {program.name} has length {n}")
    rng = np.random.default_rng(seed)
    return {i.name: draw(rng, i.kind, lead, lengths) for i in program.inputs}


def axis_sizes(program: Program, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    names = dict.fromkeys(a for i in program.inputs for a in (*i.axes, *((i.kind.of,) if i.kind.of else ())))
    return {a: (sizes or {}).get(a, _SIZES[k % len(_SIZES)]) for k, a in enumerate(names)}


def draw(rng: Generator, kind: Kind, lead: tuple[int, ...], lengths: Mapping[str, int]) -> NDArray[Any]:
    """One array of a kind."""
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
            axis = len(lead) + [a for a, _ in kind.axes].index(str(kind.of))
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
