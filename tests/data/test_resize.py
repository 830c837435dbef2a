"""Resize and RandomResizedCrop: windows, sizes, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import toumei as tm
from toumei.data import RandomResizedCrop, Resize
from toumei.data.keys import fold, seed_key


def keys(n: int) -> np.ndarray:
    return fold(seed_key(5), np.arange(n))


def test_one_number_is_the_shorter_side() -> None:
    for shape, size, wanted in (
        ((40, 60), 20, (20, 30)), ((61, 40), 20, (30, 20)), ((5, 5), 9, (9, 9)),
        ((40, 60), (7, 8), (7, 8)), ((40, 60), [10], (10, 15)),
    ):  # fmt: skip
        assert Resize(size)(tm.zeros(2, *shape)).shape == (2, *wanted)


def test_the_same_size_changes_nothing() -> None:
    image = tm.rand(3, 8, 8)
    assert bool((Resize(8)(image) == image).all())
    whole = RandomResizedCrop(8, scale=(1, 1), ratio=(1, 1))(image)
    np.testing.assert_allclose(whole.numpy(), image.numpy(), atol=1e-6)


def test_a_window_is_cut_out_and_stretched() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((50, 2, 13, 17))
    for antialias in (False, True):
        crop = RandomResizedCrop((6, 5), antialias=antialias)
        result = crop.apply(images, keys(50))
        for i, (top, left, h, w) in enumerate(zip(*crop.windows(keys(50), 13, 17), strict=True)):
            window = images[i : i + 1, :, top : top + h, left : left + w]
            right = Resize((6, 5), antialias=antialias).apply(window, keys(1))[0]
            np.testing.assert_allclose(result[i], right, atol=1e-12)


def test_windows_have_the_area_and_shape_that_were_asked_for() -> None:
    crop = RandomResizedCrop(8, scale=(0.2, 0.6), ratio=(0.5, 2.0))
    tops, lefts, heights, widths = crop.windows(keys(3000), 100, 120)
    share, ratio = heights * widths / 12000, widths / heights
    assert 0.19 < share.min() < 0.21 and 0.58 < share.max() < 0.61
    assert 0.48 < ratio.min() < 0.55 and 1.8 < ratio.max() < 2.05
    assert tops.min() == lefts.min() == 0
    assert (tops + heights).max() == 100 and (lefts + widths).max() == 120
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "window"), [((10, 100), (0, 43, 10, 13)), ((100, 10), (43, 0, 13, 10))]
)
def test_where_nothing_fits_it_is_the_middle(
    shape: tuple[int, int], window: tuple[int, ...]
) -> None:
    found = RandomResizedCrop(8, scale=(0.9, 1)).windows(keys(20), *shape)
    assert {tuple(int(v) for v in row) for row in zip(*found, strict=True)} == {window}


def test_what_makes_no_sense_is_refused() -> None:
    for make, words in (
        (lambda: Resize(0), "positive integers"),
        (lambda: Resize(4, "cubic"), "'nearest' or 'bilinear'"),
        (lambda: RandomResizedCrop(4, scale=(0.5, 0.1)), "scale must be positive and rise"),
        (lambda: RandomResizedCrop(4, ratio=(0, 1)), "ratio must be positive and rise"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
