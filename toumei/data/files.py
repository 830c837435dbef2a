"""The files of the known data sets: where they lie, what they must hold, how they are read.

Nothing is ever unpickled: MNIST's files are IDX (a magic number, the sizes, the bytes), CIFAR's
are the official binary records (label bytes, then 3,072 bytes: the red, green and blue planes) or,
for CIFAR-10, JPEGs in one .npz file (see `jpegs`), texts are UTF-8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..io.files import cache_home


class DataFile(NamedTuple):
    """A file as it is read: its name, and its size and MD5 unpacked (MD5 may be unknown)."""

    name: str
    size: int
    md5: str | None = None


class Remote(NamedTuple):
    """A file as it is downloaded: name, size about, MD5, addresses in order of preference."""

    name: str
    size: int
    md5: str
    urls: tuple[str, ...]
    inside: bool = False  # the MD5 is that of the unpacked .gz: mirrors pack differently


class Known(NamedTuple):
    """A known data set: `folder` (where it is fetched to) and other folders it may lie in.

    `packed` is a file that holds all of it in another form, and is taken where the files aren't.
    """

    name: str
    title: str
    folder: str
    others: tuple[str, ...]
    files: tuple[DataFile, ...]
    remotes: tuple[Remote, ...]
    archive: bool = False
    packed: str = ""


_IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IDX_SIZES = (47_040_016, 60_008, 7_840_016, 10_008)


def _idx_set(
    name: str, title: str, other: str, md5s: str, packed: tuple[int, ...], mirrors: tuple[str, ...]
) -> Known:
    """Describe a data set of MNIST's form."""
    files = tuple(map(DataFile, _IDX_NAMES, _IDX_SIZES, md5s.split()))
    remotes = tuple(
        Remote(f"{f.name}.gz", size, str(f.md5), tuple(f"{m}{f.name}.gz" for m in mirrors), True)
        for f, size in zip(files, packed, strict=True)
    )
    return Known(name, title, name, (other,), files, remotes)


def _cifar_set(
    name: str, title: str, sub: str, files: tuple[DataFile, ...], r: Remote, packed: str = ""
) -> Known:
    """Describe a data set of CIFAR's form: an archive with one folder."""
    return Known(name, title, f"{name}/{sub}", (sub,), files, (r,), archive=True, packed=packed)


def _multi30k_set() -> Known:
    """Describe Multi30k, task 1, German and English: tokenised, lower case, a sentence a line."""
    # The addresses name a commit: later ones may hold other bytes.
    commit = "7bee46bc74186b4b6254603143610f730d40bf66"
    base = f"https://raw.githubusercontent.com/multi30k/dataset/{commit}/data/task1/tok/"
    files, remotes = [], []
    for part, language, size, md5 in (
        ("train", "de", 2_150_008, "4380018035b602bd0d0c4f369918dfde"),
        ("train", "en", 1_837_696, "11ac4eac7988e6bd46cabe9755b71d26"),
        ("val", "de", 77_273, "579f1cd1c81ae3917e4485613e0a62f7"),
        ("val", "en", 64_608, "02902c626a88ec3c0a56cca3c5bb77fe"),
        ("test_2016_flickr", "de", 71_917, "3054f8453b394c41d17df5c15849b5c8"),
        ("test_2016_flickr", "en", 63_307, "09aa5360d1e0ae3e03742297eb720d7d"),
    ):
        name = f"multi30k_{part}.{language}"
        files.append(DataFile(name, size, md5))
        remotes.append(Remote(name, size, md5, (f"{base}{part}.lc.norm.tok.{language}",)))
    title = "Multi30k: 29,000 + 1,014 + 1,000 captions of photographs, German and English"
    return Known("multi30k", title, "multi30k", (), tuple(files), tuple(remotes))


_KRIZ = "https://www.cs.toronto.edu/~kriz/"
_SHAKESPEARE_MD5 = "6fb458f1232090904fb40fe944165e91"

