"""Special functions with their derivatives; `toumei.numerics` computes them.

What PyTorch has in `torch.special` only is exported by `toumei.special`, the rest here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..config import get_default_dtype
from ..errors import GradError, OpError
from ..numerics import error, gamma, incomplete
from ..op import Array, Case, Native, op
from ..tape import Operand, apply, operand
from .arithmetic import add
from .elementwise import RealFunction, cast, log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "igamma",
    "igammac",
    "lgamma",
    "logit",
    "mvlgamma",
    "polygamma",
    "sigmoid",
    "xlogy",
]


class Special(RealFunction):
    """A function of one number that `numerics` computes, in float64."""

    compute: ClassVar[staticmethod[[Array], Array]]

    def forward(self, xp: Any, x: Array) -> Array:
        return type(self).compute(x).astype(x.dtype, copy=False)


@op
class Sigmoid(Native, RealFunction):
    """y = 1/(1 + e⁻ˣ);   dy/dx = y·(1 − y)"""

    def forward(self, xp: Any, x: Array) -> Array:
        y = xp.asarray(xp.negative(x))
        xp.exp(y, out=y)
        y += 1
        return xp.divide(1, y, out=y)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * ((1 - y) * y)


# --- the error function --------------------------------------------------------------------------


@op
class Erf(Native, Special):
    """y = erf x = 2/√π·∫₀ˣ exp(−t²) dt;   dy/dx = 2/√π·exp(−x²)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return error.erf_single(x) if x.dtype == np.float32 else error.erf(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * ((x * x).neg().exp() * (2 / math.sqrt(math.pi)))


@op
class Erfc(Native, Special):
    """y = erfc x = 1 − erf x;   dy/dx = −2/√π·exp(−x²)"""

    compute = staticmethod(error.erfc)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * ((x * x).neg().exp() * (-2 / math.sqrt(math.pi)))


@op
class Erfcx(Special):
    """y = exp(x²)·erfc x;   dy/dx = 2xy − 2/√π"""

    compute = staticmethod(error.erfcx)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return gy * (2 * x * y - 2 / math.sqrt(math.pi))


@op
class Erfinv(Special):
    """y with erf y = x;   dy/dx = ½·√π·exp(y²)"""

    domain: ClassVar[tuple[float, float]] = (-0.9, 0.9)
    compute = staticmethod(error.erfinv)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * ((y * y).exp() * (math.sqrt(math.pi) / 2))


@op
class Ndtr(Special):
    """y = Φ(x) = ½·erfc(−x/√2);   dy/dx = exp(−x²/2)/√(2π)"""

    compute = staticmethod(error.ndtr)

    def lower(self, b: Any, x: Any) -> Any:
        wide = b.mul(b.cast(x, np.dtype("float64")), -math.sqrt(0.5))
        return b.cast(b.mul(b.erfc(wide), 0.5), x.dtype)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * ((x * x * -0.5).exp() / math.sqrt(2 * math.pi))


@op
class Ndtri(Special):
    """y with Φ(y) = x;   dy/dx = √(2π)·exp(y²/2)"""

    domain: ClassVar[tuple[float, float]] = (0.05, 0.95)
    compute = staticmethod(error.ndtri)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * ((y * y * 0.5).exp() * math.sqrt(2 * math.pi))


@op
class LogNdtr(Special):
    """y = ln Φ(x);   dy/dx = √(2/π)/erfcx(−x/√2)"""

    compute = staticmethod(error.log_ndtr)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / apply(Erfcx(), x * -math.sqrt(0.5)) * math.sqrt(2 / math.pi)


# --- the gamma function --------------------------------------------------------------------------


@op
class Lgamma(Special):
    """y = ln |Γ(x)|;   dy/dx = ψ(x)"""

    domain: ClassVar[tuple[float, float]] = (0.3, 4.0)
    compute = staticmethod(gamma.lgamma)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * apply(Polygamma(0), x)


@op
class Polygamma(RealFunction):
    """y = ψ⁽ⁿ⁾(x), the (n + 1)-th derivative of ln Γ(x);   dy/dx = ψ⁽ⁿ⁺¹⁾(x)"""

    n: int

    def forward(self, xp: Any, x: Array) -> Array:
        return gamma.polygamma(self.n, x).astype(x.dtype, copy=False)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * apply(Polygamma(self.n + 1), x)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for n, shape in [(0, (2, 3)), (1, ()), (2, (4,)), (1, (2, 0))]:
            yield Case(cls(n), (rng.uniform(0.8, 4, shape),))


@op
class Zeta(RealFunction):
    """y = ζ(s, q) = Σ (q + k)⁻ˢ over k ≥ 0;   ∂y/∂q = −s·ζ(s + 1, q)"""

    domain: ClassVar[tuple[float, float]] = (1.2, 3.0)
    exempt: ClassVar[dict[str, str]] = {"gradient of s": "it is no known function; refused"}

    def forward(self, xp: Any, s: Array, q: Array) -> Array:
        return gamma.zeta(s, q).astype(s.dtype, copy=False)

    def backward_s(self, gy: Tensor) -> Tensor:
        raise GradError("zeta has no derivative with respect to its first argument here")

    def backward_q(self, gy: Tensor, s: Tensor, q: Tensor) -> Tensor:
        return gy * -s * apply(Zeta(), s + 1, q)


class IncompleteGamma(RealFunction):
    """P or Q of (a, x): ∂/∂x = ±xᵃ⁻¹·e⁻ˣ/Γ(a)."""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)
    exempt: ClassVar[dict[str, str]] = {"gradient of a": "it is no known function; refused"}

    def backward_a(self, gy: Tensor) -> Tensor:
        raise GradError(f"{self.name} has no derivative with respect to its first argument here")


