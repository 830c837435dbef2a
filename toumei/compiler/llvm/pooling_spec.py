"""What a pooling kernel computes: windows, sizes, strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from .kernel import Memory
from .strided import Dim, count, dims

Range = tuple[int, int]

UNROLLED_TAPS = 32  # a window of more is gone through by loops
_WORK = 2048  # numbers that are worth a work item of their own
_ITEMS = 64  # work items that are enough for any number of threads


class Window(NamedTuple):
    """How windows lie along one dimension: window o begins at element o·stride − before."""

    size: int
    kernel: int
    stride: int
    before: int
    dilation: int
    number: int  # of windows

    @property
    def span(self) -> int:
        """How far a window reaches, in elements."""
        return self.dilation * (self.kernel - 1) + 1

    def inner(self) -> Range:
        """Return the windows without padding in them."""
        first = -(-self.before // self.stride)
        last = (self.size - self.span + self.before) // self.stride
        return max(first, 0), min(last + 1, self.number)

    # The way back goes through the elements by blocks of `stride`: block q holds the elements
    # q·stride − before + phase.  Which taps of which windows reach an element follows from its
    # phase, but for the number of the block.

    def reaching(self, phase: int) -> list[tuple[int, int]]:
        """Return (tap, window − block) for what reaches the elements of a phase, taps ascending."""
        steps = ((k, phase - k * self.dilation) for k in range(self.kernel))
        return [(k, far // self.stride) for k, far in steps if far % self.stride == 0]

    def blocks(self) -> Range:
        """Return the blocks that hold elements."""
        return self.before // self.stride, (self.before + self.size - 1) // self.stride + 1

    def inner_blocks(self) -> Range:
        """Return the blocks that are whole, and whose elements are reached by existing windows."""
        away = [d for phase in range(self.stride) for _, d in self.reaching(phase)]
        first = max(-(-self.before // self.stride), -min(away))
        last = min((self.size + self.before) // self.stride - 1, self.number - 1 - max(away))
        return first, last + 1


@dataclass(frozen=True)
class PoolSpec:
    """What a kernel computes.

    Args:
        kind: "max" (operands x, y, and tap numbers if there are three), "taps" (x, tap numbers),
            "take" (x, tap numbers, y), "sum" (x, y), "put" (g, tap numbers, x), "spread" (g, x) or
            "indices" (tap numbers, indices).
        windows: along rows and along columns; of 1-d pooling, there is one row.
        lead: the dimensions before, with the operands' steps.
        channels: the size of the dimension in which all operands have stride 1; 1 if there is none.
        steps: of each operand, from row to row and from column to column.
        elements: the operands' types.
    """

    kind: str
    windows: tuple[Window, Window]
    lead: tuple[Dim, ...]
    channels: int
    steps: tuple[tuple[int, int], ...]
    elements: tuple[str, ...]

    @property
    def back(self) -> bool:
        """Whether it goes from one number per window to the windows' elements."""
        return self.kind in ("put", "spread")

    @property
    def large(self) -> int:
        """Return which operand the windows slide over."""
        return len(self.elements) - 1 if self.back else 0

    @property
    def taps(self) -> int:
        """Return the number of places in a window."""
        return self.windows[0].kernel * self.windows[1].kernel

    def grid(self) -> tuple[Range, Range]:
        """Return the rows and the columns that work items are made of: windows, or blocks."""
        if self.back:
            return self.windows[0].blocks(), self.windows[1].blocks()
        return (0, self.windows[0].number), (0, self.windows[1].number)

    def inner(self) -> tuple[Range, Range] | None:
        """Return the rows and columns for which code without bounds does, None for none."""
        rows, columns = (w.inner_blocks() if self.back else w.inner() for w in self.windows)
        phases = self.windows[0].stride * self.windows[1].stride if self.back else 0
        if self.taps + phases > UNROLLED_TAPS or rows[0] >= rows[1] or columns[0] >= columns[1]:
            return None
        return rows, columns

    def cut(self) -> int:
        """Return how many columns a work item has: all, unless there are few rows."""
        tall, wide = (last - first for first, last in self.grid())
        wanted = -(-_ITEMS // max(1, count(self.lead) * tall))
        cuts = max(1, min(wanted, wide * self.channels // _WORK))
        return max(1, -(-wide // cuts))

    def items(self) -> int:
        """Return the number of work items."""
        (top, bottom), (left, right) = self.grid()
        if not self.channels * count(self.lead) * prod(w.number * w.size for w in self.windows):
            return 0
        return count(self.lead) * (bottom - top) * -(-(right - left) // self.cut())


def spec_of(kind: str, op: Any, memories: Sequence[Memory]) -> PoolSpec | None:
    """Return what a kernel computes for a pooling op; None for 3-d windows and other dtypes."""
    rank = len(op.sizes)
    if rank > 2 or min(lo for lo, _ in op.padding) < 0 or not _fits(kind, memories):
        return None
    sides = zip(op.sizes, op.kernel, op.stride, op.padding, op.dilation, op.counts(), strict=True)
    windows = [Window(n, k, s, lo, gap, c) for n, k, s, (lo, _), gap, c in sides]
    if rank == 1:
        windows.insert(0, Window(1, 1, 1, 0, 1, 1))
    steps = tuple((0 if rank == 1 else m.strides[-2], m.strides[-1]) for m in memories)
    lead = len(memories[0].shape) - rank
    axis = _channels(lead, memories)
    kept = [d for d in range(lead) if d != axis]
    shape = [memories[0].shape[d] for d in kept]
    outer = dims(shape, *([m.strides[d] for d in kept] for m in memories))
    channels = 1 if axis is None else memories[0].shape[axis]
    elements = tuple(m.dtype for m in memories)
    return PoolSpec(kind, (windows[0], windows[1]), tuple(outer), channels, steps, elements)


def _fits(kind: str, memories: Sequence[Memory]) -> bool:
    """Return whether there are kernels for these dtypes."""
    if kind == "indices":
        return memories[0].dtype in ("i8", "i32") and memories[1].dtype == "i64"
    floats = {m.dtype for m in memories} - {"i8", "i32"}
    return len(floats) == 1 and floats <= {"float", "double"}


def _channels(lead: int, memories: Sequence[Memory]) -> int | None:
    """Return the dimension, not one of the windows', in which all arrays lie without gaps."""
    shape = memories[0].shape
    found = [d for d in range(lead) if shape[d] > 1 and all(m.strides[d] == 1 for m in memories)]
    return max(found, key=lambda d: shape[d], default=None)
