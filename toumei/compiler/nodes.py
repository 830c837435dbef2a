"""A step as nodes: what has to be computed, and where in memory it goes.

    Compute   an expression for every index of a shape, stored or combined along some dims
    Extern    an op with a kernel of its own (matrix products, convolutions …) or none (Python)
    Tile      nodes over the same rows, computed together for a few rows at a time

Every node names the memory that it writes: a Read, strides over the shape that it runs through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from ..op import Spec
from .expr import Expr, Read, leaves
from .graph import Call

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Compute:
    """An expression over an index space.

    Attributes:
        out: the elements that are written; along reduced dims the stride is 0.
        shape: the sizes of the index space.
        expr: what is computed at each index.
        reduced: dims along which it is combined.
        how: "sum", "prod", "max", "min", "any", "all"; "" where nothing is combined.
        call: the op that asked for it; None: what the step was given is copied.
        over: whether it replaces what an earlier node has written.
    """

    out: Read
    shape: Shape
    expr: Expr
    reduced: tuple[int, ...]
    how: str
    call: Call | None
    over: bool = False

    @cached_property
    def _reads(self) -> tuple[Read, ...]:
        return tuple(e for e in leaves(self.expr) if isinstance(e, Read))

    def reads(self) -> Iterator[Read]:
        """Yield what is read."""
        return iter(self._reads)

    def writes(self) -> tuple[Read, ...]:
        """Return what is written."""
        return (self.out,)


@dataclass(frozen=True)
class Extern:
    """An op on stored values.

    Attributes:
        call: the op.
        inputs, outputs: the memory of its arguments and results.
        shapes: of the inputs, then of the outputs.
    """

    call: Call
    inputs: tuple[Read, ...]
    outputs: tuple[Read, ...]
    shapes: tuple[Shape, ...]

    def reads(self) -> Iterator[Read]:
        """Yield what is read."""
        return iter(self.inputs)

    def writes(self) -> tuple[Read, ...]:
        """Return what is written."""
        return self.outputs


@dataclass(frozen=True)
class Tile:
    """Nodes over the same rows, none of which needs more of another one than its own row.

    Several products may add to one value: what is written for it is their sum.

    Attributes:
        call: the op that did the first of its products.
        rows: how many there are.
        members: the nodes, in order.
        inputs: what they read from outside.
        outputs: what others read: values with an element or several per row, and sums over rows.
    """

    call: Call
    rows: int
    members: tuple[Compute | Extern, ...]
    inputs: tuple[Read, ...]
    outputs: tuple[Read, ...]

    def reads(self) -> Iterator[Read]:
        """Yield what is read."""
        return iter(self.inputs)

    def writes(self) -> tuple[Read, ...]:
        """Return what is written."""
        return self.outputs


Node: TypeAlias = Compute | Extern | Tile


@dataclass(frozen=True)
class Lowered:
    """A step as nodes.

    Attributes:
        nodes: in order.
        specs: shape and dtype of every value that has memory.
        results: for each result the value whose memory it is.
        homes: values that are computed right where a state's memory is.
        copies: (state, value) pairs to be copied when all else is done.
    """

    nodes: tuple[Node, ...]
    specs: dict[int, Spec]
    results: tuple[int, ...]
    homes: dict[int, int]
    copies: tuple[tuple[int, int], ...]
