"""The main kernel of a convolution and of its input's gradient, and the packing of the weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from .conv_plan import Axis, Layout, Plan, Problem, bands, depth, even, layout, pseudo, runs
from .conv_tile import Level, Tile, Window, copy_window, run, unrolling
from .integers import Number, smaller_of, tail_mask
from .ir import SIZES, Function, Value, vector
from .kernel import kernel_function
from .matmul import Epilogue, Place
from .matmul_tile import sum_lanes

Phase = tuple[Axis, Axis]
SHORT = 64  # terms of a sum: its computation takes less time than the storing
LINE = 32  # multiplications of vectors in the time that the fetching of a line of the cache takes


class Shift(NamedTuple):
    """Where a phase begins: first output's row and column, its first tap's x, its weights."""

    row: Number
    column: Number
    x: Number
    w: Number


class Convolution:
    """The main kernel that is being written.

    Loops, from the outside in: work items (image, band of rows, group), phases, panels of
    out-channels, tiles of pixels, taps and in-channels.

    Args:
        name: of the function.
        problem, plan: what to compute, and how.
        epilogue: what becomes of the sums; None: they are stored.
        place: where the epilogue writes.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        plan: Plan,
        epilogue: Epilogue | None,
        place: Place | None = None,
    ) -> None:
        self.problem, self.plan, self.epilogue, self.place = problem, plan, epilogue, place
        self.element = problem.element
        self.lanes = plan.target.lanes(problem.element)
        self.layout: Layout = layout(problem, plan)
        self.groups, self.inner, self.columns = pseudo(problem)
        self.window = self.make_window()
        self.f = kernel_function(name, scratch=self.window is not None)

    @property
    def scratch(self) -> int:
        """Bytes of memory that each thread needs."""
        return -(-self.window.bytes // 64) * 64 if self.window else 0

    def make_window(self) -> Window | None:
        """Return what of an image is copied for a band."""
        p, plan = self.problem, self.plan
        if not plan.copied:
            return None
        rows, columns = p.reach(0, plan.band), p.reach(1)
        channels = p.groups if p.apart else p.channels[0]
        return Window(
            self.element, *p.size, channels, p.source[1:], rows[1] - rows[0], columns, plan.planar
        )  # fmt: skip

    # --- items ---

    def function(self) -> Function:
        """Return the kernel: a loop over work items."""
        f, p = self.f, self.problem
        self.x, self.w, self.y, self.packed = (f.buffer(i) for i in range(4))
        _, begin, end, *scratch = f.args
        self.copy = scratch[0] if scratch else None
        _, self.pitch, self.pixel, self.deep = p.source
        self.origin = (0, 0)
        if self.window:
            w = self.window
            self.pitch, self.pixel, self.deep = w.pitch, w.pixel, w.deep
            self.origin = (p.reach(0)[0], p.reach(1)[0])
        self.clusters = self.cluster()
        if p.images and self.columns and p.phases:
            with f.loop(begin, end) as loop:
                self.item(loop.index)
        f.ret()
        return f

    def item(self, item: Value) -> None:
        """Write the computation of a band of an image, for one group."""
        f, p, plan = self.f, self.problem, self.plan
        rest, self.group = f.udiv(item, self.groups), f.urem(item, self.groups)
        pieces = bands(p, plan)
        self.batch, band = f.udiv(rest, pieces), f.urem(rest, pieces)
        self.q0 = f.mul(band, plan.band)
        image = f.at(self.x, f.mul(self.batch, p.source[0]), self.element)
        image = f.at(image, f.mul(self.group, p.channels[0] * p.source[3]), self.element)
        top = f.mul(self.q0, p.stride[0])
        if self.window:
            assert self.copy is not None
            copy_window(f, self.window, image, f.add(top, self.origin[0]), self.copy)
            self.base = self.copy
        else:
            self.base = f.at(image, f.mul(top, self.pitch), self.element)
        size = self.layout.size
        self.weights = f.at(self.packed, f.mul(self.group, size), self.element)
        for phase, shifts, table in self.clusters:
            if table is None:
                self.phase(phase, shifts[0])
                continue
            with f.loop(0, len(shifts)) as loop:
                row = f.at(table, f.mul(loop.index, len(Shift._fields)), "i64")
                self.phase(phase, Shift(*(f.load(f.at(row, i, "i64"), "i64") for i in range(4))))

    def cluster(self) -> list[tuple[Phase, list[Shift], Value | None]]:
        """Gather the phases that differ only in where they begin: one loop goes through them.

        Return for each such group one of them, where they begin, and a table of it in memory.
        """
        alike: dict[object, tuple[Phase, list[Shift]]] = {}
        for phase, start in zip(self.problem.phases, self.layout.phases, strict=True):
            rows, columns = phase
            down = (rows.taps.first - self.origin[0]) * self.pitch
            across = (columns.taps.first - self.origin[1]) * self.pixel
            shift = Shift(rows.origin, columns.origin, down + across, start)
            key = tuple((a.size, a.step, a.taps.number, a.taps.step) for a in phase)
            alike.setdefault(key, (phase, []))[1].append(shift)
        return [(phase, shifts, self.table(shifts)) for phase, shifts in alike.values()]

    def table(self, shifts: list[Shift]) -> Value | None:
        """Write what phases differ in into memory."""
        if len(shifts) == 1:
            return None
        f = self.f
        numbers = [n for shift in shifts for n in shift]
        place = f.scratch(8 * len(numbers))
        for i, n in enumerate(numbers):
            f.store(f.as_value(n, "i64"), f.at(place, i, "i64"))
        return place

    def phase(self, phase: Phase, shift: Shift) -> None:
        """Write the panels of one phase."""
        f, size = self.f, self.columns
        self.shift = shift
        w = f.at(self.weights, shift.w, self.element)
        steps = depth(self.problem, self.plan, phase)
        width = self.layout.width
        whole = size // width * width
        if whole:
            with f.loop(0, whole, width) as loop:
                panel = f.at(w, f.mul(loop.index, steps), self.element)
                self.panel(phase, panel, loop.index, width)
        if whole < size:
            panel = f.at(w, whole * steps, self.element)
            self.panel(phase, panel, f.const("i64", whole), size - whole)

    def panel(self, phase: Phase, w: Value, column: Value, width: int) -> None:
        """Write the tiles of a panel: band rows by even pieces of a row."""
        f = self.f
        for q, tall in self.row_tiles(phase[0]):
            start = 0
            for count, wide in even(phase[1].size, self.plan.columns):
                if count == 1:
                    self.tile(phase, w, (q, f.const("i64", start)), (tall, wide), column, width)
                else:
                    with f.loop(start, start + count * wide, wide) as loop:
                        self.tile(phase, w, (q, loop.index), (tall, wide), column, width)
                start += count * wide

    def row_tiles(self, axis: Axis) -> Iterator[tuple[Value, int]]:
        """Write a loop over a band's rows of tiles and a part for the lowest: yield (row, rows)."""
        f, tall = self.f, self.plan.rows
        whole, last = axis.size // tall * tall, f.add(self.q0, self.plan.band)
        if whole:
            with f.loop(self.q0, smaller_of(f, last, whole), tall) as loop:
                yield loop.index, tall
        if whole < axis.size:
            begun = f.compare("sle", self.q0, whole)
            with f.when(f.bits("and", begun, f.compare("sgt", last, whole))):
                yield f.const("i64", whole), axis.size - whole

    # --- tiles ---

    def tile(
        self,
        phase: Phase,
        w: Value,
        first: tuple[Value, Value],
        shape: tuple[int, int],
        column: Value,
        width: int,
    ) -> None:
        """Write a register tile.

        Args:
            phase, w: and where its panel of weights begins.
            first: row and column of its first output among those of the phase.
            shape: rows and columns of outputs.
            column, width: the out-channels.
        """
        f, p, dot = self.f, self.problem, self.plan.form == "dot"
        vectors = width if dot else -(-width // self.lanes)
        cells = [(r, c) for r in range(shape[0]) for c in range(shape[1])]
        mask = None if dot else tail_mask(f, width - (vectors - 1) * self.lanes, self.lanes)
        zeros = [f.const(vector(self.element, self.lanes), 0.0)] * (len(cells) * vectors)
        rows, columns = phase
        oy = f.add(f.mul(first[0], rows.step), self.shift.row)
        ox = f.add(f.mul(first[1], columns.step), self.shift.column)
        finish = Finish(self, (oy, ox), column, p.channels[1])
        places = [(r * rows.step, c * columns.step) for r, c in cells]
        self.fetch(phase, first, cells, finish, places, vectors)
        sums = self.sums(phase, w, first, cells, column, vectors, mask, zeros)
        if dot:
            finish.numbers(places, sums, vectors)
        else:
            finish.vectors(places, sums, vectors, mask)

    def sums(
        self,
        phase: Phase,
        w: Value,
        first: tuple[Value, Value],
        cells: list[tuple[int, int]],
        column: Value,
        vectors: int,
        mask: Value | None,
        zeros: list[Value],
    ) -> list[Value]:
        """Write the loops over taps and in-channels of a tile."""
        f, p, plan = self.f, self.problem, self.plan
        if not p.steps(phase):
            return zeros
        x = self.input_place(first)
        if plan.form == "apart":
            x = f.at(x, column, self.element)
        offsets = [
            r * p.stride[0] * self.pitch + c * p.stride[1] * self.pixel for r, c in cells
        ]  # fmt: skip
        levels, pitch, rest = self.levels(phase, vectors)
        inner = levels[-1]
        unroll = unrolling(offsets, inner.turns, inner.x, len(cells) * vectors)
        shape = Tile(
            self.element, self.lanes, tuple(offsets), vectors, plan.form,
            rest if plan.form == "dot" else mask, False, unroll, pitch,
        )  # fmt: skip
        return run(f, shape, x, w, levels, zeros)

    def fetch(
        self,
        phase: Phase,
        first: tuple[Value, Value],
        cells: list[tuple[int, int]],
        finish: Finish,
        places: list[tuple[int, int]],
        vectors: int,
    ) -> None:
        """Write the fetching of memory into the cache that will be needed soon.

        What the next work item copies; and, where sums are short, the tile's place in the output.
        """
        f, p, kind = self.f, self.problem, self.element
        stored = self.epilogue is None and p.target[3] == 1
        if 0 < p.steps(phase) <= SHORT and (stored or self.place) and self.plan.form != "dot":
            for cell in places:
                there = finish.place(cell) if self.place is None else finish.place_of(cell)
                for v in range(0, vectors, 64 // (self.lanes * SIZES[kind])):
                    f.prefetch(f.at(there, v * self.lanes, kind))
        if not self.window or p.groups > 1 or p.source[3] != 1:
            return
        ahead = p.source[0]
        if bands(p, self.plan) > 1:
            ahead = self.plan.band * p.stride[0] * p.source[1]
        place = f.at(f.at(self.x, f.mul(self.batch, p.source[0]), kind), ahead, kind)
        place = f.at(place, f.mul(first[0], p.stride[0] * p.source[1]), kind)
        place = f.at(place, f.mul(first[1], p.stride[1] * p.source[2]), kind)
        line, across = 64 // SIZES[kind], p.stride[1] * p.source[2]
        rows = {r * p.stride[0] + i for r, _ in cells for i in range(p.stride[0])}
        wide = max(c for _, c in cells) * across + across
        numbers = range(0, wide, line)
        if len(rows) * len(numbers) * LINE > p.steps(phase) * len(cells) * vectors:
            return
        for row in sorted(rows):
            for number in numbers:
                f.prefetch(f.at(place, row * p.source[1] + number, kind), write=False)

    def input_place(self, first: tuple[Value, Value]) -> Value:
        """Return where the input that a tile's first output meets with the first tap is."""
        f, p = self.f, self.problem
        row = f.mul(f.sub(first[0], self.q0), p.stride[0] * self.pitch)
        place = f.at(self.base, row, self.element)
        place = f.at(place, f.mul(first[1], p.stride[1] * self.pixel), self.element)
        return f.at(place, self.shift.x, self.element)

    def levels(self, phase: Phase, vectors: int) -> tuple[list[Level], int, Value | None]:
        """Return the loops over taps and channels; for dot products, the pitch and last mask."""
        f, plan = self.f, self.plan
        rows, taps, length, merged = runs(self.problem, plan, phase)
        width, pitch, rest = vectors * self.lanes, 0, None
        down, across = phase[0].taps.step * self.pitch, phase[1].taps.step * self.pixel
        if plan.form == "dot":
            count, last = -(-length // self.lanes), length % self.lanes
            padded, pitch = count * self.lanes, depth(self.problem, self.plan, phase)
            rest = tail_mask(f, last or self.lanes, self.lanes)
            one = Level(count, self.lanes, self.lanes)
            return [Level(rows, down, taps * padded), Level(taps, across, padded), one], pitch, rest
        all_levels = [
            Level(rows, down, taps * length * width),
            Level(taps, across, length * width),
            Level(length, 1 if merged else self.deep, width),
        ]
        return [v for v in all_levels if v.turns != 1] or all_levels[-1:], pitch, rest


class Finish:
    """What becomes of a tile's sums.

    Args:
        kernel: that is being written.
        first: row and column of the tile's first output.
        column: its first out-channel, within the group.
        channels: of a group.
    """

    def __init__(
        self, kernel: Convolution, first: tuple[Value, Value], column: Value, channels: int
    ) -> None:
        self.kernel, self.first, self.f = kernel, first, kernel.f
        f, p = kernel.f, kernel.problem
        self.column = f.add(column, f.mul(kernel.group, channels)) if p.groups > 1 else column
        if p.apart:
            self.column = column

    @functools.cached_property
    def start(self) -> Value:
        """The place of the tile's first output."""
        f, p, kind = self.f, self.kernel.problem, self.kernel.element
        _, down, across, deep = p.target
        place = f.at(self.kernel.y, f.mul(self.kernel.batch, p.target[0]), kind)
        place = f.at(place, f.mul(self.first[0], down), kind)
        place = f.at(place, f.mul(self.first[1], across), kind)
        return f.at(place, f.mul(self.column, deep), kind)

    def place(self, cell: tuple[int, int]) -> Value:
        """Return the place of a pixel's first channel."""
        _, down, across, _ = self.kernel.problem.target
        return self.f.at(self.start, cell[0] * down + cell[1] * across, self.kernel.element)

    def place_of(self, cell: tuple[int, int]) -> Value:
        """Return the place of a pixel's first channel where the epilogue writes."""
        assert self.kernel.place is not None
        return self.kernel.place(self.f, self.row(cell), self.column, self.kernel.batch)

    def vectors(
        self, cells: list[tuple[int, int]], sums: list[Value], count: int, mask: Value | None
    ) -> None:
        """Write the end of a tile whose sums are vectors of channels."""
        f, lanes, kernel = self.f, self.kernel.lanes, self.kernel
        masks = [None] * (count - 1) + [mask]
        if kernel.epilogue is None and kernel.problem.target[3] != 1:
            self.scatter(cells, sums, count)
            return
        if kernel.epilogue is None:
            for i, cell in enumerate(cells):
                for v in range(count):
                    there = f.at(self.place(cell), v * lanes, kernel.element)
                    f.store_masked(sums[i * count + v], there, masks[v])
            return
        columns = [f.add(self.column, v * lanes) for v in range(count)]
        for i, cell in enumerate(cells):
            row = self.row(cell)
            for v in range(count):
                value = sums[i * count + v]
                kernel.epilogue(f, value, row, columns[v], kernel.batch, masks[v])

    def row(self, cell: tuple[int, int]) -> Value:
        """Return the number of a pixel within its image."""
        f, wide = self.f, self.kernel.problem.out[1]
        first = f.add(f.mul(self.first[0], wide), self.first[1])
        return f.add(first, cell[0] * wide + cell[1])

    def scatter(self, cells: list[tuple[int, int]], sums: list[Value], count: int) -> None:
        """Write the storing of vectors whose lanes are apart in memory."""
        f, kernel = self.f, self.kernel
        kind, width = kernel.element, count * kernel.lanes
        waiting = f.scratch(len(cells) * width * SIZES[kind])
        for i, value in enumerate(sums):
            f.store(value, f.at(waiting, i * kernel.lanes, kind))
        left = f.sub(f.const("i64", kernel.columns), self.local_column())
        channels = smaller_of(f, left, width)
        deep = kernel.problem.target[3]
        firsts = [self.place(cell) for cell in cells]
        with f.loop(0, channels) as loop:
            source, away = f.at(waiting, loop.index, kind), f.mul(loop.index, deep)
            for i, first in enumerate(firsts):
                f.store(f.load(f.at(source, i * width, kind), kind), f.at(first, away, kind))

    def local_column(self) -> Value:
        """Return the first out-channel within the group."""
        f, p = self.f, self.kernel.problem
        if p.groups == 1 or p.apart:
            return self.column
        return f.sub(self.column, f.mul(self.kernel.group, p.channels[1]))

    def numbers(self, cells: list[tuple[int, int]], sums: list[Value], count: int) -> None:
        """Write the end of a tile whose sums are vectors to be added up."""
        f, kernel = self.f, self.kernel
        deep, lanes = kernel.problem.target[3], kernel.lanes
        order = [(cell, k) for cell in cells for k in range(count)]
        for start in range(0, len(order), lanes):
            total = sum_lanes(f, sums[start : start + lanes])
            for lane, (cell, k) in enumerate(order[start : start + lanes]):
                value = f.extract(total, lane)
                if kernel.epilogue is None:
                    f.store(value, f.at(self.place(cell), k * deep, kernel.element))
                else:
                    column = f.add(self.column, k)
                    kernel.epilogue(f, value, self.row(cell), column, kernel.batch, None)
