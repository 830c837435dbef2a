"""Large eager ops in generated kernels: what NumPy computes, in memory of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from toumei import eager
from toumei.compiler import single
from toumei.op import NATIVE, REGISTRY, Array, Case, Op
from toumei.ops.convolution import Convolution
from toumei.ops.pooling import MaxPool
from toumei.tape import apply
from toumei.testing import check_op

OPS = (
    "Convolution", "BiasedConvolution", "ConvolutionInputGrad", "ConvolutionWeightGrad",
    "MaxPool", "MaxTaps", "TakeTaps", "PutTaps", "SumWindows", "SpreadWindows",
    "Normalize", "NormalizeGrad",
)  # fmt: skip

PLAIN = Convolution((1, 1), ((1, 1), (1, 1)), (1, 1), 1)


def normal(*shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def results(found: Any) -> tuple[Array, ...]:
    return found if isinstance(found, tuple) else (found,)


def agree(op: Op, arrays: list[Array], dtype: str = "float64") -> None:
    """Compare the kernels' results with NumPy's, and look whose memory they are in."""
    found, wanted = single.run(op, arrays), op.forward(np, *arrays)
    assert found is not None, f"{op} has no kernels"
    for y, z in zip(results(found), results(wanted), strict=True):
        assert (y.shape, y.dtype) == (z.shape, z.dtype)
        close = 1e-11 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(y, z, rtol=close, atol=close * max(1.0, np.abs(z).max()))
        assert y.base is None and y.flags.writeable and y.flags.c_contiguous


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Begin with no programs: beyond some number they are made later."""
    single.clear()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Op]]:
    """Let ops of any size run in kernels; note which ones did."""
    done: list[Op] = []

    def run(op: Op, arrays: list[Array]) -> Any:
        found = single.run(op, arrays) if all(a.size for a in arrays) else None
        done.extend([op] if found is not None else [])
        return found

    for name in OPS:
        monkeypatch.setitem(NATIVE, REGISTRY[name], run)
    yield done


# --- what is computed ----------------------------------------------------------------------------


def test_all_are_asked() -> None:
    assert {cls.__name__ for cls in NATIVE} == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_all_that_an_op_promises(name: str, always: list[Op]) -> None:
    check_op(REGISTRY[name])
    assert name in {type(op).__name__ for op in always}


def conv_cases() -> Iterator[tuple[tuple[Any, ...], tuple[int, ...], tuple[int, ...]]]:
    yield ((1, 1), ((1, 1), (1, 1)), (1, 1), 1), (2, 19, 9, 7), (21, 19, 3, 3)
    yield ((2, 1), ((0, 2), (3, 0)), (1, 2), 1), (3, 5, 11, 10), (17, 5, 2, 3)
    yield ((1, 2), ((2, 2), (0, 1)), (2, 1), 3), (1, 6, 8, 9), (9, 2, 3, 1)
    yield ((1, 1), ((1, 1), (1, 1)), (1, 1), 8), (2, 8, 6, 7), (8, 1, 3, 3)
    yield ((3,), ((1, 2),), (2,), 1), (2, 7, 23), (18, 7, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fields, x, w", list(conv_cases()))
def test_convolutions_of_odd_shapes(
    fields: tuple[Any, ...], x: tuple[int, ...], w: tuple[int, ...], dtype: str
) -> None:
    xs, ws = normal(*x, dtype=dtype), normal(*w, dtype=dtype, seed=1)
    y = Convolution(*fields).forward(np, xs, ws)
    g = normal(*y.shape, dtype=dtype, seed=2)
    biased = REGISTRY["BiasedConvolution"](*fields)
    agree(biased, [xs, ws, normal(w[0], dtype=dtype)], dtype)
    agree(REGISTRY["ConvolutionInputGrad"](*fields, x[2:]), [g, ws], dtype)
    agree(REGISTRY["ConvolutionWeightGrad"](*fields, w[2:]), [g, xs], dtype)


def test_nan_and_infinity_go_through() -> None:
    x = normal(1, 2, 6, 6)
    x[0, 1, 2, 3], x[0, 0, 5, 5] = np.nan, -np.inf
    pool = MaxPool((6, 6), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    np.testing.assert_array_equal(single.run(pool, [x]), pool.forward(np, x))
    w = normal(3, 2, 3, 3)
    with np.errstate(all="ignore"):
        found, wanted = single.run(PLAIN, [x, w]), PLAIN.forward(np, x, w)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))


