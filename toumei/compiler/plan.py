"""A plan: all about a compiled step but its machine code, as plain data that a file can hold.

The planner takes kernels in order, lets each one's functions be written (once for all kernels that
do the same), and gives every value a place in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..op import Spec, call_text
from . import externs
from .expr import Read, dense
from .fuse import Kernel as Group
from .graph import Graph
from .hosting import Epilogue
from .llvm import loops, rowtile
from .llvm.ir import Function
from .llvm.kernel import Kernel
from .llvm.target import Target
from .lower import lower
from .memory import Life, arrange
from .nest import Statement, forwarded, nest_of
from .nodes import Extern, Lowered, Shape, Tile
from .rowplan import plan_rows
from .tiles import tiled

ARENA, FLAGS, CONSTANT, GIVEN, NOWHERE = "arena", "flags", "constant", "given", "nowhere"


class Place(NamedTuple):
    """Where memory is.

    Args:
        space: "arena", "flags" (numbers that say that an index was out of range), "constant" (of
            the graph), "given" (an argument, state or result of the call), "nowhere".
        number: which constant or given array.
        byte: from its start.
    """

    space: str
    number: int
    byte: int


class View(NamedTuple):
    """An array in memory: strides in bytes."""

    place: Place
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Launch(NamedTuple):
    """A kernel that is run: see llvm/program.Step."""

    function: str
    items: int
    chunk: int
    barrier: bool
    serial: bool
    scratch: int
    first: int


class Fallback(NamedTuple):
    """An op that runs its NumPy forward: its number among the graph's calls, and its arrays."""

    call: int
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]


@dataclass
class Plan:
    """A step, ready to be loaded.

    Attributes:
        steps: kernels and fallbacks, in order.
        table: the kernels' buffers.
        arena: bytes of memory.
        results: shape and dtype of each result.
        copies: (which given array, the view in the arena) to be copied at the end.
        flagged: for each flag the op that raises it.
        early: the states that are written before the last fallback, which may raise.
    """

    steps: list[Launch | Fallback] = field(default_factory=list)
    table: list[Place] = field(default_factory=list)
    arena: int = 0
    results: list[tuple[tuple[int, ...], str]] = field(default_factory=list)
    copies: list[tuple[int, View]] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)
    early: list[int] = field(default_factory=list)

    def to_json(self) -> str:
        """Write the plan as text."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` has written."""
        data = json.loads(text)
        return cls(
            [_step(s) for s in data["steps"]],
            [Place(*p) for p in data["table"]],
            data["arena"],
            [(tuple(shape), dtype) for shape, dtype in data["results"]],
            [(i, _view(v)) for i, v in data["copies"]],
            data["flagged"],
            data["early"],
        )


def _step(data: list[Any]) -> Launch | Fallback:
    if isinstance(data[0], str):
        return Launch(*data)
    call, inputs, outputs = data
    return Fallback(call, tuple(map(_view, inputs)), tuple(map(_view, outputs)))


def _view(data: list[Any]) -> View:
    place, shape, strides, dtype = data
    return View(Place(*place), tuple(shape), tuple(strides), dtype)


# --- stages --------------------------------------------------------------------------------------


class Buffer(NamedTuple):
    """A buffer of a kernel: whose memory it is, the byte where it begins, whether it is written.

    Values below zero are memory that one kernel needs for itself; FLAG stands for the flags.
    """

    value: int
    byte: int
    written: bool


FLAG = -(10**6)


@dataclass
class Stage:
    """One kernel of the step with its functions; without any, a call of Python."""

    group: Group
    kernels: list[Kernel]
    buffers: tuple[Buffer, ...]


