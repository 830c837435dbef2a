"""From a graph of ops to nodes: what has to be computed, element by element.

Elementwise ops become expressions (see `expr`), and views other strides of the same expressions.  An
expression is written to memory only where it must be: several readers share it, a kernel of its own
kind needs it, or it outlives the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ..op import REGISTRY, Elementwise, Op, Reduction, Spec, View
from .expr import Apply, Const, Expr, Index, Read, broadcast, dense, leaves, reshape, view
from .graph import Call, Graph
from .nodes import Compute, Extern, Lowered, Node, Shape
from .regions import Box, box_of, uncovered
from .scalar import Scalars

CHEAP = 4  # arithmetic that is rather done twice than stored, if it reads one large value
LONGEST = 64  # of an expression, in functions
_SLOW = {"add": 1, "sub": 1, "mul": 1, "neg": 1, "where": 1, "cast": 1, "max": 1, "min": 1}


class Lowering:
    """A graph being lowered: `exprs` says what each value is so far."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.specs = dict(graph.specs)
        self.exprs: dict[int, Expr] = {}
        self.nodes: list[Node] = []
        self.pending: dict[int, Assembly] = {}
        self.makers = {v: call for call in graph.calls for v in call.outputs}
        self.uses = {v: len(calls) for v, calls in graph.users().items()}
        for v in graph.wanted():
            self.uses[v] = self.uses.get(v, 0) + 1
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
        results = tuple(self._result(v) for v in graph.results)
        return self._finished(results)

    def _lower(self, call: Call) -> None:
        rule = _rule(call.op)
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
            if e.name in ("exp", "log", "tanh", "erf", "sin", "cos", "pow", "sigmoid"):
                own = 8
            self.costs[id(e)] = (e, own + sum(map(self.cost, e.args)))
        return self.costs[id(e)][1]

    def _is_cheap(self, v: int) -> bool:
        """Tell whether a value is rather computed by each of its readers."""
        e = self.exprs[v]
        if self.cost(e) > CHEAP:
            return False
        shape, size = self.shape(v), self.specs[v].size
        large = {
            (r.value, r.offset)
            for r in leaves(e)
            if isinstance(r, Read) and 4 * _spread_over(r, shape) > size
        }
        return len(large) <= 1

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
        wanted = orders[0] if orders else [None] * len(call.inputs)
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
        box, first = max(assembly.parts, key=lambda part: math.prod(part[0].sizes))
        in_order = len(box.shape) == len(shape)
        out = self.read(v, order_of(first, box.shape) if in_order else None)
        for box in uncovered(shape, [b for b, _ in assembly.parts]):
            assert assembly.base is not None, "parts don't cover the whole"
            inside = view(assembly.base, shape, box.of)
            self.compute(box.read(out), box.shape, inside, call)
        for box, e in assembly.parts:
            self.compute(box.read(out), box.shape, e, call)
        self.exprs[v] = out

    # --- the end ---

    def _result(self, v: int) -> int:
        """Return a value with memory of its own, laid out without gaps: what the caller gets."""
        e = self.expr(v)
        if not isinstance(e, Read):
            if v not in self.homes and v not in self.graph.constants:
                return self.store(v, range(len(self.shape(v)))).value
            e = e if isinstance(e, Const) else self.store(v)
        number = self.new(self.specs[v])
        self.compute(self.read(number), self.shape(v), e, self.makers.get(v))
        return number

    def _finished(self, results: tuple[int, ...]) -> Lowered:
        """Decide which new states are computed in place, and which have to be copied at the end."""
        homes: dict[int, int] = {}
        copies: list[tuple[int, int]] = []
        reads: dict[int, int] = {}  # the last node that reads a value
        for i, node in enumerate(self.nodes):
            reads.update((r.value, i) for r in node.reads())
        made = {w.value: i for i, node in enumerate(self.nodes) for w in node.writes()}
        for state, v in self.graph.writes.items():
            e = self.expr(v)
            own = e == self.read(v)
            if own and self.homes[v] == state and v in made and reads.get(state, -1) <= made[v]:
                homes[v] = state
                continue
            copies.append((state, self._temporary(v)))
        return Lowered(tuple(self.nodes), self.specs, results, homes, tuple(copies))

    def _temporary(self, v: int) -> int:
        e = self.expr(v)
        if isinstance(e, Read) and e == self.read(e.value) and e.value not in self.graph.states:
            return e.value
        number = self.new(self.specs[v])
        self.compute(self.read(number), self.shape(v), e, self.makers.get(v))
        return number


