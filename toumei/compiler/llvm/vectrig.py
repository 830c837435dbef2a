"""Trigonometric and hyperbolic functions, and their inverses, on vectors of float32 and float64.

sin and cos: x = n·π + r, |r| ≤ π/2, with π in parts (Cody and Waite) so that r is right even next
to a multiple of π; then one odd polynomial, and the sign of n's last bit.  From |x| = 100 000 on
the C library answers, behind a branch that looks at all lanes.

Reference: Cody and Waite, "Software Manual for the Elementary Functions", 1980.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from . import polynomials as table
from .polynomials import Table
from .vec import BIAS, Vec, at_most, nearest, polynomial, rare, where
from .vecexp import exp_scaled, expm1, log1p

_FAR = 100_000.0
_SIGN = {"float": 31, "double": 63}  # the sign's bit
_LN2 = math.log(2)
_PI_REST = 1.2246467991473532e-16  # π − math.pi


def _odd(x: Vec, coefficients: Table) -> Vec:
    """Return x + x³·P(x²)."""
    z = x * x
    return x * z * polynomial(z, coefficients) + x


def _reduced(x: Vec, n: Vec, scale: float = 1.0) -> Vec:
    """Return x − n·π·scale, scale a power of two.

    The parts of float32 have 24 bits: exact with fused multiply-add only; without it, in double.
    """
    if x.element == "float" and not x.target.has_fma:
        wide = _reduced(x.cast("fpext", "double"), n.cast("fpext", "double"), scale)
        return wide.cast("fptrunc", "float")
    for part in table.PI[x.element]:
        x = x - n * (part * scale)
    return x


def _flip(y: Vec, signs: Vec) -> Vec:
    """Change the sign of y where the last bit of integers is 1."""
    return (y.to_bits() ^ (signs << _SIGN[y.element])).to_floats()


def sin(x: Vec) -> Vec:
    """sin x"""
    size = abs(x)  # sin(−x) = −sin x, −0 included
    n, shifted = nearest(size, 1 / math.pi)
    y = _flip(_odd(_reduced(size, n), table.SIN), shifted.to_bits())
    y = (y.to_bits() ^ (x.to_bits() ^ size.to_bits())).to_floats()
    return rare(x, size >= _FAR, y, "sin")


def cos(x: Vec) -> Vec:
    """cos x = sin(x + π/2): x = (n − ½)·π + r"""
    n, shifted = nearest(x, 1 / math.pi, 0.5)
    y = _flip(_odd(_reduced(x, n - 0.5), table.SIN), shifted.to_bits())
    return rare(x, abs(x) >= _FAR, y, "cos")


def tan(x: Vec) -> Vec:
    """tan x: x = n·π/2 + r; sin r/cos r, or −cos r/sin r for odd n"""
    size = abs(x)
    n, shifted = nearest(size, 2 / math.pi)
    r = _reduced(size, n, 0.5)
    z = r * r
    s = _odd(r, table.SIN_QUARTER)
    c = z * z * polynomial(z, table.COS_QUARTER) - z * 0.5 + 1.0
    even = (shifted.to_bits() & 1).equals(0)
    y = where(even, s, c) / where(even, c, -s)
    y = (y.to_bits() ^ (x.to_bits() ^ size.to_bits())).to_floats()
    return rare(x, size >= _FAR, y, "tan")


# --- inverses ------------------------------------------------------------------------------------


def _asin_parts(x: Vec) -> tuple[Vec, Vec]:
    """Return whether s = |x| ≤ ½, and arcsin of s, or of √((1 − |x|)/2) where it isn't."""
    size = abs(x)
    near = size <= 0.5
    s = where(near, size, (0.5 - size * 0.5).sqrt())
    return near, _odd(s, table.ASIN)


def asin(x: Vec) -> Vec:
    """arcsin x; π/2 − 2·arcsin √((1 − x)/2) for x > ½"""
    near, y = _asin_parts(x)
    return where(near, y, math.pi / 2 - y * 2.0).with_sign_of(x)


def acos(x: Vec) -> Vec:
    """arccos x = π/2 − arcsin x; 2·arcsin √((1 − x)/2) for x > ½"""
    near, y = _asin_parts(x)
    high, low = _pi_parts(x, 0.5)
    middle = high - (y.with_sign_of(x) - low)
    far = where(x < 0.0, 2 * high - (y * 2.0 - 2 * low), y * 2.0)
    return where(near, middle, far)


