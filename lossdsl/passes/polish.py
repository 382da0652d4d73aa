"""Closed forms for reading: what holds for numbers that keep the promises of their kinds, whatever rounding would make of it.

A polished program has the value of the program wherever that is a number or an infinity, for inputs in their kinds along axes that
are not empty; where the program is undefined, the form is undefined or infinite. Code is printed from programs that are not
polished: a probability that rounds to 1 breaks the promise of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.expr import (
    MINUS_ONE,
    NAN,
    ONE,
    TRUE,
    ZERO,
    Expr,
    Index,
    and_,
    branches,
    call,
    cmp,
    conjuncts,
    iverson,
    ix,
    neg,
    not_,
    open_red,
    or_,
    postorder,
    pow_,
    pw,
    red,
    rewrite,
    sub,
)
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import (
    Factor,
    Product,
    Term,
    alone,
    build_product,
    build_sum,
    is_guard,
    multiplied,
    power,
    product,
    scale,
    terms,
    weight,
)
from lossdsl.passes.conditions import DECIDABLE, NEGATED, Conditions, gathered, opened
from lossdsl.passes.factors import CommonFactors
from lossdsl.passes.magnitude import Spread
from lossdsl.passes.rules import KINKED, NEAT, Rules
from lossdsl.passes.settle import Settling
from lossdsl.passes.simplify import ROWS, Power, Simplifier, is_whole
from lossdsl.passes.style import chained, grouped, ordered, shared_out, signed, weighed
from lossdsl.passes.zeros import Zeros

_ROUNDS = 4  # what a rule made of a node that was still being settled is looked at again
_MOST = 12  # terms that are looked at together
_STEPS = {"<": 0, "==": 1, ">": 2}  # the pieces of a step, in the order in which they are written


def polish(program: Program) -> Program:
    """The program in the form that a person reads."""
    work = Polisher(program)
    roots, before = program.roots, None
    for _ in range(_ROUNDS):
        if roots == before:
            break
        before, roots = roots, work.settled(roots)
    for written in (shared_out, ordered, lambda e: weighed(e, work.ranges), grouped, chained, signed):
        roots = rewrite(roots, written)
    return program.with_roots(roots)


class _Kept(Spread):
    """Inputs that keep their promises are never NaN."""

    def covers(self, by: Sequence[Expr], e: Expr) -> bool:
        return True


class Polisher(Simplifier):
    """The rewriting of one program."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.ranges = Ranges(program)
        self.rules = Rules(NEAT + ROWS + KINKED, self.ranges, self.names)
        self.spread = _Kept(())
        self.kinds = {x.name: x.kind for x in program.declared}
        self.conditions = Conditions(self.ranges, self.names, [x.name for x in program.declared])
        self.run = Settling(self.step, ())
        self.nonzero: tuple[Expr, ...] = ()  # what a guard says is not 0
        sums = (self._folded, self._opened, CommonFactors(self.ranges, self.names))
        products = (self._vanished, self._flat, self._integral, self._turned_over, self._chosen)
        pieces = (self._ordered, self._exhausted, self._nested, self._unneeded, self._covered, self._assumed, self._named)
        self.own: dict[str, tuple[Callable[[Expr], Expr | None], ...]] = {
            "add": sums, "sub": sums, "neg": (self._turned_over,), "mul": products, "div": products, "pow": (self._integral, self._powered),
            "call": (Zeros(self.ranges, self.names, self.tidy),), "cmp": (self.conditions.compared,), "and": (self.conditions.joined,),
            "or": (self.conditions.joined,), "not": (self._negated,), "pw": pieces, "red": (self._known,),
        }  # fmt: skip

    def step(self, e: Expr) -> Expr | None:
        found = super().step(e)
        for own in self.own.get(e.op, ()) if found is None or found is e else ():
            found = own(e)
            if found is not None and found is not e:
                break
        return found

    def settled(self, roots: Sequence[Expr]) -> tuple[Expr, ...]:
        self.run = Settling(self.step, roots)
        return tuple(self.run.of(e) for e in roots)

    def tidy(self, e: Expr) -> Expr:
        """An expression made on the way, settled."""
        return self.run.of(e)

    def solid(self, e: Expr) -> bool:
        return self.ranges.finite(e)

    # -- sums

    def _folded(self, e: Expr) -> Expr | None:
        """Terms that branch alike, as one piecewise."""
        parts = terms(e)
        if not 2 <= len(parts) <= _MOST:
            return None
        for i, t in enumerate(parts):
            own = _branching(t.rest)
            if own is None:
                continue
            found = [(u, p) for u in parts[i:] if (p := _branching(u.rest)) is not None]
            alike = [(u, rest, pieces) for u, (rest, pieces) in found if _same_conditions(own[1], pieces)]
            if len(alike) < 2:
                continue
            taken = [u for u, _, _ in alike]
            kept = [Term(Fraction(1), self._together(alike)) if u is t else u for u in parts if u is t or u not in taken]
            made = build_sum(kept)
            if weight(made) < weight(e):
                return made
        return None

    def _together(self, alike: Sequence[tuple[Term, Product, Expr]]) -> Expr:
        """The sum of products with one branching factor each."""

        def total(k: int) -> Expr:
            values = [pieces.args[k] for _, _, pieces in alike]
            if NAN in values:
                return NAN
            return self.tidy(build_sum([_term(t.coefficient, rest, v) for (t, rest, _), v in zip(alike, values, strict=True)]))

        conditions = alike[0][2].args[1::2]
        return pw([(total(2 * k), c) for k, c in enumerate(conditions)], total(len(alike[0][2].args) - 1))

    def _opened(self, e: Expr) -> Expr | None:
        """Products of sums multiplied out, where so much cancels that it is shorter."""
        parts = terms(e)
        if not any(f.base.op in ("add", "sub") for t in parts for f in product(t.rest).factors) or not self.ranges.finite(e):
            return None
        made = build_sum(gathered(self.names, opened(parts)))
        return made if weight(made) < weight(e) else None

    # -- products

    def _joins(self, a: Power, b: Power) -> bool:
        """Above and below the bar, what is left below is infinite or undefined at 0 as the whole was."""
        if super()._joins(a, b):
            return True
        if any(self.names.same(a.base, u) for u in self.nonzero) and is_whole(a.exponent) and is_whole(b.exponent):
            return self.ranges.finite(a.base)
        more_below = is_whole(a.exponent) and is_whole(b.exponent) and a.exponent.data + b.exponent.data < 0
        return more_below and self.ranges.finite(a.base)

    def _vanished(self, e: Expr) -> Expr | None:
        """0 times numbers."""
        p = product(e)
        if p.coefficient and not any(f.base is ZERO and f.power > 0 for f in p.factors):
            return None
        parts = [build_product(Product(Fraction(1), (f,))) for f in p.factors if f.base is not ZERO]
        return ZERO if all(self.ranges.finite(x) for x in parts) else None

    def _flat(self, e: Expr) -> Expr | None:
        """One quotient, and guards in front of everything."""
        p = product(e)
        made = build_product(p)
        for k, f in enumerate(p.factors):
            if f.power == 1 and is_guard(f.base):
                others = build_product(replace(p, factors=p.factors[:k] + p.factors[k + 1 :]))
                if self.ranges.finite(others):
                    return pw([(_times(others, f.base.args[0]), f.base.args[1])], ZERO)
        return made if _quotients(e) > 1 else None

    def _turned_over(self, e: Expr) -> Expr | None:
        """No minus in front of a product that holds a difference, none in front of all terms of a factor, and no negative divisor."""
        p = product(e)
        for k, f in enumerate(p.factors):
            if f.power == 1 and f.base.op in ("add", "sub") and all(t.coefficient < 0 for t in terms(f.base)):
                return self._with(p, k, scale(Fraction(-1), f.base), -1)
        for k, f in enumerate(p.factors):
            if p.coefficient < 0 and f.power == 1 and is_guard(f.base):
                turned = self._turned_over(neg(f.base.args[0]))
                if turned is not None and product(turned).coefficient > 0:
                    return self._with(p, k, pw([(turned, f.base.args[1])], ZERO), -1)
            if f.power < 0 and f.power % 2 and f.base.op == "sub" and self.ranges.negative(f.base):
                return self._with(p, k, sub(*f.base.args[::-1]), -1)
        for k, f in enumerate(p.factors):
            if p.coefficient < 0 and f.power == 1 and f.base.op == "sub" and all(x.op != "num" for x in f.base.args):
                return self._with(p, k, sub(*f.base.args[::-1]), -1)
        return None

    def _with(self, p: Product, k: int, base: Expr, by: int) -> Expr:
        """The product with another factor in one place, times a number."""
        return build_product(Product(p.coefficient * by, (*p.factors[:k], Factor(base, p.factors[k].power), *p.factors[k + 1 :])))

    def _integral(self, e: Expr) -> Expr | None:
        """Powers of a sign, of 0 or 1 and of brackets, and what has only one value."""
        p = product(e)
        factors: list[Factor] = []
        coefficient = p.coefficient
        for f in p.factors:
            reach = self.ranges.reach(alone(f))
            if reach.interval.low == reach.interval.high and not (reach.nan or reach.infinite):
                coefficient *= Fraction(reach.interval.low)
                continue
            kind = self.kinds[f.base.data].name if f.base.op == "ref" and f.base.data in self.kinds else ""
            if kind == "sign" and f.power not in (0, 1):
                factors += [Factor(f.base, 1)] if f.power % 2 else []
            elif (kind == "binary" or f.base.op == "iverson") and f.power > 1:
                factors.append(Factor(f.base, 1))
            else:
                factors.append(f)
        return build_product(Product(coefficient, tuple(factors))) if tuple(factors) != p.factors else None

    def _powered(self, e: Expr) -> Expr | None:
        """The power of a piecewise of numbers."""
        base, exponent = e.args
        if base.op != "pw" or not is_whole(exponent) or exponent.data < 0:
            return None
        pairs, other = branches(base)
        if not all(v.op == "num" for v in (*(v for v, _ in pairs), *(() if other is NAN else (other,)))):
            return None
        return pw([(pow_(v, exponent), c) for v, c in pairs], other if other is NAN else pow_(other, exponent))

    def _chosen(self, e: Expr) -> Expr | None:
        """A piecewise times extremes, distances and signs that its conditions decide, where that makes it shorter."""
        found = _branching(e)
        if found is None:
            return None
        rest, pieces = found
        pairs, other = branches(pieces)
        for k, f in enumerate(rest.factors):
            sure = other is NAN or (other is ZERO and self.ranges.finite(f.base))
            if f.power < 0 or not sure or not any(x.op == "call" and x.data in DECIDABLE for x in postorder([f.base])):
                continue
            values = [(self.tidy(_times(power(self.conditions.under([c], f.base), f.power), v)), c) for v, c in pairs]
            made = self.tidy(pw(values, other))
            whole = _times(build_product(replace(rest, factors=rest.factors[:k] + rest.factors[k + 1 :])), made)
            if weight(whole) < weight(e):
                return whole
        return None

    # -- pieces

    def _negated(self, e: Expr) -> Expr | None:
        c = e.args[0]
        return _negated(c) if c.op == "cmp" and not self.is_flag(c) and not any(map(self.ranges.nan, c.args)) else None

    def _ordered(self, e: Expr) -> Expr | None:
        """The pieces of a step from below to above."""
        pairs, other = branches(e)
        conditions = [c for _, c in pairs]
        if len(pairs) < 2 or not all(c.op == "cmp" and c.data in _STEPS and c.args == conditions[0].args for c in conditions):
            return None
        places = [_STEPS[c.data] for c in conditions]
        if places == sorted(places) or len(set(places)) < len(places):
            return None
        return pw(sorted(pairs, key=lambda pair: _STEPS[pair[1].data]), other)

    def _exhausted(self, e: Expr) -> Expr | None:
        """Two pieces that are all there is."""
        pairs, other = branches(e)
        if other is NAN and len(pairs) == 2 and pairs[0][1].op == pairs[1][1].op == "cmp":
            (v, c), (w, d) = pairs
            if d is _negated(c) and not any(map(self.ranges.nan, c.args)):
                return pw([(v, c)], w)
        return None

    def _nested(self, e: Expr) -> Expr | None:
        """A guard inside a guard is one."""
        pairs, other = branches(e)
        if len(pairs) == 2 and pairs[0][0] is other is ZERO:
            return pw([(pairs[1][0], and_(pairs[1][1], self.tidy(not_(pairs[0][1]))))], ZERO)
        if is_guard(e) and is_guard(e.args[0]):
            return pw([(e.args[0].args[0], and_(e.args[1], e.args[0].args[1]))], ZERO)
        return iverson(and_(e.args[1], e.args[0].args[0])) if is_guard(e) and e.args[0].op == "iverson" else None

    def _unneeded(self, e: Expr) -> Expr | None:
        """A branch at one value of something, where the other branch gives the same."""
        pairs, other = branches(e)
        if len(pairs) != 1:
            return None
        (value, condition), *_ = pairs
        special, general = (value, other) if condition.op == "cmp" and condition.data == "==" else (other, value)
        if condition.op != "cmp" or condition.data not in ("==", "!=") or general is NAN:
            return None
        for u, at in (condition.args, condition.args[::-1]):
            if at.op == "num" and u.op != "num" and _depends(general, u, at):
                there = self.tidy(rewrite((general,), lambda x, u=u, at=at: at if x is u else x, under=False)[0])  # type: ignore[misc]
                if there is special or self.names.same(there, special):
                    return general
        return None

    def _covered(self, e: Expr) -> Expr | None:
        """A guard outside of which a factor is 0 anyway."""
        if not is_guard(e):
            return None
        value, condition, _ = e.args
        if any(f.power == 1 and self._empty(f.base, condition) for f in product(value).factors):
            rest = build_product(Product(Fraction(1), tuple(f for f in product(value).factors if not self._empty(f.base, condition))))
            return value if self.ranges.finite(rest) else None
        found = _branching(value)
        if found is None or branches(found[1])[1] is not ZERO or not self.ranges.finite(build_product(found[0])):
            return None
        inside = self.tidy(or_(*(c for _, c in branches(found[1])[0])))
        return value if inside is condition or self.conditions.equivalent(inside, condition) else None

    def _empty(self, e: Expr, condition: Expr) -> bool:
        """Whether a sum has no term where a condition fails."""
        return e.op == "red" and e.data[0] == "sum" and e.args[1] is not TRUE and red("any", *open_red(e)[::2]) is condition

    def _assumed(self, e: Expr) -> Expr | None:
        """A guarded value, simplified by what the guard says is not 0."""
        if not is_guard(e) or self.nonzero:
            return None
        value, condition, _ = e.args
        facts = tuple(c.args[0] for c in conjuncts(condition) if c.op == "cmp" and c.data == "!=" and c.args[1] is ZERO)
        if not any(f.power < 0 and f.base in facts for x in postorder([value]) if x.op == "div" for f in product(x).factors):
            return None
        run, self.nonzero, self.run = self.run, facts, Settling(self.step, (value,))
        inside = self.run.of(value)
        self.run, self.nonzero = run, ()
        return pw([(inside, condition)], ZERO)

    def _named(self, e: Expr) -> Expr | None:
        """The sign, the larger and the smaller that a piecewise spells out."""
        pairs, other = branches(e)
        if len(pairs) == 3 and [v for v, _ in pairs] == [MINUS_ONE, ZERO, ONE] and [c.data for _, c in pairs] == ["<", "==", ">"]:
            a, b = pairs[0][1].args
            if all(c.op == "cmp" and c.args == (a, b) for _, c in pairs):
                return call("sign", sub(a, b))
        if len(pairs) != 1 or other is NAN:
            return None
        (value, condition), *_ = pairs
        if self.ranges.nan(value) or self.ranges.nan(other):
            return None
        for name, sign in (("max", ">="), ("min", "<=")):
            asked = cmp(sign, value, other)
            if asked.op == "cmp" and condition.op == "cmp" and self._same_side(condition, asked):
                return call(name, *((other, value) if other.op == "num" else (value, other)))
        return None

    def _same_side(self, a: Expr, b: Expr) -> bool:
        """Whether two comparisons are the same but for what they say of equality."""
        return any(self.conditions.equivalent(cmp(s, *a.args), b) for s in {a.data[0], f"{a.data[0]}="} if s in ("<", "<=", ">", ">="))

    # -- reductions

    def _known(self, e: Expr) -> Expr | None:
        op, binders = e.data
        body, guard = e.args[:2]
        if op == "any" and len(binders) == 1 and body.op == "cmp" and body.data == "==":
            for a, b in (body.args, body.args[::-1]):
                if a.op == "ix" and a.data == binders[0] and binders[0] not in b.free and self._on_axis(b, binders[0]):
                    return TRUE
        if op == "sum" and guard is TRUE and len(binders) == 1 and body.op == "ref":
            kind = self.kinds[body.data]
            if kind.name == "simplex" and [k for k, a in enumerate(body.args) if binders[0] in a.free] == [kind.along]:
                return ONE if body.args[kind.along] is ix(binders[0]) else None
        return None

    def _moves(self, factor: Expr, guard: Expr, binders: Sequence[Index]) -> bool:
        """Along axes there is always a term, so an infinite factor is infinite in front of the sum too."""
        some = guard is TRUE and all(isinstance(b.axis, str) for b in binders)
        return some or self.ranges.finite(factor)


