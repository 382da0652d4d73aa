"""Where the grammar and the library lie, and which state of the package's files this process runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def data_path(name: str) -> Path:
    """The folder of the package's data: ``grammar`` or ``library``, inside an installed package or at the top of a checkout."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def fingerprint() -> str:
    """A digest of the names, sizes and times of all files that decide what the compiler makes of a text.

    It notices what Python notices: a module whose size and time have not changed is not compiled anew either.
    """
    digest = hashlib.sha256()
    for folder in dict.fromkeys((_PACKAGE, data_path("grammar"), data_path("library"))):
        digest.update(f"{folder}\n".encode("utf-8", "surrogateescape"))
        for entry in _files(str(folder)):
            s = entry.stat()
            digest.update(f"{entry.path} {s.st_size} {s.st_mtime_ns} {s.st_ino}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if not entry.is_dir():
                yield entry
            elif entry.name != "__pycache__":
                yield from _files(entry.path)


try:
    RUNNING = fingerprint()  # taken as this process begins, for later the files may be others than those that it has loaded
except OSError:
    RUNNING = ""
