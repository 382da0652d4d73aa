"""lossdsl: write the equation; get the loss, its gradient as a formula, and stable code for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossdsl.errors import LossError, NotYet
    from lossdsl.loss import Loss, from_sympy, library, load, parse, read, search

__version__ = "0.1.0"
__all__ = ["Loss", "LossError", "NotYet", "__version__", "from_sympy", "library", "load", "parse", "read", "search"]

_HOME = dict.fromkeys(("Loss", "from_sympy", "library", "load", "parse", "read", "search"), "loss")
_HOME |= dict.fromkeys(("LossError", "NotYet"), "errors")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lossdsl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lossdsl.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