def _times(a: Expr, b: Expr) -> Expr:
    return ZERO if b is ZERO else multiplied(a, b)


def _term(c: Fraction, rest: Product, value: Expr) -> Term:
    return Term(c, multiplied(build_product(rest), value)) if value is not ZERO else Term(Fraction(0), ONE)


def _depends(e: Expr, u: Expr, at: Expr) -> bool:
    """Whether something stands in an expression, and not as a divisor that would be 0."""
    nodes = list(postorder([e]))
    divides = at is ZERO and any(f.base is u and f.power < 0 for x in nodes if x.op == "div" for f in product(x).factors)
    return u in nodes and not divides


def _branching(e: Expr) -> tuple[Product, Expr] | None:
    """The one factor that is piecewise, and the others."""
    p = product(e)
    places = [k for k, f in enumerate(p.factors) if f.power == 1 and f.base.op == "pw"]
    if len(places) != 1:
        return None
    (k,) = places
    return replace(p, factors=p.factors[:k] + p.factors[k + 1 :]), p.factors[k].base


def _same_conditions(a: Expr, b: Expr) -> bool:
    return len(a.args) == len(b.args) and a.args[1::2] == b.args[1::2] and (a.args[-1] is NAN) == (b.args[-1] is NAN)


def _negated(c: Expr) -> Expr:
    return cmp(NEGATED[c.data], *c.args)


def _quotients(e: Expr) -> int:
    """How many bars a product has."""
    count, stack = 0, [e]
    while stack:
        x = stack.pop()
        if x.op in ("mul", "div", "neg"):
            count += x.op == "div" and x.args[1].op != "num"
            stack += x.args[:1] if x.op == "div" else x.args
    return count
