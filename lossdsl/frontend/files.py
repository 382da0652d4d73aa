"""Files of losses: how their text is read and written, and which of them the library has."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING

from lossdsl.errors import LossError, did_you_mean, listed
from lossdsl.package import data_path

if TYPE_CHECKING:
    from pathlib import Path

MAX_SIZE = 1_000_000


def read(path: Path) -> str:
    """The text of a file."""
    try:
        if path.stat().st_size > 4 * MAX_SIZE:
            raise LossError(f"{path} is larger than {MAX_SIZE:,} characters", hint="split it into several files")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise LossError(f"{path} is no text in UTF-8", hint="save it as UTF-8") from None
    except OSError as error:
        raise LossError(f"{path} cannot be read: {error.strerror}", hint="name a file of losses: my.loss") from None


def clean(text: str) -> str:
    """A text without what editors add unseen: a byte order mark, carriage returns at the ends of lines."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def write(path: Path, text: str) -> None:
    """All of the file or nothing, whoever else writes it; a link stays a link, and a file keeps its permissions."""
    from shutil import copymode
    from tempfile import mkstemp

    path = path.resolve()
    handle, name = mkstemp(dir=path.parent, prefix=f".{path.name}", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        if path.exists():
            copymode(path, name)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@cache
def library_paths() -> dict[str, Path]:
    """The library's files by the name of the loss that each is for."""
    return {path.stem: path for path in sorted(data_path("library").glob("*/*.loss"))}


@cache
def aliases() -> dict[str, Path]:
    """Further public names that the library's files define."""
    out: dict[str, Path] = {}
    for stem, path in library_paths().items():
        for m in re.finditer(r"^([A-Za-z]\w*)", read(path), re.MULTILINE):
            if m[1] != stem:
                out.setdefault(m[1], path)
    return out


def library_names(family: str | None = None) -> list[str]:
    """Names of the library's losses, of one family (a folder) or of all."""
    paths = library_paths()
    families = sorted({p.parent.name for p in paths.values()})
    if family is not None and family not in families:
        raise LossError(f"the library has no family '{family}'", hint=did_you_mean(family, families) or f"families are {listed(families)}")
    return [name for name, path in paths.items() if family in (None, path.parent.name)]
