"""The rows of ``functions`` as expressions: each text is read once, then filled in with the arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import FALSE, ONE, ZERO, Expr, call, cmp, div, iverson, mul, or_, postorder, pow_, pw, rebuild, ref, sub, total
from lossdsl.ir.read import read

Args = Sequence[Expr]


def derivative(name: str, args: Args) -> tuple[Expr | None, ...]:
    """The derivative with respect to each argument; None where it is zero everywhere."""
    row = FUNCTIONS[name]
    if row.variadic and len(args) > row.arity:
        return tuple(_share_of_extremum(name, args, i) for i in range(len(args)))
    if name == "pow" and args[1].op == "num":
        return _power_rule(*args), None
    return tuple(None if text is None else _fill(name, text, args) for text in row.derivative)


def meaning(name: str, args: Args) -> Expr | None:
    """The definition by more basic functions; None for a primitive."""
    return _optional(name, FUNCTIONS[name].meaning, _pairs(name, args))


def safe(name: str, args: Args) -> Expr | None:
    """What a backend prints that cannot spell the function: its safe form, else its meaning, else None.

    Of more than two numbers, ``max`` and ``min`` are those of two, nested.
    """
    row = FUNCTIONS[name]
    if row.variadic and len(args) > row.arity:
        return call(name, *_pairs(name, args))
    return _optional(name, row.safe or row.meaning, args)


def poles(name: str, args: Args) -> Expr:
    """Where a derivative is infinite, a condition."""
    return _condition(name, FUNCTIONS[name].poles, _pairs(name, args))


def kinks(name: str, args: Args) -> Expr:
    """Where the function has no derivative although its slopes are finite, a condition."""
    if FUNCTIONS[name].variadic:
        return or_(*(cmp("==", a, b) for i, b in enumerate(args) for a in args[:i]))
    return _condition(name, FUNCTIONS[name].kinks, args)


def template(name: str, text: str) -> Expr:
    """A text of a row, read over references that bear the names of its arguments."""
    return _template(text, FUNCTIONS[name].args)


def fill(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """A template with its references replaced. The values are not looked into."""
    memo: dict[Expr, Expr] = {}
    for node in postorder((e,)):
        if node.op == "ref" and not node.args:
            memo[node] = values.get(node.data, node)
        else:
            memo[node] = rebuild(node, [memo[a] for a in node.args])
    return memo[e]


@cache
def _template(text: str, args: tuple[str, ...]) -> Expr:
    return read(text, {a: ref(a) for a in args})


def _fill(name: str, text: str, args: Args) -> Expr:
    return fill(template(name, text), dict(zip(FUNCTIONS[name].args, args, strict=True)))


def _optional(name: str, text: str | None, args: Args) -> Expr | None:
    return None if text is None else _fill(name, text, args)


def _condition(name: str, text: str | None, args: Args) -> Expr:
    return FALSE if text is None else _fill(name, text, args)


def _pairs(name: str, args: Args) -> Args:
    """The arguments of a variadic function, grouped from the left until two are left."""
    if FUNCTIONS[name].variadic:
        while len(args) > 2:
            args = (call(name, args[0], args[1]), *args[2:])
    return args


def _share_of_extremum(name: str, args: Args, i: int) -> Expr:
    """1 shared by the arguments that attain the extremum, 0 for the others."""
    top = call(name, *args)
    ties = total(iverson(cmp("==", a, top)) for a in args)
    below = cmp("<" if name == "max" else ">", args[i], top)
    return pw([(div(ONE, ties), cmp("==", args[i], top)), (ZERO, below)])


def _power_rule(base: Expr, exponent: Expr) -> Expr | None:
    return None if exponent is ZERO else mul(exponent, pow_(base, sub(exponent, ONE)))
