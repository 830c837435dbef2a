"""The tape: `apply` runs an op and notes it down; `backward.py` walks the notes in reverse.

A tensor that needs a gradient points to a Node (the op that made it) or to a Leaf (it was made by
the user).  A Node points to the nodes of its inputs, its *edges*, never to a tensor: so there are
no cycles, and the graph goes when the last tensor that points into it goes.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np

from .config import DTYPES, config, get_default_dtype, grad_mode, run_quietly
from .debug import Place, check_forward, place_of_call
from .device import xp
from .errors import OpError, OpIndexError, OpTypeError, ToumeiError
from .op import (
    NATIVE,
    RANK,
    Array,
    Composite,
    DType,
    Op,
    Refused,
    Spec,
    Want,
    call_text,
    normal_dim,
    result_type,
)
from .traced import Unknown, refuse_array

if TYPE_CHECKING:
    from .tensor import Tensor

Hook: TypeAlias = "Callable[[Tensor], Tensor | None]"
Edge: TypeAlias = "tuple[Node, int] | None"
Operand: TypeAlias = "Tensor | Array | float"  # what a binary op takes

_order = itertools.count()


def next_order() -> int:
    """Return a number that every node made from here on exceeds."""
    return next(_order)


class Storage:
    """The identity of some memory; `version` counts the in-place changes to it."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0


class Cell:
    """Where a gradient is put.  The tensor owns it; its node refers to it weakly.

    (A gradient may have a graph of its own, which leads back to the node: that would be a cycle.)
    """

    __slots__ = ("__weakref__", "after", "grad")

    def __init__(self) -> None:
        self.grad: Tensor | None = None
        self.after: list[Callable[[], None]] | None = None  # hooks, once the gradient is there


class Saved(NamedTuple):
    """A value kept for the backward pass, and how to see that nobody has overwritten it."""

    data: Any
    edge: Edge
    storage: Storage
    version: int


class Node:
    """One op that was applied: what the backward pass needs to know of it."""

    __slots__ = ("cells", "edges", "hooks", "kept", "op", "order", "outs", "place")

    def __init__(self, op: Op, edges: tuple[Edge, ...], outs: tuple[Spec, ...]) -> None:
        self.op = op
        self.edges = edges
        self.outs = outs
        self.kept: list[tuple[Any, ...]] | None = []  # per gradient function; None: freed
        self.order = next(_order)
        self.hooks: dict[int, list[Hook]] | None = None  # by output
        self.cells: dict[int, weakref.ref[Cell]] | None = None  # by output: leaves, retain_grad
        self.place: Place | None = None  # user's line and modules; debug mode only

    @property
    def name(self) -> str:
        return self.op.name

    def __repr__(self) -> str:
        return f"<{type(self.op).__name__}>"


class Accumulate(Op):
    """Stands at the leaves: adds the gradient that arrives to `tensor.grad`."""


class Leaf(Node):
    """The node of a tensor made by the user that requires a gradient."""

    __slots__ = ()

    def __init__(self, spec: Spec, cell: Cell) -> None:
        super().__init__(ACCUMULATE, (), (spec,))
        self.cells = {0: weakref.ref(cell)}


ACCUMULATE = Accumulate()


class Value:
    """What the tape knows of a tensor.  `Tensor` adds the methods that people call."""

    _data: Any  # an array; a Spec while a step is traced
    _storage: Storage
    _node: Node | None = None
    _index = 0  # which output of its node it is
    _cell: Cell | None = None
    _number: bool | int | float | Unknown | None = None  # the Python number that it was made of
    _parent: Value | None = None  # the tensor that it is a view of, through …
    _view: Op | None = None  # … this op,
    _version = 0  # and the storage's version at which its node was right
    _unrecorded = False  # the view was made under no_grad: it never gets a node from its base

    def _edge(self) -> Edge:
        """Return where gradients of this tensor go."""
        if self._parent is not None and self._version != self._storage.version:
            _refresh(self)
        return None if self._node is None else (self._node, self._index)


T = TypeVar("T", bound=Value)
_tensor_type: type[Value] = Value


def tensor_type(cls: type[T]) -> type[T]:
    """Make `cls` the type of the tensors that `apply` returns."""
    global _tensor_type
    _tensor_type = cls
    return cls


def wrap(data: Array | Spec, storage: Storage | None = None) -> Tensor:
    """Make a tensor of an array, without a copy."""
    t: Any = _tensor_type.__new__(_tensor_type)
    if config.trace is not None and storage is None and isinstance(data, np.ndarray):
        data = config.trace.constant(data)
    t._data = data
    t._storage = storage or Storage()
    return t


