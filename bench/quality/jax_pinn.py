"""JAX's twin of the recipe pinn: Adam, then L-BFGS, in float64.

JAX has no L-BFGS of its own that goes on from step to step, so that Toumei's takes the steps, on
losses and gradients that JAX computes under `jit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bench.peers.jax_networks import Tree, linear, part
from toumei import from_numpy, nn, optim
from toumei.data.burgers import NU
from toumei.recipes.pinn import BORDER, ITERATIONS, SCALE

from .jax_networks import transposed
from .jax_side import JaxSide
from .pinn import first_of, relative
from .side import Array, Arrays, Rates, Setup

jax.config.update("jax_enable_x64", True)


def make(rung: str, setup: Setup) -> JaxPINN:
    return JaxPINN(transposed(dict(setup.weights)), first_of(setup))


def pinn(p: Tree, x: Array, t: Array) -> Array:
    h = jnp.concatenate([x, 2 * t - 1], 1)
    for i in range(sum(name.endswith("bias") for name in p) - 1):
        h = jnp.tanh(linear(part(p, f"hidden.{i}"), h))
    return linear(part(p, "output"), h)


def loss_of(p: Tree, batch: Arrays) -> Array:
    """The loss; the second derivative is taken forwards, over backwards: the fastest."""
    inside, border, wanted = batch
    x, t = inside[:, :1], inside[:, 1:]

    def slopes(x: Array) -> tuple[Any, Array]:
        def total(x: Array, t: Array) -> tuple[Array, Array]:
            u = pinn(p, x, t)
            return u.sum(), u

        return jax.grad(total, (0, 1), has_aux=True)(x, t)

    ((u_x, u_t), u), ((u_xx, _), _) = jax.jvp(slopes, (x,), (jnp.ones_like(x),))
    equation = jnp.square(u_t + u * u_x - NU * u_xx).mean()
    edge = jnp.square(pinn(p, border[:, :1], border[:, 1:]) - wanted).mean()
    return SCALE * (equation + BORDER * edge)


def _loss(p: Tree, s: Tree, batch: Arrays, key: Any) -> tuple[Any, tuple[Tree, Tree]]:
    return loss_of(p, batch), ({}, s)


def _figures(p: Tree, s: Tree, batch: Arrays) -> Any:
    points, _ = batch
    return pinn(p, points[:, :1], points[:, 1:])


class JaxPINN(JaxSide):
    """Adam for the `first` steps, then L-BFGS on all weights as one vector."""

    def __init__(self, weights: Mapping[str, Any], first: int) -> None:
        super().__init__(weights, _loss, _figures, None, lambda w: 0.0)
        self.first, self.steps = first, 0

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        self.steps += 1
        if self.steps <= self.first:
            return super().step(batch, rates)
        if self.steps == self.first + 1:
            self._take_over()

        def closure() -> Any:
            loss, slope = self.slope(self.vector.detach().numpy(), batch)
            self.vector.grad = from_numpy(np.array(slope))
            return from_numpy(np.array(loss))

        loss = self.optimizer.step(closure)
        self.state["weights"] = self.unravel(self.vector.detach().numpy().copy())
        return {"loss": loss}

    def _take_over(self) -> None:
        flat, self.unravel = ravel_pytree(self.state["weights"])
        self.vector = nn.Parameter(from_numpy(np.array(flat)))
        self.optimizer = optim.LBFGS(
            [self.vector], max_iter=ITERATIONS, tolerance_grad=0, tolerance_change=0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip
        self.slope = jax.jit(
            jax.value_and_grad(lambda flat, batch: loss_of(self.unravel(flat), batch))
        )

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        weights = self.state["weights"]
        return relative((np.asarray(self.figures(weights, {}, b)), b[1]) for b in batches)
