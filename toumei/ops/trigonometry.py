"""Trigonometric and hyperbolic functions, their inverses, angles and hypotenuses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from ..op import Array, Native, op
from ..tape import Operand, apply, operand
from .bessel import SphericalBessel
from .elementwise import RealFunction

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "acos",
    "acosh",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "hypot",
    "rad2deg",
    "sin",
    "sinc",
    "sinh",
    "tan",
    "tanh",
]


@op
class Sin(Native, RealFunction):
    """y = sin x;   dy/dx = cos x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sin(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * x.cos()


@op
class Cos(Native, RealFunction):
    """y = cos x;   dy/dx = −sin x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cos(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * x.sin()


@op
class Tan(Native, RealFunction):
    """y = tan x;   dy/dx = 1 + y²"""

    domain: ClassVar[tuple[float, float]] = (-1.2, 1.2)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.tan(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * (1 + y * y)


@op
class Asin(Native, RealFunction):
    """y = arcsin x;   dy/dx = 1/√(1 − x²)"""

    domain: ClassVar[tuple[float, float]] = (-0.9, 0.9)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arcsin(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * (1 - x * x).rsqrt()


@op
class Acos(Native, RealFunction):
    """y = arccos x;   dy/dx = −1/√(1 − x²)"""

    domain: ClassVar[tuple[float, float]] = (-0.9, 0.9)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arccos(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * (1 - x * x).rsqrt()


@op
class Atan(Native, RealFunction):
    """y = arctan x;   dy/dx = 1/(1 + x²)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arctan(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / (x * x + 1)


@op
class Sinh(Native, RealFunction):
    """y = sinh x;   dy/dx = cosh x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sinh(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * x.cosh()


@op
class Cosh(Native, RealFunction):
    """y = cosh x;   dy/dx = sinh x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cosh(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * x.sinh()


@op
class Tanh(Native, RealFunction):
    """y = tanh x = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ);   dy/dx = 1 − y²"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.tanh(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * (1 - y * y)


@op
class Asinh(Native, RealFunction):
    """y = arsinh x;   dy/dx = 1/√(x² + 1)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arcsinh(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * (x * x + 1).rsqrt()


@op
class Acosh(Native, RealFunction):
    """y = arcosh x;   dy/dx = 1/√((x − 1)·(x + 1))"""

    domain: ClassVar[tuple[float, float]] = (1.2, 3.0)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arccosh(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * ((x - 1).rsqrt() * (x + 1).rsqrt())


@op
class Atanh(Native, RealFunction):
    """y = artanh x;   dy/dx = 1/(1 − x²)"""

    domain: ClassVar[tuple[float, float]] = (-0.9, 0.9)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arctanh(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / (1 - x * x)


@op
class Sinc(RealFunction):
    """y = sin(πx)/(πx), 1 at 0;   dy/dx = −π·j₁(πx), with the spherical Bessel function"""

    def forward(self, xp: Any, x: Array) -> Array:
        t = xp.asarray(x * math.pi)
        y = xp.asarray(xp.sin(t))
        xp.divide(y, t, out=y)
        y[t == 0] = 1
        return y

    def lower(self, b: Any, x: Any) -> Any:
        t = b.mul(x, math.pi)
        return b.where(b.eq(t, 0.0), 1.0, b.div(b.sin(t), t))

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * (apply(SphericalBessel(1), x * math.pi) * -math.pi)


@op
class Atan2(Native, RealFunction):
    """y = the angle of the point (x, h), h upwards;   ∂y/∂h = x/(h² + x²), ∂y/∂x = −h/(h² + x²)"""

    def forward(self, xp: Any, h: Array, x: Array) -> Array:
        return xp.arctan2(h, x)

    def backward_h(self, gy: Tensor, h: Tensor, x: Tensor) -> Tensor:
        return gy * (x * _inverse_square(h, x))

    def backward_x(self, gy: Tensor, h: Tensor, x: Tensor) -> Tensor:
        return gy * (-h * _inverse_square(h, x))


def _inverse_square(h: Tensor, x: Tensor) -> Tensor:
    """Return 1/(h² + x²), 0 in the origin, where the angle has no derivative."""
    square = h * h + x * x
    zero = square == 0
    return square.masked_fill(zero, 1).reciprocal().masked_fill(zero, 0)


@op
class Hypot(RealFunction):
    """y = √(a² + b²);   ∂y/∂a = a/y, ∂y/∂b = b/y"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.hypot(a, b)

    def lower(self, b: Any, x: Any, y: Any) -> Any:
        x, y = b.abs(x), b.abs(y)
        large, ratio = b.maximum(x, y), b.div(b.minimum(x, y), b.maximum(x, y))
        length = b.mul(large, b.sqrt(b.fma(ratio, ratio, 1.0)))
        length = b.where(b.eq(large, 0.0), 0.0, length)
        return b.where(b.eq(b.fmax(x, y), math.inf), math.inf, length)  # also if the other is NaN

    def backward_a(self, gy: Tensor, a: Tensor, y: Tensor) -> Tensor:
        return gy * (a / y)

    def backward_b(self, gy: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return gy * (b / y)


# --- functions -----------------------------------------------------------------------------------


def sin(input: Operand) -> Tensor:
    """Sine of each element, in radians.  Shape: (…) -> (…)"""
    return apply(Sin(), input)


def cos(input: Operand) -> Tensor:
    """Cosine of each element, in radians.  Shape: (…) -> (…)"""
    return apply(Cos(), input)


def tan(input: Operand) -> Tensor:
    """Tangent of each element, in radians.  Shape: (…) -> (…)"""
    return apply(Tan(), input)


def asin(input: Operand) -> Tensor:
    """Arc sine, in radians; NaN outside of [−1, 1].  Shape: (…) -> (…)"""
    return apply(Asin(), input)


def acos(input: Operand) -> Tensor:
    """Arc cosine, in radians; NaN outside of [−1, 1].  Shape: (…) -> (…)"""
    return apply(Acos(), input)


def atan(input: Operand) -> Tensor:
    """Arc tangent, in radians.  Shape: (…) -> (…)"""
    return apply(Atan(), input)


def sinh(input: Operand) -> Tensor:
    """Hyperbolic sine of each element.  Shape: (…) -> (…)"""
    return apply(Sinh(), input)


def cosh(input: Operand) -> Tensor:
    """Hyperbolic cosine of each element.  Shape: (…) -> (…)"""
    return apply(Cosh(), input)


def tanh(input: Operand) -> Tensor:
    """Hyperbolic tangent of each element.  Shape: (…) -> (…)"""
    return apply(Tanh(), input)


def asinh(input: Operand) -> Tensor:
    """Inverse hyperbolic sine of each element.  Shape: (…) -> (…)"""
    return apply(Asinh(), input)


def acosh(input: Operand) -> Tensor:
    """Inverse hyperbolic cosine; NaN below 1.  Shape: (…) -> (…)"""
    return apply(Acosh(), input)


def atanh(input: Operand) -> Tensor:
    """Inverse hyperbolic tangent; NaN outside of [−1, 1].  Shape: (…) -> (…)"""
    return apply(Atanh(), input)


def sinc(input: Operand) -> Tensor:
    """sin(πx)/(πx), which is 1 at 0.  Shape: (…) -> (…)"""
    return apply(Sinc(), input)


def atan2(input: Operand, other: Operand) -> Tensor:
    """The angle of the point (other, input), in radians, in (−π, π].  Shape: (…), (…) -> (…)

    >>> import toumei as tm
    >>> tm.atan2(tm.tensor(1.0), tm.tensor(-1.0))
    tensor(2.3562)
    """
    return apply(Atan2(), input, other)


def hypot(input: Operand, other: Operand) -> Tensor:
    """√(input² + other²), without overflow on the way.  Shape: (…), (…) -> (…)"""
    return apply(Hypot(), input, other)


def deg2rad(input: Operand) -> Tensor:
    """Degrees to radians: x·π/180.  Shape: (…) -> (…)"""
    return operand(input) * (math.pi / 180)


def rad2deg(input: Operand) -> Tensor:
    """Radians to degrees: x·180/π.  Shape: (…) -> (…)"""
    return operand(input) * (180 / math.pi)


arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2
arcsinh, arccosh, arctanh = asinh, acosh, atanh
