"""Norms of vectors and matrices, condition numbers, distances between all pairs of points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..names import numpy_names
from ..op import (
    Array,
    Case,
    Composite,
    Op,
    Reduction,
    Refused,
    RefusedType,
    Spec,
    broadcast_shapes,
    op,
)
from ..tape import apply, dims_of, spec_of
from .decompositions import svdvals
from .inverses import inv_ex
from .linalg import matmul
from .rearrange import triu_indices
from .reduction import spread
from .shape import movedim

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["cdist", "norm", "pdist"]

Dims = int | tuple[int, ...] | list[int] | None


def p_norm(xp: Any, x: Array, p: float, dim: Any, keepdim: bool = False) -> Array:
    """Return (Σ |x|ᵖ)^(1/p) of arrays: the largest for p = ∞, how many aren't 0 for p = 0."""
    if p == 0:
        return xp.sum(x != 0, axis=dim, keepdims=keepdim, dtype=x.dtype)
    a = xp.abs(x)
    if p == math.inf:
        return xp.amax(a, axis=dim, keepdims=keepdim)
    if p == -math.inf:
        return xp.amin(a, axis=dim, keepdims=keepdim)
    if p == 1:
        return xp.sum(a, axis=dim, keepdims=keepdim)
    if p == 2:
        return xp.sqrt(xp.sum(a * a, axis=dim, keepdims=keepdim))
    return xp.sum(a**p, axis=dim, keepdims=keepdim) ** (1 / p)


@op
class VectorNorm(Reduction):
    """y = (Σ |x|ᵖ)^(1/p);   ∂y/∂x = sgn(x)·|x|ᵖ⁻¹/yᵖ⁻¹, 0 where y = 0

    For p = ±∞ elements that tie share the gradient.
    """

    p: float
    name: ClassVar[str] = "linalg.vector_norm"

    def forward(self, xp: Any, x: Array) -> Array:
        return p_norm(xp, x, self.p, self.dim, self.keepdim)

    def infer(self, x: Spec) -> Spec:
        if x.dtype.kind != "f":
            raise RefusedType(f"it needs floats, not {x.dtype}")
        empty = any(x.shape[d] == 0 for d in self.dim)
        if empty and (self.p < 0 or self.p == math.inf):
            raise Refused(f"no elements have no norm with ord={self.p}")
        return super().infer(x)

    def check(self, x: Array) -> None:
        """Integers are refused before NumPy takes them."""
        self.infer(Spec(x.shape, x.dtype))

    def backward(self, gy: Tensor, x: Tensor, y: Tensor) -> Tensor:
        p, shape = self.p, Spec(tuple(x.shape), x.dtype)
        g, n = (spread(t, shape, self.dim, self.keepdim) for t in (gy, y))
        if p == 0:
            return g * 0
        if p == 1:
            return x.sgn() * g
        if p == 2:
            return g * (x / n).masked_fill(n == 0, 0)
        if math.isinf(p):
            hit = (x.abs() == n).to(x.dtype)
            count = hit.sum(self.dim, True) if self.dim else hit
            return x.sgn() * hit * (g / count)
        if p < 1:
            power = (x.abs() ** (p - 1)).masked_fill(x == 0, 0)
            return x.sgn() * power * (n ** (1 - p)) * g
        slope = (g / n ** (p - 1)).masked_fill(n == 0, 0)
        return x.sgn() * x.abs() ** (p - 1) * slope if p < 2 else x * x.abs() ** (p - 2) * slope

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for p in (0.5, 1.0, 1.5, 2.0, 3.0, -1.0, math.inf, -math.inf, 0.0):
            x = rng.uniform(0.5, 2, (2, 3, 2)) * np.where(rng.random((2, 3, 2)) < 0.5, -1, 1)
            for dim, keepdim in (((1,), False), ((0, 2), True)):
                fields: dict[str, Any] = {"dim": dim, "keepdim": keepdim, "p": p}
                yield Case(cls(**fields), (x,))