def _gamma_density(a: Tensor, x: Tensor) -> Tensor:
    return ((a - 1) * log(x) - x - apply(Lgamma(), a)).exp()


@op
class Igamma(IncompleteGamma):
    """y = P(a, x) = ∫₀ˣ tᵃ⁻¹e⁻ᵗ dt/Γ(a);   ∂y/∂x = xᵃ⁻¹·e⁻ˣ/Γ(a)"""

    def forward(self, xp: Any, a: Array, x: Array) -> Array:
        return incomplete.igamma(a, x).astype(x.dtype, copy=False)

    def backward_x(self, gy: Tensor, a: Tensor, x: Tensor) -> Tensor:
        return gy * _gamma_density(a, x)


@op
class Igammac(IncompleteGamma):
    """y = Q(a, x) = 1 − P(a, x);   ∂y/∂x = −xᵃ⁻¹·e⁻ˣ/Γ(a)"""

    def forward(self, xp: Any, a: Array, x: Array) -> Array:
        return incomplete.igammac(a, x).astype(x.dtype, copy=False)

    def backward_x(self, gy: Tensor, a: Tensor, x: Tensor) -> Tensor:
        return -gy * _gamma_density(a, x)


# --- entropies -----------------------------------------------------------------------------------


@op
class Xlogy(RealFunction):
    """y = a·ln b, 0 where a = 0 unless b is NaN;   ∂y/∂a = ln b, ∂y/∂b = a/b"""

    domain: ClassVar[tuple[float, float]] = (0.5, 2.0)

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.where((a == 0) & ~xp.isnan(b), a.dtype.type(0), a * xp.log(b))

    def lower(self, b: Any, x: Any, y: Any) -> Any:
        return _unless_zero(b, x, y, b.log(y))

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * b.masked_fill((a == 0) & (b <= 0), 1).log()

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * (a / b)


@op
class Xlog1py(RealFunction):
    """y = a·ln(1 + b), 0 where a = 0 unless b is NaN;   ∂y/∂a = ln(1 + b), ∂y/∂b = a/(1 + b)"""

    domain: ClassVar[tuple[float, float]] = (0.5, 2.0)

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.where((a == 0) & ~xp.isnan(b), a.dtype.type(0), a * xp.log1p(b))

    def lower(self, b: Any, x: Any, y: Any) -> Any:
        return _unless_zero(b, x, y, b.log1p(y))

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * b.masked_fill((a == 0) & (b <= -1), 0).log1p()

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * (a / (b + 1))


def _unless_zero(b: Any, x: Any, y: Any, logarithm: Any) -> Any:
    """Return, in the compiler's builder, x·ln …, 0 where x = 0 unless y is NaN."""
    zero = b.apply("and", b.eq(x, 0.0), b.eq(y, y))
    return b.where(zero, 0.0, b.mul(x, logarithm))


@op
class Entr(RealFunction):
    """y = −x·ln x, 0 at 0, −∞ below;   dy/dx = −ln x − 1"""

    domain: ClassVar[tuple[float, float]] = (0.3, 2.0)

    def forward(self, xp: Any, x: Array) -> Array:
        inside = xp.where(x > 0, -x * xp.log(x), xp.where(x == 0, 0.0, -np.inf))
        return xp.where(xp.isnan(x), x, inside).astype(x.dtype)

    def lower(self, b: Any, x: Any) -> Any:
        inside = b.where(b.lt(x, 0.0), -math.inf, b.mul(b.neg(x), b.log(x)))
        tiny = b.lt(b.abs(x), float(np.finfo(x.dtype).tiny))  # the logarithm takes it for 0
        return b.where(tiny, 0.0, inside)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * (-log(x) - 1)


# --- functions -----------------------------------------------------------------------------------


def sigmoid(input: Operand) -> Tensor:
    """The logistic function 1/(1 + e⁻ˣ).  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.sigmoid(tm.tensor([0.0, 100.0]))
    tensor([0.5, 1. ])
    """
    return apply(Sigmoid(), input)


