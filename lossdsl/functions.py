"""The elementary functions: one row each, all facts as text, and nowhere else.

Every text is in the loss language, over the names in ``args``; ``ir/rows.py`` gives it as expressions. A row is the only home
of what is known about its function: the front end reads ``args``, the gradient ``derivative`` and ``poles``, the analyses
``domain``, ``range``, ``monotone``, ``curvature`` and ``lipschitz``, the printers ``spell`` and ``safe``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import inf

from lossdsl.kinds import NONNEGATIVE, POSITIVE, REAL, UNIT, Interval


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one function.

    ``meaning``     the function by more basic ones; None for a primitive
    ``derivative``  one text per argument, None where it is zero; at a kink the mean of the pieces that meet there
    ``kinks``       where it is not differentiable although the slopes stay finite (jumps count)
    ``poles``       where a derivative is infinite
    ``domain``      one interval per argument, outside of which the value is NaN; an end at infinity is closed if the value
                    there is the limit
    ``range``       encloses the values at finite arguments; at infinite ones the ends are taken on
    ``monotone``    per argument, the others fixed: ``increasing`` (never falls), ``decreasing`` or None
    ``curvature``   in all arguments together, over the domain: ``convex``, ``concave``, ``affine`` or None
    ``lipschitz``   per argument, the least constant that holds whatever the others are, as exact text; None if there is none
                    or it has no closed form
    ``spell``       backend -> template, a printer puts brackets where an argument needs them; ``{f}`` in C is the suffix of the
                    precision. A backend without a spelling uses ``safe``
    ``safe``        numerically good text for backends; if None, ``meaning`` is good as it stands
    ``rules``       rewrites ``lhs -> rhs`` that hold everywhere
    ``integer``     names of the arguments that are whole numbers
    ``variadic``    two arguments or more, in any order and grouping
    """

    name: str
    args: tuple[str, ...]
    doc: str
    meaning: str | None = None
    derivative: tuple[str | None, ...] = (None,)
    kinks: str | None = None
    poles: str | None = None
    domain: tuple[Interval, ...] = (REAL,)
    range: Interval = REAL
    monotone: tuple[str | None, ...] = (None,)
    curvature: str | None = None
    lipschitz: tuple[str | None, ...] = (None,)
    spell: dict[str, str] = field(default_factory=dict)
    safe: str | None = None
    rules: tuple[str, ...] = ()
    integer: tuple[str, ...] = ()
    variadic: bool = False

    def __post_init__(self) -> None:
        n = len(self.args)
        for fact in ("derivative", "domain", "monotone", "lipschitz"):
            value = getattr(self, fact)
            if len(value) == 1 and n > 1:
                object.__setattr__(self, fact, value * n)
            assert len(getattr(self, fact)) == n, (self.name, fact)

    @property
    def arity(self) -> int:
        return len(self.args)


def _between(low: Fraction | float, high: Fraction | float, ends: str = "[]") -> Interval:
    """An interval whose ends are closed or open as ``ends`` draws them."""
    return Interval(low if low == -inf else Fraction(low), high if high == inf else Fraction(high), ends[0] == "(", ends[1] == ")")


ALL = _between(-inf, inf)
ABOVE = _between(-inf, inf, "(]")
FROM_0 = _between(0, inf)
ABOVE_0 = _between(0, inf, "(]")
OPEN_UNIT = _between(0, 1, "()")
SYMMETRIC = _between(-1, 1)
UP, DOWN = "increasing", "decreasing"


def _spell(name: str, args: str = "{x}", **other: str) -> dict[str, str]:
    """The same name in all backends but for those given; an empty one is left out."""
    spell = {"numpy": f"np.{name}({args})", "torch": f"torch.{name}({args})", "c": f"{name}{{f}}({args})", "mpmath": f"mp.{name}({args})"}
    return {backend: text for backend, text in (spell | other).items() if text}


# C's own hypot(inf, NaN) is inf; the larger is scaled out by hand
_LARGE, _SMALL = "max(abs(x), abs(y))", "min(abs(x), abs(y))"
_HYPOT = f"piecewise({_LARGE} if {_LARGE} == 0 or {_LARGE} == inf, {_LARGE}*sqrt(1 + ({_SMALL}/{_LARGE})^2) otherwise)"

