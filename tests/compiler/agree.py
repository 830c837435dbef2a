"""Compares steps that run as machine code with the same steps eager."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import toumei as tm
from toumei.compiler.compiled import Compiled
from toumei.compiler.native import Native
from toumei.compiler.program import Backend
from toumei.compiler.structure import flatten, unflatten
from toumei.config import run_quietly
from toumei.tensor import Tensor

Array = np.ndarray[Any, Any]

LIMITS = {"float32": 1e-5, "float64": 1e-12}  # of the error over the root of the mean square
LEAST = 1e-2  # what a smaller root counts as: results that ought to be 0 are rounding errors
NUDGES = 30  # times the effect of a change in the last bits of the arguments


def native(
    function: Callable[..., Any], target: Any = None, *, keep_grads: bool = False
) -> Compiled:
    """Compile a step to machine code, without the cache on disk."""
    return Compiled(function, keep_grads, Backend(partial(Native, target=target, kept=False)))


def executor(compiled: Compiled) -> Native:
    """Return what runs the only program of a compiled step."""
    (program,) = compiled.used
    assert isinstance(program.executor, Native)
    return program.executor


def fallbacks(compiled: Compiled) -> set[str]:
    """Return the ops that a compiled step leaves to Python."""
    stages = executor(compiled).built.stages
    return {type(s.group.host.node.call.op).__name__ for s in stages if not s.kernels}


def numbers(value: Any) -> list[Array]:
    """Return copies of all tensors in a nested value as arrays."""
    leaves: list[Any] = []
    flatten(value, leaves)
    return [np.array(t.detach().numpy()) for t in leaves if isinstance(t, Tensor)]


def copied(value: Any, change: Callable[[Array], Array] = np.array) -> Any:
    """Return a nested value with copies of the tensors in it; they lie in memory as before."""
    leaves: list[Any] = []
    structure = flatten(value, leaves)
    return unflatten(structure, iter([_copied(t, change) for t in leaves]))


def _copied(t: Any, change: Callable[[Array], Array]) -> Any:
    if not isinstance(t, Tensor):
        return t
    old = t.detach().numpy()
    new = np.asarray(change(old)).astype(old.dtype)
    if not old.flags.c_contiguous:
        new = scattered(new)
    return tm.from_numpy(new).requires_grad_(t.requires_grad)


def scattered(a: Array) -> Array:
    """Return the same numbers at other places in memory: reversed dimensions, with gaps."""
    if a.ndim == 0:
        return np.array(a)
    room = np.zeros([2 * n for n in reversed(a.shape)], a.dtype)
    view = room[(slice(None, None, 2),) * a.ndim].transpose()
    view[...] = a
    return view


def error(mine: Array, theirs: Array) -> float:
    """Return the largest error over the root of the mean square; ∞ where it isn't even finite."""
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    if mine.dtype.kind != "f":
        return 0.0 if np.array_equal(mine, theirs) else np.inf
    finite = np.isfinite(theirs)
    if not np.array_equal(np.isfinite(mine), finite):
        return np.inf
    if not np.array_equal(mine[~finite], theirs[~finite], equal_nan=True):
        return np.inf
    a, b = mine[finite].astype(np.float64), theirs[finite].astype(np.float64)
    if not a.size:
        return 0.0
    return float(np.abs(a - b).max() / max(np.sqrt((b * b).mean()), LEAST))


@contextlib.contextmanager
def numpy_alone() -> Iterator[None]:
    """Let eager convolutions be NumPy's, not the kernels that are to be tested."""
    tm.set_native_eager(False)
    try:
        yield
    finally:
        tm.set_native_eager(True)


