"""Numerically stable forms, found by rewriting: logarithms of what exponentials make, ratios of exponentials, norms.

The program stays as a person would write it, and derivatives are taken from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from lossdsl.ir.expr import ONE, TWO, ZERO, Expr, call, cmp, conjuncts, div, mul, neg, num, open_red, postorder, red, sub
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import Factor, Names, Product, Term, build_product, build_sum, power, product, scale, terms, times
from lossdsl.passes.logarithms import Log, Logs, log_of_number
from lossdsl.passes.magnitude import meet_safely
from lossdsl.passes.rules import STABLE, Rules
from lossdsl.passes.settle import settled

HALF = Fraction(1, 2)
STEPS = 24  # rules at one node on the way


def stabilise(program: Program) -> Program:
    """The program in a form that neither overflows nor cancels where its equation need not, still as a person would write it."""
    run = Stabiliser(program)
    roots = settled(program.roots, run.step)
    if any(e.op == "call" and e.data in _WEIGHTED for e in postorder(roots)):
        run.weights = True
        roots = settled(roots, run.step)
    return program.with_roots(roots)


_WEIGHTED = ("xlogy", "xlogdiv", "logdiv")


class Stabiliser:
    """The rewriting of one program."""

    texts = STABLE

    def __init__(self, program: Program) -> None:
        self.ranges = Ranges(program, empty_axes=True)
        self.names = Names()
        self.rules = Rules(self.texts, self.ranges, self.names)
        self.logs = Logs(self.ranges)
        self.weights = False  # whether x*log(y) is taken apart: rules for sums of those come first

    def visit(self, e: Expr) -> Expr:
        """A new node, rewritten until no rule fits it."""
        for _ in range(STEPS):
            after = self.step(e)
            if after is None or after is e:
                break
            e = after
        return e

    def step(self, e: Expr) -> Expr | None:
        match e.op:
            case "call":
                return self.rules(e) or self._call(e)
            case "mul" | "div":
                return self.rules(e) or self._numbers(e) or self._ratio(product(e))
            case "pow":
                return self.rules(e) or (self._ratio(product(e)) if _whole_power(e) else None)
            case "add" | "sub":
                return self.rules(e)
            case "neg" if e.args[0].op == "sub":
                return sub(e.args[0].args[1], e.args[0].args[0])
        return None

    def _numbers(self, e: Expr) -> Expr | None:
        """One number in front of a product."""
        stack, found = list(e.args), 0
        while stack:
            x = stack.pop()
            found += x.op == "num"
            stack += x.args if x.op in ("mul", "div", "neg") else ()
        return build_product(product(e)) if found > 1 else None

    def _call(self, e: Expr) -> Expr | None:
        match e.data:
            case "log" | "log2" | "log10":
                return self._log(e)
            case "log1p":
                inner = self.logs.gained(e.args[0])
                return call("softplus", inner.expr) if inner else None
            case "xlogy" | "xlogdiv" | "mul0" if (p := product(e.args[0])).coefficient not in (0, 1) and p.factors:
                return scale(p.coefficient, call(e.data, build_product(replace(p, coefficient=Fraction(1))), *e.args[1:]))
            case "xlogdiv" | "logdiv" if (share := self._sigmoid(*e.args[-2:])) is not None:
                return call("log", share) if e.data == "logdiv" else call("xlogy", e.args[0], share)
            case name if name in _WEIGHTED and self.weights:
                return self._weighted_log(e)
            case "sqrt":
                return self._root(product(e.args[0]))
        return None

    # -- logarithms

    def _log(self, e: Expr) -> Expr | None:
        inner = self.logs.of(e.args[0])
        if inner is None or not inner.gain:
            return None
        return inner.expr if e.data == "log" else div(inner.expr, call("log", TWO if e.data == "log2" else num(10)))

    def _weighted_log(self, e: Expr) -> Expr | None:
        """``x*log(y)`` and ``x*log(a/b)``, where 0*log(0) is 0, and ``log(a/b)``."""
        inside = e.args if e.data == "logdiv" else e.args[1:]
        logs = [self.logs.of(a) for a in inside]
        known = [x for x in logs if x is not None and x.sure]
        if len(known) < len(logs) or not any(x.gain for x in known):
            return None
        if e.data == "logdiv":
            return sub(known[0].expr, known[1].expr)
        if self.ranges.reach(e.args[0]).infinite:
            return None
        if len(known) == 2 and all(x.gain for x in known):  # one product of the difference: two would cancel
            whole = replace(known[0], expr=sub(known[0].expr, known[1].expr))
            return self._weighed(e.args[0], div(*inside), whole)
        made = [self._weighed(e.args[0], of, log) for of, log in zip(inside, known, strict=True)]
        return made[0] if len(made) == 1 else sub(*made)

    def _weighed(self, x: Expr, of: Expr, log: Log) -> Expr:
        if not log.gain:
            return call("xlogy", x, of)
        return mul(x, log.expr) if meet_safely(self.ranges, x, log.expr) else call("mul0", x, log.expr)

    def _sigmoid(self, a: Expr, b: Expr) -> Expr | None:
        """The sigmoid that a quotient of numbers that are not negative is."""
        if b.op != "add" or not (self.ranges.nonnegative(a) and self.ranges.nonnegative(b)):
            return None
        ratio = self._ratio(product(div(a, b)))
        return ratio if ratio is not None and ratio.op == "call" and ratio.data == "sigmoid" else None

    # -- roots

    def _root(self, p: Product) -> Expr | None:
        """The root of a sum of squares, and of a multiple of it, is a norm."""
        for k, f in enumerate(p.factors):
            if f.power == 1 and f.base.op == "red" and f.base.data[0] == "sum":
                rest = Product(p.coefficient, p.factors[:k] + p.factors[k + 1 :])
                top = build_product(Product(rest.coefficient, tuple(g for g in rest.factors if g.power > 0)))
                bottom = times(power(g.base, -g.power) for g in rest.factors if g.power < 0)
                found = self._norm(f.base) if self.ranges.nonnegative(top) and self.ranges.nonnegative(bottom) else None
                if found is not None:
                    return div(mul(found, _sqrt(top)), _sqrt(bottom))
        return None

    def _norm(self, e: Expr) -> Expr | None:
        binders, body, guard = open_red(e)
        p = product(body)
        inside = []
        powers: dict[Expr, int] = {}
        for f in p.factors:
            powers[f.base] = powers.get(f.base, 0) + f.power
        for f in (Factor(base, n) for base, n in powers.items()):
            if f.power % 2 == 0:
                inside.append(power(f.base, f.power // 2) if f.power > 0 else div(num(1), power(f.base, -f.power // 2)))
            elif f.power == 1 and (self.ranges.positive(f.base) or cmp(">", f.base, ZERO) in conjuncts(guard)):
                inside.append(call("sqrt", f.base))
            else:
                return None
        if p.coefficient <= 0 or not any(n % 2 == 0 for n in powers.values()):
            return None
        return mul(_sqrt(num(p.coefficient)), red("norm", binders, times(inside), guard))

    # -- ratios of exponentials

    def _ratio(self, p: Product) -> Expr | None:
        for k, f in enumerate(p.factors):
            if f.power < 0 and f.base.op in ("add", "sub", "red", "call"):
                out = self._tanh(p, k) or self._share(p, k) or self._absorbed(p, k)
                if out is not None:
                    return out
        exponentials = [f for f in p.factors if f.base.op == "call" and f.base.data == "exp"]
        several = len(p.factors) > 1 and sum(abs(f.power) for f in exponentials) > 1 and any(self.logs.large(f.base) for f in exponentials)
        if several or any(f.power < 0 for f in exponentials):
            return self._merged(p, exponentials)
        return self._balanced(p)

    def _merged(self, p: Product, exponentials: Sequence[Factor]) -> Expr:
        """One exponential of a sum for a product of powers of exponentials."""
        inside = _combined(*((f.power, f.base.args[0]) for f in exponentials))
        place = p.factors.index(exponentials[0])
        rest = [f for f in p.factors if f not in exponentials]
        rest.insert(place, Factor(call("exp", self.visit(inside)), 1))
        return build_product(replace(p, factors=tuple(rest)))

    def _share(self, p: Product, k: int) -> Expr | None:
        """``c*x/(x + y)`` is ``c*sigmoid(log(x) - log(y))``."""
        whole = p.factors[k].base
        if whole.op != "add":
            return None
        parts = terms(whole)
        places = {self.names.monomial(t.rest)[0]: i for i, t in enumerate(parts)}
        large = any(f.power > 0 and self.logs.large(f.base) and self.logs.gained(f.base) for f in p.factors)
        for taken in _numerators(p.factors):
            if large and not taken:  # the sigmoid alone would vanish where the factor above is infinite
                continue
            x = times(power(f.base, f.power) for f in taken)
            name, content = self.names.monomial(x)
            i = places.get(name)
            if i is None:
                continue
            own = parts[i].coefficient * self.names.monomial(parts[i].rest)[1] / content
            other = build_sum(parts[:i] + parts[i + 1 :])
            top, bottom = self.logs.of(x), self.logs.of(other)
            if own <= 0 or top is None or bottom is None or not (top.sure and bottom.sure and (top.gain or bottom.gain)):
                continue
            inside = _combined((1, log_of_number(own)), (1, top.expr), (-1, bottom.expr))
            rest = _without(p.factors, taken, k)
            return build_product(Product(p.coefficient / own, (*rest, Factor(call("sigmoid", self.visit(inside)), 1))))
        return None

    def _tanh(self, p: Product, k: int) -> Expr | None:
        """``(x - y)/(x + y)`` is ``tanh((log(x) - log(y))/2)``."""
        below = terms(p.factors[k].base)
        if len(below) != 2 or below[0].coefficient != below[1].coefficient:
            return None
        names = [self.names.monomial(t.rest) for t in below]
        for f in p.factors:
            above = terms(f.base) if f.power == 1 else []
            if len(above) != 2 or above[0].coefficient != -above[1].coefficient:
                continue
            found = [self.names.monomial(t.rest) for t in above]
            logs = [self.logs.gained(t.rest) for t in above]
            if sorted(found) != sorted(names) or not any(logs):
                continue
            known = [self.logs.of(t.rest) for t in above]
            if any(x is None or not x.sure for x in known):
                continue
            x, y = (log.expr for log in known if log is not None)
            inside = self.visit(_combined((HALF, x), (-HALF, y)))
            rest = _without(p.factors, (f,), k)
            coefficient = p.coefficient * above[0].coefficient / below[0].coefficient
            return build_product(Product(coefficient, (*rest, Factor(call("tanh", inside), 1))))
        return None

    def _absorbed(self, p: Product, k: int) -> Expr | None:
        """A sum of terms with large factors over a large divisor: the division goes into the terms."""
        divisor = self.logs.gained(p.factors[k].base)
        if divisor is None or p.factors[k].power != -1:
            return None
        shrink = call("exp", neg(divisor.expr))
        for i, f in enumerate(p.factors):
            if f.power != 1 or i == k:
                continue
            made = None
            if f.base.op == "red" and f.base.data[0] == "sum":
                binders, body, guard = open_red(f.base)
                if self._large_factor(body):
                    made = red("sum", binders, self.visit(mul(body, shrink)), guard)
            elif f.base.op in ("add", "sub") and all(self._large_factor(t.rest) for t in terms(f.base)):
                made = build_sum([Term(t.coefficient, self.visit(mul(t.rest, shrink))) for t in terms(f.base)])
            if made is not None:
                factors = tuple(Factor(made, 1) if j == i else g for j, g in enumerate(p.factors) if j != k)
                return build_product(replace(p, factors=factors))
        return None

    def _large_factor(self, e: Expr) -> bool:
        return any(f.base.op == "call" and f.base.data == "exp" and self.logs.risky(f.base) for f in product(e).factors)

    def _balanced(self, p: Product) -> Expr | None:
        """One exponential for factors above and below that may overflow or underflow together."""
        logs = {f: self.logs.gained(f.base) for f in p.factors}
        above = [f for f in p.factors if f.power > 0 and logs[f]]
        below = [f for f in p.factors if f.power < 0 and logs[f]]
        for at_risk in (self.logs.large, self.logs.small):
            high, low = [f for f in above if at_risk(f.base)], [f for f in below if at_risk(f.base)]
            if high and low:
                taken = {*high, *low}
                inside = _combined(*((f.power, x.expr) for f in p.factors if f in taken and (x := logs[f])))
                rest = tuple(f for f in p.factors if f not in taken)
                return build_product(replace(p, factors=(*rest, Factor(call("exp", self.visit(inside)), 1))))
        return None


def _whole_power(e: Expr) -> bool:
    return product(e).factors != (Factor(e, 1),)


def _combined(*parts: tuple[Fraction | int, Expr]) -> Expr:
    """The sum of multiples of expressions."""
    return build_sum([Term(c * t.coefficient, t.rest) for c, e in parts for t in terms(e) if t.coefficient])


def _sqrt(e: Expr) -> Expr:
    return ONE if e is ONE else call("sqrt", e)


def _numerators(factors: Sequence[Factor]) -> Iterable[tuple[Factor, ...]]:
    """Products of factors above the bar: all of them, each alone, none."""
    above = tuple(f for f in factors if f.power > 0)
    if len(above) > 1:
        yield above
    yield from ((replace(f, power=1),) for f in above)
    yield ()


def _without(factors: Sequence[Factor], taken: Sequence[Factor], k: int) -> tuple[Factor, ...]:
    """The factors without those taken, and with one power less below the bar at ``k``."""
    left = {f.base: f.power for f in taken}
    out = []
    for i, f in enumerate(factors):
        n = f.power + 1 if i == k else f.power - left.pop(f.base, 0) if f.power > 0 else f.power
        if n:
            out.append(Factor(f.base, n))
    return tuple(out)
