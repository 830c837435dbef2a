"""Row tiles: chains of small matrix products that are computed together, a few rows at a time.

In a network with layers of 20 units that is applied to 10,000 points, every product streams two
arrays of 800 KB through memory for very little arithmetic.  But each row of such an array depends
on the same row of others only: all layers, forwards, derivatives and backwards, can be computed for
64 rows before the next 64 are looked at, and everything in between stays in a cache.

This stage finds such nodes and puts them into one node, a `Tile`.  A node is *row-local* if it is

    pointwise   over (rows, columns) or (rows,), or a sum over the columns
    a product   (rows, k) x (k, n) with a second factor that the tile doesn't compute
    a sum       over the rows: of something pointwise, or a product (k, rows) x (rows, n)

What is summed over the rows is only there when the tile has ended.  So that a tile can run in one
go, no path may lead out of it and back into it.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .expr import Read, dense
from .nodes import Compute, Extern, Lowered, Node, Tile
from .rows import MOST_COLUMNS, Member, Rows, access, flat, rows_of
from .tilerewrite import Constants, Equal, Joined, outliving

FEWEST_ROWS = 64  # with fewer, there is nothing to go through in tiles
NARROW = 32  # columns: products of more are nearly as quick by themselves
MANY_ROWS = 256  # from here on there are several tiles to be shared among threads
FEWEST_PRODUCTS = (4, 12)  # in a tile: narrow ones over many rows, others


# --- what depends on what ------------------------------------------------------------------------


class Order:
    """Which nodes must come before which."""

    def __init__(self, lowered: Lowered) -> None:
        self.nodes = lowered.nodes
        self.writers: dict[int, list[int]] = {}
        self.readers: dict[int, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for v in dict.fromkeys(w.value for w in node.writes()):
                self.writers.setdefault(v, []).append(i)
            for v in dict.fromkeys(r.value for r in node.reads()):
                self.readers.setdefault(v, []).append(i)
        self.before = [self._before(node, lowered) - {i} for i, node in enumerate(self.nodes)]

    def _before(self, node: Node, lowered: Lowered) -> set[int]:
        found = {j for r in node.reads() for j in self.writers.get(r.value, ())}
        for w in node.writes():  # a new state replaces what others still have to read
            if w.value in lowered.homes:
                found.update(self.readers.get(lowered.homes[w.value], ()))
        return found

    def sorted(self, keys: Sequence[int]) -> list[Node]:
        """Return the nodes in an order that suits them all, as near to the keys' as possible."""
        left = [len(before) for before in self.before]
        after: dict[int, list[int]] = {}
        for i, before in enumerate(self.before):
            for j in before:
                after.setdefault(j, []).append(i)
        ready = [(keys[i], i) for i, n in enumerate(left) if not n]
        heapq.heapify(ready)
        out: list[Node] = []
        while ready:
            _, i = heapq.heappop(ready)
            out.append(self.nodes[i])
            for j in after.get(i, ()):
                left[j] -= 1
                if not left[j]:
                    heapq.heappush(ready, (keys[j], j))
        assert len(out) == len(self.nodes), "a tile depends on what depends on it"
        return out


# --- which nodes ---------------------------------------------------------------------------------


class Selection:
    """The nodes over so many rows that can run in one go, from the first one on.

    Args:
        lowered: the step.
        order: of its nodes.
        rows, dtype: of the tile.
        refused: nodes that aren't to be taken.
    """

    def __init__(
        self, lowered: Lowered, order: Order, rows: int, dtype: object, refused: Iterable[int] = ()
    ) -> None:
        self.lowered, self.order, self.rows, self.dtype = lowered, order, rows, dtype
        self.fits = [self._fit(node) for node in lowered.nodes]
        self.refused = set(refused)
        self.chosen: list[int] = []
        while True:
            self._choose()
            broken = set(self._broken())
            if not broken:
                break
            self.refused |= broken

    def _fit(self, node: Node) -> Rows | None:
        if any(w.dtype != self.dtype or w.value in self.lowered.homes for w in node.writes()):
            return None
        return rows_of(node, self.rows)

    def _choose(self) -> None:
        """Take each node that needs nothing of what comes after a part of the tile."""
        self.pitches: dict[int, int] = {}  # of values of the tile: elements per row
        self.sums: set[int] = set()  # values that are there when the tile has ended
        chosen: set[int] = set()
        late: set[int] = set()  # what must come after the tile
        for i, node in enumerate(self.lowered.nodes):
            before = self.order.before[i]
            fit = self.fits[i]
            if fit is None or i in self.refused or before & late or not self._joins(node, fit):
                if before & late or before & chosen:
                    late.add(i)
                continue
            chosen.add(i)
        self.chosen = sorted(chosen)

    def _joins(self, node: Node, fit: Rows) -> bool:
        """Tell whether all that a node reads is there in time, row by row."""
        if any(b.value in self.pitches or b.value in self.sums for b in fit.fixed):
            return False
        for a in fit.over:
            v = a.read.value
            pitch = self.pitches.get(v)
            if v in self.sums:
                return False
            if pitch is not None:
                low, high = min(a.read.offset, a.last), max(a.read.offset, a.last)
                if a.row != pitch or low < 0 or high >= pitch:
                    return False
            elif a.row == 0 and fit.kind == "gram":
                return False
        (out,) = node.writes()
        if fit.kind in ("sum", "gram"):
            self.sums.add(out.value)
            return True
        return self._keeps_rows(node, out)

    def _keeps_rows(self, node: Node, out: Read) -> bool:
        """Tell whether what a node writes lies row by row."""
        size = self.lowered.specs[out.value].size
        shape = node.shape if isinstance(node, Compute) else node.shapes[2]  # type: ignore[union-attr]
        written = access(out, 0, shape)
        if size % self.rows or written.row != size // self.rows:
            return False
        if size // self.rows > MOST_COLUMNS or written.last >= written.row:
            return False
        self.pitches[out.value] = written.row
        return True

    def _broken(self) -> Iterator[int]:
        """Yield nodes that write a part of a value the rest of which isn't written here."""
        chosen = set(self.chosen)
        for i in self.chosen:
            for w in self.lowered.nodes[i].writes():
                if any(j not in chosen for j in self.order.writers[w.value]):
                    yield i

    def pays(self) -> bool:
        """Tell whether it is worth it."""
        shapes = [
            node.shapes[1] if fit.kind == "product" else node.shapes[2]
            for i in self.chosen
            if isinstance(node := self.lowered.nodes[i], Extern)
            and (fit := self.fits[i]) is not None
        ]
        work = sum(math.prod(shape) for shape in shapes)
        is_easy = self.rows >= MANY_ROWS and work <= NARROW**2 * len(shapes)
        return len(shapes) >= FEWEST_PRODUCTS[0 if is_easy else 1]