def logit(input: Operand, eps: float | None = None) -> Tensor:
    """The inverse of sigmoid: ln(x/(1 − x)).  Shape: (…) -> (…)

    Args:
        input: probabilities; outside of [0, 1] the result is NaN.
        eps: x is clamped to [eps, 1 − eps] first; None leaves it as it is.
    """
    x = operand(input)
    if x._data.dtype.kind != "f":
        x = cast(x, get_default_dtype())
    if eps is not None:
        x = x.clamp(eps, 1 - eps)
    return log(x / (1 - x))


def erf(input: Operand) -> Tensor:
    """The error function 2/√π·∫₀ˣ exp(−t²) dt.  Shape: (…) -> (…)

    Paper: W. J. Cody, "Rational Chebyshev approximations for the error function", 1969.

    >>> import toumei as tm
    >>> tm.erf(tm.tensor([0.0, 0.5]))
    tensor([0.    , 0.5205])
    """
    return apply(Erf(), input)


def erfc(input: Operand) -> Tensor:
    """1 − erf x, exact also where it is tiny.  Shape: (…) -> (…)"""
    return apply(Erfc(), input)


def erfinv(input: Operand) -> Tensor:
    """The inverse of erf; NaN outside of [−1, 1].  Shape: (…) -> (…)

    Paper: M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution",
    1988.
    """
    return apply(Erfinv(), input)


def lgamma(input: Operand) -> Tensor:
    """The logarithm of |Γ(x)|.  Shape: (…) -> (…)"""
    return apply(Lgamma(), input)


def digamma(input: Operand) -> Tensor:
    """ψ(x), the derivative of ln Γ(x).  Shape: (…) -> (…)"""
    return apply(Polygamma(0), input)


def polygamma(n: int, input: Operand) -> Tensor:
    """The n-th derivative of ψ(x).  Shape: (…) -> (…)

    Raises:
        OpError: n is negative.
    """
    if n < 0:
        raise OpError(f"polygamma: n must be at least 0, not {n}")
    return apply(Polygamma(int(n)), input)


def mvlgamma(input: Operand, p: int) -> Tensor:
    """ln of the gamma function of p×p matrices: p(p−1)/4·ln π + Σᵢ ln Γ(x − i/2), i < p.

    Shape: (…) -> (…)

    Raises:
        OpError: p < 1, or an element is not above (p − 1)/2.
    """
    if p < 1:
        raise OpError(f"mvlgamma: p must be at least 1, not {p}")
    x = operand(input)
    total = lgamma(x)
    for i in range(1, p):
        total = add(total, lgamma(x - i / 2))
    return total + p * (p - 1) / 4 * math.log(math.pi)


def igamma(input: Operand, other: Operand) -> Tensor:
    """The lower incomplete gamma function P(input, other), regularised.  Shape: (…), (…) -> (…)

    There is no derivative with respect to `input`.
    """
    return apply(Igamma(), input, other)


def igammac(input: Operand, other: Operand) -> Tensor:
    """The upper incomplete gamma function 1 − P(input, other).  Shape: (…), (…) -> (…)

    There is no derivative with respect to `input`.
    """
    return apply(Igammac(), input, other)


def xlogy(input: Operand, other: Operand) -> Tensor:
    """input·ln(other), which is 0 where `input` is 0.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Xlogy(), input, other)


def erfcx(input: Operand) -> Tensor:
    """exp(x²)·erfc(x), without overflow for large x.  Shape: (…) -> (…)"""
    return apply(Erfcx(), input)


def ndtr(input: Operand) -> Tensor:
    """The normal distribution function Φ(x).  Shape: (…) -> (…)"""
    return apply(Ndtr(), input)


def ndtri(input: Operand) -> Tensor:
    """The inverse of Φ: the quantiles of the normal distribution.  Shape: (…) -> (…)"""
    return apply(Ndtri(), input)


def log_ndtr(input: Operand) -> Tensor:
    """ln Φ(x), exact also for very negative x.  Shape: (…) -> (…)"""
    return apply(LogNdtr(), input)


def xlog1py(input: Operand, other: Operand) -> Tensor:
    """input·ln(1 + other), which is 0 where `input` is 0.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Xlog1py(), input, other)


def entr(input: Operand) -> Tensor:
    """The entropy −x·ln x, which is 0 at 0 and −∞ below.  Shape: (…) -> (…)"""
    return apply(Entr(), input)


def zeta(input: Operand, other: Operand) -> Tensor:
    """Hurwitz' zeta function Σ (other + k)^(−input) over k ≥ 0.  Shape: (…), (…) -> (…)

    There is no derivative with respect to `input`.
    """
    return apply(Zeta(), input, other)
