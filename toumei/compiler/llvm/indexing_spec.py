"""What a kernel computes that reads or writes a table where index arrays point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .ir import SIZES
from .kernel import Memory
from .strided import Dim, count, dims

ARITHMETIC = ("float", "double", "i64", "i32")


@dataclass(frozen=True)
class IndexSpec:
    """values[o, m, i] = table[o, at index[o, m, i], i], or the reverse, for all o, m and i.

    The table has no dimensions m: there, the indices say where.

    Args:
        kind: "read"; or what values do to the table: "add", "put", "mul", "max", "min".
        outer, middle, inner: the dimensions o, m and i; steps of the table, the values, and each
            index array.
        sizes, jumps: of the table's dimensions that are indexed: their size and stride.
        element: the type of table and values.
        indices: the types of the index arrays.
        buffers: the numbers of the buffers of the table, the values and each index array.
        flag: the number of the buffer that says whether an index was out of range.
        wraps: whether negative indices count from the end.
        padding: the row that counts nothing; −1: none.
        counts: the number of the buffer with how often each row is used, by which it is divided;
            −1: there is none.
    """

    kind: str
    outer: tuple[Dim, ...]
    middle: tuple[Dim, ...]
    inner: tuple[Dim, ...]
    sizes: tuple[int, ...]
    jumps: tuple[int, ...]
    element: str
    indices: tuple[str, ...]
    buffers: tuple[int, ...]
    flag: int
    wraps: bool = False
    padding: int = -1
    counts: int = -1

    @property
    def by_row(self) -> bool:
        """Whether an index is good for all of the inner dimensions."""
        return not any(any(d.steps[2:]) for d in self.inner)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not count(self.outer) * count(self.middle) * count(self.inner)


def supported(kind: str, element: str, indices: Sequence[Memory]) -> bool:
    """Return whether there are kernels for these dtypes."""
    known = element in SIZES if kind in ("read", "put") else element in ARITHMETIC
    return known and all(m.dtype in ("i64", "i32") for m in indices)


def broadcast(m: Memory, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an array broadcast to a shape."""
    steps = [0 if n == 1 else s for n, s in zip(m.shape, m.strides, strict=True)]
    return (*[0] * (len(shape) - len(steps)), *steps)


def places_spec(
    kind: str, dim: int, arrays: Sequence[Memory], buffers: Sequence[int], flag: int, *, wraps: bool
) -> IndexSpec | None:
    """Return what a kernel computes where index arrays stand for neighbouring dimensions.

    Args:
        kind: see IndexSpec.
        dim: the first of them.
        arrays, buffers: the table, the values, and the index arrays.
        flag, wraps: see IndexSpec.
    """
    table, values, *places = arrays
    if not supported(kind, table.dtype, places):
        return None
    end = dim + len(places)
    middle = np.broadcast_shapes(*(p.shape for p in places))
    shape = (*table.shape[:dim], *middle, *table.shape[end:])
    after = dim + len(middle)
    wide = broadcast(values, shape)
    none = [(0,) * len(table.shape)] * len(places)
    index = [broadcast(p, middle) for p in places]
    outer = dims(shape[:dim], table.strides[:dim], wide[:dim], *(n[:dim] for n in none))
    within = dims(middle, (0,) * len(middle), wide[dim:after], *index)
    inner = dims(shape[after:], table.strides[end:], wide[after:], *(n[end:] for n in none))
    return IndexSpec(
        kind, tuple(outer), tuple(within), tuple(inner), table.shape[dim:end],
        table.strides[dim:end], table.dtype, tuple(p.dtype for p in places), tuple(buffers), flag,
        wraps,
    )  # fmt: skip


def along_spec(
    kind: str, dim: int, arrays: Sequence[Memory], buffers: Sequence[int], flag: int
) -> IndexSpec | None:
    """Return what a kernel computes where an index array of the values' shape stands for one dim.

    Args:
        kind, dim, flag: see places_spec.
        arrays, buffers: the table, the values, and the index array.
    """
    table, values, index = arrays
    if not supported(kind, table.dtype, [index]):
        return None
    shape, last = index.shape, len(index.shape) - 1
    steps = [(0 if d == dim else s for d, s in enumerate(table.strides)), values.strides]
    each = [Dim(n, s) for n, *s in zip(shape, *steps, index.strides, strict=True)]  # type: ignore
    inner = [] if dim == last else [each[last]]
    outer = [d for i, d in enumerate(each) if i != dim and (i != last or not inner)]
    return IndexSpec(
        kind, _joined(outer), _joined([each[dim]]), _joined(inner), (table.shape[dim],),
        (table.strides[dim],), table.dtype, (index.dtype,), tuple(buffers), flag,
    )  # fmt: skip


def _joined(nest: Sequence[Dim]) -> tuple[Dim, ...]:
    return tuple(dims([d.size for d in nest], *zip(*(d.steps for d in nest), strict=True)))
