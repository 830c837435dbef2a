"""Loops over arrays of any strides.

A Dim is a dimension of several arrays at once: its size, and for each array the step from one
element to the next.  Neighbouring dimensions that are one in all arrays are joined; the last one is
gone through vector by vector where the arrays allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import NamedTuple

from ..axes import merge
from .integers import Number, as_value, plus, remainder, smaller, times
from .ir import Function, Value, vector

Offsets = list[Number]  # of one element: how far into each array, in elements
UNROLLED = 8  # vectors of a row that are written out instead of in a loop


class Dim(NamedTuple):
    """A dimension of several arrays: its size, and the step within each of them."""

    size: int
    steps: tuple[int, ...]


def dims(shape: Sequence[int], *strides: Sequence[int]) -> list[Dim]:
    """Return the dimensions of arrays of one shape, joined where that is possible.

    >>> dims((2, 3, 4), (12, 4, 1), (24, 8, 2))
    [Dim(size=24, steps=(1, 2))]
    """
    sizes, steps = merge(shape, strides)
    return [Dim(size, tuple(of_size)) for size, *of_size in zip(sizes, *steps, strict=True)]


def count(nest: Sequence[Dim]) -> int:
    """Return how many elements there are."""
    return prod(d.size for d in nest)


def locate(f: Function, number: Number, nest: Sequence[Dim], start: Offsets) -> Offsets:
    """Return where the element with a number is, counted with the last dimension fastest."""
    found = list(start)
    for i, dim in reversed(list(enumerate(nest))):
        at, number = remainder(f, number, dim.size) if i else (number, 0)
        found = moved(f, found, dim, at)
    return found


def moved(f: Function, offsets: Offsets, dim: Dim, at: Number) -> Offsets:
    """Return the offsets of an element along one more dimension."""
    return [
        plus(f, o, times(f, at, s)) if s else o for o, s in zip(offsets, dim.steps, strict=True)
    ]


def pieces(size: int, lanes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, lanes) of the vectors for what is left after the full ones, by powers of two.

    >>> list(pieces(21, 8))
    [(16, 4), (20, 1)]
    """
    start = size // lanes * lanes
    while start < size:
        lanes = min(lanes, 1 << (size - start).bit_length() - 1)
        yield start, lanes
        start += lanes


def vectors(
    f: Function, size: int, lanes: int, body: Callable[[Number, int], None], unroll: int = UNROLLED
) -> None:
    """Write body(start, lanes) for all vectors that it takes to cover a row."""
    full = size // lanes
    if full > unroll:
        with f.loop(0, full * lanes, lanes, nonempty=True) as loop:
            body(loop.index, lanes)
    else:
        for i in range(full):
            body(i * lanes, lanes)
    for start, narrow in pieces(size, lanes):
        body(start, narrow)


def sweep(
    f: Function,
    nest: Sequence[Dim],
    start: Offsets,
    lanes: int,
    body: Callable[[Offsets, int], None],
) -> None:
    """Write body(offsets, lanes) for all elements: vectors of them where the last steps are 0 or 1.

    Args:
        nest: the dimensions.
        start: the offsets of the first element.
        lanes: of a vector.
    """
    if not nest:
        body(start, 1)
        return
    dim, rest = nest[0], nest[1:]
    if not rest:
        wide = lanes if set(dim.steps) <= {0, 1} else 1
        vectors(f, dim.size, wide, lambda i, n: body(moved(f, start, dim, i), n))
        return
    with f.loop(0, dim.size) as loop:
        sweep(f, rest, moved(f, start, dim, loop.index), lanes, body)


def read(f: Function, base: Value, offset: Number, element: str, lanes: int, step: int) -> Value:
    """Load a vector; all lanes the same where the step is 0."""
    place = f.at(base, offset, element)
    if step == 0:
        return f.splat(element, f.load(place, element), lanes)
    return f.load(place, vector(element, lanes))


# --- work items ---


