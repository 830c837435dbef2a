"""Layers of convolution: kernels that slide over one, two or three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ..errors import ModuleError
from ..ops.windows import Sizes, ints, same_pads
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import check_sizes, new_parameter
from .module import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What the layers of convolution share: options, parameters and how they start."""

    rank: ClassVar[int]  # of how many dimensions
    transposed: ClassVar[bool] = False
    _function: ClassVar[Callable[..., Any]]

    padding: str | Sizes
    output_padding: Sizes

    def _set_up(
        self, channels: tuple[int, int], kernel_size: Any, stride: Any, padding: Any,
        dilation: Any, groups: int, bias: bool, padding_mode: str, dtype: Any,
    ) -> None:  # fmt: skip
        name, rank = type(self).__name__, self.rank
        self.in_channels, self.out_channels = channels
        _check_channels(name, *channels, groups)
        self.kernel_size = ints(name, "kernel_size", kernel_size, rank, 1)
        self.stride = ints(name, "stride", stride, rank, 1)
        self.dilation = ints(name, "dilation", dilation, rank, 1)
        self.padding = (
            padding if isinstance(padding, str) else ints(name, "padding", padding, rank, 0)
        )
        self.groups = groups
        if padding_mode not in _PADDING_MODES:
            modes = ", ".join(map(repr, _PADDING_MODES))
            raise ModuleError(f"{name}: padding_mode must be one of {modes}, not {padding_mode!r}")
        self.padding_mode = padding_mode
        first, second = reversed(channels) if not self.transposed else channels
        self.weight = new_parameter(first, second // groups, *self.kernel_size, dtype=dtype)
        self.bias = new_parameter(self.out_channels, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, uniform in ±1/√fan_in, fan_in = weight.shape[1]·∏kernel_size."""
        init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            init.uniform_(self.bias, *init.symmetric(init.fans(self.weight)[0] ** -0.5))

    def extra_repr(self) -> str:
        zeros, ones = (0,) * self.rank, (1,) * self.rank
        parts = [
            f"{self.in_channels}, {self.out_channels}",
            f"kernel_size={self.kernel_size}, stride={self.stride}",
        ]
        usual = {"padding": zeros, "dilation": ones, "output_padding": zeros, "groups": 1}
        parts += [f"{k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v]
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


def _check_channels(name: str, in_channels: int, out_channels: int, groups: int) -> None:
    check_sizes(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
    for what, n in (("in_channels", in_channels), ("out_channels", out_channels)):
        if n % groups:
            raise ModuleError(f"{name}: {what} must be divisible by groups: {n} by {groups}")


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        channels = in_channels, out_channels
        self.output_padding = (0,) * self.rank
        self._set_up(
            channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype
        )
        self._around = self._numbers_for_pad()

    def _numbers_for_pad(self) -> tuple[int, ...]:
        """Return what F.pad takes for `padding`: (before, after) pairs, the last dimension first.

        Raises:
            ModuleError: the padding is an unknown word, or "same" and the stride isn't 1.
        """
        if not isinstance(self.padding, str):
            return tuple(p for p in reversed(self.padding) for _ in range(2))
        name = type(self).__name__
        if self.padding not in ("same", "valid"):
            raise ModuleError(
                f"{name}: padding must be numbers, 'same' or 'valid', not {self.padding!r}"
            )
        if self.padding == "valid":
            return (0, 0) * self.rank
        if any(s != 1 for s in self.stride):
            raise ModuleError(f"{name}: padding='same' needs stride 1, it is {self.stride}")
        pairs = same_pads(self.kernel_size, self.dilation)
        return tuple(p for pair in reversed(pairs) for p in pair)

    def forward(self, input: Tensor) -> Tensor:
        padding: str | Sizes | int = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._around, self.padding_mode), 0
        options = self.stride, padding, self.dilation, self.groups
        return type(self)._function(input, self.weight, self.bias, *options)


class Conv1d(_Conv):
    """y = weight ⋆ x + bias over one dimension; see `Conv2d`.

    Shape: (N, in, L) -> (N, out, L′);  weight (out, in/groups, k);  the batch N may be missing

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Conv1d(2, 4, 3, padding="same")(tm.ones(1, 2, 10)).shape
    Size([1, 4, 10])
    """

    rank = 1
    _function = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """y = weight ⋆ x + bias: kernels that slide over images, without being flipped.

    y[o, p] = bias[o] + Σ x[c, stride·p + dilation·k − padding]·weight[o, c, k].  Weight and bias
    start uniform in ±1/√fan_in, fan_in = in_channels/groups·kh·kw.

    Shape: (N, in, H, W) -> (N, out, H′, W′), H′ = ⌊(H + 2·padding − dilation·(kh − 1) − 1)/stride⌋
    + 1;  weight (out, in/groups, kh, kw), bias (out);  the batch N may be missing

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; one kernel each.
        kernel_size: in pixels; a number, or one per dimension.
        stride: pixels between neighbouring windows; a number, or one per dimension.
        padding: pixels on each side, "same" (the size stays, at stride 1) or "valid" (none).
        dilation: pixels between neighbouring places of a kernel.
        groups: into how many groups the channels are split, each with kernels of its own.
        bias: whether to add a learnt bias.
        padding_mode: what the padding holds: "zeros", "reflect" (the image mirrored at its edge),
            "replicate" (the edge) or "circular" (the other end).
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: the channels can't be split into the groups, or an option is unknown.

    Paper: LeCun et al., "Backpropagation Applied to Handwritten Zip Code Recognition" (1989)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Conv2d(1, 8, 3, padding=1)(tm.ones(2, 1, 28, 28)).shape
    Size([2, 8, 28, 28])
    """

    rank = 2
    _function = staticmethod(F.conv2d)


class Conv3d(_Conv):
    """y = weight ⋆ x + bias over three dimensions; see `Conv2d`.

    Shape: (N, in, D, H, W) -> (N, out, D′, H′, W′);  weight (out, in/groups, kd, kh, kw)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Conv3d(1, 2, 3)(tm.ones(1, 1, 5, 5, 5)).shape
    Size([1, 2, 3, 3, 3])
    """

    rank = 3
    _function = staticmethod(F.conv3d)


class _ConvTranspose(_Convolution):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        dtype: Any = None,
    ) -> None:
        name = type(self).__name__
        if padding_mode != "zeros" or isinstance(padding, str):
            what = f"padding={padding!r}, padding_mode={padding_mode!r}"
            raise ModuleError(
                f"{name}: takes numbers as padding and 'zeros' as its mode, not {what}"
            )
        self.output_padding = ints(name, "output_padding", output_padding, self.rank, 0)
        channels = in_channels, out_channels
        self._set_up(
            channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, dtype
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Compute the result; `output_size` chooses among the sizes that the stride allows."""
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        options = self.stride, self.padding, extra, self.groups, self.dilation
        return type(self)._function(input, self.weight, self.bias, *options)

    def _extra(self, input: Tensor, output_size: Sequence[int]) -> Sizes:
        """Return the output_padding that gives the output this size."""
        name, rank = type(self).__name__, self.rank
        wanted = [int(n) for n in output_size]
        if len(wanted) not in (rank, input.ndim):
            raise ModuleError(f"{name}: output_size needs {rank} numbers, got {wanted}")
        cut = ints(name, "padding", self.padding, rank, 0)
        parts = zip(
            input.shape[-rank:], self.kernel_size, self.stride, cut, self.dilation, strict=True
        )
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in parts]
        extra = tuple(n - m for n, m in zip(wanted[-rank:], least, strict=True))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = [m + s - 1 for m, s in zip(least, self.stride, strict=True)]
            raise ModuleError(
                f"{name}: output_size {wanted[-rank:]} can't be had: {least} to {most} can"
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution over one dimension; see `ConvTranspose2d`.

    Shape: (N, in, L) -> (N, out, L′);  weight (in, out/groups, k);  the batch N may be missing

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ConvTranspose1d(2, 4, 2, stride=2)(tm.ones(1, 2, 5)).shape
    Size([1, 4, 10])
    """

    rank = 1
    _function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """Each pixel puts a copy of the kernel, times itself, into the output: `Conv2d` turned round.

    Weight and bias start uniform in ±1/√fan_in, fan_in = out_channels/groups·kh·kw.

    Shape: (N, in, H, W) -> (N, out, H′, W′), H′ = (H − 1)·stride − 2·padding + dilation·(kh − 1) +
    output_padding + 1;  weight (in, out/groups, kh, kw), bias (out);  the batch N may be missing

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: in pixels; a number, or one per dimension.
        stride: how far, in pixels, the copies of neighbours lie apart.
        padding: pixels that are cut off on each side.
        output_padding: rows added at the end, fewer than stride or dilation.
        groups: into how many groups the channels are split, each with kernels of its own.
        bias: whether to add a learnt bias.
        dilation: pixels between neighbouring places of a kernel.
        padding_mode: "zeros"; there is no other.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: the channels can't be split into the groups, or an option is unknown.

    Paper: Zeiler et al., "Deconvolutional Networks" (2010)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> up = nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1)
    >>> up(tm.ones(1, 4, 5, 5)).shape, up(tm.ones(1, 4, 5, 5), output_size=(10, 10)).shape
    (Size([1, 2, 9, 9]), Size([1, 2, 10, 10]))
    """

    rank = 2
    _function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution over three dimensions; see `ConvTranspose2d`.

    Shape: (N, in, D, H, W) -> (N, out, D′, H′, W′);  weight (in, out/groups, kd, kh, kw)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ConvTranspose3d(1, 2, 2, stride=2)(tm.ones(1, 1, 3, 3, 3)).shape
    Size([1, 2, 6, 6, 6])
    """

    rank = 3
    _function = staticmethod(F.conv_transpose3d)
