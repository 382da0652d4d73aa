"""What the docs show works: definitions compile and run, Python runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lossdsl
from lossdsl.frontend.vectors import VECTORS
from lossdsl.functions import FUNCTIONS
from lossdsl.ir.program import Function
from lossdsl.kinds import KINDS
from lossdsl.reductions import REDUCTIONS

DOCS = sorted((Path(__file__).parents[1]/"docs").glob("*.md"))


def blocks(path: Path, language: str) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    return (m[1] for m in re.finditer(rf"^```{language}\n(.*?)^```", text, re.S | re.M))


def definitions() -> list[Any]:
    texts = [(path, text) for path in DOCS for text in blocks(path, "loss")]
    return [pytest.param(loss, id=f"{path.stem}-{name}") for path, text in texts for name, loss in lossdsl.parse(text).items()]


@pytest.mark.parametrize("loss", definitions())
def test_definitions(loss: lossdsl.Loss) -> None:
    """Each has a value and a gradient for inputs of its kinds, and reads back; functions as inputs are tried elsewhere."""
    if not any(isinstance(i, Function) for i in loss.inputs):
        value, _ = loss.compile("numpy").value_and_grad(**loss.sample(seed=0))
        assert value == value
    assert lossdsl.parse(str(loss))[loss.name] == loss


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_python(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for text in blocks(path, "python"):
        exec(compile(text, str(path), "exec"), names)


def test_the_reference_names_everything() -> None:
    text = next(path for path in DOCS if path.stem == "language").read_text(encoding="utf-8")
    tables = {word for line in text.splitlines() if line.startswith("|") for word in re.findall(r"\w+", line)}
    assert not {*FUNCTIONS, *REDUCTIONS, *KINDS, *VECTORS} - tables
