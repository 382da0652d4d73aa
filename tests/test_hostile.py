"""Texts that no friendly user writes: a clear error or the right answer, in bounded work, and nothing is executed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from tools import evaluate, value

import lossdsl
from lossdsl.errors import LossError
from lossdsl.frontend import load_text
from lossdsl.ir.program import Program


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """Work that never ends is a failure, not a hanging test run."""

    def bark(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("still working after a minute")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def attempt(text: str) -> dict[str, Program] | None:
    """The programs, or None after a clear error; any other exception is a failure."""
    try:
        return load_text(text, "hostile.loss")
    except LossError as error:
        assert len(error.message) < 500 and error.message.strip()
        assert len(str(error)) < 5000, "an error does not print a whole line of a megabyte"
        return None


# -- deep ---------------------------------------------------------------------------------------------------------------------------------

N = 10_000
MANY = 2_000  # where each costs work of its own
DEEP = {
    "parentheses": "a(x) = " + "(" * N + "x" + ")" * N,
    "parentheses, open": "a(x) = " + "(" * N,
    "parentheses, closed": "a(x) = x" + ")" * N,
    "minus": "a(x) = " + "-" * N + "x",
    "plus": "a(x) = x" + " + x" * N,
    "minus chain": "a(x) = x" + " - x" * N,
    "times": "a(x) = x" + "*x" * N,
    "divided": "a(x) = x" + "/x" * N,
    "power": "a(x) = x" + "^x" * N,
    "not": "a(x) = piecewise(x if " + "not " * N + "x > 0)",
    "and": "a(x) = piecewise(x if x > 0" + " and x > 0" * N + ")",
    "or": "a(x) = piecewise(x if x > 0" + " or x > 1" * N + ")",
    "comparison": "a(x) = 1*(0" + " < x" * N + ")",
    "calls": "a(x) = " + "sin(" * N + "x" + ")" * N,
    "reductions": "a(x: real[n]) = " + "sum[n](" * N + "x" + ")" * N,
    "new indices": "a(x: real[n]) = " + "".join(f"sum[i{k} in n](" for k in range(N)) + "x[i0]" + ")" * N,
    "subscripts": "a(x: real[n]) = x" + "[0]" * N,
    "indices": "a(x: real[n], y: class(n)) = " + "x[" * N + "y" + "]" * N,
    "brackets": "a(x: real[n]) = sum[" + "[" * N,
    "many indices": "a(x: real[n]) = sum[" + ", ".join(f"i{k}" for k in range(MANY)) + " in n](x[i0])",
    "piecewise": "a(x) = piecewise(" + ", ".join(f"{k} if x > {k}" for k in range(MANY)) + ")",
    "nested piecewise": "a(x) = " + "piecewise(x if x > 0, " * N + "x otherwise" + " otherwise".join([")"] * N),
    "function kinds": "a(f: " + "(" * N + "real" + ") -> real" * N + ") = 1",
    "arguments": "a(x) = max(" + ", ".join(["x"] * MANY) + ")",
    "parameters": "a(x; " + ", ".join(f"p{k} = {k}" for k in range(MANY)) + ") = x*p7",
    "inputs": "a(" + ", ".join(f"p{k}" for k in range(MANY)) + ") = p7",
    "axes": "a(x: real[" + ", ".join(f"n{k}" for k in range(MANY)) + "]) = 1",
    "definitions": "\n".join(f"a{k}(x) = x + {k}" for k in range(MANY)),
    "definitions, each calls the one before": "a0(x) = x\n" + "\n".join(f"a{k + 1}(x) = a{k}(x) + 1" for k in range(MANY)),
    "mistakes": "\n".join(f"a{k}(x) = y{k}" for k in range(MANY)),
    "syntax mistakes": "\n".join("a(x) = )" for k in range(MANY)),
    "a long name": "a(x) = " + "x" * 100_000,
    "a long definition": "a" * 100_000 + "(x) = x + 1",
    "a long number": "a(x) = x*" + "1" * 100_000,
    "a long fraction": "a(x) = x*0." + "1" * 100_000,
    "a cycle": "\n".join(f"a{k}(x) = a{(k + 1) % MANY}(x)" for k in range(MANY)),
    "cyclic locals": "a(x) = u0 where " + ", ".join(f"u{k} = u{(k + 1) % MANY} + x" for k in range(MANY)),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep(name: str) -> None:
    attempt(DEEP[name])


def test_moderate_nesting_is_legal() -> None:
    assert value("a(x) = " + "(" * 50 + "x" + ")" * 50, {"x": 2.0}) == 2.0
    assert value("a(x) = x" + " + x" * 999, {"x": 2.0}) == 2000.0
    assert np.isclose(value("a(x) = " + "sqrt(" * 50 + "x" + ")" * 50, {"x": 2.0}), 2.0 ** (0.5**50))


LEGAL = {
    "a sum of 1000": "a(x) = x" + " + x*x" * 1000,
    "a product of 300": "a(x) = x" + "*cos(x)" * 300,
    "400 signs": "a(x) = " + "-" * 400 + "x",
    "300 functions": "a(x) = " + "sin(" * 300 + "x" + ")" * 300,
    "300 quotients": "a(x) = x" + "/(1 + x^2)" * 300,
    "300 locals": "a(x) = u299 where u0 = x, " + ", ".join(f"u{k} = u{k - 1}/2 + sin(u{k - 1})" for k in range(1, 300)),
    "300 stages": "a(x) = m299 where m0 = x, " + ", ".join(f"m{k} = sum[b in 0..2](cos(b - m{k - 1}))/3" for k in range(1, 300)),
    "200 branches": "a(x) = piecewise(" + ", ".join(f"x^{k % 5} if x > {200 - k}" for k in range(200)) + ", x otherwise)",
    "200 branches one in another": "a(x) = " + "".join(f"piecewise(x if x > {k}, " for k in range(200)) + "x otherwise" + " otherwise".join([")"] * 200),
    "500 conditions": "a(x) = piecewise(x if x > 0" + " and x < 1" * 500 + ", 0 otherwise)",
    "60 reductions one in another": "a(x) = " + "".join(f"max[i{k} in 0..0](x + i{k}*" for k in range(60)) + "1" + ")" * 60,
    "300 hyper-parameters": "a(x; " + ", ".join(f"p{k} = {k}" for k in range(300)) + ") = " + " + ".join(f"p{k}*x" for k in range(300)),
}  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_deep_but_legal_texts_go_all_the_way(name: str) -> None:
    """Printed, read again, differentiated, compiled; NumPy agrees with the reference."""
    loss = lossdsl.parse(LEGAL[name])["a"]
    assert lossdsl.parse(str(loss))["a"].program.value is loss.program.value
    v, g = loss.compile("numpy").value_and_grad(0.3)
    assert np.isclose(float(v), float(evaluate(loss.program, {"x": 0.3})), rtol=1e-12)
    assert np.isclose(float(g), float(evaluate(loss.grad().program, {"x": 0.3})), rtol=1e-11, atol=1e-300)


def test_300_nested_locals() -> None:
    text = "a(x: real, y: real) = u299 where u0 = x - y, " + ", ".join(f"u{k} = u{k - 1}/2 + u{k - 1}/2 + {k}" for k in range(1, 300))
    assert np.isclose(value(text, {"x": 2.0, "y": 1.0}), 1 + 299 * 300 / 2)


def test_300_nested_local_arrays() -> None:
    locals_ = ", ".join(f"u{k}[i] = u{k - 1}[i]/2 + u{k - 1}[i]/2 + 1" for k in range(1, 300))
    text = f"a(x: real[n]) = sum[n](u299[n]) where u0[i] = x[i], {locals_}"
    assert np.isclose(value(text, {"x": [2.0, 3.0]}), 5 + 2 * 299)


@pytest.mark.parametrize(
    "text",
    [
        "a(x) = F39(x) where F0(u) = u + 1, " + ", ".join(f"F{k}(u) = F{k - 1}(F{k - 1}(u))" for k in range(1, 40)),
        "f0(x) = x + 1\n" + "\n".join(f"f{k}(x) = f{k - 1}(f{k - 1}(x))" for k in range(1, 40)),
        "a(x: real[n]) = sum[n](u39[n]) where u0[i] = x[i], " + ", ".join(f"u{k}[i] = u{k - 1}[i + 1]*u{k - 1}[i + 2]" for k in range(1, 40)),
        "a(x: real[n]) = sum[n](u29[n]) where u0[i] = x[i], " + ", ".join(f"u{k}[i] = u{k - 1}[3*i + 1]*u{k - 1}[2*i]" for k in range(1, 30)),
        "a(x) = u99 where u0 = x > 0, " + ", ".join(f"u{k} = u{k - 1} and not u{k - 1} or u{k - 1}" for k in range(1, 100)).replace("u99 where", "1*u99 where"),
    ],
    ids=["local functions", "definitions", "shifts", "strides", "conditions"],
)
def test_work_that_doubles_is_bounded(text: str) -> None:
    attempt(text)


# -- large --------------------------------------------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000


def test_a_file_at_the_limit() -> None:
    text = "a(x) = x + 1\n"
    text += "# " + "c" * (MEGABYTE - len(text) - 2)
    assert value(text, {"x": 2.0}) == 3.0


def test_a_file_over_the_limit() -> None:
    with pytest.raises(LossError, match=r"1 ?MB|1[ ,_]?000[ ,_]?000|too large|larger"):
        load_text("a(x) = x + 1\n#" + "c" * 2 * MEGABYTE, "hostile.loss")


LARGE = {
    "blank lines": "a(x) = x\n" + "\n" * (MEGABYTE - 100),
    "blank lines inside": "a(x) = x\n" + "\n" * (MEGABYTE - 100) + "  + 1",
    "spaces": "a(x) = x" + " " * (MEGABYTE - 100) + "+ 1",
    "spaces at the end of lines": "a(x) = x\n" + ("  " * 50 + "\n") * 9000 + "  + 1",
    "comment lines": "a(x) = x\n" + "  # c\n" * 150_000 + "  + 1",
    "comment lines between": "a(x) = x\n" + "# c\n" * 200_000 + "b(x) = x",
    "comment lines at the end": "a(x) = x\n" + "# c\n" * 200_000,
    "quotes": 'a(x) = x\n  source "' + '"' * 500_000,
    "quotes in a docstring": '"""' + ' ""' * 300_000 + '"""\na(x) = x',
    "an open docstring": '"""' + ' "' * 400_000 + "\na(x) = x",
    "an open parenthesis after each local": "a(x) = x where " + "u (" * 200_000,
    "an open bracket after each local": "a(x) = x where " + "u [" * 200_000,
    "names": "a(x) = " + "x " * 400_000,
    "commas": "a(x) = max(" + "," * 900_000,
    "dots": "a(x) = x" + "." * 900_000,
    "hashes": "a(x) = x " + "#" * 900_000,
    "one line": "a(x) = x" + " + x" * 200_000,
    "unknown names": "a(x) = x" + "".join(f" + xx{k}" for k in range(50_000)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large(name: str) -> None:
    attempt(LARGE[name])


# -- numbers ------------------------------------------------------------------------------------------------------------------------------

NUMBERS = {
    "a tower": "9^9^9^9 + 0*x",
    "a tower of a variable": "x^9^9^9",
    "a large exponent": "2^100000 - 2^100000 + x",
    "a large power of a fraction": "(1/3)^99999*x",
    "repeated squaring": "(((((((9^64)^64)^64)^64)^64)^64)^64)*x",
    "a factorial": "*".join(str(k) for k in range(1, 3000)) + "*x",
    "1e999999": "1e999999*x",
    "1e-999999": "1e-999999*x",
    "1e999999999999": "1e999999999999*x",
    "1e-999999999999": "1e-999999999999*x",
    "a range without end": "sum[b in 0..1e15](x*b)",
    "a range to infinity": "sum[b in 0..inf](x)",
    "a huge index": "sum[b in 0..3](x*b) + 0*2^(1e9)",
    "1e308*10": "1e308*10*x/1e308",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str) -> None:
    attempt(f"a(x) = {NUMBERS[name]}")


def test_a_default_too_large_to_be_a_float() -> None:
    attempt("a(x; c = 1e400) = c*x")
    attempt("a(x; c: real in (0, 1e99999] = 1e9999) = c*x")


# -- characters ---------------------------------------------------------------------------------------------------------------------------

SAME = {
    "crlf": "a(x) =\r\n  x\r\n  + 1\r\nb(x) = x\r\n",
    "tabs": "a(x) =\n\tx\n\t+\t1",
    "byte order mark": "\ufeffa(x) = x + 1",
    "no newline at the end": "a(x) = x + 1",
    "spaces at the ends": "a(x)   =   x + 1   \n   \n",
    "newlines before": "\n\n\na(x) = x + 1",
    "a comment first": "# first\n\na(x) = x + 1",
    "form feed in a comment": "a(x) = x + 1 # \x0c page",
}


@pytest.mark.parametrize("name", SAME)
def test_same(name: str) -> None:
    assert value(SAME[name], {"x": 2.0}, name="a") == 3.0


CHARACTERS = {
    "NUL": "a(x) = x\0 + 1",
    "NUL alone": "\0",
    "zero-width space": "a(x) = x\u200b + 1",
    "no-break space": "a(x) = x\u00a0+ 1",
    "right to left": "a(x) = x \u202e+ 1",
    "a Cyrillic a": "a(x) = x + 1\nb(x) = \u0430(x)",
    "full-width digits": "a(x) = x + １",
    "Arabic digits": "a(x) = x + ٣",
    "a ligature": "a(ﬁ) = ﬁ + 1",
    "an emoji": "a(x) = x + 🙂",
    "a lone surrogate": "a(x) = x + \ud800",
    "escape": "a(x) = x \x1b[31m + 1",
    "vertical tab": "a(x) =\x0b x",
    "line separator": "a(x) = x\u2028 + 1",
    "next line": "a(x) = x\x85 + 1",
    "carriage returns alone": "a(x) = x\rb(x) = x",
    "nothing": "",
    "spaces": "   \n  \n",
    "a comment": "# nothing",
}


@pytest.mark.parametrize("name", CHARACTERS)
def test_characters(name: str) -> None:
    attempt(CHARACTERS[name])


@pytest.mark.parametrize("name", ["NUL", "zero-width space", "right to left", "a lone surrogate", "escape", "full-width digits"])
def test_characters_that_deceive_are_refused_and_not_printed(name: str) -> None:
    with pytest.raises(LossError) as caught:
        load_text(CHARACTERS[name], "hostile.loss")
    assert not any(c in caught.value.message for c in "\0\u200b\u202e\ud800\x1b")


def test_columns_count_characters() -> None:
    with pytest.raises(LossError) as caught:
        load_text("\ufeffa(δ) =\r\n\tδ + γγ", "hostile.loss")
    assert str(caught.value).startswith("hostile.loss:2:6: error:")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    for name, data in {"latin": b"a(x) = x + 1 # caf\xe9", "utf16": "a(x) = x + 1".encode("utf-16"), "binary": bytes(range(256))}.items():
        path = tmp_path / f"{name}.loss"
        path.write_bytes(data)
        with pytest.raises(LossError):
            lossdsl.read(path)


def test_a_file_with_marks_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "a.loss"
    path.write_bytes(b"\xef\xbb\xbf# caf\xc3\xa9\r\na(x) =\r\n    x + 1\r\n")
    assert evaluate(lossdsl.read(path)["a"].program, {"x": 2.0}) == 3.0


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.loss", tmp_path):
        with pytest.raises((LossError, OSError)) as caught:
            lossdsl.read(path)
        assert str(path) in str(caught.value)


# -- names --------------------------------------------------------------------------------------------------------------------------------

CLAIMED = [
    "__import__", "__builtins__", "__class__", "__init__", "lambda", "self", "class", "def", "import", "eval", "exec", "None", "True",
    "False", "I", "E", "S", "N", "Q", "default", "np", "numpy", "math", "torch", "return", "yield", "out", "args", "kwargs", "x0",
    "t0", "tmp", "mp", "open", "print", "globals", "locals", "getattr", "range", "len", "sum", "max", "exp", "log", "jit", "axis",
    "axes", "int", "float", "double", "void", "static", "restrict", "auto", "register",
]  # fmt: skip


@pytest.mark.parametrize("name", CLAIMED)
def test_names_that_other_languages_claim(name: str) -> None:
    text = f"{name}({name}: real[n], y: real; c = 2) = sum[n]({name})*y + c"
    try:
        found = load_text(text, "hostile.loss")
    except LossError:
        raise AssertionError(f"{name} is a name like any other") from None
    for p in found.values():
        assert evaluate(p, {name: [1.0, 2.0], "y": 3.0}) == 11.0


@pytest.mark.parametrize("name", CLAIMED)
def test_names_that_other_languages_claim_as_the_rest(name: str) -> None:
    text = f"a(x: real[{name}]; c = 1) = sum[{name}](x)"
    assert value(text, {"x": [1.0, 2.0]}) == 3.0
    assert value(f"a(x; {name} = 3) = {name}*x", {"x": 2.0}) == 6.0
    assert value(f"a(x) = {name} where {name} = x + 1", {"x": 2.0}) == 3.0
    assert value(f"a(x: real[n]) = sum[{name} in n](x[{name}])", {"x": [1.0, 2.0]}) == 3.0
    assert value(f"a(x) = {name}(x) where {name}(u) = 3*u", {"x": 2.0}) == 6.0


# -- nothing is executed ------------------------------------------------------------------------------------------------------------------

EVIL = [
    'a(x) = x\n  oracle os.system("touch {}")',
    'a(x) = x\n  oracle os.system(x, command="touch {}")',
    'a(x) = x\n  oracle builtins.eval("open(\'{}\', \'w\')")',
    'a(x) = x\n  oracle subprocess.run("touch {}", shell=True)',
    "a(x) = x\n  source \"{{__import__('os').system('touch {}')}}\"",
    '"""{{__import__(\'os\').system(\'touch {}\')}} %s %(x)s"""\na(x) = x',
    "a(x; c = __import__('os').system('touch {}')) = x",
    "a(x) = __import__('os').system('touch {}')",
    "a(x) = exec(open('{}', 'w'))",
    "a(x) = x\n  note \"`touch {}` $(touch {})\"",
    "a(x) = x # -*- coding: rot13 -*- {}",
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_is_executed(text: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = text.replace("{}", str(made)).replace("{{", "{").replace("}}", "}")
    with contextlib.suppress(LossError):
        for loss in lossdsl.parse(text).values():
            str(loss)
            loss.source("numpy")
            loss.compile("numpy")
    assert not made.exists()
