"""Reverse mode on expressions with binders: the gradient of a program is a program.

Every reduction on the way is one *stage*: the same reduction over other names of its free indices is the same stage, so its
adjoint is found once, as an expression over the stage's own indices (its slots). Inside a stage the adjoint of a node is a
``Term``: a path of conditions under which it counts, and the adjoint there. The path is never multiplied in: where it fails
nothing was computed and nothing flows back. What reaches an input or another stage is summed over the indices that the place
does not fix; an index that stands alone in a place is renamed to the slot (one-point rule), any other place ``e`` becomes the
guard ``e == slot``, which code generation prints as a scatter.

A factor that may be infinite at a pole (the derivative of sqrt at 0) meets a factor that may be 0 through ``mul0``.

The adjoint of a scan is a scan the other way: what flows to an entry from outside, and from the entries that read it. It is
found by one run through the body from a symbol for the adjoint of an entry, which then stands for that scan everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lossdsl.ir import rows
from lossdsl.ir.applied import Hidden, apply, hidden_input, lifted, put_back
from lossdsl.ir.expr import (
    BINDING,
    FALSE,
    INF,
    MINUS_ONE,
    NAN,
    ONE,
    STATE,
    TRUE,
    ZERO,
    Axis,
    Expr,
    Index,
    Range,
    add,
    and_,
    branches,
    call,
    canonical,
    cmp,
    conjuncts,
    div,
    free_in_order,
    fresh,
    is_condition,
    ix,
    mul,
    neg,
    not_,
    num,
    open_any,
    open_red,
    or_,
    postorder,
    pow_,
    pw,
    rebuild,
    rec,
    red,
    ref,
    references,
    replace_indices,
    replace_recs,
    size,
    sub,
    substitute,
    total,
)  # fmt: skip
from lossdsl.ir.expr import scan as make_scan
from lossdsl.ir.program import Input, Output, Param, Program
from lossdsl.ir.ranges import Ranges, ordered_on
from lossdsl.kinds import Kind

Path = tuple[Expr, ...]
_NO_DERIVATIVE = ("argmax", "argmin", "argsort", "any")
# At these poles the value itself is infinite, so an infinite adjoint is the loss's own and goes on as it is.
_INFINITE_VALUE = ("log", "log2", "log10", "log1p", "logit")


@dataclass(frozen=True, slots=True)
class Term:
    """An adjoint that counts where all conditions of the path hold.

    ``pole``: it may be infinite where the value is not. ``gate``: it passed a kink, and may be exactly 0 where what feeds the
    kink is infinite, as in ``min(1, 1/x)``.
    """

    path: Path
    adjoint: Expr
    pole: bool = False
    gate: bool = False


Start = tuple[Expr, Expr | Term, Sequence[Index]]  # an expression, its adjoint, and the indices to sum over


@dataclass(slots=True)
class Stage:
    """A reduction over its own slots, and what flows back to it."""

    slots: tuple[Index, ...]
    node: Expr
    terms: list[Term] = field(default_factory=list)


@dataclass(slots=True)
class Scan(Stage):
    """A scan over its slots, opened: the stages that read its state, and what flows back from its body.

    ``reads`` is what comes back to the array itself, ``waiting`` what goes elsewhere once the adjoint is known.
    """

    binders: tuple[Index, ...] = ()
    body: Expr = ZERO
    inner: list[Stage] = field(default_factory=list)
    reads: list[Term] = field(default_factory=list)
    waiting: list[tuple[list[Term], Term]] = field(default_factory=list)

    @property
    def state(self) -> Index:
        return self.binders[0]

    def entry(self, places: Sequence[Expr]) -> Expr:
        """The array at a place."""
        return rebuild(self.node, (self.node.args[0], *places))


# -- terms and paths --------------------------------------------------------------------------------------------------


Part = Generator[list["Term"], Expr, Expr]  # asks for parts of its terms, and gives an expression for all


def _unwound(of: Callable[[Sequence[Term]], Part], terms: Sequence[Term]) -> Expr:
    """What ``of`` gives for the terms, its parts worked out on a list: paths may be longer than Python's stack is deep."""
    stack = [of(terms)]
    value: Expr | None = None
    while stack:
        try:
            part = next(stack[-1]) if value is None else stack[-1].send(value)
        except StopIteration as done:
            stack.pop()
            value = done.value
        else:
            stack.append(of(part))
            value = None
    assert value is not None
    return value


def merge(terms: Sequence[Term]) -> Expr:
    """The sum of the terms; complementary paths become the branches of one ``piecewise``."""
    return _unwound(_merged, terms)


def _merged(terms: Sequence[Term]) -> Part:
    always = [t.adjoint for t in terms if not t.path]
    rest = [t for t in terms if t.path]
    parts = [total(always)] if always else []
    while rest:
        literal = _positive(rest[0].path[0])
        yes, no, rest = _split(rest, literal)
        parts.append(_choose(literal, (yield yes), (yield no)))
    return total(parts)


def _positive(literal: Expr) -> Expr:
    return literal.args[0] if literal.op == "not" else literal


