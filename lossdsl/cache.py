"""What one process has made and the next may use: JSON under names, in a folder that belongs to the user alone.

An entry's name is a digest of all that it was made from, this package's own files included, so nothing in it ever goes out of
date. Its first line is a digest of its name and its text. Printed code is run as it is found here, as Python runs its own
``__pycache__``: so the folder and the file must be the user's, and nobody else may be able to write them. Whatever is wrong with
an entry or the folder, the answer is that there is none, and what cannot be kept is not kept: the cache never raises.

``LOSSDSL_CACHE`` names another folder, or is ``off``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import sys
import time
from typing import Any

from lossdsl import package

MOST = 200_000_000  # bytes of all entries
LARGEST = MOST // 10  # bytes of one
OLDEST = 90 * 86_400  # seconds for which an entry that nobody reads is kept
_DAY, _HOUR = 86_400, 3_600
_NAME = re.compile(r"(?:grammar|definition|printed)-[0-9a-f]{64}\.json")
_LEFT = re.compile(r"tmp-[0-9a-f]{16}\.json")  # being written, or left by a process that was ended


class Refused(Exception):
    """Why nothing is kept: no place, or one that is not the user's own."""


def name(kind: str, *parts: str, compiler: bool = True) -> str:
    """The name of what is made from ``parts`` by this version of Python and, unless ``compiler`` is false, of this package."""
    given = json.dumps([sys.version, sys.implementation.cache_tag, package.RUNNING if compiler else "", kind, *parts])
    return f"{kind}-{hashlib.sha256(given.encode()).hexdigest()}.json"


def find(name: str) -> Any:
    """The value kept under a name, or None."""
    try:
        path = os.path.join(folder(), name)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            s = os.fstat(handle)
            sound = stat.S_ISREG(s.st_mode) and s.st_size <= LARGEST and not _foreign(s)
            digest, _, body = (os.read(handle, s.st_size) if sound else b"").partition(b"\n")
        finally:
            os.close(handle)
        if digest != _digest(name, body):
            return None
        if time.time() - s.st_mtime > _DAY:
            with contextlib.suppress(OSError):
                os.utime(path)
        return json.loads(body)
    except (OSError, ValueError, RecursionError, Refused):
        return None


def keep(name: str, value: Any) -> None:
    """Keep a value of None, booleans, numbers, strings, lists and dicts. Whoever else writes it too, all of it or nothing is there."""
    try:
        body = json.dumps(value, separators=(",", ":")).encode()
        if len(body) > LARGEST or package.fingerprint() != package.RUNNING:
            return  # what this process has loaded is not what the name says
        where = folder(make=True)
        temporary = os.path.join(where, f"tmp-{os.urandom(8).hex()}.json")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            with open(handle, "wb") as file:
                file.write(_digest(name, body) + b"\n" + body)
            os.replace(temporary, os.path.join(where, name))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if int.from_bytes(os.urandom(4), "big") * MOST < len(body) * 50 << 32:  # once for each fiftieth that is written, on average
            sweep()
    except (OSError, ValueError, TypeError, RecursionError, Refused):
        return


def _digest(name: str, body: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + body).hexdigest().encode()


# -- the folder -------------------------------------------------------------------------------------------------------


def folder(*, make: bool = False) -> str:
    """The folder of the entries. Raises ``Refused`` or ``OSError`` where there is none to use."""
    path = place()
    if not package.RUNNING:
        raise Refused("the package's own files cannot be read")
    if make and not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    s = os.stat(path)
    if not stat.S_ISDIR(s.st_mode):
        raise Refused("it is no folder")
    why = _foreign(s)
    if why:
        raise Refused(why)
    return path


def place() -> str:
    """The folder that is meant, whether or not it is there. Raises ``Refused`` if none is."""
    chosen = os.environ.get("LOSSDSL_CACHE")
    if chosen == "off":
        raise Refused("LOSSDSL_CACHE is off")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser({"darwin": "~/Library/Caches", "win32": "~/AppData/Local"}.get(sys.platform, "~/.cache"))
    if not os.path.isabs(base):
        raise Refused("there is no home folder")
    return os.path.join(base, "lossdsl")


def _foreign(s: os.stat_result) -> str:
    """Why a folder or file is not the user's own; nothing if it is. Windows says so by other means, which protect a profile."""
    if not hasattr(os, "geteuid"):
        return ""
    if s.st_uid != os.geteuid():
        return "it belongs to another user"
    return "others can write it" if s.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


# -- what is there ----------------------------------------------------------------------------------------------------


def entries() -> list[tuple[str, os.stat_result]]:
    """The files of the cache and what is known of each, the last used first."""
    found = []
    with contextlib.suppress(OSError, Refused), os.scandir(folder()) as files:
        for e in files:
            with contextlib.suppress(OSError):
                if (_NAME.fullmatch(e.name) or _LEFT.fullmatch(e.name)) and e.is_file(follow_symlinks=False):
                    found.append((e.path, e.stat(follow_symlinks=False)))
    return sorted(found, key=lambda x: x[1].st_mtime, reverse=True)


def sweep(most: int = MOST) -> None:
    """Remove what was not used for long, what was left half written, and the least recently used beyond a size."""
    total, now = 0, time.time()
    for path, s in entries():
        total += s.st_size
        left = _LEFT.fullmatch(os.path.basename(path))
        if total > most or now - s.st_mtime > (_HOUR if left else OLDEST):
            with contextlib.suppress(OSError):
                os.unlink(path)


def clear() -> None:
    """Remove all entries, and nothing else that lies there."""
    for path, _ in entries():
        with contextlib.suppress(OSError):
            os.unlink(path)
