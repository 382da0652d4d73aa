"""Every mistake in ``bad/*.loss`` gives exactly the message beside it: place, reason, and what would be valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lossdsl.errors import LossError
from lossdsl.frontend import load_text

FILES = sorted((Path(__file__).parent / "bad").glob("*.loss"))
LEAKS = re.compile(r"Token\(|\$END|\b_?[A-Z]{3,}(_[A-Z0-9]+)*\b|Unexpected|NoneType|lossdsl\.|Traceback|Expr\(|<class|object at")
"""Names of terminals, of Python types and of our own modules have no place in a message."""


def message(path: Path) -> str:
    with pytest.raises(LossError) as caught:
        load_text(path.read_text(encoding="utf-8"), path.name)
    return str(caught.value)


def test_there_are_many_mistakes() -> None:
    assert len(FILES) >= 60


def test_every_message_belongs_to_a_mistake() -> None:
    assert {p.stem for p in FILES} == {p.stem for p in (Path(__file__).parent / "bad").glob("*.txt")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_message_is_the_one_beside_the_file(path: Path) -> None:
    assert message(path) == path.with_suffix(".txt").read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_message_has_its_form(path: Path) -> None:
    """``file:line:col: error: message``, the line, a caret under it, one hint; nothing of the inside leaks out."""
    text = path.read_text(encoding="utf-8").split("\n")
    said = message(path).split("\n")
    heads = [i for i, line in enumerate(said) if not line.startswith("    ")]
    assert heads and heads[0] == 0
    for i, end in zip(heads, [*heads[1:], len(said)], strict=True):
        where = re.fullmatch(rf"{re.escape(path.name)}:(\d+):(\d+): error: (.+)", said[i])
        assert where, said[i]
        line, column = int(where[1]), int(where[2])
        assert said[i + 1] == "    " + text[line - 1]
        caret = said[i + 2][4:]
        assert caret.strip("^ \t") == "" and caret.index("^") == column - 1
        hints = [s for s in said[i + 3 : end] if s.startswith("    hint: ")]
        assert len(hints) == 1 and end == i + 4, "one hint"
        assert not LEAKS.search(where[3].replace("NaN", "")) or LEAKS.search(text[line - 1]), where[3]
