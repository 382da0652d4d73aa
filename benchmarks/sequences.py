"""Losses that sort or recur, on long axes, value and gradient, NumPy and torch side by side; prints times, asserts nothing.

    python benchmarks/sequences.py [--n 100000] [--t 2000] [--repeat 5]

Torch's own ``ctc_loss`` with its backward is in the same run. Times are the median of the repeats after one warm call.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lossdsl

LOSSES = lossdsl.parse("""
ideal_dcg(y: real[n]) = sum[p in n]((2^sort[n](y, order = descending)[p] - 1)/log2(2 + p))

lovasz_hinge(s: real[n], y: binary[n]) = sum[p in n](relu(sort[n](e, order = descending)[p])*stop(step[p]))
    where e        = 1 - (2*y - 1)*s
          t[p]     = y[argsort[n](e, order = descending)[p]]
          inter[p] = sum[n](y) - cumsum[n](t[n])[p]
          union[p] = sum[n](y) + cumsum[n](1 - t[n])[p]
          jac[p]   = 1 - inter[p]/union[p]
          step[p]  = jac[p] - piecewise(jac[p - 1] if p > 0, 0 otherwise)
  wrt s

median_error(f: real[n], y: real[n]; q: unit = 0.5) = (1 - w)*e[lo] + w*e[min(lo + 1, size(n) - 1)]
    where e[p] = sort[n](abs(f - y))[p]
          at   = q*(size(n) - 1)
          lo   = floor(at)
          w    = at - lo

cox(s: real[n], t: positive[n], e: binary[n]) =
    mean[i in n | e[i] == 1](logsumexp[j in n | t[j] >= t[i]](s[j]) - s[i])

spearman(x: real[n], y: real[n]) = sum[n](x*rank[n](y))/size(n)

td_lambda(v: real[t], r: real[t], last: real; gamma: unit = 0.99, lam: unit = 0.95) = mean[t]((v - stop(G))^2)
    where G[t] = r[t] + gamma*piecewise((1 - lam)*v[t + 1] + lam*G[t + 1] if t + 1 < size(t), last otherwise)
  wrt v

ctc(lp: logprob[t, c], y: class(c)[u]) = -logsumexp[w in 0..2*size(u) | w >= 2*size(u) - 1](alpha[size(t) - 1, w])
    where word[w in 0..2*size(u)] = piecewise(y[min(floor(w/2), size(u) - 1)] if mod(w, 2) == 1, 0 otherwise)
          alpha[t, w in 0..2*size(u)] = lp[t, word[w]] + piecewise(start(w) if t == 0, into[t, w] otherwise)
          start(p) = piecewise(0 if p < 2, -inf otherwise)
          into[t, w in 0..2*size(u)] = logaddexp(logaddexp(alpha[t - 1, w], step[t, w]), jump[t, w])
          step[t, w in 0..2*size(u)] = piecewise(alpha[t - 1, w - 1] if w > 0, -inf otherwise)
          jump[t, w in 0..2*size(u)] =
            piecewise(alpha[t - 1, w - 2] if w > 1 and word[w] != 0 and word[w] != word[w - 2], -inf otherwise)
""")


def arrays(n: int, t: int) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(t, 30))
    words = rng.integers(1, 30, size=t // 4)
    return {
        "ideal_dcg": {"y": rng.integers(0, 5, n) * 1.0},
        "lovasz_hinge": {"s": rng.normal(size=n), "y": (rng.random(n) < 0.3) * 1.0},
        "median_error": {"f": rng.normal(size=n), "y": rng.normal(size=n)},
        "cox": {"s": rng.normal(size=n), "t": rng.random(n), "e": (rng.random(n) < 0.5) * 1.0},
        "spearman": {"x": rng.normal(size=n), "y": rng.normal(size=n)},
        "td_lambda": {"v": rng.normal(size=t), "r": rng.normal(size=t), "last": np.array(0.3)},
        "ctc": {"lp": logits - np.log(np.exp(logits).sum(-1, keepdims=True)), "y": words},
    }


def median(run: Callable[[], Any], repeat: int) -> float:
    run()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def torch_ctc(lp: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    import torch

    scores = torch.from_numpy(lp)[:, None].requires_grad_()
    words = torch.from_numpy(y)[None]

    def run() -> Any:
        value = torch.nn.functional.ctc_loss(scores, words, [len(lp)], [len(y)], reduction="sum")
        return value, torch.autograd.grad(value, scores)

    return run


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=100_000)
    options.add_argument("--t", type=int, default=2_000)
    options.add_argument("--repeat", type=int, default=5)
    args = options.parse_args()
    backends = ["numpy", *(["torch"] if importlib.util.find_spec("torch") else [])]
    given = arrays(args.n, args.t)
    print(f"{'ms':<14}" + "".join(f"{b:>10}" for b in backends))
    for name, inputs in given.items():
        row = []
        for backend in backends:
            fn = LOSSES[name].compile(backend)
            if backend == "torch":
                import torch

                inputs = {k: torch.from_numpy(np.asarray(x)) for k, x in inputs.items()}
            row.append(median(lambda fn=fn, inputs=inputs: fn.value_and_grad(**inputs), args.repeat))  # type: ignore[misc]
        print(f"{name:<14}" + "".join(f"{ms:10.1f}" for ms in row))
    if "torch" in backends:
        print(f"{'torch ctc_loss':<14}{'':>10}{median(torch_ctc(**given['ctc']), args.repeat):10.1f}")


if __name__ == "__main__":
    main()
