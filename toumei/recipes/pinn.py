"""A network learns a shock wave from its differential equation alone.

No solution is shown to it: only the Burgers equation, how it begins and what holds at the walls.
The exact solution (by the Cole–Hopf formula) is for the validation and the test.  The figure to
reach is that of Raissi et al., 2019: a relative L2 error of 6.7e-4.

Each step sees 10,000 points inside, as theirs did, and as many on the border; each epoch has other
ones.  Adam comes first, to find the way down; then L-BFGS, which the paper used: the loss is a
long, narrow valley, at whose bottom a method without curvature all but stands still.  L-BFGS
lives on small differences between gradients, so that everything is computed in float64.
Papers: Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", Journal of
Computational Physics 378, 2019; Lu, Meng, Mao and Karniadakis, "DeepXDE", SIAM Review 63, 2021
(Adam before L-BFGS); Wu, Zhu, Tan, Kartha and Lu, "A comprehensive study of non-adaptive and
residual-based adaptive sampling for physics-informed neural networks", Computer Methods in Applied
Mechanics and Engineering 403, 2023 (drawing the points anew); Wang, Teng and Perdikaris,
"Understanding and mitigating gradient flow pathologies in physics-informed neural networks", SIAM
Journal on Scientific Computing 43, 2021 (why the border weighs more: the gradient of the equation's
part is far larger, and drowns the border's).
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import nn, optim
from ..autograd import no_grad
from ..data import Batch, DataLoader, Dataset, TensorDataset, burgers_solution
from ..data.burgers import NU
from ..data.keys import item_keys, uniform
from ..errors import ToumeiError
from ..models.pinn import PINN, burgers_residual
from ..ops import from_numpy, zeros
from ..tensor import Tensor
from ..train import Trainer
from ..train.history import Row
from .recipe import Budget, Data, Facts, Options, Recipe
from .run import Opened, Run

F = nn.functional
POINTS = 10_000  # inside, and as many on the border
BORDER = 10.0  # how much more a miss at the border weighs than one of the equation
SCALE = 1e4  # of the loss: L-BFGS leaves out steps whose Δp·Δg is below 1e-10, soon all of them
STEPS = 25  # in an epoch
ITERATIONS = 20  # of L-BFGS in one of its steps


class Domain(Dataset[tuple[Any, ...]]):
    """Random points of −1 ≤ x ≤ 1, 0 ≤ t ≤ 1, other ones in each epoch: inside, and on the border.

    Points that stay the same for long are learnt by heart: the network then obeys the equation
    there, and puts its shock in between.

    A sample is (inside (x, t), border (x, t), u on the border); the border is the start, where
    u = −sin(π x), or a wall, where u = 0.
    """

    def __init__(self, points: int) -> None:
        self.points = points

    def __len__(self) -> int:
        return self.points

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if not 0 <= index < self.points:
            raise IndexError(f"index {index} is out of range for {self.points} points")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        x, t, place, choice = uniform(item_keys(indices), 4).T
        along = 2 * place - 1
        start = choice < 0.5
        wall = np.where(choice < 0.75, -1.0, 1.0)
        inside = np.stack([2 * x - 1, t], axis=1)
        border = np.stack([np.where(start, along, wall), np.where(start, 0, place)], axis=1)
        value = np.where(start, -np.sin(np.pi * along), 0.0)[:, None]
        return Batch(*(from_numpy(a) for a in (inside, border, value)))


class PINNTrainer(Trainer):
    """Trains on the equation inside and the values on the border; measures the whole field.

    Args:
        model: the network.
        optimizer: for the first `first` steps.
        first: after so many steps, L-BFGS takes over.
        more: as for Trainer.
    """

    def __init__(
        self, model: nn.Module, optimizer: optim.Optimizer, first: int, **more: Any
    ) -> None:
        super().__init__(model, optimizer, F.mse_loss, **more)
        self.first = first

    def training_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        if self.steps < self.first:
            return super().training_step(batch)
        if self.steps == self.first:
            self._take_over()
        found: list[dict[str, Tensor]] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            found.append(self.run_step("accumulate_step", batch))
            return found[-1]["loss"]

        self.optimizer.step(closure)
        return found[0]

    def _take_over(self) -> None:
        """Let L-BFGS go on from here; a whole step of it is 1, whatever the first one's rate."""
        self.scheduler = None
        self.optimizer = optim.LBFGS(
            self.model.parameters(),
            max_iter=ITERATIONS,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["steps"] > self.first:
            self._take_over()
        super().load_state_dict(state)

    def accumulate_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        inside, border, value = batch
        residual = burgers_residual(self.model, inside[:, :1], inside[:, 1:], NU)
        equation = (residual * residual).mean()
        edge = self.loss(self.model(border[:, :1], border[:, 1:]), value)
        loss = SCALE * (equation + BORDER * edge)
        self.backward(loss, len(inside))
        parts = {"loss": loss, "equation": equation, "border": edge}
        return {name: part.detach() for name, part in parts.items()}

    def validation_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        points, exact = batch
        miss = self.model(points[:, :1], points[:, 1:]) - exact
        return {"missed": (miss * miss).mean(), "whole": (exact * exact).mean()}

    def evaluate(self, batches: Iterable[Any]) -> Row:
        """Return the relative L2 error: ‖predicted − exact‖ / ‖exact‖."""
        means = super().evaluate(batches)
        return {"error": (means["missed"] / means["whole"]) ** 0.5}


class PINNRecipe(Recipe):
    """A network u(x, t) of the Burgers equation u_t + u u_x = (0.01/π) u_xx."""

    name = "pinn"
    title = "PINN of the Burgers equation"
    metric = "error"
    mode = "min"
    source = "Raissi et al., 2019: relative L2 error 6.7e-4"

    def data(self, options: Options) -> Data:
        fast = options.preset == "fast"
        count = _count(options)
        return Data(
            text="Burgers equation, nu = 0.01/π; exact solution by the Cole–Hopf formula",
            train=Domain(count),
            validation=_exact(*_grid(200, 50)),
            test=_exact(*_grid(256, 100)),
            budget=Budget(epochs=12 if fast else 40, batch_size=count, lr=5e-3),
            target=None if fast else 6.7e-4,
            facts={"width": 20, "depth": 8},
        )

    def model(self, facts: Facts) -> PINN:
        return PINN(facts["width"], facts["depth"]).double()

    def example(self, facts: Facts) -> tuple[Any, ...]:
        return zeros(1, 1, dtype="float64"), zeros(1, 1, dtype="float64")

    def loader(self, dataset: Any, batch_size: int, *, training: bool, seed: int) -> DataLoader:
        """Return batches of points; in training each has all of them: the loss of L-BFGS."""
        if not training:
            return super().loader(dataset, batch_size, training=False, seed=seed)
        return DataLoader(dataset, batch_sampler=[range(len(dataset))] * STEPS, seed=seed)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        first = (budget.epochs + 1) // 2 * steps_per_epoch  # the other half is that of L-BFGS
        optimizer = optim.Adam(model.parameters(), lr=budget.lr)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=budget.lr, total_steps=first, pct_start=0.05, final_div_factor=1e2
        )
        return PINNTrainer(model, optimizer, first, scheduler=schedule, schedule_every="step")

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.fields import plot_field

        x, t = _grid(256, 100)
        inside, _, _ = run.data.train.__getitems__(range(1000)).columns
        plot_field(
            x, t, _field(run.model, x, t), burgers_solution(x[:, None], t),
            run.folder / "field.png", points=inside.numpy(),
        )  # fmt: skip
        return {}

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        if out is not None:
            raise ToumeiError("the PINN's answer is a number: there is no picture for --out")
        try:
            x, t = (float(word) for word in line.replace(",", " ").split())
        except ValueError:
            raise ToumeiError(
                f'the input is a place and a time, such as "0.25 0.5", not {line!r}'
            ) from None
        if not (-1 <= x <= 1 and 0 <= t <= 1):
            raise ToumeiError(
                f"the network knows -1 <= x <= 1, 0 <= t <= 1, not x = {x:g}, t = {t:g}"
            )
        found = _field(opened.model, np.array([x]), np.array([t]))[0, 0]
        exact = float(burgers_solution(x, t))
        return (
            f"u({x:g}, {t:g}) = {found:.5f}   exact {exact:.5f}   off by {abs(found - exact):.1e}"
        )


