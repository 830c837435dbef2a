"""Order: sorting, the k largest, medians, quantiles, the most frequent.

One op finds the order, `Argsort`; the values are gathered, so the gradient goes where they were.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError, OpTypeError
from ..names import numpy_names
from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import Value, apply, spec_of, wrap
from ..traced import known
from .reduction import Extreme, ValuesIndices, pick
from .reduction import any as any_of
from .reduction import sum as sum_of
from .shape import along, movedim, normal_dim_of, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "argsort",
    "kthvalue",
    "median",
    "mode",
    "msort",
    "nanmedian",
    "nanquantile",
    "quantile",
    "sort",
    "topk",
]


class Places(Indexing):
    """Where along `dim` certain elements are: int64, of size 1 along `dim` unless it says else."""

    dim: int

    def infer(self, x: Spec) -> Spec:
        if x.shape[self.dim] == 0:
            raise Refused(f"there are no elements along dim {self.dim}")
        return Spec((*x.shape[: self.dim], 1, *x.shape[self.dim + 1 :]), np.dtype(np.int64))

    def check(self, x: Array) -> None:
        self.infer(Spec(x.shape, x.dtype))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(0), (rng.normal(size=(5,)),))
        yield Case(cls(1), (rng.integers(0, 3, (2, 5, 3)).astype(float),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(1), (np.zeros((2, 0)),)), "no elements along dim 1"


@op
class Argsort(Indexing):
    """The places in ascending (or descending) order; equal ones keep theirs, NaN is the largest"""

    dim: int
    descending: builtins.bool

    def forward(self, xp: Any, x: Array) -> Array:
        if not self.descending:
            return xp.argsort(x, axis=self.dim, kind="stable")
        # Backwards through the ascending order of the reversed elements: equal ones keep theirs.
        order = xp.argsort(xp.flip(x, self.dim), axis=self.dim, kind="stable")
        return x.shape[self.dim] - 1 - xp.flip(order, self.dim)

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, np.dtype(np.int64))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for descending in (False, True):
            yield Case(cls(0, descending), (rng.normal(size=(5,)),))
            yield Case(cls(1, descending), (rng.integers(0, 3, (2, 5, 3)).astype(float),))
            yield Case(cls(1, descending), (np.zeros((2, 0)),))


@op
class ArgTopk(Indexing):
    """The places of the k largest (or smallest), the first of them first; NaN is the largest"""

    dim: int
    k: int
    largest: builtins.bool

    def forward(self, xp: Any, x: Array) -> Array:
        n, k = x.shape[self.dim], self.k
        if 0 < k < n:
            divided = xp.argpartition(x, n - k if self.largest else k - 1, axis=self.dim)
        else:
            divided = xp.broadcast_to(self._along(xp.arange(n), x), x.shape)
        first = n - k if self.largest else 0
        found = divided[along(self.dim, slice(first, first + k))]
        values = xp.take_along_axis(x, found, axis=self.dim)
        order = Argsort(self.dim, self.largest).forward(xp, values)
        return xp.take_along_axis(found, order, axis=self.dim)

    def _along(self, places: Array, x: Array) -> Array:
        return places.reshape([-1 if d == self.dim else 1 for d in range(x.ndim)])

    def infer(self, x: Spec) -> Spec:
        n = x.shape[self.dim]
        if not 0 <= self.k <= n:
            raise Refused(f"dim {self.dim} of size {n} has no {self.k} largest")
        return Spec((*x.shape[: self.dim], self.k, *x.shape[self.dim + 1 :]), np.dtype(np.int64))

    def check(self, x: Array) -> None:
        self.infer(Spec(x.shape, x.dtype))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for largest in (False, True):
            yield Case(cls(0, 2, largest), (rng.normal(size=(5,)),))
            yield Case(cls(1, 4, largest), (rng.normal(size=(2, 4, 3)),))
            yield Case(cls(1, 0, largest), (rng.normal(size=(2, 4)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0, 9, True), (np.zeros(5),)), "dim 0 of size 5 has no 9 largest"


@op
class ArgMedian(Places):
    """Where the middle one is in the order; the lower of two, the first NaN if there is one"""

    def forward(self, xp: Any, x: Array) -> Array:
        order = xp.argsort(x, axis=self.dim, kind="stable")
        middle = xp.take(order, [(x.shape[self.dim] - 1) // 2], axis=self.dim)
        nan = xp.isnan(x)
        first = xp.argmax(nan, axis=self.dim, keepdims=True)
        return xp.where(nan.any(axis=self.dim, keepdims=True), first, middle)


@op
class ArgNanMedian(Places):
    """Where the middle one of those that are not NaN is in the order; the lower of two"""

    name: ClassVar[str] = "arg_nanmedian"

    def forward(self, xp: Any, x: Array) -> Array:
        order = xp.argsort(x, axis=self.dim, kind="stable")
        count = x.shape[self.dim] - xp.isnan(x).sum(axis=self.dim, keepdims=True)
        return xp.take_along_axis(order, xp.maximum(count - 1, 0) // 2, axis=self.dim)


@op
class ArgMode(Places):
    """The last place of the most frequent value; the smallest value if some are equally frequent"""

    def forward(self, xp: Any, x: Array) -> Array:
        front = xp.moveaxis(x, self.dim, -1)
        order = xp.argsort(front, axis=-1, kind="stable")
        ranked = xp.take_along_axis(front, order, axis=-1)
        n = ranked.shape[-1]
        starts = xp.ones(ranked.shape, bool)
        starts[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
        first = xp.maximum.accumulate(xp.where(starts, xp.arange(n), 0), axis=-1)
        # The run so far is longest at the end of the longest run, whose element is its last place.
        longest = xp.argmax(xp.arange(n) - first, axis=-1, keepdims=True)
        return xp.moveaxis(xp.take_along_axis(order, longest, axis=-1), -1, self.dim)


class Middle(Extreme):
    """A median of all elements: equal ones share the gradient."""

    needs_elements: ClassVar[builtins.bool] = False

    def infer(self, x: Spec) -> Spec:
        return Spec((), x.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((), (5,), (2, 3)):
            yield Case(cls(tuple(range(len(shape))), False), (rng.normal(size=shape),))


@op
class Median(Middle):
    """y = the middle one of all elements, the lower of two, NaN if there is one"""

    def forward(self, xp: Any, x: Array) -> Array:
        if x.size == 0 or xp.isnan(x).any():
            return xp.asarray(np.nan).astype(x.dtype)
        k = (x.size - 1) // 2
        return xp.partition(x.reshape(-1), k)[k]


@op
class NanMedian(Middle):
    """y = the middle one of all elements that are not NaN, the lower of two"""

    name: ClassVar[str] = "nanmedian"

    def forward(self, xp: Any, x: Array) -> Array:
        count = x.size - int(xp.isnan(x).sum())
        if count == 0:
            return xp.asarray(np.nan).astype(x.dtype)
        return xp.partition(x.reshape(-1), (count - 1) // 2)[(count - 1) // 2]


# --- order ---------------------------------------------------------------------------------------


@numpy_names
def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> Tensor:
    """The places of the elements in order along `dim`; equal ones always keep theirs.

    Shape: (…, n, …) -> (…, n, …), int64.  `stable` may be given; every sort here is stable.
    """
    d = normal_dim_of("argsort", input, dim)
    if input.ndim == 0:
        return wrap(np.zeros((), np.int64))
    return apply(Argsort(d, descending), input)


@numpy_names
def sort(
    input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False
) -> ValuesIndices:
    """The elements in order along `dim`, and where they were (values, indices).

    Equal elements always keep their order; NaN counts as the largest.
    Shape: (…, n, …) -> (…, n, …) each

    >>> import toumei as tm
    >>> tm.tensor([3, 1, 2]).sort().values
    tensor([1, 2, 3])
    """
    indices = argsort(input, dim, descending, stable=stable)
    return ValuesIndices(input.gather(dim, indices) if input.ndim else input.clone(), indices)


def msort(input: Tensor) -> Tensor:
    """The elements in order along the first dimension.  Shape: (n, …) -> (n, …)"""
    return sort(input, 0).values


@numpy_names
def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """The k largest (or smallest) along `dim`, the first of them first, and where they were.

    Shape: (…, n, …) -> (…, k, …) each.  They come in order, whatever `sorted` says.

    >>> import toumei as tm
    >>> tm.tensor([1, 3, 2]).topk(2).values
    tensor([3, 2])
    """
    d = normal_dim_of("topk", input, dim)
    x = input if input.ndim else reshape(input, 1)
    indices = apply(ArgTopk(d, k, largest), x)
    values = x.gather(d, indices)
    if input.ndim == 0 and k == 1:
        return ValuesIndices(reshape(values, ()), reshape(indices, ()))
    return ValuesIndices(values, indices)


@numpy_names
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The k-th smallest along `dim` (from 1) and where it is.  Shape: (…, n, …) -> (…, …) each"""
    d = normal_dim_of("kthvalue", input, dim)
    n = input.shape[d] if input.ndim else 1
    if not 1 <= k <= n:
        raise OpError(f"kthvalue({spec_of(input)}): dim {dim} of size {n} has no element {k}")
    order = argsort(input, dim)
    return pick(input, order[along(d, slice(k - 1, k))] if input.ndim else order, dim, keepdim)


