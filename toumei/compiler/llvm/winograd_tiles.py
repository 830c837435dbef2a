"""The parts of Winograd's kernels: tiles into the transform domain and back, the products there.

In the transform domain there are 36 matrices (6 x 6 places of a tile), rows = tiles, columns =
channels; lanes are channels.  A two-dimensional transform is one along the columns of pixels, whose
results wait in a line buffer, and one along the rows: all loops stay rolled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .integers import (
    Number,
    as_value,
    larger_of,
    limited,
    plus,
    remainder,
    smaller,
    smaller_of,
    tail_mask,
    times,
)
from .ir import Function, Value, vector
from .matmul import Epilogue, Place
from .matmul_tile import Tile, run
from .winograd_math import POINTS, STEP, combine, input_line, spread
from .winograd_plan import LINE, SIZE, SQUARE, Image, Matrices, Plan

Fetch = Callable[[Value], None]  # writes the fetching of a piece of something, by its number


class Unit(NamedTuple):
    """A piece of a row of tiles: the image, the row, the first tile, how many."""

    batch: Number
    row: Number
    first: Number
    tiles: Number


class Writer(NamedTuple):
    """A kernel that is being written, and what it is to compute."""

    f: Function
    plan: Plan

    @property
    def kind(self) -> str:
        return vector("float", self.plan.lanes)

    def at(self, base: Value, index: Number) -> Value:
        """Return the address of a number."""
        return self.f.at(base, index, "float")

    def load(self, base: Value, index: Number) -> Value:
        """Load a vector."""
        return self.f.load(self.at(base, index), self.kind)

    def store(self, value: Value, base: Value, index: Number) -> None:
        """Store a vector."""
        self.f.store(value, self.at(base, index))

    def vectors(self, channels: int) -> Iterator[tuple[Value, Value | None]]:
        """Write a loop over vectors of channels, and the last one apart: yield (channel, mask)."""
        lanes = self.plan.lanes
        whole = channels // lanes * lanes
        if whole:
            with self.f.loop(0, whole, lanes) as loop:
                yield loop.index, None
        if whole < channels:
            yield self.f.const("i64", whole), tail_mask(self.f, channels - whole, lanes)


def scratch_bytes(plan: Plan) -> int:
    """Return the bytes of scratch memory that a thread needs."""
    return sum(plan.scratch.values()) * SIZE


def scratch_parts(w: Writer, scratch: Value) -> dict[str, Value]:
    """Return where the parts of scratch memory begin; the row of zeros is made."""
    f, places, offset = w.f, dict[str, Value](), 0
    for part, size in w.plan.scratch.items():
        places[part] = w.at(scratch, offset)
        offset += size
    if w.plan.in_place:
        places["result"] = places["source"]
    clear(f, places["zeros"], w.plan.zeros)
    return places


def clear(f: Function, place: Value, numbers: int) -> None:
    """Write the filling of memory with zeros."""
    f.clear(place, numbers * SIZE)


def units(w: Writer, first: Number, last: Number) -> Iterator[tuple[Unit, Value, Value]]:
    """Write a loop over units: yield each, its first tile's number among all, and the next one's.

    The loop has a turn, so that its last values may be used after it.
    """
    f, plan = w.f, w.plan
    zero = f.const("i64", 0)
    with f.loop(as_value(f, first), as_value(f, last), carried=[zero], nonempty=True) as loop:
        piece, rest = remainder(f, loop.index, plan.segments)
        row, batch = remainder(f, rest, plan.grid[0])
        start = times(f, piece, plan.segment)
        tiles = limited(f, as_value(f, start), plan.segment, plan.grid[1])
        following = f.add(loop.carried[0], as_value(f, tiles))
        yield Unit(batch, row, start, tiles), loop.carried[0], following
        loop.next = [following]


# --- into the transform domain ---


class Loader:
    """What brings tiles of images into the transform domain.

    Args:
        w: the kernel.
        image: where the tiles are.
        taps: rows and columns of a tile.
        padding: zeros before the first row and column of an image.
        scratch: the parts of scratch memory.
    """

    def __init__(
        self,
        w: Writer,
        image: Image,
        taps: int,
        padding: tuple[int, int],
        scratch: dict[str, Value],
    ) -> None:
        self.w, self.image, self.taps, self.padding = w, image, taps, padding
        self.line, self.zeros = scratch["line"], scratch["zeros"]

    def transform(self, values: Sequence[Value]) -> list[Value]:
        """Return one line of a transformed tile: of an image, or of gradients."""
        if self.taps == POINTS:
            return input_line(self.w.f, values)
        return spread(self.w.f, values, scaled=False)

    def load(self, first: Value, last: Value, to: Value, matrices: Matrices) -> Value:
        """Write the transformation of a block; return how many tiles it has.

        Channels are the outer loop: the rows that two units share are still in the first cache.

        Args:
            first, last: units.
            to, matrices: where the transformed tiles go.
        """
        w, f = self.w, self.w.f
        for channel, mask in w.vectors(self.image.channels):
            for unit, tile, following in units(w, first, last):
                self.down(unit, [w.at(row, channel) for row in self.rows(unit)], mask)
                place = w.at(w.at(to, f.mul(tile, matrices.row)), channel)
                self.across(unit, place, matrices)
                tiles = following
        return tiles

    def rows(self, unit: Unit) -> list[Value]:
        """Return where the rows begin; one outside of the image is a row of zeros."""
        f, image, top = self.w.f, self.image, self.padding[0]
        base = self.w.at(f.buffer(image.buffer), times(f, unit.batch, image.strides[0]))
        first = plus(f, times(f, unit.row, STEP), -top)
        lowest = STEP * (self.w.plan.grid[0] - 1) - top
        places = []
        for i in range(self.taps):
            y = plus(f, first, i)
            place = self.w.at(base, times(f, y, image.strides[1]))
            if i < top or lowest + i >= image.rows:
                inside = f.compare("ult", as_value(f, y), image.rows)
                place = f.select(inside, place, self.zeros)
            places.append(place)
        return places

    def down(self, unit: Unit, rows: list[Value], mask: Value | None) -> None:
        """Write the transformation of the columns of pixels, and zeros for those outside."""
        f, w, image = self.w.f, self.w, self.image
        first = plus(f, times(f, unit.first, STEP), -self.padding[1])  # column of the image
        size = plus(f, times(f, unit.tiles, STEP), self.taps - STEP)
        begin, end = self.inside(first, size)
        with f.loop(as_value(f, begin), as_value(f, end)) as loop:
            column = times(f, plus(f, loop.index, first), image.strides[2])
            values = [f.load_masked(w.at(row, column), w.kind, mask) for row in rows]
            self.keep(loop.index, self.transform(values))
        nothing = [f.const(w.kind, 0.0)] * POINTS
        for start, stop in ((0, begin), (end, size)):
            if start != stop:
                with f.loop(as_value(f, start), as_value(f, stop)) as loop:
                    self.keep(loop.index, nothing)

    def inside(self, first: Number, size: Number) -> tuple[Number, Number]:
        """Return which part of a line lies inside of the image."""
        f, columns = self.w.f, self.image.columns
        if isinstance(first, int) and isinstance(size, int):
            start = min(max(0, -first), size)
            return start, max(start, min(size, columns - first))
        zero, width = f.const("i64", 0), as_value(f, size)
        before = f.sub(zero, as_value(f, first))
        begin = smaller_of(f, larger_of(f, before, zero), width)
        end = smaller_of(f, f.add(before, columns), width)
        return begin, larger_of(f, begin, end)

    def keep(self, column: Value, values: list[Value]) -> None:
        """Write the storing of a column into the line buffer."""
        lanes = self.w.plan.lanes
        place = self.w.at(self.line, self.w.f.mul(column, POINTS * lanes))
        for i, value in enumerate(values):
            self.w.store(value, place, i * lanes)

    def across(self, unit: Unit, to: Value, matrices: Matrices) -> None:
        """Write the transformation of the rows of a tile, into the matrices."""
        f, w, lanes = self.w.f, self.w, self.w.plan.lanes
        column = POINTS * lanes
        with f.loop(as_value(f, 0), as_value(f, unit.tiles), nonempty=True) as tiles:
            tile = w.at(self.line, f.mul(tiles.index, STEP * column))
            target = w.at(to, f.mul(tiles.index, matrices.row))
            with f.loop(0, POINTS) as rows:
                line = w.at(tile, f.mul(rows.index, lanes))
                values = [w.load(line, j * column) for j in range(self.taps)]
                place = w.at(target, f.mul(rows.index, POINTS * matrices.step))
                for j, value in enumerate(self.transform(values)):
                    w.store(value, place, j * matrices.step)


# --- products ---


def register_tiles(
    w: Writer, rows: Value | int, ahead: Sequence[Fetch]
) -> Iterator[tuple[Value, Value, Value]]:
    """Write the loops over matrices, columns and rows of register tiles: yield these three.

    Args:
        rows: how many there are.
        ahead: what is fetched into the cache meanwhile, a little for each register tile.
    """
    f, plan = w.f, w.plan
    width, (_, panels, downs) = plan.vectors * plan.lanes, plan.turns
    with f.loop(0, SQUARE) as matrix, f.loop(0, plan.wide, width) as across:
        panel = f.add(f.mul(matrix.index, panels), f.udiv(across.index, width))
        with f.loop(as_value(f, 0), as_value(f, rows), plan.rows, nonempty=True) as down:
            number = f.add(f.mul(panel, downs), f.udiv(down.index, plan.rows))
            for piece in ahead:
                piece(number)
            yield matrix.index, across.index, down.index


def register_tile(plan: Plan, a: tuple[int, int], b: int) -> Tile:
    """Return the register tile, for strides of A (of rows, of what is summed over) and of B."""
    sums, chains = plan.rows * plan.vectors, plan.chains
    unroll = max(chains, 1 if sums >= 8 else 2)
    return Tile(
        "float", plan.lanes, plan.rows, plan.vectors, a, (b, 1), unroll=unroll, chains=chains
    )  # fmt: skip


def cells(w: Writer, first: Value, row: int) -> list[Value]:
    """Return where the sums of a register tile are in memory."""
    rows, vectors, lanes = w.plan.rows, w.plan.vectors, w.plan.lanes
    return [w.at(first, i * row + v * lanes) for i in range(rows) for v in range(vectors)]


def products(w: Writer, a: Value, b: Value, c: Value, tiles: Value, ahead: Sequence[Fetch]) -> None:
    """Write C = A · B for all matrices: tiles by channels, times channels by channels.

    Args:
        ahead: what is fetched into the cache meanwhile.
    """
    f, plan = w.f, w.plan
    shape = register_tile(plan, (plan.sources.row, 1), plan.weights.row)
    for matrix, column, tile in register_tiles(w, tiles, ahead):
        left = w.at(w.at(a, f.mul(matrix, plan.sources.step)), f.mul(tile, plan.sources.row))
        right = w.at(w.at(b, f.mul(matrix, plan.weights.step)), column)
        found = run(f, shape, left, right, plan.source.channels)
        first = w.at(w.at(c, f.mul(matrix, plan.results.step)), column)
        first = w.at(first, f.mul(tile, plan.results.row))
        for value, place in zip(found, cells(w, first, plan.results.row), strict=True):
            f.store(value, place)


def add_products(
    w: Writer, a: Value, b: Value, c: Value, tiles: Value, ahead: Sequence[Fetch]
) -> None:
    """Write C += Aᵀ · B for all matrices, as `products`: channels by tiles, tiles by channels."""
    f, plan = w.f, w.plan
    shape = register_tile(plan, (1, plan.sources.row), plan.results.row)
    for matrix, column, channel in register_tiles(w, plan.deep, ahead):
        first = w.at(w.at(c, f.mul(matrix, plan.weights.step)), column)
        places = cells(w, w.at(first, f.mul(channel, plan.weights.row)), plan.weights.row)
        left = w.at(w.at(a, f.mul(matrix, plan.sources.step)), channel)
        right = w.at(w.at(b, f.mul(matrix, plan.results.step)), column)
        before = [f.load(place, w.kind) for place in places]
        for value, place in zip(run(f, shape, left, right, tiles, before), places, strict=True):
            f.store(value, place)


def fetch(w: Writer, image: Image, unit: Value, place: Place | None = None) -> Fetch:
    """Return what fetches the memory of a block into the cache, a piece at a time.

    The products leave the memory idle, and the transforms wait for it.

    Args:
        image: where the block is.
        unit: its first.
        place: tells where the block will be written; else it is read, from the image's buffer.
    """
    f, plan, rows = w.f, w.plan, image.strides[1]
    contiguous = plan.segments == 1 and image.strides[0] == image.rows * rows
    share = -(-plan.group * STEP * rows * SIZE // (math.prod(plan.turns) * LINE)) * LINE
    row, batch = (as_value(f, n) for n in remainder(f, unit, plan.grid[0]))
    y = f.mul(row, STEP)
    if place:
        base = place(f, f.mul(y, image.columns), f.const("i64", 0), batch)
    else:
        base = w.at(f.buffer(image.buffer), f.mul(batch, image.strides[0]))
        base = w.at(base, f.mul(y, rows))
    how = [Value(n, "i32") for n in ("1" if place else "0", "2", "1")]  # into the second cache

    def piece(number: Value) -> None:
        if contiguous:
            place = f.at(base, f.mul(number, share))
            with f.loop(0, share, LINE) as loop:
                f.call("llvm.prefetch.p0", "void", f.at(place, loop.index), *how)

    return piece


# --- out of the transform domain ---


def square(
    w: Writer, source: Value, pitch: int, count: int, scaled: bool, rows: Number
) -> Iterator[tuple[Value, list[Value]]]:
    """Write the transformation of one tile back; yield each row: its number, `count` results.

    Args:
        source: the tile's numbers in the first of the matrices.
        pitch: from matrix to matrix.
        count, scaled: see `combine`.
        rows: how many are wanted.
    """
    f, lanes = w.f, w.plan.lanes
    waiting = f.scratch(count * POINTS * lanes * 4)
    with f.loop(0, POINTS) as columns:
        place = w.at(source, f.mul(columns.index, pitch))
        values = [w.load(place, i * POINTS * pitch) for i in range(POINTS)]
        to = w.at(waiting, f.mul(columns.index, lanes))
        for i, value in enumerate(combine(f, values, count, scaled)):
            w.store(value, to, i * POINTS * lanes)
    with f.loop(f.const("i64", 0), as_value(f, rows), nonempty=True) as loop:
        place = w.at(waiting, f.mul(loop.index, POINTS * lanes))
        values = [w.load(place, j * lanes) for j in range(POINTS)]
        yield loop.index, combine(f, values, count, scaled)


def finish(w: Writer, unit: Unit, source: Value, epilogue: Epilogue) -> None:
    """Write the transformation of a unit's results back, and what becomes of them.

    Args:
        source: the unit's first tile in the first of the matrices.
    """
    f, plan, image = w.f, w.plan, w.plan.result
    y, batch = as_value(f, times(f, unit.row, STEP)), as_value(f, unit.batch)
    rows: Number = STEP
    if image.rows % STEP:
        rows = smaller(f, f.sub(f.const("i64", image.rows), y), STEP)
    always = image.columns % STEP or STEP  # columns that even the last tile of a row has
    with f.loop(as_value(f, 0), as_value(f, unit.tiles), nonempty=True) as tiles:
        tile = w.at(source, f.mul(tiles.index, plan.results.row))
        x = f.mul(f.add(tiles.index, as_value(f, unit.first)), STEP)
        for channel, mask in w.vectors(image.channels):
            found = square(w, w.at(tile, channel), plan.results.step, STEP, False, rows)
            for i, values in found:
                pixel = f.add(f.mul(f.add(i, y), image.columns), x)
                for q, value in enumerate(values[:always]):
                    epilogue(f, value, f.add(pixel, q), channel, batch, mask)
                if always < STEP:
                    with f.when(f.compare("sle", x, image.columns - STEP)):
                        for q, value in enumerate(values[always:], always):
                            epilogue(f, value, f.add(pixel, q), channel, batch, mask)
