"""Sums, products, means, extremes … over some dimensions."""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import OpTypeError
from ..names import numpy_names
from ..op import Array, Case, DType, Reduction, Spec, op, reduced_shape
from ..tape import Value, apply, dims_of, spec_of
from .choice import maximum, minimum
from .rearrange import constant_pad_nd
from .shape import movedim

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "all",
    "amax",
    "amin",
    "aminmax",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "logsumexp",
    "max",
    "mean",
    "min",
    "nanmean",
    "nansum",
    "prod",
    "sum",
]


Dim = int | tuple[int, ...] | list[int] | None


class ValuesIndices(NamedTuple):
    """What an op returns that picks elements: them, and where they were along the dimension."""

    values: Tensor
    indices: Tensor


class MinMax(NamedTuple):
    """What `aminmax` returns."""

    min: Tensor
    max: Tensor


def spread(g: Tensor, x_spec: Spec, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    """Repeat what a reduction returned along the dimensions that it reduced."""
    if not keepdim:
        shape = tuple(1 if d in dim else n for d, n in enumerate(x_spec.shape))
        g = g.reshape(shape)
    return g.expand(x_spec.shape)


@op
class Sum(Reduction):
    """y = Σ x;   ∂y/∂x = 1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sum(x, axis=self.dim, keepdims=self.keepdim, dtype=x.dtype)

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return spread(gy, x_spec, self.dim, self.keepdim)


@op
class Prod(Reduction):
    """y = ∏ x;   ∂y/∂xᵢ = the product of the others, also where some are zero"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.prod(x, axis=self.dim, keepdims=self.keepdim, dtype=x.dtype)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        others = product_of_others(x, self.dim) if self.dim and x.numel() else 1
        return spread(gy, spec_of(x), self.dim, self.keepdim) * others


def product_of_others(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return for each element the product of the others: of those before times of those after."""
    last = tuple(range(-len(dims), 0))
    moved = movedim(x, dims, last)
    flat = moved.reshape(*moved.shape[: -len(dims)], -1)
    before = constant_pad_nd(flat, (1, -1), 1).cumprod(-1)
    after = constant_pad_nd(flat, (-1, 1), 1).flip(-1).cumprod(-1).flip(-1)
    return movedim((before * after).reshape(moved.shape), last, dims)


class Extreme(Reduction):
    """The largest or smallest; elements that tie share the gradient."""

    needs_elements: ClassVar[builtins.bool] = True

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        hit = x == spread(y, spec_of(x), self.dim, self.keepdim)
        share = gy / hit.sum(dim=self.dim, keepdim=self.keepdim) if self.dim else gy
        return spread(share, spec_of(x), self.dim, self.keepdim) * hit


@op
class Amax(Extreme):
    """y = max x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.amax(x, axis=self.dim, keepdims=self.keepdim)


@op
class Amin(Extreme):
    """y = min x"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.amin(x, axis=self.dim, keepdims=self.keepdim)


class ArgExtreme(Reduction):
    """Where the extreme is along one dimension, or in the flat order of all; the first of some."""

    out: ClassVar[DType | None] = np.dtype(np.int64)
    needs_elements: ClassVar[builtins.bool] = True

    def axis(self) -> int | None:
        """Return NumPy's axis: None for all dimensions."""
        return self.dim[0] if len(self.dim) == 1 else None

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, dim in (((), ()), ((5,), (0,)), ((2, 3, 4), (1,)), ((2, 3), (0, 1))):
            for keepdim in (False, True):
                yield Case(cls(dim, keepdim), (rng.integers(0, 4, shape).astype(float),))


@op
class Argmax(ArgExtreme):
    """y = the i at which x is largest"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.argmax(x, axis=self.axis(), keepdims=self.keepdim)


@op
class Argmin(ArgExtreme):
    """y = the i at which x is smallest"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.argmin(x, axis=self.axis(), keepdims=self.keepdim)


class Truth(Reduction):
    """A truth about the elements: bool, but uint8 of uint8, as in PyTorch."""

    def infer(self, x: Spec) -> Spec:
        kind = x.dtype if x.dtype == np.uint8 else np.dtype(builtins.bool)
        return Spec(reduced_shape(x.shape, set(self.dim), self.keepdim), kind)


@op
class All(Truth):
    """y = whether every x ≠ 0"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.all(x, axis=self.dim, keepdims=self.keepdim).astype(self.infer(spec(x)).dtype)


@op
class Any_(Truth):  # noqa: N801
    """y = whether some x ≠ 0"""

    name: ClassVar[str] = "any"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.any(x, axis=self.dim, keepdims=self.keepdim).astype(self.infer(spec(x)).dtype)


def spec(x: Array) -> Spec:
    """Return the shape and dtype of an array."""
    return Spec(x.shape, x.dtype)


@op
class LogSumExp(Reduction):
    """y = ln Σ eˣ, computed as m + ln Σ eˣ⁻ᵐ with m = max x;   ∂y/∂x = eˣ⁻ʸ"""

    promote: ClassVar[str] = "float"

    def forward(self, xp: Any, x: Array) -> Array:
        top = xp.max(x, axis=self.dim, keepdims=True, initial=-np.inf)
        top = xp.where(xp.isfinite(top), top, 0)
        y = xp.log(xp.sum(xp.exp(x - top), axis=self.dim, keepdims=True)) + top
        return y if self.keepdim else xp.squeeze(y, axis=self.dim)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        finite = y.masked_fill(y == -math.inf, 0)  # −∞ − (−∞) is not a number
        share = (x - spread(finite, spec_of(x), self.dim, self.keepdim)).exp()
        return spread(gy, spec_of(x), self.dim, self.keepdim) * share


# --- sums ----------------------------------------------------------------------------------------


def summable(input: Tensor, dtype: Any) -> Tensor:
    """Return the input in the dtype to add or multiply in: int64 for bools and integers."""
    if dtype is None:
        return input if input.dtype.kind == "f" else input.to(np.int64)
    return input.to(dtype)


@numpy_names
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over `dim` (all dimensions if None).  Shape: (…) -> (…) without dim

    Bools and integers are summed as int64.

    >>> import toumei as tm
    >>> tm.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    x = summable(input, dtype)
    return apply(Sum(dims_of("sum", x, dim), keepdim), x)


@numpy_names
def prod(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Product over `dim` (all dimensions if None).  Shape: (…) -> (…) without dim"""
    x = summable(input, dtype)
    return apply(Prod(dims_of("prod", x, dim), keepdim), x)


def count_reduced(name: str, x: Tensor, dim: Dim) -> int:
    """Return how many elements each result of a reduction is made of."""
    return math.prod([x.shape[d] for d in dims_of(name, x, dim)])


@numpy_names
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Mean over `dim` (all dimensions if None).  Shape: (…) -> (…) without dim

    Raises:
        OpTypeError: of integers; say `dtype=tm.float32`.
    """
    if dtype is None and input.dtype.kind != "f":
        raise OpTypeError(f"mean({spec_of(input)}): a mean is a float; pass dtype=tm.float32")
    return sum(input, dim, keepdim, dtype=dtype) / count_reduced("mean", input, dim)


@numpy_names
def nansum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over `dim` of what is not NaN.  Shape: (…) -> (…) without dim"""
    x = input.masked_fill(input != input, 0) if input.dtype.kind == "f" else input
    return sum(x, dim, keepdim, dtype=dtype)


@numpy_names
def nanmean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Mean over `dim` of what is not NaN.  Shape: (…) -> (…) without dim"""
    count = sum(input == input, dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count


@numpy_names
def logsumexp(input: Tensor, dim: Dim, keepdim: bool = False) -> Tensor:
    """ln Σ exp(x) over `dim`, without overflow.  Shape: (…) -> (…) without dim

    >>> import toumei as tm
    >>> tm.logsumexp(tm.tensor([0.0, 0.0]), 0)
    tensor(0.6931)
    """
    return apply(LogSumExp(dims_of("logsumexp", input, dim), keepdim), input)


# --- truths --------------------------------------------------------------------------------------


def _test_dims(name: str, x: Tensor, dim: Dim) -> tuple[int, ...]:
    """Return the dimensions; unlike elsewhere in PyTorch, () means none of them here."""
    return () if dim == () or dim == [] else dims_of(name, x, dim)


@numpy_names
def all(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether every element over `dim` is true (not 0).  Shape: (…) -> (…) without dim, bool"""
    return apply(All(_test_dims("all", input, dim), keepdim), input)


@numpy_names
def any(input: Tensor, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Whether some element over `dim` is true (not 0).  Shape: (…) -> (…) without dim, bool"""
    return apply(Any_(_test_dims("any", input, dim), keepdim), input)


@numpy_names
def count_nonzero(input: Tensor, dim: Dim = None) -> Tensor:
    """How many elements over `dim` are not 0.  Shape: (…) -> (…) without dim, int64"""
    return sum(input != 0, dim)


# --- extremes ------------------------------------------------------------------------------------


@numpy_names
def amax(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """Largest over `dim`; equal ones share the gradient.  Shape: (…) -> (…) without dim"""
    return apply(Amax(dims_of("amax", input, dim), keepdim), input)


@numpy_names
def amin(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """Smallest over `dim`; equal ones share the gradient.  Shape: (…) -> (…) without dim"""
    return apply(Amin(dims_of("amin", input, dim), keepdim), input)


@numpy_names
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The smallest and the largest over `dim`, as `amin` and `amax`."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest is along `dim` (in the flat order if None).  Shape: (…, n, …) -> (…, …)

    >>> import toumei as tm
    >>> tm.tensor([[1, 3, 3], [5, 0, 0]]).argmax(1)
    tensor([1, 0])
    """
    return apply(Argmax(dims_of("argmax", input, dim), keepdim), input)


@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest is along `dim` (in the flat order if None).  Shape: (…, n, …) -> (…, …)"""
    return apply(Argmin(dims_of("argmin", input, dim), keepdim), input)


@numpy_names
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Three functions in one, as in PyTorch.

    `max(x)`: the largest element; equal ones share the gradient.
    `max(x, dim)`: (values, indices) along `dim`; the gradient goes to the element that was picked.
    `max(x, other)`: the larger of two tensors, element by element.

    >>> import toumei as tm
    >>> tm.tensor([[1, 3], [5, 0]]).max(1).values
    tensor([3, 5])
    """
    if other is not None or isinstance(dim, Value):
        return maximum(input, dim if other is None else other)
    if dim is None:
        return amax(input)
    return pick(input, apply(Argmax(dims_of("max", input, dim), True), input), dim, keepdim)


@numpy_names
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Three functions in one, as in PyTorch.

    `min(x)`: the smallest element; equal ones share the gradient.
    `min(x, dim)`: (values, indices) along `dim`; the gradient goes to the element that was picked.
    `min(x, other)`: the smaller of two tensors, element by element.
    """
    if other is not None or isinstance(dim, Value):
        return minimum(input, dim if other is None else other)
    if dim is None:
        return amin(input)
    return pick(input, apply(Argmin(dims_of("min", input, dim), True), input), dim, keepdim)


def pick(x: Tensor, indices: Tensor, dim: int, keepdim: bool) -> ValuesIndices:
    """Return the elements at `indices` (of size 1 along `dim`) and the indices."""
    if x.ndim == 0:
        return ValuesIndices(x.clone(), indices)
    values = x.gather(dim, indices)
    return (
        ValuesIndices(values, indices)
        if keepdim
        else ValuesIndices(values.squeeze(dim), indices.squeeze(dim))
    )
