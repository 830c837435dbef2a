"""The error function and the gelus made of it, on vectors of float32 and float64.

erfc a = e^(−a²)·G(a), a ≥ 0: G falls like 1/a, so G = t·H(u) with t = k/(a + k), and H, smooth in
u = (a − k)/(a + k), is a polynomial (after Shepherd and Laframboise, Math. of Computation 36, 1981).
"""

from __future__ import annotations

import math

from . import polynomials as table
from .vec import MANTISSA, Vec, at_most, polynomial, where
from .vecexp import exp_scaled
from .vectrig import tanh

_CENTRE = {"float": 2.0, "double": 4.0}  # k
_ZERO_FROM = {"float": 10.2, "double": 28.0}  # where erfc vanishes
SQRT_HALF = math.sqrt(0.5)


def _exp_minus_square(a: Vec) -> Vec:
    """Return e^(−a²) with all its digits: a² = h² + (a − h)·(a + h), h the upper half of a's bits."""
    half = MANTISSA[a.element] // 2 + 1
    h = (a.to_bits() & -(1 << half)).to_floats()
    return exp_scaled(-(h * h), low=-((a - h) * (a + h)))


def _erfc_positive(a: Vec) -> Vec:
    """Return erfc a for a ≥ 0."""
    k = _CENTRE[a.element]
    a = at_most(a, _ZERO_FROM[a.element])
    inverse = 1.0 / (a + k)
    u = (a - k) * inverse
    return _exp_minus_square(a) * (inverse * k) * polynomial(u, table.ERFCX)


def erfc(x: Vec) -> Vec:
    """erfc x = 1 − erf x = 2/√π·∫ e^(−t²) dt from x to ∞"""
    y = _erfc_positive(abs(x))
    return where(x < 0.0, 2.0 - y, y)


def erf(x: Vec) -> Vec:
    """erf x = 2/√π·∫ e^(−t²) dt from 0 to x: float32 by a ratio of polynomials, 1 from 3.92 on"""
    size = abs(x)
    if x.element == "double":
        near = size * polynomial(size * size, table.ERF_SMALL)
        return where(size < 1.0, near, 1.0 - _erfc_positive(size)).with_sign_of(x)
    a = at_most(size, 3.95)
    z = a * a
    y = a * polynomial(z, table.ERF_ABOVE) / polynomial(z, table.ERF_BELOW)
    return where(size > 3.92, 1.0, at_most(y, 1.0)).with_sign_of(x)


def gelu(x: Vec) -> Vec:
    """x·(1 + erf(x/√2))/2"""
    return x * (erf(x * SQRT_HALF) * 0.5 + 0.5)


def gelu_tanh(x: Vec) -> Vec:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2"""
    inner = x * (x * x * 0.044715 + 1.0) * math.sqrt(2 / math.pi)
    return x * (tanh(inner) * 0.5 + 0.5)
