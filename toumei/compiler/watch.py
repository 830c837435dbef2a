"""What is watched for a program: the names in the step's code, modules, optimisers, tensors."""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import is_user_code
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from ..tape import Value
from ..tensor import Buffer, Parameter
from .guards import (
    Guards,
    Same,
    attribute_of,
    equal,
    same_gradient,
    same_layout,
    same_mode,
    same_presence,
    same_role,
)

if TYPE_CHECKING:
    from .trace import Trace

ROLES = (Module, Value, Optimizer)  # what is guarded by itself
NUMBERS = (bool, int, float, str)

# --- which names a function mentions ---


def mentioned(code: CodeType) -> frozenset[str]:
    """Return the names of globals and attributes in some code, and in the code within it."""
    inner = [mentioned(c) for c in code.co_consts if isinstance(c, CodeType)]
    return frozenset(code.co_names).union(*inner)


_OF_CLASS: dict[type, frozenset[str]] = {}


def mentioned_by_class(cls: type, base: type) -> frozenset[str]:
    """Return the names that the methods of a class mention, those of `base` left out."""
    if cls not in _OF_CLASS:
        kinds = [c for c in cls.__mro__ if c not in base.__mro__]
        members = [(n, f) for c in kinds for n, f in vars(c).items() if n != "__init__"]
        methods = [f for _, f in members if isinstance(f, FunctionType)]
        _OF_CLASS[cls] = frozenset().union(*(mentioned(f.__code__) for f in methods))
    return _OF_CLASS[cls]


def _through(cls: type, names: frozenset[str]) -> frozenset[str]:
    """Add the names that are mentioned by the methods of a class among some names, and so on."""
    found, waiting = set(names), list(names)
    while waiting:
        member = getattr(cls, waiting.pop(), None)
        member = member.fget if isinstance(member, property) else member
        if isinstance(member, FunctionType):
            more = mentioned(member.__code__) - found
            found |= more
            waiting += more
    return frozenset(found)


def watch_function(guards: Guards, function: Any) -> frozenset[str]:
    """Guard what a step names: globals, enclosed variables, attributes of what it is a method of.

    Functions of the same file that it names are followed.  Modules, tensors and optimisers are left
    out: they are guarded by themselves.  Returns all names in its code.
    """
    if isinstance(function, MethodType):
        owner = function.__self__
        names = _through(type(owner), watch_function(guards, function.__func__))
        watch_value(guards, owner, names, type(owner).__name__)
        return names
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, functools.partial):
        names = watch_function(guards, function.func)
        for value in (*function.args, *function.keywords.values()):
            watch_value(guards, value, names, "an argument of a partial()")
        return names
    called = getattr(type(function), "__call__", None)  # noqa: B004  (the method itself)
    if called is not None and not _is_plain(function) and _is_plain(called):
        return watch_function(guards, MethodType(called, function))
    return _watch(guards, function, set()) if _is_plain(function) else frozenset()


def _is_plain(value: Any) -> bool:
    return isinstance(value, FunctionType)


def _watch(guards: Guards, function: FunctionType, seen: set[int]) -> frozenset[str]:
    seen.add(id(function))
    names = mentioned(function.__code__)
    if not is_user_code(function.__code__):
        return names
    space = function.__globals__
    for name in sorted(names & space.keys()):
        value = space[name]
        guards.add(operator.getitem, space, name, value, equal, f"the global {name!r}")
        watch_value(guards, value, names, f"the global {name!r}")
        if _is_plain(value) and value.__globals__ is space and id(value) not in seen:
            names |= _watch(guards, value, seen)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        value = attribute_of(cell, "cell_contents")
        guards.add(attribute_of, cell, "cell_contents", value, equal, f"the variable {name!r}")
        watch_value(guards, value, names, f"the variable {name!r}")
        if _is_plain(value) and id(value) not in seen:
            names |= _watch(guards, value, seen)
    return names


def watch_value(
    guards: Guards, value: Any, names: frozenset[str], why: str, depth: int = 3
) -> None:
    """Guard what a container holds, or an object's attributes that code mentions, and theirs."""
    guards.meet(value)
    if isinstance(value, list | tuple | dict):
        if len(value) < 1000:
            guards.container(value, why)
    elif isinstance(value, type | ModuleType):  # of these only plain numbers and strings
        chosen = [n for n in sorted(names) if isinstance(vars(value).get(n), NUMBERS)]
        guards.attributes(value, chosen, why)
    elif not isinstance(value, (*ROLES, FunctionType)) and hasattr(value, "__dict__") and depth:
        names = _through(type(value), names)
        guards.attributes(value, [n for n in sorted(names) if _is_attribute(value, n)], why)
        for name in sorted(names & vars(value).keys()):
            watch_value(guards, vars(value)[name], names, f"{why}.{name}", depth - 1)


