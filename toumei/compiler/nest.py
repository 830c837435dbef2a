"""A kernel as plain data: statements over the axes of an index space, with local names.

Two kernels that do the same to different memory are the same Nest, and share their machine code:
memory is named by its place in the list of the kernel's buffers, and what a statement computes by
the statement's number, as Read(-1 - number).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .axes import Sizes
from .expr import Apply, Const, Expr, Index, Read, leaves, rewrite
from .fuse import Host, Kernel, Member, Placed
from .fuse import segment as segment_of


@dataclass(frozen=True)
class Statement:
    """What is computed at each index.

    Attributes:
        expr: over the axes of the kernel.
        kind: "each" index; once per "row"; combined along the row ("by row"), along columns ("by
            column") or along "all" axes.
        how: it is combined: "sum" …
        out: where it is stored; None: nowhere.
        stage: of those that a row is gone through in; of a "row" statement: the one before it.
    """

    expr: Expr
    kind: str
    how: str
    out: Read | None
    stage: int


@dataclass(frozen=True)
class Nest:
    """Statements over an index space.

    Attributes:
        domain: sizes of the axes, outermost first.
        rows: the first axis of a row; None where nothing is combined by row.
        columns: the axes (from, to) that "by column" combines along.
        statements: in order.
        buffers: how many there are.
    """

    domain: Sizes
    rows: int | None
    columns: tuple[int, int] | None
    statements: tuple[Statement, ...]
    buffers: int

    def key(self) -> str:
        """Return a text that is equal only for kernels that do the same."""
        lines = [f"{self.domain} {self.rows} {self.columns}"]
        names: dict[int, str] = {}
        known: dict[str, str] = {}
        for s in self.statements:
            name = _write(s.expr, lines, names, known)
            lines.append(f"{s.kind} {s.how} {s.stage} {_leaf(s.out) if s.out else '-'} {name}")
        return "\n".join(lines)


def _write(e: Expr, lines: list[str], names: dict[int, str], known: dict[str, str]) -> str:
    """Write an expression as lines, what is shared once; return its name."""
    if id(e) not in names:
        if isinstance(e, Apply):
            args = " ".join(_write(a, lines, names, known) for a in e.args)
            text = f"{e.name} {e.dtype} {args}"
        else:
            text = _leaf(e)
        if text not in known:
            known[text] = f"e{len(known)}"
            lines.append(f"{known[text]} = {text}")
        names[id(e)] = known[text]
    return names[id(e)]


def _leaf(e: Read | Index | Const) -> str:
    if isinstance(e, Const):
        return f"{e.value!r} {e.dtype}"
    if isinstance(e, Index):
        return f"index {e.strides} {e.offset} {e.dtype}"
    return f"read {e.value} {e.strides} {e.offset} {e.dtype}"


#: The number that stands for the host's result in statements: Read(RESULT).
RESULT = -(10**6)


class Names:
    """The local names of a kernel's memory."""

    def __init__(self, kernel: Kernel, homes: Mapping[int, int]) -> None:
        self.homes = homes
        self.statements = {m.node.out.value: i for i, m in enumerate(kernel.members)}
        host = kernel.host
        self.results = {w.value for w in host.node.outputs} if host is not None else set()
        self.places: dict[int, int] = {}  # buffers, by whose memory it is

    def buffer(self, value: int) -> int:
        """Return the number of the buffer that holds a value."""
        memory = self.homes.get(value, value)
        return self.places.setdefault(memory, len(self.places))

    def leaf(self, placed: Placed, leaf: Read | Index | Const) -> Expr:
        """Return a leaf along the kernel's axes, with local names."""
        if isinstance(leaf, Const):
            return leaf
        strides = placed.mapping.strides(leaf.strides)
        if isinstance(leaf, Index):
            return Index(strides, leaf.offset, leaf.dtype)
        if leaf.value in self.results:
            return Read(RESULT, leaf.dtype, (), 0)
        number = self.statements.get(leaf.value)
        if number is not None:
            return Read(-1 - number, leaf.dtype, (), 0)
        return Read(self.buffer(leaf.value), leaf.dtype, strides, leaf.offset)


def nest_of(kernel: Kernel, stored: set[int], homes: Mapping[int, int]) -> tuple[Nest, Sizes]:
    """Return a kernel as a Nest, and whose memory its buffers are.

    Args:
        kernel: what is computed together.
        stored: values that somebody else reads.
        homes: values whose memory is that of another value.
    """
    names = Names(kernel, homes)
    statements: list[Statement] = []
    for m in kernel.members:
        statements.append(_statement(kernel, m, names, stored, statements))
    if kernel.host is not None:
        statements += _results(kernel.host, names, stored)
    nest = Nest(kernel.domain, kernel.rows, kernel.columns, tuple(statements), len(names.places))
    return nest, tuple(names.places)


def _results(host: Host, names: Names, stored: set[int]) -> list[Statement]:
    """Return the statements that store an op's own results, where somebody else reads them."""
    found = [host.over(w) for w in host.node.outputs if w.value in stored]
    return [
        Statement(
            Read(RESULT, w.dtype, (), 0), "each", "", replace(w, value=names.buffer(w.value)), 0
        )
        for w in found
    ]


def _statement(
    kernel: Kernel, m: Member, names: Names, stored: set[int], before: list[Statement]
) -> Statement:
    e = rewrite(m.node.expr, lambda leaf: names.leaf(m, leaf))
    kind = _kind(kernel, m)
    out = m.over(m.node.out)
    place = None
    stage = _stage(kind, e, before)
    if out.value in stored:
        place = replace(out, value=names.buffer(out.value))
        if out.value in names.homes:
            stage = max(stage, _turn(kind, place.value, before))
    return Statement(e, kind, m.node.how, place, stage)


def _kind(kernel: Kernel, m: Member) -> str:
    if not m.node.how:
        return "row" if kernel.is_row_level(m) else "each"
    found = segment_of(m.axes(), kernel.domain)
    if found == (0, len(kernel.domain)):
        return "all"
    assert found is not None
    return "by row" if found[1] == len(kernel.domain) else "by column"


def forwarded(e: Expr) -> Iterator[int]:
    """Yield the numbers of the statements that an expression takes over."""
    for leaf in leaves(e):
        if isinstance(leaf, Read) and RESULT < leaf.value < 0:
            yield -1 - leaf.value


def _stage(kind: str, e: Expr, before: list[Statement]) -> int:
    """Return when a statement's turn is: after the rows that it needs have been combined."""
    stage = -1 if kind == "row" else 0
    for n in forwarded(e):
        s = before[n]
        late = s.stage if s.kind == "each" or (kind == "row") else s.stage + 1
        stage = max(stage, late)
    return stage


def _turn(kind: str, buffer: int, before: list[Statement]) -> int:
    """Return when a buffer may be written: when the earlier statements have read what was there."""
    return max(
        (
            s.stage + (s.kind == "row" and kind != "row")
            for s in before
            if any(isinstance(leaf, Read) and leaf.value == buffer for leaf in leaves(s.expr))
        ),
        default=-1,
    )
