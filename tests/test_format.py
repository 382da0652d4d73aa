"""Formatting: the one layout, what it must keep, and files that are hard to lay out."""

from __future__ import annotations

import io
import re
import stat
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Case, cases
from test_hostile import LEGAL
from test_other_losses import LOSSES

import lossdsl
from lossdsl import cli
from lossdsl.errors import LossError, Source
from lossdsl.frontend import format as layout
from lossdsl.frontend import load_text
from lossdsl.frontend.files import clean
from lossdsl.frontend.format import WIDTH, formatted
from lossdsl.frontend.parse import chunks, parse
from lossdsl.ir.program import Program

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "library").glob("*/*.loss"))
BAD = sorted((ROOT / "tests" / "bad").glob("*.loss"))


def tokens(text: str) -> list[tuple[str, int]]:
    """The tokens of a text, each with its place; read by the parser, not by what is tested."""
    out = []
    for start, end in chunks(Source(text)):
        out += [(str(t), start + t.start_pos) for t in layout._parser().parse_interactive(text[start:end]).iter_parse()]
    return out


def comments(text: str) -> list[str]:
    """Comments in order: what follows a ``#`` that stands in no token."""
    found, place = [], 0
    for token, start in [*tokens(text), ("", len(text))]:
        found += [m.rstrip() for m in re.findall(r"#[^\n]*", text[place:start])]
        place = start + len(token)
    return found


def check(text: str) -> str:
    """Laid out, a text means the same, has the same comments, and is laid out as it would be again."""
    out = formatted(text)
    assert formatted(out) == out
    text = clean(text)
    assert comments(out) == comments(text)
    assert not re.search(r"[^\S\n]\n", re.sub(r'"{3}[\s\S]*?"{3}', "", out)), "no line ends in a blank"
    before, errors = parse(text)
    after, others = parse(out)
    assert [d.doc for d in before] == [d.doc for d in after] and [d.name for d in before] == [d.name for d in after]
    assert not errors and not others
    return out


def same(text: str) -> str:
    """As ``check``, for a text that loads: the programs are equal, with notes and all."""
    out = check(text)
    assert load_text(out) == load_text(text) and list(load_text(out)) == list(load_text(text))
    return out


def bare(programs: dict[str, Program]) -> dict[str, Program]:
    """Without annotations that are kept as texts: blanks in them are theirs."""
    return {name: replace(p, notes=()) for name, p in programs.items()}


# -- the layout -------------------------------------------------------------------------------------------------------