def _split(terms: Sequence[Term], literal: Expr) -> tuple[list[Term], list[Term], list[Term]]:
    yes, no, rest = [], [], []
    negated = not_(literal)
    for t in terms:
        if literal in t.path:
            yes.append(replace(t, path=tuple(c for c in t.path if c is not literal)))
        elif negated in t.path:
            no.append(replace(t, path=tuple(c for c in t.path if c is not negated)))
        else:
            rest.append(t)
    return yes, no, rest


def _choose(condition: Expr, yes: Expr, no: Expr) -> Expr:
    if yes is no:
        return yes
    if no.op == "pw":
        more, otherwise = branches(no)
        return pw([(yes, condition), *more], otherwise)
    if yes is ZERO and no is not ZERO:
        return pw([(no, not_(condition))], ZERO)
    return pw([(yes, condition)], no)


def union(paths: Sequence[Path]) -> Expr:
    """The condition under which any of the paths holds."""
    return _unwound(_united, [Term(p, ONE) for p in paths])


def _united(terms: Sequence[Term]) -> Part:
    if any(not t.path for t in terms):
        return TRUE
    if not terms:
        return FALSE
    literal = _positive(terms[0].path[0])
    yes, no, rest = _split(terms, literal)
    a, b = (yield yes), (yield no)
    other = yield rest
    if (a is TRUE and b is TRUE) or other is TRUE:
        return TRUE
    if a is TRUE:
        return or_(literal, b, other)
    if b is TRUE:
        return or_(not_(literal), a, other)
    return or_(and_(literal, a), and_(not_(literal), b), other)


def combine(terms: Sequence[Term]) -> Term:
    """One term for all, whose path is what they share and the condition that any of them holds."""
    if len(terms) == 1:
        return terms[0]
    shared = tuple(c for c in terms[0].path if all(c in t.path for t in terms[1:]))
    own = [replace(t, path=tuple(c for c in t.path if c not in shared)) for t in terms]
    either = union([t.path for t in own])
    return Term(_join(shared, either), merge(own), any(t.pole for t in terms), any(t.gate for t in terms))


def _join(path: Path, *conditions: Expr) -> Path:
    return tuple(dict.fromkeys((*path, *(c for x in conditions for c in conjuncts(x)))))


# -- sums over what a place leaves open -------------------------------------------------------------------------------


def in_range(value: Expr, axis: Axis) -> Expr:
    """The condition that an index value lies on the axis."""
    if isinstance(axis, Range):
        return and_(cmp("<=", axis.lo, value), cmp("<=", value, axis.hi))
    return and_(cmp(">=", value, ZERO), cmp("<", value, size(axis)))


def summed(indices: Sequence[Index], body: Expr, guard: Sequence[Expr], classes: Mapping[str, str]) -> Expr:
    """``sum[indices | guard](body)`` with equalities solved, idle indices counted and idle conditions moved out."""
    indices, guard = list(indices), list(guard)
    solved = True
    while solved:
        solved = False
        for literal in guard:
            point = _one_point(literal, indices, classes)
            if point is not None:
                index, value = point
                indices.remove(index)
                guard.remove(literal)
                body, *guard = substitute((body, *guard), {index: value})
                guard = [c for c in guard if c is not TRUE]
                solved = True
                break
    inner = [c for c in guard if not c.free.isdisjoint(indices)]
    outer = [c for c in guard if c.free.isdisjoint(indices)]
    used = body.free.union(*(c.free for c in inner)) if inner else body.free
    bound = [i for i in indices if i in used]
    if bound:
        body = red("sum", bound, body, and_(*inner))
    for i in indices:
        if i not in used:
            body = mul(size(i.axis), body) if body is not ONE else size(i.axis)
    return pw([(body, and_(*outer))], ZERO)


def _one_point(literal: Expr, indices: Sequence[Index], classes: Mapping[str, str]) -> tuple[Index, Expr] | None:
    """The index and value that an equality fixes, if the value surely lies on the index' axis."""
    if literal.op != "cmp" or literal.data != "==":
        return None
    for a, b in (literal.args, literal.args[::-1]):
        if a.op == "ix" and a.data in indices and a.data not in b.free:
            on_axis = (b.op == "ix" and b.data.axis == a.data.axis) or (b.op == "ref" and classes.get(b.data) == a.data.axis)
            if on_axis or ordered_on(b) == a.data.axis:
                return a.data, b
    return None


def _solve(place: Expr, slot: Expr, summable: Iterable[Index], integers: frozenset[str]) -> tuple[Index, Expr] | None:
    """The index f and its value where ``place == slot``, for a place ``f + c`` or ``c - f`` with a whole c free of f."""
    for f in summable:
        if f not in place.free:
            continue
        value, e = slot, place
        while not (e.op == "ix" and e.data is f):
            if e.op not in ("add", "sub"):
                break
            a, b = e.args
            if (f in a.free) == (f in b.free) or not _whole(b if f in a.free else a, integers):
                break
            if f in a.free:
                value, e = (sub(value, b) if e.op == "add" else add(value, b)), a
            else:
                value, e = (sub(value, a) if e.op == "add" else sub(a, value)), b
        if e.op == "ix" and e.data == f:
            return f, value
    return None


