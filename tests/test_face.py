"""The public face: what a loss says of itself, what it gives, what is not there yet, and what a mistake says."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import LossError, NotYet

HUBER = lossdsl.load("huber")
FOCAL = lossdsl.load("focal")
CLAMP = lossdsl.parse("clamp(f: real; lo: real = 0, hi: real = 1) = min(max(f, lo), hi)\n  require hi > lo\n")["clamp"]
FREE = lossdsl.parse("free(f: real; hi: real in (0, inf]) = min(f^2, hi)\n")["free"]


def test_what_a_loss_declares() -> None:
    assert HUBER.name == "huber" and "quadratic" in HUBER.doc
    assert [(x.name, x.kind.name, x.axes, str(x.domain), x.default) for x in (*HUBER.inputs, *HUBER.params)] == [
        ("f", "real", (), "(-inf, inf)", None), ("y", "real", (), "(-inf, inf)", None), ("delta", "positive", (), "(0, inf)", 1),
    ]  # fmt: skip
    assert [n.data[0] for n in HUBER.claims] == ["4.2.7 (14): L-CONT, DIFF, S-CONV"]
    assert "begin{cases}" in HUBER._repr_latex_()


@pytest.mark.parametrize("name", lossdsl.library())
def test_every_loss_prints_pickles_and_copies_with_all_it_says(name: str) -> None:
    loss = lossdsl.load(name)
    assert loss.latex()
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), lossdsl.parse(str(loss))[name]):
        assert other == loss
        assert (other.doc, other.notes, other.program.wrt, other.program.batch) == (loss.doc, loss.notes, loss.program.wrt, loss.program.batch)


def test_samples() -> None:
    drawn = FOCAL.sample(seed=0, batch=8, sizes={"k": 5, "other": 2})
    assert {name: x.shape for name, x in drawn.items()} == {"s": (8, 5), "y": (8,)}
    assert all((x == FOCAL.sample(seed=0, batch=8, sizes={"k": 5})[name]).all() for name, x in drawn.items())


@pytest.mark.parametrize("value", [2, 2.0, Fraction(2), np.float32(2), np.int64(2), np.array(2.0)])
def test_a_number_of_any_type_fixes_a_hyper_parameter(value: Any) -> None:
    assert HUBER.bind(delta=value) == HUBER.bind(delta=2)
    assert HUBER.compile("numpy", delta=value)(5.0, 0.0) == 8


def test_an_infinite_hyper_parameter() -> None:
    bound = FREE.bind(hi=float("inf"))
    assert not bound.params
    assert bound.compile()(3.0) == 9


NOT_YET: dict[str, Callable[[], Any]] = {
    "properties": lambda: HUBER.properties(wrt="f"),
    "report": lambda: HUBER.report("huber.html"),
    "searched": lambda: lossdsl.search("convex"),
    "c backend": lambda: HUBER.compile("c"),
    "triton backend": lambda: HUBER.source("triton"),
    "partial": lambda: HUBER.compile("numpy").partial(1.0, 2.0),
    "no partial": lambda: HUBER.compile("reference").partial(1.0, 2.0),
}


@pytest.mark.parametrize("what", NOT_YET)
def test_what_is_not_there_yet_says_so(what: str) -> None:
    with pytest.raises(NotYet, match=what):
        NOT_YET[what]()


MISTAKES: list[tuple[str, Callable[[], Any]]] = [
    ("no name", lambda: HUBER.grad(3)),  # type: ignore[arg-type]
    ("twice by 'f'", lambda: HUBER.compile(wrt=["f", "f"])),
    ("by one input, and f, y were named", lambda: HUBER.hess(["f", "y"])),  # type: ignore[arg-type]
    ("by one input, and f, y were named", lambda: HUBER.hvp(["f", "y"])),  # type: ignore[arg-type]
    ("no input or hyper-parameter 'g'", lambda: HUBER.compile(wrt="g")),
    ("focal cannot be differentiated by 'y', a class", lambda: FOCAL.grad("y")),
    ("no input to differentiate by", lambda: HUBER.grad([])),
    ("is '2', which is no number", lambda: HUBER.bind(delta="2")),  # type: ignore[arg-type]
    ("is None, which is no number", lambda: HUBER.bind(delta=None)),  # type: ignore[arg-type]
    ("which is no number", lambda: HUBER.bind(delta=np.ones(3))),  # type: ignore[arg-type]
    ("outside", lambda: HUBER.bind(delta=-2)),
    ("did you mean delta", lambda: HUBER.bind(detla=2)),
    ("requires hi > lo, but hi is 1, lo is 2", lambda: CLAMP.bind(lo=2, hi=1)),
    ("requires hi > 2, but hi is 1", lambda: CLAMP.bind(lo=2).compile()),
    ("no axis 'k'\n.*have no axes", lambda: HUBER.compile(axes={"k": 1})),
    ("position of axis 'k' is '1'", lambda: FOCAL.compile(axes={"k": "1"})),  # type: ignore[dict-item]
    ("it names axes", lambda: FOCAL.compile(axes=["k"])),  # type: ignore[arg-type]
    ("length -1", lambda: FOCAL.sample(batch=-1)),
    ("parsed from text", lambda: lossdsl.parse(None)),  # type: ignore[arg-type]
    ("by its name", lambda: lossdsl.load(None)),  # type: ignore[arg-type]
    ("did you mean huber", lambda: lossdsl.load("hubr")),
    ("an array over", lambda: lossdsl.load("rmse").grad("f").compile()),
    ("no reduction.*each sample's own", lambda: HUBER.compile().value_grad_hess(1.0, 2.0, reduction="mean")),
]


@pytest.mark.parametrize("message, call", MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_says_what_is_wrong(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(LossError, match=message):
        call()
