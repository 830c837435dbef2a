"""Rounding, limits, and division that leaves a remainder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Elementwise, Native, Refused, RefusedType, Spec, op
from ..tape import Operand, apply, operand, spec_of
from .elementwise import Step, no_slope, refuse_bool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "fix",
    "floor",
    "floor_divide",
    "fmod",
    "frac",
    "nan_to_num",
    "remainder",
    "round",
    "trunc",
]


class Rounding(Native, Step):
    """Gives a whole number near x: integers are whole already."""

    def check(self, x: Any) -> None:
        refuse_bool(x.dtype, "rounding")

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return super().infer(x)


@op
class Floor(Rounding):
    """y = the largest whole number ≤ x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.floor(x) if x.dtype.kind == "f" else x.copy()


@op
class Ceil(Rounding):
    """y = the smallest whole number ≥ x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.ceil(x) if x.dtype.kind == "f" else x.copy()


@op
class Trunc(Rounding):
    """y = x without its digits after the point"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.trunc(x) if x.dtype.kind == "f" else x.copy()


@op
class Round(Rounding):
    """y = the nearest number with `decimals` digits after the point; halves go to the even digit"""

    decimals: int

    def forward(self, xp: Any, x: Array) -> Array:
        if x.dtype.kind != "f":
            return x.copy()
        if self.decimals == 0:
            return xp.rint(x)
        scale = x.dtype.type(10.0 ** abs(self.decimals))
        if self.decimals > 0:
            return xp.rint(x * scale) / scale
        return xp.rint(x / scale) * scale

    def lower(self, b: Any, x: Any) -> Any:
        if x.dtype.kind != "f" or self.decimals == 0:
            return b.round_even(x)
        scale = 10.0 ** abs(self.decimals)
        if self.decimals > 0:
            return b.div(b.round_even(b.mul(x, scale)), scale)
        return b.mul(b.round_even(b.div(x, scale)), scale)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for decimals in (0, 2, -1):
            yield Case(cls(decimals), (rng.uniform(-20, 20, (3, 4)),))
        yield Case(cls(0), (rng.uniform(-2, 2, ()),))
        yield Case(cls(1), (np.zeros((2, 0)),))


