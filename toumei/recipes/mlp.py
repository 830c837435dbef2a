"""A multi-layer perceptron learns handwritten digits.

The figure to reach is that of Keras's example mnist_mlp (two hidden layers of 512, dropout 0.2):
98.4 % of the test set after 20 epochs on all of MNIST.
"""

from __future__ import annotations

from .. import nn, optim
from ..data import RandomCrop, Transform
from ..models.mlp import MLP
from ..train import Trainer
from .images import SAMPLE, ImageClassifier, one_cycle
from .recipe import Budget, Facts


class MLPRecipe(ImageClassifier):
    """784 → 512 → 512 → 10 on MNIST, with images shifted by up to two pixels."""

    name = "mlp"
    title = "MLP on MNIST"
    source = "Keras example mnist_mlp: 98.40 % on full MNIST after 20 epochs"
    datasets = ("mnist", "fashion-mnist", SAMPLE)

    def plan(self, dataset: str, preset: str) -> tuple[Budget, float | None]:
        if preset == "fast":
            return Budget(epochs=6, batch_size=64, lr=2e-3, samples=20_000), None
        if dataset == SAMPLE:
            return Budget(epochs=15, batch_size=64, lr=2e-3), 0.965
        return Budget(epochs=20, batch_size=128, lr=2e-3), 0.986 if dataset == "mnist" else None

    def augmentation(self, dataset: str) -> list[Transform]:
        return [RandomCrop(28, padding=2)]

    def model(self, facts: Facts) -> MLP:
        return MLP(784, [512, 512], len(facts["classes"]), dropout=0.2)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = optim.AdamW(model.parameters(), lr=budget.lr, weight_decay=0.01)
        return one_cycle(model, optimizer, budget, steps_per_epoch, 0.1)


RECIPE = MLPRecipe()
