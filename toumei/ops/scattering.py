"""gather, scatter and their relatives: reading and writing along one dimension.

y[i, j, k] = x[i, index[i, j, k], k] and the reverse, for dim = 1 of three.
Family closed under differentiation: Gather / ScatterAdd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import Value, apply, dims_of, wrap
from .arithmetic import div
from .indexing import in_range, integer
from .selection import scalar_like, vector_index

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "gather",
    "index_reduce",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "take_along_dim",
]


class Along(Indexing):
    """Reads or writes x at `index` along `dim`, at its own place in the other dimensions."""

    dim: int

    def bounds(self, x: Array, index: Array, *rest: Array) -> None:
        """Refuse an index out of range."""
        in_range(index, self.dim, x.shape[self.dim] if x.ndim else 1)

    def fits(self, x: Spec, index: Spec) -> None:
        """Refuse an index of the wrong dtype or shape."""
        integer("index", index)
        if index.ndim != x.ndim:
            raise Refused(f"x has {x.ndim} dimensions, but index has {index.ndim}")
        for d, (n, m) in enumerate(zip(x.shape, index.shape, strict=True)):
            if d != self.dim and m > n:
                raise Refused(f"index has size {m} in dim {d}, where x has only {n}")

    def flat(self, x: Array, index: Array) -> Array:
        """Return where the elements lie in x, counted in elements; refuse what lies outside."""
        self.fits(Spec(x.shape, x.dtype), Spec(index.shape, index.dtype))
        in_range(index, self.dim, x.shape[self.dim])
        strides = [math.prod(x.shape[d + 1 :]) for d in range(x.ndim)]
        start: Any = 0
        for d, stride in enumerate(strides):
            if d != self.dim:
                steps = np.arange(index.shape[d]) * stride
                start = start + steps.reshape([-1 if e == d else 1 for e in range(x.ndim)])
        return index.astype(np.intp) * strides[self.dim] + start

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.uniform(0.5, 2, (3, 4))
        for dim, index in (
            (1, np.argsort(rng.random((2, 4)), axis=1)),
            (0, np.array([[2, 0, 1]])),
            (1, np.zeros((3, 0), np.int64)),
            (1, np.array([[1, 1, 3], [0, 2, 0]])),
        ):
            if cls is ScatterPut and len(np.unique(index[0])) < index.shape[1]:
                continue  # where two meet the last one stays: it has no derivative to check
            source = () if cls is Gather else (rng.uniform(0.5, 2, index.shape),)
            yield Case(cls(dim), (x, index, *source))


@op
class Gather(Along):
    """y[i] = x[i with index[i] in dim];   ∂x = 0 with gy added there"""

    def forward(self, xp: Any, x: Array, index: Array) -> Array:
        return x.reshape(-1).take(self.flat(x, index))

    def infer(self, x: Spec, index: Spec) -> Spec:
        self.fits(x, index)
        return Spec(index.shape, x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec, index: Tensor) -> Tensor:
        return apply(ScatterAdd(self.dim), np.zeros(x_spec.shape, x_spec.dtype), index, gy)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(1), (np.zeros((2, 3)), np.zeros((3, 1), np.int64))), "size 3 in dim 0"


class Scattering(Along):
    """Combines `source` with x at the places."""

    def infer(self, x: Spec, index: Spec, source: Spec) -> Spec:
        self.fits(x, index)
        if source.shape != index.shape:
            raise Refused(f"source has shape {source.shape}, but index has {index.shape}")
        if source.dtype != x.dtype:
            raise Refused(f"source is {source.dtype}, but x is {x.dtype}")
        return Spec(x.shape, x.dtype)

    def scattered(self, x: Array, index: Array, source: Array, combine: Any) -> Array:
        """Return x combined with `source` by a ufunc, one element after the other."""
        out = x.copy()
        combine.at(out.reshape(-1), self.flat(x, index).reshape(-1), source.reshape(-1))
        return out


@op
class ScatterAdd(Scattering):
    """y = x with `source` added at the places;   ∂x = gy, ∂source = gy gathered"""

    def forward(self, xp: Any, x: Array, index: Array, source: Array) -> Array:
        return self.scattered(x, index, source, xp.add)

    def backward_x(self, gy: Tensor) -> Tensor:
        return gy

    def backward_source(self, gy: Tensor, index: Tensor) -> Tensor:
        return apply(Gather(self.dim), gy, index)


@op
class ScatterPut(Scattering):
    """y = x with `source` at the places; the last one stays where some coincide"""

    name: ClassVar[str] = "scatter"

    def forward(self, xp: Any, x: Array, index: Array, source: Array) -> Array:
        out = x.copy()
        out.reshape(-1)[self.flat(x, index)] = source
        return out

    def backward_x(self, gy: Tensor, index: Tensor) -> Tensor:
        return apply(self, gy, index, np.zeros(tuple(index.shape), gy.dtype))

    def backward_source(self, gy: Tensor, index: Tensor) -> Tensor:
        return apply(Gather(self.dim), gy, index)


@op
class ScatterMul(Scattering):
    """y = x·∏ source at the places;   ∂/∂ a factor = the product of the other factors"""

    def forward(self, xp: Any, x: Array, index: Array, source: Array) -> Array:
        return self.scattered(x, index, source, xp.multiply)

    def backward_x(self, gy: Tensor, x: Tensor, index: Tensor, source: Tensor) -> Tensor:
        ones = np.ones(tuple(x.shape), x.dtype)
        return gy * apply(self, ones, index, source)

    def backward_source(
        self, gy: Tensor, x: Tensor, index: Tensor, source: Tensor, y: Tensor
    ) -> Tensor:
        gather, zero = Gather(self.dim), source == 0
        counts = apply(
            ScatterAdd(self.dim), np.zeros(tuple(x.shape), x.dtype), index, zero.to(x.dtype)
        )
        alone = zero & (apply(gather, counts, index) == 1)  # the others' product without this zero
        others = apply(self, x, index, source.masked_fill(alone, 1))
        at_zero = apply(gather, gy * others, index).masked_fill(~alone, 0)
        return at_zero + (apply(gather, gy * y, index) / source.masked_fill(zero, 1)).masked_fill(
            alone, 0
        )


class ScatterExtreme(Scattering):
    """The largest or smallest of x and what is scattered there; equals share the gradient."""

    def backward(
        self, gy: Tensor, x: Tensor, index: Tensor, source: Tensor, y: Tensor
    ) -> tuple[Tensor, None, Tensor]:
        gather = Gather(self.dim)
        hit_x, hit = (x == y).to(x.dtype), (source == apply(gather, y, index)).to(x.dtype)
        share = gy / apply(ScatterAdd(self.dim), hit_x, index, hit)
        return share * hit_x, None, apply(gather, share, index) * hit


@op
class ScatterMax(ScatterExtreme):
    """y = max(x, source at the places)"""

    def forward(self, xp: Any, x: Array, index: Array, source: Array) -> Array:
        return self.scattered(x, index, source, xp.maximum)


@op
class ScatterMin(ScatterExtreme):
    """y = min(x, source at the places)"""

    def forward(self, xp: Any, x: Array, index: Array, source: Array) -> Array:
        return self.scattered(x, index, source, xp.minimum)


# --- functions -----------------------------------------------------------------------------------


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The elements of `input` at `index` along `dim`: y[i, j] = x[i, index[i, j]] for dim = 1.

    Shape: (…, n, …), (…, k, …) -> (…, k, …); the other sizes of `index` may be smaller

    Raises:
        OpIndexError: an index is negative or not below n.
        OpError: the shapes don't fit.

    >>> import toumei as tm
    >>> tm.tensor([[1, 2], [3, 4]]).gather(1, tm.tensor([[0], [1]]))
    tensor([[1],
            [4]])
    """
    if sparse_grad:
        raise OpError("gather: there are no sparse gradients")
    if index.numel() == 0:
        return input.reshape(-1)[:0].reshape(index.shape)
    d = dims_of("gather", input, dim)
    if input.ndim == 0 or (index.ndim == 0 and input.ndim == 1):
        return apply(Gather(0), input.reshape(-1), index.reshape(-1)).reshape(index.shape)
    return apply(Gather(d[0]), input, index)


