"""Sequences of varying length in batches of few shapes: buckets.

A bucket is a length (of a sequence), or a tuple of lengths (of the sequences of a sample, such as
a source and its translation).  A sample belongs to the first bucket that holds it; a batch holds
samples of one bucket, padded to the bucket's length.  With `drop_last` all batches of a bucket
have the same number of samples: so a loader hands out at most one shape per bucket, which is what
a compiled step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..device import Generator
from ..ops.creation import from_numpy
from ..tensor import Tensor
from .collate import default_collate
from .keys import fold, permutation, seed_key
from .sampler import Sampler

Table: TypeAlias = NDArray[np.int64]  # lengths of samples or buckets; shape (n, sequences)
Buckets: TypeAlias = Sequence[int] | Sequence[tuple[int, ...]]

_CANDIDATES = 1024  # at most so many lengths, or tuples of lengths, are weighed as buckets


def _table(lengths: Any, what: str) -> Table:
    """Return lengths as a table with a row per sample (or bucket).  Shape: (n) or (n, k) -> (n, k)

    Raises:
        ValueError: there are none, or they are no positive integers.
    """
    table = np.asarray(lengths)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0 or table.dtype.kind not in "iu" or table.min() < 1:
        raise ValueError(
            f"{what} must be positive integers, or tuples of them of equal length; they are "
            f"{table.dtype} of shape {table.shape}"
        )
    return table.astype(np.int64)


def bucket_lengths(lengths: ArrayLike, count: int = 8) -> list[int]:
    """Return the lengths of at most `count` buckets for which there is the least padding.

    The last is the greatest of the lengths.  Exact (by dynamic programming) if there are no more
    than 1,024 different lengths; of more, 1,024 quantiles are weighed.

    Args:
        lengths: of all sequences, in tokens.  Shape: (n)
        count: how many buckets there may be.

    Raises:
        ValueError: there are no lengths, or one is not positive; `count` is not positive.

    >>> bucket_lengths([3, 3, 4, 9, 10, 10], count=2)
    [4, 10]
    """
    table = _table(lengths, "bucket_lengths: the lengths")
    if table.shape[1] != 1:
        raise ValueError("bucket_lengths takes one length per sample; for pairs: bucket_shapes")
    return [length for (length,) in _best_chain(table, count)]


def bucket_shapes(lengths: ArrayLike, count: int = 8) -> list[tuple[int, ...]]:
    """Return at most `count` tuples of lengths for samples of several sequences, such as pairs.

    Each bucket holds all samples that the one before it holds.  Among such chains the result has
    the least padding, summed over the sequences.  Exact if there are no more than 1,024 tuples to
    choose from; else quantiles of each sequence's lengths are weighed (32 each, for pairs).

    Args:
        lengths: of each sample's sequences, in tokens.  Shape: (n, k)
        count: how many buckets there may be.

    Raises:
        ValueError: there are no lengths, or one is not positive; `count` is not positive.

    >>> bucket_shapes([(3, 2), (3, 4), (9, 8), (8, 9)], count=2)
    [(3, 4), (9, 9)]
    """
    return _best_chain(_table(lengths, "bucket_shapes: the lengths"), count)


def _best_chain(table: Table, count: int) -> list[tuple[int, ...]]:
    """Return the chain of buckets with the fewest padded places.

    A chain B1 <= B2 <= … has sum_k (held(B_k) − held(B_k−1)) size(B_k) places; best[k][b] is the
    least for k + 1 buckets that end with b.
    """
    if count < 1:
        raise ValueError(f"the number of buckets must be positive, it is {count}")
    shapes, held = _candidates(table)
    sizes = shapes.sum(axis=1)
    inside = (shapes[:, None] <= shapes[None]).all(axis=2)  # [a, b]: all that a holds, b holds
    step = np.where(inside, (held[None] - held[:, None]) * sizes[None], np.inf)
    best = [(held * sizes).astype(np.float64)]
    before: list[NDArray[np.int64]] = []
    for _ in range(min(count, len(shapes)) - 1):
        costs = best[-1][:, None] + step
        before.append(costs.argmin(axis=0))
        best.append(costs.min(axis=0))
    last = len(shapes) - 1  # the one that holds everything
    rank = int(np.argmin([costs[last] for costs in best]))  # the fewest buckets, if it's a tie
    chain = [last]
    for choice in reversed(before[:rank]):
        chain.append(int(choice[chain[-1]]))
    return [tuple(shapes[b].tolist()) for b in reversed(chain)]


def _candidates(table: Table) -> tuple[Table, Table]:
    """Return possible buckets, the greatest last, and how many samples each holds."""
    most = int(_CANDIDATES ** (1 / table.shape[1]) + 1e-9)
    axes = [_levels(column, most) for column in table.T]
    held = np.zeros([len(axis) for axis in axes], np.int64)
    where = [np.searchsorted(axis, column) for axis, column in zip(axes, table.T, strict=True)]
    np.add.at(held, tuple(where), 1)
    for axis in range(held.ndim):
        held = held.cumsum(axis=axis)
    shapes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    return shapes, held.ravel()


def _levels(column: Table, most: int) -> Table:
    """Return the different lengths, or quantiles of all if they are too many; the greatest last."""
    different = np.unique(column)
    if len(different) <= most:
        return different
    # "higher" takes lengths that occur, and 1 gives the greatest.
    return np.unique(np.quantile(column, np.linspace(0, 1, most), method="higher"))


def _first_fit(table: Table, buckets: Table) -> Table:
    """Return the number of the first bucket that holds each sample; len(buckets) for none."""
    fits: NDArray[np.bool_] = np.all(table[:, None] <= buckets[None], axis=2)
    return np.where(fits.any(axis=1), fits.argmax(axis=1), len(buckets))


class BucketBatchSampler(Sampler):
    """Batches of samples of one bucket each, for a loader's `batch_sampler`.

    With `drop_last` the last batch of a bucket is filled up with samples of shorter buckets, so
    that no long sample is lost.  Only what the shortest bucket then lacks room for is left out of
    the epoch (less than one batch); with `shuffle` that's other samples in each epoch.

    Args:
        lengths: of each sample.  Shape: (n), or (n, k) for samples of k sequences.
        buckets: ascending lengths, or k-tuples of them; see `bucket_lengths`, `bucket_shapes`.
        batch_size: samples per batch, in all buckets.
        max_tokens: instead of that, the most places that a batch has, padding and all sequences
            included: short buckets get larger batches.
        shuffle: visit the samples of a bucket, and the batches, in a new order in each epoch;
            else the buckets come in turn.
        drop_last: make no incomplete batch: there is one shape per bucket.  Without it a bucket's
            last batch may be smaller.
        generator: what a loader takes its seed from, unless the loader has its own.

    Raises:
        ValueError: a sample is longer than every bucket, the buckets don't ascend, not just one
            of `batch_size` and `max_tokens` is given, or it is too small.

    >>> sampler = BucketBatchSampler([3, 9, 2, 8, 3], buckets=[3, 9], batch_size=2)
    >>> list(sampler)
    [[0, 2], [4], [1, 3]]
    """

    def __init__(
        self,
        lengths: ArrayLike,
        buckets: Buckets,
        batch_size: int | None = None,
        *,
        max_tokens: int | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        self._lengths = _table(lengths, "BucketBatchSampler: the lengths")
        self._buckets = _ascending(buckets, "BucketBatchSampler")
        _check_width(self._lengths, self._buckets)
        number = _first_fit(self._lengths, self._buckets)
        if (number == len(self._buckets)).any():
            first = int(np.argmax(number == len(self._buckets)))
            raise ValueError(
                f"BucketBatchSampler: sample {first} has length "
                f"{tuple(self._lengths[first].tolist())}, more than every bucket holds"
            )
        self._sizes = _batch_sizes(self._buckets, batch_size, max_tokens)
        self._members = [np.flatnonzero(number == b) for b in range(len(self._buckets))]
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.shuffle, self.drop_last = shuffle, drop_last
        self.generator = generator
        self._length = len(self._make(0, 0))

    def order(self, seed: int, epoch: int) -> Iterator[list[int]]:
        """Return an epoch's batches."""
        return iter(self._make(seed, epoch))

    def __len__(self) -> int:
        return self._length

    def _make(self, seed: int, epoch: int) -> list[list[int]]:
        """Make an epoch's batches, bucket by bucket."""
        key = fold(seed_key(seed), epoch)
        pools = list(self._members)
        if self.shuffle:
            pools = [pool[permutation(fold(key, b), len(pool))] for b, pool in enumerate(pools)]
        if self.drop_last:
            _fill_up(pools, self._sizes)
        batches: list[list[int]] = []
        for pool, size in zip(pools, self._sizes, strict=True):
            batches += [pool[k : k + size].tolist() for k in range(0, len(pool), size)]
        if not self.shuffle:
            return batches
        return [batches[k] for k in permutation(fold(key, len(pools)), len(batches))]


