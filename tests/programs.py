"""Random losses: a hypothesis strategy that writes well-kinded programs as DSL text, and knows what they mean.

Every piece of text comes with a Python function that computes it on plain floats. So a program has a meaning before the front end has
read it, and reading, hygiene, composition, guards and empty sets are checked against it, not only the passes behind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st
from scipy import special

T = TypeVar("T")
Env = dict[str, Any]  # what index names and parameters stand for
Eval = Callable[[Env], Any]
nan, inf = math.nan, math.inf

OR, AND, NOT, CMP, SUM, PROD, NEG, POW, ATOM = range(9)


@dataclass(frozen=True)
class Code:
    """A text, how tightly it binds, and what it computes."""

    text: str
    level: int
    run: Eval

    def at(self, level: int) -> str:
        return self.text if self.level >= level else f"({self.text})"


@dataclass(frozen=True)
class Array:
    """What can be indexed: an input, a parameter or a local, with its axes and a way to look it up."""

    name: str
    axes: tuple[str, ...]
    kind: str = "real"
    look: Callable[[Env, tuple[int, ...]], Any] = lambda env, at: nan


@dataclass(frozen=True)
class Case:
    """A text with one loss ``loss`` in it, arrays for its inputs, and its meaning on floats."""

    text: str
    arrays: dict[str, np.ndarray]
    wrt: tuple[str, ...]
    seed: int
    used: tuple[str, ...]
    mean: Callable[[], float] = field(repr=False, compare=False)

    def __str__(self) -> str:
        arrays = "\n".join(f"{k} = {np.array2string(v, separator=', ')}" for k, v in self.arrays.items())
        return f"{self.text}\n{arrays}"


# -- floats with the rules of the language --------------------------------------------------------------------------------------------------


def total(f: Callable[..., float]) -> Callable[..., float]:
    """The function with NaN outside its domain and infinity where it overflows."""

    def guarded(*xs: float) -> float:
        if any(x != x for x in xs):
            return nan
        try:
            return float(f(*xs))
        except OverflowError:
            return inf
        except (ValueError, ZeroDivisionError):
            return nan

    return guarded


def divide(a: float, b: float) -> float:
    if b == 0:
        return nan if a == 0 or a != a else math.copysign(inf, a)
    return a / b


def power(a: float, b: float) -> float:
    if b == 0 and a == a:
        return 1.0
    if a < 0 and b != int(b):
        return nan
    return total(lambda x, y: x**y)(a, b)


def log(x: float) -> float:
    return -inf if x == 0 else total(math.log)(x)


def xlog(x: float, y: float) -> float:
    return 0.0 if x == 0 and y >= 0 else x * log(y)


exp = total(math.exp)
sigmoid = total(lambda x: 1 / (1 + math.exp(-x)) if x > -700 else math.exp(x))
softplus = total(lambda x: max(x, 0) + math.log1p(math.exp(-abs(x))))

# -- pointwise functions: of which arguments, and what they are ------------------------------------------------------------------------------

FUNCTIONS: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
    "exp": (("tame",), exp),
    "expm1": (("tame",), total(math.expm1)),
    "log": (("positive",), log),
    "log1p": (("positive",), total(math.log1p)),
    "log2": (("positive",), total(math.log2)),
    "log10": (("positive",), total(math.log10)),
    "log1mexp": (("negative",), total(lambda x: math.log(-math.expm1(x)))),
    "logaddexp": (("real", "real"), total(lambda a, b: max(a, b) + math.log1p(math.exp(-abs(a - b))))),
    "sqrt": (("positive",), total(math.sqrt)),
    "cbrt": (("positive",), total(lambda x: math.copysign(abs(x) ** (1 / 3), x))),
    "sqrt1pm1": (("positive",), total(lambda x: math.sqrt(1 + x) - 1)),
    "hypot": (("real", "positive"), total(math.hypot)),
    "hypot1m1": (("real",), total(lambda x: math.hypot(1, x) - 1)),
    "abs": (("real",), total(abs)),
    "sign": (("real",), total(lambda x: (x > 0) - (x < 0))),
    "relu": (("real",), total(lambda x: max(x, 0.0))),
    "max": (("real", "real"), total(max)),
    "min": (("real", "real"), total(min)),
    "clip": (("real", "minus one", "one"), total(lambda x, lo, hi: min(max(x, lo), hi))),
    "floor": (("tame",), total(math.floor)),
    "ceil": (("tame",), total(math.ceil)),
    "mod": (("real", "positive"), total(lambda a, b: a - b * math.floor(a / b))),
    "sin": (("real",), total(math.sin)),
    "cos": (("real",), total(math.cos)),
    "tan": (("inside",), total(math.tan)),
    "asin": (("inside",), total(math.asin)),
    "acos": (("inside",), total(math.acos)),
    "atan": (("real",), total(math.atan)),
    "atan2": (("real", "positive"), total(math.atan2)),
    "sinh": (("tame",), total(math.sinh)),
    "cosh": (("tame",), total(math.cosh)),
    "tanh": (("real",), total(math.tanh)),
    "asinh": (("real",), total(math.asinh)),
    "acosh": (("above one",), total(math.acosh)),
    "atanh": (("inside",), total(math.atanh)),
    "sigmoid": (("real",), sigmoid),
    "logit": (("fraction",), total(lambda p: math.log(p / (1 - p)))),
    "softplus": (("real",), softplus),
    "logsigmoid": (("real",), total(lambda x: -softplus(-x))),
    "log_cosh": (("real",), total(lambda x: abs(x) + math.log1p(math.exp(-2 * abs(x))) - math.log(2))),
    "bce_with_logits": (("real", "fraction"), total(lambda s, t: softplus(s) - t * s)),
    "softsign": (("real",), total(lambda x: x / (1 + abs(x)))),
    "silu": (("real",), total(lambda x: x * sigmoid(x))),
    "elu": (("real",), total(lambda x: x if x > 0 else math.expm1(x))),
    "erf": (("real",), total(math.erf)),
    "erfc": (("tame",), total(math.erfc)),
    "erfcx": (("tame",), total(lambda x: float(special.erfcx(x)))),
    "normal_cdf": (("tame",), total(lambda x: float(special.ndtr(x)))),
    "log_normal_cdf": (("tame",), total(lambda x: float(special.log_ndtr(x)))),
    "gelu": (("tame",), total(lambda x: x * float(special.ndtr(x)))),
    "lgamma": (("positive",), total(math.lgamma)),
    "digamma": (("positive",), total(lambda x: float(special.digamma(x)))),
    "trigamma": (("positive",), total(lambda x: float(special.polygamma(1, x)))),
    "xlogy": (("positive", "positive"), total(xlog)),
}
"""Every function a user would call, with arguments inside its domain."""

LEFT_OUT = {"pow", "logsubexp", "polygamma", "zeta", "logdiv", "xlogdiv", "mul0", "stop"}
"""Rows with a spelling of their own (``^``, ``stop``), of two arguments that must be ordered, or made by the compiler alone."""


# -- what the writer knows at a place --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scope:
    """Indices in sight (name, axis), arrays that may be named, the names of plain numbers, and how deep reductions nest."""

    indices: tuple[tuple[str, str], ...] = ()
    arrays: tuple[Array, ...] = ()
    numbers: tuple[str, ...] = ()
    depth: int = 0
    outer: bool = True  # in the loss itself, where locals may be made

    @property
    def own(self) -> set[str]:
        return {name for name, axis in self.indices if name == axis}

    def bind(self, *new: tuple[str, str]) -> Scope:
        names = {name for name, _ in new}
        kept = tuple(i for i in self.indices if i[0] not in names)
        return replace(self, indices=(*kept, *new), depth=self.depth + 1)

    def along(self, axis: str) -> list[str]:
        return [name for name, of in self.indices if of == axis]


def number(text: str, x: float) -> Code:
    return Code(text, ATOM, lambda env: x)


CONSTANTS = (number("2", 2), number("3", 3), number("1/2", 0.5), number("0.3", 0.3), number("1.5", 1.5), number("1", 1), number("pi", math.pi))
CONSTANTS = tuple(replace(c, level=PROD) if "/" in c.text else c for c in CONSTANTS)


def indexed(name: str, kind: str, data: Callable[[], np.ndarray]) -> Callable[[Env, tuple[int, ...]], Any]:
    def look(env: Env, at: tuple[int, ...]) -> Any:
        array = data()
        if any(not 0 <= i < n for i, n in zip(at, array.shape, strict=True)):
            return nan
        x = array[at]
        return bool(x) if kind == "bool" else int(x) if kind in ("class", "label", "binary") else float(x)

    return look


INPUTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "x": (("n",), "real", "real[n]"),
    "u": (("n", "k"), "real", "real[n, k]"),
    "w": (("k",), "real", "real[k]"),
    "v": (("n", "k"), "real", "real[n, k]"),
    "a": ((), "real", "real"),
    "R": (("n", "n"), "real", "real[n, n2 in n]"),
    "p": (("n",), "positive", "positive[n]"),
    "q": (("k",), "positive", "simplex[k]"),
    "b": (("n",), "binary", "binary[n]"),
    "ok": (("n",), "bool", "bool[n]"),
    "g": (("n",), "label", "label[n]"),
    "y": (("n",), "class", "class(k)[n]"),
    "c": ((), "class", "class(k)"),
}
HYPER = {"alpha": ("positive", "1/2", 0.5), "beta": ("real", "-1/3", -1 / 3), "bins": ("integer", "2", 2)}
REAL_INPUTS = ("x", "u", "w", "v", "a", "R", "p", "q")


class Writer:
    """Writes one loss; every choice is drawn."""

    def __init__(self, seed: bytes, budget: int, wide: bool = False) -> None:
        self.random = Random(seed)
        self.budget = budget
        self.wide = wide  # more orders, sets that a key orders, recursions
        self.data: dict[str, np.ndarray] = {}
        self.sizes = {"n": 2 + self.below(3), "k": 2 + self.below(2)}
        self.used: dict[str, None] = {}
        self.axes: set[str] = set()  # axes that the text names
        self.params: dict[str, None] = {}
        self.tags: list[str] = []
        self.locals: list[str] = []
        self.definitions: list[str] = []
        self.count = 0
        self.deciding = 0  # how many conditions the text here stands in
        self.inputs = {name: Array(name, axes, kind, indexed(name, kind, lambda name=name: self.data[name])) for name, (axes, kind, _) in INPUTS.items()}

    def declare(self, kinds: dict[str, str]) -> tuple[str, ...]:
        """Say the length of an axis with a number or a hyper-parameter, and lay two axes in one dimension; the arrays that are flat."""
        holds = [name for name, kind in kinds.items() if re.search(r"\[(n, )?k\]", kind)]
        if not holds or not self.chance(50):
            return ()
        self.tags.append("declared length")
        length = str(self.sizes["k"])
        if self.sizes["k"] == 2 and self.chance(50):
            self.params["bins"] = None
            length = "bins"
        kinds[holds[0]] = re.sub(r"k\]", f"k = {length}]", kinds[holds[0]])
        flat = tuple(name for name in holds if "[n, k" in kinds[name] and self.chance(50))
        for name in flat:
            self.tags.append("product")
            kinds[name] = re.sub(r"\[(.*)\]", r"[(\1)]", kinds[name])
        return flat

    # -- choices

    def below(self, n: int) -> int:
        return self.random.randrange(n)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    # -- leaves

    def index(self, axis: str, scope: Scope) -> Code:
        """A position along an axis: an index in sight, a class, or a fixed number."""
        options = scope.along(axis)
        if axis in self.sizes and scope.outer and self.chance(5):
            return self.extreme_place(axis, scope)
        if options and self.chance(85):
            name = self.pick(options)
            return Code(name, ATOM, lambda env: env[name])
        if axis == "k" and scope.outer and self.chance(60):
            self.tags.append("gather")
            if scope.along("n") and self.chance(60):
                return self.element(self.inputs["y"], scope)
            return self.element(self.inputs["c"], scope)
        if options:
            name = self.pick(options)
            return Code(name, ATOM, lambda env: env[name])
        i = self.below(2)
        return number(str(i), i)

    def extreme_place(self, axis: str, scope: Scope) -> Code:
        """Where an array is largest or smallest along an axis."""
        self.tags.append("argmax")
        op = self.pick(("argmax", "argmin", "argsort"))
        name = {"n": "x", "k": "w"}[axis]
        new = self.fresh("m")
        inside = scope.bind((new, axis))
        e = self.element(self.inputs[name], replace(inside, indices=(*[i for i in inside.indices if i[1] != axis], (new, axis))))
        best = max if op == "argmax" else min

        def extreme(env: Env) -> int:
            values = [e.run({**env, new: i}) for i in range(self.sizes[axis])]
            return sorted(range(len(values)), key=values.__getitem__)[1] if op == "argsort" else values.index(best(values))

        return Code(f"{op}[{new} in {axis}]({e.text}){'[1]' if op == 'argsort' else ''}", ATOM, extreme)

    def element(self, array: Array, scope: Scope) -> Code:
        """An array at some place, by position, by name or, where its own indices are in sight, bare."""
        if array.name in INPUTS and scope.outer and array is self.inputs.get(array.name):
            self.used[array.name] = None
        if not array.axes:
            return Code(array.name, ATOM, lambda env: array.look(env, ()))
        own = scope.own
        if all(axis in own for axis in array.axes) and len(set(array.axes)) == len(array.axes) and self.chance(60):
            return Code(array.name, ATOM, lambda env: array.look(env, tuple(env[a] for a in array.axes)))
        at = [self.index(axis, scope) for axis in array.axes]
        text = f"{array.name}[{', '.join(i.text for i in at)}]"
        if len(set(array.axes)) == len(array.axes) and self.chance(20):
            named = [f"{axis} = {i.text}" for axis, i in zip(array.axes, at, strict=True) if i.text != axis]
            text = f"{array.name}[{', '.join(named)}]" if named else array.name
            self.tags.append("by name")
        return Code(text, ATOM, lambda env: array.look(env, tuple(i.run(env) for i in at)))

    def atom(self, scope: Scope) -> Code:
        choices: list[Callable[[], Code]] = []
        reals = [a for a in scope.arrays if a.kind in ("real", "positive")]
        if reals:
            # an array whose axes are in sight is the better leaf
            good = [a for a in reals if all(scope.along(axis) for axis in a.axes)]
            choices += [lambda: self.element(self.pick(good or reals), scope)] * 6
        if scope.numbers:
            choices += [lambda: self.plain(self.pick(scope.numbers))] * 4
        choices.append(lambda: self.pick(CONSTANTS))
        if scope.outer:
            choices.append(self.hyper)
        if scope.indices:
            choices.append(lambda: self.position(scope))
        return self.pick(choices)()

    def plain(self, name: str) -> Code:
        return Code(name, ATOM, lambda env: env[name])

    def hyper(self) -> Code:
        name = self.pick(("alpha", "beta"))
        self.params[name] = None
        return number(name, HYPER[name][2])

    def position(self, scope: Scope) -> Code:
        """An index, a class or the length of an axis as a number."""
        self.tags.append("index as number")
        if self.chance(30):
            axis = self.pick([axis for _, axis in scope.indices])
            if axis in self.sizes and scope.outer:
                used = {"n": "x", "k": "w"}[axis]
                self.used[used] = None
                return Code(f"size({axis})", ATOM, lambda env: self.sizes[axis])
        if self.chance(30) and scope.outer and scope.along("n"):
            e = self.element(self.inputs["y"], scope)
            return Code(f"{e.text}/2", PROD, lambda env: e.run(env) / 2)
        name, _ = self.pick(scope.indices)
        return Code(f"{name}/3", PROD, lambda env: env[name] / 3)

    # -- numbers

    def real(self, scope: Scope, depth: int) -> Code:
        """A number of moderate size."""
        self.budget -= 1
        if depth <= 0 or self.budget <= 0:
            return self.atom(scope)
        d = depth - 1
        can_reduce = scope.depth < 3 and self.reducible(scope)
        options: list[tuple[int, Callable[[], Code]]] = [
            (5, lambda: self.sum_of(scope, d)),
            (5, lambda: self.product_of(scope, d)),
            (3, lambda: self.quotient(scope, d)),
            (8, lambda: self.function(scope, d)),
            (3, lambda: self.power_of(scope, d)),
            (3, lambda: self.piecewise(scope, d)),
            (3, lambda: self.strong_zero(scope, d)),
            (1, lambda: self.stopped(scope, d)),
            (3, lambda: self.naive(scope, d)),
            (1, lambda: self.atom(scope)),
        ]
        if can_reduce:
            options.append((12, lambda: self.reduction(scope, d)))
        if self.wide and scope.depth < 3:
            options += [(8, lambda: self.order(scope, d))] if can_reduce else []
            options += [(6, lambda: self.ordered(scope, d))] if any(axis in self.sizes for _, axis in scope.indices) else []
            options += [(6, lambda: self.recursion(scope, d))] if scope.outer and d >= 1 else []
        if scope.outer and d >= 1:
            options += [(3, lambda: self.local(scope, d)), (2, lambda: self.local_function(scope, d)), (2, lambda: self.composed(scope, d))]
            options += [(3, lambda: self.vector(scope)), (2, lambda: self.shift(scope))]
        if scope.outer and scope.along("n"):
            options.append((3, lambda: self.looked_up(scope)))
        if scope.outer and len(scope.along("n")) > 1 and "k" not in scope.own:
            options.append((8, lambda: self.pair(scope)))
        return self.weighted(options)

    def weighted(self, options: Sequence[tuple[int, Callable[[], Code]]]) -> Code:
        at = self.below(sum(w for w, _ in options))
        for w, make in options:
            at -= w
            if at < 0:
                return make()
        raise AssertionError

    def sum_of(self, scope: Scope, d: int) -> Code:
        a, b = self.real(scope, d), self.real(scope, d - self.below(2))
        if self.chance(50):
            return Code(f"{a.at(SUM)} + {b.at(PROD)}", SUM, lambda env: a.run(env) + b.run(env))
        return Code(f"{a.at(SUM)} - {b.at(PROD)}", SUM, lambda env: a.run(env) - b.run(env))

    def product_of(self, scope: Scope, d: int) -> Code:
        a, b = self.real(scope, d), self.tame(scope, d - self.below(2))
        if self.chance(15):
            return Code(f"-{a.at(NEG)}", NEG, lambda env: -a.run(env))
        # the floats follow the convention that 0*log(..) is 0 by the texts that make logs of what may be 0 below
        return Code(f"{a.at(PROD)}*{b.at(NEG)}", PROD, lambda env: a.run(env) * b.run(env))

    def quotient(self, scope: Scope, d: int) -> Code:
        a, b = self.real(scope, d), self.positive(scope, d - self.below(2))
        return Code(f"{a.at(PROD)}/{b.at(NEG)}", PROD, lambda env: divide(a.run(env), b.run(env)))

    def power_of(self, scope: Scope, d: int) -> Code:
        if self.chance(50):
            a = self.real(scope, d)
            n = self.pick((2, 2, 3))
            a = a if d < 2 else self.tame(scope, d)
            return Code(f"{a.at(ATOM)}^{n}", POW, lambda env: power(a.run(env), n))
        base = self.positive(scope, d)
        e = self.pick((number("alpha" if scope.outer else "0.5", 0.5), number("1.7", 1.7), number("(1/3)", 1 / 3), number("-1", -1))) if self.chance(60) else self.tame(scope, d)
        if e.text == "alpha":
            self.params["alpha"] = None
        return Code(f"{base.at(ATOM)}^{e.at(NEG)}", POW, lambda env: power(base.run(env), e.run(env)))

    def function(self, scope: Scope, d: int) -> Code:
        name = self.pick(tuple(FUNCTIONS))
        kinds, f = FUNCTIONS[name]
        self.tags.append("f:" + name)
        args = [self.argument(kind, scope, d) for kind in kinds]
        return Code(f"{name}({', '.join(a.text for a in args)})", ATOM, lambda env: f(*(a.run(env) for a in args)))

    def argument(self, kind: str, scope: Scope, d: int) -> Code:
        match kind:
            case "real":
                return self.real(scope, d)
            case "tame":
                return self.tame(scope, d)
            case "positive":
                return self.positive(scope, d)
            case "negative":
                e = self.positive(scope, d)
                return Code(f"-{e.at(NEG)}", NEG, lambda env: -e.run(env))
            case "inside":
                e = self.real(scope, d)
                return Code(f"sin({e.text})/1.25", PROD, lambda env: total(math.sin)(e.run(env)) / 1.25)
            case "fraction":
                e = self.tame(scope, d)
                return Code(f"sigmoid({e.text})", ATOM, lambda env: sigmoid(e.run(env)))
            case "above one":
                e = self.positive(scope, d)
                return Code(f"1 + {e.at(PROD)}", SUM, lambda env: 1 + e.run(env))
            case "one":
                return self.pick((number("1", 1), number("1.5", 1.5)))
            case "minus one":
                return replace(self.pick((number("-1", -1), number("0", 0))), level=NEG)
        raise AssertionError(kind)

    def tame(self, scope: Scope, d: int) -> Code:
        """A number within about [-3, 3]."""
        self.budget -= 1
        if d <= 0 or self.budget <= 0:
            return self.atom(scope)
        e = self.real(scope, d - 1)
        match self.below(6):
            case 0:
                return Code(f"sin({e.text})", ATOM, lambda env: total(math.sin)(e.run(env)))
            case 1:
                return Code(f"tanh({e.text})", ATOM, lambda env: total(math.tanh)(e.run(env)))
            case 2:
                return Code(f"2*sigmoid({e.text})", PROD, lambda env: 2 * sigmoid(e.run(env)))
            case 3:
                return Code(f"{e.at(PROD)}/(1 + {e.at(ATOM)}^2)", PROD, lambda env: divide(e.run(env), 1 + power(e.run(env), 2)))
            case 4:
                return Code(f"clip({e.text}, -2, 2)", ATOM, lambda env: total(lambda x: min(max(x, -2), 2))(e.run(env)))
            case _:
                return Code(f"softsign({e.text})", ATOM, lambda env: total(lambda x: x / (1 + abs(x)))(e.run(env)))

    def positive(self, scope: Scope, d: int) -> Code:
        """A number of at least about 0.1."""
        self.budget -= 1
        if (d <= 0 or self.budget <= 0) and scope.outer and self.chance(70):
            if scope.along("n") and self.chance(70):
                return self.element(self.inputs["p"], scope)
            self.params["alpha"] = None
            return number("alpha", 0.5)
        e = self.real(scope, d - 1)
        match self.below(5):
            case 0:
                return Code(f"1/2 + abs({e.text})", SUM, lambda env: 0.5 + abs(e.run(env)))
            case 1:
                return Code(f"1 + {e.at(ATOM)}^2", SUM, lambda env: 1 + power(e.run(env), 2))
            case 2:
                return Code(f"softplus({e.text}) + 0.1", SUM, lambda env: softplus(e.run(env)) + 0.1)
            case 3:
                return Code(f"exp(sin({e.text}))", ATOM, lambda env: exp(total(math.sin)(e.run(env))))
            case _:
                return Code(f"sqrt(1 + {e.at(ATOM)}^2)", ATOM, lambda env: total(lambda x: math.hypot(1, x))(e.run(env)))

    def piecewise(self, scope: Scope, d: int) -> Code:
        arms = [(self.real(scope, d), self.condition(scope, d - 1)) for _ in range(1 + self.below(2))]
        if self.chance(35):  # a branch that is undefined where it is not taken
            e = self.real(scope, d - 1)
            arms[0] = (Code(f"log({e.text})", ATOM, lambda env: log(e.run(env))), Code(f"{e.at(SUM)} > 0.1", CMP, lambda env: e.run(env) > 0.1))
            self.tags.append("poison")
        last = self.real(scope, d)

        def run(env: Env) -> float:
            for value, condition in arms:
                if condition.run(env):
                    return float(value.run(env))
            return float(last.run(env))

        branches = ", ".join(f"{v.text} if {c.text}" for v, c in arms)
        return Code(f"piecewise({branches}, {last.text} otherwise)", ATOM, run)

    def strong_zero(self, scope: Scope, d: int) -> Code:
        """A condition in a product, on what may be undefined where it fails."""
        self.tags.append("strong zero")
        e = self.real(scope, d)
        match self.below(4):
            case 0:
                c = self.condition(scope, d)
                return Code(f"({c.text})*{e.at(NEG)}", PROD, lambda env: e.run(env) if c.run(env) else 0.0)
            case 1:
                return Code(f"({e.at(SUM)} > 0.1)*log({e.text})", PROD, lambda env: log(e.run(env)) if e.run(env) > 0.1 else 0.0)
            case 2:
                return Code(f"-sqrt({e.text})*({e.at(SUM)} > 0.1)", PROD, lambda env: -total(math.sqrt)(e.run(env)) if e.run(env) > 0.1 else 0.0)
            case _:
                c = self.condition(scope, d)
                b = self.positive(scope, d)
                return Code(f"{e.at(PROD)}*({c.text})/{b.at(NEG)}", PROD, lambda env: divide(e.run(env), b.run(env)) if c.run(env) else 0.0)

    def stopped(self, scope: Scope, d: int) -> Code:
        e = self.real(scope, d)
        if self.deciding:  # a frozen value beside a moving one would turn a condition at the smallest step
            return e
        self.tags.append("stop")
        return Code(f"stop({e.text})", ATOM, e.run)

    def naive(self, scope: Scope, d: int) -> Code:
        """What a person writes without a thought for rounding."""
        self.tags.append("naive")
        match self.below(12):
            case 9:
                e = self.tame(scope, d)
                return Code(f"1 - exp({e.text})", SUM, lambda env: 1 - exp(e.run(env)))
            case 10:
                e = self.tame(scope, d)
                return Code(f"cosh({e.text}) - 1", SUM, lambda env: total(math.cosh)(e.run(env)) - 1)
            case 11:
                e = self.tame(scope, d)
                return Code(f"exp({e.text}) - 1", SUM, lambda env: exp(e.run(env)) - 1)
            case 0:
                e = self.real(scope, d)
                return Code(f"log(1 + exp({e.text}))", ATOM, lambda env: softplus(e.run(env)))
            case 1:
                e = self.real(scope, d)
                return Code(f"log(sigmoid({e.text}))", ATOM, lambda env: -softplus(-e.run(env)))
            case 2:
                e = self.real(scope, d)
                return Code(f"log(1 - sigmoid({e.text}))", ATOM, lambda env: -softplus(e.run(env)))
            case 3:
                e = self.real(scope, d)
                return Code(f"log(cosh({e.text}))", ATOM, lambda env: FUNCTIONS["log_cosh"][1](e.run(env)))
            case 4:
                e = self.tame(scope, d)
                return Code(f"sqrt(1 + {e.at(ATOM)}^2) - 1", SUM, lambda env: total(lambda x: math.hypot(1, x) - 1)(e.run(env)))
            case 5:
                e = self.tame(scope, d)
                return Code(f"(exp({e.text}) - exp(-{e.at(NEG)}))/(exp({e.text}) + exp(-{e.at(NEG)}))", PROD, lambda env: total(math.tanh)(e.run(env)))
            case 6:
                a, b = self.positive(scope, d), self.positive(scope, 0)
                return Code(f"{a.at(PROD)}*log({a.at(PROD)}/{b.at(NEG)})", PROD, lambda env: xlog(a.run(env), divide(a.run(env), b.run(env))))
            case 7:
                e = self.tame(scope, d)
                return Code(f"1 - 1/(1 + exp(-{e.at(NEG)}))", SUM, lambda env: sigmoid(-e.run(env)))
            case _:
                return self.exp_ratio(scope, d)

    def exp_ratio(self, scope: Scope, d: int) -> Code:
        """A quotient or logarithm of sums of exponentials over an axis."""
        if scope.depth >= 3 or not self.reducible(scope):
            return self.atom(scope)
        axis = self.pick(self.reducible(scope))
        self.axes.add(axis)
        new = self.fresh("e")
        inside = scope.bind((new, axis))
        e = self.tame(inside, d)
        size = self.length(axis)

        def values(env: Env) -> list[float]:
            return [exp(e.run({**env, new: i})) for i in range(size(env))]

        if self.chance(50):
            return Code(f"log(sum[{new} in {axis}](exp({e.text})))", ATOM, lambda env: log(sum(values(env))))
        w = self.real(inside, d - 1)

        def ratio(env: Env) -> float:
            return divide(sum(v * w.run({**env, new: i}) for i, v in enumerate(values(env))), sum(values(env)))

        other = self.fresh("e")
        text = f"sum[{new} in {axis}](exp({e.text})*{w.at(NEG)})/sum[{other} in {axis}](exp({rename(e.text, new, other)}))"
        return Code(text, PROD, ratio)

    # -- conditions

    def condition(self, scope: Scope, d: int) -> Code:
        self.budget -= 1
        options: list[tuple[int, Callable[[], Code]]] = [(4, lambda: self.compare(scope, d))]
        pairs = [(i, j) for i, a in scope.indices for j, b in scope.indices if a == b and i != j]
        if pairs:
            options.append((6, lambda: self.index_pair(self.pick(pairs))))
        if scope.outer and scope.along("n"):
            options += [(3, lambda: self.binary(scope)), (2, lambda: self.flag(scope)), (3, lambda: self.labels(scope)), (2, lambda: self.classes(scope))]
        if d > 0 and self.budget > 0:
            options += [(2, lambda: self.joined(scope, d - 1)), (1, lambda: self.negated(scope, d - 1)), (1, lambda: self.chain(scope, d - 1))]
            if scope.depth < 3 and self.reducible(scope):
                options += [(2, lambda: self.quantified(scope, d - 1)), (1, lambda: self.counted(scope, d - 1))]
            if scope.outer:
                options.append((1, lambda: self.local_condition(scope, d - 1)))
        self.deciding += 1
        made = self.weighted(options)
        self.deciding -= 1
        return made

    def compare(self, scope: Scope, d: int) -> Code:
        a, b = self.real(scope, min(d, 1)), self.real(scope, 0)
        op, f = self.pick((("<", lambda s, t: s < t), (">", lambda s, t: s > t), ("<=", lambda s, t: s <= t), (">=", lambda s, t: s >= t)))
        return Code(f"{a.at(SUM)} {op} {b.at(SUM)}", CMP, lambda env: f(a.run(env), b.run(env)))

    def chain(self, scope: Scope, d: int) -> Code:
        e, hi = self.real(scope, d), self.pick((number("1", 1), number("2", 2)))
        return Code(f"-1 < {e.at(SUM)} <= {hi.text}", CMP, lambda env: -1 < e.run(env) <= hi.run(env))

    def index_pair(self, pair: tuple[str, str]) -> Code:
        i, j = pair
        self.tags.append("index pair")
        op, f = self.pick((("!=", lambda s, t: s != t), ("<", lambda s, t: s < t), (">=", lambda s, t: s >= t), ("==", lambda s, t: s == t)))
        return Code(f"{i} {op} {j}", CMP, lambda env: f(env[i], env[j]))

    def binary(self, scope: Scope) -> Code:
        e = self.element(self.inputs["b"], scope)
        return Code(f"{e.text} == 1", CMP, lambda env: e.run(env) == 1)

    def flag(self, scope: Scope) -> Code:
        return self.element(self.inputs["ok"], scope)

    def labels(self, scope: Scope) -> Code:
        e = self.element(self.inputs["g"], scope)
        if len(scope.along("n")) > 1:
            f = self.element(self.inputs["g"], scope)
            return Code(f"{e.text} == {f.text}", CMP, lambda env: e.run(env) == f.run(env))
        return Code(f"{e.text} != 1", CMP, lambda env: e.run(env) != 1)

    def classes(self, scope: Scope) -> Code:
        e = self.element(self.inputs["y"], scope)
        ks = scope.along("k")
        if ks:
            k = self.pick(ks)
            return Code(f"{k} == {e.text}", CMP, lambda env: env[k] == e.run(env))
        return Code(f"{e.text} >= 1", CMP, lambda env: e.run(env) >= 1)

    def joined(self, scope: Scope, d: int) -> Code:
        a, b = self.condition(scope, d), self.condition(scope, d)
        if self.chance(50):
            return Code(f"{a.at(AND)} and {b.at(NOT)}", AND, lambda env: a.run(env) and b.run(env))
        return Code(f"{a.at(OR)} or {b.at(AND)}", OR, lambda env: a.run(env) or b.run(env))

    def negated(self, scope: Scope, d: int) -> Code:
        a = self.condition(scope, d)
        return Code(f"not {a.at(NOT)}", NOT, lambda env: not a.run(env))

    def quantified(self, scope: Scope, d: int) -> Code:
        bracket = self.bracket(scope)
        g = self.guard(bracket, d)
        e = self.condition(bracket.scope, d)
        op = self.pick(("any", "all"))
        fold = any if op == "any" else all
        return Code(f"{op}[{bracket.text}{g.text}]({e.text})", ATOM, lambda env: fold([bool(e.run(x)) for x in bracket.points(env) if g.run(x)]))

    def counted(self, scope: Scope, d: int) -> Code:
        bracket = self.bracket(scope)
        g = self.guard(bracket, d, always=True)
        return Code(f"count[{bracket.text}{g.text}] > 1", CMP, lambda env: sum(1 for x in bracket.points(env) if g.run(x)) > 1)

    # -- reductions

    def reducible(self, scope: Scope) -> list[str]:
        """Axes along which something may be reduced here."""
        return sorted({axis for a in scope.arrays for axis in a.axes})

    def length(self, axis: str) -> Callable[[Env], int]:
        if axis in self.sizes:
            return lambda env: self.sizes[axis]
        return lambda env: int(env[f"size {axis}"])

    def bracket(self, scope: Scope) -> Bracket:
        axes = self.reducible(scope)
        axis = self.pick(axes)
        self.axes.update(axes)
        kind = self.below(10)
        if kind < 3 and not any(name == axis for name, of in scope.indices if of != axis):
            names = [(axis, axis)]
            text = axis
        elif kind < 6:
            names = [(self.fresh("i"), axis)]
            text = f"{names[0][0]} in {axis}"
        elif kind < 8:
            names = [(self.fresh("i"), axis), (self.fresh("j"), axis)]
            text = f"{names[0][0]}, {names[1][0]} in {axis}"
            self.tags.append("pair")
        elif kind < 9 and len(axes) > 1:
            names = [(self.fresh("i"), axes[0]), (axes[1], axes[1])]
            text = f"{names[0][0]} in {axes[0]}, {axes[1]}"
            self.tags.append("two axes")
        else:
            new = self.fresh("b")
            self.tags.append("range")
            if scope.outer and self.chance(50):
                self.params["bins"] = None
                hi = "bins"
            else:
                hi = "2"
            lo = self.pick(("0", "1", "-1"))
            ends = [name for name, _ in scope.indices]
            if self.wide and ends and self.chance(60):
                return self.moving(new, lo, hi, self.pick(ends), scope)
            return Bracket(f"{new} in {lo}..{hi}", scope.bind((new, "..")), ((new, lambda env: range(int(lo), 3)),))
        return Bracket(text, scope.bind(*names), tuple((name, self.ranges(of)) for name, of in names))

    def moving(self, new: str, lo: str, hi: str, end: str, scope: Scope) -> Bracket:
        """A range that ends at an index, or begins there."""
        self.tags.append("moving range")
        up, shift = self.chance(50), self.pick((-1, 0, 1))
        moved = end if not shift else f"{end} {'+' if shift > 0 else '-'} 1"
        text = f"{new} in {lo}..{moved}" if up else f"{new} in {moved}..{hi}"
        over = (lambda env: range(int(lo), env[end] + shift + 1)) if up else (lambda env: range(env[end] + shift, 3))
        return Bracket(text, scope.bind((new, "..")), ((new, over),))

    def ranges(self, axis: str) -> Callable[[Env], range]:
        size = self.length(axis)
        return lambda env: range(size(env))

    def guard(self, bracket: Bracket, d: int, always: bool = False) -> Code:
        if not always and not self.chance(55):
            return Code("", ATOM, lambda env: True)
        self.tags.append("guard")
        c = self.condition(bracket.scope, d)
        return Code(f" | {c.text}", ATOM, c.run)

    def reduction(self, scope: Scope, d: int) -> Code:
        op = self.pick(("sum", "sum", "mean", "max", "min", "logsumexp", "norm", "count", "softmax", "weighted", "log_softmax", "sum", "prod", "var", "std", "order", "order"))
        bracket = self.bracket(scope)
        g = self.guard(bracket, d)
        head = f"[{bracket.text}{g.text}]"
        self.tags.append("r:" + op)
        if op == "count":
            c = self.condition(bracket.scope, d)
            return Code(f"count{head}({c.text})", ATOM, lambda env: sum(1 for x in bracket.points(env) if g.run(x) and c.run(x)))
        if op in ("softmax", "log_softmax"):
            return self.softmax(op, scope, d)
        if op == "order":
            return self.order(scope, d)
        e = self.real(bracket.scope, d) if op not in ("logsumexp", "prod") else self.tame(bracket.scope, d)
        if op in ("var", "std"):  # of what does not vary, rounding alone decides how far it is from 0
            e = self.varied(e, [name for name, _ in bracket.names])
        if op == "prod" and self.wide and self.chance(30):  # with factors that are 0
            c, e0 = self.condition(bracket.scope, 0), e
            e = Code(f"({c.text})*{e0.at(NEG)}", PROD, lambda env: e0.run(env) if c.run(env) else 0.0)

        def values(env: Env) -> list[float]:
            return [e.run(x) for x in bracket.points(env) if g.run(x)]

        if op == "sum":
            return Code(f"sum{head}({e.text})", ATOM, lambda env: sum(values(env)))
        if op == "prod":
            return Code(f"prod{head}({e.text})", ATOM, lambda env: math.prod(values(env)))
        if op == "norm":
            return Code(f"norm{head}({e.text})", ATOM, lambda env: math.sqrt(sum(v * v for v in values(env))))
        default = self.real(scope, 0) if g.text else None
        tail = f", default = {default.text}" if default else ""
        if op == "weighted":
            w = self.positive(bracket.scope, 0) if self.chance(60) or not bracket.scope.along("n") or not scope.outer else self.element(self.inputs["b"], bracket.scope)
            default = default or self.real(scope, 0)

            def weighted(env: Env) -> float:
                kept = [(e.run(x), w.run(x)) for x in bracket.points(env) if g.run(x) and w.run(x) != 0]
                return divide(sum(v * t for v, t in kept), sum(t for _, t in kept)) if kept else float(default.run(env))

            return Code(f"mean{head}({e.text}, weight = {w.text}, default = {default.text})", ATOM, weighted)
        folds: dict[str, Callable[[list[float]], float]] = {"mean": lambda v: sum(v) / len(v), "max": extreme(max), "min": extreme(min), "logsumexp": lse, "var": variance, "std": lambda v: math.sqrt(variance(v))}

        def fold(env: Env) -> float:
            found = values(env)
            if found:
                return folds[op](found)
            assert default is not None
            return float(default.run(env))

        return Code(f"{op}{head}({e.text}{tail})", ATOM, fold)

    def varied(self, e: Code, names: Sequence[str]) -> Code:
        """A number that differs from one index to the next."""
        steps = [(name, 3 * k + 2) for k, name in enumerate(names)]
        text = " + ".join(["1", *(f"{name}/{n}" for name, n in steps)])
        return Code(f"{e.at(PROD)}*({text})", PROD, lambda env: e.run(env) * (1 + sum(env[name] / n for name, n in steps)))

    def order(self, scope: Scope, d: int) -> Code:
        """What sorts, ranks or runs along an axis, summed against something; under a guard, at the first place."""
        axis = self.pick(self.reducible(scope))
        self.axes.add(axis)
        new, other = self.fresh("o"), self.fresh("t")
        inside = scope.bind((new, axis))
        e = self.real(inside, d)
        op = self.pick(("sort", "sort", "argsort", "cumsum", "rank"))
        falling = op != "cumsum" and self.chance(40)
        c = self.condition(inside, 0) if self.chance(55) else None
        self.tags.append("r:" + op)
        size = self.length(axis)

        def results(env: Env) -> list[float]:
            """The values at all places; only the first counts where a guard leaves some out."""
            kept = [i for i in range(size(env)) if i == 0 or c is None or c.run({**env, new: i})]
            found = {i: e.run({**env, new: i}) for i in kept}
            if op == "cumsum":
                return [sum(found[j] for j in kept if j <= i) for i in range(size(env))]
            before = (lambda a, b: a > b) if falling else (lambda a, b: a < b)
            if op == "rank":
                return [1 + sum(before(found[j], found[i]) for j in kept) if i in found else nan for i in range(size(env))]
            order = sorted(kept, key=lambda i: (found[i] != found[i], 0 if found[i] != found[i] else -found[i] if falling else found[i]))
            return [float(i) if op == "argsort" else found[i] for i in order]

        guard = f" | {new} == 0 or {c.at(AND)}" if c else ""
        text = f"{op}[{new} in {axis}{guard}]({e.text}{', order = descending' if falling else ''})"
        if c:
            return Code(f"{text}[0]", ATOM, lambda env: results(env)[0])
        w = self.real(scope.bind((other, axis)), d - 1)
        return Code(f"sum[{other} in {axis}]({w.at(PROD)}*{text}[{other}])", ATOM, lambda env: sum(w.run({**env, other: i}) * v for i, v in enumerate(results(env))))

    def softmax(self, op: str, scope: Scope, d: int) -> Code:
        """A distribution along an axis, summed against something or looked up at a place."""
        axis = self.pick(self.reducible(scope))
        self.axes.add(axis)
        new = self.fresh("s")
        inside = scope.bind((new, axis))
        e = self.tame(inside, d)
        size = self.length(axis)
        self.tags.append("softmax")
        other = self.fresh("t")
        c = None
        if op == "softmax" and self.chance(40):
            c = self.condition(inside, 0)
            c = Code(f"{new} == 0 or {c.at(AND)}", OR, lambda env, c=c: env[new] == 0 or c.run(env))

        def weights(env: Env) -> list[float]:
            found = [exp(e.run({**env, new: i})) if c is None or c.run({**env, new: i}) else 0.0 for i in range(size(env))]
            return [divide(v, sum(found)) for v in found]

        guard = f" | {c.text}" if c else ""
        text = f"{op}[{new} in {axis}{guard}]({e.text})[{other}]"
        again = scope.bind((other, axis))
        w = self.real(again, d - 1)
        finish: Callable[[float], float] = (lambda v: v) if op == "softmax" else log
        return Code(f"sum[{other} in {axis}]({w.at(PROD)}*{text})", ATOM, lambda env: sum(w.run({**env, other: i}) * finish(v) for i, v in enumerate(weights(env))))

    # -- sets that a key orders, recursions

    def ordered(self, scope: Scope, d: int) -> Code:
        """A reduction over those whose key comes before, or after, the key at a place in sight."""
        i, axis = self.pick([(name, axis) for name, axis in scope.indices if axis in self.sizes])
        j = self.fresh("j")
        inside = scope.bind((j, axis))
        self.axes.add(axis)
        self.tags.append("ordered")
        key = self.pick((self.key(axis, i), Code(i, ATOM, lambda env: env[i])))
        theirs = Code(rename(key.text, i, j), key.level, lambda env: key.run({**env, i: env[j]}))
        sign, holds = self.pick(((">=", lambda a, b: a >= b), ("<=", lambda a, b: a <= b), (">", lambda a, b: a > b), ("<", lambda a, b: a < b)))
        more = self.condition(replace(inside, indices=((j, axis),)), 0) if self.chance(30) and scope.outer else None
        op, fold, none = self.pick((("sum", sum, 0.0), ("logsumexp", lse, None), ("max", extreme(max), None), ("min", extreme(min), None), ("norm", lambda v: math.sqrt(sum(x * x for x in v)), 0.0), ("prod", math.prod, 1.0)))
        e = self.tame(replace(inside, indices=((j, axis),)) if self.chance(60) else inside, d - 1)
        default = None if none is not None else self.real(scope, 0)
        size = self.length(axis)

        def run(env: Env) -> float:
            points = [{**env, j: k} for k in range(size(env))]
            found = [e.run(p) for p in points if holds(theirs.run(p), key.run(p)) and (more is None or more.run(p))]
            return float(fold(found) if found or default is None else default.run(env))

        guard = f"{theirs.at(SUM)} {sign} {key.at(SUM)}{f' and {more.at(NOT)}' if more else ''}"
        tail = f", default = {default.text}" if default else ""
        return Code(f"{op}[{j} in {axis} | {guard}]({e.text}{tail})", ATOM, run)

    def key(self, axis: str, i: str) -> Code:
        """What orders an axis: real data, or whole numbers with ties."""
        name = self.pick(("x", "p", "b", "y") if axis == "n" else ("w", "q"))
        array = self.inputs[name]
        self.used[name] = None
        return Code(f"{name}[{i}]", ATOM, lambda env: array.look(env, (env[i],)))

    def recursion(self, scope: Scope, d: int) -> Code:
        """A local that refers to itself one or two steps before or after, over one axis or two."""
        self.tags.append("recursion")
        name, t = self.fresh("G"), self.fresh("t")
        axis, other = self.pick((("n", None), ("k", None), ("n", "k"), ("k", "n")))
        m = self.fresh("m") if other else None
        self.axes.update(a for a in (axis, other) if a)
        heads = ((t, axis), (m, other)) if m and other else ((t, axis),)
        step = self.pick((-1, -1, 1, 1, -2))
        inside = replace(scope, indices=heads, numbers=())
        drive, start = self.real(inside, d - 1), self.real(replace(inside, numbers=()), 0)
        rate = self.tame(inside, 0)
        mix = self.below(4)
        e = self.fresh("e")
        size, wide = self.length(axis), self.length(other) if other else (lambda env: 1)
        before = f"{name}[{t} {'-' if step < 0 else '+'} {abs(step)}{f', {m}' if m else ''}]"
        across = f"{name}[{t} {'-' if step < 0 else '+'} {abs(step)}, {e}]"
        match (mix, m):
            case (0, str()):
                text, join = f"logsumexp[{e} in {other}]({across}/2 + {rate.at(PROD)})", lambda row, k, r: lse([v / 2 + r for v in row])
            case (1, str()):
                text, join = f"max[{e} in {other}](softsign({across}))*{rate.at(NEG)}", lambda row, k, r: max(v / (1 + abs(v)) for v in row) * r
            case (2, _):
                text, join = f"tanh({before})*{rate.at(NEG)}", lambda row, k, r: math.tanh(row[k]) * r
            case _:
                text, join = f"{before}*sin({rate.text})", lambda row, k, r: row[k] * math.sin(r)
        inside_axis = f"{t} + {step} < size({axis})" if step > 0 else f"{t} >= {-step}"
        head = ", ".join(f"{h} in {of}" for h, of in heads)
        self.locals.append(f"{name}[{head}] = {drive.at(SUM)} + piecewise({text} if {inside_axis}, {start.text} otherwise)")

        def table(env: Env) -> dict[int, list[float]]:
            out: dict[int, list[float]] = {}
            steps = range(size(env)) if step < 0 else reversed(range(size(env)))
            for at in steps:
                row = []
                for k in range(wide(env)):
                    here = {**env, t: at} | ({m: k} if m else {})
                    last = join(out[at + step], k, rate.run(here)) if 0 <= at + step < size(env) else start.run(here)
                    row.append(drive.run(here) + last)
                out[at] = row
            return out

        places = [self.index(of, scope) for _, of in heads]
        return Code(f"{name}[{', '.join(p.text for p in places)}]", ATOM, lambda env: table({})[int(places[0].run(env))][int(places[1].run(env)) if m else 0])

    # -- locals, local functions, other definitions

    def local(self, scope: Scope, d: int) -> Code:
        """A name of its own for an expression: a head with indices or a range, a bare array, or a number."""
        name = self.fresh("l")
        if self.wide and self.chance(25):
            return self.computed_axis(name, scope, d)
        match self.below(3):
            case 0 if scope.indices:
                heads = [(self.fresh("h"), axis) for _, axis in scope.indices[-2:] if axis in self.sizes]
                if not heads:
                    return self.atom(scope)
                inside = replace(scope, indices=tuple(heads), numbers=())
                e = self.real(inside, d)
                head = ", ".join(f"{h} in {axis}" for h, axis in heads)
                self.locals.append(f"{name}[{head}] = {e.text}")
                self.tags.append("local with a head")
                at = [self.pick(scope.along(axis)) for _, axis in heads]
                return Code(f"{name}[{', '.join(at)}]", ATOM, lambda env: e.run({h: env[i] for (h, _), i in zip(heads, at, strict=True)}))
            case 1:
                axis = self.pick(("n", "k"))
                base = self.inputs[{"n": "x", "k": "w"}[axis]]
                inside = replace(scope, indices=((axis, axis),), numbers=())
                e = self.real(inside, d - 1)
                self.used[base.name] = None
                text = f"{base.name} + {e.at(PROD)}"
                self.locals.append(f"{name} = {text}")
                self.tags.append("local without a head")
                array = Array(name, (axis,), "real", lambda env, at: base.look(env, at) + e.run({axis: at[0]}))
                return self.element(array, scope)
            case _:
                e = self.real(replace(scope, indices=(), numbers=()), d)
                self.locals.append(f"{name} = {e.text}")
                self.tags.append("local number")
                return Code(name, ATOM, lambda env: e.run({}))

    def computed_axis(self, name: str, scope: Scope, d: int) -> Code:
        """A local over a range, reduced by the name of its index, with another such local or a number beside it."""
        self.tags.append("computed axis")
        axis, lo, hi = self.fresh("h"), self.below(3) - 1, 1 + self.below(2)
        inside = replace(scope, indices=((axis, ".."),), numbers=())
        e = self.real(inside, d - 1)
        self.locals.append(f"{name}[{axis} in {lo}..{hi}] = {e.text}")
        op = self.pick(("sum", "mean", "max", "norm", "logsumexp"))
        other = self.real(scope.bind((axis, "..")), 0)
        folds: dict[str, Callable[[list[float]], float]] = {
            "sum": sum, "mean": lambda v: sum(v) / len(v), "max": extreme(max), "logsumexp": lse, "norm": lambda v: math.sqrt(sum(x * x for x in v)),
        }  # fmt: skip
        beside, text = (sigmoid, lambda t: f"sigmoid({t})") if op == "logsumexp" else (lambda x: x, lambda t: t)

        def run(env: Env) -> float:
            points = [{**env, axis: i} for i in range(lo, hi + 1)]
            return folds[op]([beside(e.run({axis: p[axis]})) * other.run(p) if op != "logsumexp" else beside(e.run({axis: p[axis]})) for p in points])

        body = f"{name}*{other.at(NEG)}" if op != "logsumexp" else text(name)
        return Code(f"{op}[{axis}]({body})", ATOM, run)

    def local_condition(self, scope: Scope, d: int) -> Code:
        heads = [(self.fresh("h"), axis) for _, axis in scope.indices[-2:] if axis in self.sizes]
        name = self.fresh("c")
        c = self.condition(replace(scope, indices=tuple(heads), numbers=()), d)
        head = f"[{', '.join(f'{h} in {axis}' for h, axis in heads)}]" if heads else ""
        self.locals.append(f"{name}{head} = {c.text}")
        self.tags.append("local condition")
        at = [self.pick(scope.along(axis)) for _, axis in heads]
        use = f"{name}[{', '.join(at)}]" if heads else name
        return Code(use, ATOM, lambda env: c.run({h: env[i] for (h, _), i in zip(heads, at, strict=True)}))

    def local_function(self, scope: Scope, d: int) -> Code:
        name = self.fresh("F")
        self.tags.append("local function")
        if self.chance(40) and "k" not in scope.own and scope.along("n"):
            param = self.fresh("r")
            row = Array(param, ("k",), "real", lambda env, at: env[param][at[0]])
            inside = replace(scope, indices=(), numbers=(), arrays=(row, row, *scope.arrays), depth=scope.depth)
            e = self.over("k", inside, d)
            self.locals.append(f"{name}({param}) = {e.text}")
            u = self.inputs[self.pick(("u", "v"))]
            self.used[u.name] = None
            i = self.pick(scope.along("n"))
            return Code(f"{name}({u.name}[{i}])", ATOM, lambda env: e.run({param: [u.look(env, (env[i], k)) for k in range(self.sizes["k"])]}))
        params = [self.fresh("z") for _ in range(1 + self.below(2))]
        e = self.real(replace(scope, indices=(), numbers=tuple(params)), d)
        self.locals.append(f"{name}({', '.join(params)}) = {e.text}")
        args = [self.real(scope, d - 1) for _ in params]
        return Code(f"{name}({', '.join(a.text for a in args)})", ATOM, lambda env: e.run({p: a.run(env) for p, a in zip(params, args, strict=True)}))

    def over(self, axis: str, scope: Scope, d: int) -> Code:
        """A reduction over exactly this axis, by its own name or a new one."""
        new = axis if self.chance(50) else self.fresh("i")
        inside = scope.bind((new, axis))
        e = self.tame(inside, d - 1)
        size = self.length(axis)
        op, fold = self.pick((("sum", sum), ("max", extreme(max)), ("logsumexp", lse), ("norm", lambda v: math.sqrt(sum(x * x for x in v))), ("mean", lambda v: sum(v) / len(v))))
        binder = new if new == axis else f"{new} in {axis}"
        return Code(f"{op}[{binder}]({e.text})", ATOM, lambda env: fold([e.run({**env, new: i}) for i in range(size(env))]))

    def composed(self, scope: Scope, d: int) -> Code:
        """A call of another definition of the file."""
        name = self.fresh("other")
        self.tags.append("composition")
        if self.chance(50) and scope.along("n") and "k" not in scope.own:
            array = self.fresh("r")
            row = Array(array, ("d",), "real", lambda env, at: env[array][at[0]])
            inside = Scope((), (row,), (), scope.depth, outer=False)
            e = self.over("d", inside, d)
            self.definitions.append(f"{name}({array}: real[d]) = {e.text}")
            u = self.inputs[self.pick(("u", "v"))]
            self.used[u.name] = None
            i = self.pick(scope.along("n"))
            size = self.sizes["k"]
            return Code(f"{name}({u.name}[{i}])", ATOM, lambda env: e.run({array: [u.look(env, (env[i], k)) for k in range(size)], "size d": size}))
        f, t, c = self.fresh("f"), self.fresh("t"), self.fresh("c")
        e = self.real(Scope((), (), (f, t, c), 3, outer=False), d)
        self.definitions.append(f"{name}({f}: real, {t}: real; {c}: real = 0.7) = {e.text}")
        args = [self.real(scope, d - 1), self.real(scope, 0)]
        given = self.real(scope, 0) if self.chance(50) else None
        extra = f"; {c} = {given.text}" if given and self.chance(50) else f", {c} = {given.text}" if given else ""
        return Code(
            f"{name}({args[0].text}, {args[1].text}{extra})",
            ATOM,
            lambda env: e.run({f: args[0].run(env), t: args[1].run(env), c: given.run(env) if given else 0.7}),
        )

    # -- arrays as wholes

    def vector(self, scope: Scope) -> Code:
        """A function of vectors: rows of an array, or an array along its one axis."""
        name, fold = self.pick((
            ("norm", lambda a, b: math.sqrt(sum(s * s for s in a))),
            ("dot", lambda a, b: sum(s * t for s, t in zip(a, b, strict=True))),
            ("cosine", lambda a, b: divide(sum(s * t for s, t in zip(a, b, strict=True)), math.sqrt(sum(s * s for s in a)) * math.sqrt(sum(t * t for t in b)))),
            ("sqdist", lambda a, b: sum((s - t) ** 2 for s, t in zip(a, b, strict=True))),
            ("euclidean", lambda a, b: math.sqrt(sum((s - t) ** 2 for s, t in zip(a, b, strict=True)))),
        ))  # fmt: skip
        self.tags.append("v:" + name)
        rows = scope.along("n")
        along = [axis for axis in ("n", "k") if axis not in scope.own]
        options = []
        if rows and "k" in along:
            options += ["rows", "rows", "row"]
        if "k" in along:
            options.append("k")
        if not options:
            return self.atom(scope)
        match self.pick(options):
            case "rows":
                a, b = self.row(scope, rows), self.row(scope, rows)
            case "row":
                a, b = self.row(scope, rows), self.whole("w")
            case _:
                a, b = self.whole("w"), self.whole("q")
        bracket = "[k]" if self.chance(25) else ""
        text = f"{name}{bracket}({a.text})" if name == "norm" else f"{name}{bracket}({a.text}, {b.text})"
        return Code(text, ATOM, lambda env: fold(a.run(env), b.run(env)))

    def pair(self, scope: Scope) -> Code:
        """A number for each pair of rows, not the same the other way round."""
        self.tags.append("pair of rows")
        i, j = self.pick(scope.along("n")), self.pick(scope.along("n"))
        u, v = self.inputs["u"], self.inputs["v"]
        self.used |= dict.fromkeys(("u", "v"))
        width = self.sizes["k"]
        both = lambda env: [(u.look(env, (env[i], k)), v.look(env, (env[j], k))) for k in range(width)]  # noqa: E731
        if self.chance(50):
            return Code(f"dot(u[{i}], v[{j}])", ATOM, lambda env: sum(s * t for s, t in both(env)))
        return Code(f"euclidean(u[{i}], v[{j}])", ATOM, lambda env: math.sqrt(sum((s - t) ** 2 for s, t in both(env))))

    def looked_up(self, scope: Scope) -> Code:
        """An entry at the class of a row; classes repeat, so that adjoints meet."""
        self.tags.append("look-up")
        at = self.element(self.inputs["y"], scope)
        if self.chance(60):
            w = self.inputs[self.pick(("w", "w", "q"))]
            self.used[w.name] = None
            return Code(f"{w.name}[{at.text}]", ATOM, lambda env: w.look(env, (at.run(env),)))
        u, i = self.inputs[self.pick(("u", "v"))], self.pick(scope.along("n"))
        self.used[u.name] = None
        return Code(f"{u.name}[{i}, {at.text}]", ATOM, lambda env: u.look(env, (env[i], at.run(env))))

    def row(self, scope: Scope, rows: list[str]) -> Code:
        u, i = self.inputs[self.pick(("u", "v"))], self.pick(rows)
        self.used[u.name] = None
        return Code(f"{u.name}[{i}]", ATOM, lambda env: [u.look(env, (env[i], k)) for k in range(self.sizes["k"])])

    def whole(self, name: str) -> Code:
        w = self.inputs[name]
        self.used[name] = None
        return Code(name, ATOM, lambda env: [w.look(env, (k,)) for k in range(self.sizes["k"])])

    def shift(self, scope: Scope) -> Code:
        """A neighbour along an axis, where there is one."""
        if scope.depth >= 3:
            return self.atom(scope)
        self.tags.append("shift")
        x = self.inputs["x"]
        self.used["x"] = None
        n = self.sizes["n"]
        i = self.fresh("i")
        at = lambda j: x.look({}, (j,))  # noqa: E731
        match self.below(3):
            case 0:
                return Code(
                    f"sum[{i} in n | {i} + 1 < size(n)]((x[{i} + 1] - x[{i}])^2)", ATOM, lambda env: sum((at(j + 1) - at(j)) ** 2 for j in range(n - 1))
                )
            case 1:
                return Code(
                    f"sum[{i} in n](x[{i}]*piecewise(x[{i} - 1] if {i} > 0, 1 otherwise))", ATOM, lambda env: sum(at(j) * (at(j - 1) if j else 1) for j in range(n))
                )
            case _:
                return Code(f"sum[{i} in n](({i} > 0)*x[{i} - 1]*sin(x[{i}]))", ATOM, lambda env: sum(at(j - 1) * math.sin(at(j)) for j in range(1, n)))


@dataclass(frozen=True)
class Bracket:
    """What stands in a reduction's bracket, the scope inside, and its index points."""

    text: str
    scope: Scope
    names: tuple[tuple[str, Callable[[Env], range]], ...]

    def points(self, env: Env) -> list[Env]:
        points = [env]
        for name, over in self.names:
            points = [{**p, name: i} for p in points for i in over(env)]
        return points


def variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def lse(values: Sequence[float]) -> float:
    return log(sum(exp(v) for v in values))


def extreme(best: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float]:
    return lambda values: nan if any(v != v for v in values) else float(best(values))


def rename(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{old}\b", new, text)


def _draw_arrays(writer: Writer, names: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, k = writer.sizes["n"], writer.sizes["k"]
    drawn = {
        "x": rng.standard_normal(n),
        "u": rng.standard_normal((n, k)),
        "w": rng.standard_normal(k),
        "v": rng.standard_normal((n, k)),
        "a": rng.standard_normal(),
        "R": rng.standard_normal((n, n)),
        "p": rng.uniform(0.2, 2, n),
        "q": rng.dirichlet(np.full(k, 2.0)),
        "b": rng.integers(0, 2, n),
        "ok": rng.integers(0, 2, n).astype(bool),
        "g": rng.integers(0, 3, n),
        "y": rng.integers(0, k, n),
        "c": rng.integers(0, k),
    }
    writer.data = {name: np.asarray(value) for name, value in drawn.items()}
    return {name: writer.data[name] for name in names}


def write(seed: bytes, budget: int, wide: bool = False) -> Case:
    """A loss over some of the inputs above; the sizes of axes are 2 to 4."""
    writer = Writer(seed, budget, wide)
    scope = Scope((), tuple(writer.inputs[name] for name in ("x", "u", "w", "v", "a", "p", "R", "q")))
    e = writer.reduction(scope, 4) if writer.chance(80) else writer.real(scope, 4)
    if not any(name in writer.used for name in REAL_INPUTS):
        f, x = e, writer.inputs["a"]
        writer.used["a"] = None
        e = Code(f"{f.at(SUM)} + a^2", SUM, lambda env: f.run(env) + x.look(env, ()) ** 2)
    if any(name in writer.used for name in ("y", "c")):
        writer.axes.add("k")
    written = set(writer.used)
    for axis, carrier in (("n", "x"), ("k", "w")):
        if axis in writer.axes and not any(axis in INPUTS[name][0] for name in writer.used):
            writer.used[carrier] = None
    names = [name for name in INPUTS if name in writer.used]
    wrt = tuple(name for name in names if name in written and name in REAL_INPUTS)[:2]
    kinds = {name: INPUTS[name][2] for name in names}
    flat = writer.declare(kinds) if wide else ()
    inputs = ", ".join(f"{name}: {kinds[name]}" for name in names)
    hyper = ", ".join(f"{name}: {HYPER[name][0]} = {HYPER[name][1]}" for name in writer.params)
    where = "\n  where " + "\n        ".join(writer.locals) if writer.locals else ""
    main = f"loss({inputs}{'; ' + hyper if hyper else ''}) =\n  {e.text}{where}\n  wrt {', '.join(wrt)}\n"
    # other definitions may stand before or after
    rest = "\n".join(writer.definitions)
    text = f"{rest}\n{main}" if writer.chance(50) else f"{main}{rest}\n"
    number = writer.below(10**6)
    arrays = _draw_arrays(writer, names, number)
    arrays |= {name: arrays[name].reshape(-1) for name in flat}
    return Case(text, arrays, wrt, number, tuple(writer.tags), lambda: float(e.run({})))


def cases(smallest: int = 6, largest: int = 40, wide: bool = False) -> st.SearchStrategy[Case]:
    """Random losses. The choices come from a seed, which hypothesis cannot shrink; it shrinks the budget of nodes, and the text with it."""
    return st.builds(write, st.binary(min_size=8, max_size=8), st.integers(smallest, largest), st.just(wide))


def tally(seen: Mapping[str, int]) -> str:
    return ", ".join(f"{k} {v}" for k, v in sorted(seen.items(), key=lambda item: (-item[1], item[0])))
