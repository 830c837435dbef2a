"""Generated kernels of indexing against the ops' NumPy forward."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from toumei.compiler.llvm.indexing import KERNELS
from toumei.op import REGISTRY
from toumei.ops.embeddings import Embedding, EmbeddingGrad, EmbeddingRead
from toumei.ops.indexing import Index, IndexAdd, IndexPut
from toumei.ops.scattering import Gather, ScatterAdd, ScatterMax, ScatterPut

from .kernels import TARGETS, Runner, each_target, memory, spaced, untouched

for _name in ("embeddings", "indexing", "scattering"):
    importlib.import_module(f"toumei.ops.{_name}")
OPS = {cls.__name__: cls for cls in REGISTRY.values()}
HOST = TARGETS[0]


def run(op: Any, inputs: Sequence[np.ndarray], target: Any = HOST, gap: int = 0) -> Runner:
    """Compare a kernel with the op's forward."""
    expected = op.forward(np, *inputs)
    order = tuple(range(expected.ndim))
    out = spaced(expected.shape, expected.dtype, order, gap)
    runner = Runner(KERNELS[type(op).__name__], op, inputs, [out], target)
    runner(*inputs, out)
    tolerance = {4: 2e-6, 8: 1e-14}.get(out.itemsize if out.dtype.kind == "f" else 0, 0.0)
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=4 * tolerance)
    assert untouched(out, order, gap), "wrote between the rows"
    assert runner.flag[0] == 0
    return runner


def numbers(rng: Any, shape: Sequence[int], dtype: Any = np.float32, gap: int = 0) -> np.ndarray:
    """Return random numbers, rows apart in memory."""
    x = spaced(shape, dtype, tuple(range(len(shape))), gap)
    x[...] = rng.normal(size=shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 9, shape)
    return x


@each_target
@pytest.mark.parametrize("name", KERNELS)
def test_samples_of_the_registry(name: str, target: Any) -> None:
    done = 0
    for case in OPS[name].samples(np.random.default_rng(0)):
        run(case.op, case.inputs, target)
        done += 1
    assert done


@each_target
@pytest.mark.parametrize("width", [1, 16, 37, 512])
def test_embedding(width: int, target: Any) -> None:
    rng = np.random.default_rng(width)
    index = rng.integers(0, 11, (5, 9))
    for dtype in (np.float32, np.float64):
        run(Embedding(-1, False), (numbers(rng, (11, width), dtype, 2), index), target, gap=1)
        g = numbers(rng, (5, 9, width), dtype, 3)
        run(EmbeddingGrad(-1, False, 11), (g, index.astype(np.int32)), target, gap=1)


@pytest.mark.parametrize("padding", [-1, 3])
@pytest.mark.parametrize("by_freq", [False, True])
def test_embedding_with_padding_and_by_frequency(padding: int, by_freq: bool) -> None:
    rng = np.random.default_rng(1)
    index = rng.integers(0, 6, (7, 20)).T
    weight, g = numbers(rng, (6, 33)), numbers(rng, (20, 7, 33))
    grad = run(EmbeddingGrad(padding, by_freq, 6), (g, index))
    assert bool(grad.workspace) == by_freq
    run(EmbeddingRead(padding, by_freq), (weight, index))


CASES: list[tuple[int, tuple[int, ...], list[tuple[int, ...]]]] = [
    (0, (7, 40), [(9,)]),
    (1, (3, 7, 40), [(2, 4)]),
    (0, (5, 6, 17), [(3, 1), (1, 4)]),
    (1, (4, 9), [(50,)]),
    (0, (300,), [(3, 7)]),
    (2, (2, 3, 4, 5), [(4,), (4,)]),
    (1, (2, 3, 4), [(0,)]),
    (1, (2, 3, 4), [()]),
    (0, (5,), [()]),
    (0, (6, 3000), [(4,)]),
    (0, (6, 0), [(4,)]),
]


