"""Compute the polynomials of the generated elementary functions, with mpmath.

    python tools/vector_polynomials.py > toumei/compiler/llvm/polynomials.py

Each is the best one (Remez): its largest weighted error is as small as its degree allows, and the
degree is the smallest that reaches a sixteenth of the type's last bit.  The weight makes the error
that of the final result, relative to it.  What each one is can be read off `TABLES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from mpmath import mp, mpf

mp.dps = 50
GRID = 400  # points at which the error is looked at
Function = Callable[[mpf], mpf]


def grid(low: float, high: float) -> list[mpf]:
    """Return Chebyshev points of an interval, in rising order."""
    middle, half = (mpf(low) + mpf(high)) / 2, (mpf(high) - mpf(low)) / 2
    return [middle - half * mp.cos(mp.pi * (k + mpf(1) / 2) / GRID) for k in range(GRID)]


def horner(coefficients: list[mpf], x: mpf) -> mpf:
    """Return c₀ + c₁·x + c₂·x² + …"""
    return mp.polyval(coefficients[::-1], x)


def alternating(errors: list[mpf], count: int) -> list[int]:
    """Return where the error is largest between changes of its sign: `count` places."""
    peaks = [0]
    for k, e in enumerate(errors):
        if e * errors[peaks[-1]] <= 0:
            peaks.append(k)
        elif abs(e) > abs(errors[peaks[-1]]):
            peaks[-1] = k
    while len(peaks) > count:  # the smaller end goes
        first, last = abs(errors[peaks[0]]), abs(errors[peaks[-1]])
        peaks = peaks[1:] if first < last else peaks[:-1]
    return peaks


def remez(f: Function, weight: Function, span: tuple[float, float], above: int, below: int):  # type: ignore[no-untyped-def]
    """Return P and Q (Q₀ = 1) of the best P(x)/Q(x), with `above` and `below` free terms.

    The equations are w·(P − f·Q) = ±E·Q at the places of the largest error; E·Q, where they aren't
    linear, is taken from the turn before.
    """
    xs = grid(*span)
    fs, ws = [f(x) for x in xs], [weight(x) for x in xs]
    size = above + below + 1
    places = [round((GRID - 1) * (1 - np.cos(np.pi * k / (size - 1))) / 2) for k in range(size)]
    q, level = [mpf(1)] + [mpf(0)] * below, mpf(0)
    for turn in range(12 if not below else 40):
        rows, right = [], []
        for k, i in enumerate(places):
            x, sign = xs[i], (-1) ** k
            target = fs[i] + sign * level / ws[i] if below else fs[i]
            denominator = 1 if below == 0 else horner(q, x)
            row = [x**j for j in range(above)]
            row += [-target * x**j for j in range(1, below + 1)]
            rows.append([*row, -sign * denominator / ws[i]])
            right.append(target)
        solved = mp.lu_solve(mp.matrix(rows), mp.matrix(right))
        p = [solved[j] for j in range(above)]
        q = [mpf(1)] + [solved[above + j] for j in range(below)]
        level += solved[size - 1] if below else 0
        errors = [w * (horner(p, x) / horner(q, x) - y) for x, y, w in zip(xs, fs, ws, strict=True)]
        peaks = alternating(errors, size)
        worst = max(abs(e) for e in errors)
        if len(peaks) < size:
            break
        if turn and peaks == places and not below:
            break
        places = peaks
    return p, q, worst


def half_ln_ratio(z: mpf) -> mpf:
    """Return (ln((1 + s)/(1 − s)) − 2s)/s³, z = s²."""
    s = mp.sqrt(z)
    return 2 * (mp.atanh(s) - s) / s**3


def cubic(f: Function) -> tuple[Function, Function]:
    """Return (f(s) − s)/s³ as a function of z = s², and the weight of its error."""
    return (
        lambda z: (f(mp.sqrt(z)) - mp.sqrt(z)) / mp.sqrt(z) ** 3,
        lambda z: mp.sqrt(z) ** 3 / f(mp.sqrt(z)),
    )


def odd(f: Function) -> tuple[Function, Function]:
    """Return f(s)/s as a function of z = s², and the weight of its error."""
    return (lambda z: f(mp.sqrt(z)) / mp.sqrt(z), lambda z: mp.sqrt(z) / f(mp.sqrt(z)))


def erfcx_part(k: float) -> tuple[Function, Function]:
    """Return exp(a²)·erfc a/t, t = k/(a + k), as a function of u = (a − k)/(a + k)."""

    def f(u: mpf) -> mpf:
        a = k * (1 + u) / (1 - u)
        return mp.erfc(a) * mp.exp(a * a) * (a + k) / k

    return f, lambda u: 1 / f(u)


def erfcx_span(k: float, most: float) -> tuple[float, float]:
    """Return what u runs over while a runs from 0 to `most`."""
    return -1.0, (most - k) / (most + k)


LOG = (
    lambda x: (mp.log1p(x) - x + x * x / 2) / x**3,
    lambda x: x**3 / mp.log1p(x),
)
EXP = (lambda x: (mp.expm1(x) - x) / x**2, lambda x: x**2 / mp.expm1(x))
COS = (lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, lambda z: z**2 / mp.cos(mp.sqrt(z)))
ERF = (lambda z: odd(mp.erf)[0](z) - 1, odd(mp.erf)[1])
LOG_ERFC = (lambda a: mp.log(mp.erfc(a)), lambda a: mp.erfc(a) / mp.erf(a))
END = 8  # where the eighth roots vanish


def normal_tail(a: mpf) -> mpf:
    """Return Φ(−a) of the normal distribution."""
    return mp.erfc(a / mp.sqrt(2)) / 2


def gelu_slope(a: mpf) -> mpf:
    """Return gelu's derivative at −a: Φ(−a) − a·φ(a)."""
    return normal_tail(a) - a * mp.npdf(a)


