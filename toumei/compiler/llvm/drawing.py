"""Kernels that draw random numbers: the numbers that eager draws, from the key and the index alone.

Uniform numbers, integers and dropout's masks have the same bits as eager; normal, exponential and
Cauchy numbers differ by a few units in the last place, as their functions do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from . import vecphilox
from .elements import memory_type, register_type, store_element
from .integers import smaller_of, tail_mask
from .ir import Function, Value, split, vector
from .kernel import Kernel, Memory, is_dense, kernel_function
from .target import Target
from .vec import Vec, where
from .vecexp import log1p
from .vecmath import convert
from .vectrig import tan

_ITEM = 4096  # elements: a multiple of what is drawn at a time

Formula = Callable[[Function, Target, Value, Any], Value]


class Rule(NamedTuple):
    """How an op's numbers come from random words of 32 bits.

    Args:
        formula: (f, target, words, op) -> the elements; writes the instructions.
        halves: of a word for one element, by the bytes of the op's dtype.
    """

    formula: Formula
    halves: Callable[[int], int]


def emit_draw(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Write the kernel of a draw (see `kernel.Generator`).  Buffers: the key, the numbers."""
    rule = RULES.get(type(op).__name__)
    if rule is None or inputs[0].strides != (1,) or not is_dense(outputs[0]):
        return None
    f = kernel_function(name)
    items = -(-op.count // _ITEM)
    _Draw(f, op, rule, target).write(op.count, items)
    return [Kernel(f, items)]


class _Draw:
    """The kernel of a draw, being written: a group of elements at a time."""

    def __init__(self, f: Function, op: Any, rule: Rule, target: Target) -> None:
        self.f, self.op, self.rule, self.target = f, op, rule, target
        key = f.buffer(0)
        seed, counter = f.load(key, "i64"), f.load(f.at(key, 1, "i64"), "i64")
        self.philox = vecphilox.Philox(f, target, seed, counter)
        self.per_block = 8 // rule.halves(op.dtype.itemsize)
        self.group = self.per_block * self.philox.blocks

    def write(self, count: int, items: int) -> None:
        """Write the loop over whole groups, and the last one's tail, which the last item has."""
        f, (_, begin, end) = self.f, self.f.args
        whole = count - count % self.group
        stop = smaller_of(f, f.mul(end, _ITEM), whole)
        with f.loop(f.mul(begin, _ITEM), stop, self.group) as loop:
            self.elements(loop.index, None)
        if whole < count:
            with f.when(f.compare("eq", end, items)):
                mask = tail_mask(f, count - whole, self.group)
                self.elements(f.const("i64", whole), mask)
        f.ret()

    def elements(self, index: Value, mask: Value | None) -> None:
        """Write a group."""
        f, dtype = self.f, self.op.dtype
        words = self.philox.words(f.udiv(index, self.per_block))
        values = self.rule.formula(f, self.target, words, self.op)
        store_element(f, values, f.at(f.buffer(1), index, memory_type(dtype)), dtype, 1, mask)


@contextmanager
def _rounded(f: Function) -> Iterator[None]:
    """Let every product be rounded before it is added to something, as NumPy's are."""
    before, f.flags = f.flags, "nsz"
    yield
    f.flags = before


def _scaled(y: Vec, factor: float, offset: float) -> Value:
    """Return factor·y + offset, rounded twice."""
    if (factor, offset) == (1.0, 0.0):
        return y.value
    with _rounded(y.f):
        return (y * factor + offset).value


def _unit(f: Function, target: Target, words: Value, op: Any) -> Vec:
    """Return uniform numbers in [0, 1)."""
    return Vec(f, target, vecphilox.uniform(f, target, words, register_type(op.dtype)))


def _uniform(f: Function, target: Target, words: Value, op: Any) -> Value:
    return _scaled(_unit(f, target, words, op), op.high - op.low, op.low)


def _normal(f: Function, target: Target, words: Value, op: Any) -> Value:
    y = vecphilox.normal(f, target, words, register_type(op.dtype))
    return _scaled(Vec(f, target, y), op.std, op.mean)


def _exponential(f: Function, target: Target, words: Value, op: Any) -> Value:
    return (log1p(-_unit(f, target, words, op)) * (-1 / op.rate)).value


def _cauchy(f: Function, target: Target, words: Value, op: Any) -> Value:
    with _rounded(f):  # next to a pole of the tangent the last bit of the angle counts
        angle = (_unit(f, target, words, op) - 0.5) * math.pi
    return _scaled(tan(angle), op.scale, op.median)


def _integer(f: Function, target: Target, words: Value, op: Any) -> Value:
    kind = vector("i64", split(words.type)[1] // 2)
    wide = f.emit(f"bitcast {words.type} {words.name} to {kind}", kind)
    return convert(f, f.add(f.urem(wide, op.high - op.low), op.low), target, "int64", op.dtype.name)


def _mask(f: Function, target: Target, words: Value, op: Any) -> Value:
    kind = vector(register_type(op.dtype), 2 * split(words.type)[1])
    nothing = Vec(f, target, f.const(kind, 0.0))
    if op.p == 1:
        return nothing.value
    keep = Vec(f, target, vecphilox.kept(f, target, words, op.p))
    return where(keep, nothing.const(op.kept), nothing).value


def _halves_of_reals(size: int) -> int:
    """One word for 24 random bits, two for 53."""
    return 2 if size == 4 else 4


_REALS = functools.partial(Rule, halves=_halves_of_reals)

RULES = {
    "UniformDraw": _REALS(_uniform),
    "NormalDraw": _REALS(_normal),
    "ExponentialDraw": _REALS(_exponential),
    "CauchyDraw": _REALS(_cauchy),
    "IntegerDraw": Rule(_integer, lambda size: 4),
    "DropMask": Rule(_mask, lambda size: 1),
}
