"""Rounding, sign, limits, remainders, integer division and conversions on vectors, as in NumPy."""

from __future__ import annotations

import math

from .ir import split
from .vec import MANTISSA, Vec, lane_by_lane, rare, where

# --- rounding ------------------------------------------------------------------------------------


def _rounded(x: Vec, name: str) -> Vec:
    """Round by the processor's instruction, where it has one."""
    if not x.is_float:
        return x
    if x.target.has_rounding:
        return x.intrinsic(name)
    # Adding 2²³ (2⁵²) pushes the fraction out of the mantissa; larger numbers have none.
    size, limit = abs(x), 2.0 ** MANTISSA[x.element]
    y = where(size < limit, (size + limit) - limit, size)
    if name == "trunc":
        return (y - where(y > size, y.const(1.0), 0.0)).with_sign_of(x)
    y = y.with_sign_of(x)
    if name == "floor":
        y = y - where(y > x, y.const(1.0), 0.0)
    if name == "ceil":
        y = y + where(y < x, y.const(1.0), 0.0)
    return y.with_sign_of(x)


def floor(x: Vec) -> Vec:
    """⌊x⌋"""
    return _rounded(x, "floor")


def ceil(x: Vec) -> Vec:
    """⌈x⌉"""
    return _rounded(x, "ceil")


def trunc(x: Vec) -> Vec:
    """x without what stands after the point"""
    return _rounded(x, "trunc")


def round_even(x: Vec) -> Vec:
    """The nearest whole number; halves go to the even one"""
    return _rounded(x, "roundeven")


def frac(x: Vec) -> Vec:
    """x − trunc x"""
    return x - trunc(x)


# --- sign and limits -----------------------------------------------------------------------------


def sign(x: Vec) -> Vec:
    """−1, 0 or 1; 0 for NaN, as PyTorch has it"""
    return where(x > 0, x.const(1), where(x < 0, x.const(-1), 0))


def copysign(a: Vec, b: Vec) -> Vec:
    """|a| with the sign of b"""
    return a.with_sign_of(b)


def sqrt(x: Vec) -> Vec:
    """√x"""
    return x.sqrt()


def rsqrt(x: Vec) -> Vec:
    """1/√x"""
    return 1.0 / x.sqrt()


def reciprocal(x: Vec) -> Vec:
    """1/x"""
    return 1.0 / x


def _is_number(x: Vec) -> bool:
    """Return whether x is a constant other than NaN."""
    name = x.value.name
    return not name.startswith("%") and "0x7FF8" not in name


def _extreme(a: Vec, b: Vec, larger: bool) -> Vec:
    """The larger or smaller of two; a NaN in either survives.

    A comparison and a choice are one instruction, which returns the second number if one is NaN.
    """
    if _is_number(a):
        a, b = b, a
    if not a.is_float or _is_number(b):
        return where(a < b if larger else a > b, b, a)
    kept = where(a > b if larger else a < b, a, b)  # b if either is NaN
    return where(a.isnan(), a, kept)


def maximum(a: Vec, b: Vec) -> Vec:
    """max(a, b); NaN if either is"""
    return _extreme(a, b, True)


def minimum(a: Vec, b: Vec) -> Vec:
    """min(a, b); NaN if either is"""
    return _extreme(a, b, False)


def fmax(a: Vec, b: Vec) -> Vec:
    """max(a, b); the other one if one is NaN"""
    if not a.is_float:
        return maximum(a, b)
    return where(b.isnan(), a, where(a > b, a, b))


def fmin(a: Vec, b: Vec) -> Vec:
    """min(a, b); the other one if one is NaN"""
    if not a.is_float:
        return minimum(a, b)
    return where(b.isnan(), a, where(a < b, a, b))


def clamp(x: Vec, low: Vec, high: Vec) -> Vec:
    """min(max(x, low), high)"""
    return minimum(maximum(x, low), high)


def isnan(x: Vec) -> Vec:
    """Whether x is NaN"""
    return x.isnan()


def isinf(x: Vec) -> Vec:
    """Whether x is ∞ or −∞"""
    return abs(x).equals(math.inf)


def isfinite(x: Vec) -> Vec:
    """Whether x is neither infinite nor NaN"""
    return abs(x) < math.inf


def signbit(x: Vec) -> Vec:
    """Whether x is negative, −0 and −NaN included"""
    return x.to_bits() < 0 if x.is_float else x < 0


# --- remainders ----------------------------------------------------------------------------------


