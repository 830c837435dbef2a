"""Fractional max pooling: windows at random places, to an output of any size.

With n elements, windows of k and m outputs, window i < m − 1 starts at ⌊(i + u)·α⌋ − ⌊u·α⌋ with
α = (n − k)/(m − 1) and a random u for each image, channel and dimension; the last at n − k.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from ..errors import OpError
from ..tape import spec_of
from .combine import cat
from .creation import arange, full
from .random import rand
from .scattering import gather
from .windows import Sizes, ints

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["fractional_max_pool2d", "fractional_max_pool3d"]


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The largest of windows at random places.  Shape: (n, c, h, w) or (c, h, w) -> (…, *output)

    Args:
        kernel_size: the window in pixels; a number, or one per dimension.
        output_size: in pixels; a number, or one per dimension.
        output_ratio: the output's share of the input's size, between 0 and 1, if no size is given.
        return_indices: whether to return, too, the index of each largest pixel in h × w.
        _random_samples: the random numbers u, (n, c, 2) or more, from 0 to 1; drawn if None.

    Raises:
        OpError: neither a size nor a ratio is given, or the windows don't fit.

    Paper: Graham 2014, arXiv:1412.6071.

    >>> import toumei as tm
    >>> from toumei.nn import functional as F
    >>> F.fractional_max_pool2d(tm.rand(1, 7, 7), 2, output_size=3).shape
    Size([1, 3, 3])
    """
    options = kernel_size, output_size, output_ratio, _random_samples
    y, indices = _fractional_max_pool(2, input, *options)
    return (y, indices) if return_indices else y


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """`fractional_max_pool2d` over three dimensions.  Shape: (n, c, d, h, w) -> (n, c, *output)"""
    options = kernel_size, output_size, output_ratio, _random_samples
    y, indices = _fractional_max_pool(3, input, *options)
    return (y, indices) if return_indices else y


def _fractional_max_pool(
    rank: int, x: Tensor, kernel_size: Any, output_size: Any, ratio: Any, u: Tensor | None
) -> tuple[Tensor, Tensor]:
    name = f"fractional_max_pool{rank}d"
    if x.ndim not in (rank + 1, rank + 2):
        raise OpError(f"{name}({spec_of(x)}): expected {rank + 1} or {rank + 2} dimensions")
    if x.ndim == rank + 1:
        y, at = _fractional_max_pool(rank, x.unsqueeze(0), kernel_size, output_size, ratio, u)
        return y.squeeze(0), at.squeeze(0)
    kernel = ints(name, "kernel_size", kernel_size, rank, 1)
    sizes = tuple(x.shape[2:])
    output = _output(name, sizes, output_size, ratio)
    for n, k, m in zip(sizes, kernel, output, strict=True):
        if m + k - 1 > n:
            raise OpError(f"{name}({spec_of(x)}): {m} windows of size {k} need more than {n} cells")
    lead = *x.shape[:2], rank
    u = rand(*lead, dtype=x.dtype) if u is None else u
    if tuple(u.shape[1:]) != lead[1:] or u.shape[0] < lead[0]:
        raise OpError(f"{name}({spec_of(x)}): _random_samples is {spec_of(u)}, not {lead}")
    cells = _cells(u[: lead[0]].to(x.dtype), sizes, kernel, output)
    windows = gather(x.flatten(2), 2, cells.flatten(2)).reshape(cells.shape)
    y, which = windows.max(-1)
    return y, gather(cells, -1, which.unsqueeze(-1)).squeeze(-1)


def _output(name: str, sizes: Sizes, output_size: Any, ratio: Any) -> Sizes:
    """Return the size of the output: as given, or a share of the input's."""
    if output_size is not None:
        return ints(name, "output_size", output_size, len(sizes), 1)
    if ratio is None:
        raise OpError(f"{name} needs an output_size or an output_ratio")
    ratios = tuple(ratio) if isinstance(ratio, Sequence) else (ratio,) * len(sizes)
    shares = [int(n * r) for n, r in zip(sizes, ratios, strict=True)]
    return ints(name, "the output's size, by output_ratio,", shares, len(sizes), 1)


def _cells(u: Tensor, sizes: Sizes, kernel: Sizes, output: Sizes) -> Tensor:
    """Return the flat indices of each window's cells.  Shape: (n, c, *output, ∏ kernel)"""
    rank = len(sizes)
    flat = None
    for d, (n, k, m) in enumerate(zip(sizes, kernel, output, strict=True)):
        own = 1 - d if rank == 2 else d  # as PyTorch: width first, but depth first
        starts = _starts(u[:, :, own : own + 1], n, k, m)
        windows = [m if i == d else 1 for i in range(rank)]
        offsets = [k if i == d else 1 for i in range(rank)]
        place = starts.reshape(*u.shape[:2], *windows, *[1] * rank) + arange(k).reshape(offsets)
        flat = place if flat is None else flat * n + place
    assert flat is not None
    return flat.reshape(*u.shape[:2], *output, prod(kernel))


def _starts(u: Tensor, n: int, k: int, m: int) -> Tensor:
    """Return where the windows along one dimension start.  Shape: (n, c, 1) -> (n, c, m)"""
    last = full((*u.shape[:2], 1), n - k, dtype="int64")
    if m == 1:
        return last
    step = (n - k) / (m - 1)
    first = ((arange(m - 1, dtype=u.dtype) + u) * step).floor() - (u * step).floor()
    return cat([first.long(), last], 2)
