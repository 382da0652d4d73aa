"""Products in which 0 wins over an infinity, as plain products as far as the two never meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from lossdsl.ir.expr import ONE, Expr, add, call, neg, pow_, sub
from lossdsl.ir.ranges import Ranges
from lossdsl.passes.algebra import Factor, Names, Product, alone, build_product, product


class Zeros:
    """Rewrites ``mul0`` in one program; ``tidy`` settles what is made on the way."""

    def __init__(self, ranges: Ranges, names: Names, tidy: Callable[[Expr], Expr]) -> None:
        self.ranges, self.names, self.tidy = ranges, names, tidy

    def __call__(self, e: Expr) -> Expr | None:
        if e.data != "mul0":
            return None
        flat = self._flat(e)
        if flat.coefficient == 0:
            return None
        p = self._joined(flat)
        large = [f for f in p.factors if self.ranges.reach(alone(f)).infinite]
        small = [f for f in p.factors if f not in large]
        doubtful = [f for f in small if self.ranges.reach(alone(f)).zero]
        if len(large) > 1:
            return None
        if not large or not doubtful:
            return build_product(p)
        made = call("mul0", build_product(Product(Fraction(1), tuple(doubtful))), alone(large[0]))
        return build_product(Product(p.coefficient, (*(f for f in small if f not in doubtful), Factor(made, 1))))

    def _flat(self, e: Expr) -> Product:
        """The factors of nested products in which 0 wins; plain products too, where they are defined anyway."""
        coefficient = Fraction(1)
        factors: list[Factor] = []
        stack = [e]
        while stack:
            x = stack.pop()
            if x.op == "call" and x.data == "mul0":
                stack += x.args[::-1]
                continue
            p = product(x)
            coefficient *= p.coefficient
            if len(p.factors) > 1 and self.ranges.nan(x):
                factors.append(Factor(build_product(Product(Fraction(1), p.factors)), 1))
            else:
                inner = [f for f in p.factors if f.power == 1 and f.base.op == "call" and f.base.data == "mul0"]
                factors += [f for f in p.factors if f not in inner]
                stack += [f.base for f in inner]
        return Product(coefficient, tuple(factors))

    def _joined(self, p: Product) -> Product:
        """Where 0 wins, ``p*log(p)`` is one number, and ``x^(a - 1)*x`` is ``x^a`` if that is 0 at 0 or so is the rest."""
        factors = list(p.factors)
        coefficient = p.coefficient
        for f in p.factors:
            found = self._logarithm(f.base) if f.power == 1 and f in factors else None
            other = None if found is None else next((g for g in factors if g.power == 1 and self.names.same(g.base, found[1])), None)
            if found is not None and other is not None:
                factors.remove(f)
                factors[factors.index(other)] = Factor(call("xlogy", other.base, other.base), 1)
                coefficient *= found[0]
        return Product(coefficient, tuple(self._raised(factors)))

    def _logarithm(self, e: Expr) -> tuple[int, Expr] | None:
        """A sign, and the number between 0 and 1 whose logarithm this is, with the sign."""
        if e.op == "call" and e.data in ("softplus", "logsigmoid"):
            return (-1, self.tidy(call("sigmoid", neg(e.args[0])))) if e.data == "softplus" else (1, self.tidy(call("sigmoid", e.args[0])))
        if e.op != "sub":
            return None
        opposite = sub(e.args[1], e.args[0])
        if self.ranges.of(e).high <= 0:
            return 1, call("exp", e)
        return (-1, call("exp", opposite)) if self.ranges.of(opposite).high <= 0 else None

    def _raised(self, factors: Sequence[Factor]) -> Sequence[Factor]:
        for f in factors:
            if f.power != 1 or f.base.op != "pow":
                continue
            base, exponent = f.base.args
            other = next((g for g in factors if g.power == 1 and self.names.same(g.base, base)), None)
            more = self.tidy(add(exponent, ONE))
            safe = self.ranges.positive(more) or any(g.power == 1 and self.names.same(g.base, more) for g in factors)
            if other is not None and safe and self.ranges.nonnegative(base) and self.ranges.nonnegative(more):
                return [Factor(pow_(base, more), 1) if g is f else g for g in factors if g is not other]
        return factors
