"""x[index] of every kind, read and written.

An index is taken apart in two steps, as PyTorch does it: integers, slices, None and Ellipsis give a
view; index tensors and masks then read or write along neighbouring dimensions of that view.
Family closed under differentiation: Index / IndexAdd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError, OpIndexError, OpTypeError, TraceError
from ..op import (
    Array,
    Case,
    Indexing,
    Refused,
    RefusedIndex,
    RefusedType,
    Spec,
    broadcast_shapes,
    op,
)
from ..tape import Value, apply, spec_of, wrap
from ..traced import known, numbers_of, refuse_array
from ..views import assign
from .shape import Slice, permute

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__: list[str] = []  # x[index] is a method

ALL = slice(None)


def in_range(places: Array, dim: int, size: int, *, negative: bool = False) -> None:
    """Refuse an index that is out of range; `negative` allows to count from the end."""
    if places.size and (places.min() < (-size if negative else 0) or places.max() >= size):
        wrong = places[(places < (-size if negative else 0)) | (places >= size)]
        raise RefusedIndex(f"index {int(wrong[0])} is out of range: dim {dim} has size {size}")


def integer(name: str, places: Spec) -> None:
    """Refuse an index that isn't made of integers."""
    if places.dtype.kind not in "iu":
        raise RefusedType(f"{name} must hold integers, not {places.dtype}")


class Places(Indexing):
    """Reads or writes where index tensors point, along the dimensions dim, dim + 1, …"""

    dim: int

    def shown(self, x: Spec, places: Sequence[Spec]) -> tuple[int, ...]:
        """Return the shape of x[…, places, …]."""
        end = self.dim + len(places)
        if end > x.ndim:
            raise RefusedIndex(f"{len(places)} indices at dim {self.dim} of {x.ndim} dimensions")
        for i, p in enumerate(places):
            integer(f"index {i}", p)
        names = tuple(f"index {i}" for i in range(len(places)))
        try:
            middle = broadcast_shapes(names, [p.shape for p in places])
        except Refused as reason:
            raise RefusedIndex(str(reason)) from None
        return (*x.shape[: self.dim], *middle, *x.shape[end:])

    def index(self, places: Sequence[Array]) -> tuple[Any, ...]:
        """Return NumPy's index."""
        return (*(ALL,) * self.dim, *places)

    def check_places(self, shape: tuple[int, ...], places: Sequence[Array]) -> None:
        """Refuse an index out of range, with the dimension in which it is."""
        for d, p in enumerate(places, start=self.dim):
            in_range(p, d, shape[d], negative=True)

    def rows(self, shape: tuple[int, ...], places: Sequence[Array]) -> tuple[Array, int]:
        """Return the places as row numbers of x seen as a matrix, and how long its rows are.

        A row holds what comes after the dimensions that are indexed.
        """
        self.check_places(shape, places)
        end = self.dim + len(places)
        sizes = shape[self.dim : end]
        joint: Any = 0  # the places as one index into the dimensions that they name
        for p, n in zip(places, sizes, strict=True):
            joint = joint * n + np.where(p < 0, p + n, p)
        before, after, middle = (math.prod(s) for s in (shape[: self.dim], shape[end:], sizes))
        start = np.arange(before).reshape(-1, 1) * middle
        return (start + joint.reshape(1, -1)).reshape(-1), after

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for dim, places in (
            (0, [[0, 2, 2]]),
            (1, [[[1, 1], [3, 0]]]),
            (0, [[0, 2], [-1, 1]]),
            (1, [[2, 0]]),
            (1, [[]]),
        ):
            arrays = tuple(np.array(p, np.int64) for p in places)
            x = rng.normal(size=(3, 4, 2))
            if cls is Index:
                yield Case(cls(dim), (x, *arrays))
            elif cls is IndexAdd or len(np.unique(arrays[0])) == arrays[0].size:
                shown = x[cls(dim).index(arrays)].shape
                yield Case(cls(dim), (x, rng.normal(size=shown), *arrays))


