"""Generated matrix products against NumPy's: sizes, strides, targets, epilogues, items."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from toumei.compiler.llvm import jit
from toumei.compiler.llvm.ir import Function, Value, module
from toumei.compiler.llvm.matmul import (
    MatmulSpec,
    Plan,
    candidates,
    emit,
    place_c,
    plan,
    store_c,
)
from toumei.compiler.llvm.matmul_candidates import same_bits
from toumei.compiler.llvm.matmul_plan import arrange
from toumei.compiler.llvm.target import Target

TARGETS = [t for t in map(Target.named, ("avx512", "avx2", "generic")) if t.runs_here()]
NAMES = [t.name for t in TARGETS]
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
DTYPES = {"float": (np.float32, 3e-5), "double": (np.float64, 1e-13)}

each_target = pytest.mark.parametrize("target", TARGETS, ids=NAMES)


class Compiled:
    """The kernels of a product, callable on arrays."""

    def __init__(self, spec: MatmulSpec, how: Plan, epilogue=None, place=None) -> None:
        functions = emit("product", spec, how, epilogue, place)
        names = [f.name for f in functions]
        self.library = jit.Library(jit.compile_ir(module(functions), how.target), names)
        self.kernels = [KERNEL(self.library.address(name)) for name in names]
        self.items = how.items(spec)
        self.workspace = how.workspace(spec)
        assert len(self.items) == len(self.kernels)

    def __call__(self, *arrays: np.ndarray, cuts: Sequence[float] = (), order: int = 1) -> None:
        """Run, the items cut at some fractions of them, in ascending or descending order."""
        guard = np.full(self.workspace + 64, 0xA5, np.uint8)
        places = [a.ctypes.data for a in arrays[:3]] + [guard.ctypes.data]
        buffers = (ctypes.c_void_p * (len(arrays) + 1))(
            *places, *[a.ctypes.data for a in arrays[3:]]
        )
        for kernel, count in zip(self.kernels, self.items, strict=True):
            ends = [0, *sorted(int(c * count) for c in cuts), count]
            for begin, end in list(itertools.pairwise(ends))[::order]:
                kernel(buffers, begin, end)
        assert (guard[self.workspace :] == 0xA5).all(), "wrote beyond the workspace"


def make(rng, rows: int, columns: int, transposed: bool, dtype, pad: int = 0) -> np.ndarray:
    """Return a matrix, a view of a transposed or wider one."""
    shape = (columns, rows + pad) if transposed else (rows, columns + pad)
    whole = rng.normal(size=shape).astype(dtype)
    return whole[:, :rows].T if transposed else whole[:, :columns]


def strides(x: np.ndarray) -> tuple[int, ...]:
    inner = (x.strides[-2], x.strides[-1], *x.strides[:-2])
    return tuple(s // x.itemsize for s in inner)


def spec_of(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> MatmulSpec:
    kind = {4: "float", 8: "double"}[a.itemsize]
    (m, k), n = a.shape[-2:], b.shape[-1]
    return MatmulSpec(m, n, k, strides(a), strides(b), strides(c), c.shape[:-2], kind)


def error(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    expected = a.astype(np.float64) @ b.astype(np.float64)
    if not expected.size:
        return 0.0
    scale = math.sqrt(float((expected**2).mean())) or 1.0
    return float(np.abs(got - expected).max()) / scale


def check(a, b, target: Target, how: Plan | None = None, pad: int = 3) -> None:
    """Compare a product with NumPy's; C's rows are apart, and what is between stays."""
    m, n = a.shape[-2], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
    whole = np.full((*batch, m, n + pad), 7.0, a.dtype)
    c = whole[..., :n]
    c[...] = np.nan
    spec = spec_of(a, b, c)
    Compiled(spec, how or plan(spec, target))(a, b, c)
    assert error(c, a, b) < DTYPES[spec.dtype][1], (spec, how)
    assert (whole[..., n:] == 7.0).all(), "wrote between the rows of C"


SIZES = [(1, 1, 1), (8, 32, 16), (17, 33, 15), (16, 16, 17), (5, 7, 0), (1, 15, 16), (33, 1, 40),
         (100, 10, 300), (65, 65, 32), (20, 20, 2000), (3, 130, 700)]  # fmt: skip


@pytest.mark.parametrize(
    "target, kind",
    [*((t, "float") for t in TARGETS), (TARGETS[-1], "double")],
    ids=[*NAMES, f"{NAMES[-1]}-double"],
)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes_and_transpositions(target, kind, sizes):
    rng = np.random.default_rng(1)
    m, n, k = sizes
    for ta, tb in itertools.product((False, True), repeat=2):
        dtype = DTYPES[kind][0]
        check(make(rng, m, k, ta, dtype), make(rng, k, n, tb, dtype), target)


@each_target
def test_every_form_of_plan(target):
    """Packed, in place, by dot products; k whole, in pieces, in chunks; A packed or not."""
    rng = np.random.default_rng(2)
    seen = set()
    for (m, n, k), ta, tb in itertools.product(
        [(37, 70, 150), (23, 9, 730), (190, 180, 1900)], (False, True), (False, True)
    ):
        if m > 100 and ta and not tb:  # the large one in three of the four ways
            continue
        a, b = make(rng, m, k, ta, np.float32, 1), make(rng, k, n, tb, np.float32, 2)
        spec = spec_of(a, b, np.empty((m, n), np.float32))
        plans = candidates(spec, target, 4)
        if tb and not ta:
            plans.append(arrange(spec, target, "dot", 2, 3))
        for how in plans:
            squares = how.depth % target.lanes("float") == 0 and how.depth <= 512
            pack = how.pack_a or (how.form != "dot" and not ta and squares)
            check(a, b, target, replace(how, pack_a=pack))
            seen.add((how.form, how.chunks > 1, how.blocked(spec), pack))
    assert {form for form, *_ in seen} == {"packed", "direct", "dot"}
    assert {chunks for _, chunks, *_ in seen} == {False, True}
    assert {blocked for *_, blocked, _ in seen} == {False, True}


@each_target
def test_depths_that_do_not_divide_k(target):
    rng = np.random.default_rng(3)
    a, b = make(rng, 21, 77, False, np.float32), make(rng, 77, 40, True, np.float32)
    lanes = target.lanes("float")
    wide = 2 * lanes
    across = -(-40 // wide) * wide
    for unroll, span, chunks in ((1, 77, 1), (3, 77, 1), (2, 32, 3), (1, 64, 2)):
        how = Plan(target, "packed", 4, 2, (12, across), 32, span, chunks, unroll)
        check(a, b, target, how)
    check(a, b, target, Plan(target, "dot", 2, 3, (6, 12), 77, 77, 1, 4, 2))
    check(a, b, target, Plan(target, "dot", 2, 3, (6, 42), 32, 32, 3))


@each_target
def test_one_very_long_dimension(target):
    rng = np.random.default_rng(4)
    long = 1_000_003
    for m, n, k in ((long, 1, 2), (2, long, 1), (1, 2, long)):
        a, b = make(rng, m, k, False, np.float32), make(rng, k, n, False, np.float32)
        check(a, b, target, pad=0)


def test_batches_are_broadcast():
    rng = np.random.default_rng(5)
    target = TARGETS[0]
    for shape_a, shape_b in (
        [(6, 33, 20), (6, 20, 40)], [(2, 3, 9, 20), (3, 20, 17)],
        [(4, 1, 12, 8), (1, 5, 8, 6)], [(20, 8), (5, 8, 33)], [(0, 3, 4), (0, 4, 5)],
    ):  # fmt: skip
        a, b = (rng.normal(size=s).astype(np.float32) for s in (shape_a, shape_b))
        check(a, b, target)
    heads = rng.normal(size=(2, 10, 3, 16)).astype(np.float32)  # attention: heads side by side
    q = heads.transpose(0, 2, 1, 3)
    check(q, q.swapaxes(-1, -2), target)
    check(q.swapaxes(-1, -2), q, target)


@each_target
def test_narrow_results_swapped(target):
    """A single column is a row of the transposed product."""
    rng = np.random.default_rng(6)
    a, b = make(rng, 203, 40, False, np.float32), make(rng, 40, 1, False, np.float32)
    c = np.full((203, 1), np.nan, np.float32)
    spec = spec_of(a, b, c).swapped()
    assert (spec.m, spec.n) == (1, 203)
    Compiled(spec, plan(spec, target))(b, a, c)
    assert error(c, a, b) < 3e-5


@each_target
def test_items_in_any_split_give_the_same_bits(target):
    rng = np.random.default_rng(7)
    for (m, n, k), tb in itertools.product(
        [(150, 140, 300), (20, 20, 3000), (40, 300, 64)], (0, 1)
    ):
        a, b = make(rng, m, k, False, np.float32), make(rng, k, n, bool(tb), np.float32)
        results = []
        spec = spec_of(a, b, np.empty((m, n), np.float32))
        compiled = Compiled(spec, plan(spec, target))
        for cuts, order in (
            ((), 1),
            ((0.5,), -1),
            ((0.1, 0.3, 0.8), 1),
            (np.linspace(0, 1, 40), -1),
        ):
            c = np.full((m, n), np.nan, np.float32)
            compiled(a, b, c, cuts=cuts, order=order)
            results.append(c)
        assert all(np.array_equal(results[0], r) for r in results[1:])
        assert error(results[0], a, b) < 3e-5


def bias_relu_and_mask(spec: MatmulSpec):
    """Return an epilogue: C = relu(A·B + bias), and a second output with the sums themselves."""
    store, raw = store_c(spec, 2), store_c(spec, 5)

    def epilogue(f: Function, sums: Value, row, column, batch, mask) -> None:
        bias = f.load_masked(f.at(f.buffer(4), column, spec.dtype), sums.type, mask)
        biased = f.fadd(sums, bias)
        zero = f.const(sums.type, 0.0)
        store(f, f.select(f.compare("olt", biased, zero), zero, biased), row, column, batch, mask)
        raw(f, sums, row, column, batch, mask)

    return epilogue


def accumulate(spec: MatmulSpec):
    """Return an epilogue: C += A·B."""

    def epilogue(f: Function, sums: Value, row, column, batch, mask) -> None:
        place = f.at(f.at(f.buffer(2), f.mul(row, spec.c[0]), spec.dtype), column, spec.dtype)
        f.store_masked(f.fadd(f.load_masked(place, sums.type, mask), sums), place, mask)

    return epilogue


@each_target
@pytest.mark.parametrize("k", [0, 30, 400, 1500])
def test_epilogues(target, k):
    rng = np.random.default_rng(8)
    m, n = 45, 37
    a, b = make(rng, m, k, False, np.float64), make(rng, k, n, True, np.float64)
    bias, c, raw = rng.normal(size=n), np.full((m, n), np.nan), np.full((m, n), np.nan)
    spec = spec_of(a, b, c)
    Compiled(spec, plan(spec, target), bias_relu_and_mask(spec))(a, b, c, bias, raw)
    np.testing.assert_allclose(raw, a @ b, rtol=1e-12, atol=1e-11)
    np.testing.assert_array_equal(c, np.maximum(raw + bias, 0.0))
    before = rng.normal(size=(m, n))
    c = before.copy()
    Compiled(spec, plan(spec, target), accumulate(spec), place_c(spec))(a, b, c)
    np.testing.assert_array_equal(c, before + raw)


def test_batch_number_in_epilogue():
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(2, 3, 8, 5)), rng.normal(size=(2, 3, 5, 6))
    c = np.empty((2, 3, 8, 6))
    spec = spec_of(a, b, c)
    store = store_c(spec)

    def epilogue(f, sums, row, column, batch, mask):
        number = f.splat("double", f.cast("sitofp", batch, "double"), TARGETS[0].lanes("double"))
        store(f, f.fadd(sums, number), row, column, batch, mask)

    Compiled(spec, plan(spec, TARGETS[0]), epilogue)(a, b, c)
    np.testing.assert_allclose(c, a @ b + np.arange(6.0).reshape(2, 3, 1, 1), rtol=1e-12)


@each_target
def test_nan_and_infinity_stay_where_they_belong(target):
    """In remainders too: lanes that don't exist must not spoil those that do."""
    rng = np.random.default_rng(10)
    for k in (19, 600):
        a, b = make(rng, 18, k, False, np.float32), make(rng, k, 21, True, np.float32)
        a[3, 5], b[7, 20], b[2, 11] = np.nan, np.inf, -np.inf
        c = np.zeros((18, 21), np.float32)
        spec = spec_of(a, b, c)
        for how in candidates(spec, target, 3):
            Compiled(spec, how)(a, b, c)
            with np.errstate(invalid="ignore"):
                expected = a.astype(np.float64) @ b.astype(np.float64)
            np.testing.assert_array_equal(np.isnan(c), np.isnan(expected))
            np.testing.assert_array_equal(c[np.isinf(expected)], expected[np.isinf(expected)])


