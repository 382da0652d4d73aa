"""A definition as a lint sees it: its tree, what the nodes mean, and what is sure of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice, product
from math import inf

from lossdsl.errors import Span
from lossdsl.frontend import syntax
from lossdsl.frontend.values import Term
from lossdsl.frontend.vectors import VECTORS
from lossdsl.frontend.watch import Watched
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import Expr, postorder, references
from lossdsl.ir.program import Input, Param
from lossdsl.ir.ranges import Ranges, Reach
from lossdsl.kinds import Bound, Interval, Kind
from lossdsl.pipeline import large
from lossdsl.reductions import REDUCTIONS

Point = Mapping[str, Fraction]

_MOST = 128  # points that are looked at
_WORK = 50_000  # nodes that one lint may evaluate at points


@dataclass(frozen=True, slots=True)
class Finding:
    """A place in a definition and what is suspicious there; ``hint`` says how to mend it if that is not what the row says."""

    span: Span
    message: str
    hint: str = ""


class Subject:
    """One definition. Whatever it says of values is true of every input that keeps the promises of its kind."""

    def __init__(self, watched: Watched) -> None:
        self.watched, self.definition, self.program = watched, watched.definition, watched.program
        self.ranges = Ranges(self.program, empty_axes=True)
        self.declared: dict[str, Input | Param] = {x.name: x for x in self.program.declared}
        self.spent = 0

    # -- the tree

    @cached_property
    def nodes(self) -> tuple[syntax.Node, ...]:
        """All expressions of the equation and its locals, from the outside in."""
        out: list[syntax.Node] = [self.definition.body, *(x.body for x in self.definition.locals)]
        for node in out:
            out += syntax.children(node)
        return tuple(out)

    def text(self, node: syntax.Node, most: int = 40) -> str:
        base = self.definition.base
        text = " ".join(self.watched.source.text[base + node.span.start : base + node.span.end].split())
        return text if len(text) <= most else text[: most - 2] + ".."

    def terms(self, node: syntax.Node) -> Sequence[Term]:
        return self.watched.terms.get(node, ())

    def numbers(self, node: syntax.Node) -> list[Expr]:
        """What a node means, each time that it means something."""
        return [t.number for t in self.terms(node)]

    def always(self, node: syntax.Node, test: Callable[[Expr], bool]) -> bool:
        """Whether a test passes each time that a node means something."""
        return bool(self.terms(node)) and all(map(test, self.numbers(node)))

    def calls(self, *names: str) -> Iterator[syntax.Call]:
        """The calls of built-in functions, with or without a bracket."""
        for node in self.nodes:
            if isinstance(node, syntax.Call) and self.builtin(node) in names:
                yield node

    def builtin(self, node: syntax.Node) -> str:
        """The name of the built-in function that is called, if one is."""
        name = called(node)
        return name if name not in self._own else ""

    @cached_property
    def _own(self) -> frozenset[str]:
        """Names of functions that the file or the definition gives a meaning."""
        local = [x.name for x in self.definition.locals if x.params is not None]
        return frozenset([*local, *(d.name for d in self.watched.siblings), *(f.name for f in self.watched.signature.functions)])

    @cached_property
    def unguarded(self) -> frozenset[syntax.Node]:
        """Expressions that are evaluated whatever the inputs are: no branch, guard or condition leaves them out."""
        bodies = {x.name: x.body for x in self.definition.locals if x.params is None}
        seen: dict[syntax.Node, None] = {}
        stack = [self.definition.body]
        while stack:
            node = stack.pop()
            if node in seen or any(t.conds for t in self.terms(node)):
                continue
            seen[node] = None
            match node:
                case syntax.Name(id=name) if name in bodies:
                    stack.append(bodies[name])
                case syntax.Binary(op="and" | "or", left=left):
                    stack.append(left)
                case syntax.Call(args=args) if _takes_all(node):
                    stack += args
                case syntax.Unary() | syntax.Binary() | syntax.Compare():
                    stack += syntax.children(node)
        return frozenset(seen)

    # -- values

    def kind(self, e: Expr) -> Kind | None:
        """The kind of the declared name that an expression reads, if that is all it does."""
        return self.declared[e.data].kind if e.op == "ref" and e.data in self.declared else None

    @property
    def is_number(self) -> bool:
        """Whether the value is one number, and no array."""
        return len(self.program.outputs) == 1 and not self.program.outputs[0].indices

    @cached_property
    def is_large(self) -> bool:
        """Whether the program is too large for what looks at it many times."""
        return large(self.program)

    def inputs_of(self, exprs: Iterable[Expr]) -> set[str]:
        return references(exprs) & {i.name for i in self.program.inputs}

    @property
    def wrt(self) -> tuple[str, ...]:
        """What the loss is differentiated by if nothing else is said: numbers only."""
        first = tuple(i.name for i in self.program.inputs[:1])
        return tuple(name for name in self.program.wrt or first if self.declared[name].kind.role == "number")

    def points(self, exprs: Sequence[Expr], but: str = "", *, defaults: bool = False) -> Iterator[Point]:
        """Some admissible values of the names in expressions, but for one of them.

        With ``defaults``, hyper-parameters that have a default have no other value.
        """
        requires = self.program.requires
        names = sorted((references([*exprs, *requires]) & self.declared.keys()) - {but})
        choices = [_candidates(self.declared[name], defaults) for name in names]
        # near the start of each list first: the sum of the places decides
        order = sorted(islice(product(*(range(len(c)) for c in choices)), 4 * _MOST), key=sum)
        for places in order[:_MOST]:
            if self.spent > _WORK:
                return
            point = {name: c[k] for name, c, k in zip(names, choices, places, strict=True)}
            if all(holds(c, self.at(point, requires)) for c in requires):
                yield point

    def at(self, point: Point, exprs: Sequence[Expr]) -> Ranges:
        """What the expressions are where the names have values: all elements of an array the same."""
        out = Ranges(self.program)
        for e in postorder(exprs):
            self.spent += 1
            if e.op == "ref" and e.data in point:
                out.assume(e, Interval(point[e.data], point[e.data], False, False))
        return out

    def witness(self, e: Expr, test: Callable[[Reach], bool]) -> Point | None:
        """An admissible point at which the test surely passes."""
        return next((p for p in self.points([e]) if test(self.at(p, [e]).reach(e))), None)


def called(node: syntax.Node) -> str:
    """The name in call position."""
    if not isinstance(node, syntax.Call):
        return ""
    function = node.function.base if isinstance(node.function, syntax.Bracket) else node.function
    return function.id if isinstance(function, syntax.Name) else ""


def _takes_all(node: syntax.Call) -> bool:
    """Whether a call evaluates its arguments in any case."""
    name = called(node)
    if isinstance(node.function, syntax.Bracket):
        return node.function.guard is None and (name in REDUCTIONS or name in VECTORS)
    return name in FUNCTIONS or name in VECTORS


def _candidates(x: Input | Param, defaults: bool) -> list[Fraction]:
    """Values that a kind allows; of a hyper-parameter its default first."""
    kind = x.kind
    given = [x.default] if isinstance(x.default, Fraction) else []
    if given and defaults:
        return given
    found = [v for v in map(Fraction, ("1", "-1", "1/2", "-1/2", "0", "2", "-2", "3")) if v in kind.domain]
    found = [v for v in found if (v.denominator == 1 or not kind.integer) and (v != 0 or kind.name != "sign")]
    if kind.role in ("class", "label"):
        return [Fraction(0)]
    return [*dict.fromkeys((*given, *found))] or [_inside(kind)]


def _inside(kind: Kind) -> Fraction:
    """Some number of a domain that holds none of the usual ones."""
    low, high = kind.domain.low, kind.domain.high
    if isinstance(low, Fraction) and isinstance(high, Fraction):
        return Fraction(round((low + high) / 2)) if kind.integer else (low + high) / 2
    return low + 1 if isinstance(low, Fraction) else Fraction(high) - 1


def is_point(i: Interval, x: Bound) -> bool:
    return i.low == i.high == x


def decided(op: str, a: Reach, b: Reach) -> bool | None:
    """Whether ``a op b`` always holds or never does, NaN aside; None if that depends."""
    if a.empty or b.empty:
        return None
    x, y = a.interval, b.interval
    below = x.high < y.low or (x.high == y.low and (x.high_open or y.low_open))
    above = y.high < x.low or (y.high == x.low and (y.high_open or x.low_open))
    apart = below or above or _differ(a, b) or _differ(b, a)
    alike = x.low == x.high == y.low == y.high and abs(x.low) != inf
    sure = {
        "<": (below, x.low >= y.high), "<=": (x.high <= y.low, above), ">": (above, y.low >= x.high), ">=": (y.high <= x.low, below),
        "==": (alike, apart), "!=": (apart, alike),
    }  # fmt: skip
    holds, fails = sure[op]
    return True if holds else False if fails else None


def _differ(a: Reach, b: Reach) -> bool:
    """Whether whole numbers meet a fraction, or what is never 0 meets 0."""
    i = b.interval
    if i.low != i.high or not isinstance(i.low, Fraction):
        return False
    return (a.whole and i.low.denominator != 1) or (a.nonzero and i.low == 0)


def holds(condition: Expr, ranges: Ranges) -> bool | None:
    """Whether a condition surely holds or surely fails."""
    match condition.op:
        case "bool":
            return bool(condition.data)
        case "cmp":
            a, b = (ranges.reach(x) for x in condition.args)
            return decided(condition.data, a, b)
        case "not":
            inner = holds(condition.args[0], ranges)
            return None if inner is None else not inner
        case "and" | "or":
            parts = [holds(c, ranges) for c in condition.args]
            decisive = condition.op == "or"
            return decisive if decisive in parts else None if None in parts else not decisive
    return None
