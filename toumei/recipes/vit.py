"""A vision transformer learns digits or CIFAR-10 from patches of a few pixels.

Transformers have to learn what convolutions are built for, that neighbours belong together; so on
few images they stay behind CNNs, and need strong augmentation and a long training.  Positions that
start large help them: see `position_std` of the model.  The figure to reach on CIFAR-10 is that of
https://github.com/kentaroy47/vision-transformers-cifar10: 80 % after 200 epochs from scratch.
"""

from __future__ import annotations

import pathlib
from dataclasses import replace
from typing import Any, cast

import numpy as np

from .. import nn, optim
from ..data import (
    CIFAR10,
    CutMix,
    DataLoader,
    MixUp,
    RandomAffine,
    RandomChoice,
    RandomCrop,
    RandomHorizontalFlip,
    Subset,
    Transform,
)
from ..models.vit import ViT
from ..train import Trainer
from .images import SAMPLE, ImageClassifier, one_cycle
from .recipe import Budget, Data, Facts, Options
from .run import Run

_SIZES = {  # of the model, by data set
    SAMPLE: {"patch": 7, "depth": 4, "heads": 4, "dim": 64, "inner": 128},
    "mnist": {"patch": 4, "depth": 4, "heads": 4, "dim": 64, "inner": 128},
    "cifar10": {"patch": 4, "depth": 6, "heads": 4, "dim": 128, "inner": 256},
}


class ViTRecipe(ImageClassifier):
    """Patches of 7 x 7 or 4 x 4 pixels and a class token through a small transformer."""

    name = "vit"
    title = "Vision transformer for photographs or digits"
    source = "vision-transformers-cifar10 (GitHub): 80 % on CIFAR-10 after 200 epochs"
    datasets = ("cifar10", "mnist", SAMPLE)

    def plan(self, dataset: str, preset: str) -> tuple[Budget, float | None]:
        if preset == "fast":
            # Photographs have four times as many patches.
            epochs, samples = (3, 4_000) if dataset == "cifar10" else (8, 7_200)
            return Budget(epochs, batch_size=64, lr=3e-3, samples=samples), None
        if dataset == SAMPLE:
            return Budget(epochs=25, batch_size=64, lr=3e-3), 0.97
        if dataset == "mnist":
            return Budget(epochs=20, batch_size=128, lr=2e-3), 0.99
        return Budget(epochs=55, batch_size=128, lr=1e-3), 0.75

    def augmentation(self, dataset: str) -> list[Transform]:
        if dataset == "cifar10":
            return [RandomHorizontalFlip(), RandomCrop(32, padding=4)]
        return [RandomAffine(10, (0.08, 0.08), (0.9, 1.1), shear=5, interpolation="bilinear")]

    def data(self, options: Options) -> Data:
        data = super().data(options)
        name, fast = data.facts["dataset"], options.preset == "fast"
        size = {**_SIZES[SAMPLE], "patch": 4 if name == "cifar10" else 7} if fast else _SIZES[name]
        return replace(data, facts={**data.facts, **size})

    def model(self, facts: Facts) -> ViT:
        channels, size, _ = facts["shape"]
        return ViT(
            size, facts["patch"], facts["depth"], facts["heads"], facts["dim"], facts["inner"],
            num_classes=len(facts["classes"]), channels=channels, position_std=1.0,
        )  # fmt: skip

    def loader(self, dataset: Any, batch_size: int, *, training: bool, seed: int) -> DataLoader:
        """Return batches; photographs are mixed in training, as there are too few of them."""
        batches = super().loader(dataset, batch_size, training=training, seed=seed)
        if training and isinstance(_whole(dataset), CIFAR10):
            mixes = MixUp(alpha=0.2, num_classes=10), CutMix(num_classes=10)
            batches.collate_fn = RandomChoice(mixes)
        return batches

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = optim.AdamW(model.parameters(), lr=budget.lr, weight_decay=0.05)
        return one_cycle(model, optimizer, budget, steps_per_epoch, 0.1)

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.attention import overlaid
        from ..viz.canvas import pixels
        from ..viz.images import save_images

        figures = super().report(run)
        names = run.facts["classes"]
        classes, firsts = np.unique(run.data.test.labels, return_index=True)
        images = run.data.test.images[firsts]
        maps = class_attention(cast(ViT, run.model), self.prepared(images, run.facts))
        shown, labels = [], []
        for label, image, layers in zip(classes, pixels(images, 1), maps, strict=True):
            shown += [overlaid(image, weights, 3) for weights in (None, *layers)]
            labels += [names[label], *(f"layer {k + 1}" for k in range(len(layers)))]
        title = "Where the class token looks (mean of the heads): bright where it looks most"
        path = run.folder / "attention.png"
        save_images(np.stack(shown), path, maps.shape[1] + 1, labels, title)
        return figures

    def draw(
        self, model: nn.Module, image: np.ndarray[Any, Any], answer: str, facts: Facts,
        out: pathlib.Path,
    ) -> None:  # fmt: skip
        from ..viz.attention import plot_attention_over_image

        maps = class_attention(cast(ViT, model), self.prepared(image[None], facts))[0]
        labels = [f"layer {k + 1}" for k in range(len(maps))]
        title = f"What the network saw ({answer}), and where its class token looked"
        plot_attention_over_image(image, maps, out, title, labels)


def _whole(dataset: Any) -> Any:
    """Return the data set that a part of a part was taken from."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def class_attention(model: ViT, images: Any) -> np.ndarray[Any, Any]:
    """Return how much the class token takes from each patch, in each layer: a mean of its heads.

    Shape: (N, channels, height, width) -> (N, layers, side, side), upper left patch first
    """
    from ..viz.attention_maps import attention_maps

    rows = [weights[:, :, 0, 1:].mean(1) for weights in attention_maps(model, images).values()]
    return np.stack(rows, 1).reshape(len(images), -1, model.side, model.side)


RECIPE = ViTRecipe()
