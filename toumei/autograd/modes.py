"""What is recorded, and what is checked: no_grad, enable_grad, set_grad_enabled, debug.

Each works as a context manager and as a decorator, for generator functions as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from ..config import config

__all__ = [
    "debug",
    "detect_anomaly",
    "enable_grad",
    "inference_mode",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "no_grad",
    "set_detect_anomaly",
    "set_grad_enabled",
]

F = TypeVar("F", bound=Callable[..., Any])
_GENERATOR = 0x20  # CO_GENERATOR: the flag of a function with a `yield`


class Switch:
    """Sets one attribute of the configuration within a block, or within a decorated function."""

    def __init__(self, name: str, on: bool) -> None:
        self._name, self._on = name, on
        self._before: list[bool] = []  # a stack: one object may be entered again while it is on

    def __enter__(self) -> None:
        self._before.append(getattr(config, self._name))
        setattr(config, self._name, self._on)

    def __exit__(self, *error: object) -> None:
        setattr(config, self._name, self._before.pop())

    def __call__(self, function: F) -> F:
        # A block of its own for each call: threads don't share a stack.
        return cast(F, _wrapped(function, lambda: Switch(self._name, self._on)))


class FromHereOn(Switch):
    """Sets the attribute as soon as it is made; leaving its block puts back what was before."""

    def __init__(self, name: str, on: bool) -> None:
        super().__init__(name, on)
        self._outside: bool = getattr(config, name)
        setattr(config, name, on)

    def __exit__(self, *error: object) -> None:
        setattr(config, self._name, self._outside)

    def __call__(self, function: F) -> F:
        setattr(config, self._name, self._outside)  # a decorator changes nothing around it
        return super().__call__(function)


def _wrapped(function: Callable[..., Any], block: Callable[[], Switch]) -> Callable[..., Any]:
    """Return the function with its body inside a block."""
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _GENERATOR:

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
            source, sent = function(*args, **kwargs), None
            while True:  # on while the generator runs, off while its user does
                try:
                    with block():
                        value = source.send(sent)
                except StopIteration as end:
                    return end.value
                sent = yield value

        return generator

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return wrapped


class _Bare(Switch):
    """May also be used as a decorator without parentheses: `@no_grad`."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        if len(args) == 1 and callable(args[0]):
            return cls()(args[0])
        return super().__new__(cls)


class no_grad(_Bare):  # noqa: N801
    """Nothing is recorded within the block, or within the decorated function.

    >>> import toumei as tm
    >>> w = tm.ones(2, requires_grad=True)
    >>> with tm.no_grad():
    ...     y = w * 2
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__("grad", False)


class enable_grad(_Bare):  # noqa: N801
    """Ops are recorded within the block, even inside of `no_grad`.

    >>> import toumei as tm
    >>> w = tm.ones(2, requires_grad=True)
    >>> with tm.no_grad(), tm.enable_grad():
    ...     y = w * 2
    >>> y.requires_grad
    True
    """

    def __init__(self) -> None:
        super().__init__("grad", True)


class set_grad_enabled(FromHereOn):  # noqa: N801
    """Record or not, from here on; as a context manager, until the end of the block.

    Args:
        mode: whether to record.

    >>> import toumei as tm
    >>> with tm.set_grad_enabled(False):
    ...     tm.is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        super().__init__("grad", mode)


class inference_mode(_Bare):  # noqa: N801
    """Like `no_grad`; results stay ordinary tensors and may be used under grad later.

    Args:
        mode: False leaves everything as it is outside.
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__("grad", config.grad and not mode)


def is_grad_enabled() -> bool:
    """Tell whether ops are being recorded.

    >>> import toumei as tm
    >>> tm.is_grad_enabled()
    True
    """
    return config.grad


class debug(_Bare):  # noqa: N801
    """Stop at the first NaN or infinity, forward or backward, and say where it was made.

    The error names the op, the line of yours that called it (for a backward pass: the line of the
    forward pass) and the modules around it.  Infinities that an op is handed, such as those of an
    attention mask, are let through; NaNs never are.  Slow: use it to find a fault, not to train.

    Raises:
        AnomalyError: an op made, or was given, a value that isn't finite.

    >>> import toumei as tm
    >>> with tm.debug():
    ...     tm.tensor([-1.0]).log()
    Traceback (most recent call last):
    ...
    toumei.errors.AnomalyError: forward of log(x: float32[1]) made the first NaN: ...
    """

    def __init__(self, on: bool = True) -> None:
        super().__init__("debug", on)


detect_anomaly = debug


class set_detect_anomaly(FromHereOn):  # noqa: N801
    """Turn debug mode on or off, from here on; as a context manager, until the end of the block."""

    def __init__(self, mode: bool) -> None:
        super().__init__("debug", mode)


def is_anomaly_enabled() -> bool:
    """Tell whether debug mode is on."""
    return config.debug
