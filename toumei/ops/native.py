"""Functions that PyTorch has at its top level for the parts of neural-network functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .grid import MODES, PADDING_MODES, grid_sample

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["grid_sampler_2d", "grid_sampler_3d", "native_dropout_backward"]


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
