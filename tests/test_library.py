"""The library's files are well formed, and each loss agrees with the other libraries it names as oracles."""

from __future__ import annotations

import ast
import importlib
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl.frontend import load_text_with_warnings

LIBRARY = Path(__file__).parent.parent / "library"
FILES = sorted(LIBRARY.glob("*/*.loss"))
NAMES = [path.stem for path in FILES]

# What an oracle may call. Its text is data: it is read with ``ast`` and walked, never evaluated as Python.
ORACLES = ("torch.nn.functional", "scipy.special", "scipy.stats", "sklearn.metrics", "optax.losses")
ELEMENTARY = {"log", "exp", "sqrt", "abs", "sign"}
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class Oracle:
    """A call of another library as an annotation states it: ``module.function(inputs, .., option=value)``."""

    def __init__(self, text: str) -> None:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError(f"an oracle is a call: {text}")
        self.call, (self.module, self.function) = call, ast.unparse(call.func).rsplit(".", 1)
        if self.module not in ORACLES or self.function.startswith("_"):
            raise ValueError(f"an oracle may not call {ast.unparse(call.func)}")

    @property
    def library(self) -> str:
        return self.module.split(".")[0]

    def __call__(self, arrays: dict[str, Any], params: dict[str, float]) -> Any:
        """The value on one sample: positional arguments are arrays of that library, options plain numbers and words."""
        function = getattr(importlib.import_module(self.module), self.function)
        xp = {"torch": "torch", "optax": "jax.numpy"}.get(self.library, "numpy")
        names = {**arrays, **params}
        positional = [self.array(self.value(a, names, importlib.import_module(xp))) for a in self.call.args]
        options = {str(k.arg): self.value(k.value, names, None) for k in self.call.keywords}
        return function(*positional, **options)

    def array(self, x: Any) -> Any:
        if self.library == "torch":
            import torch

            return torch.as_tensor(x, dtype=None if isinstance(x, torch.Tensor) else torch.float64)
        return np.atleast_1d(x) if self.library == "sklearn" else x

    def value(self, node: ast.expr, names: dict[str, Any], xp: Any) -> Any:
        match node:
            case ast.Constant(value=int() | float() | str() as x):
                return x
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.BinOp(left=a, op=op, right=b) if type(op) in ARITHMETIC:
                return ARITHMETIC[type(op)](self.value(a, names, xp), self.value(b, names, xp))
            case ast.Call(func=ast.Name(id=name), args=[a], keywords=[]) if name in ELEMENTARY and xp is not None:
                return getattr(xp, name)(self.value(a, names, xp))
        raise ValueError(f"an oracle may not contain {ast.unparse(node)}")


def cases() -> list[Any]:
    """Every oracle of every loss."""
    return [
        pytest.param(path.stem, note.data[0], id=f"{path.stem}-{note.data[0].split('(')[0]}")
        for path in FILES for note in lossdsl.load(path.stem).notes if note.tag == "oracle"
    ]  # fmt: skip


def settings(loss: lossdsl.Loss) -> list[dict[str, float]]:
    """The default hyper-parameters, and others of their domains."""
    other = {p.name: next(x for x in (1.7, 0.3, -0.4) if x in p.domain) for p in loss.params}
    default = {p.name: float(other[p.name] if p.default is None else p.default) for p in loss.params}
    return [default, other] if other else [{}]


def test_there_is_a_library() -> None:
    assert set(lossdsl.library()) == set(NAMES)
    assert len(NAMES) == len(set(NAMES)) >= 40
    for family in {path.parent.name for path in FILES}:
        assert set(lossdsl.library(family)) == {path.stem for path in FILES if path.parent.name == family}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_is_one_documented_loss(path: Path) -> None:
    public = {name: loss for name, loss in lossdsl.read(path).items() if not name.startswith("_")}
    assert list(public) == [path.stem]
    loss = public[path.stem]
    assert loss.doc.strip().endswith(".")
    assert set(loss.program.wrt) <= {i.name for i in loss.inputs} and loss.program.wrt
    assert loss.inputs[0].name in loss.program.wrt, "predictions come first"
    assert any(n.tag == "source" for n in loss.notes)
    assert loss == lossdsl.load(path.stem)
    assert not load_text_with_warnings(path.read_text(encoding="utf-8"))[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_prints_as_text_that_reads_back(name: str) -> None:
    loss = lossdsl.load(name)
    assert lossdsl.parse(str(loss))[name] == loss


def numbers(x: Any) -> Any:
    return x.detach().numpy() if hasattr(x, "detach") else np.asarray(x)


@pytest.mark.parametrize(("name", "text"), cases())
def test_it_agrees_with_its_oracle(name: str, text: str) -> None:
    oracle = Oracle(text)
    library = pytest.importorskip(oracle.library)
    if oracle.library == "optax":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    loss = lossdsl.load(name)
    wrt = loss.program.wrt[0]
    for seed, params in enumerate(settings(loss)):
        compiled = {b: loss.compile(b, wrt=[wrt], **params) for b in ("numpy", "reference")}
        for row in range(3):
            arrays = loss.sample(seed=10*seed + row, sizes=dict.fromkeys(axes(loss), 4 + row))
            if oracle.library == "torch":
                tensors = {k: library.as_tensor(v) for k, v in arrays.items()}
                tensors[wrt].requires_grad_()
                value = oracle(tensors, params)
                (slope,) = library.autograd.grad(value, tensors[wrt])
            else:
                value, slope = oracle(arrays, params), None
            for fn in compiled.values():
                ours, gradient = fn.value_and_grad(*arrays.values())
                np.testing.assert_allclose(float(ours), float(numbers(value).squeeze()), rtol=1e-9, atol=1e-11)
                if slope is not None:
                    np.testing.assert_allclose(np.asarray(gradient, dtype=float), numbers(slope), rtol=1e-7, atol=1e-9)


def axes(loss: lossdsl.Loss) -> set[str]:
    return {axis for i in loss.inputs for axis in i.axes}


@pytest.mark.parametrize("text", ["os.system(f)", "torch.load(f)", "torch.nn.functional._x(f)", "f", "sklearn.metrics.r2_score(f.data)"])
def test_an_oracle_calls_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="an oracle"):
        Oracle(text)({"f": 1.0}, {})
