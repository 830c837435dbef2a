"""The PINN: its derivatives, that it learns the equation, and what it draws and says."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.data import DataLoader
from toumei.errors import ToumeiError
from toumei.models.pinn import PINN, burgers_residual
from toumei.recipes import find
from toumei.recipes.pinn import Domain
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run, open_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(preset="fast", epochs=4, samples=12_000, batch_size=400)
    run = Run(find("pinn"), tmp_path_factory.mktemp("pinn"), options)
    run.fit()
    return run


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
    loader = DataLoader(Domain(1000), 1000, seed=3)
    (inside, border, value), (other, _, _) = next(iter(loader)), next(iter(loader))
    assert not np.array_equal(inside.numpy(), other.numpy())
    x, t = border.numpy().T
    assert ((t == 0) | (np.abs(x) == 1)).all() and {-1.0, 1.0} <= set(x.tolist())
    expected = np.where(t == 0, -np.sin(np.pi * x), 0)
    assert np.abs(value.numpy()[:, 0] - expected).max() < 1e-6
    assert (np.abs(inside.numpy()[:, 0]) <= 1).all() and 0 < (t == 0).mean() < 1


def test_it_learns(run: Run) -> None:
    loss, error = run.trainer.history["loss"], run.trainer.history["validation_error"]
    assert loss[-1] < loss[0] / 3
    assert min(error) < 0.5  # the error of u = 0 is 1


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
