"""What the package asks before it looks at numbers: is a step being traced, which has none?

While a step is traced (see `compiler/trace.py`), a tensor is a shape and a dtype.  Whatever would
read its numbers, or change what only Python knows, is refused here, with the line and the cure.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np

from .config import config
from .errors import GradError, TraceError, is_user_frame
from .op import Array, DType, Spec


class Unknown:
    """A Python number that each call of a compiled step fills in: see `compiler/live.py`."""

    def tensor(self, dtype: DType) -> Any:
        """Return it as a tensor without dimensions."""
        raise NotImplementedError


class Dropped:
    """Stands in the place of a gradient that a compiled step has used up."""

    def __repr__(self) -> str:
        return "<gradient used up by a compiled step>"


DROPPED: Any = Dropped()


def there(gradient: Any) -> Any:
    """Return a gradient, or None; refuse one that a compiled step has used up."""
    if gradient is DROPPED:
        raise GradError(
            "this gradient was used up by optimizer.step() within a compiled step, and not kept. "
            "To read it, compile with tm.compile(keep_grads=True); to begin anew, call "
            "zero_grad() first (in the step: before backward)"
        )
    return gradient


def known(x: Any) -> bool:
    """Tell whether the numbers of a tensor may be looked at: not while a step is traced."""
    return config.trace is None and isinstance(x._data, np.ndarray)


def numbers_of(name: str, x: Any) -> Array:
    """Return the numbers themselves, for what can't be said without them."""
    if config.trace is None and hasattr(x._data, "refuse"):  # kept from a trace that is over
        x._data.refuse()
    fixed: Array | None = None if config.trace is None else config.trace.fixed_numbers(x)
    if fixed is not None:
        return fixed
    if config.trace is not None or not isinstance(x._data, np.ndarray):
        raise TraceError(
            f"{name}: what comes out depends on the numbers of {Spec(x._data.shape, x._data.dtype)}"
            ", so it can't be compiled. Compute it outside of the step"
        )
    data: Array = x._data
    return data


def refuse_to_read(
    what: str, cure: str = "return the tensor from the step and read it there"
) -> None:
    """Refuse, while a step is traced, to turn a tensor into Python's or NumPy's numbers."""
    if config.trace is not None:
        raise TraceError(
            f"{what} needs the numbers of a tensor, which a compiled step doesn't know while it is "
            f"traced: {cure}"
        )


def refuse_within_step(what: str, cure: str) -> None:
    """Refuse, while a step is traced, an effect that the compiled step wouldn't have again."""
    if config.trace is not None:
        raise TraceError(f"{what} within a compiled step would act only once: {cure}")


def refuse_array(array: Any) -> None:
    """Refuse, while a step is traced, an array that the package hasn't made itself."""
    if config.trace is not None and isinstance(array, np.ndarray) and _made_by_user(array):
        raise TraceError(
            "a NumPy array within a compiled step would stay as it is now for ever: hand it to the "
            "step as an argument, or make a tensor of it outside of the step"
        )


def _made_by_user(array: Array) -> bool:
    """Tell whether the innermost function that wasn't handed the array is the user's."""
    frame = sys._getframe(2)
    while frame.f_back is not None and (frame.f_code.co_name in _INNER or _is_given(frame, array)):
        frame = frame.f_back
    return is_user_frame(frame)


_INNER = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")


def _is_given(frame: FrameType, array: Array) -> bool:
    """Tell whether an array is among the arguments of a function that is running."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args and **kwargs
    for name in code.co_varnames[:count]:
        value = frame.f_locals.get(name)
        value = list(value.values()) if isinstance(value, dict) else value
        if value is array or (isinstance(value, tuple | list) and any(v is array for v in value)):
            return True
    return False
