"""Programs and expressions as DSL text that parses back to the same nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, count
from math import isinf
from types import MappingProxyType
from typing import Any

from lossdsl.ir.applied import is_applied
from lossdsl.ir.expr import (
    MINUS_ONE,
    NAN,
    ONE,
    TRUE,
    ZERO,
    Axis,
    Expr,
    Index,
    Range,
    and_,
    call,
    cmp,
    conjuncts,
    ix,
    num,
    outside,
    rebuild,
    ref,
    references,
)  # fmt: skip
from lossdsl.ir.present import WORDS, Local, Names, Scope, Step, axes, comparisons, recursions, reserved, run, share, sugar
from lossdsl.ir.program import Function, Note, Output, Param, Program
from lossdsl.ir.slopes import Variable, named
from lossdsl.kinds import FunctionKind, Interval, Kind

Request = tuple[Any, ...]
Plain = Generator[Request, str, tuple[str, int]]

OR, AND, NOT, COMPARE, SUM, PRODUCT, MINUS, POWER, ATOM = range(9)
_BINARY = {"add": ("+", SUM), "sub": ("-", SUM), "and": ("and", AND), "or": ("or", OR)}
_NEVER = "1 == 0"
QUOTE = '"'
# Lines end after commas and before operators; never before ``name =``, which would read as a new local.
_LOOSENESS = ("comma", "branch", "or", "and", "compare", "sum", "product")
_TOKEN = re.compile(
    r"(?P<open>[(\[])|(?P<close>[)\]])|(?P<comma>[,;] (?!\w+(?:\[[^]]*\])? =))|(?P<branch> if )|(?P<or> or )|(?P<and> and )"
    r"|(?P<compare> (?:[<>]=?|[!=]=) )|(?P<sum> [+-] )|(?P<product>[*/])"
)


def expression(e: Expr) -> str:
    """An expression by itself; large shared parts follow as ``where`` locals."""
    scope = Scope({i: i.tag for i in e.free if isinstance(i.tag, str)}, WORDS | references([e]) | axes([e]))
    roots, variables = named([e], scope.taken)
    shown, *values = sugar([*roots, *(v.value for v in variables)])
    writer = _Writer([shown], Names(()), scope, [replace(v, value=x) for v, x in zip(variables, values, strict=True)])
    text = writer.text(writer.roots[0], writer.scope)
    return f"{text} where {', '.join(locals_)}" if (locals_ := writer.locals()) else text


def program(p: Program, *, width: int = 110) -> str:
    """The definition of a program, or one definition for each output, with its docstring and annotations."""
    p = p.source
    return "\n\n".join(_definition(p, o, width) for o in p.outputs)


# -- definitions ------------------------------------------------------------------------------------------------------


def _definition(p: Program, output: Output, width: int) -> str:
    (root,), variables = named([_kept(p, output.expr)], reserved(p))
    shown, *others = sugar([root, *(v.value for v in variables), *p.requires])
    values, requires = others[: len(variables)], others[len(variables) :]
    variables = [replace(v, value=x) for v, x in zip(variables, values, strict=True)]
    writer = _Writer([shown], Names((*p.inputs, *p.params)), Scope({}, reserved(p)), variables)
    (shown,) = writer.roots
    own = [(i, writer.scope.name(i)) for i in output.indices]
    ends = {i: (i.axis.lo, i.axis.hi) for i, _ in own if isinstance(i.axis, Range)}
    ranges = {i: "..".join(writer.text(e, writer.scope) for e in pair) for i, pair in ends.items()}
    head = f"[{_binders(own, writer.names, ranges)}]" if own else ""
    body = writer.text(shown, writer.scope.bind(own))
    lengths = {axis: writer.text(length, writer.scope) for axis, length in p.lengths}
    lines = [*_docstring(p.doc), *_equation(f"{output.name}{head}({_parameters(p, lengths)}) =", body, width)]
    lines += _where(writer.locals(), width)
    conditions = [writer.text(r, writer.scope) for r in requires]
    lines += [f"  {tag:<8}{text}" for tag, text in _annotations(p, conditions)]
    return "\n".join(lines)


def _kept(p: Program, e: Expr) -> Expr:
    """The value where no class is one that is left out; elsewhere it is 0 by the kind of the class."""
    keep = [cmp("!=", ref(i.name), num(i.kind.ignore)) for i in p.inputs if i.kind.ignore is not None and not i.axes]
    if keep and e.op == "pw" and len(e.args) == 3 and e.args[1] is and_(*keep) and e.args[2] is ZERO:
        return e.args[0]
    return e


def _docstring(doc: str) -> list[str]:
    if not doc:
        return []
    return [f'"""{" " if doc[0] == QUOTE else ""}{doc}{" " if doc[-1] == QUOTE else ""}"""']


def _equation(header: str, body: str, width: int) -> list[str]:
    if len(header) + 1 + len(body) <= width:
        return [f"{header} {body}"]
    return [*wrapped(header, width, "", "    "), *wrapped(body, width, "    ", "      ")]


def _where(definitions: Sequence[str], width: int) -> list[str]:
    lines: list[str] = []
    for n, text in enumerate(definitions):
        lines += wrapped(text, width, "          " if n else "    where ", "            ")
    return lines


def _binders(pairs: Sequence[tuple[Index, str]], names: Names, ranges: Mapping[Index, str] = MappingProxyType({})) -> str:
    """``n, i, j in d``: an index that is an axis' own by its name, the others by name and axis."""
    out: list[str] = []
    for k, (index, name) in enumerate(pairs):
        new = name not in names.own(index.axis)
        grouped = new and k + 1 < len(pairs) and pairs[k + 1][0].axis == index.axis and pairs[k + 1][1] not in names.own(index.axis)
        out.append(name if not new or grouped else f"{name} in {ranges.get(index, index.axis)}")
    return ", ".join(out)


