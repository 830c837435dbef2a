"""Sampling at positions that another tensor names: spatial transformers.

Everything is a composition of ops, so it can be differentiated by the samples and by the positions,
any number of times.

Paper: Jaderberg et al., "Spatial transformer networks", NeurIPS 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..tape import operand, spec_of
from .axismap import cubic_weights
from .choice import where
from .linalg import matmul
from .rounding import clamp, floor, fmod, nan_to_num, round
from .scattering import gather

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["affine_grid", "grid_sample"]

MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")

Inside = Callable[["Tensor", int], "Tensor"]  # brings a position along a dimension of size n inside


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Samples of an image at the positions in `grid`, between −1 (first) and 1 (last).

    Shape: (n, c, h, w), (n, h′, w′, 2) -> (n, c, h′, w′);
    (n, c, d, h, w), (n, d′, h′, w′, 3) -> (n, c, d′, h′, w′)

    Args:
        input: images.
        grid: positions (x, y) or (x, y, z): x goes along the last dimension.
        mode: "bilinear", "nearest" or, for images of two dimensions, "bicubic".
        padding_mode: what lies outside: "zeros", the "border", or the "reflection" in it.
        align_corners: whether ±1 are the centres of the corner elements rather than their edges.

    Raises:
        OpError: the shapes don't fit, or a mode is unknown.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> image = tm.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> F.grid_sample(image, tm.zeros(1, 1, 1, 2), align_corners=False).item()
    2.5
    """
    _check(input, grid, mode, padding_mode)
    align = bool(align_corners)
    sizes = tuple(input.shape[2:])[::-1]  # in the order of the positions: x first
    at = [_unnormalised(grid[..., i], n, align) for i, n in enumerate(sizes)]

    def inside(x: Tensor, n: int) -> Tensor:
        return _inside(x, n, padding_mode, align)

    if mode == "bicubic":
        return _cubic(input, at, sizes, inside)
    at = [inside(x, n) for x, n in zip(at, sizes, strict=True)]
    if mode == "nearest":
        return _taken(input, [round(x.detach()) for x in at], sizes)
    return _linear(input, at, sizes)


def _check(input: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    call = f"grid_sample(input: {spec_of(input)}, grid: {spec_of(grid)})"
    rank = input.ndim - 2
    if rank not in (2, 3) or grid.ndim != rank + 2 or grid.shape[-1] != rank:
        raise OpError(f"{call}: needs (n, c, h, w), (n, h′, w′, 2), or one more in both")
    if input.shape[0] != grid.shape[0]:
        raise OpError(f"{call}: {input.shape[0]} images, but {grid.shape[0]} grids")
    if 0 in input.shape[2:]:
        raise OpError(f"{call}: an image without elements has no samples")
    if mode not in MODES or padding_mode not in PADDING_MODES:
        raise OpError(
            f"{call}: mode must be one of {MODES}, padding_mode one of {PADDING_MODES}, "
            f"not {mode!r} and {padding_mode!r}"
        )
    if mode == "bicubic" and rank != 2:
        raise OpError(f"{call}: mode 'bicubic' needs images of two dimensions")


def _unnormalised(x: Tensor, n: int, align: bool) -> Tensor:
    """Return positions counted in elements."""
    return (x + 1) * ((n - 1) / 2) if align else ((x + 1) * n - 1) / 2


def _inside(x: Tensor, n: int, padding_mode: str, align: bool) -> Tensor:
    if padding_mode == "zeros":
        return x
    if padding_mode == "reflection":
        x = _reflected(x, 0.0, n - 1.0) if align else _reflected(x, -0.5, n - 0.5)
    return clamp(x, 0, n - 1)


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    """Fold positions back into [low, high] as mirrors at both ends would."""
    span = high - low
    if span == 0:
        return x * 0
    distance = (x - low).abs()
    rest = fmod(distance, span)
    even = fmod(floor(distance.detach() / span), 2) == 0
    return where(even, rest + low, high - rest)


def _taken(input: Tensor, places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Return the elements at whole-numbered places (x first), zero outside."""
    valid: Tensor | None = None
    index: Any = 0
    for x, n in reversed(list(zip(places, sizes, strict=True))):
        ok = (x >= 0) & (x <= n - 1)
        valid = ok if valid is None else valid & ok
        index = index * n + clamp(nan_to_num(x, nan=-1.0), 0, n - 1).to(np.dtype("int64"))
    assert valid is not None
    batch, channels = input.shape[:2]
    flat = index.reshape(batch, 1, -1).expand(batch, channels, index[0].numel())
    values = gather(input.reshape(batch, channels, prod(sizes)), -1, flat)
    values = values.reshape(batch, channels, *index.shape[1:])
    return values.masked_fill(~valid.unsqueeze(1), 0)


def _linear(input: Tensor, at: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    low = [floor(x.detach()) for x in at]
    weights = [(1 - (x - f), x - f) for x, f in zip(at, low, strict=True)]
    total: Any = 0
    for corner in product((0, 1), repeat=len(at)):
        weight: Any = 1
        for w, c in zip(weights, corner, strict=True):
            weight = w[c] * weight
        places = [f + c for f, c in zip(low, corner, strict=True)]
        total = _taken(input, places, sizes) * weight.unsqueeze(1) + total
    return total


def _cubic(input: Tensor, at: Sequence[Tensor], sizes: Sequence[int], inside: Inside) -> Tensor:
    low = [floor(x.detach()) for x in at]
    weights = [cubic_weights(x - f) for x, f in zip(at, low, strict=True)]
    total: Any = 0
    for i, j in product(range(4), repeat=2):
        places = [round(inside(f + (k - 1), n)) for f, k, n in zip(low, (i, j), sizes, strict=True)]
        weight = weights[0][i] * weights[1][j]
        total = _taken(input, places, sizes) * weight.unsqueeze(1) + total
    return total


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The positions that affine maps send a regular grid to: what `grid_sample` wants.

    Shape: (n, 2, 3) and size (n, c, h, w) -> (n, h, w, 2);
    (n, 3, 4) and size (n, c, d, h, w) -> (n, d, h, w, 3)

    Raises:
        OpError: the shape of `theta` doesn't fit `size`.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> theta = tm.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> F.affine_grid(theta, (1, 1, 1, 2), align_corners=True).tolist()
    [[[[-1.0, 0.0], [1.0, 0.0]]]]
    """
    sizes = [int(n) for n in size]
    rank = len(sizes) - 2
    if rank not in (2, 3) or tuple(theta.shape) != (sizes[0], rank, rank + 1) or min(sizes) < 1:
        raise OpError(f"affine_grid({spec_of(theta)}): doesn't fit the size {tuple(sizes)}")
    steps = [_regular(n, bool(align_corners)) for n in sizes[2:]]
    axes = np.meshgrid(*steps, indexing="ij")[::-1]
    base = np.stack([*axes, np.ones(sizes[2:])], axis=-1).astype(theta.dtype)
    moved = matmul(operand(base.reshape(1, -1, rank + 1)), theta.transpose(1, 2))
    return moved.reshape(sizes[0], *sizes[2:], rank)


def _regular(n: int, align: bool) -> np.ndarray[Any, Any]:
    """Return n positions from −1 to 1: of the elements' centres."""
    if align:
        return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return (np.arange(n) * 2 + 1) / n - 1
