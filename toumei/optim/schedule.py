"""Learning-rate schedules, under PyTorch's names and with its formulas.

Each sets `group["lr"]` of an optimiser's parameter groups; `step()` moves it on, after the
optimiser's own step, once per epoch or per batch as the caller likes.  Most give the next rate from
the present one, so that several schedules of one optimiser multiply.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..traced import refuse_within_step
from .optimizer import Group, Optimizer

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
    "WarmupCosine",
]


class LRScheduler:
    """The base of all schedules: a subclass says `rate`.

    Args:
        optimizer: whose parameter groups' "lr" is set.
        last_epoch: how many steps were made before; −1 to start.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"a schedule needs an optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"last_epoch={last_epoch} needs 'initial_lr' in parameter group {i}")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def rate(self, t: int, lr: float, base: float) -> float:
        """Return a group's rate at step t, from the present one and the one that it began with."""
        raise NotImplementedError(f"{type(self).__name__} defines neither rate nor get_lr")

    def get_lr(self) -> list[float]:
        """Return the rate of each group at the present step; `get_last_lr` is what users want."""
        pairs = zip(self._groups(), self.base_lrs, strict=True)
        return [self.rate(self.last_epoch, group["lr"], base) for group, base in pairs]

    def step(self) -> None:
        """Move on by one step and set the rates."""
        refuse_within_step(f"step() of a {type(self).__name__}", "call it outside of the step")
        self.last_epoch += 1
        self._set(self.get_lr())

    def start(self) -> None:
        """Go back to the first step, from the present rates."""
        self.last_epoch = -1
        self.step()

    def restart(self) -> None:
        """Go back to the first step, from the rates that the groups began with."""
        self._set(self.base_lrs)
        self.start()

    def get_last_lr(self) -> list[float]:
        """Return the rate that was last set, of each group."""
        return list(self._last_lr)

    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self._groups(), rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser and functions: numbers and lists of them."""
        plain = {k: v for k, v in vars(self).items() if k != "optimizer"}
        return {k: v for k, v in plain.items() if not _is_code(v)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state; the optimiser's rates are in the optimiser's own state."""
        vars(self).update(state_dict)


def _is_code(value: Any) -> bool:
    several = isinstance(value, list) and bool(value)
    return callable(value) or (several and all(callable(v) for v in value))


def per_group(value: Any, optimizer: Optimizer, name: str) -> list[Any]:
    """Return one value for each parameter group, from one for all or from as many."""
    groups = len(optimizer.param_groups)
    values = list(value) if isinstance(value, list | tuple) else [value] * groups
    if len(values) != groups:
        raise ValueError(f"{name} has {len(values)} values for {groups} parameter groups")
    return values


class LambdaLR(LRScheduler):
    """lr = base·f(t).

    Args:
        optimizer: whose parameter groups' "lr" is set.
        lr_lambda: f, or a list with one for each group.
        last_epoch: how many steps were made before; −1 to start.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = per_group(lr_lambda, optimizer, "lr_lambda")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        pairs = zip(self.lr_lambdas, self.base_lrs, strict=True)
        return [base * factor(self.last_epoch) for factor, base in pairs]


class MultiplicativeLR(LRScheduler):
    """lr ← lr·f(t), from t = 1 on.

    Args:
        optimizer: whose parameter groups' "lr" is set.
        lr_lambda: f, or a list with one for each group.
        last_epoch: how many steps were made before; −1 to start.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = per_group(lr_lambda, optimizer, "lr_lambda")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        pairs = zip(self.lr_lambdas, self._groups(), strict=True)
        t = self.last_epoch
        return [group["lr"] * (factor(t) if t > 0 else 1) for factor, group in pairs]

    def restart(self) -> None:
        """Go back to the first step: a schedule that takes over multiplies by f(0)."""
        self.last_epoch = 0
        pairs = zip(self.lr_lambdas, self._groups(), strict=True)
        self._set([group["lr"] * factor(0) for factor, group in pairs])


class StepLR(LRScheduler):
    """lr ← lr·gamma every `step_size` steps.

    >>> import toumei as tm
    >>> optimizer = tm.optim.SGD([tm.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = tm.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        return lr * self.gamma if t and t % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """lr ← lr·gamma at each of some steps.

    Args:
        optimizer: whose parameter groups' "lr" is set.
        milestones: those steps; one that is named twice counts twice.
        gamma: the factor.
        last_epoch: how many steps were made before; −1 to start.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        return float(lr * self.gamma ** Counter(self.milestones)[t])


