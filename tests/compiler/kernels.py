"""Running the generated kernels of single ops on arrays, for tests."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from toumei.compiler.llvm import jit
from toumei.compiler.llvm.ir import module
from toumei.compiler.llvm.kernel import Generator, Kernel, Memory
from toumei.compiler.llvm.target import Target

TARGETS = [t for t in map(Target.named, ("avx512", "avx2", "generic")) if t.runs_here()]
each_target = pytest.mark.parametrize("target", TARGETS, ids=[t.name for t in TARGETS])

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
KINDS = {
    "f4": "float",
    "f8": "double",
    "i8": "i64",
    "i4": "i32",
    "u1": "i8",
    "i1": "i8",
    "b1": "i8",
}


def memory(x: np.ndarray) -> Memory:
    """Return how an array lies in memory."""
    kind = KINDS[x.dtype.str[1:]]
    return Memory(x.shape, tuple(s // x.itemsize for s in x.strides), kind)


class Runner:
    """The kernels of an op, compiled, to be called on arrays like those that they are made for."""

    def __init__(self, generator: Generator, op: Any, inputs: Sequence[np.ndarray],
                 outputs: Sequence[np.ndarray], target: Target) -> None:  # fmt: skip
        kernels = generator("op", op, [*map(memory, inputs)], [*map(memory, outputs)], target)
        assert kernels is not None, f"no kernel for {op}"
        self.kernels: list[Kernel] = kernels
        functions = [k.function for k in kernels]
        names = [f.name for f in functions]
        self.library = jit.Library(jit.compile_ir(module(functions), target), names)
        self.calls = [KERNEL(self.library.address(name)) for name in names]
        self.workspace = max(k.workspace for k in kernels)
        self.flag = np.zeros(1, np.int64)

    def __call__(self, *arrays: np.ndarray, cuts: Sequence[float] = (), order: int = 1) -> None:
        """Run, the items cut at some fractions of them, in ascending or descending order."""
        guard = np.full(self.workspace + 64, 0xA5, np.uint8)
        extra = [guard.ctypes.data] if self.workspace else []
        places = [*(a.ctypes.data for a in arrays), *extra, self.flag.ctypes.data]
        buffers = (ctypes.c_void_p * len(places))(*places)
        for call, kernel in zip(self.calls, self.kernels, strict=True):
            ends = [0, *sorted(int(c * kernel.items) for c in cuts), kernel.items]
            for begin, end in list(itertools.pairwise(ends))[::order]:
                call(buffers, begin, end)
        assert (guard[self.workspace :] == 0xA5).all(), "wrote beyond the workspace"


def spaced(shape: Sequence[int], dtype: Any, order: Sequence[int], gap: int = 0) -> np.ndarray:
    """Return an array whose dimensions lie in memory in some order, with gaps between rows."""
    sizes = [shape[d] for d in order]
    if sizes:
        sizes[-1] += gap
    whole = np.full(sizes, 77, dtype)
    if order:
        whole = whole[..., : shape[order[-1]]]
    return whole.transpose(np.argsort(order))


def untouched(x: np.ndarray, order: Sequence[int], gap: int) -> bool:
    """Return whether what lies in the gaps of an array made by `spaced` is as it was."""
    if not gap or not x.size:
        return True
    rows = x.transpose(order)
    shape = (*rows.shape[:-1], rows.shape[-1] + gap)
    whole = np.lib.stride_tricks.as_strided(rows, shape, rows.strides)
    return bool((whole[..., -gap:][:-1] == 77).all())  # the last gap may lie outside
