"""Windows as columns (unfold) and back (fold): each is the gradient of the other."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import apply, spec_of
from .windows import Pads, Sizes, ints, padded, taps, window_count, windows

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["fold", "unfold"]


class Folding(Indexing):
    """How the window of size `kernel` moves over the spatial dimensions of size `sizes`."""

    sizes: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Pads
    dilation: Sizes

    def counts(self) -> Sizes:
        """Return how many windows there are along each dimension."""
        return window_count(self.sizes, self.kernel, self.stride, self.padding, self.dilation)

    def other(self, cls: type[Folding]) -> Folding:
        """Return the op of the other direction."""
        return cls(self.sizes, self.kernel, self.stride, self.padding, self.dilation)

    @classmethod
    def examples(cls) -> Iterator[Folding]:
        yield cls((4, 5), (2, 3), (1, 2), ((0, 0), (1, 1)), (2, 1))
        yield cls((3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), (1, 1))


@op
class ImageToColumns(Folding):
    """unfold: y[n, (c, k), p] = x[n, c, stride·p + dilation·k − padding], zero outside"""

    name: ClassVar[str] = "unfold"

    def forward(self, xp: Any, x: Array) -> Array:
        counts, rank = self.counts(), len(self.kernel)
        shown = windows(padded(x, self.padding), 2, self.kernel, counts, self.stride, self.dilation)
        order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
        shape = (x.shape[0], x.shape[1] * prod(self.kernel), prod(counts))
        return np.ascontiguousarray(shown.transpose(order)).reshape(shape)

    def infer(self, x: Spec) -> Spec:
        shape = (x.shape[0], x.shape[1] * prod(self.kernel), prod(self.counts()))
        return Spec(shape, x.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self.other(ColumnsToImage), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            yield Case(example, (rng.normal(size=(2, 3, *example.sizes)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        plain = cls((2, 2), (3, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
        yield Case(plain, (np.zeros((1, 1, 2, 2)),)), "kernel of size 3 is larger"


@op
class ColumnsToImage(Folding):
    """fold: columns added into the places that `ImageToColumns` takes them from"""

    name: ClassVar[str] = "fold"

    def forward(self, xp: Any, x: Array) -> Array:
        channels = self.infer(Spec(x.shape, x.dtype)).shape[1]
        counts = self.counts()
        total_sizes = [n + lo + hi for n, (lo, hi) in zip(self.sizes, self.padding, strict=True)]
        cols = x.reshape(x.shape[0], channels, prod(self.kernel), *counts)
        total = xp.zeros((x.shape[0], channels, *total_sizes), x.dtype)
        for k, place in enumerate(taps(self.kernel, counts, self.stride, self.dilation)):
            total[:, :, *place] += cols[:, :, k]
        return np.ascontiguousarray(padded(total, tuple((-lo, -hi) for lo, hi in self.padding)))

    def infer(self, x: Spec) -> Spec:
        counts, per_channel = self.counts(), prod(self.kernel)
        if x.ndim != 3 or x.shape[2] != prod(counts):
            raise Refused(f"{prod(counts)} windows {counts} fit, but x has {x.shape[-1]} columns")
        if x.shape[1] % per_channel:
            raise Refused(
                f"{x.shape[1]} rows aren't a multiple of the window's {per_channel} elements"
            )
        return Spec((x.shape[0], x.shape[1] // per_channel, *self.sizes), x.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self.other(ImageToColumns), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            shape = (2, 3 * prod(example.kernel), prod(example.counts()))
            yield Case(example, (rng.normal(size=shape),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        plain = cls((2, 2), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))
        yield Case(plain, (np.zeros((1, 1, 5)),)), "4 windows (2, 2) fit, but x has 5"


# --- functions -----------------------------------------------------------------------------------


def _fields(name: str, kernel: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Any, ...]:
    pads = ints(name, "padding", padding, 2, 0)
    return (
        ints(name, "kernel_size", kernel, 2, 1),
        ints(name, "stride", stride, 2, 1),
        tuple((p, p) for p in pads),
        ints(name, "dilation", dilation, 2, 1),
    )


def unfold(
    input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The windows of a batch of images as columns.

    Shape: (n, c, h, w) -> (n, c·kh·kw, windows);  (c, h, w) -> (c·kh·kw, windows)

    Raises:
        OpError: the kernel is larger than the padded image.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.unfold(tm.ones(1, 2, 3, 3), 2).shape
    Size([1, 8, 4])
    """
    if input.ndim not in (3, 4):
        raise OpError(f"unfold({spec_of(input)}): expected (n, c, h, w) or (c, h, w)")
    fields = _fields("unfold", kernel_size, dilation, padding, stride)
    x = input if input.ndim == 4 else input.unsqueeze(0)
    y: Tensor = apply(ImageToColumns(tuple(x.shape[2:]), *fields), x)
    return y if input.ndim == 4 else y.squeeze(0)


def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """Columns added up in the places of an image from which `unfold` takes them.

    Shape: (n, c·kh·kw, windows) -> (n, c, h, w);  (c·kh·kw, windows) -> (c, h, w)

    Raises:
        OpError: the number of columns isn't the number of windows, or the rows can't be split.
    """
    if input.ndim not in (2, 3):
        raise OpError(f"fold({spec_of(input)}): expected (n, c·kh·kw, windows)")
    fields = _fields("fold", kernel_size, dilation, padding, stride)
    x = input if input.ndim == 3 else input.unsqueeze(0)
    y: Tensor = apply(ColumnsToImage(ints("fold", "output_size", output_size, 2, 1), *fields), x)
    return y if input.ndim == 3 else y.squeeze(0)
