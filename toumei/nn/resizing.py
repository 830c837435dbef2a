"""Layers that resize images, or move pixels between space, channels and columns."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .function_layer import FunctionLayer
from .module import Module

__all__ = [
    "ChannelShuffle",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
]


class Upsample(Module):
    """Samples resized by interpolation, to `size` or by `scale_factor`.

    Shape: (N, C, sizes…) -> (N, C, new sizes…), with one to three spatial dimensions

    Args:
        size: the new spatial size; a number, or one per dimension.
        scale_factor: by how much to multiply the size (rounded down); one of the two is needed.
        mode: "nearest", "nearest-exact", "linear" (1 dimension), "bilinear", "bicubic" (2),
            "trilinear" (3) or "area" (means of windows).
        align_corners: whether the first and last samples, rather than the borders, stay in place;
            for the linear modes and "bicubic".
        recompute_scale_factor: whether positions follow from the rounded size rather than from
            `scale_factor`.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Upsample(scale_factor=2, mode="linear")(tm.tensor([[[1.0, 2.0]]]))
    tensor([[[1.  , 1.25, 1.75, 2.  ]]])
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size = size
        self.scale_factor = _floats(scale_factor)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        sizes = self.size, self.scale_factor
        return F.interpolate(
            input, *sizes, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        by_scale = self.scale_factor is not None
        sizes = f"scale_factor={self.scale_factor!r}" if by_scale else f"size={self.size!r}"
        return f"{sizes}, mode={self.mode!r}"


def _floats(scale: Any) -> Any:
    """Return scale factors as floats: one, a tuple of them, or None."""
    if isinstance(scale, tuple | list):
        return tuple(float(s) for s in scale)
    return scale if scale is None else float(scale)


class UpsamplingNearest2d(Upsample):
    """Images resized by repeating pixels: `Upsample(mode="nearest")`.

    Shape: (N, C, H, W) -> (N, C, H′, W′)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.UpsamplingNearest2d(scale_factor=2)(tm.tensor([[[[1.0, 2.0]]]])).tolist()
    [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Images resized linearly, corners in place: `Upsample(mode="bilinear", align_corners=True)`.

    Shape: (N, C, H, W) -> (N, C, H′, W′)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.UpsamplingBilinear2d(size=(1, 3))(tm.tensor([[[[1.0, 2.0]]]]))
    tensor([[[[1. , 1.5, 2. ]]]])
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", align_corners=True)


class PixelShuffle(FunctionLayer, of=F.pixel_shuffle):
    """Moves channels into space, r = upscale_factor.  Shape: (…, C·r², H, W) -> (…, C, H·r, W·r)

    Paper: Shi et al., "Real-Time Single Image and Video Super-Resolution" (2016)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.PixelShuffle(2)(tm.arange(4.0).reshape(4, 1, 1))
    tensor([[[0., 1.],
             [2., 3.]]])
    """

    upscale_factor: int


class PixelUnshuffle(FunctionLayer, of=F.pixel_unshuffle):
    """Moves space into channels, r = downscale_factor.  Shape: (…, C, H·r, W·r) -> (…, C·r², H, W)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.PixelUnshuffle(2)(tm.arange(4.0).reshape(1, 2, 2)).shape
    Size([4, 1, 1])
    """

    downscale_factor: int


class ChannelShuffle(FunctionLayer, of=F.channel_shuffle):
    """Deals channels out like cards from `groups` stacks.  Shape: (N, C, …) -> (N, C, …)

    Paper: Zhang et al., "ShuffleNet" (2018)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ChannelShuffle(2)(tm.arange(4.0).reshape(1, 4, 1, 1)).flatten()
    tensor([0., 2., 1., 3.])
    """

    groups: int


class Unfold(FunctionLayer, of=F.unfold):
    """The windows of images as columns.  Shape: (N, C, H, W) -> (N, C·kh·kw, windows)

    Args:
        kernel_size: the window in pixels; a number, or one per dimension.
        dilation: pixels between neighbouring places of a window.
        padding: pixels of 0 on each side.
        stride: pixels between neighbouring windows.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Unfold(2)(tm.ones(1, 3, 4, 4)).shape
    Size([1, 12, 9])
    """

    kernel_size: Any
    dilation: Any = 1
    padding: Any = 0
    stride: Any = 1


class Fold(FunctionLayer, of=F.fold):
    """Columns added up in the places of an image from which `Unfold` takes them.

    Shape: (N, C·kh·kw, windows) -> (N, C, H, W)

    Args:
        output_size: (H, W) in pixels, or one number.
        kernel_size: the window in pixels; a number, or one per dimension.
        dilation: pixels between neighbouring places of a window.
        padding: pixels on each side that are cut off.
        stride: pixels between neighbouring windows.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Fold(3, 2)(tm.ones(1, 4, 4))
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """

    output_size: Any
    kernel_size: Any
    dilation: Any = 1
    padding: Any = 0
    stride: Any = 1
