"""Winograd convolution kernels against NumPy: sizes, paddings, targets, epilogues, items."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from toumei.compiler.llvm import jit, winograd
from toumei.compiler.llvm.conv_spec import ConvSpec
from toumei.compiler.llvm.ir import module
from toumei.compiler.llvm.program import Step, build
from toumei.compiler.llvm.runtime import get_num_threads, set_num_threads
from toumei.compiler.llvm.target import Target, host
from toumei.compiler.llvm.winograd_math import PAIRS
from toumei.compiler.llvm.winograd_plan import Plan

TARGETS = [t for t in map(Target.named, ("avx512", "avx2", "generic")) if t.runs_here()]
KERNEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)  # fmt: skip
ERROR = 3e-5  # of the root mean square
GUARD = 0xA5  # bytes around what may be written

each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
each_direction = pytest.mark.parametrize("direction", winograd.DIRECTIONS)

# n, h, w, c, k, padding
SIZES = [
    (2, 26, 26, 32, 64, (0, 0)),
    (3, 8, 8, 64, 64, (1, 1)),
    (2, 9, 7, 5, 19, (1, 1)),  # partial tiles, partial vectors
    (1, 3, 3, 1, 1, (0, 0)),  # one result
    (2, 5, 70, 17, 3, (2, 1)),  # rows of tiles in several pieces
    (1, 1, 1, 33, 40, (1, 1)),  # mostly padding
    (1, 2, 131, 16, 80, (2, 0)),
    (5, 6, 6, 48, 24, (2, 2)),
]


def strides(x: np.ndarray, order: Sequence[int] = (0, 1, 2, 3)) -> tuple[int, ...]:
    return tuple(x.strides[i] // x.itemsize for i in order)


def spec_of(x: np.ndarray, w: np.ndarray, y: np.ndarray, padding: tuple[int, int]) -> ConvSpec:
    return ConvSpec(
        *x.shape, *y.shape[1:], (3, 3), (1, 1), padding, (1, 1), 1,
        strides(x), strides(y), strides(w),
    )  # fmt: skip


def guarded(size: int) -> tuple[np.ndarray, int]:
    """Return memory with a guard behind the first bytes, and the address of its start."""
    memory = np.full(size + 192, GUARD, np.uint8)
    return memory, -(-memory.ctypes.data // 64) * 64


def intact(memory: np.ndarray, address: int, size: int) -> bool:
    return bool((memory[address - memory.ctypes.data + size :] == GUARD).all())


class Compiled:
    """The kernels of a convolution, callable on arrays."""

    def __init__(self, direction: str, spec: ConvSpec, target: Target, epilogue=None) -> None:
        self.kernels = winograd.emit(direction, "conv", spec, target, epilogue)
        functions = [k.function for k in self.kernels]
        names = [f.name for f in functions]
        self.library = jit.Library(jit.compile_ir(module(functions), target), names)
        self.native = [KERNEL(self.library.address(name)) for name in names]
        self.workspace = winograd.workspace(direction, spec, target)

    def __call__(self, *arrays: np.ndarray, cuts: Sequence[float] = (), order: int = 1) -> None:
        """Run, the items cut at some fractions of them, in ascending or descending order."""
        space, place = guarded(self.workspace)
        addresses = [a.ctypes.data for a in arrays]
        buffers = (ctypes.c_void_p * (len(arrays) + 1))(*addresses[:3], place, *addresses[3:])
        for kernel, native in zip(self.kernels, self.native, strict=True):
            ends = [0, *sorted(int(c * kernel.items) for c in cuts), kernel.items]
            for begin, end in list(itertools.pairwise(ends))[::order]:
                scratch, at = guarded(kernel.scratch)  # fresh: nothing is left from item to item
                native(buffers, begin, end, at)
                assert intact(scratch, at, kernel.scratch), "wrote beyond the scratch memory"
        assert intact(space, place, self.workspace), "wrote beyond the workspace"


# --- the oracle ---


def windows(x: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """Return the 3 x 3 windows of a padded image: n, y, x, c, i, j."""
    rows, columns = padding
    whole = np.pad(x.astype(np.float64), ((0, 0), (rows,) * 2, (columns,) * 2, (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(whole, (3, 3), (1, 2))


def forward(x: np.ndarray, w: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    return np.einsum("nyxcij,kcij->nyxk", windows(x, padding), w, optimize=True)


def expected(direction: str, x, w, g, padding: tuple[int, int]) -> np.ndarray:
    if direction == "forward":
        return forward(x, w, padding)
    if direction == "input":
        turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        return forward(g, turned, (2 - padding[0], 2 - padding[1]))
    return np.einsum("nyxcij,nyxk->kcij", windows(x, padding), g.astype(float), optimize=True)


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.sqrt((wanted**2).mean()))


def make(sizes, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Return x, w, the gradient of y, and the padding."""
    rng = np.random.default_rng(seed)
    n, h, w, c, k, padding = sizes
    shapes = (n, h, w, c), (k, c, 3, 3), (n, h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, k)
    x, weight, g = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return x, weight, g, padding


