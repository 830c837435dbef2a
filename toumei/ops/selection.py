"""index_select and its relatives, take and put, masks, nonzero: indexing under other names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError, OpIndexError, OpTypeError
from ..op import RefusedIndex
from ..tape import Value, apply, dims_of, spec_of, wrap
from ..traced import known, numbers_of
from .indexing import (
    ALL,
    Index,
    IndexAdd,
    IndexPut,
    MaskedFill,
    Placing,
    getitem,
    in_range,
    split_index,
    view_of,
)
from .shape import permute

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "argwhere",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "index_select",
    "masked_fill",
    "masked_scatter",
    "masked_select",
    "nonzero",
    "nonzero_static",
    "put",
    "take",
]


def vector_index(name: str, input: Tensor, dim: int, index: Tensor, negative: bool = False) -> int:
    """Check a 1-d index into `dim`; return the dimension counted from the front."""
    d = dims_of(name, input, dim)[0] if input.ndim else 0
    if index.ndim > 1:
        raise OpIndexError(f"{name}: the index must have one dimension, it is {spec_of(index)}")
    if index.dtype.kind not in "iu":
        raise OpTypeError(f"{name}: the index must hold integers, not {index.dtype}")
    if known(index):
        size = input.shape[d] if input.ndim else 1
        try:
            in_range(index._data, d, size, negative=negative)
        except RefusedIndex as reason:
            raise OpIndexError(f"{name}({spec_of(input)}): {reason}") from None
    return d


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of `input` along `dim` that `index` names.  Shape: (…, n, …), (k) -> (…, k, …)

    >>> import toumei as tm
    >>> tm.arange(6).reshape(2, 3).index_select(1, tm.tensor([2, 0]))
    tensor([[2, 0],
            [5, 3]])
    """
    d = vector_index("index_select", input, dim, index)
    if input.ndim == 0:
        return apply(Index(0), input.reshape(1), index.reshape(-1)).reshape(())
    return apply(Index(d), input, index.reshape(-1))


def _written(
    op: type[Placing], name: str, input: Tensor, dim: int, index: Tensor, source: Tensor
) -> Tensor:
    """Return `input` with `source` written where a 1-d index points."""
    d = vector_index(name, input, dim, index)
    if input.ndim == 0:
        y = apply(op(0), input.reshape(1), source.reshape(-1), index.reshape(-1))
        return y.reshape(())
    if tuple(source.shape) != (*input.shape[:d], index.numel(), *input.shape[d + 1 :]):
        raise OpError(
            f"{name}: source is {spec_of(source)}, but {index.numel()} places along dim {d} of "
            f"{spec_of(input)} were given"
        )
    return apply(op(d), input, source, index.reshape(-1))


def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    """`input` with alpha·source added at the slices that `index` names.

    Shape: (…, n, …), (k), (…, k, …) -> (…, n, …)
    """
    source = source if alpha == 1 else source * alpha
    return _written(IndexAdd, "index_add", input, dim, index, source)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`input` with the slices that `index` names replaced by those of `source`.

    Shape: (…, n, …), (k), (…, k, …) -> (…, n, …)
    """
    if input.dtype != source.dtype:
        raise OpTypeError(f"index_copy: input is {input.dtype}, source {source.dtype}")
    return _written(IndexPut, "index_copy", input, dim, index, source)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """`input` with the slices that `index` names filled with one number.  Shape: (…) -> (…)"""
    d = vector_index("index_fill", input, dim, index, negative=True)
    size = input.shape[d] if input.ndim else 1
    mask = apply(IndexPut(0), np.zeros(size, bool), np.ones((), bool), index.reshape(-1))
    mask = mask.reshape([-1 if e == d else 1 for e in range(input.ndim)])
    return apply(MaskedFill(), input, mask, scalar_like("index_fill", input, value))


def scalar_like(name: str, input: Tensor, value: Any) -> Tensor:
    """Return a number or a 0-d tensor as a 0-d tensor of input's dtype."""
    if not isinstance(value, Value):
        return wrap(np.asarray(value, input.dtype))
    if value._data.ndim:
        raise OpError(f"{name}: value must have no dimension, it is {spec_of(value)}")
    return value.to(input.dtype)  # type: ignore[attr-defined]


