"""The ten networks and their losses, for Toumei and PyTorch alike: `lib` is either.

One text for both, as Toumei's names and meaning are PyTorch's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bench.workloads import BURGERS, HEADS, LEAK, LENGTH, MODEL, WORDS, sinusoids


def build(lib: Any, name: str, dropout: bool) -> Any:
    """Return the network of a workload, with the library's own initial weights."""
    nn = lib.nn
    if name == "W1":
        return layers(lib, [784, 100, 10], nn.Sigmoid)
    if name == "W2":
        return layers(lib, [784, 1000, 1000, 10], nn.ReLU)
    if name == "W3":
        return cnn(lib, dropout)
    if name == "W4":
        return resnet20(lib)
    if name == "W5":
        return layers(lib, [2, *[20] * 8, 1], nn.Tanh)
    if name == "W6":
        return transformer(lib, 0.1 if dropout else 0.0)
    if name == "W7":
        return gpt(lib)
    return {"W8": vit, "W9": dcgan, "W10": lstm}[name](lib)


def loss_of(lib: Any, name: str) -> Any:
    """Return the loss of a workload: a function of the network and the inputs (W9 has two)."""
    if name == "W5":
        return burgers(lib)
    F = lib.nn.functional

    def classes(model: Any, x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    def tokens(model: Any, x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    def translation(model: Any, source: Any, target: Any, y: Any) -> Any:
        return F.cross_entropy(model(source, target).flatten(0, 1), y.flatten())

    return {"W6": translation, "W7": tokens, "W10": tokens}.get(name, classes)


def layers(lib: Any, widths: list[int], activation: Any) -> Any:
    """Return a stack of linear layers with an activation in between."""
    parts: list[Any] = []
    for n, m in pairwise(widths):
        parts += [lib.nn.Linear(n, m), activation()]
    return lib.nn.Sequential(*parts[:-1])


def burgers(lib: Any) -> Any:
    """Return the PINN's loss: u_t + u·u_x − ν·u_xx = 0 within, given values on the boundary."""
    grad = lib.autograd.grad

    def loss(u: Any, x: Any, t: Any, edge: Any, value: Any) -> Any:
        x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
        here = u(lib.cat([x, t], 1))
        u_x, u_t = grad(here.sum(), [x, t], create_graph=True)
        (u_xx,) = grad(u_x.sum(), [x], create_graph=True)
        residual = u_t + here * u_x - BURGERS * u_xx
        return (residual**2).mean() + ((u(edge) - value) ** 2).mean()

    return loss


def cnn(lib: Any, dropout: bool) -> Any:
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25 if dropout else 0.0),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5 if dropout else 0.0),
        nn.Linear(128, 10),
    )


def resnet20(lib: Any) -> Any:
    """Return ResNet-20 for CIFAR, shortcuts without parameters (option A of the paper)."""
    nn, F = lib.nn, lib.nn.functional

    def conv(inputs: int, outputs: int, stride: int) -> Any:
        return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, width: int) -> None:
            super().__init__()
            self.new, self.stride = width - inputs, 1 if width == inputs else 2
            self.conv1, self.bn1 = conv(inputs, width, self.stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = conv(width, width, 1), nn.BatchNorm2d(width)

        def forward(self, x: Any) -> Any:
            h = self.bn1(self.conv1(x)).relu()
            h = self.bn2(self.conv2(h))
            if self.new:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new // 2))
            return (h + x).relu()

    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(n, m) for n, m in pairwise(widths)]
    stem = [conv(3, 16, 1), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *blocks, *head)


