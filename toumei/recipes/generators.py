"""What the recipes that draw digits share: data, what is kept of each epoch, pictures, samples."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable
from copy import copy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import nn
from ..autograd import no_grad
from ..data import Compose, Normalize, RandomAffine, Subset, ToTensor
from ..data.files import KNOWN, locate
from ..device import Generator
from ..ops import from_numpy, randn
from ..optim import Optimizer, lr_scheduler
from ..optim.swa_utils import AveragedModel
from ..tensor import Tensor
from ..train import Schedule, Trainer
from ..train.callbacks import Callback
from ..train.history import Row
from ..viz.canvas import COLOURS, new_figure, save_figure
from ..viz.images import save_animation, save_epoch_sheet, save_images
from . import images
from .judge import CHUNK, frechet_distance, judge, shares
from .recipe import Budget, Data, Facts, Options, Recipe, Sampling, hold_out
from .run import Opened, Run

# What an opponent learns by heart teaches the generator nothing: few digits are varied.
VARIATION = RandomAffine(8, (0.04, 0.04), (0.93, 1.07), (-6, 6))
JUDGED = 2000  # digits that are generated to be judged
SHOWN = 64  # digits that are kept of each epoch
SHEET = 100  # digits of the final sheet

Images = NDArray[np.uint8]


def noise(count: int, latent: int, seed: int = 0) -> Tensor:
    """Return the noise of so many images, the same for the same seed.  Shape: -> (count, latent)"""
    return randn(count, latent, generator=Generator().manual_seed(seed))


@no_grad()
def draw(model: Any, z: Tensor) -> Tensor:
    """Return what a model in evaluation mode makes of noise; 0..1.

    Shape: (N, latent) -> (N, 1, 28, 28)
    """
    parts = [model.generate(z[i : i + CHUNK]).numpy() for i in range(0, len(z), CHUNK)]
    return from_numpy(np.concatenate(parts))


class Frames(Callback):
    """Keeps what the model makes of the same noise after each epoch.

    Attributes: `images`, a frame per epoch, each uint8 (SHOWN, 28, 28), and `epochs`.
    """

    def __init__(self, latent: int) -> None:
        self.noise = noise(SHOWN, latent, seed=1)
        self.images: list[Images] = []
        self.epochs: list[int] = []

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        model = trainer.evaluated
        training = model.training
        grey = draw(model.eval(), self.noise).numpy()[:, 0]
        model.train(training)
        self.images.append(np.rint(grey * 255).astype(np.uint8))
        self.epochs.append(row["epoch"])

    def state_dict(self) -> dict[str, Any]:
        kept = np.stack(self.images) if self.images else None
        return {"images": kept, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        kept = state["images"]
        self.images = [] if kept is None else list(np.asarray(kept).astype(np.uint8))
        self.epochs = list(state["epochs"])


class GeneratorRecipe(Recipe):
    """A recipe whose model makes images of noise: `model.generate(z)`, `model.latent`."""

    metric = "frechet"
    mode = "min"
    varied: ClassVar[bool] = True  # whether the embedded digits are turned and moved a little
    centred: ClassVar[bool] = True  # whether the model's images are −1..1, or else 0..1
    datasets = ("mnist", images.SAMPLE)
    sampling = ("count", "temperature", "out")

    def plan(self, sample: bool, preset: str) -> tuple[Budget, float | None, Facts]:
        """Return budget, figure to reach and facts, for the embedded sample or all of MNIST."""
        raise NotImplementedError

    def data(self, options: Options) -> Data:
        there = "mnist" if locate(KNOWN["mnist"], options.data_dir) else images.SAMPLE
        name = options.dataset or there
        train, test, text = images.load_images(name, options.data_dir)
        scale = [ToTensor(), Normalize(0.5, 0.5)] if self.centred else [ToTensor()]
        train.transform = test.transform = Compose(scale)
        changed = copy(train)
        if name == images.SAMPLE and self.varied:
            changed.transform = Compose([VARIATION, *scale])
        rest, held_out = hold_out(len(train), min(5000, len(train) // 10))
        budget, target, facts = self.plan(name == images.SAMPLE, options.preset)
        return Data(
            text, Subset(changed, rest), Subset(train, held_out), test, budget, target, facts
        )

    def example(self, facts: Facts) -> tuple[Any, ...]:
        return ((1, facts["latent"]),)

    def watchers(self, run: Run) -> list[Callback]:
        return [Frames(run.facts["latent"])]

    def report(self, run: Run) -> dict[str, Any]:
        """Draw the digits of each epoch, as a sheet and moving, and many of the final model."""
        frames = next(c for c in run.trainer.callbacks if isinstance(c, Frames))
        shown, folder = np.stack(frames.images), run.folder
        save_epoch_sheet(
            shown, folder / "digits.png", frames.epochs,
            f"{self.title}: the same noise after each epoch",
        )  # fmt: skip
        chosen = np.linspace(0, len(shown) - 1, min(len(shown), 40)).round().astype(int)
        save_animation(
            shown[chosen, :36], folder / "digits.gif", epochs=[frames.epochs[k] for k in chosen]
        )
        samples = draw(run.model, noise(SHEET, run.facts["latent"], seed=2))
        save_images(samples.numpy(), folder / "samples.png", 10, title=f"{self.title}: new digits")
        return self.judged(run)

    def judged(self, run: Run) -> dict[str, Any]:
        """Return how the test digits and as many generated ones look to the judge."""
        made = draw(run.model, noise(JUDGED, run.facts["latent"]))
        features, digits = judge().look(made)
        real, real_digits = _look_at(run.test, self.centred)
        _plot_shares({"generated": shares(digits), "real": shares(real_digits)}, run.folder)
        held_out, _ = _look_at(run.validation, self.centred)
        found = {
            "frechet": round(frechet_distance(features, real), 4),
            "frechet of real digits": round(frechet_distance(held_out, real), 4),
            "share of each digit": [round(float(s), 4) for s in shares(digits)],
        }
        found.pop(self.metric, None)  # it is the result already
        return found

    def sample(self, opened: Opened, wish: Sampling) -> str:
        count = wish.count or SHEET
        heat = 1.0 if wish.temperature is None else wish.temperature
        made = draw(opened.model, heat * noise(count, opened.facts["latent"], wish.seed))
        path = wish.out or opened.folder / f"samples-{wish.seed}.png"
        save_images(made.numpy(), path)
        found = np.bincount(judge().classes(made), minlength=10)
        read = ", ".join(f"{n} × {digit}" for digit, n in enumerate(found) if n)
        return f"wrote {path}\nThe judge reads: {read}"


class GANTrainer(Trainer):
    """Trains a generator and its opponent by turns, each with an optimiser of its own.

    `optimizer` is the generator's; what is measured is how far generated digits are from real ones,
    to the judge.

    Args:
        model: has `generator`, `latent` and `generate`.
        optimizer: the generator's.
        optimizer_d: the discriminator's or critic's.
        more: as for Trainer.
    """

    def __init__(
        self, model: Any, optimizer: Optimizer, optimizer_d: Optimizer, **more: Any
    ) -> None:
        super().__init__(model, optimizer, nn.functional.binary_cross_entropy_with_logits, **more)
        self.optimizer_d = optimizer_d

    def noise(self, count: int) -> Tensor:
        """Return new noise.  Shape: -> (count, latent)"""
        model: Any = self.model
        return randn(count, model.latent)

    def evaluate(self, batches: Iterable[Any]) -> Row:
        """Return the Fréchet distance of generated digits from real ones, and the rarest's share.

        The noise is always the same.
        """
        with self._measuring():
            model: Any = self.model
            made = draw(model, noise(JUDGED, model.latent))
        features, digits = judge().look(made)
        real, _ = _look_at(batches, centred=True)
        return {
            "frechet": frechet_distance(features, real),
            "rarest": float(shares(digits).min()),
        }

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"optimizer_d": self.optimizer_d.state_dict()}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.optimizer_d.load_state_dict(state["optimizer_d"])


def network(width: int) -> Facts:
    """Return the facts of a GAN: its sizes."""
    return {"latent": 100, "width": width}


def averaged(
    model: nn.Module, optimizer: Optimizer, optimizer_d: Optimizer, steps: int
) -> dict[str, Any]:
    """Return a GAN's further arguments for the trainer.

    Both learning rates go down to 0 on a straight line, and what is measured is a moving average
    of the weights: players that circle around each other are in the middle of the circle then.
    """
    slower, slower_d = (lr_scheduler.PolynomialLR(o, steps) for o in (optimizer, optimizer_d))
    return {
        "scheduler": slower,
        "schedule_every": "step",
        "average": AveragedModel(model, avg_fn=_moving, use_buffers=True),
        "callbacks": [Schedule(slower_d, "step")],
    }


def _moving(average: Tensor, value: Tensor, count: Tensor) -> Tensor:
    """Return a moving average over about 200 steps; over fewer at the start."""
    return average + (value - average) * max(0.005, 9 / (9 + int(count)))


def _grey(found: Tensor, centred: bool) -> Tensor:
    """Return images of a loader in 0..1."""
    return (found + 1) / 2 if centred else found


def _look_at(batches: Iterable[Any], centred: bool) -> tuple[Any, Any]:
    """Return what the judge makes of all images of a loader: features, digits."""
    seen = [judge().look(_grey(batch[0], centred)) for batch in batches]
    features, digits = zip(*seen, strict=True)
    return np.concatenate(features), np.concatenate(digits)


def _plot_shares(of: dict[str, Any], folder: pathlib.Path) -> None:
    """Draw which part of the images each digit has, side by side, to classes.png."""
    figure, (ax,) = new_figure(1)
    width = 0.8 / len(of)
    for k, (name, values) in enumerate(of.items()):
        places = np.arange(10) + (k - (len(of) - 1) / 2) * width
        ax.bar(places, 100 * values, width, label=name, color=COLOURS[k])
    ax.set(xlabel="digit, as the judge reads it", ylabel="% of the images", xticks=range(10))
    ax.grid(axis="x", visible=False)
    ax.legend(frameon=False, fontsize="small")
    save_figure(figure, folder / "classes.png")