@numpy_names
def vector_norm(
    x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) with p = ord over `dim` (all dimensions if None).

    ord = ∞ and −∞ give the largest and smallest |x|, 0 counts what isn't 0.

    Shape: (…) -> (…) without dim

    >>> import toumei as tm
    >>> tm.linalg.vector_norm(tm.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if dtype is not None:
        x = x.to(dtype)
    dims = dims_of("linalg.vector_norm", x, dim)
    fields: dict[str, Any] = {"dim": dims, "keepdim": keepdim, "p": float(ord)}
    return apply(VectorNorm(**fields), x)


@numpy_names
def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """Norm of matrices: "fro" √Σ a², "nuc" Σ s, ±2 of the singular values s, ±1, ±∞ of sums.

    ord = 1 is the largest sum of |a| down a column, ∞ along a row; −1, −∞ the smallest.

    Shape: (…, n, m) -> (…)
    """
    if dtype is not None:
        A = A.to(dtype)
    dims = dims_of("linalg.matrix_norm", A, dim)
    if len(dims) != 2 or A.ndim < 2:
        raise OpError(
            f"linalg.matrix_norm({spec_of(A)}): dim must name two dimensions, not {dim!r}"
        )
    if ord == "fro":
        return vector_norm(A, 2, dims, keepdim)
    if ord not in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise OpError(f"linalg.matrix_norm: ord must be 'fro', 'nuc', ±1, ±2 or ±inf, not {ord!r}")
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(A, dims, (-2, -1)))
        y = values.sum(-1) if ord == "nuc" else values.amax(-1) if ord > 0 else values.amin(-1)
        return _kept(y, dims) if keepdim else y
    summed, chosen = dims if abs(ord) == 1 else dims[::-1]
    sums = vector_norm(A, 1, summed, True)
    y = sums.amax(chosen, True) if ord > 0 else sums.amin(chosen, True)
    return y if keepdim else y.squeeze(dims)


def _kept(y: Tensor, dims: tuple[int, ...]) -> Tensor:
    for d in sorted(dims):
        y = y.unsqueeze(d)
    return y


