"""The bench's PyTorch twins of recipes against the recipes: same weights, same batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest

import toumei as tm
from toumei.recipes import find, generators
from toumei.recipes.recipe import Budget, Facts

torch = pytest.importorskip("torch")

from bench.quality import torch_generators  # noqa: E402  (needs torch)
from bench.quality.rungs import make  # noqa: E402
from bench.quality.side import Arrays, Rates, Setup  # noqa: E402

IMAGE: Facts = {"classes": [str(k) for k in range(10)], "shape": [3, 8, 8]}
VIT = {"patch": 2, "depth": 2, "heads": 2, "dim": 16, "inner": 24}
GAN = {"latent": 12, "width": 4}


class Case(NamedTuple):
    """A recipe in a small size.

    Args:
        facts: of its data.
        lr: learning rate of its budget.
        kind: what a batch is.
    """

    facts: Facts
    lr: float
    kind: str


CASES = {
    "resnet": Case(IMAGE, 0.2, "soft"),
    "vit": Case({**IMAGE, **VIT}, 5e-3, "soft"),
    "gan": Case(GAN, 2e-3, "digits"),
    "wgan": Case(GAN, 1e-3, "digits"),
    "vae": Case({"hidden": 30, "latent": 5}, 2e-3, "grey"),
}


def batches(kind: str, count: int, soft: bool = True) -> Iterator[Arrays]:
    """Yield images and labels: a pattern for each class, and noise."""
    rng = np.random.default_rng(0)
    size = (3, 8, 8) if kind == "soft" else (1, 28, 28)
    patterns = rng.normal(size=(10, *size))
    for _ in range(count):
        labels = rng.integers(0, 10, 24)
        images = patterns[labels] + 0.5 * rng.normal(size=(24, *size))
        share = float(rng.uniform(0.5, 1))
        hot = np.eye(10, dtype=tm.get_default_dtype())[labels]
        mixed = share * hot + (1 - share) * np.roll(hot, 1, 0)
        change = {"soft": lambda x: x, "digits": np.tanh, "grey": lambda x: 1 / (1 + np.exp(-x))}
        images = change[kind](images).astype(tm.get_default_dtype())
        yield images, mixed if soft and kind == "soft" else labels


class Pair:
    """A recipe's trainer and its twin, from the same weights."""

    def __init__(self, rung: str, epochs: int = 2, steps: int = 10) -> None:
        self.case, recipe = CASES[rung], find(rung)
        tm.manual_seed(0)
        model = recipe.model(self.case.facts)
        for name, p in model.named_parameters():
            if rung == "vit" and "heads" in name:
                tm.nn.init.normal_(p, 0, 0.1)  # zeros would hide the rest in the first step
        budget = Budget(epochs, 24, self.case.lr)
        self.trainer: Any = recipe.trainer(model, budget, steps)
        self.trainer.compile = False
        weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
        self.setup = Setup(self.case.facts, weights, budget, steps, 0, exact=True)
        self.twin: Any = make("torch", rung, self.setup)
        self.chance = 0

    def step(self, batch: Arrays) -> tuple[dict[str, float], dict[str, float]]:
        """Let both take a step; return the losses of each."""
        group, self.chance = self.trainer.optimizer.param_groups[0], self.chance + 1
        momentum = group["betas"][0] if "betas" in group else group["momentum"]
        tm.manual_seed(self.chance)
        theirs = self.twin.step(batch, Rates(group["lr"], momentum))
        tm.manual_seed(self.chance)
        self.trainer.model.train()
        ours = self.trainer.run_step("training_step", tuple(map(tm.from_numpy, batch)))
        self.trainer.steps += 1
        self.trainer._after_update()
        found = {name: float(ours[name]) for name in theirs}
        return found, {name: float(value) for name, value in theirs.items()}


@contextmanager
def float64() -> Iterator[None]:
    """Compute in float64, so that what differs is no rounding."""
    tm.set_default_dtype(tm.float64)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        tm.set_default_dtype(tm.float32)
        torch.set_default_dtype(torch.float32)


Trained = tuple[Pair, list[Any]]


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest) -> Trained:
    """A pair after 12 steps, and its losses; in float64."""
    with float64():
        pair = Pair(request.param)
        return pair, [pair.step(batch) for batch in batches(pair.case.kind, 12)]


