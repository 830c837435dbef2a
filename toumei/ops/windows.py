"""Windows that slide over the spatial dimensions: shared by convolution, pooling and unfold.

Spatial dimensions are the last ones here; `pads` are (before, after) pairs, one per dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from ..errors import OpError, OpTypeError
from ..op import Array, Refused

Sizes: TypeAlias = tuple[int, ...]
Pads: TypeAlias = tuple[tuple[int, int], ...]
Slices: TypeAlias = tuple[Any, ...]


def ints(name: str, what: str, value: Any, rank: int, least: int) -> Sizes:
    """Return one int per spatial dimension: of one number, or of a sequence of them.

    Raises:
        OpTypeError: a value isn't an integer.
        OpError: there are too many or too few, or one is below `least`.
    """
    values = list(value) if isinstance(value, Sequence) else [value]
    if len(values) == 1:
        values *= rank
    try:
        numbers = tuple(v.__index__() for v in values)
    except AttributeError:
        raise OpTypeError(f"{name}: {what} must be integers, not {value!r}") from None
    if len(numbers) != rank:
        raise OpError(f"{name}: {what} needs {rank} numbers, got {len(numbers)}: {value!r}")
    if any(n < least for n in numbers):
        raise OpError(f"{name}: {what} must be at least {least}, it is {value!r}")
    return numbers


def window_count(sizes: Sizes, kernel: Sizes, stride: Sizes, pads: Pads, dilation: Sizes) -> Sizes:
    """Return how many windows fit along each dimension; refuses a kernel that doesn't fit once."""
    counts = []
    for d, (n, k, s, (lo, hi), step) in enumerate(
        zip(sizes, kernel, stride, pads, dilation, strict=True)
    ):
        span = step * (k - 1) + 1
        if span > n + lo + hi:
            spread = f", {span} wide with dilation {step}," if step > 1 else ""
            raise Refused(
                f"the kernel of size {k}{spread} is larger than the input along spatial dim {d}: "
                f"{n} elements, {n + lo + hi} with padding"
            )
        counts.append((n + lo + hi - span) // s + 1)
    return tuple(counts)


def padded(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """Return x with `value` around its last dimensions, or x itself where no padding is needed.

    Negative padding takes elements away.  The memory order of the dimensions stays.
    """
    lead = x.ndim - len(pads)
    inner = (slice(None),) * lead
    crop = inner + tuple(
        slice(max(-lo, 0), n - max(-hi, 0))
        for n, (lo, hi) in zip(x.shape[lead:], pads, strict=True)
    )
    x = x[crop]
    grow = tuple((max(lo, 0), max(hi, 0)) for lo, hi in pads)
    if not any(lo or hi for lo, hi in grow):
        return x
    sizes = x.shape[lead:]
    shape = x.shape[:lead] + tuple(n + lo + hi for n, (lo, hi) in zip(sizes, grow, strict=True))
    out = np.empty_like(x, shape=shape)
    out.fill(value)
    out[inner + tuple(slice(lo, lo + n) for n, (lo, _) in zip(sizes, grow, strict=True))] = x
    return out


def taps(kernel: Sizes, counts: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[Slices]:
    """Yield, for each place in the window, the slices of the padded input that stand there."""
    for place in product(*map(range, kernel)):
        yield tuple(
            slice(i * step, i * step + (n - 1) * s + 1, s)
            for i, n, s, step in zip(place, counts, stride, dilation, strict=True)
        )


def windows(
    x: Array, first: int, kernel: Sizes, counts: Sizes, stride: Sizes, dilation: Sizes
) -> Array:
    """Show all windows over the dimensions from `first` on, without a copy.

    Shape: (lead…, sizes…, rest…) -> (lead…, counts…, kernel…, rest…)
    """
    rank = len(kernel)
    steps = x.strides[first : first + rank]
    shape = (*x.shape[:first], *counts, *kernel, *x.shape[first + rank :])
    strides = (
        *x.strides[:first],
        *(b * s for b, s in zip(steps, stride, strict=True)),
        *(b * d for b, d in zip(steps, dilation, strict=True)),
        *x.strides[first + rank :],
    )
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def same_pads(kernel: Sizes, dilation: Sizes) -> Pads:
    """Return the padding that keeps the size at stride 1; the odd element goes behind."""
    spans = [step * (k - 1) for k, step in zip(kernel, dilation, strict=True)]
    return tuple((n // 2, n - n // 2) for n in spans)
