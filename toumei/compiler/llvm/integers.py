"""Integers that may be known while a kernel is written: what is known costs no instruction.

Sizes are Python's numbers, indices of loops are Values; both are Numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .ir import Function, Value

Number = Value | int


def as_value(f: Function, x: Number) -> Value:
    """Return a number as a Value."""
    return f.as_value(x, "i64")


def plus(f: Function, x: Number, y: Number) -> Number:
    """Return x + y."""
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    return f.add(x, y) if isinstance(x, Value) else f.add(as_value(f, y), x)


def times(f: Function, x: Number, y: int) -> Number:
    """Return x · y."""
    if isinstance(x, int) or y == 0:
        return x * y if isinstance(x, int) else 0
    return f.mul(x, y)


def smaller(f: Function, x: Number, y: Number) -> Number:
    """Return the smaller one."""
    if isinstance(x, int) and isinstance(y, int):
        return min(x, y)
    return smaller_of(f, as_value(f, x), y)


def smaller_of(f: Function, x: Value, y: Number) -> Value:
    """Return the smaller one, of which one is known only to the kernel."""
    return f.select(f.compare("slt", x, y), x, y)


def larger_of(f: Function, x: Value, y: Number) -> Value:
    """Return the larger one, of which one is known only to the kernel."""
    return f.select(f.compare("sgt", x, y), x, y)


def remainder(f: Function, x: Number, size: int) -> tuple[Number, Number]:
    """Return (x % size, x // size)."""
    if size == 1:
        return 0, x
    if isinstance(x, int):
        return x % size, x // size
    return f.urem(x, size), f.udiv(x, size)


def round_down(f: Function, x: Number, size: int) -> Number:
    """Return the largest multiple of a size that is not larger than x."""
    return x // size * size if isinstance(x, int) else f.mul(f.udiv(x, size), size)


def limited(f: Function, first: Value, count: int, size: int) -> Number:
    """Return how many of `count` from `first` on exist: all, except at the end of `size`."""
    if size % count == 0:
        return count
    return smaller_of(f, f.sub(f.const("i64", size), first), count)


def linear(f: Function, terms: Sequence[tuple[Number, int]], offset: int) -> Number:
    """Return offset + Σ index · stride."""
    total: Number = offset
    for index, stride in terms:
        total = plus(f, total, times(f, index, stride))
    return total


def split_index(f: Function, flat: Number, sizes: Sequence[int]) -> list[Number]:
    """Return the indices along some axes of the flat index over all of them, the last fastest."""
    out: list[Number] = []
    for i, n in reversed(list(enumerate(sizes))):
        if n != 1 and all(m == 1 for m in sizes[:i]):  # the outermost: nothing is left to divide
            out.append(flat)
        else:
            index, flat = remainder(f, flat, n)
            out.append(index)
    return out[::-1]


@contextmanager
def when(f: Function, condition: Value | bool) -> Iterator[None]:
    """Write what is done under a condition that may be known to hold."""
    if isinstance(condition, Value):
        with f.when(condition):
            yield
    else:
        assert condition
        yield


def tail_mask(f: Function, count: Number, lanes: int) -> Value | None:
    """Return which lanes exist, if there are `count` < 2³¹ of them; None: all of them."""
    if isinstance(count, int):
        return None if count >= lanes else f.lanes("i1", [i < count for i in range(lanes)])
    return first_lanes(f, count, lanes)


def first_lanes(f: Function, count: Value, lanes: int) -> Value:
    """Return a mask of the first `count` < 2³¹ lanes, or of all if there are fewer."""
    left = f.splat("i32", f.cast("trunc", count, "i32"), lanes)
    return f.compare("slt", f.iota(lanes, "i32"), left)
