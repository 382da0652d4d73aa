"""What is wrong with a text that does not parse, in words, with a hint at what would be right."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from lossdsl.errors import LossError, Source, Span
from lossdsl.frontend import hints
from lossdsl.frontend.comments import OPAQUE, without_comments

_NAME = re.compile(r"[^\W\d]\w*")
_FOUND = re.compile(r"[^\W\d]\w*|(?:\d+(?:\.\d+)?|\.\d+)|<=|>=|==|!=|->|\.\.+|\*\*|&&|\|\||\+\+|--|=<|<>|:=|//|\S")


def starts_name(text: str, place: int) -> bool:
    return bool(_NAME.match(text, place))


def _fail(source: Source, start: int, end: int, message: str, hint: str) -> LossError:
    return LossError(message, span=Span(start, max(end, start + 1)), source=source, hint=hint)


# -- before the parser ------------------------------------------------------------------------------------------------


def check_layout(source: Source, base: int, chunk: str) -> None:
    """A definition starts in column 0 with its name, everything else is indented."""
    if chunk.startswith('"""'):
        close = chunk.find('"""', 3)
        if close < 0:
            raise _fail(source, base, base + 3, "this docstring is never closed", 'close it with """')
        rest = re.sub(r"#[^\n]*", "", chunk[close + 3 :])
        if not rest.strip():
            raise _fail(source, base, base + 3, "a docstring without a definition", "the definition follows its docstring, in column 0")
        first = close + 3 + len(rest) - len(rest.lstrip()) if rest.lstrip() != rest else close + 3
        lines = _lines(chunk, close + 3)
    else:
        first, lines = 0, _lines(chunk, 0)
    _check_columns(source, base, chunk, lines, first)


def _lines(chunk: str, place: int) -> list[int]:
    """Starts of the lines that say something, from a place on."""
    if place > 0 and chunk[place - 1] != "\n":
        place = chunk.find("\n", place) + 1 or len(chunk)
    starts = [place]
    while (following := chunk.find("\n", starts[-1]) + 1) > 0:
        starts.append(following)
    return [s for s in starts if re.match(r"[^\S\n]*[^\s#]", chunk[s : s + 200])]


def _check_columns(source: Source, base: int, chunk: str, lines: list[int], first: int) -> None:
    if not lines:
        return
    begin, *rest = lines
    if chunk[begin].isspace():
        place = base + begin + len(chunk[begin:]) - len(chunk[begin:].lstrip())
        raise _fail(
            source, place, _word_end(source.text, place), "an indented line that continues nothing", "a definition starts in column 0"
        )
    if not starts_name(chunk, begin):
        place = base + begin
        _check_character(source, place)
        word = _found(source.text, place)
        hint = "a comment starts with #" if source.text[place : place + 2] in ("//", "/*") else hints.DEFINITION
        raise _fail(source, place, place + len(word), f"expected a definition, found '{word}'", hint)
    for start in rest:
        if not chunk[start].isspace():
            place = base + start
            word = _found(source.text, place)
            raise _fail(source, place, place + len(word), f"a line that starts in column 0 with '{word}' begins no definition",
                        "indent it if it continues the definition above")  # fmt: skip


def check_depth(source: Source, base: int, chunk: str, most: int) -> None:
    """Brackets that close each other, and not too many one in another."""
    stack: list[tuple[str, int]] = []
    for sign, place in _brackets(chunk):
        if sign in "([":
            stack.append((sign, place))
            if len(stack) > most:
                raise _fail(source, base + place, 0, f"more than {most} brackets stand one in another", "give the parts names in `where`")
        elif stack and {"(": ")", "[": "]"}[stack[-1][0]] == sign:
            stack.pop()
        elif stack and not _half_open(chunk, stack, place):
            opened, where = stack[-1]
            want = {"(": ")", "[": "]"}[opened]
            line, column = source.locate(base + where)
            raise _fail(
                source,
                base + place,
                0,
                f"expected '{want}', found '{sign}'",
                f"the '{opened}' of line {line}, column {column} is closed by '{want}'",
            )
        elif stack:
            stack.pop()
        else:
            raise _fail(
                source, base + place, 0, f"this '{sign}' closes nothing", f"leave it out, or open it with '{'(' if sign == ')' else '['}'"
            )


