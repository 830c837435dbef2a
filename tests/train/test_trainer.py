"""The trainer, its callbacks and metrics, on small problems with known answers."""

from __future__ import annotations

import io
import json
import pathlib
import warnings
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import toumei as tm
from toumei import nn
from toumei.data import DataLoader, TensorDataset
from toumei.errors import LoadError, SaveError
from toumei.io.checkpoint import load_checkpoint, save_checkpoint
from toumei.train import (
    BestModel,
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    HistoryLog,
    LossPlot,
    Progress,
    Schedule,
    Trainer,
    accuracy,
    confusion_matrix,
    plot_history,
    top_k_accuracy,
)


def problem(seed: int = 0, callbacks: list[Callback] | None = None) -> tuple[Trainer, DataLoader]:
    """Return a trainer with dropout, momentum and a schedule, and its loader."""
    tm.manual_seed(seed)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    y = (x.sum(1) > 0).astype(np.int64)
    loader = DataLoader(
        TensorDataset(tm.from_numpy(x), tm.from_numpy(y)), batch_size=20, shuffle=True, seed=1
    )
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
    optimizer = tm.optim.Adam(model.parameters(), lr=0.01)
    schedule = tm.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    trainer = Trainer(
        model, optimizer, nn.functional.cross_entropy,
        metrics={"accuracy": accuracy}, scheduler=schedule, callbacks=callbacks or [],
    )  # fmt: skip
    return trainer, loader


def weights(trainer: Trainer) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())


def test_it_learns_and_keeps_a_history() -> None:
    trainer, loader = problem()
    history = trainer.fit(loader, loader, epochs=30)
    assert len(history) == 30 and trainer.steps == 30 * 5
    assert history["loss"][-1] < history["loss"][0] * 0.7
    assert history["validation_accuracy"][-1] > 0.85
    assert history["lr"][:5] == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])
    assert not hasattr(history, "nothing") and history.best("loss")["epoch"] > 20


class StopAfter(Callback):
    """Interrupts training after so many batches and their checkpoint, like a kill."""

    last = True

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [1, 4, 5, 12])
def test_resume_in_the_middle_of_an_epoch_is_exact(tmp_path: pathlib.Path, steps: int) -> None:
    straight, loader = problem()
    straight.fit(loader, epochs=4)

    def cut(stop: int) -> tuple[Trainer, DataLoader]:
        return problem(callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path, 0), StopAfter(stop)])

    first, loader = cut(steps)
    with pytest.raises(KeyboardInterrupt):
        first.fit(loader, epochs=4)
    tm.manual_seed(99)  # whatever happens in between
    second, loader = cut(-1)
    second.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    assert second.steps == steps
    second.fit(loader, epochs=4)
    assert weights(second) == weights(straight)
    assert second.history["loss"] == straight.history["loss"]
    assert second.history["accuracy"] == straight.history["accuracy"]


def test_a_changed_thread_count_or_version_warns(tmp_path: pathlib.Path) -> None:
    from toumei.io.safetensors import save

    content = {"format": "toumei-checkpoint-1", "state": {}, "circumstances": {"threads": 77}}
    save(content, tmp_path / "c.safetensors")
    with pytest.warns(UserWarning, match="written with threads 77, now it is"):
        load_checkpoint(tmp_path / "c.safetensors")


