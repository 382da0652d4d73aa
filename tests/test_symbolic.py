"""Losses as SymPy expressions and back: the same values, at hard points too; what one side does not have is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from random import Random
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from sympy.codegen import cfunctions

import lossdsl
from lossdsl.errors import LossError
from lossdsl.ir.program import Program
from lossdsl.kinds import Kind
from lossdsl.runtime import reference

mp = mpmath.mp
DIGITS = 60
NO_FORM = {"vq_vae": "argmin over an axis"}
NAMES = lossdsl.library()

# -- points -----------------------------------------------------------------------------------------------------------

REAL = [Fraction(x) for x in ("0", "1", "-1", "1/2", "2", "-3", "1/3", "40", "-40", "1/1000000000")]


def draw(rng: Random, kind: Kind, sizes: Mapping[str, int], shape: tuple[int, ...]) -> Any:
    """An object array of exact numbers of a kind, remarkable ones above all."""
    flat: list[Any] = [one(rng, kind, sizes) for _ in range(int(np.prod(shape)))]
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    out = out.reshape(shape)
    if kind.name == "simplex":
        axis = [a for a, _ in kind.axes].index(str(kind.of))
        out = out + Fraction(int(rng.random() < 0.5))
        total = out.sum(axis=axis, keepdims=True)
        out = np.where(total == 0, Fraction(1, max(shape[axis], 1)), out / np.where(total == 0, 1, total))
    return out.tolist() if shape else out[()]


def one(rng: Random, kind: Kind, sizes: Mapping[str, int]) -> Any:
    match kind.name:
        case "sign":
            return rng.choice([-1, 1])
        case "class":
            return rng.randrange(max(sizes[str(kind.of)], 1))
    found = [x for x in REAL if x in kind.domain and (not kind.integer or x.denominator == 1) and abs(x) < (3 if kind.integer else 99)]
    if -float("inf") in kind.domain and rng.random() < 0.2:
        return mp.mpf("-inf")
    return rng.choice(found) if rng.random() < 0.7 else rng.choice(found) + (0 if kind.integer else _nudge(rng, found, kind))


def _nudge(rng: Random, found: list[Fraction], kind: Kind) -> Fraction:
    by = Fraction(rng.randint(1, 99), 100)
    return next((d for d in (by, -by) if all(x + d in kind.domain for x in found)), Fraction(0))


def points(program: Program, count: int, seed: int = 0) -> Any:
    """Values for all inputs and hyper-parameters of a program, at axes of different lengths."""
    rng = Random(seed)
    axes = sorted({a for i in program.inputs for a in (*i.axes, *([i.kind.of] if i.kind.of else []))})
    for trial in range(count):
        sizes = {a: (3, 1, 2, 4)[(trial + k) % 4] for k, a in enumerate(axes)}
        arrays = {i.name: draw(rng, i.kind, sizes, tuple(sizes[a] for a in i.axes)) for i in program.inputs}
        params = {p.name: p.default if rng.random() < 0.3 and p.default is not None else one(rng, p.kind, sizes) for p in program.params}
        yield arrays, params, sizes


def value(program: Program, arrays: Any, params: Any, sizes: Any) -> Any:
    (result,) = reference.evaluate(program, arrays, params, digits=DIGITS, cap=400, sizes=sizes).values()
    return result.value


def same(a: Any, b: Any) -> bool:
    if not (mp.isfinite(a) and mp.isfinite(b)):
        return bool(a == b or (mp.isnan(a) and mp.isnan(b)))
    with mp.workdps(DIGITS):
        return bool(abs(a - b) <= mp.mpf(10) ** -50 * max(abs(a), abs(b), 1))


# -- SymPy's numbers, found without SymPy ------------------------------------------------------------------------------

FUNCTIONS: dict[Any, Any] = {
    sympy.exp: mp.exp, sympy.log: mp.log, sympy.Abs: abs, sympy.sign: mp.sign, sympy.cosh: mp.cosh, sympy.sinh: mp.sinh, sympy.tanh: mp.tanh, sympy.sin: mp.sin,
    sympy.Max: max, sympy.Min: min, sympy.floor: mp.floor, sympy.erf: mp.erf, sympy.erfc: mp.erfc,
    sympy.loggamma: mp.loggamma, sympy.polygamma: lambda n, x: mp.psi(int(n), x), sympy.atan: mp.atan, sympy.atan2: mp.atan2, sympy.asinh: mp.asinh, sympy.ceiling: mp.ceil,
    sympy.Mod: lambda a, b: a - b * mp.floor(a / b),
    sympy.Heaviside: lambda x, at0: mp.mpf(x > 0) if x else at0, sympy.KroneckerDelta: lambda a, b: mp.mpf(a == b),
}  # fmt: skip
RELATIONS: dict[Any, Any] = {
    sympy.Eq: lambda a, b: a == b, sympy.Ne: lambda a, b: a != b, sympy.Lt: lambda a, b: a < b, sympy.Le: lambda a, b: a <= b,
    sympy.Gt: lambda a, b: a > b, sympy.Ge: lambda a, b: a >= b,
}  # fmt: skip


def number(e: Any, env: Mapping[str, Any]) -> Any:
    """The value of a SymPy expression as it stands, sums and branches written out."""
    if e.is_Rational:
        return mp.mpf(int(e.p)) / int(e.q)
    if e in (sympy.oo, -sympy.oo, sympy.pi, sympy.true, sympy.false, sympy.E):
        return {sympy.oo: mp.inf, -sympy.oo: -mp.inf, sympy.pi: +mp.pi, sympy.true: True, sympy.false: False, sympy.E: +mp.e}[e]
    if e.is_Symbol:
        return env[e.name]
    match e:
        case sympy.Indexed():
            out = env[str(e.base.label)]
            for i in e.indices:
                at = int(number(i, env))
                if not 0 <= at < len(out):
                    return mp.nan
                out = out[at]
            return out
        case sympy.Sum() | sympy.Product():
            *outer, (index, low, high) = e.limits
            inner = type(e)(e.function, *outer) if outer else e.function
            fold = mp.fsum if isinstance(e, sympy.Sum) else mp.fprod
            return fold(number(inner, {**env, index.name: mp.mpf(k)}) for k in range(int(number(low, env)), int(number(high, env)) + 1))
        case sympy.Piecewise():
            return next((number(v, env) for v, c in e.args if number(c, env)), mp.nan)
        case sympy.And():
            return all(number(a, env) for a in e.args)
        case sympy.Or():
            return any(number(a, env) for a in e.args)
        case sympy.Not():
            return not number(e.args[0], env)
        case sympy.ITE():
            return number(e.args[1] if number(e.args[0], env) else e.args[2], env)
    args = [number(a, env) for a in e.args]
    match e:
        case sympy.Add():
            return mp.fsum(args)
        case sympy.Mul():
            return mp.fprod(args)
        case sympy.Pow():
            return power(*args)
    if e.func in RELATIONS:
        return RELATIONS[e.func](*args)
    if e.func is sympy.log and not args[0] > 0:
        return -mp.inf if args[0] == 0 else mp.nan
    return FUNCTIONS[e.func](*args)


def power(a: Any, b: Any) -> Any:
    if a == 0 and b < 0:
        return mp.inf
    return mp.nan if a < 0 and b != mp.floor(b) else a**b


def exact(x: Any) -> Any:
    if isinstance(x, list):
        return [exact(v) for v in x]
    return mp.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else mp.mpf(x)


def environment(arrays: Any, params: Any, sizes: Any) -> dict[str, Any]:
    lengths = {f"n_{a}{clash}": n for a, n in sizes.items() for clash in ("", "2")}
    return {name: exact(x) for name, x in {**lengths, **arrays, **params}.items()}


# -- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_value_stays(name: str) -> None:
    """Wherever the loss is a number, the expression is that number, and SymPy has simplified nothing away."""
    check_value(lossdsl.load(name), 40)


def check_value(loss: lossdsl.Loss, count: int) -> None:
    if loss.name in NO_FORM:
        with pytest.raises(LossError, match=f"{NO_FORM[loss.name]} has no form in SymPy"):
            loss.sympy()
        return
    expression = loss.sympy()
    back = lossdsl.from_sympy(expression, loss.name, inputs=loss.inputs, params=loss.params)
    seen = 0
    for arrays, params, sizes in points(loss.program, count):
        want = value(loss.program, arrays, params, sizes)
        assert same(want, value(back.program, arrays, params, sizes)), (arrays, params, str(back))
        if mp.isfinite(want):
            with mp.workdps(DIGITS + 40):
                assert same(want, number(expression, environment(arrays, params, sizes))), (arrays, params, expression)
            seen += 1
    assert seen > count // 8


# What SymPy's own rules would change, and what the library has none of.
LOSSES = (
    "a(x: real, y: real) = x/x + y", "a(x: real, y: real) = x*y/x", "a(x: real) = exp(log(x))", "a(x: real) = sqrt(x)^2", "a(x: real) = sqrt(x^2)",
    "a(x: real, g: nonnegative) = x^g*0 + (x^2)^g", "a(s: logit) = s - s + exp(s)", "a(s: logit, x: real) = 0*s + x", "a(s: logit) = max(s, 0) + 1/(1 + exp(-s))",
    "a(x: real, y: unit) = y*log(y) + (1 - y)*log(1 - y) + x", "a(x: real) = log(x) - log(x)", "a(x: real) = log(x^2) - 2*log(x)", "a(x: real; p: real) = abs(x)^p*abs(x)^(-p)",
    "a(x: real) = max(x, -x, 1/2) + min(x, 2)", "a(x: real) = piecewise(x if x < 0, x^2 if x < 1)", "a(x: real) = piecewise(1/x if x != 0, 0 otherwise)",
    "a(x: real) = floor(x) + ceil(x/2) + mod(x, 3) + mod(x, -2) + sign(x)", "a(x: real) = relu(x) + clip(x, -1, 1/2) + softplus(x) + silu(x) + elu(x) + softsign(x)",
    "a(x: real) = normal_cdf(x) + gelu(x) + log_cosh(x) + atan(x) + cbrt(x) + sinh(x/9) + asinh(x)", "a(x: positive) = lgamma(x) + digamma(x) + log2(x) + log10(x) + log1p(x)",
    "a(x: real, y: real) = hypot(x, y) + atan2(x, y) + logaddexp(x, y)", "a(x: real[n], c: bool[n]) = sum[n | c](x) + count[n](c)", "a(x: real[n]) = sum[n | x > 0](sqrt(x))",
    "a(x: real[n], y: real[n]) = prod[n | x > y](x)*prod[n](x - 2)", "a(x: real[n, d]) = sum[n](prod[d](x)) + prod[n, d | x > 1](x)", "a(x: real[n]) = prod[i, j in n | i < j](x[i] - x[j])",
    "a(x: real; b: integer) = prod[j in 0..b](x + j)", "a(x: real[n]) = sum[n](cumsum[n](x)^2)", "a(x: real[n]) = mean[n | x > 0](x)", "a(x: real[n]) = logsumexp[n](x) + logsumexp[n | x > 0](x)", "a(x: real[n]) = norm[n](x) + norm[n | x < 0](x)",
    "a(x: real[n], y: real[n]) = (any[n](x > y)) + 2*(all[n](x > y or x == -y)) + (any[n](x == 1/2 and y != 0))", "a(x: real[n]; b: integer) = sum[j in 0..b](x[j]*(j + 1))",
    "a(x: real; lo: integer, hi: integer) = sum[j in lo..hi](x^2 + j)", "a(x: real[n], c: label[n]) = sum[i, j in n | c[i] == c[j] and i != j](x[i]*x[j]/(1 + abs(i - j)))",
    "a(x: real[n, d], y: class(d)[n]) = sum[n](softmax[d](x)[y]) + sum[n](log_softmax[d](x)[y])", "a(x: real[n]) = var[n](x) + sum[i in n](rank[n](x)[i]*x[i])",
    "a(x: real[n], n_n: real) = mean[n](x) + n_n", "a(x: real[n]) = sum[n](x*(count[j in n](x[j] > x) > 0))", "a(x: real[n]) = size(n)*sum[n](n*x)", "a(x: real[n]) = x[0] + x[size(n) - 1]",
)  # fmt: skip


@pytest.mark.parametrize("text", LOSSES)
def test_what_rewriting_would_change(text: str) -> None:
    check_value(lossdsl.parse(text)["a"], 30)


def test_sympy_itself_evaluates_the_expression() -> None:
    """With SymPy's own substitution, for losses of single numbers."""
    plain = [n for n in NAMES if not any(x.axes or x.kind.of for x in lossdsl.load(n).program.declared)]
    assert len(plain) > 15
    for name in plain:
        loss = lossdsl.load(name)
        expression = loss.sympy()
        symbols = {s.name: s for s in expression.free_symbols}
        for arrays, params, sizes in points(loss.program, 12, seed=1):
            want = value(loss.program, arrays, params, sizes)
            if mp.isfinite(want) and all(isinstance(x, (int, Fraction)) for x in {**arrays, **params}.values()):
                at = {symbols[n]: sympy.Rational(str(Fraction(x))) for n, x in {**arrays, **params}.items() if n in symbols}
                got = expression.subs(at).evalf(60)
                with mp.workdps(DIGITS):
                    assert same(want, mp.mpf(str(got))), (name, at, got, want)


