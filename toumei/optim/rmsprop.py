"""RMSprop: steps scaled by a running mean of the squared gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .optimizer import Group, Optimizer, Params, State, descent, need


class RMSprop(Optimizer):
    """Divides the gradient by the root of its running mean square.

    v ← α·v + (1 − α)·g²;   a ← α·a + (1 − α)·g (centered only);   d = g/(√(v − a²) + eps)
    b ← momentum·b + d;   p ← p − lr·b  (p − lr·d without momentum)

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        alpha: how much of the running means is kept from step to step.
        eps: keeps the division finite.
        weight_decay: adds weight_decay·p to the gradient.
        momentum: how much of the last step's direction is kept.
        centered: divide by the standard deviation instead.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Source: Tieleman & Hinton, "Lecture 6.5 — RMSProp", COURSERA (2012); Graves, "Generating
        Sequences With Recurrent Neural Networks" (2013) for `centered`
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "alpha", "eps", "weight_decay", "momentum")

    def slots(self, group: Group) -> dict[str, float]:
        slots = {"square_avg": 0.0}
        if group.on("momentum"):
            slots["momentum_buffer"] = 0.0
        if group["centered"]:
            slots["grad_avg"] = 0.0
        return slots

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        alpha, lr = group.live("alpha"), group.live("lr")
        g = descent(p, g, group)
        v = s["square_avg"]
        v *= alpha
        v += (1 - alpha) * g * g
        if group["centered"]:
            a = s["grad_avg"]
            a += (1 - alpha) * (g - a)
            v = v - a * a
        d = g / (xp.sqrt(v) + group.live("eps"))
        if group.on("momentum"):
            b = s["momentum_buffer"]
            b *= group.live("momentum")
            b += d
            d = b
        p -= lr * d
