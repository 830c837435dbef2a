"""How a Winograd convolution is cut into tiles, blocks and work items.

A *tile* is 4 x 4 pixels of y, and the 6 x 6 of x that they depend on.  A *unit* is a row of tiles
of an image (or a piece of it, where it is long); a *block* is some units, about 30 tiles, whose
transforms stay in the second cache while the 36 matrix products are computed.  Forward and for the
gradient of the input, a block is a work item.  For the gradient of the weight, where the products
add up over all tiles, a work item is a *chunk* of units; there are as many chunks whatever the
number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from .conv_spec import ConvSpec
from .matmul_plan import NARROW, chains_for, fits, step_cycles
from .target import Target
from .winograd_math import POINTS, STEP

DIRECTIONS = ("forward", "input", "weight")
SQUARE = POINTS * POINTS
SIZE = 4  # bytes of a float
LINE = 64  # bytes of a line of a cache
BLOCK, LARGE_BLOCK = 24, 36  # tiles of a block, as measured; where the weight is large
LARGE = 64 * 64  # numbers of one of its 36 matrices
CACHE = 1536 * 1024  # bytes of the second cache that a block may take
SEGMENT = 16  # tiles of a unit, at most: its lines stay in the first cache
ZEROS = 128 * 1024  # bytes of the row of zeros that stands for rows outside of an image
WEIGHT_CYCLES = 800  # to transform nine vectors of the weight, or its gradient back
FAR = 5  # bytes a cycle from beyond the second cache
CHUNKS = 16  # of the weight's gradient, at most


class Image(NamedTuple):
    """An array of images: its buffer, sizes, and strides of (image, row, column, channel)."""

    buffer: int
    rows: int
    columns: int
    channels: int
    strides: tuple[int, int, int, int]

    def row_bytes(self) -> int:
        """Return the bytes from the beginning of a row to its end."""
        return ((self.columns - 1) * self.strides[2] + self.channels) * SIZE


class Matrices(NamedTuple):
    """How the 36 matrices of the transform domain lie in memory, in numbers.

    Args:
        row: from row to row.
        step: from matrix to matrix.
        size: of all of them.
    """

    row: int
    step: int
    size: int


@dataclass(frozen=True)
class Plan:
    """The sizes of a Winograd convolution, for one direction.

    Args:
        spec, direction, target: what to compute, and for which processor.
    """

    spec: ConvSpec
    direction: str
    target: Target

    # --- what is convolved with what ---

    @cached_property
    def source(self) -> Image:
        """What is cut into tiles of 6 x 6."""
        s = self.spec
        if self.direction == "input":
            return Image(0, s.oh, s.ow, s.k, s.y)
        return Image(0, s.h, s.w, s.c, s.x)

    @cached_property
    def result(self) -> Image:
        """What is cut into tiles of 4 x 4: the result, or the gradient of y."""
        s = self.spec
        if self.direction == "input":
            return Image(2, s.h, s.w, s.c, s.x)
        return Image(2 if self.direction == "forward" else 1, s.oh, s.ow, s.k, s.y)

    @cached_property
    def padding(self) -> tuple[int, int]:
        """Zeros before the first row and column of the source."""
        rows, columns = self.spec.padding
        return (2 - rows, 2 - columns) if self.direction == "input" else (rows, columns)

    @property
    def turned(self) -> bool:
        """Whether the weight is turned around: the last tap comes first."""
        return self.direction == "input"

    @cached_property
    def weight(self) -> tuple[int, int, int, int]:
        """Strides of the weight: of channels of the result, of the source, of rows and columns."""
        k, c, i, j = self.spec.weight
        return (c, k, i, j) if self.turned else (k, c, i, j)

    # --- tiles, units, blocks ---

    @cached_property
    def lanes(self) -> int:
        return self.target.lanes("float")

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles of an image."""
        return -(-self.result.rows // STEP), -(-self.result.columns // STEP)

    @cached_property
    def segment(self) -> int:
        """Tiles of a unit."""
        across = self.grid[1]
        return -(-across // -(-across // SEGMENT))

    @cached_property
    def segments(self) -> int:
        """Units of a row of tiles."""
        return -(-self.grid[1] // self.segment)

    @cached_property
    def units(self) -> int:
        return self.spec.n * self.grid[0] * self.segments

    @cached_property
    def group(self) -> int:
        """Units of a block."""
        one = SQUARE * (self.deep + self.wide) * SIZE  # bytes of a tile's transforms
        wanted = BLOCK if self.deep * self.wide <= LARGE else LARGE_BLOCK
        if self.direction == "weight":  # sums are read and written again for each block
            wanted = wanted * 4 // 3
        tiles = max(8, min(wanted, CACHE // one))
        return max(1, min(self.units, round(tiles / self.segment)))

    @cached_property
    def blocks(self) -> int:
        return -(-self.units // self.group)

    @cached_property
    def tiles(self) -> int:
        """Places for tiles in a block: whole register tiles."""
        most = self.group * self.segment
        return most if self.direction == "weight" else -(-most // self.rows) * self.rows

    # --- matrices ---

    @cached_property
    def deep(self) -> int:
        """Channels of the source, made up to whole vectors."""
        return -(-self.source.channels // self.lanes) * self.lanes

    @cached_property
    def wide(self) -> int:
        """Channels of the result, made up to whole vectors."""
        return -(-self.result.channels // self.lanes) * self.lanes

    def spaced(self, rows: int, columns: int) -> Matrices:
        """Lay out matrices an odd number of vectors apart.

        So elements of the same place don't compete for the same place of a cache.
        """
        step = (rows * columns // self.lanes | 1) * self.lanes
        return Matrices(columns, step, SQUARE * step)

    @property
    def in_place(self) -> bool:
        """Whether the results of the products take the place of their sources.

        A register tile as wide as the matrix reads whole rows before it writes them.
        """
        return self.direction != "weight" and self.turns[1] == 1

    @cached_property
    def sources(self) -> Matrices:
        return self.spaced(self.tiles, max(self.deep, self.wide) if self.in_place else self.deep)

    @cached_property
    def results(self) -> Matrices:
        return self.sources if self.in_place else self.spaced(self.tiles, self.wide)

    @cached_property
    def weights(self) -> Matrices:
        """Matrices of channels of the source by channels of the result."""
        return self.spaced(self.deep, self.wide)

    @cached_property
    def register_tile(self) -> tuple[int, int]:
        """Rows and vectors of a register tile of the products: no remainders are left.

        Rows are tiles; for the weight's gradient they are channels of x.
        """
        weight = self.direction == "weight"
        size = self.deep if weight else self.group * self.segment
        best, found = math.inf, (1, 1)
        for vectors in (v for v in (1, 2, 3, 4) if self.wide // self.lanes % v == 0):
            for rows in range(1, 25):
                wholly = size % rows == 0 or not weight
                if wholly and fits(self.target, rows, vectors):
                    used = size / (-(-size // rows) * rows)
                    cycles = (step_cycles(rows, vectors) + 0.2) * NARROW[vectors]
                    cost = cycles / (rows * vectors * used)
                    best, found = min((best, found), (cost, (rows, vectors)))
        return found

    @property
    def rows(self) -> int:
        return self.register_tile[0]

    @property
    def vectors(self) -> int:
        return self.register_tile[1]

    @property
    def turns(self) -> tuple[int, int, int]:
        """The register tiles of a block: matrices, columns and rows of them."""
        rows = self.deep if self.direction == "weight" else self.tiles
        return SQUARE, self.wide // (self.vectors * self.lanes), rows // self.rows

    @property
    def chains(self) -> int:
        return chains_for(self.rows * self.vectors)

    # --- scratch memory of a thread ---

    @cached_property
    def line(self) -> int:
        """Numbers of a unit's lines, transformed downwards."""
        return (STEP * self.segment + 2) * POINTS * self.lanes

    @cached_property
    def zeros(self) -> int:
        """Numbers of the row of zeros."""
        wanted = max(self.source.row_bytes(), self.result.row_bytes())
        return -(-wanted // (SIZE * self.lanes)) * self.lanes

    @cached_property
    def scratch(self) -> dict[str, int]:
        """The parts of scratch memory: numbers of each."""
        parts = {
            "source": self.sources.size,
            "result": 0 if self.in_place else self.results.size,
            "line": self.line,
            "zeros": self.zeros,
        }
        if self.direction == "weight":
            parts["sums"] = self.weights.size
        return parts

    # --- the weight's gradient ---

    @cached_property
    def chunks(self) -> int:
        """Parts of the units whose sums are added up at the end."""
        most = min(CHUNKS, max(1, self.blocks / 2))
        return 1 << round(math.log2(most))  # as a rule, even for so many threads

    @cached_property
    def flat(self) -> int:
        """Numbers of the weight for one channel of y, made up to whole vectors."""
        return -(-9 * self.spec.c // self.lanes) * self.lanes

    @property
    def part(self) -> int:
        """Numbers of a chunk's part of the weight's gradient."""
        return self.wide * self.flat

    def workspace(self) -> int:
        """Return the bytes of workspace."""
        if self.direction == "weight":
            return self.chunks * self.part * SIZE
        return self.weights.size * SIZE


def supports(spec: ConvSpec, direction: str, target: Target) -> bool:
    """Tell whether there are Winograd kernels for a convolution: 3 x 3, stride 1, float."""
    if direction not in DIRECTIONS or spec.dtype != "float" or spec.groups != 1:
        return False
    if (spec.kernel, spec.stride, spec.dilation) != ((3, 3), (1, 1), (1, 1)):
        return False
    if not all(0 <= p <= 2 for p in spec.padding):
        return False
    if min(spec.n, spec.c, spec.k, spec.h, spec.w, spec.oh, spec.ow) < 1:
        return False
    if direction == "weight" and spec.weight[1:] != (9, 3, 1):
        return False
    over = (2 * p - 2 for p in spec.padding)
    if (spec.oh, spec.ow) != tuple(n + p for n, p in zip((spec.h, spec.w), over, strict=True)):
        return False
    plan = Plan(spec, direction, target)
    inner = spec.x[3] == 1 and spec.y[3] == 1
    return inner and plan.zeros * SIZE <= ZEROS


def worth(spec: ConvSpec, direction: str, target: Target) -> bool:
    """Tell whether Winograd's kernels promise to be faster than the plain sums of conv.py.

    They are not where channels are few (the transforms cost more than they save), where images
    are so small that most of a tile is wasted, and where the weight is large for so few tiles.
    """
    if not supports(spec, direction, target):
        return False
    plan = Plan(spec, direction, target)
    tiles = spec.n * plan.grid[0] * plan.grid[1]
    deep, wide = plan.deep // plan.lanes, plan.wide // plan.lanes
    products = SQUARE * plan.source.channels * wide / 2 / 0.75  # cycles of a tile, as measured
    transforms = (100 + 9 * plan.lanes) * (deep + wide)
    weights: float = WEIGHT_CYCLES * plan.source.channels * wide
    size = plan.weights.size * SIZE
    if size > CACHE:  # it is read again for each block
        weights += plan.blocks * size / FAR
    used = min(wide, plan.result.channels / plan.lanes)
    pixels = spec.n * plan.result.rows * plan.result.columns
    plain = pixels * 9 * plan.source.channels * used / 2 / 0.85
    return tiles * (products + transforms) + weights < plain
