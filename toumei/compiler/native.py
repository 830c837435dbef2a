"""The native executor: a graph as machine code, with memory of its own.

What is built once is kept on disk: the plan and the machine code, under a digest of the graph, the
compiler and the processor.  The next process that traces the same step only loads them.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OpIndexError
from ..op import Array
from . import externs, tuning
from .checks import told
from .fuse import fuse
from .graph import Call, Graph, once
from .llvm import cache
from .llvm.ir import module
from .llvm.program import Program, Step
from .llvm.rowtile_shape import second_cache
from .llvm.runtime import aligned
from .llvm.target import Target, host
from .lower import lower
from .plan import (
    ARENA,
    CONSTANT,
    FLAGS,
    GIVEN,
    NOWHERE,
    Fallback,
    Launch,
    Place,
    Plan,
    Planner,
    View,
)
from .tiles import tiled

PATIENCE = 1.0  # seconds after which a message says what takes so long


class Native:
    """A graph that runs as machine code.

    Args:
        graph: the step.
        target: the processor; None: this one.
        kept: whether to look for it on disk, and to keep it there.
        exact: whether convolutions are plain sums of products, never Winograd's.
        tune: time some ways to compute each matrix product first, unless that is known.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target | None = None,
        *,
        kept: bool = True,
        exact: bool = False,
        tune: bool = False,
    ) -> None:
        self.target = target or host()
        self.graph, self.exact = graph, exact
        self.planner: Planner | None = None  # how it was built, if it was
        if tune:
            tuning.tune(externs.products(tiled(lower(graph), graph.constants)), self.target)
        key = digest(graph, self.target, exact) if kept else ""
        found = load_plan(key) if kept else None
        if found is None:
            with _patience(graph):
                self.plan, library = self._build(key)
        else:
            self.plan = found
            library = cache.library(self._text, function_names(found), key, self.target)
        self._place_memory()
        steps = [Step(*s) if isinstance(s, Launch) else self._python(s) for s in self.plan.steps]
        self.program = Program(library, steps)

    # --- building ---

    @property
    def built(self) -> Planner:
        """How the step was planned: its nodes, kernels, functions; not known if it was loaded."""
        assert self.planner is not None, "it was loaded from the cache: build it with kept=False"
        return self.planner

    def _build(self, key: str) -> tuple[Plan, Any]:
        """Plan the step and compile it."""
        self.planner = Planner(self.graph, fuse, self.target, self.exact)
        plan = self.planner.plan
        known = all(s.call >= 0 for s in plan.steps if isinstance(s, Fallback))
        names = function_names(plan)
        if not key or not known:
            return plan, cache.library(self._text, names, None, self.target)
        library = cache.library(self._text, names, key, self.target)
        save_plan(key, plan)
        return plan, library

    def _text(self) -> str:
        """Write the IR of all kernels."""
        if self.planner is None:  # the code is gone from the cache, but the plan isn't
            self.planner = Planner(self.graph, fuse, self.target, self.exact)
        return module(self.planner.functions)

    # --- memory ---

    def _place_memory(self) -> None:
        """Make the arena, and the table of the kernels' buffers."""
        plan = self.plan
        self.flags = np.zeros(max(1, len(plan.flagged)), np.int64)
        self.constants: dict[int, Array] = {}  # those that the plan reads
        spaces = {FLAGS: self.flags.ctypes.data}
        fixed = [
            _address(self._constant(p.number)) if p.space == CONSTANT else spaces.get(p.space, 0)
            for p in plan.table
        ]
        self.table = np.array(fixed or [0], np.int64) + ([p.byte for p in plan.table] or 0)
        moving = [(i, p.number) for i, p in enumerate(plan.table) if p.space == GIVEN]
        self.entries = np.array([i for i, _ in moving], np.int64)
        self.sources = np.array([s for _, s in moving], np.int64)
        self.offsets = self.table[self.entries]
        inner = [i for i, p in enumerate(plan.table) if p.space == ARENA]
        self.inner = np.array(inner, np.int64)  # entries in the arena, and where in it they are
        self.inner_offsets = self.table[self.inner]
        self.base = 0  # where the arena was at the last call
        count = len(self.graph.inputs) + len(self.graph.states) + len(plan.results)
        self.addresses = np.zeros(count, np.int64)
        self.current: list[Array] = []
        self.seen: list[Array | None] = [None] * len(self.graph.states)  # the states, last time
        self.results = [(shape, np.dtype(dtype)) for shape, dtype in plan.results]
        self.input_dtypes = [self.graph.specs[v].dtype for v in self.graph.inputs]

    def _constant(self, number: int) -> Array:
        """Return a constant's elements, laid out without gaps."""
        if number not in self.constants:
            self.constants[number] = np.ascontiguousarray(self.graph.constants[number])
        return self.constants[number]

    def _array(self, view: View) -> Array:
        """Return a view's elements."""
        place = view.place
        owners: dict[str, Callable[[], Array]] = {
            ARENA: lambda: _arena.memory,
            CONSTANT: lambda: self._constant(place.number),
            GIVEN: lambda: self.current[place.number],
            NOWHERE: lambda: np.empty(view.shape, view.dtype),  # it has no elements
        }
        return np.asarray(_Memory(owners[place.space](), view))

    def _python(self, step: Fallback) -> Callable[[], None]:
        """Return a call of an op's NumPy forward."""
        assert self.planner is not None or step.call >= 0
        call = self._call(step)

        def run(*inputs: Array) -> None:
            externs.forward(call.op, inputs, [self._array(v) for v in step.outputs])

        return lambda: told(call, run, [self._array(v) for v in step.inputs])

    def _call(self, step: Fallback) -> Call:
        if step.call >= 0:
            return self.graph.calls[step.call]
        assert self.planner is not None
        stage = self.planner.stages[_stage_of(self.planner, self.plan, step)]
        assert stage.group.host is not None
        return stage.group.host.node.call

    # --- running ---

    def run(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Return the results, after writing the states."""
        return self._run(arguments, states, self.program.run)

    def times(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[float]:
        """Do what `run` does, one kernel after the other; return the seconds of each stage."""
        taken: list[float] = []
        self._run(arguments, states, lambda table: taken.extend(self.program.times(table)))
        each = iter(taken)
        return [sum(next(each) for _ in s.kernels or (None,)) for s in self.built.stages]

    def _run(
        self, arguments: Sequence[Array], states: Sequence[Array], go: Callable[[Array], None]
    ) -> list[Array]:
        given = [
            np.ascontiguousarray(a, dtype)
            for a, dtype in zip(arguments, self.input_dtypes, strict=True)
        ]
        dense = [s if s.flags.c_contiguous else np.ascontiguousarray(s) for s in states]
        for i in self.plan.early:
            dense[i] = np.array(states[i], order="C")
        results = [np.empty(shape, dtype) for shape, dtype in self.results]
        self._point(given, dense, results)
        self.current = [*given, *dense, *results]
        try:
            go(self.table)
            for state, view in self.plan.copies:
                np.copyto(self.current[state], self._array(view))
            for mine, theirs in zip(dense, states, strict=True):
                if mine is not theirs:
                    np.copyto(theirs, mine)
        except BaseException:
            self.flags[:] = 0
            raise
        finally:
            self.current = []
        if self.plan.flagged and self.flags.any():
            self._refuse()
        return results

    def _point(
        self, given: Sequence[Array], states: Sequence[Array], results: Sequence[Array]
    ) -> None:
        """Fill the table with the addresses of this call."""
        addresses, first = self.addresses, len(given)
        if self.base != _arena.at_least(self.plan.arena):
            self.base = _arena.base
            self.table[self.inner] = self.inner_offsets + self.base
        for i, a in enumerate(given):
            addresses[i] = _address(a)
        for i, a in enumerate(states):
            if a is not self.seen[i]:
                self.seen[i] = a
                addresses[first + i] = _address(a)
        for i, a in enumerate(results, first + len(states)):
            addresses[i] = _address(a)
        self.table[self.entries] = addresses[self.sources] + self.offsets

    def _refuse(self) -> None:
        """Raise what an op says about its indices; the step has run, with other ones."""
        text = self.plan.flagged[int(np.flatnonzero(self.flags)[0])]
        self.flags[:] = 0
        raise OpIndexError(
            f"{text}: an index is out of range; it was computed in a compiled step, which has run "
            "to its end with an index that is in range"
        )


class Arena:
    """The memory that all programs compute in, one after the other: as much as the largest needs.

    Steps run one at a time, and nothing in it is needed after the step.
    """

    def __init__(self) -> None:
        self.memory = np.zeros(0, np.uint8)
        self.base = 0

    def at_least(self, size: int) -> int:
        """Return the address of so much memory, aligned to 128 bytes."""
        if self.memory.size < size or not self.base:
            raw, self.base = aligned(size)
            start = self.base - raw.ctypes.data
            self.memory = raw[start : start + size]
        return self.base


_arena = Arena()


def _address(a: Array) -> int:
    address: int = a.__array_interface__["data"][0]
    return address


class _Memory:
    """Memory that NumPy is to see as a view says."""

    def __init__(self, owner: Array, view: View) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "data": (_address(owner) + view.place.byte, False),
            "shape": view.shape,
            "typestr": np.dtype(view.dtype).str,
            "strides": view.strides,
            "version": 3,
        }


def _stage_of(planner: Planner, plan: Plan, step: Fallback) -> int:
    """Return which stage a fallback is."""
    number = [s for s in plan.steps if isinstance(s, Fallback)].index(step)
    return [i for i, s in enumerate(planner.stages) if not s.kernels][number]


def function_names(plan: Plan) -> list[str]:
    """Return the functions that a plan runs."""
    return list(dict.fromkeys(s.function for s in plan.steps if isinstance(s, Launch)))


# --- the cache -----------------------------------------------------------------------------------


def digest(graph: Graph, target: Target, exact: bool) -> str:
    """Return a text that is equal only for graphs that become the same program.

    Constants count with their elements, as the compiler may build them in.
    """
    h = hashlib.sha256(
        f"{_compiler()} {target.name} {second_cache()} {exact} {tuning.fingerprint()}".encode()
    )
    for v, array in graph.constants.items():
        elements = once(array)
        h.update(f"{v} {array.dtype.str} {array.shape} {elements.shape}".encode())
        h.update(elements.tobytes())
    h.update(repr(_content(graph)).encode())
    return h.hexdigest()


def _content(graph: Graph) -> tuple[Any, ...]:
    """Return all of a graph but its constants, and where its calls come from, as plain values."""
    specs = graph.specs

    def described(values: Sequence[int]) -> list[tuple[int, str, tuple[int, ...]]]:
        return [(v, specs[v].dtype.str, specs[v].shape) for v in values]

    calls = [(c.op.token(), c.inputs, described(c.outputs)) for c in graph.calls]
    outside = described(graph.inputs), described(graph.states)
    return outside, calls, graph.results, sorted(graph.writes.items())


@functools.cache
def _compiler() -> str:
    """Return a digest of the compiler's own files, and of those that say what ops compute."""
    here = Path(__file__).parent
    h = hashlib.sha256()
    for folder in (here, here / "llvm", here.parent / "ops"):
        for path in sorted(folder.glob("*.py")):
            status = path.stat()
            h.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
    return h.hexdigest()


def _plan_name(key: str) -> str:
    return f"{key}-plan"


def save_plan(key: str, plan: Plan) -> None:
    """Keep a plan on disk."""
    cache.save(_plan_name(key), plan.to_json().encode())


def load_plan(key: str) -> Plan | None:
    """Return a plan that was kept, if it is there and whole."""
    data = cache.load(_plan_name(key))
    if data is None:
        return None
    try:
        return Plan.from_json(data.decode())
    except (ValueError, TypeError, KeyError, IndexError):
        return None


@contextmanager
def _patience(graph: Graph) -> Iterator[None]:
    """Say what is going on if it takes longer than a moment."""

    def tell() -> None:
        import sys

        print(f"compiling a step of {len(graph.calls)} ops …", file=sys.stderr, flush=True)

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


__all__ = ["Native", "Place", "digest", "function_names", "load_plan", "save_plan"]
