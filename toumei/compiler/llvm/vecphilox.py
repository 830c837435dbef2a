"""Random numbers on vectors: Philox4x32-10, the same words as `toumei.ops.philox` makes.

Word 4b + j of a draw is word j of block b.  A block takes one 64-bit lane for each of its four
words, because the products of 32 x 32 bits, two a round, need 64.  The upper halves of the others
hold rubbish, which the multiplication doesn't see.

Paper: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math

from .ir import Function, Value, split, vector
from .target import Target
from .vec import Vec
from .vecexp import log
from .vectrig import cos, sin

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_ROUNDS = 10


class Philox:
    """A draw: what all its words share is written once, before the loop that asks for them.

    Args:
        f: the function that is being written.
        target: the processor.
        seed, draw: i64, the key.
        blocks: how many to make at a time, of four words each; one vector's worth by default.
    """

    def __init__(
        self, f: Function, target: Target, seed: Value, draw: Value, blocks: int | None = None
    ) -> None:
        self.f, self.target = f, target
        self.blocks = blocks or target.lanes("i64")
        self.keys = [self._round_key(seed, r) for r in range(_ROUNDS)]
        self.draw_low = self._splat(f.bits("and", draw, _LOW))
        self.draw_high = self._splat(f.bits("lshr", draw, 32))

    def _round_key(self, seed: Value, number: int) -> list[Vec]:
        """Return the seed's halves, moved on by a constant each round; modulo 2³²."""
        halves = (seed, self.f.bits("lshr", seed, 32))
        moved = [self.f.add(h, number * w) for h, w in zip(halves, _WEYL, strict=True)]
        return [self._splat(self.f.bits("and", m, _LOW)) for m in moved]

    def _splat(self, x: Value) -> Vec:
        return Vec(self.f, self.target, self.f.splat("i64", x, self.blocks))

    def words(self, block: Value) -> Value:
        """Return the words of the blocks from number `block` on, i32, in order."""
        numbers = self._splat(block) + Vec(self.f, self.target, self.f.iota(self.blocks))
        return self._in_order(self._rounds(numbers))

    def _rounds(self, numbers: Vec) -> list[Vec]:
        """Scramble the counters (number, draw); the words are in the lower halves."""
        a, b, c, d = numbers, numbers >> 32, self.draw_low, self.draw_high
        for key in self.keys:
            first, second = (a & _LOW) * _MULTIPLIERS[0], (c & _LOW) * _MULTIPLIERS[1]
            a, b, c, d = (second >> 32) ^ b ^ key[0], second, (first >> 32) ^ d ^ key[1], first
        return [a, b, c, d]

    def _in_order(self, parts: list[Vec]) -> Value:
        """Put the words of each block side by side."""
        a, b, c, d = parts
        first, second = (a & _LOW) | (b << 32), (c & _LOW) | (d << 32)
        pairs = interleave(self.f, first.value, second.value)
        kind = vector("i32", 4 * self.blocks)
        return self.f.emit(f"bitcast {pairs.type} {pairs.name} to {kind}", kind)


def interleave(f: Function, a: Value, b: Value) -> Value:
    """Return a₀, b₀, a₁, b₁ …"""
    element, lanes = split(a.type)
    if lanes > 1:
        return f.shuffle(a, b, [i // 2 + i % 2 * lanes for i in range(2 * lanes)])
    kind = vector(element, 2)
    first = f.emit(f"insertelement {kind} poison, {a.type} {a.name}, i64 0", kind)
    return f.emit(f"insertelement {kind} {first.name}, {b.type} {b.name}, i64 1", kind)


def uniform(f: Function, target: Target, words: Value, element: str) -> Value:
    """Return numbers in [0, 1): one for each word in float, one for each two words in double."""
    if element == "float":
        return ((Vec(f, target, words) >> 8).cast("sitofp", "float") * 2.0**-24).value
    return (_wide(f, target, words) * 2.0**-53).value


def _wide(f: Function, target: Target, words: Value) -> Vec:
    """Return the upper 53 bits of pairs of words, as doubles."""
    kind = vector("i64", split(words.type)[1] // 2)
    pairs = f.emit(f"bitcast {words.type} {words.name} to {kind}", kind)
    return (Vec(f, target, pairs) >> 11).cast("sitofp", "double")


def kept(f: Function, target: Target, words: Value, p: float) -> Value:
    """Return whether dropout keeps elements: i1, two for each word, dropped with probability p < 1.

    The second element of a pair has the word with its halves exchanged.
    """
    turned = f.intrinsic("fshl", words.type, words, words, f.const(words.type, 16))
    limit = min(round(p * 2**32), 2**32 - 1)
    pairs = interleave(f, words, turned)
    return f.compare("uge", pairs, limit)


def normal(f: Function, target: Target, words: Value, element: str) -> Value:
    """Return standard normal numbers, as many as `uniform` would: r·cos φ and r·sin φ in turn.

    r = √(−2 ln u), φ = 2π·v, with u and v from even and odd words.
    """
    if element == "float":
        pairs = Vec(f, target, words)
        u = (_part(pairs, 0).cast("uitofp", "float") + 1.0) * 2.0**-32
        angle = (_part(pairs, 1) >> 8).cast("sitofp", "float") * (2 * math.pi * 2.0**-24)
    else:
        numbers = _wide(f, target, words) * 2.0**-53
        u, angle = 1.0 - _part(numbers, 0), _part(numbers, 1) * (2 * math.pi)
    radius = (log(u) * -2.0).sqrt()
    return interleave(f, (radius * cos(angle)).value, (radius * sin(angle)).value)


def _part(x: Vec, first: int) -> Vec:
    """Return every second lane."""
    lanes = split(x.value.type)[1]
    if lanes == 2:
        return x.wrap(x.f.extract(x.value, first))
    return x.wrap(x.f.shuffle(x.value, x.value, range(first, lanes, 2)))
