"""Kernels of linear maps along one dimension: area averages, resizing, padding by reflection.

    kernels = KERNELS["AxisMap"]("resized", op, [x], [y], target)

y[i] = Σ_t weight[t, i]·x[place[t, i]].  Places and weights are constants of the kernel.  Buffers:
x, y.  A tap without weight counts nothing, whatever stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .integers import Number, plus, times
from .ir import Function, Value, vector
from .kernel import Generator, Kernel, Memory, kernel_function
from .strided import Dim, Offsets, blocks, count, dims, read, sweep, sweep_block
from .target import Target

__all__ = ["KERNELS", "MapSpec", "emit"]

_WORK = 2048  # elements that are worth a work item
_MOST = 1 << 15  # numbers in a table
_UNROLLED = 8  # taps


@dataclass(frozen=True)
class MapSpec:
    """What a kernel computes.

    Args:
        places, weights: by output and tap.
        rows: the dimensions that don't lie without gaps, with the steps of x and y.
        inner: the one that does, or none.
        axis: the output's size along the dimension, with the steps of x and y there.
        element: the type of the elements.
    """

    places: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    rows: tuple[Dim, ...]
    inner: tuple[Dim, ...]
    axis: Dim
    element: str


def emit(name: str, spec: MapSpec, target: Target) -> list[Kernel]:
    """Write the kernel of a map."""
    f = kernel_function(name)
    # The number of the output goes along as if it were the offset within a third array.
    outer = [Dim(d.size, (*d.steps, 0)) for d in spec.rows]
    nest = [*outer, Dim(spec.axis.size, (0, spec.axis.steps[1], 1))]
    cut = blocks(nest, max(1, _WORK // max(1, count(spec.inner))), 3)
    items = cut.items if count(spec.inner) else 0
    if items:
        taps = _Taps(f, spec)
        with f.loop(f.args[1], f.args[2]) as loop:
            lanes = target.lanes(spec.element)
            sweep_block(f, cut, loop.index, 1, lambda o, _: _output(f, spec, taps, o, lanes))
    f.ret()
    return [Kernel(f, items)]


def _output(f: Function, spec: MapSpec, taps: _Taps, offsets: Offsets, lanes: int) -> None:
    """Write one output along the dimension, for all of the inner dimension."""
    x, y, i = offsets
    first = times(f, i, taps.count)

    def body(o: Offsets, lanes: int) -> None:
        total = taps.sum(first, o[0], lanes)
        f.store(total, f.at(f.buffer(1), o[1], spec.element))

    sweep(f, spec.inner, [x, y], lanes, body)


class _Taps:
    """The taps of a map, as tables."""

    def __init__(self, f: Function, spec: MapSpec) -> None:
        self.f, self.spec = f, spec
        self.count = len(spec.places[0])
        weights = [w for row in spec.weights for w in row]
        step = spec.axis.steps[0]
        self.places = f.table("i64", [p * step for row in spec.places for p in row])
        self.weights = f.table(spec.element, weights) if set(weights) != {1.0} else None
        self.has_zeros = 0.0 in weights

    def sum(self, first: Number, offset: Number, lanes: int) -> Value:
        """Return the sum of the taps from one on."""
        f, start = self.f, _zero(self.f, self.spec.element, lanes)
        if self.count > _UNROLLED:
            with f.loop(0, self.count, carried=[start]) as loop:
                part = self.part(plus(f, loop.index, first), offset, lanes)
                loop.next = [f.fadd(loop.carried[0], part)]
            return loop.results[0]
        parts = [self.part(plus(f, first, t), offset, lanes) for t in range(self.count)]
        total = parts[0]
        for part in parts[1:]:
            total = f.fadd(total, part)
        return total

    def part(self, tap: Number, offset: Number, lanes: int) -> Value:
        """Return what a tap contributes."""
        f, element = self.f, self.spec.element
        place = f.load(f.at(self.places, tap, "i64"), "i64")
        x = read(f, f.buffer(0), plus(f, place, offset), element, lanes, 1)
        if self.weights is None:
            return x
        weight = f.load(f.at(self.weights, tap, element), element)
        part = f.fmul(x, f.splat(element, weight, lanes))
        if not self.has_zeros:
            return part
        return f.select(f.compare("une", weight, 0.0), part, _zero(f, element, lanes))


def _zero(f: Function, element: str, lanes: int) -> Value:
    return f.const(vector(element, lanes), 0.0)


def _axis_map(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Write AxisMap: x -> y."""
    (x,), (y,) = inputs, outputs
    places, weights = op.taps()
    if x.dtype not in ("float", "double") or not 0 < places.size <= _MOST:
        return None
    kept = sorted((d for d in range(len(x.shape)) if d != op.dim), key=lambda d: -abs(y.strides[d]))
    rest = dims(*([v[d] for d in kept] for v in (x.shape, x.strides, y.strides)))
    inner = [rest.pop()] if rest and rest[-1].steps == (1, 1) else []
    axis = Dim(y.shape[op.dim], (x.strides[op.dim], y.strides[op.dim]))
    spec = MapSpec(
        tuple(map(tuple, places.T.tolist())), tuple(map(tuple, weights.T.tolist())),
        tuple(rest), tuple(inner), axis, x.dtype,
    )  # fmt: skip
    return emit(name, spec, target)


KERNELS: dict[str, Generator] = {"AxisMap": _axis_map}
