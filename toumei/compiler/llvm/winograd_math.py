"""Winograd's transforms along one line: six points at which polynomials are evaluated.

A line of four results of a 3-tap filter (or three results of a 4-tap one) is computed from six
inputs d as  Aᵀ[(G g) ⊙ (Bᵀ d)]:  the filter g and the results are taken at the points 0, ±a, ±b and
infinity, where a convolution becomes six products (Winograd, Arithmetic Complexity of Computations,
1980; Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, 2016).  For a tile of 4 x 4
results the transforms are applied down and across: 36 products in place of 144.

The points decide the error.  Small whole ones (a = 1, b = 2) are usual; with a = 1/√2 and b = √2,
reciprocal to each other, the error is four times smaller for the same number of operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .ir import Function, Value

POINTS = 6  # values of a transformed line
STEP = 4  # results of a line: the distance between tiles
PAIRS = (math.sqrt(0.5), math.sqrt(2.0))  # the points are 0, ± each of these, infinity
_SQUARES = (0.5, 2.0)
# The product of a point's distances from the other ones: Lagrange's denominators.
_SCALES = tuple(2 * p * (p - q) for p, q in (_SQUARES, _SQUARES[::-1]))


def input_line(f: Function, d: Sequence[Value]) -> list[Value]:
    """Write Bᵀd: coefficient by coefficient, the product of (x - point) over the other points."""
    both = -sum(_SQUARES)  # (x² - a²)(x² - b²) = x⁴ - (a² + b²) x² + 1
    first = f.fadd(fused(f, d[2], both, d[0]), d[4])
    last = f.fadd(fused(f, d[3], both, d[1]), d[5])
    middle = []
    for point, other in zip(PAIRS, _SQUARES[::-1], strict=True):
        even, odd = fused(f, d[2], -other, d[4]), fused(f, d[1], -other, d[3])
        middle += [fused(f, odd, point, even), fused(f, odd, -point, even)]
    return [first, *middle, last]


def spread(f: Function, g: Sequence[Value], scaled: bool) -> list[Value]:
    """Write a polynomial's values at the six points, of its coefficients g (3 or 4 of them).

    Args:
        scaled: divided by Lagrange's denominators (then it is G g).
    """
    result = [g[0]]
    for point, scale in zip(PAIRS, _SCALES, strict=True):
        factors = [point**i / (scale if scaled else 1.0) for i in range(len(g))]
        even = weighted(f, g[0::2], factors[0::2])
        odd = weighted(f, g[1::2], [1.0, point**2])  # over the first one's factor
        result += [fused(f, odd, sign * factors[1], even) for sign in (1, -1)]
    return [*result, g[-1]]


def combine(f: Function, m: Sequence[Value], count: int, scaled: bool) -> list[Value]:
    """Write the transpose of `spread`: `count` results (3 or 4) of six products."""
    sums = [f.fadd(m[1], m[2]), f.fadd(m[3], m[4])]
    differences = [f.fsub(m[1], m[2]), f.fsub(m[3], m[4])]
    ends = {0: m[0], count - 1: m[-1]}
    results = []
    for i in range(count):
        terms = list(differences if i % 2 else sums)
        factors = [p**i / (s if scaled else 1.0) for p, s in zip(PAIRS, _SCALES, strict=True)]
        if i in ends:
            terms, factors = [ends[i], *terms], [1.0, *factors]
        results.append(weighted(f, terms, factors))
    return results


def weighted(f: Function, terms: Sequence[Value], factors: Sequence[float]) -> Value:
    """Write Σ factor · term."""
    total = terms[0] if factors[0] == 1.0 else f.fmul(terms[0], factors[0])
    for term, factor in zip(terms[1:], factors[1:], strict=False):
        total = f.fadd(total, term) if factor == 1.0 else fused(f, term, factor, total)
    return total


def fused(f: Function, a: Value, factor: float, c: Value) -> Value:
    """Write a · factor + c: one instruction where the processor has it, even if a is used twice."""
    return f.intrinsic("fmuladd", a.type, a, f.const(a.type, factor), c)
