"""The command line prints what the library says, and a mistake as a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lossdsl
from lossdsl import cli
from lossdsl.pipeline import STEPS

Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    out, err = capsys.readouterr()
    code = stopped.value.code
    return code if isinstance(code, int) else 0, out, err


def test_version(capsys: Captured) -> None:
    assert run(capsys, "--version") == (0, f"lossdsl {lossdsl.__version__}\n", "")


def test_list_names_every_loss(capsys: Captured) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == lossdsl.library()


def test_list_of_a_family(capsys: Captured) -> None:
    _, out, _ = run(capsys, "list", "--family", "margin")
    assert [line.split()[0] for line in out.splitlines()] == lossdsl.library("margin")


def test_show_reads_back(capsys: Captured) -> None:
    code, out, _ = run(capsys, "show", "huber")
    assert code == 0
    assert lossdsl.parse(out)["huber"] == lossdsl.load("huber")


@pytest.mark.parametrize("step", STEPS)
def test_show_after_a_step(capsys: Captured, step: str) -> None:
    code, out, _ = run(capsys, "show", "log_cosh", "--after", step)
    assert code == 0 and lossdsl.parse(out)


def test_show_takes_a_file(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "two.loss"
    path.write_text("a = r^2\nb = a + 1\n", encoding="utf-8")
    code, out, _ = run(capsys, "show", str(path))
    assert code == 0 and set(lossdsl.parse(out)) == {"a", "b"}


def test_grad(capsys: Captured) -> None:
    code, out, _ = run(capsys, "grad", "elastic" if "elastic" in lossdsl.library() else "ridge", "--wrt", "theta")
    assert code == 0 and "theta" in out


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_source_imports_nothing_of_the_project(capsys: Captured, backend: str) -> None:
    code, out, _ = run(capsys, "source", "huber", "--backend", backend)
    assert code == 0 and f"import {backend}" in out and "import lossdsl" not in out and "from lossdsl" not in out


@pytest.mark.parametrize("arguments", [
    ("show", "hubber"), ("show", "huber", "--after", "wish"), ("grad", "huber", "--wrt", "g"), ("source", "huber", "--backend", "abacus"),
    ("show", "nowhere.loss"), ("list", "--family", "nowhere"),
])  # fmt: skip
def test_a_mistake_is_one_plain_message(capsys: Captured, arguments: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 1 and not out
    assert "error: " in err and "Traceback" not in err


def test_check(capsys: Captured, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.loss", tmp_path / "bad.loss"
    good.write_text("a = r^2\n", encoding="utf-8")
    bad.write_text("a = q^2\nb = r*\n", encoding="utf-8")
    assert run(capsys, "check", str(good))[0] == 0
    code, out, _ = run(capsys, "check", str(good), str(bad), str(tmp_path / "missing.loss"))
    assert code == 1
    assert "good.loss: a: ok" in out and "bad.loss:1:" in out and "missing.loss" in out


def test_check_warns(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "odd.loss"
    path.write_text("a(x: real; b = 1) = x^2\n", encoding="utf-8")
    code, out, _ = run(capsys, "check", str(path))
    assert code == 0 and f"{path}:1:12: warning: " in out and out.endswith(f"{path}: a: ok, 1 warning\n")


def test_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "lossdsl.cli", "show", "nothing_like_it"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_without_torch_the_torch_backend_says_so(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lossdsl.runtime.on_torch", raising=False)
    monkeypatch.delattr("lossdsl.runtime.on_torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = run(capsys, "source", "huber", "--backend", "torch")
    assert code == 1 and "needs PyTorch" in err
