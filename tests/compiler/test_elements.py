"""Expressions as vector code: dtypes, places in memory, what is shared, what branches."""

from __future__ import annotations

import ctypes
import mmap
import warnings
from typing import Any

import numpy as np
import pytest

from tests.compiler.mapkernel import Array, arguments, build, call, evaluate, kernel
from toumei.compiler.expr import Apply, Const, Expr, Index, Read
from toumei.compiler.llvm import jit
from toumei.compiler.llvm.elements import (
    Elements,
    load_element,
    memory_type,
    ramp,
    store_element,
)
from toumei.compiler.llvm.integers import tail_mask
from toumei.compiler.llvm.ir import Function, module
from toumei.compiler.llvm.target import Target
from toumei.compiler.scalar import Scalars

B = Scalars()
DTYPES = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
SIZES = (0, 1, 15, 16, 17, 100)
FLOAT, DOUBLE, LONG, BYTE, BOOL = map(np.dtype, ("f4", "f8", "i8", "u1", "?"))


@pytest.fixture(params=["host", "avx2", "generic"])
def target(request: pytest.FixtureRequest) -> Target:
    found = Target.named(request.param)
    if not found.runs_here():
        pytest.skip(f"this processor can't run {found.name}")
    return found


def numbers(dtype: Any, n: int, seed: int = 0) -> Array:
    """Return numbers that every dtype in question has."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    low = 0 if kind in "ub" else -100
    made = rng.integers(low, 2 if kind == "b" else 100, n).astype(dtype)
    return made + rng.random(n).astype(dtype) if kind == "f" else made


def text_of(expr: Expr, count: int = 1, name: str = "host") -> str:
    return str(kernel("f", expr, count, Target.named(name), 8))


# --- memory --------------------------------------------------------------------------------------


def copier(name: str, dtype: Any, lanes: int, steps: tuple[int | None, int | None]) -> Function:
    """Write f(arrays, n): copy n < `lanes` elements (or all) from array 0 to array 1.

    Steps are from one element to the next; None takes that number from array 2.
    """
    f = Function(name, [("arrays", "ptr"), ("n", "i64")])
    kind = np.dtype(dtype)
    read, write = (f.load(f.buffer(2), "i64") if s is None else s for s in steps)
    for mask in (None, tail_mask(f, f.args[1], lanes)):
        with f.when(f.compare("eq" if mask is None else "ne", f.args[1], lanes)):
            y = load_element(f, f.buffer(0), kind, lanes, read, mask)
            store_element(f, y, f.buffer(1), kind, write, mask)
    f.ret()
    return f


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_are_loaded_and_stored_at_any_distance(dtype: str, target: Target) -> None:
    lanes = 8
    steps = [(1, 1), (3, 1), (1, 3), (0, 1), (-1, 2), (None, None)]
    made = build([copier(f"copy{i}", dtype, lanes, s) for i, s in enumerate(steps)], target)
    x, unknown = numbers(dtype, 100), np.array([5])
    for i, (read, write) in enumerate(steps):
        r, w = 5 if read is None else read, 5 if write is None else write
        for n in range(1, lanes + 1):
            out, right = np.ones(100, dtype), np.ones(100, dtype)
            right[: w * n : w] = x[50 + r * np.arange(n)]
            places = (ctypes.c_void_p * 3)(x[50:].ctypes.data, out.ctypes.data, unknown.ctypes.data)
            made[f"copy{i}"](places, n)
            np.testing.assert_array_equal(out, right, err_msg=f"{dtype} {read} {write} {n}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tail_touches_nothing_behind_the_end(dtype: str, target: Target) -> None:
    """The arrays end where a page does, and the next page may be neither read nor written."""
    kind = np.dtype(dtype)
    made = build([copier("copy", dtype, 8, (1, 1)), copier("apart", dtype, 8, (2, 2))], target)
    protect = ctypes.CDLL(None).mprotect
    pages = [mmap.mmap(-1, 2 * mmap.PAGESIZE) for _ in range(2)]
    bytes_ = [np.frombuffer(p, np.uint8) for p in pages]
    try:
        for b in bytes_:
            assert protect(ctypes.c_void_p(b.ctypes.data + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
        for name, step in (("copy", 1), ("apart", 2)):
            size = (4 * step + 1) * kind.itemsize  # 5 elements, the last at the end
            x, y = (b[mmap.PAGESIZE - size : mmap.PAGESIZE].view(kind) for b in bytes_)
            x[:], y[:] = numbers(dtype, x.size), 0
            made[name]((ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data), 5)
            np.testing.assert_array_equal(y[::step], x[::step])
    finally:
        for b in bytes_:
            protect(ctypes.c_void_p(b.ctypes.data + mmap.PAGESIZE), mmap.PAGESIZE, 3)


def test_the_index_counts_as_its_strides_say(target: Target) -> None:
    for step, offset in ((1, 0), (3, -5), (0, 7), (-2, 2**40)):
        for n in SIZES:
            got = evaluate(Index((step,), offset), [], n, target, 4)
            np.testing.assert_array_equal(got, offset + step * np.arange(n))


def test_a_ramp_takes_numbers_that_are_only_known_later(target: Target) -> None:
    f = Function("f", [("arrays", "ptr"), ("n", "i64")])
    step = f.load(f.buffer(0), "i64")
    f.store(ramp(f, f.args[1], step, 8), f.buffer(1))
    f.ret()
    out = np.zeros(8, np.int64)
    call(build([f], target)["f"], [np.array([-3])], out)
    np.testing.assert_array_equal(out, 8 - 3 * np.arange(8))


# --- dtypes --------------------------------------------------------------------------------------


def test_conversions_are_those_of_numpy(target: Target) -> None:
    pairs = [(a, b) for a in DTYPES for b in DTYPES]
    kernels = []
    for i, (a, b) in enumerate(pairs):
        (x,) = arguments([np.dtype(a)])
        kernels.append(kernel(f"cast{i}", B.cast(x, np.dtype(b)), 1, target, 8))
    made = build(kernels, target)
    for i, (a, b) in enumerate(pairs):
        x = numbers(a, 37)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            right = x.astype(b)
        np.testing.assert_array_equal(call(made[f"cast{i}"], [x], np.empty(37, b)), right)


def test_bytes_have_no_sign_and_bools_are_no_numbers(target: Target) -> None:
    x, y = np.array([0, 1, 127, 128, 200, 255], BYTE), np.array([255, 1, 128, 127, 7, 200], BYTE)
    X, Y = arguments([BYTE, BYTE])
    for expr, right in (
        (B.add(X, Y), x + y),
        (B.mul(X, 201), x * BYTE.type(201)),
        (B.maximum(X, Y), np.maximum(x, y)),
        (B.lt(X, Y), x < y),
        (B.floor_divide(X, Y), x // y),
        (B.remainder(X, Y), x % y),
        (B.shift_right(X, 1), x >> 1),
        (B.where(B.gt(X, 127), X, 3), np.where(x > 127, x, 3)),
    ):
        got = evaluate(expr, [x, y], x.size, target, 4)
        np.testing.assert_array_equal(got, right, err_msg=repr(expr))
    p, q = np.array([0, 0, 1, 1], BOOL), np.array([0, 1, 0, 1], BOOL)
    P, Q = arguments([BOOL, BOOL])
    for expr, right in (
        (B.add(P, Q), p | q),
        (B.mul(P, Q), p & q),
        (B.lt(P, Q), p < q),
        (B.maximum(P, Q), p | q),
        (B.apply("not", P), ~p),
        (B.eq(P, Q), p == q),
        (B.where(P, Q, True), np.where(p, q, True)),
    ):
        got = evaluate(expr, [p, q], 4, target, 4)
        np.testing.assert_array_equal(got, right, err_msg=repr(expr))


def test_constants_of_every_dtype(target: Target) -> None:
    limits = {"uint8": 255, "int8": -128, "int64": -(2**63), "float32": -np.inf, "float64": np.nan}
    for dtype in DTYPES:
        value = limits.get(dtype, 1)
        got = evaluate(Const(value, np.dtype(dtype)), [], 5, target, 4)
        np.testing.assert_array_equal(got, np.full(5, value, dtype))


# --- what is shared ------------------------------------------------------------------------------


def test_what_is_shared_is_written_once() -> None:
    (x,) = arguments([FLOAT])
    once = B.exp(x)
    same = B.exp(Read(0, FLOAT, (1,)))  # equal, but another object
    alone, both = text_of(once), text_of(B.add(once, same))
    assert both.count("load <8 x float>") == alone.count("load <8 x float>") == 1
    assert both.count("fmul") == alone.count("fmul")
    assert both.count("fadd") == alone.count("fadd") + 2  # one for the vectors, one for the tail


def test_equal_functions_of_other_dtypes_are_others() -> None:
    """0 in int32 is written as 0 in int64 is."""
    (x,) = arguments([np.dtype("int8")])
    wide = B.cast(B.cast(x, np.dtype("int32")), LONG)
    both = B.add(wide, B.cast(B.cast(x, np.dtype("int64")), LONG))
    got = evaluate(both, [np.array([-3, 100], np.int8)], 2, Target.named("generic"), 2)
    np.testing.assert_array_equal(got, [-6, 200])


def test_zeros_of_either_sign_are_two_constants(target: Target) -> None:
    (x,) = arguments([FLOAT])
    signs = B.mul(B.copysign(x, Const(-0.0, FLOAT)), B.copysign(x, Const(0.0, FLOAT)))
    got = evaluate(signs, [np.full(3, 2, FLOAT)], 3, target, 4)
    np.testing.assert_array_equal(got, [-4, -4, -4])


def test_what_was_computed_before_a_branch_is_there_behind_it(target: Target) -> None:
    """The sine of large numbers branches; values from before, within and behind are combined."""
    x = np.array([0.5, 2e5, -3.0, 1e9, 1e5, 7.0, -2e7, 0.0, 1.0], DOUBLE)
    (X,) = arguments([DOUBLE])
    early, sine = B.mul(X, 3.0), B.sin(X)
    expr = B.add(B.add(B.mul(early, sine), B.cos(early)), B.add(B.mul(sine, sine), early))
    got = evaluate(expr, [x], x.size, target, 4)
    s = np.sin(x)
    np.testing.assert_allclose(got, 3 * x * s + np.cos(3 * x) + s * s + 3 * x, rtol=1e-14)


def test_expressions_may_be_deep() -> None:
    (x,) = arguments([LONG])
    deep: Expr = x
    for _ in range(5000):
        deep = B.add(deep, x)
    got = evaluate(deep, [np.array([1, -2])], 2, Target.named("generic"), 2)
    np.testing.assert_array_equal(got, [5001, -10002])


def test_expressions_that_are_gone_leave_nothing_behind() -> None:
    """An Elements that writes many short-lived expressions must not take one for another."""
    target = Target.named("generic")
    f = Function("f", [("arrays", "ptr"), ("n", "i64")])
    x = f.load(f.buffer(0), "<4 x float>")
    elements = Elements(f, target, 4, lambda leaf: x)
    for i in range(200):
        y = elements(B.add(Read(0, FLOAT, (1,)), float(i + 1)))
        f.store(y, f.at(f.buffer(1), 4 * i, "float"))
    f.ret()
    out = np.zeros(800, FLOAT)
    call(build([f], target)["f"], [np.zeros(4, FLOAT)], out)
    np.testing.assert_array_equal(out, np.repeat(np.arange(1, 201), 4))


# --- the rest ------------------------------------------------------------------------------------


def test_products_are_fused_with_sums_where_the_processor_can() -> None:
    x, y = arguments([FLOAT, FLOAT])
    for expr in (B.fma(x, y, 1.0), B.add(B.mul(x, y), 1.0)):
        for name, fused in (("avx2", True), ("generic", False)):
            target = Target.named(name)
            text = module([kernel("f", expr, 2, target, 8)])
            assert ("vfmadd" in jit.assembly(text, target)) == fused
    k = np.arange(5)
    (K,) = arguments([LONG])
    got = evaluate(B.fma(K, K, 7), [k], 5, Target.named("generic"), 2)
    np.testing.assert_array_equal(got, k * k + 7)


@pytest.mark.parametrize("lanes", [2, 8, 32])
def test_any_number_of_lanes(lanes: int, target: Target) -> None:
    x, y = numbers("f4", 100), numbers("f8", 100, 1)
    X, Y = arguments([FLOAT, DOUBLE])
    expr = B.where(B.lt(B.cast(X, DOUBLE), Y), B.exp(B.mul(Y, 0.01)), B.cast(B.abs(X), DOUBLE))
    with np.errstate(all="raise"):
        right = np.where(x < y, np.exp(y * 0.01), np.abs(x).astype("f8"))
    for n in SIZES:
        np.testing.assert_allclose(evaluate(expr, [x, y], n, target, lanes), right[:n], rtol=1e-14)


def test_memory_types() -> None:
    sizes = {"float": 4, "double": 8}
    for dtype in DTYPES:
        name = memory_type(np.dtype(dtype))
        assert sizes.get(name) or int(name[1:]) // 8 == np.dtype(dtype).itemsize


def test_an_unknown_function_is_an_error() -> None:
    (x,) = arguments([FLOAT])
    with pytest.raises(KeyError, match="no_such"):
        text_of(Apply("no_such", (x,), FLOAT))