def check_signs(source: Source, base: int, chunk: str) -> None:
    """Signs that would be read as two."""
    for m in re.finditer(OPAQUE.pattern + r"|\.\.\.+", chunk):
        if m[0].startswith("..."):
            raise _fail(
                source,
                base + m.start(),
                base + m.end(),
                f"'{_short(m[0])}' is no sign of the language",
                "a range is written 0..3, both ends included",
            )


def _half_open(chunk: str, stack: list[tuple[str, int]], place: int) -> bool:
    """Whether a bracket and its other-shaped partner are an interval, ``in (0, 1]``."""
    return bool(re.search(r"(?<!\w)in\s*\Z", chunk[: stack[-1][1]][-40:]))


def _brackets(chunk: str) -> Iterator[tuple[str, int]]:
    for m in re.finditer(OPAQUE.pattern + r"|[()\[\]]", chunk):
        if len(m[0]) == 1 and m[0] in "()[]":
            yield m[0], m.start()


# -- from the parser --------------------------------------------------------------------------------------------------


def syntax_error(source: Source, base: int, chunk: str, error: Any) -> LossError:
    """What Lark stumbled over, in words."""
    expected = _expected(error)
    place = _place(chunk, error)
    start = base + place
    if start >= len(source.text.rstrip()) or place >= len(chunk.rstrip()):
        start = base + len(without_comments(chunk).rstrip())
        return _fail(source, start, start + 1, f"expected {_words(expected)}, found the end of the definition",
                     _hint_at_end(source, base, chunk, expected))  # fmt: skip
    _check_character(source, start)
    _check_pair(source, start)
    word = _found(source.text, start)
    hint = hints.hint(without_comments(chunk[:place]), chunk[place:], word, expected)
    return _fail(source, start, start + len(word), f"expected {_words(expected)}, found '{_short(word)}'", hint)


def _short(word: str) -> str:
    return word if len(word) <= 60 else word[:57] + "..."


def _place(chunk: str, error: Any) -> int:
    token = getattr(error, "token", None)
    if token is not None and token.type == "$END":
        return len(chunk)
    place = getattr(error, "pos_in_stream", None)
    return len(chunk) if place is None or place < 0 else int(place)


def _expected(error: Any) -> frozenset[str]:
    found = getattr(error, "accepts", None) or getattr(error, "expected", None) or getattr(error, "allowed", None) or ()
    return frozenset(found)


def _found(text: str, place: int) -> str:
    m = _FOUND.match(text, place)
    return m[0] if m else text[place : place + 1]


def _word_end(text: str, place: int) -> int:
    return place + len(_found(text, place))


