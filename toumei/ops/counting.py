"""Counting, searching, and telling apart: histograms, bins, places in an order, unique elements.

Nothing here has a derivative.  What comes out of `unique` and `bincount` depends on the numbers in
its very shape: those are functions of the numbers rather than ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import OpError, OpTypeError
from ..op import Array, Case, Indexing, Op, Refused, Spec, op
from ..tape import Value, apply, spec_of, wrap
from ..traced import numbers_of
from .shape import normal_dim_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "bincount",
    "bucketize",
    "histc",
    "histogram",
    "isin",
    "searchsorted",
    "unique",
    "unique_consecutive",
]


@op
class SearchSorted(Indexing):
    """y = how many elements of the ordered `sequence` are < (from the right: ≤) each value"""

    right: bool
    small: bool  # int32 instead of int64

    def forward(self, xp: Any, sequence: Array, values: Array) -> Array:
        side = "right" if self.right else "left"
        if sequence.ndim == 1:
            return xp.asarray(xp.searchsorted(sequence, values, side)).astype(self._dtype())
        out = xp.empty(values.shape, self._dtype())
        for place in np.ndindex(sequence.shape[:-1]):
            out[place] = xp.searchsorted(sequence[place], values[place], side)
        return out

    def _dtype(self) -> Any:
        return np.dtype(np.int32 if self.small else np.int64)

    def infer(self, sequence: Spec, values: Spec) -> Spec:
        if sequence.ndim != 1 and sequence.shape[:-1] != values.shape[:-1]:
            raise Refused(
                f"all dimensions but the last must agree: {sequence.shape} and {values.shape}; or "
                "the sequence must be a vector"
            )
        return Spec(values.shape, self._dtype())

    def check(self, sequence: Array, values: Array) -> None:
        self.infer(Spec(sequence.shape, sequence.dtype), Spec(values.shape, values.dtype))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        ties = rng.integers(0, 4, (2, 3)).astype(float)
        rows = np.sort(rng.normal(size=(2, 4)))
        for right in (False, True):
            yield Case(cls(right, False), (np.arange(4.0), ties))
            yield Case(cls(right, True), (rows, rng.normal(size=(2, 3))))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(False, False), (np.zeros((2, 3)), np.zeros((3, 3)))), "(2, 3) and (3, 3)"


@op
class IsIn(Op):
    """y = whether x is among `chosen`"""

    invert: bool

    def forward(self, xp: Any, x: Array, chosen: Array) -> Array:
        return xp.isin(x, chosen, invert=self.invert)

    def infer(self, x: Spec, chosen: Spec) -> Spec:
        return Spec(x.shape, np.dtype(bool))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(False), (rng.integers(0, 4, (2, 3)).astype(float), np.array([1.0, 2.0])))
        yield Case(cls(True), (rng.integers(0, 4, (2, 3)).astype(float), np.zeros(0)))


@op
class Histc(Op):
    """y_k = how many elements lie in the k-th of `bins` equal parts of [low, high]"""

    bins: int
    low: float
    high: float

    def forward(self, xp: Any, x: Array) -> Array:
        low, high = _limits(xp, x, self.low, self.high)
        inside = x[(x >= low) & (x <= high)]
        parts = ((inside - low) * (self.bins / (high - low))).astype(np.int64)
        return xp.bincount(xp.minimum(parts, self.bins - 1), minlength=self.bins).astype(x.dtype)

    def infer(self, x: Spec) -> Spec:
        return Spec((self.bins,), x.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(4, -1.0, 1.0), (rng.normal(size=(3, 4)),))
        yield Case(cls(3, 0.0, 0.0), (rng.normal(size=(5,)),))


def _limits(xp: Any, x: Array, low: float, high: float, margin: float = 1.0) -> tuple[float, float]:
    """Return the limits of a histogram; those of the data where they are equal."""
    if low == high and x.size:
        low, high = float(xp.min(x)), float(xp.max(x))
    return (low - margin, high + margin) if low == high else (low, high)


# --- histograms ----------------------------------------------------------------------------------


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max].  Shape: (…) -> (bins)

    If min = max, the limits are those of the data.  What lies outside isn't counted.

    >>> import toumei as tm
    >>> tm.histc(tm.tensor([1.0, 2.0, 1.0]), bins=4, min=0, max=3)
    tensor([0., 2., 1., 0.])
    """
    if input.dtype.kind != "f":
        raise OpTypeError(f"histc({spec_of(input)}): it takes floats")
    if bins < 1 or min > max:
        raise OpError(f"histc: {bins} bins from {min} to {max} can't be")
    return apply(Histc(bins, float(min), float(max)), input)


class Histogram(NamedTuple):
    """What `histogram` returns: counts, and the bins + 1 limits between them."""

    hist: Tensor
    bin_edges: Tensor


