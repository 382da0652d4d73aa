"""Print a staged program: a function for each part, and one that applies the caller's functions between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lossdsl.codegen.names import Names
from lossdsl.ir.expr import Expr
from lossdsl.ir.program import Program
from lossdsl.passes.staged import Evaluation, Points, Pull, Staged

Part = Callable[[str, Program], str]  # the source of a part under a name: it takes the inputs, then the hyper-parameters


def print_steps(program: Program, plan: Staged, part: Part, name: str, doc: str, reserved: Iterable[str]) -> str:
    """The source of all parts and of ``name``, which takes the inputs, the hyper-parameters, then the functions.

    The names of the parts are made of ``name`` too.
    """
    return _Steps(program, plan, part, {*reserved, name}).text(name, doc)


class _Steps:
    def __init__(self, program: Program, plan: Staged, part: Part, reserved: Iterable[str]) -> None:
        self.program, self.plan, self.print = program, plan, part
        self.names = Names({*reserved, "called", "pulled", "alike"})
        given = [*(x.name for x in program.declared), *(f.name for f in program.functions)]
        self.variables = {x: self.names.take(x) for x in given}
        self.parts: list[str] = []
        self.lines: list[str] = []
        self.tapes: dict[str, str] = {}
        self.stem = ""

    def text(self, name: str, doc: str) -> str:
        self.stem = name
        head = f"def {name}({', '.join(self.variables.values())}):"
        for step in self.plan.steps:
            if isinstance(step, Evaluation):
                self.evaluation(step)
            elif isinstance(step, Pull):
                self.pull(step)
            else:
                self.points(step)
        self.lines.append(f"return {self.part(self.plan.last, 'result')}")
        lines = [f'"""{doc}"""', *self.lines]
        return "\n\n".join((*(p.strip("\n") + "\n" for p in self.parts), "\n    ".join([head, *lines]) + "\n"))

    def part(self, p: Program, what: str) -> str:
        """The text of a part's value: an array that is there already, or a call of a function that is printed for it."""
        (*others, o) = p.outputs
        if not others and what != "result" and o.expr.op == "ref" and o.expr.args and _plain(o.expr) == list(o.indices):
            return self.variables[o.expr.data]
        function = self.names.take(f"{self.stem}_{what}")
        self.parts.append(self.print(function, p))
        return f"{function}({', '.join(self.variables[x.name] for x in p.declared)})"

    def evaluation(self, step: Evaluation) -> None:
        function = self.variables[step.function]
        arguments = [self.part(p, f"{step.function}_of") for p in step.arguments]
        value, tape = self.names.take(f"{step.function}_value"), self.names.take(f"{step.function}_tape")
        self.variables[step.value.name], self.tapes[step.value.name] = value, tape
        where = self.part(step.needed, f"{step.function}_where") if step.needed else "None"
        result = len(step.value.axes) - step.rows
        given = f"({', '.join(arguments)},), rows={step.rows}, result={result}, where={where}"
        self.lines.append(f"{value}, {tape} = called({function}, {step.by!r}, {given}, slopes={step.pulled})")

    def points(self, step: Points) -> None:
        """The numbers of a range, of the type of the first input that is an array of numbers."""
        name = self.names.take("points")
        like = next((self.variables[i.name] for i in self.program.inputs if i.kind.role == "number"), None)
        text = self.part(step.part, "points")
        self.variables[step.value.name] = name
        self.lines.append(f"{name} = {text if like is None else f'alike({text}, {like})'}")

    def pull(self, step: Pull) -> None:
        cotangent = self.part(step.cotangent, "cotangent") if step.cotangent else "None"
        name = self.variables[step.value.name] = self.names.take("slope")
        self.lines.append(f"{name} = pulled({self.tapes[step.evaluation]}, {step.argument}, {cotangent}, more={step.more})")


def _plain(e: Expr) -> Sequence[object]:
    return [a.data if a.op == "ix" else None for a in e.args]
