"""Closed forms as a person would write them: like terms and factors combined, signs and numbers in front, no needless branches.

Nothing is distributed and nothing is factored. Values stay what they are everywhere, at infinities and for NaN too; a
derivative taken afterwards may differ at a kink where ``pieces`` is false, since ``clip`` and ``piecewise`` share their kinks
differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import (
    HALF,
    NAN,
    ONE,
    TRUE,
    ZERO,
    Expr,
    Index,
    Range,
    add,
    and_,
    boolean,
    branches,
    call,
    cmp,
    conjuncts,
    div,
    iverson,
    mul,
    neg,
    not_,
    num,
    open_red,
    or_,
    postorder,
    pow_,
    pw,
    red,
    replace_indices,
    rewrite,
    sub,
)
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges, ordered_on
from lossdsl.passes.algebra import (
    Factor,
    Names,
    Product,
    Term,
    alone,
    bound_of_index,
    build_product,
    build_sum,
    product,
    scale,
    terms,
)
from lossdsl.passes.magnitude import Spread, meet_safely
from lossdsl.passes.rules import KINKED, NEAT, Rules
from lossdsl.passes.settle import settled
from lossdsl.passes.stabilise import STEPS

_MOST = 12  # terms that are looked at two by two


def simplify(program: Program, *, pieces: bool = False) -> Program:
    """The program in its closed form; with ``pieces``, no ``piecewise`` becomes a function with kinks."""
    roots = settled(program.roots, Simplifier(program, pieces).step)
    return program.with_roots(rewrite(roots, _mean))


class Simplifier:
    """The rewriting of one program."""

    def __init__(self, program: Program, pieces: bool = False) -> None:
        self.ranges = Ranges(program, empty_axes=True)
        self.length = program.length
        self.names = Names()
        self.pieces = pieces
        self.rules = Rules(NEAT + ROWS if pieces else NEAT + ROWS + KINKED, self.ranges, self.names)
        self.spread = Spread(i.name for i in program.inputs)
        self.inputs = self.spread.inputs
        self.classes = {i.name: i.kind.of for i in program.inputs if i.kind.role == "class" and i.kind.ignore is None}
        self.flags = {i.name for i in program.inputs if i.kind.role == "condition"}
        self.steps: dict[str, Callable[[Expr], Expr | None]] = {
            "add": self.sum, "sub": self.sum, "neg": self.sum, "mul": self.product, "div": self.product, "pow": self.power,
            "call": self.call, "cmp": self.compare, "not": self.invert, "pw": self.piecewise, "red": self.reduction,
        }  # fmt: skip

    def step(self, e: Expr) -> Expr | None:
        """A node whose parts are simplified after one rule, None if none fits."""
        step = self.steps.get(e.op)
        return step(e) if step else None

    def visit(self, e: Expr) -> Expr:
        """A new node, rewritten until no rule fits it."""
        for _ in range(STEPS):
            after = self.step(e)
            if after is None or after is e:
                break
            e = after
        return e

    def solid(self, e: Expr) -> bool:
        """Whether a value is always a number, whatever the inputs are."""
        return self.ranges.finite(e) and not any(x.op == "ref" and (x.data in self.inputs or x.args) for x in postorder([e]))

    # -- sums

    def sum(self, e: Expr) -> Expr | None:
        if e.op == "neg" and e.args[0].op not in ("add", "sub", "mul", "div", "neg"):
            return None
        if e.op != "neg" and (found := self.rules(e)) is not None:
            return found
        parts = terms(e)
        merged: dict[int, list[Term]] = {}
        for t in parts:
            name, content = self.names.monomial(t.rest)
            alike = merged.setdefault(name, [])
            more = t.coefficient * content / self.names.monomial(alike[0].rest)[1] if alike else Fraction(0)
            if alike and (alike[0].coefficient * more > 0 or self._finite(t.rest)):
                alike[0] = Term(alike[0].coefficient + more, alike[0].rest)
            else:
                alike.append(t)
        kept = [t for group in merged.values() for t in group]
        kept = [t for t in kept if t.coefficient or not self._disappears(t, kept)]
        return build_sum(self._complemented(kept) or kept)

    def _complemented(self, parts: Sequence[Term]) -> list[Term] | None:
        """``k/b^m - k*c/b^(m + 1)``, where c is one of the terms of b, is ``k*(b - c)/b^(m + 1)``: 1 minus a share is the other."""
        if len(parts) < 2 or len(parts) > _MOST:
            return None
        for i, t in enumerate(parts):
            p = product(t.rest)
            for k, f in enumerate(p.factors):
                q = as_power(f)
                if q.exponent.op != "num" or q.exponent.data >= 0 or q.base.op not in ("add", "sub") or not self._divides(q.base):
                    continue
                others = p.factors[:k] + p.factors[k + 1 :]
                for own in terms(q.base):
                    rest = self._part_of(others, own.rest)
                    if rest is None:
                        continue
                    found = self._whole(parts, i, Product(p.coefficient, (*rest, as_factor(_raised(q, 1)))))
                    if found is not None:
                        j, ratio = found
                        left = [Term(u.coefficient + (ratio if u is own else 0), u.rest) for u in terms(q.base)]
                        above = build_sum([u for u in left if u.coefficient])
                        made = self._fraction(p.coefficient * t.coefficient / ratio, (*rest, f), above)
                        return [made if n == min(i, j) else u for n, u in enumerate(parts) if n not in (i, j) or n == min(i, j)]
        return None

    def _divides(self, base: Expr) -> bool:
        return self.ranges.nonzero(base) and self.ranges.finite(base) and len(terms(base)) <= _MOST

    def _part_of(self, factors: Sequence[Factor], part: Expr) -> tuple[Factor, ...] | None:
        """The factors without those of a part of their product."""
        left = list(factors)
        for f in () if part is ONE else product(part).factors:
            k = next((k for k, g in enumerate(left) if g.power // f.power > 0 and self.names.same(g.base, f.base)), None)
            if k is None:
                return None
            left[k : k + 1] = [Factor(f.base, left[k].power - f.power)] if left[k].power != f.power else []
        return tuple(left)

    def _whole(self, parts: Sequence[Term], i: int, p: Product) -> tuple[int, Fraction] | None:
        """Where a multiple of the product stands beside term i, and how many times it is term i's."""
        name, content = self.names.monomial(build_product(p))
        for j, u in enumerate(parts):
            own, c = self.names.monomial(u.rest)
            if j != i and own == name and u.coefficient * c * content:
                return j, parts[i].coefficient * content / (u.coefficient * c)
        return None

    def _fraction(self, c: Fraction, factors: Sequence[Factor], above: Expr) -> Term:
        p = product(above) if above.op not in ("add", "sub") else Product(Fraction(1), (Factor(above, 1),))
        return Term(c * p.coefficient, build_product(Product(Fraction(1), (*p.factors, *factors))))

    def _finite(self, e: Expr) -> bool:
        return not self.ranges.reach(e).infinite

    def _disappears(self, t: Term, beside: Sequence[Term]) -> bool:
        """Whether 0 times a term may go: it is a number, or NaN only where another term is."""
        if t.rest is ONE:
            return True
        return self.ranges.finite(t.rest) and self.spread.covers([u.rest for u in beside if u.coefficient], t.rest)

    # -- products

    def product(self, e: Expr) -> Expr | None:
        found = self.rules(e)
        if found is not None:
            return found
        p = self._turned(product(e))
        powers = self._collected(p)
        if len(powers) == len(p.factors) and not _untidy(e) and _in_order(p.factors):
            return None
        coefficient = p.coefficient
        for q in powers:
            coefficient *= q.sign
        return build_product(Product(coefficient, tuple(sorted(map(as_factor, powers), key=_rank))))

    def _turned(self, p: Product) -> Product:
        """``x/(a/b)`` as ``x*b/a`` where b is neither 0 nor infinite."""
        factors: list[Factor] = []
        for f in p.factors:
            if f.power < 0 and f.base.op == "div" and self.ranges.nonzero(f.base.args[1]) and self._finite(f.base.args[1]):
                factors += (Factor(f.base.args[1], -f.power), Factor(f.base.args[0], f.power))
            else:
                factors.append(f)
        return replace(p, factors=tuple(factors))

    def _collected(self, p: Product) -> list[Power]:
        """Powers of like bases joined where that holds for every value."""
        powers = [as_power(f) for f in p.factors]
        if len({_look(q.base) for q in powers}) == len(powers):
            return powers
        powers = []
        places: dict[int, list[int]] = {}
        for f in p.factors:
            new = as_power(f)
            name, content = self.names.monomial(new.base)
            alike = places.setdefault(name, [])
            for i in alike:
                ratio = content / self.names.monomial(powers[i].base)[1]
                if abs(ratio) == 1 and (ratio == 1 or is_whole(new.exponent)) and self._joins(powers[i], new):
                    powers[i] = self._joined(powers[i], new, ratio == -1)
                    break
            else:
                alike.append(len(powers))
                powers.append(new)
        left = [q.base for q in powers if q.exponent is not ZERO]
        return [r for q in powers for r in self._settled(q, left)]

    def _joined(self, a: Power, b: Power, opposite: bool) -> Power:
        sign = -1 if opposite and b.exponent.data % 2 else 1
        return Power(a.base, self.visit(add(a.exponent, b.exponent)), a.sign * b.sign * sign, (*a.parts, *b.parts))

    def _settled(self, q: Power, left: Sequence[Expr]) -> Sequence[Power]:
        """What is left of a power: nothing if it cancelled and what is left is NaN where its base is."""
        if q.exponent is not ZERO:
            return (q,)
        if not self.ranges.nan(q.base) and self.spread.covers(left, q.base):
            return (replace(q, base=ONE, exponent=ONE),) if q.sign < 0 else ()
        return [as_power(f) for f in q.parts]

    def _joins(self, a: Power, b: Power) -> bool:
        """Whether ``x^m*x^n`` is ``x^(m + n)`` for every value of x."""
        base, whole = a.base, is_whole(a.exponent) and is_whole(b.exponent)
        m, n = self.ranges.of(a.exponent), self.ranges.of(b.exponent)
        if (m.low >= 0 and n.low >= 0) or (m.high <= 0 and n.high <= 0):
            return whole or self.ranges.nonnegative(base)
        return self._finite(base) and (self.ranges.nonzero(base) if whole else self.ranges.positive(base))

    def power(self, e: Expr) -> Expr | None:
        found = self.rules(e)
        if found is not None:
            return found
        base, exponent = e.args
        if exponent.op == "num" and exponent.data.denominator == 1 and base.op in ("mul", "div", "neg", "pow", "num"):
            return self.product(e)
        return None

    # -- functions

    def call(self, e: Expr) -> Expr | None:
        found = self.rules(e)
        if found is not None:
            return found
        match e.data:
            case "abs" | "sign":
                p = product(e.args[0])
                if p.coefficient not in (0, 1) and p.factors:
                    by = abs(p.coefficient) if e.data == "abs" else Fraction(1 if p.coefficient > 0 else -1)
                    return scale(by, call(e.data, build_product(replace(p, coefficient=Fraction(1)))))
            case "xlogy" | "mul0" | "xlogdiv":
                p = product(e.args[0])
                if p.coefficient not in (0, 1) and p.factors:
                    return scale(p.coefficient, call(e.data, build_product(replace(p, coefficient=Fraction(1))), *e.args[1:]))
                if e.data == "mul0":
                    return self._plain_product(*e.args)
        return None

    def _plain_product(self, a: Expr, b: Expr) -> Expr | None:
        if meet_safely(self.ranges, a, b):
            return mul(a, b)
        p = product(b)
        if p.coefficient not in (0, 1) and p.factors:
            return scale(p.coefficient, call("mul0", a, build_product(replace(p, coefficient=Fraction(1)))))
        return None

    # -- conditions

    def compare(self, e: Expr) -> Expr | None:
        """An index stands on the left of an equality, and lies on its axis."""
        a, b = e.args
        known = bound_of_index(e)
        if known is not None:
            return boolean(known)
        if e.data in ("==", "!=") and b.op == "ix" and a.op != "ix":
            return cmp(e.data, b, a)
        return None

    def invert(self, e: Expr) -> Expr | None:
        a = e.args[0]
        if a.op == "cmp" and a.data in ("==", "!=") and not self.is_flag(a):
            return cmp("!=" if a.data == "==" else "==", *a.args)
        return None

    def is_flag(self, e: Expr) -> bool:
        """Whether a comparison reads a condition that is an input."""
        return e.args[0].op == "ref" and e.args[0].data in self.flags

    # -- pieces

    def piecewise(self, e: Expr) -> Expr | None:
        pairs, otherwise = branches(e)
        tidy = _tidied(pairs, otherwise)
        if tidy is not e:
            return tidy
        values = [*(v for v, _ in pairs), otherwise]
        if seed := _seed(values):
            rest = [_divided(v, seed) for v in values]
            return mul(seed, self.visit(pw(zip(rest[:-1], (c for _, c in pairs), strict=True), rest[-1])))
        if all(v is ZERO or _negative(v) for v in values) and any(v is not ZERO for v in values):
            return neg(pw([(scale(Fraction(-1), v), c) for v, c in pairs], scale(Fraction(-1), otherwise)))
        if len(pairs) == 1:
            (value, condition), *_ = pairs
            if otherwise is ZERO and value is ONE:
                return iverson(condition)
            if value is ZERO and condition.op == "cmp" and condition.data in ("==", "!="):
                return pw([(otherwise, self.visit(not_(condition)))], ZERO)
        return None if self.pieces else self._function(pairs, otherwise)

    def _function(self, pairs: Sequence[tuple[Expr, Expr]], otherwise: Expr) -> Expr | None:
        """The function with kinks that a piecewise spells out."""
        if len(pairs) == 2:
            return self._clip_between(pairs, otherwise)
        if len(pairs) != 1 or otherwise is NAN:
            return None
        (value, condition), *_ = pairs
        if condition.op != "cmp" or condition.data not in ("<", "<=", ">", ">="):
            return None
        low, high = condition.args if condition.data in ("<", "<=") else condition.args[::-1]
        return (
            self._absolute(low, high, value, otherwise)
            or self._extreme(low, high, value, otherwise)
            or self._clip_of_distance(low, high, value, otherwise)
        )

    def _absolute(self, low: Expr, high: Expr, value: Expr, otherwise: Expr) -> Expr | None:
        """``u if u > 0, -u otherwise``, or ``-u if u < 0, u otherwise``."""
        if ZERO not in (low, high):
            return None
        u = high if low is ZERO else low
        up, down = (value, otherwise) if low is ZERO else (otherwise, value)
        return call("abs", u) if self.names.same(up, u) and self.names.same(down, neg(u)) else None

    def _extreme(self, low: Expr, high: Expr, value: Expr, otherwise: Expr) -> Expr | None:
        """``a if a < b, b otherwise`` is a min if NaN in a makes b NaN."""
        for name, a, b in (("min", low, high), ("max", high, low)):
            same = self.names.same(value, a) and self.names.same(otherwise, b)
            if same and not self.ranges.nan(a) and self.spread.covers([b], a):
                return call(name, a, b)
        return None

    def _clip_of_distance(self, low: Expr, high: Expr, value: Expr, otherwise: Expr) -> Expr | None:
        """``c*u if abs(u) <= d, c*d*sign(u) otherwise`` with c > 0 and d >= 0."""
        if low.op != "call" or low.data != "abs" or not self.ranges.nonnegative(high):
            return None
        by = self._multiple(value, low.args[0])
        if by is None:
            return None
        end = self.visit(mul(by, high))
        sign = call("sign", value)
        if not (self.names.same(self.visit(otherwise), self.visit(mul(end, sign)))
                or self.names.same(otherwise, self.visit(mul(end, call("sign", low.args[0]))))):
            return None
        return call("clip", value, neg(end), end)

    def _multiple(self, value: Expr, of: Expr) -> Expr | None:
        """The positive factor by which one is a multiple of the other."""
        if self.names.same(value, of):
            return ONE
        name, content = self.names.monomial(of)
        p = product(value)
        for k, f in enumerate(p.factors):
            own, c = self.names.monomial(f.base)
            if f.power == 1 and own == name:
                by = build_product(Product(p.coefficient * c / content, p.factors[:k] + p.factors[k + 1 :]))
                return by if self.ranges.positive(by) and self.ranges.finite(by) else None
        return None

    def _clip_between(self, pairs: Sequence[tuple[Expr, Expr]], otherwise: Expr) -> Expr | None:
        """``lo if u < lo, hi if u > hi, u otherwise`` with lo <= hi, in either order."""
        ends: dict[str, Expr] = {}
        for value, c in pairs:
            if c.op != "cmp" or c.data not in ("<", "<=", ">", ">="):
                return None
            small, large = c.args if c.data in ("<", "<=") else c.args[::-1]
            if self.names.same(small, otherwise) and self.names.same(large, value):
                ends["lo"] = value
            elif self.names.same(large, otherwise) and self.names.same(small, value):
                ends["hi"] = value
        if len(ends) < 2 or not self.ranges.nonnegative(sub(ends["hi"], ends["lo"])):
            return None
        both = mul(*ends.values())
        if self.ranges.nan(ends["lo"]) or self.ranges.nan(ends["hi"]) or not self.spread.covers([otherwise], both):
            return None
        return call("clip", otherwise, ends["lo"], ends["hi"])

    # -- reductions

    def reduction(self, e: Expr) -> Expr | None:
        op, binders = e.data
        if op != "sum" or not _may_simplify(e.args[0], e.args[1], binders):
            return None
        binders, body, guard = open_red(e)
        if body.free.isdisjoint(binders) and guard is TRUE and self._constant(body, binders):
            out = body
            for b in binders:
                out = mul(out, self.length(b.axis)) if out is not ONE else self.length(b.axis)
            return out
        if body.op == "pw" and len(body.args) == 3 and body.args[2] is ZERO:
            return red("sum", binders, body.args[0], and_(guard, body.args[1]))
        point = self._one_point(binders, guard)
        if point is not None:
            index, value, literal = point
            rest = and_(*(c for c in conjuncts(guard) if c is not literal))
            left = tuple(b for b in binders if b is not index)
            body, rest = (replace_indices(x, {index: value}) for x in (body, rest))
            if left:
                return red("sum", left, body, rest)
            return pw([(body, rest)], ZERO)
        return self._placed(binders, body, guard) or self._pulled(binders, body, guard) or self._split(binders, body, guard)

    def _placed(self, binders: Sequence[Index], body: Expr, guard: Expr) -> Expr | None:
        """``sum[i | n == t[i]](x[t[i]])`` reads ``x[n]``: an index stands for the place that it equals."""
        over = frozenset(binders)
        literals = conjuncts(guard)
        for c in literals:
            if c.op != "cmp" or c.data != "==":
                continue
            for a, b in (c.args, c.args[::-1]):
                if a.op != "ix" or a.data in over or b.op == "ix" or over.isdisjoint(b.free):
                    continue
                if any(x is b for x in postorder([body, *(x for x in literals if x is not c)])):
                    body, *other = rewrite((body, *literals), partial(_exchanged, b, a))
                    return red("sum", binders, body, and_(*(x if x is c else y for x, y in zip(literals, other, strict=True))))
        return None

    def _constant(self, body: Expr, binders: Sequence[Index]) -> bool:
        """Whether a body that is the same everywhere may be multiplied by the number of positions, of which there may be none."""
        return not any(isinstance(b.axis, Range) for b in binders) and self.solid(body)

    def _one_point(self, binders: Sequence[Index], guard: Expr) -> tuple[Index, Expr, Expr] | None:
        """A binder that an equality of the guard fixes at a position that its axis surely has."""
        for c in conjuncts(guard):
            if c.op != "cmp" or c.data != "==":
                continue
            for a, b in (c.args, c.args[::-1]):
                if a.op == "ix" and a.data in binders and a.data not in b.free and self._on_axis(b, a.data):
                    return a.data, b, c
        return None

    def _on_axis(self, value: Expr, index: Index) -> bool:
        if value.op == "ix":
            return bool(value.data.axis == index.axis)
        if value.op == "num":
            length = self.length(index.axis)
            return bool(length.op == "num" and value.data.denominator == 1 and 0 <= value.data < length.data)
        return (value.op == "ref" and self.classes.get(value.data) == index.axis) or ordered_on(value) == index.axis

    def _split(self, binders: Sequence[Index], body: Expr, guard: Expr) -> Expr | None:
        """The sum of the sums of all terms, if no reduction is left then."""
        if guard is not TRUE or body.op not in ("add", "sub") or not all(self.ranges.finite(t.rest) for t in terms(body)):
            return None
        made = [Term(t.coefficient, self.visit(red("sum", binders, t.rest))) for t in terms(body)]
        return build_sum(made) if all(not _reduces(t.rest, binders) for t in made) else None

    def _pulled(self, binders: Sequence[Index], body: Expr, guard: Expr) -> Expr | None:
        """Factors free of the indices, in front of the sum."""
        p = product(body)
        out = [f for f in p.factors if f.base.free.isdisjoint(binders) and self._moves(alone(f), guard, binders)]
        if not out and p.coefficient == 1:
            return None
        inner = build_product(Product(Fraction(1), tuple(f for f in p.factors if f not in out)))
        if p.coefficient not in (1, -1) and inner is ONE:
            return None
        outer = build_product(Product(p.coefficient, tuple(out)))
        if outer is ONE:
            return None
        return _scaled(outer, red("sum", binders, inner, guard))

    def _moves(self, factor: Expr, guard: Expr, binders: Sequence[Index]) -> bool:
        """Whether a factor may leave a sum: it is finite, and no NaN where the sum may be empty."""
        return self.solid(factor) if guard is not TRUE else self.ranges.finite(factor)


