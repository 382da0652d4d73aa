"""Random programs find bugs: of those planted in the compiler, one at a time, nearly all are noticed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mutants import MUTANTS

PROGRAMS = 200


def killed(name: str) -> str:
    """What a process with the bug planted says of it."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "mutants.py"), name, str(PROGRAMS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here.parent, env={"PYTHONPATH": str(here.parent)})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_planted_bugs_are_found(record_property: Callable[[str, object], None]) -> None:
    assert not killed(""), "the compiler as it is disagrees"
    found = {name: killed(name) for name in MUTANTS}
    record_property("counts", "\n".join(f"{name}: {said.splitlines()[0][:120] if said else 'SURVIVED'}" for name, said in found.items()))
    assert len(found) >= 20 and sum(map(bool, found.values())) >= 0.9 * len(found)
