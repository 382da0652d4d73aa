"""What is printed for NumPy: kernels, and modules that need nothing of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from lossdsl import pipeline
from lossdsl.codegen.numpy import NUMPY
from lossdsl.codegen.printer import Frame, print_function, with_helpers
from lossdsl.codegen.steps import print_steps
from lossdsl.errors import LossError
from lossdsl.ir.program import BATCH, Program
from lossdsl.passes.legalise import legalise
from lossdsl.passes.staged import Evaluation, Staged, staged
from lossdsl.schedule import Loop, schedule


def kernel(program: Program, what: str, wrt: Sequence[str], batch: frozenset[str]) -> dict[str, Any]:
    """The source of a kernel, see ``pipeline.kernel``, and what ``kernels.Kernel`` says of it."""
    if program.functions:
        return _applying(program, what, wrt, batch)
    legal = pipeline.kernel(program, "numpy", what, wrt, batch)
    scheduled = schedule(legal)
    widths = {tuple(str(a) for a in axes if a != BATCH) for s in scheduled.stages for axes in s.arrays}
    batched = any(BATCH in i.axes for i in legal.inputs)
    rows = [batched and any(i.axis == BATCH for i in o.indices) for o in legal.outputs]
    source = with_helpers(print_function(legal, scheduled, NUMPY, "kernel"), NUMPY)
    steps = any(isinstance(s, Loop) for s in scheduled.stages)
    return {"source": source, "widths": sorted(map(list, widths)), "rows": rows, "steps": steps}


def _applying(program: Program, what: str, wrt: Sequence[str], batch: frozenset[str]) -> dict[str, Any]:
    """A kernel that takes functions as its last arguments; it applies them to all rows together."""
    p = pipeline.closed(program, what, wrt, batch)
    batched = any(BATCH in i.axes for i in p.inputs)
    rows = [batched and any(i.axis == BATCH for i in o.indices) for o in p.outputs]
    plan = staged(p)
    source = with_helpers(_steps(p, plan, "kernel", "The results for rows."), NUMPY)
    return {"source": source, "widths": [], "rows": rows, "slopes": plan.slopes}


def _steps(program: Program, plan: Staged, name: str, doc: str) -> str:
    _check_order(program.name, plan)
    return print_steps(program, plan, _part, name, doc, NUMPY.reserved)


def _check_order(name: str, plan: Staged) -> None:
    """Refuse second derivatives of functions: a callable gives its value and its derivative."""
    deep = next((s for s in plan.steps if isinstance(s, Evaluation) and s.by), None)
    if deep is not None:
        message = f"{name} needs second derivatives of {deep.function!r}, and on arrays a function gives its value and its gradient"
        raise LossError(message, hint='the torch backend differentiates through it: compile("torch")')


def _part(name: str, program: Program) -> str:
    legal = legalise(program, "numpy")
    return print_function(legal, schedule(legal), NUMPY, name)


def standalone(program: Program, wrt: Sequence[str]) -> str:
    """A module of the functions ``value`` and ``value_and_grad`` that needs nothing of this package.

    Every input has a leading batch axis, but for a loss that names its sample axis.
    """
    if program.functions:
        return _standalone_applying(program, wrt)
    names = frozenset() if program.batch else frozenset(i.name for i in program.inputs)
    rows = "of each row; every input has a leading axis of rows" if names else "for one set of samples"
    defaults = {p.name: repr(float(p.default)).replace("inf", "np.inf") for p in program.params if p.default is not None}
    value = Frame(f"The loss {rows}.", defaults)
    parts = [_function(program, "value", (), names, value)]
    if wrt:
        seed = "{x} = np.full({like}.shape[0], {x}, {like}.dtype)" if names else "{x} = {like}.dtype.type({x})"
        said = "The loss" + (" of each row" if names else "") + f", and the gradient of seed*loss by {', '.join(wrt)}."
        frame = Frame(said, defaults | {pipeline.SEED: "1.0"}, {pipeline.SEED: seed})
        parts.append(_function(program, "gradient", wrt, names, frame))
    return f"{_title(program)}\n\n" + with_helpers("\n\n".join(parts), NUMPY)


def _title(program: Program) -> str:
    doc = program.doc or program.name
    return repr(doc) if '"' in doc or "\\" in doc else f'"""{doc}"""'


def _standalone_applying(program: Program, wrt: Sequence[str]) -> str:
    """A module of the function ``value``, and of ``value_and_grad`` if first derivatives of the functions are enough for it."""
    names = frozenset() if program.batch else frozenset(i.name for i in program.inputs)
    rows = "of each row; every input has a leading axis of rows" if names else "for one set of samples"
    p = pipeline.closed(program, "value", (), names)
    parts = [_steps(p, staged(p), "value", f"The loss {rows}.")]
    if wrt:
        said = "The loss" + (" of each row" if names else "") + f", and the gradient of seed*loss by {', '.join(wrt)}."
        p = pipeline.closed(program, "gradient", wrt, names)
        with contextlib.suppress(LossError):
            parts.append(_steps(p, staged(p), "value_and_grad", said))
    return f"{_title(program)}\n\n" + with_helpers("\n\n".join(parts), NUMPY)


def _function(program: Program, what: str, wrt: Sequence[str], names: frozenset[str], frame: Frame) -> str:
    legal = pipeline.kernel(program, "numpy", what, wrt, names)
    return print_function(legal, schedule(legal), NUMPY, "value" if what == "value" else "value_and_grad", frame)
