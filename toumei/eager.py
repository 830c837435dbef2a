"""Large eager convolutions and poolings run in the compiler's kernels, from their first call on.

The ops' own `forward` is NumPy's; `op.NATIVE` says for which ops something else is asked first.
What is below a certain size stays with NumPy, and needs no compiler: building a kernel takes some
30 to 100 ms, once, as it is kept on disk.  Only an op's shapes decide, never what was measured or
called before: the same program gives the same bits when it is run again.
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

__all__ = ["set_native_eager"]

PRODUCTS = 1_000_000  # multiply-adds of a convolution from which on its kernels are used
WINDOW_ELEMENTS = 500_000  # elements in the windows of a pooling op, likewise


def set_native_eager(on: bool) -> None:
    """Let large eager convolutions and poolings run in generated kernels (the default), or don't.

    Without them, NumPy computes: many times slower, nothing is compiled, and the results differ in
    the last bits.  It holds for all threads; compiled functions aren't concerned.

    Args:
        on: whether to use them.

    >>> import toumei as tm
    >>> tm.set_native_eager(False)
    >>> tm.set_native_eager(True)
    """
    NATIVE.clear()
    if on:
        NATIVE.update(dict.fromkeys(_SIZES, _run))


def _run(op: Op, arrays: list[Array]) -> Array | None:
    """Return the result of an op, or None where NumPy is to compute it."""
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
def _compiler() -> Callable[[Op, list[Array]], Array | None] | None:
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
        "convolutions and poolings are left to NumPy, which takes many times as long: generated "
        f"kernels can't be used here: {reason}",
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


_SIZES: dict[type[Op], tuple[Callable[..., int], int]] = {
    Convolution: (_convolution, PRODUCTS),
    BiasedConvolution: (_convolution, PRODUCTS),
    ConvolutionInputGrad: (_input_gradient, PRODUCTS),
    ConvolutionWeightGrad: (_weight_gradient, PRODUCTS),
    **dict.fromkeys((MaxPool, MaxTaps, TakeTaps, SumWindows), (_pooling, WINDOW_ELEMENTS)),
    **dict.fromkeys((PutTaps, SpreadWindows), (_unpooling, WINDOW_ELEMENTS)),
}

set_native_eager(True)
