"""Sampled texts, and the surprise of characters."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from toumei.errors import ToumeiError
from toumei.viz.canvas import light_to_dark
from toumei.viz.text import plot_character_surprise, plot_samples

from .looks import assert_legible, read, texts_of

VERSE = "But, soft! what light through yonder window breaks?\nIt is the east, for $5 or $6.\n"


def test_samples_stand_in_the_order_of_their_epochs(
    tmp_path: pathlib.Path, figures: list[Any]
) -> None:
    plot_samples({10: VERSE, 1: "xq\n\x07漢", 2: ""}, tmp_path / "a.png", "temperature 0.8")
    assert_legible(figures[0])
    written = texts_of(figures[0])
    assert "It is the east, for $5 or $6." in written and "xq" in written
    heads = {t.get_text(): t.get_position()[1] for t in figures[0].axes[0].texts}
    assert heads["epoch 1"] < heads["epoch 2"] < heads["epoch 10"] < heads[VERSE.split("\n")[0]]


def test_long_samples_are_broken_and_cut(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_samples({1: "abcdefgh " * 300, 2: "x" * 200, 3: "a\n" * 50}, tmp_path / "a.png")
    assert_legible(figures[0])
    written = texts_of(figures[0])
    lines = [line for line in written if not line.startswith("epoch")]
    assert max(map(len, lines)) == 72
    assert sum(line.startswith("abcdefgh") for line in lines) == 9
    assert [line for line in lines if set(line) == {"x"}] == ["x" * 72, "x" * 72, "x" * 56]
    assert lines.count("a") == 8 and lines.count("a…") == 1


def test_at_most_seven_epochs_are_drawn(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_samples(dict.fromkeys(range(1, 31), "text"), tmp_path / "a.png")
    heads = [text for text in texts_of(figures[0]) if text.startswith("epoch")]
    assert len(heads) == 7 and heads[0] == "epoch 1" and heads[-1] == "epoch 30"
    with pytest.raises(ToumeiError, match="no text"):
        plot_samples({}, tmp_path / "b.png")


def test_characters_lie_on_their_surprise(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    text = VERSE * 2
    losses = np.linspace(0, 5, len(text))
    losses[0] = np.nan
    plot_character_surprise(text, losses, tmp_path / "a.png")
    assert_legible(figures[0])
    assert f"mean surprise {np.nanmean(losses):.2f} nats per character" in texts_of(figures[0])
    ax = figures[0].axes[1]
    written = {t.get_position(): t.get_text().replace(r"\$", "$") for t in ax.texts}
    found = read(tmp_path / "a.png").astype(int)
    row = column = 0
    for character, loss in zip(text, losses, strict=True):
        assert written[column, row] == {"\n": "↵"}.get(character, character)
        x, y = ax.transData.transform((column - 0.5, row + 0.5))
        corner = found[found.shape[0] - int(y) - 3, int(x) + 2]  # no letter reaches there
        colour = np.array(light_to_dark()(loss / 5)[:3]) * 255
        assert np.abs(corner - colour).max() < 4, (row, column)
        row, column = (row + 1, 0) if character == "\n" else (row, column + 1)


def test_a_long_text_is_cut_at_its_24th_line(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    text = "ab" * 2000
    losses = np.r_[np.ones(24 * 72), np.full(4000 - 24 * 72, 9)]  # what isn't drawn doesn't count
    plot_character_surprise(text, losses, tmp_path / "a.png")
    assert len(figures[0].axes[1].texts) == 24 * 72
    assert "mean surprise 1.00 nats per character" in texts_of(figures[0])


def test_losses_that_do_not_fit_are_refused(tmp_path: pathlib.Path) -> None:
    for text, losses, message in (
        ("abc", [1, 2], "3 characters, but there are 2 losses"),
        ("ab", [1, -2], "not negative"),
        ("ab", [1, np.inf], "finite"),
        ("ab", [np.nan, np.nan], "not all of them NaN"),
        ("", [], "none empty"),
    ):
        with pytest.raises(ToumeiError, match=message):
            plot_character_surprise(text, losses, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