def _whole(e: Expr, integers: frozenset[str]) -> bool:
    def leaf(x: Expr) -> bool:
        return x.op in ("ix", "size") or (x.op == "num" and x.data.denominator == 1) or (x.op == "ref" and x.data in integers)

    return all(leaf(x) or x.op in ("add", "sub", "mul", "neg") for x in postorder([e]))


# -- the pass ---------------------------------------------------------------------------------------------------------


class Reverse:
    """One run of reverse mode over a program, with respect to some inputs and hyper-parameters."""

    def __init__(self, program: Program, wrt: Sequence[str]) -> None:
        self.program, self.wrt = program, frozenset(wrt)
        self.ranges = Ranges(program)
        self.slots = {i.name: i.indices for i in program.inputs} | {p.name: () for p in program.params}
        self.classes = {i.name: i.kind.of for i in program.inputs if i.kind.name == "class" and i.kind.of}
        self.integers = frozenset(i.name for i in program.inputs if i.kind.integer)
        self.results: dict[str, list[Term]] = {name: [] for name in wrt}
        self.active: set[Expr] = set()
        self.marked: set[Expr] = set()
        self.stages: dict[Expr, Stage] = {}
        self.scans: dict[Index, Scan] = {}  # by their states
        self.running: Scan | None = None
        self.renamed: dict[frozenset[tuple[Index, Expr]], dict[Expr, Expr]] = {}

    def run(self, outputs: Sequence[Start]) -> dict[str, list[Term]]:
        """The terms of the adjoints of all wrt names."""
        for expr, _, _ in outputs:
            self._mark(expr)
        order = list(self._stage_order([expr for expr, _, _ in outputs]))
        for expr, term, indices in outputs:
            self._backward(expr, term if isinstance(term, Term) else Term((), term), tuple(indices))
        for stage in reversed(order):
            if stage.terms:
                self._through(stage)
        return self.results

    def _mark(self, root: Expr) -> None:
        """Find the active nodes of an expression, those found before left out."""
        stack = [(root, False)]
        while stack:
            e, ready = stack.pop()
            if ready:
                if _carries(e, self.active, self.wrt) or (e.op == "rec" and e.data[0] in self.scans):
                    self.active.add(e)
            elif e not in self.marked:
                self.marked.add(e)
                stack.append((e, True))
                stack += [(a, False) for a in e.args if a not in self.marked]

    def _stage_order(self, roots: Sequence[Expr]) -> Iterator[Stage]:
        """Stages on the way, each after those its body uses; those that read a scan's state are the scan's own."""
        done: set[Expr] = set()
        stack: list[tuple[Expr, bool]] = [(r, False) for r in self._reductions(roots)]
        while stack:
            node, ready = stack.pop()
            key, slots = canonical(node)
            if ready:
                if key not in done:
                    done.add(key)
                    owner = next((self.scans[i] for i in key.free if i in self.scans), None)
                    if owner is None:
                        yield self.stages[key]
                    else:
                        owner.inner.append(self.stages[key])
            elif key not in self.stages:
                self._mark(key)
                body = self._opened(key, slots).body if key.op == "scan" else key.args[0]
                self.stages.setdefault(key, Stage(slots, key))
                stack.append((key, True))
                stack += [(r, False) for r in self._reductions([body])]

    def _opened(self, key: Expr, slots: tuple[Index, ...]) -> Scan:
        binders, (body, *_) = open_any(key)
        scan = self.stages[key] = self.scans[binders[0]] = Scan(slots, key, binders=binders, body=body)
        for e in postorder((body,)):
            if e.op == "rec" and e.data[0] == binders[0]:
                self.ranges.memo[e] = self.ranges.reach(scan.entry(e.args))
        self._mark(body)
        return scan

    def _reductions(self, roots: Sequence[Expr]) -> list[Expr]:
        return [e for e in self._differentiable(roots) if e.op in BINDING]

    def _differentiable(self, roots: Sequence[Expr]) -> list[Expr]:
        """Active nodes in postorder, not looking into reductions, conditions, or index positions."""
        out: list[Expr] = []
        seen: set[Expr] = set()
        stack: list[tuple[Expr, bool]] = [(r, False) for r in roots if r in self.active]
        while stack:
            e, ready = stack.pop()
            if ready:
                out.append(e)
            elif e not in seen:
                seen.add(e)
                stack.append((e, True))
                if e.op not in ("red", "ref", "scan", "rec"):
                    stack += [(a, False) for a in e.args if a in self.active and a not in seen]
        return out

    def _through(self, stage: Stage) -> None:
        """From a stage's adjoint to what its body uses."""
        if isinstance(stage, Scan):
            self._back_along(stage)
            return
        term = combine(stage.terms)
        node, adjoint = stage.node, term.adjoint
        binders, body, guard = open_red(node)
        self._mark(body)
        path = _join(term.path, guard)
        match node.data[0]:
            case "sum":
                pass
            case "prod":
                adjoint = times(adjoint, others(binders, body, guard))
            case "max" | "min":
                ties = red("sum", binders, ONE, and_(guard, cmp("==", body, node)))
                path = _join(path, cmp("==", body, node))
                adjoint = div(adjoint, ties)
            case "logsumexp":
                if _recursive(body):
                    path = _join(path, cmp("!=", node, neg(INF)))
                adjoint = times(adjoint, call("exp", sub(body, node)))
            case "norm":
                if not self.ranges.nonzero(node):
                    path = _join(path, cmp("!=", node, ZERO))
                adjoint = div(times(adjoint, body), node)
            case _:
                return
        self._backward(body, replace(term, path=path, adjoint=adjoint), (*stage.slots, *binders))

    def _back_along(self, scan: Scan) -> None:
        """From the adjoint of a scan's entries, as others read them, to that of all entries, and on to what the body uses."""
        term = combine(scan.terms)
        adjoint, (_, *own) = fresh(STATE), scan.binders
        seed = replace(term, path=(), adjoint=rec(adjoint, [b.axis for b in own], [ix(b) for b in own]))
        while True:
            self._run_body(scan, seed)
            pole, gate = any(t.pole for t in scan.reads), any(t.gate for t in scan.reads)
            if (pole <= seed.pole) and (gate <= seed.gate):
                break
            seed = replace(seed, pole=seed.pole or pole, gate=seed.gate or gate)
        (body,) = replace_recs((merge([term, *scan.reads]),), {scan.state: scan.entry})
        back = make_scan(-scan.node.data[0], (adjoint, *scan.slots), body, [ix(s) for s in scan.slots])

        def flowing(places: Sequence[Expr]) -> Expr:
            return substitute((back,), dict(zip(scan.slots, places, strict=True)))[0]

        for target, t in scan.waiting:
            value, *path = replace_recs((t.adjoint, *t.path), {scan.state: scan.entry, adjoint: flowing})
            target.append(replace(t, adjoint=value, path=tuple(path)))

    def _run_body(self, scan: Scan, seed: Term) -> None:
        """Reverse mode through the body of a scan from one entry's adjoint."""
        scan.reads, scan.waiting, self.running = [], [], scan
        for stage in scan.inner:
            stage.terms = []
        self._backward(scan.body, seed, scan.binders[1:])
        for stage in reversed(scan.inner):
            if stage.terms:
                self._through(stage)
        self.running = None

    def _deliver(self, target: list[Term], term: Term) -> None:
        scan = self.running
        if scan is None or target is scan.reads or any(target is s.terms for s in scan.inner):
            target.append(term)
        else:
            scan.waiting.append((target, term))

    def _backward(self, root: Expr, term: Term, indices: tuple[Index, ...]) -> None:
        """Reverse mode inside one scope; ``indices`` are those that a place may fix or a sum must bind."""
        terms: dict[Expr, list[Term]] = {root: [term]}
        for e in reversed(self._differentiable([root])):
            if e not in terms:
                continue
            here = combine(terms.pop(e))
            if e.op == "ref":
                self._arrive(self.results[e.data], e.args, self.slots[e.data], indices, here, stage=False)
            elif e.op in BINDING:
                key, slots = canonical(e)
                places = e.args[1:] if e.op == "scan" else [ix(i) for i in free_in_order(e)]
                self._arrive(self.stages[key].terms, places, slots, indices, here, stage=True)
            elif e.op == "rec":
                scan = self.scans[e.data[0]]
                self._arrive(scan.reads, e.args, scan.slots, indices, here, stage=False)
            else:
                for child, flow in self._flows(e, here):
                    terms.setdefault(child, []).append(flow)

    def _arrive(self, target: list[Term], places: Sequence[Expr], slots: Sequence[Index], indices: tuple[Index, ...], term: Term, *,
                stage: bool) -> None:
        """Sum a term over the indices that the place leaves open, and give it to the target."""
        mapping: dict[Index, Expr] = {}
        guard: list[Expr] = []
        pending = []
        for place, slot in zip(places, slots, strict=True):
            if place.op == "ix" and place.data in indices and place.data not in mapping:
                mapping[place.data] = ix(slot)
                if place.data.axis != slot.axis:
                    guard.append(in_range(ix(slot), place.data.axis))
            else:
                pending.append((place, slot))
        # slots of two stages may share a name
        left = {i: fresh(i.axis) if isinstance(i.tag, str) else i for i in indices if i not in mapping}
        mapping |= {i: ix(n) for i, n in left.items()}
        mapping = {i: e for i, e in mapping.items() if e.data != i}
        rest = list(left.values())
        for place, slot in pending:
            (place,) = substitute((place,), mapping)
            point = _solve(place, ix(slot), rest, self.integers)
            if point is None:
                guard.append(cmp("==", place, ix(slot)))
            else:
                index, value = point
                rest.remove(index)
                mapping = {i: replace_indices(v, {index: value}) for i, v in mapping.items()} | {index: value}
                guard = list(substitute(guard, {index: value}))
                guard.append(in_range(value, index.axis))
        adjoint, *path = self._placed((term.adjoint, *term.path), mapping)
        path = [c for p in (*path, *guard) for c in conjuncts(p)]
        if FALSE in path:
            return
        outer = tuple(dict.fromkeys(c for c in path if c.free.isdisjoint(rest)))
        inner = [c for c in dict.fromkeys(path) if not c.free.isdisjoint(rest)]
        value = summed(rest, adjoint, inner, self.classes)
        if stage and inner:
            outer = _join(outer, red("any", [i for i in rest if any(i in c.free for c in inner)], and_(*inner)))
        self._deliver(target, replace(term, path=outer, adjoint=value))

    def _placed(self, roots: Sequence[Expr], mapping: Mapping[Index, Expr]) -> tuple[Expr, ...]:
        """The expressions with indices put in place. Slots go first: what stages hold of each other is then renamed once for all."""
        slots = {i: e for i, e in mapping.items() if isinstance(i.tag, str)}
        shared = all(e.op == "ix" and isinstance(e.data.tag, str) for e in slots.values())
        memo = self.renamed.setdefault(frozenset(slots.items()), {}) if shared else None
        return substitute(substitute(roots, slots, memo), {i: e for i, e in mapping.items() if i not in slots})

    def _flows(self, e: Expr, term: Term) -> Iterator[tuple[Expr, Term]]:
        """What flows from a node to each active argument."""
        path, a = term.path, term.adjoint
        match e.op:
            case "add":
                yield from ((x, term) for x in e.args if x in self.active)
            case "sub":
                x, y = e.args
                if x in self.active:
                    yield x, term
                if y in self.active:
                    yield y, replace(term, adjoint=neg(a))
            case "neg":
                yield e.args[0], replace(term, adjoint=neg(a))
            case "pw":
                yield from self._branches(e, term)
            case "mul":
                x, y = e.args
                if x in self.active:
                    yield x, self._times(term, y)
                if y in self.active:
                    yield y, self._times(term, x)
            case "div":
                x, y = e.args
                safe = not term.gate or self._nonzero(y, path) or self._nonzero(a, path)
                if x in self.active:
                    yield x, replace(term, adjoint=div(a, y) if safe else call("mul0", a, div(ONE, y)))
                if y in self.active:
                    slope = neg(div(e, y))
                    yield y, replace(term, adjoint=times(a, slope) if safe and not term.pole else call("mul0", a, slope))
            case "pow":
                yield from self._power(e, term)
            case "call":
                if e.data == "logaddexp" and _recursive(e):
                    path = _join(path, cmp("!=", e, neg(INF)))
                    term = replace(term, path=path)
                pole = not self._excluded(rows.poles(e.data, e.args), path)
                careful = replace(term, pole=term.pole or (pole and not self._nonzero(a, path)))
                after = term.pole or (pole and e.data not in _INFINITE_VALUE)
                gate = term.gate or e.data == "mul0" or rows.kinks(e.data, e.args) is not FALSE
                for x, rate in zip(e.args, rows.derivative(e.data, e.args), strict=True):
                    if x in self.active and rate is not None and rate is not ZERO:
                        yield x, replace(self._times(careful, rate), pole=after, gate=gate)

    def _branches(self, e: Expr, term: Term) -> Iterator[tuple[Expr, Term]]:
        before: list[Expr] = []
        pairs, otherwise = branches(e)
        for value, condition in pairs:
            if value in self.active:
                yield value, replace(term, path=_join(term.path, *before, condition))
            before.append(not_(condition))
        if otherwise is NAN:
            # no branch holds: the value is NaN, and so is the gradient; of an entry of a recursion only if something reads it
            if self.running:
                before.append(cmp("!=", term.adjoint, ZERO))
            for value in dict.fromkeys(v for v, _ in pairs if v in self.active):
                yield value, replace(term, path=_join(term.path, *before), adjoint=NAN)
        elif otherwise in self.active:
            yield otherwise, replace(term, path=_join(term.path, *before))

    def _power(self, e: Expr, term: Term) -> Iterator[tuple[Expr, Term]]:
        base, exponent = e.args
        if base in self.active and exponent is not ZERO:
            whole = exponent.op == "num" and exponent.data >= 1
            power = pow_(base, num(exponent.data - 1) if exponent.op == "num" else sub(exponent, ONE))
            if whole or self._nonzero(base, term.path) or self.ranges.of(sub(exponent, ONE)).low >= 0:
                yield base, self._times(term, mul(exponent, power))
            else:
                slope = mul(exponent, power) if exponent.op == "num" else call("mul0", exponent, power)
                yield base, self._times(replace(term, pole=True), slope)
        if exponent in self.active:
            yield exponent, self._times(term, call("xlogy", e, base))

    def _times(self, term: Term, factor: Expr) -> Term:
        """The chain rule's product; through ``mul0`` where the adjoint or the factor may be infinite at a pole."""
        a = term.adjoint
        if not term.pole or a is ONE or factor.op == "num":
            return replace(term, adjoint=times(a, factor))
        return replace(term, adjoint=call("mul0", a, factor))

    def _nonzero(self, e: Expr, path: Path) -> bool:
        if self.ranges.nonzero(e):
            return True
        return any(c.op == "cmp" and c.data in ("<", ">", "!=") and set(c.args) == {e, ZERO} for c in path)

    def _excluded(self, condition: Expr, path: Path) -> bool:
        """Whether a condition on a pole is known to fail."""
        if condition.op == "bool":
            return not condition.data
        if condition.op in ("or", "and"):
            parts = [self._excluded(c, path) for c in condition.args]
            return all(parts) if condition.op == "or" else any(parts)
        if condition.op == "cmp" and condition.data == "==":
            a, b = condition.args
            return self._nonzero(sub(a, b), path)
        return False


