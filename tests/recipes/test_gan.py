"""DCGAN: its networks, that it learns to draw digits, what it leaves, and that it resumes."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import toumei as tm
from tests.recipes.few_images import run_on_few
from toumei.models.gan import DCGAN
from toumei.recipes import find, generators
from toumei.recipes.generators import Frames, noise
from toumei.recipes.judge import frechet_distance, judge
from toumei.recipes.recipe import Sampling
from toumei.recipes.run import Run, open_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generators, "JUDGED", 500)
        yield run_on_few("gan", tmp_path_factory.mktemp("gan"), 700, 200, epochs=4, batch=16)


def test_sizes() -> None:
    model = DCGAN(latent=100, width=64)
    count = {n: sum(p.numel() for p in m.parameters()) for n, m in model.named_children()}
    convolutions = 64 * 16 + 128 * 64 * 16 + 256 * 128 * 9
    norms = 2 * (64 + 128 + 256)
    assert count["generator"] == 100 * 256 * 16 + convolutions + 1 + norms
    assert count["discriminator"] == convolutions + 64 + 2 * (128 + 256) + 256 * 16 + 1
    images, scores = model(tm.randn(3, 100))
    assert images.shape == (3, 1, 28, 28) and scores.shape == (3, 1)


def test_weights_start_small() -> None:
    tm.manual_seed(0)
    for name, p in DCGAN().named_parameters():
        values = p.detach().numpy()
        if name.endswith("bias"):
            assert (values == 0).all()
        elif p.ndim == 1:
            assert abs(values.mean() - 1) < 0.01 and 0.01 < values.std() < 0.03
        else:
            assert abs(values.mean()) < 0.003 and 0.018 < values.std() < 0.022


def test_images_are_in_range() -> None:
    tm.manual_seed(0)
    model = DCGAN(latent=5, width=4)
    z = 3 * tm.randn(20, 5)
    images = model.generate(z).detach().numpy()
    np.testing.assert_allclose(2 * images - 1, model(z)[0].detach().numpy(), atol=1e-6)
    assert images.min() >= 0 and images.max() <= 1


def test_it_learns(run: Run) -> None:
    found = run.trainer.history["validation_frechet"]
    assert min(found) < 0.75 * found[0]
    real = (next(iter(run.validation))[0] + 1) / 2
    features = judge().look(real)[0]
    rng = np.random.default_rng(0)
    means, spread = real.numpy().mean(0), real.numpy().std(0)
    trivial = np.clip(means + spread * rng.normal(size=(300, 1, 28, 28)), 0, 1)  # each pixel alone
    baseline = frechet_distance(
        judge().look(tm.from_numpy(trivial.astype(np.float32)))[0], features
    )
    assert min(found) < 0.75 * baseline


def test_what_it_leaves(run: Run) -> None:
    for name in ("loss.png", "digits.png", "samples.png", "classes.png"):
        assert np.asarray(Image.open(run.folder / name).convert("L")).std() > 5
    with Image.open(run.folder / "digits.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 4
    summary = json.loads((run.folder / "summary.json").read_text())
    assert 0 < summary["frechet of real digits"] < summary["value"]
    assert sum(summary["share of each digit"]) == pytest.approx(1, abs=1e-2)


def test_samples_need_the_folder_alone(run: Run, tmp_path: pathlib.Path) -> None:
    opened = open_finished(run.folder)
    recipe = opened.recipe
    paths = [tmp_path / f"{k}.png" for k in range(4)]
    text = recipe.sample(opened, Sampling(count=5, seed=3, out=paths[0]))
    assert text.startswith(f"wrote {paths[0]}\nThe judge reads: ")
    read = text.splitlines()[1].partition(": ")[2].split(", ")
    assert sum(int(part.partition(" × ")[0]) for part in read) == 5
    recipe.sample(opened, Sampling(count=5, seed=3, out=paths[1]))
    recipe.sample(opened, Sampling(count=5, seed=4, out=paths[2]))
    recipe.sample(opened, Sampling(count=5, seed=3, temperature=0.3, out=paths[3]))
    first, *others = [path.read_bytes() for path in paths]
    assert [first == other for other in others] == [True, False, False]
    assert str(run.folder / "samples-7.png") in recipe.sample(opened, Sampling(count=1, seed=7))


def test_no_temperature_no_variety(run: Run, tmp_path: pathlib.Path) -> None:
    opened = open_finished(run.folder)
    text = opened.recipe.sample(opened, Sampling(count=6, temperature=0.0, out=tmp_path / "a.png"))
    assert text.splitlines()[1].startswith("The judge reads: 6 × ")


def test_it_resumes_to_the_same_bits(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run cut off after an epoch is that of one that wasn't."""

    def start(folder: pathlib.Path) -> Run:
        return run_on_few("gan", folder, 130, 40, epochs=2, batch=16, fit=False)

    monkeypatch.setattr(generators, "JUDGED", 100)
    whole = start(tmp_path / "whole")
    whole.trainer.fit(whole.train, whole.validation, epochs=2)
    cut = start(tmp_path / "cut")
    cut.trainer.fit(cut.train, cut.validation, epochs=1)
    again = start(tmp_path / "cut")
    again.resume()
    again.trainer.fit(again.train, again.validation, epochs=2)
    for name, value in whole.model.state_dict().items():
        assert (again.model.state_dict()[name] == value).all(), name
    frames = [next(c for c in r.trainer.callbacks if isinstance(c, Frames)) for r in (whole, again)]
    assert np.array_equal(*(np.stack(f.images) for f in frames))
    assert frames[1].images[0].dtype == np.uint8 and frames[1].epochs == [1, 2]
    ours, theirs = ([{**row, "seconds": 0} for row in r.trainer.history] for r in (whole, again))
    assert ours == theirs


def test_a_step_can_be_traced() -> None:
    """Shapes and dtypes alone are enough for both networks."""
    text = str(tm.summary(DCGAN(100, 64), *find("gan").example({"latent": 100})))
    assert "[1, 256, 4, 4]" in text and "[1, 1, 28, 28]" in text


def test_noise_is_the_same_for_a_seed_whatever_was_drawn_before() -> None:
    first = noise(3, 4, seed=5)
    tm.randn(7)
    assert (noise(3, 4, seed=5) == first).all() and not (noise(3, 4, seed=6) == first).all()
