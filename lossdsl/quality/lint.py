"""What is legal and suspicious: the table of warnings, and how they are turned off.

A comment ``# lossdsl: ignore unused-index, jump: it is a metric`` turns warnings off in the definition that it belongs to: the
one it stands in, or the next one if it stands alone in column 0. What follows a second colon is for the reader.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossdsl.errors import LossError, Source, Span, did_you_mean
from lossdsl.frontend.comments import count_above, places, without_comments
from lossdsl.frontend.files import clean
from lossdsl.frontend.parse import chunks
from lossdsl.frontend.remarks import Remark
from lossdsl.frontend.watch import watched
from lossdsl.ir.program import Program
from lossdsl.quality import suspicions
from lossdsl.quality.subject import Subject
from lossdsl.quality.suspicions import Find, said

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lint:
    """One warning: its name, what finds it, why it is given, and what to do.

    ``fires`` is a definition with it, and ``silent`` one without it that is as near as possible. One that is ``strict`` is given
    only if it is asked for.
    """

    name: str
    find: Find
    reason: str
    fix: str
    fires: str
    silent: str
    strict: bool = False


_ROWS = (
    # -- names
    Lint(
        "unused-index", said("unused-index"),
        "a new index that nothing uses only repeats the same value",
        "leave it out, or use it",
        "a(x: real[n]) = sum[i, j in n](x[i]^2)",
        "a(x: real[n]) = sum[i, j in n]((x[i] - x[j])^2)",
    ),
    Lint(
        "unused-axis", suspicions.unused_axis,
        "what a reduction runs over is the same at every index, so it only counts the axis",
        "leave the axis out, or use it",
        "a(x: real[n], b) = sum[n](x^2)*mean[n](b^2)",
        "a(x: real[n], b) = sum[n](x^2)*mean[n](x^2*b^2)",
    ),
    Lint(
        "unused-local", said("unused-local"),
        "a local that nothing uses is a slip or left over",
        "leave it out, or use it",
        "a(f, y) = (f - y)^2 where u = f",
        "a(f, y) = (u - y)^2 where u = f",
    ),
    Lint(
        "unused-parameter", said("unused-parameter"),
        "an input or hyper-parameter that the equation does not use is a slip or left over",
        "leave it out, or use it",
        "a(f, y; c = 1) = f^2 - y",
        "a(f, y; c = 1) = c*f^2 - y",
    ),
    Lint(
        "unused-definition", suspicions.unused_definition,
        "a private definition that its file does not use cannot be used elsewhere",
        "leave it out, or use it",
        "_b(x) = x^2\na(x) = abs(x)",
        "_b(x) = x^2\na(x) = _b(x)",
    ),
    Lint(
        "index-leaves-axis", said("index-leaves-axis"),
        "an index outside of its axis gives NaN",
        "guard it",
        "a(x: real[n]) = sum[n](x[n + 1]^2)",
        "a(x: real[n]) = sum[n | n + 1 < size(n)](x[n + 1]^2)",
    ),
    Lint(
        "class-outside-axis", suspicions.class_outside_axis,
        "a class is counted from 0, and a comparison with another number never holds",
        "compare it with a class, or declare the one that is left out: class(k, ignore = -1)",
        "a(s: logit[k], y: class(k)) = (y != -1)*s[y]^2",
        "a(s: logit[k], y: class(k)) = (y != 0)*s[y]^2",
    ),
    # -- gradients
    Lint(
        "wrt-without-effect", suspicions.wrt_without_effect,
        "stop(..) lets no derivative through",
        "leave the name out of wrt, or the stop out",
        "a(f, y) = (stop(f) - y)^2\n  wrt f",
        "a(f, y) = (stop(f) - y)^2\n  wrt y",
    ),
    Lint(
        "zero-gradient", suspicions.zero_gradient,
        "a gradient that is 0 almost everywhere trains nothing",
        "take a surrogate that has slopes, or use it as a metric only",
        "a(f: real, y: sign) = (sign(f) - y)^2",
        "a(f: real, y: sign) = (tanh(f) - y)^2",
    ),
    Lint(
        "unbounded-below", suspicions.unbounded_below,
        "what has no lower bound has no minimum",
        "bound it, or square it; a score to maximise has its sign changed",
        "a(f, y) = f - y",
        "a(f, y) = (f - y)^2",
    ),
    Lint(
        "jump", suspicions.jump,
        "where the pieces of a loss do not meet, it is not continuous",
        "make the values of the pieces agree where they meet",
        "a(f, y) = piecewise(r^2 if abs(r) <= 2, 2*abs(r) - 1 otherwise) where r = f - y",
        "a(f, y) = piecewise(r^2 if abs(r) <= 2, 4*abs(r) - 4 otherwise) where r = f - y",
    ),
    # -- conditions
    Lint(
        "one-minus-condition", said("one-minus-condition"),
        "1 - t for a condition t",
        "write not t where a condition is meant",
        "a(x) = (1 - (x > 0))*x^2",
        "a(x) = (not x > 0)*x^2",
    ),
    Lint(
        "never-holds", suspicions.never_holds,
        "a condition that no admissible input meets",
        "correct it, or leave it out",
        "a(x) = (x^2 < 0)*x^2",
        "a(x) = (x^2 < 1)*x^2",
    ),
    Lint(
        "always-holds", suspicions.always_holds,
        "a condition that every admissible input meets",
        "correct it, or leave it out",
        "a(x; c: positive = 1) = piecewise(x^2 if c > 0, 0 otherwise)",
        "a(x; c: nonnegative = 1) = piecewise(x^2 if c > 0, 0 otherwise)",
    ),
    Lint(
        "real-equality", suspicions.real_equality,
        "two real numbers are equal by accident only, and rounding decides",
        "compare with a tolerance: abs(a - b) <= eps",
        "a(f, y) = (f != y)*(f - y)^2",
        "a(f, y: integer) = (floor(f) != y)*(f - y)^2",
    ),
    # -- pieces
    Lint(
        "branch-never-taken", suspicions.branch_never_taken,
        "branches are tried in order, and earlier ones take all that this one would",
        "put the narrower condition first",
        "a(x) = piecewise(x^2 if x < 1, x^3 if x < 0, x otherwise)",
        "a(x) = piecewise(x^3 if x < 0, x^2 if x < 1, x otherwise)",
    ),
    Lint(
        "branch-without-effect", suspicions.branch_without_effect,
        "the last branch has the same value as what is taken otherwise",
        "leave it out, or correct it",
        "a(x) = piecewise(x^2 if x < 1, 2*x - 1 if x < 2, 2*x - 1 otherwise)",
        "a(x) = piecewise(x^2 if x < 1, 2*x - 1 if x < 2, 3 otherwise)",
    ),
    Lint(
        "piecewise-gap", suspicions.piecewise_gap,
        "where no condition holds, piecewise is NaN",
        "write `otherwise` in place of the last condition",
        "a(x) = piecewise(x^2 if x > 0, -x if x < 0)",
        "a(x) = piecewise(x^2 if x > 0, -x if x <= 0)",
    ),
    # -- arithmetic
    Lint(
        "same-operands", suspicions.same_operands,
        "both sides of an operator are the same",
        "correct one of them",
        "a(f, y) = (f - f)^2 + y^2",
        "a(f, y) = (f - y)^2 + y^2",
    ),
    Lint(
        "no-effect", suspicions.no_effect,
        "a function whose argument is already what it would make of it",
        "leave it out, or correct its argument",
        "a(f, y) = max(0, (f - y)^2)",
        "a(f, y) = max(0, (f - y)^2 - 1)",
    ),
    Lint(
        "squashed-twice", suspicions.squashed_twice,
        "a sigmoid or softmax of a probability, where a logit is meant",
        "give it the logit",
        "a(s: logit[k], y: class(k)) = -log_softmax[k](softmax[k](s))[y]",
        "a(s: logit[k], y: class(k)) = -log_softmax[k](s)[y]",
    ),
    Lint(
        "log-of-unit", suspicions.log_of_unit,
        "a number in [0, 1] may be 0, where the logarithm is -inf",
        "declare it as prob if it is never 0, or clip it",
        "a(p: unit) = -log(1 - p)",
        "a(p: prob) = -log(1 - p)",
    ),
    Lint(
        "unexpanded-log", suspicions.unexpanded_log,
        "t*(log(t) - q) is NaN at t = 0: only a product with the logarithm itself is 0 there",
        "write t*log(t) - t*q",
        "a(p: simplex[k], q: real[k]) = sum[k](p*(log(p) - q))",
        "a(p: simplex[k], q: real[k]) = sum[k](p*log(p) - p*q)",
    ),
    Lint(
        "zero-over-zero", suspicions.zero_over_zero,
        "a quotient that is 0/0 for a perfect prediction is NaN there",
        "add a positive number below, or choose by piecewise",
        "a(f: real[d], y: real[d]) = sum[d]((f - y)^2)/norm[d](f - y)",
        "a(f: real[d], y: real[d]) = sum[d]((f - y)^2)/(1 + norm[d](f - y))",
    ),
    Lint(
        "outside-domain", suspicions.outside_domain,
        "an admissible input at which a function has no value, so that the loss is NaN",
        "declare the narrower kind, positive or real in [-1, 1], or take abs(x)",
        "a(f, y: positive) = (log(f) - log(y))^2",
        "a(f: positive, y: positive) = (log(f) - log(y))^2",
    ),
    Lint(
        "binary-as-mask", suspicions.binary_as_mask,
        "a number 0 does not hide what is infinite or NaN, a condition does",
        "write (m == 1)*..",
        "a(f, y, m: binary) = m*((f - y)/y)^2",
        "a(f, y, m: binary) = (m == 1)*((f - y)/y)^2",
    ),
    Lint(
        "eps-only-below", suspicions.eps_only_below,
        "1 - a/(b + eps) is 1 where a and b are 0, which is a perfect match",
        "add it above too: 1 - (a + eps)/(b + eps)",
        "a(p: unit[n], y: unit[n]; eps: positive = 1) = 1 - 2*sum[n](p*y)/(sum[n](p) + sum[n](y) + eps)",
        "a(p: unit[n], y: unit[n]; eps: positive = 1) = 1 - (2*sum[n](p*y) + eps)/(sum[n](p) + sum[n](y) + eps)",
    ),
    # -- samples and pairs
    Lint(
        "summed-samples", suspicions.summed_samples,
        "a sum over the samples grows with their number, and with it the step of an optimiser",
        "take the mean",
        "a(f: real[n], y: real[n]) = sum[n]((f - y)^2)\n  batch n",
        "a(f: real[n], y: real[n]) = mean[n]((f - y)^2)\n  batch n",
    ),
    Lint(
        "term-without-samples", suspicions.term_without_samples,
        "a penalty beside the loss of one sample is counted once for each sample",
        "declare the samples: f: real[n], with mean[n](..) and `batch n`",
        "a(f, y, w: real[d]) = (f - y)^2 + sum[d](w^2)",
        "a(f: real[n], y: real[n], w: real[d]) = mean[n]((f - y)^2) + sum[d](w^2)\n  batch n",
    ),
    Lint(
        "pairs-with-themselves", suspicions.pairs_with_themselves,
        "an element's distance to itself is 0 and makes the mean smaller",
        "guard it: | i != j",
        "a(x: real[n, d]) = mean[i, j in n](sqdist(x[i], x[j]))",
        "a(x: real[n, d]) = mean[i, j in n | i != j](sqdist(x[i], x[j]))",
    ),
    # -- comments
    Lint(
        "needless-ignore", suspicions.nothing,
        "a comment that turns off what is not there hides what comes later",
        "leave the name out",
        "# lossdsl: ignore jump\na(f, y) = (f - y)^2",
        "# lossdsl: ignore unbounded-below: a score\na(f, y) = f - y",
    ),
    # -- what a published loss has
    Lint(
        "missing-doc", suspicions.missing_doc,
        "who meets a loss wants to know what it is",
        'write """One sentence.""" above it',
        "a(f, y) = (f - y)^2",
        '"""Squared error."""\na(f, y) = (f - y)^2',
        strict=True,
    ),
    Lint(
        "missing-source", suspicions.missing_source,
        "who uses a loss wants to know where it is from",
        'write source "Author (year), title"',
        "a(f, y) = (f - y)^2",
        'a(f, y) = (f - y)^2\n  source "Legendre (1805)"',
        strict=True,
    ),
    Lint(
        "missing-wrt", suspicions.missing_wrt,
        "what a loss is differentiated by is then its first input",
        "write wrt f",
        "a(f, y) = (f - y)^2",
        "a(f, y) = (f - y)^2\n  wrt f",
        strict=True,
    ),
)  # fmt: skip

LINTS: dict[str, Lint] = {row.name: row for row in _ROWS}


def lint(
    text: str,
    origin: str = "<text>",
    folders: Sequence[Path] = (),
    *,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    strict: bool = False,
) -> tuple[dict[str, Program], list[Remark]]:
    """The programs of a text, and what is suspicious in it.

    ``select`` names the only warnings to give, ``ignore`` those not to give; ``strict`` adds the strict ones. Raises
    ``LossError`` for a mistake in the text, and for a name that is no warning's.
    """
    for name in (*select, *ignore):
        check_name(name)
    wanted = [n for n, row in LINTS.items() if n not in ignore and (n in select or (not select and (strict or not row.strict)))]
    programs, definitions = watched(text, origin, folders)
    source = Source(clean(text), origin)
    told = _ignored(source)
    needless = told.get(len(source.text), [])  # no definition follows these
    remarks: list[Remark] = []
    for d in definitions:
        subject, off = Subject(d), told.get(d.definition.base, [])
        silenced = {name for name, _ in off}
        for name in wanted:
            remarks += [] if name in silenced else _remarks(LINTS[name], subject)
        if NEEDLESS in wanted and NEEDLESS not in silenced:
            needless += [(name, span) for name, span in off if not _remarks(LINTS[name], subject)]
    if NEEDLESS in wanted:
        remarks += [
            Remark(NEEDLESS, f"there is no '{name}' here to turn off", LINTS[NEEDLESS].fix, span, source) for name, span in needless
        ]
    return programs, sorted(remarks, key=lambda r: r.span.start)


NEEDLESS = "needless-ignore"


def check_name(name: str, span: Span | None = None, source: Source | None = None) -> None:
    """Refuse a name that is no warning's."""
    if name not in LINTS:
        hint = did_you_mean(name, LINTS) or "lossdsl check --list-warnings lists them"
        raise LossError(f"there is no warning '{name[:60]}'", span=span, source=source, hint=hint)


