"""Programs as LaTeX equations, as papers set them, for reading only.

What is needed is ``amsmath``. An index that a norm, a softmax or a cosine runs over is left out where what is inside is a vector:
linear in the entries of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from lossdsl.ir import rows
from lossdsl.ir.applied import is_applied
from lossdsl.ir.expr import NAN, ONE, TRUE, ZERO, Expr, Index, Range, branches, conjuncts, ix, outside, postorder
from lossdsl.ir.present import Local, Names, Scope, Step, comparisons, recursions, reserved, run, share, sugar
from lossdsl.ir.program import Output, Program
from lossdsl.ir.slopes import Variable, named
from lossdsl.ir.text import number

OR, AND, SUM, BIG, PRODUCT, POWER, ATOM = range(7)
Request = tuple[Any, ...]
Shown = Generator[Request, str, tuple[str, int]]

GREEK = frozenset(
    {
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi",
        "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma",
        "Phi", "Psi", "Omega",
    }
)  # fmt: skip
# The letters themselves may stand in names; those that look like Latin ones have no command.
_LETTERS = dict(
    zip(
        "αβγδεζηθικλμνξπρςστυφχψωΓΔΘΛΞΠΣΥΦΨΩ",
        (
            *(rf"\{x}" for x in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu")),
            *(rf"\{x}" for x in ("nu", "xi", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega")),
            *(rf"\{x}" for x in ("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega")),
        ),
        strict=True,
    )
) | dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
SHORT = {"eps": r"\varepsilon", "lam": r"\lambda"}
ACCENTS = {"hat": r"\hat", "bar": r"\bar", "tilde": r"\tilde"}
# Functions whose single argument stands without brackets if it is short; their powers are written as sin^2(x).
NAMED = {
    name: rf"\{name}" for name in ("log", "sin", "cos", "tan", "sinh", "cosh", "tanh")
} | {
    "asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan", "log2": r"\log_{2}", "log10": r"\log_{10}", "lgamma": r"\log\Gamma",
}  # fmt: skip
FUNCTIONS = {
    "max": r"\max", "min": r"\min", "sigmoid": r"\sigma", "normal_cdf": r"\Phi", "digamma": r"\psi", "trigamma": r"\psi'", "zeta": r"\zeta",
    "stop": r"\operatorname{sg}",
}  # fmt: skip
FENCES = {
    "abs": ("|", "|"), "floor": (r"\lfloor ", r"\rfloor"), "ceil": (r"\lceil ", r"\rceil"), "relu": ("[", "]_{+}"),
}  # fmt: skip
# Functions that are known better by others.
SPELLED = ("log1p", "expm1", "hypot", "sqrt1pm1", "hypot1m1", "logsigmoid", "log_cosh", "bce_with_logits", "log_normal_cdf", "log1mexp")
SIGNS = {"<": "<", "<=": r"\leq", ">": ">", ">=": r"\geq", "==": "=", "!=": r"\neq"}
_TALL = (r"\frac", r"\sum", r"\prod", r"\begin", r"\substack", r"\operatorname*", r"\sqrt", r"\left")
_LONG = 36  # characters of an exponent beyond which exp is a function


def latex(p: Program) -> str:
    """The equations of a program; several lines (locals, outputs) are aligned at their equals signs."""
    lines = [line for o in p.outputs for line in _equations(p, o)]
    if len(lines) == 1:
        return " = ".join(lines[0])
    return "\\begin{aligned}\n" + " \\\\\n".join(f"{left} &= {right}" for left, right in lines) + "\n\\end{aligned}"


def _equations(p: Program, output: Output) -> list[tuple[str, str]]:
    (root,), variables = named([output.expr], reserved(p))
    shown, *values = sugar([root, *(v.value for v in variables)])
    variables = [replace(v, value=x) for v, x in zip(variables, values, strict=True)]
    writer = _Writer([shown], Names((*p.inputs, *p.params)), Scope({}, reserved(p)), variables)
    own = [(i, writer.scope.name(i)) for i in output.indices]
    left = _left(p, output, [symbol(n) for _, n in own])
    lines = [(left, writer.text(writer.roots[0], writer.scope.bind(own))), *writer.locals()]
    if len(lines) > 1:
        lines[1] = (rf"\text{{where }} {lines[1][0]}", lines[1][1])
    return lines


def _left(p: Program, output: Output, indices: Sequence[str]) -> str:
    """What an equation defines: a function of its inputs, or a derivative of one."""
    of, by = _derivative(output.name, [x.name for x in p.declared])
    if by:
        return _partial(_operator(of), by, indices)
    arguments = ", ".join(symbol(i.name) for i in p.arguments)
    params = [symbol(x) for x in (*(x.name for x in p.params), *(f.name for f in p.functions if f.place is None))]
    if params:
        arguments += "; " + ", ".join(params)
    return f"{_operator(output.name)}{_subscript(indices)}({arguments})"


def _derivative(name: str, known: Sequence[str]) -> tuple[str, list[str]]:
    """What ``df_dx`` and ``df_dx_dy`` are derivatives of, and by what; by nothing where it is no such name."""
    by: list[str] = []
    of = name.removeprefix("d")
    while of != name and len(by) < 2 and (last := next((x for x in known if of.endswith(f"_d{x}")), None)) is not None:
        by.insert(0, last)
        of = of.removesuffix(f"_d{last}")
    return (of, by) if of else (name, [])


def _partial(name: str, by: Sequence[str], indices: Sequence[str]) -> str:
    """A partial derivative; the indices are shared out among what it is by."""
    each = len(indices) // len(by)
    below = [rf"\partial {symbol_at(x, indices[k * each : (k + 1) * each])}" for k, x in enumerate(by)]
    if len(set(below)) == 1 and len(below) == 2:
        below = [f"{below[0]}^{{2}}"]
    power = "^{2}" if len(by) == 2 else ""
    return rf"\frac{{\partial{power} {name}}}{{{' '.join(chr(92) + ', ' + b if k else b for k, b in enumerate(below))}}}"


# -- names ------------------------------------------------------------------------------------------------------------


def symbol(name: str) -> str:
    """A name as mathematicians set it: ``delta`` is a Greek letter, ``yhat`` has a hat, what follows ``_`` and digits are subscripts."""
    if not name:
        return ""
    head, *tail = [part for part in name.split("_") if part] or ["x"]
    digits = re.fullmatch(r"(.*?[^\d])(\d+)", head)
    if digits:
        head, tail = digits[1], [digits[2], *tail]
    if tail and tail[0] in ACCENTS:
        head, tail = head + tail[0], tail[1:]
    return _word(head) + _subscript(_word(t) for t in tail)


def _word(text: str) -> str:
    for accent, command in ACCENTS.items():
        rest = text.removesuffix(accent)
        if rest != text and rest and (len(rest) == 1 or rest in GREEK):
            return f"{command}{{{_word(rest)}}}"
    if text in SHORT:
        return SHORT[text]
    if text in GREEK:
        return rf"\{text}"
    letters = "".join(_LETTERS.get(c, c) for c in text) if any(c in _LETTERS for c in text) else ""
    return letters or (text if len(text) == 1 or text.isdigit() else rf"\mathrm{{{text}}}")


def _subscript(parts: Iterable[str]) -> str:
    text = ", ".join(p for p in parts if p)
    return f"_{{{text}}}" if text else ""


def symbol_at(name: str, indices: Sequence[str]) -> str:
    """An array's entry; a name that has a subscript of its own goes into braces."""
    text, under = symbol(name), _subscript(indices)
    return f"{{{text}}}{under}" if under and "_" in text else f"{text}{under}"


