"""The MLP: that it learns, and goes on after a break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from toumei.recipes import find
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run
from toumei.train.callbacks import Callback


@pytest.mark.parametrize("name", ["mlp"])
def test_it_learns(name: str, tmp_path: Path) -> None:
    options = Options(preset="fast", epochs=2, samples=3000, data_dir="/nowhere")
    run = Run(find(name), tmp_path, options)
    summary = run.fit()
    loss = run.trainer.history["loss"]
    assert loss[-1] < loss[0] / 2
    assert summary["value"] > 0.75 > 6 * commonest(run)


def commonest(run: Run) -> float:
    """Return the share of the test set that the commonest class of training has: a tenth or so."""
    labels = run.data.test.labels
    return float((labels == np.bincount(labels).argmax()).mean())


class Break(Callback):
    """Interrupts a run, as Ctrl-C does, after its first epoch."""

    def on_epoch_end(self, trainer: object, row: object) -> None:
        raise KeyboardInterrupt


def test_a_run_that_was_cut_off_goes_on_to_the_same_end(tmp_path: Path) -> None:
    options = Options(preset="fast", epochs=2, samples=640, data_dir="/nowhere")
    whole = Run(find("mlp"), tmp_path / "whole", options)
    whole.fit()
    part = Run(find("mlp"), tmp_path / "part", options)
    with pytest.raises(KeyboardInterrupt):
        part.fit(Break())
    again = Run(find("mlp"), tmp_path / "part", options)
    again.resume()
    again.fit()
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