SLOPE_ROOT = mp.findroot(gelu_slope, 0.75)


def slope_line(a: mpf) -> mpf:
    """Return the line that has gelu's derivative at 0 and its root."""
    return (1 - a / SLOPE_ROOT) / 2


LOW, HIGH = -0.2929, 0.4143  # √½ − 1, √2 − 1

# name: (what it stands for, {type: (function and weight, interval)})
TABLES = {
    "EXP": (
        "(eʳ − 1 − r)/r², |r| ≤ ln 2/2",
        {"float": (EXP, (-0.36, 0.36)), "double": (EXP, (-0.35, 0.35))},
    ),
    "LOG": ("(ln(1 + f) − f + f²/2)/f³, √½ ≤ 1 + f ≤ √2", {"float": (LOG, (LOW, HIGH))}),
    "LOG_RATIO": (
        "(ln((1 + s)/(1 − s)) − 2s)/s³ of z = s²",
        {"double": ((half_ln_ratio, lambda z: z / 2), (0, 0.02945))},
    ),
    "SIN": (
        "(sin r − r)/r³ of z = r², |r| ≤ π/2",
        dict.fromkeys(("float", "double"), (cubic(mp.sin), (0, 1.58**2))),
    ),
    "SIN_QUARTER": (
        "(sin r − r)/r³ of z = r², |r| ≤ π/4",
        dict.fromkeys(("float", "double"), (cubic(mp.sin), (0, 0.795**2))),
    ),
    "COS_QUARTER": (
        "(cos r − 1 + z/2)/z² of z = r², |r| ≤ π/4",
        dict.fromkeys(("float", "double"), (COS, (0, 0.795**2))),
    ),
    "ASIN": (
        "(arcsin s − s)/s³ of z = s², s ≤ ½",
        dict.fromkeys(("float", "double"), (cubic(mp.asin), (0, 0.25))),
    ),
    "ATAN": (
        "(arctan s − s)/s³ of z = s², s ≤ 1",
        dict.fromkeys(("float", "double"), (cubic(mp.atan), (0, 1))),
    ),
    "SINH": (
        "(sinh s − s)/s³ of z = s², s ≤ 1",
        dict.fromkeys(("float", "double"), (cubic(mp.sinh), (0, 1))),
    ),
    "ERF_SMALL": (
        "(erf s)/s − 1 of z = s², s ≤ 1",
        dict.fromkeys(("float", "double"), (ERF, (0, 1))),
    ),
    "LOG_ERFC": ("ln(erfc a), 1 ≤ a ≤ 3.95", {"float": (LOG_ERFC, (1, 3.95))}),
    "ERFCX": (
        "exp(a²)·erfc a/t, t = k/(a + k), of u = (a − k)/(a + k), k = 4",
        {"double": (erfcx_part(4), erfcx_span(4, 28))},
    ),
}  # fmt: skip

# name: (what it stands for, function and weight, interval, terms of P, of Q without the first)
RATIOS = {
    "TANH": ("(tanh s)/s = P/Q of z = s², s ≤ 9.1", odd(mp.tanh), (0, 9.1**2), 6, 4),
}

# name: (what it stands for, function, weight of its error, terms).  The tail's is between absolute
# and relative; the slope's is absolute, but for a little more where it vanishes.
EIGHTH_ROOTS = {
    "NORMAL_TAIL": ("Φ(−a)^⅛", normal_tail, lambda a: normal_tail(a) ** -0.25, 9),
    "GELU_SLOPE": (
        "((Φ(−a) − a·φ(a))/(½ − a·k))^⅛, k = 1/(2·root)",
        lambda a: gelu_slope(a) / slope_line(a),
        lambda a: abs(slope_line(a)) + mpf("1e-3"),
        10,
    ),
}

# name: (what it stands for, the number, {type: bits of its parts})
SPLITS = {
    "PI": (
        "π in parts; a double one times a whole number of 19 bits is exact",
        +mp.pi,
        {"float": [24, 24, 24], "double": [33, 33, 53]},
    ),
    "LN2": (
        "ln 2 in parts; the first times an exponent is exact",
        mp.log(2),
        {"float": [11, 24], "double": [32, 53]},
    ),
    "LOG10_2": (
        "log₁₀ 2 in parts; the first times an exponent is exact",
        mp.log10(2),
        {"float": [11, 24], "double": [32, 53]},
    ),
}
GOAL = {"float": mpf(2) ** -28, "double": mpf(2) ** -57}


