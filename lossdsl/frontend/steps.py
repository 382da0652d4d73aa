"""Recursion on an explicit stack: a step is a generator that yields the steps it needs and is sent their results.

So a chain of thousands of names, or an expression nested as deep, needs no more of Python's own stack than a flat one.
"""

from __future__ import annotations

from collections.abc import Generator
from types import GeneratorType
from typing import Any, TypeVar

from lossdsl.errors import LossError

T = TypeVar("T")
Steps = Generator[Any, Any, T]


def run(step: Steps[T]) -> T:
    """The result of a step. What is yielded but is no generator counts as a result that is there already."""
    stack: list[Steps[Any]] = [step]
    result: Any = None
    error: Exception | None = None
    while True:
        try:
            wanted = stack[-1].send(result) if error is None else stack[-1].throw(error)
        except StopIteration as done:
            stack.pop()
            result, error = done.value, None
            if not stack:
                return result
        except LossError as raised:
            stack.pop()
            error = raised.with_traceback(None)
            if not stack:
                raise error from None
        except BaseException:
            while stack:
                stack.pop().close()
            raise
        else:
            error = None
            if isinstance(wanted, GeneratorType):
                stack.append(wanted)
                result = None
            else:
                result = wanted
