"""One way to lay out a ``.loss`` file: what changes are blanks and line ends, never a token, a comment or a docstring.

A definition is read as a tree of tokens, with the comments between them, and written again as a document (``layout``). A comment
stays at its place among the tokens, but for the end of a line: it goes behind the comma or the closing brackets that follow it,
and before the operator that it follows. The result is read again and compared before anyone sees it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from lossdsl.errors import LossError, Source, Span
from lossdsl.frontend.comments import count_above, places
from lossdsl.frontend.files import clean
from lossdsl.frontend.layout import Break, Doc, Flat, Group, Line, Nest, Remark, Try, cat, flat_text, is_hard, render
from lossdsl.frontend.parse import chunks, parse

if TYPE_CHECKING:
    from lark import Lark

WIDTH = 100
INDENT = 4
_NOTES = 2  # indentation of the annotations
_TAG = 8  # columns for the word that begins an annotation
_WHERE = INDENT + len("where ")
_HEAD = 24  # heads of locals that are longer do not push the equals signs of the others
_SHORT = 12  # what stands before the last term of a sum is this short if the last term alone may be broken


def formatted(text: str, origin: str = "<text>") -> str:
    """The text in the one layout. Raises ``LossError`` for a text that does not parse; line ends stay what the first of them is."""
    ending = "\r\n" if "\r\n" in text[: text.find("\n") + 1] else "\n"
    text = clean(text)
    if not text.strip():
        return ""
    _, errors = parse(text, origin)
    if errors:
        first, *others = errors
        raise type(first)(first.message, span=first.span, source=first.source, hint=first.hint, others=others)
    out, kept = _formatted(text)
    if _formatted(out) != (out, kept):
        hint = "the file is as it was; please report it"
        raise LossError("the text cannot be laid out without changing it", span=Span(0, 1), source=Source(text, origin), hint=hint)
    return out.replace("\n", ending)


def _formatted(text: str) -> tuple[str, tuple[list[str], list[str]]]:
    """A text laid out, and what it must keep: its tokens, but for commas between locals, which are layout, and its comments."""
    parts: list[str] = []
    tokens: list[str] = []
    comments: list[str] = []
    end, before = 0, _Laid("", 0, 0)
    for start, stop in chunks(Source(text)):
        doc, laid, found = _definition(text[start:stop])
        parts += [*_between(text, end, start, before, last=False), doc, render(laid.doc, WIDTH)]
        comments += _comments(text, end, start)
        end, before = start + laid.end, laid
        place = start
        for token, following in zip(found, [*found[1:], None], strict=True):
            comments += _comments(text, place, start + token.start_pos)
            place = start + token.end_pos
            if token.type != "COMMA" or following is None or following.type != "LOCAL":
                tokens.append(str(token))
    parts += _between(text, end, len(text), before, last=True)
    comments += _comments(text, end, len(text))
    return "".join(parts).rstrip("\n") + "\n", (tokens, comments)


# -- comments ---------------------------------------------------------------------------------------------------------

_GAP = re.compile(r'"""[\s\S]*?"""|"[^"\n]*"|(?P<gap>(?:[^\S]|#[^\n]*)+)')


def _comments(text: str, start: int, end: int) -> list[str]:
    return [said for _, said in places(text, start, end)]


def _remarks(text: str, start: int, end: int) -> tuple[list[Remark], bool]:
    """The comments between two tokens, and whether an empty line stands before the second of them."""
    out: list[Remark] = []
    place = start
    for at, said in places(text, start, end):
        lines = text.count("\n", place, at)
        out.append(Remark(said, lines > 0 or start == 0, lines > 1))
        place = at
    return out, text.count("\n", place, end) > 1


class _Gaps:
    """What stands between the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.before: dict[int, tuple[Remark, ...]] = {}  # comments on lines of their own, by where the next token starts
        self.after: dict[int, tuple[Remark, ...]] = {}  # a comment on the same line, by where the token before it ends
        self.blank: set[int] = set()  # where tokens start that an empty line stands before
        for m in _GAP.finditer(text):
            if m["gap"] is not None:
                remarks, blank = _remarks(text, m.start(), m.end())
                behind = len(remarks) > 0 and not remarks[0].own
                self.after[m.start()] = tuple(remarks[:behind])
                self.before[m.end()] = tuple(remarks[behind:])
                if blank:
                    self.blank.add(m.end())


