"""The ops of pooling: the largest, or the sum, of windows that slide over the last dimensions.

Families closed under differentiation: SumWindows / SpreadWindows, and TakeTaps / PutTaps.  The
largest element of each window is found again, when a gradient wants it, as its *tap*: its place in
the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import apply
from .windows import Pads, Sizes, Slices, padded, taps, window_count

if TYPE_CHECKING:
    from ..tensor import Tensor


class Pooling(Indexing):
    """How the window moves over the last dimensions, of size `sizes`."""

    sizes: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Pads
    dilation: Sizes

    def counts(self) -> Sizes:
        """Return how many windows there are along each dimension."""
        return window_count(self.sizes, self.kernel, self.stride, self.padding, self.dilation)

    def taps(self) -> Iterator[tuple[int, Slices]]:
        """Yield (number, where it stands in the padded input) of each place in the window."""
        places = taps(self.kernel, self.counts(), self.stride, self.dilation)
        return enumerate((Ellipsis, *place) for place in places)

    def other(self, cls: type[Pooling]) -> Pooling:
        """Return another op of the family with the same windows."""
        return cls(self.sizes, self.kernel, self.stride, self.padding, self.dilation)

    def pooled(self, x: Spec, dtype: Any = None) -> Spec:
        """Return the Spec of one number per window."""
        lead = len(x.shape) - len(self.sizes)
        if x.shape[lead:] != self.sizes:
            raise Refused(f"the windows are made for sizes {self.sizes}, x has {x.shape[lead:]}")
        return Spec((*x.shape[:lead], *self.counts()), dtype or x.dtype)

    def full(self, g: Spec) -> Spec:
        """Return the Spec of what the windows, one number each in g, were taken from."""
        lead = len(g.shape) - len(self.sizes)
        if g.shape[lead:] != self.counts():
            raise Refused(f"there are {self.counts()} windows, but {g.shape[lead:]} values")
        return Spec((*g.shape[:lead], *self.sizes), g.dtype)

    def surrounded(self, x: Array, value: float = 0.0) -> Array:
        """Return x with its padding; refuses other sizes than the windows are made for."""
        self.pooled(Spec(x.shape, x.dtype))
        return padded(x, self.padding, value)

    def grown(self, g: Array) -> Array:
        """Return zeros for the padded input, in the memory order of g."""
        sizes = [n + lo + hi for n, (lo, hi) in zip(self.sizes, self.padding, strict=True)]
        total = np.empty_like(g, shape=(*g.shape[: g.ndim - len(sizes)], *sizes))
        total.fill(0)
        return total

    def cropped(self, total: Array) -> Array:
        """Return the padded input without its padding."""
        return padded(total, tuple((-lo, -hi) for lo, hi in self.padding))

    @classmethod
    def examples(cls) -> Iterator[Pooling]:
        yield cls((5,), (2,), (2,), ((0, 0),), (1,))
        yield cls((4, 5), (2, 3), (1, 2), ((0, 1), (1, 1)), (2, 1))
        yield cls((2, 3, 4), (1, 2, 2), (1, 1, 2), ((0, 0), (1, 0), (0, 0)), (1, 1, 1))


def _distinct(rng: np.random.Generator, shape: Sizes) -> Array:
    """Return numbers that differ from each other by 0.1 or more: no ties."""
    return rng.permutation(prod(shape)).reshape(shape) * 0.1 - 1


@op
class MaxPool(Pooling):
    """y = max of each window, NaN if one is in it;   the gradient goes to the first largest"""

    def forward(self, xp: Any, x: Array) -> Array:
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        full = self.surrounded(x, lowest)
        places = self.taps()
        y = full[next(places)[1]].copy(order="K")
        for _, place in places:
            xp.maximum(y, full[place], out=y)
        return y

    def infer(self, x: Spec) -> Spec:
        return self.pooled(x)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return apply(self.other(PutTaps), gy, apply(self.other(MaxTaps), x, y))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            yield Case(example, (_distinct(rng, (2, 3, *example.sizes)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((2,), (3,), (1,), ((0, 0),), (1,)), (np.zeros((1, 2)),)), "kernel of size 3"


@op
class MaxTaps(Pooling):
    """The tap at which each window of x first has its largest value y"""

    def forward(self, xp: Any, x: Array, y: Array) -> Array:
        lowest = np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        full = self.surrounded(x, lowest)
        found = np.empty_like(y, dtype=self.tap_dtype())
        found.fill(0)
        before = np.ones_like(y, dtype=bool)  # the first largest is at none of the taps so far
        for _, place in list(self.taps())[:-1]:
            before &= full[place] != y
            found += before  # counts those taps: many times faster than a masked copy
        if np.isnan(y).any():
            full = self.surrounded(x)
            for tap, place in self.taps():
                xp.copyto(found, tap, where=np.isnan(full[place]))
        return found

    def tap_dtype(self) -> Any:
        """Return the smallest dtype that holds the number of any tap."""
        return np.dtype("uint8" if prod(self.kernel) <= 256 else "int32")

    def infer(self, x: Spec, y: Spec) -> Spec:
        return self.pooled(x, self.tap_dtype())

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            x = _distinct(rng, (2, 3, *example.sizes))
            yield Case(example, (x, example.other(MaxPool).forward(np, x)))


@op
class TapIndices(Pooling):
    """The index, in the flattened last dimensions, of the element that stands at a window's tap"""

    def forward(self, xp: Any, found: Array) -> Array:
        index = xp.zeros(found.shape, np.int64)
        steps = np.unravel_index(found, self.kernel)
        rank = len(self.sizes)
        for d, (n, s, (lo, _), dilation) in enumerate(
            zip(self.sizes, self.stride, self.padding, self.dilation, strict=True)
        ):
            start = np.arange(found.shape[found.ndim - rank + d]) * s - lo
            index *= n
            index += start.reshape(-1, *[1] * (rank - 1 - d)) + steps[d] * dilation
        return index

    def infer(self, found: Spec) -> Spec:
        return Spec(found.shape, np.dtype("int64"))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            yield Case(example, (rng.integers(0, 2, (2, *example.counts())).astype("uint8"),))


