"""Functions of one number, applied to each element; copies and casts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpTypeError
from ..op import RANK, Array, Case, DType, Elementwise, Op, Spec, op
from ..tape import Operand, apply, unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "cast",
    "clone",
    "cos",
    "exp",
    "log",
    "neg",
    "sin",
    "sqrt",
    "tanh",
]


class Unary(Elementwise):
    """A function of one real number: integers become the default float first."""

    promote: ClassVar[str] = "float"


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

    def backward(self, gy: Tensor) -> Tensor:
        return gy


@op
class Neg(Elementwise):
    """y = −x;   dy/dx = −1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.negative(x)

    def backward(self, gy: Tensor) -> Tensor:
        return -gy


@op
class Exp(Unary):
    """y = eˣ;   dy/dx = y"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.exp(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * y


@op
class Log(Unary):
    """y = ln x;   dy/dx = 1/x"""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy / x


@op
class Sqrt(Unary):
    """y = √x;   dy/dx = 1/(2y)"""

    domain: ClassVar[tuple[float, float]] = (0.5, 3.0)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sqrt(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy / (2 * y)


@op
class Sin(Unary):
    """y = sin x;   dy/dx = cos x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sin(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * x.cos()


@op
class Cos(Unary):
    """y = cos x;   dy/dx = −sin x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cos(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * x.sin()


@op
class Tanh(Unary):
    """y = tanh x = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ);   dy/dx = 1 − y²"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.tanh(x)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * (1 - y * y)


# --- functions -----------------------------------------------------------------------------------


def cast(input: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype; the tensor itself if it has that dtype already."""
    wanted = np.dtype(dtype)
    if wanted not in RANK:
        raise OpTypeError(unsupported(wanted))
    return input if input._data.dtype == wanted else apply(Cast(wanted), input)


def clone(input: Tensor) -> Tensor:
    """A copy in memory of its own, through which gradients flow.  Shape: (…) -> (…)"""
    return apply(Clone(), input)


def neg(input: Operand) -> Tensor:
    """−x, element by element.  Shape: (…) -> (…)"""
    return apply(Neg(), input)


def exp(input: Operand) -> Tensor:
    """eˣ, element by element.  Shape: (…) -> (…)"""
    return apply(Exp(), input)


def log(input: Operand) -> Tensor:
    """Natural logarithm, element by element.  Shape: (…) -> (…)"""
    return apply(Log(), input)


def sqrt(input: Operand) -> Tensor:
    """Square root, element by element.  Shape: (…) -> (…)"""
    return apply(Sqrt(), input)


def sin(input: Operand) -> Tensor:
    """Sine of each element, in radians.  Shape: (…) -> (…)"""
    return apply(Sin(), input)


def cos(input: Operand) -> Tensor:
    """Cosine of each element, in radians.  Shape: (…) -> (…)"""
    return apply(Cos(), input)


def tanh(input: Operand) -> Tensor:
    """Hyperbolic tangent of each element.  Shape: (…) -> (…)"""
    return apply(Tanh(), input)
