"""The reductions: one row each. What they take, what an empty one gives, how they merge and how a weight enters.

A reduction is a monoid: ``lift`` an element (``x``, of weight ``w``, 1 if none is given), ``combine`` two states, starting from
``identity``, and ``finish``. States are tuples of named parts; of two states the parts are ``a_part`` and ``b_part``. Texts are
in the loss language.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Monoid:
    """How partial results merge; ``finish`` is over the parts' names."""

    parts: tuple[str, ...]
    identity: tuple[str, ...]
    lift: tuple[str, ...]
    combine: tuple[str, ...]
    finish: str


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one reduction.

    ``body``       ``number`` or ``condition``: what is reduced
    ``options``    the options it accepts
    ``empty``      what it gives where the guard leaves nothing, as text; ``nan`` where a ``default`` is due
    ``node``       whether it is a node of ``ir.expr``; the others are written by those
    ``keeps_axis`` whether the axis stays (softmax, sort, ..); ``outside`` is then the value where the guard is false, None where
                   what it leaves out is skipped (sort, argsort, cumsum)
    ``one_axis``   whether it runs along one axis and no more
    ``gives``      ``number``, ``condition`` or ``class`` (an index of the axis)
    ``weight``     how a sample weight enters: ``multiplies`` each element, ``measure`` (an entry of weight 0 is removed, then
                   it enters as the monoid says), ``support`` (only whether it is 0), None where it has no meaning
    ``monoid``     None where partial results do not merge in bounded space
    ``linear``     whether the result is linear in the elements
    ``bracketless`` what it is without a bracket, if anything: ``numbers`` (a function of two or more), ``vector``
    """

    name: str
    doc: str
    body: str = "number"
    options: tuple[str, ...] = ()
    empty: str = "nan"
    node: bool = False
    keeps_axis: bool = False
    one_axis: bool = False
    outside: str | None = None
    gives: str = "number"
    weight: str | None = None
    monoid: Monoid | None = None
    linear: bool = False
    bracketless: str | None = None


_MOMENTS = Monoid(
    ("w", "m", "q"), ("0", "0", "0"), ("w", "x", "0"),
    ("a_w + b_w",
     "piecewise((a_w*a_m + b_w*b_m)/(a_w + b_w) if a_w + b_w > 0, 0 otherwise)",
     "a_q + b_q + piecewise((a_m - b_m)^2*a_w*b_w/(a_w + b_w) if a_w + b_w > 0, 0 otherwise)"),
    "q/(w - ddof)",
)  # fmt: skip


def _extremum(worst: str, call: str) -> Monoid:
    """The extreme value, and how many were seen: none is no value."""
    return Monoid(("x", "n"), (worst, "0"), ("x", "1"), (f"{call}(a_x, b_x)", "a_n + b_n"), "piecewise(x if n > 0)")


def _best(worst: str, better: str) -> Monoid:
    """The index of the first best element; an index below 0 stands for none."""
    first = f"b_i < 0 or a_i >= 0 and (a_x {better} b_x or a_x == b_x and a_i < b_i)"
    pick = tuple(f"piecewise(a_{part} if {first}, b_{part} otherwise)" for part in "xi")
    return Monoid(("x", "i"), (worst, "-1"), ("x", "i"), pick, "piecewise(i if i >= 0)")


_ROWS = (
    Row("sum", "the sum", options=("default",), empty="0", node=True, weight="multiplies", linear=True,
        monoid=Monoid(("s",), ("0",), ("w*x",), ("a_s + b_s",), "s")),
    Row("mean", "the mean, weighted by weight", options=("default", "weight"), weight="measure", linear=True,
        monoid=Monoid(("s", "w"), ("0", "0"), ("w*x", "w"), ("a_s + b_s", "a_w + b_w"), "s/w")),
    Row("prod", "the product", options=("default",), empty="1", node=True, weight="measure",
        monoid=Monoid(("p",), ("1",), ("x^w",), ("a_p*b_p",), "p")),
    Row("max", "the largest", options=("default",), node=True, weight="support", bracketless="numbers",
        monoid=_extremum("-inf", "max")),
    Row("min", "the smallest", options=("default",), node=True, weight="support", bracketless="numbers",
        monoid=_extremum("inf", "min")),
    Row("logsumexp", "log(sum(exp(x)))", options=("default",), empty="-inf", node=True, weight="measure",
        monoid=Monoid(("x",), ("-inf",), ("x + log(w)",), ("logaddexp(a_x, b_x)",), "x")),
    Row("count", "how many hold", "condition", ("default",), "0", weight="multiplies", linear=True,
        monoid=Monoid(("n",), ("0",), ("w*x",), ("a_n + b_n",), "n")),
    Row("any", "whether one holds", "condition", empty="0", node=True, gives="condition", weight="support",
        monoid=Monoid(("x",), ("0",), ("x",), ("max(a_x, b_x)",), "x")),
    Row("all", "whether all hold", "condition", empty="1", gives="condition", weight="support",
        monoid=Monoid(("x",), ("1",), ("x",), ("min(a_x, b_x)",), "x")),
    Row("argmax", "the index of the first largest", options=("default",), node=True, one_axis=True, gives="class", weight="support",
        monoid=_best("-inf", ">")),
    Row("argmin", "the index of the first smallest", options=("default",), node=True, one_axis=True, gives="class", weight="support",
        monoid=_best("inf", "<")),
    Row("norm", "the Euclidean norm", options=("default",), empty="0", node=True, weight="measure", bracketless="vector",
        monoid=Monoid(("x",), ("0",), ("sqrt(w)*abs(x)",), ("hypot(a_x, b_x)",), "x")),
    Row("softmax", "exp(x)/sum(exp(x))", keeps_axis=True, outside="0"),
    Row("log_softmax", "x - logsumexp(x)", keeps_axis=True, outside="-inf"),
    Row("sort", "the sorted values", options=("order",), keeps_axis=True, one_axis=True),
    Row("argsort", "the indices that sort, stable", options=("order",), node=True, keeps_axis=True, one_axis=True, gives="class"),
    Row("cumsum", "the running sum", keeps_axis=True, one_axis=True, linear=True),
    Row("rank", "1 + how many come before", options=("order",), keeps_axis=True, one_axis=True, outside="nan"),
    Row("var", "the variance", options=("default", "ddof"), weight="measure", monoid=_MOMENTS),
    Row("std", "the standard deviation", options=("default", "ddof"), weight="measure",
        monoid=Monoid(_MOMENTS.parts, _MOMENTS.identity, _MOMENTS.lift, _MOMENTS.combine, "sqrt(q/(w - ddof))")),
)  # fmt: skip

REDUCTIONS: dict[str, Row] = {row.name: row for row in _ROWS}
