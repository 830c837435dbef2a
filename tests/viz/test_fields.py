"""A predicted field beside the exact one."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from toumei.errors import ToumeiError
from toumei.viz.fields import plot_field

from .looks import assert_legible, texts_of

X, T = np.linspace(-1, 1, 41), np.linspace(0, 1, 21)
EXACT = -np.sin(np.pi * X)[:, None] * np.exp(-T)


def titles(figure: Any) -> dict[str, Any]:
    """Return the axes by title, without the errors that stand behind a slice's."""
    axes = [ax for part in figure.subfigs for ax in part.axes]
    return {ax.get_title().split(":")[0]: ax for ax in axes if ax.get_title()}


def test_fields_and_slices(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    predicted = EXACT * 1.02
    points = np.array([[0.5, 0.25], [-0.5, 0.75]])
    plot_field(X, T, predicted, EXACT, tmp_path / "a.png", points=points)
    assert_legible(figures[0])
    written = texts_of(figures[0])
    assert "relative L2 error 2.00e-02" in written
    assert "t = 0.25: relative L2 error 2.00e-02" in written
    axes = titles(figures[0])
    assert list(axes) == ["predicted", "exact", "absolute error", "t = 0.25", "t = 0.5", "t = 0.75"]
    for name, u in (("predicted", predicted), ("exact", EXACT)):
        assert (axes[name].collections[0].get_array() == u).all()
        limits = axes[name].collections[0].get_clim()
        assert limits == (EXACT.min(), EXACT.max())  # one scale for both
        assert axes[name].get_xlabel() == "t"
    error = axes["absolute error"].collections[0]
    assert error.get_array().max() == pytest.approx(0.02, rel=0.01) == error.get_clim()[1]
    exact, dashed = axes["t = 0.5"].get_lines()
    assert (exact.get_ydata() == EXACT[:, 10]).all() and exact.get_linestyle() == "-"
    assert (dashed.get_ydata() == predicted[:, 10]).all() and dashed.get_linestyle() == "--"
    dots = axes["predicted"].get_lines()[0]
    assert dots.get_xdata().tolist() == [0.25, 0.75] and dots.get_ydata().tolist() == [0.5, -0.5]


def test_x_is_vertical_and_t_horizontal(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    u = np.where((X[:, None] > 0.5) & (T < 0.25), 1.0, 0.0)  # upper left
    plot_field(X, T, u, u, tmp_path / "a.png")
    ax = titles(figures[0])["exact"]
    mesh = ax.collections[0]
    centre = mesh.get_coordinates()[:-1, :-1][np.asarray(mesh.get_array()) == 1].mean(0)
    assert centre[0] < 0.25 and centre[1] > 0.5
    assert ax.get_ylim()[0] < ax.get_ylim()[1]


@pytest.mark.parametrize("times", [(0.5,), (0.0, 1.0), (0.1, 0.2, 0.3, 0.4)])
def test_any_number_of_slices(
    tmp_path: pathlib.Path, figures: list[Any], times: tuple[float, ...]
) -> None:
    plot_field(X, T**2, EXACT + 0.1, EXACT, tmp_path / "a.png", times)
    assert_legible(figures[0])
    found = [float(name[4:]) for name in titles(figures[0]) if name.startswith("t = ")]
    assert found == pytest.approx(times, abs=0.05)  # the grid's nearest


def test_a_field_of_zeros_has_no_relative_error(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_field(X, T, 0 * EXACT + 0.5, 0 * EXACT, tmp_path / "a.png")
    assert "L2 error 5.00e-01 (root mean square)" in texts_of(figures[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"predicted": EXACT.T}, r"predicted must be \(x, t\) = \(41, 21\), not \(21, 41\)"),
        ({"exact": EXACT + np.nan}, "exact holds a NaN"),
        ({"x": X[::-1]}, "x must hold at least 2 numbers, each above"),
        ({"t": [0.0]}, "t must hold at least 2"),
        ({"times": (0.5, 2)}, "the time 2 is outside 0..1"),
        ({"times": ()}, "a time at least"),
        ({"points": np.zeros((2, 3))}, r"rows of \(x, t\)"),
    ],
)
def test_fields_that_do_not_fit_are_refused(
    tmp_path: pathlib.Path, wrong: dict[str, Any], message: str
) -> None:
    fine = {"x": X, "t": T, "predicted": EXACT, "exact": EXACT, "path": tmp_path / "a.png"}
    with pytest.raises(ToumeiError, match=message):
        plot_field(**(fine | wrong))
    assert not list(tmp_path.iterdir())
