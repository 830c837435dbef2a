"""Sums, products, quotients, powers and what is near to them, with broadcasting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..config import bool_, float64, get_default_dtype
from ..errors import OpError, OpTypeError
from ..op import Array, Case, Elementwise, Native, RefusedType, Spec, op
from ..tape import Operand, Value, apply, operand, spec_of
from .elementwise import RealFunction, cast, need_floats, no_slope
from .rounding import FloorDivide, TruncDivide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "add", "addcdiv", "addcmul", "copysign", "div", "divide", "float_power", "frexp", "gcd", "lcm",
    "ldexp", "lerp", "logaddexp", "logaddexp2", "mul", "multiply", "nextafter", "pow", "rsub",
    "sub", "subtract", "true_divide",
]  # fmt: skip

_LN2 = math.log(2.0)


@op
class Add(Native):
    """y = a + b;   ∂y/∂a = ∂y/∂b = 1"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return gy

    def backward_b(self, gy: Tensor) -> Tensor:
        return gy


@op
class Sub(Native):
    """y = a − b;   ∂y/∂a = 1, ∂y/∂b = −1"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.subtract(a, b)

    def infer(self, a: Spec, b: Spec) -> Spec:
        if a.dtype.kind == "b":
            raise RefusedType("there is no subtraction of bools: use a ^ b or logical_xor")
        return super().infer(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return gy

    def backward_b(self, gy: Tensor) -> Tensor:
        return -gy


@op
class Mul(Native):
    """y = a·b;   ∂y/∂a = b, ∂y/∂b = a"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def backward_a(self, gy: Tensor, b: Tensor) -> Tensor:
        return gy * b

    def backward_b(self, gy: Tensor, a: Tensor) -> Tensor:
        return gy * a


@op
class Div(Native):
    """y = a / b;   ∂y/∂a = 1/b, ∂y/∂b = −a/b²"""

    promote: ClassVar[str] = "float"
    domain: ClassVar[tuple[float, float]] = (0.5, 2.0)

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.divide(a, b)

    def backward_a(self, gy: Tensor, b: Tensor) -> Tensor:
        return gy / b

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return -gy * ((a / b) / b)


