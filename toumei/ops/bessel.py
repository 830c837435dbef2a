"""Bessel and Airy functions and orthogonal polynomials, with their derivatives (DLMF 9, 10, 18)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import GradError
from ..numerics import bessel
from ..numerics.orthogonal import FAMILIES, orthogonal
from ..op import Array, Case, Refused, Spec, op
from ..tape import Operand, apply
from .elementwise import RealFunction
from .special import Special

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "i0",
]


class Positive(Special):
    """Defined for positive numbers only."""

    domain: ClassVar[tuple[float, float]] = (0.5, 6.0)


@op
class I0(Special):
    """y = I₀(x);   dy/dx = I₁(x)"""

    compute = staticmethod(bessel.i0)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * apply(I1(), x)


@op
class I0e(Special):
    """y = exp(−|x|)·I₀(x);   dy/dx = exp(−|x|)·I₁(x) − y·sign x"""

    compute = staticmethod(bessel.i0e)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return gy * (apply(I1e(), x) - x.sign() * y)


@op
class I1(Special):
    """y = I₁(x);   dy/dx = I₀(x) − y/x, ½ at 0"""

    compute = staticmethod(bessel.i1)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        zero = x == 0
        return gy * (apply(I0(), x) - y / x.masked_fill(zero, 1)).masked_fill(zero, 0.5)


@op
class I1e(Special):
    """y = exp(−|x|)·I₁(x);   dy/dx = exp(−|x|)·I₀(x) − y·(sign x + 1/x), ½ at 0"""

    compute = staticmethod(bessel.i1e)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        zero = x == 0
        slope = apply(I0e(), x) - y * (x.sign() + x.masked_fill(zero, 1).reciprocal())
        return gy * slope.masked_fill(zero, 0.5)


@op
class K0(Positive):
    """y = K₀(x);   dy/dx = −K₁(x)"""

    compute = staticmethod(bessel.k0)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * apply(K1(), x)


@op
class K1(Positive):
    """y = K₁(x);   dy/dx = −K₀(x) − y/x"""

    compute = staticmethod(bessel.k1)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return -gy * (apply(K0(), x) + y / x)


@op
class K0e(Positive):
    """y = eˣ·K₀(x);   dy/dx = y − eˣ·K₁(x)"""

    compute = staticmethod(bessel.k0e)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return gy * (y - apply(K1e(), x))


@op
class K1e(Positive):
    """y = eˣ·K₁(x);   dy/dx = y − eˣ·K₀(x) − y/x"""

    compute = staticmethod(bessel.k1e)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return gy * (y - apply(K0e(), x) - y / x)


@op
class J0(Special):
    """y = J₀(x);   dy/dx = −J₁(x)"""

    compute = staticmethod(bessel.j0)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * apply(J1(), x)


@op
class J1(Special):
    """y = J₁(x);   dy/dx = J₀(x) − y/x, ½ at 0"""

    compute = staticmethod(bessel.j1)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        zero = x == 0
        return gy * (apply(J0(), x) - y / x.masked_fill(zero, 1)).masked_fill(zero, 0.5)


@op
class Y0(Positive):
    """y = Y₀(x);   dy/dx = −Y₁(x)"""

    compute = staticmethod(bessel.y0)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * apply(Y1(), x)


@op
class Y1(Positive):
    """y = Y₁(x);   dy/dx = Y₀(x) − y/x"""

    compute = staticmethod(bessel.y1)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return gy * (apply(Y0(), x) - y / x)


@op
class SphericalBessel(RealFunction):
    """y = jₙ(x), j₀(x) = sin x/x;   dy/dx = (n·jₙ₋₁(x) − (n + 1)·jₙ₊₁(x))/(2n + 1)"""

    n: int

    def forward(self, xp: Any, x: Array) -> Array:
        return bessel.spherical(self.n, x).astype(x.dtype, copy=False)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        n = self.n
        slope = apply(SphericalBessel(n + 1), x) * (-(n + 1) / (2 * n + 1))
        if n > 0:
            slope = slope + apply(SphericalBessel(n - 1), x) * (n / (2 * n + 1))
        return gy * slope

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for n, shape in [(0, (2, 3)), (1, ()), (2, (4,)), (1, (2, 0))]:
            yield Case(cls(n), (rng.uniform(-4, 4, shape),))
        yield Case(cls(0), (np.zeros(1),))


@op
class AiryAi(Special):
    """y = Ai(x);   dy/dx = Ai′(x)"""

    compute = staticmethod(bessel.airy_ai)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * apply(AiryAiSlope(), x)


@op
class AiryAiSlope(RealFunction):
    """y = Ai′(x);   dy/dx = x·Ai(x)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return bessel.airy_ai(x, derivative=True).astype(x.dtype, copy=False)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * (x * apply(AiryAi(), x))


