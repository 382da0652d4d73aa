"""Gradients inside an equation worked out, and passes over programs with functions in them.

A pass knows no functions: what they give stands as arrays among the inputs, and their arguments among the outputs, while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lossdsl.ir.applied import Hidden, has_slopes, hidden_input, is_applied, is_slope, lifted, open_slope, put_back, replaced
from lossdsl.ir.expr import ONE, Expr, Index, ix, postorder, rewrite, substitute
from lossdsl.ir.program import Input, Output, Program
from lossdsl.kinds import Kind
from lossdsl.passes.gradient import adjoints

Pass = Callable[[Program], Program]


def has_functions(program: Program) -> bool:
    return any(is_applied(e) for e in postorder(program.roots))


def worked_out(program: Program, before: Pass, after: Pass) -> Program:
    """The program with each gradient inside it as an expression: of what it is taken of after the pass ``before``, and then ``after``."""
    if not has_slopes(program.roots):
        return program
    return program.with_roots(rewrite(program.roots, lambda e: _gradient(program, e, before, after) if is_slope(e) else e))


def _gradient(program: Program, e: Expr, before: Pass, after: Pass) -> Expr:
    s = open_slope(e)
    own = tuple(Index(b.axis, f"{s.variable}.{k}") for k, b in enumerate(s.binders))
    x = Input(s.variable, _kind(program, s.value, s.binders, own))
    inner = before(replace(program, inputs=(*program.inputs, x), outputs=(Output("g", (), s.g),)))
    found = adjoints(inner, [x.name], [(inner.value, ONE, ())])[x.name]
    out = after(replace(inner, outputs=(Output("g", own, found),))).value

    def value(places: tuple[Expr, ...]) -> Expr:
        (at,) = substitute((s.value,), dict(zip(s.binders, places, strict=True)))
        return at

    (at,) = substitute((out,), dict(zip(own, s.places, strict=True)))
    return replaced(at, x.name, value)


def _kind(program: Program, value: Expr, binders: tuple[Index, ...], own: tuple[Index, ...]) -> Kind:
    """The kind of a variable: that of the input or hyper-parameter that it is."""
    axes: Any = tuple((i.axis, str(i.tag)) for i in own)  # a range among them is never printed
    if value.op == "ref" and value.args == tuple(ix(b) for b in binders):
        for x in program.declared:
            if x.name == value.data:
                return Kind("unit" if x.kind.name == "simplex" else x.kind.name, axes, interval=x.kind.interval)
    return Kind(axes=axes)


def through(step: Pass, program: Program) -> Program:
    """A pass over a program in which functions are applied."""
    if not has_functions(program):
        return step(program)
    plain, hidden = without_functions(program)
    done = step(plain)
    n = len(program.outputs)
    arguments = iter(done.roots[n:])
    hidden = [replace(h, arguments=tuple(next(arguments) for _ in h.arguments)) for h in hidden]
    return program.with_roots(put_back(done.roots[:n], hidden))


def without_functions(program: Program) -> tuple[Program, list[Hidden]]:
    """The program with what functions give as further inputs, and their arguments as further outputs."""
    roots, hidden = lifted(program.roots)
    arguments = [Output(f"{h.name}~{k}", (*h.slots, *h.axes(h.op.arguments[k])), a) for h in hidden for k, a in enumerate(h.arguments)]
    plain = program.with_roots(roots)
    return replace(plain, inputs=(*program.inputs, *map(hidden_input, hidden)), outputs=(*plain.outputs, *arguments)), hidden
