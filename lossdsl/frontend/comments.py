"""Comments: where they stand, and which definition each belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

OPAQUE = re.compile(r'"""[\s\S]*?(?:"""|\Z)|"[^"\n]*"|#[^\n]*')
"""What is no code: docstrings, texts and comments."""


def places(text: str, start: int, end: int) -> list[tuple[int, str]]:
    """The comments of a stretch that starts and ends outside of texts: where each starts, and what it says."""
    return [(m.start(), m[0].rstrip()) for m in OPAQUE.finditer(text, start, end) if m[0][0] == "#"]


def without_comments(text: str) -> str:
    """The text with comments blanked out, so that an end is the end of what counts."""
    return OPAQUE.sub(lambda m: " " * len(m[0]) if m[0][0] == "#" else m[0], text)


def count_above(text: str, start: int, found: Sequence[int]) -> int:
    """How many of the comments after a definition, which ends at ``start``, are its own.

    One on its last line is, and the indented ones below it; from the first in column 0 on they belong to the definition that follows.
    """
    for k, place in enumerate(found):
        own_line = "\n" in text[start:place] or start == 0
        if own_line and (start == 0 or text[place - 1] == "\n"):
            return k
    return len(found)
