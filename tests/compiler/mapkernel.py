"""A map kernel as small as can be: an expression of dense arrays, evaluated natively.

It is what the tests of expressions and of ops' `lower` run: a loop over vectors and a masked tail.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from toumei.compiler.expr import Expr, Index, Read
from toumei.compiler.llvm import jit
from toumei.compiler.llvm.elements import (
    Elements,
    load_element,
    memory_type,
    ramp,
    store_element,
)
from toumei.compiler.llvm.integers import tail_mask
from toumei.compiler.llvm.ir import Function, Value, module
from toumei.compiler.llvm.target import Target
from toumei.op import DType

Array = np.ndarray[Any, Any]


def arguments(dtypes: Sequence[DType]) -> list[Read]:
    """Return the leaves of a function of arrays: argument i is value i, along one dimension."""
    return [Read(i, d, (1,)) for i, d in enumerate(dtypes)]


def kernel(name: str, expr: Expr, count: int, target: Target, lanes: int) -> Function:
    """Write name(arrays, n): the array after `count` others becomes an expression of them."""
    f = Function(name, [("arrays", "ptr"), ("n", "i64")])
    n = f.args[1]
    arrays = [f.buffer(i) for i in range(count + 1)]
    whole = f.mul(f.bits("ashr", n, lanes.bit_length() - 1), lanes)

    def element(first: Value, mask: Value | None) -> None:
        def load(leaf: Read | Index) -> Value:
            step = leaf.strides[0]
            if isinstance(leaf, Index):
                return ramp(f, f.add(f.mul(first, step), leaf.offset), step, lanes)
            index = f.add(f.mul(first, step), leaf.offset)
            place = f.at(arrays[leaf.value], index, memory_type(leaf.dtype))
            return load_element(f, place, leaf.dtype, lanes, step, mask)

        y = Elements(f, target, lanes, load)(expr)
        place = f.at(arrays[-1], first, memory_type(expr.dtype))
        store_element(f, y, place, expr.dtype, 1, mask)

    with f.loop(0, whole, lanes) as loop:
        element(loop.index, None)
    left = f.sub(n, whole)
    with f.when(f.compare("sgt", left, 0)):
        element(whole, tail_mask(f, left, lanes))
    f.ret()
    return f


def build(kernels: Sequence[Function], target: Target) -> dict[str, Any]:
    """Compile kernels into one library; return them by name, to be called."""
    library = jit.Library(jit.compile_ir(module(kernels), target), [f.name for f in kernels])
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    found = {f.name: entry(library.address(f.name)) for f in kernels}
    for function in found.values():
        function.library = library  # type: ignore[attr-defined]  # the code lives as long as it
    return found


def call(function: Any, arrays: Sequence[Array], out: Array) -> Array:
    """Fill `out` by a compiled kernel."""
    places = [a.ctypes.data for a in (*arrays, out)]
    function((ctypes.c_void_p * len(places))(*places), out.size)
    return out


def evaluate(expr: Expr, arrays: Sequence[Array], n: int, target: Target, lanes: int) -> Array:
    """Evaluate an expression of arrays natively; what lies behind the result stays as it is."""
    made = build([kernel("evaluate", expr, len(arrays), target, lanes)], target)
    room = np.full(n + 64, 77).astype(expr.dtype)
    call(made["evaluate"], arrays, room[:n])
    untouched = np.full(64, 77).astype(expr.dtype)
    assert np.array_equal(room[n:], untouched), "written behind the end"
    return room[:n]
