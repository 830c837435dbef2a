"""What JAX's twins share: a step is one function under `jit`, what it replaces is donated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .side import Arrays, Mean, Rates, Side

Tree = dict[str, Any]
#: (weights, statistics, batch, key of dropout or None) -> loss, (further figures, new statistics)
Loss = Callable[[Tree, Tree, Arrays, Any], tuple[Any, tuple[Tree, Tree]]]
#: (weights, statistics, batch) -> figures
Figures = Callable[[Tree, Tree, Arrays], Tree]


class JaxSide(Side):
    """Trains weights with AdamW.

    Args:
        weights: learnt ones and running statistics, by name.
        loss: of a batch in training.
        figures: of a batch in use.
        decay: the weight decay of a weight, by its array.
        beta2: of AdamW.
        clip: the largest norm of all gradients together; None for any.
        seed: of dropout; None for none.
    """

    def __init__(
        self, weights: Mapping[str, Any], loss: Loss, figures: Figures, seed: int | None,
        decay: Callable[[Any], float], beta2: float = 0.999, clip: float | None = None,
    ) -> None:  # fmt: skip
        learnt = {k: jnp.asarray(w) for k, w in weights.items() if "running_" not in k}
        self.dtype = next(iter(learnt.values())).dtype
        self.state: Tree = {
            "weights": learnt,
            "statistics": {k: jnp.asarray(w) for k, w in weights.items() if "running_" in k},
            "first": jax.tree.map(jnp.zeros_like, learnt),
            "second": jax.tree.map(jnp.zeros_like, learnt),
            "count": jnp.zeros((), self.dtype),
            "key": None if seed is None else jax.random.key(seed),
        }
        self.take = jax.jit(_step(loss, decay, beta2, clip), donate_argnums=0)
        self.figures = jax.jit(figures)

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        found: Tree
        self.state, found = self.take(self.state, batch, np.array(rates, self.dtype))
        return found

    def wait(self) -> None:
        jax.block_until_ready(self.state)

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        found = Mean()
        for batch in batches:
            values = self.figures(self.state["weights"], self.state["statistics"], batch)
            found.add(values, len(batch[0]))
        return found.means()

    def snapshot(self) -> Any:
        kept = {name: self.state[name] for name in ("weights", "statistics")}
        return jax.tree.map(np.array, kept)  # copies: the next step donates what is there

    def restore(self, kept: Any) -> None:
        self.state |= jax.tree.map(jnp.asarray, kept)


def _step(
    loss: Loss, decay: Callable[[Any], float], beta2: float, clip: float | None
) -> Callable[[Tree, Arrays, Any], tuple[Tree, Tree]]:
    def step(state: Tree, batch: Arrays, rates: Any) -> tuple[Tree, Tree]:
        key, own = (None, None) if state["key"] is None else jax.random.split(state["key"])
        slope = jax.value_and_grad(loss, has_aux=True)
        (value, (more, statistics)), grads = slope(
            state["weights"], state["statistics"], batch, own
        )
        if clip is not None:
            grads = clipped(grads, clip)
        new = moved(state, grads, rates, decay, beta2)
        return state | new | {"statistics": statistics, "key": key}, {"loss": value, **more}

    return step


def clipped(grads: Tree, most: float) -> Tree:
    """Return gradients whose norm, of all together, is at most so long."""
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in grads.values()))
    scale = jnp.minimum(1.0, most / (norm + 1e-6))
    return {name: g * scale for name, g in grads.items()}


def moved(
    state: Tree, grads: Tree, rates: Any, decay: Callable[[Any], float], beta2: float
) -> Tree:
    """Return weights, moments and the count after a step of AdamW, as PyTorch defines it."""
    (lr, beta1), count = rates, state["count"] + 1
    weights, first, second = {}, {}, {}
    for name, g in grads.items():
        first[name] = m = beta1 * state["first"][name] + (1 - beta1) * g
        second[name] = v = beta2 * state["second"][name] + (1 - beta2) * g * g
        old = state["weights"][name]
        kept = old * (1 - lr * decay(old))
        root = jnp.sqrt(v / (1 - beta2**count)) + 1e-8
        weights[name] = kept - lr / (1 - beta1**count) * m / root
    return {"weights": weights, "first": first, "second": second, "count": count}
