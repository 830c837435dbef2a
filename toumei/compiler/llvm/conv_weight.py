"""The kernels of the gradient of a convolution's weight.

wg[k, c, i, j] = Σ over images and pixels of x[pixel · stride + tap, c] · yg[pixel, k].  Positions of
a register tile are taps and channels of x, its columns are channels of y, and the loops run over
pixels.  The images are cut into chunks, whose number depends on nothing but the spec: each chunk
is a work item that leaves its sums in the workspace, and a second kernel adds them up in order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .conv_plan import BAND, even
from .conv_spec import ConvSpec
from .conv_tile import Level, Tile, Window, copy_window, joined, run, unrolling
from .ir import SIZES, Function, Value, vector
from .matmul_plan import fits, parts, step_cycles
from .matmul_tile import first_lanes, store_maybe
from .target import Target

Epilogue = Callable[[Function, Value, Value, Value, Value, "Value | None"], None]

ARGS = [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")]
CHUNKS = 16  # enough for several threads
FEW_CHUNKS = 8  # where the sums of one are large
LARGE = 128 * 1024  # bytes of such sums
PIXELS = 128  # that a tile goes through at a time: its columns of y stay in the first cache
COPIED = 512  # numbers per out-channel that the second kernel turns over at a time


class Grid(NamedTuple):
    """The positions of the sums in x: (count, distance) from the outermost to the innermost.

    A register tile has positions of the two inner ones.
    """

    far: tuple[int, int]
    outer: tuple[int, int]
    inner: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """How the gradient of a weight is computed.

    Args:
        target: the processor.
        outer, inner: positions of a register tile: see Grid.
        vectors: of columns of a register tile.
        images: that are copied, and gone through by each tile, at a time.
        band: rows of y likewise; less than all only with one image.
        visits: how many such parts there are in a chunk.
        piece: rows of y that a tile goes through at a time; less than `band` only with one image.
        chunks: how many.
        copied: x is copied first, with zeros around it.
        copied_y: y is copied first, channels innermost.
    """

    target: Target
    outer: int
    inner: int
    vectors: int
    images: int
    band: int
    visits: int
    piece: int
    chunks: int
    copied: bool
    copied_y: bool


# --- sizes ---


def apart(spec: ConvSpec) -> bool:
    """Each channel has a window of its own."""
    return spec.groups > 1 and spec.c == spec.groups == spec.k


def pseudo(spec: ConvSpec) -> tuple[int, int, int]:
    """Return (groups, in-channels, out-channels) as register tiles see them."""
    if apart(spec):
        return 1, 1, spec.k
    groups = max(1, spec.groups)
    return groups, spec.c // groups, spec.k // groups


def pad_channels(spec: ConvSpec, target: Target) -> int:
    """Return the numbers of a row of sums: whole vectors of out-channels."""
    lanes = target.lanes(spec.dtype)
    return -(-pseudo(spec)[2] // lanes) * lanes


def sums_size(spec: ConvSpec, target: Target) -> int:
    """Return the numbers of one group's sums."""
    return spec.kernel[0] * spec.kernel[1] * pseudo(spec)[1] * pad_channels(spec, target)


def reach(spec: ConvSpec, i: int, count: int) -> tuple[int, int]:
    """Return the first place along an axis that outputs 0 … count - 1 meet, and the end."""
    extent = (spec.kernel[i] - 1) * spec.dilation[i]
    return -spec.padding[i], (count - 1) * spec.stride[i] + extent + 1 - spec.padding[i]


def window(spec: ConvSpec, band: int) -> Window:
    """Return what of an image is copied."""
    rows, columns = reach(spec, 0, band), reach(spec, 1, spec.ow)
    channels = spec.c if apart(spec) else pseudo(spec)[1]
    return Window(
        spec.dtype, spec.h, spec.w, channels, spec.x[1:], rows[1] - rows[0], columns, planar(spec)
    )  # fmt: skip


