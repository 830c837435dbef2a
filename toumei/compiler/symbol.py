"""What stands for numbers while a step is traced: Symbol for an array, State for outside memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from ..errors import TraceError
from ..op import Array, Spec
from ..tape import Cell, Storage, Value

if TYPE_CHECKING:
    from .trace import Trace


class Symbol(Spec):
    """A value of the graph that is being made."""

    __slots__ = ("number", "trace", "version")

    def __init__(self, spec: Spec, number: int, trace: Trace, version: int = 0) -> None:
        self.shape, self.dtype, self.weak = spec.shape, spec.dtype, spec.weak
        self.number, self.trace, self.version = number, trace, version

    def apart(self) -> Symbol:
        """Return the same value as one that changes of its memory don't concern."""
        return Symbol(self, self.number, self.trace)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asking for one of its protocols
            raise AttributeError(name)
        self.refuse()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say that there are no numbers."""
        raise (
            self.outlived()
            if self.trace.closed
            else TraceError(
                f"this needs the numbers of {Spec(self.shape, self.dtype)}, which a compiled step "
                "doesn't know while it is traced: do it outside of the step"
            )
        )

    @staticmethod
    def outlived() -> TraceError:
        """Return the error for a tensor that was kept from a trace."""
        return TraceError(
            "a tensor of a compiled step is used after the step was traced: it has no numbers. "
            "Return it from the step instead of keeping it"
        )


def is_symbolic(value: Any) -> bool:
    """Tell whether a value is a tensor of a trace."""
    return isinstance(value, Value) and isinstance(value._data, Symbol)


class State:
    """Memory outside of the step: where its array is found at each call.

    The owner is a tensor, a generator, the cell of a gradient, or the number of an argument; the
    pair of a number and "grad" is the gradient of an argument.
    """

    def __init__(self, owner: Any, first: Symbol, data: Array, storage: Storage) -> None:
        self.owner = owner
        self.first = first
        self.data = data  # as it was during the trace
        self.storage = storage

    def array(self, leaves: list[Any]) -> Array:
        """Return the memory as it is now, at a call with these arguments."""
        owner = self.tensor(leaves)
        found: Array = self.owner.state if owner is None else owner._data
        return found

    def tensor(self, leaves: list[Any]) -> Value | None:
        """Return the tensor that has the memory now; None for a generator."""
        owner = self.owner
        if isinstance(owner, Value):
            return owner
        if isinstance(owner, int):
            return cast(Value, leaves[owner])
        cell = leaves[owner[0]]._cell if isinstance(owner, tuple) else owner
        return cell.grad if isinstance(cell, Cell) else None


def layout(array: Array) -> tuple[Any, ...]:
    """Return what says which memory an array shows, and how."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def span(array: Array) -> tuple[int, int]:
    """Return the first address of an array and the first one behind it."""
    return np.lib.array_utils.byte_bounds(array)
