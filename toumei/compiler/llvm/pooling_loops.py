"""The loops of a pooling kernel: rows and columns, and which of them lie within the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .integers import Number, as_value, larger_of, plus, remainder, smaller, smaller_of, times
from .ir import Function, Value, vector
from .kernel import kernel_function
from .pooling_spec import PoolSpec
from .strided import locate
from .target import Target
from .vec import INTEGER

UNROLLED_LOADS = 16  # of all vectors of a place whose code is written out


class Spot(NamedTuple):
    """Where a vector of results stands: an entry of the dimensions before, a place, channels."""

    lead: Number  # all dimensions but the windows' and the channels', as one; the last is fastest
    row: Number
    column: Number
    channel: Number  # the first of `lanes`; 0 where lanes aren't channels (spec.channels is 1)
    lanes: int


# epilogue(f, results, spot): what becomes of a vector of results; by default it is stored.
Epilogue = Callable[[Function, Value, Spot], None]


def number_vector(f: Function, element: str, number: Number, lanes: int) -> Value:
    """Return a vector of the number of a tap, as integers as wide as the elements."""
    kind = INTEGER[element]
    if isinstance(number, int):
        return f.const(vector(kind, lanes), number)
    return f.splat(kind, f.cast("trunc", number, kind), lanes)


def load_taps(f: Function, place: Value, stored: str, element: str, lanes: int) -> Value:
    """Load numbers of taps, as integers as wide as the elements."""
    found = f.load(place, vector(stored, lanes))
    return f.cast("zext", found, INTEGER[element])


class Pool:
    """A kernel that is being written."""

    def __init__(
        self, name: str, spec: PoolSpec, target: Target, epilogue: Epilogue | None = None
    ) -> None:
        self.spec, self.name, self.epilogue = spec, name, epilogue
        self.lead: Number = 0
        self.element = spec.elements[spec.large]
        self.lanes = target.lanes(self.element)
        self.f = kernel_function(name)
        self.helper: Function | None = None

    def function(self) -> Function:
        """Return the kernel: a loop over work items."""
        f = self.f
        if self.spec.items():
            with f.loop(f.args[1], f.args[2]) as loop:
                self.item(loop.index)
        f.ret()
        return f

    def item(self, index: Value) -> None:
        """Write a work item: some columns of a row."""
        f, spec, cut = self.f, self.spec, self.spec.cut()
        (top, bottom), (left, right) = spec.grid()
        part, rest = remainder(f, index, -(-(right - left) // cut))
        row, self.lead = remainder(f, rest, bottom - top)
        found = locate(f, self.lead, spec.lead, [0] * len(spec.elements))
        bases = [f.at(f.buffer(i), o, spec.elements[i]) for i, o in enumerate(found)]
        start = plus(f, times(f, part, cut), left)
        stop = smaller(f, plus(f, start, cut), right)
        self.columns(bases, plus(f, row, top), as_value(f, start), as_value(f, stop))

    def finish(self, f: Function, result: Value, place: Value, spot: Spot) -> None:
        """Write what becomes of a vector of results."""
        if self.epilogue is None:
            f.store(result, place)
        else:
            self.epilogue(f, result, spot)

    def columns(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write some columns of a row."""
        raise NotImplementedError

    def border(self) -> Function:
        """Return the function for columns that may lie at a border."""
        raise NotImplementedError

    def inside(self, row: Number, start: Value, stop: Value) -> tuple[Value, Value] | None:
        """Return the columns of a work item for which the quick code does; None if for none."""
        f, inner = self.f, self.spec.inner()
        if inner is None:
            return None
        (top, bottom), (left, right) = inner
        rows, columns = self.spec.grid()
        if columns != inner[1]:
            left_value, right_value = self.clamp(left, start, stop), self.clamp(right, start, stop)
        else:
            left_value, right_value = start, stop
        if rows != inner[0]:
            height = f.sub(as_value(f, row), top)
            is_inner = f.compare("ult", height, bottom - top)
            left_value = f.select(is_inner, left_value, stop)
            right_value = f.select(is_inner, right_value, stop)
        return left_value, right_value

    def clamp(self, x: Number, low: Value, high: Value) -> Value:
        """Return x, at least low and at most high."""
        f = self.f
        return smaller_of(f, larger_of(f, as_value(f, x), low), high)

    def place(
        self, f: Function, bases: Sequence[Value], i: int, row: Number, column: Number
    ) -> Value:
        """Return where an operand's element stands."""
        down, across = self.spec.steps[i]
        offset = plus(f, times(f, row, down), times(f, column, across))
        return f.at(bases[i], offset, self.spec.elements[i])

    def call_border(self, bases: Sequence[Value], row: Number, start: Value, stop: Value) -> None:
        """Write the computation of columns that may lie at a border."""
        f = self.f
        if self.helper is None:
            self.helper = self.border()
        with f.when(f.compare("slt", start, stop)):
            lead, at = as_value(f, self.lead), as_value(f, row)
            f.call_helper(self.helper, f.args[0], *bases, lead, at, start, stop)

    def new_helper(self) -> Function:
        """Return an empty function for the code at borders, with a row's arguments."""
        bases = ((f"base{i}", "ptr") for i in range(len(self.spec.elements)))
        numbers = ((name, "i64") for name in ("lead", "row", "start", "stop"))
        args = [("buffers", "ptr"), *bases, *numbers]
        return Function(f"{self.name}.border", args, private=True)
