"""LU factorisation with row exchanges, and what it is used for.

NumPy has none, so that the factorisation is our own, over a whole batch at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Op, Refused, Spec, op
from ..tape import apply, spec_of, wrap
from .combine import cat
from .linalg import matmul
from .rearrange import tril, triu
from .triangular import INT, MatrixOp, SolveTriangular, stacked, upper_solve, where_in

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["lu", "lu_solve", "lu_unpack"]


def lu_in_place(a: Array) -> tuple[Array, Array]:
    """Factorise stacked matrices in place (Crout), with row exchanges; return those, and info.

    Info is 0, or k where the k-th pivot (counted from 1) is zero.
    """
    count, m, n = a.shape
    k = min(m, n)
    pivots, info = np.empty((count, k), INT), np.zeros(count, INT)
    each = np.arange(count)
    for i in range(k):
        a[:, i:, i] -= (a[:, i:, :i] @ a[:, :i, i, None])[..., 0]
        best = i + np.abs(a[:, i:, i]).argmax(axis=1)
        pivots[:, i] = best + 1
        a[each, i], a[each, best] = a[each, best], a[each, i]
        pivot = a[:, i, i]
        info[(pivot == 0) & (info == 0)] = i + 1
        a[:, i + 1 :, i] /= np.where(pivot == 0, 1, pivot)[:, None]
        a[:, i, i + 1 :] -= (a[:, i, None, :i] @ a[:, :i, i + 1 :])[:, 0]
    return pivots, info


@op
class LuFactor(MatrixOp):
    """a = P·L·U, L (below the diagonal) and U packed into one matrix; pivots count from 1

    ∂a = P·L⁻ᵀ·(tril(Lᵀ·gL, −1) + triu(gU·Uᵀ))·U⁻ᵀ for a square a
    """

    strict: bool
    square: ClassVar[bool] = False
    name: ClassVar[str] = "linalg.lu_factor"

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array, Array]:
        packed = stacked(a).copy()
        pivots, info = lu_in_place(packed)
        batch = a.shape[:-2]
        if self.strict and info.any():
            raise Refused(
                f"{where_in(batch, info)} is singular: pivot {info[info > 0][0]} of U is zero"
            )
        return (
            packed.reshape(a.shape),
            pivots.reshape(*batch, min(a.shape[-2:])),
            info.reshape(batch),
        )

    def infer(self, a: Spec) -> tuple[Spec, Spec, Spec]:
        self.matrix(a)
        batch = a.shape[:-2]
        return Spec(a.shape, a.dtype), Spec((*batch, min(a.shape[-2:])), INT), Spec(batch, INT)

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor | None:
        g = gys[0]
        if g is None:
            return None
        packed, pivots, _ = ys
        m, n = packed.shape[-2:]
        order = apply(PivotOrder(m), pivots)
        back = g.new_zeros(packed.shape)  # row order[i] of a is row i of L·U
        index = order.unsqueeze(-1).expand(packed.shape)
        return back.scatter(-2, index, _lu_gradient(g, packed, m, n))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((2, 3, 3), (4, 2), (2, 4), (1, 1)):
            yield Case(cls(False), (rng.normal(size=shape),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(False), (np.zeros(3),)), "it has 1 dimensions"


def _lu_gradient(g: Tensor, packed: Tensor, m: int, n: int) -> Tensor:
    """The gradient of Pᵀ·a; of a tall or wide one the square part comes first."""
    k = min(m, n)
    lower, upper = lu_parts(packed)
    lower1, upper1, g1 = lower[..., :k, :], upper[..., :k], g[..., :k, :k]
    below = lower1.mT @ tril(g1, -1)
    above = triu(g1) @ upper1.mT
    if m > n:
        g2, lower2 = g[..., k:, :], lower[..., k:, :]
        above = above - lower2.mT @ g2
    elif n > m:
        g2 = g[..., k:]
        below = below - g2 @ upper[..., k:].mT
    inner = tril(below, -1) + triu(above)
    unit = apply_unit(lower1, inner)
    square = _from_right(unit, upper1)
    if m > n:
        return cat([square, _from_right(g2, upper1)], -2)
    return cat([square, apply_unit(lower1, g2)], -1) if n > m else square


def apply_unit(lower: Tensor, x: Tensor) -> Tensor:
    """L⁻ᵀ·x for a unit lower triangular L."""
    return apply(SolveTriangular(True, True), lower.mT, x)


def _from_right(x: Tensor, upper: Tensor) -> Tensor:
    """x·U⁻ᵀ for an upper triangular U."""
    return upper_solve(upper, x.mT).mT


def lu_parts(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Return L, with ones on its diagonal, and U of a packed factorisation."""
    m, n = packed.shape[-2:]
    k = min(m, n)
    ones = wrap(np.eye(m, k, dtype=packed.dtype))
    return tril(packed[..., :k], -1) + ones, triu(packed[..., :k, :])


