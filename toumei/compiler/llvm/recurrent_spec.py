"""What the kernels of a time loop share: sizes, the tile, the arrays and the scratch memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .integers import smaller_of, tail_mask
from .ir import SIZES, Function, Value, vector
from .kernel import Memory
from .matmul_plan import NARROW, PANEL, chains_for, fits, step_cycles
from .matmul_tile import Tile
from .target import Target

NEAR = 1 << 20  # bytes of weights that stay in the second cache from step to step
ROWS, FAR_ROWS = 16, 64  # of a block, about; more of them where the weights come from far


@dataclass(frozen=True)
class LoopSpec:
    """A time loop.

    Args:
        steps, batch, hidden: T, B, H.
        gates: how many blocks of H numbers go into a step.
        dtype: "float" or "double".
        reverse: whether it starts at the last step.
        masked: whether there is a mask of the steps that count.
        target: the processor.
    """

    steps: int
    batch: int
    hidden: int
    gates: int
    dtype: str
    reverse: bool
    masked: bool
    target: Target

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.dtype)

    @property
    def vectors(self) -> int:
        """Vectors that H numbers take."""
        return -(-self.hidden // self.lanes)

    @property
    def width(self) -> int:
        """Numbers in a row of all gates."""
        return self.gates * self.hidden

    @property
    def kind(self) -> str:
        return vector(self.dtype, self.lanes)

    @property
    def blocks(self) -> int:
        """Blocks of rows of the batch: the work items.  An even number, for two threads."""
        near = self.width * self.hidden * SIZES[self.dtype] <= NEAR
        return min(self.batch, 2 * -(-self.batch // (2 * (ROWS if near else FAR_ROWS))))

    @property
    def most_rows(self) -> int:
        """Rows of the largest block."""
        return -(-self.batch // max(1, self.blocks))

    @property
    def least_rows(self) -> int:
        return self.batch // max(1, self.blocks)


@dataclass(frozen=True)
class Panels:
    """How the weights are packed, and the register tile that goes through them.

    The columns of the product are cut into groups; those of one group stand side by side for each
    k, so that the tile reads one piece of memory from its start to its end.

    Args:
        rows: of the tile.
        parts: gates that a group holds.
        wide: vectors of each.
        depth: k.
        piece: how much of k the tiles go through at a time.
        groups: how many groups there are.
    """

    rows: int
    parts: int
    wide: int
    depth: int
    piece: int
    groups: int

    @property
    def vectors(self) -> int:
        return self.parts * self.wide

    @property
    def pieces(self) -> int:
        return max(1, -(-self.depth // self.piece))

    def numbers(self, lanes: int) -> int:
        """Return how many numbers all the groups take."""
        return self.groups * self.depth * self.vectors * lanes

    def tile(self, spec: LoopSpec, pitch: int) -> Tile:
        """Return the register tile, for rows of A so far apart."""
        lanes, sums = spec.lanes, self.rows * self.vectors
        chains = chains_for(sums) if self.depth >= 8 else 1
        a, b = (pitch, 1), (self.vectors * lanes, 1)
        return Tile(
            spec.dtype, lanes, self.rows, self.vectors, a, b, unroll=max(2, chains), chains=chains
        )


def choose_panels(spec: LoopSpec, parts: int, depth: int, cut: bool) -> Panels:
    """Return the panels and the tile that promise to be the fastest.

    Args:
        parts: gates that are computed side by side.
        depth: k.
        cut: whether k may be cut into pieces, so that what a tile reads stays in the first cache.
    """

    def cost(rows: int, wide: int) -> float:
        tiles = -(-spec.vectors // wide) * -(-spec.most_rows // rows)
        return tiles * step_cycles(rows, parts * wide) * NARROW[parts * wide]

    found = [
        (cost(rows, wide), -rows, wide)
        for wide in range(1, max(1, min(4 // parts, spec.vectors)) + 1)
        for rows in range(1, max(1, spec.least_rows) + 1)
        if rows == 1 or fits(spec.target, rows, parts * wide)
    ]
    _, fewer, wide = min(found)
    rows = -fewer
    most = PANEL // (parts * wide * spec.lanes * SIZES[spec.dtype])
    pieces = max(1, -(-depth // most)) if cut else 1
    piece = max(1, -(-depth // pieces))
    return Panels(rows, parts, wide, depth, piece, -(-spec.vectors // wide))


# --- memory ---


class Arrays:
    """The buffers of a kernel by name, and how they lie in memory."""

    def __init__(self, names: Sequence[str], memory: Mapping[str, Memory]) -> None:
        self.index = {name: i for i, name in enumerate(names)}
        self.memory = memory

    def row(self, f: Function, name: str, *index: Value) -> Value:
        """Return the address of the row of an array at an index of its first dimensions."""
        memory = self.memory[name]
        place = f.buffer(self.index[name])
        for i, stride in zip(index, memory.strides, strict=False):
            place = f.at(place, f.mul(i, stride), memory.dtype)
        return place

    def stride(self, name: str) -> int:
        """Return the numbers from one to the next in a row."""
        memory = self.memory[name]
        return 1 if memory.shape[-1] == 1 else memory.strides[-1]


def row_mask(f: Function, lanes: int, column: Value, size: int, multiple: int = 0) -> Value | None:
    """Return which lanes from a column on exist; None where all of them always do.

    Args:
        column, size: where the vector begins, and where the row ends.
        multiple: what is gone through at a time; 0: one vector.
    """
    if size % (multiple or lanes) == 0:
        return None
    return tail_mask(f, f.sub(f.const("i64", size), column), lanes)


def load_row(f: Function, spec: LoopSpec, row: Value, column: Value, stride: int) -> Value:
    """Load a vector of a row of H numbers, from a column on; nothing behind the row is read."""
    if stride == 1:
        mask = row_mask(f, spec.lanes, column, spec.hidden)
        return f.load_masked(f.at(row, column, spec.dtype), spec.kind, mask)
    if stride == 0:
        return f.splat(spec.dtype, f.load(row, spec.dtype), spec.lanes)
    value = Value("poison", spec.kind)
    for lane in range(spec.lanes):
        here = f.add(column, lane)
        inside = smaller_of(f, here, spec.hidden - 1)
        one = f.load(f.at(row, f.mul(inside, stride), spec.dtype), spec.dtype)
        text = f"insertelement {spec.kind} {value.name}, {spec.dtype} {one.name}, i64 {lane}"
        value = f.emit(text, spec.kind)
    return value


class Scratch:
    """Arrays in the thread's own memory, whose rows are whole vectors.

    Args:
        spec: the loop.
        arrays: rows, and numbers from row to row, by name.
    """

    def __init__(self, spec: LoopSpec, arrays: Mapping[str, tuple[int, int]]) -> None:
        self.spec = spec
        self.pitch = {name: pitch for name, (_, pitch) in arrays.items()}
        ends = list(itertools.accumulate(rows * pitch for rows, pitch in arrays.values()))
        self.offset = dict(zip(arrays, [0, *ends], strict=False))
        self.bytes = ends[-1] * SIZES[spec.dtype]

    def place(self, f: Function, name: str) -> Value:
        """Return where an array begins."""
        return f.at(f.args[3], self.offset[name], self.spec.dtype)

    def row(self, f: Function, name: str, place: Value, row: Value) -> Value:
        """Return where a row of an array begins that begins at a place."""
        return f.at(place, f.mul(row, self.pitch[name]), self.spec.dtype)
