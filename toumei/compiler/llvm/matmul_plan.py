"""How a matrix product is cut into register tiles, blocks and work items.

A product C[m, n] = sum over k of A[m, k] · B[k, n] is computed in *register tiles*: `rows` rows by
`vectors` vectors of columns, whose sums stay in registers while k runs.  Three forms:

- "direct": B's rows are contiguous and are read where they are;
- "packed": B's columns are contiguous; a panel of B (as wide as a tile) is transposed into scratch
  memory, then as "direct";
- "dot": both A's rows and B's columns are contiguous; lanes run over k and are added up at the end.
  It needs no packing, and pays where C is narrow and k is long.

A long k is cut into pieces ("depth"), so that the panels in use stay in cache: either one after the
other, with the sums of a block waiting in scratch memory ("blocked"), or, where C alone has too
few tiles to occupy several threads, as work items of their own, whose partial sums are combined
by a second kernel ("chunks").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .ir import SIZES
from .target import Target

PANEL = 32 * 1024  # bytes of a panel of B, which is read again and again: in the first cache
BLOCK = 160 * 1024  # bytes of A that a block reads again and again: in the second cache
ROW = 4096  # bytes of a row of A that is read from end to end
WIDE = 264  # rows and columns of a large block
NARROW = {1: 1.1, 2: 1.05, 3: 1.03, 4: 1.0}  # measured: narrow tiles are slower than they should
FEW_ROWS = 48  # of C: B is hardly read again, it is not worth copying
LINE = 64  # bytes; tiles of A are one apart, else all begin on the same places of the cache
L2 = 2048 * 1024  # bytes of the second cache
WAITING = 160 * 1024  # bytes of sums on the stack


@dataclass(frozen=True)
class MatmulSpec:
    """A matrix product C[b, m, n] = sum over k of A[b, m, k] · B[b, k, n].

    Args:
        m, n, k: sizes.
        a: strides of A in elements: of m, of k, then of each batch dimension (0: broadcast).
        b: strides of B: of k, of n, then of each batch dimension; that of k or of n is 1.
        c: strides of C: of m, of n, then of each batch dimension; that of n is 1.
        batch: sizes of the batch dimensions.
        dtype: "float" or "double".
    """

    m: int
    n: int
    k: int
    a: tuple[int, ...]
    b: tuple[int, ...]
    c: tuple[int, ...]
    batch: tuple[int, ...] = ()
    dtype: str = "float"

    def __post_init__(self) -> None:
        for strides, name in ((self.a, "A"), (self.b, "B"), (self.c, "C")):
            if len(strides) != 2 + len(self.batch):
                raise ValueError(f"{name} needs 2 + {len(self.batch)} strides, has {len(strides)}")
        if not self.work:  # nothing is read
            return
        if not self.columns_unit and not self.rows_unit:
            raise ValueError(f"B has strides {self.b[:2]}: one of them should be 1 (pack it first)")
        if self.n > 1 and self.c[1] != 1:
            raise ValueError(f"C has stride {self.c[1]} along n: it should be 1")

    @property
    def columns_unit(self) -> bool:
        """Neighbours along n are neighbours in B: vectors are read where they are."""
        return self.b[1] == 1 or self.n == 1

    @property
    def rows_unit(self) -> bool:
        """Neighbours along k are neighbours in B."""
        return self.b[0] == 1 or self.k <= 1

    @property
    def batches(self) -> int:
        return math.prod(self.batch)

    @property
    def work(self) -> int:
        """Multiplications."""
        return self.batches * self.m * self.n * self.k

    def swapped(self) -> MatmulSpec:
        """Return the same product as Cᵀ = Bᵀ·Aᵀ; C's stride along m has to be 1.

        For n = 1 it is the better one: its lanes run along m.
        """

        def turn(strides: tuple[int, ...]) -> tuple[int, ...]:
            return (strides[1], strides[0], *strides[2:])

        a, b, c = turn(self.b), turn(self.a), turn(self.c)
        return replace(self, m=self.n, n=self.m, a=a, b=b, c=c)


@dataclass(frozen=True)
class Plan:
    """How a product is computed; see the module's text.

    Args:
        target: the processor.
        form: "direct", "packed" or "dot".
        rows, vectors: of a register tile; in form "dot", rows and columns.
        block: rows and columns of a block: what a work item computes.
        depth: how much of k at a time.
        span: how much of k a work item goes through; a multiple of the depth, or all of it.
        chunks: pieces of k that are work items of their own, each of `span`; 1: none.
        unroll: turns of the loop over k that are written out.
        chains: sums per element of C that are added up at the end, so that a small tile need not
            wait for each addition.
        group: blocks per work item.
        pack_a: A's part of a block is copied into scratch memory first.
    """

    target: Target
    form: str
    rows: int
    vectors: int
    block: tuple[int, int]
    depth: int
    span: int
    chunks: int = 1
    unroll: int = 1
    chains: int = 1
    group: int = 1
    pack_a: bool = False

    def width(self, spec: MatmulSpec) -> int:
        """Return the columns of a register tile."""
        return self.vectors * (1 if self.form == "dot" else self.target.lanes(spec.dtype))

    def pitch(self, spec: MatmulSpec) -> int:
        """Return the numbers from one k to the next in a packed tile of A."""
        lanes = self.target.lanes(spec.dtype)
        return -(-self.rows // lanes) * lanes

    def a_tile(self, spec: MatmulSpec) -> int:
        """Return the numbers that a packed tile of A takes."""
        return self.pitch(spec) * max(1, min(self.depth, spec.k)) + LINE // SIZES[spec.dtype]

    def a_bytes(self, spec: MatmulSpec) -> int:
        """Return the bytes that a packed block of A takes."""
        return -(-self.block[0] // self.rows) * self.a_tile(spec) * SIZES[spec.dtype]

    def blocked(self, spec: MatmulSpec) -> bool:
        """Tell whether k is cut into pieces, one after the other, by each work item."""
        return self.chunks == 1 and self.depth < spec.k

    def pitch_c(self, spec: MatmulSpec) -> int:
        """Return the numbers from row to row of sums that wait in memory: whole vectors."""
        if self.chunks == 1:
            return self.block[1]
        lanes = self.target.lanes(spec.dtype)
        return -(-spec.n // lanes) * lanes

    def part(self, spec: MatmulSpec) -> int:
        """Return the numbers of one chunk's sums for one batch entry."""
        return spec.m * self.pitch_c(spec)

    def grid(self, spec: MatmulSpec) -> tuple[int, int]:
        """Return how many blocks there are along m and n."""
        return -(-spec.m // self.block[0]), -(-spec.n // self.block[1])

    def units(self, spec: MatmulSpec) -> int:
        """Return how many blocks there are in all."""
        down, across = self.grid(spec)
        return self.chunks * spec.batches * down * across

    def combine_rows(self, spec: MatmulSpec) -> int:
        """Return how many rows of C a work item of the combining kernel adds up."""
        row = max(1, self.chunks * spec.n)
        return max(1, min(-(-spec.batches * spec.m // 2), 16384 // row))

    def items(self, spec: MatmulSpec) -> tuple[int, ...]:
        """Return the number of work items of each kernel."""
        main = -(-self.units(spec) // self.group)
        if self.chunks == 1:
            return (main,)
        return main, -(-spec.batches * spec.m // self.combine_rows(spec))

    def workspace(self, spec: MatmulSpec) -> int:
        """Return the bytes of workspace for partial sums."""
        if self.chunks == 1:
            return 0
        return self.chunks * spec.batches * self.part(spec) * SIZES[spec.dtype]


# --- cost: processor cycles by a simple model, to compare tiles and forms ---


def fits(target: Target, rows: int, vectors: int) -> bool:
    """Tell whether a tile's sums and operands fit into the registers."""
    if vectors == 1 and target.vector_bytes == 64:
        return rows + 2 <= target.registers  # A's number is broadcast by the multiplication itself
    spare = 1 if target.has_fma else 2  # the product needs a place before it is added
    return rows * vectors + vectors + spare <= target.registers


def chains_for(sums: int) -> int:
    """Return how many sums per element keep two adders of four cycles busy."""
    return 1 if sums >= 6 else 2 if sums >= 3 else 4


def step_cycles(rows: int, vectors: int) -> float:
    """Return the cycles of one multiply-add of each of a tile's sums."""
    sums = rows * vectors
    waiting = 4 / chains_for(sums)
    return max(sums / 2, (rows + vectors) / 2, waiting, (sums + rows + vectors + 3) / 5.5)


def parts(size: int, piece: int) -> list[tuple[int, int]]:
    """Return (how many, how large) for the full pieces of a size and for the rest.

    >>> parts(100, 8), parts(16, 8)
    ([(12, 8), (1, 4)], [(2, 8)])
    """
    full, rest = divmod(size, piece)
    return [p for p in ((full, piece), (1, rest)) if p[0] and p[1]]


def tile_cycles(spec: MatmulSpec, target: Target, rows: int, vectors: int) -> float:
    """Return the estimated cycles of one batch entry's product with lanes over n."""
    lanes, total = target.lanes(spec.dtype), 0.0
    pieces = -(-spec.k // default_depth(spec, vectors * lanes))
    for across, width in parts(spec.n, vectors * lanes):
        wide = -(-width // lanes)
        for down, tall in parts(spec.m, rows):
            once = 12 + tall * (5 + wide)  # what comes before and after the loop
            total += across * down * (spec.k * step_cycles(tall, wide) + pieces * once)
    return total * NARROW[vectors]


def dot_cycles(spec: MatmulSpec, target: Target, rows: int, columns: int) -> float:
    """Return the estimated cycles with lanes over k."""
    lanes, total = target.lanes(spec.dtype), 0.0
    steps = -(-spec.k // lanes)
    for across, wide in parts(spec.n, columns):
        for down, tall in parts(spec.m, rows):
            far = (tall + wide) * spec.k * SIZES[spec.dtype] > PANEL // 2
            one = max(step_cycles(tall, wide), (tall + wide) * (0.9 if far else 0.5))
            added = tall * lanes * 2.2 if wide > 1 else tall * 10  # lanes into numbers
            total += across * down * (steps * one + added + 12)
    return total


# --- choice ---


def tiles(spec: MatmulSpec, target: Target) -> Iterator[tuple[int, int]]:
    """Yield the register tiles worth looking at: (rows, vectors)."""
    lanes = target.lanes(spec.dtype)
    for vectors in range(1, min(4, -(-spec.n // lanes)) + 1):
        for rows in range(1, min(24, spec.m) + 1):
            if fits(target, rows, vectors):
                yield rows, vectors


def dot_tiles(spec: MatmulSpec, target: Target) -> Iterator[tuple[int, int]]:
    """Yield the tiles of form "dot" worth looking at: (rows, columns)."""
    most = min(target.lanes(spec.dtype), spec.n)
    for columns in range(1, most + 1):
        for rows in range(1, min(8, spec.m) + 1):
            if rows * columns + rows + 1 <= target.registers - 2:
                yield rows, columns


def ranked(spec: MatmulSpec, target: Target) -> list[tuple[float, str, int, int]]:
    """Return (estimated cycles, form, rows, vectors), best first."""
    lanes, packing = target.lanes(spec.dtype), 0.0
    dots = spec.rows_unit and spec.a[1] == 1 and spec.k >= lanes
    dots = dots and (spec.n <= lanes or spec.m <= 8)
    if dots and not spec.columns_unit:
        packing = 0.2 * spec.k * spec.n
    found = []
    for rows, vectors in tiles(spec, target):
        cycles = tile_cycles(spec, target, rows, vectors) + packing
        found.append((cycles, panel_form(spec, target, rows, vectors), rows, vectors))
    if dots:
        found += [(dot_cycles(spec, target, *t), "dot", *t) for t in dot_tiles(spec, target)]
    return sorted(found)


def panel_form(spec: MatmulSpec, target: Target, rows: int, vectors: int) -> str:
    """Return "direct" where B's rows can be read in place without loss, else "packed".

    Rows that are far apart fall on the same places of the cache and push each other out: copying
    a panel first costs as much as one or two rows of C.
    """
    if not spec.columns_unit:
        return "packed"
    width = vectors * target.lanes(spec.dtype)
    size = spec.k * width * SIZES[spec.dtype]
    near = spec.b[0] <= max(width, 64) or size <= 4096
    if spec.b[0] <= WIDE and size > PANEL * 3 // 2 and spec.k <= 1024:
        near = True  # a panel would not stay in the first cache either
    if spec.m <= 128 and spec.k * spec.b[0] * SIZES[spec.dtype] <= PANEL * 5 // 4:
        near = True  # all rows fit into it
    return "direct" if near or spec.m < 4 * rows or spec.m <= FEW_ROWS else "packed"


def plan(spec: MatmulSpec, target: Target) -> Plan:
    """Return the way to compute a product that promises to be the fastest."""
    if not spec.work:
        form = "direct" if spec.columns_unit else "packed"
        return arrange(spec, target, form, 1, 1)
    found = ranked(spec, target)
    chosen = arrange(spec, target, *found[0][1:])
    if chosen.pack_a:  # tiles that fill the vectors with which A is copied
        lanes = target.lanes(spec.dtype)
        full = (t for t in found if t[1] != "dot" and -t[2] % lanes * 8 <= lanes)
        chosen = arrange(spec, target, *next(full, found[0])[1:])
    return chosen


def even(size: int, most: int, multiple: int) -> int:
    """Return the size of equal pieces of about `most`, a multiple of something.

    >>> even(1000, 400, 8), even(100, 400, 8)
    (336, 104)
    """
    pieces = max(1, -(-size // most))
    return max(multiple, -(-size // (pieces * multiple)) * multiple)


def default_depth(spec: MatmulSpec, width: int) -> int:
    """Return how much of k to take at a time, for panels of B of some columns.

    Where A's rows are contiguous, a panel may be larger than the first cache: both A and the panel
    are then read in the order of their memory.  Of a transposed A, which is read with long steps,
    the lines that the next tile needs as well have to stay there.
    """
    size, k = SIZES[spec.dtype], max(1, spec.k)
    depth = max(64, PANEL // (width * size))
    once = spec.columns_unit and spec.m <= FEW_ROWS and k <= 1024
    if once or k <= depth * 3 // 2 or (spec.a[1] == 1 and k * size <= ROW):
        return k
    return even(k, max(depth, ROW // 2 // size) if spec.a[1] == 1 else depth, 16)


def arrange(
    spec: MatmulSpec, target: Target, form: str, rows: int, vectors: int, depth: int = 0
) -> Plan:
    """Return a plan with a given register tile: its blocks, depth and chunks."""
    lanes = target.lanes(spec.dtype)
    width = vectors * (1 if form == "dot" else lanes)
    depth = max(1, spec.k) if form == "dot" else depth or default_depth(spec, width)
    near = spec.columns_unit and spec.b[0] <= WIDE and spec.m > WIDE // 2
    if form == "packed" and near and in_chunks(spec, form):
        form = "direct"  # the few rows of a piece stay in the second cache
    depth, span, chunks = depths(spec, form, depth, lanes)
    block = block_size(spec, rows, width, depth, form, chunks)
    pack_a = depth < spec.k and packs_a(spec, form)
    chosen = Plan(target, form, rows, vectors, block, depth, span, chunks, pack_a=pack_a)
    steps = depth // lanes if form == "dot" else depth
    sums = rows * vectors
    chains = chains_for(sums) if steps >= 8 else 1
    unroll = max(chains, 1 if steps < 2 or sums >= 8 else 2)
    units = chosen.units(spec)
    work = max(1, spec.work // max(1, units))  # of a block; an item should last microseconds
    group = max(1, min(units // 8, 131072 // work))
    return replace(chosen, chains=chains, unroll=unroll, group=group)


def packs_a(spec: MatmulSpec, form: str) -> bool:
    """Tell whether A is copied: if the numbers of one k are far from those of the next."""
    apart = spec.a[0] == 1 and spec.a[1] * SIZES[spec.dtype] >= 3072
    return apart and form != "dot" and spec.m > FEW_ROWS


def in_chunks(spec: MatmulSpec, form: str) -> bool:
    """Tell whether pieces of k are work items of their own: C alone would make too few."""
    most = 256 if form == "dot" else 1 << 15 if spec.k > 1024 else 1 << 11
    return spec.k >= 640 and spec.batches * spec.m * spec.n <= most


def depths(spec: MatmulSpec, form: str, depth: int, lanes: int) -> tuple[int, int, int]:
    """Return (depth, span, chunks).

    Where C is small and k is long, a work item takes a piece of k and all of C.
    """
    k = max(1, spec.k)
    if not in_chunks(spec, form):
        return depth, k, 1
    size = spec.batches * spec.m * spec.n
    if form == "dot":
        depth = 256
    else:
        depth = min(depth, max(64, PANEL // (-(-spec.n // lanes) * lanes * SIZES[spec.dtype])))
        depth = max(depth, 128)
    chunks = 4 if k < 4096 or (size > 1 << 14 and form != "dot") else 8
    pieces = -(-k // (depth * chunks))  # of a chunk
    step = 8 if spec.columns_unit and form != "dot" else lanes  # squares that are transposed
    depth = even(k, -(-k // (pieces * chunks)), step)
    return depth, depth * pieces, -(-k // (depth * pieces))


def block_size(
    spec: MatmulSpec, rows: int, width: int, depth: int, form: str, chunks: int
) -> tuple[int, int]:
    """Return the rows and columns of a block, multiples of the tile's."""
    m, most = max(1, spec.m), -(-spec.n // width) * width
    if chunks > 1:
        return even(m, max(rows, WIDE), rows), most
    if depth < spec.k:
        return blocked_size(spec, rows, width)
    size = SIZES[spec.dtype]
    tall = max(rows, BLOCK // (depth * size), 132 if form == "packed" else 0)
    if form == "dot":
        tall = min(tall, 4 * rows)
    wanted = 8 if spec.work > 1 << 18 else 2 if spec.work > 1 << 16 else 1  # blocks, for threads

    def blocks(across: int) -> int:
        return -(-m // tall) * -(-spec.n // across) * spec.batches

    across = width
    large = m * depth * size >= L2 // 2  # A should not be read from afar for each panel
    large = large and (form == "direct" or depth * size < 1024)  # but one panel is packed but once
    while large and across < min(most, WIDE) and blocks(2 * across) >= wanted:
        across *= 2
    few = spec.batches * -(-spec.n // across)
    if few < wanted:
        tall = min(tall, -(-m * few // wanted))
    pieces = -(-m // max(rows, tall))
    tall = -(-m // (-(-pieces // 4) * 4)) if pieces > 4 else tall  # as many for each thread
    return even(m, max(rows, tall), rows), across


def blocked_size(spec: MatmulSpec, rows: int, width: int) -> tuple[int, int]:
    """Return a block where k is cut into pieces: A and B are read anew by each, so large ones."""
    tall = min(max(1, spec.m), WIDE)
    across = min(-(-spec.n // width) * width, max(1, WIDE // width) * width)

    def items() -> int:
        return -(-spec.m // tall) * -(-spec.n // across) * spec.batches

    while items() < 4 and max(tall, across) > max(4 * rows, width):
        if tall >= across:
            tall = -(-tall // 2)
        else:
            across = -(-across // (2 * width)) * width
    while tall * across * SIZES[spec.dtype] > WAITING and tall > 4 * rows:
        tall = -(-tall // 2)
    return even(max(1, spec.m), max(rows, tall), rows), across
