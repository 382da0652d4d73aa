"""Smooth functions to try losses with: on arrays they give their gradients, on tensors autograd finds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator

from lossdsl.kinds import FunctionKind

_HIDDEN = 8


class Smooth:
    """A small network with one hidden layer of tanh, and at its end what brings the values into the kind's domain."""

    def __init__(self, rng: Generator, kind: FunctionKind, lengths: Mapping[str, int]) -> None:
        self.shape = tuple(lengths[axis] for axis, _ in kind.result.axes)
        self.low, self.high = float(kind.result.domain.low), float(kind.result.domain.high)
        self.simplex = None if kind.result.of is None else 1 + [a for a, _ in kind.result.axes].index(kind.result.of)
        width = sum(math.prod(lengths[a] for a, _ in k.axes) for k in kind.arguments)
        self.first = rng.normal(0, 1 / math.sqrt(max(width, 1)), (width, _HIDDEN))
        self.bias = rng.normal(0, 0.5, _HIDDEN)
        self.last = rng.normal(0, 1 / math.sqrt(_HIDDEN), (_HIDDEN, math.prod(self.shape)))
        self.__name__ = "smooth"

    def __call__(self, *args: Any) -> Any:
        """Values, and on arrays ``(values, gradient)`` or ``(values, (gradient, ..))``."""
        if not isinstance(args[0], np.ndarray):
            return self._on_tensors(*args)
        n = len(args[0])
        flat = np.concatenate([x.reshape(n, -1) for x in args], axis=1)
        hidden = np.tanh(flat @ self.first + self.bias)
        raw = hidden @ self.last
        slope = np.einsum("ih,nh,hr->nri", self.first, 1 - hidden**2, self.last)
        value, slope = self._ended(raw, slope)
        value = value.reshape(n, *self.shape)
        parts, at = [], 0
        for x in args:
            width = math.prod(x.shape[1:])
            parts.append(slope[:, :, at : at + width].reshape(n, *self.shape, *x.shape[1:]))
            at += width
        return value, (parts[0] if len(parts) == 1 else tuple(parts))

    def _ended(self, raw: Any, slope: Any) -> tuple[Any, Any]:
        """Values inside the domain, and their derivatives."""
        if self.simplex is not None:
            shape = (len(raw), *self.shape)
            e = np.exp(raw - raw.max(axis=1, keepdims=True)).reshape(shape)
            p = (e / e.sum(axis=self.simplex, keepdims=True)).reshape(raw.shape)
            mean = (p[..., None] * slope).reshape(*shape, -1).sum(axis=self.simplex, keepdims=True)
            return p, p[..., None] * (slope.reshape(*shape, -1) - mean).reshape(slope.shape)
        if math.isinf(self.low) and math.isinf(self.high):
            return raw, slope
        s = 1 / (1 + np.exp(-raw))
        if not math.isinf(self.low) and not math.isinf(self.high):
            return self.low + (self.high - self.low) * s, (self.high - self.low) * (s * (1 - s))[..., None] * slope
        soft = np.log1p(np.exp(raw))
        return (self.low + soft, s[..., None] * slope) if math.isinf(self.high) else (self.high - soft, -s[..., None] * slope)

    def _on_tensors(self, *args: Any) -> Any:
        n = len(args[0])
        like = next((x for x in args if x.is_floating_point()), args[0].double())
        first, bias, last = (like.new_tensor(w) for w in (self.first, self.bias, self.last))
        at, total = 0, bias
        for x in args:
            width = math.prod(x.shape[1:])
            total = total + x.reshape(n, width).to(like.dtype) @ first[at : at + width]
            at += width
        raw = (total.tanh() @ last).reshape(n, *self.shape)
        if self.simplex is not None:
            return raw.softmax(self.simplex)
        if math.isinf(self.low) and math.isinf(self.high):
            return raw
        if not math.isinf(self.low) and not math.isinf(self.high):
            return self.low + (self.high - self.low) * raw.sigmoid()
        soft = raw.exp().log1p()
        return self.low + soft if math.isinf(self.high) else self.high - soft