def _scatter(op: type[Scattering], input: Tensor, dim: int, index: Tensor, src: Any) -> Tensor:
    """Apply a scattering op; `src` may be larger than `index`, and numbers fill it."""
    if index.numel() == 0:
        return input.clone()
    if not isinstance(src, Value):
        src = wrap(np.full(tuple(index.shape), src, input.dtype))
    d = dims_of(op.name, input, dim)
    if input.ndim == 0:
        out = apply(op(0), input.reshape(1), index.reshape(-1), src.reshape(-1))
        return out.reshape(())
    if src.ndim == index.ndim and any(m > n for m, n in zip(src.shape, index.shape, strict=True)):
        src = src[tuple(slice(n) for n in index.shape)]
    return apply(op(d[0]), input, index, src)


def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """`input` with `src` at `index` along `dim`: y[i, index[i, j]] = src[i, j] for dim = 1.

    Shape: (…, n, …), (…, k, …), (…, k, …) -> (…, n, …)

    Args:
        src: a tensor, or one number for all places.
        value: another name for a `src` that is a number.
        reduce: None replaces, "add" adds, "multiply" multiplies.

    Raises:
        OpIndexError: an index is negative or not below n.

    >>> import toumei as tm
    >>> tm.zeros(2, 2).scatter(1, tm.tensor([[1], [0]]), 1.0)
    tensor([[0., 1.],
            [1., 0.]])
    """
    src = value if src is None else src
    if src is None:
        raise OpError("scatter: it needs src or value")
    ops: dict[Any, type[Scattering]] = {None: ScatterPut, "add": ScatterAdd, "multiply": ScatterMul}
    if reduce not in ops:
        raise OpError(f"scatter: reduce must be None, 'add' or 'multiply', not {reduce!r}")
    if isinstance(src, Value) and src._data.ndim == 0 and index.ndim:
        src = scalar_like("scatter", input, src).expand(index.shape)
    return _scatter(ops[reduce], input, dim, index, src)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with `src` added at `index` along `dim`: y[i, index[i, j]] += src[i, j] for dim = 1.

    Shape: (…, n, …), (…, k, …), (…, k, …) -> (…, n, …)
    """
    return _scatter(ScatterAdd, input, dim, index, src)


_REDUCE: dict[str, tuple[type[Scattering], float]] = {  # the op and its neutral element
    "sum": (ScatterAdd, 0),
    "mean": (ScatterAdd, 0),
    "prod": (ScatterMul, 1),
    "amax": (ScatterMax, -np.inf),
    "amin": (ScatterMin, np.inf),
}


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input` combined with `src` at `index` along `dim` by sum, prod, mean, amax or amin.

    Shape: (…, n, …), (…, k, …), (…, k, …) -> (…, n, …)

    Args:
        include_self: whether the numbers of `input` take part where something is scattered.
    """
    if reduce not in _REDUCE:
        raise OpError(f"scatter_reduce: reduce must be one of {[*_REDUCE]}, not {reduce!r}")
    op, neutral = _REDUCE[reduce]
    start = input
    if not include_self:
        start = _scatter(ScatterPut, input, dim, index, _as_dtype(neutral, input.dtype))
    out = _scatter(op, start, dim, index, src)
    if reduce != "mean":
        return out
    ones = wrap(np.ones(tuple(input.shape), input.dtype))
    if not include_self:
        ones = _scatter(ScatterPut, ones, dim, index, 0)
    counts = _scatter(ScatterAdd, ones, dim, index, 1)
    counts = counts.masked_fill(counts == 0, 1)
    return out / counts if out.dtype.kind == "f" else div(out, counts, rounding_mode="floor")