def planar(spec: ConvSpec) -> bool:
    """Tell whether a copy of x has the channels outermost, as x has."""
    return spec.x[2] == 1 and not channel_unit(spec) and not apart(spec)


def channel_unit(spec: ConvSpec) -> bool:
    """Tell whether the channels of a pixel, of one group, are side by side in x."""
    return spec.x[3] == 1 or (pseudo(spec)[1] == 1 and not apart(spec))


def window_y(spec: ConvSpec, band: int) -> Window:
    """Return what of y is copied."""
    channels = pseudo(spec)[2]
    return Window(spec.dtype, spec.oh, spec.ow, channels, spec.y[1:], band, (0, spec.ow))


def grid(spec: ConvSpec, pitch: int, pixel: int, deep: int) -> Grid:
    """Return the positions, given the distances of x's rows, pixels and channels."""
    (rows, taps), (down, across) = spec.kernel, spec.dilation
    channels = pseudo(spec)[1]
    if apart(spec):
        return Grid((1, 0), (rows, down * pitch), (taps, across * pixel))
    if across == 1 and pixel == channels and (deep == 1 or channels == 1):
        return Grid((1, 0), (rows, down * pitch), (taps * channels, 1))
    return Grid((rows, down * pitch), (taps, across * pixel), (channels, deep))


