"""Ctrl-C acts between steps: one that has begun is brought to its end first.

Otherwise some of its states would be those after the step and others those before it.  A second
Ctrl-C acts at once, as far as Python notices it: native code it can't stop.
"""

from __future__ import annotations

# What `signal` is made of; that looks names up in enums, which takes twenty times as long.
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_MAIN = threading.main_thread().ident  # the thread in which Python handles signals


def undivided(function: Callable[..., T], *args: Any) -> T:
    """Call a function; an interrupt that comes meanwhile takes effect when it has returned."""
    handler = _signal.getsignal(_signal.SIGINT)
    if threading.get_ident() != _MAIN or not callable(handler):
        return function(*args)
    caught: list[Any] = []

    def put_off(number: int, frame: Any) -> None:
        if caught:
            handler(number, frame)
        caught.append(frame)

    _signal.signal(_signal.SIGINT, put_off)
    try:
        return function(*args)
    finally:
        _signal.signal(_signal.SIGINT, handler)
        if caught:
            handler(_signal.SIGINT, caught[0])
