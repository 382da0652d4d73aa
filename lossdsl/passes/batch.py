"""Give a program a leading axis, along which named inputs differ and the equation repeats."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from lossdsl.errors import NotYet
from lossdsl.ir.expr import BINDING, Expr, Index, Range, ix, postorder, ref, references, rewrite
from lossdsl.ir.program import BATCH, Input, Output, Program

AT = Index(BATCH, BATCH)


def batched(program: Program, names: Set[str]) -> Program:
    """The program over a batch: the named inputs, and the outputs if there are any such inputs, get the batch as their first axis."""
    _check_ranges(program, names)

    def visit(e: Expr) -> Expr:
        return ref(e.data, (ix(AT), *e.args)) if e.op == "ref" and e.data in names else e

    roots = rewrite(program.roots, visit)
    inputs = tuple(_leading(i) if i.name in names else i for i in program.inputs)
    lead = (AT,) if names else ()
    outputs = tuple(Output(o.name, (*lead, *o.indices), e) for o, e in zip(program.outputs, roots, strict=True))
    return replace(program, inputs=inputs, outputs=outputs)


def _leading(i: Input) -> Input:
    return replace(i, kind=replace(i.kind, axes=((BATCH, BATCH), *i.kind.axes)))


def _check_ranges(program: Program, names: Set[str]) -> None:
    for e in postorder(program.roots):
        if e.op in BINDING:
            ends = [x for b in e.data[1] if isinstance(b.axis, Range) for x in (b.axis.lo, b.axis.hi)]
            if references(ends) & names:
                hint = "let the range depend on hyper-parameters and sizes"
                raise NotYet(f"{program.name} has an integer range whose ends depend on an input", hint=hint)
