"""Functions of one number, element by element: casts, sign, powers, exponentials, logarithms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError, OpTypeError
from ..op import RANK, Array, Case, DType, Elementwise, Native, Op, RefusedType, Spec, op
from ..tape import Operand, Value, apply, operand, spec_of, unsupported
from .creation import zeros_like

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "abs", "absolute", "angle", "cast", "clone", "conj", "conj_physical", "exp", "exp2", "expm1",
    "log", "log1p", "log2", "log10", "neg", "negative", "positive", "real", "reciprocal",
    "resolve_conj", "resolve_neg", "rsqrt", "sgn", "sign", "signbit", "sqrt", "square",
]  # fmt: skip

_LN2, _LN10 = math.log(2.0), math.log(10.0)


class RealFunction(Elementwise):
    """A function of real numbers: integers become the default float first."""

    promote: ClassVar[str] = "float"


class Step(Elementwise):
    """Constant but for jumps: its derivative is zero."""

    def backward(self, gy: Tensor) -> Tensor:
        return no_slope(gy)


def no_slope(gy: Tensor) -> Tensor:
    """Return zeros: the gradient for an input that the output doesn't follow."""
    return zeros_like(gy)


@op
class Cast(Op):
    """y = x in another dtype;   dy/dx = 1 (the driver casts the gradient back)"""

    dtype: DType

    def forward(self, xp: Any, x: Array) -> Array:
        return x.astype(self.dtype)

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, self.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return gy

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(np.dtype("float64")), (rng.normal(size=(2, 3)).astype("float32"),))
        yield Case(cls(np.dtype("int64")), (rng.normal(size=(2, 3)),))


@op
class Clone(Elementwise):
    """y = x, in memory of its own;   dy/dx = 1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return x.copy(order="K")

    def lower(self, b: Any, x: Any) -> Any:
        return x

    def backward(self, gy: Tensor) -> Tensor:
        return gy


# --- sign ----------------------------------------------------------------------------------------


@op
class Neg(Native):
    """y = −x;   dy/dx = −1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.negative(x)

    def infer(self, x: Spec) -> Spec:
        if x.dtype.kind == "b":
            raise RefusedType("there is no negative of bools: use ~x or logical_not")
        return super().infer(x)

    def backward(self, gy: Tensor) -> Tensor:
        return -gy

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.array([True]),)), "no negative of bools"


@op
class Abs(Native):
    """y = |x|;   dy/dx = sign x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.absolute(x)

    def check(self, x: Any) -> None:
        refuse_bool(x.dtype, "absolute value")

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return super().infer(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * x.sign()

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.array([True]),)), "no absolute value of bools"


def need_floats(*values: Any) -> None:
    """Refuse arrays or Specs whose dtype has no fractions, as PyTorch does."""
    for value in values:
        if value.dtype.kind != "f":
            raise RefusedType(f"it needs floating-point numbers, not {value.dtype}: use .float()")


def refuse_bool(dtype: DType, what: str) -> None:
    """Refuse bools where NumPy would take them for integers."""
    if dtype.kind == "b":
        raise RefusedType(f"there is no {what} of bools: convert them with .to(…) first")


@op
class Sign(Native, Step):
    """y = −1, 0 or 1; 0 for NaN, as PyTorch has it"""

    def forward(self, xp: Any, x: Array) -> Array:
        if x.dtype.kind == "b":
            return x.copy()
        y = xp.asarray(xp.sign(x))
        y[y != y] = 0
        return y


@op
class Signbit(Native):
    """y = whether x is negative, −0.0 and −NaN included"""

    out: ClassVar[DType | None] = np.dtype(bool)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.signbit(x) if x.dtype.kind == "f" else xp.less(x, 0)


@op
class Angle(RealFunction):
    """y = the angle in the complex plane: 0, π for negative x, NaN for NaN;   dy/dx = 0"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.where(xp.isnan(x), x, xp.where(x < 0, math.pi, 0.0)).astype(x.dtype)

    def lower(self, b: Any, x: Any) -> Any:
        return b.where(b.lt(x, 0.0), math.pi, b.where(b.isnan(x), x, 0.0))

    def backward(self, gy: Tensor) -> Tensor:
        return no_slope(gy)


# --- powers --------------------------------------------------------------------------------------


@op
class Square(Native):
    """y = x²;   dy/dx = 2x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return x.astype(np.int64) if x.dtype.kind == "b" else xp.multiply(x, x)

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, np.dtype(np.int64)) if x.dtype.kind == "b" else super().infer(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * (2 * x)


@op
class Sqrt(Native, RealFunction):
    """y = √x;   dy/dx = 1/(2y)"""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sqrt(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy / (2 * y)


@op
class Rsqrt(Native, RealFunction):
    """y = 1/√x;   dy/dx = −y³/2"""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)

    def forward(self, xp: Any, x: Array) -> Array:
        y = xp.asarray(xp.sqrt(x))
        return xp.divide(1, y, out=y)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * (y * y * y * -0.5)


@op
class Reciprocal(Native, RealFunction):
    """y = 1/x;   dy/dx = −y²"""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.reciprocal(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return -gy * (y * y)


# --- exponentials and logarithms -----------------------------------------------------------------


@op
class Exp(Native, RealFunction):
    """y = eˣ;   dy/dx = y"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.exp(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * y


@op
class Exp2(Native, RealFunction):
    """y = 2ˣ;   dy/dx = y·ln 2"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.exp2(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * y * _LN2


@op
class Expm1(Native, RealFunction):
    """y = eˣ − 1, exact near 0;   dy/dx = y + 1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.expm1(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * (y + 1)


class Logarithm(Native, RealFunction):
    """A logarithm: samples are positive."""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)