# --- the middle, and the most frequent -----------------------------------------------------------


def _place(op_class: Any, name: str, x: Tensor, dim: int) -> Tensor:
    d = normal_dim_of(name, x, dim)
    return apply(op_class(d), x) if x.ndim else wrap(np.zeros((), np.int64))


@numpy_names
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle one in order, the lower of two; (values, indices) if `dim` is given.

    Shape: (…) -> (), or (…, n, …) -> (…, …) each

    >>> import toumei as tm
    >>> tm.tensor([4, 1, 3, 2]).median()
    tensor(2)
    """
    if dim is None:
        return apply(Median(tuple(range(input.ndim)), False), input)
    return pick(input, _place(ArgMedian, "median", input, dim), dim, keepdim)


@numpy_names
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """As `median`, of the elements that are not NaN."""
    if dim is None:
        return apply(NanMedian(tuple(range(input.ndim)), False), input)
    return pick(input, _place(ArgNanMedian, "nanmedian", input, dim), dim, keepdim)


@numpy_names
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The most frequent value along `dim` (the smallest of several) and its last place.

    Shape: (…, n, …) -> (…, …) each
    """
    return pick(input, _place(ArgMode, "mode", input, dim), dim, keepdim)


# --- quantiles -----------------------------------------------------------------------------------