def times(a: Expr, b: Expr) -> Expr:
    """A product with signs outside and a factor ``1/b`` written as a quotient."""
    if a is MINUS_ONE:
        return neg(b)
    if b is MINUS_ONE:
        return neg(a)
    if b.op == "num" and b.data < 0 and a is not ONE:
        return neg(times(a, num(-b.data)))
    if a.op == "neg" and b.op == "neg":
        return times(a.args[0], b.args[0])
    if a.op == "neg":
        return neg(times(a.args[0], b))
    if b.op == "neg":
        return neg(times(a, b.args[0]))
    if b.op == "div" and b.args[0] is ONE:
        return div(a, b.args[1])
    if a.op == "div" and a.args[0] is ONE:
        return div(b, a.args[1])
    return mul(a, b)


def others(binders: Sequence[Index], body: Expr, guard: Expr) -> Expr:
    """The product of all factors but the one at the binders themselves: right where factors are 0, which a quotient is not."""
    new = tuple(fresh(b.axis) for b in binders)
    factor, kept = substitute((body, guard), {b: ix(n) for b, n in zip(binders, new, strict=True)})
    return red("prod", new, factor, and_(kept, or_(*(cmp("!=", ix(n), ix(b)) for n, b in zip(new, binders, strict=True)))))


def _carries(e: Expr, active: set[Expr], wrt: frozenset[str]) -> bool:
    """Whether a derivative flows through a node, given the active ones among its arguments."""
    match e.op:
        case "ref":
            return e.data in wrt
        case "red":
            return e.data[0] not in _NO_DERIVATIVE and e.args[0] in active
        case "scan":
            return e.args[0] in active
        case "pw":
            return any(v in active for v in (*e.args[::2], e.args[-1]))
        case "iverson":
            return False
        case "call" if e.data == "stop":
            return False
    return not is_condition(e) and any(a in active for a in e.args)


