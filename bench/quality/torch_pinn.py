"""PyTorch's twin of the recipe pinn: Adam, then its own L-BFGS, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd import grad
from torch.nn import functional as F

from toumei.data.burgers import NU
from toumei.recipes.pinn import BORDER, ITERATIONS, SCALE

from .pinn import first_of, relative
from .side import Arrays, Rates, Setup
from .torch_side import TorchSide, load


def make(rung: str, setup: Setup) -> TorchSide:
    model = load(PINN(setup.facts["width"], setup.facts["depth"]).double(), setup)
    return TorchPINN(model, torch.optim.Adam(model.parameters(), fused=True), first_of(setup))


class PINN(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        inputs = [2, *[width] * (depth - 1)]
        self.hidden = nn.ModuleList([nn.Linear(n, width) for n in inputs])
        self.output = nn.Linear(width, 1)

    def forward(self, x: Any, t: Any) -> Any:
        h = torch.cat([x, 2 * t - 1], 1)
        for layer in self.hidden:
            h = torch.tanh(layer(h))
        return self.output(h)


def residual(u: Any, x: Any, t: Any) -> Any:
    """By how much a network misses the Burgers equation."""
    x, t = x.detach().requires_grad_(), t.detach().requires_grad_()
    value = u(x, t)
    u_x, u_t = grad(value.sum(), [x, t], create_graph=True)
    (u_xx,) = grad(u_x.sum(), x, create_graph=True)
    return u_t + value * u_x - NU * u_xx


def losses(u: Any, batch: tuple[Any, ...]) -> dict[str, Any]:
    inside, border, value = batch
    equation = residual(u, inside[:, :1], inside[:, 1:]).square().mean()
    edge = F.mse_loss(u(border[:, :1], border[:, 1:]), value)
    return {"loss": SCALE * (equation + BORDER * edge)}


class TorchPINN(TorchSide):
    """Adam for the `first` steps, then L-BFGS."""

    def __init__(self, model: Any, optimizer: Any, first: int) -> None:
        super().__init__(model, optimizer, losses)
        self.first, self.steps = first, 0

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        self.steps += 1
        if self.steps <= self.first:
            return super().step(batch, rates)
        if self.steps == self.first + 1:
            self.optimizer = torch.optim.LBFGS(
                self.model.parameters(), max_iter=ITERATIONS, tolerance_grad=0,
                tolerance_change=0, line_search_fn="strong_wolfe",
            )  # fmt: skip
        tensors = self._tensors(batch)

        def closure() -> Any:
            self.optimizer.zero_grad()
            loss = self.figures(self.model, tensors)["loss"]
            loss.backward()
            return loss

        return {"loss": self.optimizer.step(closure)}

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        with torch.inference_mode():
            return relative(
                (self.model(points[:, :1], points[:, 1:]).numpy(), exact.numpy())
                for points, exact in map(self._tensors, batches)
            )
