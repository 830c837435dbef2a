"""Schedules that let the learning rate rise and fall, and the momentum the other way round."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .optimizer import Group, Optimizer
from .schedule import LRScheduler, per_group

__all__ = ["CyclicLR", "OneCycleLR"]


def _set_momentum(group: Group, value: float) -> None:
    """Set a group's momentum: Adam's is the first of its betas."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _need_momentum(optimizer: Optimizer) -> None:
    if not {"momentum", "betas"} & optimizer.defaults.keys():
        kind = type(optimizer).__name__
        raise ValueError(f"{kind} has no momentum to cycle: pass cycle_momentum=False")


class CyclicLR(LRScheduler):
    """Goes up and down between base_lr and max_lr, in straight lines.

    lr = base_lr + (max_lr − base_lr)·x·f, x the height in the cycle, 0 to 1, and f by `mode`:
    1 ("triangular"), 1/2ⁿ⁻¹ in cycle n ("triangular2"), gammaᵗ ("exp_range")

    Args:
        optimizer: whose parameter groups' "lr" is set.
        base_lr: the lowest rate; one, or one for each group.
        max_lr: the highest rate; one, or one for each group.
        step_size_up: steps from the lowest to the highest.
        step_size_down: steps back; as many as up if None.
        mode: how the height changes.
        gamma: of "exp_range".
        scale_fn: f of one's own, instead of `mode`.
        scale_mode: what f is called with: "cycle", its number from 1, or "iterations", t.
        cycle_momentum: whether the momentum goes the other way.
        base_momentum: the lowest momentum.
        max_momentum: the highest momentum.
        last_epoch: how many steps were made before; −1 to start.

    Paper: Smith, "Cyclical Learning Rates for Training Neural Networks" (2015)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        shapes: dict[str, tuple[Callable[[float], float], str]] = {
            "triangular": (lambda n: 1.0, "cycle"),
            "triangular2": (lambda n: 1 / 2 ** (n - 1), "cycle"),
            "exp_range": (lambda t: gamma**t, "iterations"),
        }
        if scale_fn is None and mode not in shapes:
            raise ValueError(f"mode must be one of {', '.join(shapes)}, not {mode!r}")
        self.scale_fn, self.scale_mode = (scale_fn, scale_mode) if scale_fn else shapes[mode]
        self.up = float(step_size_up)
        self.total_size = self.up + (self.up if step_size_down is None else float(step_size_down))
        self.low = [float(x) for x in per_group(base_lr, optimizer, "base_lr")]
        self.max_lrs = [float(x) for x in per_group(max_lr, optimizer, "max_lr")]
        self.cycle_momentum = cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        if cycle_momentum:
            _need_momentum(optimizer)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, self.low, strict=True):
                group["lr"] = low
        super().__init__(optimizer, last_epoch)

    def _height(self) -> float:
        """Return x·f at the present step."""
        turns = self.last_epoch / self.total_size
        cycle = math.floor(1 + turns)
        x, top = 1 + turns - cycle, self.up / self.total_size
        x = x / top if x <= top else (x - 1) / (top - 1)
        return x * self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)

    def get_lr(self) -> list[float]:
        height = self._height()
        if self.cycle_momentum:
            momentum = self.max_momentum - (self.max_momentum - self.base_momentum) * height
            for group in self._groups():
                _set_momentum(group, momentum)
        pairs = zip(self.low, self.max_lrs, strict=True)
        return [low + (high - low) * height for low, high in pairs]


class OneCycleLR(LRScheduler):
    """One rise to max_lr and one fall far below the start, over all of the training.

    Starts at max_lr/div_factor and ends at max_lr/(div_factor·final_div_factor).

    Args:
        optimizer: whose parameter groups' "lr" is set.
        max_lr: the highest rate; one, or one for each group.
        total_steps: how many steps there will be; else epochs·steps_per_epoch.
        epochs: how many epochs there will be.
        steps_per_epoch: how many steps each has.
        pct_start: the share of the steps in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether the momentum goes the other way.
        base_momentum: the lowest momentum.
        max_momentum: the highest momentum.
        div_factor: max_lr over the first rate.
        final_div_factor: the first rate over the last.
        three_phase: fall as long as it rose, then go on to the last rate.
        last_epoch: how many steps were made before; −1 to start.

    Paper: Smith & Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
        Learning Rates" (2017)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.total_steps = _count_steps(total_steps, epochs, steps_per_epoch)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start is a share, 0 to 1, not {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', not {anneal_strategy!r}")
        if cycle_momentum:
            _need_momentum(optimizer)
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.momenta = {"low": base_momentum, "high": max_momentum}
        self.turns = self._turns(pct_start, three_phase)
        highest = [float(x) for x in per_group(max_lr, optimizer, "max_lr")]
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, highest, strict=True):
                group["initial_lr"] = first = high / div_factor
                group["max_lr"], group["min_lr"] = high, first / final_div_factor
        super().__init__(optimizer, last_epoch)

    def _turns(self, pct_start: float, three_phase: bool) -> list[tuple[float, str, str]]:
        """Return the turning points: the step, which rate, which momentum."""
        top, end = pct_start * self.total_steps - 1, self.total_steps - 1
        turns = [(0.0, "initial_lr", "high"), (top, "max_lr", "low")]
        if three_phase:
            turns.append((2 * top, "initial_lr", "high"))
        return [*turns, (end, "min_lr", "high")]

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            raise ValueError(f"step {t} of a schedule that was made for {self.total_steps} steps")
        last = len(self.turns) - 2
        i = next(i for i in range(last + 1) if t <= self.turns[i + 1][0] or i == last)
        (start, rate, momentum), (end, next_rate, next_momentum) = self.turns[i : i + 2]
        share = (t - start) / (end - start)
        if self.cycle_momentum:
            value = self._between(self.momenta[momentum], self.momenta[next_momentum], share)
            for group in self._groups():
                _set_momentum(group, value)
        return [self._between(group[rate], group[next_rate], share) for group in self._groups()]

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _count_steps(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        raise ValueError("OneCycleLR needs total_steps, or both epochs and steps_per_epoch")
    total = total_steps if total_steps is not None else epochs * steps_per_epoch
    if not isinstance(total, int) or total < 1:
        raise ValueError(f"the number of steps must be a positive integer, got {total!r}")
    return total
