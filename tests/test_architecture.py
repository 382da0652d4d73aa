"""Imports point one way, nothing heavy is loaded early, the tables are complete, the files are where they are said to be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from lossdsl.functions import FUNCTIONS
from lossdsl.ir import rows
from lossdsl.ir.expr import postorder, ref
from lossdsl.reductions import REDUCTIONS, Row

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lossdsl"

# Lowest first. A module may import from lower layers and from its own part; parts of one layer do not see each other.
LAYERS = [
    {"errors", "package", "cache"},
    {"kinds", "functions", "reductions"},
    {"ir"},
    {"frontend", "passes", "schedule", "analysis", "symbolic"},
    {"codegen"},
    {"pipeline"},
    {"runtime"},
    {"quality"},
    {"report"},
    {"loss"},
    {"demo"},
    {"cli"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
PEERS = {("reductions", "functions"), ("functions", "kinds"), ("reductions", "kinds"), ("cache", "package")}  # may draw on each other


def modules() -> dict[str, Path]:
    out = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


MODULES = modules()


def imports(name: str, top: bool = False) -> Iterator[str]:
    """The modules of this package that a module imports: anywhere in it, for type checking too, or at its top only."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "lossdsl")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            if node.module and node.module.split(".")[0] == "lossdsl":
                for a in node.names:
                    inner = f"{node.module}.{a.name}"
                    yield inner if inner in MODULES else node.module


def part(module: str) -> str:
    """Which part of the package a module belongs to; the package itself is the face that ``loss`` shows."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "loss"


def test_every_module_has_a_layer() -> None:
    assert {part(m) for m in MODULES} <= set(LEVEL)


def test_imports_exist() -> None:
    assert {m for name in MODULES for m in imports(name)} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    own = part(name)
    for target in imports(name):
        other = part(target)
        allowed = other == own or LEVEL[other] < LEVEL[own] or (own, other) in PEERS
        assert allowed, f"{name} imports {target}, and {own} must not know {other}"


def test_no_import_cycles() -> None:
    """Of what is imported as modules load; how a node prints is looked up when it does."""
    graph = {m: set(imports(m, top=True)) - {m} for m in MODULES if m != "lossdsl"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def loaded(statement: str) -> set[str]:
    """What a new interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_is_light() -> None:
    assert not loaded("import lossdsl") & {"numpy", "scipy", "lark", "sympy", "mpmath", "flint", "torch", "matplotlib", "rich", "typer"}


def test_only_the_torch_backend_needs_torch() -> None:
    everything = [m for m in MODULES if "torch" not in m.rsplit(".", 1)[-1]]
    assert "torch" not in loaded("\n".join(f"import {m}" for m in everything))


@pytest.mark.parametrize("name", MODULES)
def test_no_text_is_run(name: str) -> None:
    """Only the runtime runs text: code printed by this package, and spellings of its own tables."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert part(name) == "runtime" or not called & {"eval", "exec"}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_spelling_or_is_written_by_some_that_have(name: str, backend: str) -> None:
    todo, done = [name], set()
    while todo:
        row = FUNCTIONS[todo.pop()]
        if row.name in done or backend in row.spell:
            continue
        done.add(row.name)
        form = rows.safe(row.name, [ref(a) for a in row.args])
        assert form is not None, f"{row.name} cannot be printed for {backend}"
        used = {e.data for e in postorder([form]) if e.op == "call"}
        assert row.name not in used, f"{row.name} is written by itself"
        todo += used


@pytest.mark.parametrize("row", REDUCTIONS.values(), ids=REDUCTIONS)
def test_every_reduction_states_what_it_must(row: Row) -> None:
    assert row.doc and row.body in {"number", "condition"} and row.gives in {"number", "condition", "class"}
    assert set(row.options) <= {"default", "weight", "ddof", "order"}
    if row.node and not row.keeps_axis:
        assert row.monoid is not None and row.weight is not None
    if row.keeps_axis:
        assert row.monoid is None and row.weight is None
    if row.gives == "class":
        assert row.one_axis, "an index is of one axis"
    if row.monoid is not None:
        parts = len(row.monoid.parts)
        assert parts == len(row.monoid.identity) == len(row.monoid.lift) == len(row.monoid.combine)
    if row.empty == "nan" and not row.keeps_axis:
        assert "default" in row.options, "one may say what an empty one gives"


def test_files_name_no_place_on_one_machine() -> None:
    place = re.compile(r"(?<![\w./-])/(?:home|root|work|tmp|Users)/")
    folders = ["lossdsl", "grammar", "library", "tests", "docs", "examples", "benchmarks"]
    kept = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".loss", ".lark", ".md"}]
    kept += ROOT.glob("*.md")
    assert not [str(p) for p in kept if place.search(p.read_text(encoding="utf-8"))]
