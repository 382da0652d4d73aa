"""Programs as JSON and back: one table of nodes, arguments first, each with its operation, its arguments' places and its data.

Nothing here knows an operation. Data are numbers, strings, tuples and the records below, and nodes where a record holds some; a
list stands for a tuple, an object with one member for the rest. What is of another type is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any

from lossdsl.ir.applied import Applied, Slope
from lossdsl.ir.expr import Expr, Index, Range, restored
from lossdsl.ir.program import Function, Input, Note, Output, Param, Program, Written
from lossdsl.kinds import FunctionKind, Interval, Kind

_RECORDS = (Index, Range, Interval, Kind, FunctionKind, Applied, Slope, Input, Param, Function, Output, Note, Program, Written)
RECORDS: dict[str, type] = {r.__name__: r for r in _RECORDS}
_FIELDS = {r: tuple(f.name for f in fields(r)) for r in RECORDS.values()}
_PLAIN = frozenset({type(None), bool, int, float, str})
_LEAVES = _PLAIN | {Fraction}


class NotStorable(ValueError):
    """Something in a program has no JSON that it comes back from."""


def packed(programs: Sequence[Program]) -> dict[str, Any]:
    """Programs as JSON values."""
    places: dict[Expr, int] = {}
    rows: list[list[Any]] = []
    for e in _arguments_first(_held(tuple(programs))):
        places[e] = len(rows)
        row: list[Any] = [e.op, [places[a] for a in e.args]]
        rows.append(row if e.data is None else [*row, _value(e.data, places)])
    return {"nodes": rows, "programs": [_value(p, places) for p in programs]}


def unpacked(value: Any) -> tuple[Program, ...]:
    """The programs that ``packed`` gave this for, with the very nodes that they had. Raises ``ValueError`` for anything else."""
    try:
        nodes: list[Expr] = []
        for op, args, *data in value["nodes"]:
            nodes.append(restored(op, tuple([nodes[k] for k in args]), *(_restored(x, nodes) for x in data)))
        out = tuple(_restored(p, nodes) for p in value["programs"])
    except (KeyError, IndexError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"no programs: {error}") from None
    if not all(type(p) is Program for p in out):
        raise ValueError("no programs")
    return out


def _value(x: Any, places: dict[Expr, int]) -> Any:
    kind = type(x)
    if kind in _PLAIN:
        return x
    if kind is Expr:
        return {"node": places[x]}
    if kind is tuple:
        return [_value(y, places) for y in x]
    if kind is Fraction:
        return {"number": f"{x.numerator:x}/{x.denominator:x}"}
    if kind is Index and type(x.tag) is int:
        raise NotStorable("the name of a fresh index means something in its own process only")
    if kind in _FIELDS:
        return {kind.__name__: [_value(getattr(x, f), places) for f in _FIELDS[kind]]}
    raise NotStorable(f"{kind.__name__} is not stored")


def _restored(x: Any, nodes: Sequence[Expr]) -> Any:
    if isinstance(x, list):
        return tuple([_restored(y, nodes) for y in x])
    if not isinstance(x, dict):
        return x
    ((name, inner),) = x.items()
    if name == "node":
        return nodes[inner]
    if name == "number":
        numerator, denominator = inner.split("/")
        return Fraction(int(numerator, 16), int(denominator, 16))
    return RECORDS[name](*(_restored(y, nodes) for y in inner))


def _held(x: Any) -> Iterator[Expr]:
    """The nodes in a value, not looking into them."""
    kind = type(x)
    if kind is Expr:
        yield x
    elif kind is tuple:
        for y in x:
            yield from _held(y)
    elif kind in _FIELDS:
        for f in _FIELDS[kind]:
            yield from _held(getattr(x, f))


def _arguments_first(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every node once, after its arguments and the nodes in its data."""
    seen: set[Expr] = set()
    stack = [(e, False) for e in reversed(list(roots))]
    while stack:
        e, done = stack.pop()
        if done:
            yield e
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            inside = () if type(e.data) in _LEAVES else _held(e.data)
            stack += [(a, False) for a in reversed((*e.args, *inside)) if a not in seen]
