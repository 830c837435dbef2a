"""A multi-layer perceptron learns handwritten digits.

The figure to reach is that of Keras's example mnist_mlp (two hidden layers of 512, dropout 0.2):
98.4 % of the test set after 20 epochs on all of MNIST.
"""

from __future__ import annotations

from copy import copy

from .. import nn, optim
from ..data import Compose, Normalize, RandomCrop, Subset, ToTensor, load_mnist
from ..models.mlp import MLP
from ..train import Trainer, accuracy
from .recipe import Budget, Data, Recipe, hold_out

FULL = Budget(epochs=20, batch_size=128, lr=2e-3)
SAMPLE = Budget(epochs=15, batch_size=64, lr=2e-3)


class MLPRecipe(Recipe):
    """784 → 512 → 512 → 10 on MNIST, with images shifted by up to two pixels."""

    name = "mlp"
    title = "MLP on MNIST"
    metric = "accuracy"
    source = "Keras example mnist_mlp: 98.40 % on full MNIST after 20 epochs"

    def data(self, folder: str | None) -> Data:
        plain = Compose([ToTensor(), Normalize(0.1307, 0.3081)])
        train, test, text = load_mnist(folder, plain)
        shifted = copy(train)
        shifted.transform = Compose([RandomCrop(28, padding=2), plain])
        full = len(train) == 60_000
        rest, held_out = hold_out(len(train), 5000 if full else 800)
        return Data(
            text=text,
            train=Subset(shifted, rest),
            validation=Subset(train, held_out),
            test=test,
            budget=FULL if full else SAMPLE,
            target=0.984 if full else 0.965,
        )

    def model(self) -> MLP:
        return MLP(784, [512, 512], 10, dropout=0.2)

    def example(self) -> tuple[int, ...]:
        return (1, 1, 28, 28)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = optim.AdamW(model.parameters(), lr=budget.lr, weight_decay=0.01)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=budget.lr, total_steps=budget.epochs * steps_per_epoch, pct_start=0.1
        )
        return Trainer(
            model, optimizer, nn.functional.cross_entropy,
            metrics={"accuracy": accuracy}, scheduler=schedule, schedule_every="step",
        )  # fmt: skip


RECIPE = MLPRecipe()
