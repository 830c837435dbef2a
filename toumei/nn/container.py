"""Modules that hold others.  What they hold are their attributes "0", "1", … or of a given name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

from ..errors import ModuleError
from ..tensor import Parameter, Tensor
from .module import Module, check_is_module, layout

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]

V = TypeVar("V")


class _Container(Module, Generic[V]):
    """Holds modules, or parameters, by name: those among its own attributes."""

    _kind: ClassVar[type] = Module

    def _held(self) -> dict[str, V]:
        return {k: cast(V, v) for k, v in self._parts() if isinstance(v, self._kind)}

    def _put(self, name: str, value: Any) -> None:
        if self._kind is Module:
            check_is_module(value, f"{type(self).__name__}[{name}]")
        elif isinstance(value, Tensor):
            value = value if isinstance(value, Parameter) else Parameter(value)
        else:
            raise ModuleError(f"{type(self).__name__}[{name}] must be a tensor, got {value!r:.60}")
        self._register(name, value, self._kind)

    def __len__(self) -> int:
        return len(self._held())


class _Listing(_Container[V]):
    """A container that is a list."""

    def _refill(self, values: Iterable[Any]) -> None:
        for name in self._held():
            delattr(self, name)
        for i, value in enumerate(values):
            self._put(str(i), value)

    def _name(self, index: int) -> str:
        names = list(self._held())
        try:
            return names[index]
        except IndexError:
            kind = type(self).__name__
            raise IndexError(f"{kind} of {len(names)} has no element {index}") from None

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> V | Self:
        if isinstance(index, slice):
            part = type(self).__new__(type(self))
            for name, value in list(self._held().items())[index]:
                part._put(name if isinstance(self, Sequential) else str(len(part)), value)
            return part
        return self._held()[self._name(index)]

    def __setitem__(self, index: int, value: V) -> None:
        self._put(self._name(index), value)

    def __delitem__(self, index: int | slice) -> None:
        values = list(self)
        del values[index]
        self._refill(values)

    def __iter__(self) -> Iterator[V]:
        return iter(self._held().values())

    def __contains__(self, value: object) -> bool:
        return any(held is value for held in self)

    def append(self, value: V) -> Self:
        """Add one at the end."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[V]) -> Self:
        """Add several at the end."""
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[V]) -> Self:
        return self.extend(values)

    def insert(self, index: int, value: V) -> Self:
        """Put one before the element at `index`."""
        values = list(self)
        values.insert(index, value)
        self._refill(values)
        return self

    def pop(self, index: int = -1) -> V:
        """Take one out and return it."""
        value = self[index]
        del self[index]
        return value


class Sequential(_Listing[Module]):
    """Calls one module after the other, each with the result of the one before.

    Args:
        modules: the modules in order, or one dict of them by name.

    Raises:
        ModuleError: one of them isn't a module (a class or a function, say).

    >>> import toumei as tm
    >>> from toumei import nn
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> net(tm.zeros(4, 2)).shape, len(net), [n for n, _ in net.named_parameters()][:2]
    (Size([4, 1]), 3, ['0.weight', '0.bias'])
    """

    def __init__(self, *modules: Any) -> None:
        named = len(modules) == 1 and isinstance(modules[0], Mapping)
        for name, module in modules[0].items() if named else enumerate(modules):
            self._put(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input


class ModuleList(_Listing[Module]):
    """A list of modules; a plain list as an attribute does as well.

    >>> from toumei import nn
    >>> len(nn.ModuleList([nn.ReLU(), nn.Tanh()]).append(nn.Tanh()))
    3
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def __repr__(self) -> str:
        return layout(self._get_name(), "", [f"({n}): {text}" for n, text in _grouped(list(self))])


class ParameterList(_Listing[Parameter]):
    """A list of parameters; tensors in it become parameters."""

    _kind: ClassVar[type] = Parameter

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.extend(values)

    def __repr__(self) -> str:
        return layout(self._get_name(), "", _described(self._held()))


class _Dictionary(_Container[V]):
    """A container that is a dict."""

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.update(values)

    def __getitem__(self, key: str) -> V:
        return self._held()[key]

    def __setitem__(self, key: str, value: V) -> None:
        self._put(key, value)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())

    def __contains__(self, key: object) -> bool:
        return key in self._held()

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._held().keys()

    def values(self) -> Iterable[V]:
        """Return what is held."""
        return self._held().values()

    def items(self) -> Iterable[tuple[str, V]]:
        """Return (name, what is held under it)."""
        return self._held().items()

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add several, or replace those of the same name."""
        for key, value in dict(values).items():
            self._put(key, value)

    def pop(self, key: str) -> V:
        """Take one out and return it."""
        value = self[key]
        delattr(self, key)
        return value

    def clear(self) -> None:
        """Take all out."""
        for key in self._held():
            delattr(self, key)


class ModuleDict(_Dictionary[Module]):
    """A dict of modules; a plain dict as an attribute does as well.

    >>> from toumei import nn
    >>> list(nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()}))
    ['a', 'b']
    """


class ParameterDict(_Dictionary[Parameter]):
    """A dict of parameters; tensors in it become parameters."""

    _kind: ClassVar[type] = Parameter

    def __repr__(self) -> str:
        return layout(self._get_name(), "", _described(self._held()))


def _described(held: Mapping[str, Parameter]) -> list[str]:
    return [f"({name}): Parameter of {p.dtype}{list(p.shape)}" for name, p in held.items()]


def _grouped(modules: list[Module]) -> list[tuple[str, str]]:
    """Write equal modules in a row as one line: ("0-3", "4 x Linear(…)")."""
    groups: list[tuple[int, int, str]] = []
    for i, module in enumerate(modules):
        text = repr(module)
        if groups and groups[-1][2] == text:
            groups[-1] = (groups[-1][0], i, text)
        else:
            groups.append((i, i, text))
    return [
        (str(a), text) if a == b else (f"{a}-{b}", f"{b - a + 1} x {text}") for a, b, text in groups
    ]
