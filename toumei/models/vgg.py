"""VGG: many convolutions of 3 x 3, with pooling in between, and three linear layers.

Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR
2015, arXiv:1409.1556 (configuration D has 16 layers with weights).  Parameters are named as
torchvision names them.

Shapes: N images, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import nn
from ..tensor import Tensor

CONFIGURATION_D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def _features(stages: Sequence[Sequence[int]], batch_norm: bool, inputs: int) -> nn.Sequential:
    """Return convolution (→ norm) → ReLU for each width, and a pooling after each stage."""
    layers: list[nn.Module] = []
    for stage in stages:
        for width in stage:
            layers.append(nn.Conv2d(inputs, width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG(nn.Module):
    """Stages of convolutions, each of half the size, then a classifier of what they find.

    Shape: (N, channels, H, W) -> (N, num_classes) scores; H = W = 224 in ImageNet; each stage
        halves them

    Args:
        stages: the convolutions' widths, stage by stage.
        num_classes: scores per image.
        hidden: width of the two linear layers before the last.
        dropout: probability that a value of these two is dropped in training.
        batch_norm: normalise after each convolution.
        channels: of the images: 1 if grey, 3 if coloured.

    >>> import toumei as tm
    >>> VGG([[4], [8], [8], [8], [8]], num_classes=5, hidden=16)(tm.zeros(1, 3, 32, 32)).shape
    Size([1, 5])
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]] = CONFIGURATION_D,
        num_classes: int = 1000,
        hidden: int = 4096,
        dropout: float = 0.5,
        batch_norm: bool = False,
        channels: int = 3,
    ) -> None:
        self.features = _features(stages, batch_norm, channels)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(stages[-1][-1] * 7 * 7, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, 224, 224)
        x = self.features(x)  # (N, 512, 7, 7)
        x = self.avgpool(x).flatten(1)  # (N, 512·7·7)
        return self.classifier(x)  # (N, num_classes)


def vgg16(num_classes: int = 1000) -> VGG:
    """Return the network of 16 layers: 138,357,544 parameters with 1000 classes."""
    return VGG(CONFIGURATION_D, num_classes)


def vgg16_bn(num_classes: int = 1000) -> VGG:
    """Return the network of 16 layers with batch norms: 138,365,992 parameters, 1000 classes."""
    return VGG(CONFIGURATION_D, num_classes, batch_norm=True)
