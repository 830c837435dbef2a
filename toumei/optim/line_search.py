"""A line search: how far to go along a direction, so that the strong Wolfe conditions hold.

    f(t) ≤ f(0) + c₁·t·f′(0)   far enough down,   and   |f′(t)| ≤ c₂·|f′(0)|   flat enough

Source: Nocedal & Wright, "Numerical Optimization" (2006), algorithms 3.5 and 3.6 and equation 3.59;
the safeguards are those of Schmidt's minFunc (2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..op import Array

C1, C2 = 1e-4, 0.9
MOST = 25  # evaluations of the function, roughly


class Point(NamedTuple):
    """A place on the line: how far along it is, and the function there."""

    t: float
    value: float
    gradient: Array
    slope: float  # along the line


def search(
    at: Callable[[float], Point], start: Point, t: float, tolerance: float
) -> tuple[Point, int]:
    """Return a point that satisfies the conditions, and how many evaluations it took.

    Args:
        at: evaluates the function a distance along the line.
        start: the point at distance 0.
        t: the distance to try first.
        tolerance: the shortest interval that is still divided.
    """
    interval, done, steps = _bracket(at, start, at(t))
    if not done and steps < MOST:
        return _zoom(at, start, interval, tolerance, steps)
    return min(interval, key=lambda point: point.value), steps + 1


def _enough(point: Point, start: Point) -> bool:
    """Tell whether a point is far enough down."""
    return point.value <= start.value + C1 * point.t * start.slope


def _flat(point: Point, start: Point) -> bool:
    return abs(point.slope) <= -C2 * start.slope


def _bracket(
    at: Callable[[float], Point], start: Point, new: Point
) -> tuple[list[Point], bool, int]:
    """Go on until an interval holds a good point; return it, and whether its end is one already."""
    before = start
    for step in range(MOST):
        if not _enough(new, start) or (step > 1 and new.value >= before.value):
            return [before, new], False, step
        if _flat(new, start):
            return [new], True, step
        if new.slope >= 0:
            return [before, new], False, step
        bounds = (new.t + 0.01 * (new.t - before.t), 10 * new.t)
        t = lowest_of_cubic(before, new, bounds)
        before, new = new, at(t)
    return [start, new], False, MOST


def _zoom(
    at: Callable[[float], Point], start: Point, ends: list[Point], tolerance: float, steps: int
) -> tuple[Point, int]:
    """Divide an interval until a good point is found; return it or the best, and evaluations."""
    low, high = sorted(ends, key=lambda point: point.value)
    hugging = False  # the last point lay close to an end of the interval
    while steps < MOST and abs(high.t - low.t) >= tolerance and high.t != low.t:
        left, right = sorted((low.t, high.t))
        t = lowest_of_cubic(low, high, (left, right))
        t, hugging = _off_the_ends(t, left, right, hugging)
        new, steps = at(t), steps + 1
        if not _enough(new, start) or new.value >= low.value:
            low, high = sorted((low, new), key=lambda point: point.value)
        else:
            if _flat(new, start):
                return new, steps + 1
            if new.slope * (high.t - low.t) >= 0:
                high = low
            low = new
    return low, steps + 1


def _off_the_ends(t: float, left: float, right: float, hugging: bool) -> tuple[float, bool]:
    """Move a point away from the interval's ends, the second time that it comes too close."""
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if not hugging and left < t < right:
        return t, True
    return (right - margin if abs(t - right) < abs(t - left) else left + margin), False


def lowest_of_cubic(a: Point, b: Point, bounds: tuple[float, float]) -> float:
    """Return where the cubic through two points and slopes is lowest, within bounds."""
    left, right = (a, b) if a.t <= b.t else (b, a)
    width = right.t - left.t
    middle = left.slope + right.slope - 3 * (left.value - right.value) / -width
    square = middle * middle - left.slope * right.slope
    root = math.sqrt(max(square, 0.0))
    bend = right.slope - left.slope + 2 * root
    if square < 0 or bend == 0:  # it has no lowest point
        return (bounds[0] + bounds[1]) / 2
    share = (right.slope + root - middle) / bend
    return min(max(right.t - width * share, bounds[0]), bounds[1])
