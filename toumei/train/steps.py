"""The steps of a trainer, compiled where that is wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import TraceError

#: Whether trainers compile their steps unless they are told.
COMPILE = True


class Step(NamedTuple):
    """A method of a trainer, and what to call in its place."""

    method: Callable[..., Any]
    call: Callable[..., Any]


def compiled_step(method: Callable[..., Any], strict: bool) -> Step:
    """Compile a method; unless `strict`, what can't be compiled runs as it is, with a warning."""
    from ..compiler import compile

    quick = compile(method)
    return Step(method, quick if strict else _Lenient(method, quick))


class _Lenient:
    """Calls the compiled form until that turns out to be impossible."""

    def __init__(self, method: Callable[..., Any], quick: Callable[..., Any]) -> None:
        self.method = method
        self.call = quick

    def __call__(self, *args: Any) -> Any:
        try:
            return self.call(*args)
        except TraceError as error:  # nothing has changed: the step can be made again
            if self.call is self.method:
                raise
            self.call = self.method
            name = getattr(self.method, "__qualname__", repr(self.method))
            warnings.warn(
                f"{name} runs without being compiled (compile=False says so from the start): "
                f"{error}",
                stacklevel=4,
            )
            return self.method(*args)
