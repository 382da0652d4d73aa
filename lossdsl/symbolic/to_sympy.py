"""A program as a SymPy expression.

An input or a hyper-parameter is a symbol with the assumptions of its kind, an array is indexed, an axis ``k`` runs from 0 to
``n_k - 1``, a guard is a condition. Functions that SymPy does not have are written out by their meaning.

SymPy rewrites as it builds, by the rules of finite numbers: ``x/x`` is 1 and ``exp(log(x))`` is x. A node is left as it is
written where one of its parts may be infinite or undefined and something would be lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import sympy

from lossdsl.errors import LossError
from lossdsl.functions import FUNCTIONS
from lossdsl.ir import rows
from lossdsl.ir.expr import NAN, ONE, ZERO, Expr, Index, Range, branches, postorder
from lossdsl.ir.program import Program
from lossdsl.ir.ranges import Ranges
from lossdsl.kinds import Interval, Kind

_HINT = "str(loss) and loss.latex() print every equation"
_LOST = (sympy.nan, sympy.zoo)  # what SymPy makes of 1/0 and log(0)
Sym = Any  # SymPy has no types


class stop(sympy.Function):  # type: ignore[misc]
    """The argument, through which no derivative flows."""

    nargs = 1

    @classmethod
    def eval(cls, x: Sym) -> Sym:
        return x if x.is_number else None

    def fdiff(self, argindex: int = 1) -> Sym:
        return sympy.S.Zero


class Sum(sympy.Sum):  # type: ignore[misc]
    """A sum whose summand stays as it is.

    SymPy's own moves what is piecewise out of everything, conditions on the index of a sum inside out of that sum too.
    """

    def __new__(cls, function: Sym, *limits: Sym) -> Sym:
        return _unevaluated(cls, function, limits)


class Product(sympy.Product):  # type: ignore[misc]
    """A product whose factor stays as it is."""

    def __new__(cls, function: Sym, *limits: Sym) -> Sym:
        return _unevaluated(cls, function, limits)


def _unevaluated(cls: Any, function: Sym, limits: Sequence[Sym]) -> Sym:
    made = sympy.Expr.__new__(cls, function, *(sympy.Tuple(*limit) for limit in limits))
    made.is_commutative = True
    return made


HEADS: dict[str, Callable[..., Sym]] = {
    "exp": sympy.exp, "log": sympy.log, "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "asin": sympy.asin, "acos": sympy.acos,
    "atan": sympy.atan, "atan2": sympy.atan2, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "asinh": sympy.asinh,
    "acosh": sympy.acosh, "atanh": sympy.atanh, "erf": sympy.erf, "erfc": sympy.erfc, "lgamma": sympy.loggamma, "digamma": sympy.digamma,
    "polygamma": sympy.polygamma, "zeta": sympy.zeta, "abs": sympy.Abs, "sign": sympy.sign, "max": sympy.Max, "min": sympy.Min,
    "floor": sympy.floor, "ceil": sympy.ceiling, "mod": sympy.Mod, "stop": stop, "sqrt": sympy.sqrt,
}  # fmt: skip
RELATIONS: dict[str, Callable[..., Sym]] = {
    "<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge, "==": sympy.Eq, "!=": sympy.Ne,
}  # fmt: skip


def to_sympy(program: Program) -> Sym:
    """The value of a program with one output; its own indices stay as integer symbols.

    Raises ``LossError`` naming the construct where SymPy cannot say it.
    """
    if program.functions:
        name = program.functions[0].name
        raise LossError(f"{name!r} of {program.name} is a function that is given, and has no form in SymPy", hint=_HINT)
    if len(program.outputs) != 1:
        names = ", ".join(o.name for o in program.outputs)
        raise LossError(f"{program.name} gives several results ({names})", hint="a SymPy expression is one: take one name at a time")
    return _Writer(program).of(program.value)


def symbol(name: str, kind: Kind, lengths: Sequence[Sym] = ()) -> Sym:
    """The symbol of a scalar, or the base of an array of the given lengths."""
    facts = assumptions(kind)
    return sympy.IndexedBase(name, shape=tuple(lengths), **facts) if lengths else sympy.Symbol(name, **facts)


def assumptions(kind: Kind) -> dict[str, bool]:
    """What SymPy may assume of the values of a kind."""
    domain = kind.domain if kind.ignore is None else Interval()
    finite = not (float("inf") in domain or -float("inf") in domain)
    ends = {
        "positive": domain.low > 0 or (domain.low == 0 and domain.low_open),
        "negative": domain.high < 0 or (domain.high == 0 and domain.high_open),
        "nonnegative": domain.low == 0 and not domain.low_open,
        "nonpositive": domain.high == 0 and not domain.high_open,
    }
    facts = {("" if finite else "extended_") + name: True for name, holds in ends.items() if holds}
    facts = facts or {"real" if finite else "extended_real": True}
    if kind.integer and kind.name == "sign":
        return {"integer": True, "nonzero": True}
    return ({"integer": True} if kind.integer else {}) | facts


class _Writer:
    """Writes the expressions of one program."""

    def __init__(self, program: Program) -> None:
        self.ranges = Ranges(program, empty_axes=True)
        self.declared = program.length
        self.kinds = {x.name: x.kind for x in program.declared}
        self.taken = set(self.kinds) | {f.name for f in program.functions}
        self.lengths: dict[str, Sym] = {}
        self.indices = self._indices(program)
        self.bases: dict[str, Sym] = {}

    # -- names

    def length(self, axis: str) -> Sym:
        declared = self.declared(axis)
        if declared.op == "num":
            return sympy.Integer(int(declared.data))
        if axis not in self.lengths:
            self.lengths[axis] = sympy.Symbol(self._free([f"n_{axis}"]), integer=True, nonnegative=True)
        return self.lengths[axis]

    def _free(self, wanted: Sequence[str]) -> str:
        """A name that nothing else has: one of those wanted, else one made of the last."""
        name = next(n for n in chain(wanted, (f"{wanted[-1]}{k}" for k in count(2))) if n not in self.taken)
        self.taken.add(name)
        return name

    def _indices(self, program: Program) -> dict[Index, Sym]:
        """A symbol for every index; those of an axis that may meet in one place differ."""
        own = {i: str(i.tag) for o in program.outputs for i in o.indices}
        self.taken |= set(own.values())
        bound = dict.fromkeys(b for e in postorder(program.roots) if e.op == "red" for b in e.data[1])
        for b in sorted(bound, key=lambda b: b.tag, reverse=True):
            own[b] = self._free([b.axis if isinstance(b.axis, str) else "b", "i", "j", "l"])
        facts = {i: {"integer": True} if isinstance(i.axis, Range) else {"integer": True, "nonnegative": True} for i in own}
        return {i: sympy.Symbol(name, **facts[i]) for i, name in own.items()}

    # -- nodes

    def of(self, root: Expr, values: Mapping[str, Sym] | None = None) -> Sym:
        """The SymPy expression of a node; ``values`` says what references stand for, in the text of a table."""
        memo: dict[Expr, Sym] = {}
        for e in postorder([root]):
            args = [memo[a] for a in e.args]
            memo[e] = values[e.data] if values is not None and e.op == "ref" else self._node(e, args, memo)
        return memo[root]

    def _node(self, e: Expr, args: list[Sym], memo: Mapping[Expr, Sym]) -> Sym:
        try:
            return self._written(e, args, memo)
        except (TypeError, ValueError) as error:
            if isinstance(error, LossError):
                raise
            raise LossError(f"{e!r:.60} is no real number to SymPy and has no form in it", hint=_HINT) from None

    def _written(self, e: Expr, args: list[Sym], memo: Mapping[Expr, Sym]) -> Sym:
        match e.op:
            case "num":
                return sympy.Rational(e.data.numerator, e.data.denominator)
            case "const":
                return {"pi": sympy.pi, "inf": sympy.oo, "nan": sympy.nan}[e.data]
            case "bool":
                return sympy.true if e.data else sympy.false
            case "ix":
                return self.indices[e.data]
            case "size":
                return self.length(e.data)
            case "ref":
                return self._reference(e, args)
            case "cmp" if (known := self._decided(e)) is not None:
                return sympy.S(known)
            case "cmp":
                return self._function(RELATIONS[e.data], e, args)
            case "and" | "or" | "not":
                return {"and": sympy.And, "or": sympy.Or, "not": sympy.Not}[e.op](*args)
            case "iverson":
                return _bracket(args[0])
            case "pw":
                pairs, other = branches(e)
                for _, c in pairs:
                    _check_condition(memo[c])
                return _piecewise([(memo[v], memo[c]) for v, c in pairs], None if other is NAN else memo[other])
            case "red" if len(args) == 2:
                return self._reduction(e, args[0], args[1], memo)
            case "call":
                return self._call(e, args, memo)
        if e.op in ("add", "sub", "mul", "div", "pow", "neg"):
            return self._arithmetic(e, args)
        raise _unknown(e)

    def _decided(self, e: Expr) -> bool | None:
        """Whether a comparison with 0 surely holds or surely fails, if either."""
        x, reach = e.args[0], self.ranges.reach(e.args[0])
        if e.args[1] is not ZERO or reach.nan:
            return None
        low, high = reach.interval.low, reach.interval.high
        sure = {">=": low >= 0, ">": self.ranges.positive(x), "<=": high <= 0, "<": self.ranges.negative(x), "==": low == high == 0}
        sure["!="] = not reach.zero
        never = {">=": "<", ">": "<=", "<=": ">", "<": ">=", "==": "!=", "!=": "=="}
        return True if sure[e.data] else False if sure[never[e.data]] else None

    def _reference(self, e: Expr, args: Sequence[Sym]) -> Sym:
        kind = self.kinds[e.data]
        if e.data not in self.bases:
            self.bases[e.data] = symbol(e.data, kind, [self.length(axis) for axis, _ in kind.axes])
        base = self.bases[e.data]
        return base[tuple(args)] if args else base

    def _arithmetic(self, e: Expr, args: Sequence[Sym]) -> Sym:
        sound = all(self.ranges.finite(a) for a in e.args)
        match e.op:
            case "add":
                return _joined(sympy.Add, args, sound)
            case "sub":
                minus = _joined(sympy.Mul, [sympy.S.NegativeOne, args[1]], self.ranges.finite(e.args[1]))
                return _joined(sympy.Add, [args[0], minus], sound)
            case "neg":
                return _joined(sympy.Mul, [sympy.S.NegativeOne, *args], sound)
            case "mul":
                return _joined(sympy.Mul, args, sound)
            case "pow":
                return _power(args[0], args[1], sound and self.ranges.finite(e))
        sound = sound and self.ranges.nonzero(e.args[1])
        return _joined(sympy.Mul, [args[0], _power(args[1], sympy.S.NegativeOne, sound)], sound)

    def _function(self, head: Callable[..., Sym], e: Expr, args: Sequence[Sym]) -> Sym:
        """A function at its arguments, evaluated if these are finite or if nothing happens."""
        if head is sympy.sqrt:
            return _power(args[0], sympy.S.Half, self.ranges.finite(e.args[0]) and self.ranges.finite(e))
        try:
            made = head(*args)
        except (TypeError, ValueError):  # no real number, to SymPy
            return head(*args, evaluate=False)
        if all(self.ranges.finite(a) for a in e.args) and made not in _LOST:
            return made
        return made if getattr(made, "args", ()) == tuple(args) else head(*args, evaluate=False)

    def _call(self, e: Expr, args: Sequence[Sym], memo: Mapping[Expr, Sym]) -> Sym:
        row = FUNCTIONS.get(e.data)
        if row is None:
            raise _unknown(e)
        if e.data == "exp" and _is_share(e.args[0]) and all(a in memo for a in e.args[0].args):
            x, whole = e.args[0].args
            return _joined(sympy.Mul, [self._exponential(x, memo[x]), _power(memo[whole].args[0], sympy.S.NegativeOne, False)], False)
        if e.data in HEADS:
            return self._function(HEADS[e.data], e, args)
        if row.meaning is None:
            raise _unknown(e)
        return self._meaning(e, row.meaning, args)

    def _meaning(self, e: Expr, text: str, args: Sequence[Sym]) -> Sym:
        """A row's meaning with its arguments filled in, which may be looked into to see what is finite."""
        names = FUNCTIONS[e.data].args
        written = rows.fill(rows.template(e.data, text), dict(zip(names, e.args, strict=True)))
        known = dict(zip(e.args, args, strict=True))
        memo: dict[Expr, Sym] = {}
        for x in _outside(written, known):
            memo[x] = known[x] if x in known else self._node(x, [memo[a] for a in x.args], memo)
        return memo[written]

    # -- reductions

    def _reduction(self, e: Expr, body: Sym, guard: Sym, memo: Mapping[Expr, Sym]) -> Sym:
        op, binders = e.data
        limits = [self._limits(b, memo) for b in binders]
        if op == "sum" and e.args[0] is ONE:
            return self._count(binders, guard, limits)
        match op:
            case "sum":
                return _sum(body, guard, limits)
            case "prod":
                return (Product if guard is not sympy.true else sympy.Product)(_where(body, guard, sympy.S.One), *limits)
            case "logsumexp":
                return sympy.log(_sum(self._exponential(e.args[0], body), guard, limits))
            case "norm":
                return sympy.sqrt(_sum(_power(body, sympy.S(2), self.ranges.finite(e.args[0])), guard, limits))
            case "any":
                return sympy.Gt(_sum(_indicator(body), sympy.true, limits), 0)
        raise _unknown(e)

    def _count(self, binders: Sequence[Index], guard: Sym, limits: Sequence[Sym]) -> Sym:
        if guard is sympy.true and all(isinstance(b.axis, str) for b in binders):
            return sympy.Mul(*(self.length(str(b.axis)) for b in binders))
        return _sum(_indicator(guard), sympy.true, limits)

    def _exponential(self, e: Expr, x: Sym) -> Sym:
        made = sympy.exp(x)
        return made if self.ranges.finite(e) or made.args == (x,) else sympy.exp(x, evaluate=False)

    def _limits(self, b: Index, memo: Mapping[Expr, Sym]) -> tuple[Sym, Sym, Sym]:
        """An empty range is a sum of nothing, where SymPy's would be minus what lies between."""
        if isinstance(b.axis, str):
            return self.indices[b], sympy.S.Zero, self.length(b.axis) - 1
        low, high = memo[b.axis.lo], memo[b.axis.hi]
        full = self.ranges.of(b.axis.lo).high <= self.ranges.of(b.axis.hi).low
        return self.indices[b], low, high if full else sympy.Max(high, low - 1)


