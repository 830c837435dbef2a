"""Dropout: elements, or whole channels, left out by chance while training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import Generator
from ..errors import OpError, OpTypeError
from ..op import Array, Case, op
from ..tape import apply, spec_of
from ..views import assign
from . import philox
from .arithmetic import mul
from .draws import Draw
from .random import key_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]

_ALPHA = 1.7580993408473766  # −SELU's limit at −∞: what alpha dropout puts in an element's place


@op
class DropMask(Draw):
    """y = 0 with probability p, else `kept`

    A word serves two elements, as it is and with its halves exchanged: each is dropped with a
    probability exact to 2⁻³², and that of both differs from p² by less than 2⁻¹⁵.
    """

    p: float = 0.5
    kept: float = 1.0

    def forward(self, xp: Any, key: Array) -> Array:
        if self.p == 1:
            return xp.zeros(self.shape, self.dtype)
        pairs: Array = xp.empty((-(-self.count // 2), 2), self.dtype)
        limit = np.uint32(min(round(self.p * 2**32), 2**32 - 1))
        kept, half = self.dtype.type(self.kept), np.uint32(16)
        for place, words in philox.word_chunks(key, len(pairs)):
            xp.multiply(words >= limit, kept, out=pairs[place, 0])
            turned = (words << half) | (words >> half)
            xp.multiply(turned >= limit, kept, out=pairs[place, 1])
        return pairs.reshape(-1)[: self.count].reshape(self.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for p in (0.0, 0.3, 1.0):
            yield Case(cls((3, 4), np.dtype("float32"), p, 2.0), (np.array([7, 3]),))


def _check(name: str, input: Tensor, p: float) -> None:
    if not 0 <= p <= 1:
        raise OpError(f"{name}({spec_of(input)}): p is a probability, 0 to 1, not {p}")
    if input.dtype.kind != "f":
        raise OpTypeError(f"{name}({spec_of(input)}): the input must be floating-point")


def _drop(
    input: Tensor, shape: tuple[int, ...], p: float, inplace: bool, generator: Generator | None
) -> Tensor:
    """Multiply with a mask of `shape`, which broadcasts."""
    kept = 0.0 if p == 1 else 1 / (1 - p)
    y = mul(input, apply(DropMask(shape, input.dtype, float(p), kept), key_of(generator)))
    return assign(input, y, "dropout_") if inplace else y


def _channels(input: Tensor) -> tuple[int, ...]:
    """Return the shape of a mask with one element per sample and channel."""
    return (*input.shape[:2], *[1] * (input.ndim - 2))


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Each element is 0 with probability p, else divided by 1 − p; nothing changes if not training.

    Shape: (…) -> (…)

    Args:
        input: floating-point.
        p: the probability of an element to be dropped.
        training: whether to drop at all.
        inplace: whether the result takes the place of the input's value.
        generator: where the mask's key comes from.

    Raises:
        OpError: p lies outside of 0 to 1.

    Paper: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    JMLR 2014.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.dropout(tm.ones(3), p=1.0)
    tensor([0., 0., 0.])
    """
    _check("dropout", input, p)
    if not training or p == 0:
        return input
    return _drop(input, tuple(input.shape), p, inplace, generator)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Whole channels are 0 with probability p, the others divided by 1 − p.

    Shape: (n, c, l) -> (n, c, l);  (c, l) -> (c, l)
    """
    _check("dropout1d", input, p)
    return _drop_channels("dropout1d", input, 1, p, training, inplace, generator)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Whole channels are 0 with probability p, the others divided by 1 − p.

    Shape: (n, c, h, w) -> (n, c, h, w);  three dimensions are (n, c, l), as in PyTorch
    """
    _check("dropout2d", input, p)
    if input.ndim not in (3, 4):
        raise OpError(f"dropout2d({spec_of(input)}): expected (n, c, h, w) or (n, c, l)")
    return _drop(input, _channels(input), p, inplace, generator) if training and p else input


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Whole channels are 0 with probability p, the others divided by 1 − p.

    Shape: (n, c, d, h, w) -> (n, c, d, h, w);  (c, d, h, w) -> (c, d, h, w)
    """
    _check("dropout3d", input, p)
    return _drop_channels("dropout3d", input, 3, p, training, inplace, generator)


def _drop_channels(
    name: str, input: Tensor, rank: int, p: float, training: bool, inplace: bool,
    generator: Generator | None,
) -> Tensor:  # fmt: skip
    if input.ndim not in (rank + 1, rank + 2):
        raise OpError(f"{name}({spec_of(input)}): expected {rank + 1} or {rank + 2} dimensions")
    if not training or p == 0:
        return input
    batched = input.ndim == rank + 2
    shape = _channels(input) if batched else (input.shape[0], *[1] * rank)
    return _drop(input, shape, p, inplace, generator)


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Dropped elements become SELU's limit −λα, and all are rescaled: mean and variance stay.

    y = a·(x·m − λα·(1 − m)) + b,  a = ((1 − p)(1 + p·(λα)²))^−½,  b = a·p·λα

    Shape: (…) -> (…)

    Paper: Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.
    """
    _check("alpha_dropout", input, p)
    return _drop_alpha(input, tuple(input.shape), p, training, inplace, generator)


def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Alpha dropout of whole channels.  Shape: (n, c, …) -> (n, c, …)"""
    _check("feature_alpha_dropout", input, p)
    if training and p and input.ndim < 2:
        raise OpError(f"feature_alpha_dropout({spec_of(input)}): expected (n, c, …)")
    return _drop_alpha(input, _channels(input), p, training, inplace, generator)


def _drop_alpha(
    input: Tensor, shape: tuple[int, ...], p: float, training: bool, inplace: bool,
    generator: Generator | None,
) -> Tensor:  # fmt: skip
    if not training or p == 0:
        return input
    if p == 1:
        y = input * 0
    else:
        scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
        mask: Tensor = apply(DropMask(shape, input.dtype, float(p), scale), key_of(generator))
        y = input * mask + (mask * _ALPHA + (p - 1) * scale * _ALPHA)
    return assign(input, y, "alpha_dropout_") if inplace else y
