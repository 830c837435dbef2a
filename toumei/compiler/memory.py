"""Where values lie: one piece of memory, the arena, whose places are used again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

ALIGN = 64  # bytes: a cache line, and the widest vector


class Life(NamedTuple):
    """How long some memory is needed, and how much of it.

    Args:
        first, last: the steps that first and last touch it.
        size: bytes.
    """

    first: int
    last: int
    size: int


def arrange(lives: Mapping[int, Life]) -> tuple[dict[int, int], int]:
    """Return a place for each value, and the size of the arena.

    The largest come first; each takes the lowest place that is free for all of its life.

    >>> arrange({1: Life(0, 1, 64), 2: Life(1, 2, 64), 3: Life(2, 3, 128)})
    ({3: 0, 1: 0, 2: 128}, 192)
    """
    places: dict[int, int] = {}
    placed: list[tuple[int, int, Life]] = []  # (start, end, life), by start
    total = 0
    for value, life in sorted(lives.items(), key=lambda item: (-item[1].size, item[1].first)):
        size = -(-life.size // ALIGN) * ALIGN
        start = _lowest(placed, life, size)
        places[value] = start
        placed.append((start, start + size, life))
        placed.sort(key=lambda p: p[0])
        total = max(total, start + size)
    return places, total


def _lowest(placed: Sequence[tuple[int, int, Life]], life: Life, size: int) -> int:
    """Return the lowest place that is free for a life."""
    at = 0
    for start, end, other in placed:
        if other.last < life.first or life.last < other.first:
            continue
        if start - at >= size:
            break
        at = max(at, end)
    return at
