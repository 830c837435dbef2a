"""Differences and integrals of sampled functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import get_default_dtype
from ..errors import OpError
from ..names import numpy_names
from ..tape import Value, apply, dims_of, spec_of, wrap
from ..traced import numbers_of
from .combine import cat
from .shape import Slice, along, normal_dim_of, reshape

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "cumulative_trapezoid",
    "diff",
    "gradient",
    "trapezoid",
    "trapz",
]


def _from(x: Tensor, dim: int, start: int | None, end: int | None = None) -> Tensor:
    """Return x[…, start:end, …] along `dim`."""
    return apply(Slice(along(dim, slice(start, end))), x)


@numpy_names
def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """Differences x[i + 1] − x[i] along `dim`, taken n times.  Shape: (…, m, …) -> (…, m − n, …)

    `prepend` and `append` are put before and after first.  Of bools: whether neighbours differ.

    >>> import toumei as tm
    >>> tm.tensor([1, 4, 9]).diff()
    tensor([3, 5])
    """
    if input.ndim == 0 or n < 0:
        raise OpError(f"diff({spec_of(input)}, n={n}): it takes 1 dimension at least, and n ≥ 0")
    d = normal_dim_of("diff", input, dim)
    if n == 0:  # as in PyTorch, nothing is put before or after
        return input.clone()
    parts = [x for x in (prepend, input, append) if x is not None]
    x = cat(parts, d) if len(parts) > 1 else input
    for _ in range(n):
        a, b = _from(x, d, 1), _from(x, d, None, -1)
        x = a != b if x.dtype.kind == "b" else a - b
    return x


def _panels(name: str, y: Tensor, x: Any, dx: Any, dim: int) -> tuple[Tensor, int]:
    """Return the areas between neighbouring samples, and the dimension."""
    if y.ndim == 0:
        raise OpError(f"{name}({spec_of(y)}): it takes at least 1 dimension")
    if x is not None and dx is not None:
        raise OpError(f"{name}({spec_of(y)}): give x or dx, not both")
    d = normal_dim_of(name, y, dim)
    sums = _from(y, d, 1) + _from(y, d, None, -1)
    if x is None:
        return sums * ((1 if dx is None else dx) / 2), d
    if x.ndim == 1 and y.ndim > 1:  # places along `dim`, the same for all the rest
        x = reshape(x, *(-1 if e == d else 1 for e in range(y.ndim)))
    return sums * diff(x, dim=d - y.ndim) / 2, d


@numpy_names
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """∫ y along `dim` by the trapezoidal rule: Σ (x[i + 1] − x[i])·(y[i] + y[i + 1])/2.

    Shape: (…, n, …) -> (…, …).  `x` gives the places, or `dx` their distance (1 by default).

    >>> import toumei as tm
    >>> tm.trapezoid(tm.tensor([1.0, 2.0, 3.0]))
    tensor(4.)
    """
    areas, d = _panels("trapezoid", y, x, dx, dim)
    return areas.sum(d - y.ndim)


trapz = trapezoid


@numpy_names
def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1
) -> Tensor:
    """Running integral along `dim` by the trapezoidal rule.  Shape: (…, n, …) -> (…, n − 1, …)"""
    areas, d = _panels("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(d - y.ndim)


@numpy_names
def gradient(
    input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1
) -> list[Tensor]:
    """Derivatives of a sampled function along each of `dim`: central differences, accurate to h².

    Args:
        input: the samples.
        spacing: the distance of the samples (1 by default): a number, one for each of `dim`, or
            vectors of places.
        dim: along which dimensions (all if None).
        edge_order: 1 or 2, the order of accuracy at the two ends.

    >>> import toumei as tm
    >>> tm.gradient(tm.tensor([0.0, 1.0, 4.0, 9.0]))[0]
    tensor([1., 2., 4., 5.])
    """
    if input.dtype.kind != "f":
        input = input.to(get_default_dtype())
    dims = dims_of("gradient", input, dim)
    if edge_order not in (1, 2):
        raise OpError(f"gradient: edge_order must be 1 or 2, not {edge_order}")
    same = 1 if spacing is None else spacing
    steps = list(spacing) if isinstance(spacing, tuple | list) else [same] * len(dims)
    if isinstance(spacing, Value) or len(steps) != len(dims):
        raise OpError(f"gradient({spec_of(input)}): {len(steps)} spacings for {len(dims)} dims")
    for d in dims:
        if input.shape[d] <= edge_order:
            raise OpError(
                f"gradient({spec_of(input)}): dim {d} needs at least {edge_order + 1} samples"
            )
    return [_slope(input, d, s, edge_order) for d, s in zip(dims, steps, strict=True)]


def _slope(y: Tensor, dim: int, spacing: Any, edge_order: int) -> Tensor:
    """Return the derivative along `dim`, of second order within.

    Within, and at the ends of order 2, it is that of the parabola through three neighbours.
    """
    n = y.shape[dim]
    places = (
        numbers_of("gradient", spacing) if isinstance(spacing, Value) else np.arange(n) * spacing
    )
    column = [-1 if e == dim else 1 for e in range(y.ndim)]

    def parabola(at: slice, first: slice, second: slice, third: slice) -> Tensor:
        x, a, b, c = (places[s].astype(y.dtype) for s in (at, first, second, third))
        weights = (
            (2 * x - b - c) / ((a - b) * (a - c)),
            (2 * x - a - c) / ((b - a) * (b - c)),
            (2 * x - a - b) / ((c - a) * (c - b)),
        )
        terms = [
            _from(y, dim, s.start, s.stop) * wrap(w.reshape(column))
            for s, w in zip((first, second, third), weights, strict=True)
        ]
        return terms[0] + terms[1] + terms[2]

    one = [slice(i, i + 1) for i in range(n)]
    if edge_order == 2:
        start, end = (parabola(e, *p) for e, p in ((one[0], one[:3]), (one[-1], one[-3:])))
    else:
        start, end = (
            diff(_from(y, dim, i, i + 2), dim=dim) / float(places[i + 1] - places[i])
            for i in (0, n - 2)
        )
    if n == 2:
        return cat([start, end], dim)
    middle = parabola(slice(1, n - 1), slice(0, n - 2), slice(1, n - 1), slice(2, n))
    return cat([start, middle, end], dim)
