"""Pictures of a classifier: what it takes for what, its worst mistakes, its first filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from .canvas import (
    AROUND_ZERO,
    Path,
    array,
    class_numbers,
    inch_axes,
    ink_on,
    inner_axes,
    light_to_dark,
    pixels,
    plain,
    save_figure,
    share,
    text_width,
    wrapped,
)
from .images import image_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBERED = 20  # classes: with more of them, a cell has no room for a number
_NAMED = 120  # classes: with more of them, a row has no room for a name
_FILTERS = 100


def plot_confusion(
    truth: Any, predicted: Any, classes: Sequence[object], path: Path, title: str = ""
) -> None:
    """Draw how often each class was taken for which: a row per true class, a column per answer.

    A cell's colour is its share of the row, on a square-root scale so that rare mistakes show.  At
    the right of each row stands the class's recall (of those that are it, how many were found),
    below each column its precision (of those taken for it, how many are it).  Up to 20 classes each
    cell shows its count; from 121 on, rows and columns are numbered, without names and shares.

    Args:
        truth: the right class of each sample.
        predicted: the class that the model chose for it.
        classes: the classes' names.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above, with the accuracy behind it.

    Shape: truth (N,) and predicted (N,), integers in 0..len(classes) - 1.

    Raises:
        ToumeiError: lengths that differ, no sample, or a class without a name.
    """
    right = class_numbers(truth, "truth", len(classes))
    chosen = class_numbers(predicted, "predicted", len(classes))
    if len(right) != len(chosen):
        raise ToumeiError(f"truth has {len(right)} samples, predicted {len(chosen)}")
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (right, chosen), 1)
    accuracy = f"{100 * counts.trace() / len(right):.2f} %"
    title = f"{title + ': ' if title else ''}{accuracy} of {len(right):,} right"
    save_figure(_confusion(counts, [str(name) for name in classes], title), path)


def _confusion(counts: np.ndarray, names: list[str], title: str) -> Figure:
    from matplotlib.colors import PowerNorm

    count = len(names)
    cell = _cell(count)
    size = min(9.0, 72 * cell * 0.75)
    longest = max(text_width(name, size) for name in names) if count <= _NAMED else 0.3
    left, side = 0.4 + max(longest, 0.55), cell * count
    title = wrapped(title, left + side + 1.3)
    top = 0.75 + 0.17 * title.count("\n") + longest
    figure, page = inch_axes(left + side + 1.5, top + max(side, 1.6) + 0.5)
    page.text(0.1, 0.1, plain(title), fontsize=10, va="top")
    page.text(left + side / 2, top - longest - 0.15, "taken for", ha="center", va="bottom")
    page.text(0.2, top + side / 2, "truth", rotation=90, ha="center", va="center")
    ax = inner_axes(page, left, top, side, side)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = ax.imshow(shares, light_to_dark(), PowerNorm(0.5, 0, 1), interpolation="nearest")
    if count <= _NAMED:
        _write_classes(ax, [plain(name) for name in names], size)
        _write_rates(ax, counts, size)
    if count <= _NUMBERED:
        _write_counts(ax, counts, shares)
    height = max(1.6, min(0.8 * side, 4))
    bar = inner_axes(page, left + side + 0.7, top + max(side - height, 0) / 2, 0.14, height)
    _write_scale(figure, image, bar)
    return figure


def _cell(count: int) -> float:
    """Return the inches of a cell, by the number of classes."""
    if count <= _NUMBERED:
        return 0.46
    return max(0.11, 9.2 / count) if count <= _NAMED else 9 / count


def _write_scale(figure: Figure, image: Any, ax: Axes) -> None:
    ticks = [0, 0.01, 0.05, 0.2, 0.5, 1]
    bar = figure.colorbar(image, cax=ax, ticks=ticks)
    bar.ax.set_yticklabels([f"{100 * tick:.0f} %" for tick in ticks], fontsize=8)
    bar.set_label("share of the row", fontsize=8)


def _write_classes(ax: Axes, names: list[str], size: float) -> None:
    places = range(len(names))
    steep = max(map(len, names)) > 3 or size < 9
    ax.set_xticks(places, names, fontsize=size, rotation=90 if steep else 0)
    ax.set_yticks(places, names, fontsize=size)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)


def _write_rates(ax: Axes, counts: np.ndarray, size: float) -> None:
    """Write recall at the right of the rows and precision below the columns."""
    count = len(counts)
    style: dict[str, Any] = {"fontsize": min(size, 8), "color": "0.3"}
    turned = {"rotation": 90 if count > _NUMBERED else 0}
    for i in range(count):
        of_row, of_column = counts[i].sum(), counts[:, i].sum()
        recall = f"{100 * counts[i, i] / of_row:.1f} %" if of_row else "–"
        precision = f"{100 * counts[i, i] / of_column:.1f} %" if of_column else "–"
        _beside(ax, recall, (count - 0.5, i), (4, 0), va="center", **style)
        _beside(ax, precision, (i, count - 0.5), (0, -4), ha="center", va="top", **style, **turned)
    _beside(ax, "recall", (count - 0.5, -0.5), (4, 4), va="bottom", **style)
    _beside(ax, "precision", (-0.5, count - 0.5), (-4, -4), ha="right", va="top", **style)


def _beside(ax: Axes, text: str, place: Any, points: tuple[float, float], **style: Any) -> None:
    """Write a text some points away from a place."""
    ax.annotate(text, place, points, textcoords="offset points", **style)


def _write_counts(ax: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    colour = light_to_dark()
    for (row, column), number in np.ndenumerate(counts):
        if number:
            ink = ink_on(colour(math.sqrt(shares[row, column])))
            size = 8 if number < 10000 else 6.5
            ax.text(column, row, f"{number}", color=ink, fontsize=size, ha="center", va="center")


def plot_mistakes(
    images: Any,
    truth: Any,
    probabilities: Any,
    classes: Sequence[object],
    path: Path,
    count: int = 24,
) -> None:
    """Draw the mistakes that a classifier was most sure of, the surest first.

    Under each stands what it is, what it was taken for, and the probability that the model gave to
    that.  Without a mistake the picture says so.

    Args:
        images: uint8, or floats in 0..1.
        truth: the right class of each.
        probabilities: the model's probability of each class; each row adds up to 1.
        classes: the classes' names.
        path: the picture's file; .png, .svg and .pdf are possible.
        count: how many mistakes to draw at most.

    Shape: images (N, H, W), (N, 1, H, W) or (N, 3, H, W); truth (N,), integers; probabilities
    (N, len(classes)).

    Raises:
        ToumeiError: shapes that don't fit, probabilities that aren't, bad images, or count < 1.
    """
    found = pixels(images, 1)
    right = class_numbers(truth, "truth", len(classes))
    chances = _probabilities(probabilities, (len(right), len(classes)))
    if len(found) != len(right):
        raise ToumeiError(f"there are {len(found)} images, but truth has {len(right)} classes")
    if count < 1:
        raise ToumeiError(f"count must be at least 1: {count}")
    chosen = chances.argmax(1)
    wrong = np.flatnonzero(chosen != right)
    worst = wrong[np.argsort(-chances[wrong, chosen[wrong]], kind="stable")][:count]
    if not len(worst):
        figure, ax = inch_axes(4, 1)
        ax.text(2, 0.5, f"no mistake in {len(right):,} images", ha="center", va="center")
        return save_figure(figure, path)
    sure = [share(chances[k, chosen[k]]).replace(" ", "\N{NO-BREAK SPACE}") for k in worst]
    captions = [
        f"{classes[right[k]]}, took for {classes[chosen[k]]} ({chance})"
        for k, chance in zip(worst, sure, strict=True)
    ]
    which = f"the surest {len(worst)} of " if len(worst) < len(wrong) else ""
    title = f"Mistakes: {which}{len(wrong):,} in {len(right):,} images"
    save_figure(image_sheet(found[worst], captions, min(8, len(worst)), title), path)


def _probabilities(value: Any, shape: tuple[int, int]) -> np.ndarray:
    found = array(value, "probabilities", 2).astype(np.float64)
    if found.shape != shape:
        raise ToumeiError(f"probabilities must have the shape {shape}, not {found.shape}")
    if not (found.min() >= 0 and np.abs(found.sum(1) - 1).max() < 1e-3):
        raise ToumeiError("each row of probabilities must be >= 0 and add up to 1: is it logits?")
    return found


def plot_filters(weight: Any, path: Path, title: str = "") -> None:
    """Draw the filters of a first layer, each divided by its own largest absolute weight.

    With three input channels a filter is a colour image, 0.5 + 0.5 · weight: grey is zero.  With
    any other number its mean over the input channels is drawn, blue below zero and red above it.
    At most 100 filters are drawn, the first.

    Args:
        weight: a convolution's weight, or a linear layer's, reshaped to images.
        path: the picture's file; .png, .svg and .pdf are possible.
        title: what stands above.

    Shape: weight (out_channels, in_channels, height, width).

    Raises:
        ToumeiError: another number of axes, or a weight that isn't finite.
    """
    found = array(weight, "weight", 4).astype(np.float64)
    if not np.isfinite(found).all():
        raise ToumeiError("the weight holds a NaN or an infinity")
    images = _filter_images(found[:_FILTERS])
    columns = min(len(images), max(8, math.ceil(math.sqrt(len(images)))))
    if len(found) > len(images):
        title = f"{title + ', ' if title else ''}the first {len(images)} of {len(found)}"
    if found.shape[1] != 3:
        title = f"{title}\nblue: below zero, red: above; each to its own scale".lstrip()
    figure = image_sheet(images, [""] * len(images), columns, title)
    save_figure(figure, path)


def _filter_images(weight: np.ndarray) -> np.ndarray:
    """Return filters (O, I, h, w) as uint8 colour images (O, h, w, 3)."""
    from matplotlib import colormaps

    colour = weight.shape[1] == 3
    found = weight if colour else weight.mean(1, keepdims=True)
    largest = np.abs(found).max(axis=(1, 2, 3), keepdims=True)
    unit = 0.5 + 0.5 * found / np.where(largest == 0, 1, largest)
    shown = np.moveaxis(unit, 1, -1) if colour else colormaps[AROUND_ZERO](unit[:, 0])[..., :3]
    return np.rint(shown * 255).astype(np.uint8)
