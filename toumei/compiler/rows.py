"""Nodes as seen by a row tile: what each does with the rows that it goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from .expr import Index, Read, leaves
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
