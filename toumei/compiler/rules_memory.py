"""How values are put together from parts, and what memory the kernels of single ops need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..op import REGISTRY, Spec
from .expr import Const, Expr, Read, broadcast, reshape, view
from .graph import Call
from .lowering import Lowering, Parts, layout, order_of, rule
from .nodes import Extern, Shape
from .regions import Box, box_of
from .rules_elements import elementwise


@rule("ViewScatter")
def view_scatter(low: Lowering, call: Call) -> Expr | None:
    """A value with a region of it replaced."""
    base, new = call.inputs
    (out,) = call.outputs
    shape = low.shape(out)
    take: Callable[[Any], Any] = lambda a: call.op.view.forward(np, a)  # type: ignore[attr-defined]  # noqa: E731
    box = box_of(shape, take)
    fresh = low.scalars.cast(low.expr(new), low.specs[out].dtype)
    if box is None:
        return _overwritten(low, call, fresh, take)
    before = low.pending.get(base) if low.uses.get(base, 0) == 1 else None
    if before is not None:
        del low.pending[base]
        over = [(b, e) for b, e in before.parts if not b.overlaps(box)]
        if len(over) == len(before.parts):
            low.assemble(out, before.base, (*over, (box, fresh)))
            return None
        low.pending[base] = before
    low.assemble(out, low.expr(base), [(box, fresh)])
    return None


def _overwritten(low: Lowering, call: Call, fresh: Expr, take: Callable[[Any], Any]) -> Expr:
    """A value with some elements replaced that don't make up a box: first all, then these."""
    base, new = call.inputs
    (out,) = call.outputs
    e = low.expr(base)
    shape, inner = low.shape(out), low.shape(new)
    order = order_of(fresh, inner) if len(inner) == len(shape) else order_of(e, shape)
    memory = low.read(out, order)
    low.compute(memory, shape, e, call)
    part = view(memory, shape, take)
    assert isinstance(part, Read)
    low.compute(part, inner, fresh, call, over=True)
    return memory


@rule("Add")
def add(low: Lowering, call: Call) -> Expr | None:
    """A sum; that of regions of zeros which don't overlap is put together from both."""
    (out,) = call.outputs
    first, second = (_scattered(low, v, low.specs[out]) for v in call.inputs)
    if first is None or second is None or any(b.overlaps(c) for b, _ in first for c, _ in second):
        return elementwise(low, call)
    for v in call.inputs:
        del low.pending[v]
    low.assemble(out, Const(0, low.specs[out].dtype), [*first, *second])
    return None


def _scattered(low: Lowering, v: int, spec: Spec) -> Parts | None:
    """Return the regions of a value that is zero elsewhere, if nobody else reads it."""
    found = low.pending.get(v) if low.uses[v] == 1 and low.specs[v] == spec else None
    zero = found is not None and isinstance(found.base, Const) and found.base.value == 0
    return found.parts if found is not None and zero else None


@rule("Cat")
def cat(low: Lowering, call: Call) -> Expr | None:
    """Values side by side."""
    (out,) = call.outputs
    dim: int = call.op.dim  # type: ignore[attr-defined]
    parts: list[tuple[Box, Expr]] = []
    at = 0
    for v in call.inputs:
        shape = low.shape(v)
        start = tuple(at if d == dim else 0 for d in range(len(shape)))
        at += shape[dim]
        if math.prod(shape):
            parts.append((Box(start, shape, shape, tuple(range(len(shape)))), low.expr(v)))
    low.assemble(out, None, parts)
    return None


@rule("Pad", "ConstantPad")
def pad(low: Lowering, call: Call) -> Expr | None:
    """A value with a number around it; where the padding is negative, without its border."""
    (v,), (out,) = call.inputs, call.outputs
    pads = _pads(call.op, len(low.shape(v)))
    shape, e, dtype = low.shape(v), low.expr(v), low.specs[out].dtype
    inner = tuple(
        slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi) in zip(shape, pads, strict=True)
    )
    e = view(e, shape, lambda a: a[inner])
    sizes = tuple(s.stop - s.start for s in inner)
    start = tuple(max(lo, 0) for lo, _ in pads)
    if sizes == low.shape(out):
        return e
    around = Const(np.asarray(call.op.value).astype(dtype).item(), dtype)  # type: ignore[attr-defined]
    parts = [(Box(start, sizes, sizes, tuple(range(len(sizes)))), e)] if math.prod(sizes) else []
    low.assemble(out, around, parts)
    return None


