"""The kernels of the gradients of time loops: all steps backwards, and the gradient of the weights.

In each step the cell turns ∂h into the gradients of its gates, whose product with w_hh is ∂h of the
step before.  The gradients of some steps are kept, along with the h that went into them; their
product, a part of ∂w_hh, is added to that of the steps before while all of it is in the cache.
Each block of the batch's rows sums up a ∂w_hh of its own; at last these are added up in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .integers import smaller_of
from .ir import SIZES, Function, Value
from .kernel import Kernel, kernel_function
from .matmul_plan import NARROW, fits, step_cycles
from .matmul_tile import Tile, run
from .recurrent_cells import Cell, Here
from .recurrent_loop import Loop, Sums
from .recurrent_spec import Arrays, LoopSpec, Panels, Scratch, row_mask

KEPT = 64  # rows of gradients that are kept, about
KEPT_BYTES = 320 * 1024  # of them: in the second cache


@dataclass(frozen=True)
class WeightSums:
    """How a block sums up ∂w_hh, and ∂b_hh after it; sizes count numbers, with whole tiles."""

    spec: LoopSpec

    @property
    def tile(self) -> tuple[int, int]:
        """Return the rows and vectors of the register tile that promises to be the fastest."""
        spec = self.spec

        def cost(rows: int, vectors: int) -> float:
            tiles = -(-spec.width // rows) * -(-spec.vectors // vectors)
            return tiles * (step_cycles(rows, vectors) + 1) * NARROW[vectors]

        found = [
            (cost(rows, vectors), -rows, vectors)
            for vectors in range(1, min(4, spec.vectors) + 1)
            for rows in range(1, min(16, spec.width) + 1)
            if rows == 1 or fits(spec.target, rows, vectors)
        ]
        _, fewer, vectors = min(found)
        return -fewer, vectors

    @property
    def steps(self) -> int:
        """Steps whose gradients are kept."""
        spec = self.spec
        row = max(1, spec.most_rows * (self.gates_pitch + self.states_pitch) * SIZES[spec.dtype])
        most = min(KEPT // max(1, spec.most_rows), KEPT_BYTES // row)
        return max(1, min(most, spec.steps))

    @property
    def gates_pitch(self) -> int:
        """Numbers from row to row of gradients: an odd count of vectors uses all of the cache."""
        rows, lanes = self.tile[0], self.spec.lanes
        return (-(-(-(-self.spec.width // rows) * rows) // lanes) | 1) * lanes

    @property
    def columns(self) -> int:
        """Numbers in a row of ∂w_hh."""
        wide = self.tile[1]
        return -(-self.spec.vectors // wide) * wide * self.spec.lanes

    @property
    def states_pitch(self) -> int:
        return (self.columns // self.spec.lanes | 1) * self.spec.lanes

    @property
    def bias(self) -> int:
        """Where the sums of ∂b_hh begin."""
        rows = self.tile[0]
        return -(-self.spec.width // rows) * rows * self.columns

    @property
    def numbers(self) -> int:
        """All that a block sums up."""
        return self.bias + self.gates_pitch


def backward(name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels) -> Kernel:
    """Write the kernel of all steps backwards."""
    loop = _Backward(name, spec, cell, arrays, panels)
    return Kernel(loop.f, spec.blocks, chunk=1, scratch=loop.scratch.bytes)


class _Backward(Loop):
    """All steps of a loop backwards."""

    def __init__(
        self, name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels
    ) -> None:
        super().__init__(name, spec, cell, arrays, panels)
        self.weights = WeightSums(spec)
        self.grads = [f"d{state}" for state in cell.held]
        states = [*self.grads, "keep"]
        kept = self.weights.steps * spec.most_rows
        self.scratch = Scratch(spec, {
            **dict.fromkeys([*states, "spare", *cell.initial], (spec.most_rows, self.pitch)),
            "gates": (kept, self.weights.gates_pitch),
            "states": (kept, self.weights.states_pitch),
        })  # fmt: skip
        self.held = self.places([*self.scratch.pitch])
        self.write(states)

    def write(self, states: Sequence[str]) -> None:
        """Write the kernel, given the names of what starts as 0."""
        f, spec, some = self.f, self.spec, self.weights.steps
        with self.items() as (block, first, rows):
            self.clear(block, rows, states)
            self.take_initial(first, rows, {name: name for name in self.cell.initial})
            with f.loop(0, spec.steps, some) as group:
                end = smaller_of(f, f.add(group.index, some), spec.steps)
                with f.loop(group.index, end, nonempty=True) as steps:
                    kept = f.mul(f.sub(steps.index, group.index), rows)
                    self.one_step(steps.index, first, rows, kept)
                count = f.mul(f.sub(end, group.index), rows)
                self.add_weights(block, count)
                if "db" in self.arrays.index:
                    self.add_bias(block, count)
            self.give_initial(first, rows)

    def clear(self, block: Value, rows: Value, names: Sequence[str]) -> None:
        """Write zeros into arrays in scratch memory and into the block's sums."""
        f, spec = self.f, self.spec
        zero = f.const(spec.kind, 0.0)
        with self.vectors(rows, self.places(names)) as (_, column, held):
            for place in held.values():
                f.store(zero, f.at(place, column, spec.dtype))
        sums = parts_place(f, self.arrays, self.weights, block)
        with f.loop(0, self.weights.numbers, spec.lanes) as loop:
            f.store(zero, f.at(sums, loop.index, spec.dtype))

    # --- a step ---

    def one_step(self, index: Value, first: Value, rows: Value, kept: Value) -> None:
        """Write a step of a block; its gradients are kept from a row on."""
        f = self.f
        held = dict(self.held)
        for name in ("gates", "states"):
            held[name] = self.scratch.row(f, name, self.held[name], kept)
        self.cells(index, first, rows, held)
        out = Sums(
            (held["dh"], held["spare"]), self.pitch, 0, self.weights.gates_pitch, held["keep"]
        )
        upcoming = self.step(f.add(index, 1), True)
        self.product(rows, held["gates"], out, self.regions(upcoming, first))

    def cells(self, index: Value, first: Value, rows: Value, places: dict[str, Value]) -> None:
        """Write the gradients of the gates in a step, for all states of a block."""
        f, spec = self.f, self.spec
        step, start = self.step(index, True), f.compare("eq", index, spec.steps - 1)
        with self.vectors(rows, places) as (row, column, held):
            here = Here(f, spec, self.arrays, step, f.add(first, row), column, held, start)
            before = here.load_before("ys", "h0")
            here.hold(before, "states")
            kept = self.cell.backward(here, here.recall("dh") + here.load("g_ys"), before)
            if kept is not None:
                here.hold(kept, "keep")

    def give_initial(self, first: Value, rows: Value) -> None:
        """Write the gradients of the first states into the outputs."""
        f, spec = self.f, self.spec
        with self.vectors(rows, self.held) as (row, column, held):
            here = Here(f, spec, self.arrays, None, row, column, held)
            for initial, name in zip(self.cell.initial, self.grads, strict=True):
                value = here.recall(name)
                line = self.arrays.row(f, f"d{initial}", f.add(first, row))
                f.store_masked(value.value, f.at(line, column, spec.dtype), here.mask)

    # --- sums ---

    def add_weights(self, block: Value, count: Value) -> None:
        """Write the adding of the product of what is kept, so many rows, to the block's ∂w_hh."""
        f, spec, weights, kind = self.f, self.spec, self.weights, self.spec.dtype
        (tall, wide), pitch, lanes = weights.tile, weights.columns, spec.lanes
        strides = (1, weights.gates_pitch), (weights.states_pitch, 1)
        tile = Tile(kind, lanes, tall, wide, *strides, unroll=2)
        sums = parts_place(f, self.arrays, weights, block)
        with (
            f.loop(0, pitch, wide * lanes) as column,
            f.loop(0, spec.width, tall, nonempty=True) as row,
        ):
            a = f.at(self.held["gates"], row.index, kind)
            b = f.at(self.held["states"], column.index, kind)
            corner = f.at(f.at(sums, f.mul(row.index, pitch), kind), column.index, kind)
            places = [
                f.at(corner, i * pitch + v * lanes, kind) for i in range(tall) for v in range(wide)
            ]
            start = [f.load(place, spec.kind) for place in places]
            for value, place in zip(run(f, tile, a, b, count, start), places, strict=True):
                f.store(value, place)

    def add_bias(self, block: Value, count: Value) -> None:
        """Write the adding of what is kept to the block's ∂b_hh."""
        f, spec, weights = self.f, self.spec, self.weights
        sums = f.at(parts_place(f, self.arrays, weights, block), weights.bias, spec.dtype)
        with f.loop(0, spec.width, spec.lanes) as columns:
            top = f.at(self.held["gates"], columns.index, spec.dtype)
            place = f.at(sums, columns.index, spec.dtype)
            zero = f.const(spec.kind, 0.0)
            with f.loop(0, count, carried=[zero], nonempty=True) as rows:
                more = f.load(self.scratch.row(f, "gates", top, rows.index), spec.kind)
                rows.next = [f.fadd(rows.carried[0], more)]
            f.store(f.fadd(f.load(place, spec.kind), rows.results[0]), place)


