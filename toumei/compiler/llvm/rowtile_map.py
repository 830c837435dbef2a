"""Row tiles: maps, expressions of slots that are computed column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..expr import Apply, Expr, Index, Read, rewrite
from ..rowplan import Map, Statement
from .elements import Elements, load_element, memory_type
from .integers import Number, first_lanes, plus, times
from .ir import Function, Value
from .rowtile_shape import Shape

UNROLL = ((40, 4), (100, 2))  # (instructions, vectors of a column that are written out)
CHEAP = {"add", "sub", "mul", "div", "neg", "fma", "where", "sqrt", "abs", "square"}
SLOW = 20  # instructions of a function that isn't cheap, about


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
        self, f: Function, column: Number, row: Number, vectors: int,
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
                place = f.at(self.args[i], times(f, column, step), memory_type(read.dtype))
                fixed[read] = load_element(f, place, read.dtype, s.lanes, 0)
        if raw is not None and self.raw is not None:
            bases[self.raw] = raw
        outs: dict[int, Value] = {}
        for i, (t, place) in enumerate(self._results()):
            step = t.out.strides[0]
            if t.kind == "sum":
                outs[i] = f.at(place, times(f, column, step * s.lanes), s.element)
            else:
                outs[i] = f.at(s.column(f, place, column, step), row, s.element)
        self._rows(f, row, vectors, fixed, bases, outs)

    def _rows(
        self, f: Function, row: Number, vectors: int, fixed: dict[Read, Value],
        bases: dict[Read, Value], outs: dict[int, Value],
    ) -> None:  # fmt: skip
        """Write the rows of a column."""
        s = self.shape
        sums = [i for i in outs if self.outs[i].kind == "sum"]
        unroll = next(n for n in (self._unrolled(), 2, 1) if vectors % n == 0)
        totals = [f.const(s.kind, 0.0)] * len(sums)

        def some(at: Number, totals: list[Value]) -> list[Value]:
            for u in range(unroll):
                here = plus(f, at, u * s.lanes)
                totals = self._vector(f, here, plus(f, row, here), fixed, bases, outs, totals)
            return totals

        if vectors == unroll:
            totals = some(0, totals)
        else:
            with f.loop(0, vectors * s.lanes, unroll * s.lanes, totals, nonempty=True) as loop:
                loop.next = some(loop.index, loop.carried)
            totals = loop.results
        for i, total in zip(sums, totals, strict=True):
            f.store(f.fadd(f.load(outs[i], s.kind), total), outs[i])

    def _unrolled(self) -> int:
        """Return how many vectors are to be written out: fewer of a long map."""
        seen: set[int] = set()
        stack: list[Expr] = [t.expr for t in self.step.statements]
        length = 0
        while stack:
            e = stack.pop()
            if isinstance(e, Apply) and id(e) not in seen:
                seen.add(id(e))
                length += 1 if e.name in CHEAP else SLOW
                stack.extend(e.args)
        return next((n for most, n in UNROLL if length <= most), 1)

    def _vector(
        self, f: Function, at: Number, row: Number, fixed: dict[Read, Value],
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

    def _exists(self, f: Function, row: Number) -> Value:
        """Return which of some rows exist."""
        return first_lanes(f, f.sub(self.args[-1], row), self.shape.lanes)