class ConstantLR(LRScheduler):
    """lr = base·factor before step `total_iters`, base from there on."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"factor must be from 0 to 1, got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        if t == 0:
            return lr * self.factor
        return lr / self.factor if t == self.total_iters else lr


class LinearLR(LRScheduler):
    """lr goes evenly from base·start_factor to base·end_factor in `total_iters` steps: warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor must be above 0 and at most 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor must be from 0 to 1, got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        if t == 0:
            return lr * self.start_factor
        if t > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (t - 1) * rise
        return lr * (1 + rise / before)


class ExponentialLR(LRScheduler):
    """lr ← lr·gamma in each step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        return lr * self.gamma if t else lr


class PolynomialLR(LRScheduler):
    """lr = base·(1 − t/total_iters)^power, 0 from step `total_iters` on."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        if t == 0 or t > self.total_iters:
            return lr
        left, before = (1 - s / self.total_iters for s in (t, t - 1))
        return float(lr * (left / before) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base − eta_min)·(1 + cos(π·t/T_max))/2; it rises again after T_max steps.

    Paper: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2016)
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        self._resumes = last_epoch >= 0  # then the present rate says nothing
        super().__init__(optimizer, last_epoch)
        self._resumes = False

    def rate(self, t: int, lr: float, base: float) -> float:
        T, low = self.T_max, self.eta_min
        if t == 0:
            return lr
        if self._resumes:
            return low + (base - low) * (1 + math.cos(math.pi * t / T)) / 2
        if (t - 1 - T) % (2 * T) == 0:  # the last rate was the lowest: there is no ratio to it
            return lr + (base - low) * (1 - math.cos(math.pi / T)) / 2
        ratio = (1 + math.cos(math.pi * t / T)) / (1 + math.cos(math.pi * (t - 1) / T))
        return ratio * (lr - low) + low


class CosineAnnealingWarmRestarts(LRScheduler):
    """lr = eta_min + (base − eta_min)·(1 + cos(π·c/T))/2, c steps into a period of T steps.

    The first period has T_0 steps, each later one T_mult times as many as the one before.
    `step(epoch)` goes to a point in time, fractions of an epoch included.

    Paper: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2016)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self._time: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Move on by one step, or to a point in time."""
        refuse_within_step(f"step() of a {type(self).__name__}", "call it outside of the step")
        if epoch is not None and epoch < 0:
            raise ValueError(f"epoch must not be negative, got {epoch}")
        self._time = self._time + 1 if epoch is None else epoch
        self.last_epoch = math.floor(self._time)
        self._set(self.get_lr())

    def start(self) -> None:
        """Go back to the first step."""
        self.step(0)

    def rate(self, t: int, lr: float, base: float) -> float:
        since, period = self._time, self.T_0
        if self.T_mult == 1:
            since %= period
        while since >= period:
            since, period = since - period, period * self.T_mult
        share = (1 + math.cos(math.pi * since / period)) / 2
        return self.eta_min + (base - self.eta_min) * share


class WarmupCosine(LRScheduler):
    """Rises evenly for `warmup_steps`, then falls along half a cosine to min_lr at `total_steps`.

    lr = base·(t + 1)/warmup_steps;   then min_lr + (base − min_lr)·(1 + cos(π·s))/2, s from 0 to 1

    Args:
        optimizer: whose parameter groups' "lr" is set.
        warmup_steps: steps until the full rate is reached.
        total_steps: steps until the lowest rate is reached; it stays there.
        min_lr: the lowest rate.
        last_epoch: how many steps were made before; −1 to start.

    >>> import toumei as tm
    >>> optimizer = tm.optim.SGD([tm.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = tm.optim.WarmupCosine(optimizer, warmup_steps=4, total_steps=12)
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        total_steps: int,
        min_lr: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(f"warmup_steps must be from 0 to below {total_steps}: {warmup_steps}")
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr = min_lr
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, lr: float, base: float) -> float:
        if t < self.warmup_steps:
            return base * (t + 1) / self.warmup_steps
        share = min((t - self.warmup_steps) / (self.total_steps - self.warmup_steps), 1.0)
        return self.min_lr + (base - self.min_lr) * (1 + math.cos(math.pi * share)) / 2
