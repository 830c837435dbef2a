"""tm.save and tm.load: tensors and plain values in safetensors files; never pickle.

The tensors are stored flat, under their path ("model.fc.weight"), so that every reader of the
format finds them; what the flat form can't say is in the metadata:

    "toumei"        the nesting, as JSON; a leaf {"tensor": "model.fc.weight"} stands for a tensor
    "<other name>"  of a tensor with several names: the name that it is stored under (safetensors'
                    own convention for tied weights)
    "format"        "pt", as readers of the Hugging Face Hub ask for: the layouts are PyTorch's
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..errors import LoadError, SaveError
from ..op import Array
from ..tape import Value, spec_of, wrap
from .files import replace_with
from .shards import Stored, find_stored, parse_size, plan, remove_shards, save_shards
from .tensorfile import DTYPES, check_dtypes, for_tensor, read_entry

__all__ = ["load", "save"]

Path: TypeAlias = str | os.PathLike[str]

TREE = "toumei"
_RESERVED = (TREE, "format", "total_size", "__metadata__")  # no tensor is stored under these names


def save(obj: Any, path: Path, *, max_shard_size: int | str | None = None) -> None:
    """Write tensors, nested in dicts, lists and tuples together with plain values, to a file.

    The file is written whole or not at all; a tensor with several names is stored once.

    Args:
        obj: a tensor, a `state_dict()`, or any nesting of dicts, lists and tuples of tensors, NumPy
            arrays, None, bool, int, float and str.
        path: the file, usually called "….safetensors".
        max_shard_size: bytes, or a text such as "5GB" or "500MiB".  What is larger is divided into
            files "…-00001-of-00003.safetensors" and so on, beside "….safetensors.index.json" which
            says what is where (whole or not at all, too); `load` takes the same path.  Each file
            has at most so many bytes of numbers, unless a single tensor has more.

    Raises:
        SaveError: a file can't be written (what was there is untouched), or `obj` holds something
            that isn't a number, a text or a tensor.

    >>> import os, tempfile
    >>> import toumei as tm
    >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
    >>> tm.save({"step": 3, "weights": [tm.ones(2), tm.zeros(1)]}, path)
    >>> tm.load(path)
    {'step': 3, 'weights': [tensor([1., 1.]), tensor([0.])]}
    """
    writer = _Writer()
    tree = writer.encode(obj, "")
    metadata = {"format": "pt", **writer.ties, TREE: json.dumps(tree)}
    name, arrays = os.fspath(path), writer.arrays
    limit = None if max_shard_size is None else parse_size(max_shard_size)
    groups = [] if limit is None else plan({n: a.nbytes for n, a in arrays.items()}, limit)
    if len(groups) <= 1:
        replace_with(name, lambda temporary: _write(arrays, temporary, metadata))
        if limit is not None:
            remove_shards(name)
        return
    total = sum(a.nbytes for a in arrays.values())
    save_shards(
        [{n: arrays[n] for n in group} for group in groups],
        name,
        {"total_size": total, **metadata},
        lambda group, temporary: _write(group, temporary, {"format": "pt"}),
    )


def _write(arrays: dict[str, Array], path: str, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(arrays, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    _sort_metadata(path)


def _sort_metadata(path: str) -> None:
    """Put the metadata in order: the library's is another each time, and equal states shall give
    equal files."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "the header can't have grown: only its order is another"
        file.seek(8)
        file.write(text.ljust(size))


