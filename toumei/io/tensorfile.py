"""One safetensors file: its header, checked, and the numbers of its tensors.

A safetensors file is a JSON header (name, dtype, shape and place of each tensor, and text metadata)
followed by the bytes.  Only the header is read until numbers are asked for.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..errors import LoadError
from ..op import RANK, Array

BFLOAT16 = np.dtype("V2")  # NumPy has no bfloat16: two bytes, widened by a shift
DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
#: What a tensor becomes whose dtype Toumei doesn't have: the smallest that holds every value.
_WIDER = {"i1": "i4", "u2": "i4", "i2": "i4", "u4": "i8", "f2": "f4"}
_POINTER = b"version https://git-lfs"  # what Git LFS leaves in the place of a file not fetched yet


class Entry(NamedTuple):
    """A tensor's line in the header: what it is, and where its bytes are."""

    name: str
    dtype: str  # as the format spells it: "F32", "BF16", …
    shape: tuple[int, ...]
    start: int
    nbytes: int
    path: str


class TensorFile(NamedTuple):
    """What the header of a file says; the entries are in the order of their bytes."""

    path: str
    entries: list[Entry]
    metadata: dict[str, str]


def read_header(path: str) -> TensorFile:
    """Let the safetensors library check the whole header, and read it.

    Raises:
        LoadError: there is no such file, or it is damaged, cut short or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:
            start = file.read(len(_POINTER))
        with safe_open(path, framework="np") as opened:
            metadata = dict(opened.metadata() or {})
        with open(path, "rb") as file:
            return TensorFile(path, sorted(_entries(file, path), key=lambda e: e.start), metadata)
    except FileNotFoundError:
        raise LoadError(f"{path} doesn't exist") from None
    except OSError as error:
        raise LoadError(f"{path} can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise LoadError(_what_is_wrong(path, start, str(error))) from None


def _entries(file: io.BufferedReader, path: str) -> Iterator[Entry]:
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    for name, line in header.items():
        if name != "__metadata__":
            begin, end = line["data_offsets"]
            shape = tuple(line["shape"])
            yield Entry(name, line["dtype"], shape, 8 + length + begin, end - begin, path)


def _what_is_wrong(path: str, start: bytes, reason: str) -> str:
    """Say what a file is that is no safetensors file, and how to get one."""
    if start.startswith(b"PK") and (kind := _other_archive(path)):
        return f"{path} is {kind}"
    if start.startswith((b"PK", b"\x80")):
        return refuse_pickle(path)
    if start.startswith(_POINTER):
        return f"{path} is a Git LFS pointer, not the file itself: fetch it with git lfs pull"
    size = os.path.getsize(path)
    return (
        f"{path} is cut short, damaged, or no safetensors file "
        f"({reason}; the file has {size} bytes)"
    )


def _other_archive(path: str) -> str:
    """Say what a zip archive is that torch.save didn't write; "" if it did."""
    import zipfile

    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("data.pkl") for name in names):
        return ""
    if any(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays: read it with numpy.load"
    return "a zip archive, no safetensors file: unpack it first"


def refuse_pickle(path: str) -> str:
    """Say how the weights in a file of torch.save are had without running its code here."""
    return (
        f"{path} is a pickle, as torch.save writes it, and loading one would run code. Convert "
        "its state dict where PyTorch is:\n"
        "  state = torch.load(path, weights_only=True)\n"
        "  safetensors.torch.save_file({n: t.clone().contiguous() for n, t in state.items()}, "
        '"model.safetensors")'
    )


def check_dtypes(entries: list[Entry]) -> None:
    """Refuse a dtype that can't be read, before any byte is."""
    for e in entries:
        if e.dtype not in DTYPES:
            raise LoadError(
                f"{e.path}: {e.name} is {e.dtype}, which Toumei can't hold: convert it to F32, "
                "F16 or BF16 with the program that wrote it"
            )


def read_entry(file: io.BufferedReader, entry: Entry) -> Array:
    """Return a tensor's numbers, the bytes read straight into the memory that they will live in."""
    array = np.empty(math.prod(entry.shape), DTYPES[entry.dtype])
    file.seek(entry.start)
    if file.readinto(array.view(np.uint8).data) != array.nbytes:
        raise LoadError(f"{entry.path} is cut short: the bytes of {entry.name} are missing")
    return array.reshape(entry.shape)


def for_tensor(path: str, name: str, array: Array) -> Array:
    """Return the numbers in a dtype that a tensor may have."""
    if array.dtype == BFLOAT16:  # the upper half of a float32
        return (array.view("<u2").astype("<u4") << 16).view("<f4")
    if array.dtype in RANK:
        return array
    wider = _WIDER.get(array.dtype.str[1:])
    if wider is None:
        raise LoadError(f"{path}: {name} is {array.dtype}, which no tensor of Toumei can be")
    return array.astype(wider)
