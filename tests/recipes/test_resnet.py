"""ResNet-20: that it learns, what it leaves, and its photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.recipes.few_images import run_on_few
from toumei.data import CIFAR10, MNISTSample
from toumei.data.files import KNOWN, DataFile, Known
from toumei.recipes import find, images
from toumei.recipes.images import ImageClassifier
from toumei.recipes.recipe import Options
from toumei.recipes.run import Opened, Run, open_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_on_few("resnet", tmp_path_factory.mktemp("resnet"), 240, 60, epochs=3, batch=12)


def test_it_learns(run: Run) -> None:
    loss = run.trainer.history["loss"]
    assert loss[-1] < loss[0] / 1.3
    commonest = np.bincount(MNISTSample().labels[:240]).max() / 240
    # Of training: after so few steps the running statistics aren't those of the images yet.
    assert run.trainer.history["accuracy"][-1] > 0.3 > 2 * commonest


def test_what_it_leaves(run: Run) -> None:
    for name in ("loss.png", "confusion.png", "mistakes.png", "filters.png"):
        assert np.asarray(Image.open(run.folder / name).convert("L")).std() > 5
    opened = open_finished(run.folder)
    digit = np.zeros((40, 90), np.uint8)
    digit[8:33, 40:45] = 255
    Image.fromarray(digit).save(run.folder / "one.png")
    text = opened.recipe.predict(opened, str(run.folder / "one.png"), run.folder / "seen.png")
    assert len(text.splitlines()) == 6 and (run.folder / "seen.png").exists()


def photographs(folder: Path) -> Known:
    """Write CIFAR-10 with 20 random images instead of 10,000 in each file; return what it is."""
    known, rng = KNOWN["cifar10"], np.random.default_rng(0)
    folder.mkdir()
    for name, *_ in known.files:
        records = rng.integers(0, 256, (20, 3073)).astype(np.uint8)
        records[:, 0] = np.arange(20) % 10
        records.tofile(folder / name)
    return known._replace(files=tuple(DataFile(name, 20 * 3073) for name, *_ in known.files))


def test_photographs_are_taken_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    monkeypatch.setitem(KNOWN, "cifar10", photographs(folder))
    recipe = find("resnet")
    data = recipe.data(Options(data_dir=str(tmp_path)))
    assert data.text == "CIFAR-10 (100 + 20)"
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 20)
    assert data.facts["shape"] == [3, 32, 32] and data.facts["classes"][3] == "cat"
    assert data.target == 0.90 and recipe.example(data.facts) == ((1, 3, 32, 32),)
    opened = Opened(recipe, tmp_path, data.facts, recipe.model(data.facts).eval())
    Image.fromarray(np.full((50, 80, 3), 99, np.uint8)).save(tmp_path / "a.jpg")
    lines = recipe.predict(opened, str(tmp_path / "a.jpg"), None).splitlines()
    assert len(lines) == 5 and {line.split()[0] for line in lines} <= set(CIFAR10.classes)


def test_the_embedded_digits_are_taken_elsewhere() -> None:
    recipe = find("resnet")
    assert isinstance(recipe, ImageClassifier)
    data = recipe.data(Options(data_dir="/nowhere"))
    assert data.facts["dataset"] == images.SAMPLE and data.facts["shape"] == [1, 28, 28]
    assert len(recipe.augmentation("cifar10")) == 3 and len(recipe.augmentation("sample")) == 1
