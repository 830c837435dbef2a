"""Comparison, logic, bits, and tests of what kind of number an element is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpTypeError
from ..op import Array, Case, DType, Native, RefusedType, Spec, op
from ..tape import Operand, Value, apply, operand, spec_of
from ..traced import numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensor import Tensor


__all__ = [
    "allclose",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "eq",
    "equal",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "isreal",
    "le",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "ne",
    "not_equal",
]


class Comparison(Native):
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


class Logical(Comparison):
    """Takes numbers as true where they aren't 0."""

    def lower(self, b: Any, *args: Any) -> Any:
        return b.apply(self.function, *(b.cast(x, np.dtype(bool)) for x in args))


@op
class LogicalAnd(Logical):
    """y = (a ≠ 0) and (b ≠ 0)"""

    function: ClassVar[str] = "and"
    promote: ClassVar[str] = ""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_and(a, b)


@op
class LogicalOr(Logical):
    """y = (a ≠ 0) or (b ≠ 0)"""

    function: ClassVar[str] = "or"
    promote: ClassVar[str] = ""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_or(a, b)


@op
class LogicalXor(Logical):
    """y = either a ≠ 0 or b ≠ 0"""

    function: ClassVar[str] = "xor"
    promote: ClassVar[str] = ""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_xor(a, b)


@op
class LogicalNot(Logical):
    """y = (x = 0)"""

    function: ClassVar[str] = "not"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.logical_not(x)


# --- kinds of numbers ----------------------------------------------------------------------------


@op
class Isnan(Comparison):
    """y = whether x is not a number"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isnan(x)


@op
class Isinf(Comparison):
    """y = whether x is ∞ or −∞"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isinf(x)


@op
class Isfinite(Comparison):
    """y = whether x is neither infinite nor NaN"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isfinite(x)


@op
class Isclose(Comparison):
    """y = (|a − b| ≤ atol + rtol·|b|), infinities equal only to themselves"""

    rtol: float
    atol: float
    equal_nan: bool

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        if a.dtype.kind == "b":
            return xp.equal(a, b)
        near = xp.abs(a - b) <= self.atol + self.rtol * xp.abs(b)
        close = (a == b) | (near & xp.isfinite(a) & xp.isfinite(b))
        return close | (xp.isnan(a) & xp.isnan(b)) if self.equal_nan else close

    def lower(self, b: Any, x: Any, y: Any) -> Any:
        same, kind = b.eq(x, y), x.dtype if x.dtype.kind == "f" else np.dtype("float64")
        if x.dtype.kind == "b":
            return same
        gap, size = b.cast(b.abs(b.sub(x, y)), kind), b.cast(b.abs(y), kind)
        near = b.le(gap, b.fma(size, self.rtol, self.atol))
        finite = b.apply("and", b.isfinite(x), b.isfinite(y))
        close = b.apply("or", same, b.apply("and", near, finite))
        both = b.apply("and", b.isnan(x), b.isnan(y))
        return b.apply("or", close, both) if self.equal_nan else close

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        a = rng.uniform(-2, 2, (2, 3))
        yield Case(cls(1e-5, 1e-8, False), (a, a * (1 + 1e-6)))
        yield Case(cls(0.5, 0.1, True), (a, rng.uniform(-2, 2, (3,))))


# --- bits ----------------------------------------------------------------------------------------


class Bitwise(Native):
    """Works on the bits of integers and bools."""

    takes: ClassVar[str] = "biu"

    def infer(self, *specs: Spec) -> Spec:
        for s in specs:
            if s.dtype.kind not in self.takes:
                kinds = "integers and bools" if "b" in self.takes else "integers"
                raise RefusedType(f"bits are those of {kinds}, not of {s.dtype}")
        return super().infer(*specs)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        n = len(cls.params)
        for shape in [(), (3,), (2, 0)]:
            yield Case(cls(), tuple(rng.integers(0, 9, shape) for _ in range(n)))
            if "b" in cls.takes:
                yield Case(cls(), tuple(rng.random(shape) > 0.5 for _ in range(n)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.ones(2),) * len(cls.params)), "not of float64"


@op
class BitwiseAnd(Bitwise):
    """y = a and b, bit by bit"""

    function: ClassVar[str] = "and"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_and(a, b)


@op
class BitwiseOr(Bitwise):
    """y = a or b, bit by bit"""

    function: ClassVar[str] = "or"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_or(a, b)


@op
class BitwiseXor(Bitwise):
    """y = either a or b, bit by bit"""

    function: ClassVar[str] = "xor"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_xor(a, b)


@op
class BitwiseNot(Bitwise):
    """y = not x, bit by bit"""

    function: ClassVar[str] = "not"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.bitwise_not(x)


class Shift(Bitwise):
    """Moves the bits of integers; bools are refused."""

    takes: ClassVar[str] = "iu"

    def check(self, a: Array, b: Array) -> None:
        if a.dtype.kind == "b":
            raise RefusedType("bits are those of integers, not of bool")


@op
class BitwiseLeftShift(Shift):
    """y = a·2ᵇ, without the bits that no longer fit"""

    function: ClassVar[str] = "shift_left"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.left_shift(a, b)


@op
class BitwiseRightShift(Shift):
    """y = ⌊a/2ᵇ⌋"""

    function: ClassVar[str] = "shift_right"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.right_shift(a, b)


# --- functions -----------------------------------------------------------------------------------


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


def logical_and(input: Operand, other: Operand) -> Tensor:
    """Whether both are non-zero.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(LogicalAnd(), input, other)