@numpy_alone()
def differences(
    step: Callable[..., Any], arguments: Any, compiled: Callable[..., Any], calls: int = 1
) -> list[str]:
    """Call a step some times, eager and compiled; return what differs of results and arguments.

    Results may be off by a little, and by what a change in the last bits of the arguments does.
    """
    mine, theirs = (_trail(f, copied(arguments), calls) for f in (compiled, step))
    assert len(mine) == len(theirs), "another number of results"
    errors = [error(a, b) for a, b in zip(mine, theirs, strict=True)]
    allowed = [LIMITS.get(str(b.dtype), 0.0) for b in theirs]
    if any(e > limit for e, limit in zip(errors, allowed, strict=True)):
        near = _trail(step, copied(arguments, _nudged), calls)
        for i, (a, b) in enumerate(zip(near, theirs, strict=True)):
            effect = error(a, b)
            allowed[i] += NUDGES * effect if np.isfinite(effect) else 0
    wrong = [i for i, (e, limit) in enumerate(zip(errors, allowed, strict=True)) if e > limit]
    return [_difference(i, errors[i], mine[i], theirs[i]) for i in wrong]


def _difference(place: int, off: float, mine: Array, theirs: Array) -> str:
    with np.printoptions(threshold=30, edgeitems=2):
        what = f"array {place}, {theirs.dtype}{list(theirs.shape)}"
        return f"{what}: {off:.2g} off\n{mine}\n{theirs}"


def _trail(step: Callable[..., Any], arguments: Sequence[Any], calls: int) -> list[Array]:
    tm.manual_seed(5)
    found: list[Array] = []
    for _ in range(calls):
        found += numbers(run_quietly(step, *arguments))
    return found + numbers(arguments)


def _nudged(a: Array) -> Array:
    if a.dtype.kind != "f":
        return a.copy()
    noise = np.random.default_rng(7).normal(size=a.shape)
    return np.asarray(a * (1 + 4 * np.finfo(a.dtype).eps * noise))


def check(
    step: Callable[..., Any],
    *arguments: Any,
    target: Any = None,
    calls: int = 1,
) -> Compiled:
    """Compare a step's results, and its arguments afterwards; return the compiled step."""
    compiled = native(step, target)
    wrong = differences(step, arguments, compiled, calls)
    assert not wrong, "\n".join(wrong[:3])
    return compiled


# --- steps that train a model ---------------------------------------------------------------------

#: Makes a step, its arguments and the module that it changes, the same ones each time.
Build = Callable[[], tuple[Callable[..., Any], Sequence[Any], tm.nn.Module]]


@numpy_alone()
def check_training(build: Build, *, target: Any = None, calls: int = 2) -> Compiled:
    """Compare results, parameters and buffers after each of some calls; return the compiled one."""
    made: list[Compiled] = []

    def compile(step: Callable[..., Any]) -> Compiled:
        made.append(native(step, target))
        return made[0]

    mine = _training(build, compile, calls)
    theirs = _training(build, lambda step: step, calls)
    assert len(mine) == len(theirs), "another number of results"
    errors = [error(a, b) for a, b in zip(mine, theirs, strict=True)]
    allowed = [LIMITS.get(str(b.dtype), 0.0) for b in theirs]
    if any(e > limit for e, limit in zip(errors, allowed, strict=True)):
        near = _training(build, lambda step: step, calls, nudged=True)
        effects = [error(a, b) for a, b in zip(near, theirs, strict=True)]
        allowed = [
            a + NUDGES * e if np.isfinite(e) else a for a, e in zip(allowed, effects, strict=True)
        ]
    for i, (e, limit) in enumerate(zip(errors, allowed, strict=True)):
        assert e <= limit, _difference(i, e, mine[i], theirs[i])
    return made[0]


def _training(
    build: Build, compile: Callable[..., Any], calls: int, nudged: bool = False
) -> list[Array]:
    tm.manual_seed(0)
    step, arguments, model = build()
    if nudged:
        arguments = copied(arguments, _nudged)
        with tm.no_grad():
            for p in model.parameters():
                p.copy_(tm.from_numpy(_nudged(p.detach().numpy()).astype(p.dtype)))
    step = compile(step)
    found: list[Array] = []
    for _ in range(calls):
        found += numbers(run_quietly(step, *arguments))
        found += numbers(model.state_dict())
    return found
