"""Layers that put elements around the last dimensions, or take some away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..ops.windows import ints
from ..tensor import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Module):
    """What the layers share: `padding`, (before, after) pairs, the last dimension first."""

    rank: ClassVar[int]  # how many dimensions are padded
    mode: ClassVar[str] = "constant"
    value: float | None = None

    def __init__(self, padding: int | Sequence[int]) -> None:
        self.padding = _pairs(type(self).__name__, padding, self.rank)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return str(self.padding)


def _pairs(name: str, padding: Any, rank: int) -> tuple[int, ...]:
    """Return two numbers per dimension: of one number, or as they were given."""
    given = [padding] * (2 * rank) if isinstance(padding, int) else padding
    most_taken_away = -(2**31)
    return ints(name, "padding", given, 2 * rank, most_taken_away)


class _ConstantPad(_Pad):
    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Puts `value` around the last dimension; see `ConstantPad2d`.  Shape: (…, L) -> (…, L′)"""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """Puts `value` around the last two dimensions.

    Shape: (…, H, W) -> (…, H + top + bottom, W + left + right)

    Args:
        padding: (left, right, top, bottom) in pixels, or one number for all of them; negative
            numbers take pixels away.
        value: what the new pixels are.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ConstantPad2d((1, 0, 0, 0), 7)(tm.zeros(1, 2, 2))
    tensor([[[7., 0., 0.],
             [7., 0., 0.]]])
    """

    rank = 2


class ConstantPad3d(_ConstantPad):
    """Puts `value` around the last three dimensions; see `ConstantPad2d`.

    Shape: (…, D, H, W) -> (…, D′, H′, W′);  padding (left, right, top, bottom, front, back)
    """

    rank = 3


class _ZeroPad(_Pad):
    value = 0.0


class ZeroPad1d(_ZeroPad):
    """Puts zeros around the last dimension; see `ConstantPad2d`.  Shape: (…, L) -> (…, L′)"""

    rank = 1


class ZeroPad2d(_ZeroPad):
    """Puts zeros around the last two dimensions; see `ConstantPad2d`.

    Shape: (…, H, W) -> (…, H + top + bottom, W + left + right)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ZeroPad2d(1)(tm.ones(1, 1, 1))
    tensor([[[0., 0., 0.],
             [0., 1., 0.],
             [0., 0., 0.]]])
    """

    rank = 2


class ZeroPad3d(_ZeroPad):
    """Puts zeros around the last three dimensions; see `ConstantPad3d`.

    Shape: (…, D, H, W) -> (…, D′, H′, W′)
    """

    rank = 3


class _ReflectionPad(_Pad):
    mode = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """Mirrors the last dimension at its ends; see `ReflectionPad2d`.

    Shape: (N, C, L) -> (N, C, L′)
    """

    rank = 1


class ReflectionPad2d(_ReflectionPad):
    """Mirrors images at their edges, without repeating the edge.

    Shape: (N, C, H, W) -> (N, C, H + top + bottom, W + left + right);  the batch N may be missing

    Args:
        padding: (left, right, top, bottom) in pixels, fewer than the image has, or one number.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ReflectionPad2d((2, 1, 0, 0))(tm.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[3., 2., 1., 2., 3., 2.]]])
    """

    rank = 2


class ReflectionPad3d(_ReflectionPad):
    """Mirrors the last three dimensions at their ends; see `ReflectionPad2d`.

    Shape: (N, C, D, H, W) -> (N, C, D′, H′, W′);  padding (left, right, top, bottom, front, back)
    """

    rank = 3


class _ReplicationPad(_Pad):
    mode = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """Repeats the first and the last element; see `ReplicationPad2d`.

    Shape: (N, C, L) -> (N, C, L′)
    """

    rank = 1


class ReplicationPad2d(_ReplicationPad):
    """Repeats the edges of images.

    Shape: (N, C, H, W) -> (N, C, H + top + bottom, W + left + right);  the batch N may be missing

    Args:
        padding: (left, right, top, bottom) in pixels, or one number.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.ReplicationPad2d((2, 1, 0, 0))(tm.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[1., 1., 1., 2., 3., 3.]]])
    """

    rank = 2


class ReplicationPad3d(_ReplicationPad):
    """Repeats the first and last elements of three dimensions; see `ReplicationPad2d`.

    Shape: (N, C, D, H, W) -> (N, C, D′, H′, W′);  padding (left, right, top, bottom, front, back)
    """

    rank = 3


class _CircularPad(_Pad):
    mode = "circular"


class CircularPad1d(_CircularPad):
    """Goes on at the other end of the last dimension; see `CircularPad2d`.

    Shape: (N, C, L) -> (N, C, L′)
    """

    rank = 1


class CircularPad2d(_CircularPad):
    """Goes on at the other edge of images, as on a torus.

    Shape: (N, C, H, W) -> (N, C, H + top + bottom, W + left + right);  the batch N may be missing

    Args:
        padding: (left, right, top, bottom) in pixels, at most as many as the image has, or one
            number.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.CircularPad2d((2, 1, 0, 0))(tm.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[2., 3., 1., 2., 3., 1.]]])
    """

    rank = 2


class CircularPad3d(_CircularPad):
    """Goes on at the other end of three dimensions; see `CircularPad2d`.

    Shape: (N, C, D, H, W) -> (N, C, D′, H′, W′);  padding (left, right, top, bottom, front, back)
    """

    rank = 3
