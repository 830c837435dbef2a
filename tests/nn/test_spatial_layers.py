"""Layers of convolution, pooling, padding and resizing, without PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import toumei as tm
from toumei import nn, optim
from toumei.errors import ModuleError, OpError
from toumei.nn import functional as F

IMAGES = (2, 4, 8, 6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups: 3 by 2"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=0), "groups must be a positive integer, got 0"),
        (lambda: nn.Conv1d(0, 3, 3), "in_channels must be a positive integer, got 0"),
        (lambda: nn.Conv2d(4, 3, 3, padding="same", stride=2), "needs stride 1"),
        (lambda: nn.Conv2d(4, 3, 3, padding="full"), "'same' or 'valid', not 'full'"),
        (lambda: nn.Conv2d(4, 3, 3, padding_mode="mirror"), "not 'mirror'"),
        (lambda: nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect"), "'zeros' as its mode"),
        (lambda: nn.ConvTranspose2d(4, 3, 3, padding="same"), "takes numbers as padding"),
    ],
)
def test_wrong_options(make: Any, words: str) -> None:
    with pytest.raises(ModuleError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Conv2d(4, 3, (3, 3, 3)), r"kernel_size needs 2 numbers, got 3"),
        (lambda: nn.Conv2d(4, 3, 2.5), "kernel_size must be integers"),
        (lambda: nn.ReflectionPad2d((1, 2)), "padding needs 4 numbers, got 2"),
        (lambda: nn.AvgPool1d((2, 2)), "kernel_size needs 1 numbers, got 2"),
        (lambda: nn.Conv2d(1, 2, 3)(tm.ones(IMAGES)), "x has 4 channels, but w takes 1"),
        (lambda: nn.Conv2d(4, 2, 3)(tm.ones(8, 6)), "both need 4 dimensions"),
        (lambda: nn.MaxPool2d(2, padding=2)(tm.ones(IMAGES)), "more than half of the kernel"),
        (lambda: nn.ReflectionPad2d(6)(tm.ones(IMAGES)), "at most 5, not 6"),
        (lambda: nn.PixelShuffle(3)(tm.ones(IMAGES)), "aren't divisible by 3"),
        (lambda: nn.Upsample()(tm.ones(IMAGES)), "give either size or scale_factor"),
    ],
)
def test_what_does_not_fit(make: Any, words: str) -> None:
    with pytest.raises(OpError, match=words):
        make()


def test_a_size_that_the_stride_does_not_allow() -> None:
    up, x = nn.ConvTranspose2d(4, 3, 3, stride=2), tm.ones(IMAGES)
    assert up(x, output_size=[18, 14]).shape == (2, 3, 18, 14)
    with pytest.raises(ModuleError, match=r"\[19, 14\] can't be had: \[17, 13\] to \[18, 14\] can"):
        up(x, output_size=(19, 14))
    with pytest.raises(ModuleError, match="output_size needs 2 numbers"):
        up(x, output_size=(18,))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_mode_pads_by_itself(mode: str) -> None:
    """The layer is a padding layer and then a convolution without padding."""
    layer = nn.Conv2d(4, 3, (3, 5), padding=(1, 2), padding_mode=mode)
    x = tm.randn(IMAGES)
    padded = F.pad(x, (2, 2, 1, 1), mode)
    assert F.conv2d(padded, layer.weight, layer.bias).equal(layer(x))


def test_a_convolution_learns_a_blur() -> None:
    tm.manual_seed(0)
    x = tm.randn(8, 1, 10, 10)
    wanted = nn.AvgPool2d(3, 1)(x)
    layer = nn.Conv2d(1, 1, 3)
    optimizer = optim.SGD(layer.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(layer(x), wanted).backward()
        optimizer.step()
    assert (layer.weight - 1 / 9).abs().max().item() < 1e-3
    assert abs(layer.bias.item()) < 1e-3


def test_dtype_and_copies() -> None:
    layer = nn.ConvTranspose1d(2, 3, 4, dtype=tm.float64)
    assert {p.dtype for p in layer.parameters()} == {tm.float64}
    twin = copy.deepcopy(layer)
    x = tm.randn(2, 5, dtype=tm.float64)
    assert twin(x).equal(layer(x)) and twin.weight is not layer.weight


LAYERS: list[Any] = [
    nn.Conv2d(4, 6, 3, padding="same", dilation=2, groups=2),
    nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect", stride=2),
    nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
    nn.MaxPool2d(3, 2, 1, return_indices=True, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    nn.LPPool2d(2, 3),
    nn.AdaptiveAvgPool2d((3, None)),
    nn.AdaptiveMaxPool2d(3, return_indices=True),
    nn.ReflectionPad2d(2),
    nn.ReplicationPad2d((1, 2, 3, 4)),
    nn.CircularPad2d(2),
    nn.ZeroPad2d(1),
    nn.ConstantPad2d((1, 0, -2, 3), 2.0),
    nn.Upsample(scale_factor=1.5, mode="bilinear"),
    nn.UpsamplingNearest2d(7),
    nn.PixelShuffle(2),
    nn.PixelUnshuffle(2),
    nn.ChannelShuffle(2),
    nn.Unfold(3, padding=1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_shapes_are_known_without_numbers(layer: Any) -> None:
    result = layer(tm.rand(IMAGES))
    shapes = [list(t.shape) for t in (result if isinstance(result, tuple) else (result,))]
    assert tm.summary(layer, IMAGES).rows[0].output == ", ".join(map(str, shapes))


def test_unpooling_turns_pooling_round() -> None:
    x = tm.zeros(1, 1, 6, 4)
    x[0, 0, ::2, 1::2] = tm.arange(1.0, 7).reshape(3, 2)
    assert nn.MaxUnpool2d(2)(*nn.MaxPool2d(2, return_indices=True)(x)).equal(x)


def test_fold_counts_the_windows_of_a_pixel() -> None:
    x = tm.randn(2, 3, 5, 5)
    unfold, fold = nn.Unfold(3), nn.Fold(5, 3)
    counts = fold(unfold(tm.ones(1, 1, 5, 5)))
    assert counts[0, 0, 2, 2].item() == 9 and counts[0, 0, 0, 0].item() == 1
    assert fold(unfold(x)).allclose(x * counts)


def test_reprs() -> None:
    assert repr(nn.Conv2d(4, 8, 3, padding=1, bias=False, padding_mode="reflect")) == (
        "Conv2d(4, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False, "
        "padding_mode=reflect)"
    )
    assert repr(nn.MaxPool2d(2)) == (
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"
    )
    assert repr(nn.ConstantPad1d(2, 3.5)) == "ConstantPad1d(padding=(2, 2), value=3.5)"
    assert repr(nn.ZeroPad1d(2)) == "ZeroPad1d((2, 2))"
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2.0, mode='nearest')"
