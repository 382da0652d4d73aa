"""What is legal and suspicious: a warning has a name (``quality/lint.py`` lists them), a place, a reason and a way to mend it."""

from __future__ import annotations

from dataclasses import dataclass

from lossdsl.errors import LossError, Source, Span


@dataclass(frozen=True, slots=True)
class Remark:
    """One warning; prints as an error does."""

    name: str
    message: str
    hint: str
    span: Span
    source: Source

    def __str__(self) -> str:
        shown = str(LossError(self.message, span=self.span, source=self.source, hint=self.hint))
        return shown.replace(": error: ", ": warning: ", 1) + f" [{self.name}]"
