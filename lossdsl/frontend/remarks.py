"""What is legal and suspicious: a warning has a name, a place, a reason and a way to mend it."""

from __future__ import annotations

from dataclasses import dataclass

from lossdsl.errors import LossError, Source, Span

NAMES = {
    "unused-index": "an index of a bracket or a head that nothing uses",
    "unused-local": "a local that nothing uses",
    "unused-parameter": "an input or hyper-parameter that the equation does not use",
    "index-leaves-axis": "an index that is not provably inside its axis",
    "one-minus-condition": "1 - t for a condition t, where `not t` may be meant",
    "log-of-unit": "log of a number in [0, 1], which may be 0",
}


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
