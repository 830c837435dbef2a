"""Exponentials and logarithms on vectors, float32 and float64.

eˣ:   x = n·ln 2 + r, eˣ = 2ⁿ·eʳ, |r| ≤ ln 2/2, eʳ by a polynomial, 2ⁿ by n in the exponent.
ln x: x = 2ᵉ·m, √½ ≤ m < √2, ln x = e·ln 2 + ln m, ln m by a polynomial.

Numbers below the smallest normal one count as 0, as arguments (ln of them is −∞) and as results.
"""

from __future__ import annotations

import math

from . import polynomials as table
from .vec import (
    BIAS,
    MANTISSA,
    Vec,
    at_least,
    at_most,
    bits_of,
    horner,
    lane_by_lane,
    nearest,
    polynomial,
    power_of_two,
    where,
)  # fmt: skip

LOG2E = 1 / math.log(2)
_TINY = {"float": 2.0**-126, "double": 2.0**-1022}
_ROUNDS_TO_MINUS_ONE = {"float": -25.0, "double": -45.0}  # e^x − 1 from here down


# --- exponentials --------------------------------------------------------------------------------


def _reduce(x: Vec) -> tuple[Vec, Vec]:
    """Return r = x − n·ln 2, and n as `nearest` returns it."""
    n, shifted = nearest(x, LOG2E)
    high, low = table.LN2[x.element]
    return x - n * high - n * low, shifted


def exp_scaled(x: Vec, halvings: int = 0, low: Vec | None = None) -> Vec:
    """Return eˣ·2^−halvings, or e^(x + low)·… for a small second part of the argument.

    The polynomial is that of 2·eʳ, and the power 2ⁿ⁻¹: n = 128, for results just below the largest
    number, would not fit.
    """
    bias = BIAS[x.element]
    # 2ⁿ⁻¹⁻ʰ has exponents from 0, which stands for the number 0, to the largest finite one.
    most = (bias + 1 + halvings + 0.45) * math.log(2)
    least = -(bias - 1 - halvings + 0.45) * math.log(2)
    r, shifted = _reduce(at_least(at_most(x, most), least))
    if low is not None:
        r = r + low
    doubled = [2.0, 2.0, *(2 * c for c in table.EXP[x.element])]
    return horner(r, doubled) * power_of_two(shifted, -1 - halvings)


def exp(x: Vec) -> Vec:
    """eˣ"""
    return exp_scaled(x)


def exp2(x: Vec) -> Vec:
    """2ˣ: x − n is exact, so only it is multiplied by ln 2."""
    bias = BIAS[x.element]
    x = at_least(at_most(x, bias + 1.45), -(bias - 1) - 0.45)
    n, shifted = nearest(x, 1.0)
    doubled = [2.0, 2.0, *(2 * c for c in table.EXP[x.element])]
    return horner((x - n) * math.log(2), doubled) * power_of_two(shifted, -1)


def expm1(x: Vec) -> Vec:
    """eˣ − 1 = 2ⁿ·(eʳ − 1) + (2ⁿ − 1), with half of 2ⁿ again"""
    most = (BIAS[x.element] + 1.45) * math.log(2)
    r, shifted = _reduce(at_least(at_most(x, most), _ROUNDS_TO_MINUS_ONE[x.element]))
    inner = r * r * polynomial(r, table.EXP) + r
    half = power_of_two(shifted, -1)
    y = half * inner + (half - 0.5)
    return where(x.equals(0.0), x, y + y)  # −0 stays −0


def sigmoid(x: Vec) -> Vec:
    """1/(1 + e⁻ˣ)"""
    return 1.0 / (exp(-x) + 1.0)


# --- logarithms ----------------------------------------------------------------------------------


def _split(x: Vec) -> tuple[Vec, Vec, Vec]:
    """Return m and e with x = 2ᵉ·m, √½ ≤ m < √2, and the bits of 2ᵉ.

    With 1 − √½ added to the bits, the exponent changes at √½·2ᵉ instead of at 2ᵉ.
    """
    bits, root = MANTISSA[x.element], bits_of(x.element, math.sqrt(0.5))
    one = bits_of(x.element, 1.0)
    moved = x.to_bits() + (one - root)
    mantissa = moved & ((1 << bits) - 1)
    # The exponent as a float: in the low bits of 1.5·2^bits, which is then taken off again.
    magic = 1.5 * 2.0**bits
    e = ((moved >> bits) + bits_of(x.element, magic)).to_floats() - (magic + BIAS[x.element])
    return (mantissa + root).to_floats(), e, moved & -(1 << bits)


