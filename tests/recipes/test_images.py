"""Pictures from files as a data set's images, and what all classifiers of images report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import toumei as tm
from toumei import nn
from toumei.data import MNISTSample
from toumei.errors import ToumeiError
from toumei.recipes import find
from toumei.recipes.images import ImageClassifier, first_filters
from toumei.recipes.pictures import ink, read_picture, seen
from toumei.recipes.recipe import Options
from toumei.recipes.run import Opened, Run, open_finished

GREY = (1, 28, 28)


def written(pixels: Any, path: Path, **options: Any) -> str:
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def large(digit: Any, scale: int, margin: tuple[int, int, int, int], invert: bool) -> Any:
    """Enlarge a digit of the sample and put it off the middle: left, top, right, bottom."""
    picture = Image.fromarray(digit).resize((28 * scale, 28 * scale), Image.Resampling.BICUBIC)
    left, top, right, bottom = margin
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right)))
    return 255 - pixels if invert else pixels


# --- reading files ---


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "LA", "CMYK", "I;16", "F"])
def test_every_mode_is_read(mode: str, tmp_path: Path) -> None:
    grey = np.zeros((9, 5), np.uint8)
    grey[:4] = 255
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(grey).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    path = tmp_path / ("a.tiff" if mode in ("F", "CMYK", "I;16") else "a.png")
    picture.save(path)
    found = np.asarray(read_picture(str(path)))
    assert found.shape == (9, 5, 3) and (found == grey[:, :, None]).all()


def test_what_is_transparent_is_white_paper(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)  # black, but nothing of it can be seen
    pixels[1, 1, 3] = 255
    found = np.asarray(read_picture(written(pixels, tmp_path / "a.png")))
    assert (found[1, 1] == 0).all() and found.sum() == 15 * 3 * 255


def test_a_photograph_that_lies_on_its_side_is_put_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :8] = 255
    found = np.asarray(read_picture(written(pixels, tmp_path / "a.png", exif=exif)))
    assert found.shape[:2] == (16, 8) and found[:7].min() == 255 and found[9:].max() == 0


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a line of text")
    whole = tmp_path / "whole.png"
    written(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8), whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:400])
    for name, words in [("b.png", "is not there"), (".", "is a folder"), ("cut.png", "can't be"),
                        ("a.png", "is no image that can be read")]:  # fmt: skip
        with pytest.raises(ToumeiError, match=words):
            read_picture(str(tmp_path / name))


# --- as MNIST was made ---


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_a_large_digit_off_the_middle_becomes_the_samples_digit(
    invert: bool, kind: str, tmp_path: Path
) -> None:
    digits = MNISTSample(train=False).images[:20, 0]
    misses = []
    for digit in digits:
        pixels = large(digit, 9, (40, 150, 7, 0), invert)
        image = seen(read_picture(written(pixels, tmp_path / f"a{kind}")), "mnist", GREY)
        assert image.shape == GREY and image.dtype == np.uint8
        misses.append(np.abs(image[0].astype(float) - digit).mean())
    assert np.mean(misses) < 12  # of 255; from the next digit it is some 70
    assert np.abs(digits[1:].astype(float) - digits[:-1]).mean() > 30


def test_a_digit_fills_20_pixels_and_its_mass_is_in_the_middle(tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 300), (250, 248, 240))
    ImageDraw.Draw(picture).line([(30, 40), (130, 40), (70, 240)], fill=(20, 20, 90), width=22)
    image = seen(picture, "sample", GREY)[0].astype(float)
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    assert rows[-1] - rows[0] + 1 == 20 and 8 <= columns[-1] - columns[0] + 1 <= 12
    assert image.max() == 255
    for share in (image.sum(1), image.sum(0)):
        assert abs((share * np.arange(28)).sum() / share.sum() - 14) <= 0.5


def test_an_image_of_the_sets_own_size_is_taken_as_it_is() -> None:
    digit = MNISTSample(train=False).images[3, 0]
    assert np.array_equal(seen(Image.fromarray(digit), "mnist", GREY)[0], digit)
    assert np.array_equal(seen(Image.fromarray(255 - digit), "mnist", GREY)[0], digit)


def test_clothes_fill_the_image(tmp_path: Path) -> None:
    pixels = np.full((300, 200), 255, np.uint8)
    pixels[50:250, 60:160] = 30
    image = seen(Image.fromarray(pixels), "fashion-mnist", GREY)[0]
    assert image[:, 7:21].min() > 250 and not image[:, :7].any() and not image[:, 21:].any()


def test_shaded_paper_is_no_ink() -> None:
    paper = np.tile(np.linspace(190, 215, 200), (200, 1))
    paper[60:140, 90:110] = 40
    image = seen(Image.fromarray(paper.astype(np.uint8)), "mnist", GREY)[0]
    assert image[4:24, 12:16].min() > 200 and image[:, :10].max() == 0


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_image_is_refused(grey: int) -> None:
    with pytest.raises(ToumeiError, match="blank"):
        ink(np.full((50, 50), float(grey)))


def test_a_photograph_is_cut_to_its_middle() -> None:
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :32], pixels[:, 96:] = (255, 0, 0), (0, 0, 255)
    pixels[:, 32:96] = (0, 255, 0)
    image = seen(Image.fromarray(pixels), "cifar10", (3, 32, 32))
    assert image.shape == (3, 32, 32)
    assert (image[1] > 240).all() and image[0, :, 2:30].max() < 5 and image[2, :, 2:30].max() < 5


# --- a trained classifier ---


class Mean(nn.Module):
    """Scores that say which quarter of the image has most ink."""

    def __init__(self) -> None:
        self.layer = nn.Linear(784, 10)
        weight = np.zeros((10, 2, 14, 2, 14), np.float32)
        for k in range(4):
            weight[k, k // 2, :, k % 2] = 0.05
        self.layer.weight.data = tm.tensor(weight.reshape(10, 784))

    def forward(self, x: tm.Tensor) -> tm.Tensor:
        return self.layer(x.flatten(1))


def opened() -> Opened:
    facts = {"dataset": "sample", "classes": list("abcdefghij"), "shape": list(GREY),
             "mean": [0.1307], "std": [0.3081]}  # fmt: skip
    return Opened(find("mlp"), Path(), facts, Mean().eval())


def test_predict_lists_the_five_likeliest(tmp_path: Path) -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[16:26, 2:12] = 255  # the lower left quarter
    it = opened()
    text = it.recipe.predict(it, written(pixels, tmp_path / "a.png"), tmp_path / "seen.png")
    lines = text.splitlines()
    assert len(lines) == 6 and lines[0].startswith("c ") and "█" in lines[0]
    shares = [float(line.split()[-2]) for line in lines[:5]]
    assert shares == sorted(shares, reverse=True) and shares[0] > 50
    assert lines[5] == f"what the network saw: {tmp_path / 'seen.png'}"
    assert np.asarray(Image.open(tmp_path / "seen.png")).std() > 20


def test_predict_prepares_as_training_does() -> None:
    recipe = find("mlp")
    assert isinstance(recipe, ImageClassifier)
    data = recipe.data(Options(data_dir="/nowhere"))
    prepared = recipe.prepared(data.test.images[:5], data.facts).numpy()
    assert np.array_equal(prepared, np.stack([data.test[k][0].numpy() for k in range(5)]))


def test_first_filters_have_the_shape_of_images() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(784, 7), nn.Linear(7, 3))
    assert first_filters(linear, GREY).shape == (7, 1, 28, 28)
    assert first_filters(nn.Sequential(nn.Conv2d(3, 4, 5)), (3, 9, 9)).shape == (4, 3, 5, 5)


def test_the_embedded_digits_can_be_asked_for() -> None:
    data = find("mlp").data(Options(dataset="sample"))
    assert "embedded" in data.text and data.facts["classes"] == list("0123456789")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(preset="fast", epochs=2, samples=3000, data_dir="/nowhere")
    run = Run(find("mlp"), tmp_path_factory.mktemp("mlp"), options)
    run.fit()
    return run


def test_all_pictures_are_drawn(run: Run) -> None:
    for name in ("loss.png", "confusion.png", "mistakes.png", "filters.png"):
        pixels = np.asarray(Image.open(run.folder / name).convert("L"))
        assert min(pixels.shape) > 150 and pixels.std() > 5


def test_the_run_recognises_digits_from_files(run: Run, tmp_path: Path) -> None:
    it, sample = open_finished(run.folder), MNISTSample(train=False)
    right = 0
    for digit, label in zip(sample.images[:60, 0], sample.labels, strict=False):
        path = written(large(digit, 7, (10, 90, 60, 0), True), tmp_path / "a.png")
        right += it.recipe.predict(it, path, None).split()[0] == str(label)
    assert right > 45
