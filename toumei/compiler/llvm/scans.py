"""Kernels along one dimension: running sums and products, and where the extreme is.

    kernels = KERNELS["CumSum"]("sums", op, [x], [y], target)

Buffers: the op's inputs, its output.  A strip of neighbouring rows is gone through at a time, its
running values in registers: as vectors where the rows lie side by side, else number by number, so
many rows at once that none waits for the other.  Where the dimension itself lies without gaps,
running sums and extremes are taken of vectors along it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from .integers import Number, plus, times
from .ir import Function, Value, split, vector
from .kernel import Generator, Kernel, Memory, kernel_function
from .strided import (
    Dim,
    Offsets,
    Strips,
    blocks,
    count,
    dims,
    strips,
    sweep_block,
    sweep_strip,
)
from .target import Target
from .vec import INTEGER

__all__ = ["KERNELS", "ArgSpec", "ScanSpec", "emit_arg", "emit_scan"]

_VECTORS, _NUMBERS = 4, 8  # of a strip
_WORK = 4096  # elements that are worth a work item
_FLOATS = ("float", "double")


def _place(f: Function, buffer: int, offset: Number, element: str) -> Value:
    return f.at(f.buffer(buffer), offset, element)


# --- running sums, running products, recurrences ---


@dataclass(frozen=True)
class ScanSpec:
    """y_k = y_{k−1} ∘ x_k along a dimension, or y_k = a_k·y_{k−1} + b_k.

    Args:
        kind: "sum", "prod", or "linear" (operands a, b, y; otherwise x, y).
        outer: the other dimensions, with the operands' steps.
        dim: the dimension.
        element: the type of the elements.
    """

    kind: str
    outer: tuple[Dim, ...]
    dim: Dim
    element: str

    @property
    def along(self) -> bool:
        """Whether sums are taken of vectors along the dimension; products might overflow then."""
        return self.kind == "sum" and {abs(s) for s in self.dim.steps} == {1}


def emit_scan(name: str, spec: ScanSpec, target: Target) -> list[Kernel]:
    """Write the kernel of a scan."""
    f, lanes = kernel_function(name), target.lanes(spec.element)
    if not spec.dim.size * count(spec.outer):
        f.ret()
        return [Kernel(f, 0)]
    if spec.along:
        cut = blocks(spec.outer, max(1, _WORK // spec.dim.size), 2)
        with f.loop(f.args[1], f.args[2]) as loop:
            sweep_block(f, cut, loop.index, 1, lambda o, _: _sums_along(f, spec, o, lanes))
        f.ret()
        return [Kernel(f, cut.items)]
    strip = strips(spec.outer, lanes, len(spec.dim.steps), _VECTORS, _NUMBERS)
    with f.loop(f.args[1], f.args[2]) as loop:
        sweep_strip(f, strip, loop.index, lambda o, cells: _strip(f, spec, strip, o, cells))
    f.ret()
    return [Kernel(f, strip.items)]


def _strip(
    f: Function, spec: ScanSpec, strip: Strips, start: Offsets, cells: list[tuple[int, int]]
) -> None:
    """Write the scan of a strip, step by step."""
    first = {"sum": 0.0, "prod": 1.0, "linear": 0.0}[spec.kind]
    begin = [f.const(vector(spec.element, n), first) for _, n in cells]
    with f.loop(0, spec.dim.size, carried=begin) as loop:
        at = [
            plus(f, o, times(f, loop.index, s)) for o, s in zip(start, spec.dim.steps, strict=True)
        ]
        loop.next = []
        for (i, n), before in zip(cells, loop.carried, strict=True):
            loop.next.append(_step(f, spec, strip, at, i, n, before))


def _step(
    f: Function, spec: ScanSpec, strip: Strips, at: Offsets, i: int, lanes: int, before: Value
) -> Value:
    """Write one step of one vector of a strip; return the running value."""
    kind, element = vector(spec.element, lanes), spec.element
    places = [
        _place(f, b, plus(f, o, i * s), element)
        for b, (o, s) in enumerate(zip(at, strip.dim.steps, strict=True))
    ]
    *inputs, out = places
    values = [f.load(p, kind) for p in inputs]
    is_float = element in _FLOATS
    if spec.kind == "linear":
        y = f.fma(values[0], before, values[1])
    elif spec.kind == "prod":
        y = (f.fmul if is_float else f.mul)(before, values[0])
    else:
        y = (f.fadd if is_float else f.add)(before, values[0])
    f.store(y, out)
    return y


def _sums_along(f: Function, spec: ScanSpec, start: Offsets, lanes: int) -> None:
    """Write the running sums of one row, vector by vector along it."""
    full = spec.dim.size // lanes * lanes
    running = f.const(spec.element, 0)
    if full:
        zero = f.const(vector(spec.element, lanes), 0)
        with f.loop(0, full, lanes, carried=[zero]) as loop:
            loop.next = [_sums(f, spec, start, loop.index, lanes, loop.carried[0])]
        running = f.extract(loop.results[0], 0) if lanes > 1 else loop.results[0]
    at = full
    while at < spec.dim.size:
        lanes = min(lanes, 1 << (spec.dim.size - at).bit_length() - 1)
        before = f.splat(spec.element, running, lanes)
        after = _sums(f, spec, start, at, lanes, before)
        running = f.extract(after, 0) if lanes > 1 else after
        at += lanes


def _sums(
    f: Function, spec: ScanSpec, start: Offsets, i: Number, lanes: int, before: Value
) -> Value:
    """Write the running sums of a vector; return the sum after it, in all lanes.

    The sums within the vector don't wait for what comes before it: only one addition does.
    """
    element, kind = spec.element, vector(spec.element, lanes)
    plus = f.fadd if element in _FLOATS else f.add
    from_, to = (
        _place(f, b, _first(f, o, s, i, lanes), element)
        for b, (o, s) in enumerate(zip(start, spec.dim.steps, strict=True))
    )
    x = _turned(f, f.load(from_, kind), spec.dim.steps[0])
    shift, zero = 1, f.const(kind, 0)
    while shift < lanes:
        moved_on = f.shuffle(zero, x, [max(lanes - shift + j, 0) for j in range(lanes)])
        x = plus(x, moved_on)
        shift *= 2
    total = f.splat(element, f.extract(x, lanes - 1), lanes) if lanes > 1 else x
    f.store(_turned(f, plus(before, x), spec.dim.steps[1]), to)
    return plus(before, total)


def _first(f: Function, offset: Number, step: int, i: Number, lanes: int) -> Number:
    """Return where a vector's memory begins: with its last element if it lies backwards."""
    return plus(f, offset, times(f, i, step) if step > 0 else _backwards(f, i, lanes))


