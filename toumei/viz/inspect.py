"""inspect: what a file of tensors holds, as a table, from its header alone."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..io.safetensors import TREE, ties
from ..io.shards import Stored, find_stored
from ..io.tensorfile import BFLOAT16, DTYPES, Entry, for_tensor, read_entry

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_LINES = 20  # of metadata, at most
_WIDTH = 200  # of one line of metadata


class Statistics(NamedTuple):
    """Of a tensor's finite numbers; std divides by their count."""

    min: float
    mean: float
    max: float
    std: float
    bad: int  # how many numbers are NaN or infinite


class Row(NamedTuple):
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: str
    also: list[str]  # its further names
    statistics: Statistics | None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Contents:
    """What a file holds, to be printed with rich.

    Attributes:
        path: the file, or the index of several.
        rows: one per tensor, as a state dict orders them where the file says so, else by name.
        facts: the metadata that are for people: (name, value).
    """

    def __init__(self, stored: Stored, statistics: bool) -> None:
        self.path = stored.path
        self.files = len(stored.files)
        leaves = list(_leaves(_tree(stored), ""))
        order = {
            value["tensor"]: i for i, (_, value) in enumerate(leaves) if isinstance(value, dict)
        }
        entries = sorted(
            stored.entries, key=lambda e: (order.get(e.name, len(order)), _key(e.name))
        )
        also: dict[str, list[str]] = {}
        for name, kept in ties(stored).items():
            also.setdefault(kept, []).append(name)
        self.rows = [_row(e, also.get(e.name, []), statistics) for e in entries]
        plain = [(name, value) for name, value in leaves if not isinstance(value, dict)]
        skipped = {TREE, "format", "total_size", *ties(stored)}
        self.facts = [(n, v) for n, v in stored.metadata.items() if n not in skipped] + plain

    @property
    def elements(self) -> int:
        """The numbers in all tensors; one with several names counts once."""
        return sum(row.elements for row in self.rows)

    def totals(self) -> str:
        """Return one line about all of it."""
        dtypes: dict[str, int] = {}
        for row in self.rows:
            dtypes[row.dtype] = dtypes.get(row.dtype, 0) + row.elements
        kinds = ", ".join(f"{n:,} {d}" for d, n in dtypes.items()) if len(dtypes) > 1 else ""
        size = sum(row.nbytes for row in self.rows)
        where = f" in {self.files} files" if self.files > 1 else ""
        return (
            f"{len(self.rows):,} tensor{'s' * (len(self.rows) != 1)}{where}, {self.elements:,} "
            f"elements{f' ({kinds})' if kinds else ''}, {mebibytes(size)}"
        )

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(_printable(self.path), style="bold", overflow="fold")]
        if self.rows:
            parts.append(_table(self.rows, several=self.files > 1))
        parts.append(Text(self.totals()))
        for name, value in self.facts[:_LINES]:
            line = Text(_printable(f"{name}: ")[:_WIDTH], style="dim", overflow="fold")
            parts.append(line.append(_shortened(_printable(str(value))), style="default"))
        if len(self.facts) > _LINES:
            parts.append(Text(f"… and {len(self.facts) - _LINES} more", style="dim"))
        return Group(*parts)


def inspect(path: str | os.PathLike[str], statistics: bool = False) -> Contents:
    """Return what a file of tensors holds: names, shapes, dtypes, bytes and metadata.

    Only headers are read, unless statistics are wanted.

    Args:
        path: a safetensors file, the index of several, a folder with one of them, or a run's.
        statistics: also read each tensor and return its minimum, mean, maximum and standard
            deviation.

    Raises:
        LoadError: there is no such file, or it is damaged or something else.

    >>> import os, tempfile
    >>> import toumei as tm
    >>> path = os.path.join(tempfile.mkdtemp(), "state.safetensors")
    >>> tm.save({"weight": tm.ones(2, 3), "step": 5}, path)
    >>> contents = inspect(path)
    >>> contents.rows[0].name, contents.rows[0].shape, contents.facts
    ('weight', (2, 3), [('step', 5)])
    >>> contents.totals()
    '1 tensor, 6 elements, 24 bytes'
    """
    return Contents(find_stored(_weights_of_run(os.fspath(path))), statistics)


def _weights_of_run(path: str) -> str:
    """Return the best weights so far where a folder is that of an unfinished run."""
    best = os.path.join(path, "checkpoint", "best.safetensors")
    finished = os.path.exists(os.path.join(path, "model.safetensors"))
    return best if os.path.exists(best) and not finished else path


def mebibytes(size: int) -> str:
    """Return a number of bytes for people."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} bytes"


def _row(entry: Entry, also: list[str], statistics: bool) -> Row:
    dtype = DTYPES.get(entry.dtype)
    name = "bfloat16" if dtype == BFLOAT16 else dtype.name if dtype is not None else entry.dtype
    found = _statistics(entry) if statistics and dtype is not None else None
    file = os.path.basename(entry.path)
    return Row(entry.name, name, entry.shape, entry.nbytes, file, also, found)


def _statistics(entry: Entry) -> Statistics | None:
    with open(entry.path, "rb") as file:
        array = read_entry(file, entry)
    if array.dtype == BFLOAT16:
        array = for_tensor(entry.path, entry.name, array)
    numbers = array.astype(np.float64).reshape(-1)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return (
            Statistics(math.nan, math.nan, math.nan, math.nan, numbers.size) if array.size else None
        )
    bad = numbers.size - finite.size
    return Statistics(
        float(finite.min()), float(finite.mean()), float(finite.max()), float(finite.std()), bad
    )


def _tree(stored: Stored) -> Any:
    """Return the nesting that `save` noted down, if it was that which wrote the file."""
    try:
        return json.loads(stored.metadata.get(TREE, "null"))
    except (ValueError, TypeError, RecursionError):
        return None


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the plain values in the nesting by their path, and {"tensor": name} for tensors."""
    if isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _leaves(value, f"{path}.{i}" if path else str(i))
    elif not isinstance(tree, dict):
        if path:
            yield path, tree
    elif "tensor" in tree or "array" in tree:
        yield path, {"tensor": str(tree.get("tensor", tree.get("array")))}
    elif isinstance(tree.get("dict"), list):
        for key, value in tree["dict"]:
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield from _leaves(tree.get("tuple"), path)


def _key(name: str) -> list[tuple[int, str]]:
    """Order names so that layer.2 comes before layer.10."""
    parts = re.split(r"(\d+)", name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (-1, p) for p in parts]


def _printable(text: str) -> str:
    """Return a text without what would move the cursor or change the colours."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _table(rows: list[Row], several: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    statistics = any(row.statistics for row in rows)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("tensor", overflow="fold")
    table.add_column("dtype", no_wrap=True)
    table.add_column("shape", no_wrap=True)
    for title in ("elements", "size", *(["min", "mean", "max", "std", ""] * statistics)):
        table.add_column(title, justify="right", no_wrap=True)
    if several:
        table.add_column("file", overflow="fold")
    for row in rows:
        cells = [row.dtype, str(list(row.shape)), f"{row.elements:,}", mebibytes(row.nbytes)]
        cells += _statistics_cells(row.statistics) if statistics else []
        cells += [_printable(row.file)] if several else []
        names = "".join(f"\n  = {_printable(name)}" for name in row.also)
        table.add_row(Text(_printable(row.name) + names), *(Text(cell) for cell in cells))
    return table


def _statistics_cells(found: Statistics | None) -> list[str]:
    if found is None:
        return [""] * 5
    *values, bad = found
    return [f"{value:.4g}" for value in values] + [f"{bad:,} NaN or infinite" if bad else ""]
