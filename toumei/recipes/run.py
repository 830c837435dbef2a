"""A recipe that is trained into a folder, and the folder opened again to use the model."""

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
from ..machine import describe_machine
from ..train.callbacks import BestModel, Callback, Checkpoint, HistoryLog, LossPlot
from ..train.history import History
from .recipe import Facts, Options, Recipe, budget_of, hold_out, target_of

if TYPE_CHECKING:
    from ..data import DataLoader
    from ..nn import Module

_WHERE = "name the folder of its data with --data-dir (an empty one stands for the embedded sample)"


class Run:
    """A recipe under way in a folder: model, loaders, trainer, and what to write where."""

    def __init__(self, recipe: Recipe, folder: pathlib.Path, options: Options) -> None:
        manual_seed(options.seed)
        self.recipe, self.folder, self.options = recipe, folder, options
        self.data = recipe.data(options)
        self.facts = self.data.facts
        self.budget = budget_of(self.data, options)
        self.train = self._loader(_first(self.data.train, self.budget.samples), training=True)
        self.validation = self._loader(self.data.validation)
        self.test = self._loader(self.data.test)
        self.model = recipe.model(self.facts)
        self.trainer = recipe.trainer(self.model, self.budget, len(self.train))
        self.trainer.compile = options.compile
        self.trainer.callbacks += [*recipe.watchers(self), *self._writers()]

    def _loader(self, dataset: Any, training: bool = False) -> DataLoader:
        size = self.budget.batch_size
        seed = self.options.seed if training else 0
        return self.recipe.loader(dataset, size, training=training, seed=seed)

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
                f" has {len(self.data.train):,}: {_WHERE}"
            )
        self.trainer.load_state_dict(content["state"])

    def check_facts(self, facts: Facts) -> None:
        """Refuse data that are not those of a finished run in the folder, whose facts are given.

        Raises:
            LoadError: the data have other facts.
        """
        if facts != json.loads(json.dumps(self.facts)):
            raise LoadError(
                f"{self.folder} was trained on other data than {self.data.text}: {_WHERE}"
            )

    def fit(self, *watchers: Callback) -> dict[str, Any]:
        """Train to the end, measure once on the test set, write the rest; return the summary.

        Raises:
            ToumeiError: the training diverged.
        """
        # Those who watch remember nothing over a resume, so they stand outside of the state.
        trainer = self.trainer
        trainer.watchers += watchers
        _write_json(self.folder / "run.json", {"recipe": self.recipe.name, "facts": self.facts})
        trainer.fit(self.train, self.validation, epochs=self.budget.epochs)
        self.model = trainer.evaluated.eval()
        self.model.load_state_dict(self._best_weights())
        save(self.model.state_dict(), self.folder / "model.safetensors")
        value = trainer.evaluate(self.test)[self.recipe.metric]
        summary = self.summary(value) | self.recipe.report(self)
        _write_json(self.folder / "summary.json", summary)
        return summary

    def _best_weights(self) -> dict[str, Any]:
        """Return the weights of the best epoch; there are none, or NaNs, if training diverged."""
        path = self.folder / "checkpoint" / "best.safetensors"
        weights: dict[str, Any] = load(path) if path.exists() else {}
        if not weights or not all(np.isfinite(w.numpy()).all() for w in weights.values()):
            raise ToumeiError(
                "the training diverged: after no epoch the weights and the validation's figures "
                f"were finite. Take a smaller learning rate than {self.budget.lr:g} (--lr)"
            )
        return weights

    def summary(self, value: float) -> dict[str, Any]:
        """Return the facts of the finished run."""
        from .. import __version__

        return {
            "recipe": self.recipe.name,
            "title": self.recipe.title,
            "command": command(self.recipe, self.options),
            "preset": self.options.preset,
            "metric": f"test {self.recipe.metric}",
            "value": round(value, 6),
            "target": target_of(self.data, self.budget),
            "mode": self.recipe.mode,
            "source": self.recipe.source,
            "epochs": self.trainer.epoch,
            "seconds": round(self.trainer.seconds, 2),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "data": self.data.text,
            "seed": self.options.seed,
            "compiled": self.trainer.compiles,
            "machine": describe_machine(),
            "version": __version__,
        }


def command(recipe: Recipe, options: Options) -> str:
    """Return the command that trains so again; where the data are is not part of it."""
    words = ["toumei train", recipe.name]
    if options.preset != Options.preset:
        words.append("--fast" if options.preset == "fast" else f"--preset {options.preset}")
    if options.compile is not None:
        words.append("--compile" if options.compile else "--no-compile")
    given = {
        "data": options.dataset,
        "epochs": options.epochs,
        "batch-size": options.batch_size,
        "lr": options.lr,
        "samples": options.samples,
        "seed": options.seed or None,
    }
    words += [f"--{name} {value}" for name, value in given.items() if value is not None]
    return " ".join(words)


@dataclass(frozen=True)
class Opened:
    """A finished run, opened to use its model; it needs the run's folder alone, not the data."""

    recipe: Recipe
    folder: pathlib.Path
    facts: Facts
    model: Module  # with the best weights, in evaluation mode


def open_finished(folder: pathlib.Path) -> Opened:
    """Open the run in a folder to use its model.

    Raises:
        LoadError: the folder holds no finished run.
    """
    from . import find

    paths = folder / "run.json", folder / "model.safetensors"
    for path in paths:
        if not path.exists():
            raise LoadError(
                f"{folder} holds no finished run: there is no {path.name}. "
                f"Finish one with  toumei train --resume {folder}"
                if checkpoint_of(folder).exists()
                else f"{folder} holds no run: there is no {path.name}"
            )
    try:
        content = json.loads(paths[0].read_text())
        recipe, facts = find(content["recipe"]), content["facts"]
        model = recipe.model(facts)
    except KeyError as error:
        raise LoadError(f"{paths[0]} is damaged: it has no {error}") from error
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise LoadError(f"{paths[0]} is damaged: {error}") from error
    model.load_state_dict(load(paths[1]))
    return Opened(recipe, folder, facts, model.eval())


def _first(dataset: Any, count: int | None) -> Any:
    """Return so many samples of a data set, always the same ones."""
    from ..data import Subset

    if count is None or count >= len(dataset):
        return dataset
    return Subset(dataset, hold_out(len(dataset), count)[1])


def _write_json(path: pathlib.Path, content: Any) -> None:
    write_whole(path, json.dumps(content, indent=1).encode())


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
        if (folder / "run.json").exists():
            raise LoadError(f"{folder} has lost its checkpoint: there is no {path}")
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