def _function(name: str) -> str:
    return symbol(name) if len(name) == 1 or name in GREEK or name in SHORT else _operator(name)


def _operator(name: str) -> str:
    spelled = "".join(f"{_LETTERS[c]} " if c in _LETTERS else c for c in name)
    return rf"\operatorname{{{spelled}}}".replace("_", r"\_")


def _fenced(text: str, left: str = "(", right: str = ")") -> str:
    """Brackets, as tall as what they hold."""
    if any(t in text for t in _TALL):
        right, after = (right[:1], right[1:]) if right.startswith("]") else (right, "")
        return rf"\left{left}{text}\right{right}{after}"
    return f"{left}{text}{right}"


# -- expressions ------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes the expressions of one equation; the steps run on an explicit stack (see ``present.run``)."""

    def __init__(self, roots: Sequence[Expr], names: Names, scope: Scope, variables: Sequence[Variable] = ()) -> None:
        scope = scope.reserving(v.name for v in variables)
        whole, self.recursions, scope = recursions([*roots, *(v.value for v in variables)], scope)
        self.roots, values = whole[: len(roots)], whole[len(roots) :]
        every = [*whole, *(x.body for x in self.recursions)]
        self.names, self.shared = names, share(every, scope, _subscripts(every))
        self.scope = scope.reserving(x.name for x in self.shared.locals)
        self.variables = [Local(v.name, v.indices, x) for v, x in zip(variables, values, strict=True)]
        self.heads = {x: names.declare(x, self.scope) for x in self.variables}
        self.small = 0  # in how many exponents and subscripts we are, where fractions are written in line

    def text(self, e: Expr, scope: Scope) -> str:
        return run(self.step(e, scope), self.step)

    def locals(self) -> list[tuple[str, str]]:
        return [self._local(x) for x in (*self.variables, *self.recursions, *self.shared.locals)]

    def _local(self, x: Local) -> tuple[str, str]:
        pairs = self.heads.get(x) or self.names.choose(x.indices, [x.body], self.scope)
        again = x.body in self.shared.places and self.shared.places[x.body][0] is not x
        body = run(self.step(x.body, self.scope.bind(pairs), named=again), self.step)
        return symbol_at(x.name, [symbol(name) for _, name in pairs]), body

    def step(self, e: Expr, scope: Scope, level: int = OR, named: bool = True) -> Step:
        """The text of ``e``, in parentheses if it binds less tightly than ``level``."""
        if named and e in self.shared.places:
            local, indices = self.shared.places[e]
            return symbol_at(local.name, [symbol(scope.name(i)) for i in indices])
        text, own = yield from self._shown(e, scope)
        return _fenced(text) if own < level else text

    def _each(self, parts: Iterable[Expr], scope: Scope) -> Generator[Request, str, list[str]]:
        out: list[str] = []
        for e in parts:
            out.append((yield e, scope))
        return out

    def _small(self, e: Expr, scope: Scope) -> Step:
        """In an exponent or a subscript."""
        self.small += 1
        text = yield e, scope
        self.small -= 1
        return text

    def _shown(self, e: Expr, scope: Scope) -> Shown:
        match e.op:
            case "num" | "const" | "bool" | "ix" | "size":
                return self._leaf(e, scope)
            case "ref":
                places = []
                for a in e.args:
                    places.append((yield from self._small(a, scope)))
                return symbol_at(e.data, places), ATOM
            case "add" | "sub" | "neg":
                return (yield from self._sum(e, scope))
            case "mul" | "div":
                return (yield from self._product(e, scope))
            case "pow":
                return (yield from self._power(e, scope))
            case "cmp" | "and" | "or" | "not" | "iverson":
                return (yield from self._condition(e, scope))
            case "pw":
                return (yield from self._pieces(e, scope))
            case "red" if is_applied(e):
                return (yield from self._applied(e, scope)), ATOM
            case "red":
                return (yield from self._reduction(e, scope))
        return (yield from self._call(e, scope))

    def _leaf(self, e: Expr, scope: Scope) -> tuple[str, int]:
        match e.op:
            case "num":
                return self._number(e.data)
            case "const":
                return {"pi": r"\pi", "inf": r"\infty"}.get(e.data, r"\mathrm{NaN}"), ATOM
            case "bool":
                return r"\mathrm{true}" if e.data else r"\mathrm{false}", ATOM
            case "ix":
                return symbol(scope.name(e.data)), ATOM
        return f"|{symbol(e.data)}|", ATOM

    def _number(self, x: Fraction) -> tuple[str, int]:
        sign, text = "-" if x < 0 else "", number(abs(x))[0]
        if "/" in text or (x.denominator in (2, 4, 8) and abs(x.numerator) < 10):
            over = f"{abs(x.numerator)}/{x.denominator}"
            return (sign + over if self.small else rf"{sign}\frac{{{abs(x.numerator)}}}{{{x.denominator}}}"), PRODUCT
        text = re.sub(r"e(-?\d+)$", r" \\cdot 10^{\1}", text)
        return sign + text, PRODUCT if sign or "cdot" in text else ATOM

    # -- arithmetic

    def _sum(self, e: Expr, scope: Scope) -> Shown:
        if e.op == "neg":
            return f"-{(yield e.args[0], scope, BIG)}", PRODUCT
        left, right = (yield e.args[0], scope, SUM), (yield e.args[1], scope, BIG)
        if right.startswith("-"):
            right = _fenced(right)
        return f"{left} {'+' if e.op == 'add' else '-'} {right}", SUM

    def _product(self, e: Expr, scope: Scope) -> Shown:
        if e.op == "div":
            return (yield from self._quotient(e, scope))
        return (yield from self._times(e.args[0], e.args[1], scope)), PRODUCT

    def _times(self, a: Expr, b: Expr, scope: Scope) -> Step:
        """A product; brackets behind a logarithm would look like its argument."""
        left, right = (yield a, scope, PRODUCT), (yield b, scope, BIG)
        if right.startswith("-"):
            right = _fenced(right)
        if right.startswith(("(", r"\left(")) and _ends_open(a) and not left.endswith(")"):
            left = _fenced(left)
        return _joined(left, right)

    def _quotient(self, e: Expr, scope: Scope) -> Shown:
        above, below = e.args
        if self.small:
            return f"{(yield above, scope, PRODUCT)}/{(yield below, scope, POWER)}", PRODUCT
        top: str = yield above, scope
        bottom: str = yield below, scope
        sign = "-" if top.startswith("-") and above.op in ("neg", "mul", "num") else ""
        return rf"{sign}\frac{{{top.removeprefix('-') if sign else top}}}{{{bottom}}}", PRODUCT

    def _power(self, e: Expr, scope: Scope) -> Shown:
        base, exponent = e.args
        above = yield from self._small(exponent, scope)
        if base.op == "call" and base.data in NAMED and base not in self.shared.places and exponent.op == "num" and exponent.data > 1:
            inside: str = yield base.args[0], scope, ATOM
            space = "" if inside.startswith(("(", r"\left")) else " "
            return f"{NAMED[base.data]}^{{{above}}}{space}{inside}", PRODUCT if space else POWER
        below: str = yield base, scope, ATOM
        return f"{below}^{{{above}}}", POWER

    # -- conditions and pieces

    def _condition(self, e: Expr, scope: Scope) -> Shown:
        match e.op:
            case "cmp":
                return (yield from self._chain(e, scope)), SUM
            case "iverson":
                return rf"\mathbf{{1}}{_fenced((yield e.args[0], scope), '[', ']')}", ATOM
            case "not":
                return rf"\neg {(yield e.args[0], scope, ATOM)}", ATOM
        sign, level = (r"\wedge", AND) if e.op == "and" else (r"\vee", OR)
        left, right = (yield e.args[0], scope, level), (yield e.args[1], scope, level + 1)
        return f"{left} {sign} {right}", level

    def _chain(self, e: Expr, scope: Scope) -> Step:
        first, *rest = yield from self._each(e.args, scope)
        return first + "".join(f" {SIGNS[sign]} {x}" for sign, x in zip(comparisons(e), rest, strict=True))

    def _pieces(self, e: Expr, scope: Scope) -> Shown:
        """A guard as a bracket in front of its value; several branches one below the other."""
        pairs, other = branches(e)
        if len(pairs) == 1 and other is ZERO:
            (value, condition), *_ = pairs
            bracket = rf"\mathbf{{1}}{_fenced((yield condition, scope), '[', ']')}"
            return _bracketed(bracket, (yield value, scope, BIG)), PRODUCT
        lines = []
        for value, condition in pairs:
            lines.append(rf"{(yield value, scope)} & \text{{if }} {(yield condition, scope)}")
        if other is not NAN:
            lines.append(rf"{(yield other, scope)} & \text{{otherwise}}")
        return r"\begin{cases} " + r" \\ ".join(lines) + r" \end{cases}", ATOM

    # -- functions

    def _call(self, e: Expr, scope: Scope) -> Shown:
        if comparisons(e):
            return (yield from self._chain(e, scope)), SUM
        match e.data:
            case "[]":
                return (yield from self._reading(e, scope)), ATOM
            case "grad":
                return (yield from self._gradient(e, scope)), ATOM
            case "default":
                whole, other = yield from self._each(e.args, scope)
                return rf"\left({whole} \text{{ or }} {other} \text{{ if empty}}\right)", ATOM
            case "exp":
                return (yield from self._exponential(e.args[0], scope))
            case "sqrt":
                return rf"\sqrt{{{(yield e.args[0], scope)}}}", ATOM
            case "cbrt":
                return rf"\sqrt[3]{{{(yield e.args[0], scope)}}}", ATOM
            case "xlogy" | "xlogdiv" | "logdiv" | "mul0":
                return (yield from self._weighed(e, scope))
            case "clip":
                x, low, high = yield from self._each(e.args, scope)
                return rf"\operatorname{{clip}}_{{[{low}, {high}]}}{_fenced(x)}", ATOM
            case name if name in SPELLED and (meaning := rows.meaning(name, e.args)) is not None:
                return (yield from self._shown(meaning, scope))
            case name if name in NAMED:
                return (yield from self._named(e, scope))
        arguments = ", ".join((yield from self._each(e.args, scope)))
        if e.data in FENCES:
            return _fenced(arguments, *FENCES[e.data]), ATOM
        return f"{FUNCTIONS.get(e.data) or _operator(e.data)}{_fenced(arguments)}", ATOM

    def _applied(self, e: Expr, scope: Scope) -> Step:
        """A function of the caller's; an argument is shown at the indices along which the function runs."""
        op, binders = e.data
        inner = scope.bind(self.names.choose(binders, e.args[0].args, scope))
        arguments = []
        for a in e.args[0].args:
            whole = a.op == "ref" and [x.data for x in a.args if x.op == "ix" and x.data in binders]
            if whole and len(set(whole)) == len(whole):  # the array itself, or a row of it
                rest = [x for x in a.args if x.op != "ix" or x.data not in binders]
                arguments.append(symbol_at(a.data, (yield from self._each(rest, inner))))
            else:
                arguments.append((yield a, inner))
        places = yield from self._each(outside(e), scope)
        return f"{_function(op.function)}{_fenced(', '.join(arguments))}{_subscript(places)}"

    def _gradient(self, e: Expr, scope: Scope) -> Step:
        name, g, *places = e.args
        text = rf"\nabla_{{{symbol(name.data)}}} {(yield g, scope, PRODUCT)}"
        at = yield from self._each(places, scope)
        return f"{_fenced(text, '[', ']')}{_subscript(at)}"

    def _exponential(self, inside: Expr, scope: Scope) -> Shown:
        """``e`` to what is short, else a function."""
        text = yield from self._small(inside, scope)
        if len(text) <= _LONG and not any(t in text for t in _TALL):
            return f"e^{{{text}}}", POWER
        if not self.small:
            text = yield inside, scope
        return rf"\exp{_fenced(text)}", ATOM

    def _named(self, e: Expr, scope: Scope) -> Shown:
        """Brackets stand where the argument is more than a name or a function's value."""
        text: str = yield e.args[0], scope, POWER
        if text.startswith(("(", r"\left")):
            return f"{NAMED[e.data]}{text}", ATOM
        return f"{NAMED[e.data]} {text}", PRODUCT

    def _weighed(self, e: Expr, scope: Scope) -> Shown:
        if e.data == "mul0":
            first, second = e.args if _ends_open(e.args[1]) or not _ends_open(e.args[0]) else e.args[::-1]
            return (yield from self._times(first, second, scope)), PRODUCT
        if e.data == "xlogy":
            log = yield from self._log(e.args[1], scope)
        else:
            log = rf"\log\frac{{{(yield e.args[-2], scope)}}}{{{(yield e.args[-1], scope)}}}"
        if e.data == "logdiv":
            return log, PRODUCT
        return _joined((yield e.args[0], scope, PRODUCT), log), PRODUCT

    def _log(self, x: Expr, scope: Scope) -> Step:
        text: str = yield x, scope, POWER
        return rf"\log{text}" if text.startswith(("(", r"\left")) else rf"\log {text}"

    def _reading(self, e: Expr, scope: Scope) -> Step:
        """``softmax(s)_k`` of a vector; of anything else the index that the softmax runs over is written."""
        whole = e.args[0]
        op, binders = whole.data
        name = r"\log \operatorname{softmax}" if op == "log_softmax" else _operator(op)
        places = []
        for a in e.args[1:]:
            places.append((yield from self._small(a, scope)))
        body = whole.args[0]
        if op in ("softmax", "log_softmax") and whole.args[1] is TRUE and _is_vector(body, binders):
            text: str = yield body, scope.bind([(b, "") for b in binders])
            return f"{name}{_fenced(text)}{_subscript(places)}"
        down = r"^{\downarrow}" if body.op == "call" and body.data == "descending" else ""
        pairs = self.names.choose(binders, whole.args, scope)
        over = yield from self._over(whole, pairs, scope)
        inside: str = yield body.args[0] if down else body, scope.bind(pairs)
        own = [symbol(n) for b, n in pairs if n in self.names.own(b.axis)]
        return f"{name}{down}_{{{over}}}{_fenced(inside)}{_subscript(places) if places != own else ''}"

    # -- reductions

    def _over(self, e: Expr, pairs: Sequence[tuple[Index, str]], scope: Scope) -> Step:
        """What stands under a sum: the indices, and below them the conditions."""
        under = _ranges(pairs, self.names)
        self.small += 1
        for k, (b, _) in enumerate(pairs):
            if isinstance(b.axis, Range):
                under[k] += rf" = {(yield b.axis.lo, scope)}, \ldots, {(yield b.axis.hi, scope)}"
        lines = [", ".join(under)]
        inner = scope.bind(pairs)
        for c in conjuncts(e.args[1]):
            lines.append((yield c, inner, AND))
        if _is_weighted(e.args[0]):
            lines.append(rf"\text{{weight }} {(yield e.args[0].args[1], inner)}")
        self.small -= 1
        return lines[0] if len(lines) == 1 else rf"\substack{{{lines[0]} \\ {', '.join(lines[1:])}}}"

    def _reduction(self, e: Expr, scope: Scope) -> Shown:
        op, binders = e.data
        if op in ("norm", "cosine") and e.args[1] is TRUE and _is_vector(e.args[0], binders):
            return (yield from self._vector(op, e.args[0], scope.bind([(b, "") for b in binders])))
        if op == "sum" and e.args == (ONE, TRUE) and all(isinstance(b.axis, str) for b in binders):
            return " ".join(f"|{symbol(str(b.axis))}|" for b in binders), PRODUCT
        pairs = self.names.choose(binders, e.args, scope)
        inner = scope.bind(pairs)
        if op in ("sum", "prod") and len(pairs) == 1 and isinstance(binders[0].axis, Range) and e.args[1] is TRUE:
            return (yield from self._run_through(op, pairs[0], e.args[0], scope, inner)), BIG
        over = yield from self._over(e, pairs, scope)
        body = e.args[0]
        match op:
            case "norm":
                return rf"\sqrt{{\sum_{{{over}}} {(yield from self._square(body, inner))}}}", ATOM
            case "logsumexp":
                return rf"\log \sum_{{{over}}} {(yield from self._exponential(body, inner))[0]}", BIG
            case "any" | "all":
                sign = r"\exists" if op == "any" else r"\forall"
                return rf"{sign}_{{{over}}} {(yield body, inner, SUM)}", AND
            case "count":
                inside = over.removeprefix(r"\substack{").replace(r" \\ ", " : ", 1)
                inside = inside.removesuffix("}") if inside != over else over
                return rf"|\{{{inside}\}}|", ATOM
            case "mean" if e.args[1] is TRUE and not _is_weighted(body) and all(isinstance(b.axis, str) for b in binders):
                lengths = " ".join(f"|{symbol(str(b.axis))}|" for b in binders)
                return rf"\frac{{1}}{{{lengths}}} \sum_{{{over}}} {(yield body, inner, BIG)}", BIG
            case "sum" | "prod" | "max" | "min":
                return rf"\{op}_{{{over}}} {(yield body, inner, BIG)}", BIG
        return (yield from self._other(op, over, body, inner))

    def _run_through(self, op: str, pair: tuple[Index, str], body: Expr, scope: Scope, inner: Scope) -> Step:
        """A sum from one number to another."""
        index, name = pair
        assert isinstance(index.axis, Range)
        low, high = (yield from self._small(index.axis.lo, scope)), (yield from self._small(index.axis.hi, scope))
        return rf"\{op}_{{{symbol(name)} = {low}}}^{{{high}}} {(yield body, inner, BIG)}"

    def _other(self, op: str, over: str, body: Expr, scope: Scope) -> Shown:
        body = body.args[0] if _is_weighted(body) else body
        parts = body.args if body.op == "call" and body.data == "pair" else (body,)
        name = {"argmax": r"\operatorname*{arg\,max}", "argmin": r"\operatorname*{arg\,min}"}.get(op, rf"\operatorname*{{{op}}}")
        return rf"{name}_{{{over}}} {_fenced(', '.join((yield from self._each(parts, scope))))}", ATOM

    def _square(self, body: Expr, scope: Scope) -> Step:
        return f"{(yield body, scope, ATOM)}^{{2}}"

    def _vector(self, op: str, body: Expr, scope: Scope) -> Shown:
        if op == "norm":
            return _fenced((yield body, scope), r"\lVert ", r" \rVert"), ATOM
        return rf"\cos{_fenced(', '.join((yield from self._each(body.args, scope))))}", ATOM


