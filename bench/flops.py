"""How much arithmetic a step of each workload needs: counted from its shapes, not measured.

Counted are the products of matrices and the convolutions, forward and backward, two operations for
a multiply-add; borders of convolutions count as if they were pixels, and masked places of attention
as if they were read.  All else (activations, norms, updates) is left out.  A product y = x·W has
two more backwards, for x and for W; where x is data there is one.
"""

from __future__ import annotations

from itertools import pairwise

FIRST, INNER = 2, 3  # products per layer: the input of the first one needs no gradient


def linear(rows: int, inputs: int, outputs: int, times: int = INNER) -> int:
    """Return the operations of a linear layer.

    >>> linear(100, 784, 10, times=1)
    1568000
    """
    return 2 * rows * inputs * outputs * times


def conv(pixels: int, inputs: int, outputs: int, size: int, times: int = INNER) -> int:
    """Return the operations of a convolution with square kernels; `pixels` of the whole batch."""
    return linear(pixels, inputs * size * size, outputs, times)


def attention(batch: int, queries: int, keys: int, dim: int) -> int:
    """Return the operations of scores and weighted sums of all heads, without the projections."""
    return 2 * linear(batch * queries, dim, keys)


def _mlp(rows: int, *widths: int) -> int:
    pairs = enumerate(pairwise(widths))
    return sum(linear(rows, n, m, INNER if i else FIRST) for i, (n, m) in pairs)


def _cnn() -> int:
    convs = conv(64 * 26 * 26, 1, 32, 3, FIRST) + conv(64 * 24 * 24, 32, 64, 3)
    return convs + linear(64, 9216, 128) + linear(64, 128, 10)


def _resnet20() -> int:
    total = conv(128 * 32 * 32, 3, 16, 3, FIRST) + linear(128, 64, 10)
    inputs = 16
    for width, side in ((16, 32), (32, 16), (64, 8)):
        for i in range(6):
            total += conv(128 * side * side, width if i else inputs, width, 3)
        inputs = width
    return total


def _pinn() -> int:
    """Value, d/dx, d/dt and d²/dx² go through each layer; in the first one only the value does."""
    within = linear(10_000, 2, 20, FIRST) + 4 * (7 * linear(10_000, 20, 20) + linear(10_000, 20, 1))
    return within + _mlp(100, 2, *[20] * 8, 1)


def _block(batch: int, length: int, dim: int, inner: int) -> int:
    """Return the operations of self-attention and of the feed-forward network after it."""
    rows = batch * length
    projections = linear(rows, dim, 3 * dim) + linear(rows, dim, dim)
    return projections + attention(batch, length, length, dim) + 2 * linear(rows, dim, inner)


def _transformer() -> int:
    batch, length, dim = 64, 32, 128
    crossed = 4 * linear(batch * length, dim, dim) + attention(batch, length, length, dim)
    blocks = 4 * _block(batch, length, dim, 512) + 2 * crossed
    return blocks + linear(batch * length, dim, 1000)


def _gpt() -> int:
    return 4 * _block(12, 64, 128, 512) + linear(12 * 64, 128, 65)


def _vit() -> int:
    return conv(64 * 64, 3, 128, 4, FIRST) + 6 * _block(64, 65, 128, 256) + linear(64, 128, 10)


def _dcgan() -> int:
    def discriminator(first: int, rest: int) -> int:
        convs = conv(64 * 196, 1, 64, 4, first) + conv(64 * 49, 64, 128, 4, rest)
        return convs + linear(64, 6272, 1, rest)

    grown = conv(64 * 49, 128, 64, 4) + conv(64 * 196, 64, 1, 4)
    generator = linear(64, 100, 6272, FIRST) + grown
    learns = 2 * discriminator(FIRST, INNER)  # real and generated
    judges = discriminator(2, 2)  # forward, and the gradient of the image
    return generator + learns + judges


def _lstm() -> int:
    return 2 * linear(32 * 64, 128, 512) + linear(32 * 64, 128, 65)


FLOPS = {
    "W1": _mlp(100, 784, 100, 10),
    "W2": _mlp(100, 784, 1000, 1000, 10),
    "W3": _cnn(),
    "W4": _resnet20(),
    "W5": _pinn(),
    "W6": _transformer(),
    "W7": _gpt(),
    "W8": _vit(),
    "W9": _dcgan(),
    "W10": _lstm(),
}
