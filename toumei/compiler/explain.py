"""Seeing through a compiled step: it is compiled afresh, and everything on the way is kept.

    found = see(step, args, {})       # found.passes, found.native.groups, found.program …
    times = found.run()               # on copies: nothing that the step changes is changed

What the kernels do and what that costs is found in `explain_kernels.py`; `tm.explain` shows it all.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..autograd import debug
from ..config import config
from ..errors import TraceError, user_line
from ..nn.module import Module
from .compiled import Compiled
from .fuse import fuse
from .graph import Graph
from .llvm.runtime import get_num_threads
from .llvm.target import Target
from .module import CompiledModule
from .native import Native
from .passes import PASSES
from .plan import Planner
from .program import Backend, Pass, Program
from .structure import flatten

LEAST, MOST, LONG_ENOUGH = 5, 50, 0.7  # timed runs, and seconds after which there are enough


@dataclass
class Timed:
    """How long a step takes, in seconds: medians of some runs, unless it says otherwise.

    Attributes:
        step: the whole step, as it is always run.
        quickest: the same, of the quickest run: no other program was in its way.
        stages: each stage by itself, after the end of the one before.
        runs: how many there were.
    """

    step: float
    quickest: float
    stages: list[float]
    runs: int


@dataclass
class Seen:
    """All that was made on the way from a function to machine code.

    Attributes:
        name: of the function.
        passes: (name, graph): the trace, then the graph as each pass left it.
        program: what would run.
        native: the step's executor.
        later: the executor of the backward pass of its results, if it has one.
        seconds: that compiling took.
        threads: that run it.
        outer: the user's line that asked for all this, and so explains no kernel.
    """

    name: str
    passes: list[tuple[str, Graph]]
    program: Program
    native: Native
    later: Native | None
    seconds: float
    threads: int
    outer: str
    leaves: list[Any] = field(repr=False)

    @property
    def planner(self) -> Planner:
        """Its nodes, kernels and functions."""
        return self.native.built

    def planner_for(self, target: str | None) -> Planner:
        """Return how it would be planned for a processor, by its name; None: as it is."""
        if target is None:
            return self.planner
        return Planner(self.native.graph, fuse, Target.named(target), self.native.exact)

    def run(self) -> Timed:
        """Run the step on copies of all that it changes, again and again, and time it."""
        arguments, outside = self.program.arrays(self.leaves)
        states = [array.copy() for array in outside]
        self.native.run(arguments, states)  # wakes the threads, touches the memory
        whole: list[float] = []
        parts: list[list[float]] = []
        begun = time.perf_counter()
        while len(whole) < LEAST or (
            len(whole) < MOST and time.perf_counter() - begun < LONG_ENOUGH
        ):
            start = time.perf_counter()
            self.native.run(arguments, states)
            whole.append(time.perf_counter() - start)
            parts.append(self.native.times(arguments, states))
        stages = [statistics.median(column) for column in zip(*parts, strict=True)]
        return Timed(statistics.median(whole), min(whole), stages, len(whole))


class _Recorder:
    """A backend that keeps what it makes; a trace that is begun anew starts it over."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.passes: list[tuple[str, Graph]] = []
        self.made: list[Native] = []

    def backend(self) -> Backend:
        return Backend(self._make, (self._begin, *map(self._noting, PASSES)))

    def _make(self, graph: Graph) -> Native:
        self.made.append(Native(graph, kept=False, exact=self.exact))
        return self.made[-1]

    def _begin(self, graph: Graph) -> Graph:
        # Nodes of the trace go on to be rewritten by copies: this graph stays as it is.
        self.passes, self.made = [("trace", replace(graph, specs=dict(graph.specs)))], []
        return graph

    def _noting(self, run_pass: Pass) -> Pass:
        def noted(graph: Graph) -> Graph:
            found = run_pass(graph)
            self.passes.append((run_pass.__name__, found))
            return found

        return noted


def see(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Seen:
    """Compile a function, or what is compiled already, for some arguments; it is not run.

    Raises:
        TraceError: it can't be compiled, or the arguments are such that only eager can run it.
    """
    step = _compiled(function)
    recorder = _Recorder(_is_exact(step))
    compiled = Compiled(step.function, step.keep_grads, recorder.backend())
    leaves: list[Any] = []
    structure = flatten((args, kwargs), leaves)
    if config.trace is not None or compiled._key(structure, leaves) is None:
        raise TraceError("explain needs tensors with numbers, and is called outside of any step")
    begun = time.perf_counter()
    with debug():  # so that every op knows its line and its modules, in the backward pass too
        program = compiled._trace(structure, leaves)
    seconds = time.perf_counter() - begun
    native, *later = recorder.made
    name = getattr(compiled.function, "__qualname__", type(compiled.function).__name__)
    return Seen(
        name.rpartition("<locals>.")[2],
        recorder.passes, program, native, later[0] if later else None, seconds,
        get_num_threads(), user_line(), leaves,
    )  # fmt: skip


def _compiled(function: Any) -> Compiled:
    """Return a function or module as `compile` would return it, or as it did."""
    if isinstance(function, CompiledModule):
        function = function._call
    if isinstance(function, Module):
        function = function.__call__
    if not callable(function):
        raise TraceError(f"explain takes a function or a module, not {function!r:.60}")
    return function if isinstance(function, Compiled) else Compiled(function)


def _is_exact(step: Compiled) -> bool:
    """Tell whether a function was compiled with exact=True."""
    make = step.backend.make
    return isinstance(make, functools.partial) and make.keywords.get("exact", False)
