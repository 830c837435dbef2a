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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..op import Spec
from .expr import Apply, Const, Expr, Index, Read, dense, leaves, rewrite
from .nodes import Compute, Extern, Lowered, Node, Shape, Tile

FEWEST_ROWS = 64  # with fewer, there is nothing to go through in tiles
MOST_COLUMNS = 64  # of a row; wider products are efficient by themselves
FEWEST_PRODUCTS = 4  # in a tile


class Rows:
    """How a node fits the rows: what it is, and which of its accesses go along with the rows.

    Attributes:
        kind: "map", "columns" (a sum over the columns), "sum" (over the rows), "product", "gram"
            (a product that sums over the rows).
        columns: of a row.
        over: (access, its stride from row to row, its strides within a row, sizes of these) of all
            that is read; the second factor of a product isn't among them.
        fixed: the second factor of a product.
    """

    def __init__(
        self, kind: str, columns: int, over: list[Access], fixed: tuple[Read, ...] = ()
    ) -> None:
        self.kind, self.columns, self.over, self.fixed = kind, columns, over, fixed


@dataclass(frozen=True)
class Access:
    """An access of a node as one of rows.

    Attributes:
        read: the access.
        row: the stride from row to row.
        column: the stride within a row.
        columns: how many elements of a row it has.
    """

    read: Read
    row: int
    column: int
    columns: int

    @property
    def last(self) -> int:
        """The last element of the first row, counted from the start of the memory."""
        return self.read.offset + self.column * (self.columns - 1)


Member: TypeAlias = Compute | Extern


def access(read: Read, row: int, shape: Shape) -> Access:
    """Return an access over a shape one of whose dims is that of the rows."""
    rest = [(n, s) for d, (n, s) in enumerate(zip(shape, read.strides, strict=True)) if d != row]
    columns, column = rest[0] if rest else (1, 0)
    return Access(read, read.strides[row], column if columns > 1 else 0, columns)


def rows_of(node: Node, rows: int) -> Rows | None:
    """Return how a node fits so many rows, or None if it doesn't."""
    if isinstance(node, Compute):
        return _compute(node, rows)
    if isinstance(node, Extern) and type(node.call.op).__name__ == "Matmul":
        return _matmul(node, rows)
    return None


def _certain(node: Node, rows: int) -> Rows:
    """Return how a node that is known to fit does so."""
    fit = rows_of(node, rows)
    assert fit is not None
    return fit


def _compute(node: Compute, rows: int) -> Rows | None:
    shape = node.shape
    if len(shape) not in (1, 2) or shape[0] != rows or math.prod(shape[1:]) > MOST_COLUMNS:
        return None
    if node.out.dtype.kind != "f" or node.expr.dtype != node.out.dtype or node.how not in ("", "sum"):
        return None
    reads: list[Access] = []
    for leaf in leaves(node.expr):
        if isinstance(leaf, Index):
            return None
        if isinstance(leaf, Read):
            found = access(leaf, 0, shape)
            if found.row and leaf.dtype != node.out.dtype:
                return None
            reads.append(found)
    kind = "map" if not node.how else "sum" if 0 in node.reduced else "columns"
    return Rows(kind, math.prod(shape[1:]), reads)


def _matmul(node: Extern, rows: int) -> Rows | None:
    (a, b), (a_shape, b_shape, c_shape) = node.inputs, node.shapes
    if any(len(s) != 2 for s in node.shapes) or a.dtype.kind != "f":
        return None
    if a_shape[0] == rows and max(*b_shape) <= MOST_COLUMNS:
        return Rows("product", c_shape[1], [access(a, 0, a_shape)], (b,))
    if a_shape[1] == rows and max(*c_shape) <= MOST_COLUMNS:
        return Rows("gram", c_shape[1], [access(a, 1, a_shape), access(b, 0, b_shape)])
    return None


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
    """The nodes over so many rows that can run in one go, from the first one on."""

    def __init__(self, lowered: Lowered, order: Order, rows: int, dtype: object) -> None:
        self.lowered, self.order, self.rows, self.dtype = lowered, order, rows, dtype
        self.fits = [self._fit(node) for node in lowered.nodes]
        self.refused: set[int] = set()
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
        kinds = [fit.kind for i in self.chosen if (fit := self.fits[i]) is not None]
        return sum(k in ("product", "gram") for k in kinds) >= FEWEST_PRODUCTS