def _refresh(view: Value) -> None:
    """Give a view whose base was changed in place the node that it has now, bases first."""
    stale, parent = [view], view._parent
    while parent is not None and parent._version != parent._storage.version:
        if parent._parent is None:
            break
        stale.append(parent)
        parent = parent._parent
    for v in reversed(stale):
        if config.trace is not None:
            config.trace.changes(v)
        v._version = v._storage.version
        if not v._unrecorded:
            assert v._parent is not None and v._view is not None
            before, place = v._node, v._index
            v._node, v._index = None, 0
            with grad_mode(True):
                record(v._view, (v._parent,), (v,))
            keep_cell(v, before, place)


def keep_cell(t: Value, before: Node | None, place: int) -> None:
    """Let a retained gradient follow a tensor that has got another node."""
    if t._cell is None or before is None or isinstance(before, Leaf):
        return
    cell = before.cells.pop(place, None) if before.cells is not None else None
    if cell is not None and t._node is not None:
        t._node.cells = {**(t._node.cells or {}), t._index: cell}


# --- forward -------------------------------------------------------------------------------------


# The dtype of Python's numbers; None stands for the default float.
_NUMBERS: dict[type, Any] = {bool: np.bool_, int: np.int64, float: None}


def lift(value: Any) -> Tensor:
    """Make a tensor of a Python number (it adapts to the other dtypes) or of an array."""
    if type(value) in _NUMBERS or isinstance(value, bool | int | float | np.bool_):
        kind = _NUMBERS.get(type(value)) or (np.bool_ if isinstance(value, np.bool_) else None)
        t = wrap(np.array(value, get_default_dtype() if kind is None else kind))
        t._number = value
        return t
    if isinstance(value, np.ndarray | np.generic):
        refuse_array(value)
        array = np.asarray(value)
        if array.dtype not in RANK:
            raise OpTypeError(unsupported(array.dtype))
        return wrap(array)
    if isinstance(value, Unknown):
        return cast("Tensor", value.tensor(get_default_dtype()))
    raise OpTypeError(f"expected a tensor or a number, got {type(value).__name__}: {value!r:.60}")


def operand(value: Any) -> Tensor:
    """Return a tensor as it is; make one of a number or an array."""
    return cast("Tensor", value) if isinstance(value, Value) else lift(value)


def unsupported(dtype: Any) -> str:
    """Say that a dtype can't be a tensor's, and which can."""
    return f"{dtype} is no dtype of Toumei: it has {', '.join(map(str, DTYPES))}"


def spec_of(t: Value) -> Spec:
    """Return the shape and dtype of a tensor."""
    return Spec(t._data.shape, t._data.dtype, t._number is not None)


def common_type(tensors: Sequence[Value]) -> DType:
    """Return the dtype that tensors, and numbers among them, are promoted to."""
    given = [(t._data.dtype, t._data.shape == (), t._number is not None) for t in tensors]
    return result_type(tuple(given))


def _promote(op: Op, tensors: list[Any]) -> list[Any]:
    start = op.promote_from
    group = tensors[start:] if start else tensors
    dtype: DType = group[0]._data.dtype
    for t in group:
        if t._number is not None or t._data.dtype is not dtype:
            dtype = common_type(group)
            break
    if op.promote == "float" and dtype.kind != "f":
        dtype = get_default_dtype()
    group = [t if t._data.dtype is dtype else _to(t, dtype) for t in group]
    return tensors[:start] + group if start else group


def _to(t: Tensor, dtype: DType) -> Tensor:
    number: Any = t._number
    if isinstance(number, Unknown):
        return cast("Tensor", number.tensor(dtype))
    return t.to(dtype) if number is None else wrap(np.array(number).astype(dtype))


def apply(op: Op, *args: Any) -> Any:
    """Run an op on tensors (or numbers and arrays) and, where a gradient is needed, record it.

    Returns a Tensor, or a tuple of them for an op with several outputs.

    Raises:
        OpError: the op can't take these arguments; the message says which and why.
    """
    tensors: list[Any] = [a if isinstance(a, Value) else lift(a) for a in args]
    if op.promote:
        tensors = _promote(op, tensors)
    trace = config.trace
    arrays = [t._data if trace is None else trace.symbol(t) for t in tensors]
    try:
        result = _compute(op, arrays) if trace is None else trace.call(op, arrays)
    except (ToumeiError, MemoryError, RecursionError):
        raise
    except Exception as error:
        raise explain(op, arrays, error) from None
    several = type(result) is tuple
    results = [_output(op, tensors, o) for o in (result if several else (result,))]
    if config.grad:
        for t in tensors:
            if t._node is not None or t._parent is not None:
                record(op, tensors, results)
                break
    if config.debug:
        check_forward(op, arrays, [t._data for t in results])
    return tuple(results) if several else results[0]


