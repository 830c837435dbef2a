"""Kernels that read and write where index arrays point: embeddings, indexing, gather and scatter.

    kernels = KERNELS["Embedding"]("rows", op, [weight, index], [y], target)

Buffers: the op's inputs, its output, the workspace where a kernel says that it wants one, and last
a flag (i64), into which 1 is stored when an index was out of range; it is never reset.  Memory
outside of the table isn't touched even so.

Reads are cut into items anyhow.  Where values go to the table, an item owns a part of the table for
which it goes through all indices in their order: so sums have the same order however many threads
there are, and of several values put at one place the last one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .indexing_spec import IndexSpec, along_spec, places_spec
from .integers import Number, as_value, plus, remainder, times
from .ir import SIZES, Function, Value, vector
from .kernel import Generator, Kernel, Memory, kernel_function
from .strided import (
    Blocks,
    Dim,
    Offsets,
    blocks,
    count,
    dims,
    locate,
    moved,
    read,
    sweep,
    sweep_block,
)
from .target import Target

__all__ = ["KERNELS", "IndexSpec", "copy", "emit", "fill"]

_WORK = 4096  # elements that are worth a work item
_SLICES = 4  # pieces of a row that threads may share


def emit(name: str, spec: IndexSpec, target: Target) -> list[Kernel]:
    """Write the kernel of an IndexSpec, and the one that counts how often rows are used."""
    kernels = []
    if spec.counts >= 0:
        kernels.append(_counter(f"{name}_counts", spec))
    writer = Reader if spec.kind == "read" else Writer
    return [*kernels, writer(name, spec, target).kernel()]


class Indexer:
    """A kernel that is being written."""

    def __init__(self, name: str, spec: IndexSpec, target: Target) -> None:
        self.spec, self.lanes = spec, target.lanes(spec.element)
        self.f = kernel_function(name)

    def row(self, offsets: Offsets, inner: Sequence[Dim]) -> None:
        """Write what is done with the inner dimensions of one place."""
        f, spec = self.f, self.spec
        if not spec.by_row:  # there is an index for each element
            sweep(f, inner, offsets, 1, lambda o, lanes: self.element(*self.found(o), lanes, 1, 1))
            return
        table, value, share = self.found(offsets)
        two = [Dim(d.size, d.steps[:2]) for d in inner]
        steps = two[-1].steps if two else (1, 1)

        def body(o: Offsets, lanes: int) -> None:
            self.element(o[0], o[1], share, lanes, *steps)

        sweep(f, two, [table, value], self.lanes, body)

    def found(self, offsets: Offsets) -> tuple[Number, Number, Value | None]:
        """Return the offsets of table and values at a place, and what the place counts."""
        f, spec = self.f, self.spec
        table, value, *places = offsets
        row: Value | None = None
        for k, place in enumerate(places):
            row = position(f, spec, k, place)
            table = plus(f, times(f, row, spec.jumps[k]), table)
        assert row is not None
        return table, value, share(f, spec, row)

    def element(
        self, table: Number, value: Number, share: Value | None, lanes: int, *steps: int
    ) -> None:
        """Write what is done with some neighbouring elements of one place."""
        raise NotImplementedError


def position(f: Function, spec: IndexSpec, k: int, offset: Number) -> Value:
    """Return an index from an array; one that is out of range becomes 0 and raises the flag."""
    place = f.at(f.buffer(spec.buffers[2 + k]), offset, spec.indices[k])
    i = f.cast("sext", f.load(place, spec.indices[k]), "i64")
    size = spec.sizes[k]
    if spec.wraps:
        i = f.select(f.compare("slt", i, 0), f.add(i, size), i)
    wrong = f.compare("uge", i, size)
    with f.when(wrong):
        f.atomic_store(f.const("i64", 1), f.buffer(spec.flag), "monotonic")
    return f.select(wrong, f.const("i64", 0), i)


def share(f: Function, spec: IndexSpec, row: Value) -> Value | None:
    """Return what a use of a row counts; None: 1."""
    if spec.padding < 0 and spec.counts < 0:
        return None
    one = f.const(spec.element, 1.0)
    if spec.counts >= 0:
        uses = f.load(f.at(f.buffer(spec.counts), row, "i64"), "i64")
        one = f.fdiv(one, f.cast("sitofp", uses, spec.element))
    return f.select(f.compare("eq", row, spec.padding), f.const(spec.element, 0.0), one)


def _scaled(f: Function, x: Value, share: Value | None, element: str, lanes: int) -> Value:
    return x if share is None else f.fmul(x, f.splat(element, share, lanes))


class Reader(Indexer):
    """Values from a table."""

    def kernel(self) -> Kernel:
        """Return the kernel: items are pieces of the result."""
        f, spec = self.f, self.spec
        positions = [*spec.outer, *spec.middle]
        work = max(1, _WORK // max(1, count(spec.inner)))
        cut = blocks(positions, work, len(spec.buffers))
        items = 0 if spec.empty else cut.items
        with f.loop(f.args[1], f.args[2]) as loop:
            if 0 in spec.sizes:
                f.atomic_store(f.const("i64", 1), f.buffer(spec.flag), "monotonic")
            elif items:
                sweep_block(f, cut, loop.index, 1, lambda o, _: self.row(o, spec.inner))
        f.ret()
        return Kernel(f, items)

    def element(
        self, table: Number, value: Number, share: Value | None, lanes: int, *steps: int
    ) -> None:
        """Copy elements of the table to the values."""
        f, kind = self.f, self.spec.element
        x = read(f, f.buffer(self.spec.buffers[0]), table, kind, lanes, steps[0])
        x = _scaled(f, x, share, kind, lanes)
        f.store(x, f.at(f.buffer(self.spec.buffers[1]), value, kind))


class Writer(Indexer):
    """Values into a table that is there already: an item owns a slice of the table's rows."""

    def kernel(self) -> Kernel:
        """Return the kernel: items are pieces of the table's rows, each for all indices."""
        f, spec = self.f, self.spec
        *self.rest, self.last = spec.inner or [Dim(1, (1,) * len(spec.buffers))]
        self.width = self.slice_width()
        slices = -(-self.last.size // self.width)
        items = 0 if spec.empty else count(spec.outer) * slices
        with f.loop(f.args[1], f.args[2]) as loop:
            if 0 in spec.sizes:
                f.atomic_store(f.const("i64", 1), f.buffer(spec.flag), "monotonic")
            elif items:
                self.item(loop.index, slices)
        f.ret()
        return Kernel(f, items)

    def slice_width(self) -> int:
        """Return how long a piece of a row is: whole vectors, or what fills a line of the cache."""
        least = max(self.lanes, 64 // SIZES[self.spec.element])
        return max(1, -(-self.last.size // (_SLICES * least))) * least

    def item(self, index: Value, slices: int) -> None:
        """Write an item: a slice of the rows; the last slice may be narrower."""
        f, spec = self.f, self.spec
        part, outer = remainder(f, index, slices)
        start = locate(f, outer, spec.outer, [0] * len(spec.buffers))
        start = moved(f, start, self.last, times(f, part, self.width))
        rest = self.last.size % self.width
        if not rest or slices == 1:
            self.go_through(start, min(self.width, self.last.size))
            return
        is_last = f.compare("eq", as_value(f, part), slices - 1)
        with f.when(is_last):
            self.go_through(start, rest)
        with f.when(f.bits("xor", is_last, True)):
            self.go_through(start, self.width)

    def go_through(self, start: Offsets, width: int) -> None:
        """Write the loops over the indices, in their order."""
        inner = [*self.rest, Dim(width, self.last.steps)] if self.spec.inner else []
        sweep(self.f, self.spec.middle, start, 1, lambda o, _: self.row(o, inner))

    def element(
        self, table: Number, value: Number, share: Value | None, lanes: int, *steps: int
    ) -> None:
        """Combine values with the table's elements."""
        f, spec = self.f, self.spec
        x = read(f, f.buffer(spec.buffers[1]), value, spec.element, lanes, steps[1])
        x = _scaled(f, x, share, spec.element, lanes)
        place = f.at(f.buffer(spec.buffers[0]), table, spec.element)
        if spec.kind != "put":
            x = combined(f, spec.kind, f.load(place, vector(spec.element, lanes)), x)
        f.store(x, place)


def combined(f: Function, how: str, a: Value, b: Value) -> Value:
    """Return what becomes of two elements."""
    is_float = "float" in a.type or "double" in a.type
    if how in ("add", "mul"):
        return getattr(f, f"f{how}" if is_float else how)(a, b)
    if is_float:
        return f.fmax(a, b) if how == "max" else f.fmin(a, b)
    return f.select(f.compare("sgt" if how == "max" else "slt", a, b), a, b)


def _counter(name: str, spec: IndexSpec) -> Kernel:
    """Write the kernel that counts how often each row is used; one thread does it."""
    f = kernel_function(name)
    size = spec.sizes[0]
    with f.loop(f.args[1], f.args[2]):
        place = f.buffer(spec.counts)
        f.clear(place, 8 * size)

        def body(offsets: Offsets, _: int) -> None:
            at = f.at(place, position(f, spec, 0, offsets[2]), "i64")
            f.store(f.add(f.load(at, "i64"), 1), at)

        if size:
            sweep(f, spec.middle, [0] * len(spec.buffers), 1, body)
    f.ret()
    return Kernel(f, 1, serial=True, workspace=8 * size)


# --- what a table starts as ---


def fill(name: str, out: Memory, buffer: int, target: Target) -> Kernel:
    """Write the kernel that fills an array with zeros."""

    def body(f: Function, offsets: Offsets, lanes: int) -> None:
        zero = f.const(vector(out.dtype, lanes), 0)
        f.store(zero, f.at(f.buffer(buffer), offsets[0], out.dtype))

    return _over(name, dims(out.shape, out.strides), out.dtype, target, body)


def copy(name: str, x: Memory, out: Memory, buffers: tuple[int, int], target: Target) -> Kernel:
    """Write the kernel that copies an array to another one of its shape."""
    nest = dims(x.shape, x.strides, out.strides)

    def body(f: Function, offsets: Offsets, lanes: int) -> None:
        step = nest[-1].steps[0] if nest else 1
        value = read(f, f.buffer(buffers[0]), offsets[0], x.dtype, lanes, step)
        f.store(value, f.at(f.buffer(buffers[1]), offsets[1], x.dtype))

    return _over(name, nest, x.dtype, target, body)


def _over(
    name: str,
    nest: Sequence[Dim],
    element: str,
    target: Target,
    body: Callable[[Function, Offsets, int], None],
) -> Kernel:
    """Write a kernel that does the same to all elements."""
    f = kernel_function(name)
    cut: Blocks = blocks(nest, _WORK, len(nest[0].steps) if nest else 2)
    if cut.items:
        with f.loop(f.args[1], f.args[2]) as loop:
            sweep_block(f, cut, loop.index, target.lanes(element), lambda o, n: body(f, o, n))
    f.ret()
    return Kernel(f, cut.items)


# --- by op ---


def _embedding(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Write Embedding and EmbeddingRead: weight, index -> y."""
    counted = type(op).__name__ == "EmbeddingRead"
    flag = 4 if counted and op.by_freq else 3
    arrays = [inputs[0], outputs[0], inputs[1]]
    spec = places_spec("read", 0, arrays, (0, 2, 1), flag, wraps=False)
    if spec is None:
        return None
    if counted:
        spec = replace(spec, padding=op.padding_idx, counts=3 if op.by_freq else -1)
    return emit(name, spec, target)


def _embedding_grad(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Write EmbeddingGrad: g, index -> the table's gradient."""
    flag = 4 if op.by_freq else 3
    arrays = [outputs[0], inputs[0], inputs[1]]
    spec = places_spec("add", 0, arrays, (2, 0, 1), flag, wraps=False)
    if spec is None:
        return None
    spec = replace(spec, padding=op.padding_idx, counts=3 if op.by_freq else -1)
    return [fill(f"{name}_zero", outputs[0], 2, target), *emit(name, spec, target)]


def _index(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Write Index: x, places … -> y."""
    x, *places = inputs
    count_ = len(inputs)
    buffers = (0, count_, *range(1, count_))
    arrays = [x, outputs[0], *places]
    spec = places_spec("read", op.dim, arrays, buffers, count_ + 1, wraps=True)
    return None if spec is None else emit(name, spec, target)


def _placing(kind: str) -> Generator:
    """Return the generator of an op with x, source, places … -> y."""

    def generate(
        name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
    ) -> list[Kernel] | None:
        x, source, *places = inputs
        count_ = len(inputs)
        buffers = (count_, 1, *range(2, count_))
        arrays = [outputs[0], source, *places]
        spec = places_spec(kind, op.dim, arrays, buffers, count_ + 1, wraps=True)
        return None if spec is None else _onto(name, x, outputs[0], spec, target)

    return generate


def _gather(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Write Gather: x, index -> y."""
    spec = along_spec("read", op.dim, [inputs[0], outputs[0], inputs[1]], (0, 2, 1), 3)
    return None if spec is None else emit(name, spec, target)


def _scattering(kind: str) -> Generator:
    """Return the generator of an op with x, index, source -> y."""

    def generate(
        name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
    ) -> list[Kernel] | None:
        x, index, source = inputs
        spec = along_spec(kind, op.dim, [outputs[0], source, index], (3, 2, 1), 4)
        return None if spec is None else _onto(name, x, outputs[0], spec, target)

    return generate


def _onto(name: str, x: Memory, out: Memory, spec: IndexSpec, target: Target) -> list[Kernel]:
    """Write the kernels that copy x and change the copy."""
    first = copy(f"{name}_copy", x, out, (0, spec.buffers[0]), target)
    return [first, *emit(name, spec, target)]


KERNELS: dict[str, Generator] = {
    "Embedding": _embedding,
    "EmbeddingRead": _embedding,
    "EmbeddingGrad": _embedding_grad,
    "Index": _index,
    "IndexAdd": _placing("add"),
    "IndexPut": _placing("put"),
    "Gather": _gather,
    "ScatterAdd": _scattering("add"),
    "ScatterPut": _scattering("put"),
    "ScatterMul": _scattering("mul"),
    "ScatterMax": _scattering("max"),
    "ScatterMin": _scattering("min"),
}
