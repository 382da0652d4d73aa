"""The oracle does what the semantics say, for hand-made expressions: laziness, NaN, empties, indices, precision, differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mp

from lossdsl.errors import LossError
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import (
    FALSE,
    HALF,
    INF,
    NAN,
    ONE,
    PI,
    TRUE,
    TWO,
    ZERO,
    Expr,
    Index,
    Range,
    _make,
    add,
    and_,
    call,
    cmp,
    div,
    fresh,
    iverson,
    ix,
    mul,
    neg,
    not_,
    num,
    or_,
    pow_,
    product,
    pw,
    red,
    ref,
    size,
    stop,
    sub,
    total,
)  # fmt: skip
from lossdsl.ir.program import Input, Output, Param, Program
from lossdsl.kinds import Kind
from lossdsl.runtime.reference import Result, differences, directional, evaluate, evaluate_rows, ulps

nan, inf = math.nan, math.inf
N, K, D = (Index(a, a) for a in "nkd")


def program(e: Expr, inputs: dict[str, str] | None = None, params: dict[str, Any] | None = None, over: tuple[Index, ...] = ()) -> Program:
    """A program with one output; inputs as names with the letters of their axes."""
    declared = tuple(Input(name, Kind("real", tuple((a, a) for a in axes))) for name, axes in (inputs or {}).items())
    return Program("t", declared, tuple(Param(n, Kind("real"), d) for n, d in (params or {}).items()), (Output("value", over, e),))


def result(e: Expr, _over: tuple[Index, ...] = (), **arrays: Any) -> Result:
    axes = {name: "nkd"[: np.ndim(a)] for name, a in arrays.items()}
    return evaluate(program(e, axes, over=_over), arrays)["value"]


def value(e: Expr, _over: tuple[Index, ...] = (), **arrays: Any) -> Any:
    return result(e, _over, **arrays).value


def same(got: Any, want: Any) -> bool:
    return bool(mpmath.isnan(got) and mpmath.isnan(want)) or got == want


def near(got: Any, want: Any, digits: int = 28) -> bool:
    with mp.workdps(60):
        return bool(abs(got - want) <= abs(want) * mp.mpf(10) ** -digits)


x, y, z = ref("x"), ref("y"), ref("z")


def at(name: str, *indices: Index) -> Expr:
    return ref(name, [ix(i) for i in indices])


# an expression that cannot be evaluated: a call that no row explains
POISON = _make("call", (x,), "no such function")


# -- arithmetic -------------------------------------------------------------------------------------------------------

ARITHMETIC: list[tuple[Callable[[Expr, Expr], Expr], Any, Any, Any]] = [
    (sub, inf, inf, nan), (add, inf, -inf, nan), (add, inf, 1, inf), (mul, 0, inf, nan), (mul, -2, inf, -inf), (mul, nan, 0, nan),
    (div, 1, 0, inf), (div, -3, 0, -inf), (div, 0, 0, nan), (div, inf, inf, nan), (div, 5, inf, 0), (div, nan, 0, nan), (div, inf, 0, inf),
    (pow_, 0, 0, 1), (pow_, 5, 0, 1), (pow_, -5, 0, 1), (pow_, inf, 0, 1), (pow_, nan, 0, nan), (pow_, 1, nan, nan),
    (pow_, 0, 2, 0), (pow_, 0, -1, inf), (pow_, 0, Fraction(1, 2), 0), (pow_, -2, 3, -8), (pow_, -2, -2, Fraction(1, 4)), (pow_, -2, 0.5, nan),
    (pow_, inf, 2, inf), (pow_, inf, -1, 0), (pow_, -inf, 3, -inf), (pow_, 2, inf, inf), (pow_, 0.5, inf, 0), (pow_, 2, -inf, 0),
    (pow_, 1, inf, 1), (pow_, -2, inf, nan), (pow_, 4, 0.5, 2),
]  # fmt: skip


@pytest.mark.parametrize(("op", "a", "b", "want"), ARITHMETIC)
def test_arithmetic_is_that_of_ieee(op: Callable[[Expr, Expr], Expr], a: Any, b: Any, want: Any) -> None:
    want = mpmath.mpf(want.numerator) / want.denominator if isinstance(want, Fraction) else mpmath.mpf(want)
    assert same(value(op(x, y), x=a, y=b), want)


COMPARISONS = [
    ("<", 1, 2, 1), ("<", 2, 2, 0), ("<=", 2, 2, 1), (">", inf, 3, 1), (">=", nan, 0, 0), ("==", nan, nan, 0), ("!=", nan, nan, 1), ("<", nan, 1, 0),
    ("!=", 1, 1, 0), ("==", 0.5, Fraction(1, 2), 1), ("<", 1e-300, 2e-300, 1), ("==", 1, 1 + 2.0**-52, 0),
]  # fmt: skip


@pytest.mark.parametrize(("op", "a", "b", "want"), COMPARISONS)
def test_comparisons_are_false_on_nan(op: str, a: Any, b: Any, want: int) -> None:
    assert value(iverson(cmp(op, x, y)), x=a, y=b) == want


def test_constants_and_sizes() -> None:
    assert near(value(PI), exactly(lambda: +mp.pi, 60))
    assert value(INF) == inf
    assert mpmath.isnan(value(NAN))
    assert value(size("n"), x=[1, 2, 3]) == 3
    assert near(value(num("0.1")), exactly(lambda: mp.mpf(1) / 10, 60))


# -- what is not looked at is not evaluated ---------------------------------------------------------------------------

yes, no = cmp(">", x, ZERO), cmp("<", x, ZERO)
bad = cmp(">", POISON, ZERO)
i, j, k = fresh("n"), fresh("n"), fresh("n")
LAZY = {
    "the branch not taken": (pw([(x, yes)], POISON), 2),
    "a later condition": (pw([(x, yes), (ONE, bad)], POISON), 2),
    "an earlier branch whose condition fails": (pw([(POISON, no), (x, yes)]), 2),
    "the right side of and": (iverson(and_(no, bad)), 0),
    "the right side of or": (iverson(or_(yes, bad)), 1),
    "a long and": (iverson(not_(and_(yes, no, bad))), 1),
    "the body where the guard fails": (red("sum", [i], POISON, no), 0),
    "the guard of an empty axis": (red("sum", [fresh(Range(ONE, ZERO))], POISON, bad), 0),
    "the guard of an inner reduction": (red("sum", [i], red("max", [j], POISON, bad), no), 0),
    "any, after the first that holds": (iverson(red("any", [i], or_(cmp("==", ix(i), ZERO), bad))), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LAZY)
def test_what_is_not_looked_at_is_not_evaluated(name: str) -> None:
    e, want = LAZY[name]
    p = Program("t", (Input("x", Kind()), Input("v", Kind("real", (("n", "n"),)))), (), (Output("value", (), e),))
    assert evaluate(p, {"x": 2.0, "v": [1.0, 2.0, 3.0]})["value"].value == want
    with pytest.raises(LossError, match="no function"):
        evaluate(p.with_roots((add(e, POISON),)), {"x": 2.0, "v": [1.0]})


def test_a_guard_inside_a_guard_selects_before_evaluating() -> None:
    a, b = at("x", i), at("x", j)
    inner = red("sum", [j], call("log", sub(b, a)), cmp(">", b, a))
    outer = red("sum", [i], mul(call("sqrt", a), inner), cmp(">", a, ZERO))
    data = [3.0, -1.0, 0.5, 2.0, nan]
    want = mp.mpf(0)
    with mp.workdps(50):
        for p in data:
            if p > 0:
                want += mp.sqrt(p) * sum((mp.log(mp.mpf(q) - p) for q in data if q > p), mp.mpf(0))
    assert near(value(outer, x=data), want)


def test_only_the_index_points_that_are_needed_are_evaluated() -> None:
    guarded = pw([(at("x", i), cmp("<", ix(i), num(2)))], ref("x", [add(ix(i), num(100))]))
    out = value(red("sum", [i], guarded, cmp("<", ix(i), num(2))), x=[1.0, 2.0, nan])
    assert out == 3


# -- NaN, infinities and empties in reductions ------------------------------------------------------------------------

EMPTY = {"sum": 0, "max": nan, "min": nan, "logsumexp": -inf, "norm": 0, "argmax": nan, "argmin": nan}
REDUCED = [
    ("sum", [1, nan], nan), ("sum", [inf, -inf], nan), ("max", [1, nan, 3], nan), ("min", [nan], nan), ("logsumexp", [nan, 1], nan), ("norm", [inf, nan], nan),
    ("argmax", [1, nan], nan), ("logsumexp", [-inf, -inf], -inf), ("logsumexp", [inf, 0], inf), ("norm", [inf, 1], inf), ("norm", [3, -4], 5),
    ("max", [2, 7, 7], 7), ("argmax", [2, 7, 7], 1), ("argmin", [3, 1, 1], 1), ("argmin", [inf, -inf], 1), ("max", [-inf], -inf), ("norm", [0, 0], 0),
    ("norm", [1e300, 0], 1e300), ("norm", [-1e-300], 1e-300), ("logsumexp", [1e4], 1e4),
]  # fmt: skip


@pytest.mark.parametrize("op", EMPTY)
def test_empty_reductions(op: str) -> None:
    assert same(value(red(op, [i], at("x", i), FALSE), x=[1.0, 2.0]), mpmath.mpf(EMPTY[op]))
    assert same(value(red(op, [i], at("x", i)), x=[]), mpmath.mpf(EMPTY[op]))
    assert value(iverson(red("any", [i], cmp(">", at("x", i), ZERO))), x=[]) == 0


@pytest.mark.parametrize(("op", "data", "want"), REDUCED)
def test_reductions_of_nan_infinities_and_ties(op: str, data: list[float], want: float) -> None:
    got = value(red(op, [i], at("x", i)), x=data)
    assert same(got, mpmath.mpf(want)) or near(got, mpmath.mpf(want))


def test_any_and_conditions_hold_where_they_should() -> None:
    some = iverson(red("any", [i], cmp(">", at("x", i), num(2))))
    assert [value(some, x=v) for v in ([1, 3], [1, 2], [nan, 1], [nan, 5])] == [1, 0, 0, 1]
    assert value(iverson(red("any", [i, j], cmp("==", at("x", i), neg(at("x", j))))), x=[1, 4, -4]) == 1


# -- indices ----------------------------------------------------------------------------------------------------------


def test_gathers_leave_their_axis_as_nan() -> None:
    data = [1.0, 2.0, 4.0]
    for index, want in [(0, 1), (2, 4), (3, nan), (-1, nan), (1.5, nan), (nan, nan), (inf, nan)]:
        assert same(value(ref("x", [y]), x=data, y=index), mpmath.mpf(want)), index


def test_gathers_by_arithmetic_and_by_other_arrays() -> None:
    m = np.arange(12.0).reshape(3, 4) ** 2
    e = red("sum", [i], ref("m", [sub(sub(size("n"), ONE), ix(i)), ref("t", [ix(i)])]))
    p = program(e, {"m": "nk", "t": "n"})
    assert evaluate(p, {"m": m, "t": np.array([3, 0, 2])})["value"].value == m[2, 3] + m[1, 0] + m[0, 2]


def test_ranges_have_both_ends_and_their_index_is_the_integer() -> None:
    b = fresh(Range(neg(TWO), ref("x")))
    assert value(red("sum", [b], mul(ix(b), ix(b))), x=3) == 4 + 1 + 0 + 1 + 4 + 9
    assert value(red("sum", [b], ONE), x=-3) == 0
    assert value(size(b.axis), x=3) == 6
    assert value(red("argmax", [b], neg(mul(ix(b), ix(b)))), x=3) == 0
    with pytest.raises(LossError, match="whole number"):
        value(red("sum", [b], ix(b)), x=1.5)


def test_outputs_have_axes() -> None:
    a = np.arange(6.0).reshape(2, 3)
    out = value(sub(at("a", N, K), red("sum", [j2 := fresh("k")], at("a", N, j2))), (K, N), a=a)
    assert out.shape == (3, 2)
    assert (out.astype(float) == (a - a.sum(1, keepdims=True)).T).all()


def test_lengths_must_agree_and_names_be_known() -> None:
    p = program(red("sum", [i], mul(at("x", i), at("y", i))), {"x": "n", "y": "n"}, {"delta": None})
    with pytest.raises(LossError, match="axis 'n' of t has length 2 in 'x' and 3 in 'y'"):
        evaluate(p, {"x": [1, 2], "y": [1, 2, 3]})
    with pytest.raises(LossError, match="input 'y' of t is missing"):
        evaluate(p, {"x": [1, 2]})
    with pytest.raises(LossError, match="no input 'q'"):
        evaluate(p, {"x": [1], "y": [1], "q": 2})
    with pytest.raises(LossError, match="has shape"):
        evaluate(p, {"x": 1, "y": [1]})
    with pytest.raises(LossError, match="ragged"):
        evaluate(program(x, {"x": "nk"}), {"x": [[1, 2], [3]]})
    with pytest.raises(LossError, match="'delta' of t has no value"):
        evaluate(program(ref("delta"), {}, {"delta": None}), {})
    with pytest.raises(LossError, match="no number"):
        evaluate(program(x, {"x": ""}), {"x": "one"})
    with pytest.raises(LossError, match="length of axis 'm' is unknown"):
        evaluate(program(size("m")), {})
    assert evaluate(program(size("m")), {}, sizes={"m": 7})["value"].value == 7


# -- precision --------------------------------------------------------------------------------------------------------


def exactly(f: Callable[[], Any], digits: int = 900) -> Any:
    with mp.workdps(digits):
        return f()


PRECISE: dict[str, tuple[Expr, dict[str, float], Callable[..., Any]]] = {
    "log(1 + exp(-800))": (call("log", add(ONE, call("exp", x))), {"x": -800.0}, lambda x: mp.log(1 + mp.exp(x))),
    "(1 + 1e-30) - 1": (sub(add(ONE, x), ONE), {"x": 1e-30}, lambda x: x),
    "(1 + 1e-300) - 1": (sub(add(ONE, x), ONE), {"x": 1e-300}, lambda x: x),
    "1 - sigmoid(500)": (sub(ONE, call("sigmoid", x)), {"x": 500.0}, lambda x: 1 / (1 + mp.exp(x))),
    "sqrt(1 + s^2) - 1": (sub(call("sqrt", add(ONE, pow_(x, TWO))), ONE), {"x": 1e-30}, lambda x: mp.sqrt(1 + x * x) - 1),
    "log(cosh(1e-20))": (call("log", call("cosh", x)), {"x": 1e-20}, lambda x: mp.log(mp.cosh(x))),
    "(x + y)^2 - x^2 - 2xy - y^2": (sub(sub(sub(pow_(add(x, y), TWO), pow_(x, TWO)), mul(TWO, mul(x, y))), pow_(y, TWO)), {"x": 1e150, "y": 1e-150},
                                    lambda x, y: mp.mpf(0)),
    "exp(x) - exp(y)": (sub(call("exp", x), call("exp", y)), {"x": 1.0, "y": 1 + 2.0**-52}, lambda x, y: mp.exp(x) - mp.exp(y)),
    "variance of nearly equal": (sub(div(add(pow_(x, TWO), pow_(y, TWO)), TWO), pow_(div(add(x, y), TWO), TWO)), {"x": 1e8, "y": 1e8 + 1.5e-8},
                                 lambda x, y: ((x - y) / 2) ** 2),
    "tanh from exponentials": (div(sub(call("exp", x), call("exp", neg(x))), add(call("exp", x), call("exp", neg(x)))), {"x": 1e-25}, lambda x: mp.tanh(x)),
    "log of a quotient of exponentials": (neg(call("log", div(call("exp", x), add(call("exp", x), call("exp", y))))), {"x": 900.0, "y": 100.0},
                                          lambda x, y: mp.log1p(mp.exp(y - x))),
    "log(exp(1e300))": (call("log", call("exp", x)), {"x": 1e300}, lambda x: x),
    "sin at a large argument": (call("sin", x), {"x": 1e22}, lambda x: mp.sin(x)),
    "sqrt(2)^2 - 2": (sub(pow_(call("sqrt", x), TWO), TWO), {"x": 2.0}, lambda x: mp.mpf(0)),
    "x/3*3 - x": (sub(mul(div(x, num(3)), num(3)), x), {"x": 0.7}, lambda x: mp.mpf(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", PRECISE)
def test_the_precision_grows_until_the_result_is_right(name: str) -> None:
    e, given, f = PRECISE[name]
    got = result(e, **given)
    want = exactly(lambda: f(**{k: mp.mpf(v) for k, v in given.items()}))
    assert got.converged
    assert near(got.value, want) if want else abs(got.value) <= got.noise * mpmath.mpf(10) ** -300


def test_what_hangs_on_a_number_that_vanishes_is_found_far_out() -> None:
    sigma = div(ONE, add(ONE, call("exp", neg(x))))
    rest = neg(call("log", sub(ONE, sigma)))
    hanging = {
        "a logarithm": (rest, 10000),
        "a pole": (div(call("exp", neg(x)), sub(ONE, sigma)), 1),
        "a factor that meets it": (call("mul0", sub(ONE, sigma), div(ONE, sub(ONE, sigma))), 1),
        "a condition": (pw([(TWO, cmp("<", sigma, ONE))], ONE), 2),
    }
    for name, (e, want) in hanging.items():
        got = result(e, x=1e4)
        assert got.converged and abs(got.value - want) < 1e-25, (name, got)


def test_what_is_computed_alike_is_equal() -> None:
    for f in (call("exp", x), call("exp", y)), (call("sqrt", mul(x, num("0.3"))), call("sqrt", mul(y, num("0.3")))):
        assert result(sub(*f), x=0.7, y=0.7).value == 0
        assert result(pw([(ONE, cmp("==", *f))], ZERO), x=0.7, y=0.7).value == 1
        assert result(div(ONE, sub(*f)), x=0.7, y=0.7).value == inf


def test_a_number_that_may_be_the_end_of_a_domain_is_held_to_be_it() -> None:
    alike = div(red("sum", [i], mul(at("x", i), at("x", i))), pow_(red("norm", [i], at("x", i)), TWO))
    for factor, want in ((ONE, 0), (num("1.0000001"), nan), (num("0.9"), None)):
        got = result(call("acos", mul(factor, alike)), x=[0.1, 0.7, 3.0])
        assert got.converged and (near(got.value, exactly(lambda: mp.acos(mp.mpf(9) / 10))) if want is None else same(got.value, mpmath.mpf(want)))
        assert (got.margin < 1e-15) == (want == 0)
    with_noise = call("sqrt", sub(mul(div(x, num(3)), num(3)), x))
    assert abs(result(with_noise, x=0.7).value) < 1e-15
    assert mpmath.isnan(value(call("sqrt", sub(mul(div(x, num(3)), num(3)), mul(x, num("1.0000001")))), x=0.7))


def test_the_cap_bounds_the_work_and_is_told() -> None:
    tiny = sub(add(ONE, call("exp", x)), ONE)  # exp(-3000) is below the cap's reach relative to 1
    got = result(tiny, x=-3000.0)
    assert got.converged and got.value == 0 and got.scale == 1
    jump = call("sign", sub(call("sin", mul(x, call("sqrt", pow_(PI, TWO)))), ZERO))
    assert result(jump, x=1.0).value in (-1, 0, 1)
    p = program(sub(add(ONE, x), ONE), {"x": ""})
    assert evaluate(p, {"x": 1e-200}, cap=100)["value"].value == 0
    assert near(evaluate(p, {"x": 1e-200}, cap=400)["value"].value, mpmath.mpf(1e-200))


def test_more_digits_may_be_asked() -> None:
    got = evaluate(program(call("exp", x), {"x": ""}), {"x": 1.0}, digits=200)["value"].value
    with mp.workdps(250):
        assert abs(got - mp.e) < mp.mpf(10) ** -200


def test_the_callers_precision_is_left_alone() -> None:
    before = mp.prec
    value(call("log", add(ONE, call("exp", x))), x=-800.0)
    assert mp.prec == before


def test_threads_do_not_disturb_each_other() -> None:
    e = sub(add(ONE, call("exp", x)), ONE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda v: value(e, x=-v), [5.0, 700.0] * 20))
    assert len(set(found)) == 2
    assert near(found[0], exactly(lambda: mp.exp(-5))) and near(found[1], exactly(lambda: mp.exp(-700)))


def test_numbers_are_exact_or_those_of_a_dtype() -> None:
    p = program(sub(mul(num("0.1"), num(3)), x), {"x": ""})
    assert evaluate(p, {"x": Fraction(3, 10)})["value"].value == 0
    tenth = program(num("0.1"))
    for dtype in (np.float16, np.float32, np.float64):
        assert float(evaluate(tenth, {}, dtype=dtype)["value"].value) == float(dtype("0.1"))
    midway = Fraction(1) + Fraction(1, 2**24) + Fraction(1, 2**80)  # above the middle of two float32, though its double is the middle
    assert float(evaluate(program(num(midway)), {}, dtype=np.float32)["value"].value) == 1 + 2.0**-23
    given = program(mul(x, ref("a")), {"x": ""}, {"a": Fraction(1, 10)})
    assert near(evaluate(given, {"x": 10})["value"].value, mpmath.mpf(1))
    assert evaluate(given, {"x": 1}, {"a": 0.1})["value"].value == mpmath.mpf(0.1)


def test_inputs_are_taken_exactly_whatever_holds_them() -> None:
    third = exactly(lambda: mp.mpf(1) / 3)
    for given in (0.1, np.float32(0.1), np.float16(0.1), np.int64(3), np.bool_(True), True, 7, Fraction(1, 4), third, np.array(2.5)):
        got = value(x, x=given)
        assert got == third if given is third else float(got) == float(given)
    assert value(red("sum", [i], at("x", i)), x=[10**40, 1, Fraction(-1, 2), third]) > 10**40
    assert value(x, x=10**40 + 1) == 10**40 + 1


# -- depth ------------------------------------------------------------------------------------------------------------


def test_a_chain_of_thousands_of_nodes_evaluates() -> None:
    e = x
    for n in range(1500):
        e = add(mul(e, HALF), call("sin", e)) if n % 2 else sub(e, num(Fraction(1, n + 3)))
    want = exactly(lambda: _chain(mp.mpf(1)), 60)
    assert near(value(e, x=1.0), want)


def _chain(v: Any) -> Any:
    for n in range(1500):
        v = v / 2 + mp.sin(v) if n % 2 else v - mp.mpf(1) / (n + 3)
    return v


def test_branches_and_conditions_nest_deeply() -> None:
    e, c = x, cmp(">", x, ZERO)
    for n in range(300):
        e = pw([(add(e, ONE), c)], num(n))
        c = or_(and_(cmp("<", e, num(-n)), c), not_(cmp("<", e, ZERO)))
    assert value(e, x=1.0) == 301


def test_reductions_nest_deeply() -> None:
    e = x
    for _ in range(60):
        b = fresh(Range(ONE, ONE))
        e = add(red("sum", [b], mul(e, ix(b))), ONE)
    assert value(e, x=1.0) == 61


def test_shared_nodes_are_evaluated_once() -> None:
    e = x
    for _ in range(200):
        e = mul(HALF, add(e, e))
    assert value(e, x=3.0) == 3


# -- functions --------------------------------------------------------------------------------------------------------


def points(row: Any) -> list[list[float]]:
    """Lists of arguments inside the domain: positive ones, and negative ones for a function of one number."""
    out = []
    for inner in ((0.625, 1.75, 0.375, 2.5, 6.0), (2.5, 0.375, 6.0, 0.625, 1.75), (-0.5, -1.5, -7.0)):
        if inner[0] < 0 and row.arity > 1:
            continue
        args = []
        for n, (d, name) in enumerate(zip(row.domain, row.args, strict=True)):
            fits = [v for v in inner if float(d.low) < v < float(d.high)]
            args += [float(round(v)) if name in row.integer else v for v in (fits * row.arity)[n : n + 1]]
        if row.name == "logsubexp":
            args.sort(reverse=True)
        out += [args] if len(args) == row.arity else []
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_mpmath_text_of_a_row_is_its_meaning(name: str) -> None:
    from lossdsl.ir import rows

    row = FUNCTIONS[name]
    meaning = rows.meaning(name, [ref(a) for a in row.args])
    for values in points(row):
        given = dict(zip(row.args, values, strict=True))
        got = evaluate(program(call(name, *(ref(a) for a in row.args)), dict.fromkeys(row.args, "")), given)["value"]
        assert got.converged and not mpmath.isnan(got.value), (name, given)
        if meaning is not None:
            want = evaluate(program(meaning, dict.fromkeys(row.args, "")), given)["value"].value
            assert near(got.value, want) or got.value == want, (name, given)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_outside_the_domain_and_on_nan_a_function_is_nan(name: str) -> None:
    row = FUNCTIONS[name]
    inside = points(row)[0]
    for n, d in enumerate(row.domain):
        outside = [nan]
        outside += [float(d.low) if d.low_open else float(d.low) - 0.5] if d.low != -inf else [-inf] if d.low_open else []
        outside += [float(d.high) if d.high_open else float(d.high) + 0.5] if d.high != inf else [inf] if d.high_open else []
        for v in outside:
            args = [*inside[:n], v, *inside[n + 1 :]]
            assert mpmath.isnan(value(call(name, *(ref(f"a{m}") for m in range(len(args)))), **{f"a{m}": a for m, a in enumerate(args)})), (name, args)


CALLS = [
    ("log", [0], -inf), ("log", [-1], nan), ("sqrt", [-1e-300], nan), ("sqrt", [inf], inf), ("acos", [1.0000001], nan), ("exp", [-inf], 0),
    ("xlogy", [0, 0], 0), ("xlogy", [0, nan], nan), ("xlogy", [2, 0], -inf), ("xlogy", [0, -1], nan), ("xlogdiv", [0, 0, 0], 0), ("xlogdiv", [0, 0, 3], 0),
    ("xlogdiv", [0, 3, 0], 0), ("mul0", [0, inf], 0), ("mul0", [-inf, 0], 0), ("mul0", [0, nan], nan), ("mul0", [3, 4], 12), ("abs", [-inf], inf),
    ("sign", [0], 0), ("sign", [-5], -1), ("max", [3, nan], nan), ("min", [nan, 1], nan), ("relu", [nan], nan), ("floor", [-0.5], -1), ("clip", [5, 0, 1], 1),
    ("sigmoid", [-inf], 0), ("sigmoid", [1e10], 1), ("tanh", [1e300], 1), ("stop", [3], 3), ("exp", [1e7], mpmath.exp(10**7)), ("softplus", [-inf], 0),
    ("logaddexp", [-inf, -inf], -inf), ("cbrt", [-8], -2), ("mod", [-1, 3], 2), ("pow", [-2, 2], 4), ("pow", [-2, 0.5], nan), ("lgamma", [0], inf),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "want"), CALLS)
def test_functions_at_their_ends(name: str, args: list[float], want: float) -> None:
    got = value(call(name, *(ref(f"a{m}") for m in range(len(args)))), **{f"a{m}": a for m, a in enumerate(args)})
    assert same(got, mpmath.mpf(want)) or near(got, mpmath.mpf(want), 12)


def test_max_takes_any_number_of_arguments() -> None:
    assert value(call("max", x, y, z, ONE), x=-1, y=5, z=2) == 5
    assert mpmath.isnan(value(call("min", x, y, z), x=nan, y=5, z=2))


def test_towers_of_exponentials_do_not_hang() -> None:
    e = call("exp", call("exp", call("exp", x)))
    assert value(e, x=20.0) == inf
    assert value(neg(e), x=20.0) == -inf
    assert value(call("exp", neg(call("exp", call("exp", x)))), x=20.0) == 0
    assert near(value(call("log", call("log", call("exp", call("exp", x)))), x=2.0), mpmath.mpf(2))


# -- against formulas of mpmath ---------------------------------------------------------------------------------------

rng = np.random.default_rng(7)
S, T = rng.normal(size=(4, 3)) * 3, rng.normal(size=(4, 3))
LABELS = np.array([2, 0, 1, 2])
M = [[mp.mpf(v) for v in row] for row in S]
U = [[mp.mpf(v) for v in row] for row in T]
a, b, c = fresh("k"), fresh("k"), fresh("d")


def _mean(body: Expr, *over: Index) -> Expr:
    return div(red("sum", over, body), product(size(o.axis) for o in over))


def _cosine(first: str, second: str, p: Index, q: Index) -> Expr:
    def dot(n: str, r: Index, m: str, s: Index) -> Expr:
        return red("sum", [a], mul(at(n, r, a), at(m, s, a)))

    return div(dot(first, p, second, q), call("sqrt", mul(dot(first, p, first, p), dot(second, q, second, q))))


def m_cosine(p: Any, q: Any) -> Any:
    return mp.fdot(p, q) / mp.sqrt(mp.fdot(p, p) * mp.fdot(q, q))


def m_lse(values: Any) -> Any:
    return mp.log(sum((mp.exp(v) for v in values), mp.mpf(0)))


u = sub(at("s", i, a), at("t", i, a))
FORMULAS: dict[str, tuple[Expr, Callable[[], Any]]] = {
    "mse": (_mean(pow_(u, TWO), i, a), lambda: sum((p - q) ** 2 for r, v in zip(M, U, strict=True) for p, q in zip(r, v, strict=True)) / 12),
    "mae": (_mean(call("abs", u), i, a), lambda: sum(abs(p - q) for r, v in zip(M, U, strict=True) for p, q in zip(r, v, strict=True)) / 12),
    "rmse": (call("sqrt", _mean(pow_(u, TWO), i, a)),
             lambda: mp.sqrt(sum((p - q) ** 2 for r, v in zip(M, U, strict=True) for p, q in zip(r, v, strict=True)) / 12)),
    "huber": (_mean(pw([(div(pow_(u, TWO), TWO), cmp("<=", call("abs", u), ONE))], sub(call("abs", u), HALF)), i, a),
              lambda: sum((p - q) ** 2 / 2 if abs(p - q) <= 1 else abs(p - q) - 0.5 for r, v in zip(M, U, strict=True) for p, q in zip(r, v, strict=True)) / 12),
    "cross-entropy": (_mean(sub(red("logsumexp", [a], at("s", i, a)), ref("s", [ix(i), ref("c", [ix(i)])])), i),
                      lambda: sum(m_lse(r) - r[n] for r, n in zip(M, LABELS, strict=True)) / 4),
    "cross-entropy from exp/sum": (_mean(neg(call("log", div(call("exp", ref("s", [ix(i), ref("c", [ix(i)])])), red("sum", [a], call("exp", at("s", i, a)))))), i),
                                   lambda: sum(m_lse(r) - r[n] for r, n in zip(M, LABELS, strict=True)) / 4),
    "one-hot by equality": (_mean(red("sum", [a], pw([(at("s", i, a), cmp("==", ix(a), ref("c", [ix(i)])))], ZERO)), i),
                            lambda: sum(r[n] for r, n in zip(M, LABELS, strict=True)) / 4),
    "kl of softmaxes": (red("sum", [i, a], mul(call("exp", sub(at("s", i, a), red("logsumexp", [b], at("s", i, b)))),
                                               sub(sub(at("s", i, a), red("logsumexp", [b], at("s", i, b))), sub(at("t", i, a), red("logsumexp", [b], at("t", i, b)))))),
                        lambda: sum(mp.exp(p - m_lse(r)) * ((p - m_lse(r)) - (q - m_lse(v))) for r, v in zip(M, U, strict=True) for p, q in zip(r, v, strict=True))),
    "nt-xent": (_mean(sub(red("logsumexp", [j], mul(TWO, _cosine("s", "t", i, j))), mul(TWO, _cosine("s", "t", i, i))), i),
                lambda: sum(m_lse([2 * m_cosine(r, v) for v in U]) - 2 * m_cosine(r, U[n]) for n, r in enumerate(M)) / 4),
    "supcon": (div(red("sum", [i], div(red("sum", [j], sub(red("logsumexp", [k], _cosine("s", "s", i, k), cmp("!=", ix(i), ix(k))), _cosine("s", "s", i, j)),
                                           and_(cmp("!=", ix(i), ix(j)), cmp("==", at("c", i), at("c", j)))),
                                       red("sum", [j], ONE, and_(cmp("!=", ix(i), ix(j)), cmp("==", at("c", i), at("c", j))))),
                       red("any", [j], and_(cmp("!=", ix(i), ix(j)), cmp("==", at("c", i), at("c", j))))), TWO),
               lambda: (m_lse([m_cosine(M[0], M[n]) for n in (1, 2, 3)]) - m_cosine(M[0], M[3]) + m_lse([m_cosine(M[3], M[n]) for n in (0, 1, 2)]) - m_cosine(M[3], M[0])) / 2),
    "triplet with hardest": (_mean(call("relu", add(ONE, sub(red("max", [j], red("norm", [a], sub(at("s", i, a), at("s", j, a))), cmp("==", at("c", i), at("c", j))),
                                                             red("min", [j], red("norm", [a], sub(at("s", i, a), at("s", j, a))), cmp("!=", at("c", i), at("c", j)))))), i),
                             lambda: sum(max(mp.mpf(0), 1 + max(_dist(M[p], M[q]) for q in range(4) if LABELS[p] == LABELS[q])
                                             - min(_dist(M[p], M[q]) for q in range(4) if LABELS[p] != LABELS[q])) for p in range(4)) / 4),
    "nearest codeword": (red("sum", [a], ref("t", [red("argmin", [j], red("sum", [b], pow_(sub(ref("s", [ZERO, ix(b)]), at("t", j, b)), TWO))), ix(a)])),
                         lambda: sum(min(U, key=lambda v: _dist(M[0], v)))),
    "ranks": (red("sum", [i], mul(at("c", i), red("sum", [j], ONE, cmp(">", ref("s", [ix(j), ZERO]), ref("s", [ix(i), ZERO]))))),
              lambda: sum(mp.mpf(int(LABELS[p])) * sum(M[q][0] > M[p][0] for q in range(4)) for p in range(4))),
    "total variation": (red("sum", [i, a], pow_(sub(ref("s", [add(ix(i), ONE), ix(a)]), at("s", i, a)), TWO), cmp("<", add(ix(i), ONE), size("n"))),
                        lambda: sum((M[p + 1][q] - M[p][q]) ** 2 for p in range(3) for q in range(3))),
}  # fmt: skip


def _dist(p: Any, q: Any) -> Any:
    return mp.sqrt(sum((v - w) ** 2 for v, w in zip(p, q, strict=True)))


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_agree_with_formulas_of_mpmath(name: str) -> None:
    e, formula = FORMULAS[name]
    p = program(e, {"s": "nk", "t": "nk", "c": "n"})
    got = evaluate(p, {"s": S, "t": T, "c": LABELS})["value"]
    assert got.converged
    assert near(got.value, exactly(formula, 60))


def test_rows_are_evaluated_one_by_one() -> None:
    p = program(mul(red("sum", [i], at("x", i)), y), {"x": "n", "y": ""})
    out = evaluate_rows(p, {"x": np.arange(6.0).reshape(3, 2), "y": 2.0}, {}, {"x"})["value"]
    assert [float(v) for v in out.value] == [2, 10, 18] and out.scale.shape == (3,)
    out = evaluate_rows(p, {"x": [[1, 2], [3, 4]], "y": [1, 10]})["value"]
    assert [float(v) for v in out.value] == [3, 70]
    with pytest.raises(LossError, match="differ in length"):
        evaluate_rows(p, {"x": [[1, 2], [3, 4]], "y": [1]})


# -- differences ------------------------------------------------------------------------------------------------------


def test_differences_are_derivatives() -> None:
    e = red("sum", [i], mul(call("sin", at("x", i)), call("exp", at("x", i))))
    data = [1.0, -2.0, 1e-40, 0.0, 30.0]
    got = differences(program(e, {"x": "n"}), {"x": data}, wrt="x")
    for g, v in zip(got, data, strict=True):
        assert near(g, exactly(lambda v=v: mp.exp(v) * (mp.sin(v) + mp.cos(v)), 60), 25)


def test_differences_of_arrays_have_both_shapes() -> None:
    got = differences(program(mul(at("x", N), at("m", N, K)), {"x": "n", "m": "nk"}, over=(N, K)), {"x": [2.0, 3.0], "m": [[1, 2, 3], [4, 5, 6]]}, wrt="x")
    assert got.shape == (2, 3, 2)
    assert abs(got.astype(float)[1, 2] - [0, 6]).max() < 1e-15


def test_kinks_give_the_mean_of_the_sides() -> None:
    for name, want in (("abs", 0), ("relu", 0.5)):
        assert abs(differences(program(call(name, x), {"x": ""}), {"x": 0.0}, wrt="x") - want) < 1e-18


def test_stop_is_constant_in_differences() -> None:
    e = mul(stop(mul(x, y)), x)
    p = program(e, {"x": "", "y": ""})
    assert abs(differences(p, {"x": 3.0, "y": 2.0}, wrt="x") - 6) < 1e-18
    assert abs(differences(p, {"x": 3.0, "y": 2.0}, wrt="y")) < 1e-18
    at_each = red("sum", [i], mul(stop(red("sum", [j], mul(at("x", i), at("x", j)))), at("x", i)))
    data = [1.0, 2.0, 5.0]
    got = differences(program(at_each, {"x": "n"}), {"x": data}, wrt="x")
    assert abs(got.astype(float) - np.array(data) * 8).max() < 1e-15
    inner = stop(pw([(mul(x, x), cmp(">", x, ZERO))], x))
    assert abs(differences(program(mul(inner, x), {"x": ""}), {"x": 0.0}, wrt="x")) < 1e-18


def test_directional_moves_several_inputs_together() -> None:
    e = mul(red("sum", [i], pow_(at("x", i), TWO)), y)
    got = directional(program(e, {"x": "n", "y": ""}), {"x": [1.0, 2.0], "y": 3.0}, {}, {"x": [1.0, -1.0], "y": 0.5})["value"]
    assert abs(got - (-2 * 3 + 5 * 0.5)) < 1e-18
    with pytest.raises(LossError, match="fits no input"):
        directional(program(e, {"x": "n", "y": ""}), {"x": [1.0, 2.0], "y": 3.0}, {}, {"x": 1.0})


def test_a_hyper_parameter_may_be_differentiated() -> None:
    p = program(pow_(x, ref("p")), {"x": ""}, {"p": Fraction(2)})
    assert near(differences(p, {"x": 3.0}, wrt="p"), exactly(lambda: 9 * mp.log(3), 50), 25)


# -- the measure ------------------------------------------------------------------------------------------------------


def lg(v: Any) -> float:
    return float(mpmath.log(v, 2))


SCALES: list[tuple[Expr, dict[str, Any], float, float]] = [  # expression, inputs, scale, noise
    (sub(x, y), {"x": 3.0, "y": 3.0}, 3, 3),
    (mul(sub(x, y), z), {"x": 1.0, "y": 1 - 2.0**-50, "z": 100.0}, 100, 100),
    (pow_(sub(x, y), TWO), {"x": 1000.0, "y": 999.0}, 2000, 2000),
    (call("log", add(ONE, x)), {"x": 2.0**-60}, 1, 1),
    (call("exp", x), {"x": 300.0}, math.exp(300), math.exp(300)),
    (call("exp", div(x, y)), {"x": 300.0, "y": 3.0}, math.exp(100), 100 * math.exp(100)),
    (call("sqrt", sub(x, y)), {"x": 1.0, "y": 1 - 2.0**-40}, 2.0**19, 2.0**19),
    (red("sum", [i], at("x", i)), {"x": [1.0, -8.0, 7.0]}, 8, 8),
    (red("max", [i], sub(at("x", i), y)), {"x": [1.0, 100.0, 5.0], "y": 99.0}, 100, 100),
    (pw([(sub(x, ONE), cmp(">", x, ZERO))], sub(x, num(1000))), {"x": 1.0}, 1, 1),
    (mul(x, y), {"x": 3.0, "y": 5.0}, 15, 15),
    (call("floor", sub(x, y)), {"x": 5.5, "y": 0.5}, 5, 5),
    (div(ONE, sub(x, y)), {"x": 64.0, "y": 63.0}, 64, 64),
    (call("log", call("sigmoid", x)), {"x": 40.0}, math.exp(-40), 1),
    (ref("x"), {"x": 0.0}, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(("e", "given", "scale", "noise"), SCALES)
def test_scale_is_the_largest_summand_times_its_sensitivity(e: Expr, given: dict[str, Any], scale: float, noise: float) -> None:
    got = result(e, **given)
    for found, want in ((got.scale, scale), (got.noise, noise)):
        assert (found == 0) if want == 0 else abs(lg(found) - math.log2(want)) < 0.01


def test_floating_point_is_within_a_few_ulp_of_the_noise() -> None:
    e = div(red("sum", [i], mul(call("exp", mul(at("x", i), y)), sub(at("x", i), y))), red("sum", [i], call("exp", mul(at("x", i), y))))
    for seed in range(20):
        r = np.random.default_rng(seed)
        data, q = r.normal(size=6) * 10, float(r.normal())
        got = (np.exp(data * q) * (data - q)).sum() / np.exp(data * q).sum()
        assert ulps(got, result(e, x=data, y=q), np.float64, "noise") < 8


def test_ulps_counts_units_at_the_scale() -> None:
    r = result(sub(x, y), x=1.0, y=1.0)
    assert ulps(0.0, r) == 0
    assert ulps(2.0**-52, r) == 1
    assert ulps(2.0**-23, r, np.float32) == 1
    one = result(x, x=1.5)
    assert ulps(1.5 + 2.0**-51, one) == 2
    assert ulps(nan, one) == inf and ulps(inf, one) == inf
    assert ulps(nan, result(x, x=nan)) == 0 and ulps(1.0, result(x, x=nan)) == inf
    assert ulps(inf, result(x, x=inf)) == 0 and ulps(-inf, result(x, x=inf)) == inf and ulps(1.0, result(x, x=inf)) == inf
    huge = result(mul(x, x), x=1e200)
    assert ulps(inf, huge) == 0 and ulps(1e300, huge) == inf
    assert ulps(inf, result(x, x=1e39), np.float32) == 0 and ulps(inf, result(x, x=1e39)) == inf
    tiny = result(mul(x, x), x=1e-170)
    assert ulps(0.0, tiny) < 1 and ulps(1e-300, tiny) > 1
    pair = result(at("x", N), (N,), x=[1.0, 2.0])
    assert ulps([1.0, 2.0 + 2.0**-50], pair) == 2
    with pytest.raises(LossError, match="shape"):
        ulps([1.0], pair)


MARGINS: list[tuple[Expr, dict[str, Any], float]] = [  # expression, inputs, margin
    (pw([(ONE, cmp(">", x, y))], ZERO), {"x": 1.0, "y": 1 + 2.0**-52}, inf),  # inputs are compared as they are
    (pw([(ONE, cmp(">", sub(x, y), ZERO))], ZERO), {"x": 3.0, "y": 3.0}, inf),  # and so is what floating point holds exactly
    (pw([(ONE, cmp("<", sub(ONE, x), ONE))], ZERO), {"x": 2.0**-60}, 2.0**-60),
    (pw([(ONE, cmp(">", call("exp", x), y))], ZERO), {"x": 0.0, "y": 1.0}, inf),
    (pw([(ONE, cmp(">", call("exp", x), y))], ZERO), {"x": 1.0, "y": math.e}, 5.3e-17),
    (pw([(ONE, cmp(">", add(call("exp", x), num(1000)), y))], ZERO), {"x": 1.0, "y": 1002.0}, 0.718 / 1002.7),
    (pw([(ONE, cmp(">", x, ZERO)), (TWO, cmp("==", call("exp", x), ONE))], ZERO), {"x": 1.0}, inf),  # what is not looked at is not counted
    (red("argmin", [i], mul(at("x", i), num("0.1"))), {"x": [10.0, 20.0]}, 1),
    (red("argmin", [i], mul(at("x", i), num("0.1"))), {"x": [10.0, 10.0]}, 0),
    (call("floor", div(x, num(3))), {"x": 1.0}, inf),
    (call("floor", mul(x, num("0.1"))), {"x": 30.0}, 2.0**-53),
    (call("floor", mul(x, num("0.1"))), {"x": 35.0}, inf),
    (call("abs", mul(x, num("0.1"))), {"x": 0.0}, inf),  # a kink is no jump
]  # fmt: skip


@pytest.mark.parametrize(("e", "given", "margin"), MARGINS)
def test_the_margin_tells_how_close_a_decision_was(e: Expr, given: dict[str, Any], margin: float) -> None:
    got = result(e, **given).margin
    assert got > 2.0**900 if margin == inf else margin * 0.4 <= got <= margin * 2.5, got


def test_the_margin_is_that_of_the_dtype() -> None:
    p = program(pw([(ONE, cmp("<", sub(ONE, x), ONE))], ZERO), {"x": ""})
    assert evaluate(p, {"x": 2.0**-30}, dtype=np.float64)["value"].margin > 2.0**900
    assert evaluate(p, {"x": 2.0**-30}, dtype=np.float32)["value"].margin < 2.0**-29
    assert list(evaluate_rows(p, {"x": [2.0**-60, 0.5]}, dtype=np.float32)["value"].margin < 1e-6) == [True, False]


def test_true_is_a_guard_like_any_other() -> None:
    assert value(red("sum", [i], at("x", i), TRUE), x=[1, 2]) == value(total([ref("x", [ZERO]), ref("x", [ONE])]), x=[1, 2]) == 3
    assert D.axis == "d"
