"""Samplers: in which order a loader visits its data set.

A sampler's `order(seed, epoch)` is a pure function: that is what makes an interrupted epoch
resumable.  `iter(sampler)` also works by itself: it draws a new seed each time, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Generator
from .keys import Keys, draw_seed, fold, permutation, seed_key, uniform

Order = NDArray[np.int64]


class Sampler:
    """What yields indices: define `__iter__` (and `__len__`), or better `order(seed, epoch)`.

    A sampler that only has `__iter__` is iterated afresh in each epoch; when a loader resumes in
    the middle of an epoch, its order is exact if iterating twice gives the same indices.
    """

    generator: Generator | None = None

    def order(self, seed: int, epoch: int) -> Iterable[Any]:
        """Return the indices of an epoch."""
        return iter(self)

    def __iter__(self) -> Iterator[Any]:
        """Iterate in an order that a fresh seed gives."""
        if type(self).order is Sampler.order:
            raise NotImplementedError(f"{type(self).__name__} must define __iter__ or order")
        order = self.order(draw_seed(self.generator), 0)
        return iter(order.tolist() if isinstance(order, np.ndarray) else order)

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__()")


def order_of(sampler: Any, seed: int, epoch: int) -> Iterable[Any]:
    """Return the order that any iterable of indices gives for an epoch."""
    if isinstance(sampler, Sampler):
        return sampler.order(seed, epoch)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    order: Iterable[Any] = iter(sampler)
    return order


def _epoch_key(seed: int, epoch: int) -> Keys:
    """Return the key of an epoch's order."""
    return fold(seed_key(seed), epoch)


class SequentialSampler(Sampler):
    """0, 1, 2, …

    >>> list(SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def order(self, seed: int, epoch: int) -> range:
        """Return 0, 1, 2, …"""
        return range(len(self))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """Indices in random order: each once, or drawn with replacement.

    Args:
        data_source: the data set.
        replacement: draw each index anew.
        num_samples: how many to draw, len(data_source) unless given; more than that without
            replacement means permutation after permutation.
        generator: what a loader takes its seed from, unless the loader has its own.

    Raises:
        ValueError: `num_samples` is not positive.

    >>> sorted(RandomSampler("abc"))
    [0, 1, 2]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if num_samples is not None and num_samples <= 0:
            raise ValueError(f"RandomSampler: num_samples must be positive, not {num_samples}")
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self, seed: int, epoch: int) -> Order:
        """Return an epoch's indices."""
        size, count, key = len(self.data_source), self.num_samples, _epoch_key(seed, epoch)
        if size == 0 and count > 0:
            raise ValueError(f"RandomSampler: {count} samples can't be drawn from an empty set")
        if self.replacement:
            drawn: Order = (uniform(key, count)[0] * size).astype(np.int64)
            return drawn
        rounds = -(-count // size) if size else 0
        orders = [permutation(fold(key, k), size) for k in range(rounds)]
        return np.concatenate([*orders, np.empty(0, np.int64)])[:count]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """Given indices, in random order.

    >>> sorted(SubsetRandomSampler([3, 8, 5]))
    [3, 5, 8]
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def order(self, seed: int, epoch: int) -> list[int]:
        """Return the indices in an epoch's order."""
        places = permutation(_epoch_key(seed, epoch), len(self.indices))
        return [int(self.indices[k]) for k in places]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Indices drawn with probabilities in proportion to weights.

    Without replacement, the draw is that of Efraimidis and Spirakis: the largest u^(1/w).
    Paper: "Weighted random sampling with a reservoir", Information Processing Letters 97, 2006.

    Args:
        weights: one per index, not negative, not all zero.
        num_samples: how many indices an epoch has.
        replacement: draw each index anew.
        generator: what a loader takes its seed from, unless the loader has its own.

    Raises:
        ValueError: a weight is negative or no number, or too few are positive.

    >>> set(WeightedRandomSampler([0.0, 1.0, 2.0], 50)) == {1, 2}
    True
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        self.weights = np.asarray(weights, np.float64)
        if num_samples <= 0:
            raise ValueError(
                f"WeightedRandomSampler: num_samples must be positive, not {num_samples}"
            )
        if self.weights.ndim != 1 or not (self.weights >= 0).all() or not self.weights.sum() > 0:
            raise ValueError(
                "WeightedRandomSampler: weights must be one row of numbers, none negative or NaN, "
                "not all zero"
            )
        positive = int(np.count_nonzero(self.weights))
        if not replacement and num_samples > positive:
            raise ValueError(
                f"WeightedRandomSampler: {num_samples} samples without replacement, but only "
                f"{positive} weights are positive"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def order(self, seed: int, epoch: int) -> Order:
        """Return an epoch's indices."""
        key = _epoch_key(seed, epoch)
        if self.replacement:
            ends = np.cumsum(self.weights)
            where = uniform(key, self.num_samples)[0] * ends[-1]
            # Rounding can push the last draw up to the end itself, past trailing zero weights.
            last = int(np.flatnonzero(self.weights)[-1])
            drawn: Order = np.minimum(np.searchsorted(ends, where, side="right"), last)
            return drawn
        times = -np.log1p(-uniform(key, len(self.weights))[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(self.weights > 0, times / self.weights, np.inf)
        return np.argsort(scores, kind="stable")[: self.num_samples]

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of `batch_size` indices from another sampler.

    >>> list(BatchSampler(SequentialSampler("abcde"), 2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size must be a positive integer, not {batch_size!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    @property
    def generator(self) -> Generator | None:  # type: ignore[override]
        """The generator of the sampler within."""
        return getattr(self.sampler, "generator", None)

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches(self.sampler)

    def order(self, seed: int, epoch: int) -> Iterator[list[int]]:
        """Return an epoch's batches."""
        return self._batches(order_of(self.sampler, seed, epoch))

    def _batches(self, order: Iterable[Any]) -> Iterator[list[int]]:
        """Cut an order into batches."""
        if isinstance(order, np.ndarray):
            order = order.tolist()
        batch: list[int] = []
        for index in order:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        size = len(self.sampler)
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)
