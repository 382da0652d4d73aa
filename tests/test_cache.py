"""The cache between processes: the same results with and without it, whatever lies in its folder, and nothing in it that is out of date."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lossdsl
from lossdsl import cache, cli, package
from lossdsl.errors import LossError
from lossdsl.frontend import library, load, load_library, load_path, load_text, load_text_with_warnings
from lossdsl.ir.program import Program
from lossdsl.runtime import numpy_source, printed

TEXT = "a(x: real[n], y: real[n]; c: positive = 2) = sum[n](exp(-c*x^2)*huber(x, y))"
BAD = sorted((Path(__file__).parent / "bad").glob("*.loss"))
SCRIPT = """
import json, sys
import lossdsl
out = {}
for name in sys.argv[1:]:
    loss = lossdsl.load(name)
    x = loss.sample(seed=1, batch=4)
    fn = loss.compile("numpy")
    value, gradient = fn.value_and_grad(**x)
    gradients = gradient if isinstance(gradient, tuple) else (gradient,)
    out[name] = [str(loss), float(fn(**x)), float(value), [g.tolist() for g in gradients], fn.source]
(own,) = lossdsl.parse("own(c) = c*r^2").values()
out["own"] = float(own.compile("numpy", c=3)(1.0, 2.0))
modules = {"lark", "sympy", "mpmath", "lossdsl.pipeline", "lossdsl.codegen.printer", "lossdsl.frontend.parse", "lossdsl.frontend.lower"}
print(json.dumps([out, sorted(modules & set(sys.modules))]))
"""
NAMES = ["huber", "focal", "nt_xent"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, empty."""
    monkeypatch.setenv("LOSSDSL_CACHE", str(tmp_path / "kept"))
    forget()
    return tmp_path / "kept"


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    forget()


def forget() -> None:
    """What another process would not know."""
    load._library.clear()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called on nothing is compiled: what the cache does not have fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("this is compiled, and was to come from the cache")

    def close() -> None:
        forget()
        monkeypatch.setattr(library, "File", refuse)
        monkeypatch.setattr(library, "library_program", refuse)
        monkeypatch.setattr(numpy_source, "kernel", refuse)
        monkeypatch.setattr(numpy_source, "standalone", refuse)

    return close


def kept(folder: Path, kind: str = "") -> list[Path]:
    return sorted(folder.glob(f"{kind}*")) if folder.is_dir() else []


def kernels(program: Program, **params: float) -> list[str]:
    """The sources of what a call needs: the value and, where there is one, the gradient."""
    loss = lossdsl.Loss(program)
    fn = loss.compile("numpy", **params)
    batch = frozenset(i.name for i in program.inputs)
    return [fn._kernel(what, batch, False).source for what in ("value", "gradient")[: 1 + bool(fn.wrt)]] + [fn.source]


def run(place: Path, *names: str) -> Any:
    environment = os.environ | {"LOSSDSL_CACHE": str(place)}
    command = [sys.executable, "-c", SCRIPT, *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=Path(__file__).parent.parent)


def answer(process: Any) -> Any:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(said)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A cache that one process has filled, and what that process said."""
    place = tmp_path_factory.mktemp("cache") / "not" / "there"
    return place, answer(run(place, *NAMES))


# -- the same with and without ----------------------------------------------------------------------------------------


def test_a_second_process_compiles_nothing(made: tuple[Path, Any]) -> None:
    place, (first, loaded) = made
    assert "lark" in loaded
    before = kept(place)
    second, loaded = answer(run(place, *NAMES))
    assert second == first
    assert loaded == []
    assert kept(place) == before


def test_ten_processes_on_an_empty_cache(made: tuple[Path, Any], tmp_path: Path) -> None:
    """Empty but for the parser's tables, which cost a second each."""
    (tmp_path / "kept").mkdir(mode=0o700)
    for path in kept(made[0], "grammar"):
        shutil.copy(path, tmp_path / "kept")
    running = [run(tmp_path / "kept", "huber") for _ in range(10)]
    for process in running:
        out, _ = answer(process)
        assert out["huber"] == made[1][0]["huber"]
    assert not kept(tmp_path / "kept", "tmp")
    os.environ["LOSSDSL_CACHE"], before = str(tmp_path / "kept"), os.environ["LOSSDSL_CACHE"]
    try:
        assert all(cache.find(path.name) is not None for path in kept(tmp_path / "kept"))
    finally:
        os.environ["LOSSDSL_CACHE"] = before


