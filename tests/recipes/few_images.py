"""A run of a recipe on few digits, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from toumei.data import MNISTSample
from toumei.data.sets import Splits
from toumei.recipes import find, images
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run


def run_on_few(
    name: str, folder: Path, train: int, test: int, epochs: int, batch: int, fit: bool = True
) -> Run:
    """Train a recipe on some of the embedded digits, a tenth of them held out; return the run."""
    parts = MNISTSample(True), MNISTSample(False)
    for part, count in zip(parts, (train, test), strict=True):
        part.images, part.labels = part.images[:count], part.labels[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "load_images", lambda *_: Splits(*parts, "a few digits"))
        options = Options("fast", epochs=epochs, batch_size=batch, data_dir="/nowhere")
        run = Run(find(name), folder, options)
    if fit:
        run.fit()
    return run
