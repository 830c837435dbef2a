"""WGAN-GP: its penalty in closed form, whose turn it is, that it learns and resumes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import toumei as tm
from tests.recipes.few_images import run_on_few
from toumei import nn
from toumei.models.wgan import WGAN, Critic, gradient_penalty
from toumei.recipes import generators
from toumei.recipes.recipe import Sampling
from toumei.recipes.run import Run, open_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "JUDGED", 500)
        yield run_on_few("wgan", tmp_path_factory.mktemp("wgan"), 600, 200, epochs=4, batch=12)


def test_sizes() -> None:
    model = WGAN(latent=100, width=64)
    count = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    convolutions = 64 * 16, 128 * 64 * 16, 256 * 128 * 9
    assert count["critic"] == sum(convolutions) + 64 + 128 + 256 + 256 * 16 + 1
    norms = 2 * (64 + 128 + 256)
    assert count["generator"] == 100 * 256 * 16 + sum(convolutions) + 1 + norms
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.critic.modules())
    images, scores = model(tm.randn(3, 100))
    assert images.shape == (3, 1, 28, 28) and scores.shape == (3, 1)


def test_penalty_of_a_linear_critic() -> None:
    """Its slope is its weight everywhere: the penalty is (|w| − 1)², its slope 2 (1 − 1/|w|) w."""
    critic = nn.Linear(3, 1).double()
    with tm.no_grad():
        critic.weight.copy_(tm.tensor([[3.0, 0.0, 4.0]]))
    real, fake = (tm.randn(6, 3, dtype="float64") for _ in range(2))
    penalty = gradient_penalty(critic, real, fake, tm.rand(6, 1, dtype="float64"))
    assert float(penalty) == pytest.approx(16)
    penalty.backward()
    np.testing.assert_allclose(critic.weight.grad.numpy(), [[2 * 0.8 * 3, 0, 2 * 0.8 * 4]])
    assert critic.bias.grad is None or float(critic.bias.grad.abs().max()) == 0


def test_where_the_penalty_looks() -> None:
    """A critic x² has the slope 2x; ε says how near to the real images x is."""
    real, fake = tm.full((4, 1), 3.0), tm.full((4, 1), 1.0)
    epsilon = tm.tensor([[0.0], [0.25], [0.5], [1.0]])
    found = float(gradient_penalty(lambda x: x * x, real, fake, epsilon))
    assert found == pytest.approx(np.mean([(2 * x - 1) ** 2 for x in (1, 1.5, 2, 3)]))


def test_the_slope_of_the_penalty_is_that_of_finite_differences() -> None:
    tm.manual_seed(0)
    critic = Critic(2).double()
    real, fake = (tm.rand(2, 1, 28, 28, dtype="float64") for _ in range(2))
    place = tm.tensor([[[[0.3]]], [[[0.8]]]], dtype="float64")
    gradient_penalty(critic, real, fake, place).backward()
    for p in (critic.down1.weight, critic.down3.weight, critic.output.weight):
        step = 1e-5 * tm.randn(*p.shape, dtype="float64")
        values = []
        for sign in (1, -2):  # from p to p + step, then to p - step
            with tm.no_grad():
                p.add_(sign * step)
            values.append(float(gradient_penalty(critic, real, fake, place)))
        with tm.no_grad():
            p.add_(step)
        assert float((p.grad * step).sum()) == pytest.approx((values[0] - values[1]) / 2, rel=1e-4)


def test_the_generator_learns_at_every_fifth_batch(run: Run) -> None:
    count = run.trainer.steps
    assert count == 4 * (540 // 12)
    for optimizer, steps in [(run.trainer.optimizer, count // 5), (run.trainer.optimizer_d, count)]:
        state = next(iter(optimizer.state_dict()["state"].values()))
        assert int(state["step"]) == steps


def test_it_learns(run: Run) -> None:
    found = run.trainer.history["validation_frechet"]
    assert min(found) < 0.8 * found[0]
    distance = run.trainer.history["wasserstein"]
    assert distance[-1] < max(distance) and min(distance) > 0


def test_what_it_leaves(run: Run) -> None:
    for name in ("loss.png", "digits.png", "samples.png", "classes.png"):
        assert np.asarray(Image.open(run.folder / name).convert("L")).std() > 5
    with Image.open(run.folder / "digits.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 4


def test_samples_need_the_folder_alone(run: Run, tmp_path: pathlib.Path) -> None:
    opened = open_finished(run.folder)
    assert opened.recipe.sample(opened, Sampling(count=3, out=tmp_path / "a.png"))
    assert (tmp_path / "a.png").exists()


def test_it_resumes_within_an_epoch(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between two steps of the generator, it goes on where the critic's turn was."""

    def start(folder: pathlib.Path) -> Run:
        return run_on_few("wgan", folder, 130, 40, epochs=1, batch=16, fit=False)

    monkeypatch.setattr(generators, "JUDGED", 100)
    whole = start(tmp_path / "whole")
    whole.trainer.fit(whole.train, whole.validation, epochs=1)
    cut = start(tmp_path / "cut")
    batches = iter(cut.train)
    cut.trainer.loaders = {"train": cut.train}
    for _ in range(3):
        trainer = cut.trainer
        trainer._record(trainer.training_step(next(batches)), 16)
        trainer.steps, trainer.batches = trainer.steps + 1, trainer.batches + 1
        trainer._after_update()
    state = cut.trainer.state_dict()
    again = start(tmp_path / "again")
    again.trainer.load_state_dict(state)
    again.trainer.fit(again.train, again.validation, epochs=1)
    for name, value in whole.model.state_dict().items():
        assert (again.model.state_dict()[name] == value).all(), name
