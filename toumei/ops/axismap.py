"""Linear maps along one dimension in which each output is made of a few inputs.

Padding by reflection, resizing by interpolation, area averages: all are

    y[i] = Σ_t weight[t, i]·x[place[t, i]]

with places and weights that follow from a *rule*: a tuple of a name and numbers.  The transpose of
such a map is another one, so a single op is a family closed under differentiation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..op import Array, Case, Indexing, Refused, Spec, op
from ..tape import apply

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__: list[str] = []

Rule: TypeAlias = tuple[Any, ...]
Taps: TypeAlias = tuple[Array, Array]  # places and weights, each [taps, outputs]


@op
class AxisMap(Indexing):
    """y[i] = Σ_t weight[t, i]·x[place[t, i]] along `dim`, or its transpose"""

    dim: int
    rule: Rule
    transposed: bool = False

    def forward(self, xp: Any, x: Array) -> Array:
        places, weights = self.taps()
        if x.shape[self.dim] != self.sizes()[0]:
            raise Refused(f"dim {self.dim} has {x.shape[self.dim]} elements, not {self.sizes()[0]}")
        column = (-1, *[1] * (x.ndim - 1 - self.dim))
        y: Array | None = None
        for place, weight in zip(places, weights, strict=True):
            part = x.take(place, axis=self.dim)
            if (weight != 1).any():
                part *= weight.astype(x.dtype).reshape(column)
                part[(slice(None),) * self.dim + (weight == 0,)] = 0  # not 0·inf = NaN
            y = part if y is None else np.add(y, part, out=y)
        assert y is not None
        return y

    def taps(self) -> Taps:
        """Return the places and weights."""
        return transposed_taps(self.rule) if self.transposed else taps_of(self.rule)

    def sizes(self) -> tuple[int, int]:
        """Return the number of inputs and of outputs."""
        n, m = self.rule[1], taps_of(self.rule)[0].shape[1]
        return (m, n) if self.transposed else (n, m)

    def infer(self, x: Spec) -> Spec:
        n, m = self.sizes()
        if x.shape[self.dim] != n:
            raise Refused(f"dim {self.dim} has {x.shape[self.dim]} elements, not {n}")
        return Spec((*x.shape[: self.dim], m, *x.shape[self.dim + 1 :]), x.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(AxisMap(self.dim, self.rule, not self.transposed), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for rule in (("reflect", 4, 2, 3), ("cubic", 4, 7, None, False), ("area", 5, 3)):
            yield Case(cls(1, rule), (rng.normal(size=(2, 4 + (rule[1] == 5), 3)),))
        yield Case(cls(0, ("nearest", 5, 3, None), True), (rng.normal(size=(3, 2)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0, ("area", 5, 3)), (np.zeros(4),)), "dim 0 has 4 elements, not 5"


def mapped_along(x: Tensor, dim: int, rule: Rule) -> Tensor:
    """Apply a rule along a dimension."""
    return apply(AxisMap(dim, rule), x)


@lru_cache(maxsize=256)
def taps_of(rule: Rule) -> Taps:
    """Return the places and weights that a rule stands for."""
    name, *numbers = rule
    return RULES[name](*numbers)


@lru_cache(maxsize=256)
def transposed_taps(rule: Rule) -> Taps:
    """Return the places and weights of the transposed map; places without a tap weigh 0."""
    places, weights = taps_of(rule)
    n = rule[1]
    outputs = np.broadcast_to(np.arange(places.shape[1]), places.shape).reshape(-1)
    source, weight = places.reshape(-1), weights.reshape(-1)
    order = np.argsort(source, kind="stable")
    order = order[weight[order] != 0]
    source = source[order]
    counts = np.bincount(source, minlength=n)
    rank = np.arange(len(source)) - (np.cumsum(counts) - counts)[source]
    shape = (max(1, int(counts.max(initial=0))), n)
    back, back_weight = np.zeros(shape, np.int64), np.zeros(shape)
    back[rank, source], back_weight[rank, source] = outputs[order], weight[order]
    return back, back_weight


def _single(places: Array) -> Taps:
    """Return the taps of a map that takes each output from one place."""
    return places[None], np.ones((1, len(places)))


# --- padding: (size, before, after) --------------------------------------------------------------


def _reflect(n: int, before: int, after: int) -> Taps:
    i = np.abs(np.arange(-before, n + after))
    return _single((n - 1) - np.abs(n - 1 - i))


def _replicate(n: int, before: int, after: int) -> Taps:
    return _single(np.clip(np.arange(-before, n + after), 0, n - 1))


def _circular(n: int, before: int, after: int) -> Taps:
    """What negative padding takes away isn't part of the circle."""
    start, stop = max(-before, 0), n - max(-after, 0)
    steps = np.arange(-max(before, 0), stop - start + max(after, 0))
    return _single(start + steps % max(stop - start, 1))


