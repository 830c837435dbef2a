"""Distances and angles between vectors, as layers."""

from __future__ import annotations

from . import functional as F
from .function_layer import FunctionLayer

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(FunctionLayer, of=F.cosine_similarity):
    """cos(a, b) = a·b/(max(‖a‖, eps)·max(‖b‖, eps)) along `dim`.

    Shape: (…, D, …), (…, D, …) -> (…), without `dim`

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.CosineSimilarity()(tm.tensor([[1.0, 0.0]]), tm.tensor([[0.0, 2.0]]))
    tensor([0.])
    """

    dim: int = 1
    eps: float = 1e-8


class PairwiseDistance(FunctionLayer, of=F.pairwise_distance):
    """‖a − b + eps‖ₚ over the last dimension.  Shape: (N, D), (N, D) -> (N)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.PairwiseDistance()(tm.tensor([[0.0, 0.0]]), tm.tensor([[3.0, 4.0]]))
    tensor([5.])
    """

    p: float = 2.0
    eps: float = 1e-6
    keepdim: bool = False