def _ln_parts(f: Vec) -> Vec:
    """Return ln(1 + f) − f for √½ ≤ 1 + f ≤ √2."""
    half_square = f * f * 0.5
    if f.element == "float":
        return f * (f * f) * polynomial(f, table.LOG) - half_square
    s = f / (f + 2.0)
    z = s * s
    return s * (half_square + z * polynomial(z, table.LOG_RATIO)) - half_square


def _ln(f: Vec, e: Vec) -> Vec:
    """Return e·ln 2 + ln(1 + f)."""
    high, low = table.LN2[f.element]
    return _ln_parts(f) + e * low + f + e * high


def _limits(x: Vec, y: Vec, zero: float = 0.0) -> Vec:
    """Return y = ln(x − zero) with its limits: −∞ at zero, NaN below; ∞ and NaN stay."""
    y = where(x < math.inf, y, x)
    below = where(x < zero, x.const(math.nan), -math.inf)
    if zero:
        return where(x <= zero, below, y)
    return where(x < _TINY[x.element], below, y)


def log(x: Vec) -> Vec:
    """ln x"""
    m, e, _ = _split(x)
    return _limits(x, _ln(m - 1.0, e))


def log2(x: Vec) -> Vec:
    """log₂ x = e + log₂ m"""
    m, e, _ = _split(x)
    f = m - 1.0
    return _limits(x, (_ln_parts(f) + f) * LOG2E + e)


def log10(x: Vec) -> Vec:
    """log₁₀ x = e·log₁₀ 2 + log₁₀ m"""
    m, e, _ = _split(x)
    f = m - 1.0
    high, low = table.LOG10_2[x.element]
    return _limits(x, (_ln_parts(f) + f) * (1 / math.log(10)) + e * low + e * high)


def log1p(x: Vec) -> Vec:
    """ln(1 + x): with 1 + x = 2ᵉ·m, m − 1 = x·2⁻ᵉ + (2⁻ᵉ − 1), where nothing of x is lost."""
    _, e, power = _split(x + 1.0)
    one = bits_of(x.element, 1.0)
    scaled = (x.to_bits() - (power - one)).to_floats()  # x·2⁻ᵉ, by its exponent
    # 2¹⁻ᵉ: 2⁻ᵉ for the largest e would have no exponent of its own
    twice = ((2 * one + (1 << MANTISSA[x.element])) - power).to_floats()
    y = _limits(x, _ln(scaled + (twice * 0.5 - 1.0), e), -1.0)
    return where(x.equals(0.0), x, y)  # −0 stays −0


# --- made of the two -----------------------------------------------------------------------------


def softplus(x: Vec) -> Vec:
    """ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|)"""
    return at_least(x, 0.0) + log1p(exp(-abs(x)))


def log_sigmoid(x: Vec) -> Vec:
    """ln(1/(1 + e⁻ˣ)) = min(x, 0) − ln(1 + e^−|x|)"""
    return at_most(x, 0.0) - log1p(exp(-abs(x)))


def logaddexp(a: Vec, b: Vec) -> Vec:
    """ln(eᵃ + eᵇ) = max(a, b) + ln(1 + e^−|a − b|); equal infinities differ by 0, not by NaN."""
    apart = where(a.equals(b), a.const(0.0), abs(a - b))
    return where(a > b, a, b) + log1p(exp(-apart))


def pow(a: Vec, b: Vec) -> Vec:
    """aᵇ: float32 as e^(b·ln |a|) in double, with the limits of C's pow; float64 by C's pow"""
    if a.element == "double":
        return lane_by_lane("pow", a, b)
    size = abs(a)
    wide_a, wide_b = size.cast("fpext", "double"), b.cast("fpext", "double")
    y = exp(wide_b * log(wide_a)).cast("fptrunc", "float")
    y = where(size.equals(1.0) & b.compare("ord", b), 1.0, y)  # 1^∞ too
    whole, odd = _whole_and_odd(b)
    y = where((a < 0.0) & ~whole & (a > -math.inf) & (abs(b) < math.inf), math.nan, y)
    y = (y.to_bits() ^ (a.to_bits() & where(odd, y.to_bits().const(-(2**31)), 0))).to_floats()
    return where(b.equals(0.0) | a.equals(1.0), 1.0, y)


def _whole_and_odd(b: Vec) -> tuple[Vec, Vec]:
    """Return whether float32 numbers are whole, and whether they are odd; infinities are even."""
    size = abs(b)
    n, shifted = nearest(at_most(size, 2.0**22 - 1), 1.0)
    low = size < 2.0**22
    # Above 2²² the last bit of the mantissa stands for a half, for 1 (from 2²³) or for 2 and more.
    bits = size.to_bits()
    middle = size < 2.0**23
    whole = where(low, n.equals(size), ~middle | (bits & 1).equals(0))
    last = where(low, shifted.to_bits(), where(middle, bits >> 1, bits))
    return whole, whole & (size < 2.0**24) & (last & 1).equals(1)