def adjoints(program: Program, wrt: Sequence[str], outputs: Sequence[tuple[Expr, Expr, Sequence[Index]]]) -> dict[str, Expr]:
    """The adjoints of all wrt names; through functions that the program is given by their derivatives, which are such functions too."""
    roots, hidden = lifted([e for expr, adjoint, _ in outputs for e in (expr, adjoint)])
    if not hidden:
        return {name: merge(terms) for name, terms in Reverse(program, wrt).run(outputs).items()}
    run = _Through(program, wrt, hidden)
    run.add([(roots[2*k], roots[2*k + 1], indices) for k, (_, _, indices) in enumerate(outputs)])
    for h in reversed(hidden):
        run.through(h)
    whole = put_back([merge(run.terms[name]) for name in wrt], run.hidden)
    return dict(zip(wrt, whole, strict=True))


class _Through:
    """Reverse mode through applications: each is an array among the inputs, and what flows to it flows on to its arguments."""

    def __init__(self, program: Program, wrt: Sequence[str], hidden: Sequence[Hidden]) -> None:
        self.program, self.hidden = program, list(hidden)
        moving = set(wrt)
        for h in hidden:
            if any(references([a]) & moving for a in h.arguments):
                moving.add(h.name)
        self.terms: dict[str, list[Term]] = {name: [] for name in (*wrt, *(h.name for h in hidden if h.name in moving))}

    def add(self, outputs: Sequence[Start]) -> None:
        """What flows from expressions to all names."""
        program = replace(self.program, inputs=(*self.program.inputs, *map(hidden_input, self.hidden)))
        for name, terms in Reverse(program, tuple(self.terms)).run(outputs).items():
            self.terms[name] += terms

    def through(self, h: Hidden) -> None:
        """From an application to its arguments."""
        own = hidden_input(h).indices[len(h.slots) :]
        to_result = {i: ix(b) for i, b in zip(own, h.result, strict=True)}
        for path, terms in _by_path(self.terms.get(h.name, []), own):
            weight = merge(terms) if own else ONE
            pole, gate = any(t.pole for t in terms), any(t.gate for t in terms)
            for j, argument in enumerate(h.arguments):
                if references([argument]).isdisjoint(self.terms):
                    continue
                axes = [fresh(i.axis) for i in h.axes(h.op.arguments[j])]
                slots = [fresh(i.axis) for i in h.slots]
                (cotangent,) = substitute((weight,), to_result)
                slope = apply(h.op.derivative(j), h.binders, (*h.arguments, cotangent), [ix(i) for i in axes])
                (slope,), self.hidden = lifted([slope], known=self.hidden)
                adjoint = slope if own else times(merge(terms), slope)
                mapping = dict(zip((*h.slots, *h.axes(h.op.arguments[j])), map(ix, (*slots, *axes)), strict=True))
                argument, adjoint, *conditions = substitute((argument, adjoint, *path), mapping)
                self.add([(argument, Term(tuple(conditions), adjoint, pole, gate), (*slots, *axes))])