def _as_dtype(neutral: float, dtype: Any) -> Any:
    """Return the neutral element of a reduction: for integers the largest or smallest number."""
    if dtype.kind == "f" or np.isfinite(neutral):
        return neutral
    limits = np.iinfo(dtype)
    return limits.max if neutral > 0 else limits.min


def index_reduce(
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """`input` combined with `source` at the slices that a 1-d `index` names.

    Shape: (…, n, …), (k), (…, k, …) -> (…, n, …)

    Args:
        reduce: "prod", "mean", "amax" or "amin".
        include_self: whether the numbers of `input` take part where something is combined.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise OpError(f"index_reduce: reduce must be prod, mean, amax or amin, not {reduce!r}")
    d = vector_index("index_reduce", input, dim, index)
    if input.ndim == 0:
        return scatter_reduce(input, 0, index, source, reduce, include_self=include_self)
    shape = [-1 if e == d else 1 for e in range(input.ndim)]
    along = index.reshape(shape).expand(source.shape)
    return scatter_reduce(input, d, along, source, reduce, include_self=include_self)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As `gather`, but the other dimensions broadcast, and indices may count from the end.

    Shape: (…, n, …), (…, k, …) -> (…, k, …)

    Args:
        dim: None takes from the flattened input.
    """
    if dim is None:
        return take_along_dim(input.reshape(-1), indices.reshape(-1), 0)
    (d,) = dims_of("take_along_dim", input, dim)
    if indices.ndim != input.ndim:
        raise OpError(
            f"take_along_dim: input has {input.ndim} dimensions, but indices has {indices.ndim}"
        )
    size = input.shape[d]
    front = np.broadcast_shapes(input.shape[:d], indices.shape[:d])
    back = np.broadcast_shapes(input.shape[d + 1 :], indices.shape[d + 1 :])
    places = indices + (indices < 0).to(indices.dtype) * size
    places = places.expand(*front, indices.shape[d], *back)
    return gather(input.expand(*front, size, *back), d, places)