class Planner:
    """From a graph to a plan, and to the functions that it runs.

    Args:
        graph: the step.
        fuse: how its nodes are put together.
        target: the processor.
        exact: whether convolutions are sums of products, and not Winograd's.
        lower: how it becomes nodes.
    """

    def __init__(
        self,
        graph: Graph,
        fuse: Callable[[Lowered], list[Group]],
        target: Target,
        exact: bool = False,
        lower: Callable[[Graph], Lowered] = lower,
    ) -> None:
        self.graph, self.target, self.exact = graph, target, exact
        self.lowered = tiled(lower(graph), graph.constants)
        self.groups = fuse(self.lowered)
        self.homes = self.lowered.homes
        self.functions: list[Function] = []
        self.known: dict[str, list[Kernel]] = {}
        self.works: list[int] = []  # bytes of the kernels' own memory: values -1, -2 …
        self.plan = Plan()
        self.stored = _stored(self.lowered, self.groups)
        self.given = [*graph.inputs, *graph.states, *self.lowered.results]
        self.stages = [self._stage(g) for g in self.groups]
        self._lay_out()
        self._fill()

    # --- functions ---

    def _stage(self, group: Group) -> Stage:
        """Return a kernel's functions and buffers."""
        if group.host is not None:
            node = group.host.node
            return self._tile(group, node) if isinstance(node, Tile) else self._extern(group, node)
        nest, memory = nest_of(group, self.stored, self.homes)
        if nest.rows is not None and not loops.is_straight(nest, self.target):
            late = _needed_later(group, nest.statements)
            if late - self.stored:
                self.stored |= late
                nest, memory = nest_of(group, self.stored, self.homes)
        kernels = self._once(nest.key(), lambda name: loops.emit(name, nest, self.target))
        buffers = self._buffers(group, memory)
        return Stage(group, kernels, (*buffers, self._work(max(k.workspace for k in kernels))))

    def _tile(self, group: Group, node: Tile) -> Stage:
        """Return the kernels of a row tile."""
        rows, memory = plan_rows(node, self.lowered)
        kernels = self._once(repr(rows), lambda name: rowtile.emit(name, rows, self.target))
        work = self._work(max(k.workspace for k in kernels))
        return Stage(group, kernels, (*self._buffers(group, memory), work))

    def _extern(self, group: Group, node: Extern) -> Stage:
        """Return the kernels of an op, with the members that take over its results."""
        found = externs.find(node, self.target, self.exact)
        arrays = [
            Buffer(
                self.homes.get(r.value, r.value), r.offset * r.dtype.itemsize, i >= len(node.inputs)
            )
            for i, r in enumerate((*node.inputs, *node.outputs))
        ]
        if found is None:
            assert not group.members, f"{node.call.op} hands nothing over"
            return Stage(group, [], tuple(arrays))
        buffers = [arrays[i] for i in found.buffers]
        buffers += [self._work(size) for size in found.workspaces]
        if found.flagged:
            buffers.append(Buffer(FLAG, 8 * len(self.plan.flagged), False))
            self.plan.flagged.append(_text(node))
        if not group.members:
            kernels = self._once(found.key, lambda name: found.write(name, None))
            return Stage(group, kernels, tuple(buffers))
        nest, memory = nest_of(group, self.stored, self.homes)
        first, lead = len(buffers), group.lead

        def write(name: str) -> list[Kernel]:
            epilogue = Epilogue(nest.statements, nest.domain, lead, found.rows, first, self.target)
            return found.write(name, epilogue)

        kernels = self._once(f"{found.key}\n{nest.key()}\n{lead}", write)
        return Stage(group, kernels, (*buffers, *self._buffers(group, memory)))

    def _buffers(self, group: Group, memory: Sequence[int]) -> list[Buffer]:
        """Return the buffers of what a kernel's members read and write."""
        written = {self.homes.get(w.value, w.value) for n in group.nodes() for w in n.writes()}
        return [Buffer(v, 0, v in written) for v in memory]

    def _work(self, size: int) -> Buffer:
        """Return memory that one kernel needs for itself."""
        self.works.append(size)
        return Buffer(-len(self.works), 0, True)

    def _once(self, key: str, write: Callable[[str], list[Kernel]]) -> list[Kernel]:
        """Let kernels be written, unless there are some that do the same."""
        if key not in self.known:
            self.known[key] = write(f"kernel{len(self.known)}")
            self.functions += [k.function for k in self.known[key]]
        return self.known[key]

    # --- memory ---

    def _size(self, value: int) -> int:
        if value < 0:
            return self.works[-1 - value]
        spec = self.lowered.specs[value]
        return max(1, spec.size) * spec.dtype.itemsize

    def _lay_out(self) -> None:
        """Give every value that has memory a place in the arena."""
        outside = {*self.given, *self.graph.constants, FLAG}
        kept = {v for _, v in self.lowered.copies}
        lives: dict[int, Life] = {}
        for i, stage in enumerate(self.stages):
            for v, _, _ in stage.buffers:
                if v not in outside and (v < 0 or v in self.stored):
                    first = lives[v].first if v in lives else i
                    lives[v] = Life(first, len(self.stages) if v in kept else i, self._size(v))
        self.places, self.plan.arena = arrange(lives)
        self.numbers = {v: i for i, v in enumerate(self.given)}

    def _place(self, value: int, byte: int) -> Place:
        if value == FLAG:
            return Place(FLAGS, 0, byte)
        if value in self.places:
            return Place(ARENA, 0, self.places[value] + byte)
        if value in self.graph.constants:
            return Place(CONSTANT, value, byte)
        if value in self.numbers:
            return Place(GIVEN, self.numbers[value], byte)
        return Place(NOWHERE, 0, 0)  # a result that stays in registers

    def _view(self, r: Read, shape: Shape) -> View:
        size = r.dtype.itemsize
        place = self._place(self.homes.get(r.value, r.value), r.offset * size)
        return View(place, shape, tuple(s * size for s in r.strides), r.dtype.name)

    # --- the plan ---

    def _fill(self) -> None:
        """Write down the steps and their buffers."""
        plan, specs = self.plan, self.lowered.specs
        barriers = Barriers()
        for stage in self.stages:
            spans = list(self._spans(stage))
            if not stage.kernels:
                barriers.clear()
                plan.steps.append(self._fallback(stage))
                continue
            waits = barriers.needed(spans)
            first = len(plan.table)
            plan.table += [self._place(v, byte) for v, byte, _ in stage.buffers]
            for i, k in enumerate(stage.kernels):
                waits = waits if i == 0 else k.barrier
                name = k.function.name
                plan.steps.append(Launch(name, k.items, k.chunk, waits, k.serial, k.scratch, first))
        plan.results = [(specs[v].shape, specs[v].dtype.name) for v in self.lowered.results]
        plan.early = self._early()
        for state, v in self.lowered.copies:
            whole = Read(v, specs[v].dtype, dense(specs[v].shape))
            plan.copies.append((self.numbers[state], self._view(whole, specs[v].shape)))

    def _early(self) -> list[int]:
        """Return the states that are written before the last fallback."""
        last = max((i for i, s in enumerate(self.stages) if not s.kernels), default=0)
        written = {b.value for s in self.stages[:last] for b in s.buffers if b.written}
        return [i for i, v in enumerate(self.graph.states) if v in written]

    def _fallback(self, stage: Stage) -> Fallback:
        assert stage.group.host is not None
        node = stage.group.host.node
        assert isinstance(node, Extern)
        views = [
            self._view(r, s)
            for r, s in zip((*node.inputs, *node.outputs), node.shapes, strict=True)
        ]
        number = next((i for i, c in enumerate(self.graph.calls) if c is node.call), -1)
        n = len(node.inputs)
        return Fallback(number, tuple(views[:n]), tuple(views[n:]))

    def _spans(self, stage: Stage) -> Iterator[Span]:
        """Yield the memory that a stage touches."""
        for v, _, written in stage.buffers:
            if v in self.places:
                start = self.places[v]
                yield Span(-1, start, start + self._size(v), written)
            elif v in self.numbers:
                yield Span(v, 0, 1, written)