def _exchanged(old: Expr, new: Expr, e: Expr) -> Expr:
    return new if e is old else e


def _may_simplify(body: Expr, guard: Expr, binders: Sequence[Index]) -> bool:
    """Whether a sum is worth opening: it has a part free of the indices, a branch, terms, or an equality that fixes one."""
    if body.op in ("pw", "add", "sub", "neg") or any(c.op == "cmp" and c.data == "==" for c in conjuncts(guard)):
        return True
    p = product(body)
    return p.coefficient != 1 or any(f.base.free.isdisjoint(binders) for f in p.factors) or body.free.isdisjoint(binders)


def _mean(e: Expr) -> Expr:
    """A sum over all of an axis above the length of the axis, written as a mean."""
    if e.op != "div":
        return e
    p = product(e)
    sums = {a.data[1][0].axis: a for a in (f.base for f in p.factors if f.power == 1) if _whole_sum(a)}
    lengths = {f: sums[f.base.data] for f in p.factors if f.power == -1 and f.base.op == "size" and f.base.data in sums}
    if not lengths:
        return e
    means = {a: div(a, red("sum", a.data[1], ONE)) for a in lengths.values()}
    return build_product(replace(p, factors=tuple(replace(f, base=means.get(f.base, f.base)) for f in p.factors if f not in lengths)))