def test_a_random_expression_keeps_its_value() -> None:
    import expressions

    rng = Random(5)
    seen = 0
    for _ in range(200):
        e = expressions.write(rng, rng.randint(2, 9))
        loss = lossdsl.Loss(expressions.program(e))
        try:
            expression = loss.sympy()
            back = lossdsl.from_sympy(expression, inputs=loss.inputs, params=loss.params).program.value
        except LossError as refused:
            assert "has no form in" in str(refused)
            continue
        for _ in range(6):
            env = {x: rng.choice(expressions.points(x, rng)) for x in expressions.KINDS}
            want = expressions.value(e, env)
            if want is None or not mp.isfinite(want) or any(mp.isnan(x) for x in env.values()):
                continue
            again = expressions.value(back, env)
            assert again is None or expressions.same(want, again), (e, env, back)
            with mp.workdps(expressions.DIGITS):
                try:
                    got = number(expression, env)
                except (OverflowError, ZeroDivisionError, ValueError):
                    continue
                assert not mp.isfinite(got) or expressions.same(want, got), (e, env, expression, want, got)
            seen += 1
    assert seen > 200


def test_symbols_bear_what_is_known_of_them() -> None:
    f, y, delta = sympy.Symbol("f", real=True), sympy.Symbol("y", real=True), sympy.Symbol("delta", positive=True)
    assert lossdsl.load("mse").sympy() == (f - y) ** 2
    assert lossdsl.load("mse").grad().sympy() == 2 * f - 2 * y
    assert lossdsl.load("huber").sympy().free_symbols == {f, y, delta}
    assert lossdsl.load("log_cosh").sympy() == sympy.log(sympy.cosh(f - y))
    d, n_d = sympy.Symbol("d", integer=True, nonnegative=True), sympy.Symbol("n_d", integer=True, nonnegative=True)
    theta = sympy.IndexedBase("theta", shape=(n_d,), real=True)
    assert lossdsl.load("l2").sympy() == sympy.Sum(theta[d] ** 2, (d, 0, n_d - 1))
    assert lossdsl.load("l2").grad().sympy() == 2 * theta[d]
    kinds = {
        "real": {"real"},
        "positive": {"positive"},
        "unit": {"nonnegative"},
        "logit": {"extended_real"},
        "sign": {"integer", "nonzero"},
        "class": {"integer", "nonnegative"},
    }
    for name, facts in kinds.items():
        loss = lossdsl.parse(f"a(x: {name + '(k)' if name == 'class' else name}, s: real[k]) = sum[k](s*x)")["a"]
        (x,) = [x for x in loss.sympy().free_symbols if str(x) == "x"]
        assert all(x.assumptions0.get(fact) for fact in facts) and (x.is_finite or name == "logit")


