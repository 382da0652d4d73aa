"""Value and gradient of two elementwise losses on 4M float32 numbers, side by side in one run; prints ratios, asserts nothing.

    python benchmarks/elementwise.py [--n 4000000] [--repeat 9]

Every contender gives the mean loss and its gradient by the prediction. numexpr, torch and JAX are measured where they are
installed. Times are the median of the repeats; machines differ, so only the ratios mean something.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import lossdsl

Run = Callable[[], Any]


def ours(name: str, f: Any, y: Any) -> Run:
    fn = lossdsl.load(name).compile("numpy")
    return lambda: fn.value_and_grad(f, y)


def numpy_huber(f: Any, y: Any) -> Run:
    def run() -> Any:
        r = f - y
        a = np.abs(r)
        inside = a <= 1
        value = np.where(inside, np.float32(0.5) * r * r, a - np.float32(0.5)).mean()
        return value, np.where(inside, r, np.sign(r)) / np.float32(r.size)

    return run


def numpy_bce(f: Any, y: Any) -> Run:
    def run() -> Any:
        e = np.exp(-np.abs(f))
        value = (np.maximum(f, 0) - f * y + np.log1p(e)).mean()
        return value, (np.where(f >= 0, 1 / (1 + e), e / (1 + e)) - y) / np.float32(f.size)

    return run


def numexpr_huber(f: Any, y: Any) -> Run:
    import numexpr as ne

    def run() -> Any:
        names = {"f": f, "y": y, "n": np.float32(f.size)}
        value = ne.evaluate("sum(where(abs(f - y) <= 1, 0.5*(f - y)*(f - y), abs(f - y) - 0.5))", names) / f.size
        return value, ne.evaluate("where(abs(f - y) <= 1, f - y, where(f > y, 1, -1))/n", names)

    return run


def numexpr_bce(f: Any, y: Any) -> Run:
    import numexpr as ne

    def run() -> Any:
        names = {"f": f, "y": y, "n": np.float32(f.size)}
        value = ne.evaluate("sum(where(f > 0, f, 0) - f*y + log1p(exp(-abs(f))))", names) / f.size
        return value, ne.evaluate("(1/(1 + exp(-f)) - y)/n", names)

    return run


def torch_eager(name: str, f: Any, y: Any) -> Run:
    import torch
    from torch.nn import functional

    loss = {"huber": functional.huber_loss, "bce": functional.binary_cross_entropy_with_logits}[name]
    p, t = torch.from_numpy(f).requires_grad_(), torch.from_numpy(y)

    def run() -> Any:
        value = loss(p, t)
        return value, torch.autograd.grad(value, p)

    return run


def jax_jit(name: str, f: Any, y: Any) -> Run:
    import jax
    import jax.numpy as jnp

    def huber(p: Any, t: Any) -> Any:
        a = jnp.abs(p - t)
        return jnp.where(a <= 1, 0.5 * a * a, a - 0.5).mean()

    def bce(p: Any, t: Any) -> Any:
        return (jnp.maximum(p, 0) - p * t + jnp.log1p(jnp.exp(-jnp.abs(p)))).mean()

    both = jax.jit(jax.value_and_grad({"huber": huber, "bce": bce}[name]))
    p, t = jnp.asarray(f), jnp.asarray(y)
    return lambda: jax.block_until_ready(both(p, t))


def contenders(case: str, f: Any, y: Any) -> Iterator[tuple[str, Run]]:
    yield "lossdsl numpy", ours({"huber": "huber", "bce": "binary_cross_entropy_with_logits"}[case], f, y)
    yield "NumPy by hand", {"huber": numpy_huber, "bce": numpy_bce}[case](f, y)
    if importlib.util.find_spec("numexpr"):
        yield "numexpr", {"huber": numexpr_huber, "bce": numexpr_bce}[case](f, y)
    if importlib.util.find_spec("torch"):
        yield "torch eager", torch_eager(case, f, y)
    if importlib.util.find_spec("jax"):
        yield "JAX jit", jax_jit(case, f, y)


def measure(runs: dict[str, Run], repeat: int) -> dict[str, float]:
    """Median milliseconds; the contenders take turns, so that a slow moment of the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeat):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=4_000_000)
    options.add_argument("--repeat", type=int, default=9)
    args = options.parse_args()
    rng = np.random.default_rng(0)
    f = rng.normal(0, 2, args.n).astype(np.float32)
    y = rng.normal(0, 2, args.n).astype(np.float32)
    print(f"{platform.processor() or platform.machine()}, {args.n} float32, value and gradient, median of {args.repeat}")
    for case, target in (("huber", y), ("bce", (y > 0).astype(np.float32))):
        times = measure(dict(contenders(case, f, target)), args.repeat)
        base = times["lossdsl numpy"]
        print(f"\n{case:<16}{'ms':>8}{'ratio to lossdsl':>20}")
        for name, ms in times.items():
            print(f"{name:<16}{ms:8.1f}{ms / base:20.2f}")


if __name__ == "__main__":
    main()
