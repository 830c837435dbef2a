"""Polynomials, Chebyshev series, and functions put together from pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Piece: TypeAlias = tuple[Array, Callable[..., Array]]


def polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Return c₀ + c₁x + c₂x² + …, by Horner's rule."""
    y = np.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        y *= x
        y += c
    return y


def chebyshev(coefficients: Sequence[float], x: Array, low: float, high: float) -> Array:
    """Return Σ cₙ·Tₙ(t), where t runs from −1 to 1 as x runs from low to high: Clenshaw's rule."""
    twice = (x - low) * (4 / (high - low)) - 2
    b1, b2 = np.zeros_like(x), np.zeros_like(x)
    for c in coefficients[:0:-1]:
        b2 = twice * b1 - b2
        b2 += c
        b1, b2 = b2, b1
    return twice / 2 * b1 - b2 + coefficients[0]


def piecewise(pieces: Sequence[Piece], *arguments: Array) -> Array:
    """Return f(arguments) where its mask holds, for each (mask, f); NaN where none does.

    Earlier pieces win; each function sees only its own elements.
    """
    y = np.full(np.broadcast_shapes(*(a.shape for a in arguments)), np.nan)
    left = np.ones(y.shape, bool)
    for mask, f in pieces:
        here = mask & left
        if here.all():
            y[...] = f(*arguments)
            break
        if here.any():
            y[here] = f(*(a[here] for a in arguments))
            left &= ~here
    return y


def doubles(*arguments: Array) -> tuple[Array, ...]:
    """Return the arguments as float64 arrays of one shape."""
    return tuple(np.broadcast_arrays(*(np.asarray(a, np.float64) for a in arguments)))
