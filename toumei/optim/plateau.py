"""A schedule that watches a metric, and schedules made of schedules."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ..traced import refuse_within_step
from .optimizer import Optimizer
from .schedule import LRScheduler, per_group

__all__ = ["ChainedScheduler", "ReduceLROnPlateau", "SequentialLR"]


class ReduceLROnPlateau(LRScheduler):
    """lr ← max(lr·factor, min_lr) once a metric hasn't improved for more than `patience` steps.

    Args:
        optimizer: whose parameter groups' "lr" is set.
        mode: "min" if smaller is better, "max" if larger is.
        factor: below 1.
        patience: how many steps without improvement are borne.
        threshold: by how much a value must be better to count.
        threshold_mode: "rel": as a share of the best value; "abs": as such.
        cooldown: steps after a reduction that count for nothing.
        min_lr: the lowest rate; one, or one for each group.
        eps: smaller changes of the rate are left out.

    >>> import toumei as tm
    >>> optimizer = tm.optim.SGD([tm.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = tm.optim.ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in [3.0, 2.0, 2.0, 2.0]:
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not factor < 1:
            raise ValueError(f"factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode must be 'rel' or 'abs', not {threshold_mode!r}")
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.min_lrs = [float(x) for x in per_group(min_lr, optimizer, "min_lr")]
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Take in the metric's present value."""
        refuse_within_step(f"step() of a {type(self).__name__}", "call it outside of the step")
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        rates = [group["lr"] for group in self._groups()]
        if self.num_bad_epochs > self.patience:
            rates = [self._reduced(lr, low) for lr, low in zip(rates, self.min_lrs, strict=True)]
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._set(rates)

    def _reduced(self, lr: float, low: float) -> float:
        new = max(lr * self.factor, low)
        return new if lr - new > self.eps else lr

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * value < sign * self.best * (1 - sign * self.threshold)
        return sign * value < sign * self.best - self.threshold


class _Several(LRScheduler):
    """Holds schedules of one optimiser."""

    def _take(self, optimizer: Optimizer | None, schedulers: Sequence[LRScheduler]) -> None:
        kind = type(self).__name__
        if not schedulers:
            raise ValueError(f"{kind} needs at least one schedule")
        optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        for s in schedulers:
            if isinstance(s, ReduceLROnPlateau):
                raise ValueError(f"{kind} can't hold ReduceLROnPlateau: it needs a metric")
            if s.optimizer is not optimizer:
                raise ValueError(f"{kind} needs schedules of one and the same optimizer")
        self.optimizer = optimizer
        self._schedulers = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        """Return its own numbers, and the states of all its schedules."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state."""
        own = {k: v for k, v in state_dict.items() if k != "_schedulers"}
        vars(self).update(own)
        for schedule, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            schedule.load_state_dict(state)


class ChainedScheduler(_Several):
    """Moves several schedules of one optimiser on together.

    Args:
        schedulers: the schedules.
        optimizer: theirs; taken from the first if None.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._take(optimizer, schedulers)
        self._last_lr = [group["lr"] for group in self._groups()]

    def step(self) -> None:
        """Move all schedules on by one step."""
        refuse_within_step(f"step() of a {type(self).__name__}", "call it outside of the step")
        for schedule in self._schedulers:
            schedule.step()
        self._last_lr = [group["lr"] for group in self._groups()]


class SequentialLR(_Several):
    """One schedule after the other: the next begins at each milestone.

    Args:
        optimizer: whose parameter groups' "lr" is set.
        schedulers: the schedules, in order.
        milestones: the steps at which the second, third … begin.

    >>> import toumei as tm
    >>> from toumei.optim import lr_scheduler as schedules
    >>> optimizer = tm.optim.SGD([tm.ones(1, requires_grad=True)], lr=1.0)
    >>> warm = schedules.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    >>> fall = schedules.ExponentialLR(optimizer, gamma=0.5)
    >>> schedule = schedules.SequentialLR(optimizer, [warm, fall], milestones=[3])
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(schedule.get_last_lr()[0]); schedule.step()
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        self._take(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"{len(schedulers)} schedules meet at {len(schedulers) - 1} milestones, "
                f"got {len(milestones)}"
            )
        self.milestones = list(milestones)
        self.last_epoch = 0
        for group in optimizer.param_groups:  # undo what making the schedules has set
            group["lr"] = group["initial_lr"]
        self._schedulers[0].start()
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self) -> None:
        """Move the present schedule on by one step, or begin the next."""
        refuse_within_step(f"step() of a {type(self).__name__}", "call it outside of the step")
        self.last_epoch += 1
        i = bisect_right(self.milestones, self.last_epoch)  # how many have been reached
        if i > 0 and self.milestones[i - 1] == self.last_epoch:
            self._schedulers[i].restart()
        else:
            self._schedulers[i].step()
        self._last_lr = self._schedulers[i].get_last_lr()