def smallest(kind: str, pair: tuple[Function, Function], span: tuple[float, float]) -> list[mpf]:
    """Return the coefficients of the shortest polynomial that is good enough for a type."""
    for terms in range(3 if kind == "float" else 5, 40):
        p, _, worst = remez(*pair, span, terms, 0)
        if worst < GOAL[kind]:
            return p
    raise ValueError("no polynomial of fewer than 40 terms will do")


def eighth_root(f: Function, weight: Function, terms: int) -> tuple[list[mpf], mpf]:
    """Return R, R⁸ = f from 0 to `END`, where R is 0, and the largest weighted error of R⁸."""

    def part(a: mpf) -> mpf:
        return mp.root(f(a), 8) / (1 - a / END)

    def loss(a: mpf) -> mpf:
        return 8 * f(a) / part(a) * weight(a)

    p, _, worst = remez(part, loss, (0, END - 0.01), terms - 1, 0)
    return [c - d / END for c, d in zip([*p, 0], [0, *p], strict=True)], worst


def polished(
    p: list[mpf], q: list[mpf], pair: tuple[Function, Function], span: tuple[float, float]
):  # type: ignore[no-untyped-def]
    """Round a ratio to float32, each coefficient to the neighbour with which all lose least."""
    points = grid(*span)
    xs = np.array([float(x) for x in points])
    fs, ws = (np.array([float(g(x)) for x in points]) for g in pair)
    best = np.array([float(c) for c in p + q], np.float32)

    def worst(c: np.ndarray) -> float:  # type: ignore[type-arg]
        above, below = c[: len(p)].astype(float), c[len(p) :].astype(float)
        ratio = np.polyval(above[::-1], xs) / np.polyval(below[::-1], xs)
        return float(np.abs((ratio - fs) * ws).max())

    rng = np.random.default_rng(0)
    error = worst(best)
    for _ in range(20_000):
        steps = rng.integers(-2, 3, len(best)) * (rng.random(len(best)) < 0.4)
        steps[[0, len(p)]] = 0  # both are 1
        trial = best + (steps * np.spacing(best)).astype(np.float32)
        if (found := worst(trial)) < error:
            best, error = trial, found
    print(f"polished: {error * 2**24:.3f} of a last bit", file=sys.stderr)
    return list(best[: len(p)]), list(best[len(p) :])


def written(kind: str, coefficients: list[mpf]) -> str:
    """Return coefficients as Python text, rounded to the type."""
    real = np.float32 if kind == "float" else np.float64
    rows = [f"        {float(real(float(c)))!r},\n" for c in coefficients]
    return f'    "{kind}": (\n{"".join(rows)}    ),\n'


def leading_parts(value: mpf, bits: list[int]) -> list[mpf]:
    """Split a number into parts of so many bits each, largest first: their sum is the number."""
    found = []
    for b in bits:
        step = mpf(2) ** (mp.floor(mp.log(abs(value), 2)) + 1 - b)
        found.append(mp.nint(value / step) * step)
        value -= found[-1]
    return found


def main() -> None:
    print('"""Polynomials of the elementary functions: made by tools/vector_polynomials.py."""')
    print("\nfrom __future__ import annotations\n\nTable = dict[str, tuple[float, ...]]\n")
    for name, (what, kinds) in TABLES.items():
        parts = [written(kind, smallest(kind, *args)) for kind, args in kinds.items()]
        print(f"# {what}\n{name}: Table = {{\n{''.join(parts)}}}\n")
    for name, (what, pair, span, above, below) in RATIOS.items():
        p, q, worst = remez(*pair, span, above, below)
        if worst > GOAL["float"] * 2:
            raise ValueError(f"{name}: the error is {mp.nstr(worst, 3)}")
        p, q = polished(p, q, pair, span)
        tables = zip(("ABOVE", "BELOW"), (p, q), strict=True)
        lines = [f"{name}_{t}: Table = {{\n{written('float', c)}}}" for t, c in tables]
        print(f"# {what}, relative error {mp.nstr(worst, 2)}\n" + "\n".join(lines) + "\n")
    for name, (what, f, weight, terms) in EIGHTH_ROOTS.items():
        p, worst = eighth_root(f, weight, terms)
        table = f"{name}: Table = {{\n{written('float', p)}}}\n"
        print(f"# {what}, 0 ≤ a ≤ {END}; weighted error of the power {mp.nstr(worst, 2)}\n{table}")
    for name, (what, value, kinds) in SPLITS.items():
        texts = [written(kind, leading_parts(value, bits)) for kind, bits in kinds.items()]
        print(f"# {what}\n{name}: Table = {{\n{''.join(texts)}}}\n")


if __name__ == "__main__":
    main()