def _fill_up(pools: list[Table], sizes: list[int]) -> None:
    """Make each pool a whole number of batches, with samples from the pools before it."""
    for b in reversed(range(len(pools))):
        lacks = -len(pools[b]) % sizes[b]
        for a in reversed(range(b)):
            keep = max(0, len(pools[a]) - lacks)
            pools[b] = np.concatenate([pools[b], pools[a][keep:]])
            lacks -= len(pools[a]) - keep
            pools[a] = pools[a][:keep]
        if lacks:  # nothing shorter is left
            pools[b] = pools[b][: len(pools[b]) // sizes[b] * sizes[b]]


def _ascending(buckets: Buckets, name: str) -> Table:
    """Return buckets as a table, each holding all that the one before holds."""
    table = _table(buckets, f"{name}: the buckets")
    lower, upper = table[:-1], table[1:]
    if (lower > upper).any() or not (lower < upper).any(axis=1).all():
        raise ValueError(f"{name}: the buckets must ascend, in every length: {list(buckets)}")
    return table


def _check_width(lengths: Table, buckets: Table) -> None:
    """Refuse buckets for another number of sequences than the samples have."""
    if lengths.shape[1] != buckets.shape[1]:
        raise ValueError(
            f"BucketBatchSampler: samples have {lengths.shape[1]} lengths each, the buckets have "
            f"{buckets.shape[1]}"
        )


def _batch_sizes(buckets: Table, batch_size: int | None, max_tokens: int | None) -> list[int]:
    """Return the number of samples in a batch of each bucket."""
    if (batch_size is None) == (max_tokens is None):
        raise ValueError("BucketBatchSampler: give either batch_size or max_tokens")
    if batch_size is not None:
        if batch_size < 1:
            raise ValueError(f"BucketBatchSampler: batch_size must be positive: {batch_size}")
        return [batch_size] * len(buckets)
    places = buckets.sum(axis=1)
    if max_tokens is None or max_tokens < places[-1]:
        raise ValueError(
            f"BucketBatchSampler: max_tokens is {max_tokens}, and a sample of the longest bucket "
            f"takes {places[-1]}"
        )
    return [int(max_tokens // n) for n in places]


def pad_collate(buckets: Buckets, pad_id: int | Sequence[int] = 0) -> Callable[[Any], Any]:
    """Return a collate function that pads a batch's sequences to the bucket that holds them all.

    A sample is one sequence if the buckets are lengths; else it is a tuple that begins with as
    many sequences as a bucket has lengths.  What follows them is collated as usual.

    Args:
        buckets: ascending lengths, or tuples of lengths.
        pad_id: what to pad with: a number, or one for each sequence.

    Raises:
        ValueError: the buckets don't ascend, or there are more or fewer pad_ids than sequences;
            later: a batch does not fit in any bucket.

    Shape: a batch of n samples -> (n, length) for one sequence, else a list of such

    >>> collate = pad_collate([(2, 2), (4, 3)], pad_id=9)
    >>> [column.tolist() for column in collate([([5, 6, 7], [1]), ([5], [1, 2])])]
    [[[5, 6, 7, 9], [5, 9, 9, 9]], [[1, 9, 9], [1, 2, 9]]]
    """
    table = _ascending(buckets, "pad_collate")
    width = table.shape[1]
    pads = (pad_id,) * width if isinstance(pad_id, int) else tuple(pad_id)
    if len(pads) != width:
        raise ValueError(f"pad_collate: {len(pads)} pad_ids for {width} sequences")
    single = not isinstance(buckets[0], Sequence)
    return partial(_pad_batch, table, pads, single)


def _pad_batch(buckets: Table, pads: tuple[int, ...], single: bool, batch: Sequence[Any]) -> Any:
    """Pad and stack a batch."""
    columns = [list(batch)] if single else [list(c) for c in zip(*batch, strict=True)]
    if len(columns) < len(pads):
        raise ValueError(f"pad_collate: a sample has {len(columns)} entries, not {len(pads)}")
    sequences = [[_array(s) for s in column] for column in columns[: len(pads)]]
    longest = np.array([[max(map(len, column)) for column in sequences]])
    number = int(_first_fit(longest, buckets)[0])
    if number == len(buckets):
        raise ValueError(
            f"pad_collate: the batch has lengths of {tuple(longest[0].tolist())}, more than every "
            "bucket holds"
        )
    padded: list[Any] = [
        from_numpy(_padded(column, int(length), pad))
        for column, length, pad in zip(sequences, buckets[number], pads, strict=True)
    ]
    return padded[0] if single else padded + [default_collate(c) for c in columns[len(pads) :]]


def _array(sequence: Any) -> NDArray[Any]:
    """Return a sequence as an array."""
    array = sequence.numpy() if isinstance(sequence, Tensor) else np.asarray(sequence)
    if array.ndim != 1:
        raise ValueError(f"pad_collate pads sequences of one dimension, not {array.shape}")
    return array


def _padded(column: list[NDArray[Any]], length: int, pad: int) -> NDArray[Any]:
    """Return sequences one under the other, with padding behind."""
    rows = np.full((len(column), length), pad, column[0].dtype)
    for row, sequence in zip(rows, column, strict=True):
        row[: len(sequence)] = sequence
    return rows
