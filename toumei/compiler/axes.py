"""Index spaces: two of them are the same walk through memory if they visit the same addresses.

A space is a shape with strides.  Cut into *atoms* at the strides of another space, both become
lists of (size, stride); if these hold the same atoms, each index of one space has its counterpart
in the other, and what one kernel writes the other can take over while it is in a register.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from .expr import dense

Sizes: TypeAlias = tuple[int, ...]


class Mapping(NamedTuple):
    """How the dims of one space become the axes of another.

    Args:
        factors: for each dim the sizes it is cut into, outermost first.
        places: for each axis of the target the atom (counted through `factors`) that runs along it;
            -1: none.
    """

    factors: tuple[Sizes, ...]
    places: Sizes

    def strides(self, strides: Sequence[int]) -> Sizes:
        """Return the strides of an access along the target's axes.

        >>> Mapping(((2, 3), (4,)), (2, 0, 1)).strides((4, 1))
        (1, 12, 4)
        """
        atoms: list[int] = []
        for stride, sizes in zip(strides, self.factors, strict=True):
            atoms.extend(cut_stride(stride, sizes))
        return tuple(0 if p < 0 else atoms[p] for p in self.places)


def cut_stride(stride: int, sizes: Sizes) -> Sizes:
    """Return the strides of the parts of a dim.

    >>> cut_stride(2, (3, 4, 5))
    (40, 10, 2)
    """
    out: list[int] = []
    for size in reversed(sizes):
        out.append(stride)
        stride *= size
    return tuple(reversed(out))


def cut(size: int, stride: int, marks: Sequence[int]) -> Sizes | None:
    """Cut a dim at strides: return the sizes of its parts, outermost first, or None.

    >>> cut(12, 1, (3, 6)), cut(12, 1, (5,))
    ((2, 2, 3), None)
    """
    parts: list[int] = []
    at = stride
    for mark in marks:  # ascending
        if not stride < mark < stride * size:
            continue
        if mark % at:
            return None
        if mark != at:
            parts.append(mark // at)
        at = mark
    if (stride * size) % at:
        return None
    parts.append(stride * size // at)
    return tuple(reversed(parts))


class Match(NamedTuple):
    """Two spaces that visit the same addresses, once both are cut into atoms."""

    first: Mapping  # to the second's axes, after these have been cut
    cuts: tuple[Sizes, ...]  # of the second's axes


def match(
    shape: Sequence[int], strides: Sequence[int], domain: Sequence[int], walk: Sequence[int]
) -> Match | None:
    """Return how a space visits the same addresses as a domain does, or None if it doesn't.

    Axes of the domain with the stride 0 are passed over: the space has no part in them.

    >>> match((64, 128), (128, 1), (8, 8, 128), (1024, 128, 1))
    Match(first=Mapping(factors=((8, 8), (128,)), places=(0, 1, 2)), cuts=((8,), (8,), (128,)))
    """
    marks = sorted({s for s in (*strides, *walk) if s > 0})
    ours, theirs = _cut_all(shape, strides, marks), _cut_all(domain, walk, marks)
    if ours is None or theirs is None:
        return None
    found: dict[tuple[int, int], int] = {}
    number = 0
    for stride, sizes in zip(strides, ours, strict=True):
        for size, step in zip(sizes, cut_stride(stride, sizes), strict=True):
            if size != 1 and (step == 0 or (step, size) in found):
                return None
            found[step, size] = number
            number += 1
    places: list[int] = []
    for stride, sizes in zip(walk, theirs, strict=True):
        for size, step in zip(sizes, cut_stride(stride, sizes), strict=True):
            if step == 0 or size == 1:
                places.append(-1)
            elif (step, size) in found:
                places.append(found[step, size])
            else:
                return None
    wanted = sum(size != 1 for sizes in ours for size in sizes)
    if sum(p >= 0 for p in places) != wanted:
        return None
    return Match(Mapping(tuple(ours), tuple(places)), tuple(theirs))


def _cut_all(
    shape: Sequence[int], strides: Sequence[int], marks: Sequence[int]
) -> list[Sizes] | None:
    found = [(n,) if s <= 0 else cut(n, s, marks) for n, s in zip(shape, strides, strict=True)]
    return None if any(f is None for f in found) else [f for f in found if f is not None]


def same_shape(shape: Sequence[int], domain: Sequence[int]) -> Match | None:
    """Return how a shape's dims become a domain's axes, if both have the same elements in order.

    >>> same_shape((64, 128), (8, 8, 128)).first.factors
    ((8, 8), (128,))
    """
    return match(shape, dense(shape), domain, dense(domain))


def merge(sizes: Sequence[int], walks: Sequence[Sequence[int]]) -> tuple[Sizes, list[Sizes]]:
    """Join neighbouring axes that every walk passes through without a gap.

    >>> merge((4, 5, 6), [(30, 6, 1), (0, 0, 1)])
    ((20, 6), [(6, 1), (0, 1)])
    """
    kept: list[int] = []  # sizes
    steps: list[list[int]] = [[] for _ in walks]
    for axis, n in enumerate(sizes):
        if n == 1:
            continue
        if kept and all(s[-1] == w[axis] * n for s, w in zip(steps, walks, strict=True)):
            kept[-1] *= n
            for s, w in zip(steps, walks, strict=True):
                s[-1] = w[axis]
        else:
            kept.append(n)
            for s, w in zip(steps, walks, strict=True):
                s.append(w[axis])
    return tuple(kept), [tuple(s) for s in steps]
