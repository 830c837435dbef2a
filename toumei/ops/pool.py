"""Pooling: the largest element of windows that slide over the last dimensions, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import OpError
from ..tape import apply, spec_of, wrap
from ..traced import known
from .pooling import MaxPool, MaxTaps, TapIndices
from .scattering import scatter
from .windows import ints

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

MaxPooled: TypeAlias = "Tensor | tuple[Tensor, Tensor]"


def pooling_fields(
    name: str, rank: int, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the fields of a pooling op, padded behind such that the windows fit exactly."""
    if x.ndim not in (rank + 1, rank + 2):
        raise OpError(f"{name}({spec_of(x)}): expected {rank + 1} or {rank + 2} dimensions")
    sizes = tuple(x.shape[x.ndim - rank :])
    k = ints(name, "kernel_size", kernel, rank, 1)
    empty = stride is None or (isinstance(stride, Sequence) and not stride)
    s = k if empty else ints(name, "stride", stride, rank, 1)
    p, d = ints(name, "padding", padding, rank, 0), ints(name, "dilation", dilation, rank, 1)
    for pad, size, step in zip(p, k, d, strict=True):
        if 2 * pad > step * (size - 1) + 1:
            raise OpError(f"{name}: padding {pad} is more than half of the kernel, which is {size}")
    pads = tuple(
        (lo, _pad_behind(name, d, n, size, step, lo, gap, ceil_mode))
        for d, (n, size, step, lo, gap) in enumerate(zip(sizes, k, s, p, d, strict=True))
    )
    return sizes, k, s, pads, d


def _pad_behind(
    name: str, dim: int, n: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool
) -> int:
    """Return the padding with which the last window ends at the end; below 0 it cuts off."""
    span = dilation * (kernel - 1) + 1
    room = n + 2 * pad - span
    if room < 0 and not (ceil_mode and room > -stride):
        raise OpError(
            f"{name}: the kernel of size {kernel}, {span} wide, is larger than the input along "
            f"spatial dim {dim}: {n} elements, {n + 2 * pad} with padding"
        )
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= n + pad:  # it would start in the padding behind
        count -= 1
    return (count - 1) * stride + span - n - pad


def _max_pool(
    rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> MaxPooled:  # fmt: skip
    name = f"max_pool{rank}d"
    fields = pooling_fields(name, rank, input, kernel_size, stride, padding, dilation, ceil_mode)
    y: Tensor = apply(MaxPool(*fields), input)
    if not return_indices:
        return y
    found = apply(MaxTaps(*fields), input.detach(), y.detach())
    return y, apply(TapIndices(*fields), found)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest of each window over one dimension; see `max_pool2d`.

    Shape: (n, c, l) -> (n, c, l′);  (c, l) -> (c, l′)
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest of each window over two dimensions; NaN wins.

    Shape: (n, c, h, w) -> (n, c, h′, w′), with h′ = ⌊(h + 2·padding − span) / stride⌋ + 1 and
    span = dilation·(kernel_size − 1) + 1 (⌈ ⌉ if ceil_mode);  the batch n may be missing

    Args:
        input: samples.
        kernel_size: the window's size; a number, or one per dimension.
        stride: elements between neighbouring windows (default: kernel_size).
        padding: elements of −∞ on each side, at most half of the window.
        dilation: elements between neighbouring places of a window.
        ceil_mode: whether the last window may reach beyond the end.
        return_indices: whether to return, too, the index of each largest element in h × w.

    Raises:
        OpError: the window is larger than the padded input, or the padding larger than half of it.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.max_pool2d(tm.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest of each window over three dimensions; see `max_pool2d`.

    Shape: (n, c, d, h, w) -> (n, c, d′, h′, w′);  (c, d, h, w) -> (c, d′, h′, w′)
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_unpool(
    rank: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any,
    output_size: Any,
) -> Tensor:  # fmt: skip
    name = f"max_unpool{rank}d"
    if input.shape != indices.shape or input.ndim not in (rank + 1, rank + 2):
        raise OpError(
            f"{name}(input: {spec_of(input)}, indices: {spec_of(indices)}): both need "
            f"the same shape, of {rank + 1} or {rank + 2} dimensions"
        )
    k = ints(name, "kernel_size", kernel_size, rank, 1)
    s = k if stride is None else ints(name, "stride", stride, rank, 1)
    p = ints(name, "padding", padding, rank, 0)
    lead = input.ndim - rank
    parts = zip(input.shape[lead:], k, s, p, strict=True)
    usual = [(n - 1) * step + size - 2 * cut for n, size, step, cut in parts]
    sizes = usual if output_size is None else [int(n) for n in output_size][-rank:]
    for n, m, step in zip(sizes, usual, s, strict=True):
        if not m - step < n < m + step:
            raise OpError(f"{name}: output_size {sizes} is a stride or more away from {usual}")
    size = prod(sizes)
    worst = _outside(indices, size)
    if worst is not None:
        raise OpError(f"{name}: index {worst} lies outside of the {size} elements of {sizes}")
    zeros = np.zeros((*input.shape[:lead], size), input.dtype)
    flat = (*input.shape[:lead], prod(input.shape[lead:]))
    y = scatter(wrap(zeros), -1, indices.reshape(flat), input.reshape(flat))
    return y.reshape(*input.shape[:lead], *sizes)


def _outside(indices: Tensor, size: int) -> int | None:
    """Return an index that isn't in 0 … size − 1, or None."""
    if not known(indices) or not indices._data.size:
        return None
    data = indices._data
    low, high = int(data.min()), int(data.max())
    return low if low < 0 else high if high >= size else None


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros, with the elements that `max_pool1d` found put back in their places.

    Shape: (n, c, l), (n, c, l) -> (n, c, l′);  l′ = (l − 1)·stride + kernel_size − 2·padding
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros, with the elements that `max_pool2d` found put back in their places.

    Shape: (n, c, h, w), (n, c, h, w) -> (n, c, h′, w′);  the batch n may be missing

    Args:
        input: what max_pool2d returned.
        indices: the indices that it returned with return_indices=True.
        kernel_size: as in max_pool2d.
        stride: as in max_pool2d.
        padding: as in max_pool2d.
        output_size: which of the sizes that max_pool2d reduces to the input's is meant.

    Raises:
        OpError: the shapes differ, or an index lies outside of the output.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros, with the elements that `max_pool3d` found put back; see `max_unpool2d`.

    Shape: (n, c, d, h, w), (n, c, d, h, w) -> (n, c, d′, h′, w′)
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
