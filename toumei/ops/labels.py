"""Class labels: checked, picked by, placed, counted, written as one-hot rows.

Families closed under differentiation: PickClass / PlaceClass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError, OpTypeError
from ..op import Array, Case, Indexing, Refused, RefusedIndex, RefusedType, Spec, op
from ..tape import apply, spec_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["one_hot"]

NO_LABEL = -(2**62)  # an ignore_index that no label equals


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


def class_axis(ndim: int) -> int:
    """Return where the classes are: dim 1, or the only one."""
    return min(1, ndim - 1)


def _label_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = class_axis(len(shape))
    return (*shape[:axis], *shape[axis + 1 :])


def check_fit(x: Any, target: Any) -> None:
    """Refuse labels (arrays or Specs) whose shape isn't x's without the class dimension."""
    if not x.shape or target.shape != _label_shape(x.shape):
        raise Refused(
            f"the labels have the shape {target.shape}, but for x of shape {x.shape} they need "
            f"{_label_shape(x.shape) if x.shape else 'x to have a class dimension'}: one per "
            "position, without the class dimension"
        )


def places(xp: Any, target: Array, ignore: int, ndim: int) -> tuple[Array, Array]:
    """Return the labels (0 for ignored ones) with a class dimension, and which count."""
    counts = target != ignore
    return xp.expand_dims(xp.where(counts, target, 0), class_axis(ndim)), counts


@op
class PickClass(Indexing):
    """y[n, …] = x[n, target[n, …], …]: the number of the class named by each label"""

    ignore_index: int  # labels equal to it count for nothing

    def check(self, x: Array, target: Array) -> None:
        check_fit(x, target)
        check_labels(target, x.shape[class_axis(x.ndim)], self.ignore_index)

    def forward(self, xp: Any, x: Array, target: Array) -> Array:
        axis = class_axis(x.ndim)
        at, counts = places(xp, target, self.ignore_index, x.ndim)
        picked = xp.take_along_axis(x, at, axis).squeeze(axis)
        return xp.where(counts, picked, x.dtype.type(0))

    def infer(self, x: Spec, target: Spec) -> Spec:
        check_fit(x, target)
        return Spec(target.shape, x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec, target: Tensor) -> Tensor:
        return apply(
            PlaceClass(self.ignore_index, x_spec.shape[class_axis(x_spec.ndim)]), gy, target
        )

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
class PlaceClass(Indexing):
    """y[n, target[n, …], …] = g[n, …], 0 for all other classes: the reverse of picking"""

    ignore_index: int
    classes: int

    def check(self, g: Array, target: Array) -> None:
        if g.shape != target.shape:
            raise Refused(f"numbers of shape {g.shape} for labels of shape {target.shape}")
        check_labels(target, self.classes, self.ignore_index)

    def forward(self, xp: Any, g: Array, target: Array) -> Array:
        out = xp.zeros(self._shape(g.shape), g.dtype)
        axis = class_axis(out.ndim)
        at, counts = places(xp, target, self.ignore_index, out.ndim)
        xp.put_along_axis(out, at, xp.expand_dims(xp.where(counts, g, g.dtype.type(0)), axis), axis)
        return out

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


@op
class CountLabels(Indexing):
    """y[n, c] = how often c stands in the row's labels before the first −1"""

    name: ClassVar[str] = "multilabel_margin_loss"

    def check(self, target: Array) -> None:
        classes = target.shape[-1]
        if target.dtype.kind not in "iu":
            raise RefusedType(f"class labels must be integers, not {target.dtype}: use .long()")
        if target.size and target.max() >= classes:
            check_labels(np.maximum(target, 0), classes, None)

    def forward(self, xp: Any, target: Array) -> Array:
        valid = xp.cumprod(target >= 0, axis=-1).astype(bool)
        hits = (target[..., None] == xp.arange(target.shape[-1])) & valid[..., None]
        return hits.sum(axis=-2)

    def infer(self, target: Spec) -> Spec:
        return Spec(target.shape, np.dtype(np.int64))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (np.array([[1, 1, -1, 0], [-1, 2, 2, 2]]),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.array([[0, 2]]),)), "label 2 at (0, 1) is out of range"


# --- functions -----------------------------------------------------------------------------------


def need_labels(name: str, input: Tensor, target: Tensor) -> None:
    if target.dtype.kind not in "iu":
        raise_type(name, input, target, "class labels must be integers: use target.long()")


def raise_type(name: str, input: Tensor, target: Tensor, reason: str) -> None:
    """Refuse a target because of its dtype."""
    raise OpTypeError(f"{name}(input: {spec_of(input)}, target: {spec_of(target)}): {reason}")


def wide(weight: Tensor, x: Tensor) -> Tensor:
    """Repeat one number per class over all positions, without a copy."""
    return weight.reshape(1, -1, *[1] * (x.ndim - 2)).expand(x.shape)


def label_weights(input: Tensor, target: Tensor, weight: Tensor | None, ignore: int) -> Tensor:
    if weight is None:
        return (target != ignore).to(input.dtype)
    spread = weight if input.ndim == 1 else wide(weight, input)
    return apply(PickClass(ignore), spread, target)


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
        num_classes = max(int(tensor.max().item()) + 1, 1)
    return apply(OneHot(num_classes), tensor)
