"""Bessel functions, modified ones, and Airy's, by Chebyshev series.

The intervals are those of Cephes (S. L. Moshier, "Methods and programs for mathematical
functions", 1989); the series are our own.  Large arguments: DLMF 10.17, 9.7.
"""

from __future__ import annotations

import math

import numpy as np

from . import coefficients as table
from .series import Array, chebyshev, doubles, piecewise

_TWO_OVER_PI = 2 / math.pi


# --- modified: I and K ---------------------------------------------------------------------------


def i0e(x: Array) -> Array:
    """Return exp(−|x|)·I₀(x)."""
    (x,) = doubles(x)
    x = np.abs(x)
    return piecewise(
        [
            (x <= 8, lambda x: chebyshev(table.I0_SMALL, x, 0, 8)),
            (x > 8, lambda x: chebyshev(table.I0_LARGE, 8 / x, 0, 1) / np.sqrt(x)),
        ],
        x,
    )


def i1e(x: Array) -> Array:
    """Return exp(−|x|)·I₁(x)."""
    (x,) = doubles(x)
    size = np.abs(x)
    value = piecewise(
        [
            (size <= 8, lambda x: x * chebyshev(table.I1_SMALL, x, 0, 8)),
            (size > 8, lambda x: chebyshev(table.I1_LARGE, 8 / x, 0, 1) / np.sqrt(x)),
        ],
        size,
    )
    return np.copysign(value, x)


def i0(x: Array) -> Array:
    """Return I₀(x)."""
    return _grow(i0e(x), x)


def i1(x: Array) -> Array:
    """Return I₁(x)."""
    return _grow(i1e(x), x)


def _grow(scaled: Array, x: Array) -> Array:
    """Return scaled·exp |x|; half of it at a time, as exp overflows before I₀ does."""
    half = np.exp(np.abs(np.asarray(x, np.float64)) / 2)
    return np.where(np.isinf(half), np.copysign(np.inf, scaled), scaled * half * half)


def k0e(x: Array) -> Array:
    """Return exp x·K₀(x); ∞ at 0, NaN below."""
    (x,) = doubles(x)
    return piecewise(
        [
            (x == 0, lambda x: np.full_like(x, np.inf)),
            ((x > 0) & (x <= 2), lambda x: np.exp(x) * _k0_small(x)),
            (x > 2, lambda x: chebyshev(table.K0_LARGE, 2 / x, 0, 1) / np.sqrt(x)),
        ],
        x,
    )


def k1e(x: Array) -> Array:
    """Return exp x·K₁(x); ∞ at 0, NaN below."""
    (x,) = doubles(x)
    return piecewise(
        [
            (x == 0, lambda x: np.full_like(x, np.inf)),
            ((x > 0) & (x <= 2), lambda x: np.exp(x) * _k1_small(x)),
            (x > 2, lambda x: chebyshev(table.K1_LARGE, 2 / x, 0, 1) / np.sqrt(x)),
        ],
        x,
    )


def k0(x: Array) -> Array:
    """Return K₀(x); ∞ at 0, NaN below."""
    (x,) = doubles(x)
    small = (x > 0) & (x <= 2)
    return piecewise([(small, _k0_small), (~small, lambda x: k0e(x) * np.exp(-x))], x)


def k1(x: Array) -> Array:
    """Return K₁(x); ∞ at 0, NaN below."""
    (x,) = doubles(x)
    small = (x > 0) & (x <= 2)
    return piecewise([(small, _k1_small), (~small, lambda x: k1e(x) * np.exp(-x))], x)


def _k0_small(x: Array) -> Array:
    return chebyshev(table.K0_SMALL, x * x, 0, 4) - np.log(x / 2) * i0(x)


def _k1_small(x: Array) -> Array:
    return chebyshev(table.K1_SMALL, x * x, 0, 4) / x + np.log(x / 2) * i1(x)


# --- J and Y -------------------------------------------------------------------------------------


def j0(x: Array) -> Array:
    """Return J₀(x)."""
    (x,) = doubles(x)
    x = np.abs(x)
    return piecewise(
        [(x <= 8, _j0_small), (np.isinf(x), np.zeros_like), (x > 8, lambda x: _hankel(0, x)[0])], x
    )


def j1(x: Array) -> Array:
    """Return J₁(x)."""
    (x,) = doubles(x)
    size = np.abs(x)
    value = piecewise(
        [
            (size <= 8, _j1_small),
            (np.isinf(size), np.zeros_like),
            (size > 8, lambda x: _hankel(1, x)[0]),
        ],
        size,
    )
    return np.where(x < 0, -value, value)


def y0(x: Array) -> Array:
    """Return Y₀(x); −∞ at 0, NaN below."""
    (x,) = doubles(x)
    return piecewise(
        [
            (x == 0, lambda x: np.full_like(x, -np.inf)),
            ((x > 0) & (x <= 8), _y0_small),
            (np.isposinf(x), np.zeros_like),
            (x > 8, lambda x: _hankel(0, x)[1]),
        ],
        x,
    )


def y1(x: Array) -> Array:
    """Return Y₁(x); −∞ at 0, NaN below."""
    (x,) = doubles(x)
    return piecewise(
        [
            (x == 0, lambda x: np.full_like(x, -np.inf)),
            ((x > 0) & (x <= 8), _y1_small),
            (np.isposinf(x), np.zeros_like),
            (x > 8, lambda x: _hankel(1, x)[1]),
        ],
        x,
    )


