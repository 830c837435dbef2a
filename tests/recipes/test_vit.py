"""The vision transformer: that it learns, where it looks, how photographs are mixed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import toumei as tm
from tests.recipes.few_images import run_on_few
from toumei.data import CIFAR10, ImageSet, Subset, ToTensor
from toumei.models.vit import ViT
from toumei.recipes import find
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run, open_finished
from toumei.recipes.vit import class_attention


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_on_few("vit", tmp_path_factory.mktemp("vit"), 1000, 300, epochs=4, batch=25)


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    assert history["loss"][-1] < history["loss"][0] / 1.4
    labels = run.data.test.labels
    assert max(history["validation_accuracy"]) > 0.45 > 3 * np.bincount(labels).max() / len(labels)


def test_what_it_leaves(run: Run) -> None:
    for name in ("loss.png", "confusion.png", "mistakes.png", "filters.png", "attention.png"):
        assert np.asarray(Image.open(run.folder / name).convert("L")).std() > 5


def test_predict_draws_where_it_looked(run: Run) -> None:
    opened = open_finished(run.folder)
    Image.fromarray(run.data.test.images[0, 0]).save(run.folder / "a.png")
    text = opened.recipe.predict(opened, str(run.folder / "a.png"), run.folder / "looked.png")
    assert len(text.splitlines()) == 6
    drawn = np.asarray(Image.open(run.folder / "looked.png").convert("RGB")).astype(int)
    assert np.ptp(drawn, axis=-1).max() > 100  # there is colour in it


def test_attention_of_the_class_token_finds_the_one_patch_that_differs() -> None:
    model = ViT(8, 4, depth=1, heads=1, dim=4, num_classes=2, channels=1).eval()
    for p in model.parameters():
        tm.nn.init.zeros_(p)
    # Patches' first number is their sum; query and key are that number, as the norm leaves it.
    attention = model.encoder.layers[0].self_attention
    model.conv_proj.weight.data = tm.ones(4, 1, 4, 4) * tm.tensor([1.0, 0, 0, 0]).reshape(
        4, 1, 1, 1
    )
    model.encoder.layers[0].ln_1.weight.data = tm.ones(4)
    weight = np.zeros((12, 4), np.float32)
    weight[4, 0] = 1  # key
    attention.in_proj_weight.data = tm.tensor(weight)
    attention.in_proj_bias.data = tm.tensor(np.eye(12, dtype=np.float32)[0] * 9)  # query
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[0, 0, 4:, :4] = 1
    maps = class_attention(model, tm.tensor(image))
    assert maps.shape == (1, 1, 2, 2)
    assert np.unravel_index(maps[0, 0].argmax(), (2, 2)) == (1, 0) and maps[0, 0, 1, 0] > 0.9


class Photographs(CIFAR10):
    """Random images in CIFAR-10's place."""

    def __init__(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (32, 3, 32, 32)).astype(np.uint8)
        ImageSet.__init__(self, images, np.arange(32) % 10, ToTensor())


def batch(dataset: Any, training: bool) -> Any:
    return next(iter(find("vit").loader(dataset, 16, training=training, seed=0)))


def test_photographs_are_mixed_in_training_alone() -> None:
    part = Subset(Subset(Photographs(), list(range(24))), list(range(20)))
    images, labels = batch(part, training=True)
    assert images.shape == (16, 3, 32, 32) and labels.shape == (16, 10)
    np.testing.assert_allclose(labels.sum(1).numpy(), 1, rtol=1e-5)
    assert batch(part, training=False)[1].shape == (16,)
    digits = find("vit").data(Options(data_dir="/nowhere")).train
    assert batch(digits, training=True)[1].shape == (16,)
