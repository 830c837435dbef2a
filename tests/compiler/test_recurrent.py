"""Generated kernels of time loops against the NumPy code of the ops: sizes, strides, splits."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from toumei.compiler.llvm import jit, recurrent
from toumei.compiler.llvm.ir import module
from toumei.compiler.llvm.kernel import Memory
from toumei.compiler.llvm.target import Target
from toumei.ops.loop_gru import GruLoop, GruLoopGrad
from toumei.ops.loop_lstm import LstmLoop, LstmLoopGrad
from toumei.ops.loop_rnn import RnnLoop, RnnLoopGrad

TARGETS = [t for t in map(Target.named, ("avx512", "avx2", "generic")) if t.runs_here()]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
ADDRESS, NUMBER = ctypes.c_void_p, ctypes.c_int64
KERNEL = ctypes.CFUNCTYPE(None, ADDRESS, NUMBER, NUMBER, ADDRESS)

each_target = pytest.mark.parametrize("target", TARGETS, ids=[t.name for t in TARGETS])
# float64 where its vectors are narrowest: two numbers, fewer than any of float32.
MACHINES = [*((t, np.float32) for t in TARGETS), (TARGETS[-1], np.float64)]
each_machine = pytest.mark.parametrize(
    "target, dtype", MACHINES, ids=[f"{t.name}-{d.__name__}" for t, d in MACHINES]
)


def memory(x: np.ndarray) -> Memory:
    kinds = {"float32": "float", "float64": "double", "bool": "i8"}
    return Memory(x.shape, tuple(s // x.itemsize for s in x.strides), kinds[x.dtype.name])


def guarded(size: int) -> np.ndarray:
    """Return bytes, aligned as scratch memory is, with a known pattern around and in them."""
    raw = np.full(size + 256, 0xA5, np.uint8)
    start = -raw.ctypes.data % 128
    return raw[start : start + size + 64]


class Compiled:
    """The kernels of an op for arrays of some layout, callable on such arrays."""

    def __init__(self, op: Any, inputs: Sequence[np.ndarray], target: Target) -> None:
        made = op.forward(np, *inputs)
        self.shapes = [(y.shape, y.dtype) for y in (made if isinstance(made, tuple) else (made,))]
        outputs = [memory(np.empty(*shape)) for shape in self.shapes]
        layout = (op, [memory(x) for x in inputs], outputs, target)
        self.sizes = recurrent.workspaces(*layout)
        self.kernels = recurrent.KERNELS[type(op).__name__]("loop", *layout)
        functions = [k.function for k in self.kernels]
        names = [f.name for f in functions]
        self.library = jit.Library(jit.compile_ir(module(functions), target), names)
        self.calls = [KERNEL(self.library.address(name)) for name in names]

    def __call__(
        self, inputs: Sequence[np.ndarray], cuts: Sequence[float] = (), order: int = 1
    ) -> list[np.ndarray]:
        """Run, the items cut at some fractions of them, in ascending or descending order."""
        outputs = [np.full(shape, np.nan, dtype) for shape, dtype in self.shapes]
        spaces = [guarded(size) for size in self.sizes]
        arrays = [*inputs, *outputs, *spaces]
        buffers = (ADDRESS * len(arrays))(*[a.ctypes.data for a in arrays])
        for kernel, call in zip(self.kernels, self.calls, strict=True):
            scratch = guarded(kernel.scratch)
            ends = [0, *sorted(int(c * kernel.items) for c in cuts), kernel.items]
            for begin, end in list(itertools.pairwise(ends))[::order]:
                call(buffers, begin, end, scratch.ctypes.data)
            assert (scratch[kernel.scratch :] == 0xA5).all(), "wrote beyond the scratch memory"
        for size, space in zip(self.sizes, spaces, strict=True):
            assert (space[size:] == 0xA5).all(), "wrote beyond a workspace"
        return outputs


def loops(reverse: bool = False) -> list[tuple[Any, Any]]:
    """Return the ops of all loops, each with its gradient; backwards the plain one has relu."""
    return [
        (LstmLoop(reverse), LstmLoopGrad(reverse)),
        (GruLoop(reverse), GruLoopGrad(reverse)),
        (RnnLoop(reverse, relu=reverse), RnnLoopGrad(reverse, relu=reverse)),
    ]


def arrays(op: Any, sizes: tuple[int, int, int], dtype: Any, masked: bool) -> list[np.ndarray]:
    """Return inputs of a loop."""
    steps, batch, hidden = sizes
    rng = np.random.default_rng(sum(sizes))
    width = op.gates * hidden
    made = [rng.normal(size=(steps, batch, width)), rng.normal(size=(width, hidden)) / hidden**0.5]
    made += [rng.normal(size=width)] * isinstance(op, GruLoop)
    made += [rng.normal(size=(batch, hidden)) for _ in range(1 + isinstance(op, LstmLoop))]
    lengths = rng.integers(1, steps + 1, batch) if steps else np.zeros(batch)
    mask = [np.arange(steps)[:, None, None] < lengths[:, None]] * masked
    return [*(x.astype(dtype) for x in made), *mask]


def grad_arrays(op: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the inputs of a loop's derivative."""
    made = op.forward(np, *inputs)
    made = made if isinstance(made, tuple) else (made,)
    states = 1 + isinstance(op, LstmLoop)
    rng = np.random.default_rng(5)
    grads = [rng.normal(size=y.shape).astype(y.dtype) for y in made[:states]]
    masked = [x for x in inputs if x.dtype == bool]
    _, w_hh, *rest = (x for x in inputs if x.dtype != bool)
    return [*grads, w_hh, *rest[-states:], *made, *masked]


