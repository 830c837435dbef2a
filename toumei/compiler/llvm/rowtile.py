"""The kernels of a row tile: a program that goes through the rows, a few at a time.

A work item is a number of tiles, and a tile so many rows that all its slots fit the second cache.
Lanes are rows: slot[column][row of the tile].  Each kind of step is a function that is called with
addresses; equal steps, as those of equal layers, call the same one.

What is summed over the rows is summed lane by lane while an item runs, then across the lanes; a
second kernel adds up what the items have found, in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..expr import Index, Read, leaves, rewrite
from ..rowplan import Gram, Load, Map, Plan, Product, Statement, Step, Store
from .elements import Elements, load_element, memory_type
from .ir import SIZES, Function, Value, vector
from .kernel import Kernel
from .matmul_plan import L2
from .matmul_tile import Tile, run, steps, sum_lanes, transpose_store
from .target import Target

DTYPES = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
ROOM = L2 // 2  # bytes that the slots of a tile should fit in
ITEMS = 32  # work items, about
MOST_VECTORS = 8  # of the rows of a tile
UNROLL = 4


@dataclass(frozen=True)
class Shape:
    """The sizes that all steps share.

    Attributes:
        element: "float" or "double".
        lanes: of a vector.
        tile: rows of a tile.
        block: vectors of a register tile.
        target: the processor.
    """

    element: str
    lanes: int
    tile: int
    block: int
    target: Target

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return SIZES[self.element]

    @property
    def kind(self) -> str:
        """The type of a vector."""
        return vector(self.element, self.lanes)

    def column(self, f: Function, slot: Value, index: Value | int, step: int = 1) -> Value:
        """Return the address of a column of a slot."""
        if isinstance(index, int):
            return f.at(slot, index * step * self.tile, self.element)
        return f.at(slot, f.mul(index, step * self.tile), self.element) if step else slot


def shape_of(plan: Plan, target: Target) -> Shape:
    """Return the sizes for a plan: as many rows in a tile as there is room for."""
    element = {"float32": "float", "float64": "double"}[plan.dtype]
    lanes = target.lanes(element)
    block = 4 if target.registers >= 32 else 2
    vectors = block
    while vectors < MOST_VECTORS and vectors * lanes < plan.rows and _fits(plan, 2 * vectors * lanes, element):
        vectors *= 2
    while vectors > 1 and not _fits(plan, vectors * lanes, element):
        vectors //= 2
    return Shape(element, lanes, vectors * lanes, min(block, vectors), target)


def _fits(plan: Plan, tile: int, element: str) -> bool:
    return plan.places(tile * SIZES[element])[1] <= ROOM


class Helpers:
    """The functions of a kernel's steps: one for all steps that do the same to other memory."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.known: dict[str, Function] = {}

    def function(
        self, key: str, args: Sequence[str], write: Callable[[Function], None]
    ) -> Function:
        """Return the function with a key; it is written the first time."""
        whole = f"{self.shape} {key}"
        if whole not in self.known:
            name = f"rows_{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
            f = Function(name, [(f"a{i}", kind) for i, kind in enumerate(args)], private=True)
            write(f)
            f.ret()
            self.known[whole] = f
        return self.known[whole]


def emit(name: str, plan: Plan, target: Target) -> list[Kernel]:
    """Write the kernels of a plan."""
    return Writer(name, plan, target).run()


