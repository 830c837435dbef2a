"""The cells of recurrent layers: one step of one vector of states, forwards and backwards.

The formulas are those of ops/loop_lstm.py, loop_gru.py and loop_rnn.py.  A cell reads and writes
through `Here`, which stands for some neighbouring states of one sequence at one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from .ir import Function, Value
from .recurrent_spec import Arrays, LoopSpec, load_row, row_mask
from .vec import Vec, where
from .vecexp import sigmoid
from .vectrig import tanh


class Here:
    """A vector of states of one sequence, at one step.

    Args:
        f, spec, arrays: the function that is being written, and what it works on.
        step, row, column: of the states; indices.  Without a step: before the first one.
        held: where the row of an array in scratch memory begins, by name.
        first: whether nothing ran before this step; for gradients only, where scratch memory holds
            the first states by their names.
    """

    def __init__(
        self,
        f: Function,
        spec: LoopSpec,
        arrays: Arrays,
        step: Value | None,
        row: Value,
        column: Value,
        held: dict[str, Value],
        first: Value | None = None,
    ) -> None:
        self.f, self.spec, self.arrays, self.held = f, spec, arrays, held
        self.step, self.row, self.column, self.first = step, row, column, first
        self.mask = row_mask(f, spec.lanes, column, spec.hidden)
        self.running = self._running() if spec.masked and step is not None else None

    def _running(self) -> Value:
        byte = self.f.load(self.at_row("mask"), "i8")
        return self.f.compare("ne", byte, 0)

    def at_row(self, name: str) -> Value:
        """Return where an array's row begins, at this step."""
        assert self.step is not None
        return self.arrays.row(self.f, name, self.step, self.row)

    def vec(self, value: Value) -> Vec:
        """Return a value with operators."""
        return Vec(self.f, self.spec.target, value)

    def zero(self) -> Vec:
        """Return a vector of zeros."""
        return self.vec(self.f.const(self.spec.kind, 0.0))

    def load(self, name: str, part: int = 0) -> Vec:
        """Return what an array holds for these states; `part` counts gates."""
        return self.vec(self.load_from(self.at_row(name), part, self.arrays.stride(name)))

    def load_from(self, row: Value, part: int, stride: int) -> Value:
        """Load these states' part of a row."""
        place = self.f.at(row, part * self.spec.hidden * stride, self.spec.dtype)
        return load_row(self.f, self.spec, place, self.column, stride)

    def load_before(self, name: str, initial: str) -> Vec:
        """Return the states of the step before; before the first step, those held as `initial`."""
        assert self.first is not None and self.step is not None
        f = self.f
        before = f.add(self.step, 1 if self.spec.reverse else -1)
        row = self.arrays.row(f, name, before, self.row)
        return self.vec(self.load_from(f.select(self.first, self.held[initial], row), 0, 1))

    def store(self, value: Vec, name: str, part: int = 0) -> None:
        """Write what an output holds for these states."""
        f, kind, row = self.f, self.spec.dtype, self.at_row(name)
        row = f.at(row, part * self.spec.hidden, kind)
        f.store_masked(value.value, f.at(row, self.column, kind), self.mask)

    def recall(self, name: str) -> Vec:
        """Return what scratch memory holds for these states."""
        place = self.f.at(self.held[name], self.column, self.spec.dtype)
        return self.vec(self.f.load(place, self.spec.kind))

    def hold(self, value: Vec, name: str) -> None:
        """Write what scratch memory holds for these states."""
        self.f.store(value.value, self.f.at(self.held[name], self.column, self.spec.dtype))

    def hold_gate(self, value: Vec, part: int) -> None:
        """Write the gradient of w_hh·h for a gate of these states."""
        f, kind = self.f, self.spec.dtype
        row = f.at(self.held["gates"], part * self.spec.hidden, kind)
        f.store_masked(value.value, f.at(row, self.column, kind), self.mask)

    def if_running(self, value: Vec, other: Vec) -> Vec:
        """Return a value, or the other one where the sequence doesn't run at this step."""
        if self.running is None:
            return value
        return self.vec(self.f.select(self.running, value.value, other.value))


class Cell:
    """A kind of loop: its arrays by name, its step forwards and backwards.

    The first state, h, is held in scratch memory as "h", to be read, and "next", to be written.
    """

    initial: ClassVar[tuple[str, ...]] = ("h0",)  # the first states
    held: ClassVar[tuple[str, ...]] = ("h",)  # the states in scratch memory, in the same order
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    grad_inputs: ClassVar[tuple[str, ...]]
    grad_outputs: ClassVar[tuple[str, ...]]
    per_step: ClassVar[tuple[str, ...]] = ("gx", "ys", "cs", "zs", "g_ys", "g_cs", "dgx")

    def forward(self, here: Here, sums: Sequence[Vec]) -> None:
        """Write a step, given w_hh·h of each gate."""
        raise NotImplementedError

    def backward(self, here: Here, dh: Vec, before: Vec) -> Vec | None:
        """Write a step backwards, given ∂h and the h before the step.

        The gradients of gx go into "dgx", those of w_hh·h into scratch memory.
        Returns what of ∂h reaches the past beside the product; None: nothing, ever.
        """
        raise NotImplementedError


