"""Adagrad: steps scaled by the sum of all squared gradients."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .optimizer import Group, Optimizer, Params, State, descent, need


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of its squares so far.

    s ← s + g²;   p ← p − lr/(1 + (t − 1)·lr_decay)·g/(√s + eps)

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        lr_decay: how the learning rate falls with the step number t.
        weight_decay: adds weight_decay·p to the gradient.
        initial_accumulator_value: what the sum starts as.
        eps: keeps the division finite.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Paper: Duchi et al., "Adaptive Subgradient Methods for Online Learning" (2011)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value")

    def slots(self, group: Group) -> dict[str, float]:
        return {"sum": group["initial_accumulator_value"]}

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        g, total = descent(p, g, group), s["sum"]
        total += g * g
        rate = group.live("lr") / (1 + (t - 1) * group.live("lr_decay"))
        p -= rate * g / (xp.sqrt(total) + group.live("eps"))
