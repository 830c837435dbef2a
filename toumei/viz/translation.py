"""Pictures of translations: how they get better, and where the model looks as it writes them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from .canvas import (
    Path,
    array,
    evenly,
    inner_axes,
    light_to_dark,
    plain,
    save_figure,
    text_width,
    titled_page,
    token,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Alignment = tuple[Any, Sequence[str], Sequence[str]]  # weights, tokens down, tokens across

_PER_LINE = 78
_EPOCHS = 8  # of a sentence
_LEADING = 0.18  # inches from line to line
_LEFT = 1.0  # inches before the texts
_EM = 0.602 * 9 / 72  # inches: a character of DejaVu Sans Mono
_POINTS = 8  # of the tokens beside a map
_CELL = 0.19  # inches
_PAGE = 13  # inches: how wide maps side by side may be


def plot_translations(
    sentences: Sequence[tuple[str, str]],
    epochs: Mapping[int, Sequence[str]],
    path: Path,
    title: str = "",
) -> None:
    """Draw sentences with their reference translations, and what a model made of them over time.

    At most 8 epochs are drawn, evenly chosen with the first and the last; a translation that is
    the reference is green.

    Args:
        sentences: (source, reference) texts.
        epochs: epoch to the translations of all sentences.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Raises:
        ToumeiError: there is no sentence or no epoch, or translations are missing.
    """
    if not sentences or not epochs:
        raise ToumeiError("there are no translations to draw")
    if any(len(texts) != len(sentences) for texts in epochs.values()):
        raise ToumeiError(f"each epoch must have a translation of all {len(sentences)} sentences")
    numbers = sorted(epochs)
    chosen = [numbers[i] for i in evenly(len(numbers), _EPOCHS)]
    blocks = []
    for k, (source, reference) in enumerate(sentences):
        lines = [("source", source, "black"), ("reference", reference, "black")]
        for epoch in chosen:
            text = epochs[epoch][k]
            lines.append((f"epoch {epoch}", text, "#007a5a" if text == reference else "0.35"))
        blocks.append([(name, _broken(text), colour) for name, text, colour in lines])
    rows = sum(len(lines) for block in blocks for _, lines, _ in block)
    height = rows * _LEADING + 0.25 * len(blocks)
    figure, page, y = titled_page(_LEFT + _PER_LINE * _EM + 0.2, height, title)
    for block in blocks:
        y = _write_block(page, block, y) + 0.25
    save_figure(figure, path)


def _broken(text: str) -> list[str]:
    return textwrap.wrap(text, _PER_LINE) or [""]


def _write_block(page: Axes, block: list[tuple[str, list[str], str]], y: float) -> float:
    """Write a sentence's lines, a grey field behind source and reference; return where it ends."""
    given = sum(len(lines) for _, lines, _ in block[:2]) * _LEADING
    page.fill_between([0.08, page.get_xlim()[1] - 0.08], y, y + given, color="0.94", linewidth=0)
    for name, lines, colour in block:
        page.text(0.12, y + _LEADING / 2, name, fontsize=8, va="center", color="0.35")
        for line in lines:
            page.text(
                _LEFT, y + _LEADING / 2, plain(line), fontsize=9, family="DejaVu Sans Mono",
                va="center_baseline", color=colour,
            )  # fmt: skip
            y += _LEADING
    return y


def plot_alignments(alignments: Sequence[Alignment], path: Path, title: str = "") -> None:
    """Draw how much each written token looks at each token that was read, a map per sentence.

    All maps have one scale, from 0 to 1.

    Args:
        alignments: of each sentence the weights, the tokens that look and those looked at.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Shape: weights (T, S), for T and S tokens.

    Raises:
        ToumeiError: there is no sentence, or weights don't fit the tokens or are negative.
    """
    if not alignments:
        raise ToumeiError("there is no attention to draw")
    maps = [_checked(*alignment) for alignment in alignments]
    sizes = [_size(rows, columns) for _, rows, columns in maps]
    places, width, height = _shelves([(left + w, up + h) for left, up, w, h in sizes])
    figure, page, top = titled_page(max(width + 0.9, 3.0), height + 0.1, title)
    for (weights, rows, columns), (x, y), (left, up, w, h) in zip(maps, places, sizes, strict=True):
        ax = inner_axes(page, 0.1 + x + left, top + y + up, w, h)
        image = ax.imshow(
            weights, light_to_dark(), vmin=0, vmax=1, interpolation="nearest", aspect="auto"
        )
        _write_tokens(ax, rows, columns)
    bar = inner_axes(page, width + 0.3, top + sizes[0][1], 0.1, min(2.0, sizes[0][3]))
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=8)
    save_figure(figure, path)


def _write_tokens(ax: Axes, rows: list[str], columns: list[str]) -> None:
    """Write the tokens at the left and above; those of more than one letter stand upright."""
    ax.set_xticks(range(len(columns)), columns, fontsize=_POINTS)
    ax.set_yticks(range(len(rows)), rows, fontsize=_POINTS)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    for name, label in zip(columns, ax.get_xticklabels(), strict=True):
        label.set_rotation(90 * (len(name) > 1))
    ax.spines[:].set_color("0.7")


def _checked(
    weights: Any, rows: Sequence[str], columns: Sequence[str]
) -> tuple[np.ndarray, list[str], list[str]]:
    found = array(weights, "weights", 2).astype(np.float64)
    if found.shape != (len(rows), len(columns)):
        raise ToumeiError(f"weights are {found.shape}, tokens {(len(rows), len(columns))}")
    if not (np.isfinite(found).all() and found.min() >= 0):
        raise ToumeiError("attention weights must be finite and not negative: are they scores?")
    rows, columns = ([plain(token(name)) for name in side] for side in (rows, columns))
    return found, list(rows), list(columns)


def _size(rows: list[str], columns: list[str]) -> tuple[float, float, float, float]:
    """Return the room at the left and above for names, and a map's width and height."""
    left, up = (0.15 + max(text_width(name, _POINTS) for name in s) for s in (rows, columns))
    return left, up, _CELL * len(columns), _CELL * len(rows)


def _shelves(
    boxes: list[tuple[float, float]],
) -> tuple[list[tuple[float, float]], float, float]:
    """Put boxes side by side in rows, at most as wide as a page; return places, width, height."""
    places = []
    x = y = shelf = width = 0.0
    for w, h in boxes:
        if x and x + w > _PAGE:
            x, y, shelf = 0.0, y + shelf + 0.2, 0.0
        places.append((x, y))
        x, shelf = x + w + 0.2, max(shelf, h)
        width = max(width, x)
    return places, width, y + shelf
