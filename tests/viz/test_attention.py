"""Attention maps between tokens, and over images."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from toumei.errors import ToumeiError
from toumei.viz.attention import overlaid, plot_attention, plot_attention_over_image
from toumei.viz.canvas import light_to_dark

from .looks import assert_legible, read, texts_of

GERMAN = ["ein", "mann", "in", "einem", "blauen", "hemd", "steht", "auf", "einer", "leiter", "."]
ENGLISH = ["<s>", "a", "man", "in", "a", "blue", "shirt", "stands", "on", "a", "ladder", "."]


def maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(shape[-1], 0.3), shape[:-1])


def test_rows_look_at_columns(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    weights = np.array([[1.0, 0, 0], [0.25, 0.75, 0]])
    plot_attention(weights, ["to", "be"], ["\n", "a b", "$"], tmp_path / "a.png", "who at whom")
    assert_legible(figures[0])
    assert {"to", "be", "↵", "a␣b", "$", "who at whom"} <= set(texts_of(figures[0]))
    ax = figures[0].axes[1]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["to", "be"]
    assert ax.yaxis_inverted() and not ax.xaxis_inverted()  # the first row is the uppermost
    found = read(tmp_path / "a.png")
    for (row, column), value in np.ndenumerate(weights):
        x, y = ax.transData.transform((column, row))
        colour = np.array(light_to_dark()(value)[:3]) * 255
        assert np.abs(found[found.shape[0] - int(y), int(x)] - colour).max() < 4, (row, column)


@pytest.mark.parametrize("heads", [0, 1, 3, 8])
@pytest.mark.parametrize("text", [False, True])
def test_every_head_has_a_legible_panel(
    tmp_path: pathlib.Path, figures: list[Any], heads: int, text: bool
) -> None:
    rows, columns = (list("To be, or not to be: that is the $"),) * 2 if text else (ENGLISH, GERMAN)
    shape = (heads, len(rows), len(columns)) if heads else (len(rows), len(columns))
    plot_attention(maps(*shape), rows, columns, tmp_path / "a.png", "Layer 2")
    assert_legible(figures[0])
    named = [text for text in texts_of(figures[0]) if text.startswith("head ")]
    assert len(named) == (heads if heads > 1 else 0)
    images = [image for ax in figures[0].axes for image in ax.get_images()]
    assert len(images) == max(heads, 1)
    assert len({image.norm.vmax for image in images}) == 1  # one scale for all


def test_a_row_that_looks_at_nothing_is_grey(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_attention([[np.nan, np.nan], [0.5, 0.5]], "ab", "cd", tmp_path / "a.png")
    x, y = figures[0].axes[1].transData.transform((0, 0))
    found = read(tmp_path / "a.png")
    assert found[found.shape[0] - int(y), int(x)] == pytest.approx(0.85 * 255, abs=1)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((3, 2)), r"weights are \(3, 2\), the tokens are \(2, 2\)"),
        (np.array([[1.0, -1], [0, 1]]), "are they scores"),
        (np.array([[np.inf, 0], [0, 1]]), "finite"),
        (np.full((2, 2), np.nan), "all attention weights are NaN"),
        (np.ones(4), "2 or 3 axes"),
    ],
)
def test_what_is_no_attention_is_refused(
    tmp_path: pathlib.Path, weights: np.ndarray, message: str
) -> None:
    with pytest.raises(ToumeiError, match=message):
        plot_attention(weights, "ab", "cd", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_too_many_tokens_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ToumeiError, match="at most 200 tokens"):
        plot_attention(np.ones((1, 201)), "a", "b" * 201, tmp_path / "a.png")


def test_a_map_lies_over_its_part_of_the_image(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    found = np.zeros((2, 4, 4))
    found[0, 0, 3] = found[1, 3, 0] = 0.2  # upper right, lower left
    plot_attention_over_image(np.full((28, 28), 0.5), found, tmp_path / "a.png", "ViT")
    assert_legible(figures[0])
    assert {"image", "map 1", "map 2", "largest", "ViT"} <= set(texts_of(figures[0]))
    drawn = read(tmp_path / "a.png").astype(int)
    panels = [ax for ax in figures[0].axes if ax.get_images()][:3]
    corners = []
    for ax in panels:
        box = ax.get_window_extent()
        top, bottom = drawn.shape[0] - box.y1 + 10, drawn.shape[0] - box.y0 - 10
        corners.append(
            [drawn[int(y), int(x)] for y in (top, bottom) for x in (box.x0 + 10, box.x1 - 10)]
        )
    assert (np.array(corners[0]) == 128).all()  # the image itself
    green = np.array(corners)[1:, :, 1]
    assert green.argmax(1).tolist() == [1, 2]  # the largest is yellow
    assert (np.sort(green, axis=1)[:, -1] > np.sort(green, axis=1)[:, -2] + 50).all()


@pytest.mark.parametrize("count", [1, 4, 12])
def test_maps_over_a_colour_image(tmp_path: pathlib.Path, figures: list[Any], count: int) -> None:
    image = np.random.default_rng(0).random((3, 32, 48))
    labels = [f"layer {k}" for k in range(count)]
    plot_attention_over_image(image, maps(count, 4, 6), tmp_path / "a.png", "", labels)
    assert_legible(figures[0])
    assert set(labels) <= set(texts_of(figures[0]))
    first = figures[0].axes[1].get_images()[0].get_array()
    assert (first[::4, ::4] == np.rint(np.moveaxis(image, 0, -1) * 255)).all()


def test_an_overlay_is_dark_to_light_and_none_is_the_image() -> None:
    image = np.full((4, 4), 100, np.uint8)
    weights = np.array([[0.0, 0.0], [0.0, 0.4]])
    drawn = overlaid(image, weights, 3)
    assert drawn.shape == (12, 12, 3)
    assert (drawn[-1, -1] > drawn[0, 0]).sum() >= 2  # viridis: dark blue to yellow
    plain = overlaid(image, None, 3)
    assert plain.shape == (12, 12, 3) and (plain == 100).all()


def test_maps_that_do_not_fit_are_refused(tmp_path: pathlib.Path) -> None:
    image = np.zeros((8, 8))
    for given, labels, message in (
        (-maps(2, 2, 2), None, "not negative"),
        (np.full((1, 2, 2), np.nan), None, "finite"),
        (maps(2, 2, 2), ["one"], "2 maps, but 1 labels"),
        (maps(2, 2), None, "maps must have 3 axes"),
    ):
        with pytest.raises(ToumeiError, match=message):
            plot_attention_over_image(image, given, tmp_path / "a.png", labels=labels)
    plot_attention_over_image(image, np.zeros((1, 2, 2)), tmp_path / "zeros.png")
    assert [p.name for p in tmp_path.iterdir()] == ["zeros.png"]
