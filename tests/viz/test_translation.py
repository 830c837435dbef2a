"""Pictures of translations: what stands in them, and where."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from toumei.errors import ToumeiError
from toumei.viz import canvas, translation
from toumei.viz.translation import plot_alignments, plot_translations

from .looks import assert_legible, texts_of


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that are saved."""
    figures: list[Any] = []

    def save(figure: Any, path: Any) -> None:
        canvas.save_figure(figure, path)
        figures.append(figure)

    monkeypatch.setattr(translation, "save_figure", save)
    return figures


SENTENCES = [("ein hund rennt", "a dog runs"), ("wort " * 40, "word " * 40)]


def test_translations_of_each_sentence(saved: list[Any], tmp_path: pathlib.Path) -> None:
    epochs = {epoch: [f"a dog {epoch}", "$ $ $"] for epoch in range(1, 31)}
    epochs[30] = ["a dog runs", ""]
    plot_translations(SENTENCES, epochs, tmp_path / "t.png", "title")
    texts = texts_of(saved[0])
    assert_legible(saved[0])
    assert texts[:6] == ["title", "source", "ein hund rennt", "reference", "a dog runs", "epoch 1"]
    assert texts.count("epoch 1") == texts.count("epoch 30") == 2 and "$ $ $" in texts
    assert len({text for text in texts if text.startswith("epoch")}) == 8
    colours = [t.get_color() for t in saved[0].axes[0].texts if t.get_text() == "a dog runs"]
    assert colours == ["black", "#007a5a"]  # the reference, and the translation that is right
    assert " ".join(text for text in texts if text.startswith("wort")) == SENTENCES[1][0].strip()


def test_maps_stand_beside_their_tokens(saved: list[Any], tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    maps = []
    for t, s in [(3, 4), (30, 28), (12, 30), (2, 2)]:
        weights = rng.dirichlet(np.ones(s), size=t)
        maps.append((weights, [f"word{k}" for k in range(t)], ["a", *["$long"] * (s - 1)]))
    plot_alignments(maps, tmp_path / "a.png", "title")
    assert_legible(saved[0])
    axes = [ax for ax in saved[0].axes if ax.images]
    for ax, (weights, rows, columns) in zip(axes, maps, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), weights)
        assert [t.get_text() for t in ax.get_yticklabels()] == rows
        names = [t.get_text().replace(r"\$", "$") for t in ax.get_xticklabels()]
        assert names == columns and ax.get_ylim()[0] > ax.get_ylim()[1]
        assert [t.get_rotation() for t in ax.get_xticklabels()][:2] == [0, 90]


def test_what_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.png"
    for sentences, epochs in [([], {1: []}), (SENTENCES, {})]:
        with pytest.raises(ToumeiError, match="no translations"):
            plot_translations(sentences, epochs, path)
    with pytest.raises(ToumeiError, match="all 2 sentences"):
        plot_translations(SENTENCES, {1: ["one"]}, path)
    with pytest.raises(ToumeiError, match="no attention"):
        plot_alignments([], path)
    with pytest.raises(ToumeiError, match="weights are"):
        plot_alignments([(np.ones((1, 2)), ["a"], ["b"])], path)
    with pytest.raises(ToumeiError, match="are they scores"):
        plot_alignments([(-np.ones((1, 1)), ["a"], ["b"])], path)
    assert not path.exists()
