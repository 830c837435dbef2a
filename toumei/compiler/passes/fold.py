"""Constants: what depends on nothing but constants is computed once, while compiling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...config import run_quietly
from ...device import xp
from ...op import Array, Random, Refused
from ..graph import Call, Graph

LARGEST = 1 << 18  # elements: a larger constant would be read from memory for nothing


def fold_constants(graph: Graph) -> Graph:
    """Replace calls whose inputs are all constants by what they compute."""
    constants = dict(graph.constants)
    calls: list[Call] = []
    for call in graph.calls:
        if not _is_constant(call, constants, graph):
            calls.append(call)
            continue
        found = run_quietly(call.op.forward, xp, *(constants[v] for v in call.inputs))
        outs = found if type(found) is tuple else (found,)
        for v, array in zip(call.outputs, outs, strict=True):
            constants[v] = np.array(array, graph.specs[v].dtype)
    if len(calls) == len(graph.calls):
        return graph
    return replace(graph, calls=tuple(calls), constants=constants)


def _is_constant(call: Call, constants: dict[int, Array], graph: Graph) -> bool:
    if isinstance(call.op, Random) or not all(v in constants for v in call.inputs):
        return False
    if any(graph.specs[v].size > LARGEST for v in call.outputs):
        return False
    try:
        if call.op.check is not None:
            call.op.check(*(constants[v] for v in call.inputs))
    except Refused:  # it speaks when it runs
        return False
    return True
