"""The VAE: its loss, that it learns, its pictures, and what it makes of an image."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import toumei as tm
from tests.recipes.few_images import run_on_few
from toumei.data import MNISTSample
from toumei.errors import ToumeiError
from toumei.models.vae import VAE, vae_loss
from toumei.recipes import generators
from toumei.recipes.recipe import Sampling
from toumei.recipes.run import Run, open_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "JUDGED", 300)
        yield run_on_few("vae", tmp_path_factory.mktemp("vae"), 1500, 300, epochs=12, batch=50)


def test_size_is_that_of_the_published_example() -> None:
    hidden = 784 * 400 + 400 + 400 * 784 + 784
    assert sum(p.numel() for p in VAE().parameters()) == hidden + 3 * 400 * 20 + 2 * 20 + 400
    assert [name for name, _ in VAE().named_children()] == ["fc1", "fc21", "fc22", "fc3", "fc4"]


def test_noise_is_scaled_and_moved() -> None:
    """z = μ + σ·ε, seen through a decoder that hands on what it gets."""
    model = VAE(4, 4, 2)
    with tm.no_grad():
        for name, value in [("fc1", 0), ("fc21", 0), ("fc22", 0), ("fc3", 0), ("fc4", 0)]:
            getattr(model, name).weight.fill_(value)
        for layer in (model.fc3, model.fc4):
            layer.weight[0, 0] = layer.weight[1, 1] = 1.0
            layer.bias.fill_(0.0)
        model.fc21.bias.copy_(tm.tensor([3.0, 5.0]))
        model.fc22.bias.copy_(2 * tm.tensor([2.0, 0.5]).log())
    scores, mu, _ = model(tm.zeros(1, 4), tm.tensor([[1.0, -2.0]]))
    np.testing.assert_allclose(scores.detach().numpy(), [[3 + 2, 5 - 1, 0, 0]], rtol=1e-6)
    assert mu.tolist() == [[3.0, 5.0]]


def test_loss_in_closed_form() -> None:
    """KL of N(m, s²) from N(0, 1) is (m² + s² − 1)/2 − ln s; a sure pixel costs nothing."""
    scores, x = tm.tensor([[50.0, -50.0, 0.0]]), tm.tensor([[1.0, 0.0, 1.0]])
    found = vae_loss(scores, x, tm.tensor([[2.0]]), tm.tensor([[2 * np.log(3.0)]]))
    expected = np.log(2) + (4 + 9 - 1) / 2 - np.log(3)
    np.testing.assert_allclose(found.numpy(), [expected], rtol=1e-6)


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    assert history["loss"][-1] < history["loss"][0] / 1.7
    mean = np.stack([image.numpy() for image, _ in run.data.train]).mean(0).clip(1e-4, 1 - 1e-4)
    test = np.stack([image.numpy() for image, _ in run.data.test])
    each = -(test * np.log(mean) + (1 - test) * np.log(1 - mean))  # the best without a look
    summary = json.loads((run.folder / "summary.json").read_text())
    assert 0 < summary["frechet of real digits"] < summary["frechet"]
    assert summary["value"] < 0.85 * each.sum((1, 2, 3)).mean()


def test_its_measure_is_the_same_each_time(run: Run) -> None:
    first = run.trainer.evaluate(run.validation)
    tm.randn(10)
    assert run.trainer.evaluate(run.validation) == first


def test_what_it_leaves(run: Run) -> None:
    names = "loss digits samples classes latent manifold reconstructions"
    for name in names.split():
        assert np.asarray(Image.open(run.folder / f"{name}.png").convert("L")).std() > 5
    with Image.open(run.folder / "digits.gif") as animation:
        assert getattr(animation, "n_frames", 1) > 8


def test_an_image_is_made_again(run: Run, tmp_path: pathlib.Path) -> None:
    opened, sample = open_finished(run.folder), MNISTSample(train=False)
    picture = tmp_path / "digit.png"
    Image.fromarray(sample.images[0, 0]).save(picture)
    text = opened.recipe.predict(opened, str(picture), tmp_path / "again.png")
    found = float(text.split()[1])
    assert text.startswith("loss ") and 20 < found < 400
    assert f"reads {sample.labels[0]} in the image" in text
    assert np.asarray(Image.open(tmp_path / "again.png").convert("L")).std() > 5
    opened.recipe.predict(opened, str(picture), None)
    assert (run.folder / "digit-reconstructed.png").exists()
    mixed = np.random.default_rng(0).permutation(sample.images[0, 0].ravel()).reshape(28, 28)
    Image.fromarray(mixed).save(picture)  # nothing like a digit
    assert float(opened.recipe.predict(opened, str(picture), None).split()[1]) > 1.4 * found
    with pytest.raises(ToumeiError, match="not there"):
        opened.recipe.predict(opened, str(tmp_path / "none.png"), None)


def test_samples_need_the_folder_alone(run: Run, tmp_path: pathlib.Path) -> None:
    opened = open_finished(run.folder)
    text = opened.recipe.sample(opened, Sampling(count=4, out=tmp_path / "a.png"))
    assert text.startswith(f"wrote {tmp_path / 'a.png'}") and (tmp_path / "a.png").exists()
