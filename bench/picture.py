"""The results as a picture: a group of bars per workload, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sides import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR = 0.13  # inches
_GAP = 0.16  # between groups
COLOURS = {  # ours stands out; the two forms of a framework have one hue
    OURS: "#d55e00",
    "torch": "#0072b2",
    "torch-compile": "#7fb8dd",
    "jax": "#009e73",
    "tf": "#8a5a9e",
    "tf-xla": "#cba6d8",
}


def draw(found: Mapping[str, Any], titles: Mapping[str, str], path: Path) -> None:
    """Write a picture of the milliseconds per step; `found` is what the JSON file holds."""
    from matplotlib.patches import Patch
    from matplotlib.ticker import NullFormatter

    from toumei.viz.canvas import blank_figure, save_figure

    workloads = found["workloads"]
    height = len(workloads) * (_BAR * len(titles) + _GAP) + 1.3
    figure = blank_figure(8.5, height)
    ax = figure.add_subplot()
    places = _bars(ax, workloads, list(titles))
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks(places, [f"{name}\n{w['title']}" for name, w in workloads.items()], fontsize=8)
    ax.set_ylim(height - 1.3, 0)
    ax.set_xlabel("milliseconds per training step (median); a shorter bar is faster")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", alpha=0.25)
    ax.set_axisbelow(True)
    _margin(ax, workloads)
    figure.suptitle(_title(found), fontsize=10)
    handles = [Patch(color=COLOURS[side], label=title) for side, title in titles.items()]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(titles), frameon=False, fontsize=8
    )
    save_figure(figure, path)


def _bars(ax: Axes, workloads: Mapping[str, Any], sides: Sequence[str]) -> list[float]:
    """Draw the bars, each with what there is to say; return the middle of each group."""
    top, middles = _GAP / 2, []
    for found in workloads.values():
        for i, side in enumerate(sides):
            result = found["sides"].get(side, {})
            time = result.get("median_ms")
            place = top + (i + 0.5) * _BAR
            ax.barh(place, time or 0, 0.9 * _BAR, color=COLOURS[side])
            start = (time, "data") if time else (0, "axes fraction")
            ax.annotate(
                _remark(side, result, found["ratio"]), (start[0], place), (4, 0),
                xycoords=(start[1], "data"), textcoords="offset points", va="center", fontsize=7,
            )  # fmt: skip
        middles.append(top + len(sides) * _BAR / 2)
        top += len(sides) * _BAR + _GAP
    return middles


def _remark(side: str, result: Mapping[str, Any], ratio: float | None) -> str:
    if side == OURS and ratio:
        return f"{ratio:.2f} × the fastest peer's speed"
    if result.get("error"):
        return "failed"
    return "losses differ" if result.get("is_right") is False else ""


def _margin(ax: Axes, workloads: Mapping[str, Any]) -> None:
    """Begin the axis well below the shortest bar: a logarithmic scale has no zero."""
    times = [
        side["median_ms"]
        for w in workloads.values()
        for side in w["sides"].values()
        if side.get("median_ms")
    ]
    if times:
        ax.set_xlim(min(times) / 3, max(times) * 3)


def _title(found: Mapping[str, Any]) -> str:
    mean = found["geometric_mean"]
    line = f"{found['machine']['cpu']}, {found['threads']} threads"
    return f"{line}: {mean:.2f} × the fastest peer's speed (geometric mean)" if mean else line
