"""The data sets: the embedded sample, the generated ones, files and what can be wrong with them."""

from __future__ import annotations

import gzip
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toumei.data import (
    CIFAR10,
    CIFAR100,
    MNIST,
    Compose,
    DataLoader,
    FashionMNIST,
    ImageSet,
    MNISTSample,
    Normalize,
    RandomCrop,
    SinCurve,
    Spiral,
    ToTensor,
    catalogue,
    data_home,
    load_mnist,
)
from toumei.data import files as files_module
from toumei.data.files import KNOWN, DataFile, Known, parse_idx, parse_records, read_checked
from toumei.errors import DataError

ASSETS = Path(files_module.__file__).parent / "assets"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


# --- the embedded sample ---


def test_the_sample_is_small_quick_and_licensed() -> None:
    assert sum(path.stat().st_size for path in ASSETS.glob("mnist_*")) <= 2_000_000
    assert "MIT License" in (ASSETS / "mnist_sample.LICENSE").read_text(encoding="utf-8")
    start = time.perf_counter()
    MNISTSample(), MNISTSample(train=False)
    assert time.perf_counter() - start < 0.15


def test_the_sample_has_all_classes_in_the_same_shares() -> None:
    train, test = MNISTSample(), MNISTSample(train=False)
    assert (len(train), len(test)) == (8000, 2000)
    counts = [np.bincount(part.labels, minlength=10) for part in (train, test)]
    assert (np.abs(counts[0] / 8000 - counts[1] / 2000) < 0.0005).all()
    assert counts[0].min() > 600
    assert len(set(train.labels[:50].tolist())) > 5  # not sorted by class


def test_the_sample_holds_digits_none_of_them_twice() -> None:
    train, test = MNISTSample(), MNISTSample(train=False)
    pictures = np.concatenate([train.images, test.images]).reshape(10_000, 784)
    assert len(np.unique(pictures, axis=0)) == 10_000
    assert (
        abs(pictures.mean() / 255 - 0.1307) < 0.002 and abs(pictures.std() / 255 - 0.3081) < 0.002
    )
    # The nearest class mean is right for some 80 % of real digits.
    means = np.stack([train.images[train.labels == d].reshape(-1, 784).mean(0) for d in range(10)])
    x = test.images.reshape(-1, 784).astype(np.float64)
    distance = (means**2).sum(1) - 2 * x @ means.T
    assert (distance.argmin(1) == test.labels).mean() > 0.78


# --- image sets ---


def small(transform: Any = None, target_transform: Any = None) -> ImageSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 1, 6, 6)).astype(np.uint8)
    return ImageSet(images, np.arange(20), transform, target_transform)


def test_the_batch_path_gives_what_single_samples_give() -> None:
    to_float = Compose([ToTensor(), Normalize([0.5], [0.25])])
    for transform in (None, to_float, lambda image: to_float(image) * 2):
        data = small(transform)
        images, labels = next(iter(DataLoader(data, 7)))
        assert labels.tolist() == list(range(7)) and labels.dtype == np.int64
        for i in range(7):
            image, label = data[i]
            assert type(label) is int and label == i
            assert image.dtype == images.dtype and (image.numpy() == images[i].numpy()).all()


def test_target_transform_in_both_paths() -> None:
    data = small(ToTensor(), lambda label: label % 3)
    assert data[5][1] == 2
    assert next(iter(DataLoader(data, 6)))[1].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_sample_is_a_copy_and_an_index_is_checked() -> None:
    data = small()
    data[0][0].numpy()[:] = 0
    next(iter(DataLoader(data, 4)))[0].numpy()[:] = 0
    assert data.images[:4].any()
    assert data[-1][1] == 19
    for bad in (20, -21):
        with pytest.raises(IndexError, match="20 images"):
            data[bad]
    with pytest.raises(ValueError, match="with one label each"):
        ImageSet(np.zeros((3, 1, 2, 2), np.uint8), np.zeros(2, np.int64))


