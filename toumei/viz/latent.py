"""Pictures of a latent plane: where the classes lie, and what is decoded from its places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from .canvas import (
    COLOURS,
    DPI,
    Path,
    array,
    blank_figure,
    class_numbers,
    pixels,
    plain,
    save_figure,
    write_title,
)
from .images import image_grid, image_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "o^sDvP*X"  # a colour comes back with another one


def plot_latent(
    codes: Any, labels: Any, classes: Sequence[object], path: Path, title: str = ""
) -> None:
    """Draw samples in a latent plane, coloured by class, each class's name at its middle.

    The middle is the median of its codes; names that would overlap are moved apart.

    Args:
        codes: each sample's place in the plane.
        labels: each sample's class.
        classes: the classes' names.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Shape: codes (N, 2); labels (N,), integers in 0..len(classes) - 1.

    Raises:
        ToumeiError: shapes that don't fit, NaNs, or a class without a name.
    """
    found = array(codes, "codes", 2).astype(np.float64)
    numbers = class_numbers(labels, "labels", len(classes))
    if found.shape != (len(numbers), 2):
        raise ToumeiError(f"codes must be ({len(numbers)}, 2), not {found.shape}")
    if not np.isfinite(found).all():
        raise ToumeiError("codes hold a NaN or an infinity")
    figure = blank_figure(6.4, 6)
    ax = figure.add_subplot()
    size = min(24.0, max(4.0, 16000 / len(found)))
    for number in np.unique(numbers):
        _cloud(ax, found[numbers == number], number, size)
    ax.set(xlabel="z₁", ylabel="z₂")
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    write_title(figure, title)
    figure.draw_without_rendering()  # where a place is on the paper is known from here on
    for number, place in _name_places(ax, found, numbers).items():
        _name(ax, plain(str(classes[number])), place, COLOURS[number % len(COLOURS)])
    save_figure(figure, path)


def _cloud(ax: Axes, codes: np.ndarray, number: int, size: float) -> None:
    marker = _MARKERS[number // len(COLOURS) % len(_MARKERS)]
    ax.scatter(
        codes[:, 0],
        codes[:, 1],
        s=size,
        marker=marker,
        color=COLOURS[number % len(COLOURS)],
        alpha=0.5,
        linewidths=0,
        rasterized=True,
    )


def _name(ax: Axes, name: str, place: np.ndarray, colour: str) -> None:
    from matplotlib.patheffects import withStroke

    ax.text(
        place[0],
        place[1],
        name,
        color=colour,
        fontsize=13,
        fontweight="bold",
        ha="center",
        va="center",
        path_effects=[withStroke(linewidth=3.5, foreground="white")],
        zorder=5,
    )


def _name_places(ax: Axes, codes: np.ndarray, numbers: np.ndarray) -> dict[int, np.ndarray]:
    """Return where to write each class's name: its median, moved until no two are too near."""
    present = np.unique(numbers)
    middles = np.array([np.median(codes[numbers == number], axis=0) for number in present])
    places = ax.transData.transform(middles)
    apart = 0.24 * DPI
    for _ in range(200):
        away = places[:, None] - places[None]
        away += 1e-3 * np.subtract.outer(present, present)[..., None]  # parts those in one place
        distance = np.linalg.norm(away, axis=2)
        np.fill_diagonal(distance, np.inf)
        push = np.maximum(0, apart - distance) / distance
        if not push.any():
            break
        places = places + 0.5 * (push[..., None] * away).sum(1)
    back = ax.transData.inverted().transform(places)
    return dict(zip(present.tolist(), back, strict=True))


def plot_manifold(images: Any, path: Path, title: str = "") -> None:
    """Draw what a decoder makes of the places of a grid over the latent plane, as one picture.

    Args:
        images: images[i, j] is drawn in row i from above and column j from the left; uint8, or
            floats in 0..1.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Shape: images (n, m, H, W), (n, m, 1, H, W) or (n, m, 3, H, W).

    Raises:
        ToumeiError: bad images as in `image_grid`.
    """
    found = pixels(images, 2)
    flat = found.reshape(-1, *found.shape[2:])
    if flat.ndim == 4:
        flat = np.moveaxis(flat, -1, 1)
    sheet = image_grid(flat, found.shape[1], padding=0)
    scale = max(1, round(900 / max(sheet.shape[:2])))
    large = sheet.repeat(scale, axis=0).repeat(scale, axis=1)
    save_figure(image_sheet(large[None], [""], 1, title, reduce=False), path)
