"""Convolutions of one, two and three dimensions, and transposed ones.

The mathematics is in `convolution.py`, for any number of dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import OpError
from ..tape import apply, spec_of
from .convolution import BiasedConvolution, Convolution, ConvolutionInputGrad
from .windows import Pads, Sizes, ints, same_pads

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]


def _convolve(
    rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    name = f"conv{rank}d"
    batched = _is_batched(name, rank, input, weight, groups)
    strides = ints(name, "stride", stride, rank, 1)
    steps = ints(name, "dilation", dilation, rank, 1)
    pads = _pads(name, padding, tuple(weight.shape[2:]), strides, steps)
    fields = strides, pads, steps, groups
    x = input if batched else input.unsqueeze(0)
    if bias is None:
        y: Tensor = apply(Convolution(*fields), x, weight)
    else:
        y = apply(BiasedConvolution(*fields), x, weight, bias)
    return y if batched else y.squeeze(0)


def _is_batched(name: str, rank: int, input: Tensor, weight: Tensor, groups: int) -> bool:
    if weight.ndim != rank + 2 or input.ndim not in (rank + 1, rank + 2):
        raise OpError(
            f"{name}(input: {spec_of(input)}, weight: {spec_of(weight)}): both need {rank + 2} "
            f"dimensions; the input may have {rank + 1}, without a batch"
        )
    if groups < 1:
        raise OpError(f"{name}: groups must be at least 1, it is {groups}")
    return input.ndim == rank + 2


def _pads(name: str, padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pads:
    rank = len(kernel)
    if padding == "valid":
        return ((0, 0),) * rank
    if padding == "same":
        if any(s != 1 for s in stride):
            raise OpError(f"{name}: padding='same' needs stride 1, it is {stride}")
        return same_pads(kernel, dilation)
    if isinstance(padding, str):
        raise OpError(f"{name}: padding must be numbers, 'same' or 'valid', not {padding!r}")
    return tuple((p, p) for p in ints(name, "padding", padding, rank, 0))


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over one dimension (without flipping the kernel); see `conv2d`.

    Shape: (n, c, l), (o, c / groups, k), (o) -> (n, o, l′)
    """
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over two dimensions (without flipping the kernel).

    y[n, o, p] = bias[o] + Σ input[n, c, stride·p + dilation·k − padding]·weight[o, c, k]

    Shape: (n, c, h, w), (o, c / groups, kh, kw), (o) -> (n, o, h′, w′), with
    h′ = ⌊(h + 2·padding − dilation·(kh − 1) − 1) / stride⌋ + 1;  the batch n may be missing

    Args:
        input: samples.
        weight: one kernel per output channel.
        bias: a number per output channel, or None.
        stride: elements between neighbouring windows; a number, or one per dimension.
        padding: zeros on each side; numbers, "same" (the size stays, at stride 1) or "valid" (0).
        dilation: elements between neighbouring places of a window.
        groups: into how many groups the channels are split, each with kernels of its own.

    Raises:
        OpError: the channels differ, or the kernel is larger than the padded input.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.conv2d(tm.ones(1, 1, 3, 3), tm.ones(1, 1, 2, 2)).tolist()
    [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over three dimensions (without flipping the kernel); see `conv2d`.

    Shape: (n, c, d, h, w), (o, c / groups, kd, kh, kw), (o) -> (n, o, d′, h′, w′)
    """
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


def _transposed(
    rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    name = f"conv_transpose{rank}d"
    batched = _is_batched(name, rank, input, weight, groups)
    strides = ints(name, "stride", stride, rank, 1)
    steps = ints(name, "dilation", dilation, rank, 1)
    pads = ints(name, "padding", padding, rank, 0)
    extra = ints(name, "output_padding", output_padding, rank, 0)
    for e, s, d in zip(extra, strides, steps, strict=True):
        if e >= max(s, d):
            raise OpError(f"{name}: output_padding {e} must be below stride {s} or dilation {d}")
    x = input if batched else input.unsqueeze(0)
    parts = zip(x.shape[2:], weight.shape[2:], strides, pads, steps, extra, strict=True)
    sizes = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in parts)
    if min(sizes) < 1:
        raise OpError(f"{name}(input: {spec_of(input)}): the output would have the sizes {sizes}")
    sides = tuple((p, p - e) for p, e in zip(pads, extra, strict=True))  # the extra is cut off less
    fields = strides, sides, steps, groups, sizes
    y: Tensor = apply(ConvolutionInputGrad(*fields), x, weight)
    if bias is not None:
        if tuple(bias.shape) != (y.shape[1],):
            raise OpError(f"{name}: bias of shape {tuple(bias.shape)} for {y.shape[1]} channels")
        y = y + bias.reshape(-1, *[1] * rank)
    return y if batched else y.squeeze(0)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution over one dimension; see `conv_transpose2d`.

    Shape: (n, c, l), (c, o / groups, k), (o) -> (n, o, l′)
    """
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution over two dimensions: the gradient of `conv2d` by its input.

    Each input element puts a copy of the kernel, times itself, into the output.

    Shape: (n, c, h, w), (c, o / groups, kh, kw), (o) -> (n, o, h′, w′), with
    h′ = (h − 1)·stride − 2·padding + dilation·(kh − 1) + output_padding + 1

    Args:
        input: samples; the batch n may be missing.
        weight: kernels.
        bias: a number per output channel, or None.
        stride: how far the copies of neighbours lie apart.
        padding: how much is cut off on each side.
        output_padding: rows added at the end, below stride or dilation.
        groups: into how many groups the channels are split.
        dilation: elements between neighbouring places of a kernel.

    Raises:
        OpError: the channels differ, or nothing is left of the output.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.conv_transpose2d(tm.ones(1, 1, 1, 2), tm.ones(1, 1, 1, 2)).tolist()
    [[[[1.0, 2.0, 1.0]]]]
    """
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution over three dimensions; see `conv_transpose2d`.

    Shape: (n, c, d, h, w), (c, o / groups, kd, kh, kw), (o) -> (n, o, d′, h′, w′)
    """
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
