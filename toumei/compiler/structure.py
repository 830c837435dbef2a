"""Nested arguments and results: taken apart into leaves, and put together again.

Tuples, lists, dicts, named tuples and dataclasses are taken apart; everything else is a leaf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Structure = Any  # None for a leaf, else (type, names or None, the structures of the parts)


def flatten(value: Any, leaves: list[Any]) -> Structure:
    """Put the leaves into a list; return what is needed to put them together again."""
    kind = type(value)
    if kind is tuple or kind is list:
        return kind, None, tuple([flatten(v, leaves) for v in value])
    if kind is dict or isinstance(value, dict):
        return kind, tuple(value), tuple([flatten(v, leaves) for v in value.values()])
    if isinstance(value, tuple | list):
        return kind, None, tuple([flatten(v, leaves) for v in value])
    if hasattr(kind, "__dataclass_fields__"):
        names = tuple(n for n in kind.__dataclass_fields__ if n in vars(value))
        parts = tuple([flatten(getattr(value, n), leaves) for n in names])
        return kind, names, parts
    leaves.append(value)
    return None


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """Build what `flatten` took apart."""
    if structure is None:
        return next(leaves)
    kind, names, parts = structure
    values = [unflatten(part, leaves) for part in parts]
    if kind is tuple:
        return tuple(values)
    if kind is list:
        return values
    if kind is dict:
        return dict(zip(names, values, strict=True))
    return _special(kind, names, values)


def _special(kind: type, names: tuple[Any, ...] | None, values: list[Any]) -> Any:
    if hasattr(kind, "_make"):  # a named tuple
        return kind._make(values)
    if names is None:
        return kind(values)
    if issubclass(kind, dict):
        out = kind()
        out.update(zip(names, values, strict=True))
        return out
    made = kind.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made