def test_two_looks_outside_a_loader_differ() -> None:
    data = small(RandomCrop(6, padding=3))
    looks = {data[0][0].numpy().tobytes() for _ in range(10)}
    assert len(looks) > 1


# --- generated sets ---


def test_spiral() -> None:
    data = Spiral(points=200)
    x, y = data[:]
    assert tuple(x.shape) == (600, 2) and x.dtype == np.float32
    assert np.bincount(y.numpy()).tolist() == [200, 200, 200]
    radius = np.hypot(*x.numpy().T)
    assert radius.max() < 1.0 and abs(radius.mean() - 0.4975) < 0.01
    angle = np.arctan2(*x.numpy().T) - 4 * radius - 2 * np.pi * y.numpy() / 3
    assert abs(np.angle(np.exp(1j * angle)).std() - 0.2) < 0.02
    assert (Spiral(points=200)[:][0].numpy() == x.numpy()).all()
    for other in (Spiral(points=200, train=False), Spiral(points=200, seed=1)):
        assert (other[:][0].numpy() != x.numpy()).any()


def test_sin_curve() -> None:
    x, y = SinCurve(points=500)[:]
    assert tuple(x.shape) == tuple(y.shape) == (499, 1)
    assert (x.numpy()[1:] == y.numpy()[:-1]).all()
    wave = np.sin(np.linspace(0, 2 * np.pi, 500))[:-1, None]
    noise = x.numpy() - wave
    assert 0.045 < np.abs(noise).max() <= 0.0501
    np.testing.assert_allclose(
        SinCurve(train=False, points=3)[:][0].numpy().ravel(), [1, -1], atol=1e-6
    )


# --- files ---


def idx(array: Any) -> bytes:
    """Return an IDX file of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make MNIST a set of 6 + 6 images, write it, return the data folder."""
    import hashlib

    rng = np.random.default_rng(0)
    contents = {}
    for kind in ("train", "t10k"):
        contents[f"{kind}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (6, 28, 28)))
        contents[f"{kind}-labels-idx1-ubyte"] = idx(np.arange(6))
    described = tuple(
        DataFile(name, len(c), hashlib.md5(c).hexdigest()) for name, c in contents.items()
    )
    monkeypatch.setitem(KNOWN, "mnist", KNOWN["mnist"]._replace(files=described))
    (tmp_path / "mnist").mkdir()
    for name, content in contents.items():
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    return tmp_path


def test_mnist_reads_gzipped_and_raw_files(tiny: Path) -> None:
    packed = MNIST(tiny)
    assert tuple(packed.data.shape) == (6, 28, 28) and packed.targets.tolist() == list(range(6))
    assert packed[2][0].shape == (1, 28, 28) and packed.classes[2] == "2 - two"
    assert packed.class_to_idx["9 - nine"] == 9 and "6 images (1, 28, 28)" in repr(packed)
    assert (MNIST(tiny, train=False).images != packed.images).any()
    for path in (tiny / "mnist").glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert (MNIST(tiny).images == packed.images).all()


@pytest.mark.parametrize("sub", ["MNIST/raw", "."])
def test_mnist_is_found_in_other_places(tiny: Path, sub: str) -> None:
    other = tiny / "elsewhere"
    (other / sub).parent.mkdir(parents=True, exist_ok=True)
    (tiny / "mnist").rename(other / sub)
    assert len(MNIST(other)) == 6
    assert catalogue(other)[0]["folder"] == str(other / sub)
    assert catalogue(other)[1]["folder"] is None  # Fashion-MNIST's files have the same names


def test_load_mnist_says_what_it_took(tiny: Path, tmp_path: Path) -> None:
    splits = load_mnist(tiny, ToTensor())
    assert splits.title == "MNIST, full set (60,000 + 10,000)"
    assert (len(splits.train), splits.test.train) == (6, False)  # type: ignore[attr-defined]
    sample = load_mnist(tmp_path / "nothing")
    assert sample.title == "MNIST sample (8,000 + 2,000), embedded"
    assert (len(sample.train), len(sample.test)) == (8000, 2000)


def test_load_mnist_does_not_hide_a_damaged_set(tiny: Path) -> None:
    (tiny / "mnist" / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=f"incomplete: .*mnist lacks {LABELS}"):
        load_mnist(tiny)


def test_a_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        FashionMNIST(tmp_path)
    message = str(caught.value)
    assert message.startswith("Fashion-MNIST is not there: looked for train-images-idx3-ubyte")
    for words in (
        str(tmp_path / "fashion-mnist"),
        "toumei data fetch fashion-mnist",
        "TOUMEI_DATA",
    ):
        assert words in message


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: c[: len(c) // 2], "is cut short: its .* bytes end before the 4,720"),
        (lambda c: b"oops" + c[4:], "is damaged: it can't be unpacked"),
        (
            lambda c: gzip.compress(gzip.decompress(c)[:-9]),
            "cut short: it holds 4,711 .* hold 4,720",
        ),
        (lambda c: gzip.compress(gzip.decompress(c) + b"x"), "is too long: it holds 4,721"),
        (
            lambda c: gzip.compress(gzip.decompress(c)[:-1] + b"\x01"),
            "damaged, or another data set",
        ),
    ],
)
def test_a_damaged_file_is_named(tiny: Path, damage: Any, words: str) -> None:
    path = tiny / "mnist" / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words) as caught:
        MNIST(tiny)
    assert str(path) in str(caught.value) and "toumei data fetch mnist" in str(caught.value)


