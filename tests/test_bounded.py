"""A cosine never leaves the domain of the function that it is an argument of, however it is written."""

from __future__ import annotations

import numpy as np
import pytest

import lossdsl

# Each is 0 for parallel vectors; where the sines and angles are small, rounding decides which side of 0 they come from.
ANGLES = [
    "acos(cosine(a, b))",
    "acos(dot(a, b)/(norm(b)*norm(a)))",
    "acos(dot(normalize(a), normalize(b)))",
    "sqrt(1 - cosine(a, b)^2)",
    "pi/2 - asin(cosine(a, b))",
    "sqrt((1 - cosine(a, b))*(1 + cosine(a, b)))",
]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("text", ANGLES)
def test_parallel_vectors(text: str, backend: str) -> None:
    torch = pytest.importorskip("torch") if backend == "torch" else None
    fn = lossdsl.parse(f"angle(a: real[d], b: real[d]) = {text}")["angle"].compile(backend)
    a = np.random.default_rng(0).standard_normal((500, 3))
    b = a*np.linspace(0.1, 10, 500)[:, None]
    values = fn(*(torch.as_tensor(x) for x in (a, b)), reduction="none") if torch else fn(a, b, reduction="none")
    assert np.abs(np.asarray(values)).max() < 1e-6


def test_the_nearest_of_several() -> None:
    nearest = lossdsl.parse("nearest(a: real[d], w: real[k, d]) = acos(max[k](cosine(a, w)))")["nearest"].compile("numpy")
    a = np.random.default_rng(0).standard_normal((500, 3))
    assert np.abs(nearest(a, np.stack([a, 3*a, -a], axis=1), reduction="none")).max() < 1e-6


def test_only_arguments_of_bounded_functions_are_clipped() -> None:
    clipped, plain = (lossdsl.parse(f"f(a: real[d], b: real[d]) = {t}")["f"].source("numpy") for t in ("acos(cosine(a, b))", "exp(cosine(a, b))"))
    assert "clip" in clipped
    assert "clip" not in plain
