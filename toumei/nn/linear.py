"""Layers of one matrix product, and layers that only change the shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ModuleError
from ..ops.creation import empty
from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .module import Module

__all__ = ["Bilinear", "Flatten", "Identity", "Linear", "Unflatten"]


def new_parameter(*shape: int, dtype: Any = None) -> Parameter:
    """Return a parameter whose numbers are not set yet."""
    return Parameter(empty(*shape, dtype=dtype))


def check_sizes(layer: str, **sizes: Any) -> None:
    """Refuse a number of features that isn't a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ModuleError(f"{layer}: {name} must be a positive integer, got {size!r:.60}")


class Identity(Module):
    """y = x: a place holder.  It takes any arguments.  Shape: (…) -> (…)"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """y = x·weightᵀ + bias.

    Weight and bias start uniform in ±1/√in_features.

    Shape: (…, in_features) -> (…, out_features);  weight (out_features, in_features)

    Args:
        in_features: size of each input.
        out_features: size of each output.
        bias: whether to add a learnt bias.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Linear(3, 2)(tm.ones(5, 3)).shape
    Size([5, 2])
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None
    ) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = new_parameter(out_features, in_features, dtype=dtype)
        self.bias = new_parameter(out_features, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            init.uniform_(self.bias, *init.symmetric(self.in_features**-0.5))

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"


class Bilinear(Module):
    """yₖ = aᵀ·weightₖ·b + biasₖ.

    Shape: (…, in1_features), (…, in2_features) -> (…, out_features);
        weight (out_features, in1_features, in2_features)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Bilinear(3, 4, 2)(tm.ones(5, 3), tm.ones(5, 4)).shape
    Size([5, 2])
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        check_sizes("Bilinear", in1=in1_features, in2=in2_features, out_features=out_features)
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = new_parameter(out_features, in1_features, in2_features, dtype=dtype)
        self.bias = new_parameter(out_features, dtype=dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights, uniform in ±1/√in1_features."""
        for t in self.parameters():
            init.uniform_(t, *init.symmetric(self.in1_features**-0.5))

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Flatten(Module):
    """Joins the dimensions from `start_dim` to `end_dim` into one.  Shape: (N, …) -> (N, n)"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits dimension `dim` into several.  Shape: (…, n, …) -> (…, *unflattened_size, …)"""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
