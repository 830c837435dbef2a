"""What a traced step leaves behind: its results, and the gradients of tensors outside of it."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from ..config import config
from ..errors import GradError, TraceError
from ..tape import Value
from ..traced import DROPPED
from .live import LiveNumber
from .structure import flatten
from .symbol import Symbol, is_symbolic
from .vjp import Backward, is_spent, trace_backward

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .trace import Trace


class Outcome:
    """Where each result of a step comes from; made while its trace is open.

    Attributes:
        structure: how the results are put together.
        template: the results that Python knows already; None in the places of the others.
        symbols: the values that the graph has to return: results, then gradients.
        arrays: (place among the results, place among the symbols) of tensors.
        numbers: the same of Python numbers.
        returned: (place among the results, number of the argument) of arguments handed back.
        same: (place, earlier place) of results that are the same tensor.
        spent: places of results whose graph a backward pass has freed.
        open: places of results that a backward pass can begin at.
        lost: what the backward pass of other results says: a value it needs was overwritten, say.
        backward: that backward pass.
        gradients: (cell or number of the argument, place among the symbols or a fixed value).
    """

    def __init__(self, trace: Trace, result: Any, ghosts: dict[int, Any], keep_grads: bool) -> None:
        leaves: list[Any] = []
        self.structure = flatten(result, leaves)
        self.template: list[Any] = [None] * len(leaves)
        self.symbols: list[Symbol] = []
        self.arrays: list[tuple[int, int]] = []
        self.numbers: list[tuple[int, int]] = []
        self.returned: list[tuple[int, int]] = []
        self.same: list[tuple[int, int]] = []
        self.spent: list[int] = []
        self.open: list[int] = []
        self.lost: dict[int, str] = {}
        self._given = {id(ghost): i for i, ghost in ghosts.items()}
        first: dict[int, int] = {}
        for place, leaf in enumerate(leaves):
            earlier = first.setdefault(id(leaf), place)
            if earlier != place and is_symbolic(leaf):
                self.same.append((place, earlier))
            else:
                self._place(trace, place, leaf)
        self.gradients = self._gradients(trace, keep_grads)
        self.backward = self._backward(trace, leaves, ghosts)

    def _place(self, trace: Trace, place: int, leaf: Any) -> None:
        if id(leaf) in self._given:
            self.returned.append((place, self._given[id(leaf)]))
        elif isinstance(leaf, LiveNumber):
            self.numbers.append((place, self._want(trace.symbol(leaf.value))))
        elif is_symbolic(leaf):
            self.arrays.append((place, self._want(trace.symbol(leaf))))
            if leaf._edge() is not None:
                spent = not config.grad or is_spent(leaf, trace.began)
                (self.spent if spent else self.open).append(place)
        else:
            _refuse_hidden(leaf)
            self.template[place] = leaf

    def _want(self, symbol: Symbol) -> int:
        self.symbols.append(symbol)
        return len(self.symbols) - 1

    def _gradients(self, trace: Trace, keep_grads: bool) -> list[tuple[Any, Any, bool]]:
        """Return (cell or argument, value or place among the symbols, whether it is a place)."""
        effects = trace.effects
        found: list[tuple[Any, Any, bool]] = []
        tensors = effects.tensors.values()
        inner = {t._cell for t in tensors if is_symbolic(t) and id(t) not in self._given}
        arguments = {t._cell: self._given[id(t)] for t in tensors if id(t) in self._given}
        arguments |= trace.argument_cells
        for cell, seen in effects.cells.items():
            gradient: Any = cell.grad
            owner = arguments.get(cell, cell)
            if cell in inner or gradient is seen.before:
                continue
            if effects.gradient_of.get(id(gradient), cell) is not cell:
                raise TraceError(
                    "a compiled step makes one tensor's gradient that of another one: assign a "
                    "clone() of it"
                )
            if not is_symbolic(gradient):
                found.append((owner, gradient, False))
            elif cell in effects.consumed and not keep_grads:
                found.append((owner, DROPPED, False))
            else:
                _refuse_graph(gradient)
                found.append((owner, self._want(trace.symbol(gradient)), True))
        return found

    def _backward(
        self, trace: Trace, leaves: list[Tensor], ghosts: dict[int, Any]
    ) -> Backward | None:
        if not self.open:
            return None
        arguments = [(i, g) for i, g in ghosts.items() if isinstance(g, Value)]

        def derive(places: list[int]) -> Backward | None:
            return trace_backward(trace, [leaves[place] for place in places], arguments)

        try:
            found = derive(self.open)
        except GradError:  # of one at least; that is an error if its backward is called
            self.lost = {place: e for place in self.open if (e := _grad_error(derive, [place]))}
            self.open = [place for place in self.open if place not in self.lost]
            found = derive(self.open) if self.open else None
        if found is None:  # nothing outside requires grad: only what was made within does
            self.open, self.spent = [], self.spent + self.open
        return found


def _grad_error(function: Callable[..., Any], *args: Any) -> str:
    """Return the message of the GradError that a call raises; empty if it raises none."""
    try:
        function(*args)
    except GradError as error:
        return error.message
    return ""


def _refuse_hidden(leaf: Any) -> None:
    """Refuse a result of a kind that isn't taken apart, if it holds what was traced."""
    if isinstance(leaf, GeneratorType | CoroutineType):
        raise TraceError("a compiled step can't be a generator or a coroutine: return the results")
    inside = getattr(leaf, "__dict__", {}).values()
    if not isinstance(leaf, Value) and any(map(is_symbolic, inside)):
        raise TraceError(
            f"a compiled step returns a {type(leaf).__name__} with tensors in it: return them in a "
            "tuple, list, dict or dataclass"
        )


def _refuse_graph(gradient: Tensor) -> None:
    if gradient._edge() is not None:
        raise TraceError(
            "a compiled step leaves behind a gradient that has a graph (create_graph=True): use it "
            "up within the step, or take it by autograd.grad and return what is made of it"
        )
