"""Image transforms: one image at a time, or a whole batch in a few NumPy expressions.

An image is a Tensor (channels, height, width), uint8 in 0 … 255 or float.  `transform(image)`
takes one; `transform.apply(images, keys)` takes an array (n, channels, height, width) and one key
per image (see `keys`), and is what a transform defines.  A random transform is a pure function of
the image and its key, and the key a function of (seed, epoch, index): augmentation doesn't depend
on the batch, the number of threads or an interruption.

    train = CIFAR10(transform=Compose([
        RandomCrop(32, padding=4), RandomHorizontalFlip(), ToTensor(), Normalize(mean, std)]))
    for images, labels in DataLoader(train, 128, shuffle=True, num_workers=2): ...

A transform of your own is any function of one image (give it to a data set or put it into
`Compose`; `item_rng()` is its source of chance), or a subclass of Transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..ops.creation import from_numpy
from ..tensor import Tensor
from .keys import Keys, fold, key_scope, next_key, normal, uniform

Images = NDArray[Any]  # (n, channels, height, width)

_PAD_MODES = ("constant", "edge", "reflect", "symmetric")


class Transform:
    """A function of images: define `apply`, and set `random` if it draws from the keys."""

    random = False

    def apply(self, images: Images, keys: Keys) -> Images:
        """Transform images (n, channels, height, width), each with its key."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(images, keys)")

    def __call__(self, image: Any) -> Any:
        """Transform one image (channels, height, width)."""
        array = _as_array(image, type(self).__name__)
        key = next_key() if self.random else np.zeros(1, np.uint64)
        return from_numpy(np.ascontiguousarray(self.apply(array[None], key)[0]))

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k[0] != "_")
        return f"{type(self).__name__}({fields})"


def _as_array(image: Any, name: str) -> NDArray[Any]:
    """Return the array of one image, or say what an image is."""
    if isinstance(image, Tensor) and image.ndim == 3:
        return image.numpy()
    what = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
    raise TypeError(
        f"{name} takes an image as a Tensor (channels, height, width), not {what}; ToTensor() "
        "makes one of an array (height, width, channels)"
    )


