"""What all tests share: generated examples are the same in every run, and a slow machine fails none of them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tools import compile_anew

settings.register_profile("steady", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Beside others, a worker computes on one core. What is tested is made anew."""
    compile_anew()
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have counted (``record_property("counts", ..)``) is shown at the end, from workers too."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, text in report.user_properties:
            if name == "counts":
                terminalreporter.write_line(f"{report.nodeid}\n{text}\n")
