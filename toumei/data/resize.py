"""Other sizes of images: each output pixel is a weighted mean of input pixels.

The weights of rows and columns are independent, so a resized image is A·image·Bᵀ with one matrix
for the rows and one for the columns; a crop has zeros for the pixels outside of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .affine import _check_interpolation
from .keys import Keys, uniform
from .transforms import Images, Transform, _pair

Floats = NDArray[np.float64]


def weights_of(
    starts: Any, lengths: Any, size: int, full: int, interpolation: str, antialias: bool
) -> Floats:
    """Return the matrices that stretch `full` pixels, those of each window, to `size`.

    Output pixel i shows the place start + (i + ½)·length/size.  "bilinear" weighs the pixels
    around it by a triangle that is two pixels wide or, when shrinking with `antialias`, as wide
    as two output pixels; "nearest" takes pixel ⌊start + i·length/size⌋.

    Shape: starts (n), lengths (n) -> (n, size, full)
    """
    start, length = (np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (starts, lengths))
    scale, number, pixel = length / size, np.arange(size)[:, None], np.arange(full)
    if interpolation == "nearest":
        return (pixel == np.floor(start + number * scale)).astype(np.float64)
    reach = np.maximum(scale, 1) if antialias else 1.0
    distance = np.abs(pixel + 0.5 - (start + (number + 0.5) * scale))
    inside = (pixel >= start) & (pixel < start + length)
    weights = np.where(inside, np.maximum(1 - distance / reach, 0), 0)
    result: Floats = weights / weights.sum(-1, keepdims=True)
    return result


def stretch(images: Images, rows: Floats, columns: Floats) -> Images:
    """Apply matrices to the rows and the columns of images.

    Shape: (n, channels, h, w), (n or 1, h′, h), (n or 1, w′, w) -> (n, channels, h′, w′)
    """
    whole = images.dtype.kind != "f"
    dtype = np.dtype(np.float32) if whole else images.dtype
    down, right = rows.astype(dtype)[:, None], columns.astype(dtype).swapaxes(1, 2)[:, None]
    result: Images = down @ (images.astype(dtype, copy=False) @ right)
    return np.rint(result).astype(images.dtype) if whole else result


class Resize(Transform):
    """Stretch images to another size.

    Args:
        size: pixels: (height, width), or one number for the shorter side; the longer one then
            keeps the proportions (rounded down).
        interpolation: "bilinear" or "nearest".
        antialias: average over all pixels that an output pixel covers when shrinking with
            "bilinear"; without it, fine patterns may alias.

    Raises:
        ValueError: the size or the interpolation makes no sense.

    >>> import toumei as tm
    >>> Resize(2)(tm.zeros(3, 4, 6)).shape, Resize((2, 2))(tm.zeros(3, 4, 6)).shape
    (Size([3, 2, 3]), Size([3, 2, 2]))
    """

    def __init__(
        self,
        size: int | Sequence[int],
        interpolation: str = "bilinear",
        *,
        antialias: bool = True,
    ) -> None:
        pair = _pair(size, "Resize")
        single = isinstance(size, int) or len(size) == 1
        self.size: int | tuple[int, int] = pair[0] if single else pair
        self.interpolation = _check_interpolation("Resize", interpolation)
        self.antialias = antialias

    def apply(self, images: Images, keys: Keys) -> Images:
        """Stretch a batch."""
        height, width = images.shape[2:]
        new_height, new_width = self._size_for(height, width)
        if (new_height, new_width) == (height, width):
            return images
        how = (self.interpolation, self.antialias)
        rows = weights_of(0, height, new_height, height, *how)
        return stretch(images, rows, weights_of(0, width, new_width, width, *how))

    def _size_for(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that images of a given size get."""
        if isinstance(self.size, tuple):
            return self.size
        if height <= width:
            return self.size, self.size * width // height
        return self.size * height // width, self.size


class RandomResizedCrop(Transform):
    """Cut out a window of random area, shape and place, and stretch it to one size.

    Windows that don't fit into the image are drawn again, up to ten times; after that it is the
    middle, as large as the shape's limits allow.
    Paper: Szegedy et al., "Going deeper with convolutions", CVPR 2015.

    Args:
        size: pixels of the result: one number, or (height, width).
        scale: the window's area, smallest and largest, as a share of the image's.
        ratio: its width over its height, smallest and largest.
        interpolation, antialias: see Resize.

    Raises:
        ValueError: a range is reversed or makes no sense.

    >>> import toumei as tm
    >>> RandomResizedCrop(32, scale=(0.5, 1))(tm.zeros(3, 40, 60)).shape
    Size([3, 32, 32])
    """

    random = True

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        *,
        antialias: bool = True,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"RandomResizedCrop: scale must be positive and rise, it is {scale}")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"RandomResizedCrop: ratio must be positive and rise, it is {ratio}")
        self.size = _pair(size, "RandomResizedCrop")
        self.scale, self.ratio = tuple(scale), tuple(ratio)
        self.interpolation = _check_interpolation("RandomResizedCrop", interpolation)
        self.antialias = antialias

    def apply(self, images: Images, keys: Keys) -> Images:
        """Cut and stretch each image of a batch by a window of its own."""
        height, width = images.shape[2:]
        tops, lefts, heights, widths = self.windows(keys, height, width)
        how = (self.interpolation, self.antialias)
        rows = weights_of(tops, heights, self.size[0], height, *how)
        return stretch(images, rows, weights_of(lefts, widths, self.size[1], width, *how))

    def windows(self, keys: Keys, height: int, width: int) -> list[NDArray[np.int64]]:
        """Return top, left, height and width of the window of each image.  Shape: (n) each"""
        tries, n = 10, len(keys)
        share, shape, down, right = uniform(keys, 4 * tries).reshape(n, 4, tries).transpose(1, 0, 2)
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        low, high = np.log(self.ratio)
        ratio = np.exp(low + shape * (high - low))
        w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
        first = (np.arange(n), fits.argmax(axis=1))
        found = fits.any(axis=1)
        middle_h, middle_w = self._middle(height, width)
        h, w = np.where(found, h[first], middle_h), np.where(found, w[first], middle_w)
        tops = np.where(found, np.floor(down[first] * (height - h + 1)), (height - h) // 2)
        lefts = np.where(found, np.floor(right[first] * (width - w + 1)), (width - w) // 2)
        return [a.astype(np.int64) for a in (tops, lefts, h, w)]

    def _middle(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the largest window with an allowed shape."""
        narrow, wide = self.ratio
        if width < narrow * height:
            return max(round(width / narrow), 1), width
        return height, max(min(round(height * wide), width), 1)
