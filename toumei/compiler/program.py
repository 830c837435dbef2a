"""A program: one trace of a step, ready to run for as long as its guards hold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..config import config
from ..errors import TraceError
from ..op import Array, Spec
from ..tape import Cell, Leaf, Storage, Value, wrap
from .checks import Check, argument_checks
from .graph import Graph
from .guards import Guards
from .live import Source
from .outcome import Outcome
from .passes import PASSES
from .structure import Structure, flatten, unflatten
from .symbol import State, layout, span
from .trace import Trace, tracing
from .vjp import CompiledStep, Kept, attach, attach_refusal, split
from .watch import all_guards, random_states, watch_function, watch_value


class Executor(Protocol):
    """What runs a graph."""

    def run(self, arguments: list[Array], states: list[Array]) -> list[Array]:
        """Return the results, in memory of their own, after writing the states."""


Pass = Callable[[Graph], Graph]


class Backend(NamedTuple):
    """How a graph is made ready to run: the passes that it goes through, and what runs it."""

    make: Callable[[Graph], Executor]
    passes: tuple[Pass, ...] = PASSES


_SPENT = CompiledStep()

#: Steps share parameters, and the pool of threads: one runs at a time.
LOCK = threading.RLock()


def _alone(executor: Executor, arrays: list[Array]) -> list[Array]:
    with LOCK:
        return executor.run(arrays, [])


def trace_step(
    function: Callable[..., Any],
    structure: Structure,
    leaves: list[Any],
    *,
    frozen: frozenset[Source],
    keep_grads: bool,
    backend: Backend,
) -> Program:
    """Trace a step on arguments; nothing has changed when this returns, or raises."""
    trace = Trace(frozen)
    watched = Guards()
    names = watch_function(watched, function)
    drawn = random_states()
    for leaf in leaves:
        watch_value(watched, leaf, names, "an argument")
    try:
        with tracing(trace):
            ghosts = make_ghosts(trace, leaves)
            given = [ghosts.get(i, leaf) for i, leaf in enumerate(leaves)]
            args, kwargs = unflatten(structure, iter(given))
            result = function(*args, **kwargs)
            _refuse_changed_arguments((args, kwargs), structure, given)
            if not watched.hold():
                raise TraceError(
                    f"{watched.cause} within a compiled step, which would happen only once: "
                    "change it outside of the step"
                )
            if not drawn.items() <= random_states().items():
                raise TraceError(
                    "a random number of Python or NumPy is drawn within a compiled step, which "
                    "would happen only once: use tm.rand(), or hand it to the step as an argument"
                )
            outcome = Outcome(trace, result, ghosts, keep_grads)
        program = Program(trace, outcome, ghosts, leaves, backend)
    except BaseException:
        trace.effects.undo(failed=True)
        trace.close()
        raise
    trace.effects.undo(failed=False)
    program.guards = all_guards(trace, watched, names)
    trace.close()
    return program


class Program:
    """One trace of a function, ready to run."""

    guards: Guards

    def __init__(
        self,
        trace: Trace,
        outcome: Outcome,
        ghosts: dict[int, Any],
        leaves: list[Any],
        backend: Backend,
    ) -> None:
        self.outcome = outcome
        self.live = [(where, np.empty((), np.float64)) for where, _ in trace.live.values()]
        self.attributes = trace.effects.attributes()
        arguments = {id(g): i for i, g in ghosts.items()}
        self.flags = trace.effects.flags(arguments)
        self.grad_mode = config.grad if config.grad != trace.effects.grad_mode else None
        known = [*trace.states.values(), *trace.parts.values()]
        _refuse_overlaps(trace, known)
        by_number = {s.first.number: s for s in known}
        self.graph, self.later = self._graphs(trace, backend.passes)
        self.given = [by_number[v] for v in self.graph.inputs if v in by_number]
        self.states = [by_number[v] for v in self.graph.states]
        self.written = [s for s in self.states if s.first.number in self.graph.writes]
        #: Memory that is written lies as it did: its strides are part of the program.
        self.strides = [(s.owner, s.data.strides) for s in self.written if _is_argument(s)]
        self.checks: list[Check] = argument_checks(self.graph)
        self.executor = backend.make(self.graph)
        if self.later is not None:
            self._make_later(backend, by_number)
        met = {t._storage: t for t in trace.outside.values() if isinstance(t._data, np.ndarray)}
        self.storages: dict[Storage, Value] = {
            s.storage: s.owner for s in known if isinstance(s.owner, Value)
        } | met
        self.aliases = [_alias(leaf, self.storages) for leaf in leaves]

    # --- making ---

    def _graphs(self, trace: Trace, passes: tuple[Pass, ...]) -> tuple[Graph, Graph | None]:
        """Return the graph to run, and the one for the backward pass of its results."""
        back = self.outcome.backward
        gys = [] if back is None else back.gys
        gradients = [] if back is None else back.gradients
        graph = trace.graph([*self.outcome.symbols, *gradients], gys)
        for run_pass in passes:
            graph = run_pass(graph)
        self.crossing: list[int] = []
        if back is None:
            return graph, None
        numbers = [g.number for g in gys]
        forward, later, self.crossing = split(graph, len(self.outcome.symbols), numbers)
        return forward, later

    def _make_later(self, backend: Backend, by_number: dict[int, State]) -> None:
        """Make the program of the results' backward pass."""
        assert self.later is not None and self.outcome.backward is not None
        executor = backend.make(self.later)
        specs = [Spec(g.shape, g.dtype) for g in self.outcome.backward.gys]
        self.step = CompiledStep(lambda arrays: _alone(executor, arrays), specs)
        outside = {*self.graph.inputs, *self.graph.states} - set(self.graph.writes)
        computed = iter(range(len(self.outcome.symbols), len(self.graph.results)))
        self.kept: list[State | int | np.ndarray[Any, Any]] = []  # where each comes from
        numbers = dict(zip(self.graph.inputs[len(self.given) :], self.live, strict=True))
        for v in self.crossing:
            if v not in outside:
                self.kept.append(next(computed))
            else:
                self.kept.append(by_number[v] if v in by_number else numbers[v][1])

    # --- running ---

    def fits(self, leaves: list[Any]) -> bool:
        """Tell whether everything that the trace read from Python is as it was."""
        storages = self.storages
        for i, strides in self.strides:
            if leaves[i]._data.strides != strides:
                self.guards.cause = (
                    f"the strides of argument {i}, which is changed in place, changed"
                )
                return False
        for leaf, alias in zip(leaves, self.aliases, strict=True):
            met = isinstance(leaf, Value) and (alias or leaf._storage in storages)
            if met and alias != _alias(leaf, storages):
                self.guards.cause = "which arguments the step knows from elsewhere changed"
                return False
        return self.guards.hold()

    def run(self, leaves: list[Any]) -> Any:
        """Run the step on arguments."""
        arguments, states = self.arrays(leaves)
        found = self.executor.run(arguments, states)
        for state in self.written:
            t = state.tensor(leaves)
            if t is not None:
                t._storage.version += 1
        if self.attributes or self.flags or self.grad_mode is not None:
            self._replay(leaves)
        self._leave_gradients(leaves, found)
        return self._results(leaves, found)

    def arrays(self, leaves: list[Any]) -> tuple[list[Array], list[Array]]:
        """Return what the executor is run with, arguments and states, once they are checked."""
        for where, memory in self.live:
            memory[()] = _present(where, leaves)
        arguments = [s.array(leaves) for s in self.given]
        arguments += [memory for _, memory in self.live]
        states = [s.array(leaves) for s in self.states]
        for check in self.checks:
            check(arguments, states)
        return arguments, states

    def _replay(self, leaves: list[Any]) -> None:
        """Do again what the step did in Python."""
        for owner, name, value in self.attributes:
            setattr(owner, name, value)
        for t, flag in self.flags:
            (leaves[t] if isinstance(t, int) else t).requires_grad_(flag)
        if self.grad_mode is not None:
            config.grad = self.grad_mode

    def _leave_gradients(self, leaves: list[Any], found: list[Array]) -> None:
        for owner, value, is_place in self.outcome.gradients:
            cell = owner
            if isinstance(owner, int):
                leaves[owner]._cell = cell = leaves[owner]._cell or Cell()
            cell.grad = wrap(found[value]) if is_place else value

    def _results(self, leaves: list[Any], found: list[Array]) -> Any:
        outcome = self.outcome
        results = list(outcome.template)
        for place, i in outcome.arrays:
            results[place] = wrap(found[i])
        for place, i in outcome.numbers:
            results[place] = float(found[i])
        for place, i in outcome.returned:
            results[place] = leaves[i]
        for place in outcome.spent:
            attach(_SPENT, (), None, [results[place]])
        for place, message in outcome.lost.items():
            attach_refusal(message, results[place])
        if outcome.backward is not None:
            self._attach(leaves, found, results)
        for place, earlier in outcome.same:
            results[place] = results[earlier]
        return unflatten(outcome.structure, iter(results))

    def _attach(self, leaves: list[Any], found: list[Array], results: list[Any]) -> None:
        """Give the results the node that their backward pass begins at."""
        assert self.outcome.backward is not None
        sources = [leaves[s] if isinstance(s, int) else s for s in self.outcome.backward.sources]
        kept = []
        for origin in self.kept:
            if isinstance(origin, int):
                kept.append(Kept(found[origin], None, 0))
            elif isinstance(origin, State):
                t = origin.tensor(leaves)
                storage = Storage() if t is None else t._storage
                kept.append(Kept(origin.array(leaves), storage, storage.version))
            else:
                kept.append(Kept(origin.copy(), None, 0))
        edges = tuple([s._edge() for s in sources])
        attach(self.step, edges, kept, [results[place] for place in self.outcome.open])


