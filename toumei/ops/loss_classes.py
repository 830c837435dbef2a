"""Losses whose targets are classes: cross-entropy and what belongs to it.

Families closed under differentiation: PickClass / PlaceClass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Composite, Indexing, Refused, RefusedIndex, RefusedType, Spec, op
from ..tape import apply, spec_of
from .activation import need_floats
from .choice import where
from .loss import reduced, reduction_of, same_shape
from .rowwise import LogSoftmax, Softmax, log_softmax, shifted

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cross_entropy",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "nll_loss",
    "one_hot",
]

NOTHING = -100  # PyTorch's default for labels to leave out


# --- labels --------------------------------------------------------------------------------------


def check_labels(target: Array, classes: int, ignore: int | None) -> None:
    """Refuse labels that are no integers or out of range, naming the first one.

    It always runs: NumPy would take negative labels as counted from the end.
    """
    if target.dtype.kind not in "iu":
        raise RefusedType(f"class labels must be integers, not {target.dtype}: use .long()")
    if not target.size or (target.min() >= 0 and target.max() < classes):
        return
    wrong = (target < 0) | (target >= classes)
    if ignore is not None:
        wrong &= target != ignore
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        where_ = f" at {place[0] if len(place) == 1 else place}" if place else ""
        raise RefusedIndex(
            f"label {target[place]}{where_} is out of range: there are {classes} classes, "
            f"0 to {classes - 1}"
        )


def _axis(ndim: int) -> int:
    """Return where the classes are: dim 1, or the only one."""
    return min(1, ndim - 1)


def _label_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = _axis(len(shape))
    return (*shape[:axis], *shape[axis + 1 :])


def _check_fit(x: Any, target: Any) -> None:
    """Refuse labels (arrays or Specs) whose shape isn't x's without the class dimension."""
    if not x.shape or target.shape != _label_shape(x.shape):
        raise Refused(
            f"the labels have the shape {target.shape}, but for x of shape {x.shape} they need "
            f"{_label_shape(x.shape) if x.shape else 'x to have a class dimension'}: one per "
            "position, without the class dimension"
        )


class Labelled(Indexing):
    """Has class labels as its second input; those equal to `ignore_index` count for nothing."""

    ignore_index: int

    def places(self, xp: Any, target: Array, ndim: int) -> tuple[Array, Array]:
        """Return the labels (0 for ignored ones) with a class dimension, and which count."""
        counts = target != self.ignore_index
        return xp.expand_dims(xp.where(counts, target, 0), _axis(ndim)), counts


@op
class PickClass(Labelled):
    """y[n, …] = x[n, target[n, …], …]: the number of the class named by each label"""

    def check(self, x: Array, target: Array) -> None:
        _check_fit(x, target)
        check_labels(target, x.shape[_axis(x.ndim)], self.ignore_index)

    def forward(self, xp: Any, x: Array, target: Array) -> Array:
        axis = _axis(x.ndim)
        at, counts = self.places(xp, target, x.ndim)
        picked = xp.take_along_axis(x, at, axis).squeeze(axis)
        return xp.where(counts, picked, x.dtype.type(0))  # type: ignore[no-any-return]

    def infer(self, x: Spec, target: Spec) -> Spec:
        _check_fit(x, target)
        return Spec(target.shape, x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec, target: Tensor) -> Tensor:
        return apply(PlaceClass(self.ignore_index, x_spec.shape[_axis(x_spec.ndim)]), gy, target)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(-100), (rng.normal(size=4), np.array(2)))
        yield Case(cls(-100), (rng.normal(size=(3, 4)), np.array([0, -100, 3])))
        yield Case(cls(1), (rng.normal(size=(2, 3, 2)), np.array([[0, 1], [2, 2]])))
        yield Case(cls(1), (rng.normal(size=(0, 3)), np.zeros(0, np.int64)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        x = np.zeros((2, 3))
        yield Case(cls(-100), (x, np.array([0, 3]))), "label 3 at 1 is out of range: there are 3"
        yield Case(cls(-100), (x, np.array([-1, 0]))), "label -1 at 0"
        yield Case(cls(-100), (x, np.array([0.0, 1.0]))), "labels must be integers"
        yield Case(cls(-100), (x, np.array([0]))), "the labels have the shape (1,)"


@op
class PlaceClass(Labelled):
    """y[n, target[n, …], …] = g[n, …], 0 for all other classes: the reverse of picking"""

    classes: int

    def check(self, g: Array, target: Array) -> None:
        if g.shape != target.shape:
            raise Refused(f"numbers of shape {g.shape} for labels of shape {target.shape}")
        check_labels(target, self.classes, self.ignore_index)

    def forward(self, xp: Any, g: Array, target: Array) -> Array:
        out = xp.zeros(self._shape(g.shape), g.dtype)
        axis = _axis(out.ndim)
        at, counts = self.places(xp, target, out.ndim)
        xp.put_along_axis(out, at, xp.expand_dims(xp.where(counts, g, g.dtype.type(0)), axis), axis)
        return out  # type: ignore[no-any-return]

    def infer(self, g: Spec, target: Spec) -> Spec:
        return Spec(self._shape(g.shape), g.dtype)

    def _shape(self, labels: tuple[int, ...]) -> tuple[int, ...]:
        return (*labels[:1], self.classes, *labels[1:])

    def backward_g(self, gy: Tensor, target: Tensor) -> Tensor:
        return apply(PickClass(self.ignore_index), gy, target)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(-100, 4), (rng.normal(size=()), np.array(2)))
        yield Case(cls(-100, 4), (rng.normal(size=3), np.array([0, -100, 3])))
        yield Case(cls(1, 3), (rng.normal(size=(2, 2)), np.array([[0, 1], [2, 2]])))


@op
class OneHot(Indexing):
    """y[…, c] = 1 where c is the label, else 0"""

    classes: int

    def check(self, target: Array) -> None:
        check_labels(target, self.classes, None)

    def forward(self, xp: Any, target: Array) -> Array:
        return (target[..., None] == xp.arange(self.classes)).astype(np.int64)

    def infer(self, target: Spec) -> Spec:
        return Spec((*target.shape, self.classes), np.dtype(np.int64))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(4), (np.array([[0, 3], [2, 2]]),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(3), (np.array([-1]),)), "label -1 at 0"


# --- cross-entropy -------------------------------------------------------------------------------


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
        _check_fit(x, target)
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
        w = counts if weight is None else apply(PickClass(self.ignore_index), _wide(weight, x), target)
        q: Tensor = apply(PlaceClass(self.ignore_index, x.shape[1]), w * (1 - self.smoothing), target)
        if not self.smoothing:
            return q
        even = counts.unsqueeze(1) * (self.smoothing / x.shape[1])
        return q + (even if weight is None else even * _wide(weight, x))


def _wide(weight: Tensor, x: Tensor) -> Tensor:
    """Repeat one number per class over all positions, without a copy."""
    return weight.reshape(1, -1, *[1] * (x.ndim - 2)).expand(x.shape)


@op
class CrossEntropy(ClassLoss):
    """y = −Σ_c q_c·ln softmax(x)_c;   ∂x = gy·(softmax(x)·Σ q − q)"""

    def check(self, x: Array, target: Array, weight: Array | None = None) -> None:
        self.check_all(x, target, weight)
        check_labels(target, x.shape[1], self.ignore_index)

    def forward(self, xp: Any, x: Array, target: Array, weight: Array | None = None) -> Array:
        y = shifted(xp, x, (1,))
        lse = xp.log(xp.sum(xp.exp(y), axis=1))
        at = xp.expand_dims(xp.where(target != self.ignore_index, target, 0), 1)
        w = self.weight_of_label(xp, x, target, weight)
        picked = xp.take_along_axis(y, at, 1).squeeze(1)
        # A label that doesn't count may stand at an infinite logit: 0·∞ must not arise.
        loss = w * xp.where(w == 0, x.dtype.type(0), lse - picked)
        if not self.smoothing:
            return loss  # type: ignore[no-any-return]
        if weight is None:
            rest = x.shape[1] * lse - xp.sum(y, axis=1)
        else:
            rest = xp.sum(weight) * lse - xp.tensordot(weight, y, (0, 1))
        rest *= (target != self.ignore_index) * x.dtype.type(self.smoothing / x.shape[1])
        return loss * x.dtype.type(1 - self.smoothing) + rest  # type: ignore[no-any-return]

    def infer(self, x: Spec, target: Spec, weight: Spec | None = None) -> Spec:
        self.check_all(x, target, weight)
        return Spec(target.shape, x.dtype)

    def decompose(self, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        q = self.distribution(x, target, weight)
        return -(apply(LogSoftmax((1,)), x).masked_fill(q == 0, 0) * q).sum(1)  # type: ignore[no-any-return]

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
        yield Case(cls(-100, 0.0), (np.zeros((2, 3)), np.array([0, 3]))), "label 3 at 1 is out of range"
        yield Case(cls(-100, 0.0), (np.zeros((2, 3)), np.zeros((2, 1), int))), "the labels have the shape"


@op
class CrossEntropyGrad(ClassLoss):
    """∂x = g·(softmax(x)·Σ q − q): the derivative of cross-entropy"""

    def forward(
        self, xp: Any, g: Array, x: Array, target: Array, weight: Array | None = None
    ) -> Array:
        p = shifted(xp, x, (1,))
        xp.exp(p, out=p)
        real = x.dtype.type
        at_label = g * self.weight_of_label(xp, x, target, weight) * real(1 - self.smoothing)
        total, even = at_label, None
        if self.smoothing:
            even = g * (target != self.ignore_index) * real(self.smoothing / x.shape[1])
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
        return g.unsqueeze(1) * (p * q.sum(1, keepdim=True) - q)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in CrossEntropy.samples(rng):
            _, target, *_ = case.inputs
            g = rng.normal(size=target.shape)
            yield Case(cls(*vars(case.op).values()), (g, *case.inputs))


# --- functions -----------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A row of zeros with a single 1, at the label.  Shape: (…) -> (…, num_classes), int64

    Args:
        num_classes: -1 takes one more than the largest label.

    Raises:
        OpIndexError: a label is negative or too large.

    >>> import toumei as tm
    >>> tm.nn.functional.one_hot(tm.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if num_classes == -1:
        if tensor.numel() == 0:
            raise OpError("one_hot: there are no labels to count classes from: pass num_classes")
        num_classes = int(tensor.max().item()) + 1
    return apply(OneHot(num_classes), tensor)


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
    _need_labels("nll_loss", input, target)
    losses = -apply(PickClass(ignore_index), input, target)
    return _weighted("nll_loss", losses, input, target, weight, ignore_index, reduction)


def _need_labels(name: str, input: Tensor, target: Tensor) -> None:
    if target.dtype.kind not in "iu":
        raise_type(name, input, target, "class labels must be integers: use target.long()")


def raise_type(name: str, input: Tensor, target: Tensor, reason: str) -> None:
    """Refuse a target because of its dtype."""
    from ..errors import OpTypeError

    raise OpTypeError(f"{name}(input: {spec_of(input)}, target: {spec_of(target)}): {reason}")


def _label_weights(input: Tensor, target: Tensor, weight: Tensor | None, ignore: int) -> Tensor:
    if weight is None:
        return (target != ignore).to(input.dtype)
    wide = weight if input.ndim == 1 else _wide(weight, input)
    return apply(PickClass(ignore), wide, target)


def _weighted(
    name: str,
    losses: Tensor,
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore: int,
    reduction: str,
) -> Tensor:
    classes = input.shape[_axis(input.ndim)]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise OpError(f"{name}: weight is {spec_of(weight)}, but there are {classes} classes")
    weights = _label_weights(input, target, weight, ignore)
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
        ignore_index: labels that count for nothing.
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
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    _need_labels(name, input, target)
    if input.ndim == 1 and target.ndim == 0:
        losses = _label_losses(input.unsqueeze(0), target.unsqueeze(0), weight, ignore_index, label_smoothing)
        losses = losses.squeeze(0)
    else:
        losses = _label_losses(input, target, weight, ignore_index, label_smoothing)
    if reduction != "mean":
        return reduced(losses, reduction)
    return losses.sum() / _label_weights(input, target, weight, ignore_index).sum()


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
            "a target of the input's shape holds probabilities, which are floats; class labels have "
            "no class dimension",
        )  # fmt: skip
    axis = _axis(input.ndim)
    classes = input.shape[axis]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    if weight is not None:
        if tuple(weight.shape) != (classes,):
            raise OpError(f"cross_entropy: weight is {spec_of(weight)}, but there are {classes} classes")
        target = target * (weight if input.ndim == 1 else _wide(weight, input))
    losses = -(log_softmax(input, axis) * target).sum(axis)
    return reduced(losses, reduction)


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
    _need_labels("multi_margin_loss", input, target)
    classes = input.shape[1]
    own: Tensor = apply(PickClass(NO_LABEL), input, target)
    short = (margin - own.unsqueeze(1) + input).clamp(min=0)
    short = short.masked_fill(one_hot(target, classes).bool(), 0)
    if p == 2:
        short = short * short
    if weight is not None:
        short = short * _label_weights(input, target, weight, NO_LABEL).unsqueeze(1)
    losses = short.sum(1) / classes
    return reduced(losses.reshape(target_shape), reduction)


NO_LABEL = -(2**62)  # an ignore_index that no label equals


@op
class CountLabels(Indexing):
    """y[n, c] = how often c stands in the row's labels before the first −1"""

    def check(self, target: Array) -> None:
        classes = target.shape[-1]
        if target.dtype.kind not in "iu":
            raise RefusedType(f"class labels must be integers, not {target.dtype}: use .long()")
        if target.size and target.max() >= classes:
            check_labels(np.maximum(target, 0), classes, None)

    def forward(self, xp: Any, target: Array) -> Array:
        valid = xp.cumprod(target >= 0, axis=-1).astype(bool)
        hits = (target[..., None] == xp.arange(target.shape[-1])) & valid[..., None]
        return hits.sum(axis=-2)  # type: ignore[no-any-return]

    def infer(self, target: Spec) -> Spec:
        return Spec(target.shape, np.dtype(np.int64))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (np.array([[1, 1, -1, 0], [-1, 2, 2, 2]]),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.array([[0, 2]]),)), "label 2 at (0, 1) is out of range"


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
