"""Mixing the samples of a batch: MixUp, CutMix, and a random choice among such transforms.

They work on whole batches, after the data set's own transforms, and their targets are soft: a
probability for every class, as `cross_entropy` takes them and `accuracy` understands.

    mix = RandomChoice([MixUp(alpha=0.2, num_classes=10), CutMix(num_classes=10)])
    loader = DataLoader(train, 128, shuffle=True, collate_fn=mix)

In a loader their chance depends on (seed, epoch, number of the batch) alone, so an interrupted
and resumed run mixes the same; elsewhere it starts from `tm.manual_seed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.creation import from_numpy
from ..tensor import Tensor
from .collate import default_collate
from .keys import item_rng

Array = NDArray[Any]


class BatchMix:
    """Mixes each sample of a batch with the one before it: subclasses say how.

    Called with a list of samples (as a loader's `collate_fn`), with a batch (images, labels), or
    with images and labels as two arguments.

    Args:
        alpha: λ is drawn from Beta(α, α): near 0 or 1 for small α, evenly for 1.
        num_classes: how many classes the labels have; not needed if they are soft already.

    Raises:
        ValueError: `alpha` isn't positive; labels and images or classes don't fit together.
        TypeError: the batch isn't one of images and labels.
    """

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None) -> None:
        if not alpha > 0:
            raise ValueError(f"{type(self).__name__}: alpha must be positive, it is {alpha}")
        self.alpha, self.num_classes = float(alpha), num_classes

    def __call__(self, *batch: Any) -> list[Tensor]:
        """Return mixed images and soft labels."""
        name = type(self).__name__
        images, labels = images_and_labels(name, *batch)
        targets = soft_labels(name, labels, self.num_classes)
        rng = item_rng()
        share, mixed = self.mix(images, float(rng.beta(self.alpha, self.alpha)), rng)
        share = targets.dtype.type(share)
        targets = share * targets + (1 - share) * before(targets)
        return [from_numpy(mixed), from_numpy(targets)]

    def mix(self, images: Array, share: float, rng: np.random.Generator) -> tuple[float, Array]:
        """Return the share λ that each image keeps, and the mixed images."""
        raise NotImplementedError(f"{type(self).__name__} must define mix(images, share, rng)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, num_classes={self.num_classes})"


class MixUp(BatchMix):
    """Average each image, and its label, with the one before it in the batch.

    x ← λ·x + (1 − λ)·x′,   y ← λ·y + (1 − λ)·y′,   λ ~ Beta(α, α), one for the batch

    Partners are neighbours, so the loader should shuffle.
    Paper: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.

    Shape: images (n, …) float, labels (n) or (n, num_classes) -> (n, …), (n, num_classes)

    Args:
        alpha, num_classes: see BatchMix.

    Raises:
        TypeError: the images aren't float.

    >>> import toumei as tm
    >>> images, labels = MixUp(num_classes=3)(tm.rand(4, 1, 8, 8), tm.tensor([0, 1, 2, 1]))
    >>> labels.shape, bool((labels.sum(1) - 1).abs().max() < 1e-6)
    (Size([4, 3]), True)
    """

    def mix(self, images: Array, share: float, rng: np.random.Generator) -> tuple[float, Array]:
        """Average the images."""
        if images.dtype.kind != "f":
            raise TypeError(
                f"MixUp takes float images, not {images.dtype}; put ToTensor() into the data set"
            )
        keep = images.dtype.type(share)
        return share, keep * images + (1 - keep) * before(images)


class CutMix(BatchMix):
    """Replace a rectangle of each image by that of the one before it; labels by area.

    y ← λ·y + (1 − λ)·y′,   1 − λ the rectangle's share of the area

    The rectangle is the same for the whole batch: its centre is anywhere, its area (1 − λ) of the
    image's, λ ~ Beta(α, α); λ is counted again for what is cut off at the border.
    Paper: Yun et al., "CutMix: regularization strategy to train strong classifiers with
    localizable features", ICCV 2019.

    Shape: images (n, channels, height, width), labels (n) or (n, num_classes) -> as images,
    (n, num_classes)

    Args:
        alpha, num_classes: see BatchMix.

    >>> import toumei as tm
    >>> images, labels = CutMix(num_classes=3)(tm.rand(4, 1, 8, 8), tm.tensor([0, 1, 2, 1]))
    >>> images.shape, labels.shape
    (Size([4, 1, 8, 8]), Size([4, 3]))
    """

    def mix(self, images: Array, share: float, rng: np.random.Generator) -> tuple[float, Array]:
        """Cut and paste."""
        if images.ndim != 4:
            raise ValueError(
                "CutMix takes images (n, channels, height, width), not an array of shape "
                f"{images.shape}"
            )
        height, width = images.shape[2:]
        reach = 0.5 * np.sqrt(1 - share)  # half of the rectangle's side, as a share of the image's
        rows = _around(int(rng.integers(height)), int(reach * height), height)
        columns = _around(int(rng.integers(width)), int(reach * width), width)
        mixed = images.copy()
        mixed[:, :, rows, columns] = before(images)[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return 1 - area / (height * width), mixed


class RandomChoice:
    """Apply one of several transforms, another for each batch.

    Args:
        transforms: functions of a batch, such as MixUp and CutMix, or of an image.
        p: how often each is taken, relative to the others; alike unless given.

    Raises:
        ValueError: no transforms, or weights that don't fit them.

    >>> import toumei as tm
    >>> mix = RandomChoice([MixUp(num_classes=2), CutMix(num_classes=2)])
    >>> data = tm.data.TensorDataset(tm.rand(6, 1, 4, 4), tm.tensor([0, 1, 0, 1, 1, 0]))
    >>> [labels.shape for _, labels in tm.data.DataLoader(data, 3, collate_fn=mix)]
    [Size([3, 2]), Size([3, 2])]
    """

    def __init__(
        self, transforms: Sequence[Callable[..., Any]], p: Sequence[float] | None = None
    ) -> None:
        weights = np.ones(len(transforms)) if p is None else np.asarray(p, np.float64)
        if weights.shape != (len(transforms),) or (weights < 0).any() or not weights.sum() > 0:
            raise ValueError(
                f"RandomChoice: needs transforms and a weight >= 0 for each; there are "
                f"{len(transforms)} transforms, and p is {p}"
            )
        self.transforms, self.p = list(transforms), (weights / weights.sum()).tolist()

    def __call__(self, *batch: Any) -> Any:
        """Apply the transform whose turn it is."""
        return self.transforms[item_rng().choice(len(self.p), p=self.p)](*batch)

    def __repr__(self) -> str:
        return f"RandomChoice({self.transforms!r}, p={self.p})"


def before(values: Array) -> Array:
    """Return, for each sample, the one before it; the last is the one before the first."""
    return np.roll(values, 1, axis=0)


def _around(centre: int, reach: int, size: int) -> slice:
    """Return the places at most `reach` from a centre, within 0 … size."""
    return slice(max(centre - reach, 0), min(centre + reach, size))


def images_and_labels(name: str, *batch: Any) -> tuple[Array, Array]:
    """Return a batch of images and its labels, from samples that are collated first if need be."""
    if len(batch) == 1:
        batch = tuple(batch[0] if _is_collated(batch[0]) else default_collate(batch[0]))
    if len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        kinds = ", ".join(type(part).__name__ for part in batch)
        raise TypeError(f"{name} takes a batch of images and labels, as Tensors; not {kinds}")
    images, labels = (part.detach().numpy() for part in batch)
    if images.ndim < 2 or labels.ndim not in (1, 2) or len(images) != len(labels):
        raise ValueError(
            f"{name} takes images (n, …) and labels (n) or (n, num_classes), not shapes "
            f"{images.shape} and {labels.shape}"
        )
    return images, labels


def _is_collated(batch: Any) -> bool:
    """Tell a batch (images, labels) from a list of samples, whose elements are pairs."""
    return isinstance(batch, tuple | list) and all(isinstance(part, Tensor) for part in batch)


def soft_labels(name: str, labels: Array, num_classes: int | None) -> Array:
    """Return one probability per class: 1 for the label's.  Shape: (n) -> (n, num_classes)"""
    if labels.ndim == 2:
        if num_classes not in (None, labels.shape[1]):
            raise ValueError(
                f"{name}: the labels have {labels.shape[1]} classes, num_classes is {num_classes}"
            )
        return labels if labels.dtype.kind == "f" else labels.astype(np.float32)
    if num_classes is None:
        raise ValueError(f"{name} needs num_classes to make soft labels of class numbers")
    if labels.dtype.kind not in "iu" or (labels < 0).any() or (labels >= num_classes).any():
        raise ValueError(
            f"{name}: labels must be whole numbers from 0 to {num_classes - 1}, they are "
            f"{labels.dtype} from {labels.min()} to {labels.max()}"
        )
    return np.eye(num_classes, dtype=np.float32)[labels]
