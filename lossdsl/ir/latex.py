"""Programs as LaTeX equations, for reading only."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from lossdsl.ir.applied import is_applied
from lossdsl.ir.expr import NAN, TRUE, Expr, Index, Range, branches, outside
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
SHORT = {"eps": r"\varepsilon", "lam": r"\lambda"}
FUNCTIONS = {
    name: rf"\{name}" for name in ("log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min")
} | {"sigmoid": r"\sigma", "normal_cdf": r"\Phi", "lgamma": r"\log\Gamma", "digamma": r"\psi", "log2": r"\log_{2}", "log10": r"\log_{10}",
     "asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan"}  # fmt: skip
FENCES = {
    "abs": r"\left|{}\right|", "sqrt": r"\sqrt{{{}}}", "cbrt": r"\sqrt[3]{{{}}}", "floor": r"\left\lfloor {}\right\rfloor",
    "ceil": r"\left\lceil {}\right\rceil", "relu": r"\left({}\right)_{{+}}",
}  # fmt: skip
SIGNS = {"<": "<", "<=": r"\leq", ">": ">", ">=": r"\geq", "==": "=", "!=": r"\neq"}


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
    arguments = ", ".join(symbol(i.name) for i in p.arguments)
    params = [symbol(x) for x in (*(x.name for x in p.params), *(f.name for f in p.functions if f.place is None))]
    if params:
        arguments += "; " + ", ".join(params)
    name = "\\operatorname{" + output.name.replace("_", r"\_") + "}"
    left = f"{name}{_subscript(symbol(n) for _, n in own)}\\left({arguments}\\right)"
    return [(left, writer.text(writer.roots[0], writer.scope.bind(own))), *writer.locals()]


def symbol(name: str) -> str:
    """A name as mathematicians set it: ``delta`` is a Greek letter, what follows ``_`` and digits at the end are subscripts."""
    head, *tail = name.strip("_").split("_")
    digits = re.fullmatch(r"(.*?[^\d])(\d+)", head)
    if digits:
        head, tail = digits[1], [digits[2], *tail]
    return _word(head) + _subscript(_word(t) for t in tail if t)


def _word(text: str) -> str:
    if text in SHORT:
        return SHORT[text]
    if text in GREEK:
        return rf"\{text}"
    return text if len(text) == 1 or text.isdigit() else rf"\mathrm{{{text}}}"


def _subscript(parts: Iterable[str]) -> str:
    text = ", ".join(parts)
    return f"_{{{text}}}" if text else ""


def _fenced(text: str) -> str:
    return rf"\left({text}\right)"


class _Writer:
    """Writes the expressions of one equation; the steps run on an explicit stack (see ``present.run``)."""

    def __init__(self, roots: Sequence[Expr], names: Names, scope: Scope, variables: Sequence[Variable] = ()) -> None:
        scope = scope.reserving(v.name for v in variables)
        whole, self.recursions, scope = recursions([*roots, *(v.value for v in variables)], scope)
        self.roots, values = whole[: len(roots)], whole[len(roots) :]
        self.names, self.shared = names, share([*whole, *(x.body for x in self.recursions)], scope)
        self.scope = scope.reserving(x.name for x in self.shared.locals)
        self.variables = [Local(v.name, v.indices, x) for v, x in zip(variables, values, strict=True)]
        self.heads = {x: names.declare(x, self.scope) for x in self.variables}

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

    def _shown(self, e: Expr, scope: Scope) -> Shown:
        match e.op:
            case "num" | "const" | "bool" | "ix" | "size":
                return _leaf(e, scope)
            case "ref":
                return symbol_at(e.data, (yield from self._each(e.args, scope))), ATOM
            case "add" | "sub" | "mul" | "div" | "pow" | "neg":
                return (yield from self._arithmetic(e, scope))
            case "cmp" | "and" | "or" | "not" | "iverson":
                return (yield from self._condition(e, scope))
            case "pw":
                return (yield from self._cases(e, scope)), ATOM
            case "red" if is_applied(e):
                return (yield from self._applied(e, scope)), ATOM
            case "red":
                return (yield from self._reduction(e, scope))
        return (yield from self._call(e, scope))

    def _arithmetic(self, e: Expr, scope: Scope) -> Shown:
        match e.op:
            case "add" | "sub":
                left, right = (yield e.args[0], scope, SUM), (yield e.args[1], scope, BIG if e.op == "add" else PRODUCT)
                if right.startswith("-"):
                    right = _fenced(right)
                return f"{left} {'+' if e.op == 'add' else '-'} {right}", SUM
            case "mul":
                left, right = (yield e.args[0], scope, PRODUCT), (yield e.args[1], scope, BIG)
                if right.startswith("-"):
                    right = _fenced(right)
                return f"{left} {_times(right)} {right}", PRODUCT
            case "div":
                above, below = yield from self._each(e.args, scope)
                return rf"\frac{{{above}}}{{{below}}}", PRODUCT
            case "neg":
                return f"-{(yield e.args[0], scope, BIG)}", PRODUCT
        base, exponent = (yield e.args[0], scope, ATOM), (yield e.args[1], scope)
        return f"{_fenced(base) if '^' in base else base}^{{{exponent}}}", POWER

    def _condition(self, e: Expr, scope: Scope) -> Shown:
        match e.op:
            case "cmp":
                return (yield from self._chain(e, scope)), SUM
            case "iverson":
                return rf"\left[{(yield e.args[0], scope)}\right]", ATOM
            case "not":
                return rf"\neg {(yield e.args[0], scope, ATOM)}", ATOM
        sign, level = (r"\wedge", AND) if e.op == "and" else (r"\vee", OR)
        left, right = (yield e.args[0], scope, level), (yield e.args[1], scope, level + 1)
        return f"{left} {sign} {right}", level

    def _chain(self, e: Expr, scope: Scope) -> Step:
        first, *rest = yield from self._each(e.args, scope)
        return first + "".join(f" {SIGNS[sign]} {x}" for sign, x in zip(comparisons(e), rest, strict=True))

    def _cases(self, e: Expr, scope: Scope) -> Step:
        rows = []
        pairs, other = branches(e)
        for value, condition in pairs:
            rows.append(rf"{(yield value, scope)} & \text{{if }} {(yield condition, scope)}")
        if other is not NAN:
            rows.append(rf"{(yield other, scope)} & \text{{otherwise}}")
        return r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"

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
                return f"e^{{{(yield e.args[0], scope)}}}", POWER
            case "xlogy":
                x, y = (yield e.args[0], scope, PRODUCT), (yield e.args[1], scope)
                return rf"{x} \log{_fenced(y)}", PRODUCT
            case "xlogdiv":
                x, a, b = (yield e.args[0], scope, PRODUCT), (yield e.args[1], scope), (yield e.args[2], scope)
                return rf"{x} \log\frac{{{a}}}{{{b}}}", PRODUCT
            case "mul0":
                return f"{(yield e.args[0], scope, PRODUCT)} \\, {(yield e.args[1], scope, POWER)}", PRODUCT
        arguments = ", ".join((yield from self._each(e.args, scope)))
        if e.data in FENCES:
            return FENCES[e.data].format(arguments), ATOM
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
        return rf"\left[{text}\right]{_subscript(at)}" if at else rf"\left[{text}\right]"

    def _reading(self, e: Expr, scope: Scope) -> Step:
        whole, *places = yield from self._each(e.args, scope)
        names = self.names.choose(e.args[0].data[1], e.args[0].args, scope)
        if places == [symbol(name) for b, name in names if name in self.names.own(b.axis)]:
            return whole
        return f"{whole}{_subscript(places)}"

    def _reduction(self, e: Expr, scope: Scope) -> Shown:
        op, binders = e.data
        pairs = self.names.choose(binders, e.args, scope)
        under = _ranges(pairs, self.names)
        for k, (b, _) in enumerate(pairs):
            if isinstance(b.axis, Range):
                under[k] += rf" \in \{{{(yield b.axis.lo, scope)}, \ldots, {(yield b.axis.hi, scope)}\}}"
        inner = scope.bind(pairs)
        over = ", ".join(under)
        if e.args[1] is not TRUE:
            over += f" : {(yield e.args[1], inner)}"
        if op == "count":
            return rf"\left|\left\{{{over}\right\}}\right|", ATOM
        return (yield from self._reduced(op, over, e.args[0], inner))

    def _reduced(self, op: str, over: str, body: Expr, scope: Scope) -> Shown:
        match op:
            case "norm":
                return rf"\left\|{(yield body, scope)}\right\|_{{{over}}}", ATOM
            case "logsumexp":
                return rf"\log\sum_{{{over}}} e^{{{(yield body, scope)}}}", BIG
            case "any" | "all":
                sign = r"\exists" if op == "any" else r"\forall"
                return rf"{sign}_{{{over}}} {(yield body, scope, SUM)}", AND
            case "sum" | "prod" | "max" | "min":
                return rf"\{op}_{{{over}}} {(yield body, scope, PRODUCT)}", BIG
        if body.op == "call" and body.data == "weight":
            over += f"; {(yield body.args[1], scope)}"
            body = body.args[0]
        parts = body.args if body.op == "call" and body.data in ("pair", "descending") else (body,)
        down = r"^{\downarrow}" if body.op == "call" and body.data == "descending" else ""
        return rf"{_operator(op)}{down}_{{{over}}}{_fenced(', '.join((yield from self._each(parts, scope))))}", ATOM


def _leaf(e: Expr, scope: Scope) -> tuple[str, int]:
    match e.op:
        case "num" if e.data.denominator == 1 or "/" not in number(e.data)[0]:
            text = re.sub(r"e(-?\d+)$", r" \\cdot 10^{\1}", number(abs(e.data))[0])
            return ("-" if e.data < 0 else "") + text, PRODUCT if e.data < 0 or "cdot" in text else ATOM
        case "num":
            return rf"{'-' if e.data < 0 else ''}\frac{{{abs(e.data.numerator)}}}{{{e.data.denominator}}}", PRODUCT
        case "const":
            return {"pi": r"\pi", "inf": r"\infty"}.get(e.data, r"\mathrm{NaN}"), ATOM
        case "bool":
            return r"\mathrm{true}" if e.data else r"\mathrm{false}", ATOM
        case "ix":
            return symbol(scope.name(e.data)), ATOM
    return rf"\left|{symbol(e.data)}\right|", ATOM


def _times(right: str) -> str:
    """Juxtaposition, but a dot before a digit."""
    return r"\cdot" if right[0].isdigit() or right.startswith(r"\frac") else r"\,"


def symbol_at(name: str, indices: Sequence[str]) -> str:
    """An array's entry; a name that has a subscript of its own goes into braces."""
    text = symbol(name)
    if not indices:
        return text
    return f"{{{text}}}{_subscript(indices)}" if "_" in text else f"{text}{_subscript(indices)}"


def _function(name: str) -> str:
    return symbol(name) if len(name) == 1 or name in GREEK or name in SHORT else _operator(name)


def _operator(name: str) -> str:
    return rf"\operatorname{{{name}}}".replace("_", r"\_")


def _ranges(pairs: Sequence[tuple[Index, str]], names: Names) -> list[str]:
    """What stands under a sum: ``k``, or ``i \\in n`` for an index that is not the axis' own."""
    out = []
    for index, name in pairs:
        known = isinstance(index.axis, Range) or name in names.own(index.axis)
        out.append(symbol(name) if known else rf"{symbol(name)} \in {symbol(str(index.axis))}")
    return out
