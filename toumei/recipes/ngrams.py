"""Characters guessed from their neighbours, by counting: what a network must beat.

The probability of a character between l others at its left and r at its right is counted in the
training text, and interpolated with that of a smaller context (Witten, Bell, "The zero-frequency
problem", IEEE Trans. Inf. Theory 37, 1991):

    P(c | ctx) = (n(ctx, c) + t(ctx)·P(c | smaller ctx)) / (n(ctx) + t(ctx))

with n how often ctx was seen, and t how many different characters were seen in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Sides = tuple[int, int]  # how many characters at the left, and at the right


class Table(NamedTuple):
    """Which characters stood in each context, and how often: sorted by context, then character."""

    codes: Ids  # context · size + character
    counts: Ids


class NGrams:
    """Counts of the characters of a text by their neighbours.

    Args:
        ids: the text's numbers.  Shape: (n)
        size: how many different characters there are.
        sides: the largest context, at the left and at the right.

    >>> grams = NGrams(np.array([0, 1, 0, 1, 0, 2]), 3, (1, 0))
    >>> last = np.array([[False, True]])
    >>> grams.probabilities(np.array([[0, 0]]), last, last)[0].round(3).tolist()
    [0.178, 0.533, 0.289]
    """

    def __init__(self, ids: Any, size: int, sides: Sides) -> None:
        self.ids, self.size, self.sides = np.asarray(ids, np.int64), size, sides
        self._tables: dict[Sides, Table] = {}

    def probabilities(self, rows: Ids, wanted: Flags, hidden: Flags) -> Floats:
        """Return the probability of each character at each wanted place, row by row.

        A context ends before the next hidden place, and at the end of its row.

        Shape: (N, L) each -> (wanted places, size)
        """
        left, right = self.sides
        line = np.pad(rows, ((0, 0), (left, right))).reshape(-1)
        closed = np.pad(hidden, ((0, 0), (left, right)), constant_values=True).reshape(-1)
        places = np.flatnonzero(np.pad(wanted, ((0, 0), (left, right))))
        reach = np.stack([_run(closed, places, -1, left), _run(closed, places, 1, right)], 1)
        result = np.empty((len(places), self.size))
        for sides in np.unique(reach, axis=0).tolist():
            group = np.flatnonzero((reach == sides).all(1))
            result[group] = self._interpolated(line, places[group], (sides[0], sides[1]))
        return result

    def _interpolated(self, line: Ids, places: Ids, sides: Sides) -> Floats:
        p = np.full((len(places), self.size), 1 / self.size)
        for context in _growing(sides):
            counts = self._counts(context, _code(line, places, context, self.size))
            kinds = (counts > 0).sum(1, keepdims=True)
            total = counts.sum(1, keepdims=True) + kinds
            p = np.where(total > 0, (counts + kinds * p) / np.maximum(total, 1), p)
        return p

    def _counts(self, sides: Sides, codes: Ids) -> Floats:
        """Return how often each character was seen in some contexts.  Shape: (m) -> (m, size)"""
        table = self._table(sides)
        first = np.searchsorted(table.codes, codes * self.size)
        lengths = np.searchsorted(table.codes, (codes + 1) * self.size) - first
        rows = np.repeat(np.arange(len(codes)), lengths)
        ends = np.cumsum(lengths)
        entries = np.arange(len(rows)) - np.repeat(ends - lengths - first, lengths)
        counts = np.zeros((len(codes), self.size))
        counts[rows, table.codes[entries] % self.size] = table.counts[entries]
        return counts

    def _table(self, sides: Sides) -> Table:
        if sides not in self._tables:
            places = np.arange(sides[0], len(self.ids) - sides[1])
            codes = _code(self.ids, places, sides, self.size) * self.size + self.ids[places]
            self._tables[sides] = Table(*np.unique(codes, return_counts=True))
        return self._tables[sides]


def _code(line: Ids, places: Ids, sides: Sides, size: int) -> Ids:
    """Return one number for the context of each place: its characters are the digits."""
    code = np.zeros(len(places), np.int64)
    for step in [*range(-sides[0], 0), *range(1, sides[1] + 1)]:
        code = code * size + line[places + step]
    return code


def _run(closed: Flags, places: Ids, direction: int, most: int) -> Ids:
    """Return how many open places follow each in a direction, at most `most`."""
    open_, count = np.ones(len(places), bool), np.zeros(len(places), np.int64)
    for step in range(1, most + 1):
        open_ = open_ & ~closed[places + direction * step]
        count += open_
    return count


def _growing(sides: Sides) -> list[Sides]:
    """Return the contexts from none to the largest, the sides growing by turns.

    >>> _growing((3, 1))
    [(0, 0), (1, 0), (1, 1), (2, 1), (3, 1)]
    """
    left, right, found = 0, 0, [(0, 0)]
    while (left, right) != sides:
        if left < sides[0] and (left <= right or right == sides[1]):
            left += 1
        else:
            right += 1
        found.append((left, right))
    return found
