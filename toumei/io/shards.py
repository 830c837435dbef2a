"""Tensors over several files: shards, and the index that says which tensor is in which.

    model-00001-of-00002.safetensors   "encoder.weight", …
    model-00002-of-00002.safetensors   "decoder.weight", …
    model.safetensors.index.json       {"metadata": {"total_size": bytes},
                                        "weight_map": {"encoder.weight": "model-00001-of-…", …}}

This is the layout of the Hugging Face Hub.  The index is written last and replaced in one step, and
new shards never take the place of old ones: a reader finds the old tensors or the new ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ..errors import LoadError, SaveError
from ..op import Array
from .files import replace_with, write_whole
from .tensorfile import Entry, TensorFile, read_header, refuse_pickle

INDEX = ".index.json"  # what the name of the index has more than that of the whole
_WHOLE = "model.safetensors"  # as the weights in a folder are usually called
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
          "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip


class Stored(NamedTuple):
    """What is stored at a place: one file, or an index and its shards; only headers are read."""

    path: str
    files: list[TensorFile]
    metadata: dict[str, Any]

    @property
    def entries(self) -> list[Entry]:
        """The tensors of all files."""
        return [entry for file in self.files for entry in file.entries]


# --- in ------------------------------------------------------------------------------------------


def find_stored(path: str) -> Stored:
    """Return what a file, an index or a folder holds, headers checked.

    Raises:
        LoadError: it isn't there, is damaged, or index and shards don't fit together.
    """
    if os.path.isdir(path):
        path = _in_folder(path)
    elif not os.path.exists(path) and os.path.exists(path + INDEX):
        path += INDEX  # as `save` with a max_shard_size made of this name
    if _is_json(path):
        return _read_index(path)
    file = read_header(path)
    return Stored(path, [file], file.metadata)


def _in_folder(folder: str) -> str:
    """Return the one file or index in a folder that holds its tensors."""
    names = sorted(os.listdir(folder))
    whole = [n for n in names if n.endswith(".safetensors") and not _SHARD.search(n)]
    indices = [n for n in names if n.endswith(".safetensors" + INDEX)]
    for found in ([n for n in whole if n == _WHOLE], indices, whole):
        if len(found) == 1:
            return os.path.join(folder, found[0])
        if found:
            raise LoadError(f"{folder} has several: name one of {', '.join(found)}")
    for name in names:
        if name.endswith((".bin", ".pt", ".pth")):
            return os.path.join(folder, name)  # reading it says what is wrong with it
    raise LoadError(f"{folder} can't be read: it is a folder without a safetensors file in it")


_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")


def _is_json(path: str) -> bool:
    """Whether a file is JSON: as a safetensors header its first bytes would be an absurd length."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        start = file.read(8)
        absurd = int.from_bytes(start, "little") > os.path.getsize(path)
        return absurd and start.lstrip()[:1] == b"{"
    return False


def _read_index(path: str) -> Stored:
    places, metadata = _parse_index(path)
    names: dict[str, list[str]] = {}
    for tensor, shard in places.items():
        names.setdefault(shard, []).append(tensor)
    folder = os.path.dirname(path)
    files = [_read_shard(path, os.path.join(folder, s), wanted) for s, wanted in names.items()]
    return Stored(path, files, metadata)


def _parse_index(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the name of each tensor's shard, and the metadata."""
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"{path} can't be read: {error}") from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise LoadError(f"{path} is no index of safetensors files: it has no weight_map")
    for tensor, shard in places.items():
        if not isinstance(shard, str) or not _is_plain_name(shard):
            raise LoadError(
                f"{path}: {tensor} is said to be in {shard!r}, which is no file next to the index"
            )
        if not shard.endswith(".safetensors"):
            raise LoadError(refuse_pickle(os.path.join(os.path.dirname(path), shard)))
    metadata = index.get("metadata")
    return places, metadata if isinstance(metadata, dict) else {}


def _is_plain_name(name: str) -> bool:
    """Whether a name leads to no other folder, on any system."""
    return name not in ("", ".", "..") and not any(c in name for c in "/\\:\0")