def _pads(op: Any, ndim: int) -> list[tuple[int, int]]:
    if hasattr(op, "pads"):
        return [(0, 0)] * (ndim - len(op.pads)) + [tuple(p) for p in op.pads]
    return list(zip(op.before, op.after, strict=True))


@rule("Matmul")
def matmul(low: Lowering, call: Call) -> Expr | None:
    """A matrix product: its second factor needs neighbours along its rows or columns.

    Where that is a single column, the kernel takes the factors the other way round.
    """
    turned = low.shape(call.outputs[0])[-1] == 1
    for v, vectors in zip(call.inputs, (turned, not turned), strict=True):
        e, shape = low.store(v), low.shape(v)
        sides = list(zip(shape[-2:], e.strides[-2:], strict=True))
        if vectors and not any(s == 1 or n == 1 for n, s in sides):
            low.store(v, range(len(shape)))
    low.extern(call)
    return None


def channels_last(shape: Shape) -> tuple[int, ...]:
    """Return the dims of images with the channels innermost."""
    return (0, *range(2, len(shape)), 1)


@layout("Convolution", "ConvolutionInputGrad", "ConvolutionWeightGrad")
def convolution(low: Lowering, call: Call) -> tuple[list[Any], list[Any]]:
    """Images have their channels innermost; weights are as they come."""
    name = type(call.op).__name__
    shapes = [low.shape(v) for v in (*call.inputs, *call.outputs)]
    orders: list[Any] = [channels_last(s) for s in shapes]
    weight = {"Convolution": 1, "ConvolutionInputGrad": 1, "ConvolutionWeightGrad": 2}[name]
    orders[weight] = None if weight == 1 else tuple(range(len(shapes[2])))
    return orders[:2], orders[2:]


@layout("MaxPool", "MaxTaps", "SumWindows", "SpreadWindows", "PutTaps", "TakeTaps")
def pooling(low: Lowering, call: Call) -> tuple[list[Any], list[Any]]:
    """Pools and their gradients keep the order of what decides where things lie: x, or the taps."""
    leader = call.inputs[-1] if type(call.op).__name__ == "PutTaps" else call.inputs[0]
    shape = low.shape(leader)
    order = order_of(low.store(leader), shape)
    return [order] * len(call.inputs), [order] * len(call.outputs)


@rule("MaxTaps")
def max_taps(low: Lowering, call: Call) -> Expr | None:
    """Where each window's maximum is: the kernel that finds the maxima can say it as well."""
    op: Any = call.op
    for i, node in enumerate(low.nodes):
        if not isinstance(node, Extern) or type(node.call.op).__name__ != "MaxPool":
            continue
        pool: Any = node.call.op
        same = pool.other(type(op)).token() == op.token() and node.call.inputs == call.inputs[:1]
        (taps,), (first, *_) = call.outputs, node.outputs
        if same and len(node.outputs) == 1 and len(op.kernel) < 3 and first.dtype.kind == "f":
            order = order_of(first, low.shape(taps))
            place = low.read(taps, order)
            both = node.call._replace(outputs=(*node.call.outputs, taps))
            low.nodes[i] = Extern(
                both, node.inputs, (first, place), (*node.shapes, low.shape(taps))
            )
            return place
    return None


@rule("BiasedConvolution")
def biased_convolution(low: Lowering, call: Call) -> Expr:
    """A convolution, then the sum with one number per channel."""
    x, w, bias = call.inputs
    (out,) = call.outputs
    shape = low.shape(out)
    plain = low.new(low.specs[out])
    op = REGISTRY["Convolution"](*(getattr(call.op, f) for f in call.op.fields))
    low.extern(call._replace(op=op, inputs=(x, w), outputs=(plain,)))
    ones = (1,) * (len(shape) - 2)
    each = reshape(low.store(bias), low.shape(bias), (*low.shape(bias), *ones))
    assert each is not None
    spread = broadcast(each, (*low.shape(bias), *ones), shape)
    return low.scalars.apply("add", low.expr(plain), spread)
