"""What looks wrong in a definition: one function for each lint, which yields the places.

Where a lint speaks of values, it speaks of what is sure: of every admissible input (by intervals), or of one that it has found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from math import inf

from lossdsl.errors import LossError, Span
from lossdsl.frontend import syntax
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.expr import NAN, ONE, TRUE, Expr, branches, ix, open_red, postorder, references, replace_indices
from lossdsl.ir.ranges import Ranges, Reach
from lossdsl.kinds import Interval
from lossdsl.passes.gradient import gradient
from lossdsl.pipeline import explicit
from lossdsl.quality import pieces
from lossdsl.quality.subject import Finding, Point, Subject, called, decided, is_point
from lossdsl.reductions import REDUCTIONS

Find = Callable[[Subject], Iterator[Finding]]


def said(name: str) -> Find:
    """What the front end has noticed under a name."""

    def find(s: Subject) -> Iterator[Finding]:
        base = s.definition.base
        for r in s.watched.remarks:
            if r.name == name:
                yield Finding(Span(r.span.start - base, r.span.end - base), r.message, r.hint)

    return find


def nothing(s: Subject) -> Iterator[Finding]:
    """For what is found beside the definitions."""
    return iter(())


# -- names ------------------------------------------------------------------------------------------------------------


def unused_axis(s: Subject) -> Iterator[Finding]:
    for node in s.nodes:
        if isinstance(node, syntax.Call) and isinstance(node.function, syntax.Bracket) and s.terms(node):
            for k, item in enumerate(node.function.items):
                own = isinstance(item, syntax.Name) and item.id in s.watched.signature.axes
                if own and all(_ignores(e, k, len(node.function.items)) for e in s.numbers(node)):
                    yield Finding(item.span, f"what '{called(node)}' runs over does not depend on the axis '{s.text(item)}'")


def _ignores(e: Expr, k: int, many: int) -> bool:
    """Whether the outermost reductions bind an index that they do not use, and do more than count."""
    found = [r for r in _outermost(e) if len(r.data[1]) == many]
    used = [r for r in found if any(r.data[1][k] in a.free for a in r.args)]
    return bool(found) and not used and any(r.args[0].op not in ("num", "bool") for r in found)


def _outermost(e: Expr) -> list[Expr]:
    out, stack = [], [e]
    while stack:
        x = stack.pop()
        if x.op == "red":
            out += [x] if x.data[0] in REDUCTIONS else []
        elif x.op in ("neg", "div", "call", "sub", "pw", "not", "iverson"):
            stack += x.args
    return out


def unused_definition(s: Subject) -> Iterator[Finding]:
    d = s.definition
    if d.name.startswith("_") and not any(d.name in _mentioned(x) for x in s.watched.siblings if x is not d):
        yield Finding(d.span, f"nothing in this file uses '{d.name}', and nothing else can")


def _mentioned(d: syntax.Definition) -> set[str]:
    defaults = [p.default for p in (*d.inputs, *(d.hypers or ())) if p.default is not None]
    stack: list[syntax.Node] = [d.body, *(x.body for x in d.locals), *defaults]
    out: set[str] = set()
    while stack:
        node = stack.pop()
        if isinstance(node, syntax.Name):
            out.add(node.id)
        stack += syntax.children(node)
    return out


# -- gradients --------------------------------------------------------------------------------------------------------


def _wrt_places(s: Subject) -> Iterator[tuple[str, Span]]:
    """What is differentiated by, and where that is said."""
    written = {n.id: n.span for a in s.definition.annotations if a.tag == "wrt" for n in a.names}
    for name in s.wrt:
        yield name, written.get(name, s.definition.body.span)


def _flowing(roots: Sequence[Expr]) -> set[str]:
    """Names that occur outside of ``stop``."""
    seen: dict[Expr, None] = {}
    stack = list(roots)
    while stack:
        e = stack.pop()
        if e not in seen and not (e.op == "call" and e.data == "stop"):
            seen[e] = None
            stack += e.args
    return {e.data for e in seen if e.op == "ref"}


def wrt_without_effect(s: Subject) -> Iterator[Finding]:
    for name, span in _wrt_places(s):
        if name in references(s.program.roots) - _flowing(s.program.roots):
            yield Finding(span, f"'{name}' stands inside of stop(..) only, so the gradient by it is 0")


def zero_gradient(s: Subject) -> Iterator[Finding]:
    for name, span in _wrt_places(s):
        if name in _flowing(s.program.roots) and not s.is_large:
            try:
                slopes = gradient(explicit(s.program), [name]).roots
            except LossError:
                continue
            if all(_vanishes(e) for e in slopes):
                yield Finding(span, f"the gradient by '{name}' is 0 almost everywhere")


def _vanishes(e: Expr) -> bool:
    """Whether an expression is 0 by the way it is made."""
    stack = [e]
    while stack:
        x = stack.pop()
        match x.op:
            case "num" if x.data == 0:
                pass
            case "neg" | "add" | "sub":
                stack += x.args
            case "red" if x.data[0] == "sum":
                stack.append(x.args[0])
            case "pw":
                pairs, other = branches(x)
                stack += [*(v for v, _ in pairs), *([] if other is NAN else [other])]
            case _:
                return False
    return True


def unbounded_below(s: Subject) -> Iterator[Finding]:
    """At numbers of growing size, one input at a time, the value is below growing bounds."""
    if not s.is_number or s.is_large or any(e.op == "call" and e.data == "stop" for e in postorder(s.program.roots)):
        return
    root = s.program.value
    for name in s.wrt:
        domain = s.declared[name].domain
        for sign, end in ((1, domain.high), (-1, domain.low)):
            if name in references([root]) and not s.declared[name].kind.integer and abs(end) == inf:
                for rest in islice(s.points([root], but=name, defaults=True), 12):
                    if all(_below(s, root, {**rest, name: Fraction(sign * 10**n)}, 10 ** (n // 3)) for n in (6, 12, 24)):
                        way = "grows" if sign > 0 else "falls"
                        yield Finding(s.definition.body.span, f"the value falls below every bound as '{name}' {way}{_where(rest)}")
                        return


def _below(s: Subject, root: Expr, point: Point, bound: int) -> bool:
    r = s.at(point, [root]).reach(root)
    return not r.nan and not r.empty and -bound > r.interval.high


def _where(point: Point) -> str:
    return f", where {' and '.join(f'{k} is {v}' for k, v in point.items())}" if 0 < len(point) <= 3 else ""


# -- conditions -------------------------------------------------------------------------------------------------------


def _links(s: Subject) -> Iterator[tuple[Span, str, syntax.Node, syntax.Node]]:
    for node in s.nodes:
        if isinstance(node, syntax.Compare):
            left = node.first
            for op, right in node.links:
                yield Span(left.span.start, right.span.end), op, left, right
                left = right


_INFINITE = (Interval(inf, inf, False, False), Interval(-inf, -inf, False, False))  # a hyper-parameter may be infinite


def _verdicts(s: Subject, op: str, a: syntax.Node, b: syntax.Node) -> set[bool | None]:
    """Whether a comparison holds, each time that it is made; comparisons of classes with numbers have a lint of their own."""
    if _class_and_number(s, a, b) is not None or any(s.ranges.of(e) in _INFINITE for n in (a, b) for e in s.numbers(n)):
        return {None}
    return {decided(op, s.ranges.reach(x), s.ranges.reach(y)) for x, y in zip(s.numbers(a), s.numbers(b), strict=False)}


def never_holds(s: Subject) -> Iterator[Finding]:
    for span, op, a, b in _links(s):
        if _verdicts(s, op, a, b) == {False}:
            yield Finding(span, f"'{s.text(a)} {op} {s.text(b)}' never holds{_because(s, a, b)}")


def always_holds(s: Subject) -> Iterator[Finding]:
    for span, op, a, b in _links(s):
        if _verdicts(s, op, a, b) == {True}:
            yield Finding(span, f"'{s.text(a)} {op} {s.text(b)}' always holds{_because(s, a, b)}")


def _because(s: Subject, *nodes: syntax.Node) -> str:
    """Where the values of what is no number lie."""
    told = [f"'{s.text(n)}' is in {s.ranges.of(s.numbers(n)[0])}" for n in nodes if not any(e.op == "num" for e in s.numbers(n))]
    return f": {' and '.join(told)}" if told else ""


def _class_and_number(s: Subject, a: syntax.Node, b: syntax.Node) -> tuple[syntax.Node, Fraction] | None:
    for x, y in ((a, b), (b, a)):
        literals = {t.literal for t in s.terms(y)}
        if len(literals) == 1 and None not in literals and all(t.sort.role == "class" for t in s.terms(x)):
            (number,) = literals
            return (x, number) if number is not None else None
    return None


def class_outside_axis(s: Subject) -> Iterator[Finding]:
    for span, _, a, b in _links(s):
        found = _class_and_number(s, a, b)
        if found is None:
            continue
        node, number = found
        ignored = {kind.ignore for kind in map(s.kind, s.numbers(node)) if kind is not None}
        if (number < 0 or number.denominator != 1) and number not in ignored:
            yield Finding(span, f"'{s.text(node)}' is a class, counted from 0, and never {s.text(b if node is a else a)}")


def real_equality(s: Subject) -> Iterator[Finding]:
    for span, op, a, b in _links(s):
        if op in ("==", "!=") and s.terms(a) and all(_real_pair(s, x, y) for x, y in zip(s.numbers(a), s.numbers(b), strict=False)):
            yield Finding(span, f"two real numbers, '{s.text(a)}' and '{s.text(b)}', are hardly ever equal")


_ATTAINED = ("max", "min", "clip", "relu", "abs", "sign", "floor", "ceil")


def _real_pair(s: Subject, a: Expr, b: Expr) -> bool:
    """Whether neither is a whole number, a constant, an extreme value, or part of the other."""
    for x, y in ((a, b), (b, a)):
        if s.ranges.whole(x) or not s.inputs_of([x]) or any(e is y for e in postorder([x])):
            return False
        if (x.op == "red" and x.data[0] in ("max", "min")) or (x.op == "call" and x.data in _ATTAINED) or x.op == "pw":
            return False
    return True


# -- piecewise --------------------------------------------------------------------------------------------------------


def _piecewise(s: Subject) -> Iterator[tuple[list[syntax.Branch], list[list[Expr]]]]:
    """The branches of each piecewise, and their conditions each time that they mean something."""
    for node in s.calls("piecewise"):
        found = [b for b in node.args if isinstance(b, syntax.Branch)]
        written = [b.condition for b in found if b.condition is not None]
        times = zip(*(s.terms(c) for c in written), strict=False)
        yield found, [[t.expr for t in each] for each in times]


def branch_never_taken(s: Subject) -> Iterator[Finding]:
    for found, times in _piecewise(s):
        each = [pieces.unreached(s, conditions) for conditions in times]
        for k in sorted(set.intersection(*each)) if each else ():
            yield Finding(found[k].span, f"whenever '{s.text(_condition(found[k]))}' holds, an earlier branch is taken")


def _condition(branch: syntax.Branch) -> syntax.Node:
    return branch.condition if branch.condition is not None else branch.value


def piecewise_gap(s: Subject) -> Iterator[Finding]:
    for found, times in _piecewise(s):
        if found and found[-1].condition is not None and times:
            gaps = [pieces.gap(s, conditions) for conditions in times]
            if gaps[0] is not None and None not in gaps:
                (a, b), cell = gaps[0]
                point = cell.interval.low == cell.interval.high
                what = f"{a!r} == {cell.sample}" if b is None and point else f"{a!r} is {cell.sample}" if b is None else f"{a!r} == {b!r}"
                if b is not None and not point:
                    what = f"{a!r} {'<' if cell.sample < 0 else '>'} {b!r}"
                span = Span(found[0].span.start, found[-1].span.end)
                yield Finding(span, f"no condition holds where {what}, so the value there is NaN")


def branch_without_effect(s: Subject) -> Iterator[Finding]:
    for found, _ in _piecewise(s):
        if len(found) > 1 and found[-1].condition is None:
            values = list(zip(s.numbers(found[-2].value), s.numbers(found[-1].value), strict=False))
            if values and all(a is b for a, b in values):
                yield Finding(found[-2].span, f"the branch has the value '{s.text(found[-1].value)}' that is taken otherwise")


def jump(s: Subject) -> Iterator[Finding]:
    if not s.is_number or s.is_large:
        return
    for node in s.calls("piecewise"):
        nodes = s.numbers(node)
        if len(nodes) == 1 and nodes[0].op == "pw" and pieces.within(nodes[0], s.program.value):
            found = pieces.jump(s, nodes[0])
            if found is not None:
                k, point, before, after = found
                branch = node.args[k]
                assert isinstance(branch, syntax.Branch)
                what = f"the value jumps where '{s.text(_condition(branch))}' begins to hold{_where(point)}"
                yield Finding(_condition(branch).span, f"{what}: {_shown(before)} on one side, {_shown(after)} on the other")


def _shown(i: Interval) -> str:
    return str(i.low) if i.low == i.high else f"between {i.low} and {i.high}"


# -- arithmetic -------------------------------------------------------------------------------------------------------


def same_operands(s: Subject) -> Iterator[Finding]:
    for node in s.nodes:
        match node:
            case syntax.Binary(op="-" | "/" | "and" | "or", left=a, right=b):
                sign = node.op
            case syntax.Compare(first=a, links=(("<" | "<=" | ">" | ">=" as sign, b),)):
                pass
            case syntax.Call(args=(a, b), function=syntax.Name(id="max" | "min" as sign)) if s.builtin(node):
                pass
            case _:
                continue
        values = list(zip(s.numbers(a), s.numbers(b), strict=False))
        if values and all(x is y and references([x]) for x, y in values):
            yield Finding(node.span, f"both sides of '{sign}' are '{s.text(a)}'")


def no_effect(s: Subject) -> Iterator[Finding]:
    for node in s.calls("abs", "relu", "max", "min", "clip"):
        name = called(node)
        if isinstance(node.function, syntax.Bracket) or not s.terms(node):
            continue
        times = [[s.ranges.reach(x) for x in each] for each in zip(*map(s.numbers, node.args), strict=False)]
        kept = {k for k in range(len(node.args)) if times and all(_changes_nothing(name, args, k) for args in times)}
        if kept:
            only = node.args[min(kept)]
            yield Finding(node.span, f"'{name}' changes nothing: '{s.text(only)}' is always what it gives")


def _changes_nothing(name: str, args: Sequence[Reach], k: int) -> bool:
    """Whether the result is always the k-th argument."""
    mine, others = args[k].interval, [a.interval for j, a in enumerate(args) if j != k]
    if any(a.empty for a in args):
        return False
    match name:
        case "abs" | "relu":
            return mine.low >= 0
        case "max":
            return all(mine.low >= o.high for o in others)
        case "min":
            return all(mine.high <= o.low for o in others)
    return k == 0 and mine.low >= others[0].high and mine.high <= others[1].low


def squashed_twice(s: Subject) -> Iterator[Finding]:
    for node in s.calls("sigmoid", "logsigmoid", "softmax", "log_softmax", "bce_with_logits"):
        name = called(node)
        if node.args and s.terms(node.args[0]) and all(t.sort.kind in ("prob", "unit", "simplex") for t in s.terms(node.args[0])):
            yield Finding(node.args[0].span, f"'{s.text(node.args[0])}' is a probability, and '{name}' takes any real number")


def log_of_unit(s: Subject) -> Iterator[Finding]:
    yield from said("log-of-unit")(s)
    for node in s.calls("log", "log2", "log10"):
        if len(node.args) == 1 and s.always(node.args[0], lambda e: _rest_of_unit(s, e)):
            text = s.text(node.args[0])
            hint = f"declare it as prob if it is never 1, or clip it: log(clip({text}, 1e-12, 1))"
            yield Finding(node.args[0].span, f"'{text}' may be 0, where the logarithm is -inf", hint)


def _rest_of_unit(s: Subject, e: Expr) -> bool:
    return e.op == "sub" and e.args[0] is ONE and _is_a(s, e.args[1], "unit")


def _is_a(s: Subject, e: Expr, name: str) -> bool:
    """Whether an expression reads a name of a kind."""
    kind = s.kind(e)
    return kind is not None and kind.name == name


def unexpanded_log(s: Subject) -> Iterator[Finding]:
    for node in s.nodes:
        if isinstance(node, syntax.Binary) and node.op == "*" and s.always(node, lambda e: _weighs_log(s, e)):
            yield Finding(node.span, f"'{s.text(node)}' is NaN where the weight is 0, for its logarithm stands in a sum")


def _weighs_log(s: Subject, e: Expr) -> bool:
    """Whether a factor that may be 0 multiplies a sum with its own logarithm."""
    factors, stack = [], [e]
    while stack:
        x = stack.pop()
        if x.op in ("mul", "neg"):
            stack += x.args
        else:
            factors.append(x)
    weights = [f for f in factors if s.ranges.reach(f).zero]
    return any(_logarithm_of(t, w) for f in factors if f.op in ("add", "sub") for _, t in _terms(f) for w in weights)


def _logarithm_of(e: Expr, x: Expr) -> bool:
    inner = e.args[0] if e.op == "call" and e.data in ("log", "log2", "log10") else None
    return inner is not None and (inner is x or (inner.op == "div" and inner.args[0] is x))


def _terms(e: Expr) -> list[tuple[bool, Expr]]:
    """The terms of a sum, and whether each is subtracted."""
    out: list[tuple[bool, Expr]] = []
    stack = [(False, e)]
    while stack:
        negative, x = stack.pop()
        match x.op:
            case "add":
                stack += [(negative, x.args[1]), (negative, x.args[0])]
            case "sub":
                stack += [(not negative, x.args[1]), (negative, x.args[0])]
            case "neg":
                stack.append((not negative, x.args[0]))
            case _:
                out.append((negative, x))
    return out


def zero_over_zero(s: Subject) -> Iterator[Finding]:
    for node in s.nodes:
        if isinstance(node, syntax.Binary) and node.op == "/" and node in s.unguarded:
            ratios = list(zip(s.numbers(node.left), s.numbers(node.right), strict=False))
            names = {_vanishing(s, a, b) for a, b in ratios}
            if len(names) == 1 and None not in names:
                (pair,) = names
                assert pair is not None
                yield Finding(node.span, f"'{s.text(node)}' is 0/0 where '{pair[0]}' equals '{pair[1]}'")


def _vanishing(s: Subject, above: Expr, below: Expr) -> tuple[str, str] | None:
    """Two inputs such that both sides of a quotient are 0 where they are equal."""
    for e in postorder([below]):
        if e.op == "sub" and e.args[0].op == e.args[1].op == "ref" and e.args[0].data != e.args[1].data:
            pair = e.args[0].data, e.args[1].data
            ranges = Ranges(s.program)
            for x in postorder([above, below]):
                if x.op == "sub" and x.args[0].op == x.args[1].op == "ref" and {a.data for a in x.args} == set(pair):
                    ranges.assume(x, Interval(Fraction(0), Fraction(0), False, False))
            if all(is_point(ranges.of(x), 0) for x in (above, below)):
                return pair
    return None


def outside_domain(s: Subject) -> Iterator[Finding]:
    for node in () if s.is_large else s.nodes:
        if node not in s.unguarded:
            continue
        if isinstance(node, syntax.Call) and isinstance(node.function, syntax.Name):
            row = FUNCTIONS.get(s.builtin(node))
            if row is None or len(node.args) != row.arity:
                continue
            for domain, arg in zip(row.domain, node.args, strict=True):
                for e in s.numbers(arg)[:1]:
                    if s.ranges.of(e).within(domain):
                        continue
                    found = s.witness(e, lambda r, domain=domain: _outside(r, domain))  # type: ignore[misc]
                    if found is not None:
                        yield Finding(arg.span, f"'{row.name}' is NaN outside of {domain}, as {_example(s, arg, found)}")
        elif isinstance(node, syntax.Binary) and node.op == "^" and s.terms(node):
            base, exponent = s.numbers(node.left)[0], s.numbers(node.right)[0]
            for point in s.points([base, exponent]):
                ranges = s.at(point, [base, exponent])
                power = ranges.of(exponent)
                if ranges.of(base).high < 0 and power.low == power.high and Fraction(power.low).denominator != 1:
                    yield Finding(node.left.span, f"a power {power.low} of a negative number is NaN, as {_example(s, node.left, point)}")
                    break


def _outside(r: Reach, domain: Interval) -> bool:
    i = r.interval
    below = i.high < domain.low or (i.high == domain.low and domain.low_open)
    above = i.low > domain.high or (i.low == domain.high and domain.high_open)
    return not r.empty and not r.nan and (below or above)


def _example(s: Subject, node: syntax.Node, point: Point) -> str:
    text = s.text(node)
    if list(point) == [text]:
        return f"where '{text}' is {point[text]}"
    return f"'{text}' may be{_where(point)}"


def binary_as_mask(s: Subject) -> Iterator[Finding]:
    for node in s.nodes:
        if isinstance(node, syntax.Binary) and node.op == "*" and s.terms(node):
            for mask, other in ((node.left, node.right), (node.right, node.left)):
                if s.always(mask, lambda e: _is_a(s, e, "binary")) and s.always(node, lambda e: e.op == "mul"):
                    where = [_singular(s, e) for e in s.numbers(other)]
                    if where and None not in where:
                        text = s.text(mask)
                        what = f"'{s.text(other)}' may be infinite or NaN, and so is 0 times it: the number '{text}' hides nothing"
                        yield Finding(node.span, what, f"a condition does: ({text} == 1)*.., or a guard: | {text} == 1")


def _singular(s: Subject, e: Expr) -> Point | None:
    """A point at which something is surely divided by 0."""
    stack = [e]
    while stack:
        x = stack.pop()
        if x.op == "div":
            found = s.witness(x.args[1], lambda r: is_point(r.interval, 0))
            if found is not None:
                return found
        if x.op in ("add", "sub", "mul", "div", "neg") or (x.op == "call" and x.data == "abs"):
            stack += x.args
        elif x.op == "pow" and x.args[1].op == "num" and x.args[1].data > 0:
            stack.append(x.args[0])
    return None


# -- samples and pairs ------------------------------------------------------------------------------------------------


def pairs_with_themselves(s: Subject) -> Iterator[Finding]:
    taken_away = _subtracted(s)  # as in an energy distance, where they are meant
    for node in s.calls("mean"):
        if node in taken_away or not isinstance(node.function, syntax.Bracket):
            continue
        if s.always(node, lambda e: _vanishes_on_diagonal(s, e)):
            items = node.function.items
            names = [i.name.id if isinstance(i, syntax.Binder) else s.text(i) for i in items]
            hint = f"leave the pairs of an element with itself out: mean[{', '.join(map(s.text, items))} | {names[0]} != {names[1]}](..)"
            yield Finding(node.function.span, "the mean counts the pairs of each element with itself, which are 0", hint)


def _subtracted(s: Subject) -> set[syntax.Node]:
    """What stands behind a minus sign, as it is or in a product."""
    stack = [n.right for n in s.nodes if isinstance(n, syntax.Binary) and n.op == "-"]
    stack += [n.value for n in s.nodes if isinstance(n, syntax.Unary)]
    for n in stack:
        if isinstance(n, syntax.Binary) and n.op in "*/":
            stack += (n.left, n.right)
    return set(stack)


def _vanishes_on_diagonal(s: Subject, e: Expr) -> bool:
    for r in _outermost(e):
        if len(r.data[1]) == 2 and r.data[1][0].axis == r.data[1][1].axis and r.args[1] is TRUE and r.args[0].op != "num":
            (i, j), body, _ = open_red(r)
            if not {i, j} <= body.free:
                return False
            diagonal = replace_indices(body, {j: ix(i)})
            ranges = Ranges(s.program)
            for x in postorder([diagonal]):
                if x.op == "sub" and x.args[0] is x.args[1]:
                    ranges.assume(x, Interval(Fraction(0), Fraction(0), False, False))
            return is_point(ranges.of(diagonal), 0)
    return False


def summed_samples(s: Subject) -> Iterator[Finding]:
    if s.program.batch is None:
        return
    for root in s.program.roots:
        for _, term in _terms(root):
            factors = [term]
            while factors and factors[-1].op == "mul":
                a, b = factors.pop().args
                factors += [x for x in (a, b) if x.op not in ("num", "const") and s.inputs_of([x])]
            if any(x.op == "red" and x.data[0] == "sum" and s.program.batch in [b.axis for b in x.data[1]] for x in factors):
                yield Finding(
                    s.definition.body.span, f"the loss is a sum over its samples, '{s.program.batch}', and grows with their number"
                )
                return


def term_without_samples(s: Subject) -> Iterator[Finding]:
    if s.program.batch is not None or not s.is_number:
        return
    terms = [t for _, t in _terms(s.program.value) if s.inputs_of([t])]
    scalar = {i.name for i in s.program.inputs if not i.axes}
    samples = [t for t in terms if s.inputs_of([t]) <= scalar]
    for term in terms:
        names = s.inputs_of([term])
        if samples and len(names) == 1 and not names & scalar and all(s.declared[n].kind.name in _WEIGHTS for n in names):
            (name,) = names
            span = next((n.span for n in s.nodes if any(e is term for e in s.numbers(n))), s.definition.body.span)
            yield Finding(span, f"the term in '{name}' has no samples, and is counted once for each of them beside terms that have")


_WEIGHTS = ("real", "positive", "nonnegative")


def eps_only_below(s: Subject) -> Iterator[Finding]:
    for node in s.nodes:
        if isinstance(node, syntax.Binary) and node.op == "-" and s.always(node, lambda e: _smoothed_below(s, e) is not None):
            name = _smoothed_below(s, s.numbers(node)[0])
            yield Finding(node.right.span, f"'{name}' is added below and not above: where both sums are 0 the loss is 1, not 0")


def _smoothed_below(s: Subject, e: Expr) -> str | None:
    """The hyper-parameter of ``1 - above/(below + eps)``, for two sums that are never negative."""
    if e.op != "sub" or e.args[0] is not ONE or e.args[1].op != "div":
        return None
    above, below = e.args[1].args
    parts = [t for _, t in _terms(below)]
    added = [t.data for t in parts if t.op == "ref" and t.data not in {i.name for i in s.program.inputs}]
    rest = [t for t in parts if s.inputs_of([t])]
    sums = all(any(x.op == "red" and x.data[0] == "sum" for x in postorder([t])) for t in (above, *rest))
    if len(added) != 1 or not rest or not sums or added[0] in references([above, *rest]):
        return None
    return str(added[0]) if all(s.ranges.nonnegative(t) for t in (above, *rest)) else None


# -- what a published loss has ----------------------------------------------------------------------------------------


def _public(s: Subject, missing: bool, what: str) -> Iterator[Finding]:
    if missing and not s.definition.name.startswith("_"):
        yield Finding(s.definition.span, f"'{s.definition.name}' {what}")


def missing_doc(s: Subject) -> Iterator[Finding]:
    yield from _public(s, not s.definition.doc, "has no docstring")


def missing_source(s: Subject) -> Iterator[Finding]:
    yield from _public(s, not any(a.tag == "source" for a in s.definition.annotations), "names no source")


def missing_wrt(s: Subject) -> Iterator[Finding]:
    yield from _public(s, not s.program.wrt, "does not say by what it is differentiated")
