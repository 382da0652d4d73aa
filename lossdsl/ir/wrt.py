"""Which names a program is differentiated by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.program import Program


def differentiated(program: Program, wrt: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """The names to differentiate by: those given, those the definition states, else its first input.

    Raises ``LossError`` for a name that is neither an input nor a hyper-parameter, or whose values are no real numbers.
    """
    names = _names(wrt) if wrt is not None else program.wrt or tuple(i.name for i in program.inputs[:1])
    known = {x.name: x for x in program.declared}
    for name in names:
        if names.count(name) > 1:
            hint = "name each once; hess gives second derivatives"
            raise LossError(f"{program.name} is to be differentiated twice by {name!r}", hint=hint)
        if any(f.name == name for f in program.functions):
            hint = "a gradient is taken by real numbers; torch finds its way to a function's own weights by itself"
            raise LossError(f"{program.name} cannot be differentiated by {name!r}, a function", hint=hint)
        if name not in known:
            hint = did_you_mean(name, known) or f"it has {', '.join(known)}"
            raise LossError(f"{program.name} has no input or hyper-parameter {name!r}", hint=hint)
        kind = known[name].kind
        if kind.role != "number":
            hint = "a gradient is taken by real numbers"
            raise LossError(f"{program.name} cannot be differentiated by {name!r}, a {kind.name}", hint=hint)
    if not names:
        raise LossError(f"{program.name} has no input to differentiate by")
    return names


def differentiable(program: Program, wrt: Sequence[str] | str | None = None) -> tuple[str, ...]:
    """The names to differentiate by where a value alone is good too: none if none are named and the first input is no number."""
    if wrt is None and not program.wrt and (not program.inputs or program.inputs[0].kind.role != "number"):
        return ()
    return differentiated(program, wrt)


def _names(wrt: Sequence[str] | str) -> tuple[str, ...]:
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, Iterable) else (wrt,)
    for name in names:
        if not isinstance(name, str):
            raise LossError(f"wrt holds {name!r}, which is no name", hint='name inputs or hyper-parameters: wrt=["f"]')
    return names
