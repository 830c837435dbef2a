"""DCGAN, WGAN-GP and the VAE of the recipes, written for PyTorch as one would there.

The parts have the names that Toumei's models give them, so that weights travel by `state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

import toumei as tm
from toumei.recipes.generators import JUDGED, noise
from toumei.recipes.judge import CHUNK, frechet_distance, judge, shares

from .side import Array, Arrays, Rates, Setup, Side
from .torch_side import TorchSide, load, set_rates

PENALTY = 10.0  # λ of Gulrajani et al.
CRITIC_STEPS = 5  # how often the critic learns before the generator does once


class Generator(nn.Module):
    """DCGAN's and WGAN's.  Shape: (N, latent) -> (N, 1, 28, 28), −1..1"""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(latent, 4 * width * 4 * 4, bias=False)
        self.norm1 = nn.BatchNorm2d(4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.up3 = nn.ConvTranspose2d(width, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.input(z).unflatten(1, (-1, 4, 4))))
        h = F.relu(self.norm2(self.up1(h)))
        h = F.relu(self.norm3(self.up2(h)))
        return torch.tanh(self.up3(h))


class Discriminator(nn.Module):
    """DCGAN's.  Shape: (N, 1, 28, 28) -> (N, 1)"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        self.output = nn.Linear(4 * width * 4 * 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        h = F.leaky_relu(self.down1(image), 0.2)
        h = F.leaky_relu(self.norm2(self.down2(h)), 0.2)
        h = F.leaky_relu(self.norm3(self.down3(h)), 0.2)
        return self.output(h.flatten(1))


class Critic(nn.Module):
    """WGAN's.  Shape: (N, 1, 28, 28) -> (N, 1)"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 4, 2, 1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, 2, 1)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1)
        self.output = nn.Linear(4 * width * 4 * 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        h = F.leaky_relu(self.down1(image), 0.2)
        h = F.leaky_relu(self.down2(h), 0.2)
        h = F.leaky_relu(self.down3(h), 0.2)
        return self.output(h.flatten(1))


class VAE(nn.Module):
    """Scores of pixels, μ and log σ².  Shape: (N, 1, 28, 28) -> (N, 784), (N, latent) twice"""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, hidden)
        self.fc21 = nn.Linear(hidden, latent)
        self.fc22 = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, 784)

    def scores(self, z: Tensor) -> Tensor:
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x.flatten(1)))
        mu, logvar = self.fc21(h), self.fc22(h)
        return self.scores(mu + torch.exp(0.5 * logvar) * noise), mu, logvar


class Chance:
    """What a training draws: numbers of PyTorch's, or of Toumei's to compare both exactly."""

    def __init__(self, setup: Setup) -> None:
        self.exact = setup.exact
        self.generator = torch.Generator().manual_seed(setup.seed)

    def normal(self, *shape: int) -> Tensor:
        """Return numbers from N(0, 1)."""
        if self.exact:
            return torch.from_numpy(tm.randn(*shape).numpy())
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers from 0 to 1."""
        if self.exact:
            return torch.from_numpy(tm.rand(*shape).numpy())
        return torch.rand(*shape, generator=self.generator)


class Adversaries(Side):
    """A generator and its opponent, trained by turns; what counts is a moving average of both.

    Args:
        model: generator and opponent, with their first weights.
        betas: of both Adams.
        share: the opponent's learning rate, as a share of the generator's.
        setup: what the side is made from.
    """

    def __init__(
        self, model: nn.ModuleDict, betas: tuple[float, float], share: float, setup: Setup
    ) -> None:
        self.model, self.share = model, share
        self.latent, self.chance = setup.facts["latent"], Chance(setup)
        self.generator, self.opponent = model.values()
        self.optimizer = torch.optim.Adam(self.generator.parameters(), betas=betas, fused=True)
        self.optimizer_d = torch.optim.Adam(self.opponent.parameters(), betas=betas, fused=True)
        self.average = AveragedModel(model, avg_fn=moving, use_buffers=True)
        self.steps = 0

    def step(self, batch: Arrays, rates: Rates) -> dict[str, Tensor]:
        set_rates(self.optimizer, rates)
        set_rates(self.optimizer_d, rates._replace(lr=self.share * rates.lr))
        losses = self.learn(torch.from_numpy(batch[0]))
        self.average.update_parameters(self.model)
        self.steps += 1
        return losses

    def learn(self, real: Tensor) -> dict[str, Tensor]:
        """Train on real images in −1..1; return the losses."""
        raise NotImplementedError

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        return judged(self, ((batch[0] + 1) / 2 for batch in batches))

    @torch.no_grad()
    def samples(self, count: int, seed: int) -> Array:
        generator = self.average.module["generator"].eval()
        parts = latents(count, self.latent, seed).split(CHUNK)
        return np.concatenate([(generator(z).numpy() + 1) / 2 for z in parts])

    def snapshot(self) -> dict[str, Tensor]:
        return {name: v.clone() for name, v in self.average.module.state_dict().items()}

    def restore(self, kept: dict[str, Tensor]) -> None:
        self.average.module.load_state_dict(kept)


