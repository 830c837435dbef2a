"""The error function and its relatives, after Cody; their inverses, after Wichura.

W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969).
M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution",
Applied Statistics 37 (1988).
"""

from __future__ import annotations

import math

import numpy as np

from .coefficients import ERF_P, ERF_Q
from .series import Array, doubles, piecewise, polynomial

_BLOCK = 1 << 14  # numbers that are worked on at a time: they stay in the cache
_SQRT_HALF = math.sqrt(0.5)

# erf(x) = x·A(x²)/B(x²), |x| ≤ 15/32
_A = (
    3.20937758913846947e3,
    3.77485237685302021e2,
    1.13864154151050156e2,
    3.16112374387056560e0,
    1.85777706184603153e-1,
)
_B = (
    2.84423683343917062e3,
    1.28261652607737228e3,
    2.44024637934444173e2,
    2.36012909523441209e1,
    1.0,
)
# exp(x²)·erfc(x) = C(x)/D(x), 15/32 ≤ x ≤ 4
_C = (
    1.23033935479799725e3,
    2.05107837782607147e3,
    1.71204761263407058e3,
    8.81952221241769090e2,
    2.98635138197400131e2,
    6.61191906371416295e1,
    8.88314979438837594e0,
    5.64188496988670089e-1,
    2.15311535474403846e-8,
)
_D = (
    1.23033935480374942e3,
    3.43936767414372164e3,
    4.36261909014324716e3,
    3.29079923573345963e3,
    1.62138957456669019e3,
    5.37181101862009858e2,
    1.17693950891312499e2,
    1.57449261107098347e1,
    1.0,
)
# exp(x²)·erfc(x) = (1/√π − x⁻²·P(x⁻²)/Q(x⁻²))/x, x ≥ 4
_P = (
    6.58749161529837803e-4,
    1.60837851487422766e-2,
    1.25781726111229246e-1,
    3.60344899949804439e-1,
    3.05326634961232344e-1,
    1.63153871373020978e-2,
)
_Q = (2.33520497626869185e-3, 6.05183413124413191e-2, 5.27905102951428412e-1,
      1.87295284992346725e0, 2.56852019228982242e0, 1.0)  # fmt: skip