def test_what_is_no_checkpoint_is_refused(tmp_path: pathlib.Path) -> None:
    tm.save({"a": tm.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(LoadError, match="is no checkpoint"):
        load_checkpoint(tmp_path / "weights.safetensors")
    with pytest.raises(LoadError):
        load_checkpoint(tmp_path / "missing.safetensors")
    save_checkpoint(tmp_path / "c.safetensors", {"w": tm.ones(1000)})
    whole = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes(whole[:-100])
    with pytest.raises(LoadError):
        load_checkpoint(tmp_path / "c.safetensors")


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, {"w": tm.zeros(3)})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        save_checkpoint(path, {"w": tm.ones(3)})
    assert load_checkpoint(path)["state"]["w"].tolist() == [0, 0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_early_stopping_waits_for_its_patience() -> None:
    stopping = EarlyStopping("loss", patience=2)
    trainer, _ = problem()
    for epoch, loss in enumerate([1.0, 0.5, 0.6, 0.7]):
        assert not trainer.stop
        stopping.on_epoch_end(trainer, {"epoch": epoch, "loss": loss})
    assert trainer.stop
    with pytest.raises(KeyError, match="no column 'accuracy'"):
        EarlyStopping("accuracy").on_epoch_end(trainer, {"loss": 1.0})


def test_files_of_a_run(tmp_path: pathlib.Path) -> None:
    callbacks = [
        BestModel(tmp_path / "best.safetensors", "validation_accuracy", "max"),
        HistoryLog(tmp_path / "history.json"),
        HistoryLog(tmp_path / "history.csv"),
        LossPlot(tmp_path / "loss.png", "small"),
    ]
    trainer, loader = problem(callbacks=callbacks)
    trainer.fit(loader, loader, epochs=3)
    rows = json.loads((tmp_path / "history.json").read_text())
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("epoch,loss,accuracy,validation_loss")
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"
    best = tm.load(tmp_path / "best.safetensors")
    trainer.model.load_state_dict(best)
    measured = trainer.evaluate(loader)["accuracy"]
    assert measured == pytest.approx(max(trainer.history["validation_accuracy"]))


def test_several_runs_in_one_picture(tmp_path: pathlib.Path) -> None:
    runs = {n: History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]) for n in "ab"}
    plot_history(runs, tmp_path / "both.svg")
    text = (tmp_path / "both.svg").read_text()
    assert text.lstrip().startswith("<?xml")
    with pytest.raises(tm.errors.ToumeiError, match="nothing to draw"):
        plot_history({"empty": History()}, tmp_path / "none.png")


def test_damaged_history_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "history.json"
    path.write_text('[{"epoch": 1, "lo')
    with pytest.raises(LoadError, match="no history can be read"):
        History.load(path)
    path.write_text('{"epoch": 1}')
    with pytest.raises(LoadError, match="a list of rows was expected"):
        History.load(path)


def test_metrics() -> None:
    scores = tm.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
    target = tm.tensor([1, 1, 0])
    assert accuracy(scores, target).tolist() == [1, 0, 0]
    assert top_k_accuracy(scores, target, k=2).tolist() == [1, 1, 0]
    assert confusion_matrix(scores, target, 3).tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    soft = tm.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.4, 0.3, 0.3]])
    assert accuracy(scores, soft).tolist() == [1, 0, 0]
    assert top_k_accuracy(scores, soft, k=2).tolist() == [1, 1, 0]
    with pytest.raises(tm.errors.OpError, match=r"scores \(N, C\) and classes \(N\)"):
        accuracy(scores, tm.tensor([1, 0]))


