"""Random programs: what each means, its gradient, its second derivative and its text, beside the reference and the writer's own floats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from programs import FUNCTIONS, LEFT_OUT, Case, cases, tally

import lossdsl
from lossdsl import pipeline
from lossdsl.functions import FUNCTIONS as ROWS
from lossdsl.ir import text
from lossdsl.ir.expr import TRUE, Expr, postorder
from lossdsl.ir.program import Program
from lossdsl.loss import Loss
from lossdsl.passes.gradient import tangent
from lossdsl.runtime import reference

ULPS = 8
EPSILON = 2.0**-52


@dataclass
class Seen:
    """What the programs of a run were made of."""

    programs: int = 0
    discarded: int = 0
    within_scale: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    guards: Counter[int] = field(default_factory=Counter)
    constructs: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, program: Program) -> None:
        self.programs += 1
        self.nodes.update({kind_of(e) for e in postorder(program.roots)})
        self.guards[guard_depth(program.value)] += 1
        self.constructs.update(set(case.used))

    def __str__(self) -> str:
        depths = ", ".join(f"{k} deep {v}" for k, v in sorted(self.guards.items()))
        return (
            f"{self.programs} programs, {self.discarded} discarded, {self.within_scale} values within {ULPS} ulp of the scale itself\n"
            f"guards and branches: {depths}\nnodes: {tally(self.nodes)}\nwritten: {tally(self.constructs)}"
        )


def kind_of(e: Expr) -> str:
    return f"{e.op} {e.data[0]}" if e.op == "red" else f"call {e.data}" if e.op == "call" else e.op


def guard_depth(e: Expr) -> int:
    """How deep guarded reductions and piecewise nest."""
    depth: dict[Expr, int] = {}
    for x in postorder((e,)):
        inside = max((depth[a] for a in x.args), default=0)
        depth[x] = inside + ((x.op == "red" and x.args[1] is not TRUE) or x.op == "pw")
    return depth[e]


# -- one program ----------------------------------------------------------------------------------------------------------------------------


def flat(x: Any) -> list[Any]:
    return list(np.asarray(x, dtype=object).reshape(-1))


def shown(x: Any) -> np.ndarray:
    """Numbers of many digits as floats."""
    return np.asarray(x, dtype=float)


def finite(x: Any) -> bool:
    return all(math.isfinite(float(v)) for v in flat(x))


def off(got: Any, want: Any, unit: Any) -> float:
    """The largest error of an array in ulps at the given unit."""
    errors = [0.0]
    units = flat(unit) if np.ndim(unit) else [unit] * len(flat(want))
    for g, w, u in zip(flat(got), flat(want), units, strict=True):
        error = abs(w - float(g))
        errors.append(0.0 if error == 0 else float(error / u) / EPSILON if u else math.inf)
    return max(errors) if not any(e != e for e in errors) else math.nan


def direction(case: Case, name: str) -> np.ndarray:
    return np.random.default_rng(case.seed + 1).standard_normal(case.arrays[name].shape)


def check(case: Case, seen: Seen) -> bool:
    """All comparisons of one program; False if it is undefined or infinite at this point."""
    loss = lossdsl.parse(case.text)["loss"]
    program = loss.program
    seen.add(case, program)
    truth = reference.evaluate(program, case.arrays)["loss"]
    if truth.margin >= 64 * EPSILON:
        meaning(case, truth)
    round_trip(program)
    if not finite(truth.value) or truth.margin < 64 * EPSILON:  # undefined here, or on the edge of a condition
        seen.discarded += 1
        return False
    gradient = pipeline.derived(program, list(case.wrt))  # as code is printed from it; what is shown takes a simplex at its word
    slopes = reference.evaluate(gradient, case.arrays)
    if not all(finite(r.value) for r in slopes.values()):
        moved = reference.directional(program, case.arrays, {}, {name: direction(case, name) for name in case.wrt})
        assert not finite(moved["loss"]), ("gradient", {k: shown(r.value) for k, r in slopes.items()}, shown(moved["loss"]))
        seen.discarded += 1
        return False
    seen.within_scale += value(case, loss, truth, slopes)
    first(case, program, gradient, slopes)
    second(case, loss, largest(next(iter(slopes.values())).noise))
    return True


def meaning(case: Case, truth: reference.Result) -> None:
    """The writer's floats, which have seen no front end."""
    want = case.mean()
    got = float(truth.value)
    assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-10 + 1e-13 * float(truth.noise)) or (got != got and want != want), ("meaning", got, want)


