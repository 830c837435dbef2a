"""Where arrays live and where random numbers start.

Only NumPy for now: `xp` is passed to every `forward`, so that another array library can take its
place.  A Generator is a seed and a counter; each random op takes the pair as its key and the
counter moves on, so a draw depends on nothing but (seed, counter, element index).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from .config import config
from .errors import OpError
from .traced import refuse_within_step

xp: ModuleType = np

F = TypeVar("F", bound=Callable[..., Any])


class device(str):  # noqa: N801  (PyTorch's name)
    """Where a tensor lives: "cpu", the only place there is.  It compares as the string does.

    Raises:
        OpError: another device is named.

    >>> import toumei as tm
    >>> tm.device("cpu").type
    'cpu'
    """

    __slots__ = ()

    def __new__(cls, type: str = "cpu", index: int | None = None) -> device:
        if str(type) not in ("cpu", "cpu:0") or index not in (None, 0):
            at = "" if index is None else f":{index}"
            raise OpError(f"device '{type}{at}': the only device is 'cpu'")
        return super().__new__(cls, "cpu")

    @property
    def type(self) -> str:
        return str(self)

    @property
    def index(self) -> None:  # type: ignore[override]
        return None

    def __repr__(self) -> str:
        return "device(type='cpu')"


CPU = device("cpu")
device_of = device  # where `device` is an argument


def on_cpu(function: F) -> F:
    """Let a function that makes tensors take PyTorch's `device`: None or "cpu"."""

    @functools.wraps(function)
    def placed(*args: Any, **kwargs: Any) -> Any:
        if "device" in kwargs:
            device(kwargs.pop("device") or "cpu")
        return function(*args, **kwargs)

    return cast(F, placed)


def sized(function: F) -> F:
    """Let a function that takes *size take it by name as well: zeros(size=(2, 3))."""

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        if "size" in kwargs:
            args = (*args, kwargs.pop("size"))
        return function(*args, **kwargs)

    return cast(F, named)


class Generator:
    """A source of random keys: a seed and the number of draws made so far.

    >>> import toumei as tm
    >>> g = tm.Generator().manual_seed(7)
    >>> a = tm.rand(3, generator=g)
    >>> bool((tm.rand(3, generator=g.manual_seed(7)) == a).all())
    True
    """

    def __init__(self, seed: int | str = 0, *, device: str = "cpu") -> None:
        # PyTorch's first argument is the device.
        self.device = device_of(seed if isinstance(seed, str) else device)
        self.state: np.ndarray[Any, Any] = np.zeros(2, np.int64)
        self.manual_seed(0 if isinstance(seed, str) else seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed` (any integer below 2⁶⁴)."""
        state = np.array([seed % 2**64, 0], np.uint64).view(np.int64)
        if config.trace is not None:
            config.trace.seeds(self, state)
        else:
            self.state[:] = state
        return self

    def seed(self) -> int:
        """Start again from a seed taken from the operating system, and return it."""
        refuse_within_step("a seed from the operating system", "call seed() outside of the step")
        self.manual_seed(int.from_bytes(os.urandom(7), "little"))
        return self.initial_seed()

    def initial_seed(self) -> int:
        """Return the seed that this generator started from."""
        _refuse_reading()
        return int(self.state[0]) % 2**64

    def get_state(self) -> np.ndarray[Any, Any]:
        """Return (seed, counter), int64."""
        _refuse_reading()
        return self.state.copy()

    def set_state(self, state: Any) -> Generator:
        """Continue from a state that `get_state` returned."""
        refuse_within_step("setting a generator's state", "set it outside of the step")
        values = np.asarray(state, np.int64)
        if values.shape != (2,):
            raise ValueError(f"a generator's state is two integers, not an array of {values.shape}")
        self.state[:] = values
        return self

    def next_key(self) -> np.ndarray[Any, Any]:
        """Return the key of the next draw and move on."""
        key = self.state.copy()
        self.state[1] += 1
        return key


def _refuse_reading() -> None:
    refuse_within_step("reading a generator's state", "read it outside of the step")


_default = Generator()
_default.seed()


def default_generator() -> Generator:
    """Return the generator that random ops use when none is given."""
    return _default


def manual_seed(seed: int) -> Generator:
    """Seed the default generator; the same seed gives the same numbers on every machine.

    >>> import toumei as tm
    >>> _ = tm.manual_seed(0); a = tm.randn(2)
    >>> _ = tm.manual_seed(0); bool((tm.randn(2) == a).all())
    True
    """
    return _default.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system, and return that seed."""
    return _default.seed()


def initial_seed() -> int:
    """Return the seed of the default generator."""
    return _default.initial_seed()


def get_rng_state() -> np.ndarray[Any, Any]:
    """Return the state of the default generator: (seed, counter), int64."""
    return _default.get_state()


def set_rng_state(state: Any) -> None:
    """Continue the default generator from a state that `get_rng_state` returned."""
    _default.set_state(state)
