"""Gradient accumulation, clipping and averaged weights in the trainer."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.data import DataLoader, TensorDataset
from toumei.errors import LoadError, ToumeiError
from toumei.io.checkpoint import load_checkpoint
from toumei.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toumei.train import BestModel, Callback, Checkpoint, Schedule, Trainer, accuracy


def data() -> TensorDataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    return TensorDataset(tm.from_numpy(x), tm.from_numpy((x.sum(1) > 0).astype(np.int64)))


def trainer_of(
    loss: Any = nn.functional.cross_entropy,
    *,
    dropout: float = 0.0,
    rate: float = 0.1,
    **options: Any,
) -> Trainer:
    tm.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))
    if options.pop("averaged", False):
        options["average"] = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    optimizer = tm.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return Trainer(model, optimizer, loss, metrics={"accuracy": accuracy}, **options)


def weights(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def as_bytes(model: nn.Module) -> bytes:
    return b"".join(w.tobytes() for w in weights(model))


class Counted(Callback):
    """Counts steps and batches, and may interrupt after so many batches."""

    last = True

    def __init__(self, stop: int = -1) -> None:
        self.stop, self.order = stop, ""

    def on_step_end(self, trainer: Trainer) -> None:
        self.order += "s"

    def on_batch_end(self, trainer: Trainer) -> None:
        self.order += "b"
        if trainer.steps == self.stop:
            raise KeyboardInterrupt


# --- accumulation ---


@pytest.mark.parametrize("size", [10, 20, 30])  # 90 samples: 9, 5 (10 in the last) and 3 batches
def test_small_batches_make_the_step_of_a_big_one(size: int) -> None:
    big, small = trainer_of(), trainer_of(accumulate=60 // size)
    big.fit(DataLoader(data(), 60), epochs=3)
    small.fit(DataLoader(data(), size), epochs=3)
    assert big.updates == small.updates == 6 and small.steps == 3 * -(-90 // size)
    for mine, right in zip(weights(small.model), weights(big.model), strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-6)
    assert small.history["loss"][0] == pytest.approx(big.history["loss"][0], rel=1e-5)


def test_other_groups_are_other_steps() -> None:
    one, two = trainer_of(), trainer_of(accumulate=2)
    one.fit(DataLoader(data(), 20), epochs=1)
    two.fit(DataLoader(data(), 20), epochs=1)
    assert (one.updates, two.updates) == (5, 3)
    assert not np.allclose(weights(one.model)[0], weights(two.model)[0], atol=1e-3)


def test_events_and_schedules_follow_the_steps() -> None:
    for as_callback in (False, True):
        trainer = trainer_of(accumulate=2, schedule_every="step")
        halved = tm.optim.lr_scheduler.StepLR(trainer.optimizer, 1, gamma=0.5)
        counted = Counted()
        trainer.callbacks = [counted]
        if as_callback:
            trainer.callbacks.append(Schedule(halved, every="step"))
        else:
            trainer.scheduler = halved
        trainer.fit(DataLoader(data(), 20), epochs=2)
        assert counted.order == "bsbbsbbs" * 2
        assert trainer.history["lr"] == [0.1 * 0.5**3, 0.1 * 0.5**6]


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 10])
@pytest.mark.parametrize("as_list", [False, True])
def test_a_resume_in_the_middle_of_a_group_is_exact(
    tmp_path: pathlib.Path, steps: int, as_list: bool
) -> None:
    """Also after the last batch of an epoch, and for batches that are a plain list."""

    def make(stop: int) -> tuple[Trainer, Any]:
        trainer = trainer_of(
            dropout=0.3, accumulate=3, clip=0.5, averaged=True, schedule_every="step",
            callbacks=[Checkpoint(tmp_path, 0), Counted(stop)],
        )  # fmt: skip
        trainer.scheduler = tm.optim.lr_scheduler.StepLR(trainer.optimizer, 2, gamma=0.5)
        loader = DataLoader(data(), 20, shuffle=not as_list, seed=3)
        return trainer, list(loader) if as_list else loader

    straight, batches = make(-1)
    straight.fit(batches, batches, epochs=3)
    first, batches = make(steps)
    with pytest.raises(KeyboardInterrupt):
        first.fit(batches, batches, epochs=3)
    tm.manual_seed(99)
    second, batches = make(-1)
    second.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    assert second.steps == steps and len(second.waiting) == steps % 5 % 3 + 2 * (steps % 5 == 0)
    second.fit(batches, batches, epochs=3)
    assert as_bytes(second.model) == as_bytes(straight.model)
    assert as_bytes(second.evaluated) == as_bytes(straight.evaluated)
    for column in ("loss", "validation_loss", "lr"):
        assert second.history[column] == straight.history[column]
    assert second.updates == straight.updates == 6


# --- clipping ---


def test_long_gradients_are_clipped_and_short_ones_are_not() -> None:
    for clip, moved in ((0.01, 0.01), (1e9, None)):
        trainer, free = trainer_of(rate=1.0, clip=clip), trainer_of(rate=1.0)
        before = weights(trainer.model)
        batch = next(iter(DataLoader(data(), 30)))
        trainer.training_step(batch)
        free.training_step(batch)
        change = [b - a for a, b in zip(before, weights(trainer.model), strict=True)]
        length = np.sqrt(sum((c * c).sum() for c in change))
        if moved:
            assert length == pytest.approx(moved, rel=1e-3)
        else:
            assert length > 0.05 and as_bytes(trainer.model) == as_bytes(free.model)


def test_the_mean_is_clipped_not_each_batch() -> None:
    big, small = trainer_of(clip=0.05), trainer_of(clip=0.05, accumulate=3)
    big.fit(DataLoader(data(), 90), epochs=4)
    small.fit(DataLoader(data(), 30), epochs=4)
    for mine, right in zip(weights(small.model), weights(big.model), strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-6)


class OwnStep(Trainer):
    """Trains in a way of its own."""

    def training_step(self, batch: Any) -> dict[str, tm.Tensor]:
        loss = self.loss(self.model(batch[0]), batch[1])
        return {"loss": loss.detach()}


def test_an_option_that_would_do_nothing_is_refused() -> None:
    for options in ({"accumulate": 2}, {"clip": 1.0}):
        plain = trainer_of(**options)
        own = OwnStep(plain.model, plain.optimizer, plain.loss, **options)  # type: ignore[arg-type]
        with pytest.raises(ToumeiError, match="OwnStep: it has a training_step of its own"):
            own.fit(DataLoader(data(), 30), epochs=1)
    for options, words in (({"accumulate": 0}, "number of batches"), ({"clip": 0.0}, "positive")):
        with pytest.raises(ValueError, match=words):
            trainer_of(**options)


# --- averaged weights ---


def test_the_average_is_measured_and_saved(tmp_path: pathlib.Path) -> None:
    best = tmp_path / "best.safetensors"
    trainer = trainer_of(averaged=True, callbacks=[BestModel(best, "validation_loss")])
    plain = trainer_of()
    loader = DataLoader(data(), 20)
    trainer.fit(loader, loader, epochs=2)
    plain.fit(loader, loader, epochs=2)
    assert as_bytes(trainer.model) == as_bytes(plain.model)  # training itself is the same
    assert trainer.average is not None and int(trainer.average.n_averaged) == 10
    assert trainer.history["validation_loss"] != plain.history["validation_loss"]

    expected = [w.astype(np.float64) for w in weights(replayed(1))]
    for steps in range(2, 11):
        now = weights(replayed(steps))
        expected = [0.8 * e + 0.2 * w for e, w in zip(expected, now, strict=True)]
    for mine, right in zip(weights(trainer.evaluated), expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6)
    assert trainer.model.training  # the trained model is left as it was
    for name, value in tm.load(best).items():
        assert value.numpy().tobytes() == trainer.evaluated.state_dict()[name].numpy().tobytes()
    measured = plain.model
    measured.load_state_dict(tm.load(best))
    assert plain.evaluate(loader)["loss"] == trainer.history["validation_loss"][-1]


def replayed(steps: int) -> nn.Module:
    """Return the model after so many steps of the same training."""
    trainer = trainer_of(callbacks=[Counted(steps)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(DataLoader(data(), 20), epochs=2)
    return trainer.model


def test_running_statistics_follow_the_model_and_a_resume_is_exact(tmp_path: pathlib.Path) -> None:
    def make(stop: int) -> tuple[Trainer, DataLoader]:
        tm.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        trainer = Trainer(
            model, tm.optim.Adam(model.parameters(), lr=0.05), nn.functional.cross_entropy,
            accumulate=2, average=AveragedModel(model),
            callbacks=[Checkpoint(tmp_path, 0), Counted(stop)],
        )  # fmt: skip
        return trainer, DataLoader(data(), 20, shuffle=True, seed=3)

    straight, loader = make(-1)
    straight.fit(loader, loader, epochs=2)
    for mine, right in zip(straight.evaluated.buffers(), straight.model.buffers(), strict=True):
        assert bool((mine == right).all())
    first, loader = make(8)
    with pytest.raises(KeyboardInterrupt):
        first.fit(loader, loader, epochs=2)
    second, loader = make(-1)
    second.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    second.fit(loader, loader, epochs=2)
    for name, value in straight.state_dict()["average"].items():
        assert second.state_dict()["average"][name].numpy().tobytes() == value.numpy().tobytes()
    assert second.history["validation_loss"] == straight.history["validation_loss"]


def test_a_state_with_an_average_needs_a_trainer_with_one() -> None:
    for one, other in ((True, False), (False, True)):
        with pytest.raises(LoadError, match="only one has an average"):
            trainer_of(averaged=one).load_state_dict(trainer_of(averaged=other).state_dict())
