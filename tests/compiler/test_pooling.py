"""Generated pooling kernels against the ops' NumPy forward, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toumei.compiler.llvm import pooling as pooling_kernels
from toumei.compiler.llvm.integers import as_value
from toumei.compiler.llvm.ir import Function, Value
from toumei.compiler.llvm.pooling import KERNELS
from toumei.ops import pooling
from toumei.ops.pooling import MaxPool, MaxTaps, Pooling, PutTaps, SumWindows

from .kernels import TARGETS, Runner, each_target, memory, spaced, untouched

FORWARD = ("MaxPool", "MaxTaps", "TakeTaps", "SumWindows", "TapIndices")
KINDS = {
    "MaxPool": "max", "SumWindows": "sum", "PutTaps": "put", "SpreadWindows": "spread",
    "TakeTaps": "take",
}  # fmt: skip

# sizes, kernel, stride, padding, dilation, lead
SHAPES: list[tuple[Any, ...]] = [
    ((6, 8), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (2, 33)),
    ((7, 9), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (2, 16)),
    ((7, 9), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (3, 5)),
    ((6, 7), (3, 2), (1, 1), ((1, 1), (1, 0)), (1, 1), (1, 100)),
    ((9, 8), (3, 2), (2, 1), ((0, 1), (1, 1)), (2, 3), (2, 7)),
    ((7, 5), (2, 1), (3, 4), ((0, 0), (0, 0)), (1, 1), (2, 17)),
    ((5, 6), (2, 2), (2, 2), ((0, 1), (0, 0)), (1, 1), (4,)),
    ((7, 7), (7, 7), (1, 1), ((0, 0), (0, 0)), (1, 1), (2, 15)),
    ((20, 20), (18, 17), (1, 2), ((3, 3), (0, 0)), (1, 1), (2, 1)),
    ((300,), (2,), (2,), ((0, 0),), (1,), (1, 64)),
    ((301,), (3,), (1,), ((1, 1),), (1,), (2, 3)),
    ((1,), (1,), (1,), ((0, 0),), (1,), (3, 31)),
    ((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (0, 3)),
]  # fmt: skip
SOME = SHAPES[1:3]


def orders(rank: int, spatial: int) -> list[tuple[int, ...]]:
    """Return orders of the dimensions in memory: as they are, and channels last."""
    plain = tuple(range(rank))
    channels = rank - spatial - 1
    return [plain, (*(d for d in plain if d != channels), channels)]


def laid(x: np.ndarray, order: tuple[int, ...], gap: int) -> np.ndarray:
    out = spaced(x.shape, x.dtype, order, gap)
    out[...] = x
    return out


def arguments(op: Pooling, lead: tuple[int, ...], dtype: Any, seed: int) -> tuple[Any, ...]:
    """Return inputs with ties, infinities and NaNs."""
    rng = np.random.default_rng(seed)
    name = type(op).__name__
    windows = (*lead, *op.counts())
    x = rng.integers(-3, 4, (*lead, *op.sizes)).astype(dtype)
    x[rng.random(x.shape) < 0.03] = np.nan
    x[rng.random(x.shape) < 0.1] = -np.inf
    taps = op.other(MaxTaps).tap_dtype()  # type: ignore[attr-defined]
    found = rng.integers(0, np.prod(op.kernel), windows).astype(taps)
    if name == "MaxTaps":
        return x, op.other(MaxPool).forward(np, x)
    if name == "TapIndices":
        return (found,)
    g = x if name in FORWARD else rng.normal(size=windows).astype(dtype)
    return (g, found) if name.endswith("Taps") else (g,)


def check(name: str, shape: tuple[Any, ...], dtype: Any, target: Any, seed: int = 0) -> None:
    *fields, lead = shape
    op: Any = getattr(pooling, name)(*fields)
    inputs = arguments(op, lead, dtype, seed)
    with np.errstate(invalid="ignore"):
        expected = op.forward(np, *inputs)
    for order, gap in zip(orders(expected.ndim, len(op.sizes)), (0, 3), strict=True):
        given = [laid(x, order, gap) for x in inputs]
        out = spaced(expected.shape, expected.dtype, order, gap)
        Runner(KERNELS[name], op, given, [out], target)(*given, out)
        np.testing.assert_array_equal(out, expected)
        assert untouched(out, order, gap), "wrote between the rows"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_shapes_and_layouts(name: str, dtype: Any) -> None:
    for shape in SHAPES if dtype == np.float32 else SHAPES[2:5]:
        check(name, shape, dtype, TARGETS[0])


@each_target
@pytest.mark.parametrize("name", KERNELS)
def test_targets(name: str, target: Any) -> None:
    for shape in SOME:
        check(name, shape, np.float32, target, seed=1)


@pytest.mark.parametrize("name", KERNELS)
def test_samples_of_the_registry(name: str) -> None:
    done = 0
    for case in getattr(pooling, name).samples(np.random.default_rng(2)):
        out = np.empty_like(case.op.forward(np, *case.inputs))
        if len(case.op.sizes) > 2:  # type: ignore[attr-defined]
            continue
        Runner(KERNELS[name], case.op, case.inputs, [out], TARGETS[0])(*case.inputs, out)
        np.testing.assert_array_equal(out, case.op.forward(np, *case.inputs))
        done += 1
    assert done == 2


@pytest.mark.parametrize("name", KERNELS)
def test_the_split_does_not_matter(name: str) -> None:
    *fields, lead = SHAPES[2]
    op: Any = getattr(pooling, name)(*fields)
    inputs = [laid(x, (0, 2, 3, 1), 0) for x in arguments(op, lead, np.float32, 3)]
    whole, cut = (np.empty_like(op.forward(np, *inputs)) for _ in range(2))
    run = Runner(KERNELS[name], op, inputs, [whole], TARGETS[0])
    run(*inputs, whole)
    run(*inputs, cut, cuts=(0.1, 0.35, 0.8), order=-1)
    np.testing.assert_array_equal(whole, cut)


@each_target
def test_largest_and_its_tap_at_once(target: Any) -> None:
    for shape in (SHAPES[0], *SHAPES[2:6]):
        *fields, lead = shape
        op = MaxPool(*fields)
        x = laid(arguments(op, lead, np.float32, 4)[0], orders(len(lead) + 2, 2)[1], 0)
        y = np.empty_like(op.forward(np, x))
        found = np.empty_like(y, dtype="u1")
        Runner(KERNELS["MaxPool"], op, [x], [y, found], target)(x, y, found)
        np.testing.assert_array_equal(y, op.forward(np, x))
        np.testing.assert_array_equal(found, op.other(MaxTaps).forward(np, x, y))


def test_one_row_makes_several_items() -> None:
    op = SumWindows((1000,), (2,), (2,), ((0, 0),), (1,))
    x = np.random.default_rng(5).normal(size=(1, 1000, 64)).transpose(0, 2, 1)
    y = np.empty_like(op.forward(np, x))
    run = Runner(KERNELS["SumWindows"], op, [x], [y], TARGETS[0])
    assert run.kernels[0].items > 4
    run(x, y)
    np.testing.assert_array_equal(y, op.forward(np, x))


def test_what_has_no_kernel_says_so() -> None:
    three = MaxPool((2, 2, 2), (1, 1, 1), (1, 1, 1), ((0, 0),) * 3, (1, 1, 1))
    cases = [
        (three, np.zeros((2, 2, 2), "f4")),
        (MaxPool((2,), (1,), (1,), ((0, 0),), (1,)), np.zeros(2, "i8")),
        (PutTaps((1,), (1,), (1,), ((-1, 2),), (1,)), np.zeros(2, "f4")),
    ]
    for op, x in cases:
        generator = KERNELS[type(op).__name__]
        assert generator("op", op, [memory(x)], [memory(x)], TARGETS[0]) is None


@pytest.mark.parametrize("name", ["MaxPool", "SumWindows", "PutTaps", "SpreadWindows", "TakeTaps"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_epilogue(name: str, channels_last: bool) -> None:
    """It is told where the results stand: it adds a number that depends on the place."""
    *fields, lead = SHAPES[2]
    op: Any = getattr(pooling, name)(*fields)
    order = orders(4, 2)[channels_last]
    inputs = [laid(x, order, 0) for x in arguments(op, lead, np.float32, 6)]
    expected = op.forward(np, *inputs)
    marks = np.arange(expected.size, dtype="f4").reshape(expected.shape)
    out, twice = (laid(np.zeros_like(marks), order, 0) for _ in range(2))
    found = laid(marks, order, 0)
    arrays = [*inputs, out, found, twice]
    spec = pooling_kernels.spec_of(KINDS[name], op, [memory(x) for x in arrays[:-2]])
    assert spec is not None
    strides = [n // 4 for n in out.strides]

    def epilogue(f: Function, results: Value, spot: pooling_kernels.Spot) -> None:
        lead_, row, column, channel = (as_value(f, x) for x in spot[:4])
        if channels_last:
            at = [lead_, channel, row, column]
        else:  # the lead is batch and channel
            at = [f.udiv(lead_, lead[1]), f.urem(lead_, lead[1]), row, column]
        offset = f.const("i64", 0)
        for n, step in zip(at, strides, strict=True):
            offset = f.add(offset, f.mul(n, step))
        first = len(inputs)
        mark = f.load(f.at(f.buffer(first + 1), offset, "float"), results.type)
        f.store(results, f.at(f.buffer(first), offset, "float"))
        f.store(f.fadd(results, mark), f.at(f.buffer(first + 2), offset, "float"))

    def generate(name: str, *_: Any) -> Any:
        return pooling_kernels.emit(name, spec, TARGETS[0], epilogue)

    Runner(generate, op, inputs, [out], TARGETS[0])(*arrays)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(twice, expected + marks)