def _is_argument(state: State) -> bool:
    return isinstance(state.owner, int)


def _alias(leaf: Any, storages: dict[Storage, Value]) -> Any:
    """Return how an argument lies in the memory of a tensor that the step reads by itself."""
    known = storages.get(leaf._storage) if isinstance(leaf, Value) else None
    return None if known is None else (leaf._storage, layout(leaf._data) == layout(known._data))


# --- arguments -----------------------------------------------------------------------------------


def make_ghosts(trace: Trace, leaves: list[Any]) -> dict[int, Any]:
    """Return what stands for the arguments that aren't fixed, by their numbers."""
    ghosts: dict[int, Any] = {}
    first: dict[int, Any] = {}  # by the id of an argument: the same tensor may come twice
    for i, leaf in enumerate(leaves):
        if type(leaf) is float or isinstance(leaf, float):
            source = ("argument", i)
            if source not in trace.frozen:
                ghosts[i] = trace.number(source, i)
        elif isinstance(leaf, Value):
            if id(leaf) not in first:
                first[id(leaf)] = _ghost(trace, i, leaf)
            ghosts[i] = first[id(leaf)]
    return ghosts


def _ghost(trace: Trace, i: int, leaf: Value) -> Any:
    state = trace.states.get(leaf._storage)
    if state is None:
        symbol = trace.state(i, leaf._data, leaf._storage)
    elif layout(state.data) == layout(leaf._data):
        symbol = trace.latest[leaf._storage]
    else:  # another part of the same memory: fine unless it is changed
        symbol = trace.part(i, leaf._data, leaf._storage)
    ghost = wrap(symbol, leaf._storage)
    edge = leaf._edge()
    if edge is None:
        return ghost
    if isinstance(edge[0], Leaf):  # the very node: gradients meet those of the tensor itself
        ghost._node, ghost._cell = edge[0], leaf._cell
        if leaf._cell is not None:
            trace.argument_cells[leaf._cell] = i
    else:
        ghost.requires_grad_()
        assert ghost._cell is not None
        trace.foreign[ghost._cell] = i
    return ghost


