"""Generated kernels of scans and of arguments of extremes against the ops' NumPy forward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toumei.compiler.llvm.scans import KERNELS
from toumei.ops.reduction import Argmax, Argmin
from toumei.ops.scan import CumProd, CumSum, LinearScan

from .kernels import TARGETS, Runner, each_target, memory, spaced, untouched

OPS: dict[str, Any] = {c.__name__: c for c in (CumSum, CumProd, LinearScan, Argmax, Argmin)}
SHAPES: list[tuple[tuple[int, ...], int]] = [
    ((1,), 0), ((15,), 0), ((1003,), 0), ((5, 33), 1), ((40, 133), 0), ((3, 17, 20), 1),
    ((2, 3, 7), 2), ((70, 10), 1), ((0, 4), 1), ((2, 1, 65), 1),
]  # fmt: skip


def close(got: np.ndarray, expected: np.ndarray) -> None:
    """Compare to within the rounding of sums in another order."""
    if got.dtype.kind == "i":
        np.testing.assert_array_equal(got, expected)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max(initial=0.0)) or 1.0
    error = {4: 3e-6, 8: 1e-14}[got.itemsize]
    np.testing.assert_allclose(got, expected, rtol=error, atol=error * scale)


def laid(x: np.ndarray, order: tuple[int, ...], gap: int) -> np.ndarray:
    out = spaced(x.shape, x.dtype, order, gap)
    out[...] = x
    return out


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """Return an array in other memory, too, if it is float32: with gaps, transposed, backwards."""
    if x.dtype != np.float32:
        return [x]
    plain = tuple(range(x.ndim))
    backwards = np.ascontiguousarray(x[(slice(None, None, -1),) * x.ndim])
    return [
        x,
        laid(x, plain, 3),
        laid(x, plain[::-1], 2),
        backwards[(slice(None, None, -1),) * x.ndim],
    ]


@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
@pytest.mark.parametrize("name", ["CumSum", "CumProd", "LinearScan"])
def test_scans(name: str, shape: tuple[int, ...], dim: int) -> None:
    rng = np.random.default_rng(0)
    op = OPS[name](dim)
    for dtype in (np.float32, np.float64, np.int64):
        if dtype == np.int64 and name == "LinearScan":
            continue
        x = rng.uniform(-1.2, 1.2, shape) if dtype != np.int64 else rng.integers(-3, 4, shape)
        for given in layouts(x.astype(dtype)):
            inputs = [given] if name != "LinearScan" else [given, x.astype(dtype)]
            with np.errstate(all="ignore"):
                expected = op.forward(np, *inputs)
            for order in (tuple(range(x.ndim)), tuple(range(x.ndim))[::-1]):
                out = spaced(shape, dtype, order, 2)
                Runner(KERNELS[name], op, inputs, [out], TARGETS[0])(*inputs, out)
                close(out, expected)
                assert untouched(out, order, 2), "wrote between the rows"


@each_target
def test_targets(target: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(9, 77)).astype("f4")
    for op in (
        CumSum(0),
        CumSum(1),
        CumProd(0),
        CumProd(1),
        Argmax((0,), False),
        Argmin((1,), True),
    ):
        expected = op.forward(np, x)  # type: ignore[attr-defined]
        for given in layouts(x):
            out = np.empty_like(expected)
            Runner(KERNELS[type(op).__name__], op, [given], [out], target)(given, out)
            close(out, expected)


def test_a_running_sum_keeps_what_is_not_finite() -> None:
    x = np.ones((2, 60), "f4")
    x[0, 20], x[0, 40], x[1, 33] = np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = CumSum(1).forward(np, x)
    out = np.empty_like(x)
    Runner(KERNELS["CumSum"], CumSum(1), [x], [out], TARGETS[0])(x, out)
    np.testing.assert_array_equal(out, expected)


def test_running_products_do_not_overflow_on_the_way() -> None:
    x = np.array([[1e-30, 1e-30, 1e30, 1e30] * 20], "f4")
    out = np.empty_like(x)
    Runner(KERNELS["CumProd"], CumProd(1), [x], [out], TARGETS[0])(x, out)
    np.testing.assert_allclose(out, CumProd(1).forward(np, x), rtol=1e-5)


ARGS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1,), (0,)), ((200,), (0,)), ((7, 10), (1,)), ((7, 300), (1,)), ((130, 70), (0,)),
    ((3, 50, 9), (1,)), ((5, 40), (0, 1)), ((), ()), ((3, 4, 5), (0, 1, 2)), ((0, 3), (1,)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "dim"), ARGS, ids=str)
@pytest.mark.parametrize("name", ["Argmax", "Argmin"])
def test_arguments_of_extremes(name: str, shape: tuple[int, ...], dim: tuple[int, ...]) -> None:
    """With ties, infinities and several NaNs."""
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64, np.int64):
        for share in (0.0, 0.02, 1.0):
            x = np.asarray(rng.integers(-4, 5, shape)).astype(dtype)
            if dtype != np.int64:
                odd = [np.nan, np.inf, -np.inf]
                x = np.where(rng.random(shape) < share, rng.choice(odd, shape), x).astype(dtype)
            for keepdim in (False, True):
                op = OPS[name](dim, keepdim)
                expected = np.asarray(op.forward(np, x))
                for given in layouts(x):
                    out = np.full_like(expected, 77)
                    Runner(KERNELS[name], op, [given], [out], TARGETS[0])(given, out)
                    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("op", [CumSum(1), CumProd(1), CumSum(0), Argmax((1,), False)], ids=repr)
def test_the_split_does_not_matter(op: Any) -> None:
    x = np.random.default_rng(3).normal(size=(400, 100)).astype("f4")
    whole, cut = (np.empty_like(op.forward(np, x)) for _ in range(2))
    run = Runner(KERNELS[type(op).__name__], op, [x], [whole], TARGETS[0])
    assert run.kernels[0].items > 1
    run(x, whole)
    run(x, cut, cuts=(0.1, 0.6), order=-1)
    np.testing.assert_array_equal(whole, cut)


def test_other_dtypes_have_no_kernel() -> None:
    bytes_, out = memory(np.zeros(3, "u1")), memory(np.zeros((), "i8"))
    assert KERNELS["CumSum"]("op", CumSum(0), [bytes_], [bytes_], TARGETS[0]) is None
    assert KERNELS["Argmax"]("op", Argmax((0,), False), [bytes_], [out], TARGETS[0]) is None
