"""Normalisation layers: over a batch, a layer, groups of channels, one instance, neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from ..errors import ModuleError, OpError
from ..ops.creation import ones, zeros
from ..tape import spec_of
from ..tensor import Buffer, Parameter, Tensor
from . import functional as F
from . import init
from .function_layer import FunctionLayer
from .linear import check_sizes
from .module import Module

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CrossMapLRN2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _Affine(Module):
    """What the layers share: a scale that starts at 1 and a shift that starts at 0, or neither."""

    weight: Parameter | None
    bias: Parameter | None

    def _make_affine(self, shape: Sequence[int], weight: bool, bias: bool, dtype: Any) -> None:
        self.weight = Parameter(ones(*shape, dtype=dtype)) if weight else None
        self.bias = Parameter(zeros(*shape, dtype=dtype)) if bias else None

    def reset_parameters(self) -> None:
        """Set the scale to 1 and the shift to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _RunningNorm(_Affine):
    """A norm per channel that can keep running statistics for evaluation."""

    _ndims: ClassVar[tuple[int, ...]]  # numbers of dimensions that an input may have

    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        check_sizes(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_affine((num_features,), affine, affine and bias, dtype)
        track = track_running_stats
        self.running_mean = Buffer(zeros(num_features, dtype=dtype)) if track else None
        self.running_var = Buffer(ones(num_features, dtype=dtype)) if track else None
        self.num_batches_tracked = Buffer(zeros((), dtype="int64")) if track else None

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
        if self.num_batches_tracked is not None:
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Set the scale to 1, the shift to 0, and forget the running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check_ndim(self, input: Tensor) -> None:
        if input.ndim not in self._ndims:
            wanted = " or ".join(map(str, self._ndims))
            raise OpError(
                f"{type(self).__name__}({spec_of(input)}): expected {wanted} dimensions, "
                f"got {input.ndim}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    """Batch norm whatever the number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_ndim(input)
        keeps = self.track_running_stats or not self.training  # PyTorch's meaning of the flag
        mean = self.running_mean if keeps else None
        var = self.running_var if keeps else None
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        momentum = self._next_momentum()
        return F.batch_norm(input, mean, var, self.weight, self.bias, by_batch, momentum, self.eps)

    def _next_momentum(self) -> float | Tensor:
        """Count a batch of training; return how far the running statistics move towards it."""
        count = self.num_batches_tracked
        if self.training and self.track_running_stats and count is not None:
            count.add_(1)
            if self.momentum is None and self.running_mean is not None:  # the mean of all batches
                return 1 / count.to(self.running_mean.dtype)
        return 0.0 if self.momentum is None else self.momentum


class BatchNorm1d(_BatchNorm):
    """y = (x − mean)/√(var + eps)·weight + bias, per channel over the batch.

    In training the batch's own mean and variance are taken, and running ones follow them; in
    evaluation the running ones are taken.

    Shape: (N, C) or (N, C, L) -> the same;  weight, bias, running_mean, running_var (C)

    Args:
        num_features: the number of channels C.
        eps: added to the variance.
        momentum: running ← (1 − momentum)·running + momentum·batch; None takes the mean of the
            statistics of all batches so far.
        affine: whether to learn a scale and a shift.
        track_running_stats: False takes the batch's statistics in evaluation too.
        bias: False leaves out the shift.
        dtype: of the parameters and statistics; the default dtype if None.

    Raises:
        ModuleError: `num_features` isn't a positive integer.
        OpError: the input's dimensions don't fit, or a channel has a single number in training.

    Paper: Ioffe & Szegedy, "Batch Normalization" (2015), arXiv:1502.03167

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.BatchNorm1d(1, eps=1e-9)(tm.tensor([[1.0], [3.0]])).flatten()
    tensor([-1.,  1.], grad_fn=<Reshape>)
    """

    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """BatchNorm1d's formula over images.  Shape: (N, C, H, W) -> the same"""

    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """BatchNorm1d's formula over volumes.  Shape: (N, C, D, H, W) -> the same"""

    _ndims = (5,)


class _InstanceNorm(_RunningNorm):
    """Instance norm whatever the number of dimensions; the smaller one has no batch."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, bias=bias, dtype=dtype
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_ndim(input)
        alone = input.ndim == self._ndims[0]
        self._check_channels(input, 0 if alone else 1)
        result = self._normalised(input.unsqueeze(0) if alone else input)
        return result.squeeze(0) if alone else result

    def _normalised(self, input: Tensor) -> Tensor:
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )

    def _check_channels(self, input: Tensor, dim: int) -> None:
        """Refuse another number of channels; warn of it where no parameter depends on it."""
        channels = input.shape[dim]
        if channels == self.num_features:
            return
        text = f"dim {dim} of the input has {channels} channels, not {self.num_features}"
        if self.affine or self.track_running_stats:
            raise OpError(f"{type(self).__name__}({spec_of(input)}): {text}")
        import warnings

        warnings.warn(f"{type(self).__name__}: {text}, which has no effect here", stacklevel=4)


class InstanceNorm1d(_InstanceNorm):
    """y = (x − mean)/√(var + eps)·weight + bias, per instance and channel.

    Shape: (N, C, L) or (C, L) -> the same;  weight, bias, running_mean, running_var (C)

    Args:
        num_features: the number of channels C.
        eps: added to the variance.
        momentum: how far the running statistics move towards those of a batch; None leaves them.
        affine: whether to learn a scale and a shift.
        track_running_stats: keep running statistics in training, take them in evaluation.
        bias: False leaves out the shift.
        dtype: of the parameters and statistics; the default dtype if None.

    Raises:
        ModuleError: `num_features` isn't a positive integer.
        OpError: the input's dimensions don't fit, or there is a single number per channel.

    Paper: Ulyanov et al., "Instance Normalization" (2016), arXiv:1607.08022

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.InstanceNorm1d(1, eps=0.0)(tm.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]])
    """

    _ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """InstanceNorm1d's formula over images.  Shape: (N, C, H, W) or (C, H, W) -> the same"""

    _ndims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """InstanceNorm1d's formula over volumes.  Shape: (N, C, D, H, W) or (C, D, H, W) -> the same"""

    _ndims = (4, 5)


