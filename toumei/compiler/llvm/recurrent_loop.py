"""The kernels of time loops: packing of the weights, and all steps forwards.

A work item is a block of the batch's rows, which it takes through all the steps: no thread waits
for another between two of them.  In each step the block's states are multiplied by the packed
weights, in register tiles; the sums wait in scratch memory for the cell, which goes through them
row by row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from .integers import limited, smaller_of
from .ir import SIZES, Function, Value
from .kernel import Kernel, is_dense, kernel_function
from .matmul_tile import run, transpose_store
from .recurrent_cells import Cell, Here
from .recurrent_spec import Arrays, LoopSpec, Panels, Scratch, load_row

LINE = 64  # bytes that come into a cache together

# --- weights ---


def pack(name: str, spec: LoopSpec, arrays: Arrays, panels: Panels, transposed: bool) -> Kernel:
    """Write the kernel that packs the weights; an item is a vector of states.

    Args:
        transposed: of w_hh, (gates·H, H), lanes run along the rows, k along the columns.
    """
    f = kernel_function(name)
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


class Sums(NamedTuple):
    """Where the sums of a product go.

    Args:
        places: one place, and another one of the same size.
        pitch, part: how far apart rows and gates are there.
        a_pitch: how far apart A's rows are.
        start: numbers that the sums begin with, laid out like them; None: zeros.
    """

    places: tuple[Value, Value]
    pitch: int
    part: int
    a_pitch: int
    start: Value | None = None


class Loop:
    """A kernel that is being written: what both directions share."""

    def __init__(
        self, name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels
    ) -> None:
        self.f, self.spec, self.cell, self.arrays, self.panels = (
            kernel_function(name, scratch=True), spec, cell, arrays, panels,
        )  # fmt: skip
        self.pitch = panels.groups * panels.wide * spec.lanes
        self.packed = self.f.buffer(arrays.index["packed"])
        self.scratch: Scratch
        steps = [n for n in arrays.index if n in arrays.memory and n in cell.per_step]
        self.far = [n for n in steps if is_dense(arrays.memory[n])]

    @contextmanager
    def items(self) -> Iterator[tuple[Value, Value, Value]]:
        """Write the loop over blocks: yield its number, its first row and how many there are."""
        f, spec = self.f, self.spec
        with f.loop(f.args[1], f.args[2]) as loop:
            first = f.udiv(f.mul(loop.index, spec.batch), spec.blocks)
            end = f.udiv(f.mul(f.add(loop.index, 1), spec.batch), spec.blocks)
            yield loop.index, first, f.sub(end, first)
        f.ret()

    @contextmanager
    def vectors(
        self, rows: Value, places: dict[str, Value]
    ) -> Iterator[tuple[Value, Value, dict[str, Value]]]:
        """Write the loop over rows and vectors of a block.

        Yields the row within the block, the column, and where the row of each array begins.
        """
        f, lanes, size = self.f, self.spec.lanes, self.spec.hidden
        with f.loop(0, rows, nonempty=True) as row:
            held = {k: self.scratch.row(f, k, p, row.index) for k, p in places.items()}
            with f.loop(0, size, lanes, nonempty=True) as column:
                yield row.index, column.index, held

    def places(self, names: Sequence[str]) -> dict[str, Value]:
        """Return where arrays in scratch memory begin, by name."""
        return {name: self.scratch.place(self.f, name) for name in names}

    def step(self, index: Value, backwards: bool) -> Value:
        """Return the step that is computed as the index-th one."""
        if self.spec.reverse == backwards:
            return index
        return self.f.sub(self.f.const("i64", self.spec.steps - 1), index)

    def take_initial(self, first: Value, rows: Value, names: dict[str, str]) -> None:
        """Write the copying of first states, from inputs to arrays in scratch memory."""
        f, spec = self.f, self.spec
        with self.vectors(rows, self.places(list(names.values()))) as (row, column, held):
            for source, name in names.items():
                line = self.arrays.row(f, source, f.add(first, row))
                value = load_row(f, spec, line, column, self.arrays.stride(source))
                f.store(value, f.at(held[name], column, spec.dtype))

    def product(self, rows: Value, a: Value, out: Sums, regions: Sequence[Value]) -> None:
        """Write the product of a block's rows and the packed weights.

        The last tile begins early enough to end with the block: some rows may come twice.  So the
        sums of a piece of k are not added to where those of the piece before are, but taken from
        there to another place.

        Args:
            a: where A's first row begins, in scratch memory.
            out: where the sums go.
            regions: what each tile has a share of fetched from: see `fetch`.
        """
        f, panels, kind = self.f, self.panels, self.spec.dtype
        across = panels.wide * self.spec.lanes
        to, other = out.places if panels.pieces % 2 else out.places[::-1]
        last = f.sub(rows, panels.rows)
        with f.loop(0, panels.groups) as group:
            b = f.at(self.packed, f.mul(group.index, panels.depth * panels.parts * across), kind)
            with f.loop(0, panels.pieces, carried=[out.start or to, to, other]) as pieces:
                source, target, other = pieces.carried
                k0 = f.mul(pieces.index, panels.piece)
                left, right = f.at(a, k0, kind), f.at(b, f.mul(k0, panels.parts * across), kind)
                turn = f.add(f.mul(group.index, panels.pieces), pieces.index)
                with f.loop(0, rows, panels.rows, nonempty=True) as loop:
                    self.fetch(
                        regions, f.add(f.mul(turn, self.tiles), f.udiv(loop.index, panels.rows))
                    )
                    row = smaller_of(f, loop.index, last)
                    corner = f.add(f.mul(row, out.pitch), f.mul(group.index, across))
                    ends = [f.at(p, corner, kind) for p in (source, target)]
                    line = f.at(left, f.mul(row, out.a_pitch), kind)
                    self.tile(line, right, self.count(k0), out, ends)
                pieces.next = [target, other, target]

    def tile(
        self, a: Value, b: Value, count: Value | int, out: Sums, ends: Sequence[Value]
    ) -> None:
        """Write a register tile, from the sums so far at one place to those at another."""
        f, panels, lanes, kind = self.f, self.panels, self.spec.lanes, self.spec.dtype
        cells = itertools.product(range(panels.rows), range(panels.parts), range(panels.wide))
        offsets = [row * out.pitch + gate * out.part + v * lanes for row, gate, v in cells]
        source, target = ([f.at(end, n, kind) for n in offsets] for end in ends)
        start = [f.load(place, self.spec.kind) for place in source] if out.start else ()
        sums = run(f, panels.tile(self.spec, out.a_pitch), a, b, count, start)
        for value, place in zip(sums, target, strict=True):
            f.store(value, place)

    @property
    def tiles(self) -> int:
        """The tiles of a block's rows."""
        return -(-self.spec.most_rows // self.panels.rows)

    def regions(self, step: Value, first: Value) -> list[Value]:
        """Return where the block's part of each large array begins at a step."""
        return [self.arrays.row(self.f, name, step, first) for name in self.far]

    def fetch(self, regions: Sequence[Value], turn: Value) -> None:
        """Write the fetching of a tile's share of some regions into the second cache.

        A cell takes up its arrays faster than they come from memory; while tiles are computed,
        memory has nothing to do.
        """
        f, size = self.f, SIZES[self.spec.dtype]
        turns = max(1, self.tiles) * max(1, self.panels.groups) * self.panels.pieces
        for name, region in zip(self.far, regions, strict=True):
            width = self.arrays.memory[name].shape[-1]
            share = -(-self.spec.most_rows * width * size // (LINE * turns))
            place = f.at(region, f.mul(turn, share * LINE))
            for n in range(share):
                f.prefetch(f.at(place, n * LINE), write=False, near=2)

    def count(self, k0: Value) -> Value | int:
        """Return how many k a piece has that begins at k0."""
        return limited(self.f, k0, self.panels.piece, self.panels.depth)


def forward(name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels) -> Kernel:
    """Write the kernel of all steps."""
    loop = _Forward(name, spec, cell, arrays, panels)
    return Kernel(loop.f, spec.blocks, chunk=1, scratch=loop.scratch.bytes)


class _Forward(Loop):
    """All steps of a loop."""

    def __init__(
        self, name: str, spec: LoopSpec, cell: Cell, arrays: Arrays, panels: Panels
    ) -> None:
        super().__init__(name, spec, cell, arrays, panels)
        self.sums_pitch = spec.gates * self.pitch
        held = dict.fromkeys((*cell.held, "next"), (spec.most_rows, self.pitch))
        self.scratch = Scratch(spec, {**held, "sums": (spec.most_rows, self.sums_pitch)})
        f, places = self.f, self.places((*cell.held, "next"))
        self.sums = self.scratch.place(f, "sums")
        out = Sums((self.sums, self.sums), self.sums_pitch, self.pitch, self.pitch)
        with self.items() as (_, first, rows):
            self.take_initial(first, rows, dict(zip(cell.initial, cell.held, strict=True)))
            states = [places["h"], places["next"]]
            with f.loop(0, spec.steps, carried=states) as steps:
                h, following = steps.carried
                step = self.step(steps.index, False)
                self.product(rows, h, out, self.regions(step, first))
                self.cells(step, first, rows, {**places, "h": h, "next": following})
                steps.next = [following, h]

    def cells(self, step: Value, first: Value, rows: Value, places: dict[str, Value]) -> None:
        """Write a step of all states of a block, given w_hh·h."""
        f, spec = self.f, self.spec
        with self.vectors(rows, places) as (row, column, held):
            here = Here(f, spec, self.arrays, step, f.add(first, row), column, held)
            line = f.at(self.sums, f.mul(row, self.sums_pitch), spec.dtype)
            line = f.at(line, column, spec.dtype)
            parts = [f.at(line, k * self.pitch, spec.dtype) for k in range(spec.gates)]
            self.cell.forward(here, [here.vec(f.load(p, spec.kind)) for p in parts])
