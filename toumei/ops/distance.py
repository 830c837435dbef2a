"""Distances and angles between vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import OpError
from ..names import numpy_names
from ..tape import dims_of, spec_of
from .magnitude import vector_norm

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cosine_similarity",
    "normalize",
    "pairwise_distance",
]


@numpy_names
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x/max(‖x‖ₚ, eps): vectors of length 1 along `dim`.  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.nn.functional.normalize(tm.tensor([3.0, 4.0]), dim=0)
    tensor([0.6, 0.8])
    """
    return input / vector_norm(input, p, dim, keepdim=True).clamp(min=eps)


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
    a = x1 / vector_norm(x1, 2, dim, keepdim=True).clamp(min=eps)
    b = x2 / vector_norm(x2, 2, dim, keepdim=True).clamp(min=eps)
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
    return vector_norm(x1 - x2 + eps, p, -1, keepdim)
