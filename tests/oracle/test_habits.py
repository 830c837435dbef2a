"""Habits of PyTorch users, side by side with PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

NAMES = ("bool", "uint8", "int32", "int64", "float32", "float64")


def name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(("a", "b"), [*itertools.product(NAMES, NAMES)])
def test_questions_about_dtypes(a: str, b: str) -> None:
    answers = []
    for lib in (torch, tm):
        x, y = getattr(lib, a), getattr(lib, b)
        flat, single = lib.ones(2, dtype=x), lib.ones((), dtype=y)
        kinds = [
            lib.promote_types(x, y),
            lib.result_type(flat, single),
            lib.result_type(flat, 1.5),
            lib.full((2,), np.float64(2)).dtype,
        ]
        answers.append([*map(name, kinds), lib.can_cast(x, y), lib.is_floating_point(flat)])
    assert answers[0] == answers[1]
