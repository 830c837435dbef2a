"""A module that is compiled: it is called as a program, and is the module in everything else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from ..nn.module import Module

_OWN = ("_module", "_call")
_PROTOCOLS = ("__getitem__", "__setitem__", "__delitem__", "__len__", "__iter__", "__contains__")


def compiled_module(module: Module, call: Callable[..., Any]) -> CompiledModule:
    """Return what stands for a module; a container's is a container as well."""
    kind = type(module)
    protocols = {n: _delegated(n) for n in _PROTOCOLS if hasattr(kind, n)}
    cls = type("CompiledModule", (CompiledModule,), protocols) if protocols else CompiledModule
    return cls(module, call)


def _delegated(name: str) -> Callable[..., Any]:
    def method(self: CompiledModule, *args: Any) -> Any:
        return getattr(self._module, name)(*args)

    return method


class CompiledModule(Module):
    """Stands for a module: parameters, names, attributes and modes are the module's own."""

    def __init__(self, module: Module, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result without the compiler."""
        return self._module.forward(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # while it is being made
            raise AttributeError(name)
        return getattr(self._module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._module, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._module, name)

    @property
    def training(self) -> bool:  # type: ignore[override]
        return self._module.training

    def _parts(self) -> Iterable[tuple[str, Any]]:
        return self._module._parts()

    def _add_hook(self, name: str, entry: tuple[Any, bool], prepend: bool) -> Any:
        return self._module._add_hook(name, entry, prepend)

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return self._module.extra_repr()

    def _get_name(self) -> str:
        return f"compiled {self._module._get_name()}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("compiled modules aren't pickled: save the module's state_dict()")

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModule:
        from .compiled import compile

        module = copy.deepcopy(self._module, memo)
        return compile(module, keep_grads=self._call.keep_grads)