# --- rows that are all equal ---------------------------------------------------------------------


class Equal:
    """Values whose rows are all equal: one row of them is computed, before the tile.

    Args:
        lowered: the step; what is computed once is given memory in its `specs`.
        nodes: the tile's nodes.
        rows: how many rows.
    """

    def __init__(self, lowered: Lowered, nodes: Sequence[Member], rows: int) -> None:
        self.rows, self.specs = rows, lowered.specs
        self.once: dict[int, int] = {}  # the value that holds the one row of another one
        self.ahead: list[Member] = []
        self.members: list[Member] = []
        fits = [_certain(node, rows) for node in nodes]
        varied = _varied(nodes, fits)
        for node, fit in zip(nodes, fits, strict=True):
            (out,) = node.writes()
            if out.value in varied or fit.kind in ("sum", "gram"):
                self.members.append(self._with_rows(node))
            else:
                self.ahead.append(self._alone(node))

    def _alone(self, node: Member) -> Member:
        """Return a node that computes one row."""
        (out,) = node.writes()
        if out.value not in self.once:
            spec = self.specs[out.value]
            self.once[out.value] = number = max(self.specs) + 1
            self.specs[number] = Spec((1, spec.size // self.rows), spec.dtype)
        node, out = self._with_rows(node), replace(out, value=self.once[out.value])
        if isinstance(node, Compute):
            return replace(node, out=out, shape=(1, *node.shape[1:]))
        (_, *a), b, (_, *c) = node.shapes
        return replace(node, outputs=(out,), shapes=((1, *a), b, (1, *c)))

    def _with_rows(self, node: Member) -> Member:
        """Return a node that reads the one row there is for all of its rows."""
        if isinstance(node, Compute):
            return replace(node, expr=rewrite(node.expr, self._leaf))
        a, b = node.inputs
        if node.shapes[0][0] == self.rows:
            return replace(node, inputs=(self._at_row(a, 0), b))
        return replace(node, inputs=(self._at_row(a, 1), self._at_row(b, 0)))

    def _leaf(self, leaf: Read | Index | Const) -> Expr:
        return self._at_row(leaf, 0) if isinstance(leaf, Read) else leaf

    def _at_row(self, read: Read, row: int) -> Read:
        """Return an access whose dim `row` is that of the rows, made to the one row there is."""
        if read.value not in self.once:
            return read
        strides = tuple(0 if d == row else s for d, s in enumerate(read.strides))
        return Read(self.once[read.value], read.dtype, strides, read.offset)


def _varied(nodes: Sequence[Member], fits: Sequence[Rows]) -> set[int]:
    """Return the values of a tile that differ from row to row."""
    made = {w.value for node in nodes for w in node.writes()}
    varied: set[int] = set()
    before = -1
    while len(varied) != before:  # parts of a value may be written after others were read
        before = len(varied)
        for node, fit in zip(nodes, fits, strict=True):
            moving = (a.read.value for a in fit.over if a.row)
            if any(v not in made or v in varied for v in moving):
                varied.update(w.value for w in node.writes())
    return varied


# --- sums of sums --------------------------------------------------------------------------------


class Joined:
    """Products over the rows that are only added up become one sum.

    A weight that is used several times has a gradient of several terms.

    Attributes:
        members: the tile's nodes.
        others: those that come after it, changed.
    """

    def __init__(
        self, lowered: Lowered, members: Sequence[Member], others: Sequence[Node], rows: int
    ) -> None:
        self.specs = lowered.specs
        self.members, self.others = list(members), list(others)
        uses = dict.fromkeys(outliving(lowered), 2)
        for node in (*members, *others):
            for r in node.reads():
                uses[r.value] = uses.get(r.value, 0) + 1
        self.terms = {  # the products, by what they write, that only one node reads
            node.outputs[0].value: i
            for i, node in enumerate(members)
            if isinstance(node, Extern)
            and node.shapes[0][1] == rows
            and uses.get(node.outputs[0].value) == 1
        }
        for i, node in enumerate(self.others):
            if isinstance(node, Compute) and any(r.value in self.terms for r in node.reads()):
                self.others[i] = replace(node, expr=self._visit(node.expr, node.shape))

    def _visit(self, e: Expr, shape: Shape) -> Expr:
        """Return an expression in which sums of products are one value each."""
        if not isinstance(e, Apply):
            return e
        if e.name != "add":
            return replace(e, args=tuple(self._visit(a, shape) for a in e.args))
        terms = list(_added(e))
        joined = [t for t in terms if isinstance(t, Read) and self._joins(t, shape)]
        rest = [self._visit(t, shape) for t in terms if t not in joined]
        if len(joined) > 1:
            joined = [self._together(joined, shape)]
        total, *more = [*rest, *joined]
        for t in more:
            total = Apply("add", (total, t), e.dtype)
        return total

    def _joins(self, term: Read, shape: Shape) -> bool:
        """Tell whether a term is a whole product over the rows."""
        if term.value not in self.terms:
            return False
        return len(shape) == 2 and term.strides in (dense(shape), dense(shape, (1, 0)))

    def _together(self, terms: Sequence[Read], shape: Shape) -> Read:
        """Let products add to one value; return its elements."""
        number = max(self.specs) + 1
        self.specs[number] = Spec(shape, terms[0].dtype)
        for t in terms:
            node = self.members[self.terms[t.value]]
            assert isinstance(node, Extern)
            as_read = t.strides == dense(shape)
            strides = dense(shape) if as_read else dense(shape)[::-1]
            out = Read(number, t.dtype, strides)
            self.members[self.terms[t.value]] = replace(node, outputs=(out,))
        return Read(number, terms[0].dtype, dense(shape))


def _added(e: Expr) -> Iterator[Expr]:
    """Yield the terms of a sum."""
    if isinstance(e, Apply) and e.name == "add":
        for a in e.args:
            yield from _added(a)
    else:
        yield e


# --- the stage -----------------------------------------------------------------------------------


def outliving(lowered: Lowered) -> set[int]:
    """Return the values that are needed when all nodes are done."""
    return {*lowered.results, *(v for _, v in lowered.copies), *lowered.homes}


def tiled(lowered: Lowered) -> Lowered:
    """Put chains of small products into tiles."""
    tried: set[tuple[int, object]] = set()
    while True:
        sizes = [size for size in _sizes(lowered) if size not in tried]
        if not sizes:
            return lowered
        rows, dtype = sizes[0]
        selection = Selection(lowered, Order(lowered), rows, dtype)
        if selection.pays():
            lowered = _replaced(lowered, selection)
        else:
            tried.add(sizes[0])


def _sizes(lowered: Lowered) -> list[tuple[int, object]]:
    """Return the (rows, dtype) of enough small products, those with the most rows first."""
    found: Counter[tuple[int, object]] = Counter()
    for node in lowered.nodes:
        if isinstance(node, Extern) and type(node.call.op).__name__ == "Matmul":
            rows = max(max(s) for s in node.shapes)
            if rows >= FEWEST_ROWS and _matmul(node, rows) is not None:
                found[rows, node.inputs[0].dtype] += 1
    enough = [size for size, n in found.items() if n >= FEWEST_PRODUCTS]
    return sorted(enough, key=lambda size: (-size[0], str(size[1])))


def _replaced(lowered: Lowered, selection: Selection) -> Lowered:
    """Put the chosen nodes into a tile."""
    lowered = replace(lowered, specs=dict(lowered.specs))
    nodes, chosen = lowered.nodes, set(selection.chosen)
    inside: list[Member] = [n for i, n in enumerate(nodes) if i in chosen and not isinstance(n, Tile)]
    equal = Equal(lowered, inside, selection.rows)
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


def _tile(
    lowered: Lowered, members: Sequence[Member], others: Sequence[Node], rows: int
) -> Tile:
    """Return the node that some nodes become."""
    made = {w.value: w for node in members for w in node.writes()}
    needed = outliving(lowered) | {r.value for node in others for r in node.reads()}
    inputs = dict.fromkeys(r for node in members for r in node.reads() if r.value not in made)
    outputs = [
        Read(v, w.dtype, dense(lowered.specs[v].shape)) for v, w in made.items() if v in needed
    ]
    call = next(node.call for node in members if isinstance(node, Extern))
    return Tile(call, rows, tuple(members), tuple(inputs), tuple(outputs))