@op
class Log(Logarithm):
    """y = ln x;   dy/dx = 1/x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / x


@op
class Log10(Logarithm):
    """y = log₁₀ x;   dy/dx = 1/(x·ln 10)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log10(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / (x * _LN10)


@op
class Log2(Logarithm):
    """y = log₂ x;   dy/dx = 1/(x·ln 2)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log2(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / (x * _LN2)


@op
class Log1p(Logarithm):
    """y = ln(1 + x), exact near 0;   dy/dx = 1/(1 + x)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log1p(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / (x + 1)


# --- functions -----------------------------------------------------------------------------------


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype; the tensor itself if it has that dtype already."""
    wanted = np.dtype(dtype)
    if wanted not in RANK:
        raise OpTypeError(unsupported(wanted))
    return input if input._data.dtype == wanted else apply(Cast(wanted), input)


def clone(input: Tensor, *, memory_format: str | None = None) -> Tensor:
    """A copy in memory of its own, through which gradients flow.  Shape: (…) -> (…)"""
    return in_format(apply(Clone(), input), memory_format)


def in_format(input: Tensor, memory_format: str | None) -> Tensor:
    """The same numbers, laid out in memory as wished: a name as in PyTorch, None for no wish."""
    if memory_format in (None, "preserve_format"):
        return input
    if memory_format == "contiguous_format":
        return input.contiguous()
    if memory_format == "channels_last" and input.ndim == 4:
        return input.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    raise OpError(
        f"memory_format={memory_format!r} on {spec_of(input)}: it must be 'preserve_format', "
        "'contiguous_format' or, with 4 dimensions, 'channels_last'"
    )


def neg(input: Operand) -> Tensor:
    """−x, element by element; bools are refused.  Shape: (…) -> (…)"""
    return apply(Neg(), input)


def positive(input: Operand) -> Tensor:
    """The tensor itself: +x; bools are refused.  Shape: (…) -> (…)"""
    x = operand(input)
    if x._data.dtype.kind == "b":
        raise OpTypeError("positive: there is no + of bools")
    return x


def abs(input: Operand) -> Tensor:
    """|x|, element by element; bools are refused.  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.abs(tm.tensor([-1.5, 2.0]))
    tensor([1.5, 2. ])
    """
    return apply(Abs(), input)


def sign(input: Operand) -> Tensor:
    """−1, 0 or 1 by the sign of each element.  Shape: (…) -> (…)"""
    return apply(Sign(), input)


def sgn(input: Operand) -> Tensor:
    """`sign`: for real numbers they are the same.  Shape: (…) -> (…)"""
    return apply(Sign(), input)


def signbit(input: Operand) -> Tensor:
    """Whether the sign bit is set: true for −0.0 too.  Shape: (…) -> (…), bool"""
    return apply(Signbit(), input)


def angle(input: Operand) -> Tensor:
    """The angle in the complex plane, in radians: 0, or π for x < 0.  Shape: (…) -> (…)"""
    return apply(Angle(), input)


def real(input: Tensor) -> Tensor:
    """The real part: the tensor itself, since all tensors are real.  Shape: (…) -> (…)"""
    return _itself("real", input)


def conj(input: Tensor) -> Tensor:
    """The complex conjugate: the tensor itself, since all tensors are real.  Shape: (…) -> (…)"""
    return _itself("conj", input)


def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugate: the tensor itself, since all tensors are real.  Shape: (…) -> (…)"""
    return _itself("conj_physical", input)


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugation is never put off here.  Shape: (…) -> (…)"""
    return _itself("resolve_conj", input)


def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negation is never put off here.  Shape: (…) -> (…)"""
    return _itself("resolve_neg", input)


def _itself(name: str, input: Tensor) -> Tensor:
    if not isinstance(input, Value):
        raise OpTypeError(f"{name}: expected a tensor, got {type(input).__name__}")
    return input


def square(input: Operand) -> Tensor:
    """x², element by element.  Shape: (…) -> (…)"""
    return apply(Square(), input)


def sqrt(input: Operand) -> Tensor:
    """Square root, element by element.  Shape: (…) -> (…)"""
    return apply(Sqrt(), input)


def rsqrt(input: Operand) -> Tensor:
    """1/√x, element by element.  Shape: (…) -> (…)"""
    return apply(Rsqrt(), input)


def reciprocal(input: Operand) -> Tensor:
    """1/x, element by element.  Shape: (…) -> (…)"""
    return apply(Reciprocal(), input)


def exp(input: Operand) -> Tensor:
    """eˣ, element by element.  Shape: (…) -> (…)"""
    return apply(Exp(), input)


def exp2(input: Operand) -> Tensor:
    """2ˣ, element by element.  Shape: (…) -> (…)"""
    return apply(Exp2(), input)


def expm1(input: Operand) -> Tensor:
    """eˣ − 1, exact also for small x.  Shape: (…) -> (…)"""
    return apply(Expm1(), input)


def log(input: Operand) -> Tensor:
    """Natural logarithm, element by element.  Shape: (…) -> (…)"""
    return apply(Log(), input)


def log10(input: Operand) -> Tensor:
    """Logarithm to the base 10, element by element.  Shape: (…) -> (…)"""
    return apply(Log10(), input)


def log2(input: Operand) -> Tensor:
    """Logarithm to the base 2, element by element.  Shape: (…) -> (…)"""
    return apply(Log2(), input)


def log1p(input: Operand) -> Tensor:
    """ln(1 + x), exact also for small x.  Shape: (…) -> (…)"""
    return apply(Log1p(), input)


absolute = abs
negative = neg
