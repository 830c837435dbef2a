"""A vision transformer learns digits or CIFAR-10 from patches of 4 x 4 pixels.

Transformers have to learn what convolutions are built for, that neighbours belong together; so on
few images they stay behind CNNs, and need strong augmentation and a long training.
"""

from __future__ import annotations

import pathlib
from typing import Any, cast

import numpy as np

from .. import nn, optim
from ..data import RandomAffine, Transform
from ..models.vit import ViT
from ..train import Trainer, accuracy
from .images import SAMPLE, ImageClassifier
from .recipe import Budget, Facts
from .run import Run

_SHOWN = 8  # test images whose attention is drawn


class ViTRecipe(ImageClassifier):
    """Patches of 4 x 4 pixels and a class token through a small transformer."""

    name = "vit"
    title = "Vision transformer on digits or CIFAR-10"
    source = "none for this size"
    datasets = ("cifar10", "mnist", SAMPLE)

    def plan(self, dataset: str, preset: str) -> tuple[Budget, float | None]:
        if preset == "fast":
            return Budget(epochs=6, batch_size=64, lr=2e-3, samples=7_200), None
        if dataset == SAMPLE:
            return Budget(epochs=20, batch_size=64, lr=2e-3), 0.97
        return Budget(epochs=20, batch_size=128, lr=2e-3), None

    def augmentation(self, dataset: str) -> list[Transform]:
        return [
            RandomAffine(
                10, translate=(0.08, 0.08), scale=(0.9, 1.1), shear=5, interpolation="bilinear"
            )
        ]

    def model(self, facts: Facts) -> ViT:
        channels, size, _ = facts["shape"]
        return ViT(size, 4, 4, 4, 64, 128, classes=len(facts["classes"]), channels=channels)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = optim.AdamW(model.parameters(), lr=budget.lr, weight_decay=0.05)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=budget.lr, total_steps=budget.epochs * steps_per_epoch, pct_start=0.2
        )
        return Trainer(
            model, optimizer, nn.functional.cross_entropy,
            metrics={"accuracy": accuracy}, scheduler=schedule, schedule_every="step",
        )  # fmt: skip

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.images import save_images

        figures = super().report(run)
        images, names = run.data.test.images[:_SHOWN], run.facts["classes"]
        maps = class_attention(cast(ViT, run.model), self.prepared(images, run.facts))
        shown, labels = [], []
        for image, layers, label in zip(images, maps, run.data.test.labels, strict=False):
            shown += [overlaid(image, None), *(overlaid(image, weights) for weights in layers)]
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


def class_attention(model: ViT, images: Any) -> np.ndarray[Any, Any]:
    """Return how much the class token takes from each patch, in each layer: a mean of its heads.

    Shape: (N, channels, height, width) -> (N, layers, side, side), upper left patch first
    """
    from ..viz.attention_maps import attention_maps

    rows = [weights[:, :, 0, 1:].mean(1) for weights in attention_maps(model, images).values()]
    return np.stack(rows, 1).reshape(len(images), -1, model.side, model.side)


def overlaid(
    image: np.ndarray[Any, Any], weights: np.ndarray[Any, Any] | None, scale: int = 3
) -> np.ndarray[Any, Any]:
    """Return an image in colour, enlarged; with weights in grey, and these over it, smoothed.

    Shape: image (channels, H, W) uint8, weights (h, w) -> (scale·H, scale·W, 3) uint8
    """
    from matplotlib import colormaps
    from PIL import Image

    height, width = (scale * size for size in image.shape[1:])
    large = image.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)
    if weights is None:
        return np.broadcast_to(large, (height, width, 3))
    map_ = Image.fromarray((weights / weights.max()).astype(np.float32))
    smooth = np.asarray(map_.resize((width, height), Image.Resampling.BILINEAR))
    colours = colormaps["viridis"](smooth)[..., :3]
    grey = 0.28 + 0.72 * large.mean(2, keepdims=True) / 255
    return np.rint(255 * (0.6 * colours + 0.4 * grey)).astype(np.uint8)


RECIPE = ViTRecipe()