def _is_share(e: Expr) -> bool:
    """Whether the exponential of a difference is a quotient: ``exp(x - logsumexp(..))`` is ``exp(x)/sum(exp(..))``."""
    return e.op == "sub" and e.args[1].op == "red" and e.args[1].data[0] == "logsumexp"


def _outside(root: Expr, known: Mapping[Expr, Any]) -> Iterator[Expr]:
    """The nodes of an expression in postorder; what is known is not looked into."""
    seen: set[Expr] = set()
    stack = [(root, False)]
    while stack:
        e, done = stack.pop()
        if done or (e in known and e not in seen):
            seen.add(e)
            yield e
        elif e not in seen:
            seen.add(e)
            stack += [(e, True), *((a, False) for a in reversed(e.args))]


def _joined(head: Any, args: Sequence[Sym], sound: bool) -> Sym:
    """A sum or a product, evaluated if that is sound or only brings its parts into order."""
    made = head(*args)
    if (sound and made not in _LOST) or Counter(head.make_args(made)) == Counter(x for a in args for x in head.make_args(a)):
        return made
    return head(*args, evaluate=False)


def _power(base: Sym, exponent: Sym, sound: bool) -> Sym:
    made = sympy.Pow(base, exponent)
    return made if (sound and made not in _LOST) or made.args == (base, exponent) else sympy.Pow(base, exponent, evaluate=False)


