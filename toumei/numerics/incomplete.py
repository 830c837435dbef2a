"""The incomplete gamma functions P and Q.

A power series below the peak, a continued fraction above it (DLMF 8.11.4, 8.9.2); where both are
slow, at large a ≈ x, Temme's uniform expansion (DLMF 8.12; N. M. Temme, "The asymptotic expansion
of the incomplete gamma functions", SIAM J. Math. Anal. 10, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .coefficients import TEMME
from .error import erfc
from .gamma import lgamma, stirling
from .series import Array, doubles, piecewise, polynomial

_EPS = 1e-17
_STEPS = 2000
_TEMME_FROM = 200.0  # the expansion's next term is below 1e-15 from here on


def igamma(a: Array, x: Array) -> Array:
    """Return P(a, x) = γ(a, x)/Γ(a); NaN for a < 0 or x < 0."""
    return _incomplete(a, x, upper=False)


def igammac(a: Array, x: Array) -> Array:
    """Return Q(a, x) = Γ(a, x)/Γ(a) = 1 − P(a, x); NaN for a < 0 or x < 0."""
    return _incomplete(a, x, upper=True)


def _incomplete(a: Array, x: Array, upper: bool) -> Array:
    a, x = doubles(a, x)
    none, all_ = (1.0, 0.0) if upper else (0.0, 1.0)
    slow = (a > _TEMME_FROM) & (np.abs(x - a) < 0.3 * a)
    return piecewise(
        [
            (np.isnan(a) | np.isnan(x) | (a < 0) | (x < 0), _constant(np.nan)),
            ((a == 0) & (x == 0), _constant(np.nan)),
            (a == 0, _constant(all_)),
            (x == 0, _constant(none)),
            (np.isinf(a), lambda a, x: np.where(np.isinf(x), np.nan, none)),
            (np.isinf(x), _constant(all_)),
            (slow, lambda a, x: _temme(a, x, upper)),
            (x < a + 1, lambda a, x: _complement(_lower_series(a, x), upper)),
            (x < 1.1, lambda a, x: _complement(_lower_series(a, x), upper)),
            (x > 0, lambda a, x: _complement(_upper_fraction(a, x), not upper)),
        ],
        a,
        x,
    )


def _constant(value: float) -> Callable[[Array, Array], Array]:
    return lambda a, x: np.full_like(a, value)


def _complement(value: Array, wanted: bool) -> Array:
    return 1 - value if wanted else value


def _prefactor(a: Array, x: Array) -> Array:
    """Return xᵃ·e⁻ˣ/Γ(a), for large a by Stirling's series, so that large logarithms cancel."""

    def large(a: Array, x: Array) -> Array:
        return np.exp(a * _log_minus((x - a) / a) - stirling(a)) * np.sqrt(a / (2 * math.pi))

    def small(a: Array, x: Array) -> Array:
        return np.exp(a * np.log(x) - x - lgamma(a))

    return piecewise([(a >= 10, large), (a < 10, small)], a, x)


def _log_minus(t: Array) -> Array:
    """Return ln(1 + t) − t, exact near 0."""
    # With r = t/(2 + t): ln(1 + t) = 2·artanh r, and t = 2r/(1 − r).
    r = t / (2 + t)
    s = r * r
    odd = [2 / (2 * k + 1) for k in range(1, 14)]
    near = r * s * polynomial(odd, s) - 2 * s / (1 - r)
    return np.where(np.abs(t) < 0.3, near, np.log1p(t) - t)


def _lower_series(a: Array, x: Array) -> Array:
    """Return P(a, x) = xᵃe⁻ˣ/Γ(a + 1)·Σ xⁿ/((a + 1)…(a + n))."""
    term = 1 / a
    total = term.copy()
    for n in range(1, _STEPS):
        term = term * (x / (a + n))
        total += term
        if (term <= _EPS * total).all():
            break
    return total * _prefactor(a, x)


def _upper_fraction(a: Array, x: Array) -> Array:
    """Return Q(a, x) by its continued fraction, evaluated forwards (Lentz)."""
    tiny = 1e-300
    b = x + 1 - a
    c = np.full_like(x, 1 / tiny)
    d = 1 / np.where(b == 0, tiny, b)
    h = d.copy()
    for n in range(1, _STEPS):
        numerator = -n * (n - a)
        b = b + 2
        d = numerator * d + b
        d = 1 / np.where(np.abs(d) < tiny, tiny, d)
        c = b + numerator / c
        c = np.where(np.abs(c) < tiny, tiny, c)
        h = h * (d * c)
        if (np.abs(d * c - 1) < 1e-16).all():
            break
    return h * _prefactor(a, x)


def _temme(a: Array, x: Array, upper: bool) -> Array:
    """Return ½·erfc(±η√(a/2)) ± R, R = exp(−a·η²/2)/√(2πa)·Σ cₖ(η)·a⁻ᵏ."""
    mu = (x - a) / a
    half_square = -_log_minus(mu)  # η²/2
    eta = np.copysign(np.sqrt(2 * half_square), mu)
    series = polynomial_rows(TEMME, eta, 1 / a)
    rest = np.exp(-a * half_square) / np.sqrt(2 * math.pi * a) * series
    sign = 1.0 if upper else -1.0
    return erfc(sign * eta * np.sqrt(a / 2)) / 2 + sign * rest


def polynomial_rows(rows: tuple[tuple[float, ...], ...], x: Array, z: Array) -> Array:
    """Return Σ zᵏ·(row k as a polynomial in x)."""
    y = np.zeros_like(x)
    for row in rows[::-1]:
        y = y * z + polynomial(row, x)
    return y
