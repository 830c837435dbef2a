"""Adadelta: steps in the unit of the parameter itself."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .optimizer import Group, Optimizer, Params, State, descent, need


class Adadelta(Optimizer):
    """Scales the gradient by the ratio of the root mean squares of past steps and gradients.

    v ← ρ·v + (1 − ρ)·g²;   d = g·√(u + eps)/√(v + eps);   u ← ρ·u + (1 − ρ)·d²;   p ← p − lr·d

    Args:
        params: tensors, or groups of them.
        lr: factor of each step.
        rho: how much of the running means is kept from step to step.
        eps: lets the first steps begin.
        weight_decay: adds weight_decay·p to the gradient.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Paper: Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "eps", "weight_decay")
        need(group, 0, "rho", below=1 + 1e-12)

    def slots(self, group: Group) -> dict[str, float]:
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        rho, eps = group.live("rho"), group.live("eps")
        g = descent(p, g, group)
        v, u = s["square_avg"], s["acc_delta"]
        v *= rho
        v += (1 - rho) * g * g
        d = xp.sqrt((u + eps) / (v + eps)) * g
        u *= rho
        u += (1 - rho) * d * d
        p -= group.live("lr") * d
