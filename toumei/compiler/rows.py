"""Nodes as seen by a row tile: what each does with the rows that it goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from .expr import Const, Index, Read, Strides, leaves, rewrite
from .nodes import Compute, Extern, Node, Shape

MOST_COLUMNS = 64  # of a row; wider products are efficient by themselves


class Rows:
    """How a node fits the rows: what it is, and which of its accesses go along with the rows.

    Attributes:
        kind: "map", "columns" (a sum over the columns), "sum" (over the rows), "product", "gram"
            (a product that sums over the rows).
        columns: of a row.
        over: (access, its stride from row to row, its strides within a row, sizes of these) of all
            that is read; the second factor of a product isn't among them.
        fixed: the second factor of a product.
    """

    def __init__(
        self, kind: str, columns: int, over: list[Access], fixed: tuple[Read, ...] = ()
    ) -> None:
        self.kind, self.columns, self.over, self.fixed = kind, columns, over, fixed


@dataclass(frozen=True)
class Access:
    """An access of a node as one of rows.

    Attributes:
        read: the access.
        row: the stride from row to row.
        column: the stride within a row.
        columns: how many elements of a row it has.
    """

    read: Read
    row: int
    column: int
    columns: int

    @property
    def last(self) -> int:
        """The last element of the first row, counted from the start of the memory."""
        return self.read.offset + self.column * (self.columns - 1)


Member: TypeAlias = Compute | Extern


def access(read: Read, row: int, shape: Shape) -> Access:
    """Return an access over a shape one of whose dims is that of the rows."""
    rest = [(n, s) for d, (n, s) in enumerate(zip(shape, read.strides, strict=True)) if d != row]
    columns, column = rest[0] if rest else (1, 0)
    return Access(read, read.strides[row], column if columns > 1 else 0, columns)


# --- nodes of more dims --------------------------------------------------------------------------


def flat(node: Node, rows: int) -> Node:
    """Return a node with the dims that make up so many rows joined to one, and the others too.

    Where an access doesn't run through them, the node stays as it is.
    """
    if isinstance(node, Compute):
        return _flat_compute(node, rows) or node
    if isinstance(node, Extern) and type(node.call.op).__name__ == "Matmul":
        return _flat_matmul(node, rows) or node
    return node


def _leading(shape: Shape, rows: int) -> int | None:
    """Return how many dims it takes to make up so many rows."""
    return next((d for d in range(1, len(shape) + 1) if math.prod(shape[:d]) == rows), None)


def _joined(strides: Strides, shape: Shape) -> int | None:
    """Return the stride through dims that lie one within the other; None if they don't."""
    last: tuple[int, int] | None = None
    for n, s in zip(shape, strides, strict=True):
        if n != 1:
            if last is not None and last[1] != s * n:
                return None
            last = n, s
    return 0 if last is None else last[1]


def _flat_read(read: Any, shape: Shape, first: int) -> Any:
    """Return a leaf over rows and columns, or None."""
    row = _joined(read.strides[:first], shape[:first])
    column = _joined(read.strides[first:], shape[first:])
    if row is None or column is None:
        return None
    return replace(read, strides=(row, column)[: 1 + (first < len(shape))])


def _flat_compute(node: Compute, rows: int) -> Compute | None:
    shape = node.shape
    first = _leading(shape, rows)
    if first is None or (first == 1 and len(shape) <= 2):
        return None
    changed = {
        e: _flat_read(e, shape, first) for e in leaves(node.expr) if not isinstance(e, Const)
    }
    out = _flat_read(node.out, shape, first)
    groups = (range(first), range(first, len(shape)))
    reduced = []
    for i, dims in enumerate(groups):
        wide = [d for d in dims if shape[d] != 1]
        gone = [d for d in wide if d in node.reduced]
        if gone and gone != wide:
            return None
        reduced += [i] if gone else []
    if out is None or None in changed.values() or bool(reduced) != bool(node.how):
        return None
    expr = rewrite(node.expr, lambda e: changed.get(e, e))
    sizes = (rows, math.prod(shape[first:]))[: 1 + (first < len(shape))]
    return replace(node, out=out, shape=sizes, expr=expr, reduced=tuple(reduced))


def _flat_matmul(node: Extern, rows: int) -> Extern | None:
    (a, b), (c,), (a_shape, b_shape, c_shape) = node.inputs, node.outputs, node.shapes
    if len(a_shape) < 3 or len(b_shape) != 2 or math.prod(a_shape[:-1]) != rows:
        return None
    a, c = (_flat_read(x, s, len(s) - 1) for x, s in ((a, a_shape), (c, c_shape)))
    if a is None or c is None:
        return None
    shapes = ((rows, a_shape[-1]), b_shape, (rows, c_shape[-1]))
    return replace(node, inputs=(a, b), outputs=(c,), shapes=shapes)


# --- what a node does with rows ------------------------------------------------------------------


def rows_of(node: Node, rows: int) -> Rows | None:
    """Return how a node fits so many rows, or None if it doesn't."""
    if isinstance(node, Compute):
        return _compute(node, rows)
    if isinstance(node, Extern) and type(node.call.op).__name__ == "Matmul":
        return _matmul(node, rows)
    return None


def certain(node: Node, rows: int) -> Rows:
    """Return how a node that is known to fit does so."""
    fit = rows_of(node, rows)
    assert fit is not None
    return fit


def _compute(node: Compute, rows: int) -> Rows | None:
    shape = node.shape
    if len(shape) not in (1, 2) or shape[0] != rows or math.prod(shape[1:]) > MOST_COLUMNS:
        return None
    if (
        node.out.dtype.kind != "f"
        or node.expr.dtype != node.out.dtype
        or node.how not in ("", "sum")
    ):
        return None
    reads: list[Access] = []
    for leaf in leaves(node.expr):
        if isinstance(leaf, Index):
            return None
        if isinstance(leaf, Read):
            found = access(leaf, 0, shape)
            if found.row and leaf.dtype != node.out.dtype:
                return None
            reads.append(found)
    kind = "map" if not node.how else "sum" if 0 in node.reduced else "columns"
    return Rows(kind, math.prod(shape[1:]), reads)


def _matmul(node: Extern, rows: int) -> Rows | None:
    (a, b), (a_shape, b_shape, c_shape) = node.inputs, node.shapes
    if any(len(s) != 2 for s in node.shapes) or a.dtype.kind != "f":
        return None
    if a_shape[0] == rows and max(*b_shape) <= MOST_COLUMNS:
        return Rows("product", c_shape[1], [access(a, 0, a_shape)], (b,))
    if a_shape[1] == rows and max(*c_shape) <= MOST_COLUMNS:
        return Rows("gram", c_shape[1], [access(a, 1, a_shape), access(b, 0, b_shape)])
    return None