@op
class Pow(Native):
    """y = aᵇ;   ∂y/∂a = b·aᵇ⁻¹ (0 where b = 0), ∂y/∂b = y·ln a (0 where a = 0 and b ≥ 0)"""

    domain: ClassVar[tuple[float, float]] = (0.5, 2.0)

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        if b.ndim == 0 and a.ndim > 0:  # these are many times faster than the power
            exponent = b.item()
            if exponent == 2:
                return xp.multiply(a, a)
            if exponent == 3:
                return xp.multiply(xp.multiply(a, a), a)
            if exponent == 0.5:
                return xp.sqrt(a)
            if exponent == -1 and a.dtype.kind == "f":
                return xp.reciprocal(a)
        return xp.power(a, b)

    def check(self, a: Any, b: Any) -> None:
        if a.dtype.kind == "b":
            raise RefusedType("there are no powers of bools: convert them with .to(…) first")

    def infer(self, a: Spec, b: Spec) -> Spec:
        self.check(a, b)
        return super().infer(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return (gy * (b * a ** (b - 1))).masked_fill(b == 0, 0)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        zero = (a == 0) & (b >= 0)
        return gy * (y * a.masked_fill(zero, 1).log()).masked_fill(zero, 0)


# --- less common ones ----------------------------------------------------------------------------


@op
class Lerp(Elementwise):
    """y = a + w·(b − a);   ∂y/∂a = 1 − w, ∂y/∂b = w, ∂y/∂w = b − a"""

    def check(self, a: Any, b: Any, w: Any) -> None:
        need_floats(a)

    def infer(self, a: Spec, b: Spec, w: Spec) -> Spec:
        self.check(a, b, w)
        return super().infer(a, b, w)

    def forward(self, xp: Any, a: Array, b: Array, w: Array) -> Array:
        way = b - a
        near = a + w * way  # exact at w = 0; the other one is exact at w = 1
        if w.ndim == 0 and abs(w) < 0.5:
            return near
        return xp.where(xp.abs(w) < 0.5, near, b - way * (1 - w))

    def lower(self, b: Any, start: Any, end: Any, w: Any) -> Any:
        way = b.sub(end, start)
        near, far = b.fma(w, way, start), b.sub(end, b.mul(way, b.sub(1.0, w)))
        return b.where(b.lt(b.abs(w), 0.5), near, far)

    def backward_a(self, gy: Tensor, w: Tensor) -> Tensor:
        return gy * (1 - w)

    def backward_b(self, gy: Tensor, w: Tensor) -> Tensor:
        return gy * w

    def backward_w(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * (b - a)


@op
class Logaddexp(Native, RealFunction):
    """y = ln(eᵃ + eᵇ);   ∂y/∂a = 1/(1 + eᵇ⁻ᵃ), ∂y/∂b = 1/(1 + eᵃ⁻ᵇ)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logaddexp(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * (a - b).sigmoid()

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * (b - a).sigmoid()


@op
class Logaddexp2(RealFunction):
    """y = log₂(2ᵃ + 2ᵇ);   ∂y/∂a = 1/(1 + 2ᵇ⁻ᵃ), ∂y/∂b = 1/(1 + 2ᵃ⁻ᵇ)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logaddexp2(a, b)

    def lower(self, b: Any, x: Any, y: Any) -> Any:
        apart = b.where(b.eq(x, y), 0.0, b.neg(b.abs(b.sub(x, y))))  # equal infinities too
        return b.add(b.maximum(x, y), b.mul(b.log1p(b.exp2(apart)), 1 / _LN2))

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * ((a - b) * _LN2).sigmoid()

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy * ((b - a) * _LN2).sigmoid()


@op
class Copysign(Native, RealFunction):
    """y = |a| with the sign of b;   ∂y/∂a = y/a (0 where a = 0), ∂y/∂b = 0"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.copysign(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, y: Tensor) -> Tensor:
        return gy * (a.sign() * y.sign())

    def backward_b(self, gy: Tensor) -> Tensor:
        return no_slope(gy)


@op
class Nextafter(Elementwise):
    """y = the number next to a on the way to b;   ∂y/∂a = 1 where a ≠ b, ∂y/∂b = 0"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.nextafter(a, b)

    def check(self, a: Any, b: Any) -> None:
        if a.dtype.kind != "f":
            raise RefusedType(f"only floating-point numbers have neighbours, not {a.dtype}")

    def infer(self, a: Spec, b: Spec) -> Spec:
        self.check(a, b)
        return super().infer(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy.masked_fill(a == b, 0)

    def backward_b(self, gy: Tensor) -> Tensor:
        return no_slope(gy)


@op
class Ldexp(Elementwise):
    """y = a·2ᵇ for integers b, without overflow on the way;   ∂y/∂a = 2ᵇ"""

    promote: ClassVar[str] = ""

    def check(self, a: Any, b: Any) -> None:
        need_floats(a)

    def infer(self, a: Spec, b: Spec) -> Spec:
        self.check(a, b)
        return super().infer(a, b)

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.ldexp(a, xp.clip(b, -5000, 5000).astype(np.int32))

    def backward_a(self, gy: Tensor, b: Tensor) -> Tensor:
        return apply(Ldexp(), gy, b)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in [(), (3,), (2, 0), (2, 3)]:
            yield Case(cls(), (rng.uniform(-2, 2, shape), rng.integers(-3, 4, shape[-1:])))


@op
class Frexp(Elementwise):
    """m, e with x = m·2ᵉ and ½ ≤ |m| < 1;   dm/dx = 2⁻ᵉ"""

    def check(self, x: Any) -> None:
        need_floats(x)

    def forward(self, xp: Any, x: Array) -> tuple[Array, Array]:
        mantissa, exponent = xp.frexp(x)
        return mantissa, exponent

    def infer(self, x: Spec) -> tuple[Spec, Spec]:  # type: ignore[override]
        self.check(x)
        return Spec(x.shape, x.dtype), Spec(x.shape, np.dtype(np.int32))

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor | None:
        return None if gys[0] is None else gys[0] / pow(2.0, ys[1])


class WholeNumbers(Elementwise):
    """A function of two integers."""

    def infer(self, a: Spec, b: Spec) -> Spec:
        if a.dtype.kind not in "iu":
            raise RefusedType(f"it needs integers, not {a.dtype}")
        return super().infer(a, b)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in [(), (3,), (2, 0)]:
            yield Case(cls(), (rng.integers(-30, 30, shape), rng.integers(-30, 30, shape)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.ones(2), np.ones(2))), "needs integers, not float64"


@op
class Gcd(WholeNumbers):
    """y = the greatest common divisor of a and b"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.gcd(a, b)


@op
class Lcm(WholeNumbers):
    """y = the least common multiple of a and b"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.lcm(a, b)


# --- functions -----------------------------------------------------------------------------------


def add(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """Sum: input + alpha·other.  Shape: (…), (…) broadcast -> (…)

    >>> import toumei as tm
    >>> tm.add(tm.tensor([1.0, 2.0]), 10)
    tensor([11., 12.])
    """
    return apply(Add(), input, other if alpha == 1 else _times(other, alpha))


def sub(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """Difference: input − alpha·other; bools are refused.  Shape: (…), (…) broadcast -> (…)"""
    if _is_bool(input) or _is_bool(other):
        raise OpTypeError("sub: there is no subtraction of bools: use ~x or logical_xor")
    return apply(Sub(), input, other if alpha == 1 else _times(other, alpha))


def rsub(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """Difference the other way round: other − alpha·input.  Shape: (…), (…) broadcast -> (…)"""
    return sub(other, input, alpha=alpha)


def _is_bool(value: Any) -> bool:
    if isinstance(value, Value):
        return bool(value._data.dtype == bool_)
    return value is True or value is False


def _times(other: Operand, alpha: float) -> Operand:
    """Return alpha·other; of two Python numbers another one, so that it adapts its dtype."""
    return alpha * other if isinstance(other, int | float) else apply(Mul(), other, alpha)


def mul(input: Operand, other: Operand) -> Tensor:
    """Product, element by element.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Mul(), input, other)


def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """Quotient; integers become floats unless it is rounded.  Shape: (…), (…) broadcast -> (…)

    Args:
        input: the dividend.
        other: the divisor.
        rounding_mode: None, "floor" (down) or "trunc" (towards 0).

    Raises:
        OpError: `rounding_mode` is something else, or an integer is divided by 0 and rounded.

    >>> import toumei as tm
    >>> tm.div(tm.tensor([-7, 7]), 2, rounding_mode="trunc")
    tensor([-3,  3])
    """
    if rounding_mode is None:
        return apply(Div(), input, other)
    if rounding_mode == "floor":
        return apply(FloorDivide(), input, other)
    if rounding_mode == "trunc":
        return apply(TruncDivide(), input, other)
    raise OpError(f"div: rounding_mode must be None, 'floor' or 'trunc', not {rounding_mode!r}")


def true_divide(input: Operand, other: Operand) -> Tensor:
    """Quotient; integers become floats.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Div(), input, other)


def pow(input: Operand, exponent: Operand) -> Tensor:
    """Power: inputᵉˣᵖᵒⁿᵉⁿᵗ.  Shape: (…), (…) broadcast -> (…)

    Raises:
        OpError: an integer to a negative integer power, which is no integer.
    """
    if type(exponent) is int and exponent < 0 and operand(input)._data.dtype.kind in "iu":
        raise OpError(f"pow({spec_of(operand(input))}, {exponent}): integers have no such power")
    return apply(Pow(), input, exponent)


def float_power(input: Operand, exponent: Operand) -> Tensor:
    """Power, computed in float64.  Shape: (…), (…) broadcast -> (…), float64"""
    return apply(Pow(), cast(operand(input), float64), cast(operand(exponent), float64))


def addcmul(input: Operand, tensor1: Operand, tensor2: Operand, *, value: float = 1) -> Tensor:
    """input + value·tensor1·tensor2.  Shape: (…), (…), (…) broadcast -> (…)"""
    product = mul(tensor1, tensor2)
    return add(input, product if value == 1 else mul(product, value))


def addcdiv(input: Operand, tensor1: Operand, tensor2: Operand, *, value: float = 1) -> Tensor:
    """input + value·tensor1/tensor2: no integers.  Shape: (…), (…), (…) broadcast -> (…)"""
    above, below = operand(tensor1), operand(tensor2)
    if above._data.dtype.kind != "f" and below._data.dtype.kind != "f":
        raise OpTypeError(f"addcdiv: {spec_of(above)} / {spec_of(below)}: only floats are divided")
    return add(input, div(above if value == 1 else mul(above, value), below))


def lerp(input: Tensor, end: Tensor, weight: Operand) -> Tensor:
    """On the way from `input` to `end`: input + weight·(end − input).  Shape: (…), (…) -> (…)

    Raises:
        OpTypeError: the dtypes differ, or are no floats.

    >>> import toumei as tm
    >>> tm.lerp(tm.tensor([0.0, 10.0]), tm.tensor([10.0, 20.0]), 0.25)
    tensor([ 2.5, 12.5])
    """
    a, b = operand(input), operand(end)
    if a._data.dtype != b._data.dtype or a._data.dtype.kind != "f":
        raise OpTypeError(f"lerp: needs floats of one dtype, got {spec_of(a)} and {spec_of(b)}")
    return apply(Lerp(), a, b, weight)


def logaddexp(input: Operand, other: Operand) -> Tensor:
    """ln(eⁱⁿᵖᵘᵗ + eᵒᵗʰᵉʳ), without overflow.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Logaddexp(), input, other)


def logaddexp2(input: Operand, other: Operand) -> Tensor:
    """log₂(2ⁱⁿᵖᵘᵗ + 2ᵒᵗʰᵉʳ), without overflow.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Logaddexp2(), input, other)


def copysign(input: Operand, other: Operand) -> Tensor:
    """|input| with the sign of `other`.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Copysign(), input, other)


def nextafter(input: Operand, other: Operand) -> Tensor:
    """The next floating-point number from `input` on the way to `other`.  Shape: (…), (…) -> (…)"""
    return apply(Nextafter(), input, other)


def ldexp(input: Operand, other: Operand) -> Tensor:
    """input·2ᵒᵗʰᵉʳ.  Shape: (…), (…) broadcast -> (…)"""
    a, b = operand(input), operand(other)
    if b._data.dtype.kind not in "iu" or a._number is not None:
        return mul(a, pow(2.0, b))
    return apply(Ldexp(), a if a._data.dtype.kind == "f" else cast(a, get_default_dtype()), b)


class MantissaExponent(NamedTuple):
    """What `frexp` returns."""

    mantissa: Tensor
    exponent: Tensor


def frexp(input: Operand) -> MantissaExponent:
    """Mantissa and exponent: input = mantissa·2ᵉˣᵖᵒⁿᵉⁿᵗ.  Shape: (…) -> (…), (…) int32"""
    return MantissaExponent(*apply(Frexp(), input))


def gcd(input: Operand, other: Operand) -> Tensor:
    """The greatest common divisor of integers.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Gcd(), input, other)


def lcm(input: Operand, other: Operand) -> Tensor:
    """The least common multiple of integers.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Lcm(), input, other)


multiply, subtract, divide = mul, sub, div
