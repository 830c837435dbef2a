"""Kernels of a Nest: loops over its axes, with expressions in vectors along the last one.

Two shapes of loops:

- "grid", where nothing is combined by row: rows outside, vectors of columns inside; or, to combine
  by column, columns outside and rows inside, the sums in registers.
- "row": a row is gone through in stages; what one stage combines is there for the next.  A short
  row stays in registers from stage to stage; of a long one each stage is a loop.

What is combined by column or along all axes is combined within each work item first; a second
kernel combines the items' results, always in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...op import DType
from ..axes import Sizes, merge
from ..expr import Index, Read, leaves
from ..nest import Nest, Statement
from .elements import (
    Elements,
    load_element,
    memory_type,
    ramp,
    register_type,
    store_element,
    tail_mask,
)
from .ir import SIZES, Function, Value, vector
from .kernel import Kernel
from .target import Target
from .vecmath import FUNCTIONS

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
        accesses = list(dict.fromkeys(_accesses(nest)))
        n = len(nest.domain)
        if nest.rows is not None:
            cuts = (0, 0, nest.rows, n)
        elif nest.columns is not None:
            cuts = (0, nest.columns[0], nest.columns[1], n)
        else:
            cuts = (0, 0, 0, n)
        parts = [
            merge(nest.domain[a:b], [s[a:b] for s, _ in accesses])
            for a, b in zip(cuts, cuts[1:], strict=False)
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
            for access, o, r, c in zip(accesses, outer_walks, row_walks, col_walks, strict=True)
        }


def _accesses(nest: Nest) -> list[tuple[Sizes, int]]:
    out: list[tuple[Sizes, int]] = []
    for s in nest.statements:
        for leaf in leaves(s.expr):
            if isinstance(leaf, Index) or (isinstance(leaf, Read) and leaf.value >= 0):
                out.append((leaf.strides, leaf.offset))
        if s.out is not None:
            out.append((s.out.strides, s.out.offset))
    return out


Number = Value | int
Vectors = list[tuple[int, Value | None]]  # (which, the lanes that exist)


class Loops:
    """A kernel that is being written."""

    def __init__(self, name: str, nest: Nest, target: Target) -> None:
        self.nest, self.target, self.name = nest, target, name
        self.axes = Axes(nest)
        self.lanes = lanes_of(nest, target, self.axes.columns)
        args = [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")]
        self.f = Function(name, args)
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
            self.places[key] = _linear(self.f, terms, walk.offset)
        return self.places[key]

    def place(self, access: Read, column: Number) -> Value:
        """Return the address of an element."""
        f, element = self.f, memory_type(access.dtype)
        step = self.axes.walks[access.strides, access.offset][1].column
        base = f.at(f.buffer(access.value), self.start(access), element)
        return f.at(base, _times(f, column, step), element)

    def column_step(self, access: Read | Index) -> int:
        """Return the stride along the columns."""
        return self.axes.walks[access.strides, access.offset][1].column

    # --- vectors ---

    def elements(self, column: Number, mask: Value | None, given: dict[int, Value]) -> Elements:
        """Return a writer of expressions for the vector at a column; `given`: by statement."""

        def load(leaf: Read | Index) -> Value:
            if isinstance(leaf, Index):
                step = self.column_step(leaf)
                first = _sum(self.f, self.start(leaf), _times(self.f, column, step))
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
        return FUNCTIONS[_COMBINE[s.how]](self.f, [a, b], self.target)

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
        flat = _sum(f, _times(f, _sum(f, _times(f, chunk, p.outer), outer), p.columns), column)
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


def _linear(f: Function, terms: Sequence[tuple[Number, int]], offset: int) -> Number:
    """Return offset + Σ index · stride."""
    total: Number = offset
    for index, stride in terms:
        total = _sum(f, total, _times(f, index, stride))
    return total


def _times(f: Function, a: Number, b: int) -> Number:
    if isinstance(a, int) or b == 0:
        return a * b if isinstance(a, int) else 0
    return f.mul(a, b)


def _sum(f: Function, a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, int):
        a, b = b, a
    assert isinstance(a, Value)
    return f.add(a, b)


def split_index(f: Function, flat: Number, sizes: Sizes) -> list[Number]:
    """Return the indices along some axes of the flat index over all of them."""
    if not sizes:
        return []
    out: list[Number] = []
    for n in reversed(sizes[1:]):
        if isinstance(flat, int):
            out.append(flat % n)
            flat //= n
        else:
            out.append(f.urem(flat, n))
            flat = f.udiv(flat, n)
    return [flat, *reversed(out)]


def _smaller(f: Function, a: Value, b: int) -> Value:
    bound = f.const("i64", b)
    return f.select(f.compare("slt", a, bound), a, bound)


# --- grids ---------------------------------------------------------------------------------------


def emit(name: str, nest: Nest, target: Target) -> list[Kernel]:
    """Write the kernels of a Nest.  Buffers: the Nest's, then the workspace."""
    w = Loops(name, nest, target)
    if nest.rows is not None:
        return _emit_rows(w)
    if nest.columns is not None:
        return _emit_columns(w)
    return _emit_grid(w)


