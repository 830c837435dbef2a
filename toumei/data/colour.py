"""Changes of colour: brightness, contrast, saturation and hue of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keys import Keys, uniform
from .transforms import Images, Transform

Floats = NDArray[np.floating[Any]]
Change = Callable[[Images, Floats], Images]  # of images by one factor each, shape (n, 1, 1, 1)

LUMA = (0.2989, 0.587, 0.114)  # how bright red, green and blue look: ITU-R BT.601


def grey_of(images: Images) -> Images:
    """Return how bright each pixel looks.  Shape: (n, channels, h, w) -> (n, 1, h, w)"""
    if images.shape[1] == 1:
        return images
    weights = np.array(LUMA, images.dtype).reshape(3, 1, 1)
    grey: Images = (images * weights).sum(1, keepdims=True)
    return grey


def brighten(images: Images, factors: Floats) -> Images:
    """y = f·x"""
    return images * factors


def contrast(images: Images, factors: Floats) -> Images:
    """y = f·x + (1 − f)·(mean grey of the image)"""
    mean = grey_of(images).mean((1, 2, 3), keepdims=True)
    return factors * images + (1 - factors) * mean


def saturate(images: Images, factors: Floats) -> Images:
    """y = f·x + (1 − f)·(grey of the pixel)"""
    return factors * images + (1 - factors) * grey_of(images)


def turn_hue(images: Images, turns: Floats) -> Images:
    """Turn the colour wheel by a share of a full turn; grey images stay as they are.

    In the HSV model a channel is v − c·min(max(min(k, 4 − k), 0), 1) with k = (n + 6·hue) mod 6,
    v the largest channel, c the largest less the smallest, and n = 5, 3, 1 for red, green, blue.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.transpose(1, 0, 2, 3)
    value = images.max(1)
    chroma = value - images.min(1)
    span = np.where(chroma == 0, 1, chroma)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / span, 2 + (blue - red) / span],
        4 + (red - green) / span,
    )
    wheel = np.array([5, 3, 1], images.dtype).reshape(3, 1, 1)
    k = (wheel + (hue[:, None] + 6 * turns)) % 6
    return value[:, None] - chroma[:, None] * np.minimum(k, 4 - k).clip(0, 1)


CHANGES: dict[str, Change] = {
    "brightness": brighten, "contrast": contrast, "saturation": saturate, "hue": turn_hue,
}  # fmt: skip


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in random order, each by a random amount.

    Brightness: y = f·x.  Contrast and saturation: y = f·x + (1 − f)·g, where g is the mean grey
    of the image or the grey of the pixel.  Hue: the colour wheel is turned by f of a full turn.
    Results stay within 0 … 255 for uint8 images (rounded) and 0 … 1 for float ones.  To images
    with one channel, saturation and hue do nothing.

    Args:
        brightness, contrast, saturation: the range (smallest, largest) of the factor f; a number
            d means (max(0, 1 − d), 1 + d), and 0 no change.
        hue: the range of the turn, within [−0.5, 0.5]; d means (−d, d).

    Raises:
        ValueError: a range is reversed or makes no sense; an image has not 1 or 3 channels.

    >>> import toumei as tm
    >>> ColorJitter(brightness=(0.5, 0.5))(tm.ones(3, 1, 1)).flatten().tolist()
    [0.5, 0.5, 0.5]
    """

    random = True

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
    ) -> None:
        self.brightness = _factors(brightness, "brightness")
        self.contrast = _factors(contrast, "contrast")
        self.saturation = _factors(saturation, "saturation")
        self.hue = _turns(hue)

    def apply(self, images: Images, keys: Keys) -> Images:
        """Change each image of a batch by its own amounts, in its own order."""
        if images.shape[1] not in (1, 3):
            raise ValueError(f"ColorJitter takes 1 or 3 channels, not {images.shape[1]}")
        whole = images.dtype.kind != "f"
        result = images.astype(np.float32 if whole else images.dtype)  # a copy
        names = [name for name in CHANGES if getattr(self, name) is not None]
        u = uniform(keys, 2 * len(CHANGES)).reshape(len(keys), 2, len(CHANGES))
        order = u[:, 0, : len(names)].argsort(axis=1)  # of the changes, by image
        for place in range(len(names)):
            for number, name in enumerate(names):
                now = np.flatnonzero(order[:, place] == number)
                low, high = getattr(self, name)
                factors = (low + u[now, 1, number] * (high - low)).astype(result.dtype)
                changed = CHANGES[name](result[now], factors.reshape(-1, 1, 1, 1))
                result[now] = changed.clip(0, 255 if whole else 1)
        return np.rint(result).astype(images.dtype) if whole else result


def _factors(value: float | Sequence[float], name: str) -> tuple[float, float] | None:
    """Return the range of a factor; None where nothing changes."""
    if isinstance(value, int | float):
        if value < 0:
            raise ValueError(f"ColorJitter: {name} must not be negative, it is {value}")
        value = (max(0.0, 1.0 - value), 1.0 + value)
    if len(value) != 2 or not 0 <= value[0] <= value[1]:
        raise ValueError(f"ColorJitter: {name} must rise from 0 or more, it is {value}")
    return None if tuple(value) == (1, 1) else (float(value[0]), float(value[1]))


def _turns(hue: float | Sequence[float]) -> tuple[float, float] | None:
    """Return the range of the hue's turn; None where nothing changes."""
    limits = (-hue, hue) if isinstance(hue, int | float) else tuple(hue)
    if len(limits) != 2 or not -0.5 <= limits[0] <= limits[1] <= 0.5:
        raise ValueError(f"ColorJitter: hue must rise within -0.5 to 0.5, it is {hue}")
    return None if limits == (0, 0) else (float(limits[0]), float(limits[1]))
