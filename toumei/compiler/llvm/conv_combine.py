"""The second kernel of the gradient of a convolution's weight: the sum of the chunks' sums."""

from __future__ import annotations

from .conv_spec import ConvSpec
from .conv_weight_plan import Plan, items, pad_channels, pseudo, sums_size, turned
from .integers import limited, tail_mask
from .ir import SIZES, Function, Value, vector
from .kernel import kernel_function
from .matmul import Epilogue


class Combine:
    """The kernel that adds up the chunks' sums and turns them into the layout of the weight.

    An item is some out-channels and some in-channels: they are transposed in memory on the stack.
    """

    def __init__(self, name: str, spec: ConvSpec, plan: Plan, epilogue: Epilogue | None) -> None:
        self.spec, self.plan, self.epilogue, self.element = spec, plan, epilogue, spec.dtype
        self.lanes = plan.target.lanes(spec.dtype)
        self.groups, self.inner, self.columns = pseudo(spec)
        self.taps = spec.kernel[0] * spec.kernel[1]
        self.f = kernel_function(name)

    def function(self) -> Function:
        """Return the kernel: a loop over items."""
        f = self.f
        if items(self.spec, self.plan)[1]:
            self.wide, self.block = turned(self.spec, self.plan.target)
            whole = -(-self.block * self.taps // self.lanes) * self.lanes
            self.pitch = whole + self.lanes  # from out-channel to out-channel: no power of two
            self.turned = f.scratch(self.wide * self.pitch * SIZES[self.element])
            with f.loop(f.args[1], f.args[2]) as loop:
                self.item(loop.index)
        f.ret()
        return f

    def item(self, item: Value) -> None:
        """Write an item: its sums, turned into the layout of the weight, then stored."""
        f = self.f
        pieces, blocks = -(-self.inner // self.block), -(-self.columns // self.wide)
        rest, piece = f.udiv(item, pieces), f.urem(item, pieces)
        group, block = f.udiv(rest, blocks), f.urem(rest, blocks)
        first, column = f.mul(piece, self.block), f.mul(block, self.wide)
        channels = limited(f, first, self.block, self.inner)
        valid = limited(f, column, self.wide, self.columns)
        self.turn(group, (column, valid), first, channels)
        count = channels * self.taps if isinstance(channels, int) else f.mul(channels, self.taps)
        row0 = f.add(f.mul(group, self.columns), column)
        with f.loop(0, valid) as loop:
            source = f.at(self.turned, f.mul(loop.index, self.pitch), self.element)
            row = f.add(row0, loop.index)
            if self.epilogue is None and not self.dense:
                self.scatter(source, row, first, channels)
            else:
                self.finish(source, row, f.mul(first, self.taps), count)

    @property
    def dense(self) -> bool:
        """The weights of an out-channel are contiguous."""
        rows, taps = self.spec.kernel
        return self.spec.weight[1:] == (rows * taps, taps, 1)

    def turn(
        self,
        group: Value,
        columns: tuple[Value, Value | int],
        first: Value,
        channels: Value | int,
    ) -> None:
        """Write the adding up, and the storing of lanes apart from each other."""
        f, kind, target = self.f, self.element, self.plan.target
        size, pad = sums_size(self.spec, target), pad_channels(self.spec, target)
        base = f.at(f.buffer(3), f.add(f.mul(group, size), columns[0]), kind)
        zero = f.const(vector(kind, self.lanes), 0.0)
        with f.loop(0, self.taps) as taps, f.loop(0, channels) as inner:
            number = f.add(f.add(f.mul(taps.index, self.inner), first), inner.index)
            line = f.at(base, f.mul(number, pad), kind)
            to = f.at(self.turned, f.add(f.mul(inner.index, self.taps), taps.index), kind)
            with f.loop(0, columns[1], self.lanes) as vectors:
                place = f.at(line, vectors.index, kind)
                with f.loop(0, self.plan.chunks, carried=[zero]) as chunks:
                    there = f.at(place, f.mul(chunks.index, self.groups * size), kind)
                    chunks.next = [f.fadd(chunks.carried[0], f.load(there, zero.type))]
                there = f.at(to, f.mul(vectors.index, self.pitch), kind)
                for lane in range(self.lanes):
                    value = f.extract(chunks.results[0], lane)
                    f.store(value, f.at(there, lane * self.pitch, kind))

    def finish(self, source: Value, row: Value, first: Value, count: Value | int) -> None:
        """Write what becomes of the gradient of a piece of an out-channel's weights."""
        f, lanes, kind = self.f, self.lanes, vector(self.element, self.lanes)
        batch = f.const("i64", 0)
        epilogue = self.epilogue or self.store

        def vectors(start: Value, mask: Value | None) -> None:
            value = f.load(f.at(source, start, self.element), kind)
            epilogue(f, value, row, f.add(first, start), batch, mask)

        if isinstance(count, int):
            full = count // lanes * lanes
            with f.loop(0, full, lanes) as loop:
                vectors(loop.index, None)
            if full < count:
                vectors(f.const("i64", full), tail_mask(f, count - full, lanes))
            return
        whole = f.mul(f.udiv(count, lanes), lanes)
        with f.loop(0, whole, lanes) as loop:
            vectors(loop.index, None)
        with f.when(f.compare("ne", whole, count)):
            vectors(whole, tail_mask(f, f.sub(count, whole), lanes))

    def store(
        self, f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        """Store a vector of the gradient: what is done where no epilogue is given."""
        place = f.at(f.buffer(2), f.mul(row, self.spec.weight[0]), self.element)
        f.store_masked(sums, f.at(place, column, self.element), mask)

    def scatter(self, source: Value, row: Value, first: Value, channels: Value | int) -> None:
        """Write the storing of weights whose strides may be any."""
        f, kind, (of_k, of_c, down, across) = self.f, self.element, self.spec.weight
        taps = self.spec.kernel[1]
        to = f.at(f.buffer(2), f.add(f.mul(row, of_k), f.mul(first, of_c)), kind)
        with f.loop(0, channels) as c, f.loop(0, self.spec.kernel[0]) as i, f.loop(0, taps) as j:
            number = f.add(f.add(f.mul(c.index, self.taps), f.mul(i.index, taps)), j.index)
            value = f.load(f.at(source, number, kind), kind)
            away = f.add(f.mul(c.index, of_c), f.mul(i.index, down))
            f.store(value, f.at(to, f.add(away, f.mul(j.index, across)), kind))
