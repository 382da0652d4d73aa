"""Hints for texts that do not parse: what stands there, what stands before, and what would be right.

One table, read from the top: the first row that fits gives the hint. In its text ``{last}`` is the word before and ``{word}``
the one that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from lossdsl.errors import did_you_mean

DEFINITION = "a definition is: name(inputs; hyper-parameters) = equation"
_PIECES = "write piecewise(a if condition, b otherwise)"
_FUNCTION = "write a local function: D(u, v) = .. in `where`"
_INTERVAL = "an interval is written [0, 1], (0, inf) or (0, 1]"
_RESERVED = r"(?:where|if|otherwise|in|and|or|not)\b"
_NAMES = "names start with a letter and hold letters, digits and _"

ANNOTATIONS = {
    "survey": "write survey 4.2.7 (14): CONT, CONVEX",
    "claim": "write claim CONVEX, or claim CONVEX if a > 0",
    "source": 'write source "Author (year), title"',
    "note": 'write note "text"',
    "wrt": "write wrt f, with names of inputs",
    "batch": "write batch n, with the name of an axis",
    "require": "write require lo < hi",
    "oracle": "write oracle torch.nn.functional.mse_loss(f, y)",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """``at`` matches what stands there, ``before`` what ends before it, ``due`` are tokens of which all are expected."""

    hint: str
    at: str = ""
    before: str = ""
    due: str = ""
    not_due: str = ""

    def fits(self, text: str, before: str, expected: frozenset[str]) -> bool:
        return bool(
            expected.issuperset(self.due.split())
            and expected.isdisjoint(self.not_due.split())
            and re.match(self.at, text)
            and (not self.before or re.search(rf"(?:{self.before})\s*\Z", before))
        )


_TABLE = (
    # signs of other languages
    _Row("write <=", at="=<"),
    _Row("write >=", at="=>"),
    _Row("write =", at=":=|<-"),
    _Row("write = for a local definition", at=r"\w+\s*(?::=|==)", due="LOCAL"),
    _Row(_FUNCTION, at="lambda\\b"),
    _Row(_FUNCTION, before=r"lambda(?:\s+\w+)?"),
    _Row(_PIECES, at=r"(?:else|elif|if|otherwise)\b", due="$END"),
    _Row(_PIECES, at=r"(?:else|elif)\b"),
    _Row(_PIECES, before=r"\b(?:else|elif|if|then|return)", due="STAR"),
    _Row("write sum[i in n](..) for a sum over i", at=r"for\b"),
    _Row("a guard stands in a bracket: sum[n | condition](x)", at=r"where\b", due="RPAR"),
    _Row("a guard stands last in a bracket, sum[n | condition](x); an absolute value is abs(x)", at=r"\|"),
    _Row("the length of an axis n is size(n)", at=r"\.\s*shape\b"),
    # numbers
    _Row("a range has an index: sum[b in 0..3](..)", at=r"\.\.", not_due="RANGE"),
    _Row("an exponent has digits: 1e3", at=r"[eE](?![\w.])", before=r"(?<![\w.])[\d.]*\d"),
    _Row("numbers are decimal", at=r"[xXbBoO]\w", before=r"(?<![\w.])0"),
    _Row("digits are not grouped: 1000", at=r"_\d", before=r"(?<![\w.])\d+"),
    _Row("a number has a point: 1.5", at=r",\s*\d", before=r"(?<![\w.])\d+", due="$END"),
    _Row("a number has one point, with digits on both sides", at=r"\.\d", before=r"(?<![\w.])[\d.]*\d"),
    _Row("a number has digits after its point: 1.0", at=r"\.", before=r"(?<![\w.])\d+"),
    _Row("write {last}*{word}", at=r"[^\W\d]", before=r"(?<![\w.])[\d.]*\d", due="STAR"),
    # intervals, kinds, axes
    _Row(_INTERVAL, before=r"\bin", due="LPAR LSQB", not_due="NUMBER"),
    _Row(_INTERVAL, before=r"\bin\s*[(\[][^()\[\]]*", due="COMMA", not_due="EQUAL VBAR"),
    _Row("write {last}({word})", at=r"[^\W\d]", before=r"\b(?:class|simplex)", due="IN"),
    _Row("parameters are separated by ',': a: real, b: real = 1", at=r"[^\W\d]\w*\s*[:=]", before=r":\s*\w+", due="IN"),
    _Row("a kind follows ':', as in x: real[n]", at=r"[),;=]", before=r":", due="NAME LPAR", not_due="NUMBER"),
    _Row("axes stand in brackets: {last}[{word}]", at=r"[^\W\d]", before=r":\s*\w+", due="IN"),
    _Row("axes have names, real[n]; a length may be declared: real[q = 4]", at=r"\d", before=r"[\[,]", due="NAME", not_due="NUMBER"),
    _Row("the kind of a function is written (real, real) -> real", due="ARROW"),
    _Row("parameters are separated by ',': a: real, b: real = 1", at=r"[^\W\d]", due="COMMA SEMICOLON RPAR EQUAL", not_due="STAR"),
    _Row("an axis that is a product has two factors or more: (k, s = 4)", at=r"\)", before=r"[\[,]\s*\(\s*\w+", due="COMMA",
         not_due="RPAR STAR"),
    # brackets
    _Row("write b in 0..3 for whole numbers, both ends included", at=r"[(\[]", before=r"\bin", due="NUMBER"),
    _Row("a further index is written {last} in {word}", at=r"[^\W\d]", due="IN RSQB"),
    _Row("a guard stands after '|': sum[n | condition](x)", at=";", due="VBAR"),
    _Row("the guard is the last in its bracket: sum[n | condition](x)", at=",", due="RSQB", not_due="COMMA"),
    _Row("there are no slices; a guard picks a part: sum[n | n < 3](x)", at=":", before=r"\[[^\[\]]*", not_due="LOCAL $END"),
    _Row("a bracket names axes, sum[n](x), or indices, x[i]", at=r"\]", before=r"\["),
    # equals signs, colons, semicolons
    _Row("'not' is a word of the language and names nothing", at=r"not\b", due="NAME", not_due="NUMBER"),
    _Row("'=' defines; write == to compare", at="=", due="STAR"),
    _Row("after ';' stand named values: huber(f, y; delta = 2)", before=r";[^;]*", due="EQUAL", not_due="LPAR RPAR"),
    _Row("after ';' stand named values: huber(f, y; delta = 2)", before=";", due="NAME", not_due="NUMBER"),
    _Row("a ':' gives an input its kind, x: real[n]; the equation follows '='", at=":"),
    _Row("locals are separated by ',' or stand on lines of their own", at=";", due="LOCAL"),
    _Row("a definition ends with its line; no ';' follows", at=";", due="$END"),
    _Row("one ';' stands between inputs and hyper-parameters, and in a call between arguments and named values", at=";"),
    _Row("leave out the last ','", at=r"[)\]]", before=","),
    # texts and names
    _Row("texts stand in annotations only", at='"[^"\\n]*"'),
    _Row('a text is closed by " on the same line', at='"'),
    _Row("there are no attributes; functions are called by their plain names", at=r"\."),
    _Row("'{word}' is a word of the language and names no local", at=_RESERVED, due="LOCAL", not_due="STAR"),
    _Row("a local definition is: name = expression, name[i] = expression or name(u) = expression", due="LOCAL", not_due="STAR"),
    # what is missing
    _Row("a condition follows 'if'", before=r"\bif", due="NUMBER"),
    _Row("a condition follows '|'", before=r"\|", due="NUMBER"),
    _Row("a value follows '='", at=r"[)\],;]", before="=", due="NUMBER"),
    _Row("a definition has one '='", at="=", before="=", due="NUMBER"),
    _Row("something is missing: write a value, or leave the sign out", at=r"\+", due="NUMBER"),
    _Row("a value is missing between '{last}' and '{word}'", due="NUMBER"),
    _Row("write {last}*{word} for a product", at=r"[^\W\d]", before=r"\w", due="STAR"),
    _Row("write {last}*{word} for a product, {last}^{word} for a power", at=r"[\d.]", before=r"\w", due="STAR"),
    _Row("an operator stands between two values", due="STAR"),
    _Row(_NAMES, at="-", due="EQUAL LPAR", not_due="RPAR"),
    _Row(DEFINITION, due="EQUAL LPAR"),
    _Row("the equation follows '='", due="EQUAL"),
    _Row(_NAMES, due="NAME"),
    _Row("axes are separated by ',': real[n, d]", due="COMMA RSQB"),
    _Row("an operator stands between two values"),
)  # fmt: skip

_WORD = re.compile(r"[^\W\d]\w*|(?:\d+(?:\.\d+)?|\.\d+)|<=|>=|==|!=|->|\.\.|\S")


def last_word(text: str) -> str:
    words = _WORD.findall(text[-80:])
    return words[-1] if words else ""


def hint(before: str, text: str, word: str, expected: Collection[str]) -> str:
    """The hint for a word of a definition that does not fit: ``before`` ends where ``text`` begins."""
    of_line = _of_line(before, text, word)
    if of_line:
        return of_line
    before = before[-400:].rstrip()
    known = frozenset(expected)
    row = next(r for r in _TABLE if r.fits(text[:400], before, known))
    return row.hint.replace("{last}", last_word(before)).replace("{word}", word)


def _of_line(before: str, text: str, word: str) -> str | None:
    """What begins a line: an annotation, a lost local, a definition of another language."""
    start = before.rfind("\n") + 1
    line = before[start:].split()
    if line and line[0] in ANNOTATIONS:
        return ANNOTATIONS[line[0]]
    if line and line[0] in ("def", "fn", "function", "let") and not start:
        return f"write {word}(f, y) = .. without '{line[0]}'"
    if line or not start or not re.match(r"[^\W\d]", word):
        return None
    if re.match(r"\w+\s*\(", text) and re.match(r"\w+\s*\([^()]*\)\s*=", text):
        return "a definition starts in column 0; a local function stands after `where`"
    if re.match(r"\w+\s*(?:\[[^\]]*\])?\s*=(?!=)", text):
        return "local names are defined after `where`"
    if re.match(r"\w+\s*(?::=|==)", text):
        return "write = for a local definition"
    return did_you_mean(word, ANNOTATIONS) or f"annotations are {', '.join(ANNOTATIONS)}"


def at_end(text: str, expected: Collection[str]) -> str:
    """The hint for a definition that ends too early; its brackets are closed."""
    line = text[text.rfind("\n") + 1 :].split()
    if line and line[0] in ANNOTATIONS and "\n" in text:
        return ANNOTATIONS[line[0]]
    if text.endswith("where"):
        return "after 'where' come local definitions: name = expression"
    if text.endswith("="):
        return "the equation follows the '='; its lines are indented"
    if "NUMBER" in expected:
        return f"something is missing after '{last_word(text)}'"
    return DEFINITION