@pytest.mark.parametrize("name", lossdsl.library())
def test_the_library_is_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: Callable[[], None]) -> None:
    forget()
    plain = load_library(name)
    sources = kernels(plain)
    monkeypatch.setenv("LOSSDSL_CACHE", str(tmp_path / "kept"))
    forget()
    first = load_library(name)
    assert first == plain and kernels(plain) == sources and load_library(name) is first
    closed()
    again = load_library(name)
    assert again == plain and all(a is b for a, b in zip(again.roots, plain.roots, strict=True))
    assert load_library(name) is again
    assert kernels(again) == sources


def test_torch_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from lossdsl.runtime import on_torch, torch_source

    huber, nll = lossdsl.load("huber").program, lossdsl.load("cross_entropy_nll").program
    f, both = frozenset("f"), frozenset("fy")
    cases = [(huber, ["f"], both, True), (huber, ["y"], both, True), (huber, ["f"], f, True), (huber, ["f"], both, False),
             (nll, nll.wrt, frozenset(i.name for i in nll.inputs), False)]  # fmt: skip

    def texts(k: int) -> list[Any]:
        s = on_torch._Sources(*cases[k])
        return [s.module, s.lazy, s.rows, s.function("push"), s.function("pull_all_push")] if k == 0 else [s.lazy]

    monkeypatch.setenv("LOSSDSL_CACHE", "off")
    plain = [texts(k) for k in range(len(cases))]
    assert len({t[-1] for t in plain[1:]}) == len(cases) - 1
    monkeypatch.setenv("LOSSDSL_CACHE", str(folder))
    assert [texts(k) for k in range(len(cases))] == plain
    for made in ("tower", "function", "rows"):
        monkeypatch.setattr(torch_source, made, None)
    assert [texts(k) for k in range(len(cases))] == plain


def test_a_text_is_the_same(folder: Path, closed: Callable[[], None]) -> None:
    first = load_text(TEXT)
    sources = kernels(first["a"], c=3)
    closed()
    again = load_text(TEXT)
    assert again == first and kernels(again["a"], c=3) == sources


WARNED = "b(x: real[n], w: real[n]) = sum[n](x[n + 1])\nc(u: unit) = log(u)\n_d(x) = sum[i in 0..3](x)\n"


def test_warnings_are_the_same(folder: Path, closed: Callable[[], None]) -> None:
    programs, remarks = load_text_with_warnings(WARNED, "w.loss")
    assert len(remarks) == 3 and {r.source.origin for r in remarks} == {"w.loss"}
    load_text_with_warnings("\ufeff" + WARNED.replace("\n", "\r\n"), "v.loss")
    closed()
    assert load_text_with_warnings(WARNED, "w.loss") == (programs, remarks)
    again = load_text_with_warnings("\ufeff" + WARNED.replace("\n", "\r\n"), "v.loss")[1]
    assert [str(r).replace("v.loss", "w.loss") for r in again] == [str(r) for r in remarks]


@pytest.mark.parametrize("path", BAD[::5], ids=lambda p: p.stem)
def test_errors_are_the_same_and_not_kept(path: Path, folder: Path) -> None:
    source = path.read_text(encoding="utf-8")
    said = []
    for _ in range(2):
        with pytest.raises(LossError) as caught:
            load_text(source, path.name)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1] and not kept(folder, "definition")


def test_a_name_that_the_library_lacks(folder: Path) -> None:
    for name in ("hubr", "_private", "", "\udc80", "../huber"):
        with pytest.raises(LossError, match="the library has no loss"):
            load_library(name)
    assert not kept(folder)


def test_a_float_and_a_double_have_one_kernel(folder: Path) -> None:
    fn = lossdsl.load("huber").compile("numpy")
    one = fn(np.float32([1, 3]), np.float32([0, 0]))
    count = len(kept(folder))
    two = lossdsl.load("huber").compile("numpy")(np.array([1.0, 3.0]), np.zeros(2))
    assert (one.dtype, two.dtype, len(kept(folder))) == (np.float32, np.float64, count)


