"""What generators of kernels have in common: a layout of memory, a kernel and its function."""

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


def is_dense(memory: Memory) -> bool:
    """Tell whether an array's rows follow each other without gaps.

    >>> is_dense(Memory((2, 1, 3), (3, 7, 1), "float")), is_dense(Memory((2, 3), (4, 1), "float"))
    (True, False)
    """
    if 0 in memory.shape:
        return True
    expected = 1
    for size, stride in zip(memory.shape[::-1], memory.strides[::-1], strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def kernel_function(name: str, scratch: bool = False) -> Function:
    """Return the function of a kernel, still empty: void (ptr buffers, i64 begin, i64 end).

    Args:
        name: of the function.
        scratch: there is a fourth argument, the memory of the thread's own.
    """
    more = [("scratch", "ptr")] if scratch else []
    return Function(name, [("buffers", "ptr"), ("begin", "i64"), ("end", "i64"), *more])


@dataclass(frozen=True)
class Kernel:
    """A kernel and how it is run; the fields are those of a program's Step.

    Args:
        function: see `kernel_function`; it computes the items begin … end - 1.
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
