"""Progress in the terminal: a live bar within an epoch, a table line after it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .callbacks import Callback
from .history import Row

if TYPE_CHECKING:
    from rich.console import Console

    from .trainer import Trainer

SHORT = {"validation": "val", "accuracy": "acc", "loss": "loss"}


class Progress(Callback):
    """Shows a bar (loss, metrics, samples/s, time left) and one line per epoch.

    The bar is drawn only on a terminal; a file or a pipe gets the lines alone.

    Args:
        console: where to write; standard output unless given.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self.bar: Any = None
        self.epochs = 0

    def on_fit_start(self, trainer: Trainer, epochs: int) -> None:
        from rich.console import Console

        self.console = self.console or Console()
        self.epochs = epochs
        self.headed = False

    def on_epoch_start(self, trainer: Trainer) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        assert self.console is not None
        self.started, self.drawn = time.perf_counter(), 0.0
        self.seen = _samples(trainer)
        self.bar = Bar(
            TextColumn("[bold]epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        loader = trainer.loaders["train"]
        total = len(loader) if hasattr(loader, "__len__") else None
        self.task = self.bar.add_task(
            "", total=total, completed=trainer.batches, numbers="",
            epoch=f"{trainer.epoch + 1}/{self.epochs}",
        )  # fmt: skip
        self.bar.start()

    def on_batch_end(self, trainer: Trainer) -> None:
        now = time.perf_counter()
        count = _samples(trainer)
        if now - self.drawn < 0.1 and not self.bar.finished:
            self.bar.advance(self.task)
            return
        self.drawn = now
        rate = (count - self.seen) / max(now - self.started, 1e-9)
        numbers = [f"{SHORT.get(k, k)} {show(v)}" for k, v in trainer.running.means().items()]
        self.bar.update(
            self.task, advance=1, numbers="  ".join([*numbers, f"{rate:,.0f} samples/s"])
        )

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        self.bar.stop()
        if not self.headed:
            self._print(table_line(list(row), bold=True))
            self.headed = True
        self._print(table_line([show(v, c) for c, v in row.items()], list(row)))

    def _print(self, line: str) -> None:
        """Print one line: a narrow terminal cuts it off, a file or a pipe gets it whole."""
        assert self.console is not None
        whole = not self.console.is_terminal
        self.console.print(line, highlight=False, no_wrap=True, overflow="ignore", crop=not whole)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.bar is not None:
            self.bar.stop()  # the terminal gets its cursor back

    on_interrupt = on_fit_end


def _samples(trainer: Trainer) -> float:
    """Return on how many samples the epoch under way has trained; its first column has them all."""
    return next(iter(trainer.running.sums.values()), [0.0, 0.0])[1]


def show(value: Any, column: str = "") -> str:
    """Write a number so that it is short and the numbers of a column line up."""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if column in ("lr", "seconds"):
        return f"{value:.1e}" if column == "lr" else f"{value:.1f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:.1e}"


def table_line(
    cells: Sequence[str], columns: Sequence[str] | None = None, bold: bool = False
) -> str:
    """Write the cells of a row, each as wide as the name of its column."""
    names = [_short(c) for c in (columns or cells)]
    shown = names if columns is None else cells
    line = "  ".join(f"{c:>{max(len(n), 7)}}" for c, n in zip(shown, names, strict=True))
    return f"[bold]{line}[/bold]" if bold else line


def _short(column: str) -> str:
    return " ".join(SHORT.get(part, part) for part in column.split("_"))
