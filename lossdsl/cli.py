"""The command line: list, show, differentiate, print, check and format losses, and a tour."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Any

import typer

import lossdsl
from lossdsl.errors import LossError

app = typer.Typer(
    help="Losses as equations: gradients in closed form and stable code.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip

What = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A loss of the library, or a .loss file.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake in a loss is printed as it stands and the exit status is 1."""
    try:
        app(None if arguments is None else list(arguments), prog_name="lossdsl")
    except LossError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lossdsl {lossdsl.__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def _options(version: Version = False) -> None:
    pass


def _losses(what: str) -> list[lossdsl.Loss]:
    """The losses of a file, or one of the library by name."""
    if what.endswith(".loss") or "/" in what or Path(what).is_file():
        return list(lossdsl.read(what).values())
    return [lossdsl.load(what)]


def _print(texts: Sequence[str]) -> None:
    print("\n\n".join(texts))


@app.command("list")
def list_(family: Annotated[str | None, typer.Option(help="Only this family: a folder of the library.")] = None) -> None:
    """List the library with a line on each loss."""
    names = lossdsl.library(family)
    width = max(map(len, names))
    print("\n".join(f"{name:{width}}  {_first_sentence(lossdsl.load(name).doc)}" for name in names))


def _first_sentence(doc: str) -> str:
    return doc.strip().split(". ")[0].removesuffix(".")


@app.command()
def show(
    what: What,
    after: Annotated[str | None, typer.Option(metavar="STEP", help="Show the program after this step of the compiler.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
) -> None:
    """Print a loss: its equation and what it says of itself."""
    losses = [loss if after is None else loss.after(after) for loss in _losses(what)]
    _print([loss.latex() if latex else str(loss) for loss in losses])


@app.command()
def grad(
    what: What,
    wrt: Annotated[list[str] | None, typer.Option(help="An input or hyper-parameter; may be repeated.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
) -> None:
    """Print the gradient of a loss in closed form."""
    gradients = [loss.grad(wrt or None) for loss in _losses(what)]
    _print([gradient.latex() if latex else str(gradient) for gradient in gradients])


@app.command()
def source(what: What, backend: Annotated[str, typer.Option(help="numpy or torch.")] = "numpy") -> None:
    """Print a standalone module with the value and the gradient of a loss."""
    _print([loss.source(backend) for loss in _losses(what)])


Places = Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER|-...", help="The .loss files; - is the standard input.")]
Names = Annotated[list[str] | None, typer.Option(metavar="NAME", help="A warning; may be repeated, and several stand with commas.")]


def _paths(places: Sequence[Path]) -> list[Path]:
    """Files, and the .loss files of folders."""
    return [p for place in places for p in (sorted(place.rglob("*.loss")) if place.is_dir() else [place])]


def _named(names: list[str] | None) -> list[str]:
    return [n.strip() for name in names or () for n in name.split(",") if n.strip()]


@app.command()
def check(
    places: Annotated[list[Path] | None, typer.Argument(metavar="FILE|FOLDER...", help="The .loss files to check.")] = None,
    ignore: Names = None,
    select: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Give this warning only; may be repeated.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A warning is an error, and a loss has a docstring and a source.")] = False,
    list_warnings: Annotated[bool, typer.Option("--list-warnings", help="Print the warnings, with reasons and fixes.")] = False,
) -> None:
    """Print the errors and warnings of .loss files; the exit status is 1 if there is an error.

    A comment in or above a definition turns warnings off in it: # lossdsl: ignore NAME, NAME: why
    """
    from lossdsl.frontend.files import read as read_text
    from lossdsl.quality.lint import LINTS, check_name, lint

    if list_warnings:
        print("\n".join(f"{x.name}{' (--strict)' * x.strict}\n    {x.reason}\n    fix: {x.fix}" for x in LINTS.values()))
        return
    if not places:
        raise typer.BadParameter("name files or folders to check")
    chosen, left = _named(select), _named(ignore)
    for name in (*chosen, *left):
        check_name(name)
    failed = False
    for path in _paths(places):
        try:
            losses, remarks = lint(read_text(path), str(path), (path.parent,), select=chosen, ignore=left, strict=strict)
        except LossError as error:
            failed = True
            print(error)
        else:
            found = f", {len(remarks)} warning{'s' * (len(remarks) != 1)}" if remarks else ""
            print(*remarks, f"{path}: {', '.join(losses)}: ok{found}", sep="\n")
            failed = failed or (strict and bool(remarks))
    if failed:
        raise typer.Exit(1)


@app.command()
def fmt(
    places: Places,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; the exit status is 1 if a file would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")] = False,
) -> None:
    """Lay .loss files out in the one style; what they mean, their comments and docstrings stay."""
    paths = _paths(places)
    changed, failed = 0, False
    for path in paths:
        try:
            changed += _format(path, check=check, diff=diff)
        except LossError as error:
            failed = True
            print(error, file=sys.stderr)
    if not diff and Path("-") not in paths:
        print(f"{len(paths)} file{'s' * (len(paths) != 1)}, {changed} {'would change' if check else 'changed'}")
    if failed or check and changed:
        raise typer.Exit(1)


def _format(path: Path, *, check: bool, diff: bool) -> bool:
    """Lay one file out; whether it changes. What comes from the standard input goes to the standard output."""
    from lossdsl.frontend.files import read, write
    from lossdsl.frontend.format import formatted

    piped = str(path) == "-"
    name = "<stdin>" if piped else str(path)
    text = _piped() if piped else read(path)
    out = formatted(text, name)
    if diff:
        lines = unified_diff(text.splitlines(keepends=True), out.splitlines(keepends=True), name, name)
        print("".join(line if line.endswith("\n") else f"{line}\n\\ no newline at the end\n" for line in lines), end="")
    elif check and out != text:
        print(f"{name}: would change", file=sys.stderr if piped else sys.stdout)
    elif piped and not check:
        sys.stdout.buffer.write(out.encode("utf-8"))
    elif out != text and not check:
        try:
            write(path, out)
        except OSError as error:
            raise LossError(f"{path} cannot be written: {error.strerror}", hint="the file is as it was") from None
        print(f"{name}: formatted")
    return out != text


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError:
        raise LossError("<stdin> is no text in UTF-8", hint="losses are written in UTF-8") from None


disk = typer.Typer(help="Show what is kept between runs, or clear it.", invoke_without_command=True)
app.add_typer(disk, name="cache")


@disk.callback()
def cache_(context: typer.Context) -> None:
    """Show where compiled losses are kept between runs, how many there are and their size; LOSSDSL_CACHE moves the folder or is off."""
    if context.invoked_subcommand is not None:
        return
    from lossdsl import cache

    kept = cache.entries()
    size = sum(s.st_size for _, s in kept) / 1e6
    try:
        print(f"path     {cache.place()}")
        cache.folder()
        print(f"entries  {len(kept)}\nsize     {size:.1f} MB of at most {cache.MOST / 1e6:.0f} MB")
    except cache.Refused as why:
        print(f"nothing is kept: {why}")
    except FileNotFoundError:
        print("entries  0")
    except OSError as why:
        print(f"nothing is kept: {why.strerror}")


@disk.command()
def clear() -> None:
    """Remove everything that is kept."""
    from lossdsl import cache

    cache.clear()


@app.command()
def demo(output: Annotated[Path, typer.Option(help="Where the plot is written.")] = Path("lossdsl-demo.png")) -> None:
    """Fit a line to real data with outliers under three losses, one written for the occasion."""
    from rich.console import Console

    from lossdsl.demo import tour

    console: Any = Console()
    tour.run(console, output)


if __name__ == "__main__":
    main()