def give(here: Here, value: Vec, part: int) -> None:
    """Write the gradient of a gate: the same for gx and for w_hh·h."""
    here.store(value, "dgx", part)
    here.hold_gate(value, part)


class Lstm(Cell):
    """An LSTM: gates i, f, g, o; c = f·c + i·g; h = o·tanh(c)."""

    initial = ("h0", "c0")
    held = ("h", "c")
    inputs = ("gx", "w_hh", "h0", "c0")
    outputs = ("ys", "cs", "zs")
    grad_inputs = ("g_ys", "g_cs", "w_hh", "h0", "c0", "ys", "cs", "zs")
    grad_outputs = ("dgx", "dw", "dh0", "dc0")

    def forward(self, here: Here, sums: Sequence[Vec]) -> None:
        z = [here.load("gx", k) + s for k, s in enumerate(sums)]
        i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), tanh(z[2]), sigmoid(z[3])
        for k, gate in enumerate((i, f, g, o)):
            here.store(gate, "zs", k)
        before = here.recall("c")
        c = f * before + i * g
        h = o * tanh(c)
        if here.running is not None:
            h, c = here.if_running(h, here.recall("h")), here.if_running(c, before)
        here.hold(h, "next")
        here.hold(c, "c")
        here.store(h, "ys")
        here.store(c, "cs")

    def backward(self, here: Here, dh: Vec, before: Vec) -> Vec | None:
        i, f, g, o = (here.load("zs", k) for k in range(4))
        tanh_c = tanh(here.load("cs"))
        dc = here.recall("dc") + here.load("g_cs")
        through = dc + dh * o * (1 - tanh_c * tanh_c)
        slopes = (
            through * (g * i * (1 - i)),
            through * (here.load_before("cs", "c0") * f * (1 - f)),
            through * (i * (1 - g * g)),
            dh * (tanh_c * o * (1 - o)),
        )
        zero = here.zero()
        for k, slope in enumerate(slopes):
            give(here, here.if_running(slope, zero), k)
        here.hold(here.if_running(through * f, dc), "dc")
        return None if here.running is None else here.if_running(zero, dh)


class Gru(Cell):
    """A GRU: gates r, z, n; h = (1 - z)·n + z·h."""

    inputs = ("gx", "w_hh", "b_hh", "h0")
    outputs = ("ys", "zs")
    grad_inputs = ("g_ys", "w_hh", "h0", "ys", "zs")
    grad_outputs = ("dgx", "dw", "db", "dh0")

    def forward(self, here: Here, sums: Sequence[Vec]) -> None:
        hidden = [s + self._bias(here, k) for k, s in enumerate(sums)]
        r = sigmoid(here.load("gx", 0) + hidden[0])
        z = sigmoid(here.load("gx", 1) + hidden[1])
        m = hidden[2]
        n = tanh(here.load("gx", 2) + r * m)
        for k, value in enumerate((r, z, n, m)):
            here.store(value, "zs", k)
        before = here.recall("h")
        h = here.if_running((before - n) * z + n, before)
        here.hold(h, "next")
        here.store(h, "ys")

    def _bias(self, here: Here, part: int) -> Vec:
        f, stride = here.f, here.arrays.stride("b_hh")
        return here.vec(here.load_from(f.buffer(here.arrays.index["b_hh"]), part, stride))

    def backward(self, here: Here, dh: Vec, before: Vec) -> Vec | None:
        r, z, n, m = (here.load("zs", k) for k in range(4))
        d_n = (1 - z) * (1 - n * n) * dh
        d_r = d_n * m * r * (1 - r)
        d_z = (before - n) * z * (1 - z) * dh
        zero = here.zero()
        for k, value in enumerate((d_r, d_z)):
            give(here, here.if_running(value, zero), k)
        here.store(here.if_running(d_n, zero), "dgx", 2)
        here.hold_gate(here.if_running(d_n * r, zero), 2)
        return here.if_running(dh * z, dh)


class Rnn(Cell):
    """A plain RNN: h = tanh(gate), or relu(gate)."""

    inputs = ("gx", "w_hh", "h0")
    outputs = ("ys",)
    grad_inputs = ("g_ys", "w_hh", "h0", "ys")
    grad_outputs = ("dgx", "dw", "dh0")

    def __init__(self, relu: bool) -> None:
        self.relu = relu

    def forward(self, here: Here, sums: Sequence[Vec]) -> None:
        z = here.load("gx") + sums[0]
        h = where(z < 0, 0.0, z) if self.relu else tanh(z)
        if here.running is not None:
            h = here.if_running(h, here.recall("h"))
        here.hold(h, "next")
        here.store(h, "ys")

    def backward(self, here: Here, dh: Vec, before: Vec) -> Vec | None:
        y, zero = here.load("ys"), here.zero()
        slope = where(y > 0, y.const(1.0), 0.0) if self.relu else 1 - y * y
        give(here, here.if_running(dh * slope, zero), 0)
        return None if here.running is None else here.if_running(zero, dh)
