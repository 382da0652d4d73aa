"""What things are called elsewhere, and how they are written here."""

from __future__ import annotations

_PIECES = "write piecewise(a if condition, b otherwise)"

NAMES = {
    "e": "write exp(x) for e^x",
    "E": "write exp(x) for e^x",
    "Inf": "write inf",
    "infinity": "write inf",
    "nan": "write piecewise(0 if 1 < 0)",
    "NaN": "write piecewise(0 if 1 < 0)",
    "Pi": "write pi",
    "True": "write a comparison",
    "False": "write a comparison",
    "true": "write a comparison",
    "false": "write a comparison",
    "None": "leave it out",
}

FUNCTIONS = {
    "ln": "write log(x)",
    "arctan": "write atan(x)",
    "arcsin": "write asin(x)",
    "arccos": "write acos(x)",
    "power": "write x^y",
    "square": "write x^2",
    "maximum": "write max(a, b)",
    "minimum": "write min(a, b)",
    "where": _PIECES,
    "if": _PIECES,
    "average": "write mean[n](x)",
    "total": "write sum[n](x)",
    "len": "write size(n)",
    "detach": "write stop(x)",
    "stop_gradient": "write stop(x)",
    "round": "write floor(x + 1/2)",
    "heaviside": "write (x > 0)",
    "sorted": "write sort[n](x), or sort[n](x, order = descending)",
    "median": "write sort[n](x)[floor((size(n) - 1)/2)]",
    "percentile": "write sort[n](x)[floor(q*(size(n) - 1))]",
    "topk": "write sort[n](x, order = descending)[i] for i < k",
    "cumprod": "write prod[j in n | j <= i](x[j])",
    "cummax": "write max[j in n | j <= i](x[j])",
}

KINDS = {
    "float": "write real",
    "double": "write real",
    "number": "write real",
    "complex": "write real",
    "int": "write integer",
    "boolean": "write bool, or binary for 0 and 1 as numbers",
    "probability": "write prob for (0, 1), unit for [0, 1]",
    "nonneg": "write nonnegative",
    "pos": "write positive",
    "negative": "write real in (-inf, 0)",
    "array": "write real[n]",
    "vector": "write real[n]",
    "tensor": "write real[n, d]",
    "matrix": "write real[n, d]",
    "categorical": "write class(k)",
    "str": "write label",
}

OPEN = "~open"  # said of a function that is left to be given when the loss is called, whatever its default is
