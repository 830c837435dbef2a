"""The trainer with compiled steps trains as it does without."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from toumei import nn, optim
from toumei.compiler import compile as compiler
from toumei.data import DataLoader, TensorDataset
from toumei.errors import TraceError
from toumei.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from toumei.recipes.gan import DCGANTrainer
from toumei.recipes.wgan import WGANTrainer
from toumei.train import Trainer
from toumei.train.metrics import accuracy


def data(count: int = 22) -> DataLoader:
    x = tm.randn(count, 6)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4, shuffle=True, seed=3)


def trained(compile: bool | None, kind: type[Trainer] = Trainer, **more: Any) -> Any:
    tm.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    trainer = kind(
        model, optimizer, F.cross_entropy, metrics={"accuracy": accuracy}, scheduler=schedule,
        schedule_every="step", average=average, compile=compile, **more,
    )  # fmt: skip
    history = trainer.fit(data(), data(8), epochs=3)
    columns = [k for k in history[0] if k != "seconds"] if hasattr(history, "__getitem__") else []
    assert trainer.compiles is bool(compile)
    rows = [[row[k] for k in row if k != "seconds"] for row in history.rows]
    return rows, [p.detach().numpy() for p in model.parameters()], trainer, columns


@pytest.mark.parametrize("more", [{}, {"clip": 0.5}, {"accumulate": 2, "clip": 1.0}])
def test_fit(more: dict[str, Any]) -> None:
    rows, weights, *_ = trained(False, **more)
    others, found, trainer, _ = trained(True, **more)
    np.testing.assert_allclose(rows, others, rtol=1e-4)
    for a, b in zip(weights, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    wanted = {"accumulate_step", "update_step"} if "accumulate" in more else {"whole_step"}
    assert set(trainer._steps) == wanted | {"validation_step"}
    counts = [sum(map(len, s.call.programs.values())) for s in trainer._steps.values()]
    assert max(counts) <= 4  # whole and smaller batches, with and without a gradient before


def test_a_step_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads(Trainer):
        def accumulate_step(self, batch: Sequence[tm.Tensor]) -> dict[str, tm.Tensor]:
            values = super().accumulate_step(batch)
            assert values["loss"].item() > -1
            return values

    with pytest.raises(TraceError, match="item"):
        trained(True, Reads)
    rows, *_ = trained(False)
    monkeypatch.setattr("toumei.train.trainer.COMPILE", True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tm.manual_seed(0)
        model = nn.Linear(6, 2)
        trainer = Reads(model, optim.SGD(model.parameters(), lr=0.1), F.cross_entropy)
        trainer.fit(data(), epochs=2)
    assert len(told) == 1 and "compile=False" in str(told[0].message)
    assert "item()" in str(told[0].message) and rows


@pytest.mark.parametrize("kind", [DCGANTrainer, WGANTrainer])
def test_trainers_with_steps_of_their_own(kind: Any) -> None:
    def losses(compile: bool) -> Any:
        tm.manual_seed(0)
        model = tm.models.DCGAN(4, 2) if kind is DCGANTrainer else tm.models.WGAN(4, 2)
        model.latent = 4
        players = list(model.children())
        optimizers = [optim.SGD(m.parameters(), lr=0.01) for m in players]
        trainer = kind(model, *optimizers, compile=compile)
        found = []
        for i in range(6):
            values = trainer.run_step("training_step", [tm.rand(2, 1, 28, 28)])
            trainer.steps = i + 1
            found.append({k: float(v) for k, v in values.items()})
        return found, {k: v.numpy() for k, v in model.state_dict().items()}, trainer

    (a, before, _), (b, after, trainer) = losses(False), losses(True)
    for x, y in zip(a, b, strict=True):
        assert x == pytest.approx(y, rel=1e-3)
    for k in before:
        np.testing.assert_allclose(before[k], after[k], rtol=1e-3, atol=1e-5)
    assert set(trainer._steps) == set(kind.compiled)
    assert compiler is tm.compile
