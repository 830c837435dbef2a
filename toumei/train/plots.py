"""Pictures of training runs, drawn with matplotlib."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from ..viz.canvas import COLOURS, new_figure, save_figure
from .history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_DRAWN = {"epoch", "lr", "seconds"}


def plot_history(runs: Mapping[str, History], path: str | os.PathLike[str]) -> None:
    """Draw loss against epoch, training and validation, and each metric in a panel of its own.

    Args:
        runs: one history or several, by name; each run has its colour.
        path: the picture's file; .png, .svg and .pdf are possible.

    Raises:
        ToumeiError: no run has a finished epoch, or the name's ending is no format's.
    """
    measures = _measures(runs)
    if not measures:
        raise ToumeiError("there is nothing to draw: no run has a finished epoch")
    figure, axes = new_figure(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        for i, (name, history) in enumerate(runs.items()):
            label = f"{name}, " if len(runs) > 1 else ""
            other = COLOURS[1] if len(runs) == 1 else COLOURS[i % len(COLOURS)]
            _line(ax, history, measure, COLOURS[i % len(COLOURS)], f"{label}training", "-")
            _line(ax, history, f"validation_{measure}", other, f"{label}validation", "--")
        if _falls_by_decades(runs, measure):
            ax.set_yscale("log")
        ax.set(xlabel="epoch", ylabel=measure.replace("_", " "))
        ax.legend(frameon=False, fontsize="small")
        _whole_epochs(ax)
        _write_ends(ax)
    if len(runs) == 1 and (title := next(iter(runs))):
        figure.suptitle(title, fontsize="medium")
    save_figure(figure, path)


def _measures(runs: Mapping[str, History]) -> list[str]:
    """Return the columns to draw, loss first; a validation column goes with its training one."""
    names = [c.removeprefix("validation_") for h in runs.values() for c in h.columns]
    return [n for n in dict.fromkeys(["loss", *names]) if n in names and n not in NOT_DRAWN]


def _line(ax: Axes, history: History, column: str, colour: str, label: str, style: str) -> None:
    points = [(row["epoch"], row[column]) for row in history if column in row]
    if not points:
        return
    epochs, values = zip(*points, strict=True)
    marker = "o" if len(points) <= 30 else ""
    ax.plot(epochs, values, style, color=colour, label=label, marker=marker, markersize=3)


def _write_ends(ax: Axes) -> None:
    """Write the last value of each line beside its end, the texts one above the other."""
    figure = ax.get_figure()
    assert figure is not None
    ax.autoscale_view()
    pixels = figure.dpi / 72  # per point
    floors: dict[float, float] = {}  # by epoch: how high the texts there reach
    ends = [(*np.asarray(line.get_xydata())[-1], line.get_color()) for line in ax.get_lines()]
    for x, y, colour in sorted(ends, key=lambda end: end[1]):
        place = ax.transData.transform((x, y))[1]
        floor = floors[x] = max(place, floors.get(x, -math.inf) + 9 * pixels)
        ax.annotate(
            f"{y:.4g}",
            (x, y),
            xytext=(5, (floor - place) / pixels),
            textcoords="offset points",
            color=colour,
            fontsize="x-small",
            va="center",
        )


def _whole_epochs(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [epoch for line in ax.get_lines() for epoch in np.asarray(line.get_xdata())]
    first, last = min(epochs), max(epochs)  # those without a number, as a NaN, count too
    margin = 0.02 * (last - first) or 0.5  # no tick for an epoch 0
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _falls_by_decades(runs: Mapping[str, History], measure: str) -> bool:
    """Tell whether small differences near the end would be lost; what rises isn't stretched."""
    columns = (measure, f"validation_{measure}")
    values: list[Any] = [v for h in runs.values() for c in columns for v in h[c] if v and v > 0]
    if not values or max(values) / min(values) <= 30:
        return False
    return measure == "loss" or values[0] > values[-1]
