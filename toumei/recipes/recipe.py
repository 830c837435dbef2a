"""What a recipe is: the data, the model and the budget of one rung of the ladder.

`run.py` trains a recipe into a folder and opens that folder again; it is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError

if TYPE_CHECKING:
    import pathlib

    from ..data import DataLoader
    from ..nn import Module
    from ..train.callbacks import Callback
    from ..train.trainer import Trainer
    from .run import Opened, Run

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """How a recipe is run; what is None takes the recipe's own value."""

    preset: str = "default"  # or another of the recipe's presets
    dataset: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    samples: int | None = None
    seed: int = 0
    data_dir: str | None = None
    checkpoint_seconds: float = 30.0
    compile: bool | None = None


@dataclass(frozen=True)
class Budget:
    """How long and how fast a recipe trains on its data."""

    epochs: int
    batch_size: int
    lr: float
    samples: int | None = None  # train on so many of the samples only


@dataclass(frozen=True)
class Data:
    """The data of a recipe: what it is in words, its parts, and how to train on it.

    Attributes:
        text: what it is, for people.
        train, validation, test: data sets.
        budget: how long and how fast to train on it.
        target: the figure to reach in the recipe's metric; None if the budget is too short.
        facts: all that the model, `predict` and `sample` must know of the data, such as its
            classes or its vocabulary, and the sizes of the model; JSON-able.
    """

    text: str
    train: Any
    validation: Any
    test: Any
    budget: Budget
    target: float | None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Sampling:
    """What `toumei sample` asks for; what is None takes the recipe's own value.

    Attributes:
        count: how many samples.
        length: characters of a text.
        temperature: divides the scores: below 1 likelier, above 1 more daring.
        prompt: how a text begins.
        out: the file of a picture.
        seed: same seed, same samples.
    """

    count: int | None = None
    length: int | None = None
    temperature: float | None = None
    prompt: str | None = None
    out: pathlib.Path | None = None
    seed: int = 0


class Recipe:
    """One rung of the ladder.  A subclass says what to train, on what and how."""

    name: str
    title: str
    metric: str  # the column of the history that the figure is measured in
    mode: str = "max"  # whether a larger ("max") or a smaller ("min") metric is better
    source: str  # where the figure to reach is published
    datasets: tuple[str, ...] = ()  # what --data may name; none: there is one only
    #: "fast" is about a minute that visibly learns, "long" a larger model and more time.
    presets: tuple[str, ...] = ("default", "fast")
    sampling: tuple[str, ...] = ()  # the fields of Sampling that `sample` heeds, besides the seed

    # --- what is trained ---

    def data(self, options: Options) -> Data:
        """Return the data: the real set if the folder has it, else what the package ships."""
        raise NotImplementedError

    def model(self, facts: Facts) -> Module:
        """Return a new model."""
        raise NotImplementedError

    def example(self, facts: Facts) -> tuple[Any, ...]:
        """Return the model's arguments for one sample: shapes of floats, or tensors."""
        raise NotImplementedError

    # --- how it is trained ---

    def trainer(self, model: Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        """Return the trainer of a model, with its optimiser and schedule."""
        raise NotImplementedError

    def loader(self, dataset: Any, batch_size: int, *, training: bool, seed: int) -> DataLoader:
        """Return the batches of a part of the data; in training shuffled and of equal size."""
        from ..data import DataLoader

        return DataLoader(dataset, batch_size, shuffle=training, drop_last=training, seed=seed)

    def watchers(self, run: Run) -> list[Callback]:
        """Return callbacks that keep pictures or samples of each epoch; resumed with the run."""
        return []

    # --- what comes out ---

    def report(self, run: Run) -> dict[str, Any]:
        """Draw what a person wants to see of the trained model into the run's folder.

        Returns:
            Figures for summary.json besides the test metric, such as a baseline's.
        """
        return {}

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        """Return what the model makes of an input, as text; a picture may be written to `out`."""
        raise ToumeiError(f"{self.name!r} takes no input. It makes things up:  toumei sample RUN")

    def sample(self, opened: Opened, wish: Sampling) -> str:
        """Return what the model makes up: a text, or a line saying where the picture is."""
        raise ToumeiError(f"{self.name!r} makes nothing up. It answers:  toumei predict RUN INPUT")


def hold_out(size: int, count: int) -> tuple[list[int], list[int]]:
    """Split the indices of a training set: those to train on, and `count` to validate on.

    The split is always the same, so that runs with different seeds can be compared.
    """
    order = np.random.default_rng(0).permutation(size).tolist()
    return order[count:], order[:count]


def budget_of(data: Data, options: Options) -> Budget:
    """Return the budget of the data with what the user has set.

    Raises:
        ToumeiError: a number isn't positive, or a batch is more than all samples.
    """
    own, size = data.budget, len(data.train)
    budget = Budget(
        own.epochs if options.epochs is None else options.epochs,
        own.batch_size if options.batch_size is None else options.batch_size,
        own.lr if options.lr is None else options.lr,
        own.samples if options.samples is None else options.samples,
    )
    if budget.epochs < 1 or budget.batch_size < 1 or budget.lr <= 0:
        raise ToumeiError(f"epochs, batch size and learning rate must be positive: {budget}")
    size = size if budget.samples is None else min(size, budget.samples)
    if budget.batch_size > size:
        raise ToumeiError(f"a batch of {budget.batch_size} is more than all {size} samples")
    return budget


def target_of(data: Data, budget: Budget) -> float | None:
    """Return the figure to reach; None for fewer epochs or samples than it is meant for."""
    every = len(data.train)
    shorter = budget.epochs < data.budget.epochs
    fewer = min(budget.samples or every, every) < min(data.budget.samples or every, every)
    return None if shorter or fewer else data.target
