"""Pictures of training runs, drawn with matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ToumeiError
from ..io.files import write_whole
from .history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
NOT_DRAWN = {"epoch", "lr", "seconds"}


def new_figure(
    panels: int, width: float = 5.2, height: float = 3.9
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels side by side, without a window or a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for ax in axes:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, whole or not at all; the name's ending says which format."""
    buffer = io.BytesIO()
    kind = os.path.splitext(os.fspath(path))[1].lstrip(".") or "png"
    figure.savefig(buffer, format=kind)
    write_whole(path, buffer.getvalue())


def plot_history(runs: Mapping[str, History], path: str | os.PathLike[str]) -> None:
    """Draw loss against epoch, training and validation, and each metric in a panel of its own.

    Args:
        runs: one history or several, by name; each run has its colour.
        path: the picture's file; .png, .svg and .pdf are possible.

    Raises:
        ToumeiError: no run has a finished epoch.
    """
    measures = _measures(runs)
    if not measures:
        raise ToumeiError("there is nothing to draw: no run has a finished epoch")
    figure, axes = new_figure(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        for colour, (name, history) in zip(_cycle(len(runs)), runs.items(), strict=True):
            label = f"{name}, " if len(runs) > 1 else ""
            _line(ax, history, measure, colour, f"{label}training", "-")
            _line(
                ax,
                history,
                f"validation_{measure}",
                _other(colour, len(runs)),
                f"{label}validation",
                "--",
            )
        ax.set(xlabel="epoch", ylabel=measure.replace("_", " "))
        _whole_epochs(ax)
        if measure == "loss" and _spans_decades(runs):
            ax.set_yscale("log")
        ax.legend(frameon=False, fontsize="small")
    if len(runs) == 1 and (title := next(iter(runs))):
        figure.suptitle(title)
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
    ax.annotate(
        f"{values[-1]:.3g}" if column.endswith("loss") else f"{values[-1]:.4g}",
        (epochs[-1], values[-1]), xytext=(4, 0), textcoords="offset points",
        color=colour, fontsize="x-small", va="center",
    )  # fmt: skip


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _other(colour: str, runs: int) -> str:
    """A single run draws its validation in a second colour; several keep one colour each."""
    return COLOURS[1] if runs == 1 else colour


def _whole_epochs(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _spans_decades(runs: Mapping[str, History]) -> bool:
    values: list[Any] = [v for h in runs.values() for v in h["loss"] if v > 0]
    return bool(values) and max(values) / min(values) > 30
