"""Rotation and other affine transforms of images: each pixel looks up where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keys import Keys, uniform
from .transforms import Images, Transform

Floats = NDArray[np.float64]


def warp(
    images: Images, matrices: Floats, shifts: Floats, interpolation: str, fill: float
) -> Images:
    """Move pixels: output p shows the input at M⁻¹(p − t), measured from the image's centre.

    Shape: images (n, channels, height, width), matrices (n, 2, 2) and shifts (n, 2) in the order
    x, y (y downward, pixels) -> as images
    """
    height, width = images.shape[2:]
    y, x = np.mgrid[:height, :width].reshape(2, -1) - np.array([[height - 1], [width - 1]]) / 2
    inverse = np.linalg.inv(matrices)
    source = inverse @ (np.stack([x, y])[None] - shifts[:, :, None])
    sx, sy = source[:, 0] + (width - 1) / 2, source[:, 1] + (height - 1) / 2
    if interpolation == "nearest":
        return _pick(images, np.rint(sx), np.rint(sy), fill).reshape(images.shape)
    left, top = np.floor(sx), np.floor(sy)
    fx, fy = (sx - left)[:, None], (sy - top)[:, None]
    result: Images = (
        _pick(images, left, top, fill) * ((1 - fx) * (1 - fy))
        + _pick(images, left + 1, top, fill) * (fx * (1 - fy))
        + _pick(images, left, top + 1, fill) * ((1 - fx) * fy)
        + _pick(images, left + 1, top + 1, fill) * (fx * fy)
    ).reshape(images.shape)
    if images.dtype.kind != "f":
        result = np.rint(result)
    return result.astype(images.dtype, copy=False)


def _pick(images: Images, x: Floats, y: Floats, fill: float) -> Images:
    """Return the pixels at whole coordinates, `fill` outside.  Shape: (n, channels, points)"""
    n, channels, height, width = images.shape
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
    where = np.where(outside, 0, y * width + x).astype(np.intp)
    flat = images.reshape(n, channels, height * width)
    picked = np.take_along_axis(flat, where[:, None], axis=2)
    return np.where(outside[:, None], images.dtype.type(fill), picked)


def _turns(degrees: Floats) -> Floats:
    """Return the matrices that turn clockwise as seen (y points down).  Shape: (n) -> (n, 2, 2)"""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def _shears(degrees: Floats, axis: int) -> Floats:
    """Return the matrices that shear along x (axis 0) or y (axis 1).  Shape: (n) -> (n, 2, 2)"""
    matrices = np.tile(np.eye(2), (len(degrees), 1, 1))
    matrices[:, axis, 1 - axis] = -np.tan(np.deg2rad(degrees))
    return matrices


def _range(value: float | Sequence[float], what: str) -> tuple[float, float]:
    """Return (smallest, largest): one number d means (−d, d)."""
    if isinstance(value, (int, float)):
        if value < 0:
            raise ValueError(f"{what}: a single number must not be negative, it is {value}")
        return -float(value), float(value)
    if len(value) != 2 or value[0] > value[1]:
        raise ValueError(f"{what} must be one number or (smallest, largest), not {value!r}")
    return float(value[0]), float(value[1])


def _between(u: Floats, limits: tuple[float, float]) -> Floats:
    """Stretch uniform numbers from [0, 1) to a range."""
    return limits[0] + u * (limits[1] - limits[0])


def _check_interpolation(name: str, interpolation: str) -> str:
    """Return the interpolation, or refuse what is unknown."""
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(
            f"{name}: interpolation must be 'nearest' or 'bilinear', not {interpolation!r}"
        )
    return interpolation


class RandomRotation(Transform):
    """Turn about the centre, counter-clockwise, by an angle from a range.

    Args:
        degrees: the range (smallest, largest) in degrees; d means (−d, d).
        interpolation: "nearest" or "bilinear".
        fill: the value of pixels that come from outside.

    >>> import toumei as tm
    >>> RandomRotation((90, 90))(tm.tensor([[[1, 2], [3, 4]]])).tolist()
    [[[2, 4], [1, 3]]]
    """

    random = True

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: str = "nearest",
        *,
        fill: float = 0,
    ) -> None:
        self.degrees = _range(degrees, "RandomRotation: degrees")
        self.interpolation = _check_interpolation("RandomRotation", interpolation)
        self.fill = fill

    def apply(self, images: Images, keys: Keys) -> Images:
        """Turn each image of a batch by its own angle."""
        turns = _turns(-_between(uniform(keys, 1)[:, 0], self.degrees))
        still = np.zeros((len(keys), 2))
        return warp(images, turns, still, self.interpolation, self.fill)


class RandomAffine(Transform):
    """Shear, scale, turn (clockwise) and shift, each by an amount from a range.

    Args:
        degrees: the range of the angle in degrees; d means (−d, d).
        translate: the largest shift as a share of the (width, height), in whole pixels; none
            unless given.
        scale: the range of the factor; 1 unless given.
        shear: the range of the shear in degrees along x: s for (−s, s), or (smallest, largest);
            with four numbers the last two are the range along y; none unless given.
        interpolation: "nearest" or "bilinear".
        fill: the value of pixels that come from outside.

    Raises:
        ValueError: a range is reversed or makes no sense.

    >>> import toumei as tm
    >>> RandomAffine(0, scale=(1, 1))(tm.tensor([[[1, 2], [3, 4]]])).tolist()
    [[[1, 2], [3, 4]]]
    """

    random = True

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "nearest",
        *,
        fill: float = 0,
    ) -> None:
        if translate is not None and not all(0 <= t <= 1 for t in translate):
            raise ValueError(f"RandomAffine: translate must lie in [0, 1], it is {translate}")
        if scale is not None and not 0 < scale[0] <= scale[1]:
            raise ValueError(f"RandomAffine: scale must be positive and rise, it is {scale}")
        self.degrees = _range(degrees, "RandomAffine: degrees")
        self.translate = tuple(translate or (0.0, 0.0))
        self.scale = (1.0, 1.0) if scale is None else (float(scale[0]), float(scale[1]))
        self.shear_x, self.shear_y = _shear_ranges(shear)
        self.interpolation = _check_interpolation("RandomAffine", interpolation)
        self.fill = fill

    def apply(self, images: Images, keys: Keys) -> Images:
        """Transform each image of a batch by its own amounts."""
        u: Any = uniform(keys, 6).T
        scale = _between(u[1], self.scale)[:, None, None]
        turns = _turns(_between(u[0], self.degrees))
        shears = _shears(_between(u[3], self.shear_y), 1) @ _shears(_between(u[2], self.shear_x), 0)
        height, width = images.shape[2:]
        reach = np.array([self.translate[0] * width, self.translate[1] * height])
        shifts = np.rint((2 * u[4:6].T - 1) * reach)
        return warp(images, scale * (turns @ shears), shifts, self.interpolation, self.fill)


def _shear_ranges(
    shear: float | Sequence[float] | None,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of the shear along x and along y."""
    none = (0.0, 0.0)
    if shear is None:
        return none, none
    if not isinstance(shear, (int, float)) and len(shear) == 4:
        what = "RandomAffine: shear"
        return _range(shear[:2], what), _range(shear[2:], what)
    return _range(shear, "RandomAffine: shear"), none
