"""The numbers of a module by name: out of it, into it, and into another dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..config import grad_mode
from ..errors import LoadError, ModuleError
from ..tape import operand
from ..tensor import Buffer, Parameter, Tensor
from ..traced import DROPPED, refuse_within_step

if TYPE_CHECKING:
    from .module import Module


class LoadResult(NamedTuple):
    """The names that a state dict lacked, and those that it had too many."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is spelt most like `name`, if any is close."""
    import difflib  # only after something has failed

    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def _tensors(module: Module, prefix: str = "") -> dict[str, Parameter | Buffer]:
    """Return parameters and persistent buffers under all of their names."""
    found: dict[str, Parameter | Buffer] = {}
    for name, member in module.walk(every_name=True):
        saved = isinstance(member, Parameter) or getattr(member, "persistent", False)
        if not isinstance(member, Parameter | Buffer) or not saved:
            continue
        if found.setdefault(prefix + name, member) is not member:
            raise ModuleError(f"two tensors of {type(module).__name__} are named {name!r}")
    return found


def state_dict(module: Module, prefix: str, keep_vars: bool) -> dict[str, Tensor]:
    """Return all parameters and persistent buffers by name."""
    refuse_within_step("state_dict()", "take it outside of the step")
    tensors = _tensors(module, prefix)
    return {name: t if keep_vars else t.detach() for name, t in tensors.items()}


def load_state_dict(module: Module, given: Mapping[str, Any], strict: bool) -> LoadResult:
    """Copy `given` into the module's tensors, once everything has been found to fit."""
    refuse_within_step("load_state_dict()", "load outside of the step")
    own = _tensors(module)
    values = {name: _as_tensor(name, value) for name, value in given.items() if name in own}
    filled = {id(own[name]) for name in values}  # a tied tensor needs only one of its names
    missing = [name for name, t in own.items() if name not in values and id(t) not in filled]
    unexpected = [name for name in given if name not in own]
    problems = _wrong_shapes(own, values)
    if strict:
        problems += [f"missing {name} {list(own[name].shape)}" for name in missing]
        problems += [_unexpected(name, given[name], missing) for name in unexpected]
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        text = "\n  ".join([f"load_state_dict of {type(module).__name__}: {count}", *problems])
        raise LoadError(text)
    with grad_mode(False):
        for name, value in values.items():
            own[name].copy_(value)
    return LoadResult(missing, unexpected)


def _as_tensor(name: str, value: Any) -> Tensor:
    """Return a value of a state dict as a tensor: one of PyTorch's, too, or any array."""
    try:
        return value if isinstance(value, Tensor) else operand(_as_array(value))
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        reason = getattr(error, "message", error)
        raise LoadError(f"load_state_dict: {name}, a {kind}, can't be read: {reason}") from error


def _as_array(value: Any) -> Any:
    """Turn another library's tensor into an array, by the methods that PyTorch's tensors have."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype).endswith("float16"):  # bfloat16 has no array, float16 no tensor here
            value = value.float()
    if not hasattr(value, "__array__"):
        return value
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _wrong_shapes(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} is {list(own[name].shape)} here, but {list(value.shape)} in the state dict"
        for name, value in values.items()
        if value.shape != own[name].shape
    ]


def _unexpected(name: str, value: Any, missing: list[str]) -> str:
    if isinstance(value, Mapping):
        return f"unexpected {name}, a dict in itself: is it that one which is to be loaded?"
    near = nearest(name, missing)
    shape = f" {list(value.shape)}" if hasattr(value, "shape") else ""
    return f"unexpected {name}{shape}" + (f"; did you mean {near}?" if near else "")


def convert(module: Module, change: Callable[[Tensor], Tensor]) -> None:
    """Replace the memory of every floating-point parameter and buffer by `change` of it."""
    refuse_within_step("to()", "convert the model outside of the step")
    tensors = [t for _, t in module.walk() if isinstance(t, Tensor) and t.is_floating_point()]
    with grad_mode(False):
        changed = [change(t.detach()) for t in tensors]
    for t, new in zip(tensors, changed, strict=True):
        if not new.is_floating_point():
            raise ModuleError(f"a module's parameters must be floating-point, not {new.dtype}")
        if new.dtype != t.dtype:
            used_up = t._cell is not None and t._cell.grad is DROPPED
            grad, t.grad = None if used_up else t.grad, None
            t.data = new
            t.grad = None if grad is None else grad.to(new.dtype)
            if used_up and t._cell is not None:
                t._cell.grad = DROPPED