def _subscripts(roots: Iterable[Expr]) -> set[Expr]:
    """Reductions that stand in subscripts: the place of a largest entry gets a name."""
    return {a for e in postorder(roots) if e.op == "ref" for a in e.args if a.op == "red"}


def _ends_open(e: Expr) -> bool:
    """Whether the text of an expression may end in a function without brackets, which would take in what follows."""
    while e.op in ("mul", "neg", "pow"):
        e = e.args[0] if e.op != "mul" else e.args[1]
    return e.op == "call" and (e.data in NAMED or e.data in ("xlogy", "xlogdiv", "logdiv") or e.data == "[]")


def _is_weighted(body: Expr) -> bool:
    return body.op == "call" and body.data == "weight"


def _is_vector(body: Expr, binders: Sequence[Index]) -> bool:
    """Whether an expression is linear in entries at the one index it runs over, so that the index may be left out."""
    if len(binders) != 1 or isinstance(binders[0].axis, Range):
        return False
    stack = [body]
    while stack:
        e = stack.pop()
        here = binders[0] in e.free
        match e.op:
            case "add" | "sub" | "neg":
                if not all(binders[0] in a.free for a in e.args):
                    return False
                stack += e.args
            case "mul" | "div":
                moving = [a for a in e.args if binders[0] in a.free]
                if len(moving) != 1 or (e.op == "div" and moving[0] is e.args[1]):
                    return False
                stack += moving
            case "call" if e.data == "pair" or (e.data == "stop" and here):
                stack += e.args
            case "ref":
                if [a for a in e.args if binders[0] in a.free] != [ix(binders[0])]:
                    return False
            case _:
                return False
    return True


