"""What all kernels of a Nest share while they are written: places, vectors, partial results."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...op import DType
from ..axes import Sizes, merge
from ..expr import Const, Index, Read, leaves
from ..nest import Nest, Statement
from .elements import (
    Elements,
    apply_function,
    load_element,
    memory_type,
    ramp,
    register_type,
    store_element,
)
from .integers import Number, linear, plus, split_index, tail_mask, times
from .ir import SIZES, Value, vector
from .kernel import Kernel, kernel_function
from .target import Target

ITEM = 4096  # elements of a work item, about
UNROLL = 4  # vectors that are written out
SHORT = 8  # vectors of a row that stays in registers
CHUNKS = 32  # of the rows, where columns are combined

_COMBINE = {
    "sum": "add",
    "prod": "mul",
    "max": "maximum",
    "min": "minimum",
    "any": "or",
    "all": "and",
}
_NOTHING = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf, "any": 0, "all": 1}


def lanes_of(nest: Nest, target: Target, columns: int) -> int:
    """Return how many elements to compute at a time."""
    widest = "float"
    for s in nest.statements:
        if s.kind == "row":
            continue
        for dtype in (s.expr.dtype, *(e.dtype for e in leaves(s.expr))):
            if dtype.name == "float64":
                widest = "double"
    lanes = target.lanes(widest)
    while lanes > 1 and lanes // 2 >= columns:
        lanes //= 2
    return lanes


def row_length(nest: Nest) -> int:
    """Return how many columns there are."""
    if nest.rows is not None:
        return math.prod(nest.domain[nest.rows :])
    return nest.domain[-1] if nest.domain else 1


def is_straight(nest: Nest, target: Target) -> bool:
    """Tell whether a row stays in registers from stage to stage."""
    n = row_length(nest)
    return -(-n // lanes_of(nest, target, n)) <= SHORT


@dataclass(frozen=True)
class Walk:
    """An access along merged axes."""

    rows: Sizes  # strides
    column: int
    offset: int


class Axes:
    """The axes of a Nest, merged: outer ones, rows, columns.

    Outer axes are gone through by work items alone; rows by loops; the last axis by vectors.
    """

    def __init__(self, nest: Nest) -> None:
        found = accesses(nest.statements)
        n = len(nest.domain)
        if nest.rows is not None:
            cuts = (0, 0, nest.rows, n)
        elif nest.columns is not None:
            cuts = (0, nest.columns[0], nest.columns[1], n)
        else:
            cuts = (0, 0, 0, n)
        parts = [
            merge(nest.domain[a:b], [s[a:b] for s, _ in found]) for a, b in itertools.pairwise(cuts)
        ]
        (outer, outer_walks), (rows, row_walks), (cols, col_walks) = parts
        spare = max(len(cols) - 1, 0)  # all but the last column axis
        if nest.columns is not None:
            outer, moved = outer + cols[:spare], outer_walks
            outer_walks = [w + c[:spare] for w, c in zip(moved, col_walks, strict=True)]
        else:
            rows, moved = rows + cols[:spare], row_walks
            row_walks = [w + c[:spare] for w, c in zip(moved, col_walks, strict=True)]
        self.outer, self.rows = outer, rows
        self.columns = cols[-1] if cols else 1
        self.walks = {
            access: (o, Walk(r, c[-1] if c else 0, access[1]))
            for access, o, r, c in zip(found, outer_walks, row_walks, col_walks, strict=True)
        }


def accesses(statements: Sequence[Statement]) -> list[tuple[Sizes, int]]:
    """Return strides and offset of all that is read or written, each once."""
    read = [e for s in statements for e in leaves(s.expr) if not isinstance(e, Const)]
    memory = [e for e in read if isinstance(e, Index) or e.value >= 0]
    written = [s.out for s in statements if s.out is not None]
    return list(dict.fromkeys((e.strides, e.offset) for e in (*memory, *written)))


Vectors = list[tuple[int, Value | None]]  # (which, the lanes that exist)


class Writer:
    """A kernel that is being written."""

    def __init__(self, name: str, nest: Nest, target: Target) -> None:
        self.nest, self.target, self.name = nest, target, name
        self.axes = Axes(nest)
        self.lanes = lanes_of(nest, target, self.axes.columns)
        self.f = kernel_function(name)
        self.outer: list[Number] = []
        self.row: list[Number] = []
        self.places: dict[tuple[Sizes, int], Number] = {}  # of the row's start, in elements
        self.fixed: dict[tuple[Read, int], Value] = {}  # what every row reads alike
        self.partials: list[Partial] = []

    # --- places ---

    def enter(self, outer: list[Number] | None = None, row: list[Number] | None = None) -> None:
        """Begin to write code for some outer index, or some row."""
        self.outer = self.outer if outer is None else outer
        self.row = self.row if row is None else row
        self.places = {}

    def start(self, access: Read | Index) -> Number:
        """Return where the row begins, counted in elements."""
        key = (access.strides, access.offset)
        if key not in self.places:
            o, walk = self.axes.walks[key]
            terms = [*zip(self.outer, o, strict=True), *zip(self.row, walk.rows, strict=True)]
            self.places[key] = linear(self.f, terms, walk.offset)
        return self.places[key]

    def place(self, access: Read, column: Number) -> Value:
        """Return the address of an element."""
        f, element = self.f, memory_type(access.dtype)
        step = self.axes.walks[access.strides, access.offset][1].column
        base = f.at(f.buffer(access.value), self.start(access), element)
        return f.at(base, times(f, column, step), element)

    def column_step(self, access: Read | Index) -> int:
        """Return the stride along the columns."""
        return self.axes.walks[access.strides, access.offset][1].column

    # --- vectors ---

    def elements(self, column: Number, mask: Value | None, given: dict[int, Value]) -> Elements:
        """Return a writer of expressions for the vector at a column; `given`: by statement."""

        def load(leaf: Read | Index) -> Value:
            if isinstance(leaf, Index):
                step = self.column_step(leaf)
                first = plus(self.f, self.start(leaf), times(self.f, column, step))
                return ramp(self.f, first, step, self.lanes)
            if leaf.value < 0:
                return self.splat(given[-1 - leaf.value])
            fixed = self.fixed.get((leaf, column)) if isinstance(column, int) else None
            if fixed is not None:
                return fixed
            step = self.column_step(leaf)
            return load_element(
                self.f, self.place(leaf, column), leaf.dtype, self.lanes, step, mask
            )

        return Elements(self.f, self.target, self.lanes, load)

    def splat(self, value: Value) -> Value:
        """Return a number that a whole row shares as a vector."""
        if self.lanes == 1 or value.type.startswith("<"):
            return value
        return self.f.splat(value.type, value, self.lanes)

    def store(self, s: Statement, value: Value, column: Number, mask: Value | None) -> None:
        """Store a vector of a statement."""
        assert s.out is not None
        step = self.column_step(s.out)
        store_element(self.f, value, self.place(s.out, column), s.out.dtype, step, mask)

    def combine(self, s: Statement, a: Value, b: Value) -> Value:
        """Write how two parts of a reduction become one."""
        kind = s.expr.dtype.name
        return apply_function(self.f, self.target, _COMBINE[s.how], [a, b], [kind, kind], kind)

    def nothing(self, s: Statement, lanes: int) -> Value:
        """Return what combining begins with."""
        return self.f.const(vector(register_type(s.expr.dtype), lanes), nothing(s))

    def kept(self, s: Statement, value: Value, mask: Value | None) -> Value:
        """Return a vector in which lanes that don't exist leave a reduction as it is."""
        return value if mask is None else self.f.select(mask, value, self.nothing(s, self.lanes))

    def across(self, s: Statement, v: Value) -> Value:
        """Combine the lanes of a vector, by halves."""
        f, lanes = self.f, self.lanes
        while lanes > 1:
            lanes //= 2
            if lanes > 1:
                low, high = f.shuffle(v, v, range(lanes)), f.shuffle(v, v, range(lanes, 2 * lanes))
            else:
                low, high = f.extract(v, 0), f.extract(v, 1)
            v = self.combine(s, low, high)
        return v

    def kernel(self, items: int) -> list[Kernel]:
        """Return the finished kernel, and the one that combines what its items have found."""
        self.f.ret()
        main = Kernel(self.f, items, workspace=sum(p.size for p in self.partials))
        if not self.partials:
            return [main]
        return [main, finish(f"{self.name}_end", self.nest, self.partials, self.target)]

    # --- partial results ---

    def partial(self, s: Statement, chunks: int, outer: int, columns: int) -> Partial:
        """Set memory aside for what work items find: [chunks, outer, columns] elements."""
        assert s.out is not None
        at = sum(p.size for p in self.partials)
        found = Partial(s, chunks, outer, columns, at, self.axes)
        self.partials.append(found)
        return found

    def partial_place(self, p: Partial, chunk: Number, outer: Number, column: Number) -> Value:
        """Return the address of a partial result."""
        f = self.f
        flat = plus(f, times(f, plus(f, times(f, chunk, p.outer), outer), p.columns), column)
        base = f.at(f.buffer(self.nest.buffers), p.at)
        return f.at(base, flat, memory_type(p.statement.expr.dtype))


