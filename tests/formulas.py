"""Definitions beside their formulas in plain NumPy, and the laws that hold between the two.

Values are compared with the formula, gradients with its differences along a random direction; the texts of the losses and of their
gradients are read back. A gradient that ``stop`` makes no derivative of the value is compared between backends only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest

import lossdsl

Arrays = dict[str, Any]
Sizes = Mapping[str, int]
Make = Callable[[np.random.Generator, Sizes], Arrays]


@dataclass(frozen=True)
class Case:
    """A loss and its formula, a function of those inputs and hyper-parameters that it names.

    ``of`` says where the loss comes from; ``sizes`` gives lengths of axes to try instead of 4, 1 and 3; ``make`` makes inputs of
    those lengths; ``bind`` lists settings of the hyper-parameters; ``stops`` says that the gradient is not that of the formula.
    """

    text: str
    formula: Callable[..., Any]
    of: str = ""
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    make: Make | None = None
    bind: Sequence[Mapping[str, float]] = ({},)
    stops: bool = False

    @cached_property
    def loss(self) -> lossdsl.Loss:
        return list(lossdsl.parse(self.text).values())[-1]

    @property
    def wrt(self) -> tuple[str, ...]:
        return self.loss.program.wrt or (self.loss.inputs[0].name,)

    def inputs(self) -> list[Arrays]:
        """Random inputs: axes of different lengths, then of length 1, then of others."""
        axes = list(dict.fromkeys(a for i in self.loss.inputs for a in i.axes))
        out = []
        for trial in range(3):
            lengths = {axis: self._length(axis, trial if trial < 2 else trial + k) for k, axis in enumerate(axes)}
            arrays = self.make(np.random.default_rng(trial), lengths) if self.make else self.loss.sample(seed=trial, sizes=lengths)
            out.append({name: np.asarray(x) for name, x in arrays.items()})
        return out

    def _length(self, axis: str, k: int) -> int:
        choices = self.sizes.get(axis, (4, 1, 3))
        return choices[k % len(choices)]

    def expected(self, arrays: Arrays, params: Mapping[str, float]) -> float:
        known = {p.name: p.default for p in self.loss.params} | dict(params)
        numbers = {k: int(x) if float(x) == int(x) else float(x) for k, x in known.items() if x is not None}
        named = inspect.signature(self.formula).parameters
        with np.errstate(all="ignore"):
            values = {k: x.copy() if x.ndim else x[()] for k, x in arrays.items()}
            return float(self.formula(**{k: x for k, x in (values | numbers).items() if k in named}))

    def slope(self, arrays: Arrays, params: Mapping[str, float], name: str, direction: np.ndarray) -> float:
        """The derivative of the formula along a direction, by differences."""
        h = 1e-6
        ahead, behind = (self.expected(arrays | {name: arrays[name] + step*direction}, params) for step in (h, -h))
        return (ahead - behind)/(2*h)

    def check_numpy(self) -> None:
        """The value is the formula's, the gradient its difference along a random direction."""
        rng = np.random.default_rng(0)
        for params, arrays in self._trials():
            fn = self.loss.compile("numpy", **params)
            value, gradients = fn.value_and_grad(**arrays)
            np.testing.assert_allclose(value, self.expected(arrays, params), rtol=1e-9, atol=1e-12)
            for name, g in each(self.wrt, gradients).items():
                direction = rng.standard_normal(arrays[name].shape)
                if not self.stops and np.isfinite(slope := self.slope(arrays, params, name, direction)):
                    np.testing.assert_allclose((g*direction).sum(), slope, rtol=1e-4, atol=1e-6*max(1, abs(value)))

    def check_torch(self) -> None:
        """Torch gives what NumPy gives."""
        torch = pytest.importorskip("torch")
        params = self.bind[0]
        compiled, other = (self.loss.compile(backend, **params) for backend in ("numpy", "torch"))
        for arrays in self.inputs()[1:]:
            value, gradients = compiled.value_and_grad(**arrays)
            tensors = {name: torch.as_tensor(x) for name, x in arrays.items()}
            torch_value, torch_gradients = other.value_and_grad(**tensors)
            np.testing.assert_allclose(float(torch_value), value, rtol=1e-9, atol=1e-12)
            ours, theirs = each(self.wrt, gradients), each(self.wrt, torch_gradients)
            for name, g in ours.items():
                np.testing.assert_allclose(theirs[name], g, rtol=1e-7, atol=1e-10)

    def check_text(self) -> None:
        """The texts of the loss and of its gradients read back."""
        for loss in (self.loss, *(self.loss.grad(name) for name in self.wrt)):
            assert lossdsl.parse(str(loss))[loss.name] == loss

    def _trials(self) -> Iterator[tuple[Mapping[str, float], Arrays]]:
        return ((params, arrays) for params in self.bind for arrays in self.inputs())


def each(wrt: Sequence[str], gradients: Any) -> dict[str, np.ndarray]:
    return dict(zip(wrt, map(np.asarray, gradients if len(wrt) > 1 else (gradients,)), strict=True))


def collector(cases: list[Case]) -> Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """A decorator that puts a formula beside its text, into ``cases``; its options are those of ``Case``."""

    def loss(text: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def beside(formula: Callable[..., Any]) -> Callable[..., Any]:
            cases.append(Case(text, formula, **options))
            return formula

        return beside

    return loss


def named(cases: Sequence[Case]) -> list[Any]:
    return [pytest.param(case, id=case.formula.__name__) for case in cases]