def value(case: Case, loss: Loss, truth: reference.Result, slopes: dict[str, reference.Result]) -> bool:
    """NumPy's value and gradient are as good as rounding each intermediate once allows; whether the value is within the measure."""
    fn = loss.compile("numpy", wrt=list(case.wrt))
    inputs = [case.arrays[i.name] for i in loss.inputs]
    v, g = fn.value_and_grad(*inputs)
    assert off(v, truth.value, truth.noise) <= 4 * ULPS, ("value", v, shown(truth.value), off(v, truth.value, truth.noise))
    g = g if isinstance(g, tuple) else (g,)
    for name, got, want in zip(case.wrt, g, slopes.values(), strict=True):
        unit = np.maximum(np.asarray(want.noise, dtype=object), largest(want.noise))
        assert off(got, want.value, unit) <= 4 * ULPS, ("gradient in numpy", name, got, shown(want.value), off(got, want.value, unit))
    return off(v, truth.value, truth.scale) <= ULPS


def largest(unit: Any) -> Any:
    return max(flat(unit))


def first(case: Case, program: Program, gradient: Program, slopes: dict[str, reference.Result]) -> None:
    """The gradient program against differences of the reference along one random direction, all inputs at once and each alone."""
    for name, result in zip(case.wrt, slopes.values(), strict=True):
        along = direction(case, name)
        want = reference.directional(program, case.arrays, {}, {name: along})["loss"]
        got = sum((g * float(d) for g, d in zip(flat(result.value), flat(along), strict=True)), 0)
        size = sum((abs(g * float(d)) for g, d in zip(flat(result.value), flat(along), strict=True)), 0)
        assert abs(got - want) <= 1e-12 * max(size, abs(want)) + 1e-15 * largest(result.noise) + 1e-18, ("gradient", name, shown(got), shown(want))


def second(case: Case, loss: Loss, noise: Any) -> None:
    """The Hessian times a vector against differences of the gradient, and NumPy's against the reference's."""
    name = case.wrt[0]
    along = direction(case, name)
    product = loss.hvp(name).program
    given = {**case.arrays, f"v_{name}": along}
    found = next(iter(reference.evaluate(product, given).values()))
    own = pipeline.derived(loss.program, [name])
    (want,) = reference.directional(own, case.arrays, {}, {name: along}).values()
    if not finite(found.value) and not finite(want):
        return
    scale = max([abs(x) for x in flat(want)] + [1e-3 * largest(found.noise)])
    for g, w in zip(flat(found.value), flat(want), strict=True):
        assert abs(g - w) <= 1e-12 * scale + 1e-18, ("Hessian times vector", name, shown(g), shown(w))
    slope = Loss(tangent(loss.program, {name: f"v_{name}"}))
    fn = slope.compile("numpy", wrt=[name])
    _, h = fn.value_and_grad(*[given[i.name] for i in slope.inputs])
    unit = max(largest(found.noise), noise, *[abs(x) for x in flat(found.value)])
    assert off(h, found.value, unit) <= 8 * ULPS, ("Hessian in numpy", h, shown(found.value))


def round_trip(program: Program) -> None:
    """The printed text parses back to the same interned expressions."""
    printed = text.program(program)
    again = lossdsl.parse(printed)[program.name].program
    assert again.value is program.value, ("round trip", printed)
    assert [(i.name, i.axes) for i in again.inputs] == [(i.name, i.axes) for i in program.inputs]


# -- runs -----------------------------------------------------------------------------------------------------------------------------------


def run(count: int, number: int, wide: bool = False, **budget: int) -> Seen:
    """Checks that many programs, others for each number; wide ones sort, multiply, order sets and recur too."""
    seen = Seen()

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))
    @given(cases(**budget, wide=wide))
    def each(case: Case) -> None:
        check(case, seen)

    each()
    return seen


def test_every_function_is_written() -> None:
    assert set(FUNCTIONS) | LEFT_OUT == set(ROWS)


@pytest.mark.parametrize("wide", (False, True))
def test_random_programs(wide: bool, record_property: Callable[[str, object], None]) -> None:
    seen = run(60, 0, wide, smallest=6, largest=25)
    record_property("counts", str(seen))
    assert seen.discarded <= seen.programs / 10


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 5))
def test_many_random_programs(number: int, record_property: Callable[[str, object], None]) -> None:
    """Two thousand in all, in four parts."""
    seen = run(500, number)
    record_property("counts", str(seen))
    assert seen.programs >= 500 and seen.discarded <= seen.programs / 10
    assert all(seen.guards[k] >= 15 for k in range(4)), "guards up to three deep are tried often"
    kinds = {"red sum", "red max", "red min", "red logsumexp", "red norm", "red any", "red argmax", "pw", "cmp", "and", "or", "not", "pow", "call stop"}
    assert all(seen.nodes[k] >= 5 for k in kinds), seen.nodes


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5, 11))
def test_many_wide_programs(number: int, record_property: Callable[[str, object], None]) -> None:
    """Three thousand in all, in six parts."""
    seen = run(500, number, wide=True)
    record_property("counts", str(seen))
    assert seen.programs >= 500 and seen.discarded <= seen.programs / 10
    written = {"r:sort", "r:argsort", "r:cumsum", "r:rank", "r:prod", "r:var", "r:std", "ordered", "recursion"}
    assert all(seen.constructs[k] >= 10 for k in written), seen.constructs
