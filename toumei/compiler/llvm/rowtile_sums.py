"""Row tiles: where the sums over the rows are while a work item runs.

A small sum is kept lane by lane: a vector per element, the lanes being rows, which are added up
when the item has ended.  A sum of large products would take up too much of the cache that way: it
is kept as a matrix, which products are added to with lanes being columns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..rowplan import Gram, Map, Plan, Product
from .integers import Number, tail_mask, times
from .ir import Function, Value
from .matmul_tile import sum_lanes
from .rowtile_shape import Shape

LARGE = 2048  # elements


class Matrix(NamedTuple):
    """A sum that is kept as a matrix: its rows are whole vectors."""

    rows: int
    columns: int
    pitch: int


class Sums:
    """The sums of a plan.

    Args:
        plan: the program.
        shape: the sizes.
        at: the byte of the scratch memory where they begin.

    Attributes:
        total: elements of all of them in the workspace, for one item.
        parts: where each of them begins there.
        size: bytes in the scratch memory.
    """

    def __init__(self, plan: Plan, shape: Shape, at: int) -> None:
        self.shape, self.at = shape, at
        lanes = shape.lanes
        self.matrices = [_matrix(plan, number, lanes) for number in range(len(plan.sums))]
        self.parts = [0] * len(plan.sums)
        self.places = [0] * len(plan.sums)  # in the scratch memory, in elements
        self.total = 0
        for i, n in enumerate(plan.sums):
            if self.matrices[i] is None:
                self.parts[i], self.places[i] = self.total, self.total * lanes
                self.total += -(-n // lanes) * lanes
        self.vectors = self.total
        end = self.vectors * lanes
        for i, m in enumerate(self.matrices):
            if m is not None:
                self.parts[i], self.places[i] = self.total, end
                self.total += -(-plan.sums[i] // lanes) * lanes
                end += m.rows * m.pitch
        self.size = end * shape.size

    def place(self, f: Function, scratch: Value, element: Number) -> Value:
        """Return the address of a number."""
        return f.at(f.at(scratch, self.at), element, self.shape.element)

    def begin(self, f: Function, scratch: Value) -> None:
        """Set all of them to 0."""
        s = self.shape
        with f.loop(0, self.size // s.size, s.lanes) as loop:
            f.store(f.const(s.kind, 0.0), self.place(f, scratch, loop.index), 64)

    def finish(self, f: Function, scratch: Value, work: Value) -> None:
        """Put them into the workspace, dense."""
        s = self.shape
        with f.loop(0, self.vectors, s.lanes) as loop:
            first = self.place(f, scratch, times(f, loop.index, s.lanes))
            found = [f.load(f.at(first, i * s.lanes, s.element), s.kind) for i in range(s.lanes)]
            f.store(sum_lanes(f, found), f.at(work, loop.index, s.element))
        for m, part, at in zip(self.matrices, self.parts, self.places, strict=True):
            if m is not None:
                self._packed(f, m, self.place(f, scratch, at), f.at(work, part, s.element))

    def _packed(self, f: Function, m: Matrix, source: Value, target: Value) -> None:
        s = self.shape
        with f.loop(0, m.rows) as row:
            here = f.at(source, times(f, row.index, m.pitch), s.element)
            to = f.at(target, times(f, row.index, m.columns), s.element)
            for j in range(0, m.columns, s.lanes):
                y = f.load(f.at(here, j, s.element), s.kind)
                count = min(s.lanes, m.columns - j)
                if count == s.lanes:
                    f.store(y, f.at(to, j, s.element))
                else:
                    f.store_masked(y, f.at(to, j, s.element), tail_mask(f, count, s.lanes))


def turned(step: Gram) -> Gram:
    """Return a product whose sums lie side by side along its columns."""
    if step.sums.strides[1] == 1 or step.sums.strides[0] != 1:
        return step
    sums = replace(step.sums, strides=step.sums.strides[::-1])
    return Gram(step.b, step.a, sums, step.columns, step.inner)


def _matrix(plan: Plan, number: int, lanes: int) -> Matrix | None:
    """Return the matrix that a sum is best kept as, None: as vectors."""
    grams: list[Gram] = []
    for step in plan.steps:
        then = step.then if isinstance(step, Product) else step
        if isinstance(then, Map):
            if any(s.kind == "sum" and s.out.value == number for s in then.statements):
                return None
        elif isinstance(then, Gram) and then.sums.value == number:
            grams.append(turned(then))
    shapes = {(g.inner, g.columns, g.sums.strides, g.sums.offset) for g in grams}
    if len(shapes) != 1:
        return None
    rows, columns, strides, offset = shapes.pop()
    pitch = -(-columns // lanes) * lanes
    is_whole = strides == (columns, 1) and offset == 0 and plan.sums[number] == rows * columns
    if not is_whole or rows * columns < LARGE or 4 * columns < 3 * pitch:
        return None
    return Matrix(rows, columns, pitch)