@each_target
@pytest.mark.parametrize("ta", [False, True], ids=["A", "At"])
def test_candidates_compute_the_same_bits(target, ta):
    rng = np.random.default_rng(11)
    for (m, n, k), tb in [((70, 130, 300), True), ((50, 90, 1300), False), ((9, 20, 90), ta)]:
        a, b = make(rng, m, k, ta, np.float32), make(rng, k, n, tb, np.float32)
        spec = spec_of(a, b, np.empty((m, n), np.float32))
        plans = candidates(spec, target, 8)
        assert len(plans) > 1 and plans[0] == plan(spec, target)
        results = []
        for how in plans:
            assert same_bits(plans[0], how)
            c = np.full((m, n), np.nan, np.float32)
            Compiled(spec, how)(a, b, c)
            results.append(c)
        assert all(np.array_equal(results[0], r) for r in results[1:])


def test_plans_that_add_in_another_order_are_told_apart():
    target = TARGETS[0]
    spec = MatmulSpec(20, 20, 3000, (3000, 1), (20, 1), (20, 1))
    base = plan(spec, target)
    assert base.chunks > 1 and not same_bits(base, replace(base, span=3000, chunks=1))
    assert not same_bits(base, replace(base, chains=2 * base.chains))
    assert not same_bits(base, arrange(spec, target, "dot", 2, 3))
    assert same_bits(base, replace(base, block=(base.rows, base.block[1]), unroll=4))


def test_refusals():
    with pytest.raises(ValueError, match="one of them should be 1"):
        MatmulSpec(4, 4, 4, (4, 1), (8, 2), (4, 1))
    with pytest.raises(ValueError, match="stride 4 along n"):
        MatmulSpec(4, 4, 4, (4, 1), (4, 1), (1, 4))
    with pytest.raises(ValueError, match="needs 2 \\+ 1 strides"):
        MatmulSpec(4, 4, 4, (4, 1), (4, 1), (4, 1), (3,))


def test_items_suit_two_threads():
    """Products of some size have several items, so that threads can share them."""
    target = TARGETS[0]
    for m, n, k in (
        (100, 784, 100),
        (2048, 128, 128),
        (128, 128, 2048),
        (64, 128, 9216),
        (20, 20, 10000),
    ):
        spec = MatmulSpec(m, n, k, (k, 1), (1, k), (n, 1))
        assert min(plan(spec, target).items(spec)) >= 2, spec
    small = MatmulSpec(32, 32, 32, (32, 1, 1024), (1, 32, 1024), (32, 1, 1024), (256,))
    (items,) = plan(small, target).items(small)
    assert 8 <= items < 256, "several small products should share an item"
