"""Lark's parser for the grammar, and its tables kept as JSON between processes (building them takes most of a second)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from lossdsl import cache
from lossdsl.package import data_path

OPTIONS: dict[str, Any] = {
    "parser": "lalr", "lexer": "contextual", "start": "definition", "keep_all_tokens": True, "maybe_placeholders": False,
}  # fmt: skip


def load(actions: object) -> Lark:
    """The parser that calls ``actions`` at each reduction, or with None gives trees of tokens."""
    grammar = (data_path("grammar") / "loss.lark").read_text(encoding="utf-8")
    kept = cache.name("grammar", lark.__version__, repr(OPTIONS), grammar, compiler=False)
    found = cache.find(kept)
    if found is not None:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, AssertionError):
            return _read(found, actions)
    try:
        text = json.dumps(Lark(grammar, **OPTIONS).memo_serialize([TerminalDef, Rule]))
        parser = _read(text, actions)
    except (ValueError, KeyError, TypeError, AttributeError):  # another version of Lark
        return Lark(grammar, transformer=actions, **OPTIONS)
    cache.keep(kept, text)
    return parser


def _read(text: str, actions: object) -> Lark:
    """A parser from its tables."""
    data, memo = json.loads(text, object_hook=_integer_keys)
    return Lark._load_from_dict(data, memo, transformer=actions)  # type: ignore[no-untyped-call]


def _integer_keys(pairs: dict[str, Any]) -> dict[Any, Any]:
    """JSON has no integers as keys; Lark's tables have."""
    return {int(k) if k.isdecimal() else k: v for k, v in pairs.items()}
