"""Losses as layers.  `reduction` is "mean", "sum" or "none"; losses never broadcast."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..tensor import Tensor
from . import functional as F
from .function_layer import FunctionLayer

if TYPE_CHECKING:
    from dataclasses import KW_ONLY

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class _Loss(FunctionLayer):
    """What the losses share: options at their defaults are left out of the repr."""

    def _is_worth_showing(self, name: str, value: Any) -> bool:
        return not isinstance(value, Tensor) and value != getattr(type(self), name, None)


class L1Loss(_Loss, of=F.l1_loss):
    """|input − target|.  Shape: (…), (…) -> ()"""

    _: KW_ONLY
    reduction: str = "mean"


class MSELoss(_Loss, of=F.mse_loss):
    """(input − target)².  Shape: (…), (…) -> ()

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.MSELoss()(tm.tensor([1.0, 2.0]), tm.tensor([1.0, 4.0]))
    tensor(2.)
    """

    _: KW_ONLY
    reduction: str = "mean"


class SmoothL1Loss(_Loss, of=F.smooth_l1_loss):
    """d²/(2·beta) where d = |input − target| < beta, else d − beta/2.  Shape: (…), (…) -> ()"""

    _: KW_ONLY
    reduction: str = "mean"
    beta: float = 1.0


class HuberLoss(_Loss, of=F.huber_loss):
    """d²/2 where d = |input − target| ≤ delta, else delta·(d − delta/2).  Shape: (…), (…) -> ()"""

    reduction: str = "mean"
    delta: float = 1.0


class CrossEntropyLoss(_Loss, of=F.cross_entropy):
    """−ln softmax(input)[target].  Shape: (N, C, …), (N, …) of classes or (N, C, …) -> ()

    Args:
        weight: of each class.  Shape: (C)
        ignore_index: targets of this value count for nothing.
        reduction: "mean" (over the weights of the targets), "sum" or "none".
        label_smoothing: the share, 0 to 1, that is spread over all classes.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> round(nn.CrossEntropyLoss()(tm.zeros(1, 4), tm.tensor([2])).item(), 4)  # ln 4
    1.3863
    """

    weight: Tensor | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0


class NLLLoss(_Loss, of=F.nll_loss):
    """−input[target]: cross-entropy after LogSoftmax.  Shape: (N, C, …), (N, …) -> ()

    Args:
        weight: of each class.  Shape: (C)
        ignore_index: targets of this value count for nothing.
        reduction: "mean" (over the weights of the targets), "sum" or "none".
    """

    weight: Tensor | None = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"


class CTCLoss(_Loss, of=F.ctc_loss):
    """−ln of the probability of all paths that spell the target, without repeats and blanks.

    Shape: (T, N, C) log probabilities, (N, S) labels, (N) lengths, (N) lengths -> ()

    Args:
        blank: the class that spells nothing.
        reduction: "mean" divides each loss by its target's length, then takes the mean.
        zero_infinity: take 0 for targets that no path can spell (else they are infinite).

    Paper: Graves et al., "Connectionist Temporal Classification" (2006)
    """

    blank: int = 0
    reduction: str = "mean"
    zero_infinity: bool = False


class BCELoss(_Loss, of=F.binary_cross_entropy):
    """−target·ln input − (1 − target)·ln(1 − input), of probabilities.  Shape: (…), (…) -> ()"""

    weight: Tensor | None = None
    _: KW_ONLY
    reduction: str = "mean"


class BCEWithLogitsLoss(_Loss, of=F.binary_cross_entropy_with_logits):
    """Binary cross-entropy of sigmoid(input); stable for any input.  Shape: (…), (…) -> ()

    Args:
        weight: of each element; broadcasts.
        reduction: "mean", "sum" or "none".
        pos_weight: how much more a target of 1 counts than one of 0; broadcasts.
    """

    weight: Tensor | None = None
    _: KW_ONLY
    reduction: str = "mean"
    pos_weight: Tensor | None = None


class KLDivLoss(_Loss, of=F.kl_div):
    """target·(ln target − input), input in log space.  Shape: (…), (…) -> ()

    Args:
        reduction: "batchmean" (the divergence itself, per row), "mean", "sum" or "none".
        log_target: whether the target is in log space too.
    """

    _: KW_ONLY
    reduction: str = "mean"
    log_target: bool = False


class PoissonNLLLoss(_Loss, of=F.poisson_nll_loss):
    """exp(input) − target·input, or input − target·ln(input + eps).  Shape: (…), (…) -> ()

    Args:
        log_input: whether `input` is the logarithm of the rate.
        full: add Stirling's approximation of ln target!.
        eps: keeps the logarithm finite.
    """

    log_input: bool = True
    full: bool = False
    _: KW_ONLY
    eps: float = 1e-8
    reduction: str = "mean"


class GaussianNLLLoss(_Loss, of=F.gaussian_nll_loss):
    """(ln var + (input − target)²/var)/2, var ≥ eps.  Shape: (N, …), (N, …), (N, …) -> ()"""

    _: KW_ONLY
    full: bool = False
    eps: float = 1e-6
    reduction: str = "mean"


class HingeEmbeddingLoss(_Loss, of=F.hinge_embedding_loss):
    """input where target = 1, max(0, margin − input) where it is −1.  Shape: (…), (…) -> ()"""

    margin: float = 1.0
    _: KW_ONLY
    reduction: str = "mean"


class CosineEmbeddingLoss(_Loss, of=F.cosine_embedding_loss):
    """1 − cos(a, b) where target = 1, max(0, cos(a, b) − margin) where it is −1.

    Shape: (N, D), (N, D), (N) -> ()
    """

    margin: float = 0.0
    _: KW_ONLY
    reduction: str = "mean"


class MarginRankingLoss(_Loss, of=F.margin_ranking_loss):
    """max(0, −target·(input1 − input2) + margin).  Shape: (N), (N), (N) -> ()"""

    margin: float = 0.0
    _: KW_ONLY
    reduction: str = "mean"


class SoftMarginLoss(_Loss, of=F.soft_margin_loss):
    """ln(1 + exp(−target·input)), targets 1 or −1.  Shape: (…), (…) -> ()"""

    _: KW_ONLY
    reduction: str = "mean"


class MultiMarginLoss(_Loss, of=F.multi_margin_loss):
    """Σᵢ max(0, margin − input[target] + input[i])ᵖ / C, i ≠ target.  Shape: (N, C), (N) -> ()"""

    p: int = 1
    margin: float = 1.0
    weight: Tensor | None = None
    _: KW_ONLY
    reduction: str = "mean"


class MultiLabelMarginLoss(_Loss, of=F.multilabel_margin_loss):
    """Σ max(0, 1 − input[j] + input[i]) / C, j in the target's classes (−1 ends them), i not.

    Shape: (N, C), (N, C) -> ()
    """

    _: KW_ONLY
    reduction: str = "mean"


class MultiLabelSoftMarginLoss(_Loss, of=F.multilabel_soft_margin_loss):
    """The mean over classes of the binary cross-entropy of sigmoid(input).

    Shape: (N, C), (N, C) -> ()
    """

    weight: Tensor | None = None
    _: KW_ONLY
    reduction: str = "mean"


class TripletMarginLoss(_Loss, of=F.triplet_margin_loss):
    """max(0, ‖anchor − positive‖ₚ − ‖anchor − negative‖ₚ + margin).  Shape: 3 × (N, D) -> ()

    Args:
        margin: by how much the negative must be farther away.
        p: which norm.
        eps: is added to the difference.
        swap: use the distance from positive to negative where it is smaller.
    """

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False
    _: KW_ONLY
    reduction: str = "mean"


class TripletMarginWithDistanceLoss(_Loss, of=F.triplet_margin_with_distance_loss):
    """Triplet loss with a distance of one's own.  Shape: 3 × (N, …) -> ()"""

    _: KW_ONLY
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None
    margin: float = 1.0
    swap: bool = False
    reduction: str = "mean"
