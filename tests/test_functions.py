"""Every fact that a row of the function table states is true, and as sharp as it says."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import inf
from typing import Any

import mpmath
import pytest
import sympy
from evaluators import contains, exact, floats, function, symbolic

from lossdsl.functions import ALIASES, FUNCTIONS, Row, find
from lossdsl.ir import rows
from lossdsl.ir.expr import FALSE, ONE, Expr, add, call, div, iverson, mul, num, pow_, ref
from lossdsl.kinds import Interval

mp = mpmath.mp
Point = tuple[Any, ...]

TABLE = list(FUNCTIONS.values())
BACKENDS = ("numpy", "torch", "c", "mpmath")
# What the identities below cannot speak of: `stop` has a value without its derivative.
DIFFERENTIABLE = [r for r in TABLE if r.name != "stop"]
# mpmath's zeta and polygamma are too slow, or whole numbers are too few, for the sweeps over pairs of points.
SWEPT = [r for r in TABLE if not r.integer]
# Rows whose safe form is an asymptotic series, good to double precision and no identity.
SERIES = ("digamma", "trigamma")


def by_name(table: list[Row]) -> Any:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


def references(row: Row) -> list[Expr]:
    return [ref(a) for a in row.args]


def value(row: Row, point: Point) -> Any:
    if row.name == "pow":
        return exact(pow_(*references(row)), dict(zip(row.args, point, strict=True)))
    return function(row.name, list(point))


def holds(condition: Expr, row: Row, point: Point) -> bool:
    return bool(exact(condition, dict(zip(row.args, point, strict=True))))


def singular(row: Row, point: Point) -> bool:
    """Whether the row says that there is a kink or a pole."""
    return holds(rows.kinks(row.name, references(row)), row, point) or holds(rows.poles(row.name, references(row)), row, point)


# -- points -----------------------------------------------------------------------------------------------------------------

SPECIAL = [Fraction(k, 2) for k in range(-6, 7)]


def _draw(rng: random.Random, d: Interval) -> Any:
    """A number of a domain: near an end, moderate, or of any size."""
    low, high = (None if abs(b) == inf else mp.mpf(Fraction(b).numerator) / Fraction(b).denominator for b in (d.low, d.high))
    size = mp.mpf(10) ** rng.choice([0, 0, 0, rng.randint(-6, 1)]) * mp.mpf(rng.uniform(0.2, 3))
    if low is None:
        return rng.choice((-1, 1)) * size if high is None else high - size
    if high is None:
        return low + size
    return low + (high - low) * mp.mpf(rng.choice([rng.uniform(0.001, 0.999), rng.uniform(0, 0.01), rng.uniform(0.99, 1)]))


def draws(row: Row, count: int, seed: int = 0) -> list[Point]:
    """Points where the row has a finite value, drawn with a fixed seed."""
    rng = random.Random(f"{row.name}{seed}")
    out: list[Point] = []
    for _ in range(40 * count):
        point = tuple(mp.mpf(rng.randint(2, 5)) if a in row.integer else _draw(rng, d) for a, d in zip(row.args, row.domain, strict=True))
        if mp.isfinite(value(row, point)):
            out.append(point)
        if len(out) == count:
            break
    assert len(out) == count, f"{row.name} is hardly anywhere defined"
    return out


def specials(row: Row) -> list[Point]:
    """The simple numbers, where kinks and poles lie, as far as they are in the domain."""
    axes = [[mp.mpf(1), mp.mpf(2)] if a in row.integer else [mp.mpf(x.numerator) / x.denominator for x in SPECIAL] for a in row.args]
    if row.arity == 3:
        axes = [axis[4:-3:2] + axis[5:6] for axis in axes]
    inside = lambda p: all(contains(d, x) for d, x in zip(row.domain, p, strict=True))  # noqa: E731
    return [p for p in itertools.product(*axes) if inside(p) and not mp.isnan(value(row, p))]


def moved(point: Point, k: int, step: Any) -> Point:
    return (*point[:k], point[k] + step, *point[k + 1 :])


def slopes(row: Row, point: Point, k: int, step: Any) -> tuple[Any, Any]:
    """The one-sided difference quotients to the left and to the right; NaN where that side is outside."""
    here = value(row, point)
    return (here - value(row, moved(point, k, -step))) / step, (value(row, moved(point, k, step)) - here) / step


def close(a: Any, b: Any, tolerance: Any) -> bool:
    return bool(a == b or abs(a - b) <= tolerance * max(1, abs(a), abs(b)))


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with mp.workdps(100):
        yield


# -- the table --------------------------------------------------------------------------------------------------------------


@by_name(TABLE)
def test_row_is_complete(row: Row) -> None:
    args = references(row)
    assert len(set(row.args)) == row.arity == len(row.domain) == len(row.monotone) == len(row.lipschitz) == len(row.derivative)
    assert set(row.spell) <= set(BACKENDS)
    assert row.meaning is not None or "mpmath" in row.spell, "the oracle needs a meaning or a spelling"
    assert row.doc
    assert len(rows.derivative(row.name, args)) == row.arity
    for backend in ("numpy", "torch"):
        assert backend in row.spell or rows.safe(row.name, args) is not None, f"{backend} cannot say {row.name}"
    for m in row.monotone:
        assert m in (None, "increasing", "decreasing")
    assert row.curvature in (None, "convex", "concave", "affine")


def test_names_and_aliases() -> None:
    assert all(name == row.name for name, row in FUNCTIONS.items())
    assert not set(ALIASES) & set(FUNCTIONS)
    assert all(find(alias) is FUNCTIONS[name] for alias, name in ALIASES.items())
    assert find("nothing") is None


@by_name(TABLE)
def test_forms_are_grounded(row: Row) -> None:
    """No definition or safe form comes back to its own function."""
    args = references(row)
    for form in (rows.meaning, rows.safe):
        todo, seen = [form(row.name, args)], set()
        while todo:
            e = todo.pop()
            if e is None or e in seen:
                continue
            seen.add(e)
            assert not (e.op == "call" and e.data == row.name), f"{row.name} is defined by itself"
            todo += [*e.args, form(e.data, references(FUNCTIONS[e.data])) if e.op == "call" else None]


@by_name([r for r in TABLE if r.meaning and "mpmath" in r.spell])
def test_meaning(row: Row) -> None:
    for point in draws(row, 25):
        with mp.workdps(400):
            meant = function(row.name, list(point), by_meaning=True)
        assert abs(value(row, point) - meant) <= mp.mpf(10) ** -80 * abs(meant), point


@by_name([r for r in TABLE if r.safe])
def test_safe_form(row: Row) -> None:
    form = rows.safe(row.name, references(row))
    assert form is not None
    tolerance = mp.mpf(10) ** (-15 if row.name in SERIES else -80)
    for point in draws(row, 40) + ([] if row.name in SERIES else specials(row)):
        with mp.workdps(400):
            env = dict(zip(row.args, point, strict=True))
            got, want = exact(form, env), value(row, point)
        assert mp.isnan(got) if mp.isnan(want) else got == want or abs(got - want) <= tolerance * abs(want), point


# -- derivatives ------------------------------------------------------------------------------------------------------------


@by_name(DIFFERENTIABLE)
def test_derivative_is_the_limit_of_differences(row: Row) -> None:
    """At random points and at the special ones in the inside, wherever the row names neither a kink nor a pole."""
    stated = rows.derivative(row.name, references(row))
    step = mp.mpf(10) ** -30
    checked = 0
    for point in draws(row, 12) + specials(row):
        if not mp.isfinite(value(row, point)) or singular(row, point):
            continue
        for k, text in enumerate(stated):
            left, right = slopes(row, point, k, step)
            if row.args[k] in row.integer or not (mp.isfinite(left) and mp.isfinite(right)):
                continue
            want = 0 if text is None else exact(text, dict(zip(row.args, point, strict=True)))
            assert close((left + right) / 2, want, mp.mpf(10) ** -25), (point, row.args[k])
            assert close(left, right, mp.mpf(10) ** -15), f"a kink at {point} that the row does not name"
            checked += 1
    assert checked >= 6


@by_name([r for r in DIFFERENTIABLE if r.kinks])
def test_kinks(row: Row) -> None:
    """At a kink the slopes differ or the value jumps; the derivative is the mean of the slopes where two pieces meet."""
    step = mp.mpf(10) ** -40
    stated = rows.derivative(row.name, references(row))
    kinked = 0
    for point in specials(row):
        if not holds(rows.kinks(row.name, references(row)), row, point):
            continue
        for k, text in enumerate(stated):
            left, right = slopes(row, point, k, step)
            if max(abs(left), abs(right)) > mp.mpf(10) ** 20:  # a jump
                kinked += 1
                continue
            kinked += not close(left, right, mp.mpf(10) ** -15)
            if row.name != "clip" or len(set(point)) == row.arity - 1:
                want = 0 if text is None else exact(text, dict(zip(row.args, point, strict=True)))
                assert close((left + right) / 2, want, mp.mpf(10) ** -30), (point, row.args[k])
    assert kinked >= 1


def test_clip_is_the_chain_rule_of_its_meaning() -> None:
    """Where three pieces meet the mean is that of the composition, so that equal formulas have equal gradients."""
    row = FUNCTIONS["clip"]
    x, lo, hi = references(row)
    inner = call("max", x, lo)
    (a, b), (outer, last) = rows.derivative("max", [x, lo]), rows.derivative("min", [inner, hi])
    chain = [mul(outer, a), mul(outer, b), last]
    for point in itertools.product(map(mp.mpf, (0, 1, 2)), repeat=3):
        env = dict(zip(row.args, point, strict=True))
        assert [exact(d, env) for d in rows.derivative("clip", [x, lo, hi])] == [exact(c, env) for c in chain], point


@by_name([r for r in DIFFERENTIABLE if r.poles and r.name != "mul0"])
def test_poles(row: Row) -> None:
    """At a pole the value or a difference quotient grows beyond all bounds."""
    unbounded = 0
    for point in specials(row):
        if not holds(rows.poles(row.name, references(row)), row, point):
            continue
        quotients = [[abs(q) for k in range(row.arity) for q in slopes(row, point, k, mp.mpf(10) ** -n) if not mp.isnan(q)] for n in (30, 60)]
        near, nearer = (max(q, default=mp.zero) for q in quotients)
        unbounded += mp.isinf(value(row, point)) or nearer > 100 * near
    assert unbounded >= 1


@by_name([r for r in DIFFERENTIABLE if r.poles is None])
def test_no_pole_is_left_out(row: Row) -> None:
    """Without a pole the difference quotients at the special points stay bounded, or the point is a jump that the row names."""
    for point in specials(row):
        if not mp.isfinite(value(row, point)) or (row.kinks and singular(row, point)):
            continue
        near, nearer = (
            max((abs(q) for k in range(row.arity) if row.args[k] not in row.integer for q in slopes(row, point, k, mp.mpf(10) ** -n) if mp.isfinite(q)), default=0)
            for n in (30, 60)
        )
        assert nearer <= 2 * near + 1, point


@by_name([r for r in DIFFERENTIABLE if not r.integer])
def test_derivative_by_sympy(row: Row) -> None:
    """SymPy differentiates the meaning of a smooth row; both derivatives agree at 50 digits."""
    symbols = dict(zip(row.args, sympy.symbols(row.args, positive=True), strict=True))
    whole = symbolic(call(row.name, *references(row)), symbols) if row.name != "pow" else sympy.Pow(*symbols.values())
    if whole is None:
        pytest.skip("not smooth, or without a name in SymPy")
    for name, text in zip(row.args, rows.derivative(row.name, references(row)), strict=True):
        diff = sympy.diff(whole, symbols[name])
        for point in draws(row, 40):
            env = dict(zip(row.args, point, strict=True))
            if any(x <= 0 for x in point) or singular(row, point):
                continue
            at = {symbols[a]: sympy.Rational(*map(int, _ratio(x))) for a, x in env.items()}
            want = mp.mpf(sympy.re(diff.subs(at).evalf(60, maxn=2000)))
            got = exact(text, {a: mp.mpf(int(r.p)) / int(r.q) for a, r in zip(row.args, at.values(), strict=True)})
            assert close(got, want, mp.mpf(10) ** -45), (name, point)


def _ratio(x: Any) -> tuple[int, int]:
    """A nearby rational number with a short denominator."""
    return int(mp.floor(x * 2**30)) or 1, 2**30


def test_derivative_of_many_is_shared_by_the_largest() -> None:
    args = [ref(a) for a in "abcd"]
    for name, best in (("max", 3), ("min", 1)):
        for point in itertools.product((1, 2, 3), repeat=4):
            env = dict(zip("abcd", map(mp.mpf, point), strict=True))
            shares = [exact(_binary(d), env) for d in rows.derivative(name, args)]
            top = max(point) if best == 3 else min(point)
            assert all(close(s, mp.mpf(p == top) / point.count(top), mp.mpf(10) ** -90) for s, p in zip(shares, point, strict=True))


def _binary(e: Expr | None) -> Expr:
    """An expression whose extrema are all of two numbers."""
    from lossdsl.ir.expr import rewrite

    assert e is not None
    nest: Callable[[Expr], Expr] = lambda n: rows.safe(n.data, n.args) or n if n.op == "call" and len(n.args) > 2 else n  # noqa: E731
    return rewrite((e,), nest)[0]


def test_power_with_a_constant_exponent() -> None:
    x = ref("x")
    assert rows.derivative("pow", [x, num(2)]) == (mul(num(2), x), None)
    assert rows.derivative("pow", [x, num(0)]) == (None, None)
    assert rows.poles("pow", [x, num(2)]) is FALSE
    assert rows.poles("pow", [x, num("0.5")]) is not FALSE
    assert rows.derivative("pow", [x, num("1.5")])[0] is mul(num("1.5"), pow_(x, num("0.5")))


# -- shape ------------------------------------------------------------------------------------------------------------------


def _end(interval: Interval, high: bool) -> Any:
    b = interval.high if high else interval.low
    return None if abs(b) == inf else mp.mpf(Fraction(b).numerator) / Fraction(b).denominator


@by_name(TABLE)
def test_range(row: Row) -> None:
    """It holds every value, and the values come near its ends, or go beyond any bound where it has none."""
    with mp.workdps(500):  # so that what comes near an open end does not round to it
        values = [value(row, p) for p in draws(row, 60)]
    for v in values:
        assert contains(row.range, v), v
    far = [v for v in (value(row, p) for p in _far(row)) if not mp.isnan(v)] + values
    for high in (False, True):
        end = _end(row.range, high)
        extreme = max(far) if high else min(far)
        assert (abs(extreme) > 50 and (extreme > 0) == high) if end is None else abs(extreme - end) < mp.mpf("0.005"), extreme


def _far(row: Row) -> list[Point]:
    """Points where the values come near the ends of the range: small, large, and near the extrema of the rows that have some."""
    sizes = ["0", "1e-300", "0.01", "0.9", "1", "1.28", "1.4616", "1.5708", "2", "3.1416", "60", "1e300"] if row.arity < 3 else ["0.01", "2", "1e300"]
    axis = [sign * mp.mpf(size) for size in sizes for sign in (-1, 1)]
    axes = [[mp.mpf(2), mp.mpf(3)] if a in row.integer else axis for a in row.args]
    return [p for p in itertools.product(*axes) if all(contains(d, x) for d, x in zip(row.domain, p, strict=True))]


@by_name(TABLE)
def test_monotone(row: Row) -> None:
    for k, stated in enumerate(row.monotone):
        if row.args[k] in row.integer:
            continue
        signs = set()
        for point, other in zip(draws(row, 300 if row.arity < 3 else 600, 1), draws(row, 300 if row.arity < 3 else 600, 2), strict=True):
            low, high = sorted((point, moved(other, k, 0)), key=lambda p: p[k])
            a, b = (value(row, moved(point, k, p[k] - point[k])) for p in (low, high))
            if not mp.isnan(a) and not mp.isnan(b) and abs(b - a) > mp.mpf(10) ** -90 * abs(a):
                signs.add(b > a)
        assert signs == {None: {True, False}, "increasing": {True}, "decreasing": {False}}[stated], row.args[k]


@by_name(SWEPT)
def test_curvature(row: Row) -> None:
    signs = set()
    for p, q in zip(draws(row, 400, 3), draws(row, 400, 4), strict=True):
        middle = value(row, tuple((a + b) / 2 for a, b in zip(p, q, strict=True)))
        ends = (value(row, p), value(row, q))
        gap = (ends[0] + ends[1]) / 2 - middle
        if not mp.isnan(gap) and abs(gap) > mp.mpf(10) ** -80 * max(map(abs, ends)):
            signs.add(gap > 0)
    assert signs == {None: {True, False}, "convex": {True}, "concave": {False}, "affine": set()}[row.curvature]


# Lipschitz, but the least constant is the value at the root of a transcendental equation.
NO_CLOSED_FORM = ("silu", "gelu")


@by_name(SWEPT)
def test_lipschitz(row: Row) -> None:
    """The constant holds for all pairs and is attained nearly; without one the quotients have no bound."""
    for k, stated in enumerate(row.lipschitz):
        steepest = mp.zero
        points = draws(row, 150, 5) + [tuple(x * mp.mpf(10) ** 8 for x in p) for p in draws(row, 50, 6)] + specials(row)
        for point in points:
            if not all(contains(d, x) for d, x in zip(row.domain, point, strict=True)) or not mp.isfinite(value(row, point)):
                continue
            for step in (mp.mpf(10) ** -20, mp.mpf("0.01"), mp.mpf(3)):
                steepest = max(steepest, *(abs(q) for q in slopes(row, point, k, step) if mp.isfinite(q)), mp.zero)
        if stated is not None:
            constant = exact(rows.template(row.name, stated), {})
            assert constant * mp.mpf("0.99") < steepest <= constant * (1 + mp.mpf(10) ** -30), (row.args[k], steepest)
        elif row.name not in NO_CLOSED_FORM:
            assert steepest > 10, row.args[k]


@by_name([r for r in TABLE if r.rules])
def test_rules(row: Row) -> None:
    for rule in row.rules:
        left, right = (rows.template(row.name, side) for side in rule.split("->"))
        for point in draws(row, 20) + specials(row):
            env = dict(zip(row.args, point, strict=True))
            a, b = exact(left, env), exact(right, env)
            assert close(a, b, mp.mpf(10) ** -90), (rule, point)


# -- floating point ---------------------------------------------------------------------------------------------------------

# The error of these is measured against what one rounding of each argument does: they go through a zero away from 0, fall like
# exp(-x^2), or add what may cancel. All other rows are held to a few units of the last place of the result itself.
CONDITIONED = (
    "logaddexp", "logsubexp", "bce_with_logits", "erfc", "erfcx", "normal_cdf", "log_normal_cdf", "gelu", "lgamma", "digamma", "polygamma",
)  # fmt: skip
ULPS = 4


def _grid(dtype: Any, thin: int) -> list[float]:
    """Sizes from the smallest to the largest, thresholds of the safe forms, neighbours of 1, infinities; both signs."""
    import numpy as np

    double = dtype is np.float64
    one = dtype(1)
    powers = [1e-300, 1e-160, 1e-100, 1e-20, 1e-10] if double else [1e-37, 1e-30, 1e-19, 1e-12, 1e-8]
    near = [0.01, 0.1, 0.2499, 0.25, 0.49999, 0.5, 0.50001, 0.6931471805599453, 0.75, np.nextafter(one, dtype(0)), 1, np.nextafter(one, dtype(2))]
    large = [1.4, 1.4616, 1.9999, 2, 2.0001, 3.3, 5.5, 9.99, 10, 13.7, 20, 30, 36.7, 60, 86, 88, 100, *([300, 700, 709, 740] if double else [])]
    sizes = [0.0, *powers, 1e-4, 1e-3, *near, *large, 1e5, *(1 / p for p in powers[::-1])]
    signed = sorted({float(dtype(sign * s)) for s in sizes for sign in (-1, 1)})[::thin]
    return sorted({*signed, 0.0, 0.5, 1.0, -1.0, 2.0, inf, -inf})


def _reference(row: Row, point: tuple[float, ...]) -> tuple[Any, Any]:
    """The value, and the size that the error is measured against."""
    with mp.workdps(60 if "mpmath" in row.spell else 700):
        at = tuple(mp.mpf(x) for x in point)
        want = value(row, at)
        if row.name not in CONDITIONED or not mp.isfinite(want):
            return want, abs(want)
        env = dict(zip(row.args, at, strict=True))
        terms = [abs(x * exact(d, env)) for x, d in zip(at, rows.derivative(row.name, references(row)), strict=True) if d is not None and x]
        return want, abs(want) + sum((t for t in terms if mp.isfinite(t)), mp.zero)


_known: dict[tuple[str, tuple[float, ...]], tuple[Any, Any]] = {}


def _run(row: Row, points: list[tuple[float, ...]], dtype: Any, backend: str) -> Any:
    import numpy as np

    columns = [np.array(c, dtype=dtype) for c in zip(*points, strict=True)]
    whole = call(row.name, *references(row))
    if backend == "torch":
        torch = pytest.importorskip("torch")
        return floats(whole, {a: torch.from_numpy(c) for a, c in zip(row.args, columns, strict=True)}, backend).numpy()
    with np.errstate(all="ignore"):
        return floats(whole, dict(zip(row.args, columns, strict=True)), backend)


# Powers are printed as the language's own operator, not as a call.
PRINTED = [r for r in TABLE if r.name != "pow"]


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@by_name(PRINTED)
def test_floating_point(row: Row, backend: str, precision: str) -> None:
    """Within a few ulp wherever it is representable, infinite where it overflows, NaN outside the domain, never a wrong infinity."""
    import numpy as np

    dtype = getattr(np, precision)
    info = np.finfo(dtype)
    axes = [{"n": [0.0, 1.0, 2.0, 3.0], "s": [1.0, 2.0, 3.0, 6.0]}[a] if a in row.integer else _grid(dtype, (1, 4, 9)[row.arity - 1]) for a in row.args]
    points = [p for p in itertools.product(*axes) if not (row.name == "mod" and p[1] and abs(p[0] / p[1]) > float(info.max))]
    got = _run(row, points, dtype, backend)
    assert got.dtype == dtype
    for point, x in zip(points, map(float, got), strict=True):
        if (row.name, point) not in _known:
            _known[row.name, point] = _reference(row, point)
        want, scale = _known[row.name, point]
        if mp.isnan(want):
            # an infinite argument outside the domain may give an infinity, a finite one may not
            assert np.isnan(x) or (np.isinf(x) and any(map(np.isinf, point))), (point, x)
        elif abs(want) > mp.mpf(float(info.max)):
            assert np.isinf(x) and (x > 0) == (want > 0), (point, x)
        else:
            assert np.isfinite(x), (point, x, mp.nstr(want, 17))
            assert abs(mp.mpf(x) - want) <= ULPS * float(info.eps) * scale + mp.mpf(float(info.tiny)), (point, x, mp.nstr(want, 17))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@by_name(PRINTED)
def test_nan_in_is_nan_out(row: Row, backend: str) -> None:
    import numpy as np

    for k in range(row.arity):
        axes = [[np.nan] if i == k else [2.0] if a in row.integer else [-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0, np.inf] for i, a in enumerate(row.args)]
        points = list(itertools.product(*axes))
        assert np.isnan(_run(row, points, np.float64, backend)).all(), row.args[k]


def test_numpy_spellings_take_numbers_without_axes() -> None:
    import numpy as np

    for row in PRINTED:
        point = draws(row, 1)[0]
        out = floats(call(row.name, *references(row)), {a: np.float32(float(x)) for a, x in zip(row.args, point, strict=True)}, "numpy")
        assert np.ndim(out) == 0 and np.asarray(out).dtype == np.float32, row.name


def test_templates_are_filled_by_constructors() -> None:
    """A template's references are replaced whatever the argument is, and numbers are folded as everywhere."""
    x = add(ref("a"), ONE)
    assert rows.derivative("log", [x]) == (div(ONE, x),)
    assert rows.meaning("log1p", [ref("x")]) is call("log", add(ONE, ref("x")))
    assert rows.kinks("max", [ref("a"), ref("b"), ref("c")]).op == "or"
    assert rows.derivative("relu", [num(3)]) == (ONE,)
    assert iverson(rows.kinks("abs", [num(0)])) is ONE
