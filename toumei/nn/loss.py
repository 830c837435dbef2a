"""Losses as layers.  `reduction` is "mean", "sum" or "none"; losses never broadcast."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from ..errors import ModuleError
from ..tape import spec_of
from ..tensor import Buffer, Tensor
from . import functional as F
from .function_layer import FunctionLayer
from .linear import Linear, check_sizes
from .module import Module

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
    "LinearCrossEntropyLoss",
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

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        if not isinstance(delta, int | float):
            raise TypeError(f"HuberLoss: delta must be a number, not {delta!r}")
        super().__init__(reduction, delta)


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


class LinearCrossEntropyLoss(Module):
    """Cross-entropy behind a linear layer of its own, `linear`.

    Shape: (in_features) or (N, in_features), targets () or (N, *out_features) of classes, or
    (N, num_classes, *out_features) of probabilities -> ();  linear.weight
    (num_classes·∏out_features, in_features)

    Args:
        in_features: size of each input.
        num_classes: how many classes there are.
        out_features: dimensions of the targets besides the batch.
        bias: whether the linear layer adds a learnt bias.
        dtype: of its parameters; the default dtype if None.
        reduction: "mean" (over the weights of the targets), "sum" or "none".
        weight: of each class.  Shape: (num_classes)
        ignore_index: targets of this value count for nothing (−100 if None).
        label_smoothing: the share, 0 to 1, that is spread over all classes.
        options: must be None: the logits are computed as a whole, not in chunks.

    Raises:
        ModuleError: a size isn't a positive integer, or an option is out of range.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.LinearCrossEntropyLoss(5, 10)(tm.ones(2, 5), tm.tensor([3, 4])).shape
    Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: None = None,
    ) -> None:
        name = "LinearCrossEntropyLoss"
        check_sizes(name, num_classes=num_classes)
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise ModuleError(f"{name}: weight is {spec_of(weight)}, it needs {(num_classes,)}")
        if not 0 <= label_smoothing <= 1:
            raise ModuleError(f"{name}: label_smoothing is 0 to 1, not {label_smoothing}")
        if options is not None:
            raise ModuleError(f"{name}: logits in chunks aren't supported: options must be None")
        self.num_classes = num_classes
        self.out_features = tuple(out_features)
        self.reduction = reduction
        self.weight = None if weight is None else Buffer(weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.options = options
        self.linear = Linear(in_features, prod((num_classes, *out_features)), bias, dtype=dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        shape, bias = (self.num_classes, *self.out_features), self.linear.bias
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        values = {
            "in_features": self.linear.in_features,
            "num_classes": self.num_classes,
            "out_features": self.out_features,
            "bias": self.linear.bias is not None,
            "reduction": self.reduction,
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing,
            "options": self.options,
        }
        return ", ".join(f"{name}={value}" for name, value in values.items())


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
