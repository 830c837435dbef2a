"""Debug mode: finds the first NaN or infinity, forward or backward, and says where it was made."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .config import config
from .errors import AnomalyError, line_text, user_place
from .op import Array, Op, Spec, call_text


class Place:
    """Where an op was called: the user's line, and the modules around it, innermost first."""

    __slots__ = ("backward", "modules", "where")

    def __init__(self) -> None:
        self.where = user_place()
        self.modules = list(reversed(config.modules))
        self.backward = False  # whether it is the gradient of what was called there

    @property
    def line(self) -> str:
        """The user's line, as errors show it."""
        return line_text(self.where)

    def of_gradient(self) -> Place:
        """Return the place of what computes the gradient of an op that was called here."""
        place = copy.copy(self)
        place.backward = True
        return place


def place_of_call() -> Place:
    """Return where an op is called; within a backward pass, where the forward one was."""
    return config.within or Place()


def check_forward(op: Op, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Stop if an op made, or was given, a NaN, or made an infinity."""
    if config.within is not None:  # part of a gradient, which is checked as a whole
        return
    found = _find(inputs, outputs)
    if found:
        raise _error(f"forward of {call_text(op, [_spec(a) for a in inputs])} {found}", Place())


def check_backward(name: str, place: Place | None, inputs: Iterable[Any], grads: Any) -> None:
    """Stop if the gradients of an op are the first values that aren't finite."""
    found = _find(_arrays(inputs), _arrays(grads if isinstance(grads, tuple) else (grads,)))
    if found and place is None:
        found += "; to see the line of the forward pass, run that in debug mode too"
    if found:
        raise _error(f"backward of {name} {found}", place or Place())


def _find(inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    """Describe what isn't finite; infinities that the op was given may be meant: a mask."""
    bad = [a for a in outputs if not _finite(a)]
    if not bad:
        return ""
    given = [a for a in inputs if not _finite(a)]
    for test, what in ((np.isnan, "NaN"), (np.isinf, "infinity")):
        hits = [a for a in bad if test(a).any()]
        sources = [a for a in given if test(a).any()]
        if hits and not sources:
            return f"made the first {what}: {_count(test(hits[0]), hits[0])}"
        if hits and what == "NaN":
            return f"was given NaN: {_count(test(sources[0]), sources[0])}"
    return ""


def _finite(array: Any) -> bool:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return True
    return bool(np.isfinite(array).all())


def _count(hits: Array, array: Array) -> str:
    first = [int(i) for i in np.unravel_index(np.argmax(hits), hits.shape)]
    return f"{int(hits.sum())} of the {hits.size} values of {_spec(array)}, the first at {first}"


def _spec(array: Any) -> Spec:
    return Spec(array.shape, array.dtype)


def _arrays(tensors: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for t in tensors:
        found += _arrays(t) if isinstance(t, tuple) else [getattr(t, "_data", None)]
    return found


def _error(message: str, place: Place) -> AnomalyError:
    error = AnomalyError(message)
    error.where, error.modules = place.line, list(place.modules)
    return error
