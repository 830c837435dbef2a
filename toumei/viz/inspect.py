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
    from rich.console import Console, ConsoleOptions
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
        files: the name of each file.
        rows: one per tensor, as a state dict orders them where the file says so, else by name.
        facts: the metadata that are for people: (name, value).
    """

    def __init__(self, stored: Stored, statistics: bool) -> None:
        self.path = stored.path
        self.files = [os.path.basename(file.path) for file in stored.files]
        leaves = list(_leaves(_tree(stored), ""))
        order: dict[str, int] = {}
        for i, (_, value) in enumerate(leaves):
            if isinstance(value, dict):
                order.setdefault(value["tensor"], i)
        last = len(leaves)
        entries = sorted(stored.entries, key=lambda e: (order.get(e.name, last), _key(e.name)))
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
        where = f" in {len(self.files)} files" if len(self.files) > 1 else ""
        return (
            f"{len(self.rows):,} tensor{'s' * (len(self.rows) != 1)}{where}, {self.elements:,} "
            f"elements{f' ({kinds})' if kinds else ''}, {mebibytes(size)}"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        yield Text(_printable(self.path), style="bold", overflow="fold")
        if self.rows:
            yield _fitting_table(self.rows, self.files, console, options.max_width)
        yield Text(self.totals())
        if len(self.files) > 1:
            for i, name in enumerate(self.files, 1):
                yield Text(f"file {i}: {_printable(name)}", style="dim")
        for name, value in self.facts[:_LINES]:
            line = Text(overflow="fold")
            line.append(_shortened(_printable(f"{name}: ")), style="dim")
            yield line.append(_shortened(_printable(str(value))))
        if len(self.facts) > _LINES:
            yield Text(f"… and {len(self.facts) - _LINES} more", style="dim")


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
    if isinstance(tree, list) and any(isinstance(value, list | dict) for value in tree):
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


def _fitting_table(rows: list[Row], files: list[str], console: Console, width: int) -> Table:
    """Leave out what follows from shape and dtype, then break the names, if there is no room."""
    narrow = console.options.update(max_width=10 * width)  # asked how wide it would like to be
    columns = _columns(rows, files)
    omissible = ["elements", "size"] if any(row.statistics for row in rows) else ["elements"]
    for omitted in ["", *omissible]:
        columns = [c for c in columns if c.title != omitted]
        if (excess := console.measure(_table(columns), options=narrow).maximum - width) <= 0:
            return _table(columns)
    room = max(24, columns[0].width - excess)
    names = ["\n".join(_broken(line, room) for line in c.split("\n")) for c in columns[0].cells]
    return _table([columns[0]._replace(cells=names), *columns[1:]])


def _broken(name: str, room: int) -> str:
    """Break a name after dots into lines of so many characters."""
    lines = [""]
    for part in re.findall(r"[^.]*\.|[^.]+$", name):
        if lines[-1].strip() and len(lines[-1]) + len(part) > room:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


class _Column(NamedTuple):
    title: str
    cells: list[str]
    right: bool = True

    @property
    def width(self) -> int:
        return max(len(line) for cell in self.cells for line in cell.split("\n"))


def _columns(rows: list[Row], files: list[str]) -> list[_Column]:
    columns = [
        _Column("tensor", [_names(row) for row in rows], right=False),
        _Column("dtype", [row.dtype for row in rows], right=False),
        _Column("shape", [str(list(row.shape)) for row in rows], right=False),
        _Column("elements", [f"{row.elements:,}" for row in rows]),
        _Column("size", [mebibytes(row.nbytes) for row in rows]),
    ]
    if len(files) > 1:
        numbers = {name: str(i) for i, name in enumerate(files, 1)}
        columns.append(_Column("file", [numbers[row.file] for row in rows]))
    found = [row.statistics for row in rows]
    if any(found):
        columns += [_Column(name, _figures(name, found)) for name in ("min", "mean", "max", "std")]
    if any(s and s.bad for s in found):
        bad = [f"{s.bad:,}" if s and s.bad else "" for s in found]
        columns.append(_Column("NaN/inf", bad))
    return columns


def _figures(name: str, found: list[Statistics | None]) -> list[str]:
    return [f"{getattr(statistics, name):.4g}" if statistics else "" for statistics in found]


def _names(row: Row) -> str:
    return "\n= ".join(_printable(name) for name in (row.name, *row.also))


def _table(columns: list[_Column]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for i, c in enumerate(columns):
        if i == 0:  # the names: the one that is broken into lines if need be
            table.add_column(c.title, overflow="fold", min_width=min(24, c.width))
        else:
            table.add_column(c.title, justify="right" if c.right else "left", no_wrap=True)
    for cells in zip(*(c.cells for c in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table