def _where(e: Sym, guard: Sym, otherwise: Sym) -> Sym:
    return e if guard is sympy.true else _piecewise([(e, guard)], otherwise)


def _sum(summand: Sym, guard: Sym, limits: Sequence[Sym]) -> Sym:
    whole = _where(summand, guard, sympy.S.Zero)
    inside = whole.args if isinstance(whole, sympy.Piecewise) else (whole,)
    return (Sum if any(x.has(sympy.Piecewise) for x in inside) else sympy.Sum)(whole, *limits)


def _bracket(condition: Sym) -> Sym:
    """1 where a condition holds, else 0: Kronecker's delta for equal integers."""
    if isinstance(condition, sympy.Eq) and all(x.is_integer for x in condition.args):
        return sympy.KroneckerDelta(*condition.args)
    return _piecewise([(sympy.S.One, condition)], sympy.S.Zero)


def _indicator(condition: Sym) -> Sym:
    """The same in arithmetic, which may stand inside a condition."""
    match condition:
        case sympy.And():
            return sympy.Mul(*map(_indicator, condition.args))
        case sympy.Or():
            return 1 - sympy.Mul(*(1 - _indicator(c) for c in condition.args))
        case sympy.Not() | sympy.Ne():
            return 1 - _indicator(sympy.Not(condition))
        case sympy.Eq() if all(x.is_integer for x in condition.args):
            return sympy.KroneckerDelta(*condition.args)
        case sympy.Eq():
            return _indicator(sympy.Ge(*condition.args)) * _indicator(sympy.Le(*condition.args))
        case sympy.Rel():
            return sympy.Heaviside(condition.gts - condition.lts, 0 if condition.rel_op in ("<", ">") else 1)
    return sympy.S.One if condition is sympy.true else sympy.S.Zero


