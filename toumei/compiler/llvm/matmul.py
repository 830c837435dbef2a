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
from contextlib import contextmanager
from dataclasses import replace

from .ir import SIZES, Function, Value, vector
from .matmul_plan import MatmulSpec, Plan, candidates, plan
from .matmul_tile import Tile, first_lanes, load_maybe, run, store_maybe, transpose_store

__all__ = ["Epilogue", "MatmulSpec", "Plan", "candidates", "emit", "plan", "store_c"]

# epilogue(f, sums, row, column, batch, mask): `sums` is a vector of C[batch, row, column …]; `mask`
# tells which of its lanes exist, None: all.  `batch` counts the batch entries, the last dimension
# fastest.  The vectors of a tile come row by row; those of one column have the same Value `column`.
Epilogue = Callable[[Function, Value, Value, Value, Value, "Value | None"], None]

Number = Value | int  # of rows, columns …: Python's where it is known


def store_c(spec: MatmulSpec, buffer: int = 2) -> Epilogue:
    """Return the epilogue that stores C, at its strides, into one of the buffers."""

    def epilogue(
        f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        base = batch_place(f, spec, pointer(f, buffer), batch, spec.c[2:])
        at_row = f.at(base, f.mul(row, spec.c[0]), spec.dtype)
        store_maybe(f, sums, f.at(at_row, column, spec.dtype), mask)

    return epilogue


def emit(
    name: str, spec: MatmulSpec, plan: Plan, epilogue: Epilogue | None = None
) -> list[Function]:
    """Write the kernels of a product: one, or two where k is cut into chunks."""
    epilogue = epilogue or store_c(spec)
    if plan.chunks == 1:
        return [Product(name, spec, plan, epilogue).function()]
    partial = Product(f"{name}_parts", spec, plan, epilogue).function()
    return [partial, combine(f"{name}_sum", spec, plan, epilogue)]


def pointer(f: Function, buffer: int) -> Value:
    """Return the address of a buffer."""
    return f.load(f.at(f.args[0], buffer, "ptr"), "ptr")


def batch_place(
    f: Function, spec: MatmulSpec, base: Value, batch: Number, strides: tuple[int, ...]
) -> Value:
    """Return where an operand begins for a batch entry."""
    offset: Number = 0
    for size, stride in list(zip(spec.batch, strides, strict=True))[::-1]:
        index, batch = remainder(f, batch, size)
        if stride:
            offset = add(f, mul(f, index, stride), offset)
    return f.at(base, offset, spec.dtype)


# --- integers that may be known while writing ---


def add(f: Function, x: Number, y: Number) -> Number:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    return f.add(x, y) if isinstance(x, Value) else f.add(as_value(f, y), x)


def mul(f: Function, x: Number, y: int) -> Number:
    return x * y if isinstance(x, int) else f.mul(x, y)


def smaller(f: Function, x: Number, y: int) -> Number:
    if isinstance(x, int):
        return min(x, y)
    return f.select(f.compare("slt", x, y), x, y)


def remainder(f: Function, x: Number, size: int) -> tuple[Number, Number]:
    """Return (x % size, x // size)."""
    if size == 1:
        return 0, x
    if isinstance(x, int):
        return x % size, x // size
    return f.urem(x, size), f.udiv(x, size)


def as_value(f: Function, x: Number) -> Value:
    return f.as_value(x, "i64")


@contextmanager
def when(f: Function, condition: Value | bool) -> Iterator[None]:
    """Write what is done under a condition that may be known to hold."""
    if isinstance(condition, Value):
        with f.when(condition):
            yield
    else:
        assert condition
        yield


class Product:
    """The kernel of a product that is being written.

    Loops, from the outside in: work items and their blocks, pieces of k ("depth"), columns of
    register tiles, register tiles, k.
    """

    def __init__(self, name: str, spec: MatmulSpec, plan: Plan, epilogue: Epilogue) -> None:
        self.spec, self.plan, self.epilogue = spec, plan, epilogue
        self.lanes = plan.target.lanes(spec.dtype)
        self.width = plan.width(spec)  # of a register tile, in columns
        self.f = Function(name, [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")])

    # --- items and blocks ---

    def function(self) -> Function:
        f, spec, plan = self.f, self.spec, self.plan
        if not spec.m * spec.n * spec.batches:
            f.ret()
            return f
        self.a, self.b = pointer(f, 0), pointer(f, 1)
        self.out = pointer(f, 3) if plan.chunks > 1 else self.a  # of partial sums
        size = SIZES[spec.dtype]
        if plan.form == "packed":
            deep = -(-min(plan.depth, spec.k) // self.lanes) * self.lanes
            self.panel = f.scratch(max(64, deep * self.width * size))
        if plan.blocked(spec):
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
        self.m0, self.n0 = mul(f, i, plan.block[0]), mul(f, j, plan.block[1])
        self.m1 = smaller(f, add(f, self.m0, plan.block[0]), spec.m)
        self.n1 = smaller(f, add(f, self.n0, plan.block[1]), spec.n)
        self.a0 = batch_place(f, spec, self.a, self.batch, spec.a[2:])
        self.b0 = batch_place(f, spec, self.b, self.batch, spec.b[2:])
        if plan.chunks > 1:
            self.part = add(f, mul(f, chunk, spec.batches), self.batch)
            k0 = mul(f, chunk, plan.depth)
            self.columns(k0, self.count_from(k0), fresh=True)
        elif plan.blocked(spec):
            self.depths()
        else:
            # a panel packed by the last unit still serves, unless this one has other columns
            new = f.compare("eq", unit, self.first) if down > 1 else None
            at_top = f.compare("eq", as_value(f, i), 0) if down > 1 else None
            fresh = f.bits("or", new, at_top) if new and at_top else True
            self.columns(0, spec.k, fresh)

    def count_from(self, k0: Number) -> Number:
        """Return how many k a piece has that begins at k0."""
        if self.spec.k % self.plan.depth == 0:
            return self.plan.depth
        left = self.f.sub(self.f.const("i64", self.spec.k), as_value(self.f, k0))
        return smaller(self.f, left, self.plan.depth)

    def depths(self) -> None:
        """Write the pieces of k one after the other, sums waiting in scratch memory between."""
        f, plan, spec = self.f, self.plan, self.spec
        size = f.const("i64", plan.block[0] * plan.block[1] * SIZES[spec.dtype])
        zero, plain = f.const("i8", 0), f.const("i1", False)
        f.call("llvm.memset.p0.i64", "void", self.waiting, zero, size, plain)
        with f.loop(0, spec.k, plan.depth) as loop:
            self.columns(loop.index, self.count_from(loop.index), fresh=True)
        with f.loop(as_value(f, self.m0), self.m1, nonempty=True) as rows:
            self.finish_row(rows.index)

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
                mask = first_lanes(f, lanes, spec.n - full)
                column = f.const("i64", full)
                sums = f.load(self.waiting_place(row, column), vector(spec.dtype, lanes))
                self.epilogue(f, sums, row, column, batch, mask)

    def waiting_place(self, row: Value, column: Value) -> Value:
        """Return where the sums of a block wait."""
        f = self.f
        inside = f.mul(f.sub(row, as_value(f, self.m0)), self.plan.block[1])
        offset = f.add(inside, f.sub(column, as_value(f, self.n0)))
        return f.at(self.waiting, offset, self.spec.dtype)

    # --- tiles ---

    def columns(self, k0: Number, count: Number, fresh: Value | bool) -> None:
        """Write the columns of tiles of a block, for one piece of k.

        Args:
            k0, count: the piece.
            fresh: whether B's panel has to be packed.
        """
        f, spec = self.f, self.spec
        whole = spec.n // self.width * self.width
        if whole:
            with f.loop(as_value(f, self.n0), smaller(f, self.n1, whole), self.width) as loop:
                self.column(loop.index, self.width, k0, count, fresh)
        if whole < spec.n:
            only = isinstance(self.n1, int)
            with when(f, only or f.compare("eq", as_value(f, self.n1), spec.n)):
                self.column(f.const("i64", whole), spec.n - whole, k0, count, fresh)

    def column(
        self, n: Value, width: int, k0: Number, count: Number, fresh: Value | bool
    ) -> None:
        """Write a column of tiles: its full ones, and the lower one at the end."""
        f, spec, rows = self.f, self.spec, self.plan.rows
        b = f.at(f.at(self.b0, mul(f, k0, spec.b[0]), spec.dtype), f.mul(n, spec.b[1]), spec.dtype)
        if self.plan.form == "packed":
            with when(f, fresh):
                self.pack(b, width, count)
            b = self.panel
        a = f.at(self.a0, mul(f, k0, spec.a[1]), spec.dtype)
        whole = spec.m // rows * rows
        if whole:
            with f.loop(as_value(f, self.m0), smaller(f, self.m1, whole), rows) as loop:
                self.tile(loop.index, n, rows, width, a, b, count)
        if whole < spec.m:
            only = isinstance(self.m1, int)
            with when(f, only or f.compare("eq", as_value(f, self.m1), spec.m)):
                self.tile(f.const("i64", whole), n, spec.m - whole, width, a, b, count)

    def tile(
        self, m: Value, n: Value, rows: int, width: int, a: Value, b: Value, count: Number
    ) -> None:
        """Write a register tile: its loop over k, and what becomes of its sums."""
        f, spec, plan, lanes = self.f, self.spec, self.plan, self.lanes
        dot = plan.form == "dot"
        vectors = -(-width // lanes)
        mask = first_lanes(f, lanes, width - (vectors - 1) * lanes)
        a = f.at(a, f.mul(m, spec.a[0]), spec.dtype)
        packed = plan.form == "packed"
        strides = (self.width, 1) if packed else spec.b[:2]
        shape = Tile(
            spec.dtype, lanes, rows, width if dot else vectors, spec.a[:2], strides, dot,
            plan.unroll, plan.chains, None if packed else mask,
        )  # fmt: skip
        places = [f.add(n, v * lanes) for v in range(vectors)]
        blocked, kind = plan.blocked(spec), shape.kind
        cells = [(i, v) for i in range(rows) for v in range(vectors)]
        start: list[Value] = []
        if blocked:
            first = self.waiting_place(m, n)
            held = [f.at(first, i * plan.block[1] + v * lanes, spec.dtype) for i, v in cells]
            start = [f.load(place, kind) for place in held]
        sums = run(f, shape, a, b, count, start)
        if blocked:
            for value, place in zip(sums, held, strict=True):
                f.store(value, place)
            return
        for (i, v), value in zip(cells, sums, strict=True):
            here = mask if v == vectors - 1 else None
            self.done(value, f.add(m, i), places[v], here)

    def done(self, sums: Value, row: Value, column: Value, mask: Value | None) -> None:
        """Write what becomes of a finished vector: a partial sum, or the product itself."""
        f, spec = self.f, self.spec
        if self.plan.chunks == 1:
            self.epilogue(f, sums, row, column, as_value(f, self.batch), mask)
            return
        place = part_place(f, spec, self.out, self.part, row, column)
        store_maybe(f, sums, place, mask)

    def pack(self, b: Value, width: int, count: Number) -> None:
        """Write the transposition of a panel of B into scratch memory."""
        f, spec, lanes = self.f, self.spec, self.lanes
        kind, stride, pitch = spec.dtype, spec.b[1], self.width

        def squares(k: Value, deep: int) -> None:
            """Transpose `deep` numbers of each column, from k on."""
            for n in range(0, width, lanes):
                source = f.at(f.at(b, k, kind), n * stride, kind)
                target = f.at(f.at(self.panel, f.mul(k, pitch), kind), n, kind)
                wide = min(lanes, width - n)
                transpose_store(f, kind, lanes, source, stride, target, pitch, wide, deep)

        rest = spec.k % lanes
        if isinstance(count, int):
            whole: Number = count // lanes * lanes
        else:
            whole = f.mul(f.udiv(count, lanes), lanes)
        if not isinstance(whole, int) or whole:
            with f.loop(0, whole, lanes) as loop:
                squares(loop.index, lanes)
        if not rest:
            return
        last = True if isinstance(count, int) else f.compare("ne", as_value(f, whole), count)
        with when(f, last):
            squares(as_value(f, whole), rest)


# --- partial sums ---


def part_place(
    f: Function, spec: MatmulSpec, base: Value, part: Number, row: Value, column: Value
) -> Value:
    """Return where a partial sum is kept: C's of each chunk, one after the other."""
    whole = f.at(base, mul(f, part, spec.m * spec.n), spec.dtype)
    return f.at(f.at(whole, f.mul(row, spec.n), spec.dtype), column, spec.dtype)


def combine(name: str, spec: MatmulSpec, plan: Plan, epilogue: Epilogue) -> Function:
    """Write the kernel that adds up the partial sums, in the order of the chunks."""
    f = Function(name, [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")])
    _, begin, end = f.args
    size, lanes = plan.combine_rows(spec), plan.target.lanes(spec.dtype)
    last = smaller(f, f.mul(end, size), spec.batches * spec.m)
    source = pointer(f, 3)
    full = spec.n // lanes * lanes

    def finish(row: Value, batch: Value, column: Value, mask: Value | None) -> None:
        zero = f.const(vector(spec.dtype, lanes), 0.0)
        with f.loop(0, plan.chunks, carried=[zero]) as chunks:
            part = f.add(f.mul(chunks.index, spec.batches), batch)
            place = part_place(f, spec, source, part, row, column)
            more = load_maybe(f, place, zero.type, mask)
            chunks.next = [f.fadd(chunks.carried[0], more)]
        epilogue(f, chunks.results[0], row, column, batch, mask)

    with f.loop(f.mul(begin, size), last) as rows:
        row, batch = remainder(f, rows.index, spec.m)
        row, batch = as_value(f, row), as_value(f, batch)
        if full:
            with f.loop(0, full, lanes) as columns:
                finish(row, batch, columns.index, None)
        if full < spec.n:
            finish(row, batch, f.const("i64", full), first_lanes(f, lanes, spec.n - full))
    f.ret()
    return f
