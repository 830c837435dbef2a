"""Residual networks: each block learns what to add to its input.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, arXiv:1512.03385.
Two families: for ImageNet (18, 34, 50 layers; parameters named as torchvision names them, and the
stride of a bottleneck in its 3 x 3 convolution as there) and for CIFAR (20, 32, 56 layers).

Shapes: N images, C channels, H and W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from .. import nn
from ..errors import ModuleError
from ..nn import functional as F
from ..tensor import Tensor

Shortcut: TypeAlias = Callable[[int, int, int], "nn.Module | None"]


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the image's size at stride 1; a norm follows: no bias."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Return the shortcut that He et al. call B: x itself, or a 1 x 1 convolution if it must be.

    Shape: (N, inputs, H, W) -> (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)
    """
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class Subsample(nn.Module):
    """The shortcut that He et al. call A: every second pixel, zeros as new channels; none to learn.

    Shape: (N, inputs, H, W) -> (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.stride, self.new = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


def subsampling(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Return the shortcut that He et al. call A: x itself, or `Subsample` if it must be."""
    return None if stride == 1 and inputs == outputs else Subsample(inputs, outputs, stride)


class BasicBlock(nn.Module):
    """y = relu(shortcut(x) + bn₂(conv₂(relu(bn₁(conv₁(x))))))

    Shape: (N, inputs, H, W) -> (N, width, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    expansion = 1  # channels of the result, as a multiple of the width

    def __init__(
        self, inputs: int, width: int, stride: int = 1, shortcut: Shortcut = projection
    ) -> None:
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn1(self.conv1(x)).relu()  # (N, width, H/stride, W/stride)
        h = self.bn2(self.conv2(h))  # (N, width, H/stride, W/stride)
        return (h + _short(self.downsample, x)).relu()


class Bottleneck(nn.Module):
    """y = relu(shortcut(x) + bn₃(conv₃(relu(bn₂(conv₂(relu(bn₁(conv₁(x)))))))))

    The convolutions of 1 x 1 make the channels few before that of 3 x 3, and many after it.

    Shape: (N, inputs, H, W) -> (N, 4·width, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int = 1, shortcut: Shortcut = projection
    ) -> None:
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn1(self.conv1(x)).relu()  # (N, width, H, W)
        h = self.bn2(self.conv2(h)).relu()  # (N, width, H/stride, W/stride)
        h = self.bn3(self.conv3(h))  # (N, 4·width, H/stride, W/stride)
        return (h + _short(self.downsample, x)).relu()


Block: TypeAlias = type[BasicBlock] | type[Bottleneck]


def _short(shortcut: nn.Module | None, x: Tensor) -> Tensor:
    """Return what a shortcut makes of x, or x without one."""
    return x if shortcut is None else cast(Tensor, shortcut(x))


def _stage(
    block: Block, inputs: int, width: int, count: int, stride: int, shortcut: Shortcut
) -> nn.Sequential:
    """Return blocks of one width; the first one makes the image smaller by `stride`."""
    first = block(inputs, width, stride, shortcut)
    rest = [block(width * block.expansion, width, 1, shortcut) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)