def test_a_file_of_the_right_size_with_other_content_is_refused(tmp_path: Path) -> None:
    name = "t10k-labels-idx1-ubyte"
    (tmp_path / name).write_bytes(idx(np.zeros(10_000, np.uint8)))
    with pytest.raises(DataError, match=r"MD5 .* should be 27ae3e4e09519cfbb04c329615203637"):
        read_checked(KNOWN["mnist"], tmp_path, name)


def test_idx_headers_are_checked() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (parse_idx(idx(array), "x") == array).all()
    with pytest.raises(DataError, match="no IDX file of bytes: it starts with 00 00 0d 02"):
        parse_idx(bytes([0, 0, 13, 2]) + bytes(8), "x")
    with pytest.raises(DataError, match=r"holds \(2, 3\) bytes; it has 5"):
        parse_idx(idx(array)[:-1], "x")
    with pytest.raises(DataError, match="starts with nothing"):
        parse_idx(b"", "x")


# --- CIFAR ---


def cifar_record(label: bytes, red: int, green: int, blue: int) -> bytes:
    return label + b"".join(bytes([value]) * 1024 for value in (red, green, blue))


def test_records_are_planes_after_the_label() -> None:
    content = cifar_record(b"\x03", 1, 2, 3) + cifar_record(b"\x09", 4, 5, 6)
    images, labels = parse_records(content, 1, 10, "x")
    assert labels.tolist() == [3, 9] and images[1, :, 31, 31].tolist() == [4, 5, 6]
    fine = parse_records(cifar_record(b"\x01\x63", 0, 0, 7), 2, 100, "x")
    assert fine[1].tolist() == [99] and fine[0][0, 2, 0, 0] == 7
    with pytest.raises(DataError, match="record 1 has label 9, and there are 5 classes"):
        parse_records(content, 1, 5, "x")