def parts_place(f: Function, arrays: Arrays, weights: WeightSums, block: Value) -> Value:
    """Return where a block's sums begin."""
    base = f.buffer(arrays.index["parts"])
    return f.at(base, f.mul(block, weights.numbers), weights.spec.dtype)


def add_parts(name: str, spec: LoopSpec, arrays: Arrays, output: str) -> Kernel:
    """Write the kernel that adds up the blocks' sums, in their order; an item is a row.

    Args:
        output: "dw", or "db", which is one row.
    """
    f, weights, kind = kernel_function(name), WeightSums(spec), spec.dtype
    bias = output == "db"
    rows, size, wide = (
        (1, spec.width, 1) if bias else (spec.width, spec.hidden, weights.tile[1])
    )  # vectors that are added up side by side
    step = wide * spec.lanes
    with f.loop(f.args[1], f.args[2]) as row, f.loop(0, size, step) as column:
        offset = f.add(f.mul(row.index, weights.columns), column.index)
        zeros = [f.const(spec.kind, 0.0)] * wide
        with f.loop(0, spec.blocks, carried=zeros) as blocks:
            part = parts_place(f, arrays, weights, blocks.index)
            part = f.at(f.at(part, weights.bias if bias else 0, kind), offset, kind)
            more = [f.load(f.at(part, v * spec.lanes, kind), spec.kind) for v in range(wide)]
            blocks.next = [f.fadd(x, y) for x, y in zip(blocks.carried, more, strict=True)]
        line = arrays.row(f, output, *[row.index] * (not bias))
        for v, total in enumerate(blocks.results):
            start = f.add(column.index, v * spec.lanes)
            mask = row_mask(f, spec.lanes, start, size, step)
            f.store_masked(total, f.at(line, start, kind), mask)
    f.ret()
    return Kernel(f, rows)