class Blocks(NamedTuple):
    """A nest cut into work items: a piece of one dimension, and all of those within it."""

    heads: tuple[Dim, ...]
    dim: Dim
    piece: int  # of `dim`
    inner: tuple[Dim, ...]

    @property
    def items(self) -> int:
        whole = count(self.heads) * count(self.inner) * self.dim.size
        return count(self.heads) * -(-self.dim.size // self.piece) if whole else 0


def blocks(nest: Sequence[Dim], work: int, arrays: int) -> Blocks:
    """Cut a nest, of so many arrays, into items of about `work` elements."""
    nest = list(nest) or [Dim(1, (0,) * arrays)]
    i, within = len(nest) - 1, 1
    while i > 0 and within * nest[i].size <= work:
        within *= nest[i].size
        i -= 1
    piece = max(1, min(work // max(within, 1), nest[i].size))
    return Blocks(tuple(nest[:i]), nest[i], piece, tuple(nest[i + 1 :]))


def sweep_block(
    f: Function, cut: Blocks, index: Value, lanes: int, body: Callable[[Offsets, int], None]
) -> None:
    """Write body(offsets, lanes) for the elements of a work item."""
    part, head = remainder(f, index, -(-cut.dim.size // cut.piece))
    start = locate(f, head, cut.heads, [0] * len(cut.dim.steps))
    first = times(f, part, cut.piece)
    last = smaller(f, plus(f, first, cut.piece), cut.dim.size)
    if cut.inner:
        with f.loop(as_value(f, first), as_value(f, last)) as loop:
            sweep(f, cut.inner, moved(f, start, cut.dim, loop.index), lanes, body)
        return
    wide = lanes if set(cut.dim.steps) <= {0, 1} else 1
    size = f.sub(as_value(f, last), as_value(f, first))
    full = f.add(as_value(f, first), f.mul(f.udiv(size, wide), wide))
    with f.loop(as_value(f, first), full, wide) as loop:
        body(moved(f, start, cut.dim, loop.index), wide)
    if wide > 1:
        with f.loop(full, as_value(f, last)) as loop:
            body(moved(f, start, cut.dim, loop.index), 1)


class Strips(NamedTuple):
    """A nest cut into strips of its last dimension, each of which is kept in registers as cells."""

    heads: tuple[Dim, ...]
    dim: Dim
    width: int
    lanes: int

    @property
    def items(self) -> int:
        return count(self.heads) * -(-self.dim.size // self.width)

    def cells(self, width: int) -> list[tuple[int, int]]:
        """Return (start, lanes) of each vector of a strip."""
        full = range(0, width // self.lanes * self.lanes, self.lanes)
        return [*((i, self.lanes) for i in full), *pieces(width, self.lanes)]


def strips(nest: Sequence[Dim], lanes: int, arrays: int, vectors: int, numbers: int) -> Strips:
    """Cut a nest into strips: along a dimension that lies without gaps if there is one.

    Args:
        nest, arrays: the dimensions, and of how many arrays they are.
        lanes: of a vector.
        vectors, numbers: in a strip, where the elements make vectors and where they don't.
    """
    nest = list(nest) or [Dim(1, (1,) * arrays)]
    dense = [i for i, d in enumerate(nest) if set(d.steps) == {1}]
    dim = nest.pop(dense[-1] if dense else -1)
    lanes = lanes if dense else 1
    width = min(dim.size, lanes * (vectors if dense else numbers))
    return Strips(tuple(nest), dim, max(1, width), lanes)


def sweep_strip(
    f: Function,
    cut: Strips,
    index: Value,
    body: Callable[[Offsets, list[tuple[int, int]]], None],
) -> None:
    """Write body(offsets, cells) for the strip that is a work item."""
    count_ = -(-cut.dim.size // cut.width)
    part, head = remainder(f, index, count_)
    start = locate(f, head, cut.heads, [0] * len(cut.dim.steps))
    start = moved(f, start, cut.dim, times(f, part, cut.width))
    rest = cut.dim.size % cut.width
    if not rest:
        body(start, cut.cells(cut.width))
        return
    is_last = f.compare("eq", as_value(f, part), count_ - 1)
    with f.when(is_last):
        body(start, cut.cells(rest))
    with f.when(f.bits("xor", is_last, True)):
        body(start, cut.cells(cut.width))