def load(path: Path) -> Any:
    """Read what `save` wrote, or any other safetensors file as a dict of tensors by name.

    float16 and bfloat16 become float32, small integers int32.

    Args:
        path: the file; or the index of tensors over several files ("….safetensors.index.json"), or
            a folder that holds one of the two.

    Raises:
        LoadError: there is no such file, it isn't a safetensors file, it is cut short or damaged,
            an index and its files don't fit together, or it has a dtype that Toumei can't hold.
    """
    stored = find_stored(os.fspath(path))
    check_dtypes(stored.entries)
    try:
        arrays = dict(_read(stored))
        if TREE in stored.metadata:
            return _Reader(stored.path, arrays).decode(json.loads(stored.metadata[TREE]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoadError(f"{stored.path} can't be read: {error}") from error
    tensors: dict[str, Any] = {n: wrap(for_tensor(stored.path, n, a)) for n, a in arrays.items()}
    return tensors | {n: tensors[kept] for n, kept in ties(stored).items()}


def ties(stored: Stored) -> dict[str, str]:
    """Return the further names of tensors that have several, and what each is stored under."""
    names = {entry.name for entry in stored.entries}
    return {
        name: kept
        for name, kept in stored.metadata.items()
        if kept in names and name not in names and name not in _RESERVED
    }


def _read(stored: Stored) -> Iterator[tuple[str, Array]]:
    for tensors in stored.files:
        with open(tensors.path, "rb") as file:
            for entry in tensors.entries:
                yield entry.name, read_entry(file, entry)


# --- out -----------------------------------------------------------------------------------------


class _Writer:
    """Turns an object into JSON, and collects the arrays in it by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.ties: dict[str, str] = {}
        self._stored: dict[tuple[Any, ...], str] = {}  # where each piece of memory is stored
        self._alive: list[Any] = []  # so that no memory is reused under an address noted above

    def encode(self, value: Any, path: str) -> Any:
        """Return what stands for a value in the JSON."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Value):
            return {"tensor": self._store(value._data, path, spec_of(value))}
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return value.item()
        if isinstance(value, np.ndarray):
            return {"array": self._store(value, path, value.dtype)}
        if isinstance(value, Mapping):
            pairs = value.items()
            return {"dict": [[_key(k, path), self.encode(v, _join(path, k))] for k, v in pairs]}
        if isinstance(value, list | tuple):
            items = [self.encode(v, _join(path, i)) for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        raise SaveError(_cant_hold(value, path))

    def _store(self, array: Any, path: str, spec: Any) -> str:
        """Note an array down under a name, unless its memory is stored already."""
        if not isinstance(array, np.ndarray) or array.dtype not in DTYPES.values():
            raise SaveError(f"save: {path or 'the value'} is {spec}, which such files can't hold")
        memory = (array.ctypes.data, array.shape, array.strides, array.dtype)
        name = self._free_name(path or "value")
        if array.size and memory in self._stored:
            kept = self.ties[name] = self._stored[memory]
            return kept
        self._stored[memory] = name
        self._alive.append(array)
        self.arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
        return name

    def _free_name(self, path: str) -> str:
        name, n = path, 1
        while name in self.arrays or name in self.ties or name in _RESERVED:
            name, n = f"{path}~{n}", n + 1
        return name


def _key(key: Any, path: str) -> str | int:
    if isinstance(key, str) or type(key) is int:
        return key
    raise SaveError(f"save: a key of {path or 'the dict'} is {key!r:.60}; only str and int go")


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _cant_hold(value: Any, path: str) -> str:
    text = f"save: {path or 'the object'} is a {type(value).__name__}"
    if hasattr(value, "state_dict"):
        return f"{text}. Save its state_dict()"
    return f"{text}; only tensors, arrays, numbers, texts, None and dicts and lists of them go"


# --- in ------------------------------------------------------------------------------------------


class _Reader:
    """Turns the JSON back into the object; one tensor object for all of its names."""

    def __init__(self, path: str, arrays: dict[str, Array]) -> None:
        self._path = path
        self._arrays = arrays
        self._tensors: dict[str, Any] = {}

    def decode(self, tree: Any) -> Any:
        """Return the value that some JSON stands for."""
        if isinstance(tree, list):
            return [self.decode(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        ((kind, content),) = tree.items()
        decoders: dict[str, Callable[[Any], Any]] = {
            "tensor": self._tensor,
            "array": lambda name: self._arrays[name],
            "dict": lambda pairs: {key: self.decode(value) for key, value in pairs},
            "tuple": lambda items: tuple(self.decode(item) for item in items),
        }
        return decoders[kind](content)

    def _tensor(self, name: str) -> Any:
        if name not in self._tensors:
            self._tensors[name] = wrap(for_tensor(self._path, name, self._arrays[name]))
        return self._tensors[name]
