"""Where the grammar and the library lie, and which state of the package's files this process runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGE = os.path.dirname(os.path.realpath(__file__))


def data_path(name: str) -> Path:
    """The folder of the package's data: ``grammar`` or ``library``."""
    from pathlib import Path  # takes a while to load, and what the cache has needs none

    return Path(_data(name))


def _data(name: str) -> str:
    """Inside an installed package, or at the top of a checkout."""
    installed = os.path.join(_PACKAGE, "_data", name)
    return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(_PACKAGE), name)


def fingerprint() -> str:
    """A digest of the names, sizes and times of all files that decide what the compiler makes of a text.

    One of the times is when the system last saw a change, which no tool sets back as it copies.
    """
    digest = hashlib.sha256()
    beside = [folder for folder in map(_data, ("grammar", "library")) if not folder.startswith(_PACKAGE)]
    for folder in (_PACKAGE, *beside):
        for entry in _files(folder):
            s = entry.stat()
            digest.update(f"{entry.path} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}\n".encode("utf-8", "surrogateescape"))
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
