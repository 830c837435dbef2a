"""What a recipe is, and how one is run: from its name to a folder with weights and pictures.

A recipe says which data, which model, which budget, and which published figure it aims at; `run`
does the rest, the same for all.
"""

from __future__ import annotations

import json
import pathlib
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import manual_seed
from ..errors import LoadError, ToumeiError
from ..io.checkpoint import load_checkpoint
from ..io.files import write_whole
from ..io.safetensors import load, save
from ..train.callbacks import BestModel, Callback, Checkpoint, HistoryLog, LossPlot
from ..train.history import History

if TYPE_CHECKING:
    from ..data import DataLoader
    from ..nn import Module
    from ..train.trainer import Trainer


@dataclass(frozen=True)
class Options:
    """How a recipe is run; what is None takes the recipe's own value."""

    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int = 0
    data_dir: str | None = None
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True)
class Budget:
    """How long and how fast a recipe trains on its data."""

    epochs: int
    batch_size: int
    lr: float


@dataclass(frozen=True)
class Data:
    """The data of a recipe: what it is in words, and its parts."""

    text: str
    train: Any
    validation: Any
    test: Any
    budget: Budget
    target: float  # the figure to reach, in the recipe's metric


class Recipe:
    """One rung of the ladder.  A subclass says what to train, on what and how."""

    name: str
    title: str
    metric: str  # the column of the history that the figure is measured in
    mode: str = "max"  # whether a larger ("max") or a smaller ("min") metric is better
    source: str  # where the figure to reach is published

    def data(self, folder: str | None) -> Data:
        """Return the data: the real set if a folder has it, else what the package ships."""
        raise NotImplementedError

    def model(self) -> Module:
        """Return a new model."""
        raise NotImplementedError

    def example(self) -> tuple[int, ...]:
        """Return the shape of an input, for `toumei summary`."""
        raise NotImplementedError

    def trainer(self, model: Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        """Return the trainer of a model, with its optimiser and schedule."""
        raise NotImplementedError

    def budget(self, data: Data, options: Options) -> Budget:
        """Return the budget of the data with what the user has set."""
        own = data.budget
        return Budget(
            own.epochs if options.epochs is None else options.epochs,
            own.batch_size if options.batch_size is None else options.batch_size,
            own.lr if options.lr is None else options.lr,
        )


class Run:
    """A recipe under way in a folder: model, loaders, trainer, and what to write where."""

    def __init__(self, recipe: Recipe, folder: pathlib.Path, options: Options) -> None:
        from ..data import DataLoader

        manual_seed(options.seed)
        self.recipe, self.folder, self.options = recipe, folder, options
        self.data = recipe.data(options.data_dir)
        self.budget = recipe.budget(self.data, options)
        _check_budget(self.budget, len(self.data.train))
        size = self.budget.batch_size
        self.train: DataLoader = DataLoader(
            self.data.train, batch_size=size, shuffle=True, drop_last=True, seed=options.seed
        )
        self.validation = DataLoader(self.data.validation, batch_size=1000, seed=0)
        self.test = DataLoader(self.data.test, batch_size=1000, seed=0)
        self.model = recipe.model()
        self.trainer = recipe.trainer(self.model, self.budget, len(self.train))
        self.trainer.callbacks += self._writers()

    def _writers(self) -> list[Callback]:
        """Return the callbacks that write the run's files; the checkpoint last: it covers all."""
        checkpoints = self.folder / "checkpoint"
        watched = f"validation_{self.recipe.metric}"
        facts = {
            "recipe": self.recipe.name,
            "options": asdict(self.options),
            "samples": len(self.data.train),
        }
        return [
            BestModel(checkpoints / "best.safetensors", watched, self.recipe.mode),
            HistoryLog(self.folder / "history.json"),
            LossPlot(self.folder / "loss.png", f"{self.recipe.title}\n{self.data.text}"),
            Checkpoint(checkpoints, self.options.checkpoint_seconds, **facts),
        ]

    def resume(self) -> None:
        """Go on from the run's last checkpoint.

        Raises:
            LoadError: it is damaged, or the run's data are not found any more.
        """
        content = load_checkpoint(checkpoint_of(self.folder))
        if content["samples"] != len(self.data.train):
            raise LoadError(
                f"{self.folder} was trained on {content['samples']:,} samples, but {self.data.text}"
                f" has {len(self.data.train):,}: name the folder of its data with --data-dir "
                "(an empty one stands for the embedded sample)"
            )
        self.trainer.load_state_dict(content["state"])

    def fit(self, *watchers: Callback) -> dict[str, Any]:
        """Train to the end, measure once on the test set, write the rest; return the summary."""
        # Those who watch remember nothing over a resume, so they stand outside of the state.
        trainer = self.trainer
        trainer.watchers += watchers
        trainer.fit(self.train, self.validation, epochs=self.budget.epochs)
        self.model.load_state_dict(load(self.folder / "checkpoint" / "best.safetensors"))
        save(self.model.state_dict(), self.folder / "model.safetensors")
        summary = self.summary(trainer.evaluate(self.test)[self.recipe.metric])
        write_whole(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
        return summary

    def summary(self, value: float) -> dict[str, Any]:
        """Return the facts of the finished run."""
        from .. import __version__

        return {
            "recipe": self.recipe.name,
            "metric": f"test {self.recipe.metric}",
            "value": round(value, 6),
            "target": self.data.target,
            "epochs": self.trainer.epoch,
            "seconds": round(self.trainer.seconds, 2),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "data": self.data.text,
            "seed": self.options.seed,
            "compiled": False,
            "version": __version__,
        }


def hold_out(size: int, count: int) -> tuple[list[int], list[int]]:
    """Split the indices of a training set: those to train on, and `count` to validate on.

    The split is always the same, so that runs with different seeds can be compared.
    """
    order = np.random.default_rng(0).permutation(size).tolist()
    return order[count:], order[:count]


def _check_budget(budget: Budget, samples: int) -> None:
    if budget.epochs < 1 or budget.batch_size < 1 or budget.lr <= 0:
        raise ToumeiError(f"epochs, batch size and learning rate must be positive: {budget}")
    if budget.batch_size > samples:
        raise ToumeiError(f"a batch of {budget.batch_size} is more than all {samples} samples")


def new_folder(recipe: str) -> pathlib.Path:
    """Return a folder for a run that starts now: runs/<recipe>-<time>."""
    return pathlib.Path("runs") / f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"


def open_run(folder: pathlib.Path) -> tuple[str, Options]:
    """Return which recipe a folder holds a run of, and its options.

    Raises:
        LoadError: the folder holds no run.
    """
    path = checkpoint_of(folder)
    if not path.exists():
        raise LoadError(
            f"{folder} holds no run: there is no {path}. "
            f"A new one can start there:  toumei train RECIPE --out {folder}"
        )
    content = load(path)
    if not isinstance(content, dict) or not {"recipe", "options"} <= set(content):
        raise LoadError(f"{path} is no checkpoint of a recipe: the program that wrote it reads it")
    return content["recipe"], Options(**content["options"])


def checkpoint_of(folder: pathlib.Path) -> pathlib.Path:
    """Return where the run in a folder has its checkpoint."""
    return folder / "checkpoint" / Checkpoint.LAST


def history_of(folder: pathlib.Path) -> History:
    """Return the history of the run in a folder."""
    return History.load(folder / "history.json")
