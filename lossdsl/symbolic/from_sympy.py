"""A SymPy expression as the text of a loss, which the front end then reads and checks like any other.

A symbol becomes an input or a hyper-parameter of the kind that its assumptions tell, an ``IndexedBase`` an array. A sum from 0 to
``n - 1`` or from 1 to n whose index is a subscript is one along an axis; other sums are over integer ranges. Nothing is evaluated
on the way. What the language does not have is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, count
from math import isfinite, prod
from typing import Any

import sympy
from sympy.codegen import cfunctions
from sympy.core.function import AppliedUndef
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import ITE, Boolean

from lossdsl.errors import LossError, did_you_mean
from lossdsl.ir.present import WORDS, run
from lossdsl.ir.program import Input, Param
from lossdsl.ir.text import bound as default_text
from lossdsl.ir.text import kind as kind_text
from lossdsl.ir.text import number
from lossdsl.symbolic.to_sympy import HEADS, Sym

OR, AND, NOT, COMPARE, SUM, PRODUCT, MINUS, POWER, ATOM = range(9)
Plain = Generator[tuple[Any, ...], str, tuple[str, int]]
Step = Generator[tuple[Any, ...], str, str]

_NAME = re.compile(r"(?!(?:not|pi|inf)$)[A-Za-z_Α-Ωα-ω][A-Za-z0-9_Α-Ωα-ω]*")
_MOST = 20_000  # nodes that are read

_NAMED: dict[Any, str] = {head: name for name, head in HEADS.items() if name != "sqrt"} | {
    cfunctions.log1p: "log1p", cfunctions.expm1: "expm1", cfunctions.log2: "log2", cfunctions.log10: "log10", cfunctions.hypot: "hypot",
    cfunctions.Sqrt: "sqrt", cfunctions.Cbrt: "cbrt",
}  # fmt: skip
_SPELLED: dict[Any, str] = {
    sympy.sec: "1/cos({0})", sympy.csc: "1/sin({0})", sympy.cot: "cos({0})/sin({0})", sympy.sech: "1/cosh({0})", sympy.csch: "1/sinh({0})",
    sympy.coth: "cosh({0})/sinh({0})", sympy.frac: "{0} - floor({0})", sympy.sinc: "piecewise(1 if {0} == 0, sin({0})/{0} otherwise)",
    sympy.Heaviside: "piecewise(1 if {0} > 0, {1} if {0} == 0, 0 if {0} < 0)", sympy.KroneckerDelta: "{0} == {1}",
    cfunctions.exp2: "2^{0}", cfunctions.fma: "{0}*{1} + {2}", sympy.gamma: "exp(lgamma({0}))", sympy.factorial: "exp(lgamma({0} + 1))",
    sympy.UnevaluatedExpr: "{0}",
}  # fmt: skip
_ON_POSITIVE = (sympy.gamma, sympy.factorial)  # of other numbers, exp(lgamma(x)) is something else
_CONSTANTS: dict[Any, tuple[str, int]] = {
    sympy.pi: ("pi", ATOM), sympy.E: ("exp(1)", ATOM), sympy.oo: ("inf", ATOM), -sympy.oo: ("-inf", MINUS),
    sympy.nan: ("piecewise(0 if 1 == 0)", ATOM),
    sympy.GoldenRatio: ("(1 + sqrt(5))/2", PRODUCT), sympy.EulerGamma: ("-digamma(1)", MINUS),
    sympy.true: ("1 == 1", COMPARE), sympy.false: ("1 == 0", COMPARE),
}  # fmt: skip
_SIGNS: dict[Any, str] = {sympy.Eq: "==", sympy.Ne: "!=", sympy.Lt: "<", sympy.Le: "<=", sympy.Gt: ">", sympy.Ge: ">="}
_REDUCED: dict[Any, str] = {sympy.Sum: "sum", sympy.Product: "prod"}


def source(expression: Any, name: str, inputs: Any = None, params: Any = None, wrt: Sequence[str] | str | None = None) -> str:
    """The definition, as text; see ``loss.from_sympy``."""
    if not isinstance(expression, sympy.Expr):
        what = "a condition" if isinstance(expression, Boolean) else f"{expression!r:.60}"
        raise LossError(f"a loss is made from a SymPy expression, not from {what}", hint="parse reads an equation as text")
    declared = _Declared(_declared(inputs), _declared(params))
    names = _Names(expression, declared)
    for n in (name, *declared.names, *names.all):
        if not _NAME.fullmatch(n):
            raise LossError(f"{n!r} cannot be a name in a loss", hint="letters, digits and _ make a name; use another symbol")
    body = _Writer(names).text(expression)
    left, right = (", ".join(map(names.declaration, group)) for group in declared.sorted(names.all, names.ends))
    by = (wrt,) if isinstance(wrt, str) else tuple(wrt or ())
    return f"{name}({left}{'; ' if right else ''}{right}) = {body}" + (f"\n  wrt {', '.join(by)}" if by else "")


# -- declarations -----------------------------------------------------------------------------------------------------


def _declared(given: Any) -> dict[str, str] | None:
    """Names with what stands behind them in a declaration: ``: kind``, ``= default``, both or nothing."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(name): _declaration(what) for name, what in given.items()}
    out = {}
    for x in (given,) if isinstance(given, (str, sympy.Symbol, Input, Param)) else given:
        if isinstance(x, (Input, Param)):
            out[x.name] = f": {kind_text(x.kind)}" + ("" if x.default is None else f" = {default_text(x.default)}")
        else:
            out[str(x)] = ""
    return out


