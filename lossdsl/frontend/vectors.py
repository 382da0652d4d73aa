"""The vector functions: each runs along exactly one axis."""

from __future__ import annotations

from dataclasses import dataclass

from lossdsl.frontend.values import Array, Slot, value
from lossdsl.ir.expr import Expr, Index, div, fresh, ix, mul, num, pow_, red, ref, replace_indices, sub
from lossdsl.ir.program import Input
from lossdsl.kinds import Kind

_D = Index("d", "d")


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector function: its inputs, arrays over ``d``, and its value, which may keep the axis."""

    name: str
    inputs: tuple[Input, ...]
    array: Array


def _reduced(op: str, body: Expr) -> Expr:
    index = fresh("d")

    return red(op, [index], replace_indices(body, {_D: ix(index)}))


def _rows() -> dict[str, Vector]:
    a, b, x = (ref(n, [ix(_D)]) for n in "abx")
    norm_a, norm_b = _reduced("norm", a), _reduced("norm", b)
    dot = _reduced("sum", mul(a, b))
    two = ("a", "b")
    rows = {
        "norm": (("x",), _reduced("norm", x)),
        "dot": (two, dot),
        "sqdist": (two, _reduced("sum", pow_(sub(a, b), num(2)))),
        "euclidean": (two, _reduced("norm", sub(a, b))),
        "cosine": (two, div(dot, mul(norm_a, norm_b))),
        "normalize": (("x",), div(x, _reduced("norm", x))),
    }
    out: dict[str, Vector] = {}
    for name, (args, e) in rows.items():
        slots = (Slot("d", "d", _D),) if _D in e.free else ()
        out[name] = Vector(name, tuple(Input(n, Kind("real", (("d", "d"),))) for n in args), Array(value(e), slots))
    return out


VECTORS = _rows()
