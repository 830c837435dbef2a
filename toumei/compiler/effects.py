"""What a step changes besides numbers in memory: gradients' places, attributes, who requires grad.

While a step is traced these changes really happen, so that the step sees them; `Effects` remembers
how things were.  `undo` puts them back, and `replay` gives each call of the program the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..config import config
from ..errors import TraceError, user_line
from ..tape import Cell, Leaf, Storage, Value
from ..traced import DROPPED
from .symbol import Symbol, is_symbolic

_MISSING: Any = object()
_TENSOR = ("_data", "_node", "_index", "_cell", "_parent", "_view", "_version")


class Seen(NamedTuple):
    """A gradient as the step first met it."""

    before: Any
    how: str  # "value": read; "presence": asked for; "written": not looked at


class Effects:
    """How things were before a trace."""

    def __init__(self) -> None:
        self.before: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.versions: dict[Storage, int] = {}
        self.cells: dict[Cell, Seen] = {}
        self.gradient_of: dict[int, Cell] = {}  # by the id of a tensor that is a gradient
        self.consumed: set[Cell] = set()  # gradients that an optimiser has taken
        self.assigned: dict[tuple[int, str], str] = {}  # attributes: the line of the assignment
        self.tensors: dict[int, Any] = {}  # outside tensors whose place in the graph changed
        self.on_failure: list[Callable[[], None]] = []
        self.grad_mode = config.grad

    # --- remembering ---

    def remember(self, owner: Any, name: str) -> None:
        """Note how an attribute is, before it is changed for the first time."""
        value = owner.grad if isinstance(owner, Cell) else vars(owner).get(name, _MISSING)
        self.before.setdefault((id(owner), name), (owner, name, value))

    def sees(self, cell: Cell, how: str) -> None:
        """Note that a gradient is looked at, or, if `how` is "written", replaced."""
        if cell not in self.cells:
            self.cells[cell] = Seen(cell.grad, how)
            self.remember(cell, "grad")
            if cell.grad is not None and cell.grad is not DROPPED:
                self.gradient_of[id(cell.grad)] = cell
        elif how == "value" and self.cells[cell].how == "presence":
            self.cells[cell] = self.cells[cell]._replace(how=how)
        if how == "written":
            self.consumed.discard(cell)

    def changes(self, t: Value) -> None:
        """Note that a tensor's place in the graph is about to change."""
        for name in _TENSOR:
            self.remember(t, name)
        self.tensors.setdefault(id(t), t)

    def assigns(self, module: Any, name: str) -> None:
        """Note that a module's attribute is about to be set."""
        self.remember(module, name)
        self.assigned[id(module), name] = user_line()

    def bumps(self, storage: Storage) -> None:
        """Note the version of a storage that is about to be changed."""
        self.versions.setdefault(storage, storage.version)

    # --- taking back ---

    def undo(self, failed: bool) -> None:
        """Put everything back as it was."""
        for owner, name, value in reversed(self.before.values()):
            if isinstance(owner, Cell):
                owner.grad = value
            elif value is _MISSING:
                vars(owner).pop(name, None)
            else:
                vars(owner)[name] = value
        for storage, version in self.versions.items():
            storage.version = version
        config.grad = self.grad_mode
        if failed:
            for action in reversed(self.on_failure):
                action()

    # --- what each call does again ---

    def attributes(self) -> list[tuple[Any, str, Any]]:
        """Return the attributes of modules that the step sets, and to what."""
        found = []
        for key, line in self.assigned.items():
            owner, name, before = self.before[key]
            now = vars(owner).get(name, _MISSING)
            if now is before:
                continue
            if _holds_symbol(now):
                error = TraceError(
                    f"a compiled step puts a tensor that it computed into {type(owner).__name__}."
                    f"{name}, where it would outlive the step: return it from the step, or change "
                    f"a buffer in place, self.{name}.copy_(…)"
                )
                error.where = line
                raise error
            found.append((owner, name, now))
        return found

    def flags(self, arguments: dict[int, int]) -> list[tuple[Any, bool]]:
        """Return the outside tensors that the step makes require grad, or no longer.

        `arguments` are the numbers of arguments by the ids of the tensors that stand for them.
        """
        found: list[tuple[Any, bool]] = []
        for t in self.tensors.values():
            before = self.before[id(t), "_node"][2]
            if isinstance(t._data, Symbol) and id(t) not in arguments:
                continue
            node = t._node
            if node is not None and not isinstance(node, Leaf) and node is not before:
                raise TraceError(
                    f"a compiled step writes into a tensor from outside of it, {t!r:.60}, a value "
                    "that requires grad: its graph would outlive the step. detach() the value, or "
                    "write within no_grad()"
                )
            had = before is not None and before is not _MISSING
            if had != (node is not None):
                found.append((arguments.get(id(t), t), node is not None))
        return found


def _holds_symbol(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_symbol, value))
    if isinstance(value, dict):
        return any(map(_holds_symbol, value.values()))
    return is_symbolic(value)
