"""TensorBoard: the numbers of a run as event files, for `tensorboard --logdir FOLDER`.

The files are written by tensorboardX, which needs no TensorFlow, PyTorch or TensorBoard.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from .callbacks import Callback
from .history import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .trainer import Trainer

Draw = Callable[["Trainer"], "Figure"]


class TensorBoard(Callback):
    """Writes loss, metrics and learning rate to event files; on request weights and figures too.

    Tags: "loss/step" for the batches, "loss/training" and "loss/validation" for the epochs, and
    likewise for each metric; "lr", "epoch", "seconds".  Everything stands at the number of batches
    trained on.  A resumed run goes on in the same folder: what had been written after its
    checkpoint is marked as void, and TensorBoard leaves it out.

    It remembers nothing over a resume, so it may be a watcher (`trainer.watchers`): then a run
    can be resumed with it or without it.

    Args:
        folder: where the event files go.
        every: how many batches from one entry of the batch's loss to the next.
        histograms: how many epochs from one histogram of each weight to the next; 0 for none.
        figures: by name, functions of the trainer that draw a matplotlib figure after each epoch.

    Raises:
        ToumeiError: tensorboardX isn't installed.
        ValueError: `every` or `histograms` makes no sense.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int = 50,
        histograms: int = 0,
        figures: Mapping[str, Draw] | None = None,
    ) -> None:
        if every < 1 or histograms < 0:
            raise ValueError(
                f"TensorBoard: every must be positive and histograms not negative, they are "
                f"{every} and {histograms}"
            )
        self.folder, self.every, self.histograms = os.fspath(folder), every, histograms
        self.figures = dict(figures or {})
        self.writer: Any = None
        _writer_class()  # so that what is missing is missed before the training

    def on_fit_start(self, trainer: Trainer, epochs: int) -> None:
        void = trainer.steps + 1 if trainer.steps else None
        # The library names files by the second: the suffix keeps two of one second apart.
        suffix = f".{time.time_ns()}"
        self.writer = _writer_class()(self.folder, purge_step=void, filename_suffix=suffix)

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps % self.every == 0:
            rates = [group["lr"] for group in trainer.optimizer.param_groups]
            names = ["lr"] if len(rates) == 1 else [f"lr/{i}" for i in range(len(rates))]
            losses = {f"{name}/step": value for name, value in trainer.latest.items()}
            self._write({**losses, **dict(zip(names, rates, strict=True))}, trainer.steps)

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        self._write(dict(_tagged(row)), trainer.steps)
        if self.histograms and trainer.epoch % self.histograms == 0:
            for name, p in trainer.model.named_parameters():
                values = p.detach().numpy()
                if np.isfinite(values).all():  # others have no histogram
                    self.writer.add_histogram(f"weights/{name}", values, trainer.steps)
        for name, draw in self.figures.items():
            pixels = _pixels_of(draw(trainer))
            self.writer.add_image(name, pixels, trainer.steps, dataformats="HWC")
        self.writer.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        self.writer.close()

    def on_interrupt(self, trainer: Trainer) -> None:
        self.writer.close()

    def _write(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, float(value), step)


def _tagged(row: Row) -> Iterator[tuple[str, float]]:
    """Yield the tag and the value of each column, but for the learning rate: batches have it."""
    measures = {name.removeprefix("validation_") for name in row} - {"epoch", "lr", "seconds"}
    for name, value in row.items():
        measure = name.removeprefix("validation_")
        if measure in measures:
            yield f"{measure}/{'training' if name == measure else 'validation'}", value
        elif name != "lr":
            yield name, value


def _pixels_of(figure: Figure) -> np.ndarray[Any, Any]:
    """Draw a figure.  Shape: (height, width, 3) uint8"""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _writer_class() -> Any:
    """Return what writes event files, or say how to get it."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ToumeiError(
            "event files for TensorBoard need tensorboardX, which isn't installed:  "
            'pip install "toumei[tensorboard]"'
        ) from error
    return SummaryWriter
