"""Common subexpressions: what is computed twice from the same values is computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from ...op import Array, Random
from ..graph import Call, Graph, once


def merge_equal_calls(graph: Graph) -> Graph:
    """Let calls of equal ops on the same values share their results; random draws stay apart."""
    same: dict[int, int] = {}  # a value, and the earlier one that it equals
    constants: dict[int, Array] = {}
    known: dict[Hashable, Any] = {}
    for value, array in graph.constants.items():
        key = (array.dtype, array.shape, once(array).shape, once(array).tobytes())
        same[value] = known.setdefault(key, value)
        constants.setdefault(same[value], array)
    calls: list[Call] = []
    for call in graph.calls:
        inputs = tuple([same.get(v, v) for v in call.inputs])
        made = (call.op.token(), inputs)
        earlier = known.get(made)
        if earlier is None or isinstance(call.op, Random):
            known[made] = call.outputs
            calls.append(call if inputs == call.inputs else call._replace(inputs=inputs))
        else:
            same.update(zip(call.outputs, earlier, strict=True))
    return replace(
        graph,
        calls=tuple(calls),
        constants=constants,
        results=tuple(same.get(v, v) for v in graph.results),
        writes={s: same.get(v, v) for s, v in graph.writes.items()},
    )