def transformer(lib: Any, dropout: float) -> Any:
    nn = lib.nn

    class Translator(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.source = nn.Embedding(WORDS, MODEL)
            self.target = nn.Embedding(WORDS, MODEL)
            for table in (self.source, self.target):
                nn.init.normal_(table.weight, std=MODEL**-0.5)
            self.dropout = nn.Dropout(dropout)
            self.transformer = nn.Transformer(
                MODEL, HEADS, 2, 2, 4 * MODEL, dropout, batch_first=True
            )
            self.output = nn.Linear(MODEL, WORDS)
            place = lib.from_numpy(sinusoids(LENGTH, MODEL))
            self.register_buffer("place", place, persistent=False)
            ahead = lib.ones(LENGTH, LENGTH, dtype=lib.bool).triu(1)
            self.register_buffer("ahead", ahead, persistent=False)

        def embed(self, table: Any, words: Any) -> Any:
            return self.dropout(table(words) * MODEL**0.5 + self.place)

        def forward(self, source: Any, target: Any) -> Any:
            source, target = self.embed(self.source, source), self.embed(self.target, target)
            h = self.transformer(source, target, tgt_mask=self.ahead, tgt_is_causal=True)
            return self.output(h)

    return Translator()


def gpt(lib: Any) -> Any:
    """Return nanoGPT's network in its setting for a CPU: no biases, one table in and out."""
    nn, F = lib.nn, lib.nn.functional
    dim, heads, vocabulary, length = 128, 4, 65, 64

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(dim, bias=False), nn.LayerNorm(dim, bias=False)
            self.qkv = nn.Linear(dim, 3 * dim, bias=False)
            self.project = nn.Linear(dim, dim, bias=False)
            self.up = nn.Linear(dim, 4 * dim, bias=False)
            self.down = nn.Linear(4 * dim, dim, bias=False)

        def attention(self, x: Any) -> Any:
            parts = self.qkv(x).split(dim, dim=2)
            q, k, v = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in parts)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.project(y.transpose(1, 2).flatten(2))

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.ln_1(x))
            return x + self.down(F.gelu(self.up(self.ln_2(x))))

    class GPT(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
            self.blocks = nn.Sequential(*[Block() for _ in range(4)])
            self.norm = nn.LayerNorm(dim, bias=False)
            for weight in self.parameters():
                if weight.ndim == 2:
                    nn.init.normal_(weight, std=0.02)

        def forward(self, tokens: Any) -> Any:
            h = self.token(tokens) + self.place.weight
            return F.linear(self.norm(self.blocks(h)), self.token.weight)

    return GPT()


def vit(lib: Any) -> Any:
    nn = lib.nn

    class ViT(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, MODEL, 4, 4)
            self.token = nn.Parameter(lib.zeros(1, 1, MODEL))
            self.place = nn.Parameter(0.02 * lib.randn(1, 65, MODEL))
            layer = nn.TransformerEncoderLayer(
                MODEL, HEADS, 256, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(
                layer, 6, nn.LayerNorm(MODEL), enable_nested_tensor=False
            )
            self.head = nn.Linear(MODEL, 10)

        def forward(self, x: Any) -> Any:
            h = self.patches(x).flatten(2).transpose(1, 2)
            h = lib.cat([self.token.expand(len(x), -1, -1), h], 1) + self.place
            return self.head(self.encoder(h)[:, 0])

    return ViT()


def dcgan(lib: Any) -> Any:
    """Return the generator and the discriminator in one module; layers before a norm: no bias."""
    nn = lib.nn

    class Pair(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.generator = nn.Sequential(
                nn.Linear(100, 128 * 7 * 7, bias=False),
                nn.Unflatten(1, (128, 7, 7)),
                nn.BatchNorm2d(128),
                nn.ReLU(),
                nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(),
                nn.ConvTranspose2d(64, 1, 4, 2, 1),
                nn.Tanh(),
            )
            self.discriminator = nn.Sequential(
                nn.Conv2d(1, 64, 4, 2, 1),
                nn.LeakyReLU(LEAK),
                nn.Conv2d(64, 128, 4, 2, 1, bias=False),
                nn.BatchNorm2d(128),
                nn.LeakyReLU(LEAK),
                nn.Flatten(),
                nn.Linear(6272, 1),
            )
            for weight in self.parameters():
                if weight.ndim > 1:
                    nn.init.normal_(weight, std=0.02)

    return Pair()


def lstm(lib: Any) -> Any:
    nn = lib.nn

    class Characters(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(65, 128)
            self.rnn = nn.LSTM(128, 128, batch_first=True)
            self.head = nn.Linear(128, 65)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(self.embedding(x))[0])

    return Characters()
