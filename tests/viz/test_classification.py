"""Confusion matrices, mistakes, filters."""

from __future__ import annotations

import pathlib
from collections import Counter
from typing import Any

import numpy as np
import pytest

from toumei.errors import ToumeiError
from toumei.viz.canvas import light_to_dark
from toumei.viz.classification import plot_confusion, plot_filters, plot_mistakes

from .looks import assert_legible, box_of, read, texts_of

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def guesses(classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, count)
    predicted = np.where(rng.random(count) < 0.8, truth, rng.integers(0, classes, count))
    return truth, predicted


def test_a_confusion_matrix_counts(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    truth = np.array([0] * 10 + [1] * 4 + [0] * 7)
    predicted = np.array([0] * 9 + [1] + [1] * 4 + [2] * 7)
    plot_confusion(truth, predicted, ["cat", "dog", "$ox$"], tmp_path / "a.png", "three animals")
    assert_legible(figures[0])
    written = Counter(text.replace("\n", " ") for text in texts_of(figures[0]))
    assert written["three animals: 61.90 % of 21 right"] == 1
    assert written["cat"] == written["dog"] == written["$ox$"] == 2  # a row and a column each
    assert written["9"] == written["1"] == written["4"] == written["7"] == 1 and not written["0"]
    assert written["52.9 %"] == written["80.0 %"] == 1  # recall of cat, precision of dog
    assert written["100.0 %"] == 2  # recall of dog, precision of cat
    places = {t.get_text(): t.xy for t in figures[0].axes[1].texts if hasattr(t, "xy")}
    assert places["52.9 %"] == (2.5, 0) and places["80.0 %"] == (1, 2.5)
    assert written["–"] == 1 and written["0.0 %"] == 1  # no ox was there; none of those was one


def test_rows_are_the_truth_and_colours_are_shares(
    tmp_path: pathlib.Path, figures: list[Any]
) -> None:
    plot_confusion([0, 0, 0, 0, 1], [1, 1, 1, 0, 1], "ab", tmp_path / "a.png")
    image = figures[0].axes[1].get_images()[0]
    assert image.get_array().tolist() == [[0.25, 0.75], [0, 1]]
    figures[0].draw_without_rendering()
    found = read(tmp_path / "a.png")
    for (row, column), value in np.ndenumerate(np.array([[0.25, 0.75], [0.0, 1.0]])):
        x, y = figures[0].axes[1].transData.transform((column - 0.35, row + 0.35))
        colour = np.array(light_to_dark()(value**0.5)[:3]) * 255
        assert np.abs(found[found.shape[0] - int(y), int(x)] - colour).max() < 4, (row, column)


@pytest.mark.parametrize(
    "names",
    [list(range(2)), list(range(10)), CIFAR, [f"cls{i}" for i in range(20)]],
    ids=lambda names: f"{len(names)}-{names[0]}",
)
@pytest.mark.parametrize("count", [300, 600_000])
def test_up_to_20_classes_have_their_counts(
    tmp_path: pathlib.Path, figures: list[Any], names: list[Any], count: int
) -> None:
    truth, predicted = guesses(len(names), count)
    plot_confusion(truth, predicted, names, tmp_path / "a.png", "A model on its test set")
    assert_legible(figures[0])
    assert str(((truth == 1) & (predicted == 1)).sum()) in texts_of(figures[0])


@pytest.mark.parametrize("classes", [21, 100, 121])
def test_more_classes_have_no_counts(
    tmp_path: pathlib.Path, figures: list[Any], classes: int
) -> None:
    names = [f"kind{i}" for i in range(classes)]
    plot_confusion(*guesses(classes, 60_000), names, tmp_path / "a.png")
    assert_legible(figures[0])
    written = texts_of(figures[0])
    assert classes > 120 or not any(text.isdigit() for text in written)
    assert written.count("kind3") == (2 if classes <= 120 else 0)


def test_a_confusion_matrix_of_what_does_not_fit_is_refused(tmp_path: pathlib.Path) -> None:
    for truth, predicted, message in (
        ([0, 1], [0], "truth has 2 samples, predicted 1"),
        ([0, 2], [0, 1], "truth holds 0 to 2, but there are 2 classes"),
        ([0, 1], [0.0, 1.0], r"predicted must hold class numbers \(integers\)"),
        ([], [], "none empty"),
    ):
        with pytest.raises(ToumeiError, match=message):
            plot_confusion(truth, predicted, "ab", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_surest_mistakes_come_first(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    sure = np.array([0.9, 0.6, 0.9995, 0.8, 0.7])
    chances = np.stack([1 - sure, sure], 1)
    truth = np.array([1, 0, 0, 0, 0])  # the first is right
    colours = np.array([[k, 255 - k, 200] for k in range(5)], np.uint8)
    images = np.broadcast_to(colours[:, :, None, None], (5, 3, 28, 28))
    plot_mistakes(images, truth, chances, ["7", "1"], tmp_path / "a.png", count=3)
    assert_legible(figures[0])
    captions = [t.replace("\n", " ").replace("\xa0", " ") for t in texts_of(figures[0])]
    assert sorted(captions) == [
        "7, took for 1 (70 %)",
        "7, took for 1 (80 %)",
        "7, took for 1 (>99 %)",
        "Mistakes: the surest 3 of 4 in 5 images",
    ]
    found = read(tmp_path / "a.png")
    lefts = [box_of(found, tuple(colours[k]))[1] for k in (2, 3, 4)]
    assert lefts == sorted(lefts)
    for k in (0, 1):
        assert not (found == colours[k]).all(-1).any()


def test_mistakes_between_classes_with_names(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(10), 100)
    truth = rng.integers(0, 10, 100)
    plot_mistakes(rng.random((100, 3, 32, 32)), truth, chances, CIFAR, tmp_path / "a.png")
    assert_legible(figures[0])
    assert len(figures[0].axes[0].get_images()) == 24
    assert any(t.startswith("Mistakes: the surest 24 of") for t in texts_of(figures[0]))


def test_a_model_without_mistakes(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_mistakes(np.zeros((2, 8, 8)), [0, 1], np.eye(2), "ab", tmp_path / "a.png")
    assert texts_of(figures[0]) == ["no mistake in 2 images"]
    assert (tmp_path / "a.png").exists()


def test_mistakes_of_what_does_not_fit_are_refused(tmp_path: pathlib.Path) -> None:
    fine: dict[str, Any] = {
        "images": np.zeros((2, 8, 8)),
        "truth": [0, 1],
        "probabilities": np.eye(2)[::-1],
        "classes": "ab",
    }
    for wrong, message in (
        ({"probabilities": np.array([[3.0, -2.0], [0, 1]])}, "is it logits"),
        ({"probabilities": np.array([[0.5, 0.4], [0, 1]])}, "add up to 1"),
        ({"probabilities": np.full((2, 2), np.nan)}, "add up to 1"),
        ({"probabilities": np.eye(3)}, r"shape \(2, 2\), not \(3, 3\)"),
        ({"images": np.zeros((3, 8, 8))}, "3 images, but truth has 2"),
        ({"count": 0}, "at least 1: 0"),
    ):
        with pytest.raises(ToumeiError, match=message):
            plot_mistakes(**(fine | wrong), path=tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_filters_are_blue_below_zero_and_red_above(
    tmp_path: pathlib.Path, figures: list[Any]
) -> None:
    weight = np.zeros((3, 2, 1, 3))
    weight[0, :, 0] = [-4, 0, 4]
    weight[1, 0, 0] = [1, -1, 0.5]  # its second channel is zero: the mean is half of this
    plot_filters(weight, tmp_path / "a.png", "first layer")
    assert_legible(figures[0])
    first, second, third = (image.get_array() for image in figures[0].axes[0].get_images())
    red, blue, white = first[0, 2], first[0, 0], first[0, 1]
    assert red[0] > red[2] and blue[2] > blue[0] and white.min() > 240
    assert (second[0, 0] == red).all() and (second[0, 1] == blue).all()  # each to its own scale
    assert (third == white).all()
    assert any("first layer" in text for text in texts_of(figures[0]))


def test_filters_of_three_channels_are_colours(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    weight = np.zeros((1, 3, 2, 2))
    weight[0, :, 0, 0] = [2, -2, 1]
    plot_filters(weight, tmp_path / "a.png")
    (image,) = figures[0].axes[0].get_images()
    assert image.get_array()[0, 0].tolist() == [255, 0, 191]
    assert image.get_array()[1, 1].tolist() == [128, 128, 128]


def test_at_most_100_filters_are_drawn(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_filters(np.ones((128, 1, 3, 3)), tmp_path / "a.png", "fc1.weight")
    assert len(figures[0].axes[0].get_images()) == 100
    assert any("the first 100 of 128" in text for text in texts_of(figures[0]))
    for bad, message in ((np.ones((4, 784)), "4 axes"), (np.full((1, 1, 2, 2), np.nan), "NaN")):
        with pytest.raises(ToumeiError, match=message):
            plot_filters(bad, tmp_path / "b.png")
