"""Dead code: what nobody reads isn't computed."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Call, Graph


def drop_unused(graph: Graph) -> Graph:
    """Leave out the calls, constants and states that no result and no write needs."""
    needed = set(graph.wanted()) | set(graph.writes)
    kept: list[Call] = []
    for call in reversed(graph.calls):
        if any(v in needed for v in call.outputs):
            needed.update(call.inputs)
            kept.append(call)
    constants = {v: a for v, a in graph.constants.items() if v in needed}
    states = tuple(s for s in graph.states if s in needed)
    return replace(graph, calls=tuple(reversed(kept)), constants=constants, states=states)
