"""`compile`: a function that runs as traced, for as long as what it read from Python is unchanged."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import config, get_default_dtype
from ..errors import TraceError
from ..op import Array, Spec
from ..tape import Cell, Value, wrap
from ..tensor import Tensor
from .graph import Graph
from .reference import Reference
from .trace import State, Symbol, Trace, tracing


class Compiled:
    """A function and the programs that it was traced into."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.programs: dict[Any, list[Program]] = {}
        self.lock = threading.RLock()
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if config.trace is not None or config.debug:  # within another step, or step by step
            return self.function(*args, **kwargs)
        with self.lock:
            leaves: list[Any] = []
            structure = flatten((args, kwargs), leaves)
            key = (structure, tuple(map(describe, leaves)), config.grad, get_default_dtype())
            programs = self.programs.setdefault(key, [])
            for program in programs:
                if program.fits():
                    return program.run(leaves)
            program, result = Program.trace(self.function, structure, leaves)
            programs.append(program)
            return program.run(leaves)


class Program:
    """One trace of a function, ready to run."""

    def __init__(self, trace: Trace, graph: Graph, structure: Any, leaves: list[Any], results: list[Any]) -> None:
        self.graph = graph
        self.structure = structure
        self.outputs = [r if not is_symbolic(r) else None for r in results]
        self.traced_outputs = [i for i, r in enumerate(results) if is_symbolic(r)]
        self.states = list(trace.states.values())
        self.storages = list(trace.states)
        self.arguments = [i for i, leaf in enumerate(leaves) if is_live(leaf)]
        self.live = list(trace.live.items())
        self.guards = _guards(trace)
        self.finals = _finals(trace)
        self.executor = Reference(graph)

    @classmethod
    def trace(cls, function: Callable[..., Any], structure: Any, leaves: list[Any]) -> Any:
        trace = Trace()
        given = [_ghost(trace, leaf) for leaf in leaves]
        args, kwargs = unflatten(structure, iter(given))
        with tracing(trace):
            try:
                result = function(*args, **kwargs)
                results: list[Any] = []
                out = flatten(result, results)
                symbols = [trace.symbol(r) for r in results if is_symbolic(r)]
                symbols += [trace.symbol(g) for g in _kept(trace).values()]
                graph = trace.graph(symbols)
            except BaseException:
                _undo(trace)
                raise
            program = cls(trace, graph, out, leaves, results)
        _undo(trace)
        trace.closed = True
        return program, None

    def fits(self) -> bool:
        """Tell whether everything that the trace read from Python is as it was."""
        return all(getattr(owner, name) is value if not isinstance(value, _Absence)
                   else (getattr(owner, name) is None) == value.absent
                   for owner, name, value in self.guards)

    def run(self, leaves: list[Any]) -> Any:
        """Run the step on arguments."""
        arguments = [np.asarray(leaves[i]._data if isinstance(leaves[i], Value) else leaves[i]) for i in self.arguments]
        for (_, name, place), (group, _) in self.live:
            value = group[name] if place is None else group[name][place]
            arguments.append(np.asarray(value, np.float64))
        arrays = [s.array() for s in self.states]
        found = self.executor.run(arguments, arrays)
        for number, storage in zip(self.graph.states, self.storages, strict=True):
            if number in self.graph.writes:
                storage.version += 1
        n = len(self.traced_outputs)
        outputs = list(self.outputs)
        for i, array in zip(self.traced_outputs, found, strict=False):
            outputs[i] = wrap(array)
        for cell, place in self.finals:
            cell.grad = None if place is None else wrap(found[n + place])
        return unflatten(self.structure, iter(outputs))


class _Absence:
    """A guard on whether something is None."""

    def __init__(self, absent: bool) -> None:
        self.absent = absent


def _guards(trace: Trace) -> list[tuple[Any, str, Any]]:
    guards: list[tuple[Any, str, Any]] = [(m, "training", m.training) for m in trace.modules.values()]
    for cell, before in trace.cells.items():
        guards.append((cell, "grad", _Absence(before is None)))
    for state in trace.states.values():
        if isinstance(state.owner, Tensor):
            guards.append((state.owner, "requires_grad", state.owner.requires_grad))
    return guards


def _kept(trace: Trace) -> dict[Cell, Tensor]:
    """Return the gradients that the step leaves behind."""
    return {c: c.grad for c in trace.cells if c not in trace.consumed and c.grad is not None and is_symbolic(c.grad)}


def _finals(trace: Trace) -> list[tuple[Cell, int | None]]:
    kept = list(_kept(trace))
    out: list[tuple[Cell, int | None]] = []
    for cell, before in trace.cells.items():
        if cell in kept:
            out.append((cell, kept.index(cell)))
        elif cell.grad is None or is_symbolic(cell.grad):
            out.append((cell, None))
    return out


def _undo(trace: Trace) -> None:
    """Put back the gradients: the trace itself changes nothing."""
    for cell, before in trace.cells.items():
        cell.grad = before


def is_live(leaf: Any) -> bool:
    return isinstance(leaf, Value) or (isinstance(leaf, float))


def is_symbolic(value: Any) -> bool:
    return isinstance(value, Value) and isinstance(value._data, Symbol)


def _ghost(trace: Trace, leaf: Any) -> Any:
    """Return what stands for an argument while the step is traced."""
    if isinstance(leaf, float):
        return wrap(trace.input(Spec((), np.dtype(np.float64))))
    if not isinstance(leaf, Value):
        return leaf
    data = leaf._data
    ghost = wrap(trace.input(Spec(data.shape, data.dtype)))
    return ghost.requires_grad_() if leaf.requires_grad else ghost


def describe(leaf: Any) -> Any:
    if isinstance(leaf, Value):
        return leaf._data.shape, leaf._data.dtype, leaf.requires_grad
    if isinstance(leaf, float):
        return "float"
    return type(leaf), leaf


def flatten(value: Any, leaves: list[Any]) -> Any:
    """Put the leaves of nested tuples, lists and dicts into a list; return the structure."""
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple(flatten(v, leaves) for v in value)
    if isinstance(value, dict):
        return "dict", tuple((k, flatten(v, leaves)) for k, v in value.items())
    leaves.append(value)
    return None


def unflatten(structure: Any, leaves: Any) -> Any:
    """Build what `flatten` took apart."""
    if structure is None:
        return next(leaves)
    kind, parts = structure
    if kind == "dict":
        return {k: unflatten(v, leaves) for k, v in parts}
    values = [unflatten(v, leaves) for v in parts]
    return values if kind == "list" else tuple(values)


def compile(function: Callable[..., Any]) -> Compiled:  # noqa: A001
    """Compile a step."""
    return Compiled(function)
