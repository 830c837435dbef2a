"""What becomes simpler in a row tile: rows that are all equal, and sums of sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from ..op import Array, Spec
from .expr import Apply, Const, Expr, Index, Read, dense, rewrite
from .nodes import Compute, Extern, Lowered, Node, Shape
from .rows import Access, Member, Rows, certain

Constants: TypeAlias = Mapping[int, Array]

# --- rows that are all equal ---------------------------------------------------------------------


class Equal:
    """Values whose rows are all equal: one row of them is computed, before the tile.

    Args:
        lowered: the step; what is computed once is given memory in its `specs`.
        nodes: the tile's nodes.
        rows: how many rows.
        constants: values that are known.
    """

    def __init__(
        self, lowered: Lowered, nodes: Sequence[Member], rows: int, constants: Constants
    ) -> None:
        self.rows, self.specs = rows, lowered.specs
        self.alike = {  # constants whose rows are all equal, and the elements of one
            v: array.size // rows for v, array in constants.items() if _is_one_row(array, rows)
        }
        self.once: dict[int, int] = {}  # the value that holds the one row of another one
        self.ahead: list[Member] = []
        self.members: list[Member] = []
        fits = [certain(node, rows) for node in nodes]
        varied = _varied(nodes, fits, self.alike)
        for node, fit in zip(nodes, fits, strict=True):
            (out,) = node.writes()
            if out.value in varied or fit.kind in ("sum", "gram"):
                self.members.append(self._with_rows(node))
            else:
                self.ahead.append(self._alone(node))

    def _alone(self, node: Member) -> Member:
        """Return a node that computes one row."""
        (out,) = node.writes()
        if out.value not in self.once:
            spec = self.specs[out.value]
            self.once[out.value] = number = max(self.specs) + 1
            self.specs[number] = Spec((1, spec.size // self.rows), spec.dtype)
        node, out = self._with_rows(node), replace(out, value=self.once[out.value])
        if isinstance(node, Compute):
            return replace(node, out=out, shape=(1, *node.shape[1:]))
        (_, *a), b, (_, *c) = node.shapes
        return replace(node, outputs=(out,), shapes=((1, *a), b, (1, *c)))

    def _with_rows(self, node: Member) -> Member:
        """Return a node that reads the one row there is for all of its rows."""
        if isinstance(node, Compute):
            return replace(node, expr=rewrite(node.expr, self._leaf))
        a, b = node.inputs
        if node.shapes[0][0] == self.rows:
            return replace(node, inputs=(self._at_row(a, 0), b))
        return replace(node, inputs=(self._at_row(a, 1), self._at_row(b, 0)))

    def _leaf(self, leaf: Read | Index | Const) -> Expr:
        return self._at_row(leaf, 0) if isinstance(leaf, Read) else leaf

    def _at_row(self, read: Read, row: int) -> Read:
        """Return an access whose dim `row` is that of the rows, made to the one row there is."""
        if read.value not in self.once:
            pitch = self.alike.get(read.value)
            if pitch is None or read.strides[row] % pitch:
                return read
        strides = tuple(0 if d == row else s for d, s in enumerate(read.strides))
        return replace(read, value=self.once.get(read.value, read.value), strides=strides)


def _is_one_row(array: Array, rows: int) -> bool:
    """Tell whether an array consists of so many equal rows."""
    if array.ndim == 0 or array.shape[0] != rows:
        return False
    return bool((array == array[:1]).all())


def _moves(a: Access, alike: Mapping[int, int]) -> bool:
    """Tell whether an access goes along with the rows, to others than equal ones."""
    pitch = alike.get(a.read.value)
    return a.row != 0 if pitch is None else a.row % pitch != 0


def _varied(nodes: Sequence[Member], fits: Sequence[Rows], alike: Mapping[int, int]) -> set[int]:
    """Return the values of a tile that differ from row to row."""
    made = {w.value for node in nodes for w in node.writes()}
    varied: set[int] = set()
    before = -1
    while len(varied) != before:  # parts of a value may be written after others were read
        before = len(varied)
        for node, fit in zip(nodes, fits, strict=True):
            moving = (a.read.value for a in fit.over if _moves(a, alike))
            if any(v not in made or v in varied for v in moving):
                varied.update(w.value for w in node.writes())
    return varied


# --- sums of sums --------------------------------------------------------------------------------


class Joined:
    """Products over the rows that are only added up become one sum.

    A weight that is used several times has a gradient of several terms.

    Attributes:
        members: the tile's nodes.
        others: those that come after it, changed.
    """

    def __init__(
        self, lowered: Lowered, members: Sequence[Member], others: Sequence[Node], rows: int
    ) -> None:
        self.specs = lowered.specs
        self.members, self.others = list(members), list(others)
        uses = dict.fromkeys(outliving(lowered), 2)
        for node in (*members, *others):
            for v in _read_by(node):
                uses[v] = uses.get(v, 0) + 1
        self.terms = {  # the products, by what they write, that only one node reads
            node.outputs[0].value: i
            for i, node in enumerate(members)
            if isinstance(node, Extern)
            and node.shapes[0][1] == rows
            and uses.get(node.outputs[0].value) == 1
        }
        for i, node in enumerate(self.others):
            if isinstance(node, Compute) and any(r.value in self.terms for r in node.reads()):
                self.done: dict[int, Expr] = {}
                self.others[i] = replace(node, expr=self._visit(node.expr, node.shape))

    def _visit(self, e: Expr, shape: Shape) -> Expr:
        """Return an expression in which sums of products are one value each."""
        if id(e) not in self.done:
            if not isinstance(e, Apply):
                self.done[id(e)] = e
            elif e.name == "add":
                self.done[id(e)] = self._sum(e, shape)
            else:
                args = tuple(self._visit(a, shape) for a in e.args)
                self.done[id(e)] = replace(e, args=args)
        return self.done[id(e)]

    def _sum(self, e: Apply, shape: Shape) -> Expr:
        terms = list(_added(e))
        joined = [
            t
            for t in terms
            if isinstance(t, Read) and self._joins(t, shape) and terms.count(t) == 1
        ]
        if len(joined) < 2:
            return replace(e, args=tuple(self._visit(a, shape) for a in e.args))
        total: Expr = self._together(joined, shape)
        for t in terms:
            if t not in joined:
                total = Apply("add", (self._visit(t, shape), total), e.dtype)
        return total

    def _joins(self, term: Read, shape: Shape) -> bool:
        """Tell whether a term is a whole product over the rows."""
        if term.value not in self.terms:
            return False
        return len(shape) == 2 and term.strides in (dense(shape), dense(shape, (1, 0)))

    def _together(self, terms: Sequence[Read], shape: Shape) -> Read:
        """Let products add to one value; return its elements."""
        number = max(self.specs) + 1
        self.specs[number] = Spec(shape, terms[0].dtype)
        for t in terms:
            node = self.members[self.terms[t.value]]
            assert isinstance(node, Extern)
            as_read = t.strides == dense(shape)
            strides = dense(shape) if as_read else dense(shape)[::-1]
            out = Read(number, t.dtype, strides)
            self.members[self.terms[t.value]] = replace(node, outputs=(out,))
        return Read(number, terms[0].dtype, dense(shape))


def _read_by(node: Node) -> Iterator[int]:
    """Yield the values that a node reads, as often as it mentions them."""
    if not isinstance(node, Compute):
        yield from (r.value for r in node.reads())
        return
    seen: set[int] = set()
    stack: list[Expr] = [node.expr]
    while stack:
        e = stack.pop()
        if isinstance(e, Read):
            yield e.value
        elif isinstance(e, Apply) and id(e) not in seen:
            seen.add(id(e))
            stack.extend(e.args)


def _added(e: Expr) -> Iterator[Expr]:
    """Yield the terms of a sum."""
    if isinstance(e, Apply) and e.name == "add":
        for a in e.args:
            yield from _added(a)
    else:
        yield e


def outliving(lowered: Lowered) -> set[int]:
    """Return the values that are needed when all nodes are done."""
    return {*lowered.results, *(v for _, v in lowered.copies), *lowered.homes}
