"""From the text of a loss to its first value and gradient in a new process: without a cache, with an empty one, with a full one.

    python benchmarks/startup.py [--repeat 5] [--backend numpy] [huber nt_xent ..]

Each turn is a process of its own, after another that has written the package's bytecode. ``imports`` is the time to import the
backend and all of lossdsl that is needed at last, without NumPy or torch; ``load`` reads the definition, ``first`` compiles it and
gives the first value and gradient. An empty cache has the tables of the parser. Prints medians in milliseconds, asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TURN = """
import json, sys, time
name, backend = sys.argv[1:]
import numpy
if backend == "torch":
    import torch
start = time.perf_counter()
import lossdsl.loss, lossdsl.runtime.backends
lossdsl.runtime.backends.torch_backend() if backend == "torch" else __import__("lossdsl.runtime.on_numpy")
imported = time.perf_counter()
loss = lossdsl.load(name)
loaded = time.perf_counter()
inputs = loss.sample(batch=() if loss.program.batch else 8)
if backend == "torch":
    inputs = {k: torch.as_tensor(x) for k, x in inputs.items()}
sampled = time.perf_counter()
loss.compile(backend).value_and_grad(**inputs)
done = time.perf_counter()
print(json.dumps([imported - start, loaded - imported, done - sampled]))
"""


def turn(name: str, backend: str, cache: str) -> list[float]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"LOSSDSL_CACHE": cache}
    done = subprocess.run([sys.executable, "-c", TURN, name, backend], env=environment, capture_output=True, text=True, check=True)
    return [1e3 * t for t in json.loads(done.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["huber", "focal", "nt_xent"])
    parser.add_argument("--backend", default="numpy", choices=["numpy", "torch"])
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    print(f"{'':24}{'cache':8}{'imports':>10}{'load':>10}{'first':>10}{'load + first':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.names:
            turn(name, given.backend, folder)
            for cache in ("none", "empty", "full"):
                turns = []
                for _ in range(given.repeat):
                    if cache == "empty":
                        for kept in (*Path(folder).glob("definition-*"), *Path(folder).glob("printed-*")):
                            kept.unlink()
                    turns.append(turn(name, given.backend, "off" if cache == "none" else folder))
                imports, load, first = (statistics.median(t) for t in zip(*turns, strict=True))
                print(f"{name:24}{cache:8}{imports:10.1f}{load:10.1f}{first:10.1f}{load + first:14.1f}", flush=True)


if __name__ == "__main__":
    main()
