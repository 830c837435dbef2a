"""The first kernel of the gradient of a convolution's weight: sums over chunks of the images.

wg[k, c, i, j] = Σ over images and pixels of x[pixel · stride + tap, c] · yg[pixel, k].  The
positions of a register tile are taps and channels of x, its columns are channels of y, and the
loops run over pixels.  The images are cut into chunks, whose number depends on nothing but the
spec: each chunk is a work item (or several, by columns) that leaves its sums in the workspace,
[tap, c, k], and a second kernel adds them up in order (conv_combine.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from .conv_plan import even
from .conv_spec import ConvSpec
from .conv_tile import Level, Tile, Window, copy_window, joined, run, unrolling
from .conv_weight_plan import (
    Plan,
    apart,
    grid,
    items,
    pad_channels,
    pseudo,
    sums_size,
    window,
    window_y,
)
from .integers import limited, smaller_of, tail_mask, when
from .ir import SIZES, Function, Value, vector
from .kernel import kernel_function
from .matmul_plan import parts

MOST_LINES = 48  # of the cache, that a tile may fetch: more take longer than its arithmetic


class Ahead(NamedTuple):
    """What of x and y is fetched into the cache for the next visit.

    Args:
        places: where it begins.
        lines: of the cache, that each tile fetches.
    """

    places: list[Value]
    lines: list[int]


class Partial:
    """The kernel that is being written that leaves the sums of each chunk in the workspace."""

    def __init__(self, name: str, spec: ConvSpec, plan: Plan) -> None:
        self.spec, self.plan, self.element = spec, plan, spec.dtype
        self.lanes = plan.target.lanes(spec.dtype)
        self.groups, self.inner, self.columns = pseudo(spec)
        self.window = window(spec, plan.band) if plan.copied else None
        self.window_y = window_y(spec, plan.band) if plan.copied_y else None
        self.f = kernel_function(name, scratch=self.scratch > 0)

    @property
    def scratch(self) -> int:
        """Bytes of memory that each thread needs."""
        wanted = sum(w.bytes for w in (self.window, self.window_y) if w) * self.plan.images
        return -(-wanted // 64) * 64

    def function(self) -> Function:
        """Return the kernel: a loop over chunks of images."""
        f, spec, plan = self.f, self.spec, self.plan
        self.x, self.y, self.parts = f.buffer(0), f.buffer(1), f.buffer(3)
        self.image_x, self.pitch, self.pixel, deep = spec.x
        self.y_strides = spec.y[:3]
        if self.window:
            self.copy_x = f.args[3]
            w = self.window
            self.image_x, self.pitch, self.pixel, deep = w.size, w.pitch, w.pixel, w.deep
        if self.window_y:
            before = self.window.bytes * plan.images if self.window else 0
            self.copy_y = f.at(f.args[3], before)
            channels, pitch = self.window_y.channels, self.window_y.pitch
            self.y_strides = (self.window_y.size, pitch, channels)
        self.grid = grid(spec, self.pitch, self.pixel, deep)
        if items(spec, plan)[0]:
            self.done = f.local(f.const("i64", 0))
            with f.loop(f.args[1], f.args[2]) as loop:
                self.item(loop.index)
        f.ret()
        return f

    def item(self, item: Value) -> None:
        """Write the computation of a chunk's sums, for one group and a part of its columns."""
        f, plan, size = self.f, self.plan, sums_size(self.spec, self.plan.target)
        rest, split = f.udiv(item, plan.splits), f.urem(item, plan.splits)
        self.sums = f.at(self.parts, f.mul(rest, size), self.element)
        chunk, self.group = f.udiv(rest, self.groups), f.urem(rest, self.groups)
        self.cut_columns(split)
        self.clear()
        first = f.mul(chunk, plan.visits)
        bands = -(-self.spec.oh // plan.band)
        total = -(-self.spec.n // plan.images) * bands
        stop = smaller_of(f, f.add(first, plan.visits), total)
        with f.loop(first, stop) as loop:
            image = f.mul(f.udiv(loop.index, bands), plan.images)
            self.visit(image, f.mul(f.urem(loop.index, bands), plan.band))

    def cut_columns(self, split: Value) -> None:
        """Find the columns of a part: whole panels from `start` to `stop`, and the rest or not."""
        f, width = self.f, self.plan.vectors * self.lanes
        panels = -(-self.columns // width)
        per = -(-panels // self.plan.splits) * width
        whole = self.columns // width * width
        self.start: Value | int = 0
        self.stop: Value | int = whole
        self.last: Value | None = None
        if self.plan.splits > 1:
            self.start = f.mul(split, per)
            end = f.add(self.start, per)
            self.stop = smaller_of(f, end, whole)
            self.last = f.compare("sge", end, self.columns)

    def clear(self) -> None:
        """Write zeros into the sums of a part of the columns."""
        f, pad = self.f, pad_channels(self.spec, self.plan.target)
        zero = f.const(vector(self.element, self.lanes), 0.0)
        stop: Value | int = pad
        if self.last is not None:
            stop = f.select(self.last, f.const("i64", pad), self.stop)
        with f.loop(0, sums_size(self.spec, self.plan.target), pad) as rows:
            row = f.at(self.sums, rows.index, self.element)
            with f.loop(self.start, stop, self.lanes) as columns:
                f.store(zero, f.at(row, columns.index, self.element))

    def visit(self, image: Value, row: Value) -> None:
        """Write the adding of some images, or of a band of one image."""
        f, spec, plan = self.f, self.spec, self.plan
        images = limited(f, image, plan.images, spec.n)
        rows = limited(f, row, plan.band, spec.oh)
        channels = 0 if apart(spec) else self.inner
        x = f.at(self.x, f.mul(image, spec.x[0]), self.element)
        x = f.at(x, f.mul(self.group, channels * spec.x[3]), self.element)
        y = f.at(self.y, f.mul(image, spec.y[0]), self.element)
        y = f.at(y, f.mul(self.group, self.columns * spec.y[3]), self.element)
        top = f.mul(row, spec.stride[0])
        if self.window:
            above = f.sub(top, spec.padding[0])
            x = self.copied(self.window, images, (x, spec.x[0]), (self.copy_x, self.image_x), above)
        else:
            x = f.at(x, f.mul(top, self.pitch), self.element)
        if self.window_y:
            to = (self.copy_y, self.y_strides[0])
            y = self.copied(self.window_y, images, (y, spec.y[0]), to, row)
        else:
            y = f.at(y, f.mul(row, spec.y[1]), self.element)
        self.ahead = self.next_visit(image)
        if plan.piece >= plan.band:
            self.panels(x, y, self.levels(images, rows))
        else:
            self.cut(x, y, rows)

    def next_visit(self, image: Value) -> Ahead | None:
        """Prepare the fetching of the next images into the cache, a bit by each tile."""
        f, spec, plan = self.f, self.spec, self.plan
        dense = spec.x[0] == spec.h * spec.w * spec.c and spec.y[0] == spec.oh * spec.ow * spec.k
        if not dense or plan.band < spec.oh or plan.splits * self.groups > 1:
            return None
        line, tiles = 64 // SIZES[self.element], self.tiles()
        following = f.add(image, plan.images)
        places, lines = [], []
        for base, size in ((self.x, spec.x[0]), (self.y, spec.y[0])):
            places.append(f.at(base, f.mul(following, size), self.element))
            lines.append(-(-plan.images * size // (line * tiles)))
        if sum(lines) > MOST_LINES:
            return None
        f.store(f.const("i64", 0), self.done)
        return Ahead(places, lines)

    def tiles(self) -> int:
        """Return how many register tiles a visit goes through."""
        _, outer, inner = self.grid
        plan = self.plan
        wide = sum(n for n, _ in even(inner[0], plan.inner))
        tall = sum(n for n, _ in parts(outer[0], plan.outer))
        panels = -(-self.columns // (plan.vectors * self.lanes))
        pieces = -(-self.spec.oh // plan.piece)
        return max(1, self.grid.far[0] // plan.far * wide * tall * panels * pieces)

    def fetch(self) -> None:
        """Write a tile's part of the fetching of the next images."""
        if self.ahead is None:
            return
        f, line = self.f, 64 // SIZES[self.element]
        number = f.load(self.done, "i64")
        for place, lines in zip(*self.ahead, strict=True):
            first = f.at(place, f.mul(number, lines * line), self.element)
            for i in range(lines):
                f.prefetch(f.at(first, i * line, self.element), write=False)
        f.store(f.add(number, 1), self.done)

    def cut(self, x: Value, y: Value, rows: Value | int) -> None:
        """Write the adding of a band of one image, some rows at a time."""
        f, spec, plan = self.f, self.spec, self.plan
        down = spec.stride[0] * self.pitch
        with f.loop(0, rows, plan.piece) as loop:
            here = f.at(x, f.mul(loop.index, down), self.element)
            there = f.at(y, f.mul(loop.index, self.y_strides[1]), self.element)
            left: Value | int = plan.piece
            if spec.oh % plan.piece:
                some = f.sub(f.as_value(rows, "i64"), loop.index)
                left = smaller_of(f, some, plan.piece)
            self.panels(here, there, self.levels(1, left))

    def levels(self, images: Value | int, rows: Value | int) -> list[Level]:
        """Return the loops over pixels."""
        down, across = self.spec.stride
        return joined(
            [
                Level(images, self.image_x, self.y_strides[0]),
                Level(rows, down * self.pitch, self.y_strides[1]),
                Level(self.spec.ow, across * self.pixel, self.y_strides[2]),
            ]
        )

    def copied(
        self,
        window: Window,
        images: Value | int,
        source: tuple[Value, int],
        to: tuple[Value, int],
        row: Value,
    ) -> Value:
        """Write the copying of some images from a row on; source, to: (place, image to image)."""
        f = self.f
        with f.loop(0, images) as loop:
            here = f.at(source[0], f.mul(loop.index, source[1]), self.element)
            there = f.at(to[0], f.mul(loop.index, to[1]), self.element)
            copy_window(f, window, here, row, there)
        return to[0]

    def panels(self, x: Value, y: Value, levels: list[Level]) -> None:
        """Write the panels of columns."""
        f, width = self.f, self.plan.vectors * self.lanes
        whole = self.columns // width * width
        if whole:
            with f.loop(self.start, self.stop, width) as loop:
                self.panel(x, y, levels, loop.index, width)
        if whole < self.columns:
            with when(f, self.last if self.last is not None else True):
                self.panel(x, y, levels, f.const("i64", whole), self.columns - whole)

    def panel(self, x: Value, y: Value, levels: list[Level], column: Value, width: int) -> None:
        """Write the tiles of a panel."""
        f, (far, outer, inner) = self.f, self.grid
        y = f.at(y, column, self.element)
        x = f.at(x, column, self.element) if apart(self.spec) else x
        held = f.at(self.sums, column, self.element)
        pad = pad_channels(self.spec, self.plan.target)
        with f.loop(0, far[0], self.plan.far) as rows:
            x = f.at(x, f.mul(rows.index, far[1]), self.element)
            held = f.at(held, f.mul(rows.index, outer[0] * inner[0] * pad), self.element)
            for a, tall in self.pieces(parts(outer[0], self.plan.outer)):
                for b, wide in self.pieces(even(inner[0], self.plan.inner)):
                    place = f.at(x, f.mul(a, outer[1]), self.element)
                    place = f.at(place, f.mul(b, inner[1]), self.element)
                    number = f.add(f.mul(a, inner[0]), b)
                    sums = f.at(held, f.mul(number, pad), self.element)
                    self.tile(place, y, levels, (tall, wide), width, sums)

    def pieces(self, sizes: list[tuple[int, int]]) -> Iterator[tuple[Value, int]]:
        """Write loops over pieces (how many, how large); yield where each begins, and its size."""
        start = 0
        for count, size in sizes:
            if count == 1:
                yield self.f.const("i64", start), size
            else:
                with self.f.loop(start, start + count * size, size) as loop:
                    yield loop.index, size
            start += count * size

    def tile(
        self,
        x: Value,
        y: Value,
        levels: list[Level],
        shape: tuple[int, int],
        width: int,
        held: Value,
    ) -> None:
        """Write a register tile, whose sums are in memory before and after."""
        f, (far, outer, inner) = self.f, self.grid
        vectors = -(-width // self.lanes)
        mask = tail_mask(f, width - (vectors - 1) * self.lanes, self.lanes)
        cells = list(itertools.product(range(self.plan.far), range(shape[0]), range(shape[1])))
        offsets = tuple(z * far[1] + a * outer[1] + b * inner[1] for z, a, b in cells)
        last = levels[-1]
        unroll = unrolling(offsets, last.turns, last.x, len(cells) * vectors)
        form = "apart" if apart(self.spec) else "sums"
        kind = Tile(self.element, self.lanes, offsets, vectors, form, mask, True, unroll)
        pad = pad_channels(self.spec, self.plan.target)
        places = [
            f.at(held, ((z * outer[0] + a) * inner[0] + b) * pad + v * self.lanes, self.element)
            for z, a, b in cells
            for v in range(vectors)
        ]
        self.fetch()
        start = [f.load(place, kind.kind) for place in places]
        for value, place in zip(run(f, kind, x, y, levels, start), places, strict=True):
            f.store(value, place)
