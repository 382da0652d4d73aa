"""Printed functions of a program: as an earlier process has left them in the cache, else printed anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from lossdsl import cache
from lossdsl.ir.program import Program
from lossdsl.ir.store import NotStorable, packed


class Printed:
    """What is printed of one program; ``facts`` say what else decides it: the backend and its version, names, numbers."""

    def __init__(self, program: Program, *facts: str) -> None:
        self.program, self.facts = program, facts

    @cached_property
    def _digest(self) -> str:
        """What names the program; nothing if it cannot be written down."""
        try:
            return hashlib.sha256(json.dumps(packed([self.program])).encode()).hexdigest()
        except NotStorable:
            return ""

    def get(self, make: Callable[[], Any], *what: str) -> Any:
        """What ``make`` prints, a JSON value; ``what`` names it among the others of the program."""
        if not self._digest:
            return make()
        name = cache.name("printed", self._digest, *self.facts, *what)
        found = cache.find(name)
        if found is None:
            found = make()
            cache.keep(name, found)
        return found
