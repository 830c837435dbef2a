"""Kernels that combine by row: a row is gone through in stages.

What one stage combines is there for the next.  A short row stays in registers from stage to stage;
of a long one each stage is a loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..expr import Index, Read
from ..nest import Statement
from .elements import Elements, load_element, store_element
from .integers import Number, plus, smaller, split_index
from .ir import Value
from .kernel import Kernel
from .writer import (
    CHUNKS,
    ITEM,
    UNROLL,
    Partial,
    Vectors,
    Writer,
    is_straight,
    store_columns,
    sweep,
    tree,
    vectors_of,
)


def emit_rows(w: Writer) -> list[Kernel]:
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
        stop = smaller(f, f.add(first, group), total)
        with f.loop(first, stop, carried=carried, nonempty=True) as rows:
            w.enter([], split_index(f, rows.index, w.axes.rows))
            rows.next = row.write(rows.carried)
        row.finish(rows.results)
    return w.kernel(items)


class _Row:
    """What both kinds of rows share: what is known of a row so far."""

    def __init__(
        self, w: Writer, sums: list[tuple[int, Statement]], items: int, item: Value
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
        whole = tree(vectors, lambda a, b: w.combine(s, a, b))
        self.scalars[i] = w.across(s, whole)
        if s.out is not None:
            store_element(w.f, self.scalars[i], w.place(s.out, 0), s.out.dtype)

    def here(self, stage: int, *kinds: str) -> list[tuple[int, Statement]]:
        """Return the statements of a stage."""
        found = enumerate(self.w.nest.statements)
        return [(i, s) for i, s in found if s.kind in kinds and s.stage == stage]


class _ShortRow(_Row):
    """A row in registers: its vectors are written out, and stay what they are."""

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
        store_columns(w, self.sums, self.vectors, found, self.item, 0, 0, counts, self.item)


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
            at = plus(w.f, column, u * w.lanes)
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