def _declaration(what: Any) -> str:
    if what is None:
        return ""
    if isinstance(what, str):
        if "\n" in what:
            raise LossError(f"a kind is declared on one line, not as {what!r:.60}")
        return f": {what}"
    if isinstance(what, float):
        return f" = {default_text(Fraction(str(what)) if isfinite(what) else what)}"
    if isinstance(what, (int, Fraction)):
        return f" = {default_text(Fraction(what))}"
    raise LossError(f"a name is declared by its kind or a default, not by {what!r:.60}", hint='inputs={"y": "sign"}, params={"delta": 1}')


@dataclass(frozen=True, slots=True)
class _Declared:
    """What the caller says of inputs and of hyper-parameters; None where nothing is said."""

    inputs: dict[str, str] | None
    params: dict[str, str] | None

    @property
    def names(self) -> list[str]:
        return [*(self.inputs or {}), *(self.params or {})]

    def of(self, name: str) -> str:
        return {**(self.params or {}), **(self.inputs or {})}.get(name, "")

    def axes(self, name: str) -> list[str] | None:
        """The axes that a declared kind names, by position."""
        found = re.search(r"\[([^]]*)\]", self.of(name).split(" in [")[0])
        if found is None:
            return None
        return [re.sub(r".*\bin\s+|\s*=.*", "", item.strip()) for item in found[1].split(",")]

    def sorted(self, found: Iterable[str], fixed: Container[str]) -> tuple[list[str], list[str]]:
        """Inputs and hyper-parameters in order.

        Names of which nothing is said follow in alphabetical order: as inputs if no inputs are given, but for those that are fixed.
        """
        left = sorted((n for n in found if n not in self.names), key=lambda n: (n in fixed, n))
        if left and self.inputs is not None and self.params is not None:
            hint = did_you_mean(left[0], self.names) or "name every symbol, or give one of the two lists only"
            raise LossError(f"the expression also has {', '.join(left)}", hint=hint)
        inputs, params = list(self.inputs or ()), list(self.params or ())
        more = [n for n in left if self.inputs is None and n not in fixed]
        return inputs + more, params + left[len(more) :]


# -- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Limit:
    """What an index runs over: the length of an axis and the number of its first position, or a range."""

    length: Sym | None
    first: int


Limits = Mapping[Sym, _Limit]


def _limit(low: Sym, high: Sym) -> _Limit:
    length = high - low + 1
    return _Limit(length if length.is_Symbol and low in (0, 1) else None, int(low) if low in (0, 1) else 0)


