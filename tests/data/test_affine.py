"""Rotation and affine transforms, against exact turns and a direct computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from toumei.data import RandomAffine, RandomRotation
from toumei.data.affine import warp
from toumei.data.keys import fold, seed_key, uniform


def keys(n: int) -> Any:
    return fold(seed_key(0), np.arange(n))


def images(n: int = 3, height: int = 6, width: int = 6) -> Any:
    return np.random.default_rng(0).random((n, 2, height, width)).astype(np.float32)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_are_exact(interpolation: str, quarters: int) -> None:
    x = images()
    angle = 90 * quarters
    turned = RandomRotation((angle, angle), interpolation).apply(x, keys(3))
    np.testing.assert_allclose(turned, np.rot90(x, quarters, axes=(2, 3)), atol=1e-6)
    affine = RandomAffine((angle, angle), interpolation=interpolation).apply(x, keys(3))
    np.testing.assert_allclose(affine, np.rot90(x, -quarters, axes=(2, 3)), atol=1e-6)


def test_angles_fill_their_range() -> None:
    # A dot to the right of the centre moves along a circle: where it is tells the angle.
    x = np.zeros((500, 1, 41, 41), np.float32)
    x[:, 0, 18:23, 34:39] = 1
    out = RandomRotation((10, 50), "bilinear").apply(x, keys(500))[:, 0]
    rows, columns = np.mgrid[:41, :41] - 20.0
    dy, dx = ((out * axis).sum((1, 2)) for axis in (-rows, columns))
    angles = np.rad2deg(np.arctan2(dy, dx))
    assert 9.5 < angles.min() < 12 and 48 < angles.max() < 50.5
    drawn = 10 + 40 * uniform(keys(500), 1)[:, 0]
    np.testing.assert_allclose(angles, drawn, atol=0.5)


def test_pixels_from_outside_are_filled() -> None:
    out = RandomRotation((45, 45), fill=5)
    corner = out.apply(np.zeros((1, 1, 9, 9), np.uint8), keys(1))[0, 0]
    assert corner[0, 0] == corner[-1, -1] == 5 and corner[4, 4] == 0


def test_shifts_are_whole_pixels_within_their_share() -> None:
    x = np.zeros((400, 1, 20, 30), np.float32)
    x[:, 0, 10, 15] = 1
    out = RandomAffine(0, translate=(0.2, 0.1)).apply(x, keys(400))[:, 0]
    rows, columns = np.divmod(out.reshape(400, -1).argmax(1), 30)
    assert (out.sum((1, 2)) == 1).all()
    assert set(rows - 10) == set(range(-2, 3)) and set(columns - 15) == set(range(-6, 7))


def test_scale_and_shear() -> None:
    x = np.zeros((1, 1, 21, 21), np.float32)
    x[:, :, 8:13, 8:13] = 1
    grown = RandomAffine(0, scale=(2, 2), interpolation="bilinear").apply(x, keys(1))
    assert abs(grown.sum() / x.sum() - 4) < 0.2
    sheared = RandomAffine(0, shear=(45, 45), interpolation="bilinear").apply(x, keys(1))[0, 0]
    columns = np.arange(21.0)
    centres = [(sheared[r] * columns).sum() / sheared[r].sum() for r in (8, 12)]
    np.testing.assert_allclose(centres, [12, 8], atol=1e-5)  # x − tan(45°) y, y downward


def test_warp_is_a_direct_lookup() -> None:
    x, rng = images(4, 7, 5), np.random.default_rng(1)
    matrices, shifts = rng.normal(size=(4, 2, 2)) + np.eye(2), rng.normal(size=(4, 2))
    out = warp(x, matrices, shifts, "bilinear", 0.5)
    for n, r, c in [(0, 0, 0), (1, 3, 2), (2, 6, 4), (3, 5, 1)]:
        source = np.linalg.solve(matrices[n], np.array([c - 2, r - 3]) - shifts[n])
        px, py = source + np.array([2, 3])
        left, top = int(np.floor(px)), int(np.floor(py))
        value = np.zeros(2)
        for ix, iy in [(left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)]:
            inside = 0 <= ix < 5 and 0 <= iy < 7
            pixel = x[n, :, iy, ix] if inside else np.full(2, 0.5)
            value += pixel * (1 - abs(px - ix)) * (1 - abs(py - iy))
        np.testing.assert_allclose(out[n, :, r, c], value, atol=1e-6)


def test_uint8_is_rounded() -> None:
    x = np.full((1, 1, 8, 8), 201, np.uint8)
    out = RandomRotation((30, 30), "bilinear").apply(x, keys(1))
    assert out.dtype == np.uint8 and out[0, 0, 4, 4] == 201


@pytest.mark.parametrize(
    "bad",
    [
        lambda: RandomRotation(-5),
        lambda: RandomRotation((5, -5)),
        lambda: RandomRotation(5, "cubic"),
        lambda: RandomAffine(0, translate=(2, 0)),
        lambda: RandomAffine(0, scale=(2, 1)),
        lambda: RandomAffine(0, shear=(1, 2, 3)),
    ],
)
def test_nonsense_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="Random"):
        bad()