class DCGAN(Adversaries):
    """One step: the discriminator learns from real and generated digits, then the generator."""

    def learn(self, real: Tensor) -> dict[str, Tensor]:
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        fake = self.generator(self.chance.normal(len(real), self.latent))

        self.optimizer_d.zero_grad()
        loss_real = F.binary_cross_entropy_with_logits(self.opponent(real), ones)
        loss_fake = F.binary_cross_entropy_with_logits(self.opponent(fake.detach()), zeros)
        loss_d = loss_real + loss_fake
        loss_d.backward()
        self.optimizer_d.step()

        self.optimizer.zero_grad()
        loss_g = F.binary_cross_entropy_with_logits(self.opponent(fake), ones)
        loss_g.backward(inputs=list(self.generator.parameters()))
        self.optimizer.step()
        return {"loss_d": loss_d.detach(), "loss_g": loss_g.detach()}


class WGAN(Adversaries):
    """Each batch teaches the critic; every fifth one the generator as well."""

    def learn(self, real: Tensor) -> dict[str, Tensor]:
        losses = self._teach_critic(real)
        if (self.steps + 1) % CRITIC_STEPS == 0:
            losses |= self._teach_generator(len(real))
        return losses

    def _teach_critic(self, real: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.generator(self.chance.normal(len(real), self.latent))
        self.optimizer_d.zero_grad()
        distance = self.opponent(real).mean() - self.opponent(fake).mean()
        loss = PENALTY * self._penalty(real, fake) - distance
        loss.backward()
        self.optimizer_d.step()
        return {"loss_d": loss.detach(), "wasserstein": distance.detach()}

    def _teach_generator(self, count: int) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        loss = -self.opponent(self.generator(self.chance.normal(count, self.latent))).mean()
        loss.backward(inputs=list(self.generator.parameters()))
        self.optimizer.step()
        return {"loss_g": loss.detach()}

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return by how much the critic's slope misses 1, between real and generated images."""
        e = self.chance.uniform(len(real), 1, 1, 1)
        between = (e * real + (1 - e) * fake).requires_grad_()
        score = self.opponent(between)
        (slope,) = torch.autograd.grad(score, between, torch.ones_like(score), create_graph=True)
        return ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


class AutoEncoder(TorchSide):
    """Trains the VAE on −ELBO, in nats per image; when it is measured, noise is always the same."""

    def __init__(self, model: VAE, setup: Setup) -> None:
        super().__init__(model, torch.optim.Adam(model.parameters(), fused=True), self.figures_of)
        self.latent, self.chance = setup.facts["latent"], Chance(setup)

    def figures_of(self, model: VAE, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return the mean loss of images: cross-entropy of the pixels, and KL."""
        images, count = batch[0], len(batch[0])
        training = model.training
        z = self.chance.normal(count, self.latent) if training else latents(count, self.latent, 0)
        scores, mu, logvar = model(images, z)
        bce = F.binary_cross_entropy_with_logits(scores, images.flatten(1), reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
        return {"loss": (bce + kl) / count}

    @torch.no_grad()
    def samples(self, count: int, seed: int) -> Array:
        pixels = torch.sigmoid(self.model.scores(latents(count, self.latent, seed)))
        return pixels.unflatten(1, (1, 28, 28)).numpy()


def moving(average: Tensor, value: Tensor, count: Tensor) -> Tensor:
    """Return a moving average over about 200 steps; over fewer at the start."""
    return average + (value - average) * max(0.005, 9 / (9 + int(count)))


def latents(count: int, latent: int, seed: int) -> Tensor:
    """Return the noise that is measured with: Toumei's, as it is part of the measure."""
    return torch.from_numpy(noise(count, latent, seed).numpy())


def judged(side: Side, real: Iterable[Array]) -> dict[str, float]:
    """Return what the recipe measures: distance from real images, and the rarest digit's share."""
    features, digits = judge().look(tm.from_numpy(side.samples(JUDGED, seed=0)))
    wanted = np.concatenate([judge().look(tm.from_numpy(images))[0] for images in real])
    rarest = float(shares(digits).min())
    return {"frechet": frechet_distance(features, wanted), "rarest": rarest}


def gan(setup: Setup) -> DCGAN:
    latent, width = setup.facts["latent"], setup.facts["width"]
    parts = {"generator": Generator(latent, width), "discriminator": Discriminator(width)}
    return DCGAN(load(nn.ModuleDict(parts), setup), (0.5, 0.999), 0.5, setup)


def wgan(setup: Setup) -> WGAN:
    latent, width = setup.facts["latent"], setup.facts["width"]
    parts = {"generator": Generator(latent, width), "critic": Critic(width)}
    return WGAN(load(nn.ModuleDict(parts), setup), (0.0, 0.9), 1.0, setup)


def vae(setup: Setup) -> AutoEncoder:
    return AutoEncoder(load(VAE(setup.facts["hidden"], setup.facts["latent"]), setup), setup)


def make(rung: str, setup: Setup) -> Side:
    """Return the twin of "gan", "wgan" or "vae"."""
    return {"gan": gan, "wgan": wgan, "vae": vae}[rung](setup)