# --- resizing: (size, new size, …) ---------------------------------------------------------------


def windows_of(n: int, m: int) -> Array:
    """Return the places of m windows of nearly equal size; shorter ones repeat their last.

    Shape: (m, widest)
    """
    i = np.arange(m)
    start, stop = i * n // m if m else i, -(-(i + 1) * n // m) if m else i
    widest = int((stop - start).max(initial=1))
    return np.asarray(np.minimum(start[:, None] + np.arange(widest), stop[:, None] - 1))


def _area(n: int, m: int) -> Taps:
    places = windows_of(n, m).T
    fresh = np.concatenate([np.ones((1, m), bool), places[1:] != places[:-1]])
    return places, fresh / fresh.sum(axis=0)


def _nearest(n: int, m: int, scale: float | None) -> Taps:
    """The place is computed in float32, as PyTorch does: rounding decides between neighbours."""
    step = np.float32(n / m if scale is None else 1 / scale)
    return _single(np.minimum((np.arange(m, dtype=np.float32) * step).astype(np.int64), n - 1))


def _nearest_exact(n: int, m: int, scale: float | None) -> Taps:
    step = np.float32(n / m if scale is None else 1 / scale)
    at = (np.arange(m, dtype=np.float32) + np.float32(0.5)) * step
    return _single(np.minimum(at.astype(np.int64), n - 1))


def _positions(n: int, m: int, scale: float | None, align_corners: bool) -> Array:
    """Return where the new samples lie between the old ones."""
    if align_corners:
        return np.arange(m) * ((n - 1) / (m - 1) if m > 1 else 0.0)
    return (np.arange(m) + 0.5) * (n / m if scale is None else 1 / scale) - 0.5


def _linear(n: int, m: int, scale: float | None, align_corners: bool) -> Taps:
    at = np.maximum(_positions(n, m, scale, align_corners), 0)
    low = np.minimum(at.astype(np.int64), n - 1)
    high = np.minimum(low + 1, n - 1)
    t = np.clip(at - low, 0, 1)
    return np.stack([low, high]), np.stack([1 - t, t])


def cubic_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Return the weights of the samples at −1, 0, 1, 2 for a position t between 0 and 1 (a = −¾).

    Paper: Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    a, u = -0.75, 1 - t
    far = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    next_near = ((a + 2) * u - (a + 3)) * u * u + 1
    next_far = ((a * (u + 1) - 5 * a) * (u + 1) + 8 * a) * (u + 1) - 4 * a
    return far, near, next_near, next_far


def _cubic(n: int, m: int, scale: float | None, align_corners: bool) -> Taps:
    at = _positions(n, m, scale, align_corners)
    low = np.floor(at).astype(np.int64)
    places = np.clip(low + np.arange(-1, 3)[:, None], 0, n - 1)
    return places, np.stack(cubic_weights(at - low))


#: name -> function of the rule's numbers, of which the first is always the number of inputs.
RULES: dict[str, Callable[..., Taps]] = {
    "reflect": _reflect,
    "replicate": _replicate,
    "circular": _circular,
    "area": _area,
    "nearest": _nearest,
    "nearest-exact": _nearest_exact,
    "linear": _linear,
    "cubic": _cubic,
}
