"""Loops over arrays of any strides.

A Dim is a dimension of several arrays at once: its size, and for each array the step from one
element to the next.  Neighbouring dimensions that are one in all arrays are joined; the last one is
gone through vector by vector where the arrays allow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import NamedTuple

from .ir import Function, Value, vector
from .matmul import Number, add, mul, remainder

Offsets = list[Number]  # of one element: how far into each array, in elements
UNROLLED = 4  # vectors of a row that are written out instead of in a loop


class Dim(NamedTuple):
    """A dimension of several arrays: its size, and the step within each of them."""

    size: int
    steps: tuple[int, ...]


def dims(shape: Sequence[int], *strides: Sequence[int]) -> list[Dim]:
    """Return the dimensions of arrays of one shape, joined where that is possible.

    >>> dims((2, 3, 4), (12, 4, 1), (24, 8, 2))
    [Dim(size=24, steps=(1, 2))]
    """
    found: list[Dim] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        last = found[-1] if found else None
        if last and all(a == b * size for a, b in zip(last.steps, steps, strict=True)):
            found[-1] = Dim(last.size * size, tuple(steps))
        else:
            found.append(Dim(size, tuple(steps)))
    return found


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
    return [add(f, o, mul(f, at, s)) if s else o for o, s in zip(offsets, dim.steps, strict=True)]


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