# -- nothing is out of date -------------------------------------------------------------------------------------------


def test_whatever_decides_is_in_the_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change compiles anew, and going back finds what was there."""
    compiled: list[str] = []
    known = numpy_source.kernel
    monkeypatch.setattr(numpy_source, "kernel", lambda p, what, *rest: compiled.append(what) or known(p, what, *rest))

    def call(text: str = TEXT, wrt: str | list[str] | None = None, shape: tuple[int, ...] = (3,), **params: Any) -> int:
        compiled.clear()
        fn = load_text(text)["a"]
        lossdsl.Loss(fn).compile("numpy", wrt, **params).value_and_grad(np.ones(shape), np.ones(3))
        return len(compiled)

    variants: list[Callable[[], int]] = [
        call,
        lambda: call(TEXT.replace("exp", "sinh")),
        lambda: call(TEXT.replace("= 2", "= 3")),
        lambda: call(TEXT.replace("x: real[n]", "x: unit[n]")),
        lambda: call(c=4),
        lambda: call(c=0.1),
        lambda: call(c=np.nextafter(0.1, 1)),
        lambda: call(c=10**300),
        lambda: call(wrt="c"),
        lambda: call(wrt="y"),
        lambda: call(wrt=["x", "y"]),
        lambda: call(wrt=["y", "x"]),
        lambda: call(shape=(2, 3)),
    ]
    for variant in variants:
        assert (variant(), variant()) == (1, 0)
    for variant in variants:
        assert variant() == 0
    with monkeypatch.context() as m:
        m.setattr(np, "__version__", "0.0.1")
        assert (call(), call()) == (1, 0)
    with monkeypatch.context() as m:
        m.setattr(sys, "version", "2.7")
        assert (call(), call()) == (1, 0)
    with monkeypatch.context() as m:
        m.setattr(package, "RUNNING", "another")
        m.setattr(package, "fingerprint", lambda: "another")
        assert (call(), call()) == (1, 0)
    assert call() == 0


def test_a_changed_package_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lossdsl", "grammar", "library"):
        (tmp_path / name).mkdir()
    (tmp_path / "lossdsl" / "__pycache__").mkdir()
    module, other = tmp_path / "lossdsl" / "a.py", tmp_path / "library" / "b.loss"
    module.write_text("x = 1\n")
    other.write_text("b = r\n")
    monkeypatch.setattr(package, "_PACKAGE", str(tmp_path / "lossdsl"))
    seen = [package.fingerprint()]
    for change in (
        lambda: module.write_text("x = 1 \n"),
        lambda: os.utime(module, ns=(1, 1)),
        lambda: module.write_text("x = 2 \n") and os.utime(module, ns=(1, 1)),
        lambda: os.rename(module, tmp_path / "lossdsl" / "c.py"),
        lambda: other.write_text("b = z\n#"),
        lambda: (tmp_path / "grammar" / "loss.lark").write_text(""),
        lambda: (tmp_path / "lossdsl" / "d").mkdir() or (tmp_path / "lossdsl" / "d" / "e.py").write_text(""),
    ):
        change()
        seen.append(package.fingerprint())
    assert len(set(seen)) == len(seen)
    (tmp_path / "lossdsl" / "__pycache__" / "a.pyc").write_text("")
    assert package.fingerprint() == seen[-1]


def test_a_process_whose_files_have_changed_keeps_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the old ones, in part."""
    monkeypatch.setattr(package, "fingerprint", lambda: "edited")
    load_text(TEXT)
    assert not kept(folder, "definition")


