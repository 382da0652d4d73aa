"""Files of losses and what their names mean: a file, the folder it lies in, the library; each loss is read when it is first used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from os.path import isfile
from pathlib import Path
from typing import Any

from lossdsl.errors import LossError, Source, Span, did_you_mean, listed
from lossdsl.frontend import syntax
from lossdsl.frontend.files import aliases, clean, library_paths, read
from lossdsl.frontend.lower import Compiled, lower
from lossdsl.frontend.parse import parse
from lossdsl.frontend.remarks import Remark
from lossdsl.frontend.resolve import Blame, Loss, Signature, resolve
from lossdsl.frontend.steps import Steps, run
from lossdsl.ir.program import Program

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
        self._looked: dict[tuple[Path, File | None], None] = {}
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
            if str(path) == self.source.origin:
                continue
            beside = _folder_file(path, path.stat().st_mtime_ns) if isfile(path) else None
            self._looked[path, beside] = None
            if beside is not None:
                return beside.entries.get(name)
        return library_entry(name)

    def drawn(self) -> list[tuple[Path, File | None]]:
        """The files beside this one that it has looked for, and those that they have, with what was there."""
        out: dict[tuple[Path, File | None], None] = {}
        waiting = [self]
        while waiting:
            new = waiting.pop()._looked.keys() - out.keys()
            out |= dict.fromkeys(new)
            waiting += [file for _, file in new if file is not None]
        return list(out)

    def is_public(self, loss: Loss) -> bool:
        """Whether a loss has the same name in every text."""
        return library_entry(loss.name) is loss

    def names(self) -> list[str]:
        """The losses that may be called here."""
        return [*self.entries, *library_paths()]


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


@lru_cache(maxsize=256)
def _folder_file(path: Path, changed: int) -> File:
    """A file beside the one that is read, as it was when it was last changed."""
    return File(read(path), str(path), (path.parent,))


# -- the library ------------------------------------------------------------------------------------------------------


@cache
def _library_file(path: Path) -> File:
    return File(read(path), str(path))


def library_entry(name: str) -> Entry | None:
    """A loss of the library by the name of its file, or by another name that a file defines."""
    path = library_paths().get(name) or aliases().get(name)
    return _library_file(path).entries.get(name) if path else None


# -- programs ---------------------------------------------------------------------------------------------------------


def library_program(name: str, functions: Mapping[str, str]) -> Program:
    """A loss of the library."""
    entry = library_entry(name)
    if entry is None or name.startswith("_"):
        known = [*library_paths(), *aliases()]
        raise LossError(f"the library has no loss '{name[:60]}'", hint=did_you_mean(name, known) or "lossdsl.library() lists its names")
    return run(entry.lowered(functions)).program


def file_programs(file: File, functions: Mapping[str, str]) -> tuple[dict[str, Program], list[Remark]]:
    """The programs of a file, by name, and what is legal and suspicious in it."""
    errors = list(file.errors)
    out: dict[str, Program] = {}
    remarks: list[Remark] = []
    for entry in file.entries.values():
        try:
            compiled: Compiled = run(entry.lowered(_own(entry, functions)))
        except LossError as error:
            if not any(error is e for e in errors):
                errors.append(error)
        else:
            remarks += compiled.remarks
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
    return out, sorted(remarks, key=lambda r: r.span.start)


def _own(entry: Entry, functions: Mapping[str, str]) -> dict[str, str]:
    """The functions that are meant for a definition."""
    declared = {p.name for p in (*entry.definition.inputs, *(entry.definition.hypers or ()))}
    return {k: v for k, v in functions.items() if k in declared}


def _together(errors: Sequence[LossError]) -> LossError:
    """One error for all, in the order of the file."""
    first, *others = sorted(errors, key=lambda e: e.span.start if e.span else 0)
    return type(first)(first.message, span=first.span, source=first.source, hint=first.hint, others=others)