def operands(direction: str, x, w, g) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first two buffers, and one like the result, full of NaN."""
    first, second, like = {"forward": (x, w, g), "input": (g, w, x), "weight": (x, g, w)}[direction]
    return first, second, np.full_like(like, np.nan)


# --- tests ---


@each_target
@each_direction
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(target, direction, sizes):
    """Right, and the same bits however the items are shared out."""
    x, w, g, padding = make(sizes)
    kernels = Compiled(direction, spec_of(x, w, g, padding), target)
    a, b, result = operands(direction, x, w, g)
    kernels(a, b, result)
    assert error(result, expected(direction, x, w, g, padding)) < ERROR
    again = np.full_like(result, np.nan)
    kernels(a, b, again, cuts=(0.2, 0.5, 0.51, 0.9), order=-1)
    np.testing.assert_array_equal(result, again)


@each_target
@each_direction
def test_many_tiles(target, direction):
    """Several blocks and chunks; sums over many images."""
    x, w, g, padding = make((41, 10, 11, 20, 24, (1, 1)))
    spec = spec_of(x, w, g, padding)
    plan = Plan(spec, direction, target)
    assert plan.blocks > 2 and plan.units % plan.group
    assert direction != "weight" or plan.chunks > 2
    kernels = Compiled(direction, spec, target)
    a, b, result = operands(direction, x, w, g)
    kernels(a, b, result)
    assert error(result, expected(direction, x, w, g, padding)) < ERROR
    again = np.full_like(result, np.nan)
    kernels(a, b, again, cuts=(0.1, 0.4, 0.7))
    np.testing.assert_array_equal(result, again)


@each_direction
@pytest.mark.parametrize("threads", (1, 2, 3))
def test_in_a_program(direction, threads):
    """On the pool's threads, each with scratch memory of its own: the same bits."""
    x, w, g, padding = make((41, 10, 11, 20, 24, (1, 1)))
    spec, target = spec_of(x, w, g, padding), host()
    a, b, result = operands(direction, x, w, g)
    Compiled(direction, spec, target)(a, b, result)
    kernels = winograd.emit(direction, "conv", spec, target)
    steps = [
        Step(k.function.name, k.items, k.chunk, k.barrier, k.serial, k.scratch) for k in kernels
    ]
    program = build([k.function for k in kernels], steps)
    again = np.full_like(result, np.nan)
    size = winograd.workspace(direction, spec, target)
    space, place = guarded(size)
    buffers = np.array([a.ctypes.data, b.ctypes.data, again.ctypes.data, place], np.int64)
    before = get_num_threads()
    try:
        set_num_threads(threads)
        for _ in range(3):
            again[...] = np.nan
            program.run(buffers)
            np.testing.assert_array_equal(result, again)
    finally:
        set_num_threads(before)
    assert intact(space, place, size)


@each_target
@each_direction
def test_views(target, direction):
    """Rows, columns and images apart; what lies between the results stays."""
    rng = np.random.default_rng(3)
    shapes = {"x": (3, 12, 11, 25), "g": (3, 9, 9, 30), "w": (25, 18, 3, 3)}
    parts = {
        "x": np.s_[:, 1:10, 2:9, 3:21],
        "g": np.s_[:, :, 1:8, :21],
        "w": np.s_[2:23],
    }
    whole = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x, w, g = (whole[name][parts[name]] for name in "xwg")
    spec = spec_of(x, w, g, (1, 1))
    wanted = expected(direction, x, w, g, (1, 1))
    written = {"forward": "g", "input": "x", "weight": "w"}[direction]
    result, before = whole[written][parts[written]], whole[written].copy()
    first, second, _ = operands(direction, x, w, g)
    Compiled(direction, spec, target)(first, second, result)
    assert error(result, wanted) < ERROR
    before[parts[written]] = result
    np.testing.assert_array_equal(whole[written], before)


@each_target
def test_weight_of_any_layout(target):
    """Forward and for the input's gradient, the weight's strides are free."""
    x, w, g, padding = make((2, 7, 9, 18, 21, (1, 1)))
    other = np.ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    for direction in ("forward", "input"):
        a, _, result = operands(direction, x, other, g)
        Compiled(direction, spec_of(x, other, g, padding), target)(a, other, result)
        assert error(result, expected(direction, x, w, g, padding)) < ERROR


