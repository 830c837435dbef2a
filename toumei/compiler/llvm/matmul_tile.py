"""The inner parts of a matrix product: register tiles, transposition, sums of lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .integers import tail_mask
from .ir import SIZES, Function, Value, split, vector


@dataclass(frozen=True)
class Tile:
    """A register tile to be written.

    Its sums are kept in one list, row by row.

    Args:
        element: "float" or "double".
        lanes: of a vector.
        rows, vectors: the tile's size; of a tile of dot products, rows and columns.
        a: strides of A: of m, of k.
        b: strides of B: of k, of n.
        dot: lanes run over k (else over n).
        unroll: turns of the loop that are written out.
        chains: sums per element that are added up at the end.
        mask: the lanes of the last vector of n that exist; None: all.
    """

    element: str
    lanes: int
    rows: int
    vectors: int
    a: tuple[int, int]
    b: tuple[int, int]
    dot: bool = False
    unroll: int = 1
    chains: int = 1
    mask: Value | None = None

    @property
    def kind(self) -> str:
        return vector(self.element, self.lanes)

    @property
    def size(self) -> int:
        return self.rows * self.vectors


def step(f: Function, t: Tile, a: Value, b: Value, sums: list[Value]) -> list[Value]:
    """Add A[:, k] · B[k, :] to a tile's sums."""
    row_of_b = []
    for v in range(t.vectors):
        mask = t.mask if v == t.vectors - 1 else None
        row_of_b.append(f.load_masked(f.at(b, v * t.lanes, t.element), t.kind, mask))
    following = []
    for i in range(t.rows):
        number = f.load(f.at(a, i * t.a[0], t.element), t.element)
        left = f.splat(t.element, number, t.lanes)
        following += [
            f.fma(left, right, sums[i * t.vectors + v]) for v, right in enumerate(row_of_b)
        ]
    return following


def dot_step(
    f: Function, t: Tile, a: Value, b: Value, sums: list[Value], mask: Value | None = None
) -> list[Value]:
    """Add the products of as many k as there are lanes, lane by lane."""

    def vectors(base: Value, stride: int, count: int) -> list[Value]:
        places = (f.at(base, i * stride, t.element) for i in range(count))
        return [f.load_masked(place, t.kind, mask) for place in places]

    lefts, rights = vectors(a, t.a[0], t.rows), vectors(b, t.b[1], t.vectors)
    pairs = [(x, y) for x in lefts for y in rights]
    return [f.fma(x, y, s) for (x, y), s in zip(pairs, sums, strict=True)]


def run(
    f: Function, t: Tile, a: Value, b: Value, count: Value | int, start: Sequence[Value] = ()
) -> list[Value]:
    """Write the loop over k of a tile; return its sums: vectors over n, row by row.

    Args:
        a, b: where A's first row and B's first row (or column) begin, at the first k.
        count: how many k; a Value where it differs from call to call.
        start: the sums so far.
    """
    if t.dot:
        sums = run_dot(f, t, a, b, count)
        return [f.fadd(x, y) for x, y in zip(start, sums, strict=True)] if start else sums
    sums, _ = steps(f, t, a, b, count, list(start) or [f.const(t.kind, 0.0)] * t.size)
    return sums


