"""`compile`: a function runs as it was traced, while what it read from Python is unchanged.

    @tm.compile
    def step(x, y): …             # traced at the first call; then its program runs

A compiled function keeps a few programs.  A call looks for one by its arguments (structure, shapes,
dtypes, fixed values) and by the modes that apply, and then asks its guards.
"""

from __future__ import annotations

import copy
import functools
import types
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

from ..config import config, get_default_dtype, uncollected
from ..errors import TraceError
from ..nn.module import Module
from ..op import RANK
from ..tape import Leaf, Storage, Value, wrap
from ..traced import DROPPED
from .interrupts import undivided
from .live import NeedsNumber, Source
from .llvm.runtime import get_num_threads
from .module import CompiledModule, compiled_module
from .native import Native
from .program import LOCK, Backend, Program, trace_step
from .structure import Structure, flatten
from .symbol import layout

M = TypeVar("M", bound=Module)

LIMIT = 16  # programs of one function
STALE = 64  # after so many calls without it, a program may make room for another

BACKEND = Backend(Native)


class Compiled:
    """A function and the programs that it was traced into."""

    def __init__(
        self, function: Callable[..., Any], keep_grads: bool = False, backend: Backend = BACKEND
    ) -> None:
        self.function = function
        self.keep_grads = keep_grads
        self.backend = backend
        self.programs: dict[Any, list[Program]] = {}
        self.frozen: dict[Structure, frozenset[Source]] = {}
        self.calls = 0
        self.used: dict[Program, int] = {}  # the call that used a program last
        self.warned = False
        functools.update_wrapper(self, function)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else types.MethodType(self, owner)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return Compiled(copy.deepcopy(self.function, memo), self.keep_grads, self.backend)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if config.trace is not None or config.debug:  # within another step, or step by step
            return self.function(*args, **kwargs)
        leaves: list[Any] = []
        structure = flatten((args, kwargs), leaves)
        with LOCK:
            self.calls += 1
            key = self._key(structure, leaves)
            if key is None:
                return self.function(*args, **kwargs)
            for program in self.programs.get(key, ()):
                if program.fits(leaves):
                    self.used[program] = self.calls
                    return undivided(program.run, leaves)
            if len(self.used) >= LIMIT and not self._make_room():
                self._warn(key)
                return self.function(*args, **kwargs)
            with uncollected():
                program = self._trace(structure, leaves)
            key = self._key(structure, leaves)
            self.programs.setdefault(key, []).append(program)
            self.used[program] = self.calls
            return undivided(program.run, leaves)

    def _key(self, structure: Structure, leaves: list[Any]) -> Any:
        """Return what the choice of a program begins with; None if only eager can run it."""
        frozen = self.frozen.get(structure, frozenset())
        described = []
        storages = []
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, np.ndarray) and leaf.dtype in RANK:
                leaves[i] = leaf = wrap(leaf)
            if isinstance(leaf, Value):
                data = leaf._data
                if type(data) is not np.ndarray:
                    return None  # shapes without numbers, or what was kept from a trace
                storages.append(leaf._storage)
                plain = leaf._node is None and leaf._parent is None and leaf._cell is None
                described.append((data.shape, data.dtype, None if plain else _role(leaf)))
            elif isinstance(leaf, float):
                described.append((float, leaf) if ("argument", i) in frozen else float)  # type: ignore[arg-type]
            else:
                described.append(_fixed(leaf))
        shared = _sharing(leaves) if len(set(storages)) < len(storages) else None
        modes = (config.grad, get_default_dtype(), get_num_threads())
        return structure, tuple(described), shared, modes

    def _trace(self, structure: Structure, leaves: list[Any]) -> Program:
        """Trace the function, with as many of its numbers left open as it allows."""
        frozen = self.frozen.get(structure, frozenset())
        floats = {("argument", i) for i, leaf in enumerate(leaves) if isinstance(leaf, float)}
        while True:
            try:
                program = trace_step(
                    self.function,
                    structure,
                    leaves,
                    frozen=frozen,
                    keep_grads=self.keep_grads,
                    backend=self.backend,
                )
            except NeedsNumber as need:
                frozen |= need.sources
            except Exception:
                if floats <= frozen:
                    raise
                frozen |= floats  # it may be that an open number is what the step can't take
            else:
                self.frozen[structure] = frozen
                return program

    def _make_room(self) -> bool:
        """Forget the program that has been out of use for longest, if it is for long."""
        oldest = min(self.used, key=self.used.__getitem__)
        if self.calls - self.used[oldest] < STALE:
            return False
        del self.used[oldest]
        for programs in self.programs.values():
            if oldest in programs:
                programs.remove(oldest)
        return True

    def _warn(self, key: Any) -> None:
        if self.warned:
            return
        self.warned = True
        causes = [p.guards.cause for p in self.programs.get(key, ()) if p.guards.cause]
        cause = causes[-1] if causes else _difference(key, list(self.programs))
        name = getattr(self.function, "__qualname__", repr(self.function))
        warnings.warn(
            f"{name} has been compiled {LIMIT} times, and is called with something new again: "
            f"{cause}. Such calls run without being compiled from here on",
            stacklevel=3,
        )