def _pi_parts(x: Vec, scale: float) -> tuple[float, float]:
    """Return π·scale as a number of the type and what that leaves."""
    high, low = (math.pi, _PI_REST) if x.element == "double" else table.PI["float"][:2]
    return high * scale, low * scale


def atan(x: Vec) -> Vec:
    """arctan x; π/2 − arctan 1/x for x > 1"""
    size = abs(x)
    far = size > 1.0
    y = _odd(where(far, 1.0 / size, size), table.ATAN)
    high, low = _pi_parts(x, 0.5)
    return where(far, high - (y - low), y).with_sign_of(x)


def atan2(y: Vec, x: Vec) -> Vec:
    """The angle of the point (x, y), with the limits of C's atan2"""
    height, width = abs(y), abs(x)
    steep = height > width
    least, most = where(steep, width, height), where(steep, height, width)
    ratio = where(most.equals(0.0), 0.0, least / most)
    ratio = where(least.equals(math.inf), 1.0, ratio)
    angle = _odd(ratio, table.ATAN)
    high, low = _pi_parts(x, 0.5)
    angle = where(steep, high - (angle - low), angle)
    left = x.to_bits() < 0  # −0 is left too
    angle = where(left, 2 * high - (angle - 2 * low), angle).with_sign_of(y)
    return where(x.compare("uno", y), x + y, angle)


# --- hyperbolic functions ------------------------------------------------------------------------


def sinh(x: Vec) -> Vec:
    """sinh x = (eˣ − e⁻ˣ)/2, by a polynomial up to 1; with h = e^|x|/2 it is h − 1/(4h)"""
    size = abs(x)
    half = exp_scaled(size, 1)
    return where(size < 1.0, _odd(size, table.SINH), half - 0.25 / half).with_sign_of(x)


def cosh(x: Vec) -> Vec:
    """cosh x = h + 1/(4h), h = e^|x|/2"""
    half = exp_scaled(abs(x), 1)
    return half + 0.25 / half


def tanh(x: Vec) -> Vec:
    """tanh x: float32 by a ratio of polynomials, 1 from 9.02 on; float64 t/(t + 2), t = e²ˣ − 1"""
    size = abs(x)
    if x.element == "double":
        t = expm1(at_most(size, 22.0) * 2.0)
        return (t / (t + 2.0)).with_sign_of(x)
    z = at_most(size, 9.1)
    z = z * z
    y = at_most(size, 9.1) * polynomial(z, table.TANH_ABOVE) / polynomial(z, table.TANH_BELOW)
    return where(size > 9.02, 1.0, at_most(y, 1.0)).with_sign_of(x)


def _with_large(x: Vec, small: Vec, large: Vec, limit: float) -> Vec:
    """Return ln(1 + small), or ln 2x where x lies above a limit."""
    far = x > limit
    return log1p(where(far, large, small)) + where(far, x.const(_LN2), 0.0)


def asinh(x: Vec) -> Vec:
    """arsinh x = ln(1 + s + s²/(1 + √(1 + s²))), s = |x|"""
    size = abs(x)
    limit = 2.0 ** (BIAS[x.element] // 4)
    s = at_most(size, limit)
    square = s * s
    small = s + square / ((square + 1.0).sqrt() + 1.0)
    return _with_large(size, small, size, limit).with_sign_of(x)


def acosh(x: Vec) -> Vec:
    """arcosh x = ln(1 + t + √(t·(t + 2))), t = x − 1; NaN below 1"""
    limit = 2.0 ** (BIAS[x.element] // 4)
    t = x - 1.0
    small = t + (t * (t + 2.0)).sqrt()
    y = _with_large(x, small, x, limit)
    return where(x < 1.0, math.nan, y)


def atanh(x: Vec) -> Vec:
    """artanh x = ½·ln(1 + 2s/(1 − s)), s = |x|; NaN beyond 1"""
    size = abs(x)
    return (log1p(size * 2.0 / (1.0 - size)) * 0.5).with_sign_of(x)


TRIGONOMETRY: dict[str, Callable[..., Vec]] = {
    f.__name__: f
    for f in (sin, cos, tan, asin, acos, atan, atan2, sinh, cosh, tanh, asinh, acosh, atanh)
}
