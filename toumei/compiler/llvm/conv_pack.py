"""The packing of a convolution's weights, as the main kernel reads them: see conv_plan.Layout."""

from __future__ import annotations

from .conv_plan import Axis, Plan, Problem, Runs, depth, layout, pseudo, runs
from .ir import SIZES, Function, Value, vector
from .kernel import kernel_function
from .matmul_tile import transpose_store

SMALL = 8192  # numbers, for which the quick way isn't worth the time of compiling it


def items(problem: Problem, plan: Plan) -> int:
    """Return the work items of the packing kernel: a group's in-channel each."""
    groups, inner, columns = pseudo(problem)
    return groups * inner if columns * layout(problem, plan).size else 0


class Packing:
    """The packing kernel that is being written.

    The windows of one in-channel, for as many out-channels as a vector has lanes, are transposed
    into memory on the stack: a vector of out-channels for each tap.  From there the vectors go to
    their places in the panels of each phase.

    Args:
        name: of the function.
        problem, plan: of the main kernel.
    """

    def __init__(self, name: str, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan, self.element = problem, plan, problem.element
        self.layout = layout(problem, plan)
        self.lanes = self.layout.lanes
        self.groups, self.inner, self.columns = pseudo(problem)
        self.window = window(problem)
        of_channel, of_column, *self.of_tap, of_group = problem.weight
        of_column = of_group if problem.apart else of_column
        self.strides = (0 if problem.apart else of_group, of_channel, of_column)
        self.large = self.groups * self.layout.size > SMALL
        self.f = kernel_function(name)

    def function(self) -> Function:
        """Return the kernel: a loop over the in-channels of all groups."""
        f = self.f
        if items(self.problem, self.plan):
            taps = max(1, self.window[0] * self.window[1])
            self.turned = f.scratch(taps * self.lanes * SIZES[self.element])
            with f.loop(f.args[1], f.args[2]) as loop:
                self.item(f.udiv(loop.index, self.inner), f.urem(loop.index, self.inner))
        f.ret()
        return f

    def item(self, group: Value, channel: Value) -> None:
        """Write the packing of an in-channel's windows."""
        f, (of_group, of_channel, _) = self.f, self.strides
        w = f.at(f.buffer(1), f.mul(group, of_group), self.element)
        w = f.at(w, f.mul(channel, of_channel), self.element)
        to = f.at(f.buffer(3), f.mul(group, self.layout.size), self.element)
        whole = self.columns // self.lanes * self.lanes
        if whole:
            with f.loop(0, whole, self.lanes) as loop:
                self.block(w, to, channel, loop.index, self.lanes)
        if whole < self.columns:
            self.block(w, to, channel, f.const("i64", whole), self.columns - whole)

    def block(self, w: Value, to: Value, channel: Value, first: Value, count: int) -> None:
        """Write the packing of some out-channels, at most as many as there are lanes."""
        f = self.f
        source = f.at(w, f.mul(first, self.strides[2]), self.element)
        rows, taps = self.window
        if self.of_tap == [taps, 1] and rows * taps > 1 and self.large:
            self.transpose(source, count, rows * taps)
        else:
            self.gather(source, count)
        for start, phase in zip(self.layout.phases, self.problem.phases, strict=True):
            if self.problem.steps(phase):
                place = f.at(to, start, self.element)
                self.phase(phase, place, channel, first, count)

    def transpose(self, source: Value, count: int, taps: int) -> None:
        """Write the transposition of windows that are contiguous."""
        f, lanes, stride = self.f, self.lanes, self.strides[2]
        whole = taps // lanes * lanes

        def square(tap: Value, wide: int) -> None:
            here = f.at(source, tap, self.element)
            there = f.at(self.turned, f.mul(tap, lanes), self.element)
            transpose_store(f, self.element, lanes, here, stride, there, lanes, count, wide)

        if whole:
            with f.loop(0, whole, lanes) as loop:
                square(loop.index, lanes)
        if whole < taps:
            square(f.const("i64", whole), taps - whole)

    def gather(self, source: Value, count: int) -> None:
        """Write the same number by number, for windows in any order."""
        f, (rows, taps), (down, across) = self.f, self.window, self.of_tap
        with f.loop(0, rows) as i, f.loop(0, taps) as j:
            away = f.add(f.mul(i.index, down), f.mul(j.index, across))
            here = f.at(source, away, self.element)
            number = f.mul(f.add(f.mul(i.index, taps), j.index), self.lanes)
            there = f.at(self.turned, number, self.element)
            zero = f.const(vector(self.element, self.lanes), 0.0)
            f.store(zero, there)
            with f.loop(0, count) as k:
                place = f.at(here, f.mul(k.index, self.strides[2]), self.element)
                f.store(f.load(place, self.element), f.at(there, k.index, self.element))

    def phase(
        self, phase: tuple[Axis, Axis], to: Value, channel: Value, first: Value, count: int
    ) -> None:
        """Write the storing of the vectors of one phase's taps; `count` columns from `first` on."""
        f, (rows, taps) = self.f, (phase[0].taps, phase[1].taps)
        loops = runs(self.problem, self.plan, phase)
        steps = depth(self.problem, self.plan, phase)
        padded = steps // max(1, loops.rows * loops.taps)
        hop = self.inner if loops.merged else padded
        with f.loop(0, rows.number) as i, f.loop(0, taps.number) as j:
            row = f.add(f.mul(i.index, rows.turn), rows.place)
            tap = f.add(f.mul(j.index, taps.turn), taps.place)
            number = f.add(f.mul(row, self.window[1]), tap)
            source = f.at(self.turned, f.mul(number, self.lanes), self.element)
            value = f.load(source, vector(self.element, self.lanes))
            step = f.add(f.mul(i.index, loops.taps * padded), f.mul(j.index, hop))
            step = f.add(step, channel)
            if self.plan.form == "dot":
                for k in range(count):
                    place = f.at(to, f.add(step, k * steps), self.element)
                    f.store(f.extract(value, k), place)
            else:
                f.store(value, self.place(to, step, first, steps))
        if self.plan.form == "dot" and padded > loops.length:
            self.zeros(to, loops, padded, steps)

    def place(self, to: Value, step: Value, first: Value, steps: int) -> Value:
        """Return the place of a step's columns from `first` on, in the panel that has them."""
        f, width = self.f, self.layout.width
        whole = self.columns // width * width
        inside = f.urem(first, width)
        panel = f.sub(first, inside)
        last = self.layout.columns - whole
        wide = f.select(f.compare("slt", panel, whole), f.const("i64", width), last)
        number = f.add(f.add(f.mul(panel, steps), f.mul(step, wide)), inside)
        return f.at(to, number, self.element)

    def zeros(self, to: Value, loops: Runs, padded: int, steps: int) -> None:
        """Write the zeros behind each run; every in-channel's item writes the same."""
        f = self.f
        for k in range(self.columns):
            column = f.at(to, k * steps, self.element)
            with f.loop(0, loops.rows * loops.taps) as loop:
                end = f.at(column, f.add(f.mul(loop.index, padded), loops.length), self.element)
                with f.loop(0, padded - loops.length) as left:
                    f.store(f.const(self.element, 0.0), f.at(end, left.index, self.element))


def window(problem: Problem) -> tuple[int, int]:
    """Return the rows and columns of the taps that phases use: the convolution's window."""
    sizes = []
    for axis in range(2):
        used = [0]
        for phase in problem.phases:
            taps = phase[axis].taps
            if taps.number:
                used += [taps.place + 1, taps.place + taps.turn * (taps.number - 1) + 1]
        sizes.append(max(used))
    return sizes[0], sizes[1]
