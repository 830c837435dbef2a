"""Other libraries' names for arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def numpy_names(function: F) -> F:
    """Let a function take NumPy's `axis` and `keepdims` for `dim` and `keepdim`."""

    def renamed(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if "axis" in kwargs:
                kwargs["dim"] = kwargs.pop("axis")
            if "keepdims" in kwargs:
                kwargs["keepdim"] = kwargs.pop("keepdims")
        return function(*args, **kwargs)

    renamed.__name__, renamed.__qualname__ = function.__name__, function.__qualname__
    renamed.__doc__, renamed.__module__ = function.__doc__, function.__module__
    renamed.__wrapped__ = function  # type: ignore[attr-defined]
    return cast(F, renamed)