def _trailing_shape(layer: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return `normalized_shape` as a tuple of sizes."""
    sizes = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    for size in sizes:
        check_sizes(layer, normalized_shape=size)
    if not sizes:
        raise ModuleError(f"{layer}: normalized_shape must name at least one dimension")
    return sizes


class LayerNorm(_Affine):
    """y = (x − mean)/√(var + eps)·weight + bias over the last dimensions.

    Shape: (…, *normalized_shape) -> the same;  weight and bias: normalized_shape

    Args:
        normalized_shape: the sizes of the last dimensions, or the size of the last one.
        eps: added to the variance.
        elementwise_affine: whether to learn a scale and a shift.
        bias: False leaves out the shift.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer.
        OpError: the input's last dimensions are others.

    Paper: Ba et al., "Layer Normalization" (2016), arXiv:1607.06450

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.LayerNorm(2, eps=0.0, elementwise_affine=False)(tm.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape: Final = _trailing_shape("LayerNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        affine = elementwise_affine
        self._make_affine(self.normalized_shape, affine, affine and bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """y = x/√(mean(x²) + eps)·weight over the last dimensions.

    Shape: (…, *normalized_shape) -> the same;  weight: normalized_shape

    Args:
        normalized_shape: the sizes of the last dimensions, or the size of the last one.
        eps: added to the mean square; None takes the machine epsilon of the input's dtype.
        elementwise_affine: whether to learn a scale.
        dtype: of the scale; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer.
        OpError: the input's last dimensions are others.

    Paper: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), arXiv:1910.07467

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.RMSNorm(2, elementwise_affine=False)(tm.tensor([[1.0, 1.0]]))
    tensor([[1., 1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape: Final = _trailing_shape("RMSNorm", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        scale = ones(*self.normalized_shape, dtype=dtype)
        self.weight = Parameter(scale) if elementwise_affine else None

    def reset_parameters(self) -> None:
        """Set the scale to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(_Affine):
    """y = (x − mean)/√(var + eps)·weight + bias, per instance and group of channels.

    Shape: (N, C, …) -> the same;  weight and bias (C)

    Args:
        num_groups: into how many groups the channels are divided.
        num_channels: the number of channels C.
        eps: added to the variance.
        affine: whether to learn a scale and a shift.
        bias: False leaves out the shift.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: a number isn't a positive integer, or the groups don't divide the channels.
        OpError: the input has another number of channels.

    Paper: Wu & He, "Group Normalization" (2018), arXiv:1803.08494

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.GroupNorm(1, 2, eps=0.0, affine=False)(tm.tensor([[[1.0], [3.0]]])).flatten()
    tensor([-1.,  1.])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        check_sizes("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ModuleError(
                f"GroupNorm: num_channels={num_channels} can't be divided into "
                f"num_groups={num_groups} equal groups"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._make_affine((num_channels,), affine, affine and bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LocalResponseNorm(FunctionLayer, of=F.local_response_norm):
    """y = x/(k + alpha·mean of x² over `size` neighbouring channels)^beta.

    Shape: (N, C, …) -> the same
    Paper: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Networks" (2012)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.LocalResponseNorm(2)(tm.zeros(1, 3, 1)).shape
    Size([1, 3, 1])
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """LocalResponseNorm over images only.  Shape: (N, C, H, W) -> the same"""

    def forward(self, input: Tensor) -> Any:
        if input.ndim != 4:
            raise OpError(f"CrossMapLRN2d({spec_of(input)}): expected 4 dimensions")
        return super().forward(input)
