"""How parameters start.  Each function fills a tensor in place, outside of the graph.

fan_in and fan_out, the numbers of inputs and outputs of one unit, are read off the shape
(out, in, *kernel): fan_in = in·∏kernel, fan_out = out·∏kernel.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from ..config import grad_mode
from ..device import Generator
from ..errors import OpError
from ..ops.random import rand, randn, randperm
from ..tape import spec_of
from ..tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Source: TypeAlias = Generator | None

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through a non-linearity.

    Args:
        nonlinearity: "linear", "conv2d" …, "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope of "leaky_relu" (0.01 if None).

    >>> calculate_gain("leaky_relu", 2.0)
    0.6324555320336759
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"calculate_gain: negative_slope must be a number, got {slope!r}")
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join([*_GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: no gain for {nonlinearity!r}; there is {known}")
    return _GAINS[nonlinearity]


def symmetric(bound: float) -> tuple[float, float]:
    """Return (−bound, bound)."""
    return -bound, bound


def _fill(tensor: Tensor, values: Any) -> Tensor:
    with grad_mode(False):
        return tensor.copy_(values)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one number.  Shape: (…) -> (…)"""
    return _fill(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones.  Shape: (…) -> (…)"""
    return _fill(tensor, 1)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros.  Shape: (…) -> (…)"""
    return _fill(tensor, 0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Source = None) -> Tensor:
    """Draw from the uniform distribution over [a, b).  Shape: (…) -> (…)"""
    drawn = rand(tuple(tensor.shape), generator=generator, dtype=tensor.dtype)
    return _fill(tensor, drawn * (b - a) + a)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Source = None
) -> Tensor:
    """Draw from the normal distribution N(mean, std²).  Shape: (…) -> (…)"""
    drawn = randn(tuple(tensor.shape), generator=generator, dtype=tensor.dtype)
    return _fill(tensor, drawn * std + mean)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Source = None,
) -> Tensor:
    """Draw from N(mean, std²) what lies within [a, b].  Shape: (…) -> (…)

    x = mean + std·√2·erf⁻¹(u), u uniform between erf((a − mean)/(std·√2)) and that of b.
    """
    low, high = (math.erf((bound - mean) / (std * math.sqrt(2))) for bound in (a, b))
    drawn = rand(tuple(tensor.shape), generator=generator, dtype="float64")
    values = (drawn * (high - low) + low).erfinv() * (std * math.sqrt(2)) + mean
    return _fill(tensor, values.clamp(a, b))


def eye_(tensor: Tensor) -> Tensor:
    """Fill with the identity matrix: ones on the diagonal.  Shape: (n, m) -> (n, m)"""
    _need_dims("eye_", tensor, 2, 2)
    return _fill(tensor, np.eye(*tensor.shape))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Make a convolution hand its channels through.  Shape: (out, in, *kernel) -> the same

    The middle of kernel (c, c) of each group is one, everything else zero.
    """
    _need_dims("dirac_", tensor, 3, 5)
    out, channels, *kernel = tensor.shape
    if out % groups:
        raise OpError(f"dirac_: {out} output channels can't be split into {groups} groups")
    values = np.zeros(tensor.shape)
    middle = tuple(n // 2 for n in kernel)
    for group in range(groups):
        for c in range(min(out // groups, channels)):
            values[(group * (out // groups) + c, c, *middle)] = 1
    return _fill(tensor, values)


def fans(tensor: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out)."""
    if tensor.ndim < 2:
        raise OpError(
            f"an initialiser that goes by fan_in and fan_out needs at least 2 dimensions, "
            f"not {spec_of(tensor)}"
        )
    out, channels, *kernel = tensor.shape
    return channels * math.prod(kernel), out * math.prod(kernel)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """Draw uniformly from ±gain·√(6/(fan_in + fan_out)).  Shape: (out, in, …) -> the same

    Paper: Glorot & Bengio, "Understanding the difficulty of training deep networks" (2010)
    """
    return uniform_(tensor, *symmetric(gain * math.sqrt(6 / sum(fans(tensor)))), generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """Draw from N(0, σ²), σ = gain·√(2/(fan_in + fan_out)).  Shape: (out, in, …) -> the same

    Paper: Glorot & Bengio, "Understanding the difficulty of training deep networks" (2010)
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Source = None,
) -> Tensor:
    """Draw uniformly from ±gain·√(3/fan).  Shape: (out, in, …) -> the same

    Args:
        tensor: the weight to fill.
        a: the negative slope of the leaky ReLU that follows.
        mode: "fan_in" keeps the variance going forward, "fan_out" going backward.
        nonlinearity: what `calculate_gain` takes.
        generator: where the numbers come from; the default one if None.

    Paper: He et al., "Delving Deep into Rectifiers" (2015)
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, *symmetric(bound), generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Source = None,
) -> Tensor:
    """Draw from N(0, σ²), σ = gain/√fan; see `kaiming_uniform_`.  Shape: (out, in, …) -> same"""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Source = None) -> Tensor:
    """Fill with gain times a random orthogonal matrix (rows out, columns all the rest).

    Shape: (out, in, …) -> the same
    Paper: Saxe et al., "Exact solutions to the nonlinear dynamics of learning" (2013)
    """
    _need_dims("orthogonal_", tensor, 2, None)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    drawn = randn(max(rows, columns), min(rows, columns), generator=generator, dtype="float64")
    q, r = np.linalg.qr(drawn.numpy())
    q = q * np.where(np.diagonal(r) < 0, -1, 1)  # makes the distribution uniform
    return _fill(tensor, (q if rows >= columns else q.T).reshape(tensor.shape) * gain)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Source = None) -> Tensor:
    """Draw from N(0, std²) and set ⌈sparsity·rows⌉ numbers of each column to zero.

    Shape: (n, m) -> (n, m)
    Paper: Martens, "Deep learning via Hessian-free optimization" (2010)
    """
    _need_dims("sparse_", tensor, 2, 2)
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    values = randn(rows, columns, generator=generator, dtype=tensor.dtype).numpy() * std
    for column in range(columns):
        values[randperm(rows, generator=generator).numpy()[:zeros], column] = 0
    return _fill(tensor, values)


def _need_dims(name: str, tensor: Tensor, low: int, high: int | None) -> None:
    if tensor.ndim < low or (high is not None and tensor.ndim > high):
        wanted = f"{low}" if low == high else f"at least {low}" if high is None else f"{low}–{high}"
        raise OpError(f"{name}: needs {wanted} dimensions, got {spec_of(tensor)}")