KNOWN: dict[str, Known] = {
    known.name: known
    for known in (
        _idx_set(
            "mnist",
            "MNIST: 60,000 + 10,000 handwritten digits, grey, 28 x 28",
            "MNIST/raw",
            "6bbc9ace898e44ae57da46a324031adb a25bea736e30d166cdddb491f175f624 "
            "2646ac647ad5339dbf082846283269ea 27ae3e4e09519cfbb04c329615203637",
            (9_912_422, 28_881, 1_648_877, 4_542),
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
        ),
        _idx_set(
            "fashion-mnist",
            "Fashion-MNIST: 60,000 + 10,000 pictures of clothes, grey, 28 x 28",
            "FashionMNIST/raw",
            "f4a8712d7a061bf5bd6d2ca38dc4d50a 9018921c3c673c538a1fc5bad174d6f9 "
            "8181f5470baa50b63fa0f6fddb340f0a 15d484375f8d13e6eb1aabb0c3f46965",
            (26_421_880, 29_515, 4_422_102, 5_148),
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ),
        ),
        _cifar_set(
            "cifar10",
            "CIFAR-10: 50,000 + 10,000 photographs of 10 classes, colour, 32 x 32",
            "cifar-10-batches-bin",
            (
                *(DataFile(f"data_batch_{k}.bin", 30_730_000) for k in range(1, 6)),
                DataFile("test_batch.bin", 30_730_000),
            ),
            Remote(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c32a1d4ab5d03f1284b67883e8d87530",
                (f"{_KRIZ}cifar-10-binary.tar.gz",),
            ),
            packed="cifar10_jpeg.npz",
        ),
        _cifar_set(
            "cifar100",
            "CIFAR-100: 50,000 + 10,000 photographs of 100 classes, colour, 32 x 32",
            "cifar-100-binary",
            (DataFile("train.bin", 153_700_000), DataFile("test.bin", 30_740_000)),
            Remote(
                "cifar-100-binary.tar.gz",
                168_513_733,
                "03b5dce01913d631647c71ecec9e9cb8",
                (f"{_KRIZ}cifar-100-binary.tar.gz",),
            ),
        ),
        Known(
            "tinyshakespeare",
            "tinyshakespeare: 1,115,394 characters of Shakespeare's plays",
            "text",
            ("",),
            (DataFile("tinyshakespeare.txt", 1_115_394, _SHAKESPEARE_MD5),),
            (
                Remote(
                    "tinyshakespeare.txt",
                    1_115_394,
                    _SHAKESPEARE_MD5,
                    (
                        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                        "tinyshakespeare/input.txt",
                    ),
                ),
            ),
        ),
        _multi30k_set(),
    )
}


