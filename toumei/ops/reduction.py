"""Sums, means, extremes … along some dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..names import numpy_names
from ..op import Array, Reduction, Spec, op
from ..tape import apply, dims_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "amax",
    "amin",
    "mean",
    "sum",
]


Dim = int | tuple[int, ...] | list[int] | None


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


class Extreme(Reduction):
    """The largest or smallest; elements that tie share the gradient."""

    needs_elements: ClassVar[bool] = True

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        hit = x == spread(y, Spec(tuple(x.shape), x.dtype), self.dim, self.keepdim)
        share = gy / hit.sum(dim=self.dim, keepdim=self.keepdim) if self.dim else gy
        return spread(share, Spec(tuple(x.shape), x.dtype), self.dim, self.keepdim) * hit


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


# --- functions -----------------------------------------------------------------------------------


@numpy_names
def sum(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over `dim` (all dimensions if None).  Shape: (…) -> (…) without dim

    Bools and integers are summed as int64.

    >>> import toumei as tm
    >>> tm.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    if dtype is None and input.dtype.kind != "f":
        dtype = np.dtype(np.int64)
    if dtype is not None:
        input = input.to(dtype)
    return apply(Sum(dims_of("sum", input, dim), keepdim), input)


@numpy_names
def mean(input: Tensor, dim: Dim = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Mean over `dim` (all dimensions if None).  Shape: (…) -> (…) without dim"""
    total = sum(input, dim, keepdim, dtype=dtype)
    count = int(np.prod([input.shape[d] for d in dims_of("mean", input, dim)], dtype=np.int64))
    return total / count


@numpy_names
def amax(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """Largest over `dim`; equal ones share the gradient.  Shape: (…) -> (…) without dim"""
    return apply(Amax(dims_of("amax", input, dim), keepdim), input)


@numpy_names
def amin(input: Tensor, dim: Dim = (), keepdim: bool = False) -> Tensor:
    """Smallest over `dim`; equal ones share the gradient.  Shape: (…) -> (…) without dim"""
    return apply(Amin(dims_of("amin", input, dim), keepdim), input)