def test_a_class_compares_by_kroneckers_delta() -> None:
    loss = lossdsl.parse("a(s: real[k], y: class(k)) = sum[k](s*(k == y)) + (y == 2)")["a"]
    assert lossdsl.load("categorical_cross_entropy").grad().sympy().atoms(sympy.KroneckerDelta)
    assert loss.sympy().atoms(sympy.KroneckerDelta)


def test_no_derivative_flows_through_stop() -> None:
    loss = lossdsl.parse("a(x: real) = x*stop(x^2)")["a"]
    x = sympy.Symbol("x", real=True)
    assert sympy.simplify(loss.sympy().diff(x) - loss.sympy() / x) == 0
    assert loss.sympy().subs(x, 3) == 27
    assert lossdsl.from_sympy(loss.sympy()).grad("x") == lossdsl.parse("loss(x: real) = x*stop(x^2)")["loss"].grad("x")


UNSAYABLE = {
    "a(x: real[n]) = max[n](x)": "max over an axis", "a(x: real[n]) = sort[n](x)[0]": "argsort over an axis", "a(x: real[n]) = x[argmax[n](x)]": "argmax over an axis",
    "a(x: real[n]) = piecewise(1 if sum[n | x > 0](x) > 1, 0 otherwise)": "a condition on a sum with a guard",
}  # fmt: skip


