"""Padding: constants, reflections or copies around the last dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import apply, spec_of
from .axismap import mapped_along
from .windows import Pads, padded

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["pad"]


@op
class Pad(Indexing):
    """y = x with `value` around its last dimensions; negative padding takes elements away"""

    pads: Pads
    value: float = 0.0

    def forward(self, xp: Any, x: Array) -> Array:
        self.infer(Spec(x.shape, x.dtype))
        y = padded(x, self.pads, self.value)
        return y.copy(order="K") if np.may_share_memory(x, y) else y

    def infer(self, x: Spec) -> Spec:
        lead = x.ndim - len(self.pads)
        if lead < 0:
            raise Refused(f"{len(self.pads)} dimensions to pad, but x has {x.ndim}")
        sizes = x.shape[lead:]
        for d, (n, (lo, hi)) in enumerate(zip(sizes, self.pads, strict=True), start=lead):
            if max(-lo, 0) + max(-hi, 0) > n:
                raise Refused(f"dim {d} has {n} elements: too few for padding {lo} and {hi}")
        grown = (n + lo + hi for n, (lo, hi) in zip(sizes, self.pads, strict=True))
        return Spec((*x.shape[:lead], *grown), x.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(Pad(tuple((-lo, -hi) for lo, hi in self.pads)), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(((1, 2),), 3.0), (rng.normal(size=(2, 3)),))
        yield Case(cls(((-1, 2), (0, -2))), (rng.normal(size=(2, 3, 4)),))
        yield Case(cls(((0, 0),)), (rng.normal(size=(0, 3)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(((-2, -2),)), (np.zeros(3),)), "dim 0 has 3 elements"


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """The input with more elements around its last dimensions, or fewer.

    Shape: (…, h, w) -> (…, h + top + bottom, w + left + right) for pad = (left, right, top, bottom)

    Args:
        input: any number of dimensions.
        pad: (before, after) of the last dimension, then of the one before it, and so on;
            negative numbers take elements away.
        mode: "constant", "reflect" (without repeating the edge), "replicate" (the edge) or
            "circular" (from the other end).
        value: the number that "constant" puts in (default: 0).

    Raises:
        OpError: the mode is unknown, there are too many numbers, or a dimension is too small.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.pad(tm.tensor([[1, 2, 3]]), (2, 1), mode="reflect")
    tensor([[3, 2, 1, 2, 3, 2]])
    """
    numbers = [int(p) for p in pad]
    call = f"pad({spec_of(input)}, pad={tuple(numbers)}, mode={mode!r})"
    if len(numbers) % 2 or len(numbers) > 2 * input.ndim:
        raise OpError(f"{call}: pad needs two numbers for each of at most {input.ndim} dimensions")
    pairs = tuple(zip(numbers[0::2], numbers[1::2], strict=True))
    if mode == "constant":
        return apply(Pad(pairs[::-1], float(value or 0)), input)
    if mode not in ("reflect", "replicate", "circular"):
        raise OpError(f"{call}: mode must be 'constant', 'reflect', 'replicate' or 'circular'")
    if value:
        raise OpError(f"{call}: value={value} has a meaning only in mode 'constant'")
    if input.ndim not in (len(pairs) + 1, len(pairs) + 2):
        raise OpError(f"{call}: {len(pairs)} dimensions to pad need an input of one or two more")
    y = input
    for d, (lo, hi) in enumerate(pairs, start=1):
        n = input.shape[-d]
        _check_room(call, mode, input.ndim - d, n, lo, hi)
        if lo or hi:
            y = mapped_along(y, input.ndim - d, (mode, n, lo, hi))
    return y if y is not input else input.clone()


def _check_room(call: str, mode: str, dim: int, n: int, lo: int, hi: int) -> None:
    """Refuse padding for which the input doesn't have the elements."""
    most = {"reflect": n - 1, "circular": n, "replicate": max(lo, hi) if n else 0}[mode]
    if max(lo, hi) > most:
        raise OpError(f"{call}: dim {dim} has {n} elements: at most {most}, not {max(lo, hi)}")
    if n + lo + hi <= 0:
        raise OpError(f"{call}: dim {dim} has {n} elements: nothing would be left of it")