@op
class TakeTaps(Pooling):
    """y = the element of each window that stands at its tap"""

    def forward(self, xp: Any, x: Array, found: Array) -> Array:
        full = self.surrounded(x)
        y = np.empty_like(full, shape=found.shape)
        y.fill(0)
        for tap, place in self.taps():
            xp.copyto(y, full[place], where=found == tap)
        return y

    def infer(self, x: Spec, found: Spec) -> Spec:
        return self.pooled(x)

    def backward_x(self, gy: Tensor, found: Tensor) -> Tensor:
        return apply(self.other(PutTaps), gy, found)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            found = rng.integers(0, prod(example.kernel), (2, *example.counts())).astype("uint8")
            yield Case(example, (rng.normal(size=(2, *example.sizes)), found))


@op
class PutTaps(Pooling):
    """x = the sum of what each window puts at its tap, zero elsewhere"""

    def forward(self, xp: Any, g: Array, found: Array) -> Array:
        self.full(Spec(g.shape, g.dtype))
        total, zero = self.grown(g), g.dtype.type(0)
        for tap, place in self.taps():
            total[place] += xp.where(found == tap, g, zero)  # g may be infinite
        return self.cropped(total)

    def infer(self, g: Spec, found: Spec) -> Spec:
        return self.full(g)

    def backward_g(self, gy: Tensor, found: Tensor) -> Tensor:
        return apply(self.other(TakeTaps), gy, found)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            shape = (2, *example.counts())
            found = rng.integers(0, prod(example.kernel), shape).astype("uint8")
            yield Case(example, (rng.normal(size=shape), found))


@op
class SumWindows(Pooling):
    """y = Σ of each window"""

    def forward(self, xp: Any, x: Array) -> Array:
        full = self.surrounded(x)
        places = self.taps()
        y = full[next(places)[1]].copy(order="K")
        for _, place in places:
            y += full[place]
        return y

    def infer(self, x: Spec) -> Spec:
        return self.pooled(x)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self.other(SpreadWindows), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            yield Case(example, (rng.normal(size=(2, 3, *example.sizes)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((2,), (3,), (1,), ((0, 0),), (1,)), (np.zeros((1, 2)),)), "kernel of size 3"


@op
class SpreadWindows(Pooling):
    """x = Σ of the values of all windows that an element is in"""

    def forward(self, xp: Any, g: Array) -> Array:
        self.full(Spec(g.shape, g.dtype))
        total = self.grown(g)
        for _, place in self.taps():
            total[place] += g
        return self.cropped(total)

    def infer(self, g: Spec) -> Spec:
        return self.full(g)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self.other(SumWindows), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for example in cls.examples():
            yield Case(example, (rng.normal(size=(2, *example.counts())),))
