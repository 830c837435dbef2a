"""The graph of a step: which op is applied to which values.  Plain data, made by `trace`.

Values are numbers; each is defined once: as an input, a state, a constant, or by a call.  A pass is
a function Graph -> Graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..debug import Place
from ..op import Array, Op, Spec


class Call(NamedTuple):
    """One op applied to some values."""

    op: Op
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    place: Place | None = None  # the user's line that caused it
    within: tuple[Op, tuple[Spec, ...]] | None = None  # the composite that it is a part of


@dataclass(frozen=True)
class Graph:
    """A step as data.

    Attributes:
        specs: shape and dtype of every value, by its number.
        calls: in an order in which every value is defined before it is used.
        inputs: values that each call of the step hands over: arguments, live numbers.
        states: values that memory outside of the step holds when it begins.
        constants: values that never change.
        results: values that the step returns.
        writes: by state, the value that its memory holds when the step has ended.
    """

    specs: Mapping[int, Spec]
    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    states: tuple[int, ...]
    constants: Mapping[int, Array]
    results: tuple[int, ...]
    writes: Mapping[int, int] = field(default_factory=dict)

    def users(self) -> dict[int, list[Call]]:
        """Return the calls that read each value."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            for value in dict.fromkeys(call.inputs):
                found.setdefault(value, []).append(call)
        return found

    def wanted(self) -> tuple[int, ...]:
        """Return the values that outlive the step."""
        return (*self.results, *self.writes.values())

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def leading_to(calls: Sequence[Call], values: set[int]) -> tuple[Call, ...]:
    """Return the calls that some values need; what those read is added to the values."""
    found: list[Call] = []
    for call in reversed(calls):
        if not values.isdisjoint(call.outputs):
            values.update(call.inputs)
            found.append(call)
    return tuple(reversed(found))


def once(array: Array) -> Array:
    """Return an array without its repetitions: of what a broadcast repeats the first."""
    if 0 not in array.strides:
        return array
    return array[tuple([slice(None) if stride else slice(1) for stride in array.strides])]


def _lines(graph: Graph) -> Iterable[str]:
    for role, values in (
        ("input", graph.inputs),
        ("state", graph.states),
        ("const", tuple(graph.constants)),
    ):
        for value in values:
            yield f"%{value}: {graph.specs[value]} = {role}"
    for call in graph.calls:
        left = ", ".join(f"%{v}: {graph.specs[v]}" for v in call.outputs)
        fields = [f"{f}={getattr(call.op, f)!r}" for f in call.op.fields]
        right = ", ".join([*(f"%{v}" for v in call.inputs), *fields])
        yield f"{left} = {call.op.name}({right})"
    for state, value in graph.writes.items():
        yield f"write %{state} <- %{value}"
    yield f"return {', '.join(f'%{v}' for v in graph.results)}"
