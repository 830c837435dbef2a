"""Row tiles: the sizes that all of a tile's code shares, and places within slots."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...op import DType
from ..rowplan import Plan
from .integers import Number
from .ir import SIZES, Function, Value, vector
from .target import Target

DTYPES: dict[str, DType] = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
MOST_VECTORS = 8  # of the rows of a tile
FEW = 16  # tiles: rather that many than larger ones


@dataclass(frozen=True)
class Shape:
    """The sizes that all steps share.

    Attributes:
        element: "float" or "double".
        lanes: of a vector.
        tile: rows of a tile.
        block: vectors of a register tile.
        target: the processor.
    """

    element: str
    lanes: int
    tile: int
    block: int
    target: Target

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return SIZES[self.element]

    @property
    def kind(self) -> str:
        """The type of a vector."""
        return vector(self.element, self.lanes)

    def column(self, f: Function, slot: Value, index: Number, step: int = 1) -> Value:
        """Return the address of a column of a slot."""
        if isinstance(index, int):
            return f.at(slot, index * step * self.tile, self.element)
        return f.at(slot, f.mul(index, step * self.tile), self.element) if step else slot


def shape_of(plan: Plan, target: Target) -> Shape:
    """Return the sizes for a plan: as many rows in a tile as there is room for."""
    element = {"float32": "float", "float64": "double"}[plan.dtype]
    lanes = target.lanes(element)
    block = 4 if target.registers >= 32 else 2
    vectors = block
    while 2 * vectors <= MOST_VECTORS and (
        plan.rows >= FEW * 2 * vectors * lanes and _fits(plan, 2 * vectors * lanes, element)
    ):
        vectors *= 2
    while vectors > 1 and not _fits(plan, vectors * lanes, element):
        vectors //= 2
    return Shape(element, lanes, vectors * lanes, min(block, vectors), target)


def _fits(plan: Plan, tile: int, element: str) -> bool:
    """Tell whether slots of so many rows leave room in the second cache for all else."""
    return plan.places(tile * SIZES[element])[1] <= second_cache() // 2


@functools.cache
def second_cache() -> int:
    """Return the bytes of a core's second cache; where the system doesn't say, 1 MiB."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(text.removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 20