def _read_shard(index: str, path: str, wanted: list[str]) -> TensorFile:
    """Return the header of a shard that must hold the tensors that the index names."""
    try:
        file = read_header(path)
    except LoadError as error:
        raise LoadError(f"{error.message} (it is a shard that {index} names)") from error
    held = {entry.name for entry in file.entries}
    lost, extra = [n for n in wanted if n not in held], sorted(held.difference(wanted))
    if lost:
        raise LoadError(f"{path} doesn't belong to {index}: it has no {_some(lost)}")
    if extra:
        warnings.warn(f"{path} also holds {_some(extra)}, which {index} doesn't name: left out",
                      stacklevel=5)  # fmt: skip
    entries = [entry for entry in file.entries if entry.name not in extra]
    return file._replace(entries=entries)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# --- out -----------------------------------------------------------------------------------------


def parse_size(size: int | str) -> int:
    """Return a number of bytes: 1000, "5GB" (10⁹ each) or "5GiB" (2³⁰ each).

    Raises:
        SaveError: it is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?b)\s*", str(size), re.IGNORECASE)
    if isinstance(size, str) and match and match[2].upper() in _UNITS:
        count = int(float(match[1]) * _UNITS[match[2].upper()])
    else:
        count = size if isinstance(size, int) and not isinstance(size, bool) else 0
    if count < 1:
        raise SaveError(f'save: max_shard_size is {size!r}, not bytes as in 10**9, "5GB", "5GiB"')
    return count


def plan(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Divide names, in their order, so that no group is larger than the limit if it can be helped.

    >>> plan({"a": 3, "b": 3, "c": 9, "d": 1}, 6)
    [['a', 'b'], ['c'], ['d']]
    """
    groups: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if size > room and groups[-1]:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def save_shards(
    groups: list[dict[str, Array]],
    path: str,
    metadata: dict[str, Any],
    write: Callable[[dict[str, Array], str], None],
) -> None:
    """Write groups of arrays as shards, and the index; a failure leaves what was there before.

    Args:
        groups: the arrays of each shard.
        path: "….safetensors": what the names of shards and index are made of.
        metadata: for the index.
        write: writes one group to a file.

    Raises:
        SaveError: a file can't be written.
    """
    if os.path.isdir(path):
        raise SaveError(f"save: {path} is a folder: name a file, {os.path.join(path, _WHOLE)}")
    folder = os.path.dirname(path)
    names = _free_names(path, len(groups))
    written: list[str] = []
    try:
        for name, group in zip(names, groups, strict=True):
            written.append(os.path.join(folder, name))
            replace_with(written[-1], partial(write, group))
        places = {
            tensor: name for name, group in zip(names, groups, strict=True) for tensor in group
        }
        index = {"metadata": metadata, "weight_map": places}
        write_whole(path + INDEX, json.dumps(index, indent=2).encode())
    except BaseException:
        _remove(written)
        raise
    _remove([path])  # a whole file of that name would come first
    remove_shards(path, keep=names)


def remove_shards(path: str, keep: Iterable[str] = ()) -> None:
    """Remove the shards that earlier saves to this path left, and without `keep` their index."""
    folder = os.path.dirname(path)
    pattern = re.compile(re.escape(_stem(path)) + r"(-[0-9a-f]{8})?-\d{5}-of-\d{5}\.safetensors")
    keep = set(keep)
    old = [n for n in os.listdir(folder or ".") if pattern.fullmatch(n) and n not in keep]
    _remove([] if keep else [path + INDEX])
    _remove([os.path.join(folder, name) for name in old])


def _free_names(path: str, count: int) -> list[str]:
    """Return names for shards: the usual ones unless one of them is taken."""
    for tag in ("", f"-{secrets.token_hex(4)}"):
        names = [
            f"{_stem(path)}{tag}-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)
        ]
        if not any(os.path.lexists(os.path.join(os.path.dirname(path), n)) for n in names):
            break
    return names


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".safetensors")


def _remove(paths: list[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