def _stored(lowered: Lowered, groups: Sequence[Group]) -> set[int]:
    """Return the values that need memory: somebody outside of their kernel reads them."""
    need = set(lowered.results) | set(lowered.homes) | {v for _, v in lowered.copies}
    made: dict[int, int] = {}
    for i, g in enumerate(groups):
        for n in g.nodes():
            need.update(w.value for w in n.writes() if made.setdefault(w.value, i) != i)
    for i, g in enumerate(groups):
        if g.host is not None:
            need.update(r.value for r in g.host.node.reads())
            if not g.members:  # the kernel writes all of its results
                need.update(w.value for w in g.host.node.writes())
        for n in g.nodes():
            need.update(r.value for r in n.reads() if made.get(r.value, i) != i)
    return need


def _needed_later(group: Group, statements: Sequence[Statement]) -> set[int]:
    """Return values that a later stage of the same row reads."""
    out: set[int] = set()
    for s in statements:
        for n in forwarded(s.expr):
            if statements[n].kind == "each" and statements[n].stage < s.stage:
                out.add(group.members[n].node.out.value)
    return out


def _text(node: Extern) -> str:
    """Write an op with its arguments."""
    inputs = [Spec(s, r.dtype) for s, r in zip(node.shapes, node.inputs, strict=False)]
    return call_text(node.call.op, inputs)


class Span(NamedTuple):
    """Memory that a kernel touches: whose it is (-1: the arena's), from where to where."""

    owner: int
    start: int
    end: int
    written: bool


class Barriers:
    """Tells which kernels must wait for the ones before them."""

    def __init__(self) -> None:
        self.touched: list[Span] = []  # since the last barrier

    def clear(self) -> None:
        """Note that everything so far has ended."""
        self.touched = []

    def needed(self, spans: Sequence[Span]) -> bool:
        """Return whether a kernel touches what one since the last barrier writes, or writes …"""
        waits = any(
            a.owner == b.owner and a.start < b.end and b.start < a.end and (a.written or b.written)
            for a in spans
            for b in self.touched
        )
        self.touched = list(spans) if waits else [*self.touched, *spans]
        return waits
