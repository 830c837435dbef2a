"""Losses whose targets are classes: negative log likelihood and cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Composite, Refused, Spec, op
from ..tape import apply, spec_of
from .dense import linear
from .elementwise import need_floats
from .labels import (
    PickClass,
    PlaceClass,
    check_fit,
    check_labels,
    class_axis,
    label_weights,
    need_labels,
    raise_type,
    wide,
)
from .loss import reduced, reduction_of
from .rowwise import LogSoftmax, Softmax, below_max, log_softmax

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["cross_entropy", "linear_cross_entropy", "nll_loss"]

NOTHING = -100  # PyTorch's default for labels to leave out


class ClassLoss(Composite):
    """A loss of logits x (n, c, …) and labels (n, …), optionally with a weight per class.

    The label's distribution is q = (1 − s)·w_label at the label + (s/c)·w everywhere, with s the
    label smoothing; it is 0 where the label is ignored.
    """

    ignore_index: int
    smoothing: float
    exempt: ClassVar[dict[str, str]] = {
        "gradient of weight": "class weights are constants, as in PyTorch: no gradient flows there"
    }

    def check_all(self, x: Any, target: Any, weight: Any) -> None:
        """Refuse what doesn't fit; x has at least the dimensions (n, c)."""
        need_floats(x)
        check_fit(x, target)
        if weight is not None and (weight.shape != x.shape[1:2] or weight.dtype != x.dtype):
            raise Refused(
                f"weight is {weight.dtype}{list(weight.shape)}, but there are {x.shape[1]} classes "
                f"of {x.dtype}: it needs one {x.dtype} number for each"
            )

    def weight_of_label(self, xp: Any, x: Array, target: Array, weight: Array | None) -> Array:
        """Return the weight of each label: 0 for ignored ones."""
        counts = target != self.ignore_index
        if weight is None:
            return counts.astype(x.dtype)
        return weight[xp.where(counts, target, 0)] * counts

    def distribution(self, x: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return q, in Tensors."""
        counts = (target != self.ignore_index).to(x.dtype)
        w = (
            counts
            if weight is None
            else apply(PickClass(self.ignore_index), wide(weight, x), target)
        )
        q: Tensor = apply(
            PlaceClass(self.ignore_index, x.shape[1]), w * (1 - self.smoothing), target
        )
        if not self.smoothing:
            return q
        even = counts.unsqueeze(1) * (self.smoothing / x.shape[1])
        return q + (even if weight is None else even * wide(weight, x))


@op
class CrossEntropy(ClassLoss):
    """y = −Σ_c q_c·ln softmax(x)_c;   ∂x = gy·(softmax(x)·Σ q − q)"""

    def check(self, x: Array, target: Array, weight: Array | None = None) -> None:
        self.check_all(x, target, weight)
        check_labels(target, x.shape[1], self.ignore_index)

    def forward(self, xp: Any, x: Array, target: Array, weight: Array | None = None) -> Array:
        y = below_max(xp, x, (1,))
        lse = xp.log(xp.sum(xp.exp(y), axis=1))
        at = xp.expand_dims(xp.where(target != self.ignore_index, target, 0), 1)
        w = self.weight_of_label(xp, x, target, weight)
        picked = xp.take_along_axis(y, at, 1).squeeze(1)
        # A label that doesn't count may stand at an infinite logit: 0·∞ must not arise.
        loss = w * xp.where(w == 0, x.dtype.type(0), lse - picked)
        if not self.smoothing:
            return loss
        if weight is None:
            rest = x.shape[1] * lse - xp.sum(y, axis=1)
        else:
            rest = xp.sum(weight) * lse - xp.tensordot(weight, y, (0, 1))
        rest *= (target != self.ignore_index) * x.dtype.type(self.smoothing / x.shape[1])
        return loss * x.dtype.type(1 - self.smoothing) + rest

    def infer(self, x: Spec, target: Spec, weight: Spec | None = None) -> Spec:
        self.check_all(x, target, weight)
        return Spec(target.shape, x.dtype)

    def decompose(self, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        q = self.distribution(x, target, weight)
        return -(apply(LogSoftmax((1,)), x).masked_fill(q == 0, 0) * q).sum(1)

    def backward(
        self, gy: Tensor, x: Tensor, target: Tensor, weight: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        inputs = (gy, x, target) if weight is None else (gy, x, target, weight)
        gx = apply(CrossEntropyGrad(self.ignore_index, self.smoothing), *inputs)
        return (gx, None) if weight is None else (gx, None, None)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for smoothing in (0.0, 0.1):
            yield Case(cls(-100, smoothing), (rng.normal(size=(3, 4)), np.array([0, -100, 3])))
            x, labels = rng.normal(size=(2, 3, 2)), np.array([[0, 1], [2, 2]])
            yield Case(cls(1, smoothing), (x, labels, np.array([0.5, 2.0, 1.0])))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield (
            Case(cls(-100, 0.0), (np.zeros((2, 3)), np.array([0, 3]))),
            "label 3 at 1 is out of range",
        )
        yield (
            Case(cls(-100, 0.0), (np.zeros((2, 3)), np.zeros((2, 1), int))),
            "the labels have the shape",
        )


@op
class CrossEntropyGrad(ClassLoss):
    """∂x = g·(softmax(x)·Σ q − q): the derivative of cross-entropy"""

    def forward(
        self, xp: Any, g: Array, x: Array, target: Array, weight: Array | None = None
    ) -> Array:
        p = below_max(xp, x, (1,))
        xp.exp(p, out=p)
        real = x.dtype.type
        g = xp.where(target != self.ignore_index, g, real(0))  # 0 even where g is infinite
        at_label = g * self.weight_of_label(xp, x, target, weight) * real(1 - self.smoothing)
        total, even = at_label, None
        if self.smoothing:
            even = g * real(self.smoothing / x.shape[1])
            total = total + even * (x.shape[1] if weight is None else xp.sum(weight))
        p *= xp.expand_dims(total / xp.sum(p, axis=1), 1)
        at = xp.expand_dims(xp.where(target != self.ignore_index, target, 0), 1)
        picked = xp.take_along_axis(p, at, 1)
        xp.put_along_axis(p, at, picked - xp.expand_dims(at_label, 1), 1)
        if even is not None:
            even = xp.expand_dims(even, 1)
            w = 1 if weight is None else weight.reshape(-1, *[1] * (x.ndim - 2))
            p -= even * w
        return p

    def infer(self, g: Spec, x: Spec, target: Spec, weight: Spec | None = None) -> Spec:
        return Spec(x.shape, x.dtype)

    def decompose(
        self, g: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        q = self.distribution(x, target, weight)
        p: Tensor = apply(Softmax((1,)), x)
        g = g.masked_fill(target == self.ignore_index, 0)
        return g.unsqueeze(1) * (p * q.sum(1, keepdim=True) - q)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in CrossEntropy.samples(rng):
            _, target, *_ = case.inputs
            g = np.asarray(rng.normal(size=target.shape))
            yield Case(cls(**vars(case.op)), (g, *case.inputs))


# --- functions -----------------------------------------------------------------------------------


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    ignore_index: int = NOTHING,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log likelihood: −w_label·input_label, from log probabilities.

    Shape: (c), () or (n, c, …), (n, …) -> (); the target's with reduction "none"

    Args:
        weight: one number per class; "mean" divides by the sum of the labels' weights.
        ignore_index: labels that count for nothing.

    Raises:
        OpError: the shapes don't fit. OpIndexError: a label is out of range.
        OpTypeError: the labels are no integers.
    """
    reduction_of("nll_loss", reduction, size_average, reduce)
    need_labels("nll_loss", input, target)
    losses = -apply(PickClass(ignore_index), input, target)
    return _weighted("nll_loss", losses, input, target, weight, ignore_index, reduction)


def _weighted(
    name: str,
    losses: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore: int,
    reduction: str,
) -> Tensor:
    classes = input.shape[class_axis(input.ndim)]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise OpError(f"{name}: weight is {spec_of(weight)}, but there are {classes} classes")
    weights = label_weights(input, target, weight, ignore)
    if weight is not None:
        losses = losses * weights
    return losses.sum() / weights.sum() if reduction == "mean" else reduced(losses, reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    ignore_index: int = NOTHING,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits: −ln softmax(input)_label, or −Σ_c target_c·ln softmax(input)_c.

    Shape: (c), () or (n, c, …), (n, …) for labels; (c), (c) or (n, c, …), (n, c, …) for
    probabilities -> (); the labels' shape with reduction "none"

    Args:
        target: class labels (integers), or a probability for every class (floats).
        weight: one number per class.
        ignore_index: labels that count for nothing; probabilities take no class as such.
        label_smoothing: how much of each target is spread evenly over all classes, 0 to 1.

    Raises:
        OpError: the shapes don't fit. OpIndexError: a label is out of range.
        OpTypeError: float labels, or integer probabilities.

    >>> import toumei as tm
    >>> tm.nn.functional.cross_entropy(tm.zeros(1, 4), tm.tensor([2]))
    tensor(1.3863)
    """
    name = "cross_entropy"
    reduction_of(name, reduction, size_average, reduce)
    if not 0 <= label_smoothing <= 1:
        raise OpError(f"{name}: label_smoothing must be between 0 and 1, not {label_smoothing}")
    if input.ndim == 0:
        raise OpError(f"{name}(input: {spec_of(input)}): the input needs a class dimension")
    if target.shape == input.shape:
        if ignore_index >= 0 and target.is_floating_point():
            raise OpError(f"{name}: ignore_index={ignore_index} needs class labels as target")
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    need_labels(name, input, target)
    if input.ndim == 1 and target.ndim == 0:
        losses = _label_losses(
            input.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, label_smoothing
        )
        losses = losses.squeeze(0)
    else:
        losses = _label_losses(input, target, weight, ignore_index, label_smoothing)
    if reduction != "mean":
        return reduced(losses, reduction)
    return losses.sum() / label_weights(input, target, weight, ignore_index).sum()


def _label_losses(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore: int, smoothing: float
) -> Tensor:
    inputs = (input, target) if weight is None else (input, target, weight)
    return apply(CrossEntropy(ignore, float(smoothing)), *inputs)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if target.dtype.kind != "f":
        raise_type(
            "cross_entropy", input, target,
            "a target of the input's shape holds probabilities, so floats; class labels have "
            "no class dimension",
        )  # fmt: skip
    axis = class_axis(input.ndim)
    classes = input.shape[axis]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise OpError(
                f"cross_entropy: weight is {spec_of(weight)}, but there are {classes} classes"
            )
        target = target * (weight if input.ndim == 1 else wide(weight, input))
    losses = -(log_softmax(input, axis) * target).sum(axis)
    return reduced(losses, reduction)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: None = None,
) -> Tensor:
    """`cross_entropy` of the logits linear_weight·input + linear_bias.

    Shape: (i) or (n, i), (c, …, i), targets as for `cross_entropy` of logits (n, c, …) -> ()

    Args:
        linear_bias: added to the logits.  Shape: (c, …)
        ignore_index: labels that count for nothing (−100 if None); None for probabilities.
        options: must be None: the logits are computed as a whole, not in chunks.

    Raises:
        OpError: the shapes don't fit. OpIndexError: a label is out of range.

    >>> import toumei as tm
    >>> tm.nn.functional.linear_cross_entropy(tm.ones(1, 3), tm.zeros(4, 3), tm.tensor([2]))
    tensor(1.3863)
    """
    name = "linear_cross_entropy"
    call = f"{name}(input: {spec_of(input)}, linear_weight: {spec_of(linear_weight)})"
    if options is not None:
        raise OpError(f"{call}: logits in chunks aren't supported: options must be None")
    _check_projection(call, input, linear_weight, linear_bias)
    flat_bias = None if linear_bias is None else linear_bias.reshape(-1)
    logits = linear(input, linear_weight.reshape(-1, input.shape[-1]), flat_bias)
    logits = logits.reshape(*input.shape[:-1], *linear_weight.shape[:-1])
    if ignore_index is not None and target.shape == logits.shape:
        raise OpError(f"{call}: ignore_index has no meaning for a target of probabilities")
    ignored = NOTHING if ignore_index is None else ignore_index
    return cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction,
        label_smoothing=label_smoothing,
    )  # fmt: skip


def _check_projection(
    call: str, input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None
) -> None:
    if input.ndim not in (1, 2) or linear_weight.ndim < 2:
        raise OpError(f"{call}: they need the shapes (i) or (n, i), and (c, …, i)")
    if input.ndim == 1 and linear_weight.ndim > 2:
        raise OpError(f"{call}: logits of several dimensions need an input with a batch")
    if input.shape[-1] != linear_weight.shape[-1]:
        sizes = f"{input.shape[-1]} features, the weight {linear_weight.shape[-1]}"
        raise OpError(f"{call}: the input has {sizes}")
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:-1]:
        wanted = tuple(linear_weight.shape[:-1])
        raise OpError(f"{call}: linear_bias is {spec_of(linear_bias)}, it needs {wanted}")