class Compose(Transform):
    """One transform after the other.

    >>> import toumei as tm
    >>> Compose([CenterCrop(2), ToTensor()])(tm.zeros(1, 4, 4, dtype=tm.uint8)).shape
    Size([1, 2, 2])
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)
        # A plain function may draw from next_key(), so it counts as random.
        self.random = any(getattr(t, "random", True) for t in self.transforms)

    def apply(self, images: Images, keys: Keys) -> Images:
        """Apply each transform to the batch, the n-th with the n-th sub-key of each image."""
        for place, transform in enumerate(self.transforms):
            sub = fold(keys, place)
            if isinstance(transform, Transform):
                images = transform.apply(images, sub)
            else:
                images = _apply_each(transform, images, sub)
        return images

    def __call__(self, image: Any) -> Any:
        """Apply each transform to one image."""
        for transform in self.transforms:
            image = transform(image)
        return image


def _apply_each(function: Callable[[Any], Any], images: Images, keys: Keys) -> Images:
    """Apply a function of one image to each, with its key as the source of chance."""
    results = []
    for image, key in zip(images, keys, strict=True):
        with key_scope(key[None]):
            result = function(from_numpy(image.copy()))
        results.append(result.numpy() if isinstance(result, Tensor) else np.asarray(result))
    return np.stack(results)


class Lambda(Transform):
    """A function of one image as a transform.

    >>> import toumei as tm
    >>> Lambda(lambda image: image * 2)(tm.ones(1, 1, 1)).tolist()
    [[[2.0]]]
    """

    random = True

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Lambda takes a function, not {type(lambd).__name__}")
        self.lambd = lambd

    def apply(self, images: Images, keys: Keys) -> Images:
        """Apply the function to each image."""
        return _apply_each(self.lambd, images, keys)

    def __call__(self, image: Any) -> Any:
        """Apply the function."""
        return self.lambd(image)


class ToTensor(Transform):
    """Scale uint8 images to float32 in [0, 1]; turn an array into a Tensor.

    y = x / 255

    Shape: Tensor (channels, height, width), or array (height, width[, channels]), to Tensor
    (channels, height, width).  Images that aren't uint8 keep their values, as in PyTorch.

    >>> import numpy as np
    >>> ToTensor()(np.full((2, 3, 1), 255, np.uint8)).shape
    Size([1, 2, 3])
    """

    def apply(self, images: Images, keys: Keys) -> Images:
        """Scale a batch."""
        if images.dtype != np.uint8:
            return images
        return np.divide(images, np.float32(255), dtype=np.float32)

    def __call__(self, image: Any) -> Any:
        """Scale one image."""
        if isinstance(image, np.ndarray) and image.ndim in (2, 3):
            if image.ndim == 2:
                image = image[:, :, None]
            image = from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return super().__call__(image)


class Normalize(Transform):
    """Shift and scale each channel.

    y = (x − mean) / std

    Args:
        mean, std: one number per channel, or one for all, in units of the image.

    Raises:
        ValueError: a standard deviation is zero, or the numbers don't fit the channels.
        TypeError: the image is not a float one.

    >>> import toumei as tm
    >>> Normalize([0.5], [0.25])(tm.ones(1, 1, 1)).tolist()
    [[[2.0]]]
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = _per_channel(mean), _per_channel(std)
        if 0 in self.std:
            raise ValueError("Normalize: a standard deviation of 0 would divide by zero")

    def apply(self, images: Images, keys: Keys) -> Images:
        """Normalise a batch."""
        if images.dtype.kind != "f":
            raise TypeError(
                f"Normalize takes float images, not {images.dtype}; put ToTensor() before it"
            )
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, images.shape[1]):
                raise ValueError(
                    f"Normalize: {name} has {len(numbers)} numbers, the images have "
                    f"{images.shape[1]} channels"
                )
        mean, std = (np.array(v, images.dtype).reshape(-1, 1, 1) for v in (self.mean, self.std))
        result: Images = images - mean
        result /= std
        return result


def _per_channel(numbers: float | Sequence[float]) -> tuple[float, ...]:
    """Return one number, or one per channel, as a tuple."""
    if isinstance(numbers, (int, float)):
        return (float(numbers),)
    return tuple(float(v) for v in numbers)


class RandomHorizontalFlip(Transform):
    """Mirror left and right with probability `p`.

    >>> import toumei as tm
    >>> RandomHorizontalFlip(p=1.0)(tm.tensor([[[1, 2, 3]]])).tolist()
    [[[3, 2, 1]]]
    """

    random = True
    _axis = 3

    def __init__(self, p: float = 0.5) -> None:
        self.p = _probability(p, self)

    def apply(self, images: Images, keys: Keys) -> Images:
        """Flip some of a batch."""
        flipped = np.flatnonzero(uniform(keys, 1)[:, 0] < self.p)
        result = images.copy()
        result[flipped] = np.flip(images[flipped], self._axis)
        return result


class RandomVerticalFlip(RandomHorizontalFlip):
    """Mirror top and bottom with probability `p`.

    >>> import toumei as tm
    >>> RandomVerticalFlip(p=1.0)(tm.tensor([[[1], [2]]])).tolist()
    [[[2], [1]]]
    """

    _axis = 2


def _probability(p: float, owner: Transform) -> float:
    """Return a probability, or refuse what is none."""
    if not 0 <= p <= 1:
        raise ValueError(f"{type(owner).__name__}: p must lie between 0 and 1, it is {p}")
    return float(p)