def _joined(left: str, right: str) -> str:
    """Juxtaposition: nothing before brackets and fractions, a dot before digits, else a little space."""
    if right.startswith(r"\frac{1}{") and left.isdigit():
        return rf"\frac{{{left}}}{right.removeprefix(chr(92) + 'frac{1}')}"
    if right[0].isdigit() or (right.startswith(r"\frac") and left[-1].isdigit()):
        return rf"{left} \cdot {right}"
    return f"{left} {right}" if right.startswith(("(", r"\left(", r"\frac")) else rf"{left} \, {right}"


def _bracketed(bracket: str, value: str) -> str:
    """A bracket as a factor, behind the sign and the number that a product begins with."""
    sign, front, rest = _BEGINNING.fullmatch(value).groups("")  # type: ignore[union-attr]
    text = _joined(front, bracket) if front and front != "1" else bracket
    return sign + (_joined(text, rest) if rest else text)


_BEGINNING = re.compile(r"(-?)(?:([\d.]+|\\frac\{\d+\}\{\d+\})(?: \\,| \\cdot|(?= [(\\])|$))? *(.*)", re.DOTALL)


def _ranges(pairs: Sequence[tuple[Index, str]], names: Names) -> list[str]:
    """What stands under a sum: ``k``, or ``i \\in n`` for an index that is not the axis' own."""
    out: list[str] = []
    for k, (index, name) in enumerate(pairs):
        known = isinstance(index.axis, Range) or name in names.own(index.axis)
        following = pairs[k + 1] if k + 1 < len(pairs) else None
        grouped = not known and following is not None and following[0].axis == index.axis and following[1] not in names.own(index.axis)
        out.append(symbol(name) if known or grouped else rf"{symbol(name)} \in {symbol(str(index.axis))}")
    return out
