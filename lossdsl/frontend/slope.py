"""``grad[x](g)``: the gradient of a number by an array, as a part of an equation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from lossdsl.errors import listed
from lossdsl.frontend import syntax
from lossdsl.frontend.bind import Scope
from lossdsl.frontend.steps import Steps
from lossdsl.frontend.values import Array, IndexName, Term, value
from lossdsl.ir.applied import replaced, slope, variable
from lossdsl.ir.expr import Expr, Index, fold, fresh, ix, ref, references, substitute
from lossdsl.ir.rows import derivative

if TYPE_CHECKING:
    from lossdsl.frontend.lower import Lowering

HOW = "write grad[x](g): the gradient of the number g by x"


def gradient_call(lowering: Lowering, node: syntax.Call, bracket: syntax.Bracket | None, scope: Scope) -> Steps[Array]:
    """The gradient, an array with the axes of the name that it is taken by.

    Of an input or a hyper-parameter every use counts, in locals too. A local or a parameter of a local function is taken as a
    variable of its own: what is made of it changes with it, what it is made of does not.
    """
    name = checked(lowering, node, bracket)
    body, temporary = node.args[0], variable()
    given = scope.names.get(name.id)
    known = lowering.names.get(name.id)
    g: Term
    if isinstance(given, Array):
        array = given
        check_variable(lowering, name, array)
        inner = scope.child()
        inner.names[name.id] = stand_in(lowering, array, temporary)
        g = yield lowering.number(body, inner)
    elif given is None and isinstance(known, Array):
        array = known
        check_variable(lowering, name, array)
        g = yield lowering.number(body, scope)
        g = value(replaced(g.number, array.term.expr.data, lambda places: ref(temporary, places)), g.sort)
    elif given is None and known is not None:
        array = yield lowering.array_of(known)
        check_variable(lowering, name, array)
        g = yield lowering.apart({name.id: stand_in(lowering, array, temporary)}, body, scope)
    else:
        no_variable(lowering, name, scope)
    check_number(lowering, body, g)
    if temporary not in references([g.expr]):
        hint = "differentiate by a name that it is made of; a local counts as a variable of its own"
        lowering.fail(f"what is differentiated does not depend on '{name.id}'", body.span, hint)
    if not moves(g.expr, temporary):
        message = f"what is differentiated by '{name.id}' changes only in jumps: its gradient is 0"
        lowering.remark("zero-gradient", message, body.span, "leave it out, or differentiate something smooth")
    indices = positions(lowering, array)
    axes = {s.index: lowering.axes[s.axis or ""] for s in array.slots or ()}
    formals = [fresh(axes.get(i, i.axis)) for i in indices]
    (at,) = substitute((array.term.number,), {i: ix(f) for i, f in zip(indices, formals, strict=True)})
    out = slope(temporary, formals, g.expr, at, [ix(i) for i in indices])
    lowering.check_work(node.span)
    return Array(value(out), array.slots)


def checked(lowering: Lowering, node: syntax.Call, bracket: syntax.Bracket | None) -> syntax.Name:
    """The name in the bracket."""
    if bracket is None:
        lowering.fail("'grad' stands without a bracket", node.function.span, HOW)
    if bracket.guard is not None:
        lowering.fail("'grad' takes no guard", bracket.guard.span, HOW)
    if len(node.args) != 1 or node.keywords:
        lowering.fail(f"'grad' takes one argument, not {len(node.args) + len(node.keywords)}", node.span, HOW)
    if len(bracket.items) != 1:
        lowering.fail("'grad' is taken by one name", bracket.span, "write one for each: grad[x](g), grad[y](g)")
    (name,) = bracket.items
    if not isinstance(name, syntax.Name):
        lowering.fail("'grad' is taken by a name", name.span, "give what it is taken by a name in `where`: u = .., then grad[u](g)")
    return name


def no_variable(lowering: Lowering, name: syntax.Name, scope: Scope) -> NoReturn:
    """A name that no gradient is taken by."""
    hint = "a gradient is taken by an input, a hyper-parameter or a local"
    if isinstance(scope.names.get(name.id), IndexName):
        lowering.fail(f"'{name.id}' is an index", name.span, hint)
    if name.id in lowering.axes:
        lowering.fail(f"'{name.id}' is an axis", name.span, hint)
    if name.id in lowering.signature.standing:
        spelled = {"r": "f - y", "z": "y*f"}[name.id]
        lowering.fail(f"'{name.id}' is {spelled}, no input", name.span, "write grad[f](..)")
    lowering.lookup(name, scope)
    lowering.fail(f"no gradient is taken by '{name.id}'", name.span, hint)


def check_variable(lowering: Lowering, name: syntax.Name, array: Array) -> None:
    sort = array.term.sort
    if sort.role != "number":
        lowering.fail(f"'{name.id}' is a {sort.role}, which has no gradient", name.span, "a gradient is taken by real numbers")
    unknown = next((s.name for s in array.slots or () if s.axis is None), None)
    if unknown is not None:
        hint = f"say it in the head: {name.id}[{unknown} in n] = .."
        lowering.fail(f"the axis of the index '{unknown}' of '{name.id}' is not known", name.span, hint)


def check_number(lowering: Lowering, node: syntax.Node, g: Term) -> None:
    if g.sort.role == "condition":
        lowering.fail("a condition has no gradient", node.span, "grad takes a number")
    kept = {o.name for o in lowering.signature.outputs}
    left = [str(i.tag) for i in lowering.own_axes(g.expr.free) if i.tag not in kept]
    if left:
        axes, names = "the axis" if len(left) == 1 else "the axes", ", ".join(left)
        hint = f"reduce it, grad[..](sum[{names}](..)), or bind it around grad, in a local G[{names}] = grad[..](..)"
        lowering.fail(f"grad takes a number, and this depends on {axes} {listed(left)}", node.span, hint)


def moves(g: Expr, name: str) -> bool:
    """Whether a derivative by a name may flow: not through conditions, counts, positions and functions that jump."""

    def visit(e: Expr, args: list[bool]) -> bool:
        match e.op:
            case "ref":
                return bool(e.data == name)
            case "pw":
                return any((*args[:-1:2], args[-1]))
            case "red" if e.data[0] in ("any", "argmax", "argmin", "argsort"):
                return False
            case "red" if isinstance(e.data[0], str):
                return args[0]
            case "iverson" | "cmp" | "and" | "or" | "not":
                return False
            case "call":
                slopes = derivative(e.data, e.args)
                return any(a and s is not None for a, s in zip(args, slopes, strict=True))
        return any(args)

    return fold([g], visit)[g]


def positions(lowering: Lowering, array: Array) -> list[Index]:
    """The indices that an array is over: those of its slots, then the axes that it leaves implicit."""
    slots = [s.index for s in array.slots or ()]
    return [*slots, *(i for i in lowering.own_axes(array.term.expr.free) if i not in slots)]


def stand_in(lowering: Lowering, array: Array, temporary: str) -> Array:
    """A variable of the shape of an array."""
    return Array(value(ref(temporary, [ix(i) for i in positions(lowering, array)]), array.term.sort), array.slots)
