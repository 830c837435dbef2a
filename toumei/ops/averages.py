"""Pooling by means and norms, and to a given output size (adaptive)."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Indexing, Spec, op
from ..tape import apply, spec_of
from .axismap import mapped_along, windows_of
from .pool import MaxPooled, pooling_fields
from .pooling import SumWindows
from .scattering import gather
from .windows import Sizes

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
]


def _avg_pool(
    rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    name = f"avg_pool{rank}d"
    fields = pooling_fields(name, rank, input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise OpError(f"{name}: divisor_override must not be 0")
    window = SumWindows(*fields)
    total: Tensor = apply(window, input)
    if divisor_override is not None:
        return total / divisor_override
    counts = _element_counts(window, count_include_pad)
    if counts.size and (counts == counts.flat[0]).all():
        return total / int(counts.flat[0])
    return total / counts.astype(input.dtype)


def _element_counts(window: SumWindows, include_pad: bool) -> Array:
    """Return how many elements each window averages; what lies beyond the padding never counts."""
    counts: Array = np.ones((), np.int64)
    for n, k, s, (pad, _), count in zip(
        window.sizes, window.kernel, window.stride, window.padding, window.counts(), strict=True
    ):
        start = np.arange(count) * s - pad
        stop = np.minimum(start + k, n + pad)
        inside = np.minimum(stop, n) - np.maximum(start, 0)
        counts = counts[..., None] * (stop - start if include_pad else inside)
    return counts


def avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window over one dimension; see `avg_pool2d`.

    Shape: (n, c, l) -> (n, c, l′);  (c, l) -> (c, l′)
    """
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window over two dimensions.

    Shape: (n, c, h, w) -> (n, c, h′, w′), with h′ = ⌊(h + 2·padding − kernel_size) / stride⌋ + 1
    (⌈ ⌉ if ceil_mode);  the batch n may be missing

    Args:
        input: samples.
        kernel_size: the window's size; a number, or one per dimension.
        stride: elements between neighbouring windows (default: kernel_size).
        padding: zeros on each side, at most half of the window.
        ceil_mode: whether the last window may reach beyond the end.
        count_include_pad: whether the zeros of the padding count as elements.
        divisor_override: what to divide the sum by, instead of the number of elements.

    Raises:
        OpError: the window is larger than the padded input, or the padding larger than half of it.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.avg_pool2d(tm.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window over three dimensions; see `avg_pool2d`.

    Shape: (n, c, d, h, w) -> (n, c, d′, h′, w′);  (c, d, h, w) -> (c, d′, h′, w′)
    """
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(
    rank: int, input: Tensor, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Tensor:
    """PyTorch takes the window's size whole, also where ceil_mode lets it reach beyond the end."""
    name = f"lp_pool{rank}d"
    window = SumWindows(*pooling_fields(name, rank, input, kernel_size, stride, 0, 1, ceil_mode))
    total: Tensor = apply(window, input**norm_type)
    if ceil_mode:
        total = total / _element_counts(window, True).astype(input.dtype) * prod(window.kernel)
    return total ** (1.0 / norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window over one dimension: (Σ xᵖ)^(1/p).

    Shape: (n, c, l) -> (n, c, l′);  (c, l) -> (c, l′)
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window over two dimensions: (Σ xᵖ)^(1/p).

    Shape: (n, c, h, w) -> (n, c, h′, w′);  the batch n may be missing
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm of each window over three dimensions: (Σ xᵖ)^(1/p).

    Shape: (n, c, d, h, w) -> (n, c, d′, h′, w′);  the batch n may be missing
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


# --- adaptive ------------------------------------------------------------------------------------


@op
class AdaptiveMaxIndices(Indexing):
    """The index, in the flattened last dimensions, of the largest of each of `out` windows"""

    out: Sizes

    def forward(self, xp: Any, x: Array) -> Array:
        rank = len(self.out)
        lead, sizes = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
        flat: Array = np.zeros((), np.int64)
        for n, m in zip(sizes, self.out, strict=True):  # -> (outputs…, places in the window…)
            flat = flat[..., None, None] * n + windows_of(n, m)
        order = (*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
        flat = flat.transpose(order).reshape(prod(self.out), -1)
        best = x.reshape(*lead, prod(sizes))[..., flat].argmax(axis=-1)
        return flat[np.arange(len(flat)), best].reshape(*lead, *self.out)

    def infer(self, x: Spec) -> Spec:
        return Spec((*x.shape[: x.ndim - len(self.out)], *self.out), np.dtype("int64"))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls((2,)), (rng.normal(size=(2, 5)),))
        yield Case(cls((2, 3)), (rng.normal(size=(2, 3, 4, 4)),))


def _output_sizes(name: str, rank: int, input: Tensor, output_size: Any) -> Sizes:
    if input.ndim not in (rank + 1, rank + 2):
        raise OpError(f"{name}({spec_of(input)}): expected {rank + 1} or {rank + 2} dimensions")
    sizes = tuple(input.shape[input.ndim - rank :])
    wanted = list(output_size) if isinstance(output_size, tuple | list) else [output_size] * rank
    wanted = wanted * rank if len(wanted) == 1 else wanted
    if len(wanted) != rank:
        raise OpError(f"{name}: output_size needs {rank} numbers, got {output_size!r}")
    out = tuple(n if m is None else int(m) for n, m in zip(sizes, wanted, strict=True))
    if 0 in sizes or min(out) < 0:
        raise OpError(f"{name}({spec_of(input)}): sizes {sizes} can't become {out}")
    return out


def _adaptive_avg(rank: int, input: Tensor, output_size: Any) -> Tensor:
    out = _output_sizes(f"adaptive_avg_pool{rank}d", rank, input, output_size)
    first = input.ndim - rank
    ones = tuple(first + d for d, m in enumerate(out) if m == 1 and input.shape[first + d] != 1)
    y = input.mean(dim=ones, keepdim=True) if ones else input
    for d, m in enumerate(out):
        if m != 1 and y.shape[first + d] != m:
            y = mapped_along(y, first + d, ("area", y.shape[first + d], m))
    return y if y is not input else input.clone()


def _adaptive_max(rank: int, input: Tensor, output_size: Any, return_indices: bool) -> MaxPooled:
    out = _output_sizes(f"adaptive_max_pool{rank}d", rank, input, output_size)
    lead = tuple(input.shape[: input.ndim - rank])
    index: Tensor = apply(AdaptiveMaxIndices(out), input.detach())
    flat = input.reshape(*lead, prod(input.shape[len(lead) :]))
    y = gather(flat, -1, index.reshape(*lead, prod(out))).reshape(*lead, *out)
    return (y, index) if return_indices else y


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Means of `output_size` windows of nearly equal size.  Shape: (n, c, l) -> (n, c, l′)"""
    return _adaptive_avg(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means of `output_size` windows: window i of m reaches from ⌊i·h/m⌋ to ⌈(i + 1)·h/m⌉.

    Shape: (n, c, h, w) -> (n, c, *output_size);  the batch n may be missing

    Args:
        input: samples.
        output_size: a number, or one per dimension; None keeps the input's.

    Raises:
        OpError: the input has no elements to average.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.adaptive_avg_pool2d(tm.arange(4.0).reshape(1, 1, 2, 2), 1).item()
    1.5
    """
    return _adaptive_avg(2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means of windows of nearly equal size; see `adaptive_avg_pool2d`.

    Shape: (n, c, d, h, w) -> (n, c, *output_size);  (c, d, h, w) -> (c, *output_size)
    """
    return _adaptive_avg(3, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> MaxPooled:
    """The largest of `output_size` windows of nearly equal size.  Shape: (n, c, l) -> (n, c, l′)"""
    return _adaptive_max(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> MaxPooled:
    """The largest of each of `output_size` windows, which are those of `adaptive_avg_pool2d`.

    Shape: (n, c, h, w) -> (n, c, *output_size);  the batch n may be missing
    """
    return _adaptive_max(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> MaxPooled:
    """The largest of each of `output_size` windows; see `adaptive_max_pool2d`.

    Shape: (n, c, d, h, w) -> (n, c, *output_size);  (c, d, h, w) -> (c, *output_size)
    """
    return _adaptive_max(3, input, output_size, return_indices)
