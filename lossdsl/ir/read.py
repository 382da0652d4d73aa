"""A small reader of the texts in the tables and rules: arithmetic, conditions, calls and piecewise, without axes.

It needs no grammar file, so that importing the tables stays cheap; what users write goes through ``frontend``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lossdsl.errors import LossError, Source, Span, did_you_mean
from lossdsl.functions import find
from lossdsl.ir.expr import (
    INF,
    NAN,
    PI,
    Expr,
    add,
    and_,
    call,
    cmp,
    div,
    is_condition,
    iverson,
    mul,
    neg,
    not_,
    num,
    or_,
    pow_,
    pw,
    stop,
    sub,
)

_TOKEN = re.compile(r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign><=|>=|==|!=|[-+*/^(),<>]))")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_WORDS = ("and", "or", "not", "if", "otherwise", "piecewise")
_CONSTANTS = {"pi": PI, "inf": INF, "nan": NAN}
_ARITHMETIC: dict[str, Callable[[Expr, Expr], Expr]] = {"+": add, "-": sub, "*": mul, "/": div, "^": pow_}
# Left binding powers; the operand of `not` and of unary minus is read at the power given beside it.
_POWER = {"or": 10, "and": 20, **dict.fromkeys(_COMPARISONS, 40), "+": 50, "-": 50, "*": 60, "/": 60, "^": 80}
_NOT, _MINUS = 30, 70
_DEPTH = 100


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    span: Span


def read(text: str, names: Mapping[str, Expr]) -> Expr:
    """The expression that a text denotes, where ``names`` says what its names stand for."""
    reader = _Reader(Source(text, "<table>"), names)
    e = reader.expression(0)
    reader.expect("end")
    return e


class _Reader:
    """A Pratt parser over the tokens of one text."""

    def __init__(self, source: Source, names: Mapping[str, Expr]) -> None:
        self.source, self.names = source, names
        self.tokens, self.place, self.depth = _tokens(source), 0, 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def take(self) -> _Token:
        token = self.next
        self.place += token.kind != "end"
        return token

    def fail(self, message: str, token: _Token, hint: str | None = None) -> LossError:
        return LossError(message, span=token.span, source=self.source, hint=hint)

    def expect(self, text: str) -> _Token:
        token = self.take()
        if token.text != text and token.kind != text:
            raise self.fail(f"expected {text!r}, found {token.text or 'the end'!r}", token)
        return token

    def number(self, e: Expr) -> Expr:
        return iverson(e) if is_condition(e) else e

    def condition(self, e: Expr, token: _Token) -> Expr:
        if not is_condition(e):
            raise self.fail("a number is no condition", token)
        return e

    def expression(self, power: int) -> Expr:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.fail("the text is nested too deep", self.next)
        left = self.prefix()
        while (token := self.next).text in _POWER and _POWER[token.text] > power:
            left = self.infix(left, self.take())
        self.depth -= 1
        return left

    def infix(self, left: Expr, token: _Token) -> Expr:
        op = token.text
        if op in ("and", "or"):
            a, b = self.condition(left, token), self.condition(self.expression(_POWER[op]), token)
            return and_(a, b) if op == "and" else or_(a, b)
        if op in _COMPARISONS:
            return self.comparison(left, op)
        right = self.expression(_POWER[op] - (op == "^"))
        return _ARITHMETIC[op](self.number(left), self.number(right))

    def comparison(self, left: Expr, op: str) -> Expr:
        """A chain: ``a < b <= c`` is ``a < b and b <= c``."""
        links = []
        left = self.number(left)
        while True:
            right = self.number(self.expression(_POWER[op]))
            links.append(cmp(op, left, right))
            if self.next.text not in _COMPARISONS:
                return and_(*links)
            left, op = right, self.take().text

    def prefix(self) -> Expr:
        token = self.take()
        if token.kind == "number":
            return num(token.text)
        if token.text == "(":
            inner = self.expression(0)
            self.expect(")")
            return inner
        if token.text == "-":
            return neg(self.number(self.expression(_MINUS)))
        if token.text == "not":
            return not_(self.condition(self.expression(_NOT), token))
        if token.text == "piecewise":
            return self.piecewise()
        if token.kind == "name" and token.text not in _WORDS:
            return self.called(token) if self.next.text == "(" else self.name(token)
        raise self.fail(f"expected a value, found {token.text or 'the end'!r}", token)

    def name(self, token: _Token) -> Expr:
        found = self.names.get(token.text) or _CONSTANTS.get(token.text)
        if found is None:
            raise self.fail(f"unknown name {token.text!r}", token, did_you_mean(token.text, self.names))
        return found

    def called(self, token: _Token) -> Expr:
        row = find(token.text)
        if row is None:
            raise self.fail(f"unknown function {token.text!r}", token)
        self.expect("(")
        args = [self.number(self.expression(0))]
        while self.next.text == ",":
            self.take()
            args.append(self.number(self.expression(0)))
        self.expect(")")
        if len(args) != row.arity and not (row.variadic and len(args) > row.arity):
            raise self.fail(f"{row.name} takes {row.arity} argument{'s' * (row.arity != 1)}, not {len(args)}", token)
        if row.name == "pow":
            return pow_(*args)
        return stop(*args) if row.name == "stop" else call(row.name, *args)

    def piecewise(self) -> Expr:
        self.expect("(")
        found: list[tuple[Expr, Expr]] = []
        while True:
            value = self.number(self.expression(0))
            token = self.take()
            if token.text == "otherwise":
                self.expect(")")
                return pw(found, value)
            if token.text != "if":
                raise self.fail("expected 'if' or 'otherwise' after the value of a branch", token)
            found.append((value, self.condition(self.expression(0), token)))
            if self.next.text == ")":
                self.take()
                return pw(found)
            self.expect(",")


def _tokens(source: Source) -> list[_Token]:
    out: list[_Token] = []
    place, end = 0, len(source.text.rstrip())
    while place < end:
        found = _TOKEN.match(source.text, place)
        if found is None:
            raise LossError("unexpected character", span=Span(place, place + 1), source=source)
        kind = found.lastgroup or ""
        out.append(_Token(kind, found[kind], Span(*found.span(kind))))
        place = found.end()
    out.append(_Token("end", "", Span(end, end)))
    return out