def test_losses(trained: Trained) -> None:
    _, losses = trained
    for ours, theirs in losses:
        assert ours.keys() == theirs.keys() and ours.keys() & {"loss", "loss_d"}
        assert theirs == pytest.approx(ours, rel=1e-9)
    first, last = losses[0][0], losses[-1][0]
    assert all(abs(last[name] / value - 1) > 0.01 for name, value in first.items())


def test_weights_and_statistics(trained: Trained) -> None:
    pair, _ = trained
    ours, theirs = pair.trainer.model.state_dict(), pair.twin.model.state_dict()
    assert list(theirs) == list(ours)
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name].numpy(), value.numpy(), 1e-8, 1e-11, err_msg=name)


@float64()
def test_what_is_measured(trained: Trained) -> None:
    """The weights that are measured are the recipe's: of a GAN, the averaged ones."""
    pair, _ = trained
    ours, theirs = pair.trainer.evaluated.state_dict(), pair.twin.snapshot()
    assert list(theirs) == list(ours)
    for name, value in ours.items():
        np.testing.assert_allclose(theirs[name].numpy(), value.numpy(), 1e-8, 1e-11, err_msg=name)
    if pair.case.kind == "digits":
        z = generators.noise(300, pair.case.facts["latent"], seed=3)
        wanted = generators.draw(pair.trainer.evaluated.eval(), z).numpy()
        np.testing.assert_allclose(pair.twin.samples(300, seed=3), wanted, 1e-9)
    else:
        few = list(batches(pair.case.kind, 3, soft=False))
        few[2] = few[2][0][:7], few[2][1][:7]
        found = pair.trainer.evaluate([tuple(map(tm.from_numpy, batch)) for batch in few])
        assert pair.twin.evaluate(few) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("rung", ["gan", "vae"])
def test_generated_digits(rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn from a seed, and what the judge says of it, in float32."""
    for module in (generators, torch_generators):
        monkeypatch.setattr(module, "JUDGED", 300)
    pair = Pair(rung)
    few = list(batches(pair.case.kind, 5))
    for batch in few:
        pair.step(batch)
    model = pair.trainer.evaluated.eval()
    wanted = generators.draw(model, generators.noise(300, pair.case.facts["latent"], seed=3))
    np.testing.assert_allclose(pair.twin.samples(300, seed=3), wanted.numpy(), 1e-3, 1e-5)
    found = pair.trainer.evaluate([tuple(map(tm.from_numpy, batch)) for batch in few])
    assert pair.twin.evaluate(few) == pytest.approx(found, rel=1e-3)
    assert found.keys() == ({"frechet", "rarest"} if rung == "gan" else {"loss"})


@pytest.mark.parametrize("rung", CASES)
def test_a_snapshot_stays(rung: str) -> None:
    twin, (first, *more) = Pair(rung).twin, batches(CASES[rung].kind, 6)
    twin.step(first, Rates(1e-3, 0.9))
    kept = twin.snapshot()
    before = {name: value.numpy().copy() for name, value in kept.items()}
    for batch in more:
        twin.step(batch, Rates(1e-3, 0.9))
    changed = twin.snapshot()
    assert any((changed[name].numpy() != value).any() for name, value in before.items())
    twin.restore(kept)
    for name, value in twin.snapshot().items():
        assert (value.numpy() == before[name]).all(), name


@pytest.mark.parametrize("rung", ["gan", "wgan", "vae"])
def test_chance_follows_the_seed(rung: str) -> None:
    """Unless noise is Toumei's, it is the side's own: of its seed alone."""
    setup, batch = Pair(rung).setup, next(batches(CASES[rung].kind, 1))
    losses = []
    for seed in (1, 1, 2):
        twin = make("torch", rung, setup._replace(seed=seed, exact=False))
        losses.append({n: float(v) for n, v in twin.step(batch, Rates(1e-3, 0.9)).items()})
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("count", [1, 100, 1790, 1792, 10_000])
def test_the_moving_average(count: int) -> None:
    """It moves as the recipes' does, long after a test's few steps too."""
    wanted = generators._moving(tm.tensor(1.0), tm.tensor(3.0), tm.tensor(count))
    one, three = torch.tensor(1.0), torch.tensor(3.0)
    found = torch_generators.moving(one, three, torch.tensor(count))
    assert found.item() == pytest.approx(float(wanted), rel=1e-6)
