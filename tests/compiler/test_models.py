"""Every model of the package: training steps compiled are those of eager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.eager import check
from toumei import models, nn, optim
from toumei.models import resnet, vae, wgan
from toumei.models.pinn import PINN, burgers_residual

Case = tuple[Callable[[], nn.Module], Callable[[], tuple[Any, ...]], Callable[..., tm.Tensor]]


def classes(model: nn.Module, x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
    return F.cross_entropy(model(x), y)


def next_tokens(model: nn.Module, tokens: tm.Tensor) -> tm.Tensor:
    logits = model(tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def images(*shape: int, labels: int = 4) -> Callable[[], tuple[Any, ...]]:
    return lambda: (tm.randn(*shape), tm.randint(0, labels, shape[:1]))


def translate(model: nn.Module, source: tm.Tensor, target: tm.Tensor) -> tm.Tensor:
    logits = model(source, target[:, :-1])
    return F.cross_entropy(
        logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0, label_smoothing=0.1
    )


def sentences() -> tuple[Any, ...]:
    source, target = tm.randint(3, 9, (2, 5)), tm.randint(3, 9, (2, 6))
    source[0, 3:] = 0
    target[1, 4:] = 0
    return source, target


def guess(model: nn.Module, tokens: tm.Tensor, visible: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
    return F.cross_entropy(model(tokens, visible).flatten(0, 1), y.flatten(), ignore_index=-100)


def words() -> tuple[Any, ...]:
    y = tm.randint(0, 9, (2, 5))
    y[:, 1:3] = -100
    visible = tm.ones(2, 5).long()
    visible[1, 3:] = 0
    return tm.randint(0, 9, (2, 5)), visible, y


def points() -> tuple[Any, ...]:
    return tm.rand(6, 1) * 2 - 1, tm.rand(6, 1)


def physics(model: nn.Module, x: tm.Tensor, t: tm.Tensor) -> tm.Tensor:
    start = model(x, tm.zeros_like(t)) + (tm.pi * x).sin()
    return (burgers_residual(model, x, t, 0.01) ** 2).mean() + (start**2).mean()


def draw_again(model: nn.Module, x: tm.Tensor) -> tm.Tensor:
    scores, mu, logvar = model(x)
    return vae.vae_loss(scores, x, mu, logvar).mean()


CASES: dict[str, Case] = {
    "mlp": (lambda: models.MLP(6, [8, 8], 4, dropout=0.2), images(5, 6), classes),
    "cnn": (lambda: models.CNN(4, 1, 12, hidden=8), images(3, 1, 12, 12), classes),
    "resnet": (
        lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], 4),
        images(6, 3, 32, 32),
        classes,
    ),
    "cifar resnet": (lambda: models.CifarResNet(8, 4), images(3, 3, 8, 8), classes),
    "vgg": (
        lambda: models.VGG([[4], [6, 6]], 4, hidden=8, batch_norm=True),
        images(3, 3, 16, 16),
        classes,
    ),
    "vit": (
        lambda: models.ViT(8, 4, 2, 2, 16, 24, dropout=0.1, num_classes=4),
        images(3, 3, 8, 8),
        classes,
    ),
    "gpt": (
        lambda: models.GPT(9, 16, 2, 2, 8, dropout=0.1),
        lambda: (tm.randint(0, 9, (2, 7)),),
        next_tokens,
    ),
    "lstm": (
        lambda: models.CharRNN(9, 8, 8, layers=2, dropout=0.2),
        lambda: (tm.randint(0, 9, (2, 7)),),
        next_tokens,
    ),
    "transformer": (
        lambda: models.Transformer(
            9, 9, d_model=16, heads=2, encoder_layers=1, decoder_layers=1, feedforward=24
        ),
        sentences,
        translate,
    ),
    "bert": (
        lambda: models.bert.MaskedLM(models.BERT(9, 16, 2, 2, 24, max_length=8)),
        words,
        guess,
    ),
    "pinn": (lambda: PINN(6, 2), points, physics),
    "vae": (lambda: models.VAE(12, 8, 3), lambda: (tm.rand(4, 12),), draw_again),
}


@pytest.mark.parametrize("name", CASES)
def test_a_training_step(name: str) -> None:
    make, sample, loss_of = CASES[name]

    def build(compile: Any) -> Iterator[Any]:
        model = make()
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        @compile
        def step(*batch: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, *batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss

        @compile
        @tm.no_grad()
        def measure(*batch: tm.Tensor) -> tm.Tensor:
            return loss_of(model, *batch)

        for _ in range(2):
            model.train()
            yield step(*sample())
            yield model.state_dict()
        model.eval()
        yield measure(*sample()) if name != "pinn" else 0.0

    check(build)


@pytest.mark.parametrize("name", ["gan", "wgan"])
def test_two_networks_against_each_other(name: str) -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = models.DCGAN(4, 2) if name == "gan" else models.WGAN(4, 2)
        generator, critic = model.children()
        first = optim.SGD(critic.parameters(), lr=0.01)
        second = optim.SGD(generator.parameters(), lr=0.01)
        bce = F.binary_cross_entropy_with_logits

        @compile
        def step(real: tm.Tensor) -> Any:
            fake = generator(tm.randn(len(real), 4))
            first.zero_grad()
            a, b = critic(real), critic(fake.detach())
            if name == "gan":
                loss = bce(a, tm.ones_like(a)) + bce(b, tm.zeros_like(b))
            else:
                mix = tm.rand(len(real), 1, 1, 1)
                loss = b.mean() - a.mean() + 10 * wgan.gradient_penalty(critic, real, fake, mix)
            loss.backward()
            first.step()
            second.zero_grad()
            said = critic(fake)
            other = bce(said, tm.ones_like(said)) if name == "gan" else -said.mean()
            other.backward(inputs=list(generator.parameters()))
            second.step()
            return {"first": loss.detach(), "second": other.detach()}

        for _ in range(2):
            yield step(tm.rand(2, 1, 28, 28))
            yield model.state_dict()

    check(build)