def test_files_that_are_drawn_on(folder: Path, tmp_path: Path) -> None:
    main, beside, deep = (tmp_path / f"{n}.loss" for n in ("main", "beside", "deep"))
    main.write_text("main(x) = beside(x) + mse(x, 1)")

    def value() -> float:
        forget()
        program = load_path(main)["main"]
        entries = len(kept(folder, "definition"))
        assert load_path(main)["main"] == program and len(kept(folder, "definition")) == entries
        return float(lossdsl.Loss(program).compile("numpy")(3.0))

    steps: list[tuple[Path, str | None, float | None]] = [
        (beside, "beside(x) = 2*x", 6 + 4),
        (beside, "beside(x) = 5*x", 15 + 4),
        (beside, "beside(x) = deep(x) + 1\nunused(x) = x", None),
        (deep, "deep(x) = x", 4 + 4),
        (deep, "deep(x) = 7*x", 22 + 4),
        (tmp_path / "mse.loss", "mse(f, y) = f*y", 22 + 3),  # comes before the library's
        (tmp_path / "mse.loss", None, 22 + 4),
        (deep, None, None),
        (deep, "deep(x) = x", 4 + 4),
        (main, "main(x) = 10*beside(x)", 40),
    ]
    for path, text, expected in steps:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
            os.utime(path, ns=(time.time_ns(), time.time_ns()))
        library._folder_file.cache_clear()
        if expected is None:
            with pytest.raises(LossError):
                value()
        else:
            assert value() == expected, (path.name, text)


def test_functions_that_are_given(folder: Path) -> None:
    source = "a(p: real[d], q: real[d]; dist = euclidean) = dist(p, q)"
    by = {name: load_text(source, functions={"dist": name})["a"] for name in ("cosine", "euclidean", "sqdist")}
    by["default"] = load_text(source)["a"]
    assert len(set(map(str, map(lossdsl.Loss, by.values())))) == 3
    for name, program in by.items():
        assert load_text(source, functions=None if name == "default" else {"dist": name})["a"] == program


# -- whatever lies there ----------------------------------------------------------------------------------------------