@numpy_names
def quantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """The value below which the share `q` of the elements lies, along `dim` (of all if None).

    Args:
        input: floats; the result is NaN where one of them is.
        q: from 0 to 1: a number, or a vector, whose dimension comes first in the result.
        dim: along which.
        keepdim: keep `dim` with size 1.
        interpolation: between the two nearest: "linear", "lower", "higher", "nearest", "midpoint".

    >>> import toumei as tm
    >>> tm.quantile(tm.tensor([0.0, 1.0, 2.0, 3.0]), 0.5)
    tensor(1.5)
    """
    x, shares = _quantile_arguments("quantile", input, q, dim, interpolation)
    ranks = shares * (x.shape[-1] - 1)
    nan = any_of(x != x, -1, True)  # they are sorted to the end
    ranks = ranks.expand((*x.shape[:-1], shares.shape[-1])).masked_fill(nan, x.shape[-1] - 1)
    return _arrange(_at_ranks(x, ranks, interpolation), input, q, dim, keepdim)


@numpy_names
def nanquantile(
    input: Tensor,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """As `quantile`, of the elements that are not NaN."""
    x, shares = _quantile_arguments("nanquantile", input, q, dim, interpolation)
    ranks = shares * (sum_of(x == x, -1, True) - 1)
    ranks = ranks.masked_fill(ranks < 0, 0)
    return _arrange(_at_ranks(x, ranks, interpolation), input, q, dim, keepdim)


INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile_arguments(
    name: str, x: Tensor, q: Any, dim: int | None, interpolation: str
) -> tuple[Tensor, Tensor]:
    """Check; return the input with what is to be ordered in its last dimension, q as a vector."""
    if x.dtype.kind != "f":
        raise OpTypeError(f"{name}({spec_of(x)}): it takes floats")
    if interpolation not in INTERPOLATIONS:
        raise OpError(f"{name}: interpolation is {interpolation!r}, it may be {INTERPOLATIONS}")
    shares: Any = q if isinstance(q, Value) else wrap(np.asarray(q, x.dtype))
    if shares.ndim > 1 or shares.dtype != x.dtype:
        raise OpError(f"{name}({spec_of(x)}): q must be a number or a vector of its dtype")
    values = shares._data
    if known(shares) and not ((values >= 0) & (values <= 1)).all():
        raise OpError(f"{name}: q must be between 0 and 1, it is {shares.tolist()}")
    if x.numel() == 0:
        raise OpError(f"{name}({spec_of(x)}): there are no elements")
    if dim is None or x.ndim == 0:
        return reshape(x, -1), reshape(shares, -1)
    return movedim(x, normal_dim_of(name, x, dim), -1), reshape(shares, -1)


def _at_ranks(x: Tensor, ranks: Tensor, interpolation: str) -> Tensor:
    """Return the elements at `ranks` (which may lie between two) of the sorted last dimension."""
    ordered = sort(x, -1).values
    if interpolation in ("lower", "higher", "nearest"):
        rounding = {"lower": "floor", "higher": "ceil", "nearest": "round"}[interpolation]
        return ordered.gather(-1, getattr(ranks, rounding)().long())
    below = ranks.floor()
    low = ordered.gather(-1, below.long())
    high = ordered.gather(-1, ranks.ceil().long())
    weight = 0.5 if interpolation == "midpoint" else ranks - below
    return low + weight * (high - low)


def _arrange(values: Tensor, x: Tensor, q: Any, dim: int | None, keepdim: bool) -> Tensor:
    """Bring the dimension of q, which is last, to the front; put `dim` back where it is kept."""
    values = movedim(values, -1, 0)
    if keepdim:
        one = (1,) * x.ndim
        values = (
            values.reshape(-1, *one)
            if dim is None or not x.ndim
            else values.unsqueeze(normal_dim_of("quantile", x, dim) + 1)
        )
    many = isinstance(q, tuple | list) or getattr(q, "ndim", 0) > 0
    return values if many else values[0]