def _refuse_changed_arguments(arguments: Any, structure: Structure, given: list[Any]) -> None:
    leaves: list[Any] = []
    now = flatten(arguments, leaves)
    if now != structure or any(a is not b for a, b in zip(leaves, given, strict=True)):
        raise TraceError(
            "a compiled step changes a list, dict or object that was handed to it: the caller "
            "wouldn't see it. Return the new one from the step"
        )


def _present(where: Any, leaves: list[Any]) -> float:
    """Return a live number as it is now: an argument, or a hyper-parameter."""
    if isinstance(where, int):
        value: float = leaves[where]
        return value
    group, name, place = where
    found: float = group[name] if place is None else group[name][place]
    return found


def _refuse_overlaps(trace: Trace, states: list[State]) -> None:
    """Refuse two states in the same memory of which one is changed."""
    changed = {s for s, now in trace.latest.items() if now.number != _first(trace, s)}
    spans = sorted(((*span(s.data), s) for s in _sized(states)), key=lambda found: found[:2])
    for (_, end, a), (start, _, b) in pairwise(spans):
        if start < end and a.storage is not b.storage and {a.storage, b.storage} & changed:
            raise TraceError(
                f"two tensors of {b.data.dtype}{list(b.data.shape)} and {a.data.dtype}"
                f"{list(a.data.shape)} share memory (.data, from_numpy) and a compiled step "
                "changes one: use one of them, or a clone()"
            )


def _sized(states: list[State]) -> Iterator[State]:
    return (s for s in states if s.data.size)


def _first(trace: Trace, storage: Storage) -> int:
    state = trace.states.get(storage)
    return -1 if state is None else state.first.number
