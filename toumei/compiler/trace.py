"""Tracing: run a step on tensors without numbers, and note down every op.

While a trace is open, `tape.apply` hands every op to it instead of computing.  What the ops then
see are Symbols: shapes and dtypes with the number of a value in the graph.  Tensors from outside
of the step keep their arrays; the first use of one makes it a *state* of the graph.  A change in
place gives a storage a new value; the last one is written back when the compiled step has run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..config import config, grad_mode, untraced
from ..debug import place_of_call
from ..errors import TraceError
from ..op import Array, Composite, Op, Spec, View
from ..ops.arithmetic import Add
from ..ops.elementwise import Cast
from ..tape import Cell, Node, Storage, Value, infer, next_order, wrap
from ..views import ViewScatter, assign
from .effects import Effects
from .graph import Call, Graph, once
from .guards import Guards
from .live import LiveNumber, Source, WatchedGroup, open_number
from .symbol import State, Symbol, layout

if TYPE_CHECKING:
    from ..device import Generator
    from ..tensor import Tensor


class Trace:
    """A step that is being noted down.

    Args:
        frozen: numbers that aren't left open, since Python must know them.
    """

    def __init__(self, frozen: frozenset[Source] = frozenset()) -> None:
        self.frozen = frozen
        self.specs: dict[int, Spec] = {}
        self.calls: list[Call] = []
        self.inputs: list[int] = []
        self.constants: dict[int, Array] = {}
        self.states: dict[Storage, State] = {}
        self.latest: dict[Storage, Symbol] = {}  # the value that a storage holds at present
        self.parts: dict[tuple[Any, ...], State] = {}  # what shows a part of a state's memory
        self.shared: set[Storage] = set()  # storages with such parts: never to be changed
        self.live: dict[Source, tuple[Any, LiveNumber]] = {}
        self.generators: dict[int, Storage] = {}
        self.modules: dict[int, Any] = {}  # that were called
        self.listed: dict[int, Any] = {}  # whose parts were listed, by parameters() for one
        self.optimizers: dict[int, Any] = {}
        self.groups: dict[int, WatchedGroup] = {}
        self.argument_cells: dict[Cell, int] = {}
        self.foreign: dict[Cell, int] = {}  # arguments that have a graph outside of the step
        self.effects = Effects()
        self.guards = Guards()
        self.outside: dict[int, Value] = {}  # tensors from outside that ops were applied to
        self.began = next_order()  # nodes that are older belong to others
        self.ending = False  # the step is over: what follows is the gradient of its results
        self.within: Any = None  # the composite whose parts are being noted down
        self.closed = False

    # --- what `apply` asks for ---

    def symbol(self, t: Value) -> Symbol:
        """Return the value that a tensor has at present."""
        data = t._data
        if isinstance(data, Symbol):
            if data.trace is not self or self.closed:
                raise Symbol.outlived()
            if data.version == t._storage.version:
                return data
        else:
            self.outside[id(t)] = t
        if t._parent is not None:
            return self._view_again(t)
        if isinstance(data, Symbol):
            return self.latest[t._storage]
        if isinstance(data, np.ndarray):
            return self._outside(t, data)
        raise TraceError("a tensor without numbers can't be an input of a compiled step")

    def _view_again(self, t: Value) -> Symbol:
        """Return what a view shows of its base as the base is now."""
        assert t._parent is not None and t._view is not None
        shown: Symbol = self.call(t._view, [self.symbol(t._parent)])
        shown.version = t._storage.version
        if isinstance(t._data, Symbol):
            t._data = shown
        return shown

    def _outside(self, t: Value, data: Array) -> Symbol:
        """Return the value of a tensor from outside of the step, by the memory that it shows."""
        state = self.states.get(t._storage)
        if state is None:
            cell = self.effects.gradient_of.get(id(t))
            given = self.argument_cells.get(cell) if cell is not None else None
            owner = cell or t if given is None else (given, "grad")
            return self.state(owner, data, t._storage)
        if state.data is data or layout(state.data) == layout(data):
            return self.latest[t._storage]
        return self.part(t, data, t._storage)

    def part(self, owner: Any, data: Array, storage: Storage) -> Symbol:
        """Take in what shows another part of a memory that is known: it must not be changed."""
        key = (storage, *layout(data))
        if key not in self.parts:
            if self.latest[storage].number != self.states[storage].first.number:
                self._refuse_part()
            self.shared.add(storage)
            self.parts[key] = State(owner, self._new(Spec(data.shape, data.dtype)), data, storage)
        return self._alias(self.parts[key].first, storage.version)

    def state(self, owner: Any, array: Array, storage: Storage) -> Symbol:
        """Take in memory from outside of the step."""
        symbol = self._alias(self._new(Spec(array.shape, array.dtype)), storage.version)
        self.states[storage] = State(owner, symbol, array, storage)
        self.latest[storage] = symbol
        return symbol

    def call(self, op: Op, symbols: Sequence[Symbol]) -> Any:
        """Note down an op; return the symbols of its results."""
        if isinstance(op, Composite):
            with untraced():
                found = infer(op, [Spec(s.shape, s.dtype, s.weak) for s in symbols])
        else:
            found = op.infer(*symbols)
        specs = found if type(found) is tuple else (found,)
        outputs = tuple([self._new(s) for s in specs])
        numbers = tuple([s.number for s in symbols])
        made = tuple([s.number for s in outputs])
        self.calls.append(Call(op, numbers, made, place_of_call(), self.within))
        return outputs if type(found) is tuple else outputs[0]

    def constant(self, array: Array) -> Symbol:
        """Take in an array that was made within the step."""
        symbol = self._new(Spec(array.shape, array.dtype))
        own = once(array).copy()
        whole = own.shape == array.shape
        self.constants[symbol.number] = own if whole else np.broadcast_to(own, array.shape)
        return symbol

    def fixed_numbers(self, t: Value) -> Array | None:
        """Return the numbers of a tensor that was made of Python's within the step."""
        return self.constants.get(self.symbol(t).number)

    def input(self, spec: Spec) -> Symbol:
        """Return a value that each call of the compiled step hands over."""
        symbol = self._new(spec)
        self.inputs.append(symbol.number)
        return symbol

    def open_value(self, spec: Spec) -> Symbol:
        """Return a value that isn't defined here, such as what a backward pass begins with."""
        return self._new(spec)

    def number(self, source: Source, where: Any) -> LiveNumber:
        """Return a Python number that each call of the compiled step hands over."""
        if source not in self.live:
            self.live[source] = (where, open_number(self, source))
        return self.live[source][1]

    def _new(self, spec: Spec) -> Symbol:
        number = len(self.specs)
        plain = type(spec) is Spec
        self.specs[number] = spec if plain else Spec(spec.shape, spec.dtype, spec.weak)
        return Symbol(spec, number, self)

    def _alias(self, symbol: Symbol, version: int) -> Symbol:
        """Return another Symbol of the same value: each storage has a version of its own."""
        return Symbol(Spec(symbol.shape, symbol.dtype), symbol.number, self, version)

    # --- changes of memory ---

    def assign(self, target: Value, value: Value) -> None:
        """Put a value in the place of target's; its storage's version is about to be counted up."""
        new = self.symbol(value)
        if new.dtype != target._data.dtype:
            new = self.call(Cast(target._data.dtype), [new])
        storage, whole = target._storage, target
        while target._parent is not None:
            view = cast(View, target._view)
            self.effects.changes(target)
            whole = target = target._parent
            new = self.call(ViewScatter(view), [self.symbol(target), new])
        if not isinstance(whole._data, Symbol):
            self.symbol(whole)
            self.effects.changes(whole)
        if storage in self.shared:
            self._refuse_part()
        self.effects.bumps(storage)
        self.latest[storage] = held = self._alias(new, storage.version + 1)
        if isinstance(whole._data, Symbol):
            whole._data = held

    def _refuse_part(self) -> None:
        raise TraceError(
            "a compiled step changes memory in place of which another tensor, made outside of the "
            "step, shows a part: take the view within the step"
        )

    def replace(self, t: Tensor, value: Tensor) -> None:
        """Do what `t.data = value` means: the numbers change, unnoticed by the graph."""
        if (value.shape, value.dtype) != (t.shape, t.dtype):
            raise TraceError("a compiled step can't change the shape or dtype of a tensor's .data")
        with grad_mode(False):
            assign(t, value, "setting .data")

    def detached(self, t: Value) -> Tensor:
        """Return a tensor that stays the same memory as `t`, outside of the graph."""
        out = wrap(self.symbol(t), t._storage)
        if t._parent is not None:
            out._parent, out._view = self.detached(t._parent), t._view
            out._version = t._storage.version
        return out

    def key(self, generator: Generator) -> Tensor:
        """Return the key of the next draw; the generator moves on when the compiled step runs."""
        storage = self._storage_of(generator)
        key = self.latest[storage]
        moved = self.call(Add(), [key, self.constant(np.array([0, 1], np.int64))])
        self.latest[storage] = self._alias(moved, 0)
        return wrap(key, Storage())

    def seeds(self, generator: Generator, state: Array) -> None:
        """Let a generator start again from a seed, whenever the compiled step runs."""
        self.latest[self._storage_of(generator)] = self._alias(self.constant(state), 0)

    def _storage_of(self, generator: Generator) -> Storage:
        storage = self.generators.setdefault(id(generator), Storage())
        if storage not in self.latest:
            self.state(generator, generator.state, storage)
        return storage

    # --- what else a step reads and changes ---

    def saw_gradient(self, cell: Cell, how: str = "value") -> None:
        """A gradient is about to be read or added to."""
        if cell in self.foreign:
            raise TraceError(
                f"backward() within a compiled step reaches argument {self.foreign[cell]}, which "
                "has a graph made outside of the step: detach() it, or return the loss and call "
                "backward() on that"
            )
        self.effects.sees(cell, how)

    def sets_gradient(self, cell: Cell) -> None:
        """A gradient is about to be replaced."""
        self.effects.sees(cell, "written")

    def consumes(self, cell: Cell) -> None:
        """An optimiser takes a gradient."""
        self.effects.consumed.add(cell)

    def changes(self, t: Value) -> None:
        """The place of a tensor in the graph is about to change."""
        self.effects.changes(t)

    def sets_attribute(self, module: Any, name: str) -> None:
        """An attribute of a module is about to be set."""
        self.effects.assigns(module, name)

    def visit(self, module: Any) -> None:
        """A module is called."""
        self.modules.setdefault(id(module), module)

    def lists(self, module: Any) -> None:
        """The parts of a module are about to be listed."""
        self.listed.setdefault(id(module), module)

    def watched(self, group: Any) -> WatchedGroup:
        """Return a parameter group that notes what is read of it."""
        if id(group) not in self.groups:
            self.groups[id(group)] = WatchedGroup(group, self, self.guards)
        return self.groups[id(group)]

    def makes_state(self, states: dict[Any, Any], p: Any) -> None:
        """An optimiser is about to make its state of a parameter: it goes if the trace fails."""
        before = dict(states[p])

        def take_back() -> None:
            if before:
                states[p] = before
            else:
                states.pop(p, None)

        self.effects.on_failure.append(take_back)

    def stepped(self, optimizer: Any) -> None:
        """An optimiser has made a step."""
        self.optimizers.setdefault(id(optimizer), optimizer)

    def stops_at(self, node: Node, wanted: set[Node] | None) -> bool:
        """Tell whether the backward pass ends at a node, since it was made outside of the step."""
        if node.order > self.began:
            return False
        beyond = any(e is not None and (wanted is None or e[0] in wanted) for e in node.edges)
        if beyond and not self.ending:
            raise TraceError(
                "backward() within a compiled step reaches a graph that was made outside of it: "
                "detach() the tensor, or return the loss and call backward() on that"
            )
        return True

    # --- the end ---

    def close(self) -> None:
        """Forget everything: what was kept from the trace says so when it is used."""
        vars(self).clear()
        self.closed = True

    def graph(self, results: Sequence[Symbol], more: Sequence[Symbol] = ()) -> Graph:
        """Return what was noted down; `more` are further inputs."""
        states = [*self.states.values(), *self.parts.values()]
        writes = {
            state.first.number: self.latest[storage].number
            for storage, state in self.states.items()
            if self.latest[storage].number != state.first.number
        }
        kept = [s for s in states if not _is_argument(s) or s.first.number in writes]
        given = [s for s in states if _is_argument(s) and s.first.number not in writes]
        return Graph(
            specs=self.specs,
            calls=tuple(self.calls),
            inputs=(*(s.first.number for s in given), *self.inputs, *(s.number for s in more)),
            states=tuple(s.first.number for s in kept),
            constants=self.constants,
            results=tuple(s.number for s in results),
            writes=writes,
        )


def _is_argument(state: State) -> bool:
    return isinstance(state.owner, int)


@contextmanager
def tracing(trace: Trace | None) -> Iterator[None]:
    """Hand every op to a trace within the block; None computes, also within a trace."""
    before, config.trace = config.trace, trace
    try:
        yield
    finally:
        config.trace = before
