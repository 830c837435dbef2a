"""Runs a graph op by op with NumPy: slow, and right by definition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..config import run_quietly
from ..device import xp
from ..op import Array
from .checks import told
from .graph import Graph


class Reference:
    """A graph that each op's `forward` computes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        """Return the results, after writing the states."""
        return run_quietly(self._run, arguments, states)

    def _run(self, arguments: Sequence[Array], states: Sequence[Array]) -> list[Array]:
        graph = self.graph
        values: dict[int, Array] = dict(graph.constants)
        values.update(zip(graph.inputs, arguments, strict=True))
        values.update(zip(graph.states, states, strict=True))
        for call in graph.calls:
            arrays = [values[i] for i in call.inputs]
            if call.op.check is not None:
                told(call, call.op.check, arrays)
            found = told(call, partial(call.op.forward, xp), arrays)
            outs = found if type(found) is tuple else (found,)
            for number, out in zip(call.outputs, outs, strict=True):
                values[number] = np.asarray(out)
        results = [np.array(values[i], order="C") for i in graph.results]
        new = [(values[s], np.array(values[v])) for s, v in graph.writes.items()]
        for memory, array in new:
            np.copyto(memory, array)
        return results
