"""Compute the Chebyshev coefficients in toumei/numerics/coefficients.py, with mpmath.

    python tools/special_coefficients.py > toumei/numerics/coefficients.py

Each table stands for a smooth part of a special function on an interval: T(u) = Σ cₙ·Tₙ(t), where
t in [−1, 1] runs over the interval.  What each one is can be read off `TABLES`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
PI = mp.pi
NODES = 80
Function = Callable[[mpf], mpf]


def chebyshev(f: Function, low: float, high: float) -> list[float]:
    """Interpolate f at the Chebyshev points and drop the terms that double precision can't see."""
    points = [mp.cos(PI * (k + mpf(1) / 2) / NODES) for k in range(NODES)]
    middle, half = (mpf(low) + mpf(high)) / 2, (mpf(high) - mpf(low)) / 2
    values = [f(middle + half * t) for t in points]
    terms = []
    for n in range(NODES):
        waves = [v * mp.cos(n * PI * (k + mpf(1) / 2) / NODES) for k, v in enumerate(values)]
        terms.append(mp.fsum(waves) * (1 if n == 0 else 2) / NODES)
    largest = max(abs(c) for c in terms)
    kept = max(n for n, c in enumerate(terms) if abs(c) > largest * mpf("4e-18"))
    return [float(c) for c in terms[: kept + 1]]


def hankel(order: int, part: str) -> Function:
    """P or Q in J + iY = √(2/πx)·(P + i·Q/x)·exp(i(x − νπ/2 − π/4)), as a function of (8/x)²."""

    def f(u: mpf) -> mpf:
        x = 8 / mp.sqrt(u)
        h = mp.besselj(order, x) + 1j * mp.bessely(order, x)
        h *= mp.sqrt(PI * x / 2) * mp.exp(-1j * (x - order * PI / 2 - PI / 4))
        return h.real if part == "P" else h.imag * x

    return f


def airy_negative(derivative: int, part: str) -> Function:
    """P or Q in Ai(−x) = π^−½·x^−¼·(cos φ·P + sin φ·Q/ζ), φ = ζ − π/4, as a function of 1/ζ².

    The derivative is Ai′(−x) = π^−½·x^¼·(sin φ·P − cos φ·Q/ζ).
    """

    def f(u: mpf) -> mpf:
        zeta = 1 / mp.sqrt(u)
        x = (zeta * 3 / 2) ** (mpf(2) / 3)
        phase = zeta - PI / 4
        scale = mp.sqrt(PI) * x ** (mpf(-1 if derivative else 1) / 4)
        a = mp.airyai(-x, derivative=derivative) * scale
        b = mp.airybi(-x, derivative=derivative) * scale
        if derivative:
            p, q = a * mp.sin(phase) + b * mp.cos(phase), b * mp.sin(phase) - a * mp.cos(phase)
        else:
            p, q = a * mp.cos(phase) - b * mp.sin(phase), a * mp.sin(phase) + b * mp.cos(phase)
        return p if part == "P" else q * zeta

    return f


def airy_positive(derivative: int) -> Function:
    """Ai(x)·2√π·x^¼·exp ζ, or Ai′(x)·2√π·x^−¼·exp ζ, as a function of 1/ζ."""

    def f(u: mpf) -> mpf:
        zeta = 1 / u
        x = (zeta * 3 / 2) ** (mpf(2) / 3)
        scale = x ** (mpf(-1 if derivative else 1) / 4)
        return mp.airyai(x, derivative=derivative) * 2 * mp.sqrt(PI) * scale * mp.exp(zeta)

    return f


def root_of_digamma() -> mpf:
    return mp.findroot(mp.digamma, mpf("1.4616321449683623"))


ROOT = root_of_digamma()

