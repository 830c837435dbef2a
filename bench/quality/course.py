"""One side's training of a recipe: the loop, the same for all sides.

An epoch trains on all batches, then measures on the validation part; the weights of the best epoch
are kept, and the test part is measured once, with them, at the end.  Time runs while batches are
made and steps taken, compilation included; it stands still while something is measured or kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from toumei import get_rng_state, set_rng_state
from toumei.errors import ToumeiError
from toumei.recipes import find
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run

from .rungs import make
from .side import Arrays, Rates, Setup, Side, arrays_of

NOWHERE = Path("never-written")  # of a run that is only taken apart


@dataclass(frozen=True)
class Row:
    """What is known after an epoch.

    Args:
        epoch: how many there were.
        seconds: of training so far, those of `data` included.
        data: seconds of them in which batches were made: by Toumei, whatever the side.
        value: the validation part's metric.
    """

    epoch: int
    seconds: float
    data: float
    value: float


class Course:
    """A training under way.

    Args:
        side: who trains.
        train, validation, test: batches, as tensors of Toumei; an epoch for each `iter(train)`.
        rates: of each step of all epochs.
        metric: its name among those that the side measures.
        mode: "max" if a larger one is better, else "min".
    """

    def __init__(
        self, side: Side, train: Iterable[Any], validation: Iterable[Any], test: Iterable[Any],
        rates: Sequence[Rates], metric: str, mode: str,
    ) -> None:  # fmt: skip
        self.side, self.train, self.validation, self.test = side, train, validation, test
        self.rates = iter(rates)
        self.metric, self.mode = metric, mode
        self.best: tuple[float, Any] | None = None
        self.row = Row(0, 0.0, 0.0, math.nan)

    def epoch(self) -> Row:
        """Train for an epoch, measure, and keep the weights if they are the best so far."""
        seconds, data = self._train()
        value = float(self._measure(self.validation)[self.metric])
        before = self.row
        self.row = Row(before.epoch + 1, before.seconds + seconds, before.data + data, value)
        if math.isfinite(value) and (self.best is None or self._is_better(value, self.best[0])):
            self.best = value, self.side.snapshot()
        return self.row

    def _train(self) -> tuple[float, float]:
        """Train for an epoch; return the seconds in all, and those in which batches were made."""
        start, data = time.perf_counter(), 0.0
        batches = iter(self.train)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            data += time.perf_counter() - asked
            if batch is None:
                break
            self.side.step(arrays_of(batch), next(self.rates))
        self.side.wait()
        return time.perf_counter() - start, data

    def _is_better(self, value: float, than: float) -> bool:
        return value > than if self.mode == "max" else value < than

    def _measure(self, batches: Iterable[Any]) -> dict[str, float]:
        return self.side.evaluate(map(arrays_of, batches))

    def finish(self) -> dict[str, float]:
        """Return what the test part's figures are with the best weights.

        Raises:
            ToumeiError: there are none, since the training diverged.
        """
        if self.best is None:
            raise ToumeiError("the training diverged: no epoch had a finite figure")
        self.side.restore(self.best[1])
        return self._measure(self.test)

    def losses(self, count: int) -> list[dict[str, float]]:
        """Take some steps; return the losses of each."""
        return [
            {name: float(loss) for name, loss in self.side.step(batch, rates).items()}
            for batch, rates in zip(self._first(count), self.rates, strict=False)
        ]

    def _first(self, count: int) -> Iterator[Arrays]:
        return map(arrays_of, islice(iter(self.train), count))


def open_course(side: str, rung: str, options: Options, exact: bool = False) -> Course:
    """Return a side's training of a recipe from its first weights.

    Args:
        side, rung: their names.
        options: as for `toumei train`.
        exact: see Setup.
    """
    recipe = find(rung)
    run = Run(recipe, NOWHERE, options)
    steps = len(run.train)
    weights = {name: value.numpy().copy() for name, value in run.model.state_dict().items()}
    setup = Setup(run.facts, weights, run.budget, steps, options.seed, exact)
    rates = rates_of(run)
    return Course(
        make(side, rung, setup), run.train, run.validation, run.test, rates,
        recipe.metric, recipe.mode,
    )  # fmt: skip


def rates_of(run: Run) -> list[Rates]:
    """Return what the recipe's schedule says of each step; the generator stays where it is.

    Raises:
        ToumeiError: the schedule doesn't move by steps, so that it may depend on what comes out.
    """
    state = get_rng_state()
    steps = len(run.train)
    trainer = run.recipe.trainer(run.recipe.model(run.facts), run.budget, steps)
    set_rng_state(state)
    schedule, rates = trainer.scheduler, []
    if schedule is not None and trainer.schedule_every != "step":
        raise ToumeiError(f"{run.recipe.name!r}: only schedules that move by steps can be shared")
    total = steps * run.budget.epochs
    lasting = getattr(schedule, "total_steps", total)  # afterwards the rates stay as they are
    for step in range(total):
        rates.append(_present(trainer.optimizer.param_groups[0]))
        if schedule is not None and step + 1 < lasting:
            schedule.step()
    return rates


def _present(group: Mapping[str, Any]) -> Rates:
    """Return the rates of a group of parameters."""
    momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
    return Rates(float(group["lr"]), float(momentum))


def about(rung: str, options: Options) -> dict[str, Any]:
    """Return what is measured: recipe, data, budget and the figure to reach.

    The data are opened once with it: what is decoded is kept for all sides.
    """
    recipe = find(rung)
    run = Run(recipe, NOWHERE, options)
    return {
        "title": recipe.title,
        "data": run.data.text,
        "metric": recipe.metric,
        "mode": recipe.mode,
        "target": run.data.target,
        "budget": asdict(run.budget),
        "steps_per_epoch": len(run.train),
        "parameters": sum(p.numel() for p in run.model.parameters()),
    }