def _spread_over(r: Read, shape: Shape) -> int:
    """Return how many different elements are read."""
    return math.prod(n for n, s in zip(shape, r.strides, strict=True) if s)


def _lies(e: Read, shape: Shape, order: Sequence[int]) -> bool:
    """Tell whether memory is without gaps, its dims in an order."""
    wanted = dense(shape, order)
    return all(s == w or n == 1 for s, w, n in zip(e.strides, wanted, shape, strict=True))


class Assembly:
    """A value that is put together: its regions, and the expression around them."""

    def __init__(self, base: Expr | None, parts: tuple[tuple[Box, Expr], ...]) -> None:
        self.base, self.parts = base, parts


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


def _rule(op: Op) -> Rule | None:
    named = RULES.get(type(op).__name__)
    if named is not None:
        return named
    if isinstance(op, Elementwise) and hasattr(op, "lower"):
        return elementwise
    return viewed if isinstance(op, View) else None


def elementwise(low: Lowering, call: Call) -> Expr | None:
    """An elementwise op: its own `lower`, on its inputs broadcast."""
    shape = low.shape(call.outputs[0])
    args = [low.spread(v, shape) for v in call.inputs]
    out: Expr | None = call.op.lower(low.scalars, *args)  # type: ignore[attr-defined]
    return None if out is None else low.scalars.cast(out, low.specs[call.outputs[0]].dtype)


def viewed(low: Lowering, call: Call) -> Expr:
    """A view: other strides."""
    v = call.inputs[0]
    if math.prod(low.shape(call.outputs[0])) > low.specs[v].size and isinstance(low.expr(v), Apply):
        low.store(v)
    return view(low.expr(v), low.shape(v), lambda a: call.op.forward(np, a))


@rule("Reshape")
def reshaped(low: Lowering, call: Call) -> Expr:
    """Another shape: other strides, or those of a dense copy."""
    v = call.inputs[0]
    to = low.shape(call.outputs[0])
    if not math.prod(to):
        return Const(0, low.specs[v].dtype)
    found = reshape(low.expr(v), low.shape(v), to)
    if found is None:
        found = reshape(low.store(v, range(len(low.shape(v)))), low.shape(v), to)
        assert found is not None
    return found


@rule("Clone")
def clone(low: Lowering, call: Call) -> Expr:
    """A copy: values never change, so it is the value itself."""
    return low.expr(call.inputs[0])


@rule("Cast")
def cast(low: Lowering, call: Call) -> Expr:
    """Another dtype."""
    return low.scalars.cast(low.expr(call.inputs[0]), low.specs[call.outputs[0]].dtype)


@rule("Copy")
def copy(low: Lowering, call: Call) -> Expr:
    """x's shape and dtype, the source's numbers."""
    out = low.specs[call.outputs[0]]
    return low.scalars.cast(low.spread(call.inputs[1], out.shape), out.dtype)


_HOW = {"Sum": "sum", "Prod": "prod", "Amax": "max", "Amin": "min", "Any_": "any", "All": "all"}


@rule(*_HOW)
def reduction(low: Lowering, call: Call) -> Expr | None:
    """A reduction: a node of its own, or several, from the innermost dims outwards."""
    v, (out,) = call.inputs[0], call.outputs
    assert isinstance(call.op, Reduction)
    how, shape, e = _HOW[type(call.op).__name__], low.shape(v), low.expr(v)
    spec = low.specs[out]
    dims = sorted({d % len(shape) for d in call.op.dim if shape})
    if how in ("any", "all"):
        e = low.scalars.cast(e, np.dtype(bool))
        if spec.dtype != bool:
            return None
    if e.dtype != spec.dtype:
        e = low.scalars.cast(e, spec.dtype)
    order = order_of(e, shape)
    runs = _runs([d for d in order if shape[d] != 1], set(dims))
    if not runs:
        kept = reshape(e, shape, spec.shape)
        assert kept is not None
        return kept
    for run in runs[:-1]:
        part = tuple(1 if d in run else n for d, n in enumerate(shape))
        e = _reduced(low, call, low.new(Spec(part, spec.dtype)), shape, e, run, how, part)
        shape = part
    return _reduced(low, call, out, shape, e, runs[-1], how, spec.shape)


