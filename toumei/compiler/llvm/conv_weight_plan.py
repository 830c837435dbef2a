"""How the gradient of a convolution's weight is cut into register tiles, chunks and work items."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .conv_plan import BAND, even
from .conv_spec import ConvSpec
from .conv_tile import Window
from .ir import SIZES
from .matmul_plan import fits, parts, step_cycles
from .target import Target

CHUNKS = 16  # enough for several threads
LARGE = 128 * 1024  # bytes of a chunk's sums that are worth keeping few:
WORTH = (
    640  # pixels that a chunk must have then, so that adding its sums up takes little of the time
)
ITEMS = 8  # fewer leave threads idle: then the columns are divided, too
PIXELS = 128  # that a tile goes through at a time: its columns of y stay in the first cache
TURNED = 8192  # numbers that the second kernel turns over at a time: in the first cache


class Grid(NamedTuple):
    """The positions of the sums in x: (count, distance) from the outermost to the innermost.

    A register tile has positions of the two inner ones; of the far ones, one or all.
    """

    far: tuple[int, int]
    outer: tuple[int, int]
    inner: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """How the gradient of a weight is computed.

    Args:
        target: the processor.
        far, outer, inner: positions of a register tile: see Grid.
        vectors: of columns of a register tile.
        images: that are copied, and gone through by each tile, at a time.
        band: rows of y likewise; less than all only with one image.
        visits: how many such parts there are in a chunk.
        piece: rows of y that a tile goes through at a time; less than `band` only with one image.
        chunks: how many.
        splits: parts into which the columns are cut, each a work item.
        copied: x is copied first, with zeros around it.
        copied_y: y is copied first, channels innermost.
    """

    target: Target
    far: int
    outer: int
    inner: int
    vectors: int
    images: int
    band: int
    visits: int
    piece: int
    chunks: int
    splits: int
    copied: bool
    copied_y: bool


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
    tile = min(
        tiles(shape, target, columns, lanes), key=lambda t: tile_cost(shape, columns, lanes, t)
    )
    apart_y = spec.y[3] != 1 and columns > 1  # vectors are read from channels side by side
    images, band, piece = steps(spec, whole)
    visits = -(-spec.n // images) * -(-spec.oh // band)
    each, chunks, splits = divide(spec, target, visits, tile[-1] * lanes)
    return Plan(
        target, *tile, images, band, each, piece, chunks, splits, copied, apart_y
    )  # fmt: skip


def steps(spec: ConvSpec, whole: Window) -> tuple[int, int, int]:
    """Return how many images, and rows of one, are copied, and the rows a tile goes through."""
    row = max(1, whole.bytes // max(1, whole.rows) * spec.stride[0])
    band, images = max(1, min(spec.oh, BAND // row)), 1
    if band >= spec.oh:
        most = min(BAND // max(1, whole.bytes), -(-PIXELS // max(1, spec.oh * spec.ow)))
        images = max(1, min(most, spec.n // CHUNKS))
    piece = max(1, min(band, -(-PIXELS // max(1, spec.ow))))
    piece = max(1, -(-spec.oh // max(1, -(-spec.oh // piece))))
    return images, band if band >= spec.oh else max(1, band // piece) * piece, piece


def divide(spec: ConvSpec, target: Target, visits: int, width: int) -> tuple[int, int, int]:
    """Return the visits of a chunk, the chunks, and the parts of the columns."""
    groups, _, columns = pseudo(spec)
    chunks = CHUNKS
    if sums_size(spec, target) * SIZES[spec.dtype] > LARGE:
        chunks = max(1, min(chunks, spec.n * spec.oh * spec.ow // WORTH))
    each = -(-visits // chunks)
    chunks = -(-visits // each) if each else 0
    panels, wanted = -(-columns // width), -(-ITEMS // max(1, chunks * groups))
    per = -(-panels // min(max(1, panels), wanted))  # panels of a part
    return each, chunks, -(-panels // max(1, per))


def tiles(
    shape: Grid, target: Target, columns: int, lanes: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the register tiles worth looking at: far, outer, inner positions, vectors."""
    widths = sorted({even(max(1, shape.inner[0]), most)[0][1] for most in range(1, 29)})
    for vectors in range(1, max(1, min(4, -(-columns // lanes))) + 1):
        for wide in widths:
            for tall in range(1, min(8, max(1, shape.outer[0])) + 1):
                for deep in {1, max(1, shape.far[0])}:
                    size = deep * tall * wide
                    if size == 1 or fits(target, size, vectors):
                        yield deep, tall, wide, vectors


def tile_cost(shape: Grid, columns: int, lanes: int, tile: tuple[int, int, int, int]) -> float:
    """Return the estimated cycles of one pixel with a register tile."""
    deep, tall, wide, vectors = tile
    total, shapes = 0.0, 0
    for panels, width in parts(columns, vectors * lanes):
        v = -(-width // lanes)
        for down, r in parts(shape.outer[0], tall):
            for across, c in even(shape.inner[0], wide):
                one = step_cycles(deep * r * c, v) + 0.2 + 0.01 * deep * r * c * v
                total += shape.far[0] / deep * panels * down * across * one
                shapes += 1
    return total * (1 + 0.01 * shapes)


def items(spec: ConvSpec, plan: Plan) -> tuple[int, int]:
    """Return the work items of both kernels."""
    groups, inner, columns = pseudo(spec)
    if not inner * columns * spec.kernel[0] * spec.kernel[1]:
        return 0, 0
    wide, deep = turned(spec, plan.target)
    return plan.chunks * groups * plan.splits, groups * -(-columns // wide) * -(-inner // deep)


def turned(spec: ConvSpec, target: Target) -> tuple[int, int]:
    """Return how many out- and in-channels an item of the second kernel turns over."""
    taps, lanes = max(1, spec.kernel[0] * spec.kernel[1]), target.lanes(spec.dtype)
    most = min(8, max(1, TURNED // (taps * lanes)))
    wide = min(pad_channels(spec, target), most * lanes)
    return wide, max(1, min(pseudo(spec)[1], TURNED // (wide * taps)))


def workspace(spec: ConvSpec, plan: Plan) -> int:
    """Return the bytes of the chunks' sums."""
    numbers = plan.chunks * pseudo(spec)[0] * sums_size(spec, plan.target)
    return numbers * SIZES[spec.dtype]
