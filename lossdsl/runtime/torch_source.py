"""What is printed for PyTorch: the modules and functions that ``on_torch`` loads. PyTorch itself is not needed to print them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lossdsl import pipeline
from lossdsl.codegen.torch_module import Tower, single, standalone
from lossdsl.ir.expr import ZERO, Index, ix, pw, ref
from lossdsl.ir.program import BATCH, Input, Program
from lossdsl.kinds import Kind
from lossdsl.passes.batch import batched

KEEP = "~keep"


def tower(program: Program, wrt: Sequence[str], names: frozenset[str], keep: bool) -> Tower:
    """The functions of a loss whose inputs in ``names`` have a batch; with ``keep``, with a condition on the rows that count."""
    rows = batched(pipeline.stable(program), set(names))
    return Tower(_kept(rows) if keep else rows, wrt, pipeline.closed_form, pipeline.numeric)


def function(tower: Tower, name: str) -> list[str]:
    """One function with what it needs around it: the name under which it is printed, and its text."""
    same = tower.same(name)
    return [same, standalone(tower.function(same))]


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
