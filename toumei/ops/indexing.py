"""Reading and writing at places: x[index], gather, scatter, masks.

Families closed under differentiation: Index / IndexAdd.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError, OpIndexError, OpTypeError
from ..op import Array, Case, Indexing, RefusedIndex, Spec, broadcast_shapes, op
from ..tape import Value, apply, spec_of, wrap
from .shape import Slice

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "masked_fill",
]


# In the `index` of an op, this stands where the next index tensor belongs (fields hold no arrays).
HERE = "tensor"


def fill_in(index: tuple[Any, ...], tensors: tuple[Array, ...]) -> tuple[Any, ...]:
    """Put the index arrays into their places."""
    arrays = iter(tensors)
    return tuple(next(arrays) if i == HERE else i for i in index)


@op
class Index(Indexing):
    """y = x[index, with the index tensors in their places]"""

    index: tuple[Any, ...]

    def forward(self, xp: Any, x: Array, *places: Array) -> Array:
        return x[fill_in(self.index, places)]

    def infer(self, x: Spec, *places: Spec) -> Spec:
        ghost, *rest = [np.broadcast_to(np.zeros((), s.dtype), s.shape) for s in (x, *places)]
        try:
            shape = ghost[fill_in(self.index, tuple(rest))].shape
        except IndexError as error:
            raise RefusedIndex(str(error)) from None
        return Spec(shape, x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec, *places: Tensor) -> Tensor:
        zero = np.zeros(x_spec.shape, x_spec.dtype)
        return apply(IndexAdd(self.index), zero, gy, *places)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(3, 4))
        yield Case(cls((HERE,)), (x, np.array([0, 2, 2])))
        yield Case(cls((slice(None), HERE)), (x, np.array([[1, 1], [3, 0]])))
        yield Case(cls((HERE, HERE)), (x, np.array([0, 0]), np.array([1, 1])))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((HERE, HERE)), (np.zeros(3), np.array([0]), np.array([0]))), "too many indices"


class Placing(Indexing):
    """Writes `source` at x[index]."""

    index: tuple[Any, ...]

    def infer(self, x: Spec, source: Spec, *places: Spec) -> Spec:
        shown = Index(self.index).infer(x, *places).shape
        broadcast_shapes(("x[index]", "source"), [shown, source.shape])
        return Spec(x.shape, x.dtype)

    def backward_source(self, gy: Tensor, source_spec: Spec, *places: Tensor) -> Tensor:
        return apply(Index(self.index), gy, *places).sum_to_size(source_spec.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(3, 4))
        yield Case(cls((HERE,)), (x, rng.normal(size=(2, 4)), np.array([2, 0])))
        yield Case(cls((slice(None), HERE)), (x, rng.normal(size=(2,)), np.array([1, 3])))


@op
class IndexAdd(Placing):
    """y = x with `source` added at x[index]; places named several times get every addition"""

    def forward(self, xp: Any, x: Array, source: Array, *places: Array) -> Array:
        out = x.copy()
        np.add.at(out, fill_in(self.index, places), source)
        return out

    def backward_x(self, gy: Tensor) -> Tensor:
        return gy


@op
class IndexPut(Placing):
    """y = x with x[index] replaced by `source`"""

    def forward(self, xp: Any, x: Array, source: Array, *places: Array) -> Array:
        out = x.copy()
        out[fill_in(self.index, places)] = source
        return out

    def backward_x(self, gy: Tensor, *places: Tensor) -> Tensor:
        return apply(self, gy, np.zeros((), gy.dtype), *places)


@op
class MaskedFill(Indexing):
    """y = x with `value` where `mask` holds"""

    promote_from = 0
    broadcasts = True

    def forward(self, xp: Any, x: Array, mask: Array, value: Array) -> Array:
        return xp.where(mask, value.astype(x.dtype), x)

    def infer(self, x: Spec, mask: Spec, value: Spec) -> Spec:
        return Spec(np.broadcast_shapes(x.shape, mask.shape), x.dtype)

    def backward_x(self, gy: Tensor, mask: Tensor) -> Tensor:
        return apply(self, gy, mask, np.zeros((), gy.dtype))

    def backward_value(self, gy: Tensor, mask: Tensor) -> Tensor:
        return (gy * mask).sum()

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(3, 4)), rng.random((4,)) > 0.5, rng.normal(size=())))


# --- functions -----------------------------------------------------------------------------------


def split_index(x: Value, index: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Write an index as a tuple of plain parts, with HERE in the places of the index tensors."""
    parts: list[Any] = []
    tensors: list[Tensor] = []
    for part in index if isinstance(index, tuple) else (index,):
        value = _plain(x, part)
        if not isinstance(value, np.ndarray):
            parts.append(value)
        elif value.dtype.kind == "b":
            _check_mask(x, value, parts)
            places = np.nonzero(value)
            if value.ndim == 0:  # x[True] and x[False] add a dimension of size 1 or 0
                parts.append(None)
                places = (np.zeros(int(value), np.int64),)
            parts += [HERE] * len(places)
            tensors += [wrap(p) for p in places]
        else:
            parts.append(HERE)
            tensors.append(wrap(value))
    if sum(p is not None and p is not Ellipsis for p in parts) > len(x._data.shape):
        raise OpIndexError(f"{spec_of(x)} has too few dimensions for the index {index!r:.80}")
    return tuple(parts), tensors


