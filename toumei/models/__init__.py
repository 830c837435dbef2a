"""Models, one self-contained file each."""

from __future__ import annotations

from .bert import BERT, MaskedLM
from .cnn import CNN
from .mlp import MLP
from .resnet import CifarResNet, ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from .vgg import VGG, vgg16, vgg16_bn
from .vit import ViT, vit_b_16

__all__ = [
    "BERT",
    "CNN",
    "MLP",
    "VGG",
    "CifarResNet",
    "MaskedLM",
    "ResNet",
    "ViT",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "vgg16",
    "vgg16_bn",
    "vit_b_16",
]
