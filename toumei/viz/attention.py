"""Pictures of attention: who looks at whom, and where in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ToumeiError
from .canvas import (
    DARK_TO_LIGHT,
    Path,
    array,
    inner_axes,
    light_to_dark,
    pixels,
    plain,
    save_figure,
    text_width,
    titled_page,
    token,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ENLARGED = 4  # how many dots a pixel gets on each side, for maps to be smooth
_MOST = 200  # tokens of a side: with more of them no name can be read


def plot_attention(
    weights: Any, rows: Sequence[object], columns: Sequence[object], path: Path, title: str = ""
) -> None:
    """Draw how much each token of a row looks at each token of a column, a panel per head.

    All panels have one scale, from 0 to the largest weight.  Spaces and line ends in a token are
    drawn as marks; what is NaN (a query that may look at nothing) is grey.

    Args:
        weights: attention weights; each row adds up to 1 at most.
        rows: the L tokens that look (queries).
        columns: the S tokens that are looked at (keys).
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Shape: weights (L, S), one head or a mean of several, or (heads, L, S).

    Raises:
        ToumeiError: shapes that don't fit, negative or infinite weights, or over 200 tokens.
    """
    found = array(weights, "weights", (2, 3)).astype(np.float64)
    names = [token(str(name)) for name in rows], [token(str(name)) for name in columns]
    sizes = (len(names[0]), len(names[1]))
    if found.shape[-2:] != sizes:
        raise ToumeiError(f"weights are {found.shape[-2:]}, the tokens are {sizes}")
    if max(sizes) > _MOST:
        raise ToumeiError(f"at most {_MOST} tokens of a side can be read: there are {max(sizes)}")
    if (found < 0).any() or np.isinf(found).any():
        raise ToumeiError("attention weights must be finite and not negative: are they scores?")
    if np.isnan(found).all():
        raise ToumeiError("all attention weights are NaN")
    heads = found if found.ndim == 3 else found[None]
    save_figure(_heads(heads, *names, title), path)


class _Layout(NamedTuple):
    """Where the panels of a sheet of maps stand: all lengths in inches."""

    cell: float
    points: float  # size of the tokens' letters
    left: float  # room for the rows' names
    above: float  # room for the columns' names, and the head's
    turned: bool  # whether the columns' names stand upright
    across: int
    down: int

    def corner(self, k: int, size: tuple[float, float]) -> tuple[float, float]:
        """Return the upper left corner of panel k's map, from that of the first one's names."""
        column, row = k % self.across, k // self.across
        x = column * (self.left + size[0] + 0.15) + self.left
        return x, row * (self.above + size[1] + 0.15) + self.above


def _layout(count: int, rows: list[str], columns: list[str]) -> _Layout:
    """Choose how large to draw `count` maps: as many side by side as 15 inches take, at most 4."""
    across = min(count, 4, max(1, int(15 / (0.13 * len(columns) + 0.6))))
    largest, room = (0.27, 8) if count == 1 else (0.19, 13)
    cell = min(largest, max(0.13, room / (across * len(columns))))
    points = min(9, 72 * cell * 0.72)
    left = 0.15 + max(text_width(name, points) for name in rows)
    widest = max(text_width(name, points) for name in columns)
    turned = widest > cell
    above = 0.12 + (widest if turned else points / 72) + 0.22 * (count > 1)
    return _Layout(cell, points, left, above, turned, across, math.ceil(count / across))


def _heads(heads: np.ndarray, rows: list[str], columns: list[str], title: str) -> Figure:
    """Return a figure with a panel per head: names above and at the left of each."""
    layout = _layout(len(heads), rows, columns)
    size = layout.cell * len(columns), layout.cell * len(rows)
    x, y = layout.corner(layout.across * layout.down - 1, size)  # the last panel's
    full = max(x + size[0] + 1, 3.4)
    figure, page, top = titled_page(full, y + max(size[1], 1.0) + 0.15, title)
    largest = np.nanmax(heads)
    for k, weights in enumerate(heads):
        x, y = layout.corner(k, size)
        ax = inner_axes(page, 0.1 + x, top + y, *size)
        image = ax.imshow(weights, light_to_dark(), vmin=0, vmax=largest, interpolation="nearest")
        ax.set_aspect("auto")
        _write_tokens(ax, rows, columns, layout)
        if len(heads) > 1:
            y += top - layout.above + 0.02
            page.text(0.1 + x, y, f"head {k + 1}", fontsize=9, va="top", color="0.35")
    x, y = layout.corner(layout.across - 1, size)
    bar_axes = inner_axes(page, x + size[0] + 0.25, top + y, 0.1, min(2.4, max(size[1], 1.0)))
    figure.colorbar(image, cax=bar_axes).ax.tick_params(labelsize=8)
    return figure


def _write_tokens(ax: Axes, rows: list[str], columns: list[str], layout: _Layout) -> None:
    points, turned = layout.points, 90 if layout.turned else 0
    names = [plain(name) for name in columns]
    ax.set_xticks(range(len(columns)), names, fontsize=points, rotation=turned)
    ax.set_yticks(range(len(rows)), [plain(name) for name in rows], fontsize=points)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.spines[:].set_color("0.7")


def plot_attention_over_image(
    image: Any, maps: Any, path: Path, title: str = "", labels: Sequence[object] | None = None
) -> None:
    """Draw where in an image is looked: the image, and over it each map, enlarged to its size.

    Each map is scaled from 0 to its own largest weight, and smoothed between its cells.

    Args:
        image: uint8, or floats in 0..1.
        maps: attention weights over the image, upper left first.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.
        labels: what stands above each map; None for their numbers.

    Shape: image (H, W), (1, H, W) or (3, H, W); maps (K, h, w).

    Raises:
        ToumeiError: a bad image, negative weights or none that is finite, or another number of
            labels than of maps.
    """
    shown = pixels(image, 0, "image")
    found = array(maps, "maps", 3).astype(np.float64)
    if not (np.isfinite(found).all() and found.min() >= 0):
        raise ToumeiError("maps must be finite and not negative: are they scores?")
    numbered = [f"map {k + 1}" for k in range(len(found))]
    names = numbered if labels is None else [str(label) for label in labels]
    if len(names) != len(found):
        raise ToumeiError(f"there are {len(found)} maps, but {len(names)} labels")
    save_figure(_overlays(shown, found, names, title), path)


def _overlays(image: np.ndarray, maps: np.ndarray, names: list[str], title: str) -> Figure:
    across = min(len(maps) + 1, 5)
    down = math.ceil((len(maps) + 1) / across)
    size = 1.7 / max(image.shape[:2])
    height, width = image.shape[0] * size, image.shape[1] * size
    full = 0.1 + across * (width + 0.1) + 0.75
    figure, page, top = titled_page(full, down * (height + 0.32) + 0.1, title)
    for k, name in enumerate(["image", *names]):
        x = 0.1 + k % across * (width + 0.1)
        y = top + 0.22 + k // across * (height + 0.32)
        page.text(x, y - 0.04, plain(name), fontsize=9, va="bottom", color="0.35")
        ax = inner_axes(page, x, y, width, height)
        ax.set_axis_off()
        ax.imshow(overlaid(image, maps[k - 1] if k else None, _ENLARGED), aspect="auto")
    x = 0.1 + across * (width + 0.1) + 0.03
    _write_scale(figure, inner_axes(page, x, top + 0.22, 0.1, height))
    return figure


def overlaid(image: np.ndarray, weights: np.ndarray | None, scale: int) -> np.ndarray:
    """Return an image, or in grey and lighter with a map in colours over it; enlarged.

    The map is scaled from 0 to its largest weight, and smoothed between its cells.

    Shape: image (H, W) or (H, W, 3), uint8; weights (h, w) -> (scale·H, scale·W, 3), uint8
    """
    from matplotlib import colormaps
    from PIL import Image

    whole = image if image.ndim == 3 else image[..., None].repeat(3, -1)
    large = whole.repeat(scale, 0).repeat(scale, 1)
    if weights is None:
        return large
    share = Image.fromarray((weights / (weights.max() or 1)).astype(np.float32))
    smooth = np.asarray(share.resize(large.shape[1::-1], Image.Resampling.BILINEAR))
    colours = colormaps[DARK_TO_LIGHT](smooth)[..., :3]
    grey = 0.28 + 0.72 * (large @ np.array([0.299, 0.587, 0.114]))[..., None] / 255
    drawn: np.ndarray = np.rint(255 * (0.6 * colours + 0.4 * grey)).astype(np.uint8)
    return drawn


def _write_scale(figure: Figure, ax: Axes) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(0, 1), DARK_TO_LIGHT)
    bar = figure.colorbar(colours, cax=ax, ticks=[0, 1])
    bar.ax.set_yticklabels(["0", "largest"], fontsize=8)
