"""Row tiles: the functions of the steps, which are called with the addresses of their slots."""

from __future__ import annotations

from collections.abc import Callable

from ..rowplan import Gram, Load, Product
from .elements import load_element
from .integers import Number, plus, times
from .ir import Function, Value
from .matmul_tile import Tile, run, steps, transpose_store
from .rowtile_map import MapBody
from .rowtile_shape import DTYPES, Shape
from .rowtile_sums import Matrix


def load(f: Function, s: Shape, step: Load) -> None:
    """f(outside, slot, count): turn columns of outside memory."""
    outside, slot, count = f.args
    is_full = f.compare("eq", count, s.tile)
    with f.when(is_full):
        if step.column == 1 and step.row > 1 and step.columns >= 4:
            _turned(f, s, outside, slot, step)
        else:
            _gathered(f, s, outside, slot, step)
    with f.when(f.bits("xor", is_full, True)):
        _one_by_one(f, s, outside, slot, step)


def _one_by_one(f: Function, s: Shape, outside: Value, slot: Value, step: Load) -> None:
    with f.loop(0, step.columns) as column, f.loop(0, f.args[2]) as row:
        at = f.add(f.mul(row.index, step.row), f.mul(column.index, step.column))
        one = f.load(f.at(outside, at, s.element), s.element)
        f.store(one, f.at(s.column(f, slot, column.index), row.index, s.element))


def _gathered(f: Function, s: Shape, outside: Value, slot: Value, step: Load) -> None:
    with f.loop(0, step.columns) as column:
        base = f.at(outside, f.mul(column.index, step.column), s.element)
        to = s.column(f, slot, column.index)
        with f.loop(0, s.tile, s.lanes) as row:
            place = f.at(base, f.mul(row.index, step.row), s.element)
            y = load_element(f, place, DTYPES[s.element], s.lanes, step.row)
            f.store(y, f.at(to, row.index, s.element))


def _turned(f: Function, s: Shape, outside: Value, slot: Value, step: Load) -> None:
    for first in range(0, step.columns, s.lanes):
        with f.loop(0, s.tile, s.lanes) as row:
            place = f.at(f.at(outside, f.mul(row.index, step.row), s.element), first, s.element)
            to = f.at(s.column(f, slot, first), row.index, s.element)
            columns = min(s.lanes, step.columns - first)
            transpose_store(f, s.element, s.lanes, place, step.row, to, s.tile, s.lanes, columns)


def store(f: Function, s: Shape, columns: int) -> None:
    """f(slot, outside, count): turn a slot back."""
    slot, outside, count = f.args
    with f.loop(0, count) as row, f.loop(0, columns) as column:
        one = f.load(f.at(s.column(f, slot, column.index), row.index, s.element), s.element)
        at = f.add(f.mul(row.index, columns), column.index)
        f.store(one, f.at(outside, at, s.element))


def clean(f: Function, s: Shape, step: int) -> None:
    """f(slot, columns, count): set the rows that don't exist to 0, so that they add nothing."""
    slot, columns, count = f.args
    with f.loop(0, columns) as column:
        base = s.column(f, slot, column.index, step)
        with f.loop(count, s.tile) as row:
            f.store(f.const(s.element, 0.0), f.at(base, row.index, s.element))


def groups(f: Function, count: int, most: int, body: Callable[[Number, int], None]) -> None:
    """Write body(first, size) for groups of a number of columns, as a loop over equal ones."""
    size = evenly(count, most)
    whole = count // size * size
    if whole > size:
        with f.loop(0, whole, size, nonempty=True) as loop:
            body(loop.index, size)
    else:
        body(0, size)
    if whole < count:
        body(whole, count - whole)


