"""The models of images against the same networks written with PyTorch's functions, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.models.cnn import CNN
from toumei.models.resnet import BasicBlock, Bottleneck, CifarResNet, ResNet
from toumei.models.vgg import VGG
from toumei.models.vit import ViT

torch = pytest.importorskip("torch")
F = torch.nn.functional


class Weights:
    """A model's parameters as PyTorch's, by name, and layers that use them."""

    def __init__(self, model: Any) -> None:
        self.of = {n: torch.from_numpy(p.detach().numpy().copy()).requires_grad_()
                   for n, p in model.named_parameters()}  # fmt: skip

    def conv(self, x: Any, name: str, stride: int = 1) -> Any:
        weight = self.of[f"{name}.weight"]
        kernel = weight.shape[-1]
        padding = kernel // 2 if kernel % 2 else 0
        return F.conv2d(x, weight, self.of.get(f"{name}.bias"), stride, padding)

    def linear(self, x: Any, name: str) -> Any:
        return F.linear(x, self.of[f"{name}.weight"], self.of[f"{name}.bias"])

    def batch_norm(self, x: Any, name: str) -> Any:
        affine = self.of[f"{name}.weight"], self.of[f"{name}.bias"]
        return F.batch_norm(x, None, None, *affine, training=True)

    def layer_norm(self, x: Any, name: str) -> Any:
        w = self.of[f"{name}.weight"]
        return F.layer_norm(x, w.shape, w, self.of[f"{name}.bias"], 1e-6)


def cnn(w: Weights, x: Any) -> Any:
    x = F.relu(w.batch_norm(F.conv2d(x, w.of["conv1.weight"], w.of["conv1.bias"]), "bn1"))
    x = F.relu(w.batch_norm(F.conv2d(x, w.of["conv2.weight"], w.of["conv2.bias"]), "bn2"))
    x = F.max_pool2d(x, 2).flatten(1)
    return w.linear(F.relu(w.batch_norm(w.linear(x, "fc1"), "bn3")), "fc2")


def block(w: Weights, x: Any, name: str, stride: int, deep: bool) -> Any:
    def normal(h: Any, k: int, step: int = 1) -> Any:
        return w.batch_norm(w.conv(h, f"{name}.conv{k}", step), f"{name}.bn{k}")

    if deep:
        y = normal(F.relu(normal(F.relu(normal(x, 1)), 2, stride)), 3)
    else:
        y = normal(F.relu(normal(x, 1, stride)), 2)
    if f"{name}.downsample.0.weight" in w.of:
        x = w.batch_norm(w.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
    elif stride > 1:  # option A
        new = y.shape[1] - x.shape[1]
        x = F.pad(F.max_pool2d(x, 1, stride), (0, 0, 0, 0, new // 2, new // 2))
    return F.relu(x + y)


def imagenet(w: Weights, x: Any, deep: bool) -> Any:
    x = F.max_pool2d(F.relu(w.batch_norm(w.conv(x, "conv1", 2), "bn1")), 3, 2, 1)
    for k in range(4):
        x = block(w, x, f"layer{k + 1}.0", 2 if k else 1, deep)
    return w.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), "fc")


def cifar(w: Weights, x: Any) -> Any:
    x = F.relu(w.batch_norm(w.conv(x, "conv1"), "bn1"))
    for k in range(3):
        x = block(w, x, f"layer{k + 1}.0", 2 if k else 1, False)
    return w.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), "fc")


def vgg(w: Weights, x: Any) -> Any:
    for k in range(5):
        x = F.relu(w.batch_norm(w.conv(x, f"features.{4 * k}"), f"features.{4 * k + 1}"))
        x = F.max_pool2d(x, 2)
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for k in (0, 3):
        x = F.relu(w.linear(x, f"classifier.{k}"))
    return w.linear(x, "classifier.6")


def vit(w: Weights, x: Any) -> Any:
    n, dim = len(x), 8
    patches = F.conv2d(x, w.of["conv_proj.weight"], w.of["conv_proj.bias"], stride=4)
    tokens = torch.cat([w.of["class_token"].expand(n, 1, dim), patches.flatten(2).mT], 1)
    z = tokens + w.of["encoder.pos_embedding"]
    for k in range(2):
        name = f"encoder.layers.encoder_layer_{k}"
        attention = f"{name}.self_attention"
        h = w.layer_norm(z, f"{name}.ln_1")
        qkv = F.linear(h, w.of[f"{attention}.in_proj_weight"], w.of[f"{attention}.in_proj_bias"])
        heads = [part.unflatten(2, (2, 4)).transpose(1, 2) for part in qkv.chunk(3, -1)]
        h = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        z = z + w.linear(h, f"{attention}.out_proj")
        h = F.gelu(w.linear(w.layer_norm(z, f"{name}.ln_2"), f"{name}.mlp.0"))
        z = z + w.linear(h, f"{name}.mlp.3")
    return w.linear(w.layer_norm(z, "encoder.ln")[:, 0], "heads.head")


CASES: dict[str, tuple[Callable[[], Any], Callable[[Weights, Any], Any], tuple[int, ...]]] = {
    "cnn": (
        lambda: CNN(3, 2, 9, (3, 4), 5, dropout=(0, 0), batch_norm=True), cnn, (4, 2, 9, 9)
    ),
    "resnet-basic": (
        lambda: ResNet(BasicBlock, [1] * 4, 3), lambda w, x: imagenet(w, x, False), (2, 3, 33, 33)
    ),
    "resnet-bottleneck": (
        lambda: ResNet(Bottleneck, [1] * 4, 3), lambda w, x: imagenet(w, x, True), (2, 3, 33, 33)
    ),
    "cifar-a": (lambda: CifarResNet(8, 3, 2), cifar, (2, 2, 9, 9)),
    "cifar-b": (lambda: CifarResNet(8, 3, 2, shortcut="B"), cifar, (2, 2, 9, 9)),
    "vgg": (
        lambda: VGG([[4]] * 5, 3, 6, dropout=0, batch_norm=True), vgg, (3, 3, 35, 35)
    ),
    "vit": (lambda: ViT(12, 4, 2, 2, 8, num_classes=3, channels=2), vit, (2, 2, 12, 12)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_pytorchs(case: str) -> None:
    make, theirs, shape = CASES[case]
    tm.manual_seed(0)
    model = make().double()
    for name, p in model.named_parameters():
        if p.ndim < 4:  # so that norms, biases and a head of zeros count
            tm.nn.init.normal_(p, 0.5 if "weight" in name else 0, 0.3)
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=shape), rng.normal(size=(shape[0], 3))
    w = Weights(model)
    wanted = theirs(w, torch.from_numpy(x))
    (wanted * torch.from_numpy(weight)).sum().backward()
    got = model(tm.tensor(x))
    (got * tm.tensor(weight)).sum().backward()
    np.testing.assert_allclose(got.detach().numpy(), wanted.detach().numpy(), rtol=1e-7, atol=1e-9)
    for name, p in model.named_parameters():
        expected = w.of[name].grad.numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            p.grad.numpy(), expected, rtol=1e-6, atol=1e-8 * scale + 1e-10, err_msg=name
        )