@numpy_names
def linalg_norm(
    A: Tensor, ord: Any = None, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """A vector's norm along one dimension, a matrix's along two; √Σ a² if ord is None.

    Shape: (…) -> (…) without dim
    """
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    count = A.ndim if dim is None else 1 if isinstance(dim, int) else len(dim)
    if count not in (1, 2):
        raise OpError(
            f"linalg.norm({spec_of(A)}): ord={ord!r} takes 1 or 2 dimensions, not {count}"
        )
    if count == 2:
        return matrix_norm(A, ord, (0, 1) if dim is None else dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise OpError(f"linalg.norm({spec_of(A)}): ord={ord!r} is a norm of matrices")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


@numpy_names
def norm(
    input: Tensor, p: Any = "fro", dim: Dims = None, keepdim: bool = False, dtype: Any = None
) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) over `dim` (all dimensions if None).

    p = "fro" is 2, "nuc" the sum of a matrix's singular values.

    Shape: (…) -> (…) without dim
    """
    if p == "nuc":
        return matrix_norm(input, "nuc", (0, 1) if dim is None else dim, keepdim, dtype=dtype)
    if isinstance(p, str) and p != "fro":
        raise OpError(f"norm: p must be a number, 'fro' or 'nuc', not {p!r}")
    return vector_norm(input, 2 if p is None or p == "fro" else p, dim, keepdim, dtype=dtype)


def cond(A: Tensor, p: Any = None) -> Tensor:
    """Condition number ‖A‖ₚ·‖A⁻¹‖ₚ (p = 2 if None); ∞ for a singular A.  Shape: (…, n, m) -> (…)"""
    if p in (None, 2, -2):
        values = svdvals(A)
        large, small = values[..., 0], values[..., -1]
        return small / large if p == -2 else large / small
    inverse, info = inv_ex(A)
    bad = info != 0
    inverse = inverse.masked_fill(bad.unsqueeze(-1).unsqueeze(-1), 0)
    return (matrix_norm(A, p) * matrix_norm(inverse, p)).masked_fill(bad, math.inf)


# --- distances -----------------------------------------------------------------------------------


@op
class Cdist(Composite):
    """yᵢⱼ = ‖aᵢ − bⱼ‖ₚ, row by row of the last two dimensions; the derivative at 0 is 0"""

    p: float

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = np.empty((*batch, a.shape[-2], b.shape[-2]), a.dtype)
        step = max(1, (1 << 18) * a.shape[-2] // max(1, out.size * a.shape[-1]))
        for i in range(0, a.shape[-2], step):  # in parts: all differences at once are many
            differences = a[..., i : i + step, None, :] - b[..., None, :, :]
            out[..., i : i + step, :] = p_norm(xp, differences, self.p, -1)
        return out

    def decompose(self, a: Tensor, b: Tensor) -> Tensor:
        return vector_norm(a.unsqueeze(-2) - b.unsqueeze(-3), self.p, -1)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for p in (1.0, 3.0, math.inf):
            yield Case(cls(p), (rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 3))))


@op
class EuclideanCdist(Op):
    """yᵢⱼ = ‖aᵢ − bⱼ‖;   ∂aᵢ = Σⱼ wᵢⱼ·(aᵢ − bⱼ) with w = gy/y, 0 where y = 0"""

    name: ClassVar[str] = "cdist"
    broadcasts: ClassVar[bool] = True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        middle = b.mean(axis=-2, keepdims=True) if b.shape[-2] else 0
        a, b = a - middle, b - middle  # distances stay, rounding errors shrink
        lengths = (a * a).sum(-1)[..., :, None] + (b * b).sum(-1)[..., None, :]
        squares = lengths - 2 * (a @ b.swapaxes(-1, -2))
        near = np.nonzero(squares < 0.05 * lengths)  # cancellation: these by their differences
        a, b = (np.broadcast_to(x, (*squares.shape[:-2], *x.shape[-2:])) for x in (a, b))
        differences = a[near[:-1]] - b[(*near[:-2], near[-1])]
        squares[near] = (differences * differences).sum(-1)
        return xp.sqrt(squares)

    def infer(self, a: Spec, b: Spec) -> Spec:
        batch = broadcast_shapes(self.params, [a.shape[:-2], b.shape[:-2]])
        return Spec((*batch, a.shape[-2], b.shape[-2]), a.dtype)

    def backward_a(self, gy: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        w = (gy / y).masked_fill(y == 0, 0)
        return a * w.sum(-1, True) - matmul(w, b)

    def backward_b(self, gy: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return self.backward_a(gy.mT, b, a, y.mT)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in (((4, 3), (5, 3)), ((2, 1, 4, 3), (3, 2, 3))):
            yield Case(cls(), (rng.normal(size=a), rng.normal(size=b)))


def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:  # fmt: skip
    """Distances ‖x1ᵢ − x2ⱼ‖ₚ between all pairs of rows.

    Args:
        compute_mode: one of PyTorch's three names; it makes no difference: a matrix product serves
            for p = 2, but near points always have exact distances.

    Shape: (…, n, d), (…, m, d) -> (…, n, m)

    >>> import toumei as tm
    >>> tm.cdist(tm.tensor([[0.0, 0.0]]), tm.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    tail = "_mm_for_euclid_dist"
    if compute_mode not in (f"use{tail}_if_necessary", f"use{tail}", f"donot_use{tail}"):
        raise OpError(f"cdist: unknown compute_mode {compute_mode!r}")
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise OpError(f"cdist({spec_of(x1)}, {spec_of(x2)}): they need rows of the same length")
    if p < 0:
        raise OpError(f"cdist: p must not be negative, it is {p}")
    if x1.shape[-1] == 0:
        return x1.sum(-1).unsqueeze(-1) + x2.sum(-1).unsqueeze(-2)
    return apply(EuclideanCdist() if p == 2 else Cdist(float(p)), x1, x2)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """Distances ‖xᵢ − xⱼ‖ₚ between all pairs of rows i < j.  Shape: (n, d) -> (n·(n − 1)/2)"""
    if input.ndim != 2:
        raise OpError(f"pdist takes a matrix, not {spec_of(input)}")
    first, second = triu_indices(input.shape[0], input.shape[0], 1)
    if input.shape[1] == 0:
        return input.sum(1)[first] * 0
    return vector_norm(input[first] - input[second], p, -1)
