"""Pooling kernels on the way back: from one number per window to the windows' elements."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

from .integers import Number, larger_of, plus, smaller_of, times
from .ir import Function, Value, vector
from .pooling_loops import UNROLLED_LOADS, Pool, Spot, load_taps, number_vector
from .pooling_spec import PoolSpec, Window
from .strided import vectors


class Back(Pool):
    """The elements' sums of what the windows that they are in put there."""

    def columns(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write blocks of elements: within the image by quick code, the others one by one."""
        f, (down, across) = self.f, self.spec.windows
        found = self.inside(row, start, stop)
        if found is not None:
            self.quick(bases, row, *found)
            if self.spec.inner() == self.spec.grid():
                return
        first, last = self.first_in(across, start), self.first_in(across, stop)
        zero, size = f.const("i64", 0), f.const("i64", down.size)
        top = self.clamp(plus(f, times(f, row, down.stride), -down.before), zero, size)
        bottom = self.clamp(
            plus(f, times(f, row, down.stride), down.stride - down.before), zero, size
        )
        left, right = (self.first_in(across, x) for x in found or (stop, stop))
        with f.loop(top, bottom) as rows:
            self.call_border(bases, rows.index, first, left)
            if found is not None:
                self.call_border(bases, rows.index, right, last)

    def first_in(self, window: Window, block: Value) -> Value:
        """Return the first element of a block that is in the image."""
        f = self.f
        start = f.add(f.mul(block, window.stride), -window.before)
        return self.clamp(start, f.const("i64", 0), f.const("i64", window.size))

    def quick(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write whole blocks all of whose windows exist."""
        f, spec = self.f, self.spec
        (down, across), last = spec.windows, spec.large
        top = plus(f, times(f, row, down.stride), -down.before)
        with f.loop(start, stop) as loop:
            left = plus(f, times(f, loop.index, across.stride), -across.before)
            cells = [self.place(f, bases, i, row, loop.index) for i in range(last)]
            cells.append(self.place(f, bases, last, top, left))

            def body(c: Number, lanes: int) -> None:
                places = [f.at(p, c, e) for p, e in zip(cells, spec.elements, strict=True)]
                self.block(places, Spot(self.lead, top, left, c, lanes))

            size = spec.taps + down.stride * across.stride
            vectors(f, spec.channels, self.lanes, body, max(1, UNROLLED_LOADS // size))

    def block(self, places: Sequence[Value], corner: Spot) -> None:
        """Write the elements of a block, phase by phase."""
        f, spec = self.f, self.spec
        (down, across), (row_step, column_step) = spec.windows, spec.steps[spec.large]
        load = functools.cache(
            lambda far, wide: _Source(f, spec, places, far, wide, corner.lanes)
        )  # for all elements of the block once
        for y, x in itertools.product(range(down.stride), range(across.stride)):
            total: Value | None = None
            for (i, far), (j, wide) in itertools.product(down.reaching(y), across.reaching(x)):
                part = load(far, wide).part(i * across.kernel + j)
                total = part if total is None else f.fadd(total, part)
            zero = f.const(vector(self.element, corner.lanes), 0.0)
            place = f.at(places[-1], y * row_step + x * column_step, self.element)
            spot = corner._replace(row=plus(f, corner.row, y), column=plus(f, corner.column, x))
            self.finish(f, zero if total is None else total, place, spot)

    def border(self) -> Function:
        """Return the function for elements one by one."""
        f, spec = self.new_helper(), self.spec
        _, *bases, lead, row, start, stop = f.args
        down, across = spec.windows
        rows = _Covering(f, down, row)
        with f.loop(start, stop) as loop:
            columns = _Covering(f, across, loop.index)
            cell = self.place(f, bases, spec.large, row, loop.index)

            def body(c: Number, lanes: int) -> None:
                starts = [f.at(b, c, e) for b, e in zip(bases, spec.elements, strict=True)]
                total = self.looped(f, starts, rows, columns, lanes)
                spot = Spot(lead, row, loop.index, c, lanes)
                self.finish(f, total, f.at(cell, c, self.element), spot)

            vectors(f, spec.channels, self.lanes, body, 1)
        f.ret()
        return f

    def looped(
        self, f: Function, bases: Sequence[Value], rows: _Covering, columns: _Covering, lanes: int
    ) -> Value:
        """Write loops over the windows that an element is in; return the sum."""
        spec, wide = self.spec, self.spec.windows[1].kernel
        zero = f.const(vector(self.element, lanes), 0.0)
        with f.loop(0, rows.count, carried=[zero]) as outer:
            y, i, there_y = rows.window(f, outer.index)
            with f.loop(0, columns.count, carried=outer.carried) as inner:
                x, j, there_x = columns.window(f, inner.index)
                places = [self.place(f, bases, k, y, x) for k in range(spec.large)]
                source = _Source(f, spec, places, 0, 0, lanes)
                part = source.part(f.add(f.mul(i, wide), j))
                for there in (there_y, there_x):
                    part = part if there is None else f.select(there, part, zero)
                inner.next = [f.fadd(inner.carried[0], part)]
            outer.next = inner.results
        return outer.results[0]


class _Source:
    """The number of a window, and the tap that it goes to."""

    def __init__(
        self, f: Function, spec: PoolSpec, places: Sequence[Value], down: int, across: int,
        lanes: int,
    ) -> None:  # fmt: skip
        self.f, self.element, self.lanes = f, spec.elements[0], lanes
        at = [
            f.at(place, down * steps[0] + across * steps[1], element)
            for place, steps, element in zip(places, spec.steps, spec.elements, strict=False)
        ]
        self.number = f.load(at[0], vector(self.element, lanes))
        self.found: Value | None = None
        if spec.kind == "put":
            self.found = load_taps(f, at[1], spec.elements[1], self.element, lanes)

    def part(self, tap: Number) -> Value:
        """Return what goes to a tap."""
        if self.found is None:
            return self.number
        f = self.f
        wanted = number_vector(f, self.element, tap, self.lanes)
        return f.select(f.compare("eq", self.found, wanted), self.number, 0.0)


class _Covering:
    """The windows that an element may be in, along one dimension; their taps ascend."""

    def __init__(self, f: Function, window: Window, number: Value) -> None:
        self.wide = window
        self.place = f.add(number, window.before)
        far = larger_of(f, f.add(self.place, 1 - window.span), 0)
        first = f.udiv(f.add(far, window.stride - 1), window.stride)
        last = f.udiv(self.place, window.stride)
        self.last = smaller_of(f, last, window.number - 1)
        self.count = f.add(f.sub(self.last, first), 1)

    def window(self, f: Function, i: Value) -> tuple[Value, Value, Value | None]:
        """Return a window's number, the element's tap in it, and whether it is one."""
        number = f.sub(self.last, i)
        far = f.sub(self.place, f.mul(number, self.wide.stride))
        gap = self.wide.dilation
        if gap == 1:
            return number, far, None
        return number, f.udiv(far, gap), f.compare("eq", f.urem(far, gap), 0)
