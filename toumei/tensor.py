"""Tensor: an array that remembers how it was made, with PyTorch's methods.

The methods are the functions of `toumei.ops` under the same names; what stands here in full is
what a tensor is by itself: its data, its place in the graph, and how it prints.
"""

from __future__ import annotations

import builtins
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from .backward import backward_from
from .config import bool_, config, float32, float64, get_default_dtype, int32, int64, uint8
from .device import CPU
from .device import device as device_type
from .errors import GradError, OpError, OpTypeError
from .memorymethods import MemoryMethods
from .methods import TensorMethods
from .op import Array, DType
from .ops import creation, elementwise
from .tape import Cell, Hook, Leaf, Storage, Value, spec_of, tensor_type, wrap
from .traced import DROPPED, known, numbers_of, refuse_to_read, there

BRANCH = "use where(), or a condition on Python values"


class Size(tuple[int, ...]):
    """A shape: a tuple of ints that knows how many elements it holds."""

    def numel(self) -> int:
        """Return the number of elements."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"Size([{', '.join(map(str, self))}])"


class RemovableHandle:
    """What `register_hook` returns: `remove()` takes the hook away."""

    def __init__(self, hooks: list[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


@tensor_type
class Tensor(TensorMethods, MemoryMethods):
    """An n-dimensional array with a place in the graph of derivatives.

    Args:
        data: nested lists of numbers, an array or a tensor (copied).
        dtype: float32, float64, int64, int32, uint8 or bool; the default float if None (`tm.tensor`
            takes the data's).
        requires_grad: whether derivatives with respect to it are wanted.

    Raises:
        OpTypeError: `data` is an integer, which PyTorch would take for a size.

    >>> import toumei as tm
    >>> x = tm.tensor([1.0, 2.0], requires_grad=True)
    >>> (x ** 2).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, data: Any = (), *, dtype: Any = None, requires_grad: bool = False) -> None:
        if isinstance(data, int):
            raise OpTypeError(
                f"Tensor({data}): a number or a size? Use tm.tensor({data}) or tm.empty({data})"
            )
        if dtype is None and not isinstance(data, Value):
            dtype = get_default_dtype()  # unlike `tm.tensor`, but like PyTorch's class
        made = creation.tensor(data, dtype=dtype)
        self._data, self._storage = made._data, made._storage
        self.requires_grad = requires_grad

    # --- what it is ---

    @property
    def shape(self) -> Size:
        return Size(self._data.shape)

    @property
    def dtype(self) -> DType:
        return cast(DType, self._data.dtype)

    @property
    def ndim(self) -> int:
        return len(self._data.shape)

    @property
    def device(self) -> device_type:
        return CPU

    @property
    def itemsize(self) -> int:
        return cast(int, self._data.dtype.itemsize)

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.ndim

    ndimension = dim

    # --- its place in the graph ---

    @property
    def requires_grad(self) -> bool:
        return self._edge() is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Ask for derivatives with respect to this tensor, or no longer.

        Raises:
            GradError: it isn't a leaf, or its dtype has no derivatives.
        """
        if requires_grad == self.requires_grad:
            return self
        if self._node is not None and not isinstance(self._node, Leaf):
            raise GradError("requires_grad can be turned off only on a leaf; use detach() here")
        if requires_grad and self.dtype.kind != "f":
            raise GradError(
                f"only floating-point tensors can require gradients, not {self.dtype}: use .float()"
            )
        if config.trace is not None:
            config.trace.changes(self)
        self._cell = self._cell or Cell()
        self._node = Leaf(spec_of(self), self._cell) if requires_grad else None
        self._index = 0
        if self._parent is not None:  # a view made without a graph, now a leaf of its own
            self._parent = self._view = None
        return self

    @property
    def is_leaf(self) -> bool:
        edge = self._edge()
        return edge is None or isinstance(edge[0], Leaf)

    @property
    def grad(self) -> Tensor | None:
        if config.trace is not None:
            self._cell = self._cell or Cell()
            config.trace.saw_gradient(self._cell)
        return None if self._cell is None else there(self._cell.grad)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise GradError(f"a gradient of {spec_of(value)} can't belong to {spec_of(self)}")
        self._cell = self._cell or Cell()
        if config.trace is not None:
            config.trace.sets_gradient(self._cell)
        self._cell.grad = value

    def _has_grad(self) -> builtins.bool:
        """Tell whether there is a gradient, be it one that was used up and not kept."""
        self._cell = self._cell or Cell()
        if config.trace is not None:
            config.trace.saw_gradient(self._cell, "presence")
        return self._cell.grad is not None

    @property
    def grad_fn(self) -> Any:
        """The op's node that made this tensor; None for a leaf."""
        edge = self._edge()
        return None if edge is None or isinstance(edge[0], Leaf) else edge[0]

    @property
    def data(self) -> Tensor:
        """The same memory outside of the graph; changes through it are not noticed."""
        if config.trace is not None:
            return self.detach()
        return wrap(self._data, Storage())

    @data.setter
    def data(self, value: Tensor) -> None:
        if config.trace is not None:
            config.trace.replace(self, value)
            return
        self._data = value._data
        if isinstance(self._node, Leaf):  # its gradients will have the new dtype and shape
            self._node.outs = (spec_of(self),)

    def detach(self) -> Tensor:
        """Return the same memory outside of the graph."""
        if config.trace is not None:
            return cast(Tensor, config.trace.detached(self))
        return wrap(self._data, self._storage)

    def detach_(self) -> Tensor:
        """Take this tensor out of the graph."""
        if config.trace is not None:
            config.trace.changes(self)
        self._node, self._index, self._parent, self._view = None, 0, None, None
        return self

    def retain_grad(self) -> None:
        """Keep `.grad` although this tensor isn't a leaf."""
        edge = self._edge()
        if edge is None:
            raise GradError("retain_grad needs a tensor that requires grad")
        if config.trace is not None:
            config.trace.changes(self)
        self._cell = self._cell or Cell()
        edge[0].cells = {**(edge[0].cells or {}), edge[1]: weakref.ref(self._cell)}

    @property
    def retains_grad(self) -> bool:
        edge = self._edge()
        return edge is not None and not self.is_leaf and edge[1] in (edge[0].cells or {})

    def register_hook(self, hook: Hook) -> RemovableHandle:
        """Call `hook(gradient)` when this tensor's gradient is known; it may return another one."""
        edge = self._edge()
        if edge is None:
            raise GradError("register_hook needs a tensor that requires grad")
        node, index = edge
        node.hooks = node.hooks or {}
        hooks = node.hooks.setdefault(index, [])
        hooks.append(hook)
        return RemovableHandle(hooks, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `hook(tensor)` each time a gradient has been added to `.grad` of this leaf."""
        if not self.requires_grad or not self.is_leaf:
            raise GradError("register_post_accumulate_grad_hook needs a leaf that requires grad")
        me = weakref.ref(self)  # the leaf owns the hook

        def call() -> None:
            tensor = me()
            if tensor is not None:
                hook(tensor)

        self._cell = self._cell or Cell()
        self._cell.after = self._cell.after or []
        self._cell.after.append(call)
        return RemovableHandle(self._cell.after, call)

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add the derivatives of this tensor to `.grad` of every leaf that it depends on.

        Args:
            gradient: what to weigh the elements with; may be left out for a single element.
            retain_graph: keep the graph, so that backward can run again (default: create_graph).
            create_graph: record the derivatives themselves, for higher orders.
            inputs: the tensors whose `.grad` is wanted (default: all leaves).

        Raises:
            GradError: the tensor doesn't depend on anything that requires grad, the graph was
                freed, or a value that is needed has been changed in place.
        """
        backward_from((self,), (gradient,), retain_graph, create_graph, inputs)

    # --- out into the world ---

    def numpy(self, *, force: bool = False) -> Array:
        """Return the array itself: memory is shared.

        Args:
            force: detach a tensor that requires grad instead of refusing it.

        Raises:
            GradError: the tensor requires grad: say `.detach().numpy()`.
        """
        if self.requires_grad and not force:
            raise GradError("numpy() on a tensor that requires grad: use .detach().numpy()")
        return self._array()

    def _array(self) -> Array:
        refuse_to_read("numpy()")
        return numbers_of("numpy()", self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    __array_priority__ = 1000
    __array_ufunc__ = None  # array + tensor is the tensor's business

    def item(self) -> Any:
        """Return the only element as a Python number."""
        refuse_to_read("item()")
        if self._data.size != 1:
            raise OpError(
                f"item() needs a tensor of one element, this is {spec_of(self)}: use tolist()"
            )
        return self._data.item()

    def tolist(self) -> Any:
        """Return nested lists of Python numbers."""
        refuse_to_read("tolist()")
        return self._data.tolist()

    def to(
        self,
        *args: Any,
        dtype: Any = None,
        device: str | None = None,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: str | None = None,
    ) -> Tensor:
        """Return this tensor with another dtype; the only device is "cpu", which never blocks.

        Args:
            args: a device or a dtype or both, or a tensor that has them; then, as in PyTorch,
                `non_blocking` and `copy`.
            dtype: the dtype wanted; None keeps it.
            device: "cpu".
            non_blocking: makes no difference on a CPU.
            copy: make a copy even if nothing changes.
            memory_format: "preserve_format", "contiguous_format" or "channels_last".
        """
        flags = [a for a in args if isinstance(a, bool)]
        copy = flags[1] if len(flags) > 1 else copy
        for arg in (*args, device):
            if isinstance(arg, str) and arg.split(":")[0] in ("cpu", "cuda", "mps", "meta"):
                device_type(arg)
            elif arg is not None and not isinstance(arg, bool):
                dtype = arg.dtype if isinstance(arg, Tensor) else arg
        out = self if dtype is None else elementwise.cast(self, dtype)
        out = out.clone() if copy and out is self else out
        return elementwise.in_format(out, memory_format)

    def type(self, dtype: Any = None) -> Any:
        """Return the dtype, or this tensor with another one."""
        return self.dtype if dtype is None else self.to(dtype)

    def cpu(self) -> Tensor:
        """Return the tensor itself: it is on the CPU."""
        return self

    # --- Python's protocols ---

    def __len__(self) -> Any:
        if not self._data.shape:
            raise OpTypeError("len() of a tensor without dimensions")
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.shape:
            raise OpTypeError("a tensor without dimensions can't be iterated over")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> Any:
        refuse_to_read("the truth of a tensor (if, while, and, or, not)", BRANCH)
        if self._data.size != 1:
            raise OpError(
                f"the truth of {spec_of(self)} is ambiguous: use .any(), .all() or a comparison"
            )
        return bool(self._data.item())

    def __int__(self) -> Any:
        refuse_to_read("int()")
        return int(self.item())

    def __float__(self) -> Any:
        refuse_to_read("float()")
        return float(self.item())

    def __index__(self) -> Any:
        refuse_to_read("a tensor as an index or a size", "use gather() or index_select()")
        if self.dtype.kind == "f":
            raise OpTypeError(f"{spec_of(self)} can't be used as an index")
        return int(self.item())

    def __contains__(self, value: Any) -> Any:
        refuse_to_read("in", "use (tensor == value).any() as a tensor")
        return bool((self._data == (value._data if isinstance(value, Value) else value)).any())

    def __format__(self, spec: str) -> str:
        if known(self) and self._data.shape == ():
            return format(self.item(), spec)
        if spec:
            refuse_to_read("a formatted number")
        return object.__format__(self, spec)  # refuses a spec

    def __repr__(self) -> str:
        data = self._data
        if not isinstance(data, np.ndarray):
            return f"tensor(..., shape={tuple(data.shape)}, dtype={data.dtype})"
        text = np.array2string(data, separator=", ", prefix="tensor(", precision=4, threshold=1000)
        notes = []
        if data.dtype not in (bool_, int64, float32) or data.size == 0:
            notes.append(f"dtype={data.dtype}")
        if data.size == 0 and data.ndim != 1:
            notes.append(f"shape={data.shape}")
        if self.grad_fn is not None:
            notes.append(f"grad_fn={self.grad_fn!r}")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join([text, *notes])})"

    def __deepcopy__(self, memo: dict[Any, Any]) -> Tensor:
        if not self.is_leaf:
            raise GradError("only leaves can be deep-copied: detach() or clone() this tensor first")
        copy = type(self).__new__(type(self))
        copy.__dict__.update({k: v for k, v in vars(self).items() if not k.startswith("_")})
        copy._data, copy._storage = self._data.copy(), Storage()
        memo[id(self)] = copy
        if self.requires_grad:
            copy.requires_grad_()
        if self._cell is not None and self._cell.grad is DROPPED:
            copy._cell = copy._cell or Cell()
            copy._cell.grad = DROPPED
        elif self.grad is not None:
            copy.grad = self.grad.detach().clone()
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("tensors aren't pickled: use tm.save and tm.load")

    # --- casts (last: their names hide the builtins from here on) ---

    def float(self, memory_format: str | None = None) -> Tensor:
        return self.to(float32, memory_format=memory_format)

    def double(self, memory_format: str | None = None) -> Tensor:
        return self.to(float64, memory_format=memory_format)

    def long(self, memory_format: str | None = None) -> Tensor:
        return self.to(int64, memory_format=memory_format)

    def int(self, memory_format: str | None = None) -> Tensor:
        return self.to(int32, memory_format=memory_format)

    def byte(self, memory_format: str | None = None) -> Tensor:
        return self.to(uint8, memory_format=memory_format)

    def bool(self, memory_format: str | None = None) -> Tensor:
        return self.to(bool_, memory_format=memory_format)


class Parameter(Tensor):
    """A tensor that a module learns: it requires grad and appears in `module.parameters()`."""

    def __init__(self, data: Any = (), requires_grad: bool = True) -> None:
        made = creation.as_tensor(data)
        self._data, self._storage = made._data, made._storage
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that belongs to a module without being learnt, such as a running mean.

    Args:
        data: numbers, an array or a tensor.
        persistent: whether it is part of the module's `state_dict`.
    """

    def __init__(self, data: Any = (), *, persistent: bool = True) -> None:
        made = creation.as_tensor(data)
        self._data, self._storage = made._data, made._storage
        self.persistent = persistent
