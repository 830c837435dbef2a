"""A learning rate to start with, found by one short sweep over all that could be meant.

curve = find_lr(trainer, loader)
curve.plot("rates.png")
optimizer.param_groups[0]["lr"] = curve.suggestion
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autograd import no_grad
from ..device import get_rng_state, set_rng_state
from ..errors import ToumeiError
from ..optim import Optimizer
from ..tensor import Tensor
from ..traced import DROPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .trainer import Trainer

KEPT = 0.9  # of the moving average of the loss, from one step to the next
FIRST = 10  # steps before the average is trusted to tell divergence from noise
TOO_FAR = 3  # a rise above the lowest loss by so many times its size is divergence


class LRCurve(NamedTuple):
    """What a sweep has shown."""

    rates: list[float]  # the learning rates, rising
    losses: list[float]  # the smoothed loss at each of them
    suggestion: float | None  # where the loss falls fastest; None if it never falls

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw loss against learning rate, with the suggestion; .png, .svg and .pdf are possible.

        Raises:
            ToumeiError: the name's ending is no format's.
        """
        from ..viz.canvas import COLOURS, new_figure, save_figure

        figure, (ax,) = new_figure(1)
        ax.plot(self.rates, self.losses, color=COLOURS[0])
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
        if self.suggestion is not None:
            self._mark(ax, COLOURS[1])
        save_figure(figure, path)

    def _mark(self, ax: Axes, colour: str) -> None:
        """Mark the suggestion, with its text where the falling curve leaves room."""
        assert self.suggestion is not None
        height = self.losses[self.rates.index(self.suggestion)]
        left = self.suggestion**2 > self.rates[0] * self.rates[-1]  # of it is more room
        ax.axvline(self.suggestion, color=colour, linestyle="--", linewidth=1)
        ax.plot(self.suggestion, height, "o", color=colour)
        ax.annotate(
            f"suggestion: {self.suggestion:.2g}", (self.suggestion, height), color=colour,
            textcoords="offset points", xytext=(-8, -4) if left else (8, 4),
            ha="right" if left else "left", va="top" if left else "bottom",
        )  # fmt: skip


def find_lr(
    trainer: Trainer,
    loader: Iterable[Any],
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
) -> LRCurve:
    """Train for a few steps while the learning rate rises, and see where the loss falls fastest.

    rate_i = lowest·(highest/lowest)^(i/(steps − 1))

    The loss is smoothed by a moving average, forth and back.  The sweep ends early when the loss
    diverges: when it is not finite, or its moving average, after ten steps, has reached four times
    its lowest value.  The suggestion is the rate of the steepest descent before the lowest loss.
    Afterwards the model, the trainer with its optimisers, the random numbers and the loader are,
    bit for bit, what they were.
    Paper: Smith, "Cyclical learning rates for training neural networks", WACV 2017 (the range
    test); Smith, "A disciplined approach to neural network hyper-parameters", 2018.

    Args:
        trainer: its model is trained by its `training_step`; the schedule stands still.  Of
            several parameter groups, the rates are the first one's; the others keep their ratio.
        loader: batches to train on; it begins again where it ends.
        lowest, highest: the range of the learning rate.
        steps: how many steps of the optimiser the sweep has.

    Raises:
        ValueError: the range or the number of steps makes no sense.
        ToumeiError: there are no batches, the loss is not finite from the start, or the trainer
            has several (as those of GANs).

    >>> import toumei as tm
    >>> x = tm.linspace(-1, 1, 64).reshape(-1, 1)
    >>> loader = tm.data.DataLoader(tm.data.TensorDataset(x, 3 * x), batch_size=16, shuffle=True)
    >>> model = tm.nn.Linear(1, 1)
    >>> optimizer = tm.optim.SGD(model.parameters(), lr=0.1)
    >>> trainer = tm.train.Trainer(model, optimizer, tm.nn.functional.mse_loss)
    >>> 0.001 < find_lr(trainer, loader).suggestion < 3
    True
    """
    if not 0 < lowest < highest or not math.isfinite(highest):
        raise ValueError(f"find_lr: the range must rise from above 0, not {lowest} to {highest}")
    if steps < 3:
        raise ValueError(f"find_lr: needs at least 3 steps, not {steps}")
    rates = np.geomspace(lowest, highest, steps).tolist()
    if hasattr(loader, "load_state_dict"):
        loader = copy.copy(loader)  # the original stays where it stands
    with _put_back(trainer):
        losses = _sweep(trainer, _endless(loader), rates)
    if len(losses) < 3:
        raise ToumeiError(
            f"find_lr: the loss is not finite after {len(losses)} steps at learning rates from "
            f"{lowest:g}: begin lower"
        )
    smooth = smoothed(losses)
    return LRCurve(rates[: len(losses)], smooth, _steepest(rates, smooth))


