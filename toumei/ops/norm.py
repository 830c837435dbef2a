"""Normalisations: over a batch, a layer, groups of channels, one instance; by mean and variance.

One op does the mathematics of all; they differ in the dimensions that the mean runs over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..config import grad_mode
from ..errors import OpError
from ..tape import spec_of
from .combine import cat
from .creation import zeros
from .standardize import count_along, normalize_over

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "rms_norm",
]


def _check_channels(name: str, x: Tensor, **params: Tensor | None) -> None:
    if x.ndim < 2:
        raise OpError(f"{name}({spec_of(x)}): the input needs a batch and a channel dimension")
    channels = x.shape[1]
    for key, p in params.items():
        if p is not None and tuple(p.shape) != (channels,):
            raise OpError(
                f"{name}(input: {spec_of(x)}, {key}: {spec_of(p)}): {key} must have one number "
                f"for each of the {channels} channels (dim 1 of the input)"
            )


def _per_channel(name: str, x: Tensor, **params: Tensor | None) -> list[Tensor | None]:
    """Return parameters (c) in the shape (1, c, 1, …), which broadcasts to x."""
    _check_channels(name, x, **params)
    shape = (1, -1, *[1] * (x.ndim - 2))
    return [None if p is None else p.reshape(shape) for p in params.values()]


def _trailing(
    name: str, x: Tensor, shape: Sequence[int], **params: Tensor | None
) -> tuple[tuple[int, ...], list[Tensor | None]]:
    """Return the last dimensions, which `shape` names, and the parameters with all dimensions."""
    sizes = (int(shape),) if isinstance(shape, int) else tuple(shape)
    if not sizes or tuple(x.shape[-len(sizes) :]) != sizes:
        raise OpError(
            f"{name}(input: {spec_of(x)}, normalized_shape={sizes}): the input's last dimensions "
            f"are {tuple(x.shape[-len(sizes) :]) if sizes else ()}, not {sizes}"
        )
    for key, p in params.items():
        if p is not None and tuple(p.shape) != sizes:
            raise OpError(f"{name}: {key} has the shape {tuple(p.shape)}, not {sizes}")
    lead = x.ndim - len(sizes)
    whole = [None if p is None else p.reshape(*[1] * lead, *sizes) for p in params.values()]
    return tuple(range(lead, x.ndim)), whole


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised over the last dimensions: (x − mean)/√(var + eps)·weight + bias.

    Shape: (…, *normalized_shape) -> the same; weight and bias: normalized_shape

    Raises:
        OpError: the shapes don't fit.

    Paper: Ba et al. 2016, arXiv:1607.06450.

    >>> import toumei as tm
    >>> tm.layer_norm(tm.tensor([[1.0, 3.0]]), (2,), eps=0.0)
    tensor([[-1.,  1.]])
    """
    dim, (w, b) = _trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return normalize_over(input, dim, eps, w, b)[0]


def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer norm; also returns the mean and 1/√(var + eps), with the normalised dimensions as 1."""
    dim, (w, b) = _trailing("native_layer_norm", input, normalized_shape, weight=weight, bias=bias)
    y, mean, var = normalize_over(input, dim, eps, w, b)
    return y, mean, 1 / (var + eps).sqrt()


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x/√(mean(x²) + eps)·weight over the last dimensions.

    Shape: (…, *normalized_shape) -> the same

    Args:
        eps: None takes the machine epsilon of the input's dtype.

    Paper: Zhang & Sennrich 2019, arXiv:1910.07467.
    """
    dim, (w,) = _trailing("rms_norm", input, normalized_shape, weight=weight)
    if eps is None:
        need_float = input if input.is_floating_point() else input.float()
        eps = float(np.finfo(need_float.dtype).eps)
    return normalize_over(input, dim, eps, w, None, center=False)[0]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised per channel over the batch: (x − mean)/√(var + eps)·weight + bias.

    In training the batch's mean and variance are taken, and the running ones move towards them
    in place: running ← (1 − momentum)·running + momentum·batch (the unbiased variance).
    Otherwise the running ones are taken.

    Shape: (n, c, …) -> (n, c, …); all parameters: (c)

    Raises:
        OpError: the shapes don't fit, running statistics are missing outside training, there is
            a single number per channel in training, or eps isn't positive.

    Paper: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return _batch_norm(
        "batch_norm", input, running_mean, running_var, weight, bias, training, momentum, eps
    )[0]


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm; also returns the batch's mean and 1/√(var + eps), both empty outside training."""
    y, mean, var = _batch_norm(
        "native_batch_norm", input, running_mean, running_var, weight, bias, training, momentum, eps
    )
    if mean is None or var is None:
        return y, zeros(0, dtype=input.dtype), zeros(0, dtype=input.dtype)
    return y, mean.reshape(-1), (1 / (var + eps).sqrt()).reshape(-1)