def _walk(root: Sym) -> Iterator[tuple[Sym, Limits]]:
    """Every node with the indices that are bound where it stands."""
    stack: list[tuple[Sym, Limits]] = [(root, {})]
    for _ in range(_MOST):
        if not stack:
            return
        e, scope = stack.pop()
        yield e, scope
        if isinstance(e, (sympy.Sum, sympy.Product)):
            stack += [(end, scope) for limit in e.limits for end in limit[1:]]
            stack.append((e.function, {**scope, **{v: _limit(*ends) for v, *ends in e.limits if len(ends) == 2}}))
        elif isinstance(e, sympy.Indexed):
            stack += [(i, scope) for i in e.indices]
        else:
            stack += [(a, scope) for a in reversed(e.args)]
    raise LossError("the expression is too large for a loss", hint=f"at most {_MOST} nodes are read")


def _open_symbols(e: Sym) -> set[Sym]:
    """The symbols of a subscript, without those that stand in subscripts themselves."""
    found: set[Sym] = set()
    stack = [e]
    while stack:
        x = stack.pop()
        if x.is_Symbol:
            found.add(x)
        elif not isinstance(x, sympy.Indexed):
            stack += x.args
    return found


@dataclass(slots=True)
class _Array:
    """An array: its base, the length of each position as far as it is known, and the number of its first position."""

    base: Sym
    lengths: list[Sym | None]
    first: int | None = None


