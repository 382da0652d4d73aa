"""Print a program as a torch module whose derivatives are its own closed forms: a tower of ``autograd.Function`` classes.

``Value`` computes the program; its backward is ``Pull``, the printed gradient, whose backward is the printed second derivative.
Beyond that torch differentiates the printed operations. Each class has a twin without ``jvp`` for ``torch.compile``, which does
not take one with it; ``apply`` picks by ``torch.compiler.is_compiling()``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lossdsl.codegen.printer import print_function, with_helpers
from lossdsl.codegen.torch import TORCH
from lossdsl.ir.program import Input, Program
from lossdsl.passes.gradient import pullback, tangent
from lossdsl.passes.legalise import legalise
from lossdsl.schedule import schedule

SEED = "~seed"
Prepare = Callable[[Program], Program]

_CLASSES = '''
REAL = {real}  # positions of the arguments that have a gradient
FEW = {few}  # those that are differentiated by default


def filled(tangents, like):
    """Tangents of the real arguments, 0 where there is none."""
    return [torch.zeros_like(like[k]) if tangents[k] is None else tangents[k] for k in REAL]


def placed(gradients, needed, count):
    """Gradients at the positions of their arguments, None elsewhere."""
    out = [None]*count
    for k, g in zip(needed, gradients):
        out[k] = g
    return tuple(out)


class Value0(torch.autograd.Function):
    """The loss of every row; under torch.compile."""

    generate_vmap_rule = True

    @staticmethod
    def forward({args}):
        return value({args})

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, seed):
        args = ctx.saved_tensors
        if any(ctx.needs_input_grad[k] for k in REAL if k not in FEW):
            return placed(pull_all(*args, seed), REAL, len(args))
        return placed(pull(*args, seed), FEW, len(args))


class Pull(torch.autograd.Function):
    """The gradient of seed*loss by the default names; its backward is the second derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward({args}, seed):
        return pull({args}, seed)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, *seeds):
        args = ctx.saved_tensors
        return placed(pull_pull(*args, *seeds), (*REAL, len(args) - 1), len(args))

    @staticmethod
    def jvp(ctx, *tangents):
        args = ctx.saved_tensors
        seed = torch.zeros_like(args[-1]) if tangents[-1] is None else tangents[-1]
        return pull_push(*args, *filled(tangents, args), seed)


class PullAll(Pull):
    """The gradient of seed*loss by every real argument."""

    @staticmethod
    def forward({args}, seed):
        return pull_all({args}, seed)

    @staticmethod
    def backward(ctx, *seeds):
        args = ctx.saved_tensors
        return placed(pull_all_pull(*args, *seeds), (*REAL, len(args) - 1), len(args))

    @staticmethod
    def jvp(ctx, *tangents):
        args = ctx.saved_tensors
        seed = torch.zeros_like(args[-1]) if tangents[-1] is None else tangents[-1]
        return pull_all_push(*args, *filled(tangents, args), seed)


class Value(torch.autograd.Function):
    """The loss of every row."""

    generate_vmap_rule = True

    @staticmethod
    def forward({args}):
        return value({args})

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, seed):
        args = ctx.saved_tensors
        if any(ctx.needs_input_grad[k] for k in REAL if k not in FEW):
            return placed(PullAll.apply(*args, seed), REAL, len(args))
        return placed(Pull.apply(*args, seed), FEW, len(args))

    @staticmethod
    def jvp(ctx, *tangents):
        args = ctx.saved_tensors
        return push(*args, *filled(tangents, args))


def apply(*args):
    """The loss of every row, as a function that torch differentiates by the closed forms."""
    return (Value0 if torch.compiler.is_compiling() else Value).apply(*args)
'''


def real_names(program: Program) -> tuple[str, ...]:
    """Inputs and hyper-parameters that a derivative can be taken by."""
    return tuple(x.name for x in (*program.inputs, *program.params) if x.kind.role == "number")


def functions(program: Program, wrt: Sequence[str], prepare: Prepare) -> dict[str, Program]:
    """The programs of the tower by name: value, pull, push, and the derivatives of pull."""
    real = real_names(program)
    (output,) = program.outputs
    seeds = {output.name: SEED}
    out = {"value": program, "push": _tangent(program, real)}
    for name, names in (("pull", wrt), ("pull_all", real)):
        gradient = prepare(pullback(program, names, seeds))
        if name == "pull_all" and tuple(wrt) == real:
            break
        unique = replace(gradient, outputs=tuple(replace(o, name=f"~d_{o.name}") for o in gradient.outputs))
        back = pullback(unique, (*real, SEED), {o.name: f"~v{o.name[2:]}" for o in unique.outputs})
        out |= {name: unique, f"{name}_pull": back, f"{name}_push": _tangent(unique, (*real, SEED))}
    return out


def _tangent(program: Program, names: Sequence[str]) -> Program:
    return tangent(program, {n: f"~t{n.strip('~')}" for n in names})


def _all_inputs(program: Program) -> Program:
    """Hyper-parameters as inputs without axes: they travel as tensors, and may be differentiated by."""
    return replace(program, inputs=(*program.inputs, *(Input(p.name, p.kind) for p in program.params)), params=())


def tower(program: Program, wrt: Sequence[str], prepare: Prepare, finish: Prepare) -> str:
    """The module's source: functions of the inputs, then the hyper-parameters, all tensors.

    ``prepare`` brings a derived program into closed form, ``finish`` into the form that is printed.
    """
    program = _all_inputs(program)
    parts = functions(program, wrt, prepare)
    order = [i.name for i in program.inputs]
    texts = [_print(name, finish(prepare(p))) for name, p in parts.items()]
    if "pull_all" not in parts:
        texts.append("pull_all, pull_all_pull, pull_all_push = pull, pull_pull, pull_push\n")
    positions = repr(tuple(order.index(n) for n in real_names(program)))
    few = repr(tuple(order.index(n) for n in wrt))
    args = ", ".join(f"x{k}" for k in range(len(order)))  # torch.compile counts the arguments of a forward
    texts.append(_CLASSES.replace("{real}", positions).replace("{few}", few).replace("{args}", args))
    return with_helpers("\n\n".join(t.strip("\n") + "\n" for t in texts), TORCH)


def _print(name: str, program: Program) -> str:
    """One function; a tuple where there may be several results."""
    legal = legalise(program, "torch")
    text = print_function(legal, schedule(legal), TORCH, name)
    return _several(text) if name.startswith("pull") and len(program.outputs) == 1 else text


def _several(text: str) -> str:
    head, last = text.rstrip("\n").rsplit("return ", 1)
    return f"{head}return ({last},)\n"