# erfc(x)*exp(x^2) for large x, where mpmath's own erfc overflows
_ERFCX = "mp.hyperu(0.5, 0.5, {0}*{0})/mp.sqrt(mp.pi)"

# Beyond 10 the gamma function's derivatives have short asymptotic series; a smaller argument is moved there.
_MOVED = "piecewise(x + 10 if x < 10, x otherwise)"
_DIGAMMA = (
    f"log({_MOVED}) - 1/(2*{_MOVED}) - "
    + " - ".join(f"{c}/{_MOVED}^{2*k}" for k, c in enumerate(("1/12", "(-1/120)", "1/252", "(-1/240)", "1/132", "(-691/32760)", "1/12"), 1))
    + " - piecewise(" + " + ".join(f"1/(x + {k})" for k in range(10)) + " if x < 10, 0 otherwise)"
)  # fmt: skip
_TRIGAMMA = (
    f"1/{_MOVED} + 1/(2*{_MOVED}^2) + "
    + " + ".join(f"{c}/{_MOVED}^{2*k + 1}" for k, c in enumerate(("1/6", "(-1/30)", "1/42", "(-1/30)", "5/66", "(-691/2730)", "7/6"), 1))
    + " + piecewise(" + " + ".join(f"1/(x + {k})^2" for k in range(10)) + " if x < 10, 0 otherwise)"
)  # fmt: skip

