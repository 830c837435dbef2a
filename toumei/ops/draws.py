"""The distributions: ops that take a key (seed, counter) and return numbers drawn from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..op import Array, Case, DType, Op, Random, Refused, Spec, op
from . import philox

__all__: list[str] = []

Shape = tuple[int, ...]


class Draw(Random):
    """Numbers of a shape and a dtype, drawn from the key."""

    shape: Shape
    dtype: DType

    def infer(self, key: Spec) -> Spec:
        if key.shape != (2,) or key.dtype != np.int64:
            raise Refused(f"the key must be int64[2] (seed, counter), not {key}")
        return Spec(self.shape, self.dtype)

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def uniform(self, key: Array) -> Array:
        """Return uniform numbers in [0, 1) for the distributions that are made of them."""
        return philox.uniform(key, self.count, self.dtype).reshape(self.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((), (3, 5), (2, 0)):
            for dtype in ("float32", "float64"):
                yield Case(cls(shape, np.dtype(dtype)), (np.array([7, 3]),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((2,), np.dtype("float32")), (np.zeros(3, np.int64),)), "key must be int64[2]"


@op
class UniformDraw(Draw):
    """y ~ uniform in [low, high)"""

    low: float = 0.0
    high: float = 1.0

    def forward(self, xp: Any, key: Array) -> Array:
        y = self.uniform(key)
        if (self.low, self.high) != (0.0, 1.0):
            y *= self.dtype.type(self.high - self.low)
            y += self.dtype.type(self.low)
        return y


@op
class NormalDraw(Draw):
    """y ~ normal with a mean and a standard deviation"""

    mean: float = 0.0
    std: float = 1.0

    def forward(self, xp: Any, key: Array) -> Array:
        y = philox.normal(key, self.count, self.dtype).reshape(self.shape)
        if (self.mean, self.std) != (0.0, 1.0):
            y *= self.dtype.type(self.std)
            y += self.dtype.type(self.mean)
        return y


@op
class IntegerDraw(Draw):
    """y ~ uniform over the integers low … high − 1"""

    low: int = 0
    high: int = 2

    def forward(self, xp: Any, key: Array) -> Array:
        words = philox.random_words64(key, self.count)
        words %= np.uint64(self.high - self.low)
        y = words.view(np.int64)
        y += self.low
        return y.reshape(self.shape).astype(self.dtype, copy=False)


@op
class PermutationDraw(Draw):
    """y ~ an order of 0 … n − 1: the numbers sorted by random bits, of which each holds its own"""

    def forward(self, xp: Any, key: Array) -> Array:
        mask = np.uint64((1 << max(self.count - 1, 0).bit_length()) - 1)
        tagged = philox.random_words64(key, self.count)
        tagged &= ~mask
        tagged |= np.arange(self.count, dtype=np.uint64)
        tagged.sort()
        tagged &= mask
        return tagged.astype(self.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for n in (0, 1, 8):
            yield Case(cls((n,), np.dtype("int64")), (np.array([7, 3]),))


@op
class ExponentialDraw(Draw):
    """y ~ exponential: y = −ln(1 − u) / rate"""

    rate: float = 1.0

    def forward(self, xp: Any, key: Array) -> Array:
        y = self.uniform(key)
        xp.negative(y, out=y)
        xp.log1p(y, out=y)
        y *= self.dtype.type(-1 / self.rate)
        return y


@op
class CauchyDraw(Draw):
    """y ~ Cauchy: y = median + scale·tan(π(u − ½))"""

    median: float = 0.0
    scale: float = 1.0

    def forward(self, xp: Any, key: Array) -> Array:
        y = self.uniform(key)
        y -= self.dtype.type(0.5)
        y *= self.dtype.type(np.pi)
        xp.tan(y, out=y)
        y *= self.dtype.type(self.scale)
        y += self.dtype.type(self.median)
        return y


@op
class GeometricDraw(Draw):
    """y ~ geometric (trials up to the first success): y = ⌊ln(1 − u) / ln(1 − p)⌋ + 1"""

    p: float = 0.5

    def forward(self, xp: Any, key: Array) -> Array:
        y = self.uniform(key)
        if self.p == 1:
            return xp.ones(self.shape, self.dtype)
        xp.log1p(-y, out=y)
        y /= self.dtype.type(np.log1p(-self.p))
        xp.floor(y, out=y)
        y += self.dtype.type(1)
        return y


@op
class Multinomial(Op):
    """y = `count` categories, drawn with the rows' weights and decided by uniform numbers `u`"""

    count: int
    replacement: bool

    def forward(self, xp: Any, weights: Array, u: Array) -> Array:
        if not self.replacement:  # exponential times with these rates: the earliest come first
            times = xp.where(weights > 0, -xp.log1p(-u) / weights, np.inf)
            return xp.argsort(times, axis=-1, kind="stable")[..., : self.count].copy()
        rows = weights.reshape(-1, weights.shape[-1]).cumsum(axis=1, dtype=np.float64)
        places = u.reshape(len(rows), self.count) * rows[:, -1:]
        found = [xp.searchsorted(c, p, side="right") for c, p in zip(rows, places, strict=True)]
        return np.array(found, np.int64).reshape(u.shape)

    def check(self, weights: Array, u: Array) -> None:
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise Refused("the weights must be finite and not negative")
        needed = 1 if self.replacement else self.count
        fewest = int((weights > 0).sum(axis=-1).min(initial=weights.shape[-1]))
        if fewest < needed:
            raise Refused(f"{self.count} to draw, but a row has only {fewest} weights above 0")

    def infer(self, weights: Spec, u: Spec) -> Spec:
        return Spec((*weights.shape[:-1], self.count), np.dtype("int64"))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(6, True), (rng.random((2, 4)), rng.random((2, 6))))
        yield Case(cls(3, False), (rng.random(4), rng.random(4)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(2, True), (np.zeros(3), np.zeros(2))), "only 0 weights above 0"
        yield Case(cls(2, True), (np.array([1.0, -1.0]), np.zeros(2))), "not negative"