def _remarks(row: Lint, subject: Subject) -> list[Remark]:
    base, source = subject.definition.base, subject.watched.source
    subject.spent = 0
    found = dict.fromkeys(row.find(subject))
    return [Remark(row.name, f.message, f.hint or row.fix, Span(base + f.span.start, base + f.span.end), source) for f in found]


# -- comments that turn warnings off ----------------------------------------------------------------------------------

_TOLD = re.compile(r"#\s*lossdsl:\s*")
_IGNORE = re.compile(r"ignore\s+([\w-]+(?:\s*,\s*[\w-]+)*)\s*(?::.*)?\Z")
_NAME = re.compile(r"[\w-]+")


def _ignored(source: Source) -> dict[int, list[tuple[str, Span]]]:
    """The warnings that comments turn off, by where the definition starts that they belong to."""
    text = source.text
    out: dict[int, list[tuple[str, Span]]] = {}
    end, before = 0, -1
    for start, stop in [*chunks(source), (len(text), len(text))]:
        between = places(text, end, start)
        split = count_above(text, end, [at for at, _ in between])
        end = start + len(without_comments(text[start:stop]).rstrip())
        for owner, comments in ((before, between[:split]), (start, [*between[split:], *places(text, start, end)])):
            for at, comment in comments:
                out.setdefault(owner, []).extend(_names(source, at, comment))
        before = start
    return out


def _names(source: Source, place: int, comment: str) -> list[tuple[str, Span]]:
    """The names in a comment that is meant for this program, and where they stand."""
    told = _TOLD.match(comment)
    if told is None:
        return []
    m = _IGNORE.match(comment, told.end())
    if m is None:
        span = Span(place, place + len(comment))
        raise LossError("this comment turns nothing off", span=span, source=source, hint="write # lossdsl: ignore NAME, NAME: why")
    out = []
    for name in _NAME.finditer(comment, *m.span(1)):
        span = Span(place + name.start(), place + name.end())
        check_name(name[0], span, source)
        out.append((name[0], span))
    return out
