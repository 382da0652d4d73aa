"""Programs of a text, a file or the library: as an earlier process has left them in the cache, else read anew.

The meaning of a text is decided by the text, by what names of functions stand for, by this package with its library, and by the
files beside it that it draws on. These are found out while it is read: so they are kept with what was made, and compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cache as remember
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lossdsl import cache
from lossdsl.errors import LossError, Source, Span
from lossdsl.frontend.files import clean, read
from lossdsl.frontend.remarks import Remark
from lossdsl.ir.program import Program
from lossdsl.ir.store import packed, unpacked

if TYPE_CHECKING:
    from pathlib import Path

lock = threading.RLock()
_library: dict[tuple[str, str], Program] = {}  # what this process has met


def load_text(text: str, origin: str = "<text>", functions: Mapping[str, str] | None = None) -> dict[str, Program]:
    """The programs of a text, by name; private definitions are not listed.

    ``functions`` says which function a function-valued hyper-parameter stands for, ``{"dist": "cosine"}``. Raises one
    ``LossError`` for all that is wrong, with the further errors in ``others``.
    """
    return _loaded(text, origin, (), functions or {})[0]


def load_text_with_warnings(text: str, origin: str = "<text>", folders: Sequence[Path] = ()) -> tuple[dict[str, Program], list[Remark]]:
    """The programs of a text, and what is legal and suspicious in it."""
    return _loaded(text, origin, folders, {})


def load_path(path: str | os.PathLike[str], functions: Mapping[str, str] | None = None) -> dict[str, Program]:
    """The programs of a file; losses that it mentions are also looked for in its folder."""
    from pathlib import Path

    place = Path(path)
    return _loaded(read(place), str(place), (place.parent,), functions or {})[0]


def load_library(name: str, functions: Mapping[str, str] | None = None) -> Program:
    """A loss of the library."""
    given = functions or {}
    key = name, _listed(given)
    with lock:
        if key in _library:
            return _library[key]
        kept = _name("library", *key)
        found = cache.find(kept)
        if found is not None:
            with contextlib.suppress(ValueError):
                (_library[key],) = unpacked(found)
                return _library[key]
        from lossdsl.frontend.library import library_program

        program = _library[key] = library_program(name, given)
        _keep(kept, [program], {})
        return program


# -- what is kept -----------------------------------------------------------------------------------------------------


def _loaded(text: str, origin: str, folders: Sequence[Path], functions: Mapping[str, str]) -> tuple[dict[str, Program], list[Remark]]:
    source = Source(clean(text), origin)
    with lock:
        kept = _name("text", source.text, origin, json.dumps([str(f) for f in folders]), _listed(functions))
        found = cache.find(kept)
        if found is not None:
            with contextlib.suppress(TypeError, KeyError, ValueError):
                if all(_state(path) == state for path, state in found["files"]):
                    remarks = [Remark(name, message, hint, Span(*place), source) for name, message, hint, place in found["remarks"]]
                    return dict(zip(found["names"], unpacked(found), strict=True)), remarks
        from lossdsl.frontend.library import File, file_programs

        file = File(text, origin, folders)
        programs, remarks = file_programs(file, functions)
        files = [[str(path), None if f is None else _digest(f.source.text)] for path, f in file.drawn()]
        said = [[r.name, r.message, r.hint, [r.span.start, r.span.end]] for r in remarks]
        _keep(kept, list(programs.values()), {"files": files, "names": list(programs), "remarks": said})
        return programs, remarks


def _keep(name: str, programs: list[Program], more: dict[str, Any]) -> None:
    """Keep programs, if they are such as come back the same."""
    try:
        value = packed(programs)
        if list(unpacked(value)) == programs:
            cache.keep(name, value | more)
    except ValueError:
        return


def _name(*parts: str) -> str:
    return cache.name("definition", _parser(), *parts)


def _listed(functions: Mapping[str, str]) -> str:
    """The functions given, one text for each choice."""
    return json.dumps(sorted(functions.items()))


@remember
def _parser() -> str:
    """Which parser is installed, found out without loading it."""
    try:
        spec = find_spec("lark")
        found = os.stat(spec.origin) if spec and spec.origin else None  # the file that states its version
    except (OSError, ValueError):
        found = None
    return f"{found.st_size} {found.st_mtime_ns}" if found else ""


def _state(path: str) -> str | None:
    """What a file says, None where there is none."""
    from pathlib import Path

    try:
        return _digest(clean(read(Path(path)))) if os.path.isfile(path) else None
    except LossError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
