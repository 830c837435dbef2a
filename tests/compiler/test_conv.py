"""Generated convolutions against sums in NumPy: sizes, strides, targets, epilogues, items."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from toumei.compiler.llvm import conv, jit, program, runtime
from toumei.compiler.llvm.conv_spec import ConvSpec
from toumei.compiler.llvm.ir import Function, Value, module, split
from toumei.compiler.llvm.target import Target, host

TARGETS = [t for t in map(Target.named, ("avx512", "avx2", "generic")) if t.runs_here()]
each_direction = pytest.mark.parametrize("direction", conv.DIRECTIONS)

DTYPES = {"float": (np.float32, 3e-5), "double": (np.float64, 1e-12)}
WITHOUT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
WITH = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
GUARD = 256  # bytes


class Case(NamedTuple):
    """A convolution to be tested; sizes and strides are made from it."""

    n: int = 2
    size: tuple[int, int] = (9, 10)
    c: int = 5
    k: int = 20
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    dtype: str = "float"
    layout: str = "nhwc"

    def out(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (self.size[axis] + 2 * self.padding[axis] - reach) // self.stride[axis] + 1


class Arrays:
    """x, w and y of a case, in float64 and as the kernels get them, and the spec."""

    def __init__(self, case: Case, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.case = case
        images = (case.n, *case.size, case.c), (case.n, case.out(0), case.out(1), case.k)
        self.x, self.y = (placed(rng, shape, case) for shape in images)
        self.w = weights(rng, case)
        strides = (tuple(s // a.itemsize for s in a.strides) for a in (self.x, self.y, self.w))
        oh, ow = case.out(0), case.out(1)
        sizes = (case.n, *case.size, case.c, oh, ow, case.k)
        geometry = (case.kernel, case.stride, case.padding, case.dilation, case.groups)
        self.spec = ConvSpec(*sizes, *geometry, *strides, case.dtype)

    def expected(self, direction: str) -> np.ndarray:
        """Return the result, by a loop over taps in float64."""
        case = self.case
        (py, px), (sy, sx), (dy, dx) = case.padding, case.stride, case.dilation
        x, w, y = (a.astype(np.float64) for a in (self.x, self.w, self.y))
        wide = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
        result = {"forward": np.zeros_like(y), "input": np.zeros_like(wide)}
        result["weight"] = np.zeros_like(w)
        oh, ow, groups = y.shape[1], y.shape[2], case.groups
        of_x, of_y = case.c // groups, case.k // groups
        taps = itertools.product(range(groups), range(case.kernel[0]), range(case.kernel[1]))
        for g, i, j in taps:
            xs, ys = slice(g * of_x, (g + 1) * of_x), slice(g * of_y, (g + 1) * of_y)
            rows = slice(i * dy, i * dy + (oh - 1) * sy + 1, sy)
            columns = slice(j * dx, j * dx + (ow - 1) * sx + 1, sx)
            seen, tap = wide[:, rows, columns, xs], w[ys, :, i, j]
            result["forward"][..., ys] += seen @ tap.T
            result["input"][:, rows, columns, xs] += y[..., ys] @ tap
            result["weight"][ys, :, i, j] += np.einsum("nhwk,nhwc->kc", y[..., ys], seen)
        h, width = case.size
        result["input"] = result["input"][:, py : py + h, px : px + width]
        return result[direction]

    def buffers(self, direction: str) -> list[np.ndarray]:
        """Return the operands and the result of a direction, in the order of the kernel's."""
        orders = {
            "forward": (self.x, self.w, self.y),
            "input": (self.y, self.w, self.x),
            "weight": (self.x, self.y, self.w),
        }
        return list(orders[direction])


