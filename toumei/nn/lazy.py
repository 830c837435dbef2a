"""Lazy layers: they find the size of their input at the first call, and are ordinary ones then.

Until that call their parameters are there, so that an optimiser can be given them, but empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..config import untraced
from ..errors import OpError
from ..ops.creation import empty
from ..tape import spec_of
from ..tensor import Tensor
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .linear import Linear
from .module import Module
from .norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)

if TYPE_CHECKING:
    import inspect

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]


class _LazySignature:
    """The signature of the layer that a lazy one becomes, without the size of the input."""

    def __get__(self, layer: object, cls: type[_Lazy]) -> inspect.Signature:
        from inspect import signature

        whole, own = signature(cls._becomes), cls._defaults
        _, *rest = whole.parameters.values()
        return whole.replace(
            parameters=[p.replace(default=own.get(p.name, p.default)) for p in rest]
        )


class _Lazy(Module):
    """What the lazy layers share."""

    _becomes: ClassVar[type[Module]]
    _size: ClassVar[str] = "num_features"  # the option that is left out
    _dim: ClassVar[int]  # the dimension of the input that it is the size of
    _defaults: ClassVar[dict[str, Any]] = {}  # where they aren't those of the ordinary layer
    __signature__: ClassVar[Any] = _LazySignature()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._options = self._defaults | type(self).__signature__.bind(*args, **kwargs).arguments
        example = self._made(self._options.get("groups", 1))
        vars(self).update(vars(example) | {self._size: 0})
        for tensor in self._floats():
            tensor.data = empty(0, dtype=tensor.dtype)

    def _made(self, size: int, **changed: Any) -> Module:
        """Return an ordinary layer with these options, for inputs of a size."""
        return self._becomes(**self._options | {self._size: size} | changed)

    def _floats(self) -> list[Tensor]:
        return [t for t in vars(self).values() if isinstance(t, Tensor) and t.is_floating_point()]

    def reset_parameters(self) -> None:
        """Do nothing: the parameters are drawn at the first call."""

    def forward(self, input: Tensor, *rest: Any, **named: Any) -> Any:
        """Become an ordinary layer, and compute its result."""
        with untraced():
            self._become(input)
        return self.forward(input, *rest, **named)

    def _become(self, input: Tensor) -> None:
        if not -input.ndim <= self._dim < input.ndim:
            raise OpError(f"{type(self).__name__}({spec_of(input)}): too few dimensions")
        floats = self._floats()  # they may have been converted
        dtype = {"dtype": floats[0].dtype} if floats else {}
        layer = self._made(input.shape[self._dim], **dtype)
        for name, value in vars(layer).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                vars(self)[name].data = value.detach()  # an optimiser knows this parameter
            elif not isinstance(value, Tensor):
                setattr(self, name, value)
        del self._options
        self.__class__ = self._becomes  # type: ignore[assignment]


class LazyLinear(_Lazy, Linear):
    """Linear whose in_features is the size of the first input's last dimension.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> layer = nn.LazyLinear(2)
    >>> layer(tm.ones(5, 3)).shape
    Size([5, 2])
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    _becomes = Linear
    _size = "in_features"
    _dim = -1


class LazyConv1d(_Lazy, Conv1d):
    """Conv1d whose in_channels are those of the first input."""

    _becomes = Conv1d
    _size = "in_channels"
    _dim = -2


class LazyConv2d(_Lazy, Conv2d):
    """Conv2d whose in_channels are those of the first input."""

    _becomes = Conv2d
    _size = "in_channels"
    _dim = -3


class LazyConv3d(_Lazy, Conv3d):
    """Conv3d whose in_channels are those of the first input."""

    _becomes = Conv3d
    _size = "in_channels"
    _dim = -4


class LazyConvTranspose1d(_Lazy, ConvTranspose1d):
    """ConvTranspose1d whose in_channels are those of the first input."""

    _becomes = ConvTranspose1d
    _size = "in_channels"
    _dim = -2


class LazyConvTranspose2d(_Lazy, ConvTranspose2d):
    """ConvTranspose2d whose in_channels are those of the first input."""

    _becomes = ConvTranspose2d
    _size = "in_channels"
    _dim = -3


class LazyConvTranspose3d(_Lazy, ConvTranspose3d):
    """ConvTranspose3d whose in_channels are those of the first input."""

    _becomes = ConvTranspose3d
    _size = "in_channels"
    _dim = -4


class LazyBatchNorm1d(_Lazy, BatchNorm1d):
    """BatchNorm1d whose num_features are the channels of the first input."""

    _becomes = BatchNorm1d
    _dim = 1


class LazyBatchNorm2d(_Lazy, BatchNorm2d):
    """BatchNorm2d whose num_features are the channels of the first input."""

    _becomes = BatchNorm2d
    _dim = 1


class LazyBatchNorm3d(_Lazy, BatchNorm3d):
    """BatchNorm3d whose num_features are the channels of the first input."""

    _becomes = BatchNorm3d
    _dim = 1


class _LazyInstanceNorm(_Lazy):
    """These learn and keep statistics unless told otherwise; InstanceNorm does not."""

    _defaults: ClassVar[dict[str, Any]] = {"affine": True, "track_running_stats": True}


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """InstanceNorm1d whose num_features are the channels of the first input."""

    _becomes = InstanceNorm1d
    _dim = -2


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """InstanceNorm2d whose num_features are the channels of the first input."""

    _becomes = InstanceNorm2d
    _dim = -3


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """InstanceNorm3d whose num_features are the channels of the first input."""

    _becomes = InstanceNorm3d
    _dim = -4
