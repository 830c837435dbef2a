"""The PINN: its derivatives, that it learns the equation, and what it draws and says."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import ToumeiError
from toumei.models.pinn import PINN, burgers_residual
from toumei.recipes import find, pinn
from toumei.recipes.pinn import STEPS
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run, open_finished
from toumei.train import Callback, Trainer

FEW = Options(epochs=2, samples=60, compile=False, checkpoint_seconds=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(preset="fast", epochs=3, samples=500)
    run = Run(find("pinn"), tmp_path_factory.mktemp("pinn"), options)
    run.fit()
    return run


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch of 3 steps, one of L-BFGS with 4 iterations."""
    monkeypatch.setattr(pinn, "STEPS", 3)
    monkeypatch.setattr(pinn, "ITERATIONS", 4)


def few(folder: pathlib.Path) -> Run:
    """Return a run of two epochs that only writes checkpoints, after each step."""
    run = Run(find("pinn"), folder, FEW)
    run.trainer.callbacks = run.trainer.callbacks[-1:]
    return run


class After(Callback):
    """Does something after each batch."""

    def __init__(self, what: Callable[[Trainer], object]) -> None:
        self.what = what

    def on_batch_end(self, trainer: Trainer) -> None:
        self.what(trainer)


def remembered(run: Run) -> list[np.ndarray]:
    """Return the weights and all that L-BFGS remembers."""
    state = run.trainer.optimizer.state_dict()["state"][0]
    values = [*run.model.state_dict().values(), *state.values()]
    flat = [x for value in values for x in (value if isinstance(value, list) else [value])]
    assert len(flat) > 20 + 2 * 3
    return [x.numpy() if isinstance(x, tm.Tensor) else np.asarray(x) for x in flat]


def test_it_has_the_size_of_the_paper() -> None:
    assert sum(p.numel() for p in PINN(20, 8).parameters()) == 3021


def test_the_residual_is_that_of_finite_differences() -> None:
    tm.manual_seed(0)
    net, h = PINN(8, 2).double(), 1e-4
    x, t = tm.rand(20, 1, dtype="float64"), tm.rand(20, 1, dtype="float64")
    with tm.no_grad():
        u, right, left = net(x, t), net(x + h, t), net(x - h, t)
        u_t = (net(x, t + h) - net(x, t - h)) / (2 * h)
        by_hand = u_t + u * (right - left) / (2 * h) - 0.3 * (right - 2 * u + left) / h**2
    assert np.abs((burgers_residual(net, x, t, 0.3) - by_hand).detach().numpy()).max() < 1e-6


def test_the_residual_of_a_solution_is_zero() -> None:
    class Wave(nn.Module):
        """u = −tanh(x / 2 nu) stands still: u u_x = nu u_xx."""

        def forward(self, x: tm.Tensor, t: tm.Tensor) -> tm.Tensor:
            return -(x / (2 * 0.1)).tanh() + 0 * t

    x, t = tm.rand(30, 1, dtype="float64") * 2 - 1, tm.rand(30, 1, dtype="float64")
    assert float(burgers_residual(Wave(), x, t, 0.1).abs().max()) < 1e-12


def test_points_differ_from_epoch_to_epoch_and_border_values_are_right() -> None:
    loader = Run(find("pinn"), pathlib.Path("nowhere"), Options(samples=1000, seed=3)).train
    batches, others = list(loader), list(loader)
    assert len(batches) == STEPS and all(len(batch[0]) == 1000 for batch in batches)
    inside, border, value = (part.numpy() for part in batches[0])
    assert np.array_equal(inside, batches[-1][0].numpy())  # L-BFGS needs one loss
    assert not np.isin(inside, others[0][0].numpy()).any()
    x, t = border.T
    assert ((t == 0) | (np.abs(x) == 1)).all() and {-1.0, 1.0} <= set(x.tolist())
    expected = np.where(t == 0, -np.sin(np.pi * x), 0)
    assert np.abs(value[:, 0] - expected).max() < 1e-15
    assert 0.4 < (t == 0).mean() < 0.6 and inside.dtype == value.dtype == np.float64
    low, high = inside.min(axis=0), inside.max(axis=0)
    assert np.abs([low - [-1, 0], high - 1]).max() < 0.02 and (np.abs(inside) <= 1).all()


