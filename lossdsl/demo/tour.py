"""Fit a line to data with gross outliers under squared error, Huber's loss and a loss written for the occasion.

The data are the international telephone calls made from Belgium, 1950 to 1973, in millions, from the Belgian Statistical Survey as
printed by Rousseeuw and Leroy, Robust Regression and Outlier Detection (Wiley 1987), table 2 of chapter 2, there in tens of millions.
From 1964 to 1969 another quantity was recorded by mistake, the total duration of the calls in minutes; 1963 and 1970 are mixed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import lossdsl

if TYPE_CHECKING:
    from rich.console import Console

Array = NDArray[np.float64]
FIRST_YEAR = 1950
MISRECORDED = range(1964, 1970)  # minutes, not calls


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted line: millions of calls in the first year, and how many more in each later one."""

    label: str
    level: float
    slope: float
    iterations: int

    @property
    def coefficients(self) -> tuple[float, float]:
        return self.level, self.slope

    def __call__(self, year: Array) -> Array:
        return self.level + self.slope*(year - FIRST_YEAR)


def data() -> tuple[Array, Array]:
    """Years, and calls in millions."""
    with (files("lossdsl.demo") / "belgian_phones.csv").open(encoding="utf-8") as file:
        rows = [(float(row["year"]), float(row["calls"])) for row in csv.DictReader(file)]
    table = np.array(rows)
    return table[:, 0], table[:, 1]


def robust_loss() -> lossdsl.Loss:
    """The loss of the demo's own file."""
    text = (files("lossdsl.demo") / "robust.loss").read_text(encoding="utf-8")
    (loss,) = lossdsl.parse(text, "robust.loss").values()
    return loss


def fit(label: str, loss: lossdsl.Loss, start: tuple[float, float] = (0.0, 0.0), **params: float) -> Fit:
    """The line with the least mean loss near ``start``, found by L-BFGS from the compiled value and gradient."""
    year, calls = data()
    x = year - FIRST_YEAR
    compiled = loss.compile("numpy", wrt=["f"], axes=None, **params)

    def objective(b: Array) -> tuple[float, Array]:
        value, by_prediction = compiled.value_and_grad(b[0] + b[1]*x, calls)
        return float(value), np.array([by_prediction.sum(), by_prediction @ x])

    found: Any = minimize(objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000})
    return Fit(label, float(found.x[0]), float(found.x[1]), int(found.nit))


def fits() -> list[Fit]:
    """The three lines. The bounded loss is not convex; it starts from the Huber fit, as is usual."""
    squared = fit("mse", lossdsl.load("mse"))
    huber = fit("huber (delta = 2)", lossdsl.load("huber"), squared.coefficients, delta=2.0)
    return [squared, huber, fit("welsch (c = 5)", robust_loss(), huber.coefficients, c=5.0)]


def clean_fit() -> Fit:
    """Least squares on the years that are known to be calls, for comparison."""
    year, calls = data()
    kept = ~np.isin(year, [MISRECORDED.start - 1, *MISRECORDED, MISRECORDED.stop])
    slope, level = np.polyfit(year[kept] - FIRST_YEAR, calls[kept], 1)
    return Fit("mse without 1963-1970", float(level), float(slope), 0)


def plot(lines: list[Fit], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    year, calls = data()
    wrong = np.isin(year, list(MISRECORDED))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(year[~wrong], calls[~wrong], "o", color="black", label="calls")
    axes.plot(year[wrong], calls[wrong], "x", color="black", label="minutes recorded by mistake")
    for line, style in zip(lines, (":", "--", "-"), strict=True):
        axes.plot(year, line(year), style, label=f"{line.label}: {line.slope:.2f} million a year")
    axes.set(xlabel="year", ylabel="millions", title="International telephone calls from Belgium")
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=150)


def run(console: Console, path: Path) -> None:
    """Print the tour and write the plot."""
    from rich.table import Table

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    loss = robust_loss()
    equation = lossdsl.Loss(replace(loss.program, doc="", notes=(), wrt=()))
    say(f"A loss is an equation, here one of lossdsl/demo/robust.loss. {loss.doc}\n")
    say(f"    {_indented(equation)}\n")
    say("Its gradient is one too, derived and simplified:\n")
    say(f"    {_indented(equation.grad('f'))}\n")
    say("Compiled, value and gradient drive SciPy's L-BFGS. Millions of international telephone calls from Belgium, 1950 to 1973;")
    say("for six years the minutes were recorded by mistake (Rousseeuw and Leroy 1987):\n")
    lines = fits()
    table = Table("loss")
    for heading in (f"calls in {FIRST_YEAR}", "more each year", "iterations"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(line.label, f"{line.level:.2f}", f"{line.slope:.2f}", str(line.iterations))
    clean = clean_fit()
    table.add_section()
    table.add_row(clean.label, f"{clean.level:.2f}", f"{clean.slope:.2f}", "")
    console.print(table)
    plot(lines, path)
    say(f"The plot is in {path.resolve()}")


def _indented(loss: lossdsl.Loss) -> str:
    return str(loss).replace("\n", "\n    ")
