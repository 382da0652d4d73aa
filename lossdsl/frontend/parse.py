"""Text -> syntax trees: the file is cut into definitions, each is parsed by itself, and what went wrong is said in words."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from lossdsl.errors import LossError, Source, Span
from lossdsl.frontend import complaints
from lossdsl.frontend.files import MAX_SIZE, clean
from lossdsl.frontend.syntax import (
    Annotation,
    Axis,
    Binary,
    Binder,
    Bracket,
    Branch,
    Call,
    Compare,
    Definition,
    FunctionKind,
    Head,
    Interval,
    Keyword,
    Kind,
    Local,
    Name,
    Node,
    Number,
    Parameter,
    Unary,
)

if TYPE_CHECKING:
    from lark import Lark

MAX_DEPTH = 500

_lock = threading.Lock()


def parse(text: str, origin: str = "<text>") -> tuple[list[Definition], list[LossError]]:
    """All definitions of a text, and an error for each that is not well formed."""
    text = clean(text)
    source = Source(text, origin)
    if len(text) > MAX_SIZE:
        hint = "split it into several files"
        return [], [LossError(f"the file is larger than {MAX_SIZE:,} characters", span=Span(0, 1), source=source, hint=hint)]
    definitions: list[Definition] = []
    errors: list[LossError] = []
    for start, end in chunks(source):
        try:
            definitions.append(_definition(source, start, end))
        except LossError as error:
            errors.append(error)
    return definitions, errors


def _definition(source: Source, start: int, end: int) -> Definition:
    chunk = source.text[start:end]
    complaints.check_layout(source, start, chunk)
    complaints.check_depth(source, start, chunk, MAX_DEPTH)
    complaints.check_signs(source, start, chunk)
    from lark.exceptions import UnexpectedInput

    try:
        tree: Any = _parser().parse(chunk)
    except UnexpectedInput as error:
        raise complaints.syntax_error(source, start, chunk, error) from None
    assert isinstance(tree, Definition)
    return replace(tree, base=start)


# -- cutting a file into definitions ----------------------------------------------------------------------------------

_DOC = re.compile(r'"""[\s\S]*?"""')
_BLANK = re.compile(r"(?:[^\S\n]*(?:#[^\n]*)?(?:\n|\Z))*")


def chunks(source: Source) -> Iterator[tuple[int, int]]:
    """Where each definition starts and ends, with the docstring before it and the indented lines after it."""
    text, place = source.text, 0
    while place < len(text):
        blank = _BLANK.match(text, place)
        start = blank.end() if blank and blank.end() > place else place
        if start >= len(text):
            return
        place = start
        doc = _DOC.match(text, place)
        if doc:
            place = doc.end()
            gap = _BLANK.match(text, place)
            place = gap.end() if gap else place
            if place >= len(text) or text.startswith('"""', place):
                yield start, doc.end()
                continue
        place = _end(text, place)
        yield start, place


def _end(text: str, place: int) -> int:
    """The end of a definition: its first line and all that are no start of another."""
    while True:
        line = text.find("\n", place)
        if line < 0:
            return len(text)
        place = line + 1
        if place >= len(text) or text.startswith('"""', place) or complaints.starts_name(text, place):
            return place


# -- the parser -------------------------------------------------------------------------------------------------------


@cache
def _parser() -> Lark:
    """Lark's parser for one definition; made at the first use, from the tables that an earlier process has left."""
    from lossdsl.frontend.tables import load

    with _lock:
        return load(Build())


def _span(first: Any, last: Any) -> Span:
    """From the first to the last of two tokens or nodes."""
    start = first.start_pos if hasattr(first, "start_pos") else first.span.start
    end = last.end_pos if hasattr(last, "end_pos") else last.span.end
    return Span(start, end)


def _name(token: Any) -> Name:
    return Name(str(token), Span(token.start_pos, token.end_pos))


