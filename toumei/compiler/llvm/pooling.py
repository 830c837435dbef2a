"""Kernels of pooling in one and two dimensions: the largest or sum of windows, and the way back.

    kernels = KERNELS["MaxPool"]("pool", op, [x], [y], target)    # Memory of inputs and outputs

Buffers: the op's inputs, then its outputs.  Lanes are channels, where these lie side by side in
memory (NHWC); any other layout is right, but goes number by number.  Most windows lie within the
image: for them the taps are written out.  Those at the borders are done by a private function with
loops over the taps that exist.  Sums are taken in the order of the taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .integers import Number, as_value, larger_of, plus, smaller_of, times
from .ir import Function, Value, split, vector
from .kernel import Generator, Kernel, Memory
from .pooling_back import Back
from .pooling_loops import UNROLLED_LOADS, Epilogue, Pool, Spot, load_taps, number_vector
from .pooling_spec import PoolSpec, Window, spec_of
from .strided import vectors
from .target import Target

__all__ = ["KERNELS", "Epilogue", "PoolSpec", "Spot", "Window", "emit", "spec_of"]

State = list[Value]


def emit(
    name: str, spec: PoolSpec, target: Target, epilogue: Epilogue | None = None
) -> list[Kernel]:
    """Write the kernel of a pooling op.

    Args:
        name, spec, target: of the kernel, what it computes, and for which processor.
        epilogue: what becomes of the results, vector by vector, instead of being stored; not of
            numbers of taps and of indices.
    """
    writers: dict[str, type[Pool]] = {"put": Back, "spread": Back, "indices": Indices}
    writer = writers.get(spec.kind, Forward)(name, spec, target, epilogue)
    return [Kernel(writer.function(), spec.items())]


# --- one number per window ---


class Forward(Pool):
    """The largest, a sum, or one element of each window."""

    def columns(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write some places of a row: the quick code within the image, loops at its borders."""
        found = self.inside(row, start, stop)
        if found is None:
            self.call_border(bases, row, start, stop)
        elif self.spec.inner() == self.spec.grid():
            self.quick(bases, row, start, stop)
        else:
            left, right = found
            self.call_border(bases, row, start, left)
            self.quick(bases, row, left, right)
            self.call_border(bases, row, right, stop)

    def quick(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write the computation of windows without padding."""
        f, spec = self.f, self.spec
        down, across = spec.windows
        top = plus(f, times(f, row, down.stride), -down.before)
        with f.loop(start, stop) as loop:
            left = plus(f, times(f, loop.index, across.stride), -across.before)
            corner = self.place(f, bases, 0, top, left)
            cells = [self.place(f, bases, i, row, loop.index) for i in range(len(bases))]

            def body(c: Number, lanes: int) -> None:
                places = [f.at(p, c, e) for p, e in zip(cells, spec.elements, strict=True)]
                spot = Spot(self.lead, row, loop.index, c, lanes)
                self.unrolled(f.at(corner, c, self.element), places, spot)

            vectors(f, spec.channels, self.lanes, body, max(1, UNROLLED_LOADS // spec.taps))

    def unrolled(self, corner: Value, places: Sequence[Value], spot: Spot) -> None:
        """Write the taps of a window."""
        f, spec = self.f, self.spec
        down, across = spec.windows
        row_step, column_step = spec.steps[0][0] * down.dilation, spec.steps[0][1] * across.dilation
        state: State = []
        fold = Fold(f, spec, places, spot.lanes)
        for i in range(down.kernel):
            for j in range(across.kernel):
                place = f.at(corner, i * row_step + j * column_step, self.element)
                x, tap = f.load(place, fold.kind), i * across.kernel + j
                state = fold.step(state, x, tap) if state else fold.first(x, tap)
        self.end(f, fold, state, spot)

    def end(self, f: Function, fold: Fold, state: State, spot: Spot) -> None:
        """Write the end of a window: numbers of taps are stored as they are."""
        if fold.finds:
            stored = self.spec.elements[-1]
            f.store(f.cast("trunc", state[1], stored), fold.places[-1])
        if self.spec.kind != "taps":
            self.finish(f, state[0], fold.places[1 if self.spec.kind == "max" else -1], spot)

    def border(self) -> Function:
        """Return the function for windows that may reach beyond the borders."""
        f, spec = self.new_helper(), self.spec
        _, *bases, lead, row, start, stop = f.args
        down, across = spec.windows
        rows = _Reach(f, down, row)
        with f.loop(start, stop) as loop:
            columns = _Reach(f, across, loop.index)
            cells = [self.place(f, bases, i, row, loop.index) for i in range(len(bases))]

            def body(c: Number, lanes: int) -> None:
                places = [f.at(p, c, e) for p, e in zip(cells, spec.elements, strict=True)]
                fold = Fold(f, spec, places, lanes)
                state = fold.begin(self.first_tap(f, rows, columns))
                base = f.at(bases[0], c, self.element)
                state = self.looped(f, fold, state, base, rows, columns)
                self.end(f, fold, state, Spot(lead, row, loop.index, c, lanes))

            vectors(f, spec.channels, self.lanes, body, 1)
        f.ret()
        return f

    def first_tap(self, f: Function, rows: _Reach, columns: _Reach) -> Value:
        """Return the number of the first tap that exists, the last number if there is none."""
        wide = self.spec.windows[1].kernel
        number = f.add(f.mul(rows.first, wide), columns.first)
        some = f.bits(
            "and",
            f.compare("slt", rows.first, rows.last),
            f.compare("slt", columns.first, columns.last),
        )
        return f.select(some, number, self.spec.taps - 1)

    def looped(
        self, f: Function, fold: Fold, state: State, base: Value, rows: _Reach, columns: _Reach
    ) -> State:
        """Write loops over the taps that exist."""
        wide = self.spec.windows[1].kernel
        with f.loop(rows.first, rows.last, carried=state) as outer:
            y = rows.element(f, outer.index)
            with f.loop(columns.first, columns.last, carried=outer.carried) as inner:
                place = self.place(f, [base], 0, y, columns.element(f, inner.index))
                x = f.load(place, fold.kind)
                tap = f.add(f.mul(outer.index, wide), inner.index)
                inner.next = fold.step(inner.carried, x, tap)
            outer.next = inner.results
        return outer.results


class _Reach:
    """The taps of a window that are in the image, along one dimension: first … last − 1."""

    def __init__(self, f: Function, window: Window, number: Value) -> None:
        self.window = window
        self.start = f.sub(f.mul(number, window.stride), window.before)
        gap = window.dilation
        missing = f.sub(f.const("i64", 0), self.start)
        left = f.sub(f.const("i64", window.size), self.start)
        if gap > 1:
            missing, left = (f.bits("sdiv", f.add(x, gap - 1), gap) for x in (missing, left))
        self.first = larger_of(f, missing, 0)
        self.last = smaller_of(f, left, window.kernel)

    def element(self, f: Function, tap: Value) -> Value:
        """Return which element of the image a tap stands at."""
        return f.add(self.start, f.mul(tap, self.window.dilation))


class Fold:
    """What is kept of a window while its taps are gone through, for a vector of channels.

    The largest: it, and its tap.  `x > best` is false for a NaN, so that one is asked for by
    itself; the last NaN's tap is the one that eager execution finds.
    """

    def __init__(self, f: Function, spec: PoolSpec, places: Sequence[Value], lanes: int) -> None:
        self.f, self.spec, self.places, self.lanes = f, spec, places, lanes
        self.element = spec.elements[0]
        self.kind = vector(self.element, lanes)
        self.finds = spec.kind == "taps" or (spec.kind == "max" and len(spec.elements) > 2)
        if spec.kind == "take":
            self.wanted = load_taps(f, places[1], spec.elements[1], self.element, lanes)

    def number(self, tap: Number) -> Value:
        """Return the number of a tap as a vector that is compared with the elements."""
        return number_vector(self.f, self.element, tap, self.lanes)

    def begin(self, tap: Number) -> State:
        """Return the state before the first tap, whose number it is."""
        if self.spec.kind in ("sum", "take"):
            return [self.f.const(self.kind, 0.0)]
        lowest = self.f.const(self.kind, -math.inf)
        return [lowest, self.number(tap)] if self.finds else [lowest]

    def first(self, x: Value, tap: int) -> State:
        """Return the state after the first tap."""
        if self.spec.kind == "take":
            return self.step(self.begin(tap), x, tap)
        return [x, self.number(tap)] if self.finds else [x]

    def step(self, state: State, x: Value, tap: Number) -> State:
        """Return the state after one more tap."""
        f, best = self.f, state[0]
        if self.spec.kind == "sum":
            return [f.fadd(best, x)]
        if self.spec.kind == "take":
            return [f.select(f.compare("eq", self.wanted, self.number(tap)), x, best)]
        larger = f.compare("ogt", x, best)
        if not self.finds:
            return [f.select(f.compare("uno", x, x), x, f.select(larger, x, best))]
        better = f.bits("or", larger, f.compare("uno", x, x))
        return [f.select(better, x, best), f.select(better, self.number(tap), state[1])]


# --- indices ---


class Indices(Pool):
    """The indices of the elements that stand at taps."""

    def columns(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write the indices for some places of a row."""
        f, spec = self.f, self.spec
        down, across = spec.windows
        with f.loop(start, stop) as loop:
            cells = [self.place(f, bases, i, row, loop.index) for i in (0, 1)]
            top = plus(f, times(f, row, down.stride), -down.before)
            left = plus(f, times(f, loop.index, across.stride), -across.before)
            corner = as_value(f, plus(f, times(f, top, across.size), left))

            def body(c: Number, lanes: int) -> None:
                taps = f.load(f.at(cells[0], c, self.element), vector(self.element, lanes))
                index = self.index(f.cast("zext", taps, "i32"), corner)
                f.store(index, f.at(cells[1], c, "i64"))

            vectors(f, spec.channels, self.lanes, body, 1)

    def index(self, taps: Value, corner: Value) -> Value:
        """Return the indices for taps of a window that begins at an index."""
        f, (down, across) = self.f, self.spec.windows
        i, j = f.udiv(taps, across.kernel), f.urem(taps, across.kernel)
        inside = f.add(f.mul(i, down.dilation * across.size), f.mul(j, across.dilation))
        lanes = split(taps.type)[1]
        return f.add(f.cast("zext", inside, "i64"), f.splat("i64", corner, lanes))


def _generator(kind: str) -> Generator:
    """Return the generator of a kind of op."""

    def generate(
        name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
    ) -> list[Kernel] | None:
        spec = spec_of(kind, op, [*inputs, *outputs])
        return None if spec is None else emit(name, spec, target)

    return generate


KERNELS: dict[str, Generator] = {
    "MaxPool": _generator("max"),  # with two outputs, the second one is what MaxTaps finds
    "MaxTaps": _generator("taps"),
    "TakeTaps": _generator("take"),
    "PutTaps": _generator("put"),
    "SumWindows": _generator("sum"),
    "SpreadWindows": _generator("spread"),
    "TapIndices": _generator("indices"),
}
