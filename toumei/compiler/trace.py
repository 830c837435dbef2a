"""Tracing: run a step on tensors without numbers, and note down every op.

While a trace is open, `tape.apply` hands every op to it instead of computing.  What the ops then see
are Symbols: shapes and dtypes with the number of a value in the graph.  Tensors from outside of the
step keep their arrays; the first use of one makes it a *state* of the graph.  A change in place gives
a storage a new value; the last one is written back when the compiled step has run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import config, untraced
from ..debug import place_of_call
from ..errors import TraceError
from ..op import Array, Op, Spec
from ..ops.arithmetic import Add
from ..ops.elementwise import Cast
from ..tape import Cell, Storage, Value, infer, wrap
from ..views import ViewScatter
from .graph import Call, Graph

if TYPE_CHECKING:
    from ..device import Generator
    from ..tensor import Tensor


class Symbol(Spec):
    """A value of the graph that is being made."""

    __slots__ = ("number", "trace", "version")

    def __init__(self, spec: Spec, number: int, trace: Trace, version: int = 0) -> None:
        super().__init__(spec.shape, spec.dtype, spec.weak)
        self.number, self.trace, self.version = number, trace, version


class State:
    """Memory outside of the step: where its array is found at each call."""

    def __init__(self, owner: Any, first: Symbol) -> None:
        self.owner = owner  # a tensor, a generator, or the cell of a gradient
        self.first = first

    def array(self) -> Array:
        """Return the memory as it is now."""
        owner = self.owner
        if isinstance(owner, Cell):
            assert owner.grad is not None
            owner = owner.grad
        return owner._data if isinstance(owner, Value) else owner.state


class Trace:
    """A step that is being noted down."""

    def __init__(self) -> None:
        self.specs: dict[int, Spec] = {}
        self.calls: list[Call] = []
        self.inputs: list[int] = []
        self.constants: dict[int, Array] = {}
        self.states: dict[Storage, State] = {}
        self.latest: dict[Storage, Symbol] = {}  # the value that a storage holds at present
        self.cells: dict[Cell, Tensor | None] = {}  # gradients, as they were at the beginning
        self.live: dict[tuple[int, str, int | None], tuple[Any, Symbol]] = {}
        self.generators: dict[int, Storage] = {}
        self.modules: dict[int, Any] = {}
        self.consumed: set[Cell] = set()  # gradients that an optimiser has taken
        self.closed = False

    # --- what `apply` asks for ---

    def symbol(self, t: Value) -> Symbol:
        """Return the value that a tensor has at present."""
        data = t._data
        if isinstance(data, Symbol) and (data.trace is not self or self.closed):
            raise TraceError(
                "a tensor of a compiled step is used outside of it: return it from the step instead"
            )
        if t._parent is not None:
            if isinstance(data, Symbol) and data.version == t._storage.version:
                return data
            return self._view_again(t)
        if isinstance(data, np.ndarray):
            return self.latest.get(t._storage) or self._state(t, data, t._storage)
        if isinstance(data, Symbol):
            if data.version == t._storage.version:
                return data
            now = self.latest[t._storage]
            if now.shape == data.shape:
                return now
            raise TraceError(
                "a detached view of a tensor is used after the tensor was changed in place: "
                "take the view again, after the change"
            )
        raise TraceError("a tensor without numbers can't be an input of a compiled step")

    def _view_again(self, t: Value) -> Symbol:
        """Return what a view shows of its base as the base is now."""
        assert t._parent is not None and t._view is not None
        shown: Symbol = self.call(t._view, [self.symbol(t._parent)])
        shown.version = t._storage.version
        if isinstance(t._data, Symbol):
            t._data = shown
        return shown

    def saw_gradient(self, cell: Cell) -> None:
        """A gradient is about to be read or changed."""
        self.cells.setdefault(cell, cell.grad)

    def _state(self, owner: Any, array: Array, storage: Storage) -> Symbol:
        symbol = self._new(Spec(array.shape, array.dtype))
        symbol.version = storage.version
        cell = next((c for c, g in self.cells.items() if g is owner), None)
        self.states[storage] = State(cell or owner, symbol)
        self.latest[storage] = symbol
        return symbol

    def call(self, op: Op, symbols: Sequence[Symbol]) -> Any:
        """Note down an op; return the symbols of its results."""
        with untraced():
            found = infer(op, [Spec(s.shape, s.dtype, s.weak) for s in symbols])
        specs = found if type(found) is tuple else (found,)
        outputs = tuple(self._new(s) for s in specs)
        numbers = tuple(s.number for s in symbols)
        self.calls.append(Call(op, numbers, tuple(s.number for s in outputs), place_of_call()))
        return outputs if type(found) is tuple else outputs[0]

    def constant(self, array: Array) -> Symbol:
        """Take in an array that was made within the step."""
        symbol = self._new(Spec(array.shape, array.dtype))
        self.constants[symbol.number] = array.copy()
        return symbol

    def _new(self, spec: Spec) -> Symbol:
        number = len(self.specs)
        self.specs[number] = spec
        return Symbol(spec, number, self)

    # --- changes ---

    def assign(self, target: Value, value: Value) -> None:
        """Put a value in the place of target's; its storage's version is about to be counted up."""
        new = self.symbol(value)
        if new.dtype != target._data.dtype:
            new = self.call(Cast(target._data.dtype), [new])
        version = target._storage.version + 1
        while target._parent is not None:
            view = target._view
            target = target._parent
            new = self.call(ViewScatter(view), [self.symbol(target), new])
        held = self._alias(new)
        held.version = version
        self.latest[target._storage] = held
        if isinstance(target._data, Symbol):
            target._data = held

    def _alias(self, symbol: Symbol) -> Symbol:
        """Return another Symbol of the same value: each storage has a version of its own."""
        return Symbol(Spec(symbol.shape, symbol.dtype), symbol.number, self)

    def key(self, generator: Generator) -> Tensor:
        """Return the key of the next draw; the generator moves on when the compiled step runs."""
        storage = self.generators.setdefault(id(generator), Storage())
        key = self.latest.get(storage) or self._state(generator, generator.state, storage)
        one = self.constant(np.array([0, 1], np.int64))
        moved = self._alias(self.call(Add(), [key, one]))
        self.latest[storage] = moved
        return wrap(key, Storage())

    def live_number(self, group: Any, name: str) -> Any:
        """Return a hyper-parameter as an input that each call of the compiled step fills anew."""
        value = group[name]
        if isinstance(value, tuple):
            return tuple(self._live(group, name, i) for i in range(len(value)))
        return self._live(group, name, None) if isinstance(value, float) else value

    def _live(self, group: Any, name: str, place: int | None) -> Tensor:
        where = (id(group), name, place)
        if where not in self.live:
            self.live[where] = (group, self.input(Spec((), np.dtype(np.float64))))
        return wrap(self.live[where][1], Storage())

    def input(self, spec: Spec) -> Symbol:
        """Return a value that each call of the compiled step hands over."""
        symbol = self._new(spec)
        self.inputs.append(symbol.number)
        return symbol

    # --- the end ---

    def graph(self, results: Sequence[Symbol]) -> Graph:
        """Return what was noted down."""
        writes = {
            state.first.number: self.latest[storage].number
            for storage, state in self.states.items()
            if self.latest[storage].number != state.first.number
        }
        return Graph(
            specs=self.specs,
            calls=tuple(self.calls),
            inputs=tuple(self.inputs),
            states=tuple(s.first.number for s in self.states.values()),
            constants=self.constants,
            results=tuple(s.number for s in results),
            writes=writes,
        )


@contextmanager
def tracing(trace: Trace | None) -> Iterator[None]:
    """Hand every op to a trace within the block; None computes, also within a trace."""
    before, config.trace = config.trace, trace
    try:
        yield
    finally:
        config.trace = before
