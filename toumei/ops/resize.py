"""Resizing by interpolation: separable, one dimension after the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..errors import OpError
from ..tape import spec_of
from .averages import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .axismap import mapped_along

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "interpolate",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]

# mode -> (rule along one dimension, how many spatial dimensions: None for any of 1, 2, 3)
_MODES: dict[str, tuple[str, int | None]] = {
    "nearest": ("nearest", None),
    "nearest-exact": ("nearest-exact", None),
    "linear": ("linear", 1),
    "bilinear": ("linear", 2),
    "bicubic": ("cubic", 2),
    "trilinear": ("linear", 3),
    "area": ("area", None),
}
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Samples resized to `size`, or by `scale_factor`.

    Shape: (n, c, sizes…) -> (n, c, new sizes…), with one to three spatial dimensions

    Args:
        input: samples.
        size: the new spatial size; a number, or one per dimension.
        scale_factor: by how much to multiply the size (rounded down); one of the two is needed.
        mode: "nearest", "nearest-exact", "linear" (1 dimension), "bilinear", "bicubic" (2),
            "trilinear" (3) or "area" (means of windows).
        align_corners: whether the first and last samples, rather than the borders, stay in place;
            for the linear modes and "bicubic".
        recompute_scale_factor: whether positions follow from the rounded size rather than from
            scale_factor.
        antialias: not supported; must be False.

    Raises:
        OpError: mode, size and scale_factor don't go together, or a size would be 0.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.interpolate(tm.tensor([[[1.0, 2.0]]]), scale_factor=2, mode="linear")
    tensor([[[1.  , 1.25, 1.75, 2.  ]]])
    """
    call = f"interpolate({spec_of(input)}, mode={mode!r})"
    _check_mode(call, input, mode, align_corners)
    if antialias:
        raise OpError(f"{call}: antialias=True isn't supported")
    sizes = tuple(input.shape[2:])
    new, scales = _new_sizes(call, sizes, size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return _AREA[len(sizes)](input, new)
    rule = _MODES[mode][0]
    y = input
    for d, (n, m, scale) in enumerate(zip(sizes, new, scales, strict=True), start=2):
        if n != m or (scale is not None and rule != "linear"):  # linear: an equal size is a copy
            extra = (bool(align_corners),) if rule in ("linear", "cubic") else ()
            y = mapped_along(y, d, (rule, n, m, scale, *extra))
    return y if y is not input else input.clone()


def _check_mode(call: str, input: Tensor, mode: str, align_corners: bool | None) -> None:
    if mode not in _MODES:
        raise OpError(f"{call}: mode must be one of {', '.join(_MODES)}")
    rule, rank = _MODES[mode]
    if not 3 <= input.ndim <= 5 or rank not in (None, input.ndim - 2):
        wanted = "3 to 5" if rank is None else str(rank + 2)
        raise OpError(f"{call}: needs an input of {wanted} dimensions, it has {input.ndim}")
    if align_corners is not None and rule not in ("linear", "cubic"):
        raise OpError(f"{call}: align_corners has a meaning only for the linear modes and bicubic")
    if 0 in input.shape[1:]:
        raise OpError(f"{call}: an input without elements can't be resized")


def _new_sizes(
    call: str, sizes: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Return the new sizes and, where they matter, the scales."""
    if (size is None) == (scale_factor is None):
        raise OpError(f"{call}: give either size or scale_factor")
    if size is not None and recompute:
        raise OpError(f"{call}: recompute_scale_factor needs a scale_factor, not a size")
    given = size if scale_factor is None else scale_factor
    values = list(given) if isinstance(given, tuple | list) else [given] * len(sizes)
    if len(values) != len(sizes):
        raise OpError(f"{call}: {len(sizes)} spatial dimensions, but the numbers {given!r}")
    scales: tuple[float | None, ...] = (None,) * len(sizes)
    if scale_factor is None:
        new = tuple(int(v) for v in values)
    else:
        new = tuple(math.floor(n * float(v)) for n, v in zip(sizes, values, strict=True))
        scales = scales if recompute else tuple(map(float, values))
    if min(new) < 1:
        raise OpError(f"{call}: the sizes {sizes} would become {new}")
    return new, scales


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`interpolate` under its old name.  Shape: (n, c, sizes…) -> (n, c, new sizes…)"""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode="nearest".  Shape: (n, c, sizes…) -> (n, c, new sizes…)"""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with "bilinear" and align_corners.  Shape: (n, c, h, w) -> (n, c, h′, w′)"""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)
