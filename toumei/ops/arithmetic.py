"""Arithmetic, comparison and logic on two tensors, element by element, with broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, DType, Elementwise, Refused, Spec, op
from ..tape import Operand, apply

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "add",
    "div",
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "pow",
    "sub",
    "where",
]


@op
class Add(Elementwise):
    """y = a + b;   ∂y/∂a = ∂y/∂b = 1"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return gy

    def backward_b(self, gy: Tensor) -> Tensor:
        return gy


@op
class Sub(Elementwise):
    """y = a − b;   ∂y/∂a = 1, ∂y/∂b = −1"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.subtract(a, b)

    def infer(self, a: Spec, b: Spec) -> Spec:
        if a.dtype.kind == "b":
            raise Refused("there is no subtraction of bools: use a ^ b or logical_xor")
        return super().infer(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return gy

    def backward_b(self, gy: Tensor) -> Tensor:
        return -gy


@op
class Mul(Elementwise):
    """y = a·b;   ∂y/∂a = b, ∂y/∂b = a"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def backward_a(self, gy: Tensor, b: Tensor) -> Tensor:
        return gy * b

    def backward_b(self, gy: Tensor, a: Tensor) -> Tensor:
        return gy * a


@op
class Div(Elementwise):
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
class Pow(Elementwise):
    """y = aᵇ;   ∂y/∂a = b·aᵇ⁻¹ (0 where b = 0), ∂y/∂b = y·ln a (0 where a = 0 and b ≥ 0)"""

    domain: ClassVar[tuple[float, float]] = (0.5, 2.0)

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.power(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return (gy * (b * a ** (b - 1))).masked_fill(b == 0, 0)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        zero = (a == 0) & (b >= 0)
        return gy * (y * a.masked_fill(zero, 1).log()).masked_fill(zero, 0)


class Comparison(Elementwise):
    """Compares two tensors: the result is bool and has no derivative."""

    out: ClassVar[DType | None] = np.dtype(bool)


@op
class Eq(Comparison):
    """y = (a = b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.equal(a, b)


@op
class Ne(Comparison):
    """y = (a ≠ b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.not_equal(a, b)


@op
class Lt(Comparison):
    """y = (a < b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less(a, b)


@op
class Le(Comparison):
    """y = (a ≤ b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less_equal(a, b)


@op
class Gt(Comparison):
    """y = (a > b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.greater(a, b)


@op
class Ge(Comparison):
    """y = (a ≥ b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.greater_equal(a, b)


@op
class Maximum(Elementwise):
    """y = max(a, b), NaN if either is;   the gradient goes to the larger, half to each of equals"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.maximum(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, a > b, a == b)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, b > a, a == b)


@op
class Minimum(Elementwise):
    """y = min(a, b), NaN if either is;   the gradient goes to the smaller, half to each of equals"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.minimum(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, a < b, a == b)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, b < a, a == b)


def _to_winner(gy: Tensor, wins: Tensor, ties: Tensor) -> Tensor:
    return gy.masked_fill(~(wins | ties), 0) - (gy / 2).masked_fill(~ties, 0)


@op
class Where(Elementwise):
    """y = a where `condition`, else b"""

    promote_from: ClassVar[int] = 1

    def forward(self, xp: Any, condition: Array, a: Array, b: Array) -> Array:
        return xp.where(condition, a, b)

    def infer(self, condition: Spec, a: Spec, b: Spec) -> Spec:
        if condition.dtype.kind not in "bu":
            raise Refused(f"the condition must be bool, not {condition.dtype}")
        return super().infer(condition, a, b)

    def backward_a(self, gy: Tensor, condition: Tensor) -> Tensor:
        return gy.masked_fill(~condition.bool(), 0)

    def backward_b(self, gy: Tensor, condition: Tensor) -> Tensor:
        return gy.masked_fill(condition.bool(), 0)


# --- functions -----------------------------------------------------------------------------------


def add(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """Sum: input + alpha·other.  Shape: (…), (…) broadcast -> (…)

    >>> import toumei as tm
    >>> tm.add(tm.tensor([1.0, 2.0]), 10)
    tensor([11., 12.])
    """
    return apply(Add(), input, other if alpha == 1 else apply(Mul(), other, alpha))


def sub(input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    """Difference: input − alpha·other.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Sub(), input, other if alpha == 1 else apply(Mul(), other, alpha))


def mul(input: Operand, other: Operand) -> Tensor:
    """Product, element by element.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Mul(), input, other)


def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    """Quotient; `rounding_mode` "floor" or "trunc" rounds it.  Shape: (…), (…) broadcast -> (…)

    Raises:
        OpError: `rounding_mode` is none of None, "floor", "trunc".
    """
    if rounding_mode is None:
        return apply(Div(), input, other)
    raise OpError(f"div: rounding_mode must be None, 'floor' or 'trunc', not {rounding_mode!r}")


def pow(input: Operand, exponent: Operand) -> Tensor:
    """Power: inputᵉˣᵖᵒⁿᵉⁿᵗ.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Pow(), input, exponent)


def eq(input: Operand, other: Operand) -> Tensor:
    """Whether equal, element by element.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(Eq(), input, other)


def ne(input: Operand, other: Operand) -> Tensor:
    """Whether different, element by element.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(Ne(), input, other)


def lt(input: Operand, other: Operand) -> Tensor:
    """Whether less, element by element.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(Lt(), input, other)


def le(input: Operand, other: Operand) -> Tensor:
    """Whether less or equal, element by element.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(Le(), input, other)


def gt(input: Operand, other: Operand) -> Tensor:
    """Whether greater, element by element.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(Gt(), input, other)


def ge(input: Operand, other: Operand) -> Tensor:
    """Whether greater or equal, element by element.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(Ge(), input, other)


def maximum(input: Operand, other: Operand) -> Tensor:
    """The larger of two, element by element; NaN wins.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Maximum(), input, other)


def minimum(input: Operand, other: Operand) -> Tensor:
    """The smaller of two, element by element; NaN wins.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Minimum(), input, other)


def where(condition: Operand, input: Operand, other: Operand) -> Tensor:
    """`input` where `condition` holds, else `other`.  Shape: (…), (…), (…) broadcast -> (…)"""
    return apply(Where(), condition, input, other)