# --- orthogonal polynomials ----------------------------------------------------------------------

_LARGEST_DEGREE = 1_000_000  # the recurrence takes a step per degree


@op
class OrthogonalPolynomial(RealFunction):
    """y = the derivative, of order `derivative`, of a family's polynomial of degree ⌊n⌋ at x"""

    family: str
    derivative: int
    exempt: ClassVar[dict[str, str]] = {"gradient of n": "a degree is a whole number; refused"}

    def forward(self, xp: Any, x: Array, n: Array) -> Array:
        return orthogonal(self.family, self.derivative, x, n).astype(x.dtype, copy=False)

    def check(self, x: Array, n: Array) -> None:
        if n.size and not n.max() <= _LARGEST_DEGREE:
            raise Refused(f"the degree {n.max()} is too large: {_LARGEST_DEGREE} is the largest")

    def infer(self, x: Spec, n: Spec) -> Spec:
        if self.family not in FAMILIES:
            raise Refused(f"there is no family {self.family!r}: there are {', '.join(FAMILIES)}")
        return super().infer(x, n)

    def backward_x(self, gy: Tensor, x: Tensor, n: Tensor) -> Tensor:
        return gy * apply(OrthogonalPolynomial(self.family, self.derivative + 1), x, n)

    def backward_n(self, gy: Tensor) -> Tensor:
        raise GradError(f"{self.family} has no derivative with respect to its degree n")

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for family in FAMILIES:
            yield Case(cls(family, 0), (rng.uniform(-1, 1, (3, 1)), np.arange(-1, 6)))
        yield Case(cls("legendre_polynomial_p", 1), (rng.uniform(-1, 1, ()), np.array(4)))
        yield Case(cls("hermite_polynomial_h", 0), (np.zeros((2, 0)), np.array(3)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls("legendre_polynomial_p", 0), (np.ones(2), np.array(1e9))), "is too large"


# --- functions -----------------------------------------------------------------------------------


def i0(input: Operand) -> Tensor:
    """The modified Bessel function I₀(x).  Shape: (…) -> (…)"""
    return apply(I0(), input)


def i0e(input: Operand) -> Tensor:
    """exp(−|x|)·I₀(x), which doesn't overflow.  Shape: (…) -> (…)"""
    return apply(I0e(), input)


def i1(input: Operand) -> Tensor:
    """The modified Bessel function I₁(x).  Shape: (…) -> (…)"""
    return apply(I1(), input)


def i1e(input: Operand) -> Tensor:
    """exp(−|x|)·I₁(x), which doesn't overflow.  Shape: (…) -> (…)"""
    return apply(I1e(), input)


def modified_bessel_k0(input: Operand) -> Tensor:
    """The modified Bessel function K₀(x); NaN below 0.  Shape: (…) -> (…)"""
    return apply(K0(), input)


def modified_bessel_k1(input: Operand) -> Tensor:
    """The modified Bessel function K₁(x); NaN below 0.  Shape: (…) -> (…)"""
    return apply(K1(), input)


def scaled_modified_bessel_k0(input: Operand) -> Tensor:
    """eˣ·K₀(x), which doesn't underflow; NaN below 0.  Shape: (…) -> (…)"""
    return apply(K0e(), input)


def scaled_modified_bessel_k1(input: Operand) -> Tensor:
    """eˣ·K₁(x), which doesn't underflow; NaN below 0.  Shape: (…) -> (…)"""
    return apply(K1e(), input)


def bessel_j0(input: Operand) -> Tensor:
    """The Bessel function J₀(x).  Shape: (…) -> (…)"""
    return apply(J0(), input)


def bessel_j1(input: Operand) -> Tensor:
    """The Bessel function J₁(x).  Shape: (…) -> (…)"""
    return apply(J1(), input)


def bessel_y0(input: Operand) -> Tensor:
    """The Bessel function of the second kind Y₀(x); NaN below 0.  Shape: (…) -> (…)"""
    return apply(Y0(), input)


def bessel_y1(input: Operand) -> Tensor:
    """The Bessel function of the second kind Y₁(x); NaN below 0.  Shape: (…) -> (…)"""
    return apply(Y1(), input)


def spherical_bessel_j0(input: Operand) -> Tensor:
    """The spherical Bessel function sin(x)/x, which is 1 at 0.  Shape: (…) -> (…)"""
    return apply(SphericalBessel(0), input)


def airy_ai(input: Operand) -> Tensor:
    """The Airy function Ai(x), the solution of y″ = x·y that decays.  Shape: (…) -> (…)"""
    return apply(AiryAi(), input)


def chebyshev_polynomial_t(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Tₙ(x) = cos(n·arccos x).  Shape: (…), (…) -> (…)"""
    return _polynomial("chebyshev_polynomial_t", input, n)


def chebyshev_polynomial_u(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Uₙ(x) = sin((n + 1)θ)/sin θ, θ = arccos x.  Shape: (…), (…) -> (…)"""
    return _polynomial("chebyshev_polynomial_u", input, n)


def chebyshev_polynomial_v(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Vₙ(x) = cos((n + ½)θ)/cos(θ/2), θ = arccos x.  Shape: (…), (…) -> (…)"""
    return _polynomial("chebyshev_polynomial_v", input, n)


def chebyshev_polynomial_w(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Wₙ(x) = sin((n + ½)θ)/sin(θ/2), θ = arccos x.  Shape: (…), (…) -> (…)"""
    return _polynomial("chebyshev_polynomial_w", input, n)


def shifted_chebyshev_polynomial_t(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Tₙ(2x − 1), for x in [0, 1].  Shape: (…), (…) -> (…)"""
    return _polynomial("shifted_chebyshev_polynomial_t", input, n)


def shifted_chebyshev_polynomial_u(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Uₙ(2x − 1), for x in [0, 1].  Shape: (…), (…) -> (…)"""
    return _polynomial("shifted_chebyshev_polynomial_u", input, n)


def shifted_chebyshev_polynomial_v(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Vₙ(2x − 1), for x in [0, 1].  Shape: (…), (…) -> (…)"""
    return _polynomial("shifted_chebyshev_polynomial_v", input, n)


def shifted_chebyshev_polynomial_w(input: Operand, n: Operand) -> Tensor:
    """Chebyshev's Wₙ(2x − 1), for x in [0, 1].  Shape: (…), (…) -> (…)"""
    return _polynomial("shifted_chebyshev_polynomial_w", input, n)


def hermite_polynomial_h(input: Operand, n: Operand) -> Tensor:
    """Hermite's Hₙ(x), the physicists' (leading coefficient 2ⁿ).  Shape: (…), (…) -> (…)"""
    return _polynomial("hermite_polynomial_h", input, n)


def hermite_polynomial_he(input: Operand, n: Operand) -> Tensor:
    """Hermite's Heₙ(x), the probabilists' (leading coefficient 1).  Shape: (…), (…) -> (…)"""
    return _polynomial("hermite_polynomial_he", input, n)


def laguerre_polynomial_l(input: Operand, n: Operand) -> Tensor:
    """Laguerre's Lₙ(x).  Shape: (…), (…) -> (…)"""
    return _polynomial("laguerre_polynomial_l", input, n)


def legendre_polynomial_p(input: Operand, n: Operand) -> Tensor:
    """Legendre's Pₙ(x).  Shape: (…), (…) -> (…)"""
    return _polynomial("legendre_polynomial_p", input, n)


def _polynomial(family: str, x: Operand, n: Operand) -> Tensor:
    return apply(OrthogonalPolynomial(family, 0), x, n)