@each_target
@pytest.mark.parametrize("direction", ("forward", "input"))
def test_epilogue_of_pixels(target, direction):
    """A bias by channel, a mask by pixel and image: the epilogue knows where it is."""
    x, w, g, padding = make((3, 9, 10, 21, 19, (0, 2)))
    a, b, result = operands(direction, x, w, g)
    spec = spec_of(x, w, g, padding)
    n, rows, columns, channels = result.shape
    rng = np.random.default_rng(5)
    bias = rng.normal(size=channels).astype(np.float32)
    scale = rng.normal(size=(n, rows * columns)).astype(np.float32)
    place = winograd.place_result(spec, direction)

    def epilogue(f, sums, row, column, batch, mask):
        lanes = target.lanes("float")
        added = f.load_masked(f.at(f.buffer(4), column, "float"), sums.type, mask)
        at = f.at(f.buffer(5), f.add(f.mul(batch, rows * columns), row), "float")
        factor = f.splat("float", f.load(at, "float"), lanes)
        sums = f.fmul(f.fadd(sums, added), factor)
        f.store_masked(sums, place(f, row, column, batch), mask)

    Compiled(direction, spec, target, epilogue)(a, b, result, bias, scale)
    wanted = (expected(direction, x, w, g, padding) + bias) * scale.reshape(n, rows, columns, 1)
    assert error(result, wanted) < ERROR


@each_target
def test_epilogue_of_the_weight(target):
    """A step of gradient descent: the row is the channel, the column the place in it."""
    x, w, g, padding = make((2, 8, 8, 5, 19, (1, 1)))
    spec = spec_of(x, w, g, padding)
    new = w.copy()

    def epilogue(f, sums, row, column, batch, mask):
        at = f.at(f.buffer(2), f.add(f.mul(row, 9 * spec.c), column), "float")
        old = f.load_masked(at, sums.type, mask)
        f.store_masked(f.fsub(old, f.fmul(sums, f.const(sums.type, 0.01))), at, mask)

    Compiled("weight", spec, target, epilogue)(x, g, new)
    assert error(new, w - 0.01 * expected("weight", x, w, g, padding)) < ERROR


@each_target
def test_nan_stays_in_its_tiles(target):
    """A NaN reaches the tiles whose inputs it is among, and no other, nor other images."""
    x, w, g, padding = make((2, 16, 16, 20, 17, (1, 1)))
    kernels = Compiled("forward", spec_of(x, w, g, padding), target)
    clean, result = np.empty_like(g), np.empty_like(g)
    kernels(x, w, clean)
    x[1, 5, 9, 3] = np.nan  # of the padded image row 6, column 10: in tiles 1 and 1, 2 only
    kernels(x, w, result)
    bad = np.isnan(result)
    assert bad[1, 4:7, 8:11].all(), "where plain sums have NaN"
    bad[1, 4:8, 4:12] = False
    assert not bad.any()
    same = np.ones(g.shape, bool)
    same[1, 4:8, 4:12] = False
    np.testing.assert_array_equal(result[same], clean[same])


def test_error_is_small():
    """The points chosen are better than whole ones: the error of 64 channels of noise is 1e-5."""
    x, w, g, padding = make((4, 24, 24, 64, 16, (1, 1)))
    for direction in winograd.DIRECTIONS:
        a, b, result = operands(direction, x, w, g)
        Compiled(direction, spec_of(x, w, g, padding), TARGETS[0])(a, b, result)
        assert error(result, expected(direction, x, w, g, padding)) < 1.5e-5
    assert PAIRS[0] * PAIRS[1] == pytest.approx(1)  # what input_line relies on


def test_supports_and_worth():
    x, w, g, padding = make((2, 8, 8, 64, 64, (1, 1)))
    spec, target = spec_of(x, w, g, padding), TARGETS[0]
    for direction in winograd.DIRECTIONS:
        assert winograd.supports(spec, direction, target)
        for other in (
            spec._replace(dtype="double"), spec._replace(stride=(2, 2)), spec._replace(groups=2),
            spec._replace(kernel=(5, 5)), spec._replace(dilation=(2, 2)), spec._replace(n=0),
            spec._replace(padding=(3, 3)), spec._replace(oh=7), spec._replace(x=(1, 8, 64, 512)),
        ):  # fmt: skip
            assert not winograd.supports(other, direction, target)
            assert not winograd.worth(other, direction, target)
            with pytest.raises(ValueError, match="no Winograd kernel"):
                winograd.emit(direction, "conv", other, target)
    assert not winograd.supports(spec._replace(weight=(1, 64, 192, 576)), "weight", target)
    many = spec_of(*(np.broadcast_to(a[:1], (128, *a.shape[1:])) if a is not w else w
                     for a in (x, w, g)), padding)  # fmt: skip
    assert all(winograd.worth(many, direction, target) for direction in winograd.DIRECTIONS)
    few = make((64, 28, 28, 1, 32, (0, 0)))
    for direction in winograd.DIRECTIONS:
        assert not winograd.worth(spec_of(*few), direction, target)


@each_direction
def test_foreign_target_compiles(direction):
    target = Target.named("aarch64")
    x, w, g, padding = make((2, 9, 9, 18, 21, (1, 1)))
    kernels = winograd.emit(direction, "conv", spec_of(x, w, g, padding), target)
    assembly = jit.assembly(module([k.function for k in kernels]), target)
    assert "fmla" in assembly