def _runs(order: Sequence[int], dims: set[int]) -> list[list[int]]:
    """Return the reduced dims in groups that lie side by side, the innermost first.

    >>> _runs((0, 1, 2, 3), {0, 2, 3}), _runs((0, 2, 3, 1), {0, 2, 3})
    ([[3, 2], [0]], [[3, 2, 0]])
    """
    runs: list[list[int]] = []
    last = False
    for d in reversed(order):
        if d in dims:
            if last:
                runs[-1].append(d)
            else:
                runs.append([d])
        last = d in dims
    return runs


_NOTHING = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf, "any": 0, "all": 1}


def _reduced(
    low: Lowering, call: Call, out: int, shape: Shape, e: Expr, run: Sequence[int], how: str,
    to: Shape,
) -> Expr:  # fmt: skip
    """Combine along some dims into a value of the shape `to`, and return its elements."""
    kept = tuple(0 if d in run else n for d, n in enumerate(shape))
    sizes = tuple(1 if d in run else n for d, n in enumerate(shape))
    strides = tuple(0 if not k else s for k, s in zip(kept, dense(sizes), strict=True))
    memory = Read(out, low.specs[out].dtype, strides)
    if math.prod(shape) == 0:
        return Const(_NOTHING[how], low.specs[out].dtype)
    low.compute(memory, shape, e, call, tuple(sorted(run)), how)
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
    chosen = _is_class_of(low, call, target, shape)
    return b.where(chosen, _with_classes(low, g, shape), 0)


@rule("PickClass")
def pick_class(low: Lowering, call: Call) -> Expr:
    """The number of the class named by each label: a sum in which one class counts."""
    x, target = call.inputs
    shape, (out,) = low.shape(x), call.outputs
    axis = min(1, len(shape) - 1)
    b = low.scalars
    chosen = b.where(_is_class_of(low, call, target, shape), low.expr(x), 0)
    return _reduced(low, call, out, shape, chosen, [axis], "sum", low.shape(out))


def _is_class_of(low: Lowering, call: Call, target: int, shape: Shape) -> Expr:
    """Return whether each class is that of the label, and the label counts."""
    axis, ignored = min(1, len(shape) - 1), call.op.ignore_index  # type: ignore[attr-defined]
    b = low.scalars
    number = Index(tuple(int(d == axis) for d in range(len(shape))))
    label = b.cast(_with_classes(low, target, shape), number.dtype)
    same = b.eq(number, label)
    return b.apply("and", same, b.ne(label, ignored)) if 0 <= ignored < shape[axis] else same


@rule("OneHot")
def one_hot(low: Lowering, call: Call) -> Expr:
    """1 where the class is the label's, else 0."""
    (target,), (out,) = call.inputs, call.outputs
    shape = low.shape(out)
    number = Index((*[0] * (len(shape) - 1), 1))
    label = low.spread(target, low.shape(target))
    one = reshape(label, low.shape(target), (*low.shape(target), 1))
    assert one is not None
    b = low.scalars
    there = broadcast(b.cast(one, number.dtype), (*low.shape(target), 1), shape)
    return b.cast(b.eq(number, there), low.specs[out].dtype)


def _with_classes(low: Lowering, v: int, shape: Shape) -> Expr:
    """Return a value per position as one per position and class."""
    one = (*low.shape(v)[:1], 1, *low.shape(v)[1:]) if len(shape) > 1 else (1,)
    if isinstance(low.expr(v), Apply):
        low.store(v)
    found = reshape(low.expr(v), low.shape(v), one)
    assert found is not None
    return broadcast(found, one, shape)


@rule("ViewScatter")
def view_scatter(low: Lowering, call: Call) -> Expr | None:
    """A value with a region of it replaced."""
    base, new = call.inputs
    (out,) = call.outputs
    shape = low.shape(out)
    take: Callable[[Any], Any] = lambda a: call.op.view.forward(np, a)  # type: ignore[attr-defined]  # noqa: E731
    box = box_of(shape, take)
    fresh = low.scalars.cast(low.expr(new), low.specs[out].dtype)
    if box is None:
        return _overwritten(low, call, fresh, take)
    before = low.pending.get(base) if low.uses.get(base, 0) == 1 else None
    if before is not None:
        del low.pending[base]
        over = [(b, e) for b, e in before.parts if not b.overlaps(box)]
        if len(over) == len(before.parts):
            low.assemble(out, before.base, (*over, (box, fresh)))
            return None
        low.pending[base] = before
    low.assemble(out, low.expr(base), [(box, fresh)])
    return None


