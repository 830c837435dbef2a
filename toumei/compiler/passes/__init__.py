"""Passes: functions Graph -> Graph, one file each, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Graph
from .cse import merge_equal_calls
from .dce import drop_unused
from .decompose import decompose
from .fold import fold_constants
from .turn import turn_products

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    decompose,
    fold_constants,
    turn_products,
    merge_equal_calls,
    drop_unused,
)