def _batch_norm(
    name: str,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | Tensor,
    eps: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if eps < 0 or (training and not eps):
        raise OpError(f"{name}: eps must be positive, and 0 only outside training, not {eps}")
    if x.ndim == 1 and not x.shape[0]:  # PyTorch takes this one shape without channels
        return x.clone(), None, None
    fixed_mean, fixed_var, w, b = _per_channel(
        name, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not training:
        return _fixed_norm(name, x, fixed_mean, fixed_var, w, b, eps), None, None
    dim = tuple(d for d in range(x.ndim) if d != 1)
    n = count_along(x.shape, dim)
    if n == 1:
        raise OpError(
            f"{name}({spec_of(x)}): one number per channel has no variance: training needs a "
            "larger batch (or call eval() first)"
        )
    y, mean, var = normalize_over(x, dim, eps, w, b)
    if n:  # an empty batch has no mean
        _update(running_mean, mean.reshape(-1), momentum)
        _update(running_var, var.reshape(-1) * (n / (n - 1)), momentum)
    return y, mean, var


def _update(running: Tensor | None, value: Tensor, momentum: float | Tensor) -> None:
    """Move running statistics towards the batch's, in place and outside of the graph."""
    if running is not None:
        with grad_mode(False):
            running.copy_(running * (1 - momentum) + value.detach() * momentum)


def _fixed_norm(
    name: str,
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalise by given statistics: one scale and one shift per channel, all broadcasting to x."""
    if mean is None or var is None:
        raise OpError(
            f"{name}({spec_of(x)}): without batch statistics it needs running_mean and running_var"
        )
    scale = 1 / (var + eps).sqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return x * scale + (shift if bias is None else shift + bias)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised per instance and channel.  Shape: (n, c, …) -> (n, c, …); parameters: (c)

    Args:
        use_input_stats: False takes the running statistics, as batch_norm does.

    Raises:
        OpError: the shapes don't fit, or there is a single number per instance and channel.

    Paper: Ulyanov et al. 2016, arXiv:1607.08022.
    """
    name = "instance_norm"
    fixed_mean, fixed_var, w, b = _per_channel(
        name, input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not use_input_stats:
        return _fixed_norm(name, input, fixed_mean, fixed_var, w, b, eps)
    dim = tuple(range(2, input.ndim))
    n = count_along(input.shape, dim)
    if n == 1:
        raise OpError(f"{name}({spec_of(input)}): a single number per channel has no variance")
    y, mean, var = normalize_over(input, dim, eps, w, b)
    channels = input.shape[:2]
    _update(running_mean, mean.reshape(channels).mean(0), momentum)
    _update(running_var, var.reshape(channels).mean(0) * (n / max(n - 1, 1)), momentum)
    return y


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised per instance and group of channels.  Shape: (n, c, …) -> the same; parameters: (c)

    Raises:
        OpError: the channels can't be divided into `num_groups`, or the shapes don't fit.

    Paper: Wu & He 2018, arXiv:1803.08494.
    """
    _check_channels("group_norm", input, weight=weight, bias=bias)
    return _group_norm(input, num_groups, weight, bias, eps)[0]


def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm; also returns each group's mean and 1/√(var + eps).  Shape: (n, group)"""
    if input.numel() != N * C * HxW:
        raise OpError(
            f"native_group_norm({spec_of(input)}): it hasn't N·C·HxW = {N}·{C}·{HxW} elements"
        )
    y, mean, var = _group_norm(input, group, weight, bias, eps)
    return y, mean.reshape(N, group), (1 / (var + eps).sqrt()).reshape(N, group)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    n, c = x.shape[:2]
    if groups < 1 or c % groups:
        raise OpError(
            f"group_norm({spec_of(x)}): {c} channels can't be divided into {groups} groups"
        )
    size = c // groups
    grouped = x.reshape(n, groups, size, math.prod(x.shape[2:]))
    w, b = (None if p is None else p.reshape(1, groups, size, 1) for p in (weight, bias))
    y, mean, var = normalize_over(grouped, (2, 3), eps, w, b)
    return y.reshape(x.shape), mean, var


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x/(k + α·mean of x² over `size` neighbouring channels)^β; channels outside count as 0.

    Shape: (n, c, …) -> (n, c, …)

    Raises:
        OpError: the input has fewer than three dimensions.

    Paper: Krizhevsky et al. 2012.
    """
    if input.ndim < 3:
        raise OpError(
            f"local_response_norm({spec_of(input)}): the input needs at least 3 dimensions"
        )
    if input.numel() == 0:
        return input.clone()
    n, c, *rest = input.shape
    squares = input * input
    before, after = (
        zeros((n, width, *rest), dtype=input.dtype) for width in (size // 2, (size - 1) // 2)
    )
    padded = cat([before, squares, after], dim=1)
    total = padded[:, :c]
    for i in range(1, size):
        total = total + padded[:, i : i + c]
    return input / (total * (alpha / size) + k) ** beta
