"""The special functions on arrays, against mpmath in 40 digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from toumei.numerics import bessel, error, gamma, incomplete

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mpmath.workdps(40), np.errstate(all="ignore"):
        yield


def spread(low: float, high: float, count: int = 60) -> Array:
    """Numbers from low to high: evenly, and crowded at the ends."""
    t = np.linspace(0, 1, count)
    near = np.geomspace(1e-9, 0.1, count // 3)
    return low + (high - low) * np.concatenate([t, near, 1 - near])


WAVES = spread(1e-6, 8), spread(8, 300)  # small and large arguments

CASES: dict[str, tuple[Callable[[Array], Array], Callable[[Any], Any], Array, float]] = {
    "erf": (error.erf, mp.erf, spread(-6, 6), 1e-15),
    "erfc": (error.erfc, mp.erfc, spread(-6, 26), 2e-15),
    "erfcx": (error.erfcx, lambda x: mp.exp(x * x) * mp.erfc(x), spread(-26, 60), 3e-15),
    "erfinv": (error.erfinv, mp.erfinv, spread(-0.9999999, 0.9999999), 2e-15),
    "log_ndtr": (error.log_ndtr, lambda x: mp.log1p(-mp.erfc(x / mp.sqrt(2)) / 2) if x > -5 else
                 mp.log(mp.erfc(-x / mp.sqrt(2)) / 2), spread(-30, 8), 2e-14),
    "lgamma": (gamma.lgamma, mp.loggamma, spread(1e-6, 40), 2e-15),
    "lgamma near its zeros": (gamma.lgamma, mp.loggamma, 1 + np.geomspace(1e-12, 1, 40), 2e-15),
    "digamma": (gamma.digamma, mp.digamma, spread(0.01, 40), 2e-15),
    "trigamma": (lambda x: gamma.polygamma(1, x), lambda x: mp.psi(1, x), spread(0.01, 40), 2e-15),
    "psi 20": (lambda x: gamma.polygamma(20, x), lambda x: mp.psi(20, x), spread(0.1, 90), 3e-15),
    "zeta": (lambda s: gamma.zeta(s, np.asarray(1.0)), mp.zeta, spread(1.001, 60), 2e-15),
    "i0e": (bessel.i0e, lambda x: mp.exp(-x) * mp.besseli(0, x), spread(0, 300), 2e-15),
    "i1e": (bessel.i1e, lambda x: mp.exp(-x) * mp.besseli(1, x), spread(1e-3, 300), 2e-15),
    "k0": (bessel.k0, lambda x: mp.besselk(0, x), spread(1e-6, 300), 5e-14),
    "k1": (bessel.k1, lambda x: mp.besselk(1, x), spread(1e-6, 300), 5e-14),
    "airy": (bessel.airy_ai, mp.airyai, spread(-2, 20), 3e-14),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_relative_error(name: str) -> None:
    function, exact, x, limit = CASES[name]
    got = function(x)
    for at, y in zip(x, got, strict=True):
        want = exact(mpmath.mpf(float(at)))
        assert abs(mpmath.mpf(float(y)) - want) <= limit * abs(want), f"{name}({at}): {y}, {want}"


OSCILLATING: dict[str, tuple[Callable[[Array], Array], Callable[[Any], Any]]] = {
    "j0": (bessel.j0, lambda x: mp.besselj(0, x)),
    "j1": (bessel.j1, lambda x: mp.besselj(1, x)),
    "y0": (bessel.y0, lambda x: mp.bessely(0, x)),
    "y1": (bessel.y1, lambda x: mp.bessely(1, x)),
    "spherical j3": (
        lambda x: bessel.spherical(3, x),
        lambda x: mp.sqrt(mp.pi / 2 / x) * mp.besselj(3.5, x),
    ),
    "airy of −x": (lambda x: bessel.airy_ai(-x), lambda x: mp.airyai(-x)),
    "airy′ of −x": (lambda x: bessel.airy_ai(-x, True), lambda x: mp.airyai(-x, derivative=1)),
    "lgamma of −x": (lambda x: gamma.lgamma(-x), lambda x: mp.re(mp.loggamma(-x))),
}


@pytest.mark.parametrize("name", OSCILLATING)
def test_error_of_what_oscillates(name: str) -> None:
    function, exact = OSCILLATING[name]
    x = spread(0.013, 7.99, 40) if "of" in name else np.concatenate(WAVES)
    got = function(x)
    for at, y in zip(x, got, strict=True):
        want = exact(mpmath.mpf(float(at)))
        assert abs(mpmath.mpf(float(y)) - want) <= 2e-14 * max(1, abs(want)), f"{name}({at})"


@pytest.mark.parametrize("a", [0.01, 0.7, 3.0, 45.0, 190.0, 250.0, 2e4])
def test_incomplete_gamma(a: float) -> None:
    x = a * np.array([0.3, 0.8, 0.97, 1.0, 1.02, 1.3, 2.5])
    low, high = incomplete.igamma(np.asarray(a), x), incomplete.igammac(np.asarray(a), x)
    for at, p, q in zip(x, low, high, strict=True):
        exact_p = mp.gammainc(a, 0, float(at), regularized=True)
        exact_q = mp.gammainc(a, float(at), regularized=True)
        for got, want in ((p, exact_p), (q, exact_q)):
            # the prefactor's exponent may be in the thousands: that many roundings
            limit = 4e-15 * (1 + abs(float(mp.log(want))) if want > 1e-300 else 1)
            assert abs(float(got) - float(want)) <= max(limit * float(want), 1e-15), (a, at)


def test_special_values() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0])
    expected = {
        error.erf: [np.nan, 1, -1, 0],
        error.erfc: [np.nan, 0, 2, 1],
        error.erfcx: [np.nan, 0, np.inf, 1],
        error.ndtri: [np.nan, np.nan, np.nan, -np.inf],
        gamma.lgamma: [np.nan, np.inf, np.inf, np.inf],
        gamma.digamma: [np.nan, np.inf, np.nan, -np.inf],
        bessel.i0: [np.nan, np.inf, np.inf, 1],
        bessel.i1: [np.nan, np.inf, -np.inf, 0],
        bessel.k0: [np.nan, 0, np.nan, np.inf],
        bessel.j0: [np.nan, 0, 0, 1],
        bessel.y1: [np.nan, 0, np.nan, -np.inf],
    }
    for function, values in expected.items():
        np.testing.assert_allclose(function(x), values, 1e-15, err_msg=function.__name__)


def test_float32_error_function() -> None:
    x = np.concatenate([np.linspace(-5, 5, 20001), np.geomspace(1e-30, 1, 2001)]).astype("f4")
    np.testing.assert_allclose(error.erf_single(x), error.erf(x), rtol=5e-7)
    ends = error.erf_single(np.array([np.inf, -np.inf, np.nan], "f4"))
    np.testing.assert_array_equal(ends, np.array([1, -1, np.nan], "f4"))