def _backwards(f: Function, i: Number, lanes: int) -> Number:
    if isinstance(i, int):
        return 1 - lanes - i
    return f.sub(f.const("i64", 1 - lanes), i)


def _turned(f: Function, x: Value, step: int) -> Value:
    """Return a vector in reverse order if the step is negative."""
    lanes = split(x.type)[1]
    return x if step > 0 or lanes == 1 else f.shuffle(x, x, range(lanes)[::-1])


# --- where the extreme is ---


@dataclass(frozen=True)
class ArgSpec:
    """y = the number of the first largest (smallest) element; a NaN is more extreme than any.

    Args:
        least: the smallest.
        outer: the dimensions that stay, with the steps of x and y.
        inner: those that are searched, with the steps of x.
        element: the type of the elements.
    """

    least: bool
    outer: tuple[Dim, ...]
    inner: tuple[Dim, ...]
    element: str

    def along(self, lanes: int) -> bool:
        """Whether the search goes by vectors along the one dimension that is searched."""
        return (
            len(self.inner) == 1 and self.inner[0].steps == (1,) and count(self.inner) >= 4 * lanes
        )


def emit_arg(name: str, spec: ArgSpec, target: Target) -> list[Kernel]:
    """Write the kernel that finds the extremes."""
    f, lanes = kernel_function(name), target.lanes(spec.element)
    search = _Search(f, spec)
    if not count(spec.outer):
        f.ret()
        return [Kernel(f, 0)]
    if spec.along(lanes):
        cut = blocks(spec.outer, max(1, _WORK // count(spec.inner)), 2)
        with f.loop(f.args[1], f.args[2]) as loop:
            sweep_block(f, cut, loop.index, 1, lambda o, _: search.along(o, lanes))
        f.ret()
        return [Kernel(f, cut.items)]
    strip = strips(spec.outer, lanes, 2, _VECTORS, _NUMBERS)
    with f.loop(f.args[1], f.args[2]) as loop:
        sweep_strip(f, strip, loop.index, lambda o, cells: search.strip(strip, o, cells))
    f.ret()
    return [Kernel(f, strip.items)]


class _Search:
    """A search that is being written; its state is the extreme so far, and its number."""

    def __init__(self, f: Function, spec: ArgSpec) -> None:
        self.f, self.spec, self.element = f, spec, spec.element
        self.is_float = spec.element in _FLOATS
        self.number = INTEGER.get(spec.element, spec.element)  # the type of numbers meanwhile

    def better(self, x: Value, best: Value) -> Value:
        """Return whether x is more extreme."""
        f = self.f
        if not self.is_float:
            return f.compare("slt" if self.spec.least else "sgt", x, best)
        found = f.compare("ult" if self.spec.least else "ugt", x, best)  # or one is a NaN
        return f.bits("and", found, f.compare("ord", best, best))

    def step(self, state: list[Value], x: Value, number: Value) -> list[Value]:
        """Return the state after one more element, whose number is larger than those before."""
        f, (best, found) = self.f, state
        taken = self.better(x, best)
        return [f.select(taken, x, best), f.select(taken, number, found)]

    def numbers(self, number: Value, lanes: int) -> Value:
        """Return a number of an element in all lanes."""
        return self.f.splat(self.number, self.f.cast("trunc", number, self.number), lanes)

    def strip(self, strip: Strips, start: Offsets, cells: list[tuple[int, int]]) -> None:
        """Write the search of a strip of neighbouring rows."""
        f, (step_x, step_y) = self.f, strip.dim.steps

        def load(offset: Number, cell: tuple[int, int]) -> Value:
            place = _place(f, 0, plus(f, offset, cell[0] * step_x), self.element)
            return f.load(place, vector(self.element, cell[1]))

        state = []
        for cell in cells:
            state += [load(start[0], cell), f.const(vector(self.number, cell[1]), 0)]

        def element(offset: Number, number: Value, state: list[Value]) -> list[Value]:
            after: list[Value] = []
            for i, cell in enumerate(cells):
                x, here = load(offset, cell), self.numbers(number, cell[1])
                after += self.step(state[2 * i : 2 * i + 2], x, here)
            return after

        state = self.nest(self.spec.inner, start[0], f.const("i64", 0), state, element)
        for (i, _), found in zip(cells, state[1::2], strict=True):
            f.store(
                f.cast("sext", found, "i64"), _place(f, 1, plus(f, start[1], i * step_y), "i64")
            )

    def nest(
        self,
        inner: Sequence[Dim],
        offset: Number,
        number: Value,
        state: list[Value],
        element: Callable[[Number, Value, list[Value]], list[Value]],
    ) -> list[Value]:
        """Write the loops over what is searched; return the state after them."""
        f = self.f
        if not inner:
            return element(offset, number, state)
        dim, rest = inner[0], inner[1:]
        with f.loop(0, dim.size, carried=state) as loop:
            here = plus(f, offset, times(f, loop.index, dim.steps[0]))
            at = f.add(number, f.mul(loop.index, count(rest)))
            loop.next = self.nest(rest, here, at, loop.carried, element)
        return loop.results

    def along(self, start: Offsets, lanes: int) -> None:
        """Write the search of a row by vectors along it; the lanes' extremes are compared last."""
        f, size = self.f, count(self.spec.inner)
        full, kind = size // lanes * lanes, vector(self.element, lanes)
        row = _place(f, 0, start[0], self.element)
        first = f.iota(lanes, self.number)
        with f.loop(0, full, lanes, carried=[f.load(row, kind), first]) as loop:
            x = f.load(f.at(row, loop.index, self.element), kind)
            here = f.add(self.numbers(loop.index, lanes), first)
            loop.next = self.step(loop.carried, x, here)
        state = self.first_of_lanes(loop.results)
        with f.loop(full, size, carried=state) as rest:
            x = f.load(f.at(row, rest.index, self.element), self.element)
            rest.next = self.step(rest.carried, x, self.numbers(rest.index, 1))
        found = rest.results[1] if full < size else state[1]
        f.store(f.cast("sext", found, "i64"), _place(f, 1, start[1], "i64"))

    def first_of_lanes(self, state: list[Value]) -> list[Value]:
        """Return the state of the most extreme lane; of equal ones, that with the least number."""
        f, lanes = self.f, split(state[0].type)[1]
        while lanes > 1:
            lanes //= 2
            (a, b), (i, j) = (self.halves(v, lanes) for v in state)
            equal = f.compare("ueq" if self.is_float else "eq", a, b)
            if self.is_float:  # a NaN equals only another one
                nan_a, nan_b = f.compare("uno", a, a), f.compare("uno", b, b)
                equal = f.bits("and", equal, f.compare("eq", nan_a, nan_b))
            earlier = f.bits("and", equal, f.compare("slt", j, i))
            taken = f.bits("or", self.better(b, a), earlier)
            state = [f.select(taken, b, a), f.select(taken, j, i)]
        return state

    def halves(self, v: Value, lanes: int) -> tuple[Value, Value]:
        f = self.f
        if lanes == 1:
            return f.extract(v, 0), f.extract(v, 1)
        return f.shuffle(v, v, range(lanes)), f.shuffle(v, v, range(lanes, 2 * lanes))


# --- by op ---


def _scan(kind: str) -> Generator:
    """Return the generator of a scan."""

    def generate(
        name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
    ) -> list[Kernel] | None:
        memories = [*inputs, *outputs]
        (element,) = {m.dtype for m in memories} if len({m.dtype for m in memories}) == 1 else ("",)
        if element not in (*_FLOATS, "i64", "i32"):
            return None
        kept = [d for d in range(len(outputs[0].shape)) if d != op.dim]
        shape = outputs[0].shape
        outer = dims([shape[d] for d in kept], *([m.strides[d] for d in kept] for m in memories))
        dim = Dim(shape[op.dim], tuple(m.strides[op.dim] for m in memories))
        return emit_scan(name, ScanSpec(kind, tuple(outer), dim, element), target)

    return generate


def _arg(least: bool) -> Generator:
    """Return the generator of Argmax or Argmin: x -> y (i64)."""

    def generate(
        name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
    ) -> list[Kernel] | None:
        (x,), (y,) = inputs, outputs
        searched = op.dim if len(op.dim) == 1 else tuple(range(len(x.shape)))
        if x.dtype not in (*_FLOATS, "i64", "i32") or y.dtype != "i64" or prod(x.shape) >> 31:
            return None
        kept = [d for d in range(len(x.shape)) if d not in searched]
        steps = [y.strides[d] for d in kept] if len(y.shape) == len(x.shape) else y.strides
        outer = dims([x.shape[d] for d in kept], [x.strides[d] for d in kept], steps)
        inner = dims([x.shape[d] for d in searched], [x.strides[d] for d in searched])
        return emit_arg(name, ArgSpec(least, tuple(outer), tuple(inner), x.dtype), target)

    return generate


KERNELS: dict[str, Generator] = {
    "CumSum": _scan("sum"),
    "CumProd": _scan("prod"),
    "LinearScan": _scan("linear"),
    "Argmax": _arg(least=False),
    "Argmin": _arg(least=True),
}