# Φ⁻¹(½ + q) = q·A(r)/B(r), r = 0.425² − q²
_WA = (
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
_WB = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
# −Φ⁻¹(p) = C(r − 1.6)/D(r − 1.6), r = √(−ln p) ≤ 5
_WC = (
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
_WD = (
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)
# −Φ⁻¹(p) = E(r − 5)/F(r − 5), r ≥ 5
_WE = (
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)
_WF = (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
       7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
       2.04426310338993978564e-15)  # fmt: skip


def erf(x: Array) -> Array:
    """Return erf x = 2/√π·∫₀ˣ exp(−t²) dt."""
    (x,) = doubles(x)
    size = np.abs(x)
    return piecewise(
        [
            (size <= 15 / 32, _erf_centre),
            (size < 6, lambda x: np.copysign(1 - _gauss(x) * _scaled_tail(np.abs(x)), x)),
            (size >= 6, np.sign),  # 1 − erf 6 < 3e-17
        ],
        x,
    )


def erf_single(x: Array) -> Array:
    """Return erf x of float32 numbers to 3 units in the last place: one formula, block by block."""
    source = x.reshape(-1)
    y = np.empty(x.shape, x.dtype)
    target = y.reshape(-1)
    for start in range(0, source.size, _BLOCK):
        block = source[start : start + _BLOCK]
        z = np.clip(block, -3.92, 3.92)
        square = z * z
        z *= polynomial(ERF_P, square)
        z /= polynomial(ERF_Q, square)
        out = np.clip(z, -1, 1, out=target[start : start + _BLOCK])
        np.sign(block, out=out, where=np.abs(block) >= 3.92)  # erf rounds to ±1 there
    return y


def erfc(x: Array) -> Array:
    """Return erfc x = 1 − erf x, exact where it is small."""
    (x,) = doubles(x)
    return piecewise(
        [
            (np.abs(x) <= 15 / 32, lambda x: 1 - _erf_centre(x)),
            (x > 27, np.zeros_like),  # less than the smallest double
            (x > 0, lambda x: _gauss(x) * _scaled_tail(x)),
            (x < -6, lambda x: np.full_like(x, 2.0)),
            (x < 0, lambda x: 2 - _gauss(x) * _scaled_tail(-x)),
        ],
        x,
    )


def erfcx(x: Array) -> Array:
    """Return exp(x²)·erfc x, without overflow for large x."""
    (x,) = doubles(x)
    return piecewise(
        [
            (np.abs(x) <= 15 / 32, lambda x: np.exp(x * x) * (1 - _erf_centre(x))),
            (x > 0, _scaled_tail),
            (x < -27, lambda x: np.full_like(x, np.inf)),
            (x < 0, lambda x: 2 / _gauss(x) - _scaled_tail(-x)),
        ],
        x,
    )


def _erf_centre(x: Array) -> Array:
    square = x * x
    return x * polynomial(_A, square) / polynomial(_B, square)


def _scaled_tail(x: Array) -> Array:
    """Return exp(x²)·erfc x for x ≥ 15/32."""
    return piecewise([(x <= 4, _scaled_middle), (x > 4, _scaled_far)], x)


def _scaled_middle(x: Array) -> Array:
    return polynomial(_C, x) / polynomial(_D, x)


def _scaled_far(x: Array) -> Array:
    u = (1 / x) ** 2
    return (1 / math.sqrt(math.pi) - u * polynomial(_P, u) / polynomial(_Q, u)) / x


def _gauss(x: Array) -> Array:
    """Return exp(−x²): x is split, so that the rounding of x² does no harm (Cody)."""
    near = np.trunc(x * 16) / 16
    return np.exp(-near * near) * np.exp((near - x) * (near + x))


def ndtr(x: Array) -> Array:
    """Return Φ(x), the normal distribution: ½·erfc(−x/√2)."""
    (x,) = doubles(x)
    return erfc(x * -_SQRT_HALF) / 2


def log_ndtr(x: Array) -> Array:
    """Return ln Φ(x), exact for very negative x."""
    (x,) = doubles(x)
    return piecewise(
        [
            (x < -1, lambda x: np.log(erfcx(x * -_SQRT_HALF) / 2) - x * x / 2),
            (x >= -1, lambda x: np.log1p(-erfc(x * _SQRT_HALF) / 2)),
        ],
        x,
    )


def ndtri(p: Array) -> Array:
    """Return the x with Φ(x) = p."""
    (p,) = doubles(p)
    return _quantile(p - 0.5, np.minimum(p, 1 - p))


def erfinv(x: Array) -> Array:
    """Return the y with erf y = x."""
    (x,) = doubles(x)
    return _quantile(x / 2, (1 - np.abs(x)) / 2) * _SQRT_HALF


def _quantile(q: Array, tail: Array) -> Array:
    """Return Φ⁻¹(½ + q); `tail` is ½ − |q|, given because rounding may have eaten it in q."""
    return piecewise(
        [
            (np.abs(q) <= 0.425, _quantile_centre),
            (tail > 0, lambda q, tail: np.copysign(_quantile_tail(tail), q)),
            (tail == 0, lambda q, tail: np.copysign(np.inf, q)),
        ],
        q,
        tail,
    )


def _quantile_centre(q: Array, tail: Array) -> Array:
    r = 0.180625 - q * q
    return q * polynomial(_WA, r) / polynomial(_WB, r)


def _quantile_tail(p: Array) -> Array:
    r = np.sqrt(-np.log(p))
    return piecewise(
        [
            (r <= 5, lambda r: polynomial(_WC, r - 1.6) / polynomial(_WD, r - 1.6)),
            (r > 5, lambda r: polynomial(_WE, r - 5) / polynomial(_WF, r - 5)),
        ],
        r,
    )