def add_rows(out: Array, numbers: Array, rows: Array) -> None:
    """out[numbers] += rows, also where numbers coincide; always in the same order.

    This is the gradient of an embedding.  NumPy adds single numbers several times as fast as rows,
    if their indices stay in the cache; where many rows meet, sums of sorted rows are faster still.
    """
    count, length = rows.shape
    if length >= 16 and count >= 16 * len(out):
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(out)))
        for i, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if start < end:
                out[i] += np.add.reduce(rows[order[start:end]], axis=0)
        return
    step = max(1, (1 << 15) // max(length, 1))
    for i in range(0, count if length else 0, step):
        places = numbers[i : i + step, None] * length + np.arange(length)
        np.add.at(out.reshape(-1), places.reshape(-1), rows[i : i + step].reshape(-1))


@op
class Index(Places):
    """y = x[…, places, …];   ∂x = 0 with gy added at the places"""

    def bounds(self, x: Array, *places: Array) -> None:
        """Refuse a place out of range."""
        self.check_places(x.shape, places)

    def forward(self, xp: Any, x: Array, *places: Array) -> Array:
        try:
            if len(places) == 1:
                return x.take(places[0], axis=self.dim)
            return x[self.index(places)]
        except IndexError:
            self.check_places(x.shape, places)
            raise

    def infer(self, x: Spec, *places: Spec) -> Spec:
        return Spec(self.shown(x, places), x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec, *places: Tensor) -> Tensor:
        return apply(IndexAdd(self.dim), np.zeros(x_spec.shape, x_spec.dtype), gy, *places)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0), (np.zeros(3), np.array([0]), np.array([0]))), "2 indices at dim 0 of 1"


class Placing(Places):
    """Writes `source` at x[…, places, …]."""

    def bounds(self, x: Array, source: Array, *places: Array) -> None:
        """Refuse a place out of range."""
        self.check_places(x.shape, places)

    def infer(self, x: Spec, source: Spec, *places: Spec) -> Spec:
        shown = self.shown(x, places)
        if broadcast_shapes(("x[index]", "source"), [shown, source.shape]) != shown:
            raise Refused(f"source has shape {source.shape}, but x[index] only {shown}")
        return Spec(x.shape, x.dtype)

    def backward_source(self, gy: Tensor, source_spec: Spec, *places: Tensor) -> Tensor:
        return apply(Index(self.dim), gy, *places).sum_to_size(source_spec.shape)


@op
class IndexAdd(Placing):
    """y = x with `source` added at the places, one addition after the other where some coincide"""

    def forward(self, xp: Any, x: Array, source: Array, *places: Array) -> Array:
        out = x.copy()
        middle = np.broadcast_shapes(*(p.shape for p in places))
        shape = (*x.shape[: self.dim], *middle, *x.shape[self.dim + len(places) :])
        numbers, length = self.rows(x.shape, places)
        values = np.broadcast_to(source, shape).reshape(len(numbers), length)
        add_rows(out.reshape(-1, length) if length else out, numbers, values)
        return out

    def backward_x(self, gy: Tensor) -> Tensor:
        return gy


@op
class IndexPut(Placing):
    """y = x with `source` at the places; where some coincide, the last one stays"""

    def forward(self, xp: Any, x: Array, source: Array, *places: Array) -> Array:
        self.check_places(x.shape, places)
        out = x.copy()
        out[self.index(places)] = source
        return out

    def backward_x(self, gy: Tensor, *places: Tensor) -> Tensor:
        return apply(self, gy, np.zeros((), gy.dtype), *places)


@op
class MaskedFill(Indexing):
    """y = x with `value` where `mask` holds"""

    broadcasts: ClassVar[bool] = True

    def forward(self, xp: Any, x: Array, mask: Array, value: Array) -> Array:
        return xp.where(mask, value.astype(x.dtype), x)

    def infer(self, x: Spec, mask: Spec, value: Spec) -> Spec:
        return Spec(broadcast_shapes(self.params, [x.shape, mask.shape]), x.dtype)

    def backward_x(self, gy: Tensor, mask: Tensor) -> Tensor:
        return apply(self, gy, mask, np.zeros((), gy.dtype))

    def backward_value(self, gy: Tensor, mask: Tensor) -> Tensor:
        return (gy * mask).sum()

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(3, 4)), rng.random((4,)) > 0.5, rng.normal(size=())))


