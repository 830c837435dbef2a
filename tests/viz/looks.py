"""What every picture must keep to, and how the tests look at one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np


def texts_of(figure: Any) -> list[str]:
    """Return all that is written in a figure, as a reader sees it."""
    figure.draw_without_rendering()
    return [text.get_text().replace(r"\$", "$") for text, _ in _written(figure)]


def assert_legible(figure: Any, smallest: float = 5.0) -> None:
    """No text is cut off by the page, lies over another, or is too small to read."""
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    found = _written(figure)
    for text, box in found:
        assert text.get_fontsize() >= smallest, text
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{text.get_text()!r} is cut off: {box} of {width} x {height}"
    boxes = np.array([box.extents for _, box in found])
    across = np.minimum.outer(boxes[:, 2], boxes[:, 2]) - np.maximum.outer(boxes[:, 0], boxes[:, 0])
    up = np.minimum.outer(boxes[:, 3], boxes[:, 3]) - np.maximum.outer(boxes[:, 1], boxes[:, 1])
    over = np.argwhere(np.triu((across > 1) & (up > 2), 1))  # a box has some air above letters
    pairs = [(found[i][0].get_text(), found[j][0].get_text()) for i, j in over]
    assert not pairs, f"over each other: {pairs}"


def _written(figure: Any) -> list[tuple[Any, Any]]:
    from matplotlib.text import Text

    renderer = figure.canvas.get_renderer()
    hidden = {id(t) for ax in figure.findobj(_is_axes) for t in _beyond(ax)}
    return [
        (text, text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def _is_axes(artist: Any) -> bool:
    return hasattr(artist, "xaxis") and hasattr(artist, "yaxis")


def _beyond(ax: Any) -> list[Any]:
    """Return the labels of ticks that aren't drawn: beyond the limits, or of axes that are off."""
    labels = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        margin = 1e-9 * (high - low)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not (low - margin <= tick.get_loc() <= high + margin) or not ax.axison:
                labels += [tick.label1, tick.label2]
    return labels


def read(path: Any) -> np.ndarray:
    """Return a picture file's pixels, uint8 (H, W, 3)."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return np.asarray(image.convert("RGB"))


def box_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right (exclusive) of what has just this colour."""
    ys, xs = np.nonzero((pixels == colour).all(-1))
    return int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1


def is_rising(numbers: Any) -> bool:
    return all(a < b for a, b in pairwise(numbers))
