"""What a framework must do to take part: train one step, measure, and keep its weights.

A module of twins has `make(rung, setup) -> Side`; `rungs.py` says which module is whose.  Data,
batches, first weights, learning rates and what is measured are Toumei's, as NumPy arrays and
floats; a side computes with a framework of its own.  Batches are Toumei's `Batch` as arrays, in its
dtypes (float32 and int64) and layouts (images NCHW); a side must not write into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toumei.recipes.recipe import Budget

Array = NDArray[Any]
Arrays = tuple[Array, ...]


class Setup(NamedTuple):
    """What a side is made from.

    Args:
        facts: of the recipe's data: sizes of the model, classes, vocabulary.
        weights: of Toumei's model of the seed: its state_dict, with PyTorch's names and layouts.
        budget: how long and how fast; what is constant in the recipe's optimiser (weight decay,
            clipping, ...) is written in the twin, as it is in the recipe.
        steps_per_epoch: batches of an epoch.
        seed: of the side's own chance, such as dropout's.
        exact: the side's losses will be compared with Toumei's: no dropout, and noise is drawn by
            Toumei's generator, in the recipe's order (`toumei.randn`, seeded by the caller).
    """

    facts: Mapping[str, Any]
    weights: Mapping[str, Array]
    budget: Budget
    steps_per_epoch: int
    seed: int
    exact: bool = False


class Rates(NamedTuple):
    """What the recipe's schedule says of one step.

    Args:
        lr: the learning rate (of the first group of the recipe's `trainer.optimizer`).
        momentum: SGD's momentum or Adam's beta1, which a one-cycle schedule moves too; 0 if the
            optimiser has neither.
    """

    lr: float
    momentum: float


class Side:
    """A framework that trains one recipe.  A subclass does all but `wait` and `samples`."""

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        """Train on one batch; return its losses by Toumei's names.

        They are scalars of the framework, for `float`; the loop doesn't read them, a check does.
        """
        raise NotImplementedError

    def wait(self) -> None:
        """Return when all steps are done: for frameworks that compute in the background."""

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        """Return the recipe's metric, and perhaps more figures, by name; the model as for use."""
        raise NotImplementedError

    def snapshot(self) -> Any:
        """Return a copy of the weights that are measured (of the averaged ones if there are)."""
        raise NotImplementedError

    def restore(self, kept: Any) -> None:
        """Take the weights of a snapshot, to be measured; training doesn't go on after it."""
        raise NotImplementedError

    def samples(self, count: int, seed: int) -> Array:
        """Return generated images, 0..1.  Shape: -> (count, 1, 28, 28)"""
        raise NotImplementedError(f"{type(self).__name__} makes nothing up")


class Mean:
    """Means of named numbers over batches, each sample counting alike."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: Mapping[str, Any], count: int) -> None:
        """Take in means over `count` samples."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * count
        self.count += count

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.sums.items()}


def arrays_of(batch: Iterable[Any]) -> Arrays:
    """Return a batch of Toumei's loader as arrays, not copied.

    >>> import toumei as tm
    >>> [a.shape for a in arrays_of((tm.zeros(4, 2), tm.zeros(4)))]
    [(4, 2), (4,)]
    """
    return tuple(np.asarray(tensor.detach().numpy()) for tensor in batch)
