"""Equations in LaTeX: as papers set them, well formed, and understood by a parser of formulas."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from test_text import SPELLINGS, array, derivatives, texts

import lossdsl
from lossdsl.frontend import load_text
from lossdsl.ir.expr import Expr, iverson
from lossdsl.ir.latex import GREEK, latex, symbol

NAMES = lossdsl.library()

SYMBOLS = {
    "f": "f", "delta": r"\delta", "theta_1": r"\theta_{1}", "e_wrong": r"e_{\mathrm{wrong}}", "t12": "t_{12}", "xhat": r"\hat{x}", "sigma_hat": r"\hat{\sigma}", "mubar": r"\bar{\mu}",
    "x_tilde_k": r"\tilde{x}_{k}", "eps": r"\varepsilon", "lam": r"\lambda", "logit": r"\mathrm{logit}", "δ": r"\delta", "Γ": r"\Gamma", "hat": r"\mathrm{hat}", "what": r"\hat{w}", "_": "x",
}  # fmt: skip


@pytest.mark.parametrize("name", SYMBOLS)
def test_names(name: str) -> None:
    assert symbol(name) == SYMBOLS[name]


VALUES = {
    "mse": "(f - y)^{2}",
    "huber": r"\begin{cases} \frac{(f - y)^{2}}{2} & \text{if } |f - y| \leq \delta \\ \delta \left(|f - y| - \frac{\delta}{2}\right) & \text{otherwise} \end{cases}",
    "rmse": r"\sqrt{\frac{1}{|n|} \sum_{n} (f_{n} - y_{n})^{2}}",
    "hinge": r"\max(0, 1 - y \, f)",
    "exponential": r"e^{-y \, f}",
    "logistic": r"\log(1 + e^{-y \, f})",
    "zero_one": r"\mathbf{1}[y \, f \leq 0]",
    "log_loss": r"-\log p_{y}",
    "categorical_cross_entropy": r"\log \sum_{k} e^{s_{k}} - s_{y}",
    "focal": r"-(1 - \operatorname{softmax}(s)_{y})^{\gamma} \, \log \operatorname{softmax}(s)_{y}",
    "kl_divergence": r"\sum_{k} q_{k} \, \log\frac{q_{k}}{p_{k}}",
    "dice": r"1 - \frac{2 \, \sum_{n} p_{n} \, y_{n} + \varepsilon}{\sum_{n} p_{n} + \sum_{n} y_{n} + \varepsilon}",
    "total_variation": r"\sum_{\substack{h, w \\ h + 1 < |h|}} (u_{h + 1, w} - u_{h, w})^{2} + \sum_{\substack{h, w \\ w + 1 < |w|}} (u_{h, w + 1} - u_{h, w})^{2}",
    "triplet": r"[m + \lVert a - p \rVert - \lVert a - n \rVert]_{+}",
    "cosine_similarity": r"1 - \cos(f, y)",
    "nt_xent": r"\frac{1}{|n|} \sum_{i \in n} \left(\log \sum_{j \in n} e^{\cos(u_{i}, v_{j})/\tau} - \frac{\cos(u_{i}, v_{i})}{\tau}\right)",
    "lasso": r"\frac{1}{|n|} \sum_{n} \left(\sum_{d} x_{n, d} \, \theta_{d} - y_{n}\right)^{2} + \lambda \, \sum_{d} |\theta_{d}|",
}  # fmt: skip

GRADIENTS = {
    "mse": r"\frac{\partial \operatorname{mse}}{\partial f} = 2 (f - y)",
    "huber": r"\frac{\partial \operatorname{huber}}{\partial f} = \operatorname{clip}_{[-\delta, \delta]}(f - y)",
    "logistic": r"\frac{\partial \operatorname{logistic}}{\partial f} = -y \, \sigma(-y \, f)",
    "hinge": r"\frac{\partial \operatorname{hinge}}{\partial f} = -y \, \begin{cases} 1 & \text{if } y \, f < 1 \\ \frac{1}{2} & \text{if } y \, f = 1 \\ 0 & \text{if } y \, f > 1 \end{cases}",
    "categorical_cross_entropy": r"\frac{\partial \operatorname{categorical\_cross\_entropy}}{\partial s_{k}} = \operatorname{softmax}(s)_{k} - \mathbf{1}[k = y]",
    "log_loss": r"\frac{\partial \operatorname{log\_loss}}{\partial p_{k}} = -\mathbf{1}[k = y] \frac{1}{p_{y}}",
    "cross_entropy_nll": r"\frac{\partial \operatorname{cross\_entropy\_nll}}{\partial p} = \frac{p - y}{p (1 - p)}",
    "quantile": r"\frac{\partial \operatorname{quantile}}{\partial f} = \begin{cases} -\tau & \text{if } f < y \\ \frac{1}{2} - \tau & \text{if } f = y \\ 1 - \tau & \text{if } f > y \end{cases}",
    "lasso": r"\frac{\partial \operatorname{lasso}}{\partial \theta_{d}} = \lambda \, \operatorname{sign}(\theta_{d}) + \frac{2}{|n|} \sum_{n} x_{n, d} \left(\sum_{d} x_{n, d} \, \theta_{d} - y_{n}\right)",
}  # fmt: skip

OTHERS = {
    "a(x: real) = sin(x)^2*cos(x) + log(x)^2": r"\sin^{2} x \, \cos x + \log^{2} x",
    "a(x: positive, y: real) = 2*log(x)*(1 - y)": r"2 (1 - y) \, \log x",
    "a(x: real) = floor(x/2)^2 + ceil(x) + cbrt(x)": r"\left\lfloor \frac{x}{2}\right\rfloor^{2} + \lceil x\rceil + \sqrt[3]{x}",
    "a(x: real[n]; bins: integer = 3) = sum[b in 0..bins](sum[n](exp(-(x - b)^2)))": r"\sum_{i = 0}^{\mathrm{bins}} \sum_{n} e^{-(x_{n} - i)^{2}}",
    "a(x: real[n], w: nonnegative[n]) = mean[n](x^2, weight = w)": r"\operatorname*{mean}_{\substack{n \\ \text{weight } w_{n}}} (x_{n}^{2})",
    "a(x: real[n], c: label[n]) = sum[i, j in n | c[i] == c[j] and i != j](x[i]*x[j])": r"\sum_{\substack{i, j \in n \\ c_{i} = c_{j}, i \neq j}} x_{i} \, x_{j}",
    "a(x: real[n]) = count[n](x > 0) + (any[n](x > 1))": r"|\{n : x_{n} > 0\}| + \mathbf{1}[\exists_{n} x_{n} > 1]",
    "a(x: real[n, d]) = sum[i, j in n](norm[d](x[i] - x[j]) + norm[d](x[i]*x[j]))": r"\sum_{i, j \in n} \left(\lVert x_{i} - x_{j} \rVert + \sqrt{\sum_{d} (x_{i, d} \, x_{j, d})^{2}}\right)",
    "a(x: real[n]) = max[n | x < 1](x, default = 0)": r"\left(\max_{\substack{n \\ x_{n} < 1}} x_{n} \text{ or } 0 \text{ if empty}\right)",
    "a(x: real, y: real) = exp((x^2 + y^2)/(1 + x^2 + y^2 + x^4 + y^4) + x*y)": r"\exp\left(\frac{x^{2} + y^{2}}{1 + x^{2} + y^{2} + x^{4} + y^{4}} + x \, y\right)",
    "a(x: real) = 3*(x > 0)*x^2 - (x < 0)/x": r"3 \, \mathbf{1}[x > 0] \, x^{2} - \mathbf{1}[x < 0] \frac{1}{x}",
    "a(x: real[n], y: class(n)) = x[y] + x[argmax[n](x)]*x[0]": r"x_{y} + x_{t_{1}} \, x_{0} \\ \text{where } t_{1} = \operatorname*{arg\,max}_{n} (x_{n})",
    "a(x: real[n]) = stop(x[0])*log1p(x[0]) + hypot(x[0], 1) + logsigmoid(x[0])": r"\operatorname{sg}(x_{0}) \, \log(1 + x_{0}) + \sqrt{x_{0}^{2} + 1} + \log \sigma(x_{0})",
    "a(s: logit[n, k], y: class(k)[n]) = mean[n](-log_softmax[k](s)[y])": r"\frac{1}{|n|} \sum_{n} -\log \operatorname{softmax}(s_{n})_{y_{n}}",
    "a(s: real[k]) = prod[k](1 - s) + sum[k](1)": r"\prod_{k} (1 - s_{k}) + |k|",
}  # fmt: skip


def right(tex: str) -> str:
    """The right side; of several lines all, without what aligns them."""
    inside = tex.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}").replace("&", "").replace("\n", " ")
    return inside.split(" = ", 1)[1] if tex.startswith(r"\begin{aligned}") else tex.split(" = ", 1)[1]


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    assert right(lossdsl.load(name).latex()) == VALUES[name]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    assert lossdsl.load(name).grad().latex() == GRADIENTS[name]


@pytest.mark.parametrize("text", OTHERS)
def test_notation(text: str) -> None:
    assert right(lossdsl.parse(text)["a"].latex()) == OTHERS[text]


def test_a_second_derivative() -> None:
    assert (
        lossdsl.load("huber").hess().latex()
        == r"\frac{\partial^{2} \operatorname{huber}}{\partial f^{2}} = \mathbf{1}[|f - y| \leq \delta]"
    )
    assert (
        lossdsl.load("l2").hess().latex()
        == r"\frac{\partial^{2} \operatorname{l2}}{\partial \theta_{d_{1}} \, \partial \theta_{d}} = 2 \, \mathbf{1}[d_{1} = d]"
    )
    assert lossdsl.parse("dx_dy(y: real) = y")["dx_dy"].latex() == r"\frac{\partial \operatorname{x}}{\partial y} = y"
    assert lossdsl.parse("d_dy(y: real) = y")["d_dy"].latex() == r"\operatorname{d\_dy}(y) = y"


def test_locals_follow_the_equation() -> None:
    tex = lossdsl.load("tversky").grad().latex()
    assert tex.startswith("\\begin{aligned}\n") and tex.endswith("\n\\end{aligned}") and tex.count(r"\text{where } t_{1} &= ") == 1


# -- well-formed ----------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\\(?:[A-Za-z]+\*?|.)|[{}^_&]|\s+|[^\\{}^_&\s]+")


class Malformed(Exception):
    pass


def check(tex: str) -> None:
    """Braces, environments and fences are balanced, nothing has two subscripts or two exponents, and every command is known."""
    tokens = [t for t in TOKEN.findall(tex) if not t.isspace()]
    stack: list[str] = []
    scripts: list[set[str]] = [set()]
    k = 0
    while k < len(tokens):
        t = tokens[k]
        k += 1
        if t in "^_" and len(t) == 1:
            if t in scripts[-1]:
                raise Malformed(f"two {t} at {' '.join(tokens[max(0, k - 12) : k])}")
            scripts[-1].add(t)
            if tokens[k : k + 1] == ["{"]:
                stack.append("{script")
                scripts.append(set())
                k += 1
            continue
        if t == "}":
            opened = stack.pop() if stack else ""
            if not opened.startswith("{"):
                raise Malformed(f"}} closes {opened!r}")
            scripts.pop()
            if opened == "{":
                scripts[-1] = set()
            continue
        scripts[-1] = set()
        if t == "{":
            stack.append("{")
            scripts.append(set())
        elif t in (r"\begin", r"\end"):
            name, k = "".join(tokens[k : k + 3]), k + 3
            if t == r"\begin":
                stack.append(name)
            elif not stack or stack.pop() != name:
                raise Malformed(f"{name} ends what it did not begin")
        elif t == r"\left":
            stack.append(r"\left")
        elif t == r"\right" and (not stack or stack.pop() != r"\left"):
            raise Malformed("a fence closes what is not open")
        elif t == "&" and not any(s in ("{cases}", "{aligned}") for s in stack):
            raise Malformed("& outside of an environment")
        elif t.startswith("\\") and t not in KNOWN:
            raise Malformed(f"unknown {t}")
        elif t[0] != "\\" and ("*" in t or "~" in t):
            raise Malformed(f"{t} is no mathematics")
    if stack:
        raise Malformed(f"open: {stack}")


KNOWN = {
    *(rf"\{c}" for c in "{}|,_\\ "), r"\frac", r"\sqrt", r"\sum", r"\prod", r"\max", r"\min", r"\log", r"\exp", r"\operatorname", r"\operatorname*", r"\mathrm", r"\mathbf", r"\text",
    r"\substack", r"\partial", r"\lVert", r"\rVert", r"\lfloor", r"\rfloor", r"\lceil", r"\rceil", r"\leq", r"\geq", r"\neq", r"\wedge", r"\vee", r"\neg", r"\exists", r"\forall", r"\in",
    r"\infty", r"\cdot", r"\ldots", r"\hat", r"\bar", r"\tilde", r"\varepsilon", r"\varsigma", r"\downarrow", r"\arcsin", r"\arccos", r"\arctan", r"\sin", r"\cos", r"\tan", r"\sinh",
    r"\cosh", r"\tanh", r"\left", r"\right", r"\nabla",
} | {rf"\{name}" for name in GREEK}  # fmt: skip


@pytest.mark.parametrize(
    "wrong", ["{", "x_{a}_{b}", r"\left(x", r"\begin{cases} x \end{aligned}", "a & b", r"\foo", "a*b", "x^{2}^{3}", "}"]
)
def test_what_is_malformed_is_noticed(wrong: str) -> None:
    with pytest.raises(Malformed):
        check(wrong)


def rows(tex: str) -> Iterator[str]:
    """Single formulas in the language of matplotlib, which has neither environments nor lines one below the other."""
    inside = tex.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}")
    for row in inside.split(" \\\\\n"):
        plain = row.replace("&=", "=").replace(r"\begin{cases}", r"\{ ").replace(r"\end{cases}", " ").replace("&", ",")
        plain = (
            plain.replace(r"\substack", "").replace(r" \\ ", r",\ ").replace(r"\operatorname*", r"\operatorname").replace(r"arg\,m", "argm")
        )
        plain = (
            plain.replace(r"\left\lVert", r"\left\|")
            .replace(r"\right \rVert", r"\right\|")
            .replace(r"\lVert", r"\|")
            .replace(r"\rVert", r"\|")
        )
        yield re.sub(r"\\text\{([^}]*)\}", lambda m: r"\mathrm{" + m[1].strip().replace(" ", r"\ ") + "}", plain)


def check_all(tex: str) -> None:
    check(tex)
    mathtext = pytest.importorskip("matplotlib.mathtext")
    for row in rows(tex):
        mathtext.MathTextParser("path").parse(f"${row}$")


@pytest.mark.parametrize("name", NAMES)
def test_the_library_is_well_formed(name: str) -> None:
    loss = lossdsl.load(name)
    check_all(loss.latex())
    check_all(loss.grad().latex())
    if name not in ("supervised_contrastive", "nt_xent"):
        check_all(loss.hess().latex())


@pytest.mark.parametrize(("e", "spelled"), SPELLINGS, ids=[s for _, s in SPELLINGS])
def test_every_spelling_is_well_formed(e: Expr, spelled: str) -> None:
    if e.op in ("cmp", "and", "or", "not") or (e.op == "red" and e.data[0] == "any"):
        e = iverson(e)
    check_all(latex(array("g", (), (), e)))


@pytest.mark.parametrize("text", texts(), ids=str)
def test_every_text_is_well_formed(text: str) -> None:
    for p in load_text(text).values():
        check(latex(p))
        for q in derivatives(p):
            check(latex(q))