def _plain(x: Value, part: Any) -> Any:
    if isinstance(part, Value):
        part = part._data
        if part.dtype.kind == "f":
            raise OpTypeError(f"indexing {spec_of(x)}: an index must be integer or bool, not {part.dtype}")
        return part if part.ndim or part.dtype.kind == "b" else int(part)
    if isinstance(part, bool | np.bool_):
        return np.asarray(part)
    if isinstance(part, int | np.integer):
        return int(part)
    if isinstance(part, list | range | np.ndarray):
        array = np.asarray(part)
        return array.astype(np.int64) if array.size == 0 and array.dtype.kind == "f" else array
    if isinstance(part, slice):
        return slice(*(None if s is None else int(s) for s in (part.start, part.stop, part.step)))
    if part is None or part is Ellipsis:
        return part
    raise OpTypeError(f"indexing {spec_of(x)}: {type(part).__name__} is no index: {part!r:.60}")


def _check_mask(x: Value, mask: Array, before: list[Any]) -> None:
    if Ellipsis in before:
        return
    d = sum(p is not None for p in before)
    shape = x._data.shape[d : d + mask.ndim]
    if mask.shape != shape:
        raise OpIndexError(
            f"indexing {spec_of(x)}: the mask has shape {mask.shape}, but what it masks has {shape}"
        )


def getitem(input: Tensor, index: Any) -> Tensor:
    """x[index] for integers, slices, None, Ellipsis (a view), index tensors and masks (a copy)."""
    parts, tensors = split_index(input, index)
    if tensors:
        return apply(Index(parts), input, *tensors)
    if any(isinstance(p, slice) and p.step is not None and p.step < 0 for p in parts):
        raise OpError(f"indexing {spec_of(input)}: a slice's step must be positive; use flip()")
    return apply(Slice(parts), input)


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place."""
    from ..views import assign

    parts, tensors = split_index(input, index)
    source = value if isinstance(value, Value) else wrap(np.asarray(value, input.dtype))
    if tensors:
        source = source.to(input.dtype)  # type: ignore[attr-defined]
        assign(input, apply(IndexPut(parts), input, source, *tensors), "x[index] = value")
        return
    target: Tensor = apply(Slice(parts), input)
    target.copy_(source)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` where `mask` holds, `input` elsewhere.  Shape: (…), (…) broadcast -> (…)"""
    if mask.dtype != np.dtype(bool):
        raise OpTypeError(f"masked_fill: the mask must be bool, not {mask.dtype}")
    if isinstance(value, Value):
        if value._data.ndim:
            raise OpError(f"masked_fill: value must have no dimension, it is {spec_of(value)}")
        return apply(MaskedFill(), input, mask, value)
    return apply(MaskedFill(), input, mask, np.asarray(value))