def run_dot(f: Function, t: Tile, a: Value, b: Value, count: Value | int) -> list[Value]:
    """Write the loop of a tile of dot products; return one vector of sums per row."""
    zeros = [f.const(t.kind, 0.0)] * t.size
    if isinstance(count, int):
        rest = tail_mask(f, count % t.lanes, t.lanes) if count % t.lanes else None
        sums, (a, b) = steps(f, t, a, b, count // t.lanes, zeros)
    else:
        rest = tail_mask(f, f.urem(count, t.lanes), t.lanes)
        sums, (a, b) = steps(f, t, a, b, f.udiv(count, t.lanes), zeros)
    if rest is not None:
        sums = dot_step(f, t, a, b, sums, rest)
    rows = [sums[i : i + t.vectors] for i in range(0, t.size, t.vectors)]
    return [sum_lanes(f, row) for row in rows]


def steps(
    f: Function, t: Tile, a: Value, b: Value, count: Value | int, start: list[Value]
) -> tuple[list[Value], tuple[Value, Value]]:
    """Write `count` steps; return the sums, and where A and B go on."""
    stride_a, stride_b = (t.lanes, t.lanes) if t.dot else (t.a[1], t.b[0])
    sums = start + [f.const(t.kind, 0.0)] * (t.size * (t.chains - 1))

    def turn(carried: list[Value], unroll: int) -> list[Value]:
        """Write some steps, the chains of sums taking turns."""
        a, b, *sums = carried
        for j in range(unroll):
            chain = slice(t.size * (j % t.chains), t.size * (j % t.chains + 1))
            here = f.at(a, j * stride_a, t.element), f.at(b, j * stride_b, t.element)
            sums[chain] = (dot_step if t.dot else step)(f, t, *here, sums[chain])
        return [f.at(a, unroll * stride_a, t.element), f.at(b, unroll * stride_b, t.element), *sums]

    unroll = t.unroll
    if isinstance(count, int):
        carried = repeat(f, count // unroll, [a, b, *sums], lambda c: turn(c, unroll))
        carried = turn(carried, count % unroll) if count % unroll else carried
    elif unroll == 1:
        carried = repeat(f, count, [a, b, *sums], lambda c: turn(c, 1))
    else:
        carried = repeat(f, f.udiv(count, unroll), [a, b, *sums], lambda c: turn(c, unroll))
        carried = repeat(f, f.urem(count, unroll), carried, lambda c: turn(c, 1))
    a, b, *sums = carried
    return add_chains(f, sums, t.size), (a, b)


def repeat(
    f: Function,
    count: Value | int,
    carried: list[Value],
    body: Callable[[list[Value]], list[Value]],
) -> list[Value]:
    """Write a body `count` times over, as a loop where that is more than once."""
    if count == 0:
        return carried
    if count == 1:
        return body(carried)
    with f.loop(0, count, carried=carried) as loop:
        loop.next = body(loop.carried)
    return loop.results


def add_chains(f: Function, sums: list[Value], size: int) -> list[Value]:
    """Add up several sums per element, by halves."""
    while len(sums) > size:
        half = len(sums) // 2
        sums = [f.fadd(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
    return sums


# --- between lanes ---


def sum_lanes(f: Function, vectors: Sequence[Value]) -> Value:
    """Return one vector whose lane j is the sum of the lanes of vector j.

    Two vectors at a time become one: half of the lanes of each, added to the other half.
    """
    kind = vectors[0].type
    element, lanes = split(kind)
    piece = 16 // SIZES[element]  # lanes within 16 bytes: shuffles among them are the quick ones
    now: list[Value | None] = [*vectors, *[None] * (lanes - len(vectors))]
    done = 1  # lanes that stand side by side for different vectors already
    while done < lanes:
        half = max(piece // (2 * done), 1)
        pairs = zip(now[::2], now[1::2], strict=True)
        now = [None if x is None else _fold(f, x, y, lanes, done, half) for x, y in pairs]
        done *= 2
    assert now[0] is not None
    return now[0]


def _fold(f: Function, x: Value, y: Value | None, lanes: int, done: int, half: int) -> Value:
    """Add half of the partial sums in each of two vectors to the other half."""
    other = f.const(x.type, 0.0) if y is None else y

    def pick(offset: int) -> list[int]:
        picked = []
        for lane in range(lanes):
            part, which, inner = lane // (2 * done), lane // done % 2, lane % done
            part = part // half * 2 * half + part % half + offset
            picked.append(which * lanes + part * done + inner)
        return picked

    return f.fadd(f.shuffle(x, other, pick(0)), f.shuffle(x, other, pick(half)))


def transpose_store(
    f: Function,
    element: str,
    lanes: int,
    source: Value,
    stride: int,
    target: Value,
    pitch: int,
    rows: int,
    columns: int,
) -> None:
    """Store the transpose of `rows` x `columns` numbers, each at most the lanes of a vector.

    Rows are read in pieces of 16 bytes, put together so that what remains is a transposition
    within each 16 bytes, for which there are quick shuffles.

    Args:
        source, stride: where the rows begin, elements from one to the next.
        target, pitch: likewise of the result, whose rows are whole vectors, padded with zeros.
    """
    piece = min(lanes, 16 // SIZES[element])
    for first in range(0, columns, piece):
        mask = tail_mask(f, columns - first, piece)
        group = [
            _gather(f, element, lanes, source, stride, rows, (i, first), piece, mask)
            for i in range(piece)
        ]
        for j, column in enumerate(_transpose(f, group, lanes, piece)[: columns - first]):
            f.store(column, f.at(target, (first + j) * pitch, element))


def _gather(
    f: Function,
    element: str,
    lanes: int,
    source: Value,
    stride: int,
    rows: int,
    start: tuple[int, int],
    piece: int,
    mask: Value | None,
) -> Value:
    """Join the pieces at a column of every `piece`-th row."""
    kind = vector(element, piece)
    parts = []
    for row in range(start[0], lanes, piece):
        if row < rows:
            place = f.at(source, row * stride + start[1], element)
            parts.append(f.load_masked(place, kind, mask))
        else:
            parts.append(f.const(kind, 0.0))
    while len(parts) > 1:
        both = range(2 * (lanes // len(parts)))
        parts = [f.shuffle(x, y, both) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _transpose(f: Function, group: list[Value], lanes: int, piece: int) -> list[Value]:
    """Transpose `piece` vectors within each `piece` lanes.

    Interleaving the first half of the rows with the second, log2(piece) times, does it.
    """
    low = [lane // piece * piece + lane % piece // 2 + lane % 2 * lanes for lane in range(lanes)]
    high = [lane + piece // 2 for lane in low]
    half, size = len(group) // 2, piece
    while size > 1:
        paired = zip(group[:half], group[half:], strict=True)
        group = [f.shuffle(x, y, order) for x, y in paired for order in (low, high)]
        size //= 2
    return group
