"""From a graph of ops to nodes: the rules together.

`lowering` says what lowering is; the rules are in `rules_elements` (elementwise ops, views),
`rules_reductions` and `rules_memory` (values made of parts, ops with kernels of their own).
"""

from __future__ import annotations

from . import rules_elements, rules_memory, rules_reductions
from .graph import Graph
from .lowering import Lowering
from .nodes import Lowered


def lower(graph: Graph) -> Lowered:
    """Return a graph as nodes."""
    return Lowering(graph).run()


def lower_in_place(graph: Graph) -> Lowered:
    """Return a graph as nodes that read images where they are, whatever the order in memory.

    That is for an op by itself: an image that many read is worth putting its channels innermost.
    """
    return Lowering(graph, in_place=True).run()


__all__ = ["lower", "lower_in_place", "rules_elements", "rules_memory", "rules_reductions"]
