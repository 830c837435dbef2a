"""PyTorch's twins of the recipes mlp, cnn and gpt; the names of the weights are Toumei's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .side import Setup
from .torch_side import TorchSide, load

Batch = tuple[Any, ...]


def make(rung: str, setup: Setup) -> TorchSide:
    return {"mlp": _mlp, "cnn": _cnn, "gpt": _gpt}[rung](setup)


def classified(model: Any, batch: Batch) -> dict[str, Any]:
    """Return the loss and the share of right answers."""
    images, labels = batch
    scores = model(images)
    right = (scores.argmax(1) == labels).float().mean()
    return {"loss": F.cross_entropy(scores, labels), "accuracy": right}


# --- mlp and cnn ---


class MLP(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(784, 512), nn.Linear(512, 512)])
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(512, classes)

    def forward(self, x: Any) -> Any:
        h = x.flatten(1)
        for layer in self.hidden:
            h = self.dropout(F.relu(layer(h)))
        return self.output(h)


class VGG(nn.Module):
    """Images of 28 x 28."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in ((channels, 32, 32), (32, 64, 64)):
            for n, m in pairwise(stage):
                layers += [nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m), nn.ReLU(inplace=True)]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(64 * 7 * 7, 128), nn.ReLU(inplace=True), nn.Dropout(0.4),
            nn.Linear(128, 128), nn.ReLU(inplace=True), nn.Dropout(0.4), nn.Linear(128, classes),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).flatten(1))


def _mlp(setup: Setup) -> TorchSide:
    model = load(MLP(len(setup.facts["classes"])), setup)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, fused=True)
    return TorchSide(model, optimizer, classified)


def _cnn(setup: Setup) -> TorchSide:
    model = load(VGG(len(setup.facts["classes"]), setup.facts["shape"][0]), setup)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, fused=True)
    return TorchSide(model, optimizer, classified, prepare=_channels_last)


def _channels_last(batch: Batch) -> Batch:
    images, labels = batch
    return images.to(memory_format=torch.channels_last), labels


# --- gpt ---


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(dim, 3 * dim, bias)
        self.c_proj = nn.Linear(dim, dim, bias)

    def forward(self, x: Any) -> Any:
        parts = self.c_attn(x).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim, bias)
        self.c_proj = nn.Linear(4 * dim, dim, bias)

    def forward(self, x: Any) -> Any:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim, bias=bias), nn.LayerNorm(dim, bias=bias)
        self.attn, self.mlp = Attention(dim, heads, bias), FeedForward(dim, bias)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(
        self, words: int, dim: int, layers: int, heads: int, max_length: int, dropout: float,
        bias: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        if dropout:
            raise NotImplementedError("this twin of gpt has no dropout")
        blocks = nn.ModuleList([Block(dim, heads, bias) for _ in range(layers)])
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(words, dim),
                "wpe": nn.Embedding(max_length, dim),
                "h": blocks,
                "ln_f": nn.LayerNorm(dim, bias=bias),
            }
        )
        self.lm_head = nn.Linear(dim, words, bias=False)
        table: Any = self.transformer["wte"].weight
        self.lm_head.weight = table

    def forward(self, tokens: Any) -> Any:
        parts: Any = self.transformer
        x = parts["wte"](tokens) + parts["wpe"].weight[: tokens.shape[-1]]
        for block in parts["h"]:
            x = block(x)
        return self.lm_head(parts["ln_f"](x))


def _gpt(setup: Setup) -> TorchSide:
    words = len(setup.weights["transformer.wte.weight"])
    model = load(GPT(words, **setup.facts["model"]), setup)
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
    return TorchSide(model, optimizer, _guessed, clip=1.0)


def _guessed(model: Any, batch: Batch) -> dict[str, Any]:
    """Return the mean loss of all characters."""
    tokens, targets = batch
    return {"loss": F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())}
