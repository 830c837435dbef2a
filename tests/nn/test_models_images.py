"""Models of images: shapes, published parameter counts, names, and one exact check each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import ModuleError
from toumei.models import resnet, vgg, vit
from toumei.models.cnn import CNN
from toumei.viz import attention_maps
from toumei.viz.summary import summary


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the weights of a new model as they are in memory: large ones are made at once."""
    for name in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_", "xavier_uniform_",
                 "trunc_normal_"):  # fmt: skip
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)


# --- CNN ---


def test_cnn_has_the_size_of_pytorchs_example() -> None:
    assert count(CNN()) == 1_199_882
    assert count(CNN(batch_norm=True)) == 1_199_882 + 2 * (32 + 64 + 128)


def test_cnn_of_a_known_filter() -> None:
    """One filter that copies its pixel, one more, and a sum: the result is that of the maxima."""
    model = CNN(num_classes=1, size=8, widths=(1, 1), hidden=1).eval()
    for name, p in model.named_parameters():
        middle = np.zeros(p.shape, np.float32)
        if "conv" in name and p.ndim == 4:
            middle[0, 0, 1, 1] = 1
        elif name == "fc1.weight" or name == "fc2.weight":
            middle[:] = 1
        p.data = tm.tensor(middle)
    x = np.abs(np.random.default_rng(0).normal(size=(3, 1, 8, 8))).astype(np.float32)
    maxima = x[:, 0, 2:6, 2:6].reshape(3, 2, 2, 2, 2).max((2, 4))
    np.testing.assert_allclose(model(tm.tensor(x)).detach().numpy()[:, 0], maxima.sum((1, 2)),
                               rtol=1e-6)  # fmt: skip


def test_cnn_for_other_images() -> None:
    assert CNN(3, channels=3, size=33, batch_norm=True)(tm.zeros(2, 3, 33, 33)).shape == (2, 3)
    with pytest.raises(ModuleError, match="6 x 6 pixels or more, not 5 x 5"):
        CNN(size=5)


# --- ResNet ---


@pytest.mark.parametrize(("make", "size"), [("resnet18", 11_689_512), ("resnet34", 21_797_672),
                                            ("resnet50", 25_557_032)])  # fmt: skip
def test_resnets_for_imagenet_have_the_published_size(make: str, size: int, undrawn: None) -> None:
    model = getattr(resnet, make)()
    assert count(model) == size
    names = list(model.state_dict())
    assert names[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var"} <= set(names)
    assert ("layer1.0.downsample.0.weight" in names) is (make == "resnet50")
    assert names[-2:] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(("depth", "size"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_resnets_for_cifar_have_the_published_size(depth: int, size: int) -> None:
    """He et al., table 6: 0.27, 0.46 and 0.85 million."""
    assert count(resnet.CifarResNet(depth)) == size
    # B: a 1 x 1 convolution and its norm at both changes of the shape
    extra = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert count(resnet.CifarResNet(depth, shortcut="B")) == size + extra


def test_a_block_whose_last_norm_is_zero_hands_its_input_on() -> None:
    x = tm.randn(2, 16, 6, 6).relu()
    for block in (resnet.BasicBlock(16, 16), resnet.Bottleneck(16, 4)):
        nn.init.zeros_([m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1].weight)
        assert np.array_equal(block(x).detach().numpy(), x.numpy())


def test_shortcut_a_takes_every_second_pixel_and_adds_zero_channels() -> None:
    x = tm.randn(2, 4, 5, 5)
    y = resnet.Subsample(4, 8, 2)(x).numpy()
    assert y.shape == (2, 8, 3, 3)
    assert np.array_equal(y[:, 2:6], x.numpy()[:, :, ::2, ::2])
    assert not y[:, :2].any() and not y[:, 6:].any()


def test_resnets_refuse_what_they_cannot_be() -> None:
    with pytest.raises(ModuleError, match=r"6·n \+ 2.*not 18"):
        resnet.CifarResNet(18)
    with pytest.raises(ModuleError, match="'A' or 'B', not 'C'"):
        resnet.CifarResNet(20, shortcut="C")


# --- VGG ---


@pytest.mark.parametrize(("make", "size"), [("vgg16", 138_357_544), ("vgg16_bn", 138_365_992)])
def test_vgg16_has_the_published_size(make: str, size: int, undrawn: None) -> None:
    model = getattr(vgg, make)()
    assert count(model) == size
    names = set(model.state_dict())
    last = "features.28.weight" if make == "vgg16" else "features.40.weight"
    assert {"features.0.weight", last, "classifier.0.weight", "classifier.6.bias"} <= names


# --- ViT ---


def test_vit_b_16_has_the_published_size(undrawn: None) -> None:
    model = vit.vit_b_16()
    assert count(model) == 86_567_656
    assert {
        "class_token", "conv_proj.weight", "encoder.pos_embedding", "encoder.ln.weight",
        "encoder.layers.encoder_layer_11.self_attention.in_proj_weight",
        "encoder.layers.encoder_layer_0.mlp.0.weight", "encoder.layers.encoder_layer_0.mlp.3.bias",
        "encoder.layers.encoder_layer_0.ln_2.weight", "heads.head.weight",
    } <= set(model.state_dict())  # fmt: skip


def small() -> vit.ViT:
    tm.manual_seed(0)
    model = vit.ViT(12, 4, depth=2, heads=2, dim=8, num_classes=3, channels=1).eval()
    nn.init.normal_(model.heads[0].weight)  # it starts at zero
    return model


def test_vit_knows_places_by_the_positions_alone() -> None:
    """Without positions the patches are a set; with them their order counts."""
    model, x = small(), np.random.default_rng(0).normal(size=(1, 1, 12, 12)).astype(np.float32)
    other = np.roll(x, 4, axis=3)  # the patches of each row change places
    assert np.abs(scores(model, x) - scores(model, other)).max() > 1e-3
    nn.init.zeros_(model.encoder.pos_embedding)
    np.testing.assert_allclose(scores(model, x), scores(model, other), atol=1e-5)


def scores(model: nn.Module, x: Any) -> Any:
    return model(tm.tensor(x)).detach().numpy()


def test_vit_shows_where_it_looks() -> None:
    maps = attention_maps(small(), tm.randn(3, 1, 12, 12))
    assert list(maps) == [f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(2)]
    for weights in maps.values():
        assert weights.shape == (3, 2, 10, 10)  # 9 patches and the class token
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_vit_refuses_other_sizes() -> None:
    with pytest.raises(ModuleError, match="patches of 5 pixels don't fill an image of 28"):
        vit.ViT(28, 5)
    with pytest.raises(ModuleError, match=r"12 x 12 pixels.*\(1, 1, 16, 16\)"):
        small()(tm.zeros(1, 1, 16, 16))


# --- all ---


def test_all_can_be_summarised_without_computing() -> None:
    for model, shape in (
        (CNN(batch_norm=True), (1, 1, 28, 28)),
        (resnet.CifarResNet(20), (1, 3, 32, 32)),
        (resnet.CifarResNet(8, shortcut="B"), (1, 3, 32, 32)),
        (vgg.VGG([[4], [4], [4], [4], [4]], hidden=8), (1, 3, 32, 32)),
        (small(), (1, 1, 12, 12)),
    ):
        assert summary(model, shape).parameters == count(model)
