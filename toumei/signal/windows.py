"""Window functions: weights that fade a stretch of a signal out towards its ends.

With n = M − 1 for a symmetric window, and n = M for a periodic one (`sym=False`, for spectra), the
weights are w(k) for k = 0 … M − 1.  F. J. Harris, "On the use of windows for harmonic analysis with
the discrete Fourier transform", Proc. IEEE 66 (1978); A. H. Nuttall, IEEE Trans. ASSP 29 (1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import on_cpu
from ..errors import OpError
from ..op import Array
from ..ops.creation import dtype_of, tensor

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "general_cosine",
    "general_hamming",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
]


def _window(
    M: int, sym: bool, dtype: Any, requires_grad: bool, weights: Callable[[Array, int], Array]
) -> Tensor:
    """Make a window of weights(k, n)."""
    if M < 0:
        raise OpError(f"a window can't have {M} points")
    points = np.arange(M, dtype=np.float64)
    values = np.ones(M) if M < 2 else weights(points, M - 1 if sym else M)
    return tensor(values, dtype=dtype_of(dtype), requires_grad=requires_grad)


@on_cpu
def bartlett(M: int, *, sym: bool = True, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A triangle, 1 − |2k/n − 1|.  Shape: -> (M)

    >>> import toumei as tm
    >>> tm.signal.windows.bartlett(5)
    tensor([0. , 0.5, 1. , 0.5, 0. ])
    """
    return _window(M, sym, dtype, requires_grad, lambda k, n: 1 - abs(2 * k / n - 1))


@on_cpu
def general_cosine(
    M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """A sum of cosines, Σᵢ (−1)ⁱ·aᵢ·cos(2πik/n).  Shape: -> (M)"""
    factors = [float(v) for v in a]
    if not factors:
        raise OpError("general_cosine: it takes at least one coefficient")

    def weights(k: Array, n: int) -> Array:
        signs = [(-1) ** i * f for i, f in enumerate(factors)]
        terms = [s * np.cos(2 * np.pi * i * k / n) for i, s in enumerate(signs)]
        return np.asarray(np.sum(terms, axis=0))

    return _window(M, sym, dtype, requires_grad, weights)


@on_cpu
def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """A raised cosine, α − (1 − α)·cos(2πk/n).  Shape: -> (M)"""
    a = (alpha, 1 - alpha)
    return general_cosine(M, a=a, sym=sym, dtype=dtype, requires_grad=requires_grad)


@on_cpu
def hamming(M: int, *, sym: bool = True, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A raised cosine, 0.54 − 0.46·cos(2πk/n).  Shape: -> (M)"""
    return general_hamming(M, alpha=0.54, sym=sym, dtype=dtype, requires_grad=requires_grad)


@on_cpu
def hann(M: int, *, sym: bool = True, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A raised cosine, (1 − cos(2πk/n))/2.  Shape: -> (M)"""
    return general_hamming(M, alpha=0.5, sym=sym, dtype=dtype, requires_grad=requires_grad)


@on_cpu
def blackman(M: int, *, sym: bool = True, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A sum of three cosines with the coefficients 0.42, 0.5, 0.08.  Shape: -> (M)"""
    a = (0.42, 0.5, 0.08)
    return general_cosine(M, a=a, sym=sym, dtype=dtype, requires_grad=requires_grad)


@on_cpu
def nuttall(M: int, *, sym: bool = True, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Nuttall's sum of four cosines with the lowest side lobes (−98 dB).  Shape: -> (M)"""
    a = (0.3635819, 0.4891775, 0.1365995, 0.0106411)
    return general_cosine(M, a=a, sym=sym, dtype=dtype, requires_grad=requires_grad)


@on_cpu
def cosine(M: int, *, sym: bool = True, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Half a sine wave, sin(π(k + ½)/(n + 1)).  Shape: -> (M)"""
    return _window(M, sym, dtype, requires_grad, lambda k, n: np.sin(np.pi * (k + 0.5) / (n + 1)))


@on_cpu
def exponential(
    M: int,
    *,
    center: float | None = None,
    tau: float = 1.0,
    sym: bool = True,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Exponential decay from the centre, exp(−|k − center|/τ).  Shape: -> (M)

    `center` is n/2 unless the window is periodic; `tau` is in points.
    """
    if tau <= 0:
        raise OpError(f"exponential: tau must be positive, not {tau}")
    if sym and center is not None:
        raise OpError("exponential: center is for sym=False; else it is the middle")

    def weights(k: Array, n: int) -> Array:
        return np.exp(-abs(k - (n / 2 if center is None else center)) / tau)

    return _window(M, sym, dtype, requires_grad, weights)


@on_cpu
def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """A bell curve, exp(−((k − n/2)/std)²/2); `std` is in points.  Shape: -> (M)"""
    if std <= 0:
        raise OpError(f"gaussian: std must be positive, not {std}")

    def weights(k: Array, n: int) -> Array:
        return np.exp(-(((k - n / 2) / std) ** 2) / 2)

    return _window(M, sym, dtype, requires_grad, weights)


@on_cpu
def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Kaiser's window, I₀(β·√(1 − (2k/n − 1)²))/I₀(β).  Shape: -> (M)"""
    if beta < 0:
        raise OpError(f"kaiser: beta can't be negative, it is {beta}")

    def weights(k: Array, n: int) -> Array:
        height = np.sqrt(np.maximum(0, 1 - (2 * k / n - 1) ** 2))
        return np.i0(beta * height) / np.i0(beta)

    return _window(M, sym, dtype, requires_grad, weights)