def _count(options: Options) -> int:
    """Return how many points there are; --samples and --batch-size say it."""
    given = {n for n in (options.samples, options.batch_size) if n is not None}
    if len(given) > 1:
        raise ToumeiError("each step of 'pinn' needs all points: leave --batch-size out")
    return given.pop() if given else POINTS


def _grid(places: int, times: int) -> tuple[Any, Any]:
    """Return places of [−1, 1] and times of [0, 0.99], as in the paper's table of the solution."""
    return np.linspace(-1, 1, places), np.linspace(0, 0.99, times)


def _pairs(x: Any, t: Any) -> Any:
    """Return all (x, t) of a grid.  Shape: (n), (m) -> (n·m, 2)"""
    return np.stack(np.broadcast_arrays(x[:, None], t), axis=-1).reshape(-1, 2)


def _exact(x: Any, t: Any) -> TensorDataset:
    """Return the points of a grid with the exact solution there."""
    points, values = _pairs(x, t), burgers_solution(x[:, None], t).reshape(-1, 1)
    return TensorDataset(*(from_numpy(a) for a in (points, values)))


@no_grad()
def _field(model: nn.Module, x: Any, t: Any) -> Any:
    """Return what the network predicts on a grid.  Shape: (n), (m) -> (n, m)"""
    points = from_numpy(_pairs(x, t))
    return model(points[:, :1], points[:, 1:]).numpy().reshape(len(x), len(t))


RECIPE = PINNRecipe()