def _piecewise(pairs: Sequence[tuple[Sym, Sym]], other: Sym | None) -> Sym:
    """The first value whose condition holds, not rewritten."""
    kept = [(v, c) for v, c in pairs if c is not sympy.false]
    known = next((k for k, (_, c) in enumerate(kept) if c is sympy.true), None)
    if known is not None:
        kept, other = kept[:known], kept[known][0]
    if not kept:
        return sympy.nan if other is None else other
    return sympy.Piecewise(*kept, *(() if other is None else ((other, True),)), evaluate=False)


def _check_condition(c: Sym) -> None:
    """SymPy rewrites what is piecewise in a condition, which goes wrong inside of a sum and where no branch may hold."""
    if any(total.has(sympy.Piecewise) for total in c.atoms(sympy.Sum)):
        raise LossError("a condition on a sum with a guard has no form in SymPy", hint=_HINT)
    if any(p.args[-1].cond is not sympy.true for p in c.atoms(sympy.Piecewise)):
        raise LossError("a condition on a piecewise that may have no branch has no form in SymPy", hint=_HINT)


def _unknown(e: Expr) -> LossError:
    name = f"a {e.op} node"
    match e.op:
        case "red":
            name = f"{e.data[0]} over an axis"
        case "call":
            name = f"the function {e.data}"
        case "scan" | "rec":
            name = "a recursion"
    return LossError(f"{name} has no form in SymPy", hint=_HINT)
