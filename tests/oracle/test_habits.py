"""Habits of PyTorch users, side by side with PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")
pytest.importorskip("torch.masked")

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


INTEGERS = np.array([[-3, 0, 7], [9, -1, 2]])
MASK = np.array([[True, False, True], [False, True, False]])
OF_INTEGERS = {
    "gradient": lambda lib, x: lib.gradient(x, dim=1)[0],
    "hardtanh": lambda lib, x: lib.nn.functional.hardtanh(x, -0.5, 2.5),
    "hardtanh_": lambda lib, x: lib.nn.functional.hardtanh(x, -2, 2, inplace=True),
    "relu6": lambda lib, x: lib.nn.functional.relu6(x),
    "masked.amax": lambda lib, x: lib.masked.amax(x, 1, mask=mask_of(lib)),
    "masked.amin": lambda lib, x: lib.masked.amin(x, 0, mask=mask_of(lib)),
    "masked.argmax": lambda lib, x: lib.masked.argmax(x, 1, mask=mask_of(lib)),
    "masked.argmin": lambda lib, x: lib.masked.argmin(x, 1, mask=mask_of(lib)),
}


def mask_of(lib: Any) -> Any:
    return lib.tensor(MASK)


@pytest.mark.parametrize("what", OF_INTEGERS)
def test_functions_of_integers(what: str) -> None:
    theirs, ours = (OF_INTEGERS[what](lib, lib.tensor(INTEGERS)) for lib in (torch, tm))
    assert name(theirs.dtype) == name(ours.dtype)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
