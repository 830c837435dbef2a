"""Models, one self-contained file each."""

from __future__ import annotations

from .bert import BERT, MaskedLM
from .cnn import CNN
from .gan import DCGAN
from .gpt import GPT
from .mlp import MLP
from .pinn import PINN
from .resnet import CifarResNet, ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from .rnn import CharRNN
from .transformer import Transformer
from .vae import VAE
from .vgg import VGG, vgg16, vgg16_bn
from .vit import ViT, vit_b_16
from .wgan import WGAN

__all__ = [
    "BERT",
    "CNN",
    "DCGAN",
    "GPT",
    "MLP",
    "PINN",
    "VAE",
    "VGG",
    "WGAN",
    "CharRNN",
    "CifarResNet",
    "MaskedLM",
    "ResNet",
    "Transformer",
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
