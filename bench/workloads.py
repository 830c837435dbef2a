"""The ten workloads: what each trains, on which numbers, and by which rule.

Each side imports this file, in whatever environment it runs: it needs NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
Data: TypeAlias = dict[str, Array]
Draw: TypeAlias = np.random.Generator

# Sizes that several sides need.
MODEL, HEADS, LENGTH, WORDS = 128, 4, 32, 1000  # W6
BURGERS = 0.01 / np.pi  # W5: the viscosity
LEAK = 0.2  # W9: the slope of leaky ReLU below 0


class Rule(NamedTuple):
    """An optimiser, as PyTorch names and defines it.

    Args:
        kind: "SGD", "Adam" or "AdamW".
        lr: learning rate.
        options: what differs from PyTorch's defaults.
    """

    kind: str
    lr: float
    options: dict[str, Any] = {}  # noqa: RUF012 (never changed)


class Workload(NamedTuple):
    """One of the ten.

    Args:
        title: what is trained, in a few words.
        rule: the optimiser.
        data: draws the inputs of a step.
        dropout: the network has dropout; it is off when losses are compared.
    """

    title: str
    rule: Rule
    data: Callable[[Draw], Data]
    dropout: bool = False


def _normal(draw: Draw, *shape: int) -> Array:
    return draw.standard_normal(shape, np.float32)


def _classified(batch: int, *shape: int) -> Callable[[Draw], Data]:
    """Return what draws inputs and a class from 0 to 9 for each."""

    def data(draw: Draw) -> Data:
        return {"x": _normal(draw, batch, *shape), "y": draw.integers(0, 10, batch)}

    return data


def _burgers(draw: Draw) -> Data:
    """Draw 10,000 points (x, t) in [−1, 1] × [0, 1], and 100 on the boundary with their values."""
    place, time = draw.uniform(-1, 1, (10_000, 1)), draw.uniform(0, 1, (10_000, 1))
    edge = np.concatenate([draw.uniform(-1, 1, (100, 1)), np.zeros((100, 1))], 1)
    value = -np.sin(np.pi * edge[:, :1])
    parts = {"x": place, "t": time, "edge": edge, "value": value}
    return {name: array.astype(np.float32) for name, array in parts.items()}


def _sentences(draw: Draw) -> Data:
    pairs = draw.integers(0, WORDS, (64, 2 * LENGTH + 1))
    source, target = pairs[:, :LENGTH], pairs[:, LENGTH:]
    return {"source": source, "target": target[:, :-1], "y": target[:, 1:]}


def _text(batch: int) -> Callable[[Draw], Data]:
    """Return what draws texts of 64 out of 65 characters; the answer is the next character."""

    def data(draw: Draw) -> Data:
        text = draw.integers(0, 65, (batch, 65))
        return {"x": text[:, :-1], "y": text[:, 1:]}

    return data


def _digits_and_noise(draw: Draw) -> Data:
    return {"real": np.tanh(_normal(draw, 64, 1, 28, 28)), "noise": _normal(draw, 64, 100)}


WORKLOADS = {
    "W1": Workload("mlp-small 784-100-10", Rule("SGD", 0.01), _classified(100, 784)),
    "W2": Workload("mlp 784-1000-1000-10", Rule("Adam", 1e-3), _classified(100, 784)),
    "W3": Workload("cnn 28x28", Rule("Adam", 1e-3), _classified(64, 1, 28, 28), dropout=True),
    "W4": Workload(
        "resnet20 32x32",
        Rule("SGD", 0.1, {"momentum": 0.9, "weight_decay": 1e-4}),
        _classified(128, 3, 32, 32),
    ),
    "W5": Workload("pinn Burgers 2-20x8-1", Rule("Adam", 1e-3), _burgers),
    "W6": Workload("transformer 2+2 x 128", Rule("Adam", 1e-3), _sentences, dropout=True),
    "W7": Workload("gpt 4 x 128", Rule("AdamW", 1e-3), _text(12)),
    "W8": Workload("vit 6 x 128", Rule("AdamW", 1e-3), _classified(64, 3, 32, 32)),
    "W9": Workload("dcgan 28x28", Rule("Adam", 2e-4, {"betas": (0.5, 0.999)}), _digits_and_noise),
    "W10": Workload("lstm 128 x 64 characters", Rule("Adam", 1e-3), _text(32)),
}


def inputs(name: str) -> Data:
    """Return the inputs of a workload: the same numbers each time."""
    data = WORKLOADS[name].data(np.random.default_rng(0))
    return {key: np.ascontiguousarray(array) for key, array in data.items()}


def sinusoids(length: int, dim: int) -> Array:
    """Return the Transformer's positions: sin and cos in turn.  Shape: (length, dim)

    >>> sinusoids(2, 2)
    array([[0.        , 1.        ],
           [0.84147096, 0.5403023 ]], dtype=float32)
    """
    angle = np.arange(length)[:, None] / 10000 ** (np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, dim).astype(np.float32)
