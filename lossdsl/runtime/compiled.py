"""What the callables of all backends share: what they are compiled from, how they pickle, and what they cannot do yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from lossdsl.errors import LossError, NotYet
from lossdsl.ir.program import Program

Recipe = Callable[[], tuple[Any, ...]]


class CompiledLoss:
    """A loss compiled for a backend. ``recipe`` says how it is rebuilt when it is unpickled: by a function of arguments."""

    backend: str

    def __init__(self, program: Program, wrt: Sequence[str], recipe: Recipe | None) -> None:
        self.program, self.wrt, self._recipe = program, tuple(wrt), recipe

    @property
    def name(self) -> str:
        return self.program.name

    def __reduce__(self) -> Any:
        if self._recipe is None:
            raise TypeError(f"{self.name} was compiled from a bare program, which does not pickle; compile it from a loss")
        return self._recipe()

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<{self.name} compiled for {self.backend}, wrt {', '.join(self.wrt) or 'nothing'}>"

    def partial(self, *inputs: Any, **named: Any) -> Any:
        """The mergeable state of a part of the samples."""
        hint = 'reduction="sum" over parts adds up, where the loss is a mean of losses of single samples'
        raise NotYet(f"{self.name} has no partial results yet", hint=hint)

    def differentiable(self) -> None:
        """Refuse a derivative where there is nothing to differentiate by."""
        if not self.wrt:
            raise LossError(f"{self.name} has no input to differentiate by")