PAIRS = {
    "blanks": ("a ( x:real [ n ,d ] ;c : positive=1e-3 )=sum[n,d]( c*x ^ 2-x/-2 )", "a(x: real[n, d]; c: positive = 1e-3) = sum[n, d](c*x^2 - x/-2)"),
    "numbers keep their spelling": ("a(x) = 1.50*x + 1e-3 - .5 + 0.10", "a(x) = 1.50*x + 1e-3 - .5 + 0.10"),
    "parentheses are kept": ("a(x)=((x))+(x*x)", "a(x) = ((x)) + (x*x)"),
    "words": ("a(x)=piecewise(1 if not(x>0)and x<2or x==3,0otherwise)", "a(x) = piecewise(1 if not (x > 0) and x < 2 or x == 3, 0 otherwise)"),
    "a range that starts with a point": ("a(x)=sum[b in 0 .. .5](b*x)", "a(x) = sum[b in 0.. .5](b*x)"),
    "axes": (
        "a(x:real[n,q=4],y:real[d,(k,s=S)],h:real[b in 0 .. bins];bins:integer=3,S:integer=2)=sum[b in 0..bins](h)",
        "a(x: real[n, q = 4], y: real[d, (k, s = S)], h: real[b in 0..bins];\n        bins: integer = 3, S: integer = 2) =\n    sum[b in 0..bins](h)",
    ),
    "a range": ("a(x)=sum[b in -1 .. 3|b!=0](b*x)", "a(x) = sum[b in -1..3 | b != 0](b*x)"),
    "named values": ("a(x: real[n])=max[n|x>0](x,default=0)+mean[n](x;weight=2)", "a(x: real[n]) = max[n | x > 0](x, default = 0) + mean[n](x; weight = 2)"),
    "only hyper-parameters": ("a(;c=1)=c*r", "a(; c = 1) = c*r"),
    "kinds": (
        "a(s:logit[i,k],y:class(k,ignore=-100)[i],R:binary[i,j in i],p:real in(0,1],t:simplex( k)[i,k]) = 1",
        "a(s: logit[i, k], y: class(k, ignore = -100)[i], R: binary[i, j in i], p: real in (0, 1],\n        t: simplex(k)[i, k]) =\n    1",
    ),
    "kinds of functions": ("a(x;g:(real[d],real)->real=dot)=x", "a(x; g: (real[d], real) -> real = dot) = x"),
    "an array": ("a[n,i in n](x:real[n])=x*x[i]", "a[n, i in n](x: real[n]) = x*x[i]"),
    "one local on the line": ("a(f, y) = u^2\n  where u=f-y", "a(f, y) = u^2 where u = f - y"),
    "locals one a line": (
        "a(f, y) = u*long(u) where u=f-y,long(v)=v^2",
        "a(f, y) = u*long(u)\n    where u       = f - y\n          long(v) = v^2",
    ),
    "an empty line between locals": (
        "a(f, y) = u*v where u=f-y\n\n\n\n  v=f+y",
        "a(f, y) = u*v\n    where u = f - y\n\n          v = f + y",
    ),
    "annotations": (
        'a(x)=x^2\n wrt x\n  survey  4.2.7(14):CONT,DIFF\n require 1<2\n source "b  #c"\n oracle torch.abs(x,k="a  b")',
        'a(x) = x^2\n  wrt     x\n  survey  4.2.7(14):CONT,DIFF\n  require 1 < 2\n  source  "b  #c"\n  oracle  torch.abs(x,k="a  b")',
    ),
    "an empty line between definitions": ("a = r\nb = r\n\n\n\nc = r", "a = r\n\nb = r\n\nc = r"),
    "a docstring as it is": ('"""Two\n   lines  \n"""\n\na=r', '"""Two\n   lines  \n"""\na = r'),
    "a docstring on the line": ('"""One."""a=r', '"""One."""\na = r'),
    "the body on a line of its own": (
        "quadratic(gamma: positive = 1) = piecewise(max(0, 1 - z)^2/(2*gamma) if z >= 1 - gamma, 1 - gamma/2 - z otherwise)",
        "quadratic(gamma: positive = 1) =\n    piecewise(max(0, 1 - z)^2/(2*gamma) if z >= 1 - gamma, 1 - gamma/2 - z otherwise)",
    ),
    "a sum": (
        f"a(x: real[n]) = sum[n](exp(x))*{'c'*40} - sum[n](x^2)*{'d'*40} + 3",
        f"a(x: real[n]) =\n    sum[n](exp(x))*{'c'*40}\n    - sum[n](x^2)*{'d'*40}\n    + 3",
    ),
    "a product is broken inside": (
        f"a(x: real[n]) = 2*{'c'*40}*sum[n](exp(x) + {'d'*40})",
        f"a(x: real[n]) =\n    2*{'c'*40}*sum[n](\n        exp(x) + {'d'*40})",
    ),
    "a short first term stays": (
        f"a(x: real[n]) = 1 - sum[n](exp(x)*{'c'*40} + {'d'*40})",
        f"a(x: real[n]) =\n    1 - sum[n](\n        exp(x)*{'c'*40} + {'d'*40})",
    ),
    "a single argument stays beside the bracket": (
        f"a(x: real[n]) = sqrt(mean[n](exp(x)*{'c'*40} + {'d'*40}))",
        f"a(x: real[n]) =\n    sqrt(mean[n](\n        exp(x)*{'c'*40} + {'d'*40}))",
    ),
    "several arguments": (
        f"a(x) = piecewise({'c'*50} if x > 0, {'d'*50} otherwise)",
        f"a(x) =\n    piecewise(\n        {'c'*50} if x > 0,\n        {'d'*50} otherwise)",
    ),
    "a guard": (
        f"a(x: real[n]) = sum[n | x > {'c'*50} and x < {'d'*24}](x)",
        f"a(x: real[n]) =\n    sum[n\n        | x > {'c'*50} and x < {'d'*24}](\n        x)",
    ),
    "a long local": (
        f"a(x) = u + v where u = x\n v(k) = {'c'*50} + {'d'*50}",
        f"a(x) = u + v\n    where u    = x\n          v(k) = {'c'*50}\n                 + {'d'*50}",
    ),
    "hyper-parameters on a line of their own": (
        f"a({'x'*30}: real, {'y'*30}: real; alpha: positive = 1, beta: positive = 2) = 1",
        f"a({'x'*30}: real, {'y'*30}: real;\n        alpha: positive = 1, beta: positive = 2) =\n    1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_layout(name: str) -> None:
    before, after = PAIRS[name]
    assert check(before) == after + "\n"


REMARKS = {
    "at the end of a line": ("a = r^2   #  one", "a = r^2  #  one"),
    "on a line of its own": ("# one\na = r^2", "# one\na = r^2"),
    "between definitions": ("a = r\n# of b\nb = r", "a = r\n\n# of b\nb = r"),
    "indented, below a definition": ("a = r\n # of a\nb = r", "a = r\n    # of a\n\nb = r"),
    "blocks between definitions": ("a = r\n# one\n\n# two\nb = r", "a = r\n# one\n\n# two\nb = r"),
    "at the end of the file": ("a = r\n\n\n# end", "a = r\n\n# end"),
    "alone in a file": ("\n\n# one\n\n\n\n# two  ", "# one\n\n# two"),
    "above and beside a docstring": ('# one\n"""Doc."""  # two\n# three\na = r', '# one\n"""Doc."""  # two\n# three\na = r'),
    "behind an equals sign": ("a = # one\n  r", "a =  # one\n    r"),
    "behind an operator": ("a = r + # one\n  r^2 # two", "a =\n    r  # one\n    + r^2  # two"),
    "before an operator": ("a = r # one\n  + r^2", "a =\n    r  # one\n    + r^2"),
    "two beside an operator": ("a = r # one\n  + # two\n # three\n  r^2", "a =\n    r  # one\n    # two\n    # three\n    + r^2"),
    "behind arguments": ("a = max(r, # one\n  0 # two\n  )", "a =\n    max(\n        r,  # one\n        0)  # two"),
    "before a comma": ("a = max(r # one\n  , 0)", "a =\n    max(\n        r,  # one\n        0)"),
    "inside a guard": (
        "a(x: real[n]) = sum[n | x > 0 # one\n and x < 1](x)",
        "a(x: real[n]) =\n    sum[n\n        | x > 0  # one\n        and x < 1](\n        x)",
    ),
    "inside where": (
        "a = u*v\n # one\n where # two\n # three\n u = r # four\n # five\n v = r",
        "a = u*v\n    # one\n    where  # two\n          # three\n          u = r  # four\n          # five\n          v = r",
    ),
    "before a local's equals sign": ("a = u where u # one\n = r", "a = u\n    where u  # one\n          = r"),
    "beside a comma between locals": ("a = u*v where u = r, # one\n v = r", "a = u*v\n    where u = r  # one\n          v = r"),
    "before annotations": ("a = r\n # one\n wrt f # two\n\n # three\n batch n", "a = r\n  # one\n  wrt     f  # two\n\n  # three\n  batch   n"),
    "inside an annotation": ("a = r\n claim CONVEX # one\n if 1 > 0", "a = r\n  claim   CONVEX  # one\n          if 1 > 0"),
    "two that would meet": ("a = max(r, 0 # one\n ) # two", "a = max(r, 0)  # one\n    # two"),
    "inside what is declared": ("a(x, # one\n y) = x", "a(x,  # one\n        y) =\n    x"),
    "with quotes and brackets in it": ('a = r # "(\n  + r', 'a =\n    r  # "(\n    + r'),
}  # fmt: skip


@pytest.mark.parametrize("name", REMARKS)
def test_a_comment_stays(name: str) -> None:
    before, after = REMARKS[name]
    assert check(before) == after + "\n"


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_the_library_is_laid_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert same(text) == text


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_what_is_printed_can_be_laid_out(path: Path) -> None:
    for loss in lossdsl.read(path).values():
        same(f"{loss}\n\n{loss.grad()}")


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.formula.__name__)
def test_other_losses(case: object) -> None:
    same(case.text)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", LEGAL)
def test_deep_texts(name: str) -> None:
    check(LEGAL[name])


@pytest.mark.parametrize("text", ["a(x) = " + " + ".join(["x*sum[n](x)"] * 60), "a(x) = max(" + ", ".join(["sin(x)"] * 60) + ")",
                                  "a(" + ", ".join(f"p{k}: real" for k in range(60)) + ") = p1",
                                  "a(x) = u0 where " + ", ".join(f"u{k} = sin(x + cos(x*{'x*'*40}2))" for k in range(9))])  # fmt: skip
def test_lines_are_no_longer_than_they_need_be(text: str) -> None:
    assert max(map(len, check(text).split("\n"))) <= WIDTH


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_mistakes_stay(path: Path) -> None:
    """A text that does not parse is refused with its errors; one that is wrong otherwise has the same errors afterwards."""

    def errors(text: str) -> list[str]:
        with pytest.raises(LossError) as caught:
            load_text(text)
        return [re.sub(r"line \d+", "line", e.message) for e in (caught.value, *caught.value.others)]

    text = path.read_text(encoding="utf-8")
    wrong = parse(text)[1]
    if not wrong:
        assert errors(check(text)) == errors(text)
        return
    with pytest.raises(LossError) as caught:
        formatted(text, path.name)
    assert [str(e) for e in wrong] == [caught.value._own(), *map(str, caught.value.others)] or caught.value.message == wrong[0].message


# -- random programs with comments anywhere ---------------------------------------------------------------------------


def scattered(text: str, rng: Random, rate: float) -> tuple[str, list[str]]:
    """The text with comments, odd blanks and line ends between its tokens, and the comments."""
    found = tokens(text)
    starts = {start for start, _ in chunks(Source(text))} | {n for (t, _), (_, n) in pairwise(found) if t.startswith('"""')}
    out, put = [], []
    end = 0
    for token, start in found:
        gap = text[end:start]
        end = start + len(token)
        column = "" if start in starts else " " * rng.randint(1, 6)
        if rng.random() < rate:
            tail = rng.choice(["", " = (", ' """[', " # é λ"])
            remark = f"#{rng.choice(['', ' ', '  '])}{len(put)}{tail}"
            put.append(remark)
            before = rng.choice(["", " ", "\n", "\n   ", "\n\n", "\n\n  "])
            after = rng.choice(["\n", "  \n", "\n\n", "\n\t\n\n"])
            gap += f"{before}{remark}{after}{column}"
        elif column and rng.random() < rate:
            gap += rng.choice(["\n", "\t", "  \n\n "]) + column
        out += [gap, token]
    if rng.random() < 0.5:
        put.append("# the end")
        out.append("\n# the end")
    return "".join(out), put


def annotated(case: Case, rng: Random) -> str:
    """The program with a docstring and annotations."""
    lines = [
        '  source  "A  (2000), # B"', "  claim   CONVEX if 1 > 0", "  survey  4.2 (3): CONT, L-CONT", '  oracle  torch.abs(x, k="a  b")',
        "  require 1 < 2",
    ]  # fmt: skip
    text = case.text.rstrip("\n")
    more = "\n".join(rng.sample(lines, rng.randint(0, 4))) if text.rsplit("\n", 1)[-1].startswith("  wrt") else ""
    return f'"""Doc  # no comment\n\n   of two lines."""\n{text}\n{more}\n'


def keeps(case: Case, seed: int) -> None:
    rng = Random(seed)
    plain = annotated(case, rng)
    programs = load_text(plain)
    for rate in (0, 0.1, 0.6):
        text, put = scattered(plain, rng, rate)
        assert comments(text) == put
        assert bare(load_text(text)) == bare(programs), "a comment changes nothing"
        same(text)


@settings(max_examples=15)
@given(cases(), st.integers(0, 2**32))
def test_random_programs(case: Case, seed: int) -> None:
    keeps(case, seed)


@pytest.mark.slow
@settings(max_examples=500)
@given(cases(), st.integers(0, 2**32))
def test_many_random_programs(case: Case, seed: int) -> None:
    keeps(case, seed)


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "want"), [
    ("", ""), (" \n\n", ""), ("\ufeffa=r\n", "a = r\n"), ("a=r", "a = r\n"), ("a\t=\tr", "a = r\n"), ("a=r\r\nb=r\r\n", "a = r\r\n\r\nb = r\r\n"),
    ("a=r\nb=r\r\n", "a = r\n\nb = r\n"), ("a=r # c\rb=r\r", "a = r  # c\n\nb = r\n"), ("α(λ=1)=λ*r", "α(λ = 1) = λ*r\n"), ("a=r\f\n", "a = r\n"),
    ('"""A\r\n b"""\r\na=r', '"""A\r\n b"""\r\na = r\r\n'), ("\n\n\na=r\n\n\n", "a = r\n"),
])  # fmt: skip
def test_odd_files(text: str, want: str) -> None:
    assert formatted(text) == want
    assert formatted(want) == want