@dataclass
class _Names:
    """What the symbols of an expression are: scalars, arrays, lengths of axes, classes, conditions."""

    expression: Sym
    declared: _Declared
    scalars: dict[str, Sym] = field(default_factory=dict)
    arrays: dict[str, _Array] = field(default_factory=dict)
    axes: dict[Sym, str] = field(default_factory=dict)  # by the symbol of the length
    gathers: dict[str, tuple[str, int]] = field(default_factory=dict)  # what is a subscript: of which array, where
    conditions: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)  # what ends of ranges hold

    def __post_init__(self) -> None:
        nodes = list(_walk(self.expression))
        for e, scope in nodes:
            if isinstance(e, sympy.Indexed):
                self._indexed(e, scope)
        self._name_axes()
        for e, scope in nodes:
            self._conditions(e)
            if isinstance(e, (sympy.Sum, sympy.Product)):
                self.ends |= {s.name for limit in e.limits for end in limit[1:] for s in end.free_symbols if s not in self.axes}
            if e.is_Symbol and e not in scope and e not in self.axes:
                self._scalar(e)

    @property
    def all(self) -> list[str]:
        return [*self.scalars, *self.arrays]

    def _scalar(self, e: Sym) -> None:
        if self.scalars.setdefault(e.name, e) != e or e.name in self.arrays:
            raise LossError(f"two symbols are called {e.name}", hint="symbols of one name with other assumptions are different to SymPy")

    def _conditions(self, e: Sym) -> None:
        """Symbols that stand where a condition is due."""
        places = e.args if isinstance(e, (sympy.And, sympy.Or, sympy.Not, ITE)) else ()
        places = (e.cond,) if isinstance(e, ExprCondPair) else places
        self.conditions.update(x.name for x in places if x.is_Symbol)

    def _indexed(self, e: Sym, scope: Limits) -> None:
        name = str(e.base.label)
        shape = [n if n.is_Symbol else None for n in e.base.shape or ()] or [None] * len(e.indices)
        known = self.arrays.setdefault(name, _Array(e.base, shape))
        if known.base != e.base or len(known.lengths) != len(e.indices):
            raise LossError(f"two arrays are called {name}", hint="an array has one number of axes and one set of assumptions")
        for place, at in enumerate(e.indices):
            inside = [scope[v] for v in _open_symbols(at) if v in scope and scope[v].length is not None]
            if len(inside) == 1:
                self._along(name, known, place, inside[0])
            elif at.is_Symbol or isinstance(at, sympy.Indexed):
                self.gathers.setdefault(at.name if at.is_Symbol else str(at.base.label), (name, place))

    def _along(self, name: str, array: _Array, place: int, limit: _Limit) -> None:
        if array.lengths[place] not in (None, limit.length):
            two = f"length {array.lengths[place]} and length {limit.length}"
            raise LossError(f"axis {place + 1} of {name} has {two}", hint="use one symbol for it")
        if array.first not in (None, limit.first):
            raise LossError(f"the subscripts of {name} begin with 0 and with 1", hint="let all sums over its axes begin with 0")
        array.lengths[place], array.first = limit.length, limit.first

    def _name_axes(self) -> None:
        """The axis of a length is what a declared kind calls it; of ``n_k`` it is k, else it bears the length's own name."""
        for name, array in self.arrays.items():
            for length, axis in zip(array.lengths, self.declared.axes(name) or (), strict=False):
                if length is not None and self.axes.setdefault(length, axis) != axis:
                    both = f"{self.axes[length]} and {axis}"
                    raise LossError(f"length {length} is that of axes {both}", hint="declare one axis for one length")
        for array in self.arrays.values():
            for length in array.lengths:
                if length is not None:
                    self.axes.setdefault(length, length.name.removeprefix("n_"))

    def axes_of(self, name: str) -> list[str]:
        lengths = self.arrays[name].lengths
        if None in lengths:
            hint = f'say what it is: inputs={{"{name}": "real[{", ".join("nmkdhw"[: len(lengths)])}]"}}'
            raise LossError(f"nothing tells axis {lengths.index(None) + 1} of {name}", hint=hint)
        return [self.axes[n] for n in lengths]

    def declaration(self, name: str) -> str:
        said = self.declared.of(name)
        if said.startswith(":"):
            return f"{name}{said}"
        axes = self._apart(self.axes_of(name)) if name in self.arrays else []
        return f"{name}: {self._kind(name, axes)}{said}"

    def _apart(self, axes: list[str]) -> list[str]:
        """Axes for a declaration: a second index over one has a name of its own, ``k, k2 in k``."""
        used = {*self.axes.values(), *self.all}
        out: list[str] = []
        for axis in axes:
            new = axis if axis not in out else next(n for k in count(2) if (n := f"{axis}{k}") not in used)
            used.add(new)
            out.append(axis if new == axis else f"{new} in {axis}")
        return out

    def _kind(self, name: str, axes: list[str]) -> str:
        over = f"[{', '.join(axes)}]" if axes else ""
        if name in self.conditions:
            return f"bool{over}"
        if name in self.gathers:
            array, place = self.gathers[name]
            return f"class({(self.declared.axes(array) or self.axes_of(array))[place]}){over}"
        s = self.arrays[name].base if name in self.arrays else self.scalars.get(name)
        facts = s.assumptions0 if s is not None else {}
        if facts.get("integer"):
            return f"integer{over}"
        for fact in ("positive", "nonnegative"):
            if facts.get(fact) or facts.get(f"extended_{fact}"):
                return f"{fact}{over}"
        ends = {"negative": "(-inf, 0)", "nonpositive": "(-inf, 0]"}
        return f"real{over}" + next((f" in {i}" for fact, i in ends.items() if facts.get(fact)), "")


# -- expressions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bound:
    """How an index is written, and the number at its first position."""

    name: str
    first: int = 0


Scope = Mapping[Sym, _Bound]


