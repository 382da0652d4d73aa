"""Closed forms for people: polished, shortened by what SymPy proposes, and shown only if they equal the program.

Equal means: the same number or infinity for inputs that keep the promises of their kinds; where the program is undefined the
form is undefined or infinite. Arithmetic is compared in exact numbers, everything else to 40 digits of values found to 50, at
remarkable and at random points.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from lossdsl import pipeline
from lossdsl.ir import text
from lossdsl.ir.applied import has_slopes
from lossdsl.ir.expr import Expr, count_nodes, open_red, rebuild, red
from lossdsl.ir.program import Output, Program
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import weight
from lossdsl.passes.polish import polish
from lossdsl.quality.equal import agree, same
from lossdsl.symbolic.arithmetic import is_arithmetic, region, worthwhile

_MOST = 400  # nodes of a program that is looked at
_TRIED, _CALLS = 4, 8  # proposals for one expression, and expressions of one program for which any are made
_HEAVIER = 1.2  # proposals that are that much heavier may still print shorter, by what they share


@lru_cache(maxsize=256)
def closed(program: Program) -> Program:
    """The program in the form that people read, with the same name, inputs and outputs."""
    if pipeline.large(program) or count_nodes(program.roots) > _MOST or program.functions or has_slopes(program.roots):
        return program
    polished = pipeline.polished(program)
    for shown in (_shortened(polished), polished):
        if shown == program or (length(shown) <= length(program) and agree(program, shown)):
            return shown
    return program


def length(program: Program) -> int:
    """How many characters a program prints, without spaces and brackets."""
    return sum(c not in " \n()" for c in text.program(program))


def _shortened(program: Program) -> Program:
    """The program with arithmetic in shorter forms, where SymPy finds any that are equal."""
    work = _Shortener(program)
    roots = tuple(work.of(e) for e in program.roots)
    return polish(program.with_roots(roots)) if roots != program.roots else program


class _Shortener:
    """Goes through the expressions of one program, the insides of reductions too."""

    def __init__(self, program: Program) -> None:
        self.program, self.ranges = program, Ranges(program)
        self.memo: dict[Expr, Expr] = {}
        self.left = _CALLS

    def of(self, e: Expr) -> Expr:
        """The expression with all arithmetic in it in its shortest form."""
        if e not in self.memo:
            self.memo[e] = self._arithmetic(e) if is_arithmetic(e) else self._inside(e)
        return self.memo[e]

    def _inside(self, e: Expr) -> Expr:
        if e.op == "red":
            binders, body, guard = open_red(e)
            return red(e.data[0], binders, self.of(body), self.of(guard), *e.args[2:])
        return rebuild(e, [self.of(a) for a in e.args])

    def _arithmetic(self, e: Expr) -> Expr:
        """The leaves in their shortest form, then what they make."""
        done: dict[Expr, Expr] = {}
        for x in region(e):
            done[x] = rebuild(x, [done.get(a, a) for a in x.args]) if is_arithmetic(x) else self.of(x)
        whole = done[e]
        if self.left <= 0 or not worthwhile(whole):
            return whole
        self.left -= 1
        return self._shortest(whole)

    def _shortest(self, e: Expr) -> Expr:
        from lossdsl.symbolic.proposals import alternatives

        best, size = e, length(self._alone(e))
        light = [x for x in alternatives(e, self._kind, weight) if weight(x) <= _HEAVIER * weight(e)]
        for x in light[:_TRIED]:
            (made,) = polish(self._alone(x)).roots
            shorter = length(self._alone(made))
            if shorter < size and same(e, made, self.ranges):
                best, size = made, shorter
        return best

    def _alone(self, e: Expr) -> Program:
        indices = tuple(sorted(e.free, key=str))
        return replace(self.program, outputs=(Output("part", indices, e),), notes=(), doc="")

    def _kind(self, e: Expr) -> str:
        """Whether a leaf is 1 or -1, or 0 or 1."""
        reach = self.ranges.reach(e)
        if not reach.whole or reach.nan:
            return ""
        i = reach.interval
        return "binary" if i.low >= 0 and i.high <= 1 else "sign" if i.low >= -1 and i.high <= 1 and reach.nonzero else ""
