"""The examples of the README run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["gradient"].shape == names["f"].shape
    assert "exp" in capsys.readouterr().out
    fn = names["losses"]["cross_entropy"].compile("numpy")
    value, gradient = fn.value_and_grad(np.array([1e4, -1e4, 0.0]), np.array(1))
    assert value == 2e4 and gradient.tolist() == [1, -1, 0], "as the text below the example promises"


def test_the_equation_at_the_top_is_the_librarys() -> None:
    equation = next(b for b in blocks("") if "huber" in b)
    assert lossdsl.parse(equation)["huber"].program.roots == lossdsl.load("huber").program.roots


@pytest.mark.parametrize("command", [line for block in blocks("console") for line in block.splitlines()])
def test_the_commands_run(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(command)
    assert program == "lossdsl"
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip()


def test_the_two_commands_are_stated() -> None:
    assert 'pip install -e . && lossdsl demo\npip install -e ".[dev]" && pytest\n' in TEXT
