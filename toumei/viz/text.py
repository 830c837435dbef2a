"""Pictures of texts: what a model wrote after each epoch, and which characters surprised it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ToumeiError
from .canvas import (
    Path,
    array,
    evenly,
    ink_on,
    inner_axes,
    light_to_dark,
    plain,
    save_figure,
    titled_page,
    token,
)

_MONO = "DejaVu Sans Mono"
_EM = 0.602  # how wide its characters are
_PER_LINE = 72
_LINES = 9  # of a sample
_BLOCKS = 7
_MOST_LINES = 24  # of a text with its surprises
_LEADING = 0.17  # inches from line to line


def plot_samples(texts: Mapping[int, str], path: Path, title: str = "") -> None:
    """Draw the texts that a model wrote after some epochs, the newest last.

    At most 7 epochs are drawn, evenly chosen with the first and the last; of each text the first 9
    lines of 72 characters (longer lines are broken), with "…" where there was more.

    Args:
        texts: epoch to text.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Raises:
        ToumeiError: there is no text.
    """
    if not texts:
        raise ToumeiError("there is no text to draw")
    epochs = sorted(texts)
    chosen = [epochs[i] for i in evenly(len(epochs), _BLOCKS)]
    blocks = [_block(texts[epoch]) for epoch in chosen]
    width = 0.3 + _PER_LINE * 9 * _EM / 72
    lines = sum(len(block) for block in blocks)
    figure, page, y = titled_page(width, lines * _LEADING + len(blocks) * 0.45, title)
    for epoch, block in zip(chosen, blocks, strict=True):
        page.text(0.15, y + 0.02, f"epoch {epoch}", fontsize=9, fontweight="bold", va="top")
        y += 0.21
        height = len(block) * _LEADING + 0.08
        page.fill_between([0.1, width - 0.1], y, y + height, color="0.95", linewidth=0)
        for line in block:
            page.text(0.15, y + 0.125, plain(line), fontsize=9, family=_MONO, va="center")
            y += _LEADING
        y += 0.24
    save_figure(figure, path)


def _block(text: str) -> list[str]:
    """Break a text into lines that fit; at most nine of them."""
    lines: list[str] = []
    for line in text.expandtabs(4).split("\n"):
        lines += textwrap.wrap(line, _PER_LINE, drop_whitespace=False) or [""]
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1][: _PER_LINE - 1] + "…"]
    return lines


def plot_character_surprise(text: str, losses: Any, path: Path) -> None:
    """Draw a text, each character on a background that says how much it surprised the model.

    The surprise of a character is −ln p, p being the probability that the model gave to it after
    those before it.  Line ends are drawn as ↵.  At most 24 lines are drawn.

    Args:
        text: what the model read.
        losses: the loss at each character, nats; NaN, drawn in grey, where there was none, as at
            the first.
        path: the picture's file; .png, .svg and .pdf are possible.

    Shape: losses (len(text),).

    Raises:
        ToumeiError: lengths that differ, no loss but NaN, or a negative or infinite one.
    """
    found = array(losses, "losses", 1).astype(np.float64)
    if len(found) != len(text):
        raise ToumeiError(f"the text has {len(text)} characters, but there are {len(found)} losses")
    places = [place for place in _places(text) if place[0] < _MOST_LINES]
    shown = found[: len(places)]
    if np.isnan(shown).all() or np.isinf(found).any() or (found < 0).any():
        raise ToumeiError("losses must be finite and not negative, and not all of them NaN")
    rows = places[-1][0] + 1
    cell = 10 * _EM / 72 * 1.15, 0.22  # inches: a character of 10 points, and air
    width, height = _PER_LINE * cell[0], rows * cell[1]
    mean = f"mean surprise {np.nanmean(shown):.2f} nats per character"
    figure, page, top = titled_page(width + 0.2, height + 0.6, mean)
    cells = np.full((rows, _PER_LINE), np.nan)
    cells[tuple(np.array(places).T)] = shown
    largest = max(float(np.nanmax(shown)), 1.0)
    ax = inner_axes(page, 0.1, top, width, height)
    image = _surprise(ax, text, places, cells, largest)
    bar = figure.colorbar(
        image, cax=inner_axes(page, 0.1, top + height + 0.12, 2.5, 0.1), orientation="horizontal"
    )
    bar.ax.tick_params(labelsize=8)
    page.text(2.75, top + height + 0.17, "−ln p, nats", fontsize=8, va="center")
    save_figure(figure, path)


def _surprise(
    ax: Any, text: str, places: list[tuple[int, int]], cells: np.ndarray, largest: float
) -> Any:
    colours = light_to_dark()
    used = np.zeros(cells.shape, bool)
    used[tuple(np.array(places).T)] = True
    image = ax.imshow(cells, colours, vmin=0, vmax=largest, interpolation="nearest", aspect="auto")
    image.set_alpha(used.astype(float))  # beyond a line's end is paper
    ax.set_axis_off()
    for character, (row, column) in zip(text, places, strict=False):
        loss = cells[row, column]
        ink = "black" if np.isnan(loss) else ink_on(colours(loss / largest))
        mark = character if character == " " else plain(token(character))
        ax.text(
            column,
            row,
            mark,
            color=ink,
            fontsize=10,
            family=_MONO,
            ha="center",
            va="center_baseline",
        )
    return image


def _places(text: str) -> list[tuple[int, int]]:
    """Return each character's line and column: a line ends at its end mark, or where it is full."""
    places = []
    row = column = 0
    for character in text:
        places.append((row, column))
        column += 1
        if character == "\n" or column == _PER_LINE:
            row, column = row + 1, 0
    return places