def _head_ranges(written: Iterable[Local], scope: Scope) -> dict[tuple[Axis, int], str]:
    """Names for the indices of heads that run over ranges: each is an axis of the whole definition."""
    supply = (name for name in chain(("w",), map("w{}".format, count(2))) if name not in scope.taken)
    out: dict[tuple[Axis, int], str] = {}
    for x in written:
        for key in _numbered(x.indices):
            if isinstance(key[0], Range) and key not in out:
                out[key] = next(supply)
    return out


def _numbered(indices: Iterable[Index]) -> Iterator[tuple[Axis, int]]:
    """The axis of each index, and how many of the indices before it are over the same."""
    seen: Counter[Axis] = Counter()
    for i in indices:
        yield i.axis, seen[i.axis]
        seen[i.axis] += 1


def _renamed(pairs: Sequence[tuple[Index, str]], ranges: Mapping[tuple[Axis, int], str]) -> list[tuple[Index, str]]:
    return [(i, ranges.get(key, name)) for (i, name), key in zip(pairs, _numbered(i for i, _ in pairs), strict=True)]


def _parameters(p: Program, lengths: dict[str, str]) -> str:
    """The inputs and hyper-parameters as they are declared, each length where its axis is first named."""
    inputs = ", ".join(_function(i, lengths) if isinstance(i, Function) else f"{i.name}: {kind(i.kind, lengths)}" for i in p.arguments)
    params = [_parameter(x) for x in p.params] + [_function(f, lengths) for f in p.functions if f.place is None]
    return f"{inputs}; {', '.join(params)}" if params else inputs


def _parameter(x: Param) -> str:
    default = "" if x.default is None else f" = {bound(x.default)}"
    return f"{x.name}: {kind(x.kind)}{default}"


def _function(f: Function, lengths: dict[str, str]) -> str:
    said = "" if f.kind is None else f": {function_kind(f.kind, lengths)}"
    return f"{f.name}{said}{'' if f.default is None else f' = {f.default}'}"


def function_kind(k: FunctionKind, lengths: dict[str, str] | None = None) -> str:
    """A function's kind as it is declared: ``(real[d]) -> real``."""
    return f"({', '.join(kind(a, lengths) for a in k.arguments)}) -> {kind(k.result, lengths)}"


