"""The passes in order, on one page.

parse -> resolve -> lower (``frontend``), then here: stabilise -> [gradient -> simplify -> stabilise] -> refine; a backend goes on
with legalise -> schedule -> emit. What people read is polished instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace

from lossdsl.ir.applied import as_slopes
from lossdsl.ir.expr import count_nodes, ix, replace_indices
from lossdsl.ir.lengths import fixed
from lossdsl.ir.program import Output, Program
from lossdsl.ir.wrt import differentiated
from lossdsl.passes.batch import batched
from lossdsl.passes.gradient import gradient, jacobian, tangent, vjp
from lossdsl.passes.legalise import legalise
from lossdsl.passes.polish import polish
from lossdsl.passes.refine import refine
from lossdsl.passes.simplify import simplify
from lossdsl.passes.slopes import through, worked_out
from lossdsl.passes.stabilise import stabilise

# Rewriting looks at every node many times, and at what is nested in reductions once for each of them; programs above this
# size or depth are printed as they were derived.
LARGE, DEEP = 1000, 10


def large(program: Program) -> bool:
    """Whether a program is too large to be rewritten for looks and last digits."""
    return max((e.height for e in program.roots), default=0) > DEEP or count_nodes(program.roots) > LARGE


def lowered(program: Program) -> Program:
    """The program as the front end gives it: locals inlined, nothing rewritten."""
    return program


def explicit(program: Program) -> Program:
    """The program with the gradients inside it worked out."""
    return worked_out(program, stable, lambda p: closed_form(p, pieces=True))


def stable(program: Program) -> Program:
    """The value in a numerically stable form, still as a person would write it; gradients inside it are worked out."""
    program = explicit(program)
    return program if large(program) else through(stabilise, program)


def closed_form(program: Program, *, pieces: bool = False) -> Program:
    """Rewritten for people to read, and stable; with ``pieces``, with the derivatives that it has at kinks."""
    program = fixed(program)
    return program if large(program) else through(lambda p: _closed_form(p, pieces), program)


def _closed_form(program: Program, pieces: bool) -> Program:
    neat = simplify(program, pieces=pieces)
    safe = stabilise(neat)
    return neat if safe == neat else simplify(safe, pieces=pieces)


def derived(program: Program, wrt: Sequence[str], *, pieces: bool = False) -> Program:
    """The gradient as a closed form, one output for each name."""
    return readable(_derived(program, wrt, pieces))


def _derived(program: Program, wrt: Sequence[str], pieces: bool) -> Program:
    return closed_form(gradient(stable(program), wrt), pieces=pieces)


def second(program: Program, wrt: str) -> Program:
    """The full Hessian with respect to one input, as a closed form."""
    return readable(closed_form(jacobian(_derived(program, [wrt], True), wrt)))


def hessian_vector(program: Program, wrt: str, direction: str) -> Program:
    """The Hessian times a vector that comes as a further input."""
    return closed_form(tangent(_derived(program, [wrt], True), {wrt: direction}))


def readable(program: Program) -> Program:
    """The program with derivatives of functions as gradients, as they are written."""
    return program.map(as_slopes)


def value_and_vjp(program: Program, wrt: Sequence[str], seed: str) -> Program:
    """The value, and the gradient of ``sum(seed*value)`` for each name."""
    return closed_form(vjp(stable(program), wrt, seed))


def polished(program: Program) -> Program:
    """The form that people read, equal for inputs that keep the promises of their kinds; see ``quality.closed``, which checks it."""
    return program if large(program) else polish(program)


def numeric(program: Program) -> Program:
    """The form that code is printed from: accurate to the last digits, no longer made for reading."""
    return program if large(program) else through(refine, program)


SEED = "~seed"  # the cotangent of the value, one number for each row of the batch; no user can write this name


def kernel(program: Program, backend: str, what: str, wrt: Sequence[str] = (), batch: Set[str] = frozenset()) -> Program:
    """What a backend prints for a scalar loss; the inputs named in ``batch`` and the value get a leading axis.

    ``value`` has one output. ``gradient`` takes the input ``SEED`` too and gives the value, then the gradient of
    ``sum(SEED*value)`` for each name. ``hessian`` gives for each row the value, the gradients, then the diagonals of the Hessians.
    """
    return legalise(closed(program, what, wrt, batch), backend)


def closed(program: Program, what: str, wrt: Sequence[str] = (), batch: Set[str] = frozenset()) -> Program:
    """The same before it is written in what a backend has."""
    program = explicit(program)
    if what == "value":
        p = stable(batched(program, batch))
    elif what == "gradient":
        p = value_and_vjp(batched(program, batch), wrt, SEED)
    else:
        p = batched(with_diagonals(program, wrt), batch)
    return numeric(p)


def with_diagonals(program: Program, wrt: Sequence[str]) -> Program:
    """The value, the gradients, then the diagonals of the Hessians."""
    gradients = derived(program, wrt)
    diagonals = tuple(_diagonal(second(program, name)) for name in wrt)
    return closed_form(explicit(replace(program, outputs=(*stable(program).outputs, *gradients.outputs, *diagonals))))


def _diagonal(hessian: Program) -> Output:
    """The entries of a Hessian at twice the same place."""
    (o,) = hessian.outputs
    half = len(o.indices) // 2
    rows, columns = o.indices[:half], o.indices[half:]
    expr = replace_indices(o.expr, {i: ix(j) for i, j in zip(rows, columns, strict=True)})
    return Output(f"{o.name}_diagonal", columns, expr)


STEPS: dict[str, Callable[[Program], Program]] = {
    "lower": lowered,
    "stabilise": stable,
    "gradient": lambda p: gradient(stable(p), differentiated(p)),
    "simplify": lambda p: derived(p, differentiated(p)),
    "polish": lambda p: polished(derived(p, differentiated(p))),
    "refine": lambda p: numeric(derived(p, differentiated(p))),
}


def renamed(program: Program, name: str) -> Program:
    """The program with its one output, and itself, under another name."""
    return replace(program, name=name, outputs=tuple(replace(o, name=name) for o in program.outputs))
