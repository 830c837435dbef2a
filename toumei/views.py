"""Changing tensors in place, by functionalisation: a new value takes the place of an old one.

`y.add_(v)` computes y + v, writes it into y's memory, counts the storage's version up and gives y
the node of the new value.  If y is a view, the tensor that it is a view of becomes
`ViewScatter(view)(base, new)`; its other views notice the new version when they are next used and
derive their node again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, cast

import numpy as np

from .config import config
from .errors import GradError, OpError, OpTypeError
from .op import Array, Case, Op, Refused, Spec, View, broadcast_shapes, category, op, repeated_zero
from .tape import (
    Leaf,
    Node,
    Saved,
    Storage,
    Value,
    apply,
    keep_cell,
    next_order,
    record,
    spec_of,
    wrap,
)

if TYPE_CHECKING:
    from .tensor import Tensor

P = ParamSpec("P")


@op
class ViewScatter(Op):
    """A copy of `base` in which what `view` shows is replaced by `new`."""

    view: View

    def forward(self, xp: Any, base: Array, new: Array) -> Array:
        out = base.copy()  # contiguous: in any other order a reshape might show a copy of it
        shown = self.view.forward(xp, out)
        shown[...] = new
        return out

    def infer(self, base: Spec, new: Spec) -> Spec:
        return Spec(base.shape, base.dtype)

    def backward_base(self, gy: Tensor, new_spec: Spec) -> Tensor:
        return cast("Tensor", apply(self, gy, repeated_zero(new_spec)))

    def backward_new(self, gy: Tensor) -> Tensor:
        return cast("Tensor", apply(self.view, gy))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(_FirstRows(2)), (rng.normal(size=(3, 4)), rng.normal(size=(2, 4))))


@op
class _FirstRows(View):
    """The first `n` rows: a view to try ViewScatter on."""

    n: int
    name: ClassVar[str] = "first_rows"

    def forward(self, xp: Any, x: Array) -> Array:
        return x[: self.n]

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return cast("Tensor", apply(ViewScatter(self), repeated_zero(x_spec), gy))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(2), (rng.normal(size=(3, 4)),))


@op
class Copy(Op):
    """y = source, broadcast to the shape of x and cast to its dtype;   ∂y/∂x = 0, ∂y/∂source = 1"""

    broadcasts: ClassVar[bool] = True

    def forward(self, xp: Any, x: Array, source: Array) -> Array:
        return cast(Array, xp.broadcast_to(source, x.shape).astype(x.dtype))

    def infer(self, x: Spec, source: Spec) -> Spec:
        if broadcast_shapes(self.params, [x.shape, source.shape]) != x.shape:
            raise Refused(f"the source, {source}, doesn't fit into the shape {x.shape}")
        return Spec(x.shape, x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return wrap(np.zeros(x_spec.shape, x_spec.dtype))

    def backward_source(self, gy: Tensor) -> Tensor:
        return gy

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(3, 4)), rng.normal(size=(3, 1))))
        yield Case(cls(), (rng.normal(size=()), rng.normal(size=())))
        yield Case(cls(), (rng.normal(size=(2, 0)), rng.normal(size=())))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.zeros(3), np.zeros((2, 3)))), "doesn't fit into the shape (3,)"
        yield Case(cls(), (np.zeros(3), np.zeros(2))), "dimension -1 is 3 in x but 2 in source"


def in_place(
    function: Callable[Concatenate[Any, P], Tensor],
) -> Callable[Concatenate[Any, P], Tensor]:
    """Make `x.f_()` of `f`: the result takes the place of x's value."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        start = next_order()
        return assign(self, function(self, *args, **kwargs), method.__name__, start)

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"{function.__name__}, in place: the result takes the place of the value."
    return method


