"""Convolutional network for small images: two convolutions, then two linear layers.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86 (1998), in the form of PyTorch's MNIST example, whose weights load;
batch normalisation: Ioffe, Szegedy, ICML 2015, arXiv:1502.03167.
"""

from __future__ import annotations

from typing import cast

from .. import nn
from ..errors import ModuleError
from ..tensor import Tensor


class CNN(nn.Module):
    """Learnt filters of 3 x 3 pixels, twice, and a classifier of what they find and where.

    h = relu(conv₁(x));  h = dropout(relu(maxpool(conv₂(h))));
    y = W₂·dropout(relu(W₁·flatten(h) + b₁)) + b₂

    Shape: (N, channels, size, size) -> (N, num_classes) scores

    Args:
        num_classes: scores per image.
        channels: of the images: 1 if grey, 3 if coloured.
        size: height and width of the images, pixels.
        widths: filters of the first and of the second convolution.
        hidden: width of the first linear layer.
        dropout: probability that a value after the convolutions, and one of the hidden layer, is
            dropped in training.
        batch_norm: normalise after each convolution and after the first linear layer.

    Raises:
        ModuleError: the images are too small for two convolutions and the pooling.

    >>> import toumei as tm
    >>> model = CNN()
    >>> model(tm.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in model.parameters())
    (Size([2, 10]), 1199882)
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 1,
        size: int = 28,
        widths: tuple[int, int] = (32, 64),
        hidden: int = 128,
        dropout: tuple[float, float] = (0.25, 0.5),
        batch_norm: bool = False,
    ) -> None:
        if size < 6:
            raise ModuleError(f"CNN: images must have 6 x 6 pixels or more, not {size} x {size}")
        side = (size - 4) // 2  # two pixels less for each convolution; then pooled
        self.conv1 = nn.Conv2d(channels, widths[0], 3)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(dropout[0])
        self.dropout2 = nn.Dropout(dropout[1])
        self.fc1 = nn.Linear(widths[1] * side * side, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.bn1 = nn.BatchNorm2d(widths[0]) if batch_norm else None
        self.bn2 = nn.BatchNorm2d(widths[1]) if batch_norm else None
        self.bn3 = nn.BatchNorm1d(hidden) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:  # (N, channels, 28, 28)
        x = _normalised(self.bn1, self.conv1(x)).relu()  # (N, 32, 26, 26)
        x = _normalised(self.bn2, self.conv2(x))  # (N, 64, 24, 24)
        x = self.dropout1(self.pool(x).relu())  # (N, 64, 12, 12); the order saves time
        x = _normalised(self.bn3, self.fc1(x.flatten(1)))  # (N, 9216) -> (N, 128)
        return self.fc2(self.dropout2(x.relu()))  # (N, num_classes)


def _normalised(norm: nn.Module | None, x: Tensor) -> Tensor:
    """Return what a norm makes of x, or x without one."""
    return x if norm is None else cast(Tensor, norm(x))
