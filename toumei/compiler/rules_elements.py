"""How elementwise ops, views and selections by class become expressions."""

from __future__ import annotations

import math

import numpy as np

from ..op import View
from .expr import Apply, Const, Expr, Index, broadcast, reshape, view
from .graph import Call
from .lowering import GENERAL, Lowering, rule
from .nodes import Shape
from .rules_reductions import reduced


def elementwise(low: Lowering, call: Call) -> Expr | None:
    """An elementwise op: its own `lower`, on its inputs broadcast."""
    shape = low.shape(call.outputs[0])
    args = [low.spread(v, shape) for v in call.inputs]
    out: Expr | None = call.op.lower(low.scalars, *args)  # type: ignore[attr-defined]
    return None if out is None else low.scalars.cast(out, low.specs[call.outputs[0]].dtype)


def viewed(low: Lowering, call: Call) -> Expr:
    """A view: other strides."""
    v = call.inputs[0]
    if math.prod(low.shape(call.outputs[0])) > low.specs[v].size and isinstance(low.expr(v), Apply):
        low.store(v)
    return view(low.expr(v), low.shape(v), lambda a: call.op.forward(np, a))


GENERAL += [
    (lambda op: hasattr(op, "lower"), elementwise),
    (lambda op: isinstance(op, View), viewed),
]


@rule("Reshape")
def reshaped(low: Lowering, call: Call) -> Expr:
    """Another shape: other strides, or those of a dense copy."""
    v = call.inputs[0]
    to = low.shape(call.outputs[0])
    if not math.prod(to):
        return Const(0, low.specs[v].dtype)
    found = reshape(low.expr(v), low.shape(v), to)
    if found is None:
        found = reshape(low.store(v, range(len(low.shape(v)))), low.shape(v), to)
        assert found is not None
    return found


@rule("Clone")
def clone(low: Lowering, call: Call) -> Expr:
    """A copy: values never change, so it is the value itself."""
    return low.expr(call.inputs[0])


@rule("Cast")
def cast(low: Lowering, call: Call) -> Expr:
    """Another dtype."""
    return low.scalars.cast(low.expr(call.inputs[0]), low.specs[call.outputs[0]].dtype)


@rule("Copy")
def copy(low: Lowering, call: Call) -> Expr:
    """x's shape and dtype, the source's numbers."""
    out = low.specs[call.outputs[0]]
    return low.scalars.cast(low.spread(call.inputs[1], out.shape), out.dtype)


@rule("MaskedFill")
def masked_fill(low: Lowering, call: Call) -> Expr:
    """where(mask, value, x)"""
    shape = low.shape(call.outputs[0])
    x, mask, value = (low.spread(v, shape) for v in call.inputs)
    return low.scalars.where(mask, low.scalars.cast(value, x.dtype), x)


@rule("PlaceClass")
def place_class(low: Lowering, call: Call) -> Expr | None:
    """g where the class is the label's, else 0."""
    g, target = call.inputs
    if target not in low.checked:
        return None
    shape = low.shape(call.outputs[0])
    b = low.scalars
    chosen = _is_class_of(low, call, target, shape)
    return b.where(chosen, _with_classes(low, g, shape), 0)


@rule("PickClass")
def pick_class(low: Lowering, call: Call) -> Expr | None:
    """The number of the class named by each label: a sum in which one class counts."""
    x, target = call.inputs
    if target not in low.checked:
        return None
    shape, (out,) = low.shape(x), call.outputs
    axis = min(1, len(shape) - 1)
    b = low.scalars
    chosen = b.where(_is_class_of(low, call, target, shape), low.expr(x), 0)
    return reduced(low, call, out, shape, chosen, [axis], "sum", low.shape(out))


def _is_class_of(low: Lowering, call: Call, target: int, shape: Shape) -> Expr:
    """Return whether each class is that of the label, and the label counts."""
    axis, ignored = min(1, len(shape) - 1), call.op.ignore_index  # type: ignore[attr-defined]
    b = low.scalars
    number = Index(tuple(int(d == axis) for d in range(len(shape))))
    label = b.cast(_with_classes(low, target, shape), number.dtype)
    same = b.eq(number, label)
    return b.apply("and", same, b.ne(label, ignored)) if 0 <= ignored < shape[axis] else same


@rule("OneHot")
def one_hot(low: Lowering, call: Call) -> Expr | None:
    """1 where the class is the label's, else 0."""
    (target,), (out,) = call.inputs, call.outputs
    if target not in low.checked:
        return None
    shape = low.shape(out)
    number = Index((*[0] * (len(shape) - 1), 1))
    label = low.spread(target, low.shape(target))
    one = reshape(label, low.shape(target), (*low.shape(target), 1))
    assert one is not None
    b = low.scalars
    there = broadcast(b.cast(one, number.dtype), (*low.shape(target), 1), shape)
    return b.cast(b.eq(number, there), low.specs[out].dtype)


def _with_classes(low: Lowering, v: int, shape: Shape) -> Expr:
    """Return a value per position as one per position and class."""
    one = (*low.shape(v)[:1], 1, *low.shape(v)[1:]) if len(shape) > 1 else (1,)
    if isinstance(low.expr(v), Apply):
        low.store(v)
    found = reshape(low.expr(v), low.shape(v), one)
    assert found is not None
    return broadcast(found, one, shape)
