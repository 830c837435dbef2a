"""Random programs as machine code compute what they do eager.

More of them: python -m tests.compiler.random_programs --count 2000 --ops 30
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toumei as tm
from tests.compiler import agree
from tests.compiler.random_programs import Builder, run


def check(program: Builder) -> None:
    """Compare a program, unless eager refuses it."""
    wrong = run(program)
    assert not wrong, f"{program.source()}\n{wrong[0]}"


def seeded(seed: int, ops: int, dtype: str) -> Builder:
    rng = np.random.default_rng(seed)
    return Builder(lambda n: int(rng.integers(n)), ops, dtype)


@pytest.mark.parametrize("seed", range(40))
def test_double(seed: int) -> None:
    check(seeded(seed, 20, "float64"))


@pytest.mark.parametrize("seed", range(100, 130))
def test_single(seed: int) -> None:
    check(seeded(seed, 14, "float32"))


@given(st.data())
@settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
def test_what_hypothesis_thinks_of(data: Any) -> None:
    check(Builder(lambda n: data.draw(st.integers(0, n - 1)), 6))


def test_the_same_numbers_make_the_same_program() -> None:
    assert seeded(3, 20, "float64").source() == seeded(3, 20, "float64").source()
    assert seeded(3, 20, "float64").source() != seeded(4, 20, "float64").source()


def test_changes_that_keep_what_they_overwrite() -> None:
    """y.mul_(x) needs the old y for x's gradient: a value of its own, traced and eager."""

    def step(x: tm.Tensor, z: tm.Tensor) -> Any:
        y = x * 2
        y[1:3] *= x[:2]
        y[:, 0] = x.sum(1)
        y.diagonal().mul_(z.diagonal())
        y.mul_(z)
        y[2:].mul_(y[:2].detach())
        y.mul_(y.detach()).exp_()
        return y.detach(), tm.autograd.grad((y * y).mean(), [x, z])

    x, z = (tm.rand(4, 5, dtype=tm.float64).requires_grad_() for _ in range(2))
    agree.check(step, x, z)
