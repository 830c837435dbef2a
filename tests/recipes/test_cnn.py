"""The CNN: that it learns, what it leaves, what it is trained on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.recipes.few_images import run_on_few
from toumei.data import MNISTSample, RandomHorizontalFlip
from toumei.recipes import find
from toumei.recipes.images import ImageClassifier
from toumei.recipes.run import Run, open_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_on_few("cnn", tmp_path_factory.mktemp("cnn"), 700, 200, epochs=3, batch=16)


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    assert history["loss"][-1] < history["loss"][0] / 1.6
    labels = run.data.test.labels
    assert max(history["validation_accuracy"]) > 0.7 > 4 * np.bincount(labels).max() / len(labels)


def test_what_it_leaves(run: Run) -> None:
    for name in ("loss.png", "confusion.png", "mistakes.png", "filters.png"):
        assert np.asarray(Image.open(run.folder / name).convert("L")).std() > 5


def test_predict_needs_the_folder_alone(run: Run) -> None:
    opened, sample = open_finished(run.folder), MNISTSample(train=False)
    right = 0
    for digit, label in zip(sample.images[:30, 0], sample.labels, strict=False):
        Image.fromarray(digit).save(run.folder / "digit.bmp")
        text = opened.recipe.predict(opened, str(run.folder / "digit.bmp"), None)
        right += text.split()[0] == str(label)
    assert right > 20


def test_shoes_may_be_mirrored_and_digits_not() -> None:
    recipe = find("cnn")
    assert isinstance(recipe, ImageClassifier)
    for name, mirrored in [("mnist", False), ("sample", False), ("fashion-mnist", True)]:
        kinds = [type(t) for t in recipe.augmentation(name)]
        assert (RandomHorizontalFlip in kinds) is mirrored
        assert recipe.plan(name, "default")[1] is not None
        assert recipe.plan(name, "fast")[1] is None
