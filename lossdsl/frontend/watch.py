"""Definitions with what each node of their trees means: what a lint looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossdsl.errors import Source
from lossdsl.frontend import syntax
from lossdsl.frontend.bind import Scope
from lossdsl.frontend.library import File, file_programs
from lossdsl.frontend.load import lock
from lossdsl.frontend.lower import Lowering
from lossdsl.frontend.remarks import Remark
from lossdsl.frontend.resolve import Signature
from lossdsl.frontend.steps import Steps, run
from lossdsl.frontend.values import Term
from lossdsl.ir.program import Program

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Watched:
    """A definition, its program and the front end's remarks.

    ``terms`` has what each expression means, once for every time that it was given a meaning: a local function's body has one
    for each call. ``siblings`` are all definitions of the file.
    """

    definition: syntax.Definition
    source: Source
    signature: Signature
    program: Program
    remarks: tuple[Remark, ...]
    terms: Mapping[syntax.Node, Sequence[Term]]
    siblings: Sequence[syntax.Definition]


class _Watching(Lowering):
    """Lowering that keeps what it finds."""

    terms: dict[syntax.Node, list[Term]]

    def term(self, node: syntax.Node, scope: Scope) -> Any:
        return self._kept(node, super().term(node, scope))

    def _kept(self, node: syntax.Node, what: Any) -> Steps[Term]:
        found: Term = yield what
        self.terms.setdefault(node, []).append(found)
        return found


def watched(text: str, origin: str = "<text>", folders: Sequence[Path] = ()) -> tuple[dict[str, Program], list[Watched]]:
    """The programs of a text, and its definitions. Raises ``LossError`` as loading does.

    A definition that waits for its functions has no meaning of its own, and is left out.
    """
    with lock:
        file = File(text, origin, folders)
        programs, _ = file_programs(file, {})
        definitions = [e.definition for e in file.entries.values()]
        return programs, [_watch(file, d, definitions) for d in definitions]


def _watch(file: File, definition: syntax.Definition, siblings: Sequence[syntax.Definition]) -> Watched:
    signature: Signature = run(file.entries[definition.name].signature())
    lowering = _Watching(definition, file.source, signature, file, {})
    lowering.terms = {}
    compiled = run(lowering.compiled())
    return Watched(definition, file.source, signature, compiled.program, compiled.remarks, lowering.terms, siblings)
