"""What the recipes that classify images share: their data, and what is told of an image."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from .. import nn, optim
from ..autograd import no_grad
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
from ..data.files import KNOWN, locate, packed_file
from ..data.sets import Splits
from ..ops import from_numpy
from ..train import Trainer, accuracy
from .pictures import read_picture, seen
from .recipe import Budget, Data, Facts, Options, Recipe, hold_out
from .run import Opened, Run

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
    form = " as JPEGs" if folder and packed_file(KNOWN[name], folder) else ""
    return Splits(train, test, f"{title} ({len(train):,} + {len(test):,}){form}")


class ImageClassifier(Recipe):
    """A recipe whose model takes images and gives a score for each class."""

    metric = "accuracy"
    datasets: tuple[str, ...] = ("mnist", SAMPLE)  # the first that is there is the default

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
        plain = _plain(train.mean, train.std)
        train.transform = test.transform = plain
        changed = copy(train)
        changed.transform = Compose([*self.augmentation(name), plain])
        most = 1000 if options.preset == "fast" else 5000  # measuring takes time as well
        rest, held_out = hold_out(len(train), min(most, len(train) // 10))
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
        there = (n for n in self.datasets if n == SAMPLE or locate(KNOWN[n], options.data_dir))
        return next(there, SAMPLE)

    def example(self, facts: Facts) -> tuple[Any, ...]:
        return ((1, *facts["shape"]),)

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.classification import plot_confusion, plot_filters, plot_mistakes

        test, classes = run.data.test, run.facts["classes"]
        probabilities = np.concatenate(
            [_probabilities(run.model, images) for images, _ in run.test]
        )
        plot_confusion(
            test.labels, probabilities.argmax(1), classes, run.folder / "confusion.png", self.title
        )
        plot_mistakes(test.images, test.labels, probabilities, classes, run.folder / "mistakes.png")
        filters = first_filters(run.model, run.facts["shape"])
        plot_filters(filters, run.folder / "filters.png", "Filters of the first layer")
        return {}

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        from ..viz.bars import bars

        facts = opened.facts
        image = seen(read_picture(line), facts["dataset"], facts["shape"])
        probabilities = _probabilities(opened.model, self.prepared(image[None], facts))[0]
        best = np.argsort(-probabilities, kind="stable")[:5].tolist()
        names = [facts["classes"][k] for k in best]
        answer = bars(names, [float(probabilities[k]) for k in best])
        if out is None:
            return answer
        self.draw(opened.model, image, names[0], facts, out)
        return f"{answer}\nwhat the network saw: {out}"

    def draw(
        self, model: nn.Module, image: np.ndarray[Any, Any], answer: str, facts: Facts,
        out: pathlib.Path,
    ) -> None:  # fmt: skip
        """Draw what the network saw of a picture."""
        from ..viz.images import save_images

        save_images(image[None], out, labels=[answer], title="What the network saw")

    def prepared(self, images: np.ndarray[Any, Any], facts: Facts) -> Any:
        """Return uint8 images as the model takes them.  Shape: (n, channels, height, width)"""
        keys = np.zeros(len(images), np.uint64)
        return from_numpy(_plain(facts["mean"], facts["std"]).apply(images, keys))


def one_cycle(
    model: nn.Module,
    optimizer: optim.Optimizer,
    budget: Budget,
    steps_per_epoch: int,
    rising: float,
    cycle_momentum: bool = True,
) -> Trainer:
    """Return a trainer of a classifier whose learning rate rises and falls once.

    Args:
        model, optimizer: what is trained, and by what.
        budget: the number of epochs, and the largest learning rate.
        steps_per_epoch: steps of the optimiser in an epoch.
        rising: the share of all steps in which the rate rises.
        cycle_momentum: whether the momentum falls and rises at the same time.
    """
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=budget.lr, total_steps=budget.epochs * steps_per_epoch,
        pct_start=rising, cycle_momentum=cycle_momentum,
    )  # fmt: skip
    return Trainer(
        model, optimizer, nn.functional.cross_entropy,
        metrics={"accuracy": accuracy}, scheduler=schedule, schedule_every="step",
    )  # fmt: skip


@no_grad()
def _probabilities(model: nn.Module, images: Any) -> np.ndarray[Any, Any]:
    """Return the probability of each class.  Shape: (n, channels, height, width) -> (n, classes)"""
    probabilities: np.ndarray[Any, Any] = model(images).softmax(1).numpy()
    return probabilities


def first_filters(model: nn.Module, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return the first layer's weight as images; a linear layer's has the shape of its input.

    Shape: (filters, channels, height, width)
    """
    layers = (m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    weight: np.ndarray[Any, Any] = next(layers).weight.detach().numpy()
    return weight if weight.ndim == 4 else weight.reshape(-1, *shape)


def _plain(mean: Sequence[float], std: Sequence[float]) -> Compose:
    """Return what every image goes through, in training and afterwards."""
    return Compose([ToTensor(), Normalize(mean, std)])


def _facts(name: str, images: ImageSet) -> dict[str, Any]:
    """Return what a model must know of its images."""
    return {
        "dataset": name,
        "classes": [name.partition(" - ")[0] for name in images.classes],  # "7 - seven" is a 7
        "shape": list(images.images.shape[1:]),
        "mean": list(images.mean),
        "std": list(images.std),
    }
