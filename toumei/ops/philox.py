"""Random bits from counters: Philox4x32-10.

The words of a draw are a function of its key (seed, counter) and of their index alone: nothing is
stored, so any part of a draw can be made anywhere, in any order, and comes out the same.

Paper: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_WEYL = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_ROUNDS = 10
_CHUNK = 8192  # blocks at a time: their state stays in the cache


def _halves(words: NDArray[np.uint64]) -> tuple[Words, Words]:
    """Return the low and the high 32 bits of 64-bit words, as views."""
    both = words.view("<u4")
    return both[..., 0::2], both[..., 1::2]


def philox(
    counters: NDArray[np.uint64], key: NDArray[np.uint64]
) -> tuple[Words, Words, Words, Words]:
    """Scramble counters of four 32-bit words (in uint64) with a key of two.

    Shape: (4, n), (2) -> four times (n)

    >>> words = philox(np.zeros((4, 1), np.uint64), np.zeros(2, np.uint64))
    >>> [f"{int(w[0]):08x}" for w in words]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    factors = np.ascontiguousarray(counters[0::2], "<u8")  # words 0 and 2 are multiplied next
    before = np.ascontiguousarray(counters[3::-2], "<u8")  # words 3 and 1, in the low halves
    products = np.empty_like(factors)
    low_factors, _ = _halves(factors)
    factors &= _LOW
    round_key = key.reshape(2, 1) & _LOW
    for _ in range(_ROUNDS):
        np.multiply(factors, _MULTIPLIERS, out=products)
        _, high = _halves(products)
        low, _ = _halves(before)
        np.bitwise_xor(high[::-1], low[::-1], out=low_factors)
        factors ^= round_key
        round_key = (round_key + _WEYL) & _LOW
        before, products = products, before
    low, _ = _halves(before)
    return low_factors[0], low[1], low_factors[1], low[0]


def word_chunks(key: NDArray[np.int64], count: int) -> Iterator[tuple[slice, Words]]:
    """Yield the first `count` 32-bit words of the draw that `key` (seed, counter) stands for.

    They come in chunks with their places, in memory that the next chunk overwrites.  Word 4b + j
    is word j of the block whose counter is (b, draw), 64 bits each.
    """
    seed, draw = (int(k) % 2**64 for k in key)
    seed_words = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    blocks = -(-count // 4)
    buffer = np.empty((min(blocks, _CHUNK), 4), np.uint32)
    for start in range(0, blocks, _CHUNK):
        stop = min(start + _CHUNK, blocks)
        counters = np.empty((4, stop - start), np.uint64)
        numbers = np.arange(start, stop, dtype=np.uint64)
        counters[0], counters[1] = numbers & _LOW, numbers >> np.uint64(32)
        counters[2], counters[3] = draw & 0xFFFFFFFF, draw >> 32
        for j, words in enumerate(philox(counters, seed_words)):
            buffer[: stop - start, j] = words
        end = min(4 * stop, count)
        yield slice(4 * start, end), buffer.reshape(-1)[: end - 4 * start]


def random_words(key: NDArray[np.int64], count: int) -> Words:
    """Return the first `count` 32-bit words of a draw."""
    out = np.empty(count, np.uint32)
    for place, words in word_chunks(key, count):
        out[place] = words
    return out


def random_words64(key: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Return `count` 64-bit words: word i has the 32-bit words 2i (low) and 2i + 1 (high)."""
    return random_words(key, 2 * count).astype("<u4", copy=False).view("<u8")


def uniform(key: NDArray[np.int64], count: int, dtype: Any) -> NDArray[Any]:
    """Return numbers uniform in [0, 1): 24 random bits each in float32, 53 in float64."""
    out: NDArray[Any] = np.empty(count, dtype)
    if dtype == np.float32:
        for place, words in word_chunks(key, count):
            words >>= np.uint32(8)
            np.multiply(words.astype(np.float32), np.float32(2.0**-24), out=out[place])
        return out
    for place, words in word_chunks(key, 2 * count):
        wide = words.astype("<u4", copy=False).view("<u8")
        wide >>= np.uint64(11)
        place = slice(place.start // 2, place.stop // 2)
        np.multiply(wide.astype(np.float64), 2.0**-53, out=out[place])
    return out


def normal(key: NDArray[np.int64], count: int, dtype: Any) -> NDArray[Any]:
    """Return standard normal numbers, two from each pair of uniform ones.

    z₂ᵢ = r·cos φ, z₂ᵢ₊₁ = r·sin φ  with  r = √(−2 ln u₂ᵢ), φ = 2π·u₂ᵢ₊₁

    Paper: Box and Muller, "A note on the generation of random normal deviates", 1958.
    """
    even = count + count % 2
    out: NDArray[Any] = np.empty(even, dtype)
    if dtype == np.float32:
        for place, words in word_chunks(key, even):
            pairs = words.reshape(-1, 2)
            radius = pairs[:, 0].astype(np.float32)  # all 32 bits: the tail reaches 6.6
            radius += np.float32(1)
            radius *= np.float32(2.0**-32)
            angle = (pairs[:, 1] >> np.uint32(8)).astype(np.float32)
            angle *= np.float32(2 * np.pi * 2.0**-24)
            _box_muller(radius, angle, out[place])
    else:
        numbers = uniform(key, even, dtype).reshape(-1, 2)
        for start in range(0, len(numbers), _CHUNK):
            u = numbers[start : start + _CHUNK]
            _box_muller(1.0 - u[:, 0], 2 * np.pi * u[:, 1], out[2 * start : 2 * start + u.size])
    return out[:count]


def _box_muller(radius: NDArray[Any], angle: NDArray[Any], out: NDArray[Any]) -> None:
    """Fill `out` with r·cos φ and r·sin φ in turn, r = √(−2 ln u); overwrites `radius` (u)."""
    np.log(radius, out=radius)
    radius *= radius.dtype.type(-2)
    np.sqrt(radius, out=radius)
    pairs = out.reshape(-1, 2)
    np.multiply(radius, np.cos(angle), out=pairs[:, 0])
    np.multiply(radius, np.sin(angle), out=pairs[:, 1])
