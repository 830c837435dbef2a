"""The kernels of time loops: packing of the weights, all steps forwards, all steps backwards.

A work item is a block of the batch's rows, which it takes through all the steps: no thread waits
for another between two of them.  In each step the block's states are multiplied by the packed
weights, in register tiles; the sums wait in scratch memory for the cell, which takes them up
vector by vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .ir import Function, Value
from .kernel import Kernel
from .matmul_tile import run, store_maybe, transpose_store
from .recurrent_cells import Cell, Here
from .recurrent_spec import ARGS, Arrays, LoopSpec, Panels, Scratch, choose_panels, load_row
from .vec import Vec

__all__ = ["backward", "backward_panels", "forward", "forward_panels"]


def forward_panels(spec: LoopSpec) -> Panels:
    """Return how w_hhᵀ is packed: the gates of a state side by side."""
    return choose_panels(spec, spec.gates, spec.hidden)


def backward_panels(spec: LoopSpec) -> Panels:
    """Return how w_hh is packed."""
    return choose_panels(spec, 1, spec.width)


# --- weights ---


def pack(name: str, spec: LoopSpec, arrays: Arrays, panels: Panels, transposed: bool) -> Kernel:
    """Write the kernel that packs the weights; an item is a vector of states.

    Args:
        transposed: of w_hh, (gates·H, H), lanes run along the rows, k along the columns.
    """
    f = Function(name, ARGS[:3])
    lanes, kind = spec.lanes, spec.dtype
    to, pitch = f.buffer(arrays.index["packed"]), panels.vectors * lanes
    w, strides = f.buffer(arrays.index["w_hh"]), arrays.memory["w_hh"].strides
    with f.loop(f.args[1], f.args[2]) as items:
        group, inside = f.udiv(items.index, panels.wide), f.urem(items.index, panels.wide)
        panel = f.at(to, f.mul(group, panels.depth * pitch), kind)
        panel = f.at(panel, f.mul(inside, lanes), kind)
        column = f.mul(items.index, lanes)
        if not transposed:
            with f.loop(0, panels.depth) as k:
                row = f.at(w, f.mul(k.index, strides[0]), kind)
                value = load_row(f, spec, row, column, strides[1])
                f.store(value, f.at(panel, f.mul(k.index, pitch), kind))
        else:
            with f.loop(0, spec.gates) as gate:
                rows = f.at(w, f.mul(gate.index, spec.hidden * strides[0]), kind)
                target = f.at(panel, f.mul(gate.index, panels.wide * lanes), kind)
                _pack_gate(f, spec, rows, strides, column, target, pitch)
    f.ret()
    return Kernel(f, spec.vectors)


def _pack_gate(
    f: Function,
    spec: LoopSpec,
    rows: Value,
    strides: tuple[int, ...],
    column: Value,
    target: Value,
    pitch: int,
) -> None:
    """Write the packing of a vector of states of one gate, as w_hhᵀ."""
    lanes, kind, size = spec.lanes, spec.dtype, spec.hidden
    start = f.const("i64", 0)
    if strides[1] == 1 and size >= lanes:  # whole squares are transposed in registers
        whole, full = size // lanes * lanes, f.compare("sle", column, size - lanes)
        with f.when(full):
            corner = f.at(rows, f.mul(column, strides[0]), kind)
            with f.loop(0, whole, lanes) as k:
                source, to = f.at(corner, k.index, kind), f.at(target, f.mul(k.index, pitch), kind)
                transpose_store(f, kind, lanes, source, strides[0], to, pitch, lanes, lanes)
        start = f.select(full, f.const("i64", whole), 0)
    with f.loop(start, size) as k:
        line = f.at(rows, f.mul(k.index, strides[1]), kind)
        value = load_row(f, spec, line, column, strides[0])
        f.store(value, f.at(target, f.mul(k.index, pitch), kind))


# --- loops ---


class _Loop:
    """A kernel that is being written: what both directions share."""

    def __init__(
        self, name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels
    ) -> None:
        self.f, self.spec, self.cell, self.arrays, self.panels = (
            Function(name, ARGS), spec, cell, arrays, panels,
        )  # fmt: skip
        self.pitch = panels.groups * panels.wide * spec.lanes
        self.packed = self.f.buffer(arrays.index["packed"])
        self.scratch: Scratch

    @contextmanager
    def items(self) -> Iterator[tuple[Value, Value]]:
        """Write the loop over blocks: yield the first row and how many there are."""
        f, spec = self.f, self.spec
        with f.loop(f.args[1], f.args[2]) as loop:
            first = f.udiv(f.mul(loop.index, spec.batch), spec.blocks)
            end = f.udiv(f.mul(f.add(loop.index, 1), spec.batch), spec.blocks)
            yield first, f.sub(end, first)
        f.ret()

    @contextmanager
    def vectors(
        self, rows: Value, places: dict[str, Value], group: Value | None = None
    ) -> Iterator[tuple[Value, Value, dict[str, Value]]]:
        """Write the loop over rows and vectors, of all states or those of a group.

        Yields the row within the block, the column, and where the row of each array begins.
        """
        f, lanes, size = self.f, self.spec.lanes, self.spec.hidden
        with f.loop(0, rows, nonempty=True) as row:
            held = {k: self.row_of(p, row.index) for k, p in places.items()}
            if group is None:
                start, stop = f.const("i64", 0), f.const("i64", size)
            else:
                start = f.mul(group, self.panels.wide * lanes)
                stop = f.add(start, self.panels.wide * lanes)
                stop = f.select(f.compare("slt", stop, size), stop, size)
            with f.loop(start, stop, lanes, nonempty=True) as column:
                yield row.index, column.index, held

    def row_of(self, place: Value, row: Value) -> Value:
        """Return where a row of an array in scratch memory begins."""
        return self.f.at(place, self.f.mul(row, self.pitch), self.spec.dtype)

    def places(self, names: Sequence[str]) -> dict[str, Value]:
        return {name: self.scratch.place(self.f, name) for name in names}

    def step(self, index: Value, backwards: bool) -> Value:
        """Return the step that is computed as the index-th one."""
        if self.spec.reverse == backwards:
            return index
        return self.f.sub(self.f.const("i64", self.spec.steps - 1), index)

    def take_initial(self, first: Value, rows: Value, names: dict[str, str]) -> None:
        """Write the copying of first states, of inputs named so, into scratch memory."""
        f, spec = self.f, self.spec
        with self.vectors(rows, self.places(list(names.values()))) as (row, column, held):
            for source, name in names.items():
                line = self.arrays.row(f, source, f.add(first, row))
                stride = self.arrays.stride(source)
                value = load_row(f, spec, line, column, stride)
                f.store(value, f.at(held[name], column, spec.dtype))

    def product(
        self, rows: Value, a: Value, pitch: int, group: Value, out: Value, out_pitch: int
    ) -> None:
        """Write the product of a block's rows and the packed weights of a group.

        The last tile begins early enough to end with the block: some rows may come twice.

        Args:
            a, pitch: where A's first row begins, and how far apart its rows are.
            out, out_pitch: likewise of the sums.
        """
        f, spec, panels, kind = self.f, self.spec, self.panels, self.spec.dtype
        size = panels.depth * panels.vectors * spec.lanes
        b = f.at(self.packed, f.mul(group, size), kind)
        last = f.sub(rows, panels.rows)
        tile = panels.tile(spec, pitch)
        with f.loop(0, rows, panels.rows, nonempty=True) as loop:
            start = f.select(f.compare("slt", loop.index, last), loop.index, last)
            sums = run(f, tile, f.at(a, f.mul(start, pitch), kind), b, panels.depth)
            to = f.at(out, f.mul(start, out_pitch), kind)
            for n, value in enumerate(sums):
                row, v = divmod(n, panels.vectors)
                f.store(value, f.at(to, row * out_pitch + v * spec.lanes, kind))


def forward(name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels) -> Kernel:
    """Write the kernel of all steps."""
    loop = _Forward(name, spec, cell, arrays, panels)
    return Kernel(loop.f, spec.blocks, chunk=1, scratch=loop.scratch.bytes)


class _Forward(_Loop):
    """All steps of a loop."""

    def __init__(
        self, name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels
    ) -> None:
        super().__init__(name, spec, cell, arrays, panels)
        self.sums_pitch = panels.vectors * spec.lanes
        self.scratch = Scratch(spec, self.pitch, (*cell.held, "next"), self.sums_pitch)
        f, places = self.f, self.places((*cell.held, "next", "sums"))
        with self.items() as (first, rows):
            self.take_initial(first, rows, dict(zip(cell.initial, cell.held, strict=True)))
            states = [places["h"], places["next"]]
            with f.loop(0, spec.steps, carried=states) as steps:
                now = {**places, "h": steps.carried[0], "next": steps.carried[1]}
                with f.loop(0, panels.groups) as group:
                    self.group(self.step(steps.index, False), first, rows, group.index, now)
                steps.next = steps.carried[::-1]

    def group(
        self, step: Value, first: Value, rows: Value, group: Value, places: dict[str, Value]
    ) -> None:
        """Write a step of the states of a group."""
        f, spec, panels = self.f, self.spec, self.panels
        sums = places["sums"]
        held = {name: place for name, place in places.items() if name != "sums"}
        self.product(rows, places["h"], self.pitch, group, sums, self.sums_pitch)
        with self.vectors(rows, held, group) as (row, column, at):
            here = Here(f, spec, self.arrays, step, f.add(first, row), column, at)
            inside = f.sub(column, f.mul(group, panels.wide * spec.lanes))
            base = f.at(f.at(sums, f.mul(row, self.sums_pitch), spec.dtype), inside, spec.dtype)
            parts = [
                f.at(base, k * panels.wide * spec.lanes, spec.dtype) for k in range(spec.gates)
            ]
            self.cell.forward(here, [here.vec(f.load(p, spec.kind)) for p in parts])


def backward(name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels) -> Kernel:
    """Write the kernel of all steps backwards, without the gradient of the weights."""
    loop = _Backward(name, spec, cell, arrays, panels)
    return Kernel(loop.f, spec.blocks, chunk=1, scratch=loop.scratch.bytes)


class _Backward(_Loop):
    """All steps of a loop backwards: ∂gates from ∂h, then ∂h of the step before from ∂gates."""

    def __init__(
        self, name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels
    ) -> None:
        super().__init__(name, spec, cell, arrays, panels)
        self.keeps = cell.keeps or spec.masked
        self.grads = {f"d{initial}": f"d{state}" for initial, state in
                      zip(cell.initial, cell.held, strict=True)}  # fmt: skip
        states = [*self.grads.values(), *["keep"] * self.keeps]
        before = [cell.before] if cell.before else []
        self.scratch = Scratch(spec, self.pitch, [*states, *before])
        self.held = self.places([*states, *before])
        f = self.f
        with self.items() as (first, rows):
            self.clear(rows, states)
            self.copy_start(first, rows)
            if cell.before:
                self.take_initial(first, rows, {cell.before: cell.before})
            with f.loop(0, spec.steps) as steps:
                self.cells(steps.index, first, rows)
                self.states(self.step(steps.index, True), first, rows)
            self.give_initial(first, rows)

    def clear(self, rows: Value, names: Sequence[str]) -> None:
        """Write zeros into scratch memory."""
        f, spec = self.f, self.spec
        zero = f.const(spec.kind, 0.0)
        with self.vectors(rows, self.places(names)) as (_, column, held):
            for place in held.values():
                f.store(zero, f.at(place, column, spec.dtype))

    def copy_start(self, first: Value, rows: Value) -> None:
        """Write the copying of h0 to where the gradient of the weights reads it."""
        f, spec = self.f, self.spec
        with self.vectors(rows, {}) as (row, column, held):
            here = Here(f, spec, self.arrays, None, row, column, held)
            line = self.arrays.row(f, "h0", f.add(first, row))
            value = here.load_from(line, 0, self.arrays.stride("h0"))
            to = f.at(self.arrays.row(f, "start", f.add(first, row)), column, spec.dtype)
            store_maybe(f, value, to, here.mask)

    def cells(self, index: Value, first: Value, rows: Value) -> None:
        """Write ∂gates of a step, for all states of a block."""
        f, spec = self.f, self.spec
        step, start = self.step(index, True), f.compare("eq", index, spec.steps - 1)
        with self.vectors(rows, self.held) as (row, column, held):
            here = Here(f, spec, self.arrays, step, f.add(first, row), column, held, start)
            kept = self.cell.backward(here, self.recall(here) + here.load("g_ys"))
            if kept is not None:
                here.hold(kept, "keep")

    def recall(self, here: Here) -> Vec:
        """Return ∂h as it comes from the step after."""
        through = here.recall("dh")
        return through + here.recall("keep") if self.keeps else through

    def states(self, step: Value, first: Value, rows: Value) -> None:
        """Write ∂h of the step before, the product of ∂gates and w_hh."""
        f, panels = self.f, self.panels
        a = self.arrays.row(f, self.cell.weight_grad(), step, first)
        with f.loop(0, panels.groups) as group:
            column = f.mul(group.index, panels.wide * self.spec.lanes)
            out = f.at(self.held["dh"], column, self.spec.dtype)
            self.product(rows, a, self.spec.width, group.index, out, self.pitch)

    def give_initial(self, first: Value, rows: Value) -> None:
        """Write the gradients of the first states into the outputs."""
        f, spec = self.f, self.spec
        with self.vectors(rows, self.held) as (row, column, held):
            here = Here(f, spec, self.arrays, None, row, column, held)
            for output, name in self.grads.items():
                value = self.recall(here) if name == "dh" else here.recall(name)
                line = self.arrays.row(f, output, f.add(first, row))
                store_maybe(f, value.value, f.at(line, column, spec.dtype), here.mask)
