"""Boxes within a value: the regions that it is put together from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .expr import Read, dense


class Box(NamedTuple):
    """A region: a range of every dim of the whole.

    Args:
        start, sizes: of the ranges.
        shape: of what lies in it, as it is seen: some dims of size 1 may be gone.
        dims: of the whole, for each dim of the shape.
    """

    start: tuple[int, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    dims: tuple[int, ...]

    def of(self, whole: Any) -> Any:
        """Return the region of an array."""
        at = tuple(slice(a, a + n) for a, n in zip(self.start, self.sizes, strict=True))
        return whole[at]

    def read(self, whole: Read) -> Read:
        """Return the elements of the region."""
        offset = sum(a * s for a, s in zip(self.start, whole.strides, strict=True))
        strides = tuple(whole.strides[d] for d in self.dims)
        return Read(whole.value, whole.dtype, strides, whole.offset + offset)

    def overlaps(self, other: Box) -> bool:
        """Tell whether two regions share an element."""
        return all(
            a < b + m and b < a + n
            for a, n, b, m in zip(self.start, self.sizes, other.start, other.sizes, strict=True)
        )


def box_of(shape: Sequence[int], take: Callable[[Any], Any]) -> Box | None:
    """Return the region that a view shows, or None if it isn't one."""
    strides = dense(shape)
    if 0 in shape:
        return None
    ghost = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), tuple(shape), strides)
    shown = take(ghost)
    offset = shown.__array_interface__["data"][0] - ghost.__array_interface__["data"][0]
    start = [int(i) for i in np.unravel_index(offset, tuple(shape))]
    sizes = [1] * len(shape)
    dims: list[int] = []
    for n, s in zip(shown.shape, shown.strides, strict=True):
        found = [
            d for d, step in enumerate(strides) if step == s and shape[d] >= n and sizes[d] == 1
        ]
        if n == 0 or not found:
            return None
        d = next((d for d in found if shape[d] > 1 or n == 1), found[0])
        if d in dims:
            return None
        sizes[d] = n
        dims.append(d)
    if any(a + n > m for a, n, m in zip(start, sizes, shape, strict=True)):
        return None
    return Box(tuple(start), tuple(sizes), tuple(shown.shape), tuple(dims))


def uncovered(shape: Sequence[int], boxes: Sequence[Box]) -> list[Box]:
    """Return boxes that make up what is in none of some boxes.

    >>> hole = Box((1,), (2,), (2,), (0,))
    >>> [(b.start, b.sizes) for b in uncovered((4,), [hole])]
    [((0,), (1,)), ((3,), (1,))]
    """
    rest = [whole(shape)] if math.prod(shape) else []
    for box in boxes:
        rest = [piece for r in rest for piece in _without(r, box)]
    return rest


def whole(shape: Sequence[int]) -> Box:
    """Return all of a value."""
    sizes = tuple(shape)
    return Box((0,) * len(sizes), sizes, sizes, tuple(range(len(sizes))))


def _without(box: Box, hole: Box) -> list[Box]:
    """Return the pieces of a box around a hole."""
    if not box.overlaps(hole):
        return [box]
    pieces: list[Box] = []
    start, sizes = list(box.start), list(box.sizes)
    for d, (a, n) in enumerate(zip(hole.start, hole.sizes, strict=True)):
        end = start[d] + sizes[d]
        if start[d] < a:
            pieces.append(_piece(start, sizes, d, start[d], a))
        if a + n < end:
            pieces.append(_piece(start, sizes, d, a + n, end))
        low, high = max(start[d], a), min(end, a + n)
        start[d], sizes[d] = low, high - low
    return pieces


def _piece(start: Sequence[int], sizes: Sequence[int], d: int, low: int, high: int) -> Box:
    at, extent = list(start), list(sizes)
    at[d], extent[d] = low, high - low
    return Box(tuple(at), tuple(extent), tuple(extent), tuple(range(len(at))))