def run(capsysbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fmt", *arguments])
    out, err = capsysbinary.readouterr()
    code = stopped.value.code
    return code if isinstance(code, int) else 0, out.decode(), err.decode()


Captured = pytest.CaptureFixture[bytes]


def test_a_file_is_written_only_if_it_changes(capsysbinary: Captured, tmp_path: Path) -> None:
    odd, neat = tmp_path / "odd.loss", tmp_path / "neat.loss"
    odd.write_bytes(b"a=r\r\n")
    neat.write_bytes(b"a = r\n")
    odd.chmod(0o640)
    before = neat.stat().st_mtime_ns, neat.stat().st_ino
    code, out, err = run(capsysbinary, str(tmp_path))
    assert (code, out, err) == (0, f"{odd}: formatted\n2 files, 1 changed\n", "")
    assert odd.read_bytes() == b"a = r\r\n" and stat.S_IMODE(odd.stat().st_mode) == 0o640
    assert (neat.stat().st_mtime_ns, neat.stat().st_ino) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["neat.loss", "odd.loss"]


def test_check_and_diff_write_nothing(capsysbinary: Captured, tmp_path: Path) -> None:
    path = tmp_path / "a.loss"
    path.write_text("a=r", encoding="utf-8")
    assert run(capsysbinary, "--check", str(path)) == (1, f"{path}: would change\n1 file, 1 would change\n", "")
    code, out, _ = run(capsysbinary, "--diff", str(path))
    assert code == 0 and "-a=r" in out.split("\n") and "+a = r" in out.split("\n")
    assert run(capsysbinary, "--check", "--diff", str(path))[0] == 1
    assert path.read_text(encoding="utf-8") == "a=r"
    path.write_text("a = r\n", encoding="utf-8")
    assert run(capsysbinary, "--check", "--diff", str(path)) == (0, "", "")


def test_a_file_with_a_mistake_stays_and_others_are_laid_out(capsysbinary: Captured, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.loss", tmp_path / "good.loss"
    bad.write_text("a=r\nb = r*\n", encoding="utf-8")
    good.write_text("a=r", encoding="utf-8")
    code, out, err = run(capsysbinary, str(bad), str(good), str(tmp_path / "missing.loss"))
    assert code == 1 and out == f"{good}: formatted\n3 files, 1 changed\n"
    assert f"{bad}:2:7: error: " in err and "missing.loss cannot be read" in err
    assert bad.read_text(encoding="utf-8") == "a=r\nb = r*\n" and good.read_text(encoding="utf-8") == "a = r\n"


def test_a_link_stays_a_link(capsysbinary: Captured, tmp_path: Path) -> None:
    path, link = tmp_path / "a.loss", tmp_path / "b.loss"
    path.write_text("a=r", encoding="utf-8")
    link.symlink_to(path)
    assert run(capsysbinary, str(link))[0] == 0
    assert link.is_symlink() and path.read_text(encoding="utf-8") == "a = r\n"


def test_what_fails_while_it_is_written_leaves_the_file(capsysbinary: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.loss"
    path.write_text("a=r", encoding="utf-8")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lossdsl.frontend.files.os.replace", full)
    code, _, err = run(capsysbinary, str(path))
    assert code == 1 and f"{path} cannot be written: No space left on device" in err
    assert path.read_text(encoding="utf-8") == "a=r" and [p.name for p in tmp_path.iterdir()] == ["a.loss"]


@pytest.mark.parametrize(("text", "arguments", "want"), [
    (b"a=r\r\n", (), (0, "a = r\r\n", "")), (b"a=r", ("--check",), (1, "", "<stdin>: would change\n")), (b"a = r\n", ("--check",), (0, "", "")),
])  # fmt: skip
def test_the_standard_input(
    capsysbinary: Captured, monkeypatch: pytest.MonkeyPatch, text: bytes, arguments: tuple[str, ...], want: tuple[int, str, str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert run(capsysbinary, "-", *arguments) == want


def test_a_mistake_in_the_standard_input(capsysbinary: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (b"a = r*", b"\xff\xfe"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        code, out, err = run(capsysbinary, "-")
        assert code == 1 and not out and "<stdin>" in err and "Traceback" not in err


def test_what_would_change_the_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is read again: were the layout wrong, no file would be."""
    monkeypatch.setattr(layout, "render", lambda doc, width: "a = r")
    with pytest.raises(LossError, match="without changing it"):
        formatted("a = r^2  # remark")
