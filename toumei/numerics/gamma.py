"""The logarithm of the gamma function, its derivatives, the zeta function.

Near 1 and 2 Chebyshev series, elsewhere the recurrence and Stirling's series (DLMF 5.5, 5.11).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .coefficients import DIGAMMA, DIGAMMA_ROOT, LGAMMA
from .series import Array, chebyshev, doubles, piecewise, polynomial

# Bernoulli numbers B₂, B₄ … B₂₄
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510,
             43867 / 798, -174611 / 330, 854513 / 138, -236364091 / 2730)  # fmt: skip
_LARGE = 10.0  # from here on Stirling's series is exact


def lgamma(x: Array) -> Array:
    """Return ln |Γ(x)|; ∞ at 0, −1, −2 …"""
    (x,) = doubles(x)
    return piecewise(
        [
            (np.isinf(x), np.abs),
            (x >= _LARGE, _lgamma_large),
            (x > 0, _lgamma_positive),
            (x == np.floor(x), lambda x: np.full_like(x, np.inf)),
            (x < 0, _lgamma_reflected),
        ],
        x,
    )


def _lgamma_large(x: Array) -> Array:
    return (x - 0.5) * (np.log(x) - 1) + (0.5 * math.log(2 * math.pi) - 0.5) + stirling(x)


def stirling(x: Array) -> Array:
    """Return Σ B₂ₖ/(2k(2k − 1)x²ᵏ⁻¹): what ln Γ is more than its leading terms (DLMF 5.11.1)."""
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI[:8], start=1)]
    inverse = 1 / x
    return polynomial(terms, inverse * inverse) * inverse


def _lgamma_positive(x: Array) -> Array:
    """Move 0 < x < 10 to 2 + w, |w| ≤ ½, by Γ(x + 1) = x·Γ(x); w is exact, so that zeros are."""
    steps = np.rint(x)
    w = x - steps
    product = np.where(steps == 0, 1 / (x * (x + 1)), 1.0)
    for j in range(2, 10):
        product = np.where(j < steps, product * (w + j), product)
    near = w * (w + 1) * chebyshev(LGAMMA, w, -0.5, 0.5)
    return near + np.where(steps == 1, -np.log1p(w), np.log(product))


def _lgamma_reflected(x: Array) -> Array:
    """Γ(x)·Γ(1 − x) = π/sin(πx)"""
    sine = np.sin(math.pi * (x - np.rint(x)))
    return math.log(math.pi) - np.log(np.abs(sine)) - lgamma(1 - x)


def digamma(x: Array) -> Array:
    """Return ψ(x) = (ln Γ)′(x); NaN at −1, −2 …, ∓∞ at ±0, as PyTorch has it."""
    (x,) = doubles(x)
    return piecewise(
        [
            (x == 0, lambda x: np.copysign(np.inf, -x)),
            (np.isposinf(x), np.copy),
            (x >= _LARGE, _digamma_large),
            (x > 0, _digamma_positive),
            (x == np.floor(x), lambda x: np.full_like(x, np.nan)),
            (x < 0, lambda x: digamma(1 - x) - math.pi / np.tan(math.pi * (x - np.rint(x)))),
        ],
        x,
    )


def _digamma_large(x: Array) -> Array:
    u = 1 / (x * x)
    terms = [b / (2 * k) for k, b in enumerate(BERNOULLI[:8], start=1)]
    return np.log(x) - 0.5 / x - u * polynomial(terms, u)


def _digamma_positive(x: Array) -> Array:
    """Move 0 < x < 10 into [1, 2] by ψ(x + 1) = ψ(x) + 1/x."""
    z, moved = x.copy(), np.zeros_like(x)
    low = z < 1
    moved[low] = -1 / z[low]
    z += low
    for _ in range(8):
        high = z > 2
        z -= high
        moved = np.where(high, moved + 1 / z, moved)
    near = (z - DIGAMMA_ROOT[0] - DIGAMMA_ROOT[1]) * chebyshev(DIGAMMA, z, 1, 2)
    return near + moved


def polygamma(n: int, x: Array) -> Array:
    """Return the n-th derivative of ψ: (−1)ⁿ⁺¹·n!·ζ(n + 1, x)."""
    if n == 0:
        return digamma(x)
    sign = 1.0 if n % 2 else -1.0
    return sign * math.gamma(n + 1) * zeta(np.asarray(n + 1.0), x)


def zeta(s: Array, q: Array) -> Array:
    """Return Hurwitz' ζ(s, q) = Σ (q + k)⁻ˢ over k ≥ 0; NaN for s < 1.

    Negative q has a value where s is an integer; at 0, −1, −2 … it is ∞.
    """
    s, q = doubles(s, q)
    whole = q == np.floor(q)
    return piecewise(
        [
            (np.isnan(s) | np.isnan(q), lambda s, q: s + q),
            (s == 1, _constant(np.inf)),
            (s < 1, _constant(np.nan)),
            ((q <= 0) & whole, _constant(np.inf)),
            ((q <= 0) & (s != np.floor(s)), _constant(np.nan)),
            (np.isinf(q), _constant(0.0)),
            (np.ones_like(whole), _euler_maclaurin),
        ],
        s,
        q,
    )


def _constant(value: float) -> Callable[[Array, Array], Array]:
    return lambda s, q: np.full_like(s, value)


def _euler_maclaurin(s: Array, q: Array) -> Array:
    """Sum until q + k ≥ 10 + s, or until nothing changes; then add the rest (DLMF 25.11.28)."""
    total, z = np.zeros_like(s), q.copy()
    more = z < 10 + s
    while more.any():
        term = np.where(more, z**-s, 0.0)
        total += term
        z += more
        more &= (z < 10 + s) & ((z <= 1) | (np.abs(term) > 1e-18 * np.abs(total)))
    return total + np.where(z >= 10 + s, _rest(s, z), 0.0)


def _rest(s: Array, z: Array) -> Array:
    """Return ζ(s, z) for large z: the integral, half of the first term, Bernoulli's terms."""
    first = z**-s
    total = first * z / (s - 1) + first / 2
    factor, power = s.copy(), first / z
    for k, b in enumerate(BERNOULLI, start=1):
        total += (b / math.factorial(2 * k)) * factor * power
        factor = factor * (s + (2 * k - 1)) * (s + 2 * k)
        power = power / (z * z)
    return total
