"""The validation metric against minutes of training, a line for each side and seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.picture import COLOURS

from .compare import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")  # of the seeds


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a document; see `report.document`."""
    from matplotlib.lines import Line2D

    from toumei.viz.canvas import blank_figure, save_figure

    figure = blank_figure(7.5, 4.6)
    ax = figure.add_subplot()
    seeds = list(dict.fromkeys(run["seed"] for run in found["runs"]))
    sides = list(dict.fromkeys(run["side"] for run in found["runs"]))
    for run in found["runs"]:
        _line(ax, run, _STYLES[seeds.index(run["seed"]) % len(_STYLES)], found["metric"])
    handles = [Line2D([], [], color=COLOURS[side], label=KINDS[side].title) for side in sides]
    if len(seeds) > 1:
        handles += [
            Line2D([], [], color="#777777", linestyle=_STYLES[k % len(_STYLES)], label=f"seed {s}")
            for k, s in enumerate(seeds)
        ]
    if found["target"] is not None:
        goal = shown(found["target"], found["metric"])
        ax.axhline(goal, color="#777777", linewidth=0.8)
        label = f"figure to reach: {goal:g}{' %' if found['metric'] == 'accuracy' else ''}"
        handles.append(Line2D([], [], color="#777777", linewidth=0.8, label=label))
    _axes(ax, found)
    figure.suptitle(f"{found['title']}\n{found['data']}\n{_where(found)}", fontsize=10)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save_figure(figure, path)


def shown(value: float, metric: str) -> float:
    """Return what is drawn of a figure: of an accuracy, what is missing to 1, in percent.

    >>> shown(0.75, "accuracy"), shown(1.8, "loss")
    (25.0, 1.8)
    """
    return 100 * (1 - value) if metric == "accuracy" else value


def _line(ax: Axes, run: Mapping[str, Any], style: Any, metric: str) -> None:
    """Draw a training, with a dot where it reached the figure."""
    rows = [row for row in run["rows"] if row["value"] is not None]
    minutes = [row["seconds"] / 60 for row in rows]
    values = [shown(row["value"], metric) for row in rows]
    colour = COLOURS[run["side"]]
    ax.plot(minutes, values, style, color=colour, linewidth=1.3, marker=".", markersize=3)
    for row, x, y in zip(rows, minutes, values, strict=True):
        if row["epoch"] == run["epochs_to_figure"]:
            ax.plot([x], [y], "o", color=colour, markersize=8)


def _axes(ax: Axes, found: Mapping[str, Any]) -> None:
    accuracy = found["metric"] == "accuracy"
    values = [
        shown(row["value"], found["metric"])
        for run in found["runs"]
        for row in run["rows"]
        if row["value"] is not None
    ]
    if values and min(values) > 0 and max(values) > 5 * min(values):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _leads(value) else "")
    ax.set_ylabel("wrong in validation, %" if accuracy else f"validation {found['metric']}")
    ax.set_xlabel("minutes of training, compilation included (a large dot: figure reached)")
    ax.set_xlim(left=0)
    ax.grid(alpha=0.25, which="both")
    ax.spines[["top", "right"]].set_visible(False)


def _leads(value: float) -> bool:
    """Return whether a tick of a logarithmic axis gets a number: those that begin with 2 or 5."""
    return f"{value:e}"[0] in "25"


def _where(found: Mapping[str, Any]) -> str:
    return f"{found['machine']['cpu']}, {found['threads']} threads"
