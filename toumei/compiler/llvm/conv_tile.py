"""The inner parts of convolutions: the loops of a register tile, and padded copies of images.

All three directions are sums over s of x[p + s] · w[s, …], for a tile of *positions* p, whose
distances in memory are known, and of *columns*, over which the lanes run.  In a convolution,
positions are pixels and s runs over taps and channels; in the gradient of its weight, positions are
taps and channels, and s runs over pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .ir import SIZES, Function, Value, vector
from .matmul_tile import repeat


class Level(NamedTuple):
    """One of the nested loops over s: its turns, and how far x and w move with each (elements)."""

    turns: Value | int
    x: int
    w: int


@dataclass(frozen=True)
class Tile:
    """A register tile; its sums are kept in one list, position by position.

    Args:
        element: "float" or "double".
        lanes: of a vector.
        offsets: of the positions in x, in elements.
        vectors: of columns.
        form: "sums": a number of x times a vector of w; "apart": vectors of both, column by column
            (each column has its own x); "dot": vectors of both, lanes over s.  There, the columns
            are `vectors` numbers, `pitch` apart in w.
        mask: the lanes of the last vector of columns that exist in w, and in form "apart" in x;
            in form "dot", the lanes of x at the last s.  None: all, or w is padded.
        masked_w: whether that holds for w too.
        unroll: turns of the innermost loop that are written out.
    """

    element: str
    lanes: int
    offsets: tuple[int, ...]
    vectors: int
    form: str = "sums"
    mask: Value | None = None
    masked_w: bool = False
    unroll: int = 1
    pitch: int = 0

    @property
    def kind(self) -> str:
        """Return the type of a sum: a vector."""
        return vector(self.element, self.lanes)

    @property
    def size(self) -> int:
        return len(self.offsets) * self.vectors


def run(
    f: Function, t: Tile, x: Value, w: Value, levels: Sequence[Level], sums: list[Value]
) -> list[Value]:
    """Write the loops over s of a tile; return its sums.

    Args:
        x, w: where the first position's x and the first column's w are, at the first s.
        levels: the loops, the outermost first.
        sums: so far.
    """
    level, *inner = levels
    if not inner:
        return innermost(f, t, x, w, level, sums)

    def body(carried: list[Value]) -> list[Value]:
        x, w, *sums = carried
        sums = run(f, t, x, w, inner, sums)
        return [f.at(x, level.x, t.element), f.at(w, level.w, t.element), *sums]

    return repeat(f, level.turns, [x, w, *sums], body)[2:]


def innermost(
    f: Function, t: Tile, x: Value, w: Value, level: Level, sums: list[Value]
) -> list[Value]:
    """Write the innermost loop; in form "dot" its count is that of whole vectors, and a rest."""

    def turn(carried: list[Value], unroll: int) -> list[Value]:
        x, w, *sums = carried
        for j in range(unroll):
            sums = step(f, t, x, w, (j * level.x, j * level.w), sums)
        return [f.at(x, unroll * level.x, t.element), f.at(w, unroll * level.w, t.element), *sums]

    carried, count, unroll = [x, w, *sums], level.turns, t.unroll
    if t.form == "dot":
        assert isinstance(count, int)
        masked = 1 if t.mask is not None else 0
        x, w, *sums = repeat(f, count - masked, carried, lambda c: turn(c, 1))
        return dot_step(f, t, x, w, sums, t.mask) if masked else sums
    if isinstance(count, int):
        carried = repeat(f, count // unroll, carried, lambda c: turn(c, unroll))
        rest = count % unroll
        return turn(carried, rest)[2:] if rest else carried[2:]
    if unroll > 1:
        carried = repeat(f, f.udiv(count, unroll), carried, lambda c: turn(c, unroll))
        count = f.urem(count, unroll)
    return repeat(f, count, carried, lambda c: turn(c, 1))[2:]


def step(
    f: Function, t: Tile, x: Value, w: Value, moved: tuple[int, int], sums: list[Value]
) -> list[Value]:
    """Add x[p + s] · w[s, …] for one s, which is `moved` from where x and w point to."""
    if t.form == "dot":
        return dot_step(f, t, f.at(x, moved[0], t.element), f.at(w, moved[1], t.element), sums)
    masks = [None] * (t.vectors - 1) + [t.mask]
    rights = [
        f.load_masked(f.at(w, moved[1] + v * t.lanes, t.element), t.kind, mask)
        for v, mask in enumerate(masks if t.masked_w else [None] * t.vectors)
    ]
    following = []
    for i, offset in enumerate(t.offsets):
        place = f.at(x, moved[0] + offset, t.element)
        if t.form == "apart":
            places = (f.at(place, v * t.lanes, t.element) for v in range(t.vectors))
            lefts = [f.load_masked(p, t.kind, m) for p, m in zip(places, masks, strict=True)]
        else:
            lefts = [f.splat(t.element, f.load(place, t.element), t.lanes)] * t.vectors
        here = sums[i * t.vectors : (i + 1) * t.vectors]
        following += [f.fma(*three) for three in zip(lefts, rights, here, strict=True)]
    return following


def dot_step(
    f: Function, t: Tile, x: Value, w: Value, sums: list[Value], mask: Value | None = None
) -> list[Value]:
    """Add the products of as many s as there are lanes, lane by lane; w is padded with zeros."""
    rights = [f.load(f.at(w, v * t.pitch, t.element), t.kind) for v in range(t.vectors)]
    lefts = [f.load_masked(f.at(x, p, t.element), t.kind, mask) for p in t.offsets]
    pairs = [(a, b) for a in lefts for b in rights]
    return [f.fma(a, b, s) for (a, b), s in zip(pairs, sums, strict=True)]


def joined(levels: Sequence[Level]) -> list[Level]:
    """Make one loop of two that go through memory like one."""
    done: list[Level] = [levels[-1]]
    for level in levels[-2::-1]:
        inner = done[0]
        if isinstance(level.turns, int) and level.turns == 1:
            continue
        if isinstance(level.turns, int) and isinstance(inner.turns, int):
            turns = inner.turns
            if (level.x, level.w) == (turns * inner.x, turns * inner.w):
                done[0] = Level(level.turns * turns, inner.x, inner.w)
                continue
        done.insert(0, level)
    return done


def unrolling(positions: Sequence[int], count: Value | int, stride: int, size: int) -> int:
    """Return how many turns to write out.

    Where one turn reads numbers that another turn reads for another position, the code generator
    would keep them all in registers from turn to turn: then the loop stays as it is.
    """
    wanted = 1 if size >= 16 else 2 if size >= 8 else 4
    if isinstance(count, int) and count <= 4:
        wanted = max(wanted, count)
    places = set(positions)
    for turns in range(1, wanted):
        if any(p + turns * stride in places for p in positions):
            return turns
    return wanted if not isinstance(count, int) else max(1, min(wanted, count))


# --- copies ---


def clear(f: Function, place: Value, size: int) -> None:
    """Write zeros into some bytes."""
    if size > 0:
        f.clear(place, size)


def move(f: Function, source: Value, to: Value, size: int) -> None:
    """Copy some bytes."""
    if size > 0:
        plain = f.const("i1", False)
        f.call("llvm.memcpy.p0.p0.i64", "void", to, source, f.const("i64", size), plain)


class Window(NamedTuple):
    """What of an image is copied, with zeros around it: see `copy_window`.

    Args:
        element: "float" or "double".
        height: rows of the image.
        width: its columns.
        channels: that are copied.
        strides: of the image: of rows, columns, channels.
        rows: to be copied.
        columns: the first to be copied, and the one after the last; some may be outside.
        planar: the copy has channels outermost, else innermost.
    """

    element: str
    height: int
    width: int
    channels: int
    strides: tuple[int, int, int]
    rows: int
    columns: tuple[int, int]
    planar: bool = False

    @property
    def pixel(self) -> int:
        """Elements from pixel to pixel of the copy."""
        return 1 if self.planar else self.channels

    @property
    def pitch(self) -> int:
        """From row to row."""
        return (self.columns[1] - self.columns[0]) * self.pixel

    @property
    def deep(self) -> int:
        """From channel to channel."""
        return self.rows * self.pitch if self.planar else 1

    @property
    def size(self) -> int:
        """Elements of the copy."""
        return self.rows * (self.columns[1] - self.columns[0]) * self.channels

    @property
    def bytes(self) -> int:
        return self.size * SIZES[self.element]


def copy_window(f: Function, window: Window, image: Value, first: Value, to: Value) -> None:
    """Write the copying of rows of an image from row `first` on, which may be outside: zeros."""
    w = window
    if w.planar:
        plane = w._replace(channels=1, planar=False)
        with f.loop(0, w.channels) as channels:
            source = f.at(image, f.mul(channels.index, w.strides[2]), w.element)
            target = f.at(to, f.mul(channels.index, w.deep), w.element)
            copy_window(f, plane, source, first, target)
        return
    size = SIZES[w.element]
    begin, end = (min(max(c, 0), w.width) for c in w.columns)
    left = min(max(-w.columns[0], 0), w.columns[1] - w.columns[0]) * w.channels
    middle = max(end - begin, 0) * w.channels
    with f.loop(0, w.rows) as rows:
        row = f.add(first, rows.index)
        target = f.at(to, f.mul(rows.index, w.pitch), w.element)
        inside = f.compare("ult", row, w.height)
        with f.when(f.compare("uge", row, w.height)):
            clear(f, target, w.pitch * size)
        with f.when(inside):
            clear(f, target, left * size)
            source = f.at(image, f.mul(row, w.strides[0]), w.element)
            source = f.at(source, begin * w.strides[1], w.element)
            copy_row(f, w, source, f.at(target, left, w.element), max(end - begin, 0))
            rest = f.at(target, left + middle, w.element)
            clear(f, rest, (w.pitch - left - middle) * size)


def copy_row(f: Function, w: Window, source: Value, to: Value, columns: int) -> None:
    """Write the copying of some pixels of a row so that they are dense, channels innermost."""
    size, (_, across, deep) = SIZES[w.element], w.strides
    if across == w.channels and (deep == 1 or w.channels == 1):
        move(f, source, to, columns * w.channels * size)
    elif deep == 1 and w.channels > 1:
        with f.loop(0, columns) as pixels:
            place = f.at(source, f.mul(pixels.index, across), w.element)
            target = f.at(to, f.mul(pixels.index, w.channels), w.element)
            move(f, place, target, w.channels * size)
    else:
        with f.loop(0, w.channels) as channels:
            line = f.at(source, f.mul(channels.index, deep), w.element)
            target = f.at(to, channels.index, w.element)
            with f.loop(0, columns) as pixels:
                value = f.load(f.at(line, f.mul(pixels.index, across), w.element), w.element)
                f.store(value, f.at(target, f.mul(pixels.index, w.channels), w.element))
