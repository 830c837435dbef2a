"""The native executor: a graph as machine code, with an arena of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import OpIndexError
from ..op import Array, Spec, call_text
from . import externs
from .expr import Read
from .fuse import Kernel as Group
from .fuse import fuse
from .graph import Graph
from .hosting import Epilogue
from .llvm import loops
from .llvm.ir import Function
from .llvm.kernel import Kernel
from .llvm.program import Program, Step, build
from .llvm.target import Target, host
from .lower import lower
from .memory import Life, arrange
from .nest import forwarded, nest_of
from .nodes import Compute, Extern, Lowered, Shape


#: The value that stands for the numbers that say that an index is out of range.
FLAGS = -(10**6)


@dataclass
class Stage:
    """One kernel of the program, or one call of Python."""

    group: Group
    kernels: list[Kernel]
    buffers: tuple[tuple[int, int], ...]  # (whose memory, the byte) at which each begins
    call: Callable[[], None] | None = None


class Planner:
    """From a graph to stages: what is written, and what it is called with."""

    def __init__(self, lowered: Lowered, groups: Sequence[Group], target: Target) -> None:
        self.lowered, self.groups, self.target = lowered, groups, target
        self.known: dict[str, list[Kernel]] = {}
        self.functions: list[Function] = []
        self.homes = lowered.homes
        self.flagged: list[Extern] = []  # ops that may meet an index out of range
        self.works: list[int] = []  # bytes of the kernels' workspaces: values -1, -2 …
        self.stored = self._stored()

    def _stored(self) -> set[int]:
        """Return the values that need memory: somebody outside of their kernel reads them."""
        need = set(self.lowered.results) | set(self.homes) | {v for _, v in self.lowered.copies}
        made: dict[int, int] = {}
        for i, g in enumerate(self.groups):
            for n in g.nodes():
                for w in n.writes():
                    if made.setdefault(w.value, i) != i:
                        need.add(w.value)
        for i, g in enumerate(self.groups):
            if g.host is not None:
                need.update(r.value for r in g.host.node.reads())
                if not g.members:  # the kernel writes all of its results
                    need.update(w.value for w in g.host.node.writes())
            for n in g.nodes():
                need.update(r.value for r in n.reads() if made.get(r.value, i) != i)
        return need

    def stage(self, group: Group) -> Stage:
        """Return a kernel's functions and buffers."""
        if group.host is not None:
            return self._extern(group, group.host.node)
        nest, buffers = nest_of(group, self.stored, self.homes)
        if nest.rows is not None and not loops.is_straight(nest, self.target):
            late = self._needed_later(group, nest.statements)
            if late - self.stored:
                self.stored |= late
                nest, buffers = nest_of(group, self.stored, self.homes)
        kernels = self._once(nest.key(), lambda name: loops.emit(name, nest, self.target))
        size = max(k.workspace for k in kernels)
        return Stage(group, kernels, tuple((v, 0) for v in (*buffers, self.work(size))))

    def _needed_later(self, group: Group, statements: Sequence[Any]) -> set[int]:
        """Return values that a later stage of the same row reads."""
        out: set[int] = set()
        for s in statements:
            for n in forwarded(s.expr):
                if statements[n].kind == "each" and statements[n].stage < s.stage:
                    out.add(group.members[n].node.out.value)
        return out

    def _extern(self, group: Group, node: Extern) -> Stage:
        """Return the kernels of an op, with the members that take over its results."""
        found = externs.find(node, self.target)
        reads = (*node.inputs, *node.outputs)
        buffers = [(self._memory(r), r.offset * r.dtype.itemsize) for r in reads]
        if found is None or (group.members and not found.rows):
            assert not group.members, f"{node.call.op} hands nothing over"
            return Stage(group, [], tuple(buffers))
        buffers = [buffers[i] for i in found.buffers]
        buffers += [(self.work(size), 0) for size in found.workspaces]
        if found.flagged:
            buffers.append((FLAGS, 8 * len(self.flagged)))
            self.flagged.append(node)
        if not group.members:
            kernels = self._once(found.key, lambda name: found.write(name, None))
            return Stage(group, kernels, tuple(buffers))
        nest, more = nest_of(group, self.stored, self.homes)
        first = len(buffers)

        def write(name: str) -> list[Kernel]:
            statements = nest.statements
            epilogue = Epilogue(
                statements, nest.domain, group.lead, found.rows, first, self.target
            )
            return found.write(name, epilogue)

        kernels = self._once(f"{found.key}\n{nest.key()}\n{group.lead}", write)
        return Stage(group, kernels, (*buffers, *((v, 0) for v in more)))

    def work(self, size: int) -> int:
        """Return a value that stands for memory that one kernel needs for itself."""
        self.works.append(size)
        return -len(self.works)

    def _memory(self, r: Read) -> int:
        return self.homes.get(r.value, r.value)

    def _once(self, key: str, write: Callable[[str], list[Kernel]]) -> list[Kernel]:
        """Write a kernel, if there is none like it."""
        if key not in self.known:
            self.known[key] = write(f"kernel{len(self.known)}")
            self.functions += [k.function for k in self.known[key]]
        return self.known[key]