def _by_path(terms: Sequence[Term], own: Sequence[Index]) -> list[tuple[Path, list[Term]]]:
    """Terms with the conditions that all indices aside ``own`` decide taken out; those of an array that share these together."""
    if not terms:
        return []
    if not own:
        whole = combine(terms)
        return [(whole.path, [replace(whole, path=())])]
    groups: dict[Path, list[Term]] = {}
    for t in terms:
        outer = tuple(c for c in t.path if c.free.isdisjoint(own))
        groups.setdefault(outer, []).append(replace(t, path=tuple(c for c in t.path if c not in outer)))
    return list(groups.items())


def _recursive(e: Expr) -> bool:
    """Whether a value is made of entries of a recursion, where minus infinity stands for what cannot be reached."""
    return any(x.op in ("rec", "scan") for x in postorder((e,)))


# -- public passes ----------------------------------------------------------------------------------------------------


def _known(program: Program, wrt: Sequence[str]) -> tuple[Input | Param, ...]:
    by_name: dict[str, Input | Param] = {i.name: i for i in program.declared}
    return tuple(by_name[name] for name in wrt)


def _indices(what: Input | Param) -> tuple[Index, ...]:
    return what.indices if isinstance(what, Input) else ()


def _fresh_output(output: Output, adjoint: Expr) -> tuple[Expr, Expr, tuple[Index, ...]]:
    new = tuple(fresh(i.axis) for i in output.indices)
    expr, adjoint = substitute((output.expr, adjoint), {i: ix(n) for i, n in zip(output.indices, new, strict=True)})
    return expr, adjoint, new