@pytest.mark.parametrize(("dim", "shape", "places"), CASES, ids=str)
def test_index(dim: int, shape: tuple[int, ...], places: Any) -> None:
    rng = np.random.default_rng(2)
    index = [rng.integers(-shape[dim + i], shape[dim + i], p) for i, p in enumerate(places)]
    for dtype in (np.float32, np.float64, np.int64, np.bool_):
        x = numbers(rng, shape, dtype, 1)
        run(Index(dim), (x, *index))
        shown = x[(slice(None),) * dim + tuple(index)].shape
        source = numbers(rng, shown, dtype)
        if dtype is not np.bool_:
            run(IndexAdd(dim), (x, source, *index))
        run(IndexPut(dim), (x, source, *index))
        run(IndexPut(dim), (x, np.zeros((), dtype), *index))
        if len(shown) > 1 and shown[-1]:
            run(IndexPut(dim), (x, source[..., -1:], *index))


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_gather_and_scatter(dim: int) -> None:
    rng = np.random.default_rng(3)
    shape = (4, 30, 18)
    places = tuple(50 if d == dim else n - 1 for d, n in enumerate(shape))
    index = np.asfortranarray(rng.integers(0, shape[dim], places))
    for dtype in (np.float32, np.float64):
        x, source = numbers(rng, shape, dtype, 2), numbers(rng, places, dtype, 1)
        run(Gather(dim), (x, index), gap=2)
        for op in (ScatterAdd(dim), ScatterPut(dim), ScatterMax(dim)):
            run(op, (x, index, source), gap=1)


def test_the_largest_of_what_meets_may_be_nan() -> None:
    source = np.array([1.0, np.nan, 2.0, 5.0], "f4")
    with np.errstate(invalid="ignore"):
        run(ScatterMax(0), (np.zeros(2, "f4"), np.array([0, 0, 0, 1]), source))


def test_adding_onto_a_constant_that_is_spread_out() -> None:
    rng = np.random.default_rng(4)
    zeros = np.broadcast_to(np.zeros((), "f4"), (20, 70))
    run(IndexAdd(0), (zeros, numbers(rng, (50, 70)), rng.integers(0, 20, 50)))


SPLIT = [
    (EmbeddingGrad(2, True, 9), [(40, 150)], (40,)),
    (IndexAdd(0), [(9, 150), (40, 150)], (40,)),
    (ScatterAdd(0), [(9, 150)], (40, 150)),
    (Index(0), [(9, 150)], (4000,)),
]


@pytest.mark.parametrize(("op", "shapes", "places"), SPLIT, ids=lambda x: type(x).__name__)
def test_the_split_does_not_matter(op: Any, shapes: Any, places: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    floats = [numbers(rng, s) for s in shapes]
    inputs = [*floats, rng.integers(0, 9, places)]
    if isinstance(op, ScatterAdd):
        inputs.append(numbers(rng, places))
    whole, cut = (np.empty_like(op.forward(np, *inputs)) for _ in range(2))
    kernels = Runner(KERNELS[type(op).__name__], op, inputs, [whole], HOST)
    assert kernels.kernels[-1].items > 1
    kernels(*inputs, whole)
    kernels(*inputs, cut, cuts=(0.2, 0.5, 0.9), order=-1)
    np.testing.assert_array_equal(whole, cut)


WRONG = [
    (Embedding(-1, False), [(4, 20)], 4),
    (Embedding(-1, False), [(4, 20)], -1),
    (Embedding(-1, False), [(0, 20)], 0),
    (EmbeddingGrad(-1, True, 4), [(6, 20)], 4),
    (EmbeddingGrad(-1, False, 4), [(6, 20)], 1 << 40),
    (Index(0), [(4, 20)], -5),
    (IndexAdd(0), [(4, 20), (6, 20)], 4),
    (Gather(0), [(4,)], -1),
]


@pytest.mark.parametrize(("op", "shapes", "wrong"), WRONG, ids=lambda x: str(x)[:20])
def test_an_index_out_of_range_is_told_and_touches_nothing(
    op: Any, shapes: Any, wrong: int
) -> None:
    rng = np.random.default_rng(6)
    inputs = [*(numbers(rng, s) for s in shapes), np.array([0, 0, wrong, 0, 0, 0])]
    rows = 4 if isinstance(op, EmbeddingGrad | IndexAdd) else 6
    guarded = np.full((rows + 20, 20) if inputs[0].ndim > 1 else rows + 20, 77, "f4")
    out = guarded[10:-10]
    runner = Runner(KERNELS[type(op).__name__], op, inputs, [out], HOST)
    runner(*inputs, out)
    assert runner.flag[0] == 1
    assert (guarded[:10] == 77).all() and (guarded[-10:] == 77).all()
    if shapes[0][0]:
        inputs[-1][:] = 0  # the flag stays until it is taken back
        runner(*inputs, out)
        assert runner.flag[0] == 1


def test_other_dtypes_have_no_kernel() -> None:
    x, index = memory(np.zeros((2, 3), "f4")), memory(np.zeros(2, "u1"))
    assert KERNELS["Index"]("op", Index(0), [x, index], [x], HOST) is None
    flags, good = memory(np.zeros(2, "?")), memory(np.zeros(2, "i8"))
    assert KERNELS["IndexAdd"]("op", IndexAdd(0), [flags, flags, good], [flags], HOST) is None
