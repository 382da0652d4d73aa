"""What is printed for NumPy: kernels, and modules that need nothing of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossdsl import pipeline
from lossdsl.codegen.numpy import NUMPY
from lossdsl.codegen.printer import Frame, print_function, with_helpers
from lossdsl.ir.program import BATCH, Program
from lossdsl.schedule import schedule


def kernel(program: Program, what: str, wrt: Sequence[str], batch: frozenset[str]) -> dict[str, Any]:
    """The source of a kernel, see ``pipeline.kernel``, and what ``kernels.Kernel`` says of it."""
    legal = pipeline.kernel(program, "numpy", what, wrt, batch)
    scheduled = schedule(legal)
    widths = {tuple(str(a) for a in axes if a != BATCH) for s in scheduled.stages for axes in s.arrays}
    batched = any(BATCH in i.axes for i in legal.inputs)
    rows = [batched and any(i.axis == BATCH for i in o.indices) for o in legal.outputs]
    source = with_helpers(print_function(legal, scheduled, NUMPY, "kernel"), NUMPY)
    return {"source": source, "widths": sorted(map(list, widths)), "rows": rows}


def standalone(program: Program, wrt: Sequence[str]) -> str:
    """A module of the functions ``value`` and ``value_and_grad`` that needs nothing of this package.

    Every input has a leading batch axis, but for a loss that names its sample axis.
    """
    names = frozenset() if program.batch else frozenset(i.name for i in program.inputs)
    rows = "of each row; every input has a leading axis of rows" if names else "for one set of samples"
    defaults = {p.name: repr(float(p.default)).replace("inf", "np.inf") for p in program.params if p.default is not None}
    value = Frame(f"The loss {rows}.", defaults)
    doc = program.doc or program.name
    title = repr(doc) if '"' in doc or "\\" in doc else f'"""{doc}"""'
    parts = [_function(program, "value", (), names, value)]
    if wrt:
        seed = "{x} = np.full({like}.shape[0], {x}, {like}.dtype)" if names else "{x} = {like}.dtype.type({x})"
        said = "The loss" + (" of each row" if names else "") + f", and the gradient of seed*loss by {', '.join(wrt)}."
        frame = Frame(said, defaults | {pipeline.SEED: "1.0"}, {pipeline.SEED: seed})
        parts.append(_function(program, "gradient", wrt, names, frame))
    return f"{title}\n\n" + with_helpers("\n\n".join(parts), NUMPY)


def _function(program: Program, what: str, wrt: Sequence[str], names: frozenset[str], frame: Frame) -> str:
    legal = pipeline.kernel(program, "numpy", what, wrt, names)
    return print_function(legal, schedule(legal), NUMPY, "value" if what == "value" else "value_and_grad", frame)
