"""Guards: what a trace has read from Python, to be compared before each run of its program.

All of them stand in one flat list of (getter, owner, name, value); the loop compares identities.
Only where one differs, a second look decides whether that matters: a parameter's memory may have
been replaced by another of the same layout, an int be another object of the same value.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..errors import is_user_code
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


def _attribute(owner: Any, name: str) -> Any:
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


class Guards:
    """A flat list of what must be unchanged."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.same: list[Same] = []
        self.causes: list[str] = []
        self.cause = ""  # which one failed last
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
            if isinstance(value, list | tuple | dict) and len(value) < 1000:
                self.container(value, f"{why}[{name!r}]")

    def attributes(self, owner: Any, names: Iterable[str], why: str) -> None:
        """Guard the attributes of an object that hold plain values, tensors or other objects."""
        for name in names:
            value = _attribute(owner, name)
            if isinstance(value, np.ndarray):
                continue
            self.add(_attribute, owner, name, value, equal, f"{why}.{name}")
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


# --- which names a function mentions ---


def mentioned(code: CodeType) -> frozenset[str]:
    """Return the names of globals and attributes in some code, and in the code within it."""
    inner = [mentioned(c) for c in code.co_consts if isinstance(c, CodeType)]
    return frozenset(code.co_names).union(*inner)


_OF_CLASS: dict[type, frozenset[str]] = {}


def mentioned_by_class(cls: type, base: type) -> frozenset[str]:
    """Return the names that the methods of a class mention, those of `base` left out."""
    if cls not in _OF_CLASS:
        kinds = [c for c in cls.__mro__ if c not in base.__mro__]
        members = [(n, f) for c in kinds for n, f in vars(c).items() if n != "__init__"]
        methods = [f for _, f in members if isinstance(f, FunctionType)]
        _OF_CLASS[cls] = frozenset().union(*(mentioned(f.__code__) for f in methods))
    return _OF_CLASS[cls]


def _through(cls: type, names: frozenset[str]) -> frozenset[str]:
    """Add the names that are mentioned by the methods of a class among some names, and so on."""
    found, waiting = set(names), list(names)
    while waiting:
        member = getattr(cls, waiting.pop(), None)
        member = member.fget if isinstance(member, property) else member
        if isinstance(member, FunctionType):
            more = mentioned(member.__code__) - found
            found |= more
            waiting += more
    return frozenset(found)


def watch_function(guards: Guards, function: Any, roles: tuple[type, ...]) -> frozenset[str]:
    """Guard what a step names: globals, enclosed variables, attributes of what it is a method of.

    Functions of the same file that it names are followed.  Objects of the types `roles` are left
    out: they are guarded by themselves.  Returns all names in its code.
    """
    if isinstance(function, MethodType):
        owner = function.__self__
        names = _through(type(owner), watch_function(guards, function.__func__, roles))
        if not isinstance(owner, roles) and hasattr(owner, "__dict__"):
            guards.attributes(owner, sorted(names & vars(owner).keys()), type(owner).__name__)
        return names
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, functools.partial):
        return watch_function(guards, function.func, roles)
    called = getattr(type(function), "__call__", None)  # noqa: B004  (the method itself)
    if not _is_plain(function) and _is_plain(called):
        return watch_function(guards, MethodType(called, function), roles)
    return _watch(guards, function, roles, set()) if _is_plain(function) else frozenset()


def _is_plain(value: Any) -> bool:
    return isinstance(value, FunctionType)


def _watch(
    guards: Guards, function: FunctionType, roles: tuple[type, ...], seen: set[int]
) -> frozenset[str]:
    seen.add(id(function))
    names = mentioned(function.__code__)
    if not is_user_code(function.__code__):
        return names
    space = function.__globals__
    for name in sorted(names & space.keys()):
        value = space[name]
        if isinstance(value, ModuleType):
            continue
        guards.add(operator.getitem, space, name, value, equal, f"the global {name!r}")
        _watch_value(guards, value, names, roles, f"the global {name!r}")
        if _is_plain(value) and value.__globals__ is space and id(value) not in seen:
            names |= _watch(guards, value, roles, seen)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        value = _attribute(cell, "cell_contents")
        guards.add(_attribute, cell, "cell_contents", value, equal, f"the variable {name!r}")
        _watch_value(guards, value, names, roles, f"the variable {name!r}")
        if _is_plain(value) and id(value) not in seen:
            names |= _watch(guards, value, roles, seen)
    return names


def _watch_value(
    guards: Guards, value: Any, names: frozenset[str], roles: tuple[type, ...], why: str
) -> None:
    """Guard what a container holds, and the attributes of an object that code mentions."""
    if type(value) in (list, tuple, dict):
        if len(value) < 1000:
            guards.container(value, why)
    elif not isinstance(value, (*roles, FunctionType, type)) and hasattr(value, "__dict__"):
        guards.attributes(value, sorted(names & vars(value).keys()), why)
