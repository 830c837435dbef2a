"""Module: a part of a model, with the tensors that it learns and the parts that it is made of.

    class MLP(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(784, 100), nn.Linear(100, 10)]     # a plain list registers

        def forward(self, x):
            return self.layers[1](F.relu(self.layers[0](x)))

Everything is a plain attribute.  What a module holds is found by looking: `walk` goes through its
attributes and through the lists, tuples and dicts among them.  The type of a tensor says its role:
a Parameter is learnt, a Buffer is kept, any other tensor is just a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

from ..config import config
from ..errors import AnomalyError, ModuleError, ToumeiError
from ..ops.creation import zeros_like
from ..tensor import Buffer, Parameter, RemovableHandle, Tensor
from . import state

if TYPE_CHECKING:
    from .state import LoadResult

Member: TypeAlias = "Module | Parameter | Buffer"
Hooks: TypeAlias = "list[tuple[Callable[..., Any], bool]] | tuple[()]"  # and: with_kwargs?
T = TypeVar("T")


class MissingAttribute(ModuleError, AttributeError):  # noqa: N818  (what it is, in plain words)
    """A module was asked for a layer or a value that it doesn't have."""


class _Untracked:
    """What `untracked` returns until it is assigned to a module: then it is the bare value."""

    def __init__(self, value: Any) -> None:
        self.value = value


def untracked(value: T) -> T:
    """Keep what is assigned to a module's attribute from being registered as a part of it.

    The attribute is the value itself; its parameters are neither trained, saved nor converted with
    the module.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> class Student(nn.Module):
    ...     def __init__(self, teacher):
    ...         self.teacher = tm.untracked(teacher)
    ...         self.layer = nn.Linear(2, 1)
    >>> [name for name, _ in Student(nn.Linear(2, 1)).named_parameters()]
    ['layer.weight', 'layer.bias']
    """
    return cast(T, _Untracked(value))


