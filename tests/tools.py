"""What several tests need: a text's program, its value in the reference, arrays of a fixed seed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from lossdsl.frontend import load_text
from lossdsl.frontend.parse import parse
from lossdsl.ir.program import Program
from lossdsl.runtime import reference


def compile_anew() -> None:
    """From now on nothing that another process has compiled is used, here and in processes that this one starts.

    So a test that changes the compiler sees the change. The parser's tables alone are taken from the cache, before it is closed.
    """
    if os.environ.get("LOSSDSL_CACHE") != "off":
        parse("a = r")
        os.environ["LOSSDSL_CACHE"] = "off"


def program(text: str, name: str | None = None) -> Program:
    """The definition of that name, or the last one, of a text."""
    programs = load_text(text, "test.loss")
    return programs[name] if name else list(programs.values())[-1]


def value(text: str, arrays: Mapping[str, Any], params: Mapping[str, Any] | None = None, name: str | None = None) -> np.ndarray:
    """The reference's value of a definition, as floats."""
    found = program(text, name)
    return evaluate(found, arrays, params)


def evaluate(found: Program, arrays: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> np.ndarray:
    given = {p.name: p.default for p in found.params if p.default is not None} | dict(params or {})
    results = reference.evaluate(found, {k: np.asarray(v) for k, v in arrays.items()}, given)
    (result,) = results.values()
    return np.asarray(result, dtype=float)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)
