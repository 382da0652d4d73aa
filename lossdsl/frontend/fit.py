"""Which kinds may stand for which: a named kind where another is due, and neither contains the other, is a mistake."""

from __future__ import annotations

from lossdsl.frontend.values import Sort
from lossdsl.kinds import KINDS, Interval, Kind

_PROBABILITIES = ("prob", "unit", "binary", "simplex")
_LOGARITHMIC = ("logit", "logprob")

# (given, due): how the one is made of the other
_MAKE = {
    ("logit", "prob"): "use sigmoid(s)",
    ("logit", "unit"): "use sigmoid(s)",
    ("logit", "binary"): "use sigmoid(s) where a probability is due",
    ("logit", "simplex"): "use softmax[k](s)",
    ("logprob", "prob"): "use exp(s)",
    ("logprob", "unit"): "use exp(s)",
    ("logprob", "simplex"): "declare exp(s) as an input",
    ("prob", "logit"): "use logit(p)",
    ("unit", "logit"): "use logit(p)",
    ("prob", "logprob"): "use log(p)",
    ("unit", "logprob"): "use log(p)",
    ("simplex", "logit"): "use log(p)",
    ("simplex", "logprob"): "use log(p)",
    ("sign", "binary"): "use (y + 1)/2",
    ("sign", "unit"): "use (y + 1)/2",
    ("binary", "sign"): "use 2*y - 1",
    ("unit", "sign"): "use 2*y - 1",
    ("sign", "prob"): "use (y + 1)/2",
    ("prob", "sign"): "use 2*p - 1",
}


def misfit(given: Sort, due: Kind, of: str | None) -> tuple[str, str] | None:
    """What is wrong and how to mend it, or None; ``of`` is the axis of the argument that a class or a simplex is due for."""
    match due.role:
        case "condition":
            return None if given.role == "condition" else (_named(given), "write a comparison: y == 1")
        case "label":
            fits = given.role in ("label", "class", "index") or given.integer
            return None if fits else (_named(given), "a label is a whole number that is only compared")
        case "class":
            return _class(given, of)
    if given.role == "label":
        return "a label", "a label is only compared, c[i] == c[j]"
    if due.name == "simplex":
        return _simplex(given, of)
    return _number(given, due)


def _named(given: Sort) -> str:
    if given.role == "condition":
        return "a condition"
    name = given.kind if given.role in ("number", "label", "class") else "integer"
    if name == "integer" or (name == "real" and given.integer):
        return "an integer"
    return f"a {name}" if name != "real" else "a real number"


def _class(given: Sort, of: str | None) -> tuple[str, str] | None:
    if given.role in ("class", "index"):
        if given.of is None or of is None or given.of == of:
            return None
        return f"a{' class' if given.role == 'class' else 'n index'} of the axis '{given.of}', not '{of}'", f"declare it as class({of})"
    if given.places and given.role == "number":
        return None
    return _named(given), f"declare it as a class of the axis: class({of or 'k'})"


def _simplex(given: Sort, of: str | None) -> tuple[str, str] | None:
    if given.kind == "simplex" and given.role == "number":
        if given.of is None or of is None or given.of == of:
            return None
        return f"a simplex along '{given.of}', not '{of}'", "name the axis in a bracket of the call"
    hint = _MAKE.get((given.kind, "simplex"), f"declare it as simplex[{of or 'k'}], or use softmax[{of or 'k'}](..)")
    return _named(given), hint


def _number(given: Sort, due: Kind) -> tuple[str, str] | None:
    name = "binary" if given.role == "condition" else given.kind if given.role == "number" else "integer"
    if due.interval is None and due.name == "real" or (name == "real" and given.interval == KINDS["real"].domain) or name == due.name:
        return None
    other = name in _LOGARITHMIC and due.name in _PROBABILITIES or name in _PROBABILITIES and due.name in _LOGARITHMIC
    domain = KINDS["binary"].domain if given.role == "condition" else given.interval if given.role == "number" else KINDS["integer"].domain
    if not other and (_holds(due.name, due.domain, name, domain) or _holds(name, domain, due.name, due.domain)):
        return None
    hint = _MAKE.get((name, due.name), f"{due.name}: {KINDS[due.name].doc}" if due.interval is None else f"values lie in {due.interval}")
    return (
        "a condition"
        if given.role == "condition"
        else f"an {name}"
        if name == "integer"
        else f"a {name}"
        if name != "real"
        else f"a number in {domain}"
    ), hint


def _holds(outer: str, a: Interval, inner: str, b: Interval) -> bool:
    """Whether one kind contains another, ends aside; the few values of sign and binary contain no interval."""
    if outer in ("sign", "binary"):
        return outer == inner
    return a.low <= b.low and b.high <= a.high
