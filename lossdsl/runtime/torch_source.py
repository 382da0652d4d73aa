"""What is printed for PyTorch: the modules and functions that ``on_torch`` loads. PyTorch itself is not needed to print them."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lossdsl import pipeline
from lossdsl.codegen.printer import print_function, with_helpers
from lossdsl.codegen.steps import print_steps
from lossdsl.codegen.torch import TORCH
from lossdsl.codegen.torch_module import Tower, real_names, single, standalone
from lossdsl.ir.expr import ZERO, Index, ix, pw, ref
from lossdsl.ir.program import BATCH, Input, Program
from lossdsl.kinds import Kind
from lossdsl.passes.batch import batched
from lossdsl.passes.legalise import legalise
from lossdsl.passes.staged import Staged, staged
from lossdsl.schedule import schedule

KEEP = "~keep"


def tower(program: Program, wrt: Sequence[str], names: frozenset[str], keep: bool) -> Tower:
    """The functions of a loss whose inputs in ``names`` have a batch; with ``keep``, with a condition on the rows that count."""
    rows = batched(pipeline.stable(program), set(names))
    return Tower(_kept(rows) if keep else rows, wrt, pipeline.closed_form, pipeline.numeric)


def function(tower: Tower, name: str) -> list[str]:
    """One function with what it needs around it: the name under which it is printed, and its text."""
    same = tower.same(name)
    return [same, standalone(tower.function(same))]


def applying(program: Program, names: frozenset[str], *, lazy: bool) -> dict[str, Any]:
    """A module whose ``apply`` takes functions as its last arguments: they are applied in plain torch, between parts with closed forms.

    ``slopes`` are the functions whose derivatives it needs. With ``lazy`` the second derivatives of part k are asked for as ``k:name``.
    """
    p, plan = _plan(program, names)
    count = itertools.count()

    def part(name: str, q: Program) -> str:
        k = next(count)
        if not any(i.kind.role == "number" for i in q.inputs):
            return _plain(name, q)
        body = _part(q).body(lazy=lazy, tag=f"{k}:")
        return f"def {name}():\n{textwrap.indent(body.strip(), '    ')}\n\n    return apply\n\n\n{name} = {name}()\n"

    text = print_steps(p, plan, part, "apply", "The loss of every row; functions come last.", TORCH.reserved)
    return {"source": with_helpers(text, TORCH), "slopes": plan.slopes}


def part_function(program: Program, names: frozenset[str], name: str) -> list[str]:
    """One function of a part that ``applying`` asks for: the name under which it is printed, and its text."""
    _, plan = _plan(program, names)
    parts: list[Program] = []

    def part(_: str, q: Program) -> str:
        parts.append(q)
        return ""

    print_steps(program, plan, part, "apply", "", ())
    k, _, own = name.partition(":")
    return function(_part(parts[int(k)]), own)


def _plan(program: Program, names: frozenset[str]) -> tuple[Program, Staged]:
    p = batched(pipeline.stable(program), set(names))
    return p, staged(p)


def _part(program: Program) -> Tower:
    (output,) = program.outputs
    named = replace(program, outputs=(replace(output, name="value"),))
    return Tower(named, real_names(named), pipeline.closed_form, pipeline.numeric)


def applying_rows(program: Program, wrt: Sequence[str], names: frozenset[str]) -> dict[str, Any]:
    """A function of the value, the gradients and the diagonals of the Hessians of every row, and the functions that it differentiates."""
    p = pipeline.numeric(pipeline.explicit(batched(pipeline.with_diagonals(program, wrt), names)))
    plan = staged(p)

    return {"source": with_helpers(print_steps(p, plan, _plain, "rows", "", TORCH.reserved), TORCH), "slopes": plan.slopes}


def _plain(name: str, program: Program) -> str:
    """A part as a function that torch differentiates by itself."""
    legal = legalise(program, "torch")
    return print_function(legal, schedule(legal), TORCH, name)


def rows(program: Program, wrt: Sequence[str], names: frozenset[str], keep: bool) -> str:
    """A function of the value, the gradients and the diagonals of the Hessians of every row."""
    found = batched(pipeline.with_diagonals(program, wrt), names)
    return single(_kept(found) if keep else found, pipeline.numeric, "rows")


def _kept(program: Program) -> Program:
    """The program with a further condition over the batch; where it fails nothing is computed and the outputs are 0."""
    given = Input(KEEP, Kind("bool", ((BATCH, BATCH),)))
    keep = ref(KEEP, [ix(Index(BATCH, BATCH))])
    kept = program.with_roots(tuple(pw([(e, keep)], ZERO) for e in program.roots))
    return replace(kept, inputs=(*program.inputs, given))