def fmod(a: Vec, b: Vec) -> Vec:
    """a − b·trunc(a/b), with the sign of a; exact; integers: 0 where b = 0

    With a quotient of fewer bits than the mantissa, q·b fits into one fused multiply-add, or into a
    double.  The rounded quotient may be one too large, which the sign shows.  Beyond, the C library
    answers.
    """
    if not a.is_float:
        return where(b.equals(0), 0, a - b * _divided(a, b))
    if a.element == "double" and not a.target.has_fma:
        return lane_by_lane("frem", a, b)  # nothing wider is at hand
    size, divisor = abs(a), abs(b)
    quotient = size / divisor
    q = trunc(quotient)
    if a.target.has_fma:
        rest = size - q * divisor
    else:
        a64, q64, b64 = (v.cast("fpext", "double") for v in (size, q, divisor))
        rest = (a64 - q64 * b64).cast("fptrunc", "float")
    rest = where(rest < 0.0, rest + divisor, rest)
    rest = where(divisor > size, size, rest).with_sign_of(a)
    # Zeros, infinities and NaN give no such quotient and go the slow way too, as do tiny divisors.
    usual = (quotient < 2.0 ** MANTISSA[a.element]) & (divisor > 1e-30) & (divisor < math.inf)
    return rare(a, ~usual, rest, "frem", b)


def remainder(a: Vec, b: Vec) -> Vec:
    """a − b·⌊a/b⌋, with the sign of b (Python's %); integers: 0 where b = 0"""
    rest = fmod(a, b)
    if not a.is_float:
        return where(_crosses(rest, b), rest + b, rest)
    moved = where((rest < 0.0) ^ (b < 0.0), rest + b, rest)
    return where(rest.equals(0.0), rest.with_sign_of(b), moved)


def floor_divide(a: Vec, b: Vec) -> Vec:
    """⌊a/b⌋ (Python's //); floats: a/b where b = 0; integers: 0 there"""
    if not a.is_float:
        q = _divided(a, b)
        rest = a - b * q
        return where(b.equals(0), 0, where(_crosses(rest, b), q - 1, q))
    rest = fmod(a, b)
    exact = (a - rest) / b  # whole, but for its rounding
    crosses = ((rest < 0.0) ^ (b < 0.0)) & rest.compare("one", 0.0)
    exact = where(crosses, exact - 1.0, exact)
    y = floor(exact)
    y = where(exact - y > 0.5, y + 1.0, y)
    y = where(y.equals(0.0), y.const(0.0).with_sign_of(a / b), y)
    return where(b.equals(0.0), a / b, y)


def _crosses(rest: Vec, b: Vec) -> Vec:
    """Whether an integer remainder has the other sign than the divisor."""
    return (rest ^ b).compare("slt", 0) & rest.compare("ne", 0)


def _divided(a: Vec, b: Vec) -> Vec:
    """Return a/b without its fraction; a where b = 0, and −a (which wraps) where b = −1.

    The processor would stop at both.
    """
    minus = b.equals(-1)
    safe = where(b.equals(0) | minus, 1, b)
    return where(minus, 0 - a, a.bit("sdiv", safe))


# --- bits and conversions ------------------------------------------------------------------------


def shift_left(a: Vec, b: Vec) -> Vec:
    """a·2ᵇ; 0 where b is at least the number of bits, or negative"""
    bits = int(a.element[1:])
    fits = b.compare("ult", bits)
    return where(fits, a << where(fits, b, 0), 0)


def shift_right(a: Vec, b: Vec) -> Vec:
    """⌊a/2ᵇ⌋; the sign in all bits where b is at least the number of bits, or negative"""
    bits = int(a.element[1:])
    return a.bit("ashr", where(b.compare("ult", bits), b, bits - 1))


_TYPES = {
    "float32": "float", "float64": "double", "bool": "i1",
    "uint8": "i8", "int8": "i8", "int16": "i16", "int32": "i32", "uint32": "i32",
    "int64": "i64", "uint64": "i64",
}  # fmt: skip


def convert(x: Vec, source: str, to: str) -> Vec:
    """Convert between NumPy's types, by their names; bools are i1.

    Floats lose what stands after the point.  Out of range, and for NaN, the result is what x86
    gives (and NumPy there, mostly): the smallest int32 or int64; uint8 takes the low bits of that.
    """
    target = _TYPES[to]
    unsigned = source.startswith(("uint", "bool"))
    if source == to:
        return x
    if target == "i1":
        return x.compare("une" if x.is_float else "ne", 0)
    if x.is_float:
        return _float_to(x, to, target)
    if target in ("float", "double"):
        return x.cast("uitofp" if unsigned else "sitofp", target)
    return _resize(x, target, "zext" if unsigned else "sext")


def _float_to(x: Vec, to: str, target: str) -> Vec:
    """Convert floats; narrow and unsigned integers come by way of wider ones."""
    if target in ("float", "double"):
        return x.cast("fpext" if target == "double" else "fptrunc", target)
    if to == "uint64":
        return x.cast("fptoui", "i64")
    through = "i64" if to in ("int64", "uint32") else "i32"
    return _resize(x.cast("fptosi", through), target, "sext")


def _resize(x: Vec, target: str, wider: str) -> Vec:
    """Make integers wider or narrower."""
    have, want = int(split(x.value.type)[0][1:]), int(target[1:])
    if have == want:
        return x
    return x.cast(wider if want > have else "trunc", target)
