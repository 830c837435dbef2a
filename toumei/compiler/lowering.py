"""Lowering: what every value of a graph is, in expressions, while nodes are collected.

Elementwise ops become expressions (see `expr`), and views other strides of the same expressions.
An expression is written to memory only where it must be: several readers share it, a kernel of its
own kind needs it, or it outlives the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeGuard

from ..op import Op, Spec, View
from .checks import known_before
from .expr import Apply, Const, Expr, Read, broadcast, dense, leaves, view
from .graph import Call, Graph
from .nodes import Compute, Extern, Lowered, Node, Shape
from .regions import Box, uncovered
from .scalar import Scalars

CHEAP = 4  # arithmetic that is rather done twice than stored, if it reads one large value
LONGEST = 64  # of an expression, in functions
_SLOWER = {"exp", "log", "tanh", "erf", "sin", "cos", "pow", "sigmoid", "gelu", "gelu_slope"}
_SLOW = {"add": 1, "sub": 1, "mul": 1, "neg": 1, "where": 1, "cast": 1, "max": 1, "min": 1}

Parts: TypeAlias = tuple[tuple[Box, Expr], ...]  # of a value: regions, and what is there


class Lowering:
    """A graph being lowered: `exprs` says what each value is so far.

    With `in_place`, ops with kernels of their own read values as they lie in memory.
    """

    def __init__(self, graph: Graph, in_place: bool = False) -> None:
        self.graph, self.in_place = graph, in_place
        self.specs = dict(graph.specs)
        self.exprs: dict[int, Expr] = {}
        self.nodes: list[Node] = []
        self.pending: dict[int, Assembly] = {}
        self.makers = {v: call for call in graph.calls for v in call.outputs}
        self.uses = {v: len(calls) for v, calls in graph.users().items()}
        for v in graph.wanted():
            self.uses[v] = self.uses.get(v, 0) + 1
        self.readers = _readers(graph)
        self.checked = known_before(graph)  # labels among these are in range
        self.homes: dict[int, int] = {}
        for state, v in graph.writes.items():
            self.homes.setdefault(v, state)
        self.scalars = Scalars()
        self.costs: dict[int, tuple[Expr, int]] = {}

    def run(self) -> Lowered:
        """Lower every call."""
        graph = self.graph
        for v in (*graph.inputs, *graph.states):
            self.exprs[v] = self.read(v)
        for v, array in graph.constants.items():
            same = array.size and (array == array.flat[0]).all()
            self.exprs[v] = Const(array.flat[0].item(), array.dtype) if same else self.read(v)
        for call in graph.calls:
            self._lower(call)
        results: list[int] = []
        for v in graph.results:
            results.append(self._result(v, results))
        return self._finished(tuple(results))

    def _lower(self, call: Call) -> None:
        rule = rule_of(call.op)
        found = rule(self, call) if rule is not None else None
        if found is None:
            if not any(v in self.exprs or v in self.pending for v in call.outputs):
                self.extern(call)
            return
        (v,) = call.outputs
        self.exprs[v] = found
        if not isinstance(found, Apply):
            return
        if (
            v in self.homes
            or self.cost(found) > LONGEST
            or (self.uses.get(v, 0) > 1 and not self._is_cheap(v))
        ):
            self.store(v)

    # --- what rules use ---

    def shape(self, v: int) -> Shape:
        """Return the shape of a value."""
        return self.specs[v].shape

    def expr(self, v: int) -> Expr:
        """Return what a value is."""
        if v in self.pending:
            self._assemble(v)
        return self.exprs[v]

    def read(self, v: int, order: Sequence[int] | None = None) -> Read:
        """Return the elements of a stored value, laid out with the dims in an order."""
        return Read(v, self.specs[v].dtype, dense(self.shape(v), order))

    def new(self, spec: Spec) -> int:
        """Return a value that the graph doesn't have."""
        number = len(self.specs)
        while number in self.specs:
            number += 1
        self.specs[number] = spec
        return number

    def spread(self, v: int, shape: Sequence[int]) -> Expr:
        """Return a value's elements broadcast to a shape; work is not done more often for it."""
        e = self.expr(v)
        if isinstance(e, Apply) and math.prod(shape) > self.specs[v].size:
            e = self.store(v)
        return broadcast(e, self.shape(v), shape)

    def cost(self, e: Expr) -> int:
        """Return roughly how much arithmetic an expression is."""
        if not isinstance(e, Apply):
            return 0
        if id(e) not in self.costs:
            own = _SLOW.get(e.name, 2)
            if e.name in _SLOWER:
                own = 8
            self.costs[id(e)] = (e, own + sum(map(self.cost, e.args)))
        return self.costs[id(e)][1]

    def _is_cheap(self, v: int) -> bool:
        """Tell whether a value is rather computed by each of its readers.

        A product's only reader is not: instead of the product, its kernel stores that.
        """
        e = self.exprs[v]
        if self.cost(e) > CHEAP:
            return False
        shape, size = self.shape(v), self.specs[v].size
        large = {
            (r.value, r.offset)
            for r in leaves(e)
            if isinstance(r, Read) and 4 * _spread_over(r, shape) > size
        }
        return len(large) <= 1 and not any(self._is_product(w, size) for w, _ in large)

    def _is_product(self, v: int, size: int) -> bool:
        """Tell whether a value of some size is a matrix product, of several columns, read once."""
        maker = self.makers.get(v)
        if maker is None or type(maker.op).__name__ != "Matmul" or self.shape(v)[-1] == 1:
            return False
        return self.readers[v] == 1 and self.specs[v].size == size

    def store(self, v: int, order: Sequence[int] | None = None) -> Read:
        """Give a value memory, if it has none, and return its elements there.

        Args:
            v: the value.
            order: of the dims in memory, from the outermost; by default that of what is read.
        """
        e = self.expr(v)
        if isinstance(e, Read) and (order is None or _lies(e, self.shape(v), order)):
            return e
        shape = self.shape(v)
        if v in self.graph.constants and order is None:
            return self.read(v)
        if v in self.homes and not isinstance(e, Read):
            out = self.read(v)
        elif isinstance(e, Read):
            out = self.read(self.new(self.specs[v]), order)
            out = Read(out.value, out.dtype, dense(shape, order))
        else:
            out = self.read(v, order if order is not None else order_of(e, shape))
        self.compute(out, shape, e, self.makers.get(v))
        self.exprs[v] = out
        return out

    def compute(
        self, out: Read, shape: Shape, e: Expr, call: Call | None,
        reduced: tuple[int, ...] = (), how: str = "", over: bool = False,
    ) -> None:  # fmt: skip
        """Note down that an expression is to be computed."""
        if math.prod(out_shape(shape, reduced)):
            self.nodes.append(Compute(out, shape, e, reduced, how, call, over))

    def extern(self, call: Call) -> None:
        """Leave an op to its own kernel, or to Python."""
        layout = LAYOUTS.get(type(call.op).__name__)
        orders = layout(self, call) if layout is not None else None
        wanted = orders[0] if orders and not self.in_place else [None] * len(call.inputs)
        inputs = tuple(self.store(v, o) for v, o in zip(call.inputs, wanted, strict=True))
        made = orders[1] if orders else [None] * len(call.outputs)
        outputs = tuple(self.read(v, o) for v, o in zip(call.outputs, made, strict=True))
        shapes = tuple(self.shape(v) for v in (*call.inputs, *call.outputs))
        self.nodes.append(Extern(call, inputs, outputs, shapes))
        self.exprs.update(zip(call.outputs, outputs, strict=True))

    # --- values put together from parts ---

    def assemble(self, v: int, base: Expr | None, parts: Sequence[tuple[Box, Expr]]) -> None:
        """Put a value together: regions of it, and what is around them."""
        self.pending[v] = Assembly(base, tuple(parts))

    def _assemble(self, v: int) -> None:
        assembly = self.pending.pop(v)
        shape, call = self.shape(v), self.makers[v]
        out = self.read(v, assembly.order(len(shape)))
        for box in uncovered(shape, [b for b, _ in assembly.parts]):
            assert assembly.base is not None, "parts don't cover the whole"
            inside = view(assembly.base, shape, box.of)
            self.compute(box.read(out), box.shape, inside, call)
        for box, e in assembly.parts:
            self.compute(box.read(out), box.shape, e, call)
        self.exprs[v] = out

    # --- the end ---

    def _result(self, v: int, others: Sequence[int]) -> int:
        """Return a value with memory of its own, laid out without gaps: what the caller gets."""
        e = self.expr(v)
        if self._is_made(e, v) and e.value not in others:
            return e.value
        if not isinstance(e, Read):
            if v not in self.homes and v not in self.graph.constants:
                return self.store(v, range(len(self.shape(v)))).value
            e = e if isinstance(e, Const) else self.store(v)
        number = self.new(self.specs[v])
        self.compute(self.read(number), self.shape(v), e, self.makers.get(v))
        return number

    def _is_whole(self, v: int, e: Expr) -> bool:
        """Tell whether a value is all of a stored one, and not just its beginning."""
        return (
            isinstance(e, Read) and e == self.read(e.value) and self.shape(v) == self.shape(e.value)
        )

    def _is_made(self, e: Expr, v: int) -> TypeGuard[Read]:
        """Tell whether a value is all of one that the step computes, in memory without gaps."""
        if not isinstance(e, Read) or not self._is_whole(v, e) or e.value in self.homes:
            return False
        graph = self.graph
        return e.value not in {*graph.inputs, *graph.states, *graph.constants}

    def _finished(self, results: tuple[int, ...]) -> Lowered:
        """Decide which new states are computed in place, and which have to be copied at the end."""
        homes: dict[int, int] = {}
        copies: list[tuple[int, int]] = []
        memories = {state: self._temporary(v) for state, v in self.graph.writes.items()}
        self._drop_unused({*results, *memories.values()})
        reads: dict[int, list[tuple[int, Read]]] = {}
        first: dict[int, int] = {}  # the node that writes a value first
        for i, node in enumerate(self.nodes):
            for r in node.reads():
                reads.setdefault(r.value, []).append((i, r))
            for w in node.writes():
                first.setdefault(w.value, i)
        for state, v in self.graph.writes.items():
            own = self.expr(v) == self.read(v) and self.homes[v] == state and v in first
            if own and self._is_free(first[v], reads.get(state, ())):
                homes[v] = state
            else:
                copies.append((state, memories[state]))
        return Lowered(tuple(self.nodes), self.specs, results, homes, tuple(copies))

    def _drop_unused(self, needed: set[int]) -> None:
        """Leave out the nodes whose numbers nobody reads: of some values only the shape counts."""
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if any(w.value in needed for w in node.writes()):
                needed.update(r.value for r in node.reads())
                kept.append(node)
        self.nodes = kept[::-1]

    def _is_free(self, node: int, reads: Iterable[tuple[int, Read]]) -> bool:
        """Tell whether a node may write a new state in the place of the old one, seeing its reads.

        Earlier nodes may read it, and so may the node itself, an element only for its successor.
        """
        maker = self.nodes[node]
        alike = isinstance(maker, Compute) and not maker.how
        (out,) = maker.writes() if alike else (None,)
        return all(
            i < node or (i == node and out is not None and _access(r) == _access(out))
            for i, r in reads
        )

    def _temporary(self, v: int) -> int:
        e = self.expr(v)
        if isinstance(e, Read) and self._is_whole(v, e) and e.value not in self.graph.states:
            return e.value
        number = self.new(self.specs[v])
        self.compute(self.read(number), self.shape(v), e, self.makers.get(v))
        return number


