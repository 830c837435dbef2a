"""Large arrays taken in pieces that fit the cache, so that many passes cost little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..op import Array

#: Elements of a piece: 256 KiB of float32.
BLOCK = 65536


def in_blocks(xp: Any, function: Callable[..., Array], *arrays: Array, row: int = 1) -> Array:
    """Return function(xp, *arrays) for arrays of one shape, computed piece by piece.

    The function must treat rows of `row` elements independently; it gets pieces of shape
    (elements,), or (rows, row) if `row` isn't 1.  Small or scattered arrays it gets whole.
    """
    first = arrays[0]
    size, rows = first.size, max(1, BLOCK // row)
    if size <= rows * row or not all(a.flags.c_contiguous for a in arrays):
        return function(xp, *arrays)
    out = xp.empty_like(first)
    shape = (size,) if row == 1 else (size // row, row)
    flat, flat_out = [a.reshape(shape) for a in arrays], out.reshape(shape)
    for start in range(0, shape[0], rows):
        piece = slice(start, start + rows)
        flat_out[piece] = function(xp, *[a[piece] for a in flat])
    return out
