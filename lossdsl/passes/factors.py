"""What the terms of a sum have in common, in front of the sum.

A guarded term counts as a bracket times its value: ``(c)*x - x*y`` is ``x*((c) - y)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from lossdsl.ir.expr import ONE, TRUE, ZERO, Expr, iverson, mul, pw, sub
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import Factor, Names, Product, Term, alone, build_product, build_sum, is_guard, product, scale, terms, weight
from lossdsl.passes.simplify import Power, as_factor, as_power, is_whole

_MOST = 12  # terms that are looked at together


@dataclass(frozen=True, slots=True)
class Guarded:
    """A term as a number, factors and a guard, which is true where there is none."""

    coefficient: Fraction
    factors: tuple[Factor, ...]
    guard: Expr

    @classmethod
    def of(cls, t: Term) -> Guarded:
        inside, guard = (t.rest.args[0], t.rest.args[1]) if is_guard(t.rest) else (t.rest, TRUE)
        if inside.op == "iverson" and guard is TRUE:
            inside, guard = ONE, inside.args[0]
        p = product(inside) if inside is not ONE else Product(Fraction(1), ())
        return cls(t.coefficient * p.coefficient, p.factors, guard)

    def with_factors(self, factors: Sequence[Factor]) -> Expr:
        inside = build_product(Product(Fraction(1), tuple(factors)))
        if self.guard is TRUE:
            return inside
        return iverson(self.guard) if inside is ONE else pw([(inside, self.guard)], ZERO)


Left = list[tuple[Fraction, tuple[Factor, ...]]]  # of each term a sign and factors


class CommonFactors:
    """Finds what the sums of one program have in common."""

    def __init__(self, ranges: Ranges, names: Names) -> None:
        self.ranges, self.names = ranges, names

    def __call__(self, e: Expr) -> Expr | None:
        """The sum as a product, if that is shorter."""
        parts = [Guarded.of(t) for t in terms(e)]
        if not 2 <= len(parts) <= _MOST or not all(t.coefficient for t in parts):
            return None
        number = _content([t.coefficient for t in parts])
        taken, left = self._shared(parts)
        if not taken and number in (1, -1):
            return None
        rest = [Term(t.coefficient * sign / number, t.with_factors(f)) for t, (sign, f) in zip(parts, left, strict=True)]
        sign = -1 if all(t.coefficient < 0 for t in rest) else 1
        inner = build_sum([Term(t.coefficient * sign, t.rest) for t in rest])
        if any(f.power < 0 for f in taken):
            made = build_product(Product(Fraction(1), (*taken, Factor(inner, 1))))
        else:
            made = mul(build_product(Product(Fraction(1), tuple(taken))), inner)
        made = scale(number * sign, made)
        return made if weight(made) < weight(e) else None

    def _shared(self, parts: Sequence[Guarded]) -> tuple[list[Factor], Left]:
        """The factors that every term has, and what is left of each."""
        left: Left = [(Fraction(1), t.factors) for t in parts]
        taken: list[Factor] = []
        for f in parts[0].factors:
            places = [self._place(f, factors) for _, factors in left]
            found = [(sign, factors, k) for (sign, factors), k in zip(left, places, strict=True) if k is not None]
            own = [as_power(factors[k]) for _, factors, k in found]
            low = self._least(own) if len(found) == len(left) else None
            if low is None or not self._may_leave(low, parts):
                continue
            taken.append(as_factor(low))
            left = [
                (sign * self._ratio(q.base, low.base) ** factors[k].power, (*factors[:k], *self._rest(q, low), *factors[k + 1 :]))
                for (sign, factors, k), q in zip(found, own, strict=True)
            ]  # fmt: skip
        return taken, left

    def _ratio(self, a: Expr, b: Expr) -> Fraction:
        return self.names.monomial(a)[1] / self.names.monomial(b)[1]

    def _place(self, f: Factor, factors: Sequence[Factor]) -> int | None:
        """Where the base of a factor, or its opposite, stands among others on the same side of the bar."""
        base = as_power(f).base
        for k, g in enumerate(factors):
            q = as_power(g)
            if (g.power > 0) == (f.power > 0) and self.names.monomial(q.base)[0] == self.names.monomial(base)[0]:
                ratio = self._ratio(q.base, base)
                if ratio == 1 or (ratio == -1 and is_whole(q.exponent) and f.power > 0):
                    return k
        return None

    def _least(self, powers: Sequence[Power]) -> Power | None:
        """The power that is a factor of all of them."""
        shifts = [self._shift(powers[0].exponent, q.exponent) for q in powers]
        known = [s for s in shifts if s is not None and s.denominator == 1]
        if len(known) < len(shifts):
            return None
        below = powers[0].exponent.op == "num" and powers[0].exponent.data < 0
        q = powers[max(range(len(known)), key=known.__getitem__) if below else min(range(len(known)), key=known.__getitem__)]
        if not any(known) or is_whole(q.exponent):
            return q
        return q if self.ranges.of(q.exponent).low >= 0 and self.ranges.nonnegative(q.base) and self.ranges.finite(q.base) else None

    def _shift(self, a: Expr, b: Expr) -> Fraction | None:
        """By what number the second exponent is larger, if by a number."""
        form = dict(self.names.of(sub(b, a)))
        by = form.pop(self.names.one, Fraction(0))
        return by if not any(form.values()) else None

    def _rest(self, q: Power, low: Power) -> tuple[Factor, ...]:
        by = self._shift(low.exponent, q.exponent)
        return (Factor(q.base, int(by)),) if by else ()

    def _may_leave(self, q: Power, parts: Sequence[Guarded]) -> bool:
        """Whether a factor may stand where guards do not reach: it is a number, or some term has it unguarded."""
        return any(t.guard is TRUE for t in parts) or self.ranges.finite(alone(as_factor(q)))


def _content(numbers: Sequence[Fraction]) -> Fraction:
    """The number to put in front of a sum: what all coefficients are whole multiples of, negative if all are."""
    sign = -1 if all(x < 0 for x in numbers) else 1
    if len({abs(x) for x in numbers}) == 1:
        return sign * abs(numbers[0])
    return Fraction(sign * gcd(*(x.numerator for x in numbers))) if all(x.denominator == 1 for x in numbers) else Fraction(sign)
