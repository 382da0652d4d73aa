"""Evaluates expressions on demand, in the arithmetic it is given, with an explicit stack in place of recursion.

The value of a node at one assignment of its free indices is computed once, and only where something that is looked at needs
it. A step of a node gives None when its value stands in the memo, else what has to be known first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from operator import itemgetter
from typing import Any

from mpmath.libmp import from_int

from lossdsl.errors import LossError, did_you_mean
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import BINDING, STATE, Axis, Expr, Index, Range, postorder
from lossdsl.runtime.arithmetic import Bare, Measuring, first_extreme
from lossdsl.runtime.primitives import Mpf, meaning_of

_MISSING: Any = object()


class Node:
    """An expression in one evaluator: its arguments as nodes, and its values by the positions of its free indices."""

    __slots__ = ("args", "data", "ends", "id", "inside", "key", "memo", "names", "op", "orders", "places", "slots")

    def __init__(self, ident: int, e: Expr, args: list[Node], key: Callable[[list[int]], Any]) -> None:
        self.id, self.op, self.data, self.args, self.key = ident, e.op, e.data, args, key
        self.memo: dict[Any, Any] = {}
        self.names: frozenset[str] = frozenset()
        self.slots: list[int] = []
        self.ends: list[tuple[Node, Node] | str] = []
        self.places: list[tuple[int | None, Node, int, int]] = []
        self.inside = key  # of an argsort: the positions of the indices that its elements depend on
        self.orders: dict[Any, list[Any]] = {}  # of an argsort: the indices in order, by these positions


def _nothing(env: list[int]) -> tuple[()]:
    return ()


def _getter(slots: Sequence[int]) -> Callable[[list[int]], Any]:
    """What reads the positions in some slots."""
    return itemgetter(*slots) if slots else _nothing


class Recursions:
    """The recursions that have begun: a scan, in each of the recursions around it, has a number, which is what its state stands at."""

    def __init__(self) -> None:
        self.around: dict[int, list[int]] = {}  # for each scan, the slots of the states around it
        self.numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        self.node: list[int] = []

    def number(self, scan: int, around: tuple[int, ...]) -> int:
        found = self.numbers.setdefault((scan, around), len(self.node))
        if found == len(self.node):
            self.node.append(scan)
        return found


@dataclass(slots=True)
class Table:
    """An input: its entries in row-major order and its lengths."""

    flat: list[Any]
    shape: tuple[int, ...]


class Evaluator:
    """Evaluates expressions over given inputs.

    ``frozen`` is an evaluator of the same roots at other inputs, from which every ``stop`` takes its value.
    """

    def __init__(self, roots: Sequence[Expr], arithmetic: Bare | Measuring, tables: Mapping[str, Table], sizes: Mapping[str, int],
                 numbers: Callable[[Fraction], tuple[Mpf, bool]], frozen: Evaluator | None = None) -> None:
        self.arithmetic, self.tables, self.sizes, self.numbers, self.frozen = arithmetic, tables, sizes, numbers, frozen
        self.ctx = arithmetic.ctx
        self.slots: dict[Index, int] = {}
        self.nodes: dict[Expr, Node] = {}
        self.order: list[Node] = []
        self.recursions: Recursions = Recursions() if frozen is None else frozen.recursions
        for e in postorder(roots):
            self.order.append(self.compiled(e))
        self.spread_names()
        self.env = [0] * len(self.slots)
        steps = {"add": self.eager, "sub": self.eager, "mul": self.eager, "div": self.eager, "pow": self.eager, "neg": self.eager}
        self.steps: dict[str, Callable[[Node, Any], Any]] = {
            **steps, "call": self.call, "ref": self.look_up, "cmp": self.compare, "and": self.connect, "or": self.connect,
            "not": self.invert, "iverson": self.indicate, "pw": self.choose, "red": self.reduction, "ix": self.position,
            "scan": self.begin, "rec": self.go_on,
        }  # fmt: skip

    # what does not depend on the inputs

    def slot(self, index: Index) -> int:
        return self.slots.setdefault(index, len(self.slots))

    def compiled(self, e: Expr) -> Node:
        node = Node(len(self.order), e, [self.nodes[a] for a in e.args], _getter(sorted(self.slot(i) for i in e.free)))
        self.nodes[e] = node
        below = list(node.args)
        if e.op in BINDING:
            node.slots = [self.slot(b) for b in e.data[1]]
            if e.data[0] == "argsort":
                node.inside = _getter(sorted(self.slot(i) for a in e.args[:2] for i in a.free.difference(e.data[1])))
            node.ends = [self.ends(b.axis) for b in e.data[1] if b.axis != STATE]
            below += [end for ends in node.ends if not isinstance(ends, str) for end in ends]
            if e.op == "scan":
                self.recursions.around[node.id] = [self.slot(i) for i in e.args[0].free if i.axis == STATE and i != e.data[1][0]]
        elif e.op == "ref":
            node.places = self.located(e)
        elif e.op == "ix":
            node.slots = [self.slot(e.data)]
        elif e.op == "rec":
            node.slots = [self.slot(e.data[0])]
        elif not e.args:
            node.memo[()] = self.constant(e)
        own = (e.data,) if e.op == "ref" else ()
        node.names = frozenset(own).union(*(n.names for n in below))
        return node

    def spread_names(self) -> None:
        """What reads a recursion depends on all that the recursion depends on."""
        recursive = frozenset[str]().union(*(n.names for n in self.order if n.op == "scan"))
        for e, node in self.nodes.items():
            if any(i.axis == STATE for i in e.free):
                node.names |= recursive

    def ends(self, axis: Axis) -> tuple[Node, Node] | str:
        return (self.nodes[axis.lo], self.nodes[axis.hi]) if isinstance(axis, Range) else axis

    def located(self, e: Expr) -> list[tuple[int | None, Node, int, int]]:
        table = self.tables.get(e.data)
        if table is None:
            raise LossError(f"no value is given for {e.data!r}", hint=did_you_mean(e.data, self.tables))
        if len(table.shape) != len(e.args):
            raise LossError(f"{e.data!r} has {len(table.shape)} axes and is used with {len(e.args)} indices")
        stride, out = 1, []
        for a, length in zip(reversed(e.args), reversed(table.shape), strict=True):
            out.append((self.slot(a.data) if a.op == "ix" else None, self.nodes[a], length, stride))
            stride *= length
        return out

    def constant(self, e: Expr) -> Any:
        if e.op == "bool":
            return e.data
        if e.op == "num":
            return self.arithmetic.constant(*self.numbers(e.data))
        if e.op == "size":
            return self.arithmetic.leaf(self.ctx.make_mpf(from_int(self.length(e.data))))
        ctx = self.ctx
        return self.arithmetic.constant({"pi": +ctx.pi, "inf": ctx.inf, "nan": ctx.nan}[e.data], e.data != "pi")

    def length(self, axis: str) -> int:
        if axis not in self.sizes:
            raise LossError(f"the length of axis {axis!r} is unknown: no input carries it", hint=did_you_mean(axis, self.sizes))
        return self.sizes[axis]

    # the machine

    def at(self, root: Expr, indices: Sequence[Index] = (), point: Sequence[int] = ()) -> Any:
        """The value of an expression where its free indices have the given positions."""
        for index, position in zip(indices, point, strict=True):
            if index in self.slots:
                self.env[self.slots[index]] = position
        return self.run(self.nodes[root])

    def run(self, root: Node) -> Any:
        env = self.env
        stack: list[Any] = [root]
        while stack:
            top = stack[-1]
            if type(top) is Node:
                key = top.key(env)
                if key in top.memo:
                    stack.pop()
                    continue
                need = self.steps[top.op](top, key)
                if need is None:
                    stack.pop()
                elif type(need) is list:
                    stack += need
                else:
                    stack.append(need)
            else:
                need = next(top, None)
                if need is None:
                    stack.pop()
                else:
                    stack.append(need)
        return root.memo[root.key(env)]

    def known(self, node: Node) -> Any:
        return node.memo.get(node.key(self.env), _MISSING)

    def arguments(self, node: Node) -> tuple[list[Any], list[Node]]:
        """Values of the arguments, and those that have none yet."""
        env, values, missing = self.env, [], []
        for a in node.args:
            value = a.memo.get(a.key(env), _MISSING)
            if value is _MISSING:
                missing.append(a)
            values.append(value)
        return values, missing

    # one step of each kind of node

    def eager(self, node: Node, key: Any) -> Any:
        values, missing = self.arguments(node)
        if missing:
            return missing
        node.memo[key] = self.arithmetic.apply(node.op, values)
        return None

    def call(self, node: Node, key: Any) -> Any:
        if node.data == "stop" and self.frozen is not None:
            node.memo[key] = self.frozen.same(node, self.env)
            return None
        values, missing = self.arguments(node)
        if missing:
            return missing
        node.memo[key] = values[0] if node.data == "stop" else self.arithmetic.call(node.data, values)
        return None

    def same(self, node: Node, env: list[int]) -> Any:
        self.env[:] = env
        return self.run(self.order[node.id])

    def position(self, node: Node, key: Any) -> Any:
        node.memo[key] = self.arithmetic.leaf(self.ctx.make_mpf(from_int(self.env[node.slots[0]])))
        return None

    def look_up(self, node: Node, key: Any) -> Any:
        table = self.tables[node.data]
        at = 0
        for slot, index, length, stride in node.places:
            if slot is not None:
                i: int | None = self.env[slot]
            else:
                value = self.known(index)
                if value is _MISSING:
                    return index
                i = self.whole(value)
            if i is None or not 0 <= i < length:
                node.memo[key] = self.arithmetic.leaf(self.ctx.nan)
                return None
            at += i * stride
        node.memo[key] = table.flat[at]
        return None

    def whole(self, value: Any) -> int | None:
        x = self.arithmetic.plain(value)
        return int(x) if self.ctx.isint(x) else None

    def compare(self, node: Node, key: Any) -> Any:
        values, missing = self.arguments(node)
        if missing:
            return missing
        self.arithmetic.decide(*values)
        a, b = (self.arithmetic.plain(x) for x in values)
        match node.data:
            case "<":
                out = a < b
            case "<=":
                out = a <= b
            case ">":
                out = a > b
            case ">=":
                out = a >= b
            case "==":
                out = a == b
            case _:
                out = a != b
        node.memo[key] = bool(out)
        return None

    def holds(self, value: Any) -> bool:
        """A condition's value; an input that stands as a condition holds where it is not 0."""
        return value if isinstance(value, bool) else bool(self.arithmetic.plain(value) != 0)

    def connect(self, node: Node, key: Any) -> Any:
        decides = node.op == "or"
        for a in node.args:
            value = self.known(a)
            if value is _MISSING:
                return a
            if self.holds(value) == decides:
                node.memo[key] = decides
                return None
        node.memo[key] = not decides
        return None

    def invert(self, node: Node, key: Any) -> Any:
        value = self.known(node.args[0])
        if value is _MISSING:
            return node.args[0]
        node.memo[key] = not self.holds(value)
        return None

    def indicate(self, node: Node, key: Any) -> Any:
        value = self.known(node.args[0])
        if value is _MISSING:
            return node.args[0]
        node.memo[key] = self.arithmetic.leaf(self.ctx.one if self.holds(value) else self.ctx.zero)
        return None

    def choose(self, node: Node, key: Any) -> Any:
        args = node.args
        chosen = args[-1]
        for k in range(0, len(args) - 1, 2):
            condition = self.known(args[k + 1])
            if condition is _MISSING:
                return args[k + 1]
            if self.holds(condition):
                chosen = args[k]
                break
        value = self.known(chosen)
        if value is _MISSING:
            return chosen
        node.memo[key] = value
        return None

    def reduction(self, node: Node, key: Any) -> Generator[Node, None, None]:
        return self.rank(node, key) if node.data[0] == "argsort" else self.reduce(node, key)

    def reduce(self, node: Node, key: Any) -> Generator[Node, None, None]:
        """Walks the index points in order, asking for the guard and, where it holds, for the body."""
        op = node.data[0]
        terms: list[Any] = []
        points: list[tuple[int, ...]] = []
        yield from self.walk(node, terms, points)
        if op == "any":
            node.memo[key] = bool(terms)
        else:
            node.memo[key] = self.finished(op, terms, points)

    def rank(self, node: Node, key: Any) -> Generator[Node, None, None]:
        """Looks up the index that stands at a place of the order, which is found once."""
        place = node.args[2]
        if self.known(place) is _MISSING:
            yield place
        at = self.whole(self.known(place))
        inside = node.inside(self.env)
        if inside not in node.orders:
            terms: list[Any] = []
            points: list[tuple[int, ...]] = []
            yield from self.walk(node, terms, points)
            node.orders[inside] = self.ordered(terms, points)
        order = node.orders[inside]
        node.memo[key] = order[at] if at is not None and 0 <= at < len(order) else self.arithmetic.leaf(self.ctx.nan)

    def ordered(self, terms: list[Any], points: list[tuple[int, ...]]) -> list[Any]:
        """The positions of the terms from the least to the largest, in order where they are equal, NaN last."""
        values = [self.arithmetic.plain(t) for t in terms]
        unknown = [k for k, x in enumerate(values) if x != x]
        order = sorted((k for k, x in enumerate(values) if x == x), key=values.__getitem__)
        for a, b in pairwise(order):
            if terms[a] is not terms[b]:
                self.arithmetic.decide(terms[a], terms[b])
        return [self.arithmetic.leaf(self.ctx.make_mpf(from_int(points[k][0]))) for k in (*order, *unknown)]

    def walk(self, node: Node, terms: list[Any], points: list[tuple[int, ...]]) -> Generator[Node, None, None]:
        """Collects the body's values where the guard holds, and where that is; for ``any``, up to the first that holds."""
        for ends in node.ends:
            if not isinstance(ends, str):
                yield from (end for end in ends if self.known(end) is _MISSING)
        op, (body, guard) = node.data[0], node.args[:2]
        env = self.env
        for point in self.points(node.ends):
            for slot, i in zip(node.slots, point, strict=True):
                env[slot] = i
            if self.known(guard) is _MISSING:
                yield guard
            if not self.holds(self.known(guard)):
                continue
            if self.known(body) is _MISSING:
                yield body
            value = self.known(body)
            if op == "any" and not self.holds(value):
                continue
            terms.append(value)
            points.append(point)
            if op == "any":
                return

    def begin(self, node: Node, key: Any) -> Generator[Node, None, None]:
        """An entry of an array that is given by itself: a new recursion where none of it has been looked at."""
        for ends in node.ends:
            if not isinstance(ends, str):
                yield from (end for end in ends if self.known(end) is _MISSING)
        around = tuple(self.env[s] for s in self.recursions.around[node.id])
        yield from self.entry(node, key, self.recursions.number(node.id, around), node, node.args[1:])

    def go_on(self, node: Node, key: Any) -> Generator[Node, None, None]:
        """Another entry of the array that is being worked out."""
        number = self.env[node.slots[0]]
        yield from self.entry(node, key, number, self.order[self.recursions.node[number]], node.args)

    def entry(self, node: Node, key: Any, number: int, scan: Node, places: Sequence[Node]) -> Generator[Node, None, None]:
        """The body of a scan at a place; what its indices stood at before, they stand at again."""
        yield from (a for a in places if self.known(a) is _MISSING)
        at = [self.whole(self.known(a)) for a in places]
        spans = [range(self.length(a)) if isinstance(a, str) else range(self.end(a[0]), self.end(a[1]) + 1) for a in scan.ends]
        if not all(i is not None and i in span for i, span in zip(at, spans, strict=True)):
            node.memo[key] = self.arithmetic.leaf(self.ctx.nan)
            return
        env, before = self.env, self.env[:]
        for slot, i in zip(scan.slots, (number, *at), strict=True):
            env[slot] = i or 0
        body = scan.args[0]
        if self.known(body) is _MISSING:
            yield body
        value = self.known(body)
        env[:] = before
        node.memo[key] = value

    def points(self, axes: list[tuple[Node, Node] | str]) -> Iterator[tuple[int, ...]]:
        """All index points, the first index slowest."""
        spans = [range(self.length(a)) if isinstance(a, str) else range(self.end(a[0]), self.end(a[1]) + 1) for a in axes]
        if not all(len(s) for s in spans):
            return
        point = [s.start for s in spans]
        while True:
            yield tuple(point)
            for k in reversed(range(len(spans))):
                point[k] += 1
                if point[k] < spans[k].stop:
                    break
                point[k] = spans[k].start
            else:
                return

    def end(self, node: Node) -> int:
        i = self.whole(self.known(node))
        if i is None:
            raise LossError(f"an end of an integer range is {self.arithmetic.plain(self.known(node))}, not a whole number")
        return i

    def finished(self, op: str, terms: list[Any], points: list[tuple[int, ...]]) -> Any:
        if op not in ("argmax", "argmin"):
            return self.arithmetic.reduce(op, terms)
        values = [self.arithmetic.plain(t) for t in terms]
        best = first_extreme(values, 1 if op == "argmax" else -1)
        if best is None:
            return self.arithmetic.leaf(self.ctx.nan)
        for k, term in enumerate(terms):
            if k != best:
                self.arithmetic.decide(terms[best], term)
        (position,) = points[best]
        return self.arithmetic.leaf(self.ctx.make_mpf(from_int(position)))

    def forget(self, names: Iterable[str]) -> None:
        """Drops every value that an input of these names may enter."""
        moved = frozenset(names)
        for node in self.order:
            if not node.names.isdisjoint(moved):
                node.memo.clear()
                node.orders.clear()


