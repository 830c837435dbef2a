"""Reductions that leave elements out: `toumei.masked`, with the names of torch.masked.

In all functions `mask` is True where an element counts and broadcasts to the input (None: all
count).  An element that doesn't count is replaced by what changes nothing: 0 in a sum, 1 in a
product, −∞ in a maximum; so that is what a reduction over no elements returns.
"""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING, Any

from .errors import OpTypeError
from .names import numpy_names
from .ops import arithmetic, reduction, rowwise, scan, sorting
from .ops.dtypes import iinfo
from .ops.magnitude import vector_norm
from .tape import spec_of

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = [
    "amax",
    "amin",
    "argmax",
    "argmin",
    "cumprod",
    "cumsum",
    "log_softmax",
    "logaddexp",
    "logsumexp",
    "mean",
    "median",
    "norm",
    "normalize",
    "prod",
    "softmax",
    "softmin",
    "std",
    "sum",
    "var",
]

Dims = int | tuple[int, ...] | list[int] | None


def _fill(name: str, x: Tensor, mask: Tensor | None, value: float, dtype: Any = None) -> Tensor:
    """Return the input, in `dtype`, with `value` where the mask is False."""
    x = x if dtype is None else x.to(dtype)
    if mask is None:
        return x
    if mask.dtype != builtins.bool:
        raise OpTypeError(f"masked.{name}({spec_of(x)}): the mask must be bool, not {mask.dtype}")
    if math.isinf(value) and x.dtype.kind != "f":
        return x.masked_fill(~mask, _extreme(name, x, value))
    return x.masked_fill(~mask, value)


def _extreme(name: str, x: Tensor, infinity: float) -> int:
    """Return what stands for an infinity in an integer dtype: its smallest or largest number."""
    if x.dtype.kind == "b":
        raise OpTypeError(f"masked.{name}({spec_of(x)}): it takes numbers; pass dtype=")
    limits = iinfo(x.dtype)
    return int(limits.max if infinity > 0 else limits.min)


def _count(name: str, x: Tensor, dim: Dims, keepdim: builtins.bool, mask: Tensor | None) -> Tensor:
    return reduction.sum(_fill(name, x.detach() * 0 + 1, mask, 0), dim, keepdim)


# --- sums and products ---------------------------------------------------------------------------


