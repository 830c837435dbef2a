"""How a tensor lies in memory, as methods."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from .op import Array
from .tape import Value
from .traced import refuse_to_read


class MemoryMethods(Value):
    """Strides, offsets and addresses; in elements where PyTorch counts elements."""

    def element_size(self) -> int:
        """Return the bytes of one element."""
        return int(self._data.dtype.itemsize)

    def is_contiguous(self) -> bool:
        """Tell whether the elements lie in memory in the order of their indices."""
        return bool(self._layout().flags.c_contiguous)

    def stride(self, dim: int | None = None) -> Any:
        """Return how many elements apart neighbours lie, for all dimensions or for one."""
        steps = tuple(s // self._data.dtype.itemsize for s in self._layout().strides)
        return steps if dim is None else steps[dim]

    def storage_offset(self) -> int:
        """Return how many elements after the start of its memory it begins."""
        base = data = self._layout()
        while isinstance(base.base, np.ndarray):
            base = base.base
        return int((data.ctypes.data - base.ctypes.data) // self._data.dtype.itemsize)

    def data_ptr(self) -> int:
        """Return the address of the first element."""
        refuse_to_read("data_ptr()", "a compiled step finds memory anew at each call")
        return int(self._data.ctypes.data)

    def _layout(self) -> Array:
        """Return an array that lies in memory as this tensor does, or will."""
        if isinstance(self._data, np.ndarray):
            return self._data
        if isinstance(self._parent, MemoryMethods) and self._view is not None:
            shown = self._view.forward(np, self._parent._layout())
            return cast(Array, shown)
        return np.empty(self._data.shape, self._data.dtype)  # never touched: costs nothing
