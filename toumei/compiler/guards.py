"""Guards: what a trace has read from Python, to be compared before each run of its program.

All of them stand in one flat list of (getter, owner, name, value); the loop compares identities.
Only where one differs, a second look decides whether that matters: a parameter's memory may have
been replaced by another of the same layout, an int be another object of the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..nn.module import Module
from ..tape import Leaf
from ..traced import DROPPED

Same = Callable[[Any, Any], bool]
Entry = tuple[Callable[[Any, Any], Any], Any, Any, Any]

PLAIN = (bool, int, float, str, bytes, type(None), np.dtype)


def _item(owner: Any, name: Any) -> Any:
    """Return an item of a dict or list; None if it isn't there."""
    try:
        return owner[name]
    except (KeyError, IndexError):
        return None


def _length(owner: Any, name: Any) -> int:
    return len(owner)


def attribute_of(owner: Any, name: str) -> Any:
    """Return an attribute; None if it isn't there."""
    return getattr(owner, name, None)


def _length_of_item(owner: tuple[Any, Any], name: None) -> int:
    return len(owner[0][owner[1]])


# --- when two values that aren't the same object serve as well ---


def equal(before: Any, now: Any) -> bool:
    """Plain values count by type and value."""
    return type(before) is type(now) and isinstance(now, PLAIN) and bool(before == now)


def same_truth(before: Any, now: Any) -> bool:
    """Numbers count as 0 or not 0."""
    return type(before) is not bool and type(now) is not bool and bool(before) == bool(now)


def same_layout(before: Any, now: Any) -> bool:
    """Arrays count by shape, dtype and strides: the numbers are read at each call."""
    if type(now) is not np.ndarray:
        return False
    return (before.shape, before.strides) == (now.shape, now.strides) and before.dtype == now.dtype


def same_role(before: Any, now: Any) -> bool:
    """Nodes of outside tensors count by whether there is one, and whether it is a leaf's."""
    return (before is None) == (now is None) and isinstance(before, Leaf) == isinstance(now, Leaf)


def same_gradient(before: Any, now: Any) -> bool:
    """Gradients count by whether there is one, and by its layout."""
    if before is None or now is None or DROPPED in (before, now):
        return before is now
    return same_layout(before._data, now._data) and before._node is None and now._node is None


def same_presence(before: Any, now: Any) -> bool:
    """Gradients count by whether there is one, be it one that was used up."""
    return (before is None) == (now is None)


def same_mode(before: Any, now: Any) -> bool:
    """Modes count by whether they are on."""
    return bool(before) is bool(now)


class Guards:
    """A flat list of what must be unchanged."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.same: list[Same] = []
        self.causes: list[str] = []
        self.cause = ""  # which one failed last
        self.modules: dict[int, Module] = {}  # those among the values, called or not
        self._known: set[tuple[Any, ...]] = set()

    def add(
        self,
        get: Callable[[Any, Any], Any],
        owner: Any,
        name: Any,
        value: Any,
        same: Same,
        why: str,
    ) -> None:
        """Add a guard; one on the same place counts once."""
        key = (get, id(owner), name, same)
        if key not in self._known:
            self._known.add(key)
            self.entries.append((get, owner, name, value))
            self.same.append(same)
            self.causes.append(why)

    def attribute(self, owner: Any, name: str, value: Any, same: Same, why: str) -> None:
        """Guard an attribute."""
        self.add(getattr, owner, name, value, same, why)

    def item(self, owner: Any, name: Any, value: Any, why: str) -> None:
        """Guard an item of a dict or list; for (owner, name) and None: the length of that item."""
        get = _item if name is not None else _length_of_item
        self.add(get, owner, name, value, _equal_within, why)

    def truth(self, owner: Any, name: Any, value: Any, why: str) -> None:
        """Guard whether an item is 0."""
        self.add(_item, owner, name, value, same_truth, why)

    def meet(self, value: Any) -> None:
        """Remember a module: what a step reads of it is known when the step is over."""
        if isinstance(value, Module):
            self.modules[id(value)] = value

    def hold(self) -> bool:
        """Tell whether everything is as it was."""
        for get, owner, name, value in self.entries:
            if get(owner, name) is not value:
                return self._look_again()
        return True

    def _look_again(self) -> bool:
        for i, (get, owner, name, value) in enumerate(self.entries):
            now = get(owner, name)
            if now is value:
                continue
            if not self.same[i](value, now):
                self.cause = f"{self.causes[i]} changed{_change(value, now)}"
                return False
            self.entries[i] = (get, owner, name, now)
        return True

    # --- whole objects ---

    def length(self, owner: Any, why: str) -> None:
        """Guard the number of members of a list, tuple or dict."""
        self.add(_length, owner, None, len(owner), equal, f"the length of {why}")

    def container(self, owner: Any, why: str) -> None:
        """Guard the members of a list, tuple or dict, and of those within it."""
        self.length(owner, why)
        for name, value in owner.items() if isinstance(owner, dict) else enumerate(owner):
            self.item(owner, name, value, f"{why}[{name!r}]")
            self.meet(value)
            if isinstance(value, list | tuple | dict) and len(value) < 1000:
                self.container(value, f"{why}[{name!r}]")

    def attributes(self, owner: Any, names: Iterable[str], why: str) -> None:
        """Guard the attributes of an object that hold plain values, tensors or other objects."""
        for name in names:
            value = attribute_of(owner, name)
            if isinstance(value, np.ndarray):
                continue
            self.add(attribute_of, owner, name, value, equal, f"{why}.{name}")
            self.meet(value)
            if isinstance(value, list | tuple | dict) and value != () and len(value) < 1000:
                self.container(value, f"{why}.{name}")


def _equal_within(before: Any, now: Any) -> bool:
    if isinstance(before, tuple) and isinstance(now, tuple):
        pairs = zip(before, now, strict=False)
        return len(before) == len(now) and all(a is b or _equal_within(a, b) for a, b in pairs)
    return equal(before, now)


def _change(before: Any, now: Any) -> str:
    if isinstance(before, PLAIN) and isinstance(now, PLAIN):
        return f" from {before!r:.40} to {now!r:.40}"
    return ""