def _compute(op: Op, arrays: list[Any]) -> Any:
    for a in arrays:
        if type(a) is Spec:
            return infer(op, [a if type(a) is Spec else Spec(a.shape, a.dtype) for a in arrays])
    if op.check is not None:
        op.check(*arrays)
    native = NATIVE.get(type(op))
    if native is not None and (result := native(op, arrays)) is not None:
        return result
    return run_quietly(op.forward, xp, *arrays)


def infer(op: Op, specs: Sequence[Spec]) -> Any:
    """Return the Spec of the result of an op, or a tuple of them."""
    if isinstance(op, Composite) and not hasattr(op, "infer"):
        with grad_mode(False):
            result = op.decompose(*map(wrap, specs))
        return tuple(r._data for r in result) if type(result) is tuple else result._data
    return op.infer(*specs)


def _output(op: Op, inputs: Sequence[Value], data: Any) -> Tensor:
    if type(data) is not np.ndarray and not isinstance(data, Spec):
        data = np.asarray(data)  # NumPy returns scalars for 0-d results
    if op.is_view:
        source = inputs[0]
        if isinstance(data, Spec) or not data.size or np.may_share_memory(data, source._data):
            if config.trace is not None:
                data.version = source._storage.version
            out = wrap(data, source._storage)
            out._parent, out._view = source, op
            out._version = source._storage.version
            if not config.grad:
                out._unrecorded = True
            return out
    return wrap(data)


def explain(op: Op, arrays: Sequence[Any], error: Exception) -> ToumeiError:
    """Turn what went wrong into a message: the call, the reason."""
    specs = [a if isinstance(a, Spec) else Spec(a.shape, a.dtype) for a in arrays]
    reason: Exception = error
    if not isinstance(error, Refused):
        try:
            infer(op, specs)
        except Exception as better:
            reason = better
    if isinstance(reason, ToumeiError):
        return reason
    text = str(reason) if isinstance(reason, Refused) else f"{type(reason).__name__}: {reason}"
    return getattr(reason, "error", OpError)(f"{call_text(op, specs)}: {text}")


def dims_of(name: str, x: Value, dim: Any) -> tuple[int, ...]:
    """Return dimensions counted from the front: all of them for None and (), as in PyTorch.

    Raises:
        OpIndexError: one is out of range.
        OpError: one is named twice.
    """
    ndim = len(x._data.shape)
    if dim is None or (isinstance(dim, tuple | list) and not dim):
        return tuple(range(ndim))
    try:
        dims = [
            normal_dim(int(d), ndim) for d in (dim if isinstance(dim, tuple | list) else (dim,))
        ]
    except Refused as reason:
        raise OpIndexError(f"{name}({spec_of(x)}): {reason}") from None
    if len(set(dims)) < len(dims):
        raise OpError(f"{name}({spec_of(x)}): the dimensions {dim} name one twice")
    return tuple(dims) if ndim else ()


def record(op: Op, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
    """Note an op down for the backward pass, unless no input needs a gradient."""
    edges = tuple(
        [
            (t._node, t._index) if t._node is not None and t._parent is None else t._edge()
            for t in inputs
        ]
    )
    if not any(edges) or not op.gradients:
        return
    node = Node(op, edges, tuple([Spec(t._data.shape, t._data.dtype) for t in outputs]))
    kept = node.kept = []
    present = len(edges)  # optional inputs may be absent
    for gradient in op.gradients:
        i = gradient.input
        if i is None or (i < present and edges[i] is not None):
            kept.append(tuple([_keep(w, inputs, edges, outputs) for w in gradient.wants]))
        else:
            kept.append(())
    for i, t in enumerate(outputs):
        if t._data.dtype.kind == "f":
            t._node, t._index = node, i
    if config.debug:
        node.place = place_of_call()


def _keep(
    want: Want, inputs: Sequence[Value], edges: Sequence[Edge], outputs: Sequence[Value]
) -> Any:
    _, source, which = want
    tensors = inputs if source == "input" else outputs
    if type(which) is slice:
        return tuple([_keep_one(want, tensors[i], edges, i) for i in range(len(tensors))[which]])
    return _keep_one(want, tensors[which], edges, which) if which < len(tensors) else None


def _keep_one(want: Want, t: Value, edges: Sequence[Edge], i: int) -> Any:
    if want.kind == "spec":
        return Spec(t._data.shape, t._data.dtype)
    # An output is kept without its edge: that would be a cycle.  `_restore` adds it.
    edge = edges[i] if want.source == "input" else None
    return Saved(t._data, edge, t._storage, t._storage.version)