class _Writer:
    """Writes one expression; the steps run on an explicit stack (see ``present.run``)."""

    def __init__(self, names: _Names) -> None:
        self.names = names
        self.taken = {*WORDS, *names.all, *names.axes.values()}

    def text(self, e: Sym) -> str:
        return run(self.step(e, {}), self.step)

    def step(self, e: Sym, scope: Scope, level: int = OR) -> Step:
        text, own = yield from self._plain(e, scope)
        return f"({text})" if own < level else text

    def _plain(self, e: Sym, scope: Scope) -> Plain:
        if e.is_Symbol:
            return self._symbol(e, scope)
        if e.is_Rational:
            return number(Fraction(int(e.p), int(e.q)))
        if e.is_Float:
            return number(_decimal(e))
        if e in _CONSTANTS:
            return _CONSTANTS[e]
        match e:
            case sympy.Add():
                return (yield from self._sum(e, scope)), SUM
            case sympy.Mul():
                return (yield from self._product(e, scope))
            case sympy.Pow():
                return (yield from self._power(e, scope))
            case sympy.Indexed():
                return (yield from self._entry(e, scope)), ATOM
            case sympy.Piecewise():
                return (yield from self._pieces(e.args, scope)), ATOM
            case sympy.Sum() | sympy.Product():
                return (yield from self._reduction(e, scope)), ATOM
            case Boolean():
                return (yield from self._condition(e, scope))
        return (yield from self._function(e, scope))

    def _symbol(self, e: Sym, scope: Scope) -> tuple[str, int]:
        if e in scope:
            i = scope[e]
            return (f"{i.name} + {i.first}", SUM) if i.first else (i.name, ATOM)
        return (f"size({self.names.axes[e]})", ATOM) if e in self.names.axes else (e.name, ATOM)

    def _sum(self, e: Sym, scope: Scope) -> Step:
        texts: list[str] = []
        for term in e.as_ordered_terms():
            texts.append((yield term, scope, PRODUCT))
        out = ""
        for text in sorted(texts, key=lambda t: t.startswith("-")):
            if out and text.startswith("-"):
                out += f" - {text[1:]}"
            else:
                out += f" + {text}" if out else text
        return out

    def _product(self, e: Sym, scope: Scope) -> Plain:
        """One quotient, the sign and the numbers in front."""
        front = prod((Fraction(int(a.p), int(a.q)) for a in e.args if a.is_Rational), start=Fraction(1))
        above, below = [], [str(front.denominator)] if front.denominator > 1 else []
        for a in e.as_ordered_factors():
            if a.is_Rational:
                continue
            if a.is_Pow and a.exp.is_Rational and a.exp.is_negative:
                below.append((yield from self._raised(a.base, -a.exp, scope, MINUS)))
            else:
                text: str = yield a, scope, MINUS
                above.append(f"({text})" if text.startswith("-") else text)
        top = abs(front.numerator)
        above = [str(top), *above] if top != 1 or not above else above
        text = "*".join(above)
        if below:
            text += f"/({'*'.join(below)})" if len(below) > 1 else f"/{below[0]}"
        return ("-" if front < 0 else "") + text, PRODUCT

    def _power(self, e: Sym, scope: Scope) -> Plain:
        if e.exp.is_Rational and e.exp.is_negative:
            return f"1/{(yield from self._raised(e.base, -e.exp, scope, MINUS))}", PRODUCT
        text = yield from self._raised(e.base, e.exp, scope, OR)
        return text, ATOM if text.startswith("sqrt(") else POWER

    def _raised(self, base: Sym, exponent: Sym, scope: Scope, level: int) -> Step:
        if exponent == 1:
            return (yield base, scope, level)
        if exponent == sympy.S.Half:
            return f"sqrt({(yield base, scope)})"
        below: str = yield base, scope, ATOM
        above: str = yield exponent, scope, ATOM
        return f"{below}^{above}"

    def _entry(self, e: Sym, scope: Scope) -> Step:
        first = self.names.arrays[str(e.base.label)].first or 0
        places = []
        for at in e.indices:
            plain: str = yield at, scope, SUM
            inside = scope.get(at)
            if inside is not None and inside.first == first:
                plain = inside.name
            elif first:
                plain = f"{plain} - {first}"
            places.append(plain)
        return f"{e.base.label}[{', '.join(places)}]"

    def _pieces(self, pairs: Iterable[tuple[Sym, Sym]], scope: Scope) -> Step:
        out = []
        for value, condition in pairs:
            if value is sympy.nan and condition == True:  # noqa: E712 - SymPy's own true
                break
            text: str = yield value, scope
            if condition == True:  # noqa: E712
                out.append(f"{text} otherwise")
                break
            out.append(f"{text} if {(yield condition, scope)}")
        return f"piecewise({', '.join(out)})"

    def _condition(self, e: Sym, scope: Scope) -> Plain:
        match e:
            case sympy.And() | sympy.Or():
                sign, level = ("and", AND) if isinstance(e, sympy.And) else ("or", OR)
                parts = []
                for a in e.args:
                    parts.append((yield a, scope, level + 1))
                return f" {sign} ".join(parts), level
            case sympy.Not():
                return f"not {(yield e.args[0], scope, ATOM)}", NOT
            case ITE():
                c, a, b = (yield e.args[0], scope, ATOM), (yield e.args[1], scope, ATOM), (yield e.args[2], scope, ATOM)
                return f"{c} and {a} or not {c} and {b}", OR
        if type(e) in _SIGNS and not any(isinstance(a, Boolean) and not a.is_Symbol for a in e.args):
            left, right = (yield e.args[0], scope, SUM), (yield e.args[1], scope, SUM)
            return f"{left} {_SIGNS[type(e)]} {right}", COMPARE
        raise _unknown(e)

    def _function(self, e: Sym, scope: Scope) -> Plain:
        head = e.func
        if head is sympy.polygamma and e.args[0] in (0, 1):
            return f"{'trigamma' if e.args[0] == 1 else 'digamma'}({(yield e.args[1], scope)})", ATOM
        if head is sympy.Heaviside and e.args[1] in (0, 1):
            return f"({(yield e.args[0], scope, SUM)} {'>=' if e.args[1] == 1 else '>'} 0)", ATOM
        if head not in _NAMED and head not in _SPELLED or (head in _ON_POSITIVE and not e.args[0].is_nonnegative):
            raise _unknown(e)
        arguments = []
        for a in e.args:
            arguments.append((yield a, scope, ATOM if head in _SPELLED else OR))
        if head in _SPELLED:
            return f"({_SPELLED[head].format(*arguments)})", ATOM
        return f"{_NAMED[head]}({', '.join(arguments)})", ATOM

    # -- sums

    def _reduction(self, e: Sym, scope: Scope) -> Step:
        """SymPy's first limit is the innermost; they are written in one bracket, so the ends may hold no index."""
        inner, binders = dict(scope), []
        variables = {limit[0] for limit in e.limits}
        for limit in e.limits:
            if len(limit) != 3 or any(not end.free_symbols.isdisjoint({*scope, *variables}) for end in limit[1:]):
                raise LossError(f"a sum over {limit} has no form in a loss", hint="a sum has two ends, which hold no other index")
            known = _limit(*limit[1:])
            axis = self.names.axes.get(known.length)
            name = self._index_name(limit[0].name, axis, {b.name for b in inner.values()})
            inner[limit[0]] = _Bound(name, known.first if axis else 0)
            over = axis or f"{(yield limit[1], scope, SUM)}..{(yield limit[2], scope, SUM)}"
            binders.append(name if name == axis else f"{name} in {over}")
        body, guard = e.function, ""
        kind, nothing = (sympy.Sum, 0) if isinstance(e, sympy.Sum) else (sympy.Product, 1)
        if isinstance(body, sympy.Piecewise) and len(body.args) == 2 and body.args[1] == (nothing, True):
            body, condition = body.args[0]
            guard = f" | {(yield condition, inner)}"
        return f"{_REDUCED[kind]}[{', '.join(binders)}{guard}]({(yield body, inner)})"

    def _index_name(self, wanted: str, axis: str | None, used: set[str]) -> str:
        """The index' own name if nothing else has it; an axis' name for an index of that axis."""
        names = chain([wanted], (f"{wanted}{k}" for k in count(2)))
        return next(n for n in names if n not in used and (n not in self.taken or n == axis) and _NAME.fullmatch(n))


def _decimal(e: Sym) -> Fraction:
    """The shortest decimal that is the number at its precision."""
    if e._prec == 53:
        return Fraction(repr(float(e)))
    return Fraction(str(e))


def _unknown(e: Sym) -> LossError:
    name = "I" if e is sympy.I else str(e.func) if isinstance(e, AppliedUndef) else type(e).__name__
    return LossError(f"SymPy's {name} has no form in a loss", hint="write it by elementary functions first, with rewrite or doit")
