"""The tour fits what it says it fits, and draws it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lossdsl import cli
from lossdsl.demo import tour


@pytest.fixture(scope="module")
def lines() -> list[tour.Fit]:
    return tour.fits()


def test_the_data_are_the_published_ones() -> None:
    year, calls = tour.data()
    assert year.tolist() == list(range(1950, 1974))
    assert set(calls[calls > 100]) == set(calls[np.isin(year, tour.MISRECORDED)]), "the gross outliers are the years of the mistake"


def test_squared_error_gives_least_squares(lines: list[tour.Fit]) -> None:
    year, calls = tour.data()
    slope, level = np.polyfit(year - tour.FIRST_YEAR, calls, 1)
    np.testing.assert_allclose(lines[0].coefficients, (level, slope), rtol=1e-6)


def test_the_bounded_loss_recovers_the_clean_slope(lines: list[tour.Fit]) -> None:
    clean = tour.clean_fit()
    far = [abs(line.slope - clean.slope) for line in lines]
    assert far[0] > far[1] > far[2], "each loss resists better than the one before"
    assert far[2] < 0.05*clean.slope


def test_the_command_prints_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "welsch(" in out and "exp(" in out and "lossdsl-demo.png" in out
    assert (tmp_path / "lossdsl-demo.png").read_bytes().startswith(b"\x89PNG")
