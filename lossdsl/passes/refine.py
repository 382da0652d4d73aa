"""The last digits, for code alone: small differences are computed as what is left, not as what cancels.

The main one: where a class is confident, ``logsumexp[k](s) - s[y]`` is the softplus of the others' logsumexp minus ``s[y]``,
and ``1 - softmax[k](s)[y]`` their sigmoid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import inf

from lossdsl.ir.expr import (
    ONE,
    TRUE,
    ZERO,
    Expr,
    Index,
    and_,
    call,
    cmp,
    conjuncts,
    div,
    instance,
    ix,
    mul,
    neg,
    not_,
    num,
    open_red,
    postorder,
    pw,
    red,
    references,
    replace_indices,
    rewrite,
    sub,
)
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.kinds import UNIT, Interval
from lossdsl.passes.algebra import Factor, Product, Term, build_product, build_sum, power, product, scale, terms, times
from lossdsl.passes.magnitude import explodes, meet_safely
from lossdsl.passes.rules import FINE, STABLE
from lossdsl.passes.settle import settled
from lossdsl.passes.stabilise import Stabiliser


def refine(program: Program) -> Program:
    """The program as code computes it best; not for reading."""
    roots = settled(program.roots, Refiner(program).step)
    params = frozenset(p.name for p in program.params)
    return program.with_roots(rewrite(roots, lambda e: _paced(e, params)))


class Refiner(Stabiliser):
    """The rewriting of one program."""

    texts = STABLE + FINE

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.program = program
        self.weights = True

    def step(self, e: Expr) -> Expr | None:
        match e.op:
            case "add" | "sub":
                return self._confident(e) or self._at_the_class(e) or self._against_target(e) or super().step(e)
            case "call" if e.data == "mul0":
                return self._plain(*e.args) or super().step(e)
            case "call" if e.data == "log" and e.args[0].op == "div":
                return super().step(e) or call("logdiv", *e.args[0].args)
        return super().step(e)

    # -- one class against the others

    def _confident(self, e: Expr) -> Expr | None:
        """``logsumexp[k](s) - s[y]`` by the others."""
        parts = terms(e)
        for i, t in enumerate(parts):
            if t.rest.op != "red" or t.rest.data[0] != "logsumexp":
                continue
            for j, u in enumerate(parts):
                if u.coefficient != -t.coefficient:
                    continue
                gap = self._gap(t.rest, u.rest)
                if gap is not None:
                    new = Term(t.coefficient, call("softplus", gap))
                    return build_sum([new if k == i else x for k, x in enumerate(parts) if k != j])
        return self._confident_sum(e)

    def _confident_sum(self, e: Expr) -> Expr | None:
        """The same where what is summed is a sum itself."""
        if e.op != "sub":
            return None
        a, b = e.args
        for whole, part, sign in ((a, b, 1), (b, a, -1)):
            if whole.op == "red" and whole.data[0] == "logsumexp" and part.op in ("add", "sub"):
                gap = self._gap(whole, part)
                if gap is not None:
                    return scale(Fraction(sign), call("softplus", gap))
        return None

    def _gap(self, whole: Expr, part: Expr) -> Expr | None:
        """The logsumexp of the other terms minus ``part``, if that is one of the terms and costs no more than the whole."""
        body, guard = whole.args
        if guard is not TRUE or not part.free <= whole.free:
            return None
        binders = whole.data[1]
        at = instance(body, binders, part)
        if at is None:
            return None
        new, body, _ = open_red(whole)
        here = and_(*(cmp("==", ix(b), v) for b, v in zip(new, at, strict=True)))
        elsewhere = cmp("!=", here.args[0], here.args[1]) if here.op == "cmp" else not_(here)
        others = red("logsumexp", new, body, elsewhere)
        return build_sum([Term(Fraction(1), others), *(Term(-t.coefficient, t.rest) for t in terms(part))])

    # -- a softmax minus the class

    def _at_the_class(self, e: Expr) -> Expr | None:
        """``c*softmax[k](s) - (k == y)*c`` is minus the share of the others at the class, and the softmax elsewhere."""
        parts = terms(e)
        for i, t in enumerate(parts):
            chosen = _indicator(t.rest)
            if chosen is None:
                continue
            value, condition = chosen
            for at in _fixed(condition):
                for j, u in enumerate(parts):
                    made = self._less_one(u, Term(t.coefficient, value), at) if j != i else None
                    if made is None:
                        continue
                    both = pw([(made, condition)], scale(u.coefficient, u.rest))
                    return build_sum([Term(Fraction(1), both) if k == i else x for k, x in enumerate(parts) if k != j])
        return None

    def _less_one(self, share: Term, one: Term, at: tuple[Index, Expr]) -> Expr | None:
        """``c*exp(x - logsumexp(..)) - c`` at an index value, if that is what the terms are there."""
        index, value = at
        p = product(share.rest)
        for k, f in enumerate(p.factors):
            if f.power != 1 or f.base.op != "call" or f.base.data != "exp" or f.base.args[0].op != "sub" or index not in f.base.free:
                continue
            term, whole = replace_indices(f.base.args[0].args[0], {index: value}), f.base.args[0].args[1]
            if whole.op != "red" or whole.data[0] != "logsumexp" or index in whole.free:
                continue
            gap = self._gap(whole, term)
            common = Product(p.coefficient * share.coefficient, p.factors[:k] + p.factors[k + 1 :])
            front = replace_indices(build_product(common), {index: value})
            if gap is None or not self.names.same(front, scale(-one.coefficient, replace_indices(one.rest, {index: value}))):
                continue
            q = product(front)
            return build_product(Product(-q.coefficient, (*q.factors, Factor(call("sigmoid", gap), 1))))
        return None

    def _against_target(self, e: Expr) -> Expr | None:
        """``c*sigmoid(a) - c*b`` is ``c*((1 - b)*sigmoid(a) - b*sigmoid(-a))``, which is exact where b is 1."""
        parts = terms(e)
        if len(parts) != 2:
            return None
        for t, u in (parts, parts[::-1]):
            p, q = product(t.rest), product(u.rest)
            for k, f in enumerate(p.factors):
                if f.power != 1 or f.base.op != "call" or f.base.data != "sigmoid":
                    continue
                front = Product(p.coefficient * t.coefficient, p.factors[:k] + p.factors[k + 1 :])
                for j, g in enumerate(q.factors):
                    rest = Product(-q.coefficient * u.coefficient, q.factors[:j] + q.factors[j + 1 :])
                    if g.power == 1 and self._target(g.base) and self.names.same(build_product(front), build_product(rest)):
                        other = call("sigmoid", scale(Fraction(-1), f.base.args[0]))
                        return sub(
                            build_product(replace(front, factors=(*front.factors, Factor(sub(ONE, g.base), 1), f))),
                            build_product(replace(front, factors=(*front.factors, g, Factor(other, 1)))),
                        )
        return None

    def _target(self, e: Expr) -> bool:
        """Whether something is a target rather than another probability made of a logit."""
        made = any(x.op == "call" and x.data == "sigmoid" for x in postorder([e]))
        return not made and self.ranges.finite(e) and (e.op == "ref" or self.ranges.of(e).within(UNIT))

    # -- products in which 0 wins

    def _plain(self, a: Expr, b: Expr) -> Expr | None:
        """An ordinary product where 0 never meets an infinity."""
        if meet_safely(self.ranges, a, b) or self._apart(a, b) or self._apart(b, a):
            return mul(a, b)
        return None

    def _apart(self, a: Expr, b: Expr) -> bool:
        """Whether ``a`` is finite, and not 0 where the softplus ``b`` is infinite."""
        factors = [f.base for f in product(b).factors]
        if explodes(self.ranges, a) or len(factors) != 1 or factors[0].op != "call" or factors[0].data != "softplus":
            return False
        (u,) = factors[0].args
        there = Ranges(self.program, empty_axes=True)
        there.assume(u, Interval(inf, inf, False, False))
        return there.nonzero(a)


# -- quotients --------------------------------------------------------------------------------------------------------


def _paced(e: Expr, params: frozenset[str]) -> Expr:
    """A quotient in which what belongs together is divided first: ``a*(x/b)/b`` for ``a*x/b^2``, whose square may overflow.

    Factors with fewer indices than the whole are put together first, so that they are computed less often.
    """
    if e.op not in ("mul", "div"):
        return e
    p = product(e)
    above = [f.base for f in p.factors for _ in range(f.power)]
    plain = [f for f in p.factors if f.power < 0 and (f.base.op in ("num", "size") or (f.base.op == "ref" and f.base.data in params))]
    below = [f.base for f in p.factors if f not in plain for _ in range(-f.power)]
    twice = [d for d, n in Counter(below).items() if n > 1 and d.op != "pow" and not (d.op == "call" and d.data in ("cosh", "exp"))]
    if not twice or len(above) + len(below) > _MOST:
        return e
    wide = [n for n in above if n.free == e.free]
    narrow = [n for n in above if n.free != e.free] if wide else []
    out = _chain(wide or above, below, last=not narrow)
    rest = _chain(narrow, below, last=True) if narrow else out
    rest = div(rest, times(power(f.base, -f.power) for f in plain))
    return _times(p.coefficient, mul(out, rest) if narrow else rest)


_MOST = 24  # factors that are put in order


def _chain(above: Sequence[Expr], below: list[Expr], last: bool) -> Expr:
    """The product of what is above; each factor is divided by what depends on nothing else, the last one by all that is left."""
    out = ONE
    for n in above:
        names = references([n])
        own = [d for d in dict.fromkeys(below) if references([d]) <= names and d.free <= n.free]
        out = mul(out, n)
        for d in own:
            below.remove(d)
            out = div(out, d)
    for d in below if last else ():
        out = div(out, d)
    return out


def _times(c: Fraction, e: Expr) -> Expr:
    """A number times an expression that is kept as it stands."""
    size = abs(c)
    out = e if size == 1 else div(e, num(size.denominator)) if size.numerator == 1 else mul(num(size), e)
    return neg(out) if c < 0 else out


def _indicator(e: Expr) -> tuple[Expr, Expr] | None:
    """The value and condition of ``value if condition, 0 otherwise``, with factors in front."""
    p = product(e)
    for k, f in enumerate(p.factors):
        rest = build_product(replace(p, factors=p.factors[:k] + p.factors[k + 1 :]))
        if f.power == 1 and f.base.op == "iverson":
            return rest, f.base.args[0]
        if f.power == 1 and f.base.op == "pw" and len(f.base.args) == 3 and f.base.args[2] is ZERO:
            return mul(rest, f.base.args[0]), f.base.args[1]
    return None


def _fixed(condition: Expr) -> Sequence[tuple[Index, Expr]]:
    """The indices that a condition fixes, and at what."""
    found = []
    for c in conjuncts(condition):
        if c.op == "cmp" and c.data == "==":
            for a, b in (c.args, c.args[::-1]):
                if a.op == "ix" and a.data not in b.free:
                    found.append((a.data, b))
    return found
