"""A program: kernels that run one after another on all threads, with Python calls in between.

    program = build([scale, add], [Step("scale", items=1000), Step("add", items=1000)])
    program.run(addresses)

A kernel is `void name(ptr buffers, i64 begin, i64 end)`, or with a fourth argument, `ptr scratch`:
memory that no other thread uses meanwhile.  How the items are split over threads is no business
of a kernel, and must not change its results.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import cache, runtime
from . import pool_ir as layout
from .ir import Function, module
from .jit import Library
from .target import Target

CHUNKS_PER_THREAD = 8  # enough that a thread that comes late leaves little for the end
_MOST_CHUNKS = (1 << layout.TAKEN_BITS) - 1  # of one thread's range


class Step(NamedTuple):
    """A kernel in a program.

    Args:
        function: the kernel's name.
        items: how many work items it has.
        chunk: how many of them a thread takes at a time; 0: as seems fit.
        barrier: whether it needs what the steps before it have written.
        serial: whether the caller's thread must do it alone, all items in one call.
        scratch: bytes of memory that each thread needs for it, aligned to 128.
        first: of the program's buffers, the one that is the kernel's buffer 0.
    """

    function: str
    items: int
    chunk: int = 0
    barrier: bool = True
    serial: bool = False
    scratch: int = 0
    first: int = 0


class Program:
    """Steps ready to run.

    Args:
        library: the machine code of the kernels.
        steps: Steps, and Python functions without arguments to be called between them.

    Raises:
        RuntimeError: a kernel isn't in the library.
    """

    def __init__(self, library: Library, steps: Sequence[Step | Callable[[], None]]) -> None:
        self._parts = [
            _Native(library, part) if isinstance(part, list) else _Python(part)
            for part in _parts(steps)
        ]
        only = self._parts[0] if len(self._parts) == 1 else None
        self._only = only if isinstance(only, _Native) else None

    def run(self, buffers: int | np.ndarray[Any, Any]) -> None:
        """Run all steps; an exception of a Python function ends the run there.

        Args:
            buffers: the addresses of the buffers, or the address of an array of them (quicker).
        """
        place = buffers if isinstance(buffers, int) else buffers.ctypes.data
        for part in self._parts:
            part.run(place)

    def times(self, buffers: int | np.ndarray[Any, Any]) -> list[float]:
        """Run all steps, each after the end of the one before; return the seconds of each."""
        place = buffers if isinstance(buffers, int) else buffers.ctypes.data
        return [seconds for part in self._parts for seconds in part.times(place)]


def build(
    functions: Sequence[Function],
    steps: Sequence[Step | Callable[[], None]],
    key: str | None = None,
    target: Target | None = None,
) -> Program:
    """Compile kernels, or find them in the cache, and put them in order.

    Args:
        functions: the kernels and what they call.
        steps: see Program.
        key, target: see `cache.library`.
    """
    names = dict.fromkeys(step.function for step in steps if isinstance(step, Step))
    return Program(cache.library(lambda: module(functions), list(names), key, target), steps)


def _parts(
    steps: Sequence[Step | Callable[[], None]],
) -> list[list[Step] | Callable[[], None]]:
    """Gather the steps between two Python calls."""
    parts: list[list[Step] | Callable[[], None]] = []
    for step in steps:
        if not isinstance(step, Step):
            parts.append(step)
        elif parts and isinstance(last := parts[-1], list):
            last.append(step)
        else:
            parts.append([step])
    return parts


class _Python:
    """A call of Python between native parts."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def run(self, buffers: int) -> None:
        self._call()

    def times(self, buffers: int) -> list[float]:
        start = time.perf_counter()
        self._call()
        return [time.perf_counter() - start]


