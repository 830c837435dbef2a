"""JAX's side.  python -m bench.peers.jax THREADS

A step is one function under `jit`; what it replaces (weights, moments, statistics) is donated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers.jax_networks import LOSSES, adversarial
from bench.peers.layouts import converted, inputs_converted
from bench.peers.serve import Arrays, Step, serve, stay_on
from bench.workloads import WORKLOADS, Rule

Tree = dict[str, Any]


class Jax:
    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "numpy": np.__version__}

    def load(self, name: str, inputs: Arrays, weights: Arrays, dropout: bool) -> Step:
        arrays = {k: jnp.asarray(v) for k, v in converted(name, weights).items()}
        given = {k: jnp.asarray(v) for k, v in inputs_converted(inputs).items()}
        state = first_state(arrays)
        step = jax.jit(make_step(name, dropout), donate_argnums=0)

        def take_step() -> list[Any]:
            nonlocal state
            state, losses = step(state, given)
            jax.block_until_ready((state, losses))
            return list(losses)

        return take_step


def first_state(arrays: Tree) -> Tree:
    """Return what a step replaces: weights, their moments, running statistics, a random key."""
    statistics = {k: v for k, v in arrays.items() if "running_" in k}
    weights = {k: v for k, v in arrays.items() if "running_" not in k}
    zeros = partial(jax.tree.map, jnp.zeros_like)
    return {
        "weights": weights,
        "statistics": statistics,
        "first": zeros(weights),
        "second": zeros(weights),
        "count": jnp.zeros((), jnp.float32),
        "key": jax.random.key(0),
    }


def make_step(name: str, dropout: bool) -> Callable[[Tree, Tree], tuple[Tree, Any]]:
    """Return a step of a workload: the state and the inputs -> the new state and the losses."""
    rule = WORKLOADS[name].rule

    def plain(state: Tree, inputs: Tree) -> tuple[Tree, Any]:
        key, own = jax.random.split(state["key"])
        loss = partial(LOSSES[name], inputs=inputs, key=own if dropout else None)
        slope = jax.value_and_grad(loss, has_aux=True)
        (value, statistics), grads = slope(state["weights"], state["statistics"])
        return updated(rule, state, grads, statistics) | {"key": key}, (value,)

    def game(state: Tree, inputs: Tree) -> tuple[Tree, Any]:
        def learn(grads: Tree, weights: Tree) -> Tree:
            """Return some of the weights, a step further."""
            nonlocal state
            state = state | moved(rule, state, grads, state["count"] + 1)
            return {k: state["weights"][k] for k in weights}

        losses, statistics = adversarial(state["weights"], state["statistics"], inputs, learn)
        return state | {"statistics": statistics, "count": state["count"] + 1}, losses

    return game if name == "W9" else plain


def updated(rule: Rule, state: Tree, grads: Tree, statistics: Tree) -> Tree:
    """Return the state after a step by all gradients."""
    count = state["count"] + 1
    return state | moved(rule, state, grads, count) | {"count": count, "statistics": statistics}


def moved(rule: Rule, state: Tree, grads: Tree, count: Any) -> Tree:
    """Return weights and moments after a step by the gradients that are given."""
    names = ("weights", "first", "second")
    out = {name: dict(state[name]) for name in names}
    for k, g in grads.items():
        new = one_moved(rule, *(state[name][k] for name in names), g, count)
        for name, value in zip(names, new, strict=True):
            out[name][k] = value
    return out


def one_moved(rule: Rule, p: Any, m: Any, v: Any, g: Any, count: Any) -> tuple[Any, Any, Any]:
    """Return a weight and its two moments after a step, as PyTorch defines the optimisers."""
    options = rule.options
    if rule.kind == "SGD":
        g = g + options.get("weight_decay", 0.0) * p
        if momentum := options.get("momentum", 0.0):
            g = m = momentum * m + g
        return p - rule.lr * g, m, v
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    if rule.kind == "AdamW":
        p = p * (1 - rule.lr * options.get("weight_decay", 0.01))
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    size = rule.lr / (1 - beta1**count)
    return p - size * m / (jnp.sqrt(v / (1 - beta2**count)) + 1e-8), m, v


if __name__ == "__main__":
    stay_on(int(sys.argv[1]))
    serve(Jax)
