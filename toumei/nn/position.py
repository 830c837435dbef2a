"""Positions: what tells a model of attention where in a sequence it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import get_default_dtype
from ..errors import ModuleError
from ..ops.creation import from_numpy
from ..tensor import Buffer, Tensor
from . import functional as F
from . import init
from .linear import check_sizes, new_parameter
from .module import Module

__all__ = ["LearnedPosition", "SinusoidalPosition"]


def sinusoids(length: int, d_model: int) -> np.ndarray[Any, Any]:
    """Return sines (even features) and cosines (odd ones) of each position, (length, d_model)."""
    even = np.arange(0, d_model, 2)
    angles = np.arange(length)[:, None] / 10000 ** (even / d_model)
    table = np.empty((length, d_model))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : d_model // 2])
    return table


class _Position(Module):
    """Adds row i of a table to position i of every sequence."""

    def __init__(
        self, d_model: int, dropout: float, max_len: int, batch_first: bool, table: Tensor
    ) -> None:
        if not 0 <= dropout <= 1:
            raise ValueError(f"{type(self).__name__}: dropout is a probability, 0 to 1: {dropout}")
        self.d_model = d_model
        self.dropout = dropout
        self.max_len = max_len
        self.batch_first = batch_first
        self.weight = table

    def forward(self, input: Tensor) -> Tensor:
        rows = self.weight[: self._length(input)]
        if input.ndim == 3 and not self.batch_first:
            rows = rows.unsqueeze(1)
        return F.dropout(input + rows, self.dropout, self.training)

    def _length(self, input: Tensor) -> int:
        """Return the sequences' length, after a check that the table fits."""
        name, shape = type(self).__name__, tuple(input.shape)
        if len(shape) not in (2, 3) or shape[-1] != self.d_model:
            order = "(N, L, d_model)" if self.batch_first else "(L, N, d_model)"
            raise ModuleError(
                f"{name}: the input has the shape {shape}, not {order} or (L, d_model) with "
                f"d_model = {self.d_model}"
            )
        length = shape[1] if len(shape) == 3 and self.batch_first else shape[0]
        if length > self.max_len:
            order = "first" if self.batch_first else "second"
            raise ModuleError(
                f"{name}: a sequence of {length} positions, but the table ends at max_len = "
                f"{self.max_len}. Make it longer, or is the batch not the {order} dimension?"
            )
        return length

    def extra_repr(self) -> str:
        return (
            f"d_model={self.d_model}, dropout={self.dropout}, max_len={self.max_len}, "
            f"batch_first={self.batch_first}"
        )


class SinusoidalPosition(_Position):
    """y = x + table[i] with table[i, 2k] = sin(i/10000^(2k/d)), table[i, 2k+1] = cos(the same).

    The table `weight` is a buffer that isn't part of the `state_dict`.

    Shape: (L, N, d_model) -> (L, N, d_model); N comes first with `batch_first`, and may be left out

    Args:
        d_model: features d of the input.
        dropout: the probability of an element of the sum to be left out in training.
        max_len: positions that there are.
        batch_first: the batch is the first dimension, not the second.
        dtype: of the table; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer; forward: a sequence is longer than max_len,
            or the features aren't d_model.

    Paper: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762, section 3.5

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.SinusoidalPosition(2, max_len=3)(tm.zeros(3, 2))
    tensor([[ 0.    ,  1.    ],
            [ 0.8415,  0.5403],
            [ 0.9093, -0.4161]])
    """

    def __init__(
        self,
        d_model: int,
        dropout: float = 0.0,
        max_len: int = 5000,
        batch_first: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        check_sizes("SinusoidalPosition", d_model=d_model, max_len=max_len)
        table = from_numpy(sinusoids(max_len, d_model)).to(dtype or get_default_dtype())
        super().__init__(d_model, dropout, max_len, batch_first, Buffer(table, persistent=False))


class LearnedPosition(_Position):
    """y = x + weight[i]: a learnt vector for each position i, from a normal distribution.

    Shape: (L, N, d_model) -> (L, N, d_model); N comes first with `batch_first`, and may be left
        out;  weight (max_len, d_model)

    Args:
        d_model: features of the input.
        max_len: positions that there are.
        dropout: the probability of an element of the sum to be left out in training.
        batch_first: the batch is the first dimension, not the second.
        std: standard deviation of the weights at the start.
        dtype: of the weights; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer; forward: a sequence is longer than max_len,
            or the features aren't d_model.

    Paper: Devlin et al., "BERT" (2019), arXiv:1810.04805; Gehring et al. (2017), arXiv:1705.03122

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.LearnedPosition(8, max_len=16, batch_first=True)(tm.ones(3, 5, 8)).shape
    Size([3, 5, 8])
    """

    def __init__(
        self,
        d_model: int,
        max_len: int,
        dropout: float = 0.0,
        batch_first: bool = False,
        *,
        std: float = 0.02,
        dtype: Any = None,
    ) -> None:
        check_sizes("LearnedPosition", d_model=d_model, max_len=max_len)
        table = new_parameter(max_len, d_model, dtype=dtype)
        super().__init__(d_model, dropout, max_len, batch_first, table)
        self.std = std
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        init.normal_(self.weight, std=self.std)
