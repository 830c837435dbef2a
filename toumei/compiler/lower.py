"""From a graph of ops to nodes: what has to be computed, element by element.

Values that are cheap or read once stay expressions, inlined where they are used; views are other
strides of the same expressions.  What remains are nodes:

    Point    an expression for every element
    Reduce   an expression combined along some dimensions
    Part     an expression for a region of a value (concatenation, padding)
    Extern   an op with a kernel of its own (matrix products, convolutions …) or none (Python)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..op import Elementwise, Op, Reduction, Spec, View
from .expr import Apply, Const, Expr, Index, Read, broadcast, dense, leaves, reshape, view
from .graph import Call, Graph
from .scalar import Scalars

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Point:
    """A value whose every element is an expression."""

    value: int
    shape: Shape
    expr: Expr
    call: Call


@dataclass(frozen=True)
class Reduce:
    """A value that combines an expression along some dimensions of its index space."""

    value: int
    shape: Shape  # of the expression
    dims: tuple[int, ...]
    how: str  # "sum", "prod", "max", "min", "any", "all"
    expr: Expr
    call: Call


@dataclass(frozen=True)
class Part:
    """A region of a value, at an offset and with the strides of the whole."""

    value: int
    shape: Shape
    strides: Shape
    offset: int
    expr: Expr
    call: Call


@dataclass(frozen=True)
class Extern:
    """An op on stored values."""

    call: Call
    inputs: tuple[Read, ...]
    shapes: tuple[Shape, ...]


Node: TypeAlias = Point | Reduce | Part | Extern


@dataclass(frozen=True)
class Lowered:
    """A step as nodes.

    Attributes:
        nodes: in order.
        specs: of the values that have memory, by number.
        results: the value whose memory each result is.
        writes: by state, the value that its memory ends as.
    """

    nodes: tuple[Node, ...]
    specs: dict[int, Spec]
    results: tuple[int, ...]
    writes: dict[int, int]


class Lowering:
    """A graph being lowered: `exprs` says what each value is so far."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.specs = dict(graph.specs)
        self.exprs: dict[int, Expr] = {}
        self.nodes: list[Node] = []
        self.stored: set[int] = set()
        self.uses = {v: len(calls) for v, calls in graph.users().items()}
        for v in graph.wanted():
            self.uses[v] = self.uses.get(v, 0) + 1
        self.scalars = Scalars()

    def run(self) -> Lowered:
        """Lower every call."""
        for v in (*self.graph.inputs, *self.graph.states):
            self.exprs[v] = self.read(v)
        for v, array in self.graph.constants.items():
            self.exprs[v] = self.read(v)
            if array.size and (array == array.flat[0]).all():
                self.exprs[v] = Const(array.flat[0].item(), array.dtype)
        for call in self.graph.calls:
            self._lower(call)
        results = tuple(self._own(v, i) for i, v in enumerate(self.graph.results))
        writes = {s: self._own(v, s) for s, v in self.graph.writes.items()}
        return Lowered(tuple(self.nodes), self.specs, results, writes)

    def _lower(self, call: Call) -> None:
        rule = _rule(call.op)
        found = rule(self, call) if rule is not None else None
        if found is None:
            self.extern(call)
            return
        (v,) = call.outputs
        self.exprs[v] = found
        if self.uses.get(v, 0) > 1 and self._is_work(found):
            self.store(v, call)

    # --- what rules use ---

    def shape(self, v: int) -> Shape:
        """Return the shape of a value."""
        return self.specs[v].shape

    def read(self, v: int) -> Read:
        """Return the elements of a stored value."""
        return Read(v, self.specs[v].dtype, dense(self.shape(v)))

    def spread(self, v: int, shape: Sequence[int]) -> Expr:
        """Return a value's elements broadcast to a shape; work is not done more often for it."""
        grows = int(np.prod(shape)) > self.specs[v].size
        if grows and self._is_work(self.exprs[v]):
            self.store(v)
        return broadcast(self.exprs[v], self.shape(v), shape)

    def store(self, v: int, call: Call | None = None) -> Read:
        """Give a value memory, if it has none, and return its elements there."""
        e = self.exprs[v]
        if isinstance(e, Read):
            return e
        maker = call or next(c for c in self.graph.calls if v in c.outputs)
        self.nodes.append(Point(v, self.shape(v), e, maker))
        self.stored.add(v)
        self.exprs[v] = self.read(v)
        return self.read(v)

    def extern(self, call: Call) -> None:
        """Leave an op to its own kernel, or to Python."""
        reads = tuple(self._memory(v, call) for v in call.inputs)
        self.nodes.append(Extern(call, reads, tuple(self.shape(v) for v in call.inputs)))
        for v in call.outputs:
            self.stored.add(v)
            self.exprs[v] = self.read(v)

    def _memory(self, v: int, call: Call) -> Read:
        e = self.exprs[v]
        return e if isinstance(e, Read) else self.store(v)

    @staticmethod
    def _is_work(e: Expr) -> bool:
        """Tell whether an expression computes anything that is worth keeping."""
        return isinstance(e, Apply)

    def _own(self, v: int, place: int) -> int:
        """Return a stored value that is v and nothing else: what outlives the step."""
        e = self.exprs[v]
        if not isinstance(e, Read) and v not in self.stored:
            self.store(v)
            return v
        if isinstance(e, Read) and e.value in self.stored and e == self.read(e.value):
            if self.specs[e.value].shape == self.shape(v) and e.value not in self._owned:
                self._owned.add(e.value)
                return e.value
        number = len(self.specs)
        while number in self.specs:
            number += 1
        self.specs[number] = self.specs[v]
        maker = next((c for c in self.graph.calls if v in c.outputs), None)
        self.nodes.append(Point(number, self.shape(v), e, maker))  # type: ignore[arg-type]
        self.stored.add(number)
        return number

    _owned: set[int] = set()