def placed(rng: np.random.Generator, shape: Sequence[int], case: Case) -> np.ndarray:
    """Return images [n, row, column, channel], laid out in memory as the case says."""
    n, h, w, c = shape
    dtype = DTYPES[case.dtype][0]
    made = rng.normal(size=shape).astype(dtype)
    if case.layout == "nchw":
        return np.ascontiguousarray(made.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    if case.layout == "apart":  # a part of larger images
        whole = np.full((n, h + 1, w + 2, c + 3), 7.0, dtype)
        whole[:, :h, :w, :c] = made
        return whole[:, :h, :w, :c]
    if case.layout == "whcn":
        return np.ascontiguousarray(made.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    return made


def weights(rng: np.random.Generator, case: Case) -> np.ndarray:
    """Return weights [k, c, i, j]: dense, but in unusual order where the images are."""
    shape = (case.k, case.c // case.groups, *case.kernel)
    made = rng.normal(size=shape).astype(DTYPES[case.dtype][0])
    if case.layout == "whcn":
        return np.ascontiguousarray(made.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    return made


def guarded(size: int) -> tuple[np.ndarray, int]:
    """Return memory and the address of its first aligned byte, full of NaNs."""
    memory, address = runtime.aligned(size + GUARD)
    memory[:] = 0xFF
    return memory, address


class Compiled:
    """The kernels of a convolution, callable on arrays."""

    def __init__(self, direction: str, spec: ConvSpec, target: Target, *epilogue) -> None:
        self.kernels = conv.emit(direction, "conv", spec, target, *epilogue)
        functions = [k.function for k in self.kernels]
        code = jit.compile_ir(module(functions), target)
        self.library = jit.Library(code, [f.name for f in functions])
        self.workspace = conv.workspace(direction, spec, target)

    def __call__(self, *arrays: np.ndarray, cuts: Sequence[float] = (), order: int = 1) -> None:
        """Run, the items cut at some fractions of them, in ascending or descending order."""
        memory, space = guarded(self.workspace)
        places = [a.ctypes.data for a in arrays[:3]] + [space]
        places += [a.ctypes.data for a in arrays[3:]]
        buffers = (ctypes.c_void_p * len(places))(*places)
        for kernel in self.kernels:
            address = self.library.address(kernel.function.name)
            scratch, own = guarded(kernel.scratch)
            more = (own,) if kernel.scratch else ()
            call = (WITH if more else WITHOUT)(address)
            ends = [0, *sorted(int(c * kernel.items) for c in cuts), kernel.items]
            for begin, end in list(itertools.pairwise(ends))[::order]:
                call(buffers, begin, end, *more)
            unharmed(scratch, own, kernel.scratch)
        unharmed(memory, space, self.workspace)


def unharmed(memory: np.ndarray, address: int, size: int) -> None:
    end = address - memory.ctypes.data + size
    assert (memory[end:] == 0xFF).all(), "wrote beyond the end"


def check(direction: str, case: Case, target: Target, seed: int = 0) -> None:
    """Compare a direction with NumPy; what lies between the images' numbers stays as it is."""
    arrays = Arrays(case, seed)
    expected = arrays.expected(direction)
    *operands, result = arrays.buffers(direction)
    before = [a.copy() for a in operands]
    result[...] = np.nan
    Compiled(direction, arrays.spec, target)(*operands, result)
    compare(result, expected, case)
    assert all(np.array_equal(a, b) for a, b in zip(operands, before, strict=True))
    for image in (arrays.x, arrays.y):
        if case.layout == "apart" and image.size:
            gaps = image.base.copy()
            gaps[tuple(slice(0, s) for s in image.shape)] = 7.0
            assert (gaps == 7.0).all(), "wrote between the numbers of an image"


def compare(result: np.ndarray, expected: np.ndarray, case: Case) -> None:
    if expected.size:
        scale = float(np.sqrt((expected**2).mean())) or 1.0
        error = float(np.abs(result - expected).max()) / scale
        assert error < DTYPES[case.dtype][1], (case, error)


CASES = [
    Case(),
    Case(c=1, k=32, size=(13, 28), padding=(0, 0), n=3),
    Case(c=3, k=16, size=(16, 16)),
    Case(c=16, k=33, stride=(2, 2), kernel=(3, 3), size=(11, 12)),
    Case(c=64, k=1, kernel=(4, 4), stride=(2, 2), size=(14, 14)),
    Case(c=1, k=48, kernel=(4, 4), stride=(2, 2), size=(14, 14)),
    Case(c=17, k=3, kernel=(2, 5), padding=(1, 2), size=(7, 19)),
    Case(c=20, k=24, kernel=(1, 1), padding=(0, 0), stride=(2, 2), size=(9, 9)),
    Case(c=8, k=12, kernel=(3, 2), dilation=(2, 3), padding=(2, 0), size=(12, 11)),
    Case(c=12, k=18, groups=3, size=(8, 7)),
    Case(c=21, k=21, groups=21, size=(8, 9)),  # depthwise
    Case(c=21, k=42, groups=21, size=(5, 6)),
    Case(c=40, k=40, groups=40, size=(9, 9), stride=(2, 1), kernel=(5, 3), padding=(2, 1)),
    Case(c=3, k=8, kernel=(4, 4), stride=(4, 4), padding=(0, 0), size=(12, 16)),
    Case(c=2, k=3, kernel=(2, 2), stride=(3, 3), padding=(0, 0), size=(10, 9)),  # gaps
    Case(c=4, k=6, kernel=(3, 3), padding=(4, 3), size=(2, 3)),  # more border than image
    Case(c=6, k=5, kernel=(1, 7), padding=(0, 3), size=(1, 40)),  # one-dimensional
    Case(n=1, c=9, k=16, size=(40, 11)),  # bands of one image
    Case(n=1, c=40, k=50, kernel=(5, 5), padding=(2, 2), stride=(2, 2), size=(7, 7)),
    Case(c=2, k=35, kernel=(21, 23), padding=(10, 11), size=(24, 9)),
    Case(n=0),
    Case(n=0, padding=(0, 0)),
    Case(n=19, c=7, k=7, size=(3, 2)),  # more images than chunks
]


@each_direction
@pytest.mark.parametrize("i", range(len(CASES)))
def test_cases(direction, i):
    for target in {*TARGETS[:1], *TARGETS[1 + i % 2 :][:1]}:  # the widest, and one of the others
        check(direction, CASES[i], target)


@each_direction
@pytest.mark.parametrize("case", CASES[::2], ids=range(0, len(CASES), 2))
def test_double(direction, case):
    check(direction, case._replace(dtype="double"), host())


@each_direction
@pytest.mark.parametrize("layout", ["nchw", "apart", "whcn"])
@pytest.mark.parametrize("case", [*CASES[:5], CASES[6], *CASES[9:13]], ids=str)
def test_layouts(direction, layout, case):
    check(direction, case._replace(layout=layout), host())


def random_case(rng: np.random.Generator) -> Case:
    """Return a case whose y has at least one pixel."""

    def pair(low: int, high: int) -> tuple[int, int]:
        return tuple(int(v) for v in rng.integers(low, high, 2))

    groups = int(rng.choice([1, 1, 1, 2, 3]))
    c, k = (groups * int(rng.choice([1, 2, 3, 8, 15, 16, 17, 33])) for _ in range(2))
    case = Case(
        n=int(rng.integers(1, 4)), size=pair(1, 18), c=c, k=k, kernel=pair(1, 5),
        stride=pair(1, 4), padding=pair(0, 4), dilation=pair(1, 3), groups=groups,
        dtype=str(rng.choice(["float", "double"])),
        layout=str(rng.choice(["nhwc", "nchw", "apart"])),
    )  # fmt: skip
    return case if min(case.out(0), case.out(1)) > 0 else random_case(rng)


@each_direction
@pytest.mark.parametrize("seed", range(25))
def test_random_shapes(direction, seed):
    rng = np.random.default_rng(seed)
    target = TARGETS[int(rng.integers(len(TARGETS)))]
    check(direction, random_case(rng), target, seed)


@each_direction
@pytest.mark.parametrize("case", [CASES[i] for i in (0, 3, 4, 9, 10, 17)], ids=str)
def test_bits_do_not_depend_on_how_items_are_split(direction, case):
    arrays = Arrays(case._replace(n=5))
    *operands, result = arrays.buffers(direction)
    kernels = Compiled(direction, arrays.spec, host())
    found = []
    for cuts, order in [((), 1), ((0.2, 0.5, 0.7), 1), ((0.1, 0.3, 0.9), -1)]:
        result[...] = np.nan
        kernels(*operands, result, cuts=cuts, order=order)
        found.append(result.tobytes())
    assert found[0] == found[1] == found[2]


@each_direction
@pytest.mark.parametrize("case", [CASES[i] for i in (0, 1, 2, 3, 4, 9, 10)], ids=str)
def test_epilogue(direction, case):
    """2 · sums + what is there at (batch, row, column), and the batch's number."""
    arrays = Arrays(case)
    *operands, result = arrays.buffers(direction)
    expected = arrays.expected(direction)
    channels = expected.shape[-1] if direction != "weight" else expected[0].size
    rows = expected[0, ..., 0].size if direction != "weight" else len(expected)
    extra = np.random.default_rng(1).normal(size=(rows, channels)).astype(np.float32)
    image = rows * channels if direction != "weight" else 0

    def epilogue(
        f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        lanes = split(sums.type)[1]
        assert lanes == conv.epilogue_lanes(direction, arrays.spec, host())
        place = f.add(f.mul(row, channels), column)
        more = f.load_masked(f.at(f.buffer(4), place, "float"), sums.type, mask)
        number = f.splat("float", f.cast("sitofp", batch, "float"), lanes)
        value = f.fadd(f.fadd(f.fmul(sums, 2.0), more), number)
        to = f.at(f.buffer(2), f.add(place, f.mul(batch, image)), "float")
        f.store_masked(value, to, mask)

    def place(f: Function, row: Value, column: Value, batch: Value) -> Value:
        return f.at(f.buffer(2), f.add(f.mul(row, channels), column), "float")

    result[...] = np.nan
    Compiled(direction, arrays.spec, host(), epilogue, place)(*operands, result, extra)
    shape = expected.shape if direction == "weight" else expected[0].shape
    wanted = 2 * expected + extra.astype(np.float64).reshape(shape)
    if direction != "weight":
        wanted += np.arange(case.n).reshape(-1, 1, 1, 1)
    compare(result, wanted, case)


def test_a_program_of_several_threads():
    arrays = Arrays(Case(n=9, c=16, k=32, size=(12, 12)))
    before = runtime.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            runtime.set_num_threads(threads)
            arrays.w[...] = np.nan
            run_program("weight", arrays)
            results.append(arrays.w.copy())
    finally:
        runtime.set_num_threads(before)
    assert np.array_equal(results[0], results[1])
    compare(results[0], Arrays(arrays.case).expected("weight"), arrays.case)


def run_program(direction: str, arrays: Arrays) -> None:
    target = host()
    kernels = conv.emit(direction, "conv", arrays.spec, target)
    steps = [
        program.Step(k.function.name, k.items, k.chunk, scratch=k.scratch) for k in kernels
    ]  # fmt: skip
    memory, space = guarded(conv.workspace(direction, arrays.spec, target))
    places = [*(a.ctypes.data for a in arrays.buffers(direction)), space]
    built = program.build([k.function for k in kernels], steps, None, target)
    built.run(np.array(places, np.int64))
    assert len(memory)


@each_direction
def test_nan_and_infinity_reach_what_they_should(direction):
    """A NaN reaches the results that depend on it and no other; zeros outside of an image don't."""
    arrays = Arrays(Case(n=1, c=4, k=4, size=(8, 8)))
    *operands, result = arrays.buffers(direction)
    operands[0][0, 0, 0, 0] = np.nan
    expected = arrays.expected(direction)
    result[...] = 0
    Compiled(direction, arrays.spec, host())(*operands, result)
    assert np.array_equal(np.isnan(result), np.isnan(expected))


@each_direction
def test_foreign_code_compiles(direction):
    target = Target.named("aarch64")
    kernels = conv.emit(direction, "conv", Arrays(Case()).spec, target)
    text = jit.assembly(module([k.function for k in kernels]), target)
    assert "fmla" in text


def test_unknown_direction():
    with pytest.raises(ValueError, match="direction must be one of forward, input, weight"):
        conv.emit("backward", "conv", Arrays(Case()).spec, host())