# --- the stage -----------------------------------------------------------------------------------


def tiled(lowered: Lowered, constants: Constants) -> Lowered:
    """Put chains of small products into tiles.

    Args:
        lowered: the step.
        constants: the values that are known.
    """
    for rows, dtype in _sizes(lowered):
        tried = replace(lowered, nodes=tuple(flat(node, rows) for node in lowered.nodes))
        while (selection := _worthwhile(tried, rows, dtype)) is not None:
            lowered = tried = _replaced(tried, selection, constants)
    return lowered


def _worthwhile(lowered: Lowered, rows: int, dtype: object) -> Selection | None:
    """Return nodes that are worth a tile; where the first ones aren't, later ones may be."""
    order = Order(lowered)
    refused: set[int] = set()
    while True:
        selection = Selection(lowered, order, rows, dtype, refused)
        if not selection.chosen or selection.pays():
            return selection if selection.chosen else None
        refused.update(selection.chosen)


def _sizes(lowered: Lowered) -> list[tuple[int, object]]:
    """Return the (rows, dtype) of enough small products, those with the most rows first."""
    found: Counter[tuple[int, object]] = Counter()
    for node in lowered.nodes:
        if isinstance(node, Extern) and type(node.call.op).__name__ == "Matmul":
            rows = max(math.prod(node.shapes[0][:-1]), node.shapes[0][-1])
            if rows >= FEWEST_ROWS and rows_of(flat(node, rows), rows) is not None:
                found[rows, node.inputs[0].dtype] += 1
    enough = [
        size
        for size, n in found.items()
        if n >= FEWEST_PRODUCTS[0] and str(size[1]) in ("float32", "float64")
    ]
    return sorted(enough, key=lambda size: (-size[0], str(size[1])))


def _replaced(lowered: Lowered, selection: Selection, constants: Constants) -> Lowered:
    """Put the chosen nodes into a tile."""
    lowered = replace(lowered, specs=dict(lowered.specs))
    nodes, chosen = lowered.nodes, set(selection.chosen)
    inside: list[Member] = [
        n for i, n in enumerate(nodes) if i in chosen and not isinstance(n, Tile)
    ]
    equal = Equal(lowered, inside, selection.rows, constants)
    places = [i for i in range(len(nodes)) if i not in chosen]
    others: list[Node] = [nodes[i] for i in places]
    for i, node in _asked_for(lowered, selection.chosen, others, equal):
        places.append(i)
        others.append(node)
    joined = Joined(lowered, equal.members, others, selection.rows)
    tile = _tile(lowered, joined.members, joined.others, selection.rows)
    reads = {r.value for r in tile.reads()}
    ahead: list[Node] = []
    for member in reversed(equal.ahead):
        if any(w.value in reads for w in member.writes()):
            ahead.append(member)
            reads.update(r.value for r in member.reads())
    first = selection.chosen[0]
    order = Order(replace(lowered, nodes=(*joined.others, *reversed(ahead), tile)))
    keys = [*places, *[first] * (len(ahead) + 1)]
    return replace(lowered, nodes=tuple(order.sorted(keys)))


def _asked_for(
    lowered: Lowered, chosen: Sequence[int], others: Sequence[Node], equal: Equal
) -> list[tuple[int, Node]]:
    """Return the nodes that compute all of the equal rows of what somebody else reads."""
    needed = outliving(lowered) | {r.value for node in others for r in node.reads()}
    found: list[tuple[int, Node]] = []
    for i in reversed(chosen):
        node = lowered.nodes[i]
        if any(w.value in equal.once and w.value in needed for w in node.writes()):
            found.append((i, node))
            needed.update(r.value for r in node.reads())
    return found


def _tile(lowered: Lowered, members: Sequence[Member], others: Sequence[Node], rows: int) -> Tile:
    """Return the node that some nodes become."""
    made = {w.value: w for node in members for w in node.writes()}
    needed = outliving(lowered) | {r.value for node in others for r in node.reads()}
    inputs = dict.fromkeys(r for node in members for r in node.reads() if r.value not in made)
    outputs = [
        Read(v, w.dtype, dense(lowered.specs[v].shape)) for v, w in made.items() if v in needed
    ]
    call = next(node.call for node in members if isinstance(node, Extern))
    return Tile(call, rows, tuple(members), tuple(inputs), tuple(outputs))
