"""The kernels of single ops, by the name of the op's class.

    generator = KERNELS.get(type(op).__name__)
    kernels = generator("name", op, inputs, outputs, target) if generator else None

Buffers of all of them: the op's inputs, its outputs, a workspace if one of the kernels wants it,
and, where an op has indices (FLAGGED), the flag for those out of range.
"""

from __future__ import annotations

from . import axismap, indexing, pooling, scans
from .kernel import Generator

KERNELS: dict[str, Generator] = {
    **pooling.KERNELS,
    **indexing.KERNELS,
    **scans.KERNELS,
    **axismap.KERNELS,
}

FLAGGED = frozenset(indexing.KERNELS)