def _whole_sum(e: Expr) -> bool:
    return e.op == "red" and e.data[0] == "sum" and e.args[1] is TRUE and len(e.data[1]) == 1


def _scaled(outer: Expr, inner: Expr) -> Expr:
    p, q = product(outer), product(inner)
    return build_product(Product(p.coefficient * q.coefficient, (*p.factors, *q.factors)))


ROWS = "\n".join(rule for row in FUNCTIONS.values() for rule in row.rules).replace("x", "a")


@dataclass(frozen=True, slots=True)
class Power:
    """A sign times a base to any power, and the factors that it was made of."""

    base: Expr
    exponent: Expr
    sign: int
    parts: tuple[Factor, ...]


def as_power(f: Factor) -> Power:
    """A factor with roots and symbolic powers opened."""
    base, exponent = f.base, num(f.power)
    if f.base.op == "pow" and f.power in (1, -1) and f.base.args[1] is not ZERO:
        base, exponent = f.base.args[0], f.base.args[1] if f.power == 1 else neg(f.base.args[1])
    elif f.base.op == "call" and f.base.data == "sqrt" and f.power in (1, -1):
        base, exponent = f.base.args[0], HALF if f.power == 1 else neg(HALF)
    return Power(base, exponent, 1, (f,))


def _look(e: Expr) -> tuple[str, object, frozenset[Index]]:
    """What expressions have in common that are equal up to order and signs."""
    if e.op in ("ref", "call"):
        return e.op, e.data, e.free
    return ("sum", None, e.free) if e.op in ("add", "sub") else (e.op, e.data[0] if e.op == "red" else None, e.free)


