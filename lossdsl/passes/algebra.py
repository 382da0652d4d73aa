"""Sums as signed terms, products as powers, and names for what is equal up to order, grouping and signs.

Nothing here changes a value, infinities and NaN included: a term that cancels stays as a term with coefficient 0, a factor that
cancels stays above and below.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from lossdsl.ir.expr import ONE, ZERO, Expr, Range, add, div, fold, mul, neg, num, pow_, size, sub

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LONGEST = 1000  # bits of a coefficient that is still multiplied out
_LONGEST_TEXT = 1 << 20  # symbols that are counted
_MOST = 16  # terms or factors that are looked at together, so that long sums and products take no square of their length


@dataclass(frozen=True, slots=True)
class Term:
    """A number times an expression that is no sum and has no number in front."""

    coefficient: Fraction
    rest: Expr


@dataclass(frozen=True, slots=True)
class Factor:
    """A base to the power of a whole number; a base that is itself a power is one with another kind of exponent."""

    base: Expr
    power: int


@dataclass(frozen=True, slots=True)
class Product:
    """A number times powers, in the order written."""

    coefficient: Fraction
    factors: tuple[Factor, ...]


# -- views ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 14)
def product(e: Expr) -> Product:
    """A product, quotient, negation or whole power, flattened; what is over the most is one factor."""
    coefficient = Fraction(1)
    factors: list[Factor] = []
    stack: list[tuple[Expr, int]] = [(e, 1)]
    while stack:
        x, n = stack.pop()
        match x.op:
            case "num" if _short(x.data, n):
                coefficient *= x.data**n
            case "neg":
                coefficient *= (-1) ** (n % 2)
                stack.append((x.args[0], n))
            case "mul" | "div" | "pow" if len(stack) + len(factors) >= _MOST:
                factors.append(Factor(x, n))
            case "mul":
                stack += ((x.args[1], n), (x.args[0], n))
            case "div" if n > 0:  # 1/(a/b) is not b/a where b is 0
                stack += ((x.args[1], -n), (x.args[0], n))
            case "pow" if _whole(x.args[1]) and (n == 1 or int(x.args[1].data) > 0):
                stack.append((x.args[0], n * int(x.args[1].data)))
            case _:
                factors.append(Factor(x, n))
    return Product(coefficient, tuple(factors))


def _short(x: Fraction, n: int) -> bool:
    """Whether the power of a number is one that may be multiplied out."""
    return (x != 0 or n > 0) and abs(n) * max(x.numerator.bit_length(), x.denominator.bit_length()) < _LONGEST


def _whole(e: Expr) -> bool:
    return bool(e.op == "num" and e.data.denominator == 1 and e.data != 0 and abs(e.data) < 64)


def terms(e: Expr) -> list[Term]:
    """The terms of a sum in a list of its own."""
    return list(_terms(e))


@lru_cache(maxsize=1 << 14)
def _terms(e: Expr) -> tuple[Term, ...]:
    """A sum or difference, flattened; a sum behind a number other than -1 is one term, and so is what is over the most."""
    out: list[Term] = []
    stack: list[tuple[Expr, Fraction]] = [(e, Fraction(1))]
    while stack:
        x, c = stack.pop()
        match x.op:
            case "add" | "sub" if len(stack) + len(out) >= _MOST:
                out.append(Term(c, x))
            case "add":
                stack += ((x.args[1], c), (x.args[0], c))
            case "sub":
                stack += ((x.args[1], -c), (x.args[0], c))
            case "neg":
                stack.append((x.args[0], -c))
            case "num":
                out.append(Term(c * x.data, ONE))
            case "mul" | "div":
                outer, inner = _scaled(x)
                if inner.op in ("add", "sub") and abs(outer) == 1:
                    stack.append((inner, c * outer))
                else:
                    out.append(Term(c * outer, inner))
            case _:
                out.append(Term(c, x))
    return tuple(out)


@lru_cache(maxsize=1 << 14)
def _scaled(e: Expr) -> tuple[Fraction, Expr]:
    """The number in front of a product, and the rest; the product itself is kept where there is none."""
    p = product(e)
    if p.coefficient == 1:
        return p.coefficient, e
    return p.coefficient, build_product(Product(Fraction(1), p.factors))


def offset(e: Expr) -> tuple[Expr, int] | None:
    """The index and the whole number of a position ``index + number``."""
    out = 0
    while e.op in ("add", "sub"):
        a, b = e.args
        if e.op == "add" and a.op == "num":
            a, b = b, a
        if b.op != "num" or b.data.denominator != 1:
            return None
        out += int(b.data) if e.op == "add" else -int(b.data)
        e = a
    return (e, out) if e.op == "ix" else None


def bound_of_index(e: Expr) -> bool | None:
    """What a comparison says of an index alone: true or false if that follows from its axis, else None."""
    a, b = e.args
    if (found := offset(a)) is not None:
        return _of_index(e.data, found[0].data.axis, found[1], b)
    if (found := offset(b)) is not None:
        return _of_index(_FLIPPED.get(e.data, e.data), found[0].data.axis, found[1], a)
    return None


def _of_index(op: str, axis: str | Range, c: int, bound: Expr) -> bool | None:
    """``index + c op bound``, where the index is at least the first position of its axis and at most the last."""
    first, last = (axis.lo, axis.hi) if isinstance(axis, Range) else (ZERO, None)
    if last is not None and bound is last and c <= 0 and op == "<=":
        return True
    if last is None and bound is size(axis) and op in ("<", ">="):
        return op == "<" if c <= 0 else None
    gap = 0 if bound is first else bound.data - first.data if bound.op == first.op == "num" else None
    if gap is None:
        return None
    if c > gap or (c == gap and op in (">=", "<")):
        return op in (">", ">=", "!=")
    return None


# -- building ---------------------------------------------------------------------------------------------------------


def power(base: Expr, n: int) -> Expr:
    return ONE if n == 0 else base if n == 1 else pow_(base, num(n))


def times(factors: Iterable[Expr]) -> Expr:
    out = ONE
    for f in factors:
        out = mul(out, f)
    return out


def build_product(p: Product) -> Expr:
    """``-2*a*b/(3*c*d)``: one quotient at most, a sign in front."""
    above = [power(f.base, f.power) for f in p.factors if f.power > 0]
    below = [power(f.base, -f.power) for f in p.factors if f.power < 0]
    c = abs(p.coefficient)
    if not above or below:
        bottom = times([num(c.denominator), *below])
        out = div(times([num(c.numerator), *above]), bottom) if below else num(c)
    elif c.numerator == 1 and c.denominator < 1000:
        out = div(times(above), num(c.denominator))
    else:
        out = times([num(c), *above])
    return neg(out) if p.coefficient < 0 else out


def alone(f: Factor) -> Expr:
    """One factor by itself."""
    return build_product(Product(Fraction(1), (f,)))


def multiplied(a: Expr, b: Expr) -> Expr:
    """A product, flattened."""
    if a is ONE or b is ONE:
        return b if a is ONE else a
    p, q = product(a), product(b)
    return build_product(Product(p.coefficient * q.coefficient, (*p.factors, *q.factors)))


def is_guard(e: Expr) -> bool:
    """Whether an expression is a value where a condition holds, else 0."""
    return e.op == "pw" and len(e.args) == 3 and e.args[2] is ZERO


def scale(c: Fraction, e: Expr) -> Expr:
    """A number times an expression."""
    if c == 1:
        return e
    if e.op == "num":
        return num(c * e.data)
    p = product(e)
    return build_product(Product(c * p.coefficient, p.factors)) if c else mul(num(0), e)


def build_sum(parts: Sequence[Term]) -> Expr:
    """The terms in order, a positive one first if there is any."""
    first = next((i for i, t in enumerate(parts) if t.coefficient > 0), 0)
    out: Expr | None = None
    for t in (*parts[first : first + 1], *parts[:first], *parts[first + 1 :]):
        if out is None:
            out = scale(t.coefficient, t.rest)
        elif t.coefficient < 0:
            out = sub(out, scale(-t.coefficient, t.rest))
        else:
            out = add(out, scale(t.coefficient, t.rest))
    return num(0) if out is None else out


def weight(e: Expr) -> int:
    """About how many symbols an expression prints, shared parts as often as they stand in it."""

    def symbols(x: Expr, parts: list[tuple[int, int]]) -> tuple[int, int]:
        """The weights of the node and of its first part."""
        own = [n for n, _ in parts]
        first = own[0] if own else 0
        if x.op == "ref":
            return 1 + sum(n for a, n in zip(x.args, own, strict=True) if a.op != "ix"), first
        if x.op == "call" and x.data == "exp" and _is_share(x.args[0]):
            return 3 + parts[0][1], first
        return min({"red": 3, "bool": 0}.get(x.op, 1) + sum(own), _LONGEST_TEXT), first

    return fold((e,), symbols)[e][0]


def _is_share(e: Expr) -> bool:
    """Whether the exponential of the expression is printed as a softmax."""
    return e.op == "sub" and e.args[1].op == "red" and e.args[1].data[0] == "logsumexp"


# -- names ------------------------------------------------------------------------------------------------------------

Linear = tuple[tuple[int, Fraction], ...]


class Names:
    """Gives expressions that are equal up to order, grouping, signs and numbers in front the same names.

    The name of an expression is its linear form: pairs of a monomial's name and its coefficient.
    """

    def __init__(self) -> None:
        self.numbers: dict[Hashable, int] = {}
        self.factors: dict[int, tuple[tuple[int, int], ...]] = {}
        self.memo: dict[Expr, Linear] = {}
        self.one = self._monomial(())

    def same(self, a: Expr, b: Expr) -> bool:
        return a is b or self.of(a) == self.of(b)

    def of(self, e: Expr) -> Linear:
        memo = self.memo
        found = memo.get(e)
        if found is not None:
            return found
        stack = [e]
        while stack:
            x = stack[-1]
            if x in memo:
                stack.pop()
                continue
            todo = [a for a in _parts(x) if a not in memo]
            if todo:
                stack += todo
            else:
                memo[stack.pop()] = self._linear(x)
        return memo[e]

    def monomial(self, e: Expr) -> tuple[int, Fraction]:
        """The name of an expression taken as one term, and the number in front of it."""
        form = self.of(e)
        if _single(form):
            return form[0]
        content, base = _primitive(form)
        return self._monomial(((self._number(("sum", base)), 1),)), content

    def _number(self, what: Hashable) -> int:
        return self.numbers.setdefault(what, len(self.numbers))

    def _monomial(self, powers: tuple[tuple[int, int], ...]) -> int:
        name = self._number(("monomial", powers))
        self.factors[name] = powers
        return name

    def _linear(self, x: Expr) -> Linear:
        memo = self.memo
        match x.op:
            case "num":
                return ((self.one, x.data),)
            case "neg":
                return tuple((m, -c) for m, c in memo[x.args[0]])
            case "add":
                return _joined(memo[x.args[0]], memo[x.args[1]], 1)
            case "sub":
                return _joined(memo[x.args[0]], memo[x.args[1]], -1)
            case "mul" | "div":
                return self._product(x)
            case "pow" if _whole(x.args[1]):
                return self._product(x)
        return ((self._monomial(((self._atom(x), 1),)), Fraction(1)),)

    def _product(self, x: Expr) -> Linear:
        p = product(x)
        if p.factors == (Factor(x, 1),):
            return ((self._monomial(((self._atom(x), 1),)), Fraction(1)),)
        if len(p.factors) == 1 and p.factors[0].power == 1:
            return tuple((m, p.coefficient * c) for m, c in self.of(p.factors[0].base))
        coefficient = p.coefficient
        powers: dict[tuple[int, bool], int] = {}
        for f in p.factors:
            content, base = _primitive(self.of(f.base))
            coefficient *= content**f.power
            for atom, n in self.factors[base[0][0]] if _single(base) else ((self._number(("sum", base)), 1),):
                n *= f.power
                powers[atom, n > 0] = powers.get((atom, n > 0), 0) + n
        key = tuple(sorted((atom, n) for (atom, _), n in powers.items()))
        return ((self._monomial(key), coefficient),)

    def _atom(self, x: Expr) -> int:
        args = tuple(self.of(a) for a in x.args)
        data: Hashable = x.data
        match x.op:
            case "red":
                data = (x.data[0], tuple(self._axis(b.axis) for b in x.data[1]))
            case "ix":
                data = x.data if not isinstance(x.data.axis, Range) else (self._axis(x.data.axis), x.data.tag)
            case "cmp" if x.data in ("==", "!="):
                args = tuple(sorted(args))
            case "cmp" if x.data in (">", ">="):
                data, args = _FLIPPED[x.data], args[::-1]
            case "call" if x.data in ("max", "min", "hypot", "logaddexp"):
                args = tuple(sorted(args))
        return self._number((x.op, data, args))

    def _axis(self, axis: str | Range) -> Hashable:
        return (self.of(axis.lo), self.of(axis.hi)) if isinstance(axis, Range) else axis


def _parts(x: Expr) -> Iterable[Expr]:
    yield from x.args
    if x.op in ("mul", "div", "neg", "pow"):
        yield from (f.base for f in product(x).factors if f.base is not x)
    axes = [b.axis for b in x.data[1]] if x.op == "red" else [x.data.axis] if x.op == "ix" else []
    for axis in axes:
        if isinstance(axis, Range):
            yield from (axis.lo, axis.hi)


def _joined(a: Linear, b: Linear, sign: int) -> Linear:
    out = dict(a)
    for m, c in b:
        out[m] = out.get(m, Fraction(0)) + sign * c
    return tuple(sorted(out.items()))


def _single(form: Linear) -> bool:
    """Whether a form is one monomial; what cancelled (``a - a``) is none, as it is no multiple of ``a`` in a product."""
    return len(form) == 1 and form[0][1] != 0


def _primitive(form: Linear) -> tuple[Fraction, Linear]:
    """The number in front of a linear form, and the form without it."""
    lead = form[0][1]
    if lead in (0, 1):
        return Fraction(1), form
    return lead, tuple((m, c / lead) for m, c in form)
