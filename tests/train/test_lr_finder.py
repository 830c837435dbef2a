"""The learning-rate finder, on problems whose stable range is known."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.data import DataLoader, TensorDataset
from toumei.device import get_rng_state
from toumei.errors import ToumeiError
from toumei.optim.swa_utils import AveragedModel
from toumei.train import LRCurve, Trainer, find_lr
from toumei.train.lr_finder import _gradient, smoothed


def parabola(size: float) -> tuple[Trainer, DataLoader]:
    """Return the problem (w·size − 3·size)²: gradient descent converges for rates < 1/size²."""
    x = tm.tensor([[1.0], [-1.0]]) * size
    model = nn.Linear(1, 1, bias=False)
    with tm.no_grad():
        model.weight.fill_(0.0)
    trainer = Trainer(model, tm.optim.SGD(model.parameters(), lr=1.0), nn.functional.mse_loss)
    return trainer, DataLoader(TensorDataset(x, 3 * x), batch_size=2)


@pytest.mark.parametrize("size", [0.5, 1.0, 10.0])
def test_the_suggestion_is_well_within_the_stable_range(size: float) -> None:
    trainer, loader = parabola(size)
    limit = 1 / size**2
    curve = find_lr(trainer, loader, lowest=1e-6 * limit, highest=1e3 * limit)
    assert curve.suggestion is not None
    assert 0.005 * limit < curve.suggestion < 0.5 * limit
    assert limit < curve.rates[-1] < 100 * limit  # it ends when it diverges
    assert len(curve.losses) == len(curve.rates) < 100
    assert min(curve.losses) < 0.2 * curve.losses[0]

    def loss_after(rate: float) -> float:
        trainer, loader = parabola(size)
        trainer.optimizer.param_groups[0]["lr"] = rate
        return trainer.fit(loader, epochs=60)["loss"][-1]

    start = loss_after(0.0)
    assert loss_after(curve.suggestion) < 0.1 * start
    assert not loss_after(10 * limit) < start  # but a NaN


def test_the_curve_of_a_problem_scaled_by_ten_is_shifted_by_a_hundred() -> None:
    found = []
    for size in (1.0, 10.0):
        curve = find_lr(*parabola(size), lowest=1e-6 / size**2, highest=1e3 / size**2)
        found.append(curve)
    assert found[0].suggestion == pytest.approx(100 * found[1].suggestion)  # type: ignore[operator]
    np.testing.assert_allclose(np.array(found[1].losses) / 100, found[0].losses, rtol=1e-3)


class Normed(nn.Module):
    """Dropout, and a buffer that training moves."""

    def __init__(self) -> None:
        self.layer = nn.Linear(4, 8)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(8, 2)
        self.register_buffer("seen", tm.zeros(()))
        self.register_buffer("hidden", tm.zeros(()), persistent=False)

    def forward(self, x: tm.Tensor) -> tm.Tensor:
        if self.training:
            with tm.no_grad():
                self.seen.add_(1.0)
                self.hidden.add_(1.0)
        return self.out(self.drop(self.layer(x).relu()))


def trainer_of(accumulate: int = 1) -> tuple[Trainer, DataLoader]:
    tm.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = Normed()
    groups = [{"params": model.layer.parameters()}, {"params": model.out.parameters(), "lr": 0.03}]
    optimizer = tm.optim.Adam(groups, lr=0.01)
    trainer = Trainer(
        model, optimizer, nn.functional.cross_entropy, accumulate=accumulate,
        scheduler=tm.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5), schedule_every="step",
        average=AveragedModel(model),
    )  # fmt: skip
    data = TensorDataset(tm.from_numpy(x), tm.from_numpy(y))
    return trainer, DataLoader(data, batch_size=10, shuffle=True, seed=2)


def everything(trainer: Trainer, loader: DataLoader) -> list[Any]:
    """Return all that training may change, as what can be compared."""
    assert trainer.average is not None
    tensors = [*trainer.model.parameters(), *trainer.model.buffers()]
    tensors += trainer.average.state_dict().values()
    tensors += [s for state in trainer.optimizer.state.values() for s in state.values()]
    grads = [_gradient(p) for p in trainer.model.parameters()]
    return [
        [t.detach().numpy().tobytes() for t in tensors],
        [g if g is None else g.numpy().tobytes() for g in grads],
        [m.training for m in trainer.model.modules()],
        [{k: v for k, v in g.items() if k != "params"} for g in trainer.optimizer.param_groups],
        get_rng_state().tolist(), loader.state_dict(), trainer.scheduler.state_dict(),
        [trainer.waiting, trainer.steps, trainer.updates, trainer.latest, trainer.epoch],
    ]  # fmt: skip


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("begun", [False, True])
def test_afterwards_everything_is_as_it_was(epochs: int, accumulate: int, begun: bool) -> None:
    def run(with_sweep: bool) -> list[Any]:
        trainer, loader = trainer_of(accumulate)
        trainer.fit(loader, epochs=epochs)
        trainer.model.drop.eval()
        if begun:
            next(iter(loader))
        before = copy.deepcopy(everything(trainer, loader))
        if with_sweep:
            find_lr(trainer, loader, lowest=1e-5, steps=30)
            assert everything(trainer, loader) == before
            assert epochs or not trainer.optimizer.state
        trainer.fit(loader, epochs=epochs + 2)
        return everything(trainer, loader)

    assert run(with_sweep=True) == run(with_sweep=False)


class TwoOptimizers(Trainer):
    """Trains the two layers each with an optimiser of its own."""

    def training_step(self, batch: Any) -> dict[str, tm.Tensor]:
        self.second.zero_grad()
        self.optimizer.zero_grad()
        loss = self.loss(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        self.second.step()
        return {"loss": loss.detach()}


def test_a_second_optimizer_is_put_back_too() -> None:
    plain, loader = trainer_of()
    first = tm.optim.SGD(plain.model.layer.parameters(), lr=0.1)
    trainer = TwoOptimizers(plain.model, first, plain.loss)
    trainer.second = tm.optim.Adam(plain.model.out.parameters())  # type: ignore[attr-defined]
    trainer.fit(loader, epochs=1)
    state = trainer.second.state_dict()["state"]  # type: ignore[attr-defined]
    before = [v.numpy().copy() for s in state.values() for v in s.values()]
    find_lr(trainer, loader, steps=20)
    state = trainer.second.state_dict()["state"]  # type: ignore[attr-defined]
    after = [v.numpy() for s in state.values() for v in s.values()]
    assert len(after) == 6 and all((a == b).all() for a, b in zip(after, before, strict=True))


def test_also_after_an_error() -> None:
    trainer, loader = trainer_of()
    before = copy.deepcopy(everything(trainer, loader))
    batches = list(loader)[:3]

    def broken() -> Any:
        yield from batches
        raise OSError("the disk is gone")

    trainer, loader = trainer_of()
    with pytest.raises(OSError, match="the disk is gone"):
        find_lr(trainer, broken())
    assert everything(trainer, loader) == before


def test_groups_keep_their_ratio_and_the_sweep_goes_round() -> None:
    trainer, loader = trainer_of()
    seen: list[list[float]] = []
    step = trainer.training_step

    def spied(batch: Any) -> Any:
        seen.append([group["lr"] for group in trainer.optimizer.param_groups])
        return step(batch)

    trainer.training_step = spied  # type: ignore[method-assign]
    curve = find_lr(trainer, list(loader)[:2], lowest=1e-6, highest=1e-3, steps=7)
    assert curve.rates == pytest.approx([1e-6 * 10 ** (i / 2) for i in range(7)])
    np.testing.assert_allclose(seen, [[r, 3 * r] for r in curve.rates])


def test_smoothing_shifts_nothing_and_hides_no_explosion() -> None:
    step = [2.0] * 50 + [1.0] * 50
    smooth = np.array(smoothed(step))
    assert abs(int(np.argmin(np.diff(smooth))) - 49) <= 1
    assert smooth[0] == pytest.approx(2, abs=0.02) and smooth[-1] == pytest.approx(1, abs=0.02)
    exploded = smoothed([*step, 1e30])
    assert max(exploded) <= 2 and exploded[-1] > exploded[-30]
    noise = np.random.default_rng(0).normal(size=400)
    assert np.std(smoothed((5 + noise).tolist())) < 0.3


def test_a_loss_that_never_falls_gives_no_suggestion(tmp_path: pathlib.Path) -> None:
    trainer, loader = parabola(1.0)
    with tm.no_grad():
        trainer.model.get_parameter("weight").fill_(3.0)  # the minimum
    curve = find_lr(trainer, loader, steps=10)
    assert curve.suggestion is None and len(curve.rates) == 10
    curve.plot(tmp_path / "flat.png")
    assert (tmp_path / "flat.png").read_bytes()[:4] == b"\x89PNG"


def test_the_picture(tmp_path: pathlib.Path) -> None:
    curve = LRCurve([1e-4, 1e-3, 1e-2, 1e-1], [2.0, 1.9, 1.0, 3.0], 1e-2)
    curve.plot(tmp_path / "rates.svg")
    assert "suggestion: 0.01" in (tmp_path / "rates.svg").read_text()
    with pytest.raises(ToumeiError, match=r"no picture can be a \.xyz file"):
        curve.plot(tmp_path / "rates.xyz")


def test_what_makes_no_sense_is_refused() -> None:
    trainer, loader = parabola(1.0)
    for options, error, words in (
        ({"lowest": 0.0}, ValueError, "must rise from above 0"),
        ({"lowest": 1.0, "highest": 0.1}, ValueError, "must rise"),
        ({"steps": 2}, ValueError, "at least 3 steps"),
    ):
        with pytest.raises(error, match=words):
            find_lr(trainer, loader, **options)  # type: ignore[arg-type]
    with pytest.raises(ToumeiError, match="the loader has no batches"):
        find_lr(trainer, [])
    trainer.accumulate_step = lambda batch: {"loss_d": batch[0], "loss_g": batch[0]}  # type: ignore
    with pytest.raises(ToumeiError, match=r"has no single loss .* but loss_d, loss_g"):
        find_lr(trainer, loader)
    del trainer.accumulate_step
    nan = [(tm.tensor([[float("nan")]]), tm.tensor([[1.0]]))]
    with pytest.raises(ToumeiError, match="not finite after 0 steps"):
        find_lr(trainer, nan)