class Meanings:
    """The arithmetics of one context, with what rows mean for which mpmath has no function."""

    def __init__(self, ctx: Any, bits: int = 53) -> None:
        self.bare = Bare(ctx, lambda name, args: self.run(name, args, self.bare))
        self.measuring = Measuring(ctx, self.bare, lambda name, args: self.run(name, args, self.measuring), bits)
        self.compiled: dict[tuple[str, bool], Evaluator] = {}

    def run(self, name: str, args: Sequence[Any], arithmetic: Bare | Measuring) -> Any:
        """The meaning of a row at given arguments; compiled once."""
        names = FUNCTIONS[name].args
        meaning = meaning_of(name)
        assert meaning is not None
        key = name, arithmetic is self.bare
        if key not in self.compiled:
            tables = {a: Table([x], ()) for a, x in zip(names, args, strict=True)}
            self.compiled[key] = Evaluator([meaning], arithmetic, tables, {}, lambda x: number(arithmetic.ctx, x))
        evaluator = self.compiled[key]
        evaluator.forget(names)
        for a, x in zip(names, args, strict=True):
            evaluator.tables[a].flat[0] = x
        return evaluator.at(meaning)


def number(ctx: Any, x: Fraction) -> tuple[Mpf, bool]:
    """A fraction in a context, and whether it is held exactly."""
    exact = x.denominator & (x.denominator - 1) == 0 and x.numerator.bit_length() <= ctx.prec
    return ctx.mpf(x.numerator) / x.denominator, exact
