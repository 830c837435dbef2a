"""A single op as a program: what large eager convolutions, poolings and the like run in.

    y = run(op, [x, w])    # an array of its own; None where the compiler has no kernels for it

A program is made for an op and its arrays' shapes, dtypes and orders in memory.  It is the plan of
a graph of one call, but its memory is a thread's and serves all of the thread's programs.
Results are contiguous, as NumPy's are: `conv(x).view(n, -1)` is a habit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..op import REGISTRY, Array, Op, Refused, Spec
from .fuse import Fusion, Kernel
from .graph import Call, Graph
from .llvm import cache
from .llvm.ir import module
from .llvm.program import Program, Step
from .llvm.target import host
from .lower import lower_in_place
from .native import digest, function_names, load_plan, save_plan
from .nodes import Lowered
from .passes.decompose import decompose
from .plan import ARENA, GIVEN, NOWHERE, Launch, Plan, Planner

LIMIT = 1024  # programs that are kept
AT_ONCE = 128  # so many are made at an op's first call; later ones at its second
KEPT = 256 << 20  # bytes of memory that a thread keeps from one call to the next

Order: TypeAlias = tuple[int, ...] | None  # of the dims in memory, None: the natural one
Layout: TypeAlias = tuple[tuple[int, ...], np.dtype[Any], Order]
Key: TypeAlias = tuple[Any, ...]

_programs: dict[Key, Single | None] = {}
_seen: set[Key] = set()


def run(op: Op, arrays: Sequence[Array]) -> Any:
    """Return the result of an op, or a tuple of them; None: NumPy has to compute it."""
    orders = [None if a.flags.c_contiguous else order_in_memory(a) for a in arrays]
    given = [
        np.ascontiguousarray(a if o is None else a.transpose(o))
        for a, o in zip(arrays, orders, strict=True)
    ]
    layouts = [(a.shape, a.dtype, o) for a, o in zip(arrays, orders, strict=True)]
    key = (type(op), *[getattr(op, f) for f in op.fields], *layouts)
    single = _programs.get(key)
    if single is None:
        if key in _programs or not _is_due(key):
            return None
        single = _made(op, layouts)
        if len(_programs) >= LIMIT:
            _programs.pop(next(iter(_programs)), None)
        _programs[key] = single
        if single is None:
            return None
    return single.run(given)


def _is_due(key: Key) -> bool:
    """Tell whether a program is worth making: not where every call brings new shapes."""
    if len(_programs) < AT_ONCE or key in _seen:
        return True
    if len(_seen) >= 4 * LIMIT:
        _seen.clear()
    _seen.add(key)
    return False


def order_in_memory(a: Array) -> Order:
    """Return the dims of an array without gaps from the outermost on; None: it has gaps.

    >>> order_in_memory(np.zeros((2, 4, 4, 3)).transpose(0, 3, 1, 2))
    (0, 2, 3, 1)
    """
    order = tuple(sorted(range(a.ndim), key=lambda d: -a.strides[d]))
    return order if a.transpose(order).flags.c_contiguous else None


def clear() -> None:
    """Forget all programs; those on disk stay."""
    _programs.clear()
    _seen.clear()


# --- making programs -----------------------------------------------------------------------------


class Apart(Fusion):
    """Fusion, but results of convolutions are written as they come, with the channels innermost.

    Handing them over in registers to what transposes them would scatter them over the memory.
    """

    def _takes_over(self, kernel: Kernel, reads: set[int]) -> bool:
        return False


def _fuse(lowered: Lowered) -> list[Kernel]:
    return Apart(lowered).run()


def _made(op: Op, layouts: Sequence[Layout]) -> Single | None:
    """Return the program of an op, from the disk if it is there."""
    try:
        graph = graph_of(op, layouts)
    except Refused:
        return None  # NumPy's forward says why
    target = host()
    key = f"{digest(graph, target, exact=True)}-single"
    planned = functools.cache(lambda: Planner(graph, _fuse, target, True, lower_in_place))
    plan = load_plan(key)
    if plan is None:
        plan = planned().plan
        save_plan(key, plan)
    steps = [Step(*s) for s in plan.steps if isinstance(s, Launch)]
    if len(steps) < len(plan.steps):
        return None  # one is left to NumPy: there are no kernels for it
    names = function_names(plan)
    library = cache.library(lambda: module(planned().functions), names, key, target)
    return Single(plan, Program(library, steps))


def graph_of(op: Op, layouts: Sequence[Layout]) -> Graph:
    """Return one op as a graph; its inputs come as they lie in memory."""
    specs: dict[int, Spec] = {}
    calls: list[Call] = []
    inputs, operands = [], []

    def new(spec: Spec) -> int:
        specs[len(specs)] = spec
        return len(specs) - 1

    for shape, dtype, order in layouts:
        v = new(Spec(tuple(shape[d] for d in order) if order else shape, dtype))
        inputs.append(v)
        if order:
            back = tuple(order.index(d) for d in range(len(order)))
            calls.append(Call(REGISTRY["Permute"](back), (v,), (v := new(Spec(shape, dtype)),)))
        operands.append(v)
    found = op.infer(*(Spec(shape, dtype) for shape, dtype, _ in layouts))
    results = tuple(new(s) for s in (found if type(found) is tuple else (found,)))
    calls.append(Call(op, tuple(operands), results))
    return decompose(Graph(specs, tuple(calls), tuple(inputs), (), {}, results))


# --- running them --------------------------------------------------------------------------------

_own = threading.local()  # memory for what lies between the kernels


class Single:
    """A program of one op.  Several threads may run it."""

    def __init__(self, plan: Plan, program: Program) -> None:
        self.program, self.arena = program, plan.arena
        self.results = [(shape, np.dtype(dtype)) for shape, dtype in plan.results]
        others = {ARENA: -2, NOWHERE: -1}  # behind what is given: see run
        numbers = [p.number if p.space == GIVEN else others[p.space] for p in plan.table]
        self.sources = np.array(numbers, np.int64)
        self.offsets = np.array([p.byte for p in plan.table], np.int64)

    def run(self, arrays: Sequence[Array]) -> Any:
        """Return the result for arrays without gaps, or a tuple of them, in new memory."""
        results = tuple([np.empty(shape, dtype) for shape, dtype in self.results])
        arena = _memory(self.arena)
        addresses = [a.ctypes.data for a in (*arrays, *results, arena)]
        table = np.array([*addresses, 0], np.int64)[self.sources] + self.offsets
        self.program.run(table)
        return results if len(results) > 1 else results[0]


def _memory(size: int) -> Array:
    """Return memory of this thread's, aligned as kernels want it."""
    memory: Array | None = getattr(_own, "memory", None)
    if memory is None or len(memory) < size:
        raw = np.empty(size + 128, np.uint8)
        start = -raw.ctypes.data % 128
        memory = raw[start : start + size]
        _own.memory = memory if size <= KEPT else None
    return memory