def _raised(q: Power, by: int) -> Power:
    return replace(q, exponent=num(q.exponent.data + by))


def as_factor(q: Power) -> Factor:
    """A power as a factor, roots as such; the sign is left out."""
    if is_whole(q.exponent):
        return Factor(q.base, int(q.exponent.data))
    if q.exponent.op == "num" and q.exponent.data < 0:
        return Factor(_root(q.base, num(-q.exponent.data)), -1)
    return Factor(_root(q.base, q.exponent), 1)


def _root(base: Expr, exponent: Expr) -> Expr:
    return call("sqrt", base) if exponent is HALF else pow_(base, exponent)


def _rank(f: Factor) -> int:
    """Names stand before functions, what divides is as it comes."""
    return 0 if f.power < 0 or f.base.op in ("ref", "size", "ix") else 1


def _in_order(factors: Sequence[Factor]) -> bool:
    ranks = [_rank(f) for f in factors if f.power > 0]
    return ranks == sorted(ranks)


def _untidy(e: Expr) -> bool:
    """Whether a product has more than one number, a sign inside, or a factor ``1/x``."""
    numbers = 0
    stack = [e]
    while stack:
        x = stack.pop()
        if (x.op == "neg" or (x.op == "num" and x.data < 0)) and x is not e:
            return True
        if x.op == "mul" and x.args[1].op in ("mul", "div") and product(x.args[1]).coefficient != 1:
            return True
        if x.op in ("mul", "div", "neg"):
            one_over = x.op == "div" and x.args[0] is ONE
            if x is not e and one_over:
                return True
            numbers += sum(a.op == "num" for a in x.args) - one_over
            stack += x.args
        elif x.op == "pow" and x.args[0].op in ("mul", "div", "neg", "num") and is_whole(x.args[1]):
            return True
    return numbers > 1 or (e.op == "mul" and e.args[1].op == "num")


