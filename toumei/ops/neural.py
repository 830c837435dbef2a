"""The neural-network functions, and parts of them, that PyTorch has at its top level too.

`toumei.softmax` is `nn.functional.softmax`; some, such as `grid_sampler_2d`, are only here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..tape import apply, dims_of
from .activation import celu, hardshrink, prelu, relu, rrelu, selu, threshold
from .creation import zeros
from .dense import bilinear
from .distance import cosine_similarity, pairwise_distance
from .grid import MODES, PADDING_MODES, grid_sample
from .norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    native_batch_norm,
    native_group_norm,
    native_layer_norm,
    rms_norm,
)
from .rowwise import SoftmaxGrad, log_softmax, softmax
from .shuffling import channel_shuffle, pixel_shuffle, pixel_unshuffle

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "_batch_norm_with_update",
    "_native_batch_norm_legit",
    "_softmax_backward_data",
    "batch_norm",
    "bilinear",
    "celu",
    "channel_shuffle",
    "cosine_similarity",
    "grid_sampler_2d",
    "grid_sampler_3d",
    "group_norm",
    "hardshrink",
    "instance_norm",
    "layer_norm",
    "log_softmax",
    "native_batch_norm",
    "native_dropout_backward",
    "native_group_norm",
    "native_layer_norm",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "rms_norm",
    "rrelu",
    "selu",
    "softmax",
    "threshold",
]


def _softmax_backward_data(
    grad_output: Tensor, output: Tensor, dim: int, input_dtype: Any
) -> Tensor:
    """The gradient of softmax from its output y: y·(g − Σ g·y).  Shape: (…), (…) -> (…)

    Raises:
        OpError: `input_dtype` isn't the output's dtype.
    """
    if np.dtype(input_dtype) != output.dtype:
        raise OpError(f"_softmax_backward_data: input_dtype is {input_dtype}, y has {output.dtype}")
    dims = dims_of("_softmax_backward_data", output, dim)
    return apply(SoftmaxGrad(dims), grad_output, output)


def _native_batch_norm_legit(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """`native_batch_norm`; the two running statistics may be left out.

    Args:
        input: (n, c, …).
        weight: (c), or None.
        bias: (c), or None.
        rest: running_mean and running_var, or neither; training, momentum, eps.

    Raises:
        OpError: there are neither three nor five further arguments.
    """
    if len(rest) not in (3, 5):
        raise OpError(
            f"_native_batch_norm_legit: it takes 3 or 5 further arguments, not {len(rest)}"
        )
    mean, var = rest[:2] if len(rest) == 5 else (None, None)
    return native_batch_norm(input, weight, bias, mean, var, *rest[-3:])


def _batch_norm_with_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`native_batch_norm` in training; the fourth result, a reserve, is empty."""
    y, mean, rstd = native_batch_norm(
        input, weight, bias, running_mean, running_var, True, momentum, eps
    )
    return y, mean, rstd, zeros(0, dtype=np.dtype(np.uint8))


def native_dropout_backward(grad_output: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The gradient of dropout: grad_output · mask · scale.  Shape: (…), (…) -> (…)"""
    return grad_output * mask * scale


def grid_sampler_2d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sample` of (n, c, h, w) with the modes as numbers.

    Shape: (n, c, h, w), (n, h′, w′, 2) -> (n, c, h′, w′)

    Args:
        input: images.
        grid: positions.
        interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic.
        padding_mode: 0 zeros, 1 border, 2 reflection.
        align_corners: as for `grid_sample`.
    """
    mode, padding = MODES[interpolation_mode], PADDING_MODES[padding_mode]
    return grid_sample(input, grid, mode, padding, align_corners)


def grid_sampler_3d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sample` of (n, c, d, h, w) with the modes as numbers; see `grid_sampler_2d`.

    Shape: (n, c, d, h, w), (n, d′, h′, w′, 3) -> (n, c, d′, h′, w′)
    """
    return grid_sampler_2d(input, grid, interpolation_mode, padding_mode, align_corners)
