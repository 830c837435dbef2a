"""What generators of kernels for single ops have in common: a layout of memory, and a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .ir import Function
from .target import Target


class Memory(NamedTuple):
    """How an array lies in memory.

    Args:
        shape: of the array.
        strides: of each dimension, in elements.
        dtype: of the elements in the IR: "float", "double", "i64", "i8" …; unsigned ones as well.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Kernel:
    """A kernel and how it is run; the fields are those of a program's Step.

    Args:
        function: void (ptr buffers, i64 begin, i64 end); writes the items begin … end - 1.
        items: how many there are.
        chunk: items that a thread takes at a time, 0: the runtime's choice.
        barrier: whether it has to wait for the kernels before.
        scratch: bytes of memory that each thread needs.
        serial: whether all items are one thread's.
        workspace: bytes of a buffer that the op's kernels share: the most that one of them says.
    """

    function: Function
    items: int
    chunk: int = 0
    barrier: bool = True
    scratch: int = 0
    serial: bool = False
    workspace: int = 0


# generator(name, op, inputs, outputs, target): the kernels of an op, to be run in this order; None
# where there are none for it (as 3-d windows, or dtypes): then its NumPy forward has to do.
Generator = Callable[[str, Any, Sequence[Memory], Sequence[Memory], Target], list[Kernel] | None]
