"""Where the grammar and the library lie: at the top of a checkout, or inside an installed package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def data_path(name: str) -> Path:
    """The folder of the package's data: ``grammar`` or ``library``."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