def _start(model: nn.Module) -> None:
    """Draw a convolution's weights from N(0, 2/fan_out), as He et al. do."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet(nn.Module):
    """A residual network for ImageNet: four stages, each of half the size and twice the width.

    Shape: (N, 3, H, W) -> (N, num_classes) scores; H = W = 224 in ImageNet

    Args:
        block: BasicBlock or Bottleneck.
        layers: blocks of each of the four stages.
        num_classes: scores per image.

    >>> import toumei as tm
    >>> ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)(tm.zeros(1, 3, 33, 33)).shape
    Size([1, 5])
    """

    def __init__(self, block: Block, layers: Sequence[int], num_classes: int = 1000) -> None:
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        wide = block.expansion
        self.layer1 = _stage(block, 64, 64, layers[0], 1, projection)
        self.layer2 = _stage(block, 64 * wide, 128, layers[1], 2, projection)
        self.layer3 = _stage(block, 128 * wide, 256, layers[2], 2, projection)
        self.layer4 = _stage(block, 256 * wide, 512, layers[3], 2, projection)
        self.fc = nn.Linear(512 * wide, num_classes)
        _start(self)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, 224, 224)
        x = self.bn1(self.conv1(x)).relu()  # (N, 64, 112, 112)
        x = self.maxpool(x)  # (N, 64, 56, 56)
        x = self.layer1(x)  # (N, 64 | 256, 56, 56)
        x = self.layer2(x)  # (N, 128 | 512, 28, 28)
        x = self.layer3(x)  # (N, 256 | 1024, 14, 14)
        x = self.layer4(x)  # (N, 512 | 2048, 7, 7)
        return self.fc(x.mean((2, 3)))  # (N, num_classes)


class CifarResNet(nn.Module):
    """A residual network for small images: three stages of 16, 32 and 64 channels.

    It has 6·n + 2 layers with weights: the first convolution, 2·n in each stage, the last one.

    Shape: (N, channels, H, W) -> (N, num_classes) scores; H = W = 32 in CIFAR

    Args:
        depth: layers with weights: 20, 32, 44, 56, 110 in the paper.
        num_classes: scores per image.
        channels: of the images: 1 if grey, 3 if coloured.
        shortcut: where a stage changes the shape, "A" takes every second pixel and fills up with
            zero channels, as the paper does for CIFAR; "B" learns a 1 x 1 convolution.

    Raises:
        ModuleError: no n gives that depth, or there is no such shortcut.

    >>> import toumei as tm
    >>> model = CifarResNet(20)
    >>> model(tm.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in model.parameters())
    (Size([2, 10]), 269722)
    """

    def __init__(
        self, depth: int = 20, num_classes: int = 10, channels: int = 3, shortcut: str = "A"
    ) -> None:
        n = (depth - 2) // 6
        if n < 1 or depth != 6 * n + 2:
            raise ModuleError(f"CifarResNet: depth must be 8, 14, 20, … (6·n + 2), not {depth}")
        if shortcut not in ("A", "B"):
            raise ModuleError(f"CifarResNet: shortcut must be 'A' or 'B', not {shortcut!r}")
        make = subsampling if shortcut == "A" else projection
        self.conv1 = _conv(channels, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(BasicBlock, 16, 16, n, 1, make)
        self.layer2 = _stage(BasicBlock, 16, 32, n, 2, make)
        self.layer3 = _stage(BasicBlock, 32, 64, n, 2, make)
        self.fc = nn.Linear(64, num_classes)
        _start(self)

    def forward(self, x: Tensor) -> Tensor:  # (N, channels, 32, 32)
        x = self.bn1(self.conv1(x)).relu()  # (N, 16, 32, 32)
        x = self.layer1(x)  # (N, 16, 32, 32)
        x = self.layer2(x)  # (N, 32, 16, 16)
        x = self.layer3(x)  # (N, 64, 8, 8)
        return self.fc(x.mean((2, 3)))  # (N, num_classes)


def resnet18(num_classes: int = 1000) -> ResNet:
    """Return the network of 18 layers for ImageNet: 11,689,512 parameters with 1000 classes."""
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes)


def resnet34(num_classes: int = 1000) -> ResNet:
    """Return the network of 34 layers for ImageNet: 21,797,672 parameters with 1000 classes."""
    return ResNet(BasicBlock, [3, 4, 6, 3], num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    """Return the network of 50 layers for ImageNet: 25,557,032 parameters with 1000 classes."""
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes)


def resnet20(num_classes: int = 10, channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """Return the network of 20 layers for CIFAR; see CifarResNet."""
    return CifarResNet(20, num_classes, channels, shortcut)


def resnet32(num_classes: int = 10, channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """Return the network of 32 layers for CIFAR; see CifarResNet."""
    return CifarResNet(32, num_classes, channels, shortcut)


def resnet56(num_classes: int = 10, channels: int = 3, shortcut: str = "A") -> CifarResNet:
    """Return the network of 56 layers for CIFAR; see CifarResNet."""
    return CifarResNet(56, num_classes, channels, shortcut)
