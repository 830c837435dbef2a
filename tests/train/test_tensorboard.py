"""Event files for TensorBoard: written by the callback, and read back record by record."""

from __future__ import annotations

import io
import pathlib
import struct
import sys
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.data import DataLoader, TensorDataset
from toumei.errors import ToumeiError
from toumei.io.checkpoint import load_checkpoint
from toumei.train import Callback, Checkpoint, TensorBoard, Trainer, absolute_error

pytest.importorskip("tensorboardX")


def events(folder: pathlib.Path) -> list[Any]:
    """Read the records (length, checksum, event, checksum) of all files, oldest first."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):  # as TensorBoard does
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def scalars(folder: pathlib.Path) -> dict[str, dict[int, float]]:
    """Return the values by tag and step, without those that a later start has made void."""
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for event in events(folder):
        if event.HasField("session_log"):
            for steps in values.values():
                for step in [s for s in steps if s >= event.step]:
                    del steps[step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                values[value.tag][event.step] = value.simple_value
    return values


class StopAfter(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == self.steps:
            raise KeyboardInterrupt


def problem(*watchers: Callback, **options: Any) -> tuple[Trainer, DataLoader]:
    tm.manual_seed(0)
    x = tm.linspace(-1, 1, 40).reshape(-1, 1)
    loader = DataLoader(TensorDataset(x, 3 * x + 1), batch_size=10, shuffle=True, seed=1)
    model = nn.Linear(1, 1)
    optimizer = tm.optim.SGD(model.parameters(), lr=0.1)
    options = {"metrics": {"error": absolute_error}, **options}
    trainer = Trainer(model, optimizer, nn.functional.mse_loss, **options)
    trainer.scheduler = tm.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    trainer.watchers += watchers
    return trainer, loader


class Losses(Callback):
    def __init__(self) -> None:
        self.values: dict[int, float] = {}

    def on_batch_end(self, trainer: Trainer) -> None:
        self.values[trainer.steps] = trainer.latest["loss"]


def test_scalars_stand_at_their_steps(tmp_path: pathlib.Path) -> None:
    losses = Losses()
    trainer, loader = problem(losses, TensorBoard(tmp_path, every=2))
    history = trainer.fit(loader, loader, epochs=3)
    found = scalars(tmp_path)
    ends = [4, 8, 12]
    for tag, column in (
        ("loss/training", "loss"), ("loss/validation", "validation_loss"),
        ("error/training", "error"), ("error/validation", "validation_error"), ("epoch", "epoch"),
    ):  # fmt: skip
        assert found[tag] == pytest.approx(dict(zip(ends, history[column], strict=True)))
    assert found["loss/step"] == pytest.approx({s: losses.values[s] for s in range(2, 13, 2)})
    expected = {2: 0.1, 4: 0.1, 6: 0.05, 8: 0.05, 10: 0.025, 12: 0.025}
    assert found["lr"] == pytest.approx(expected)
    assert set(found) == {
        "loss/step", "error/step", "loss/training", "loss/validation", "error/training",
        "error/validation", "lr", "epoch", "seconds",
    }  # fmt: skip


def test_a_resumed_run_goes_on_where_its_checkpoint_was(tmp_path: pathlib.Path) -> None:
    def make(folder: str, stop: int, seconds: float = 0) -> tuple[Trainer, DataLoader]:
        board = TensorBoard(tmp_path / folder, every=1)
        return problem(board, StopAfter(stop), callbacks=[Checkpoint(tmp_path, seconds)])

    straight, loader = make("a", -1)
    straight.fit(loader, epochs=3)
    first, loader = make("b", 7, seconds=1e9)  # its last checkpoint is that of step 4
    with pytest.raises(KeyboardInterrupt):
        first.fit(loader, epochs=3)
    assert max(scalars(tmp_path / "b")["loss/step"]) == 7
    second, loader = make("b", -1)
    second.load_state_dict(load_checkpoint(tmp_path / Checkpoint.LAST)["state"])
    assert second.steps == 4
    second.fit(loader, epochs=3)
    one, two = scalars(tmp_path / "a"), scalars(tmp_path / "b")
    del one["seconds"], two["seconds"]
    assert one == two


def test_histograms_and_figures(tmp_path: pathlib.Path) -> None:
    from matplotlib.figure import Figure
    from PIL import Image

    def draw(trainer: Trainer) -> Figure:
        figure = Figure(figsize=(2, 1), dpi=50, facecolor=(1, 0, 0))
        return figure

    trainer, loader = problem(TensorBoard(tmp_path, histograms=2, figures={"red": draw}))
    trainer.fit(loader, epochs=4)
    values = [(e.step, v) for e in events(tmp_path) for v in e.summary.value]
    counts = {(step, v.tag): v.histo for step, v in values if v.HasField("histo")}
    assert set(counts) == {(s, f"weights/{n}") for s in (8, 16) for n in ("weight", "bias")}
    weight = trainer.model.get_parameter("weight").item()
    assert counts[16, "weights/weight"].sum == pytest.approx(weight) and weight != 0
    images = [(step, v.image) for step, v in values if v.HasField("image")]
    assert [step for step, _ in images] == [4, 8, 12, 16]
    pixels = np.asarray(Image.open(io.BytesIO(images[0][1].encoded_image_string)))
    assert pixels.shape == (50, 100, 3) and (pixels == [255, 0, 0]).all()


def test_each_group_of_parameters_has_its_rate(tmp_path: pathlib.Path) -> None:
    trainer, loader = problem(TensorBoard(tmp_path, every=4))
    model = trainer.model
    assert isinstance(model, nn.Linear)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.2}]
    trainer.optimizer, trainer.scheduler = tm.optim.SGD(groups, lr=0.1), None
    trainer.fit(loader, epochs=1)
    found = scalars(tmp_path)
    assert found["lr/0"] == pytest.approx({4: 0.1}) and found["lr/1"] == pytest.approx({4: 0.2})


def test_without_the_library_the_message_says_what_to_install(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ToumeiError, match=r'pip install "toumei\[tensorboard\]"'):
        TensorBoard(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="every must be positive"):
        TensorBoard(tmp_path, every=0)
