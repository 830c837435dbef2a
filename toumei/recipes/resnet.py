"""A residual network of 20 layers learns CIFAR-10, or handwritten digits where that isn't there.

He et al., 2016, reach 91.25 % of CIFAR-10's test set with their augmentation and momentum.  Their
64,000 steps at a rate that falls twice are replaced by fewer steps at a rate that rises and falls
once (Smith, Topin, arXiv:1708.07120).  More weight decay than theirs and erased rectangles (Zhong
et al., AAAI 2020) keep the network from learning the training images by heart.
"""

from __future__ import annotations

from .. import nn, optim
from ..data import RandomCrop, RandomErasing, RandomHorizontalFlip, Transform
from ..models.resnet import CifarResNet
from ..train import Trainer
from .images import SAMPLE, ImageClassifier, one_cycle
from .recipe import Budget, Facts


class ResNetRecipe(ImageClassifier):
    """ResNet-20 with shortcuts without parameters: 0.27 million parameters."""

    name = "resnet"
    title = "ResNet-20 for photographs or digits"
    source = "He et al., 2016, table 6: 91.25 % on CIFAR-10"
    datasets = ("cifar10", SAMPLE)

    def plan(self, dataset: str, preset: str) -> tuple[Budget, float | None]:
        if preset == "fast":
            return Budget(epochs=4, batch_size=64, lr=0.1, samples=1_500), None
        if dataset == SAMPLE:
            return Budget(epochs=5, batch_size=64, lr=0.1), 0.975
        return Budget(epochs=130, batch_size=128, lr=0.2), 0.90

    def augmentation(self, dataset: str) -> list[Transform]:
        if dataset == SAMPLE:  # a digit's mirror image is none; they have borders of their own
            return [RandomCrop(28, padding=2)]
        return [RandomHorizontalFlip(), RandomCrop(32, padding=4), RandomErasing(0.5, (0.02, 0.2))]

    def model(self, facts: Facts) -> CifarResNet:
        return CifarResNet(20, len(facts["classes"]), facts["shape"][0], shortcut="A")

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = optim.SGD(model.parameters(), budget.lr, momentum=0.9, weight_decay=5e-4)
        return one_cycle(model, optimizer, budget, steps_per_epoch, 0.2, cycle_momentum=False)


RECIPE = ResNetRecipe()
