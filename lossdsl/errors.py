"""What can go wrong, said with the place, the reason and the way to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of character offsets in a source text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name it is reported under (a path, or ``<text>``)."""

    text: str
    origin: str = "<text>"

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, both counted from 1."""
        offset = min(offset, len(self.text))
        line = self.text.count("\n", 0, offset) + 1
        return line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1

    def line(self, number: int) -> str:
        lines = self.text.split("\n")
        return lines[number - 1] if number <= len(lines) else ""


_MOST = 20  # further errors that are printed
_WIDTH = 200  # characters of a line that are printed


def _window(text: str, place: int) -> tuple[str, int]:
    """A line, or what is near a place in it if it is too long to print, and the place there."""
    if len(text) <= _WIDTH:
        return text, place
    start = max(0, place - _WIDTH // 2)
    return text[start : start + _WIDTH], place - start


class LossError(ValueError):
    """A mistake in a definition or in a call; prints as ``file:line:col: error: message`` with the line, a caret and a hint.

    ``others`` holds further errors of the same file, one a definition, so that one run reports them all.
    """

    def __init__(self, message: str, *, span: Span | None = None, source: Source | None = None, hint: str | None = None,
                 others: Iterable[LossError] = ()) -> None:
        super().__init__(message)
        self.message, self.span, self.source, self.hint = message, span, source, hint
        self.others = tuple(others)

    def at(self, span: Span | None, source: Source | None) -> LossError:
        """The same error with a place, where it has none yet."""
        self.span = self.span or span
        self.source = self.source or source
        return self

    def __str__(self) -> str:
        parts = [self._own(), *(str(other) for other in self.others[:_MOST])]
        if len(self.others) > _MOST:
            parts.append(f"error: {len(self.others) - _MOST} more errors")
        return "\n".join(parts)

    def _own(self) -> str:
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        if self.span is None or self.source is None:
            return f"error: {self.message}{hint}"
        line, column = self.source.locate(self.span.start)
        text, place = _window(self.source.line(line), column - 1)
        width = max(1, min(self.span.end - self.span.start, len(text) - place))
        pad = "".join("\t" if c == "\t" else " " for c in text[:place])
        return f"{self.source.origin}:{line}:{column}: error: {self.message}\n    {text}\n    {pad}{'^' * width}{hint}"


class NotYet(LossError):
    """A legal construct that this version does not compile."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint with the nearest known names, or None."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else None


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names for a sentence, and no more than fit into it."""
    names = list(names)
    if len(names) > most:
        return ", ".join(names[:most]) + ", .."
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