@op
class PivotOrder(Op):
    """The rows of a in the order in which row exchanges leave them"""

    rows: int

    def forward(self, xp: Any, pivots: Array) -> Array:
        batch, k = pivots.shape[:-1], pivots.shape[-1]
        order = np.tile(np.arange(self.rows), (int(np.prod(batch, dtype=np.int64)), 1))
        each = np.arange(len(order))
        for i, j in enumerate(pivots.reshape(len(order), k).T - 1):
            order[each, i], order[each, j] = order[each, j], order[each, i]
        return order.reshape(*batch, self.rows)

    def infer(self, pivots: Spec) -> Spec:
        if pivots.ndim < 1 or pivots.shape[-1] > self.rows:
            raise Refused(f"{pivots.shape} isn't the shape of the pivots of {self.rows} rows")
        return Spec((*pivots.shape[:-1], self.rows), np.dtype(np.int64))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(4), (np.array([[3, 2, 4], [1, 4, 3]], INT),))


class LUFactor(NamedTuple):
    """What `linalg.lu_factor` returns."""

    LU: Tensor
    pivots: Tensor


class LUFactorEx(NamedTuple):
    """What `linalg.lu_factor_ex` returns."""

    LU: Tensor
    pivots: Tensor
    info: Tensor


class LU(NamedTuple):
    """What `linalg.lu` and `lu_unpack` return."""

    P: Tensor
    L: Tensor
    U: Tensor


def _with_pivots(name: str, pivot: bool) -> None:
    if not pivot:
        raise OpError(f"{name}: a factorisation without row exchanges isn't supported")


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> LUFactorEx:
    """As `lu_factor`, but says in `info` which pivot is zero (0: none is)."""
    _with_pivots("linalg.lu_factor_ex", pivot)
    return LUFactorEx(*apply(LuFactor(check_errors), A))


def lu_factor(A: Tensor, *, pivot: bool = True) -> LUFactor:
    """A = P·L·U in the packed form that `lu_solve` and `lu_unpack` take.

    Shape: (…, n, m) -> (…, n, m), (…, min(n, m))

    Raises:
        OpError: a matrix is singular.
    """
    _with_pivots("linalg.lu_factor", pivot)
    packed, pivots, _ = apply(LuFactor(True), A)
    return LUFactor(packed, pivots)


def plu(A: Tensor, *, pivot: bool = True) -> LU:
    """P, L and U with A = P·L·U: a permutation, unit lower and upper triangular matrices.

    Shape: (…, n, m) -> (…, n, n), (…, n, k), (…, k, m)
    """
    _with_pivots("linalg.lu", pivot)
    packed, pivots, _ = apply(LuFactor(False), A)
    return lu_unpack(packed, pivots)


def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> LU:
    """P, L and U of a packed factorisation; what isn't unpacked is empty.

    Shape: (…, n, m), (…, min(n, m)) -> (…, n, n), (…, n, k), (…, k, m)
    """
    empty = wrap(np.zeros(0, LU_data.dtype))
    lower, upper = lu_parts(LU_data) if unpack_data else (empty, empty)
    if not unpack_pivots:
        return LU(empty, lower, upper)
    return LU(permutation(LU_pivots, LU_data).to(LU_data.dtype), lower, upper)


def permutation(pivots: Tensor, packed: Tensor) -> Tensor:
    """P of a packed factorisation, as bools: P[order[i], i] = 1."""
    n = packed.shape[-2]
    order = apply(PivotOrder(n), pivots)
    return order.unsqueeze(-2) == wrap(np.arange(n)).unsqueeze(-1)


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple[Tensor, ...]:
    """`linalg.lu_factor` under its older name; with `get_infos` also says which pivot is zero."""
    _with_pivots("lu", pivot)
    packed, pivots, info = apply(LuFactor(not get_infos), A)
    return (packed, pivots, info) if get_infos else (packed, pivots)


def linalg_lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """X with A·X = B, from the packed factorisation of A.

    Args:
        left: False solves X·A = B.
        adjoint: solve with Aᵀ.

    Shape: (…, n, n), (…, n), (…, n, k) -> (…, n, k)
    """
    if LU.shape[-1] != LU.shape[-2] or B.ndim < 2:
        raise OpError(f"lu_solve({spec_of(LU)}, {spec_of(B)}): LU must be square, B a matrix")
    if not left:
        return linalg_lu_solve(LU, pivots, B.mT, adjoint=not adjoint).mT
    exchange = permutation(pivots, LU).to(LU.dtype)
    lower, upper = SolveTriangular(False, True), SolveTriangular(True, False)
    if not adjoint:  # X = U⁻¹·L⁻¹·Pᵀ·B
        return apply(upper, LU, apply(lower, LU, matmul(exchange.mT, B)))
    flipped = SolveTriangular(False, False), SolveTriangular(True, True)
    inner = apply(flipped[1], LU.mT, apply(flipped[0], LU.mT, B))
    return matmul(exchange, inner)


def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with A·X = b, from the packed factorisation of A.  Shape: (…, n, k), (…, n, n), (…, n)"""
    return linalg_lu_solve(LU_data, LU_pivots, b)
