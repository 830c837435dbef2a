"""ColorJitter against Pillow and colorsys, written by others."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.data import ColorJitter, Compose, DataLoader, RandomHorizontalFlip
from toumei.data.keys import fold, seed_key

ENHANCE = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}


def pictures(n: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, 9, 7)).astype(np.uint8)


def keys(n: int) -> np.ndarray:
    return fold(seed_key(5), np.arange(n))


@pytest.mark.parametrize("name", list(ENHANCE))
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.7])
def test_a_change_is_pillows(name: str, factor: float) -> None:
    from PIL import Image, ImageEnhance

    images = pictures()
    mine = ColorJitter(**{name: (factor, factor)}).apply(images, keys(6))
    for image, result in zip(images, mine, strict=True):
        enhance = getattr(ImageEnhance, ENHANCE[name])(Image.fromarray(image.transpose(1, 2, 0)))
        right = np.asarray(enhance.enhance(factor)).transpose(2, 0, 1)
        assert np.abs(right.astype(int) - result).max() <= 2  # Pillow rounds its grey as well
    as_floats = ColorJitter(**{name: (factor, factor)}).apply(images / np.float32(255), keys(6))
    np.testing.assert_allclose(as_floats * 255, mine, atol=0.51)
    assert as_floats.dtype == np.float32


@pytest.mark.parametrize("turn", [-0.5, -0.3, 0.1, 0.5])
def test_the_hue_is_turned(turn: float) -> None:
    images = pictures()[:2].astype(np.float64) / 255
    images[0, :, 0, 0] = 0.3  # grey
    mine = ColorJitter(hue=(turn, turn)).apply(images, keys(2))
    for image, result in zip(images, mine, strict=True):
        pixels = image.reshape(3, -1).T
        turned = []
        for r, g, b in pixels:
            h, s, v = colorsys.rgb_to_hsv(r, g, b)
            turned.append(colorsys.hsv_to_rgb((h + turn) % 1, s, v))
        np.testing.assert_allclose(result.reshape(3, -1).T, turned, atol=1e-9)


def test_amounts_and_orders_differ_by_image_and_stay_in_range() -> None:
    images = np.full((4000, 3, 1, 1), 0.25, np.float32)
    bright = ColorJitter(brightness=0.4).apply(images, keys(4000))[:, 0, 0, 0] / 0.25
    assert 0.6 <= bright.min() < 0.61 and 1.39 < bright.max() <= 1.4
    assert bright.mean() == pytest.approx(1, abs=0.02)
    one = np.zeros((200, 3, 1, 2), np.float32)
    one[:, :, 0, 1] = 1
    # Brightness 0.5 and contrast 2: (0, 0.5) -> (0, 0.75), or (0, 1) -> (0, 0.5).
    both = ColorJitter(brightness=(0.5, 0.5), contrast=(2, 2)).apply(one, keys(200))[:, 0, 0, 1]
    assert set(both.round(3)) == {np.float32(0.75), np.float32(0.5)}
    assert 60 < (both > 0.6).sum() < 140


def test_nothing_and_grey_images() -> None:
    images = pictures(channels=1)
    for jitter in (ColorJitter(), ColorJitter(saturation=0.5, hue=0.2)):
        assert (jitter.apply(images, keys(6)) == images).all()
    dark = ColorJitter(contrast=(0, 0)).apply(images, keys(6))
    assert all(len(np.unique(image)) == 1 for image in dark)


def test_a_loader_jitters_the_same_again() -> None:
    class Pictures(tm.data.Dataset[Any]):
        transform = Compose([RandomHorizontalFlip(), ColorJitter(0.4, 0.4, 0.4, 0.1)])

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> tm.Tensor:
            return self.transform(tm.from_numpy(pictures()[index].copy()))

    def content(loader: DataLoader) -> list[bytes]:
        return [batch.numpy().tobytes() for batch in loader]

    plain = DataLoader(Pictures(), 2, seed=1)
    first, second = content(plain), content(plain)
    assert first != second
    threads = DataLoader(Pictures(), 2, seed=1, num_workers=2)
    assert content(threads) == first and content(threads) == second


def test_what_makes_no_sense_is_refused() -> None:
    for options, words in (
        ({"brightness": -0.1}, "brightness must not be negative"),
        ({"contrast": (0.5, 0.2)}, "contrast must rise from 0"),
        ({"saturation": (-1, 1)}, "saturation must rise from 0"),
        ({"hue": 0.6}, "hue must rise within"),
    ):
        with pytest.raises(ValueError, match=words):
            ColorJitter(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        ColorJitter(0.5)(tm.zeros(2, 4, 4))
