"""What happened in a training run: one row of numbers per epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from typing import Any

from ..errors import LoadError
from ..io.files import write_whole

Row = dict[str, Any]


class History:
    """The rows of a run, oldest first, each a dict such as {"epoch": 1, "loss": 0.31, …}.

    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"], history.best("loss", "min")["epoch"]
    ([0.5, 0.25], 2)
    """

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows: list[Row] = list(rows or [])

    def append(self, row: Row) -> None:
        """Add the row of an epoch."""
        self.rows.append(dict(row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """Return one column; rows that lack it are left out."""
        return [row[column] for row in self.rows if column in row]

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def best(self, column: str, mode: str = "min") -> Row:
        """Return the row in which a column is smallest ("min") or largest ("max")."""
        rows = [row for row in self.rows if column in row]
        if not rows:
            raise KeyError(f"no row has a column {column!r}; there are {self.columns}")
        choose = {"min": min, "max": max}[mode]
        return choose(rows, key=lambda row: row[column])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as JSON, whole or not at all; what isn't finite becomes null."""
        rows = [{k: v if _is_json(v) else None for k, v in row.items()} for row in self.rows]
        write_whole(path, json.dumps(rows, indent=1, allow_nan=False).encode())

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as a table of comma-separated values, whole or not at all."""
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self.columns, restval="")
        table.writeheader()
        table.writerows(self.rows)
        write_whole(path, text.getvalue().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read what `save` wrote.

        Raises:
            LoadError: there is no such file, or it is damaged.
        """
        try:
            with open(path, encoding="utf-8") as file:
                rows = json.load(file)
        except (OSError, ValueError) as error:
            raise LoadError(f"no history can be read from {os.fspath(path)}: {error}") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise LoadError(f"{os.fspath(path)} holds no history: a list of rows was expected")
        return cls([{k: math.nan if v is None else v for k, v in row.items()} for row in rows])


def _is_json(value: Any) -> bool:
    """Tell whether JSON can hold a value: it has no NaN and no infinity."""
    return not isinstance(value, float) or math.isfinite(value)
