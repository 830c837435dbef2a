"""Transforms: what they do to pixels, and that chance comes from the keys alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from toumei.data import (
    CenterCrop,
    Compose,
    Lambda,
    Normalize,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    RandomVerticalFlip,
    ToTensor,
    Transform,
)
from toumei.data.keys import fold, seed_key
from toumei.device import manual_seed
from toumei.ops.creation import from_numpy
from toumei.tensor import Tensor

RANDOM = [
    RandomCrop(6, padding=2),
    RandomHorizontalFlip(),
    RandomVerticalFlip(0.3),
    RandomErasing(),
    RandomErasing(value="random"),
    RandomRotation(30),
    RandomAffine(20, (0.2, 0.1), (0.8, 1.2), 10, "bilinear"),
    Compose([RandomCrop(6, padding=2), RandomErasing(), RandomErasing()]),
]


def images(n: int = 16, channels: int = 2, height: int = 8, width: int = 8) -> Any:
    rng = np.random.default_rng(0)
    return rng.random((n, channels, height, width)).astype(np.float32)


def keys(n: int, seed: int = 0) -> Any:
    return fold(seed_key(seed), np.arange(n))


def image(array: Any) -> Tensor:
    return from_numpy(np.asarray(array))


@pytest.mark.parametrize("transform", RANDOM, ids=repr)
def test_an_image_depends_on_its_key_only(transform: Transform) -> None:
    x, k = images(), keys(16)
    before = x.copy()
    whole = transform.apply(x, k)
    assert (x == before).all()
    for i in (0, 7, 15):
        assert (transform.apply(x[i : i + 1], k[i : i + 1])[0] == whole[i]).all()
    order = np.random.default_rng(1).permutation(16)
    assert (transform.apply(x[order], k[order]) == whole[order]).all()
    assert (transform.apply(x, keys(16, seed=1)) != whole).any()


@pytest.mark.parametrize("transform", RANDOM, ids=repr)
def test_one_image_draws_from_the_default_generator(transform: Transform) -> None:
    x = image(images(1)[0])

    def draws() -> list[bytes]:
        manual_seed(11)
        return [transform(x).numpy().tobytes() for _ in range(12)]

    assert draws() == draws() and len(set(draws())) > 1


def test_a_fixed_transform_draws_nothing() -> None:
    from toumei.device import get_rng_state

    before = get_rng_state()
    Compose([CenterCrop(4), Normalize(0.5, 0.5)])(image(images(1)[0]))
    assert (get_rng_state() == before).all()


def test_random_crop_shows_every_window_equally_often() -> None:
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    crops = RandomCrop(2).apply(np.repeat(x, 1800, 0), keys(1800))
    tops, counts = np.unique(crops[:, 0, 0, 0], return_counts=True)
    assert tops.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10] and abs(counts - 200).max() < 60
    assert (crops[:, 0] - crops[:, 0, :1, :1] == [[0, 1], [4, 5]]).all()


def test_random_crop_of_a_padded_image() -> None:
    crop = RandomCrop((3, 4), padding=(1, 2), fill=9)
    out = crop.apply(np.zeros((200, 1, 3, 4), np.uint8), keys(200))
    assert out.shape == (200, 1, 3, 4) and set(np.unique(out)) == {0, 9}
    with pytest.raises(ValueError, match="9 x 4 doesn't fit into an image of 7 x 6, padding inc"):
        RandomCrop((9, 4), padding=(1, 2)).apply(np.zeros((1, 1, 3, 4), np.uint8), keys(1))
    with pytest.raises(ValueError, match="mean nothing without padding"):
        RandomCrop(3, fill=1)


def test_flips() -> None:
    x = images(2000, 1, 2, 3)
    for transform, mirrored in (
        (RandomHorizontalFlip(0.3), x[:, :, :, ::-1]),
        (RandomVerticalFlip(0.3), x[:, :, ::-1]),
    ):
        out = transform.apply(x, keys(2000))
        same = (out == x).all(axis=(1, 2, 3))
        assert ((out == mirrored).all(axis=(1, 2, 3)) != same).all()
        assert abs((~same).mean() - 0.3) < 0.04
    assert (RandomHorizontalFlip(0).apply(x, keys(2000)) == x).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        RandomHorizontalFlip(1.5)


@pytest.mark.parametrize(
    ("padding", "shape"), [(1, (4, 5)), ((1, 2), (6, 5)), ((1, 2, 3, 4), (8, 7))]
)
def test_pad_sides(padding: Any, shape: tuple[int, int]) -> None:
    out = Pad(padding, fill=7)(image(np.zeros((2, 2, 3), np.uint8)))
    assert tuple(out.shape) == (2, *shape) and (out.numpy() == 0).sum() == 12
    assert out.numpy()[0, -1, -1] == 7


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
def test_pad_modes(mode: str) -> None:
    x = images(1, 1, 3, 3)
    assert (
        Pad(2, padding_mode=mode).apply(x, keys(1))[0, 0] == np.pad(x[0, 0], 2, mode=mode)
    ).all()


def test_pad_refuses_nonsense() -> None:
    for bad in (-1, (1, 2, 3), 1.5):
        with pytest.raises((ValueError, TypeError)):
            Pad(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        Pad(1, padding_mode="wrap")
    with pytest.raises(ValueError, match="fill means nothing"):
        Pad(1, fill=3, padding_mode="edge")


def test_pad_fills_channels() -> None:
    out = Pad(1, fill=(1, 2))(image(np.zeros((2, 1, 1), np.uint8))).numpy()
    assert out[:, 0, 0].tolist() == [1, 2] and out[:, 1, 1].tolist() == [0, 0]


def test_center_crop() -> None:
    x = image(np.arange(25).reshape(1, 5, 5))
    assert CenterCrop(3)(x).tolist() == [[[6, 7, 8], [11, 12, 13], [16, 17, 18]]]
    assert CenterCrop((7, 1))(x).numpy()[0, :, 0].tolist() == [0, 2, 7, 12, 17, 22, 0]


def test_to_tensor_scales_and_moves_channels() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    out = ToTensor()(array)
    assert out.dtype == np.float32 and tuple(out.shape) == (3, 2, 2)
    assert (out.numpy() == (array.transpose(2, 0, 1) / np.float32(255)).astype(np.float32)).all()
    assert tuple(ToTensor()(array[:, :, 0]).shape) == (1, 2, 2)
    assert ToTensor()(image(array)).numpy().max() == np.float32(11) / np.float32(255)
    assert ToTensor()(array / 2).numpy().max() == 5.5  # not uint8: no scaling


def test_normalize() -> None:
    x = images(4, 2)
    out = Normalize([0.5, 0.25], (0.5, 2.0)).apply(x, keys(4))
    assert out.dtype == np.float32
    expected = (x - np.float32([[[0.5]], [[0.25]]])) / np.float32([[[0.5]], [[2.0]]])
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="divide by zero"):
        Normalize([0.5], [0.0])
    with pytest.raises(ValueError, match="3 numbers, the images have 2"):
        Normalize([0.5] * 3, [1.0] * 3).apply(x, keys(4))
    with pytest.raises(TypeError, match="uint8; put ToTensor"):
        Normalize([0.5], [0.5])(image(np.zeros((1, 2, 2), np.uint8)))


def test_erased_rectangles_have_the_right_size() -> None:
    x = np.ones((3000, 1, 30, 40), np.uint8)
    out = RandomErasing(0.5, (0.05, 0.2), (0.5, 2.0), value=7).apply(x, keys(3000))
    hit = np.flatnonzero((out == 7).any(axis=(1, 2, 3)))
    assert abs(len(hit) / 3000 - 0.5) < 0.04
    for picture in out[hit[:200], 0]:
        rows, columns = np.nonzero((picture == 7).any(1))[0], np.nonzero((picture == 7).any(0))[0]
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (picture == 7).sum() == height * width
        assert 0.04 < height * width / 1200 < 0.22 and 0.4 < height / width < 2.5
    first_rows = (out[hit, 0] == 7).any(2).argmax(1)
    assert first_rows.min() == 0 and first_rows.max() > 18  # all over the picture


def test_erasing_with_noise_and_refusals() -> None:
    out = RandomErasing(1.0, value="random").apply(np.zeros((50, 3, 16, 16), np.float32), keys(50))
    noise = out[out != 0]
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    with pytest.raises(TypeError, match="needs float images"):
        RandomErasing(value="random").apply(np.zeros((1, 1, 4, 4), np.uint8), keys(1))
    for bad in ({"scale": (0.5, 0.1)}, {"ratio": (0, 1)}, {"value": "noise"}, {"p": 2}):
        with pytest.raises(ValueError, match="RandomErasing"):
            RandomErasing(**bad)


def test_compose_gives_each_transform_its_own_chance() -> None:
    twice = Compose([RandomHorizontalFlip(), RandomHorizontalFlip()])
    x = images(400, 1)
    unchanged = (twice.apply(x, keys(400)) == x).all(axis=(1, 2, 3)).mean()
    assert 0.4 < unchanged < 0.6  # 1 if both drew the same


def test_plain_functions_in_compose() -> None:
    x = images(3, 1)
    halved = Compose([lambda picture: picture * 0.5, Lambda(lambda p: p + 1.0)])
    np.testing.assert_allclose(halved.apply(x, keys(3)), x * 0.5 + 1, rtol=1e-6)
    crop = RandomCrop(6, padding=2)
    inside = Compose([lambda picture: crop(picture)])
    assert (inside.apply(x, keys(3)) == inside.apply(x, keys(3))).all()
    assert (inside.apply(x, keys(3)) != inside.apply(x, keys(3, seed=1))).any()


def test_what_is_no_image_is_refused() -> None:
    for bad in (np.zeros((2, 2)), image(np.zeros((2, 2))), "picture"):
        with pytest.raises(TypeError, match="CenterCrop takes an image as a Tensor"):
            CenterCrop(1)(bad)
    with pytest.raises(TypeError, match="Lambda takes a function"):
        Lambda(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size must be"):
        RandomCrop((1, 2, 3))
    with pytest.raises(NotImplementedError, match="Transform must define apply"):
        Transform()(image(np.zeros((1, 1, 1))))


def test_a_batch_is_cropped_and_flipped_in_milliseconds() -> None:
    both = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip()])
    x, k, times = np.zeros((128, 3, 32, 32), np.uint8), keys(128), []
    for _ in range(10):
        start = time.perf_counter()
        both.apply(x, k)
        times.append(time.perf_counter() - start)
    assert min(times) < 3e-3
