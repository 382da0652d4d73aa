"""What comparisons say: decided by ranges, brought to a simple form, implied by one another, used in what they guard.

All holds for numbers that keep the promises of their kinds, so no comparison is false because of a NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

from lossdsl.ir.expr import MINUS_ONE, ONE, ZERO, Expr, and_, boolean, call, cmp, conjuncts, neg, or_, rewrite, sub
from lossdsl.ir.ranges import Ranges
from lossdsl.kinds import Interval
from lossdsl.passes.algebra import Factor, Linear, Names, Product, Term, alone, build_product, build_sum, product, terms, weight

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
_MOST = 12  # terms of a sum that is multiplied out


@dataclass(frozen=True, slots=True)
class Literal:
    """A comparison of a linear form with a number; forms that are multiples of each other are one."""

    form: Linear
    sign: str
    bound: Fraction

    @property
    def values(self) -> Interval | None:
        """Where the form may lie; None for ``!=``."""
        match self.sign:
            case "<" | "<=":
                return Interval(-inf, self.bound, True, self.sign == "<")
            case ">" | ">=":
                return Interval(self.bound, inf, self.sign == ">", True)
            case "==":
                return Interval(self.bound, self.bound, False, False)
        return None

    def implies(self, other: Literal) -> bool:
        if self.form != other.form:
            return False
        own, its = self.values, other.values
        if own is None or its is None:
            return self == other or (its is None and own is not None and other.bound not in own)
        return own.within(its)


class Conditions:
    """Reasoning on the conditions of one program; ``order`` gives the places of its inputs."""

    def __init__(self, ranges: Ranges, names: Names, order: Sequence[str]) -> None:
        self.ranges, self.names = ranges, names
        self.order = {name: k for k, name in enumerate(order)}

    # -- one comparison

    def decided(self, e: Expr) -> bool | None:
        """Whether a comparison surely holds or surely fails, if either."""
        if e.op == "bool":
            return bool(e.data)
        low, high, zero = self._difference(*e.args)
        sure = {"<": high < 0, "<=": high <= 0, ">": low > 0, ">=": low >= 0, "==": low == 0 == high, "!=": not zero}
        return True if sure[e.data] else False if sure[NEGATED[e.data]] else None

    def _difference(self, a: Expr, b: Expr) -> tuple[Fraction | float, Fraction | float, bool]:
        """Bounds of ``a - b``, moved off 0 where that is left out, and whether it may be 0."""
        found = self.ranges.reach(sub(a, b))
        if found.nan:
            return -inf, inf, True
        i = found.interval
        low = Fraction(1) if i.low == 0 and (i.low_open or not found.zero) else i.low
        high = Fraction(-1) if i.high == 0 and (i.high_open or not found.zero) else i.high
        at = self._within_axis(a, b)
        return low, high if at is None else min(high, at), found.zero and (at is None or at >= 0)

    def _within_axis(self, a: Expr, b: Expr) -> Fraction | None:
        """The largest value of an index less the length of its axis and numbers: an index is at most the length less 1."""
        parts = {t.rest: t.coefficient for t in terms(sub(a, b)) if t.rest is not ONE}
        shift = sum((t.coefficient for t in terms(sub(a, b)) if t.rest is ONE), Fraction(0))
        if len(parts) != 2 or sorted(parts.values()) != [-1, 1]:
            return None
        index, length = sorted(parts, key=lambda e: parts[e], reverse=True)
        return shift - 1 if index.op == "ix" and length.op == "size" and index.data.axis == length.data else None

    def compared(self, e: Expr) -> Expr | None:
        """A comparison after one step: decided, without a needless extreme, or with its terms moved; None for no step."""
        known = self.decided(e)
        if known is not None:
            return boolean(known)
        return self._without_extreme(e) or self._moved(e)

    def _without_extreme(self, e: Expr) -> Expr | None:
        """``a > max(b, c)`` where a is above b is ``a > c``."""
        left, right = e.args
        for a, b, sign in ((left, right, str(e.data)), (right, left, FLIPPED[e.data])):
            found = _extreme(b)
            if found is None:
                continue
            name, parts = found
            above, at_least = (">", ">=") if name == "max" else ("<", "<=")
            needed = at_least if sign in (FLIPPED[above], at_least) else above
            for k, part in enumerate(parts):
                if self.decided(cmp(needed, a, part)) is True:
                    rest = parts[:k] + parts[k + 1 :]
                    return cmp(sign, a, rest[0] if len(rest) == 1 else call(name, *rest))
        return None

    def _moved(self, e: Expr) -> Expr | None:
        """Terms on the side where they are positive, numbers on the right, equal terms cancelled; if that is shorter."""
        a, b = e.args
        extremes = any(t.rest.op == "red" and t.rest.data[0] in ("max", "min") for x in (a, b) for t in terms(x))
        if extremes or not (self.ranges.finite(a) and self.ranges.finite(b)):  # what is an extreme is compared as it stands
            return None
        best, size = None, weight(e)
        for parts in (gathered(self.names, terms(sub(a, b))), gathered(self.names, opened(terms(sub(a, b))))):
            made = self._sides(e.data, parts)
            if weight(made) < size:
                best, size = made, weight(made)
        if best is None and self._reversed(a, b):
            return cmp(FLIPPED[e.data], b, a)
        return best

    def _sides(self, sign: str, parts: Sequence[Term]) -> Expr:
        free = [t for t in parts if t.rest is not ONE]
        number = sum((t.coefficient for t in parts if t.rest is ONE), Fraction(0))
        left = [t for t in free if t.coefficient > 0]
        right = [Term(-t.coefficient, t.rest) for t in free if t.coefficient < 0]
        if not left:
            left, right, number, sign = right, left, -number, FLIPPED[sign]
        by = left[0].coefficient if left and not right and len(left) == 1 else Fraction(1)
        right += [Term(-number, ONE)] if number or not right else []
        low, high = ([Term(t.coefficient / by, t.rest) for t in side] for side in (left, right))
        made = build_sum(low), build_sum(high)
        return cmp(FLIPPED[sign], *made[::-1]) if self._reversed(*made) else cmp(sign, *made)

    def _reversed(self, a: Expr, b: Expr) -> bool:
        """Whether a number or a single name stands on the left of what is more, or two inputs against the order of declaration."""
        if a.op == "num" and b.op != "num":
            return True
        if a.op == "ref" and b.op not in ("ref", "num", "size", "ix"):
            return weight(b) > weight(a)
        return a.op == b.op == "ref" and self.order.get(a.data, -1) > self.order.get(b.data, -1) >= 0

    # -- several

    def literal(self, e: Expr) -> Literal | None:
        """A comparison of finite numbers as a literal."""
        if e.op != "cmp" or not (self.ranges.finite(e.args[0]) and self.ranges.finite(e.args[1])):
            return None
        form = self.names.of(sub(*e.args))
        bound = -sum((c for m, c in form if m == self.names.one), Fraction(0))
        free = tuple((m, c) for m, c in form if m != self.names.one and c)
        if not free:
            return None
        lead = free[0][1]
        return Literal(tuple((m, c / lead) for m, c in free), e.data if lead > 0 else FLIPPED[e.data], bound / lead)

    def implies(self, condition: Expr, other: Expr) -> bool:
        """Whether one comparison follows from another."""
        a, b = self.literal(condition), self.literal(other)
        return condition is other or (a is not None and b is not None and a.implies(b))

    def equivalent(self, a: Expr, b: Expr) -> bool:
        return self.implies(a, b) and self.implies(b, a)

    def joined(self, e: Expr) -> Expr | None:
        """Of comparisons joined by ``and`` or ``or``, those that say all: one for two, or none."""
        parts = conjuncts(e) if e.op == "and" else disjuncts(e)
        for k, b in enumerate(parts):
            for i, a in enumerate(parts[:k]):
                one = self._pair(e.op, a, b)
                if one is not None:
                    join = and_ if e.op == "and" else or_
                    return join(*parts[:i], one, *parts[i + 1 : k], *parts[k + 1 :])
        return None

    def _pair(self, op: str, a: Expr, b: Expr) -> Expr | None:
        strong, weak = (a, b) if self.implies(a, b) else (b, a) if self.implies(b, a) else (None, None)
        if strong is not None:
            return strong if op == "and" else weak
        x, y = self.literal(a), self.literal(b)
        if x is None or y is None or x.form != y.form:
            return None
        if op == "and":
            return boolean(False) if x.implies(replace(y, sign=NEGATED[y.sign])) else None
        if replace(x, sign=NEGATED[x.sign]).implies(y):
            return boolean(True)
        if x.bound == y.bound and x.sign == "==" and y.sign in "<>":
            return cmp(f"{b.data}=", *b.args)
        return cmp(f"{a.data}=", *a.args) if x.bound == y.bound and y.sign == "==" and x.sign in "<>" else None

    # -- inside of what they guard

    def under(self, conditions: Sequence[Expr], e: Expr) -> Expr:
        """The expression where some comparisons hold: extremes, distances and signs that they decide are taken out."""

        def visit(x: Expr) -> Expr:
            if x.op == "call" and x.data in DECIDABLE:
                return self._chosen(conditions, x)
            return x

        return rewrite((e,), visit, under=False)[0]

    def _chosen(self, conditions: Sequence[Expr], x: Expr) -> Expr:
        if x.data in ("max", "min") and len(x.args) == 2:
            a, b = x.args if x.data == "max" else x.args[::-1]
            return x.args[0] if self._holds(conditions, cmp(">=", a, b)) else x.args[1] if self._holds(conditions, cmp("<=", a, b)) else x
        a = x.args[0]
        up, down = (self._holds(conditions, cmp(sign, a, ZERO)) for sign in (">=", "<="))
        match x.data:
            case "relu":
                return a if up else ZERO if down else x
            case "abs":
                return a if up else neg(a) if down else x
            case "sign":
                found = (s for s in ("<", "==", ">") if self._holds(conditions, cmp(s, a, ZERO)))
                return {"<": MINUS_ONE, "==": ZERO, ">": ONE, "": x}[next(found, "")]
        return x

    def _holds(self, conditions: Sequence[Expr], e: Expr) -> bool:
        return e.op == "bool" and e.data or any(self.implies(c, e) for c in conditions)


DECIDABLE = ("max", "min", "relu", "abs", "sign")


def _extreme(e: Expr) -> tuple[str, tuple[Expr, ...]] | None:
    """A max or min and its parts."""
    if e.op != "call" or e.data not in ("max", "min", "relu"):
        return None
    return ("max", (ZERO, *e.args)) if e.data == "relu" else (e.data, e.args)


def disjuncts(e: Expr) -> list[Expr]:
    """The conditions that an expression joins by ``or``, in order."""
    out, stack = [], [e]
    while stack:
        c = stack.pop()
        if c.op == "or":
            stack += (c.args[1], c.args[0])
        else:
            out.append(c)
    return out


def gathered(names: Names, parts: Iterable[Term]) -> list[Term]:
    """Like terms together, without those that cancel."""
    found: dict[int, Term] = {}
    for t in parts:
        name, content = names.monomial(t.rest)
        old = found.get(name)
        by = t.coefficient if old is None else t.coefficient * content / names.monomial(old.rest)[1]
        found[name] = t if old is None else Term(old.coefficient + by, old.rest)
    return [t for t in found.values() if t.coefficient]


def opened(parts: Sequence[Term]) -> list[Term]:
    """The terms with products of sums multiplied out, as long as they stay few."""
    out: list[Term] = []
    for t in parts:
        spread = [Product(t.coefficient, ())]
        for f in product(t.rest).factors if t.rest is not ONE else ():
            inner = terms(f.base) if f.base.op in ("add", "sub") and f.power == 1 else [Term(Fraction(1), alone(f))]
            if len(spread) * len(inner) > _MOST:
                return list(parts)
            spread = [Product(p.coefficient * u.coefficient, (*p.factors, *_factors(u.rest))) for p in spread for u in inner]
        out += [Term(p.coefficient, build_product(Product(Fraction(1), p.factors))) for p in spread]
    return out if len(out) <= _MOST else list(parts)


def _factors(e: Expr) -> tuple[Factor, ...]:
    return () if e is ONE else product(e).factors
