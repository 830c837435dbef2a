"""Kernels of matrix products, specialised for sizes and strides.

    spec = MatmulSpec(m, n, k, a=(k, 1), b=(n, 1), c=(n, 1))
    chosen = plan(spec, target)
    functions = emit("product", spec, chosen)    # items: chosen.items(spec)

A kernel is a C function `void name(ptr buffers, i64 begin, i64 end)` that computes the work items
begin … end - 1; buffers is an array of addresses: A, B, C, and the workspace where the plan needs
one (`chosen.workspace(spec)` bytes).  With a workspace there are two kernels, to be run one after
the other.  How the items are shared out among threads does not change a bit of the result.

What becomes of the finished sums is up to an *epilogue*, called for each vector of them while it
is in a register: by default it is stored.  See `Epilogue`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .integers import (
    Number,
    as_value,
    linear,
    plus,
    remainder,
    round_down,
    smaller,
    split_index,
    tail_mask,
    times,
    when,
)
from .ir import SIZES, Function, Value, vector
from .kernel import kernel_function
from .matmul_candidates import candidates
from .matmul_plan import L2, MatmulSpec, Plan, plan
from .matmul_tile import Tile, run, transpose_store

__all__ = ["Epilogue", "MatmulSpec", "Plan", "candidates", "emit", "place_c", "plan", "store_c"]

# epilogue(f, sums, row, column, batch, mask): `sums` is a vector of C[batch, row, column …]; `mask`
# tells which of its lanes exist, None: all.  `batch` counts the batch entries, the last dimension
# fastest.  The vectors of a tile come row by row; those of one column have the same Value `column`.
Epilogue = Callable[[Function, Value, Value, Value, Value, "Value | None"], None]

# place(f, row, column, batch): the address where an epilogue will write.
Place = Callable[[Function, Value, Value, Value], Value]


def place_c(spec: MatmulSpec, buffer: int = 2) -> Place:
    """Return what tells the place of an element of C, at its strides, in one of the buffers."""

    def place(f: Function, row: Value, column: Value, batch: Value) -> Value:
        base = batch_place(f, spec, f.buffer(buffer), batch, spec.c[2:])
        at_row = f.at(base, f.mul(row, spec.c[0]), spec.dtype)
        return f.at(at_row, column, spec.dtype)

    return place


def store_c(spec: MatmulSpec, buffer: int = 2) -> Epilogue:
    """Return the epilogue that stores C, at its strides, into one of the buffers."""
    place = place_c(spec, buffer)

    def epilogue(
        f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        f.store_masked(sums, place(f, row, column, batch), mask)

    return epilogue


def emit(
    name: str,
    spec: MatmulSpec,
    plan: Plan,
    epilogue: Epilogue | None = None,
    place: Place | None = None,
) -> list[Function]:
    """Write the kernels of a product: one, or two where k is cut into chunks.

    Args:
        name: of the kernel; the second one's begins with it.
        spec, plan: what to compute, and how.
        epilogue: what becomes of the sums; by default they are stored in C.
        place: where the epilogue writes: fetched into the cache while the sums are computed, which
            pays where C is larger than the cache.  By default C, with the default epilogue only.
    """
    if epilogue is None:
        large = spec.batches * spec.m * spec.n * SIZES[spec.dtype] > L2 // 4
        epilogue, place = store_c(spec), place_c(spec) if large else None
    if plan.chunks == 1:
        return [Product(name, spec, plan, epilogue, place).function()]
    partial = Product(f"{name}_parts", spec, plan, epilogue).function()
    return [partial, combine(f"{name}_sum", spec, plan, epilogue)]


def batch_place(
    f: Function, spec: MatmulSpec, base: Value, batch: Number, strides: tuple[int, ...]
) -> Value:
    """Return where an operand begins for a batch entry."""
    indices = split_index(f, batch, spec.batch)
    return f.at(base, linear(f, list(zip(indices, strides, strict=True)), 0), spec.dtype)


class Product:
    """The kernel of a product that is being written.

    Loops, from the outside in: work items and their blocks, pieces of k ("depth"), columns of
    register tiles, register tiles, k.
    """

    def __init__(
        self,
        name: str,
        spec: MatmulSpec,
        plan: Plan,
        epilogue: Epilogue,
        place: Place | None = None,
    ) -> None:
        self.spec, self.plan, self.epilogue, self.place = spec, plan, epilogue, place
        self.lanes = plan.target.lanes(spec.dtype)
        self.width = plan.width(spec)  # of a register tile, in columns
        transposed = (plan.pack_a and spec.a[0] != 1) or (plan.form == "packed" and spec.b[1] != 1)
        assert plan.depth % self.lanes == 0 or plan.depth >= spec.k or not transposed, plan
        assert plan.block[0] % plan.rows == 0 and plan.block[1] % self.width == 0, plan
        self.f = kernel_function(name)

    # --- items and blocks ---

    def function(self) -> Function:
        """Return the kernel: a loop over blocks."""
        f, spec, plan = self.f, self.spec, self.plan
        if not spec.m * spec.n * spec.batches:
            f.ret()
            return f
        self.a, self.b = f.buffer(0), f.buffer(1)
        size = SIZES[spec.dtype]
        if plan.form == "packed":
            deep = -(-min(plan.depth, spec.k) // self.lanes) * self.lanes
            self.panel = f.scratch(max(64, deep * self.width * size))
        if plan.pack_a:
            self.block_a = f.scratch(plan.a_bytes(spec))
        if plan.chunks > 1:
            self.waiting = f.buffer(3)
        elif plan.blocked(spec):
            self.waiting = f.scratch(plan.block[0] * plan.block[1] * size)
        _, begin, end = f.args
        self.first = f.mul(begin, plan.group)
        last = smaller(f, f.mul(end, plan.group), plan.units(spec))
        with f.loop(self.first, last) as loop:
            self.unit(loop.index)
        f.ret()
        return f

    def unit(self, unit: Value) -> None:
        """Write the computation of a block: find it, then go through k."""
        f, spec, plan = self.f, self.spec, self.plan
        down, across = plan.grid(spec)
        i, rest = remainder(f, unit, down)
        j, rest = remainder(f, rest, across)
        self.batch, chunk = remainder(f, rest, spec.batches)
        self.m0, self.n0 = times(f, i, plan.block[0]), times(f, j, plan.block[1])
        self.m1 = smaller(f, plus(f, self.m0, plan.block[0]), spec.m)
        self.n1 = smaller(f, plus(f, self.n0, plan.block[1]), spec.n)
        self.a0 = batch_place(f, spec, self.a, self.batch, spec.a[2:])
        self.b0 = batch_place(f, spec, self.b, self.batch, spec.b[2:])
        if plan.chunks > 1:
            part = plus(f, times(f, chunk, spec.batches), self.batch)
            self.held = f.at(self.waiting, times(f, part, plan.part(spec)), spec.dtype)
            self.pieces(times(f, chunk, plan.span))
        elif plan.blocked(spec):
            self.held = self.waiting
            self.pieces(0)
            with f.loop(as_value(f, self.m0), self.m1, nonempty=True) as rows:
                self.finish_row(rows.index)
        else:
            self.columns(0, spec.k, self.needs_panel(unit, i))

    def needs_panel(self, unit: Value, i: Number) -> Value | bool:
        """Tell whether B's panel has to be packed: not if it is the last unit's."""
        if self.plan.form != "packed" or self.plan.block[1] != self.width or isinstance(i, int):
            return True
        f = self.f
        return f.bits("or", f.compare("eq", unit, self.first), f.compare("eq", i, 0))

    def pieces(self, start: Number) -> None:
        """Write the pieces of k one after the other, sums waiting in memory between."""
        f, plan, spec = self.f, self.plan, self.spec
        wide = as_value(f, plan.block[1])
        if plan.chunks > 1:
            left = f.sub(f.const("i64", plan.pitch_c(spec)), as_value(f, self.n0))
            wide = as_value(f, smaller(f, left, plan.block[1]))
        size = f.mul(wide, SIZES[spec.dtype])
        with f.loop(as_value(f, self.m0), self.m1, nonempty=True) as rows:
            f.clear(self.waiting_place(rows.index, as_value(f, self.n0)), size)
        stop = smaller(f, plus(f, start, plan.span), spec.k)
        with f.loop(as_value(f, start), stop, plan.depth, nonempty=True) as loop:
            self.columns(loop.index, self.count_from(loop.index), fresh=True)

    def count_from(self, k0: Value) -> Number:
        """Return how many k a piece has that begins at k0."""
        if self.spec.k % self.plan.depth == 0:
            return self.plan.depth
        left = self.f.sub(self.f.const("i64", self.spec.k), k0)
        return smaller(self.f, left, self.plan.depth)

    def finish_row(self, row: Value) -> None:
        """Write the end of a row of a block whose sums are in scratch memory."""
        f, lanes, spec = self.f, self.lanes, self.spec
        batch = as_value(f, self.batch)
        full = spec.n // lanes * lanes
        with f.loop(as_value(f, self.n0), smaller(f, self.n1, full), lanes) as loop:
            sums = f.load(self.waiting_place(row, loop.index), vector(spec.dtype, lanes))
            self.epilogue(f, sums, row, loop.index, batch, None)
        if full < spec.n:
            with f.when(f.compare("eq", as_value(f, self.n1), spec.n)):
                mask = tail_mask(f, spec.n - full, lanes)
                column = f.const("i64", full)
                sums = f.load(self.waiting_place(row, column), vector(spec.dtype, lanes))
                self.epilogue(f, sums, row, column, batch, mask)

    def waiting_place(self, row: Value, column: Value) -> Value:
        """Return where a sum waits: those of a block, or of a chunk, row by row."""
        f, plan = self.f, self.plan
        if plan.chunks > 1:
            offset = f.add(f.mul(row, plan.pitch_c(self.spec)), column)
        else:
            inside = f.mul(f.sub(row, as_value(f, self.m0)), plan.block[1])
            offset = f.add(inside, f.sub(column, as_value(f, self.n0)))
        return f.at(self.held, offset, self.spec.dtype)

    # --- tiles ---

    def columns(self, k0: Number, count: Number, fresh: Value | bool) -> None:
        """Write the columns of tiles of a block, for one piece of k.

        Args:
            k0, count: the piece.
            fresh: whether B's panel has to be packed.
        """
        f, spec = self.f, self.spec
        if self.plan.pack_a:
            self.pack_block(k0, count)
        whole = spec.n // self.width * self.width
        if whole:
            with f.loop(as_value(f, self.n0), smaller(f, self.n1, whole), self.width) as loop:
                self.column(loop.index, self.width, k0, count, fresh)
        if whole < spec.n:
            only = isinstance(self.n1, int)
            with when(f, only or f.compare("eq", as_value(f, self.n1), spec.n)):
                self.column(f.const("i64", whole), spec.n - whole, k0, count, fresh)

    def column(self, n: Value, width: int, k0: Number, count: Number, fresh: Value | bool) -> None:
        """Write a column of tiles: its full ones, and the lower one at the end."""
        f, spec = self.f, self.spec
        b = f.at(
            f.at(self.b0, times(f, k0, spec.b[0]), spec.dtype), f.mul(n, spec.b[1]), spec.dtype
        )
        if self.plan.form == "packed":
            with when(f, fresh):
                self.pack(b, width, count)
            b = self.panel
        for m, tall in self.row_tiles():
            self.tile(m, n, tall, width, self.a_place(m, k0), b, count)

    def row_tiles(self) -> Iterator[tuple[Value, int]]:
        """Write a loop over a block's tiles and a part for the lower one: yield (row, rows)."""
        f, spec, rows = self.f, self.spec, self.plan.rows
        whole = spec.m // rows * rows
        if whole:
            with f.loop(as_value(f, self.m0), smaller(f, self.m1, whole), rows) as loop:
                yield loop.index, rows
        if whole < spec.m:
            only = isinstance(self.m1, int)
            with when(f, only or f.compare("eq", as_value(f, self.m1), spec.m)):
                yield f.const("i64", whole), spec.m - whole

    def a_place(self, m: Value, k0: Number) -> Value:
        """Return where a tile's part of A begins."""
        f, spec, plan = self.f, self.spec, self.plan
        if not plan.pack_a:
            a = f.at(self.a0, times(f, k0, spec.a[1]), spec.dtype)
            return f.at(a, f.mul(m, spec.a[0]), spec.dtype)
        number = f.udiv(f.sub(m, as_value(f, self.m0)), plan.rows)
        return f.at(self.block_a, f.mul(number, plan.a_tile(spec)), spec.dtype)

    def tile(
        self, m: Value, n: Value, rows: int, width: int, a: Value, b: Value, count: Number
    ) -> None:
        """Write a register tile: its loop over k, and what becomes of its sums."""
        f, spec, plan, lanes = self.f, self.spec, self.plan, self.lanes
        dot = plan.form == "dot"
        vectors = -(-width // lanes)
        mask = tail_mask(f, width - (vectors - 1) * lanes, lanes)
        packed = plan.form == "packed"
        a_strides = (1, plan.pitch(spec)) if plan.pack_a else (spec.a[0], spec.a[1])
        b_strides = (self.width, 1) if packed else (spec.b[0], spec.b[1])
        shape = Tile(
            spec.dtype, lanes, rows, width if dot else vectors, a_strides, b_strides, dot,
            plan.unroll, plan.chains, None if packed else mask,
        )  # fmt: skip
        cells = [(i, v) for i in range(rows) for v in range(vectors)]
        if plan.chunks > 1 or plan.blocked(spec):
            first = self.waiting_place(m, n)
            pitch = plan.pitch_c(spec)
            held = [f.at(first, i * pitch + v * lanes, spec.dtype) for i, v in cells]
            self.go_on(shape, a, b, count, held)
            return
        places, batch = [f.add(n, v * lanes) for v in range(vectors)], as_value(f, self.batch)
        if self.place:
            for i, v in cells:
                f.prefetch(self.place(f, f.add(m, i), places[v], batch))
        for (i, v), value in zip(cells, run(f, shape, a, b, count), strict=True):
            here = mask if v == vectors - 1 else None
            self.epilogue(f, value, f.add(m, i), places[v], batch, here)

    def go_on(self, shape: Tile, a: Value, b: Value, count: Number, held: list[Value]) -> None:
        """Write a tile whose sums wait in memory between the pieces of k."""
        f = self.f
        start = [f.load(place, shape.kind) for place in held]
        for value, place in zip(run(f, shape, a, b, count, start), held, strict=True):
            f.store(value, place)

    # --- packing ---

    def pack(self, b: Value, width: int, count: Number) -> None:
        """Write the copying of a panel of B into scratch memory, k by k."""
        lines = (self.spec.b[1], self.spec.b[0])
        self.gather(b, lines, self.panel, self.width, width, count)

    def pack_block(self, k0: Number, count: Number) -> None:
        """Write the copying of a block of A into scratch memory, tile by tile, k by k."""
        f, spec, plan = self.f, self.spec, self.plan
        if spec.a[0] == 1:
            with f.loop(0, count) as loop:  # k by k: A is read in the order of its memory
                k = f.mul(f.add(loop.index, as_value(f, k0)), spec.a[1])
                line = f.at(self.a0, k, spec.dtype)
                to = f.mul(loop.index, plan.pitch(spec))
                for m, rows in self.row_tiles():
                    place = f.at(self.a_place(m, k0), to, spec.dtype)
                    self.copy(f.at(line, m, spec.dtype), place, rows)
            return
        for m, rows in self.row_tiles():
            source = f.at(self.a0, times(f, k0, spec.a[1]), spec.dtype)
            source = f.at(source, f.mul(m, spec.a[0]), spec.dtype)
            self.gather(source, spec.a[:2], self.a_place(m, k0), plan.pitch(spec), rows, count)

    def copy(self, source: Value, target: Value, count: int) -> None:
        """Write the copying of some numbers, zeros after them up to whole vectors."""
        f, kind, lanes = self.f, self.spec.dtype, self.lanes
        for n in range(0, count, lanes):
            mask = tail_mask(f, count - n, lanes)
            value = f.load_masked(f.at(source, n, kind), vector(kind, lanes), mask)
            f.store(value, f.at(target, n, kind))

    def gather(
        self,
        source: Value,
        strides: tuple[int, ...],
        target: Value,
        pitch: int,
        width: int,
        count: Number,
    ) -> None:
        """Write the copying of `width` lines of `count` numbers so that each k is contiguous.

        Args:
            source, strides: where the lines are: from line to line, from k to k.
            target, pitch: where they go: from k to k.
            width, count: lines, and k.
        """
        f, kind, lanes = self.f, self.spec.dtype, self.lanes
        if strides[0] == 1:  # contiguous already, but far apart
            with f.loop(0, count) as loop:
                row = f.at(source, f.mul(loop.index, strides[1]), kind)
                self.copy(row, f.at(target, f.mul(loop.index, pitch), kind), width)
            return

        def square(k: Value, n: Value, wide: int, deep: int) -> None:
            corner = f.at(f.at(source, k, kind), f.mul(n, strides[0]), kind)
            to = f.at(f.at(target, f.mul(k, pitch), kind), n, kind)
            transpose_store(f, kind, lanes, corner, strides[0], to, pitch, wide, deep)

        def squares(k: Value, deep: int) -> None:
            whole = width // lanes * lanes
            if whole:
                with f.loop(0, whole, lanes) as loop:
                    square(k, loop.index, lanes, deep)
            if whole < width:
                square(k, f.const("i64", whole), width - whole, deep)

        rest = self.spec.k % lanes
        whole, known = round_down(f, count, lanes), isinstance(count, int)
        if not known or whole:
            with f.loop(0, whole, lanes) as loop:
                squares(loop.index, lanes)
        if rest:
            with when(f, known or f.compare("ne", as_value(f, whole), count)):
                squares(as_value(f, whole), rest)


# --- partial sums ---


def combine(name: str, spec: MatmulSpec, plan: Plan, epilogue: Epilogue) -> Function:
    """Write the kernel that adds up the partial sums, in the order of the chunks."""
    f = kernel_function(name)
    _, begin, end = f.args
    size, lanes = plan.combine_rows(spec), plan.target.lanes(spec.dtype)
    last = smaller(f, f.mul(end, size), spec.batches * spec.m)
    source = f.buffer(3)
    full = spec.n // lanes * lanes

    def finish(row: Value, batch: Value, column: Value, mask: Value | None) -> None:
        zero = f.const(vector(spec.dtype, lanes), 0.0)
        with f.loop(0, plan.chunks, carried=[zero]) as chunks:
            part = f.add(f.mul(chunks.index, spec.batches), batch)
            place = f.at(source, f.mul(part, plan.part(spec)), spec.dtype)
            place = f.at(place, f.mul(row, plan.pitch_c(spec)), spec.dtype)
            more = f.load(f.at(place, column, spec.dtype), zero.type)
            chunks.next = [f.fadd(chunks.carried[0], more)]
        epilogue(f, chunks.results[0], row, column, batch, mask)

    with f.loop(f.mul(begin, size), last) as rows:
        row, batch = remainder(f, rows.index, spec.m)
        row, batch = as_value(f, row), as_value(f, batch)
        if full:
            with f.loop(0, full, lanes) as columns:
                finish(row, batch, columns.index, None)
        if full < spec.n:
            finish(row, batch, f.const("i64", full), tail_mask(f, spec.n - full, lanes))
    f.ret()
    return f
