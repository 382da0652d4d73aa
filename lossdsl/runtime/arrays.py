"""What a caller gives to the NumPy backend, read as arrays of numbers, and whether it is what the declarations promise."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossdsl.errors import LossError
from lossdsl.ir.program import Input

Array = NDArray[Any]


def ready(x: Any) -> bool:
    """Whether an argument is an array of plain values already."""
    return type(x) is np.ndarray and x.dtype.kind != "O"


def as_array(i: Input, x: Any) -> Array:
    """Anything array-like as an array of numbers."""
    a = _read(f"input {i.name!r}", x)
    if a.dtype.kind == "O" and a.size:
        try:
            if any(v is None for v in a.flat):
                raise TypeError
            a = a.astype(np.float64)
        except (ValueError, TypeError, OverflowError):
            raise LossError(f"input {i.name!r} holds values that are no numbers", hint="give an array of numbers") from None
    return a


def _read(what: str, x: Any) -> Array:
    masked = sys.modules.get("numpy.ma")  # which takes long to load; without it there is no masked array
    if masked is not None and isinstance(x, masked.MaskedArray):
        raise LossError(f"{what} is a masked array", hint="give its data, and sample_mask")
    try:
        return np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as e:  # torch raises a RuntimeError for a tensor that requires grad
        raise LossError(f"{what} cannot be read as an array: {e}") from None


def computing_dtype(numbers: Sequence[Array]) -> np.dtype[Any]:
    """The dtype of the computation: that of the floats among the inputs, single for half precision, double if there are none."""
    floats = [x.dtype for x in numbers if x.dtype.kind == "f"]
    if not floats:
        return np.dtype(np.float64)
    return np.dtype(np.float32) if np.result_type(*floats).itemsize <= 4 else np.dtype(np.float64)


def wanted_dtype(i: Input, dtype: np.dtype[Any]) -> np.dtype[Any]:
    return {"number": dtype, "condition": np.dtype(bool)}.get(i.kind.role, np.dtype(np.intp))


def as_mask(mask: Any) -> Array:
    m = _read("sample_mask", mask)
    if m.dtype != bool and not np.isin(m, (0, 1)).all():
        raise LossError("sample_mask holds values that are neither 0 nor 1", hint="a mask is of booleans; a weight goes to sample_weight")
    return m.astype(bool)


_KINDS = {"number": "fiub", "condition": "biu", "class": "iub", "label": "iub"}


def check_dtype(i: Input, dtype: Any, kind: str, integers: str = "astype(int)") -> None:
    """Refuse a dtype that does not fit an input; ``kind`` is NumPy's letter for it."""
    role = i.kind.role
    if kind not in _KINDS[role]:
        if kind == "f":
            hint = f"compare it first: {i.name} > 0" if role == "condition" else f"{i.name}.{integers}"
            what = "booleans" if role == "condition" else "integers"
            raise LossError(f"input {i.name!r} is a {role} and takes {what}, not {dtype}", hint=hint)
        raise LossError(f"input {i.name!r} holds {dtype}, and takes numbers")


def check_condition(i: Input, x: Array) -> None:
    """Refuse numbers that are no conditions."""
    if i.kind.role == "condition" and x.dtype != bool and not np.isin(x, (0, 1)).all():
        raise LossError(f"input {i.name!r} is a condition and holds numbers other than 0 and 1")


def as_weights(weight: Any, dtype: np.dtype[Any]) -> Array:
    w = _read("sample_weight", weight)
    if w.dtype.kind not in "fiub":
        raise LossError("sample_weight holds values that are no numbers")
    if not (w >= 0).all() or not np.isfinite(w).all():
        bad = np.argwhere(~((w >= 0) & np.isfinite(w)))[0]
        raise LossError(f"sample_weight is {w[tuple(bad)]} at {tuple(int(j) for j in bad)}", hint="weights are finite and 0 or above")
    return w.astype(dtype)


def measure(weight: Any, mask: Any, dtype: np.dtype[Any]) -> Array:
    """Weights and a mask, which fit together, as one array of weights."""
    w = as_weights(1 if weight is None else weight, dtype)
    return w if mask is None else np.where(as_mask(mask), w, dtype.type(0))


def present(i: Input, axis: str | None, counted: Array) -> Array:
    """Where an input is looked at: at samples that count, [.., sample], along each of its sample axes."""
    lead = counted.ndim - 1
    out: Array = np.ones((1,) * (lead + len(i.axes)), bool)
    for d, a in enumerate(i.axes):
        if a == axis:
            out = out & counted.reshape(counted.shape[:lead] + (1,) * d + (-1,) + (1,) * (len(i.axes) - d - 1))
    return out


def outside(i: Input, x: Array, sizes: Mapping[str, int]) -> Array:
    """Where an array leaves its input's domain."""
    kind = i.kind
    with np.errstate(invalid="ignore"):
        if kind.role == "condition":
            return np.zeros(x.shape, bool)
        if kind.role == "class":
            bad: Array = (x < 0) | (x >= sizes.get(str(kind.of), np.iinfo(np.intp).max))
            return bad if kind.ignore is None else bad & (x != kind.ignore)
        if kind.role == "label":
            return np.zeros(x.shape, bool)
        d = kind.domain
        low = x > float(d.low) if d.low_open else x >= float(d.low)
        high = x < float(d.high) if d.high_open else x <= float(d.high)
        bad = ~(low & high)
        if kind.integer:
            bad = bad | (x != np.floor(x)) | ((x == 0) if kind.name == "sign" else False)
        if kind.name == "simplex" and not bad.any():
            axis = x.ndim - len(i.axes) + kind.along
            off = np.abs(x.sum(axis=axis, keepdims=True) - 1) > 64 * np.finfo(x.dtype).eps ** 0.5 / 64
            bad = bad | off
        return bad


def domain_text(i: Input, sizes: Mapping[str, int]) -> str:
    if i.kind.role == "class":
        return f"and its classes are 0 to {sizes[str(i.kind.of)] - 1}" if i.kind.of in sizes else "and classes are counted from 0"
    if i.kind.name == "simplex":
        return f"and along {i.kind.of} the entries are nonnegative and sum to 1"
    if i.kind.integer:
        return f"and it is {i.kind.name}: {i.kind.row.doc}"
    return f"outside {i.domain} ({i.kind.name})"
