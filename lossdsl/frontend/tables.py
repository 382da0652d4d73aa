"""Lark's parser for the grammar, and its tables kept as JSON between processes (building them takes most of a second)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from lossdsl.frontend.files import data_path

OPTIONS: dict[str, Any] = {
    "parser": "lalr", "lexer": "contextual", "start": "definition", "keep_all_tokens": True, "maybe_placeholders": False,
}  # fmt: skip


def load(actions: object) -> Lark:
    """The parser that calls ``actions`` at each reduction."""
    grammar = (data_path("grammar") / "loss.lark").read_text(encoding="utf-8")
    path = _cache_path(grammar)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError):
        data, memo = json.loads(path.read_text(encoding="utf-8"), object_hook=_integer_keys)
        return Lark._load_from_dict(data, memo, transformer=actions)  # type: ignore[no-untyped-call]
    parser = Lark(grammar, transformer=actions, **OPTIONS)
    with contextlib.suppress(OSError, TypeError, ValueError, AttributeError):
        _write(path, json.dumps(Lark(grammar, **OPTIONS).memo_serialize([TerminalDef, Rule])))
    return parser


def _cache_path(grammar: str) -> Path:
    home = os.environ.get("LOSSDSL_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lossdsl")
    key = hashlib.sha256("\0".join((lark.__version__, repr(OPTIONS), grammar)).encode()).hexdigest()[:16]
    return Path(home) / f"grammar-{key}.json"


def _integer_keys(pairs: dict[str, Any]) -> dict[Any, Any]:
    """JSON has no integers as keys; Lark's tables have."""
    return {int(k) if k.isdecimal() else k: v for k, v in pairs.items()}


def _write(path: Path, text: str) -> None:
    """All of the file or nothing, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(name, path)
