"""Names in generated code: what a user wrote, made a unique identifier of the target language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


class Names:
    """Hands out identifiers, each once; reserved words get a trailing underscore."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self.taken = set(reserved)

    def take(self, hint: str) -> str:
        """An identifier as close to the hint as is free."""
        stem = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", hint)).strip("_") or "x"
        if stem[0].isdigit():
            stem = f"x{stem}"
        name, k = stem, 2
        if name in self.taken and f"{stem}_" not in self.taken:
            name = f"{stem}_"
        while name in self.taken:
            name, k = f"{stem}{'_' if stem[-1].isdigit() else ''}{k}", k + 1
        self.taken.add(name)
        return name
