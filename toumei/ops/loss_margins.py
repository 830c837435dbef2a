"""Losses that want a margin: between classes, rankings, embeddings, triplets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import OpError
from ..tape import apply, spec_of
from .choice import minimum, where
from .distance import pairwise_distance
from .labels import NO_LABEL, CountLabels, PickClass, label_weights, need_labels, one_hot
from .loss import reduced, reduction_of, same_shape

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
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


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_{j ≠ label} w_label·max(0, margin − x_label + x_j)^p / c.

    Shape: (c), () or (n, c), (n) -> (); the target's with reduction "none"

    Raises:
        OpError: p is neither 1 nor 2, or the shapes don't fit. OpIndexError: a label out of range.
    """
    reduction_of("multi_margin_loss", reduction, size_average, reduce)
    if p not in (1, 2):
        raise OpError(f"multi_margin_loss: p must be 1 or 2, not {p}")
    target_shape = target.shape
    if input.ndim < 2:
        input, target = input.reshape(1, -1), target.reshape(1)
    need_labels("multi_margin_loss", input, target)
    classes = input.shape[1]
    own: Tensor = apply(PickClass(NO_LABEL), input, target)
    short = (margin - own.unsqueeze(1) + input).clamp(min=0)
    short = short.masked_fill(one_hot(target, classes).bool(), 0)
    if p == 2:
        short = short * short
    if weight is not None:
        short = short * label_weights(input, target, weight, NO_LABEL).unsqueeze(1)
    losses = short.sum(1) / classes
    return reduced(losses.reshape(target_shape), reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ over the labels i and the other classes j of max(0, 1 − x_i + x_j)/c.

    Each row of the target names labels up to the first −1.

    Shape: (c), (c) or (n, c), (n, c) -> (); () or (n) with reduction "none"

    Raises:
        OpError: the shapes differ. OpIndexError: a label is out of range.
    """
    reduction_of("multilabel_margin_loss", reduction, size_average, reduce)
    same_shape("multilabel_margin_loss", input, target)
    classes = max(input.shape[-1], 1) if input.ndim else 1
    if input.ndim == 0:
        input, target = input.reshape(1), target.reshape(1)
    times: Tensor = apply(CountLabels(), target)
    short = (1 - input.unsqueeze(-1) + input.unsqueeze(-2)).clamp(min=0)
    counted = where((times == 0).unsqueeze(-2), short, 0) * times.unsqueeze(-1)
    return reduced(counted.sum((-2, -1)) / classes, reduction)