class _Native:
    """Steps with no Python in between: one call enters native code and runs them all."""

    def __init__(self, library: Library, steps: Sequence[Step]) -> None:
        self._library, self._steps = library, list(steps)
        self._busy = [step for step in steps if step.items > 0]
        self._scratch = max((step.scratch for step in steps), default=0)
        self._addresses = {step.function: library.address(step.function) for step in steps}
        self._native = runtime.native()
        self._plans: dict[tuple[int, bool], Plan] = {}  # by threads and whether in strict order
        self._own = threading.local()  # a plan for one thread alone has scratch memory of its own

    def run(self, buffers: int, times: int = 0) -> None:
        team = runtime.team()
        if team is not None and team.run(self._plan(team.threads, times != 0), buffers, times):
            return  # else the pool is in use
        self._native.solo(self._solo_plan(), buffers, times)

    def times(self, buffers: int) -> list[float]:
        if not self._native.has_clock:
            raise RuntimeError("there is no clock for steps on this system")
        stamps = np.zeros(len(self._busy) + 1, np.int64)
        self.run(buffers, stamps.ctypes.data)
        taken = iter(np.diff(stamps) * 1e-9)
        return [float(next(taken)) if step.items > 0 else 0.0 for step in self._steps]

    def _plan(self, threads: int, strict: bool) -> int:
        """Return the address of the plan for so many threads."""
        plan = self._plans.get((threads, strict))
        if plan is None:
            plan = Plan(self._busy, self._addresses, threads, self._scratch, strict)
            plan = self._plans.setdefault((threads, strict), plan)
        return plan.address

    def _solo_plan(self) -> int:
        if not self._scratch:
            return self._plan(1, False)
        try:
            return self._own.plan.address
        except AttributeError:
            self._own.plan = Plan(self._busy, self._addresses, 1, self._scratch, False)
            return self._own.plan.address

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at exit, modules may be gone
            runtime.retire((self._library, self._plans))


class Plan:
    """The table that threads go through: see pool_ir.py.

    Args:
        steps: with at least one item each.
        addresses: of the kernels, by name.
        threads: that will go through it.
        scratch: bytes of memory for each of them.
        strict: each step waits for the one before, even if it needn't.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        addresses: dict[str, int],
        threads: int,
        scratch: int,
        strict: bool,
    ) -> None:
        stride = -(-scratch // 128) * 128
        self._scratch, scratch_address = runtime.aligned(stride * threads)
        table = _table(steps, addresses, threads, strict)
        table[0, layout.SCRATCH // 8], table[0, layout.STRIDE // 8] = scratch_address, stride
        self._memory, self.address = runtime.aligned(table.nbytes)
        start = self.address - self._memory.ctypes.data
        self._memory[start : start + table.nbytes] = table.view(np.uint8).ravel()


def _table(
    steps: Sequence[Step], addresses: dict[str, int], threads: int, strict: bool
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a plan's head and rows, of 16 numbers each."""
    splits = [_split(step, threads) for step in steps]
    ends = list(itertools.accumulate(chunks for _, chunks in splits))
    waits = _waits(steps, ends, strict)
    lasts = _lasts(waits, ends)
    shared = [chunks for step, (_, chunks) in zip(steps, splits, strict=True) if not step.serial]
    table = np.zeros((len(steps) + 1, layout.ROW // 8), np.int64)
    table[0, layout.COUNT // 8] = len(steps)
    table[0, layout.HELPERS // 8] = min(threads, max(shared, default=1)) - 1
    table[0, layout.TOTAL // 8] = ends[-1] if ends else 0
    for i, (step, (chunk, chunks)) in enumerate(zip(steps, splits, strict=True)):
        split = (step.items, chunk, chunks, -(-chunks // threads))  # ITEMS CHUNK CHUNKS SHARE
        fields = (addresses[step.function], *split, waits[i], lasts[i], step.serial, 8 * step.first)
        table[i + 1, : len(fields)] = fields
    return table


def _split(step: Step, threads: int) -> tuple[int, int]:
    """Return the items of a chunk and the number of chunks."""
    if step.serial:
        return step.items, 1
    chunk = step.chunk or -(-step.items // (threads * CHUNKS_PER_THREAD))
    chunk = max(chunk, -(-step.items // (_MOST_CHUNKS * threads)))
    return chunk, -(-step.items // chunk)


def _waits(steps: Sequence[Step], ends: Sequence[int], strict: bool) -> list[int]:
    """Return for each step how many chunks must be done before it begins."""
    waits: list[int] = []
    for i, step in enumerate(steps):
        if i == 0:
            waits.append(0)
        else:
            waits.append(ends[i - 1] if step.barrier or strict else waits[-1])
    return waits


def _lasts(waits: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return for each step how many chunks are done when the next wait is over."""
    lasts: list[int] = []
    last, following = (ends[-1] if ends else 0), None
    for wait in reversed(waits):
        if following is not None and following != wait:
            last = following
        lasts.append(last)
        following = wait
    return lasts[::-1]
