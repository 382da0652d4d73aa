"""Sample weights: a measure on the sample axis, which every reduction over that axis integrates by."""

from __future__ import annotations

from dataclasses import replace

from lossdsl.errors import LossError
from lossdsl.ir.expr import (
    HALF,
    ZERO,
    Expr,
    Index,
    add,
    and_,
    call,
    cmp,
    ix,
    mul,
    open_red,
    outside,
    postorder,
    pow_,
    product,
    rebuild,
    red,
    ref,
    rewrite,
    size,
)  # fmt: skip
from lossdsl.ir.program import Input, Program
from lossdsl.kinds import Kind

WEIGHT = "sample_weight"  # reserved by the language, so no input bears it


def weighted(program: Program) -> Program:
    """The program with the further input ``sample_weight`` over its sample axis.

    A sum adds up ``w*x`` and a length is the sum of the weights; a product takes ``x^w``, a logsumexp ``x + log(w)``, a norm
    ``sqrt(w)*x``; the others look where the weight is not 0. What has weight 0 is left out, not multiplied. A weight of 2 is the
    sample twice, where the equation does not tell samples apart by index: to ``j != i`` a sample is still one.
    """
    why = refusal(program)
    if why is not None:
        raise why
    axis = str(program.batch)
    (root,) = program.roots
    roots = rewrite([root], lambda e: _measured(e, axis))
    given = Input(WEIGHT, Kind("nonnegative", ((axis, axis),)))
    return replace(program.with_roots(roots), inputs=(*program.inputs, given))


def refusal(program: Program) -> LossError | None:
    """Why the samples of a program cannot be weighed, if they cannot."""
    axis = program.batch
    if axis is None:
        hint = "name one with 'batch n' under the equation, or leave the axis to the batch"
        return LossError(f"{program.name} has no sample axis", hint=hint)
    if any(e.op == "red" and e.data[0] == "argsort" and e.data[1][0].axis == axis for e in postorder(program.roots)):
        hint = "a place in an order is no sample: give the samples that count alone"
        return LossError(f"{program.name} sorts its samples, so they take no weights and no mask", hint=hint)
    if any(e.op == "scan" and e.data[1][1].axis == axis for e in postorder(program.roots)):
        hint = "each is a step of a recursion: give the steps that count alone"
        return LossError(f"{program.name} runs along its samples, so they take no weights and no mask", hint=hint)
    return None


def _measured(e: Expr, axis: str) -> Expr:
    if e.op in ("add", "sub", "mul", "div", "neg", "pow", "call"):
        return _lengths(e, axis)
    if e.op != "red" or all(b.axis != axis for b in e.data[1]):
        return e
    binders, body, guard = open_red(e)
    weights = [ref(WEIGHT, [ix(b)]) for b in binders if b.axis == axis]
    present = and_(*(cmp(">", w, ZERO) for w in weights))
    w = product(weights)
    match e.data[0]:
        case "sum":
            body = mul(w, body)
        case "logsumexp":
            body = add(body, call("log", w))
        case "prod":
            body = pow_(body, w)
        case "norm":
            body = mul(pow_(w, HALF), body)
    return red(e.data[0], binders, body, and_(present, guard), *outside(e))


def _lengths(e: Expr, axis: str) -> Expr:
    """Lengths of the sample axis in arithmetic, as the sum of the weights; in a comparison a length bounds an index."""
    if size(axis) not in e.args:
        return e
    i = Index(axis, axis)
    w = ref(WEIGHT, [ix(i)])
    whole = red("sum", [i], w, cmp(">", w, ZERO))
    args = [whole if a is size(axis) else a for a in e.args]
    return rebuild(e, args)