_ROWS = (
    # -- exponentials and logarithms --------------------------------------------------------------------------------
    Row("exp", ("x",), "the exponential", derivative=("exp(x)",), domain=(ALL,), range=POSITIVE, monotone=(UP,), curvature="convex",
        spell=_spell("exp")),
    Row("log", ("x",), "the natural logarithm", derivative=("1/x",), poles="x == 0", domain=(FROM_0,), monotone=(UP,),
        curvature="concave", spell=_spell("log")),
    Row("log1p", ("x",), "log(1 + x), accurate near 0", "log(1 + x)", ("1/(1 + x)",), poles="x == -1", domain=(_between(-1, inf),),
        monotone=(UP,), curvature="concave", spell=_spell("log1p")),
    Row("expm1", ("x",), "exp(x) - 1, accurate near 0", "exp(x) - 1", ("exp(x)",), domain=(ALL,), range=_between(-1, inf, "()"),
        monotone=(UP,), curvature="convex", spell=_spell("expm1")),
    Row("log2", ("x",), "the binary logarithm", "log(x)/log(2)", ("1/(x*log(2))",), poles="x == 0", domain=(FROM_0,), monotone=(UP,),
        curvature="concave", spell=_spell("log2", mpmath="mp.log({x}, 2)")),
    Row("log10", ("x",), "the decimal logarithm", "log(x)/log(10)", ("1/(x*log(10))",), poles="x == 0", domain=(FROM_0,),
        monotone=(UP,), curvature="concave", spell=_spell("log10", mpmath="mp.log10({x})")),
    Row("log1mexp", ("x",), "log(1 - exp(x)) for x <= 0", "log(1 - exp(x))", ("-1/abs(expm1(-x))",), poles="x == 0",
        domain=(_between(-inf, 0),), range=_between(-inf, 0, "()"), monotone=(DOWN,), curvature="concave",
        spell={"mpmath": "(mp.log(-mp.expm1({x})) if {x} > -1 else mp.log1p(-mp.exp({x})))"},
        safe="piecewise(log(-expm1(x)) if x > -log(2), log1p(-exp(x)) otherwise)"),
    Row("logaddexp", ("a", "b"), "log(exp(a) + exp(b))", "log(exp(a) + exp(b))", ("sigmoid(a - b)", "sigmoid(b - a)"),
        domain=(ALL,), monotone=(UP,), curvature="convex", lipschitz=("1",),
        spell={"mpmath": "(max({a}, {b}) + mp.log1p(mp.exp(-abs({a} - {b}))) if {a} != {b} else {a} + mp.log(2))",
               "numpy": "np.logaddexp({a}, {b})", "torch": "torch.logaddexp({a}, {b})"},
        safe="piecewise(max(a, b) + log1p(exp(-abs(a - b))) if a != b, a + log(2) otherwise)"),
    Row("logsubexp", ("a", "b"), "log(exp(a) - exp(b)) for a >= b", "log(exp(a) - exp(b))",
        ("1/abs(expm1(b - a))", "-1/abs(expm1(a - b))"), poles="a == b", domain=(ALL,), monotone=(UP, DOWN),
        curvature="concave",
        spell={"mpmath": "({a} + (mp.log(-mp.expm1({b} - {a})) if {b} - {a} > -1 else mp.log1p(-mp.exp({b} - {a})))"
                         " if {a} > {b} else -mp.inf if {a} == {b} < mp.inf else mp.nan)"},
        safe="piecewise(-inf if a == b and a < inf, a + log1mexp(b - a) otherwise)"),
    # -- powers and roots --------------------------------------------------------------------------------------------
    Row("pow", ("x", "y"), "x^y; 0^0 is 1, a negative base takes integer exponents only", None,
        ("mul0(y, x^(y - 1))", "xlogy(x^y, x)"), poles="x == 0 and y < 1", domain=(ALL,),
        spell={"numpy": "np.power({x}, {y})", "torch": "torch.pow({x}, {y})", "c": "pow{f}({x}, {y})", "mpmath": "mp.power({x}, {y})"}),
    Row("sqrt", ("x",), "the square root", "x^(1/2)", ("1/(2*sqrt(x))",), poles="x == 0", domain=(FROM_0,), range=NONNEGATIVE,
        monotone=(UP,), curvature="concave", spell=_spell("sqrt")),
    Row("cbrt", ("x",), "the cube root, of negative numbers too", "sign(x)*abs(x)^(1/3)", ("1/(3*cbrt(x)^2)",), poles="x == 0",
        domain=(ALL,), monotone=(UP,),
        spell=_spell("cbrt", torch="", mpmath="(mp.cbrt({x}) if {x} >= 0 else -mp.cbrt(-{x}))"),
        # a power with the rounded exponent 1/3 is off by many ulp at the ends of the range: one step of Newton's method mends it
        safe="piecewise(x if x == 0 or abs(x) == inf, sign(x)*(abs(x)^(1/3) - (abs(x)^(1/3) - abs(x)/(abs(x)^(1/3))^2)/3) otherwise)"),
    Row("sqrt1pm1", ("x",), "sqrt(1 + x) - 1, accurate near 0", "sqrt(1 + x) - 1", ("1/(2*sqrt(1 + x))",), poles="x == -1",
        domain=(_between(-1, inf),), range=_between(-1, inf, "[)"), monotone=(UP,), curvature="concave",
        spell={"mpmath": "mp.expm1(mp.log1p({x})/2)"},
        safe="piecewise(x/(1 + sqrt(1 + x)) if x < 1, sqrt(1 + x) - 1 otherwise)"),
    Row("hypot1m1", ("x",), "sqrt(1 + x^2) - 1, accurate near 0 and without overflow", "sqrt(1 + x^2) - 1", ("x/hypot(1, x)",),
        domain=(ALL,), range=NONNEGATIVE, curvature="convex", lipschitz=("1",), spell={"mpmath": "mp.expm1(mp.log1p({x}*{x})/2)"},
        # far out the root of 1 + x^2 is x to the last digit
        safe="piecewise(x^2/(1 + sqrt(1 + x^2)) if abs(x) < 10^9, abs(x) - 1 otherwise)", rules=("hypot1m1(-x) -> hypot1m1(x)",)),
    Row("hypot", ("x", "y"), "sqrt(x^2 + y^2), without overflow", "sqrt(x^2 + y^2)",
        ("piecewise(0 if x == 0 and y == 0, x/hypot(x, y) otherwise)", "piecewise(0 if x == 0 and y == 0, y/hypot(x, y) otherwise)"),
        kinks="x == 0 and y == 0", domain=(ALL,), range=NONNEGATIVE, curvature="convex", lipschitz=("1",),
        spell={"mpmath": "mp.hypot({x}, {y})"}, safe=_HYPOT),
    # -- pieces -------------------------------------------------------------------------------------------------------
    Row("abs", ("x",), "the absolute value", "piecewise(x if x > 0, -x otherwise)", ("sign(x)",), kinks="x == 0", domain=(ALL,),
        range=NONNEGATIVE, curvature="convex", lipschitz=("1",),
        spell={"numpy": "np.abs({x})", "torch": "torch.abs({x})", "c": "fabs{f}({x})", "mpmath": "abs({x})"},
        rules=("abs(-x) -> abs(x)",)),
    Row("sign", ("x",), "-1, 0 or 1", "piecewise(1 if x > 0, 0 if x == 0, -1 if x < 0)", kinks="x == 0", domain=(ALL,),
        range=SYMMETRIC, monotone=(UP,),
        spell={"numpy": "np.sign({x})", "mpmath": "mp.sign({x})"}),
    Row("relu", ("x",), "max(x, 0)", "max(x, 0)", ("piecewise(1 if x > 0, 1/2 if x == 0, 0 if x < 0)",), kinks="x == 0", domain=(ALL,),
        range=NONNEGATIVE, monotone=(UP,), curvature="convex", lipschitz=("1",),
        spell={"numpy": "{x}.clip(0, np.inf)", "torch": "torch.relu({x})", "mpmath": "max({x}, mp.zero)"}),
    Row("max", ("a", "b"), "the largest", "piecewise(a if a > b, b if a <= b)",
        ("piecewise(1 if a > b, 1/2 if a == b, 0 if a < b)", "piecewise(0 if a > b, 1/2 if a == b, 1 if a < b)"), kinks="a == b",
        domain=(ALL,), monotone=(UP,), curvature="convex", lipschitz=("1",), variadic=True,
        spell={"numpy": "np.maximum({a}, {b})", "torch": "torch.maximum({a}, {b})", "mpmath": "max({a}, {b})"}),
    Row("min", ("a", "b"), "the smallest", "piecewise(a if a < b, b if a >= b)",
        ("piecewise(0 if a > b, 1/2 if a == b, 1 if a < b)", "piecewise(1 if a > b, 1/2 if a == b, 0 if a < b)"), kinks="a == b",
        domain=(ALL,), monotone=(UP,), curvature="concave", lipschitz=("1",), variadic=True,
        spell={"numpy": "np.minimum({a}, {b})", "torch": "torch.minimum({a}, {b})", "mpmath": "min({a}, {b})"}),
    Row("clip", ("x", "lo", "hi"), "x held between lo and hi", "min(max(x, lo), hi)",
        ("piecewise(0 if x < lo or x > hi, 1 if lo < x and x < hi, 1/2 if lo < hi, 1/4 if lo == hi)",
         "piecewise(0 if x > lo or lo > hi, 1 if x < lo and lo < hi, 1/2 if x < lo or lo < hi, 1/4 if lo == hi)",
         "piecewise(0 if max(x, lo) < hi, 1/2 if max(x, lo) == hi, 1 if max(x, lo) > hi)"),
        kinks="x == lo or max(x, lo) == hi", domain=(ALL,), monotone=(UP,), lipschitz=("1",), spell={"numpy": "{x}.clip({lo}, {hi})"}),
    Row("floor", ("x",), "the greatest integer below or equal", kinks="x == floor(x)", domain=(ALL,), monotone=(UP,),
        spell=_spell("floor")),
    Row("ceil", ("x",), "the least integer above or equal", "-floor(-x)", kinks="x == ceil(x)", domain=(ALL,), monotone=(UP,),
        spell=_spell("ceil")),
    Row("mod", ("a", "b"), "the remainder with the sign of b, as in Python", "a - b*floor(a/b)", ("1", "-floor(a/b)"),
        kinks="a/b == floor(a/b)",
        spell={"numpy": "np.mod({a}, np.where(np.isfinite({b}), {b}, np.nan))",
               "torch": "torch.remainder({a}, torch.where(torch.isfinite({b}), {b}, float('nan')))"}),
    # -- trigonometric and hyperbolic ---------------------------------------------------------------------------------
    Row("sin", ("x",), "the sine", derivative=("cos(x)",), range=SYMMETRIC, lipschitz=("1",), spell=_spell("sin")),
    Row("cos", ("x",), "the cosine", derivative=("-sin(x)",), range=SYMMETRIC, lipschitz=("1",), spell=_spell("cos"),
        rules=("cos(-x) -> cos(x)",)),
    Row("tan", ("x",), "the tangent", "sin(x)/cos(x)", ("1 + tan(x)^2",), spell=_spell("tan")),
    Row("asin", ("x",), "the inverse sine", derivative=("1/sqrt((1 - x)*(1 + x))",), poles="abs(x) == 1", domain=(SYMMETRIC,),
        range=_between(Fraction(-11, 7), Fraction(11, 7)), monotone=(UP,), spell=_spell("asin", numpy="np.arcsin({x})")),
    Row("acos", ("x",), "the inverse cosine", derivative=("-1/sqrt((1 - x)*(1 + x))",), poles="abs(x) == 1", domain=(SYMMETRIC,),
        range=_between(0, Fraction(22, 7)), monotone=(DOWN,), spell=_spell("acos", numpy="np.arccos({x})")),
    Row("atan", ("x",), "the inverse tangent", derivative=("1/(1 + x^2)",), domain=(ALL,),
        range=_between(Fraction(-11, 7), Fraction(11, 7), "()"), monotone=(UP,), lipschitz=("1",),
        spell=_spell("atan", numpy="np.arctan({x})")),
    Row("atan2", ("y", "x"), "the angle of the point (x, y); of two infinities as IEEE 754 has it",
        derivative=("x/hypot(x, y)/hypot(x, y)", "-y/hypot(x, y)/hypot(x, y)"),
        kinks="y == 0 and x < 0", poles="x == 0 and y == 0", domain=(ALL,), range=_between(Fraction(-22, 7), Fraction(22, 7)),
        spell=_spell("atan2", "{y}, {x}", numpy="np.arctan2({y}, {x})",
                     mpmath="mp.atan2(*((mp.sign({y}), mp.sign({x})) if mp.isinf({y}) and mp.isinf({x}) else ({y}, {x})))")),
    Row("sinh", ("x",), "the hyperbolic sine", "(exp(x) - exp(-x))/2", ("cosh(x)",), domain=(ALL,), monotone=(UP,), spell=_spell("sinh")),
    Row("cosh", ("x",), "the hyperbolic cosine", "(exp(x) + exp(-x))/2", ("sinh(x)",), domain=(ALL,), range=_between(1, inf, "[)"),
        curvature="convex", spell=_spell("cosh"), rules=("cosh(-x) -> cosh(x)",)),
    Row("tanh", ("x",), "the hyperbolic tangent", "sinh(x)/cosh(x)", ("1/cosh(x)^2",), domain=(ALL,), range=_between(-1, 1, "()"),
        monotone=(UP,), lipschitz=("1",), spell=_spell("tanh")),
    Row("asinh", ("x",), "the inverse hyperbolic sine", derivative=("1/hypot(1, x)",), domain=(ALL,), monotone=(UP,), lipschitz=("1",),
        spell=_spell("asinh", numpy="np.arcsinh({x})")),
    Row("acosh", ("x",), "the inverse hyperbolic cosine", derivative=("1/(sqrt(x - 1)*sqrt(x + 1))",), poles="x == 1",
        domain=(_between(1, inf),), range=NONNEGATIVE, monotone=(UP,), curvature="concave",
        spell=_spell("acosh", numpy="np.arccosh({x})")),
    Row("atanh", ("x",), "the inverse hyperbolic tangent", derivative=("1/((1 - x)*(1 + x))",), poles="abs(x) == 1",
        domain=(SYMMETRIC,), monotone=(UP,), spell=_spell("atanh", numpy="np.arctanh({x})")),
    # -- the logistic family ------------------------------------------------------------------------------------------
    Row("sigmoid", ("x",), "1/(1 + exp(-x))", "1/(1 + exp(-x))", ("sigmoid(x)*sigmoid(-x)",), domain=(ALL,), range=OPEN_UNIT,
        monotone=(UP,), lipschitz=("1/4",), spell={"numpy": "(1/(1 + np.exp(-({x}))))", "torch": "torch.sigmoid({x})"},
        # shares its exponential with softplus and bce_with_logits
        safe="piecewise(1 if x > 0, exp(-abs(x)) otherwise)/(1 + exp(-abs(x)))"),
    Row("logit", ("p",), "log(p/(1 - p)), the inverse of sigmoid", "log(p/(1 - p))", ("1/(p*(1 - p))",), poles="p == 0 or p == 1",
        domain=(UNIT,), monotone=(UP,), spell={"mpmath": "(mp.log({p}) - mp.log(1 - {p}))"},
        safe="piecewise(log1p((2*p - 1)/(1 - p)) if 1/4 < p and p < 3/4, log(p) - log1p(-p) otherwise)"),
    Row("softplus", ("x",), "log(1 + exp(x)), a smooth relu", "log(1 + exp(x))", ("sigmoid(x)",), domain=(ALL,), range=POSITIVE,
        monotone=(UP,), curvature="convex", lipschitz=("1",), spell={"mpmath": "mp.log1p(mp.exp({x}))"},
        safe="max(x, 0) + log1p(exp(-abs(x)))"),
    Row("logsigmoid", ("x",), "log(sigmoid(x))", "log(sigmoid(x))", ("sigmoid(-x)",), domain=(ALL,), range=_between(-inf, 0, "()"),
        monotone=(UP,), curvature="concave", lipschitz=("1",), spell={"mpmath": "(-mp.log1p(mp.exp(-{x})))"},
        safe="min(x, 0) - log1p(exp(-abs(x)))"),
    Row("log_cosh", ("x",), "log(cosh(x))", "log(cosh(x))", ("tanh(x)",), domain=(ALL,), range=NONNEGATIVE, curvature="convex",
        lipschitz=("1",), spell={"mpmath": "mp.log1p(2*mp.sinh({x}/2)**2)"}, rules=("log_cosh(-x) -> log_cosh(x)",),
        # with t = exp(-|x|) - 1: cosh(x) - 1 = t^2/(2*(1 + t)) near 0, cosh(x) = exp(|x|)*(1 + (1 + t)^2)/2 elsewhere
        safe="log1p(piecewise(expm1(-abs(x))^2/(2*(1 + expm1(-abs(x)))) if abs(x) < 2, (1 + expm1(-abs(x)))^2 otherwise))"
             " + piecewise(0 if abs(x) < 2, abs(x) - log(2) otherwise)"),
    Row("bce_with_logits", ("s", "t"), "binary cross-entropy of the logit s with the target t", "softplus(s) - t*s",
        ("sigmoid(s) - t", "-s"), domain=(ALL, REAL),
        spell={"mpmath": "(mp.log1p(mp.exp(-abs({s}))) + ((1 - {t} if {s} > 0 else {t})*abs({s}) if {t} != ({s} > 0) else 0))"},
        # the weight that stands against |s| is exactly 0 for a right answer, so the small rest keeps its digits
        safe="log1p(exp(-abs(s))) + piecewise(0 if t == (s > 0), ((s > 0) - t)*s otherwise)"),
    Row("softsign", ("x",), "x/(1 + abs(x))", "x/(1 + abs(x))", ("1/(1 + abs(x))^2",), range=_between(-1, 1, "()"), monotone=(UP,),
        lipschitz=("1",)),
    Row("silu", ("x",), "x*sigmoid(x)", "x*sigmoid(x)", ("sigmoid(x)*(1 + x*sigmoid(-x))",), domain=(ABOVE,),
        range=_between(Fraction(-2785, 10000), inf, "[)")),
    Row("elu", ("x",), "x above 0, exp(x) - 1 below", "piecewise(x if x > 0, expm1(x) otherwise)",
        ("piecewise(1 if x > 0, exp(x) otherwise)",), domain=(ALL,), range=_between(-1, inf, "()"), monotone=(UP,), curvature="convex",
        lipschitz=("1",)),
    # -- the normal distribution ---------------------------------------------------------------------------------------
    Row("erf", ("x",), "the error function", derivative=("2/sqrt(pi)*exp(-x^2)",), domain=(ALL,), range=_between(-1, 1, "()"),
        monotone=(UP,), lipschitz=("2/sqrt(pi)",), spell=_spell("erf", numpy="special.erf({x})")),
    Row("erfc", ("x",), "1 - erf(x), accurate far out", "1 - erf(x)", ("-2/sqrt(pi)*exp(-x^2)",), domain=(ALL,),
        range=_between(0, 2, "()"), monotone=(DOWN,), lipschitz=("2/sqrt(pi)",),
        spell=_spell("erfc", numpy="special.erfc({x})",
                     mpmath="(mp.erfc({x}) if {x} < 1000 or {x} == mp.inf else mp.exp(-{x}*{x})*" + _ERFCX.format("{x}") + ")")),
    Row("erfcx", ("x",), "exp(x^2)*erfc(x)", "exp(x^2)*erfc(x)", ("2*x*erfcx(x) - 2/sqrt(pi)",), domain=(ALL,), range=POSITIVE,
        monotone=(DOWN,), curvature="convex",
        spell={"numpy": "special.erfcx({x})", "torch": "torch.special.erfcx({x})",
               "mpmath": "(mp.exp({x}*{x})*mp.erfc({x}) if {x} < 1000 else 1/{x} if {x} == mp.inf else " + _ERFCX.format("{x}") + ")"}),
    Row("normal_cdf", ("x",), "the standard normal distribution function", "erfc(-x/sqrt(2))/2", ("exp(-x^2/2)/sqrt(2*pi)",),
        domain=(ALL,), range=OPEN_UNIT, monotone=(UP,), lipschitz=("1/sqrt(2*pi)",),
        spell={"numpy": "special.ndtr({x})",
               "mpmath": "(mp.erfc(-{x}/mp.sqrt(2))/2 if {x} > -1000 or {x} == -mp.inf"
                         " else mp.exp(-{x}*{x}/2)*" + _ERFCX.format("({x}/mp.sqrt(2))") + "/2)"}),
    Row("log_normal_cdf", ("x",), "log(normal_cdf(x))", "log(normal_cdf(x))", ("sqrt(2/pi)/erfcx(-x/sqrt(2))",), domain=(ALL,),
        range=_between(-inf, 0, "()"), monotone=(UP,), curvature="concave",
        spell={"numpy": "special.log_ndtr({x})", "torch": "torch.special.log_ndtr({x})",
               "mpmath": "(mp.log1p(-mp.erfc({x}/mp.sqrt(2))/2) if 0 < {x} < 1000 else -mp.exp(-{x}*{x}/2) if {x} > 0"
                         " else mp.log(mp.erfc(-{x}/mp.sqrt(2))/2) if {x} > -1000 or {x} == -mp.inf"
                         " else -{x}*{x}/2 + mp.log(" + _ERFCX.format("({x}/mp.sqrt(2))") + "/2))"}),
    Row("gelu", ("x",), "x*normal_cdf(x)", "x*normal_cdf(x)", ("normal_cdf(x) + x*exp(-x^2/2)/sqrt(2*pi)",), domain=(ABOVE,),
        range=_between(Fraction(-17, 100), inf, "[)")),
    # -- the gamma function, on the positive numbers --------------------------------------------------------------------
    Row("lgamma", ("x",), "the logarithm of the gamma function, x >= 0", derivative=("digamma(x)",), poles="x == 0", domain=(FROM_0,),
        range=_between(Fraction(-122, 1000), inf, "[)"), curvature="convex",
        spell={"numpy": "special.gammaln(np.where({x} >= 0, {x}, np.nan))",
               "torch": "torch.lgamma(torch.where({x} >= 0, {x}, float('nan')))",
               "c": "({x} >= 0 ? lgamma{f}({x}) : NAN)", "mpmath": "(mp.loggamma({x}) if {x} else mp.inf)"}),
    Row("digamma", ("x",), "the derivative of lgamma, x > 0", derivative=("trigamma(x)",), domain=(ABOVE_0,), monotone=(UP,),
        curvature="concave",
        spell={"numpy": "special.psi(np.where({x} > 0, {x}, np.nan))",
               "torch": "torch.digamma(torch.where({x} > 0, {x}, float('nan')))", "mpmath": "mp.digamma({x})"},
        safe=f"piecewise({_DIGAMMA} if x > 0)"),
    Row("trigamma", ("x",), "the derivative of digamma, x > 0", "zeta(2, x)", ("polygamma(2, x)",), domain=(ABOVE_0,),
        range=POSITIVE, monotone=(DOWN,), curvature="convex",
        spell={"mpmath": "(mp.psi(1, {x}) if {x} < mp.inf else mp.zero)"}, safe=f"piecewise({_TRIGAMMA} if x > 0)"),
    Row("polygamma", ("n", "x"), "the n-th derivative of digamma, x > 0",
        "piecewise(digamma(x) if n == 0, (-1)^(n + 1)*exp(lgamma(n + 1))*zeta(n + 1, x) otherwise)", (None, "polygamma(n + 1, x)"),
        domain=(NONNEGATIVE, ABOVE_0), integer=("n",),
        spell={"mpmath": "(mp.psi(int({n}), {x}) if {x} < mp.inf else mp.zero if {n} else mp.inf)"}),
    Row("zeta", ("s", "q"), "the Hurwitz zeta function, s >= 1 and q > 0; in floating point good for moderate s",
        derivative=(None, "-s*zeta(s + 1, q)"), poles="s == 1", domain=(_between(1, inf, "[)"), ABOVE_0), range=POSITIVE,
        monotone=(None, DOWN), integer=("s",),
        spell={"numpy": "np.where({q} > 0, special.zeta({s}, {q}), np.nan)",
               "torch": "torch.where({q} > 1e6, {q}**(1 - {s})*(1/({s} - 1) + 1/(2*{q})),"
                        " torch.where({q} > 0, torch.special.zeta({s}, {q}), float('nan')))",
               "mpmath": "(mp.inf if {s} == 1 else mp.zeta({s}, {q}) if {q} < mp.inf else mp.zero)"}),
    # -- products in which an exact 0 wins ---------------------------------------------------------------------------
    Row("xlogy", ("x", "y"), "x*log(y), and 0 if x is 0", "piecewise(0 if x == 0 and y >= 0, x*log(y) otherwise)",
        ("log(y)", "piecewise(0 if x == 0 and y >= 0, x/y otherwise)"), poles="y == 0", domain=(ALL, FROM_0)),
    Row("logdiv", ("a", "b"), "log(a/b), accurate near 1 and without overflow", "log(a/b)", ("1/a", "-1/b"), poles="a == 0 or b == 0",
        domain=(ALL,),
        safe="piecewise(log1p((a - b)/b) if abs(a - b) < abs(b)/2, log(a/b) if 2^(-100) < a/b and a/b < 2^100,"
             " log(abs(a)) - log(abs(b)) if sign(a)*sign(b) > 0 or a == 0 or abs(b) == inf or a > 0 and b == 0)"),
    Row("xlogdiv", ("x", "a", "b"), "x*log(a/b), and 0 if x is 0",
        "piecewise(0 if x == 0 and a >= 0 and b >= 0, x*logdiv(a, b) otherwise)",
        ("logdiv(a, b)", "piecewise(0 if x == 0 and a >= 0, x/a otherwise)", "piecewise(0 if x == 0 and b >= 0, -x/b otherwise)"),
        poles="a == 0 or b == 0", domain=(ALL,)),
    Row("mul0", ("a", "b"), "a*b, and 0 if one is 0 and the other infinite",
        "piecewise(0 if a == 0 and abs(b) == inf or b == 0 and abs(a) == inf, a*b otherwise)", ("b", "a"),
        poles="abs(a) == inf or abs(b) == inf", domain=(ALL,)),
    Row("stop", ("x",), "x, through which no derivative flows", "x", domain=(ALL,), monotone=(UP,), curvature="affine", lipschitz=("1",),
        spell={"numpy": "{x}", "torch": "{x}.detach()", "c": "{x}", "mpmath": "{x}"}),
)

FUNCTIONS: dict[str, Row] = {row.name: row for row in _ROWS}

ALIASES: dict[str, str] = {
    "logcosh": "log_cosh", "log_sigmoid": "logsigmoid", "Phi": "normal_cdf", "expit": "sigmoid", "gammaln": "lgamma",
    "clamp": "clip", "swish": "silu",
}  # fmt: skip


def find(name: str) -> Row | None:
    """The row of a function by its name or an alias."""
    return FUNCTIONS.get(ALIASES.get(name, name))