def kind(k: Kind, lengths: dict[str, str] | None = None) -> str:
    """A kind as it is declared: ``class(k, ignore = -100)[n]``; a length that is used is taken out of ``lengths``."""
    options = [x for x in (k.of, None if k.ignore is None else f"ignore = {k.ignore}") if x]
    dims = [[_axis(axis, own, {} if lengths is None else lengths) for axis, own in dim] for dim in k.dimensions]
    axes = [f"({', '.join(dim)})" if len(dim) > 1 else dim[0] for dim in dims]
    if k.name == "simplex" and len(k.axes) == 1:
        options = options[1:]
    return (
        k.name
        + (f"({', '.join(options)})" if options else "")
        + (f"[{', '.join(axes)}]" if axes else "")
        + (f" in {interval(k.interval)}" if k.interval else "")
    )


def _axis(axis: str, own: str, lengths: dict[str, str]) -> str:
    """``n``, ``j in n``, or ``q = 4`` where the length is not said yet."""
    if axis != own:
        return f"{own} in {axis}"
    return f"{axis} = {lengths.pop(axis)}" if axis in lengths else axis


def interval(i: Interval) -> str:
    return f"{'(' if i.low_open else '['}{bound(i.low)}, {bound(i.high)}{')' if i.high_open else ']'}"


def bound(x: Fraction | float) -> str:
    """A default or an end of an interval."""
    if isinstance(x, float) and isinf(x):
        return "inf" if x > 0 else "-inf"
    return number(Fraction(x))[0]


def _annotations(p: Program, requires: Sequence[str]) -> Iterator[tuple[str, str]]:
    names = [name for name in p.wrt if any(i.name == name for i in p.inputs)]
    if names:
        yield "wrt", ", ".join(names)
    if p.batch:
        yield "batch", p.batch
    for text in requires:
        yield "require", text
    for note in p.notes:
        yield note.tag, _note(note)


def _note(note: Note) -> str:
    """What an annotation says, as it was written."""
    return f'"{note.data[0]}"' if note.tag in ("source", "note") else str(note.data[0])


# -- lines ------------------------------------------------------------------------------------------------------------


