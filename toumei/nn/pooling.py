"""Layers of pooling: the largest, the mean or the norm of windows over the last dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..errors import ModuleError
from ..ops.windows import ints
from ..tensor import Tensor
from . import functional as F
from .function_layer import FunctionLayer

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Pooling(FunctionLayer):
    """What all these layers share: which of their options the repr shows."""

    shown: ClassVar[tuple[str, ...]]

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.shown)


class _Windows(_Pooling):
    """Windows whose stride is their size unless another is given."""

    shown: ClassVar[tuple[str, ...]] = ("kernel_size", "stride", "padding")

    kernel_size: Any
    stride: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.stride is None:
            self.stride = self.kernel_size


class _MaxPool(_Windows):
    shown = "kernel_size", "stride", "padding", "dilation", "ceil_mode"

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    return_indices: bool = False
    ceil_mode: bool = False


class MaxPool1d(_MaxPool, of=F.max_pool1d):
    """The largest of each window; see `MaxPool2d`.  Shape: (N, C, L) -> (N, C, L′)"""


class MaxPool2d(_MaxPool, of=F.max_pool2d):
    """The largest of each window over two dimensions.

    Shape: (N, C, H, W) -> (N, C, H′, W′), with H′ = ⌊(H + 2·padding − span)/stride⌋ + 1 and span =
    dilation·(kernel_size − 1) + 1 (⌈ ⌉ if ceil_mode);  the batch N may be missing

    Args:
        kernel_size: the window in pixels; a number, or one per dimension.
        stride: pixels between neighbouring windows; kernel_size if None.
        padding: pixels of −∞ on each side, at most half of the window.
        dilation: pixels between neighbouring places of a window.
        return_indices: whether to return, too, the index of each largest pixel in H × W.
        ceil_mode: whether the last window may reach beyond the end.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.MaxPool2d(2)(tm.arange(16.0).reshape(1, 4, 4)).tolist()
    [[[5.0, 7.0], [13.0, 15.0]]]
    """


class MaxPool3d(_MaxPool, of=F.max_pool3d):
    """The largest of each window; see `MaxPool2d`.  Shape: (N, C, D, H, W) -> (N, C, D′, H′, W′)"""


class _WindowTuples(_Windows):
    """Layers that keep their numbers as tuples, as PyTorch's do."""

    rank: ClassVar[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            numbers = ints(type(self).__name__, name, getattr(self, name), self.rank, least)
            setattr(self, name, numbers)


class AvgPool1d(_WindowTuples, of=F.avg_pool1d):
    """The mean of each window; see `AvgPool2d`.  Shape: (N, C, L) -> (N, C, L′)"""

    rank = 1

    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True


class _AvgPool(_Windows):
    kernel_size: Any
    stride: Any = None
    padding: Any = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None


class AvgPool2d(_AvgPool, of=F.avg_pool2d):
    """The mean of each window over two dimensions.

    Shape: (N, C, H, W) -> (N, C, H′, W′), with H′ = ⌊(H + 2·padding − kernel_size)/stride⌋ + 1
    (⌈ ⌉ if ceil_mode);  the batch N may be missing

    Args:
        kernel_size: the window in pixels; a number, or one per dimension.
        stride: pixels between neighbouring windows; kernel_size if None.
        padding: pixels of 0 on each side, at most half of the window.
        ceil_mode: whether the last window may reach beyond the end.
        count_include_pad: whether the padding counts as pixels.
        divisor_override: what to divide the sum by, instead of the number of pixels.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.AvgPool2d(2)(tm.arange(16.0).reshape(1, 4, 4)).tolist()
    [[[2.5, 4.5], [10.5, 12.5]]]
    """


class AvgPool3d(_AvgPool, of=F.avg_pool3d):
    """The mean of each window; see `AvgPool2d`.  Shape: (N, C, D, H, W) -> (N, C, D′, H′, W′)"""


class _LPPool(_Pooling):
    shown = "norm_type", "kernel_size", "stride", "ceil_mode"

    norm_type: float
    kernel_size: Any
    stride: Any = None
    ceil_mode: bool = False


class LPPool1d(_LPPool, of=F.lp_pool1d):
    """(Σ xᵖ)^(1/p) of each window, p = norm_type.  Shape: (N, C, L) -> (N, C, L′)"""


class LPPool2d(_LPPool, of=F.lp_pool2d):
    """(Σ xᵖ)^(1/p) of each window, p = norm_type.  Shape: (N, C, H, W) -> (N, C, H′, W′)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.LPPool2d(2, (1, 2))(tm.tensor([[[3.0, 4.0]]]))
    tensor([[[5.]]])
    """


class LPPool3d(_LPPool, of=F.lp_pool3d):
    """(Σ xᵖ)^(1/p) of each window, p = norm_type.

    Shape: (N, C, D, H, W) -> (N, C, D′, H′, W′)
    """


class _MaxUnpool(_WindowTuples):
    kernel_size: Any
    stride: Any = None
    padding: Any = 0

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Any:
        return super().forward(input, indices, output_size=output_size)


class MaxUnpool1d(_MaxUnpool, of=F.max_unpool1d):
    """Puts what `MaxPool1d` found back; see `MaxUnpool2d`.  Shape: (N, C, L′) -> (N, C, L)"""

    rank = 1


class MaxUnpool2d(_MaxUnpool, of=F.max_unpool2d):
    """Zeros, with the pixels that `MaxPool2d` found put back in their places.

    Shape: (N, C, H′, W′) and its indices -> (N, C, H, W), H = (H′ − 1)·stride + kernel_size −
    2·padding unless `output_size` is given in the call

    >>> import toumei as tm
    >>> from toumei import nn
    >>> largest = nn.MaxPool2d(2, return_indices=True)(tm.arange(4.0).reshape(1, 2, 2))
    >>> nn.MaxUnpool2d(2)(*largest).tolist()
    [[[0.0, 0.0], [0.0, 3.0]]]
    """

    rank = 2


class MaxUnpool3d(_MaxUnpool, of=F.max_unpool3d):
    """Puts what `MaxPool3d` found back; see `MaxUnpool2d`.

    Shape: (N, C, D′, H′, W′) -> (N, C, D, H, W)
    """

    rank = 3


class _Adaptive(_Pooling):
    shown = ("output_size",)

    output_size: Any


class AdaptiveAvgPool1d(_Adaptive, of=F.adaptive_avg_pool1d):
    """Means of windows; see `AdaptiveAvgPool2d`.  Shape: (N, C, L) -> (N, C, output_size)"""


class AdaptiveAvgPool2d(_Adaptive, of=F.adaptive_avg_pool2d):
    """Means of `output_size` windows: window i of m reaches from ⌊i·H/m⌋ to ⌈(i + 1)·H/m⌉.

    Shape: (N, C, H, W) -> (N, C, *output_size);  the batch N may be missing

    Args:
        output_size: a number, or one per dimension; None keeps the input's.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.AdaptiveAvgPool2d((1, None))(tm.ones(8, 16, 7, 5)).shape
    Size([8, 16, 1, 5])
    """


class AdaptiveAvgPool3d(_Adaptive, of=F.adaptive_avg_pool3d):
    """Means of windows; see `AdaptiveAvgPool2d`.  Shape: (N, C, D, H, W) -> (N, C, *output_size)"""


class _AdaptiveMax(_Adaptive):
    output_size: Any
    return_indices: bool = False


class AdaptiveMaxPool1d(_AdaptiveMax, of=F.adaptive_max_pool1d):
    """The largest of windows; see `AdaptiveMaxPool2d`.  Shape: (N, C, L) -> (N, C, output_size)"""


class AdaptiveMaxPool2d(_AdaptiveMax, of=F.adaptive_max_pool2d):
    """The largest of each of `output_size` windows, which are those of `AdaptiveAvgPool2d`.

    Shape: (N, C, H, W) -> (N, C, *output_size);  the batch N may be missing

    Args:
        output_size: a number, or one per dimension; None keeps the input's.
        return_indices: whether to return, too, the index of each largest pixel in H × W.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.AdaptiveMaxPool2d(1)(tm.arange(9.0).reshape(1, 3, 3))
    tensor([[[8.]]])
    """


class AdaptiveMaxPool3d(_AdaptiveMax, of=F.adaptive_max_pool3d):
    """The largest of windows; see `AdaptiveMaxPool2d`.

    Shape: (N, C, D, H, W) -> (N, C, *output_size)
    """


class _FractionalMaxPool(FunctionLayer):
    """Checks what both fractional layers are given."""

    rank: ClassVar[int]

    kernel_size: Any
    output_size: Any = None
    output_ratio: Any = None
    return_indices: bool = False
    _random_samples: Tensor | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name, ratio = type(self).__name__, self.output_ratio
        self.kernel_size = ints(name, "kernel_size", self.kernel_size, self.rank, 1)
        if (self.output_size is None) == (ratio is None):
            raise ModuleError(f"{name} needs either an output_size or an output_ratio")
        if ratio is None:
            self.output_size = ints(name, "output_size", self.output_size, self.rank, 1)
            return
        self.output_ratio = tuple(ratio) if isinstance(ratio, Sequence) else (ratio,) * self.rank
        if len(self.output_ratio) != self.rank or not all(0 < r < 1 for r in self.output_ratio):
            raise ModuleError(f"{name}: output_ratio must be between 0 and 1, not {ratio}")

    def extra_repr(self) -> str:
        return ""


class FractionalMaxPool2d(_FractionalMaxPool, of=F.fractional_max_pool2d):
    """The largest of windows at random places, to an output of a given size.

    Shape: (N, C, H, W) -> (N, C, *output_size);  the batch N may be missing

    Args:
        kernel_size: the window in pixels; a number, or one per dimension.
        output_size: a number, or one per dimension.
        output_ratio: instead of it, the output's share of the input's size, between 0 and 1.
        return_indices: whether to return, too, the index of each largest pixel in H × W.
        _random_samples: (N, C, 2), to fix the places; drawn at each call if None.

    Raises:
        ModuleError: not exactly one of output_size and output_ratio is given.

    Paper: Graham, "Fractional Max-Pooling" (2014), arXiv:1412.6071

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.FractionalMaxPool2d(2, output_ratio=0.7)(tm.rand(1, 10, 10)).shape
    Size([1, 7, 7])
    """

    rank = 2


class FractionalMaxPool3d(_FractionalMaxPool, of=F.fractional_max_pool3d):
    """FractionalMaxPool2d over volumes.  Shape: (N, C, D, H, W) -> (N, C, *output_size)"""

    rank = 3