# name: (what it is, the function, its interval)
TABLES: dict[str, tuple[str, Function, float, float]] = {
    "LGAMMA": ("ln Γ(x)/((x − 1)(x − 2)),  1.5 ≤ x ≤ 2.5",
               lambda x: mp.loggamma(x) / ((x - 1) * (x - 2)), 1.5, 2.5),
    "DIGAMMA": ("ψ(x)/(x − x₀), where ψ(x₀) = 0,  1 ≤ x ≤ 2",
                lambda x: mp.digamma(x) / (x - ROOT), 1, 2),
    "I0_SMALL": ("e⁻ˣ·I₀(x),  0 ≤ x ≤ 8", lambda x: mp.exp(-x) * mp.besseli(0, x), 0, 8),
    "I0_LARGE": ("√x·e⁻ˣ·I₀(x),  u = 8/x ≤ 1",
                 lambda u: mp.sqrt(8 / u) * mp.exp(-8 / u) * mp.besseli(0, 8 / u), 0, 1),
    "I1_SMALL": ("e⁻ˣ·I₁(x)/x,  0 ≤ x ≤ 8", lambda x: mp.exp(-x) * mp.besseli(1, x) / x, 0, 8),
    "I1_LARGE": ("√x·e⁻ˣ·I₁(x),  u = 8/x ≤ 1",
                 lambda u: mp.sqrt(8 / u) * mp.exp(-8 / u) * mp.besseli(1, 8 / u), 0, 1),
    "K0_SMALL": ("K₀(x) + ln(x/2)·I₀(x),  u = x² ≤ 4",
                 lambda u: (mp.besselk(0, mp.sqrt(u))
                            + mp.log(u / 4) / 2 * mp.besseli(0, mp.sqrt(u))), 0, 4),
    "K0_LARGE": ("√x·eˣ·K₀(x),  u = 2/x ≤ 1",
                 lambda u: mp.sqrt(2 / u) * mp.exp(2 / u) * mp.besselk(0, 2 / u), 0, 1),
    "K1_SMALL": ("x·(K₁(x) − ln(x/2)·I₁(x)),  u = x² ≤ 4",
                 lambda u: mp.sqrt(u) * (mp.besselk(1, mp.sqrt(u))
                                         - mp.log(u / 4) / 2 * mp.besseli(1, mp.sqrt(u))), 0, 4),
    "K1_LARGE": ("√x·eˣ·K₁(x),  u = 2/x ≤ 1",
                 lambda u: mp.sqrt(2 / u) * mp.exp(2 / u) * mp.besselk(1, 2 / u), 0, 1),
    "J0_SMALL": ("J₀(x),  u = x² ≤ 64", lambda u: mp.besselj(0, mp.sqrt(u)), 0, 64),
    "J1_SMALL": ("J₁(x)/x,  u = x² ≤ 64", lambda u: mp.besselj(1, mp.sqrt(u)) / mp.sqrt(u), 0, 64),
    "Y0_SMALL": ("Y₀(x) − (2/π)·ln x·J₀(x),  u = x² ≤ 64",
                 lambda u: mp.bessely(0, mp.sqrt(u)) - mp.log(u) / PI * mp.besselj(0, mp.sqrt(u)),
                 0, 64),
    "Y1_SMALL": ("(Y₁(x) − (2/π)·(ln x·J₁(x) − 1/x))/x,  u = x² ≤ 64",
                 lambda u: (mp.bessely(1, mp.sqrt(u)) - mp.log(u) / PI * mp.besselj(1, mp.sqrt(u))
                            + 2 / PI / mp.sqrt(u)) / mp.sqrt(u), 0, 64),
    "HANKEL0_P": ("P of order 0,  u = (8/x)² ≤ 1", hankel(0, "P"), 0, 1),
    "HANKEL0_Q": ("x·Q of order 0,  u = (8/x)² ≤ 1", hankel(0, "Q"), 0, 1),
    "HANKEL1_P": ("P of order 1,  u = (8/x)² ≤ 1", hankel(1, "P"), 0, 1),
    "HANKEL1_Q": ("x·Q of order 1,  u = (8/x)² ≤ 1", hankel(1, "Q"), 0, 1),
    "AIRY_SMALL": ("Ai(x),  −5 ≤ x ≤ 2", mp.airyai, -5, 2),
    "AIRY_LARGE": ("2√π·x^¼·exp ζ·Ai(x), ζ = ⅔·x^1.5,  u = 1/ζ ≤ 0.54", airy_positive(0), 0, 0.54),
    "AIRY_P": ("P in Ai(−x),  u = 1/ζ² ≤ 0.0181", airy_negative(0, "P"), 0, 0.0181),
    "AIRY_Q": ("ζ·Q in Ai(−x),  u = 1/ζ² ≤ 0.0181", airy_negative(0, "Q"), 0, 0.0181),
    "AIRY1_SMALL": ("Ai′(x),  −5 ≤ x ≤ 2", lambda x: mp.airyai(x, derivative=1), -5, 2),
    "AIRY1_LARGE": ("2√π·x^−¼·exp ζ·Ai′(x),  u = 1/ζ ≤ 0.54", airy_positive(1), 0, 0.54),
    "AIRY1_P": ("P in Ai′(−x),  u = 1/ζ² ≤ 0.0181", airy_negative(1, "P"), 0, 0.0181),
    "AIRY1_Q": ("ζ·Q in Ai′(−x),  u = 1/ζ² ≤ 0.0181", airy_negative(1, "Q"), 0, 0.0181),
}  # fmt: skip


