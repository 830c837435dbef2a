"""Distances and angles between vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OpError
from ..names import numpy_names
from ..tape import dims_of, spec_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cosine_similarity",
    "normalize",
    "pairwise_distance",
]


def p_norm(x: Tensor, p: float, dim: int, keepdim: bool = False) -> Tensor:
    """(Σ |x|^p)^(1/p) along `dim`; the derivative at a zero vector is 0, as in PyTorch."""
    dims = dims_of("norm", x, dim)
    if not dims:  # a number is a vector of one
        return x.abs() if p else x.sign().abs()
    if p == math.inf:
        return x.abs().amax(dims, keepdim)
    if p == -math.inf:
        return x.abs().amin(dims, keepdim)
    if p == 0:
        return x.sign().abs().sum(dims, keepdim)
    if p == 1:
        return x.abs().sum(dims, keepdim)
    total = (x * x if p == 2 else x.abs() ** p).sum(dims, keepdim)
    nothing = total == 0
    safe = total.masked_fill(nothing, 1)
    return (safe.sqrt() if p == 2 else safe ** (1 / p)).masked_fill(nothing, 0)


@numpy_names
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x/max(‖x‖ₚ, eps): vectors of length 1 along `dim`.  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.nn.functional.normalize(tm.tensor([3.0, 4.0]), dim=0)
    tensor([0.6, 0.8])
    """
    return input / p_norm(input, p, dim, keepdim=True).clamp(min=eps)


@numpy_names
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁·x₂/(max(‖x₁‖, eps)·max(‖x₂‖, eps)) along `dim`.

    Shape: (…), (…) broadcast -> their shape without dim

    >>> import toumei as tm
    >>> tm.cosine_similarity(tm.tensor([1.0, 0.0]), tm.tensor([2.0, 0.0]), dim=0)
    tensor(1.)
    """
    if x1.shape != x2.shape:
        shape = _common(x1, x2)
        x1, x2 = x1.expand(shape), x2.expand(shape)
    a = x1 / p_norm(x1, 2, dim, keepdim=True).clamp(min=eps)
    b = x2 / p_norm(x2, 2, dim, keepdim=True).clamp(min=eps)
    return (a * b).sum(dims_of("cosine_similarity", a, dim)) if a.ndim else a * b


def _common(x1: Tensor, x2: Tensor) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        raise OpError(
            f"cosine_similarity(x1: {spec_of(x1)}, x2: {spec_of(x2)}): the shapes don't broadcast"
        ) from None


@numpy_names
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x₁ − x₂ + eps‖ₚ along the last dimension.  Shape: (…, d), (…, d) broadcast -> (…)

    >>> import toumei as tm
    >>> tm.pairwise_distance(tm.tensor([0.0, 0.0]), tm.tensor([3.0, 4.0]))
    tensor(5.)
    """
    return p_norm(x1 - x2 + eps, p, -1, keepdim)