class Module:
    """A part of a model.  Subclasses assign their parts in `__init__` and compute in `forward`.

    `super().__init__()` may be called or left out.

    >>> from toumei import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         self.layer = nn.Linear(3, 3)
    ...     def forward(self, x):
    ...         return self.layer(self.layer(x))
    >>> Twice()
    Twice(
      (layer): Linear(in_features=3, out_features=3, bias=True)
    )
    """

    training: bool = True
    _pre_hooks: Hooks = ()
    _hooks: Hooks = ()
    _hidden: frozenset[str] = frozenset({"_pre_hooks", "_hooks", "_hidden"})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result.  Subclasses define it; callers call the module itself."""
        raise ModuleError(f"{type(self).__name__} can't be called: it defines no forward(self, …)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if config.debug:
            config.modules.append(self._line())
        if config.trace is not None:
            config.trace.visit(self)
        try:
            if self._hooks or self._pre_hooks:
                return self._call_with_hooks(args, kwargs)
            return self.forward(*args, **kwargs)
        except ToumeiError as error:
            if not isinstance(error, AnomalyError):  # debug mode has told it already
                error.modules.append(self._line())
            raise
        finally:
            if config.debug and config.modules:
                config.modules.pop()

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook, with_kwargs in list(self._pre_hooks):
            new = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if new is None:
                continue
            if with_kwargs:
                args, kwargs = new
            else:
                args = new if isinstance(new, tuple) else (new,)
        result = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._hooks):
            new = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
            result = result if new is None else new
        return result

    # --- attributes ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if config.trace is not None:
            config.trace.sets_attribute(self, name)
        if isinstance(value, Tensor):
            value = self._in_role(name, value)
        if isinstance(value, _Untracked):
            value = value.value
            object.__setattr__(self, "_hidden", self._hidden | {name})
        elif name in self._hidden and name not in Module._hidden:
            object.__setattr__(self, "_hidden", self._hidden - {name})
        object.__setattr__(self, name, value)

    def _in_role(self, name: str, value: Tensor) -> Tensor:
        """Make a buffer of what takes a buffer's place; refuse to replace a parameter so."""
        old = vars(self).get(name)
        if isinstance(value, Parameter | Buffer) or name in self._hidden:
            return value
        if isinstance(old, Parameter):
            raise ModuleError(
                f"{type(self).__name__}.{name} is a Parameter and can't be replaced by a plain "
                f"tensor. Assign nn.Parameter(…), or change its numbers: with tm.no_grad(): "
                f"module.{name}.copy_(…)"
            )
        return _as_buffer(value, old.persistent) if isinstance(old, Buffer) else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asking for one of its protocols
            raise AttributeError(name)
        raise MissingAttribute(self._explain_missing(name))

    def _explain_missing(self, name: str) -> str:
        own = [key for key in vars(self) if not key.startswith("_")]
        text = f"{type(self).__name__} has no layer or attribute {name!r}"
        if not own:
            return f"{text}: nothing has been assigned to it yet. Is its __init__ spelt right?"
        public = [key for key in dir(type(self)) if not key.startswith("_")]
        near = state.nearest(name, own) or state.nearest(name, public)
        hint = f"; did you mean {near!r}?" if near else "."
        return f"{text}{hint} It has {', '.join(own)}"

    # --- parts -----------------------------------------------------------------------------------

    def _parts(self) -> Iterable[tuple[str, Any]]:
        """Return the attributes to look for parts in, by name."""
        if config.trace is not None:
            config.trace.lists(self)
        return [(k, v) for k, v in vars(self).items() if k not in self._hidden]

    def _members(self) -> list[tuple[str, Member]]:
        """Return this module's own parameters, then its buffers, then its children."""
        found = list(_flatten(self._parts(), "", ()))
        roles = (Parameter, Buffer, Module)
        return [(name, m) for role in roles for name, m in found if isinstance(m, role)]

    def walk(self, prefix: str = "", *, every_name: bool = False) -> Iterator[tuple[str, Member]]:
        """Yield this module, its own parameters and buffers, then those of each child, with names.

        Args:
            prefix: what the names start with.
            every_name: yield what has several names under each of them, not only the first.
        """
        return self._walk(prefix, set(), every_name)

    def _walk(self, name: str, seen: set[int], again: bool) -> Iterator[tuple[str, Member]]:
        seen.add(id(self))
        yield name, self
        prefix = f"{name}." if name else ""
        for key, member in self._members():
            if id(member) in seen:
                continue
            if isinstance(member, Module):
                yield from member._walk(prefix + key, seen, again)
            else:
                if not again:
                    seen.add(id(member))
                yield prefix + key, member
        if again:  # only a module within itself is left out
            seen.discard(id(self))

    def _named(
        self, role: type[T], prefix: str, recurse: bool, unique: bool
    ) -> Iterator[tuple[str, T]]:
        if recurse:
            found = self.walk(prefix, every_name=not unique)
            return ((name, m) for name, m in found if isinstance(m, role))
        start = f"{prefix}." if prefix else ""
        own = [(start + name, m) for name, m in self._members() if isinstance(m, role)]
        first: dict[int, tuple[str, T]] = {}
        for name, m in own:
            first.setdefault(id(m), (name, m))
        return iter(first.values() if unique else own)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter), each parameter once unless `remove_duplicate` is False."""
        return self._named(Parameter, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, each once; only the module's own without `recurse`."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """Yield (name, buffer), each buffer once unless `remove_duplicate` is False."""
        return self._named(Buffer, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Yield the buffers, each once; only the module's own without `recurse`."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def named_modules(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for this module and all within it, each once."""
        return self._named(Module, prefix, True, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all within it, each once."""
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the modules directly within this one, each once."""
        return self._named(Module, "", False, True)

    def children(self) -> Iterator[Module]:
        """Yield the modules directly within this one, each once."""
        return (m for _, m in self.named_children())

    def get_submodule(self, target: str) -> Module:
        """Return the module with a dotted name, such as "blocks.0.linear"; "" is this one."""
        return self._get(target, Module)

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter with a dotted name, such as "blocks.0.linear.weight"."""
        return self._get(target, Parameter)

    def get_buffer(self, target: str) -> Buffer:
        """Return the buffer with a dotted name."""
        return self._get(target, Buffer)

    def _get(self, target: str, role: type[T]) -> T:
        found = dict(self._named(role, "", True, False))
        if target not in found:
            near = state.nearest(target, found)
            hint = f"; did you mean {near!r}?" if near else ""
            kind = role.__name__.lower()
            raise MissingAttribute(f"{type(self).__name__} has no {kind} named {target!r}{hint}")
        return found[target]

    # --- registering by name ---------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Assign a parameter, or None in its place, under a name that is checked."""
        if param is not None and not isinstance(param, Parameter):
            raise ModuleError(
                f"register_parameter({name!r}, …): expected an nn.Parameter or None, "
                f"got {type(param).__name__}"
            )
        self._register(name, param, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Assign a tensor that belongs to the module without being learnt; its memory is shared.

        Args:
            name: the attribute's name.
            tensor: the tensor; None keeps the place free.
            persistent: whether it is part of the `state_dict`.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise ModuleError(
                f"register_buffer({name!r}, …): expected a tensor or None, "
                f"got {type(tensor).__name__}"
            )
        buffer = None if tensor is None else _as_buffer(tensor, persistent)
        self._register(name, buffer, Buffer)

    def register_module(self, name: str, module: Module | None) -> None:
        """Assign a child module, or None in its place, under a name that is checked."""
        if module is not None:
            check_is_module(module, f"{type(self).__name__}.{name}")
        self._register(name, module, Module)

    add_module = register_module

    def _register(self, name: str, value: Any, role: type) -> None:
        kind = type(self).__name__
        if not isinstance(name, str) or not name or "." in name:
            raise ModuleError(f"{name!r} can't be the name of a part of {kind}: no dots, not empty")
        if hasattr(type(self), name) or not isinstance(vars(self).get(name), role | None):
            raise ModuleError(f"{kind} has an attribute {name!r} already")
        setattr(self, name, value)

    # --- state -----------------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Return all parameters and persistent buffers by name; they share the module's memory.

        Args:
            prefix: what the names start with.
            keep_vars: return the parameters themselves instead of detached tensors.
        """
        return state.state_dict(self, prefix, keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy the numbers of a state dict into this module's tensors.

        Nothing is changed unless everything fits.

        Args:
            state_dict: tensors or arrays by name, as `state_dict()` gives them; PyTorch's, too.
            strict: refuse missing and unexpected names (wrong shapes are always refused).

        Returns:
            The names that were missing and those that were unexpected.

        Raises:
            LoadError: the names or shapes don't fit; the message lists every problem.
        """
        return state.load_state_dict(self, state_dict, strict)

    # --- for all parts ---------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Put this module and all within it into training mode (dropout drops, …) or out of it."""
        if not isinstance(mode, bool):
            raise ModuleError(f"train(mode): expected True or False, got {mode!r:.60}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all within it into evaluation mode: train(False)."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Make all parameters learn, or freeze them."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; `set_to_none=False` fills them with zeros instead."""
        for p in self.parameters():
            if set_to_none:
                p.grad = None
            elif p._has_grad():
                p.grad = zeros_like(p, requires_grad=False)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` with every module within this one, children first, then with this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, dtype: Any = None) -> Self:
        """Convert the floating-point parameters and buffers, in place; the only device is "cpu"."""
        state.convert(self, lambda t: t.to(*args, dtype=dtype))
        return self

    def float(self) -> Self:
        """Convert to float32, in place."""
        return self.to("float32")

    def double(self) -> Self:
        """Convert to float64, in place."""
        return self.to("float64")

    def cpu(self) -> Self:
        """Return the module itself: it is on the CPU."""
        return self

    # --- hooks -----------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before each forward; it may return other arguments.

        Args:
            hook: gets (module, args), or (module, args, kwargs) with `with_kwargs`.
            prepend: run it before the hooks that are there already.
            with_kwargs: hand over keyword arguments; the hook then returns (args, kwargs) or None.
        """
        return self._add_hook("_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after each forward; it may return another output."""
        return self._add_hook("_hooks", (hook, with_kwargs), prepend)

    def _add_hook(self, name: str, entry: tuple[Any, bool], prepend: bool) -> RemovableHandle:
        hooks = vars(self).setdefault(name, [])
        hooks.insert(0 if prepend else len(hooks), entry)
        return RemovableHandle(hooks, entry)

    # --- text ------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def _line(self) -> str:
        """Return the module on one line, without its children: for messages."""
        extra = self.extra_repr()
        return f"{self._get_name()}({extra})" if extra else self._get_name()

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}" for name, child in self._named(Module, "", False, False)]
        return layout(self._get_name(), self.extra_repr(), lines)


def layout(name: str, extra: str, lines: list[str]) -> str:
    """Write "name(extra)", with one indented line or block of lines for each child."""
    if not lines:
        return f"{name}({extra})"
    body = "\n".join([extra] * bool(extra) + lines).replace("\n", "\n  ")
    return f"{name}(\n  {body}\n)"


def check_is_module(value: Any, where: str) -> None:
    """Refuse what isn't a module, with a guess at what was meant."""
    if isinstance(value, Module):
        return
    text = f"{where} must be a module, got {value!r:.60}"
    if isinstance(value, type) and issubclass(value, Module):
        text = f"{where} is the class {value.__name__}, not a layer: write {value.__name__}(…)"
    elif callable(value):
        text += ". A function isn't a layer: use the module of that name, or call it in forward"
    raise ModuleError(text)


def _as_buffer(value: Tensor, persistent: bool) -> Buffer:
    """Make a Buffer of a tensor: the same memory, the same place in the graph."""
    buffer = Buffer.__new__(Buffer)
    vars(buffer).update(vars(value))
    buffer.persistent = persistent
    return buffer


def _flatten(
    parts: Iterable[tuple[str, Any]], prefix: str, around: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    """Yield the parameters, buffers and modules among some values and the containers in them."""
    for key, value in parts:
        if isinstance(value, Module | Parameter | Buffer):
            yield f"{prefix}{key}", value
        elif isinstance(value, list | tuple | dict) and id(value) not in around:
            items: Iterable[Any] = value.items() if isinstance(value, dict) else enumerate(value)
            yield from _flatten(items, f"{prefix}{key}.", (*around, id(value)))
        elif isinstance(value, _Untracked):
            raise ModuleError(
                f"untracked() within the container {prefix[:-1]!r}: hide the whole container, "
                f"module.{prefix[:-1]} = tm.untracked([…])"
            )
