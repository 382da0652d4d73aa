"""Whether an expression is NaN where an index is none: what reads an array there is, and arithmetic passes that on."""

from __future__ import annotations

from collections.abc import Mapping

from lossdsl.ir.expr import TRUE, ZERO, Expr, Index, Range, fold, is_condition

# Functions and powers in which a number may win over NaN.
_LOSES = ("mul0", "xlogy", "xlogdiv", "pow")


def strict(e: Expr, index: Index) -> bool:
    """Whether the value is surely NaN where the index has no position."""
    return strict_parts(e, index)[e]


def strict_parts(e: Expr, index: Index) -> Mapping[Expr, bool]:
    """The same for every node of an expression."""

    def visit(x: Expr, args: list[bool]) -> bool:
        match x.op:
            case "ix":
                return bool(x.data == index)
            case "pw":
                return all((*args[:-1:2], args[-1]))
            case "red" if isinstance(x.data[0], str) and x.data[0] != "argsort":
                return args[0] and x.args[1] is TRUE and not any(isinstance(b.axis, Range) for b in x.data[1])
            case "pow":
                return args[0] and x.args[1].op == "num" and x.args[1] is not ZERO
            case "red" | "iverson":
                return False
            case "call" if x.data in _LOSES:
                return False
        return any(args) and not is_condition(x)

    return fold([e], visit)