def index_put(
    input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    """`input` with `values` at input[indices], or added there with `accumulate`.  Shape: (…) -> (…)

    Args:
        indices: one index tensor or mask per dimension, None for all of it.
    """
    parts, places = split_index(input, tuple(ALL if i is None else i for i in indices))
    if values.dtype != input.dtype:
        raise OpTypeError(f"index_put: input is {input.dtype}, values {values.dtype}")
    if not places:
        return input + values if accumulate else values.expand(input.shape).clone()
    seen, dim = view_of(input, parts, [d for d, _ in places])
    op = (IndexAdd if accumulate else IndexPut)(dim)
    out: Tensor = apply(op, seen, values, *(t for _, t in places))
    if seen is input:
        return out
    axes = [d for d, _ in places]
    order = [*axes, *(d for d in range(input.ndim) if d not in axes)]
    return permute(out, *np.argsort(order).tolist()).clone()


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements that `index` names, counted through all of `input`.  Shape: (…), (k…) -> (k…)"""
    return apply(Index(0), input.reshape(-1), index)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`input` with `source` at the elements that `index` counts out.

    Shape: (…), (k…), (k…) -> (…)
    """
    if index.numel() != source.numel():
        raise OpError(f"put: {index.numel()} indices, but {source.numel()} source elements")
    if input.dtype != source.dtype:
        raise OpTypeError(f"put: input is {input.dtype}, source {source.dtype}")
    op = (IndexAdd if accumulate else IndexPut)(0)
    out = apply(op, input.reshape(-1), source.reshape(-1), index.reshape(-1))
    return out.reshape(input.shape)


# --- masks ---------------------------------------------------------------------------------------


def _bool(name: str, mask: Tensor) -> None:
    if mask.dtype != np.dtype(bool):
        raise OpTypeError(f"{name}: the mask must be bool, not {mask.dtype}")


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` where `mask` holds, `input` elsewhere.  Shape: (…), (…) broadcast -> (…)

    >>> import toumei as tm
    >>> tm.ones(2).masked_fill(tm.tensor([True, False]), 5)
    tensor([5., 1.])
    """
    _bool("masked_fill", mask)
    return apply(MaskedFill(), input, mask, scalar_like("masked_fill", input, value))


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where `mask` holds, in order.  Shape: (…), (…) broadcast -> (k)"""
    _bool("masked_select", mask)
    shape = np.broadcast_shapes(input.shape, mask.shape)
    return getitem(input.expand(shape), mask.expand(shape)).reshape(-1)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the first elements of `source`, in order, where `mask` holds.

    Shape: (…), (…) broadcast, (k…) -> (…)
    """
    _bool("masked_scatter", mask)
    shape = np.broadcast_shapes(input.shape, mask.shape)
    mask = mask.expand(shape)
    count = int(np.count_nonzero(numbers_of("masked_scatter", mask)))
    if source.numel() < count:
        raise OpError(f"masked_scatter: the mask holds {count} times, source has {source.numel()}")
    return index_put(input.expand(shape), (mask,), source.reshape(-1)[:count])


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where the elements aren't zero: a row per element, or an index tensor per dimension.

    Shape: (d₀, …) -> (k, ndim), or ndim × (k)

    >>> import toumei as tm
    >>> tm.nonzero(tm.tensor([0, 3, 4]))
    tensor([[1],
            [2]])
    """
    numbers = numbers_of("nonzero", input)
    if as_tuple:
        return tuple(wrap(p) for p in np.nonzero(np.atleast_1d(numbers)))
    return wrap(np.argwhere(numbers))


def argwhere(input: Tensor) -> Tensor:
    """Where the elements aren't zero, a row per element.  Shape: (d₀, …) -> (k, ndim)"""
    return nonzero(input)


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` rows of `nonzero`, or else `fill_value`.  Shape: (…) -> (size, ndim)"""
    out = np.full((size, input.ndim), fill_value, np.int64)
    rows = np.argwhere(numbers_of("nonzero_static", input))[:size]
    out[: len(rows)] = rows
    return wrap(out)