@pytest.mark.parametrize("text", UNSAYABLE)
def test_what_sympy_cannot_say_is_named(text: str) -> None:
    with pytest.raises(LossError, match=f"{UNSAYABLE[text]} has no form in SymPy"):
        lossdsl.parse(text)["a"].sympy()


def test_several_results_are_no_expression() -> None:
    with pytest.raises(LossError, match=r"several results.*\n.*one name at a time"):
        lossdsl.load("nt_xent").grad().sympy()


# -- from SymPy -------------------------------------------------------------------------------------------------------

f, y, w = sympy.symbols("f y w", real=True)
delta = sympy.Symbol("delta", positive=True)
n, m = sympy.symbols("n m", integer=True)
i, j, k = sympy.symbols("i j k", integer=True)
c = sympy.Symbol("c", integer=True)
b = sympy.Symbol("b")
s, t, u, W = (sympy.IndexedBase(name, real=True) for name in "stuW")
SAID: list[tuple[Any, dict[str, Any], str]] = [
    ((f - y) ** 2, {}, "loss(f: real, y: real) = (f - y)^2"),
    (delta * sympy.Abs(f - y), {"params": ["delta"]}, "loss(f: real, y: real; delta: positive) = delta*abs(f - y)"),
    (delta * sympy.Abs(f - y), {"inputs": [f, y]}, "loss(f: real, y: real; delta: positive) = delta*abs(f - y)"),
    (sympy.Max(0, 1 - y * f), {"inputs": {"f": None, "y": "sign"}}, "loss(f: real, y: sign) = max(0, 1 - f*y)"),
    (delta * f, {"inputs": ["f"], "params": {"delta": "unit = 0.5"}}, "loss(f: real; delta: unit = 0.5) = delta*f"),
    (delta * f, {"params": {"delta": 0.1}}, "loss(f: real; delta: positive = 0.1) = delta*f"),
    (f / y - 1 / (2 * f * y), {"wrt": "y"}, "loss(f: real, y: real) = f/y - 1/(2*f*y) wrt y"),
    (sympy.Sum(s[i], (i, 0, n - 1)), {}, "loss(s: real[n]) = sum[n](s)"),
    (sympy.Sum(i * s[i], (i, 1, n)), {}, "loss(s: real[n]) = sum[n]((n + 1)*s)"),
    (sympy.Sum(s[i] * t[i], (i, 0, n - 1)) / n, {"inputs": {"s": "real[k]", "t": "simplex[k]"}}, "loss(s: real[k], t: simplex[k]) = sum[k](s*t)/size(k)"),
    (sympy.log(sympy.Sum(sympy.exp(s[k]), (k, 0, n - 1))) - s[c], {}, "loss(c: class(n), s: real[n]) = log(sum[n](exp(s))) - s[c]"),
    (sympy.Sum(W[i, j] * s[j], (i, 0, m - 1), (j, 0, n - 1)), {}, "loss(W: real[m, n], s: real[n]) = sum[m, n](W*s)"),
    (sympy.Sum(sympy.Sum(W[i, j] * s[j], (j, 0, n - 1)) ** 2, (i, 0, m - 1)), {}, "loss(W: real[m, n], s: real[n]) = sum[m](sum[n](W*s)^2)"),
    (sympy.Sum(s[i] * s[j], (i, 0, n - 1), (j, 0, n - 1)), {}, "loss(s: real[n]) = sum[i, j in n](s[i]*s[j])"),
    (sympy.Sum((f - k) ** 2, (k, 1, n)), {}, "loss(f: real; n: integer) = sum[i in 1..n]((f - i)^2)"),
    (sympy.Piecewise((f, sympy.And(f > 0, b)), (0, True)), {}, "loss(b: bool, f: real) = (b and f > 0)*f"),
    (sympy.Piecewise((f, f > 1), (w, sympy.Or(f < 0, sympy.Eq(w, 1)))), {}, "loss(f: real, w: real) = piecewise(f if f > 1, w if w == 1 or f < 0)"),
    (sympy.Sum(sympy.KroneckerDelta(k, c) * s[k], (k, 0, n - 1)), {"inputs": {"s": "real[k]", "c": "class(k)"}}, "loss(s: real[k], c: class(k)) = sum[k]((c == k)*s)"),
    (sympy.Heaviside(f), {}, "loss(f: real) = piecewise(1 if f > 0, 0.5 if f == 0, 0 if f < 0)"),
    (sympy.sqrt(f**2 + 1) - 1 / sympy.sqrt(f**2 + 2), {}, "loss(f: real) = sqrt(f^2 + 1) - 1/sqrt(f^2 + 2)"),
    (sympy.sech(f) + sympy.coth(f) + sympy.cot(f), {}, "loss(f: real) = cos(f)/sin(f) + cosh(f)/sinh(f) + 1/cosh(f)"),
    (cfunctions.log1p(f) + cfunctions.expm1(f), {}, "loss(f: real) = expm1(f) + log1p(f)"),
    (sympy.Float("0.1") * f + sympy.pi * w, {}, "loss(f: real, w: real) = 0.1*f + pi*w"),
    (f ** sympy.Rational(-3, 2) * sympy.E, {}, "loss(f: real) = exp(1)/f^1.5"),
    (2**-f, {}, "loss(f: real) = 2^(-f)"),
    (sympy.Mul(f, sympy.Pow(f, -1), evaluate=False), {}, "loss(f: real) = f/f"),
    (sympy.Integer(3), {"inputs": ["f"]}, "loss(f: real) = 3"),
]  # fmt: skip


