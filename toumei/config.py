"""What changes how every op behaves: whether to record, the default float, debug mode.

One small object.  Grad mode and debug mode belong to a thread; the default dtype to the program.
"""

from __future__ import annotations

import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

float32 = np.dtype("float32")
float64 = np.dtype("float64")
int64 = np.dtype("int64")
int32 = np.dtype("int32")
uint8 = np.dtype("uint8")
bool_ = np.dtype("bool")

#: Every dtype a tensor may have, in the order of type promotion: the later one wins.
DTYPES = (bool_, uint8, int32, int64, float32, float64)


class _Config(threading.local):
    default_dtype: np.dtype[np.generic] = float32  # a class attribute: shared by all threads

    def __init__(self) -> None:
        self.grad = True
        self.debug = False
        self.trace: Any = None  # the Trace that is open: it gets every op
        self.quiet = False  # whether NumPy's warnings are silenced already
        with np.errstate(all="ignore"):
            self._silence = contextvars.copy_context()  # entering it is cheaper than np.errstate
        self.within: Any = None  # where the op was called that backward is at; debug mode only
        self.modules: list[str] = []  # the modules being called, outermost first; debug mode only


config = _Config()


def get_default_dtype() -> np.dtype[np.generic]:
    """Return the dtype that Python floats and factories take: float32 unless changed."""
    return _Config.default_dtype


def set_default_dtype(dtype: np.dtype[np.generic] | type | str) -> None:
    """Make `dtype` (float32 or float64) the dtype that Python floats and factories take.

    Raises:
        TypeError: `dtype` is no floating dtype.

    >>> import toumei as tm
    >>> tm.set_default_dtype(tm.float64); tm.tensor(1.5).dtype
    dtype('float64')
    >>> tm.set_default_dtype(tm.float32)
    """
    if config.trace is not None:
        from .errors import TraceError

        raise TraceError(
            "setting the default dtype within a compiled step would act only once: set it outside "
            "of the step"
        )
    if np.dtype(dtype) not in (float32, float64):
        raise TypeError(f"the default dtype must be float32 or float64, not {np.dtype(dtype)}")
    _Config.default_dtype = np.dtype(dtype)


@contextmanager
def grad_mode(on: bool) -> Iterator[None]:
    """Record the graph, or don't, within the block."""
    before, config.grad = config.grad, on
    try:
        yield
    finally:
        config.grad = before


@contextmanager
def untraced() -> Iterator[None]:
    """Compute within the block, also while a step is traced."""
    before, config.trace = config.trace, None
    try:
        yield
    finally:
        config.trace = before


@contextmanager
def uncollected() -> Iterator[None]:
    """Put off the search for cycles of dead objects; while much is being built it finds few."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


def run_quietly(function: Callable[..., T], *args: object) -> T:
    """Call a function of arrays; NaN and infinity are results, as everywhere here, not warnings."""
    if config.quiet:
        return function(*args)
    config.quiet = True
    try:
        return config._silence.run(function, *args)
    finally:
        config.quiet = False
