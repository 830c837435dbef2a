"""What the recipes that classify images share: their data, and what is told of an image."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from ..data import (
    CIFAR10,
    MNIST,
    Compose,
    FashionMNIST,
    ImageSet,
    MNISTSample,
    Normalize,
    Subset,
    ToTensor,
)
from ..data.files import KNOWN, locate
from ..data.sets import Splits
from .recipe import Budget, Data, Facts, Options, Recipe, hold_out

SAMPLE = "sample"  # the digits that come with the package
_SETS: dict[str, Any] = {"mnist": MNIST, "fashion-mnist": FashionMNIST, "cifar10": CIFAR10}


def load_images(name: str, root: str | None) -> Splits:
    """Return the images of a name: "sample", "mnist", "fashion-mnist" or "cifar10".

    Raises:
        DataError: they are not there, or damaged.
    """
    if name == SAMPLE:
        return Splits(
            MNISTSample(True), MNISTSample(False), "MNIST sample (8,000 + 2,000), embedded"
        )
    train, test = _SETS[name](root, True), _SETS[name](root, False)
    title = KNOWN[name].title.partition(":")[0]
    folder = locate(KNOWN[name], root)
    return Splits(train, test, f"{title} ({len(train):,} + {len(test):,}) from {folder}")


class ImageClassifier(Recipe):
    """A recipe whose model takes images and gives a score for each class."""

    metric = "accuracy"
    datasets: tuple[str, ...] = ("mnist",)  # the first that the folder has is the default

    def augmentation(self, dataset: str) -> Sequence[Any]:
        """Return the random changes that an image of a data set gets in training."""
        return []

    def plan(self, dataset: str, preset: str) -> tuple[Budget, float | None]:
        """Return the budget of a preset on a data set, and the figure to reach with it."""
        raise NotImplementedError

    def data(self, options: Options) -> Data:
        name = self._choose(options)
        budget, target = self.plan(name, options.preset)
        train, test, text = load_images(name, options.data_dir)
        plain = Compose([ToTensor(), Normalize(train.mean, train.std)])
        train.transform = test.transform = plain
        changed = copy(train)
        changed.transform = Compose([*self.augmentation(name), plain])
        rest, held_out = hold_out(len(train), min(5000, len(train) // 10))
        return Data(
            text=text,
            train=Subset(changed, rest),
            validation=Subset(train, held_out),
            test=test,
            budget=budget,
            target=target,
            facts=_facts(name, train),
        )

    def _choose(self, options: Options) -> str:
        """Return which images to take: those asked for, or the first that the folder has."""
        if options.dataset is not None:
            return options.dataset
        there = (n for n in self.datasets if locate(KNOWN[n], options.data_dir) is not None)
        return next(there, SAMPLE)

    def example(self, facts: Facts) -> tuple[Any, ...]:
        return ((1, *facts["shape"]),)


def _facts(name: str, images: ImageSet) -> dict[str, Any]:
    """Return what a model must know of its images."""
    return {
        "dataset": name,
        "classes": [str(c) for c in images.classes],
        "shape": list(images.images.shape[1:]),
        "mean": list(images.mean),
        "std": list(images.std),
    }