def test_memory_of_any_order() -> None:
    w = normal(5, 4, 3, 3)
    x = normal(2, 6, 7, 4)
    images = x.transpose(0, 3, 1, 2)
    assert single.order_in_memory(images) == (0, 2, 3, 1)
    gaps = normal(2, 4, 6, 14)[..., ::2]
    repeated = np.broadcast_to(normal(4, 1, 1), (2, 4, 6, 7))
    assert single.order_in_memory(gaps) is None
    for arrays in ([images, w], [gaps, w], [repeated, w], [images, w[..., ::-1]]):
        agree(PLAIN, arrays, "float32")


def test_the_same_bits_whatever_the_order_in_memory_and_the_threads() -> None:
    x, w = normal(2, 6, 30, 31), normal(18, 6, 3, 3)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    before, found = tm.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            tm.set_num_threads(threads)
            found += [single.run(PLAIN, [x, w]), single.run(PLAIN, [last, w])]
    finally:
        tm.set_num_threads(before)
    assert len({y.tobytes() for y in found}) == 1


# --- when ----------------------------------------------------------------------------------------


def large() -> tuple[tm.Tensor, tm.Tensor]:
    return tm.from_numpy(normal(16, 16, 33, 32)), tm.from_numpy(normal(24, 16, 3, 3))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which ops run in kernels."""
    done: list[str] = []

    def run(op: Op, arrays: list[Array]) -> Any:
        done.append(type(op).__name__)
        return single.run(op, arrays)

    monkeypatch.setattr(eager, "_compiler", lambda: run)
    return done


def test_large_ops_and_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    done = spied(monkeypatch)
    x, w = large()

    def run() -> list[Array]:
        y, v = x.detach().requires_grad_(), w.detach().requires_grad_()
        found = F.batch_norm(F.conv2d(y, v, padding=1), None, None, training=True)
        largest = F.max_pool2d(found, 2, 1)
        assert isinstance(largest, tm.Tensor)
        found = largest + F.avg_pool2d(found, 2, 1)
        (found * found).mean().backward()
        assert y.grad is not None and v.grad is not None
        return [t.detach().numpy() for t in (found, y.grad, v.grad)]

    native = run()
    assert set(done) == {*OPS} - {"BiasedConvolution", "TakeTaps"}
    tm.set_native_eager(False)
    try:
        plain = run()
    finally:
        tm.set_native_eager(True)
    for a, b in zip(native, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


def test_small_ops_integers_and_three_dimensions_stay_with_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = spied(monkeypatch)
    F.conv2d(tm.ones(1, 2, 8, 8), tm.ones(2, 2, 3, 3))
    F.max_pool2d(tm.ones(64, 64, 16, 16, dtype=tm.int64), 2)
    F.max_pool2d(tm.ones(1, 4, 16, 16), 2)
    assert done == []
    x, w = normal(2, 8, 12, 12, 12), normal(8, 8, 3, 3, 3)
    y = F.conv3d(tm.from_numpy(x), tm.from_numpy(w))
    assert done == ["Convolution"]
    wanted = Convolution((1,) * 3, ((0, 0),) * 3, (1,) * 3, 1).forward(np, x, w)
    np.testing.assert_array_equal(y.numpy(), wanted)


def test_misfits_are_refused_in_the_same_words() -> None:
    x, w = large()
    with pytest.raises(tm.errors.OpError, match="x has 16 channels, but w takes 15"):
        F.conv2d(x, w[:, :15])
    with pytest.raises(tm.errors.OpError, match="kernel of size 40 is larger"):
        F.conv2d(x, tm.ones(2, 16, 40, 3))


def test_a_few_programs_at_once_more_at_their_second_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "AT_ONCE", 2)
    monkeypatch.setattr(single, "LIMIT", 3)
    single.clear()
    w = normal(2, 2, 3, 3)

    def runs(size: int) -> bool:
        return single.run(PLAIN, [normal(1, 2, size, 5), w]) is not None

    assert [runs(n) for n in (5, 6, 7, 8, 5)] == [True, True, False, False, True]
    assert [runs(n) for n in (7, 8, 8)] == [True, True, True]
    assert len(single._programs) == 3
    single.clear()


# --- where it can't work -------------------------------------------------------------------------


def test_without_llvmlite_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    eager._compiler.cache_clear()
    x, w = large()
    try:
        with pytest.warns(RuntimeWarning, match="they need llvmlite"):
            y = F.conv2d(x, w)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            F.conv2d(x, w)
        assert not NATIVE
    finally:
        eager._compiler.cache_clear()
        tm.set_native_eager(True)
    plain = Convolution((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    np.testing.assert_array_equal(y.numpy(), plain.forward(np, x.numpy(), w.numpy()))


def test_a_failure_is_told_and_numpy_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(op: Op, arrays: list[Array]) -> Any:
        raise RuntimeError("no code today")

    monkeypatch.setattr(eager, "_compiler", lambda: fails)
    x, w = large()
    try:
        with pytest.warns(RuntimeWarning, match="RuntimeError: no code today"):
            assert F.conv2d(x, w).shape == (16, 24, 31, 30)
        assert not NATIVE
    finally:
        tm.set_native_eager(True)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_small_programs_never_read_the_compiler() -> None:
    code = (
        "import sys, toumei as tm, toumei.nn.functional as F\n"
        "F.max_pool2d(F.conv2d(tm.ones(2, 3, 9, 9), tm.ones(4, 3, 3, 3)), 2)\n"
        "print([m for m in sys.modules if 'llvm' in m or m == 'toumei.compiler'])\n"
        "F.conv2d(tm.ones(4, 16, 33, 32), tm.ones(24, 16, 3, 3))\n"
        "print('toumei.compiler.single' in sys.modules)"
    )
    assert python(code).splitlines() == ["[]", "True"]


# --- threads and processes -----------------------------------------------------------------------


def test_threads_run_the_same_program_at_once() -> None:
    inputs = [normal(4, 16, 33, 32, seed=i) for i in range(4)]
    w = normal(24, 16, 3, 3)
    wanted = [single.run(PLAIN, [x, w]).tobytes() for x in inputs]
    found: dict[int, list[bytes]] = {}

    def work(i: int) -> None:
        found[i] = [single.run(PLAIN, [inputs[i], w]).tobytes() for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {i: [wanted[i]] * 10 for i in range(4)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_goes_on() -> None:
    code = (
        "import os, toumei as tm, toumei.nn.functional as F\n"
        "tm.set_num_threads(2)\n"
        "x, w = tm.randn(4, 16, 33, 32), tm.randn(24, 16, 3, 3)\n"
        "y = F.conv2d(x, w)\n"
        "child = os.fork()\n"
        "same = bool((F.conv2d(x, w) == y).all())\n"
        "if not child: os._exit(0 if same else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), same)"
    )
    assert python(code) == "0 True"


def test_results_are_apart_from_each_other() -> None:
    x, w = large()
    first = apply(PLAIN, x, w)
    kept = first.numpy().copy()
    apply(PLAIN, x * 2, w).add_(1)
    np.testing.assert_array_equal(first.numpy(), kept)
    assert first.view(16, -1).shape == (16, 24 * 33 * 32)


def test_samples_are_of_every_kind() -> None:
    """The generated tests above see 1-d and 2-d windows, and leave 3-d ones to NumPy."""
    cases: list[Case] = list(Convolution.samples(np.random.default_rng(0)))
    ranks = {len(c.op.stride): single.run(c.op, list(c.inputs)) for c in cases if c.inputs[0].size}  # type: ignore[attr-defined]
    assert {r: y is not None for r, y in ranks.items()} == {1: True, 2: True, 3: False}