def inverse_of_mu(terms: int) -> list[mpf]:
    """Return the series of η/μ, where η²/2 = μ − ln(1 + μ), by μ·μ′ = η·(1 + μ)."""
    a = [mpf(0), mpf(1)]  # μ = Σ aₙ·ηⁿ
    for n in range(2, terms + 2):
        known = mp.fsum(a[i] * (n + 1 - i) * a[n + 1 - i] for i in range(2, n))
        a.append((a[n - 1] - known) / (n + 1))
    b, inverse = a[1:], [mpf(1)]
    for n in range(1, terms):
        inverse.append(-mp.fsum(b[k] * inverse[n - k] for k in range(1, n + 1)))
    return inverse


def stirling_numbers(count: int) -> list[mpf]:
    """Return gₖ of Γ(a) ~ √(2π/a)·(a/e)ᵃ·Σ gₖ·a⁻ᵏ."""
    logs = {2 * k - 1: mp.bernoulli(2 * k) / (2 * k * (2 * k - 1)) for k in range(1, count)}
    g = [mpf(1)]
    for n in range(1, count):
        g.append(mp.fsum(j * logs.get(j, 0) * g[n - j] for j in range(1, n + 1)) / n)
    return g


def temme_rows(rows: int = 7, terms: int = 40) -> list[list[float]]:
    """Return the Taylor coefficients of cₖ(η), k < rows, as far as a ≥ 200, |η| ≤ 0.35 needs them.

    c₀ = 1/μ − 1/η and cₖ = cₖ₋₁′/η + (−1)ᵏ·gₖ/μ (DLMF 8.12.10, 8.12.11).
    """
    inverse = {n - 1: v for n, v in enumerate(inverse_of_mu(terms + 2 * rows))}
    g = stirling_numbers(rows)
    current = {**inverse, -1: mpf(0)}
    out = []
    for k in range(rows):
        if k > 0:
            slope = {n - 2: n * v for n, v in current.items()}
            current = {n: slope.get(n, 0) + (-1) ** k * g[k] * v for n, v in inverse.items()}
        sizes = [abs(current[n]) * mpf("0.35") ** n * mpf(200) ** -k for n in range(terms)]
        kept = max(n for n, size in enumerate(sizes) if size > 1e-18)
        out.append([float(current[n]) for n in range(kept + 1)])
    return out


def erf_rational(degree: int = 5, top: float = 3.92**2) -> tuple[list[float], list[float]]:
    """Return P and Q with erf(x) ≈ x·P(x²)/Q(x²) for x² ≤ top, to about 2e-8, relatively.

    Least squares with the weights of the last step's denominator, Lawson's rule evening the error.
    """
    u = np.array([float((mp.cos(PI * (k + 0.5) / 800) + 1) / 2) for k in range(800)])
    f = np.array([float(mp.erf(mp.sqrt(v * top)) / mp.sqrt(v * top)) for v in u])
    powers = np.vander(u, degree + 1, increasing=True)
    weight, q_values = np.ones_like(u), np.ones_like(u)
    for _ in range(60):
        scale = (weight / (f * q_values))[:, None]
        system = np.hstack([powers, -f[:, None] * powers[:, 1:]]) * scale
        solution = np.linalg.lstsq(system, f * scale[:, 0], rcond=None)[0]
        p, q = solution[: degree + 1], np.append(1.0, solution[degree + 1 :])
        q_values = powers @ q
        error = np.abs(powers @ p / q_values / f - 1)
        weight *= (error / error.max() + 0.02) ** 0.3
        weight /= weight.max()
    scales = top ** np.arange(degree + 1)
    return (p / scales).tolist(), (q / scales).tolist()


def main() -> None:
    print('"""Chebyshev coefficients of the smooth parts of special functions.')
    print("\nMade by tools/special_coefficients.py; the notation is that of DLMF 5, 8, 9 and 10.")
    print('"""\n\nfrom __future__ import annotations')
    for name, (what, f, low, high) in TABLES.items():
        print(f"\n# {what}\n{name} = (")
        for c in chebyshev(f, low, high):
            print(f"    {c!r},")
        print(")")
    print("\n# cₖ(η) in the uniform expansion of the incomplete gamma functions\nTEMME = (")
    for row in temme_rows():
        print("    (")
        for c in row:
            print(f"        {c!r},")
        print("    ),")
    print(")")
    print("\n# erf(x) ≈ x·P(x²)/Q(x²) for |x| ≤ 3.92, as exact as float32")
    for name, row in zip(("ERF_P", "ERF_Q"), erf_rational(), strict=True):
        print(f"{name} = (\n" + "".join(f"    {c:.10g},\n" for c in row) + ")")
    print("\n# The root x₀ of the digamma function, and what is missing of it in double precision")
    print(f"DIGAMMA_ROOT = ({float(ROOT)!r}, {float(ROOT - mpf(float(ROOT)))!r})")


if __name__ == "__main__":
    main()