def wrapped(text: str, width: int, first: str, later: str) -> list[str]:
    """The text in lines of at most ``width`` where it can be broken, in as few brackets and at as loose an operator as possible."""
    breaks = _breaks(text)
    lines: list[str] = []
    start, indent = 0, first
    while len(indent) + len(text) - start > width:
        room = start + width - len(indent)
        fitting = [b for b in breaks if start + (width - len(indent))//3 < b[1] <= room] or [b for b in breaks if start < b[1] <= room]
        at = min(fitting, default=(0, next((at for _, at in breaks if at > start), 0)), key=lambda b: (b[0], -b[1]))[1]
        if at == 0:
            break
        lines.append(indent + text[start:at].rstrip())
        start, indent = at + (text[at] == " "), later
    return [*lines, indent + text[start:]]


def _breaks(text: str) -> list[tuple[int, int]]:
    """Where a line may end, each place with its cost, by place: the brackets round it, then how tightly its operator binds there."""
    found: list[tuple[int, int]] = []
    groups: list[tuple[str, list[tuple[str, int]]]] = [("", [])]
    for token in _TOKEN.finditer(text):
        kind = str(token.lastgroup)
        if kind == "open":
            groups.append((token[0], []))
        elif kind == "close":
            found += _costs(*groups.pop(), len(groups))
        else:
            groups[-1][1].append((kind, token.start() + (kind == "comma")))
    found += _costs(*groups.pop(), 0)
    return sorted(found, key=lambda b: b[1])


def _costs(bracket: str, group: Sequence[tuple[str, int]], depth: int) -> list[tuple[int, int]]:
    """The breaks of one pair of brackets; a product is broken late, and what stands in square brackets only where nothing else helps."""
    levels = sorted({_LOOSENESS.index(kind) for kind, _ in group})
    late = 99 if bracket == "[" else 0
    return [
        ((depth + late + 2*(kind == "product"))*len(_LOOSENESS) + levels.index(_LOOSENESS.index(kind)), at)
        for kind, at in group if kind != "compare"
    ]  # fmt: skip


# -- numbers ----------------------------------------------------------------------------------------------------------


def number(x: Fraction) -> tuple[str, int]:
    """The shortest exact spelling of a number, and its precedence."""
    if x < 0:
        text, level = number(-x)
        return f"-{text}", min(level, MINUS)
    if x.denominator == 1:
        return _whole(x.numerator), ATOM
    decimal = _decimal(x)
    fraction = f"{x.numerator}/{x.denominator}"
    if decimal is not None and (len(decimal) <= 6 or len(decimal) <= len(fraction)):
        return decimal, ATOM
    return fraction, PRODUCT


def _whole(n: int) -> str:
    text = str(n)
    digits = text.rstrip("0")
    return f"{digits}e{len(text) - len(digits)}" if len(digits) == 1 and len(text) > 6 else text


def _decimal(x: Fraction) -> str | None:
    """A finite decimal, with an exponent where it is small; None if there is none."""
    places, rest = 0, x.denominator
    while rest % 10 == 0:
        rest, places = rest//10, places + 1
    for p in (2, 5):
        while rest % p == 0:
            rest, places = rest//p, places + 1
    if rest != 1:
        return None
    digits = str(x.numerator*10**places//x.denominator)
    if places - len(digits) >= 3:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{digits[0]}{tail}e-{places - len(digits) + 1}"
    digits = digits.rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}"


# -- expressions ------------------------------------------------------------------------------------------------------


def _leaf(e: Expr, scope: Scope) -> tuple[str, int]:
    match e.op:
        case "num":
            return number(e.data)
        case "const":
            return f"piecewise(0 if {_NEVER})" if e is NAN else str(e.data), ATOM
        case "bool":
            return "1 == 1" if e.data else _NEVER, COMPARE
        case "ix":
            return scope.name(e.data), ATOM
    return f"size({e.data})", ATOM


# What an expression stands in: nothing of the kind, under a sign or over a divisor, or beside other factors.
FREE, SIGNED, FACTOR = range(3)


def _carried(e: Expr) -> str | None:
    """What the text of a factor brings into a product: ``condition``, ``log``, or nothing.

    A condition guards the other factors, and a logarithm takes them as its weight, through signs and divisors.
    """
    inside = False
    while True:
        match e.op:
            case "iverson":
                return None if inside else "condition"
            case "neg":
                e = e.args[0]
            case "div":
                e, inside = e.args[0], True
            case "mul" if _nonzero(e.args[0]) or _nonzero(e.args[1]):
                e, inside = e.args[1 if _nonzero(e.args[0]) else 0], True
            case "call" if e.data in _LOGARITHMS:
                return "log"
            case _:
                return None


_LOGARITHMS = ("log", "log2", "log10")


def _nonzero(e: Expr) -> bool:
    return e.op == "num" and e.data != 0


def _free_beside(e: Expr, other: Expr) -> bool:
    """Whether a factor may stand as it is beside another one."""
    carried = _carried(e)
    return carried is None or (carried == "log" and _nonzero(other))


def _can_follow(value: Expr) -> bool:
    """Whether ``(condition)*value`` is read as the value where the condition holds."""
    return value not in (ONE, MINUS_ONE) and _carried(value) != "condition"


_BEGINNING = re.compile(r"(-?)(?:([\d.]+(?:e-?\d+)?)(?=[*/]|$))?(.*)", re.DOTALL)


def _begins_plainly(value: Expr) -> bool:
    """Whether a product begins with a sign or a number that may as well stand before a condition."""
    while value.op in ("mul", "div"):
        if value.op == "mul" and _carried(value.args[1]):
            return False
        value = value.args[0]
    if value.op == "num":
        return "/" not in number(value.data)[0]
    return value.op == "neg" and value.args[0].op not in ("mul", "div") and not _carried(value.args[0])


def _as_product(e: Expr) -> bool:
    """Whether ``x*log(y)`` or ``x*log(a/b)`` is read as the node ``xlogy`` or ``xlogdiv``."""
    weight, *inside = e.args
    if weight.op == "num" or _carried(weight):
        return False
    if e.data == "xlogy":
        return not (inside[0].op == "div" and inside[0].args[1].op != "num")
    return inside[1].op != "num"


def _is_index(e: Expr) -> bool:
    """Whether an expression is an index that is shifted by numbers."""
    while e.op in ("add", "sub") and not (e.args[0].free and e.args[1].free):
        e = e.args[0] if e.args[0].free else e.args[1]
    return e.op == "ix"


NUMBER = "1*"  # what is written as a number


class _Writer:
    """Writes the expressions of one definition."""

    def __init__(self, roots: Sequence[Expr], names: Names, scope: Scope, variables: Sequence[Variable] = ()) -> None:
        scope = scope.reserving(v.name for v in variables)
        whole, self.recursions, scope = recursions([*roots, *(v.value for v in variables)], scope)
        self.roots, values = whole[: len(roots)], whole[len(roots) :]
        self.names, self.shared = names, share([*whole, *(x.body for x in self.recursions)], scope)
        scope = scope.reserving(x.name for x in self.shared.locals)
        written = (*self.recursions, *self.shared.locals)
        ranges = _head_ranges(written, scope) if self.recursions else {}
        self.scope = scope.reserving(ranges.values())
        self.heads = {x: _renamed(names.choose(x.indices, [x.body], self.scope), ranges) for x in written}
        self.variables = [Local(v.name, v.indices, x) for v, x in zip(variables, values, strict=True)]
        self.heads |= {x: names.declare(x, self.scope) for x in self.variables}
        self.ranges = frozenset(ranges.values())
        self.whole = frozenset(x.name for x in self.recursions)

    def text(self, e: Expr, scope: Scope) -> str:
        return run(self.step(e, scope), self.step)

    def locals(self) -> list[str]:
        return [self._local(x) for x in (*self.variables, *self.recursions, *self.shared.locals)]

    def _local(self, x: Local) -> str:
        pairs = self.heads[x]
        said = x in self.variables
        ends = {i: self._range(i.axis) for i, name in pairs if isinstance(i.axis, Range) and (said or name in self.ranges)}
        open_ = {i for i, _ in pairs if isinstance(i.axis, Range) and i not in ends}  # whose range the use says
        head = ", ".join(name if i in open_ else _binders([(i, name)], self.names, ends) for i, name in pairs)
        again = x.body in self.shared.places and self.shared.places[x.body][0] is not x  # the body of a recursion may have a name
        body = run(self.step(x.body, self.scope.bind(pairs), OR, False, FACTOR, named=again), self.step)
        if x.name in self.whole and x.body.op == "iverson":  # a number, not a condition
            body += " + 0"
        return f"{x.name}{f'[{head}]' if head else ''} = {body}"

    def _range(self, axis: Range) -> str:
        return "..".join(run(self.step(end, self.scope, SUM), self.step) for end in (axis.lo, axis.hi))

    def step(self, e: Expr, scope: Scope, level: int = OR, right: bool = False, chain: int = FREE, named: bool = True) -> Step:
        """The text of ``e``, in parentheses if it binds less tightly than ``level`` or is a signed right operand."""
        if named and e in self.shared.places:
            local, indices = self.shared.places[e]
            return self._local_at(local, indices, scope)
        text, own = yield from self._plain(e, scope, chain)
        return f"({text})" if own < level or (right and text.startswith("-")) else text

    def _plain(self, e: Expr, scope: Scope, chain: int) -> Plain:
        """The text of a node and its precedence."""
        match e.op:
            case "num" | "const" | "bool" | "ix" | "size":
                return _leaf(e, scope)
            case "ref":
                return (yield from self._ref(e, scope)), ATOM
            case "add" | "sub" | "and" | "or":
                sign, level = _BINARY[e.op]
                left, right = (yield e.args[0], scope, level), (yield e.args[1], scope, level + 1, True)
                return f"{left} {sign} {right}", level
            case "mul" | "div" | "neg":
                return (yield from self._product(e, scope, chain))
            case "pow":
                base, exponent = (yield e.args[0], scope, ATOM, True), (yield e.args[1], scope, POWER, True)
                return f"{base}^{exponent}", POWER
            case "cmp":
                flag = self._flag(e)
                return ((yield flag, scope), ATOM) if flag else ((yield from self._chain(e, scope)), COMPARE)
            case "not":
                return f"not {(yield e.args[0], scope, ATOM)}", NOT
            case "iverson":
                return (yield from self._counted(e.args[0], scope)), ATOM
            case "pw":
                return (yield from self._piecewise(e, scope, chain))
            case "red" if is_applied(e):
                return (yield from self._applied(e, scope)), ATOM
            case "red":
                return (yield from self._reduction(e, scope))[0], ATOM
        return (yield from self._call(e, scope, chain))

    def _product(self, e: Expr, scope: Scope, chain: int) -> Plain:
        signed = max(chain, SIGNED)
        match e.op:
            case "neg":
                return f"-{(yield e.args[0], scope, MINUS, False, signed)}", MINUS
            case "div":
                above = yield from self._factor(e.args[0], scope, signed, escape=_carried(e.args[0]) == "condition", right=False)
                return f"{above}/{(yield e.args[1], scope, MINUS, True)}", PRODUCT
        a, b = e.args
        left = yield from self._factor(a, scope, FACTOR, escape=not _free_beside(a, b), right=False)
        right = yield from self._factor(b, scope, FACTOR, escape=not _free_beside(b, a), right=True)
        return f"{left}*{right}", PRODUCT

    def _factor(self, e: Expr, scope: Scope, chain: int, *, escape: bool, right: bool) -> Step:
        """A factor; a sum with 0 ends the chain for what must not be read together with the other factors."""
        if escape:
            return f"({(yield e, scope, SUM)} + 0)"
        return (yield e, scope, MINUS if right else PRODUCT, right, chain)

    def _each(self, parts: Iterable[Expr], scope: Scope) -> Generator[Request, str, list[str]]:
        out: list[str] = []
        for e in parts:
            out.append((yield e, scope, OR))
        return out

    def _flag(self, e: Expr) -> Expr | None:
        """The input that a condition reads, if that is all it does."""
        a, b = e.args
        given = self.names.inputs.get(a.data) if a.op == "ref" and e.data == "!=" and b is ZERO else None
        return a if given is not None and given.kind.role == "condition" else None

    def _chain(self, e: Expr, scope: Scope) -> Step:
        texts = yield from self._each(e.args, scope)
        first, *rest = (f"{t} + 0" if x.op == "iverson" else t for t, x in zip(texts, e.args, strict=True))
        return first + "".join(f" {sign} {x}" for sign, x in zip(comparisons(e), rest, strict=True))

    def _piecewise(self, e: Expr, scope: Scope, chain: int) -> Plain:
        if chain == FREE and len(e.args) == 3 and e.args[-1] is ZERO and _can_follow(e.args[0]):
            return (yield from self._where(e, scope))
        texts = yield from self._each(e.args, scope)
        out = [f"{value} if {condition}" for value, condition in zip(texts[:-1:2], texts[1::2], strict=True)]
        if e.args[-1] is not NAN:
            out.append(f"{texts[-1]} otherwise")
        return f"piecewise({', '.join(out)})", ATOM

    def _where(self, e: Expr, scope: Scope) -> Plain:
        """``(condition)*value``: in a product, a condition guards the other factors; a sign and a number stand before it."""
        value, condition, _ = e.args
        guard = yield from self._counted(condition, scope)
        if value not in self.shared.places and _begins_plainly(value):
            text: str = yield value, scope, PRODUCT, False, FACTOR
            begun = _BEGINNING.fullmatch(text)
            assert begun is not None
            sign, front, rest = begun.groups("")
            return f"{sign}{'' if front == '1' and rest else front and front + '*'}{guard}{rest if front else '*' + rest}", PRODUCT
        return f"{guard}*{(yield value, scope, PRODUCT, True, FACTOR)}", PRODUCT

    def _counted(self, condition: Expr, scope: Scope) -> Step:
        """A condition that counts as a number: a name or a reduction as it is, anything else in parentheses."""
        text = yield condition, scope
        whole = condition.op == "red" or condition in self.shared.places or (condition.op == "cmp" and self._flag(condition) is not None)
        return text if whole else f"({text})"

    def _call(self, e: Expr, scope: Scope, chain: int) -> Plain:
        if e.data == "[]":
            return (yield from self._reading(e, scope)), ATOM
        if e.data == "grad":
            return (yield from self._gradient(e, scope)), ATOM
        if e.data == "default":
            return (yield from self._reduction(e.args[0], scope, (yield e.args[1], scope)))[0], ATOM
        if e.data == NUMBER:
            return f"1*{(yield e.args[0], scope, PRODUCT, True, FACTOR)}", PRODUCT
        if comparisons(e):
            return (yield from self._chain(e, scope)), COMPARE
        if e.data in ("xlogy", "xlogdiv") and chain != FACTOR and _as_product(e):
            return (yield from self._weighted_log(e, scope)), PRODUCT
        return f"{e.data}({', '.join((yield from self._each(e.args, scope)))})", ATOM

    def _applied(self, e: Expr, scope: Scope) -> Step:
        """``critic[d](x)``; the places of the result after it."""
        op, binders = e.data
        arguments, places = e.args[0].args, outside(e)
        own = [b for k, b in enumerate(binders) if any(k in of for of in op.arguments)]
        pairs = self.names.choose(own, arguments, scope)
        texts = yield from self._each(arguments, scope.bind(pairs))
        bracket = f"[{_binders(pairs, self.names)}]" if pairs else ""
        text = f"{op.function}{bracket}({', '.join(texts)})"
        return f"{text}[{', '.join((yield from self._each(places, scope)))}]" if places else text

    def _gradient(self, e: Expr, scope: Scope) -> Step:
        """``grad[x](g)`` at its own indices, ``grad[x](g)[i, j]`` at others."""
        name, g, *places = e.args
        text = f"grad[{name.data}]({(yield g, scope)})"
        axes = self.names.inputs[name.data].kind.axes if name.data in self.names.inputs else ()
        if all(p.op == "ix" and scope.name(p.data) == own for p, (_, own) in zip(places, axes, strict=False)):
            return text
        return f"{text}[{', '.join((yield from self._each(places, scope)))}]"

    def _weighted_log(self, e: Expr, scope: Scope) -> Step:
        weight = yield e.args[0], scope, PRODUCT, False, FACTOR
        if e.data == "xlogy":
            return f"{weight}*log({(yield e.args[1], scope)})"
        above = yield from self._factor(e.args[1], scope, SIGNED, escape=_carried(e.args[1]) == "condition", right=False)
        return f"{weight}*log({above}/{(yield e.args[2], scope, MINUS, True)})"

    # -- references and indices

    def _ref(self, e: Expr, scope: Scope) -> Step:
        axes = self.names.axes(e)
        if e.data in self.whole:
            return f"{e.data}[{', '.join((yield from self._each(e.args, scope)))}]"
        own = [a.op == "ix" and scope.name(a.data) == name for a, (_, name) in zip(e.args, axes, strict=True)]
        if all(own):
            return str(e.data)
        other = [k for k, is_own in enumerate(own) if not is_own]
        if len(other) == 1 and self._lands(e, other[0]):
            return f"{e.data}[{(yield e.args[other[0]], scope, SUM)}]"
        places = [self._on(a, axis) for a, (axis, _) in zip(e.args, axes, strict=True)]
        texts = yield from self._each(places[: other[-1] + 1], scope)
        return f"{e.data}[{', '.join(texts)}]"

    def _on(self, at: Expr, axis: str | Range) -> Expr:
        """A place on an axis; an index or a class of another one is written as a number, ``1*n``, which may stand on any."""
        if not axis or isinstance(axis, Range) or self._axis_of(at) in (None, axis):
            return at
        if at in self.shared.places or at.op not in ("add", "sub"):
            return call(NUMBER, at)
        moved = at.args[0].free or at.op == "sub"
        args = (self._on(at.args[0], axis), at.args[1]) if moved else (at.args[0], self._on(at.args[1], axis))
        return rebuild(at, args)

    def _axis_of(self, at: Expr) -> str | None:
        """The axis that a place belongs to by what it is."""
        found: Axis | None = None
        match at.op:
            case "ix":
                found = at.data.axis
            case "ref" if at.data in self.names.inputs and self.names.inputs[at.data].kind.name == "class":
                found = self.names.inputs[at.data].kind.of
            case "red" if at.data[0] in ("argmax", "argmin"):
                found = at.data[1][0].axis
            case "call" if at.data == "[]" and at.args[0].data[0] == "argsort":
                found = at.args[0].data[1][0].axis
            case "add" | "sub":
                a, b = at.args
                if not b.free:
                    return self._axis_of(a) if _is_index(a) else None
                return self._axis_of(b) if at.op == "add" and not a.free and _is_index(b) else None
        return found if isinstance(found, str) else None

    def _lands(self, e: Expr, place: int) -> bool:
        """Whether a class as the only index goes to its axis by itself."""
        at, axes = e.args[place], self.names.axes(e)
        given = self.names.inputs.get(at.data) if at.op == "ref" else None
        of = given.kind.of if given is not None and given.kind.name == "class" else None
        return of is not None and axes[place][0] == of and [axis for axis, _ in axes].count(of) == 1

    def _local_at(self, local: Local, indices: Sequence[Index], scope: Scope) -> str:
        heads = [name for _, name in self.heads[local]]
        names = [scope.name(i) for i in indices]
        if all(name == head and head in self.names.own(i.axis) for name, head, i in zip(names, heads, indices, strict=True)):
            return local.name
        return f"{local.name}[{', '.join(names)}]"

    def _reading(self, e: Expr, scope: Scope) -> Step:
        """``softmax[k](s)`` at its own index, ``softmax[k](s)[j]`` at another; two indices over one axis are always written."""
        text, names = yield from self._reduction(e.args[0], scope)
        binders = e.args[0].data[1]
        here = zip(binders, names, e.args[1:], strict=True)
        own = all(name in self.names.own(b.axis) and v.op == "ix" and scope.name(v.data) == name for b, name, v in here)
        if own and len({b.axis for b in binders}) == len(binders):
            return text
        values = yield from self._each([self._on(v, b.axis) for v, b in zip(e.args[1:], binders, strict=True)], scope)
        return f"{text}[{', '.join(values)}]"

    def _unsaid(self, binders: Sequence[Index], guard: Expr, scope: Scope) -> Expr:
        """The guard without what a class that is left out brings by itself."""
        brought = []
        for i in self.names.ignoring:
            for b in binders:
                for axis, own in i.kind.axes:
                    if axis == b.axis:
                        others = {m: scope.index(m) or Index(a, m) for a, m in i.kind.axes}
                        at = [ix(b if m == own else others[m]) for _, m in i.kind.axes]
                        brought.append(cmp("!=", ref(i.name, at), num(i.kind.ignore or 0)))
        kept, literals = conjuncts(and_(*brought)), conjuncts(guard)
        return and_(*literals[len(kept) :]) if literals[: len(kept)] == kept else guard

    def _reduction(self, e: Expr, scope: Scope, default: str = "") -> Generator[Request, str, tuple[str, list[str]]]:
        op, binders = e.data
        body, guard = e.args
        pairs = self.names.choose(binders, e.args, scope)
        ranges: dict[Index, str] = {}
        for b in binders:
            if isinstance(b.axis, Range):
                ranges[b] = f"{(yield b.axis.lo, scope, SUM)}..{(yield b.axis.hi, scope, SUM)}"
        inner = scope.bind(pairs)
        bracket = _binders(pairs, self.names, ranges)
        guard = self._unsaid(binders, guard, inner)
        if guard is not TRUE:
            bracket += f" | {(yield guard, inner)}"
        options = [f"default = {default}"] if default else []
        if op == "count":
            return f"count[{bracket}]", [name for _, name in pairs]
        if body.op == "call" and body.data == "weight":
            options.append(f"weight = {(yield body.args[1], inner)}")
            body = body.args[0]
        if body.op == "call" and body.data == "descending":
            options.append("order = descending")
            body = body.args[0]
        parts = body.args if body.op == "call" and body.data == "pair" else (body,)
        text = ", ".join([*(yield from self._each(parts, inner)), *options])
        return f"{op}[{bracket}]({text})", [name for _, name in pairs]