def histogram(
    input: Tensor,
    bins: Any,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """Counts (or weights) of the elements between edges, and the edges.

    Args:
        input: floats.
        bins: the number of equal bins, or an increasing vector of edges.
        range: (low, high) of equal bins; by default those of the data.
        weight: what each element counts; 1 by default.
        density: divide by the total and by the widths, so that the integral is 1.
    """
    x = numbers_of("histogram", input)
    if isinstance(bins, Value):
        edges = numbers_of("histogram", bins)
    else:
        low, high = range if range is not None else (0.0, 0.0 if x.size else 1.0)
        edges = np.linspace(*_limits(np, x, low, high, margin=0.5), bins + 1, dtype=x.dtype)
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) < 0).any():
        raise OpError("histogram: the edges must be a vector of at least two numbers in order")
    flat = x.reshape(-1)
    inside = (flat >= edges[0]) & (flat <= edges[-1])
    places = np.minimum(np.searchsorted(edges, flat[inside], "right") - 1, len(edges) - 2)
    w = None if weight is None else numbers_of("histogram", weight).reshape(-1)[inside]
    counts = np.bincount(places, w, minlength=len(edges) - 1).astype(x.dtype)
    if density:
        counts = counts / (counts.sum() * np.diff(edges))
    return Histogram(wrap(counts), wrap(edges.copy()))


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each integer from 0 on occurs, or the sum of its weights.  Shape: (n) -> (max + 1)

    >>> import toumei as tm
    >>> tm.bincount(tm.tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    x = numbers_of("bincount", input)
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x < 0).any():
        raise OpError(f"bincount({spec_of(input)}): it takes a vector of integers, none negative")
    if weights is None:
        return wrap(np.bincount(x, minlength=minlength))
    w = numbers_of("bincount", weights)
    if w.shape != x.shape:
        raise OpError(f"bincount({spec_of(input)}): weights are {spec_of(weights)}")
    kind = w.dtype if w.dtype.kind == "f" else np.float64
    return wrap(np.bincount(x, w, minlength).astype(kind))


# --- searching -----------------------------------------------------------------------------------


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where each number would have to be put in so that the sequence stays in order.

    Args:
        sorted_sequence: a vector in order, or rows of them that go with those of `input`.
        input: numbers.
        out_int32: int32 places instead of int64.
        right: behind equal elements, instead of before them; the same as side="right".
        side: "left" or "right".
        sorter: places that bring the sequence into order (`argsort`).

    >>> import toumei as tm
    >>> tm.searchsorted(tm.tensor([1, 3, 5]), tm.tensor([3, 4]))
    tensor([1, 2])
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise OpError(f"searchsorted: side={side!r} with right={right}; side is 'left' or 'right'")
    if sorter is not None:
        sorted_sequence = sorted_sequence.gather(-1, sorter)
    return apply(SearchSorted(right or side == "right", out_int32), sorted_sequence, input)


def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Between which of the ordered boundaries each number lies.  Shape: (…), (n) -> (…)"""
    if boundaries.ndim != 1:
        raise OpError(f"bucketize: the boundaries must be a vector, they are {spec_of(boundaries)}")
    return apply(SearchSorted(right, out_int32), boundaries, input)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """Whether each element is among `test_elements`.  Shape: (…), any -> (…), bool

    `invert` asks whether it isn't.  `assume_unique` is a hint that nothing needs here.
    """
    return apply(IsIn(invert), elements, test_elements)


# --- unique elements -----------------------------------------------------------------------------


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements (or parts along `dim`) in order.  Shape: (…) -> (k)

    With `return_inverse` also which of them each element is, with `return_counts` how often each
    occurs.  They come in order, whatever `sorted` says.

    >>> import toumei as tm
    >>> tm.unique(tm.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    x = numbers_of("unique", input)
    axis = None if dim is None else normal_dim_of("unique", input, dim)
    values, inverse, counts = np.unique(
        x, return_inverse=True, return_counts=True, axis=axis, equal_nan=False
    )
    inverse = inverse.reshape(x.shape if axis is None else -1)
    return _chosen(values, (return_inverse, inverse), (return_counts, counts))


def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The elements (or parts along `dim`) without those equal to the one before them.

    >>> import toumei as tm
    >>> tm.unique_consecutive(tm.tensor([1, 1, 2, 1]))
    tensor([1, 2, 1])
    """
    x = numbers_of("unique_consecutive", input)
    axis = 0 if dim is None else normal_dim_of("unique_consecutive", input, dim)
    rows = x.reshape(-1) if dim is None else np.moveaxis(np.atleast_1d(x), axis, 0)
    n = len(rows)
    starts = np.ones(n, bool)
    starts[1:] = (rows[1:] != rows[:-1]).any(axis=tuple(range(1, rows.ndim)))
    inverse = np.cumsum(starts) - 1
    counts = np.diff(np.append(np.flatnonzero(starts), n))
    values = np.moveaxis(rows[starts], 0, axis).copy()
    inverse = inverse.reshape(x.shape) if dim is None else inverse
    return _chosen(values, (return_inverse, inverse), (return_counts, counts))


def _chosen(values: Array, *more: tuple[bool, Array]) -> Any:
    """Return the values alone, or a tuple with what else was asked for."""
    extra = [wrap(array) for wanted, array in more if wanted]
    return (wrap(values), *extra) if extra else wrap(values)