def _between(text: str, start: int, end: int, before: _Laid, *, last: bool) -> list[str]:
    """The lines between two definitions; indented comments belong to the first, the others stand before the second."""
    remarks, blank = _remarks(text, start, end)
    above = count_above(text, start, [at for at, _ in places(text, start, end)])
    out: list[str] = []
    for r in remarks[:above]:
        alone = r.own or before.closed
        out.append(("\n" * (1 + r.blank) + " " * before.indent if alone else "  ") + r.text)
    rest = remarks[above:]
    attached = not last and not blank and not any(r.blank for r in rest[1:])
    for k, r in enumerate(rest):
        gap = r.blank or (k == 0 and attached)
        out.append(("\n" * (1 + gap) if start > 0 or k > 0 else "") + r.text)
    if last or (start == 0 and not remarks):
        return out
    return [*out, "\n\n" if blank or not rest else "\n"]


# -- the tree of tokens -----------------------------------------------------------------------------------------------


@cache
def _parser() -> Lark:
    """Lark's parser, giving trees of tokens."""
    from lossdsl.frontend.tables import load

    return load(None)


def _definition(chunk: str) -> tuple[str, _Laid, list[Any]]:
    """A definition: its docstring as it stands, with the comments after it, and the rest as a document; its tokens."""
    parser: Any = _parser().parse_interactive(chunk)
    tokens = list(parser.iter_parse())
    tree = parser.feed_eof()
    laid: _Laid = _Writer(chunk[: tokens[-1].end_pos]).written(tree)
    doc = ""
    if tokens[0].type == "DOC":
        remarks, _ = _remarks(chunk, tokens[0].end_pos, tokens[1].start_pos)
        doc = str(tokens[0]) + "".join((f"\n{r.text}" if r.own else f"  {r.text}") for r in remarks) + "\n"
    return doc, laid, tokens


# -- documents --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Piece:
    """A part of a definition: its text without the comments before its first token and on the line of its last.

    ``token`` is the name of the terminal if it is one; ``shape`` what it is, which says how it may be broken.
    """

    body: Doc
    start: int
    end: int
    lead: tuple[Remark, ...] = ()
    trail: tuple[Remark, ...] = ()
    shape: str = "atom"
    token: str = ""

    @property
    def whole(self) -> Doc:
        return cat(*self.lead, self.body, *self.trail)

    @property
    def inner(self) -> Doc:
        """All but the comment behind it."""
        return cat(*self.lead, self.body)


@dataclass(slots=True)
class _Chain:
    """Operands of one precedence, and the operators between them with the comments beside each."""

    kind: str
    operands: list[_Piece]
    operators: list[tuple[str, tuple[Remark, ...]]] = field(default_factory=list)


@dataclass(slots=True)
class _Local:
    head: _Piece
    equals: _Piece
    body: _Piece
    lead: tuple[Remark, ...]
    blank: bool


@dataclass(slots=True)
class _Note:
    body: Doc
    last: _Piece
    lead: tuple[Remark, ...]
    blank: bool


@dataclass(slots=True)
class _Laid:
    """A definition as a document, where its last token ends, how far comments after it are indented, whether one ends it."""

    doc: Doc
    end: int
    indent: int
    closed: bool = False


_CHAINS = {"+": "sum", "-": "sum", "*": "product", "/": "product", "and": "and", "or": "or", "^": "power"}
_TIGHT = {"product", "power"}
_HUGGED = {"call", "product", "power", "group"}  # what may stay beside an opening bracket, broken inside its own


