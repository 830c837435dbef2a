"""Variance, standard deviation, covariance, correlation; distances by a norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import OpError, OpTypeError
from ..names import numpy_names
from ..tape import spec_of
from .magnitude import vector_norm
from .reduction import Dim, count_reduced, mean
from .reduction import sum as sum_of
from .shape import normal_dim_of, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "corrcoef",
    "cov",
    "dist",
    "renorm",
    "std",
    "std_mean",
    "var",
    "var_mean",
]


def _moments(
    name: str, x: Tensor, dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None
) -> tuple[Tensor, Tensor]:
    """Return variance and mean; `f(x, True)` means `unbiased`, as in PyTorch."""
    if isinstance(dim, bool):
        unbiased, dim = dim, None
    if x.dtype.kind != "f":
        raise OpTypeError(f"{name}({spec_of(x)}): it takes floats; call .float() first")
    if unbiased is not None and correction is not None:
        raise OpError(f"{name}({spec_of(x)}): give unbiased or correction, not both")
    less = correction if correction is not None else int(unbiased is None or unbiased)
    middle = mean(x, dim, True)
    away = x - middle
    variance = sum_of(away * away, dim, keepdim) / max(count_reduced(name, x, dim) - less, 0)
    return variance, middle if keepdim else reshape(middle, tuple(variance.shape))


def _root(variance: Tensor) -> Tensor:
    """√variance; where it is 0, the derivative is 0, as in PyTorch."""
    zero = variance == 0
    return variance.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


@numpy_names
def var(
    input: Tensor,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Variance Σ (x − mean)² / (n − correction) over `dim`.  Shape: (…) -> (…) without dim

    Args:
        input: floats.
        dim: over which dimensions (all if None).
        unbiased: the older way to say `correction=1` (True, the default) or 0 (False).
        keepdim: keep them with size 1.
        correction: what is taken from the count, 1 by default (Bessel's correction).

    >>> import toumei as tm
    >>> tm.var(tm.tensor([1.0, 3.0]))
    tensor(2.)
    """
    return _moments("var", input, dim, unbiased, keepdim, correction)[0]


@numpy_names
def std(
    input: Tensor,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """Standard deviation √var over `dim`; see `var`.  Shape: (…) -> (…) without dim"""
    return _root(_moments("std", input, dim, unbiased, keepdim, correction)[0])


@numpy_names
def var_mean(
    input: Tensor,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Variance and mean over `dim`; see `var`."""
    return _moments("var_mean", input, dim, unbiased, keepdim, correction)


@numpy_names
def std_mean(
    input: Tensor,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over `dim`; see `var`."""
    variance, middle = _moments("std_mean", input, dim, unbiased, keepdim, correction)
    return _root(variance), middle


def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """Covariance of the rows: Σ w·(x − mean)(x − mean)ᵀ / norm.  Shape: (n, observations) -> (n, n)

    Args:
        input: a row per variable; a vector is one variable.
        correction: what is taken from the sum of the weights.
        fweights: how often each observation was made: integers.
        aweights: how much each observation counts.

    >>> import toumei as tm
    >>> tm.cov(tm.tensor([[1.0, 3.0], [0.0, 4.0]]))
    tensor([[2., 4.],
            [4., 8.]])
    """
    if input.ndim > 2:
        raise OpError(f"cov({spec_of(input)}): it takes a matrix, a row per variable, or a vector")
    x = reshape(input, 1, -1) if input.ndim < 2 else input
    x = x if x.dtype.kind == "f" else x.float()
    weights = _weights(x, fweights, aweights)
    if weights is None:
        away = weighted = x - mean(x, 1, True)
        norm: Any = max(x.shape[1] - correction, 0)
    else:
        total = weights.sum()
        middle = (x * weights).sum(1, True) / total
        less = correction if aweights is None else correction * (weights * aweights).sum() / total
        norm = (total - less).clamp(min=0)
        away = x - middle
        weighted = away * weights
    return (away @ weighted.mT / norm).squeeze()


def _weights(x: Tensor, fweights: Tensor | None, aweights: Tensor | None) -> Tensor | None:
    """Return the weights of the observations, checked; None if all count 1."""
    given = [w for w in (fweights, aweights) if w is not None]
    for w in given:
        if w.ndim > 1 or w.numel() != x.shape[1]:
            raise OpError(f"cov({spec_of(x)}): weights {spec_of(w)} for {x.shape[1]} observations")
    if fweights is not None and fweights.dtype.kind == "f":
        raise OpTypeError(f"cov: fweights are counts: integers, not {fweights.dtype}")
    if not given:
        return None
    return given[0] if len(given) == 1 else given[0] * given[1]


def corrcoef(input: Tensor) -> Tensor:
    """Correlation of the rows: cov_ij / √(cov_ii·cov_jj), kept within −1 and 1.

    Shape: (n, observations) -> (n, n)
    """
    c = cov(input)
    if c.ndim == 0:
        return c / c
    deviations = c.diagonal().sqrt()
    return (c / deviations.unsqueeze(1) / deviations).clamp(-1, 1)


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference, (Σ |input − other|^p)^(1/p).  Shape: (…), (…) broadcast -> ()

    >>> import toumei as tm
    >>> tm.dist(tm.tensor([0.0, 0.0]), tm.tensor([3.0, 4.0]))
    tensor(5.)
    """
    return vector_norm(reshape(input - other, -1), p, 0)


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each part along `dim` scaled so that its p-norm is at most `maxnorm`.  Shape: (…) -> (…)"""
    d = normal_dim_of("renorm", input, dim)
    if input.ndim < 2 or p <= 0 or maxnorm < 0:
        raise OpError(
            f"renorm({spec_of(input)}, p={p}, maxnorm={maxnorm}): it takes at least 2 dimensions, "
            "a positive p, and a maxnorm from 0 on"
        )
    rest: Any = tuple(e for e in range(input.ndim) if e != d)
    norms: Any = vector_norm(input, p, rest, keepdim=True)
    return input * (maxnorm / (norms + 1e-7)).masked_fill(norms <= maxnorm, 1)