@pytest.mark.parametrize("expression, options, text", SAID)
def test_what_is_made_of_an_expression(expression: Any, options: dict[str, Any], text: str) -> None:
    assert " ".join(str(lossdsl.from_sympy(expression, **options)).split()) == text


x, z = sympy.Symbol("x"), sympy.Symbol("x", positive=True)
REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ("f**2", {}, "made from a SymPy expression, not from 'f\\*\\*2'"), (3, {}, "not from 3"), (f > 0, {}, "not from a condition"), (sympy.Matrix([f]), {}, "not from Matrix"),
    (sympy.LambertW(f), {}, "SymPy's LambertW"), (sympy.Function("g")(f), {}, "SymPy's g"), (sympy.Derivative(sympy.Function("g")(f), f), {}, "SymPy's Derivative"),
    (sympy.Integral(f, f), {}, "SymPy's Integral"), (sympy.I * f, {}, "SymPy's I"), (sympy.zoo, {}, "SymPy's ComplexInfinity"), (sympy.gamma(f), {}, "SymPy's gamma"),
    (sympy.besselj(1, f), {}, "SymPy's besselj"), (x + z, {}, "two symbols are called x"), (sympy.Symbol("a b") * f, {}, "'a b' cannot be a name"),
    (sympy.Symbol("f) = 1 #") * f, {}, "cannot be a name"), (sympy.Symbol("__import__('os')"), {}, "cannot be a name"), (f * y, {"inputs": ["f"], "params": ["w"]}, "also has y"),
    (f, {"inputs": {"f": 1j}}, "declared by its kind or a default"), (s[i], {}, "nothing tells axis 1 of s\n.*real"), (f, {"name": "a b"}, "'a b' cannot be a name"),
    (sympy.Sum(f, (k, 0, n - 1), (n, 0, m)), {}, "a sum over"), (sympy.Sum(s[i], (i, 0, n - 1)) + sympy.Sum(s[i], (i, 1, n)), {}, "begin with 0 and with 1"),
    (sympy.Sum(s[i], (i, 0, n - 1)) + sympy.Sum(s[i], (i, 0, m - 1)), {}, "has length . and length ."), (f, {"inputs": {"f": "rael"}}, "rael"), (f, {"inputs": {"f": "real) = f\ng(x"}}, "one line"),
    (sympy.Piecewise((f, sympy.Xor(f > 0, y > 0)), (0, True)), {}, "SymPy's Xor"), (f, {"wrt": "q"}, "'q'"),
]  # fmt: skip


@pytest.mark.parametrize("expression, options, message", REFUSED, ids=range(len(REFUSED)))
def test_what_a_loss_cannot_be_made_of(expression: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LossError, match=message):
        lossdsl.from_sympy(expression, **options)


def test_a_large_expression_is_refused() -> None:
    e: Any = f
    for _ in range(20):
        e = sympy.Mul(e + 1, e, evaluate=False)
    with pytest.raises(LossError, match="too large"):
        lossdsl.from_sympy(e)


def test_a_deep_expression_is_read() -> None:
    e: Any = f
    for _ in range(60):
        e = sympy.Abs(sympy.sin(e), evaluate=False)
    assert lossdsl.from_sympy(e).program.value.op == "call"
