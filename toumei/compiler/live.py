"""Python numbers that each call of a compiled step fills in: float arguments, hyper-parameters.

A live number goes through Python's arithmetic as a float does, and mixes with tensors as a float
does.  Where Python must know it (`if`, `math.sqrt`, an op's field), the trace is begun anew with
the number as it is, and with a guard on it: see `compiled.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import TraceError
from ..op import DType, Spec
from ..tape import Storage, wrap
from ..traced import Unknown

if TYPE_CHECKING:
    from ..optim.optimizer import Group
    from ..tensor import Tensor
    from .guards import Guards
    from .trace import Trace

Source = tuple[Any, ...]  # ("argument", its number) or ("group", its id, name, place)


class NeedsNumber(TraceError):  # noqa: N818  (a request, not a failure)
    """Python must know a number that was to stay open; `sources` says which."""

    def __init__(self, sources: frozenset[Source]) -> None:
        super().__init__("a compiled step needs to know a number that each call fills in")
        self.sources = sources


def _operator(name: str) -> Callable[[LiveNumber, Any], Any]:
    def method(self: LiveNumber, other: Any) -> Any:
        if isinstance(other, LiveNumber):
            found = getattr(self.value, name)(other.value)
            return LiveNumber(found, self.sources | other.sources)
        if isinstance(other, int | float):
            return LiveNumber(getattr(self.value, name)(float(other)), self.sources)
        return NotImplemented

    return method


def _needs(self: LiveNumber, *_: Any) -> NoReturn:
    raise NeedsNumber(self.sources)


class LiveNumber(Unknown):
    """A float that is known when the step runs: a 0-d float64 value of the graph."""

    def __init__(self, value: Tensor, sources: frozenset[Source]) -> None:
        self.value = value
        self.sources = sources
        self._cast: dict[DType, Any] = {}

    def tensor(self, dtype: DType) -> Tensor:
        """Return it as a tensor that adapts to other dtypes, as a Python number does."""
        if dtype not in self._cast:
            self._cast[dtype] = self.value.to(dtype)._data
        t = wrap(self._cast[dtype], Storage())
        t._number = self
        return t

    __add__, __radd__ = _operator("__add__"), _operator("__radd__")
    __sub__, __rsub__ = _operator("__sub__"), _operator("__rsub__")
    __mul__, __rmul__ = _operator("__mul__"), _operator("__rmul__")
    __truediv__, __rtruediv__ = _operator("__truediv__"), _operator("__rtruediv__")
    __pow__, __rpow__ = _operator("__pow__"), _operator("__rpow__")

    def __neg__(self) -> LiveNumber:
        return LiveNumber(-self.value, self.sources)

    def __pos__(self) -> LiveNumber:
        return self

    def __abs__(self) -> LiveNumber:
        return LiveNumber(self.value.abs(), self.sources)

    __bool__ = __float__ = __int__ = __index__ = __round__ = __trunc__ = __floor__ = _needs
    __ceil__ = __lt__ = __le__ = __gt__ = __ge__ = __floordiv__ = __rfloordiv__ = _needs
    __mod__ = __rmod__ = __divmod__ = __format__ = __str__ = _needs
    __eq__ = __ne__ = _needs
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "<a number that each call fills in>"


class WatchedGroup(dict[str, Any]):
    """A parameter group as the optimiser sees it during a trace: what is read becomes a guard."""

    def __init__(self, group: Group, trace: Trace, guards: Guards) -> None:
        super().__init__(group)
        self._group, self._trace, self._guards = group, trace, guards

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if name != "params":
            self._guards.item(self._group, name, value, f"the optimizer's {name!r}")
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Return a hyper-parameter, or else the default."""
        return self[name] if name in self else default  # noqa: SIM401  (it is that very method)

    def on(self, name: str) -> bool:
        """Tell whether a hyper-parameter is other than 0."""
        value = super().__getitem__(name)
        self._guards.truth(self._group, name, value, f"whether the optimizer's {name!r} is 0")
        return bool(value)

    def live(self, name: str) -> Any:
        """Return a hyper-parameter as an input that each call of the compiled step fills anew."""
        value = super().__getitem__(name)
        if isinstance(value, tuple | list):
            self._guards.item((self._group, name), None, len(value), f"the optimizer's {name!r}")
            return tuple(self._live(name, i, v) for i, v in enumerate(value))
        return self._live(name, None, value)

    def _live(self, name: str, place: int | None, value: Any) -> Any:
        source = ("group", id(self._group), name, place)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or source in self._trace.frozen:
            return self[name] if place is None else self[name][place]
        return self._trace.number(source, (self._group, name, place))


def open_number(trace: Trace, source: Source) -> LiveNumber:
    """Return a new input of a trace as a number."""
    symbol = trace.input(Spec((), np.dtype(np.float64)))
    return LiveNumber(wrap(symbol, Storage()), frozenset([source]))
