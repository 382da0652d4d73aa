"""Printed functions on NumPy arrays, run in blocks of rows whose intermediates stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BLOCK = 128 * 1024  # bytes of one intermediate: several of them fit into a second-level cache
_STEPS = 64 * 1024 * 1024  # where Python goes from step to step, rows are best taken together as far as memory allows

# glibc gives freed memory of this order back to the system, and the next block faults it in again page by page, until it has
# seen one larger allocation come and go.
np.empty(8 << 20, np.uint8)


@dataclass(frozen=True)
class Kernel:
    """A printed function, its source, and what is needed to run it in blocks.

    ``widths`` are the axes of the intermediates beside the batch; ``rows`` says for each output whether it has a row for each
    row of the batch, ``steps`` whether there is a loop. A kernel that takes all rows at once is ``whole``; ``slopes`` are the
    functions whose derivatives it needs.
    """

    run: Callable[..., Any]
    source: str
    widths: tuple[tuple[str, ...], ...]
    rows: tuple[bool, ...]
    steps: bool = False
    whole: bool = False
    slopes: frozenset[str] = frozenset()

    def width(self, sizes: Mapping[str, int]) -> int:
        """The numbers that the largest intermediate has for each row."""
        return max((math.prod(sizes.get(a, 1) for a in axes) for axes in self.widths), default=1)


def load(printed: Mapping[str, Any], name: str) -> Kernel:
    """The kernel that ``numpy_source.kernel`` has printed."""
    space: dict[str, Any] = {}
    exec(compile(printed["source"], f"<lossdsl {name}>", "exec"), space)  # our own printed text, never a user's
    widths, slopes, steps = tuple(map(tuple, printed["widths"])), printed.get("slopes"), bool(printed.get("steps"))
    return Kernel(space["kernel"], printed["source"], widths, tuple(printed["rows"]), steps, slopes is not None, frozenset(slopes or ()))


def run_in_blocks(kernel: Kernel, arrays: Sequence[Any], flags: Sequence[bool], params: Sequence[Any], n: int, sizes: Mapping[str, int],
            weight: Array | None, summed: bool) -> list[Any]:  # fmt: skip
    """Run a kernel, over blocks of rows if there are many; ``summed`` gives the weighted sum of the first output.

    What has no row for each row of the batch is a sum over it, and blocks add up.
    """
    item = max((x.dtype.itemsize for x in arrays if x.dtype.kind == "f"), default=8)
    rows = block_rows(kernel, sizes, item) if any(flags) else n
    if n <= 2 * rows or not any(flags) or kernel.whole:
        out = kernel.run(*arrays, *params)
        outputs = list(out) if isinstance(out, tuple) else [out]
        if summed:
            outputs[0] = _sum(outputs[0], weight)
        return [own(x, arrays) for x in outputs]
    whole: list[Any] = []
    sums: list[float] = []
    for start in range(0, n, rows):
        at = slice(start, start + rows)
        out = kernel.run(*[x[at] if b else x for x, b in zip(arrays, flags, strict=True)], *params)
        parts = out if isinstance(out, tuple) else (out,)
        if not whole:
            whole = [np.empty((n, *p.shape[1:]), p.dtype) if r else 0 for p, r in zip(parts, kernel.rows, strict=True)]
        first = 0
        if summed:
            sums.append(float(_sum(parts[0], None if weight is None else weight[at])))
            first = 1
        for k in range(first, len(parts)):
            if kernel.rows[k]:
                whole[k][at] = parts[k]
            else:
                whole[k] = whole[k] + parts[k]
    if summed:
        whole[0] = math.fsum(sums) if all(map(math.isfinite, sums)) else sum(sums)
    return whole


def block_rows(kernel: Kernel, sizes: Mapping[str, int], item: int) -> int:
    """The rows of one block."""
    return max(1, (_STEPS if kernel.steps else _BLOCK) // (max(1, kernel.width(sizes)) * item))


def own(x: Any, arrays: Sequence[Any]) -> Any:
    """An output that is no view of an input."""
    return x.copy() if isinstance(x, np.ndarray) and (x.base is not None or any(x is y for y in arrays)) else x


def _sum(rows: Array, weight: Array | None) -> Any:
    return rows.sum() if weight is None else (rows * weight).sum()
