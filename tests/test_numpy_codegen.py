"""Printed NumPy code against plain loops, over a table of expressions: axes, guards, gathers, scatters, contractions, batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossdsl.codegen.numpy import NUMPY
from lossdsl.codegen.printer import print_function, with_helpers
from lossdsl.codegen.torch import TORCH
from lossdsl.ir.expr import (
    HALF,
    INF,
    NAN,
    ONE,
    PI,
    TRUE,
    TWO,
    ZERO,
    Expr,
    Index,
    Range,
    add,
    and_,
    call,
    cmp,
    div,
    iverson,
    ix,
    mul,
    neg,
    not_,
    num,
    or_,
    pow_,
    pw,
    red,
    ref,
    size,
    sub,
)  # fmt: skip
from lossdsl.ir.program import Input, Output, Param, Program
from lossdsl.kinds import Kind
from lossdsl.passes.batch import batched
from lossdsl.passes.legalise import legalise
from lossdsl.schedule import schedule
from tests.brute import Brute

N, I, J, K, L, D, H, W = (
    Index(a, t) for a, t in (("n", "n"), ("n", "i"), ("n", "j"), ("k", "k"), ("k", "l"), ("d", "d"), ("h", "h"), ("w", "w")))
INPUTS = {
    "f": Input("f", Kind()),
    "t": Input("t", Kind()),
    "x": Input("x", Kind(axes=(("n", "n"), ("d", "d")))),
    "z": Input("z", Kind(axes=(("n", "n"), ("d", "d")))),
    "s": Input("s", Kind(axes=(("n", "n"), ("k", "k")))),
    "q": Input("q", Kind(axes=(("k", "k"),))),
    "v": Input("v", Kind(axes=(("n", "n"),))),
    "e": Input("e", Kind(axes=(("k", "k"), ("d", "d")))),
    "p": Input("p", Kind(axes=(("n", "i"), ("n", "j")))),
    "u": Input("u", Kind(axes=(("h", "h"), ("w", "w")))),
    "y": Input("y", Kind("class", (("n", "n"),), of="k")),
    "a": Input("a", Kind("class", (), of="k")),
    "c": Input("c", Kind("label", (("n", "n"),))),
    "m": Input("m", Kind("bool", (("n", "n"),))),
}
PARAMS = (Param("tau", Kind("positive")), Param("top", Kind("integer")))
SIZES = {"n": 5, "k": 4, "d": 3, "h": 4, "w": 6}


def at(name: str, *indices: Index | Expr) -> Expr:
    return ref(name, [i if isinstance(i, Expr) else ix(i) for i in indices])


def total(*args: Any, over: tuple[Index, ...]) -> Expr:
    return red("sum", over, *args)


def sqdist(i: Index, j: Index) -> Expr:
    return red("sum", [D], pow_(sub(at("x", i, D), at("x", j, D)), TWO))


def order(i: Index, body: Expr, place: Expr, guard: Expr = TRUE) -> Expr:
    return red("argsort", [i], body, guard, place)


def cosine(i: Index, j: Index) -> Expr:
    x, z = at("x", i, D), at("z", j, D)
    return red("sum", [D], mul(div(x, red("norm", [D], x)), div(z, red("norm", [D], z))))


f, t, tau, top = ref("f"), ref("t"), ref("tau"), ref("top")
softmax = call("exp", sub(at("s", N, K), red("logsumexp", [K], at("s", N, K))))
others = red("logsumexp", [K], at("s", N, K), cmp("!=", ix(K), at("y", N)))
positive = and_(cmp("!=", ix(I), ix(J)), cmp("==", at("c", I), at("c", J)))
B = Index(Range(ONE, num(4)), "b")
C = Index(Range(ONE, num(4)), "c")
T = Index(Range(ZERO, top), "b")
S = Index(Range(ZERO, top), "s")
P = Index(Range(sub(top, TWO), top), "p")

# output indices, expression
TABLE: dict[str, tuple[tuple[Index, ...], Expr]] = {
    "pointwise": ((), add(mul(f, t), div(f, add(ONE, call("abs", t))))),
    "piecewise": ((), pw([(mul(HALF, pow_(sub(f, t), TWO)), cmp("<", call("abs", sub(f, t)), tau)), (ZERO, cmp(">", f, t))], neg(f))),
    "no branch holds": ((), pw([(f, cmp("<", f, t))])),
    "a constant alone": ((K,), ONE),
    "an index alone": ((K,), ix(K)),
    "constants only": ((), add(call("log", TWO), div(PI, num(3)))),
    "one over zero": ((), div(ONE, sub(f, f))),
    "powers": ((), add(add(pow_(f, num(3)), pow_(f, num(4))), add(pow_(call("abs", f), num("1.5")), pow_(call("abs", f), num("-0.5"))))),
    "general power": ((), pow_(call("abs", f), tau)),
    "negative power": ((), add(pow_(f, num(-1)), pow_(f, num(-2)))),
    "strong zero": ((), call("xlogy", iverson(cmp(">", f, num(100))), ZERO)),
    "length": ((), div(add(size("n"), ONE), size("k"))),
    "sum of a row": ((N,), red("sum", [K], at("s", N, K))),
    "sum of columns": ((K,), red("sum", [N], at("s", N, K))),
    "sum over two": ((), red("sum", [N, K], call("exp", at("s", N, K)))),
    "sum of one factor": ((N,), red("sum", [K], mul(at("v", N), at("s", N, K)))),
    "sum of what does not vary": ((N,), red("sum", [K], at("v", N))),
    "mean": ((), div(red("sum", [N], at("v", N)), red("sum", [N], ONE))),
    "max of what does not vary": ((N,), red("max", [K], at("v", N))),
    "max": ((N,), red("max", [K], at("s", N, K))),
    "min": ((K,), red("min", [N], at("s", N, K))),
    "max over two": ((), red("max", [N, K], at("s", N, K))),
    "argmax": ((N,), red("argmax", [K], at("s", N, K))),
    "argmin": ((N,), red("argmin", [K], at("s", N, K))),
    "argmax where": ((N,), red("argmax", [K], at("s", N, K), cmp(">", ix(K), ZERO))),
    "argmax nowhere": ((N,), red("argmax", [K], at("s", N, K), cmp(">", ix(K), at("c", N)))),
    "argmax, then a gather": ((N,), at("q", red("argmax", [K], at("s", N, K)))),
    "logsumexp": ((N,), red("logsumexp", [K], at("s", N, K))),
    "logsumexp where": ((N,), red("logsumexp", [K], at("s", N, K), cmp(">=", ix(K), at("c", N)))),
    "norm": ((N,), red("norm", [D], at("x", N, D))),
    "norm where": ((N,), red("norm", [D], at("x", N, D), cmp(">", at("x", N, D), ZERO))),
    "product": ((N,), red("prod", [K], at("s", N, K))),
    "product where": ((N,), red("prod", [K], at("s", N, K), cmp(">", at("s", N, K), ZERO))),
    "product over two": ((D,), red("prod", [N, K], add(at("s", N, K), at("e", K, D)))),
    "product of what does not vary": ((N,), red("prod", [K], at("v", N))),
    "product of a constant": ((), red("prod", [K], f)),
    "product of the others": ((N,), red("prod", [I], at("v", I), cmp("!=", ix(I), ix(N)))),
    "product of the others, where": ((N,), red("prod", [I], at("v", I), and_(cmp(">", at("v", I), ZERO), cmp("!=", ix(N), ix(I))))),
    "product of the others in rows": ((N, K), mul(at("v", N), red("prod", [L], at("s", N, L), cmp("!=", ix(L), ix(K))))),
    "product of the others in columns": ((J, K), red("prod", [I], at("s", I, K), cmp("!=", ix(I), ix(J)))),
    "product of all but two": ((I, J), red("prod", [N], at("v", N), and_(cmp("!=", ix(N), ix(I)), cmp("!=", ix(N), ix(J))))),
    "product of the other pairs": ((I, K), red("prod", [J, L], at("s", J, L), or_(cmp("!=", ix(J), ix(I)), cmp("!=", ix(L), ix(K))))),
    "product of the others, a guard between them": ((J,), red("prod", [I], at("v", I), and_(cmp("!=", ix(I), ix(J)), cmp(">", at("v", I), at("v", J))))),
    "product of all but a class": ((N,), red("prod", [K], at("s", N, K), cmp("!=", ix(K), at("y", N)))),
    "product of the others of what does not vary": ((K,), red("prod", [L], f, cmp("!=", ix(L), ix(K)))),
    "order": ((N, K), order(K, at("s", N, K), ix(K))),
    "order in columns": ((K, N), order(N, at("s", N, K), ix(N))),
    "order where": ((N, K), order(K, at("s", N, K), ix(K), cmp(">", at("s", N, K), ZERO))),
    "order of labels": ((N,), order(N, at("c", N), ix(N))),
    "order of labels, largest first": ((N,), order(N, neg(at("c", N)), ix(N))),
    "order of what does not vary": ((K,), order(K, f, ix(K), cmp(">", ix(K), ZERO))),
    "order by a guard of more axes": ((N, K), order(K, at("q", K), ix(K), cmp(">", at("s", N, K), ZERO))),
    "order of pairs": ((I, J), order(J, at("p", I, J), ix(J), cmp("!=", ix(I), ix(J)))),
    "order of distances": ((I, J), order(J, sqdist(I, J), ix(J), positive)),
    "order in a range": ((), red("sum", [B], mul(ix(B), order(C, call("abs", sub(f, ix(C))), sub(ix(B), ONE))))),
    "order in a range, beyond its end": ((), red("sum", [B], mul(ix(B), order(C, call("abs", sub(f, ix(C))), ix(B))), cmp("<", ix(B), num(4)))),
    "order in a range, places of another": ((), red("sum", [B], mul(ix(B), order(T, call("abs", sub(f, ix(T))), ix(B))), cmp("<=", ix(B), top))),
    "order in a range from 0": ((), red("sum", [S], mul(ix(S), order(T, call("sin", mul(f, ix(T))), ix(S))))),
    "order at a fixed place": ((N,), order(K, at("s", N, K), ONE)),
    "order at a place of the row": ((N,), order(K, at("s", N, K), at("y", N))),
    "order at a computed place": ((N,), order(K, at("s", N, K), call("floor", mul(tau, size("k"))))),
    "order at no place": ((N,), order(K, at("s", N, K), HALF)),
    "order at a shifted place": ((N,), order(N, at("v", N), add(ix(N), ONE))),
    "order as a number": ((N,), mul(at("v", N), order(N, at("v", N), ix(N)))),
    "sorted": ((N, K), at("s", N, order(K, at("s", N, K), ix(K)))),
    "sorted where": ((N,), at("v", order(N, at("v", N), ix(N), at("m", N)))),
    "sorted by others": ((K, N), mul(at("s", order(N, at("v", N), ix(N)), K), at("q", K))),
    "sorted, then reduced": ((N,), red("sum", [K], mul(at("s", N, order(K, neg(at("s", N, K)), ix(K))), ix(K)), cmp("<", ix(K), num(3)))),
    "sorted rows": ((N, D), at("x", order(I, red("norm", [D], at("x", I, D)), ix(N)), D)),
    "what is sorted is reduced": ((N,), red("norm", [D], at("x", order(I, red("norm", [D], at("x", I, D)), ix(N)), D))),
    "back from the order": ((N,), red("sum", [I], at("v", I), cmp("==", order(N, at("v", N), ix(I)), ix(N)))),
    "back from the order, of all": ((N, K), red("sum", [L], mul(at("s", N, L), at("q", L)), cmp("==", order(K, at("s", N, K), ix(L)), ix(K)))),
    "back from some places": ((N,), red("sum", [I], at("v", order(N, at("v", N), ix(I), at("m", N))),
                                        and_(cmp("==", ix(N), order(N, at("v", N), ix(I), at("m", N))), cmp("<", ix(I), TWO)))),
    "maximum in a range": ((N,), red("argmax", [B], call("sin", mul(at("v", N), ix(B))))),
    "any": ((N,), iverson(red("any", [K], cmp(">", at("s", N, K), ONE)))),
    "any of a pair": ((I,), iverson(red("any", [J], positive))),
    "count": ((N,), red("sum", [K], ONE, cmp(">", at("s", N, K), ZERO))),
    "softmax": ((N, K), softmax),
    "cross-entropy": ((N,), sub(red("logsumexp", [K], at("s", N, K)), at("s", N, at("y", N)))),
    "cross-entropy, transposed": ((K, N), mul(at("v", N), sub(softmax, iverson(cmp("==", at("y", N), ix(K)))))),
    "all but one class": ((N,), red("sum", [K], call("exp", at("s", N, K)), cmp("!=", ix(K), at("y", N)))),
    "all but the diagonal": ((I,), red("sum", [J], mul(at("p", I, J), at("v", J)), cmp("!=", ix(J), ix(I)))),
    "count of all but one": ((N,), red("sum", [K], ONE, cmp("!=", at("y", N), ix(K)))),
    "one entry set": ((N, K), pw([(at("v", N), cmp("==", ix(K), at("y", N)))], mul(at("s", N, K), at("q", K)))),
    "one entry kept": ((N, K), pw([(at("s", N, K), cmp("!=", ix(K), at("y", N)))], at("v", N))),
    "one entry added to an input": ((N, K), add(at("s", N, K), pw([(at("v", N), cmp("==", ix(K), at("y", N)))], ZERO))),
    "one entry only": ((N, K), pw([(at("v", N), cmp("==", ix(K), at("y", N)))], ZERO)),
    "diagonal subtracted": ((I, J), sub(at("p", I, J), iverson(cmp("==", ix(I), ix(J))))),
    "confident": ((N,), call("softplus", sub(others, at("s", N, at("y", N))))),
    "confident share": ((N,), call("sigmoid", sub(others, at("s", N, at("y", N))))),
    "share of the class": ((N,), call("sigmoid", sub(at("s", N, at("y", N)), others))),
    "against a target": ((), sub(mul(sub(ONE, t), call("sigmoid", f)), mul(t, call("sigmoid", neg(f))))),
    "step": ((), pw([(ONE, cmp(">", f, t)), (HALF, cmp("==", f, t)), (ZERO, cmp("<", f, t))])),
    "step from zero": ((), pw([(num(3), cmp("<", ZERO, f)), (TWO, cmp("==", f, ZERO)), (ONE, cmp(">", ZERO, f))])),
    "nested pieces": ((), pw([(pw([(f, cmp(">", t, ZERO))], ONE), cmp(">", f, ZERO))], ONE)),
    "a factor of both pieces": ((), pw([(mul(f, t), cmp(">", f, ZERO))], mul(f, call("abs", t)))),
    "gather of a row": ((N, D), at("e", at("y", N), D)),
    "gather by an outer class": ((N,), at("s", N, ref("a"))),
    "gather two ways": ((I, J), at("s", I, at("y", J))),
    "gather by a shifted class": ((N,), at("q", add(at("y", N), ONE))),
    "class as a number": ((N,), mul(at("v", N), at("y", N))),
    "diagonal": ((I,), at("p", I, I)),
    "transposed": ((I, J), sub(at("p", I, J), at("p", J, I))),
    "outer difference": ((I, J), call("abs", sub(at("v", I), at("v", J)))),
    "pairs": ((), red("sum", [I, J], call("log1p", call("exp", sub(at("v", I), at("v", J)))), cmp(">", at("v", I), at("v", J)))),
    "rank": ((I,), add(ONE, red("sum", [J], ONE, cmp(">", at("v", J), at("v", I))))),
    "distances": ((I, J), sqdist(I, J)),
    "hardest positive": ((I,), red("max", [J], sqdist(I, J), positive)),
    "cosines": ((I, J), cosine(I, J)),
    "cosines and their diagonal": ((I,), sub(red("logsumexp", [J], div(cosine(I, J), tau)), div(cosine(I, I), tau))),
    "guard one level up": ((), red("sum", [I], div(red("sum", [J], sqdist(I, J), positive), red("sum", [J], ONE, positive)), red("any", [J], positive))),
    "matrix product": ((N, K), red("sum", [D], mul(at("x", N, D), at("e", K, D)))),
    "matrix product, transposed": ((K, N), neg(red("sum", [D], mul(at("x", N, D), at("e", K, D))))),
    "matrix product with a sign": ((N, K), red("sum", [D], neg(mul(at("x", N, D), neg(div(at("e", K, D), tau)))))),
    "matrix times vector": ((D,), red("sum", [N], mul(at("v", N), at("x", N, D)))),
    "both sides summed": ((), red("sum", [N, K], mul(at("v", N), mul(at("s", N, K), at("q", K))))),
    "three factors": ((N,), red("sum", [K, D], mul(mul(at("s", N, K), at("e", K, D)), at("x", N, D)))),
    "factor without a bound index": ((I, J), red("sum", [D], mul(mul(at("x", I, D), at("p", I, J)), at("z", J, D)))),
    "guarded product": ((I, D), red("sum", [J], mul(at("p", I, J), at("x", J, D)), positive)),
    "product with a loose guard": ((I, J), red("sum", [D], mul(at("x", I, D), at("z", J, D)), cmp(">", at("x", I, D), at("x", J, D)))),
    "scatter": ((K,), red("sum", [N], at("v", N), cmp("==", at("y", N), ix(K)))),
    "scatter of rows": ((K, D), red("sum", [N], at("x", N, D), cmp("==", at("y", N), ix(K)))),
    "scatter of rows, transposed": ((D, K), red("sum", [N], mul(at("v", N), at("x", N, D)), cmp("==", ix(K), at("y", N)))),
    "scatter where": ((K,), red("sum", [N], at("v", N), and_(cmp("==", at("y", N), ix(K)), cmp(">", at("v", N), ZERO)))),
    "scatter of a gather": ((K,), red("sum", [N], at("s", N, K), cmp("==", at("y", N), ix(K)))),
    "scatter of a constant": ((K,), red("sum", [N], HALF, cmp("==", at("y", N), ix(K)))),
    "scatter into a range": ((), red("sum", [B], mul(ix(B), pow_(red("sum", [N], at("v", N), cmp("==", at("c", N), ix(B))), TWO)))),
    "scatter into a range from a parameter": ((), red("sum", [P], mul(ix(P), pow_(red("sum", [N], at("v", N), cmp("==", at("c", N), ix(P))), TWO)))),
    "all but one of a range": ((), red("sum", [B, C], mul(call("abs", f), add(ix(B), pow_(t, ix(C)))), cmp("!=", ix(B), ix(C)))),
    "product of the others in a range": ((), red("sum", [B], mul(f, red("prod", [C], mul(t, ix(C)), cmp("!=", ix(C), ix(B)))))),
    "one entry of a range": ((), red("sum", [B, N], mul(ix(B), pow_(sub(at("v", N), iverson(cmp("==", ix(B), at("c", N)))), TWO)))),
    "order in a range from a parameter": ((), red("sum", [S], mul(ix(S), order(P, call("sin", mul(f, ix(P))), ix(S))), cmp("<", ix(S), TWO))),
    "maximum in a range from a parameter": ((N,), red("argmax", [P], call("sin", mul(at("v", N), ix(P))))),
    "pairs of rows at a class": ((I,), red("max", [J, D], add(mul(at("s", I, at("y", J)), at("x", I, D)), at("p", I, J)))),
    "scatter of what is the same in its place": ((K,), red("sum", [N], mul(at("q", K), f), cmp("==", at("y", N), ix(K)))),
    "scatter of what is the same, over more": ((K, D), red("sum", [N, I], at("e", K, D), and_(cmp("==", at("y", N), ix(K)), cmp("<", ix(I), ix(N))))),
    "scatter of sums": ((K,), red("sum", [N, D], mul(at("x", N, D), at("e", K, D)), and_(cmp("==", at("y", N), ix(K)), cmp(">", at("x", N, D), ZERO)))),
    "scatter of sums over pairs": ((K,), red("sum", [I, J], mul(at("p", I, J), at("q", K)), and_(cmp("==", at("y", I), ix(K)), cmp(">", at("v", I), at("v", J))))),
    "scatters that share their places": ((K,), add(*(red("sum", [N], body, and_(cmp("==", at("y", N), ix(K)), cmp("<", ix(N), TWO))) for body in (at("v", N), at("c", N))))),
    "scatter by a maximum": ((K,), red("sum", [N], at("v", N), cmp("==", red("argmax", [K], at("s", N, K)), ix(K)))),
    "scatter to two places": ((I, K), red("sum", [N, D], at("x", N, D), and_(cmp("==", at("y", N), ix(K)), cmp("==", at("c", N), ix(I))))),
    "pairs with places": ((I,), red("sum", [J, D], mul(call("abs", sub(at("x", I, D), at("x", J, D))), sub(ix(I), ix(J))))),
    "pairs of transposed arrays": ((I,), red("max", [J, D], sub(mul(at("p", J, I), at("x", J, D)), at("p", I, J)))),
    "pairs of gathers": ((I, D), red("max", [J], sub(at("e", at("y", I), D), at("e", at("y", J), D)), cmp("!=", at("c", I), at("c", J)))),
    "pairs with a range": ((I,), red("sum", [J, B], pow_(call("abs", sub(at("v", I), at("v", J))), ix(B)))),
    "one point": ((N,), red("sum", [K], at("s", N, K), cmp("==", ix(K), at("y", N)))),
    "one point of a maximum": ((N,), red("max", [K], at("s", N, K), cmp("==", ix(K), at("y", N)))),
    "one point, shifted": ((H, W), red("sum", [Index("h", "g")], at("u", Index("h", "g"), W), cmp("==", add(ix(Index("h", "g")), ONE), ix(H)))),
    "shifted": ((H, W), at("u", add(ix(H), ONE), W)),
    "shifted back": ((H, W), at("u", H, sub(ix(W), TWO))),
    "total variation": ((), red("sum", [H, W], pow_(sub(at("u", add(ix(H), ONE), W), at("u", H, W)), TWO), cmp("<", add(ix(H), ONE), size("h")))),
    "range": ((), red("sum", [B], mul(call("log", ix(B)), f))),
    "range to a parameter": ((N,), red("sum", [T], pow_(at("v", N), ix(T)))),
    "range in a guard": ((N,), red("sum", [B], ONE, cmp("<", ix(B), at("v", N)))),
    "conditions": ((N,), iverson(or_(and_(at("m", N), cmp(">", at("v", N), ZERO)), not_(cmp("<", at("v", N), ONE))))),
    "sum where": ((), red("sum", [N], call("log", at("v", N)), at("m", N))),
    "mask in pairs": ((I,), red("sum", [J], at("p", I, J), at("m", J))),
    "guard without binders": ((N,), red("sum", [K], at("s", N, K), at("m", N))),
    "maximum without binders in the guard": ((N,), red("max", [K], at("s", N, K), at("m", N))),
    "infinite": ((N,), pw([(INF, at("m", N))], NAN)),
    "ordinal": ((), red("sum", [N, K], sub(call("log1p", call("exp", at("s", N, K))), mul(iverson(cmp(">", at("y", N), ix(K))), at("s", N, K))),
                        cmp(">=", at("y", N), ix(K)))),
}  # fmt: skip


def program(name: str) -> Program:
    indices, e = TABLE[name]
    return Program("case", tuple(INPUTS.values()), PARAMS, (Output("case", indices, e),))


def values(rng: np.random.Generator, sizes: dict[str, int]) -> dict[str, Any]:
    out: dict[str, Any] = {"tau": 0.7, "top": 3.0}
    for i in INPUTS.values():
        shape = [sizes[a] for a in i.axes]
        match i.kind.name:
            case "class":
                out[i.name] = rng.integers(0, max(sizes["k"], 1), shape)
            case "label":
                out[i.name] = rng.integers(0, 3, shape)
            case "bool":
                out[i.name] = rng.integers(0, 2, shape).astype(bool)
            case _:
                out[i.name] = rng.normal(0, 1.5, shape)
    return out


def in_torch(p: Program, given: dict[str, Any]) -> Any:
    """What the printed Torch code gives, as an array."""
    torch = pytest.importorskip("torch")
    legal = legalise(p, "torch")
    space: dict[str, Any] = {}
    exec(compile(with_helpers(print_function(legal, schedule(legal), TORCH, "kernel"), TORCH), "<kernel>", "exec"), space)
    return space["kernel"](*(torch.as_tensor(np.asarray(given[x.name])) for x in (*p.inputs, *p.params))).numpy()


def source(p: Program) -> str:
    p = legalise(p, "numpy")
    return with_helpers(print_function(p, schedule(p), NUMPY, "kernel"), NUMPY)


def run(p: Program, given: dict[str, Any], dtype: Any = np.float64, text: str | None = None) -> list[Any]:
    space: dict[str, Any] = {}
    exec(compile(text or source(p), "<kernel>", "exec"), space)
    args = [np.asarray(given[i.name], dtype if np.asarray(given[i.name]).dtype.kind == "f" else None) for i in p.inputs]
    with np.errstate(all="ignore"):
        out = space["kernel"](*args, *(dtype(given[q.name]) for q in p.params))
    return list(out) if isinstance(out, tuple) else [out]


def agree(got: Any, want: Any, tolerance: float = 1e-11) -> None:
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(np.asarray(got, float), want, rtol=tolerance, atol=tolerance)


def stacked(rng: np.random.Generator, sizes: dict[str, int], n: int, names: set[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = [values(rng, sizes) for _ in range(n)]
    for row in rows[1:]:
        row.update({k: v for k, v in rows[0].items() if k not in names})
    return {k: np.stack([r[k] for r in rows]) if k in names else rows[0][k] for k in rows[0]}, rows


@pytest.mark.parametrize("name", TABLE)
def test_value(name: str) -> None:
    for seed in range(3):
        given = values(np.random.default_rng(seed), SIZES)
        p = program(name)
        (want,) = Brute(p, given).outputs()
        agree(run(p, given)[0], want)


@pytest.mark.parametrize("name", TABLE)
def test_torch_prints_the_same(name: str) -> None:
    given, rows = stacked(np.random.default_rng(3), SIZES, 2, set(INPUTS))
    agree(in_torch(batched(program(name), set(INPUTS)), given), np.stack([Brute(program(name), row).outputs()[0] for row in rows]))
    for axis in ("k", "n"):
        given = values(np.random.default_rng(5), {**SIZES, axis: 0})
        agree(in_torch(program(name), given), Brute(program(name), given).outputs()[0])


@pytest.mark.parametrize("name", TABLE)
def test_single_precision_stays_single(name: str) -> None:
    given = values(np.random.default_rng(7), SIZES)
    p = program(name)
    (got,) = run(p, given, np.float32)
    (want,) = Brute(p, given).outputs()
    assert np.asarray(got).dtype == np.float32
    agree(got, want, 1e-4)


@pytest.mark.parametrize("names", [set(INPUTS), {"s", "y", "x", "u", "p", "a", "c"}, {"v", "m", "q", "e", "f"}], ids=["all", "some", "others"])
@pytest.mark.parametrize("name", TABLE)
def test_batch(name: str, names: set[str]) -> None:
    given, rows = stacked(np.random.default_rng(3), SIZES, 3, names)
    p = batched(program(name), names)
    (got,) = run(p, given)
    agree(got, np.stack([Brute(program(name), row).outputs()[0] for row in rows]))


@pytest.mark.parametrize("axis", SIZES)
@pytest.mark.parametrize("name", TABLE)
def test_empty_axis(name: str, axis: str) -> None:
    given = values(np.random.default_rng(5), {**SIZES, axis: 0})
    p = program(name)
    (want,) = Brute(p, given).outputs()
    agree(run(p, given)[0], want)


@pytest.mark.parametrize("name", TABLE)
def test_classes_outside_their_axis(name: str) -> None:
    given = values(np.random.default_rng(5), SIZES)
    given["y"] = np.array([-1, 0, 4, 99, 3])
    given["a"] = np.array(-2)
    p = program(name)
    (want,) = Brute(p, given).outputs()
    agree(run(p, given)[0], want)


@pytest.mark.parametrize("name", TABLE)
def test_nan_and_infinity(name: str) -> None:
    """NaN goes through arithmetic and stops at guards.

    A product of three arrays is contracted pair by pair, where an infinity may meet a sum that is finite: only NaN there.
    """
    rng = np.random.default_rng(11)
    for bad in (np.nan,) if name in ("three factors", "both sides summed", "factor without a bound index") else (np.nan, np.inf, -np.inf):
        given = values(rng, SIZES)
        for name_, array in given.items():
            if np.ndim(array) and array.dtype.kind == "f":
                array.flat[rng.integers(array.size)] = bad
            elif name_ == "f":
                given["f"] = np.array(bad)
        given["c"][:2] = 5
        p = program(name)
        (want,) = Brute(p, given).outputs()
        agree(run(p, given)[0], want)


def test_a_guard_hides_nan_in_every_factor() -> None:
    given = values(np.random.default_rng(0), SIZES)
    given["c"] = np.array([0, 0, 1, 1, 2])
    given["x"][4] = np.nan
    p = program("guarded product")
    (got,) = run(p, given)
    assert np.isfinite(got).all()
    agree(got, Brute(p, given).outputs()[0])


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1.0, 1e30, 1e160, 1e300])
def test_norm_keeps_its_range(scale: float) -> None:
    given = values(np.random.default_rng(0), SIZES)
    given["x"] *= scale
    given["x"][1] = 0
    (got,) = run(program("norm"), given)
    want = [np.float64(scale) * np.linalg.norm(row / scale) for row in given["x"]]
    np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_norm_in_single_precision(scale: float) -> None:
    given = values(np.random.default_rng(0), SIZES)
    given["x"] = (given["x"] * scale).astype(np.float32)
    (got,) = run(program("norm"), given, np.float32)
    np.testing.assert_allclose(got, np.linalg.norm(given["x"].astype(float), axis=1), rtol=1e-6)


@pytest.mark.parametrize("step", [1, 15, 40])
@pytest.mark.parametrize("name", [name for name in TABLE if "by_rows(" in source(program(name))])
def test_blocks_of_rows(name: str, step: int) -> None:
    """Reductions over pairs and a further axis are computed for some rows at a time."""
    p = program(name)
    text = source(p)
    assert "2**16" in text
    given = values(np.random.default_rng(2), SIZES)
    (want,) = Brute(p, given).outputs()
    agree(run(p, given, text=text.replace("2**16", str(step)))[0], want)


def test_which_reductions_go_by_rows() -> None:
    assert {"distances", "hardest positive", "guard one level up"} <= {name for name in TABLE if "by_rows(" in source(program(name))}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [((5000,),) * 3, ((50, 100), (50, 1), (50, 100)), ((50, 100), (50, 100), (100,)), ((1500, 1), (1500, 4), (4,)), ((2000,), (), (2000,))])
def test_selection_by_bits(dtype: Any, shapes: Any) -> None:
    """The same bits as np.where: NaN, infinities and signed zeros; numbers on either side."""
    space: dict[str, Any] = {"np": np}
    exec(NUMPY.helpers["select"], space)
    rng = np.random.default_rng(0)
    c, a, b = (rng.choice([0.0, -0.0, 1.5, np.nan, np.inf, -np.inf, 1e-40], s).astype(dtype) for s in shapes)
    c = c > 0
    for x, y in ((a, b), (a, 0), (a, 1.5), (2, b), (a, -np.inf), (dtype(3), b), (a, dtype(0))):
        got, want = space["select"](c, x, y), np.where(c, x, y)
        assert got.dtype == dtype
        assert got.shape == want.shape
        np.testing.assert_array_equal(got.view(f"u{got.itemsize}"), want.astype(dtype).view(f"u{got.itemsize}"))


def test_selection_on_views() -> None:
    space: dict[str, Any] = {"np": np}
    exec(NUMPY.helpers["select"], space)
    a = np.random.default_rng(0).normal(size=(60, 80))
    np.testing.assert_array_equal(space["select"]((a > 0).T, a.T, a.T[::-1]), np.where((a > 0).T, a.T, a.T[::-1]))


@pytest.mark.parametrize("name", ["cross-entropy", "all but one class", "one entry set", "confident", "hardest positive", "conditions", "scatter of rows"])
def test_large_batches(name: str) -> None:
    """Long arrays go through other branches of the helpers than short ones."""
    n = 2000
    rng = np.random.default_rng(1)
    given, rows = stacked(rng, SIZES, 3, set(INPUTS))
    many = {k: np.concatenate([v] * n) if k in INPUTS else v for k, v in given.items()}
    (got,) = run(batched(program(name), set(INPUTS)), many)
    want = np.stack([Brute(program(name), row).outputs()[0] for row in rows])
    agree(got[-3:], want)
    agree(got[:3], want)


def test_the_text_is_the_same_each_time() -> None:
    for name in TABLE:
        assert source(batched(program(name), set(INPUTS))) == source(batched(program(name), set(INPUTS)))


def test_shared_up_to_the_names_of_indices() -> None:
    distances = add(red("max", [J], sqdist(I, J)), red("min", [I], sqdist(N, I)))
    p = Program("case", tuple(INPUTS.values()), PARAMS, (Output("case", (), add(red("sum", [I], red("max", [J], sqdist(I, J))), red("sum", [N], red("min", [J], sqdist(N, J))))),))
    stages = schedule(legalise(p, "numpy")).stages
    assert distances.free
    assert sum(s.op == "sum" and [i.axis for i in s.over] == ["d"] for s in stages) == 1


@pytest.mark.parametrize("name, shape", [
    ("pointwise", "pointwise"), ("sum of a row", "row"), ("pairs", "pair"), ("scatter of rows", "scatter"), ("matrix product", "contraction"),
])  # fmt: skip
def test_shapes(name: str, shape: str) -> None:
    assert shape in [s.shape for s in schedule(legalise(program(name), "numpy")).stages]


@pytest.mark.parametrize("name", ["matrix product", "guarded product", "cosines", "matrix product, transposed"])
def test_a_contraction_is_a_matrix_product(name: str) -> None:
    text = source(batched(program(name), {"x", "z", "p", "e", "c"}))
    assert " @ " in text


def test_no_dense_one_hot_in_a_scatter() -> None:
    text = source(program("scatter of rows"))
    assert "scatter(" in text.split("def kernel")[1]
    assert "==" not in text.split("def kernel")[1]


def test_deep_nests_compile() -> None:
    e: Expr = f
    for k in range(400):
        e = call("tanh", add(e, num(k)))
    p = Program("case", (INPUTS["f"],), (), (Output("case", (), e),))
    assert np.isfinite(run(p, {"f": np.float64(0.3)})[0])


def test_names_are_mangled() -> None:
    words = ["lambda", "np", "real", "pick", "def", "None", "print", "batch", "kernel", "exp", "λ", "x_", "sum", "exp2"]
    inputs = tuple(Input(w, Kind()) for w in words)
    e: Expr = ZERO
    for w in words:
        e = add(e, call("exp", ref(w)))
    p = Program("case", inputs, (), (Output("case", (), add(e, mul(e, e))),))
    given = {w: np.float64(k) / 7 for k, w in enumerate(words)}
    x = sum(np.exp(v) for v in given.values())
    agree(run(p, given)[0], x + x * x)


def _chain(depth: int) -> Expr:
    e: Expr = at("s", N, K)
    for _ in range(depth):
        e = sub(e, call("tanh", red("sum", [K], e)))
    return e


def test_many_stages_schedule_quickly() -> None:
    p = Program("case", (INPUTS["s"],), (), (Output("case", (), red("sum", [N, K], _chain(150))),))
    stages = schedule(legalise(p, "numpy")).stages
    assert len(stages) >= 150


CASES: list[tuple[str, Callable[..., Expr]]] = [("max", lambda a, b: call("max", a, b)), ("min", lambda a, b: call("min", a, b))]


@pytest.mark.parametrize("name, make", CASES)
def test_extrema_of_numbers_and_arrays_keep_nan(name: str, make: Callable[..., Expr]) -> None:
    for a, b in itertools.product((f, num(1), tau, at("v", N)), repeat=2):
        e = make(a, b)
        p = Program("case", tuple(INPUTS.values()), PARAMS, (Output("case", (N,), e),))
        given = values(np.random.default_rng(0), SIZES)
        given["v"][0] = np.nan
        agree(run(p, given)[0], Brute(p, given).outputs()[0])