def _pair(size: int | Sequence[int], name: str) -> tuple[int, int]:
    """Return (height, width): both the same if one number is given."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) == 1:
        pair = pair * 2
    if len(pair) != 2 or any(not isinstance(n, int) or n <= 0 for n in pair):
        raise ValueError(f"{name}: size must be one or two positive integers, not {size!r}")
    return pair[0], pair[1]


class Pad(Transform):
    """Add a border.

    Args:
        padding: pixels: one number, (left and right, top and bottom), or (left, top, right,
            bottom).
        fill: the value of a constant border, one number or one per channel.
        padding_mode: "constant", "edge", "reflect" or "symmetric".

    Raises:
        ValueError: the padding or the mode makes no sense.

    >>> import toumei as tm
    >>> Pad((1, 0))(tm.ones(1, 1, 1)).tolist()
    [[[0.0, 1.0, 0.0]]]
    """

    def __init__(
        self,
        padding: int | Sequence[int],
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        sides = (padding,) if isinstance(padding, int) else tuple(padding)
        if len(sides) not in (1, 2, 4) or any(not isinstance(n, int) or n < 0 for n in sides):
            raise ValueError(f"Pad: padding must be 1, 2 or 4 integers >= 0, not {padding!r}")
        if padding_mode not in _PAD_MODES:
            raise ValueError(f"Pad: padding_mode must be one of {_PAD_MODES}, not {padding_mode!r}")
        if fill != 0 and padding_mode != "constant":
            raise ValueError(f"Pad: fill means nothing with padding_mode {padding_mode!r}")
        self.padding = sides * (4 // len(sides))
        self.fill, self.padding_mode = _per_channel(fill), padding_mode

    def apply(self, images: Images, keys: Keys) -> Images:
        """Pad a batch."""
        left, top, right, bottom = self.padding
        if self.padding_mode != "constant":
            widths = ((0, 0), (0, 0), (top, bottom), (left, right))
            return np.pad(images, widths, mode=self.padding_mode)  # type: ignore[call-overload]
        n, channels, height, width = images.shape
        shape = (n, channels, top + height + bottom, left + width + right)
        result = np.empty(shape, images.dtype)
        result[:] = np.array(self.fill, images.dtype).reshape(-1, 1, 1)
        result[:, :, top : top + height, left : left + width] = images
        return result


class CenterCrop(Transform):
    """Cut out the middle; what is too small is first padded with zeros.

    Args:
        size: pixels: one number, or (height, width).

    >>> import toumei as tm
    >>> CenterCrop(1)(tm.arange(9).reshape(1, 3, 3)).tolist()
    [[[4]]]
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = _pair(size, "CenterCrop")

    def apply(self, images: Images, keys: Keys) -> Images:
        """Crop a batch."""
        (height, width), (h, w) = images.shape[2:], self.size
        if h > height or w > width:
            dy, dx = max(h - height, 0), max(w - width, 0)
            images = Pad((dx // 2, dy // 2, (dx + 1) // 2, (dy + 1) // 2)).apply(images, keys)
            height, width = images.shape[2:]
        top, left = round((height - h) / 2), round((width - w) / 2)
        return images[:, :, top : top + h, left : left + w]


class RandomCrop(Transform):
    """Cut out a window at a random place.

    Args:
        size: pixels: one number, or (height, width).
        padding, fill, padding_mode: a border added first, as for Pad; none unless given.

    Raises:
        ValueError: the window is larger than the padded image.

    >>> import toumei as tm
    >>> RandomCrop(32, padding=4)(tm.zeros(3, 32, 32)).shape
    Size([3, 32, 32])
    """

    random = True

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        *,
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        if padding is None and (fill != 0 or padding_mode != "constant"):
            raise ValueError("RandomCrop: fill and padding_mode mean nothing without padding")
        self.size = _pair(size, "RandomCrop")
        self.pad = None if padding is None else Pad(padding, fill, padding_mode)

    def apply(self, images: Images, keys: Keys) -> Images:
        """Crop each image of a batch at its own place."""
        if self.pad is not None:
            images = self.pad.apply(images, keys)
        (height, width), (h, w) = images.shape[2:], self.size
        if h > height or w > width:
            raise ValueError(
                f"RandomCrop: a window of {h} x {w} doesn't fit into an image of {height} x "
                f"{width}" + ("; give a padding" if self.pad is None else ", padding included")
            )
        room = np.array([height - h + 1, width - w + 1])
        tops, lefts = (uniform(keys, 2) * room).astype(np.intp).T
        windows = sliding_window_view(images, (h, w), axis=(2, 3))
        return windows[np.arange(len(images)), :, tops, lefts]


class RandomErasing(Transform):
    """With probability `p`, overwrite a random rectangle.

    Rectangles that don't fit into the image are drawn again, up to ten times.
    Paper: Zhong et al., "Random erasing data augmentation", AAAI 2020.

    Args:
        p: the probability.
        scale: the rectangle's area, smallest and largest, as a share of the image's.
        ratio: its height over its width, smallest and largest.
        value: what is written: a number, one per channel, or "random" for normal noise.

    Raises:
        ValueError: a range is reversed or makes no sense.
        TypeError: random noise for images that aren't float.

    >>> import toumei as tm
    >>> 0 in RandomErasing(p=1.0)(tm.ones(1, 8, 8)).numpy()
    True
    """

    random = True

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0,
    ) -> None:
        if not 0 <= scale[0] <= scale[1] <= 1:
            raise ValueError(f"RandomErasing: scale must rise within [0, 1], it is {scale}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"RandomErasing: ratio must be positive and rise, it is {ratio}")
        if isinstance(value, str) and value != "random":
            raise ValueError(f"RandomErasing: value must be numbers or 'random', not {value!r}")
        self.p, self.scale, self.ratio = _probability(p, self), tuple(scale), tuple(ratio)
        self.value = value if isinstance(value, str) else _per_channel(value)

    def apply(self, images: Images, keys: Keys) -> Images:
        """Erase a rectangle in some images of a batch."""
        _, channels, height, width = images.shape
        tops, lefts, heights, widths = self._rectangles(keys, height, width)
        rows, columns = np.arange(height), np.arange(width)
        in_rows = (rows >= tops[:, None]) & (rows < (tops + heights)[:, None])
        in_columns = (columns >= lefts[:, None]) & (columns < (lefts + widths)[:, None])
        inside = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
        if self.value == "random" and images.dtype.kind != "f":
            raise TypeError(
                f"RandomErasing: random noise needs float images, not {images.dtype}; put "
                "ToTensor() before it"
            )
        if self.value != "random":
            fill = np.array(self.value, images.dtype).reshape(-1, 1, 1)
            return np.where(inside, fill, images)
        hit = np.flatnonzero(heights)
        noise = normal(fold(keys[hit], 1), channels * height * width)
        result = images.copy()
        noise = noise.reshape(-1, channels, height, width).astype(images.dtype)
        result[hit] = np.where(inside[hit], noise, images[hit])
        return result

    def _rectangles(self, keys: Keys, height: int, width: int) -> list[NDArray[np.int64]]:
        """Return top, left, height and width per image; height 0 where nothing is erased."""
        tries, n = 10, len(keys)
        u = uniform(keys, 1 + 4 * tries)
        share, shape, down, right = u[:, 1:].reshape(n, 4, tries).transpose(1, 0, 2)
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        low, high = np.log(self.ratio[0]), np.log(self.ratio[1])
        ratio = np.exp(low + shape * (high - low))
        h, w = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (h < height) & (w < width)
        first = (np.arange(n), fits.argmax(axis=1))
        erased = (u[:, 0] < self.p) & fits.any(axis=1)
        h, w = (np.where(erased, side[first], 0) for side in (h, w))
        tops, lefts = down[first] * (height - h + 1), right[first] * (width - w + 1)
        return [a.astype(np.int64) for a in (tops, lefts, h, w)]