def _all(children: Sequence[Any], *types: type) -> tuple[Any, ...]:
    return tuple(c for c in children if isinstance(c, types))


def _tokens(children: Sequence[Any], kind: str) -> list[Any]:
    return [c for c in children if getattr(c, "type", None) == kind]


def _first(children: Sequence[Any], *types: type) -> Any:
    return next((c for c in children if isinstance(c, types)), None)


_NODES = (Number, Name, Unary, Binary, Compare, Keyword, Branch, Call, Binder, Bracket)
_KINDS = (Kind, FunctionKind)


class Build:
    """What Lark calls at each reduction, by the names of the grammar's rules; all tokens are kept, so that nodes have places."""

    # -- expressions

    def number(self, c: list[Any]) -> Node:
        return Number(str(c[0]), _span(c[0], c[0]))

    def name(self, c: list[Any]) -> Node:
        return _name(c[0])

    def group(self, c: list[Any]) -> Node:
        node: Node = replace(c[1], span=_span(c[0], c[2]))
        return node

    def binary(self, c: list[Any]) -> Node:
        return Binary(str(c[1]), c[0], c[2], _span(c[0], c[2]))

    def unary(self, c: list[Any]) -> Node:
        return Unary(str(c[0]), c[1], _span(c[0], c[1]))

    def compare(self, c: list[Any]) -> Node:
        return Compare(c[0], tuple((str(op), x) for op, x in zip(c[1::2], c[2::2], strict=True)), _span(c[0], c[-1]))

    def keyword(self, c: list[Any]) -> Node:
        return Keyword(str(c[0]), c[2], _span(c[0], c[2]))

    def branch(self, c: list[Any]) -> Node:
        return Branch(c[0], c[2] if len(c) == 3 else None, _span(c[0], c[-1]))

    def args(self, c: list[Any]) -> tuple[Any, ...]:
        return _all(c, *_NODES)

    def call(self, c: list[Any]) -> Node:
        parts = [x for group in c if isinstance(group, tuple) and not hasattr(group, "type") for x in group]
        return Call(c[0], tuple(x for x in parts if not isinstance(x, Keyword)), _all(parts, Keyword), _span(c[0], c[-1]))

    def binder(self, c: list[Any]) -> Node:
        return Binder(_name(c[0]), c[2], c[4] if len(c) == 5 else None, _span(c[0], c[-1]))

    def bracket(self, c: list[Any]) -> Node:
        guard = c[-2] if getattr(c[-3], "type", "") == "VBAR" else None
        items = _all(c[2:-3] if guard is not None else c[2:], *_NODES)
        return Bracket(c[0], items, guard, _span(c[0], c[-1]))

    # -- kinds

    def kind_option(self, c: list[Any]) -> Name | Keyword:
        return _name(c[0]) if len(c) == 1 else Keyword(str(c[0]), c[2], _span(c[0], c[2]))

    def axis(self, c: list[Any]) -> Axis:
        return Axis(str(c[0]), _span(c[0], c[0]))

    def alias(self, c: list[Any]) -> Axis:
        return Axis(str(c[0]), _span(c[0], c[-1]), of=c[2], high=c[4] if len(c) == 5 else None)

    def fixed(self, c: list[Any]) -> Axis:
        return Axis(str(c[0]), _span(c[0], c[2]), size=c[2])

    def product(self, c: list[Any]) -> Axis:
        parts = _all(c, Axis)
        return Axis("*".join(p.name for p in parts), _span(c[0], c[-1]), parts=parts)

    def interval(self, c: list[Any]) -> Interval:
        return Interval(c[1], c[3], str(c[0]) == "(", str(c[4]) == ")", _span(c[0], c[4]))

    def kind(self, c: list[Any]) -> Kind:
        return Kind(_name(c[0]), _all(c[1:], Name, Keyword), _all(c, Axis), _first(c, Interval), _span(c[0], c[-1]))

    def function_kind(self, c: list[Any]) -> FunctionKind:
        kinds = _all(c, *_KINDS)
        return FunctionKind(kinds[:-1], kinds[-1], _span(c[0], c[-1]))

    # -- definitions

    def param(self, c: list[Any]) -> Parameter:
        return Parameter(str(c[0]), _first(c, *_KINDS), _first(c, *_NODES), _span(c[0], c[0]))

    def inputs(self, c: list[Any]) -> tuple[Parameter, ...]:
        return _all(c, Parameter)

    hypers = inputs

    def params(self, c: list[Any]) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...] | None]:
        place = next((k for k, x in enumerate(c) if getattr(x, "type", "") == "SEMICOLON"), None)
        if place is None:
            return c[0], None
        return (c[0] if place else ()), (c[place + 1] if place + 1 < len(c) else ())

    def head(self, c: list[Any]) -> Head:
        return Head(str(c[0]), c[2] if len(c) > 1 else None, _span(c[0], c[-1]), c[4] if len(c) == 5 else None)

    def heads(self, c: list[Any]) -> list[Head]:
        return list(_all(c, Head))

    def names(self, c: list[Any]) -> list[Name]:
        return [_name(t) for t in _tokens(c, "NAME")]

    def local(self, c: list[Any]) -> Local:
        heads = _first(c, list)
        return Local(str(c[0]), None, tuple(heads) if heads else None, c[-1], _span(c[0], c[0]))

    def local_function(self, c: list[Any]) -> Local:
        names, *heads = _all(c, list)
        return Local(str(c[0]), tuple(names), tuple(heads[0]) if heads else None, c[-1], _span(c[0], c[0]))

    def locals(self, c: list[Any]) -> tuple[Local, ...]:
        return _all(c, Local)

    def definition(self, c: list[Any]) -> Definition:
        doc = _tokens(c, "DOC")
        name = _tokens(c, "NAME")[0]
        equals = next(k for k, x in enumerate(c) if getattr(x, "type", "") == "EQUAL")
        heads = _first(c[:equals], list)
        inputs, hypers = next((x for x in c[:equals] if isinstance(x, tuple)), ((), None))
        where = next((x for x in c[equals + 2 :] if isinstance(x, tuple)), ())
        return Definition(
            str(name), tuple(heads) if heads else None, inputs, hypers, c[equals + 1], where, _all(c, Annotation),
            str(doc[0])[3:-3].strip() if doc else "", _span(name, name),
        )  # fmt: skip

    # -- annotations

    def _note(self, c: list[Any], **fields: Any) -> Annotation:
        last = c[-1][-1] if isinstance(c[-1], list) else c[-1]
        first = c[1][0] if isinstance(c[1], list) else c[1]
        return Annotation(str(c[0]), _span(c[0], c[0]), _span(first, last), **fields)

    def survey(self, c: list[Any]) -> Annotation:
        numbers = _tokens(c, "INT")
        return self._note(c, parts=(str(c[1]), str(numbers[0]) if numbers else "", tuple(map(str, _tokens(c, "TAG")))))

    def claim(self, c: list[Any]) -> Annotation:
        return self._note(c, parts=(str(c[1]), tuple(n.id for n in _first(c, list) or ())))

    def quoted(self, c: list[Any]) -> Annotation:
        return self._note(c)

    def wrt(self, c: list[Any]) -> Annotation:
        return self._note(c, names=tuple(c[1]))

    def batch(self, c: list[Any]) -> Annotation:
        return self._note(c, names=(_name(c[1]),))

    def require(self, c: list[Any]) -> Annotation:
        return self._note(c, value=c[1])

    def oracle_arg(self, c: list[Any]) -> Any:
        return c[-1]

    def pick(self, c: list[Any]) -> Any:
        return c[-1]

    def oracle(self, c: list[Any]) -> Annotation:
        return self._note(c, parts=(str(c[1]),))