def test_no_warning_when_nothing_changed(tmp_path: pathlib.Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", {"w": tm.ones(1)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path / "c.safetensors")


def test_the_order_of_callbacks_and_the_loaders_are_no_trap(tmp_path: pathlib.Path) -> None:
    """A checkpoint listed first still holds what the others noted; both loaders are taken up."""

    def make(folder: pathlib.Path, stop: int) -> tuple[Trainer, DataLoader, DataLoader]:
        stopping = EarlyStopping("loss", patience=1, min_delta=0.5)
        trainer, train = problem(callbacks=[Checkpoint(folder, 0), stopping, StopAfter(stop)])
        validation = DataLoader(train.dataset, batch_size=7, shuffle=True, seed=2)
        return trainer, train, validation

    straight, train, validation = make(tmp_path / "a", -1)
    straight.fit(train, validation, epochs=9)
    assert len(straight.history) == 2  # stopped early
    for steps in (3, 5, 8, 10):
        first, train, validation = make(tmp_path / str(steps), steps)
        with pytest.raises(KeyboardInterrupt):
            first.fit(train, validation, epochs=9)
        for _ in range(2):  # the second time, the run is over already
            second, train, validation = make(tmp_path / str(steps), -1)
            path = tmp_path / str(steps) / Checkpoint.LAST
            second.load_state_dict(load_checkpoint(path)["state"])
            second.fit(train, validation, epochs=9)
            assert weights(second) == weights(straight)
            assert second.history["validation_loss"] == straight.history["validation_loss"]


def test_resume_skips_the_batches_of_a_plain_list(tmp_path: pathlib.Path) -> None:
    straight, loader = problem()
    batches = list(loader)
    straight.fit(batches, epochs=2)
    first, _ = problem(callbacks=[Checkpoint(tmp_path, 0), StopAfter(3)])
    with pytest.raises(KeyboardInterrupt):
        first.fit(batches, epochs=2)
    second, loader = problem(callbacks=[Checkpoint(tmp_path, 0), StopAfter(-1)])
    second.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    second.fit(batches, epochs=2)
    assert weights(second) == weights(straight) and second.steps == straight.steps
    third, loader = problem()
    third.loader_states = {"train": loader.state_dict()}
    with pytest.raises(LoadError, match="a list can't go on from there"):
        third.fit(batches, epochs=2)


def test_a_run_can_be_resumed_from_its_start(tmp_path: pathlib.Path) -> None:
    trainer, loader = problem(callbacks=[Checkpoint(tmp_path)])
    trainer.training_step = None  # type: ignore[assignment]  # dies at the first batch
    with pytest.raises(TypeError):
        trainer.fit(loader, epochs=1)
    again, _ = problem(callbacks=[Checkpoint(tmp_path)])
    again.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    assert again.steps == 0


def test_the_epochs_of_a_picture_are_whole_even_where_a_loss_is_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toumei.train import plots

    drawn: list[list[float]] = []

    def look(figure: Any, path: Any) -> None:
        figure.draw_without_rendering()
        ax = figure.axes[0]
        low, high = ax.get_xlim()
        drawn.append([tick for tick in ax.get_xticks() if low <= tick <= high])

    monkeypatch.setattr(plots, "save_figure", look)
    plot_history({"one": History([{"epoch": 1, "loss": 2.0}])}, "x.png")
    rows = [{"epoch": i, "loss": 1.0 if i < 2 else float("nan")} for i in (1, 2, 3)]
    plot_history({"nan": History(rows)}, "x.png")
    assert drawn == [[1], [1, 2, 3]]


def test_what_falls_by_decades_is_drawn_on_a_logarithmic_axis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from toumei.train import plots

    scales: list[list[str]] = []

    def look(figure: Any, path: Any) -> None:
        scales.append([ax.get_yscale() for ax in figure.axes])

    monkeypatch.setattr(plots, "save_figure", look)
    values = {"loss": (2.0, 1.0), "validation_error": (0.5, 1e-4), "accuracy": (0.02, 0.9)}
    rows = [{"epoch": i + 1, **{k: v[i] for k, v in values.items()}} for i in range(2)]
    plot_history({"": History(rows)}, "x.png")
    plot_history({"": History([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 99.0}])}, "x.png")
    assert scales == [["linear", "log", "linear"], ["log"]]


def test_an_unknown_kind_of_picture_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(tm.errors.ToumeiError, match=r"no picture can be a \.xyz file; there are"):
        plot_history({"": History([{"epoch": 1, "loss": 2.0}])}, tmp_path / "x.xyz")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_narrow_terminal_cuts_lines_off_and_a_pipe_does_not(terminal: bool) -> None:
    console = Console(width=30, force_terminal=terminal, file=io.StringIO(), color_system=None)
    trainer, loader = problem()
    trainer.watchers.append(Progress(console))
    trainer.fit(loader, epochs=1)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any("epoch     loss" in line for line in lines)
    assert any("seconds" in line for line in lines) is not terminal


def test_the_bar_gives_the_cursor_back_when_training_is_interrupted() -> None:
    console = Console(width=80, force_terminal=True, file=io.StringIO())
    trainer, loader = problem(callbacks=[StopAfter(2)])
    trainer.watchers.append(Progress(console))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loader, epochs=1)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert text.count(hide) == text.count(show) == 1


def test_a_history_with_nan_is_plain_json(tmp_path: pathlib.Path) -> None:
    History([{"epoch": 1, "loss": float("nan")}]).save(tmp_path / "h.json")
    assert json.loads((tmp_path / "h.json").read_text()) == [{"epoch": 1, "loss": None}]
    assert np.isnan(History.load(tmp_path / "h.json")["loss"][0])


def test_a_plateau_is_watched_by_trainer_and_callback_alike() -> None:
    rates = []
    for as_callback in (False, True):
        trainer, loader = problem()
        watch = tm.optim.lr_scheduler.ReduceLROnPlateau(
            trainer.optimizer, factor=0.1, patience=0, threshold=1e9, threshold_mode="abs"
        )
        trainer.scheduler = None if as_callback else watch
        trainer.callbacks = [Schedule(watch)] if as_callback else []
        trainer.fit(loader, epochs=4)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1] < 0.01
