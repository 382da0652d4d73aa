"""Shorter forms of arithmetic, proposed with SymPy's polynomials: cancelled, factored, collected, reduced by known identities.

An expression is a rational function of what is no arithmetic in it. Nothing here is trusted: whoever shows a proposal checks
that it equals the expression. The work is limited by the sizes of the polynomials, never by time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sympy import QQ
from sympy.polys.fields import FracField
from sympy.polys.orderings import lex

from lossdsl.ir.expr import ONE, Expr, add, call, div, mul, neg, num, pow_, sub
from lossdsl.symbolic.arithmetic import is_arithmetic, parts, region, shared_sums

Poly = Any  # of SymPy

_LEAVES, _TERMS, _DEGREE = 7, 24, 6
_TRIES = 40  # forms of parts that are written


class TooMuch(Exception):
    """The work would exceed its limit."""


def alternatives(e: Expr, kind: Callable[[Expr], str], weigh: Callable[[Expr], int]) -> list[Expr]:
    """Other forms of an arithmetic expression, the lightest first; ``kind`` says of a leaf that it is a ``sign`` or ``binary``."""
    found: dict[Expr, None] = {}
    for opaque in (frozenset[Expr](), shared_sums(e)):
        for variant in _variants(e, opaque):
            try:
                found.update(dict.fromkeys(_Work(e, opaque, variant, kind, weigh).forms()))
            except (TooMuch, ZeroDivisionError):
                continue
    return sorted((x for x in found if x is not e), key=weigh)


# -- identities -------------------------------------------------------------------------------------------------------

# Of two functions at one argument: the square of the first by the second, and the other way round.
_CIRCLES = {("sin", "cos"): (1, -1), ("cosh", "sinh"): (1, 1)}  # sin^2 = 1 - cos^2, cosh^2 = 1 + sinh^2


def _variants(e: Expr, opaque: frozenset[Expr]) -> Iterable[int]:
    """Ways to take identities: as they come, and, if there are any that go both ways, the other way."""
    calls = {x.data for x in region(e) if x.op == "call"}
    return (0, 1) if calls & {"sin", "cos", "sinh", "cosh", "sigmoid"} else (0,)


@dataclass(frozen=True, slots=True)
class _Square:
    """``x_k^2`` is the polynomial ``by``, which holds no square of it."""

    k: int
    by: Poly


class _Work:
    """One expression as a rational function."""

    def __init__(self, e: Expr, opaque: frozenset[Expr], variant: int, kind: Callable[[Expr], str], weigh: Callable[[Expr], int]) -> None:
        self.root, self.opaque, self.variant, self.weigh = e, opaque, variant, weigh
        self.left = _TRIES
        self.leaves = self._found_leaves(e)
        if len(self.leaves) > _LEAVES or not self.leaves:
            raise TooMuch
        self.field = FracField([f"x{k}" for k in range(len(self.leaves))], QQ, lex)
        self.place = {x: k for k, x in enumerate(self.leaves)}
        self.squares = list(self._relations(kind))
        self.memo: dict[Any, Expr] = {}
        self.factored: dict[Poly, tuple[Any, list[tuple[Poly, int]]]] = {}

    # -- there

    def _found_leaves(self, e: Expr) -> list[Expr]:
        """What stands in the expression and is no arithmetic; of numbers that determine each other, one."""
        found: dict[Expr, None] = {}
        stack, seen = [e], set()
        while stack:
            x = stack.pop()
            if x in seen or x.op == "num":
                continue
            seen.add(x)
            if x in self.opaque or not is_arithmetic(x):
                found[x] = None
                stack += x.args if x.op == "call" and x.data == "sqrt" else ()
                continue
            stack += parts(x)[::-1]
            if x.op == "pow" and x.args[1].data.denominator == 2:
                found[call("sqrt", x.args[0])] = None
        return [x for x in found if self._mirrored(x, found) is None]

    def _mirrored(self, x: Expr, found: Mapping[Expr, Any]) -> Expr | None:
        """The leaf at the opposite argument by which this one is written."""
        if x.op != "call" or x.data not in ("exp", "sigmoid"):
            return None
        opposite = call(x.data, _opposite(x.args[0]))
        if opposite not in found:
            return None
        first = _is_negative(x.args[0]) != bool(self.variant and x.data == "sigmoid")
        return opposite if first else None

    def _element(self, x: Expr, memo: Mapping[Expr, Any]) -> Any:
        if x in self.place:
            return self.field.gens[self.place[x]]
        if x.op == "num":
            return self.field(QQ(x.data.numerator, x.data.denominator))
        if x.op == "call":  # at the opposite argument of a leaf
            mirror = self.field.gens[self.place[call(x.data, _opposite(x.args[0]))]]
            return 1 / mirror if x.data == "exp" else 1 - mirror
        if x.op == "pow" and x.args[1].data.denominator == 2:
            return self._raised(self.field.gens[self.place[call("sqrt", x.args[0])]], int(2 * x.args[1].data))
        args = [memo[a] for a in x.args if a in memo]
        match x.op:
            case "add":
                return args[0] + args[1]
            case "sub":
                return args[0] - args[1]
            case "mul":
                return args[0] * args[1]
            case "div":
                return args[0] / args[1]
            case "neg":
                return -args[0]
        return self._raised(args[0], int(x.args[1].data))

    def _raised(self, x: Any, n: int) -> Any:
        return x**n if n >= 0 else 1 / x**-n

    def rational(self, e: Expr) -> Any:
        """The expression as an element of the field, cancelled."""
        memo: dict[Expr, Any] = {}
        stack = [e]
        while stack:
            x = stack[-1]
            todo = [a for a in parts(x) if a not in memo] if x not in self.place else []
            if todo:
                stack += todo
                continue
            stack.pop()
            if x not in memo:
                memo[x] = self._bounded(self._element(x, memo))
        return memo[e]

    def _bounded(self, x: Any) -> Any:
        for p in (x.numer, x.denom):
            if len(p) > _TERMS or any(sum(m) > _DEGREE for m in p):
                raise TooMuch
        return x

    # -- identities

    def _relations(self, kind: Callable[[Expr], str]) -> Iterator[_Square]:
        one, gens = self.field.ring.one, self.field.ring.gens
        for x, k in self.place.items():
            match kind(x):
                case "sign":
                    yield _Square(k, one)
                case "binary":
                    yield _Square(k, gens[k])
            if x.op == "call" and x.data == "sqrt":
                inside = self.rational(x.args[0])
                if inside.denom == one:
                    yield _Square(k, inside.numer)
        for (a, b), (c, s) in _CIRCLES.items():
            for x, k in self.place.items():
                other = self.place.get(call(b, *x.args)) if x.op == "call" and x.data == a else None
                if other is not None and self.variant == 0:
                    yield _Square(k, c + s * gens[other] ** 2)
                elif other is not None:
                    yield _Square(other, (gens[k] ** 2 - c) * s)

    def _reduced(self, p: Poly) -> Poly:
        """The polynomial without squares that identities give."""
        for square in self.squares:
            while any(m[square.k] >= 2 for m in p):
                out = self.field.ring.zero
                for m, c in p.terms():
                    rest = tuple(n % 2 if i == square.k else n for i, n in enumerate(m))
                    out += self.field.ring({rest: c}) * square.by ** (m[square.k] // 2)
                p = self._checked(out)
        return p

    def _checked(self, p: Poly) -> Poly:
        if len(p) > _TERMS or any(sum(m) > 2 * _DEGREE for m in p):
            raise TooMuch
        return p

    # -- and back

    def forms(self) -> Iterator[Expr]:
        x = self.rational(self.root)
        yield self._quotient(x.numer, x.denom)
        if self.squares:
            top, bottom = self._reduced(x.numer), self._reduced(x.denom)
            if bottom:
                y = self.field(top) / self.field(bottom)
                yield self._quotient(y.numer, y.denom)
                yield self._quotient(self._reduced(y.numer), self._reduced(y.denom))

    def _quotient(self, top: Poly, bottom: Poly) -> Expr:
        above, below = self._factored(top, True), self._factored(bottom, True)
        return above if below is ONE else div(above, below)

    def _factored(self, p: Poly, whole: bool = False) -> Expr:
        """The factors of a polynomial; a minus goes into one of them where that is as light."""
        if not p:
            return num(0)
        number, found = self._factors(p, whole)
        factors = [(self._written(f), n, f) for f, n in sorted(found, key=lambda pair: len(pair[0]))]
        if number < 0:
            for k, (base, n, f) in enumerate(factors):
                if n % 2 and len(f) > 1 and self.weigh(turned := self._written(-f)) <= self.weigh(base):
                    factors[k], number = (turned, n, f), -number
                    break
        out = num(_fraction(number))
        for base, n, _ in factors:
            out = mul(out, base if n == 1 else pow_(base, num(n)))
        return out

    def _factors(self, p: Poly, whole: bool) -> tuple[Any, list[tuple[Poly, int]]]:
        """A number and irreducible factors; of a sum of few terms only those that it shows."""
        positive = p if p.LC > 0 else -p
        if whole or positive not in self.factored:
            self.factored[positive] = positive.factor_list() if len(p) > 3 or whole else self._common(positive)
        number, found = self.factored[positive]
        return (number if p.LC > 0 else -number), found

    def _common(self, p: Poly) -> tuple[Any, list[tuple[Poly, int]]]:
        """The number and the leaves that all terms have in common, and what is left."""
        low = [min(m[k] for m in p) for k in range(len(self.leaves))]
        gens = self.field.ring.gens
        rest, content = p, p.content()
        found = [(gens[k], n) for k, n in enumerate(low) if n]
        for x, n in found:
            rest = rest.exquo(x**n)
        rest = rest.quo_ground(content)
        return content, [*found, *([(rest, 1)] if rest != 1 else [])]

    def _written(self, p: Poly) -> Expr:
        """An irreducible polynomial: as a sum of products, or collected by one of its leaves, whichever is lighter."""
        key = frozenset(p.terms())
        if key not in self.memo:
            self.left -= 1
            if self.left < 0:
                raise TooMuch
            self.memo[key] = min(self._ways(p), key=self.weigh)
        return self.memo[key]

    def _ways(self, p: Poly) -> Iterator[Expr]:
        yield self._sum([(m, c) for m, c in p.terms()])
        if len(p) > 2:
            for k in range(len(self.leaves)):
                if sum(m[k] > 0 for m in p) > 1:
                    yield self._collected(p, k)

    def _collected(self, p: Poly, k: int) -> Expr:
        """The polynomial in powers of one leaf, the coefficients factored."""
        ring = self.field.ring
        powers: dict[int, Poly] = {}
        for m, c in p.terms():
            rest = tuple(0 if i == k else n for i, n in enumerate(m))
            powers[m[k]] = powers.get(m[k], ring.zero) + ring({rest: c})
        written = [(n, *self._with_sign(powers[n])) for n in sorted(powers, reverse=True)]
        out: Expr | None = None
        for n, sign, term in sorted(written, key=lambda t: t[1] < 0):
            if n:
                x = self.leaves[k] if n == 1 else pow_(self.leaves[k], num(n))
                term = x if term is ONE else mul(term, x)
            out = _joined(out, term, sign)
        assert out is not None
        return out

    def _with_sign(self, p: Poly) -> tuple[int, Expr]:
        """A sign and the factored polynomial without it."""
        x = self._factored(p)
        return (-1, self._factored(-p)) if _is_negative(x) else (1, x)

    def _sum(self, terms: Sequence[tuple[tuple[int, ...], Any]]) -> Expr:
        out: Expr | None = None
        for m, c in sorted(terms, key=lambda t: t[1] < 0):
            x = num(abs(_fraction(c)))
            for k, n in enumerate(m):
                if n:
                    x = mul(x, self.leaves[k] if n == 1 else pow_(self.leaves[k], num(n)))
            out = _joined(out, x, -1 if c < 0 else 1)
        assert out is not None
        return out


def _joined(out: Expr | None, x: Expr, sign: int) -> Expr:
    if out is None:
        return x if sign > 0 else neg(x)
    return add(out, x) if sign > 0 else sub(out, x)


def _fraction(x: Any) -> Fraction:
    return Fraction(int(x.numerator), int(x.denominator))


def _is_negative(e: Expr) -> bool:
    """Whether an argument is written with a minus in front."""
    while e.op in ("mul", "div"):
        e = e.args[0]
    return e.op == "neg" or (e.op == "num" and e.data < 0)


def _opposite(e: Expr) -> Expr:
    return e.args[0] if e.op == "neg" else neg(e)
