"""The trainer: one loop that can be seen whole, in `Trainer.fit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..autograd import no_grad
from ..device import get_rng_state, set_rng_state
from ..errors import LoadError, ToumeiError
from ..nn.utils import clip_grad_norm_
from ..tensor import Tensor
from .callbacks import move_on
from .history import History, Row
from .steps import COMPILE, Step, compiled_step

if TYPE_CHECKING:
    from ..nn import Module
    from ..optim import Optimizer
    from ..optim.swa_utils import AveragedModel
    from .callbacks import Callback

Metric = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class Average:
    """Running means of named numbers, weighted by how many samples each stands for."""

    def __init__(self, sums: Mapping[str, Sequence[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = {k: list(v) for k, v in (sums or {}).items()}

    def add(self, name: str, value: float, count: int) -> None:
        """Take in a mean over `count` samples."""
        total = self.sums.setdefault(name, [0.0, 0.0])
        total[0] += value * count
        total[1] += count

    def means(self, prefix: str = "") -> Row:
        """Return the mean of each name."""
        return {prefix + name: total / count for name, (total, count) in self.sums.items()}


class Trainer:
    """Trains a model: forward, loss, backward, optimiser step, for so many epochs.

    A subclass that computes otherwise (no targets, another loss …) overrides `accumulate_step` and
    `validation_step`; one that trains otherwise (two optimisers …) overrides `training_step`.
    Everything else stays.

    With `accumulate=n`, n batches make one step of the optimiser, with the gradient that one
    batch of all their samples would give (if the loss is a mean over samples, and no layer
    computes statistics of its batch).  An epoch ends with a step, so its last group may have
    fewer batches; they are averaged over those alone.

    Args:
        model: what is trained.
        optimizer: updates the model's parameters.
        loss: function (output, target) -> tensor of one element.
        metrics: functions (output, target) -> one number per sample, by name.
        scheduler: changes the learning rate, or None.
        schedule_every: "step" (of the optimiser) or "epoch": when the scheduler moves on.
        accumulate: how many batches make one step of the optimiser.
        clip: the largest norm of all gradients together; what is longer is scaled down to it.
        average: an average of the model's weights: updated after each step of the optimiser,
            measured by `evaluate` and saved by BestModel in the model's place.
        callbacks: told of each batch and epoch, in this order; their states are part of the
            trainer's, so that a resumed run needs the same ones.
        compile: compile the methods that `compiled` names; True refuses what can't be compiled,
            None decides by itself and warns.

    >>> import toumei as tm
    >>> model = tm.nn.Linear(1, 1)
    >>> x = tm.linspace(0, 1, 32).reshape(-1, 1)
    >>> loader = tm.data.DataLoader(tm.data.TensorDataset(x, 3 * x), batch_size=8, shuffle=True)
    >>> optimizer = tm.optim.SGD(model.parameters(), lr=0.5)
    >>> trainer = tm.train.Trainer(model, optimizer, tm.nn.functional.mse_loss)
    >>> history = trainer.fit(loader, epochs=20)
    >>> history["loss"][-1] < 0.01
    True
    """

    #: The methods that are compiled.  A `training_step` of one's own is named in one's own list.
    compiled: ClassVar[tuple[str, ...]] = (
        "whole_step",
        "accumulate_step",
        "update_step",
        "validation_step",
    )

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss,
        *,
        metrics: Mapping[str, Metric] | None = None,
        scheduler: Any = None,
        schedule_every: str = "epoch",
        accumulate: int = 1,
        clip: float | None = None,
        average: AveragedModel | None = None,
        callbacks: Iterable[Callback] = (),
        compile: bool | None = None,
    ) -> None:
        if schedule_every not in ("step", "epoch"):
            raise ValueError(f"schedule_every must be 'step' or 'epoch', not {schedule_every!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be a number of batches, not {accumulate}")
        if clip is not None and not clip > 0:
            raise ValueError(f"clip must be a positive norm, or None for none, not {clip}")
        self.model = model
        self.optimizer = optimizer
        self.loss = loss
        self.metrics = dict(metrics or {})
        self.scheduler = scheduler
        self.schedule_every = schedule_every
        self.accumulate = accumulate
        self.clip = clip
        self.average = average
        self.callbacks = list(callbacks)
        self.compile = compile
        self._steps: dict[str, Step] = {}
        self.watchers: list[Callback] = []  # told first; not part of the state
        self.history = History()
        self.epoch = 0  # epochs finished
        self.steps = 0  # batches trained on, in all
        self.batches = 0  # batches trained on in the epoch that is under way
        self.updates = 0  # calls of `update_step`, in all
        self.waiting: list[int] = []  # sizes of the batches whose gradients wait for a step
        self.seconds = 0.0  # time spent in training, over all parts of a resumed run
        self.running = Average()  # the means of the epoch that is under way
        self.latest: Row = {}  # loss and metrics of the last batch
        self.stop = False  # a callback sets it to end after this epoch
        self.loaders: dict[str, Any] = {}  # what `fit` was given: "train", "validation"
        self.loader_states: dict[str, Any] = {}  # where the next `fit` takes them up

    # --- the loop ---

    def fit(self, train: Any, validation: Any = None, *, epochs: int) -> History:
        """Train until `epochs` epochs are finished, those before a resume included.

        Args:
            train: batches, as a DataLoader gives them.
            validation: batches to measure on after each epoch, or None.
            epochs: how many epochs in all.
        """
        self._take_up({"train": train, "validation": validation})
        self._tell("on_fit_start", epochs)
        with self._telling_of_an_interrupt():
            while self.epoch < epochs and not self.stop:
                self._tell("on_epoch_start")
                self.model.train()
                started = time.perf_counter()
                for batch in self._rest(train):
                    self._record(self.run_step("training_step", batch), len(batch[0]))
                    self.steps += 1
                    self.batches += 1
                    if not self.waiting:
                        self._after_update()
                    self.seconds += time.perf_counter() - started
                    started = time.perf_counter()
                    self._tell("on_batch_end")
                if self.waiting:  # the last group of batches is smaller
                    self._update()
                    self._after_update()
                row = {"epoch": self.epoch + 1, **self.running.means()}
                if validation is not None:
                    means = self.evaluate(validation)
                    row |= {f"validation_{name}": value for name, value in means.items()}
                row["lr"] = self.optimizer.param_groups[0]["lr"]
                row["seconds"] = round(self.seconds, 3)
                self._schedule_epoch(row)
                self.history.append(row)
                self.epoch += 1
                self.batches, self.running = 0, Average()
                self._tell("on_epoch_end", row)
        self._tell("on_fit_end")
        return self.history

    def training_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Train on one batch; return the loss and the metrics by name."""
        if self.accumulate == 1:
            values = self.run_step("whole_step", batch)
            self.updates += 1
            return values
        if not self.waiting:
            self.optimizer.zero_grad()
        values = self.run_step("accumulate_step", batch)
        self.waiting.append(len(batch[0]))
        if len(self.waiting) == self.accumulate:
            self._update()
        return values

    @property
    def compiles(self) -> bool:
        """Whether the steps are compiled."""
        return COMPILE if self.compile is None else self.compile

    def run_step(self, name: str, *args: Any) -> Any:
        """Call a method of this trainer, compiled if it is among `compiled`."""
        method = getattr(self, name)
        if not self.compiles or name not in self.compiled:
            return method(*args)
        step = self._steps.get(name)
        if step is None or step.method != method:
            step = self._steps[name] = compiled_step(method, strict=self.compile is True)
        return step.call(*args)

    def whole_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Let one batch make one step of the optimiser; return loss and metrics by name."""
        self.optimizer.zero_grad()
        values = self.accumulate_step(batch)
        self.update_step(len(batch[0]))
        return values

    def accumulate_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Add the gradients of one batch to what is there; return loss and metrics by name."""
        inputs, target = batch
        output = self.model(inputs)
        loss = self.loss(output, target)
        self.backward(loss, len(inputs))
        return {"loss": loss.detach(), **self._measure(output.detach(), target)}

    def backward(self, loss: Tensor, samples: int) -> None:
        """Add the gradients of a loss; in a group of batches each sample counts alike."""
        (loss if self.accumulate == 1 else loss * samples).backward()

    def update_step(self, samples: int) -> None:
        """Let the optimiser make a step, with gradients that are sums over so many samples."""
        groups = self.optimizer.param_groups
        params = [p for group in groups for p in group["params"] if p.grad is not None]
        if self.accumulate > 1:
            with no_grad():
                for p in params:
                    p.grad.mul_(1 / samples)
        if self.clip is not None:
            clip_grad_norm_(params, self.clip)
        self.optimizer.step()

    def validation_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Measure on one batch; return the loss and the metrics by name."""
        inputs, target = batch
        output = self.model(inputs)
        return {"loss": self.loss(output, target), **self._measure(output, target)}

    def evaluate(self, batches: Iterable[Any]) -> Row:
        """Return the means of the loss and the metrics over some batches."""
        means = Average()
        with self._measuring(), no_grad():
            for batch in batches:
                for name, value in self.run_step("validation_step", batch).items():
                    means.add(name, float(value), len(batch[0]))
        return means.means()

    @property
    def evaluated(self) -> Module:
        """The model that is measured and kept: the one with averaged weights if there is one."""
        return self.model if self.average is None else self.average.module

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """Within the block, `self.model` is the model to measure, and in evaluation mode."""
        trained, self.model = self.model, self.evaluated
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)
            self.model = trained

    def _measure(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {name: metric(output, target).mean() for name, metric in self.metrics.items()}

    def _record(self, values: Mapping[str, Tensor], count: int) -> None:
        self.latest = {name: float(value) for name, value in values.items()}
        for name, value in self.latest.items():
            self.running.add(name, value, count)

    def _update(self) -> None:
        self.run_step("update_step", sum(self.waiting))
        self.updates += 1
        self.waiting.clear()

    def _after_update(self) -> None:
        """Let follow what follows each step of the optimiser."""
        if not self.updates and (self.accumulate > 1 or self.clip is not None):
            raise ToumeiError(
                f"accumulate and clip mean nothing to {type(self).__name__}: it has a "
                "training_step of its own. Override accumulate_step, or leave them out"
            )
        if self.scheduler is not None and self.schedule_every == "step":
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self._tell("on_step_end")

    def _schedule_epoch(self, row: Row) -> None:
        if self.scheduler is not None and self.schedule_every == "epoch":
            move_on(self.scheduler, row)

    def _tell(self, event: str, *args: Any) -> None:
        told = [*self.watchers, *self.callbacks]
        for callback in sorted(told, key=lambda callback: callback.last):
            getattr(callback, event)(self, *args)

    @contextmanager
    def _telling_of_an_interrupt(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._tell("on_interrupt")
            raise

    def _rest(self, train: Iterable[Any]) -> Iterable[Any]:
        """Return the batches to come in this epoch; a DataLoader knows itself where it stands."""
        known = hasattr(train, "load_state_dict")
        return train if known else islice(train, self.batches, None)

    def _take_up(self, loaders: dict[str, Any]) -> None:
        """Note the loaders of a fit; after a resume, put them where they stood."""
        self.loaders = loaders
        for name, state in self.loader_states.items():
            if not hasattr(loaders[name], "load_state_dict"):
                raise LoadError(
                    f"the checkpoint was written with a {name} loader that knows where it stands; "
                    f"a {type(loaders[name]).__name__} can't go on from there"
                )
            loaders[name].load_state_dict(state)
        self.loader_states = {}

    # --- exact resume ---

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on exactly from here."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "generator": get_rng_state().tolist(),
            "loaders": self.loader_states
            | {n: it.state_dict() for n, it in self.loaders.items() if hasattr(it, "state_dict")},
            "batches": self.batches,
            "updates": self.updates,
            "waiting": list(self.waiting),
            "gradients": self._waiting_gradients(),
            "average": None if self.average is None else self.average.state_dict(),
            "stop": self.stop,
            "epoch": self.epoch,
            "steps": self.steps,
            "seconds": self.seconds,
            "running": self.running.sums,
            "history": self.history.rows,
            "callbacks": [callback.state_dict() for callback in self.callbacks],
        }

    def _waiting_gradients(self) -> dict[str, Tensor]:
        """Return the gradients that wait for a step of the optimiser, by parameter."""
        named = self.model.named_parameters() if self.waiting else ()
        return {name: p.grad for name, p in named if p.grad is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the loaders are put in their places when `fit` is given them.

        Raises:
            LoadError: the state belongs to a trainer with other callbacks or another model, or
                only one of the two has an average of the weights.
        """
        if len(state["callbacks"]) != len(self.callbacks):
            raise LoadError(
                f"the checkpoint has the states of {len(state['callbacks'])} callbacks, "
                f"this trainer has {len(self.callbacks)}"
            )
        if (state.get("average") is None) is not (self.average is None):
            raise LoadError("of checkpoint and trainer, only one has an average of the weights")
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.loader_states = dict(state["loaders"])
        for callback, saved in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(saved)
        self.epoch, self.steps, self.batches = state["epoch"], state["steps"], state["batches"]
        self.updates, self.waiting = state.get("updates", 0), list(state.get("waiting", ()))
        gradients = state.get("gradients", {})
        for name, p in self.model.named_parameters():
            p.grad = gradients[name].clone() if name in gradients else None
        self.stop = state["stop"]
        self.seconds = state["seconds"]
        self.running = Average(state["running"])
        self.history = History(state["history"])
        set_rng_state(np.array(state["generator"], np.int64))
