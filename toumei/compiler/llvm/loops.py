"""Kernels of a Nest: loops over its axes, with expressions in vectors along the last one.

Two shapes of loops:

- "grid", where nothing is combined by row: rows outside, vectors of columns inside; or, to combine
  by column, columns outside and rows inside, the sums in registers.
- "row": a row is gone through in stages; what one stage combines is there for the next.  A short
  row stays in registers from stage to stage; of a long one each stage is a loop.

What is combined by column or along all axes is combined within each work item first; a second
kernel combines the items' results, always in the same order.
"""

from __future__ import annotations

from ..nest import Nest
from .kernel import Kernel
from .loop_columns import emit_columns
from .loop_grid import emit_grid
from .loop_rows import emit_rows
from .target import Target
from .writer import Writer, is_straight

__all__ = ["emit", "is_straight"]


def emit(name: str, nest: Nest, target: Target) -> list[Kernel]:
    """Write the kernels of a Nest.  Buffers: the Nest's, then the workspace."""
    w = Writer(name, nest, target)
    if nest.rows is not None:
        return emit_rows(w)
    if nest.columns is not None:
        return emit_columns(w)
    return emit_grid(w)
