"""A picture of where a compiled step's time goes: from the user's lines to the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .canvas import (
    DARK_TO_LIGHT,
    Path,
    ink_on,
    inner_axes,
    plain,
    save_figure,
    share,
    text_width,
    titled_page,
)
from .explain import Alike, Explanation, average_share, write_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

LEFT, LINES, SIDES, KERNELS = 0.1, 3.9, 0.8, 6.0  # inches: the margin, and each column's width
GAP = 0.02  # inches between boxes
HEIGHT = 8.4  # inches of the whole time
POINTS = 7.5
SMALLEST = 0.16  # inches of a box with a text
GREY, PALE = (0.8, 0.8, 0.8, 1.0), (0.93, 0.93, 0.93, 1.0)


class Box(NamedTuple):
    """A part of the time with what is in it."""

    label: str
    seconds: float
    kernels: Sequence[Alike]


def plot_kernels(explanation: Explanation, path: Path) -> None:
    """Draw where a step's time goes: heights are times, from top to bottom.

    Left the lines of the user's that asked for it, then whether it is the line itself or its
    gradient, right the kernels, coloured by the share of what the machine could do at most; grey
    where nobody knows it.

    Args:
        explanation: of the step.
        path: the file; its ending says in which format.
    """
    top = (
        f"{explanation.name}: {write_time(explanation.seconds)} a step, "
        f"{len(explanation.kernels)} kernels, {explanation.peaks.threads} threads\n"
        f"heights are times; machine's peak: {explanation.peaks}"
    )
    width = LEFT + LINES + SIDES + KERNELS
    figure, page, start = titled_page(width + 1.0, HEIGHT + 0.35, top)
    colours = _colours()
    total = sum(a.seconds for a in explanation.alike())
    scale = HEIGHT / max(total, 1e-12)
    heads = ((LEFT, "line"), (LEFT + LINES, ""), (LEFT + LINES + SIDES, "kernel"))
    for x, text in heads:
        page.text(x + 0.04, start + 0.1, text, fontsize=POINTS, weight="bold", va="center")
    y = start + 0.22
    for line in lines_of(explanation):
        _draw(page, LEFT, y, LINES, line.seconds * scale, line.label, PALE)
        inner = y
        for side in sides_of(line):
            height = side.seconds * scale
            _draw(page, LEFT + LINES, inner, SIDES, height, side.label, PALE)
            _draw_kernels(page, inner, side, scale, total, colours)
            inner += height
        y += line.seconds * scale
    bar = inner_axes(page, width + 0.2, start + 0.22, 0.18, HEIGHT)
    figure.colorbar(colours, cax=bar, format=lambda v, _: f"{v:.0%}")
    bar.set_ylabel("share of the machine's peak", fontsize=POINTS)
    bar.tick_params(labelsize=POINTS)
    save_figure(figure, path)


def lines_of(explanation: Explanation) -> list[Box]:
    """Return the user's lines, the costliest first."""
    found: dict[str, list[Alike]] = {}
    for a in explanation.alike():
        first = a.rows[0]
        label = "  ".join(filter(None, [first.where, first.text])) or "no line of yours"
        found.setdefault(label, []).append(a)
    return _boxes(found)


def sides_of(line: Box) -> list[Box]:
    """Return a line's parts: what it says itself, the gradient of that, an optimiser's step."""
    found: dict[str, list[Alike]] = {}
    for a in line.kernels:
        module = a.rows[0].module
        other = module if module.endswith(".step()") else "itself"
        found.setdefault("gradient" if a.rows[0].backward else other, []).append(a)
    return _boxes(found)


def _boxes(found: dict[str, list[Alike]]) -> list[Box]:
    boxes = [Box(label, sum(a.seconds for a in group), group) for label, group in found.items()]
    return sorted(boxes, key=lambda b: -b.seconds)


def _colours() -> ScalarMappable:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(0, 1), colormaps[DARK_TO_LIGHT])


def _draw_kernels(
    page: Axes, y: float, side: Box, scale: float, total: float, colours: ScalarMappable
) -> None:
    """Draw the kernels of a part; those that are too small for a text are drawn together."""
    large = [a for a in side.kernels if a.seconds * scale >= SMALLEST]
    small = side.kernels[len(large) :]
    x = LEFT + LINES + SIDES
    for a in large:
        height = a.seconds * scale
        _draw(page, x, y, KERNELS, height, _label(a, total), _colour(a.share, colours))
        y += height
    if small:
        rows = [r for a in small for r in a.rows]
        seconds = sum(a.seconds for a in small)
        label = f"{len(rows)} smaller ones: {write_time(seconds)}"
        mean = _colour(average_share(rows), colours)
        _draw(page, x, y, KERNELS, seconds * scale, label, mean)


def _label(a: Alike, total: float) -> str:
    first = a.rows[0]
    times = f"×{len(a.rows)} " if len(a.rows) > 1 else ""
    bound = first.bound if a.share is None else f"{share(a.share)} of {first.bound}"
    where = f"{first.shape} {first.module}".strip()
    took = f"{write_time(a.seconds)} ({a.seconds / total:.0%})"
    return f"{took}  {bound}  {times}{first.does}  {where}"


def _colour(value: float | None, colours: ScalarMappable) -> Sequence[float]:
    if value is None:
        return GREY
    red, green, blue, alpha = colours.to_rgba(np.clip(value, 0, 1))
    return float(red), float(green), float(blue), float(alpha)


def _draw(
    page: Axes, x: float, y: float, width: float, height: float, text: str,
    colour: Sequence[float],
) -> None:  # fmt: skip
    """Draw a box with as much of a text as fits."""
    from matplotlib.patches import Rectangle

    gap = min(GAP, height / 4)
    page.add_patch(
        Rectangle((x, y), width - GAP, height - gap, facecolor=tuple(colour), linewidth=0)
    )
    if height >= SMALLEST:
        page.text(
            x + 0.04, y + height / 2, plain(_fitting(text, 0.95 * width - 0.1)), fontsize=POINTS,
            va="center_baseline", color=ink_on(colour),
        )  # fmt: skip


def _fitting(text: str, inches: float) -> str:
    """Return as much of the beginning of a text as fits."""
    if text_width(text, POINTS) <= inches:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_width(text[:middle].rstrip() + "…", POINTS) <= inches
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + "…"