_SIGNS = {
    "RPAR": "')'",
    "RSQB": "']'",
    "LPAR": "'('",
    "LSQB": "'['",
    "COMMA": "','",
    "SEMICOLON": "';'",
    "COLON": "':'",
    "EQUAL": "'='",
    "VBAR": "'|'",
    "IN": "'in'",
    "IF": "'if'",
    "OTHERWISE": "'otherwise'",
    "WHERE": "'where'",
    "RANGE": "'..'",
    "ARROW": "'->'",
    "DOT": "'.'",
    "COMPARE": "a comparison",
    "LOCAL": "a local definition",
    "TAG": "a property such as CONVEX",
    "STRING": "a text in double quotes",
    "SECTION": "the number of a section",
    "INT": "a whole number",
    "PATH": "a function of a library",
    "DOC": "a docstring",
    "$END": "the end of the definition",
}
_OPERATORS = {"PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "COMPARE", "AND", "OR", "LPAR", "LSQB", "IF", "OTHERWISE"}
_OPERANDS = {"NAME", "NUMBER", "LPAR", "MINUS", "NOT"}


def _words(expected: Collection[str]) -> str:
    """What would have been right here, in words, never by the names of tokens."""
    left, out = set(expected), []
    if "NUMBER" in left and "LPAR" in left:
        out.append("an expression")
        left -= _OPERANDS
        left.discard("STRING")
    elif "NAME" in left:
        out.append("a name")
        left.discard("NAME")
    if "STAR" in left:
        out.append("an operator")
        left -= _OPERATORS
        if {"COMMA", "RPAR"} <= left:
            left.discard("SEMICOLON")
    if "WRT" in left:
        out.append("an annotation")
        left -= {a.upper() for a in hints.ANNOTATIONS}
    if "$END" in left and "LOCAL" in left:
        left -= {"COMMA"}
    out += [_SIGNS[x] for x in _SIGNS if x in left]
    return out[0] if len(out) == 1 else f"{', '.join(out[:-1])} or {out[-1]}" if out else "something else"


def _hint_at_end(source: Source, base: int, chunk: str, expected: Collection[str]) -> str:
    stack: list[tuple[str, int]] = []
    for sign, place in _brackets(chunk):
        if sign in "([":
            stack.append((sign, place))
        elif stack:
            stack.pop()
    if stack:
        line, column = source.locate(base + stack[-1][1])
        return f"the '{stack[-1][0]}' of line {line}, column {column} is never closed"
    return hints.at_end(without_comments(chunk).rstrip(), expected)


# -- characters that no text of the language holds ----------------------------------------------------------------------

_CHARACTERS = {
    "≤": "write <=",
    "≥": "write >=",
    "≠": "write !=",
    "−": "write - (the one on the keyboard)",
    "–": "write -",
    "—": "write -",
    "×": "write * for a product",
    "·": "write * for a product",
    "⋅": "write * for a product",
    "÷": "write /",
    "√": "write sqrt(..)",
    "²": "write ^2",
    "³": "write ^3",
    "∞": "write inf",
    "∑": "write sum[n](..)",
    "Σ": "write sum[n](..)",
    "∏": "write prod[n](..)",
    "∈": "write in",
    "∧": "write and",
    "∨": "write or",
    "¬": "write not",
    "→": "write ->",
    "½": "write 1/2",
    "∂": "write grad[x](..)",
    "{": "write ( ) for groups, [ ] for axes",
    "}": "write ( ) for groups, [ ] for axes",
    "\\": "this is no LaTeX: write a*b, a/b, sum[n](..), sqrt(..)",
    "@": "write sum[d](x*w) or dot(x, w)",
    "%": "write mod(a, b)",
    "&": "write and",
    "~": "write not",
    "!": "write not",
    "?": "write piecewise(a if condition, b otherwise)",
    "$": "names hold letters, digits and _",
    "'": "texts stand in double quotes, in annotations only",
    "`": "names stand without quotes",
    "\u00a0": "write a plain space",
    "“": 'write "',
    "”": 'write "',
    "’": "names hold letters, digits and _",
}
_LEGAL = re.compile(r"[\w\s()\[\]+\-*/^<>=!.,:;|\"#&]", re.ASCII)


def _check_character(source: Source, place: int) -> None:
    """A character of no use in the language has a complaint of its own."""
    char = source.text[place]
    longer = source.text[place : place + 2]
    if longer in ("&&", "||"):
        raise _fail(source, place, place + 2, f"'{longer}' is no sign of the language", "write and" if char == "&" else "write or")
    if longer == "!=" or _LEGAL.match(char) and char not in "!" or "Α" <= char <= "ω":
        return
    if char == "!" or char in _CHARACTERS:
        raise _fail(source, place, place + 1, f"'{char}' is no sign of the language", _CHARACTERS[char])
    shown = f"'{char}'" if char.isprintable() else f"the character U+{ord(char):04X}"
    hint = (
        "names hold the letters a-z, Greek letters, digits and _"
        if char.isalnum()
        else 'the signs are + - * / ^ < > = ! ( ) [ ] , ; : | . and " for texts'
    )
    raise _fail(source, place, place + 1, f"{shown} is no sign of the language", hint)


_PAIRS = {
    "**": "write ^ for a power: x^2",
    "//": "a comment starts with #",
    "<>": "write !=",
    "++": "write x + 1",
    "--": "write x - 1, or -(-x)",
    "==": "a definition is written with one '='",
    "->": "a definition is written with '='; '->' stands in the kind of a function",
    "^^": "write ^ for a power: x^2",
}


def _check_pair(source: Source, place: int) -> None:
    """Two signs that are one in other languages."""
    pair = source.text[place - 1 : place + 1]
    if place and pair in _PAIRS:
        raise _fail(source, place - 1, place + 1, f"'{pair}' has no meaning here", _PAIRS[pair])
