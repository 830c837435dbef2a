"""The kernels of a row tile: a program that goes through the rows, a few at a time.

A work item is a number of tiles, and a tile so many rows that all its slots fit the second cache.
Lanes are rows: slot[column][row of the tile].  Each kind of step is a function that is called with
addresses; equal steps, as those of equal layers, call the same one.

What is summed over the rows is summed lane by lane while an item runs, then across the lanes; a
second kernel adds up what the items have found, in order.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence

from ..expr import Read, leaves
from ..rowplan import Gram, Load, Map, Plan, Product, Step, Store
from .elements import memory_type
from .integers import smaller_of
from .ir import Function, Value
from .kernel import Kernel, kernel_function
from .rowtile_map import MapBody
from .rowtile_shape import Shape, shape_of
from .rowtile_steps import clean, gram, gram_matrix, load, product, store
from .rowtile_sums import Sums, turned
from .target import Target

ITEMS = 32  # work items, about


class Helpers:
    """The functions of a kernel's steps: one for all steps that do the same to other memory."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.known: dict[str, Function] = {}

    def function(
        self, key: str, args: Sequence[str], write: Callable[[Function], None]
    ) -> Function:
        """Return the function with a key; it is written the first time."""
        whole = f"{self.shape} {key}"
        if whole not in self.known:
            name = f"rows_{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
            f = Function(name, [(f"a{i}", kind) for i, kind in enumerate(args)], private=True)
            write(f)
            f.ret()
            self.known[whole] = f
        return self.known[whole]


def emit(name: str, plan: Plan, target: Target) -> list[Kernel]:
    """Write the kernels of a plan."""
    return Writer(name, plan, target).run()


