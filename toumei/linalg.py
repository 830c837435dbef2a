"""Linear algebra: `toumei.linalg`, with the names of torch.linalg."""

from __future__ import annotations

from .ops.linalg import linalg_cross as cross
from .ops.linalg import matmul, multi_dot, vecdot

__all__ = [
    "cross",
    "matmul",
    "multi_dot",
    "vecdot",
]
