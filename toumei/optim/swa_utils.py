"""Averages of a model's weights over training: moving (EMA) or equal (SWA).

    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    for inputs, target in loader:
        ...                                # forward, backward
        optimizer.step()
        average.update_parameters(model)
    average(inputs)                        # computes with the averaged weights

Paper: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI
2018; the moving average is Polyak's and Ruppert's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..autograd import no_grad
from ..device import device as device_of
from ..nn import Module
from ..nn.norm import _BatchNorm
from ..ops.creation import tensor
from ..tensor import Tensor
from .optimizer import Optimizer
from .schedule import LRScheduler, per_group

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

Average = Callable[[Tensor, Tensor, Tensor], Tensor]  # (average, new value, how many so far)
Pair = tuple[Tensor, Tensor]
MultiAverage = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]  # in place


def get_ema_multi_avg_fn(decay: float = 0.999) -> MultiAverage:
    """Return a function that moves averages, in place, towards new values.

    a ← decay·a + (1 − decay)·w

    Args:
        decay: how much of the average stays, 0 to 1.

    Raises:
        ValueError: `decay` is out of range.

    >>> import toumei as tm
    >>> a = tm.tensor([1.0])
    >>> get_ema_multi_avg_fn(0.75)([a], [tm.tensor([2.0])], tm.tensor(1)); a
    tensor([1.25])
    """
    return _for_each(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> MultiAverage:
    """Return a function that takes new values, in place, into averages of n values.

    a ← a + (w − a)/(n + 1)

    >>> import toumei as tm
    >>> a = tm.tensor([1.0])
    >>> get_swa_multi_avg_fn()([a], [tm.tensor([4.0])], tm.tensor(2)); a
    tensor([2.])
    """
    return _for_each(get_swa_avg_fn())


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """Return the function of get_ema_multi_avg_fn for one tensor; it returns the average."""
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must lie between 0 and 1, it is {decay}")

    def moved(average: Tensor, value: Tensor, count: Tensor) -> Tensor:
        if average.is_floating_point():
            return average.lerp(value, 1 - decay)
        return average * decay + value * (1 - decay)

    return moved


def get_swa_avg_fn() -> Average:
    """Return the function of get_swa_multi_avg_fn for one tensor; it returns the average."""

    def taken_in(average: Tensor, value: Tensor, count: Tensor) -> Tensor:
        return average + (value - average) / (int(count) + 1)

    return taken_in


def _for_each(average: Average) -> MultiAverage:
    """Return an average of one tensor as one of several, in place."""

    @no_grad()
    def move(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor) -> None:
        for a, value in zip(averages, values, strict=True):
            a.copy_(average(a, value, count))

    return move


class AveragedModel(Module):
    """A copy of a model whose weights are an average of the model's weights over time.

    Attributes: `module` is the copy, `n_averaged` the number of values averaged so far.

    Args:
        model: whose weights; it is copied, and stays as it is.
        device: None or "cpu".
        avg_fn: (average, value, n) -> average, for one tensor.
        multi_avg_fn: (averages, values, n) -> None, in place, for all tensors; without either
            function the values count equally.
        use_buffers: average the buffers (such as running statistics) as well; otherwise they
            are the model's.

    Raises:
        ValueError: both functions are given.

    >>> from toumei import nn
    >>> average = AveragedModel(nn.Linear(1, 1), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    >>> list(average.state_dict())
    ['n_averaged', 'module.weight', 'module.bias']
    """

    def __init__(
        self,
        model: Module,
        device: str | None = None,
        avg_fn: Average | None = None,
        multi_avg_fn: MultiAverage | None = None,
        use_buffers: bool = False,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: avg_fn and multi_avg_fn exclude each other")
        device_of(device or "cpu")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", tensor(0))
        self.avg_fn, self.multi_avg_fn = avg_fn, multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the model's result with the averaged weights."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take the present weights of the model into the average; the first time, copy them."""
        averaged: list[Pair] = list(zip(self.module.parameters(), model.parameters(), strict=True))
        copied: list[Pair] = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if not int(self.n_averaged):
            averaged, copied = [], averaged + copied
        elif self.use_buffers:
            averaged, copied = averaged + copied, []
        if averaged:
            self._average(*zip(*averaged, strict=True))
        for kept, value in copied:
            kept.copy_(value)
        self.n_averaged.add_(1)

    def _average(self, averages: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        if self.multi_avg_fn is not None:
            move = self.multi_avg_fn
        else:
            move = _for_each(self.avg_fn or get_swa_avg_fn())
        move([a.detach() for a in averages], [v.detach() for v in values], self.n_averaged)


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: str | None = None) -> None:
    """Compute the running statistics of a model's batch-norm layers anew, over some batches.

    The statistics of an averaged model belong to weights that it doesn't have; afterwards they
    are the mean of the batches' statistics under its own.

    Args:
        loader: batches; of a tuple or list, the first part is the model's input.
        model: the model; without batch norm, nothing is done.
        device: None or "cpu".
    """
    device_of(device or "cpu")
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    if not layers:
        return
    for layer in layers:
        layer.reset_running_stats()
    with _plain_means(model, layers):
        for batch in loader:
            model(batch[0] if isinstance(batch, list | tuple) else batch)


@contextmanager
def _plain_means(model: Module, layers: list[Any]) -> Iterator[None]:
    """Within the block, the model trains and its running statistics are equally weighted means."""
    training, momenta = model.training, [layer.momentum for layer in layers]
    model.train()
    try:
        for layer in layers:
            layer.momentum = None  # which means: a cumulative average
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(training)


class SWALR(LRScheduler):
    """Lead the learning rate, from where it stands, to a constant one for averaging (SWA).

    lr ← lr + (swa_lr − lr)·(α_t − α_{t−1})/(1 − α_{t−1}),   α_t = (1 − cos(π·t/n))/2, or t/n

    Args:
        optimizer: whose parameter groups' "lr" is set.
        swa_lr: the rate to end at, or a list with one for each group.
        anneal_epochs: n, how many steps it takes; 0 to be there at once.
        anneal_strategy: "cos" or "linear".
        last_epoch: how many steps were made before; −1 to start.

    Raises:
        ValueError: the strategy is unknown, or the number of steps negative.

    >>> import toumei as tm
    >>> optimizer = tm.optim.SGD([tm.ones(1, requires_grad=True)], lr=1.0)
    >>> schedule = SWALR(optimizer, swa_lr=0.2, anneal_epochs=2, anneal_strategy="linear")
    >>> schedule.step(); round(schedule.get_last_lr()[0], 6)
    0.6
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', not {anneal_strategy!r}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be an integer >= 0, not {anneal_epochs}")
        self.swa_lrs = per_group(swa_lr, optimizer, "swa_lr")
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step = self.last_epoch if self.anneal_epochs else max(1, self.last_epoch)
        before, now = self._progress(step - 1), self._progress(step)
        part = 1.0 if before == 1 else (now - before) / (1 - before)
        pairs = zip(self._groups(), self.swa_lrs, strict=True)
        return [swa * part + group["lr"] * (1 - part) for group, swa in pairs]

    def _progress(self, step: int) -> float:
        """Return α: 0 at the first step, 1 at the end."""
        share = min(max(step / max(1, self.anneal_epochs), 0.0), 1.0)
        return share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2
