"""Kernels that draw random numbers: what eager draws, however the work is split."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
import pytest

from toumei.compiler.expr import dense
from toumei.compiler.llvm import drawing, jit
from toumei.compiler.llvm.ir import module
from toumei.compiler.llvm.kernel import Memory
from toumei.compiler.llvm.target import Target
from toumei.ops.draws import (
    CauchyDraw,
    ExponentialDraw,
    GeometricDraw,
    IntegerDraw,
    NormalDraw,
    UniformDraw,
)
from toumei.ops.dropping import DropMask

FLOAT, DOUBLE = np.dtype("float32"), np.dtype("float64")
KEYS = [np.array(k) for k in ([7, 3], [2**62 + 12345, -1])]
SIZES = (0, 1, 7, 8, 63, 64, 65, 4095, 4096, 10_001)
KEY = Memory((2,), (1,), "i64")


Drawn = np.ndarray[Any, Any]


@functools.cache
def compiled(target: Target) -> dict[Any, tuple[Any, int]]:
    """Return the kernels of all draws, by their makers, as functions and their items."""
    written = {}
    for i, make in enumerate(EXACT + CLOSE + SPLIT + SHAPED):
        op = make()
        kernels = drawing.emit_draw(f"draw{i}", op, [KEY], [memory(op)], target)
        assert kernels is not None
        (written[make],) = kernels
    functions = [k.function for k in written.values()]
    library = jit.Library(jit.compile_ir(module(functions), target), [f.name for f in functions])
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    found = {m: (entry(library.address(k.function.name)), k.items) for m, k in written.items()}
    for function, _ in found.values():
        function.library = library  # type: ignore[attr-defined]  # the code lives as long as it
    return found


def memory(op: Any) -> Memory:
    return Memory(op.shape, dense(op.shape), "float" if op.dtype == FLOAT else "double")


def native(make: Any, key: Drawn, target: Target, split: bool = False) -> Drawn:
    """Draw with the generated kernel; its items in one go, or each in a call of its own."""
    op = make()
    function, items = compiled(target)[make]
    out = np.full(op.count + 8, 77).astype(op.dtype)
    places = (ctypes.c_void_p * 2)(key.ctypes.data, out.ctypes.data)
    for begin, end in [(i, i + 1) for i in range(items)] if split else [(0, items)]:
        function(places, begin, end)
    assert (out[op.count :] == np.full(8, 77).astype(op.dtype)).all(), "written behind the end"
    return out[: op.count].reshape(op.shape)


@pytest.fixture(params=["host", "avx2", "generic"])
def target(request: pytest.FixtureRequest) -> Target:
    found = Target.named(request.param)
    if not found.runs_here():
        pytest.skip(f"this processor can't run {found.name}")
    return found


def draws(kind: Any, sizes: Any = SIZES, dtypes: Any = (FLOAT, DOUBLE), *fields: Any) -> list[Any]:
    """Return makers of an op for several sizes and dtypes: a maker is hashable, an op isn't."""
    return [functools.partial(kind, (n,), d, *fields) for n in sizes for d in dtypes]


EXACT = [
    *draws(UniformDraw),
    *draws(UniformDraw, (100,), (FLOAT, DOUBLE), -2.5, 7.1),
    *draws(DropMask, SIZES, (FLOAT,), 0.3, 1.5),
    *draws(DropMask, (1, 100), (DOUBLE,), 0.1, 1 / 0.9),
    *draws(DropMask, (100,), (FLOAT,), 1.0, 0.0),
    *draws(DropMask, (100,), (FLOAT,), 0.0, 1.0),
    *draws(IntegerDraw, SIZES, (np.dtype("int64"),), -3, 10),
    *draws(IntegerDraw, (100,), (np.dtype("int32"), np.dtype("uint8"), FLOAT), 0, 256),
    *draws(IntegerDraw, (100,), (np.dtype("int64"),), -(2**63), 2**63 - 1),
    *draws(IntegerDraw, (100,), (np.dtype("bool"),), 0, 2),
]
CLOSE = [
    *draws(NormalDraw),
    *draws(NormalDraw, (100,), (FLOAT, DOUBLE), 3.0, 0.5),
    *draws(ExponentialDraw, (1000,), (FLOAT, DOUBLE), 0.5),
    *draws(CauchyDraw, (1000,), (FLOAT, DOUBLE), 1.0, 2.0),
]
SPLIT = draws(NormalDraw, (10_001,)) + draws(DropMask, (4096, 10_001), (FLOAT,), 0.5, 2.0)
SHAPED = [functools.partial(UniformDraw, (3, 5, 7), FLOAT)]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_uniform_numbers_integers_and_masks_are_those_of_eager(key: Drawn, target: Target) -> None:
    for make in EXACT:
        want = make().forward(np, key)
        got = native(make, key, target)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want, err_msg=str(make()))


def test_other_numbers_differ_by_little(target: Target) -> None:
    for make in CLOSE:
        want = make().forward(np, KEYS[0])
        got = native(make, KEYS[0], target)
        near = 8 * np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=near, atol=near, err_msg=str(make()))


def test_the_split_of_the_work_does_not_matter(target: Target) -> None:
    for make in SPLIT:
        whole = native(make, KEYS[0], target)
        np.testing.assert_array_equal(native(make, KEYS[0], target, split=True), whole)


def test_shapes_are_filled_in_the_order_of_indices(target: Target) -> None:
    (make,) = SHAPED
    np.testing.assert_array_equal(native(make, KEYS[0], target), make().forward(np, KEYS[0]))


def test_what_has_no_kernel_is_refused() -> None:
    """What falls to NumPy: whole numbers of rounded logarithms, and memory with gaps."""
    target = Target.named("generic")
    geometric = GeometricDraw((4,), FLOAT)
    assert drawing.emit_draw("draw", geometric, [KEY], [memory(geometric)], target) is None
    uniform = UniformDraw((2, 4), FLOAT)
    gaps = Memory((2, 4), (1, 2), "float")
    assert drawing.emit_draw("draw", uniform, [KEY], [gaps], target) is None