def _sweep(trainer: Trainer, batches: Iterator[Any], rates: Sequence[float]) -> list[float]:
    """Make one step at each rate until the loss diverges; return the losses that are finite."""
    groups = trainer.optimizer.param_groups
    first = groups[0]["lr"]
    ratios = [group["lr"] / first if first else 1.0 for group in groups]
    losses: list[float] = []
    low = math.inf
    for rate in rates:
        for group, ratio in zip(groups, ratios, strict=True):
            group["lr"] = rate * ratio
        loss = _step(trainer, batches)
        if not math.isfinite(loss):
            break
        losses.append(loss)
        average = _moving_average(losses)[-1]
        if len(losses) >= FIRST:
            low = min(low, average)
        if average - low > TOO_FAR * abs(low):
            break
    return losses


def _step(trainer: Trainer, batches: Iterator[Any]) -> float:
    """Train until the optimiser has made a step; return the mean loss of its batches."""
    losses = [_loss(trainer, next(batches))]
    while trainer.waiting:
        losses.append(_loss(trainer, next(batches)))
    return sum(losses) / len(losses)


def _loss(trainer: Trainer, batch: Any) -> float:
    values = trainer.training_step(batch)
    if "loss" not in values:
        raise ToumeiError(
            f"find_lr: {type(trainer).__name__} has no single loss that a rate could make fall, "
            f"but {', '.join(values)}"
        )
    return float(values["loss"])


def _endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader over and over."""
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ToumeiError("find_lr: the loader has no batches")


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the moving average of the moving average, in both directions: nothing is shifted.

    At both ends the losses are mirrored, so that the first few don't make a slope of their noise.
    From where the average is lowest, no loss counts for more than the largest one before: a loss
    that explodes would be all that is seen.
    """
    values = np.asarray(losses, np.float64)
    lowest = int(np.argmin(_moving_average(losses)))
    values[lowest:] = np.minimum(values[lowest:], values[: lowest + 1].max())
    more = min(len(values) - 1, round(3 / (1 - KEPT)))
    mirrored = np.pad(values, more, mode="reflect").tolist()
    average = _moving_average(_moving_average(mirrored)[::-1])[::-1]
    return average[more : more + len(values)]


def _moving_average(values: Sequence[float]) -> list[float]:
    """Return exponential moving averages, each divided by the sum of its weights."""
    averages, total, weight = [], 0.0, 0.0
    for value in values:
        total = KEPT * total + (1 - KEPT) * value
        weight = KEPT * weight + (1 - KEPT)
        averages.append(total / weight)
    return averages


def _steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Return the rate at which the loss falls fastest before it is lowest."""
    falling = np.asarray(losses[: int(np.argmin(losses)) + 1])
    if len(falling) < 2:
        return None
    return float(rates[int(np.argmin(np.gradient(falling)))])


def _gradient(t: Tensor) -> Tensor | None:
    """Return the gradient of a tensor; one that a compiled step has used up counts as none."""
    return None if t._cell is None or t._cell.grad is DROPPED else t.grad


@contextmanager
def _put_back(trainer: Trainer) -> Iterator[None]:
    """Undo, after the block, all that training steps change: also after an error."""
    model = trainer.model
    tensors = [*model.parameters(), *model.buffers()]
    values = [(t, t.detach().clone(), _gradient(t)) for t in tensors]
    modes = [(module, module.training) for module in model.modules()]
    facts, generator = dict(vars(trainer)), get_rng_state()
    optimizers = [fact for fact in facts.values() if isinstance(fact, Optimizer)]
    states = copy.deepcopy([optimizer.state_dict() for optimizer in optimizers])
    trainer.waiting = []
    model.train()
    try:
        yield
    finally:
        vars(trainer).update(facts)
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        set_rng_state(generator)
        for module, mode in modes:
            module.training = mode
        with no_grad():
            for tensor, value, gradient in values:
                tensor.copy_(value)
                tensor.grad = gradient