class Native:
    """A graph that runs as machine code.

    Args:
        graph: the step.
        target: the processor.
    """

    def __init__(self, graph: Graph, target: Target | None = None) -> None:
        self.target = target or host()
        self.graph = graph
        self.lowered = lower(graph)
        self.groups = fuse(self.lowered)
        planner = Planner(self.lowered, self.groups, self.target)
        self.stages = [planner.stage(g) for g in self.groups]
        self.stored, self.works = planner.stored, planner.works
        self.flagged = planner.flagged
        self._layout()
        self._program(planner)

    # --- memory ---

    def _size(self, value: int) -> int:
        if value < 0:
            return self.works[-1 - value]
        spec = self.lowered.specs[value]
        return max(1, spec.size) * spec.dtype.itemsize

    def _layout(self) -> None:
        """Give every value a place."""
        given = {*self.graph.inputs, *self.graph.states, *self.graph.constants}
        given |= set(self.lowered.results)
        self.outside = [v for v in (*self.graph.inputs, *self.graph.states, *self.lowered.results)]
        lives: dict[int, Life] = {}
        kept = {v for _, v in self.lowered.copies}
        for i, stage in enumerate(self.stages):
            for v, _ in stage.buffers:
                if v not in given and v != FLAGS and (v < 0 or v in self.stored):
                    first = lives[v].first if v in lives else i
                    lives[v] = Life(first, len(self.stages) if v in kept else i, self._size(v))
        self.places, self.arena_size = arrange(lives)
        raw = np.zeros(self.arena_size + 128, np.uint8)
        start = -raw.ctypes.data % 128
        self.arena = raw[start : start + self.arena_size]
        self.flags = np.zeros(max(1, len(self.flagged)), np.int64)
        self.constants = {v: np.ascontiguousarray(a) for v, a in self.graph.constants.items()}

    def _program(self, planner: Planner) -> None:
        """Put the steps together, and the table of their buffers."""
        steps: list[Step | Callable[[], None]] = []
        entries: list[int] = []  # addresses, where they are fixed
        moving: list[tuple[int, int]] = []  # (entry, value)
        base = self.arena.ctypes.data
        for i, stage in enumerate(self.stages):
            if not stage.kernels:
                steps.append(self._python(stage))
                continue
            first = len(entries)
            for v, offset in stage.buffers:
                if v == FLAGS:
                    entries.append(self.flags.ctypes.data + offset)
                elif v in self.places:
                    entries.append(base + self.places[v] + offset)
                elif v in self.constants:
                    entries.append(self.constants[v].ctypes.data + offset)
                elif v not in self.outside:  # a result that stays in registers
                    entries.append(0)
                else:
                    moving.append((len(entries), self.outside.index(v)))
                    entries.append(offset)
            for k in stage.kernels:
                steps.append(
                    Step(k.function.name, k.items, k.chunk, k.barrier, k.serial, k.scratch, first)
                )
        self.table = np.array(entries or [0], np.int64)
        self.moving = np.array([e for e, _ in moving], np.int64)
        self.sources = np.array([s for _, s in moving], np.int64)
        self.offsets = self.table[self.moving]
        self.program: Program = build(planner.functions, steps, target=self.target)

    def _python(self, stage: Stage) -> Callable[[], None]:
        """Return a call of an op's NumPy forward."""
        assert stage.group.host is not None
        node = stage.group.host.node

        def call() -> None:
            reads = (*node.inputs, *node.outputs)
            arrays = [self._array(r, s) for r, s in zip(reads, node.shapes, strict=True)]
            n = len(node.inputs)
            externs.forward(node, arrays[:n], arrays[n:])

        return call

    def _array(self, r: Read, shape: Shape) -> Array:
        """Return the elements of an access as an array."""
        v = self.lowered.homes.get(r.value, r.value)
        if v in self.places:
            flat = self.arena[self.places[v] : self.places[v] + self._size(v)].view(r.dtype)
        elif v in self.constants:
            flat = self.constants[v].reshape(-1)
        else:
            flat = self.current[self.outside.index(v)]
        return _strided(flat, r, shape)

    # --- running ---

    def run(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Return the results, after writing the states."""
        return self._run(arguments, states, self.program.run)

    def times(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[float]:
        """Do what `run` does, one kernel after the other; return the seconds of each stage."""
        taken: list[float] = []
        self._run(arguments, states, lambda table: taken.extend(self.program.times(table)))
        each = iter(taken)
        return [sum(next(each) for _ in s.kernels or (None,)) for s in self.stages]

    def _run(
        self, arguments: Sequence[Array], states: Sequence[Array], go: Callable[[Array], None]
    ) -> list[Array]:
        specs = self.lowered.specs
        given = [
            np.ascontiguousarray(a, specs[v].dtype)
            for v, a in zip(self.graph.inputs, arguments, strict=True)
        ]
        dense = [np.ascontiguousarray(s) for s in states]
        results = [np.empty(specs[v].shape, specs[v].dtype) for v in self.lowered.results]
        self.current = [*given, *dense, *results]
        addresses = np.array([a.__array_interface__["data"][0] for a in self.current], np.int64)
        self.table[self.moving] = addresses[self.sources] + self.offsets
        try:
            go(self.table)
            for state, value in self.lowered.copies:
                memory = self.current[self.outside.index(state)]
                spec = specs[value]
                np.copyto(memory, self._array(_whole(value, spec), spec.shape))
            for mine, theirs in zip(dense, states, strict=True):
                if mine is not theirs:
                    np.copyto(theirs, mine)
        finally:
            self.current = []
        if self.flagged and self.flags.any():
            self._refuse()
        return results

    def _refuse(self) -> None:
        """Raise what an op says about its indices; the step has run, with other ones."""
        node = self.flagged[int(np.flatnonzero(self.flags)[0])]
        self.flags[:] = 0
        inputs = [Spec(s, r.dtype) for s, r in zip(node.shapes, node.inputs, strict=False)]
        raise OpIndexError(
            f"{call_text(node.call.op, inputs)}: an index is out of range; it was computed in a "
            "compiled step, which has run to its end with the nearest index that is in range"
        )


def _whole(value: int, spec: Any) -> Read:
    from .expr import dense

    return Read(value, spec.dtype, dense(spec.shape))


def _strided(memory: Array, r: Read, shape: Shape) -> Array:
    """Return the elements of an access to an array's memory."""
    address = memory.__array_interface__["data"][0] + r.offset * r.dtype.itemsize
    strides = tuple(s * r.dtype.itemsize for s in r.strides)
    holder = _Memory(memory, address, shape, r.dtype, strides)
    return np.asarray(holder)


class _Memory:
    """Memory that NumPy is to see with other strides."""

    def __init__(
        self, owner: Array, address: int = 0, shape: Shape = (), dtype: Any = None,
        strides: Shape = (),
    ) -> None:  # fmt: skip
        self.owner = owner
        self.__array_interface__ = {
            "data": (address, False), "shape": shape, "typestr": np.dtype(dtype).str,
            "strides": strides, "version": 3,
        }  # fmt: skip
