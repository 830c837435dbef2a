"""Kernels that compute each index by itself; at most, all of them are combined."""

from __future__ import annotations

import math

from .elements import register_type
from .integers import Number, plus, smaller, split_index
from .ir import Value, vector
from .kernel import Kernel
from .writer import ITEM, UNROLL, Vectors, Writer, hand_in, statements, vectors_of


def emit_grid(w: Writer) -> list[Kernel]:
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
                _columns(w, first, smaller(f, f.add(first, reach), n), n, width, held)

        if total == 1:
            one_row(0)
        elif group == 1:
            one_row(number)
        else:
            first = f.mul(number, group)
            with f.loop(first, smaller(f, f.add(first, group), total), nonempty=True) as rows:
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
            hand_in(w, s, w.across(s, whole), items, item.index)
    return w.kernel(items)


def _columns(
    w: Writer, first: Number, last: Number, n: int, width: int, held: dict[tuple[int, int], Value]
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


def _body(w: Writer, column: Number, vectors: Vectors, held: dict[tuple[int, int], Value]) -> None:
    """Write all statements for some vectors at a column."""
    saved = w.places
    for u, mask in vectors:
        w.places = dict(saved)
        at = plus(w.f, column, u * w.lanes)
        values = statements(w, at, mask)
        for i, s in enumerate(w.nest.statements):
            if s.kind == "all":
                place = held[i, u]
                old = w.f.load(place, values[i].type)
                w.f.store(w.combine(s, old, w.kept(s, values[i], mask)), place)
    w.places = saved
