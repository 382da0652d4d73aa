"""The monoids of the reductions: neutral identity, association, and the value that the name promises."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import pytest
from evaluators import exact

from lossdsl.ir.expr import ref
from lossdsl.ir.read import read
from lossdsl.reductions import REDUCTIONS, Monoid, Row

mp = mpmath.mp
State = tuple[Any, ...]
MERGING = [r for r in REDUCTIONS.values() if r.monoid]


def evaluate(text: str, env: dict[str, Any]) -> Any:
    return exact(read(text, {name: ref(name) for name in env}), env)


def identity(m: Monoid) -> State:
    return tuple(evaluate(text, {}) for text in m.identity)


def lift(m: Monoid, x: Any, i: int, w: Any = 1) -> State:
    return tuple(evaluate(text, {"x": mp.mpf(x), "w": mp.mpf(w), "i": mp.mpf(i)}) for text in m.lift)


def combine(m: Monoid, a: State, b: State) -> State:
    env = {f"{side}_{part}": v for side, state in (("a", a), ("b", b)) for part, v in zip(m.parts, state, strict=True)}
    return tuple(evaluate(text, env) for text in m.combine)


def finish(m: Monoid, state: State) -> float:
    return float(evaluate(m.finish, dict(zip(m.parts, state, strict=True)) | {"ddof": mp.mpf(0)}))


def merged(m: Monoid, values: Sequence[float], weights: Sequence[float] | None = None, split: int = 0) -> float:
    """The values lifted, combined in two groups, finished."""
    sides = [identity(m), identity(m)]
    for i, x in enumerate(values):
        side = int(i >= split)
        sides[side] = combine(m, sides[side], lift(m, x, i, 1 if weights is None else weights[i]))
    return finish(m, combine(m, *sides))


def _mean(v: Sequence[float]) -> float:
    return sum(v) / len(v)


DIRECT: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum, "mean": _mean, "prod": math.prod, "max": max, "min": min, "count": sum, "any": lambda v: float(any(v)), "all": lambda v: float(all(v)),
    "logsumexp": lambda v: math.log(sum(map(math.exp, v))), "argmax": lambda v: list(v).index(max(v)), "argmin": lambda v: list(v).index(min(v)),
    "norm": lambda v: math.hypot(*v), "var": lambda v: _mean([(x - _mean(v)) ** 2 for x in v]),
    "std": lambda v: math.sqrt(_mean([(x - _mean(v)) ** 2 for x in v])),
}  # fmt: skip


def drawn(row: Row, seed: int) -> list[float]:
    """Values with ties, or conditions."""
    rng = random.Random(seed)
    return [float(rng.randint(0, 1)) if row.body == "condition" else rng.randint(-6, 6) / 2 for _ in range(rng.randint(1, 7))]


def by_name(table: list[Row]) -> Any:
    return pytest.mark.parametrize("row", table, ids=lambda r: r.name)


def test_table_is_complete() -> None:
    assert set(REDUCTIONS) == {
        "sum", "mean", "prod", "max", "min", "logsumexp", "count", "any", "all", "argmax", "argmin", "norm", "softmax", "log_softmax",
        "sort", "argsort", "cumsum", "rank", "var", "std",
    }  # fmt: skip
    for row in REDUCTIONS.values():
        assert row.doc
        assert row.body in ("number", "condition")
        assert row.gives in ("number", "condition", "class")
        assert row.weight in (None, "multiplies", "measure", "support")
        assert set(row.options) <= {"default", "weight", "ddof", "order"}
        assert not (row.keeps_axis and "default" in row.options), "what keeps its axis is never empty where it has a value"
        assert (row.outside is None) or row.keeps_axis


@by_name(MERGING)
def test_merging_gives_the_value(row: Row) -> None:
    assert row.monoid is not None
    for seed in range(12):
        values = drawn(row, seed)
        for split in range(len(values) + 1):
            assert merged(row.monoid, values, split=split) == pytest.approx(DIRECT[row.name](values), rel=1e-12, abs=1e-12), values


@by_name(MERGING)
def test_the_identity_is_what_an_empty_one_gives(row: Row) -> None:
    assert row.monoid is not None
    found, stated = finish(row.monoid, identity(row.monoid)), float(evaluate(row.empty, {}))
    assert found == stated or (math.isnan(found) and math.isnan(stated))


@by_name([r for r in MERGING if r.weight])
def test_a_weight_is_a_repetition(row: Row) -> None:
    """A whole weight is that many copies; where only the support counts, any positive weight is one."""
    assert row.monoid is not None
    for seed in range(8):
        values = drawn(row, seed)
        weights = [random.Random(seed + i).randint(1, 3) for i in range(len(values))]
        if row.weight == "support":
            assert merged(row.monoid, values, weights) == merged(row.monoid, values)
            continue
        copies = [x for x, w in zip(values, weights, strict=True) for _ in range(w)]
        assert merged(row.monoid, values, weights) == pytest.approx(merged(row.monoid, copies), rel=1e-12, abs=1e-12)