def _j0_small(x: Array) -> Array:
    return chebyshev(table.J0_SMALL, x * x, 0, 64)


def _j1_small(x: Array) -> Array:
    return x * chebyshev(table.J1_SMALL, x * x, 0, 64)


def _y0_small(x: Array) -> Array:
    return chebyshev(table.Y0_SMALL, x * x, 0, 64) + _TWO_OVER_PI * np.log(x) * _j0_small(x)


def _y1_small(x: Array) -> Array:
    smooth = x * chebyshev(table.Y1_SMALL, x * x, 0, 64)
    return smooth + _TWO_OVER_PI * (np.log(x) * _j1_small(x) - 1 / x)


def _hankel(order: int, x: Array) -> tuple[Array, Array]:
    """Return J and Y of order 0 or 1 for x ≥ 8 (DLMF 10.17.3): waves with a slow P and Q."""
    u = (8 / x) ** 2
    p_table = (table.HANKEL0_P, table.HANKEL1_P)[order]
    q_table = (table.HANKEL0_Q, table.HANKEL1_Q)[order]
    p, q = chebyshev(p_table, u, 0, 1), chebyshev(q_table, u, 0, 1) / x
    sine, cosine = np.sin(x), np.cos(x)
    plus, minus = sine + cosine, sine - cosine  # √2·cos and √2·sin of x − π/4, without rounding x
    c, s = (plus, minus) if order == 0 else (minus, -plus)
    scale = np.sqrt(1 / (math.pi * x))
    return scale * (p * c - q * s), scale * (p * s + q * c)


def spherical(n: int, x: Array) -> Array:
    """Return jₙ(x), the spherical Bessel function: j₀(x) = sin x/x."""
    (x,) = doubles(x)
    size = np.abs(x)
    value = piecewise(
        [
            (np.isinf(size), np.zeros_like),
            (size < n + 1, lambda x: _spherical_series(n, x)),
            (size >= n + 1, lambda x: _spherical_upwards(n, x)),
        ],
        size,
    )
    return np.where(x < 0, -value, value) if n % 2 else value


def _spherical_series(n: int, x: Array) -> Array:
    """Return xⁿ/(2n + 1)!!·Σ (−x²/2)ᵏ/(k!·(2n + 3)…(2n + 2k + 1)) (DLMF 10.53.1)."""
    square = x * x * -0.5
    term = np.ones_like(x)
    for odd in range(3, 2 * n + 2, 2):
        term *= x / odd
    total = term.copy()
    for k in range(1, 12 + n):
        term = term * square / (k * (2 * n + 2 * k + 1))
        total += term
    return total


def _spherical_upwards(n: int, x: Array) -> Array:
    """jₖ₊₁ = (2k + 1)/x·jₖ − jₖ₋₁, which is stable for x > n."""
    before, now = np.cos(x) / x, np.sin(x) / x
    for k in range(n):
        before, now = now, (2 * k + 1) / x * now - before
    return now


# --- Airy ----------------------------------------------------------------------------------------


def airy_ai(x: Array, derivative: bool = False) -> Array:
    """Return Ai(x), the solution of y″ = x·y that decays, or Ai′(x)."""
    (x,) = doubles(x)
    small = table.AIRY1_SMALL if derivative else table.AIRY_SMALL
    return piecewise(
        [
            ((x >= -5) & (x <= 2), lambda x: chebyshev(small, x, -5, 2)),
            (x > 104, lambda x: np.full_like(x, -0.0 if derivative else 0.0)),
            (x > 2, lambda x: _airy_large(x, derivative)),
            (x < -5, lambda x: _airy_waves(-x, derivative)),
        ],
        x,
    )


def _airy_large(x: Array, derivative: bool) -> Array:
    zeta = x * np.sqrt(x) * (2 / 3)
    series = chebyshev(table.AIRY1_LARGE if derivative else table.AIRY_LARGE, 1 / zeta, 0, 0.54)
    power = np.sqrt(np.sqrt(x))
    scale = power if derivative else 1 / power
    return series * scale * np.exp(-zeta) / (2 * math.sqrt(math.pi))


def _airy_waves(x: Array, derivative: bool) -> Array:
    """Return Ai(−x) or Ai′(−x) for x > 5 (DLMF 9.7.9, 9.7.10)."""
    zeta = x * np.sqrt(x) * (2 / 3)
    u = 1 / (zeta * zeta)
    p_table, q_table = (
        (table.AIRY1_P, table.AIRY1_Q) if derivative else (table.AIRY_P, table.AIRY_Q)
    )
    p, q = chebyshev(p_table, u, 0, 0.0181), chebyshev(q_table, u, 0, 0.0181) / zeta
    sine, cosine = np.sin(zeta), np.cos(zeta)
    c, s = cosine + sine, sine - cosine  # √2·cos and √2·sin of ζ − π/4
    power = np.sqrt(np.sqrt(x))
    if derivative:
        return (p * s - q * c) * power / math.sqrt(2 * math.pi)
    return (p * c + q * s) / (power * math.sqrt(2 * math.pi))
