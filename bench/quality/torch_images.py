"""ResNet-20 and the vision transformer of the recipes, written for PyTorch as one would there.

The parts have the names that Toumei's models give them, so that weights travel by `state_dict`.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .side import Setup
from .torch_side import TorchSide, load


class Block(nn.Module):
    """Two convolutions of 3 x 3 whose result is added to the input, as in He et al., 2016.

    Where the shape changes, the input's every second pixel is taken, and zeros as new channels.

    Shape: (N, inputs, H, W) -> (N, width, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new = stride, width - inputs
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return F.relu(h + x)


class ResNet20(nn.Module):
    """Three stages of three blocks, 16, 32 and 64 channels.  Shape: (N, C, H, W) -> (N, classes)"""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for k, (inputs, width) in enumerate(pairwise([16, 16, 32, 64]), 1):
            first = Block(inputs, width, 1 if inputs == width else 2)
            rest = [Block(width, width, 1) for _ in range(2)]
            setattr(self, f"layer{k}", nn.Sequential(first, *rest))
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class EncoderBlock(nn.Module):
    """Attention and a perceptron, each after a norm and added to its input."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim, eps=1e-6)
        # The recipe's dropout is 0; Identity keeps the second layer's name, "mlp.3".
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), nn.Identity(), nn.Linear(inner, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.self_attention(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Learnt positions are added, then blocks follow, then a norm."""

    def __init__(self, length: int, depth: int, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, length, dim))
        self.layers = nn.Sequential(
            OrderedDict(
                (f"encoder_layer_{i}", EncoderBlock(dim, heads, inner)) for i in range(depth)
            )
        )
        self.ln = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(x + self.pos_embedding))


class ViT(nn.Module):
    """Patches and a class token go through a transformer.  Shape: (N, C, H, H) -> (N, classes)"""

    def __init__(
        self, size: int, patch: int, depth: int, heads: int, dim: int, inner: int, classes: int,
        channels: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.conv_proj = nn.Conv2d(channels, dim, patch, stride=patch)
        self.encoder = Encoder((size // patch) ** 2 + 1, depth, dim, heads, inner)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(dim, classes)))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        token = self.class_token.expand(len(x), -1, -1)
        return self.heads(self.encoder(torch.cat([token, patches], 1))[:, 0])


def classified(model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the loss and the share of right answers; a target is a class or a mixture of them."""
    images, target = batch
    scores = model(images)
    classes = target.argmax(1) if target.ndim == 2 else target
    right = (scores.argmax(1) == classes).float().mean()
    return {"loss": F.cross_entropy(scores, target), "accuracy": right}


def resnet(setup: Setup) -> TorchSide:
    facts = setup.facts
    model = load(ResNet20(len(facts["classes"]), facts["shape"][0]), setup)
    model = model.to(memory_format=torch.channels_last)  # the faster layout on a CPU
    optimizer = torch.optim.SGD(model.parameters(), weight_decay=5e-4, fused=True)
    return TorchSide(model, optimizer, classified, prepare=_channels_last)


def _channels_last(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, target = batch
    return images.to(memory_format=torch.channels_last), target


def vit(setup: Setup) -> TorchSide:
    facts = setup.facts
    channels, size, _ = facts["shape"]
    sizes = {name: facts[name] for name in ("patch", "depth", "heads", "dim", "inner")}
    model = load(ViT(size, classes=len(facts["classes"]), channels=channels, **sizes), setup)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05, fused=True)
    return TorchSide(model, optimizer, classified)


def make(rung: str, setup: Setup) -> TorchSide:
    """Return the twin of "resnet" or "vit"."""
    return {"resnet": resnet, "vit": vit}[rung](setup)