class Writer:
    """Writes the kernels of a plan.

    Args:
        name: of the first kernel.
        plan: the program.
        target: the processor.
    """

    def __init__(self, name: str, plan: Plan, target: Target) -> None:
        self.name, self.plan, self.shape = name, plan, shape_of(plan, target)
        self.helpers = Helpers(self.shape)
        self.f = Function(
            name, [("buffers", "ptr"), ("begin", "i64"), ("end", "i64"), ("scratch", "ptr")]
        )
        s = self.shape
        self.slots, end = plan.places(s.tile * s.size)
        self.sums_at = end  # in the scratch memory
        lanes = s.lanes
        self.parts: list[int] = []  # where each sum begins, in elements; whole vectors each
        total = 0
        for n in plan.sums:
            self.parts.append(total)
            total += -(-n // lanes) * lanes
        self.total = total
        self.tiles = -(-plan.rows // s.tile)
        self.items = min(ITEMS, self.tiles)

    def run(self) -> list[Kernel]:
        """Return the kernels."""
        f, s = self.f, self.shape
        _, begin, end, _ = f.args
        with f.loop(begin, end) as item:
            self._clear()
            first, last = self._first(item.index), self._first(f.add(item.index, 1))
            with f.loop(first, last, s.tile, nonempty=True) as tile:
                self._tile(tile.index)
            self._finish(item.index)
        f.ret()
        scratch = self.sums_at + self.total * s.lanes * s.size
        main = Kernel(
            f, self.items, 1, scratch=scratch, workspace=self.items * self.total * s.size
        )
        return [main, self._end()] if self.total else [main]

    # --- a work item ---

    def _first(self, item: Value) -> Value:
        """Return the first row of an item: tiles are spread as evenly as can be."""
        f = self.f
        return f.mul(f.udiv(f.mul(item, self.tiles), self.items), self.shape.tile)

    def _sums(self, index: Value | int = 0) -> Value:
        """Return the address of a vector of the sums."""
        f, s = self.f, self.shape
        base = f.at(f.args[3], self.sums_at)
        if isinstance(index, int):
            return f.at(base, index * s.lanes, s.element)
        return f.at(base, f.mul(index, s.lanes), s.element)

    def _clear(self) -> None:
        if self.total:
            f, s = self.f, self.shape
            with f.loop(0, self.total) as sums:
                f.store(f.const(s.kind, 0.0), self._sums(sums.index), 64)

    def _finish(self, item: Value) -> None:
        """Add up the lanes of each sum, and keep them in the workspace."""
        if not self.total:
            return
        f, s = self.f, self.shape
        work = f.buffer(self.plan.buffers)
        place = f.at(work, f.mul(item, self.total), s.element)
        with f.loop(0, self.total, s.lanes) as sums:
            found = [
                f.load(self._sums(f.add(sums.index, i)), s.kind, 64) for i in range(s.lanes)
            ]
            f.store(sum_lanes(f, found), f.at(place, sums.index, s.element))

    def _tile(self, start: Value) -> None:
        """Write the steps of a tile."""
        f, s = self.f, self.shape
        count = _smaller(f, f.sub(f.const("i64", self.plan.rows), start), s.tile)
        calls = Steps(self, start, count)
        for step in self.plan.steps:
            calls.write(step)

    # --- the end ---

    def _end(self) -> Kernel:
        """Write the kernel that adds up what the items have found."""
        s = self.shape
        name = f"{self.name}_end"
        f = Function(name, [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")])
        add = self.helpers.function(
            f"end {self.items} {self.total}", ("ptr", "ptr", "i64"), self._add_items
        )
        first = self.plan.buffers - len(self.plan.sums)
        work = f.buffer(self.plan.buffers)
        with f.loop(f.args[1], f.args[2]) as loop:
            for i, (n, at) in enumerate(zip(self.plan.sums, self.parts, strict=True)):
                with f.when(f.compare("eq", loop.index, i)):
                    place = f.at(work, at, s.element)
                    f.call_helper(add, place, f.buffer(first + i), f.const("i64", n))
        f.ret()
        return Kernel(f, len(self.plan.sums))

    def _add_items(self, f: Function) -> None:
        s = self.shape
        work, out, count = f.args
        whole = f.mul(f.udiv(count, s.lanes), s.lanes)
        zero = f.const(s.kind, 0.0)

        def total(at: Value) -> Value:
            with f.loop(0, self.items, carried=[zero], nonempty=True) as item:
                place = f.at(work, f.add(f.mul(item.index, self.total), at), s.element)
                item.next = [f.fadd(item.carried[0], f.load(place, s.kind))]
            return item.results[0]

        with f.loop(0, whole, s.lanes) as loop:
            f.store(total(loop.index), f.at(out, loop.index, s.element))
        with f.when(f.compare("slt", whole, count)):
            rest = f.scratch(s.lanes * s.size)
            f.store(total(whole), rest)
            with f.loop(whole, count) as loop:
                one = f.load(f.at(rest, f.sub(loop.index, whole), s.element), s.element)
                f.store(one, f.at(out, loop.index, s.element))


class Steps:
    """Writes the calls of a tile's steps.

    Args:
        writer: of the kernel.
        start: the tile's first row.
        count: how many rows it has: the last tile may have fewer than the others.
    """

    def __init__(self, writer: Writer, start: Value, count: Value) -> None:
        self.writer, self.f, self.shape = writer, writer.f, writer.shape
        self.start, self.count = start, count
        self.helpers = writer.helpers

    def write(self, step: Step) -> None:
        """Write a step."""
        if isinstance(step, Load):
            self._load(step)
        elif isinstance(step, Store):
            self._store(step)
        elif isinstance(step, Product):
            self._product(step)
        elif isinstance(step, Gram):
            self._gram(step)
        else:
            self._map(step)

    def _call(
        self, key: str, args: Sequence[Value], write: Callable[[Function], None]
    ) -> None:
        helper = self.helpers.function(key, [a.type for a in args], write)
        self.f.call_helper(helper, *args)
        self.f.helpers.update(helper.helpers)

    # --- places ---

    def _slot(self, read: Read) -> Value:
        """Return the address of the first column that is accessed."""
        base = self.f.at(self.f.args[3], self.writer.slots[read.value])
        return self.shape.column(self.f, base, read.offset)

    def _fixed(self, read: Read) -> Value:
        """Return the address of the first element that is accessed in a buffer."""
        return self.f.at(self.f.buffer(-1 - read.value), read.offset, memory_type(read.dtype))

    def _place(self, read: Read) -> Value:
        return self._slot(read) if read.value >= 0 else self._fixed(read)

    def _sum(self, number: int, offset: int) -> Value:
        return self.writer._sums(self.writer.parts[number] + offset)

    # --- steps ---

    def _load(self, step: Load) -> None:
        f, s = self.f, self.shape
        outside = f.at(f.buffer(step.buffer), step.offset, s.element)
        outside = f.at(outside, f.mul(self.start, step.row), s.element)
        slot = f.at(f.args[3], self.writer.slots[step.slot])
        key = f"load {step.columns} {step.row} {step.column}"
        self._call(key, (outside, slot, self.count), lambda g: load(g, s, step))

    def _store(self, step: Store) -> None:
        f, s = self.f, self.shape
        outside = f.at(f.buffer(step.buffer), f.mul(self.start, step.columns), s.element)
        slot = f.at(f.args[3], self.writer.slots[step.slot])
        key = f"store {step.columns}"
        self._call(key, (slot, outside, self.count), lambda g: store(g, s, step.columns))

    def _product(self, step: Product) -> None:
        key = (
            f"product {step.inner} {step.columns} {step.x.strides} {step.weight.strides} "
            f"{step.out.strides} {step.stored}"
        )
        places = [self._slot(step.x), self._fixed(step.weight), self._slot(step.out)]
        body = None
        if step.then is not None:
            body, more = self._body(step.then, step.out)
            places += more
            key += body.key()
        self._call(key, places, lambda g: product(g, self.shape, step, body))

    def _gram(self, step: Gram) -> None:
        s, f = self.shape, self.f
        with f.when(f.compare("slt", self.count, s.tile)):
            for read, columns in ((step.a, step.inner), (step.b, step.columns)):
                n = f.const("i64", columns if read.strides[0] else 1)
                self._call(
                    f"clean {read.strides}", (self._slot(read), n, self.count),
                    lambda g, step=read.strides[0]: clean(g, s, step),
                )  # fmt: skip
        key = (
            f"gram {step.inner} {step.columns} {step.a.strides} {step.b.strides} "
            f"{step.sums.strides}"
        )
        sums = self._sum(step.sums.value, step.sums.offset)
        places = (self._slot(step.a), self._slot(step.b), sums)
        self._call(key, places, lambda g: gram(g, s, step))

    def _map(self, step: Map) -> None:
        body, places = self._body(step)
        self._call(body.key(), places, body.write)

    def _body(self, step: Map, raw: Read | None = None) -> tuple[MapBody, list[Value]]:
        """Return what writes a map, and its arguments; `raw`: what a product has just written."""
        names: dict[Read, int] = {}
        own = {t.out for t in step.statements if t.kind == "map"}
        for t in step.statements:
            for leaf in leaves(t.expr):
                if isinstance(leaf, Read) and leaf not in own and leaf != raw:
                    names.setdefault(leaf, len(names))
        outs = [t for t in step.statements if t.stored]
        places = [self._place(leaf) for leaf in names]
        for t in outs:
            is_sum = t.kind == "sum"
            places.append(self._sum(t.out.value, t.out.offset) if is_sum else self._slot(t.out))
        return MapBody(self.shape, step, names, outs, raw), [*places, self.count]


# --- the functions of the steps ------------------------------------------------------------------


def load(f: Function, s: Shape, step: Load) -> None:
    """f(outside, slot, count): turn columns of outside memory."""
    outside, slot, count = f.args
    is_full = f.compare("eq", count, s.tile)
    with f.when(is_full):
        if step.column == 1 and step.row > 1 and step.columns >= 4:
            _turned(f, s, outside, slot, step)
        else:
            _gathered(f, s, outside, slot, step)
    with f.when(f.bits("xor", is_full, True)):
        with f.loop(0, step.columns) as column, f.loop(0, count) as row:
            at = f.add(f.mul(row.index, step.row), f.mul(column.index, step.column))
            one = f.load(f.at(outside, at, s.element), s.element)
            f.store(one, f.at(s.column(f, slot, column.index), row.index, s.element))


def _gathered(f: Function, s: Shape, outside: Value, slot: Value, step: Load) -> None:
    with f.loop(0, step.columns) as column:
        base = f.at(outside, f.mul(column.index, step.column), s.element)
        to = s.column(f, slot, column.index)
        with f.loop(0, s.tile, s.lanes) as row:
            place = f.at(base, f.mul(row.index, step.row), s.element)
            y = load_element(f, place, DTYPES[s.element], s.lanes, step.row)
            f.store(y, f.at(to, row.index, s.element))


def _turned(f: Function, s: Shape, outside: Value, slot: Value, step: Load) -> None:
    for first in range(0, step.columns, s.lanes):
        with f.loop(0, s.tile, s.lanes) as row:
            place = f.at(f.at(outside, f.mul(row.index, step.row), s.element), first, s.element)
            to = f.at(s.column(f, slot, first), row.index, s.element)
            columns = min(s.lanes, step.columns - first)
            transpose_store(
                f, s.element, s.lanes, place, step.row, to, s.tile, s.lanes, columns
            )


def store(f: Function, s: Shape, columns: int) -> None:
    """f(slot, outside, count): turn a slot back."""
    slot, outside, count = f.args
    with f.loop(0, count) as row, f.loop(0, columns) as column:
        one = f.load(f.at(s.column(f, slot, column.index), row.index, s.element), s.element)
        at = f.add(f.mul(row.index, columns), column.index)
        f.store(one, f.at(outside, at, s.element))


def clean(f: Function, s: Shape, step: int) -> None:
    """f(slot, columns, count): set the rows that don't exist to 0, so that they add nothing."""
    slot, columns, count = f.args
    with f.loop(0, columns) as column:
        base = s.column(f, slot, column.index, step)
        with f.loop(count, s.tile) as row:
            f.store(f.const(s.element, 0.0), f.at(base, row.index, s.element))


def groups(f: Function, count: int, most: int, body: Callable[[Value | int, int], None]) -> None:
    """Write body(first, size) for groups of a number of columns, as a loop over equal ones."""
    size = evenly(count, most)
    whole = count // size * size
    if whole > size:
        with f.loop(0, whole, size, nonempty=True) as loop:
            body(loop.index, size)
    else:
        body(0, size)
    if whole < count:
        body(whole, count - whole)


def evenly(count: int, most: int) -> int:
    """Return the size of groups of at most so many that leaves the fewest of them.

    >>> evenly(20, 6), evenly(64, 6), evenly(7, 6)
    (5, 6, 4)
    """
    number = -(-count // most)
    return -(-count // number)


def product(f: Function, s: Shape, step: Product, body: MapBody | None) -> None:
    """f(x, weight, out, …): register tiles of some columns x a block of rows.

    The map that follows is written for the columns and rows of a tile: it waits for memory while
    the next tile's arithmetic is done.
    """
    x, weight, out = f.args[:3]
    most = (s.target.registers - s.block - 2) // s.block
    wide = s.block * s.lanes
    inner, columns = step.weight.strides
    kept = None if step.stored else f.scratch(evenly(step.columns, most) * wide * s.size)
    pitch = (s.tile if kept is None else wide) * max(step.out.strides[0], 1)
    if body is not None:
        body.begin(f, 3)

    def group(first: Value | int, size: int) -> None:
        w = f.at(weight, _times(f, first, columns), s.element)
        to = s.column(f, out, first, step.out.strides[0]) if kept is None else kept
        tile = Tile(
            s.element, s.lanes, size, s.block, (columns, inner), (s.tile * step.x.strides[0], 1),
            unroll=2 if step.inner > 4 else max(step.inner, 1),
        )  # fmt: skip

        def block(row: Value | int) -> None:
            sums = run(f, tile, w, f.at(x, row, s.element), step.inner)
            here = f.at(to, row, s.element) if kept is None else to
            for i, y in enumerate(sums):
                column, part = divmod(i, s.block)
                f.store(y, f.at(here, column * pitch + part * s.lanes, s.element))
            if body is None:
                return
            if size == 1:
                body.column(f, first, row, s.block, here)
                return
            with f.loop(0, size) as j:
                raw = f.at(here, f.mul(j.index, pitch), s.element)
                body.column(f, _sum(f, j.index, first), row, s.block, raw)

        if s.tile == wide:
            block(0)
        else:
            with f.loop(0, s.tile, wide) as row:
                block(row.index)

    groups(f, step.columns, most, group)


def gram(f: Function, s: Shape, step: Gram) -> None:
    """f(a, b, sums): register tiles of sums, lanes being rows."""
    a, b, sums = f.args
    high, wide = gram_tile(s.target.registers, step.inner, step.columns)
    i_step, j_step = (n * s.lanes for n in step.sums.strides)

    def cell(first: Value | int, rows: int, column: Value | int, columns: int) -> None:
        tile = Tile(
            s.element, s.lanes, rows, columns, (s.tile * step.a.strides[0], 1),
            (1, s.tile * step.b.strides[0]), dot=True, unroll=2,
        )  # fmt: skip
        base = f.at(sums, _times(f, first, i_step), s.element)
        base = f.at(base, _times(f, column, j_step), s.element)
        places = [
            f.at(base, i * i_step + j * j_step, s.element)
            for i in range(rows)
            for j in range(columns)
        ]
        start = [f.load(p, s.kind) for p in places]
        left = s.column(f, a, first, step.a.strides[0])
        right = s.column(f, b, column, step.b.strides[0])
        found, _ = steps(f, tile, left, right, s.tile // s.lanes, start)
        for y, p in zip(found, places, strict=True):
            f.store(y, p)

    def strip(first: Value | int, rows: int) -> None:
        groups(f, step.columns, wide, lambda c, n: cell(first, rows, c, n))

    groups(f, step.inner, high, strip)


def gram_tile(registers: int, inner: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns of a register tile of sums, beside which their factors fit."""
    most = 5 if registers >= 32 else 3
    high = evenly(inner, most)
    wide = (registers - 2 - high) // (high + 1)
    return high, evenly(columns, max(1, min(wide, 8)))


class MapBody:
    """Writes a map: a function f(what is read …, what is written …, count), or a part of one.

    Args:
        shape: the sizes.
        step: the map.
        names: the arguments that are read, by access.
        outs: the statements whose results are arguments.
        raw: what a product writes column by column, if the map follows one.
    """

    def __init__(
        self, shape: Shape, step: Map, names: dict[Read, int], outs: Sequence[Statement],
        raw: Read | None = None,
    ) -> None:  # fmt: skip
        self.shape, self.step, self.names, self.outs, self.raw = shape, step, names, list(outs), raw

    def key(self) -> str:
        """Return a text that is equal only for maps that do the same."""
        local = {
            read: Read(i if read.value >= 0 else -1 - i, read.dtype, read.strides)
            for read, i in self.names.items()
        }
        if self.raw is not None:
            local[self.raw] = Read(0, self.raw.dtype, ())
        lines = [f"map {self.step.columns}"]
        for i, t in enumerate(self.step.statements):
            expr = rewrite(t.expr, lambda leaf: local.get(leaf, leaf))
            lines.append(f"{t.kind} {t.stored} {t.out.strides} {expr}")
            if t.kind == "map":
                local[t.out] = Read(len(self.names) + i, t.out.dtype, ())
        return "\n".join(lines)

    def write(self, f: Function) -> None:
        """Write the function."""
        s = self.shape
        self.begin(f, 0)
        if self.step.columns == 1:
            self.column(f, 0, 0, s.tile // s.lanes)
        else:
            with f.loop(0, self.step.columns, nonempty=True) as column:
                self.column(f, column.index, 0, s.tile // s.lanes)

    def begin(self, f: Function, first: int) -> None:
        """Write what comes before the columns; `first`: the first of the map's arguments."""
        s = self.shape
        self.args = f.args[first:]
        for t, place in self._results():
            if t.kind == "columns":
                with f.loop(0, s.tile, s.lanes) as row:
                    f.store(f.const(s.kind, 0.0), f.at(place, row.index, s.element))

    def _results(self) -> Iterator[tuple[Statement, Value]]:
        yield from zip(self.outs, self.args[len(self.names) : -1], strict=True)

    def column(
        self, f: Function, column: Value | int, row: Value | int, vectors: int,
        raw: Value | None = None,
    ) -> None:  # fmt: skip
        """Write one column.

        Args:
            f: the function.
            column: which one.
            row, vectors: the first row and how many vectors of them.
            raw: where what the product has written begins at this column and row.
        """
        s = self.shape
        fixed: dict[Read, Value] = {}
        bases: dict[Read, Value] = {}
        for read, i in self.names.items():
            step = read.strides[0]
            if read.value >= 0:
                bases[read] = f.at(s.column(f, self.args[i], column, step), row, s.element)
            else:
                place = f.at(self.args[i], _times(f, column, step), memory_type(read.dtype))
                fixed[read] = load_element(f, place, read.dtype, s.lanes, 0)
        if raw is not None and self.raw is not None:
            bases[self.raw] = raw
        outs: dict[int, Value] = {}
        for i, (t, place) in enumerate(self._results()):
            step = t.out.strides[0]
            if t.kind == "sum":
                outs[i] = f.at(place, _times(f, column, step * s.lanes), s.element)
            else:
                outs[i] = f.at(s.column(f, place, column, step), row, s.element)
        self._rows(f, row, vectors, fixed, bases, outs)

    def _rows(
        self, f: Function, row: Value | int, vectors: int, fixed: dict[Read, Value],
        bases: dict[Read, Value], outs: dict[int, Value],
    ) -> None:  # fmt: skip
        """Write the rows of a column."""
        s = self.shape
        sums = [i for i in outs if self.outs[i].kind == "sum"]
        unroll = next(n for n in (UNROLL, 2, 1) if vectors % n == 0)
        totals = [f.const(s.kind, 0.0)] * len(sums)

        def some(at: Value | int, totals: list[Value]) -> list[Value]:
            for u in range(unroll):
                here = _sum(f, at, u * s.lanes)
                totals = self._vector(f, here, _sum(f, row, here), fixed, bases, outs, totals)
            return totals

        if vectors == unroll:
            totals = some(0, totals)
        else:
            with f.loop(0, vectors * s.lanes, unroll * s.lanes, totals, nonempty=True) as loop:
                loop.next = some(loop.index, loop.carried)
            totals = loop.results
        for i, total in zip(sums, totals, strict=True):
            f.store(f.fadd(f.load(outs[i], s.kind), total), outs[i])

    def _vector(
        self, f: Function, at: Value | int, row: Value | int, fixed: dict[Read, Value],
        bases: dict[Read, Value], outs: dict[int, Value], totals: Sequence[Value],
    ) -> list[Value]:  # fmt: skip
        """Write all statements for some rows; return the sums."""
        s = self.shape
        own: dict[Read, Value] = {}

        def value(leaf: Read | Index) -> Value:
            assert isinstance(leaf, Read)
            if leaf in own:
                return own[leaf]
            if leaf in fixed:
                return fixed[leaf]
            return f.load(f.at(bases[leaf], at, s.element), s.kind)

        elements = Elements(f, s.target, s.lanes, value)
        found: dict[int, Value] = {}
        for t in self.step.statements:
            found[id(t)] = y = elements(t.expr)
            if t.kind == "map":
                own[t.out] = y
        following = iter(totals)
        sums: list[Value] = []
        for i, t in enumerate(self.outs):
            y = found[id(t)]
            if t.kind == "sum":
                y = f.select(self._exists(f, row), y, 0.0)
                sums.append(f.fadd(next(following), y))
                continue
            place = f.at(outs[i], at, s.element)
            f.store(f.fadd(f.load(place, s.kind), y) if t.kind == "columns" else y, place)
        return sums

    def _exists(self, f: Function, row: Value | int) -> Value:
        """Return which of some rows exist."""
        lanes = self.shape.lanes
        left = f.sub(self.args[-1], row)
        splat = f.splat("i32", f.cast("trunc", left, "i32"), lanes)
        return f.compare("slt", f.iota(lanes, "i32"), splat)


def _times(f: Function, a: Value | int, b: int) -> Value | int:
    if isinstance(a, int) or b == 0:
        return a * b if isinstance(a, int) else 0
    return f.mul(a, b)


def _sum(f: Function, a: Value | int, b: Value | int) -> Value | int:
    if isinstance(a, int):
        a, b = b, a
    return a + b if isinstance(a, int) else f.add(a, b)  # type: ignore[operator]


def _smaller(f: Function, a: Value, b: int) -> Value:
    return f.select(f.compare("slt", a, b), a, b)