class Writer:
    """Writes the kernels of a plan.

    Args:
        name: of the first kernel.
        plan: the program.
        target: the processor.
    """

    def __init__(self, name: str, plan: Plan, target: Target) -> None:
        self.name, self.plan, self.shape = name, plan, shape_of(plan, target)
        self.helpers = Helpers(self.shape)
        self.f = kernel_function(name, scratch=True)
        s = self.shape
        self.slots, end = plan.places(s.tile * s.size)
        self.sums = Sums(plan, s, end)
        self.tiles = -(-plan.rows // s.tile)
        self.items = min(ITEMS, self.tiles)

    def run(self) -> list[Kernel]:
        """Return the kernels."""
        f, s = self.f, self.shape
        _, begin, end, _ = f.args
        with f.loop(begin, end) as item:
            self.sums.begin(f, f.args[3])
            first, last = self._first(item.index), self._first(f.add(item.index, 1))
            with f.loop(first, last, s.tile, nonempty=True) as tile:
                self._tile(tile.index)
            total = self.sums.total
            work = f.at(f.buffer(self.plan.buffers), f.mul(item.index, total), s.element)
            self.sums.finish(f, f.args[3], work)
        f.ret()
        scratch = self.sums.at + self.sums.size
        main = Kernel(f, self.items, 1, scratch=scratch, workspace=self.items * total * s.size)
        return [main, self._end()] if total else [main]

    # --- a work item ---

    def _first(self, item: Value) -> Value:
        """Return the first row of an item: tiles are spread as evenly as can be."""
        f = self.f
        return f.mul(f.udiv(f.mul(item, self.tiles), self.items), self.shape.tile)

    def _tile(self, start: Value) -> None:
        """Write the steps of a tile."""
        f, s = self.f, self.shape
        count = smaller_of(f, f.sub(f.const("i64", self.plan.rows), start), s.tile)
        calls = Steps(self, start, count)
        for step in self.plan.steps:
            calls.write(step)

    # --- the end ---

    def _end(self) -> Kernel:
        """Write the kernel that adds up what the items have found."""
        s = self.shape
        name = f"{self.name}_end"
        f = kernel_function(name)
        add = self.helpers.function(
            f"end {self.items} {self.sums.total}", ("ptr", "ptr", "i64"), self._add_items
        )
        first = self.plan.buffers - len(self.plan.sums)
        work = f.buffer(self.plan.buffers)
        with f.loop(f.args[1], f.args[2]) as loop:
            for i, (n, at) in enumerate(zip(self.plan.sums, self.sums.parts, strict=True)):
                with f.when(f.compare("eq", loop.index, i)):
                    place = f.at(work, at, s.element)
                    f.call_helper(add, place, f.buffer(first + i), f.const("i64", n))
        f.ret()
        return Kernel(f, len(self.plan.sums))

    def _add_items(self, f: Function) -> None:
        s = self.shape
        work, out, count = f.args
        whole = f.mul(f.udiv(count, s.lanes), s.lanes)
        zero = f.const(s.kind, 0.0)

        def total(at: Value) -> Value:
            with f.loop(0, self.items, carried=[zero], nonempty=True) as item:
                place = f.at(work, f.add(f.mul(item.index, self.sums.total), at), s.element)
                item.next = [f.fadd(item.carried[0], f.load(place, s.kind))]
            return item.results[0]

        with f.loop(0, whole, s.lanes) as loop:
            f.store(total(loop.index), f.at(out, loop.index, s.element))
        with f.when(f.compare("slt", whole, count)):
            rest = f.scratch(s.lanes * s.size)
            f.store(total(whole), rest)
            with f.loop(whole, count) as loop:
                one = f.load(f.at(rest, f.sub(loop.index, whole), s.element), s.element)
                f.store(one, f.at(out, loop.index, s.element))


class Steps:
    """Writes the calls of a tile's steps.

    Args:
        writer: of the kernel.
        start: the tile's first row.
        count: how many rows it has: the last tile may have fewer than the others.
    """

    def __init__(self, writer: Writer, start: Value, count: Value) -> None:
        self.writer, self.f, self.shape = writer, writer.f, writer.shape
        self.start, self.count = start, count
        self.helpers = writer.helpers

    def write(self, step: Step) -> None:
        """Write a step."""
        if isinstance(step, Load):
            self._load(step)
        elif isinstance(step, Store):
            self._store(step)
        elif isinstance(step, Product):
            self._product(step)
        elif isinstance(step, Gram):
            self._gram(step)
        else:
            self._map(step)

    def _call(self, key: str, args: Sequence[Value], write: Callable[[Function], None]) -> None:
        helper = self.helpers.function(key, [a.type for a in args], write)
        self.f.call_helper(helper, *args)
        self.f.helpers.update(helper.helpers)

    # --- places ---

    def _slot(self, read: Read) -> Value:
        """Return the address of the first column that is accessed."""
        base = self.f.at(self.f.args[3], self.writer.slots[read.value])
        return self.shape.column(self.f, base, read.offset)

    def _fixed(self, read: Read) -> Value:
        """Return the address of the first element that is accessed in a buffer."""
        return self.f.at(self.f.buffer(-1 - read.value), read.offset, memory_type(read.dtype))

    def _place(self, read: Read) -> Value:
        return self._slot(read) if read.value >= 0 else self._fixed(read)

    def _sum(self, number: int, offset: int) -> Value:
        sums = self.writer.sums
        at = sums.places[number] + offset * self.shape.lanes
        return sums.place(self.f, self.f.args[3], at)

    # --- steps ---

    def _load(self, step: Load) -> None:
        f, s = self.f, self.shape
        outside = f.at(f.buffer(step.buffer), step.offset, s.element)
        outside = f.at(outside, f.mul(self.start, step.row), s.element)
        slot = f.at(f.args[3], self.writer.slots[step.slot])
        key = f"load {step.columns} {step.row} {step.column}"
        self._call(key, (outside, slot, self.count), lambda g: load(g, s, step))

    def _store(self, step: Store) -> None:
        f, s = self.f, self.shape
        outside = f.at(f.buffer(step.buffer), f.mul(self.start, step.columns), s.element)
        slot = f.at(f.args[3], self.writer.slots[step.slot])
        key = f"store {step.columns}"
        self._call(key, (slot, outside, self.count), lambda g: store(g, s, step.columns))

    def _product(self, step: Product) -> None:
        key = (
            f"product {step.inner} {step.columns} {step.x.strides} {step.weight.strides} "
            f"{step.out.strides} {step.stored}"
        )
        places = [self._slot(step.x), self._fixed(step.weight), self._slot(step.out)]
        body = None
        if step.then is not None:
            body, more = self._body(step.then, step.out)
            places += more
            key += body.key()
        self._call(key, places, lambda g: product(g, self.shape, step, body))

    def _gram(self, step: Gram) -> None:
        s, f = self.shape, self.f
        with f.when(f.compare("slt", self.count, s.tile)):
            for read, columns in ((step.a, step.inner), (step.b, step.columns)):
                stride = read.strides[0]
                n = f.const("i64", columns if stride else 1)
                write = functools.partial(clean, s=s, step=stride)
                self._call(f"clean {stride}", (self._slot(read), n, self.count), write)
        matrix = self.writer.sums.matrices[step.sums.value]
        step = step if matrix is None else turned(step)
        key = (
            f"gram {step.inner} {step.columns} {step.a.strides} {step.b.strides} "
            f"{step.sums.strides} {matrix}"
        )
        sums = self._sum(step.sums.value, step.sums.offset)
        places = (self._slot(step.a), self._slot(step.b), sums)
        if matrix is None:
            self._call(key, places, lambda g: gram(g, s, step))
        else:
            self._call(key, places, lambda g: gram_matrix(g, s, step, matrix))

    def _map(self, step: Map) -> None:
        body, places = self._body(step)
        self._call(body.key(), places, body.write)

    def _body(self, step: Map, raw: Read | None = None) -> tuple[MapBody, list[Value]]:
        """Return what writes a map, and its arguments; `raw`: what a product has just written."""
        names: dict[Read, int] = {}
        own = {t.out for t in step.statements if t.kind == "map"}
        for t in step.statements:
            for leaf in leaves(t.expr):
                if isinstance(leaf, Read) and leaf not in own and leaf != raw:
                    names.setdefault(leaf, len(names))
        outs = [t for t in step.statements if t.stored]
        places = [self._place(leaf) for leaf in names]
        for t in outs:
            is_sum = t.kind == "sum"
            places.append(self._sum(t.out.value, t.out.offset) if is_sum else self._slot(t.out))
        return MapBody(self.shape, step, names, outs, raw), [*places, self.count]
