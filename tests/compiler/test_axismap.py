"""Generated kernels of maps along a dimension against the op's NumPy forward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei.ops.embeddings
import toumei.ops.resize  # noqa: F401  (it has rules)
from toumei.compiler.llvm.axismap import KERNELS
from toumei.compiler.llvm.tables import KERNELS as ALL
from toumei.op import REGISTRY
from toumei.ops.axismap import AxisMap

from .kernels import TARGETS, Runner, each_target, memory, spaced, untouched

RULES: list[tuple[Any, ...]] = [
    ("area", 8, 3), ("reflect", 8, 2, 3), ("replicate", 8, 1, 0), ("circular", 8, 2, 2),
    ("cubic", 8, 13, None, False), ("nearest", 8, 20, None), ("area", 8, 1),
]  # fmt: skip


def run(op: AxisMap, x: np.ndarray, order: tuple[int, ...], target: Any) -> None:
    expected = op.forward(np, x)
    given = spaced(x.shape, x.dtype, order, 1)
    given[...] = x
    out = spaced(expected.shape, x.dtype, order, 2)
    Runner(KERNELS["AxisMap"], op, [given], [out], target)(given, out)
    error = {4: 1e-6, 8: 1e-14}[x.itemsize]
    np.testing.assert_allclose(out, expected, rtol=error, atol=error)
    assert untouched(out, order, 2), "wrote between the rows"


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules(rule: tuple[Any, ...], transposed: bool) -> None:
    rng = np.random.default_rng(0)
    for dim in (0, 1, 2):
        op = AxisMap(dim, rule, transposed)
        shape = [3, 17, 2]
        shape[dim] = op.sizes()[0]
        for order in ((0, 1, 2), (2, 0, 1)):
            run(op, rng.normal(size=shape).astype("f4"), order, TARGETS[0])


@each_target
def test_samples_of_the_registry(target: Any) -> None:
    for case in AxisMap.samples(np.random.default_rng(1)):
        x = case.inputs[0]
        run(case.op, x, tuple(range(x.ndim)), target)  # type: ignore[arg-type]
        with np.errstate(invalid="ignore"):
            run(case.op, np.full_like(x, np.inf), tuple(range(x.ndim)), target)  # type: ignore


def test_the_split_does_not_matter() -> None:
    x = np.random.default_rng(2).normal(size=(20, 30, 64)).astype("f4")
    op = AxisMap(1, ("area", 30, 7))
    whole, cut = (np.empty((20, 7, 64), "f4") for _ in range(2))
    runner = Runner(KERNELS["AxisMap"], op, [x], [whole], TARGETS[0])
    assert runner.kernels[0].items > 1
    runner(x, whole)
    runner(x, cut, cuts=(0.3, 0.7), order=-1)
    np.testing.assert_array_equal(whole, cut)


def test_other_dtypes_have_no_kernel() -> None:
    x = memory(np.zeros((5, 3), "i8"))
    assert KERNELS["AxisMap"]("op", AxisMap(0, ("area", 5, 3)), [x], [x], TARGETS[0]) is None


def test_every_name_in_the_table_is_an_op() -> None:
    assert set(ALL) <= {cls.__name__ for cls in REGISTRY.values()}
