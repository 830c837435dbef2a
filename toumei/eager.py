"""Large eager convolutions, poolings and normalisations run in the compiler's kernels.

The ops' own `forward` is NumPy's; `op.NATIVE` says for which ops something else is asked first.
What is below a certain size stays with NumPy, and needs no compiler: to build an op's kernels takes
about 50 ms; they are kept on disk, from where it takes 2.  Only the shapes decide, never times or
what the disk holds, so that the same program gives the same bits when it is run again.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from math import prod
from typing import Any

from .op import NATIVE, Array, Op
from .ops.convolution import (
    BiasedConvolution,
    Convolution,
    ConvolutionInputGrad,
    ConvolutionWeightGrad,
)
from .ops.pooling import MaxPool, MaxTaps, Pooling, PutTaps, SpreadWindows, SumWindows, TakeTaps
from .ops.standardize import Normalize, NormalizeGrad

__all__ = ["set_native_eager"]

PRODUCTS = 1_000_000  # multiply-adds of a convolution from which on its kernels are used
WINDOW_ELEMENTS = 500_000  # elements in the windows of a pooling op, likewise
ELEMENTS = 250_000  # of a normalisation, likewise


def set_native_eager(on: bool) -> None:
    """Let large eager convolutions, poolings and normalisations run in generated kernels, or don't.

    They do by default.  Otherwise NumPy computes: several times slower, but nothing is compiled.
    Results differ in the last bits.  It holds for all threads, not for compiled functions.

    Args:
        on: whether to use them.

    >>> import toumei as tm
    >>> tm.set_native_eager(False)
    >>> tm.set_native_eager(True)
    """
    NATIVE.clear()
    if on:
        NATIVE.update(dict.fromkeys(_SIZES, _run))


def _run(op: Op, arrays: list[Array]) -> Any:
    """Return the result of an op, a tuple of several, or None where NumPy is to compute it."""
    first = arrays[0]
    if first.dtype.kind != "f" or not _is_large(op, arrays):
        return None
    try:
        found = _compiler()
        return None if found is None else found(op, arrays)
    except MemoryError:
        return None  # NumPy works in smaller pieces
    except Exception as error:
        _give_up(f"{type(error).__name__}: {error}")
        return None


def _is_large(op: Any, arrays: list[Array]) -> bool:
    size, least = _SIZES[type(op)]
    return size(op, *arrays) >= least


@functools.cache
def _compiler() -> Callable[[Op, list[Array]], Any] | None:
    """Return how the compiler runs a single op; None: it can't work here."""
    from .compiler.llvm.runtime import supported
    from .compiler.single import run

    if supported():
        return run
    _give_up("they need llvmlite, on a 64-bit little-endian machine")
    return None


def _give_up(reason: str) -> None:
    """Leave all to NumPy from here on, and say so."""
    set_native_eager(False)
    warnings.warn(
        "large convolutions, poolings and normalisations are left to NumPy, which takes several "
        f"times as long: generated kernels can't be used: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


# --- roughly how much work an op is --------------------------------------------------------------


def _convolution(op: Convolution, x: Array, w: Array, bias: Array | None = None) -> int:
    windows = prod(x.shape[2:]) // prod(op.stride)
    return x.shape[0] * windows * w.size


def _input_gradient(op: ConvolutionInputGrad, g: Array, w: Array) -> int:
    return g.shape[0] * prod(g.shape[2:]) * w.size


def _weight_gradient(op: ConvolutionWeightGrad, g: Array, x: Array) -> int:
    return g.size * (x.shape[1] // op.groups) * prod(op.kernel)


def _pooling(op: Pooling, x: Array, *others: Array) -> int:
    """From the images to one number per window."""
    return x.size // prod(op.stride) * prod(op.kernel)


def _unpooling(op: Pooling, g: Array, *others: Array) -> int:
    """From one number per window to the images."""
    return g.size * prod(op.kernel)


def _elementwise(op: Op, *arrays: Array) -> int:
    return arrays[0].size


_SIZES: dict[type[Op], tuple[Callable[..., int], int]] = {
    Convolution: (_convolution, PRODUCTS),
    BiasedConvolution: (_convolution, PRODUCTS),
    ConvolutionInputGrad: (_input_gradient, PRODUCTS),
    ConvolutionWeightGrad: (_weight_gradient, PRODUCTS),
    **dict.fromkeys((MaxPool, MaxTaps, TakeTaps, SumWindows), (_pooling, WINDOW_ELEMENTS)),
    **dict.fromkeys((PutTaps, SpreadWindows), (_unpooling, WINDOW_ELEMENTS)),
    **dict.fromkeys((Normalize, NormalizeGrad), (_elementwise, ELEMENTS)),
}

set_native_eager(True)
