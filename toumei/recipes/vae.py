"""A variational auto-encoder learns digits: to shorten them to 20 numbers, and to make up new ones.

The loss is in nats per image: an upper bound of what an image has of information.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn, optim
from ..autograd import no_grad
from ..device import Generator
from ..models.vae import VAE, vae_loss
from ..ops import from_numpy, randn
from ..tensor import Tensor
from ..train import Trainer
from ..viz.images import save_images
from ..viz.latent import plot_latent, plot_manifold
from .generators import GeneratorRecipe, draw
from .judge import judge
from .pictures import read_picture, seen
from .recipe import Budget, Facts
from .run import Opened, Run

SEEN = 2000  # test digits that are drawn in the latent plane


class VAETrainer(Trainer):
    """Trains on −ELBO; there is no target but the image itself."""

    def accumulate_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        loss = vae_loss(*_with(images, self.model(images))).mean()
        self.backward(loss, len(images))
        return {"loss": loss.detach()}

    def validation_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"loss": _loss_of(self.model, batch[0]).mean()}


def _with(images: Tensor, found: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return the arguments of `vae_loss`."""
    scores, mu, logvar = found
    return scores, images, mu, logvar


@no_grad()
def _loss_of(model: Any, images: Tensor) -> Tensor:
    """Return −ELBO of each image, always with the same noise."""
    noise = randn(len(images), model.latent, generator=Generator().manual_seed(0))
    return vae_loss(*_with(images, model(images, noise)))


class VAERecipe(GeneratorRecipe):
    """784 → 400 → 20 → 400 → 784 on MNIST, as PyTorch's example."""

    name = "vae"
    title = "VAE on MNIST"
    metric = "loss"
    source = "PyTorch example vae: 105 nats per image on full MNIST after 10 epochs"
    varied = False  # here the digits themselves give the lower loss
    centred = False

    def plan(self, sample: bool, preset: str) -> tuple[Budget, float | None, Facts]:
        facts = {"hidden": 400, "latent": 20}
        if preset == "fast":
            return Budget(epochs=15, batch_size=100, lr=2e-3, samples=20_000), None, facts
        if sample:
            return Budget(epochs=60, batch_size=100, lr=2e-3), 110.0, facts
        return Budget(epochs=30, batch_size=128, lr=2e-3), 105.0, facts

    def model(self, facts: Facts) -> VAE:
        return VAE(784, facts["hidden"], facts["latent"])

    def example(self, facts: Facts) -> tuple[Any, ...]:
        return ((1, 1, 28, 28),)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = optim.Adam(model.parameters(), lr=budget.lr)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=budget.lr, total_steps=budget.epochs * steps_per_epoch, pct_start=0.1
        )
        return VAETrainer(
            model, optimizer, nn.functional.mse_loss, scheduler=schedule, schedule_every="step"
        )

    def report(self, run: Run) -> dict[str, Any]:
        images, digits = _part(run.data.test, SEEN)
        _draw_reconstructions(run.model, images[:12], run.folder)
        _draw_plane(run.model, images, digits, run.folder)
        return super().report(run)

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        image = from_numpy(seen(read_picture(line), "mnist", [1, 28, 28])[None] / np.float32(255))
        again = _again(opened.model, image)
        path = out or opened.folder / f"{pathlib.Path(line).stem}-reconstructed.png"
        both = np.concatenate([image.numpy(), again.numpy()])
        before, after = judge().classes(from_numpy(both))
        save_images(both, path, labels=[f"given: {before}", f"reconstructed: {after}"])
        loss = float(_loss_of(opened.model, image))
        return (
            f"loss {loss:.1f} nats\n"
            f"The judge reads {before} in the image, and {after} in what is made of it again.\n"
            f"wrote {path}"
        )


@no_grad()
def _again(model: Any, images: Tensor) -> Tensor:
    """Return images after they went through the model, without noise.  Same shape"""
    return model.generate(model.encode(images)[0])


def _part(dataset: Any, count: int) -> tuple[Tensor, Any]:
    """Return the first so many images and labels of a data set."""
    images, labels = dataset.__getitems__(list(range(min(count, len(dataset))))).columns
    return images, np.asarray(labels)


def _draw_reconstructions(model: Any, images: Tensor, folder: pathlib.Path) -> None:
    """Draw images, and below each what the model makes of it."""
    both = np.concatenate([images.numpy(), _again(model, images).numpy()])
    save_images(
        both, folder / "reconstructions.png", len(images),
        title="Above: test digits.  Below: what is made of their 20 numbers",
    )  # fmt: skip


def _draw_plane(model: Any, images: Tensor, digits: Any, folder: pathlib.Path) -> None:
    """Draw where digits lie in a plane of the latent space, and what is decoded from its places.

    It is the plane in which the digits' mean places spread most: that of the two largest principal
    components of the ten means of μ.
    """
    with no_grad():
        codes = model.encode(images)[0].numpy().astype(np.float64)  # (N, latent)
    means = np.stack([codes[digits == digit].mean(0) for digit in np.unique(digits)])
    middle = means.mean(0)
    axes = np.linalg.svd(means - middle, full_matrices=False)[2][:2]  # (2, latent)
    plot_latent(
        (codes - middle) @ axes.T, digits, range(10), folder / "latent.png",
        "Test digits in the latent plane that their means spread most in",
    )  # fmt: skip
    across = np.linspace(-2.5, 2.5, 15)
    places = np.stack(np.meshgrid(across, -across), axis=-1).reshape(-1, 2)
    grid = draw(model, from_numpy((middle + places @ axes).astype(np.float32))).numpy()
    plot_manifold(
        grid.reshape(15, 15, 28, 28), folder / "manifold.png",
        "What is decoded from that plane, −2.5 to 2.5 both ways",
    )  # fmt: skip


RECIPE = VAERecipe()