@functools.lru_cache(maxsize=512)
def choose(spec: ConvSpec, target: Target) -> Plan:
    """Return a plan: the register tile that should need the fewest cycles, and chunks."""
    lanes = target.lanes(spec.dtype)
    columns = pseudo(spec)[2]
    ends = [reach(spec, i, (spec.oh, spec.ow)[i])[1] for i in range(2)]
    padded = max(spec.padding) > 0 or ends[0] > spec.h or ends[1] > spec.w
    copied = padded or not (channel_unit(spec) or planar(spec))
    whole = window(spec, max(1, spec.oh))
    shape = grid(spec, *((whole.pitch, whole.pixel, whole.deep) if copied else spec.x[1:]))
    tall, wide, vectors = min(
        tiles(shape, target, columns, lanes), key=lambda t: tile_cost(shape, columns, lanes, t)
    )
    row = max(1, whole.bytes // max(1, whole.rows) * spec.stride[0])
    band = max(1, min(spec.oh, BAND // row))
    images = 1
    if band >= spec.oh:
        most = min(BAND // max(1, whole.bytes), -(-PIXELS // max(1, spec.oh * spec.ow)))
        images = max(1, min(most, spec.n // CHUNKS))
    piece = max(1, min(band, -(-PIXELS // max(1, spec.ow))))
    piece = -(-spec.oh // max(1, -(-spec.oh // piece))) or 1
    band = max(1, band // piece) * piece
    visits = -(-spec.n // images) * -(-spec.oh // band)
    few = sums_size(spec, target) * SIZES[spec.dtype] > LARGE
    each = -(-visits // (FEW_CHUNKS if few else CHUNKS))
    return Plan(
        target, tall, wide, vectors, images, band, each, piece, -(-visits // each) if each else 0,
        copied, spec.y[3] != 1,
    )  # fmt: skip


def tiles(shape: Grid, target: Target, columns: int, lanes: int) -> Iterator[tuple[int, int, int]]:
    """Yield the register tiles worth looking at: outer and inner positions, vectors."""
    for vectors in range(1, max(1, min(4, -(-columns // lanes))) + 1):
        widths = {even(max(1, shape.inner[0]), most)[0][1] for most in range(1, 29)}
        for wide in sorted(widths):
            for tall in range(1, min(8, max(1, shape.outer[0])) + 1):
                if wide * tall == 1 or fits(target, wide * tall, vectors):
                    yield tall, wide, vectors


def tile_cost(shape: Grid, columns: int, lanes: int, tile: tuple[int, int, int]) -> float:
    """Return the estimated cycles of one pixel with a register tile."""
    tall, wide, vectors = tile
    total, shapes = 0.0, 0
    for panels, width in parts(columns, vectors * lanes):
        v = -(-width // lanes)
        for down, r in parts(shape.outer[0], tall):
            for across, c in even(shape.inner[0], wide):
                total += panels * down * across * (step_cycles(r * c, v) + 0.2 + 0.01 * r * c * v)
                shapes += 1
    return total * (1 + 0.01 * shapes)


def items(spec: ConvSpec, plan: Plan) -> tuple[int, int]:
    """Return the work items of both kernels."""
    groups, inner, columns = pseudo(spec)
    blocks = -(-columns // plan.target.lanes(spec.dtype))
    if not inner * columns * spec.kernel[0] * spec.kernel[1]:
        return 0, 0
    return plan.chunks * groups, groups * blocks * -(-inner // channel_block(spec))


def channel_block(spec: ConvSpec) -> int:
    """Return how many in-channels an item of the second kernel turns over."""
    taps = max(1, spec.kernel[0] * spec.kernel[1])
    return max(1, min(pseudo(spec)[1], COPIED // taps))


def workspace(spec: ConvSpec, plan: Plan) -> int:
    """Return the bytes of the chunks' sums."""
    numbers = plan.chunks * pseudo(spec)[0] * sums_size(spec, plan.target)
    return numbers * SIZES[spec.dtype]


# --- the first kernel ---


class Partial:
    """The kernel that is being written that leaves the sums of each chunk in the workspace."""

    def __init__(self, name: str, spec: ConvSpec, plan: Plan) -> None:
        self.spec, self.plan, self.element = spec, plan, spec.dtype
        self.lanes = plan.target.lanes(spec.dtype)
        self.groups, self.inner, self.columns = pseudo(spec)
        self.window = window(spec, plan.band) if plan.copied else None
        self.window_y = window_y(spec, plan.band) if plan.copied_y else None
        self.f = Function(name, [*ARGS, ("scratch", "ptr")] if self.scratch else ARGS)

    @property
    def scratch(self) -> int:
        """Bytes of memory that each thread needs."""
        wanted = sum(w.bytes for w in (self.window, self.window_y) if w) * self.plan.images
        return -(-wanted // 64) * 64

    def function(self) -> Function:
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
            with f.loop(f.args[1], f.args[2]) as loop:
                self.item(loop.index)
        f.ret()
        return f

    def item(self, item: Value) -> None:
        """Write the computation of a chunk's sums, for one group."""
        f, plan, size = self.f, self.plan, sums_size(self.spec, self.plan.target)
        self.sums = f.at(self.parts, f.mul(item, size), self.element)
        chunk, self.group = f.udiv(item, self.groups), f.urem(item, self.groups)
        with f.loop(0, size, self.lanes) as loop:
            zero = f.const(vector(self.element, self.lanes), 0.0)
            f.store(zero, f.at(self.sums, loop.index, self.element))
        first = f.mul(chunk, plan.visits)
        bands = -(-self.spec.oh // plan.band)
        total = -(-self.spec.n // plan.images) * bands
        end = f.add(first, plan.visits)
        stop = f.select(f.compare("slt", end, total), end, total)
        with f.loop(first, stop) as loop:
            image = f.mul(f.udiv(loop.index, bands), plan.images)
            self.visit(image, f.mul(f.urem(loop.index, bands), plan.band))

    def visit(self, image: Value, row: Value) -> None:
        """Write the adding of some images, or of a band of one image."""
        f, spec, plan = self.f, self.spec, self.plan
        images = self.limited(image, plan.images, spec.n)
        rows = self.limited(row, plan.band, spec.oh)
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
        if plan.piece >= plan.band:
            self.panels(x, y, self.levels(images, rows))
            return
        down = spec.stride[0] * self.pitch
        with f.loop(0, rows, plan.piece) as loop:
            here = f.at(x, f.mul(loop.index, down), self.element)
            there = f.at(y, f.mul(loop.index, self.y_strides[1]), self.element)
            left: Value | int = plan.piece
            if spec.oh % plan.piece:
                some = f.sub(f.as_value(rows, "i64"), loop.index)
                left = f.select(f.compare("slt", some, plan.piece), some, plan.piece)
            self.panels(here, there, self.levels(images, left))

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

    def limited(self, first: Value, count: int, size: int) -> Value | int:
        """Return how many of `count` from the first on exist."""
        if size % count == 0:
            return count
        f = self.f
        left = f.sub(f.const("i64", size), first)
        return f.select(f.compare("slt", left, count), left, count)

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
            with f.loop(0, whole, width) as loop:
                self.panel(x, y, levels, loop.index, width)
        if whole < self.columns:
            self.panel(x, y, levels, f.const("i64", whole), self.columns - whole)

    def panel(self, x: Value, y: Value, levels: list[Level], column: Value, width: int) -> None:
        """Write the tiles of a panel."""
        f, (far, outer, inner) = self.f, self.grid
        y = f.at(y, column, self.element)
        x = f.at(x, column, self.element) if apart(self.spec) else x
        held = f.at(self.sums, column, self.element)
        pad = pad_channels(self.spec, self.plan.target)
        with f.loop(0, far[0]) as rows:
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
        f, (_, outer, inner) = self.f, self.grid
        vectors = -(-width // self.lanes)
        mask = first_lanes(f, self.lanes, width - (vectors - 1) * self.lanes)
        cells = [(a, b) for a in range(shape[0]) for b in range(shape[1])]
        offsets = tuple(a * outer[1] + b * inner[1] for a, b in cells)
        last = levels[-1]
        unroll = unrolling(offsets, last.turns, last.x, len(cells) * vectors)
        form = "apart" if apart(self.spec) else "sums"
        kind = Tile(self.element, self.lanes, offsets, vectors, form, mask, True, unroll)
        pad = pad_channels(self.spec, self.plan.target)
        places = [
            f.at(held, (a * inner[0] + b) * pad + v * self.lanes, self.element)
            for a, b in cells
            for v in range(vectors)
        ]
        start = [f.load(place, kind.kind) for place in places]
        for value, place in zip(run(f, kind, x, y, levels, start), places, strict=True):
            f.store(value, place)


# --- the second kernel ---


class Combine:
    """The kernel that adds up the chunks' sums and turns them into the layout of the weight.

    An item is a vector of out-channels and some in-channels.
    """

    def __init__(self, name: str, spec: ConvSpec, plan: Plan, epilogue: Epilogue | None) -> None:
        self.spec, self.plan, self.epilogue, self.element = spec, plan, epilogue, spec.dtype
        self.lanes = plan.target.lanes(spec.dtype)
        self.groups, self.inner, self.columns = pseudo(spec)
        self.taps = spec.kernel[0] * spec.kernel[1]
        self.f = Function(name, ARGS)

    def function(self) -> Function:
        f = self.f
        if items(self.spec, self.plan)[1]:
            self.block = channel_block(self.spec)
            size = self.lanes * self.pitch * SIZES[self.element]
            self.turned = f.scratch(size)
            with f.loop(f.args[1], f.args[2]) as loop:
                self.item(loop.index)
        f.ret()
        return f

    @property
    def pitch(self) -> int:
        """Numbers of an out-channel in scratch memory: whole vectors, not a power of two."""
        return -(-self.block * self.taps // self.lanes) * self.lanes + self.lanes

    def item(self, item: Value) -> None:
        f = self.f
        pieces, blocks = -(-self.inner // self.block), -(-self.columns // self.lanes)
        rest, piece = f.udiv(item, pieces), f.urem(item, pieces)
        group, block = f.udiv(rest, blocks), f.urem(rest, blocks)
        first, column = f.mul(piece, self.block), f.mul(block, self.lanes)
        channels = self.least(f.sub(f.const("i64", self.inner), first), self.block, self.inner)
        self.turn(group, column, first, channels)
        valid = self.least(f.sub(f.const("i64", self.columns), column), self.lanes, self.columns)
        count = channels * self.taps if isinstance(channels, int) else f.mul(channels, self.taps)
        row0 = f.add(f.mul(group, self.columns), column)
        with f.loop(0, valid) as loop:
            source = f.at(self.turned, f.mul(loop.index, self.pitch), self.element)
            row = f.add(row0, loop.index)
            if self.epilogue is None and not self.dense:
                self.scatter(source, row, first, channels)
            else:
                self.finish(source, row, f.mul(first, self.taps), count)

    @property
    def dense(self) -> bool:
        """The weights of an out-channel are contiguous."""
        rows, taps = self.spec.kernel
        return self.spec.weight[1:] == (rows * taps, taps, 1)

    def least(self, left: Value, count: int, size: int) -> Value | int:
        if size % count == 0:
            return count
        return self.f.select(self.f.compare("slt", left, count), left, count)

    def turn(self, group: Value, column: Value, first: Value, channels: Value | int) -> None:
        """Write the adding up, and the storing of lanes apart from each other."""
        f, kind = self.f, self.element
        size, pad = sums_size(self.spec, self.plan.target), pad_channels(
            self.spec, self.plan.target
        )  # fmt: skip
        base = f.at(f.buffer(3), f.add(f.mul(group, size), column), kind)
        with f.loop(0, self.taps) as taps, f.loop(0, channels) as inner:
            number = f.add(f.add(f.mul(taps.index, self.inner), first), inner.index)
            place = f.at(base, f.mul(number, pad), kind)
            zero = f.const(vector(kind, self.lanes), 0.0)
            with f.loop(0, self.plan.chunks, carried=[zero]) as chunks:
                there = f.at(place, f.mul(chunks.index, self.groups * size), kind)
                chunks.next = [f.fadd(chunks.carried[0], f.load(there, zero.type))]
            to = f.at(self.turned, f.add(f.mul(inner.index, self.taps), taps.index), kind)
            for lane in range(self.lanes):
                value = f.extract(chunks.results[0], lane)
                f.store(value, f.at(to, lane * self.pitch, kind))

    def finish(self, source: Value, row: Value, first: Value, count: Value | int) -> None:
        """Write what becomes of the gradient of a piece of an out-channel's weights."""
        f, lanes, kind = self.f, self.lanes, vector(self.element, self.lanes)
        batch = f.const("i64", 0)
        epilogue = self.epilogue or self.store

        def vectors(start: Value, mask: Value | None) -> None:
            value = f.load(f.at(source, start, self.element), kind)
            epilogue(f, value, row, f.add(first, start), batch, mask)

        if isinstance(count, int):
            full = count // lanes * lanes
            with f.loop(0, full, lanes) as loop:
                vectors(loop.index, None)
            if full < count:
                vectors(f.const("i64", full), first_lanes(f, lanes, count - full))
            return
        whole = f.mul(f.udiv(count, lanes), lanes)
        with f.loop(0, whole, lanes) as loop:
            vectors(loop.index, None)
        with f.when(f.compare("ne", whole, count)):
            left = f.splat("i64", f.sub(count, whole), lanes)
            vectors(whole, f.compare("slt", f.iota(lanes), left))

    def store(
        self, f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        place = f.at(f.buffer(2), f.mul(row, self.spec.weight[0]), self.element)
        store_maybe(f, sums, f.at(place, column, self.element), mask)

    def scatter(self, source: Value, row: Value, first: Value, channels: Value | int) -> None:
        """Write the storing of weights whose strides may be any."""
        f, kind, (of_k, of_c, down, across) = self.f, self.element, self.spec.weight
        taps = self.spec.kernel[1]
        to = f.at(f.buffer(2), f.add(f.mul(row, of_k), f.mul(first, of_c)), kind)
        with f.loop(0, channels) as c, f.loop(0, self.spec.kernel[0]) as i, f.loop(0, taps) as j:
            number = f.add(f.add(f.mul(c.index, self.taps), f.mul(i.index, taps)), j.index)
            value = f.load(f.at(source, number, kind), kind)
            away = f.add(f.mul(c.index, of_c), f.mul(i.index, down))
            f.store(value, f.at(to, f.add(away, f.mul(j.index, across)), kind))
