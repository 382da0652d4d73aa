"""Files of losses and what their names mean: a file, the folder it lies in, the library; each loss is read when it is first used."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lossdsl.errors import LossError, Source, Span, did_you_mean
from lossdsl.frontend import syntax
from lossdsl.frontend.files import data_path
from lossdsl.frontend.lower import Compiled, lower
from lossdsl.frontend.parse import MAX_SIZE, clean, parse
from lossdsl.frontend.remarks import Remark
from lossdsl.frontend.resolve import Blame, Signature, listed, resolve
from lossdsl.frontend.steps import Steps, run
from lossdsl.ir.program import Program

_lock = threading.RLock()
Key = tuple[tuple[str, Any], ...]  # the functions that hyper-parameters stand for
_active: list[Entry] = []  # definitions that are being looked at, each for the one before


class Entry:
    """A definition of a file, with its signature and meaning once they have been asked for."""

    def __init__(self, file: File, definition: syntax.Definition) -> None:
        self.file, self.definition, self.name = file, definition, definition.name
        self.blame = Blame(file.source, definition.base)
        self._signature: Signature | None = None
        self._lowered: dict[Key, Compiled] = {}
        self._failed: dict[Key | None, LossError] = {}
        self._busy = False

    def signature(self) -> Steps[Signature]:
        if self._signature is None:
            self._signature = yield self._once(None, resolve(self.definition, self.file.source, self.file))
        return self._signature

    def lowered(self, functions: Mapping[str, Any]) -> Steps[Compiled]:
        signature: Signature = yield self.signature()
        key = tuple(sorted(functions.items(), key=lambda item: item[0]))
        if key not in self._lowered:
            self._lowered[key] = yield self._once(key, lower(self.definition, self.file.source, signature, self.file, functions))
        return self._lowered[key]

    def is_template(self) -> bool:
        """Whether it means nothing until its functions are given."""
        return any(f.default is None for f in run(self.signature()).functions)

    def _once(self, key: Key | None, step: Steps[Any]) -> Steps[Any]:
        """The result of a step that must not come to need itself; its error is the same the next time."""
        if key in self._failed:
            raise self._failed[key]
        if self._busy:
            others = list(dict.fromkeys(e.name for e in _active[_active.index(self) :] if e is not self))
            way = f"by way of {listed(others)}" if others else "by itself"
            self.blame.fail(f"'{self.name}' is defined {way}", self.definition.span, "losses are made of other losses, never of themselves")
        self._busy = True
        _active.append(self)
        try:
            return (yield step)
        except LossError as error:
            self._failed[key] = error
            raise
        finally:
            self._busy = False
            _active.pop()


class Broken:
    """A definition that could not be read: whoever mentions it has the same error."""

    def __init__(self, name: str, error: LossError) -> None:
        self.name, self.error = name, error

    def signature(self) -> Steps[Signature]:
        raise self.error
        yield

    def lowered(self, functions: Mapping[str, Any]) -> Steps[Compiled]:
        raise self.error
        yield


class File:
    """The definitions of one text. ``folders`` are searched for losses that it does not define, then the library is."""

    def __init__(self, text: str, origin: str, folders: Sequence[Path] = ()) -> None:
        text = clean(text)
        self.source, self.folders = Source(text, origin), tuple(folders)
        definitions, self.errors = parse(text, origin)
        self.entries: dict[str, Entry] = {}
        for d in definitions:
            if d.name in self.entries:
                first = self.source.locate(self.entries[d.name].definition.base + self.entries[d.name].definition.span.start)[0]
                blame = Blame(self.source, d.base)
                self.errors.append(
                    blame.error(
                        f"'{d.name}' is defined twice", d.span, f"the first definition is in line {first}; give one of them another name"
                    )
                )
            else:
                self.entries[d.name] = Entry(self, d)
        self.broken = {n: Broken(n, e) for e in self.errors if (n := _broken_name(self.source, e)) and n not in self.entries}

    def find(self, name: str) -> Entry | Broken | None:
        """The loss that a name means here."""
        found = self.entries.get(name) or self.broken.get(name)
        if found is not None or name.startswith("_"):
            return found
        for folder in self.folders:
            path = folder / f"{name}.loss"
            if path.is_file() and str(path) != self.source.origin:
                return _folder_file(path, path.stat().st_mtime_ns).entries.get(name)
        return library_entry(name)

    def names(self) -> list[str]:
        """The losses that may be called here."""
        return [*self.entries, *_library_paths()]


def _broken_name(source: Source, error: LossError) -> str | None:
    """The name that a definition which does not parse would have had."""
    if error.span is None:
        return None
    place = error.span.start
    while place >= 0:
        start = source.text.rfind("\n", 0, place) + 1
        m = re.match(r"[^\W\d]\w*", source.text[start : start + 200])
        if m:
            return m[0]
        place = start - 1
    return None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * MAX_SIZE:
            raise LossError(f"{path} is larger than {MAX_SIZE:,} characters", hint="split it into several files")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise LossError(f"{path} is no text in UTF-8", hint="save it as UTF-8") from None
    except OSError as error:
        raise LossError(f"{path} cannot be read: {error.strerror}", hint="name a file of losses: my.loss") from None


@lru_cache(maxsize=256)
def _folder_file(path: Path, changed: int) -> File:
    """A file beside the one that is read, as it was when it was last changed."""
    return File(_read(path), str(path), (path.parent,))


# -- the library ------------------------------------------------------------------------------------------------------


@cache
def _library_paths() -> dict[str, Path]:
    return {path.stem: path for path in sorted(data_path("library").glob("*/*.loss"))}


@cache
def _library_file(path: Path) -> File:
    return File(_read(path), str(path))


@cache
def _aliases() -> dict[str, Path]:
    """Further public names that the library's files define."""
    out: dict[str, Path] = {}
    for stem, path in _library_paths().items():
        for m in re.finditer(r"^([A-Za-z]\w*)", _read(path), re.MULTILINE):
            if m[1] != stem:
                out.setdefault(m[1], path)
    return out


