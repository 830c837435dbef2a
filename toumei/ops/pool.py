"""Pooling: the largest, or the sum, of windows that slide over the last dimensions.

Families closed under differentiation: SumWindows / SpreadWindows, and TakeTaps / PutTaps.  The
largest element of each window is found again, when a gradient wants it, as its *tap*: its place in
the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import apply, spec_of, wrap
from .scattering import scatter
from .windows import Pads, Sizes, Slices, ints, padded, taps, window_count

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

MaxPooled: TypeAlias = "Tensor | tuple[Tensor, Tensor]"


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
        total = self.grown(g)
        for tap, place in self.taps():
            total[place] += g * (found == tap)
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


# --- functions -----------------------------------------------------------------------------------


def pooling_fields(
    name: str, rank: int, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """Return the fields of a pooling op, padded behind such that the windows fit exactly."""
    if x.ndim not in (rank + 1, rank + 2):
        raise OpError(f"{name}({spec_of(x)}): expected {rank + 1} or {rank + 2} dimensions")
    sizes = tuple(x.shape[x.ndim - rank :])
    k = ints(name, "kernel_size", kernel, rank, 1)
    empty = stride is None or (isinstance(stride, Sequence) and not stride)
    s = k if empty else ints(name, "stride", stride, rank, 1)
    p, d = ints(name, "padding", padding, rank, 0), ints(name, "dilation", dilation, rank, 1)
    for pad, size, step in zip(p, k, d, strict=True):
        if 2 * pad > step * (size - 1) + 1:
            raise OpError(f"{name}: padding {pad} is more than half of the kernel, which is {size}")
    pads = tuple(
        (lo, _pad_behind(name, d, n, size, step, lo, gap, ceil_mode))
        for d, (n, size, step, lo, gap) in enumerate(zip(sizes, k, s, p, d, strict=True))
    )
    return sizes, k, s, pads, d


def _pad_behind(
    name: str, dim: int, n: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool
) -> int:
    """Return the padding with which the last window ends at the end; below 0 it cuts off."""
    span = dilation * (kernel - 1) + 1
    room = n + 2 * pad - span
    if room < 0 and not (ceil_mode and room > -stride):
        raise OpError(
            f"{name}: the kernel of size {kernel}, {span} wide, is larger than the input along "
            f"spatial dim {dim}: {n} elements, {n + 2 * pad} with padding"
        )
    count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= n + pad:  # it would start in the padding behind
        count -= 1
    return (count - 1) * stride + span - n - pad


def _max_pool(
    rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> MaxPooled:  # fmt: skip
    name = f"max_pool{rank}d"
    fields = pooling_fields(name, rank, input, kernel_size, stride, padding, dilation, ceil_mode)
    y: Tensor = apply(MaxPool(*fields), input)
    if not return_indices:
        return y
    found = apply(MaxTaps(*fields), input.detach(), y.detach())
    return y, apply(TapIndices(*fields), found)


def max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest of each window over one dimension; see `max_pool2d`.

    Shape: (n, c, l) -> (n, c, l′);  (c, l) -> (c, l′)
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest of each window over two dimensions; NaN wins.

    Shape: (n, c, h, w) -> (n, c, h′, w′), with h′ = ⌊(h + 2·padding − span) / stride⌋ + 1 and
    span = dilation·(kernel_size − 1) + 1 (⌈ ⌉ if ceil_mode);  the batch n may be missing

    Args:
        input: samples.
        kernel_size: the window's size; a number, or one per dimension.
        stride: elements between neighbouring windows (default: kernel_size).
        padding: elements of −∞ on each side, at most half of the window.
        dilation: elements between neighbouring places of a window.
        ceil_mode: whether the last window may reach beyond the end.
        return_indices: whether to return, too, the index of each largest element in h × w.

    Raises:
        OpError: the window is larger than the padded input, or the padding larger than half of it.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.max_pool2d(tm.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPooled:
    """The largest of each window over three dimensions; see `max_pool2d`.

    Shape: (n, c, d, h, w) -> (n, c, d′, h′, w′);  (c, d, h, w) -> (c, d′, h′, w′)
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_unpool(
    rank: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any,
    output_size: Any,
) -> Tensor:  # fmt: skip
    name = f"max_unpool{rank}d"
    if input.shape != indices.shape or input.ndim not in (rank + 1, rank + 2):
        raise OpError(
            f"{name}(input: {spec_of(input)}, indices: {spec_of(indices)}): both need "
            f"the same shape, of {rank + 1} or {rank + 2} dimensions"
        )
    k = ints(name, "kernel_size", kernel_size, rank, 1)
    s = k if stride is None else ints(name, "stride", stride, rank, 1)
    p = ints(name, "padding", padding, rank, 0)
    lead = input.ndim - rank
    parts = zip(input.shape[lead:], k, s, p, strict=True)
    usual = [(n - 1) * step + size - 2 * cut for n, size, step, cut in parts]
    sizes = usual if output_size is None else [int(n) for n in output_size][-rank:]
    for n, m, step in zip(sizes, usual, s, strict=True):
        if not m - step < n < m + step:
            raise OpError(f"{name}: output_size {sizes} is a stride or more away from {usual}")
    size = prod(sizes)
    worst = _outside(indices, size)
    if worst is not None:
        raise OpError(f"{name}: index {worst} lies outside of the {size} elements of {sizes}")
    zeros = np.zeros((*input.shape[:lead], size), input.dtype)
    flat = (*input.shape[:lead], prod(input.shape[lead:]))
    y = scatter(wrap(zeros), -1, indices.reshape(flat), input.reshape(flat))
    return y.reshape(*input.shape[:lead], *sizes)


def _outside(indices: Tensor, size: int) -> int | None:
    """Return an index that isn't in 0 … size − 1, or None."""
    data = indices._data
    if not isinstance(data, np.ndarray) or not data.size:
        return None
    low, high = int(data.min()), int(data.max())
    return low if low < 0 else high if high >= size else None


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros, with the elements that `max_pool1d` found put back in their places.

    Shape: (n, c, l), (n, c, l) -> (n, c, l′);  l′ = (l − 1)·stride + kernel_size − 2·padding
    """
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros, with the elements that `max_pool2d` found put back in their places.

    Shape: (n, c, h, w), (n, c, h, w) -> (n, c, h′, w′);  the batch n may be missing

    Args:
        input: what max_pool2d returned.
        indices: the indices that it returned with return_indices=True.
        kernel_size: as in max_pool2d.
        stride: as in max_pool2d.
        padding: as in max_pool2d.
        output_size: which of the sizes that max_pool2d reduces to the input's is meant.

    Raises:
        OpError: the shapes differ, or an index lies outside of the output.
    """
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Zeros, with the elements that `max_pool3d` found put back; see `max_unpool2d`.

    Shape: (n, c, d, h, w), (n, c, d, h, w) -> (n, c, d′, h′, w′)
    """
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
