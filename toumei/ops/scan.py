"""Running sums, products and extremes along one dimension, and what they are differentiated by.

The recurrence y_k = a_k·y_{k−1} + b_k (`LinearScan`) is closed under differentiation; the
derivatives of running products and of running log-sums are such recurrences, zeros or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..names import numpy_names
from ..op import Array, Case, Op, Spec, op
from ..tape import apply
from .rearrange import ConstantPad
from .reduction import ValuesIndices, summable
from .shape import Slice, along, normal_dim_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "logcumsumexp",
]


class Scan(Op):
    """Along `dim`, each element of the output depends on the elements up to its place."""

    dim: int

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, x.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, dim in (((5,), 0), ((2, 3, 2), 1), ((2, 0), 1), ((2, 1), 1)):
            yield Case(cls(dim), (rng.uniform(-2, 2, shape),))


def moved_on(x: Tensor, dim: int, by: int, value: float) -> Tensor:
    """Return x moved one place on (by = 1) or back (by = −1) along `dim`, `value` coming in."""
    if x.shape[dim] == 0:
        return x
    kept = apply(Slice(along(dim, slice(None, -1) if by > 0 else slice(1, None))), x)
    pad = tuple(int(d == dim) for d in range(x.ndim))
    none = (0,) * x.ndim
    return apply(ConstantPad(pad, none, value) if by > 0 else ConstantPad(none, pad, value), kept)


@op
class CumSum(Scan):
    """y_k = Σ_{i≤k} x_i;   ∂x = the running sum of gy from the end"""

    name: ClassVar[str] = "cumsum"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cumsum(x, axis=self.dim, dtype=x.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self, gy.flip(self.dim)).flip(self.dim)


@op
class LinearScan(Op):
    """y_k = a_k·y_{k−1} + b_k with y_{−1} = 0

    ∂b is the same recurrence from the end, ∂b_k = gy_k + a_{k+1}·∂b_{k+1};   ∂a_k = ∂b_k·y_{k−1}
    """

    dim: int

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        y = b.copy()
        rows, factors = xp.moveaxis(y, self.dim, 0), xp.moveaxis(a, self.dim, 0)
        for k in range(1, len(rows)):
            rows[k] += factors[k] * rows[k - 1]
        return y

    def infer(self, a: Spec, b: Spec) -> Spec:
        return Spec(b.shape, b.dtype)

    def backward(self, gy: Tensor, a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        g = scan_from_end(a, gy, self.dim)
        return g * moved_on(y, self.dim, 1, 0), g

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, dim in (((5,), 0), ((2, 3, 2), 1), ((2, 0), 1)):
            yield Case(cls(dim), (rng.uniform(-2, 2, shape), rng.uniform(-2, 2, shape)))


def scan_from_end(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Return y with y_k = b_k + a_{k+1}·y_{k+1}."""
    factors = moved_on(a, dim, -1, 0).flip(dim)
    return apply(LinearScan(dim), factors, b.flip(dim)).flip(dim)


@op
class CumProd(Scan):
    """y_k = ∏_{i≤k} x_i;   ∂x_k = ∏_{i<k} x_i · Σ_{j≥k} gy_j·∏_{k<i≤j} x_i"""

    name: ClassVar[str] = "cumprod"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cumprod(x, axis=self.dim, dtype=x.dtype)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        before = apply(self, moved_on(x, self.dim, 1, 1))
        return before * scan_from_end(x, gy, self.dim)


@op
class LogCumSumExp(Scan):
    """y_k = ln Σ_{i≤k} exp x_i;   ∂x_k = exp(x_k − y_k) · Σ_{j≥k} gy_j·exp(y_k − y_j)"""

    name: ClassVar[str] = "logcumsumexp"
    promote: ClassVar[str] = "float"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.logaddexp.accumulate(x, axis=self.dim)

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        finite = y.masked_fill(y == -math.inf, 0)  # −∞ − (−∞) is not a number
        decay = (moved_on(finite, self.dim, 1, 0) - finite).exp()
        return (x - finite).exp() * scan_from_end(decay, gy, self.dim)


class ArgScan(Scan):
    """Where the extreme of the elements so far is; the last place if some tie, or are NaN."""

    out: ClassVar[type] = np.int64

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, np.dtype(np.int64))

    def places(self, xp: Any, x: Array, extremes: Array, better: Callable[..., Array]) -> Array:
        """Return where each running extreme comes from."""
        shape = [-1 if d == self.dim else 1 for d in range(x.ndim)]
        here = xp.arange(x.shape[self.dim]).reshape(shape)
        found = xp.where(better(x, extremes) | xp.isnan(x), here, 0)
        return xp.maximum.accumulate(found, axis=self.dim)


@op
class CumArgmax(ArgScan):
    """y_k = the last i ≤ k at which x_i = max_{j≤k} x_j"""

    def forward(self, xp: Any, x: Array) -> Array:
        return self.places(xp, x, xp.maximum.accumulate(x, axis=self.dim), xp.greater_equal)


@op
class CumArgmin(ArgScan):
    """y_k = the last i ≤ k at which x_i = min_{j≤k} x_j"""

    def forward(self, xp: Any, x: Array) -> Array:
        return self.places(xp, x, xp.minimum.accumulate(x, axis=self.dim), xp.less_equal)


# --- functions -----------------------------------------------------------------------------------


def _scan(scan: Any, name: str, x: Tensor, dim: int) -> Tensor:
    d = normal_dim_of(name, x, dim)
    if x.ndim == 0:
        return apply(scan(0), x.reshape(1)).reshape(())
    return apply(scan(d), x)


@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running sum along `dim`.  Shape: (…, n, …) -> (…, n, …)

    >>> import toumei as tm
    >>> tm.tensor([1, 2, 3]).cumsum(0)
    tensor([1, 3, 6])
    """
    return _scan(CumSum, "cumsum", summable(input, dtype), dim)


@numpy_names
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Running product along `dim`.  Shape: (…, n, …) -> (…, n, …)"""
    return _scan(CumProd, "cumprod", summable(input, dtype), dim)


@numpy_names
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """ln of the running sum of exp(x) along `dim`, without overflow.  Shape: (…, n, …) -> same"""
    return _scan(LogCumSumExp, "logcumsumexp", input, dim)


@numpy_names
def cummax(input: Tensor, dim: int) -> ValuesIndices:
    """Running maximum along `dim` and where it is (values, indices).  Shape: (…, n, …) -> same

    >>> import toumei as tm
    >>> tm.tensor([1, 3, 2]).cummax(0).values
    tensor([1, 3, 3])
    """
    return _running(input, _scan(CumArgmax, "cummax", input, dim), dim)


@numpy_names
def cummin(input: Tensor, dim: int) -> ValuesIndices:
    """Running minimum along `dim` and where it is (values, indices).  Shape: (…, n, …) -> same"""
    return _running(input, _scan(CumArgmin, "cummin", input, dim), dim)


def _running(x: Tensor, indices: Tensor, dim: int) -> ValuesIndices:
    return ValuesIndices(x.gather(dim, indices) if x.ndim else x.clone(), indices)
