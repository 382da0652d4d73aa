"""Texts that know where they may be broken, after Oppen and Wadler, and their layout in lines of a given width.

A document is a string, or one of the nodes below. A group stands on one line if it fits there; else its own places to break all
become line ends, and the groups inside it are looked at anew. Comments end their line wherever they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Line:
    """A place to break: ``flat`` while its group stands on one line, else the end of a line."""

    flat: str = " "


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a line, with an empty line after it if ``blank``."""

    blank: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment. It follows what stands on its line, or has a line of its own (``own``), after an empty one if ``blank``."""

    text: str
    own: bool = False
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Cat:
    """Documents one after another."""

    parts: tuple[Doc, ...]
    hard: bool = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hard", any(is_hard(p) for p in self.parts))
        object.__setattr__(self, "length", sum(length(p) for p in self.parts))


@dataclass(frozen=True, slots=True)
class Nest:
    """A document whose lines are indented ``by`` more than those around it, or to the column where it begins (None)."""

    by: int | None
    doc: Doc
    hard: bool = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hard", is_hard(self.doc))
        object.__setattr__(self, "length", length(self.doc))


@dataclass(frozen=True, slots=True)
class Try:
    """A way to lay a group out, taken if its first line fits, or if all its lines fit (``whole``)."""

    doc: Doc
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A document that stands on one line if it fits; else it is laid out as the first of ``tries`` that fits, else broken."""

    doc: Doc
    tries: tuple[Try, ...] = ()
    hard: bool = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hard", is_hard(self.doc))
        object.__setattr__(self, "length", length(self.doc))


@dataclass(frozen=True, slots=True)
class Flat:
    """A document that stands on one line."""

    doc: Doc


Doc = str | Line | Break | Remark | Cat | Nest | Group | Flat
_Item = tuple[int, bool, Doc]  # how far new lines are indented, whether the group stands on one line, what is to be written


def is_hard(doc: Doc) -> bool:
    """Whether a line ends inside, however much room there is."""
    match doc:
        case Break() | Remark():
            return True
        case Cat() | Nest() | Group():
            return doc.hard
    return False


def length(doc: Doc) -> int:
    """How long the document is on one line, without its comments."""
    match doc:
        case str():
            return len(doc)
        case Line(flat=text):
            return len(text)
        case Cat() | Nest() | Group():
            return doc.length
        case Flat(doc=inner):
            return length(inner)
    return 0


def cat(*parts: Doc) -> Doc:
    return parts[0] if len(parts) == 1 else Cat(tuple(p for p in parts if p != ""))


def flat_text(doc: Doc) -> str:
    """The document on one line, without its comments."""
    out: list[str] = []
    stack = [doc]
    while stack:
        match stack.pop():
            case str(text) | Line(flat=text):
                out.append(text)
            case Cat(parts=parts):
                stack += reversed(parts)
            case Nest(doc=inner) | Group(doc=inner) | Flat(doc=inner):
                stack.append(inner)
    return "".join(out)


def render(doc: Doc, width: int) -> str:
    """The document in lines of at most ``width`` columns where it has places to break; no line ends in a blank."""
    page = _Page(width)
    stack: list[_Item] = [(0, False, doc)]
    while stack:
        indent, flat, d = stack.pop()
        match d:
            case str():
                page.write(d, indent)
            case Line(flat=text):
                if flat:
                    page.write(text, indent)
                else:
                    page.end_line(indent)
            case Break(blank=blank):
                page.end_line(indent, blank)
            case Remark():
                page.remark(d, indent)
            case Cat(parts=parts):
                stack += [(indent, flat, p) for p in reversed(parts)]
            case Nest(by=by, doc=inner):
                stack.append((page.column(indent) if by is None else indent + by, flat, inner))
            case Flat(doc=inner):
                stack.append((indent, True, inner))
            case Group():
                stack.append(_chosen(page, (indent, flat, d), d, stack))
    return "".join(page.out)


class _Page:
    """What has been written. ``start`` is the indentation of a line on which nothing stands yet, else None."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.out: list[str] = []
        self.at = 0
        self.start: int | None = 0
        self.closed = False  # a comment has ended the line

    def write(self, text: str, indent: int) -> None:
        if self.closed:
            self.end_line(indent)
        if self.start is not None:
            text = text.lstrip(" ")
            if not text:
                return
            self.out.append(" " * self.start)
            self.at, self.start = self.start, None
        self.out.append(text)
        self.at += len(text)

    def end_line(self, indent: int, blank: bool = False) -> None:
        if self.start is None:
            while self.out and not self.out[-1].strip(" "):
                self.out.pop()
            self.out[-1] = self.out[-1].rstrip(" ")
            self.out.append("\n")
        if blank:
            self.out.append("\n")
        self.start, self.closed = indent, False

    def remark(self, remark: Remark, indent: int) -> None:
        if self.start is None and (remark.own or self.closed):
            self.end_line(indent, remark.blank)
        if self.start is None:
            self.write("  ", indent)
        self.write(remark.text, indent)
        self.closed = True

    def column(self, indent: int) -> int:
        return indent if self.closed else self.at if self.start is None else self.start


_MOST = 500  # nodes that are looked at before a layout counts as one that does not fit


def _chosen(page: _Page, item: _Item, group: Group, rest: Sequence[_Item]) -> _Item:
    """How a group is laid out."""
    indent, flat, _ = item
    room = page.width - page.column(indent)
    if flat or (not group.hard and group.length <= room and _fits(page, [(indent, True, group.doc)], rest, whole=False)):
        return indent, True, group.doc
    for way in group.tries:
        if _fits(page, [(indent, False, way.doc)], rest, whole=way.whole):
            return indent, False, way.doc
    return indent, False, group.doc


def _fits(page: _Page, stack: list[_Item], rest: Sequence[_Item], *, whole: bool) -> bool:
    """Whether there is room up to the first end of a line, in what follows too; if ``whole``, up to the end of what is asked about."""
    left = page.width - page.column(stack[0][0])
    following = len(rest)
    inside = True
    for _ in range(_MOST):
        if left < 0:
            return False
        if not stack:
            if following == 0:
                return True
            following, inside = following - 1, False
            stack.append(rest[following])
        indent, flat, d = stack.pop()
        match d:
            case str():
                left -= len(d)
            case Line(flat=text) if flat:
                left -= len(text)
            case Line() | Break():
                if not (inside and whole):
                    return True
                left = page.width - indent
            case Remark():
                if not (inside and whole):
                    return True
            case Cat(parts=parts):
                stack += [(indent, flat, p) for p in reversed(parts)]
            case Nest(by=by, doc=inner):
                stack.append((indent + (by or 0), flat, inner))
            case Flat(doc=inner):
                stack.append((indent, True, inner))
            case Group(doc=inner):
                stack.append((indent, flat, inner))
    return False