def _readers(graph: Graph) -> dict[int, int]:
    """Return how many calls read each value, or views of it, that aren't views themselves."""
    found = dict.fromkeys(graph.specs, 0)
    for v in graph.wanted():
        found[v] += 1
    for call in reversed(graph.calls):
        readers = found[call.outputs[0]] if isinstance(call.op, View) else 1
        for v in dict.fromkeys(call.inputs):
            found[v] += readers
    return found


def _access(r: Read) -> tuple[tuple[int, ...], int]:
    return r.strides, r.offset


def _spread_over(r: Read, shape: Shape) -> int:
    """Return how many different elements are read."""
    return math.prod(n for n, s in zip(shape, r.strides, strict=True) if s)


def _lies(e: Read, shape: Shape, order: Sequence[int]) -> bool:
    """Tell whether memory is without gaps, its dims in an order."""
    wanted = dense(shape, order)
    return all(s == w or n == 1 for s, w, n in zip(e.strides, wanted, shape, strict=True))


class Assembly:
    """A value that is put together: its regions, and the expression around them."""

    def __init__(self, base: Expr | None, parts: Parts) -> None:
        self.base, self.parts = base, parts

    def order(self, ndim: int) -> tuple[int, ...] | None:
        """Return the order of the dims in the largest part, if it has all of them."""
        if not self.parts:
            return None
        box, e = max(self.parts, key=lambda part: math.prod(part[0].sizes))
        return order_of(e, box.shape) if len(box.shape) == ndim else None