def test_each_step_has_all_points() -> None:
    assert find("pinn").data(Options(batch_size=50)).budget.batch_size == 50
    with pytest.raises(ToumeiError, match="leave --batch-size out"):
        find("pinn").data(Options(batch_size=50, samples=100))


def test_lbfgs_takes_over_in_the_second_half_of_the_epochs(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(find("pinn"), pathlib.Path("nowhere"), FEW)
    kinds: list[str] = []
    evaluations: list[int] = []
    run.trainer.callbacks = [After(lambda t: kinds.append(type(t.optimizer).__name__))]
    step = run.trainer.accumulate_step

    def counted(batch: Sequence[tm.Tensor]) -> dict[str, tm.Tensor]:
        evaluations.append(1)
        return step(batch)

    monkeypatch.setattr(run.trainer, "accumulate_step", counted)
    run.trainer.fit(run.train, run.validation, epochs=2)
    assert kinds == ["Adam"] * 3 + ["LBFGS"] * 3
    assert run.trainer.history["lr"][1] == 1
    iterations = run.trainer.optimizer.state_dict()["state"][0]["n_iter"]
    assert 2 * pinn.ITERATIONS < iterations <= 3 * pinn.ITERATIONS  # one memory for all steps
    assert len(evaluations) >= 3 + 3 + iterations


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_run_cut_off_in_either_half_goes_on_to_the_same_last_bit(
    steps: int, tmp_path: pathlib.Path, short: None
) -> None:
    whole, cut, again = few(tmp_path / "whole"), few(tmp_path), few(tmp_path)
    whole.trainer.fit(whole.train, whole.validation, epochs=2)

    def cut_off(trainer: Trainer) -> None:
        if trainer.steps > steps:  # before its checkpoint: the last one is of the step before
            raise KeyboardInterrupt

    cut.trainer.watchers.append(After(cut_off))
    with pytest.raises(KeyboardInterrupt):
        cut.trainer.fit(cut.train, cut.validation, epochs=2)
    again.resume()
    assert again.trainer.steps == steps
    again.trainer.fit(again.train, again.validation, epochs=2)
    for ours, theirs in zip(remembered(again), remembered(whole), strict=True):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    for column in ("loss", "border", "validation_error", "lr"):
        assert again.trainer.history[column] == whole.trainer.history[column]


def test_it_learns(run: Run) -> None:
    loss, error = run.trainer.history["loss"], run.trainer.history["validation_error"]
    assert loss[0] > loss[1] > loss[2]
    assert error[0] > error[1] > 0.4 > 0.25 > error[2]  # that of u = 0 is 1; L-BFGS has one epoch


def test_what_it_leaves(run: Run) -> None:
    names = {"loss.png", "field.png", "model.safetensors", "summary.json", "run.json"}
    assert names <= {p.name for p in run.folder.iterdir()}


def test_predict_needs_the_folder_alone(run: Run, tmp_path: pathlib.Path) -> None:
    opened = open_finished(run.folder)
    assert opened.recipe.predict(opened, "-0.5, 0", None).startswith("u(-0.5, 0) = ")
    for line, words in [("1", "a place and a time"), ("a b", "a place and a time"),
                        ("2 0.5", "the network knows")]:  # fmt: skip
        with pytest.raises(ToumeiError, match=words):
            opened.recipe.predict(opened, line, None)
    with pytest.raises(ToumeiError, match="there is no picture for --out"):
        opened.recipe.predict(opened, "-0.5, 0", tmp_path / "field.png")
    with pytest.raises(ToumeiError, match="holds no run"):
        open_finished(tmp_path)
