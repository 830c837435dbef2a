"""Changing tensors in place, by functionalisation: a new value takes the place of an old one.

`y.add_(v)` computes y + v, writes it into y's memory, counts the storage's version up and gives y
the node of the new value.  If y is a view, the tensor that it is a view of becomes
`ViewScatter(view)(base, new)`; its other views notice the new version when they are next used and
derive their node again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from .config import config
from .errors import GradError, OpError, OpTypeError
from .op import Array, Case, Op, Spec, View, category, op
from .tape import Leaf, Value, apply, record, spec_of, wrap

if TYPE_CHECKING:
    from .tensor import Tensor


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
        return cast("Tensor", apply(self, gy, np.zeros(new_spec.shape, new_spec.dtype)))

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
        return cast("Tensor", apply(ViewScatter(self), np.zeros(x_spec.shape, x_spec.dtype), gy))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(2), (rng.normal(size=(3, 4)),))


def assign(target: Tensor, value: Tensor, name: str = "assign_") -> Tensor:
    """Put `value` in the place of `target`'s: same memory, new numbers, new node."""
    _refuse_bad_target(target, value, name)
    edge = value._edge() if config.grad else None
    tracked = config.grad and (edge is not None or target._edge() is not None)
    if tracked:
        _refuse_leaf(target, name)
    link: Value | None = target
    while link is not None:  # refresh what an earlier change has made stale, before this one
        link._edge()
        link = link._parent
    if value._data is not target._data and isinstance(target._data, np.ndarray):
        np.copyto(target._data, value._data, casting="unsafe")
    target._storage.version += 1
    target._version = target._storage.version
    if tracked:
        if value._data.dtype != target._data.dtype:
            value = value.to(target._data.dtype)
        _rebind(target, value)
    return target


def _rebind(target: Value, value: Value) -> None:
    """Give `target`, and what it is a view of, the nodes of the new value."""
    parent, view = target._parent, target._view
    if parent is not None:
        assert view is not None
        old = wrap(parent._data, parent._storage)
        parent._version = parent._storage.version  # its own node is still the one before the change
        edge = parent._node and (parent._node, parent._index)
        if edge is not None:
            old._node, old._index = edge
        new_parent = wrap(parent._data, parent._storage)
        record(ViewScatter(view), (old, value), (new_parent,))
        _rebind(parent, new_parent)
    value_edge = value._edge()
    target._node, target._index = value_edge if value_edge is not None else (None, 0)


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


def _refuse_leaf(target: Value, name: str) -> None:
    root = target
    while root._parent is not None:
        root = root._parent
    if isinstance(root._node, Leaf):
        what = "a leaf that requires grad" if root is target else "a view of a leaf that requires grad"
        raise GradError(
            f"{name} on {spec_of(target)}: it is {what}, and changing it in place would change what "
            "its gradient means. Do it within `with tm.no_grad():`, or work on a clone()"
        )


