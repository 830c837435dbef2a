"""One of two numbers, element by element: the larger, the smaller, or as a condition says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpTypeError
from ..op import Array, Case, Elementwise, Native, RefusedType, Spec, op
from ..tape import Operand, apply, operand
from .elementwise import no_slope
from .selection import nonzero

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "fmax",
    "fmin",
    "heaviside",
    "maximum",
    "minimum",
    "where",
]


@op
class Maximum(Native):
    """y = max(a, b), NaN if either is;   the gradient goes to the larger, halves to equals"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.maximum(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, a > b, a == b)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, b > a, a == b)


@op
class Minimum(Native):
    """y = min(a, b), NaN if either is;   the gradient goes to the smaller, halves to equals"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.minimum(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, a < b, a == b)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _to_winner(gy, b < a, a == b)


def _to_winner(gy: Tensor, wins: Tensor, ties: Tensor) -> Tensor:
    return gy.masked_fill(~(wins | ties), 0) - (gy / 2).masked_fill(~ties, 0)


@op
class Fmax(Native):
    """y = max(a, b), never NaN if one isn't;   the gradient goes to the larger, to a if equal"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.fmax(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy.masked_fill(~((a >= b) | b.isnan()), 0)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy.masked_fill((a >= b) | b.isnan(), 0)


@op
class Fmin(Native):
    """y = min(a, b), never NaN if one isn't;   the gradient goes to the smaller, to a if equal"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.fmin(a, b)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy.masked_fill(~((a <= b) | b.isnan()), 0)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return gy.masked_fill((a <= b) | b.isnan(), 0)


@op
class Heaviside(Elementwise):
    """y = 0 if x < 0 (or NaN), at_zero if x = 0, 1 if x > 0;   ∂y/∂x = 0, ∂y/∂at_zero = [x = 0]"""

    def forward(self, xp: Any, x: Array, at_zero: Array) -> Array:
        return xp.where(x == 0, at_zero, x > 0).astype(x.dtype)

    def lower(self, b: Any, x: Any, at_zero: Any) -> Any:
        return b.where(b.eq(x, 0), at_zero, b.cast(b.gt(x, 0), x.dtype))

    def backward_x(self, gy: Tensor) -> Tensor:
        return no_slope(gy)

    def backward_at_zero(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy.masked_fill(x != 0, 0)


@op
class Where(Elementwise):
    """y = a where `condition`, else b"""

    promote_from: ClassVar[int] = 1

    def forward(self, xp: Any, condition: Array, a: Array, b: Array) -> Array:
        return xp.where(condition, a, b)

    def lower(self, b: Any, condition: Any, x: Any, y: Any) -> Any:
        return b.where(b.cast(condition, np.dtype(bool)), x, y)

    def check(self, condition: Array, a: Array, b: Array) -> None:
        if condition.dtype.kind not in "bu":
            raise RefusedType(f"the condition must be bool, not {condition.dtype}")

    def infer(self, condition: Spec, a: Spec, b: Spec) -> Spec:
        self.check(np.empty(0, condition.dtype), np.empty(0), np.empty(0))
        return super().infer(condition, a, b)

    def backward_a(self, gy: Tensor, condition: Tensor) -> Tensor:
        return gy.masked_fill(~condition.bool(), 0)

    def backward_b(self, gy: Tensor, condition: Tensor) -> Tensor:
        return gy.masked_fill(condition.bool(), 0)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in super().samples(rng):
            condition, a, b = case.inputs
            yield Case(cls(), (condition > 0, a, b))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.ones(2), np.ones(2), np.ones(2))), "the condition must be bool"


# --- functions -----------------------------------------------------------------------------------


def maximum(input: Operand, other: Operand) -> Tensor:
    """The larger of two, element by element; NaN wins.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Maximum(), input, other)


def minimum(input: Operand, other: Operand) -> Tensor:
    """The smaller of two, element by element; NaN wins.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Minimum(), input, other)


def fmax(input: Operand, other: Operand) -> Tensor:
    """The larger of two, element by element; NaN loses.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Fmax(), input, other)


def fmin(input: Operand, other: Operand) -> Tensor:
    """The smaller of two, element by element; NaN loses.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Fmin(), input, other)


def heaviside(input: Operand, values: Operand) -> Tensor:
    """The step: 0 below 0, 1 above it, `values` at 0 itself.  Shape: (…), (…) broadcast -> (…)"""
    return apply(Heaviside(), input, values)


def where(condition: Operand, input: Operand | None = None, other: Operand | None = None) -> Any:
    """`input` where `condition` holds, else `other`.  Shape: (…), (…), (…) broadcast -> (…)

    With the condition alone: the indices of its non-zero elements, one tensor per dimension.

    >>> import toumei as tm
    >>> x = tm.tensor([-1.0, 2.0])
    >>> tm.where(x > 0, x, 0)
    tensor([0., 2.])
    """
    if input is None and other is None:
        return nonzero(operand(condition), as_tuple=True)
    if input is None or other is None:
        raise OpTypeError("where: give both input and other, or neither")
    return apply(Where(), condition, input, other)