def _is_attribute(value: Any, name: str) -> bool:
    """Tell whether an object has an attribute, or its class a number or a string of that name."""
    return name in vars(value) or isinstance(getattr(type(value), name, None), NUMBERS)


def random_states() -> dict[str, Any]:
    """Return where the generators of Python and NumPy are, of those that have been imported."""
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    found: dict[str, Any] = {} if python is None else {"Python": python.getstate()}
    if numpy is not None:
        _, key, *place = numpy.get_state()
        found["NumPy"] = key.tobytes(), place
    return found


# --- all of them ---


def all_guards(trace: Trace, watched: Guards, names: frozenset[str]) -> Guards:
    """Return all that must be unchanged; called when the trace has been undone."""
    guards = trace.guards
    for state in trace.states.values():
        if isinstance(state.owner, Value):
            guards.attribute(state.owner, "_data", state.data, same_layout, "a tensor's layout")
    for t in trace.outside.values():
        if isinstance(t._data, np.ndarray):
            why = f"whether a tensor of {t._data.dtype}{list(t._data.shape)} requires grad"
            guards.attribute(t, "_node", t._node, same_role, why)
    for cell, seen in trace.effects.cells.items():
        if seen.how != "written" and cell not in trace.argument_cells:
            same: Same = same_gradient if seen.how == "value" else same_presence
            guards.attribute(cell, "grad", seen.before, same, "whether .grad is None, or its shape")
    for optimizer in trace.optimizers.values():
        _watch_optimizer(guards, optimizer)
    for part in _parts(list(trace.modules.values())):
        _watch_module(guards, part, names | mentioned_by_class(type(part), Module))
    parts = _parts([*watched.modules.values(), *trace.listed.values()])
    read = {kind: _through(kind, names) for kind in {type(part) for part in parts}}
    for part in parts:
        _watch_module(guards, part, read[type(part)], (Module, Parameter, Buffer))
    for entry, same, why in zip(watched.entries, watched.same, watched.causes, strict=True):
        guards.add(*entry, same, why)
    return guards


def _parts(modules: Sequence[Module]) -> list[Module]:
    """Return modules and all their parts, each once."""
    found: dict[int, Module] = {}
    for module in modules:
        if id(module) not in found:  # it isn't a part of an earlier one
            found.update((id(part), part) for part in module.modules())
    return list(found.values())


def _watch_optimizer(guards: Guards, optimizer: Any) -> None:
    kind = type(optimizer).__name__
    groups = optimizer.param_groups
    guards.length(groups, f"the groups of {kind}")
    for i, group in enumerate(groups):
        guards.item(groups, i, group, f"the groups of {kind}")
        guards.item(group, "params", group["params"], f"the parameters of {kind}")
        guards.container(group["params"], f"the parameters of {kind}")
        for p in group["params"]:
            state = optimizer.state.get(p)
            if state is not None:  # else it wasn't updated
                guards.item(optimizer.state, p, state, f"the state of {kind}")
                for name, value in state.items():
                    guards.item(state, name, value, f"the state {name!r} of {kind}")


def _watch_module(
    guards: Guards,
    module: Module,
    names: frozenset[str],
    parts: tuple[type, ...] = (Module, Parameter, Buffer, Value, list, tuple, dict),
) -> None:
    """Guard a module's parts, how many it has, and those of its attributes that code mentions."""
    chosen = [k for k, v in vars(module).items() if k in names or isinstance(v, parts)]
    hooks = {"_hooks", "_pre_hooks"}.difference(chosen)
    guards.length(vars(module), f"{type(module).__name__}'s attributes")
    guards.attributes(module, [*chosen, *sorted(hooks)], type(module).__name__)
    guards.attribute(module, "training", module.training, same_mode, "training or eval()")
    for name in chosen:
        if not isinstance(vars(module)[name], list | tuple | dict):
            watch_value(guards, vars(module)[name], names, f"{type(module).__name__}.{name}")
