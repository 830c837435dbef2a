"""The exact solution of the Burgers equation: published figures, two other ways, the equation."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from toumei.data import burgers_solution
from toumei.data.burgers import NU

Array = NDArray[np.float64]


def by_fourier_series(x: Array, t: float, nu: float, modes: int = 64) -> Array:
    """The heat equation's solution, mode by mode; loses digits when 1 / (π nu) is large."""
    theta = np.arange(4 * modes) * (np.pi / (2 * modes))
    a = np.fft.rfft(np.exp(-np.cos(theta) / (2 * np.pi * nu))).real[:modes]
    n = np.arange(modes)
    a *= np.where(n == 0, 1, 2) * np.exp(-nu * (np.pi * n) ** 2 * t)
    phase = np.pi * n * x[:, None]
    return 2 * nu * np.pi * (n * a * np.sin(phase)).sum(1) / (a * np.cos(phase)).sum(1)


@pytest.mark.parametrize("nu", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("t", [0.0, 0.01, 0.7, 3.0, 20.0])
def test_it_agrees_with_the_fourier_series(nu: float, t: float) -> None:
    x = np.linspace(-1, 1, 41)
    assert np.abs(burgers_solution(x, t, nu) - by_fourier_series(x, t, nu)).max() < 1e-12


def test_the_steepest_slope_is_the_published_one() -> None:
    # Basdevant et al., table: |u_x(0, t)| is largest, 152.00516, at π t = 1.6037 (nu = 0.01 / π).
    h = 1e-5
    best = 1.6037 / np.pi

    def slope(t: float) -> float:
        return float(burgers_solution(h, t) - burgers_solution(-h, t)) / (2 * h)

    assert abs(slope(best) + 152.00516) < 2e-3
    assert slope(best) < min(slope(best - 0.01), slope(best + 0.01))


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_it_solves_the_equation(t: float) -> None:
    x, h = np.arange(4096) / 2048 - 1, 1e-4
    u = burgers_solution(x, t)
    k = 1j * np.pi * np.fft.fftfreq(len(x), 1 / len(x))
    u_x, u_xx = (np.fft.ifft(k**p * np.fft.fft(u)).real for p in (1, 2))
    around = burgers_solution(x[:, None], t + h * np.array([-2, -1, 1, 2]))
    u_t = around @ np.array([1, -8, 8, -1]) / (12 * h)
    # The terms grow with the shock, to some 70: so does what the differences can resolve.
    assert np.abs(u_t + u * u_x - NU * u_xx).max() < 1e-9 * np.abs(u * u_x).max()


def test_it_starts_as_a_sine_vanishes_at_the_ends_and_is_odd() -> None:
    x, t = np.linspace(-1, 1, 101), np.linspace(0, 1, 11)
    u = burgers_solution(x[:, None], t)
    assert u.shape == (101, 11) and u.dtype == np.float64
    assert np.abs(u[:, 0] + np.sin(np.pi * x)).max() < 1e-15
    assert np.abs(u[[0, 50, 100]]).max() < 1e-14
    assert np.abs(u + u[::-1]).max() < 1e-13


def test_a_tiny_viscosity_neither_overflows_nor_loses_the_shock() -> None:
    # Without viscosity u is constant along x = x0 − sin(π x0) t, until the shock at t = 1 / π.
    start, t = np.linspace(0.05, 0.95, 19), 0.8
    x = start - np.sin(np.pi * start) * t
    reached = x > 0.02  # the others have run into the shock
    u = burgers_solution(x, t, nu=1e-5)
    assert reached.sum() >= 5
    assert np.abs(u + np.sin(np.pi * start))[reached].max() < 1e-3
    assert float(burgers_solution(-0.001, t, nu=1e-5)) > 0.8


def test_a_point_does_not_depend_on_the_others() -> None:
    x = np.linspace(-1, 1, 3001)
    t = np.linspace(0, 1, 7)
    whole = burgers_solution(x[:, None], t)  # more than one chunk
    assert abs(whole[1234, 2] - burgers_solution(x[1234], t[2])) < 1e-14
    assert burgers_solution(np.empty(0), 0.5).shape == (0,)


def test_a_grid_of_25_600_points_is_quick() -> None:
    start = time.perf_counter()
    burgers_solution(np.linspace(-1, 1, 256)[:, None], np.linspace(0, 1, 100))
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    ("x", "t", "nu", "message"),
    [
        (0.0, 1.0, 0.0, "nu must be positive"),
        (0.0, 1.0, float("nan"), "nu must be positive"),
        (0.0, -0.1, NU, "negative"),
        (float("inf"), 0.1, NU, "finite"),
    ],
)
def test_what_has_no_solution_is_refused(x: float, t: float, nu: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        burgers_solution(x, t, nu)