# --- x[index] ------------------------------------------------------------------------------------


class _Walk:
    """Takes an index apart: `parts` make the view, `places` are (dimension of the view, tensor)."""

    def __init__(self, x: Value) -> None:
        self.x = x
        self.shape = x._data.shape
        self.dim = 0  # the dimension of x that the next part is about
        self.parts: list[Any] = []
        self.places: list[tuple[int, Tensor]] = []

    def take(self, part: Any, ellipsis: int) -> None:
        """Take the next part of the index; `ellipsis` is what an Ellipsis stands for."""
        if part is None:
            self.parts.append(None)
        elif part is Ellipsis:
            self._keep(ellipsis)
        elif isinstance(part, int):
            self._integer(part)
        elif isinstance(part, slice):
            self.parts.append(part)
            self.dim += 1
        elif part._data.dtype.kind == "b":
            self._mask(part)
        else:
            self._place(part)

    def _keep(self, count: int) -> None:
        self.parts += [ALL] * count
        self.dim += count

    def _axis(self) -> int:
        return sum(not isinstance(p, int) for p in self.parts)

    def _integer(self, i: int) -> None:
        n = self.shape[self.dim]
        if not -n <= i < n:
            raise OpIndexError(
                f"{_call(self.x)}: index {i} is out of range: dim {self.dim} has size {n}"
            )
        self.parts.append(i)
        self.dim += 1

    def _place(self, t: Tensor) -> None:
        self.places.append((self._axis(), t))
        self._keep(1)

    def _mask(self, part: Value) -> None:
        mask = part._data
        shape = self.shape[self.dim : self.dim + mask.ndim]
        if mask.shape != shape:
            raise OpIndexError(
                f"{_call(self.x)}: the mask has shape {mask.shape}, but what it masks has {shape}"
            )
        if not known(part):
            raise TraceError(
                f"{_call(self.x)}: what a mask selects has a size that depends on the numbers, and "
                "can't be compiled. Use where() or masked_fill()"
            )
        if mask.ndim == 0:  # x[True] and x[False] add a dimension of size 1 or 0
            self.places.append((self._axis(), wrap(np.zeros(int(mask), np.int64))))
            self.parts.append(None)
            return
        for p in np.nonzero(mask):
            self._place(wrap(p))


def _call(x: Value) -> str:
    return f"indexing {spec_of(x)}"


def _plain(x: Value, part: Any) -> Any:
    """Return a part of an index as an int, a slice, None, Ellipsis or a tensor."""
    if part is None or part is Ellipsis or type(part) is int:
        return part
    if isinstance(part, slice):
        steps = [None if s is None else int(s) for s in (part.start, part.stop, part.step)]
        if steps[2] is not None and steps[2] <= 0:
            raise OpError(
                f"{_call(x)}: a slice's step must be positive, not {steps[2]}; see flip()"
            )
        return slice(*steps)
    data = part._data if isinstance(part, Value) else _array(x, part)
    if data.dtype.kind == "u":  # PyTorch takes bytes for a mask
        data = data != 0
    if data.dtype.kind not in "bi":
        raise OpTypeError(f"{_call(x)}: an index must be integer or bool, not {data.dtype}")
    if data.shape == () and data.dtype.kind == "i" and isinstance(data, np.ndarray):
        return int(data)
    return wrap(data)


def _number(part: Any) -> Any:
    return (
        numbers_of("a list of tensors as an index (use stack())", part)
        if isinstance(part, Value)
        else part
    )


