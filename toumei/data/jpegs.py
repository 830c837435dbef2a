"""CIFAR-10 as JPEGs in one .npz file: read, decoded with Pillow, and kept decoded.

The file holds, for part = train and part = test,
    jpeg_<part>      uint8 (bytes), all JPEG files, one after the other
    offsets_<part>   integers (n + 1), where each begins, and where the last ends
    y_<part>         integers (n), the labels

Decoding takes some 6 seconds for all of CIFAR-10, so the pixels are kept in the user's cache
(<cache>/toumei/decoded, see `io.files.cache_home`) under the checksum of what they were made from;
that folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..io.files import cache_home

Pixels = NDArray[np.uint8]


def read_jpegs(path: Path, part: str, classes: int) -> tuple[Pixels, NDArray[np.int64]]:
    """Return the images (n, 3, 32, 32) and the labels of a part, "train" or "test".

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            blob, offsets, labels = (content[f"{key}_{part}"] for key in ("jpeg", "offsets", "y"))
    except KeyError as error:
        raise DataError(f"{path} holds no CIFAR-10 as JPEGs: {error.args[0]}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged, or no .npz file: {error}") from error
    _check(path, blob, offsets, labels, classes)
    kept = cache_home() / "decoded" / f"{path.stem}_{part}_{_checksum(blob, offsets)}.npy"
    images = _kept(kept, len(labels))
    if images is None:
        images = _decoded(path, blob, offsets)
        _keep(kept, images)
    return images, labels.astype(np.int64)


def _check(path: Path, blob: Any, offsets: Any, labels: Any, classes: int) -> None:
    """Refuse arrays that aren't JPEGs and labels that fit together."""
    count = len(labels) if labels.ndim == 1 else -1
    whole = all(a.dtype.kind in "iu" for a in (offsets, labels))
    if blob.dtype != np.uint8 or blob.ndim != 1 or not whole or offsets.shape != (count + 1,):
        raise DataError(
            f"{path} is damaged: bytes {blob.dtype}{blob.shape}, offsets {offsets.dtype}"
            f"{offsets.shape} and labels {labels.dtype}{labels.shape} don't fit together"
        )
    ends = int(offsets[0]), int(offsets[-1])
    if ends != (0, len(blob)) or (offsets[1:] <= offsets[:-1]).any():
        raise DataError(
            f"{path} is damaged: the offsets must rise from 0 to {len(blob)}, they go from "
            f"{ends[0]} to {ends[1]}"
        )
    if count and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"{path} is damaged: it has labels from {labels.min()} to {labels.max()}, and there "
            f"are {classes} classes"
        )


def _decoded(path: Path, blob: Any, offsets: Any) -> Pixels:
    """Return the pixels of all JPEGs.  Shape: (n, 3, 32, 32)"""
    from PIL import Image

    images = np.empty((len(offsets) - 1, 3, 32, 32), np.uint8)
    places = offsets.tolist()
    for i in range(len(images)):
        try:
            with Image.open(io.BytesIO(blob[places[i] : places[i + 1]].tobytes())) as picture:
                if picture.size != (32, 32):  # one of 1 x 1 would be spread over all pixels
                    raise ValueError(f"it has {picture.width} x {picture.height} pixels")
                images[i] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path} is damaged: image {i} can't be decoded ({error})") from error
    return images


def _checksum(*arrays: Any) -> str:
    import hashlib

    digest = hashlib.md5(usedforsecurity=False)
    for a in arrays:
        digest.update(np.ascontiguousarray(a).data)
    return digest.hexdigest()[:16]


def _kept(path: Path, count: int) -> Pixels | None:
    """Return the pixels that were kept, or None if there are none, or not the right ones."""
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == (count, 3, 32, 32) and images.dtype == np.uint8 else None


def _keep(path: Path, images: Pixels) -> None:
    """Keep pixels, whole or not at all; where that can't be done, do without."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        try:
            with open(handle, "wb") as file:
                np.save(file, images, allow_pickle=False)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
