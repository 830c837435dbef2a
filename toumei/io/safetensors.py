"""tm.save and tm.load: tensors and plain values in one safetensors file; never pickle.

A safetensors file is a JSON header (name, dtype, shape and place of each tensor, and text metadata)
followed by the bytes.  The tensors are stored flat, under their path ("model.fc.weight"), so that
every reader of the format finds them; what the flat form can't say is in the metadata:

    "toumei"        the nesting, as JSON; a leaf {"tensor": "model.fc.weight"} stands for a tensor
    "<other name>"  of a tensor with several names: the name that it is stored under (safetensors'
                    own convention for tied weights)
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..errors import LoadError, SaveError
from ..op import RANK, Array
from ..tape import Value, spec_of, wrap
from .files import replace_with

__all__ = ["load", "save"]

Path: TypeAlias = str | os.PathLike[str]

_TREE = "toumei"
_BFLOAT16 = np.dtype("V2")  # NumPy has no bfloat16: two bytes, widened by a shift
_DTYPES = {
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
    "BF16": _BFLOAT16,
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
#: What a tensor becomes whose dtype Toumei doesn't have: the smallest that holds every value.
_WIDER = {"i1": "i4", "u2": "i4", "i2": "i4", "u4": "i8", "f2": "f4"}


def save(obj: Any, path: Path) -> None:
    """Write tensors, nested in dicts, lists and tuples together with plain values, to one file.

    The file is written whole or not at all; a tensor with several names is stored once.

    Args:
        obj: a tensor, a `state_dict()`, or any nesting of dicts, lists and tuples of tensors, NumPy
            arrays, None, bool, int, float and str.
        path: the file, usually called "….safetensors".

    Raises:
        SaveError: the file can't be written (the old one is untouched), or `obj` holds something
            that isn't a number, a text or a tensor.

    >>> import os, tempfile
    >>> import toumei as tm
    >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
    >>> tm.save({"step": 3, "weights": [tm.ones(2), tm.zeros(1)]}, path)
    >>> tm.load(path)
    {'step': 3, 'weights': [tensor([1., 1.]), tensor([0.])]}
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    writer = _Writer()
    tree = writer.encode(obj, "")
    metadata = {**writer.ties, _TREE: json.dumps(tree)}

    def write(temporary: str) -> None:
        try:
            save_file(writer.arrays, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    replace_with(path, write)


def load(path: Path) -> Any:
    """Read what `save` wrote, or any other safetensors file as a dict of tensors by name.

    float16 and bfloat16 become float32, small integers int32.

    Args:
        path: the file.

    Raises:
        LoadError: there is no such file, it isn't a safetensors file, it is cut short or damaged,
            or it has a dtype that Toumei can't hold.
    """
    name = os.fspath(path)
    metadata = _validate(name)
    try:
        with open(name, "rb") as file:
            arrays = dict(_read(file, name))
        if _TREE in metadata:
            return _Reader(name, arrays).decode(json.loads(metadata[_TREE]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{name} can't be read: {error}") from error
    tensors: dict[str, Any] = {n: wrap(_for_tensor(name, n, a)) for n, a in arrays.items()}
    ties = {n: kept for n, kept in metadata.items() if kept in tensors and n not in tensors}
    return tensors | {n: tensors[kept] for n, kept in ties.items()}


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
        if not isinstance(array, np.ndarray) or array.dtype not in _DTYPES.values():
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
        while name in self.arrays or name in self.ties or name in (_TREE, "__metadata__"):
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


class _Entry(NamedTuple):
    """A tensor's line in the header: what it is, and where its bytes start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int


def _validate(path: str) -> dict[str, str]:
    """Let the safetensors library check the whole header; return the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with open(path, "rb") as file:
            start = file.read(2)
        with safe_open(path, framework="np") as opened:
            return dict(opened.metadata() or {})
    except FileNotFoundError:
        raise LoadError(f"{path} doesn't exist") from None
    except OSError as error:
        raise LoadError(f"{path} can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise LoadError(_what_is_wrong(path, start, str(error))) from None


def _what_is_wrong(path: str, start: bytes, reason: str) -> str:
    if start == b"PK" or start[:1] == b"\x80":
        return (
            f"{path} is a pickle, as torch.save writes it, and loading one would run code. Convert "
            "it with safetensors.torch.save_file(torch.load(path), new_path)"
        )
    size = os.path.getsize(path)
    return (
        f"{path} is cut short, damaged, or no safetensors file "
        f"({reason}; the file has {size} bytes)"
    )


def _entries(file: io.BufferedReader) -> Iterator[_Entry]:
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    for name, line in header.items():
        if name != "__metadata__":
            start = 8 + length + line["data_offsets"][0]
            yield _Entry(name, line["dtype"], tuple(line["shape"]), start)


def _read(file: io.BufferedReader, path: str) -> Iterator[tuple[str, Array]]:
    """Yield each tensor, its bytes read straight into the memory that it will live in."""
    for entry in sorted(_entries(file), key=lambda e: e.start):
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            raise LoadError(f"{path}: {entry.name} is {entry.dtype}, which Toumei can't hold")
        array = np.empty(math.prod(entry.shape), dtype)
        file.seek(entry.start)
        if file.readinto(array.view(np.uint8).data) != array.nbytes:
            raise LoadError(f"{path} is cut short: the bytes of {entry.name} are missing")
        yield entry.name, array.reshape(entry.shape)


def _for_tensor(path: str, name: str, array: Array) -> Array:
    """Return the numbers in a dtype that a tensor may have."""
    if array.dtype == _BFLOAT16:  # the upper half of a float32
        return (array.view("<u2").astype("<u4") << 16).view("<f4")
    if array.dtype in RANK:
        return array
    wider = _WIDER.get(array.dtype.str[1:])
    if wider is None:
        raise LoadError(f"{path}: {name} is {array.dtype}, which no tensor of Toumei can be")
    return array.astype(wider)


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
            self._tensors[name] = wrap(_for_tensor(self._path, name, self._arrays[name]))
        return self._tensors[name]
