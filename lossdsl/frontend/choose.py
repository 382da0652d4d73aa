"""A loss with other functions put in for its function-valued hyper-parameters: its text is read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lossdsl.errors import LossError, did_you_mean, listed
from lossdsl.frontend.load import load_text
from lossdsl.frontend.words import OPEN
from lossdsl.ir import text
from lossdsl.ir.program import Program


def chosen(program: Program, functions: Mapping[str, str | Program | None]) -> Program:
    """The program with each function that is named: by the name of a function or a loss, as a program, or None to leave it open.

    Raises ``LossError`` for what is no function of the program, or does not fit where it is applied.
    """
    known = {f.name: f for f in program.source.functions}
    names: dict[str, str] = {}
    texts: dict[str, str] = {}
    for name, what in functions.items():
        if name not in known:
            hint = did_you_mean(name, known) or (f"it takes {listed(known)}" if known else "it takes no function")
            raise LossError(f"{program.name} takes no function {name!r}", hint=hint)
        if isinstance(what, Program):
            if len(what.outputs) != 1 or what.functions:
                raise LossError(
                    f"{what.name} cannot stand for {name!r} of {program.name}", hint="give a loss that takes no functions itself"
                )
            names[name] = f"_{name}_{what.name.strip('_')}"
            own = replace(what, name=names[name], outputs=(replace(what.outputs[0], name=names[name]),), doc="", notes=(), written=None)
            texts[names[name]] = text.program(own)
        else:
            names[name] = OPEN if what is None else what
    whole = "\n\n".join((*texts.values(), text.program(program)))
    return load_text(whole, f"<{program.name}>", names)[program.name]