@numpy_names
def sum(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Sum over `dim` of the elements that count.

    >>> import toumei as tm
    >>> tm.masked.sum(tm.tensor([1, 2, 3]), mask=tm.tensor([True, False, True]))
    tensor(4)
    """
    return reduction.sum(_fill("sum", input, mask, 0, dtype), dim, keepdim)


@numpy_names
def prod(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Product over `dim` of the elements that count."""
    return reduction.prod(_fill("prod", input, mask, 1, dtype), dim, keepdim)


@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """Running sum along `dim` of the elements that count."""
    return scan.cumsum(_fill("cumsum", input, mask, 0, dtype), dim)


@numpy_names
def cumprod(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """Running product along `dim` of the elements that count."""
    return scan.cumprod(_fill("cumprod", input, mask, 1, dtype), dim)


@numpy_names
def logsumexp(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """ln Σ exp(x) over `dim` of the elements that count."""
    return reduction.logsumexp(_fill("logsumexp", input, mask, -math.inf, dtype), dim, keepdim)


def logaddexp(
    input: Tensor,
    other: Tensor,
    *,
    dtype: Any = None,
    input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:
    """ln(exp(input) + exp(other)), without what doesn't count; −∞ where neither does."""
    a = _fill("logaddexp", input, input_mask, -math.inf, dtype)
    return arithmetic.logaddexp(a, _fill("logaddexp", other, other_mask, -math.inf, dtype))


# --- extremes and the middle ---------------------------------------------------------------------


@numpy_names
def amax(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Largest over `dim` of the elements that count."""
    return reduction.amax(_fill("amax", input, mask, -math.inf, dtype), dim, keepdim)


@numpy_names
def amin(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Smallest over `dim` of the elements that count."""
    return reduction.amin(_fill("amin", input, mask, math.inf, dtype), dim, keepdim)


@numpy_names
def argmax(
    input: Tensor,
    dim: int | None = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Where the largest of the elements that count is along `dim`, in the input's dtype."""
    x = _fill("argmax", input, mask, -math.inf, dtype)
    return reduction.argmax(x, dim, keepdim).to(x.dtype)


@numpy_names
def argmin(
    input: Tensor,
    dim: int | None = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Where the smallest of the elements that count is along `dim`, in the input's dtype."""
    x = _fill("argmin", input, mask, math.inf, dtype)
    return reduction.argmin(x, dim, keepdim).to(x.dtype)


@numpy_names
def median(
    input: Tensor,
    dim: int = -1,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The middle one along `dim` of the elements that count, the lower of two; NaN if none does."""
    if mask is None:
        x = input if dtype is None else input.to(dtype)
        return sorting.median(x, dim, keepdim).values
    filled = _fill("median", input, mask, math.nan, dtype)
    return sorting.nanmedian(filled, dim, keepdim).values


# --- means and moments ---------------------------------------------------------------------------


@numpy_names
def mean(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean over `dim` of the elements that count; NaN if none does."""
    x = input if dtype is None else input.to(dtype)
    if mask is None:
        return reduction.mean(x, dim, keepdim)
    return sum(x, dim, keepdim=keepdim, mask=mask) / _count("mean", x, dim, keepdim, mask)


@numpy_names
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: builtins.bool | None = None,
    *,
    correction: float | None = None,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Variance Σ (x − mean)²/(n − correction) over `dim` of the n elements that count.

    `unbiased` is the older way to say `correction=1` (True, the default) or 0 (False).
    """
    x = input if dtype is None else input.to(dtype)
    less = correction if correction is not None else int(unbiased is None or unbiased)
    away = x - mean(x, dim, keepdim=True, mask=mask)
    count = _count("var", x, dim, keepdim, mask)
    return sum(away * away, dim, keepdim=keepdim, mask=mask) / (count - less).clamp(min=0)


@numpy_names
def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: builtins.bool | None = None,
    *,
    correction: float | None = None,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Standard deviation √var over `dim` of the elements that count; see `var`."""
    return var(
        input, dim, unbiased, correction=correction, keepdim=keepdim, dtype=dtype, mask=mask
    ).sqrt()


@numpy_names
def norm(
    input: Tensor,
    ord: float = 2.0,
    dim: Dims = None,
    *,
    keepdim: builtins.bool = False,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) over `dim` of the elements that count."""
    filled = _fill("norm", input, mask, math.inf if ord == -math.inf else 0, dtype)
    every: Any = tuple(range(filled.ndim)) if dim is None else dim
    return vector_norm(filled, ord, every, keepdim)


@numpy_names
def normalize(
    input: Tensor,
    ord: float,
    dim: int,
    *,
    eps: float = 1e-12,
    dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:
    """x/max(norm, eps) along `dim`; 0 where an element doesn't count."""
    length = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return _fill("normalize", input, mask, 0, dtype) / length.clamp(min=eps)


# --- softmax -------------------------------------------------------------------------------------


@numpy_names
def softmax(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """exp(x)/Σ exp(x) along `dim` of the elements that count; 0 for the others."""
    return rowwise.softmax(_fill("softmax", input, mask, -math.inf, dtype), dim)


@numpy_names
def log_softmax(
    input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """x − ln Σ exp(x) along `dim` of the elements that count; −∞ for the others."""
    return rowwise.log_softmax(_fill("log_softmax", input, mask, -math.inf, dtype), dim)


@numpy_names
def softmin(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """softmax of −x: exp(−x)/Σ exp(−x) along `dim` of the elements that count."""
    return rowwise.softmax(-_fill("softmin", input, mask, math.inf, dtype), dim)
