"""Pictures of a field u(x, t): predicted, exact, and how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from .canvas import COLOURS, DARK_TO_LIGHT, Path, array, blank_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_field(
    x: Any,
    t: Any,
    predicted: Any,
    exact: Any,
    path: Path,
    times: Sequence[float] = (0.25, 0.5, 0.75),
    points: Any = None,
) -> None:
    """Draw a predicted field u(x, t), the exact one and their difference, and slices at some times.

    Above, the three as images over t and x; below, u over x at each time, predicted dashed over
    exact.  Errors are ‖predicted − exact‖₂ / ‖exact‖₂ over the grid, and over each slice.

    Args:
        x: the grid's places, rising.
        t: the grid's times, rising.
        predicted: the model's u; u[i, j] is at x[i] and t[j].
        exact: the right u, on the same grid.
        path: the picture's file; .png, .svg and .pdf are possible.
        times: when to cut, in t's unit; the grid's nearest times are taken.
        points: where the equation was asked for in training (collocation points), to draw over the
            prediction: rows of (x, t); None for none.

    Shape: x (X,), t (T,), predicted and exact (X, T), points (P, 2).

    Raises:
        ToumeiError: shapes that don't fit, a grid that doesn't rise, fewer than 2 points of it,
            NaNs, no time, or a time outside t.
    """
    grid = _rising(x, "x"), _rising(t, "t")
    model, right = _field(predicted, "predicted", grid), _field(exact, "exact", grid)
    columns = [_nearest(grid[1], time) for time in times]
    if not columns:
        raise ToumeiError("times must name a time at least")
    dots = None if points is None else array(points, "points", 2)
    if dots is not None and dots.shape[1] != 2:
        raise ToumeiError(f"points must be rows of (x, t): the shape is {dots.shape}")
    save_figure(_draw(*grid, model, right, columns, dots), path)


def _draw(
    x: np.ndarray,
    t: np.ndarray,
    predicted: np.ndarray,
    exact: np.ndarray,
    columns: list[int],
    points: np.ndarray | None,
) -> Figure:
    figure = blank_figure(11, 6)
    count = len(columns)
    above, below = figure.subfigures(2, 1, height_ratios=[1.1, 1], squeeze=False)[:, 0]
    fields = above.subplots(1, 3, sharex=True, sharey=True)
    limits = {"vmin": exact.min(), "vmax": exact.max()}
    _image(fields[0], x, t, predicted, "predicted", **limits)
    _image(fields[1], x, t, exact, "exact", **limits)
    _image(fields[2], x, t, np.abs(predicted - exact), "absolute error", cmap="magma")
    fields[0].set_ylabel("x")
    if points is not None:
        size = 1 if len(points) > 500 else 3
        fields[0].plot(points[:, 1], points[:, 0], "o", color="black", markersize=size, alpha=0.6)
    for ax in fields[:2]:
        for column in columns:
            ax.axvline(t[column], color="white", linewidth=0.8, linestyle=":")
    slices = below.subplots(1, count, sharex=True, sharey=True, squeeze=False)[0]
    for ax, column in zip(slices, columns, strict=True):
        _slice(ax, x, predicted[:, column], exact[:, column], f"t = {t[column]:.4g}")
    slices[0].set_ylabel("u(x, t)")
    slices[0].legend(frameon=False, fontsize="small")
    figure.suptitle(_error(predicted, exact), fontsize=11)
    return figure


def _image(
    ax: Axes,
    x: np.ndarray,
    t: np.ndarray,
    u: np.ndarray,
    name: str,
    cmap: str = DARK_TO_LIGHT,
    **limits: Any,
) -> None:
    image = ax.pcolormesh(t, x, u, cmap=cmap, shading="nearest", rasterized=True, **limits)
    figure = ax.get_figure()
    assert figure is not None
    low, high = limits.get("vmin", u.min()), limits.get("vmax", u.max())
    beyond = (u.min() < low) + 2 * (u.max() > high)  # colours end there, values don't
    bar = figure.colorbar(image, ax=ax, extend=("neither", "min", "max", "both")[beyond])
    bar.ax.tick_params(labelsize=8)
    ax.set_title(name, fontsize=10)
    ax.set_xlabel("t")


def _slice(ax: Axes, x: np.ndarray, predicted: np.ndarray, exact: np.ndarray, when: str) -> None:
    ax.plot(x, exact, color=COLOURS[5], linewidth=3, label="exact")
    ax.plot(x, predicted, "--", color=COLOURS[1], linewidth=1.5, label="predicted")
    ax.set_title(f"{when}: {_error(predicted, exact)}", fontsize=9)
    ax.set_xlabel("x")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def _error(predicted: np.ndarray, exact: np.ndarray) -> str:
    """Say how far a field is from the exact one; of nothing but zeros no share can be had."""
    size = float(np.linalg.norm(exact))
    distance = float(np.linalg.norm(predicted - exact))
    if size == 0:
        return f"L2 error {distance / predicted.size**0.5:.2e} (root mean square)"
    return f"relative L2 error {distance / size:.2e}"


def _rising(value: Any, name: str) -> np.ndarray:
    found = array(value, name, 1).astype(np.float64)
    if len(found) < 2 or not (np.diff(found) > 0).all():
        raise ToumeiError(f"{name} must hold at least 2 numbers, each above the one before it")
    return found


def _field(value: Any, name: str, grid: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    found = array(value, name, 2).astype(np.float64)
    shape = (len(grid[0]), len(grid[1]))
    if found.shape != shape:
        raise ToumeiError(f"{name} must be (x, t) = {shape}, not {found.shape}")
    if not np.isfinite(found).all():
        raise ToumeiError(f"{name} holds a NaN or an infinity")
    return found


def _nearest(t: np.ndarray, time: float) -> int:
    if not t[0] <= time <= t[-1]:
        raise ToumeiError(f"the time {time:.4g} is outside {t[0]:.4g}..{t[-1]:.4g}")
    return int(np.abs(t - time).argmin())