def _role(leaf: Value) -> Any:
    """Return how a tensor stands to the graph, and whether it has a gradient."""
    edge = leaf._edge()
    if edge is None:
        return None
    grad = None if leaf._cell is None else leaf._cell.grad
    kind = "none" if grad is None else "dropped" if grad is DROPPED else "some"
    return isinstance(edge[0], Leaf), kind


class _ById:
    """An argument that counts as the object that it is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _fixed(leaf: Any) -> Any:
    """Return a key for an argument that isn't a tensor: its value, or else its identity."""
    if isinstance(leaf, slice):
        return slice, leaf.start, leaf.stop, leaf.step
    try:
        hash(leaf)
    except TypeError:
        return _ById(leaf)
    return type(leaf), leaf


def _sharing(leaves: list[Any]) -> tuple[Any, ...]:
    """Return which arguments are the same tensor, or lie in the same memory, and how."""
    first: dict[Storage, tuple[int, Any]] = {}
    found = []
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Value):
            j, whole = first.setdefault(leaf._storage, (i, leaf))
            found.append((j, leaf is whole, layout(leaf._data) == layout(whole._data)))
    return tuple(found)


def _difference(key: Any, known: list[Any]) -> str:
    """Say what is new about a call's arguments."""
    other = next((k for k in reversed(known) if k[0] == key[0]), None)
    if other is None:
        return "the structure of the arguments changed"
    if other[3] != key[3]:
        return "grad mode, the default dtype or the number of threads changed"
    for i, (before, now) in enumerate(zip(other[1], key[1], strict=True)):
        if before != now:
            cure = " (a number that changes often: pass a float or a tensor)"
            number = isinstance(now, tuple) and now[0] is int
            change = f"argument {i} changed from {_text(before)} to {_text(now)}"
            return change + (cure if number else "")
    return "which arguments share memory changed"


def _text(described: Any) -> str:
    if isinstance(described, tuple) and len(described) == 3:
        shape, dtype, role = described
        return f"{dtype}[{', '.join(map(str, shape))}]" + (" that requires grad" if role else "")
    if isinstance(described, tuple) and len(described) == 2:
        return f"{described[1]!r:.40}"
    return repr(described)


@overload
def compile(function: M, *, keep_grads: bool = ..., exact: bool = ..., tune: bool = ...) -> M: ...  # type: ignore[overload-overlap]
@overload
def compile(
    function: Callable[..., Any], *, keep_grads: bool = ..., exact: bool = ..., tune: bool = ...
) -> Compiled: ...
@overload
def compile(
    function: None = ..., *, keep_grads: bool = ..., exact: bool = ..., tune: bool = ...
) -> Callable[..., Any]: ...
def compile(
    function: Any = None, *, keep_grads: bool = False, exact: bool = False, tune: bool = False
) -> Any:
    """Compile a function of tensors, a whole training step or a module: same code, same numbers.

    The function is traced at its first call: every op is noted down, forward, backward and the
    optimiser's, and the calls that follow run what was noted.  Parameters, buffers, optimiser
    state and random generators are found by themselves and updated in place.

    Arguments may be nested tuples, lists, dicts and dataclasses of tensors (NumPy arrays count as
    tensors), numbers and other objects.  Floats may change from call to call, hyper-parameters of
    optimisers too; for other shapes, dtypes, ints, bools and strings the function is traced again.
    Results have memory of their own.  What Python does besides (printing, counting, appending to
    lists) happens while tracing only.

    Args:
        function: what is compiled; left out, a decorator is returned.
        keep_grads: keep gradients that an optimizer.step() within the function has used;
            otherwise reading them afterwards is an error.
        exact: convolutions of 3 x 3 are summed plainly. By default Winograd's algorithm takes a
            fraction of the time; its results are off by about 1e-5 of their root mean square.
        tune: time some ways to compute each matrix product, once per machine (some seconds), and
            take the fastest; the results are the same to the bit.

    Raises:
        TraceError: the function needs numbers while it is traced, or keeps tensors from it; the
            message says where and what to do.

    >>> import toumei as tm
    >>> w = tm.tensor([2.0], requires_grad=True)
    >>> optimizer = tm.optim.SGD([w], lr=0.1)
    >>> @tm.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = (w * x).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss.detach()
    >>> step(tm.tensor([1.0])), step(tm.tensor([1.0]))
    (tensor(2.), tensor(1.9))
    """
    if function is None:
        return functools.partial(compile, keep_grads=keep_grads, exact=exact, tune=tune)
    if isinstance(function, CompiledModule | Compiled):
        return function
    backend = BACKEND
    if exact or tune:
        backend = Backend(functools.partial(Native, exact=exact, tune=tune))
    if isinstance(function, Module):
        return compiled_module(function, Compiled(function.__call__, keep_grads, backend))
    if not callable(function):
        raise TraceError(f"compile takes a function or a module, not {function!r:.60}")
    return Compiled(function, keep_grads, backend)
