"""From a Tile to a program for a few rows: steps over arrays that fit a cache.

Every value of a tile is a *slot* of scratch memory: for each of its columns, the elements of all
rows of the tile side by side.  Lanes of a vector are rows.

    Load     columns of outside memory, turned, into a slot
    Product  every column of a slot is a combination of another slot's; a map may follow at once
    Map      expressions of slots, column by column; sums over columns or rows
    Gram     products of columns of two slots, summed over the rows
    Store    a slot, turned back, into outside memory

In a step, Read(slot, strides=(step,), offset=first) is the column first + step·j of a slot, and
Read(-1 - b, …) likewise an element of the outside buffer b.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from .expr import Const, Expr, Index, Read, leaves, rewrite
from .memory import Life, arrange
from .nodes import Compute, Extern, Lowered, Tile
from .rows import Access, Member, Rows, access, certain

LONGEST = 24  # statements of a map


@dataclass(frozen=True)
class Load:
    """Columns of outside memory become a slot; a stride of 0 from row to row fills it."""

    slot: int
    buffer: int
    offset: int
    row: int
    column: int
    columns: int


@dataclass(frozen=True)
class Store:
    """A slot goes into outside memory, row by row."""

    slot: int
    buffer: int
    columns: int


@dataclass(frozen=True)
class Gram:
    """sums[i, j] += Σ_rows a[i] · b[j]"""

    a: Read
    b: Read
    sums: Read  # over (i, j)
    inner: int
    columns: int


@dataclass(frozen=True)
class Statement:
    """One expression of a map.

    Attributes:
        kind: "map"; "columns" if it is summed over the columns; "sum" if over the rows.
        expr: for one column.
        out: the slot's column; of what is summed over rows, the element of the sum.
        stored: whether another step reads it; else it only goes into other statements.
    """

    kind: str
    expr: Expr
    out: Read
    stored: bool


@dataclass(frozen=True)
class Map:
    """Expressions, column by column."""

    columns: int
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class Product:
    """out[j] = Σ_i weight[i, j] · x[i]

    Attributes:
        x, out: columns of slots.
        weight: in a buffer, over (i, j).
        inner, columns: how many i and j.
        then: what is made of some columns as soon as they are there.
        stored: whether another step reads `out`; else only `then` does.
    """

    x: Read
    weight: Read
    out: Read
    inner: int
    columns: int
    then: Map | None = None
    stored: bool = True


Step: TypeAlias = Load | Store | Product | Gram | Map


@dataclass(frozen=True)
class Plan:
    """A tile's program.

    Attributes:
        rows: how many there are.
        dtype: of everything: "float32" or "float64".
        steps: in order.
        slots: columns of each slot; 0 where a value stays in registers.
        sums: elements of each value that is a sum over the rows.
        buffers: how many there are; those of the sums come last.
    """

    rows: int
    dtype: str
    steps: tuple[Step, ...]
    slots: tuple[int, ...]
    sums: tuple[int, ...]
    buffers: int

    def places(self, size: int) -> tuple[list[int], int]:
        """Return where each slot begins, and the end, in bytes, if a column has `size` of them."""
        lives = {slot: Life(0, 0, 0) for slot in range(len(self.slots))}
        for i, step in enumerate(self.steps):
            for slot in touched(step):
                if self.slots[slot]:
                    first = lives[slot].first if lives[slot].size else i
                    lives[slot] = Life(first, i, self.slots[slot] * size)
        found, end = arrange(lives)
        return [found[slot] for slot in range(len(self.slots))], end


def reads(step: Step) -> Iterator[Read]:
    """Yield the columns that a step reads; of maps, also what they have written themselves."""
    if isinstance(step, Map):
        for s in step.statements:
            yield from (e for e in leaves(s.expr) if isinstance(e, Read) and e.value >= 0)
    elif isinstance(step, Product):
        yield step.x
        if step.then is not None:
            yield from reads(step.then)
    elif isinstance(step, Gram):
        yield from (step.a, step.b)


def written(step: Step) -> Iterator[int]:
    """Yield the slots that a step writes."""
    if isinstance(step, Load):
        yield step.slot
    elif isinstance(step, Map):
        yield from (s.out.value for s in step.statements if s.kind != "sum")
    elif isinstance(step, Product):
        yield step.out.value
        if step.then is not None:
            yield from written(step.then)


def touched(step: Step) -> Iterator[int]:
    """Yield the slots that a step reads or writes."""
    yield from (r.value for r in reads(step))
    yield from written(step)
    if isinstance(step, Store):
        yield step.slot


def together(steps: Sequence[Step]) -> list[Step]:
    """Let maps follow products at once where they can."""
    steps = _loads_first(steps)
    made: dict[int, int] = {}  # the last step that writes a slot
    readers: dict[int, set[int]] = {}
    for i, step in enumerate(steps):
        made.update(dict.fromkeys(written(step), i))
        for slot in touched(step):
            readers.setdefault(slot, set()).add(i)
    out: list[Step | None] = list(steps)
    for i, step in enumerate(steps):
        if not isinstance(step, Product):
            continue
        rest = range(i + 1, len(steps))
        j = next((j for j in rest if not isinstance(steps[j], Gram | Store)), i)
        then = steps[j]
        if isinstance(then, Map) and _follows(step, i, then, j, made):
            stored = bool(readers[step.out.value] - {i, j})
            out[i], out[j] = replace(step, then=then, stored=stored), None
    return [step for step in out if step is not None]


def _loads_first(steps: Sequence[Step]) -> list[Step]:
    """Move what is loaded for a map before the product that the map may follow."""
    out: list[Step] = []
    for step in steps:
        at = len(out)
        if isinstance(step, Load):
            while at and isinstance(out[at - 1], Gram | Store):
                at -= 1
            at -= bool(at and isinstance(out[at - 1], Product))
        out.insert(at, step)
    return out


def _follows(product: Product, i: int, then: Map, j: int, made: dict[int, int]) -> bool:
    """Tell whether a map needs nothing but what is there before a product, and its columns."""
    whole = Read(product.out.value, product.out.dtype, (int(product.columns > 1),))
    if then.columns != product.columns or product.out != whole:
        return False
    own = {s.out.value for s in then.statements}
    if any(made[v] != j for s in then.statements if s.kind != "sum" for v in (s.out.value,)):
        return False
    found = False
    for r in reads(then):
        if r.value == product.out.value:
            found = True
            if r != whole:
                return False
        elif r.value not in own and made[r.value] >= i:
            return False
    return found


class Planner:
    """Puts the steps of a tile in order.

    A pointwise node goes into the first map after all that it reads, so that what a product has
    just left in the first cache is used there.
    """

    def __init__(self, tile: Tile, lowered: Lowered) -> None:
        self.tile, self.specs, self.homes = tile, lowered.specs, lowered.homes
        self.steps: list[Step | list[Compute]] = []
        self.widths: list[int] = []  # columns of the maps, by step
        self.ready: dict[int, int] = {}  # the step after which a value is there
        self.loaded: dict[Access, tuple[int, int]] = {}  # the slot and the step of what is loaded
        self.slots: dict[int, int] = {}  # of values
        self.columns: list[int] = []  # of slots
        self.buffers: dict[int, int] = {}
        self.writers: dict[int, int] = {}
        sums: dict[int, int] = {}
        for node in tile.members:
            (out,) = node.writes()
            self.writers[out.value] = self.writers.get(out.value, 0) + 1
            if certain(node, tile.rows).kind in ("sum", "gram"):
                sums.setdefault(out.value, len(sums))
        self.sums = sums

    def run(self) -> tuple[Plan, tuple[int, ...]]:
        """Return the program, and whose memory its buffers are."""
        for node in self.tile.members:
            self._place(node)
        stored = self._stored()
        steps: list[Step] = []
        for i, step in enumerate(self.steps):
            steps.append(
                self._map(step, self.widths[i], stored) if isinstance(step, list) else step
            )
            for r in self.tile.outputs:
                if self.ready[r.value] == i and r.value not in self.sums:
                    pitch = self._pitch(r.value)
                    steps.append(Store(self._slot(r.value), self._buffer(r.value), pitch))
        for v, slot in self.slots.items():
            if v not in stored:
                self.columns[slot] = 0
        memory = (*self.buffers, *self.sums)
        sizes = tuple(self.specs[v].size for v in self.sums)
        dtype = self.tile.outputs[0].dtype.name
        steps = together(steps)
        for step in steps:
            if isinstance(step, Product) and not step.stored:
                self.columns[step.out.value] = 0
        plan = Plan(self.tile.rows, dtype, tuple(steps), tuple(self.columns), sizes, len(memory))
        return plan, memory

    # --- names ---

    def _pitch(self, value: int) -> int:
        return self.specs[value].size // self.tile.rows

    def _slot(self, value: int) -> int:
        """Return the slot of a value of the tile."""
        if value not in self.slots:
            self.slots[value] = self._new_slot(self._pitch(value))
        return self.slots[value]

    def _new_slot(self, columns: int) -> int:
        self.columns.append(columns)
        return len(self.columns) - 1

    def _buffer(self, value: int) -> int:
        """Return the number of the buffer that is a value's memory."""
        return self.buffers.setdefault(self.homes.get(value, value), len(self.buffers))

    def _local(self, a: Access, filled: bool = False) -> Read:
        """Return an access with local names; `filled`: in a slot, even if all rows are equal."""
        r = a.read
        if r.value in self.writers:
            return Read(self._slot(r.value), r.dtype, (a.column,), r.offset)
        if a.row or filled:
            return Read(self._load(a)[0], r.dtype, (int(a.column != 0),))
        return Read(-1 - self._buffer(r.value), r.dtype, (a.column,), r.offset)

    def _load(self, a: Access) -> tuple[int, int]:
        """Return the slot that holds what is read from outside, and the step that loads it."""
        if a not in self.loaded:
            columns = a.columns if a.column else 1
            slot, buffer = self._new_slot(columns), self._buffer(a.read.value)
            step = Load(slot, buffer, a.read.offset, a.row, a.column, columns)
            self.loaded[a] = slot, self._append(step)
        return self.loaded[a]

    # --- order ---

    def _append(self, step: Step | list[Compute], width: int = 0) -> int:
        self.steps.append(step)
        self.widths.append(width)
        return len(self.steps) - 1

    def _place(self, node: Member) -> None:
        """Give a node its place among the steps."""
        fit = certain(node, self.tile.rows)
        (out,) = node.writes()
        if isinstance(node, Compute):
            at = self._place_in_map(node, fit)
        elif fit.kind == "product":
            (a,), (w,) = fit.over, fit.fixed
            weight = Read(-1 - self._buffer(w.value), w.dtype, w.strides, w.offset)
            x, to = self._local(a), self._local(access(out, 0, node.shapes[2]))
            at = self._append(Product(x, weight, to, node.shapes[1][0], fit.columns))
        else:
            a_slot, b_slot = (self._local(x, filled=True) for x in fit.over)
            sums = replace(out, value=self.sums[out.value])
            at = self._append(Gram(a_slot, b_slot, sums, *node.shapes[2]))
        self.ready[out.value] = max(at, self.ready.get(out.value, -1))

    def _place_in_map(self, node: Compute, fit: Rows) -> int:
        """Put a pointwise node into a map; return its number."""
        first = max((self._ready(a) for a in fit.over), default=-1)
        if (
            node.out.value in self.ready
        ):  # what writes another part of it, or all of it, comes first
            first = max(first, self.ready[node.out.value] + 1)
        for i in range(max(first, 0), len(self.steps)):
            nodes = self.steps[i]
            if isinstance(nodes, list) and self._joins(i, nodes, fit):
                nodes.append(node)
                return i
        return self._append([node], fit.columns)

    def _ready(self, a: Access) -> int:
        """Return the step after which what is read is there."""
        if a.read.value in self.writers:
            return self.ready[a.read.value]
        return self._load(a)[1] if a.row else -1

    def _joins(self, i: int, nodes: list[Compute], fit: Rows) -> bool:
        """Tell whether what a node reads is there in a map, at the same column."""
        if self.widths[i] != fit.columns or len(nodes) >= LONGEST:
            return False
        for a in fit.over:
            if self.ready.get(a.read.value) != i:
                continue
            makers = [n for n in nodes if n.out.value == a.read.value]
            if len(makers) != 1 or makers[0].how:
                return False
            made = access(makers[0].out, 0, makers[0].shape)
            if (made.column, made.read.offset) != (a.column, a.read.offset):
                return False
        return True

    def _stored(self) -> set[int]:
        """Return the values that need memory: other steps read them, or make parts of them."""
        need = {r.value for r in self.tile.outputs}
        need.update(v for v, n in self.writers.items() if n > 1)
        for node in self.tile.members:
            if isinstance(node, Extern):
                need.update(r.value for r in (*node.reads(), *node.writes()))
        for step in self.steps:
            if isinstance(step, list):
                made = {n.out.value for n in step if not n.how}
                need.update(r.value for n in step for r in n.reads() if r.value not in made)
        return need

    def _map(self, nodes: Sequence[Compute], columns: int, stored: set[int]) -> Map:
        """Return some nodes as a map."""
        return Map(columns, tuple(self._statement(node, stored) for node in nodes))

    def _statement(self, node: Compute, stored: set[int]) -> Statement:
        kind = certain(node, self.tile.rows).kind
        made = access(node.out, 0, node.shape)

        def local(leaf: Read | Index | Const) -> Expr:
            return self._local(access(leaf, 0, node.shape)) if isinstance(leaf, Read) else leaf

        expr = rewrite(node.expr, local)
        if kind == "sum":
            number = self.sums[node.out.value]
            out = Read(number, node.out.dtype, (made.column,), node.out.offset)
        else:
            out = self._local(made)
        return Statement(kind, expr, out, kind != "map" or node.out.value in stored)


def plan_rows(tile: Tile, lowered: Lowered) -> tuple[Plan, tuple[int, ...]]:
    """Return a tile's program, and whose memory its buffers are."""
    return Planner(tile, lowered).run()