@pytest.fixture
def tiny_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make both CIFARs sets of 2 images per file, write them, return the data folder."""
    for name, head in (("cifar10", b"\x03"), ("cifar100", b"\x00\x63")):
        known: Known = KNOWN[name]
        record = cifar_record(head, 10, 20, 30)
        described = tuple(DataFile(f.name, 2 * len(record)) for f in known.files)
        monkeypatch.setitem(KNOWN, name, known._replace(files=described))
        (tmp_path / known.folder).mkdir(parents=True)
        for f in described:
            (tmp_path / known.folder / f.name).write_bytes(record * 2)
    return tmp_path


def test_cifar_reads_the_binary_version(tiny_cifar: Path) -> None:
    train, test = CIFAR10(tiny_cifar), CIFAR10(tiny_cifar, train=False)
    assert (len(train), len(test)) == (10, 2) and train.targets == [3] * 10
    assert train.data.shape == (10, 32, 32, 3) and train.data[0, 5, 6].tolist() == [10, 20, 30]
    assert tuple(train[0][0].shape) == (3, 32, 32) and train.classes[3] == "cat"
    fine = CIFAR100(tiny_cifar)
    assert fine.targets == [99, 99] and fine.classes[99] == "worm"
    assert len(fine.classes) == 100 == len(set(fine.classes))
    assert list(fine.classes) == sorted(fine.classes)


def test_a_cut_short_cifar_file_is_named(tiny_cifar: Path) -> None:
    path = tiny_cifar / KNOWN["cifar10"].folder / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"data_batch_3\.bin is cut short: it holds 6,046 bytes"):
        CIFAR10(tiny_cifar)


def test_cifar_beside_its_usual_folder(tiny_cifar: Path) -> None:
    inner = tiny_cifar / KNOWN["cifar10"].folder
    inner.rename(tiny_cifar / inner.name)
    assert len(CIFAR10(tiny_cifar)) == 10
    assert len(CIFAR10(tiny_cifar / inner.name)) == 10


# --- the data folder ---


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOUMEI_DATA", str(tmp_path / "env"))
    assert data_home("/x/y") == Path("/x/y") and data_home() == tmp_path / "env"
    monkeypatch.delenv("TOUMEI_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, expected in (
        ("linux", tmp_path / "xdg" / "toumei"),
        ("win32", tmp_path / "local" / "toumei"),
        ("darwin", Path.home() / "Library" / "Caches" / "toumei"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert data_home() == expected
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_home() == Path.home() / ".cache" / "toumei"


def test_the_catalogue_lists_what_is_there(tiny_cifar: Path) -> None:
    rows = {row["name"]: row for row in catalogue(tiny_cifar)}
    names = ["mnist", "fashion-mnist", "cifar10", "cifar100", "tinyshakespeare", "multi30k"]
    assert list(rows) == names
    assert rows["mnist"]["folder"] is None and rows["mnist"]["bytes"] == 11_594_722
    assert rows["cifar10"]["folder"] == str(tiny_cifar / KNOWN["cifar10"].folder)
    (tiny_cifar / KNOWN["cifar100"].folder / "test.bin").unlink()
    assert catalogue(tiny_cifar)[3]["folder"] is None


# --- the full sets, where they are at hand ---

needs_full = pytest.mark.skipif(not os.environ.get("TOUMEI_DATA"), reason="TOUMEI_DATA is not set")


@needs_full
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_the_full_set(kind: type[MNIST]) -> None:
    if all(row["folder"] is None for row in catalogue() if row["name"] == kind._name):
        pytest.skip(f"{kind.__name__} is not in the data folder")
    train, test = kind(), kind(train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.bincount(test.labels).min() > 850
    pixels = train.images / np.float32(255)
    assert abs(pixels.mean() - kind.mean[0]) < 1e-4 and abs(pixels.std() - kind.std[0]) < 1e-4


@needs_full
def test_the_sample_is_from_the_full_training_set() -> None:
    if catalogue()[0]["folder"] is None:
        pytest.skip("MNIST is not in the data folder")
    full = MNIST()
    label_of = {i.tobytes(): int(n) for i, n in zip(full.images, full.labels, strict=True)}
    for part in (MNISTSample(), MNISTSample(train=False)):
        found = [label_of.get(image.tobytes()) for image in part.images]
        assert found == part.labels.tolist()