def logical_or(input: Operand, other: Operand) -> Tensor:
    """Whether at least one is non-zero.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(LogicalOr(), input, other)


def logical_xor(input: Operand, other: Operand) -> Tensor:
    """Whether exactly one is non-zero.  Shape: (…), (…) broadcast -> (…), bool"""
    return apply(LogicalXor(), input, other)


def logical_not(input: Operand) -> Tensor:
    """Whether zero.  Shape: (…) -> (…), bool"""
    return apply(LogicalNot(), input)


def isnan(input: Operand) -> Tensor:
    """Whether not a number.  Shape: (…) -> (…), bool"""
    return apply(Isnan(), input)


def isinf(input: Operand) -> Tensor:
    """Whether infinite, of either sign.  Shape: (…) -> (…), bool"""
    return apply(Isinf(), input)


def isfinite(input: Operand) -> Tensor:
    """Whether neither infinite nor NaN.  Shape: (…) -> (…), bool"""
    return apply(Isfinite(), input)


def isposinf(input: Operand) -> Tensor:
    """Whether +∞.  Shape: (…) -> (…), bool"""
    return apply(Eq(), input, float("inf"))


def isneginf(input: Operand) -> Tensor:
    """Whether −∞.  Shape: (…) -> (…), bool"""
    return apply(Eq(), input, float("-inf"))


def isreal(input: Tensor) -> Tensor:
    """Whether real: always, since all tensors are real.  Shape: (…) -> (…), bool"""
    x = operand(input)
    return apply(Eq(), x, x) | True


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |input − other| ≤ atol + rtol·|other|.  Shape: (…), (…) broadcast -> (…), bool

    Args:
        input: the numbers.
        other: what they should be.
        rtol: the tolerance relative to `other`.
        atol: the absolute tolerance.
        equal_nan: whether NaN is close to NaN.

    Raises:
        OpTypeError: the dtypes differ, or a tolerance is negative.
    """
    a, b = _same_dtype("isclose", input, other)
    if rtol < 0 or atol < 0:
        raise OpTypeError(f"isclose: tolerances can't be negative: rtol={rtol}, atol={atol}")
    return apply(Isclose(float(rtol), float(atol), bool(equal_nan)), a, b)


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close: see `isclose`.

    >>> import toumei as tm
    >>> tm.allclose(tm.tensor([1.0]), tm.tensor([1.0 + 1e-7]))
    True
    """
    return bool(numbers_of("allclose", isclose(input, other, rtol, atol, equal_nan)).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same elements."""
    a, b = _same_dtype("equal", input, other)
    return a.shape == b.shape and bool((numbers_of("equal", a) == numbers_of("equal", b)).all())


def _same_dtype(name: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    for t in (a, b):
        if not isinstance(t, Value):
            raise OpTypeError(f"{name}: expected two tensors, got a {type(t).__name__}")
    if a._data.dtype != b._data.dtype:
        raise OpTypeError(f"{name}: the dtypes differ: {spec_of(a)} and {spec_of(b)}")
    return a, b


def bitwise_and(input: Operand, other: Operand) -> Tensor:
    """And, bit by bit: integers and bools only.  Shape: (…), (…) broadcast -> (…)"""
    return apply(BitwiseAnd(), input, other)


def bitwise_or(input: Operand, other: Operand) -> Tensor:
    """Or, bit by bit: integers and bools only.  Shape: (…), (…) broadcast -> (…)"""
    return apply(BitwiseOr(), input, other)


def bitwise_xor(input: Operand, other: Operand) -> Tensor:
    """Exclusive or, bit by bit: integers and bools only.  Shape: (…), (…) broadcast -> (…)"""
    return apply(BitwiseXor(), input, other)


def bitwise_not(input: Operand) -> Tensor:
    """Not, bit by bit: integers and bools only.  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.bitwise_not(tm.tensor([0, 5]))
    tensor([-1, -6])
    """
    return apply(BitwiseNot(), input)


def bitwise_left_shift(input: Operand, other: Operand) -> Tensor:
    """The bits moved up by `other` places: integers only.  Shape: (…), (…) broadcast -> (…)"""
    return apply(BitwiseLeftShift(), input, other)


def bitwise_right_shift(input: Operand, other: Operand) -> Tensor:
    """The bits moved down by `other` places: integers only.  Shape: (…), (…) broadcast -> (…)"""
    return apply(BitwiseRightShift(), input, other)


not_equal, less, less_equal = ne, lt, le
greater, greater_equal = gt, ge