def evenly(count: int, most: int, fewest: int = 3) -> int:
    """Return the size of groups of columns: equal ones, which share code, if that is possible.

    >>> evenly(20, 6), evenly(64, 6), evenly(7, 6), evenly(2, 6)
    (5, 4, 4, 2)
    """
    equal = (size for size in range(most, fewest - 1, -1) if count % size == 0)
    return next(equal, -(-count // -(-count // most)))


def product(f: Function, s: Shape, step: Product, body: MapBody | None) -> None:
    """f(x, weight, out, …): register tiles of some columns x a block of rows.

    The map that follows is written for the columns and rows of a tile: it waits for memory while
    the next tile's arithmetic is done.
    """
    x, weight, out = f.args[:3]
    most = (s.target.registers - s.block - 2) // s.block
    wide = s.block * s.lanes
    inner, columns = step.weight.strides
    kept = None if step.stored else f.scratch(evenly(step.columns, most) * wide * s.size)
    pitch = (s.tile if kept is None else wide) * max(step.out.strides[0], 1)
    if body is not None:
        body.begin(f, 3)

    def group(first: Number, size: int) -> None:
        w = f.at(weight, times(f, first, columns), s.element)
        to = s.column(f, out, first, step.out.strides[0]) if kept is None else kept
        tile = Tile(
            s.element, s.lanes, size, s.block, (columns, inner), (s.tile * step.x.strides[0], 1),
            unroll=1 if step.inner > 4 else max(step.inner, 1),
        )  # fmt: skip

        def block(row: Number) -> None:
            sums = run(f, tile, w, f.at(x, row, s.element), step.inner)
            here = f.at(to, row, s.element) if kept is None else to
            for i, y in enumerate(sums):
                column, part = divmod(i, s.block)
                f.store(y, f.at(here, column * pitch + part * s.lanes, s.element))
            if body is None:
                return
            if size == 1:
                body.column(f, first, row, s.block, here)
                return
            with f.loop(0, size) as j:
                raw = f.at(here, f.mul(j.index, pitch), s.element)
                body.column(f, plus(f, j.index, first), row, s.block, raw)

        if s.tile == wide:
            block(0)
        else:
            with f.loop(0, s.tile, wide) as row:
                block(row.index)

    groups(f, step.columns, most, group)


def gram(f: Function, s: Shape, step: Gram) -> None:
    """f(a, b, sums): register tiles of sums, lanes being rows."""
    a, b, sums = f.args
    high, wide = gram_tile(s.target.registers, step.inner, step.columns)
    i_step, j_step = (n * s.lanes for n in step.sums.strides)

    def cell(first: Number, rows: int, column: Number, columns: int) -> None:
        tile = Tile(
            s.element, s.lanes, rows, columns, (s.tile * step.a.strides[0], 1),
            (1, s.tile * step.b.strides[0]), dot=True,
        )  # fmt: skip
        base = f.at(sums, times(f, first, i_step), s.element)
        base = f.at(base, times(f, column, j_step), s.element)
        places = [
            f.at(base, i * i_step + j * j_step, s.element)
            for i in range(rows)
            for j in range(columns)
        ]
        start = [f.load(p, s.kind) for p in places]
        left = s.column(f, a, first, step.a.strides[0])
        right = s.column(f, b, column, step.b.strides[0])
        found, _ = steps(f, tile, left, right, s.tile // s.lanes, start)
        for y, p in zip(found, places, strict=True):
            f.store(y, p)

    def strip(first: Number, rows: int) -> None:
        groups(f, step.columns, wide, lambda c, n: cell(first, rows, c, n))

    groups(f, step.inner, high, strip)


def gram_tile(registers: int, inner: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns of a register tile of sums, beside which their factors fit.

    >>> gram_tile(32, 20, 20), gram_tile(16, 20, 20), gram_tile(32, 1, 20)
    ((5, 4), (3, 3), (1, 5))
    """
    high = evenly(inner, 5 if registers >= 32 else 3)
    fits = [n for n in range(1, 9) if high * n + min(high, n) + 2 < registers]
    return high, evenly(columns, fits[-1])


def gram_matrix(f: Function, s: Shape, step: Gram, m: Matrix) -> None:
    """f(a, b, sums): the same with lanes being columns: b is turned first."""
    a, b, sums = f.args
    rows_of_b = f.scratch(s.tile * m.pitch * s.size)
    for first in range(0, m.columns, s.lanes):
        with f.loop(0, s.tile, s.lanes) as row:
            source = f.at(s.column(f, b, first, step.b.strides[0]), row.index, s.element)
            target = f.at(rows_of_b, plus(f, times(f, row.index, m.pitch), first), s.element)
            transpose_store(
                f, s.element, s.lanes, source, s.tile * step.b.strides[0], target, m.pitch,
                min(s.lanes, m.columns - first), s.lanes,
            )  # fmt: skip

    def cell(first: Number, rows: int, vector: Number, vectors: int) -> None:
        walks = (s.tile * step.a.strides[0], 1), (m.pitch, 1)
        tile = Tile(s.element, s.lanes, rows, vectors, *walks, unroll=2)
        column = times(f, vector, s.lanes)
        base = f.at(f.at(sums, times(f, first, m.pitch), s.element), column, s.element)
        places = [
            f.at(base, i * m.pitch + j * s.lanes, s.element)
            for i in range(rows)
            for j in range(vectors)
        ]
        start = [f.load(p, s.kind) for p in places]
        left = s.column(f, a, first, step.a.strides[0])
        found = run(f, tile, left, f.at(rows_of_b, column, s.element), s.tile, start)
        for y, p in zip(found, places, strict=True):
            f.store(y, p)

    def strip(vector: Number, vectors: int) -> None:
        most = (s.target.registers - vectors - 2) // vectors
        groups(f, m.rows, most, lambda first, rows: cell(first, rows, vector, vectors))

    groups(f, m.pitch // s.lanes, 4 if s.target.registers >= 32 else 2, strip)