def damaged(content: bytes) -> Iterator[bytes]:
    yield from (content[:k] for k in range(0, len(content), max(1, len(content) // 12)))
    for k in range(0, len(content), max(1, len(content) // 12)):
        yield content[:k] + bytes([content[k] ^ 1 << k % 8]) + content[k + 1 :]
    yield from (content + b"\n", content + content, b"\0" * 100, b"{}", os.urandom(300), b"\n\n")
    body = b'{"source": "raise SystemExit", "widths": [], "rows": [true]}'
    yield hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def test_damaged_entries_are_made_anew(folder: Path) -> None:
    plain = load_text(TEXT)
    sources = kernels(plain["a"])
    for path in kept(folder):
        content = path.read_bytes()
        for other in damaged(content):
            path.write_bytes(other)
            assert cache.find(path.name) is None
            assert load_text(TEXT) == plain
            assert kernels(plain["a"]) == sources
            assert path.read_bytes() == content, "it is mended"


def test_an_entry_under_another_name_is_none(folder: Path) -> None:
    load_text(TEXT)
    (one,) = kept(folder, "definition")
    load_text(TEXT.replace("2", "3"))
    (other,) = set(kept(folder, "definition")) - {one}
    other.write_bytes(one.read_bytes())
    assert load_text(TEXT.replace("2", "3"))["a"] != load_text(TEXT)["a"]


@pytest.mark.parametrize("body", [b"", b"nothing", b"[" * 100_000, b"\xff", b"null", b"7", b'{"files": []}', b'{"files": 3}', b'"files"'])
def test_sealed_nonsense_is_made_anew(body: bytes, folder: Path) -> None:
    plain = load_text(TEXT)
    (path,) = kept(folder, "definition")
    path.write_bytes(cache._digest(path.name, body) + b"\n" + body)
    assert load_text(TEXT) == plain


def test_what_is_no_file(folder: Path, tmp_path: Path) -> None:
    plain = load_text(TEXT)
    (path,) = kept(folder, "definition")
    good = tmp_path / "good"
    shutil.copy(path, good)

    def link() -> None:
        path.symlink_to(good)

    for make in (path.mkdir, lambda: os.mkfifo(path), link, lambda: path.symlink_to(tmp_path / "nowhere")):
        path.unlink()
        make()
        assert cache.find(path.name) is None
        assert load_text(TEXT) == plain
        if path.is_dir():
            path.rmdir()
            load_text(TEXT)
        assert path.is_file() and not path.is_symlink()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/below", "/proc/nowhere", "/" + "x" * 300, "/" + "x/" * 3000, "\udcff/\n"])
def test_a_place_that_cannot_be(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSDSL_CACHE", place)
    assert kernels(load_text(TEXT)["a"]) == kernels(load_text(TEXT)["a"])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("what", ["open", "replace", "mkdir", "stat", "fstat", "utime"])
def test_a_system_that_refuses(what: str, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSDSL_CACHE", "off")
    sources = kernels(load_text(TEXT)["a"])
    monkeypatch.setenv("LOSSDSL_CACHE", str(folder))
    if what != "mkdir":
        load_text(TEXT)
        (path,) = kept(folder, "definition")
        os.utime(path, (0, 0))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, what, refuse)
    assert kernels(load_text(TEXT)["a"]) == sources
    monkeypatch.undo()
    assert not kept(folder, "tmp")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = os.open

    def full(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_CREAT:
            os.close(known(path, flags, *rest))
            return known("/dev/full", os.O_WRONLY)
        return known(path, flags, *rest)

    monkeypatch.setattr(os, "open", full)
    program = load_text(TEXT)["a"]
    assert kernels(program) and not kept(folder)


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOSSDSL_CACHE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, as its specification says
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert kernels(load_text(TEXT)["a"])
    assert not list(tmp_path.iterdir())


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSDSL_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_text(TEXT)
    assert len(kept(tmp_path / "lossdsl", "definition")) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.place().startswith(str(tmp_path / "home"))
    monkeypatch.setenv("LOSSDSL_CACHE", "~/mine")
    assert cache.place() == str(tmp_path / "home" / "mine")
    monkeypatch.setenv("LOSSDSL_CACHE", "off")
    with pytest.raises(cache.Refused):
        cache.place()


def test_what_is_not_json_is_not_kept(folder: Path) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ({1}, cycle, deep, object()):
        cache.keep(cache.name("definition", "x"), value)
    assert not kept(folder)
    for value in (None, "\ud800", [1.5, float("inf")], {"a": [True, None]}, 10**4000):
        cache.keep(cache.name("definition", "x"), value)
        assert cache.find(cache.name("definition", "x")) == value


def test_a_program_that_does_not_come_back_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_text(TEXT)
    (path,) = kept(folder)
    path.unlink()
    wrong = [plain["a"].map(lambda roots: tuple(-1 * 0 or r.args[0] for r in roots))]
    monkeypatch.setattr(load, "unpacked", lambda value: wrong if value else ())
    assert load_text(TEXT) == plain and not kept(folder)


# -- whose it is ------------------------------------------------------------------------------------------------------

owned = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners")


@owned
def test_it_belongs_to_the_user_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        load_text(TEXT)
    finally:
        os.umask(before)
    (path,) = kept(folder)
    assert folder.stat().st_mode & 0o777 == 0o700 and path.stat().st_mode & 0o777 == 0o600


@owned
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_not_used(mode: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_text(TEXT)
    (path,) = kept(folder)
    folder.chmod(mode)
    assert cache.find(path.name) is None
    load_text(TEXT.replace("2", "3"))
    assert kept(folder) == [path]
    assert "nothing is kept: others can write it" in said(capsys)
    folder.chmod(0o755)
    assert cache.find(path.name) is not None


@owned
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write_is_not_used(mode: int, folder: Path) -> None:
    load_text(TEXT)
    (path,) = kept(folder)
    path.chmod(mode)
    assert cache.find(path.name) is None
    load_text(TEXT)
    assert path.stat().st_mode & 0o777 == 0o600


@owned
def test_what_belongs_to_another_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    load_text(TEXT)
    (path,) = kept(folder)
    with monkeypatch.context() as m:
        m.setattr(os, "geteuid", lambda: 12345)
        assert cache.find(path.name) is None
        load_text(TEXT.replace("2", "3"))
        assert "nothing is kept: it belongs to another user" in said(capsys)
    assert kept(folder) == [path]
    if os.geteuid() == 0:  # root may give files away
        os.chown(path, 12345, -1)
        assert cache.find(path.name) is None


def test_off_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOSSDSL_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    load_text(TEXT)
    assert not list(tmp_path.iterdir())
    assert said(capsys) == "nothing is kept: LOSSDSL_CACHE is off\n"


# -- how much ---------------------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        cli.main(["cache", *arguments])
    assert not done.value.code
    return capsys.readouterr().out


def fill(count: int, size: int = 1000) -> list[str]:
    """Entries, each used a minute before the next."""
    names = [cache.name("printed", str(k)) for k in range(count)]
    for k, name in enumerate(names):
        cache.keep(name, "x" * size)
        os.utime(Path(cache.folder()) / name, (0, time.time() - 60 * (count - k)))
    return names


def test_sweeping_keeps_the_bound_and_the_newest(folder: Path) -> None:
    names = fill(20)
    (size,) = {p.stat().st_size for p in kept(folder)}
    cache.sweep(most=7 * size)
    assert {p.name for p in kept(folder)} == set(names[-7:])
    cache.sweep(most=7 * size)
    assert len(kept(folder)) == 7
    cache.sweep(most=0)
    assert not kept(folder)


def test_what_is_read_stays(folder: Path) -> None:
    names = fill(5)
    for name in names:
        path = folder / name
        os.utime(path, (0, path.stat().st_mtime - 3 * 86_400))
    assert cache.find(names[0]) is not None
    cache.sweep(most=(folder / names[0]).stat().st_size)
    assert [p.name for p in kept(folder)] == [names[0]]


def test_what_nobody_reads_goes(folder: Path) -> None:
    names = fill(3)
    os.utime(folder / names[1], (0, time.time() - cache.OLDEST - 60))
    cache.sweep()
    assert {p.name for p in kept(folder)} == {names[0], names[2]}


def test_writing_keeps_the_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep happens once for each fiftieth of the bound, on average: here every time."""
    monkeypatch.setattr(cache, "MOST", 20_000)
    monkeypatch.setattr(cache.sweep, "__defaults__", (20_000,))
    fill(60)
    assert 10_000 < sum(p.stat().st_size for p in kept(folder)) <= 20_000


def test_how_often_it_sweeps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    monkeypatch.setattr(cache, "sweep", lambda: swept.append(1))
    monkeypatch.setattr(cache, "MOST", 1_000_000)  # 1 kB is a twentieth of a fiftieth of it
    steps = iter(range(40))
    known = os.urandom
    monkeypatch.setattr(os, "urandom", lambda n: known(n) if n != 4 else (next(steps) * 2**32 // 40).to_bytes(4, "big"))
    for _ in range(40):
        cache.keep(cache.name("printed", "x"), "x" * 900)
    assert len(swept) == 2


def test_an_entry_that_is_too_large_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 1000)
    name = cache.name("printed", "x")
    cache.keep(name, "x" * 1000)
    assert not kept(folder)
    cache.keep(name, "x" * 800)
    assert cache.find(name) == "x" * 800


def test_the_files_of_others_stay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(3)
    mine = ["notes.json", "printed-12.json", "printed-" + "0" * 64, "tmp-a.json", "x" + cache.name("printed", "a")]
    for name in mine:
        (folder / name).write_text("mine")
        os.utime(folder / name, (0, 0))
    (folder / cache.name("printed", "folder")).mkdir()
    left, running = folder / ("tmp-" + "0" * 16 + ".json"), folder / ("tmp-" + "1" * 16 + ".json")
    for path in (left, running):
        path.write_text("half")
    os.utime(left, (0, time.time() - 2 * 3600))
    cache.sweep()
    assert not left.exists() and running.exists()
    cache.sweep(most=0)
    assert said(capsys, "clear") == ""
    assert {p.name for p in kept(folder)} == {*mine, cache.name("printed", "folder")}


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == f"path     {folder}\nentries  0\n"
    fill(3, 100_000)
    assert said(capsys) == f"path     {folder}\nentries  3\nsize     0.3 MB of at most 200 MB\n"
    assert said(capsys, "clear") == "" and not kept(folder)


def test_what_is_printed_is_named_by_the_program(folder: Path) -> None:
    """Programs that cannot be stored are printed each time."""
    from lossdsl.ir.expr import fresh, ix, ref

    program = load_text("a(x: real[n]) = sum[n](x)")["a"]
    odd = program.with_roots((ref("x", [ix(fresh("n"))]),))
    made: list[int] = []
    for p in (program, program, odd, odd):
        printed.Printed(p, "test").get(lambda: made.append(1) or "text", "kernel")
    assert len(made) == 3