def data_home(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the data folder: `root`, else $TOUMEI_DATA, else the user's cache.

    >>> data_home("/data").name
    'data'
    """
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("TOUMEI_DATA"):
        return Path(os.environ["TOUMEI_DATA"]).expanduser()
    return cache_home()


def _actual(folder: Path, name: str) -> Path | None:
    """Return the path of a file, raw or gzipped, if it is there."""
    # The .gz comes first: that is what `fetch` writes, so it also repairs a damaged raw file.
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    return None


def locate(known: Known, root: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder that holds a data set, or at least one of its files; None if none does."""
    home = data_home(root)
    for sub in (known.folder, *known.others):
        if any(_actual(home / sub, file.name) for file in known.files):
            return home / sub
    if root is not None and _lies_in(known, home):
        return home
    places = (home / known.name, home)
    return next((place for place in places if packed_file(known, place) is not None), None)


def packed_file(known: Known, folder: Path) -> Path | None:
    """Return the one file that holds a whole set, if a folder has that and not the set's files."""
    path = folder / known.packed
    there = bool(known.packed) and path.is_file()
    return path if there and not any(_actual(folder, file.name) for file in known.files) else None


def _lies_in(known: Known, folder: Path) -> bool:
    """Tell whether a folder that was named outright holds the files, and not a namesake's."""
    smallest = min(known.files, key=lambda file: file.size)
    return _is_whole(smallest, _actual(folder, smallest.name))


def missing_files(known: Known, folder: Path) -> list[str]:
    """Return the names of a data set's files that a folder lacks."""
    if packed_file(known, folder) is not None:
        return []
    return [file.name for file in known.files if _actual(folder, file.name) is None]


def _cure(known: Known) -> str:
    """Say how to get a data set."""
    return (
        f"  to get it: toumei data fetch {known.name}\n"
        "  or name the folder that has it: --data-dir DIR, root=DIR or TOUMEI_DATA"
    )


def find(known: Known, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that holds all files of a data set, or say what is missing and where."""
    folder = locate(known, root)
    title = known.title.partition(":")[0]
    if folder is None:
        home = data_home(root)
        places = "".join(f"\n    {home / sub}" for sub in (known.folder, *known.others))
        names = ", ".join(file.name for file in known.files)
        if known.packed:
            places += f"\n  and for {known.packed} in\n    {home / known.name}\n    {home}"
        raise DataError(f"{title} is not there: looked for {names} in{places}\n{_cure(known)}")
    missing = missing_files(known, folder)
    if missing:
        lacks = ", ".join(missing)
        raise DataError(f"{title} is incomplete: {folder} lacks {lacks}\n{_cure(known)}")
    return folder


def _content(path: Path, size: int) -> bytes:
    """Return what a file holds, unpacked; `size` is what it should."""
    import gzip
    import zlib

    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as stream:
            return stream.read()
    except EOFError:
        has = path.stat().st_size
        reason = f"is cut short: its {has:,} bytes end before the {size:,} that it unpacks to"
    except (gzip.BadGzipFile, zlib.error) as error:
        reason = f"is damaged: it can't be unpacked ({error})"
    except OSError as error:
        reason = f"can't be read: {error}"
    raise DataError(f"{path} {reason}")


def file_md5(path: Path, inside: bool) -> str:
    """Return a file's MD5, or that of what the .gz unpacks to; words if it can't be unpacked."""
    import gzip
    import hashlib
    import zlib

    digest = hashlib.md5(usedforsecurity=False)
    try:
        with gzip.open(path) if inside else open(path, "rb") as stream:
            while chunk := stream.read(1 << 18):
                digest.update(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return "(it can't be unpacked)"
    return digest.hexdigest()


def _is_whole(file: DataFile, path: Path | None) -> bool:
    """Tell whether a file is there and has its MD5, or its size if that is all that is known."""
    if path is None:
        return False
    if file.md5 is None:
        return path.stat().st_size == file.size
    return file_md5(path, path.suffix == ".gz") == file.md5


def is_whole(known: Known, folder: Path) -> bool:
    """Tell whether a folder holds all files of a data set, undamaged."""
    return all(_is_whole(file, _actual(folder, file.name)) for file in known.files)


def read_checked(known: Known, folder: Path, name: str) -> bytes:
    """Return the unpacked content of a data set's file after checking its size and MD5."""
    file = next(file for file in known.files if file.name == name)
    path = _actual(folder, name)
    if path is None:
        raise DataError(f"{folder} lacks {name}\n{_cure(known)}")
    try:
        content = _content(path, file.size)
        _check_content(file, path, content)
    except DataError as error:
        cure = f"  to repair it: toumei data fetch {known.name}"
        raise DataError(f"{error.message}\n{cure}") from None
    return content


def _check_content(file: DataFile, path: Path, content: bytes) -> None:
    """Compare a file's unpacked content with what is known of it."""
    import hashlib

    has = len(content)
    if has != file.size:
        what = "is cut short" if has < file.size else "is too long"
        raise DataError(f"{path} {what}: it holds {has:,} bytes and should hold {file.size:,}")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() if file.md5 else None
    if md5 != file.md5:
        raise DataError(
            f"{path} is damaged, or another data set's: its MD5 (unpacked) is {md5} and should be "
            f"{file.md5}"
        )


def parse_idx(content: bytes, where: str) -> NDArray[np.uint8]:
    """Return the array that an IDX file of bytes holds.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]), "example").tolist()
    [5, 7]
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{where} is no IDX file of bytes: it starts with {content[:4].hex(' ') or 'nothing'} "
            "and should start with 00 00 08"
        )
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").astype(int).tolist())
    if len(shape) < content[3] or len(content) - start != int(np.prod(shape)):
        raise DataError(f"{where} says that it holds {shape} bytes; it has {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def parse_records(
    content: bytes, label_bytes: int, classes: int, where: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images (n, 3, 32, 32) and labels (the last label byte) of CIFAR's records."""
    records = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + 3072)
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.size and labels.max() >= classes:
        raise DataError(
            f"{where} is damaged: record {int(labels.argmax())} has label {labels.max()}, and "
            f"there are {classes} classes"
        )
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def catalogue(root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """List the known data sets: name, title, bytes to download, and folder (None: not there).

    A set counts as there if all of its files are; they are checked when they are read.

    >>> [row["name"] for row in catalogue("/nowhere")]
    ['mnist', 'fashion-mnist', 'cifar10', 'cifar100', 'tinyshakespeare', 'multi30k']
    """
    rows = []
    for known in KNOWN.values():
        folder = locate(known, root)
        complete = folder is not None and not missing_files(known, folder)
        size = sum(remote.size for remote in known.remotes)
        rows.append(
            {
                "name": known.name,
                "title": known.title,
                "bytes": size,
                "folder": str(folder) if complete else None,
            }
        )
    return rows