class _Writer:
    """Writes the tree of one definition; a method for each rule of the grammar, with what its children have become."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.gaps = _Gaps(text)

    def written(self, tree: Any) -> Any:
        """Children first, on an explicit stack: trees are as deep as texts are long."""
        done: dict[int, Any] = {}
        stack: list[tuple[Any, bool]] = [(tree, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                write: Callable[[list[Any]], Any] = getattr(self, str(node.data), self.plain)
                done[id(node)] = write([done.pop(id(c)) for c in node.children])
            elif hasattr(node, "type"):
                done[id(node)] = self.token(node)
            else:
                stack.append((node, True))
                stack += [(c, False) for c in node.children]
        return done[id(tree)]

    def token(self, token: Any) -> _Piece:
        start, end = token.start_pos, token.end_pos
        lead = tuple(replace(r, blank=False) for r in self.gaps.before.get(start, ()))
        return _Piece(str(token), start, end, lead, self.gaps.after.get(end, ()), token=str(token.type))

    # -- what is written in one line

    def plain(self, c: list[Any]) -> _Piece:
        """A list, a kind, an axis, a head: blanks after commas and colons and around words and equals signs."""
        parts: list[_Piece | str] = []
        for piece in _flattened(c):
            if piece.token in ("EQUAL", "ARROW", "IN"):
                parts += [" ", piece, " "]
            elif piece.token in ("COMMA", "COLON"):
                parts += [piece, " "]
            else:
                parts.append(piece)
        return _joined(*parts)

    def args(self, c: list[Any]) -> list[Any]:
        return c

    inputs = hypers = params = names = heads = args

    def name(self, c: list[Any]) -> _Piece:
        return replace(c[0], token="")

    number = name

    # -- expressions

    def group(self, c: list[Any]) -> _Piece:
        left, e, right = c[0], _piece(c[1]), c[2]
        body = cat("(", Nest(None, cat(*left.trail, e.inner)), ")")
        return _Piece(body, left.start, right.end, left.lead, _closing(e, right), "group")

    def unary(self, c: list[Any]) -> _Piece:
        sign, operand = c[0], _piece(c[1])
        shape = operand.shape if operand.shape in _HUGGED else "signed"
        return replace(_joined(sign, "" if sign.token == "MINUS" else " ", operand), shape=shape)

    def binary(self, c: list[Any]) -> _Chain:
        left, sign, right = c
        kind = _CHAINS[sign.body]
        chain = left if isinstance(left, _Chain) and left.kind == kind else _Chain(kind, [_piece(left)])
        _append(chain, sign, _piece(right))
        return chain

    def compare(self, c: list[Any]) -> _Chain:
        chain = _Chain("compare", [_piece(c[0])])
        for sign, operand in zip(c[1::2], c[2::2], strict=True):
            _append(chain, sign, _piece(operand))
        return chain

    def keyword(self, c: list[Any]) -> _Piece:
        return _joined(c[0], " ", c[1], " ", _piece(c[2]))

    def branch(self, c: list[Any]) -> _Piece:
        value, word, *condition = map(_piece, c)
        end = _joined(word, " ", *condition) if condition else word
        body = Group(cat(value.body, Nest(INDENT, cat(*value.trail, *end.lead, Line(), end.body))))
        return _Piece(body, value.start, end.end, value.lead, end.trail, "branch")

    def call(self, c: list[Any]) -> _Piece:
        """What is called and its arguments: on lines of their own if they are broken, a single one beside the bracket if it can."""
        function, left, right = _piece(c[0]), c[1], c[-1]
        units = _units(_flattened(c[2:-1]))
        opened = cat(function.body, *function.trail, *left.lead, "(")
        if not units:
            body = cat(opened, *left.trail, *right.lead, ")")
            return _Piece(body, function.start, right.end, function.lead, right.trail, "call")
        inside = _lines(units)
        broken = cat(opened, Nest(INDENT, cat(*left.trail, Line(""), inside)), ")")
        tries: list[Try] = []
        if len(units) == 1 and not is_hard(inside) and not left.trail:
            tries.append(Try(cat(opened, Nest(INDENT, cat(Break(), Flat(inside))), ")"), whole=True))
            if units[0].shape in _HUGGED:
                tries.append(Try(cat(opened, inside, ")")))
        body = Group(broken, tuple(tries))
        return _Piece(body, function.start, right.end, function.lead, _closing(units[-1], right), "call")

    def bracket(self, c: list[Any]) -> _Piece:
        base, left, right = _piece(c[0]), c[1], c[-1]
        bar = next((k for k, x in enumerate(c) if isinstance(x, _Piece) and x.token == "VBAR"), len(c) - 1)
        units = _units(_flattened(c[2:bar]))
        last = units[-1]
        inside = cat(*left.trail, _lines(units, fill=True))
        if bar < len(c) - 1:
            guard = _joined(c[bar], " ", _piece(c[bar + 1]))
            inside = cat(inside, *last.trail, *guard.lead, Line(), guard.body)
            last = guard
        body = Group(cat(base.body, *base.trail, *left.lead, "[", Nest(INDENT, inside), "]"))
        return _Piece(body, base.start, right.end, base.lead, _closing(last, right), "call")

    def binder(self, c: list[Any]) -> _Piece:
        name, word, *ends = map(_piece, c)
        return _joined(name, " ", word, " ", *ends)

    # -- definitions

    def local(self, c: list[Any]) -> _Local:
        *head, equals, body = c
        start = head[0].start
        return _Local(self.plain(head), equals, _piece(body), self.gaps.before.get(start, ()), start in self.gaps.blank)

    local_function = local

    def locals(self, c: list[Any]) -> list[_Local]:
        out: list[_Local] = []
        for x in c:
            if isinstance(x, _Local):
                out.append(x)
            else:  # a comma, which the end of the line stands for
                out[-1].body.trail += (*x.lead, *x.trail)
        return out

    def definition(self, c: list[Any]) -> _Laid:
        at = next(k for k, x in enumerate(c) if isinstance(x, _Piece) and x.token == "EQUAL")
        equals, body, rest = c[at], _piece(c[at + 1]), c[at + 2 :]
        head = self.declared(c[1 if c[0].token == "DOC" else 0 : at], equals)
        notes = [x for x in rest if isinstance(x, _Note)]
        one = Try(cat(Flat(head), Group(Nest(INDENT, cat(*equals.trail, Line(), body.inner)))))
        two = Nest(INDENT, cat(*equals.trail, Break(), body.inner))
        lines: list[Doc] = [Group(cat(head, two), () if is_hard(head) else (one,))]
        end = body
        if rest and isinstance(rest[0], _Piece):
            found: list[_Local] = rest[1]
            lines = [_with_locals(head, equals, body, rest[0], found, lines[0])]
            end = found[-1].body
        for k, note in enumerate(notes):
            lines.append(Nest(_NOTES, cat(*end.trail, *_begun(note, k == 0), note.body)))
            end = note.last
        indent = _NOTES if notes else INDENT
        return _Laid(cat(*lines, Nest(indent, cat(*end.trail))), end.end, indent, bool(end.trail))

    def declared(self, c: list[Any], equals: _Piece) -> Doc:
        """The name, its axes and what it declares: if it is long, hyper-parameters on lines of their own."""
        name, *rest = c
        at = next((k for k, x in enumerate(rest) if isinstance(x, _Piece) and x.token == "LPAR"), len(rest))
        parts: list[Doc] = [*name.trail]
        if at > 0:
            parts.append(self.plain(rest[:at]).whole)
        if at < len(rest):
            left, *middle, right = rest[at:]
            units = _units(_flattened(middle))
            hypers = next((k for k, x in enumerate(units, 1) if x.token == "SEMICOLON"), len(units))
            inside = _lines(units[:hypers], fill=True)
            if 0 < hypers < len(units):
                inside = Group(cat(inside, *units[hypers - 1].trail, Line(), _lines(units[hypers:], fill=True)))
            trail = units[-1].trail if units else ()
            parts += [*left.lead, "(", *left.trail, inside, *trail, *right.lead, ")", *right.trail]
        return cat(name.body, Nest(2 * INDENT, cat(*parts, *equals.lead, " =")))

    # -- annotations

    def wrt(self, c: list[Any]) -> _Note:
        return self.note(c[0], self.plain(c[1:]))

    batch = quoted = wrt

    def require(self, c: list[Any]) -> _Note:
        return self.note(c[0], _piece(c[1]))

    def survey(self, c: list[Any]) -> _Note:
        """What is kept as a text stays as it is spelled, with one blank where there are some."""
        pieces = _flattened(c[1:])
        place, end = pieces[0].start, pieces[-1].end
        parts: list[Doc] = []
        for m in _GAP.finditer(self.text, place, end):
            if m["gap"] is not None:
                parts += [self.text[place : m.start()], *self.gaps.after[m.start()], *self.gaps.before[m.end()], " "]
                place = m.end()
        body = cat(*parts, self.text[place:end])
        return self.note(c[0], _Piece(body, pieces[0].start, end, pieces[0].lead, pieces[-1].trail))

    claim = oracle = survey

    def note(self, tag: _Piece, body: _Piece) -> _Note:
        said = cat(str(tag.body).ljust(_TAG), Nest(None, body.inner))
        if tag.trail:
            said = cat(tag.body, *tag.trail, Nest(_TAG, body.inner))
        return _Note(said, body, self.gaps.before.get(tag.start, ()), tag.start in self.gaps.blank)


# -- putting pieces together ------------------------------------------------------------------------------------------


def _flattened(c: Iterable[Any]) -> list[_Piece]:
    """Pieces in order; lists of them are taken apart."""
    out: list[_Piece] = []
    stack = [*c][::-1]
    while stack:
        x = stack.pop()
        if isinstance(x, list):
            stack += reversed(x)
        else:
            out.append(_piece(x))
    return out


def _joined(*parts: _Piece | str) -> _Piece:
    """Pieces and blanks one after another; the comments between them stay where they are."""
    pieces = [p for p in parts if isinstance(p, _Piece)]
    first, last = pieces[0], pieces[-1]
    out: list[Doc] = []
    dots = False  # a range, whose dots and the point of a number would be read as one sign
    for p in parts:
        if isinstance(p, str):
            out.append(p)
        else:
            apart = " " if dots and flat_text(p.body).startswith(".") else ""
            out += [*(p.lead if p is not first else ()), apart, p.body, *(p.trail if p is not last else ())]
            dots = p.token == "RANGE"
    return _Piece(cat(*out), first.start, last.end, first.lead, last.trail)


def _append(chain: _Chain, sign: _Piece, operand: _Piece) -> None:
    """One more operand; the comments beside the operator stand before it."""
    remarks = (*chain.operands[-1].trail, *sign.lead, *sign.trail, *operand.lead)
    chain.operators.append((str(sign.body), remarks))
    chain.operands.append(operand)


def _piece(x: Any) -> _Piece:
    """A chain as a piece: on one line, or with a line for each operand, which its operator begins.

    A product is rather broken inside its brackets, and a sum too if what stands before its last term is short.
    """
    if isinstance(x, _Piece):
        return x
    first, last = x.operands[0], x.operands[-1]
    blank = "" if x.kind in _TIGHT else " "
    broken: list[Doc] = [first.body]
    beside: list[Doc] = [first.body]
    for (sign, remarks), operand in zip(x.operators, x.operands[1:], strict=True):
        broken += [*remarks, "" if x.kind == "power" else Line(blank), sign, blank, operand.body]
        beside += [blank, sign, blank, operand.body]
    whole = not any(remarks for _, remarks in x.operators)
    hug = x.kind in ("product", "compare") or (x.kind == "sum" and last.shape in _HUGGED and _is_short(beside[:-1]))
    body = Group(cat(*broken), (Try(cat(*beside)),) if whole and hug else ())
    return _Piece(body, first.start, last.end, first.lead, last.trail, x.kind)


def _is_short(docs: Sequence[Doc]) -> bool:
    return len(docs) <= _SHORT and not any(map(is_hard, docs)) and sum(len(flat_text(d)) for d in docs) <= _SHORT


def _units(c: Sequence[_Piece]) -> list[_Piece]:
    """Arguments, each with the comma or semicolon behind it; a semicolon may stand alone."""
    out: list[_Piece] = []
    for piece in c:
        if piece.token not in ("COMMA", "SEMICOLON") or not out:
            out.append(piece)
        else:
            x = out[-1]
            remarks = (*x.trail, *piece.lead, *piece.trail)
            out[-1] = replace(x, body=cat(x.body, piece.body), end=piece.end, trail=remarks, token=piece.token)
    return out


def _lines(units: Sequence[_Piece], *, fill: bool = False) -> Doc:
    """Arguments with places to break between them, all or none, or as needed; without the comment behind the last."""
    parts: list[Doc] = []
    for k, x in enumerate(units):
        if k:
            parts += [*units[k - 1].trail, Group(Line()) if fill else Line()]
        parts += [*x.lead, x.body]
    return cat(*parts)


def _closing(last: _Piece, right: _Piece) -> tuple[Remark, ...]:
    """The comments at the end of a bracket, which go behind it."""
    return (*last.trail, *right.lead, *right.trail)


def _with_locals(head: Doc, equals: _Piece, body: _Piece, where: _Piece, found: Sequence[_Local], equation: Doc) -> Doc:
    """An equation and its locals; a single one stays on the line if there is room."""
    opened = Nest(INDENT, cat(*body.trail, Break(), *where.lead, "where"))
    block = cat(opened, Nest(_WHERE, cat(*where.trail, " ", _aligned(found))))
    x = found[0]
    line = cat(head, " ", body.body, " where ", x.head.body, *x.head.trail, " = ", x.body.body)
    remarks = (equals.trail, body.lead, body.trail, where.lead, where.trail, x.lead, x.equals.lead, x.equals.trail, x.body.lead)
    short = len(found) == 1 and not any(remarks) and not is_hard(line)
    return Group(cat(equation, block), (Try(Flat(line)),) if short else ())


def _aligned(found: Sequence[_Local]) -> Doc:
    """Locals, one a line, with the equals signs below each other; without the comment behind the last."""
    widths = [len(flat_text(x.head.body)) for x in found]
    width = max((w for w in widths if w <= _HEAD), default=0)
    out: list[Doc] = []
    for k, (x, own) in enumerate(zip(found, widths, strict=True)):
        out += [*found[k - 1].body.trail, *_begun(x, False)] if k else x.head.lead
        out += [x.head.body, *x.head.trail, *x.equals.lead, " " * (width - own), " =", _value(x)]
    return cat(*out)


def _value(x: _Local) -> Doc:
    """The right side of a local: after the equals sign, in one line below it, or broken where it begins."""
    if x.equals.trail or x.body.lead:
        return Nest(INDENT, cat(*x.equals.trail, Break(), x.body.inner))
    below = Try(Nest(INDENT, cat(Break(), Flat(x.body.body))), whole=True)
    return Group(cat(" ", Nest(None, x.body.body)), () if is_hard(x.body.body) else (below,))


def _begun(x: _Local | _Note, first: bool) -> list[Doc]:
    """A new line for a local or an annotation, the comments above it, and an empty line where one stands; none above the first."""
    if not x.lead:
        return [Break(x.blank and not first)]
    return [Break(x.lead[0].blank and not first), *x.lead, Break(x.blank)]