def is_whole(e: Expr) -> bool:
    return bool(e.op == "num" and e.data.denominator == 1)


def _reduces(e: Expr, binders: Sequence[Index]) -> bool:
    """Whether there is a reduction over such axes in it."""
    axes = [b.axis for b in binders]
    return any(x.op == "red" and [b.axis for b in x.data[1]] == axes for x in postorder([e]))


def _seed(values: Sequence[Expr]) -> Expr | None:
    """The cotangent, if it is a factor of every branch that is not 0: what a caller brings in, under a name that nobody can write."""
    factors = [product(v).factors for v in values if v is not ZERO]
    found = [{f.base for f in fs if f.power == 1 and f.base.op == "ref" and f.base.data[0] == "~"} for fs in factors]
    return next(iter(set.intersection(*found)), None) if found else None


def _divided(e: Expr, factor: Expr) -> Expr:
    if e is ZERO:
        return e
    p = product(e)
    k = next(k for k, f in enumerate(p.factors) if f.base is factor and f.power == 1)
    return build_product(Product(p.coefficient, p.factors[:k] + p.factors[k + 1 :]))


def _negative(e: Expr) -> bool:
    return (e.op == "num" and e.data < 0) or (e.op != "num" and product(e).coefficient < 0)


def _tidied(pairs: Sequence[tuple[Expr, Expr]], otherwise: Expr) -> Expr:
    """Equal neighbours joined, branches that a condition decided before taken out."""
    kept: list[tuple[Expr, Expr]] = []
    for value, condition in pairs:
        value = _decided(value, condition)
        if kept and kept[-1][0] is value:
            kept[-1] = (value, or_(kept[-1][1], condition))
        elif all(condition is not c for _, c in kept):
            kept.append((value, condition))
    for _, condition in kept:
        otherwise = _without(otherwise, condition)
    while otherwise.op == "pw":
        more, otherwise = branches(otherwise)
        kept += more
    while kept and kept[-1][0] is otherwise:
        kept.pop()
    return pw(kept, otherwise)


def _decided(value: Expr, condition: Expr) -> Expr:
    """The value where a condition holds."""
    while value.op == "pw" and value.args[1] is condition:
        value = value.args[0]
    return value


def _without(value: Expr, condition: Expr) -> Expr:
    """The value where a condition does not hold."""
    if value.op != "pw":
        return value
    pairs, otherwise = branches(value)
    return pw([(v, c) for v, c in pairs if c is not condition], otherwise)

