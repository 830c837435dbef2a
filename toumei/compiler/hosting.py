"""Epilogues: what a kernel's members make of an op's results while these are in registers.

Products and convolutions hand over vectors of results along their *column* axes; all axes before
these are *leading* ones.  The members' accesses must be linear along the columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from .axes import Sizes, merge
from .expr import Index, Read
from .llvm.elements import Elements, load_element, memory_type, ramp, store_element
from .llvm.integers import Number, linear, plus, split_index, times
from .llvm.ir import Function, Value, split
from .llvm.target import Target
from .llvm.writer import accesses
from .nest import RESULT, Statement


class Epilogue:
    """Writes statements for a vector of an op's results; it is called as matmul.Epilogue says.

    Args:
        statements: over the kernel's axes; Read(RESULT) is the vector of results.
        domain: sizes of the axes.
        lead: how many of them come before the columns.
        rows: of a batch entry, as the op counts them.
        first: the buffer that the statements' buffer 0 is.
        target: the processor.
    """

    def __init__(
        self, statements: Sequence[Statement], domain: Sizes, lead: int, rows: int, first: int,
        target: Target,
    ) -> None:  # fmt: skip
        self.statements, self.first, self.rows, self.target = statements, first, rows, target
        found = accesses(statements)
        self.sizes, walks = merge(domain[:lead], [s[:lead] for s, _ in found])
        columns = merge(domain[lead:], [s[lead:] for s, _ in found])[1]
        self.walks = dict(zip(found, walks, strict=True))
        self.steps = {a: c[-1] if c else 0 for a, c in zip(found, columns, strict=True)}
        self.block = ""
        self.loaded: dict[tuple[Read, str, int], Value] = {}
        self.places: dict[tuple[Sizes, int], Number] = {}

    def __call__(
        self, f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        if self.block != f.here + f.name:  # what was loaded in another block may not be there
            self.block, self.loaded = f.here + f.name, {}
        self.places = {}
        index = self._index(f, row, batch)
        lanes = split(sums.type)[1]
        values: list[Value] = []

        def load(leaf: Read | Index) -> Value:
            step = self.steps[leaf.strides, leaf.offset] if leaf.strides else 1
            if isinstance(leaf, Index):
                start = plus(f, self._start(f, leaf, index), times(f, column, step))
                return ramp(f, start, step, lanes)
            if leaf.value < 0:
                return sums if leaf.value == RESULT else values[-1 - leaf.value]
            return self._load(f, leaf, index, column, lanes, mask)

        elements = Elements(f, self.target, lanes, load)
        for s in self.statements:  # one may read those before it
            values.append(elements(s.expr))  # noqa: PERF401
        for s, value in zip(self.statements, values, strict=True):
            if s.out is not None:
                step = self.steps[s.out.strides, s.out.offset]
                place = self._place(f, s.out, index, column)
                store_element(f, value, place, s.out.dtype, step, mask)

    def ahead(self, f: Function, row: Value, column: Value, batch: Value) -> Value:
        """Return an address that will be written: the kernel fetches it while it computes."""
        out = next(s.out for s in self.statements if s.out is not None)
        self.places = {}
        return self._place(f, out, self._index(f, row, batch), column)

    def _index(self, f: Function, row: Value, batch: Value) -> list[Number]:
        """Return the indices along the merged leading axes."""
        if len(self.sizes) <= 1:
            return [plus(f, times(f, batch, self.rows), row)][: len(self.sizes)]
        if self.sizes[-1] == self.rows:
            return [*split_index(f, batch, self.sizes[:-1]), row]
        flat = plus(f, times(f, batch, self.rows), row)
        return split_index(f, flat, self.sizes)

    def _start(self, f: Function, access: Read | Index, index: Sequence[Number]) -> Number:
        key = (access.strides, access.offset)
        if key not in self.places:
            terms = [*zip(index, self.walks[key], strict=True)]
            self.places[key] = linear(f, terms, access.offset)
        return self.places[key]

    def _place(self, f: Function, access: Read, index: Sequence[Number], column: Value) -> Value:
        """Return the address of an element."""
        element = memory_type(access.dtype)
        base = f.at(f.buffer(self.first + access.value), self._start(f, access, index), element)
        return f.at(base, times(f, column, self.steps[access.strides, access.offset]), element)

    def _load(
        self, f: Function, leaf: Read, index: Sequence[Number], column: Value, lanes: int,
        mask: Value | None,
    ) -> Value:  # fmt: skip
        """Load a vector; one that all rows share is loaded once per block of code."""
        step = self.steps[leaf.strides, leaf.offset]
        key = (leaf, column.name if step else "", lanes)
        shared = not any(self.walks[leaf.strides, leaf.offset])
        if shared and key in self.loaded:
            return self.loaded[key]
        place = self._place(f, leaf, index, column)
        value = load_element(f, place, leaf.dtype, lanes, step, mask)
        if shared and not self._is_written(leaf):
            self.loaded[key] = value
        return value

    def _is_written(self, leaf: Read) -> bool:
        return any(s.out is not None and s.out.value == leaf.value for s in self.statements)