def _derivative(program: Program, **changes: Any) -> Program:
    """A program derived from another: what that one's text says of it does not hold for this one."""
    return replace(program, doc="", notes=(), **changes)


def gradient(program: Program, wrt: Sequence[str]) -> Program:
    """The gradient of the sum of all outputs: one output ``d<name>_d<input>`` for each name, with that input's axes."""
    found = adjoints(program, wrt, [_fresh_output(o, ONE) for o in program.outputs])
    outputs = tuple(Output(f"d{program.name}_d{w.name}", _indices(w), found[w.name]) for w in _known(program, wrt))
    return _derivative(program, name=outputs[0].name, outputs=outputs, wrt=tuple(wrt))


def pullback(program: Program, wrt: Sequence[str], seeds: Mapping[str, str]) -> Program:
    """Reverse mode with given cotangents: the new input ``seeds[output]`` has that output's axes.

    The outputs are, for each name of ``wrt`` and under that name, the gradient of the sum of all ``seed*output``.
    """
    given = [(o, seeds[o.name]) for o in program.outputs if o.name in seeds]
    new = tuple(Input(seed, Kind("real", tuple((str(i.axis), str(i.tag)) for i in o.indices))) for o, seed in given)
    starts = [_fresh_output(o, ref(seed, [ix(i) for i in o.indices])) for o, seed in given]
    found = adjoints(program, wrt, starts)
    outputs = tuple(Output(w.name, _indices(w), found[w.name]) for w in _known(program, wrt))
    return replace(program, inputs=(*program.inputs, *new), outputs=outputs, wrt=tuple(wrt))


def vjp(program: Program, wrt: Sequence[str], seed: str) -> Program:
    """The one output of the program, under its own name, and after it the ``pullback`` of ``seed``."""
    (output,) = program.outputs
    back = pullback(program, wrt, {output.name: seed})
    return replace(back, outputs=(output, *back.outputs))


def jacobian(program: Program, wrt: str) -> Program:
    """The derivative of every entry of the one output by every entry of an input: output axes first, then the input's.

    Indices of the output that share a name with the input's are renamed: the Hessian of a loss over k has axes (k1, k).
    """
    (output,) = program.outputs
    (what,) = _known(program, [wrt])
    taken = {i.tag for i in _indices(what)} | {n.name for n in program.declared}
    kept: list[Index] = []
    for i in output.indices:
        tag = i.tag
        if tag in taken:
            tag = next(t for t in (f"{i.tag}{n}" for n in range(1, 99)) if t not in taken)
        taken.add(tag)
        kept.append(Index(i.axis, tag))
    mapping = {i: ix(k) for i, k in zip(output.indices, kept, strict=True)}
    (expr,) = substitute((output.expr,), mapping)
    adjoint = adjoints(program, [wrt], [(expr, ONE, ())])[wrt]
    new = Output(f"{output.name}_d{wrt}", (*kept, *_indices(what)), adjoint)
    return _derivative(program, name=new.name, outputs=(new,), wrt=(wrt,))


def tangent(program: Program, directions: Mapping[str, str]) -> Program:
    """Forward mode: the derivative of every output along inputs ``directions[name]`` that stand beside each ``name``."""
    known = {w.name: w for w in _known(program, list(directions))}
    run = Forward(program, {name: directions[name] for name in known})
    outputs = tuple(replace(o, expr=run.of(o.expr)) for o in program.outputs)
    new = tuple(Input(directions[n], Kind("real", w.kind.axes, dims=w.kind.dims)) for n, w in known.items())
    return _derivative(program, inputs=(*program.inputs, *new), outputs=outputs)


