"""Losses that compare tensors with each other: rankings, embeddings, triplets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import OpError
from ..tape import spec_of
from .choice import minimum
from .distance import pairwise_distance
from .loss import reduced, reduction_of, same_shape

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin − t·(x₁ − x₂)): t = 1 wants x₁ larger, −1 x₂.  Shape: (…), (…), (…) -> ()

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    name = "margin_ranking_loss"
    reduction_of(name, reduction, size_average, reduce)
    same_shape(name, input1, input2, "input1", "input2")
    same_shape(name, input1, target, "input1", "target")
    return reduced((margin - target * (input1 - input2)).clamp(min=0), reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where the target is 1, max(0, margin − x) where it is −1.  Shape: (…), (…) -> ()

    Other targets get the sum of both, as in PyTorch.

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    name = "hinge_embedding_loss"
    reduction_of(name, reduction, size_average, reduce)
    same_shape(name, input, target)
    far = (margin - input).clamp(min=0).masked_fill(target == 1, 0)
    return reduced(far + input.masked_fill(target == -1, 0), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 − cos(x₁, x₂) where the target is 1, max(0, cos − margin) where it is −1.

    Shape: (d), (d), () or (n, d), (n, d), (n) -> (); the target's with reduction "none"

    Raises:
        OpError: the shapes don't fit, or the reduction is unknown.
    """
    name = "cosine_embedding_loss"
    reduction_of(name, reduction, size_average, reduce)
    same_shape(name, input1, input2, "input1", "input2")
    if input1.ndim not in (1, 2) or target.shape != input1.shape[:-1]:
        raise OpError(
            f"{name}(input1: {spec_of(input1)}, target: {spec_of(target)}): the inputs must be (d) "
            f"or (n, d), and the target {tuple(input1.shape[:-1])}: one number per pair"
        )
    eps = 1e-12  # PyTorch's
    lengths = (input1.square().sum(-1) + eps) * (input2.square().sum(-1) + eps)
    cos = (input1 * input2).sum(-1) / lengths.sqrt()
    alike = (1 - cos).masked_fill(target != 1, 0)
    return reduced(alike + (cos - margin).clamp(min=0).masked_fill(target != -1, 0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + ‖a − p‖ − ‖a − n‖).  Shape: 3 × (d) or (n, d) -> (); () or (n) without mean

    Args:
        swap: take the smaller of ‖a − n‖ and ‖p − n‖ instead of ‖a − n‖.

    Raises:
        OpError: the shapes differ, or margin isn't positive.

    Paper: Balntas et al. 2016.
    """
    reduction_of("triplet_margin_loss", reduction, size_average, reduce)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet(
        "triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction
    )


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + D(a, p) − D(a, n)) with a distance D of your own (None: the Euclidean).

    Shape: 3 × (…, d) -> ()

    Raises:
        OpError: the shapes differ, or margin isn't positive.
    """
    name = "triplet_margin_with_distance_loss"
    reduction_of(name, reduction)
    distance = pairwise_distance if distance_function is None else distance_function
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    name: str,
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    if margin <= 0:
        raise OpError(f"{name}: margin must be positive, not {margin}")
    same_shape(name, anchor, positive, "anchor", "positive")
    same_shape(name, anchor, negative, "anchor", "negative")
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced((margin + near - far).clamp(min=0), reduction)
