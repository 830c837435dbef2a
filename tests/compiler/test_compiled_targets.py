"""Machine code for narrower processors than this one computes the same; for others it compiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler import test_compiled_layers as layers
from tests.compiler.agree import check, check_training, executor, native
from tests.compiler.random_programs import Builder, run
from tests.compiler.test_compiled_ops import check_cases, reductions
from toumei import nn
from toumei.compiler.llvm.ir import module
from toumei.compiler.llvm.jit import compile_ir
from toumei.compiler.llvm.target import Target, host
from toumei.op import REGISTRY
from toumei.tensor import Tensor

NARROWER = [n for n in ("avx2", "generic") if Target.named(n).runs_here() and n != host().name]
each_target = pytest.mark.parametrize("target", NARROWER)


@each_target
@pytest.mark.parametrize("seed", range(200, 208))
def test_random_programs(seed: int, target: str) -> None:
    rng = np.random.default_rng(seed)
    dtype = ("float32", "float64")[seed % 2]
    program = Builder(lambda n: int(rng.integers(n)), 20, dtype)
    wrong = run(program, target)
    assert not wrong, f"{program.source()}\n{wrong[0]}"


@each_target
@pytest.mark.parametrize("name", ["Sum", "Amax", "Prod", "Any_"])
def test_reductions(name: str, target: str) -> None:
    cls: Any = REGISTRY[name]
    check_cases(list(reductions(cls)), "float64", most=0, target=Target.named(target))


@each_target
@pytest.mark.parametrize("name", layers.MAIN)
def test_layers(name: str, target: str) -> None:
    make, inputs = layers.CASES[name]
    check_training(
        lambda: layers.build(make, inputs, tm.float32), target=Target.named(target), calls=1
    )


@each_target
@pytest.mark.parametrize("dtype", [tm.float32, tm.float64])
def test_matrix_products(dtype: Any, target: str) -> None:
    """… of all small shapes, so that each kind of rest is met."""
    sizes = (1, 2, 7, 16, 33)
    shapes = [(m, k, n) for m in sizes for k in (1, 5, 16) for n in sizes]
    pairs = [(tm.randn(m, k, dtype=dtype), tm.randn(k, n, dtype=dtype)) for m, k, n in shapes[::3]]

    def step(pairs: Any) -> Any:
        return [(a @ b, a @ (b.mT.contiguous()).mT) for a, b in pairs]

    check(step, pairs, target=Target.named(target))


def test_code_for_aarch64() -> None:
    """A step with all kinds of kernels compiles; it isn't run."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 33), nn.LayerNorm(33), nn.GELU(),
        nn.Linear(33, 10),
    )  # fmt: skip
    optimizer = tm.optim.Adam(model.parameters())

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    compiled = native(step)
    compiled(tm.randn(4, 3, 8, 8), tm.randint(0, 10, (4,)))
    code = object_code(executor(compiled).graph, Target.named("aarch64"))
    assert code[:4] == b"\x7fELF"
    assert int.from_bytes(code[18:20], "little") == 183  # EM_AARCH64


def object_code(graph: Any, target: Target) -> bytes:
    """Return the machine code of a graph for a target."""
    from toumei.compiler.fuse import fuse
    from toumei.compiler.plan import Planner

    planner = Planner(graph, fuse, target)
    return compile_ir(module(planner.functions), target)
