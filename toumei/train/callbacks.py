"""Callbacks: what a trainer tells, and the usual ones.

A callback overrides the events it cares about.  What it must remember over a resume goes through
`state_dict`.
"""

from __future__ import annotations

import math
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any, ClassVar

from ..io.checkpoint import save_checkpoint
from ..optim.plateau import ReduceLROnPlateau
from .history import Row

if TYPE_CHECKING:
    from .trainer import Trainer

Path = str | os.PathLike[str]


class Callback:
    """Told of the events of a training run; each method does nothing unless overridden."""

    last: ClassVar[bool] = False  # told after all others, as it writes down what they remember

    def on_fit_start(self, trainer: Trainer, epochs: int) -> None:
        """Training begins, or goes on, and will end after `epochs` epochs."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """An epoch begins, or goes on after a resume."""

    def on_step_end(self, trainer: Trainer) -> None:
        """The optimiser has made a step: after each batch, or after several (`accumulate`)."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """The model has been trained on one more batch."""

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        """An epoch is finished and its row is in the history."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Training is over."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """Training is cut off by an exception, Ctrl-C included."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a resume, JSON-able."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""


class Monitor(Callback):
    """Watches one column of the history and knows its best value so far.

    Args:
        monitor: the column, such as "validation_loss".
        mode: whether smaller ("min") or larger ("max") is better.
        min_delta: by how much a value must be better to count.
    """

    def __init__(self, monitor: str, mode: str = "min", min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.best = math.inf if mode == "min" else -math.inf
        self.waited = 0  # epochs since the best

    def improves(self, row: Row) -> bool:
        """Take in an epoch; tell whether it is the best so far."""
        if self.monitor not in row:
            raise KeyError(f"no column {self.monitor!r} to watch; there are {sorted(row)}")
        value = row[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        better = bool(gain > self.min_delta)
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = float(state["best"]), int(state["waited"])


class EarlyStopping(Monitor):
    """Ends training after `patience` epochs without a better value.

    Args:
        monitor, mode, min_delta: see Monitor.
        patience: epochs to wait for a better value.
    """

    def __init__(
        self, monitor: str = "validation_loss", mode: str = "min", patience: int = 5,
        min_delta: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        self.patience = patience

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        if not self.improves(row) and self.waited >= self.patience:
            trainer.stop = True


class Checkpoint(Callback):
    """Writes `last.safetensors` at the start, after each epoch, and every so many seconds.

    Args:
        folder: where to write.
        seconds: how much work may be lost when the run is killed.
        facts: further JSON-able facts for the file, such as the options of the run.
    """

    LAST: ClassVar[str] = "last.safetensors"
    last = True

    def __init__(self, folder: Path, seconds: float = 30.0, **facts: Any) -> None:
        self.path = pathlib.Path(folder) / self.LAST
        self.seconds = seconds
        self.facts = facts
        self.written = time.monotonic()

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint now."""
        save_checkpoint(self.path, trainer.state_dict(), **self.facts)
        self.written = time.monotonic()

    def on_fit_start(self, trainer: Trainer, epochs: int) -> None:
        if not trainer.steps:  # a run can be resumed, and a full disk is found, from the start
            self.write(trainer)

    def on_batch_end(self, trainer: Trainer) -> None:
        if time.monotonic() - self.written >= self.seconds:
            self.write(trainer)

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        self.write(trainer)


class BestModel(Monitor):
    """Writes the weights to `path` whenever an epoch is the best so far.

    If the trainer keeps an average of the weights, that is what is written.
    """

    def __init__(self, path: Path, monitor: str = "validation_loss", mode: str = "min") -> None:
        super().__init__(monitor, mode)
        self.path = path

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        from ..io.safetensors import save

        if self.improves(row):
            save(trainer.evaluated.state_dict(), self.path)


class HistoryLog(Callback):
    """Writes the history after each epoch; the ending of the name says how: .json or .csv."""

    def __init__(self, path: Path) -> None:
        self.path = pathlib.Path(path)
        if self.path.suffix not in (".json", ".csv"):
            raise ValueError(f"a history is written as .json or .csv, not {self.path.name!r}")

    def _write(self, trainer: Trainer) -> None:
        history = trainer.history
        (history.save if self.path.suffix == ".json" else history.save_csv)(self.path)

    def on_fit_start(self, trainer: Trainer, epochs: int) -> None:
        self._write(trainer)  # after a resume: rows that came after the checkpoint go

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        self._write(trainer)


class LossPlot(Callback):
    """Draws the history to a picture at the end and meanwhile, at most every few seconds."""

    def __init__(self, path: Path, title: str = "", seconds: float = 15.0) -> None:
        self.path, self.title, self.seconds = path, title, seconds
        self.drawn = -math.inf

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        if time.monotonic() - self.drawn >= self.seconds:
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        from .plots import plot_history

        plot_history({self.title: trainer.history}, self.path)
        self.drawn = time.monotonic()


def move_on(scheduler: Any, row: Row) -> None:
    """Move a scheduler on after an epoch; one that watches for a plateau is told the loss."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(row.get("validation_loss", row["loss"]))
    else:
        scheduler.step()


class Schedule(Callback):
    """Moves a scheduler on after each "step" (of the optimiser) or each "epoch".

    It does so besides the trainer's own.
    """

    def __init__(self, scheduler: Any, every: str = "epoch") -> None:
        if every not in ("step", "epoch"):
            raise ValueError(f"every must be 'step' or 'epoch', not {every!r}")
        self.scheduler, self.every = scheduler, every

    def on_step_end(self, trainer: Trainer) -> None:
        if self.every == "step":
            self.scheduler.step()

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        if self.every == "epoch":
            move_on(self.scheduler, row)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)
