"""Dropout: layers that leave out at random while training, and nothing in evaluation."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from . import functional as F
from .function_layer import FunctionLayer

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _Dropout(FunctionLayer):
    """What the dropout layers share: the probability, and the mode."""

    p: float = 0.5
    inplace: bool = False

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p, inplace)
        if not 0 <= self.p <= 1:
            raise ValueError(f"{type(self).__name__}: p is a probability, 0 to 1, not {p}")

    def forward(self, input: Tensor) -> Any:
        return super().forward(input, training=self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout, of=F.dropout):
    """Sets each element to 0 with probability p and scales the others by 1/(1 − p).

    Shape: (…) -> (…)
    Paper: Hinton et al., "Improving neural networks by preventing co-adaptation" (2012)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Dropout(0.5).eval()(tm.ones(3))
    tensor([1., 1., 1.])
    """


class Dropout1d(_Dropout, of=F.dropout1d):
    """Leaves out whole channels with probability p.  Shape: (N, C, L) or (C, L) -> the same"""


class Dropout2d(_Dropout, of=F.dropout2d):
    """Leaves out whole channels with probability p.  Shape: (N, C, H, W) -> the same"""


class Dropout3d(_Dropout, of=F.dropout3d):
    """Leaves out whole channels with probability p.  Shape: (N, C, D, H, W) -> the same"""


class AlphaDropout(_Dropout, of=F.alpha_dropout):
    """Dropout that keeps mean 0 and variance 1 after SELU.  Shape: (…) -> (…)

    Paper: Klambauer et al., "Self-Normalizing Neural Networks" (2017)
    """


class FeatureAlphaDropout(_Dropout, of=F.feature_alpha_dropout):
    """Alpha dropout of whole channels.  Shape: (N, C, …) -> (N, C, …)"""
