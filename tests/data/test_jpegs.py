"""CIFAR-10 as JPEGs in one file: read, kept decoded, and what can be wrong with it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toumei.data import CIFAR10, catalogue, jpegs
from toumei.data.files import KNOWN
from toumei.errors import DataError

COLOURS = [(200, 30, 40), (10, 180, 90), (20, 60, 220)]
LABELS = [3, 0, 9]


def packed(part: str, count: int, first: int = 0, side: int = 32) -> dict[str, Any]:
    """Return `count` JPEGs, each of one colour on its upper half and black below."""
    files = []
    for k in range(count):
        pixels = np.zeros((side, side, 3), np.uint8)
        pixels[:16] = COLOURS[(first + k) % 3]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    labels = np.array(LABELS[:count], np.int64)
    return {f"jpeg_{part}": np.concatenate(files), f"offsets_{part}": offsets, f"y_{part}": labels}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Write a set of 3 + 2 images, return the data folder; the cache is next to it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    write(tmp_path / "data", {**packed("train", 3), **packed("test", 2)})
    return tmp_path / "data"


def write(home: Path, content: dict[str, Any]) -> None:
    np.savez(home / "cifar10" / "cifar10_jpeg.npz", **content)


def kept(home: Path) -> list[Path]:
    return sorted((home.parent / "cache" / "toumei" / "decoded").iterdir())


def test_pixels_and_labels_are_read(home: Path) -> None:
    train, test = CIFAR10(home), CIFAR10(home, train=False)
    assert (len(train), len(test)) == (3, 2) and train.targets == LABELS
    for image, colour in zip(train.images, COLOURS, strict=True):
        assert np.abs(image[:, :12].astype(int) - np.array(colour)[:, None, None]).max() <= 6
        assert image[:, 20:].max() <= 6
    for folder in (home / "cifar10", home):
        assert len(CIFAR10(folder)) == 3
    assert catalogue(home)[2]["folder"] == str(home / "cifar10")


def test_the_pixels_are_kept_and_taken_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = CIFAR10(home).images
    assert [path.suffix for path in kept(home)] == [".npy"]  # no part of a file is left behind
    monkeypatch.setattr(jpegs, "_decoded", lambda *_: pytest.fail("decoded again"))
    assert (CIFAR10(home).images == first).all()


def test_what_is_kept_is_not_another_sets(home: Path) -> None:
    first = CIFAR10(home).images
    write(home, packed("train", 3, first=1))
    second = CIFAR10(home).images
    assert (second == first[[1, 2, 0]]).all() and len(kept(home)) == 2


def test_damage_to_what_is_kept_does_no_harm(home: Path) -> None:
    first = CIFAR10(home).images
    (path,) = kept(home)
    path.write_bytes(path.read_bytes()[:500])
    assert (CIFAR10(home).images == first).all()
    assert np.load(path).shape == (3, 3, 32, 32)  # and it is whole again


def test_without_a_cache_it_works_as_well(home: Path) -> None:
    (home.parent / "cache").write_text("no folder")
    assert len(CIFAR10(home)) == 3


def test_the_binary_files_come_first(home: Path) -> None:
    folder = home / KNOWN["cifar10"].folder
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"incomplete: .*lacks data_batch_1\.bin"):
        CIFAR10(home)


def test_a_missing_set_names_the_packed_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"and for cifar10_jpeg\.npz in"):
        CIFAR10(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_train": np.array([3, 0, 10])}, "labels from 0 to 10, and there are 10 classes"),
        ({"y_train": np.array([3, 0])}, "don't fit together"),
        ({"jpeg_train": np.zeros(5, np.uint8)}, "the offsets must rise from 0 to 5"),
        ({"jpeg_train": np.array([{}], object)}, "damaged, or no .npz file"),
    ],
)
def test_damage_is_named(home: Path, change: dict[str, Any], words: str) -> None:
    write(home, {**packed("train", 3), **change})
    with pytest.raises(DataError, match=words):
        CIFAR10(home)


def test_a_damaged_image_is_named(home: Path) -> None:
    content = packed("train", 3)
    start = content["offsets_train"][1]
    content["jpeg_train"][start : start + 8] = 0
    write(home, content)
    with pytest.raises(DataError, match="image 1 can't be decoded"):
        CIFAR10(home)
    write(home, packed("train", 3, side=1))
    with pytest.raises(DataError, match=r"image 0 can't be decoded \(it has 1 x 1 pixels\)"):
        CIFAR10(home)
    write(home, packed("test", 2))
    with pytest.raises(DataError, match="holds no CIFAR-10 as JPEGs"):
        CIFAR10(home)
    path = home / "cifar10" / "cifar10_jpeg.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"is damaged, or no \.npz file"):
        CIFAR10(home)