class Forward:
    """Forward mode over a program: tangents of nodes, memoised."""

    def __init__(self, program: Program, directions: Mapping[str, str]) -> None:
        self.directions = directions
        self.ranges = Ranges(program)
        self.memo: dict[Expr, Expr] = {}
        self.opened: dict[Expr, tuple[tuple[Index, ...], Expr, Expr]] = {}
        self.scans: dict[Expr, tuple[tuple[Index, ...], Expr]] = {}  # opened
        self.states: dict[Index, Index] = {}  # that of the tangent of each opened scan

    def of(self, root: Expr) -> Expr:
        stack = [root]
        while stack:
            e = stack[-1]
            if e in self.memo:
                stack.pop()
                continue
            todo = [a for a in self._needs(e) if a not in self.memo]
            if todo:
                stack += todo
            else:
                self.memo[e] = self._tangent(stack.pop())
        return self.memo[root]

    def _needs(self, e: Expr) -> Sequence[Expr]:
        if e.op == "red" and e.data[0] not in _NO_DERIVATIVE:
            if e not in self.opened:
                self.opened[e] = open_red(e)
            return (self.opened[e][1],)
        if e.op == "scan":
            if references(e.args[:1]).isdisjoint(self.directions):
                return ()
            if e not in self.scans:
                binders, (body, *_) = open_any(e)
                self.scans[e], self.states[binders[0]] = (binders, body), fresh(STATE)
            return (self.scans[e][1],)
        if e.op == "pw":
            return (*e.args[:-1:2], e.args[-1])
        if e.op in ("ref", "rec", "iverson", "red") or is_condition(e) or (e.op == "call" and e.data == "stop"):
            return ()
        return e.args

    def _tangent(self, e: Expr) -> Expr:
        t = [self.memo[a] for a in self._needs(e)]
        match e.op:
            case "ref":
                return ref(self.directions[e.data], e.args) if e.data in self.directions else ZERO
            case "rec":
                return rec(self.states[e.data[0]], e.data[1], e.args)
            case "scan":
                return self._along(e, t[0]) if t else ZERO
            case "add":
                return add(*t)
            case "sub":
                return sub(*t)
            case "neg":
                return neg(*t)
            case "mul":
                return total(self._product(x, d) for x, d in zip(e.args[::-1], t, strict=True) if d is not ZERO)
            case "div":
                y = e.args[1]
                slopes = (div(ONE, y), neg(div(e, y)))
                return total(times(s, d) for s, d in zip(slopes, t, strict=True) if d is not ZERO)
            case "pow":
                return self._power(e, *t)
            case "pw":
                return self._piecewise(e, t)
            case "call" if e.data != "stop":
                pole = rows.poles(e.data, e.args) is not FALSE
                terms = zip(rows.derivative(e.data, e.args), t, strict=True)
                out = total(self._product(s, d, pole) for s, d in terms if s is not None and s is not ZERO and d is not ZERO)
                unreached = e.data == "logaddexp" and out is not ZERO and _recursive(e)
                return pw([(out, cmp("!=", e, neg(INF)))], ZERO) if unreached else out
            case "red" if e.data[0] not in _NO_DERIVATIVE and t[0] is not ZERO:
                return self._reduction(e, t[0])
        return ZERO

    def _product(self, slope: Expr, direction: Expr, pole: bool = False) -> Expr:
        return call("mul0", slope, direction) if pole and slope.op != "num" else times(slope, direction)

    def _power(self, e: Expr, base_tangent: Expr, exponent_tangent: Expr) -> Expr:
        base, exponent = e.args
        terms = []
        if base_tangent is not ZERO and exponent is not ZERO:
            power = pow_(base, num(exponent.data - 1) if exponent.op == "num" else sub(exponent, ONE))
            safe = self.ranges.nonzero(base) or self.ranges.of(sub(exponent, ONE)).low >= 0
            slope = mul(exponent, power) if safe or exponent.op == "num" else call("mul0", exponent, power)
            terms.append(self._product(slope, base_tangent, not safe))
        if exponent_tangent is not ZERO:
            terms.append(self._product(call("xlogy", e, base), exponent_tangent))
        return total(terms)

    def _piecewise(self, e: Expr, t: Sequence[Expr]) -> Expr:
        if all(x is ZERO for x in t):
            return ZERO
        pairs, otherwise = branches(e)
        return pw([(d, c) for d, (_, c) in zip(t, pairs, strict=False)], NAN if otherwise is NAN else t[-1])

    def _along(self, e: Expr, inner: Expr) -> Expr:
        """The tangent of a scan is a scan the same way, which reads the scan itself too."""
        (state, *own), _ = self.scans[e]
        (body,) = replace_recs((inner,), {state: lambda places: rebuild(e, (e.args[0], *places))})
        return make_scan(e.data[0], (self.states[state], *own), body, e.args[1:])

    def _reduction(self, e: Expr, inner: Expr) -> Expr:
        binders, body, guard = self.opened[e]
        match e.data[0]:
            case "sum":
                return red("sum", binders, inner, guard)
            case "prod":
                return red("sum", binders, times(others(binders, body, guard), inner), guard)
            case "max" | "min":
                at = and_(guard, cmp("==", body, e))
                return div(red("sum", binders, inner, at), red("sum", binders, ONE, at))
            case "logsumexp":
                out = red("sum", binders, times(call("exp", sub(body, e)), inner), guard)
                return pw([(out, cmp("!=", e, neg(INF)))], ZERO) if _recursive(e) else out
        slope = div(red("sum", binders, times(body, inner), guard), e)
        return slope if self.ranges.nonzero(e) else pw([(slope, cmp("!=", e, ZERO))], ZERO)
