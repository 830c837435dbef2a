"""The error function and the gelus made of it, on vectors of float32 and float64.

erfc a = e^(−a²)·G(a), a ≥ 0: G falls like 1/a, so G = t·H(u) with t = k/(a + k), and H, smooth in
u = (a − k)/(a + k), is a polynomial.

After Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x)exp(x²)erfc x in 0 ≤ x < ∞",
Mathematics of Computation 36, 1981.

In float32 gelu and its derivative need no exponential: what separates them from their limits, 0
and x or 0 and 1, falls like e^(−a²/2) and is a line times the eighth power of a polynomial, which
is cut off where it is 0.
"""

from __future__ import annotations

import math

from . import polynomials as table
from .polynomials import Table
from .vec import Vec, at_least, at_most, polynomial, where
from .vecexp import exp, exp_scaled
from .vectrig import tanh

_CENTRE = 4.0  # k
_ZERO_FROM = 28.0  # where erfc vanishes
_UPPER_HALF = -(1 << 27)  # of a double's bits
SQRT_HALF = math.sqrt(0.5)
_TAIL_ENDS = 8.0  # in float32: Φ(−8) is 6e-16
_FAR = 40.0  # from here on gelu is as at infinity
_FLAT = -0.7517915246935645  # where gelu is smallest
_NORMAL_PEAK = 1 / math.sqrt(2 * math.pi)  # the density of the normal distribution at 0


def _exp_minus_square(a: Vec) -> Vec:
    """Return e^(−a²) to all digits: a² = h² + (a − h)·(a + h), h the upper half of a's bits."""
    h = (a.to_bits() & _UPPER_HALF).to_floats()
    return exp_scaled(-(h * h), low=-((a - h) * (a + h)))


def _erfc_positive(a: Vec) -> Vec:
    """Return erfc a for a ≥ 0 in float64."""
    a = at_most(a, _ZERO_FROM)
    inverse = 1.0 / (a + _CENTRE)
    u = (a - _CENTRE) * inverse
    return _exp_minus_square(a) * (inverse * _CENTRE) * polynomial(u, table.ERFCX)


def _erf_near(x: Vec) -> Vec:
    """Return erf x for |x| ≤ 1."""
    return x * polynomial(x * x, table.ERF_SMALL) + x


def erfc(x: Vec) -> Vec:
    """erfc x = 1 − erf x = 2/√π·∫ e^(−t²) dt from x to ∞; float32 in double"""
    if x.element == "float":
        return erfc(x.cast("fpext", "double")).cast("fptrunc", "float")
    size = abs(x)
    far = _erfc_positive(size)
    return where(size < 0.5, 1.0 - _erf_near(x), where(x < 0.0, 2.0 - far, far))


def erf(x: Vec) -> Vec:
    """erf x = 2/√π·∫ e^(−t²) dt from 0 to x: by a polynomial up to 1, else 1 − erfc x"""
    size = abs(x)
    near = _erf_near(size)
    if x.element == "double":
        far = 1.0 - _erfc_positive(size)
    else:  # only the first digits of erfc count
        far = 1.0 - exp_scaled(polynomial(at_most(size, 3.95), table.LOG_ERFC))
    return where(size < 1.0, near, far).with_sign_of(x)


def _eighth_power(a: Vec, root: Table) -> Vec:
    """Return P(a)⁸; its relative error is eight times that of P(a)."""
    y = polynomial(a, root)
    y = y * y
    y = y * y
    return y * y


def gelu(x: Vec) -> Vec:
    """x·Φ(x), Φ(x) = (1 + erf(x/√2))/2; float32: max(x, 0) − a·Φ(−a), a = |x|"""
    if x.element == "double":
        x = at_least(x, -_FAR)
        return x * (erf(x * SQRT_HALF) * 0.5 + 0.5)
    a = at_most(abs(x), _TAIL_ENDS)
    return at_least(x, 0.0) - a * _eighth_power(a, table.NORMAL_TAIL)


def gelu_slope(x: Vec) -> Vec:
    """gelu's derivative Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)

    float32: r(|x|) for negative x, else 1 − r(|x|), with r(a) = Φ(−a) − a·φ(a).
    """
    if x.element == "double":
        x = at_least(at_most(x, _FAR), -_FAR)
        density = exp(x * x * -0.5) * _NORMAL_PEAK
        return x * density + (erf(x * SQRT_HALF) * 0.5 + 0.5)
    a = at_most(abs(x), _TAIL_ENDS)
    rest = (a * (0.5 / _FLAT) + 0.5) * _eighth_power(a, table.GELU_SLOPE)
    return (0.5 - rest).with_sign_of(x) + 0.5


def gelu_tanh(x: Vec) -> Vec:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2"""
    inner = x * (x * x * 0.044715 + 1.0) * math.sqrt(2 / math.pi)
    return x * (tanh(inner) * 0.5 + 0.5)