def assign(
    target: Tensor, value: Tensor, name: str = "assign_", start: int | None = None
) -> Tensor:
    """Put `value` in the place of `target`'s: same memory, new numbers, new node.

    Nodes later than `start` belong to the change itself: they may keep target's old numbers.
    """
    _refuse_bad_target(target, value, name)
    edge = value._edge() if config.grad else None
    tracked = config.grad and (edge is not None or target._edge() is not None)
    if config.grad:
        _refuse_untracked(target, name, edge is not None)
    target._edge()  # what was derived before the change must be so once more
    if edge is not None and start is not None:
        _keep_old_numbers(edge[0], target._storage, start)
    if config.trace is not None:
        config.trace.assign(target, value)
    elif value._data is not target._data and isinstance(target._data, np.ndarray):
        np.copyto(target._data, value._data, casting="unsafe")
    target._storage.version += 1
    target._version = target._storage.version
    if tracked:
        if value._data.dtype != target._data.dtype:
            value = value.to(target._data.dtype)
        _rebind(target, value)
    return target


def _keep_old_numbers(node: Node, storage: Storage, start: int) -> None:
    """Copy what the change itself keeps of the numbers that it is about to overwrite."""
    stack, seen = [node], {node}
    while stack:
        node = stack.pop()
        if node.order < start:
            continue
        node.kept = [tuple([_unshared(v, storage) for v in values]) for values in node.kept or ()]
        for edge in node.edges:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])


def _unshared(saved: Any, storage: Storage) -> Any:
    if type(saved) is tuple:
        return tuple([_unshared(v, storage) for v in saved])
    if type(saved) is not Saved or saved.storage is not storage or saved.version != storage.version:
        return saved
    if config.trace is None:
        return Saved(saved.data.copy(order="K"), saved.edge, Storage(), 0)
    now = config.trace.symbol(wrap(saved.data, storage))
    return Saved(now.apart(), saved.edge, Storage(), 0)


def _rebind(target: Value, value: Value) -> None:
    """Give `target`, and what it is a view of, the nodes of the new value."""
    while True:
        before, place = target._node, target._index
        edge = value._edge()
        target._node, target._index = edge if edge is not None else (None, 0)
        target._version = target._storage.version
        keep_cell(target, before, place)
        parent = target._parent
        if parent is None:
            return
        old, new = (wrap(parent._data, parent._storage) for _ in range(2))
        old._node, old._index = parent._node, parent._index
        record(ViewScatter(cast(View, target._view)), (old, value), (new,))
        target, value = parent, new


def _refuse_bad_target(target: Tensor, value: Tensor, name: str) -> None:
    data, new = target._data, value._data
    if new.shape != data.shape:
        raise OpError(
            f"{name} on {spec_of(target)}: the result has shape {new.shape}; an in-place method "
            "can't change the shape of its tensor"
        )
    if category(new.dtype) > category(data.dtype):
        raise OpTypeError(f"{name} on {spec_of(target)}: the result is {new.dtype}, it doesn't fit")
    if isinstance(data, np.ndarray) and (not data.flags.writeable or _overlaps(data)):
        raise OpError(
            f"{name} on {spec_of(target)}: several of its elements share one place in memory, or "
            "the memory is read-only (expand, from_numpy of a read-only array). Use clone() first"
        )


def _overlaps(array: Array) -> bool:
    """Tell whether two elements share a place in memory."""
    steps = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    reach = 0  # from one element to the last along the dimensions with smaller steps
    for step, n in steps:
        if step <= reach:
            return _has_repeated_places(array)
        reach += step * (n - 1)
    return False


def _has_repeated_places(array: Array) -> bool:
    places = np.zeros(array.shape, np.int64)
    for d, step in enumerate(array.strides):
        places += (np.arange(array.shape[d]) * step).reshape(-1, *(1,) * (array.ndim - d - 1))
    return np.unique(places).size < places.size


def _refuse_untracked(target: Value, name: str, value_tracked: bool) -> None:
    """Refuse changes that the graph can't express."""
    root, unrecorded = target, target._unrecorded
    while root._parent is not None:
        root = root._parent
        unrecorded = unrecorded or root._unrecorded
    if isinstance(root._node, Leaf):
        what = "a leaf that requires grad"
        what = what if root is target else f"a view of {what}"
        raise GradError(
            f"{name} on {spec_of(target)}: it is {what}, and changing it in place would change "
            "what its gradient means. Do it within `with tm.no_grad():`, or work on a clone()"
        )
    if unrecorded and (value_tracked or root._node is not None):
        raise GradError(
            f"{name} on {spec_of(target)}: it is a view that was made within no_grad, so the "
            "tensor that it is a view of couldn't follow the change. Make both the view and the "
            "change within no_grad, or both outside"
        )