def out_shape(shape: Shape, reduced: Iterable[int]) -> Shape:
    """Return the shape without the reduced dims."""
    gone = set(reduced)
    return tuple(n for d, n in enumerate(shape) if d not in gone)


def order_of(e: Expr, shape: Shape) -> tuple[int, ...]:
    """Return the dims from the outermost to the innermost in the largest memory that is read."""
    natural = tuple(range(len(shape)))
    largest, best = 0, natural
    for leaf in leaves(e):
        if not isinstance(leaf, Read):
            continue
        size = math.prod(n for n, s in zip(shape, leaf.strides, strict=True) if s)
        if size > largest and all(s or n == 1 for n, s in zip(shape, leaf.strides, strict=True)):
            largest = size
            strides = [abs(s) if n > 1 else 0 for n, s in zip(shape, leaf.strides, strict=True)]
            best = _sorted(strides, shape)
    return best


def _sorted(strides: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """Return the dims by falling stride; those of size 1 stay beside their left neighbour."""
    keys: list[tuple[float, int]] = []
    last = math.inf
    for d, (n, s) in enumerate(zip(shape, strides, strict=True)):
        last = s if n > 1 else last
        keys.append((-last, d))
    return tuple(d for _, d in sorted(keys))


Rule: TypeAlias = Callable[[Lowering, Call], Expr | None]
RULES: dict[str, Rule] = {}
GENERAL: list[tuple[Callable[[Op], bool], Rule]] = []  # for ops without a rule of their own

# A layout says in which order the dims of inputs and outputs lie in memory (None: as it comes).
Layout: TypeAlias = Callable[[Lowering, Call], tuple[list[Any], list[Any]] | None]
LAYOUTS: dict[str, Layout] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register how ops of some names are lowered."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def layout(*names: str) -> Callable[[Layout], Layout]:
    """Register in which order the dims of some ops' inputs and outputs lie in memory."""

    def register(function: Layout) -> Layout:
        LAYOUTS.update(dict.fromkeys(names, function))
        return function

    return register


def rule_of(op: Op) -> Rule | None:
    """Return how an op is lowered; None: by a kernel of its own, or by NumPy."""
    named = RULES.get(type(op).__name__)
    return named or next((r for fits, r in GENERAL if fits(op)), None)
