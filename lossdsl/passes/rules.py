"""Rewrite rules as data: pairs of texts in the loss language, with conditions on what their letters stand for.

A rule holds wherever both sides are defined, at infinities too; the right one may be defined where the left one is not.

Sums and products match up to order, grouping and signs, and a rule for a sum of two terms or a product of factors applies to
any of those among more, with a common factor in front: ``1 - sigmoid(a) -> sigmoid(-a)`` makes ``w + x - w*sigmoid(s)`` into
``w*sigmoid(-s) + x``. One part of the left side is its lead: the first that has all the letters. Where the lead matches, the
other parts are known and looked up, so nothing is ever tried twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache

from lossdsl.ir.expr import Expr, postorder, ref
from lossdsl.ir.ranges import Ranges
from lossdsl.ir.read import read
from lossdsl.ir.rows import fill
from lossdsl.passes.algebra import Factor, Names, Product, Term, build_product, build_sum, product, scale, terms

STABLE = """
1 - sigmoid(a) -> sigmoid(-a)
2*sigmoid(a) - 1 -> tanh(a/2)
1 - tanh(a)^2 -> 1/cosh(a)^2
1 - tanh(a) -> 2*sigmoid(-2*a)
1 + tanh(a) -> 2*sigmoid(2*a)
exp(a) + exp(-a) -> 2*cosh(a)
exp(a) - exp(-a) -> 2*sinh(a)
1 - erf(a) -> erfc(a)
1 + erf(a) -> erfc(-a)
1 - normal_cdf(a) -> normal_cdf(-a)
xlogy(b, sigmoid(a)) + xlogy(1 - b, sigmoid(-a)) -> -bce_with_logits(a, b)
sigmoid(a)*exp(-a) -> sigmoid(-a)
sigmoid(a)/sigmoid(-a) -> exp(a)
sinh(a)/cosh(a) -> tanh(a)
tanh(a)*cosh(a) -> sinh(a)
exp(-softplus(a)) -> sigmoid(-a)
exp(logsigmoid(a)) -> sigmoid(a)
exp(log(a)) -> a if nonnegative(a)
log(exp(a)) -> a
a^(1/2) -> sqrt(a)
sqrt(a^2) -> abs(a)
sqrt(a^2 + b^2) -> hypot(a, b)
"""

FINE = """
1 - exp(a) -> -expm1(a)
1 - cos(a) -> 2*sin(a/2)^2
cosh(a) - 1 -> 2*sinh(a/2)^2
sqrt(1 + a) - 1 -> sqrt1pm1(a)
sqrt(a + b^2) - b -> b*sqrt1pm1(a/b^2) if positive(b)
sqrt(b^2 + a) - b -> b*sqrt1pm1(a/b^2) if positive(b)
hypot(a, b) - b -> b*hypot1m1(a/b) if positive(b)
hypot(b, a) - b -> b*hypot1m1(a/b) if positive(b)
softplus(a) - a -> softplus(-a) if finite(a)
log(1 + a) -> log1p(a)
xlogy(b, 1 + a) -> mul0(b, log1p(a)) if finite(b)
exp(a)/expm1(a) -> -1/expm1(-a)
log1p(exp(a)) -> softplus(a)
expm1(-softplus(a)) -> -sigmoid(a)
expm1(softplus(a)) -> exp(a)
log1mexp(-softplus(a)) -> -softplus(-a)
sqrt1pm1(a^2) -> hypot1m1(a)
sqrt(1 + a^2) -> hypot(1, a)
"""

NEAT = """
tanh(-a) -> -tanh(a)
sinh(-a) -> -sinh(a)
asinh(-a) -> -asinh(a)
sin(-a) -> -sin(a)
atan(-a) -> -atan(a)
erf(-a) -> -erf(a)
cbrt(-a) -> -cbrt(a)
abs(a)^2 -> a^2
logaddexp(a, 0) -> softplus(a)
logaddexp(0, a) -> softplus(a)
(1 - b)*sigmoid(a) - b*sigmoid(-a) -> sigmoid(a) - b if finite(b)
"""

# Equal values, other derivatives at a kink.
KINKED = """
sign(a)*abs(a) -> a
sign(a)*a -> abs(a)
abs(a) -> a if nonnegative(a)
relu(a) -> a if nonnegative(a)
"""


_CONDITIONS: dict[str, Callable[[Ranges, Expr], bool]] = {
    "positive": Ranges.positive,
    "nonnegative": Ranges.nonnegative,
    "nonzero": Ranges.nonzero,
    "finite": Ranges.finite,
}

Bindings = dict[str, Expr]


@dataclass(frozen=True, slots=True)
class Rule:
    """``left -> right`` where every condition (a name of ``Ranges`` and a letter) holds.

    ``lead`` is the part of the left side that is looked for, ``others`` what must stand beside it.
    """

    text: str
    left: Expr
    right: Expr
    conditions: tuple[tuple[str, str], ...]
    lead: Term | Factor
    others: tuple[Term | Factor, ...] = ()
    heads: Mapping[tuple[str, object], int] = field(default_factory=dict)  # the functions of the left side, and how often


_PARTS = re.compile(r"(.*?)(?: if (\w+\(\w\)(?:, \w+\(\w\))*))?")  # a right side may hold an "if" of its own


@cache
def rules(texts: str) -> tuple[Rule, ...]:
    """The rules of a table."""
    return tuple(_rule(line) for line in texts.splitlines() if line)


def _rule(text: str) -> Rule:
    parted = _PARTS.fullmatch(text)
    assert parted is not None, text
    equation, where = parted.groups("")
    left, right = (read(side, _LETTERS) for side in equation.split(" -> "))
    conditions = tuple((name, letter) for name, letter in (c.strip(" )").split("(") for c in where.split(",") if c))
    parts: Sequence[Term | Factor] = [Factor(left, 1)]
    if left.op in ("add", "sub"):
        parts = terms(left)
    elif left.op in ("mul", "div") or (left.op == "pow" and left.args[1].op == "num" and left.args[1].data.denominator == 1):
        parts = product(left).factors
    every = _letters(left)
    lead = next(p for p in parts if _letters(_inside(p)) == every and _inside(p).op != "ref")
    heads = Counter(_head(f.base) for p in parts for f in product(_inside(p)).factors if f.base.op == "call")
    return Rule(text, left, right, conditions, lead, tuple(p for p in parts if p is not lead), heads)


_LETTERS = {x: ref(x) for x in "abc"}


def _letters(e: Expr) -> set[str]:
    return {x.data for x in postorder([e]) if x.op == "ref"}


def _inside(part: Term | Factor) -> Expr:
    return part.rest if isinstance(part, Term) else part.base


class Rules:
    """A table of rules at work on the expressions of one program."""

    def __init__(self, texts: str, ranges: Ranges, names: Names) -> None:
        self.ranges, self.names = ranges, names
        self.sums: dict[tuple[str, object, int], list[Rule]] = {}
        self.products: dict[tuple[str, object], list[Rule]] = {}
        self.nodes: dict[tuple[str, object], list[Rule]] = {}
        for rule in rules(texts):
            if isinstance(rule.lead, Term):
                anchor = _anchor(rule.lead)[0]
                self.sums.setdefault((*_head(anchor.base), anchor.power), []).append(rule)
            elif rule.others or rule.lead.power != 1:
                self.products.setdefault(_head(rule.lead.base), []).append(rule)
            else:
                self.nodes.setdefault(_head(rule.lead.base), []).append(rule)

    def __call__(self, e: Expr) -> Expr | None:
        """The expression after one rule, or None if no rule fits."""
        match e.op:
            case "add" | "sub":
                return self._sum(e)
            case "mul" | "div":
                return self._product(e)
            case "pow" if e.args[1].op == "num" and e.args[1].data.denominator == 1:
                return self._product(e)
        return self._node(e)

    def _node(self, e: Expr) -> Expr | None:
        for rule in self.nodes.get(_head(e), ()):
            bound: Bindings = {}
            if match(rule.left, e, bound, self.names) and self._allowed(rule, bound):
                return fill(rule.right, bound)
        return None

    def _allowed(self, rule: Rule, bound: Bindings) -> bool:
        return all(_CONDITIONS[name](self.ranges, bound[letter]) for name, letter in rule.conditions)

    # a sum: the lead is a factor of a term, the other terms have the same further factors

    def _sum(self, e: Expr) -> Expr | None:
        parts = terms(e)
        products = [product(t.rest) for t in parts]
        heads = Counter(_head(f.base) for p in products for f in p.factors)
        places: dict[int, int] | None = None
        for i, p in enumerate(products):
            for k, factor in enumerate(p.factors):
                for rule in self.sums.get((*_head(factor.base), factor.power), ()):
                    if any(heads[h] < n for h, n in rule.heads.items()):
                        continue
                    places = places or self._places(parts)
                    out = self._sum_by(rule, parts, places, i, p, k)
                    if out is not None:
                        return out
        return None

    def _places(self, parts: Sequence[Term]) -> dict[int, int]:
        return {self.names.monomial(t.rest)[0]: i for i, t in enumerate(parts)}

    def _sum_by(self, rule: Rule, parts: Sequence[Term], places: Mapping[int, int], i: int, p: Product, k: int) -> Expr | None:
        assert isinstance(rule.lead, Term)
        anchor, *beside = _anchor(rule.lead)
        bound: Bindings = {}
        if not match(anchor.base, p.factors[k].base, bound, self.names):
            return None
        common = [*p.factors[:k], *p.factors[k + 1 :]]
        for pattern in beside:
            at = next((j for j, f in enumerate(common) if f.power == pattern.power and _try(pattern.base, f.base, bound, self.names)), None)
            if at is None:
                return None
            common.pop(at)
        front = Product(p.coefficient, tuple(common))
        by = parts[i].coefficient / rule.lead.coefficient
        used = {i}
        for other in rule.others:
            assert isinstance(other, Term)
            place = self._find(front, fill(other.rest, bound), by * other.coefficient, parts, places)
            if place is None or place in used:
                return None
            used.add(place)
        if not self._allowed(rule, bound):
            return None
        made = _multiplied(replace(front, coefficient=by * front.coefficient), fill(rule.right, bound))
        first = min(used)
        kept = [Term(Fraction(1), made) if j == first else t for j, t in enumerate(parts) if j == first or j not in used]
        return build_sum([u for t in kept for u in (terms(made) if t.rest is made else [t])])

    def _find(self, common: Product, wanted: Expr, by: Fraction, parts: Sequence[Term], places: Mapping[int, int]) -> int | None:
        """Where the term ``by*common*wanted`` stands."""
        name, content = self.names.monomial(_multiplied(common, wanted))
        place = places.get(name)
        if place is None:
            return None
        return place if parts[place].coefficient * self.names.monomial(parts[place].rest)[1] == by * content else None

    # a product: the lead is one factor, the others are further ones

    def _product(self, e: Expr) -> Expr | None:
        p = product(e)
        for k, factor in enumerate(p.factors):
            for rule in self.products.get(_head(factor.base), ()):
                out = self._product_by(rule, p, k)
                if out is not None:
                    return out
        return None

    def _product_by(self, rule: Rule, p: Product, k: int) -> Expr | None:
        assert isinstance(rule.lead, Factor)
        bound: Bindings = {}
        times, left = divmod(p.factors[k].power, rule.lead.power)
        if times == 0 or left or not match(rule.lead.base, p.factors[k].base, bound, self.names):
            return None
        times = times if not rule.others else 1 if times > 0 else -1
        rest = list(p.factors)
        for part in (rule.lead, *rule.others):
            assert isinstance(part, Factor)
            if not self._take(rest, fill(part.base, bound), part.power * times):
                return None
        if not self._allowed(rule, bound):
            return None
        return _multiplied(Product(p.coefficient, tuple(rest)), fill(rule.right, bound), times)

    def _take(self, factors: list[Factor], base: Expr, n: int) -> bool:
        """Take a power out of the factors, if it is there."""
        wanted = self.names.of(base)
        for k, f in enumerate(factors):
            if f.power * n > 0 and abs(f.power) >= abs(n) and self.names.of(f.base) == wanted:
                factors[k : k + 1] = [Factor(f.base, f.power - n)] if f.power != n else []
                return True
        return False


def _anchor(lead: Term) -> tuple[Factor, ...]:
    """The factors of a lead, the one that is looked for first."""
    factors = product(lead.rest).factors
    first = next(f for f in factors if f.base.op == "call")
    return (first, *(f for f in factors if f is not first))


def _head(e: Expr) -> tuple[str, object]:
    return e.op, e.data if e.op == "call" else None


def _multiplied(p: Product, by: Expr, times: int = 1) -> Expr:
    """A product with one more factor, flattened; a sum alone in it is multiplied by the number in front."""
    if not p.factors and times == 1:
        return scale(p.coefficient, by)
    q = product(by)
    made = tuple(Factor(f.base, f.power * times) for f in q.factors)
    return build_product(Product(p.coefficient * q.coefficient**times, (*p.factors, *made)))


# -- matching ---------------------------------------------------------------------------------------------------------


def match(pattern: Expr, e: Expr, bound: Bindings, names: Names) -> bool:
    """Whether ``e`` is the pattern for some values of its letters, which are put into ``bound``.

    The depth is that of the pattern. A letter that stands as a term or factor takes all that is left; of several parts that fit,
    the first term of a pattern takes the first and the others the last.
    """
    match pattern.op:
        case "ref":
            known = bound.setdefault(pattern.data, e)
            return known is e or names.same(known, e)
        case "num" | "const":
            return pattern is e
        case "neg":
            return product(e).coefficient < 0 and match(pattern.args[0], scale(Fraction(-1), e), bound, names)
        case "add" | "sub":
            return e.op in ("add", "sub") and _match_sum(terms(pattern), terms(e), bound, names)
        case "mul" | "div":
            return _match_product(product(pattern), product(e), bound, names)
        case "pow" if pattern.args[1].op == "num" and pattern.args[1].data.denominator == 1:
            return _match_product(product(pattern), product(e), bound, names)
    if (pattern.op, pattern.data) != (e.op, e.data) or len(pattern.args) != len(e.args):
        return False
    return all(match(p, a, bound, names) for p, a in zip(pattern.args, e.args, strict=True))


def _match_sum(wanted: Sequence[Term], given: Sequence[Term], bound: Bindings, names: Names) -> bool:
    left = list(given)
    open_term: Term | None = None
    for k, w in enumerate(wanted):
        if w.rest.op == "ref" and w.rest.data not in bound:
            open_term = w
            continue
        order = range(len(left)) if k == 0 else range(len(left) - 1, -1, -1)
        place = next((i for i in order if left[i].coefficient == w.coefficient and _try(w.rest, left[i].rest, bound, names)), None)
        if place is None:
            return False
        left.pop(place)
    if open_term is None:
        return not left
    return bool(left) and match(open_term.rest, scale(1 / open_term.coefficient, build_sum(left)), bound, names)


def _match_product(wanted: Product, given: Product, bound: Bindings, names: Names) -> bool:
    left = list(given.factors)
    coefficient = given.coefficient / wanted.coefficient
    open_factor: Factor | None = None
    for w in wanted.factors:
        if w.base.op == "ref" and w.base.data not in bound:
            open_factor = w
            continue
        place = next((i for i, f in enumerate(left) if f.power == w.power and _try(w.base, f.base, bound, names)), None)
        if place is None:
            return False
        left.pop(place)
    if open_factor is None:
        return coefficient == 1 and not left
    root = _root(coefficient, open_factor.power)
    if root is None or any(f.power % open_factor.power for f in left) or not left:
        return False
    rest = build_product(Product(root, tuple(Factor(f.base, f.power // open_factor.power) for f in left)))
    return match(open_factor.base, rest, bound, names)


def _try(pattern: Expr, e: Expr, bound: Bindings, names: Names) -> bool:
    trial = dict(bound)
    if match(pattern, e, trial, names):
        bound.update(trial)
        return True
    return False


def _root(x: Fraction, n: int) -> Fraction | None:
    """The n-th root of a number, if it is a fraction."""
    if n == 1 or x == 1:
        return x
    if n != 2 or x <= 0:
        return None
    top, bottom = round(x.numerator**0.5), round(x.denominator**0.5)
    root = Fraction(top, bottom)
    return root if root**2 == x else None
