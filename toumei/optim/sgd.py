"""Stochastic gradient descent."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..tape import wrap
from ..tensor import Tensor
from .optimizer import Group, Optimizer, Params, State, descent, move_on, need


class SGD(Optimizer):
    """Gradient descent, with momentum if wanted.

    b ← momentum·b + (1 − dampening)·g  (b ← g in the first step)
    p ← p − lr·b;  with Nesterov's momentum p ← p − lr·(g + momentum·b)

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        momentum: how much of the last step's direction is kept, 0 to 1.
        dampening: how much of the new gradient is left out of it.
        weight_decay: adds weight_decay·p to the gradient.
        nesterov: look ahead along the momentum.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Paper: Sutskever et al., "On the importance of initialization and momentum" (2013)

    >>> import toumei as tm
    >>> p = tm.tensor([1.0], requires_grad=True)
    >>> optimizer = tm.optim.SGD([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step(); p
    tensor([0.8], requires_grad=True)
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        need(group, 0, "lr", "momentum", "weight_decay")
        need(group, float("-inf"), "dampening")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")

    def slots(self, group: Group) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if group.on("momentum") else {}

    def counters(self, group: Group) -> dict[str, float]:
        # Only dampening cares which step is the first: without it, b = 0 is as good a start.
        return {"step": 0.0} if group.on("momentum") and group.on("dampening") else {}

    def init(self, p: Tensor, state: State, group: Group) -> None:
        if "momentum_buffer" in state and "step" in self.counters(group):
            state["step"] = wrap(np.array(1.0, np.float32))  # a state that has made steps before
        super().init(p, state, group)

    def advance(self, state: State, group: Group) -> Any:
        return move_on(state["step"], 1, 1) if "step" in state else None

    def update(self, xp: ModuleType, p: Any, g: Any, s: State, t: Any, group: Group) -> None:
        lr, g = group.live("lr"), descent(p, g, group)
        if group.on("momentum"):
            momentum, b = group.live("momentum"), s["momentum_buffer"]
            b *= momentum
            b += g if not group.on("dampening") else (1 - group.live("dampening") * (t > 1)) * g
            g = g + momentum * b if group["nesterov"] else b
        p -= lr * g
