"""Where the chance in the data comes from: keys, and how a loader hands them down.

A *key* is a 64-bit word.  All numbers drawn from it are hashes of (key, position): nothing is
stored and nothing advances, so a draw depends neither on what was drawn before nor on which
thread draws, and N images with N keys are drawn in one NumPy expression.

The protocol, from the top down:

1. A loader has a seed and counts its epochs.  Around each batch it opens `batch_scope(seed,
   epoch, number)`: this is the one place where the epoch and the seed are announced.
2. A data set that augments asks `item_keys(indices)` for one key per item: a function of
   (seed, epoch, index) and nothing else.  `index` is the item's index in that data set, so a
   Subset changes nothing; the further parts of a ConcatDataset count as different items.
3. Code that augments one item at a time (a user's `__getitem__` with `self.transform(image)`, a
   lambda, a collate function) needs to know nothing of this: the loader opens `item_scope(index)`
   around each item, and `next_key()` gives the 1st, 2nd, … key of that item.
4. Outside any loader the keys come from the default generator (`tm.manual_seed`), so that two
   looks at `dataset[0]` differ, as in PyTorch.

The hash is the SplitMix64 finaliser, and a key's draws are that generator's stream.
Paper: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..device import Generator, default_generator

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_WORD = 0xFFFFFFFFFFFFFFFF
_BATCH = -1  # the "index" of what belongs to a whole batch; items count from 0


def _mix(words: Keys) -> Keys:
    """Scramble 64-bit words: each bit of the result depends on each bit of the word."""
    words = (words ^ (words >> np.uint64(30))) * _MIX1
    words = (words ^ (words >> np.uint64(27))) * _MIX2
    return words ^ (words >> np.uint64(31))


def _as_words(numbers: Any) -> Keys:
    """Return integers (negative ones wrap round) as an array of 64-bit words."""
    if isinstance(numbers, int):
        return np.array([numbers & _WORD], np.uint64)
    return np.atleast_1d(np.asarray(numbers, np.int64)).view(np.uint64)


def fold(keys: Keys, numbers: int | Sequence[int] | NDArray[np.integer[Any]]) -> Keys:
    """Return the keys of sub-streams: a different one for each key and each number.

    Shape: (n) and one number, or (1) and m numbers, or (n) and n numbers

    >>> root = seed_key(7)
    >>> len(set(fold(root, [0, 1, 2]).tolist()))
    3
    """
    return _mix(keys + (_as_words(numbers) + np.uint64(1)) * _GOLDEN)


def seed_key(seed: int) -> Keys:
    """Return the key, shape (1), that an integer seed stands for."""
    return _mix(_as_words(seed))


def uniform(keys: Keys, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers, uniform in [0, 1), from each key.

    Shape: (n) -> (n, count)

    >>> uniform(seed_key(0), 3).shape, bool((uniform(seed_key(0), 3) < 1).all())
    ((1, 3), True)
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    words = _mix(~keys[:, None] + steps)  # ~: a key's draws are none of its sub-keys
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(keys: Keys, count: int) -> NDArray[np.float64]:
    """Draw `count` standard normal numbers from each key (Box–Muller).  Shape: (n) -> (n, count)"""
    u = uniform(keys, 2 * count)
    radius = np.sqrt(-2.0 * np.log1p(-u[:, :count]))
    normals: NDArray[np.float64] = radius * np.cos(2.0 * np.pi * u[:, count:])
    return normals


def permutation(key: Keys, size: int) -> NDArray[np.int64]:
    """Return the numbers 0 … size − 1 in the order that `key` (shape (1)) gives.

    >>> sorted(permutation(seed_key(0), 4).tolist())
    [0, 1, 2, 3]
    """
    return np.argsort(uniform(key, size)[0], kind="stable")


def draw_seed(generator: Generator | None = None) -> int:
    """Draw a seed (below 2⁶³) from a generator, the default one unless given; it advances."""
    seed, counter = (int(word) for word in (generator or default_generator()).next_key())
    return int(fold(seed_key(seed), counter)[0]) >> 1


class _Stream:
    """A key and the number of keys handed out from it."""

    __slots__ = ("count", "key")

    def __init__(self, key: Keys) -> None:
        self.key = key
        self.count = 0

    def next(self) -> Keys:
        """Return the next key, shape (1)."""
        key = fold(self.key, self.count)
        self.count += 1
        return key


_epoch: ContextVar[Keys | None] = ContextVar("toumei_epoch", default=None)
_stream: ContextVar[_Stream | None] = ContextVar("toumei_stream", default=None)


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    """Give a context variable a value within the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextmanager
def batch_scope(seed: int, epoch: int, number: int) -> Iterator[None]:
    """Announce that the block loads batch `number` of `epoch`: what a loader does.

    >>> with batch_scope(seed=0, epoch=3, number=0):
    ...     a = item_keys([5, 6])
    >>> with batch_scope(seed=0, epoch=3, number=9):
    ...     b = item_keys([6])
    >>> bool(a[1] == b[0])
    True
    """
    key = fold(seed_key(seed), epoch)
    own = _Stream(fold(fold(key, _BATCH), number))
    with _set(_epoch, key), _set(_stream, own):
        yield


@contextmanager
def part_scope(part: int) -> Iterator[None]:
    """Make the items of another part of a concatenation different items; nothing for the first."""
    key = _epoch.get()
    if key is None or part == 0:
        yield
    else:
        with _set(_epoch, fold(fold(key, _BATCH - 1), part)):
            yield


@contextmanager
def item_scope(index: int) -> Iterator[None]:
    """Say which item the block makes; nothing outside a loader."""
    key = _epoch.get()
    if key is None:
        yield
    else:
        with key_scope(fold(key, index)):
            yield


@contextmanager
def key_scope(key: Keys) -> Iterator[None]:
    """Let `next_key` draw from `key` within the block."""
    with _set(_stream, _Stream(key)):
        yield


def item_keys(indices: Sequence[int]) -> Keys:
    """Return one key per item: of (seed, epoch, index) in a loader, else the generator's.

    Shape: n indices -> (n)
    """
    key = _epoch.get()
    if key is not None:
        return fold(key, np.asarray(indices, np.int64))
    return fold(seed_key(draw_seed()), np.arange(len(indices)))


def next_key() -> Keys:
    """Return a fresh key, shape (1): the item's next one in a loader, else the generator's."""
    stream = _stream.get()
    return stream.next() if stream is not None else seed_key(draw_seed())


def item_rng() -> np.random.Generator:
    """Return a NumPy generator for a user's own augmentation, to be used inside `__getitem__`.

    In a loader it depends on (seed, epoch, index) alone, so an interrupted and resumed run sees
    the same numbers, whatever the number of threads; elsewhere it starts from `tm.manual_seed`.

    >>> with batch_scope(seed=0, epoch=0, number=0), item_scope(4):
    ...     a = item_rng().integers(100)
    >>> with batch_scope(seed=0, epoch=0, number=2), item_scope(4):
    ...     b = item_rng().integers(100)
    >>> bool(a == b)
    True
    """
    return np.random.Generator(np.random.Philox(key=int(next_key()[0])))