@dataclass(frozen=True)
class Partial:
    """What the work items find for a reduction: [chunks, outer, columns], at a place."""

    statement: Statement
    chunks: int
    outer: int
    columns: int
    at: int
    axes: Axes

    @property
    def size(self) -> int:
        """Bytes, aligned."""
        element = SIZES[memory_type(self.statement.expr.dtype)]
        return -(-self.chunks * self.outer * self.columns * element // 64) * 64


def nothing(s: Statement) -> float:
    """Return what a reduction of nothing is; of integers, the limits stand for infinity."""
    value = _NOTHING[s.how]
    return limit(s.expr.dtype, value) if math.isinf(value) else value


def limit(dtype: DType, infinite: float) -> float:
    """Return the number that stands for ±infinity in a dtype."""
    if dtype.kind == "f":
        return infinite
    if dtype.kind == "b":
        return infinite > 0
    bits = 8 * dtype.itemsize - (dtype.kind == "i")
    largest = 2**bits - 1
    return largest if infinite > 0 else -largest - 1 if dtype.kind == "i" else 0


# --- vectors, one after the other ---


def vectors_of(w: Writer, count: int) -> Vectors:
    """Return vectors that cover so many columns, the last one masked where it has to be."""
    out: Vectors = []
    for u in range(-(-count // w.lanes)):
        left = count - u * w.lanes
        out.append((u, tail_mask(w.f, left, w.lanes)))
    return out


def statements(w: Writer, column: Number, mask: Value | None) -> dict[int, Value]:
    """Write all statements for a vector: all is computed before anything is stored."""
    values: dict[int, Value] = {}
    elements = w.elements(column, mask, values)
    for i, s in enumerate(w.nest.statements):
        values[i] = elements(s.expr)
    for i, s in enumerate(w.nest.statements):
        if s.out is not None and s.kind == "each":
            w.store(s, values[i], column, mask)
    return values


def sweep(w: Writer, columns: int, body: Callable[[Number, Value | None], None]) -> None:
    """Write a loop over vectors of columns; the last one may be short."""
    rest = columns % w.lanes
    if columns > w.lanes:
        with w.f.loop(0, columns - rest, w.lanes) as loop:
            body(loop.index, None)
        if rest:
            body(columns - rest, tail_mask(w.f, rest, w.lanes))
    else:
        body(0, tail_mask(w.f, rest, w.lanes) if rest else None)


def tree(values: Sequence[Value], combine: Callable[[Value, Value], Value]) -> Value:
    """Combine values pairwise."""
    while len(values) > 1:
        pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, values[-1]] if len(values) % 2 else pairs
    return values[0]


# --- what has been combined ---


def hand_in(w: Writer, s: Statement, value: Value, items: int, item: Value) -> None:
    """Store what an item has found: the result itself if there is just one item."""
    if items == 1:
        store_total(w, s, value)
    else:
        place = w.partial_place(w.partial(s, items, 1, 1), item, 0, 0)
        store_element(w.f, value, place, s.expr.dtype)


def store_total(w: Writer, s: Statement, value: Value) -> None:
    """Store the one element of a sum of everything."""
    assert s.out is not None
    place = w.f.at(w.f.buffer(s.out.value), s.out.offset, memory_type(s.out.dtype))
    store_element(w.f, value, place, s.out.dtype)


def store_columns(
    w: Writer, sums: list[tuple[int, Statement]], vectors: Vectors, found: list[Value],
    chunk: Number, outer: Number, column: Number, counts: tuple[int, int, int], item: Value,
) -> None:  # fmt: skip
    """Store what an item has combined: results, or parts of them."""
    f = w.f
    chunks, outers, blocks = counts
    n = w.axes.columns
    for k, (_, s) in enumerate(sums):
        mine = found[k * len(vectors) : (k + 1) * len(vectors)]
        if s.kind == "all":
            whole = mine[0]
            for other in mine[1:]:
                whole = w.combine(s, whole, other)
            hand_in(w, s, w.across(s, whole), chunks * outers * blocks, item)
            continue
        p = None if chunks == 1 else w.partial(s, chunks, outers, n)
        for (u, mask), value in zip(vectors, mine, strict=True):
            at = plus(f, column, u * w.lanes)
            if p is None:
                w.row = [0] * len(w.axes.rows)
                w.places = {}
                w.store(s, value, at, mask)
            else:
                place = w.partial_place(p, chunk, outer, at)
                store_element(f, value, place, s.expr.dtype, 1, mask)


# --- the end ---


def finish(name: str, nest: Nest, partials: Sequence[Partial], target: Target) -> Kernel:
    """Write the kernel that combines what work items have found, chunk after chunk."""
    f = kernel_function(name)
    w = Writer.__new__(Writer)
    w.f, w.nest, w.target = f, nest, target
    for p in partials:
        _finish_one(w, p)
    f.ret()
    return Kernel(f, 1, serial=True)


def _finish_one(w: Writer, p: Partial) -> None:
    """Write the loops for one reduction."""
    f = w.f
    w.lanes, w.axes = lanes_of(w.nest, w.target, p.columns), p.axes
    with f.loop(0, p.outer, nonempty=True) as outer:

        def strip(column: Number, mask: Value | None) -> None:
            value = _chunk_by_chunk(w, p, outer.index, column, mask)
            w.enter(split_index(f, outer.index, w.axes.outer), [0] * len(w.axes.rows))
            if p.statement.kind == "all":
                store_total(w, p.statement, w.across(p.statement, value))
            else:
                w.store(p.statement, value, column, mask)

        sweep(w, p.columns, strip)


def _chunk_by_chunk(
    w: Writer, p: Partial, outer: Number, column: Number, mask: Value | None
) -> Value:
    """Combine the parts of some columns, in order."""
    f, s = w.f, p.statement
    with f.loop(0, p.chunks, carried=[w.nothing(s, w.lanes)], nonempty=True) as chunk:
        place = w.partial_place(p, chunk.index, outer, column)
        found = load_element(f, place, s.expr.dtype, w.lanes, 1, mask)
        chunk.next = [w.combine(s, chunk.carried[0], found)]
    return chunk.results[0]
