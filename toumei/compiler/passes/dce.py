"""Dead code: what nobody reads isn't computed."""

from __future__ import annotations

from dataclasses import replace

from ..graph import Graph, leading_to


def drop_unused(graph: Graph) -> Graph:
    """Leave out the calls, constants and states that no result and no write needs."""
    needed = set(graph.wanted()) | set(graph.writes)
    calls = leading_to(graph.calls, needed)
    constants = {v: a for v, a in graph.constants.items() if v in needed}
    states = tuple(s for s in graph.states if s in needed)
    return replace(graph, calls=calls, constants=constants, states=states)
