"""The arithmetic in expressions: what is a rational function, or one with square roots, of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from lossdsl.ir.expr import Expr

_NODES = 80
_RELATED = ("sin", "cos", "sinh", "cosh")  # functions whose squares determine each other


def is_arithmetic(e: Expr) -> bool:
    return e.op in ("add", "sub", "mul", "div", "neg") or (e.op == "pow" and exponent(e) is not None)


def exponent(e: Expr) -> Fraction | None:
    """The exponent of a power, if it is a small whole or half number."""
    x = e.args[1]
    return Fraction(x.data) if x.op == "num" and x.data.denominator <= 2 and abs(x.data) <= 6 else None


def parts(e: Expr) -> tuple[Expr, ...]:
    """The operands of an arithmetic node, nothing for any other."""
    return () if not is_arithmetic(e) else e.args[:1] if e.op == "pow" else e.args


def region(e: Expr) -> Iterator[Expr]:
    """The arithmetic nodes of an expression and their leaves, each once, parts first."""
    seen: set[Expr] = set()
    stack = [(e, False)]
    while stack:
        x, done = stack.pop()
        if done:
            yield x
        elif x not in seen:
            seen.add(x)
            stack += [(x, True), *((a, False) for a in reversed(parts(x)))]


def worthwhile(e: Expr) -> bool:
    """Whether a shorter form may be found: something stands in sums and products repeatedly, or two of its leaves have an identity."""
    nodes = list(region(e))
    uses = Counter(a for x in nodes for a in parts(x) if a.op != "num")
    sums = sum(x.op in ("add", "sub") for x in nodes)
    related = {x.data for x in nodes if x.op == "call" and x.data in _RELATED}
    return len(nodes) <= _NODES and sums > 0 and (any(n > 1 for n in uses.values()) or len(related) > 1)


def shared_sums(e: Expr) -> frozenset[Expr]:
    """Sums that stand in an expression more than once."""
    uses = Counter(a for x in region(e) for a in parts(x))
    return frozenset(a for a, n in uses.items() if n > 1 and a.op in ("add", "sub") and a is not e)
