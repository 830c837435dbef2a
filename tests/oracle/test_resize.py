"""Resize against PyTorch's interpolate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toumei.data import Resize

torch = pytest.importorskip("torch")

KEYS = np.zeros(2, np.uint64)


@pytest.mark.parametrize("size", [(5, 5), (30, 9), (1, 40), (13, 3), (12, 17)])
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "bilinear", "antialias": False},
        {"mode": "bilinear", "antialias": True},
        {"mode": "nearest"},
    ],
)
def test_resize(size: tuple[int, int], options: dict[str, Any]) -> None:
    images = np.random.default_rng(0).random((2, 3, 12, 17), np.float32)
    flags = {} if options["mode"] == "nearest" else {"antialias": options["antialias"]}
    mine = Resize(size, options["mode"], **flags).apply(images, KEYS)
    right = torch.nn.functional.interpolate(torch.from_numpy(images), size, **options).numpy()
    np.testing.assert_allclose(mine, right, atol=2e-6)
    whole = (images * 255).astype(np.uint8)
    right = torch.nn.functional.interpolate(torch.from_numpy(whole), size, **options).numpy()
    mine = Resize(size, options["mode"], **flags).apply(whole, KEYS)
    assert mine.dtype == np.uint8 and np.abs(mine.astype(int) - right).max() <= 1
