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

_EXACT = '''
def exact(run, *args):
    """Run a function out of autocast: a loss is computed in the type of its arguments, or better."""
    kind = args[0].device.type if args else "cpu"
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return run(*args)
    with torch.autocast(kind, enabled=False):
        return run(*args)
'''
_PULL = '''
class {Pull}(torch.autograd.Function):
    """The gradient of seed*loss by {names}; its backward is the second derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward({args}, seed):
        return tuple(own(g, {args}, seed) for g in exact({pull}, {args}, seed))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, *seeds):
        args = ctx.saved_tensors
        return placed(exact({pull}_pull, *args, *seeds), (*REAL, len(args) - 1), len(args))

    @staticmethod
    def jvp(ctx, *tangents):
        args = ctx.saved_tensors
        seed = torch.zeros_like(args[-1]) if tangents[-1] is None else tangents[-1]
        return exact({pull}_push, *args, *filled(tangents, args), seed)
'''
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


def own(out, *args):
    """A result that is none of the arguments."""
    return out.clone() if any(out is x for x in args) else out


class Value0(torch.autograd.Function):
    """The loss of every row; under torch.compile."""

    generate_vmap_rule = True

    @staticmethod
    def forward({args}):
        return own(exact(value, {args}), {args})

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, seed):
        args = ctx.saved_tensors
        if any(ctx.needs_input_grad[k] for k in REAL if k not in FEW):
            return placed(exact(pull_all, *args, seed), REAL, len(args))
        return placed(exact(pull, *args, seed), FEW, len(args))


{pulls}


class Value(torch.autograd.Function):
    """The loss of every row."""

    generate_vmap_rule = True

    @staticmethod
    def forward({args}):
        return own(exact(value, {args}), {args})

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
        return exact(push, *args, *filled(tangents, args))


def apply(*args):
    """The loss of every row, as a function that torch differentiates by the closed forms."""
    return (Value0 if torch.compiler.is_compiling() else Value).apply(*args)
'''


_PULLS = (("Pull", "pull", "the default names"), ("PullAll", "pull_all", "every real argument"))
FIRST = ("value", "pull", "pull_all")
SECOND = ("push", "pull_pull", "pull_push", "pull_all_pull", "pull_all_push")
_PLAIN = '''

def apply(*args):
    """The loss of every row; there is nothing to differentiate by."""
    return value(*args)
'''
_LATER = '''
def {name}(*args):
    return printed("{tag}{name}")(*args)
'''


def real_names(program: Program) -> tuple[str, ...]:
    """Inputs and hyper-parameters that a derivative can be taken by."""
    return tuple(x.name for x in program.declared if x.kind.role == "number")


class Tower:
    """The functions of a program's module, each printed when it is asked for.

    They take the inputs, then the hyper-parameters, all as tensors; ``pull`` a seed after them, its derivatives the tangents or
    cotangents after that. ``prepare`` brings a derived program into closed form, ``finish`` into the form that is printed.
    """

    def __init__(self, program: Program, wrt: Sequence[str], prepare: Prepare, finish: Prepare) -> None:
        self.base, self.wrt = _all_inputs(program), tuple(wrt)
        self.prepare, self.finish = prepare, finish
        self.real = real_names(self.base)
        self.programs: dict[str, Program] = {"value": self.base}

    def program(self, name: str) -> Program:
        if name not in self.programs:
            self.programs[name] = self.prepare(self._derived(name))
        return self.programs[name]

    def _derived(self, name: str) -> Program:
        match name:
            case "push":
                return _tangent(self.base, self.real)
            case "pull" | "pull_all":
                (output,) = self.base.outputs
                back = pullback(self.base, self.wrt if name == "pull" else self.real, {output.name: SEED})
                return replace(back, outputs=tuple(replace(o, name=f"~d_{o.name}") for o in back.outputs))
        first = self.program(name.rsplit("_", 1)[0])
        if name.endswith("_push"):
            return _tangent(first, (*self.real, SEED))
        return pullback(first, (*self.real, SEED), {o.name: f"~v{o.name[2:]}" for o in first.outputs})

    def same(self, name: str) -> str:
        """The function that is printed for a name: with nothing but defaults to differentiate by, two are one."""
        return name.replace("_all", "", 1) if self.wrt == self.real else name

    def function(self, name: str) -> str:
        """The source of one function."""
        if self.same(name) != name:
            return f"{name} = {self.same(name)}\n"
        legal = legalise(self.finish(self.program(name)), "torch")
        text = print_function(legal, schedule(legal), TORCH, name)
        return _several(text) if name.startswith("pull") and len(legal.outputs) == 1 else text

    def module(self, *, lazy: bool = False) -> str:
        """The whole source; with ``lazy`` second derivatives are had from a function ``printed`` that the runtime provides."""
        return with_helpers(self.body(lazy=lazy), TORCH)

    def body(self, *, lazy: bool = False, tag: str = "") -> str:
        """The source without what it needs around it; ``printed`` is asked for names that the tag stands before."""
        if not self.real:
            return self.function("value") + _PLAIN
        order = [i.name for i in self.base.inputs]
        texts = [self.function(name) for name in FIRST]
        texts += [_LATER.replace("{name}", name).replace("{tag}", tag) if lazy else self.function(name) for name in SECOND]
        texts.append(_EXACT)
        args = ", ".join(f"x{k}" for k in range(len(order)))  # torch.compile counts the arguments of a forward
        few, real = (repr(tuple(order.index(n) for n in names)) for names in (self.wrt, self.real))
        classes = _CLASSES
        pulls = (_PULL.replace("{Pull}", c).replace("{pull}", p).replace("{names}", n).strip("\n") for c, p, n in _PULLS)
        for place, value in (("{pulls}", "\n\n\n".join(pulls)), ("{real}", real), ("{few}", few), ("{args}", args)):
            classes = classes.replace(place, value)
        texts.append(classes)
        return "\n\n".join(t.strip("\n") + "\n" for t in texts)


def single(program: Program, finish: Prepare, name: str) -> str:
    """The source of a function of a program's outputs; hyper-parameters come as tensors, after the inputs."""
    legal = legalise(finish(_all_inputs(program)), "torch")
    return standalone(print_function(legal, schedule(legal), TORCH, name) + _EXACT)


def standalone(source: str) -> str:
    """A function's source with what it needs around it."""
    return with_helpers(source, TORCH)


def _tangent(program: Program, names: Sequence[str]) -> Program:
    return tangent(program, {n: f"~t{n.strip('~')}" for n in names})


def _all_inputs(program: Program) -> Program:
    """Hyper-parameters as inputs without axes: they travel as tensors, and may be differentiated by."""
    return replace(program, inputs=(*program.inputs, *(Input(p.name, p.kind) for p in program.params)), params=())


def _several(text: str) -> str:
    head, last = text.rstrip("\n").rsplit("return ", 1)
    return f"{head}return ({last},)\n"
