"""Bugs to plant in the compiler, one at a time, and whether random programs find them.

``python tests/mutants.py NAME [PROGRAMS]`` plants one and tries programs until one disagrees; without a name it lists all. Each runs in a
process of its own, so that nothing it has computed outlives it. A bug is a change of what a module sees: a constructor that forgets
an argument, a table with a wrong entry, a helper that looks the wrong way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from lossdsl.codegen import numpy as numpy_printer
from lossdsl.codegen.printer import LOOSE, TIMES, _Printer
from lossdsl.frontend import bind, lower
from lossdsl.ir import rows, text
from lossdsl.ir.expr import ONE, TRUE, Expr, Index, Range, add, cmp, div, sub
from lossdsl.ir.expr import call as make_call
from lossdsl.ir.expr import open_red as make_open
from lossdsl.ir.expr import red as make_red
from lossdsl.passes import gradient, refine, simplify, stabilise

MUTANTS: dict[str, Callable[[], None]] = {}


def mutant(plant: Callable[[], None]) -> Callable[[], None]:
    MUTANTS[plant.__name__] = plant
    return plant


def see(module: Any, name: str, instead: Any) -> None:
    """What ``module`` calls ``name`` is something else from now on."""
    assert hasattr(module, name), f"{module.__name__} no longer has {name}"
    setattr(module, name, instead)


def replace_rule(owner: type, old: str, new: str) -> None:
    assert old in owner.texts, f"there is no rule {old}"
    owner.texts = owner.texts.replace(old, new)


def replace_helper(name: str, old: str, new: str) -> None:
    assert old in numpy_printer.HELPERS[name], f"the helper {name} no longer says {old}"
    numpy_printer.HELPERS[name] = numpy_printer.HELPERS[name].replace(old, new)


def replace_slopes(change: Callable[[str, tuple[Expr | None, ...]], tuple[Expr | None, ...]]) -> None:
    known = rows.derivative
    see(rows, "derivative", lambda name, args: change(name, known(name, args)))


# -- the gradient ---------------------------------------------------------------------------------------------------------------------------


@mutant
def sign_lost() -> None:
    """The second operand of a difference gets the sign of the first."""
    see(gradient, "neg", lambda a: a)


@mutant
def product_rule_of_one_term() -> None:
    flows = gradient.Reverse._flows

    def first_only(self: Any, e: Expr, term: Any) -> Iterator[Any]:
        found = list(flows(self, e, term))
        return iter(found[:1] if e.op == "mul" else found)

    see(gradient.Reverse, "_flows", first_only)


@mutant
def slope_of_the_wrong_sign() -> None:
    replace_slopes(lambda name, slopes: tuple(gradient.neg(s) for s in slopes if s) if name in ("tanh", "softplus", "cos") else slopes)


@mutant
def slopes_swapped() -> None:
    replace_slopes(lambda name, slopes: slopes[::-1] if len(slopes) == 2 else slopes)


@mutant
def guard_dropped_on_the_way_back() -> None:
    see(gradient, "open_red", lambda e: (*make_open(e)[:2], TRUE))


@mutant
def idle_index_not_counted() -> None:
    see(gradient, "size", lambda axis: ONE)


@mutant
def gather_goes_everywhere() -> None:
    """The equality that brings an adjoint to its place is forgotten."""
    see(gradient, "cmp", lambda op, a, b: TRUE if op == "==" and b.op == "ix" else cmp(op, a, b))


@mutant
def indices_of_one_axis_swapped() -> None:
    known = gradient.canonical

    def swapped(e: Expr) -> tuple[Expr, tuple[Index, ...]]:
        key, slots = known(e)
        return key, slots[::-1] if len({s.axis for s in slots}) == 1 else slots

    see(gradient, "canonical", swapped)


@mutant
def branch_forgets_the_ones_before() -> None:
    see(gradient, "not_", lambda c: TRUE)


@mutant
def stop_lets_the_gradient_through() -> None:
    known = gradient._carries
    replace_slopes(lambda name, slopes: (ONE,) if name == "stop" else slopes)
    see(gradient, "_carries", lambda e, active, wrt: e.args[0] in active if e.op == "call" and e.data == "stop" else known(e, active, wrt))


@mutant
def logsumexp_without_its_softmax() -> None:
    see(gradient, "call", lambda name, *args: ONE if name == "exp" else make_call(name, *args))


@mutant
def ties_not_shared() -> None:
    see(gradient, "red", lambda op, binders, body, guard=TRUE: ONE if op == "sum" and body is ONE else make_red(op, binders, body, guard))


@mutant
def norm_not_divided() -> None:
    see(gradient, "div", lambda a, b: a if b.op == "red" and b.data[0] == "norm" else div(a, b))


@mutant
def exponent_off_by_one() -> None:
    known = gradient.pow_
    see(gradient, "pow_", lambda base, exponent: known(base, add(exponent, ONE)))


@mutant
def shift_leaves_its_axis() -> None:
    see(gradient, "in_range", lambda value, axis: TRUE)


# -- rewriting ------------------------------------------------------------------------------------------------------------------------------


@mutant
def stable_rule_of_the_wrong_sign() -> None:
    replace_rule(stabilise.Stabiliser, "1 - sigmoid(a) -> sigmoid(-a)", "1 - sigmoid(a) -> sigmoid(a)")


@mutant
def fine_rule_off_by_a_factor() -> None:
    replace_rule(refine.Refiner, "1 - exp(a) -> -expm1(a)", "1 - exp(a) -> expm1(a)")


@mutant
def simplifying_drops_guards() -> None:
    see(simplify, "red", lambda op, binders, body, guard=TRUE: make_red(op, binders, body))


# -- the front end --------------------------------------------------------------------------------------------------------------------------


@mutant
def mean_counts_what_its_guard_leaves_out() -> None:
    see(lower, "red", lambda op, binders, body, guard=TRUE: make_red(op, binders, body, TRUE if body is ONE and op == "sum" else guard))


@mutant
def brackets_capture() -> None:
    """The same index is bound by brackets one in another."""
    known = lower.Lowering.binder
    see(lower.Lowering, "binder", lambda self, axis, level, place: known(self, axis, 0, place))


@mutant
def range_without_its_end() -> None:
    see(bind, "Range", lambda low, high: Range(low, sub(high, ONE)))


@mutant
def default_where_something_is_left() -> None:
    known = lower._defaulted
    see(lower, "_defaulted", lambda out, bounds, guard, default: known(out, bounds, TRUE, default))


# -- printing -------------------------------------------------------------------------------------------------------------------------------


@mutant
def text_without_parentheses() -> None:
    known = text._Writer.step

    def loose(self: Any, e: Expr, scope: Any, level: int = text.OR, *rest: Any, **more: Any) -> Any:
        return known(self, e, scope, level - 1 if level == text.PRODUCT else level, *rest, **more)

    see(text._Writer, "step", loose)


@mutant
def code_without_parentheses() -> None:
    known = _Printer._at
    see(_Printer, "_at", lambda self, val, dims, prec=LOOSE: known(self, val, dims, LOOSE if prec == TIMES + 1 else prec))


@mutant
def mask_after_instead_of_before() -> None:
    replace_helper("largest", "select(where, x, -np.inf)", "x*where")


@mutant
def shift_to_the_wrong_side() -> None:
    replace_helper("shift", "step > 0", "step < 0")


@mutant
def scatter_overwrites() -> None:
    replace_helper("scatter", "np.bincount(flat, values, size)", "np.bincount(flat[-1:], values[-1:], size)")


@mutant
def order_downwards() -> None:
    replace_helper("order", "at = x.argsort(", "at = (-x).argsort(")


@mutant
def order_ignores_its_guard() -> None:
    replace_helper("order", "if where is None:", "if True:")


@mutant
def others_with_itself() -> None:
    replace_helper("but_one", "return before*after,", "return before*after*digits,")


@mutant
def product_rule_without_the_guard() -> None:
    known = gradient.others
    see(gradient, "others", lambda binders, body, guard: known(binders, body, TRUE))


def killed(name: str, programs: int) -> str:
    """The first disagreement that a planted bug causes (none, if the name is empty), or nothing."""
    if name:
        MUTANTS[name]()
    from programs import write
    from test_random_programs import Seen, check
    from tools import compile_anew

    compile_anew()
    seen = Seen()
    for i in range(programs):
        case = write(b"mutant" + i.to_bytes(2, "big"), 8 + i % 25)
        try:
            check(case, seen)
        except Exception as error:
            return f"program {i + 1}: {type(error).__name__} {str(error)[:200]}"
    return ""


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join(MUTANTS))
    else:
        print(killed(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200))