def compare(op: Any, inputs: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> None:
    wide = [x if x.dtype == bool else x.astype(np.float64) for x in inputs]
    made = op.forward(np, *wide)
    for i, (x, y) in enumerate(zip(got, made if isinstance(made, tuple) else (made,), strict=True)):
        assert x.shape == y.shape
        if y.size:
            scale = float(np.sqrt((y**2).mean())) or 1.0
            error = float(np.abs(x - y).max()) / scale
            assert error < TOLERANCE[got[0].dtype.type], (op, i, error)


def check(op: Any, inputs: Sequence[np.ndarray], target: Target) -> None:
    compare(op, inputs, Compiled(op, inputs, target)(inputs))


SIZES = [(1, 1, 1), (3, 2, 16), (4, 7, 5), (2, 33, 17), (5, 3, 40), (3, 20, 33)]


@each_machine
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(target, dtype, sizes):
    for op, gradient in loops():
        inputs = arrays(op, sizes, dtype, masked=False)
        check(op, inputs, target)
        check(gradient, grad_arrays(op, inputs), target)


@each_machine
@pytest.mark.parametrize("reverse", [False, True])
def test_masks_and_directions(target, dtype, reverse):
    for op, gradient in loops(reverse):
        for masked in (False, True):
            inputs = arrays(op, (5, 5, 19), dtype, masked)
            check(op, inputs, target)
            check(gradient, grad_arrays(op, inputs), target)


@each_target
def test_sums_in_pieces(target):
    """So many states that k is cut, so many steps that gradients are summed up in several parts."""
    for op, gradient in loops():
        inputs = grad_arrays(op, arrays(op, (20, 41, 150), np.float32, masked=False))
        check(gradient, inputs, target)


def strided(x: np.ndarray) -> np.ndarray:
    """Return the same numbers in a layout whose last dimension isn't the inner one."""
    return x.T.copy().T


@each_target
def test_inputs_of_any_strides(target):
    for op, gradient in loops(True):
        inputs = arrays(op, (3, 9, 21), np.float32, masked=True)
        check(op, [strided(x) for x in inputs], target)
        given = grad_arrays(op, inputs)
        count = len(given) - 1 - len(Compiled(op, inputs, target).shapes)
        check(gradient, [strided(x) if i < count else x for i, x in enumerate(given)], target)


def test_expanded_inputs():
    zeros, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    for op, gradient in loops():
        inputs = arrays(op, (3, 6, 18), np.float32, masked=False)
        states = 1 + isinstance(op, LstmLoop)
        inputs[-states:] = [np.broadcast_to(zeros, x.shape) for x in inputs[-states:]]
        check(op, inputs, TARGETS[0])
        given = grad_arrays(op, inputs)
        given[:states] = [np.broadcast_to(one, x.shape) for x in given[:states]]
        check(gradient, given, TARGETS[0])


@pytest.mark.parametrize("sizes", [(0, 2, 3), (2, 0, 3), (1, 2, 3)], ids=str)
def test_nothing_to_do(sizes):
    """Without steps or sequences the gradients of weights are zeros."""
    for op, gradient in loops():
        inputs = arrays(op, sizes, np.float32, masked=False)
        check(op, inputs, TARGETS[0])
        check(gradient, grad_arrays(op, inputs), TARGETS[0])


def test_splits_do_not_change_a_bit():
    for op, gradient in loops():
        inputs = arrays(op, (6, 70, 33), np.float32, masked=False)
        for each, given in ((op, inputs), (gradient, grad_arrays(op, inputs))):
            compiled = Compiled(each, given, TARGETS[0])
            whole = compiled(given)
            for cuts, order in (((0.5,), -1), ((0.1, 0.3, 0.35, 0.8), 1), ((0.2, 0.9), -1)):
                for x, y in zip(whole, compiled(given, cuts, order), strict=True):
                    assert x.tobytes() == y.tobytes()


def test_nan_and_infinity():
    """A sequence with a NaN or an infinity doesn't touch the others."""
    for op, _ in loops():
        inputs = arrays(op, (3, 4, 16), np.float32, masked=False)
        inputs[0][1, 0, 3], inputs[0][1, 2] = np.nan, np.inf
        with np.errstate(invalid="ignore"):
            expected = op.forward(np, *inputs)
            compiled = Compiled(op, inputs, TARGETS[0])
        got = compiled(inputs)
        for x, y in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_there_are_no_kernels_for_scattered_states():
    op, gradient = loops()[0]
    given = grad_arrays(op, arrays(op, (3, 2, 4), np.float32, masked=False))
    outputs = [memory(y) for y in gradient.forward(np, *given)]
    generate = recurrent.KERNELS["LstmLoopGrad"]
    assert generate("loop", gradient, [memory(x) for x in given], outputs, TARGETS[0])
    given[5] = strided(given[5])
    layout = (gradient, [memory(x) for x in given], outputs, TARGETS[0])
    assert generate("loop", *layout) is None
    assert recurrent.workspaces(*layout) == []


def test_foreign_target_compiles():
    target = Target.named("aarch64")
    for op, gradient in loops():
        inputs = arrays(op, (3, 9, 21), np.float32, masked=True)
        for each, given in ((op, inputs), (gradient, grad_arrays(op, inputs))):
            outputs = each.forward(np, *given)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            memories = [memory(x) for x in given], [memory(y) for y in outputs]
            kernels = recurrent.KERNELS[type(each).__name__]("loop", each, *memories, target)
            text = jit.assembly(module([k.function for k in kernels]), target)
            assert "fmla" in text