@op
class Frac(Native):
    """y = x − trunc x;   dy/dx = 1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return x - xp.trunc(x)

    def check(self, x: Any) -> None:
        if x.dtype.kind != "f":
            raise RefusedType(f"only floating-point numbers have a fraction, not {x.dtype}")

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return super().infer(x)

    def backward(self, gy: Tensor) -> Tensor:
        return gy

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.array([1]),)), "only floating-point numbers have a fraction"


# --- limits --------------------------------------------------------------------------------------


@op
class ClampMin(Native):
    """y = max(x, low);   ∂y/∂x = 1 where x ≥ low, ∂y/∂low = 1 elsewhere"""

    function: ClassVar[str] = "maximum"

    def forward(self, xp: Any, x: Array, low: Array) -> Array:
        return xp.maximum(x, low)

    def backward_x(self, gy: Tensor, x: Tensor, low: Tensor) -> Tensor:
        return gy.masked_fill(~(x >= low), 0)

    def backward_low(self, gy: Tensor, x: Tensor, low: Tensor) -> Tensor:
        return gy.masked_fill(~(x < low), 0)


@op
class ClampMax(Native):
    """y = min(x, high);   ∂y/∂x = 1 where x ≤ high, ∂y/∂high = 1 elsewhere"""

    function: ClassVar[str] = "minimum"

    def forward(self, xp: Any, x: Array, high: Array) -> Array:
        return xp.minimum(x, high)

    def backward_x(self, gy: Tensor, x: Tensor, high: Tensor) -> Tensor:
        return gy.masked_fill(~(x <= high), 0)

    def backward_high(self, gy: Tensor, x: Tensor, high: Tensor) -> Tensor:
        return gy.masked_fill(~(x > high), 0)


@op
class Clamp(Native):
    """y = min(max(x, low), high);   ∂y/∂x = 1 where low ≤ x ≤ high, else the limit's is 1"""

    def forward(self, xp: Any, x: Array, low: Array, high: Array) -> Array:
        return xp.minimum(xp.maximum(x, low), high)

    def backward_x(self, gy: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return gy.masked_fill(~((x >= low) & (x <= high)), 0)

    def backward_low(self, gy: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return gy.masked_fill(~((x < low) & (low < high)), 0)

    def backward_high(self, gy: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return gy.masked_fill(~((x > high) | (high < low)), 0)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in [(), (4,), (2, 0), (2, 3, 4)]:
            yield Case(cls(), (rng.uniform(-2, 2, shape), np.array(-0.5), np.array(1.0)))
        low, high = rng.uniform(-1, 0, (3, 1)), rng.uniform(0.1, 1, (4,))
        yield Case(cls(), (rng.uniform(-2, 2, (3, 4)), low, high))


@op
class NanToNum(Elementwise):
    """y = x with numbers in the places of NaN, ∞ and −∞;   dy/dx = 1 where x is finite, else 0"""

    nan: float
    posinf: float | None  # None: the largest number
    neginf: float | None

    def forward(self, xp: Any, x: Array) -> Array:
        if x.dtype.kind != "f":
            return x.copy()
        return xp.nan_to_num(x, nan=self.nan, posinf=self.posinf, neginf=self.neginf)

    def lower(self, b: Any, x: Any) -> Any:
        if x.dtype.kind != "f":
            return x
        most = float(np.finfo(x.dtype).max)
        high = most if self.posinf is None else self.posinf
        low = -most if self.neginf is None else self.neginf
        y = b.where(b.eq(x, np.inf), high, b.where(b.eq(x, -np.inf), low, x))
        return b.where(b.isnan(x), self.nan, y)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy.masked_fill(~x.isfinite(), 0)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.uniform(-2, 2, (2, 3))
        yield Case(cls(0.0, None, None), (x,))
        yield Case(cls(1.5, 3.0, -4.0), (x,))


# --- division with a remainder -------------------------------------------------------------------


class WholeDivision(Native):
    """Division that gives whole numbers, or what they leave: integers can't be divided by 0."""

    domain: ClassVar[tuple[float, float]] = (0.5, 2.0)

    def check(self, a: Array, b: Array) -> None:
        refuse_bool(b.dtype, "whole division")
        if b.dtype.kind != "f" and not b.all():
            raise Refused("ZeroDivisionError: an integer is divided by 0")

    def infer(self, a: Spec, b: Spec) -> Spec:
        refuse_bool(b.dtype, "whole division")
        return super().infer(a, b)

    def lower(self, b: Any, x: Any, y: Any) -> Any:
        # Whether an integer is divided by 0 is for `check` to see, which runs with `forward` only.
        safe = x.dtype.kind == "f" or b.number(y)
        return self.divided(b, x, y) if safe else None

    def divided(self, b: Any, x: Any, y: Any) -> Any:
        """Return an element, where y isn't an integer that may be 0."""
        return super().lower(b, x, y)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield from super().samples(rng)
        signs = np.array([1.0, -1.0, 1.0, -1.0])
        yield Case(cls(), (signs * 3.7, np.array([1.3, 1.3, -1.3, -1.3])))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.array([True]), np.array([True]))), "of bools"


@op
class FloorDivide(WholeDivision):
    """y = ⌊a/b⌋"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.floor_divide(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return no_slope(gy)

    def backward_b(self, gy: Tensor) -> Tensor:
        return no_slope(gy)


@op
class TruncDivide(WholeDivision):
    """y = a/b without its digits after the point"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            return xp.trunc(xp.divide(a, b))
        return (a - xp.fmod(a, b)) // b

    def divided(self, b: Any, x: Any, y: Any) -> Any:
        if x.dtype.kind == "f":
            return b.trunc(b.div(x, y))
        return b.floor_divide(b.sub(x, b.fmod(x, y)), y)

    def backward_a(self, gy: Tensor) -> Tensor:
        return no_slope(gy)

    def backward_b(self, gy: Tensor) -> Tensor:
        return no_slope(gy)


@op
class Remainder(WholeDivision):
    """y = a − b·⌊a/b⌋, which has the sign of b;   ∂y/∂a = 1, ∂y/∂b = −⌊a/b⌋"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.remainder(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return gy

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return -gy * apply(FloorDivide(), a, b)


@op
class Fmod(WholeDivision):
    """y = a − b·trunc(a/b), which has the sign of a;   ∂y/∂a = 1, ∂y/∂b = −trunc(a/b)"""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.fmod(a, b)

    def backward_a(self, gy: Tensor) -> Tensor:
        return gy

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return -gy * apply(TruncDivide(), a, b)


# --- functions -----------------------------------------------------------------------------------


def floor(input: Operand) -> Tensor:
    """The largest whole number not above each element.  Shape: (…) -> (…)"""
    return apply(Floor(), input)


def ceil(input: Operand) -> Tensor:
    """The smallest whole number not below each element.  Shape: (…) -> (…)"""
    return apply(Ceil(), input)


def trunc(input: Operand) -> Tensor:
    """Each element without its digits after the point.  Shape: (…) -> (…)"""
    return apply(Trunc(), input)


def round(input: Operand, *, decimals: int = 0) -> Tensor:
    """The nearest whole number; halves go to the even one.  Shape: (…) -> (…)

    Args:
        input: the numbers.
        decimals: how many digits after the point to keep; -2 rounds to hundreds.

    >>> import toumei as tm
    >>> tm.round(tm.tensor([0.5, 1.5, 2.5]))
    tensor([0., 2., 2.])
    """
    x = operand(input)
    if decimals != 0 and x._data.dtype.kind != "f":
        raise OpError(f"round: decimals={decimals} needs floating-point numbers, not {spec_of(x)}")
    return apply(Round(int(decimals)), x)


def frac(input: Operand) -> Tensor:
    """What stands after the point, with the sign of the number.  Shape: (…) -> (…)"""
    return apply(Frac(), input)


def clamp(input: Operand, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """The elements within limits: min(max(input, min), max).  Shape: (…) -> (…)

    Args:
        input: the numbers.
        min: the lower limit, a number or a tensor that broadcasts; None for none.
        max: the upper limit; it counts where min > max.

    Raises:
        OpError: both limits are None.

    >>> import toumei as tm
    >>> tm.clamp(tm.tensor([-3.0, 0.5, 3.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """
    if min is None and max is None:
        raise OpError("clamp: at least one of min and max must be given")
    if max is None:
        return apply(ClampMin(), input, min)
    if min is None:
        return apply(ClampMax(), input, max)
    return apply(Clamp(), input, min, max)


def clamp_min(input: Operand, min: Operand) -> Tensor:
    """The elements, but none below `min`.  Shape: (…) -> (…)"""
    return apply(ClampMin(), input, min)


def clamp_max(input: Operand, max: Operand) -> Tensor:
    """The elements, but none above `max`.  Shape: (…) -> (…)"""
    return apply(ClampMax(), input, max)


def nan_to_num(
    input: Operand,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """The elements with numbers in the places of NaN and the infinities.  Shape: (…) -> (…)

    Args:
        input: the numbers.
        nan: what stands for NaN; 0 if None.
        posinf: what stands for ∞; the dtype's largest number if None.
        neginf: what stands for −∞; the dtype's smallest number if None.
    """
    return apply(NanToNum(0.0 if nan is None else nan, posinf, neginf), input)


def floor_divide(input: Operand, other: Operand) -> Tensor:
    """⌊input / other⌋.  Shape: (…), (…) broadcast -> (…)

    Raises:
        OpError: an integer is divided by 0.
    """
    return apply(FloorDivide(), input, other)


def remainder(input: Operand, other: Operand) -> Tensor:
    """What ⌊input / other⌋ leaves, with the sign of `other`: Python's %.  Shape: (…), (…) -> (…)

    Raises:
        OpError: an integer is divided by 0.

    >>> import toumei as tm
    >>> tm.remainder(tm.tensor([-3, 3]), 2)
    tensor([1, 1])
    """
    return apply(Remainder(), input, other)


def fmod(input: Operand, other: Operand) -> Tensor:
    """What trunc(input / other) leaves, with the sign of `input`.  Shape: (…), (…) -> (…)

    Raises:
        OpError: an integer is divided by 0.
    """
    return apply(Fmod(), input, other)


clip, fix = clamp, trunc
