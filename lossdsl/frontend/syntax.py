"""The syntax tree: what a reader sees on the page, with places, before any name means anything.

Spans count from the start of the text of their definition; ``Definition.base`` is where that starts in the file.
Nodes compare by identity, so that no comparison ever walks down a deep tree.
"""

from __future__ import annotations

from dataclasses import dataclass

from lossdsl.errors import Span


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    text: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    id: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    """``-`` or ``not``."""

    op: str
    value: Node
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """``+ - * / ^ and or``."""

    op: str
    left: Node
    right: Node
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Compare:
    """A chain: ``first op1 x1 op2 x2 ..``."""

    first: Node
    links: tuple[tuple[str, Node], ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Keyword:
    """``name = value`` in a call or a bracket."""

    name: str
    value: Node
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """``value if condition``; the condition of ``otherwise`` is None."""

    value: Node
    condition: Node | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """``function(args, name = value; name = value)``; the function is a name or a name with a bracket, else a mistake."""

    function: Node
    args: tuple[Node, ...]
    keywords: tuple[Keyword, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Binder:
    """``name in axis``, or ``name in low..high``."""

    name: Name
    axis: Node
    high: Node | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Bracket:
    """``base[items | guard]``: a subscript, or the bracket of a function that is called."""

    base: Node
    items: tuple[Node, ...]
    guard: Node | None
    span: Span


Node = Number | Name | Unary | Binary | Compare | Keyword | Branch | Call | Binder | Bracket


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """``n``, ``j in i``, ``q = 4``, ``b in 0..bins`` or ``(k, s = S)``."""

    name: str
    span: Span
    of: Node | None = None
    high: Node | None = None
    size: Node | None = None
    parts: tuple[Axis, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    low: Node
    high: Node
    low_open: bool
    high_open: bool
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """``name(of, ignore = value)[axes] in interval``."""

    name: Name
    options: tuple[Name | Keyword, ...]
    axes: tuple[Axis, ...]
    interval: Interval | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class FunctionKind:
    args: tuple[Kind | FunctionKind, ...]
    result: Kind | FunctionKind
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    name: str
    kind: Kind | FunctionKind | None
    default: Node | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """An index in a head: ``i``, ``i in n`` or ``w in low..high``; ``span`` is all of it."""

    name: str
    axis: Node | None
    span: Span
    high: Node | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """``name[heads] = body``, or with ``params`` a local function; ``span`` is the name's."""

    name: str
    params: tuple[Name, ...] | None
    heads: tuple[Head, ...] | None
    body: Node
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """A line after the equation: ``text`` is where it says what it says.

    ``names`` are those of wrt and batch, ``value`` the condition of require, ``parts`` the pieces of the others as text.
    """

    tag: str
    span: Span
    text: Span
    names: tuple[Name, ...] = ()
    value: Node | None = None
    parts: tuple[str | tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """One equation. ``hypers`` is None where no ``;`` tells the hyper-parameters from the inputs; ``span`` is the name's."""

    name: str
    heads: tuple[Head, ...] | None
    inputs: tuple[Parameter, ...]
    hypers: tuple[Parameter, ...] | None
    body: Node
    locals: tuple[Local, ...]
    annotations: tuple[Annotation, ...]
    doc: str
    span: Span
    base: int = 0


def children(node: Node) -> tuple[Node, ...]:
    """The parts of an expression, in order."""
    match node:
        case Unary(value=value) | Keyword(value=value):
            return (value,)
        case Binary(left=left, right=right):
            return (left, right)
        case Compare(first=first, links=links):
            return (first, *(x for _, x in links))
        case Branch(value=value, condition=condition):
            return (value,) if condition is None else (value, condition)
        case Call(function=function, args=args, keywords=keywords):
            return (function, *args, *keywords)
        case Binder(name=name, axis=axis, high=high):
            return (name, axis) if high is None else (name, axis, high)
        case Bracket(base=base, items=items, guard=guard):
            return (base, *items) if guard is None else (base, *items, guard)
    return ()