Rule: TypeAlias = Callable[[Lowering, Call], Expr | None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register how ops of some names are lowered."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _rule(op: Op) -> Rule | None:
    named = RULES.get(type(op).__name__)
    if named is not None:
        return named
    if isinstance(op, Elementwise) and hasattr(op, "lower"):
        return elementwise
    return viewed if isinstance(op, View) else None


def elementwise(low: Lowering, call: Call) -> Expr:
    """An elementwise op: its own `lower`, on its inputs broadcast."""
    shape = low.shape(call.outputs[0])
    args = [low.spread(v, shape) for v in call.inputs]
    out: Expr = call.op.lower(low.scalars, *args)  # type: ignore[attr-defined]
    return low.scalars.cast(out, low.specs[call.outputs[0]].dtype)


def viewed(low: Lowering, call: Call) -> Expr:
    """A view: other strides."""
    v = call.inputs[0]
    return view(low.exprs[v], low.shape(v), lambda a: call.op.forward(np, a))


@rule("Reshape")
def reshaped(low: Lowering, call: Call) -> Expr:
    """Another shape: other strides, or those of a dense copy."""
    v = call.inputs[0]
    to = low.shape(call.outputs[0])
    found = reshape(low.exprs[v], low.shape(v), to)
    if found is None:
        found = reshape(_densely(low, v, call), low.shape(v), to)
        assert found is not None
    return found


def _densely(low: Lowering, v: int, call: Call) -> Read:
    """Return a value's elements in dense memory of its own."""
    e = low.exprs[v]
    if isinstance(e, Read) and e.strides == dense(low.shape(v)):
        return e
    number = max(low.specs) + 1
    low.specs[number] = low.specs[v]
    low.nodes.append(Point(number, low.shape(v), e, call))
    low.stored.add(number)
    return low.read(number)


@rule("Cast")
def cast(low: Lowering, call: Call) -> Expr:
    """Another dtype."""
    return low.scalars.cast(low.exprs[call.inputs[0]], low.specs[call.outputs[0]].dtype)


@rule("Copy")
def copy(low: Lowering, call: Call) -> Expr:
    """x's shape and dtype, the source's numbers."""
    out = low.specs[call.outputs[0]]
    return low.scalars.cast(low.spread(call.inputs[1], out.shape), out.dtype)


_HOW = {"Sum": "sum", "Prod": "prod", "Amax": "max", "Amin": "min", "Any_": "any", "All": "all"}


@rule(*_HOW)
def reduction(low: Lowering, call: Call) -> Expr:
    """A reduction: a node of its own."""
    v, out = call.inputs[0], call.outputs[0]
    assert isinstance(call.op, Reduction)
    dims = tuple(sorted(d % max(1, len(low.shape(v))) for d in call.op.dim)) if low.shape(v) else ()
    how = _HOW[type(call.op).__name__]
    low.nodes.append(Reduce(out, low.shape(v), dims, how, low.exprs[v], call))
    low.stored.add(out)
    return low.read(out)


@rule("MaskedFill")
def masked_fill(low: Lowering, call: Call) -> Expr:
    """where(mask, value, x)"""
    shape = low.shape(call.outputs[0])
    x, mask, value = (low.spread(v, shape) for v in call.inputs)
    return low.scalars.where(mask, low.scalars.cast(value, x.dtype), x)


@rule("PlaceClass")
def place_class(low: Lowering, call: Call) -> Expr:
    """g where the class is the label's, else 0."""
    g, target = call.inputs
    shape = low.shape(call.outputs[0])
    b = low.scalars
    strides = tuple(int(d == 1 or len(shape) == 1) for d in range(len(shape)))
    same = b.eq(Index(strides), b.cast(_with_classes(low, target, shape), np.dtype(np.int64)))
    value = _with_classes(low, g, shape)
    ignored = b.eq(_with_classes(low, target, shape), call.op.ignore_index)  # type: ignore[attr-defined]
    return b.where(ignored, 0.0, b.where(same, value, 0.0))


def _with_classes(low: Lowering, v: int, shape: Shape) -> Expr:
    """Return a value per position as one per position and class."""
    one = (*low.shape(v)[:1], 1, *low.shape(v)[1:]) if len(shape) > 1 else (1,)
    found = reshape(low.exprs[v], low.shape(v), one)
    assert found is not None
    return broadcast(found, one, shape)


def lower(graph: Graph) -> Lowered:
    """Return a graph as nodes."""
    return Lowering(graph).run()


__all__ = ["Extern", "Lowered", "Node", "Part", "Point", "Reduce", "leaves", "lower"]