def vectors_of(w: Loops, count: int) -> Vectors:
    """Return vectors that cover so many columns, the last one masked where it has to be."""
    out: Vectors = []
    for u in range(-(-count // w.lanes)):
        left = count - u * w.lanes
        out.append((u, None if left >= w.lanes else tail_mask(w.f, left, w.lanes)))
    return out


def _emit_grid(w: Loops) -> list[Kernel]:
    """Every index by itself; at most, all are combined."""
    f, n = w.f, w.axes.columns
    width = min(UNROLL, -(-n // w.lanes)) * w.lanes
    reach = width * max(1, ITEM // width)  # columns of an item
    pieces = 1 if n <= 2 * reach else -(-n // reach)
    total = math.prod(w.axes.rows)
    group = max(1, ITEM // n) if pieces == 1 else 1  # rows of an item
    items = -(-total // group) * pieces
    sums = {i: s for i, s in enumerate(w.nest.statements) if s.kind == "all"}
    with f.loop(f.args[1], f.args[2]) as item:
        held = {
            (i, u): f.local(w.nothing(s, w.lanes))
            for i, s in sums.items()
            for u in range(min(UNROLL, -(-n // w.lanes)))
        }
        number = item.index if pieces == 1 else f.udiv(item.index, pieces)

        def one_row(r: Number) -> None:
            w.enter([], split_index(f, r, w.axes.rows))
            if pieces == 1:
                _columns(w, 0, n, n, width, held)
            else:
                first = f.mul(f.urem(item.index, pieces), reach)
                _columns(w, first, _smaller(f, f.add(first, reach), n), n, width, held)

        if total == 1:
            one_row(0)
        elif group == 1:
            one_row(number)
        else:
            first = f.mul(number, group)
            with f.loop(first, _smaller(f, f.add(first, group), total), nonempty=True) as rows:
                one_row(rows.index)
        for i, s in sums.items():
            mine = [
                f.load(p, vector(register_type(s.expr.dtype), w.lanes))
                for (k, _), p in held.items()
                if k == i
            ]
            whole = mine[0]
            for other in mine[1:]:
                whole = w.combine(s, whole, other)
            _hand_in(w, s, w.across(s, whole), items, item.index)
    return w.kernel(items)


def _hand_in(w: Loops, s: Statement, value: Value, items: int, item: Value) -> None:
    """Store what an item has found: the result itself if there is just one item."""
    if items == 1:
        _store_total(w, s, value)
    else:
        place = w.partial_place(w.partial(s, items, 1, 1), item, 0, 0)
        store_element(w.f, value, place, s.expr.dtype)


def _columns(
    w: Loops, first: Number, last: Number, n: int, width: int, held: dict[tuple[int, int], Value]
) -> None:
    """Write the columns first … last - 1 of a row, in blocks and a rest."""
    f = w.f
    rest = n % width
    if isinstance(first, int):
        whole = n - rest
        if whole == width:
            _body(w, 0, vectors_of(w, width), held)
        elif whole:
            with f.loop(0, whole, width) as loop:
                _body(w, loop.index, vectors_of(w, width), held)
        if rest:
            _body(w, whole, vectors_of(w, rest), held)
        return
    assert isinstance(last, Value)
    end = last if not rest else f.select(f.compare("eq", last, n), f.const("i64", n - rest), last)
    with f.loop(first, end, width) as loop:
        _body(w, loop.index, vectors_of(w, width), held)
    if rest:
        with f.when(f.compare("eq", last, n)):
            _body(w, n - rest, vectors_of(w, rest), held)


def _body(w: Loops, column: Number, vectors: Vectors, held: dict[tuple[int, int], Value]) -> None:
    """Write all statements for some vectors at a column."""
    saved = w.places
    for u, mask in vectors:
        w.places = dict(saved)
        at = _sum(w.f, column, u * w.lanes)
        values = _statements(w, at, mask)
        for i, s in enumerate(w.nest.statements):
            if s.kind == "all":
                place = held[i, u]
                old = w.f.load(place, values[i].type)
                w.f.store(w.combine(s, old, w.kept(s, values[i], mask)), place)
    w.places = saved


def _statements(w: Loops, column: Number, mask: Value | None) -> dict[int, Value]:
    """Write all statements for a vector: all is computed before anything is stored."""
    values: dict[int, Value] = {}
    elements = w.elements(column, mask, values)
    for i, s in enumerate(w.nest.statements):
        values[i] = elements(s.expr)
    for i, s in enumerate(w.nest.statements):
        if s.out is not None and s.kind == "each":
            w.store(s, values[i], column, mask)
    return values


# --- columns -------------------------------------------------------------------------------------


def _emit_columns(w: Loops) -> list[Kernel]:
    """Columns outside, rows inside: what is combined by column stays in registers."""
    f, n = w.f, w.axes.columns
    count = -(-n // w.lanes)
    unroll = max(u for u in range(1, UNROLL + 1) if count % u == 0)
    width = unroll * w.lanes
    blocks = count // unroll
    total, outer = math.prod(w.axes.rows), math.prod(w.axes.outer)
    chunks = max(1, min(-(-total * width // (2 * ITEM)), 4 * CHUNKS))
    if blocks * outer >= CHUNKS:
        chunks = max(1, min(chunks, total // 1024))
    size = -(-total // chunks)
    chunks = -(-total // size)
    sums = [(i, s) for i, s in enumerate(w.nest.statements) if s.kind in ("by column", "all")]
    with f.loop(f.args[1], f.args[2]) as item:
        block = f.urem(item.index, blocks) if blocks > 1 else 0
        rest: Number = f.udiv(item.index, blocks) if blocks > 1 else item.index
        chunk: Number = 0 if chunks == 1 else f.urem(rest, chunks) if outer > 1 else rest
        out: Number = 0 if outer == 1 else f.udiv(rest, chunks) if chunks > 1 else rest
        column = _times(f, block, width)
        w.enter(split_index(f, out, w.axes.outer), [])
        vectors = _block_vectors(w, column, unroll, blocks)
        start: Number = _times(f, chunk, size)
        stop = total if chunks == 1 else _smaller(f, f.add(start, size), total)  # type: ignore[arg-type]
        carried = [w.nothing(s, w.lanes) for _, s in sums for _ in vectors]
        _fix(w, column, vectors)
        with f.loop(start, stop, carried=carried, nonempty=True) as rows:
            w.enter(row=split_index(f, rows.index, w.axes.rows))
            after: dict[tuple[int, int], Value] = {}
            saved = w.places
            for u, mask in vectors:
                w.places = dict(saved)
                values = _statements(w, _sum(f, column, u * w.lanes), mask)
                for k, (i, s) in enumerate(sums):
                    old = rows.carried[k * len(vectors) + u]
                    after[k, u] = w.combine(
                        s, old, values[i] if s.kind != "all" else w.kept(s, values[i], mask)
                    )
            rows.next = [after[k, u] for k in range(len(sums)) for u in range(len(vectors))]
        w.enter(row=[])
        _store_columns(
            w, sums, vectors, rows.results, chunk, out, column, (chunks, outer, blocks), item.index
        )
        w.fixed = {}
    return w.kernel(blocks * chunks * outer)


def _block_vectors(w: Loops, column: Number, unroll: int, blocks: int) -> Vectors:
    """Return the vectors of a block of columns; only the last one of all may be short."""
    n = w.axes.columns
    out: Vectors = [(u, None) for u in range(unroll)]
    if n % w.lanes:
        left: Number = n - (unroll - 1) * w.lanes
        if blocks > 1:
            assert isinstance(column, Value)
            left = w.f.sub(w.f.const("i64", left), column)
            left = _smaller(w.f, left, w.lanes)
        out[-1] = (unroll - 1, tail_mask(w.f, left, w.lanes))
    return out


def _fix(w: Loops, column: Number, vectors: Vectors) -> None:
    """Load what all rows read alike before the loop over them, if that is little."""
    if not isinstance(column, int):
        return
    found: list[Read] = []
    for s in w.nest.statements:
        for leaf in leaves(s.expr):
            if isinstance(leaf, Read) and leaf.value >= 0 and leaf not in found:
                if not any(w.axes.walks[leaf.strides, leaf.offset][1].rows):
                    found.append(leaf)
    if len(found) * len(vectors) > 12 or _is_written(w, found):
        return
    w.row = [0] * len(w.axes.rows)
    for leaf in found:
        for u, mask in vectors:
            at = column + u * w.lanes
            step = w.column_step(leaf)
            w.fixed[leaf, at] = load_element(
                w.f, w.place(leaf, at), leaf.dtype, w.lanes, step, mask
            )


def _is_written(w: Loops, reads: Sequence[Read]) -> bool:
    written = {s.out.value for s in w.nest.statements if s.out is not None}
    return any(r.value in written for r in reads)


def _store_columns(
    w: Loops, sums: list[tuple[int, Statement]], vectors: Vectors, found: list[Value],
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
            _hand_in(w, s, w.across(s, whole), chunks * outers * blocks, item)
            continue
        p = None if chunks == 1 else w.partial(s, chunks, outers, n)
        for (u, mask), value in zip(vectors, mine, strict=True):
            at = _sum(f, column, u * w.lanes)
            if p is None:
                w.row = [0] * len(w.axes.rows)
                w.places = {}
                w.store(s, value, at, mask)
            else:
                place = w.partial_place(p, chunk, outer, at)
                store_element(f, value, place, s.expr.dtype, 1, mask)


# --- rows ----------------------------------------------------------------------------------------


def _emit_rows(w: Loops) -> list[Kernel]:
    """Rows outside; each is gone through in stages."""
    f, n = w.f, w.axes.columns
    total = math.prod(w.axes.rows)
    sums = [(i, s) for i, s in enumerate(w.nest.statements) if s.kind in ("by column", "all")]
    group = max(1, ITEM // n)
    if sums:
        group = max(group, -(-total // CHUNKS))
    items = -(-total // group)
    straight = is_straight(w.nest, w.target)
    writer = _ShortRow if straight else _LongRow
    with f.loop(f.args[1], f.args[2]) as item:
        first = f.mul(item.index, group)
        row = writer(w, sums, items, item.index)
        carried = row.begin()
        stop = _smaller(f, f.add(first, group), total)
        with f.loop(first, stop, carried=carried, nonempty=True) as rows:
            w.enter([], split_index(f, rows.index, w.axes.rows))
            rows.next = row.write(rows.carried)
        row.finish(rows.results)
    return w.kernel(items)


class _Row:
    """What both kinds of rows share: what is known of a row so far."""

    def __init__(
        self, w: Loops, sums: list[tuple[int, Statement]], items: int, item: Value
    ) -> None:
        self.w, self.sums, self.items, self.item = w, sums, items, item
        self.scalars: dict[int, Value] = {}
        self.stages = 1 + max((s.stage for s in w.nest.statements), default=0)

    def between(self, stage: int) -> None:
        """Write the statements of one element per row that come after a stage."""
        w, f = self.w, self.w.f

        def load(leaf: Read | Index) -> Value:
            if isinstance(leaf, Index):
                first = w.start(leaf)
                return first if isinstance(first, Value) else f.const("i64", first)
            if leaf.value < 0:
                return self.scalars[-1 - leaf.value]
            return load_element(f, w.place(leaf, 0), leaf.dtype, 1)

        elements = Elements(f, w.target, 1, load)
        todo = [
            (i, s) for i, s in enumerate(w.nest.statements) if s.kind == "row" and s.stage == stage
        ]
        for i, s in todo:
            self.scalars[i] = elements(s.expr)
        for i, s in todo:
            if s.out is not None:
                store_element(f, self.scalars[i], w.place(s.out, 0), s.out.dtype)

    def combined(self, i: int, s: Statement, vectors: Sequence[Value]) -> None:
        """Note down what has been combined along the row."""
        w = self.w
        whole = _tree(vectors, lambda a, b: w.combine(s, a, b))
        self.scalars[i] = w.across(s, whole)
        if s.out is not None:
            store_element(w.f, self.scalars[i], w.place(s.out, 0), s.out.dtype)

    def here(self, stage: int, *kinds: str) -> list[tuple[int, Statement]]:
        """Return the statements of a stage."""
        found = enumerate(self.w.nest.statements)
        return [(i, s) for i, s in found if s.kind in kinds and s.stage == stage]


class _ShortRow(_Row):
    """A row in registers: its vectors are written out, and stay what they are from stage to stage."""

    def begin(self) -> list[Value]:
        w = self.w
        self.vectors = vectors_of(w, w.axes.columns)
        return [w.nothing(s, w.lanes) for _, s in self.sums for _ in self.vectors]

    def write(self, carried: list[Value]) -> list[Value]:
        w = self.w
        self.scalars = {}
        values: list[dict[int, Value]] = [{} for _ in self.vectors]
        given = [_Both(v, self.scalars) for v in values]
        makers = [
            w.elements(u * w.lanes, mask, g)
            for (u, mask), g in zip(self.vectors, given, strict=True)
        ]
        self.between(-1)
        for stage in range(self.stages):
            for i, s in self.here(stage, "each", "by row", "by column", "all"):
                for v, elements in zip(values, makers, strict=True):
                    v[i] = elements(s.expr)
                if s.kind == "by row":
                    found = [
                        w.kept(s, v.pop(i), m)
                        for v, (_, m) in zip(values, self.vectors, strict=True)
                    ]
                    self.combined(i, s, found)
            self.between(stage)
        for i, s in enumerate(w.nest.statements):
            if s.kind == "each" and s.out is not None:
                for v, (u, mask) in zip(values, self.vectors, strict=True):
                    w.store(s, v[i], u * w.lanes, mask)
        out: list[Value] = []
        for k, (i, s) in enumerate(self.sums):
            for u, (v, (_, mask)) in enumerate(zip(values, self.vectors, strict=True)):
                old = carried[k * len(self.vectors) + u]
                out.append(w.combine(s, old, w.kept(s, v[i], mask) if s.kind == "all" else v[i]))
        return out

    def finish(self, found: list[Value]) -> None:
        w = self.w
        w.enter([], [0] * len(w.axes.rows))
        counts = (self.items, 1, 1)
        _store_columns(w, self.sums, self.vectors, found, self.item, 0, 0, counts, self.item)


class _Both(dict[int, Value]):
    """Values of statements: the vector's own, or the row's."""

    def __init__(self, own: dict[int, Value], scalars: dict[int, Value]) -> None:
        super().__init__()
        self.own, self.scalars = own, scalars

    def __missing__(self, i: int) -> Value:
        return self.own[i] if i in self.own else self.scalars[i]


class _LongRow(_Row):
    """A row in memory: each stage is a loop over it."""

    def begin(self) -> list[Value]:
        """Set what is combined by column to nothing."""
        w, n = self.w, self.w.axes.columns
        self.places = {}
        for i, s in self.sums:
            columns = n if s.kind == "by column" else w.lanes
            p = w.partial(s, self.items, 1, columns)
            self.places[i] = p
            sweep(w, columns, lambda c, mask, p=p: self._set(p, c, mask))  # type: ignore[misc]
        return []

    def _set(self, p: Partial, column: Number, mask: Value | None) -> None:
        """Set some columns of what is combined to nothing."""
        w, s = self.w, p.statement
        place = w.partial_place(p, self.item, 0, column)
        store_element(w.f, w.nothing(s, w.lanes), place, s.expr.dtype, 1, mask)

    def write(self, carried: list[Value]) -> list[Value]:
        self.scalars = {}
        self.between(-1)
        for stage in range(self.stages):
            self._stage(stage)
            self.between(stage)
        return []

    def _stage(self, stage: int) -> None:
        """Write a loop over the row."""
        w, f, n = self.w, self.w.f, self.w.axes.columns
        todo = self.here(stage, "each", "by row", "by column", "all")
        rows = [(i, s) for i, s in todo if s.kind == "by row"]
        width = UNROLL * w.lanes
        whole, rest = n - n % width, n % width
        carried = [w.nothing(s, w.lanes) for _, s in rows for _ in range(UNROLL)]
        if whole:
            with f.loop(0, whole, width, carried=carried) as loop:
                loop.next = self._strip(loop.index, vectors_of(w, width), todo, rows, loop.carried)
            carried = loop.results
        if rest:
            carried = self._strip(whole, vectors_of(w, rest), todo, rows, carried)
        for k, (i, s) in enumerate(rows):
            self.combined(i, s, carried[k * UNROLL : (k + 1) * UNROLL])

    def _strip(
        self, column: Number, vectors: Vectors, todo: list[tuple[int, Statement]],
        rows: list[tuple[int, Statement]], carried: list[Value],
    ) -> list[Value]:  # fmt: skip
        """Write the statements of a stage for some vectors; return what becomes of the carried."""
        w = self.w
        after = list(carried)
        saved = w.places
        for u, mask in vectors:
            w.places = dict(saved)
            at = _sum(w.f, column, u * w.lanes)
            values: dict[int, Value] = {}
            elements = w.elements(at, mask, _Stored(self, values, at, mask))
            for i, s in todo:
                values[i] = elements(s.expr)
            for i, s in todo:
                if s.kind == "each" and s.out is not None:
                    w.store(s, values[i], at, mask)
                elif s.kind in ("by column", "all"):
                    self._add(i, s, values[i], at, mask)
            for k, (i, s) in enumerate(rows):
                place = k * UNROLL + u
                after[place] = w.combine(s, after[place], w.kept(s, values[i], mask))
        w.places = saved
        return after

    def _add(self, i: int, s: Statement, value: Value, column: Number, mask: Value | None) -> None:
        """Combine a vector with what earlier rows left in its columns."""
        w, p = self.w, self.places[i]
        if s.kind == "all":
            column, value, mask = 0, w.kept(s, value, mask), None
        place = w.partial_place(p, self.item, 0, column)
        old = load_element(w.f, place, s.expr.dtype, w.lanes, 1, mask)
        store_element(w.f, w.combine(s, old, value), place, s.expr.dtype, 1, mask)

    def finish(self, found: list[Value]) -> None:
        """Nothing is left: the parts are in memory."""


class _Stored(dict[int, Value]):
    """Values of statements: of this stage, of the row, or of an earlier stage, from memory."""

    def __init__(
        self, row: _LongRow, own: dict[int, Value], column: Number, mask: Value | None
    ) -> None:
        super().__init__()
        self.row, self.own, self.column, self.mask = row, own, column, mask

    def __missing__(self, i: int) -> Value:
        if i in self.own:
            return self.own[i]
        if i in self.row.scalars:
            return self.row.scalars[i]
        w = self.row.w
        out = w.nest.statements[i].out
        assert out is not None, "a long row's values must be stored for the next stage"
        step = w.column_step(out)
        return load_element(w.f, w.place(out, self.column), out.dtype, w.lanes, step, self.mask)


def sweep(w: Loops, columns: int, body: Callable[[Number, Value | None], None]) -> None:
    """Write a loop over vectors of columns; the last one may be short."""
    rest = columns % w.lanes
    if columns > w.lanes:
        with w.f.loop(0, columns - rest, w.lanes) as loop:
            body(loop.index, None)
        if rest:
            body(columns - rest, tail_mask(w.f, rest, w.lanes))
    else:
        body(0, tail_mask(w.f, rest, w.lanes) if rest else None)


def _tree(values: Sequence[Value], combine: Callable[[Value, Value], Value]) -> Value:
    """Combine values pairwise."""
    while len(values) > 1:
        pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, values[-1]] if len(values) % 2 else pairs
    return values[0]


# --- the end -------------------------------------------------------------------------------------


def finish(name: str, nest: Nest, partials: Sequence[Partial], target: Target) -> Kernel:
    """Write the kernel that combines what work items have found, chunk after chunk."""
    f = Function(name, [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")])
    w = Loops.__new__(Loops)
    w.f, w.nest, w.target = f, nest, target
    for p in partials:
        _finish_one(w, p)
    f.ret()
    return Kernel(f, 1, serial=True)


def _finish_one(w: Loops, p: Partial) -> None:
    """Write the loops for one reduction."""
    f = w.f
    w.lanes, w.axes = lanes_of(w.nest, w.target, p.columns), p.axes
    with f.loop(0, p.outer, nonempty=True) as outer:

        def strip(column: Number, mask: Value | None) -> None:
            value = _chunk_by_chunk(w, p, outer.index, column, mask)
            w.enter(split_index(f, outer.index, w.axes.outer), [0] * len(w.axes.rows))
            if p.statement.kind == "all":
                _store_total(w, p.statement, w.across(p.statement, value))
            else:
                w.store(p.statement, value, column, mask)

        sweep(w, p.columns, strip)


def _chunk_by_chunk(
    w: Loops, p: Partial, outer: Number, column: Number, mask: Value | None
) -> Value:
    """Combine the parts of some columns, in order."""
    f, s = w.f, p.statement
    with f.loop(0, p.chunks, carried=[w.nothing(s, w.lanes)], nonempty=True) as chunk:
        place = w.partial_place(p, chunk.index, outer, column)
        found = load_element(f, place, s.expr.dtype, w.lanes, 1, mask)
        chunk.next = [w.combine(s, chunk.carried[0], found)]
    return chunk.results[0]


def _store_total(w: Loops, s: Statement, value: Value) -> None:
    """Store the one element of a sum of everything."""
    assert s.out is not None
    place = w.f.at(w.f.buffer(s.out.value), s.out.offset, memory_type(s.out.dtype))
    store_element(w.f, value, place, s.out.dtype)