def _array(x: Value, part: Any) -> Array:
    if isinstance(part, bool | int | np.generic | np.ndarray):
        refuse_array(part)
        return np.asarray(part)
    if isinstance(part, list | tuple | range):
        try:
            array = np.array([_number(p) for p in part])
        except (ValueError, TypeError) as error:
            raise OpIndexError(f"{_call(x)}: the index {part!r:.60} is ragged: {error}") from None
        return array.astype(np.int64) if array.size == 0 else array
    raise OpTypeError(f"{_call(x)}: {type(part).__name__} is no index: {part!r:.60}")


def split_index(x: Value, index: Any) -> tuple[tuple[Any, ...], list[tuple[int, Tensor]]]:
    """Return the index of a view of x, and the index tensors with their dimensions in that view."""
    plain = [_plain(x, part) for part in (index if isinstance(index, tuple) else (index,))]
    used = sum(map(_dims_used, plain))
    if used > len(x._data.shape):
        raise OpIndexError(f"{_call(x)}: {used} indices for {len(x._data.shape)} dimensions")
    if sum(p is Ellipsis for p in plain) > 1:
        raise OpIndexError(f"{_call(x)}: an index can hold only one Ellipsis")
    walk = _Walk(x)
    for part in plain:
        walk.take(part, len(walk.shape) - used)
    return tuple(walk.parts), walk.places


def _dims_used(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return len(part._data.shape) if isinstance(part, Value) and part._data.dtype.kind == "b" else 1


def view_of(input: Tensor, parts: tuple[Any, ...], axes: list[int]) -> tuple[Tensor, int]:
    """Return the view with the indexed dimensions side by side, and the first of them."""
    if any(not isinstance(p, slice) or p != ALL for p in parts):
        input = apply(Slice(parts), input)
    if axes[-1] - axes[0] == len(axes) - 1:
        return input, axes[0]
    rest = [d for d in range(input.ndim) if d not in axes]
    return permute(input, *axes, *rest), 0


def getitem(input: Tensor, index: Any) -> Tensor:
    """x[index] for integers, slices, None, Ellipsis (a view), index tensors and masks (a copy).

    Raises:
        OpIndexError: an index is out of range, there are too many, or a mask doesn't fit.

    >>> import toumei as tm
    >>> x = tm.arange(6).reshape(2, 3)
    >>> x[:, [0, 2]]
    tensor([[0, 2],
            [3, 5]])
    """
    parts, places = split_index(input, index)
    if not places:
        return apply(Slice(parts), input)
    seen, dim = view_of(input, parts, [d for d, _ in places])
    return apply(Index(dim), seen, *(t for _, t in places))


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, in place; the value is broadcast and cast.

    Raises:
        OpIndexError: as for x[index].
        GradError: x is a leaf that requires grad.
    """
    source = value if isinstance(value, Value) else wrap(np.asarray(value, input.dtype))
    source = source.to(input.dtype)  # type: ignore[attr-defined]
    if source.ndim == 0 and _is_open_mask(input, index):
        mask = index.reshape(*index.shape, *[1] * (input.ndim - index.ndim))
        input.masked_fill_(mask, source)
        return
    parts, places = split_index(input, index)
    if not places:
        target: Tensor = apply(Slice(parts), input)
        target.copy_(_without_ones(source, target.ndim))
        return
    target, dim = view_of(input, parts, [d for d, _ in places])
    tensors = [t for _, t in places]
    shown = Places.shown(IndexPut(dim), spec_of(target), [spec_of(t) for t in tensors])
    source = _without_ones(source, len(shown))
    assign(target, apply(IndexPut(dim), target, source, *tensors), "x[index] = value")


def _is_open_mask(input: Tensor, index: Any) -> bool:
    """Tell whether an index is one mask that fits, in a step that is being traced."""
    is_mask = isinstance(index, Value) and index._data.dtype.kind == "b"
    return is_mask and not known(index) and index.shape == input.shape[: index.ndim]


def _without_ones(source: Tensor, ndim: int) -> Tensor:
    """Drop leading dimensions of size 1 that are too many."""
    extra = source.ndim - ndim
    if extra > 0 and all(n == 1 for n in source.shape[:extra]):
        return source.reshape(source.shape[extra:])
    return source