def library_entry(name: str) -> Entry | None:
    """A loss of the library by the name of its file, or by another name that a file defines."""
    path = _library_paths().get(name) or _aliases().get(name)
    return _library_file(path).entries.get(name) if path else None


def library_names(family: str | None = None) -> list[str]:
    """Names of the library's losses, of one family (a folder) or of all."""
    paths = _library_paths()
    families = sorted({p.parent.name for p in paths.values()})
    if family is not None and family not in families:
        raise LossError(f"the library has no family '{family}'", hint=did_you_mean(family, families) or f"families are {listed(families)}")
    return [name for name, path in paths.items() if family in (None, path.parent.name)]


# -- loading ----------------------------------------------------------------------------------------------------------


def load_text(text: str, origin: str = "<text>", functions: Mapping[str, str] | None = None) -> dict[str, Program]:
    """The programs of a text, by name; private definitions are not listed.

    ``functions`` says which function a function-valued hyper-parameter stands for, ``{"dist": "cosine"}``. Raises one
    ``LossError`` for all that is wrong, with the further errors in ``others``.
    """
    with _lock:
        return _programs(File(text, origin), functions or {})


def load_text_with_warnings(text: str, origin: str = "<text>", folders: Sequence[Path] = ()) -> tuple[dict[str, Program], list[Remark]]:
    """The programs of a text, and what is legal and suspicious in it."""
    with _lock:
        file = File(text, origin, folders)
        programs = _programs(file, {})
        remarks = [r for e in file.entries.values() if not e.is_template() for r in run(e.lowered({})).remarks]
        return programs, sorted(remarks, key=lambda r: r.span.start)


def load_path(path: str | os.PathLike[str], functions: Mapping[str, str] | None = None) -> dict[str, Program]:
    """The programs of a file; losses that it mentions are also looked for in its folder."""
    place = Path(path)
    with _lock:
        return _programs(File(_read(place), str(place), (place.parent,)), functions or {})


def load_library(name: str, functions: Mapping[str, str] | None = None) -> Program:
    """A loss of the library."""
    with _lock:
        entry = library_entry(name)
        if entry is None or name.startswith("_"):
            known = [*_library_paths(), *_aliases()]
            raise LossError(f"the library has no loss '{name[:60]}'", hint=did_you_mean(name, known) or "lossdsl.library() lists its names")
        return run(entry.lowered(functions or {})).program


def _programs(file: File, functions: Mapping[str, str]) -> dict[str, Program]:
    errors = list(file.errors)
    out: dict[str, Program] = {}
    for entry in file.entries.values():
        try:
            if entry.name.startswith("_") and entry.is_template():
                continue
            compiled: Compiled = run(entry.lowered(_own(entry, functions)))
        except LossError as error:
            if not any(error is e for e in errors):
                errors.append(error)
        else:
            if not entry.name.startswith("_"):
                out[entry.name] = compiled.program
    if errors:
        raise _together(errors)
    if not file.entries:
        raise LossError(
            "the text holds no definition",
            span=Span(0, 1),
            source=file.source,
            hint="a definition is: name(inputs; hyper-parameters) = equation",
        )
    return out


def _own(entry: Entry, functions: Mapping[str, str]) -> dict[str, str]:
    """The functions that are meant for a definition."""
    declared = {p.name for p in (*entry.definition.inputs, *(entry.definition.hypers or ()))}
    return {k: v for k, v in functions.items() if k in declared}


def _together(errors: Sequence[LossError]) -> LossError:
    """One error for all, in the order of the file."""
    first, *others = sorted(errors, key=lambda e: e.span.start if e.span else 0)
    return type(first)(first.message, span=first.span, source=first.source, hint=first.hint, others=others)
