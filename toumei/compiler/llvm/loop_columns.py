"""Kernels that combine by column: columns outside, rows inside, the sums in registers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..expr import Read, leaves
from .elements import load_element
from .integers import Number, plus, smaller, split_index, tail_mask, times
from .ir import Value
from .kernel import Kernel
from .writer import CHUNKS, ITEM, UNROLL, Vectors, Writer, statements, store_columns


def emit_columns(w: Writer) -> list[Kernel]:
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
        out, chunk, block = split_index(f, item.index, (outer, chunks, blocks))
        column = times(f, block, width)
        w.enter(split_index(f, out, w.axes.outer), [])
        vectors = _block_vectors(w, column, unroll, blocks)
        start = times(f, chunk, size)
        stop = smaller(f, plus(f, start, size), total)
        carried = [w.nothing(s, w.lanes) for _, s in sums for _ in vectors]
        _fix(w, column, vectors)
        with f.loop(start, stop, carried=carried, nonempty=True) as rows:
            w.enter(row=split_index(f, rows.index, w.axes.rows))
            after: dict[tuple[int, int], Value] = {}
            saved = w.places
            for u, mask in vectors:
                w.places = dict(saved)
                values = statements(w, plus(f, column, u * w.lanes), mask)
                for k, (i, s) in enumerate(sums):
                    old = rows.carried[k * len(vectors) + u]
                    after[k, u] = w.combine(
                        s, old, values[i] if s.kind != "all" else w.kept(s, values[i], mask)
                    )
            rows.next = [after[k, u] for k in range(len(sums)) for u in range(len(vectors))]
        w.enter(row=[])
        store_columns(
            w, sums, vectors, rows.results, chunk, out, column, (chunks, outer, blocks), item.index
        )
        w.fixed = {}
    return w.kernel(blocks * chunks * outer)


def _block_vectors(w: Writer, column: Number, unroll: int, blocks: int) -> Vectors:
    """Return the vectors of a block of columns; only the last one of all may be short."""
    n = w.axes.columns
    out: Vectors = [(u, None) for u in range(unroll)]
    if n % w.lanes:
        left: Number = n - (unroll - 1) * w.lanes
        if blocks > 1:
            assert isinstance(column, Value)
            left = smaller(
                w.f, w.f.sub(w.f.const("i64", n - (unroll - 1) * w.lanes), column), w.lanes
            )
        out[-1] = (unroll - 1, tail_mask(w.f, left, w.lanes))
    return out


def _fix(w: Writer, column: Number, vectors: Vectors) -> None:
    """Load what all rows read alike before the loop over them, if that is little."""
    if not isinstance(column, int):
        return
    read = [e for s in w.nest.statements for e in leaves(s.expr) if isinstance(e, Read)]
    found = [
        e
        for e in dict.fromkeys(read)
        if e.value >= 0 and not any(w.axes.walks[e.strides, e.offset][1].rows)
    ]
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


def _is_written(w: Writer, reads: Sequence[Read]) -> bool:
    written = {s.out.value for s in w.nest.statements if s.out is not None}
    return any(r.value in written for r in reads)