def _overwritten(low: Lowering, call: Call, fresh: Expr, take: Callable[[Any], Any]) -> Expr:
    """A value with some elements replaced that don't make up a box: first all, then these."""
    base, new = call.inputs
    (out,) = call.outputs
    e = low.expr(base)
    shape, inner = low.shape(out), low.shape(new)
    order = order_of(fresh, inner) if len(inner) == len(shape) else order_of(e, shape)
    memory = low.read(out, order)
    low.compute(memory, shape, e, call)
    part = view(memory, shape, take)
    assert isinstance(part, Read)
    low.compute(part, inner, fresh, call, over=True)
    return memory


@rule("Cat")
def cat(low: Lowering, call: Call) -> Expr | None:
    """Values side by side."""
    (out,) = call.outputs
    dim: int = call.op.dim  # type: ignore[attr-defined]
    parts: list[tuple[Box, Expr]] = []
    at = 0
    for v in call.inputs:
        shape = low.shape(v)
        start = tuple(at if d == dim else 0 for d in range(len(shape)))
        at += shape[dim]
        if math.prod(shape):
            parts.append((Box(start, shape, shape, tuple(range(len(shape)))), low.expr(v)))
    low.assemble(out, None, parts)
    return None


@rule("Pad", "ConstantPad")
def pad(low: Lowering, call: Call) -> Expr | None:
    """A value with a number around it; where the padding is negative, without its border."""
    (v,), (out,) = call.inputs, call.outputs
    pads = _pads(call.op, len(low.shape(v)))
    shape, e, dtype = low.shape(v), low.expr(v), low.specs[out].dtype
    inner = tuple(
        slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(shape, pads, strict=True)
    )
    e = view(e, shape, lambda a: a[inner])
    sizes = tuple(s.stop - s.start for s in inner)
    start = tuple(max(lo, 0) for lo, _ in pads)
    if sizes == low.shape(out):
        return e
    around = Const(np.asarray(call.op.value).astype(dtype).item(), dtype)  # type: ignore[attr-defined]
    parts = [(Box(start, sizes, sizes, tuple(range(len(sizes)))), e)] if math.prod(sizes) else []
    low.assemble(out, around, parts)
    return None


def _pads(op: Any, ndim: int) -> list[tuple[int, int]]:
    if hasattr(op, "pads"):
        return [(0, 0)] * (ndim - len(op.pads)) + [tuple(p) for p in op.pads]
    return list(zip(op.before, op.after, strict=True))


@rule("Matmul")
def matmul(low: Lowering, call: Call) -> Expr | None:
    """A matrix product: its second factor needs neighbours along its rows or columns."""
    for v, both in zip(call.inputs, (False, True), strict=True):
        e = low.store(v)
        shape, strides = low.shape(v), e.strides
        if both and not any(
            s == 1 or n == 1 for n, s in zip(shape[-2:], strides[-2:], strict=True)
        ):
            low.store(v, range(len(shape)))
    low.extern(call)
    return None


def channels_last(shape: Shape) -> tuple[int, ...]:
    """Return the dims of images with the channels innermost."""
    return (0, *range(2, len(shape)), 1)


@layout("Convolution", "ConvolutionInputGrad", "ConvolutionWeightGrad")
def convolution(low: Lowering, call: Call) -> tuple[list[Any], list[Any]]:
    """Images have their channels innermost; weights are as they come."""
    name = type(call.op).__name__
    shapes = [low.shape(v) for v in (*call.inputs, *call.outputs)]
    orders: list[Any] = [channels_last(s) for s in shapes]
    weight = {"Convolution": 1, "ConvolutionInputGrad": 1, "ConvolutionWeightGrad": 2}[name]
    orders[weight] = None if weight == 1 else tuple(range(len(shapes[2])))
    return orders[:2], orders[2:]


@rule("BiasedConvolution")
def biased_convolution(low: Lowering, call: Call) -> Expr:
    """A convolution, then the sum with one number per channel."""
    x, w, bias = call.inputs
    (out,) = call.outputs
    shape = low.shape(out)
    plain = low.new(low.specs[out])
    op = REGISTRY["Convolution"](*(getattr(call.op, f) for f in call.op.fields))
    low.extern(replace(call, op=op, inputs=(x, w), outputs=(plain,)))
    ones = (1,) * (len(shape) - 2)
    each = reshape(low.store(bias), low.shape(bias), (*low.shape(bias), *ones))
    assert each is not None
    spread = broadcast(each, (*low.shape(bias), *ones), shape)
    return low.scalars.apply("add", low.expr(plain), spread)


def lower(graph: Graph) -> Lowered:
    """Return a graph as nodes."""
    return Lowering(graph).run()
