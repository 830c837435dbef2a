"""Orthogonal polynomials and their derivatives, by their recurrences (DLMF 18.9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from .series import Array, doubles

Rule: TypeAlias = Callable[[int], tuple[float, float, float]]


class Family(NamedTuple):
    """p₀ = 1, p₁ = slope·x + start, pₖ₊₁ = (A·x + B)·pₖ − C·pₖ₋₁ with (A, B, C) = rule(k)."""

    slope: float
    start: float
    rule: Rule


def _chebyshev(k: int) -> tuple[float, float, float]:
    return 2.0, 0.0, 1.0


def _shifted(k: int) -> tuple[float, float, float]:
    return 4.0, -2.0, 1.0


def _laguerre(k: int) -> tuple[float, float, float]:
    return -1 / (k + 1), (2 * k + 1) / (k + 1), k / (k + 1)


def _legendre(k: int) -> tuple[float, float, float]:
    return (2 * k + 1) / (k + 1), 0.0, k / (k + 1)


FAMILIES = {
    "chebyshev_polynomial_t": Family(1, 0, _chebyshev),
    "chebyshev_polynomial_u": Family(2, 0, _chebyshev),
    "chebyshev_polynomial_v": Family(2, -1, _chebyshev),
    "chebyshev_polynomial_w": Family(2, 1, _chebyshev),
    "shifted_chebyshev_polynomial_t": Family(2, -1, _shifted),
    "shifted_chebyshev_polynomial_u": Family(4, -2, _shifted),
    "shifted_chebyshev_polynomial_v": Family(4, -3, _shifted),
    "shifted_chebyshev_polynomial_w": Family(4, -1, _shifted),
    "hermite_polynomial_h": Family(2, 0, lambda k: (2.0, 0.0, 2.0 * k)),
    "hermite_polynomial_he": Family(1, 0, lambda k: (1.0, 0.0, float(k))),
    "laguerre_polynomial_l": Family(-1, 1, _laguerre),
    "legendre_polynomial_p": Family(1, 0, _legendre),
}


def orthogonal(family: str, derivative: int, x: Array, n: Array) -> Array:
    """Return the derivative of the polynomial of degree ⌊n⌋; 0 for negative degrees."""
    slope, start, rule = FAMILIES[family]
    x, n = doubles(x, n)
    degree = np.trunc(n)
    before, now = [np.zeros_like(x)] * (derivative + 1), [np.zeros_like(x)] * (derivative + 1)
    before[0], now[0] = np.ones_like(x), slope * x + start
    if derivative:
        now[1] = np.full_like(x, slope)
    y = np.where(degree == 0, before[-1], np.where(degree == 1, now[-1], 0.0))
    for k in range(1, int(degree.max(initial=0))):
        a, b, c = rule(k)
        line = a * x + b
        after = [line * now[0] - c * before[0]]
        after += [
            line * now[d] + d * a * now[d - 1] - c * before[d] for d in range(1, derivative + 1)
        ]
        before, now = now, after
        y = np.where(degree == k + 1, now[-1], y)
    return y
